"""Equal forms that are shorter: common factors taken out, brackets multiplied out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from jvpcli.symbolic.forms import (
    Atom,
    Axis,
    Delta,
    Factor,
    Fn,
    Index,
    Move,
    Poly,
    Power,
    Sym,
    Term,
    add,
    constant_of,
    distributed,
    expanded,
    fn,
    fresh,
    indices,
    indices_of,
    key,
    mapped,
    normal,
    number,
    parted,
    parts,
    power,
    rename,
    scaled,
    times,
)


@lru_cache(maxsize=1024)
def variants(poly: Poly) -> tuple[Poly, ...]:
    """Equal forms that may be shorter."""
    if weight(poly) > LARGEST_EXPANDED:
        return tuple(dict.fromkeys((poly, collected(poly, through=False))))
    one = joined(poly)
    ways = (
        form
        for whole in dict.fromkeys((poly, expanded(poly), *([one] if weight(one) <= weight(poly) else ())))
        for form in (whole, collected(whole, through=False), collected(whole))
    )
    return tuple(dict.fromkeys(other for form in ways for other in (form, *_numbered(form))))


LARGEST_EXPANDED = 60
"""Factors up to which a form is multiplied out in search of a shorter one."""


def weight(poly: Poly) -> int:
    """How many factors a form has, at all depths."""
    return sum(1 + sum(map(weight, parts(f))) for term in poly for f in term.factors)


def joined(poly: Poly) -> Poly:
    """The form with each sum over one denominator, so that no quotient stands in another."""
    poly = add(*(normal(replace(t, factors=tuple(mapped(f, lambda a: a, joined) for f in t.factors))) for t in poly))
    below: dict[str, Power] = {}
    for term in poly:
        for f in term.factors:
            if (
                isinstance(f, Power)
                and f.exponent < 0
                and f.exponent.denominator == 1
                and not indices(f) & {*term.sums}
            ):
                same = key(f.base)
                below[same] = min(f, below.get(same, f), key=lambda p: p.exponent)
    if len(poly) < 2 or not below:
        return poly
    above = times(*(power(f.base, -f.exponent) for f in below.values()))
    return times(expanded(distributed(above, poly)), *(power(f.base, f.exponent) for f in below.values()))


def _numbered(poly: Poly) -> Iterator[Poly]:
    """The form with a number in front of a bracket."""
    size = abs(poly[0].coefficient) if len(poly) > 1 else Fraction(1)
    if size != 1:
        yield (Term(size, (), (Power(scaled(poly, 1 / size), Fraction(1)),)),)


def collected(poly: Poly, through: bool = True) -> Poly:
    """The sum with common factors taken out, greedily; with `through` also those that a sum over indices runs over."""
    terms = list(_clamped(poly))
    while len(terms) > 1:
        best: tuple[int, int, int, Poly] | None = None
        for i, j in itertools.combinations(range(len(terms)), 2):
            found = _together(terms[i], terms[j], through)
            if found is not None and len(found[1]) == 1 and (best is None or found[0] > best[0]):
                best = (found[0], i, j, found[1])
        if best is None:
            break
        _, i, j, merged = best
        terms = [t for n, t in enumerate(terms) if n not in (i, j)]
        terms.insert(min(i, len(terms)), merged[0])
    return add(tuple(terms))


def _together(s: Term, t: Term, through: bool) -> tuple[int, Poly] | None:
    """Two terms as one with their common factors in front, and how many those are."""
    best: tuple[int, Poly] | None = None
    mine, theirs = (list(map(_part, term.factors)) for term in (s, t))
    for renaming in _renamings(s, t, through):
        common, left, right = _common(mine, [_renamed(part, renaming) for part in theirs])
        if not through and (left or right):  # but for equal terms
            bound = {*s.sums, *renaming.values()}
            left += [f for f in common if indices(f) & bound]
            right += [f for f in common if indices(f) & bound]
            common = [f for f in common if not indices(f) & bound]
        if not common or (best is not None and len(common) <= best[0]):
            continue
        scale = s.coefficient
        shared = [x for x in s.sums if x in indices_of(common)]
        renamed_sums = tuple(a for x in t.sums if isinstance(a := renaming.get(x, x), Index))
        if not set(shared) <= set(renamed_sums):
            continue
        rest = _clamped(
            add(
                normal(Term(s.coefficient / scale, tuple(x for x in s.sums if x not in shared), tuple(left))),
                normal(Term(t.coefficient / scale, tuple(x for x in renamed_sums if x not in shared), tuple(right))),
            )
        )
        whole = (
            times((Term(scale, (), tuple(common)),), rest)
            if not shared
            else normal(Term(scale, tuple(shared), (*common, Power(rest, Fraction(1)))))
        )
        best = (len(common), whole)
    return best


def _clamped(poly: Poly) -> Poly:
    """The sum with x where |x| < a, and ±a where it is not, as one."""
    for s, t in itertools.permutations(poly, 2):
        for inside, outside, sign in itertools.product(s.factors, t.factors, t.factors):
            match inside, outside, sign:
                case Fn("less", (size, bound)), Fn("at_most", (again, size_again)), Fn("sign", (x,)):
                    a = constant_of(bound)
                    if not a or key(bound) != key(again) or not key(size) == key(size_again) == key(fn("abs", x)):
                        continue
                    times_x = normal(Term(s.coefficient, s.sums, tuple(f for f in s.factors if f is not inside)))
                    beside = normal(
                        Term(
                            t.coefficient / a, t.sums, tuple(f for f in t.factors if f is not outside and f is not sign)
                        )
                    )
                    if key(times(beside, x)) == key(times_x):
                        whole = times(beside, fn("hardtanh", x, number(-a), number(a)))
                        return _clamped(add(*((u,) for u in poly if u is not s and u is not t), whole))
    return poly


@dataclass(frozen=True)
class _Part:
    """A factor with what it is a power of, and which; `same` is equal for powers of one base.

    Of a power to a form `lower` is equal for those of one base, and `to` the form.
    """

    factor: Factor
    base: Poly
    exponent: Fraction
    same: str
    lower: str | None = None
    to: Poly = ()


def _part(factor: Factor) -> _Part:
    base, exponent = parted(factor)
    match factor:
        case Fn("power", (x, e)):
            return _Part(factor, x, exponent, key(base), key(x), e)
    return _Part(factor, base, exponent, key(base))


def _renamed(part: _Part, renaming: Mapping[Index, Axis]) -> _Part:
    return _part(rename(part.factor, renaming)) if indices(part.factor) & renaming.keys() else part


def _renamings(s: Term, t: Term, through: bool) -> Iterator[dict[Index, Axis]]:
    """Ways to call the sums of `t` as those of `s`; a sum for which none of these is left keeps its own name, or a new one.

    Only `through` sums are factors with them common, and only where the two stand at the same places of some factor.
    """
    if len(s.sums) > 4 or len(t.sums) > 4:
        return
    mine, theirs = ({own: _places(term, own) if through else set() for own in term.sums} for term in (s, t))
    ways = [[*(c for c in s.sums if c.size == own.size and mine[c] & theirs[own]), None] for own in t.sums]
    for choice in itertools.product(*ways):
        left = [c for c in s.sums if c not in choice]
        if len(s.sums) - len(left) == sum(c is not None for c in choice):
            yield {own: c or _taken(left, own) or (fresh(own.size) if own in s.sums else own)
                   for own, c in zip(t.sums, choice, strict=True)}  # fmt: skip


def _taken(left: list[Index], own: Index) -> Index | None:
    """An index of the same size, taken out of those that are left: terms with names in common are more often alike."""
    found = next((c for c in left if c.size == own.size), None)
    if found is not None:
        left.remove(found)
    return found


def _places(term: Term, own: Index) -> set[frozenset[tuple[str, ...]]]:
    """Of each factor of a term the places at which an index stands: the same for two factors that differ by its name."""
    return {places for f in term.factors if (places := frozenset(_standing(_base(f), own)))}


def _standing(poly: Poly, own: Index) -> Iterator[tuple[str, ...]]:
    for factor in (f for term in poly for f in term.factors):
        axes = _axes(factor)
        if own in axes:
            at = () if isinstance(factor, Delta) else (str(k) for k, a in enumerate(axes) if a == own)
            yield type(factor).__name__, getattr(factor, "name", ""), *at
        for inner in parts(factor):
            yield from _standing(inner, own)


def _common(mine: Sequence[_Part], theirs: Sequence[_Part]) -> tuple[list[Factor], list[Factor], list[Factor]]:
    """The factors that both have (of powers the lower one), and what remains of each."""
    common: list[Factor] = []
    left, right = list(mine), list(theirs)
    for part in mine:
        other = next((other for other in right if _alike(part, other)), None)
        if other is None:
            continue
        left.remove(part)
        right.remove(other)
        if part.same == other.same:
            least = min(part.exponent, other.exponent, key=abs)
            common.append(part.factor if part.exponent == least else other.factor)
            over = part.exponent - least, other.exponent - least
        else:
            more = _whole(part, other) or Fraction(0)
            common.append(other.factor if more > 0 else part.factor)
            over = max(more, Fraction(0)), max(-more, Fraction(0))
        for side, excess in zip((left, right), over, strict=True):
            if excess:
                side.append(_part(Power(part.base, excess)))
    return common, [part.factor for part in left], [part.factor for part in right]


def _alike(part: _Part, other: _Part) -> bool:
    """Whether one of them divides the other."""
    return (part.same == other.same and (part.exponent > 0) == (other.exponent > 0)) or bool(_whole(part, other))


def _whole(part: _Part, other: _Part) -> Fraction | None:
    """Of powers of one base to forms that differ by a whole number, that number."""
    if part.lower is None or part.lower != other.lower:
        return None
    more = constant_of(add(part.to, scaled(other.to, -1)))
    return more if more is not None and more.denominator == 1 else None


def _base(factor: Factor) -> Poly:
    """What a factor is a power of, to a number or to a form."""
    match factor:
        case Fn("power", (x, _)):
            return x
    return parted(factor)[0]


def _axes(factor: Factor) -> tuple[Axis, ...]:
    """The axes of a factor itself, not of what is inside."""
    match factor:
        case Sym(_, at) | Atom(_, _, at, _):
            return at
        case Delta(a, b):
            return a, b
        case Move(_, _, out, into):
            return (*out, *into)
    return ()
