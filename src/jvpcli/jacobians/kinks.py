"""What a function of one number does at a place where its derivative jumps: told from both sides, by derivatives and values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from jvpcli.jacobians.nearby import (
    Kink,
    generic_gradient,
    largest,
    moved,
    step_for_kinks,
    two_sides,
    weighted,
)
from jvpcli.jacobians.passes import vjp
from jvpcli.language.operations import can_require_grad
from jvpcli.problem import Named, Problem

LASTING = 0.5
"""A jump of a derivative over a small distance is at least this part of the jump over a far larger one."""

NEAR = 0.125
"""Slopes that differ by less than this part of the jump are the same."""

ROUNDINGS = 64
"""A difference of so many roundings is none."""

SEEDS = (1, 2, 3)
"""Of the directions along which a jump is looked for that no entry alone makes."""

SAME = 0.1
"""Jumps that differ by at most this part of their size are one; those of rounding differ more."""

MOST_MOVED = 64
"""Entries that are moved one by one to find the one at which the outputs jump."""

ASIDE = 2.0**-20
"""How far aside of a point a smooth function's derivatives are looked at in double precision, as a part of the entries."""

CLEARLY = 0.01
"""The part of the largest derivative by which one that is wrong differs at least."""

KINK, STEP, JUMP = "kink", "step", "jump"


def bends(look: Callable[[float], tuple[float, float]], size: float, relative: float, rounding: float) -> str | None:
    """What happens at a place: KINK, STEP (the value itself jumps), or None where neither was seen.

    Args:
        look: (value, derivative) at an offset from the place.
        size: of the number at the place; 1 for 0.
        relative: a small offset, as a part of that; a far larger one is looked at too, since a jump is at both and a steep slope
            is not.
        rounding: how far roundings may carry the values.
    """
    distance, wide = relative * size, relative**0.5 * size
    value, _ = look(0.0)
    low, below = look(-wide)
    high, above = look(wide)
    near = [look(-distance), look(distance)]
    if math.isfinite(value) and math.isfinite(low) != math.isfinite(high):  # to the one side there is no value
        closely, away = (near[0][0], low) if math.isfinite(low) else (near[1][0], high)
        return STEP if abs(closely - value) > max(rounding, LASTING * abs(away - value)) else None
    if not all(map(math.isfinite, (value, low, below, high, above, *near[0], *near[1]))):
        return None
    rise = abs(near[1][0] - near[0][0])
    if rise > rounding and rise > LASTING * abs(high - low):
        return STEP
    jump = abs(above - below)
    if abs(near[1][1] - near[0][1]) <= LASTING * jump or rounding > NEAR * jump * wide:
        return None
    same = abs((value - low) / wide - below) <= NEAR * jump and abs((high - value) / wide - above) <= NEAR * jump
    return KINK if same and jump else None


def what_happens(problem: Problem, kink: Kink) -> str | None:
    """What a problem's outputs do at a place where their gradient jumps.

    Returns:
        KINK or STEP: they do so when the entry alone is moved; JUMP: it takes other entries too; None: here or to one side there
        are no finite values, or nothing jumps but rounding.

    Raises:
        JvpError, RuntimeError: the program refuses points nearby.
    """
    if not all(math.isfinite(_look(problem, points, kink)[0]) for points in ({}, *two_sides(problem.leaves))):
        return None
    found = _alone(problem, kink)
    if found is not None:
        return found
    double = problem.in_double()
    # what jumps between two numbers of a coarse precision need not jump at this one
    jumps = (_jumps(problem, kink, seed) and _jumps(double, kink, seed) for seed in SEEDS)
    return _alone(double, kink) or (JUMP if any(jumps) else None)


def failed_formula(problem: Problem) -> tuple[str, tuple[int, ...]] | None:
    """An input entry by which the derivatives to both sides of the point are alike, and autograd's at the point is another.

    Raises:
        JvpError, RuntimeError: the program refuses points nearby.
    """
    double = problem.in_double()
    sides = [generic_gradient(double, moved(double.leaves, sign * ASIDE, seed=1)) for sign in (-1, 1)]
    here = generic_gradient(problem, problem.leaves)
    for (name, x), below, above, found in zip(problem.leaves.items(), *sides, here, strict=True):
        size = max(largest(below), largest(above))
        off = torch.where((above - below).abs() < CLEARLY / 10 * size, (found - below).abs(), 0.0)
        if largest(off) > CLEARLY * size:
            place = torch.unravel_index(off.reshape(-1).argmax(), x.shape) if x.dim() else ()
            return name, tuple(int(i) for i in place)
    return None


def find_uneven(problem: Problem) -> Kink | None:
    """An entry by which the function has a derivative at the point, by its values to both sides, and autograd's is another.

    So it is where choices at kinks on the way do not add up: of relu(x) - relu(-x), which is x, autograd gives 0 at 0.

    Raises:
        JvpError, RuntimeError: the program refuses points nearby.
    """
    place = failed_formula(problem)
    if place is None:
        return None
    name, index = place
    x = problem.leaves[name].detach()
    kink = Kink(name, index, float(x[index].real))
    distance = ASIDE * (float(x[index].abs()) or 1.0)
    points = [x.clone(memory_format=torch.contiguous_format) for _ in range(3)]
    for point, offset in zip(points, (-distance, 0.0, distance), strict=True):
        point[index] += offset
    (low, below), (value, here), (high, above) = (_look(problem, {name: point}, kink) for point in points)
    slopes, size = ((value - low) / distance, (high - value) / distance), max(abs(below), abs(above))
    is_smooth = max(abs(slope - below) for slope in (*slopes, above)) <= CLEARLY * size
    return kink if is_smooth and abs(here - below) > 2 * CLEARLY * size else None


