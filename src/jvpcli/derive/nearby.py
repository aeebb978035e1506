"""Looking around the point: sampled structure, and kinks.

What holds at one point may be an accident (the derivative of x² is zero at 0).  Small problems are therefore looked
at from points nearby too: a little off in a random direction for the structure, a few roundings off to both sides
for kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.derive.vjp import vjp

Named = Mapping[str, Tensor]

Rerun = Callable[[Named], tuple[Named, Named]]
"""Evaluates the same program at other values of the differentiated inputs; gives the new leaves and the outputs."""

STEP_IN_ROUNDINGS = 256
"""How far the two sides of a kink are looked at, in units of the dtype's rounding: as near as values differ at all."""

JUMP = 1e-3
"""A gradient that changes by more than this part of its size over a few roundings jumps."""


@dataclass(frozen=True)
class Kink:
    """A place where the one-sided derivatives differ: the input entry whose gradient jumps most, and its value."""

    input: str
    index: tuple[int, ...]
    value: float


def direction(x: Tensor, seed: int) -> Tensor:
    """Random signs times different numbers in [0.5, 1): every entry moves, and no two alike; the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    count = x.numel()
    size = 0.5 + torch.randperm(count, generator=generator, dtype=torch.float64) / (2 * max(count, 1))
    step = (size * (torch.randint(0, 2, (count,), generator=generator) * 2 - 1)).reshape(x.shape)
    if x.is_complex():
        step = torch.complex(step, step.flip(0) if step.dim() else -step)
    return step.to(dtype=x.dtype, device=x.device)


def moved(inputs: Named, relative: float, seed: int) -> dict[str, Tensor]:
    """New values, each entry `relative` of its size away (of 1 where it is zero), in a random direction."""
    points = {}
    for number, (name, x) in enumerate(inputs.items()):
        x = x.detach()
        scale = torch.where(x == 0, torch.ones_like(x.abs()), x.abs())
        points[name] = x + relative * scale * direction(x, seed + number)
    return points


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


def generic_gradient(rerun: Rerun, points: Named) -> list[Tensor]:
    """The VJP of all outputs at once at other values of the inputs, for random cotangents: nothing cancels in it."""
    leaves, outputs = rerun(points)
    totals = [torch.zeros_like(leaf).detach() for leaf in leaves.values()]
    for seed, y in enumerate(outputs.values()):
        if y.requires_grad:
            gradients = vjp(y, direction(y.detach(), 100 + seed), list(leaves.values()))
            totals = [t if g is None else t + g for t, g in zip(totals, gradients, strict=True)]
    return totals


def find_kink(rerun: Rerun, inputs: Named) -> Kink | None:
    """The worst kink at the point, or None.

    A smooth function's gradient changes in proportion to the step; a jump stays the same when the step grows, and
    that is what tells a kink from a steep slope.
    """
    eps = max((torch.finfo(x.dtype).eps for x in inputs.values()), default=1.0)
    if eps > 1e-4:  # half precision: its roundings are too coarse to tell the two apart
        return None
    step = STEP_IN_ROUNDINGS * eps
    below, above = (generic_gradient(rerun, moved(inputs, sign * step, seed=1)) for sign in (-1, 1))
    jumps = [_jump(*pair) for pair in zip(below, above, strict=True)]
    size = max((_largest(g) for g in (*below, *above)), default=0.0)
    if not any(_largest(jump) > JUMP * size for jump in jumps):
        return None
    wider = [generic_gradient(rerun, moved(inputs, 4 * sign * step, seed=1)) for sign in (-1, 1)]
    found = None
    worst = JUMP * size
    for number, (name, jump) in enumerate(zip(inputs, jumps, strict=True)):
        stays = _jump(wider[0][number], wider[1][number]) < 2 * jump
        lasting = torch.where(stays, jump, torch.zeros_like(jump))
        if _largest(lasting) > worst:
            found, worst = (name, int(lasting.argmax())), _largest(lasting)
    if found is None:
        return None
    name, place = found
    x = inputs[name].detach()
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), x.shape)) if x.dim() else ()
    return Kink(name, index, float(torch.real(x.reshape(-1)[place])))


def _jump(below: Tensor, above: Tensor) -> Tensor:
    """|above − below|; zero where either is not finite, since nothing can be said there."""
    return torch.nan_to_num((above - below).abs(), nan=0.0, posinf=0.0, neginf=0.0)


def _largest(values: Tensor) -> float:
    values = torch.nan_to_num(values.abs(), nan=0.0, posinf=0.0)
    return float(values.max()) if values.numel() else 0.0
