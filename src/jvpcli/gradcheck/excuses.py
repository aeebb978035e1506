"""What else than a wrong gradient may make an entry differ: rounding, a tie, a function that is finer than the numbers around x.

Each is tested before it is believed, and as often as not by running the function beside the point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from jvpcli.gradcheck.compare import (
    AGREES,
    KINK,
    MISMATCH,
    UNSEEN,
    Compared,
    Entry,
    along,
    entry_at,
    is_unseen,
    random_direction,
    tolerance,
    worst_first,
)
from jvpcli.gradcheck.differences import SAFETY, TOP, Line, estimate, quick, scales
from jvpcli.gradcheck.vectors import RealFunction, alike
from jvpcli.language.operations import can_require_grad

NEIGHBOURS = 4
"""Points around the one that is checked at which autograd's number is looked at."""

INNER_ROUNDINGS = 4
"""How many roundings of the numbers that it computes with one operation may make."""

FAR = 1e7
"""So many times these a difference is no matter of them."""

FEW_ROUNDINGS = 64
"""How far they are away, in roundings of the inputs."""

CLOSE = (4, 5, 6, 7, 8)
"""How many numbers away those are that the closest differences are taken of, or some multiples of that."""

CLEARLY = 0.03
"""The part of itself by which such a difference is off at most."""

SAME = 1e-6
"""Numbers that are as near to each other, as a part of the distance between the furthest two, are the same."""

ASIDE, WITHIN = 2.0**-18, 2.0**-34
"""How far beside the point ties are looked for, and the steps of differences there, in units of the inputs' size."""

PAST = 2.0**-17
"""How far an input goes past the others there: all of these have gone half as far at most."""

VERIFIED = 1e-3
"""How well a difference there agrees with autograd."""

JUMP = 1e-2
"""The part of the largest derivative by which derivatives jump at least."""


def settled(function: RealFunction, kind: str, entry: Entry) -> tuple[str, Entry]:
    """What an entry that differs, or that seems to be at a kink, turns out to be, and the entry with what was found."""
    bend = _bend(function, entry) if kind == KINK else None
    if bend is not None:
        kind, entry = MISMATCH, replace(entry, below=None, above=None)
        if entry.difference <= tolerance(function.eps) * abs(entry.numeric) + SAFETY * entry.error:
            return AGREES, entry
    known = roundings(function, entry.row, entry.column) if kind == MISMATCH else Roundings()
    closely = _closely(function, entry, known) if kind == MISMATCH else None
    if closely is not None and not closely.error < closely.difference <= SAFETY * closely.error:
        return AGREES if closely.difference <= closely.error else MISMATCH, closely
    if bend is not None and bend.difference <= tolerance(function.eps) * abs(bend.numeric):
        return AGREES, bend
    if is_unseen(function, kind, entry):
        return UNSEEN, entry
    if kind != MISMATCH:
        return kind, entry
    if known.lost:
        return AGREES, replace(entry, numeric=math.nan, error=math.inf)
    rounded = _agreeing(function, entry, known)
    if rounded is not None:
        return AGREES, rounded
    beside = _beside(function, entry)
    jump = _jump(function, beside, entry) if beside is not None else None
    if jump is not None:
        return KINK, replace(entry, beside=jump)
    return AGREES if _scatters(function, entry) else kind, entry


def excused(function: RealFunction, compared: Compared) -> Compared:
    """The comparison with all that is no wrong gradient taken from its mismatches, up to the first that is one."""
    found = dict[str, list[Entry]]({MISMATCH: [], KINK: [], AGREES: [], UNSEEN: []})
    for kind, entries in ((KINK, compared.kinks), (MISMATCH, compared.mismatches)):
        for position, entry in enumerate(entries):
            settled_kind, entry = settled(function, kind, entry)
            found[settled_kind].append(entry)
            if settled_kind == MISMATCH:
                found[MISMATCH] += entries[position + 1 :]
                break
    nearest = max([*filter(None, [compared.nearest]), *found[AGREES]], key=lambda entry: entry.difference, default=None)
    return replace(
        compared,
        compared=compared.compared - len(found[UNSEEN]),
        mismatches=tuple(found[MISMATCH]),
        kinks=worst_first(found[KINK]),
        nearest=nearest,
        rounded=(*compared.rounded, *found[AGREES]),
        unseen=(*compared.unseen, *found[UNSEEN]),
    )


