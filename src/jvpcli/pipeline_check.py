"""The order of the stages of a check: Request → Program → Evaluations → differences and products → Report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from jvpcli.derive.check import Evaluator, Outcome, Subject
from jvpcli.derive.check import check as check_derivatives
from jvpcli.derive.hermitian import projected
from jvpcli.derive.vectors import Named
from jvpcli.errors import JvpError
from jvpcli.explain.backward import backward_failures
from jvpcli.explain.verdict import report_of
from jvpcli.explain.weights import read_cotangents, read_tangents
from jvpcli.language.evaluate import evaluate, evaluate_function
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.imports import DOUBLE, files_of, in_double
from jvpcli.pipeline_evaluate import run, text_of
from jvpcli.program import Program
from jvpcli.report import CheckReport
from jvpcli.request import Request


def check(request: Request) -> CheckReport:
    """Whether the gradients of a request are right.

    Raises:
        JvpError: the expression is refused, or fails; a gradient that is found wrong is an answer and no error.
    """
    return report_of(examine(request), text_of(request))


def examine(request: Request) -> Outcome:
    """The same with the tensors that it was made from."""
    evaluation = run(request)
    with backward_failures(evaluation, request.expression):
        return check_derivatives(_subject(request, evaluation))


def _subject(request: Request, evaluation: Evaluation) -> Subject:
    double, not_hermitian = _in_double(request, evaluation)
    return Subject(
        given=_given(request, evaluation),
        double=double,
        not_hermitian=not_hermitian,
        seed=request.seed,
        seed_given=request.seed_given,
        files=files_of(evaluation.functions, request.expression),
        expression=request.expression if callable(request.expression) else None,
        cotangent=_weights(read_cotangents(request, evaluation)) if request.grad_outputs else {},
        tangent=_weights(read_tangents(request, evaluation)),
    )


def _weights(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: weight.value for name, weight in weights.items()}


def _given(request: Request, evaluation: Evaluation) -> Evaluator:
    """The request's expression at the dtypes given."""
    plain = {name: x.detach() for name, x in evaluation.inputs.items()}
    return lambda points, seed: _evaluated(request, evaluation.program, {**plain, **points}, evaluation, seed)


def _in_double(request: Request, evaluation: Evaluation) -> tuple[Evaluator, bool]:
    """The same with every floating input, and every constant that the text makes, in double precision.

    Matrices that a function reads as Hermitian or triangular are projected first, where they are that: their gradient is
    the one for changes that keep them so.  The second value says whether one of them is not.
    """
    plain = {name: _doubled(x.detach()) for name, x in evaluation.inputs.items()}
    functions = in_double(evaluation.functions)

    def run_at(program: Program | None) -> Evaluator:
        def evaluator(points: Named, seed: int) -> Evaluation:
            with _default_dtype(torch.float64):
                return _evaluated(request, program, {**plain, **points}, evaluation, seed, functions)

        return evaluator

    alone = run_at(evaluation.program)
    other = None if evaluation.program is None else projected(evaluation.program)
    if other is None:
        return alone, False
    return (run_at(other), False) if _agree(alone, run_at(other), request.seed) else (alone, True)


def _agree(one: Evaluator, other: Evaluator, seed: int) -> bool:
    try:
        pairs = zip(one({}, seed).outputs.values(), other({}, seed).outputs.values(), strict=True)
        return all(torch.allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=True) for a, b in pairs)
    except (JvpError, RuntimeError):
        return False


def _evaluated(
    request: Request,
    program: Program | None,
    inputs: Mapping[str, Tensor],
    evaluation: Evaluation,
    seed: int,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Evaluation:
    if program is None:
        assert callable(request.expression)
        return evaluate_function(request.expression, inputs, wrt=evaluation.wrt, seed=seed)
    functions = evaluation.functions if functions is None else functions
    limit = request.memory_limit
    return evaluate(program, inputs, wrt=evaluation.wrt, seed=seed, memory_limit=limit, functions=functions)


def _doubled(x: Tensor) -> Tensor:
    return x.to(DOUBLE.get(x.dtype, x.dtype))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Inside, torch makes new tensors of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
