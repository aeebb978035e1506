"""A program that the language does not read, answered as Python runs it: a derivative call of it, with the tensors there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from jvpcli.answers.arguments import below
from jvpcli.answers.program_call import Executed, met
from jvpcli.answers.question import differentiated
from jvpcli.answers.run import compared, difference, other_gradient
from jvpcli.errors import (
    UNREAD,
    BadValueError,
    EvaluationError,
    ExpressionSyntaxError,
    FileError,
    ForbiddenError,
    InternalError,
    JvpError,
    LimitError,
    ShapeMismatchError,
    UnknownNameError,
    UsageError,
    words_of,
)
from jvpcli.language.evaluate import default_dtype
from jvpcli.language.modules import expanded
from jvpcli.language.pasted import refuse_lacking
from jvpcli.problem import Problem
from jvpcli.program import Program
from jvpcli.recording.tape import free_name
from jvpcli.report import PlanReport
from jvpcli.request import Request

OF_OPTIONS = (UsageError, BadValueError, FileError)
"""What is wrong with what was given beside a program."""

WITHOUT_GUARDS = ("Save it in a file, if you trust it, and run it without guards: jvp run --grad-calls FILE.py",)
"""What is hinted at where the guards refused something of a program."""

WAY = (
    "jvp {command} - < FILE has Python itself run such a program, between guards; so has --as-python of jvp batch and jvp serve, "
    "and as_python=True"
)
"""What is hinted at where a program was refused that Python might run."""


def executed(request: Request, refusal: JvpError, answer: Callable[[Request], Any]) -> Any:
    """The answer to a pasted program that the language refuses: for a derivative that it asks for as Python runs it.

    What the language says that PyTorch raises is said where Python doesn't run the program to its end, either.

    Args:
        request: what is asked, and of what program.
        refusal: why the language refuses it.
        answer: gives a report, what has one as its `report`, or linear maps.

    Raises:
        JvpError: it can't be run as it stands either.
    """
    if request.pasted is None:
        raise with_way(refusal, request)
    try:
        return _run(request, request.pasted, refusal, answer)
    except JvpError as error:
        if error is refusal and request.refusal is None and request.read is not None:  # it is one of the program as it was read
            request.read()
        raise


def _run(request: Request, pasted: Request, refusal: JvpError, answer: Callable[[Request], Any]) -> Any:
    """The answer for a program as Python runs it.

    Raises:
        JvpError: what is wrong with it, or with what is asked of it; else why the language refuses it.
    """
    asked = replace(pasted, memory_limit=request.memory_limit, files=request.files, tell=request.tell)
    try:
        found = met(asked)
    except OF_OPTIONS:
        raise
    except JvpError as why:
        raise _both(refusal, why) from None
    if refusal.torch_message is not None and not found.whole:
        raise refusal if found.failed is None else _clearer(refusal, found.failed())
    found = _as_asked(found, asked)
    try:
        return _answered(found, answer)
    except Exception as error:
        if _counts(error, refusal, found):
            raise
        if found.failed is not None:
            raise found.failed() from None
        if isinstance(error, InternalError) and _has_hooks(found):
            writes = "a hook that writes to its gradient in place changes what shares that memory"
            raise _not_again(found, f"{error.message}; {writes}") from None
        raise refusal if isinstance(error, JvpError) else _both(refusal, EvaluationError(words_of(error))) from None


def _has_hooks(found: Executed) -> bool:
    """Whether hooks that have given a gradient back are among the steps."""
    asked = found.request.expression
    return isinstance(asked, Problem) and any(".register_hook" in name for name in asked.functions)


def _counts(error: Exception, refusal: JvpError, found: Executed) -> bool:
    """Whether an error of the answer is told, and not why the language refuses the program: it is PyTorch's, or there is no such
    answer, or no room for it.
    """
    if not isinstance(error, JvpError):
        return False
    if isinstance(error, (UsageError, LimitError)) or (found.failed is not None and isinstance(error, ShapeMismatchError)):
        return True
    if found.failed is not None:
        return False
    return found.beside or (isinstance(error, EvaluationError) and not isinstance(refusal, EvaluationError))


def _both(refusal: JvpError, why: JvpError) -> JvpError:
    """What is told where neither the language reads a program nor Python can run it; what is known to be wrong with it counts."""
    if refusal.torch_message is not None:
        return _clearer(refusal, why)
    if isinstance(why, ExpressionSyntaxError):
        return refusal
    if why.torch_message is not None or isinstance(why, LimitError):
        return why
    same = why.source is not None and _line(why) == _line(refusal) and not isinstance(why, ForbiddenError)
    if isinstance(refusal, UnknownNameError) and (same or _first_quoted(refusal) in why.message):
        return refusal  # of the same name, of which the language knows the nearest ones
    if isinstance(why, ForbiddenError) and why.source is not None:
        return why.with_context(hints=WITHOUT_GUARDS)
    if why.source is not None or isinstance(refusal, UnknownNameError) or isinstance(why, UnknownNameError):
        return why
    beside = f"Python, between guards, does not get to an answer either: {why.message}"
    refusal.explanation = f"{refusal.explanation}\n{beside}".strip()
    return refusal


def _first_quoted(error: JvpError) -> str:
    """What stands in an error's first quotation marks, as the name does that is not known; empty: it has none."""
    return error.message.partition("`")[2].partition("`")[0]


