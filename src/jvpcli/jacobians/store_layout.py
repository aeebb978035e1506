"""What stands where in a store of Jacobians: names, shapes and dtypes, by which one is laid out and checked when it is opened.

    J.zarr                      its attribute "jvp": what was asked, how it was cut, and whether it is complete
      inputs/NAME               the values of the inputs
      jacobian/OUTPUT/INPUT     attributes: shapes, names, dtype, and how the matrix (m, n) is held
        matrix                  a dense one, a shard for each block; [imaginary]: the gradient of Im y
        data, indices, indptr   or a row of each for each block, as scipy.sparse.csr_array takes them: first so many as it has
        diagonal                the main diagonal
        squares                 (blocks, pieces): Σ|J|² of each block, cut into pieces across
        nnz                     (blocks,): how many entries are not zero; -1: the block has not been written

A file of the store is there whole or not at all (Zarr renames it when it is), and the entry of `nnz` is written last: a block
that it tells of is whole, whatever has become of who wrote it.  Where there is no file NaN is read, and -1 of whole numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt, nan, prod
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import FileError
from jvpcli.jacobians.cuts import Cut
from jvpcli.jacobians.linear_map import Shape, as_numpy
from jvpcli.language.values import dtype_name

PIECES = 64
"""The norms of so many pieces of a block are kept, and shown of so many blocks."""

CHUNK_BYTES = 1 << 20
"""Bytes of a chunk, about: what is read at least to see one row."""


@dataclass(frozen=True)
class Held:
    """An array of a store: its shape and dtype, how it is cut into files (`shards`, each of some chunks, or chunks alone), and
    what stands where there is no file: nothing that could be taken for a number of the Jacobian."""

    shape: Shape
    dtype: np.dtype
    chunks: Shape
    shards: Shape | None
    fill_value: float


@dataclass(frozen=True)
class Layout:
    """How the Jacobian of an output to an input is held: the matrix of the flattened output by the flattened input, in blocks.

    Attributes:
        cut: into which blocks; it names the output.
        input: its name.
        out_shape, in_shape: the shapes of output and input.
        dtype: the input's, as the entries have it.
        of_complex: whether the output is complex, and whether the input is.
    """

    cut: Cut
    input: str
    out_shape: Shape
    in_shape: Shape
    dtype: torch.dtype
    of_complex: tuple[bool, bool]

    @staticmethod
    def of(cut: Cut, x: str, y: Tensor, leaf: Tensor) -> Layout:
        """How the Jacobian of the tensor y to the input named x is held, as it was cut."""
        return Layout(cut, x, tuple(y.shape), tuple(leaf.shape), leaf.dtype, (y.is_complex(), leaf.is_complex()))

    @property
    def shape(self) -> Shape:
        """Of the matrix: (m, n)."""
        return prod(self.out_shape), prod(self.in_shape)

    @property
    def by_rows(self) -> bool:
        """Whether a block is of rows."""
        return self.cut.along == "rows"

    @property
    def room(self) -> int | None:
        """The most nonzeros of a block, where they alone are held; None of a dense one."""
        return self.cut.room[self.cut.inputs.index(self.input)]

    @property
    def piece(self) -> int:
        """How many columns of a block of rows (rows of a block of columns) a piece has."""
        return max(1, -(-self.shape[self.by_rows] // PIECES))

    @property
    def entries(self) -> np.dtype:
        """The dtype in which entries are held."""
        return numpy_dtype(self.dtype)

    def attributes(self) -> dict[str, Any]:
        """Of the group, as JSON has them."""
        return {
            "output": self.cut.output, "input": self.input, "shape": list(self.shape), "shape_out": list(self.out_shape),
            "shape_in": list(self.in_shape), "dtype": dtype_name(self.dtype), "format": "dense" if self.room is None else "csr",
            "along": self.cut.along, "block": self.cut.size, "complex": list(self.of_complex), "piece": self.piece,
        }  # fmt: skip

    def arrays(self) -> dict[str, Held]:
        """The arrays of the group, by name."""
        (m, n), block, blocks, found = self.shape, self.cut.size, self.cut.count, {}
        room = self.room
        if room is None:
            shard = (block, max(1, n)) if self.by_rows else (max(1, m), block)
            found["matrix"] = _sharded((m, n), shard, self.entries, nan)
            if self.of_complex[0]:
                found["imaginary"] = found["matrix"]
        else:
            index = np.dtype(np.int32 if max(n, room) < 2**31 else np.int64)
            starts = np.dtype(np.int64)
            for name, length, dtype, fill in (
                ("data", room, self.entries, nan), ("indices", room, index, -1), ("indptr", block + 1, starts, -1)
            ):  # fmt: skip
                found[name] = _sharded((blocks, length), (1, max(1, length)), dtype, fill)
        wide = np.result_type(self.entries, np.complex64) if self.of_complex[0] else self.entries
        found["diagonal"] = Held((min(m, n),), wide, (min(block, max(1, min(m, n))),), None, nan)
        across = max(1, -(-self.shape[self.by_rows] // self.piece))
        found["squares"] = Held((blocks, across), np.dtype(np.float64), (1, across), None, nan)
        found["nnz"] = Held((blocks,), np.dtype(np.int64), (1,), None, -1)
        return found


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """In which a store holds numbers of a dtype of torch's."""
    return as_numpy(torch.empty(0, dtype=dtype)).dtype


