"""Products of tensors, and functions of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch

from jvpcli.symbolic.forms import EPSILON, Atom, Delta, Index, Lam, NoClosedFormError, atom, fresh, of, times, total
from jvpcli.symbolic.operations.entries import Dims, minus, over, plus, raised, root, scalar, square, times_of, where
from jvpcli.symbolic.operations.shapes import (
    diagonal_of,
    moved,
    movedim,
    picked,
    reshaped,
    selected,
    squeezed,
    stacked,
    transposed,
    unsqueezed,
)
from jvpcli.symbolic.operations.sums import extreme, mean, norm, summed


def matmul(a: Lam, b: Lam) -> Lam:
    ra, rb = len(a.over), len(b.over)
    if not ra or not rb:
        raise NoClosedFormError("matmul of a 0-d tensor")
    k = fresh(a.shape[-1])
    rows = (fresh(a.shape[-2]),) if ra > 1 else ()
    columns = (fresh(b.shape[-1]),) if rb > 1 else ()

    left = Lam(a.over[:-2], a(*a.over[:-2], *rows, k)) if ra > 1 else Lam((), a(k))
    right = Lam(b.over[:-2], b(*b.over[:-2], k, *columns)) if rb > 1 else Lam((), b(k))
    batch = times_of(left, right)
    return Lam((*batch.over, *rows, *columns), total(batch.body, (k,)))


def outer(a: Lam, b: Lam) -> Lam:
    i, j = fresh(a.shape[0]), fresh(b.shape[0])
    return Lam((i, j), times(a(i), b(j)))


def inner(a: Lam, b: Lam) -> Lam:
    if not a.over or not b.over:
        return times_of(a, b)
    k = fresh(a.shape[-1])
    left, right = a.over[:-1], tuple(fresh(i.size) for i in b.over[:-1])
    return Lam((*left, *right), total(times(a(*left, k), b(*right, k)), (k,)))


def linear(x: Lam, weight: Lam, bias: Lam | None = None) -> Lam:
    y = matmul(x, transposed(weight)) if len(weight.over) == 2 else matmul(x, weight)
    return y if bias is None else plus(y, bias)


def bilinear(x: Lam, y: Lam, weight: Lam, bias: Lam | None = None) -> Lam:
    batch = x.over[:-1]
    o, i, j = (fresh(size) for size in weight.shape)
    z = Lam((*batch, o), total(times(x(*batch, i), weight(o, i, j), y(*batch, j)), (i, j)))
    return z if bias is None else plus(z, bias)


def addmm(c: Lam, a: Lam, b: Lam, beta: float = 1, alpha: float = 1) -> Lam:
    return plus(times_of(c, beta), matmul(a, b), alpha)


def einsum(equation: str, *operands: Any) -> Lam:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    equation = equation.replace(" ", "")
    if "." in equation:
        raise NoClosedFormError("an einsum with an ellipsis has no index form here")
    sources, arrow, result = equation.partition("->")
    if not arrow:
        letters = sources.replace(",", "")
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    found: dict[str, Index] = {}
    factors = []
    for letters, x in zip(sources.split(","), operands, strict=True):
        for letter, index in zip(letters, x.over, strict=True):
            if letter not in found or found[letter].size == 1:
                found[letter] = fresh(index.size)
    for letters, x in zip(sources.split(","), operands, strict=True):
        at = [0 if own.size == 1 and found[c].size != 1 else found[c] for c, own in zip(letters, x.over, strict=True)]
        factors.append(x(*at))
    over = tuple(found[c] for c in result)
    return Lam(over, total(times(*factors), tuple(i for c, i in found.items() if c not in result)))


def tensordot(a: Lam, b: Lam, dims: Any = 2, out: None = None) -> Lam:
    if isinstance(dims, int):
        dims = (list(range(len(a.over) - dims, len(a.over))), list(range(dims)))
    first, second = ([d % len(x.over) for d in own] for x, own in zip((a, b), dims, strict=True))
    bound = {p: fresh(a.shape[p]) for p in first}
    left = tuple(bound.get(k) or fresh(i.size) for k, i in enumerate(a.over))
    right = tuple(bound[first[second.index(k)]] if k in second else fresh(i.size) for k, i in enumerate(b.over))
    over = (*(i for k, i in enumerate(left) if k not in first), *(i for k, i in enumerate(right) if k not in second))
    return Lam(over, total(times(a(*left), b(*right)), tuple(bound.values())))


def multi_dot(*tensors: Any) -> Lam:
    parts = list(tensors[0]) if isinstance(tensors[0], (list, tuple)) else list(tensors)
    found = parts[0]
    for x in parts[1:]:
        found = matmul(found, x)
    return found


def matrix_power(x: Lam, n: int) -> Lam:
    base = inverse(x) if n < 0 else x
    if n == 0 or abs(n) > 8:
        raise NoClosedFormError(f"the power {n} of a matrix is not written out")
    found = base
    for _ in range(abs(n) - 1):
        found = matmul(found, base)
    return found


def vecdot(a: Lam, b: Lam, dim: int = -1) -> Lam:
    return summed(times_of(a, b), dim)


def cosine_similarity(x1: Lam, x2: Lam, dim: int = 1, eps: float = 1e-8) -> Lam:
    return over(vecdot(x1, x2, dim), times_of(norm(x1, 2, dim), norm(x2, 2, dim)))


def trace(x: Lam) -> Lam:
    i = fresh(x.shape[0])
    if x.shape[0] != x.shape[1]:
        raise NoClosedFormError("the trace of a matrix that is not square")
    return Lam((), total(x(i, i), (i,)))


def _of_matrix(name: str, x: Lam, *shape: int) -> Lam:
    """A named function of matrices that gives tensors of that shape."""
    *batch, a, b = x.over
    inside, at = (fresh(a.size), fresh(b.size)), tuple(map(fresh, shape))
    return Lam((*batch, *at), atom(name, Lam(inside, x(*batch, *inside)), at=at))


def inverse(x: Lam) -> Lam:
    return _of_matrix("inv", x, *x.shape[-2:])


def det(x: Lam) -> Lam:
    return _of_matrix("det", x)


def cholesky(x: Lam, upper: bool = False) -> Lam:
    factor = _of_matrix("cholesky", x, *x.shape[-2:])
    return transposed(factor) if upper else factor


def _times_own_transpose(factor: Lam, upper: bool) -> Lam:
    factor = triangular(factor, upper)
    return matmul(transposed(factor), factor) if upper else matmul(factor, transposed(factor))


def cholesky_solve(b: Lam, factor: Lam, upper: bool = False) -> Lam:
    return matmul(inverse(_times_own_transpose(factor, upper)), b)


def cholesky_inverse(factor: Lam, upper: bool = False) -> Lam:
    return inverse(_times_own_transpose(factor, upper))


def triangular(x: Lam, upper: bool, unitriangular: bool = False) -> Lam:
    name, beside = ("triu", 1) if upper else ("tril", -1)
    if not unitriangular:
        return moved(x, name, (0,), x.shape)
    i, j = (fresh(size) for size in x.shape[-2:])
    return plus(moved(x, name, (beside,), x.shape), Lam((i, j), of(Delta(i, j))))


def solve_triangular(a: Lam, b: Lam, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Lam:
    return solve(triangular(a, upper, unitriangular), b, left)


def triangular_solve(
    b: Lam, a: Lam, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Lam, Lam]:
    matrix = triangular(a, upper, unitriangular)
    return solve(transposed(matrix) if transpose else matrix, b), a


def pinv(x: Lam, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Lam:
    return _of_matrix("pinv", x, x.shape[-1], x.shape[-2])


def lstsq(a: Lam, b: Lam, rcond: Any = None, *, driver: str | None = None) -> tuple[Any, ...]:
    solution = matmul(pinv(a), b)
    left = summed(square(minus(b, matmul(a, solution))), -2) if a.shape[-2] > a.shape[-1] else Lam((fresh(0),), ())
    return solution, left, None, None


def matrix_exp(x: Lam) -> Lam:
    return _of_matrix("matrix_exp", x, *x.shape[-2:])


def eigh(x: Lam, UPLO: str = "L") -> tuple[Lam, Lam]:
    x = x if UPLO == "L" else transposed(x)
    return _of_matrix("eigenvalues", x, x.shape[-1]), _of_matrix("eigenvectors", x, *x.shape[-2:])


def svdvals(x: Lam, *, driver: str | None = None) -> Lam:
    return _of_matrix("singular_values", x, min(x.shape[-2:]))


def svd(x: Lam, full_matrices: bool = True, *, driver: str | None = None) -> tuple[Lam, Lam, Lam]:
    if full_matrices and x.shape[-2] != x.shape[-1]:
        raise NoClosedFormError("singular vectors beyond the singular values have no closed form")
    m, n = x.shape[-2:]
    k = min(m, n)
    return _of_matrix("left_vectors", x, m, k), svdvals(x), _of_matrix("right_vectors", x, k, n)


def linalg_norm(x: Lam, ord: Any = None, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    of_matrix = tuple(dim) if isinstance(dim, (tuple, list)) else (-2, -1) if dim is None and len(x.over) == 2 else ()
    if ord in (None, "fro") or len(of_matrix) != 2:
        return norm(x, 2 if ord is None else ord, dim, keepdim)
    return matrix_norm(x, ord, of_matrix, keepdim)


def matrix_norm(x: Lam, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, dtype: Any = None) -> Lam:
    if ord == "fro":
        return norm(x, 2, dim, keepdim)
    rows, columns = (d % len(x.over) for d in dim)
    if ord in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = summed(scalar("abs")(x), first, True)
        whole = extreme("amax" if ord > 0 else "amin")(sums, second, True)
    else:
        values = svdvals(movedim(x, (rows, columns), (-2, -1)))
        if ord == "nuc":
            own = summed(values, -1)
        elif ord in (2, -2):
            own = selected(values, -1, 0 if ord > 0 else values.shape[-1] - 1)
        else:
            raise NoClosedFormError(f"the matrix norm {ord} has no closed form here")
        whole = own
        for d in sorted((rows, columns)):
            whole = unsqueezed(whole, d)
    return whole if keepdim else squeezed(whole, (rows, columns))


def any_norm(x: Lam, p: Any = "fro", dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    if p == "nuc":
        return matrix_norm(x, p, (-2, -1) if dim is None else dim, keepdim)  # type: ignore[arg-type]
    return norm(x, p, dim, keepdim)


def cond(x: Lam, p: Any = None) -> Lam:
    if p in (None, 2, -2):
        values = svdvals(x)
        first, last = selected(values, -1, 0), selected(values, -1, values.shape[-1] - 1)
        return over(last, first) if p == -2 else over(first, last)
    return times_of(matrix_norm(x, p), matrix_norm(inverse(x), p))


def tensorinv(x: Lam, ind: int = 2) -> Lam:
    size = math.prod(x.shape[:ind])
    return reshaped(inverse(reshaped(x, (size, size))), (*x.shape[ind:], *x.shape[:ind]))


def tensorsolve(a: Lam, b: Lam, dims: None = None) -> Lam:
    size, rest = math.prod(b.shape), a.shape[len(b.over) :]
    return reshaped(matmul(inverse(reshaped(a, (size, size))), reshaped(b, (size,))), rest)


def vander(x: Lam, *, N: int | None = None) -> Lam:
    return stacked([raised(x, k) for k in range(x.shape[-1] if N is None else N)], -1)


def cov(x: Lam, *, correction: int = 1, fweights: None = None, aweights: None = None) -> Lam:
    if fweights is not None or aweights is not None:
        raise NoClosedFormError("a covariance with weights has no index form here")
    x = x if len(x.over) == 2 else reshaped(x, (1, math.prod(x.shape)))
    centred = minus(x, mean(x, 1, True))
    found = times_of(matmul(centred, transposed(centred)), Fraction(1, x.shape[1] - correction))
    return squeezed(found) if found.shape == (1, 1) else found


def corrcoef(x: Lam) -> Lam:
    found = cov(x)
    if not found.over:
        return over(found, found)
    deviations = root(diagonal_of(found))
    return over(found, outer(deviations, deviations))


def renorm(x: Lam, p: float, dim: int, maxnorm: float) -> Lam:
    others = [d for d in range(len(x.over)) if d != dim % len(x.over)]
    size = norm(x, p, others, True)
    return where(scalar("less")(maxnorm, size), times_of(x, over(maxnorm, plus(size, 1e-7))), x)


def pdist(x: Lam, p: float = 2.0) -> Lam:
    rows = torch.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return norm(minus(picked(x, rows[first]), picked(x, rows[second])), p, -1)


def solve(a: Lam, b: Lam, left: bool = True) -> Lam:
    return matmul(inverse(a), b) if left else matmul(b, inverse(a))


def slogdet(x: Lam) -> tuple[Lam, Lam]:
    size = det(x)
    return scalar("sign")(size), scalar("log")(scalar("abs")(size))


def kron(a: Lam, b: Lam) -> Lam:
    rank = max(len(a.over), len(b.over))
    a, b = (reshaped(x, (1,) * (rank - len(x.over)) + x.shape) for x in (a, b))
    left, right = tuple(fresh(s) for s in a.shape), tuple(fresh(s) for s in b.shape)
    both = tuple(i for pair in zip(left, right, strict=True) for i in pair)
    return reshaped(
        Lam(both, times(a(*left), b(*right))), tuple(p * q for p, q in zip(a.shape, b.shape, strict=True))
    )


def pairwise_distance(x1: Lam, x2: Lam, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Lam:
    return norm(plus(minus(x1, x2), eps), p, -1, keepdim)


def cross(a: Lam, b: Lam, dim: int = -1) -> Lam:
    pairs = times_of(unsqueezed(movedim(a, dim, -1), -1), unsqueezed(movedim(b, dim, -1), -2))
    *rest, j, k = pairs.over
    i = fresh(3)
    return movedim(Lam((*rest, i), total(times(of(Atom(EPSILON, (), (i, j, k))), pairs.body), (j, k))), -1, dim)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "pairwise_distance": pairwise_distance, "dist": lambda x, y, p=2: norm(minus(x, y), p),
    "cdist": lambda x1, x2, p=2.0, compute_mode=None: norm(minus(unsqueezed(x1, -2), unsqueezed(x2, -3)), p, -1),
    "addmm": addmm, "addmv": addmm, "baddbmm": addmm,
    "addr": lambda c, a, b, beta=1, alpha=1: plus(times_of(c, beta), outer(a, b), alpha),
    "addbmm": lambda c, a, b, beta=1, alpha=1: plus(times_of(c, beta), summed(matmul(a, b), 0), alpha),
    "matmul": matmul, "mm": matmul, "bmm": matmul, "mv": matmul, "dot": matmul, "vdot": matmul, "inner": inner, "outer": outer,
    "ger": outer, "cross": cross, "einsum": einsum, "tensordot": tensordot, "linear": linear, "bilinear": bilinear,
    "multi_dot": multi_dot, "chain_matmul": multi_dot, "matrix_power": matrix_power, "vecdot": vecdot, "kron": kron,
    "cosine_similarity": cosine_similarity, "trace": trace, "det": det, "logdet": lambda x: _of_matrix("logdet", x),
    "slogdet": slogdet, "inv": inverse, "inverse": inverse, "inv_ex": lambda x: (inverse(x), None), "solve": solve,
    "cholesky": cholesky, "cholesky_ex": lambda x, *, upper=False, check_errors=False: (cholesky(x, upper), None),
    "cholesky_solve": cholesky_solve, "cholesky_inverse": cholesky_inverse, "solve_triangular": solve_triangular,
    "triangular_solve": triangular_solve, "solve_ex": lambda a, b, *, left=True, check_errors=False: (solve(a, b, left), None),
    "pinv": pinv, "pinverse": lambda x, rcond=None: pinv(x), "lstsq": lstsq, "matrix_exp": matrix_exp,
    "call:torch.linalg.matrix_exp": matrix_exp, "eigh": eigh, "eigvalsh": lambda x, UPLO="L": eigh(x, UPLO)[0],
    "svdvals": svdvals, "call:torch.linalg.svd": svd, "call:torch.linalg.norm": linalg_norm, "matrix_norm": matrix_norm,
    "norm": any_norm, "cond": cond, "tensorinv": tensorinv, "tensorsolve": tensorsolve, "vander": vander, "cov": cov,
    "corrcoef": corrcoef, "renorm": renorm, "pdist": pdist,
}  # fmt: skip
