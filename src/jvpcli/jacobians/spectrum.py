"""The leading singular values of a Jacobian: exact where its structure tells them, else with a bounded number of products.

rows of at most one entry   the norms of the columns (zero, identity, diagonal, selection)
block-diagonal              those of every block
small                       of the matrix
else                        Golub-Kahan-Lanczos bidiagonalisation, and how far each value may be off
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, LinearMap
from jvpcli.jacobians.structure import block_count
from jvpcli.report import Shape

LEADING = 6
"""Singular values that are told of."""

MOST_WORK = 1 << 28
"""m·n·min(m, n) up to which a matrix is decomposed: well under a second."""

MOST_STEPS = 100
"""Products in both directions, at most."""

CONVERGED = 1e-6
"""A value is exact where its error bound is below so much of the largest."""


@dataclass(frozen=True)
class Spectrum:
    """The leading singular values, largest first, and how far each may be from one; zero where it is exact to rounding."""

    values: Tensor
    errors: Tensor


def singular_values(linear_map: LinearMap) -> Spectrum:
    """The `LEADING` largest singular values (all there are, if fewer), float64."""
    m, n = linear_map.m, linear_map.n
    count = min(LEADING, m, n)
    if isinstance(linear_map, ComplexMap):
        matrix = linear_map.real_form()
        return _exact(_decomposed(matrix.to(torch.promote_types(matrix.dtype, torch.float64))), count)
    match linear_map.structure:
        case "zero" | "identity" | "diagonal" | "selection":
            _, cols, values = linear_map.entries()
            squares = torch.zeros(n, dtype=torch.float64, device=values.device)
            return _exact(squares.index_add_(0, cols, values.double().square()).sqrt(), count)
        case "block_diagonal":
            blocks = diagonal_blocks(linear_map)
            if blocks.numel() * min(blocks.shape[1:]) <= MOST_WORK:
                return _exact(_decomposed(blocks), count)
    if linear_map.nnz is not None and m * n * min(m, n) <= MOST_WORK:
        return _exact(_decomposed(linear_map.to_dense().reshape(m, n).double()), count)
    return _by_products(linear_map, count)


def _decomposed(matrices: Tensor) -> Tensor:
    """Their singular values; NaN where an entry is not finite."""
    if bool(matrices.isfinite().all()):
        return torch.linalg.svdvals(matrices)
    smallest = min(matrices.shape[-2:])
    return matrices.abs().new_full((*matrices.shape[:-2], smallest), float("nan"))


def _exact(values: Tensor, count: int) -> Spectrum:
    found = values.reshape(-1).double().sort(descending=True).values[:count].cpu()
    return Spectrum(found, torch.zeros_like(found))


def diagonal_blocks(linear_map: LinearMap) -> Tensor:
    """The blocks along the diagonal, (number, height, width)."""
    rows, cols, values = linear_map.entries()
    m, n = linear_map.m, linear_map.n
    number = block_count(rows.cpu().numpy(), cols.cpu().numpy(), m, n)
    height, width = m // number, n // number
    blocks = torch.zeros((number, height, width), dtype=torch.float64, device=values.device)
    blocks[rows // height, rows % height, cols % width] = values.double()
    return blocks


def _by_products(linear_map: LinearMap, count: int) -> Spectrum:
    """From J·V = U·B with orthonormal U and V and a small bidiagonal B, one more column a step.

    Where J is linear over the real numbers alone it is taken as the matrix of all real and imaginary parts.

    Of a singular triple (σ, p, q) of B, J has a singular value within β·|p's last entry| of σ, where β is the next entry
    beside B's diagonal (Golub & Van Loan, Matrix Computations, 10.4).
    """
    output, given = linear_map.of_complex
    whole = output and given and _is_complex_linear(linear_map)
    work = torch.complex128 if whole else torch.float64
    m, n = (size * (2 if split and not whole else 1) for size, split in ((linear_map.m, output), (linear_map.n, given)))
    generator = torch.Generator().manual_seed(0)
    like = getattr(linear_map, "like", getattr(linear_map, "input", getattr(linear_map, "matrix", None)))
    dtype = torch.float32 if like is None else like.dtype
    device = None if like is None else like.device

    def entries(v: Tensor, shape: Shape, split: bool) -> Tensor:
        v = torch.view_as_complex(v.reshape(-1, 2)) if split and not whole else v
        return v.to(dtype.to_complex() if split else dtype.to_real()).reshape(shape)

    def parts(y: Tensor) -> Tensor:
        y = y.detach().reshape(-1)
        return (torch.view_as_real(y.resolve_conj()).reshape(-1) if y.is_complex() and not whole else y).to(work)

    def push(v: Tensor) -> Tensor:
        return parts(linear_map.pushforward(entries(v, linear_map.in_shape, given)))

    def pull(v: Tensor) -> Tensor:
        return parts(linear_map.pullback(entries(v, linear_map.out_shape, output)))

    def fresh(size: int, among: Tensor) -> Tensor:
        return orthogonal(torch.randn(size, generator=generator, dtype=work).to(device), among)[0]

    if m < n:  # the other way round all values are found after as many steps as there are
        push, pull, m, n = pull, push, n, m
    steps = min(n, MOST_STEPS)
    right, left = (torch.zeros((steps, size), dtype=work, device=device) for size in (n, m))
    bidiagonal = torch.zeros((steps, steps), dtype=torch.float64)
    right[0] = fresh(n, right[:0])
    beta = 0.0
    for step in range(steps):
        u = push(right[step]) - (beta * left[step - 1] if step else 0.0)
        left[step], alpha = orthogonal(u, left[:step])
        scale = float(bidiagonal.max()) if step else alpha
        if alpha <= torch.finfo(dtype).eps * scale:
            alpha, left[step] = 0.0, fresh(m, left[:step])
        if not math.isfinite(alpha):
            return _exact(torch.full((count,), float("nan")), count)
        bidiagonal[step, step] = alpha
        if step + 1 == n:
            beta = 0.0
        else:
            v, beta = orthogonal(pull(left[step]) - alpha * right[step], right[: step + 1])
            if beta <= torch.finfo(dtype).eps * max(scale, alpha):
                beta, v = 0.0, fresh(n, right[: step + 1])
        if step + 1 >= count and (step + 1 == steps or step % 5 == 4):
            p, values, _ = torch.linalg.svd(bidiagonal[: step + 1, : step + 1])
            errors = beta * p[-1, :count].abs()
            if step + 1 == steps or bool((errors <= CONVERGED * values[0]).all()):
                break
        if step + 1 < steps:
            right[step + 1], bidiagonal[step, step + 1] = v, beta
    errors = torch.where(errors <= CONVERGED * values[0], torch.zeros_like(errors), errors)
    return Spectrum(values[:count], errors)


def _is_complex_linear(linear_map: LinearMap) -> bool:
    """Whether i times a random direction gives i times what the direction does: then the map is a complex matrix."""
    shape, generator = linear_map.in_shape, torch.Generator().manual_seed(1)
    like = getattr(linear_map, "input", None)
    direction = torch.randn(shape, dtype=torch.complex128, generator=generator)
    direction = direction if like is None else direction.to(like)
    pushed, turned = linear_map.pushforward(direction), linear_map.pushforward(1j * direction)
    eps = torch.finfo(pushed.dtype).eps
    return bool((turned - 1j * pushed).abs().max() <= math.sqrt(eps) * pushed.abs().max())


def orthogonal(vector: Tensor, among: Tensor) -> tuple[Tensor, float]:
    """The unit vector of what is left of it beside rows (k, size) that are orthonormal, and how long that is."""
    for _ in range(2):  # twice is enough (Kahan)
        vector = vector - among.t() @ (among.conj() @ vector)
    length = float(vector.norm())
    return (vector / length if length else vector), length
