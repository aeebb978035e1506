"""Programs in indices: each step of a tape as a tensor whose entries are forms of the entries of its operands."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from jvpcli.language import catalog
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import apply_operation, is_in_place, read_operand
from jvpcli.program import Equation, refs
from jvpcli.symbolic.forms import Lam, Sym, fresh, of
from jvpcli.symbolic.operations import OPERATIONS
from jvpcli.symbolic.operations.shapes import picked
from jvpcli.symbolic.rules import NoClosedFormError


def symbol(name: str, shape: Sequence[int]) -> Lam:
    """A tensor that is known by its name."""
    over = tuple(fresh(size) for size in shape)
    return Lam(over, of(Sym(name, over)))


def translated(evaluation: Evaluation, kept: Mapping[int, str] | None = None) -> dict[int, Any]:
    """Slot to what it holds: a Lam for a tensor; the value itself for what is none.

    `kept` are slots whose tensors are taken as they are, under a name.

    Raises:
        NoClosedFormError: a step that an output needs has no index form, with the reason.
    """
    kept = kept or {}
    values: dict[int, Any] = {slot: symbol(name, x.shape) for slot, (name, x) in enumerate(evaluation.inputs.items())}
    for step in evaluation.tape:
        value = evaluation.values.get(step.slot)
        if step.slot in kept and isinstance(value, Tensor):
            values[step.slot] = symbol(kept[step.slot], value.shape)
            continue
        try:
            values[step.slot] = _step(step, values, evaluation)
        except NoClosedFormError as error:
            values[step.slot] = error
    return values


def _step(step: Equation, values: Mapping[int, Any], evaluation: Evaluation) -> Any:
    value = evaluation.values.get(step.slot)
    slots = _slots(step)
    for slot in slots:
        if isinstance(values.get(slot), NoClosedFormError):
            raise values[slot]
    if isinstance(value, Tensor) and not value.is_floating_point() and value.is_complex():
        raise NoClosedFormError("complex numbers have no closed forms here")
    if not _has_tensors(value):
        return value
    text = evaluation.program.step_text(step) if evaluation.program else step.op
    if not step.recorded:
        raise NoClosedFormError(f"`{text}` runs under no_grad")
    if is_in_place(step.op) or step.op in ("op:setitem", "op:iadd", "op:isub", "op:imul", "op:itruediv"):
        raise NoClosedFormError(f"`{text}` changes a tensor in place")
    arguments = [read_operand(operand, values) for operand in step.operands]
    keywords = {name: read_operand(operand, values) for name, operand in step.keywords}
    if step.kind == "unpack" or (
        isinstance(arguments[0] if arguments else None, (list, tuple)) and step.op == "op:getitem"
    ):
        return arguments[0][keywords["index"] if step.kind == "unpack" else arguments[1]]
    name = step.target.rpartition(".")[2]
    if not any(isinstance(a, Lam) for a in _flat((arguments, keywords))):
        return _constant(value, step, text, slots)
    rule = OPERATIONS.get(step.op) or OPERATIONS.get(name)
    try:
        if rule is None:
            raise NoClosedFormError(f"`{text}`: {name} has no index form here")
        return _called(rule, name, arguments, keywords)
    except NoClosedFormError:
        if name not in SELECTIONS:
            raise
        return _selection(step, arguments, evaluation)


def _selection(step: Equation, arguments: Sequence[Any], evaluation: Evaluation) -> Any:
    """What only picks entries of its first operand: which ones is told by running it on their positions, counted from 1."""
    x = arguments[0]
    if not isinstance(x, Lam):
        raise NoClosedFormError("it picks entries of no tensor")
    held = {**evaluation.values, **dict(enumerate(evaluation.inputs.values()))}
    given = [read_operand(operand, held) for operand in step.operands]
    keywords = {name: read_operand(operand, held) for name, operand in step.keywords}
    if any(isinstance(a, Tensor) and a.requires_grad for a in [*given[1:], *keywords.values()]):
        raise NoClosedFormError("it takes more than entries of its first operand")
    positions = torch.arange(1, math.prod(x.shape) + 1, dtype=torch.float64).reshape(x.shape)
    found = apply_operation(step.op, [positions, *given[1:]], keywords)

    return picked(x, found) if isinstance(found, Tensor) else tuple(picked(x, part) for part in found)


SELECTIONS = frozenset(
    {
        "gather", "index_select", "take", "take_along_dim", "repeat", "tile", "repeat_interleave", "unfold", "unfold_copy",
        "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "diagonal", "diagonal_copy", "diag", "diag_embed", "diagflat",
        "getitem", "rot90", "flip", "roll", "fftshift", "ifftshift", "expand_copy", "permute_copy", "t_copy", "transpose_copy",
        "squeeze_copy", "unsqueeze_copy", "alias_copy", "view_copy", "embedding", "masked_select", "combinations", "unflatten",
        "vsplit", "hsplit", "dsplit", "tensor_split", "split", "split_with_sizes", "unbind_copy", "unsafe_chunk", "unsafe_split",
        "narrow_copy", "select", "squeeze", "tril", "triu", "atleast_1d", "atleast_2d", "atleast_3d",
        "upsample_nearest", "swapaxes", "movedim", "flatten", "select_copy", "slice", "chunk", "split_copy",
    }
)  # fmt: skip
"""Operations each entry of whose result is an entry of their first operand, or zero."""


def _called(rule: Callable[..., Any], name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    try:
        inspect.signature(rule).bind(*arguments, **keywords)
    except TypeError:
        raise NoClosedFormError(f"{name} with these arguments has no index form here") from None
    try:
        return rule(*arguments, **keywords)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # a form of argument that no rule is for
        raise NoClosedFormError(f"{name} with these arguments has no index form here") from None


def constants(evaluation: Evaluation) -> dict[str, Tensor]:
    """The tensors that a program makes out of nothing, by their texts, which are their names in forms."""
    program, values = evaluation.program, evaluation.values
    made = (step for step in evaluation.tape if program and isinstance(values.get(step.slot), Tensor) and not _slots(step))
    return {program.step_text(step): values[step.slot] for step in made if program}


def _slots(step: Equation) -> list[int]:
    return [slot for operand in (*step.operands, *(o for _, o in step.keywords)) for slot in refs(operand)]


def _constant(value: Any, step: Equation, text: str, slots: Sequence[int]) -> Any:
    """A tensor made of no input: a number where it is one, else its own text."""
    if catalog.is_random(step.op):
        raise NoClosedFormError(f"`{text}` draws random numbers")
    if isinstance(value, Tensor):
        if value.dim() == 0 and not value.is_complex():
            return Lam((), _number(value))
        if not slots:
            return symbol(text, value.shape)
    raise NoClosedFormError(f"`{text}` is a constant without a name")


def _number(value: Tensor) -> Any:
    from jvpcli.symbolic.forms import number

    item = value.item()
    return number(Fraction(str(float(item))))


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(_has_tensors, value)))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flat(part)]
    if isinstance(value, Mapping):
        return [item for part in value.values() for item in _flat(part)]
    return [value]
