"""Jacobians in a Zarr store: written block by block, by whoever computes a block, and read back as linear maps.

    J.zarr                      its attribute "jvp": what was asked, how it was cut, and whether it is complete
      inputs/NAME               the values of the inputs
      jacobian/OUTPUT/INPUT     attributes: shapes, names, dtype, and how the matrix (m, n) is held
        matrix                  a dense one, a shard for each block; [imaginary]: the gradient of Im y
        data, indices, indptr   or a row of each for each block, as scipy.sparse.csr_array takes them: first so many as it has
        diagonal                the main diagonal
        squares                 (blocks, pieces): Σ|J|² of each block, cut into pieces across
        nnz                     (blocks,): how many entries are not zero; -1: the block has not been written

A file of the store is there whole or not at all (Zarr renames it when it is), and the entry of `nnz` is written last: a block
that it tells of is whole, whatever has become of who wrote it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import isqrt, prod
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import FileError, InternalError, LimitError, why
from jvpcli.jacobians.arrays import as_numpy
from jvpcli.jacobians.cuts import Cut, sparse_map
from jvpcli.jacobians.dense import Summary
from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap, Shape
from jvpcli.language.values import dtype_name
from jvpcli.problem import Named, Problem
from jvpcli.system.memory import free_memory

FORMAT = 1
"""The number of this layout."""

BEGUN = {"format": FORMAT}
"""What a store tells of itself until all of it is laid out."""

PIECES = 64
"""The norms of so many pieces of a block are kept, and shown of so many blocks."""

CHUNK_BYTES = 1 << 20
"""Bytes of a chunk, about: what is read at least to see one row."""

AT_A_TIME = 1 << 18
"""Entries whose squares are held at a time."""


THREADS = {"threading.max_workers": 2, "async.concurrency": 2}
"""Zarr's threads, which compress a chunk each: more of them would hold more than a block."""


def start() -> None:
    """Loads Zarr and starts its threads: what they take is not a request's memory."""
    import zarr

    with zarr.config.set(THREADS):
        zarr.create_array({}, data=np.ones((4, 1 << 16)), chunks=(1, 1 << 16), shards=(4, 1 << 16))[...]


# Writing


def exists(path: str) -> bool:
    """Whether there is something at a path, other than a store whose writer died before there could be a block in it."""
    if not os.path.lexists(path):
        return False
    try:
        known = _opened(path, "r").attrs.get("jvp")
    except FileError:
        return True
    if known != BEGUN:
        return True
    shutil.rmtree(path, ignore_errors=True)
    return os.path.lexists(path)


def create(path: str, question: Mapping[str, Any], problem: Problem, inputs: Named, cuts: Sequence[Cut]) -> None:
    """A new store with no block in it.

    Args:
        path: a directory that there isn't yet.
        question: what the Jacobians are of, as JSON has it.
        problem: evaluated; its shapes and dtypes are kept.
        inputs: whose values are kept.
        cuts: into which blocks the Jacobians are cut.

    Raises:
        FileError: it cannot be written there.
    """
    import zarr

    try:
        root = zarr.open_group(path, mode="w-", zarr_format=3, attributes={"jvp": BEGUN})
        for name, value in inputs.items():
            held = root.create_array(f"inputs/{_node(name)}", data=as_numpy(value))
            held.attrs["dtype"] = dtype_name(value.dtype)
        for cut in cuts:
            y = problem.differentiable[cut.output]
            for x, room in zip(cut.inputs, cut.room, strict=True):
                _create_map(root.create_group(_place(cut.output, x)), cut, x, room, y, problem.leaves[x])
        # last, so that what has it has all
        root.attrs["jvp"] = {"format": FORMAT, "question": question, "cuts": list(map(asdict, cuts)), "complete": False}
    except OSError as error:
        raise FileError(f"{path} cannot be written: {why(error, path)}") from error


def _node(name: str) -> str:
    """A name that a node of a store may have; names of inputs mostly are such."""
    return quote(name, safe="[]'\"=, ").replace("__", "%5F%5F").replace(".", "%2E" if not name.strip(".") else ".")


