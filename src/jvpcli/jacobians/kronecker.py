"""Maps whose structure is regular: Kronecker deltas and dense axes.

J[out, in] = scale · Π factors over named axes; a label that stands on both sides is a Kronecker delta.  The flat
output index is the row-major index over `out`, the flat input index that over `inn` (axes of size 1 are left out), so
that reshaping costs nothing:

    identity            out (i)    in (i)      no factor
    element-wise        out (i)    in (i)      d[i]
    W @ x               out (i)    in (j)      W[i, j]
    A @ B to A          out (i,k)  in (i,j)    B[j, k]
    sum of rows         out (i)    in (i,j)    no factor
    softmax of rows     out (i,j)  in (i,k)    s[i, j, k]
    transposing         out (i,j)  in (j,i)    no factor
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from operator import attrgetter

import torch
from torch import Tensor

from jvpcli.jacobians.labels import (
    Factor,
    Labels,
    Sizes,
    affine_index,
    count,
    product,
    relabel,
    simplify,
    split,
    strides_of,
)
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.terms import Term, zeros


@dataclass(frozen=True, eq=False)
class KroneckerMap(Term):
    """J[out, in] = scale · Π factors (see the module).

    Attributes:
        out, inn: labels of the flat output and input index, row-major; never of size 1.
        sizes: label to size.
        factors: tensors over some of the labels of `out` and `inn`; a label that none has means "the same all along".
        scale: a number.
    """

    out: Labels
    inn: Labels
    sizes: Sizes
    factors: tuple[Factor, ...]
    scale: float

    @property
    def labels(self) -> Labels:
        """Every label once, the output's first."""
        return tuple(dict.fromkeys(self.out + self.inn))

    @property
    def bound(self) -> int:
        return count(self.labels, self.sizes)

    @property
    def held(self) -> int:
        """How many numbers it is held by: a product of factors may stand for many more entries."""
        return sum([f.values.numel() for f in self.factors])

    @property
    def row_length(self) -> int:
        """How many entries of a row can be other than zero."""
        return count(set(self.inn) - set(self.out), self.sizes)

    @property
    def is_diagonal(self) -> bool:
        """Whether output entry i depends on input entry i alone, for every i."""
        return self.out == self.inn and len(set(self.out)) == len(self.out)

    @property
    def is_identity(self) -> bool:
        """Whether it is a number times the identity."""
        return self.is_diagonal and not self.factors

    def values(self, labels: Labels | None = None) -> Tensor:
        """The possible nonzeros, an axis for each of `labels` (default: `self.labels`); may be an expanded view."""
        factors, scale = self.factors, self.scale
        if scale != 1 and len(factors) > 1:  # the smallest takes it
            first, *others = sorted(factors, key=lambda f: f.values.numel())
            factors, scale = (replace(first, values=first.values * scale), *others), 1
        values = product(factors, self.labels if labels is None else labels, self.sizes, self.like)
        values = values if scale == 1 else values * scale
        return values if values.dtype == self.like.dtype else values.to(self.like.dtype)

    @property
    def numbers(self) -> Sequence[Tensor]:
        return list(map(attrgetter("values"), self.factors))

    def changed(self, make: Callable[[Tensor], Tensor]) -> KroneckerMap:
        factors = tuple([Factor(make(f.values), f.labels) for f in self.factors])
        return KroneckerMap(self.out_shape, self.in_shape, self.like, self.out, self.inn, self.sizes, factors, self.scale)

    def bare(self) -> KroneckerMap:
        return replace(self, factors=(), scale=1.0)

    def absolute(self) -> KroneckerMap:
        return replace(self.changed(torch.abs), scale=abs(self.scale))

    def count_nonzero(self) -> int:
        """Of factors over disjoint axes the product of their counts, but where their products get too small for numbers."""
        if self.scale == 0:
            return 0
        held = [k for f in self.factors for k in f.labels]
        if len(held) == len(set(held)) and not self._may_vanish:
            number = count(set(self.labels) - set(held), self.sizes)
            return prod([number, *[int(torch.count_nonzero(f.values)) for f in self.factors]])
        return int(torch.count_nonzero(self.values()))

    @property
    def _may_vanish(self) -> bool:
        """Whether a product of numbers that are not zero may be: the smallest of each factor make less than a normal number."""
        if not self.factors or (len(self.factors) == 1 and abs(self.scale) >= 1):
            return False
        smallest = abs(self.scale)
        for factor in self.factors:
            sizes = factor.values.detach().abs()
            some = sizes[sizes > 0]
            smallest *= float(some.min()) if some.numel() else 1.0
        return smallest < torch.finfo(self.factors[0].values.dtype).tiny

    def times(self, v: Tensor, forwards: bool) -> Tensor:
        """A vector is a map to or from a single number."""
        one = (1,)
        vector = dense((self.n,), one, v.reshape(-1, 1), v) if forwards else dense(one, (self.m,), v.reshape(1, -1), v)
        product = compose_kronecker(self, vector) if forwards else compose_kronecker(vector, self)
        assert product is not None, "a vector fits any axes"
        labels = product.out if forwards else product.inn
        if len(set(labels)) < len(labels):  # entries on a diagonal of the vector alone, as of a trace
            return product.matrix().reshape(-1)
        return product.values(labels).reshape(-1)

    def flat_diagonal(self) -> Tensor | float:
        """Of a diagonal map: the number it multiplies by, or its diagonal (n,)."""
        if not self.factors:
            return self.scale
        return self.values(self.out).reshape(-1)

    def index(self, side: Labels, labels: Labels) -> Tensor:
        """The flat index on one side (`self.out` or `self.inn`) over the grid of `labels`."""
        strides = strides_of(side, self.sizes)
        return affine_index(0, [self.sizes[k] for k in labels], [strides.get(k, 0) for k in labels], self.like.device)

    def write_dense(self, result: Tensor, accumulate: bool = False) -> None:
        """Write (or add) the entries into a matrix (m, n) with a zero at every other place: no index is made."""
        rows, cols = strides_of(self.out, self.sizes), strides_of(self.inn, self.sizes)
        labels = self.labels
        steps = [rows.get(k, 0) * result.stride(0) + cols.get(k, 0) * result.stride(1) for k in labels]
        places = result.as_strided([self.sizes[k] for k in labels], steps, result.storage_offset())
        if accumulate:
            places.add_(self.values())
        else:
            places.copy_(self.values())

    @property
    def is_dense(self) -> bool:
        """Whether every entry can be other than zero: no delta at all."""
        return len(set(self.out + self.inn)) == len(self.out) + len(self.inn)

    @property
    def is_outer(self) -> bool:
        """Whether its matrix is a product of factors, each of fewer axes, so that written out it has memory of its own."""
        held = set[int]().union(*[f.labels for f in self.factors])
        return len(self.factors) > 1 and self.is_dense and held.issuperset(self.labels)

    def matrix(self) -> Tensor:
        """The matrix (m, n), as a view of what is held where every entry can be other than zero."""
        if self.is_dense:
            return self.values().reshape(self.m, self.n)
        result = zeros(self.m, self.n, self.like)
        self.write_dense(result)
        return result


