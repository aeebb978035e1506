"""What the commands that compute share: refusing early, the limits, and the line of progress."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jvpcli.answers import report_of
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display, emit, emit_error, emit_warnings
from jvpcli.errors import FileError, JvpError, UnknownNameError, has_folder, too_late
from jvpcli.request import Request, Tell, is_store
from jvpcli.system import memory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


LINE_PATIENCE = 0.5
"""Seconds in which a line of a batch that is being written may still become whole."""

FREE_PART = 0.75
"""The part of the free memory that a command may take if nothing else was asked for."""

PATIENCE = 1.0
"""Seconds before the line of progress is shown."""


@contextmanager
def computing(context: Context, request: Request, as_json: bool) -> Iterator[tuple[Request, Callable[[], None]]]:
    """The request with its limits in force, and what to call once the answer is there.

    What computes, and torch with it, is loaded inside.  The limits hold for the answer too, as it is written; the line
    that shows progress goes away before it.

    Raises:
        JvpError: the expression is refused; that is known before torch is loaded.
    """
    check_folder()
    request = refuse(request, request.command)
    assert isinstance(request.expression, str)
    late = too_late(request.timeout or 0)
    context.watch.begin(request.expression, request.timeout, lambda: end_run(context, late, as_json))
    own_prints = redirect_stdout(context.err) if request.imports else nullcontext()  # stdout is for results
    with own_prints, ExitStack() as shown:
        request = replace(request, tell=shown.enter_context(progress(context)), read=_behind(shown, request.read))
        free = memory.free_memory()
        allowed = request.memory_limit or (int(FREE_PART * free) if free else None)
        if allowed is None:
            yield request, shown.close
            return
        if request.memory_limit is not None:
            tell_limit(context)
            start_threads()
        if request.command == "inspect" and is_store(request.save):
            from jvpcli.jacobians.store import start

            start()
            gc.enable()  # blocks leave cycles behind, and there are many
        # what a cluster's workers may take is their own business; this process holds no block
        with memory.limited(allowed) if request.cluster is None else nullcontext():
            yield replace(request, memory_limit=allowed), shown.close


def answer(
    context: Context,
    request: Request,
    display: Display,
    render: Callable[[Any, Console], None],
    compute: Callable[[Request], Any] = report_of,
) -> Any:
    """Computes the answer to a request and prints it, its pictures with it and its warnings on stderr; the report.

    `render` and `compute` load what they need themselves: a document needs no text, and an error before no torch.

    Raises:
        JvpError: whatever is wrong, as data.
    """

    def drawn(report: Any, console: Console) -> None:
        render(report, console)
        display.draw(report, console)

    display.check()
    with computing(context, request, display.as_json) as (limited, computed):
        report = compute(limited)
        computed()
        display.write(report)
        emit(context, report, display.as_json, drawn)
    if not display.quiet and not display.as_json:
        emit_warnings(context, report.warnings)
    return report


def _behind(shown: ExitStack, tell: Callable[[], None] | None) -> Callable[[], None] | None:
    """What tells something once the line of progress is gone."""

    def told() -> None:
        shown.close()
        assert tell is not None
        tell()

    return None if tell is None else told


def check_folder() -> None:
    """Refuses to compute without a current folder: torch's mathematics library ends the process where there is none.

    Raises:
        FileError: it has been removed.
    """
    if not has_folder():
        raise FileError("the current folder has been removed", hints=("change to a folder that is there, with cd",))


def tell_limit(context: Context) -> None:
    """Says so where --memory-limit can't do all that it says."""
    if not memory.can_limit():
        context.err.say(
            "--memory-limit: the memory of a process cannot be limited on this system; "
            "what is known beforehand to take more is refused all the same\n"
        )


def start_threads() -> None:
    """Starts torch's threads: their stacks are not the request's memory, and under a tight limit none would start."""
    import torch

    torch.zeros(1 << 18).exp_()


def refuse(request: Request, command: str) -> Request:
    """Raises what is wrong with the expression itself; loads no torch.  The request; it holds what is wrong with a program that
    could be run as it stands.

    Raises:
        JvpError: the expression is refused.
    """
    from jvpcli.language import may_construct
    from jvpcli.language.parse import parse

    assert isinstance(request.expression, str)
    if request.imports or request.refusal is not None or may_construct(request.expression):
        return request  # what they define is known only once they have run
    try:
        parse(request.expression, request.inputs.keys() | request.shape.keys())
    except JvpError as error:
        refusal = _with_command(error, request, command) if isinstance(error, UnknownNameError) else error
        if request.pasted is None and request.runnable is None:
            raise refusal from None
        return replace(request, refusal=refusal)
    return request


def _with_command(error: UnknownNameError, request: Request, command: str) -> JvpError:
    """For a name that has no value: a command that surely works, or the forms of a value; not where another name was meant."""
    from jvpcli.cli.example_values import in_words, values_for
    from jvpcli.language.parse import parse
    from jvpcli.options import command as command_line

    assert isinstance(request.expression, str)
    try:
        missing = [name for name in parse(request.expression).inputs if name not in {*request.inputs, *request.shape}]
    except JvpError:  # it is not the inputs alone
        return error
    name = request.expression[slice(*error.span)] if error.span else ""
    if name in missing and not any(hint.startswith("Did you mean") for hint in error.hints):
        values = values_for(request.expression, missing, request.inputs) if not request.grad_outputs else None
        hint = command_line(replace(request, inputs={**request.inputs, **(values or {})}), name=command)
        error.hints = (hint if hint and values else in_words(name),)
    return error


def end_run(context: Context, error: JvpError, as_json: bool) -> None:
    """From a watcher's thread: tells the error, unless the outcome is being told already, and ends the process."""
    nothing_told = context.watch.telling.acquire(timeout=LINE_PATIENCE)
    try:
        if nothing_told:
            emit_error(context, error, as_json)
    finally:
        os._exit(int(error.exit_code))


# How far a long computation is: a line on stderr that appears after a second, on a terminal, and goes away again


@contextmanager
def progress(context: Context) -> Iterator[Tell | None]:
    """Gives what is to be told of the progress; None where nobody looks."""
    if not context.err.isatty():
        yield None
        return
    shown = Shown(context)
    timer = threading.Timer(PATIENCE, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown.tell
    finally:
        timer.cancel()
        shown.stop()


class Shown:
    """The line of progress: what is being done, how much of it is, and for how long; drawn by a thread of rich's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._latest = ("computing", 0, 0)
        self._progress: Progress | None = None
        self._ended = False

    def start(self) -> None:
        """Draws the line, unless the work has just ended."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._ended:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=self._context.error_console, transient=True)
            self._task = self._progress.add_task("", total=None)
            self._update()
            self._progress.start()

    def tell(self, what: str, done: int, total: int) -> None:
        """`done` of `total` of `what` are there."""
        self._latest = (what, done, total)
        if self._progress is not None:
            self._update()

    def stop(self) -> None:
        """Takes the line away."""
        with self._lock:
            self._ended = True
            if self._progress is not None:
                self._progress.stop()

    def _update(self) -> None:
        assert self._progress is not None
        what, done, total = self._latest
        text = f"{what}: {done:,} of {total:,}" if total else what
        self._progress.update(self._task, description=text, completed=done, total=total or None)
