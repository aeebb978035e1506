"""Jacobians to files: `.npz` (SciPy's sparse format, or dense, by kind) and `.npy` (dense, streamed if it must be).

A file is written whole or not at all: beside its place first, then moved there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jvpcli.derive.linear_map import DenseMap, LinearMap
from jvpcli.errors import FileError, UsageError

Maps = Mapping[tuple[str, str], LinearMap]

ENTRIES_AT_A_TIME = 1 << 18
"""Entries of a streamed result that are in memory at a time."""


def save(maps: Maps, path: str, dtypes: Mapping[str, torch.dtype], form: str = "auto") -> None:
    """Writes every Jacobian to one file.

    One Jacobian in sparse form is what `scipy.sparse.load_npz` reads, as a matrix (m, n), with `shape_out`, `shape_in`
    and `names` beside it; a dense one is the array of shape output + input under `OUTPUT/INPUT`.  Several are told
    apart by `OUTPUT/INPUT/` before each key.

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
        ((_, x), linear_map) = next(iter(maps.items()))
        _replace(path, lambda temporary: _stream(linear_map, temporary, dtypes[x]))
    elif suffix == ".npz":
        arrays = _arrays(maps, form)
        _replace(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]
    else:
        raise UsageError(f"--save writes .npz and .npy files, not {Path(path).name!r}")


def _arrays(maps: Maps, form: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for (y, x), linear_map in maps.items():
        prefix = "" if len(maps) == 1 else f"{y}/{x}/"
        if is_sparse(linear_map) if form == "auto" else form == "sparse":
            arrays |= {prefix + key: value for key, value in _coordinates(linear_map).items()}
            arrays |= {prefix + "names": np.array([y, x])}
        else:
            arrays[f"{y}/{x}"] = _numpy(linear_map.to_dense())
    return arrays


def is_sparse(linear_map: LinearMap) -> bool:
    """Whether the nonzeros alone are the better form."""
    return linear_map.structure not in ("dense", "unknown")


def _coordinates(linear_map: LinearMap) -> dict[str, np.ndarray]:
    """The keys of SciPy's `save_npz` for a COO array."""
    rows, cols, values = (_numpy(part) for part in linear_map.entries())
    return {
        "format": np.array(b"coo"),
        "shape": np.array([linear_map.m, linear_map.n]),
        "row": rows,
        "col": cols,
        "data": values,
        "shape_out": np.array(linear_map.out_shape, dtype=np.int64),
        "shape_in": np.array(linear_map.in_shape, dtype=np.int64),
    }


def _stream(linear_map: LinearMap, path: str, dtype: torch.dtype) -> None:
    """The dense array into a file, a few rows in memory at a time."""
    shape = linear_map.out_shape + linear_map.in_shape
    kind = _numpy(torch.empty(0, dtype=dtype)).dtype
    if linear_map.m * linear_map.n == 0 or not shape:
        np.save(path, _numpy(linear_map.to_dense()) if shape == () else np.zeros(shape, kind), allow_pickle=False)
        return
    target = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    matrix = target.reshape(linear_map.m, linear_map.n)
    if is_sparse(linear_map):
        rows, cols, values = (_numpy(part) for part in linear_map.entries())
        matrix[rows, cols] = values
    else:
        step = max(1, ENTRIES_AT_A_TIME // linear_map.n)
        for start in range(0, linear_map.m, step):
            matrix[start : start + step] = _numpy(_rows(linear_map, start, min(start + step, linear_map.m), dtype))
    target.flush()


def _rows(linear_map: LinearMap, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Some rows of the matrix: taken from it where it is held, else pulled back one by one."""
    if isinstance(linear_map, DenseMap):
        return linear_map.matrix[start:stop]
    if linear_map.structure != "unknown":
        return linear_map.to_dense().reshape(linear_map.m, linear_map.n)[start:stop]
    rows = []
    for row in range(start, stop):
        v = torch.zeros(linear_map.m, dtype=dtype)
        v[row] = 1
        rows.append(linear_map.pullback(v.reshape(linear_map.out_shape)).reshape(-1))
    return torch.stack(rows)


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().resolve_conj()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def _replace(path: str, write: Callable[[str], None]) -> None:
    target = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
