"""Operations that only move entries: regular maps where axes are renamed, index arrays elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.labels import affine_index
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.elementwise import constant
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, axes, signed
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term


def reshape(op: Op) -> Locals:
    """All entries in their order, in another shape."""
    shape = op.shapes[0]
    assert shape is not None
    if prod(shape) != prod(op.shape):
        raise NoRuleError("not a reshape")
    return op.first(op.reshaped(shape))


def expand(op: Op) -> Locals:
    """Broadcast."""
    assert op.shapes[0] is not None
    return op.first(constant(op, op.shapes[0], 1.0))


def copy(op: Op) -> Locals:
    """x.copy_(source): nothing of x is left."""
    source = op.shapes[1]
    return [None if op.shapes[0] is None else (), None if source is None else (constant(op, source, 1.0),)]


def permuted(op: Op, order: Sequence[int]) -> Locals:
    """Output axis d is input axis order[d]."""
    shape = op.shapes[0]
    assert shape is not None
    labels, sizes = axes(shape)
    return op.first(op.regular(shape, [labels[d] for d in order], labels, sizes))


def permute(op: Op) -> Locals:
    """x.permute(dims)."""
    return permuted(op, [op.dim(d, len(op.shape)) for d in op.saved("dims")])


def transpose(op: Op) -> Locals:
    """x.transpose(dim0, dim1); x.t()."""
    order = list(range(len(op.shape)))
    if len(order) > 1:
        a, b = (op.dim(op.saved(name, default), len(order)) for name, default in (("dim0", 0), ("dim1", 1)))
        order[a], order[b] = b, a
    return permuted(op, order)


def repeat(op: Op) -> Locals:
    """x.repeat(...): each output axis is (repetition, input axis)."""
    shape = op.shapes[0]
    assert shape is not None
    padded = (1,) * (len(op.shape) - len(shape)) + shape
    if not padded:
        return op.first(op.reshaped(shape))
    if 0 in op.shape:
        return op.first()
    out: list[int] = []
    sizes: dict[int, int] = {}
    for axis, (size, total) in enumerate(zip(padded, op.shape, strict=True)):
        sizes[2 * axis], sizes[2 * axis + 1] = total // size, size
        out += [2 * axis, 2 * axis + 1]
    return op.first(op.regular(shape, out, [2 * axis + 1 for axis in range(len(padded))], sizes))


def picked(op: Op, shape: Shape, key: int | None, make: Callable[[], Tensor]) -> Term:
    """Output entry i is input entry make()[i]."""

    def pattern() -> Pattern:
        return Pattern(None, make().reshape(1, -1), key=key)

    return SparseMap(op.shape, shape, op.like, op.work.structure(key, pattern), None)


def contiguous_strides(shape: Shape) -> list[int]:
    """Row-major strides."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def affine(op: Op, offset: int, strides: Sequence[int]) -> Locals:
    """Output entry (i, j, …) is input entry offset + i·strides[0] + j·strides[1] + …"""
    shape = op.shapes[0]
    assert shape is not None
    key = op.work.key("affine", offset, op.shape, tuple(strides))
    device = op.like.device
    return op.first(picked(op, shape, key, lambda: affine_index(offset, op.shape, strides, device)))


def slice_(op: Op) -> Locals:
    """x[..., start:end:step, ...]."""
    shape = op.shapes[0]
    assert shape is not None
    if shape == op.shape:
        return op.first(op.reshaped(shape))
    dim = op.dim(op.saved("dim"), len(shape))
    start = signed(op.saved("start") or 0)
    start = min(max(start + shape[dim] if start < 0 else start, 0), shape[dim])
    strides = contiguous_strides(shape)
    offset = start * strides[dim]
    strides[dim] *= op.saved("step", 1)
    return affine(op, offset, strides)


def select(op: Op) -> Locals:
    """x[..., index, ...]."""
    shape = op.shapes[0]
    assert shape is not None
    dim = op.dim(op.saved("dim"), len(shape))
    strides = contiguous_strides(shape)
    offset = op.dim(op.saved("index"), shape[dim]) * strides.pop(dim)
    return affine(op, offset, strides)


