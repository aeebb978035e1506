"""Sums, means, norms, extremes and whatever else makes one number, or a distribution, of the entries along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.forms import (
    Atom,
    Index,
    Lam,
    NoClosedFormError,
    Poly,
    atom,
    fresh,
    number,
    of,
    power,
    times,
    total,
)
from jvpcli.symbolic.operations.entries import (
    Dims,
    Operand,
    elementwise,
    lam,
    minus,
    minus_one_times,
    over,
    places,
    plus,
    raised,
    root,
    scalar,
    square,
    times_of,
    where,
)
from jvpcli.symbolic.operations.shapes import cumsum, expanded, flattened, selected, unsqueezed


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
    sizes = scalar("abs")(x)
    if p in (2, None, "fro"):
        return root(summed(square(x), dim, keepdim))
    if p == 1:
        return summed(sizes, dim, keepdim)
    if p == 0:
        return summed(square(scalar("sign")(x)), dim, keepdim)
    if p in (math.inf, -math.inf):
        return extreme("amax" if p > 0 else "amin")(sizes, dim, keepdim)
    if isinstance(p, (int, float)):
        whole = summed(raised(sizes, p), dim, keepdim)
        return elementwise(lambda q: power(q, Fraction(1) / Fraction(str(p))), whole)
    raise NoClosedFormError(f"the norm of order {p} has no closed form here")


def _along(name: str, keeps: bool) -> Callable[[tuple[Index, ...], Poly], Poly]:
    def entry(over: tuple[Index, ...], p: Poly) -> Poly:
        if not over:  # of one number each of these is that
            return p
        inner = tuple(fresh(i.size) for i in over)
        own = Lam(over, p)
        return of(Atom(name, (Lam(inner, own(*inner)),), over if keeps else ()))

    return entry


def softmax(x: Lam, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Lam:
    return _spread("softmax", x, dim)


def softmin(x: Lam, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Lam:
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


def max_or_min(whole: str, pairwise: str) -> Callable[..., Any]:
    def choose(x: Lam, dim: Any = None, keepdim: bool = False, other: Lam | None = None) -> Any:
        other = dim if isinstance(dim, Lam) else other
        if other is not None:
            return scalar(pairwise)(x, other)
        return extreme(whole)(x) if dim is None else chosen(whole[1:], x, dim, keepdim)

    return choose


def chosen(name: str, x: Lam, dim: int, keepdim: bool = False, kept: int | None = None, **options: Any) -> tuple[Lam, Lam]:
    """Entries that torch.NAME picks along an axis, `kept` of them (none: one, without an axis), and where they stand."""
    if not x.over:
        return x, Lam((), ())
    (k,) = places(dim, len(x.over))
    own = fresh(x.shape[k])
    axes = (own,) if kept is None else (fresh(kept),)
    at = () if kept is None else axes
    after = {} if kept is None and not keepdim else {x.over[k]: fresh(1) if kept is None else axes[0]}
    left = tuple(after.get(i, i) for i in x.over if i in after or i != x.over[k])
    inside = Lam((own,), Lam((x.over[k],), x.body)(own))
    values, indices = (
        Lam(left, atom(part, inside, at=at, params=(name, tuple(options.items())))) for part in ("values", "indices")
    )
    return values, indices


def sort(x: Lam, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple[Lam, Lam]:
    return chosen("sort", x, dim, kept=_size(x, dim), **({"descending": True} if descending else {}))


def _size(x: Lam, dim: int) -> int:
    return x.shape[dim] if x.over else 1


def topk(x: Lam, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Lam, Lam]:
    return chosen("topk", x, dim, kept=k, k=k, **({} if largest else {"largest": False}))


def kthvalue(x: Lam, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Lam, Lam]:
    return chosen("kthvalue", x, dim, keepdim, k=k)


def middle(name: str) -> Callable[..., Any]:
    def median(x: Lam, dim: int | None = None, keepdim: bool = False) -> Any:
        return chosen(name, flattened(x), 0)[0] if dim is None else chosen(name, x, dim, keepdim)

    return median


def running(name: str) -> Callable[..., tuple[Lam, Lam]]:
    return lambda x, dim: chosen(name, x, dim, kept=_size(x, dim))


def quantile(
    x: Lam, q: float, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Lam:
    if isinstance(q, Lam):
        raise NoClosedFormError("quantiles at positions in a tensor have no index form here")
    x, dim = (flattened(x), 0) if dim is None else (x, dim)
    ordered, _ = sort(x, dim)
    place = q * (_size(x, dim) - 1)
    low, high = math.floor(place), math.ceil(place)
    share = {"linear": place - low, "lower": 0, "higher": 1, "midpoint": 0.5 * (high > low), "nearest": round(place) - low}

    def at(k: int) -> Lam:
        found = selected(ordered, dim, k) if ordered.over else ordered
        return unsqueezed(found, dim % len(x.over)) if keepdim and x.over else found

    weight = share[interpolation]
    return plus(times_of(at(low), 1 - weight), times_of(at(high), weight)) if weight else at(low)


def cumprod(x: Lam, dim: int, dtype: Any = None) -> Lam:
    return _spread("cumprod", x, dim) if x.over else x


def logcumsumexp(x: Lam, dim: int) -> Lam:
    return scalar("log")(cumsum(scalar("exp")(x), dim)) if x.over else x


def masked(rule: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    """An operation that takes a mask, whose other entries count as what changes nothing."""

    def under(x: Lam, *arguments: Any, mask: Lam | None = None, **keywords: Any) -> Any:
        return rule(x if mask is None else where(mask, x, neutral), *arguments, **keywords)

    return under


def masked_mean(
    x: Lam, dim: Dims = None, keepdim: bool = False, dtype: Any = None, mask: Lam | None = None
) -> Lam:
    if mask is None:
        return mean(x, dim, keepdim)
    return over(summed(where(mask, x, 0), dim, keepdim), summed(where(expanded(mask, x.shape), 1, 0), dim, keepdim))


def masked_var(
    x: Lam, dim: Dims = None, unbiased: bool = True, keepdim: bool = False, dtype: Any = None, mask: Lam | None = None
) -> Lam:
    if mask is None:
        return var(x, dim, unbiased, keepdim)
    squares = where(mask, square(minus(x, masked_mean(x, dim, True, None, mask))), 0)
    number_of = summed(where(expanded(mask, x.shape), 1, 0), dim, keepdim)
    return over(summed(squares, dim, keepdim), minus(number_of, int(unbiased)))


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
    "sum": summed, "mean": mean, "var": var, "std": std,
    "vector_norm": lambda x, ord=2, dim=None, keepdim=False: norm(x, ord, dim, keepdim),
    "softmax": softmax, "log_softmax": log_softmax, "softmin": softmin, "logsumexp": logsumexp,
    "prod": prod, "amax": extreme("amax"), "amin": extreme("amin"), "max": max_or_min("amax", "maximum"),
    "min": max_or_min("amin", "minimum"),
    "sort": sort, "msort": lambda x: sort(x, 0)[0], "topk": topk, "kthvalue": kthvalue, "median": middle("median"),
    "nanmedian": middle("nanmedian"), "mode": lambda x, dim=-1, keepdim=False: chosen("mode", x, dim, keepdim),
    "cummax": running("cummax"), "cummin": running("cummin"), "quantile": quantile, "nanquantile": quantile,
    "cumprod": cumprod, "logcumsumexp": logcumsumexp,
    **{
        f"call:torch.masked.{name}": masked(rule, neutral) for name, rule, neutral in (
            ("sum", summed, 0), ("prod", prod, 1), ("amax", extreme("amax"), -math.inf), ("amin", extreme("amin"), math.inf),
            ("softmax", softmax, -math.inf), ("log_softmax", log_softmax, -math.inf), ("softmin", softmin, math.inf),
            ("logsumexp", logsumexp, -math.inf), ("cumsum", cumsum, 0), ("cumprod", cumprod, 1),
        )
    },
    "call:torch.masked.norm": masked(lambda x, ord=2, dim=None, keepdim=False, dtype=None: norm(x, ord, dim, keepdim), 0),
    "call:torch.masked.mean": masked_mean, "call:torch.masked.var": masked_var,
    "call:torch.masked.std": lambda *given, **named: root(masked_var(*given, **named)),
}  # fmt: skip
