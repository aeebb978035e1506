"""What else than a wrong gradient may make an entry differ: rounding, a tie, a function that is finer than the numbers around x.

Each is tested before it is believed, and as often as not by running the function beside the point.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

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
    worst_first,
)
from jvpcli.gradcheck.differences import SAFETY, Line, estimate, quick, scales
from jvpcli.gradcheck.vectors import Layout, RealFunction, alike
from jvpcli.jacobians.passes import vjp

NEIGHBOURS = 4
"""Points around the one that is checked at which autograd's number is looked at."""

INNER_ROUNDINGS = 4
"""How many roundings of the numbers that it computes with one operation may make."""

FEW_ROUNDINGS = 64
"""How far they are away, in roundings of the inputs."""

SAME = 1e-6
"""Numbers that are as near to each other, as a part of the distance between the furthest two, are the same."""

ASIDE, WITHIN = 2.0**-18, 2.0**-34
"""How far beside the point ties are looked for, and the steps of differences there, in units of the inputs' size."""

VERIFIED = 1e-3
"""How well a difference there agrees with autograd."""

JUMP = 1e-2
"""The part of the largest derivative by which derivatives jump at least."""


def settled(function: RealFunction, kind: str, entry: Entry) -> tuple[str, Entry]:
    """What an entry that differs, or that seems to be at a kink, turns out to be, and the entry with what was found."""
    if is_unseen(function, kind, entry):
        return UNSEEN, entry
    if kind != MISMATCH:
        return kind, entry
    closely = _closely(function, entry)
    if closely is not None:
        return AGREES, closely
    beside = _beside(function, entry)
    jump = _jump(beside, entry) if isinstance(beside, Tensor) else None
    if jump is not None:
        return KINK, replace(entry, beside=jump)
    rounded = only_rounded(function, entry, distinct=beside is False)
    return (kind, entry) if rounded is None else (AGREES, rounded)


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


def _closely(function: RealFunction, entry: Entry) -> Entry | None:
    """The entry with a difference over a few of the numbers around x, if that agrees with autograd.

    So it does where wider ones see nothing: of sin(x) at 1e12.
    """
    line = Line(function, torch.zeros_like(function.x).index_fill(0, torch.tensor([entry.column]), 1), torch.tensor([entry.row]))
    t = 4 * math.ulp(float(function.x[entry.column]))
    further, before, after, beyond = (float(line(step * t)) for step in (-2, -1, 1, 2))
    narrow, wide = (after - before) / (2 * t), (beyond - further) / (4 * t)
    rounding = SAFETY * torch.finfo(function.x.dtype).eps * max(abs(before), abs(after)) / t
    number, error = narrow + (narrow - wide) / 3, rounding + abs(narrow - wide) / 100
    agrees = abs(number - entry.analytic) <= error < abs(number) / 100
    return replace(entry, numeric=number, error=error) if agrees else None


def _beside(function: RealFunction, entry: Entry) -> Tensor | bool | None:
    """Autograd's gradients of the output right beside the point (K, n), if differences confirm them; False: they are others;
    None: it can't be told."""
    if function.mode == "forward" or not abs(entry.analytic) < math.inf:
        return None
    onehot = torch.zeros_like(function.y).index_fill(0, torch.tensor([entry.row]), 1)
    gradients = []
    for seed in range(NEIGHBOURS):
        x, direction = function.x + ASIDE * random_direction(function, seed), random_direction(function, seed + NEIGHBOURS)
        evaluation = function.at(x)
        if evaluation is None:
            return None
        gradient = function.pullback(onehot, evaluation)
        there = replace(function, x=x, y=function.value(x))
        seen = quick(Line(there, direction, rows=torch.tensor([entry.row])), WITHIN)
        size = float(gradient.abs() @ direction.abs())
        if not float(seen.noise) <= VERIFIED * size:
            return None
        if not abs(float(seen.derivative) - float(gradient @ direction)) <= VERIFIED * size:
            return False
        gradients.append(gradient)
    return torch.stack(gradients)


def _jump(beside: Tensor, entry: Entry) -> tuple[float, float] | None:
    """The least and the largest derivative beside a point where the output has none, though it may have one along each input
    entry: the middle one of several equal numbers stays when any of them moves.  Autograd's must be one of them, or between.
    """
    least, largest, size = float(beside.min()), float(beside.max()), float(beside.abs().max())
    jumps = float((beside.amax(0) - beside.amin(0)).max()) > JUMP * size
    return (least, largest) if jumps and least - VERIFIED * size <= entry.analytic <= largest + VERIFIED * size else None


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


def only_rounded(function: RealFunction, entry: Entry, distinct: bool = False) -> Entry | None:
    """The entry, its difference taken anew, if its two numbers differ by no more than rounding may make of them.

    `distinct`: what scatters does so by numbers no two of which are alike: of tied numbers a wrong gradient has one of a few.
    """
    if entry.below is not None or not entry.difference < torch.inf:
        return None
    return _agreeing(function, entry) or (entry if _scatters(function, entry, distinct) else None)


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


def _scatters(function: RealFunction, entry: Entry, distinct: bool) -> bool:
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
    found.sort()
    spread, nearest = found[-1] - found[0], min(above - below for below, above in pairwise(found))
    return spread > entry.difference / 4 and (nearest > SAME * spread or not distinct)
