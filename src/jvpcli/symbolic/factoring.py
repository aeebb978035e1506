"""Equal forms that are shorter: common factors taken out, brackets multiplied out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from jvpcli.symbolic.forms import (
    Axis,
    Factor,
    Fn,
    Index,
    Poly,
    Power,
    Term,
    add,
    constant_of,
    expanded,
    fresh,
    indices,
    indices_of,
    key,
    normal,
    parted,
    parts,
    rename,
    scaled,
    times,
)


@lru_cache(maxsize=1024)
def variants(poly: Poly) -> tuple[Poly, ...]:
    """Equal forms that may be shorter."""
    if weight(poly) > LARGEST_EXPANDED:
        return tuple(dict.fromkeys((poly, collected(poly, through=False))))
    apart = expanded(poly)
    ways = (form for whole in (poly, apart) for form in (whole, collected(whole, through=False), collected(whole)))
    return tuple(dict.fromkeys(other for form in ways for other in (form, *_numbered(form))))


LARGEST_EXPANDED = 60
"""Factors up to which a form is multiplied out in search of a shorter one."""


def weight(poly: Poly) -> int:
    """How many factors a form has, at all depths."""
    return sum(1 + sum(map(weight, parts(f))) for term in poly for f in term.factors)


def _numbered(poly: Poly) -> Iterator[Poly]:
    """The form with a number in front of a bracket."""
    size = abs(poly[0].coefficient) if len(poly) > 1 else Fraction(1)
    if size != 1:
        yield (Term(size, (), (Power(scaled(poly, 1 / size), Fraction(1)),)),)


def collected(poly: Poly, through: bool = True) -> Poly:
    """The sum with common factors taken out, greedily; with `through` also those that a sum over indices runs over."""
    terms = list(poly)
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
    for renaming in _renamings(s, t):
        other = [rename(f, renaming) for f in t.factors]
        common, left, right = _common(list(s.factors), other)
        if not through and (left or right):  # but for equal terms
            bound = {*s.sums, *renaming.values()}
            left += [f for f in common if indices(f) & bound]
            right += [f for f in common if indices(f) & bound]
            common = [f for f in common if not indices(f) & bound]
        if not common:
            continue
        scale = s.coefficient
        shared = [x for x in s.sums if x in indices_of(common)]
        renamed_sums = tuple(a for x in t.sums if isinstance(a := renaming.get(x, x), Index))
        rest = add(
            normal(Term(s.coefficient / scale, tuple(x for x in s.sums if x not in shared), tuple(left))),
            normal(Term(t.coefficient / scale, tuple(x for x in renamed_sums if x not in shared), tuple(right))),
        )
        if not set(shared) <= set(renamed_sums):
            continue
        if best is None or len(common) > best[0]:
            whole = (
                times((Term(scale, (), tuple(common)),), rest)
                if not shared
                else normal(Term(scale, tuple(shared), (*common, Power(rest, Fraction(1)))))
            )
            best = (len(common), whole)
    return best


def _renamings(s: Term, t: Term) -> Iterator[dict[Index, Axis]]:
    """Ways to call the sums of `t` as those of `s`; a sum that gets no such name keeps its own, or a new one."""
    if len(s.sums) > 4 or len(t.sums) > 4:
        return
    slots = [*s.sums, *([None] * len(t.sums))]
    seen = set()
    for choice in itertools.permutations(slots, len(t.sums)):
        if choice in seen or any(c is not None and c.size != own.size for c, own in zip(choice, t.sums, strict=True)):
            continue
        seen.add(choice)
        taken = set(s.sums)
        yield {
            own: c if c is not None else (fresh(own.size) if own in taken else own)
            for own, c in zip(t.sums, choice, strict=True)
        }


def _lower(factor: Factor, other: Factor) -> tuple[Factor, Fraction, Fraction, Poly] | None:
    """Of powers of one base to forms that differ by a whole number the lower one, and by how much each exceeds it."""
    match factor, other:
        case Fn("power", (x, e)), Fn("power", (y, f)) if key(x) == key(y):
            more = constant_of(add(e, scaled(f, -1)))
            if more is not None and more.denominator == 1 and more:
                return (other, more, Fraction(0), x) if more > 0 else (factor, Fraction(0), -more, x)
    return None


def _common(left: list[Factor], right: list[Factor]) -> tuple[list[Factor], list[Factor], list[Factor]]:
    """The factors that both have (of powers the lower one), and what remains of each."""
    common = []
    for factor in list(left):
        base, e = parted(factor)
        for other in right:
            base2, e2 = parted(other)
            lower = _lower(factor, other)
            if lower is not None:
                left.remove(factor)
                right.remove(other)
                common.append(lower[0])
                for side, excess in ((left, lower[1]), (right, lower[2])):
                    if excess:
                        side.append(Power(lower[3], excess))
                break
            if key(base) != key(base2) or (e > 0) != (e2 > 0):
                continue
            least = min(e, e2, key=abs)
            left.remove(factor)
            right.remove(other)
            common.append(factor if e == least else other)
            for side, excess in ((left, e - least), (right, e2 - least)):
                if excess:
                    side.append(Power(base, excess))
            break
    return common, left, right
