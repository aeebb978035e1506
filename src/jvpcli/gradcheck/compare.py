"""Autograd's Jacobian against finite differences: entry by entry, or for large problems along random directions.

A function of the user's own runs as seldom as can be: along one direction first, and entry by entry only where that leaves
anything open.

What differs is looked at again with extrapolated differences before it is believed, and a wrong entry of a large problem
is searched for by halving the cotangent and the direction that showed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, log2

import torch
from torch import Tensor

from jvpcli.gradcheck.differences import SAFETY, TINY, Estimate, Line, Quick, estimate, quick, quick_step, scales
from jvpcli.gradcheck.vectors import Layout, RealFunction, alike
from jvpcli.jacobians.nearby import direction
from jvpcli.jacobians.passes import vjp
from jvpcli.request import Tell

LARGEST_COLUMNS, LARGEST_ROWS, LARGEST_ENTRIES = 256, 1024, 65_536
"""Up to these sizes every entry is compared."""

ENTRIES, OUTPUTS, PRODUCTS = (
    "entries", "outputs along one direction", "random products vᵀJu, since the Jacobian is large,"
)  # fmt: skip
"""What is compared."""

DIRECTIONS, COTANGENTS = 2, 4
"""Of a large problem: random directions of the inputs, random combinations of the outputs."""

ENOUGH = 64
"""Wrong entries after which only worse ones are looked at."""

LARGEST_STEP = 2.0**1000
"""What a derivative times a step is at most, so that no sum of some of them is infinite."""

SEEN = 50
"""An input's largest entry must show along a direction if it is off by so many times what is let pass of it."""

PLAINLY = 1000
"""How many times the error of differences over two steps autograd's number is off where no more of them are needed."""

MOST_ROWS = 64
"""Outputs of one direction that are looked at again."""

MISMATCH, KINK, AGREES, UNSURE = "mismatch", "kink", "agrees", "unsure"
"""What an entry turns out to be."""


@dataclass(frozen=True)
class Entry:
    """One entry of the Jacobian as autograd and as differences have it.

    `row` and `column` are positions in the real vectors; `error` is how far off the difference may be; `below` and
    `above` are the one-sided derivatives at a kink.
    """

    row: int
    column: int
    analytic: float
    numeric: float
    error: float = 0.0
    below: float | None = None
    above: float | None = None

    @property
    def difference(self) -> float:
        """|analytic − numeric|; infinite where either is not finite."""
        difference = abs(self.analytic - self.numeric)
        return difference if difference < torch.inf else torch.inf


@dataclass(frozen=True)
class Compared:
    """The outcome.

    Attributes:
        compared, what: how many were compared, and of what.
        mismatches, kinks: entries that differ, and where the one-sided derivatives do; worst first.
        nearest: the entry of the largest difference among those that agree, if every entry was compared.
        rounded: entries that differ by what rounding makes of both numbers.
        unsure: entries where differences could not be taken to any accuracy.
        unfinite: outputs that are not finite, and were left out.
        products: where not every entry was compared, how far the products along directions are off at most.
    """

    compared: int
    what: str
    mismatches: tuple[Entry, ...] = ()
    kinks: tuple[Entry, ...] = ()
    nearest: Entry | None = None
    rounded: tuple[Entry, ...] = ()
    unsure: int = 0
    unfinite: int = 0
    products: float | None = None

    @property
    def largest(self) -> float | None:
        """The largest difference that was seen; None where nothing was compared."""
        worst = self.mismatches[0] if self.mismatches else self.nearest
        return self.products if worst is None else worst.difference

    def with_rounded(self, entries: tuple[Entry, ...]) -> Compared:
        """The same with mismatches that have turned out to be rounding, all of them."""
        candidates = [*([self.nearest] if self.nearest else []), *entries]
        nearest = max(candidates, key=lambda entry: entry.difference, default=None)
        return replace(self, mismatches=(), rounded=(*self.rounded, *entries), nearest=nearest)


