"""Index forms: sums over indices of products of entries, scalar functions, powers, deltas and named functions of tensors.

A `Poly` is a sum of terms, a number for any values of its free indices; a `Lam` is a tensor: a Poly over indices that it binds.
Everything is frozen; the functions here keep what a form means and bring it to a shorter one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any


class NoClosedFormError(Exception):
    """Says why there is no closed form."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index that runs from 0 to `size - 1`; each has a number of its own."""

    number: int
    size: int


Axis = Index | int
"""An index, or a fixed position."""


@dataclass(frozen=True, slots=True)
class Sym:
    """An entry of a tensor that has a name."""

    name: str
    at: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """1 where both are equal, else 0."""

    a: Axis
    b: Axis


@dataclass(frozen=True, slots=True)
class Fn:
    """A scalar function of a form."""

    name: str
    args: tuple[Poly, ...]


@dataclass(frozen=True, slots=True)
class Power:
    """A power of a form; a sum to the power 1 is a bracket."""

    base: Poly
    exponent: Fraction


@dataclass(frozen=True, slots=True)
class Atom:
    """An entry of a function of tensors that keeps its name, as of inv(X); `params` are its other arguments."""

    name: str
    args: tuple[Lam, ...]
    at: tuple[Axis, ...]
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """An entry of the matrix (of zeros and ones) of an operation that moves or adds up entries: `name` with `params`."""

    name: str
    params: tuple[Any, ...]
    out: tuple[Axis, ...]
    into: tuple[Axis, ...]


Factor = Sym | Delta | Fn | Power | Atom | Move


@dataclass(frozen=True, slots=True)
class Term:
    """A coefficient times the sum, over `sums`, of a product."""

    coefficient: Fraction
    sums: tuple[Index, ...] = ()
    factors: tuple[Factor, ...] = ()


Poly = tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Lam:
    """A tensor: its entry for each value of the indices `over`."""

    over: tuple[Index, ...]
    body: Poly

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its axes."""
        return tuple(index.size for index in self.over)

    def __call__(self, *at: Axis) -> Poly:
        """Its entry at these places."""
        return substitute(self.body, dict(zip(self.over, at, strict=True)))


_numbers = itertools.count()


def fresh(size: int) -> Index:
    """An index that is in no other form."""
    return Index(next(_numbers), size)


def number(value: Any) -> Poly:
    """A constant."""
    value = value if isinstance(value, Fraction) else Fraction(str(value))
    return (Term(value),) if value else ()


ONE = number(1)


def of(factor: Factor) -> Poly:
    """A form of one factor."""
    return normal(Term(Fraction(1), (), (factor,)))


def atom(name: str, *args: Lam, at: tuple[Axis, ...] = (), params: tuple[Any, ...] = ()) -> Poly:
    """A form of one entry of an atom."""
    return of(Atom(name, args, at, params))


# --- what a form is made of ------------------------------------------------------------------------------------------


def mapped(factor: Factor, axis: Any, poly: Any) -> Factor:
    """A factor with each of its axes and each of its forms replaced; a Lam's own indices are axes of its form."""
    match factor:
        case Sym(name, at):
            return Sym(name, tuple(map(axis, at)))
        case Delta(a, b):
            return Delta(axis(a), axis(b))
        case Fn(name, args):
            return Fn(name, tuple(map(poly, args)))
        case Power(base, exponent):
            return Power(poly(base), exponent)
        case Atom(name, args, at, params):
            return Atom(name, tuple(Lam(a.over, poly(a.body)) for a in args), tuple(map(axis, at)), params)
        case Move(name, params, out, into):
            return Move(name, params, tuple(map(axis, out)), tuple(map(axis, into)))


def substitute(poly: Poly, by: Mapping[Index, Axis]) -> Poly:
    """The form with axes in the place of free indices, brought to its normal form."""
    by = {a: b for a, b in by.items() if a != b}
    if not by:
        return poly
    return add(*(normal(term) for term in renamed(poly, by)))


