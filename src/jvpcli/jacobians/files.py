"""Jacobians to files: `.npz` (SciPy's sparse format, or dense, by kind) and `.npy` (dense, streamed if it must be)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import UsageError
from jvpcli.jacobians.linear_map import DenseMap, LinearMap, as_numpy
from jvpcli.jacobians.passes import Sweep, blocks
from jvpcli.writer import written

Maps = Mapping[tuple[str, str], LinearMap]

ENTRIES_AT_A_TIME = 1 << 18
"""Entries of a streamed result that are in memory at a time."""


def save(maps: Maps, path: str, dtypes: Mapping[str, torch.dtype], form: str = "auto") -> None:
    """Writes every Jacobian to one file.

    One Jacobian in sparse form is what `scipy.sparse.load_npz` reads, as a matrix (m, n), with `shape_out`, `shape_in`
    and `names` beside it; a dense one is the array of shape output + input under `OUTPUT/INPUT`.  Several are told
    apart by `OUTPUT/INPUT/` before each key.  Where the gradient of Re y does not tell that of Im y, that is the dense array
    `OUTPUT/INPUT/imaginary`.

    Args:
        maps: (output, input) to map.
        path: ends in `.npz` or `.npy`; `.npy` takes one Jacobian.
        dtypes: input name to the dtype of its Jacobians.
        form: "dense" or "sparse" settles it; "auto" goes by kind.

    Raises:
        UsageError: another ending, or several Jacobians for `.npy`.
        FileError: the file cannot be written.
    """
    suffix = Path(path).suffix
    if suffix == ".npy":
        if len(maps) > 1:
            pairs = ", ".join(f"∂{y}/∂{x}" for y, x in maps)
            raise UsageError(
                f".npy holds one array, and there are {len(maps)}: {pairs}", hints=("save to a .npz file",)
            )
        ((y, x), linear_map) = next(iter(maps.items()))
        if linear_map.aside is not None:
            raise UsageError(
                f".npy holds one array, and ∂{y}/∂{x} needs two: the gradient of Re {y} and that of Im {y}",
                hints=("save to a .npz file",),
            )
        with written(path) as stream:
            _stream(linear_map, stream, dtypes[x].to_complex() if linear_map.of_complex[0] else dtypes[x])
    elif suffix == ".npz":
        arrays = _arrays(maps, form)
        with written(path) as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    else:
        raise UsageError(f"--save writes .npz and .npy files, and .zarr stores, not {Path(path).name!r}")


def _arrays(maps: Maps, form: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for (y, x), linear_map in maps.items():
        prefix = "" if len(maps) == 1 else f"{y}/{x}/"
        if is_sparse(linear_map) if form == "auto" else form == "sparse":
            arrays |= {prefix + key: value for key, value in _coordinates(linear_map).items()}
            arrays |= {prefix + "names": np.array([y, x])}
        else:
            arrays[f"{y}/{x}"] = as_numpy(linear_map.to_dense())
        if linear_map.aside is not None:
            arrays[f"{y}/{x}/imaginary"] = as_numpy(linear_map.aside.reshape(linear_map.out_shape + linear_map.in_shape))
    return arrays


def is_sparse(linear_map: LinearMap) -> bool:
    """Whether the nonzeros alone are the better form."""
    return linear_map.structure not in ("dense", "unknown")


def _coordinates(linear_map: LinearMap) -> dict[str, np.ndarray]:
    """The keys of SciPy's `save_npz` for a COO array."""
    rows, cols, values = (as_numpy(part) for part in linear_map.entries())
    return {
        "format": np.array(b"coo"),
        "shape": np.array([linear_map.m, linear_map.n]),
        "row": rows,
        "col": cols,
        "data": values,
        "shape_out": np.array(linear_map.out_shape, dtype=np.int64),
        "shape_in": np.array(linear_map.in_shape, dtype=np.int64),
    }


def _stream(linear_map: LinearMap, stream: IO[bytes], dtype: torch.dtype) -> None:
    """The dense array into a file, a few rows in memory at a time."""
    shape = linear_map.out_shape + linear_map.in_shape
    kind = as_numpy(torch.empty(0, dtype=dtype)).dtype
    m, n = linear_map.m, linear_map.n
    if m * n == 0 or not shape:
        whole = as_numpy(linear_map.to_dense()) if shape == () else np.zeros(shape, kind)
        np.lib.format.write_array(stream, whole, allow_pickle=False)
        return
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    if is_sparse(linear_map):
        rows, cols, values = (as_numpy(part) for part in linear_map.entries())
        start = stream.tell()
        _take_room(stream, start + m * n * kind.itemsize)
        matrix = np.memmap(stream, kind, mode="r+", offset=start, shape=(m, n))
        matrix[rows, cols] = values
        matrix.flush()
        return
    step = max(1, ENTRIES_AT_A_TIME // n)
    for first in range(0, m, step):
        some = as_numpy(_rows(linear_map, first, min(first + step, m), dtype)).astype(kind, copy=False)
        stream.write(np.ascontiguousarray(some).data)


def _take_room(stream: IO[bytes], size: int) -> None:
    """Makes a file that long, and the disk hold that much of it: a full one is told now, not by a signal later."""
    stream.flush()
    os.ftruncate(stream.fileno(), size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _rows(linear_map: LinearMap, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Some rows of the matrix: taken from it where it is held, else pulled back one by one."""
    if isinstance(linear_map, DenseMap):
        return linear_map.matrix[start:stop]
    if linear_map.structure != "unknown":
        return linear_map.to_dense().reshape(linear_map.m, linear_map.n)[start:stop]
    sweep = Sweep(lambda v: [linear_map.pullback(v)], torch.empty(linear_map.out_shape, dtype=dtype))
    return torch.cat([rows.reshape(last - first, -1) for first, last, (rows,) in blocks(sweep, start, stop) if rows is not None])
