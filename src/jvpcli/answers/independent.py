"""Outputs that no gradient reaches an input from: their Jacobians are zero, or are refused."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from jvpcli.errors import NotDifferentiableError
from jvpcli.jacobians.linear_map import ComplexMap, LinearMap
from jvpcli.jacobians.passes import vjp
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad
from jvpcli.problem import Problem


def with_zeros(evaluation: Evaluation, maps: Mapping[tuple[str, str], LinearMap]) -> Mapping[tuple[str, str], LinearMap]:
    """The maps, and a zero map to each input for the floating and complex outputs that have none; in the outputs' order."""
    if len(maps) == len(evaluation.outputs) * len(evaluation.wrt):
        return maps
    pairs = {(y, x): (a, b) for y, a in evaluation.outputs.items() for x, b in evaluation.leaves.items()}
    differentiable = {key for key, (a, _) in pairs.items() if can_require_grad(a)}
    if differentiable <= maps.keys():
        return maps
    from jvpcli.jacobians.structured import StructuredMap  # seldom needed
    from jvpcli.jacobians.terms import Workspace

    found: dict[tuple[str, str], LinearMap] = {}
    for key, (y, x) in pairs.items():
        if key in maps:
            found[key] = maps[key]
        elif key in differentiable and (y.is_complex() or x.is_complex()):
            rows = x.detach().new_zeros((y.numel(), x.numel()))
            found[key] = ComplexMap(tuple(y.shape), tuple(x.shape), rows, rows if y.is_complex() else None, "zero", "operations")
        elif key in differentiable:
            like = torch.zeros((), dtype=torch.promote_types(y.dtype, x.dtype), device=x.device)
            found[key] = StructuredMap(tuple(y.shape), tuple(x.shape), (), like, Workspace())
    return found


def refuse_independent(problem: Problem) -> None:
    """Refuse outputs from which autograd reaches no input, or not every one (`strict`).

    Raises:
        NotDifferentiableError: there is one.
    """
    for y, output in problem.evaluation.outputs.items():
        if y not in problem.differentiable:
            raise _independent(y, ", ".join(problem.leaves))
        gradients = vjp(output, torch.ones_like(output).detach(), list(problem.leaves.values()))
        for x, gradient in zip(problem.leaves, gradients, strict=True):
            if gradient is None:
                raise _independent(y, x)


def _independent(y: str, x: str) -> NotDifferentiableError:
    return NotDifferentiableError(
        f"Autograd sees no path from the output {y} to {x}, and strict=True refuses what is independent.",
        hints=("Without strict=True the derivative is zero.",),
    )