def kronecker(
    out_shape: Shape,
    in_shape: Shape,
    out: Sequence[int],
    inn: Sequence[int],
    sizes: Sizes,
    like: Tensor,
    factors: Sequence[Factor] = (),
    scale: float = 1.0,
) -> KroneckerMap:
    """A KroneckerMap from labels that may have size 1: those are left out, here and in the factors."""
    kept = tuple([k for k in out if sizes[k] != 1])
    kept_in = tuple([k for k in inn if sizes[k] != 1])
    return KroneckerMap(out_shape, in_shape, like, kept, kept_in, sizes, tuple([squeezed(f) for f in factors]), scale)


def squeezed(factor: Factor) -> Factor:
    """The factor without its axes of size 1 (which say "the same all along")."""
    if 1 not in factor.values.shape:
        return factor
    labels = tuple([k for k, size in zip(factor.labels, factor.values.shape, strict=True) if size != 1])
    return Factor(factor.values.squeeze(), labels)


def identity(out_shape: Shape, in_shape: Shape, like: Tensor, scale: float = 1.0) -> KroneckerMap:
    """`scale` times the identity on prod(in_shape) entries, which `out_shape` may arrange anew."""
    n = prod(in_shape)
    labels = (0,) if n != 1 else ()
    return KroneckerMap(out_shape, in_shape, like, labels, labels, {0: n}, (), scale)


