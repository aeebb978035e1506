"""How v and a Jacobian make a VJP, in index notation, as einsum, in words, and one entry worked out."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, LinearMap
from jvpcli.report import Contraction, Shape, Term, WorkedEntry

LETTERS = ascii_lowercase[8:] + ascii_lowercase[:8] + ascii_uppercase
"""Index letters in the order in which they are given out: i, j, k, …"""

LARGEST_WORKED_OUT = 1_000_000
"""Up to so many entries of a Jacobian one entry of the result is worked out."""

MOST_TERMS = 16
"""Terms of a worked entry that are listed."""

LEAST_PICKED = 64
"""Of a vector no longer than this all entries are read: it is quicker than to pick some."""


def contract(y: str, x: str, jacobian: LinearMap, v: Tensor, batched: bool = False) -> Contraction:
    """The contraction of output `y`'s cotangent v (out_shape) with ∂y/∂x (out_shape + in_shape).

    With `batched` v holds several along an axis in front, and so does the result.
    """
    input_axes, output_axes = index_letters(jacobian.in_shape, jacobian.out_shape)
    if batched:
        each = LETTERS[len(input_axes) + len(output_axes)]
        several = "There are several v, one along the first axis of grad_outputs, and each has a row of the result; of each: "
        return Contraction(
            einsum=f"{each}{output_axes},{output_axes}{input_axes}->{each}{input_axes}",
            formula=_formula(y, x, jacobian, input_axes, output_axes, each),
            product=several + product_in_words(y, x, jacobian),
        )
    return Contraction(
        einsum=f"{output_axes},{output_axes}{input_axes}->{input_axes}",
        formula=_formula(y, x, jacobian, input_axes, output_axes),
        product=product_in_words(y, x, jacobian),
        entry=work_out(y, x, jacobian, v),
    )


def index_letters(in_shape: Shape, out_shape: Shape) -> tuple[str, str]:
    """The letters of the input's axes (from i on) and of the output's (after those)."""
    split = len(in_shape)
    letters = LETTERS[: split + len(out_shape)]
    return letters[:split], letters[split:]


def entry_label(name: str, index: tuple[int, ...]) -> str:
    """`y[0,1]`, or `y` for a 0-d tensor."""
    return f"{name}[{','.join(map(str, index))}]" if index else name


def _formula(y: str, x: str, jacobian: LinearMap, input_axes: str, output_axes: str, each: str = "") -> str:
    left = f"∂{_indexed('L', each)}/∂{_indexed(x, input_axes)}"
    total = f"Σ_{output_axes} " if output_axes else ""
    at, y_at, x_at = _indexed("v", each + output_axes), _indexed(y, output_axes), _indexed(x, input_axes)
    return f"{left} = {total}{term(at, y_at, x_at, jacobian.splits)}"


def term(v: str, y: str, x: str, splits: bool) -> str:
    """`v · ∂y/∂x`; where Re v and Im v go ways of their own, both."""
    return f"(Re {v} · ∂(Re {y})/∂{x} + Im {v} · ∂(Im {y})/∂{x})" if splits else f"{v} · ∂{y}/∂{x}"


def _indexed(name: str, axes: str) -> str:
    return f"{name}_{axes}" if axes else name


def product_in_words(y: str, x: str, jacobian: LinearMap) -> str:
    """Which product this is: what the flattened sizes are and what the Jacobian's kind reduces it to."""
    sentences = [_sizes(y, jacobian), (_kind_of_parts if jacobian.splits else _kind)(y, x, jacobian)]
    if isinstance(jacobian, ComplexMap):
        sentences.append(_convention(y, x, jacobian))
    return " ".join(filter(None, sentences))


def _sizes(y: str, jacobian: LinearMap) -> str:
    m, n = jacobian.m, jacobian.n
    if jacobian.out_shape == () and jacobian.splits:
        return (
            f"{y} is a single number with two gradients (flattened: 1×{n}), that of Re {y} and that of Im {y}: the result is "
            "Re v times the one plus Im v times the other."
        )
    if jacobian.out_shape == ():
        return (
            f"{y} is a single number, so the Jacobian is simply its gradient (flattened: 1×{n}) and v a single weight: "
            "the result is v times the gradient."
        )
    if jacobian.splits:
        parts = f"Re v and Im v are row vectors of {m}, and the Jacobians of Re {y} and of Im {y}"
        return f"Flattened, {parts} are {m}×{n} matrices: the result is the sum of two products of a vector and a matrix."
    matrix = f"Flattened, v is a row vector of {m} and the Jacobian a {m}×{n} matrix"
    if len(jacobian.out_shape) == 1:
        return f"{matrix}: the result is the product of a vector and a matrix, v on the left (vᵀJ)."
    return (
        f"{matrix}; the result is vᵀJ, a row vector of {n} reshaped to {jacobian.in_shape}. This is why the docs call "
        f"a tensor of shape {jacobian.out_shape} a “vector”, and this a vector-Jacobian product: v stands on the left."
    )


