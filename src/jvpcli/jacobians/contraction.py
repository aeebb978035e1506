"""How v and a Jacobian make a VJP, in index notation, as einsum, in words, and one entry worked out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from string import ascii_lowercase, ascii_uppercase

import numpy as np
import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, LinearMap, as_numpy
from jvpcli.jacobians.structure import PLACED, Shapes, shared_axes, triangle
from jvpcli.report import Contraction, Shape, Term, WorkedEntry

LETTERS = ascii_lowercase[8:] + ascii_lowercase[:8] + ascii_uppercase
"""Index letters in the order in which they are given out: i, j, k, …"""

LARGEST_WORKED_OUT = 1_000_000
"""Up to so many entries of a Jacobian one entry of the result is worked out."""

MOST_TERMS = 16
"""Terms of a worked entry that are listed."""


def contract(y: str, x: str, jacobian: LinearMap, v: Tensor, batched: bool = False) -> Contraction:
    """The contraction of output `y`'s cotangent v (out_shape) with ∂y/∂x (out_shape + in_shape).

    With `batched` v holds several along an axis in front, and so does the result.
    """
    einsum, formula = _notation(y, x, jacobian.in_shape, jacobian.out_shape, jacobian.splits, batched)
    product = product_in_words(y, x, jacobian)
    if batched:
        return Contraction(einsum, formula, f"{SENTENCES['several']} {product}")
    return Contraction(einsum, formula, product, work_out(y, x, jacobian, v))


@lru_cache(maxsize=256)
def _notation(y: str, x: str, in_shape: Shape, out_shape: Shape, splits: bool, batched: bool) -> tuple[str, str]:
    """The contraction as einsum, and in index notation."""
    input_axes, output_axes = index_letters(in_shape, out_shape)
    each = LETTERS[len(input_axes) + len(output_axes)] if batched else ""
    left = f"∂{indexed('L', each)}/∂{indexed(x, input_axes)}"
    total = f"Σ_{output_axes} " if output_axes else ""
    at, y_at, x_at = indexed("v", each + output_axes), indexed(y, output_axes), indexed(x, input_axes)
    einsum = f"{each}{output_axes},{output_axes}{input_axes}->{each}{input_axes}"
    return einsum, f"{left} = {total}{term(at, y_at, x_at, splits)}"


def index_letters(in_shape: Shape, out_shape: Shape) -> tuple[str, str]:
    """The letters of the input's axes (from i on) and of the output's (after those)."""
    split = len(in_shape)
    letters = LETTERS[: split + len(out_shape)]
    return letters[:split], letters[split:]


def entry_label(name: str, index: tuple[int, ...]) -> str:
    """`y[0,1]`, or `y` for a 0-d tensor."""
    return f"{name}[{','.join(map(str, index))}]" if index else name


def term(v: str, y: str, x: str, splits: bool) -> str:
    """`v · ∂y/∂x`; where Re v and Im v go ways of their own, both."""
    return f"(Re {v} · ∂(Re {y})/∂{x} + Im {v} · ∂(Im {y})/∂{x})" if splits else f"{v} · ∂{y}/∂{x}"


def indexed(name: str, axes: str) -> str:
    """`x_ij`: a name with the letters of its axes."""
    return f"{name}_{axes}" if axes else name


EITHER_SIDE = "later or no earlier"
"""Entries that no gradient goes to, where it is not known which: what is zero here alone looks the same."""


def product_in_words(y: str, x: str, jacobian: LinearMap) -> str:
    """Which product this is: what the flattened sizes are and what the Jacobian's kind reduces it to."""
    places = tuple(_places(y, x, jacobian).items()) if jacobian.structure in PLACED else ()
    return _in_words(tuple(claims(jacobian)), y, x, jacobian.shapes, jacobian.nnz, _number(jacobian), places)


@lru_cache(maxsize=256)
def _in_words(
    said: tuple[str, ...], y: str, x: str, shapes: Shapes, nnz: int | None, number: str, places: tuple[tuple[str, object], ...]
) -> str:
    (out_shape, in_shape), m, n = shapes, prod(shapes[0]), prod(shapes[1])
    facts = {
        "y": y, "x": x, "m": m, "n": n, "size": m * n, "nnz": nnz, "in_shape": in_shape, "out_shape": out_shape,
        "number": number, **dict(places),
    }  # fmt: skip
    return " ".join([SENTENCES[claim].format(**facts) for claim in said])


