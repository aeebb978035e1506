"""Blocks into a store: each written by whoever has computed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import InternalError
from jvpcli.jacobians.cuts import Cut
from jvpcli.jacobians.linear_map import ComplexMap, LinearMap, as_numpy
from jvpcli.jacobians.store import THREADS, writing
from jvpcli.jacobians.store_layout import Layout, Opened

AT_A_TIME = 1 << 18
"""Entries whose squares are held at a time."""


def write_block(jacobians: Mapping[tuple[str, str], Opened], cut: Cut, number: int, maps: Mapping[str, LinearMap]) -> None:
    """Writes one block of the Jacobians of a cut, by input, to an opened store; what it is told by is written last.

    Raises:
        FileError: it cannot be written.
    """
    for x in cut.inputs:
        held = jacobians[cut.output, x]
        with writing(held.arrays["nnz"].store.root):
            try:
                _write(held, number, maps[x])
            except FileNotFoundError:  # another writer has closed the store just now, and taken away what was half written
                _write(held, number, maps[x])


def _write(held: Opened, number: int, block: LinearMap) -> None:
    import zarr

    with zarr.config.set(THREADS):
        layout, arrays = held.layout, held.arrays
        start, stop = layout.cut.span(number)
        if layout.room is None:
            nnz, squares, diagonal = _write_dense(layout, arrays, start, stop, block)
        else:
            nnz, squares, diagonal = _write_nonzeros(layout, arrays, number, block)
        _fill(arrays["diagonal"], slice(start, start + diagonal.numel()), as_numpy(diagonal))
        arrays["squares"][number] = squares.numpy()
        arrays["nnz"][number] = nnz


def _write_dense(
    layout: Layout, arrays: Mapping[str, Any], start: int, stop: int, block: LinearMap
) -> tuple[int, Tensor, Tensor]:
    """How many entries are not zero, Σ|J|² of the pieces, and the diagonal."""
    some = slice(start, stop)
    at = (some, slice(None)) if layout.by_rows else (slice(None), some)
    matrix = block.to_dense().reshape(block.m, block.n)
    if isinstance(block, ComplexMap):
        nnz = block.nnz
        _fill(arrays["matrix"], at, as_numpy(block.rows))
        if block.imaginary is not None:
            _fill(arrays["imaginary"], at, as_numpy(block.imaginary))
    else:
        nnz = int(torch.count_nonzero(matrix))
        _fill(arrays["matrix"], at, as_numpy(matrix))
    squares = _squares_of(matrix if layout.by_rows else matrix.t(), layout.piece, arrays["squares"].shape[1])
    return nnz, squares, matrix.diagonal(start if layout.by_rows else -start)


def _write_nonzeros(
    layout: Layout, arrays: Mapping[str, Any], number: int, block: LinearMap
) -> tuple[int, Tensor, Tensor]:
    """How many there are, Σ|J|² of the pieces, and the diagonal."""
    r, c, values = block.entries()
    order = torch.argsort(r * block.n + c)
    r, c, values = r[order], c[order], values[order]
    nnz, room = values.numel(), arrays["data"].shape[1]
    if nnz > room:
        raise InternalError(f"a block has {nnz} entries, and {room} at most were expected")
    counts = torch.bincount(r, minlength=layout.cut.size)
    for name, held in (("data", values), ("indices", c), ("indptr", torch.cat([counts.new_zeros(1), counts.cumsum(0)]))):
        _fill(arrays[name], (slice(number, number + 1), slice(0, held.numel())), as_numpy(held)[None])
    squares = torch.zeros(arrays["squares"].shape[1], dtype=torch.float64)
    squares.index_add_(0, (c // layout.piece).cpu(), _squares(values))
    start, stop = layout.cut.span(number)
    diagonal = values.new_zeros(max(0, min(stop, *layout.shape) - start))
    on = c == r + start
    diagonal[r[on]] = values[on]
    return nnz, squares, diagonal


def _fill(array: Any, at: slice | tuple[slice, ...], values: np.ndarray) -> None:
    """Writes where there is something to write."""
    if values.size:
        array[at] = values.astype(array.dtype, copy=False)


def _squares_of(matrix: Tensor, piece: int, across: int) -> Tensor:
    """Σ|J|² of all rows together, of pieces of so many columns, of which there are `across`."""
    n = matrix.shape[1]
    where = torch.arange(n) // piece
    squares = torch.zeros(across, dtype=torch.float64)
    for some in matrix.split(max(1, AT_A_TIME // max(1, n))):
        squares.index_add_(0, where, _squares(some).sum(0))
    return squares


def _squares(values: Tensor) -> Tensor:
    return values.detach().cpu().abs().double().square()
