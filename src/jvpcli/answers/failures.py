"""Failures where the request is known: of the evaluation, of the backward pass, and where no gradient reaches an input."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from jvpcli.answers.weights import read_cotangents, read_tangents
from jvpcli.errors import (
    LESS_MEMORY,
    EvaluationError,
    JvpError,
    LimitError,
    NotDifferentiableError,
    is_out_of_memory,
    words_of,
)
from jvpcli.language.derivatives import derivation
from jvpcli.language.evaluate import Evaluation, evaluate_value
from jvpcli.language.failures import in_sentence
from jvpcli.language.leaves import without_plain
from jvpcli.language.operations import can_require_grad, is_in_place
from jvpcli.language.parse import parse
from jvpcli.language.values import dtype_name, is_expression
from jvpcli.messages.matcher import lookup, worded
from jvpcli.options import command
from jvpcli.problem import Problem
from jvpcli.program import Const, Equation, Program, takes_shape
from jvpcli.repairs.diagnosis import PATIENCE, diagnose, explained, repaired
from jvpcli.request import Request

SMALL = 64 * 2**20
"""Bytes that trying a repair may take."""

LARGE = 1 << 18
"""Entries of the inputs up to which a repair is tried with their numbers."""

PATIENCE_WITHOUT_NUMBERS = 1.0
"""Seconds for trying with shapes alone: torch may have to load something for them."""

LONGEST_COMMAND = 1000
"""Characters of a command that is shown whole; of a longer one the expression alone is shown."""


def explain_failure(error: JvpError, request: Request, problem: Problem) -> JvpError:
    """What torch raised in a step of the problem's program, told by the operands as the user wrote them, with repairs that work.

    They fit the cotangents and tangents given, if any does; else they are shown with a command without those.
    """
    diagnosis = diagnose(error, problem.function) if isinstance(problem.function, Program) else None
    if diagnosis is None:
        return error
    if diagnosis.guilty is None:  # raised inside the user's own code
        return _of_modules(explained(diagnosis), error.__cause__)
    patience = PATIENCE_WITHOUT_NUMBERS if _is_large(problem) else PATIENCE
    patience = patience if request.timeout is None else min(patience, request.timeout / 4)
    plain = replace(request, grad_outputs=(), tangent=())
    for asked in (request, plain) if request.grad_outputs or request.tangent else (request,):
        found = repaired(diagnosis, partial(works, asked, problem), patience)
        if found:
            return explained(diagnosis, found, partial(_shown, asked))
    return explained(diagnosis)


def _of_modules(told: JvpError, error: BaseException | None) -> JvpError:
    """The failure of the user's own code; where it came up in a module that is made for another input, that is told first."""
    from jvpcli.answers.causes import misfit, modules_in  # loaded only where code of the user's own has failed

    cause = None if error is None else misfit(*modules_in(error))
    if cause is not None:
        told.explanation = f"{cause.words}\n{told.explanation}"
        told.causes, told.cures = (), ()
        told.hints = (*told.hints, *filter(None, [cause.cure]))
    return told


def works(request: Request, problem: Problem, source: str) -> bool:
    """Whether the command would with another expression.

    That is: it uses the same inputs, evaluates, is differentiable, and the cotangents fit.
    """
    try:
        candidate = problem.retry(source)
        assert isinstance(candidate.function, Program)
        assert isinstance(problem.function, Program)
        if set(candidate.function.inputs) != set(problem.function.inputs):
            return False
        large = _is_large(problem)
        evaluation = _shapes(request, candidate) if large else _evaluated(request, candidate)
    except JvpError:
        return False
    return any(y.requires_grad for y in evaluation.outputs.values())


def _is_large(problem: Problem) -> bool:
    """Whether trying with the numbers could take long: then shapes alone are computed."""
    return sum(x.numel() for x in problem.inputs.values()) > LARGE


def _evaluated(request: Request, candidate: Problem) -> Evaluation:
    """A candidate at the inputs, with the cotangents and tangents."""
    limit = SMALL if candidate.memory_limit is None else min(SMALL, candidate.memory_limit)
    evaluation = replace(candidate, memory_limit=limit).at()
    read_cotangents(request, evaluation)
    read_tangents(request, evaluation)
    return evaluation


