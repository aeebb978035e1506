"""A line of a batch as a Request: a JSON object in, checked field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from jvpcli.cli.options import one_of, positive, whole
from jvpcli.errors import BadValueError, UsageError
from jvpcli.language.overflow import json_float
from jvpcli.language.pasted import Pasted, read_pasted
from jvpcli.request import Request, parse_size

COMMANDS = ("inspect", "trace", "check")
"""What a line may ask for."""

FIELDS = (
    "id", "expression", "inputs", "wrt", "grad_outputs", "tangent", "dtype", "seed", "command",
    "device", "mode", "jacobian", "memory_limit", "timeout",
)  # fmt: skip
"""What a line may hold."""


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
    for name in fields:
        if name not in FIELDS:
            raise _unknown(name)
    if not isinstance(fields.get("expression"), str):
        raise UsageError("a request needs `expression`, a string")
    inputs = _typed(fields, "inputs", dict, "an object of NAME: VALUE") or {}
    pasted = read_pasted(fields["expression"]) or Pasted(fields["expression"])
    memory = fields.get("memory_limit")
    return Request(
        expression=pasted.expression,
        inputs={**pasted.inputs, **inputs},
        wrt=_names(fields.get("wrt")) or pasted.wrt or None,
        grad_outputs=_weights(fields.get("grad_outputs")) or tuple((None, text) for text in pasted.grad_outputs),
        tangent=_weights(fields.get("tangent")) or tuple((None, text) for text in pasted.tangent),
        dtype=_typed(fields, "dtype", str, "a string, as in float64") or "float32",
        device=_typed(fields, "device", str, "a string, as in cpu") or "cpu",
        seed=whole("seed", _typed(fields, "seed", int, "a whole number") or 0),
        mode=_one_of(fields, "mode", ("auto", "forward", "reverse")),
        jacobian=_one_of(fields, "jacobian", ("auto", "dense", "sparse", "none")),
        memory_limit=None if memory is None else parse_size(str(memory)),
        timeout=timeout(fields),
        command=_command(fields),
    )


def timeout(fields: Mapping[str, Any]) -> float | None:
    """The line's own timeout in seconds."""
    seconds = fields.get("timeout")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        raise UsageError("`timeout` is a number of seconds")
    return positive("`timeout`", seconds)


def _unknown(name: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, FIELDS, n=1)
    return UsageError(
        f"a request has no field `{name}`",
        explanation=f"The fields are {', '.join(FIELDS)}.",
        hints=(f"Did you mean {near[0]}?",) if near else (),
    )


def _command(fields: Mapping[str, Any]) -> str:
    name = fields.get("command", "inspect")
    if name not in COMMANDS:
        raise UsageError(f"`command` is one of {', '.join(COMMANDS)}, not {name!r}")
    return str(name)


def _typed(fields: Mapping[str, Any], name: str, kind: type, what: str) -> Any:
    value = fields.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UsageError(f"`{name}` is {what}")
    return value


def _one_of(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    return one_of(f"`{name}`", fields.get(name, "auto"), allowed)


def _names(wrt: Any) -> tuple[str, ...] | None:
    if wrt is None:
        return None
    names = wrt.split(",") if isinstance(wrt, str) else wrt
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError('`wrt` is a list of names, as in ["x", "W"]')
    return tuple(name.strip() for name in names if name.strip())


def _weights(value: Any) -> tuple[tuple[str | None, Any], ...]:
    """A VALUE, or an object from names to VALUEs."""
    if value is None:
        return ()
    if isinstance(value, dict) and "value" not in value:
        return tuple(value.items())
    return ((None, value),)
