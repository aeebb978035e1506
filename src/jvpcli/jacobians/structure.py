"""What kind of matrix a pattern of nonzeros is: the most special kind of the contract's list that holds.

In this order: zero, identity (times a number), diagonal, selection, block_diagonal, strided_blocks, banded, triangular,
block_triangular, sparse, dense.  No kind
depends on how large a matrix is: blocks are blocks and a band is a band however full they are, and dense is what has no
structural zero at all.  A pattern is given as the row and column of each possible nonzero of an m-by-n matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, as_numpy
from jvpcli.jacobians.operations import ALWAYS, Nature
from jvpcli.report import Notice, Shape

Shapes = tuple[Shape, Shape]
"""Of an output and of an input."""

PLACED = frozenset({"strided_blocks", "triangular", "block_triangular"})
"""Kinds of sparse matrices that say where their zeros are."""


def classify(
    rows: np.ndarray,
    cols: np.ndarray,
    m: int,
    n: int,
    nature: Nature = ALWAYS,
    *,
    constant: bool = False,
    ones: bool = False,
    shapes: Shapes = ((), ()),
) -> str:
    """The kind of the pattern.

    Args:
        rows, cols: int64 (nnz,), the place of each possible nonzero, each place once, in any order.
        m, n: the matrix's size.
        nature: of the operations: what is an identity here is called one only where it is one at every point.
        constant: all nonzeros are one and the same number.
        ones: all nonzeros are exactly 1.
        shapes: of the output and of the input, which the matrix has as its rows and columns, where they are known.
    """
    nnz = rows.size
    if nnz == 0:
        return "zero"
    selects = ones and (nature.rigid or nature.picking) and nnz <= m and np.bincount(rows).max() <= 1
    if m == n and np.array_equal(rows, cols) and (nature.rigid or nature.placed or not selects):
        return "identity" if constant and nature.rigid and nnz == n else "diagonal"
    if selects:
        return "selection"
    if block_count(rows, cols, m, n) > 1:
        return "block_diagonal"
    if nnz == m * n:
        return "dense"
    if shared_axes(rows, cols, shapes):
        return "strided_blocks"
    if min(m, n) > 1 and _bandwidth(rows, cols, m, n) < min(m, n) + (m != n):  # it leaves corners out
        return "banded"
    _, blocks = triangle(rows, cols, m, n)
    if blocks > 1:
        return "triangular" if blocks == m == n else "block_triangular"
    return "sparse"


def shared_axes(rows: np.ndarray, cols: np.ndarray, shapes: Shapes) -> list[tuple[int, int]]:
    """The axes of the output and of the input, of the same length, whose indices are equal wherever there is a nonzero.

    Along them the matrix falls apart into blocks, one for each index, whose rows and columns do not lie side by side.
    """
    if not rows.size:
        return []
    out_shape, in_shape = shapes
    found = []
    for a, length in enumerate(out_shape):
        index = rows // prod(out_shape[a + 1 :]) % length
        for b, other in enumerate(in_shape):
            if length == other > 1 and np.array_equal(index, cols // prod(in_shape[b + 1 :]) % length):
                found.append((a, b))
    return found


def triangle(rows: np.ndarray, cols: np.ndarray, m: int, n: int) -> tuple[str, int]:
    """Which entries of the input have no part in those of the output, and the largest number of equal blocks that shows it.

    The blocks are those of a grid: either all nonzeros lie in blocks on the diagonal and left of it ("later" entries of the
    input have no part), or on it and right of it ("earlier").  The number is 1 where there is no such grid, and where
    blocks on the diagonal of a matrix that is not square are empty: its corners were empty for another reason.
    """
    beyond = np.sign(cols // (n // gcd(m, n)) - rows // (m // gcd(m, n)))
    counts = [(block_count(rows[beyond == sign], cols[beyond == sign], m, n), side) for side, sign in SIDES]
    blocks, side = max(counts)
    on = rows // (m // blocks)
    if m != n and np.unique(on[on == cols // (n // blocks)]).size < blocks:
        blocks = 1
    return side, blocks


SIDES = (("later", 1), ("earlier", -1))


def classify_values(samples: Sequence[Tensor], nature: Nature = ALWAYS, shapes: Shapes = ((), ())) -> str:
    """The kind of the matrices (m, n) of one map, sampled at the point and elsewhere.

    A NaN at the point (0·∞ in a chain) says nothing about the structure where there is a sample that does.
    """
    arrays = [as_numpy(sample) for sample in samples]
    first, *others = arrays
    pattern = first != 0
    if others:
        pattern &= first == first  # not where it is NaN
    for other in others:
        pattern |= other != 0
    constant = ones = False
    if nature.rigid or nature.picking:  # else no kind depends on them
        entries = [array[pattern] for array in arrays]
        constant = all((each == each[:1]).all() and each.all() for each in entries)
        ones = constant and all((e[:1] == 1).all() for e in entries)
    m, n = pattern.shape
    facts = (m, n), nature, constant, ones, shapes
    return _known_kind(pattern.tobytes(), *facts) if pattern.size <= FEW else _kind_of(pattern, *facts)


FEW = 4096
"""Of a pattern of no more entries its kind is remembered: a program is asked of many points."""


@lru_cache(maxsize=1024)
def _known_kind(pattern: bytes, size: tuple[int, int], *facts: Any) -> str:
    return _kind_of(np.frombuffer(pattern, bool).reshape(size), size, *facts)


def _kind_of(
    pattern: np.ndarray, size: tuple[int, int], nature: Nature, constant: bool, ones: bool, shapes: Shapes
) -> str:
    (rows, cols), (m, n) = pattern.nonzero(), size
    return classify(rows, cols, m, n, nature, constant=constant, ones=ones, shapes=shapes)


def kind_by_values(here: Tensor, there: Tensor, nature: Nature, shapes: Shapes) -> str | None:
    """The kind of one map that its matrix at the point and another at a random one show; None where they don't show it all."""
    if not nature.smooth or here.shape != there.shape:
        return None
    kind = classify_values([here, there], nature, shapes)
    kind = "sparse" if kind in PLACED and not nature.still else kind
    if (kind == "zero" and not nature.rigid) or not (nature.still or kind in ("sparse", "dense")):
        return None
    return kind