def is_small(function: RealFunction) -> bool:
    """Whether every entry is compared."""
    m, n = function.m, function.n
    return n <= LARGEST_COLUMNS and m <= LARGEST_ROWS and m * n <= LARGEST_ENTRIES


def tolerance(eps: float) -> float:
    """The relative difference that is passed: well above what a central difference gets wrong."""
    return float(4 * eps**0.4)


# All entries at once


def compare_outputs(function: RealFunction, jacobian: Tensor) -> Compared | None:
    """All outputs along one direction that moves every input entry; None where each entry is to be looked at.

    The direction is irregular, so wrong entries do not cancel.  It leaves something open where an output differs, where
    the sides do (a smooth function's jump shrinks with the step), and where an input's entries are lost beside others.

    Args:
        function: of n inputs, m outputs.
        jacobian: autograd's, (m, n).
    """
    line = Line(function, _direction(function, seed=0))
    first = quick(line)
    shares = (jacobian * line.direction).abs()
    off = (first.derivative - jacobian @ line.direction).abs()
    passed = tolerance(function.eps)
    allowed = passed / 100 * shares.sum(1) + first.noise
    shown = (SEEN * passed * shares > 2 * (off + first.noise)[:, None]).any(0) | (jacobian == 0).all(0)
    jumps = first.jump.abs() > 4 * first.noise
    if not bool((off <= allowed).all() and off.isfinite().all() and shown.all()) or bool(_lasting(line, first, jumps).any()):
        return None
    return Compared(function.m, OUTPUTS, products=float(off.max()) if function.m else None)


def _lasting(line: Line, first: Quick, jumps: Tensor) -> Tensor:
    """Of the outputs whose sides differ those where they do over a narrower step too: a smooth function's jump shrinks."""
    if not bool(jumps.any()):
        return jumps
    closer = quick(line, quick_step(line.function.eps) / 8)
    return jumps & ~(closer.jump.abs() <= first.jump.abs() / 4 + 4 * closer.noise)


# Every entry


def compare_entries(function: RealFunction, jacobian: Tensor, tell: Tell | None = None) -> Compared:
    """Each column against differences along that input entry.

    Args:
        function: of n inputs, m outputs.
        jacobian: autograd's, (m, n).
        tell: is told how far it is.
    """
    sizes = _sizes(function, jacobian)
    finite = function.y.isfinite()
    spoilt = not bool(
        finite.all()
    )  # a zero cotangent times what is not finite: NaN says nothing about the other outputs
    floor = _floor(function, jacobian, sizes)
    entries: list[Entry] = []
    kinks: list[Entry] = []
    unsure, nearest = 0, None
    for column in range(function.n):
        if tell:
            tell("columns compared with differences", column, function.n)
        line, first = _along(function, jacobian, column, float(sizes[column]))
        size = float(line.direction[column])
        analytic = jacobian[:, column] * size
        comparable = finite & ~analytic.isnan() if spoilt else finite
        unsure += int((finite & ~comparable).sum())
        rows = (_suspicious(line, first, analytic, size, floor) & comparable).nonzero().reshape(-1)
        if len(entries) > ENOUGH:  # it is wrong all over: only what is still worse matters
            rows = rows[~((first.derivative - analytic)[rows].abs() / size <= max(e.difference for e in entries))]
        settled = comparable.clone()
        settled[rows] = False
        nearest = _nearer(nearest, first.derivative, analytic, settled, column, size)
        plain = list(_plainly_wrong(line, first, analytic, rows, column, size))
        entries += plain
        rows = rows[~torch.isin(rows, torch.tensor([entry.row for entry in plain], dtype=rows.dtype))]
        if not rows.numel():
            continue
        again = estimate(replace(line, rows=rows))
        for position, row in enumerate(rows.tolist()):
            kind, entry = _judge(function, again, position, float(analytic[row]), row, column, size, floor)
            if kind == MISMATCH:
                entries.append(entry)
            elif kind == KINK:
                kinks.append(entry)
            elif kind == AGREES and (nearest is None or entry.difference > nearest.difference):
                nearest = entry
            unsure += kind == UNSURE
    if nearest is not None:
        kind, nearest = _refined(function, nearest, floor)
        entries += [nearest] if kind == MISMATCH else []
    return Compared(
        compared=int(finite.sum()) * function.n - unsure,
        what=ENTRIES,
        mismatches=_worst_first(entries),
        kinks=_worst_first(kinks),
        nearest=nearest,
        unsure=unsure,
        unfinite=int((~finite).sum()),
    )


