"""The answer of `jvp check`: problem → cotangents → differences and products compared → report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from jvpcli.answers.question import backward_failures, pose, text_of
from jvpcli.answers.weights import Weight, read_cotangents, read_tangents
from jvpcli.gradcheck.check import KINK, Outcome
from jvpcli.gradcheck.check import check as check_derivatives
from jvpcli.gradcheck.vectors import Tolerance
from jvpcli.gradcheck.verdict import report_of
from jvpcli.report.check import CheckReport
from jvpcli.request import Request


def check(request: Request) -> CheckReport:
    """Whether the gradients of a request are right.

    Raises:
        JvpError: the expression is refused, or fails; a gradient that is found wrong is an answer and no error.
    """
    outcome = examine(request)
    found = report_of(outcome, text_of(request))
    if outcome.function is not None and (outcome.function.problem.tied or outcome.verdict == KINK):
        from jvpcli.answers.warnings import repeated, tied  # seldom needed

        problem = outcome.function.problem
        found = replace(found, warnings=(*tied(problem), *repeated(problem), *found.warnings))
    return replace(found, calls=request.calls, passed_over=request.passed_over)


def examine(request: Request) -> Outcome:
    """What a check of the gradients of a request finds, as tensors."""
    request = request.checked()
    problem = pose(request)
    with backward_failures(problem):
        cotangents = read_cotangents(request, problem.evaluation) if request.grad_outputs else {}
        cotangents = {name: weight for name, weight in cotangents.items() if weight.implicit is None}  # of none given
        tangents = read_tangents(request, problem.evaluation)
        found = check_derivatives(
            problem,
            _tensors(cotangents),
            _tensors(tangents),
            seed_given=request.seed_given,
            tolerance=Tolerance(request.atol, request.rtol, request.nondet_tol),
            mode=request.mode,
            undefined=request.undefined,
            batched=request.batched,
            tell=request.tell,
        )
    problem.settle()
    return found


def _tensors(weights: Mapping[str, Weight]) -> dict[str, Tensor]:
    return {name: weight.value for name, weight in weights.items()}