def renamed(poly: Poly, by: Mapping[Index, Axis]) -> Poly:
    """The form with axes in the place of free indices, term by term as it stands but where that decides something.

    It does where a delta is a number now, and where indices that differed are one, so that terms may be alike.
    """
    found: list[Term] = []
    free = indices(poly) if len(poly) > 1 else frozenset()
    stays = [by.get(i, i) for i in free]
    for term in poly:
        inner = {a: b for a, b in by.items() if a not in term.sums}
        clash = [s for s in term.sums if s in inner.values()]
        fresh_sums = {s: fresh(s.size) for s in clash}
        inner |= fresh_sums
        sums = tuple(fresh_sums.get(s, s) for s in term.sums)
        new = Term(term.coefficient, sums, tuple(rename(f, inner) for f in term.factors))
        found += normal(new) if any(map(_decided, new.factors)) else (new,)
    alike = len(set(stays)) < len(stays) or any(isinstance(a, int) for a in stays)
    return add(found) if alike else tuple(found)


def _decided(factor: Factor) -> bool:
    """Whether a factor is a number whatever its indices are."""
    match factor:
        case Delta(a, b):
            return a == b or (isinstance(a, int) and isinstance(b, int))
        case Power(base):
            return not base
    return False


def rename(factor: Factor, by: Mapping[Index, Axis]) -> Factor:
    """A factor with axes in the place of free indices."""
    if isinstance(factor, Atom):  # what a Lam binds stays bound
        args = []
        for lam in factor.args:
            inner = {a: b for a, b in by.items() if a not in lam.over}
            clash = {s: fresh(s.size) for s in lam.over if s in inner.values()}
            args.append(Lam(tuple(clash.get(s, s) for s in lam.over), renamed(lam.body, {**inner, **clash})))
        return replace(
            factor, args=tuple(args), at=tuple(by.get(a, a) if isinstance(a, Index) else a for a in factor.at)
        )
    return mapped(factor, lambda a: by.get(a, a) if isinstance(a, Index) else a, lambda p: renamed(p, by))


def indices(item: Poly | Factor) -> frozenset[Index]:
    """The free indices of a form or a factor."""
    if isinstance(item, tuple):
        return frozenset().union(*((indices_of(t.factors) - set(t.sums)) for t in item)) if item else frozenset()
    match item:
        case Sym(_, at):
            found: Iterable[Axis] = at
        case Delta(a, b):
            found = (a, b)
        case Fn(_, args):
            return frozenset().union(*map(indices, args))
        case Power(base, _):
            return indices(base)
        case Atom(_, args, at, _):
            inner = frozenset().union(*(indices(lam.body) - set(lam.over) for lam in args))
            return inner | {a for a in at if isinstance(a, Index)}
        case Move(_, _, out, into):
            found = (*out, *into)
    return frozenset(a for a in found if isinstance(a, Index))


def indices_of(factors: Iterable[Factor]) -> frozenset[Index]:
    """The free indices of several factors."""
    return frozenset().union(*map(indices, factors))


def names(poly: Poly) -> set[str]:
    """The names of the tensors in a form."""
    found: set[str] = set()
    for factor in (f for term in poly for f in term.factors):
        if isinstance(factor, Sym):
            found.add(factor.name)
        for inner in parts(factor):
            found |= names(inner)
    return found


def parts(factor: Factor) -> tuple[Poly, ...]:
    """The forms inside a factor."""
    match factor:
        case Fn(_, args):
            return args
        case Power(base, _):
            return (base,)
        case Atom(_, args, _, _):
            return tuple(lam.body for lam in args)
    return ()


def replace_entries(poly: Poly, name: str, by: Lam) -> Poly:
    """The form with a tensor's entries written out by another form."""

    def factor_of(factor: Factor) -> Poly:
        if isinstance(factor, Sym) and factor.name == name:
            return by(*factor.at)
        return of(mapped(factor, lambda a: a, lambda p: replace_entries(p, name, by)))

    found = []
    for term in poly:
        product = times(number(term.coefficient), *map(factor_of, term.factors))
        found.append(total(product, term.sums))
    return add(*found)


# --- equality up to the names of what is bound -----------------------------------------------------------------------


def key(poly: Poly, bound: Mapping[Index, str] | None = None) -> str:
    """Equal for two forms that differ by the names of bound indices and by order alone."""
    return _free_key(poly) if not bound else _key(poly, bound)


def _key(poly: Poly, bound: Mapping[Index, str]) -> str:
    return "+".join(sorted(f"{term.coefficient}{key_of(term, bound)}" for term in poly))


@lru_cache(maxsize=2**14)
def _free_key(poly: Poly) -> str:
    return _key(poly, {})