def _sizes(function: RealFunction, derivatives: Tensor) -> Tensor:
    """The steps' sizes (n,), such that none of them is infinite times the derivatives: one, or (m, n)."""
    finite = torch.atleast_2d(derivatives).abs().nan_to_num(nan=0.0, posinf=0.0)
    largest = torch.cat([torch.ones(1, finite.shape[1], dtype=finite.dtype), finite]).amax(0)
    return torch.minimum(scales(function), LARGEST_STEP / torch.exp2(torch.floor(torch.log2(largest))))


def _along(function: RealFunction, jacobian: Tensor, column: int, size: float) -> tuple[Line, Quick]:
    """The line along an input entry with its quick difference; over steps of the entry's own size where rounding is less.

    Those of its neighbours' size suit an entry that adds little to a sum, its own one that stands alone.
    """
    line = Line(function, torch.zeros_like(function.x).index_fill(0, torch.tensor([column]), size))
    first = quick(line)
    own = abs(float(function.x[column]))
    if not TINY < 4 * own < size:
        return line, first
    other = replace(line, direction=line.direction * (2.0 ** floor(log2(own)) / size))
    second = quick(other)
    ratio = float(other.direction[column]) / size
    moved = (jacobian[:, column] != 0) | (second.derivative != 0)
    worse = moved & ~(second.noise <= ratio * first.noise)
    return (line, first) if bool(worse.any()) else (other, second)


def _refined(function: RealFunction, entry: Entry, floor: float) -> tuple[str, Entry]:
    """An entry that agrees with a quick difference, with an extrapolated one: what it is by that."""
    if not entry.difference < torch.inf:
        return AGREES, entry
    kind, better = entry_at(function, entry.row, entry.column, entry.analytic, floor)
    return (kind, better) if kind == MISMATCH else (AGREES, min(entry, better, key=lambda found: found.difference))


def _floor(function: RealFunction, jacobian: Tensor, sizes: Tensor) -> float:
    """What rounding makes of an entry that is zero in truth: a thousand roundings of the largest entry."""
    largest = (jacobian * sizes).abs().nan_to_num(nan=0.0, posinf=0.0)
    return 1000 * function.eps * float(largest.max()) if largest.numel() else 0.0


def _suspicious(line: Line, first: Quick, analytic: Tensor, size: float, floor: float) -> Tensor:
    """The outputs where autograd's number and the central difference differ, or the two sides do (m,)."""
    eps, given = line.function.eps, line.function.tolerance
    large = torch.maximum(analytic.abs(), first.derivative.abs())
    large = torch.where(large.isfinite(), large, 0.0)  # no difference agrees with an infinite derivative
    allowed = given.allowed(first.derivative, size) if given.given else tolerance(eps) * large + floor
    off = (first.derivative - analytic).abs()
    differs = ~((off <= allowed + first.noise) & off.isfinite())  # where a value to one side is infinite so is the noise
    jumps = ~(first.jump.abs() <= 1e-4 * large + 4 * first.noise + floor)
    return differs | _lasting(line, first, jumps & ~differs)


