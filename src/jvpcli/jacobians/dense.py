"""The explicit Jacobian by plain autograd, one pass a row (reverse) or a column (forward).

`torch.autograd.grad` of a scalar is all that is used: it loads nothing beyond torch itself.  A forward pass is the
transpose of a reverse one: g(w) = wᵀJ is linear in w, so the gradient of ⟨g, u⟩ to w is J u ("double backward",
j-towns, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.language.evaluation import plain


def reverse_jacobian(output: Tensor, inputs: Sequence[Tensor]) -> list[LinearMap]:
    """∂output/∂input for each input, one backward pass for each entry of the output.

    Args:
        output: a tensor with a graph; m = output.numel().
        inputs: leaves that require grad; n_k = inputs[k].numel().

    Returns:
        one map an input, held as a matrix (m, n_k).  For a complex output a row is pulled back from 1 and from 1j
        (PyTorch's gradient convention is not complex-linear).
    """
    if not output.is_complex():
        return [_map(rows, None, output, x) for rows, x in zip(_rows(output, inputs), inputs, strict=True)]
    parts = torch.view_as_real(output.resolve_conj())
    real, imaginary = _rows(parts[..., 0], inputs), _rows(parts[..., 1], inputs)
    return [_map(re, im, output, x) for re, im, x in zip(real, imaginary, inputs, strict=True)]


def forward_jacobian(output: Tensor, inputs: Sequence[Tensor]) -> list[LinearMap]:
    """The same by one transposed pass for each entry of the inputs; real tensors only.

    The gradient for weights of one is the sum of each column; columns that do not add up to it have lost a term.

    Raises:
        RuntimeError: an operation of the graph cannot be differentiated twice.
    """
    weights = torch.ones_like(output, requires_grad=True)
    gradients = torch.autograd.grad((output * weights).sum(), inputs, create_graph=True, allow_unused=True)
    matrices = [_columns(gradient, weights, x) for gradient, x in zip(gradients, inputs, strict=True)]
    for gradient, matrix in zip(gradients, matrices, strict=True):
        if gradient is not None and not _adds_up(matrix, gradient.detach().reshape(-1)):
            raise RuntimeError("an operation's backward cannot be differentiated")
    return [_map(matrix, None, output, x) for matrix, x in zip(matrices, inputs, strict=True)]


def _adds_up(matrix: Tensor, sums: Tensor) -> bool:
    """Whether the columns' sums are these, but for roundings; where they are not finite nothing is said."""
    difference = torch.nan_to_num((matrix.sum(0) - sums).abs(), nan=0.0, posinf=0.0)
    sizes = torch.nan_to_num(matrix.abs().sum(0) + sums.abs(), nan=0.0, posinf=0.0)
    eps = torch.finfo(matrix.dtype).eps
    return not sums.numel() or float(difference.max()) <= eps**0.5 * float(sizes.max())


def _rows(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    matrices = [x.new_zeros((output.numel(), x.numel())) for x in inputs]
    flat = output.reshape(-1)
    for row in range(output.numel()):
        for matrix, gradient in zip(matrices, _grad(flat[row], inputs), strict=True):
            if gradient is not None:
                matrix[row] = gradient.reshape(-1)
    return matrices


def _columns(gradient: Tensor | None, weights: Tensor, x: Tensor) -> Tensor:
    matrix = weights.new_zeros((weights.numel(), x.numel()))
    if gradient is None:
        return matrix
    if not gradient.requires_grad:
        raise RuntimeError("an operation's backward cannot be differentiated")
    flat = gradient.reshape(-1)
    for column in range(x.numel()):
        (tangent,) = torch.autograd.grad(flat[column], [weights], retain_graph=True, allow_unused=True)
        if tangent is not None:
            matrix[:, column] = tangent.reshape(-1)
    return matrix


def _grad(scalar: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    gradients = torch.autograd.grad(scalar, inputs, retain_graph=True, allow_unused=True)
    return [None if g is None else plain(g) for g in gradients]


def _map(rows: Tensor, imaginary: Tensor | None, output: Tensor, x: Tensor) -> LinearMap:
    shapes = (tuple(output.shape), tuple(x.shape))
    if imaginary is None and not x.is_complex():
        return DenseMap(*shapes, rows)
    return ComplexMap(*shapes, rows, imaginary)


def vjp(output: Tensor, cotangent: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """∂L/∂input for L = ⟨v, y⟩: what `torch.autograd.grad(output, inputs, cotangent)` gives; None: not reached.

    The gradient is taken of the scalar L itself: the same derivative, the definition of grad_outputs, and it spares
    the shape check that loads a symbolic algebra system.
    """
    return _grad(_pairing(output, cotangent), inputs)


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
