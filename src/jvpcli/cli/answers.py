"""One line of a batch in, one document out: what the command itself prints with --json, and the line's id."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jvpcli.cli.compute import FREE_PART, refuse
from jvpcli.cli.limits import memory_limit
from jvpcli.cli.output import failures_as_errors
from jvpcli.cli.requests import asked, read_object
from jvpcli.errors import BadValueError, JvpError
from jvpcli.language.limits import free_memory
from jvpcli.render.json import error_to_json, to_json
from jvpcli.render.visible import escaped_json
from jvpcli.request import Request

NOT_READ = object()
"""The id of a line that could not be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A document of one line, without its newline, and whether the line failed."""

    document: bytes
    failed: bool


def answer(line: bytes, most_memory: int | None) -> Answer:
    """The answer to a line; `most_memory` bounds what it may ask for, in bytes."""
    identity: Any = NOT_READ
    try:
        with failures_as_errors():
            fields = read_object(line)
            identity = identity_of(fields)
            request = asked(fields)
            refuse(request, request.command)
            allowed = min((size for size in (request.memory_limit, most_memory) if size), default=None)
            report, failed = _compute(replace(request, memory_limit=allowed, timeout=None))
            document = to_json(report)
    except JvpError as error:
        return failure(error, identity)
    return Answer(with_id(document, identity), failed)


def failure(error: JvpError, identity: Any = NOT_READ) -> Answer:
    """The answer of a line that failed."""
    return Answer(with_id(error_to_json(error), identity), True)


def with_id(document: bytes, identity: Any) -> bytes:
    """The document with the id in front, if the line had one."""
    if identity is NOT_READ:
        return document
    return b'{"id":' + escaped_json(json.dumps(identity, separators=(",", ":")).encode()) + b"," + document[1:]


def id_of(line: bytes) -> Any:
    """The id of a line, if it can be read."""
    try:
        return identity_of(read_object(line))
    except JvpError:
        return NOT_READ


def identity_of(fields: Mapping[str, Any]) -> Any:
    """The id among the fields of a line.

    Raises:
        BadValueError: a number in it, such as 1e400, is too large to be written again.
    """
    identity = fields.get("id", NOT_READ)
    try:
        if identity is not NOT_READ:
            json.dumps(identity, allow_nan=False)
    except (TypeError, ValueError):
        raise BadValueError(
            "a number in the `id` is too large for a float, and JSON has no word for infinity"
        ) from None
    return identity


def default_memory(jobs: int) -> int | None:
    """What a line may take if nothing else was asked for: its job's part of the free memory."""
    free = free_memory()
    return int(FREE_PART * free / jobs) if free else None


def _compute(request: Request) -> tuple[Any, bool]:
    """The report, and whether it tells of a failed check."""
    if request.memory_limit is None:
        return COMMANDS[request.command](request)
    with memory_limit(request.memory_limit):
        return COMMANDS[request.command](request)


def _inspect(request: Request) -> tuple[Any, bool]:
    from jvpcli.pipeline import inspect

    return inspect(request), False


def _trace(request: Request) -> tuple[Any, bool]:
    from jvpcli.pipeline_trace import trace

    return trace(request), False


def _check(request: Request) -> tuple[Any, bool]:
    from jvpcli.pipeline_check import check  # type: ignore[import-not-found,import-untyped,unused-ignore]

    report = check(request)
    return report, not report.passed


COMMANDS: Mapping[str, Callable[[Request], tuple[Any, bool]]] = {
    "inspect": _inspect,
    "trace": _trace,
    "check": _check,
}