def _kind(y: str, x: str, jacobian: LinearMap) -> str:
    """What the product comes down to, from the kind of the Jacobian alone."""
    m, n = jacobian.m, jacobian.n
    if jacobian.out_shape == () and jacobian.structure != "zero":
        return ""
    match jacobian.structure:
        case "unknown":
            if jacobian.nnz is None:
                return "The entries of this Jacobian were not computed, so nothing is known of their structure."
            return (
                f"It is a matrix product; which entries of the Jacobian are zero at every point was not found out: here "
                f"{jacobian.nnz} of the {m * n} are not."
            )
        case "zero":
            return (
                f"Every entry of this Jacobian is zero: no {y} changes with {x} here, so the product is zero for any v."
            )
        case _ if jacobian.nnz == 0:
            return (
                f"Every entry of this Jacobian is zero here, so the product is zero for any v; elsewhere {y} may change with {x}."
            )
        case "identity":
            return (
                f"The Jacobian is {_number(jacobian)} times the identity: the product comes down to "
                f"{_number(jacobian)} · v."
            )
        case "diagonal":
            return (
                f"The Jacobian is diagonal (each entry of {y} depends on one entry of {x}, its own), so this product comes "
                "down to element-wise multiplication of v with the diagonal."
            )
        case "selection":
            return (
                f"The Jacobian only selects (each entry of {y} is a copy of one entry of {x}, or a constant), so the product "
                f"comes down to carrying each v back to the entry that was copied, adding where one was copied more than once."
            )
        case "banded":
            return (
                "It is a matrix product, not an element-wise one, but banded: only entries near the diagonal take part."
            )
        case "block_diagonal":
            return (
                "The Jacobian is block-diagonal: the product comes down to one small vector-matrix product a block, "
                "none of which sees the others."
            )
        case "sparse":
            return (
                f"It is a matrix product, not an element-wise one; {jacobian.nnz} of the {m * n} entries of the Jacobian are "
                "not zero, and only those take part."
            )
    if jacobian.nnz is not None and jacobian.nnz < m * n:
        return (
            f"It is a matrix product, not an element-wise one: {jacobian.nnz} of the {m * n} entries of the Jacobian are not "
            "zero here."
        )
    return f"It is a matrix product, not an element-wise one: every entry of {x} may collect from every entry of {y}."


def _kind_of_parts(y: str, x: str, jacobian: LinearMap) -> str:
    """What the product comes down to where Re v and Im v go ways of their own."""
    if jacobian.nnz == 0:
        return f"Every entry of both is zero: no {y} changes with {x} here, so the product is zero for any v."
    if jacobian.out_shape == ():
        return ""
    if jacobian.structure == "unknown":
        return "They are matrix products; which entries are zero at every point was not found out."
    if jacobian.structure in ("identity", "diagonal"):
        return (
            f"Both are diagonal (each entry of {y} depends on one entry of {x}, its own), so these products come down to "
            "element-wise multiplication of Re v and of Im v with the diagonals."
        )
    return "They are matrix products, not element-wise ones."


def _number(jacobian: LinearMap) -> str:
    if jacobian.scale is None:
        return "a number"
    number = jacobian.scale.item()
    return f"({number:g})" if isinstance(number, complex) else f"{number:g}"


def _convention(y: str, x: str, jacobian: ComplexMap) -> str:
    text = (
        "Complex numbers: PyTorch's grad gives ∂L/∂Re + i·∂L/∂Im (the conjugate of the mathematician's ∂L/∂z, times two "
        "for a real L), so that −grad points downhill."
    )
    if not jacobian.splits:
        return text if jacobian.imaginary is None else f"{text} The Jacobian shown is conj(d{y}/d{x})."
    if not jacobian.rows.is_complex():
        whole = f"∂(Re {y})/∂{x} + i·∂(Im {y})/∂{x}"
        return f"{text} The input is real, and so is its gradient: the result is also Re(conj(v)·({whole}))."
    return f"{text} The gradient of Im {y} is not i times that of Re {y} here: the result takes both, and v·J alone is not it."


def work_out(y: str, x: str, jacobian: LinearMap, v: Tensor) -> WorkedEntry | None:
    """One entry of the result, term by term, zero terms left out: the first entry that has a nonzero term.

    None for a Jacobian that is too large or was not computed, for an empty one, and for complex tensors.
    """
    size = jacobian.m * jacobian.n
    unknown = isinstance(jacobian, ComplexMap) or jacobian.nnz is None or v.is_complex()
    if unknown or not 0 < size <= LARGEST_WORKED_OUT:
        return None
    weights, matrix = v.reshape(-1), jacobian.to_dense().reshape(jacobian.m, jacobian.n)
    live = (weights[:, None] * matrix).ne(0).cpu().numpy()
    column = int(live.any(0).argmax())
    derivatives = matrix[:, column]
    rows = live[:, column].nonzero()[0].tolist()
    listed = rows[:MOST_TERMS]
    factors = zip(_numbers(weights, listed), _numbers(derivatives, listed), strict=True)
    terms = tuple(
        Term(entry_label(y, unravel(row, jacobian.out_shape)), weight, derivative)
        for row, (weight, derivative) in zip(listed, factors, strict=True)
    )
    result = torch.dot(weights.to(matrix.dtype), derivatives).item()
    return WorkedEntry(
        entry_label(f"∂L/∂{x}", unravel(column, jacobian.in_shape)), terms, len(rows) - len(terms), result
    )


def _numbers(vector: Tensor, places: list[int]) -> list[float]:
    """The entries at some places, as Python's numbers."""
    few = vector if len(vector) <= LEAST_PICKED else vector[places]
    found: list[float] = few.tolist()
    return found if few is not vector else [found[place] for place in places]


def unravel(flat: int, shape: Shape) -> tuple[int, ...]:
    """The index of the entry that is number `flat` in row-major order."""
    index = []
    for length in reversed(shape):
        flat, position = divmod(flat, length)
        index.append(position)
    return tuple(reversed(index))