def _place(output: str, x: str) -> str:
    return f"jacobian/{_node(output)}/{_node(x)}"


def _create_map(group: Any, cut: Cut, x: str, room: int | None, y: Tensor, leaf: Tensor) -> None:
    m, n = y.numel(), leaf.numel()
    of_complex = (y.is_complex(), leaf.is_complex())
    dtype = as_numpy(torch.empty(0, dtype=leaf.dtype)).dtype
    group.attrs.update(
        {
            "output": cut.output, "input": x, "shape": [m, n], "shape_out": list(y.shape), "shape_in": list(leaf.shape),
            "dtype": dtype_name(leaf.dtype), "format": "dense" if room is None else "csr", "along": cut.along,
            "block": cut.size, "complex": list(of_complex),
        }
    )  # fmt: skip
    rows = cut.along == "rows"
    if room is None:
        shard = (cut.size, max(1, n)) if rows else (max(1, m), cut.size)
        for name in ("matrix", "imaginary") if of_complex[0] else ("matrix",):
            _create_sharded(group, name, (m, n), shard, dtype)
    else:
        index = np.int32 if max(n, room) < 2**31 else np.int64
        for name, length, kind in (("data", room, dtype), ("indices", room, index), ("indptr", cut.size + 1, np.int64)):
            _create_sharded(group, name, (cut.count, length), (1, max(1, length)), np.dtype(kind))
    wide = np.result_type(dtype, np.complex64) if of_complex[0] else dtype
    short = max(1, min(m, n))
    group.create_array("diagonal", shape=(min(m, n),), chunks=(min(cut.size, short),), dtype=wide, fill_value=0)
    length = n if rows else m
    piece = max(1, -(-length // PIECES))
    across = max(1, -(-length // piece))
    group.attrs["piece"] = piece
    group.create_array("squares", shape=(cut.count, across), chunks=(1, across), dtype="float64", fill_value=0)
    group.create_array("nnz", shape=(cut.count,), chunks=(1,), dtype="int64", fill_value=-1)


def _create_sharded(group: Any, name: str, shape: Shape, shard: Shape, dtype: np.dtype) -> None:
    """An array of shards, each with chunks that divide it."""
    most = max(1, CHUNK_BYTES // dtype.itemsize)
    across = _divisor(shard[1], most)
    chunk = (_divisor(shard[0], max(1, most // across)), across)
    group.create_array(name, shape=shape, shards=shard, chunks=chunk, dtype=dtype, fill_value=0)


def _divisor(length: int, most: int) -> int:
    """The divisor that is nearest to `most` by ratio: a chunk may be larger than it, but no shard is cut into thousands."""
    small = [k for k in range(1, isqrt(length) + 1) if length % k == 0]
    return min((*small, *[length // k for k in small]), key=lambda k: max(k / most, most / k) if length > most else -k)


def write_block(path: str, cut: Cut, number: int, maps: Mapping[str, LinearMap]) -> None:
    """Writes one block of the Jacobians of a cut; what it is told by is written last.

    Raises:
        FileError: it cannot be written.
    """
    import zarr

    root = _opened(path, "r+")
    try:
        with zarr.config.set(THREADS):
            for x in cut.inputs:
                _write(root[_place(cut.output, x)], cut, number, maps[x])
    except OSError as error:
        raise FileError(f"{path} cannot be written: {why(error, path)}") from error


def _write(group: Any, cut: Cut, number: int, block: LinearMap) -> None:
    start, stop = cut.span(number)
    rows = cut.along == "rows"
    at = slice(start, stop) if rows else slice(None), slice(None) if rows else slice(start, stop)
    piece, across = group.attrs["piece"], group["squares"].shape[1]
    if "data" in group:
        r, c, values = block.entries()
        order = torch.argsort(r * block.n + c)
        r, c, values = r[order], c[order], values[order]
        nnz = values.numel()
        if nnz > group["data"].shape[1]:
            raise InternalError(f"a block has {nnz} entries, and {group['data'].shape[1]} at most were expected")
        counts = torch.bincount(r, minlength=cut.size)
        for name, held in (("data", values), ("indices", c), ("indptr", torch.cat([counts.new_zeros(1), counts.cumsum(0)]))):
            _fill(group[name], (slice(number, number + 1), slice(0, held.numel())), as_numpy(held)[None])
        squares = torch.zeros(across, dtype=torch.float64).index_add_(0, (c // piece).cpu(), _squares(values))
        diagonal = values.new_zeros(max(0, min(stop, min(group.attrs["shape"])) - start))
        on = c == r + start
        diagonal[r[on]] = values[on]
    else:
        matrix = block.to_dense().reshape(block.m, block.n)
        nnz = int(torch.count_nonzero(matrix)) if block.nnz is None else block.nnz
        if isinstance(block, ComplexMap):
            _fill(group["matrix"], at, as_numpy(block.rows))
            if block.imaginary is not None:
                _fill(group["imaginary"], at, as_numpy(block.imaginary))
        else:
            _fill(group["matrix"], at, as_numpy(matrix))
        squares = _squares_of(matrix if rows else matrix.t(), piece, across)
        diagonal = matrix.diagonal(start if rows else -start)
    if diagonal.numel():
        _fill(group["diagonal"], (slice(start, start + diagonal.numel()),), as_numpy(diagonal))
    group["squares"][number] = squares.numpy()
    group["nnz"][number] = nnz


def _fill(array: Any, at: tuple[slice, ...], values: np.ndarray) -> None:
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


def missing(path: str, cuts: Sequence[Cut]) -> Iterator[tuple[int, int]]:
    """The blocks that are not whole yet: the place of their cut, and their number there."""
    root = _opened(path, "r")
    for place, cut in enumerate(cuts):
        known = [np.asarray(root[_place(cut.output, x)]["nnz"][:]) for x in cut.inputs]
        yield from ((place, int(number)) for number in np.flatnonzero(np.min(known, axis=0) < 0))


def close(path: str) -> int:
    """Marks a store as complete and takes away what dead writers have left; the bytes that it has on the disk."""
    root = _opened(path, "r+")
    for left in Path(path).rglob("*.partial"):
        left.unlink(missing_ok=True)
    root.attrs["jvp"] = {**root.attrs["jvp"], "complete": True}
    return written_bytes(path)


def written_bytes(path: str) -> int:
    """The bytes that a store has on the disk; files that come and go meanwhile don't count."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if not file.name.endswith(".partial") and file.is_file())


# Reading


@dataclass(frozen=True)
class About:
    """What a store tells of itself.

    Attributes:
        question: what the Jacobians are of.
        cuts: how they were cut.
        complete: whether all blocks are there, and were compared.
    """

    question: Mapping[str, Any]
    cuts: tuple[Cut, ...]
    complete: bool


def about(path: str) -> About:
    """What a store tells of itself.

    Raises:
        FileError: there is none, or what is there was not written by jvp.
    """
    known = _opened(path, "r").attrs.get("jvp")
    if not isinstance(known, Mapping) or known.get("format") != FORMAT or known == BEGUN:
        raise FileError(f"{path} holds no Jacobians of jvp's", hints=("jvp inspect … --save J.zarr writes them",))
    cuts = tuple([Cut(**{**cut, "inputs": tuple(cut["inputs"]), "room": tuple(cut["room"])}) for cut in known["cuts"]])
    return About(known["question"], cuts, known["complete"])


def inputs_of(path: str) -> dict[str, Tensor]:
    """The inputs that a store holds, by name."""
    found: dict[str, Tensor] = {}
    root = _opened(path, "r")
    for name in root.attrs["jvp"]["question"]["inputs"]:
        array = root[f"inputs/{_node(name)}"]
        found[name] = torch.from_numpy(np.array(array[...])).to(getattr(torch, array.attrs["dtype"]))
    return found


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
    root = _opened(path, "r")
    return {(cut.output, x): _map(root[_place(cut.output, x)]) for cut in known.cuts for x in cut.inputs}


def _opened(path: str, mode: Literal["r", "r+"]) -> Any:
    """The root of a store.

    Raises:
        FileError: there is none.
    """
    import zarr

    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (OSError, ValueError, KeyError) as error:
        if not os.path.lexists(path):
            raise FileError(f"{path} cannot be read: there is no such directory") from error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise FileError(f"{path} cannot be read: {why(error, path)}") from error
        raise FileError(f"{path} cannot be read: it is no Zarr store") from error


def _map(group: Any) -> StoredMap:
    told = group.attrs
    return StoredMap(tuple(told["shape_out"]), tuple(told["shape_in"]), group, dict(told))


@dataclass(frozen=True, eq=False, repr=False)
class StoredMap(LinearMap):
    """A Jacobian in a store: a block of it is read when it is needed, and none is kept.

    Attributes:
        group: of the store.
        told: the group's attributes.
        of_sizes: whether the entries' absolute values are meant.
        known: products that were computed already: of which tensor, whether forwards, and what.
    """

    group: Any
    told: Mapping[str, Any]
    of_sizes: bool = False
    known: tuple[tuple[Tensor, bool, Tensor], ...] = ()

    @property
    def structure(self) -> str:
        """By the number of nonzeros alone: "dense" where no entry is zero here, else "unknown"."""
        return "dense" if self.nnz == self.m * self.n > 1 else "unknown"

    @cached_property
    def nnz(self) -> int:
        """How many entries are not zero, as was counted when the blocks were written."""
        return int(np.asarray(self.group["nnz"][:]).sum())

    @property
    def of_complex(self) -> tuple[bool, bool]:
        """Whether the output is complex, and whether the input is."""
        output, x = self.told["complex"]
        return output, x

    @property
    def dtype(self) -> torch.dtype:
        """Of the entries that are held."""
        dtype: torch.dtype = getattr(torch, self.told["dtype"])
        return dtype

    @property
    def is_sparse(self) -> bool:
        """Whether nonzeros alone are held."""
        return bool(self.told["format"] == "csr")

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return int(self.group["nnz"].shape[0])

    @property
    def norm(self) -> float:
        """√Σ|J|², as was added up when the blocks were written."""
        return float(np.sqrt(np.asarray(self.group["squares"][...]).sum()))

    @property
    def diagonal(self) -> Tensor:
        """The main diagonal of the matrix (m, n)."""
        return torch.from_numpy(np.array(self.group["diagonal"][...]))

    def summary(self, tell: Any = None) -> Summary:
        """Its norm and its diagonal."""
        return Summary(self.norm, self.diagonal)

    def picture(self) -> tuple[int, int, np.ndarray]:
        """The norms of pieces of the matrix, and how many rows and columns a piece has: at most PIECES by PIECES of them.

        A piece is some whole blocks along the way that the matrix was cut; the last piece each way may be smaller.
        """
        squares = np.asarray(self.group["squares"][...])
        few = max(1, -(-len(squares) // PIECES))
        starts = np.arange(0, len(squares), few)
        norms = np.sqrt(np.add.reduceat(squares, starts, axis=0)) if len(squares) else squares
        long, across = few * self.told["block"], self.told["piece"]
        return (long, across, norms) if self._by_rows else (across, long, norms.T)

    @property
    def _by_rows(self) -> bool:
        return bool(self.told["along"] == "rows")

    def _span(self, number: int) -> tuple[int, int]:
        size, length = self.told["block"], self.m if self._by_rows else self.n
        return number * size, min(length, (number + 1) * size)

    def block(self, number: int) -> LinearMap:
        """One block, read: a map of flat rows, or of flat columns."""
        start, stop = self._span(number)
        shape_out, shape_in = ((stop - start,), (self.n,)) if self._by_rows else ((self.m,), (stop - start,))
        if self.is_sparse:
            data, indices, indptr = self._csr(number)
            rows = torch.repeat_interleave(torch.arange(stop - start), torch.from_numpy(np.diff(indptr)))
            cols, values = torch.from_numpy(indices).long(), torch.from_numpy(data).to(self.dtype)
            found: LinearMap = sparse_map(shape_out, shape_in, rows, cols, values)
        else:
            at = (slice(start, stop), slice(None)) if self._by_rows else (slice(None), slice(start, stop))
            matrix = self._read("matrix", at)
            imaginary = self._read("imaginary", at) if self.of_complex[0] else None
            complex_ = any(self.of_complex)
            found = ComplexMap(shape_out, shape_in, matrix, imaginary) if complex_ else DenseMap(shape_out, shape_in, matrix)
        return found.absolute() if self.of_sizes else found

    def _read(self, name: str, at: tuple[Any, ...]) -> Tensor:
        return torch.from_numpy(np.array(self.group[name][at])).to(self.dtype)

    def _csr(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`data`, `indices` and `indptr` of a block of rows, as SciPy takes them."""
        start, stop = self._span(number)
        nnz = int(self.group["nnz"][number])
        data, indices = (np.array(self.group[name][number, :nnz]) for name in ("data", "indices"))
        return data, indices, np.array(self.group["indptr"][number, : stop - start + 1])

    def _pull(self, v: Tensor) -> Tensor:
        found = self._known(v, False)
        return self.total([self.products(0, self.blocks, [v], [])], 1, 0)[0].to(v.device) if found is None else found

    def _push(self, u: Tensor) -> Tensor:
        found = self._known(u, True)
        return self.total([self.products(0, self.blocks, [], [u])], 0, 1)[0].to(u.device) if found is None else found

    def _known(self, vector: Tensor, forwards: bool) -> Tensor | None:
        return next((product for of, way, product in self.known if of is vector and way is forwards), None)

    def products(self, first: int, last: int, vs: Sequence[Tensor], us: Sequence[Tensor]) -> list[Tensor]:
        """What the blocks first…last give to vᵀJ for some v and to Ju for some u, each block read once.

        Of what all blocks add up to these are sums in double precision, of what lies side by side the pieces.
        """
        vs, us = [v.reshape(-1).cpu() for v in vs], [u.reshape(-1).cpu() for u in us]
        parts: list[list[Tensor]] = [[] for _ in (*vs, *us)]
        for number in range(first, last):
            block, (start, stop) = self.block(number), self._span(number)
            some = slice(start, stop)
            found = [block._pull(v[some] if self._by_rows else v) for v in vs]
            found += [block._push(u if self._by_rows else u[some]) for u in us]
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
        return backwards == self._by_rows

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

    def _dtype_of(self, end: int) -> torch.dtype:
        """The dtype of a product that ends at the output (0) or the input (1)."""
        dtype = self.dtype.to_real() if self.dtype.is_complex else self.dtype
        return dtype.to_complex() if self.of_complex[end] and not self.of_sizes else dtype

    def __getitem__(self, rows: Any) -> Tensor:
        """The Jacobian of y[rows]: of its shape followed by the input's; only what it takes is read.

        Args:
            rows: an index of the output: a number, a slice, a list of numbers, or a tuple of such.
        """
        numbers = _flat(self.out_shape, rows)
        flat = numbers.reshape(-1)
        if not flat.size:
            found = torch.zeros((0, self.n), dtype=self.dtype.to_complex() if self.of_complex[0] else self.dtype)
        elif self.is_sparse:
            found = torch.stack([self._row(int(number)) for number in flat])
        else:
            consecutive = bool((np.diff(flat) == 1).all())
            at: Any = (slice(int(flat[0]), int(flat[-1]) + 1), slice(None))
            read = (lambda name: self._read(name, at)) if consecutive else self._picked(flat)
            imaginary = read("imaginary") if self.of_complex[0] else None
            found = read("matrix") if imaginary is None else ComplexMap((flat.size,), (self.n,), read("matrix"), imaginary).matrix
        return found.reshape(tuple(numbers.shape) + self.in_shape)

    def _picked(self, flat: np.ndarray) -> Any:
        return lambda name: torch.from_numpy(np.array(self.group[name].oindex[flat, slice(None)])).to(self.dtype)

    def _row(self, number: int) -> Tensor:
        block, row = divmod(number, self.told["block"])
        first, last = np.asarray(self.group["indptr"][block, row : row + 2])
        cols = torch.from_numpy(np.array(self.group["indices"][block, first:last])).long()
        values = torch.from_numpy(np.array(self.group["data"][block, first:last])).to(self.dtype)
        return torch.zeros(self.n, dtype=self.dtype).index_put_((cols,), values)

    def to_dense(self) -> Tensor:
        """The array of shape out_shape + in_shape.

        Raises:
            LimitError: it is larger than the memory that is free.
        """
        size = self.m * self.n * self.dtype.itemsize
        if size > (free_memory() or size):
            raise LimitError(
                f"the Jacobian ({self.m} by {self.n}) takes {size} bytes, more than there is memory",
                hints=("ask for rows of it (J[rows]) or products with it (pullback, pushforward), or go on with to_dask()",),
            )
        blocks = [self.block(number).to_dense().reshape(self._shape_of(number)) for number in range(self.blocks)]
        whole = torch.cat(blocks, 0 if self._by_rows else 1) if blocks else torch.zeros((self.m, self.n), dtype=self.dtype)
        return whole.reshape(self.out_shape + self.in_shape)

    def _shape_of(self, number: int) -> Shape:
        start, stop = self._span(number)
        return (stop - start, self.n) if self._by_rows else (self.m, stop - start)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column (int64) and value of every entry that is not zero."""
        found = [self.block(number).entries() for number in range(self.blocks)]
        starts = [self._span(number)[0] for number in range(self.blocks)]
        shifted = [
            (r + start, c, v) if self._by_rows else (r, c + start, v) for start, (r, c, v) in zip(starts, found, strict=True)
        ]
        if not shifted:
            none = torch.zeros(0, dtype=torch.int64)
            return none, none, torch.zeros(0, dtype=self.dtype)
        rows, cols, values = (torch.cat(each) for each in zip(*shifted, strict=True))
        return rows, cols, values

    def absolute(self) -> LinearMap:
        """The map of the entries' absolute values."""
        return replace(self, of_sizes=True, known=())

    def to_scipy(self) -> Any:
        """SciPy's sparse matrix (m, n), put together from the blocks."""
        import scipy.sparse

        blocks = [self._scipy_block(number) for number in range(self.blocks)]
        if not blocks:
            return scipy.sparse.csr_array((self.m, self.n), dtype=as_numpy(torch.empty(0, dtype=self.dtype)).dtype)
        join = scipy.sparse.vstack if self._by_rows else scipy.sparse.hstack
        return join(blocks, format="csr")

    def _scipy_block(self, number: int) -> Any:
        import scipy.sparse

        shape = self._shape_of(number)
        if self.is_sparse:
            return scipy.sparse.csr_array(self._csr(number), shape=shape)
        return scipy.sparse.csr_array(as_numpy(self.block(number).to_dense()).reshape(shape))

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
            return da.from_zarr(self.group["matrix"])
        dtype = as_numpy(torch.empty(0, dtype=self.dtype.to_complex() if self.of_complex[0] else self.dtype)).dtype
        meta = self._scipy_block(0)[:0] if self.is_sparse and self.blocks else np.empty((0, 0), dtype)
        read = self._scipy_block if self.is_sparse else lambda number: as_numpy(self.block(number).to_dense())
        numbers = range(self.blocks)
        blocks = [da.from_delayed(delayed(read)(number), self._shape_of(number), dtype=dtype, meta=meta) for number in numbers]
        return da.concatenate(blocks, 0 if self._by_rows else 1) if blocks else da.zeros((self.m, self.n), dtype=dtype)


def _flat(shape: Shape, key: Any) -> np.ndarray:
    """The numbers of the entries of a tensor of this shape that an index picks, as it arranges them."""
    if len(shape) >= 1 and isinstance(key, (int, slice)):
        first, inner = np.arange(shape[0])[key], prod(shape[1:])
        return (np.asarray(first)[..., None] * inner + np.arange(inner)).reshape(np.shape(first) + tuple(shape[1:]))
    key = tuple([as_numpy(k) if isinstance(k, Tensor) else k for k in (key if isinstance(key, tuple) else (key,))])
    return np.asarray(np.arange(prod(shape)).reshape(shape)[key])