def classify_complex(maps: Sequence[ComplexMap], nature: Nature) -> str:
    """The kind of one map from or to complex numbers, at the point and maybe elsewhere.

    Zero is what is zero at every point; and where Re v and Im v go ways of their own, no one number or copy stands for both.
    """
    known = replace(nature, rigid=False, picking=False) if any(each.aside is not None for each in maps) else nature
    kind = classify_values([part for each in maps for part in each.parts], known, maps[0].shapes)
    return unproved(maps[0].filled) if kind == "zero" and not nature.rigid else kind


def unproved(matrix: Tensor) -> str:
    """What the values at one point prove of the structure: that nothing is zero, or nothing."""
    return "dense" if matrix.numel() and bool((matrix != 0).all()) else "unknown"


SENTENCES = {
    "artefact": "{entries} of ∂{y}/∂{x} where PyTorch's own passes (a backward pass a row, as in "
    "torch.autograd.functional.jacobian) give NaN, as 0 times ∞ or NaN, {are} zero by the operations, and shown as zero",
}
"""By the code of a claim its sentence."""


def artefacts_in_words(y: str, x: str, count: int) -> Notice:
    """The warning about entries of ∂y/∂x that PyTorch's own passes give as NaN, and that are zero."""
    entries, are = ("1 entry", "is") if count == 1 else (f"{count} entries", "are")
    return Notice("nonfinite", SENTENCES["artefact"].format(entries=entries, are=are, y=y, x=x), "artefact")


def block_count(rows: np.ndarray, cols: np.ndarray, m: int, n: int) -> int:
    """The largest number of equal blocks along the diagonal that hold the whole pattern.

    The finest grid has gcd(m, n) blocks; an entry off its diagonal spans, and so forbids, the borders between its row's
    and its column's block.  A number of blocks holds the pattern if none of its borders is spanned: linear in the nonzeros.
    """
    most = gcd(m, n)
    if most < 2 or not rows.size:
        return max(most, 1)
    r, c = rows // (m // most), cols // (n // most)
    starts = np.bincount(np.minimum(r, c) + 1, minlength=most + 2)
    ends = np.bincount(np.maximum(r, c) + 1, minlength=most + 2)
    spanned = (starts - ends).cumsum() != 0
    divisors = (count for count in range(most, 1, -1) if most % count == 0)
    return next((k for k in divisors if not spanned[most // k : most : most // k].any()), 1)


def _bandwidth(rows: np.ndarray, cols: np.ndarray, m: int, n: int) -> int:
    """How many diagonals the band has that holds all nonzeros, and runs from the first entry to the last."""
    offsets = cols - rows
    return max(int(offsets.max()), n - m, 0) - min(int(offsets.min()), n - m, 0) + 1


def without_artefacts(matrix: Tensor, mask: Tensor) -> tuple[Tensor, int]:
    """The matrix with zeros for the NaNs outside the mask, and how many: those are 0·∞, of a basis vector that is zero there."""
    artefacts = matrix.isnan() & ~mask
    return matrix.masked_fill(artefacts, 0), int(artefacts.sum())
