"""Why autograd's number differs: which step cuts the graph, which branch makes a NaN, which step has a kink.

Each explanation is tried before it is given: a cut explains a difference if the difference is gone when the results of
the cuts are held fast.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jvpcli.gradcheck.compare import Entry
from jvpcli.gradcheck.differences import quick_step, scales
from jvpcli.gradcheck.losses import CUT, UNSEEN, Call, Loss, Record, Watch, equation_of
from jvpcli.gradcheck.vectors import RealFunction
from jvpcli.jacobians.nearby import direction
from jvpcli.jacobians.operations import is_regular
from jvpcli.jacobians.passes import vjp
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.readings import nodes_below
from jvpcli.program import Equation, Program, file_called

MASKS = frozenset({"where", "masked_fill", "masked_fill_", "nan_to_num", "nan_to_num_", "nansum", "nanmean"})
"""Functions that leave out entries of what they take, but send a zero cotangent there."""

MASKED, INNER_KINK, BACKWARD = "masked", "inner_kink", "backward"


def reason_for(function: RealFunction, entry: Entry) -> Reason:
    """Why autograd's number at an entry differs from the differences."""
    if not abs(entry.analytic) < torch.inf:
        masked = masked_step(function, entry.column)
        if masked is not None:
            return masked
    cut = _cut(function, entry, placed(function))
    if cut is not None:
        return cut
    steps = function.evaluation.functions  # of a recorded program, hooks among them
    hooked = function.evaluation.hooked or any(".register_hook" in name for name in steps)
    chosen = None if math.isnan(entry.analytic) else kinked_step(function, entry)  # NaN is no choice at a kink
    # by a hook a result that no gradient comes back from may be meant so
    return chosen or (None if hooked else _swallowed(function, entry)) or Reason(BACKWARD)


# Cuts


def _cut(function: RealFunction, entry: Entry, losses: list[Loss]) -> Reason | None:
    """The cut that explains a difference: with all results held fast the differences give autograd's number."""
    held = {loss.position: loss.value for loss in losses}
    if not held:
        return None
    gap = abs(entry.numeric - entry.analytic)
    if not abs(_derivative(function, entry, held) - entry.analytic) <= 1e-3 * gap + entry.error:
        return None
    effects = {
        loss.position: abs(_derivative(function, entry, {loss.position: loss.value}) - entry.numeric)
        for loss in losses
    }
    culprit = max(losses, key=lambda loss: (effects[loss.position] > 1e-3 * gap, -loss.position))
    return told(UNSEEN if culprit.kind == UNSEEN else CUT, culprit, function.evaluation)


def _derivative(function: RealFunction, entry: Entry, replaced: Mapping[int, Any]) -> float:
    """∂y_row/∂x_column by a central difference, with some results replaced."""
    t = quick_step(function.eps) * float(scales(function)[entry.column])
    before, after = (value_with(function, moved(function, entry.column, s * t), replaced) for s in (-1, 1))
    return float((after - before)[entry.row]) / (2 * t)


# NaN from a branch that is not taken, and kinks on the way


def masked_step(function: RealFunction, column: int) -> Reason | None:
    """The step that leaves entries out whose backward makes NaN of a zero cotangent, in a column: 0 times ∞ or NaN."""
    record = Record(function.problem.files)
    with record:
        evaluation = function.problem.at()
    leaves = list(evaluation.leaves.values())
    for call in record.calls:
        if call.name not in MASKS:
            continue
        for operand in call.operands:
            pulled = function.inputs.join(vjp(operand, torch.zeros_like(operand), leaves))
            if bool(pulled[column].isnan()):
                return told(MASKED, call, evaluation)
    return None


def _swallowed(function: RealFunction, entry: Entry) -> Reason | None:
    """The call whose own derivative autograd takes as zero anywhere, though its result follows the input: a random sample."""
    t = quick_step(function.eps) * float(scales(function)[entry.column])
    record = Record(function.problem.files)
    with record:
        evaluation = function.problem.at()
    leaves = list(evaluation.leaves.values())

    def values(point: Tensor) -> tuple[list[Any], list[Tensor]] | None:
        with Record(function.problem.files) as away:
            elsewhere = function.at(point)
        return None if elsewhere is None else ([call.value for call in away.calls], list(elsewhere.leaves.values()))

    beside, usual = values(moved(function, entry.column, t)), values(direction(function.x, seed=6))
    if beside is None:
        return None

    def reaches(tensor: Tensor, leaves: list[Tensor] = leaves) -> bool:
        pulled = function.inputs.join(vjp(tensor, direction(tensor.detach(), seed=5), leaves))
        return bool(pulled[entry.column] != 0)

    for number, (call, other) in enumerate(zip(record.calls, beside[0], strict=False)):
        if not isinstance(call.value, Tensor) or not call.value.requires_grad or reaches(call.value):
            continue
        follows = call.value.shape == other.shape and not torch.equal(call.value, other)
        if not (follows and other.requires_grad and any(map(reaches, call.operands))) or reaches(other, beside[1]):
            continue
        if usual is None or not reaches(usual[0][number], usual[1]):  # numbers here may be too small for a formula
            return told(CUT, call, evaluation)
    return None


