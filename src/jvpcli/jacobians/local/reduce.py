"""Reductions (one pull-back of ones gives them all) and operations that mix entries along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.labels import Factor, affine_index
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import along
from jvpcli.jacobians.local.index import by_indices
from jvpcli.jacobians.local.movement import contiguous_strides
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, axes, wrapped
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import zeros
from jvpcli.system.memory import in_large_pages


def reduced_axes(op: Op, shape: Shape) -> tuple[int, ...]:
    """Which axes of the operand the operation reduced."""
    dims = op.saved("dim")
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        if prod(op.shape) != 1:
            raise NoRuleError("not a full reduction")
        return tuple(range(len(shape)))
    dims = (dims,) if isinstance(dims, int) else dims
    found = tuple(sorted({wrapped(d, len(shape)) for d in dims})) if shape else ()
    kept = [size for axis, size in enumerate(shape) if axis not in found]
    if kept != list(op.shape) and prod(kept) != prod(op.shape):
        raise NoRuleError("the reduced axes are not known")
    return found


def segments(op: Op, shape: Shape, values: Tensor | None, scale: float = 1.0) -> KroneckerMap:
    """Each output entry from a segment of the operand: a delta on the kept axes."""
    gone = reduced_axes(op, shape)
    labels, sizes = axes(shape)
    factors = []
    if values is not None:
        if tuple(values.shape) != shape:
            raise NoRuleError("a gradient whose shape is not its operand's")
        factors = [Factor(values, labels)]
    return op.regular(shape, [k for k in labels if k not in gone], labels, sizes, factors, scale)


def sum_(op: Op) -> Locals:
    """x.sum(dims): no values at all."""
    return op.pieces(lambda shape: segments(op, shape, None))


def mean(op: Op) -> Locals:
    """x.mean(dims)."""
    return op.pieces(lambda shape: segments(op, shape, None, 1.0 / max(1, prod(shape) // max(1, prod(op.shape)))))


def reduction(op: Op) -> Locals:
    """Any reduction: ones, pulled back."""
    return op.of_ones(partial(segments, op))


def selecting(op: Op) -> Locals:
    """max, min, median…: only the entries that were selected here."""
    shape = op.operand
    (grad, *_) = op.pull(op.ones())
    if grad is None:
        return op.first()
    if tuple(grad.shape) != shape:
        raise NoRuleError("a gradient whose shape is not its operand's")
    gone = reduced_axes(op, shape)
    kept = tuple([size for axis, size in enumerate(shape) if axis not in gone])
    strides = contiguous_strides(kept)
    steps = [0 if axis in gone else strides.pop(0) for axis in range(len(shape))]
    rows, cols = affine_index(0, shape, steps, op.like.device).reshape(-1), grad.reshape(-1).nonzero().reshape(-1)
    pattern = Pattern(rows[cols], cols.reshape(1, -1), unique_rows=False)
    return op.first(SparseMap(op.shape, shape, op.like, pattern, grad.reshape(-1)[cols].reshape(1, -1)))


def max_min(op: Op) -> Locals:
    """x.max(dim) has indices; x.max() has not."""
    return selecting(op) if op.saved("indices") is None else by_indices(op)


def _within(op: Op, dim: int, factors: Sequence[Factor], scale: float = 1.0) -> KroneckerMap:
    """A map from the places of an axis to each other, of which the output's have the first label behind the operand's."""
    labels, sizes = axes(op.operand)
    out = [len(labels) if k == dim else k for k in labels]
    return op.regular(op.operand, out, labels, {**sizes, len(labels): op.operand[dim]}, factors, scale)


LONG_ROW = 256
"""From so many entries on a diagonal and what is added to it stand apart."""


def softmax(op: Op) -> Locals:
    """diag(s) − s sᵀ in each row."""
    shape = op.operand
    if not shape:
        return op.first()
    dim, other = wrapped(op.saved("dim"), len(shape)), len(shape)
    s, (labels, sizes) = op.saved("result").detach(), axes(shape)
    if shape[dim] >= LONG_ROW:  # multiplied with a matrix on the right each is much less than a product of matrices
        factors = [Factor(s, tuple([other if k == dim else k for k in labels])), Factor(s, labels)]
        return op.first(op.regular(shape, labels, labels, sizes, [Factor(s, labels)]), _within(op, dim, factors, -1.0))
    rows = s.movedim(dim, -1)
    op.work.reserve(prod(shape) * shape[dim], op.like.element_size())
    block = rows.unsqueeze(-1) * -rows.unsqueeze(-2)
    block.diagonal(dim1=-2, dim2=-1).add_(rows)
    return op.first(_within(op, dim, [Factor(block, (*[axis for axis in labels if axis != dim], other, dim))]))


def log_softmax(op: Op) -> Locals:
    """I − 1 sᵀ in each row."""
    shape = op.operand
    if not shape:
        return op.first()
    factor = Factor(op.saved("result").detach().exp(), axes(shape)[0])
    return op.first(op.reshaped(shape), _within(op, wrapped(op.saved("dim"), len(shape)), [factor], -1.0))


def cumsum(op: Op) -> Locals:
    """A triangle of ones along the axis."""
    shape = op.operand
    if not shape:
        return op.first(op.reshaped(shape))
    dim = wrapped(op.saved("dim"), len(shape))
    op.work.reserve(shape[dim] ** 2, op.like.element_size())
    kept = shape[dim] ** 2 * op.like.element_size() <= MOST_KEPT_BYTES
    key = op.work.key("triangle", shape[dim], op.like.dtype, op.like.device) if kept else None
    triangle = _kept_triangle if kept else _lower_triangle
    ones = op.work.structure(key, lambda: triangle(shape[dim], op.like))
    return op.first(_within(op, dim, [Factor(ones, (len(shape), dim))]))


MOST_KEPT_BYTES = 1 << 25
"""A triangle up to this size is kept for the next call: its copies take less time than another."""

STRIP = 64
"""Rows of a triangle that are filled at a time."""


def _kept_triangle(n: int, like: Tensor) -> Tensor:
    """Ones on and below the diagonal (n, n), in torch's memory: it is handed out without a copy."""
    result = like.new_empty((n, n))
    if like.device.type == "cpu":
        in_large_pages(result.data_ptr(), n * n * like.element_size())
    return result.fill_(1).tril_()