def _sharded(shape: Shape, shard: Shape, dtype: np.dtype, fill_value: float) -> Held:
    """An array of shards, each with chunks that divide it."""
    most = max(1, CHUNK_BYTES // dtype.itemsize)
    across = _divisor(shard[1], most)
    return Held(shape, dtype, (_divisor(shard[0], max(1, most // across)), across), shard, fill_value)


def chunks_of(shape: Shape, itemsize: int) -> Shape:
    """Chunks of an array that is no Jacobian: as many whole entries of the last axes as fit, at least one."""
    room, found = max(1, CHUNK_BYTES // itemsize), []
    for size in reversed(shape):
        found.append(max(1, min(size, room)))
        room = max(1, room // found[-1])
    return tuple(reversed(found))


def _divisor(length: int, most: int) -> int:
    """The divisor that is nearest to `most` by ratio: a chunk may be larger than it, but no shard is cut into thousands."""
    small = [k for k in range(1, isqrt(length) + 1) if length % k == 0]
    return min((*small, *[length // k for k in small]), key=lambda k: max(k / most, most / k) if length > most else -k)


# Names


def input_places(names: Iterable[str], *, apart: bool = True) -> dict[str, str]:
    """Where the value of each input stands; `apart` as in :func:`places`."""
    return {name: f"inputs/{node}" for name, node in _nodes(names, apart).items()}


def places(cuts: Iterable[Cut], *, apart: bool = True) -> dict[tuple[str, str], str]:
    """Where the Jacobian of each output to each input stands, of Jacobians that are cut so.

    Names that differ by the case of letters alone are kept `apart`, for systems whose files `x` and `X` are one; before jvp
    did so, each stood under its name as it is.
    """
    pairs = [(cut.output, x) for cut in cuts for x in cut.inputs]
    outputs, inputs = (_nodes(names, apart) for names in zip(*pairs, strict=True)) if pairs else ({}, {})
    return {(output, x): f"jacobian/{outputs[output]}/{inputs[x]}" for output, x in pairs}


def _nodes(names: Iterable[str], apart: bool) -> dict[str, str]:
    """The names of nodes that stand side by side."""
    nodes = {name: _node(name) for name in names}
    alike = Counter(node.lower() for node in nodes.values())
    return {name: _in_lower_case(node) if apart and alike[node.lower()] > 1 else node for name, node in nodes.items()}


def _node(name: str) -> str:
    """A name that a node of a store may have; names of inputs mostly are such."""
    dot = "%2E" if name == "zarr.json" or not name.strip(".") else "."
    return quote(name, safe="[]'\"=, ").replace("__", "%5F%5F").replace(".", dot)


def _in_lower_case(node: str) -> str:
    """A node's name with its capitals written by their codes: `%58` is X."""
    return re.sub("%..|[A-Z]", lambda found: found[0] if len(found[0]) > 1 else f"%{ord(found[0]):X}", node)


# What was read


@dataclass(frozen=True)
class Opened:
    """A Jacobian in a store: how it is held, and its arrays, of which nothing has been read."""

    layout: Layout
    arrays: Mapping[str, Any]


def open_in(group: Any, cut: Cut, x: str) -> Opened:
    """The Jacobian in a group of a store, whose attributes and arrays must be those that this layout has.

    Raises:
        ValueError, TypeError, KeyError: they are not.
    """
    told: Mapping[str, Any] = dict(group.attrs)
    out_shape, in_shape = (_shape(told[name]) for name in ("shape_out", "shape_in"))
    of_complex = (told["complex"][0] is True, told["complex"][1] is True)
    layout = Layout(cut, x, out_shape, in_shape, dtype_in(told), of_complex)
    if told != layout.attributes() or layout.shape[not layout.by_rows] != cut.length:
        raise ValueError(f"the attributes of {group.path} contradict each other, or how the Jacobian was cut")
    return Opened(layout, {name: open_array(group, name, held.dtype, held.shape) for name, held in layout.arrays().items()})


def open_array(group: Any, name: str, dtype: np.dtype, shape: Shape | None = None) -> Any:
    """An array of a group, which must have this dtype and, if one is given, this shape.

    Raises:
        ValueError: it has not.
        KeyError: there is none.
    """
    array = group[name]
    found = getattr(array, "shape", None), getattr(array, "dtype", None)
    if found[1] != dtype or (shape is not None and found[0] != shape):
        raise ValueError(f"{array.path} is no array of {dtype}{'' if shape is None else f' of shape {shape}'}")
    return array


def dtype_in(told: Mapping[str, Any]) -> torch.dtype:
    """The dtype that attributes tell.

    Raises:
        ValueError: there is none of that name.
    """
    dtype = getattr(torch, str(told["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"there is no dtype {told['dtype']!r}")
    return dtype


def _shape(told: Any) -> Shape:
    if not isinstance(told, list) or not all(type(size) is int and size >= 0 for size in told):
        raise ValueError(f"{told!r} is no shape")
    return tuple(told)


def read(array: Any, at: Any = ...) -> np.ndarray:
    """Numbers of an array in a store.

    Raises:
        FileError: they cannot be read: a file is damaged.
    """
    try:
        return np.array(array[at])
    except Exception as error:  # whatever a codec makes of bytes that it did not write
        if is_short(error):
            raise MemoryError from error
        raise damaged(array, error) from error


def is_short(error: Exception) -> bool:
    """Whether Python or a codec could not get the memory it wanted."""
    return isinstance(error, MemoryError) or "not enough memory" in str(error)


def damaged(held: Any, why: object) -> FileError:
    """That a store, or an array in one, is not what was written."""
    place = held if isinstance(held, str) else f"{held.store.root}/{held.path}"
    return FileError(
        f"{place} cannot be read: {str(why).strip() or type(why).__name__}",
        explanation="Something other than jvp has changed the store, or a file of it was lost.",
        hints=("remove the store, and compute it again",),
    )