def _plainly_wrong(
    line: Line, first: Quick, analytic: Tensor, rows: Tensor, column: int, size: float
) -> Iterator[Entry]:
    """The entries that need no closer look: differences over a narrow and a wider step are the same, and autograd has another."""
    if not rows.numel() or float(line.function.x[column]) == 0:  # from zero steps may have to be narrower still
        return
    before, jump, scatter = first.derivative[rows], first.jump[rows].abs(), first.noise[rows]
    closer = quick(replace(line, rows=rows), quick_step(line.function.eps) ** 2)
    change = (closer.derivative - before).abs()
    steady = change <= before.abs() / PLAINLY + closer.noise
    error = change + scatter + closer.noise
    smooth = closer.jump.abs() <= jump / 4 + 4 * closer.noise
    gap = (before - analytic[rows]).abs()
    for k in (smooth & steady & (gap > PLAINLY * error) & (gap < torch.inf)).nonzero().reshape(-1).tolist():
        numbers = float(analytic[rows[k]]), float(before[k]), float(error[k])
        yield Entry(int(rows[k]), column, *(number / size for number in numbers))


def _judge(
    function: RealFunction,
    again: Estimate,
    position: int,
    analytic: float,
    row: int,
    column: int,
    size: float,
    floor: float = 0.0,
) -> tuple[str, Entry]:
    """What an extrapolated difference says about an entry; numbers are per `size` of the input's step."""
    given = function.tolerance
    number, error = float(again.derivative[position]), float(again.error[position])
    below, above = float(again.below[position]), float(again.above[position])
    largest = max((abs(v) for v in (analytic, number) if abs(v) < torch.inf), default=0.0)
    allowed = tolerance(function.eps) * largest + floor
    if given.given:
        allowed = float(given.allowed(again.derivative[position], size))
    allowed += SAFETY * error
    entry = Entry(row, column, analytic / size, number / size, error / size)
    if given.given and abs(number - analytic) <= allowed < torch.inf:
        return AGREES, entry
    if (below != below or above != above) and form_changes(function, column):
        return KINK, replace(entry, below=below / size, above=above / size)
    if bool(again.kink[position]):
        at_kink = replace(entry, below=below / size, above=above / size)
        sides = [side for side in (below, above) if abs(side) < torch.inf]
        outside = len(sides) == 2 and not min(sides) - allowed <= analytic <= max(sides) + allowed
        if (outside or len(sides) < 2) and again.settles_at(position, analytic):
            return AGREES, replace(entry, numeric=analytic / size)
        return (MISMATCH if outside and abs(analytic) < torch.inf else KINK), at_kink
    if error == torch.inf or (error > 0.1 * abs(number) > 0 and not abs(analytic) < torch.inf):
        return (UNSURE if abs(analytic) < torch.inf else KINK), entry  # a derivative that grows without end
    if abs(number - analytic) <= allowed:
        return AGREES, entry
    if again.settles_at(position, analytic):
        return AGREES, replace(entry, numeric=analytic / size)
    return MISMATCH, entry


def _nearer(
    best: Entry | None, numeric: Tensor, analytic: Tensor, rows: Tensor, column: int, size: float
) -> Entry | None:
    """The entry of the larger difference: the best so far, or one of this column."""
    if not bool(rows.any()):
        return best
    row = int(torch.where(rows, (numeric - analytic).abs(), -1.0).argmax())
    entry = Entry(row, column, float(analytic[row]) / size, float(numeric[row]) / size)
    return entry if best is None or entry.difference > best.difference else best


def _worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(dict.fromkeys(entries), key=_worst))


def _worst(entry: Entry) -> tuple[float, float]:
    """The larger difference first; of those without end the one of the larger derivative."""
    return -entry.difference, -_size(entry.numeric) if entry.difference == torch.inf else 0.0


# Random directions


