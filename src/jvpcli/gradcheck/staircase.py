"""Staircases: the derivative is zero, or there is none, and the value follows the input all the same.

`torch.round(x)` has a true derivative of zero, which no difference contradicts.  So the inputs are moved further than a
stair is wide, and the step's result is nudged to see whether it is used as a number: what does both loses a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from jvpcli.gradcheck.causes import Reason, moved, placed, told, value_with
from jvpcli.gradcheck.compare import Entry, halved
from jvpcli.gradcheck.losses import CUT, DECISION, ROUNDING, UNSEEN, Loss
from jvpcli.gradcheck.vectors import RealFunction
from jvpcli.jacobians.passes import vjp
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad

WIDE_STEPS = ((1.0, 0), (4.0, 0), (32.0, 0), (1024.0, 0), (1.0, 1), (8.0, 1))
"""How far inputs are moved to see a staircase: by a number, or by a number times their size."""

NUDGE = 2.0**-10
"""How much a step's result is changed to see whether it is used as a number."""


def silent_loss(function: RealFunction, jacobian: Tensor | None) -> Reason | None:
    """A step through which the output follows the input although no derivative shows it, or None.

    Small differences agree with autograd.  The derivative is rightly zero where torch differentiates the step (a floor, a
    sign), or nothing but a gradient (of a maximum) ends the graph; a cast to integers or a comparison breaks it.

    That is a rounding whose result is used as a number (not as an index or a mask, and not as x − floor(x)); or, where
    no gradient flows from an output to an input at all, whatever cuts it.
    """
    losses = placed(function)
    for loss in losses:
        choice = loss.kind == DECISION and loss.rightly and jacobian is not None and not bool((jacobian != 0).any())
        candidate = (loss.kind == ROUNDING and not loss.remainder) or choice
        if candidate and used_as_number(function, loss):
            found = _wide_effect(function, {loss.position: loss.value})
            if found is not None:
                entry, over = _secant(function, jacobian, *found)
                return told(loss.kind, loss, function.evaluation, entry=entry, over=over, rightly=loss.rightly)
    return _disconnected(function, losses) if losses else None


def used_as_number(function: RealFunction, loss: Loss) -> bool:
    """Whether a small change of a step's result changes the output in proportion."""

    def nudged(by: float) -> Tensor:
        change = {loss.position: lambda value: _plus(value, by)}
        return value_with(function, function.x, change) - function.y

    nudge = 1 if loss.name in ("__int__", "__index__") else NUDGE  # Python takes nothing but whole numbers from those
    once, twice = nudged(nudge), nudged(2 * nudge)
    smooth = (once.abs() > 100 * function.noise) & ((twice - 2 * once).abs() <= 0.2 * once.abs())
    return bool(smooth.any())


def _plus(value: Any, by: float) -> Any:
    if isinstance(value, Tensor):
        return value.detach() + by if can_require_grad(value) else value.to(torch.float64) + by
    if isinstance(value, (list, tuple)):
        return type(value)(_plus(item, by) for item in value)
    return value + by


def _wide_effect(
    function: RealFunction,
    held: Mapping[int, Any],
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> tuple[int, int, float] | None:
    """Row, column and step at which moving one input entry changes an output through the results that are held."""

    def effect(part: Tensor, steps: Tensor) -> Tensor:
        x = function.x.clone()
        x[part] += steps[part]
        without = value_with(function, x, held) if held else function.y
        change = (function.value(x) - without).abs()[rows]
        return torch.where(change.isfinite() & (change > 100 * function.noise[rows]), change, 0.0)

    everything = torch.arange(function.n)[columns]
    for t, power in WIDE_STEPS:
        for sign in (1.0, -1.0):
            steps = sign * t * function.x.abs().clamp(min=1.0) ** power
            if not bool((effect(everything, steps) > 0).any()):
                continue

            def largest_effect(part: Tensor, steps: Tensor = steps) -> float:
                return float(effect(part, steps).max())

            column = halved(everything, largest_effect)
            change = effect(torch.tensor([column]), steps)
            if bool((change > 0).any()):
                return int(change.argmax()) + (rows.start or 0), column, float(steps[column])
    return None


def _secant(function: RealFunction, jacobian: Tensor | None, row: int, column: int, step: float) -> tuple[Entry, float]:
    """The difference over a wide step, central where there are both sides."""
    after, before = (float(function.value(moved(function, column, s * step))[row]) for s in (1, -1))
    here = float(function.y[row])
    slopes = [(after - here) / step, (here - before) / step]
    slopes = [slope for slope in slopes if slope == slope]
    numeric = sum(slopes) / len(slopes)
    analytic = function.entry(row, column) if jacobian is None else float(jacobian[row, column])
    return Entry(row, column, analytic, numeric), abs(step)


def _disconnected(function: RealFunction, losses: list[Loss]) -> Reason | None:
    """An output that no gradient connects with an input, and that moves with it all the same."""
    evaluation = function.evaluation
    outputs, inputs = function.outputs.slices(), function.inputs.slices()
    carried = [name for name, y in evaluation.outputs.items() if y.requires_grad]
    for name, y in evaluation.outputs.items():
        whole = not can_require_grad(y)
        if whole and carried:  # the indices beside the values of max, sort, topk
            continue
        for x in _unreached(y, evaluation):
            found = _wide_effect(function, {}, outputs[name], inputs[x])
            if found is None:
                continue
            row, column, step = found
            point = moved(function, column, step)
            free = function.value(point)[row]
            effects = [
                float((value_with(function, point, {loss.position: loss.value})[row] - free).abs())
                for loss in losses
            ]
            culprit = losses[next((i for i, effect in enumerate(effects) if effect > 0), 0)]
            entry, over = _secant(function, None, row, column, step)
            rightly = culprit.kind in (CUT, UNSEEN) or culprit.rightly
            return told(culprit.kind, culprit, evaluation, entry=entry, over=over, rightly=rightly)
    return None


def _unreached(y: Tensor, evaluation: Evaluation) -> list[str]:
    """The differentiated inputs that no gradient reaches from an output."""
    if not y.requires_grad:
        return list(evaluation.wrt)
    gradients = vjp(y, torch.zeros_like(y), list(evaluation.leaves.values()))
    return [name for name, gradient in zip(evaluation.wrt, gradients, strict=True) if gradient is None]
