"""Why one step passes no gradient on to some entries of an operand: the step is run again at other operands.

What is said of the point is tested around it, in double precision where the operation can be run in it; what is said of
every point also needs operations that allow it: analytic ones, for which a derivative that is zero at random operands is
zero everywhere, and those that move entries to places that no value decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from jvpcli.jacobians.kinks import KINK, LASTING, ROUNDINGS, STEP, bends
from jvpcli.jacobians.nearby import STEP_IN_ROUNDINGS, direction, largest, moved
from jvpcli.jacobians.operations import SMOOTH, leading, operation
from jvpcli.jacobians.passes import vjp
from jvpcli.language.operations import can_require_grad
from jvpcli.language.readings import nodes_below
from jvpcli.tracing.chain import pull_back
from jvpcli.tracing.replay import Step

CLOSE = 1e-5
"""How far, relative to each entry, a derivative that is zero at the point alone is looked for."""

BESIDE = 1e-3
"""How far, relative to each operand, an infinite derivative is looked for beside the point."""

FAR = (1.0, 3.0, 30.0, 1e4)
"""Sizes of the random operands that a derivative which is zero all around is looked for at."""

MOST_SINGLE = 64
"""Entries that are moved one by one to tell a kink."""

MOST_NUMBERS = 1 << 16
"""Numbers that moving entries one by one may compute anew."""

PLACED_NAMES = """
Index UnsafeIndex IndexSelect IndexAdd IndexCopy IndexFill IndexPut Gather Take MaskedSelect MaskedFill MaskedScatter
Where Scatter ScatterAdd Embedding CopySlices CopyBackwards
"""
PLACED = frozenset(PLACED_NAMES.split())
"""Operations that move entries to places, or from them, which other operands tell."""

ANALYTIC = (SMOOTH | PLACED) - {"Norm", "LinalgVectorNorm"}
"""Operations whose derivative is zero everywhere if it is at random operands; some norms pick entries instead."""

STAIRCASES = frozenset({"Round", "Floor", "Ceil", "Trunc", "Sign", "Sgn"})
"""Operations whose value is the same between one jump and the next."""


@dataclass(frozen=True, eq=False)
class Passage:
    """The way through a step from some of its results to one of its operands.

    Attributes:
        step: the operation.
        results: which of its results cotangents arrive at, by number.
        position: of the operand.
        others: the positions of the other operands whose values come from inputs, or are drawn at random.
        decided: whether values decide what the step does in another way: by Python numbers, or which step it is.
    """

    step: Step
    results: Sequence[int]
    position: int
    others: Sequence[int]
    decided: bool

    @classmethod
    def of(cls, step: Step, position: int) -> Passage:
        """The way from all results, with the other operands left as they are."""
        return cls(step, range(len(step.results)), position, (), False)

    @cached_property
    def points(self) -> list[Tensor]:
        """The operands, in double precision where the operation can be run in it."""
        own = [primal.tensor for primal in self.step.operands]
        wide = [_widened(x) for x in own]
        return wide if self.results_at(wide) is not None else own

    @property
    def operand(self) -> Tensor:
        """The operand's value."""
        return self.points[self.position]

    def results_at(self, points: Sequence[Tensor]) -> list[Tensor] | None:
        """All results at other operands; None where the operation refuses those."""
        try:
            found = self.step.again(points)
        except Exception:  # whatever the operation refuses there tells nothing
            return None
        return found if len(found) == len(self.step.results) else None

    def with_operand(self, value: Tensor, position: int | None = None) -> list[Tensor]:
        """The operands with another value of one, this one if no other is named: in every place where it stands."""
        number = self.step.operands[self.position if position is None else position].number
        return [value if p.number == number else x for p, x in zip(self.step.operands, self.points, strict=True)]

    def derivative(self, points: Sequence[Tensor]) -> Tensor:
        """For random cotangents what flows on to the operand, at other operands; zero where that is not finite."""
        leaf = points[self.position].detach().requires_grad_()
        found = self.results_at([*points[: self.position], leaf, *points[self.position + 1 :]]) or []
        total = torch.zeros_like(leaf)
        for k in self.results if found else ():
            if found[k].requires_grad:
                gradient = _pulled(found[k], direction(found[k].detach(), 50 + k), leaf)
                total = total if gradient is None else total + gradient.to(total.dtype)
        return torch.where(total.isfinite(), total, 0).detach()

    def value(self, points: Sequence[Tensor]) -> float:
        """The results added up with the same random weights; NaN where they are refused."""
        found = self.results_at(points)
        if found is None:
            return float("nan")
        return sum(
            float((found[k].detach() * direction(found[k].detach(), 50 + k).conj()).sum().real) for k in self.results
        )


