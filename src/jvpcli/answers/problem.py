"""The first stages, which every command begins with: Request → Program → Evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from jvpcli.errors import EvaluationError, ShapeMismatchError, UsageError
from jvpcli.language.evaluate import evaluate, evaluate_function
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.parse import parse
from jvpcli.language.tape import can_run_stacked, run_tape
from jvpcli.language.values import dtype_name, free_names, is_word, read_value
from jvpcli.program import Program
from jvpcli.request import Request

if TYPE_CHECKING:
    from jvpcli.gradcheck.vectors import Evaluate
    from jvpcli.jacobian.nearby import Rerun
    from jvpcli.jacobian.stacked import Stack
    from jvpcli.language.imports import Imports


def run(request: Request) -> Evaluation:
    """The request's expression at its inputs."""
    handles = RemovableHandle.next_id  # each hook that is registered takes the next
    evaluation = _run(request)
    return evaluation if RemovableHandle.next_id == handles else replace(evaluation, hooked=True)


def _run(request: Request) -> Evaluation:
    if not isinstance(request.expression, str):
        inputs = read_inputs(request, tuple(request.inputs))
        return evaluate_function(request.expression, inputs, wrt=differentiated(request, inputs), seed=request.seed)
    imports = imported(request)
    reads = imports.reads(request.wrt or ()) if imports else None
    program = parse(request.expression, request.inputs.keys(), reads)
    inputs = read_inputs(request, program.inputs)
    if imports:
        inputs |= {name: x for name, x in imports.parameters.items() if name in program.inputs}
    wrt = differentiated(request, inputs)
    functions = imports.functions if imports else {}
    try:
        return _evaluate(request, program, inputs, wrt, functions)
    except (EvaluationError, ShapeMismatchError) as error:
        from jvpcli.answers.failures import Trial, explain_failure  # loaded only where something has failed

        raise explain_failure(error, Trial(request, program, inputs, wrt, functions, reads)) from error


def imported(request: Request) -> Imports | None:
    """What the user's own files define; they are run here."""
    if not request.imports:
        return None
    from jvpcli.language.imports import load

    return load(request.imports)


def _evaluate(
    request: Request,
    program: Program,
    inputs: Mapping[str, Tensor],
    wrt: tuple[str, ...],
    functions: Mapping[str, Callable[..., Any]],
) -> Evaluation:
    return evaluate(program, inputs, wrt=wrt, seed=request.seed, memory_limit=request.memory_limit, functions=functions)


def read_inputs(request: Request, wanted: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of the inputs that the expression uses; a VALUE may use the inputs given before it.

    Raises:
        UsageError: an input that neither the expression nor another VALUE uses.
    """
    values: dict[str, Tensor] = {}
    for position, (name, value) in enumerate(request.inputs.items()):
        values[name] = _read_input(request, name, value, values, request.seed + position)
    _refuse_unused(request, wanted)
    return {name: values[name] for name in values if name in wanted}


def _read_input(request: Request, name: str, value: Any, scope: Mapping[str, Tensor], seed: int) -> Tensor:
    try:
        return read_value(
            value,
            name=name,
            dtype=request.dtype,
            device=request.device,
            scope=dict(scope),
            stdin=request.stdin,
            seed=seed,
            memory_limit=request.memory_limit,
        )
    except (EvaluationError, ShapeMismatchError) as error:
        from jvpcli.answers.failures import explain_value_failure

        raise explain_value_failure(error, name, scope) from error


def _refuse_unused(request: Request, wanted: tuple[str, ...]) -> None:
    unused = [name for name in request.inputs if name not in wanted]
    if not unused:
        return
    weights = [value for _, value in (*request.grad_outputs, *request.tangent) if not is_word(value)]
    texts = [value for value in (*weights, *request.inputs.values()) if isinstance(value, str)]
    helping = {name for text in texts for name in free_names(text)}
    for name in unused:
        if name not in helping:
            uses = ", ".join(wanted) or "no inputs"
            raise UsageError(f"the expression does not use an input {name!r}; it uses {uses}")


def differentiated(request: Request, inputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the inputs to differentiate: those asked for, else all that are floating or complex.

    Raises:
        UsageError: a name that is no input, or an input that is neither floating nor complex.
        NotDifferentiableError: nothing to differentiate.
    """
    for name in request.wrt or ():
        if name not in inputs:
            raise UsageError(
                f"--wrt names {name!r}, which is not an input; the inputs are {', '.join(inputs) or 'none'}"
            )
        if not _can_carry_gradient(inputs[name]):
            raise UsageError(
                f"--wrt names {name!r}, which is {dtype_name(inputs[name].dtype)}; "
                "only floating and complex tensors have derivatives"
            )
    chosen = request.wrt or tuple(name for name, x in inputs.items() if _can_carry_gradient(x))
    if not chosen:
        from jvpcli.answers.failures import nothing_to_differentiate

        raise nothing_to_differentiate(request, inputs)
    return tuple(name for name in inputs if name in chosen)


def _can_carry_gradient(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def differentiable_outputs(evaluation: Evaluation) -> dict[str, Tensor]:
    """The outputs that a gradient can flow from.

    Raises:
        NotDifferentiableError: there are none.
    """
    found = {name: y for name, y in evaluation.outputs.items() if y.requires_grad and _can_carry_gradient(y)}
    if not found:
        from jvpcli.answers.failures import not_differentiable  # loaded only where something has failed

        raise not_differentiable(evaluation)
    return found


def stacked(evaluation: Evaluation) -> Stack | None:
    """Runs the same steps at many values of the differentiated inputs at once; None where only one by one will do."""
    if not can_run_stacked(evaluation):
        return None
    names = tuple(evaluation.wrt)

    def run_once(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_tape(evaluation, dict(zip(names, values, strict=True))).values())

    def run_all(points: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        found = torch.vmap(run_once)(*(points[name] for name in names))
        return dict(zip(evaluation.output_slots, found, strict=True))

    return run_all


def evaluator(request: Request, evaluation: Evaluation) -> Evaluate:
    """Evaluates the same program at other values of the differentiated inputs, with the same random numbers."""
    plain = {name: x.detach() for name, x in evaluation.inputs.items()}

    def evaluate_at(points: Mapping[str, Tensor]) -> Evaluation:
        inputs = {**plain, **points}
        if evaluation.program is None:
            assert callable(request.expression)
            return evaluate_function(request.expression, inputs, wrt=evaluation.wrt, seed=request.seed)
        return _evaluate(request, evaluation.program, inputs, evaluation.wrt, evaluation.functions)

    return evaluate_at


def rerunner(request: Request, evaluation: Evaluation) -> Rerun:
    """The same, as the new leaves and the outputs."""
    evaluate_at = evaluator(request, evaluation)

    def rerun(points: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        again = evaluate_at(points)
        return {name: again.inputs[name] for name in evaluation.wrt}, again.outputs

    return rerun


def text_of(request: Request) -> str:
    """The expression as text; a function's name."""
    if isinstance(request.expression, str):
        return request.expression
    return getattr(request.expression, "__name__", repr(request.expression))
