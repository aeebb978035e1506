"""A program that the language does not read, answered as Python runs it: its last derivative call, with the tensors there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
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
from jvpcli.language.pasted import refuse_lacking
from jvpcli.language.source import read_source
from jvpcli.language.trees import Arguments, is_below
from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.nodes import node_of
from jvpcli.recording.recorder import Recorder
from jvpcli.report import Call, Notice, PlanReport
from jvpcli.request import Request

REFUSALS = (
    ForbiddenError, UnknownNameError, ExpressionSyntaxError, LimitError, NotDifferentiableError, EvaluationError, UsageError,
)  # fmt: skip
"""What the language says of a program that it doesn't read, or can't carry out."""


def or_executed(request: Request, answer: Callable[[Request], Any]) -> Any:
    """The answer to a pasted program; where the language refuses it, for the last derivative that it asks for as Python runs it.

    Raises:
        JvpError: the program is refused, and can't be run as it stands either.
    """
    refusal, found = request.refusal, None
    if refusal is None:
        try:
            report = answer(request)
        except JvpError as error:
            refusal = error
        else:
            _tell(request)
            return report
    if request.refusal is not None or (isinstance(refusal, REFUSALS) and refusal.torch_message is None):
        assert request.pasted is not None
        asked = replace(request.pasted, memory_limit=request.memory_limit, tell=request.tell)
        with suppress(JvpError):
            found = executed(asked)
    if found is None:
        _tell(request)
        raise refusal
    _refuse_own(asked)
    try:
        return _answered(found, answer)
    except Exception as error:  # what PyTorch raises, or doesn't do, is told; else why the language refuses it
        fails = isinstance(error, JvpError) and found.failed is not None
        if fails or (isinstance(error, EvaluationError) and not isinstance(refusal, EvaluationError)):
            raise
        raise refusal from None


OWN = ("wrt", "grad_outputs", "tangent", "device")
"""What of a request a program that is run says itself."""


def _refuse_own(asked: Request) -> None:
    """Refuse what is asked of a program beside what it asks itself.

    Raises:
        UsageError: there is such a thing.
    """
    given = [name for name in OWN if getattr(asked, name)] + ["dtype"] * (asked.dtype != "float32")
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(
            f"{option} can't be used with this program",
            explanation="The language does not read it: it is run as it stands, and its own call says what is asked.",
        )


def _tell(request: Request) -> None:
    """Tells how the language has read a program, which is what the answer is about."""
    if request.read is not None and request.refusal is None:
        request.read()


def _answered(found: Executed, answer: Callable[[Request], Any]) -> Any:
    """The answer for a derivative that was met as a program ran."""
    with default_dtype(found.dtype):
        refuse_lacking(found.request)
        try:
            report = answer(found.request)
        except JvpError as error:
            if error.torch_message is None or found.made is None or not found.made.gradients:
                raise
            told = "PyTorch carries it out; its steps, as they were noted down, can't be run again"
            raise _not_again(found, told) from error
        if isinstance(report, PlanReport):  # which says nothing of the numbers
            return report
        if found.made is not None and found.made.gradients:
            report = compared(report, found.request, found.made)
            apart = next((each.message for each in report.warnings if each.code == "other_gradient"), None)
            if apart is not None:  # a check says so in its verdict
                raise _not_again(found, apart)
    if found.failed is not None and getattr(report, "refusal", None) is None:
        said = _told(found.failed)
        raise EvaluationError(f"PyTorch raises in the call on line {found.line}: {said}", torch_message=said)
    return replace(report, warnings=(*report.warnings, found.note))


def _not_again(found: Executed, told: str) -> EvaluationError:
    """What is said where the steps to a call, run again, fail or give something else, and the program's own don't."""
    return EvaluationError(
        f"the derivative call on line {found.line} can't be taken apart", explanation=f"{told[:1].upper()}{told[1:]}."
    )


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
        Settings,
        asks_for_none,
        at_call,
        compiled,
        run_through,
    )

    code, settings = compiled(request.expression), Settings(request.seed, request.seed_given, request.memory_limit)
    seen, error = run_through(code, settings)
    lines = seen.lines
    if not lines and error is None:
        raise NotDifferentiableError(asks_for_none(request.expression))
    if not lines or isinstance(error, JvpError):  # what Python goes on to do isn't known
        return None

    text = read_source(request.expression)[0]
    places = {n: text.source.count("\n", 0, text.position(n, 0)) + 1 for n in sorted(set(lines))}  # prompts and all
    calls = tuple(Call(k, places[n], text.lines[n - 1].strip(), n == lines[-1]) for k, n in enumerate(places, 1))
    line = places[lines[-1]]

    def meet(call: Derivative | Asked, recorder: Recorder, whole: bool) -> Executed | None:
        made = made_by(call) if isinstance(call, Derivative) and call.tangents is None else None
        try:
            meant = replace(_asked(call, recorder, request), calls=calls)
            meant = meant.checked() if request.command == "check" else meant
        except JvpError:
            if whole:
                raise
            return None
        if made is not None and not whole and not agrees(meant, made):
            return None
        return Executed(
            meant, torch.get_default_dtype(), Notice("as_python", _said(call, len(lines), line)), made, line, seen.failed
        )

    found: Executed | None = at_call(code, seen, len(lines), settings, meet)
    return found


def _said(call: Derivative | Asked, count: int, line: int) -> str:
    """How the program was answered."""
    made = f"the last of the {count:,} derivatives that it asks for" if count > 1 else "the derivative that it asks for"
    said = f"the program was run as Python runs it, and this is {made}, on line {line}"
    if isinstance(call, Derivative) and call.function != "torch.autograd.grad":
        before = [name for name, x in call.inputs.items() if node_of(x) is None and x.grad is not None]
        if before:
            of = ", ".join([*before[:4], *["…"] * (len(before) > 4)])
            said += f"; PyTorch adds it to what .grad holds from before: of {of}"
    return said


def _asked(call: Derivative | Asked, recorder: Recorder, request: Request) -> Request:
    """A derivative that a program asks for as the request that answers it."""
    if isinstance(call, Derivative):
        found = request_of(call, recorder, request.command)
        return replace(
            request,
            expression=found.expression,
            inputs=found.inputs,
            wrt=found.wrt,
            grad_outputs=found.grad_outputs,
            is_grads_batched=found.is_grads_batched,
            tangent=tuple(zip(call.inputs, call.tangents or (), strict=False)),
        )
    if not all(isinstance(v, torch.Tensor) for v in (*_several(call.cotangent), *_several(call.tangent))):
        raise EvaluationError("a direction that is a dictionary of tensors can't be taken apart")
    names = _names(call)
    arguments = Arguments({**dict(zip(names, call.arguments, strict=True)), **call.keywords}, len(names))
    values = inputs_of(arguments, ())
    asked = [names[place] for place in call.places]
    wrt = [name for name in values for own in asked if is_below(name, own)]
    return replace(
        request,
        expression=_first_of(call.function) if call.ignored else call.function,
        inputs=values,
        wrt=tuple(wrt),
        arguments=arguments,
        grad_outputs=tuple((None, v) for v in _several(call.cotangent)),
        tangent=tuple(zip(asked, _several(call.tangent), strict=False)),
    )


def _first_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without the second result that `has_aux` tells of, which is not differentiated."""

    def first(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)[0]

    return first


def _several(given: Any) -> Sequence[Any]:
    """What a call is given one of, or several, or none."""
    return given if isinstance(given, (tuple, list)) else () if given is None else (given,)


def _names(call: Asked) -> list[str]:
    """The names of a function's positional parameters."""
    try:
        known = [
            name
            for name, each in signature(call.function).parameters.items()
            if each.kind is each.POSITIONAL_OR_KEYWORD
        ]
    except (TypeError, ValueError):
        known = []
    return [known[k] if k < len(known) else f"x{k}" for k in range(len(call.arguments))]
