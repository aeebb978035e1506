"""Programs in indices: each step of a tape as a tensor whose entries are forms of the entries of its operands."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from jvpcli.language import catalog
from jvpcli.language.derivatives import derivation
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import apply_operation, is_in_place, read_operand
from jvpcli.program import GRAD, IMPORTED, Const, Equation, Operand, refs
from jvpcli.recording.tape import Derived
from jvpcli.symbolic.forms import ONE, Delta, Lam, NoClosedFormError, Sym, add, fresh, of, replace_entries
from jvpcli.symbolic.operations import OPERATIONS
from jvpcli.symbolic.operations.entries import plus
from jvpcli.symbolic.operations.shapes import MOST_PICKED, picked, reshaped, spread, weighed
from jvpcli.symbolic.rules import pulled


def symbol(name: str, shape: Sequence[int]) -> Lam:
    """A tensor that is known by its name."""
    over = tuple(fresh(size) for size in shape)
    return Lam(over, of(Sym(name, over)))


def translated(evaluation: Evaluation, kept: Mapping[int, str] | None = None, before: int | None = None) -> dict[int, Any]:
    """Slot to what it holds: a Lam for a tensor; the value itself for what is none.

    Args:
        evaluation: the program, with all its values.
        kept: slots whose tensors are taken as they are, under a name.
        before: the slot of the first step that is left out; None: all are translated.

    Raises:
        NoClosedFormError: a step that an output needs has no index form, with the reason.
    """
    kept = kept or {}
    values: dict[int, Any] = {slot: symbol(name, x.shape) for slot, (name, x) in enumerate(evaluation.inputs.items())}
    for step in itertools.takewhile(lambda each: each.slot != before, evaluation.tape):
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
    slots = [*step.reads()]
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
    if step.casts:
        raise NoClosedFormError(f"`{text}` runs under autocast")
    if is_in_place(step.op) or step.op in ("op:setitem", "op:iadd", "op:isub", "op:imul", "op:itruediv"):
        raise NoClosedFormError(f"`{text}` changes a tensor in place")
    if step.op == "derive:open":  # another name for the same
        return values[slots[0]]
    made = derivation(step)
    if made is not None and step.op == GRAD:
        return _gradient(dict(made.call.keywords), made.part or 0, step.slot, values, evaluation, text)
    recorded = evaluation.functions.get(step.op.removeprefix(f"call:{IMPORTED}"))
    if isinstance(recorded, Derived):
        gradients: Sequence[Tensor] = value  # type: ignore[assignment]
        return tuple(_gradient(recorded.call, k, step.slot, values, evaluation, text) for k, _ in enumerate(gradients))
    arguments = [read_operand(operand, values) for operand in step.operands]
    keywords = {name: read_operand(operand, values) for name, operand in step.keywords}
    if step.op.startswith("attr:") and isinstance(arguments[0], (list, tuple)):  # a part of several, by its name
        several = evaluation.values[slots[0]]
        return _part(arguments[0], next(k for k, part in enumerate(several) if part is value), text)
    if step.kind == "unpack" or (
        isinstance(arguments[0] if arguments else None, (list, tuple)) and step.op == "op:getitem"
    ):
        return _part(arguments[0], keywords["index"] if step.kind == "unpack" else arguments[1], text)
    name = step.word
    if not any(isinstance(a, Lam) for a in _flat((arguments, keywords))):
        return _constant(value, step, text, slots, _own_name(step, evaluation))
    plain = name.removesuffix("_copy")
    rule = OPERATIONS.get(step.op) or OPERATIONS.get(name) or OPERATIONS.get(plain)
    try:
        if rule is None or (plain in INDEXED and any(map(_no_position, _flat(_given(step, evaluation))))):
            raise NoClosedFormError(f"`{text}`: {name} has no index form here")
        return _called(rule, name, arguments, keywords)
    except NoClosedFormError:
        if not {name, plain, step.op} & LINEAR:
            raise
        return _linear(step, arguments, keywords, evaluation)


def _gradient(
    call: Mapping[str, Operand], part: int, before: int, values: Mapping[int, Any], evaluation: Evaluation, text: str
) -> Lam:
    """What torch.autograd.grad gives of one of its inputs, by the rules: of a value on the way as of a tensor with a name.

    Of a batch of cotangents it gives a row for each.
    """
    outputs, inputs, weights = ([*refs(call.get(name, Const(None)))] for name in ("outputs", "inputs", "grad_outputs"))
    if weights and len(weights) < len(outputs):
        raise NoClosedFormError(f"`{text}` has no index form here")
    slot = inputs[part]
    name, there = next((x for k, x in enumerate(evaluation.inputs) if k == slot), None), values
    if name is None:
        name = "value on the way"  # no input is called so
        there = translated(evaluation, {slot: name}, before)
    for found in (values.get(slot), *map(there.get, (*outputs, *weights))):
        if not isinstance(found, Lam):  # of the outputs, and of what they are derived by
            raise found if isinstance(found, NoClosedFormError) else NoClosedFormError(f"`{text}` has no index form here")
    at = tuple(map(fresh, values[slot].shape))
    rows = (fresh(there[weights[0]].shape[0]),) if call.get("is_grads_batched", Const(False)) != Const(False) else ()
    parts = []
    for y, weight in itertools.zip_longest(outputs, weights):
        over = tuple(map(fresh, there[y].shape))
        parts.append(pulled(there[y](*over), ONE if weight is None else there[weight](*rows, *over), over, name, at))
    return Lam((*rows, *at), replace_entries(add(*parts), name, values[slot]))


def _part(several: Sequence[Any], which: Any, text: str) -> Any:
    """One of several results."""
    found = several[which]
    if found is None:
        raise NoClosedFormError(f"`{text}` has no index form here")
    return found


def _given(step: Equation, evaluation: Evaluation) -> list[Any]:
    """The values of a step's operands, in order, and then of its keywords."""
    held = {**evaluation.values, **dict(enumerate(evaluation.inputs.values()))}
    return [read_operand(operand, held) for operand in step.given]


