"""A Zarr store of Jacobians: begun, written block by block, told of, looked through for what is missing, and closed.

What stands where in it: `store_layout.py`.  Blocks are read by `store_maps.py`.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import FileError, InternalError, why
from jvpcli.jacobians.blocks import squared
from jvpcli.jacobians.cuts import Cut
from jvpcli.jacobians.linear_map import ComplexMap, LinearMap, as_numpy
from jvpcli.jacobians.store_layout import (
    Layout,
    Opened,
    chunks_of,
    damaged,
    dtype_in,
    input_places,
    is_short,
    numpy_dtype,
    open_array,
    open_in,
    places,
    read,
)
from jvpcli.language.values import dtype_name
from jvpcli.problem import Named, Problem

Seen = TypeVar("Seen")

FORMAT = 1
"""The number of this layout."""

THREADS = {"threading.max_workers": 2, "async.concurrency": 2}
"""Zarr's threads, which compress a chunk each: more of them would hold more than a block."""


def start() -> None:
    """Loads Zarr and starts its threads: what they take is not a request's memory."""
    import zarr

    with zarr.config.set(THREADS):
        zarr.create_array({}, data=np.ones((4, 1 << 16)), chunks=(1, 1 << 16), shards=(4, 1 << 16))[...]


# From nothing to complete


def exists(path: str) -> bool:
    """Whether there is something at a path, other than an empty folder."""
    try:
        return bool(os.listdir(path))
    except OSError:
        return os.path.lexists(path)


def create(path: str, question: Mapping[str, Any], problem: Problem, inputs: Named, cuts: Sequence[Cut]) -> None:
    """A new store with no block in it.

    It is laid out beside the path, and moved there once it is whole: of two that begin at once one is told of the other.

    Args:
        path: where there is nothing yet, or an empty folder.
        question: what the Jacobians are of, as JSON has it.
        problem: evaluated; its shapes and dtypes are kept.
        inputs: whose values are kept.
        cuts: into which blocks the Jacobians are cut.

    Raises:
        FileError: it cannot be written there.
    """
    import zarr

    target = os.path.realpath(path)
    begun = f"{target}.{os.urandom(6).hex()}.partial"
    told: Any = {"format": FORMAT, "question": question, "cuts": list(map(asdict, cuts)), "complete": False}
    try:
        with writing(path), zarr.config.set(THREADS):
            root = zarr.open_group(begun, mode="w-", zarr_format=3, attributes={"jvp": told})
            at = input_places(inputs)
            for name, value in inputs.items():
                data = as_numpy(value)
                held = root.create_array(at[name], data=data, chunks=chunks_of(data.shape, data.itemsize))
                held.attrs["dtype"] = dtype_name(value.dtype)
            pairs = places(cuts)
            for cut in cuts:
                y = problem.differentiable[cut.output]
                for x in cut.inputs:
                    _lay_out(root, pairs[cut.output, x], Layout.of(cut, x, y, problem.leaves[x]))
            with suppress(OSError):
                os.rmdir(target)  # an empty folder
            os.rename(begun, target)
    except BaseException:
        _clear(begun)
        raise
    for left in glob.glob(f"{glob.escape(target)}.{'[0-9a-f]' * 12}.partial"):  # by those who died over it, or are too late
        _clear(left)


def _clear(folder: str) -> None:
    """Takes away what was laid out for a store, and not moved to its place."""
    for pause in (0, 0.01, 0.1, 1):  # after an error Zarr's threads may still be writing
        time.sleep(pause)
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Inside, a store is written.

    Raises:
        FileError: it cannot be.
        MemoryError: there is none to compress with.
    """
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {why(error, path)}",
            explanation="Blocks that a store has whole are kept: --resume goes on from there.",
        ) from error
    except RuntimeError as error:
        if is_short(error):
            raise MemoryError from error
        raise


def _lay_out(root: Any, place: str, layout: Layout) -> None:
    group = root.create_group(place, attributes=layout.attributes())
    for name, held in layout.arrays().items():
        group.create_array(name, **vars(held))


def missing(path: str, cuts: Sequence[Cut]) -> Iterator[tuple[int, int]]:
    """The blocks that are not whole yet: the place of their cut, and their number there."""
    held = jacobians(path)
    for at, cut in enumerate(cuts):
        known = [read(held[cut.output, x].arrays["nnz"]) for x in cut.inputs]
        yield from ((at, int(number)) for number in np.flatnonzero(np.min(known, axis=0) < 0))


def close(path: str) -> int:
    """Marks a store as complete and takes away what dead writers have left; the bytes that it has on the disk."""
    root = opened(path, "r+")
    with writing(path):
        for left in Path(path).rglob("*.partial"):
            if not left.is_dir():  # an input may be of that name
                left.unlink(missing_ok=True)
        root.attrs["jvp"] = {**root.attrs["jvp"], "complete": True}
    return written_bytes(path)


def written_bytes(path: str) -> int:
    """The bytes that a store has on the disk; files that come and go meanwhile don't count."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if not file.name.endswith(".partial") and file.is_file())


