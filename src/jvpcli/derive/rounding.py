"""Is a difference between autograd and finite differences only rounding?

Both numbers are rounded: the differences by the scatter of the function's values, autograd's by the steps that it goes
through.  Two things are looked at before a difference is believed: what the roundings of all steps on the way may make of
an output (to first order, by its derivatives to the steps' results), and how far autograd's own number scatters when
the inputs change by a few roundings.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.derive.compare import AGREES, Entry, entry_at
from jvpcli.derive.differences import SAFETY
from jvpcli.derive.vectors import Layout, RealFunction
from jvpcli.derive.vjp import vjp

NEIGHBOURS = 4
"""Points around the one that is checked at which autograd's number is looked at."""

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
    """The entry if it agrees with its difference when the steps' roundings are counted."""
    allowed = rounding_of(function, entry.row)
    if not allowed > float(function.noise[entry.row]):
        return None
    noise = function.noise.clone()
    noise[entry.row] = allowed
    aware = replace(function, noise=noise)
    kind, found = entry_at(aware, entry.row, entry.column, entry.analytic, SAFETY * allowed)
    return found if kind == AGREES else None


def _scatters(function: RealFunction, entry: Entry) -> bool:
    """Whether autograd's number is one of many: a few roundings away it is as far from this one as the difference."""
    onehot = torch.zeros_like(function.y)
    onehot[entry.row] = 1
    generator = torch.Generator().manual_seed(entry.row + entry.column)
    found = []
    for _ in range(NEIGHBOURS):
        by = torch.rand(function.n, generator=generator, dtype=torch.float64) - 0.5
        rounding = torch.cat([
            torch.full((size,), torch.finfo(dtype).eps, dtype=torch.float64)
            for size, dtype in zip(function.inputs.sizes, function.inputs.dtypes, strict=True)
        ])  # fmt: skip
        points = function.inputs.split(function.x * (1 + FEW_ROUNDINGS * rounding * by))
        try:
            found.append(float(function.pullback(onehot, function.evaluate(points))[entry.column]))
        except Exception:  # whatever the function raises off the point
            return False
    if float(function.pullback(onehot)[entry.column]) != entry.analytic:  # a backward that is not repeatable
        return False
    return max(found) - min(found) > entry.difference / 4
