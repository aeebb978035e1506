"""A derivative call of a program that Python runs: which one is asked about, and the request that answers it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from types import TracebackType
from typing import Any

import torch

from jvpcli.answers.arguments import inputs_of
from jvpcli.answers.question import values_of
from jvpcli.answers.run import Made, agrees, made_by, request_of
from jvpcli.closed.derived import Asked
from jvpcli.errors import EvaluationError, JvpError, NotDifferentiableError, UnknownNameError, missing_name, words_of
from jvpcli.language.pasted import no_such_call
from jvpcli.language.trees import Arguments, is_below, leaves
from jvpcli.problem import Problem
from jvpcli.program import PROGRAM
from jvpcli.recording.derivatives import Derivative
from jvpcli.recording.places import frames_of, place_of
from jvpcli.recording.recorder import Recorder
from jvpcli.recording.tape import held_before, with_held
from jvpcli.report import Call, Notice
from jvpcli.request import Request


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
        failed: what is told of that which PyTorch raises there; None: it raises nothing.
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
    failed: Callable[[], JvpError] | None
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
        noted_down,
        run_through,
    )

    code, text = compiled(request.expression, request.inputs.keys()), code_of(request.expression)
    settings = Settings(request.seed, request.seed_given, request.memory_limit, _given(request), _ends(text))
    seen, error = run_through(code, settings)
    lines, failed = seen.lines, seen.failed
    if isinstance(error, JvpError):  # what Python goes on to do isn't known
        raise _placed(error, error)
    proved = partial(_proved, partial(noted_down, code, settings))
    if not lines:
        raise NotDifferentiableError(asks_for_none(request.expression)) if error is None else _ended(error, proved(error))
    number, calls = _picked(lines, request.call, text)
    line = next(call.line for call in calls if call.explained)
    goes_on = error is None or len(code) > 1  # as a session does
    end = ""
    if error is not None and error is not failed.get(number):
        end = f"; {_passed(error) if goes_on else _ended(error, None).message}"
    raised = partial(_raised, failed[number], line, proved) if number in failed else None
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
            if whole and raised is not None:
                raise raised() from None
            if whole:
                raise
            return None
        if made is not None and not whole and not agrees(own, made):
            return None
        note = Notice("as_python", _said(number, len(lines), line) + end + _changed_before(call, own) + _changed_behind(call))
        dtype = torch.get_default_dtype()
        ended = goes_on and number not in failed
        return Executed(meant, own, dtype, note, made, line, raised, ended, tuple(held))

    if request.call is None and goes_on and number not in failed and seen.creates_value:
        at_end = partial(_at_end, plain, tuple(replace(each, explained=False) for each in calls), line)
        equation: Executed | None = at_call(code, seen, len(lines) + 1, settings, at_end)
        if equation is not None:
            return equation
    found: Executed | None = at_call(code, seen, number, settings, meet)
    if found is None:
        raise EvaluationError("its calls of derivatives are not the same when it is run again.")
    return found


def _at_end(
    request: Request, calls: tuple[Call, ...], line: int, end: Derivative, recorder: Recorder, whole: bool
) -> Executed | None:
    """What a program ends with as a function of its leaves; None: that can't be taken apart.

    Args:
        request: what is asked beside it.
        calls: the lines that ask for derivatives.
        line: of its last derivative call, which makes a graph: it is an equation like any other.
        whole: whether all steps are noted down.
    """
    made = made_by(end)
    try:
        own = replace(_asked(_named(end), recorder, request), calls=calls, grad_outputs=())
    except JvpError:
        return None
    if not whole and not agrees(own, made):
        return None
    names = ", ".join(own.expression.evaluation.outputs) if isinstance(own.expression, Problem) else "its value"
    note = Notice(
        "as_python",
        f"the program was run as Python runs it, and this is what it ends with, {names}, as a function of its leaves: "
        f"its last derivative call, on line {line}, has create_graph=True, so it is an equation of the program "
        f"(--call {calls[-1].number} explains that call itself)",
    )
    return Executed(own, own, torch.get_default_dtype(), note, made, line, None, True)


def _ends(code: str) -> tuple[tuple[str, ...], ...]:
    """The names that a program's statements give values to, and those that stand alone, of the last statement first."""
    waiting: list[ast.AST] = [ast.parse(code)]
    found: list[tuple[int, tuple[str, ...]]] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            named = (part for part in ast.walk(node) if isinstance(part, ast.Name))
            alone = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Tuple))
            found.append((node.lineno, tuple(part.id for part in named if alone or isinstance(part.ctx, ast.Store))))
        waiting += ast.iter_child_nodes(node)
    return tuple(names for _, names in sorted(found, reverse=True) if names)


def _proved(again: Callable[..., tuple[BaseException | None, Recorder]], error: BaseException) -> JvpError | None:
    """What an error of a program means, by its steps as they are noted down when it is run again; None where nothing is known."""

    def is_it(other: BaseException) -> bool:
        return (type(other), words_of(other)) == (type(error), words_of(error))

    found, recorder = again(is_it)
    if found is None or not is_it(found):  # one that the program catches
        return _meaning(error)
    return _meaning(found, recorder)


