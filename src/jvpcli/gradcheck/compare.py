"""Autograd's Jacobian against finite differences, entry by entry.

A function of the user's own runs as seldom as can be: along one direction first, and entry by entry only where that leaves
anything open.  What differs is looked at again with extrapolated differences before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, log2, ulp

import torch
from torch import Tensor

from jvpcli.gradcheck.differences import SAFETY, TINY, TOP, Estimate, Line, Quick, estimate, quick, quick_step, scales
from jvpcli.gradcheck.vectors import RealFunction
from jvpcli.jacobians.nearby import direction, largest
from jvpcli.request import Tell

LARGEST_COLUMNS, LARGEST_ROWS, LARGEST_ENTRIES = 256, 1024, 65_536
"""Up to these sizes every entry is compared."""

ENTRIES, OUTPUTS, PRODUCTS = (
    "entries", "outputs along one direction", "random products vᵀJu, since the Jacobian is large,"
)  # fmt: skip
"""What is compared."""

ENOUGH = 64
"""Wrong entries after which only worse ones are looked at."""

LARGEST_STEP = 2.0**1000
"""What a derivative times a step is at most, so that no sum of some of them is infinite."""

SEEN = 50
"""An input's largest entry must show along a direction if it is off by so many times what is let pass of it."""

PLAINLY = 1000
"""How many times the error of differences over two steps autograd's number is off where no more of them are needed."""

CLEAR = 1e-2
"""The part of itself by which a derivative by differences is off at most, for it to tell that the function is smooth here."""

THROUGH = 2.0**-8
"""The part of its values that a function runs through from one number to the next if no difference can follow it."""

WEIGHTY = 1e-3
"""The part of the largest entry from which on it matters that differences tell nothing of an entry."""

MISMATCH, KINK, AGREES, UNSURE, UNSEEN = "mismatch", "kink", "agrees", "unsure", "unseen"
"""What an entry turns out to be."""


@dataclass(frozen=True)
class Entry:
    """One entry of the Jacobian as autograd and as differences have it.

    `row` and `column` are positions in the real vectors; `error` is how far off the difference may be; `below` and
    `above` are the one-sided derivatives at a kink; `beside`, at one that they do not show, are the least and the largest
    derivative of the output right beside the point.
    """

    row: int
    column: int
    analytic: float
    numeric: float
    error: float = 0.0
    below: float | None = None
    above: float | None = None
    beside: tuple[float, float] | None = None

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
        unseen: entries of which differences tell nothing, since what the function does is finer than the numbers around x.
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
    unseen: tuple[Entry, ...] = ()
    unsure: int = 0
    unfinite: int = 0
    products: float | None = None

    @property
    def largest(self) -> float | None:
        """The largest difference that was seen; None where nothing was compared."""
        worst = self.mismatches[0] if self.mismatches else self.nearest
        return self.products if worst is None else worst.difference


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
    line = Line(function, random_direction(function, seed=0))
    first = quick(line)
    shares = (jacobian * line.direction).abs()
    off = (first.derivative - jacobian @ line.direction).abs()
    passed = tolerance(function.eps)
    allowed = passed / 100 * shares.sum(1) + first.noise
    shown = (SEEN * passed * shares > 2 * (off + first.noise)[:, None]).any(0) | (jacobian == 0).all(0)
    jumps = first.jump.abs() > 4 * first.noise
    if not bool((off <= allowed).all() and off.isfinite().all() and shown.all()) or bool(lasting(line, first, jumps).any()):
        return None
    if bool((first.noise > shares.sum(1)).any()):  # a wide step may show what roundings hide over a narrow one: of x + 1e12
        moved = (line(2.0**TOP) - line.base).abs()
        if bool(((moved > SAFETY * function.noise) & (moved < first.noise * 2.0**TOP)).any()):
            return None
    return Compared(function.m, OUTPUTS, products=float(off.max()) if function.m else None)


def random_direction(function: RealFunction, seed: int) -> Tensor:
    """Random signs times different numbers of about the entries' sizes, cut off where the steps would not be exact."""
    grain = 2.0 ** ceil(log2(4 * function.eps / quick_step(function.eps)))
    return scales(function) * (torch.round(direction(function.x, seed) / grain) * grain)