def _no_position(value: Any) -> bool:
    """Whether a tensor is a mask, or holds positions that are counted from behind."""
    if not isinstance(value, Tensor) or value.is_floating_point():
        return False
    return value.dtype == torch.bool or (value.numel() > 0 and int(value.min()) < 0)


INDEXED = frozenset({"gather", "take_along_dim", "index_select", "getitem", "embedding"})
"""Operations whose positions are in a tensor."""


def _linear(step: Equation, arguments: Sequence[Any], keywords: Mapping[str, Any], evaluation: Evaluation) -> Any:
    """What is linear in its tensors: the matrix of each is found by running it on one entry at a time, all others zero."""
    given = _given(step, evaluation)
    pairs = list(zip(_flat((list(arguments), *keywords.values())), _flat(given), strict=True))
    tensors = [(lam, x.detach()) for lam, x in pairs if isinstance(x, Tensor) and x.is_floating_point()]
    if sum(x.numel() for _, x in tensors) > 2 * MOST_PICKED or not all(isinstance(lam, Lam) for lam, _ in tensors):
        raise NoClosedFormError("it picks entries of a tensor that is too large to write their positions out")

    def run(which: int | None, entry: int = 0) -> Any:
        basis = [torch.zeros(x.shape, dtype=torch.float64) for _, x in tensors]
        if which is not None:
            basis[which].view(-1)[entry] = 1.0
        parts = iter(basis)

        def put(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(map(put, value))
            return next(parts) if isinstance(value, Tensor) and value.is_floating_point() else value

        values = [put(value) for value in given]
        positional, named = values[: len(step.operands)], values[len(step.operands) :]
        return apply_operation(step.op, positional, dict(zip((n for n, _ in step.keywords), named, strict=True)))

    at_zero = run(None)
    columns = [[run(k, entry) for entry in range(x.numel())] for k, (_, x) in enumerate(tensors)]

    def part(choose: Callable[[Any], Tensor]) -> Lam:
        base = choose(at_zero)
        maps = [
            torch.stack([(choose(y) - base).reshape(-1) for y in own], 1) if own else torch.zeros(base.numel(), 0)
            for own in columns
        ]
        return _mapped([lam for lam, _ in tensors], [m.nan_to_num(0.0) for m in maps], base)

    if isinstance(at_zero, Tensor):
        return part(lambda y: y)
    return tuple(part(lambda y, k=k: y[k]) for k in range(len(at_zero)))  # type: ignore[misc]


def _mapped(operands: Sequence[Lam], maps: Sequence[Tensor], base: Tensor) -> Lam:
    """The sum of linear maps of operands, and what is there without them."""
    reached = torch.stack([m.bool().any(1) for m in maps]).any(0) if maps else torch.zeros(base.numel(), dtype=torch.bool)
    fill = float(base.reshape(-1)[~reached][0]) if len(operands) == 1 and not bool(reached.all()) else 0.0
    if bool((base.reshape(-1) != torch.where(reached, 0.0, fill)).any()):
        raise NoClosedFormError("it puts constants between the entries, which has no index form here")
    found: Lam | None = None
    for x, matrix in zip(operands, maps, strict=True):
        ones = bool(((matrix == 0) | (matrix == 1)).all())
        if matrix.shape[0] == matrix.shape[1] and not fill and torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype)):
            each = reshaped(x, tuple(base.shape))
        elif ones and int(matrix.sum(1).max() if matrix.numel() else 0) <= 1:
            counted = torch.arange(1, matrix.shape[1] + 1, dtype=matrix.dtype)
            each = picked(x, (matrix @ counted).reshape(base.shape), fill)
        elif ones and int(matrix.sum(0).max()) <= 1:
            counted = torch.arange(1, matrix.shape[0] + 1, dtype=matrix.dtype)
            each = spread(x, (counted @ matrix).reshape(x.shape), base.shape)
        else:
            each = weighed(x, matrix, base.shape)
        if matrix.numel() and bool(matrix.any()):
            found = each if found is None else plus(found, each)
    return found if found is not None else picked(operands[0], torch.zeros(base.shape), fill)


