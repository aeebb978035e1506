"""Looking around the point: sampled structure, and kinks.

What holds at one point may be an accident (the derivative of x² is zero at 0).  Small problems are therefore looked
at from points nearby too: a little off in a random direction for the structure, a few roundings off to both sides
for kinks.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import LinearMap, as_numpy
from jvpcli.jacobians.operations import coarsest_rounding, is_regular
from jvpcli.jacobians.passes import vjp
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Named, Problem

STEP_IN_ROUNDINGS = 256
"""How far the two sides of a kink are looked at, in units of the dtype's rounding: as near as values differ at all."""

JUMP = 1e-3
"""A gradient that changes by more than this part of its size over a few roundings jumps."""

ROUNDINGS = 64
"""A jump is more than so many roundings of Σ |v·y| divided by |x|."""

TINY = 16
"""Of so few entries Python takes less time than numpy does to begin."""

FEW = 1024
"""Of so few entries random steps are remembered, as small problems are looked around often, and numpy takes less time."""


Sides = tuple[list[Tensor], list[Tensor]]
"""Generic gradients a few roundings to both sides of the point; none where the operations tell that they are the same."""


@dataclass(frozen=True)
class Kink:
    """A place where the one-sided derivatives differ: the input entry whose gradient jumps most, and its value."""

    input: str
    index: tuple[int, ...]
    value: float


def direction(x: Tensor, seed: int) -> Tensor:
    """Random signs times different numbers in [0.5, 1): every entry moves, and no two alike; the same for a seed.

    The numbers are random within their parts of the interval: evenly spaced ones add up to zero, or to each other.
    """
    steps = _few_steps if x.numel() <= FEW else _steps
    return steps(x.shape, x.dtype, x.device, seed)


