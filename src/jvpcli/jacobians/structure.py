"""What kind of matrix a pattern of nonzeros is: the most special kind of the contract's list that holds.

The order, most special first: zero, identity (times a number), diagonal, selection, banded, block_diagonal, sparse,
dense.  A pattern is given as the row and column of each possible nonzero of an m-by-n matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np
import torch
from torch import Tensor

from jvpcli.jacobians.operations import ALWAYS, Nature

SPARSE_FRACTION = 0.5
"""A pattern with more than this part of its entries filled is called dense."""


def classify(
    rows: np.ndarray,
    cols: np.ndarray,
    m: int,
    n: int,
    nature: Nature = ALWAYS,
    *,
    constant: bool = False,
    ones: bool = False,
) -> str:
    """The kind of the pattern.

    Args:
        rows, cols: int64 (nnz,), the place of each possible nonzero, each place once, row by row.
        m, n: the matrix's size.
        nature: of the operations: what is an identity here is called one only where it is one at every point.
        constant: all nonzeros are one and the same number.
        ones: all nonzeros are exactly 1.
    """
    nnz = rows.size
    if nnz == 0:
        return "zero"
    selects = ones and nature.picking and nnz <= m and np.bincount(rows).max() <= 1
    if m == n and np.array_equal(rows, cols) and (nature.rigid or not selects):
        return "identity" if constant and nature.rigid and nnz == n else "diagonal"
    if selects:
        return "selection"
    blocks = block_count(rows, cols, m, n)
    full_blocks = blocks > 1 and nnz * blocks > SPARSE_FRACTION * m * n
    if m == n and not full_blocks and _bandwidth(rows, cols) * 2 <= n:
        return "banded"
    if blocks > 1:
        return "block_diagonal"
    return "sparse" if nnz <= SPARSE_FRACTION * m * n else "dense"


def classify_values(samples: Sequence[Tensor], nature: Nature = ALWAYS) -> str:
    """The kind of the matrices (m, n) of one map, sampled at the point and elsewhere.

    A NaN at the point (0·∞ in a chain) says nothing about the structure where there is a sample that does.
    """
    arrays = [_as_array(sample) for sample in samples]
    first, *others = arrays
    pattern = first != 0
    if others:
        pattern &= first == first  # not where it is NaN
    for other in others:
        pattern |= other != 0
    rows, cols = pattern.nonzero()
    number = first[rows[0], cols[0]] if rows.size else None
    constant = number is not None and all((array[rows, cols] == number).all() for array in arrays)
    m, n = pattern.shape
    return classify(rows, cols, m, n, nature, constant=constant, ones=constant and number == 1)


def classify_mask(mask: Tensor) -> str:
    """The kind of a bool matrix (m, n) of the places that can be other than zero; nothing is known of the values."""
    rows, cols = _as_array(mask).nonzero()
    return classify(rows, cols, *mask.shape)


def unproved(matrix: Tensor) -> str:
    """What the values at one point prove of the structure: that nothing is zero, or nothing."""
    return "dense" if matrix.numel() and bool((matrix != 0).all()) else "unknown"


def _as_array(matrix: Tensor) -> np.ndarray:
    """Its numbers for numpy, which takes a third of torch's time for small ones; a dtype that it lacks is widened."""
    matrix = matrix.detach().cpu().resolve_conj().resolve_neg()
    if matrix._is_zerotensor():  # autograd's zeros without memory, which numpy cannot take
        matrix = matrix.clone()
    return matrix.to(_WIDER.get(matrix.dtype, matrix.dtype)).numpy()


_WIDER = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}


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


def _bandwidth(rows: np.ndarray, cols: np.ndarray) -> int:
    """The number of diagonals between the outermost two that hold a nonzero, both included."""
    offsets = cols - rows
    return int(offsets.max()) - int(offsets.min()) + 1


def without_artefacts(matrix: Tensor, mask: Tensor) -> tuple[Tensor, int]:
    """The matrix with zeros for the NaNs outside the mask, and how many: those are 0·∞, of a basis vector that is zero there."""
    artefacts = matrix.isnan() & ~mask
    return matrix.masked_fill(artefacts, 0), int(artefacts.sum())
