"""A program that the language does not read, answered as Python runs it: a derivative call of it, with the tensors there."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch

from jvpcli.answers.arguments import below, inputs_of
from jvpcli.answers.question import differentiated, values_of
from jvpcli.answers.run import Made, agrees, compared, difference, made_by, other_gradient, request_of
from jvpcli.closed.derived import Asked
from jvpcli.errors import (
    UNREAD,
    BadValueError,
    EvaluationError,
    ExpressionSyntaxError,
    FileError,
    JvpError,
    LimitError,
    NotDifferentiableError,
    UnknownNameError,
    UsageError,
)
from jvpcli.language.evaluate import default_dtype
from jvpcli.language.modules import expanded
from jvpcli.language.pasted import no_such_call, refuse_lacking
from jvpcli.language.trees import Arguments, is_below
from jvpcli.problem import Problem
from jvpcli.program import PROGRAM, Program
from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.held import held_before, with_held
from jvpcli.recording.places import frames_of
from jvpcli.recording.recorder import Recorder
from jvpcli.recording.tape import free_name
from jvpcli.report import Call, Notice, PlanReport
from jvpcli.request import Request

OF_OPTIONS = (UsageError, BadValueError, FileError)
"""What is wrong with what was given beside a program."""

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
        raise refusal
    found = _as_asked(found, asked)
    try:
        return _answered(found, answer)
    except Exception as error:
        if _counts(error, refusal, found):
            raise
        raise refusal from None


def _counts(error: Exception, refusal: JvpError, found: Executed) -> bool:
    """Whether an error of the answer is told, and not why the language refuses the program: it is PyTorch's, or there is no such
    answer, or no room for it.
    """
    if not isinstance(error, JvpError):
        return False
    if found.failed is not None or isinstance(error, (UsageError, LimitError)):
        return True
    return found.beside or (isinstance(error, EvaluationError) and not isinstance(refusal, EvaluationError))


def _both(refusal: JvpError, why: JvpError) -> JvpError:
    """What is told where neither the language reads a program nor Python can run it; what is known to be wrong with it counts."""
    if refusal.torch_message is not None or isinstance(why, ExpressionSyntaxError):
        return refusal
    if why.torch_message is not None:
        return why
    if isinstance(refusal, UnknownNameError):  # where Python runs the program to its end there is the name
        return why if isinstance(why, NotDifferentiableError) else refusal
    if isinstance(why, UnknownNameError):
        return why
    beside = f"Python, between guards, does not get to an answer either: {why.message}"
    refusal.explanation = f"{refusal.explanation}\n{beside}".strip()
    return refusal


def with_way(refusal: JvpError, request: Request) -> JvpError:
    """The refusal of a program that Python might run, where whoever asks may not have that done: with the way that works."""
    if request.runnable is None or not isinstance(refusal, UNREAD) or refusal.torch_message is not None:
        return refusal
    from jvpcli.closed.execution import compiled

    with suppress(JvpError):
        compiled(request.runnable)
        refusal.hints = (*refusal.hints, WAY.format(command=request.command))
    return refusal


@dataclass(frozen=True)
class Executed:
    """A derivative that a program asks for as it runs.

    Attributes:
        request: what answers it.
        own: the same as the program's own call has it, without what was asked beside it, and what `.grad` held before.
        dtype: of new tensors, there.
        note: how it was found.
        made: what the program's own call gives; None: it is of a function, which the answer calls itself.
        line: where it is asked for.
        failed: what PyTorch raises there.
        whole: whether the program ran to its end.
        held: the names of the leaves whose `.grad` holds something before the call, which adds to it.
        beside: whether something else was asked than its call says.
    """

    request: Request
    own: Request
    dtype: torch.dtype
    note: Notice
    made: Made | None
    line: int
    failed: BaseException | None
    whole: bool
    held: tuple[str, ...] = ()
    beside: bool = False


def met(request: Request) -> Executed:
    """A derivative that a program asks for: the last, or that which is picked.

    Raises:
        JvpError: it may not be run, asks for none, fails, or its steps can't be taken apart; there is no such call in it, or
            nothing that a value which is given could stand for.
    """
    from jvpcli.closed.execution import (  # loaded only where the language refuses a program
        Settings,
        asks_for_none,
        at_call,
        code_of,
        compiled,
        run_through,
    )

    code = compiled(request.expression, request.inputs.keys())
    settings = Settings(request.seed, request.seed_given, request.memory_limit, _given(request))
    seen, error = run_through(code, settings)
    lines, failed = seen.lines, seen.failed
    if isinstance(error, JvpError):  # what Python goes on to do isn't known
        raise error
    if not lines:
        raise NotDifferentiableError(asks_for_none(request.expression)) if error is None else _ended(error)
    number, calls = _picked(lines, request.call, code_of(request.expression))
    line = next(call.line for call in calls if call.explained)
    end = "" if error is None or error is failed.get(number) else f"; {_ended(error).message}"
    plain = replace(request, inputs={}, wrt=None, grad_outputs=(), is_grads_batched=False, tangent=(), call=None)

    def meet(call: Derivative | Asked, recorder: Recorder, whole: bool) -> Executed | None:
        call = _named(call) if isinstance(call, Derivative) else call
        made = made_by(call) if isinstance(call, Derivative) and call.tangents is None else None
        held = held_before(call) if isinstance(call, Derivative) else {}
        try:
            own = meant = replace(_asked(call, recorder, plain), calls=calls)
            adds = bool(held) and request.command == "inspect" and made is not None and bool(made.gradients)
            if adds and isinstance(call, Derivative):
                meant = replace(_asked(with_held(call, held, recorder), recorder, plain), calls=calls)
        except JvpError:
            if whole:
                raise
            return None
        if made is not None and not whole and not agrees(own, made):
            return None
        note, dtype = Notice("as_python", _said(number, len(lines), line) + end), torch.get_default_dtype()
        ended = error is None and number not in failed
        return Executed(meant, own, dtype, note, made, line, failed.get(number), ended, tuple(held))

    found: Executed | None = at_call(code, seen, number, settings, meet)
    if found is None:
        raise EvaluationError("its calls of derivatives are not the same when it is run again.")
    return found


def _ended(error: BaseException) -> JvpError:
    """What a program of its own raises, as far as Python runs it between guards; explained where torch's message is known."""
    from jvpcli.answers.uncaught import explained_chain  # loaded only where a program fails

    meaning = explained_chain(error, None)
    if meaning is not None and meaning.causes:
        return meaning
    own = [trace for trace in frames_of(error) if trace.tb_frame.f_code.co_filename == PROGRAM]
    where = f" on line {own[-1].tb_lineno}" if own else ""
    name = getattr(error, "name", None) if isinstance(error, NameError) else None
    if name is None or hasattr(builtins, name):
        said = ": ".join(filter(None, (type(error).__name__, _told(error))))
        return EvaluationError(f"it ends{where} with {said}")
    return UnknownNameError(f"the program reads `{name}`{where}, which has no value", hints=(f"--{name} VALUE gives it one",))