def _bend(function: RealFunction, entry: Entry) -> Entry | None:
    """The entry over some of the numbers around x, if the jump of the derivative is gone there: from afar a fast bend, or a kink
    close by, looks like one that is right here."""
    x, sides = float(function.x[entry.column]), (entry.below, entry.above)
    if x == 0 or any(side is None or not abs(side) < math.inf for side in sides):
        return None
    jump, apart = abs(sides[1] - sides[0]), math.ulp(x)  # type: ignore[operator]
    line = replace(along(function, entry.row, entry.column), direction=function.toward(entry.column, apart))
    for steps in (4, 64, 256, 1024):
        found = quick(line, steps)
        error = (abs(float(found.jump)) + float(found.noise)) / apart
        if error < jump / 10:
            return replace(entry, numeric=float(found.derivative) / apart, error=error, below=None, above=None)
    return None


def _closely(function: RealFunction, entry: Entry, known: Roundings) -> Entry | None:
    """The entry with a difference over some of the numbers around x, if that is clear and another:
    wider ones see nothing of sin(x) at 1e12."""
    line = Line(function, function.toward(entry.column), torch.tensor([entry.row]))
    apart = math.ulp(float(function.x[entry.column]))
    found = [_closest(line, scale * apart, entry, known.value) for scale in (1, 4, 16, 64)]
    best = min(found, key=lambda entry: entry.error if entry.error == entry.error else math.inf)
    is_news = abs(best.numeric - entry.numeric) > SAFETY * best.error
    return best if is_news and best.error < abs(best.numeric) * CLEARLY else None


def _closest(line: Line, apart: float, entry: Entry, scatter: float) -> Entry:
    """The entry with a difference over so many times a distance as `CLOSE` says; what does not bend evenly there is rounding, and
    `scatter` is what is known of that."""
    values = {step: float(line(step * apart)) for size in CLOSE for step in (size, -size)}
    slopes = [(values[size] - values[-size]) / (2 * size * apart) for size in CLOSE]
    narrow, wide = slopes[0], slopes[-1]
    bent = [narrow + (wide - narrow) * (size**2 - CLOSE[0] ** 2) / (CLOSE[-1] ** 2 - CLOSE[0] ** 2) for size in CLOSE]
    uneven = max(abs(slope - even) for slope, even in zip(slopes, bent, strict=True))
    rounding = torch.finfo(line.function.x.dtype).eps * max(map(abs, values.values()))
    bend = abs(narrow - wide)
    is_smooth = bend < abs(narrow) / 10  # of a stair one is twice the other
    error = max(SAFETY * rounding, 2 * scatter) / (CLOSE[0] * apart) + 4 * uneven + bend / 100 if is_smooth else math.inf
    return replace(entry, numeric=narrow + (narrow - wide) / 3, error=error, below=None, above=None)


def _beside(function: RealFunction, entry: Entry) -> tuple[Tensor, Tensor] | None:
    """Autograd's gradients of the output right beside the point (K, n), if differences confirm them, and its slopes (K,) when the
    entry's input goes past all others; None: they are others, or it can't be told."""
    if function.mode == "forward" or not abs(entry.analytic) < math.inf:
        return None
    alone = function.toward(entry.column, float(scales(function)[entry.column]))
    gradients, slopes = [], []
    for seed in range(NEIGHBOURS):
        x, direction = function.x + ASIDE * random_direction(function, seed), random_direction(function, seed + NEIGHBOURS)
        evaluation = function.at(x)
        if evaluation is None:
            return None
        gradient = function.gradient(entry.row, evaluation)
        there = replace(function, x=x, y=function.value(x))
        seen = quick(Line(there, direction, rows=torch.tensor([entry.row])), WITHIN)
        size = float(gradient.abs() @ direction.abs())
        if not float(seen.noise) <= VERIFIED * size:
            return None
        if not abs(float(seen.derivative) - float(gradient @ direction)) <= VERIFIED * size:
            return None
        along = quick(Line(there, alone, rows=torch.tensor([entry.row])), WITHIN).derivative / alone[entry.column]
        if not float((along - gradient[entry.column]).abs()) <= JUMP / 2 * float(gradient.abs().max()):
            return None
        gradients.append(gradient)
        slopes.append(quick(Line(there, alone, rows=torch.tensor([entry.row])), PAST).derivative / alone[entry.column])
    return torch.stack(gradients), torch.cat(slopes)


