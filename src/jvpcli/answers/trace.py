"""The order of the stages of a trace: Request → Program → Evaluation → steps → backward pass → Report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jvpcli.answers.cotangents import Weight, read_cotangents
from jvpcli.answers.failures import backward_failures
from jvpcli.answers.problem import differentiable_outputs, read_inputs, run
from jvpcli.answers.warnings import torch_warnings
from jvpcli.errors import JvpError, NotDifferentiableError, UsageError
from jvpcli.jacobian import figures
from jvpcli.language.evaluate import changes_inputs, evaluate
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.parse import parse
from jvpcli.program import IMPORTED
from jvpcli.report.trace import TraceReport
from jvpcli.request import Request
from jvpcli.tracing.chain import gradients_of, local_maps, sweep
from jvpcli.tracing.findings import find
from jvpcli.tracing.replay import replay
from jvpcli.tracing.steps import Traced, compare_product, compare_swept, name_values, trace_steps


@dataclass(frozen=True, eq=False)
class Tracing:
    """Everything that one trace computed, as tensors; `report` is the same as plain data."""

    traced: Traced
    vjp: Mapping[str, Tensor]
    report: TraceReport


def trace(request: Request, *, step: int | None = None) -> TraceReport:
    """The chain rule of a request, step by step; the local Jacobians of step number `step` are written out.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return follow(request, step=step).report


def follow(request: Request, *, step: int | None = None) -> Tracing:
    """The same with the tensors that it was made from."""
    if not isinstance(request.expression, str):
        raise UsageError(
            "trace needs an expression as text: of a Python function only the result is known, not its steps",
            hints=("write the function as an expression, or inspect it",),
        )
    evaluation = run(request)
    given = _given(request, evaluation)
    _refuse_cut(request, evaluation, given)
    weights = read_cotangents(request, evaluation)
    cotangents = {name: weight.value for name, weight in weights.items()}
    with backward_failures(evaluation):
        traced = _traced(evaluation, given, cotangents, request.seed)
    if step is not None and not 0 <= step < len(traced.chain.steps):
        raise UsageError(f"there is no step {step}: the steps are numbered from 0 to {len(traced.chain.steps) - 1}")
    return _told(request, traced, weights, step)


def _refuse_cut(request: Request, evaluation: Evaluation, given: Mapping[str, Tensor]) -> None:
    """Refuse what no gradient flows through, with the place where the graph ends.

    Raises:
        NotDifferentiableError: no output can be differentiated.
    """
    try:
        differentiable_outputs(evaluation)
    except NotDifferentiableError as error:
        for step in replay(evaluation, given, request.seed).steps:
            if any(p.active for p in step.operands) and not any(result.primal.active for result in step.results):
                raise error.with_context(span=step.equation.span, source=request.expression) from None
        raise


def _given(request: Request, evaluation: Evaluation) -> Mapping[str, Tensor]:
    """The inputs' values as they were before in-place steps."""
    if evaluation.program is None or not changes_inputs(evaluation.program):
        return evaluation.inputs
    read = read_inputs(request, evaluation.program.inputs)
    return {name: read.get(name, x) for name, x in evaluation.inputs.items()}  # parameters of modules are not read


def _traced(
    evaluation: Evaluation,
    inputs: Mapping[str, Tensor],
    cotangents: Mapping[str, Tensor],
    seed: int,
    *,
    with_maps: bool = True,
) -> Traced:
    gradients = whole_gradients(evaluation, cotangents)
    chain = replay(evaluation, inputs, seed)
    labels, names = name_values(evaluation, chain)
    maps = [local_maps(step) if with_maps else () for step in chain.steps]
    return Traced(evaluation, chain, sweep(chain, cotangents), maps, cotangents, gradients, labels, names)


def whole_gradients(evaluation: Evaluation, cotangents: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """∂L/∂input by torch alone, for L = Σ ⟨v, y⟩; None where the input is not reached."""
    pairs = [(evaluation.outputs[name], v) for name, v in cotangents.items()]
    found = gradients_of(pairs, [evaluation.inputs[name] for name in evaluation.wrt])
    return dict(zip(evaluation.wrt, found, strict=True))


def _told(request: Request, traced: Traced, weights: Mapping[str, Weight], step: int | None) -> Tracing:
    """The report, and the gradients that it shows: torch's own, or the steps' where they are of another evaluation."""
    evaluation, chain = traced.evaluation, traced.chain
    comparison, about_sweep = compare_swept(traced)
    product, about_product = compare_product(traced)
    shown = {}
    for name, gradient in traced.gradients.items():
        x = chain.inputs[name]
        found = gradient if chain.faithful else traced.swept.totals.get(x.number)
        shown[name] = x.tensor.new_zeros(x.tensor.shape) if found is None else found
    report = TraceReport(
        expression=request.expression if isinstance(request.expression, str) else "",
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in weights.items()},
        vjp={name: figures.value(gradient) for name, gradient in shown.items()},
        steps=trace_steps(traced, step),
        output_values={name: traced.labels[primal.number] for name, primal in chain.outputs.items()},
        findings=find(traced, request, lambda expression: _retraced(request, expression, traced)),
        comparison=comparison,
        product=product,
        warnings=(*about_sweep, *about_product, *torch_warnings(evaluation)),
    )
    return Tracing(traced, shown, report)


def _retraced(request: Request, expression: str, traced: Traced) -> Traced | None:
    """Another expression at the same inputs, with the same cotangents, without local Jacobians; None if that fails."""
    inputs = {name: primal.tensor for name, primal in traced.chain.inputs.items()}
    try:
        program = parse(expression, inputs.keys(), _signatures(traced.evaluation))
        functions = traced.evaluation.functions
        evaluation = evaluate(program, inputs, wrt=traced.evaluation.wrt, seed=request.seed, functions=functions)
        if any(evaluation.outputs[name].shape != v.shape for name, v in traced.cotangents.items()):
            return None
        return _traced(evaluation, inputs, traced.cotangents, request.seed, with_maps=False)
    except (JvpError, KeyError, RuntimeError):
        return None


def _signatures(evaluation: Evaluation) -> dict[str, list[str]]:
    """The imported functions, each with the inputs that a call takes without the text's giving them."""
    taken: dict[str, list[str]] = {name: [] for name in evaluation.functions}
    for equation in evaluation.tape:
        name = equation.target.removeprefix(IMPORTED)
        if name in taken:
            taken[name] = [keyword for keyword, _ in equation.keywords if "." in keyword]
    return taken