@dataclass(frozen=True, eq=False)
class Flat:
    """Why the derivative to some entries (a mask) is zero; `because`: the operand whose value is the reason."""

    cause: str
    entries: Tensor
    because: int | None = None


def sensitivity(passage: Passage) -> Tensor | None:
    """A random cotangent pulled back at the point: zero where the derivative is; None where no gradient flows at all."""
    cotangents = [
        direction(result.primal.tensor, 50 + k) if k in passage.results else None
        for k, result in enumerate(passage.step.results)
    ]
    return pull_back(passage.step, cotangents)[passage.position]


def why_flat(passage: Passage, entries: Tensor) -> Iterator[Flat]:
    """Why the derivative to the entries (a mask) of the operand is zero at the point.

    The causes:
        "rounded": in double precision it is not zero;
        "kink": the derivatives to the two sides of the entry differ;
        "leap": the results themselves jump there;
        "jump": it is not zero as near to the point as can be looked at;
        "stationary": it is not zero a little off;
        "saturated": the results do not change with the entry around the point, and do far from it;
        "flat": the derivative is zero around the point, and not far from it;
        "value": it is zero because of another operand's value (`because`; None: of several together);
        "piecewise": the operation is a staircase: it is zero everywhere;
        "tried": it is zero everywhere it was looked for, though the results change;
        "unused": the results do not depend on the entry, wherever the point is;
        "unused_here": nor do they anywhere it was looked for.
    """
    for find in (_rounded, _beside, _far_away, _by_others):
        for flat in find(passage, entries):
            if bool(flat.entries.any()):
                yield flat
                entries = entries & ~flat.entries
        if not bool(entries.any()):
            return
    yield Flat(_everywhere(passage, entries), entries)


def _pulled(y: Tensor, v: Tensor, x: Tensor) -> Tensor | None:
    """∂⟨v, y⟩/∂x; None: not reached, or refused."""
    try:
        return vjp(y, v, [x])[0]
    except RuntimeError:
        return None


def _widened(x: Tensor) -> Tensor:
    """A floating tensor in double precision."""
    x = x.detach()
    return x.to(torch.complex128) if x.is_complex() else x.double() if x.is_floating_point() else x


# Around the point


def _rounded(passage: Passage, entries: Tensor) -> Iterator[Flat]:
    yield Flat("rounded", entries & (passage.derivative(passage.points) != 0))


def _beside(passage: Passage, entries: Tensor) -> Iterator[Flat]:
    """What a little step to both sides tells: a kink, a stationary point."""
    x = passage.operand
    step = STEP_IN_ROUNDINGS * torch.finfo(x.dtype).eps
    near, wider, close = (_beside_by(passage, h) for h in (step, step**0.5, max(CLOSE, step**0.5)))
    lasting = entries & (near > LASTING * wider)
    kinks = _bent(passage, lasting | (entries & _tied(x)), step, KINK)
    yield Flat("kink", kinks)
    leaps = _bent(passage, entries & ~kinks, step, STEP) if _leaps(passage, step) else torch.zeros_like(kinks)
    yield Flat("leap", leaps)
    yield Flat("jump", lasting & ~kinks & ~leaps)
    yield Flat("stationary", entries & ~lasting & ~leaps & ((near > 0) | (wider > 0) | (close > 0)))


