"""Local maps of functions of matrices, each a formula in what the operation has saved.

Entries i, j of a result and k, l of an operand are the labels 1, 2 and 3, 4; the matrices of a batch, label 0, stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, factorial, isfinite, log2

import torch

from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.terms import Term

POWERS = {torch.float32: 8, torch.float64: 16}
"""So many powers of a matrix of norm 1/2 or less give the derivative of its exponential to the last digit."""


def _term(op: Op, out: Sequence[int], factors: Sequence[Factor], inn: Sequence[int] = (0, 3, 4), scale: float = 1.0) -> Term:
    n, batch = op.operand[-1], factors[0].values.shape[0]
    return op.regular(op.operand, out, inn, {0: batch, 1: n, 2: n, 3: n, 4: n}, factors, scale)


def cholesky(op: Op) -> Locals:
    """A = L Lᵀ: dL = L Φ(L⁻¹ dA L⁻ᵀ), where Φ keeps what is below the diagonal, and half of that; dA is taken symmetric."""
    n = op.operand[-1]
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
    shape, n = op.operand, op.operand[-1]
    found = op.pull(op.ones().contiguous())[0]
    if found is None:
        return op.first()
    if tuple(found.shape) != shape or op.shape != shape[:-2]:
        raise NoRuleError("not a number of each matrix")
    return op.first(_term(op, (0,), [Factor(found.detach().reshape(-1, n, n), (0, 3, 4))]))


def exponential(op: Op) -> Locals:
    """exp A by scaling and squaring: Σ 1/(r+s+1)! Aʳ dA Aˢ where A is small, and d(X²) = dX X + X dX from there on."""
    n = op.operand[-1]
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


def pseudo_inverse(op: Op) -> Locals:
    """P = A⁺ at a constant rank: dP = −P dA P + P Pᵀ dAᵀ (1 − A P) + (1 − P A) dAᵀ Pᵀ P."""
    shape = op.operand
    m, n = shape[-2:]
    a, p = op.saved("self").detach().reshape(-1, m, n), op.saved("result").detach().reshape(-1, n, m)
    op.work.reserve(len(a) * (m * n) ** 2, op.like.element_size())
    rest, beside = (torch.eye(k, dtype=a.dtype, device=a.device) - x for k, x in ((m, a @ p), (n, p @ a)))
    values = p.neg()[:, :, None, :, None] * p.mT[:, None, :, None, :]  # of places i, j, k, l
    values.addcmul_((p @ p.mT)[:, :, None, None, :], rest.mT[:, None, :, :, None])
    values.addcmul_(beside[:, :, None, None, :], (p.mT @ p)[:, None, :, :, None])
    sizes = {0: len(a), 1: n, 2: m, 3: m, 4: n}
    return op.first(op.regular(shape, (0, 1, 2), (0, 3, 4), sizes, [Factor(values, (0, 1, 2, 3, 4))]))


def eigen(op: Op) -> Locals:
    """A = V diag(w) Vᵀ: dw_k = v_kᵀ dA v_k, and dv_k = Σ v_a v_aᵀ dA v_k / (w_k − w_a) over the others; dA is taken symmetric."""
    n = op.operand[-1]
    v, w = op.saved("eigenvectors").detach().reshape(-1, n, n), op.saved("eigenvalues").detach().reshape(-1, n)
    if op.nr == 0:
        return op.first(_term(op, (0, 1), [Factor(v, (0, 3, 1)), Factor(v, (0, 4, 1))]))
    op.work.reserve(2 * len(v) * n**3, op.like.element_size())
    apart = w[:, :, None] - w[:, None]  # w_k − w_a
    apart.diagonal(dim1=-2, dim2=-1).fill_(float("inf"))
    left = (v[:, None] / apart[:, :, None]) @ v.mT[:, None]  # Σ_a v_pa v_ia / (w_k − w_a): of places k, p, i
    factors = [Factor(left, (0, 2, 1, 3)), Factor(v, (0, 4, 2))]
    return op.first(_term(op, (0, 1, 2), factors, scale=0.5), _term(op, (0, 1, 2), factors, (0, 4, 3), 0.5))


def singular(op: Op) -> Locals:
    """A = U diag(s) Vᵀ: ds_k = u_kᵀ dA v_k."""
    shape = op.operand
    if op.nr != 1:
        raise NoRuleError("its vectors")
    m, n, k = *shape[-2:], min(shape[-2:])
    u, v = op.saved("U").detach()[..., :k].reshape(-1, m, k), op.saved("Vh").detach()[..., :k, :].reshape(-1, k, n)
    factors = [Factor(u, (0, 3, 1)), Factor(v, (0, 1, 4))]
    return op.first(op.regular(shape, (0, 1), (0, 3, 4), {0: len(u), 1: k, 3: m, 4: n}, factors))


RULES: dict[str, Rule] = {
    "LinalgCholeskyEx": cholesky,
    "LinalgDet": number,
    "LinalgSlogdet": number,
    "LinalgMatrixExp": exponential,
    "LinalgPinv": pseudo_inverse,
    "LinalgEigh": eigen,
    "LinalgSvd": singular,
}