def unbind(op: Op) -> Locals:
    """One of x.unbind(dim)."""
    shape = op.shapes[0]
    assert shape is not None
    strides = contiguous_strides(shape)
    step = strides.pop(op.dim(op.saved("dim"), len(shape)))
    return affine(op, op.nr * step, strides)


def split(op: Op) -> Locals:
    """One of x.split(size or sizes, dim)."""
    shape = op.shapes[0]
    assert shape is not None
    dim = op.dim(op.saved("dim"), len(shape))
    strides = contiguous_strides(shape)
    before = sum(int(meta.shape[dim]) for meta in op.node._input_metadata[: op.nr])
    return affine(op, before * strides[dim], strides)


def diagonal(op: Op) -> Locals:
    """x.diagonal(offset, dim1, dim2)."""
    shape = op.shapes[0]
    assert shape is not None
    first, second = (op.dim(op.saved(name), len(shape)) for name in ("dim1", "dim2"))
    shift = signed(op.saved("offset"))
    strides = contiguous_strides(shape)
    offset = shift * strides[second] if shift >= 0 else -shift * strides[first]
    rest = [strides[d] for d in range(len(shape)) if d not in (first, second)]
    return affine(op, offset, [*rest, strides[first] + strides[second]])


def flip(op: Op) -> Locals:
    """x.flip(dims)."""
    shape = op.shape
    strides = contiguous_strides(shape)
    offset = 0
    for dim in {op.dim(d, len(shape)) for d in op.saved("dims")} if shape else ():
        offset += (shape[dim] - 1) * strides[dim]
        strides[dim] = -strides[dim]
    return affine(op, offset, strides) if prod(shape) else op.first()


def unfold(op: Op) -> Locals:
    """x.unfold(dimension, size, step): windows, the place in the window last."""
    shape = op.shapes[0]
    assert shape is not None
    if not shape:
        return op.first(op.reshaped(shape))
    dim = op.dim(op.saved("dimension"), len(shape))
    strides = contiguous_strides(shape)
    window = strides[dim]
    strides[dim] *= op.saved("step")
    return affine(op, 0, [*strides, window])


def roll(op: Op) -> Locals:
    """x.roll(shifts, dims)."""
    shape = op.shapes[0]
    assert shape is not None
    dims = [op.dim(d, len(shape)) for d in op.saved("dims")]
    shifts = [signed(s) for s in op.saved("shifts")]
    if not dims:
        dims, shape = [0], (prod(shape),)
    device = op.like.device

    def make() -> Tensor:
        index = torch.zeros((), dtype=torch.int64, device=device)
        for axis, (size, stride) in enumerate(zip(shape, contiguous_strides(shape), strict=True)):
            steps = torch.arange(size, device=device) * stride
            shift = sum(s for s, d in zip(shifts, dims, strict=True) if d == axis)
            steps = steps.roll(shift) if shift else steps
            index = index + steps.view((size,) + (1,) * (len(shape) - axis - 1))
        return index

    return op.first(picked(op, op.shapes[0], op.work.key("roll", shape, tuple(dims), tuple(shifts)), make))  # type: ignore[arg-type]


def cat(op: Op) -> Locals:
    """Operands side by side along an axis."""
    dim = op.dim(op.saved("dim"), len(op.shape))
    strides = contiguous_strides(op.shape)
    return [
        None if shape is None else () if start is None else (_placed(op, shape, start * strides[dim], strides),)
        for shape, start in zip(op.shapes, _cat_starts(op, dim), strict=True)
    ]


def _cat_starts(op: Op, dim: int) -> list[int | None]:
    """Where each operand starts; the place of one that needs no gradient shows only in where the next one lies."""
    if None not in op.shapes and all(len(shape) == len(op.shape) for shape in op.shapes if shape is not None):
        sizes = [shape[dim] for shape in op.shapes if shape is not None]
        return [0, *accumulate(sizes[:-1])]
    pulled = _pulled_places(op, dim)
    return [int(g.reshape(-1)[0]) if g is not None and g.numel() and g.dim() == len(op.shape) else None for g in pulled]


