"""Operations that only move entries: regular maps where axes are renamed, index arrays elsewhere.

Where their parameters tell the places, torch itself is asked: it makes a view without memory, or moves the entries' numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor

from jvpcli.jacobians.labels import affine_index
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import agrees, listed
from jvpcli.jacobians.local.elementwise import constant
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, axes, signed, wrapped
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term


def reshape(op: Op) -> Locals:
    """All entries in their order, in another shape."""
    shape = op.shapes[0]
    assert shape is not None
    return op.first(op.reshaped(shape))


def expand(op: Op) -> Locals:
    """Broadcast."""
    return op.first(constant(op, op.operand, 1.0))


def copy(op: Op) -> Locals:
    """x.copy_(source): nothing of x is left."""
    source = op.shapes[1]
    return [None if op.shapes[0] is None else (), None if source is None else (constant(op, source, 1.0),)]


def permuted(op: Op, order: Sequence[int]) -> Locals:
    """Output axis d is input axis order[d]."""
    shape = op.operand
    labels, sizes = axes(shape)
    return op.first(op.regular(shape, [labels[d] for d in order], labels, sizes))


def permute(op: Op) -> Locals:
    """x.permute(dims)."""
    return permuted(op, [wrapped(d, len(op.shape)) for d in op.saved("dims")])


def transpose(op: Op) -> Locals:
    """x.transpose(dim0, dim1); x.t()."""
    order = list(range(len(op.shape)))
    if len(order) > 1:
        a, b = (wrapped(op.saved(name, default), len(order)) for name, default in (("dim0", 0), ("dim1", 1)))
        order[a], order[b] = b, a
    return permuted(op, order)


def repeat(op: Op) -> Locals:
    """x.repeat(...): each output axis is (repetition, input axis)."""
    shape = op.operand
    padded = (1,) * (len(op.shape) - len(shape)) + shape
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


VIEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Slice": ("slice", ("dim", "start", "end", "step")),
    "Select": ("select", ("dim", "index")),
    "Unbind": ("unbind", ("dim",)),
    **dict.fromkeys(("Split", "UnsafeSplit"), ("split", ("split_size", "dim"))),
    **dict.fromkeys(("SplitWithSizes", "UnsafeSplitWithSizes"), ("split_with_sizes", ("split_sizes", "dim"))),
    "Diagonal": ("diagonal", ("offset", "dim1", "dim2")),
    "Unfold": ("unfold", ("dimension", "size", "step")),
}
"""Backward node of a view to torch's function and what that was called with, as it is saved."""

READS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Flip": ("flip", ("dims",)),
    "Roll": ("roll", ("shifts", "dims")),
    **dict.fromkeys(("Index", "UnsafeIndex"), ("index", ("indices",))),
    "IndexSelect": ("index_select", ("dim", "index")),
    "Gather": ("gather", ("dim", "index")),
    "Take": ("take", ("index",)),
    "MaskedSelect": ("masked_select", ("mask",)),
}
"""The same of functions that read entries at places which are given."""


def view(op: Op) -> Locals:
    """Entries at an offset and strides: those of the view that torch makes of a tensor of that shape without memory."""
    shape, device = op.operand, op.like.device
    if op.shape == shape:
        return op.first(op.reshaped(shape))
    call, parameters = _called(op, VIEWS)

    def make() -> Tensor:
        made = call(torch.empty(shape, device="meta"), *parameters)
        made = made if isinstance(made, Tensor) else made[op.nr]
        return affine_index(int(made.storage_offset()), op.shape, made.stride(), device)

    return op.first(picked(op, shape, op.work.key("view", operation(op.node), op.nr, shape, *parameters), make))


def read(op: Op) -> Locals:
    """What the function reads of the numbers of the entries."""
    shape, (call, parameters) = op.operand, _called(op, READS)
    named = [each for given in parameters for each in (given if isinstance(given, tuple) else (given,))]
    key = op.content_key("read", operation(op.node), shape, *named)
    return op.first(picked(op, shape, key, lambda: call(numbers_of(shape, op.like.device), *parameters)))