def compare_directions(function: RealFunction, seed: int = 0, tell: Tell | None = None) -> Compared:
    """Random combinations of the rows against differences along random directions; a wrong entry is searched for."""
    generator = torch.Generator().manual_seed(seed)
    lines = [Line(function, _direction(function, seed + number)) for number in range(DIRECTIONS)]
    firsts = [quick(line) for line in lines]
    finite = function.y.isfinite()
    usable = torch.stack([finite, *(first.derivative.isfinite() for first in firsts)]).all(0)
    cotangents = torch.randn(COTANGENTS, function.m, generator=generator, dtype=torch.float64) * usable
    known = torch.ones(function.n, dtype=torch.bool)
    kinks: list[Entry] = []
    for line, first in zip(lines, firsts, strict=True):
        kinks += [] if kinks else _kinks_along(function, line, first)
    if not bool(usable.all()):
        known = _known(function, cotangents)
        lines = [replace(line, direction=torch.where(known, line.direction, 0.0)) for line in lines]
        firsts = [quick(line) for line in lines]
    products, sizes = function.products(cotangents, torch.stack([line.direction for line in lines]))
    mismatches: list[Entry] = []
    rounded: list[Entry] = []
    off = 0.0
    for done, (line, first, analytic, terms) in enumerate(zip(lines, firsts, products.T, sizes.T, strict=True)):
        if tell:
            tell("directions compared with differences", done, DIRECTIONS)
        numeric = cotangents @ first.derivative.nan_to_num(nan=0.0)
        off = max(off, *(numeric - analytic).abs().tolist())
        if not mismatches:
            kind, entry = _wrong_along(function, line, first, cotangents, analytic, terms)
            if entry is not None and kind in (MISMATCH, KINK):
                found = only_rounded(function, entry) if kind == MISMATCH else None
                (kinks if kind == KINK else rounded if found else mismatches).append(found or entry)
    return Compared(
        compared=DIRECTIONS * COTANGENTS if bool(usable.any() and known.any()) else 0,
        what=PRODUCTS,
        mismatches=_worst_first(mismatches),
        kinks=_worst_first(kinks),
        rounded=tuple(rounded),
        unsure=int(finite.sum()) * function.n - int(usable.sum()) * int(known.sum()),
        unfinite=int((~finite).sum()),
        products=off,
    )


def _known(function: RealFunction, cotangents: Tensor) -> Tensor:
    """The inputs (n,) of which products with some outputs left out tell something.

    Where a backward multiplies what is left out by an infinite derivative all the same, 0 · ∞ is NaN.
    """
    if function.mode == "forward":
        return torch.ones(function.n, dtype=torch.bool)
    return torch.stack([function.pullback(v).isfinite() for v in cotangents]).all(0)


def _direction(function: RealFunction, seed: int) -> Tensor:
    """Random signs times different numbers of about the entries' sizes, cut off where the steps would not be exact."""
    grain = 2.0 ** ceil(log2(4 * function.eps / quick_step(function.eps)))
    return scales(function) * (torch.round(direction(function.x, seed) / grain) * grain)


def _wrong_along(
    function: RealFunction, line: Line, first: Quick, cotangents: Tensor, analytic: Tensor, terms: Tensor
) -> tuple[str, Entry | None]:
    """The entry that makes a direction's derivative differ from autograd's, and what it is; "agrees": it doesn't.

    `analytic` and `terms` are vᵀJu for each cotangent, and the sizes of its terms added up.
    """
    derivative = first.derivative.nan_to_num(nan=0.0)
    numeric = cotangents @ derivative
    terms = terms + cotangents.abs() @ derivative.abs()
    noise = cotangents.abs() @ first.noise.nan_to_num(nan=0.0)
    strict = tolerance(function.eps) / 100
    for number in (~((numeric - analytic).abs() <= strict * terms + noise)).nonzero().reshape(-1).tolist():
        v = cotangents[number]
        again = estimate(replace(line, weights=v[None]))
        difference = abs(float(again.derivative[0]) - float(analytic[number]))
        if difference <= strict * float(terms[number]) + SAFETY * float(again.error[0]):
            continue
        return _search(function, line.direction, v, derivative)
    return AGREES, None


