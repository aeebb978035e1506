"""The extreme eigenvalues and the trace of a symmetric matrix that is held in blocks, or known by its products alone.

blocks apart           where nothing couples two inputs: those of each block along the diagonal
diagonal               its entries
block-diagonal         those of every small block
small                  of the matrix
else                   Lanczos' method, and how far an eigenvalue may be from each; the trace of what is not held by
                       Hutchinson's method, and its standard error
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.linear_map import DenseMap, LinearMap
from jvpcli.jacobians.spectrum import diagonal_blocks, orthogonal
from jvpcli.problem import Named
from jvpcli.request import Tell

MOST_WORK = 1 << 33
"""n³ up to which a matrix is decomposed: about a second."""

MOST_STEPS = 100
"""Products that Lanczos' method takes, at most."""

MOST_BYTES = 1 << 28
"""What the vectors of all steps may take."""

CONVERGED = 1e-6
"""An eigenvalue is exact where its error bound is below so much of the largest."""

PROBES = 30
"""Products that the trace is estimated from."""


@dataclass(frozen=True, eq=False)
class Symmetric:
    """A symmetric matrix, which the entries of some tensors, one after the other, are the rows and the columns of.

    Attributes:
        leaves: name to tensor; n entries in all.
        maps: (name, name) to the block at these rows and columns.
        times: named tensors u to the product with them, H u, also where the blocks are not held.
    """

    leaves: Named
    maps: Mapping[tuple[str, str], LinearMap]
    times: Callable[[Named], Named]

    @cached_property
    def n(self) -> int:
        """Number of rows."""
        return sum(x.numel() for x in self.leaves.values())

    @cached_property
    def held(self) -> bool:
        """Whether the entries are known."""
        return all(each.nnz is not None for each in self.maps.values())

    @cached_property
    def apart(self) -> bool:
        """Whether only the blocks along the diagonal have entries other than zero."""
        return self.held and not any(each.nnz for (x, w), each in self.maps.items() if x != w)

    def along(self) -> list[LinearMap]:
        """The blocks along the diagonal."""
        return [self.maps[name, name] for name in self.leaves]

    def dense(self) -> Tensor:
        """The matrix (n, n), float64."""
        rows = []
        for x in self.leaves:
            blocks = [self.maps[x, w] for w in self.leaves]
            rows.append(torch.cat([block.to_dense().reshape(block.m, block.n).double() for block in blocks], 1))
        return torch.cat(rows)

    def multiply(self, vector: Tensor) -> Tensor:
        """H times a vector (n,), float64."""
        parts = vector.split([x.numel() for x in self.leaves.values()])
        named = {name: part.to(x.dtype).reshape(x.shape) for (name, x), part in zip(self.leaves.items(), parts, strict=True)}
        product = self.times(named)
        return torch.cat([product[name].detach().reshape(-1).double() for name in self.leaves])


@dataclass(frozen=True)
class Extremes:
    """The least and the greatest eigenvalue, to rounding where they are `exact`.

    Else they are the outermost that Lanczos' method has found: the least is at most `least`, the greatest at least
    `greatest`, and an eigenvalue is within the error of each.
    """

    least: float
    greatest: float
    exact: bool = True
    least_error: float = 0.0
    greatest_error: float = 0.0


@dataclass(frozen=True)
class Trace:
    """The sum of the diagonal, and its standard error; None where it is exact to rounding."""

    value: float
    error: float | None = None


def extremes(matrix: Symmetric, tell: Tell | None = None) -> Extremes | None:
    """The extreme eigenvalues, NaN where entries are not finite; None of a matrix without rows."""
    if not matrix.n:
        return None
    if matrix.apart:
        found = [_of_block(each) for each in matrix.along() if each.n]
        if None not in found:
            return _of_values(torch.cat([values for values in found if values is not None]))
    if matrix.held and matrix.n**3 <= MOST_WORK:
        return _of_values(_decomposed(matrix.dense()))
    return _lanczos(matrix, tell)


def trace(matrix: Symmetric, tell: Tell | None = None) -> Trace:
    """The sum of the diagonal entries."""
    if not matrix.held:
        return _hutchinson(matrix, tell)
    total = 0.0
    for each in matrix.along():
        if isinstance(each, DenseMap):
            total += float(each.matrix.diagonal().double().sum())
        else:
            rows, cols, values = each.entries()
            total += float(values[rows == cols].double().sum())
    return Trace(total)


