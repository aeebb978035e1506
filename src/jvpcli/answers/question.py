"""A request as a problem: its inputs read, what to differentiate chosen, and what goes wrong explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from jvpcli.answers.values import read_inputs
from jvpcli.errors import EvaluationError, JvpError, ShapeMismatchError, UsageError
from jvpcli.language.parse import parse
from jvpcli.language.values import dtype_name
from jvpcli.problem import Problem
from jvpcli.request import Request


def pose(request: Request) -> Problem:
    """The request as a problem that has been evaluated.

    Raises:
        JvpError: the expression or an input is refused, or fails; with what can be said of why, and repairs that work.
    """
    problem = _read(request)
    try:
        _ = problem.evaluation
    except (EvaluationError, ShapeMismatchError) as error:
        from jvpcli.answers.failures import explain_failure  # loaded only where something has failed

        raise explain_failure(error, request, problem) from error
    return problem


def _read(request: Request) -> Problem:
    handles = RemovableHandle.next_id
    seed, limit = request.seed, request.memory_limit
    if not isinstance(request.expression, str):
        inputs = read_inputs(request, tuple(request.inputs))
        return Problem(request.expression, inputs, _wrt(request, inputs), seed, limit, handles=handles)
    if not request.imports:
        program = parse(request.expression, request.inputs.keys())
        inputs = read_inputs(request, program.inputs)
        return Problem(program, inputs, _wrt(request, inputs), seed, limit, handles=handles)
    from jvpcli.language.imports import load

    imports = load(request.imports)
    reads = imports.reads(request.wrt or ())
    program = parse(request.expression, request.inputs.keys(), reads)
    inputs = read_inputs(request, program.inputs)
    inputs |= {name: x for name, x in imports.parameters.items() if name in program.inputs}
    return Problem(program, inputs, _wrt(request, inputs), seed, limit, imports.functions, reads, handles=handles)


def _wrt(request: Request, inputs: Mapping[str, Tensor]) -> tuple[str, ...]:
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
        from jvpcli.answers.failures import nothing_to_differentiate  # loaded only where something has failed

        raise nothing_to_differentiate(request, inputs)
    return tuple(name for name in inputs if name in chosen)


def _can_carry_gradient(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def refuse_cut(problem: Problem) -> None:
    """Refuse a problem none of whose outputs a gradient can flow from.

    Raises:
        NotDifferentiableError: that is so, with the step at which the graph ends.
    """
    if not problem.differentiable:
        from jvpcli.answers.failures import not_differentiable  # loaded only where something has failed

        raise not_differentiable(problem.evaluation)


@contextmanager
def backward_failures(problem: Problem) -> Iterator[None]:
    """What autograd, or the user's own backward, raises inside comes out as an EvaluationError.

    Raises:
        EvaluationError: the backward pass failed.
        Exception: whatever else was raised.
    """
    try:
        yield
    except (JvpError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        from jvpcli.answers.failures import explain_backward  # loaded only where something has failed

        explained = explain_backward(error, problem)
        if explained is None:
            raise
        raise explained from error


def text_of(request: Request) -> str:
    """The expression as text; a function's name."""
    if isinstance(request.expression, str):
        return request.expression
    name: Any = getattr(request.expression, "__name__", repr(request.expression))
    return str(name)
