"""Jacobians in a Zarr store, read back as linear maps: a block at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import FileError, LimitError
from jvpcli.jacobians.cuts import sparse_map
from jvpcli.jacobians.dense import Summary
from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap, Shape, as_numpy
from jvpcli.jacobians.store import about, jacobians, missing
from jvpcli.jacobians.store_layout import PIECES, Layout, Opened, damaged, numpy_dtype, read
from jvpcli.system.memory import free_memory


def open_maps(path: str, *, unfinished: bool = False) -> dict[tuple[str, str], StoredMap]:
    """(output, input) to the Jacobian in a store, of which nothing is read until it is asked for.

    Raises:
        FileError: there is no such store, or it is not complete.
    """
    known = about(path)
    if not known.complete and not unfinished:
        count = sum(1 for _ in missing(path, known.cuts))
        total = sum(cut.count for cut in known.cuts)
        raise FileError(
            f"{path} is not complete: {count} of {total} blocks are missing"
            if count
            else f"{path} is not complete: its products have not been compared yet",
            hints=("give the command that began it again, with --resume",),
        )
    return {pair: StoredMap(held.layout.out_shape, held.layout.in_shape, held) for pair, held in jacobians(path).items()}


@dataclass(frozen=True, eq=False, repr=False)
class BlockMap(LinearMap):
    """A map in blocks, of which one at a time is there.

    Attributes:
        held: how the Jacobian is held, and the arrays of the store.
    """

    held: Opened

    @abstractmethod
    def block(self, number: int) -> LinearMap:
        """One block: a map of flat rows, or of flat columns."""

    @property
    def layout(self) -> Layout:
        """How the matrix is held."""
        return self.held.layout

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return self.layout.cut.count

    @property
    def structure(self) -> str:
        """By the number of nonzeros alone: "dense" where no entry is zero here, else "unknown"."""
        return "dense" if self.nnz == self.m * self.n > 1 else "unknown"

    @cached_property
    def nnz(self) -> int:
        """How many entries are not zero, as was counted when the blocks were written."""
        counts = self._read("nnz")
        if counts.size and counts.min() < 0:
            raise damaged(self.held.arrays["nnz"], f"block {counts.argmin()} is not there")
        return int(counts.sum())

    def _read(self, name: str, at: Any = ...) -> np.ndarray:
        return read(self.held.arrays[name], at)

    def _pull(self, v: Tensor) -> Tensor:
        return self.total([self.products(0, self.blocks, [v], [])], 1, 0)[0].to(v.device)

    def _push(self, u: Tensor) -> Tensor:
        return self.total([self.products(0, self.blocks, [], [u])], 0, 1)[0].to(u.device)

    def products(self, first: int, last: int, vs: Sequence[Tensor], us: Sequence[Tensor]) -> list[Tensor]:
        """What the blocks first…last give to vᵀJ for some v and to Ju for some u, each block read once.

        Of what all blocks add up to these are sums in double precision, of what lies side by side the pieces.
        """
        vs, us = [v.reshape(-1).cpu() for v in vs], [u.reshape(-1).cpu() for u in us]
        parts: list[list[Tensor]] = [[] for _ in (*vs, *us)]
        for number in range(first, last):
            block, (start, stop) = self.block(number), self.layout.cut.span(number)
            some = slice(start, stop)
            found = [block._pull(v[some] if self.layout.by_rows else v) for v in vs]
            found += [block._push(u if self.layout.by_rows else u[some]) for u in us]
            for position, product in enumerate(found):
                product = product.reshape(-1)
                if self._adds(position < len(vs)):
                    wide = product.to(torch.complex128 if product.is_complex() else torch.float64)
                    parts[position] = [sum(parts[position], wide)]
                else:
                    parts[position].append(product)
        return [torch.cat(part) if part else torch.zeros(0) for part in parts]

    def _adds(self, backwards: bool) -> bool:
        """Whether the products of all blocks are added up (or stand side by side)."""
        return backwards == self.layout.by_rows

    def total(self, parts: Sequence[Sequence[Tensor]], pulled: int, pushed: int) -> list[Tensor]:
        """The products by all blocks, of what consecutive ones give: so many vᵀJ, and then so many Ju."""
        results = []
        for position in range(pulled + pushed):
            backwards = position < pulled
            shape, dtype = (self.in_shape, self._dtype_of(1)) if backwards else (self.out_shape, self._dtype_of(0))
            mine = [part[position] for part in parts if part[position].numel()]
            if not mine:
                results.append(torch.zeros(shape, dtype=dtype))
            else:
                whole = sum(mine[1:], mine[0]) if self._adds(backwards) else torch.cat(mine)
                results.append(whole.to(dtype).reshape(shape))
        return results

    @property
    def _real(self) -> torch.dtype:
        """The dtype of the entries' sizes."""
        dtype = self.layout.dtype
        return dtype.to_real() if dtype.is_complex else dtype

    def _dtype_of(self, end: int) -> torch.dtype:
        """The dtype of a product that ends at the output (0) or the input (1)."""
        return self._real.to_complex() if self.of_complex[end] else self._real

    @property
    def _shown(self) -> torch.dtype:
        """The dtype of the array that is shown, which is complex where the output or the input is."""
        return self._real.to_complex() if any(self.of_complex) else self._real

    def to_dense(self) -> Tensor:
        """The array of shape out_shape + in_shape.

        Raises:
            LimitError: it is larger than the memory that is free.
        """
        size = self.m * self.n * self._shown.itemsize
        if size > (free_memory() or size):
            raise LimitError(
                f"the Jacobian ({self.m} by {self.n}) takes {size} bytes, more than there is memory",
                hints=("ask for rows of it (J[rows]) or products with it (pullback, pushforward), or go on with to_dask()",),
            )
        blocks = [self.block(number).to_dense().reshape(self._shape_of(number)) for number in range(self.blocks)]
        whole = torch.cat(blocks, 0 if self.layout.by_rows else 1) if blocks else torch.zeros((self.m, self.n))
        return whole.to(self._shown).reshape(self.out_shape + self.in_shape)

    def _shape_of(self, number: int) -> Shape:
        start, stop = self.layout.cut.span(number)
        return (stop - start, self.n) if self.layout.by_rows else (self.m, stop - start)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column (int64) and value of every entry that is not zero."""
        found = [self.block(number).entries() for number in range(self.blocks)]
        starts = [self.layout.cut.span(number)[0] for number in range(self.blocks)]
        down = self.layout.by_rows
        shifted = [(r + at, c, v) if down else (r, c + at, v) for at, (r, c, v) in zip(starts, found, strict=True)]
        if not shifted:
            none = torch.zeros(0, dtype=torch.int64)
            return none, none, torch.zeros(0, dtype=self._shown)
        rows, cols, values = (torch.cat(each) for each in zip(*shifted, strict=True))
        return rows, cols, values.to(self._shown)


@dataclass(frozen=True, eq=False, repr=False)
class StoredMap(BlockMap):
    """A Jacobian in a store: a block of it is read when it is needed, and none is kept.

    Attributes:
        known: products that were computed already: of which tensor, whether forwards, and what.
    """

    known: tuple[tuple[Tensor, bool, Tensor], ...] = ()

    @property
    def of_complex(self) -> tuple[bool, bool]:
        """Whether the output is complex, and whether the input is."""
        return self.layout.of_complex

    @property
    def dtype(self) -> torch.dtype:
        """Of the entries that are held."""
        return self.layout.dtype

    @property
    def is_sparse(self) -> bool:
        """Whether nonzeros alone are held."""
        return self.layout.room is not None

    @property
    def norm(self) -> float:
        """√Σ|J|², as was added up when the blocks were written."""
        return float(np.sqrt(self._read("squares").sum()))

    @property
    def diagonal(self) -> Tensor:
        """The main diagonal of the matrix (m, n)."""
        return torch.from_numpy(self._read("diagonal"))

    def summary(self, tell: Any = None) -> Summary:
        """Its norm and its diagonal."""
        return Summary(self.norm, self.diagonal)

    def picture(self) -> tuple[int, int, np.ndarray]:
        """The norms of pieces of the matrix, and how many rows and columns a piece has: at most PIECES by PIECES of them.

        A piece is some whole blocks along the way that the matrix was cut; the last piece each way may be smaller.
        """
        squares = self._read("squares")
        few = max(1, -(-len(squares) // PIECES))
        starts = np.arange(0, len(squares), few)
        norms = np.sqrt(np.add.reduceat(squares, starts, axis=0)) if len(squares) else squares
        long, across = few * self.layout.cut.size, self.layout.piece
        return (long, across, norms) if self.layout.by_rows else (across, long, norms.T)

    def block(self, number: int) -> LinearMap:
        """One block, read: a map of flat rows, or of flat columns.

        Raises:
            FileError: it cannot be read, or has not the nonzeros that were written.
        """
        start, stop = self.layout.cut.span(number)
        shape_out, shape_in = ((stop - start,), (self.n,)) if self.layout.by_rows else ((self.m,), (stop - start,))
        if self.is_sparse:
            data, indices, indptr = self._csr(number)
            rows = torch.repeat_interleave(torch.arange(stop - start), torch.from_numpy(np.diff(indptr)))
            cols, values = torch.from_numpy(indices).long(), torch.from_numpy(data).to(self.dtype)
            return sparse_map(shape_out, shape_in, rows, cols, values)
        at = (slice(start, stop), slice(None)) if self.layout.by_rows else (slice(None), slice(start, stop))
        matrix = self._entries("matrix", at)
        if not any(self.of_complex):
            return DenseMap(shape_out, shape_in, matrix)
        return ComplexMap(shape_out, shape_in, matrix, self._entries("imaginary", at) if self.of_complex[0] else None)

    def _entries(self, name: str, at: Any) -> Tensor:
        """In the dtype of the Jacobian, or a wider one where PyTorch cannot multiply matrices of that."""
        return torch.from_numpy(self._read(name, at)).to(torch.complex64 if self.dtype is torch.complex32 else self.dtype)

    def _csr(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`data`, `indices` and `indptr` of a block of rows, as SciPy takes them."""
        start, stop = self.layout.cut.span(number)
        nnz = int(self._read("nnz", number))
        data, indices = (self._read(name, (number, slice(0, max(0, nnz)))) for name in ("data", "indices"))
        indptr = self._read("indptr", (number, slice(0, stop - start + 1)))
        ends = (indptr[0], indptr[-1]) == (0, nnz) and data.size == nnz
        if not (ends and (np.diff(indptr) >= 0).all() and ((indices >= 0) & (indices < self.n)).all()):
            raise damaged(self.held.arrays["indptr"], f"block {number} has not the {nnz} nonzeros that were written")
        return data, indices, indptr

    def absolute(self) -> LinearMap:
        """The map of the entries' absolute values."""
        return Sizes(self.out_shape, self.in_shape, self.held, self)

    def _pull(self, v: Tensor) -> Tensor:
        found = self._known(v, False)
        return super()._pull(v) if found is None else found

    def _push(self, u: Tensor) -> Tensor:
        found = self._known(u, True)
        return super()._push(u) if found is None else found

    def _known(self, vector: Tensor, forwards: bool) -> Tensor | None:
        return next((product for of, way, product in self.known if of is vector and way is forwards), None)

    def __getitem__(self, rows: Any) -> Tensor:
        """The Jacobian of y[rows]: of its shape followed by the input's; only what it takes is read.

        Args:
            rows: an index of the output: a number, a slice, a list of numbers, or a tuple of such.
        """
        numbers = _flat(self.out_shape, rows)
        flat = numbers.reshape(-1)
        if not flat.size:
            found = torch.zeros((0, self.n), dtype=self._shown)
        elif self.is_sparse:
            found = torch.stack([self._row(int(number)) for number in flat])
        else:
            consecutive = bool((np.diff(flat) == 1).all())
            at = (slice(int(flat[0]), int(flat[-1]) + 1) if consecutive else flat, slice(None))
            found = self._entries("matrix", at)
            if self.of_complex[0]:
                found = ComplexMap((flat.size,), (self.n,), found, self._entries("imaginary", at)).matrix
        return found.to(self._shown).reshape(tuple(numbers.shape) + self.in_shape)

    def _row(self, number: int) -> Tensor:
        block, row = divmod(number, self.layout.cut.size)
        first, last = self._read("indptr", (block, slice(row, row + 2)))
        cols, values = (self._read(name, (block, slice(max(0, first), max(0, last)))) for name in ("indices", "data"))
        if not (0 <= first <= last and ((cols >= 0) & (cols < self.n)).all()):
            raise damaged(self.held.arrays["indices"], f"row {number} has not the nonzeros that were written")
        found = torch.zeros(self.n, dtype=self.dtype)
        return found.index_put_((torch.from_numpy(cols).long(),), torch.from_numpy(values).to(self.dtype))

    def to_scipy(self) -> Any:
        """SciPy's sparse matrix (m, n), put together from the blocks; of float16 as float32, since SciPy has none of half."""
        import scipy.sparse

        blocks = [self._scipy_block(number) for number in range(self.blocks)]
        if not blocks:
            return scipy.sparse.csr_array((self.m, self.n), dtype=self._of_scipy)
        join = scipy.sparse.vstack if self.layout.by_rows else scipy.sparse.hstack
        return join(blocks, format="csr")

    def _scipy_block(self, number: int) -> Any:
        import scipy.sparse

        shape = self._shape_of(number)
        if self.is_sparse:
            data, indices, indptr = self._csr(number)
            return scipy.sparse.csr_array((data.astype(self._of_scipy), indices, indptr), shape=shape)
        return scipy.sparse.csr_array(as_numpy(self.block(number).to_dense()).reshape(shape).astype(self._of_scipy))

    @property
    def _of_scipy(self) -> np.dtype:
        return np.promote_types(numpy_dtype(self._shown), np.float32)

    def to_dask(self) -> Any:
        """A Dask array (m, n) that reads a block when it is computed; of nonzeros its chunks are `scipy.sparse.csr_array`s.

        Raises:
            UsageError: Dask is not installed.
        """
        from jvpcli.cluster import check_dask

        check_dask("to_dask()")
        import dask.array as da
        from dask import delayed

        if not self.is_sparse and not self.of_complex[0]:
            return da.from_zarr(self.held.arrays["matrix"])
        dtype = self._of_scipy if self.is_sparse else numpy_dtype(self._shown)
        meta = self._scipy_block(0)[:0] if self.is_sparse and self.blocks else np.empty((0, 0), dtype)
        block = self._scipy_block if self.is_sparse else lambda number: as_numpy(self.block(number).to_dense())
        numbers = range(self.blocks)
        blocks = [da.from_delayed(delayed(block)(number), self._shape_of(number), dtype=dtype, meta=meta) for number in numbers]
        return da.concatenate(blocks, 0 if self.layout.by_rows else 1) if blocks else da.zeros((self.m, self.n), dtype=dtype)


@dataclass(frozen=True, eq=False, repr=False)
class Sizes(BlockMap):
    """The absolute values of a Jacobian's entries, by which it is told how far roundings can carry a product.

    Attributes:
        of: the Jacobian.
    """

    of: StoredMap

    def block(self, number: int) -> LinearMap:
        """The absolute values of one block."""
        return self.of.block(number).absolute()


def _flat(shape: Shape, key: Any) -> np.ndarray:
    """The numbers of the entries of a tensor of this shape that an index picks, as it arranges them."""
    if len(shape) >= 1 and isinstance(key, (int, slice)):
        first, inner = np.arange(shape[0])[key], prod(shape[1:])
        return (np.asarray(first)[..., None] * inner + np.arange(inner)).reshape(np.shape(first) + tuple(shape[1:]))
    key = tuple([as_numpy(k) if isinstance(k, Tensor) else k for k in (key if isinstance(key, tuple) else (key,))])
    return np.asarray(np.arange(prod(shape)).reshape(shape)[key])