def _search(function: RealFunction, direction: Tensor, v: Tensor, derivative: Tensor) -> tuple[str, Entry]:
    """The entry that makes vᵀJu wrong: v halved, then u halved, always keeping the half that differs more."""

    def gap_of_outputs(part: Tensor) -> float:
        half = torch.zeros_like(v)
        half[part] = v[part]
        return _size(float(half @ derivative) - function.product(half, direction))

    row = halved(v.nonzero().reshape(-1), gap_of_outputs)
    onehot = torch.zeros_like(function.y)
    onehot[row] = 1

    def gap_of_inputs(part: Tensor) -> float:
        u = torch.zeros_like(direction)
        u[part] = direction[part]
        number = float(quick(Line(function, u, rows=torch.tensor([row]))).derivative[0])
        return _size(number - function.product(onehot, u))

    column = halved(direction.nonzero().reshape(-1), gap_of_inputs)
    return entry_at(function, row, column, function.entry(row, column))


def halved(positions: Tensor, gap: Callable[[Tensor], float]) -> int:
    """One position: of two halves always the one with the larger gap."""
    while positions.numel() > 1:
        left, right = positions.tensor_split(2)
        positions = left if gap(left) >= gap(right) else right
    return int(positions[0])


def entry_at(
    function: RealFunction, row: int, column: int, analytic: float, floor: float = 0.0
) -> tuple[str, Entry]:
    """One entry against its extrapolated difference: whether it agrees (up to `floor` in y), differs, or is at a kink."""
    line = along(function, row, column)
    size = float(_sizes(function, torch.tensor(analytic, dtype=torch.float64))[column])
    again = estimate(replace(line, direction=line.direction.clamp(max=size)))
    return _judge(function, again, 0, analytic * size, row, column, size, floor)


def form_changes(function: RealFunction, column: int) -> bool:
    """Whether the outputs have other shapes or dtypes a small step to one of the sides."""
    u = torch.zeros_like(function.x)
    u[column] = scales(function)[column] * quick_step(function.eps)
    return any(function.changes_form(function.x + side * u) for side in (1, -1))


def along(function: RealFunction, row: int, column: int) -> Line:
    """One output along one input entry, over steps of that entry's scale."""
    u = torch.zeros_like(function.x)
    u[column] = scales(function)[column]
    return Line(function, u, rows=torch.tensor([row]))


def _kinks_along(function: RealFunction, line: Line, first: Quick) -> Iterator[Entry]:
    """A kink that a direction shows, or an end of the function, at the input entry that makes it."""
    size = first.derivative.abs()
    jumps = _lasting(line, first, (first.jump.abs() > 1e-5 * size + 4 * first.noise) & first.jump.isfinite())
    jumps = jumps | (function.y.isfinite() & ~first.jump.isfinite())
    if not bool(jumps.any()):
        return
    heights = torch.where(jumps, first.jump.abs().nan_to_num(nan=torch.inf, posinf=torch.inf), -1.0)
    rows = heights.topk(min(MOST_ROWS, int(jumps.sum()))).indices
    for row in rows[estimate(replace(line, rows=rows)).kink].tolist()[:1]:
        only = torch.tensor([row])

        def gap(part: Tensor, only: Tensor = only) -> float:
            u = torch.zeros_like(line.direction)
            u[part] = line.direction[part]
            return _size(float(quick(Line(function, u, rows=only)).jump[0]))

        column = halved(line.direction.nonzero().reshape(-1), gap)
        kind, entry = entry_at(function, row, column, function.entry(row, column))
        if kind == KINK:
            yield entry


def _size(number: float) -> float:
    """|number|; NaN counts as the largest."""
    return abs(number) if number == number else torch.inf


NEIGHBOURS = 4
"""Points around the one that is checked at which autograd's number is looked at."""

INNER_ROUNDINGS = 4
"""How many roundings of the numbers that it computes with one operation may make."""

FEW_ROUNDINGS = 64
"""How far they are away, in roundings of the inputs."""


