"""Pieces whose structure is irregular: k entries in each of r rows, at columns that index arrays give.

The arrays are (k, r), so that one of k terms (a tap of a stencil) lies together in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap, kronecker
from jvpcli.jacobians.labels import Factor, strides_of
from jvpcli.jacobians.terms import Term, Workspace


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where entries can be other than zero.

    Attributes:
        rows: int64 (r,), the row of each column of `cols`; None: 0, 1, … m-1.
        cols: int64 (k, r).
        unique_rows: no row is listed twice.
        distinct: no place is listed twice (but by padding).
        padded: a row may repeat one of its places, with the value 0.
        key: names the pattern among the structures of a Workspace; None: it depends on values.
    """

    rows: Tensor | None
    cols: Tensor
    unique_rows: bool = True
    distinct: bool = True
    padded: bool = False
    key: int | None = None


@dataclass(frozen=True, eq=False)
class SparseMap(Term):
    """A pattern and its values (k, r); None: all are 1."""

    pattern: Pattern
    values: Tensor | None

    @property
    def k(self) -> int:
        """How many entries a row lists."""
        return self.pattern.cols.shape[0]

    @property
    def bound(self) -> int:
        return self.pattern.cols.numel()

    @property
    def numbers(self) -> Sequence[Tensor]:
        return [] if self.values is None else [self.values]

    def changed(self, make: Callable[[Tensor], Tensor]) -> SparseMap:
        return self if self.values is None else replace(self, values=make(self.values))

    def bare(self) -> SparseMap:
        return replace(self, values=None)

    def count_nonzero(self) -> int:
        return self.bound if self.values is None else int(torch.count_nonzero(self.values))

    def times(self, v: Tensor, forwards: bool) -> Tensor:
        pattern, weights = self.pattern, self.weights()
        if forwards:
            sums = (v[pattern.cols] * weights).sum(0)
            return sums if pattern.rows is None else sums.new_zeros(self.m).index_add_(0, pattern.rows, sums)
        picked = v if pattern.rows is None else v[pattern.rows]
        products = (picked * weights).reshape(-1)
        return products.new_zeros(self.n).index_add_(0, pattern.cols.reshape(-1), products)

    def weights(self) -> Tensor:
        """The values (k, r), written out or as an expanded view."""
        return self.like.new_ones(()).expand(self.pattern.cols.shape) if self.values is None else self.values

    def row_index(self) -> Tensor:
        """int64 (r,): the row of each listed row."""
        if self.pattern.rows is None:
            return torch.arange(self.m, device=self.pattern.cols.device)
        return self.pattern.rows

    def write_dense(self, result: Tensor, accumulate: bool = False) -> None:
        """Write (or add) the entries into a contiguous matrix (m, n) with a zero at every other place."""
        places = (self.row_index() * self.n + self.pattern.cols).reshape(-1)
        values = self.weights().reshape(-1).to(result.dtype)
        if self.pattern.distinct and not self.pattern.padded and not accumulate:
            result.view(-1).scatter_(0, places, values)  # a third of what assigning to an index takes
        else:
            result.view(-1).scatter_add_(0, places, values)


def to_sparse(term: Term, work: Workspace) -> SparseMap:
    """A piece of any kind by index arrays."""
    if isinstance(term, SparseMap):
        return term
    assert isinstance(term, KroneckerMap)
    rows = tuple(dict.fromkeys(term.out))
    inner = tuple([k for k in dict.fromkeys(term.inn) if k not in term.out])
    width, height = term.row_length, term.bound // max(1, term.row_length)
    work.reserve(term.bound, 8 + term.like.element_size())
    names = {k: i for i, k in enumerate((*rows, *inner))}
    out, inn = tuple([names[k] for k in term.out]), tuple([names[k] for k in term.inn])
    key = work.key("kronecker", out, inn, tuple([term.sizes[k] for k in names]))

    def make() -> Pattern:
        repeated = len(rows) < len(term.out)
        listed = term.index(term.out, rows).reshape(-1) if repeated else None
        return Pattern(listed, term.index(term.inn, inner + rows).reshape(width, height), key=key)

    values = None
    if term.factors:
        values = term.values(inner + rows).reshape(width, height)
    elif term.scale != 1:
        values = term.like.new_full((), term.scale).expand(width, height)
    return SparseMap(term.out_shape, term.in_shape, term.like, work.structure(key, make), values)


