"""A line of a batch as a Request: a JSON object in, checked field by field."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from jvpcli.errors import BadValueError, UsageError
from jvpcli.language.overflow import json_float
from jvpcli.language.pasted import read_pasted
from jvpcli.options import BATCH, make_request, options_of
from jvpcli.request import Request


def read_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line.

    Raises:
        BadValueError: it is not strict JSON, or no object.
    """
    try:
        found = json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=json_float)
        if b"\\u" in line:
            json.dumps(found, ensure_ascii=False, default=str).encode("utf-8")  # half a character cannot be written again
    except UnicodeError:
        raise BadValueError("the line is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadValueError(
            f"the line is not JSON: {error.msg[:1].lower()}{error.msg[1:]} (character {error.pos + 1})",
            hints=('A line looks like {"expression": "torch.outer(x,x)", "inputs": {"x": [1,2,3,4]}}.',),
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadValueError(f"the line cannot be read: {reason}") from None
    if not isinstance(found, dict):
        raise BadValueError("the line is JSON, but not an object with an `expression`")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f'{word} is not JSON; it is written "{word}", as a string')


def asked(fields: Mapping[str, Any]) -> Request:
    """What a line's object asks for.

    Raises:
        UsageError: a field that there isn't, one that is missing, or one of the wrong type.
    """
    known = options_of(BATCH)
    for name in fields:
        if name not in known:
            raise _unknown(name, known)
    if not isinstance(fields.get("expression"), str):
        raise UsageError("a request needs `expression`, a string")
    request = make_request(fields, BATCH)
    pasted = read_pasted(fields["expression"])
    if pasted is None:
        return request
    return replace(
        request,
        expression=pasted.expression,
        inputs={**pasted.inputs, **request.inputs},
        wrt=request.wrt or pasted.wrt or None,
        grad_outputs=request.grad_outputs or tuple((None, text) for text in pasted.grad_outputs),
        tangent=request.tangent or tuple((None, text) for text in pasted.tangent),
    )


def _unknown(name: str, known: Collection[str]) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return UsageError(
        f"a request has no field `{name}`",
        explanation=f"The fields are {', '.join(known)}.",
        hints=(f"Did you mean {near[0]}?",) if near else (),
    )