def rounding_of(function: RealFunction, row: int) -> float:
    """How far off an output may be because the results of the steps on the way are rounded: ε Σ |∂y/∂z · z|."""
    evaluation = function.evaluation
    place = function.outputs.place(row)
    y = evaluation.outputs[place.name]
    steps = [evaluation.values.get(step.slot) for step in evaluation.tape]
    results = [z for z in steps if isinstance(z, Tensor) and z.requires_grad and z is not y]
    if not results or not y.requires_grad:
        return 0.0
    try:
        pulled = vjp(y, _onehot(function, row)[place.name], results)
    except RuntimeError:  # a result that was changed in place since
        return 0.0
    terms = [
        torch.finfo(z.dtype).eps * float((gradient.abs() * z.detach().abs()).sum())
        for z, gradient in zip(results, pulled, strict=True)
        if gradient is not None
    ]
    return sum(term for term in terms if term < torch.inf)


def _onehot(function: RealFunction, row: int) -> dict[str, Tensor]:
    vector = torch.zeros_like(function.y)
    vector[row] = 1
    return Layout.of(function.evaluation.outputs).split(vector)


def only_rounded(function: RealFunction, entry: Entry) -> Entry | None:
    """The entry, its difference taken anew, if its two numbers differ by no more than rounding may make of them."""
    if entry.below is not None or not entry.difference < torch.inf:
        return None
    return _agreeing(function, entry) or (entry if _scatters(function, entry) else None)


def _agreeing(function: RealFunction, entry: Entry) -> Entry | None:
    """The entry if it agrees with its difference when the roundings of the steps are counted, or those inside of one."""
    allowed = rounding_of(function, entry.row)
    if _saturates(function, entry):
        allowed = max(allowed, INNER_ROUNDINGS * function.eps * float(function.reach[entry.row]))
    if not allowed > float(function.noise[entry.row]):
        return None
    noise = function.noise.clone()
    noise[entry.row] = allowed
    aware = replace(function, noise=noise)
    kind, found = entry_at(aware, entry.row, entry.column, entry.analytic, SAFETY * allowed)
    return found if kind == AGREES else None


def _saturates(function: RealFunction, entry: Entry) -> bool:
    """Whether the function's values are stairs of rounding: (1 + erf x) is a few of the smallest steps from 0 at -6.

    Then narrow differences stand on one stair and give zero, or what the other factors do there, and wider ones something
    else; those of a smooth function come nearer to one another by a factor with each narrower step.
    """
    if entry.numeric == 0:
        return True
    central = estimate(along(function, entry.row, entry.column)).central[:, 0]
    change = (central[1:] - central[:-1]).abs()
    lasting = (change[1:] > change[:-1] / 3) & (change[1:] > entry.difference * float(scales(function)[entry.column]) / 10)
    return bool(lasting.any())


def _scatters(function: RealFunction, entry: Entry) -> bool:
    """Whether autograd's number is one of many: a few roundings away it is as far from this one as the difference.

    So it may be where an iteration starts at other random numbers, and comes to the same values all the same.
    """
    if function.mode == "forward" or function.entry(entry.row, entry.column) != entry.analytic:  # or not repeatable
        return False
    generator = torch.Generator().manual_seed(entry.row + entry.column)
    onehot = torch.zeros_like(function.y)
    onehot[entry.row] = 1
    rounding = torch.cat([
        torch.full((size,), torch.finfo(dtype).eps, dtype=torch.float64)
        for size, dtype in zip(function.inputs.sizes, function.inputs.dtypes, strict=True)
    ])  # fmt: skip
    problem, found = function.problem, []
    seeded_alike = alike(problem.evaluation, problem.at(seed=problem.seed + 1))
    for number in range(NEIGHBOURS):
        seed = problem.seed + (number if seeded_alike else 0)
        by = torch.rand(function.n, generator=generator, dtype=torch.float64) - 0.5
        points = function.inputs.split(function.x * (1 + FEW_ROUNDINGS * rounding * by))
        try:
            found.append(float(function.pullback(onehot, problem.at(points, seed))[entry.column]))
        except Exception:  # whatever the function raises off the point
            return False
    return max(found) - min(found) > entry.difference / 4