def _shapes(request: Request, candidate: Problem) -> Evaluation:
    """A candidate on tensors without numbers, on torch's meta device.

    Raises:
        EvaluationError: it fails, or needs numbers (a condition), or a cotangent's shape would have to be found.
    """
    if any(value not in ("ones", "none") for _, value in (*request.grad_outputs, *request.tangent)):
        raise EvaluationError("cotangents are not tried without numbers")
    with torch.device("meta"):
        inputs = {name: torch.empty_like(x, device="meta") for name, x in candidate.inputs.items()}
        try:
            return candidate.at(inputs)
        except (RuntimeError, NotImplementedError) as error:
            raise EvaluationError(str(error)) from error


def _shown(request: Request, source: str) -> str:
    """The command with `source` as its expression; the expression alone where there is no such command."""
    line = command(replace(request, expression=source))
    return line if line and len(line) <= LONGEST_COMMAND else source


def explain_backward(error: BaseException, problem: Problem) -> JvpError | None:
    """What autograd, or the user's own backward, has raised; None where it was something else that failed."""
    from jvpcli.language.imports import failure_in, place_of

    files = problem.files
    if place_of(error, files) is not None:
        return worded(failure_in(error, files, "the backward pass"))
    if is_out_of_memory(error):
        what = "the backward pass needs more memory than there is"
        return LimitError(what, torch_message=str(error) or None, hints=LESS_MEMORY)
    if not _from_autograd(error):
        return None
    text = words_of(error).strip()
    told = lookup(text)
    first = told.title if told else text.splitlines()[0].rstrip(".") if text else type(error).__name__
    if first.startswith(("A ", "The ", "An ")):
        first = first[:1].lower() + first[1:]
    failure = worded(EvaluationError(f"the backward pass failed: {first}", torch_message=text or None))
    step = _changed_in_place(problem.evaluation) if "inplace operation" in text else None
    if step is None or not isinstance(problem.function, Program):
        return failure
    return failure.with_context(span=step.span, source=problem.function.source)


