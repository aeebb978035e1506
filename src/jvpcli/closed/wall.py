"""The second wall around a program that runs: what leaves the interpreter is refused where Python itself announces it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

LEAVING = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pty.", "ftplib.", "http.", "urllib.", "webbrowser.", "winreg.",
           "mmap.", "fcntl.", "signal.", "sqlite3.", "code.__new__", "sys._current", "sys.settrace", "sys.setprofile", "gc.",
           "tempfile.", "glob.", "pathlib.", "pickle.find_class", "cpython.run")  # fmt: skip
"""What the names of events begin with that lead out of the interpreter, or into it."""

HARMLESS = frozenset({"os.listdir", "os.scandir", "os.walk"})
"""Events of an import."""

_INSIDE: set[int] = set()
"""The threads in which a program runs: a hook of the interpreter's can't be taken away, so that it is told so."""


@contextmanager
def walled() -> Iterator[None]:
    """Inside, this thread can't open what is no file of Python's own, start a process, or the like."""
    _hook()
    _INSIDE.add(threading.get_ident())
    try:
        yield
    finally:
        _INSIDE.discard(threading.get_ident())


def is_walled() -> bool:
    """Whether this thread is inside."""
    return threading.get_ident() in _INSIDE


@lru_cache(maxsize=1)
def _hook() -> None:
    sys.addaudithook(_announced)


def _announced(event: str, arguments: tuple[Any, ...]) -> None:
    if not _may_lead_out(event) or threading.get_ident() not in _INSIDE:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and any(mark in mode for mark in "wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))  # fmt: skip
        if (writes or not _is_pythons(path)) and not _is_importing():
            raise RuntimeError("a program opens no files")
    elif not _is_importing():
        raise RuntimeError(f"a program does not reach out of the interpreter: {event}")


@lru_cache(maxsize=1024)
def _may_lead_out(event: str) -> bool:
    """Whether an event is looked at: most, as those of a frame whose code is read, lead nowhere."""
    return event == "open" or (event.startswith(LEAVING) and event not in HARMLESS)


def _is_importing() -> bool:
    """Whether a library is just being loaded: no program can import one that it has not a name for."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


@lru_cache(maxsize=1)
def _roots() -> tuple[str, ...]:
    import sysconfig

    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return tuple(
        {
            os.path.realpath(path) + os.sep
            for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, own)
        }
    )


def _is_pythons(path: Any) -> bool:
    try:
        text = os.fsdecode(path)
    except TypeError:
        return False
    return text.endswith((".py", ".pyc", ".so", ".pyd", ".json", ".txt", ".typed")) and os.path.abspath(
        text
    ).startswith(_roots())