def key_of(term: Term, bound: Mapping[Index, str]) -> str:
    """The key of a term without its coefficient."""
    depth, sizes = len(bound), sorted({s.size for s in term.sums})
    alike = [[s for s in term.sums if s.size == size] for size in sizes]  # what may be called by another's name
    orders = (
        tuple(itertools.chain.from_iterable(choice))
        for choice in itertools.product(*(itertools.permutations(own) if len(own) <= 4 else [own] for own in alike))
    )

    def named(order: tuple[Index, ...]) -> str:
        inner = {**bound, **{s: f"b{depth + k}:{s.size}" for k, s in enumerate(order)}}
        return "*".join(sorted(factor_key(f, inner) for f in term.factors))

    return f"Σ{sorted(s.size for s in term.sums)}{min(map(named, orders))}"


def factor_key(factor: Factor, bound: Mapping[Index, str]) -> str:
    """The key of a factor, where `bound` gives the indices bound around it their names."""

    def axis(a: Axis) -> str:
        return bound.get(a) or f"i{a.number}" if isinstance(a, Index) else str(a)

    def axes(at: Iterable[Axis]) -> str:
        return ",".join(map(axis, at))

    match factor:
        case Sym(name, at):
            return f"{name}[{axes(at)}]"
        case Delta(a, b):
            return f"δ[{','.join(sorted((axis(a), axis(b))))}]"
        case Fn(name, args):
            return f"{name}({';'.join(key(a, bound) for a in args)})"
        case Power(base, exponent):
            own = key(base, bound)
            if len(base) > 1 and exponent % 2 == 0:  # (a − b)² is (b − a)²
                own = min(own, key(scaled(base, -1), bound))
            return f"({own})^{exponent}"
        case Atom(name, args, at, params):
            inner = [
                key(lam.body, {**bound, **{s: f"l{len(bound) + k}:{s.size}" for k, s in enumerate(lam.over)}})
                for lam in args
            ]
            return f"{name}{params}<{';'.join(inner)}>[{axes(at)}]"
        case Move(name, params, out, into):
            return f"{name}{params}[{axes(out)};{axes(into)}]"


# --- algebra ---------------------------------------------------------------------------------------------------------


def add(*polys: Iterable[Term]) -> Poly:
    """The sum, with like terms put together."""
    found: dict[Any, Term] = {}
    for term in itertools.chain.from_iterable(polys):
        same = key_of(term, {})
        before = found.get(same)
        found[same] = term if before is None else replace(before, coefficient=before.coefficient + term.coefficient)
    return tuple(term for term in found.values() if term.coefficient)


def times(*polys: Poly) -> Poly:
    """The product; sums stay brackets."""
    coefficient = Fraction(1)
    sums: list[Index] = []
    factors: list[Factor] = []
    for poly in polys:
        if not poly:
            return ()
        term = poly[0] if len(poly) == 1 else Term(Fraction(1), (), (Power(poly, Fraction(1)),))
        used = indices_of(factors) | set(sums)
        clash = {s: fresh(s.size) for s in term.sums if s in used}
        own = indices(poly)
        taken = {
            s: fresh(s.size) for s in sums if s in own
        }  # a free index of this one is bound in what stands already
        factors = [rename(f, taken) for f in factors] if taken else factors
        sums = [taken.get(s, s) for s in sums]
        coefficient *= term.coefficient
        sums += [clash.get(s, s) for s in term.sums]
        factors += [rename(f, clash) for f in term.factors] if clash else term.factors
    return normal(Term(coefficient, tuple(sums), tuple(factors)))


def scaled(poly: Poly, by: Any) -> Poly:
    """Each term times a number."""
    by = number(by)
    return tuple(replace(term, coefficient=term.coefficient * by[0].coefficient) for term in poly) if by else ()


def distributed(by: Poly, poly: Poly) -> Poly:
    """by times each term of a sum."""
    return add(*(times(by, (term,)) for term in poly))


def power(base: Poly, exponent: Any) -> Poly:
    """base to a power."""
    return of(Power(base, Fraction(str(exponent))))


def total(poly: Poly, over: Iterable[Index]) -> Poly:
    """The sum over indices."""
    over = tuple(over)
    if not over:
        return poly
    if len(poly) > 1:
        return normal(Term(Fraction(1), over, (Power(poly, Fraction(1)),)))
    return add(*(normal(replace(term, sums=(*over, *term.sums))) for term in poly))