def picked(term: KroneckerMap, rows: Tensor) -> Term | None:
    """Some rows of a regular piece, without the others; None where outputs lie on a diagonal, off which rows are empty.

    Args:
        rows: int64 (r,), numbers of its rows: the result has r of them.
    """
    if len(set(term.out)) < len(term.out):
        return None
    strides, shape = strides_of(term.out, term.sizes), (rows.numel(),)
    at = {k: torch.div(rows, strides[k], rounding_mode="floor") % term.sizes[k] for k in term.out}
    inner = tuple([k for k in dict.fromkeys(term.inn) if k not in at])
    row = 1 + max(term.sizes, default=0)
    sizes = {row: shape[0], **{k: term.sizes[k] for k in inner}}

    def gathered(factor: Factor) -> Factor:
        """The factor with one axis for the rows in the place of those that the output has."""
        outer, rest = [k for k in factor.labels if k in at], tuple([k for k in factor.labels if k not in at])
        if not outer:
            return factor
        places = tuple([at[k] for k in outer])
        values = factor.values.permute([factor.labels.index(k) for k in (*outer, *rest)])[places]
        return Factor(values, (row, *rest))

    factors = [gathered(factor) for factor in term.factors]
    if term.is_dense:
        return kronecker(shape, term.in_shape, (row,), inner, sizes, term.like, factors, term.scale)
    along = strides_of(term.inn, term.sizes)
    base = torch.stack([along[k] * at[k] for k in at if k in along]).sum(0)
    cols = term.index(term.inn, inner).reshape(-1, 1) + base
    if not factors and term.scale == 1:
        values = None
    else:
        filled = KroneckerMap(shape, term.in_shape, term.like, (row,), inner, sizes, tuple(factors), term.scale)
        values = filled.values((*inner, row)).reshape(cols.shape)
    return SparseMap(shape, term.in_shape, term.like, Pattern(None, cols), values)


def merge(term: SparseMap, work: Workspace) -> SparseMap:
    """The map with each place listed once: entries of one place are added up."""
    pattern = term.pattern
    if pattern.distinct:
        return term
    key = work.key("merge", pattern.key)
    if pattern.unique_rows and term.k <= FEW:
        merged, (pairs, kept) = work.structure(key, lambda: _merge_pairs(pattern, key))
        if not pairs:
            return replace(term, pattern=merged)
        values = term.weights().clone()
        for into, out_of, where in pairs:
            values[into] += values[out_of] if where is None else values[out_of] * where
            if where is not None:
                values[out_of].masked_fill_(where, 0)
        values = values if len(kept) == term.k else values[kept]
    elif pattern.unique_rows and term.k >= term.n:
        merged, padding = work.structure(key, lambda: _merge_by_table(pattern, term.n, key))
        weights = term.weights()
        values = weights.new_zeros((term.n, weights.shape[1])).scatter_add_(0, pattern.cols, weights)
        values = values.gather(0, merged.cols)
        values = values if padding is None else values.masked_fill_(padding, 0)
    elif pattern.unique_rows:
        merged, (order, position) = work.structure(key, lambda: _merge_in_rows(pattern, key))
        values = term.weights().gather(0, order)
        values = values.new_zeros(merged.cols.shape).scatter_add_(0, position, values)
    else:
        merged, (order, position) = work.structure(key, lambda: _merge_anywhere(term, key))
        values = term.weights().reshape(-1)[order]
        values = values.new_zeros(merged.cols.numel()).index_add_(0, position, values).reshape(1, -1)
    return SparseMap(term.out_shape, term.in_shape, term.like, merged, values)


FEW = 6
"""Rows of up to so many entries are compared entry by entry, without sorting."""

Pairs = list[tuple[int, int, Tensor | None]]
"""(into, out of, in which rows; None: in all): what is added to what."""


def _merge_pairs(pattern: Pattern, key: int | None) -> tuple[Pattern, tuple[Pairs, list[int]]]:
    """Later entries are added to the first of the same place; where they stood a 0 pads the row."""
    cols, pairs = pattern.cols, Pairs()
    kept: list[int] = []
    padded = pattern.padded
    for later in range(cols.shape[0]):
        gone: Tensor | None = None
        for earlier in kept:
            same = cols[earlier] == cols[later]
            same = same if gone is None else same & ~gone
            if bool(same.any()):
                whole = bool(same.all())
                pairs.append((earlier, later, None if whole else same))
                gone = same if gone is None else gone | same
                if whole:
                    break
        if gone is None or not bool(gone.all()):
            kept.append(later)
            padded = padded or gone is not None
    merged = cols if len(kept) == cols.shape[0] else cols[kept]
    return Pattern(pattern.rows, merged, padded=padded, key=key), (pairs, kept)