def _pulled_places(op: Op, dim: int) -> Sequence[Tensor | None]:
    """For each operand, where along an axis of the output each of its entries went."""
    marks = torch.arange(op.shape[dim], dtype=op.node._input_metadata[0].dtype, device=op.like.device)
    if marks.numel() and int(marks[-1]) != marks.numel() - 1:
        raise NoRuleError("the axis is too long to number in this dtype")
    return op.pull(marks.view([-1 if axis == dim else 1 for axis in range(len(op.shape))]).expand(op.shape))


def _placed(op: Op, shape: Shape, offset: int, strides: Sequence[int]) -> Term:
    """Input entry (i, j, …) goes to output entry offset + i·strides[0] + …"""
    if prod(shape) == prod(op.shape):
        return op.reshaped(shape)
    key = op.work.key("placed", offset, op.shape, shape, tuple(strides))
    device = op.like.device

    def make() -> Pattern:
        rows = affine_index(offset, shape, strides, device).reshape(-1)
        return Pattern(rows, torch.arange(rows.numel(), device=device).reshape(1, -1), key=key)

    return SparseMap(op.shape, shape, op.like, op.work.structure(key, make), None)


def stack(op: Op) -> Locals:
    """Operands side by side along a new axis."""
    strides = contiguous_strides(op.shape)
    step = strides.pop(op.dim(op.saved("dim"), len(op.shape)))
    return [
        None if shape is None else (_placed(op, shape, position * step, strides),)
        for position, shape in enumerate(op.shapes)
    ]


def constant_pad(op: Op) -> Locals:
    """F.pad(x, pad): input entries at an offset; a negative pad cuts."""
    shape = op.shapes[0]
    assert shape is not None
    pad = [signed(p) for p in op.saved("pad")]
    before = [0] * len(shape)
    for number in range(len(pad) // 2):
        before[len(shape) - 1 - number] = pad[2 * number]
    starts = [max(0, -b) for b in before]
    kept = tuple(
        min(size - start, total - max(0, b))
        for size, start, total, b in zip(shape, starts, op.shape, before, strict=True)
    )
    if any(size <= 0 for size in kept):
        return op.first()
    out_strides, in_strides = contiguous_strides(op.shape), contiguous_strides(shape)
    out_offset = sum(max(0, b) * s for b, s in zip(before, out_strides, strict=True))
    in_offset = sum(b * s for b, s in zip(starts, in_strides, strict=True))
    key = op.work.key("pad", out_offset, in_offset, kept, op.shape, shape)
    device = op.like.device

    def make() -> Pattern:
        rows = affine_index(out_offset, kept, out_strides, device).reshape(-1)
        return Pattern(rows, affine_index(in_offset, kept, in_strides, device).reshape(1, -1), key=key)

    return op.first(SparseMap(op.shape, shape, op.like, op.work.structure(key, make), None))


_RESHAPE_NAMES = """
View UnsafeView ReshapeAlias ReshapeCopy Squeeze Unsqueeze Alias Clone ToCopy Lift LiftFresh LazyClone
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_RESHAPE_NAMES.split(), reshape),
    "CopyBackwards": copy,
    "Expand": expand,
    "Permute": permute,
    "Transpose": transpose,
    "T": transpose,
    "Repeat": repeat,
    "Slice": slice_,
    "Select": select,
    "Unbind": unbind,
    "Split": split,
    "SplitWithSizes": split,
    "UnsafeSplit": split,
    "UnsafeSplitWithSizes": split,
    "Diagonal": diagonal,
    "Flip": flip,
    "Unfold": unfold,
    "Roll": roll,
    "Cat": cat,
    "Stack": stack,
    "ConstantPadNd": constant_pad,
}