def total_of(outer: Poly, inner: Poly, over: tuple[Index, ...]) -> Poly:
    """Σ outer·inner, term by term, so that deltas are summed away."""
    return add(*(total(times((a,), (b,)), over) for a in outer for b in inner))


def fn(name: str, *args: Poly) -> Poly:
    """A scalar function of forms."""
    return of(Fn(name, args))


def constant_of(poly: Poly) -> Fraction | None:
    """The number that a form is, if it is one."""
    if not poly:
        return Fraction(0)
    (first, *more) = poly
    return first.coefficient if not more and not first.factors and not first.sums else None


def symmetric(lam: Lam) -> bool:
    """Whether a matrix is its own transpose, by its form."""
    a, b = lam.over
    return a.size == b.size and key(lam.body) == key(lam(b, a))


def expanded(poly: Poly) -> Poly:
    """The form with every bracket multiplied out, also inside of powers and functions, so that terms may cancel."""
    found: list[Poly] = []
    for term in poly:
        product: Poly = (Term(term.coefficient),)
        for factor in term.factors:
            factor = mapped(factor, lambda a: a, expanded)
            inner = of(factor)
            product = (
                add(*(times((a,), (b,)) for a in product for b in inner))
                if len(product) * len(inner) <= 64
                else times(product, inner)
            )
        found += [total((one,), term.sums) for one in product]
    return add(*found)


IDEMPOTENT = frozenset({"positive", "less", "at_most", "equal", "unequal", "not"})
"""Functions that are 0 or 1: their powers are themselves."""


EPSILON = "levi_civita"
"""The atom of three places, of no tensor, that is 1 for 0, 1, 2 in their order or turned, −1 in the other order, and else 0."""


PARTITIONS = frozenset({"softmax", "one_hot"})
"""Atoms whose entries add up to 1."""


def normal(term: Term) -> Poly:
    """A term in normal form: deltas summed away, single terms inlined, equal factors put together."""
    coefficient, sums, factors = term.coefficient, list(term.sums), list(term.factors)
    while True:
        if not coefficient:
            return ()
        step = _delta(sums, factors)
        if step is None:
            return ()
        if step:
            continue
        inlined = _inline(sums, factors)
        if inlined is None:
            return ()
        changed, number_left = inlined
        coefficient *= number_left
        if changed:
            continue
        if _moved(sums, factors) or _orthogonal(sums, factors) or _uninverted(sums, factors) or _split(factors):
            continue
        break
    if any(isinstance(f, Atom) and f.name == EPSILON and len(set(f.at)) < 3 for f in factors):
        return ()
    factors = [f for factor in factors for f in _unmoved(factor)]
    factors = _gathered([_logistic(_ordered(f)) for f in factors])
    met = _met(factors)
    if met is not None:
        return normal(Term(coefficient, tuple(sums), met))
    for parting in [f for f in factors if isinstance(f, Atom) and f.name in PARTITIONS]:
        place = parting.at[0] if len(parting.at) == 1 else None
        once = sum(place in indices(f) for f in factors) == 1
        if isinstance(place, Index) and place in sums and once and not any(place in indices(lam.body) for lam in parting.args):
            factors.remove(parting)
            sums.remove(place)
    for factor in list(factors):
        if isinstance(factor, Power) and factor.exponent == 1:
            alone = [s for s in sums if s in indices(factor) and sum(s in indices(f) for f in factors) == 1]
            if any(not add(*(total((t,), (s,)) for t in factor.base)) for s in alone):
                return ()  # as of what is left of entries when their mean is taken off
    if coefficient < 0:
        for k, factor in enumerate(factors):
            if isinstance(factor, Power) and factor.exponent == 1 and any(t.coefficient < 0 for t in factor.base):
                factors[k] = Power(scaled(factor.base, -1), Fraction(1))
                coefficient = -coefficient
                break
    for k, bracket in enumerate(factors):  # a sum over a power of the same sum
        inner = _summed_once(bracket)
        group = _alike(inner, sums, factors, k) if inner is not None else None
        if inner is not None and group is not None and isinstance(bracket, Power):
            left = [f for n, f in enumerate(factors) if n not in group and n != k]
            kept = [s for s in sums if s in indices_of(left)]
            left.append(Power(bracket.base, bracket.exponent + 1))
            return normal(Term(coefficient / inner.coefficient, tuple(kept), tuple(left)))
    used = indices_of(factors)
    for index in [s for s in sums if s not in used]:
        coefficient *= index.size
        sums.remove(index)
    if not coefficient:
        return ()
    only = factors[0] if len(factors) == 1 else None
    if isinstance(only, Power) and only.exponent == 1 and not sums and coefficient == 1:
        return only.base
    return (Term(coefficient, tuple(sums), tuple(factors)),)


