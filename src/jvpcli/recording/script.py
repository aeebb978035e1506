"""Running the user's program as Python would: as `__main__`, with its own arguments, search path and traceback."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import torch

from jvpcli.errors import FileError, why

OURS = str(Path(__file__).parents[1])
HANDED_ON = str(Path(torch.__file__).parent / "overrides.py")
MACHINERY = ("<frozen runpy>", "<frozen importlib", OURS, HANDED_ON)
"""What the names of files begin with that a program's own traceback would not show."""


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Runs a file as `python PATH ARGUMENTS…` does.

    Raises:
        FileError: it can't be read.
        Whatever the program raises, a SystemExit too.
    """
    code = _compiled(path)
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __cached__=None, __builtins__=__builtins__)
    main.__loader__ = SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    sys.argv[:] = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    exec(code, main.__dict__)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Runs a module as `python -m NAME ARGUMENTS…` does.

    Raises:
        FileError: there is no such module.
        Whatever the program raises, a SystemExit too.
    """
    import runpy

    sys.path[0] = os.getcwd()
    sys.argv[:] = [name, *arguments]
    try:
        sys.modules.pop("__main__", None)
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if error.__traceback__ is not None and all(_is_machinery(t) for t in _chain(error.__traceback__)):
            raise FileError(f"{error}") from None
        raise


def _compiled(path: str) -> Any:
    target = path
    if os.path.isdir(path):
        target = os.path.join(path, "__main__.py")
    try:
        with io.open_code(os.path.abspath(target)) as file:
            return compile(file.read(), path, "exec", dont_inherit=True)
    except OSError as error:
        raise FileError(f"the program {path} can't be read: {why(error, path)}") from None


def own_traceback(error: BaseException) -> BaseException:
    """The error with a traceback as the program alone would have it: without the frames that run and record it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = _without_machinery(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
    return error


def show(error: BaseException) -> None:
    """Prints the traceback on stderr, as Python does where a program ends so; the program's own `sys.excepthook` counts."""
    kind = type(error)
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(kind, error, error.__traceback__)
    else:
        traceback.print_exception(kind, error, error.__traceback__)


def _chain(trace: TracebackType | None) -> list[TracebackType]:
    found = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def _is_machinery(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(MACHINERY)


def _without_machinery(trace: TracebackType | None) -> TracebackType | None:
    kept = None
    for each in reversed(_chain(trace)):
        if not _is_machinery(each):
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept
