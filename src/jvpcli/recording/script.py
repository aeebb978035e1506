"""Running the user's program as Python would: as `__main__`, with its own arguments, search path and traceback."""

from __future__ import annotations

import builtins
import inspect
import io
import linecache
import logging
import os
import pkgutil
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.machinery import BuiltinImporter, SourceFileLoader
from importlib.util import decode_source, module_from_spec
from itertools import takewhile
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any

import torch

from jvpcli.errors import FileError, why
from jvpcli.recording.places import OURS, PYTHON, Point, frames_of, user_point

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
        if all(_file(trace.tb_frame).startswith(MACHINERY) for trace in frames_of(error.__traceback__)):
            raise FileError(f"there is no module {name} to run: {error}") from None
        raise


BEGINNINGS = (run_script.__code__, run_module.__code__)
"""What calls the program."""

CALLS = 2 if sys.version_info < (3, 12) else 0
"""Calls below the program that have no frame and count as one: `exec`, and what has led to it."""


@contextmanager
def _as_python(arguments: list[str], folder: str, main: ModuleType | None) -> Iterator[None]:
    """Inside, `sys` is as a program finds it: its arguments, the folder that it is in, and the module `__main__`."""
    argv, first, before, deepest = sys.argv[:], sys.path[0], sys.modules["__main__"], sys.getrecursionlimit()
    deepened = deepest + len(list(_frames(sys._getframe(2)))) + CALLS  # by what stands below the program's own frames
    sys.setrecursionlimit(deepened)
    sys.argv[:], sys.path[0] = arguments, folder
    if main is not None:
        sys.modules["__main__"] = main
    try:
        yield
    finally:
        sys.argv[:], sys.modules["__main__"] = argv, before
        if sys.getrecursionlimit() == deepened:
            sys.setrecursionlimit(deepest)
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
def _replaced(*replacements: tuple[Any, str, Any]) -> Iterator[None]:
    """Inside, attributes of objects are others; one that the program itself has replaced since stays as it has it."""
    before = [getattr(owner, name) for owner, name, _ in replacements]
    for owner, name, ours in replacements:
        setattr(owner, name, ours)
    try:
        yield
    finally:
        for (owner, name, ours), own in zip(replacements, before, strict=True):
            if getattr(owner, name) is ours:
                setattr(owner, name, own)


@contextmanager
def placed_warnings(tell: Callable[[str, Point], None]) -> Iterator[None]:
    """Inside, a warning names the line that Python would, not that of ours which handed a call on; `tell` hears torch's."""
    before = warnings.showwarning

    def show_placed(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        frames = list(_frames(sys._getframe(1)))
        again = any(frame.f_code is show_placed.__code__ for frame in frames)
        there = next((k for k, frame in enumerate(frames) if (_file(frame), frame.f_lineno) == (filename, lineno)), len(frames))
        own = [frame for frame, is_own in zip(frames, _own([_file(frame) for frame in frames]), strict=True) if is_own]
        if not again and there < len(own) and own[there] is not frames[there]:
            frames[there].f_globals.pop("__warningregistry__", None)
            warnings.onceregistry.pop((str(message), category), None)  # type: ignore[attr-defined]
            names = own[there].f_globals
            place = _file(own[there]), own[there].f_lineno, names.get("__name__")
            warnings.warn_explicit(message, category, *place, names.setdefault("__warningregistry__", {}), names)
            return  # given once more, where Python counts to: whether it is shown depends on what was shown of that place
        before(message, category, filename, lineno, file, line)
        point = user_point()
        if point is not None:
            tell(str(message), point)

    with _replaced((warnings, "showwarning", show_placed)):
        yield


LOGGED = 1 if sys.version_info >= (3, 11) else 3
"""How many frames out of its own `logging.currentframe` begins to look for who logs."""


class _OwnFrame:
    """A frame, whose callers are those that the program alone would have: for `logging`, which counts them by itself."""

    def __init__(self, frames: Sequence[FrameType]) -> None:
        self._frame, self._callers = frames[0], frames[1:]

    @property
    def f_back(self) -> _OwnFrame | None:
        return _OwnFrame(self._callers) if self._callers else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


@contextmanager
def own_tracebacks() -> Iterator[None]:
    """Inside, a traceback or a stack that the program prints, logs or asks for, or a process that it forks, is as in Python."""
    begin_before, walk_before, frames_before = traceback.TracebackException.__init__, traceback.walk_stack, inspect.getouterframes

    @wraps(begin_before)
    def begin(self: Any, exc_type: Any, exc_value: Any, exc_traceback: Any, **options: Any) -> None:
        begin_before(self, exc_type, exc_value, _without_machinery(exc_traceback), **options)

    @wraps(walk_before)
    def walk(f: FrameType | None) -> Iterator[tuple[FrameType, int]]:
        return iter([(frame, frame.f_lineno) for frame in _own_frames(sys._getframe(1) if f is None else f)])

    @wraps(frames_before)
    def outer_frames(frame: Any, context: int = 1) -> list[Any]:
        own = set(_own_frames(frame))
        return [each for each in frames_before(frame, context) if each.frame in own]

    def current_frame() -> _OwnFrame:
        return _OwnFrame(_own_frames(sys._getframe(LOGGED)))

    with _replaced(
        (traceback.TracebackException, "__init__", begin),
        (traceback, "walk_stack", walk),
        (inspect, "getouterframes", outer_frames),
        (logging, "currentframe", current_frame),
    ):
        yield


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

    with _replaced((threading, "excepthook", show_thread)):
        yield


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


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames that are running, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _own_frames(frame: FrameType) -> list[FrameType]:
    """Those of a frame and of what has called it that the program alone would have, the innermost first."""
    frames = list(takewhile(lambda each: each.f_code not in BEGINNINGS, _frames(frame)))
    return [each for each, is_own in zip(frames, _own([_file(each) for each in frames]), strict=True) if is_own]


def _without_machinery(trace: TracebackType | None) -> TracebackType | None:
    """The traceback as the program alone would have it."""
    kept, chain = None, frames_of(trace)[::-1]
    for each, is_own in zip(chain, _own([_file(each.tb_frame) for each in chain]), strict=True):
        if is_own:
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def _own(files: Sequence[str]) -> Iterator[bool]:
    """Whether a frame is there in the program alone too, by the files of all, the innermost first.

    What runs and records it is not, nor what of torch's own hands a call on to that: two frames in front of it.
    """
    handing = 0
    for inner, file in zip(["", *files], files, strict=False):
        if file == HANDED_ON and inner.startswith(OURS):
            handing = 2
        yield not handing and not file.startswith(MACHINERY)
        handing = max(0, handing - 1)