def _merge_by_table(pattern: Pattern, n: int, key: int | None) -> tuple[Pattern, Tensor | None]:
    """Where rows list more entries than there are columns: each row's columns once, and which entries are padding."""
    height = pattern.cols.shape[1]
    marks = torch.zeros((n, height), dtype=torch.bool, device=pattern.cols.device)
    marks.scatter_(0, pattern.cols, torch.ones_like(pattern.cols, dtype=torch.bool))
    listed, cols = marks.t().nonzero(as_tuple=True)
    counts = marks.sum(0)
    width = int(counts.max()) if height else 0
    within = torch.arange(listed.numel(), device=listed.device) - (counts.cumsum(0) - counts)[listed]
    merged = pattern.cols[:1].expand(width, -1).clone()
    merged[within, listed] = cols
    ragged = bool((counts != width).any())
    padding = torch.arange(width, device=listed.device)[:, None] >= counts if ragged else None
    return Pattern(pattern.rows, merged, padded=ragged, key=key), padding


def _merge_in_rows(pattern: Pattern, key: int | None) -> tuple[Pattern, tuple[Tensor, Tensor]]:
    cols, order = pattern.cols.sort(dim=0)
    position = torch.zeros_like(cols)
    torch.cumsum(cols[1:] != cols[:-1], dim=0, out=position[1:])
    width = int(position[-1].max()) + 1 if position.numel() else 0
    ragged = bool((position[-1] != width - 1).any()) if position.numel() else False
    first = cols[0].expand(width, -1).clone()
    return Pattern(pattern.rows, first.scatter_(0, position, cols), padded=ragged, key=key), (order, position)


def _merge_anywhere(term: SparseMap, key: int | None) -> tuple[Pattern, tuple[Tensor, Tensor]]:
    keys = (term.row_index() * term.n + term.pattern.cols).reshape(-1)
    keys, order = keys.sort()
    starts = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=starts[1:])
    places = keys[starts]
    rows = torch.div(places, term.n, rounding_mode="floor")
    cols = (places - rows * term.n).reshape(1, -1)
    return Pattern(rows, cols, unique_rows=False, key=key), (order, starts.cumsum(0) - 1)


def are_alike(terms: Sequence[SparseMap]) -> bool:
    """Whether all list the same rows, each once."""
    first = terms[0].pattern
    return first.unique_rows and all(t.pattern.rows is first.rows for t in terms)


def touched(terms: Sequence[SparseMap], key: int | None) -> Pattern:
    """The places that any of them lists, each once: by a table of all places, which pays where lists are about as long."""
    m, n = terms[0].m, terms[0].n
    table = torch.zeros(m * n, dtype=torch.bool, device=terms[0].pattern.cols.device)
    for term in terms:
        table[(term.row_index() * n + term.pattern.cols).reshape(-1)] = True
    rows, cols = table.view(m, n).nonzero(as_tuple=True)
    return Pattern(rows, cols.reshape(1, -1), unique_rows=False, key=key)


def add_sparse(terms: list[SparseMap], work: Workspace) -> SparseMap:
    """The sum, duplicates not yet added up."""
    first = terms[0]
    if len(terms) == 1:
        return first
    patterns, shared = [t.pattern for t in terms], are_alike(terms)
    key = work.key("add", *[p.key for p in patterns])

    def make() -> Pattern:
        if shared:
            cols, padded = torch.cat([p.cols for p in patterns]), any(p.padded for p in patterns)
            return Pattern(patterns[0].rows, cols, distinct=False, padded=padded, key=key)
        rows = torch.cat([t.row_index().expand(t.k, -1).reshape(-1) for t in terms])
        cols = torch.cat([p.cols.reshape(-1) for p in patterns]).reshape(1, -1)
        return Pattern(rows, cols, unique_rows=False, distinct=False, key=key)

    pattern = work.structure(key, make)
    if all(t.values is None for t in terms):
        values = None
    elif shared:
        values = torch.cat([t.weights() for t in terms])
    else:
        values = torch.cat([t.weights().reshape(-1) for t in terms]).reshape(1, -1)
    return SparseMap(first.out_shape, first.in_shape, first.like, pattern, values)
