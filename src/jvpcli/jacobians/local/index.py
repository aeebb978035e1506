"""Entries that are read and written at places which values decide; reading at an index that is given is in `movement.py`."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from torch import Tensor

from jvpcli.jacobians.kronecker import diagonal
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import digits, numbers_read
from jvpcli.jacobians.local.movement import numbers_of, picked
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, signed, wrapped
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term


def _pick(op: Op, key: int | None, read: Callable[[Tensor], Tensor]) -> Locals:
    """A reading operation, applied to the numbers of the entries."""
    return op.first(picked(op, op.operand, key, lambda: read(numbers_of(op.operand, op.like.device))))


def embedding(op: Op) -> Locals:
    """Rows of a table; the row `padding_idx` has no gradient."""
    which, padding = op.saved("indices"), signed(op.saved("padding_idx", -1))
    if op.saved("scale_grad_by_freq"):
        raise NoRuleError("gradients scaled by frequency")
    key = op.content_key("embedding", op.operand, which)
    (pieces, *rest) = _pick(op, key, lambda places: places[which])
    if padding >= 0 and pieces is not None:
        (piece,) = pieces
        assert isinstance(piece, SparseMap)
        kept = (which != padding).unsqueeze(-1).expand(op.shape).reshape(1, -1)
        return [(SparseMap(piece.out_shape, piece.in_shape, op.like, piece.pattern, kept.to(op.like.dtype)),), *rest]
    return [pieces, *rest]


def by_indices(op: Op) -> Locals:
    """sort, topk, kthvalue, max(dim)…: values at the saved indices along an axis."""
    which, shape = op.saved("indices"), op.operand
    if not shape:
        return op.first(op.reshaped(shape))
    dim = wrapped(op.saved("dim"), len(shape))
    if which.dim() < len(shape):
        which = which.unsqueeze(dim)
    return _pick(op, None, lambda places: places.gather(dim, which))


def max_pool(op: Op) -> Locals:
    """The entry of each window that was largest; indices are flat over the last axes."""
    which = op.saved("result1")
    outer = len(op.operand) - (3 if "3D" in op.node.name() else 2)

    return _pick(op, None, lambda places: places.flatten(outer).gather(-1, which.flatten(outer)))


def write(op: Op) -> Locals:
    """index_put, scatter, index_copy, masked_scatter…: what stays of the first operand, and where the second goes.

    Each entry of an operand reaches at most one entry of the output, so ones pulled back are its weight, and the output's numbers
    pulled back say where it went.
    """
    if "IndexFill" in op.node.name() and len(op.shapes) > 1 and op.shapes[1] is not None:
        raise NoRuleError("one value goes to many places")
    base, seeds = digits(op, op.shape)
    weights, answers = op.pull(op.ones()), [op.pull(seed) for seed in seeds]
    result: list[tuple[Term, ...] | None] = []
    for operand, (shape, weight) in enumerate(zip(op.shapes, weights, strict=True)):
        if shape is None:
            result.append(None)
        elif weight is None:
            result.append(())
        elif operand == 0:
            if tuple(weight.shape) != op.shape or shape != op.shape:
                raise NoRuleError("the first operand is not of the output's shape")
            result.append((diagonal(op.shape, shape, weight, op.like),))
        else:
            rows = numbers_read(weight, [answer[operand] for answer in answers], base, prod(op.shape))
            result.append((_written(op, shape, weight, rows),))
    return result


def _written(op: Op, shape: Shape, weight: Tensor, rows: Tensor) -> Term:
    """Each entry of an operand, which may have been broadcast, to its row."""
    values, cols = weight.reshape(-1), numbers_of(shape, op.like.device).expand(weight.shape).reshape(-1)
    kept = values.nonzero().reshape(-1)
    pattern = Pattern(rows[kept], cols[kept].reshape(1, -1), unique_rows=False, distinct=tuple(weight.shape) == shape)
    return SparseMap(op.shape, shape, op.like, pattern, values[kept].reshape(1, -1))


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
    "Embedding": embedding,
    **dict.fromkeys(_BY_INDICES_NAMES.split(), by_indices),
    **dict.fromkeys(_MAX_POOL_NAMES.split(), max_pool),
    **dict.fromkeys(_WRITE_NAMES.split(), write),
}
