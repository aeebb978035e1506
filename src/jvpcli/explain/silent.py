"""Warnings of failures that torch is silent about: a gradient that is cut inside while another path carries one.

A look over the tape says whether there is anything to suspect (numbers without a gradient from a tensor that has one, a
rounding, NaN in a gradient); only then the program runs a few times more, and what is suspected is measured: a cut that
takes nothing from the derivative (softmax of x − x.max().detach()) is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.derive.losses import CASTS, ROUNDINGS
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.operations import is_imported
from jvpcli.program import Equation, refs
from jvpcli.report import Notice

if TYPE_CHECKING:
    from jvpcli.derive.vectors import Evaluate
    from jvpcli.explain.products import Products

LARGEST = 1 << 20
"""Entries of inputs and outputs up to which the program is run again."""


def silent_failures(evaluation: Evaluation, products: Products, again: Evaluate) -> Iterator[Notice]:
    """The notices; `again` evaluates the program at other values of the differentiated inputs."""
    entries = sum(t.numel() for t in (*evaluation.inputs.values(), *evaluation.outputs.values()))
    spoilt = any(bool(gradient.isnan().any()) for gradient in products.vjp.values())
    suspicious = not evaluation.tape or any(_suspicious(step, evaluation) for step in evaluation.tape)
    if entries > LARGEST or not (spoilt or suspicious):
        return
    from jvpcli.explain.measured import measured  # loads much, and is seldom needed

    yield from measured(evaluation, products, again, suspicious, spoilt)


def _suspicious(step: Equation, evaluation: Evaluation) -> bool:
    """Whether a step may lose a gradient: numbers without one from a tensor with one, a rounding, code of the user's."""
    operands = (*step.operands, *(operand for _, operand in step.keywords))
    read = [evaluation.values.get(slot) for operand in operands for slot in refs(operand)]
    if not any(isinstance(value, Tensor) and value.requires_grad for value in read):
        return False
    name = step.target.rpartition(".")[2]
    if (
        is_imported(step.op)
        or name in ROUNDINGS
        or name == "floordiv"
        or any(k == "rounding_mode" for k, _ in step.keywords)
    ):
        return True
    value = evaluation.values.get(step.slot)
    if isinstance(value, Tensor):
        numbers = value.is_floating_point() or value.is_complex() or name in CASTS
        return numbers and not value.requires_grad
    return isinstance(value, (float, complex)) or (name in CASTS and not isinstance(value, bool))
