"""Products of tensors, and functions of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jvpcli.symbolic.forms import Atom, Index, Lam, NoClosedFormError, fresh, of, times, total
from jvpcli.symbolic.operations.entries import minus, over, plus, scalar, times_of
from jvpcli.symbolic.operations.shapes import reshaped, rolled, transposed, unsqueezed
from jvpcli.symbolic.operations.sums import norm, summed


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


def addr(c: Lam, a: Lam, b: Lam, beta: float = 1, alpha: float = 1) -> Lam:
    return plus(times_of(c, beta), outer(a, b), alpha)


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


def distance(x: Lam, y: Lam, p: float = 2) -> Lam:
    return norm(minus(x, y), p)


def trace(x: Lam) -> Lam:
    i = fresh(x.shape[0])
    if x.shape[0] != x.shape[1]:
        raise NoClosedFormError("the trace of a matrix that is not square")
    return Lam((), total(x(i, i), (i,)))


def _matrix(name: str, entries: int) -> Callable[[Lam], Lam]:
    def function(x: Lam) -> Lam:
        *batch, a, b = x.over
        inside = (fresh(a.size), fresh(b.size))
        at = (fresh(a.size), fresh(b.size)) if entries else ()
        return Lam((*batch, *at), of(Atom(name, (Lam(inside, x(*batch, *inside)),), at)))

    return function


inverse, det, logdet = _matrix("inv", 2), _matrix("det", 0), _matrix("logdet", 0)


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


def cdist(x1: Lam, x2: Lam, p: float = 2.0, compute_mode: str | None = None) -> Lam:
    return norm(minus(unsqueezed(x1, -2), unsqueezed(x2, -3)), p, -1)


def cross(a: Lam, b: Lam, dim: int = -1) -> Lam:
    def turned(x: Lam, by: int) -> Lam:
        return rolled(x, by, dim)

    return minus(times_of(turned(a, -1), turned(b, -2)), times_of(turned(a, -2), turned(b, -1)))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "pairwise_distance": pairwise_distance, "cdist": cdist, "cross": cross,
    "addbmm": lambda c, a, b, beta=1, alpha=1: plus(times_of(c, beta), summed(matmul(a, b), 0), alpha),
    "inv_ex": lambda x: (inverse(x), None), "dist": distance, "trace": trace, "matmul": matmul, "mm": matmul, "bmm": matmul,
    "mv": matmul, "dot": matmul, "vdot": matmul, "inner": inner, "outer": outer, "ger": outer, "einsum": einsum,
    "tensordot": tensordot, "linear": linear, "bilinear": bilinear, "addmm": addmm, "addmv": addmm, "addr": addr,
    "baddbmm": addmm, "multi_dot": multi_dot, "chain_matmul": multi_dot, "matrix_power": matrix_power, "vecdot": vecdot,
    "cosine_similarity": cosine_similarity, "kron": kron, "inv": inverse, "inverse": inverse, "det": det, "logdet": logdet,
    "solve": solve, "slogdet": slogdet,
}  # fmt: skip
