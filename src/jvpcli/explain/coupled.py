"""Warnings of samples that know of each other: batch norms in training mode, of torch and in the user's own modules.

Only a function that itself calls axis 0 a batch is told of: whether it counts samples in any other tensor is not known.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from jvpcli.language.evaluation import Evaluation
from jvpcli.language.operations import is_imported
from jvpcli.program import Const, Equation, Ref
from jvpcli.report import Notice

TRAINING_AT = 5
"""The position of `training` among the operands of all the functions below."""

IMPORTED = "import."

BATCH_NORMS = frozenset(
    f"call:torch.{path}" for path in ("nn.functional.batch_norm", "batch_norm", "native_batch_norm")
)


def coupled_samples(evaluation: Evaluation) -> Iterator[Notice]:
    """A notice for each step that makes an output sample depend on other samples of the batch."""
    for step in evaluation.tape:
        how = _how(step, evaluation)
        if how is not None and evaluation.program is not None:
            yield Notice(
                "coupled",
                f"`{evaluation.program.text(step.span)}` {how}: the samples of the batch are coupled, and the gradient of one "
                "reaches the others",
            )


def _how(step: Equation, evaluation: Evaluation) -> str | None:
    if is_imported(step.op):
        return _how_imported(step, evaluation)
    operand = step.operands[0] if step.operands else dict(step.keywords).get("input")
    x = evaluation.values.get(operand.slot) if isinstance(operand, Ref) else None
    if not isinstance(x, Tensor) or not x.requires_grad or x.dim() < 2 or x.shape[0] < 2:
        return None
    if step.op in BATCH_NORMS and _given(step, "training", TRAINING_AT):
        return "normalises by the mean and variance over the batch (training=True)"
    return None


def _given(step: Equation, name: str, position: int) -> object:
    """A constant argument; None where there is none."""
    operand = step.operands[position] if len(step.operands) > position else dict(step.keywords).get(name)
    return operand.value if isinstance(operand, Const) else operand


def _how_imported(step: Equation, evaluation: Evaluation) -> str | None:
    from jvpcli.language.imports import ImportedFunction  # loaded already, since a function of it was called

    name = step.target.removeprefix(IMPORTED)
    function = evaluation.functions.get(name)
    module = function.function if isinstance(function, ImportedFunction) else None
    operand = step.operands[0] if step.operands else None
    x = evaluation.values.get(operand.slot) if isinstance(operand, Ref) else None
    if not isinstance(module, nn.Module) or not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] < 2:
        return None
    if any(isinstance(part, _BatchNorm) and part.training for part in module.modules()):
        return f"holds a batch norm in training mode ({name}.eval() takes its running statistics instead)"
    return None
