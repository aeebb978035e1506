"""A request written as the command that makes it, so that an error can show one that works."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from jvpcli.options import COMMAND_LINE, Option, in_request, options_of
from jvpcli.request import Request

_PLAIN = re.compile(r"[\w@%+=:,./-]+")

Pairs = Iterable[tuple[str | None, Any]]


def command(
    request: Request, *, name: str | None = None, grad_outputs: Pairs | None = None, tangent: Pairs | None = None
) -> str | None:
    """The command line of a request (of the command `name`, if not its own), with other cotangents or tangents if given.

    None where it cannot be written as one: from Python, with inputs that are not text.
    """
    if grad_outputs is not None:
        request = replace(request, grad_outputs=tuple(grad_outputs))
    if tangent is not None:
        request = replace(request, tangent=tuple(tangent))
    values = (*request.inputs.values(), *(value for _, value in (*request.grad_outputs, *request.tangent)))
    if not isinstance(request.expression, str) or not all(isinstance(value, str) for value in values):
        return None
    name = name or request.command
    options = options_of(COMMAND_LINE, name)
    taken = {spelling for option in options.values() for spelling in option.spellings}
    words = ["jvp", name, _quoted(request.expression, force=True)]
    for key, value in request.inputs.items():
        words += _given("-i", f"{key}={value}") if f"--{key}" in taken else _given(f"--{key}", value)
    for option in options.values():
        if option.repeated and in_request(option.name) and option.name not in ("expression", "inputs"):
            words += _setting(option, request)
    return " ".join(words)


def _setting(option: Option, request: Request) -> list[str]:
    """The words that give an option; none where the request holds what it holds without them."""
    value = getattr(request, option.name)
    asked = option.default is None and getattr(request, f"{option.name}_given", False)
    if value == type(request).__dataclass_fields__[option.name].default and not asked:
        return []
    spelling = option.spellings[0]
    return [spelling] if value is True else [w for text in option.kind.write(value) for w in _given(spelling, text)]


def _given(option: str, value: str) -> list[str]:
    quoted = _quoted(value)
    return [f"{option}={quoted}"] if value.startswith("-") and value != "-" else [option, quoted]


def _quoted(text: str, force: bool = False) -> str:
    """`text` as one word of a shell: double quotes where they are safe, since that is what people type."""
    if _PLAIN.fullmatch(text) and not force:
        return text
    if not re.search(r'[$`"\\!]', text):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"
