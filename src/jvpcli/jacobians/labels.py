"""Products of tensors over named axes: the arithmetic that structured Jacobians are made of.

A label is a number that names an axis of a given size; a factor is a tensor with one axis a label.  A product of
factors is multiplied out as late as possible: two factors are joined when one's labels hold the other's (the result
is no larger than what is there), or when a label that belongs to both is summed (a matrix product).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

Labels = tuple[int, ...]
Sizes = Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Factor:
    """A tensor whose axes are named by labels, all different."""

    values: Tensor
    labels: Labels


def affine_index(
    offset: int, sizes: Sequence[int], strides: Sequence[int], device: torch.device | None = None
) -> Tensor:
    """int64 of shape `sizes`: offset + Σ strides[d]·i_d."""
    index = torch.full((), offset, dtype=torch.int64, device=device)
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        shape = (size,) + (1,) * (len(sizes) - axis - 1)
        if stride:
            steps = torch.arange(0, size * stride, stride, dtype=torch.int64, device=device)
            index = index + steps.view(shape)
    return index.expand(tuple(sizes))


def strides_of(labels: Labels, sizes: Sizes) -> dict[int, int]:
    """How far the row-major flat index moves when each label does; a repeated label moves by the sum."""
    strides: dict[int, int] = {}
    step = 1
    for label in reversed(labels):
        strides[label] = strides.get(label, 0) + step
        step *= sizes[label]
    return strides


def relabel(factor: Factor, names: Mapping[int, int]) -> Factor:
    """The factor with renamed labels; where two labels become one, the diagonal."""
    labels = tuple([names.get(label, label) for label in factor.labels])
    values = factor.values
    while len(set(labels)) < len(labels):
        first, second = next((i, j) for j in range(len(labels)) for i in range(j) if labels[i] == labels[j])
        values = values.diagonal(dim1=first, dim2=second)
        kept = [label for axis, label in enumerate(labels) if axis not in (first, second)]
        labels = (*kept, labels[first])
    return Factor(values, labels)


def split(factor: Factor, label: int, outer: int, inner_label: int) -> Factor:
    """The factor with the axis `label` cut in two: `outer` slices (keeping the name) of the rest (`inner_label`)."""
    if label not in factor.labels:
        return factor
    axis = factor.labels.index(label)
    values = factor.values.unflatten(axis, (outer, factor.values.shape[axis] // outer))
    return Factor(values, (*factor.labels[: axis + 1], inner_label, *factor.labels[axis + 1 :]))


def aligned(factor: Factor, labels: Labels) -> Tensor:
    """The factor's values with an axis for each of `labels` in that order, of size 1 where it has none."""
    if factor.labels == labels:
        return factor.values
    sizes = dict(zip(factor.labels, factor.values.shape, strict=True))
    values = factor.values.permute([factor.labels.index(label) for label in labels if label in sizes])
    return values.reshape([sizes.get(label, 1) for label in labels]) if len(sizes) < len(labels) else values


def multiply(first: Factor, second: Factor) -> Factor:
    """Element by element, over the union of the labels."""
    if len(second.labels) > len(first.labels):
        first, second = second, first
    labels = first.labels + tuple([label for label in second.labels if label not in first.labels])
    return Factor(aligned(first, labels) * aligned(second, labels), labels)


def contract(first: Factor, second: Factor, summed: Collection[int]) -> Factor:
    """Multiplied and summed over `summed`: a (batched) matrix product."""
    labels = tuple([k for k in first.labels if k in second.labels and k not in summed])
    labels += tuple([k for k in first.labels if k not in second.labels and k not in summed])
    labels += tuple([k for k in second.labels if k not in first.labels and k not in summed])
    left, right = first.values, second.values
    if left.dtype != right.dtype:
        dtype = torch.promote_types(left.dtype, right.dtype)
        left, right = left.to(dtype), right.to(dtype)
    if len(first.labels) == 2 == len(second.labels) and len(labels) == 2 and len(summed) == 1:
        return Factor(_matrix_product(first, second, left, right), labels)
    names: dict[int, str] = {}
    for label in first.labels + second.labels:
        names.setdefault(label, _LETTERS[len(names)])
    terms = ["".join([names[k] for k in group]) for group in (first.labels, second.labels, labels)]
    return Factor(torch.einsum(f"{terms[0]},{terms[1]}->{terms[2]}", left, right), labels)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _matrix_product(first: Factor, second: Factor, left: Tensor, right: Tensor) -> Tensor:
    """Two matrices with one label in common, which is summed, without einsum's preparations."""
    shared = first.labels[0] if first.labels[0] in second.labels else first.labels[1]
    left = left if first.labels[1] == shared else left.t()
    right = right if second.labels[0] == shared else right.t()
    return left @ right


def sum_out(factor: Factor, summed: Collection[int]) -> Factor:
    """Summed over those of its labels."""
    axes = [axis for axis, label in enumerate(factor.labels) if label in summed]
    if not axes:
        return factor
    return Factor(factor.values.sum(axes), tuple([k for k in factor.labels if k not in summed]))


def simplify(factors: Iterable[Factor], kept: Collection[int]) -> tuple[Factor, ...]:
    """The product with every label outside `kept` summed, in as few factors as come for free."""
    pool = _absorb(list(factors))
    while True:
        label = next((k for f in pool for k in f.labels if k not in kept), None)
        if label is None:
            return tuple(_absorb(pool))
        holders = sorted((f for f in pool if label in f.labels), key=lambda f: f.values.numel())
        rest = [f for f in pool if label not in f.labels]
        while len(holders) > 2:
            holders[:2] = [multiply(holders[0], holders[1])]
        elsewhere = {k for f in rest for k in f.labels}
        summed = {k for f in holders for k in f.labels if k not in kept and k not in elsewhere}
        alone = [sum_out(f, {k for k in summed if sum(k in g.labels for g in holders) == 1}) for f in holders]
        joined = contract(alone[0], alone[1], summed) if len(alone) == 2 else alone[0]
        pool = _absorb([*rest, joined])


def _absorb(pool: list[Factor]) -> list[Factor]:
    """Factors multiplied into the smallest other factor that holds all their labels."""
    if len(pool) < 2:
        return pool
    pool = sorted(pool, key=lambda f: f.values.numel())
    done: list[Factor] = []
    for position, factor in enumerate(pool):
        labels = set(factor.labels)
        host = next((i for i in range(position + 1, len(pool)) if labels.issubset(pool[i].labels)), None)
        if host is None:
            done.append(factor)
        else:
            pool[host] = multiply(pool[host], factor)
    return done


def product(factors: Sequence[Factor], labels: Labels, sizes: Sizes, like: Tensor) -> Tensor:
    """All factors multiplied out over `labels` (axes in that order); an axis that no factor has is expanded."""
    shape = tuple([sizes[k] for k in labels])
    if not factors:
        return like.new_ones(()).expand(shape)
    ordered = sorted(factors, key=lambda f: f.values.numel())
    values = aligned(ordered[0], labels)
    for factor in ordered[1:]:
        values = values * aligned(factor, labels)
    return values.expand(shape)


def count(labels: Iterable[int], sizes: Sizes) -> int:
    """How many places the labels' grid has."""
    return prod([sizes[k] for k in labels])
