"""`@file` values: arrays and tensors read from files, never unpickled."""

from __future__ import annotations

import json
import os
import stat
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import FileError, JvpError, LimitError
from jvpcli.language.forecast import in_words
from jvpcli.language.limits import free_memory

READABLE = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".json", ".csv")

MAX_PATH = 4096
"""Characters in a file's name."""

MAX_HEADER = 100_000_000
"""Bytes of a .safetensors header, as the format's own reader allows."""


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
        LimitError: it is larger than the memory limit (three quarters of the free memory without one).
    """
    path, key = _split_key(reference)
    _check(path, memory_limit)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return FoundValue(path, array=_no_key(path, _load_numpy(path), key))
        if suffix == ".npz":
            return FoundValue(path, array=_pick(path, _load_numpy(path), key))
        if suffix in (".pt", ".pth"):
            return FoundValue(path, tensor=_load_torch(path, key))
        if suffix == ".safetensors":
            return FoundValue(path, tensor=_load_safetensors(path, key))
        text = _no_key(path, path.read_text(encoding="utf-8-sig").strip(), key)
        if suffix == ".csv":
            text = _commas(text)
        return FoundValue(path, text=text, is_json=suffix == ".json")
    except JvpError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"`{path}` can't be read: {_reason(error)}.") from None
    except MemoryError:
        raise LimitError(f"`{path}` needs more memory than there is.") from None
    except Exception as error:  # a broken archive, a header that lies: the readers raise many kinds
        if "pickle" in str(error).lower() or "weights_only" in str(error):
            hints = ["Save a plain numeric array with numpy.save, or a tensor with torch.save."]
            raise FileError(f"`{path}` holds Python objects, which are never loaded.", hints=hints) from None
        raise FileError(f"`{path}` is not a valid {suffix} file: {_reason(error)}.") from None


def _split_key(reference: str) -> tuple[Path, str | None]:
    """`a.npz:w` as path and key; a file whose very name holds a colon comes first."""
    whole = os.path.expanduser(reference)
    if len(whole) > MAX_PATH:
        raise FileError(f"`{whole[:40]}…` can't be read: its name has {len(whole):,} characters.")
    before, colon, key = whole.rpartition(":")
    if colon and not os.path.exists(whole) and Path(before).suffix.lower() in READABLE:
        return Path(before), key
    return Path(whole), None


def _check(path: Path, memory_limit: int | None) -> None:
    """A regular file of a known kind, small enough to read, and to unpack."""
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
    size = max(status.st_size, _unpacked_size(path))
    if limit and size > limit:
        raise LimitError(f"`{path}` holds {in_words(size)}, more than the memory limit of {in_words(limit)}.")


def _unpacked_size(path: Path) -> int:
    """Bytes of the members of an archive; 0 if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0


def _load_numpy(path: Path) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _load_torch(path: Path, key: str | None) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.load(path, map_location="cpu", weights_only=True)
    found = _pick(path, found, key) if isinstance(found, dict) else _no_key(path, found, key)
    if not isinstance(found, Tensor):
        raise FileError(f"`{path}` holds a {type(found).__name__}, and a tensor is needed.")
    return found.detach()


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip


def _load_safetensors(path: Path, key: str | None) -> Tensor:
    """8 bytes of header length, a JSON header with dtype, shape and place of each tensor, then the bytes."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > MAX_HEADER:
            raise ValueError("its header is too long")
        header = json.loads(stream.read(length))
        entry = _pick(path, {name: entry for name, entry in header.items() if name != "__metadata__"}, key)
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= path.stat().st_size - 8 - length:
            raise ValueError("it is cut short")
        stream.seek(8 + length + begin)
        data = bytearray(stream.read(end - begin))
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(f"its dtype {entry['dtype']} is not known here")
    if any(size < 0 for size in entry["shape"]):
        raise ValueError(f"its shape {entry['shape']} is none")
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
    return flat.reshape(entry["shape"])


def _commas(text: str) -> str:
    """A table whose lines are its rows, with `;` between the columns as some programs write it, with commas instead."""
    if "\n" not in text or ";" not in text:
        return text
    if "," in text:
        raise ValueError("it has several lines, and both `;` and `,` in them")
    return text.replace(";", ",")


def _pick(path: Path, found: Any, key: str | None) -> Any:
    """One of the arrays of a file, by its key; without one if there is only one."""
    keys = list(found.keys())
    if key is None and len(keys) == 1:
        return found[keys[0]]
    if key is not None and key in keys:
        return found[key]
    missing = "which one is needed must be said" if key is None else f"there is no `{key}` in it"
    listed = ", ".join(map(str, keys[:8])) + (", …" if len(keys) > 8 else "")
    hints = [f"Write @{path}:{keys[0]}"] if keys else ()
    raise FileError(f"`{path}` holds {listed or 'nothing'}: {missing}.", hints=hints)


def _no_key(path: Path, found: Any, key: str | None) -> Any:
    """What a file without keys holds."""
    if key is not None:
        raise FileError(f"`{path}` holds one array, and so has no `{key}`.")
    return found


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = text.strip().splitlines()[0]
    return (first[:1].lower() + first[1:]).rstrip(".")