def diagonal(out_shape: Shape, in_shape: Shape, values: Tensor, like: Tensor) -> KroneckerMap:
    """Entry i times values.flatten()[i]."""
    n = prod(in_shape)
    labels = (0,) if n != 1 else ()
    factor = Factor(values.reshape(n if labels else ()), labels)
    return KroneckerMap(out_shape, in_shape, like, labels, labels, {0: n}, (factor,), 1.0)


def dense(out_shape: Shape, in_shape: Shape, matrix: Tensor, like: Tensor) -> KroneckerMap:
    """The map of a matrix (m, n)."""
    return kronecker(out_shape, in_shape, (0,), (1,), dict(enumerate(matrix.shape)), like, (Factor(matrix, (0, 1)),))


def compose_kronecker(left: KroneckerMap, right: KroneckerMap) -> KroneckerMap | None:
    """The product; None where the two cut the space between them in ways that do not fit."""
    scale = left.scale * right.scale
    if left.is_identity:
        return KroneckerMap(left.out_shape, right.in_shape, left.like, right.out, right.inn, right.sizes, right.factors, scale)
    if right.is_identity:
        return KroneckerMap(left.out_shape, right.in_shape, left.like, left.out, left.inn, left.sizes, left.factors, scale)
    shift = 1 + max(left.sizes, default=0)
    right = _renamed(right, {k: k + shift for k in right.sizes})
    pair = _align(left, right, "inn", "out")
    if pair is None:
        return None
    left, right = pair
    names = _unify(left.inn, right.out)
    sizes = {**left.sizes, **right.sizes}
    out, inn = tuple([names.get(k, k) for k in left.out]), tuple([names.get(k, k) for k in right.inn])
    kept = set(out) | set(inn)
    factors = [relabel(f, names) for f in left.factors + right.factors]
    held = {k for f in factors for k in f.labels}
    free = {names.get(k, k) for k in left.inn} - kept - held
    sizes, scale = {k: sizes[k] for k in (*out, *inn)}, scale * count(free, sizes)
    return KroneckerMap(left.out_shape, right.in_shape, left.like, out, inn, sizes, simplify(factors, kept), scale)


def _renamed(m: KroneckerMap, names: Mapping[int, int]) -> KroneckerMap:
    out, inn = tuple([names[k] for k in m.out]), tuple([names[k] for k in m.inn])
    factors = tuple([Factor(f.values, tuple([names[k] for k in f.labels])) for f in m.factors])
    sizes = {names[k]: size for k, size in m.sizes.items()}
    return KroneckerMap(m.out_shape, m.in_shape, m.like, out, inn, sizes, factors, m.scale)


def _align(left: KroneckerMap, right: KroneckerMap, side: str, other: str) -> tuple[KroneckerMap, KroneckerMap] | None:
    """Both with axes cut so that left's labels on `side` and right's on `other` ("out", "inn") have the same sizes."""
    position = 0
    while True:
        mine, theirs = getattr(left, side), getattr(right, other)
        if position == max(len(mine), len(theirs)):
            return left, right
        here, there = left.sizes[mine[position]], right.sizes[theirs[position]]
        if here == there:
            position += 1
            continue
        if here % there and there % here:
            return None
        fresh = 1 + max(*left.sizes, *right.sizes)
        if here > there:
            left = split_label(left, mine[position], there, fresh)
        else:
            right = split_label(right, theirs[position], here, fresh)
        position = 0


