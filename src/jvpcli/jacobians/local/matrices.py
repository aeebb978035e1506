"""Local maps of functions of square matrices, each a formula in what the operation has saved.

Entries i, j of a result and k, l of an operand are the labels 1, 2 and 3, 4; the matrices of a batch, label 0, stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, factorial, isfinite, log2

import torch

from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.terms import Term

POWERS = {torch.float32: 8, torch.float64: 16}
"""So many powers of a matrix of norm 1/2 or less give the derivative of its exponential to the last digit."""


def _square(op: Op) -> tuple[Shape, int]:
    """The operand's shape, and the size of its matrices."""
    shape = op.shapes[0]
    assert shape is not None
    return shape, shape[-1]


def _term(op: Op, out: Sequence[int], factors: Sequence[Factor], inn: Sequence[int] = (0, 3, 4), scale: float = 1.0) -> Term:
    shape, n = _square(op)
    batch = factors[0].values.shape[0]
    return op.regular(shape, out, inn, {0: batch, 1: n, 2: n, 3: n, 4: n}, factors, scale)


def cholesky(op: Op) -> Locals:
    """A = L Lᵀ: dL = L Φ(L⁻¹ dA L⁻ᵀ), where Φ keeps what is below the diagonal, and half of that; dA is taken symmetric."""
    _, n = _square(op)
    low = op.saved("L").detach()
    low = (low.mT if op.saved("upper") else low).reshape(-1, n, n)
    eye = torch.eye(n, dtype=low.dtype, device=low.device)
    inv = torch.linalg.solve_triangular(low, eye, upper=False)
    kept = torch.ones_like(eye).tril_() - eye / 2
    left = (low[:, :, None] * kept.mT) @ inv[:, None]  # Σ_a L_ia Φ_aj L⁻¹_ak
    out = (0, 2, 1) if op.saved("upper") else (0, 1, 2)
    factors = [Factor(left, (0, 1, 2, 3)), Factor(inv, (0, 2, 4))]
    return op.first(_term(op, out, factors, scale=0.5), _term(op, out, factors, (0, 4, 3), 0.5))


def number(op: Op) -> Locals:
    """A number of each matrix, as its determinant: one pass gives the gradients of all."""
    shape, n = _square(op)
    found = op.pull(op.ones().contiguous())[0]
    if found is None:
        return op.first()
    if tuple(found.shape) != shape or op.shape != shape[:-2]:
        raise NoRuleError("not a number of each matrix")
    return op.first(_term(op, (0,), [Factor(found.detach().reshape(-1, n, n), (0, 3, 4))]))


def exponential(op: Op) -> Locals:
    """exp A by scaling and squaring: Σ 1/(r+s+1)! Aʳ dA Aˢ where A is small, and d(X²) = dX X + X dX from there on."""
    _, n = _square(op)
    a = op.saved("self").detach().reshape(-1, n, n)
    count, size = POWERS.get(a.dtype), a.abs().sum(-2).amax().item()
    if count is None or not isfinite(size):
        raise NoRuleError("other numbers")
    squarings = max(0, ceil(log2(size)) + 1) if size else 0
    a = a / 2.0**squarings
    powers = torch.stack([torch.eye(n, dtype=a.dtype, device=a.device).expand_as(a), a])
    square = a @ a
    while len(powers) < count:
        powers, square = torch.cat([powers, powers @ square]), square @ square
    weights = a.new_tensor([[1 / factorial(r + s + 1) if r + s < count else 0.0 for s in range(count)] for r in range(count)])
    right = (weights @ powers.reshape(count, -1)).reshape(powers.shape)
    found = torch.einsum("rbik,rblj->bijkl", powers, right).reshape(-1, n, n, n * n) / 2.0**squarings
    x = torch.linalg.matrix_exp(a)
    for _ in range(squarings):
        found = x.mT[:, None] @ found + (x @ found.reshape(-1, n, n**3)).reshape(found.shape)
        x = x @ x
    return op.first(_term(op, (0, 1, 2), [Factor(found.reshape(-1, n, n, n, n), (0, 1, 2, 3, 4))]))


RULES: dict[str, Rule] = {
    "LinalgCholeskyEx": cholesky,
    "LinalgDet": number,
    "LinalgSlogdet": number,
    "LinalgMatrixExp": exponential,
}