LINEAR = frozenset(
    {
        "gather", "index_select", "take", "take_along_dim", "repeat", "tile", "repeat_interleave", "unfold", "unfold_copy",
        "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "diagonal", "diagonal_copy", "diag", "diag_embed", "diagflat",
        "getitem", "op:getitem", "rot90", "flip", "roll", "fftshift", "ifftshift", "embedding", "masked_select", "combinations",
        "vsplit", "hsplit", "dsplit", "tensor_split", "split", "select", "squeeze", "atleast_1d", "atleast_2d",
        "atleast_3d", "chunk", "as_strided", "as_strided_copy", "as_strided_scatter", "block_diag", "sum_to_size",
        "select_scatter", "slice_scatter", "diagonal_scatter", "masked_scatter", "index_copy", "index_add", "index_put", "put",
        "scatter", "scatter_add", "scatter_reduce", "index_reduce", "index_fill", "fill", "dstack", "pad", "constant_pad_nd",
        "fold", "embedding_bag", "segment_reduce", "interpolate", "upsample", "upsample_nearest", "upsample_bilinear",
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "max_unpool1d", "max_unpool2d", "max_unpool3d", "trapz", "trapezoid", "cumulative_trapezoid", "gradient",
        "grid_sample", "grid_sampler_2d", "grid_sampler_3d", "broadcast_tensors", "cartesian_prod", "masked_fill",
        "call:torch.masked.sum", "call:torch.masked.mean", "call:torch.masked.cumsum",
    }
)  # fmt: skip
"""Operations that are linear in their tensors (some with some arguments alone: what is not is not verified, so not shown)."""


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
    """The tensors that a program makes out of nothing, by what they are called in forms: their names, or else their texts."""
    program, values = evaluation.program, evaluation.values
    made = [step for step in evaluation.tape if program and isinstance(values.get(step.slot), Tensor) and not [*step.reads()]]
    return {_own_name(step, evaluation) or program.step_text(step): values[step.slot] for step in made if program}


def _own_name(step: Equation, evaluation: Evaluation) -> str | None:
    """What the program calls a tensor that it makes; None where it has no name for that alone."""
    if step.name is None or step.name in evaluation.inputs:
        return None
    return step.name if sum(other.name == step.name for other in evaluation.tape) == 1 else None


def _constant(value: Any, step: Equation, text: str, slots: Sequence[int], name: str | None) -> Any:
    """A tensor made of no input: a number where it is one, else by its name or its text; what is drawn has to have a name."""
    if catalog.is_random(step.op):
        if name is None or not isinstance(value, Tensor) or not value.is_floating_point() or slots:
            raise NoClosedFormError(f"`{text}` draws random numbers that have no name")
        return symbol(name, value.shape)
    if isinstance(value, Tensor):
        if value.dim() == 0 and not value.is_complex():
            return Lam((), _number(value))
        if not slots:
            return _written_out(value) or symbol(name or text, value.shape)
    raise NoClosedFormError(f"`{text}` is a constant without a name")


def _written_out(value: Tensor) -> Lam | None:
    """A constant tensor of one number, or the identity, as a form."""
    if value.is_complex() or value.dtype is torch.bool or not value.numel():
        return None
    over = tuple(map(fresh, value.shape))
    if bool((value == value.reshape(-1)[0]).all()):
        return Lam(over, _number(value.reshape(-1)[0]))
    if value.dim() == 2 and value.shape[0] == value.shape[1] and torch.equal(value, torch.eye(len(value), dtype=value.dtype)):
        return Lam(over, of(Delta(*over)))
    return None


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
