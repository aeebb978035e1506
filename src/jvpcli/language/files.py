"""`@file` values: arrays and tensors read from files, never unpickled."""

from __future__ import annotations

import json
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import FileError, LimitError
from jvpcli.language.limits import free_memory

READABLE = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class FoundValue:
    """What a file holds: a tensor, an array, or text that is still to be read."""

    path: Path
    tensor: Tensor | None = None
    array: Any = None
    text: str | None = None
    is_json: bool = False


def read_file(reference: str, memory_limit: int | None = None) -> FoundValue:
    """Read `path` or `path:key`.

    Raises:
        FileError: it isn't there, isn't a regular file, or isn't what its name says.
        LimitError: it is larger than the memory limit.
    """
    path, key = _split_key(reference)
    _check(path, memory_limit)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            _no_key(path, key)
            return FoundValue(path, array=_load_numpy(path))
        if suffix == ".npz":
            return FoundValue(path, array=_pick(path, _load_numpy(path), key))
        if suffix in (".pt", ".pth"):
            return FoundValue(path, tensor=_load_torch(path, key))
        if suffix == ".safetensors":
            return FoundValue(path, tensor=_load_safetensors(path, key))
        _no_key(path, key)
        return FoundValue(path, text=path.read_text(encoding="utf-8-sig").strip(), is_json=suffix == ".json")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"`{path}` can't be read: {_reason(error)}.") from None


def _split_key(reference: str) -> tuple[Path, str | None]:
    """`a.npz:w` as path and key; a file whose very name holds a colon comes first."""
    whole = Path(reference).expanduser()
    before, colon, key = reference.rpartition(":")
    if colon and not whole.exists() and Path(before).suffix.lower() in READABLE:
        return Path(before).expanduser(), key
    return whole, None


def _check(path: Path, memory_limit: int | None) -> None:
    """A regular file of a known kind, small enough to read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise FileError(f"`{path}` can't be read: {_reason(error)}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"`{path}` is a directory; a file is needed.")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"`{path}` is not a regular file.")
    if path.suffix.lower() not in READABLE:
        raise FileError(f"`{path}` is of no kind that is read here.", hints=[f"Readable are {', '.join(READABLE)}."])
    limit = memory_limit if memory_limit is not None else free_memory() * 3 // 4
    if limit and status.st_size > limit:
        raise LimitError(f"`{path}` has {status.st_size:,} bytes, more than the memory limit of {limit:,}.")


def _load_numpy(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        if "pickle" in str(error).lower():
            raise FileError(f"`{path}` holds pickled objects, which are never loaded.",
                            hints=["Save a plain numeric array with numpy.save."]) from None  # fmt: skip
        raise FileError(f"`{path}` is not a valid {path.suffix} file: {_reason(error)}.") from None
    except Exception as error:  # a broken zip archive, a header that lies: numpy raises many kinds
        raise FileError(f"`{path}` is not a valid {path.suffix} file: {_reason(error)}.") from None


def _load_torch(path: Path, key: str | None) -> Tensor:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise FileError(f"`{path}` holds Python objects, which are never loaded.",
                            hints=["Save a tensor, or a dictionary of tensors, with torch.save."]) from None  # fmt: skip
        raise FileError(f"`{path}` is not a valid {path.suffix} file: {_reason(error)}.") from None
    if isinstance(found, dict):
        found = _pick(path, found, key)
    elif key is not None:
        raise FileError(f"`{path}` holds one tensor, and so has no `{key}`.")
    if not isinstance(found, Tensor):
        raise FileError(f"`{path}` holds a {type(found).__name__}, and a tensor is needed.")
    if found.layout is not torch.strided or found.is_quantized:
        raise FileError(f"`{path}` holds a {found.layout} tensor, and a dense one is needed.")
    return found.detach()


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip


def _load_safetensors(path: Path, key: str | None) -> Tensor:
    """8 bytes of header length, a JSON header with dtype, shape and place of each tensor, then the bytes."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100_000_000:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
            names = {name: entry for name, entry in header.items() if name != "__metadata__"}
            entry = _pick(path, names, key)
            begin, end = entry["data_offsets"]
            stream.seek(8 + length + begin)
            data = bytearray(stream.read(end - begin))
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"its dtype {entry['dtype']} is not known here")
        if len(data) != end - begin:
            raise ValueError("it is cut short")
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        return flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RuntimeError, RecursionError) as error:
        raise FileError(f"`{path}` is not a valid .safetensors file: {_reason(error)}.") from None


def _pick(path: Path, found: Any, key: str | None) -> Any:
    """One of the arrays of a file, by its key; without one if there is only one."""
    keys = list(found.keys())
    if key is None and len(keys) == 1:
        return _read_member(path, found, keys[0])
    if key is None or key not in keys:
        missing = "which one is needed must be said" if key is None else f"there is no `{key}` in it"
        listed = ", ".join(map(str, keys[:8])) + (", …" if len(keys) > 8 else "")
        hints = [f"Write @{path}:{keys[0]}"] if keys else ()
        raise FileError(f"`{path}` holds {listed or 'nothing'}: {missing}.", hints=hints)
    return _read_member(path, found, key)


def _read_member(path: Path, found: Any, key: Any) -> Any:
    try:
        return found[key]
    except OSError:
        raise
    except Exception as error:
        if "pickle" in str(error).lower():
            raise FileError(f"`{path}:{key}` holds pickled objects, which are never loaded.") from None
        raise FileError(f"`{path}:{key}` can't be read: {_reason(error)}.") from None


def _no_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise FileError(f"`{path}` holds one array, and so has no `{key}`.")


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = text.strip().splitlines()[0]
    return (first[:1].lower() + first[1:]).rstrip(".")
