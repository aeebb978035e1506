"""Derivatives by finite differences along a line, with an estimate of their own error.

Steps are powers of two, so that x + t is exact.  A quick central difference comes first; where it does not settle the
matter, differences over ever smaller steps are extrapolated (C. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)",
1982), and the one-sided differences show kinks: a smooth function's jump between the sides shrinks with the step, a
kink's stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2

import torch
from torch import Tensor

from jvpcli.gradcheck.vectors import RealFunction

RATIO = 4
"""From one step to the next smaller one."""

DEEPER = 40
"""How many powers of two further steps go down where nothing is rounded."""

WIDER = 60
"""How many powers of two the steps of a small direction are larger than it: what cancels there doesn't further away."""

FEWEST = 5
"""Steps smaller than the first that are always taken."""

ORDER = 3
"""Extrapolations of one difference: further ones only add rounding."""

TINY = 1e-307
"""What is smaller counts as zero: it has no size of its own."""

MOST_SLOWLY = 0.75
"""Differences whose error shrinks by less from step to step have no limit that could be told."""

NARROWEST = 2.0**-40
"""No step is narrower, in units of the direction's size, where something is rounded."""

AT_THE_END = 2.0**-50
"""The same where a domain may end close by: the numbers around the point are hardly nearer to it."""

TOP = -3
"""The largest step is 2**TOP of the direction's size."""

SAFETY = 10
"""How much further off than its estimated error a difference may be."""


@dataclass(frozen=True, eq=False)
class Line:
    """The function along a direction through the point, t to y(x + t·u).

    `rows` picks outputs by their positions, `weights` (k, m) combines them; None: all as they are.
    """

    function: RealFunction
    direction: Tensor
    rows: Tensor | None = None
    weights: Tensor | None = None

    def __call__(self, t: float) -> Tensor:
        """The outputs at a distance."""
        return self._picked(self.function.value(self.function.x + t * self.direction))

    @property
    def base(self) -> Tensor:
        """The outputs at the point."""
        return self._picked(self.function.y)

    @property
    def noise(self) -> Tensor:
        """How far the outputs scatter."""
        return self.function.noise[self.rows] if self.rows is not None else self._picked(self.function.noise).abs()

    def _picked(self, y: Tensor) -> Tensor:
        if self.weights is not None:
            return self.weights @ torch.where(self.weights.abs().sum(0) > 0, y, 0.0)
        return y if self.rows is None else y[self.rows]


@dataclass(frozen=True, eq=False)
class Quick:
    """One central difference: the derivative, the difference between its sides, and what rounding does to both."""

    derivative: Tensor
    jump: Tensor
    noise: Tensor


@dataclass(frozen=True, eq=False)
class Estimate:
    """Extrapolated differences.

    Attributes:
        derivative, error: with both sides (or the only one there is), and how far off it may be (inf: nothing known).
        below, above: the one-sided derivatives.
        kink: whether they differ for good, or one side has no finite derivative.
        central, noise: the differences themselves, for ever smaller steps (K, m), and what rounding does to them.
    """

    derivative: Tensor
    error: Tensor
    below: Tensor
    above: Tensor
    kink: Tensor
    central: Tensor
    noise: Tensor

    def settled(self, position: int, number: float) -> tuple[float, float] | None:
        """What the smallest steps at which rounding can tell come to, and how far off that may be, if it is `number` or near it,
        and not the extrapolated derivative.

        A staircase of many small stairs, or a kink near by, looks like a slope from further away.
        """
        derivative = float(self.derivative[position])
        gap = abs(derivative - number) if abs(derivative) < torch.inf else abs(number)
        clear = self.noise[:, position] < gap / 100
        nearest = self.central[clear, position][-3:]
        if nearest.numel() < 3:
            return None
        _, before, last = nearest.tolist()
        if not (abs(last - number) < gap / 50 and abs(before - number) < gap / 10):
            return None
        return last, abs(last - before) + float(self.noise[clear, position][-1])


def scales(function: RealFunction) -> Tensor:
    """The size of a step for each input entry (n,): a power of two of about the entry's size.

    An entry far smaller than the others of its input takes a hundredth of their size, a zero among zeros 1.
    """
    sizes = function.x.abs()
    for part in function.inputs.slices().values():
        largest = float(sizes[part].max()) if sizes[part].numel() else 0.0
        smallest = largest / 128 if TINY < largest < torch.inf else 1.0
        sizes[part] = sizes[part].clamp(min=smallest)
    return torch.exp2(torch.floor(torch.log2(sizes.nan_to_num(nan=1.0, posinf=1.0))))


def quick_step(eps: float) -> float:
    """The step of a central difference that balances rounding and curvature: the cube root of the rounding."""
    return 2.0 ** round(log2(eps) / 3)


