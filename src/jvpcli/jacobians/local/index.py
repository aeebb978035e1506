"""Indexing with tensors: which entry is read or written depends on values."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import diagonal
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.movement import picked
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, signed
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term


def _numbered(shape: Shape, device: torch.device) -> Tensor:
    return torch.arange(prod(shape), device=device).view(shape)


def _pick(op: Op, key: int | None, read: Callable[[Tensor], Tensor]) -> Locals:
    """A reading operation, applied to the numbers of the entries."""
    shape = op.shapes[0]
    assert shape is not None
    return op.first(picked(op, shape, key, lambda: read(_numbered(shape, op.like.device))))


def index(op: Op) -> Locals:
    """x[indices]."""
    indices = list(op.saved("indices"))
    read = tuple([slice(None) if i is None else i for i in indices])
    key = op.content_key("index", op.shapes[0], *indices)
    return _pick(op, key, lambda numbers: numbers[read])


def index_select(op: Op) -> Locals:
    """x.index_select(dim, index)."""
    which, dim = op.saved("index"), op.saved("dim")
    key = op.content_key("index_select", op.shapes[0], dim, which)
    return _pick(op, key, lambda numbers: numbers.index_select(op.dim(dim, numbers.dim()), which))


def gather(op: Op) -> Locals:
    """x.gather(dim, index)."""
    which, dim = op.saved("index"), op.saved("dim")
    key = op.content_key("gather", op.shapes[0], dim, which)
    return _pick(op, key, lambda numbers: numbers.gather(op.dim(dim, numbers.dim()), which))


def take(op: Op) -> Locals:
    """x.take(index)."""
    which = op.saved("index")
    return _pick(op, op.content_key("take", op.shapes[0], which), lambda numbers: numbers.take(which))


def masked_select(op: Op) -> Locals:
    """x[mask]."""
    mask = op.saved("mask")
    shape = op.shapes[0]
    assert shape is not None
    joint = torch.broadcast_shapes(shape, tuple(mask.shape))
    return _pick(op, None, lambda numbers: numbers.expand(joint)[mask.expand(joint)])


def embedding(op: Op) -> Locals:
    """Rows of a table; the row `padding_idx` has no gradient."""
    which, padding = op.saved("indices"), signed(op.saved("padding_idx", -1))
    if op.saved("scale_grad_by_freq"):
        raise NoRuleError("gradients scaled by frequency")
    key = op.content_key("embedding", op.shapes[0], which)
    (pieces, *rest) = _pick(op, key, lambda numbers: numbers[which])
    if padding >= 0 and pieces is not None:
        (piece,) = pieces
        assert isinstance(piece, SparseMap)
        kept = (which != padding).unsqueeze(-1).expand(op.shape).reshape(1, -1)
        return [(SparseMap(piece.out_shape, piece.in_shape, op.like, piece.pattern, kept.to(op.like.dtype)),), *rest]
    return [pieces, *rest]


def by_indices(op: Op) -> Locals:
    """sort, topk, kthvalue, max(dim)…: values at the saved indices along an axis."""
    which, shape = op.saved("indices"), op.shapes[0]
    assert shape is not None
    if not shape:
        return op.first(op.reshaped(shape))
    dim = op.dim(op.saved("dim"), len(shape))
    if which.dim() < len(shape):
        which = which.unsqueeze(dim)
    return _pick(op, None, lambda numbers: numbers.gather(dim, which))


def max_pool(op: Op) -> Locals:
    """The entry of each window that was largest; indices are flat over the last axes."""
    which, shape = op.saved("result1"), op.shapes[0]
    assert shape is not None
    inner = 3 if "3D" in op.node.name() else 2
    outer = len(shape) - inner

    def read(numbers: Tensor) -> Tensor:
        return numbers.flatten(outer).gather(-1, which.flatten(outer))

    return _pick(op, None, read)


def write(op: Op) -> Locals:
    """index_put, scatter, index_copy, masked_scatter…: what stays of the first operand, and where the second goes.

    Each entry of an operand reaches at most one entry of the output, so ones pulled back are its weight and the
    output's numbers pulled back (in two parts that any float holds exactly) say where it went.
    """
    meta = op.node._input_metadata[op.nr]
    device = op.like.device
    m = prod(op.shape)
    if "IndexFill" in op.node.name() and len(op.shapes) > 1 and op.shapes[1] is not None:
        raise NoRuleError("one value goes to many places")
    weights = op.pull(op.ones())
    base = 1 << (5 if meta.dtype in (torch.float16, torch.bfloat16) else 10)
    digits, parts = torch.arange(m, device=device).view(op.shape), []
    while True:
        parts.append(op.pull((digits % base).to(meta.dtype)))
        digits = torch.div(digits, base, rounding_mode="floor")
        if not digits.numel() or not bool(digits.any()):
            break
    result: list[tuple[Term, ...] | None] = []
    for operand, shape in enumerate(op.shapes):
        weight = weights[operand]
        if shape is None:
            result.append(None)
        elif weight is None:
            result.append(())
        elif operand == 0:
            if tuple(weight.shape) != op.shape or shape != op.shape:
                raise NoRuleError("the first operand is not of the output's shape")
            result.append((diagonal(op.shape, shape, weight, op.like),))
        else:
            result.append((_written(op, shape, weight, [part[operand] for part in parts], base),))
    return result


def _written(op: Op, shape: Shape, weight: Tensor, parts: list[Tensor | None], base: int) -> Term:
    cols = weight.reshape(-1).nonzero().reshape(-1)
    weight_here = weight.reshape(-1)[cols]
    rows = torch.zeros_like(cols)
    for power, part in enumerate(parts):
        assert part is not None
        rows += (part.reshape(-1)[cols] / weight_here).round().to(torch.int64) * base**power
    if tuple(weight.shape) != shape:  # the operand was broadcast
        numbers = _numbered(shape, op.like.device).expand(weight.shape)
        cols = numbers.reshape(-1)[cols]
        pattern = Pattern(rows, cols.reshape(1, -1), unique_rows=False, distinct=False)
    else:
        pattern = Pattern(rows, cols.reshape(1, -1), unique_rows=False)
    return SparseMap(op.shape, shape, op.like, pattern, weight_here.reshape(1, -1))


_BY_INDICES_NAMES = """
Sort Topk Kthvalue Mode Cummax Cummin
"""

_MAX_POOL_NAMES = """
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D FractionalMaxPool2D FractionalMaxPool3D
"""

_WRITE_NAMES = """
IndexPut IndexPutImpl UnsafeIndexPut IndexAdd IndexCopy IndexFill Scatter ScatterAdd MaskedScatter Put
SelectScatter SliceScatter DiagonalScatter AsStridedScatter
"""

RULES: dict[str, Rule] = {
    "Index": index,
    "UnsafeIndex": index,
    "IndexSelect": index_select,
    "Gather": gather,
    "Take": take,
    "MaskedSelect": masked_select,
    "Embedding": embedding,
    **dict.fromkeys(_BY_INDICES_NAMES.split(), by_indices),
    **dict.fromkeys(_MAX_POOL_NAMES.split(), max_pool),
    **dict.fromkeys(_WRITE_NAMES.split(), write),
}
