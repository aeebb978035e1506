"""The answer of `jvp trace`: problem → cotangents → steps and backward pass → findings → report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jvpcli.answers.question import Weight, backward_failures, pose, read_cotangents, refuse_cut, refused, text_of
from jvpcli.answers.warnings import torch_warnings
from jvpcli.errors import NotDifferentiableError, UsageError
from jvpcli.jacobians import figures
from jvpcli.problem import Problem
from jvpcli.report.trace import TraceReport
from jvpcli.request import Request
from jvpcli.tracing.findings import find
from jvpcli.tracing.replay import replay
from jvpcli.tracing.steps import Traced, compare_product, compare_swept, trace_problem, trace_steps


@dataclass(frozen=True, eq=False)
class Tracing:
    """Everything that one trace computed, as tensors; `report` is all of it as plain data."""

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
    """The answer to a request with the tensors that it was made from."""
    _refuse_functions(request)
    problem = pose(request)
    _refuse_cut(problem)
    weights = read_cotangents(request, problem.evaluation)
    with backward_failures(problem):
        traced = trace_problem(problem, {name: weight.value for name, weight in weights.items()})
    _refuse_step(step, len(traced.chain.steps))
    vjp = _gradients(traced)
    report = _report(request, traced, weights, vjp, step)
    problem.settle()
    return Tracing(traced, vjp, report)


def _refuse_functions(request: Request) -> None:
    if not isinstance(request.expression, str):
        raise UsageError(
            "trace needs an expression as text: of a Python function only the result is known, not its steps",
            hints=("write the function as an expression, or inspect it",),
        )


def _refuse_cut(problem: Problem) -> None:
    """Refuse what no gradient flows through, with the place where the graph ends.

    Raises:
        NotDifferentiableError: no output can be differentiated.
    """
    try:
        refuse_cut(problem)
    except NotDifferentiableError as error:
        for step in replay(problem.evaluation, problem.inputs, problem.seed).steps:
            if any(p.active for p in step.operands) and not any(result.primal.active for result in step.results):
                assert problem.evaluation.program is not None
                source = problem.evaluation.program.source
                raise error.with_context(span=step.equation.span, source=source) from None
        raise


def _refuse_step(step: int | None, count: int) -> None:
    if step is not None and not 0 <= step < count:
        raise UsageError(f"there is no step {step}: the steps are numbered from 0 to {count - 1}")


def _gradients(traced: Traced) -> dict[str, Tensor]:
    """∂L/∂input: torch's own, or the steps' where they are of another evaluation."""
    found = {}
    for name, gradient in traced.gradients.items():
        x = traced.chain.inputs[name]
        shown = gradient if traced.chain.faithful else traced.swept.totals.get(x.number)
        found[name] = x.tensor.new_zeros(x.tensor.shape) if shown is None else shown
    return found


def _report(
    request: Request, traced: Traced, weights: Mapping[str, Weight], vjp: Mapping[str, Tensor], step: int | None
) -> TraceReport:
    evaluation = traced.evaluation
    comparison, about_sweep = compare_swept(traced)
    product, about_product = compare_product(traced)
    return TraceReport(
        expression=text_of(request),
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in weights.items()},
        vjp={name: figures.value(gradient) for name, gradient in vjp.items()},
        steps=trace_steps(traced, step),
        output_values={name: traced.labels[primal.number] for name, primal in traced.chain.outputs.items()},
        findings=find(traced, request),
        comparison=comparison,
        product=product,
        warnings=(*about_sweep, *about_product, *torch_warnings(evaluation)),
        refusal=refused(traced.problem, weights),
        calls=request.calls,
        passed_over=request.passed_over,
    )
