"""What every command that computes does first: load torch, and put the limits on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

from jvpcli.cli.context import Context
from jvpcli.cli.limits import memory_limit, time_limit
from jvpcli.cli.output import emit_error
from jvpcli.errors import LimitError
from jvpcli.request import Request

FREE_PART = 0.75
"""The part of the free memory that a command may take if nothing else was asked for."""


@contextmanager
def computing(context: Context, request: Request, as_json: bool) -> Iterator[tuple[ModuleType, Request]]:
    """The pipeline, and the request with its limits in force."""

    def on_timeout() -> int:
        error = LimitError(
            f"it took longer than {request.timeout:g} s", hints=("make the inputs smaller, or raise --timeout",)
        )
        code = emit_error(context, error, as_json)
        context.flush()
        return code

    with time_limit(request.timeout, on_timeout):
        from jvpcli import pipeline
        from jvpcli.language.limits import free_memory

        free = free_memory()
        allowed = request.memory_limit or (int(FREE_PART * free) if free else None)
        if allowed is None:
            yield pipeline, request
            return
        with memory_limit(allowed):
            yield pipeline, replace(request, memory_limit=allowed)