def _delta(sums: list[Index], factors: list[Factor]) -> bool | None:
    """Sum one delta away; None: it is zero, False: there is none to sum away."""
    for k, factor in enumerate(factors):
        if not isinstance(factor, Delta):
            continue
        a, b = factor.a, factor.b
        if isinstance(a, int) and isinstance(b, int):
            if a != b:
                return None
            del factors[k]
            return True
        if a == b or any(isinstance(s, int) and isinstance(t, Index) and t.size == 1 for s, t in ((a, b), (b, a))):
            del factors[k]
            return True
        for gone, stays in ((a, b), (b, a)):
            if isinstance(gone, Index) and gone in sums:
                del factors[k]
                sums.remove(gone)
                factors[:] = [rename(f, {gone: stays}) for f in factors]
                return True
    return False


def _inline(sums: list[Index], factors: list[Factor]) -> tuple[bool, Fraction] | None:
    """Put the factors of one power of a single term in its place: whether there was one, and its number; None: it is zero."""
    for k, factor in enumerate(factors):
        if not isinstance(factor, Power):
            continue
        base, e = factor.base, factor.exponent
        if e == 0:
            del factors[k]
            return True, Fraction(1)
        if not base:
            if e > 0:
                return None
            continue
        if len(base) != 1:
            continue
        (inner,) = base
        if e == 1:
            used = indices_of(f for n, f in enumerate(factors) if n != k) | set(sums)
            clash = {s: fresh(s.size) for s in inner.sums if s in used}
            sums += [clash.get(s, s) for s in inner.sums]
            factors[k : k + 1] = [rename(f, clash) for f in inner.factors] if clash else inner.factors
            return True, inner.coefficient
        if inner.sums:
            continue
        if not inner.factors:
            if inner.coefficient < 0 and e.denominator != 1:
                continue
            del factors[k]
            if e.denominator == 1:
                return True, inner.coefficient**e.numerator
            return True, Fraction(str(float(inner.coefficient) ** float(e)))
        only = inner.factors[0]
        bare = inner.coefficient == 1 and len(inner.factors) == 1
        if bare and (not isinstance(only, Power) or (e.denominator != 1 and only.exponent != -1)):
            if isinstance(only, Power) or not (
                isinstance(only, Delta) or (isinstance(only, Fn) and only.name in IDEMPOTENT)
            ):
                continue
            if e > 0:
                factors[k] = only
                return True, Fraction(1)
            continue
        if e.denominator != 1 and not bare:
            continue
        factors[k : k + 1] = [
            Power(f.base, f.exponent * e) if isinstance(f, Power) else Power(_bare(f), e)
            for f in inner.factors
        ]
        return True, inner.coefficient**e.numerator if e.denominator == 1 else Fraction(1)
    return False, Fraction(1)


def _ordered(factor: Factor) -> Factor:
    """The inverse of a symmetric matrix is symmetric: its indices stand in one order."""
    if isinstance(factor, Atom) and factor.name == "inv" and symmetric(factor.args[0]):
        return replace(factor, at=tuple(sorted(factor.at, key=lambda a: a.number if isinstance(a, Index) else -1)))
    return factor


def _summed_once(factor: Factor) -> Term | None:
    """The one sum that a factor is a power of, where it stands below."""
    if isinstance(factor, Power) and factor.exponent < 0 and len(factor.base) == 1 and factor.base[0].sums:
        return factor.base[0]
    return None


def _alike(inner: Term, sums: list[Index], factors: list[Factor], but: int) -> set[int] | None:
    """Factors that are, with the sums that run over them alone, such a sum; None: none are."""
    want = key_of(inner, {})
    for s in sums:
        near = {n for n, f in enumerate(factors) if n != but and s in indices(f)}
        group = _reached(factors, near, sums, [], but)
        own = tuple(i for i in sums if i in indices_of(factors[n] for n in group))
        found = Term(Fraction(1), own, tuple(factors[n] for n in sorted(group)))
        if own and not set(own) & indices(factors[but]) and want == key_of(found, {}):
            return group
    return None