def _of_block(block: LinearMap) -> Tensor | None:
    """Eigenvalues among which the extreme ones are, of a block along the diagonal; None where it takes Lanczos' method."""
    match block.structure:
        case "zero" | "identity" | "diagonal":
            _, _, values = block.entries()
            return values.double() if len(values) == block.n else torch.cat([values.double(), values.new_zeros(1).double()])
        case "block_diagonal":
            blocks = diagonal_blocks(block)
            if blocks.shape[1] == blocks.shape[2] and len(blocks) * blocks.shape[1] ** 3 <= MOST_WORK:
                return _decomposed(blocks)
    return _decomposed(block.to_dense().reshape(block.m, block.n).double()) if block.n**3 <= MOST_WORK else None


def _decomposed(matrices: Tensor) -> Tensor:
    """The eigenvalues of the symmetric parts of matrices (…, n, n); NaN where an entry is not finite."""
    if not bool(matrices.isfinite().all()):
        return matrices.new_full((1,), float("nan"))
    return torch.linalg.eigvalsh((matrices + matrices.mT) / 2).reshape(-1)


def _of_values(values: Tensor) -> Extremes:
    return Extremes(float(values.min()), float(values.max()))


def _lanczos(matrix: Symmetric, tell: Tell | None) -> Extremes:
    """From H·Q = Q·T with orthonormal Q and a small tridiagonal T, one more column a step.

    Of an eigenpair (θ, s) of T, H has an eigenvalue within β·|s's last entry| of θ, where β is the next entry beside T's
    diagonal (Golub & Van Loan, Matrix Computations, 10.1); all θ lie between the extreme eigenvalues.
    """
    n, like = matrix.n, next(iter(matrix.leaves.values()))
    eps = torch.finfo(like.dtype).eps
    generator = torch.Generator().manual_seed(0)
    steps = max(2, min(n, MOST_STEPS, MOST_BYTES // (8 * n)))
    basis = torch.zeros((steps, n), dtype=torch.float64, device=like.device)
    tridiagonal = torch.zeros((steps, steps), dtype=torch.float64)
    start = torch.randn(n, generator=generator, dtype=torch.float64).to(like.device)
    basis[0] = start / start.norm()
    for step in range(steps):
        product = matrix.multiply(basis[step])
        alpha = float(basis[step] @ product)
        if not math.isfinite(float(product.sum())):
            return Extremes(math.nan, math.nan, False)
        tridiagonal[step, step] = alpha
        following, beta = orthogonal(product, basis[: step + 1])
        scale = float(tridiagonal.abs().max())
        over = beta <= eps * scale  # the space is carried into itself: it holds a vector of every eigenvalue
        if over or step + 1 == steps or step % 5 == 4:
            values, vectors = torch.linalg.eigh(tridiagonal[: step + 1, : step + 1])
            errors = [0.0 if over else beta * abs(float(vectors[-1, end])) for end in (0, -1)]
            largest = float(values.abs().max())
            errors = [0.0 if error <= CONVERGED * largest else error for error in errors]
            if over or not any(errors) or step + 1 == steps:
                break
        basis[step + 1] = following
        tridiagonal[step, step + 1] = tridiagonal[step + 1, step] = beta
        if tell:
            tell("products for the extreme eigenvalues", step + 1, steps)
    return Extremes(float(values[0]), float(values[-1]), False, *errors)


def _hutchinson(matrix: Symmetric, tell: Tell | None) -> Trace:
    """The mean of zᵀHz over random signs z, whose expected value is the trace, and its standard error."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for probe in range(PROBES):
        signs = torch.randint(0, 2, (matrix.n,), generator=generator).double() * 2 - 1
        signs = signs.to(next(iter(matrix.leaves.values())).device)
        found.append(float(signs @ matrix.multiply(signs)))
        if tell:
            tell("products for the trace", probe + 1, PROBES)
    samples = torch.tensor(found, dtype=torch.float64)
    return Trace(float(samples.mean()), float(samples.std()) / PROBES**0.5)