def resized(problem: Problem) -> dict[str, object] | None:
    """The name of an output whose shape is another to a side of the point, that shape (`there`), and the one `here`; or None.

    Raises:
        JvpError, RuntimeError: the program refuses points nearby.
    """
    here = problem.evaluation.outputs
    for points in two_sides(problem.leaves):
        for name, y in problem.at(points).outputs.items():
            if name in here and y.shape != here[name].shape:
                return {"name": name, "here": tuple(here[name].shape), "there": tuple(y.shape)}
    return None


def find_leap(problem: Problem) -> Kink | None:
    """An entry at which the outputs themselves jump, though their derivatives may not, as at a floor's; None: none was seen.

    Raises:
        JvpError, RuntimeError: the program refuses points nearby.
    """
    leaves, relative = problem.leaves, step_for_kinks(problem.leaves)
    if relative is None:
        return None
    ways = [leaves, *([{name: x} for name, x in leaves.items()] if len(leaves) > 1 else [])]
    heights = ((_height(problem, way, relative), _height(problem, way, relative**0.5)) for way in ways)
    if not any(near > LASTING * wide and near > _rounding(problem) for near, wide in heights):
        return None
    places = [Kink(name, tuple(place), float(x.detach()[tuple(place)].real)) for name, x in leaves.items()
              for place in torch.ones(x.shape).nonzero()[:MOST_MOVED].tolist()]  # fmt: skip
    return next((place for place in places[:MOST_MOVED] if _alone(problem, place) == STEP), None)


def _height(problem: Problem, inputs: Named, relative: float) -> float:
    """How far the outputs are apart when these inputs go to both sides; from here, where there are values to one side alone."""
    values = [_value(problem, moved(inputs, by, seed=1)) for by in (-relative, relative)]
    finite = [value for value in values if math.isfinite(value)]
    below, above = values if len(finite) == 2 else (*finite[:1], _value(problem, problem.leaves)) if finite else (0.0, 0.0)
    return abs(above - below)


def _value(problem: Problem, points: Named) -> float:
    """All outputs that are differentiated added up with random weights."""
    return sum(float((y.detach() * weight.conj()).sum().real) for y, weight in weighted(problem.at(points).outputs))


def _jumps(problem: Problem, kink: Kink, seed: int) -> bool:
    """Whether the gradient to the entry jumps along a random direction: by the same, however near one looks."""
    step = step_for_kinks(problem.leaves) or 0.0
    jumps = []
    for distance in (step, 4 * step, 16 * step):
        below, above = (_look(problem, moved(problem.leaves, s * distance, seed), kink)[1] for s in (-1, 1))
        jumps.append(above - below)
    floor = _rounding(problem) / (abs(kink.value) or 1.0)
    return abs(jumps[0]) > floor and max(abs(jump - jumps[0]) for jump in jumps) <= SAME * abs(jumps[0])


def _alone(problem: Problem, kink: Kink) -> str | None:
    """KINK or STEP, where it is seen with the entry alone moved."""
    leaves = problem.leaves
    relative, x = step_for_kinks(leaves), leaves[kink.input].detach()
    if relative is None:
        return None

    def look(offset: float, way: complex) -> tuple[float, float]:
        there = x.clone(memory_format=torch.contiguous_format)
        there[kink.index] += offset * way
        return _look(problem, {kink.input: there}, kink, way)

    size = float(x[kink.index].abs()) or 1.0
    found = (bends(partial(look, way=way), size, relative, _rounding(problem)) for way in ((1, 1j) if x.is_complex() else (1,)))
    return next(filter(None, found), None)


def _rounding(problem: Problem) -> float:
    """How far roundings may carry the outputs: of the largest number that they are computed from."""
    evaluation = problem.evaluation
    tensors = (*evaluation.values.values(), *evaluation.inputs.values(), *evaluation.outputs.values())
    sizes = [
        largest(t.detach()) for t in tensors if isinstance(t, Tensor) and can_require_grad(t)
    ]
    eps = max(torch.finfo(leaf.dtype).eps for leaf in problem.leaves.values())
    return ROUNDINGS * eps * max(sizes, default=0.0)


def _look(problem: Problem, points: Named, kink: Kink, way: complex = 1) -> tuple[float, float]:
    """All outputs added up with random weights, and the derivative of that to the kink's entry, or (1j) its imaginary part."""
    there = problem.at(points)
    value = slope = 0.0
    for y, weight in weighted(there.outputs):
        value += float((y.detach() * weight.conj()).sum().real)
        (gradient,) = vjp(y, weight, [there.leaves[kink.input]])
        slope += 0.0 if gradient is None else float((gradient[kink.index] * complex(way).conjugate()).real)
    return value, slope
