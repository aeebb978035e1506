"""Vector-Jacobian and Jacobian-vector products by autograd alone, without a Jacobian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def vjp(output: Tensor, cotangent: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """∂L/∂input for L = ⟨v, y⟩: what `torch.autograd.grad(output, inputs, cotangent)` gives; None: not reached.

    The gradient is taken of the scalar L itself: the same derivative, the definition of grad_outputs, and it spares
    the shape check that loads a symbolic algebra system.
    """
    return list(torch.autograd.grad(_pairing(output, cotangent), inputs, retain_graph=True, allow_unused=True))


def jvp(output: Tensor, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
    """J u for one output, Σ over the inputs: the transposed backward pass (see `derive.dense`).

    Raises:
        RuntimeError: an operation of the graph cannot be differentiated twice.
    """
    weights = torch.zeros_like(output, requires_grad=True)
    gradients = torch.autograd.grad(_pairing(output, weights), inputs, create_graph=True, allow_unused=True)
    reached = [(g, u) for g, u in zip(gradients, tangents, strict=True) if g is not None]
    if not reached:
        return torch.zeros_like(output)
    if not any(g.requires_grad for g, _ in reached):
        raise RuntimeError("an operation's backward cannot be differentiated")
    pairing = sum((_pairing(g, u) for g, u in reached), torch.zeros(()))
    (tangent,) = torch.autograd.grad(pairing, [weights], retain_graph=True, allow_unused=True)
    return torch.zeros_like(output) if tangent is None else tangent


def _pairing(y: Tensor, v: Tensor) -> Tensor:
    """⟨v, y⟩ = Re Σ conj(v)·y, whose gradient to y is v in PyTorch's convention, complex or not."""
    return (y * v.conj()).real.sum() if y.is_complex() else (y * v).sum()
