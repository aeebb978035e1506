"""The gradient of a problem, as a problem of its own: its Jacobian is the Hessian, found like any other Jacobian.

slope = gradient_of(problem, {"y": v})     # of L = ⟨v, y⟩
plan(slope).derive().maps                  # ∂²L/∂x∂w, under (gradient_name("x"), "w")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.nearby import largest
from jvpcli.jacobians.passes import paired
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.outputs import ordinary
from jvpcli.problem import Named, Problem
from jvpcli.report.hessian import gradient_name


def gradient_of(problem: Problem, cotangents: Named) -> Problem:
    """The problem whose outputs are ∂L/∂input for every differentiated input of another, with a graph of their own.

    Args:
        problem: with differentiable outputs.
        cotangents: output name to v, of that output's shape: L = Σ ⟨v, y⟩.
    """
    given = {each.name: getattr(problem, each.name) for each in fields(Problem)}
    return _Gradient(**given, of=problem, cotangents=cotangents)


@dataclass(frozen=True, eq=False)
class _Gradient(Problem):
    """The gradient of L = Σ ⟨v, y⟩.

    Attributes:
        of: the problem that gives the outputs y.
        cotangents: output name to v.
    """

    of: Problem = field(kw_only=True)
    cotangents: Named = field(kw_only=True)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation of the other problem, carried on: nothing is evaluated twice."""
        return self._carried_on(self.of.evaluation)

    def at(self, points: Named | None = None, seed: int | None = None) -> Evaluation:
        return self._carried_on(self.of.at(points, seed))

    def run(self, tensors: Named) -> dict[str, Tensor]:
        return self._gradients(self.of.run(tensors), {name: tensors[name] for name in self.wrt})

    def size(self, output: str) -> float:
        """A gradient may be what is left of terms as large as those of L."""
        return max(super().size(output), sum(self.of.size(name) * largest(v) for name, v in self.cotangents.items()))

    def retry(self, expression: str) -> Problem:
        return gradient_of(self.of.retry(expression), self.cotangents)

    def in_double(self) -> Problem:
        return gradient_of(self.of.in_double(), self.cotangents)

    @cached_property
    def can_stack(self) -> bool:
        return self.of.can_stack

    def stack(self, points: Named) -> dict[str, Tensor]:
        """The gradients at many points at once: no point's outputs depend on another, so that one backward pass gives all."""
        count = len(next(iter(points.values())))
        return self._gradients(self.of.stack(points), {name: points[name] for name in self.wrt}, (count,))

    def _carried_on(self, evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, outputs=self._gradients(evaluation.outputs, evaluation.leaves), known=None)

    def _gradients(self, outputs: Named, leaves: Named, copies: Sequence[int] = ()) -> dict[str, Tensor]:
        """∂L/∂leaf for each leaf, `copies` being the axes before those of every tensor; zeros where it is not reached."""
        reached = [name for name in self.cotangents if outputs[name].requires_grad]
        weights = [self.cotangents[name].expand((*copies, *self.cotangents[name].shape)) for name in reached]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if reached:
            loss = paired([outputs[name] for name in reached], weights)
            found = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
        return {
            gradient_name(name): torch.zeros_like(x).detach() if gradient is None else ordinary(gradient)
            for (name, x), gradient in zip(leaves.items(), found, strict=True)
        }
