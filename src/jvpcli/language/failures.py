"""torch's failures, as errors that name the operands and their shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from jvpcli.errors import EvaluationError, JvpError, LimitError, ShapeMismatchError, is_out_of_memory
from jvpcli.language import catalog
from jvpcli.language.forecast import flat, in_words
from jvpcli.program import IMPORTED, Equation, FailedStep, Operand

SHAPE_PROBLEMS = re.compile(
    r"must match the size of tensor|shapes cannot be multiplied|size mismatch|sizes? of tensors? must match"
    r"|not broadcastable|can't be broadcast|could not be broadcast|shape mismatch|does not match"
    r"|inconsistent tensor size|is invalid for input of size|must match the existing size|incompatible"
    r"|expected size for first two dimensions|expected .* to be broadcastable|dimensions? .* must match"
    r"|vectors? .* same (size|length)|expected .* to have .* (same size|same shape)|stack expects each tensor"
    r"|the expanded size of the tensor|expected batch1 to be|subscript .* has size .* which does not"
    r"|same number of dimensions|should be the same|to be equal to|expected input.* to have .* channels"
    r"|of (the )?same (shape|size)|but got \d+-?d(imensional)? tensor|dimension of size \d|fewer dimensions|\d+D or \d+D tensor"
    r"|both arguments to .* need to be|must have the same|must be equal to",
    re.IGNORECASE,
)
"""torch's wordings where the shapes of operands don't fit each other."""

TOO_LARGE = re.compile(r"storage size calculation overflowed|numel: integer multiplication overflow", re.IGNORECASE)
"""torch's wordings where a size is beyond any memory."""


def explain_failure(
    error: Exception,
    step: Equation,
    label: Callable[[Operand | None], str],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    source: str,
) -> JvpError:
    """The error that a user sees for what torch (or Python) raised in one step; `label` names an operand."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0].rstrip(".")
    what = f"`{source[slice(*step.span)]}`" if step.op == "apply" else in_sentence(step)
    failed = FailedStep(step, tuple(arguments), dict(keywords))
    where: dict[str, Any] = {"span": step.span, "source": source, "torch_message": text, "failed": failed}
    if is_out_of_memory(error):
        asked = re.search(r"you tried to allocate (\d+) bytes", text, re.IGNORECASE)
        needed = f"{in_words(int(asked[1]))}, " if asked else ""
        return LimitError(f"{what} needs {needed}more memory than there is.", **where)
    if TOO_LARGE.search(text):
        return LimitError(f"{what} needs more memory than any machine has.", **where)
    if isinstance(error, RecursionError):
        return LimitError(f"{what} nests too deeply.", **where)
    where["details"] = describe_operands(step, label, arguments, keywords)
    if isinstance(error, (RuntimeError, ValueError)) and where["details"] and SHAPE_PROBLEMS.search(text):
        return ShapeMismatchError(f"The shapes in {what} don't fit: {first}.", **where)
    hints = [AMBIGUOUS_HINT] if "is ambiguous" in text else []
    return EvaluationError(f"{what} failed: {first}.", hints=hints, **where)


AMBIGUOUS_HINT = "For many elements at once use torch.where(condition, a, b), and & | ~ instead of and, or, not."


def describe_operands(
    step: Equation,
    label: Callable[[Operand | None], str],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
) -> list[str]:
    """One line for each operand that is a tensor or a list of tensors: its name or text, shape and dtype."""
    lines = []
    for operand, value in zip(step.given, (*arguments, *keywords.values()), strict=False):
        tensors = [item for item in flat([value]) if isinstance(item, Tensor)]
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        if isinstance(value, Tensor):
            lines.append(f"{label(operand)}: shape {shapes}, {str(value.dtype).removeprefix('torch.')}")
        elif tensors:
            lines.append(f"{label(operand)}: shapes {shapes}")
    return list(dict.fromkeys(lines))


def in_sentence(step: Equation) -> str:
    """What the step is called in a sentence."""
    name = catalog.SYMBOLS.get(step.target, step.target.removeprefix("torch.")) if step.kind == "op" else step.target
    return f"`{name.removeprefix(IMPORTED).removeprefix('torch.') or step.op}`"