def _lower_triangle(n: int, like: Tensor) -> Tensor:
    """Ones on and below the diagonal (n, n), in strips: the pages above it are never touched."""
    result = zeros(n, n, like)
    for start in range(0, n, STRIP):
        stop = min(start + STRIP, n)
        result[start:stop, :start] = 1
        result[start:stop, start:stop] = like.new_ones(()).expand(stop - start, stop - start).tril()
    return result


def _triangles(op: Op, dim: int, make: Callable[[Tensor, Tensor], Tensor]) -> Locals:
    """Triangles along an axis of what `make` makes of x_j and y_i, of which only those with j ≤ i count."""
    x, y = (op.saved(name).detach().movedim(dim, -1) for name in ("self", "result"))
    shape = tuple(op.saved("self").shape)
    op.work.reserve(2 * prod(shape) * shape[dim], op.like.element_size())
    values = make(x.unsqueeze(-2), y.unsqueeze(-1)).tril_()
    return op.first(_within(op, dim, [Factor(values, (*[k for k in range(len(shape)) if k != dim], len(shape), dim))]))


def logcumsumexp(op: Op) -> Locals:
    """y_i = log Σ exp x_j over j ≤ i: exp(x_j - y_i)."""
    if not op.shape or not bool(op.saved("result").isfinite().all()):
        return scan(op)
    return _triangles(op, wrapped(op.saved("dim"), len(op.shape)), lambda x, y: (x - y).exp_())


def cumprod(op: Op) -> Locals:
    """y_i = Π x_j over j ≤ i: y_i / x_j, where none is 0."""
    if not op.shape or not bool(op.saved("self").all()):
        return scan(op)
    return _triangles(op, wrapped(op.saved("dim"), len(op.shape)), lambda x, y: y / x)


def scan(op: Op) -> Locals:
    """Anything else along one axis."""
    dims = len(op.operand)
    return along(op, {wrapped(op.saved("dim"), dims)} if dims else ())


REDUCTION_NAMES = """
Logsumexp LinalgVectorNorm Norm Std Var Prod Nansum VarMean StdMean
"""

_SELECTING_NAMES = """
Amax Amin Aminmax Median Nanmedian
"""

RULES: dict[str, Rule] = {
    "Sum": sum_,
    "Mean": mean,
    **dict.fromkeys(REDUCTION_NAMES.split(), reduction),
    **dict.fromkeys(_SELECTING_NAMES.split(), selecting),
    "Max": max_min,
    "Min": max_min,
    "Softmax": softmax,
    "SafeSoftmax": softmax,
    "LogSoftmax": log_softmax,
    "Cumsum": cumsum,
    "Cumprod": cumprod,
    "Logcumsumexp": logcumsumexp,
    "Glu": scan,
}