def _beside_by(passage: Passage, relative: float) -> Tensor:
    """Entry by entry the largest derivative where all entries are moved a little, in some directions to either side."""
    seeds = (11, 12, 13)  # of many that tie, few are the largest to any one side
    sides = [passage.with_operand(x) for seed in seeds for x in _sides(passage, relative, seed)]
    return torch.stack([passage.derivative(points).abs() for points in sides]).amax(0)


def _sides(passage: Passage, relative: float, seed: int = 11) -> list[Tensor]:
    """The operand with all its entries moved by a part of them, to either side of one direction."""
    return [moved({"x": passage.operand}, s * relative, seed)["x"] for s in (-1, 1)]


def _tied(x: Tensor) -> Tensor:
    """Entries that equal another one: of many, few are the largest in some random directions, and each is when moved alone."""
    if x.is_complex():  # those have no largest
        return torch.zeros_like(x, dtype=torch.bool)
    _, places, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return counts[places] > 1


def _leaps(passage: Passage, relative: float) -> bool:
    """Whether the results are as far apart a little to both sides of all entries as they are a little further off."""
    near, wide = (
        [passage.value(passage.with_operand(x)) for x in _sides(passage, by)] for by in (relative, relative**0.5)
    )
    return abs(near[1] - near[0]) > LASTING * abs(wide[1] - wide[0])