def _line(error: JvpError) -> str:
    """The line of the program that an error is about, without its prompt."""
    source, start = error.source or "", (error.span or (0, 0))[0]
    return source[source.rfind("\n", 0, start) + 1 :].partition("\n")[0].removeprefix(">>>").removeprefix("...").strip()


def _clearer(refusal: JvpError, why: JvpError) -> JvpError:
    """What the language tells of an error of PyTorch's, or what Python's own run does: where the first lists what the causes may
    be, and the other has found the one, with its cure."""
    is_vague = type(refusal) is EvaluationError and bool(refusal.causes)
    is_found = why.torch_message is not None and bool(why.hints) and not why.causes
    return why if is_vague and is_found else refusal


def with_way(refusal: JvpError, request: Request) -> JvpError:
    """The refusal of a program that Python might run, where whoever asks may not have that done: with the way that works."""
    if request.runnable is None or not isinstance(refusal, UNREAD) or refusal.torch_message is not None:
        return refusal
    from jvpcli.closed.execution import compiled

    with suppress(JvpError):
        compiled(request.runnable)
        refusal.hints = (*refusal.hints, WAY.format(command=request.command))
    return refusal


def _as_asked(found: Executed, asked: Request) -> Executed:
    """The derivative with what was asked beside the program in the place of what its call says.

    Raises:
        UsageError: that can't be asked of it.
    """
    if asked.device is not None:
        raise _beside("device", "Its tensors are where it makes them.")
    if asked.dtype != "float32" and not asked.inputs:
        raise _beside("dtype", "Its tensors have the dtypes that it makes them with, and no numbers are given beside it.")
    own = found.own
    beside = asked.wrt is not None or bool(asked.grad_outputs or asked.is_grads_batched or asked.tangent)
    request = own if beside else found.request
    note = replace(found.note, message=found.note.message + _added(found.held, request is not own)) if found.held else found.note
    if asked.wrt is not None:
        request = replace(request, **_by(asked.wrt, request))
    if asked.grad_outputs:
        request = replace(request, grad_outputs=asked.grad_outputs, is_grads_batched=asked.is_grads_batched)
    elif asked.is_grads_batched:
        request = replace(request, is_grads_batched=True)
    if asked.tangent:
        request = replace(request, tangent=asked.tangent)
    if asked.command == "check":
        request = request.checked()
    refuse_lacking(request)
    if request.command == "derive":
        request = _in_formulas(request)
    return replace(found, request=request, note=note, beside=beside)


def _beside(name: str, why: str) -> UsageError:
    return UsageError(
        f"--{name} can't be used with this program",
        explanation=f"The language does not read it: it is run as it stands. {why}",
    )