def _jump(function: RealFunction, beside: tuple[Tensor, Tensor], entry: Entry) -> tuple[float, float] | None:
    """The least and the largest derivative beside a point where the output has none to the entry's input, though it may have one
    along each input by itself: the middle one of several equal numbers stays when any of them moves.

    Autograd's must be one of them, or between; and where all inputs move together and no derivative jumps, it must be that.
    """
    gradients, slopes = beside
    least, largest, size = float(gradients.min()), float(gradients.max()), float(gradients.abs().max())
    own = torch.cat([gradients[:, entry.column], slopes])
    jumps = float(own.max() - own.min()) > JUMP * size
    if not jumps or not least - VERIFIED * size <= entry.analytic <= largest + VERIFIED * size:
        return None
    together, here = gradients @ scales(function), float(function.gradient(entry.row) @ scales(function))
    least_together, most_together = float(together.min()), float(together.max())
    around = VERIFIED * max(abs(least_together), abs(most_together))
    steady = most_together - least_together <= around
    return None if steady and not least_together - around <= here <= most_together + around else (least, largest)


def only_rounded(function: RealFunction, entry: Entry) -> Entry | None:
    """The entry, its difference taken anew, if its two numbers differ by no more than rounding may make of them."""
    known = roundings(function, entry.row, entry.column)
    return entry if known.lost or _scatters(function, entry) else _agreeing(function, entry, known)


def _is_plain(entry: Entry) -> bool:
    """Whether there is one number by differences, and not one for each side."""
    return entry.below is None and entry.difference < torch.inf


def _agreeing(function: RealFunction, entry: Entry, known: Roundings) -> Entry | None:
    """The entry if it agrees with its difference when the roundings on the way are counted, or those inside of a step."""
    if not _is_plain(entry):
        return None
    size = float(scales(function)[entry.column])
    inner = INNER_ROUNDINGS * function.eps * float(function.reach[entry.row])
    inner = inner if entry.difference * size <= FAR * inner and _saturates(function, entry) else 0.0
    allowed = max(known.value if _moves(function, entry) else 0.0, inner)
    if not (allowed > float(function.noise[entry.row]) or entry.difference <= SAFETY * (known.derivative + entry.error)):
        return None
    noise = function.noise.clone()
    noise[entry.row] = max(allowed, float(noise[entry.row]))
    aware = replace(function, noise=noise)
    floor = SAFETY * max(known.derivative * size, inner)
    kind, best = entry_at(aware, entry.row, entry.column, entry.analytic, floor)
    return best if kind == AGREES else None


def _moves(function: RealFunction, entry: Entry) -> bool:
    """Whether the output is another where the entry's input is: what stays as it is isn't rounded to what it is."""
    line = along(function, entry.row, entry.column)
    return entry.numeric != 0 or any(bool((line(side * 2.0**TOP) != line.base).any()) for side in (1, -1))


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

    So it may be where an iteration starts at other random numbers, and comes to the same values all the same.  No two of them
    are alike: of tied numbers a wrong gradient has one of a few.
    """
    if not _is_plain(entry) or function.mode == "forward":
        return False
    if function.entry(entry.row, entry.column) != entry.analytic:  # not repeatable
        return False
    found = _around(function, entry, FEW_ROUNDINGS)
    if found is None:
        return False
    spread, nearest = found[-1] - found[0], min(above - below for below, above in pairwise(found))
    if not (spread > entry.difference / 4 and nearest > SAME * spread):
        return False
    nearer = _around(function, entry, FEW_ROUNDINGS // 16)
    return nearer is not None and nearer[-1] - nearer[0] > spread / 4  # what changes that fast with its input has less


def _around(function: RealFunction, entry: Entry, roundings_away: int) -> list[float] | None:
    """Autograd's numbers at points so many roundings away, in order; None where there is none."""
    generator = torch.Generator().manual_seed(entry.row + entry.column)
    rounding = torch.cat([
        torch.full((size,), torch.finfo(dtype).eps, dtype=torch.float64)
        for size, dtype in zip(function.inputs.sizes, function.inputs.dtypes, strict=True)
    ])  # fmt: skip
    problem, found = function.problem, []
    seeded_alike = alike(problem.evaluation, problem.at(seed=problem.seed + 1))
    for number in range(NEIGHBOURS):
        seed = problem.seed + (number if seeded_alike else 0)
        by = torch.rand(function.n, generator=generator, dtype=torch.float64) - 0.5
        points = function.inputs.split(function.x * (1 + roundings_away * rounding * by))
        try:
            found.append(float(function.gradient(entry.row, problem.at(points, seed))[entry.column]))
        except Exception:  # whatever the function raises off the point
            return None
    return sorted(found)


