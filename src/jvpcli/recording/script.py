"""Running the user's program as Python would: as `__main__`, with its own arguments, search path and traceback."""

from __future__ import annotations

import builtins
import io
import linecache
import os
import pkgutil
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import BuiltinImporter, SourceFileLoader
from importlib.util import decode_source, module_from_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

import torch

from jvpcli.errors import FileError, why
from jvpcli.recording.places import PYTHON, Point, is_library, user_point

OURS = str(Path(__file__).parents[1])
HANDED_ON = str(Path(torch.__file__).parent / "overrides.py")
RUNPY = str(Path(PYTHON) / "runpy.py")  # in Python 3.10; later ones have it frozen
STDIN = "<stdin>"
"""The name of the file that a program comes from stdin in."""

MACHINERY = ("<frozen runpy>", RUNPY, "<frozen importlib", OURS)
"""What the names of files begin with that a program's own traceback would not show."""


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Runs a file, a folder or archive that holds a `__main__.py`, or (`-`) what stdin has, as `python PATH ARGUMENTS…` does.

    Raises:
        FileError: it can't be read.
        Whatever the program raises, a SystemExit too.
    """
    where = os.path.join(os.getcwd(), path)  # as Python itself has it, dots and all
    names: dict[str, Any]
    importer: Any = None if path == "-" else pkgutil.get_importer(where)
    if path == "-":
        code, folder, names = _from_stdin(), "", {"__loader__": BuiltinImporter, "__file__": STDIN, "__cached__": None}
    elif importer is None:
        code = _compiled(where, path)
        folder = os.path.dirname(os.path.realpath(path))
        names = {"__loader__": SourceFileLoader("__main__", where), "__file__": where, "__cached__": None}
    else:
        spec = importer.find_spec("__main__")
        if spec is None or spec.loader is None:
            raise FileError(f"the program {path} can't be run: there is no __main__.py in it")
        code, folder, names = spec.loader.get_code("__main__"), where, vars(module_from_spec(spec))
    main = ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__dict__.update({"__builtins__": builtins, **names})
    with _as_python([path, *arguments], folder, main):
        exec(code, main.__dict__)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Runs a module as `python -m NAME ARGUMENTS…` does.

    Raises:
        FileError: there is no such module.
        Whatever the program raises, a SystemExit too.
    """
    import runpy

    try:
        with _as_python([name, *arguments], os.getcwd(), None):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if all(_is_machinery(trace) for trace in _chain(error.__traceback__)):
            raise FileError(f"there is no module {name} to run: {error}") from None
        raise


@contextmanager
def _as_python(arguments: list[str], folder: str, main: ModuleType | None) -> Iterator[None]:
    """Inside, `sys` is as a program finds it: its arguments, the folder that it is in, and the module `__main__`."""
    argv, first, before = sys.argv[:], sys.path[0], sys.modules["__main__"]
    sys.argv[:], sys.path[0] = arguments, folder
    if main is not None:
        sys.modules["__main__"] = main
    try:
        yield
    finally:
        sys.argv[:], sys.modules["__main__"] = argv, before
        if sys.path[:1] == [folder]:
            sys.path[0] = first


def _compiled(where: str, path: str) -> CodeType:
    try:
        with io.open_code(where) as file:
            return compile(file.read(), where, "exec", dont_inherit=True)
    except OSError as error:
        raise FileError(f"the program {path} can't be read: {why(error, path)}") from None


def _from_stdin() -> CodeType:
    source = sys.stdin.buffer.read()
    lines = decode_source(source).splitlines(keepends=True)
    linecache.cache[STDIN] = len(source), None, lines, STDIN  # for what looks at its lines: nobody can read them again
    return compile(source, STDIN, "exec", dont_inherit=True)


@contextmanager
def placed_warnings(tell: Callable[[str, Point], None]) -> Iterator[None]:
    """Inside, a warning that torch gives names the user's line, not that of ours which handed the call on; `tell` hears it."""
    before = warnings.showwarning

    def show_placed(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        point = user_point() if is_library(filename) else None
        if point is not None:
            filename, lineno = point.code.co_filename, point.line
        before(message, category, filename, lineno, file, line)
        if point is not None:
            tell(str(message), point)

    warnings.showwarning = show_placed
    try:
        yield
    finally:
        if warnings.showwarning is show_placed:
            warnings.showwarning = before


@contextmanager
def threads_told(tell: Callable[[BaseException], None]) -> Iterator[None]:
    """Inside, `tell` hears of an error that ends a thread, below its traceback; a hook of the program's own counts."""
    before = threading.excepthook

    def show_thread(ended: Any) -> None:
        error = ended.exc_value
        if error is None:
            before(ended)
            return
        own_traceback(error)
        before(threading.ExceptHookArgs([ended.exc_type, error, error.__traceback__, ended.thread]))
        if ended.exc_type is not SystemExit:
            tell(error)

    threading.excepthook = show_thread
    try:
        yield
    finally:
        if threading.excepthook is show_thread:
            threading.excepthook = before


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
        waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
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
    return _file(trace).startswith(MACHINERY)


def _file(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _without_machinery(trace: TracebackType | None) -> TracebackType | None:
    """Without what runs and records the program, and what of torch's own hands a call on to that: two frames in front of it."""
    kept, chain, handing = None, _chain(trace), 0
    for inner, each in zip([None, *reversed(chain)], reversed(chain), strict=False):
        if _file(each) == HANDED_ON and inner is not None and _file(inner).startswith(OURS):
            handing = 2
        if handing:
            handing -= 1
        elif not _is_machinery(each):
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept
