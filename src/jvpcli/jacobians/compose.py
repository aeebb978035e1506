"""The one table of products and sums of pieces.

product          regular · regular    by labels, or as below where the axes do not fit
                 diagonal · any       rows scaled
                 any · diagonal       columns scaled
                 few rows · regular   only those rows of the right, as below
                 dense · sparse       columns gathered into a dense block
                 sparse · dense       rows gathered
                 else                 for each entry of the left its row of the right
sum              the same labels      values added; a diagonal goes into the blocks that it is added to
                 a dense piece        everything into one matrix
                 else                 index arrays side by side
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap, add_kronecker, compose_kronecker, dense
from jvpcli.jacobians.sparse_map import Pattern, SparseMap, add_sparse, are_alike, merge, picked, to_sparse, touched
from jvpcli.jacobians.terms import Term, Workspace, zeros

Terms = tuple[Term, ...]
"""A map as the sum of its pieces; none: the zero map."""

MANY_TERMS = 4
"""A sum of regular pieces with more than so many different structures is held by index arrays."""

FEW_ROWS = 4
"""Where the left lists at most one entry for so many rows of a regular right, only those rows are taken from it."""


def compose(left: Terms, right: Terms, work: Workspace) -> Terms:
    """The product of two sums, piece by piece."""
    return tuple([compose_terms(a, b, work) for a in left for b in right])


def compose_terms(left: Term, right: Term, work: Workspace) -> Term:
    """The product of two pieces."""
    if isinstance(left, KroneckerMap) and isinstance(right, KroneckerMap):
        _reserve_product(left, right, work)
        joined = compose_kronecker(left, right)
        if joined is not None:
            return joined
    if isinstance(left, SparseMap) and isinstance(right, KroneckerMap) and FEW_ROWS * left.bound < right.m:
        taken, places = torch.unique(left.pattern.cols, return_inverse=True)
        some = picked(right, taken)
        if some is not None:
            pattern = replace(left.pattern, cols=places, key=None)
            return compose_terms(replace(left, in_shape=(taken.numel(),), pattern=pattern), some, work)
    if isinstance(left, KroneckerMap) and left.is_diagonal and isinstance(right, SparseMap):
        values = _scaled(right, left.flat_diagonal(), right.pattern.rows)
        return SparseMap(left.out_shape, right.in_shape, right.like, right.pattern, values)
    if isinstance(right, KroneckerMap) and right.is_diagonal and isinstance(left, SparseMap):
        values = _scaled(left, right.flat_diagonal(), left.pattern.cols)
        return SparseMap(left.out_shape, right.in_shape, left.like, left.pattern, values)
    if left.is_dense and isinstance(right, SparseMap):
        return _dense_sparse(left, right, work)
    if right.is_dense and isinstance(left, SparseMap):
        return _sparse_dense(left, right, work)
    return _expand(to_sparse(left, work), to_sparse(right, work), work)


def _reserve_product(left: KroneckerMap, right: KroneckerMap, work: Workspace) -> None:
    """A product of dense pieces is as large as both sides allow."""
    if work.limit < float("inf") and left.factors and right.factors:
        rows, cols = left.bound // max(1, left.n), right.bound // max(1, right.m)
        work.reserve(min(left.bound * max(1, cols), right.bound * max(1, rows)), left.like.element_size())


def _scaled(term: SparseMap, scale: Tensor | float, places: Tensor | None) -> Tensor | None:
    """The values times those of a diagonal: by rows, which the places (r,) are, or by columns (k, r); None: by each row."""
    if isinstance(scale, float):
        return term.values if scale == 1 else term.weights() * scale
    factors = scale if places is None else scale[places]
    return factors.expand(term.pattern.cols.shape) if term.values is None else term.values * factors


def _dense_sparse(left: Term, right: SparseMap, work: Workspace) -> Term:
    """Every row of the left with the right's columns; only the columns that the right touches are held."""
    m, n = left.m, right.n
    matrix = left.matrix()
    if right.bound * 2 < n:
        pattern = right.pattern
        key = work.key("touched", m, pattern.key)

        def make() -> tuple[Pattern, Tensor]:
            touched, places = torch.unique(pattern.cols, return_inverse=True)
            return Pattern(None, touched.reshape(-1, 1).expand(-1, m), key=key), places

        touched, places = work.structure(key, make)
        local = replace(right, in_shape=(touched.cols.shape[0],), pattern=replace(pattern, cols=places, distinct=False))
        values = _dense_times(matrix, local, work).t()
        return SparseMap(left.out_shape, right.in_shape, left.like, touched, values)
    return dense(left.out_shape, right.in_shape, _dense_times(matrix, right, work), left.like)