# What rounding does: each number on the way is moved a little, forward and backward


DRAWS = 3
"""How often the numbers are moved, each time at random."""

SHORT, LONG = 2.0**3, 2.0**6
"""How far they are moved, in roundings."""

EVEN = 2.0
"""How far from their ratio that of the effects is at most."""


@dataclass(frozen=True)
class Roundings:
    """How far off an output and its derivative may be by one rounding of each number on the way; 0 where that is not known.

    `lost`: a few roundings move the output by as much as it is.
    """

    value: float = 0.0
    derivative: float = 0.0
    lost: bool = False


def roundings(function: RealFunction, row: int, column: int) -> Roundings:
    """Those of an output and its derivative to an input's entry, as autograd takes that.

    A result that was rounded may as well be its neighbour, and what comes out then tells how much that matters (D. Parker, "Monte
    Carlo arithmetic", 1997), in anybody's code.  The moves are many roundings long, and count only where others, a part as
    long, do that part of the same: what the side of a tie or of a step decides does not.
    """
    plain = _with_moves(function, row, column, 0, 0.0)
    if plain is None:
        return Roundings()
    short, long = ([_with_moves(function, row, column, seed, by) for seed in range(DRAWS)] for by in (SHORT, LONG))
    if None in short or None in long:
        return Roundings()
    near, far = (torch.stack([found for found in moved if found is not None]) - plain for moved in (short, long))
    large, small = far.abs().amax(0), near.abs().amax(0)
    ratio = large / small / (LONG / SHORT)
    is_even = (ratio >= 1 / EVEN) & (ratio <= EVEN) & large.isfinite()
    value, derivative = torch.where(is_even, large / LONG, 0.0).tolist()
    return Roundings(value, derivative, bool(small[0] > plain[0].abs() / 4 > 0))


def _with_moves(function: RealFunction, row: int, column: int, seed: int, by: float) -> Tensor | None:
    """The output and its derivative (2,) with all numbers on the way moved; None where that doesn't run."""
    try:
        inputs = function.inputs.split(function.x)
        with Moved(by, seed):
            evaluation = function.problem.at(inputs)
            derivative = function.gradient(row, evaluation)[column]
        return torch.stack([function.outputs.join(list(evaluation.outputs.values()))[row], derivative])
    except Exception:  # whatever the function raises off the point
        return None


class Moved(TorchDispatchMode):
    """Moves each number that torch computes by up to so many roundings, up or down."""

    def __init__(self, by: float, seed: int) -> None:
        super().__init__()
        self.by, self.generator = by, torch.Generator().manual_seed(seed)

    def moved(self, value: Any) -> Any:
        """A result, with its numbers moved if it has any."""
        if not isinstance(value, Tensor) or not can_require_grad(value):
            return value
        random = 2 * torch.rand(value.shape, generator=self.generator, dtype=torch.float64) - 1
        return value * (1 + self.by * torch.finfo(value.dtype).eps * random).to(value.device, value.dtype)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every operation, in the backward pass as well."""
        result = func(*args, **(kwargs or {}))
        if self.by == 0 or any(part.alias_info is not None for part in func._schema.returns):  # type: ignore[attr-defined]
            return result
        return tree_map(self.moved, result)