# One block, written by whoever has computed it


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
    squares.index_add_(0, (c // layout.piece).cpu(), squared(values))
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
        squares.index_add_(0, where, squared(some).sum(0))
    return squares


# What a store tells


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
    known = opened(path, "r").attrs.get("jvp")
    if not isinstance(known, Mapping) or known.get("format") != FORMAT:
        raise FileError(f"{path} holds no Jacobians of jvp's", hints=("jvp inspect … --save J.zarr writes them",))
    return checked(path, lambda: About(_question(known["question"]), tuple(map(_cut, known["cuts"])), known["complete"] is True))


def _question(told: Any) -> Mapping[str, Any]:
    if not isinstance(told, Mapping) or not all(isinstance(name, str) for name in told["inputs"]):
        raise ValueError("what was asked is not told")
    return told


def _cut(told: Any) -> Cut:
    """How Jacobians were cut.

    Raises:
        ValueError, TypeError, KeyError: what is told is none that `cuts.py` makes.
    """
    cut = Cut(**{**told, "inputs": tuple(told["inputs"]), "room": tuple(told["room"])})
    numbers = [cut.length, cut.size - 1, *[room for room in cut.room if room is not None]]
    if (
        not all(isinstance(name, str) for name in (cut.output, *cut.inputs))
        or not all(type(number) is int and number >= 0 for number in numbers)
        or len(cut.inputs) != len(cut.room)
        or not (cut.along == "rows" or (cut.along == "columns" and cut.room == (None,)))
    ):
        raise ValueError(f"{told} is no cut")
    return cut


def inputs_of(path: str) -> dict[str, Tensor]:
    """The inputs that a store holds, by name.

    Raises:
        FileError: they cannot be read.
    """
    root, known = opened(path, "r"), about(path)
    names = known.question["inputs"]
    at, before = input_places(names), input_places(names, apart=False)

    def value(name: str) -> Tensor:
        place = _there(root, at[name], before[name])
        dtype = dtype_in(root[place].attrs)
        return torch.from_numpy(read(open_array(root, place, numpy_dtype(dtype)))).to(dtype)

    return checked(path, lambda: {name: value(name) for name in names})


def jacobians(path: str, mode: Literal["r", "r+"] = "r") -> dict[tuple[str, str], Opened]:
    """(output, input) to the Jacobian that a store holds.

    Raises:
        FileError: they are not there as this layout has them.
    """
    root, known = opened(path, mode), about(path)
    at, before = places(known.cuts), places(known.cuts, apart=False)

    def held(cut: Cut, x: str) -> Opened:
        pair = (cut.output, x)
        return open_in(root[_there(root, at[pair], before[pair])], cut, x)

    return checked(path, lambda: {(cut.output, x): held(cut, x) for cut in known.cuts for x in cut.inputs})


def _there(root: Any, place: str, before: str) -> str:
    """Where something stands: its place, or where an older jvp has put it."""
    return place if place == before or place in root else before


def checked(path: str, look: Callable[[], Seen]) -> Seen:
    """What is seen in a store by whoever takes it for one that jvp wrote.

    Raises:
        FileError: it is none, or something has changed it.
    """
    try:
        return look()
    except Exception as error:  # whatever odd metadata makes Zarr, or us, raise
        if isinstance(error, FileError) or is_short(error):
            raise
        raise damaged(path, f"{error.args[0]} is not there" if isinstance(error, KeyError) and error.args else error) from error


def opened(path: str, mode: Literal["r", "r+"]) -> Any:
    """The root of a store.

    Raises:
        FileError: there is none.
    """
    import zarr

    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except Exception as error:  # whatever odd metadata makes Zarr raise
        if not os.path.lexists(path):
            raise FileError(f"{path} cannot be read: there is no such directory") from error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise FileError(f"{path} cannot be read: {why(error, path)}") from error
        raise FileError(f"{path} cannot be read: it is no Zarr store") from error