def lasting(line: Line, first: Quick, jumps: Tensor) -> Tensor:
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
    spoilt = not bool(finite.all())  # a zero cotangent times what is not finite: NaN says nothing about the other outputs
    most = largest(jacobian * sizes)
    floor, weight = 1000 * function.eps * most, WEIGHTY * most
    found: dict[str, list[Entry]] = {kind: [] for kind in (MISMATCH, KINK, AGREES, UNSURE, UNSEEN)}
    wrong, unclear = found[MISMATCH], 0
    for column in range(function.n):
        if tell:
            tell("columns compared with differences", column, function.n)
        line, first = _along(function, jacobian, column, float(sizes[column]))
        size = float(line.direction[column])
        analytic = jacobian[:, column] * size
        comparable = finite & ~analytic.isnan() if spoilt else finite
        unclear += int((finite & ~comparable).sum())
        rows = (_suspicious(line, first, analytic, size, floor, weight) & comparable).nonzero().reshape(-1)
        if len(wrong) > ENOUGH:  # it is wrong all over: only what is still worse matters
            rows = rows[~((first.derivative - analytic)[rows].abs() / size <= max(e.difference for e in wrong))]
        agreeing = comparable.clone()
        agreeing[rows] = False
        found[AGREES] += _furthest(first.derivative, analytic, agreeing, column, size)
        plain = list(_plainly_wrong(line, first, analytic, rows, column, size))
        wrong += plain
        rows = rows[~torch.isin(rows, torch.tensor([entry.row for entry in plain], dtype=rows.dtype))]
        if not rows.numel():
            continue
        again = estimate(replace(line, rows=rows))
        for position, row in enumerate(rows.tolist()):
            kind, entry = _judge(function, again, position, float(analytic[row]), row, column, size, floor, weight)
            found[kind].append(entry)
    nearest = max(found[AGREES], key=lambda entry: entry.difference, default=None)
    if nearest is not None:
        kind, nearest = _refined(function, nearest, floor)
        if kind != AGREES:
            found[kind].append(nearest)
        nearest = None if kind == UNSURE else nearest
    unsure = unclear + len(found[UNSURE])
    return Compared(
        compared=int(finite.sum()) * function.n - unsure - len(found[UNSEEN]),
        what=ENTRIES,
        mismatches=worst_first(wrong),
        kinks=worst_first(found[KINK]),
        nearest=nearest,
        unseen=tuple(found[UNSEEN]),
        unsure=unsure,
        unfinite=int((~finite).sum()),
    )


def _sizes(function: RealFunction, derivatives: Tensor) -> Tensor:
    """The steps' sizes (n,), such that none of them is infinite times the derivatives: one, or (m, n)."""
    finite = torch.atleast_2d(derivatives).abs().nan_to_num(nan=0.0, posinf=0.0)
    sizes = torch.cat([torch.ones(1, finite.shape[1], dtype=finite.dtype), finite]).amax(0)
    return torch.minimum(scales(function), LARGEST_STEP / torch.exp2(torch.floor(torch.log2(sizes))))


def _along(function: RealFunction, jacobian: Tensor, column: int, size: float) -> tuple[Line, Quick]:
    """The line along an input entry with its quick difference; over steps of the entry's own size where rounding is less.

    Those of its neighbours' size suit an entry that adds little to a sum, its own one that stands alone.
    """
    line = Line(function, function.toward(column, size))
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
    if kind == AGREES and entry.analytic == 0 and max(better.error, floor) < abs(better.numeric):
        return UNSURE, better  # so rounded that zero is let pass, and yet hardly zero
    return (kind, better) if kind == MISMATCH else (AGREES, min(entry, better, key=lambda found: found.difference))


def _suspicious(line: Line, first: Quick, analytic: Tensor, size: float, floor: float, weight: float) -> Tensor:
    """The outputs where autograd's number and the central difference differ, or the two sides do (m,)."""
    eps, given = line.function.eps, line.function.tolerance
    large = torch.maximum(analytic.abs(), first.derivative.abs())
    large = torch.where(large.isfinite(), large, 0.0)  # no difference agrees with an infinite derivative
    allowed = given.allowed(first.derivative, size) if given.given else tolerance(eps) * large + floor
    off = (first.derivative - analytic).abs()
    differs = ~((off <= allowed + first.noise) & off.isfinite())  # where a value to one side is infinite so is the noise
    jumps = ~(first.jump.abs() <= 1e-4 * large + 4 * first.noise + floor)
    hidden = (analytic.abs() > weight) & (off > analytic.abs() / 2)
    return differs | hidden | lasting(line, first, jumps & ~(differs | hidden))


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
        yield Entry(int(rows[k]), column, float(analytic[rows[k]]) / size, float(before[k]) / size, float(error[k]) / size)