def numbers_of(shape: Shape, device: torch.device) -> Tensor:
    """The entries' numbers, row-major, in their places."""
    return torch.arange(prod(shape), device=device).view(shape)


def _called(op: Op, table: Mapping[str, tuple[str, tuple[str, ...]]]) -> tuple[Callable[..., Any], list[Any]]:
    """The function of torch's that an operation is, and what else it was called with."""
    call, names = table[operation(op.node)]
    return getattr(torch.ops.aten, call), [_plain(getattr(op.node, f"_saved_{each}")) for each in names]


def _plain(value: Any) -> Any:
    """A saved parameter as it was given: numbers of integer lists are saved modulo 2⁶⁴."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return signed(value) if isinstance(value, int) else value


WINDOWS = ("kernel_size", "dilation", "padding", "stride")
SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}
"""What the scales along so many axes are saved as."""

CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"ReflectionPad{d}D": (f"reflection_pad{d}d", ("padding",)) for d in SCALES},
    **{f"ReplicationPad{d}D": (f"replication_pad{d}d", ("padding",)) for d in SCALES},
    **{f"UpsampleNearest{d}D": (f"upsample_nearest{d}d", ("output_size", *SCALES[d])) for d in SCALES},
    **{f"UpsampleNearestExact{d}D": (f"_upsample_nearest_exact{d}d", ("output_size", *SCALES[d])) for d in SCALES},
    "Im2Col": ("im2col", WINDOWS),
    "PixelShuffle": ("pixel_shuffle", ("upscale_factor",)),
    "PixelUnshuffle": ("pixel_unshuffle", ("downscale_factor",)),
    "ChannelShuffle": ("channel_shuffle", ("groups",)),
    "Rot90": ("rot90", ("k", "dims")),
}
"""The same of functions of which an entry of the output is one of the operand, or comes from beyond the border."""

BACK = {"Col2Im": ("im2col", WINDOWS)}
"""Backward node to the torch function that goes the other way, from the output's places to the operand's, and its arguments."""


def numbered(op: Op) -> Locals:
    """Every output entry is one operand entry, or none; the other way round of what adds entries up."""
    shape, name = op.operand, operation(op.node)
    call, parameters = _called(op, CALLS | BACK)
    key = op.work.key("numbered", name, shape, op.shape, op.like.dtype, op.like.device, *parameters)

    def make() -> tuple[Term, ...]:
        own, other = (op.shape, shape) if name in BACK else (shape, op.shape)
        numbers = torch.arange(1, prod(own) + 1, dtype=torch.float64, device=op.like.device)
        found: Tensor = call(numbers.view(own), *parameters).reshape(-1).long()
        assert found.numel() == prod(other)
        kept = found.nonzero().reshape(-1)  # the others come from beyond the border
        there = found[kept] - 1
        rows, cols = (there, kept) if name in BACK else (kept, there)
        terms = listed(op, shape, rows, cols, op.like.new_ones(rows.numel()), key)
        if not agrees(op, 0, terms):  # the backward pass of resizing rounds otherwise
            raise NoRuleError("other places on the way back")
        return terms

    return op.first(*op.work.structure(key, make))


def cat(op: Op) -> Locals:
    """Operands side by side along an axis."""
    dim = wrapped(op.saved("dim"), len(op.shape))
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
    step = strides.pop(wrapped(op.saved("dim"), len(op.shape)))
    return [
        None if shape is None else (_placed(op, shape, position * step, strides),)
        for position, shape in enumerate(op.shapes)
    ]


def constant_pad(op: Op) -> Locals:
    """F.pad(x, pad): input entries at an offset; a negative pad cuts."""
    shape = op.operand
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
    **dict.fromkeys(VIEWS, view),
    **dict.fromkeys(READS, read),
    **dict.fromkeys((*CALLS, *BACK), numbered),
    "Cat": cat,
    "Stack": stack,
    "ConstantPadNd": constant_pad,
}
