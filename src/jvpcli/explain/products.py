"""Two independent ways to every number: the contraction of the explicit Jacobian, and autograd's own product."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from jvpcli.derive.derivatives import Derivatives
from jvpcli.derive.linear_map import LinearMap
from jvpcli.derive.nearby import Named, Rerun, moved
from jvpcli.derive.vjp import vjp
from jvpcli.errors import InternalError, JvpError
from jvpcli.explain.weights import Weight
from jvpcli.report import Comparison

Nearby = Callable[[float], tuple[Named, Named]]
"""The leaves and outputs a relative step away."""

ILL_CONDITIONED = 64
"""Two ways may differ by this many times what one rounding of the inputs does to the gradient."""


@dataclass(frozen=True)
class Products:
    """The products of a request.

    Attributes:
        vjp: input to Σ_outputs vᵀJ.
        contributions: (output, input) to vᵀJ, or None where no gradient flows from that output to that input.
        comparison: how the two ways to the contributions compare.
        jvp: output to Σ_inputs J u, or None if no tangent was given.
    """

    vjp: Mapping[str, Tensor]
    contributions: Mapping[tuple[str, str], Tensor | None]
    comparison: Comparison
    jvp: Mapping[str, Tensor] | None


def multiply(
    derivatives: Derivatives,
    outputs: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    cotangents: Mapping[str, Weight],
    tangents: Mapping[str, Weight],
    rerun: Rerun,
) -> Products:
    """The VJPs by autograd, each compared with the explicit Jacobian's, and the JVPs.

    Raises:
        InternalError: the two ways differ by more than rounding.
    """
    contributions: dict[tuple[str, str], Tensor | None] = {}
    nearby = partial(_nearby, rerun, leaves)
    comparisons = []
    for y, weight in cotangents.items():
        gradients = vjp(outputs[y], weight.value, list(leaves.values()))
        for x, gradient in zip(leaves, gradients, strict=True):
            contributions[y, x] = gradient
            comparisons.append(_compare(y, x, derivatives.maps[y, x], weight.value, gradient, nearby))
    totals = {x: torch.zeros_like(leaf).detach() for x, leaf in leaves.items()}
    for (_, x), gradient in contributions.items():
        if gradient is not None:
            totals[x] = totals[x] + gradient
    comparison = Comparison(
        compared=sum(part.compared for part in comparisons),
        not_finite=sum(part.not_finite for part in comparisons),
        largest_difference=max(part.largest_difference for part in comparisons),
    )
    return Products(totals, contributions, comparison, _pushforwards(derivatives, outputs, tangents))


def _pushforwards(
    derivatives: Derivatives, outputs: Mapping[str, Tensor], tangents: Mapping[str, Weight]
) -> dict[str, Tensor] | None:
    if not tangents:
        return None
    pushed = {}
    for y, output in outputs.items():
        pushed[y] = torch.zeros_like(output).detach()
        for x, weight in tangents.items():
            pushed[y] = pushed[y] + derivatives.maps[y, x].pushforward(weight.value)
    return pushed


def _compare(y: str, x: str, jacobian: LinearMap, v: Tensor, gradient: Tensor | None, nearby: Nearby) -> Comparison:
    """vᵀJ from the Jacobian against autograd's gradient, where both are finite.

    Raises:
        InternalError: they differ by more than rounding.
    """
    contracted = jacobian.pullback(v)
    direct = torch.zeros_like(contracted) if gradient is None else gradient
    difference = (contracted - direct).abs()
    comparable = contracted.isfinite() & direct.isfinite()
    difference = torch.where(comparable, difference, torch.zeros_like(difference)).reshape(-1)
    largest = float(difference.max()) if difference.numel() else 0.0
    result = Comparison(int(comparable.sum()), int((~comparable).sum()), largest)
    if largest <= _rounding(jacobian, v, direct):
        return result
    if largest <= ILL_CONDITIONED * _sensitivity(y, x, v, gradient, nearby):
        return result
    place = int(difference.argmax())
    numbers = contracted.reshape(-1)[place].item(), direct.reshape(-1)[place].item()
    raise InternalError(
        f"two ways to ∂L/∂{x} from {y} differ at entry {place}: the explicit Jacobian gives {numbers[0]!r}, "
        f"torch.autograd.grad gives {numbers[1]!r}",
        explanation="Both should be the same number; please report this expression and its inputs.",
    )


def _nearby(rerun: Rerun, leaves: Named, relative: float) -> tuple[Named, Named]:
    return rerun(moved(leaves, relative, seed=3))


def _rounding(jacobian: LinearMap, v: Tensor, direct: Tensor) -> float:
    """How far apart two sums of the same terms may be: the root of the rounding times the largest |v|ᵀ|J|."""
    sizes = jacobian.absolute().pullback(v.abs().to(direct.abs().dtype))
    sizes = torch.nan_to_num(sizes, nan=0.0, posinf=0.0)
    info = torch.finfo(direct.dtype)
    largest = float(sizes.max()) if sizes.numel() else 0.0
    return math.sqrt(info.eps) * largest + info.tiny


def _sensitivity(y: str, x: str, v: Tensor, gradient: Tensor | None, nearby: Nearby) -> float:
    """How far the gradient itself moves when the inputs move by a rounding: large where it is ill-conditioned."""
    if gradient is None:
        return 0.0
    eps = torch.finfo(gradient.dtype).eps
    try:
        leaves, outputs = nearby(eps)
        moved_gradient = vjp(outputs[y], v, [leaves[x]])[0]
    except (JvpError, RuntimeError):
        return 0.0
    return 0.0 if moved_gradient is None else float((moved_gradient - gradient).abs().max())
