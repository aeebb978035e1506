"""The norms of a Jacobian's blocks: how much each piece of an output changes with each piece of an input.

Both tensors are cut along their first axes into pieces of given sizes, of which the last of an axis may be smaller; the axes
behind stay whole.  The norm of a block is √Σ|J|² of its entries.  Nothing is written out that is not held.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from jvpcli.errors import LimitError, UsageError
from jvpcli.jacobians.dense import rows_of
from jvpcli.jacobians.linear_map import LinearMap, Shape
from jvpcli.jacobians.matrix_free import OperatorMap
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import UnsupportedError
from jvpcli.request import BlockSizes, Tell

MOST_BLOCKS = 1_000_000
"""So many norms are written out."""

FEW = 8
"""Of a Jacobian of which at most one entry in so many is not zero those are gone through, else all rows."""

AT_A_TIME = 1 << 20
"""Entries of a matrix whose squares are held at a time."""


def grid(shape: Shape, sizes: Shape) -> Shape:
    """How many pieces there are along each axis that is cut."""
    return tuple(-(-length // size) for length, size in zip(shape, sizes, strict=False))


def check_blocks(out_shape: Shape, in_shape: Shape, sizes: BlockSizes) -> None:
    """Refuses more blocks than are written out.

    Raises:
        LimitError: there are.
    """
    count = prod(grid(out_shape, sizes[0])) * prod(grid(in_shape, sizes[1]))
    if count > MOST_BLOCKS:
        raise LimitError(
            f"blocks of {' by '.join(map(str, sizes))} cut the Jacobian of {out_shape} by {in_shape} into {count} of them",
            explanation=f"Up to {MOST_BLOCKS} norms are written out.",
            hints=("ask for larger blocks, as in --blocks 64,64",),
        )


def block_norms(linear_map: LinearMap, sizes: BlockSizes, tell: Tell | None = None) -> Tensor:
    """The norms, float64: of the shape of the output's grid followed by the input's.

    `tell` is told how far it is, where each row takes a pass.

    Raises:
        UsageError: of complex tensors products alone are wanted.
    """
    grids = [grid(shape, each) for shape, each in zip(linear_map.shapes, sizes, strict=True)]
    rows, cols = (_pieces(shape, each) for shape, each in zip(linear_map.shapes, sizes, strict=True))
    squares = torch.zeros(prod(grids[0]), prod(grids[1]), dtype=torch.float64)
    if linear_map.nnz is not None and linear_map.nnz * FEW < linear_map.m * linear_map.n and linear_map.aside is None:
        at, to, values = linear_map.entries()
        squares.view(-1).index_add_(0, rows[at.cpu()] * squares.shape[1] + cols[to.cpu()], squared(values))
    else:
        for start, matrix in _rows(linear_map, tell):
            part = squares.new_zeros(len(matrix), squares.shape[1]).index_add_(1, cols, squared(matrix))
            squares.index_add_(0, rows[start : start + len(matrix)], part)
    return squares.sqrt().reshape(grids[0] + grids[1])


def _rows(linear_map: LinearMap, tell: Tell | None) -> Iterator[tuple[int, Tensor]]:
    """Consecutive rows: where they start, and they (count, n)."""
    if isinstance(linear_map, OperatorMap):
        try:
            yield from rows_of(linear_map.output, linear_map.input, linear_map.room, tell)
        except UnsupportedError as error:
            hints = ("leave out --jacobian none",)
            raise UsageError(f"the norms of blocks take the Jacobian where there are {error}", hints=hints) from error
    elif isinstance(linear_map, StructuredMap) and linear_map.nnz is None:
        for row in range(linear_map.m):
            v = linear_map.like.new_zeros(linear_map.m)
            v[row] = 1
            yield row, linear_map.pullback(v.reshape(linear_map.out_shape)).reshape(1, -1)
            if tell:
                tell("products, one a row", row + 1, linear_map.m)
    else:
        step = max(1, AT_A_TIME // max(linear_map.n, 1))
        for part in linear_map.parts:
            for start in range(0, linear_map.m, step):
                yield start, part[start : start + step]


def squared(values: Tensor) -> Tensor:
    """The squares of the numbers' sizes, in double precision."""
    return values.detach().cpu().abs().double().square()


def _pieces(shape: Shape, sizes: Shape) -> Tensor:
    """For each entry of a tensor of this shape, row-major, the number of the piece that it is in."""
    number = torch.zeros((), dtype=torch.int64)
    counts = grid(shape, sizes)
    for axis, (length, size, count) in enumerate(zip(shape, sizes, counts, strict=False)):
        along = torch.arange(length) // size
        number = number * count + along.reshape(-1, *[1] * (len(shape) - axis - 1))
    return number.expand(shape).reshape(-1)
