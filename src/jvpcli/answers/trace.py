"""The answer of `jvp trace`: problem → cotangents → steps and backward pass → findings → report."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from jvpcli.answers.question import backward_failures, pose, refuse_cut, refuse_stored, text_of
from jvpcli.answers.warnings import not_finite, tied, torch_warnings
from jvpcli.answers.weights import Weight, read_cotangents, refused
from jvpcli.errors import NotDifferentiableError, UsageError
from jvpcli.jacobians import figures
from jvpcli.problem import Problem
from jvpcli.program import Program
from jvpcli.report.trace import TraceReport, TraceStep, inside
from jvpcli.request import Request
from jvpcli.tracing.findings import find
from jvpcli.tracing.replay import replay
from jvpcli.tracing.steps import Traced, compare_product, compare_swept, trace_problem, trace_steps

MOST_PATHS = 20
"""Modules that a refusal lists."""


@dataclass(frozen=True, eq=False)
class Tracing:
    """Everything that one trace computed, as tensors; `report` is all of it as plain data."""

    vjp: Mapping[str, Tensor]
    report: TraceReport


def trace(request: Request, *, step: int | str | None = None) -> TraceReport:
    """The chain rule of a request, step by step; the local Jacobians of step number `step` are written out.

    A `step` that is text is a module's dotted path; there must be steps of it.

    Raises:
        JvpError: whatever is wrong, as data.
    """
    return follow(request, step=step).report


def follow(request: Request, *, step: int | str | None = None) -> Tracing:
    """The answer to a request with the tensors that it was made from."""
    problem = opened_problem(request)
    _refuse_cut(problem)
    weights = read_cotangents(request, problem.evaluation)
    with backward_failures(problem):
        traced = trace_problem(problem, {name: weight.value for name, weight in weights.items()}, tell=request.tell)
    if isinstance(step, int):
        _refuse_number(step, traced)
    vjp = _gradients(traced)
    report = _report(request, traced, weights, vjp, step if isinstance(step, int) else None)
    if isinstance(step, str):
        _refuse_module(step, report.steps)
    problem.settle()
    return Tracing(vjp, report)


def opened_problem(request: Request) -> Problem:
    """The request as a problem whose steps are torch's: those of the user's own code are opened.

    Raises:
        JvpError: as `pose`.
    """
    problem = pose(request)
    refuse_stored(problem)
    if isinstance(request.expression, Problem) or not problem.is_own:
        return problem
    from jvpcli.recording.opened import as_program, opened  # loaded only where code of the user's own runs

    return opened(problem if isinstance(problem.function, Program) else as_program(problem, text_of(request)))


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


def _refuse_number(step: int, traced: Traced) -> None:
    count = len(traced.chain.steps)
    if not 0 <= step < count:
        raise UsageError(f"there is no step {step}: the steps are numbered from 0 to {count - 1}")


def _refuse_module(path: str, steps: Sequence[TraceStep]) -> None:
    if inside(steps, path):
        return
    paths = list(dict.fromkeys(step.module for step in steps if step.module))
    near = difflib.get_close_matches(path, paths, n=1)
    shown = ", ".join(paths[:MOST_PATHS]) + (f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else "")
    raise UsageError(
        f"there is no module {path!r} among the steps",
        explanation=f"The modules are {shown}." if paths else "The steps are in no module.",
        hints=(f"--step {near[0]}",) if near else (),
    )


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
    findings = find(traced, request)
    untold = {} if any(found.code in ("nan", "inf") for found in findings) else evaluation.outputs
    return TraceReport(
        expression=text_of(request),
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        grad_outputs={name: figures.cotangent(weight.source, weight.value) for name, weight in weights.items()},
        vjp={name: figures.value(gradient) for name, gradient in vjp.items()},
        steps=trace_steps(traced, step),
        output_values={name: traced.labels[primal.number] for name, primal in traced.chain.outputs.items()},
        findings=findings,
        comparison=comparison,
        product=product,
        warnings=(*about_sweep, *about_product, *not_finite(untold), *tied(traced.problem), *torch_warnings(evaluation)),
        refusal=refused(traced.problem, weights),
        calls=request.calls,
        passed_over=request.passed_over,
    )
