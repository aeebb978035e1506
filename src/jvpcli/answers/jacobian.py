"""The derivative alone: the request as a problem, and its Jacobians as linear maps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from jvpcli.answers.question import backward_failures, pose, refuse_cut
from jvpcli.jacobians.compute import derive_alone
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.terms import Workspace
from jvpcli.request import Request


def linear_maps(
    request: Request, workspace: Callable[[Hashable], Workspace] | None = None
) -> Mapping[tuple[str, str], LinearMap]:
    """(output, input) to the Jacobian as a linear map: the derivative alone.

    `workspace` gives what an earlier call for the same program at the same shapes has left to use again.
    """
    problem = pose(request)
    refuse_cut(problem)
    shapes = tuple((name, tuple(x.shape), x.dtype) for name, x in problem.evaluation.inputs.items())
    program = (request.expression, shapes, problem.evaluation.wrt)
    work = workspace(program) if workspace and _hashable(program) else None
    with backward_failures(problem):
        return derive_alone(problem, request.mode, work)


def _hashable(program: Hashable) -> bool:
    """Whether it can be looked up: a callable of one's own may refuse to be hashed."""
    try:
        hash(program)
    except TypeError:
        return False
    return True