def _judge(
    function: RealFunction,
    again: Estimate,
    position: int,
    analytic: float,
    row: int,
    column: int,
    size: float,
    floor: float = 0.0,
    weight: float = torch.inf,
) -> tuple[str, Entry]:
    """What an extrapolated difference says about an entry; numbers are per `size` of the input's step.

    An entry up to `floor` passes for zero; one above `weight` that zero would agree with as
    well must be near.
    """
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
        if outside or len(sides) < 2:
            settled = _settled(function, again, position, entry, size, floor)
            if settled is not None:
                return settled
        return (MISMATCH if outside and abs(analytic) < torch.inf else KINK), at_kink
    if entry.numeric == entry.analytic and abs(entry.numeric) == torch.inf:  # larger than any number
        return UNSURE, entry
    if error == torch.inf or (error > 0.1 * abs(number) > 0 and not abs(analytic) < torch.inf):
        return (UNSURE if abs(analytic) < torch.inf else KINK), entry  # a derivative that grows without end
    if weight < abs(analytic) < min(allowed, 2 * abs(number - analytic)) and abs(number - analytic) <= allowed:
        return (UNSEEN if is_unseen(function, UNSURE, entry) else UNSURE), entry
    if abs(number - analytic) <= allowed or entry.difference == 0:
        return AGREES, entry
    return _settled(function, again, position, entry, size, floor) or (MISMATCH, entry)


def _settled(
    function: RealFunction, again: Estimate, position: int, entry: Entry, size: float, floor: float
) -> tuple[str, Entry] | None:
    """What an entry is by the narrowest differences, where those come near autograd's number and wider ones don't."""
    found = again.settled(position, entry.analytic * size)
    if found is None:
        return None
    number, error = found
    off = abs(number - entry.analytic * size)
    agrees = off <= tolerance(function.eps) * abs(number) + floor + error
    return AGREES if agrees else MISMATCH, replace(entry, numeric=number / size, error=error / size)


def _furthest(numeric: Tensor, analytic: Tensor, rows: Tensor, column: int, size: float) -> Iterator[Entry]:
    """The entry of the largest difference in a column, if there is any among these rows."""
    if bool(rows.any()):
        row = int(torch.where(rows, (numeric - analytic).abs(), -1.0).argmax())
        yield Entry(row, column, float(analytic[row]) / size, float(numeric[row]) / size)


def worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    """Each entry once, that of the largest difference first."""
    return tuple(sorted(dict.fromkeys(entries), key=_worst))


def _worst(entry: Entry) -> tuple[float, float]:
    """The larger difference first; of those without end the one of the larger derivative."""
    return -entry.difference, -magnitude(entry.numeric) if entry.difference == torch.inf else 0.0


# One entry


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
    u = function.toward(column, float(scales(function)[column]) * quick_step(function.eps))
    return any(function.changes_form(function.x + side * u) for side in (1, -1))


def along(function: RealFunction, row: int, column: int) -> Line:
    """One output along one input entry, over steps of that entry's scale."""
    return Line(function, function.toward(column, float(scales(function)[column])), rows=torch.tensor([row]))


def magnitude(number: float) -> float:
    """|number|; NaN counts as the largest."""
    return abs(number) if number == number else torch.inf


def halved(positions: Tensor, gap: Callable[[Tensor], float]) -> int:
    """One position: of two halves always the one with the larger gap."""
    while positions.numel() > 1:
        left, right = positions.tensor_split(2)
        positions = left if gap(left) >= gap(right) else right
    return int(positions[0])


def is_unseen(function: RealFunction, kind: str, entry: Entry) -> bool:
    """Whether the function does something between the numbers around x that no difference can see.

    So it is where it would run through much of its values from one number to the next if autograd were right, unless differences
    show another smooth function; and where there seems to be a kink though no operation can have one.
    """
    if not abs(entry.analytic) < torch.inf:
        return False
    ends = any(side is not None and side != side for side in (entry.below, entry.above))
    if kind == KINK and not ends and function.outputs.place(entry.row).name in function.regular:
        return True
    apart, reach = ulp(float(function.x[entry.column])), float(function.reach[entry.row])
    if abs(entry.analytic) * apart <= THROUGH * (reach if reach > TINY else 1.0):
        return False
    return not 0 < entry.error < CLEAR * abs(entry.numeric) < torch.inf
