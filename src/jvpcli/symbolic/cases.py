"""A Jacobian by cases: which of its indices are equal, and what the entry is then."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from jvpcli.symbolic.forms import Atom, Delta, Factor, Index, Lam, Move, Poly, Power, Term, add, normal, substitute
from jvpcli.symbolic.verification import Named, value

MOST_PAIRS = 4
"""Of deltas, up to which cases are told apart."""


@dataclass(frozen=True)
class Pattern:
    """The indices of each block are equal to each other and to none outside (of the pairs that matter); what the entry is."""

    blocks: tuple[tuple[Index, ...], ...]
    apart: tuple[tuple[Index, Index], ...]
    entry: Poly


def pairs_of(poly: Poly) -> list[tuple[Index, Index]]:
    """The pairs of indices that the deltas of a form compare."""
    found: dict[frozenset[Index], tuple[Index, Index]] = {}
    for factor in (f for term in poly for f in term.factors):
        if isinstance(factor, Delta) and isinstance(factor.a, Index) and isinstance(factor.b, Index):
            found.setdefault(frozenset((factor.a, factor.b)), (factor.a, factor.b))
    return list(found.values())


def patterns(poly: Poly, order: Sequence[Index]) -> list[Pattern] | None:
    """The cases in which a form has different entries, those with fewest equalities first; None: no delta, or too many."""
    pairs = pairs_of(poly)
    if not pairs or len(pairs) > MOST_PAIRS:
        return None
    found: dict[frozenset[frozenset[Index]], Pattern] = {}
    for chosen in itertools.chain.from_iterable(itertools.combinations(pairs, n) for n in range(len(pairs) + 1)):
        blocks = _blocks(chosen)
        where = {i: block for block in blocks for i in block}
        equal = [p for p in pairs if p[1] in where.get(p[0], ())]
        same = frozenset(frozenset(block) for block in blocks)
        if same in found:
            continue
        first = {i: min(block, key=order.index) for block in blocks for i in block}
        entry = substitute(_without(poly, equal), {i: first[i] for i in first})
        apart = tuple(p for p in pairs if p not in equal)
        found[same] = Pattern(tuple(tuple(sorted(b, key=order.index)) for b in blocks), apart, entry)
    return sorted(found.values(), key=lambda p: sum(len(b) - 1 for b in p.blocks))


def _without(poly: Poly, equal: list[tuple[Index, Index]]) -> Poly:
    """The terms whose deltas all hold, without those."""
    holds = {frozenset(p) for p in equal}
    kept = []
    for term in poly:
        deltas = [
            f for f in term.factors if isinstance(f, Delta) and isinstance(f.a, Index) and isinstance(f.b, Index)
        ]
        if all(frozenset((d.a, d.b)) in holds for d in deltas):
            kept.append(normal(Term(term.coefficient, term.sums, tuple(f for f in term.factors if f not in deltas))))
    return add(*kept)


def _blocks(pairs: Sequence[tuple[Index, Index]]) -> list[set[Index]]:
    """The indices that pairs join."""
    blocks: list[set[Index]] = []
    for a, b in pairs:
        joined = [block for block in blocks if a in block or b in block]
        blocks = [block for block in blocks if block not in joined] + [{a, b}.union(*joined)]
    return blocks


def condition(pattern: Pattern, letters: Mapping[Index, str]) -> str:
    """`i = j ≠ k`: a chain of what is equal, and what differs from it."""
    chains = [" = ".join(letters[i] for i in block) for block in pattern.blocks]
    apart = list(dict.fromkeys(_apart(pattern)))
    if len(chains) == 1:
        others = dict.fromkeys(b if a in pattern.blocks[0] else a for a, b in apart)
        if others and all(a in pattern.blocks[0] or b in pattern.blocks[0] for a, b in apart) and len(others) == 1:
            return f"{chains[0]} ≠ {letters[next(iter(others))]}"
    return ", ".join([*chains, *(f"{letters[a]} ≠ {letters[b]}" for a, b in apart)])


def _apart(pattern: Pattern) -> Iterator[tuple[Index, Index]]:
    first = {i: block[0] for block in pattern.blocks for i in block}
    for a, b in pattern.apart:
        yield first.get(a, a), first.get(b, b)


def where(pattern: Pattern, axes: Sequence[Index]) -> Tensor:
    """A table over the axes: whether the case is this one."""
    grids = dict(zip(axes, torch.meshgrid(*(torch.arange(i.size) for i in axes), indexing="ij"), strict=True))
    found = torch.ones([i.size for i in axes], dtype=torch.bool)
    for block in pattern.blocks:
        for a, b in itertools.pairwise(block):
            found &= grids[a] == grids[b]
    for a, b in pattern.apart:
        found &= grids[a] != grids[b]
    return found


def by_cases(found: Sequence[Pattern], axes: Sequence[Index], tensors: Named) -> Tensor:
    """The tensor that the cases make, so that they can be compared with the form that they came from."""
    whole = torch.zeros([i.size for i in axes], dtype=torch.float64)
    for pattern in found:
        whole = whole + torch.where(where(pattern, axes), value(pattern.entry, axes, tensors), 0.0)
    return whole


def applies(term: Term, axes: Sequence[Index]) -> Tensor:
    """A table over the axes: whether the deltas and the moved places of a term let it be anything but zero."""
    return value((_places(term),), axes, {}) != 0


def _places(term: Term) -> Term:
    """The term with nothing but what picks entries, and so with no way to cancel."""
    return Term(Fraction(1), term.sums, tuple(picks for f in term.factors if (picks := _picking(f)) is not None))


def _picking(factor: Factor) -> Factor | None:
    match factor:
        case Delta() | Move():
            return factor
        case Power(base, exponent) if exponent > 0:
            return Power(tuple(map(_places, base)), Fraction(1))
        case Atom("move", (lam,), at, params):
            return Atom("move", (Lam(lam.over, tuple(map(_places, lam.body))),), at, params)
    return None
