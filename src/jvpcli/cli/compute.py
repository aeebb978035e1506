"""What every command that computes does first: refuse early, load torch, and put the limits on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace

from jvpcli.cli.context import Context
from jvpcli.cli.limits import memory_limit
from jvpcli.cli.output import emit_error
from jvpcli.cli.progress import progress
from jvpcli.errors import FileError, JvpError, UnknownNameError, has_folder, too_late
from jvpcli.request import Request

LINE_PATIENCE = 0.5
"""Seconds in which a line of a batch that is being written may still become whole."""

FREE_PART = 0.75
"""The part of the free memory that a command may take if nothing else was asked for."""


@contextmanager
def computing(
    context: Context, request: Request, as_json: bool
) -> Iterator[tuple[Request, Callable[[], None]]]:
    """The request with its limits in force, and what to call once the answer is there.

    What computes, and torch with it, is loaded inside.

    The limits hold for the answer too, as it is written; the line that shows progress goes away before it.

    Raises:
        JvpError: the expression is refused; that is known before torch is loaded.
    """
    check_folder()
    refuse(request, request.command)
    assert isinstance(request.expression, str)
    late = too_late(request.timeout or 0)
    context.watch.begin(request.expression, request.timeout, lambda: end_run(context, late, as_json))
    with (
        _own_prints_to(context, request),
        ExitStack() as shown,
    ):
        request = replace(request, tell=shown.enter_context(progress(context)))
        from jvpcli.language.limits import free_memory

        free = free_memory()
        allowed = request.memory_limit or (int(FREE_PART * free) if free else None)
        if allowed is None:
            yield request, shown.close
            return
        if request.memory_limit is not None:
            _start_threads()
        with memory_limit(allowed):
            yield replace(request, memory_limit=allowed), shown.close


@contextmanager
def _own_prints_to(context: Context, request: Request) -> Iterator[None]:
    """What the user's own files print goes to stderr: stdout is for results."""
    if not request.imports:
        yield
        return
    with redirect_stdout(context.err):
        yield


def check_folder() -> None:
    """Refuses to compute without a current folder: torch's mathematics library ends the process where there is none.

    Raises:
        FileError: it has been removed.
    """
    if not has_folder():
        raise FileError("the current folder has been removed", hints=("change to a folder that is there, with cd",))


def _start_threads() -> None:
    """Starts torch's threads: their stacks are not the request's memory, and under a tight limit none would start."""
    import torch

    torch.zeros(1 << 18).exp_()


def refuse(request: Request, command: str) -> None:
    """Raises what is wrong with the expression itself; loads no torch.

    Raises:
        JvpError: the expression is refused.
    """
    from jvpcli.language.parse import parse

    assert isinstance(request.expression, str)
    if request.imports:  # what they define is known only once they have run
        return
    try:
        parse(request.expression, request.inputs.keys())
    except UnknownNameError as error:
        raise _with_command(error, request, command) from None


def _with_command(error: UnknownNameError, request: Request, command: str) -> JvpError:
    """For a name that has no value: a command that surely works, or the forms of a value; not where another name was meant."""
    from jvpcli.cli.missing import in_words, values_for
    from jvpcli.command import command as command_line
    from jvpcli.language.parse import parse

    assert isinstance(request.expression, str)
    try:
        missing = [name for name in parse(request.expression).inputs if name not in request.inputs]
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
    alone = context.watch.word.acquire(timeout=LINE_PATIENCE)
    try:
        if alone:
            emit_error(context, error, as_json)
    finally:
        os._exit(int(error.exit_code))