def _given(request: Request) -> Mapping[str, Any]:
    """The values that are given beside a program."""
    if not request.inputs:
        return {}
    from jvpcli.closed.given import Given

    exact = values_of(replace(request, dtype="float64"))
    return {name: Given(x, exact[name]) for name, x in values_of(request).items()}


def _picked(lines: Sequence[int], number: int | None, code: str) -> tuple[int, tuple[Call, ...]]:
    """Which call is asked about, from 1, of all that a program makes; and the lines that make any, as they are told.

    Args:
        lines: where each was made.
        number: of a line, counted from 1: its last call is meant; None: the last of all.
        code: the program.

    Raises:
        UsageError: there is no such line.
    """
    places, tree = sorted({*lines}), ast.parse(code)
    asked = lines[-1] if number is None else places[number - 1] if number <= len(places) else None
    calls = tuple(Call(k, n, _source(n, tree, code), n == asked) for k, n in enumerate(places, 1))
    if asked is None:
        assert number is not None
        raise no_such_call(number, calls)
    return len(lines) - [*reversed(lines)].index(asked), calls


def _source(line: int, tree: ast.Module, code: str) -> str:
    """What stands on a line of a program, without the name that it is given to: on one line, what goes on in others too."""
    there = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)]
    value = getattr(there[-1], "value", None) if there and not hasattr(there[-1], "body") else None
    found = None if value is None else ast.get_source_segment(code, value)
    return " ".join((found or code.split("\n")[line - 1]).split())


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
        said = _told(found.failed)
        raise EvaluationError(f"PyTorch raises in the call on line {found.line}: {said}", torch_message=said)
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


def _told(error: BaseException) -> str:
    """What an error says; one of the program's own may fail at that."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def _said(number: int, count: int, line: int) -> str:
    """How the program was answered."""
    made = "the derivative that it asks for"
    if count > 1:
        made = f"{'the last' if number == count else f'number {number:,}'} of the {count:,} derivatives that it asks for"
    said = f"the program was run as Python runs it, and this is {made}, on line {line}"
    return said


def _added(held: Sequence[str], is_in_result: bool) -> str:
    """What is said of leaves whose `.grad` holds something before a call of backward."""
    of = ", ".join([*held[:4], *["…"] * (len(held) > 4)])
    told = ", and so does the result: held is the sum of its products with these" if is_in_result else ", which isn't in this"
    return f"; .grad holds what calls before have added to it{told}: {of}"


def _named(call: Derivative) -> Derivative:
    """The call, with outputs that the program has no name for named as those of an expression are."""
    taken = {*call.names.values(), *call.inputs}
    outputs: dict[str, torch.Tensor] = {}
    for place, (text, y) in enumerate(call.outputs.items()):
        number = "" if len(call.outputs) == 1 else str(place)
        plain = next(name for name in (f"y{number}", f"out{number}", text) if name not in taken or name == text)
        outputs[text if text.isidentifier() or call.names.get(id(y)) == text else plain] = y
    return replace(call, outputs=outputs)


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
    function = _first_of(call.function) if call.ignored else call.function
    cotangent, tangent = _several(call.cotangent), _several(call.tangent)
    if request.command == "hessian" and call.base is not None:  # its derivative is the gradient's
        function, cotangent, tangent = call.base, (), (*cotangent, *tangent)
    return replace(
        request,
        expression=function,
        inputs=values,
        wrt=tuple(wrt),
        arguments=arguments,
        grad_outputs=tuple((None, v) for v in cotangent),
        tangent=tuple(zip(asked, tangent, strict=False)),
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
            for name, each in signature(call.base or call.function).parameters.items()
            if each.kind is each.POSITIONAL_OR_KEYWORD
        ]
    except (TypeError, ValueError):
        known = []
    return [known[k] if k < len(known) else f"x{k}" for k in range(len(call.arguments))]