def split_label(m: KroneckerMap, label: int, outer: int, fresh: int) -> KroneckerMap:
    """The map with its axis `label` cut into `outer` (keeping the name) times the rest (named `fresh`)."""

    def cut(labels: Labels) -> Labels:
        return tuple([part for k in labels for part in ((k, fresh) if k == label else (k,))])

    sizes = {**m.sizes, label: outer, fresh: m.sizes[label] // outer}
    factors = tuple([split(f, label, outer, fresh) for f in m.factors])
    return KroneckerMap(m.out_shape, m.in_shape, m.like, cut(m.out), cut(m.inn), sizes, factors, m.scale)


def _unify(first: Labels, second: Labels) -> dict[int, int]:
    """Label to representative, making the two lists equal."""
    root: dict[int, int] = {}

    def find(k: int) -> int:
        while k in root:
            k = root[k]
        return k

    for a, b in zip(first, second, strict=True):
        a, b = find(a), find(b)
        if a != b:
            root[b] = a
    return {k: find(k) for k in root}


CHEAP = 1 << 14
"""Up to so many entries a sum is written out without a thought."""


def add_kronecker(left: KroneckerMap, right: KroneckerMap, eager: bool = False) -> KroneckerMap | None:
    """The sum as one such map; None where that would hold many more entries than the two do.

    A delta that only one of the two has is given up: a diagonal is written into the blocks that it is added to.
    `eager` compares with the entries that the two stand for, whether they hold them or not.
    """
    same_names = left.out == right.out and left.inn == right.inn and left.sizes == right.sizes
    pair = (left, right) if same_names else _align_both(left, right)
    if pair is None:
        return None
    left, right = pair
    names: dict[tuple[int, int], int] = {}
    places = list(zip(left.out + left.inn, right.out + right.inn, strict=True))
    joint = [names.setdefault(place, len(names)) for place in places]
    sizes = {names[place]: left.sizes[place[0]] for place in names}
    mine: Parts = {place[0]: () for place in names}
    theirs: Parts = {place[1]: () for place in names}
    for (a, b), k in names.items():
        mine[a] += (k,)
        theirs[b] += (k,)
    alike = len(names) == len(mine) == len(theirs)
    varying = {parts[k][0] for m, parts in ((left, mine), (right, theirs)) for f in m.factors for k in f.labels}
    needed = count(varying if alike else sizes, sizes)
    if needed > 2 * (left.bound + right.bound):
        return None
    if not eager and needed > max(CHEAP, 2 * (left.held + right.held)):
        return None
    out, inn = tuple(joint[: len(left.out)]), tuple(joint[len(left.out) :])
    if alike:
        factors, scale = _add_values(left, right, mine, theirs, sizes)
    else:
        factors, scale = (_embed(((left, mine), (right, theirs)), tuple(sizes), sizes),), 1.0
    return KroneckerMap(left.out_shape, left.in_shape, left.like, out, inn, sizes, factors, scale)


def _align_both(left: KroneckerMap, right: KroneckerMap) -> tuple[KroneckerMap, KroneckerMap] | None:
    """Both with axes cut alike on both sides; cutting an axis on one side may cut it on the other."""
    while True:
        before = len(left.sizes) + len(right.sizes)
        for side in ("out", "inn"):
            pair = _align(left, right, side, side)
            if pair is None:
                return None
            left, right = pair
        if len(left.sizes) + len(right.sizes) == before:
            return left, right


Parts = dict[int, tuple[int, ...]]
"""Label to the labels that it becomes (all of which run together)."""


def _add_values(
    left: KroneckerMap, right: KroneckerMap, mine: Parts, theirs: Parts, sizes: Sizes
) -> tuple[tuple[Factor, ...], float]:
    """Of two maps with deltas in the same places."""
    if not left.factors and not right.factors:
        return (), left.scale + right.scale
    terms = [
        (m, {parts[k][0] for f in m.factors for k in f.labels}, {parts[k][0]: k for k in parts})
        for m, parts in ((left, mine), (right, theirs))
    ]
    labels = tuple([k for k in sizes if any(k in held for _, held, _ in terms)])
    first, second = (m.values(tuple([back[k] for k in labels])) for m, _, back in terms)
    return (Factor(first + second, labels),), 1.0


def _embed(terms: Sequence[tuple[KroneckerMap, Parts]], labels: Labels, sizes: Sizes) -> Factor:
    """The sum over the grid of `labels`, each term along its diagonals."""
    like = terms[0][0].like
    result = like.new_zeros([sizes[k] for k in labels])
    strides = dict(zip(labels, result.stride(), strict=True))
    for term, parts in terms:
        steps = [sum(strides[k] for k in parts[label]) for label in term.labels]
        result.as_strided([term.sizes[k] for k in term.labels], steps).add_(term.values())
    return Factor(result, labels)