def _steps(shape: torch.Size, dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    generator, count = torch.Generator().manual_seed(seed), shape.numel()

    def drawn() -> Tensor:
        place = torch.randperm(count, generator=generator, dtype=torch.float64)
        size = 0.5 + (place + torch.rand(count, generator=generator, dtype=torch.float64)) / (2 * max(count, 1))
        return (size * (torch.randint(0, 2, (count,), generator=generator) * 2 - 1)).reshape(shape)

    step = drawn()
    if dtype.is_complex:  # each part by itself: what is regular may cancel in a Fourier transform
        step = torch.complex(step, drawn())
    return step.to(dtype=dtype, device=device)


_few_steps = lru_cache(maxsize=64)(_steps)


def moved(inputs: Named, relative: float, seed: int) -> dict[str, Tensor]:
    """New values, each entry `relative` of its size away (of 1 where it is zero), in a random direction."""
    points = {}
    for number, (name, x) in enumerate(inputs.items()):
        points[name] = x.detach() + _step(x.detach(), relative, seed + number)
    return points


def _step(x: Tensor, relative: float, seed: int) -> Tensor:
    """For each entry `relative` of its size (of 1 where it is zero), in a random direction."""
    scale = x.abs()
    return relative * torch.where(scale == 0, 1, scale) * direction(x, seed)


def sampled(inputs: Named, relative: float, seed: int) -> dict[str, Tensor]:
    """New values, each entry's size changed by about `relative` of itself; zeros become positive.

    Signs stay, so that roots and logarithms are not left.
    """
    points = {}
    for number, (name, x) in enumerate(inputs.items()):
        x = x.detach()
        size = direction(x, seed + number).abs().to(x.dtype)
        points[name] = torch.where(x == 0, abs(relative) * size, x * (1 + relative * size))
    return points


def ahead(inputs: Named, seed: int) -> dict[str, Tensor]:
    """New values, random in [0.5, 1): the same for all points; complex numbers of any angle."""
    steps = {name: direction(x.detach(), seed + number) for number, (name, x) in enumerate(inputs.items())}
    return {name: step if step.is_complex() else step.abs() for name, step in steps.items()}


def elsewhere(inputs: Named, seed: int) -> dict[str, Tensor]:
    """New values, as `ahead`, with the signs that real ones have at the point; zeros become positive.

    Where a function has flattened out or overflows at the point, it does not there.
    """
    return {
        name: point if point.is_complex() else torch.where(inputs[name].detach() < 0, -point, point)
        for name, point in ahead(inputs, seed).items()
    }


def others(problem: Problem) -> list[Evaluation]:
    """The function at other points: those that it can be evaluated at.  Code of the user's own runs at two of them."""
    inputs, found = problem.leaves, []
    opposite = {name: -x for name, x in elsewhere(inputs, seed=11).items()}
    mixed = [{name: size * direction(x.detach(), seed) for name, x in inputs.items()} for seed, size in ((12, 1), (13, 32))]
    for place in (opposite, elsewhere(inputs, seed=7), *([] if problem.is_own else mixed)):
        with suppress(Exception):  # whatever the function raises off the point tells nothing
            found.append(problem.at(place))
    return found


def generic_gradient(problem: Problem, points: Named) -> list[Tensor]:
    """The VJP of all outputs at once at other values of the inputs, for random cotangents: nothing cancels in it."""
    there = problem.at(points)
    leaves = list(there.leaves.values())
    totals = [torch.zeros_like(leaf).detach() for leaf in leaves]
    for y, weight in weighted(there.outputs):
        gradients = vjp(y, weight, leaves)
        totals = [t if g is None else t + g for t, g in zip(totals, gradients, strict=True)]
    return totals


def cotangents_for_kinks(outputs: Named) -> list[Tensor]:
    """A random cotangent for each output."""
    return [direction(y.detach(), 100 + seed) for seed, y in enumerate(outputs.values())]


def weighted(outputs: Named) -> list[tuple[Tensor, Tensor]]:
    """The outputs that are differentiated, each with its random cotangent."""
    reached = {name: y for name, y in outputs.items() if y.requires_grad}
    return list(zip(reached.values(), cotangents_for_kinks(reached), strict=True))


def step_for_kinks(inputs: Named, coarsest: float = 0.0) -> float | None:
    """How far to both sides kinks are looked for; None in half precision, whose roundings are too coarse to tell.

    `coarsest` is the rounding of what is on the way, where that may be coarser than the inputs.
    """
    eps = max(coarsest, _rounding_of(inputs))
    return None if eps > 1e-4 else STEP_IN_ROUNDINGS * eps


def _rounding_of(inputs: Named) -> float:
    return max((torch.finfo(x.dtype).eps for x in inputs.values()), default=1.0)


def two_sides(inputs: Named) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The points a few roundings of the inputs to both sides."""
    relative, below, above = step_for_kinks(inputs) or 0.0, {}, {}
    for number, (name, x) in enumerate(inputs.items()):
        x = x.detach()
        step = _step(x, relative, 1 + number)
        below[name], above[name] = x - step, x + step
    return below, above


def generic_sides(problem: Problem, known: Sides | None = None) -> Sides | None:
    """Generic gradients to both sides of the point, `known` or computed; None where roundings are too coarse to tell."""
    _, coarser, step = problem.once("kinks", lambda: _sight(problem))
    if step is None:
        return None
    if known is None and not (problem.is_own or problem.decided) and is_without_kinks(problem):
        known = [], []
    if known is None or coarser:  # what is coarser on the way is a staircase from nearer by
        below, above = (generic_gradient(problem, moved(problem.leaves, sign * step, seed=1)) for sign in (-1, 1))
        return below, above
    return known


def is_without_kinks(problem: Problem) -> bool:
    """Whether the operations tell that derivatives are continuous wherever they are finite, if the same ones run."""
    return not problem.weighed and all(map(is_regular, map(problem.below, problem.differentiable)))


def is_uneven(problem: Problem, maps: Mapping[tuple[str, str], LinearMap], sides: Sides) -> bool:
    """Whether a generic gradient by the maps at the point seems another than those to both sides, while these are alike."""
    leaves = problem.leaves
    reached = {name: y for name, y in problem.evaluation.outputs.items() if y.requires_grad}
    if not all((y, x) in maps for y in reached for x in leaves):
        return False
    weights = dict(zip(reached, cotangents_for_kinks(reached), strict=True))
    size = max((largest(g) for g in (*sides[0], *sides[1])), default=0.0)
    for x, below, above in zip(leaves, *sides, strict=False):
        here = sum((maps[y, x].pullback(weight) for y, weight in weights.items()), torch.zeros_like(below))
        if largest(torch.minimum(_jump(below, here), _jump(here, above))) > JUMP * size:
            return True
    return False


def find_kink(problem: Problem, sides: Sides) -> Kink | None:
    """The worst kink at the point, or None.

    A smooth function's gradient changes in proportion to the step; a jump stays the same when the step grows, and
    that is what tells a kink from a steep slope.  `sides` are the generic gradients on both sides.
    """
    inputs, (eps, _, step), (below, above) = problem.leaves, problem.once("kinks", lambda: _sight(problem)), sides
    size = max((largest(g) for g in (*below, *above)), default=0.0)
    if step is None or not any(largest(b - a) > JUMP * size for a, b in zip(below, above, strict=True)):
        return None
    jumps = [_jump(*pair) for pair in zip(below, above, strict=True)]
    floors = _roundings(problem, eps)
    wider = [generic_gradient(problem, moved(inputs, 4 * sign * step, seed=1)) for sign in (-1, 1)]
    found = None
    worst = JUMP * size
    for number, (name, jump) in enumerate(zip(inputs, jumps, strict=True)):
        stays = _jump(wider[0][number], wider[1][number]) < 2 * jump
        lasting = torch.where(stays & (jump > floors[number]), jump, torch.zeros_like(jump))
        if largest(lasting) > worst:
            found, worst = (name, int(lasting.argmax())), largest(lasting)
    if found is None:
        return None
    name, place = found
    x = inputs[name].detach()
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), x.shape)) if x.dim() else ()
    return Kink(name, index, float(torch.real(x.reshape(-1)[place])))


def coarsest(problem: Problem) -> float:
    """The rounding of the coarsest floating dtype that a problem's gradients pass through."""
    tensors = (*problem.differentiable.values(), *problem.leaves.values())
    return problem.once("rounding", lambda: coarsest_rounding(tensors, map(problem.below, problem.differentiable)))


def _sight(problem: Problem) -> tuple[float, bool, float | None]:
    """The coarsest rounding of inputs and operations, whether it is an operation's, and how far kinks are looked for."""
    own, on_the_way = _rounding_of(problem.leaves), coarsest(problem)
    return max(own, on_the_way), on_the_way > own, step_for_kinks(problem.leaves, on_the_way)


def _roundings(problem: Problem, eps: float) -> list[Tensor]:
    """What rounding may make of each entry of the gradient: a derivative of nothing but rounding jumps about as it likes."""
    terms = [(y.detach() * v).abs().sum() for y, v in weighted(problem.evaluation.outputs)]
    size = sum(float(term) for term in terms if term.isfinite())
    floors = []
    for x in problem.leaves.values():
        scale = x.detach().abs()
        floors.append(ROUNDINGS * eps * size / torch.where(scale == 0, 1, scale))
    return floors


def _jump(below: Tensor, above: Tensor) -> Tensor:
    """|above − below|; zero where either is not finite, since nothing can be said there."""
    return torch.nan_to_num((above - below).abs(), nan=0.0, posinf=0.0, neginf=0.0)


def largest(values: Tensor) -> float:
    """The largest finite absolute value; 0 for none."""
    if not values.numel():
        return 0.0
    if values.numel() <= TINY and all(map(cmath.isfinite, numbers := _numbers(values))):
        return float(max(map(abs, numbers)))
    found = float(np.abs(as_numpy(values)).max() if values.numel() <= FEW else values.abs().max())
    return found if math.isfinite(found) else float(torch.nan_to_num(values.abs(), nan=0.0, posinf=0.0).max())


def all_finite(values: Tensor) -> bool:
    """Whether no entry is NaN or infinite: of many nearly always told by the sum alone."""
    if values.numel() <= TINY:
        return all(map(cmath.isfinite, _numbers(values)))
    if values.numel() <= FEW:
        return bool(np.isfinite(as_numpy(values)).all())
    values = values.float() if values.element_size() == 1 else values
    summed = values.dtype is not torch.complex32 and cmath.isfinite(values.sum().item())  # which torch cannot add up
    return summed or bool(values.isfinite().all())


def _numbers(values: Tensor) -> list[complex]:
    """The entries of few values, as Python has them."""
    if values._is_zerotensor():  # autograd's zeros without memory, which `tolist` cannot take
        values = values.clone()
    found: list[complex] = values.reshape(-1).tolist()
    return found
