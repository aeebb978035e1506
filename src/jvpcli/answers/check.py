"""The order of the stages of a check: Request → Program → Evaluations → differences and products → Report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from jvpcli.answers.cotangents import read_cotangents, read_tangents
from jvpcli.answers.failures import backward_failures
from jvpcli.answers.problem import run, text_of
from jvpcli.errors import JvpError
from jvpcli.gradcheck.check import Evaluator, Outcome, Subject
from jvpcli.gradcheck.check import check as check_derivatives
from jvpcli.gradcheck.hermitian import projected
from jvpcli.gradcheck.vectors import Named
from jvpcli.gradcheck.verdict import report_of
from jvpcli.language.evaluate import evaluate, evaluate_function
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.imports import DOUBLE, files_of, in_double
from jvpcli.program import Program
from jvpcli.report.check import CheckReport
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
    program, not_hermitian = _program(request, evaluation)
    return Subject(
        given=_given(request, program, evaluation),
        double=_in_double(request, program, evaluation),
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


def _program(request: Request, evaluation: Evaluation) -> tuple[Program | None, bool]:
    """The program that is checked.

    Matrices that a function reads as Hermitian or triangular are projected first, where they are that: their gradient is
    the one for changes that keep them so.  The second value says whether one of them is not.
    """
    program = evaluation.program
    other = None if program is None else projected(program)
    if other is None:
        return program, False
    one, same = (_in_double(request, tried, evaluation) for tried in (program, other))
    return (other, False) if _agree(one, same, request.seed) else (program, True)


def _given(request: Request, program: Program | None, evaluation: Evaluation) -> Evaluator:
    """The request's expression at the dtypes given."""
    plain = {name: x.detach() for name, x in evaluation.inputs.items()}
    return lambda points, seed: _evaluated(request, program, {**plain, **points}, evaluation, seed)


def _in_double(request: Request, program: Program | None, evaluation: Evaluation) -> Evaluator:
    """The same with every floating input, and every constant that the text makes, in double precision."""
    plain = {name: _doubled(x.detach()) for name, x in evaluation.inputs.items()}
    functions = in_double(evaluation.functions)

    def evaluator(points: Named, seed: int) -> Evaluation:
        with _default_dtype(torch.float64):
            return _evaluated(request, program, {**plain, **points}, evaluation, seed, functions)

    return evaluator


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
    """A copy in double precision with memory of its own, as the points around it have."""
    return x.to(DOUBLE.get(x.dtype, x.dtype)).clone(memory_format=torch.contiguous_format)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Inside, torch makes new tensors of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
