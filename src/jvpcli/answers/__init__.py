"""The answers: a file each, which reads from top to bottom in the order of its stages."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from jvpcli.errors import REFUSALS, JvpError
from jvpcli.request import Request


def report_of(request: Request, answer: Callable[[Request], Any] | None = None) -> Any:
    """The answer of the command that a request is for, as data; its module is loaded here, and no other.

    Another answer to the same question may take its place: one that holds the report with the tensors that it was made from, or
    the derivative alone.
    """
    if answer is None:
        answer = getattr(import_module(f"jvpcli.answers.{request.command}"), request.command)
    if request.pasted is None and request.runnable is None:
        return answer(request)
    refusal = request.refusal
    if refusal is None:
        try:
            answered = answer(request)
        except JvpError as error:
            if not isinstance(error, REFUSALS):
                _read(request)
                raise
            refusal = error
        else:
            _read(request)
            return answered
    from jvpcli.answers.executed import executed  # loaded only where the language refuses a program

    return executed(request, refusal, answer)


def _read(request: Request) -> None:
    """Tells how the language has read a program, which is what is told of it."""
    if request.read is not None:
        request.read()
