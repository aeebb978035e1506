"""One request of a batch, as plain data: what it asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jvpcli.errors import UsageError
from jvpcli.language.pasted import as_meant
from jvpcli.options import BATCH, make_request, options_of
from jvpcli.request import Request


def request_of(fields: Mapping[str, Any], may_run: bool = False) -> Request:
    """What a line's object asks for; `may_run`: a program that the language does not read may be run by Python itself.

    Raises:
        UsageError: a field that there isn't, one that is missing, or one of the wrong type.
    """
    known = options_of(BATCH)
    for name in fields:
        if name not in known:
            raise _unknown(name, known)
    if not isinstance(fields.get("expression"), str):
        raise UsageError("a request needs `expression`, a string")
    return as_meant(make_request(fields, BATCH), may_run)


def _unknown(name: str, known: Collection[str]) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return UsageError(
        f"a request has no field `{name}`",
        explanation=f"The fields are {', '.join(known)}.",
        hints=(f"Did you mean {near[0]}?",) if near else (),
    )
