"""Repairs of operations element by element: new axes, a transpose, a larger target, another dtype."""

from __future__ import annotations

import ast
from math import prod

import torch
from torch import Tensor

from jvpcli.messages.cards import Found
from jvpcli.messages.shapes import aligned, broadcast, clashes, listed, with_axes
from jvpcli.repairs.edits import Edits, Guilty, Written, cut, head, joined, numbers, out_of_place, transposed
from jvpcli.repairs.rearranging import indexing


def broadcasting(guilty: Guilty, found: Found) -> Edits:
    """New axes that leave the larger operand's shape, a transpose or reshape, then axes that make all pairs, then a cut."""
    yield from out_of_place(guilty)
    tensors = guilty.tensors
    pairs = [(a, b) for i, a in enumerate(tensors) for b in tensors[i + 1 :] if broadcast(a.shape, b.shape) is None]
    for a, b in pairs:
        yield from _keeping(guilty, a, b)
        yield from _growing(guilty, a, b)
    for a, b in pairs:
        yield from _cut_clash(guilty, a, b)


def _keeping(guilty: Guilty, a: Written, b: Written) -> Edits:
    for operand, other in ((b, a), (a, b)):
        for new in aligned(operand.shape, other.shape):
            if broadcast(with_axes(operand.shape, new), other.shape) == other.shape:
                yield guilty.with_suffix(operand, new)
    for operand, other in ((b, a), (a, b)):
        suffix = transposed(operand.shape)
        if suffix and broadcast((*operand.shape[:-2], operand.shape[-1], operand.shape[-2]), other.shape) is not None:
            yield guilty.with_suffix(operand, suffix)
    if a.value.numel() == b.value.numel():
        smaller, larger = (b, a) if len(a.shape) >= len(b.shape) else (a, b)
        yield guilty.with_suffix(smaller, f".reshape({listed(larger.shape)})")


def _growing(guilty: Guilty, a: Written, b: Written) -> Edits:
    for operand, other in ((a, b), (b, a)):
        for new in aligned(operand.shape, other.shape):
            yield guilty.with_suffix(operand, new)


def _cut_clash(guilty: Guilty, a: Written, b: Written) -> Edits:
    bad = clashes(a.shape, b.shape)
    if len(bad) == 1:
        axis = bad[0]
        operand, size = (a, b.shape[axis]) if a.shape[axis] > b.shape[axis] else (b, a.shape[axis])
        yield cut(guilty, operand, head(len(operand.shape), axis, size))


def copying(guilty: Guilty, found: Found) -> Edits:
    """An in-place operation on an input: out of place, or on a copy."""
    yield from out_of_place(guilty)
    for operand in guilty.tensors[:1]:
        yield guilty.with_suffix(operand, ".clone()") if guilty.op != "op:setitem" else None


def expanding(guilty: Guilty, found: Found) -> Edits:
    """expand: a new axis behind, -1 for what stays as it is; a bias of the wrong length; else as for broadcasting."""
    if guilty.name == "linear" or guilty.name.startswith("addm"):
        yield from _shorter_bias(guilty, found)
    sizes = list(numbers(guilty.operands))
    if guilty.name in ("expand", "broadcast_to") and guilty.tensors and sizes:
        x = guilty.tensors[0]
        asked = [operand.value for operand in sizes]
        missing = len(x.shape) - len(asked)
        if missing > 0:
            yield guilty.edited((joined(sizes), listed([-1] * missing + asked)))
        fitting = list(aligned(x.shape, tuple(asked)))
        yield from (guilty.edited(x.behind(new)) for new in fitting)
        if not fitting and missing <= 0:
            yield guilty.edited(x.behind("[..., None]"), (joined(sizes), listed([-1] * len(x.shape) + asked[-1:])))
        tail = zip(reversed(sizes), reversed(x.shape), strict=False)
        yield guilty.edited(*((operand.span, "-1") for operand, size in tail if size not in (1, operand.value)))
    yield from broadcasting(guilty, found)


def _shorter_bias(guilty: Guilty, found: Found) -> Edits:
    """An operand that is expanded in silence, cut to the size that it should have."""
    size, have = found.int("size"), found.int("existing")
    for operand in guilty.tensors if size is not None and have is not None and have > size else ():
        for axis, length in enumerate(operand.shape):
            if length == have and size is not None:
                yield guilty.with_suffix(operand, head(len(operand.shape), axis - len(operand.shape), size))


def assigning(guilty: Guilty, found: Found) -> Edits:
    """x[i] = value: the value with an axis more, turned, or cut to the place."""
    if len(guilty.operands) != 3:
        return
    x, key, value = guilty.operands
    if isinstance(key.value, int) and isinstance(x.value, Tensor):
        yield guilty.edited((key.span, f"..., {key.text}"))
    yield from indexing(guilty, found)
    target = found.shape("first") or found.shape("target")
    if not isinstance(value.value, Tensor) or target is None:
        return
    for new in aligned(value.shape, target):
        yield guilty.with_suffix(value, new)
    if value.value.numel() == prod(target):
        yield guilty.with_suffix(value, f".reshape({listed(target)})")
    if len(value.shape) == len(target):
        yield cut(guilty, value, f"[{', '.join(f':{size}' for size in target)}]")


def repeating(guilty: Guilty, found: Found) -> Edits:
    """repeat: 1 for the axes that are missing."""
    given = list(numbers(guilty.operands[1:]))
    if given and guilty.tensors:
        missing = len(guilty.tensors[0].shape) - len(given)
        values = [operand.value for operand in given]
        yield guilty.edited((joined(given), listed([*values, *[1] * missing])))
        yield guilty.edited((joined(given), listed([*[1] * missing, *values])))


# Operands of different dtypes


CASTS = {
    torch.float32: ".float()", torch.float64: ".double()", torch.int64: ".long()", torch.bool: ".bool()",
    torch.float16: ".half()", torch.bfloat16: ".bfloat16()", torch.complex64: ".cfloat()", torch.complex128: ".cdouble()",
}  # fmt: skip


def casting(guilty: Guilty, found: Found) -> Edits:
    """The operand that loses nothing cast to the other's dtype, then the reverse; integers to floats."""
    yield from out_of_place(guilty)
    tensors = [*guilty.tensors, *guilty.listed]
    dtypes = list(dict.fromkeys(operand.value.dtype for operand in tensors))
    if len(dtypes) > 1:
        common = dtypes[0]
        for dtype in dtypes[1:]:
            common = torch.promote_types(common, dtype)
        for target in dict.fromkeys((common, *dtypes)):
            others = [operand for operand in tensors if operand.value.dtype != target]
            yield guilty.edited(*(operand.behind(CASTS.get(target, f".to({target})")) for operand in others))
    for suffix in (".float()", ".long()", ".bool()"):
        for operand in tensors:
            yield guilty.with_suffix(operand, suffix)
    if isinstance(guilty.node, ast.Subscript) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[1], ".long()")
    for operand in tensors:
        yield guilty.with_suffix(operand, ".real") if operand.value.is_complex() else None