def _places(y: str, x: str, jacobian: LinearMap) -> dict[str, object]:
    """Where the zeros of a kind are that is told by them."""
    if not jacobian.nnz:
        return {"axes": "an axis", "side": EITHER_SIDE, "blocks": "some"}
    rows, cols, _ = jacobian.entries()
    where = rows.cpu().numpy(), cols.cpu().numpy()
    if jacobian.structure == "strided_blocks":
        (a, b), *others = shared_axes(*where, jacobian.shapes)  # more than hold at every point, where numbers are zero here
        return {"axes": f"axis {a} of {y} and axis {b} of {x}{' here' if others else ''}"}
    if jacobian.structure == "triangular" and np.array_equal(*where):
        return {"side": EITHER_SIDE}
    side, blocks = triangle(*where, jacobian.m, jacobian.n)
    return {"side": side, "blocks": blocks}


def claims(jacobian: LinearMap) -> list[str]:
    """The codes of what is said of a product: of its sizes, its kind, and complex numbers."""
    kind = _kind_of_parts(jacobian) if jacobian.splits else _kind(jacobian)
    found = [_sizes(jacobian)]
    if jacobian.out_shape != () or kind.startswith("zero"):
        found.append(kind)
    if isinstance(jacobian, ComplexMap):
        found += ["complex", *_convention(jacobian)]
    return found


def _sizes(jacobian: LinearMap) -> str:
    axes = len(jacobian.out_shape)
    if jacobian.splits:
        return "two_matrices" if axes else "two_gradients"
    return {0: "number", 1: "vector"}.get(axes, "tensor")


def _kind(jacobian: LinearMap) -> str:
    kind, nnz = jacobian.structure, jacobian.nnz
    if kind == "unknown":
        return "not_computed" if nnz is None else "unknown"
    if kind == "zero":
        return "zero"
    if nnz == 0:
        return "zero_here"
    if kind == "dense" and nnz is not None and nnz < jacobian.m * jacobian.n:
        return "mostly_filled"
    return kind


def _kind_of_parts(jacobian: LinearMap) -> str:
    """The code where Re v and Im v go ways of their own."""
    if jacobian.nnz == 0:
        return "zero_parts"
    if jacobian.structure == "unknown":
        return "unknown_parts"
    return "diagonal_parts" if jacobian.structure in ("identity", "diagonal") else "filled_parts"


def _convention(jacobian: ComplexMap) -> list[str]:
    if jacobian.splits:
        return ["two_ways" if jacobian.rows.is_complex() else "real_input"]
    return [] if jacobian.imaginary is None else ["holomorphic"]


SENTENCES: Mapping[str, str] = {
    "several": "There are several v, one along the first axis of grad_outputs, and each has a row of the result; of each:",
    "number": (
        "{y} is a single number, so the Jacobian is simply its gradient (flattened: 1×{n}) and v a single weight: "
        "the result is v times the gradient."
    ),
    "vector": (
        "Flattened, v is a row vector of {m} and the Jacobian a {m}×{n} matrix: the result is the product of a vector and "
        "a matrix, v on the left (vᵀJ)."
    ),
    "tensor": (
        "Flattened, v is a row vector of {m} and the Jacobian a {m}×{n} matrix; the result is vᵀJ, a row vector of {n} "
        "reshaped to {in_shape}. This is why the docs call a tensor of shape {out_shape} a “vector”, and this a "
        "vector-Jacobian product: v stands on the left."
    ),
    "two_gradients": (
        "{y} is a single number with two gradients (flattened: 1×{n}), that of Re {y} and that of Im {y}: the result is Re v "
        "times the one plus Im v times the other."
    ),
    "two_matrices": (
        "Flattened, Re v and Im v are row vectors of {m}, and the Jacobians of Re {y} and of Im {y} are {m}×{n} matrices: "
        "the result is the sum of two products of a vector and a matrix."
    ),
    "not_computed": "The entries of this Jacobian were not computed, so nothing is known of their structure.",
    "unknown": (
        "It is a matrix product; which entries of the Jacobian are zero at every point was not found out: here {nnz} of "
        "the {size} are not."
    ),
    "zero": "Every entry of this Jacobian is zero, so the product is zero for any v.",
    "zero_here": (
        "Every entry of this Jacobian is zero here, so the product is zero for any v; elsewhere {y} may change with {x}."
    ),
    "identity": "The Jacobian is {number} times the identity: the product comes down to {number} · v.",
    "diagonal": (
        "The Jacobian is diagonal (each entry of {y} sends its gradient to one entry of {x} alone, its own), so this "
        "product comes down to element-wise multiplication of v with the diagonal."
    ),
    "selection": (
        "The Jacobian only selects (each entry of {y} sends its gradient unchanged to one entry of {x}, or to none), so the "
        "product comes down to carrying each v back to that entry, adding where several come to the same one."
    ),
    "banded": "It is a matrix product, not an element-wise one, but banded: only entries near the diagonal take part.",
    "block_diagonal": (
        "The Jacobian is block-diagonal: the product comes down to one small vector-matrix product a block, none of which "
        "sees the others."
    ),
    "strided_blocks": (
        "The Jacobian falls apart into blocks along {axes}: each entry of {y} sends its gradient only to entries of {x} "
        "whose index there is equal to its own, and the product comes down to one small vector-matrix product for each index."
    ),
    "triangular": (
        "It is a matrix product, not an element-wise one, but triangular: in flattened order each entry of {y} sends "
        "its gradient to no {side} entry of {x}."
    ),
    "block_triangular": (
        "It is a matrix product, not an element-wise one, but block-triangular: cut into {blocks} equal parts each, no part of "
        "{y} sends its gradient to {side} parts of {x} here."
    ),
    "sparse": (
        "It is a matrix product, not an element-wise one; {nnz} of the {size} entries of the Jacobian are not zero, and "
        "only those take part."
    ),
    "dense": "It is a matrix product, not an element-wise one: every entry of {x} may collect from every entry of {y}.",
    "mostly_filled": (
        "It is a matrix product, not an element-wise one: {nnz} of the {size} entries of the Jacobian are not zero here."
    ),
    "zero_parts": "Every entry of both is zero here, so the product is zero for any v.",
    "diagonal_parts": (
        "Both are diagonal (each entry of {y} sends its gradient to one entry of {x} alone, its own), so these products come "
        "down to element-wise multiplication of Re v and of Im v with the diagonals."
    ),
    "unknown_parts": "They are matrix products; which entries are zero at every point was not found out.",
    "filled_parts": "They are matrix products, not element-wise ones.",
    "complex": (
        "Complex numbers: PyTorch's grad gives ∂L/∂Re + i·∂L/∂Im (the conjugate of the mathematician's ∂L/∂z, times two "
        "for a real L), so that −grad points downhill."
    ),
    "holomorphic": "The Jacobian shown is conj(d{y}/d{x}).",
    "real_input": (
        "The input is real, and so is its gradient: the result is also Re(conj(v)·(∂(Re {y})/∂{x} + i·∂(Im {y})/∂{x}))."
    ),
    "two_ways": (
        "The gradient of Im {y} is not i times that of Re {y} here: the result takes both, and v·J alone is not it."
    ),
}
"""What is said of a product, by the code of what it claims; the tests have an oracle for each that tries to refute it."""