def _from_autograd(error: BaseException) -> bool:
    """Whether the innermost frames are torch's engine."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "_engine_run_backward" for frame in frames)


def _changed_in_place(evaluation: Evaluation) -> Equation | None:
    """The step that changes a tensor in place, if there is but one."""
    steps = {step.span: step for step in evaluation.tape if is_in_place(step.op)}
    return next(iter(steps.values())) if len(steps) == 1 else None


COPIES = ("tensor", "as_tensor", "asarray", "scalar_tensor", "new_tensor")
CUTS = ("detach", "detach_", "data")


def not_differentiable(evaluation: Evaluation) -> JvpError:
    """None of the outputs can be differentiated."""
    last = end_of_graph(evaluation)
    why, cure = (None, None) if last is None else _reason(last, evaluation)
    kinds = {name: y.dtype for name, y in evaluation.outputs.items()}
    integers = [f"{name} is {dtype_name(d)}" for name, d in kinds.items() if not (d.is_floating_point or d.is_complex)]
    if last is None:
        names = " or ".join(evaluation.wrt) or "what requires grad"
        why = (
            f"{'; '.join(integers)}: integers have no derivatives."
            if integers
            else f"No step gets the numbers of {names}."
            if evaluation.program is not None
            else "Autograd sees no path between them; what it is cut by can't be told of a Python function."
        )
    program = evaluation.program
    error = NotDifferentiableError(
        f"no gradient reaches {', '.join(evaluation.wrt) or 'anything'} from {', '.join(evaluation.outputs)}",
        explanation=why or "",
        hints=(cure,) if cure else (),
        torch_message="element 0 of tensors does not require grad and does not have a grad_fn",
        span=last.span if last and program else None,
        source=program.source if last and program else None,
    )
    return worded(error)


def refuse_unreached(evaluation: Evaluation, wanted: Sequence[str], said: str) -> None:
    """Refuse an input that no gradient reaches, as torch.autograd.grad does; `wanted` are the inputs in the call's
    order, and `said` is what PyTorch says of one by its place there.

    Raises:
        NotDifferentiableError: there is one.
    """
    outputs = [y for y in evaluation.outputs.values() if y.requires_grad]
    leaves = evaluation.leaves
    weights = [torch.ones_like(y) for y in outputs]
    found = torch.autograd.grad(outputs, list(leaves.values()), weights, retain_graph=True, allow_unused=True)
    unreached = [name for name, gradient in zip(leaves, found, strict=True) if gradient is None]
    if not unreached:
        return
    order = [*wanted]
    place = next((order.index(name) for name in order if name in unreached), None)
    raise worded(
        NotDifferentiableError(
            f"no gradient reaches {', '.join(unreached)} from {', '.join(evaluation.outputs)}",
            hints=(f"With allow_unused=True the call gives None for {', '.join(unreached)}.",),
            torch_message=None if place is None else said.format(place),
        )
    )


def end_of_graph(evaluation: Evaluation) -> Equation | None:
    """The first step that gets something with a gradient and gives numbers without one."""
    for step in evaluation.tape:
        value = evaluation.values.get(step.slot)
        numbers = isinstance(value, (Tensor, float, complex, list)) and not _carries(value)
        if numbers and any(_carries(x) for x in _operands(step, evaluation)):
            return step
    return None


def _carries(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _operands(step: Equation, evaluation: Evaluation) -> list[object]:
    return [*map(evaluation.values.get, step.reads())]


def _around(step: Equation, equations: Sequence[Equation], block: str | None = None) -> str | None:
    """The innermost block that a step stands in by the text and that says whether graphs are recorded."""
    for equation in equations:
        if (equation.op, equation.span) == (step.op, step.span):
            return block
        inside = equation.target if equation.kind == "with" else block
        for body in equation.bodies:
            found = _around(step, body.equations, inside)
            if found is not None:
                return found
    return None


def _reason(step: Equation, evaluation: Evaluation) -> tuple[str, str | None]:
    """Why the graph ends at a step, and what would keep it."""
    name, value, what = step.word, evaluation.values.get(step.slot), in_sentence(step)
    if name in CUTS:
        return (
            f"{what} ends the graph: what comes out counts as a constant.",
            f"Leave {what} out where the gradient should pass.",
        )
    if name in COPIES:
        cure = "torch.stack([a, b]) makes one tensor of several and keeps the graph."
        return f"{what} copies the numbers alone: the graph ends here.", cure
    if not isinstance(value, Tensor):
        return (
            f"{what} gives plain Python numbers: the graph ends here.",
            "Stay with tensors: they can be used like numbers.",
        )
    kind = dtype_name(value.dtype)
    if kind == "bool":
        why = f"{what} gives booleans, through which no gradient flows: the graph ends here."
        return why, "torch.where(condition, a, b) picks between two values, and the gradient flows through those."
    if name in ("argmax", "argmin", "argsort"):
        return f"{what} gives places ({kind}): the graph ends here.", "torch.amax, amin, sort and softmax have derivatives."
    if not can_require_grad(value):
        return f"{what} gives {kind}: integers have no derivatives, so the graph ends here.", None
    if takes_shape(step):
        return f"{what} takes the shape alone, not the numbers: the graph ends here.", None
    if not step.recorded:
        around = _around(step, evaluation.program.equations) if evaluation.program is not None else None
        under = "" if around is None else f" under {around},"  # None: the function that it stands in is called there
        return f"{what} runs{under} where PyTorch records no graph: it ends here.", (
            "Take it out of that block where the gradient should pass."
        )
    made = derivation(step)
    if made is not None and dict(made.call.keywords).get("create_graph", Const(False)) == Const(False):
        why = f"{what} was called without create_graph=True: the derivative that it gives has no graph of its own."
        return why, "torch.autograd.grad(y, x, create_graph=True) gives one that can be differentiated again."
    return f"{what} gives numbers without a gradient: the graph ends here.", None


MOST_NAMED = 6
"""Parameters that a message names."""


def parameters_in_words(names: Sequence[str]) -> str:
    """The parameters that --wrt may name: a few, and how many there are."""
    shown = ", ".join(names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"the parameters are {shown}{more}"


def nothing_to_differentiate(
    request: Request, inputs: Mapping[str, Tensor], parameters: Sequence[str] = ()
) -> JvpError:
    """None of the inputs is of floating point; `parameters` of modules, or tensors made inside, could be differentiated."""
    kinds = ", ".join(f"{name} is {dtype_name(x.dtype)}" for name, x in inputs.items())
    roots = tuple(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in parameters))
    if not kinds and not roots and (made := _with_leaves(request)) is not None:
        return worded(_no_leaf(request, made))
    cure = command(replace(request, wrt=roots)) if roots else _in_floats(request) if kinds else None
    none = "the expression uses no input" if isinstance(request.expression, str) else "the function is given no tensor"
    error = NotDifferentiableError(
        "there is nothing to differentiate: " + (kinds or none),
        explanation="A derivative needs at least one floating or complex input"
        + (f", and what is named by --wrt may be a parameter: {parameters_in_words(parameters)}." if parameters else "."),
        hints=(cure,) if cure else (),
        torch_message="only Tensors of floating point and complex dtype can require gradients" if kinds else None,
    )
    return worded(error)


def _with_leaves(request: Request) -> Request | None:
    """The request with the floating tensors that its program makes of numbers as inputs; None where there are none."""
    if not isinstance(request.expression, str):
        return None
    try:
        rest, plain = without_plain(request.expression, partial(_is_floating, request))
    except SyntaxError:
        return None
    return replace(request, expression=rest, inputs={**request.inputs, **plain}) if rest and plain else None


def _is_floating(request: Request, text: str) -> bool:
    """Whether what torch makes of numbers alone can require a gradient."""
    try:
        x = evaluate_value(parse(text), {}, seed=request.seed, memory_limit=request.memory_limit)
    except JvpError:
        return False
    return isinstance(x, Tensor) and can_require_grad(x)


def _no_leaf(request: Request, made: Request) -> JvpError:
    """No tensor of a program requires a gradient; `made` has those that it makes as inputs."""
    *first, last = [name for name in made.inputs if name not in request.inputs]
    they = f"{', '.join(first)} and {last} are" if first else f"{last} is"
    asked = any(text == "implicit" for _, text in request.grad_outputs)
    cure = command(made)
    if re.search(r"\b(?:jac\w+|vjp|jvp|hessian|hvp|vhp)\(", str(request.expression)):  # which need no leaf
        return NotDifferentiableError(
            "no derivative of the program is asked for: those that it takes in functions of its own are steps of it",
            explanation=f"What it ends with could be differentiated again: {they} no leaf in PyTorch, and as an input of the "
            "command a leaf.",
            hints=(cure,) if cure else (),
        )
    return NotDifferentiableError(
        "there is nothing to differentiate: no tensor of the program requires a gradient",
        explanation=f"PyTorch differentiates by leaves: {they} made without requires_grad=True (or {last}.requires_grad_()), "
        "and there are no parameters. An input of the command is a leaf.",
        hints=(cure,) if cure else (),
        torch_message="element 0 of tensors does not require grad and does not have a grad_fn" if asked else None,
    )


def _in_floats(request: Request) -> str | None:
    """The command with floating inputs: of numbers by their dtype, of expressions by a cast, of true and false as 1 and 0."""
    inputs = {name: _in_float(value) if isinstance(value, str) else value for name, value in request.inputs.items()}
    if any(isinstance(value, str) and value.startswith("@") and not value.endswith(".json") for value in inputs.values()):
        return "Store floating numbers in the file: array.astype('float32'), or tensor.float()"
    return command(replace(request, inputs=inputs, dtype="float32"))


def _in_float(value: str) -> str:
    if value.startswith("@"):
        return value
    return f"({value}).float()" if is_expression(value) else value.replace("true", "1").replace("false", "0")