def quick(line: Line, step: float | None = None) -> Quick:
    """One central difference."""
    eps = line.function.eps
    t = step or quick_step(eps)
    before, here, after = line(-t), line.base, line(t)
    moved = torch.maximum((before - here).abs(), (after - here).abs())
    return Quick((after - before) / (2 * t), (after - 2 * here + before) / t, 8 * (line.noise + eps * moved) / t)


def estimate(line: Line) -> Estimate:
    """The derivative along the line from differences over many steps."""
    eps = line.function.eps
    size = float(line.direction.abs().max()) if line.direction.numel() else 1.0
    first = TOP + min(max(0, ceil(-log2(size))), WIDER) if size > 0 else TOP
    last = min(floor(0.6 * log2(eps) + log2(_reach(line))), first - FEWEST * int(log2(RATIO)))
    last -= DEEPER if _at_zero(line) else 0
    here = line.base
    steps: list[float] = []
    above: list[Tensor] = []
    below: list[Tensor] = []
    central: list[Tensor] = []
    t = 2.0**first
    while (
        t >= 2.0**last
        or (t >= NARROWEST and _changing(central, 4 * line.noise / steps[-1]))
        or (t >= AT_THE_END and _ends(central))
    ):
        steps.append(t)
        above.append((line(t) - here) / t)
        below.append((here - line(-t)) / t)
        central.append((above[-1] + below[-1]) / 2)
        t /= RATIO
    scatter = torch.maximum(line.noise, torch.maximum(_stair(above, steps), _stair(below, steps)).clamp(max=line.function.least))
    noise = [4 * scatter / t for t in steps]
    both, error = _extrapolated(central, noise, power=2)
    up, up_error = _nearer_of(_extrapolated(above, noise, power=1), _accelerated(above, noise))
    down, down_error = _nearer_of(_extrapolated(below, noise, power=1), _accelerated(below, noise))
    edge = both.isnan()  # the function ends here: the side that is left decides
    derivative = torch.where(edge, torch.where(up.isnan(), down, up), both)
    error = torch.where(edge, torch.where(up.isnan(), down_error, up_error), error)
    growing = [_growing(side) for side in (above, below)]
    steep = [side[-1].abs().nan_to_num(posinf=0.0) for side in (above, below)]  # what is infinite is no steepness
    flatter = above[-1].abs() < steep[1], below[-1].abs() < steep[0]
    lone = growing[0] ^ growing[1]  # beside a kink close by one side grows until it is as steep as the other
    growing = [grows & ~(lone & flat) for grows, flat in zip(growing, flatter, strict=True)]
    kink = _lasting(torch.stack(above), torch.stack(below), both, line, scatter, steps) | (edge & (growing[0] | growing[1]))
    up, down = (
        torch.where(kink & grows, side[-1] * torch.inf, limit)
        for grows, side, limit in zip(growing, (above, below), (up, down), strict=True)
    )
    derivative = torch.where(up.isinf(), up, torch.where(down.isinf(), down, derivative))
    return Estimate(derivative, error, down, up, kink, torch.stack(central), torch.stack(noise))


def _stair(side: Sequence[Tensor], steps: Sequence[float]) -> Tensor:
    """The last change of the values before a narrower step changes nothing (m,): what they are rounded to; 0 if each does.

    exp(x) − 1 is a multiple of 2**-53 around 0, where its own value tells nothing of a rounding.
    """
    changes = [t * difference.abs() for t, difference in zip(steps, side, strict=True)]
    stairs = [torch.where(narrower == 0, wider, 0.0) for wider, narrower in pairwise(changes)]
    return torch.stack(stairs).amax(0).nan_to_num(nan=0.0)


def _changing(central: Sequence[Tensor], noise: Tensor) -> bool:
    """Whether the differences still change with the step, beyond rounding: what the function does there is faster yet."""
    before, last = central[-2], central[-1]
    return bool(((last - before).abs() > 1e-6 * last.abs() + 10 * noise).any())


def _ends(central: Sequence[Tensor]) -> bool:
    """Whether wide steps lead out of where the function is defined, and so few narrow ones do not that nothing is told yet."""
    finite = torch.stack(list(central)).isfinite()
    return bool((~finite[-FEWEST:]).any()) and bool((finite[1:] >= finite[:-1]).all())


def _reach(line: Line) -> float:
    """How far the direction may go before the smallest entry that it moves changes its sign, at most 1."""
    moved = (line.direction != 0) & (line.function.x.abs() > TINY)
    ratios = (line.function.x.abs() / line.direction.abs())[moved]
    return max(min(float(ratios.min()), 1.0), 2.0**-60) if ratios.numel() else 1.0