def _number(jacobian: LinearMap) -> str:
    if jacobian.scale is None:
        return "a number"
    number = jacobian.scale.item()
    return f"({number:g})" if isinstance(number, complex) else f"{number:g}"


def work_out(y: str, x: str, jacobian: LinearMap, v: Tensor) -> WorkedEntry | None:
    """One entry of the result, term by term, zero terms left out: the first entry that has a nonzero term.

    None for a Jacobian that is too large or was not computed, for an empty one, and for complex tensors.
    """
    m, n = jacobian.m, jacobian.n
    unknown = isinstance(jacobian, ComplexMap) or jacobian.nnz is None or v.is_complex()
    if unknown or not 0 < m * n <= LARGEST_WORKED_OUT:
        return None
    weights, matrix = v.reshape(m), jacobian.numbers().reshape(m, n)
    factors, derivatives = as_numpy(weights), as_numpy(matrix)
    live = live_terms(factors, derivatives)
    column, rows = worked_column(live)
    listed = rows[:MOST_TERMS]
    numbers = zip(listed.tolist(), factors[listed].tolist(), derivatives[listed, column].tolist(), strict=True)
    return WorkedEntry(
        _label(f"∂L/∂{x}", column, jacobian.in_shape),
        tuple([Term(_label(y, row, jacobian.out_shape), weight, derivative) for row, weight, derivative in numbers]),
        len(rows) - len(listed),
        added_up(weights, matrix, column),
    )


def live_terms(factors: np.ndarray, derivatives: np.ndarray) -> np.ndarray:
    """Which terms v_k J_kl are not zero, of v (m) and J (m, n), or of several J along axes in front."""
    with np.errstate(all="ignore"):
        found: np.ndarray = factors[:, None] * derivatives != 0
    return found


def worked_column(live: np.ndarray) -> tuple[int, np.ndarray]:
    """The column whose entry is worked out, the first with a term that is not zero, and the rows of its terms."""
    column = int(live.any(0).argmax())
    return column, live[:, column].nonzero()[0]


def added_up(weights: Tensor, matrix: Tensor, column: int) -> float:
    """The entry of vᵀJ in a column."""
    return float(torch.dot(weights.to(matrix.dtype), matrix[:, column]).item())


@lru_cache(maxsize=4096)
def _label(name: str, place: int, shape: Shape) -> str:
    """What an entry is called that is number `place` in row-major order."""
    return entry_label(name, unravel(place, shape))


def unravel(flat: int, shape: Shape) -> tuple[int, ...]:
    """The index of the entry that is number `flat` in row-major order."""
    index = []
    for length in reversed(shape):
        flat, position = divmod(flat, length)
        index.append(position)
    return tuple(reversed(index))