def kinked_step(function: RealFunction, entry: Entry) -> Reason | None:
    """The first step whose result has a kink along the entry's input, whether the output has one or not."""
    t = quick_step(function.eps) * float(scales(function)[entry.column])
    wide, narrow = (_second_differences(function, entry.column, step) for step in (t, t / 8))
    for (call, evaluation, first), (_, _, second) in zip(wide, narrow, strict=False):
        lasting = (second.abs() > 0.7 * first.abs()) & (first.abs() > 1e-3)
        if bool(lasting.any()) and not is_regular(nodes_below(call.value.grad_fn)):  # roundings last, too
            return told(INNER_KINK, call, evaluation)
    return None


def _second_differences(function: RealFunction, column: int, t: float) -> list[tuple[Call, Evaluation, Tensor]]:
    """(f(x+t) − 2f(x) + f(x−t))/t of what each call gives, where it gives one tensor of the same shape each time."""
    runs = []
    for by in (-t, 0.0, t):
        record = Record(function.problem.files)
        with record:
            evaluation = function.at(moved(function, column, by))
        if evaluation is None:  # it ends there
            return []
        runs.append((record.calls, evaluation))
    (before, _), (here, evaluation), (after, _) = runs
    found = []
    for a, b, c in zip(before, here, after, strict=False):
        values = [a.value, b.value, c.value]
        if all(isinstance(v, Tensor) and v.requires_grad and v.shape == b.value.shape for v in values):
            x, y, z = (v.detach() for v in values)
            found.append((b, evaluation, torch.as_tensor((z - 2 * y + x) / t).abs()))
    return found


@dataclass(frozen=True, eq=False)
class Reason:
    """A cause, and the step that it is at: of the tape (`equation`), or in the user's own code (`place`).

    `entry` and `over` are there where a difference over a wider step shows it; `rightly` says that the derivative is zero
    there, and autograd's answer right: what it is a warning of is that the output follows the input all the same.
    """

    cause: str
    name: str = ""
    equation: Equation | None = None
    place: tuple[str, int] | None = None
    entry: Entry | None = None
    over: float | None = None
    rightly: bool = False


LONGEST_SOURCE = 60
"""A longer line of the user's code is named by the function in it that matters."""


def in_words(reason: Reason, program: Program | None) -> str:
    """The step that is to blame as it stands in the text, or the line of the user's own code with its place."""
    source, place = "", ""
    if reason.place is not None:
        source, place = code_at(*reason.place), f" ({file_called(reason.place[0])}, line {reason.place[1]})"
    elif reason.equation is not None and program is not None:
        source = program.step_text(reason.equation)
    return f"`{source if 0 < len(source) <= LONGEST_SOURCE else reason.name.strip('_')}`{place}"


def code_at(file: str, line: int) -> str:
    """A line of the user's own code."""
    return linecache.getline(file, line).strip()


def placed(function: RealFunction) -> list[Loss]:
    """The losses of the evaluation that can be placed, in the text or in the user's own code."""
    evaluation = function.evaluation
    return [loss for loss in function.losses if evaluation.program is None or loss.place or equation_of(loss, evaluation)]


def told(cause: str, call: Loss | Call, evaluation: Evaluation, **more: Any) -> Reason:
    """A cause at a call."""
    return Reason(cause, call.name, equation_of(call, evaluation), call.place, **more)


def value_with(function: RealFunction, x: Tensor, replaced: Mapping[int, Any]) -> Tensor:
    """y at another point (m,), with the results of some losses replaced (by position)."""
    with Watch(function.problem.files, replaced):
        return function.value(x, any_dtype=True)  # a float in the place of an integer


def moved(function: RealFunction, column: int, by: float) -> Tensor:
    """The point with one entry moved (n,)."""
    x = function.x.clone()
    x[column] += by
    return x
