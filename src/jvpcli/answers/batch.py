"""One request of a batch, as plain data: what it asks for, and the answers that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from jvpcli.errors import UsageError
from jvpcli.language.pasted import read_pasted
from jvpcli.options import BATCH, make_request, options_of
from jvpcli.request import Request


def request_of(fields: Mapping[str, Any]) -> Request:
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
        inputs={name: x for name, x in {**pasted.inputs, **request.inputs}.items() if name not in pasted.unused},
        wrt=request.wrt or pasted.wrt or None,
        grad_outputs=request.grad_outputs or tuple((None, text) for text in pasted.grad_outputs),
        tangent=request.tangent or tuple((None, text) for text in pasted.tangent),
        is_grads_batched=request.is_grads_batched or pasted.is_grads_batched,
        seed=request.seed if request.seed_given or pasted.seed is None else pasted.seed,
    )


def _unknown(name: str, known: Collection[str]) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return UsageError(
        f"a request has no field `{name}`",
        explanation=f"The fields are {', '.join(known)}.",
        hints=(f"Did you mean {near[0]}?",) if near else (),
    )


def _inspect(request: Request) -> tuple[Any, bool]:
    from jvpcli.answers.inspect import inspect

    return inspect(request), False


def _trace(request: Request) -> tuple[Any, bool]:
    from jvpcli.answers.trace import trace

    return trace(request), False


def _check(request: Request) -> tuple[Any, bool]:
    from jvpcli.answers.check import check

    report = check(request)
    return report, not report.passed


def _hessian(request: Request) -> tuple[Any, bool]:
    from jvpcli.answers.hessian import hessian

    return hessian(request), False


COMMANDS: Mapping[str, Callable[[Request], tuple[Any, bool]]] = {
    "inspect": _inspect,
    "trace": _trace,
    "check": _check,
    "hessian": _hessian,
}
"""The answers by the name of their command: a request to its report, and whether a check found a wrong gradient."""
