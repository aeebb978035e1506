"""A program that the language does not read, answered as Python runs it: its last derivative call, with the tensors there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch

from jvpcli.answers.arguments import inputs_of
from jvpcli.answers.run import Made, agrees, compared, made_by, request_of
from jvpcli.closed.derived import Asked
from jvpcli.errors import (
    EvaluationError,
    ExpressionSyntaxError,
    ForbiddenError,
    JvpError,
    LimitError,
    NotDifferentiableError,
    UnknownNameError,
    UsageError,
)
from jvpcli.language.evaluate import default_dtype
from jvpcli.language.trees import Arguments
from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.nodes import node_of
from jvpcli.recording.recorder import Recorder
from jvpcli.report import Call, Notice
from jvpcli.request import Request

REFUSALS = (ForbiddenError, UnknownNameError, ExpressionSyntaxError, LimitError, NotDifferentiableError, EvaluationError, UsageError)
"""What the language says of a program that it doesn't read, or can't carry out."""


def or_executed(request: Request, answer: Callable[[Request], Any]) -> Any:
    """The answer to a pasted program; where the language refuses it, for the last derivative that it asks for as Python runs it.

    Raises:
        JvpError: the program is refused, and can't be run as it stands either.
    """
    refusal = request.refusal
    if refusal is None:
        try:
            return answer(request)
        except REFUSALS as error:
            if error.torch_message is not None:
                raise
            refusal = error
    try:
        found = executed(request)
    except JvpError:
        found = None
    if found is None:
        raise refusal
    with default_dtype(found.dtype):
        try:
            report = answer(found.request)
            if found.made is not None and found.made.gradients:
                report = compared(report, found.request, found.made)
        except JvpError:
            raise
        except Exception:  # of the program's own, or where its values lie beyond what is answered
            raise refusal from None
    if found.failed is not None and getattr(report, "refusal", None) is None:
        said = _told(found.failed)
        raise EvaluationError(f"PyTorch raises in the call on line {found.line}: {said}", torch_message=said)
    return replace(report, warnings=(*report.warnings, found.note))


def _told(error: BaseException) -> str:
    """What an error says; one of the program's own may fail at that."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


@dataclass(frozen=True)
class Executed:
    """The last derivative that a program asks for as it runs.

    Attributes:
        request: what answers it.
        dtype: of new tensors, there.
        note: how it was found.
        made: what the program's own call gives; None: it is of a function, which the answer calls itself.
        line: where it is asked for.
        failed: what PyTorch raises there.
    """

    request: Request
    dtype: torch.dtype
    note: Notice
    made: Made | None
    line: int
    failed: BaseException | None


def executed(request: Request) -> Executed | None:
    """The last derivative that a program asks for; None where it asks for none.

    Raises:
        JvpError: it may not be run, or the call can't be taken apart.
    """
    from jvpcli.closed.execution import (  # loaded only where the language refuses a program
        at_call,
        compiled,
        run_through,
    )

    assert request.pasted is not None
    code = compiled(request.pasted)
    lines, error, failed = run_through(code, request.seed, request.memory_limit)
    if not lines or isinstance(error, JvpError):  # what Python goes on to do isn't known
        return None

    source = request.pasted.splitlines()
    numbers = sorted(set(lines))
    calls = tuple([Call(k + 1, n, source[n - 1].strip() if n <= len(source) else "", n == lines[-1]) for k, n in enumerate(numbers)])

    def meet(call: Derivative | Asked, recorder: Recorder, whole: bool) -> Executed | None:
        made = made_by(call) if isinstance(call, Derivative) else None
        try:
            meant = replace(_asked(call, recorder, request), pasted=None, refusal=None, calls=calls)
        except JvpError:
            if whole:
                raise
            return None
        if made is not None and not whole and not agrees(meant, made):
            return None
        return Executed(meant, torch.get_default_dtype(), Notice("as_python", _said(call, lines)), made, lines[-1], failed)

    found: Executed | None = at_call(code, len(lines), request.seed, request.memory_limit, meet)
    return found


def _said(call: Derivative | Asked, lines: Sequence[int]) -> str:
    """How the program was answered."""
    made = f"the last of the {len(lines):,} derivatives that it asks for" if len(lines) > 1 else "the derivative that it asks for"
    said = f"the program was run as Python runs it, and this is {made}, on line {lines[-1]}"
    if isinstance(call, Derivative) and call.function != "torch.autograd.grad":
        before = [name for name, x in call.inputs.items() if node_of(x) is None and x.grad is not None]
        if before:
            said += f"; PyTorch adds it to what .grad holds from before: of {', '.join(before[:4])}{', …' if len(before) > 4 else ''}"
    return said


def _asked(call: Derivative | Asked, recorder: Recorder, request: Request) -> Request:
    """A derivative that a program asks for as the request that answers it."""
    if isinstance(call, Derivative):
        found = request_of(call, recorder, request.command)
        return replace(
            request,
            expression=found.expression,
            inputs=found.inputs,
            wrt=request.wrt or found.wrt,
            grad_outputs=request.grad_outputs or found.grad_outputs,
            is_grads_batched=found.is_grads_batched,
        )
    names = _names(call)
    arguments = Arguments({**dict(zip(names, call.arguments, strict=True)), **call.keywords}, len(names))
    values = inputs_of(arguments, ())
    wrt = [name for name in values for place in call.places if name == names[place] or name.startswith((f"{names[place]}[", f"{names[place]}."))]
    cotangents = call.cotangent if isinstance(call.cotangent, (tuple, list)) else () if call.cotangent is None else (call.cotangent,)
    tangents = call.tangent if isinstance(call.tangent, (tuple, list)) else () if call.tangent is None else (call.tangent,)
    return replace(
        request,
        expression=call.function,
        inputs=values,
        wrt=request.wrt or tuple(wrt),
        arguments=arguments,
        grad_outputs=request.grad_outputs or tuple((None, v) for v in cotangents),
        tangent=request.tangent or tuple(zip((names[place] for place in call.places), tangents, strict=False)),
    )


def _names(call: Asked) -> list[str]:
    """The names of a function's positional parameters."""
    try:
        known = [name for name, each in signature(call.function).parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    except (TypeError, ValueError):
        known = []
    return [known[k] if k < len(known) else f"x{k}" for k in range(len(call.arguments))]
