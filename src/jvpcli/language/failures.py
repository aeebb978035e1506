"""torch's failures, as errors that name the operands and their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from jvpcli.errors import EvaluationError, JvpError, LimitError, ShapeMismatchError
from jvpcli.program import Const, Equation, Operand, Pack, Program, Ref

SHAPE_PROBLEMS = re.compile(
    r"must match the size of tensor|shapes cannot be multiplied|size mismatch|sizes? of tensors? must match"
    r"|not broadcastable|can't be broadcast|could not be broadcast|shape mismatch|does not match|inconsistent tensor size"
    r"|is invalid for input of size|must match the existing size|Expected size for first two dimensions"
    r"|expected .* to be broadcastable|dimension(s)? .* must match|vectors? .* same (size|length)"
    r"|Expected .* to have .* (same size|same shape)|Sizes of tensors must match|stack expects each tensor"
    r"|The expanded size of the tensor|expected batch1 to be|incompatible|subscript .* has size .* which does not",
    re.IGNORECASE,
)
"""torch's wordings where the shapes of operands don't fit each other."""

ALLOCATION = re.compile(r"you tried to allocate (\d+) bytes|Tried to allocate ([\d.]+) ([KMGT]iB)")


def explain_failure(
    error: Exception, step: Equation, program: Program, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> JvpError:
    """The error that a user sees for what torch (or Python) raised in one step."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0]
    where: dict[str, Any] = {"span": step.span, "source": program.source, "torch_message": text}
    allocation = ALLOCATION.search(text)
    if allocation or isinstance(error, MemoryError):
        needed = f" of {int(allocation[1]):,} bytes" if allocation and allocation[1] else ""
        return LimitError(f"`{_short(step)}` needs memory{needed} that there isn't.", **where)
    if isinstance(error, RecursionError):
        return LimitError(f"`{_short(step)}` nests too deeply.", **where)
    details = describe_operands(step, program, arguments, keywords)
    tensors = sum(isinstance(value, Tensor) for value in _flat(arguments)) + len(keywords)
    if isinstance(error, (RuntimeError, ValueError)) and tensors and SHAPE_PROBLEMS.search(text):
        return ShapeMismatchError(f"The shapes in `{_short(step)}` don't fit: {first}", details=details, **where)
    return EvaluationError(f"`{_short(step)}` failed: {first}", details=details, **where)


def describe_operands(
    step: Equation, program: Program, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> list[str]:
    """One line an operand: its text or name, and its shape and dtype (or value)."""
    lines = []
    named = [*zip(step.operands, arguments, strict=False)]
    named += [(dict(step.keywords).get(name), value) for name, value in keywords.items()]
    for operand, value in named:
        if isinstance(value, Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            lines.append(f"{_label(operand, program)}: shape {tuple(value.shape)}, {dtype}")
        elif isinstance(operand, Pack) and any(isinstance(item, Tensor) for item in _flat(value)):
            shapes = ", ".join(str(tuple(item.shape)) for item in _flat(value) if isinstance(item, Tensor))
            lines.append(f"{_label(operand, program)}: shapes {shapes}")
    return lines


def _label(operand: Operand | None, program: Program) -> str:
    """The name or text of an operand."""
    if isinstance(operand, Ref):
        if operand.slot < len(program.inputs):
            return program.inputs[operand.slot]
        for equation in program.equations:
            if equation.slot == operand.slot:
                return equation.name or program.text(equation.span)
    if isinstance(operand, Pack):
        return f"[{', '.join(_label(item, program) for item in operand.items)}]"
    if isinstance(operand, Const):
        return repr(operand.value) if operand.path is None else operand.path
    return "an intermediate result"


def _short(step: Equation) -> str:
    """What the step is called in a sentence."""
    symbols = {"matmul": "@", "add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "getitem": "[…]"}
    return symbols.get(step.target, step.target.removeprefix("torch.")) or step.op


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [item for part in value for item in _flat(part)]
    return [value]
