"""A request written as the command that makes it, so that an error can show one that works."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from jvpcli.request import Request

_PLAIN = re.compile(r"[\w@%+=:,./-]+")

Pairs = Iterable[tuple[str | None, Any]]


def command(
    request: Request, *, name: str | None = None, grad_outputs: Pairs | None = None, tangent: Pairs | None = None
) -> str | None:
    """The command line of a request (of the command `name`, if not its own), with other cotangents or tangents if given.

    None where it cannot be written as one: from Python, with inputs that are not text.
    """
    inputs = dict(request.inputs)
    if not isinstance(request.expression, str) or not all(isinstance(value, str) for value in inputs.values()):
        return None
    weights = request.grad_outputs if grad_outputs is None else tuple(grad_outputs)
    tangents = request.tangent if tangent is None else tuple(tangent)
    if not all(isinstance(value, str) for _, value in (*weights, *tangents)):
        return None
    words = ["jvp", name or request.command, _quoted(request.expression, force=True)]
    for key, value in inputs.items():
        words += _option(f"--{key}", value)
    for option, pairs in (("--grad-outputs", weights), ("--tangent", tangents)):
        for target, value in pairs:
            words += _option(option, value if target is None else f"{target}={value}")
    words += _settings(request)
    return " ".join(words)


def _settings(request: Request) -> list[str]:
    words = [word for path in request.imports for word in _option("--import", path)]
    words += [] if request.wrt is None else ["--wrt", ",".join(request.wrt)]
    for option, value, default in (
        ("--dtype", request.dtype, "float32"),
        ("--device", request.device, "cpu"),
        ("--seed", str(request.seed), "0"),
    ):
        words += [] if value == default else [option, value]
    return words


def _option(option: str, value: str) -> list[str]:
    quoted = _quoted(value)
    return [f"{option}={quoted}"] if value.startswith("-") and value != "-" else [option, quoted]


def _quoted(text: str, force: bool = False) -> str:
    """`text` as one word of a shell: double quotes where they are safe, since that is what people type."""
    if _PLAIN.fullmatch(text) and not force:
        return text
    if not re.search(r'[$`"\\!]', text):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"
