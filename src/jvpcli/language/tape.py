"""A tape run again on other values: the same steps, one after the other, without deciding anything anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from jvpcli.language import catalog
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.operations import apply_operation, is_imported, is_in_place, named_constant
from jvpcli.program import Block, Const, Equation, Operand, Ref

DECIDING = ("if", "and", "or")
"""Kinds of equations that choose what runs by the values at hand."""


def can_run_stacked(evaluation: Evaluation) -> bool:
    """Whether the tape holds at any values, and gives the same whether points are run one by one or together.

    It does not where something is decided by a value, drawn at random, changed in place, or done by the user's code.
    """
    program = evaluation.program
    if program is None or set(evaluation.output_slots) != set(evaluation.outputs):
        return False
    if any(_decides(equation) for equation in program.equations):
        return False
    return not any(
        catalog.is_random(step.op) or is_in_place(step.op) or is_imported(step.op) for step in evaluation.tape
    )


def _decides(equation: Equation) -> bool:
    return equation.kind in DECIDING or any(_body_decides(body) for body in equation.bodies)


def _body_decides(body: Block) -> bool:
    return bool(body.conditions) or any(_decides(equation) for equation in body.equations)


def run_tape(evaluation: Evaluation, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The outputs of the same steps at other values of some inputs.

    Raises:
        Whatever a step raises.
    """
    given = {**evaluation.inputs, **inputs}
    values: dict[int, Any] = dict(enumerate(given[name] for name in evaluation.inputs))
    for step in evaluation.tape:
        arguments = [_read(operand, values) for operand in step.operands]
        keywords = {name: _read(operand, values) for name, operand in step.keywords}
        values[step.slot] = apply_operation(step.op, arguments, keywords)
    return {name: values[slot] for name, slot in evaluation.output_slots.items()}


def _read(operand: Operand, values: Mapping[int, Any]) -> Any:
    if isinstance(operand, Ref):
        return values[operand.slot]
    if isinstance(operand, Const):
        return operand.value if operand.path is None else named_constant(operand.path)
    items = [_read(item, values) for item in operand.items]
    if operand.kind == "slice":
        return slice(*items)
    return items if operand.kind == "list" else tuple(items)