ORTHOGONAL = {"eigenvectors": (0, 1), "left_vectors": (0,), "right_vectors": (1,)}
"""Matrices, and the axes over which the sum of two entries' products is 1 where both are the same, else 0."""


def _orthogonal(sums: list[Index], factors: list[Factor]) -> bool:
    """Sum a product of two entries of an orthogonal matrix away: whether there was one."""
    found = [f for f in factors if isinstance(f, Atom) and f.name in ORTHOGONAL]
    for f, g in itertools.combinations(found, 2):
        for axis in ORTHOGONAL[f.name]:
            s = f.at[axis]
            alone = isinstance(s, Index) and s in sums and sum(s in indices(h) for h in factors) == 2
            same = f.name == g.name and g.at[axis] == s and key(f.args[0].body) == key(g.args[0](*f.args[0].over))
            if alone and same:
                factors[:] = [h for h in factors if h is not f and h is not g] + [Delta(f.at[1 - axis], g.at[1 - axis])]
                sums.remove(s)  # type: ignore[arg-type]
                return True
    return False


def _uninverted(sums: list[Index], factors: list[Factor]) -> bool:
    """Sum a factor that meets itself in an inverse away: inv(A·R)·A is inv(R), and R·inv(A·R) is inv(A); whether there was one.

    All are square, so that each has an inverse where the product has one.
    """
    for f, side in itertools.product((f for f in factors if isinstance(f, Atom) and f.name == "inv"), (1, 0)):
        (lam,), s = f.args, f.at[side]
        inner, outer = lam.over[1 - side], lam.over[side]
        term = lam.body[0] if len(lam.body) == 1 else Term(Fraction(1), (), (Power(lam.body, Fraction(1)),))
        near = [g for g in factors if g is not f and s in indices(g)]
        first = [h for h in term.factors if inner in indices(h)]
        if s not in sums or f.at[0] == f.at[1] or len(near) != 1 or len(first) != 1:
            continue
        (g,), (h,) = near, first
        ends = [i for i in indices(h) if i == outer or i in term.sums]
        if len(ends) != 1 or ends[0].size != inner.size:
            continue
        (end,), rest = ends, tuple(r for r in term.factors if r is not h)
        want = factor_key(g, {})
        met = next((j for j in indices(g) - {s} if factor_key(rename(h, {inner: s, end: j}), {}) == want), None)
        if met is None or (end == outer and (rest or term.coefficient != 1)):
            continue
        at = (f.at[0], met) if side else (met, f.at[1])
        left: Factor = Delta(*at)
        if end != outer:
            over = (end, outer) if side else (outer, end)
            body = normal(Term(term.coefficient, tuple(i for i in term.sums if i != end), rest))
            left = Atom("inv", (Lam(over, body),), at)
        factors[:] = [r for r in factors if r is not f and r is not g] + [left]
        sums.remove(s)
        return True
    return False


def _split(factors: list[Factor]) -> bool:
    """A delta of axes that a reshape splits alike as deltas of their parts: whether there was one."""
    for k, f in enumerate(factors):
        if not (isinstance(f, Atom) and f.name == "move" and f.params[0] in ("reshape", ADJOINT + "reshape")):
            continue
        (lam,), parts_of, rest = f.args, {}, list(f.at)
        term = lam.body[0] if len(lam.body) == 1 else Term(Fraction(1))
        shape = list(f.params[2 if f.params[0] == "reshape" else 1])
        for index in lam.over:
            own, size = [], 1
            while shape and size < index.size:
                size *= shape[0]
                own.append((shape.pop(0), rest.pop(0)))
            parts_of[index] = [part for part in own if part[0] != 1] if size == index.size else None
        pairs = [d for d in term.factors if isinstance(d, Delta) and {d.a, d.b} <= {*lam.over}]
        others = tuple(g for g in term.factors if g not in pairs)
        split = [(parts_of[d.a], parts_of[d.b]) for d in pairs]  # type: ignore[index]
        each = sorted((i for d in pairs for i in (d.a, d.b) if isinstance(i, Index)), key=lambda i: i.number)
        if each != sorted(lam.over, key=lambda i: i.number) or indices_of(others) & {*lam.over}:
            continue
        if any(a is None or b is None or [n for n, _ in a] != [n for n, _ in b] for a, b in split):
            continue
        deltas = [Delta(a, b) for left, right in split for (_, a), (_, b) in zip(left or (), right or (), strict=True)]
        factors[k : k + 1] = [Power((Term(term.coefficient, term.sums, (*others, *deltas)),), Fraction(1))]
        return True
    return False