def _bent(passage: Passage, entries: Tensor, step: float, how: str) -> Tensor:
    """Those of the entries that have a kink (or a leap), told by moving each alone; more than can be moved are taken to be
    like those.
    """
    places = entries.reshape(-1).nonzero().reshape(-1).tolist()
    most = max(1, min(MOST_SINGLE, MOST_NUMBERS // max(passage.operand.numel(), 1)))
    bent = [_bends(passage, place, step) == how for place in places[:most]]
    like = len(places) > most and all(bent)
    kinks = torch.zeros(entries.numel(), dtype=torch.bool)
    kinks[places] = torch.tensor([*bent, *[like] * (len(places) - len(bent))], dtype=torch.bool)
    return kinks.reshape(entries.shape).to(entries.device)


def _bends(passage: Passage, place: int, relative: float) -> str | None:
    """What the results do at one entry of the operand, when it alone is moved."""
    x = passage.operand
    size = float(x.reshape(-1)[place].abs()) or 1.0

    def look(offset: float) -> tuple[float, float]:
        points = passage.with_operand(_one_moved(x, place, offset))
        return passage.value(points), complex(passage.derivative(points).reshape(-1)[place].item()).real

    here = passage.results_at(passage.points) or []
    largest_number = max([largest(t.detach()) for t in (*passage.points, *here) if can_require_grad(t)], default=0.0)
    return bends(look, size, relative, ROUNDINGS * torch.finfo(x.dtype).eps * largest_number)


def _one_moved(x: Tensor, place: int, offset: float) -> Tensor:
    flat = x.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    flat[place] += offset
    return flat.reshape(x.shape)


def finite_beside(passage: Passage, place: int) -> bool:
    """Whether a derivative that is infinite at one entry is so at this point alone, as that of a root is: finite a little beside
    it. That of an overflow is not, or is finite here in double precision.
    """
    if bool(passage.derivative(passage.points).reshape(-1)[place] != 0):
        return False
    moving = {str(k): x for k, x in enumerate(passage.points) if can_require_grad(x)}
    for sign in (-1, 1):
        there = moved(moving, sign * BESIDE, seed=11)
        points = [there.get(str(k), x) for k, x in enumerate(passage.points)]
        if bool(passage.derivative(points).reshape(-1)[place] != 0):
            return True
    return False


# Elsewhere


def _far_away(passage: Passage, entries: Tensor) -> Iterator[Flat]:
    """Entries whose derivative is not zero far away, with the other operands as they are."""
    far = entries & _anywhere(passage, (passage.with_operand(x) for x in _far(passage.operand)))
    if not bool(far.any()):
        return
    changes = any(_changes(passage, torch.where(far, x, passage.operand)) for x in _sides(passage, CLOSE))
    yield Flat("flat" if changes else "saturated", far)


def _by_others(passage: Passage, entries: Tensor) -> Iterator[Flat]:
    """Entries whose derivative is not zero where another operand has another value, or several have."""
    for position in passage.others:
        changed = (passage.with_operand(x, position) for x in _others(passage.points[position], 90 + position))
        found = entries & _anywhere(passage, changed)
        yield Flat("value", found, position)
        entries = entries & ~found
    if len(passage.others) and bool(entries.any()):
        yield Flat("value", entries & _anywhere(passage, _all_changed(passage)))


def _all_changed(passage: Passage) -> Iterator[list[Tensor]]:
    """All operands with other values, that of the passage too."""
    changed = [list(_others(x, 90 + k)) if k in passage.others else [x] for k, x in enumerate(passage.points)]
    for number, x in enumerate(_far(passage.operand)):
        first = {
            p.number: values[number % len(values)] for p, values in zip(passage.step.operands, changed, strict=True)
        }
        first[passage.step.operands[passage.position].number] = x
        yield [first[p.number] for p in passage.step.operands]


def _everywhere(passage: Passage, entries: Tensor) -> str:
    """What is to be said of entries whose derivative was zero wherever it was looked for."""
    names = None if passage.decided or _chosen(passage) else _operations(passage)
    changes = any(_changes(passage, torch.where(entries, x, passage.operand)) for x in _far(passage.operand))
    if changes:
        stairs = names is not None and names <= ANALYTIC | STAIRCASES and names & STAIRCASES
        return "piecewise" if stairs else "tried"
    return "unused" if names is not None and names <= ANALYTIC else "unused_here"


def _chosen(passage: Passage) -> bool:
    """Whether whole numbers or truth values that come from the inputs have a say."""
    return any(not can_require_grad(passage.points[position]) for position in passage.others)


def _operations(passage: Passage) -> frozenset[str] | None:
    """The names of the backward nodes between the results and the operand; a division that rounds is a `Floor`."""
    leaf, names = passage.step.leaves[passage.position], set()
    for k in passage.results:
        root = passage.step.results[k].graph.grad_fn
        nodes, _ = leading(nodes_below(root), {id(leaf)})
        for node in nodes:
            name = operation(node)
            names.add("Floor" if name == "Div" and getattr(node, "_saved_rounding_mode", None) else name)
    return frozenset(names)


def _anywhere(passage: Passage, points: Iterator[list[Tensor]]) -> Tensor:
    """Where the derivative is not zero at some of the operands."""
    found = torch.zeros_like(passage.operand, dtype=torch.bool)
    for each in points:
        found = found | (passage.derivative(each) != 0)
    return found


def _changes(passage: Passage, value: Tensor) -> bool:
    """Whether the results that matter are others, beyond rounding, for another value of the operand."""
    before, after = passage.results_at(passage.points), passage.results_at(passage.with_operand(value))
    if before is None or after is None:
        return False
    return any(
        after[k].shape != before[k].shape
        or not torch.allclose(after[k], before[k], rtol=1e-12, atol=0.0, equal_nan=True)
        for k in passage.results
    )


def _far(x: Tensor) -> Iterator[Tensor]:
    """Other values of an operand, far from the one it has."""
    yield -x.detach()
    yield torch.zeros_like(x)
    for seed, size in enumerate(FAR):
        yield size * direction(x, 70 + seed)
        yield size * direction(x, 80 + seed).abs().to(x.dtype)


def _others(x: Tensor, seed: int) -> Iterator[Tensor]:
    """Other values for another operand: of the same kind, whole numbers within their range."""
    if x.dtype is torch.bool:
        yield ~x
    elif can_require_grad(x):
        yield direction(x, seed)
        yield direction(x, seed + 50).abs().to(x.dtype)
        yield 30 * direction(x, seed + 100)
    elif x.numel():
        yield x.min() + x.max() - x
        yield x.flip(tuple(range(x.dim())))