def _meaning(error: BaseException, recorder: Recorder | None = None) -> JvpError | None:
    """What an error of a program means; None where nothing is known of it."""
    from jvpcli.answers.uncaught import explained_chain  # loaded only where a program fails

    return explained_chain(error, recorder)


def _ended(error: BaseException, meaning: JvpError | None) -> JvpError:
    """What a program of its own raises, as far as Python runs it between guards; with what it means where that is known.

    It has a place in the program where it is why there is no answer, whatever the language says of the same text.
    """
    if meaning is not None and meaning.explanation:
        return meaning
    own = _own_frames(error)
    where = f" on line {own[-1].tb_lineno}" if own else ""
    name = missing_name(error)
    if name is None or hasattr(builtins, name):
        return _placed(EvaluationError(f"the program ends{where} with {_quoted(error)}"), error)
    return UnknownNameError(f"the program reads `{name}`{where}, which has no value", hints=(f"--{name} VALUE gives it one",))


def _placed(told: JvpError, error: BaseException) -> JvpError:
    """What is told of an error of a program's run, with where in the program that was."""
    own = _own_frames(error)
    if not own:
        return told
    place = place_of(own[-1])
    by_python = "Python ran it between guards, since the language does not read it."
    return told.with_context(explanation=by_python, span=place.span, source=place.source)


def _passed(error: BaseException) -> str:
    """What a session raises, and goes on behind."""
    own = _own_frames(error)
    line = f"line {own[0].tb_lineno}, which" if own else "what"
    return f"the session goes on behind {line} raises {_quoted(error)}"


def _quoted(error: BaseException) -> str:
    """An error as Python itself shows it at the end of a traceback."""
    return ": ".join(filter(None, (type(error).__name__, words_of(error))))


def _own_frames(error: BaseException) -> list[TracebackType]:
    """The lines of the program that an error has come through, the innermost last."""
    return [trace for trace in frames_of(error.__traceback__) if trace.tb_frame.f_code.co_filename == PROGRAM]


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


def _said(number: int, count: int, line: int) -> str:
    """How the program was answered."""
    made = "the derivative that it asks for"
    if count > 1:
        made = f"{'the last' if number == count else f'number {number:,}'} of the {count:,} derivatives that it asks for"
    return f"the program was run as Python runs it, and this is {made}, on line {line}"


def _raised(error: BaseException, line: int, proved: Callable[[BaseException], JvpError | None]) -> JvpError:
    """What PyTorch raises in a program's own call, with what it means where that is known."""
    said, meaning = words_of(error), proved(error)
    if meaning is None or not meaning.explanation:
        return EvaluationError(f"PyTorch raises in the call on line {line}: {said}", torch_message=said)
    meaning.message = f"PyTorch raises in the call on line {line}: {meaning.message[:1].lower()}{meaning.message[1:]}"
    return meaning


def _changed_before(call: Derivative | Asked, own: Request) -> str:
    """What is said of leaves that have other numbers by now than the steps to a call took; empty: there are none."""
    if not isinstance(call, Derivative) or not isinstance(own.expression, Problem):
        return ""
    then = own.expression.inputs
    held = [(name, x.detach().nan_to_num(), then[name].detach().nan_to_num()) for name, x in call.inputs.items() if name in then]
    moved = [name for name, x, before in held if not torch.equal(x, before)]
    named = ", ".join([*moved[:4], *["…"] * (len(moved) > 4)])
    return f"; what has been changed since its steps took it has the numbers here that it had then: {named}" if moved else ""


def _changed_behind(call: Derivative | Asked) -> str:
    """What is said of leaves with hooks that run once a backward pass has added to their `.grad`; empty: there are none."""
    if not isinstance(call, Derivative) or call.function == "torch.autograd.grad":
        return ""
    hooked = [name for name, x in call.inputs.items() if getattr(x, "_post_accumulate_grad_hooks", None)]
    named = ", ".join([*hooked[:4], *["…"] * (len(hooked) > 4)])
    return f"; what hooks do to .grad once it has been added to is no part of it: {named}" if hooked else ""


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
        grad_outputs=tuple((None, v) for each in cotangent for _, v in _leaves(each, "")),
        tangent=tuple(named for own, u in zip(asked, tangent, strict=False) for named in _leaves(u, own)),
    )


def _leaves(direction: Any, name: str) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a direction, by their key paths in what it is called: of a dictionary or list those in it.

    Raises:
        EvaluationError: it holds something else.
    """
    found = [(name, direction)] if isinstance(direction, torch.Tensor) else [*leaves(direction, name)]
    if not all(isinstance(v, torch.Tensor) for _, v in found):
        raise EvaluationError("a direction that holds something else than tensors can't be taken apart")
    return found


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