def _unmoved(factor: Factor) -> tuple[Factor, ...]:
    """The entries that a move only brings elsewhere are what they are where all are alike."""
    if not (isinstance(factor, Atom) and factor.name == "move" and not indices(factor.args[0].body) & set(factor.args[0].over)):
        return (factor,)
    name, *params = factor.params
    alike = name.removeprefix(ADJOINT) in ("reshape", "flip", "roll") or name in ("slice", ADJOINT + "pad")
    alike = alike or (name == "pick" and 0 not in params[0])
    if name == ADJOINT + "pick":  # each entry goes to a place of its own
        alike = sorted(p for p in params[0] if p) == [*range(1, math.prod(params[1]) + 1)]
    if not alike:
        return (factor,)
    return (Power(factor.args[0].body, Fraction(1)),)


def parted(factor: Factor) -> tuple[Poly, Fraction]:
    """What a factor is a power of, and which."""
    return (factor.base, factor.exponent) if isinstance(factor, Power) else (_bare(factor), Fraction(1))


def _bare(factor: Factor) -> Poly:
    return (Term(Fraction(1), (), (factor,)),)


def _logistic(factor: Factor) -> Factor:
    """1/(1 + exp(x)) is σ(−x)."""
    match factor:
        case Power((Term() as s, Term() as t), e) if e < 0:
            for one, other in ((s, t), (t, s)):
                match other.factors:
                    case (Fn("exp", (x,)) as exp,) if (one,) == ONE and (other,) == _bare(exp):
                        return Power(_bare(Fn("sigmoid", (scaled(x, -1),))), -e)
    return factor


QUOTIENTS = {"sin": ("cos", "tan"), "sinh": ("cosh", "tanh")}
"""Functions, what they are divided by, and what the quotient is."""


def _met(factors: list[Factor]) -> tuple[Factor, ...] | None:
    """The factors with two of them as one function; None: no two make one."""
    for f, g in itertools.permutations(factors, 2):
        if isinstance(f, Fn) and f.name in (*QUOTIENTS, "sign", "exp", "power", "positive", "at_most", "less"):
            found = _as_one(f, *parted(g))
            if found is not None:
                return (*(h for h in factors if h is not f and h is not g), *found)
    return None


def _as_one(f: Fn, base: Poly, e: Fraction) -> tuple[Factor, ...] | None:
    """A function times a power of a form, if that is something shorter."""
    other = base[0].factors[0] if len(base) == 1 and len(base[0].factors) == 1 and base == _bare(base[0].factors[0]) else None
    (x, *more) = f.args
    match other:
        case Fn(name, args) if f.name in QUOTIENTS and name == QUOTIENTS[f.name][0] and e <= -1 and key(args[0]) == key(x):
            return Fn(QUOTIENTS[f.name][1], (x,)), Power(base, e + 1)
        case Fn("abs", (y,)) if f.name == "sign" and e <= -1 and key(x) == key(y):
            return Power(x, Fraction(-1)), Power(base, e + 1)
        case Fn("sigmoid", (y,)) if f.name == "exp" and e >= 1 and key(scaled(x, -1)) == key(y):
            return Fn("sigmoid", (x,)), Power(base, e - 1)
    masked = _masked(f)
    if masked is not None and e > 0:
        x, whole, alike = masked
        if isinstance(other, Fn) and other.name in alike and key(other.args[0]) == key(x) and other.args[1:] in ((), ((),)):
            return (Power(base, e),)
        return (Power(_bare(whole), e),) if key(x) == key(base) else None
    if f.name == "sign" and e >= 1 and key(x) == key(base):
        return Fn("abs", (x,)), Power(base, e - 1)
    if f.name == "power" and e.denominator == 1 and key(x) == key(base):
        return (Fn("power", (x, add(more[0], number(e)))),)
    return None


