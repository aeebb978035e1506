"""Local maps by pulling basis vectors back: for operations that no rule knows, and for small blocks of known ones.

An unknown operation gives a dense block, so that no dependency is missed.  Where it is known that entries only mix
along some axes, one basis vector serves all the other axes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import dense
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, is_fused, spare
from jvpcli.jacobians.passes import Sweep, gathered
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term, UnsupportedError

LOOP = 8
"""Up to so many basis vectors are pulled back one by one."""

CHUNK_BYTES = 1 << 25
"""Basis vectors and what they are pulled back to, held at a time."""

MOST_WORK = 1 << 31
"""A probe of more elements than this is left to another strategy."""


def probe(op: Op) -> Locals:
    """Every operand's dense block: a basis vector for each entry of the output."""
    m = prod(op.shape)
    rows = pull_basis(op, tuple(range(len(op.shape))))
    return [
        None if shape is None else () if row is None else (_block(op, row, shape, m),)
        for shape, row in zip(op.shapes, rows, strict=True)
    ]


def _block(op: Op, rows: Tensor, shape: Shape, m: int) -> Term:
    """The (m, n) block, pulled-back entries added up where the operand was broadcast."""
    pulled = tuple(rows.shape[1:])
    if pulled != shape:
        rows = reduce_to(rows, shape)
    return dense(op.shape, shape, rows.reshape(m, prod(shape)), op.like)


def reduce_to(rows: Tensor, shape: Shape) -> Tensor:
    """Pulled-back batches (m, …) summed to (m, *shape), as broadcasting asks."""
    extra = rows.dim() - 1 - len(shape)
    if extra < 0:
        raise UnsupportedError("a gradient with fewer axes than its operand")
    if extra:
        rows = rows.sum(list(range(1, 1 + extra)))
    axes = [a + 1 for a, size in enumerate(shape) if size == 1 and rows.shape[a + 1] != 1]
    rows = rows.sum(axes, keepdim=True) if axes else rows
    if tuple(rows.shape[1:]) != shape:
        raise UnsupportedError("a gradient whose shape is not its operand's")
    return rows


def along(op: Op, dims: Sequence[int], operand: int = 0) -> Term | None:
    """Blocks of an operation that mixes entries along `dims` alone; output and operand have the same number of axes."""
    shape = op.shapes[operand]
    assert shape is not None
    if len(shape) != len(op.shape):
        raise NoRuleError("the axes do not match")
    mixed = tuple(sorted(dims))
    if any(a != b for axis, (a, b) in enumerate(zip(shape, op.shape, strict=True)) if axis not in mixed):
        raise NoRuleError("the axes do not match")
    rows = pull_basis(op, mixed)[operand]
    if rows is None:
        return None
    if tuple(rows.shape[1:]) != shape:
        raise NoRuleError("a gradient whose shape is not its operand's")
    labels = tuple(range(len(shape)))
    fresh = {axis: len(shape) + axis for axis in mixed}
    sizes = {**dict(enumerate(shape)), **{fresh[axis]: op.shape[axis] for axis in mixed}}
    values = rows.reshape(*[op.shape[axis] for axis in mixed], *shape)
    factor = Factor(values, tuple(fresh.values()) + labels)
    return op.regular(shape, [fresh.get(axis, axis) for axis in labels], labels, sizes, [factor])


def pull_basis(op: Op, mixed: Sequence[int]) -> list[Tensor | None]:
    """For each operand the pulled-back basis over the axes `mixed`: (their sizes' product, *pulled shape)."""
    count = prod([op.shape[axis] for axis in mixed])
    largest = max([prod(op.shape), *[prod(s) for s in op.shapes if s is not None]])
    if count * largest > MOST_WORK:
        raise UnsupportedError(f"{op.node.name()} has too large a local Jacobian")
    op.work.reserve(count * largest, op.like.element_size())
    if count == 1:
        return [None if g is None else g.unsqueeze(0) for g in op.pull(op.ones().contiguous())]
    held = 2 * largest + (spare(op.node) if is_fused(op.node.name()) else 0)
    chunk = max(1, min(count, CHUNK_BYTES // max(1, held * op.like.element_size())))
    chunk = 1 if count <= LOOP or chunk <= LOOP else chunk
    sweep = Sweep(lambda v: _wanted(op, v), op.ones(), chunk)
    return gathered(sweep, count, lambda start, stop: _basis(op, mixed, start, stop))


def _wanted(op: Op, cotangent: Tensor) -> list[Tensor | None]:
    """The cotangents of the operands that are asked for; None for the others too."""
    return [None if shape is None else g for g, shape in zip(op.pull(cotangent), op.shapes, strict=False)]


def _basis(op: Op, mixed: Sequence[int], start: int, stop: int) -> Tensor:
    """One-hot over the axes `mixed`, the same along the others: (stop - start, *shape)."""
    meta = op.node._input_metadata[op.nr]
    count = prod([op.shape[axis] for axis in mixed])
    hot = torch.zeros((stop - start, count), dtype=meta.dtype, device=meta.device)
    hot.diagonal(start).fill_(1)
    grid = [op.shape[axis] if axis in mixed else 1 for axis in range(len(op.shape))]
    return hot.view(stop - start, *grid).expand(stop - start, *op.shape).contiguous()


def nonzero_rows(op: Op, values: Tensor, shape: Shape, rows: Tensor) -> Term:
    """A piece that holds only the entries of `values` (over the operand) that are not zero here.

    `rows` is the output entry that each operand entry goes to; at most one.
    """
    cols = values.reshape(-1).nonzero().reshape(-1)
    pattern = Pattern(rows.expand(shape).reshape(-1)[cols], cols.reshape(1, -1), unique_rows=False)
    return SparseMap(op.shape, shape, op.like, pattern, values.reshape(-1)[cols].reshape(1, -1))