def _extrapolated(differences: Sequence[Tensor], noise: Sequence[Tensor], power: int) -> tuple[Tensor, Tensor]:
    """Ridders' tableau; `power` is that of the step in the leading error term.  NaN and inf where nothing is finite.

    The surest number counts, unless a narrower step clearly contradicts it: wide steps see nothing of fast waves.
    """
    best = torch.full_like(differences[0], torch.nan)
    smallest = torch.full_like(best, torch.inf)
    row: list[Tensor] = []
    for number, difference in enumerate(differences):
        before, row = row, [difference]
        for order in range(1, min(number, ORDER) + 1):
            factor = float(RATIO) ** (order * power)
            better = row[-1] + (row[-1] - before[order - 1]) / (factor - 1)
            error = torch.maximum((better - row[-1]).abs(), (better - before[order - 1]).abs()) + noise[number]
            error = error.nan_to_num(nan=torch.inf)
            improved = (error <= smallest) | ((better - best).abs() > SAFETY * error)  # wide steps may miss what is there
            best, smallest = torch.where(improved, better, best), torch.where(improved, error, smallest)
            row.append(better)
    return torch.where(smallest.isinf(), torch.full_like(best, torch.nan), best), smallest


def _accelerated(differences: Sequence[Tensor], noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The limit of differences whose error shrinks by some factor with each step (A. Aitken, 1926).

    At the end of a domain that factor need not be that of a power series: √t for x**1.5 at zero.
    """
    best, smallest = torch.full_like(differences[0], torch.nan), torch.full_like(differences[0], torch.inf)
    before = best
    for a, b, c, scatter in zip(differences, differences[1:], differences[2:], noise[2:], strict=False):
        ratio = (c - b) / (b - a)
        better = torch.where(ratio.abs() < MOST_SLOWLY, c + (c - b) * ratio / (1 - ratio), torch.nan)
        error = ((better - before).abs() + scatter / (1 - ratio).abs()).nan_to_num(nan=torch.inf)
        improved = error < smallest
        best, smallest = torch.where(improved, better, best), torch.where(improved, error, smallest)
        before = better
    return best, smallest


def _nearer_of(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Of two estimates with their errors the surer, entry by entry; the first unless the other is surer by far."""
    surer = other[1] < one[1] / 10
    return torch.where(surer, other[0], one[0]), torch.where(surer, other[1], one[1])


def _lasting(
    above: Tensor, below: Tensor, middle: Tensor, line: Line, scatter: Tensor, steps: Sequence[float]
) -> Tensor:
    """Whether the jump between the sides, or of the value itself, stays or grows down to the smallest steps at which rounding
    can tell.

    above, below: (K, m), for ever smaller steps; middle: what the central differences go to (m,), which a kink leaves in
    peace and rounding does not; scatter: how far rounding moves the values (m,).
    """
    here, eps = line.base, line.function.eps
    tiny = torch.finfo(here.dtype).tiny  # below it numbers stand apart by more than their rounding
    jumps = (above - below).abs()
    slopes = torch.maximum(above.abs(), below.abs())
    seen = torch.zeros(here.shape, dtype=torch.int64)
    for k in range(1, len(steps)):
        t, larger = steps[k], torch.maximum(jumps[k], jumps[k - 1])
        noise = 16 * (scatter + eps * t * slopes[k] + tiny) / t
        ratio = jumps[k] / jumps[k - 1]
        grows = (ratio > 1.9) & (ratio < 4.1)  # a break of the value, or a vertical tangent
        breaks = grows & (t * jumps[k] > 1e-6 * here.abs())  # beyond any rounding inside
        scattered = ((above[k] + below[k]) / 2 - middle).abs() > larger / 10
        decidable = (larger > 50 * noise) & (larger > 1e-4 * slopes[k]) & (steps[k - 1] <= 2.0**-7)
        decidable &= breaks | ~scattered
        whole = slopes[k] / slopes[k - 1]  # of a value that jumps by the same to both sides the slopes are the same
        leaps = (whole > 3.9) & (whole < 4.1) & (slopes[k] > 50 * noise) & (t * slopes[k] > 1e-6 * here.abs())
        decidable |= leaps & (steps[k - 1] <= 2.0**-7)
        stays = breaks | leaps | ((ratio > 0.7) & (ratio < 2.9))
        settled = (slopes[k] > 50 * noise) & (whole < 1.1) & (larger <= 1e-4 * slopes[k])  # steep, but a derivative after all
        seen = torch.where(settled, 0, torch.where(decidable, torch.where(stays, seen + 1, 0), seen))
    return seen >= 2


def _growing(side: Sequence[Tensor]) -> Tensor:
    """Whether one side's differences grow without end: with each step by as much as before at least, as a logarithm does."""
    grown = torch.stack([difference.abs() for difference in side[-4:]]).diff(dim=0)
    return (grown[0] > 0) & (grown[1:] > 0.9 * grown[:-1]).all(0)


def _at_zero(line: Line) -> bool:
    """Whether the line leads from zero to zero: no rounding sets a limit to the steps there."""
    return not bool(((line.direction != 0) & (line.function.x != 0)).any()) and not bool(line.base.any())
