"""What each operation of the language is in indices: functions of tensors in index form, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from jvpcli.symbolic.forms import (
    ONE,
    Atom,
    Axis,
    Delta,
    Index,
    Lam,
    Poly,
    add,
    fn,
    fresh,
    key,
    number,
    of,
    power,
    scaled,
    times,
    total,
)
from jvpcli.symbolic.rules import NoClosedFormError
from jvpcli.symbolic.scalars import SCALARS

Operand = Any
"""A Lam or a number."""


# --- element by element ----------------------------------------------------------------------------------------------


def lam(x: Operand) -> Lam:
    """A tensor; of a number, that of no axes.

    Raises:
        NoClosedFormError: it is neither.
    """
    if isinstance(x, Lam):
        return x
    if isinstance(x, (int, float, Fraction)):
        if isinstance(x, float) and not math.isfinite(x):
            raise NoClosedFormError("an infinite constant has no closed form")
        return Lam((), number(x))
    raise NoClosedFormError("an argument is neither a tensor nor a number")


def elementwise(f: Callable[..., Poly], *operands: Operand) -> Lam:
    """A function of each entry, with broadcasting."""
    tensors = [lam(x) for x in operands]
    rank = max(len(t.over) for t in tensors)
    shape = [1] * rank
    for t in tensors:
        for k, size in enumerate(t.shape, start=rank - len(t.over)):
            shape[k] = size if size != 1 else shape[k]
    over = tuple(map(fresh, shape))

    def entry(t: Lam) -> Poly:
        own = over[rank - len(t.over) :]
        return t(*(0 if size == 1 and index.size != 1 else index for size, index in zip(t.shape, own, strict=True)))

    return Lam(over, f(*map(entry, tensors)))


def _scalar(name: str) -> Callable[..., Lam]:
    def unary(x: Operand) -> Lam:
        return elementwise(lambda p: fn(name, p), x)

    def binary(x: Operand, y: Operand) -> Lam:
        both_ways = name in ("maximum", "minimum")  # of one and the same it is that
        return elementwise(lambda p, q: p if both_ways and key(p) == key(q) else fn(name, p, q), x, y)

    return unary if len(SCALARS[name].partials) == 1 else binary


def plus(x: Operand, y: Operand, alpha: float = 1) -> Lam:
    return elementwise(lambda p, q: add(p, scaled(q, alpha)), x, y)


def minus(x: Operand, y: Operand, alpha: float = 1) -> Lam:
    return elementwise(lambda p, q: add(p, scaled(q, -Fraction(str(alpha)))), x, y)


def times_of(x: Operand, y: Operand) -> Lam:
    return elementwise(times, x, y)


def over(x: Operand, y: Operand, rounding_mode: None = None) -> Lam:
    if rounding_mode is not None:
        raise NoClosedFormError("a rounded quotient has no closed form")
    return elementwise(lambda p, q: times(p, power(q, -1)), x, y)


def raised(x: Operand, exponent: Operand) -> Lam:
    if isinstance(exponent, (int, float)):
        return elementwise(lambda p: power(p, exponent), x)
    return elementwise(lambda p, e: fn("power", p, e), x, exponent)


def minus_one_times(x: Operand) -> Lam:
    return elementwise(lambda p: scaled(p, -1), x)


def where(condition: Operand, x: Operand, y: Operand) -> Lam:
    return elementwise(lambda c, p, q: fn("where", c, p, q), condition, x, y)


def clamp(x: Operand, min: Operand = None, max: Operand = None) -> Lam:  # torch's own names
    x = x if min is None else _scalar("maximum")(x, min)
    return x if max is None else _scalar("minimum")(x, max)


def _of_entry(f: Callable[[Poly], Poly]) -> Callable[..., Lam]:
    return lambda x: elementwise(f, x)


def same(x: Lam, *args: Any, **keywords: Any) -> Lam:
    """What changes no entry."""
    return x


# --- sums ------------------------------------------------------------------------------------------------------------

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


def root(x: Operand) -> Lam:
    return elementwise(lambda p: power(p, "1/2"), x)


def square(x: Operand) -> Lam:
    return elementwise(lambda p: power(p, 2), x)


def norm(x: Lam, p: Any = 2, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Lam:
    if p in (2, None, "fro"):
        return root(summed(square(x), dim, keepdim))
    if p == 1:
        return summed(_scalar("abs")(x), dim, keepdim)
    if p == math.inf:
        return _extreme("amax")(_scalar("abs")(x), dim, keepdim)
    if isinstance(p, (int, float)) and p > 1:
        whole = summed(raised(_scalar("abs")(x), p), dim, keepdim)
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


def _extreme(name: str) -> Callable[..., Lam]:
    def reduce(x: Lam, dim: Dims = None, keepdim: bool = False) -> Lam:
        return reduced(x, dim, keepdim, _along(name, False))

    return reduce


def _max_or_min(extreme: str, pairwise: str) -> Callable[..., Lam]:
    def choose(x: Lam, other: Any = None, dim: Any = None) -> Lam:
        if isinstance(other, Lam):
            return _scalar(pairwise)(x, other)
        if other is not None or dim is not None:
            raise NoClosedFormError("max along an axis gives positions too: amax has a closed form")
        return _extreme(extreme)(x)

    return choose


# --- products of matrices --------------------------------------------------------------------------------------------


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


def transposed(x: Lam, dim0: int = -2, dim1: int = -1) -> Lam:
    over = list(x.over)
    if over:
        over[dim0], over[dim1] = over[dim1], over[dim0]
    return Lam(tuple(over), x.body)


def reversed_axes(x: Lam) -> Lam:
    return Lam(x.over[::-1], x.body)


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


# --- functions of matrices -------------------------------------------------------------------------------------------


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
    return _scalar("sign")(size), _scalar("log")(_scalar("abs")(size))


# --- shapes ----------------------------------------------------------------------------------------------------------


def permuted(x: Lam, *dims: Any) -> Lam:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (list, tuple)) else dims
    return Lam(tuple(x.over[d] for d in order), x.body)


def movedim(x: Lam, source: Dims, destination: Dims) -> Lam:
    rank = len(x.over)
    first = [d % rank for d in (source if isinstance(source, (list, tuple)) else [source])]  # type: ignore[operator]
    second = [d % rank for d in (destination if isinstance(destination, (list, tuple)) else [destination])]  # type: ignore[operator]
    placed = dict(zip(second, first, strict=True))
    others = iter(k for k in range(rank) if k not in first)
    return Lam(tuple(x.over[placed[k] if k in placed else next(others)] for k in range(rank)), x.body)


def unsqueezed(x: Lam, dim: int) -> Lam:
    at = dim % (len(x.over) + 1)
    return Lam((*x.over[:at], fresh(1), *x.over[at:]), x.body)


def squeezed(x: Lam, dim: Dims = None) -> Lam:
    chosen = places(dim, len(x.over))
    at = [0 if k in chosen and i.size == 1 else i for k, i in enumerate(x.over)]
    return Lam(tuple(a for a in at if isinstance(a, Index)), x(*at))


def moved(x: Lam, name: str, params: tuple[Any, ...], shape: Sequence[int]) -> Lam:
    """An operation that moves entries, on all axes at once."""
    over = tuple(map(fresh, shape))
    inside = tuple(fresh(i.size) for i in x.over)
    return Lam(over, of(Atom("move", (Lam(inside, x(*inside)),), over, (name, *params))))


def reshaped(x: Lam, *shape: Any) -> Lam:
    sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape)
    if -1 in sizes:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known if known else 0
    if tuple(sizes) == x.shape:
        return x
    if [s for s in sizes if s != 1] == [s for s in x.shape if s != 1]:  # only axes of size 1 come or go
        kept = squeezed(x)
        rest = iter(kept.over)
        return Lam(tuple(fresh(1) if s == 1 else next(rest) for s in sizes), kept.body)
    return moved(x, "reshape", (x.shape, tuple(sizes)), sizes)


def flattened(x: Lam, start_dim: int = 0, end_dim: int = -1) -> Lam:
    if not x.over:
        return unsqueezed(x, 0)
    start, end = start_dim % len(x.over), end_dim % len(x.over)
    return reshaped(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def expanded(x: Lam, *sizes: Any, implicit: bool = False) -> Lam:
    shape = list(sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes)
    new = len(shape) - len(x.over)
    over = [fresh(x.shape[k - new] if s == -1 else s) for k, s in enumerate(shape)]
    at = [0 if own.size == 1 else index for own, index in zip(x.over, over[new:], strict=True)]
    return Lam(tuple(over), x(*at))


def expanded_as(x: Lam, other: Lam) -> Lam:
    return expanded(x, other.shape)


def flipped(x: Lam, *dims: Any) -> Lam:
    chosen = places(dims[0] if len(dims) == 1 else dims, len(x.over))
    return moved(x, "flip", (chosen, len(x.over)), x.shape)


def rolled(x: Lam, shifts: Any, dims: Any = None) -> Lam:
    if dims is None and len(x.over) == 1:
        dims = 0
    if not isinstance(shifts, int) or not isinstance(dims, int):
        raise NoClosedFormError("a roll of several axes has no index form here")
    return moved(x, "roll", (shifts, dims % len(x.over), len(x.over)), x.shape)


def _triangle(name: str) -> Callable[..., Lam]:
    def triangle(x: Lam, diagonal: int = 0) -> Lam:
        return moved(x, name, (diagonal,), x.shape)

    return triangle


def cumsum(x: Lam, dim: int, dtype: Any = None) -> Lam:
    return moved(x, "cumsum", (dim % len(x.over), len(x.over)), x.shape)


def diag(x: Lam, diagonal: int = 0) -> Lam:
    if diagonal:
        raise NoClosedFormError("a diagonal beside the main one has no index form here")
    return embedded(x) if len(x.over) == 1 else diagonal_of(x)


def embedded(x: Lam, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Lam:
    if offset or (dim1, dim2) != (-2, -1):
        raise NoClosedFormError("a diagonal beside the main one has no index form here")
    j = fresh(x.shape[-1])
    return Lam((*x.over, j), times(x.body, of(Delta(x.over[-1], j))))


def diagonal_of(x: Lam, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Lam:
    p, q = dim1 % len(x.over), dim2 % len(x.over)
    if offset or x.shape[p] != x.shape[q]:
        raise NoClosedFormError("such a diagonal has no index form here")
    i = fresh(x.shape[p])
    rest = [index for k, index in enumerate(x.over) if k not in (p, q)]
    return Lam((*rest, i), x(*(i if k in (p, q) else index for k, index in enumerate(x.over))))


def item(x: Lam, key: Any) -> Lam:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, (Lam, list, bool)) for k in keys):
        raise NoClosedFormError("an index of several positions has no index form here")
    given = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if Ellipsis in keys:
        at = next(n for n, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(x.over) - given)
    keys += [slice(None)] * (len(x.over) - sum(1 for k in keys if k is not None))
    axes: list[Axis] = []
    result: list[Index] = []
    cuts: list[tuple[int, int, int]] = []
    own = iter(x.over)
    for k in keys:
        if k is None:
            result.append(fresh(1))
            continue
        index = next(own)
        if isinstance(k, slice):
            start, stop, step = k.indices(index.size)
            if step != 1:
                raise NoClosedFormError("a slice with a step has no index form here")
            axes.append(index)
            result.append(index)
            cuts.append((start, max(stop, start), index.size))
        elif isinstance(k, int):
            axes.append(k % index.size)
        else:
            raise NoClosedFormError("such an index has no index form here")
    picked = Lam(tuple(result), x(*axes))
    if all((start, stop) == (0, size) for start, stop, size in cuts):
        return picked
    kept = [index for index in result if index in axes]
    body = Lam(tuple(kept), picked.body)
    sizes = [stop - start for start, stop, _ in cuts]
    spelled = ", ".join(f"{a or ''}:{b if b != n else ''}" for a, b, n in cuts)
    widths = tuple(w for a, b, n in reversed(cuts) for w in (a, n - b))
    cut = moved(body, "slice", (spelled, widths), sizes)
    after = dict(zip(kept, cut.over, strict=True))
    return Lam(tuple(after.get(index, index) for index in result), cut.body)


def selected(x: Lam, dim: int, index: int) -> Lam:
    return item(x, (*[slice(None)] * (dim % len(x.over)), index))


def narrowed(x: Lam, dim: int, start: int, length: int) -> Lam:
    return item(x, (*[slice(None)] * (dim % len(x.over)), slice(start, start + length)))


def stacked(tensors: Sequence[Lam], dim: int = 0) -> Lam:
    over = tuple(fresh(s) for s in tensors[0].shape)
    which = fresh(len(tensors))
    body = add(*(p for k, x in enumerate(tensors) for p in (_each(x(*over), of(Delta(k, which))),)))
    at = dim % (len(over) + 1)
    return Lam((*over[:at], which, *over[at:]), body)


def _each(poly: Poly, factor: Poly) -> Poly:
    return add(*(times((term,), factor) for term in poly))


def joined(tensors: Sequence[Lam], dim: int = 0) -> Lam:
    rank = len(tensors[0].over)
    at = dim % rank
    whole = sum(x.shape[at] for x in tensors)
    shape = (*tensors[0].shape[:at], whole, *tensors[0].shape[at + 1 :])
    start, found = 0, None
    for x in tensors:
        before, after = start, whole - start - x.shape[at]
        widths = (0, 0) * (rank - 1 - at) + (before, after)
        cuts = ", ".join(
            f"{before or ''}:{before + x.shape[at] if after else ''}" if k == at else ":" for k in range(rank)
        )
        part = moved(x, "pad", (widths, cuts), shape)
        found = part if found is None else plus(found, part)
        start += x.shape[at]
    assert found is not None
    return found


def split(x: Lam, size: Any, dim: int = 0) -> tuple[Lam, ...]:
    whole = x.shape[dim]
    sizes = size if isinstance(size, (list, tuple)) else [min(size, whole - k) for k in range(0, whole, size)]
    found, start = [], 0
    for length in sizes:
        found.append(narrowed(x, dim, start, length))
        start += length
    return tuple(found)


def chunk(x: Lam, chunks: int, dim: int = 0) -> tuple[Lam, ...]:
    return split(x, -(-x.shape[dim] // chunks), dim)


def unbound(x: Lam, dim: int = 0) -> tuple[Lam, ...]:
    return tuple(selected(x, dim, k) for k in range(x.shape[dim]))


def kron(a: Lam, b: Lam) -> Lam:
    rank = max(len(a.over), len(b.over))
    a, b = (reshaped(x, (1,) * (rank - len(x.over)) + x.shape) for x in (a, b))
    left, right = tuple(fresh(s) for s in a.shape), tuple(fresh(s) for s in b.shape)
    both = tuple(i for pair in zip(left, right, strict=True) for i in pair)
    return reshaped(
        Lam(both, times(a(*left), b(*right))), tuple(p * q for p, q in zip(a.shape, b.shape, strict=True))
    )


# --- losses and layers -----------------------------------------------------------------------------------------------


def _reduction(x: Lam, reduction: str) -> Lam:
    match reduction:
        case "mean":
            return mean(x)
        case "sum":
            return summed(x)
        case "batchmean":
            return over(summed(x), x.shape[0])
    return x


def mse_loss(x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean") -> Lam:
    return _reduction(square(minus(x, target)), reduction)


def l1_loss(x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean") -> Lam:
    return _reduction(_scalar("abs")(minus(x, target)), reduction)


def huber_loss(x: Lam, target: Lam, reduction: str = "mean", delta: float = 1.0) -> Lam:
    return _reduction(elementwise(lambda p: fn("where", fn("less", fn("abs", p), number(delta)),
        scaled(power(p, 2), Fraction(1, 2)), add(scaled(fn("abs", p), delta), number(Fraction(str(delta)) ** 2 / -2))),
        minus(x, target)), reduction)  # fmt: skip


def smooth_l1_loss(
    x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean", beta: float = 1.0
) -> Lam:
    scale = Fraction(1) / Fraction(str(beta))
    return (
        over(times_of(huber_loss(x, target, reduction, beta), 1), beta)
        if beta != 1
        else huber_loss(x, target, reduction, float(scale))
    )


def binary_cross_entropy(
    x: Lam, target: Lam, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        others = add(ONE, scaled(t, -1))
        return scaled(add(times(t, fn("log", p)), times(others, fn("log", add(ONE, scaled(p, -1))))), -1)

    return _reduction(elementwise(entry, x, target), reduction)


def with_logits(
    x: Lam, target: Lam, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    return _reduction(elementwise(lambda p, t: add(fn("softplus", p), scaled(times(t, p), -1)), x, target), reduction)


def kl_div(
    x: Lam,
    target: Lam,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        if log_target:
            return times(fn("exp", t), add(t, scaled(p, -1)))
        return times(t, add(fn("log", t), scaled(p, -1)))

    return _reduction(elementwise(entry, x, target), reduction)


def soft_margin_loss(x: Lam, target: Lam, reduction: str = "mean") -> Lam:
    return _reduction(elementwise(lambda p, t: fn("softplus", scaled(times(p, t), -1)), x, target), reduction)


def nll_loss(
    x: Lam,
    target: Lam,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    if len(target.over) != len(x.over) - 1 or len(x.over) > 2:
        raise NoClosedFormError("such a loss has no index form here")
    c = fresh(x.shape[-1])
    batch = x.over[:-1]
    hot = of(Atom("one_hot", (Lam((), target(*batch)),), (c,), (c.size,)))
    return _reduction(Lam(batch, scaled(total(times(hot, x(*batch, c)), (c,)), -1)), reduction)


def cross_entropy(
    x: Lam,
    target: Lam,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Lam:
    if label_smoothing or len(x.over) > 2:
        raise NoClosedFormError("such a loss has no index form here")
    logs = log_softmax(x, -1)
    if len(target.over) == len(x.over):
        each = minus_one_times(summed(times_of(target, logs), -1))
        return _reduction(each, reduction)
    return nll_loss(logs, target, reduction=reduction)


def layer_norm(
    x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5
) -> Lam:
    dims = list(range(-len(normalized_shape), 0))
    y = over(minus(x, mean(x, dims, True)), root(plus(var(x, dims, False, True), eps)))
    y = y if weight is None else times_of(y, weight)
    return y if bias is None else plus(y, bias)


def rms_norm(x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, eps: float | None = None) -> Lam:
    dims = list(range(-len(normalized_shape), 0))
    if eps is None:
        raise NoClosedFormError("rms_norm adds an eps that depends on the dtype: give eps")
    y = over(x, root(plus(mean(square(x), dims, True), eps)))
    return y if weight is None else times_of(y, weight)


def batch_norm(
    x: Lam,
    running_mean: Lam,
    running_var: Lam,
    weight: Lam | None = None,
    bias: Lam | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Lam:
    if training:
        raise NoClosedFormError("batch_norm in training has no index form here")

    def channel(p: Lam) -> Lam:
        return Lam((*p.over, *(fresh(1) for _ in x.over[2:])), p.body)

    y = over(minus(x, channel(running_mean)), root(plus(channel(running_var), eps)))
    y = y if weight is None else times_of(y, channel(weight))
    return y if bias is None else plus(y, channel(bias))


def normalize(x: Lam, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Lam:
    return over(x, norm(x, p, dim, True))


def attention(
    query: Lam,
    key: Lam,
    value: Lam,
    attn_mask: None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Lam:
    if attn_mask is not None or dropout_p or is_causal:
        raise NoClosedFormError("attention with a mask or dropout has no index form here")
    scores = matmul(query, transposed(key))
    scores = over(scores, root(lam(query.shape[-1]))) if scale is None else times_of(scores, scale)
    return matmul(softmax(scores, -1), value)


def dropout(x: Lam, p: float = 0.5, training: bool = True, inplace: bool = False) -> Lam:
    if training and p:
        raise NoClosedFormError("dropout draws random numbers")
    return x


def leaky_relu(x: Lam, negative_slope: float = 0.01, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("where", fn("positive", p), p, scaled(p, negative_slope)), x)


def elu(x: Lam, alpha: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("where", fn("positive", p), p, scaled(fn("expm1", p), alpha)), x)


def gelu(x: Lam, approximate: str = "none") -> Lam:
    if approximate != "none":
        return elementwise(lambda p: times(scaled(p, Fraction(1, 2)), add(ONE, fn("tanh", times(number(math.sqrt(2 / math.pi)),
            add(p, scaled(power(p, 3), 0.044715)))))), x)  # fmt: skip
    return elementwise(lambda p: times(p, fn("normal_cdf", p)), x)


def softplus(x: Lam, beta: float = 1, threshold: float = 20) -> Lam:
    if beta == 1:
        return _scalar("softplus")(x)
    return elementwise(lambda p: times(number(1 / beta), fn("softplus", scaled(p, beta))), x)


def relu(x: Lam, inplace: bool = False) -> Lam:
    return _scalar("relu")(x)


def lerp(a: Operand, b: Operand, weight: Operand) -> Lam:
    return plus(a, times_of(weight, minus(b, a)))


def addcmul(x: Lam, a: Lam, b: Lam, value: float = 1) -> Lam:
    return plus(x, times_of(a, b), value)


def addcdiv(x: Lam, a: Lam, b: Lam, value: float = 1) -> Lam:
    return plus(x, over(a, b), value)


ENTRIES: Mapping[str, Callable[[Poly], Poly]] = {
    "sqrt": lambda p: power(p, "1/2"), "rsqrt": lambda p: power(p, "-1/2"), "square": lambda p: power(p, 2),
    "reciprocal": lambda p: power(p, -1), "neg": lambda p: scaled(p, -1), "negative": lambda p: scaled(p, -1),
    "silu": lambda p: times(p, fn("sigmoid", p)), "mish": lambda p: times(p, fn("tanh", fn("softplus", p))),
    "softsign": lambda p: times(p, power(add(ONE, fn("abs", p)), -1)),
    "tanhshrink": lambda p: add(p, scaled(fn("tanh", p), -1)),
    "logit": lambda p: fn("log", times(p, power(add(ONE, scaled(p, -1)), -1))),
    "sinc": lambda p: times(fn("sin", times(number(math.pi), p)), power(times(number(math.pi), p), -1)),
    "deg2rad": lambda p: scaled(p, math.pi / 180), "rad2deg": lambda p: scaled(p, 180 / math.pi),
    "relu6": lambda p: fn("minimum", fn("relu", p), number(6)), "frac": lambda p: add(p, scaled(fn("trunc", p), -1)),
    "hardtanh": lambda p: fn("minimum", fn("maximum", p, number(-1)), number(1)), "xlogy": lambda p: times(p, fn("log", p)),
    "entr": lambda p: scaled(times(p, fn("log", p)), -1), "detach": lambda p: fn("detach", p),
}  # fmt: skip


def masked_fill(x: Lam, mask: Lam, value: Operand) -> Lam:
    return where(mask, value, x)


def remainder(x: Operand, y: Operand) -> Lam:
    return minus(x, times_of(y, _scalar("floor")(over(x, y))))


def fmod(x: Operand, y: Operand) -> Lam:
    return minus(x, times_of(y, _scalar("trunc")(over(x, y))))


def difference(x: Lam, n: int = 1, dim: int = -1, prepend: None = None, append: None = None) -> Lam:
    for _ in range(n):
        size = x.shape[dim]
        x = minus(narrowed(x, dim % len(x.over), 1, size - 1), narrowed(x, dim % len(x.over), 0, size - 1))
    return x


def pairwise_distance(x1: Lam, x2: Lam, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Lam:
    return norm(plus(minus(x1, x2), eps), p, -1, keepdim)


def cdist(x1: Lam, x2: Lam, p: float = 2.0, compute_mode: str | None = None) -> Lam:
    return norm(minus(unsqueezed(x1, -2), unsqueezed(x2, -3)), p, -1)


def group_norm(x: Lam, num_groups: int, weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5) -> Lam:
    n, c, *rest = x.shape
    groups = reshaped(x, (n, num_groups, c // num_groups * math.prod(rest)))
    y = over(minus(groups, mean(groups, -1, True)), root(plus(var(groups, -1, False, True), eps)))
    y = reshaped(y, x.shape)
    for factor, combine in ((weight, times_of), (bias, plus)):
        if factor is not None:
            y = combine(y, Lam((*factor.over, *(fresh(1) for _ in rest)), factor.body))
    return y


def glu(x: Lam, dim: int = -1) -> Lam:
    a, b = chunk(x, 2, dim % len(x.over))
    return times_of(a, _scalar("sigmoid")(b))


def prelu(x: Lam, weight: Lam) -> Lam:
    slope = (
        weight
        if math.prod(weight.shape) == 1 or len(x.over) < 2
        else Lam((*weight.over, *(fresh(1) for _ in x.over[2:])), weight.body)
    )
    return where(_positive(x), x, times_of(slope, x))


def _positive(x: Operand) -> Lam:
    return elementwise(lambda p: fn("positive", p), x)


def threshold(x: Lam, threshold: float, value: float, inplace: bool = False) -> Lam:
    return where(_scalar("less")(threshold, x), x, value)


def softshrink(x: Lam, lambd: float = 0.5) -> Lam:
    size = elementwise(lambda p: fn("relu", add(fn("abs", p), number(-lambd))), x)
    return times_of(_scalar("sign")(x), size)


def hardshrink(x: Lam, lambd: float = 0.5) -> Lam:
    return where(elementwise(lambda p: fn("less", number(lambd), fn("abs", p)), x), x, 0)


def celu(x: Lam, alpha: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(
        lambda p: fn("where", fn("positive", p), p, scaled(fn("expm1", scaled(p, 1 / alpha)), alpha)), x
    )


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(x: Lam, inplace: bool = False) -> Lam:
    return times_of(elu(x, SELU_ALPHA), SELU_SCALE)


def hardsigmoid(x: Lam, inplace: bool = False) -> Lam:
    return over(clamp(plus(x, 3), 0, 6), 6)


def hardswish(x: Lam, inplace: bool = False) -> Lam:
    return times_of(x, hardsigmoid(x))


def gaussian_nll_loss(
    x: Lam, target: Lam, var: Lam, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Lam:
    if full:
        raise NoClosedFormError("the constant of the full loss is left out here")
    var = _scalar("maximum")(var, eps)
    each = times_of(plus(_scalar("log")(var), over(square(minus(x, target)), var)), 0.5)
    return _reduction(each, reduction)


def margin_ranking_loss(
    x1: Lam,
    x2: Lam,
    target: Lam,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    return _reduction(relu(plus(times_of(minus_one_times(target), minus(x1, x2)), margin)), reduction)


def poisson_nll_loss(
    x: Lam, target: Lam, log_input: bool = True, full: bool = False, size_average: None = None, eps: float = 1e-8,
    reduce: None = None, reduction: str = "mean",
) -> Lam:  # fmt: skip
    if full:
        raise NoClosedFormError("Stirling's term of the full loss has no form here")
    each = (
        minus(_scalar("exp")(x), times_of(target, x))
        if log_input
        else minus(x, times_of(target, _scalar("log")(plus(x, eps))))
    )
    return _reduction(each, reduction)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Lam, ...]:
    parts = list(tensors[0]) if isinstance(tensors[0], (list, tuple)) else list(tensors)
    over = [fresh(x.shape[0] if x.over else 1) for x in parts]
    grids = [Lam(tuple(over), x(over[k]) if x.over else x()) for k, x in enumerate(parts)]
    return tuple(transposed(g, 0, 1) if indexing == "xy" and len(parts) > 1 else g for g in grids)


MOST_PICKED = 256
"""Entries whose positions are written out."""


def picked(x: Lam, places: Tensor) -> Lam:
    """The entries of a tensor at places, counted from 1 through all of it; 0 stands for none.

    Raises:
        NoClosedFormError: there are too many to write them out.
    """
    if max(places.numel(), math.prod(x.shape)) > MOST_PICKED:
        raise NoClosedFormError("it picks too many entries to write their positions out: give a smaller example")
    flat = tuple(int(p) for p in places.reshape(-1).tolist())
    bare, shape = squeezed(x), tuple(size for size in places.shape if size != 1)
    found = moved(bare, "pick", (flat, bare.shape, shape), shape)
    rest = iter(found.over)
    return Lam(tuple(fresh(1) if size == 1 else next(rest) for size in places.shape), found.body)


def _each_axis(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * count if len(values) == 1 else values


def patches(x: Lam, kernel: Sequence[int], stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Lam:
    """The windows of an image: its first two axes, then where each stands, then its entries (0 in the padding)."""
    n = len(kernel)
    strides, widths, gaps = (_each_axis(v, n) for v in (stride, padding, dilation))
    places = torch.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
    places = torch.nn.functional.pad(places, [w for width in reversed(widths) for w in (width, width)])
    for k in range(n):
        places = places.unfold(2 + k, (kernel[k] - 1) * gaps[k] + 1, strides[k])[..., :: gaps[k]]
    return picked(x, places)


def _convolution(n: int) -> Callable[..., Lam]:
    def convolve(
        x: Lam,
        weight: Lam,
        bias: Lam | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Lam:
        if groups != 1 or isinstance(padding, str):
            raise NoClosedFormError("a convolution in groups, or with padding by a word, has no index form here")
        if len(x.over) == n + 1:
            return squeezed(convolve(unsqueezed(x, 0), weight, bias, stride, padding, dilation), 0)
        windows = patches(x, weight.shape[2:], stride, padding, dilation)
        batch, channel, *rest = windows.over
        out = fresh(weight.shape[0])
        places, entries = tuple(rest[:n]), tuple(rest[n:])
        y = Lam(
            (batch, out, *places), total(times(windows.body, weight(out, channel, *entries)), (channel, *entries))
        )
        return y if bias is None else plus(y, Lam((*bias.over, *(fresh(1) for _ in places)), bias.body))

    return convolve


def _pooling(n: int, pool: Callable[..., Lam]) -> Callable[..., Lam]:
    def pooled(x: Lam, kernel_size: Any, stride: Any = None, padding: Any = 0, *others: Any, **more: Any) -> Lam:
        if (
            (any(others)
            and others != (1,))
            or any(_each_axis(padding, 1))
            or any(v not in (False, None, 1, (1,), True) for v in more.values())
            or more.get("ceil_mode")
        ):
            raise NoClosedFormError("a pooling with padding, dilation or ceil_mode has no index form here")
        kernel = _each_axis(kernel_size, n)
        if len(x.over) == n + 1:
            return squeezed(pooled(unsqueezed(x, 0), kernel, stride), 0)
        return pool(patches(x, kernel, kernel if stride is None or stride == [] else stride), list(range(-n, 0)))

    return pooled


def _with_mean(spread: Callable[..., Lam]) -> Callable[..., tuple[Lam, Lam]]:
    def both(
        x: Lam, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, correction: int = 1
    ) -> tuple[Lam, Lam]:
        return spread(x, dim, unbiased, keepdim, correction), mean(x, None if isinstance(dim, bool) else dim, keepdim)

    return both


def hinge_embedding_loss(x: Lam, target: Lam, margin: float = 1.0, reduction: str = "mean") -> Lam:
    return _reduction(where(_positive(target), x, relu(minus(margin, x))), reduction)


def extremes(x: Lam, dim: int | None = None, keepdim: bool = False) -> tuple[Lam, Lam]:
    return _extreme("amin")(x, dim, keepdim), _extreme("amax")(x, dim, keepdim)


def column_stack(tensors: Sequence[Lam]) -> Lam:
    return joined([reshaped(x, (math.prod(x.shape), 1)) if len(x.over) < 2 else x for x in tensors], 1)


def cross(a: Lam, b: Lam, dim: int = -1) -> Lam:
    def turned(x: Lam, by: int) -> Lam:
        return rolled(x, by, dim)

    return minus(times_of(turned(a, -1), turned(b, -2)), times_of(turned(a, -2), turned(b, -1)))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _scalar(name) for name in SCALARS if name not in ("where", "power", "less", "positive", "normal_cdf", "not")},
    **{name: _of_entry(f) for name, f in ENTRIES.items()}, "expit": _scalar("sigmoid"), "absolute": _scalar("abs"),
    "arcsin": _scalar("asin"), "arccos": _scalar("acos"), "arctan": _scalar("atan"), "arcsinh": _scalar("asinh"),
    "arccosh": _scalar("acosh"), "arctanh": _scalar("atanh"), "arctan2": _scalar("atan2"), "ndtr": _scalar("normal_cdf"),
    "gammaln": _scalar("lgamma"), "psi": _scalar("digamma"), "sgn": _scalar("sign"), "fix": _scalar("trunc"),
    "fmax": _scalar("maximum"), "fmin": _scalar("minimum"), "op:pos": same, "positive": same, "clone": same, "contiguous": same,
    "float": same, "double": same, "alias": same, "resolve_conj": same, "resolve_neg": same, "real": same, "conj": same,
    "requires_grad_": same, "identity": same, "detach_copy": _of_entry(ENTRIES["detach"]), "clone_": same, "add": plus,
    "sub": minus, "subtract": minus, "rsub": lambda x, y, alpha=1: minus(y, x, alpha), "mul": times_of, "multiply": times_of,
    "div": over, "divide": over, "truediv": over, "true_divide": over, "pow": raised, "float_power": raised, "where": where,
    "hypot": lambda x, y: root(plus(square(x), square(y))), "xlogy": lambda x, y: times_of(x, _scalar("log")(y)),
    "logaddexp": lambda x, y: plus(y, _scalar("softplus")(minus(x, y))), "lt": _scalar("less"), "less": _scalar("less"),
    "gt": lambda x, y: _scalar("less")(y, x), "greater": lambda x, y: _scalar("less")(y, x), "clamp": clamp, "clip": clamp,
    "clamp_min": lambda x, min: clamp(x, min), "clamp_max": lambda x, max: clamp(x, None, max), "lerp": lerp,
    "addcmul": addcmul, "addcdiv": addcdiv, "leaky_relu": leaky_relu, "elu": elu, "gelu": gelu, "softplus": softplus,
    "relu": relu, **{f"conv{n}d": _convolution(n) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _pooling(n, mean) for n in (1, 2, 3)},
    **{f"max_pool{n}d": _pooling(n, _extreme("amax")) for n in (1, 2, 3)}, "dropout": dropout, "masked_fill": masked_fill,
    "remainder": remainder, "mod": remainder, "fmod": fmod, "diff": difference, "pairwise_distance": pairwise_distance,
    "cdist": cdist, "group_norm": group_norm, "glu": glu, "prelu": prelu, "threshold": threshold, "softshrink": softshrink,
    "hardshrink": hardshrink, "celu": celu, "selu": selu, "hardsigmoid": hardsigmoid, "hardswish": hardswish,
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0, inplace=False: clamp(x, min_val, max_val),
    "gaussian_nll_loss": gaussian_nll_loss, "margin_ranking_loss": margin_ranking_loss, "poisson_nll_loss": poisson_nll_loss,
    "meshgrid": meshgrid, "column_stack": column_stack, "cross": cross,
    "xlog1py": lambda x, y: times_of(x, _scalar("log1p")(y)), "conj_physical": same,
    "logaddexp2": lambda x, y: plus(y, over(_scalar("softplus")(times_of(minus(x, y), math.log(2))), math.log(2))),
    "ldexp": lambda x, y: times_of(x, _scalar("exp2")(y)), "hinge_embedding_loss": hinge_embedding_loss,
    "var_mean": _with_mean(var), "std_mean": _with_mean(std),
    "addbmm": lambda c, a, b, beta=1, alpha=1: plus(times_of(c, beta), summed(matmul(a, b), 0), alpha), "nansum": summed,
    "nanmean": mean, "inv_ex": lambda x: (inverse(x), None), "aminmax": extremes, "dropout1d": dropout, "dropout2d": dropout,
    "dropout3d": dropout, "alpha_dropout": dropout, "sum": summed, "mean": mean, "var": var, "std": std, "norm": norm,
    "vector_norm": lambda x, ord=2, dim=None, keepdim=False: norm(x, ord, dim, keepdim), "call:torch.linalg.norm": linalg_norm,
    "matrix_norm": linalg_norm, "dist": distance, "softmax": softmax, "log_softmax": log_softmax, "softmin": softmin,
    "logsumexp": logsumexp, "prod": prod, "amax": _extreme("amax"), "amin": _extreme("amin"),
    "max": _max_or_min("amax", "maximum"), "min": _max_or_min("amin", "minimum"), "cumsum": cumsum, "trace": trace,
    "matmul": matmul, "mm": matmul, "bmm": matmul, "mv": matmul, "dot": matmul, "vdot": matmul, "inner": inner, "outer": outer,
    "ger": outer, "einsum": einsum, "tensordot": tensordot, "linear": linear, "bilinear": bilinear, "addmm": addmm,
    "addmv": addmm, "addr": addr, "baddbmm": addmm, "multi_dot": multi_dot, "chain_matmul": multi_dot,
    "matrix_power": matrix_power, "vecdot": vecdot, "cosine_similarity": cosine_similarity, "kron": kron, "inv": inverse,
    "inverse": inverse, "det": det, "logdet": logdet, "solve": solve, "slogdet": slogdet, "T": reversed_axes, "mT": transposed,
    "t": reversed_axes, "H": reversed_axes, "mH": transposed, "adjoint": transposed, "transpose": transposed,
    "swapaxes": transposed, "swapdims": transposed, "permute": permuted, "movedim": movedim, "moveaxis": movedim,
    "unsqueeze": unsqueezed, "squeeze": squeezed, "view": reshaped, "reshape": reshaped,
    "view_as": lambda x, y: reshaped(x, y.shape), "reshape_as": lambda x, y: reshaped(x, y.shape), "flatten": flattened,
    "ravel": flattened,
    "unflatten": lambda x, dim, sizes: reshaped(x, (*x.shape[: dim % len(x.over)], *sizes, *x.shape[dim % len(x.over) + 1 :])),
    "expand": expanded, "expand_as": expanded_as, "broadcast_to": expanded, "flip": flipped, "fliplr": lambda x: flipped(x, 1),
    "flipud": lambda x: flipped(x, 0), "roll": rolled, "tril": _triangle("tril"), "triu": _triangle("triu"), "diag": diag,
    "diag_embed": embedded, "diagflat": lambda x: embedded(flattened(x)), "diagonal": diagonal_of, "op:getitem": item,
    "select": selected, "narrow": narrowed, "stack": stacked, "cat": joined, "concat": joined, "concatenate": joined,
    "split": split, "chunk": chunk, "unbind": unbound,
    "vstack": lambda xs: joined([x if len(x.over) > 1 else unsqueezed(x, 0) for x in xs]),
    "hstack": lambda xs: joined(xs, 0 if len(xs[0].over) == 1 else 1), "mse_loss": mse_loss, "l1_loss": l1_loss,
    "huber_loss": huber_loss, "smooth_l1_loss": smooth_l1_loss, "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": with_logits, "kl_div": kl_div, "soft_margin_loss": soft_margin_loss,
    "nll_loss": nll_loss, "cross_entropy": cross_entropy, "layer_norm": layer_norm, "rms_norm": rms_norm,
    "batch_norm": batch_norm, "normalize": normalize, "scaled_dot_product_attention": attention,
}  # fmt: skip
"""By the last part of an operation's name, or by its whole name where that is not enough."""
