"""`@file` values: arrays and tensors read from files, never unpickled.

A path may lead to a file that was never meant to be read here.  So what is wrong with a file is said by place and kind,
never by its content, and neither a device nor a pipe is opened.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from jvpcli.errors import BadValueError, FileError, JvpError, LimitError, has_folder
from jvpcli.language.forecast import in_words
from jvpcli.language.literals import NotANumberError
from jvpcli.system.memory import free_memory

READABLE = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".json", ".csv")

NUMPY, ARCHIVE, PICKLE = b"\x93NUMPY", b"PK", b"\x80"
"""How the files begin that hold an array, several, or Python objects."""

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
    suffix = path.suffix.lower()
    try:
        with _opened(path, memory_limit) as stream:
            if suffix == ".npy":
                return FoundValue(path, array=_no_key(path, _load_array(stream), key))
            if suffix == ".npz":
                return FoundValue(path, array=_pick(path, _load_arrays(stream), key)())
            if suffix in (".pt", ".pth"):
                return FoundValue(path, tensor=_load_torch(path, stream, key))
            if suffix == ".safetensors":
                return FoundValue(path, tensor=_load_safetensors(path, stream, key))
            text = _no_key(path, stream.read(_size(stream)).decode("utf-8-sig").strip(), key)
            if suffix == ".csv":
                text = _commas(text)
            return FoundValue(path, text=text, is_json=suffix == ".json")
    except JvpError:
        raise
    except UnicodeDecodeError as error:
        raise FileError(f"`{path}` can't be read: its byte {error.start + 1:,} is no UTF-8 text.") from None
    except OSError as error:
        raise FileError(f"`{path}` can't be read: {_reason(error)}.") from None
    except MemoryError:
        raise LimitError(f"`{path}` needs more memory than there is.") from None
    except _InvalidFile as error:
        raise FileError(f"`{path}` is not a valid {suffix} file: {error}.") from None
    except Exception as error:  # a broken archive, a header that lies: the readers raise many kinds, and quote the file
        if "pickle" in str(error).lower() or "weights_only" in str(error):
            hints = ["Save a plain numeric array with numpy.save, or a tensor with torch.save."]
            raise FileError(f"`{path}` holds Python objects, which are never loaded.", hints=hints) from None
        raise FileError(f"`{path}` is not a valid {suffix} file.") from None


class _InvalidFile(Exception):
    """What is wrong with a file, in our own words, without its content."""


def unreadable(path: Path, error: BadValueError) -> FileError:
    """What is wrong with the text of a file: where, and what kind of thing stands there, but not what."""
    place = ""
    if error.source is not None and error.span is not None:
        line, column = _line_and_column(error.source, error.span[0])
        place = f" (line {line:,}, column {column:,})"
    if isinstance(error, NotANumberError):
        return FileError(f"`{path}` can't be read: {error.kind} stands where a number belongs{place}.")
    return FileError(f"`{path}` can't be read: {error.message}{place}.", hints=error.hints)


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    """Where a character stands, counted from 1 as editors do."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _split_key(reference: str) -> tuple[Path, str | None]:
    """`a.npz:w` as path and key; a file whose very name holds a colon comes first."""
    whole = os.path.expanduser(reference)
    if len(whole) > MAX_PATH:
        raise FileError(f"`{whole[:40]}…` can't be read: its name has {len(whole):,} characters.")
    before, colon, key = whole.rpartition(":")
    if colon and not os.path.exists(whole) and Path(before).suffix.lower() in READABLE:
        return Path(before), key
    return Path(whole), None


@contextmanager
def _opened(path: Path, memory_limit: int | None) -> Iterator[IO[bytes]]:
    """A regular file of a known kind, small enough to read, and to unpack.

    Looked at before it is opened, since opening a device can do something, and again once it is open, since a path may
    lead elsewhere by then; without waiting for the process that writes to a pipe.
    """
    try:
        _check_kind(path, os.stat(path))
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise FileError(f"`{path}` can't be read: {_reason(error, path)}.") from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        _check_kind(path, status)
        limit = memory_limit if memory_limit is not None else free_memory() * 3 // 4
        size = max(status.st_size, _unpacked_size(stream))
        if limit and size > limit:
            raise LimitError(f"`{path}` holds {in_words(size)}, more than the memory limit of {in_words(limit)}.")
        yield stream


_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"`{path}` is a directory; a file is needed.")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"`{path}` is not a regular file.")
    if path.suffix.lower() not in READABLE:
        raise FileError(f"`{path}` is of no kind that is read here.", hints=[f"Readable are {', '.join(READABLE)}."])


def _size(stream: IO[bytes]) -> int:
    """Bytes of an open file; 0 for what the system makes up as it is read, under /proc."""
    return os.fstat(stream.fileno()).st_size


def _unpacked_size(stream: IO[bytes]) -> int:
    """Bytes of the members of an archive; 0 if it is none."""
    try:
        with zipfile.ZipFile(stream) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0
    finally:
        stream.seek(0)


def _load_array(stream: IO[bytes]) -> Any:
    """The array of a .npy file."""
    import numpy as np

    start = stream.read(len(NUMPY))
    if start != NUMPY and start[:1] != PICKLE:  # numpy takes whatever it doesn't know for a pickle
        raise _InvalidFile("it does not begin as one")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _load_arrays(stream: IO[bytes]) -> Mapping[str, Callable[[], Any]]:
    """The arrays of a .npz file by name, each as what reads it; members of another kind are not told of."""
    import numpy as np

    if stream.read(len(ARCHIVE)) != ARCHIVE:
        raise _InvalidFile("it is no archive")
    stream.seek(0)
    found = np.load(stream, allow_pickle=False)
    members = set(found.zip.namelist())
    return {name: partial(found.__getitem__, name) for name in found.files if f"{name}.npy" in members}


def _load_torch(path: Path, stream: IO[bytes], key: str | None) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.load(stream, map_location="cpu", weights_only=True)
    found = _pick(path, found, key) if isinstance(found, dict) else _no_key(path, found, key)
    if not isinstance(found, Tensor):
        raise FileError(f"`{path}` holds a {type(found).__name__}, and a tensor is needed.")
    return found.detach()


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip


def _load_safetensors(path: Path, stream: IO[bytes], key: str | None) -> Tensor:
    """8 bytes of header length, a JSON header with dtype, shape and place of each tensor, then the bytes."""
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > MAX_HEADER:
        raise _InvalidFile("its header is too long")
    header = json.loads(stream.read(length))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not all({"dtype", "shape", "data_offsets"} <= entry.keys() for entry in tensors.values()):
        raise _InvalidFile("its header lists no tensors")
    entry = _pick(path, tensors, key)
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= _size(stream) - 8 - length:
        raise _InvalidFile("it is cut short")
    stream.seek(8 + length + begin)
    data = bytearray(stream.read(end - begin))
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise _InvalidFile(f"its dtype is none of {', '.join(_SAFETENSORS_DTYPES)}")
    if any(size < 0 for size in entry["shape"]):
        raise _InvalidFile("a size in its shape is negative")
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
    return flat.reshape(entry["shape"])


def _commas(text: str) -> str:
    """A table whose lines are its rows, with `;` between the columns as some programs write it, with commas instead."""
    if "\n" not in text or ";" not in text:
        return text
    if "," in text:
        raise _InvalidFile("it has several lines, and both `;` and `,` in them")
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


def _reason(error: BaseException, path: Path | None = None) -> str:
    if path is not None and not path.is_absolute() and not has_folder():
        return "the current folder has been removed"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = text.strip().splitlines()[0]
    return (first[:1].lower() + first[1:]).rstrip(".")
