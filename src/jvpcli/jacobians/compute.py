"""The one door to Jacobians: a plan for the derivatives of one evaluation, which is made once, told, and carried out.

    planned = plan(problem, mode)
    planned.outputs          # what would be done for each output; nothing is computed
    planned.derive()         # the Jacobians as linear maps, and what was done in the end

A small problem is answered pass by pass.  Its structure is told by the values at the point and at a random one where the
operations are smooth, since those show the pattern then; where they are not, and for larger problems, by the operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from jvpcli.jacobians.small import Derivatives, Maps, SmallPlan
from jvpcli.problem import Problem
from jvpcli.report import OutputPlan
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.jacobians.engine import Repeat
    from jvpcli.jacobians.terms import Workspace
    from jvpcli.language.course import Course

SMALL = 4096
"""Up to so many entries of all Jacobians together a problem is small: loading anything would cost more."""


class Planned(Protocol):
    """How the derivatives of a problem are computed."""

    @property
    def outputs(self) -> Mapping[str, OutputPlan]:
        """What is planned for each output."""

    def derive(self, tell: Tell | None = None) -> Derivatives:
        """Every ∂output/∂input as a linear map, and what was found on the way; `tell` is told how far it is."""

    def maps(self) -> Maps:
        """The linear maps alone."""

    def repeat(self, course: Course | None) -> Repeat | None:
        """What answers the question at other points, where its evaluation took that course; None: it is asked anew there."""


def _is_common(tensor: Tensor) -> bool:
    """Whether its numbers are real, and of a precision that torch computes in together with others: not in 8 bits."""
    return not tensor.is_complex() and tensor.element_size() > 1


def plan(problem: Problem, mode: str = "auto", wanted: str = "all", work: Workspace | None = None) -> Planned:
    """How every ∂output/∂input is computed.

    Args:
        problem: with differentiable outputs; its memory limit is what computing may take over what the evaluation holds.
        mode: "auto", "forward" or "reverse".
        wanted: "all": the maps and a look around the point; "maps": those alone; "products": no Jacobian, only products
            with it, by passes.
        work: the index arrays of an earlier call for the same program at the same shapes.
    """
    if wanted == "products":
        from jvpcli.jacobians.matrix_free import ProductsPlan

        return ProductsPlan(problem)
    outputs, inputs = problem.differentiable, problem.leaves
    entries = sum(map(Tensor.numel, outputs.values())) * sum(map(Tensor.numel, inputs.values()))
    forward = mode == "forward" and (entries <= SMALL or problem.is_own)  # the mode itself, as one's own code has it
    if (wanted == "all" and entries <= SMALL) or forward or not all(map(_is_common, (*outputs.values(), *inputs.values()))):
        return SmallPlan(problem, mode, outputs)
    from jvpcli.jacobians.engine import LargePlan  # a small problem does without

    return LargePlan(problem, mode, work)
