"""Sums, means, norms, extremes and whatever else makes one number, or a distribution, of the entries along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.forms import Atom, Index, Lam, NoClosedFormError, Poly, fresh, number, of, power, times, total
from jvpcli.symbolic.operations.entries import (
    Operand,
    elementwise,
    lam,
    minus,
    minus_one_times,
    raised,
    root,
    scalar,
    square,
)

Dims = int | Sequence[int] | None


def places(dim: Dims, rank: int) -> tuple[int, ...]:
    """The axes that a `dim` means; none: all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else (dim,)
    return tuple(sorted(d % rank if rank else 0 for d in dims)) if rank else ()


def reduced(x: Operand, dim: Dims, keepdim: bool, f: Callable[[tuple[Index, ...], Poly], Poly]) -> Lam:
    """A number of the entries along axes: `f` gets the indices to run over, and the entry."""
    x = lam(x)
    gone = places(dim, len(x.over))
    body = f(tuple(x.over[k] for k in gone), x.body)
    kept = [index if k not in gone else fresh(1) for k, index in enumerate(x.over) if keepdim or k not in gone]
    return Lam(tuple(kept), body)


def summed(x: Operand, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    return reduced(x, dim, keepdim, lambda over, p: total(p, over))


def count(x: Lam, dim: Dims) -> int:
    return math.prod(lam(x).shape[k] for k in places(dim, len(lam(x).over)))


def mean(x: Operand, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    return elementwise(lambda p: times(number(Fraction(1, max(count(x, dim), 1))), p), summed(x, dim, keepdim))


def var(x: Lam, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: int = 1) -> Lam:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = correction if unbiased is None else int(unbiased)
    n = count(x, dim) - correction
    if n <= 0:
        raise NoClosedFormError("the variance of so few entries is not defined")
    squares = elementwise(lambda p: power(p, 2), minus(x, mean(x, dim, True)))
    return elementwise(lambda p: times(number(Fraction(1, n)), p), summed(squares, dim, keepdim))


def std(x: Lam, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: int = 1) -> Lam:
    return root(var(x, dim, unbiased, keepdim, correction))


def norm(x: Lam, p: Any = 2, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    if p in (2, None, "fro"):
        return root(summed(square(x), dim, keepdim))
    if p == 1:
        return summed(scalar("abs")(x), dim, keepdim)
    if p == math.inf:
        return extreme("amax")(scalar("abs")(x), dim, keepdim)
    if isinstance(p, (int, float)) and p > 1:
        whole = summed(raised(scalar("abs")(x), p), dim, keepdim)
        return elementwise(lambda q: power(q, Fraction(1) / Fraction(str(p))), whole)
    raise NoClosedFormError(f"the norm of order {p} has no closed form here")


def linalg_norm(x: Lam, ord: Any = None, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    matrix = (len(x.over) == 2 and dim is None) or (isinstance(dim, (tuple, list)) and len(dim) == 2)
    if matrix and ord not in (None, "fro"):
        raise NoClosedFormError(f"the matrix norm {ord} has no closed form here")
    return norm(x, 2 if ord is None else ord, dim, keepdim)


def _along(name: str, keeps: bool) -> Callable[[tuple[Index, ...], Poly], Poly]:
    def entry(over: tuple[Index, ...], p: Poly) -> Poly:
        inner = tuple(fresh(i.size) for i in over)
        own = Lam(over, p)
        return of(Atom(name, (Lam(inner, own(*inner)),), over if keeps else ()))

    return entry


def softmax(x: Lam, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Lam:
    return _spread("softmax", x, dim)


def softmin(x: Lam, dim: int | None = None) -> Lam:
    return softmax(minus_one_times(x), dim)


def log_softmax(x: Lam, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Lam:
    return _spread("log_softmax", x, dim)


def _spread(name: str, x: Lam, dim: int | None) -> Lam:
    if dim is None:
        dim = 0 if len(x.over) in (0, 1, 3) else 1
    if not x.over:
        raise NoClosedFormError(f"{name} of a 0-d tensor is a constant")
    over = tuple(x.over[k] for k in places(dim, len(x.over)))
    return Lam(x.over, _along(name, True)(over, x.body))


def logsumexp(x: Lam, dim: Dims, keepdim: bool = False) -> Lam:
    return reduced(x, dim, keepdim, _along("logsumexp", False))


def prod(x: Lam, dim: int | None = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    if dim is None and len(x.over) > 1:
        raise NoClosedFormError("the product over several axes at once has no closed form here")
    return reduced(x, dim, keepdim, _along("prod", False))


def extreme(name: str) -> Callable[..., Lam]:
    def reduce(x: Lam, dim: Dims = None, keepdim: bool = False) -> Lam:
        return reduced(x, dim, keepdim, _along(name, False))

    return reduce


def max_or_min(whole: str, pairwise: str) -> Callable[..., Lam]:
    def choose(x: Lam, other: Any = None, dim: Any = None) -> Lam:
        if isinstance(other, Lam):
            return scalar(pairwise)(x, other)
        if other is not None or dim is not None:
            raise NoClosedFormError("max along an axis gives positions too: amax has a closed form")
        return extreme(whole)(x)

    return choose


def with_mean(spread: Callable[..., Lam]) -> Callable[..., tuple[Lam, Lam]]:
    def both(
        x: Lam, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: int = 1
    ) -> tuple[Lam, Lam]:
        return spread(x, dim, unbiased, keepdim, correction), mean(x, None if isinstance(dim, bool) else dim, keepdim)

    return both


def extremes(x: Lam, dim: int | None = None, keepdim: bool = False) -> tuple[Lam, Lam]:
    return extreme("amin")(x, dim, keepdim), extreme("amax")(x, dim, keepdim)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "var_mean": with_mean(var), "std_mean": with_mean(std), "nansum": summed, "nanmean": mean, "aminmax": extremes,
    "sum": summed, "mean": mean, "var": var, "std": std, "norm": norm,
    "vector_norm": lambda x, ord=2, dim=None, keepdim=False: norm(x, ord, dim, keepdim), "call:torch.linalg.norm": linalg_norm,
    "matrix_norm": linalg_norm, "softmax": softmax, "log_softmax": log_softmax, "softmin": softmin, "logsumexp": logsumexp,
    "prod": prod, "amax": extreme("amax"), "amin": extreme("amin"), "max": max_or_min("amax", "maximum"),
    "min": max_or_min("amin", "minimum"),
}  # fmt: skip