def _dense_times(matrix: Tensor, right: SparseMap, work: Workspace) -> Tensor:
    m, n = matrix.shape[0], right.n
    work.reserve(m * n, matrix.element_size())
    if right.bound * 8 > right.m * n or right.k > 64:
        work.reserve(right.m * n, matrix.element_size())
        return matrix @ right.matrix()
    picked = matrix if right.pattern.rows is None else matrix[:, right.pattern.rows]
    result = zeros(m, n, matrix)
    for tap in range(right.k):
        values = picked if right.values is None else picked * right.values[tap]
        result.index_add_(1, right.pattern.cols[tap], values)
    return result


def _sparse_dense(left: SparseMap, right: Term, work: Workspace) -> Term:
    """For each listed row the sum of the rows of the right that it picks."""
    n, pattern = right.n, left.pattern
    work.reserve(pattern.cols.shape[1] * n, left.like.element_size())
    matrix = right.matrix()
    if left.k * 16 > right.m and pattern.rows is None:
        return dense(left.out_shape, right.in_shape, left.matrix() @ matrix, left.like)
    result = matrix.new_zeros(()).expand(pattern.cols.shape[1], n)
    for tap in range(left.k):
        rows = matrix[pattern.cols[tap]]
        rows = rows if left.values is None else rows.mul_(left.values[tap][:, None])
        result = rows if tap == 0 else result.add_(rows)
    if pattern.rows is None:
        return dense(left.out_shape, right.in_shape, result, left.like)
    key = work.key("rows", n, pattern.key)

    def make() -> Pattern:
        cols = torch.arange(n, device=pattern.cols.device).reshape(-1, 1).expand(-1, result.shape[0])
        return Pattern(pattern.rows, cols, pattern.unique_rows, pattern.unique_rows, key=key)

    return SparseMap(left.out_shape, right.in_shape, left.like, work.structure(key, make), result.t())


def _expand(left: SparseMap, right: SparseMap, work: Workspace) -> Term:
    """For each entry of the left its row of the right."""
    if right.pattern.rows is not None:
        return _expand_listed(left, right, work)
    a, b = left.pattern, right.pattern
    key = work.key("expand", a.key, b.key)
    height = a.cols.shape[1]
    work.reserve(left.k * right.k * height, 8 + left.like.element_size())
    work.spend(left.k * right.k * height)

    def make() -> Pattern:
        cols = b.cols[:, a.cols].reshape(left.k * right.k, height)
        distinct = left.k == 1 and b.distinct and (a.rows is None or a.unique_rows)
        return Pattern(a.rows, cols, a.unique_rows, distinct, a.padded or b.padded, key=key)

    pattern = work.structure(key, make)
    values = None
    if right.values is not None:
        values = right.values[:, a.cols]
        values = values if left.values is None else values.mul_(left.values)
        values = values.reshape(left.k * right.k, height)
    elif left.values is not None:
        values = left.values.expand(right.k, *left.values.shape).reshape(left.k * right.k, height)
    result = SparseMap(left.out_shape, right.in_shape, left.like, pattern, values)
    return _settled(merge(result, work) if left.k > 1 and right.k > 1 else result, work)