def _masked(f: Fn) -> tuple[Poly, Fn, frozenset[str]] | None:
    """A form compared with zero, that form with zero where it does not hold, and the functions that are so already."""
    match f.name, f.args:
        case "positive", (x,):
            return x, Fn("relu", (x,)), ABOVE
        case "at_most", ((), x):
            return x, Fn("clamp_min", (x, ())), ABOVE
        case "less", ((), x):
            return x, Fn("maximum", (x, ())), ABOVE
        case "at_most", (x, ()):
            return x, Fn("clamp_max", (x, ())), BELOW
        case "less", (x, ()):
            return x, Fn("minimum", (x, ())), BELOW
    return None


ABOVE, BELOW = frozenset({"relu", "clamp_min", "maximum"}), frozenset({"clamp_max", "minimum"})
"""Functions that are zero below zero, and above it, where their other argument is zero."""


def _gathered(factors: list[Factor]) -> list[Factor]:
    """Equal factors as powers of one."""
    found: dict[Any, tuple[Factor, Fraction]] = {}
    for factor in factors:
        base, e = parted(factor)
        same = key(base)
        before = found.get(same)
        once = isinstance(factor, Delta) or (isinstance(factor, Fn) and factor.name in IDEMPOTENT)
        if before is None:
            found[same] = (factor, e)
        elif not once:
            found[same] = (before[0], before[1] + e)
    out: list[Factor] = []
    for factor, e in found.values():
        base, _ = parted(factor)
        if e == 1 and len(base) == 1 and base[0].coefficient == 1 and not base[0].sums:
            out += base[0].factors
        elif e:
            out.append(factor if isinstance(factor, Power) and factor.exponent == e else Power(base, e))
    return out


def _moved(sums: list[Index], factors: list[Factor]) -> bool:
    """Sum the matrix of a move away: what it moves is a tensor then."""
    for k, move in enumerate(factors):
        if not isinstance(move, Move):
            continue
        for bound, others, name in ((move.out, move.into, adjoint(move.name)), (move.into, move.out, move.name)):
            over = [a for a in bound if isinstance(a, Index)]
            if len(over) != len(bound) or not over or not set(over) <= set(sums):
                continue
            twins: list[Factor] = []  # an index that stands twice is two that are equal
            for n, a in enumerate(list(over)):
                if a in over[:n]:
                    over[n] = fresh(a.size)
                    twins.append(Delta(a, over[n]))
            fixed = {a for a in others if isinstance(a, Index)}
            near = {n for n, f in enumerate(factors) if n != k and indices(f) & set(over)}
            ways = [_with_sums(factors, inside, sums, over, k) for inside in (near, _reached(factors, near, sums, over, k))]
            inside, with_own = min(ways, key=lambda way: len(indices_of(factors[n] for n in way[0]) - set(way[1])))
            taken = [factors[n] for n in sorted(inside)]
            if indices_of(taken) & fixed or any(isinstance(f, Delta) for f in taken):
                continue
            body = normal(Term(Fraction(1), tuple(with_own), (*taken, *twins)))
            for s in {*over, *with_own} & set(sums):
                sums.remove(s)
            factors[:] = [f for n, f in enumerate(factors) if n != k and n not in inside]
            factors.append(Atom("move", (Lam(tuple(over), body),), others, (name, *move.params)))
            return True
    return False


def _reached(factors: list[Factor], near: set[int], sums: list[Index], over: list[Index], move: int) -> set[int]:
    """The factors that sums join with those that a move takes."""
    inside = set(near)
    while True:
        joined = (indices_of(factors[n] for n in inside) & set(sums)) - set(over)
        more = {n for n, f in enumerate(factors) if n not in inside and n != move and indices(f) & joined}
        if not more:
            return inside
        inside |= more


def _with_sums(
    factors: list[Factor], inside: set[int], sums: list[Index], over: list[Index], move: int
) -> tuple[set[int], list[Index]]:
    """The factors that a move takes, and the sums that run over them alone."""
    own, others = (
        indices_of(f for n, f in enumerate(factors) if (n in inside) is chosen and n != move) for chosen in (True, False)
    )
    return inside, [s for s in sums if s not in over and s in own and s not in others]


ADJOINT = "adjoint "
"""What stands before the name of a move whose matrix is transposed."""


def adjoint(name: str) -> str:
    """The name of the move with the transposed matrix; some are their own."""
    return name if name in ("flip", "tril", "triu") else ADJOINT + name
