"""The stages of the derivative alone: Request → Program → Evaluation → linear maps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from jvpcli.answers.problem import differentiable_outputs, rerunner, run
from jvpcli.jacobian.compute import derive_alone
from jvpcli.jacobian.linear_map import LinearMap
from jvpcli.jacobian.nearby import Named
from jvpcli.jacobian.terms import Workspace
from jvpcli.request import Request


def linear_maps(
    request: Request, workspace: Callable[[Hashable], Workspace] | None = None
) -> Mapping[tuple[str, str], LinearMap]:
    """(output, input) to the Jacobian as a linear map: the derivative alone.

    `workspace` gives what an earlier call for the same program at the same shapes has left to use again.
    """
    evaluation = run(request)
    leaves = {name: evaluation.inputs[name] for name in evaluation.wrt}
    outputs = differentiable_outputs(evaluation)
    shapes = tuple((name, tuple(x.shape), x.dtype) for name, x in evaluation.inputs.items())
    program = (request.expression, shapes, evaluation.wrt)
    work = workspace(program) if workspace and _hashable(program) else None

    def rerun(points: Named) -> tuple[Named, Named]:
        return rerunner(request, evaluation)(points)

    return derive_alone(outputs, leaves, rerun, request.mode, request.memory_limit, work, evaluation.hooked)


def _hashable(program: Hashable) -> bool:
    """Whether it can be looked up: a callable of one's own may refuse to be hashed."""
    try:
        hash(program)
    except TypeError:
        return False
    return True