def _expand_listed(left: SparseMap, right: SparseMap, work: Workspace) -> Term:
    """For each entry of the left its row of the right, where the right lists only some rows, or a row several times."""
    a, b = left.pattern, right.pattern
    key = work.key("listed", a.key, b.key)

    def make() -> tuple[Pattern, Tensor, Tensor]:
        assert b.rows is not None
        listed, order = b.rows.sort()
        needed = a.cols.reshape(-1)
        start = torch.searchsorted(listed, needed)
        count = torch.searchsorted(listed, needed, right=True) - start
        source = torch.repeat_interleave(torch.arange(needed.numel(), device=needed.device), count)
        ends = count.cumsum(0)
        within = torch.arange(source.numel(), device=needed.device) - (ends - count)[source]
        target = order[start[source] + within]
        rows = left.row_index()[source % a.cols.shape[1]] if a.cols.shape[1] else source
        once = left.k == 1 and a.unique_rows and b.unique_rows
        pattern = Pattern(
            rows.expand(right.k, -1).reshape(-1) if not once else rows,
            b.cols[:, target].reshape(1, -1) if not once else b.cols[:, target],
            unique_rows=once,
            distinct=left.k == 1 and a.unique_rows and b.distinct,
            padded=a.padded or b.padded,
            key=key,
        )
        return pattern, source, target

    pattern, source, target = work.structure(key, make)
    work.spend(pattern.cols.numel())
    values = None
    if left.values is not None or right.values is not None:
        values = right.weights()[:, target] * left.weights().reshape(-1)[source]
        values = values.reshape(pattern.cols.shape)
    return _settled(SparseMap(left.out_shape, right.in_shape, left.like, pattern, values), work)


def _settled(term: SparseMap, work: Workspace) -> Term:
    """A dense piece where the entries fill the matrix."""
    if term.bound * 2 < term.m * term.n or (term.k <= 2 and term.pattern.rows is None):
        return term
    term = merge(term, work)
    if term.bound * 4 < term.m * term.n * 3:
        return term
    return dense(term.out_shape, term.in_shape, term.matrix(), term.like)


def add(terms: Sequence[Term], work: Workspace) -> Terms:
    """The sum in as few pieces as it takes."""
    if len(terms) < 2:
        return tuple(terms)
    regular: list[KroneckerMap] = []
    sparse: list[SparseMap] = []
    for term in terms:
        if isinstance(term, KroneckerMap):
            _add_regular(regular, term)
        else:
            assert isinstance(term, SparseMap)
            sparse.append(term)
    m, n = terms[0].m, terms[0].n
    if not sparse and len(regular) <= MANY_TERMS:
        return tuple(regular)
    total = sum(t.bound for t in (*regular, *sparse))
    if any(t.is_dense and 2 * t.held >= m * n for t in regular) or total * 4 >= m * n * 3:
        return _into_one_matrix([*regular, *sparse], work)
    if regular and len(regular) <= MANY_TERMS and len(sparse) <= 1:
        return (*regular, *sparse)
    return (merge(add_sparse([to_sparse(t, work) for t in (*regular, *sparse)], work), work),)


def settle(terms: Terms, work: Workspace) -> SparseMap:
    """Everything by index arrays, no place listed twice (but by padding)."""
    regular: list[KroneckerMap] = []
    sparse = [t for t in terms if isinstance(t, SparseMap)]
    for term in terms:
        if isinstance(term, KroneckerMap):
            joined = add_kronecker(regular[-1], term, eager=True) if regular else None
            regular[-1:] = [*regular[-1:], term] if joined is None else [joined]
    return merge(add_sparse([to_sparse(t, work) for t in (*regular, *sparse)], work), work)


def _add_regular(terms: list[KroneckerMap], term: KroneckerMap) -> None:
    """Join with a piece that it fits, or stand beside them."""
    for position, other in enumerate(terms):
        joined = add_kronecker(other, term)
        if joined is not None:
            terms[position] = joined
            return
    terms.append(term)


def _into_one_matrix(terms: Sequence[Term], work: Workspace) -> Terms:
    first = terms[0]
    places, pattern = first.m * first.n, None
    if places > 1 << 14 and not any(t.is_dense and t.bound for t in terms):
        listed = [to_sparse(t, work) for t in terms]
        if are_alike(listed):
            merged = merge(add_sparse(listed, work), work)
            if merged.bound * 4 < places * 3:
                return (merged,)
        else:
            key = work.key("places", *[t.pattern.key for t in listed])
            pattern = work.structure(key, lambda: touched(listed, key))
    work.reserve(places, first.like.element_size())
    result = zeros(first.m, first.n, first.like)
    for term in terms:
        term.write_dense(result, accumulate=True)
    if pattern is not None and pattern.cols.numel() * 4 < places * 3:
        values = result[pattern.rows, pattern.cols[0]].reshape(1, -1)
        return (SparseMap(first.out_shape, first.in_shape, first.like, pattern, values),)
    return (dense(first.out_shape, first.in_shape, result, first.like),)