def _by(wrt: tuple[str, ...], request: Request) -> dict[str, Any]:
    """The fields of a request that is differentiated by other inputs.

    Raises:
        UsageError: there are none of these names.
    """
    if not isinstance(request.expression, Problem):
        return {"wrt": tuple(below(wrt, request.inputs))}
    problem = request.expression
    names = differentiated(replace(request, wrt=expanded(wrt, problem.inputs)), problem.inputs)
    return {"expression": replace(problem, wrt=names), "wrt": names}


def _in_formulas(request: Request) -> Request:
    """The request with steps that can be had in formulas, those of a function too, and inputs of names that code can have:
    `net_0_weight` is `net.0.weight`.
    """
    from jvpcli.answers.trace import opened_problem  # loaded only where formulas are asked for

    problem = opened_problem(request)
    program, names = problem.function, dict[str, str]()
    assert isinstance(program, Program)
    for name in problem.inputs:
        names[name] = free_name(re.sub(r"\W+", "_", name).strip("_"), {each: each for each in names.values()})
    inputs = {names[name]: x for name, x in problem.inputs.items()}
    wrt = tuple(names[name] for name in problem.wrt)
    program = replace(program, inputs=tuple(names[name] for name in program.inputs))
    return replace(
        request,
        expression=replace(problem, function=program, inputs=inputs, wrt=wrt),
        inputs={name: x.detach() for name, x in inputs.items()},
        wrt=wrt,
        tangent=tuple((names.get(name or "", name), u) for name, u in request.tangent),
        arguments=None,
    )


def _answered(found: Executed, answer: Callable[[Request], Any]) -> Any:
    """The answer for a derivative that was met as a program ran."""
    with default_dtype(found.dtype):
        try:
            answered = answer(found.request)
        except JvpError as error:
            if found.beside or error.torch_message is None or found.made is None or not found.made.gradients:
                raise
            told = "PyTorch carries it out; its steps, as they were noted down, can't be run again"
            raise _not_again(found, told) from error
        if isinstance(answered, PlanReport):  # which says nothing of the numbers
            return answered
        if isinstance(answered, Mapping):  # linear maps, which have no words
            _refuse_other(found)
            return answered
        report = answered.report if hasattr(answered, "report") else answered
        if found.made is not None and found.made.gradients:
            report = _compared(report, found)
    if found.failed is not None and getattr(report, "refusal", None) is None:
        raise found.failed()
    report = replace(report, warnings=(*report.warnings, found.note))
    return replace(answered, report=report) if hasattr(answered, "report") else report


def _compared(report: Any, found: Executed) -> Any:
    """The report; a check that passes says in its verdict where the program's own call gives something else.

    Raises:
        EvaluationError: it gives something else, and the report does not say so.
    """
    if found.request.command != "check":
        _refuse_other(found)
        return report
    assert found.made is not None
    told = compared(report, found.own, found.made)
    if told is not report and told.passed == report.passed:
        _refuse_other(found)
    return told


def _refuse_other(found: Executed) -> None:
    """Refuse a derivative whose steps, run again, give something else than the program's own call.

    Raises:
        EvaluationError: that is so.
    """
    apart = None if found.made is None else difference(found.own, found.made)
    if apart is not None:
        raise _not_again(found, other_gradient(apart).message)


def _not_again(found: Executed, told: str) -> EvaluationError:
    """What is said where the steps to a call, run again, fail or give something else, and the program's own don't."""
    return EvaluationError(
        f"the derivative call on line {found.line} can't be taken apart", explanation=f"{told[:1].upper()}{told[1:]}."
    )


def _added(held: Sequence[str], is_in_result: bool) -> str:
    """What is said of leaves whose `.grad` holds something before a call of backward."""
    of = ", ".join([*held[:4], *["…"] * (len(held) > 4)])
    told = ", and so does the result: held is the sum of its products with these" if is_in_result else ", which isn't in this"
    return f"; .grad holds what calls before have added to it{told}: {of}"
