"""The answers, as plain data: numbers, strings, tuples and numpy arrays; no tensors, no text layout.

Every renderer (text, JSON, HTML) takes these and nothing else.  Field names are the JSON contract's names.  A field
whose default is None is left out of the JSON document where it is None; arrays are row-major; a shape of a Jacobian
is the output's followed by the input's.  Here are the parts that all share and the answer of `jvp inspect`; the other
commands' answers are modules of their own, since a small question should not wait for all of them to be made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputValue:
    """An input; `value` is None above the size that is written out."""

    shape: Shape
    dtype: str
    device: str
    differentiated: bool
    value: np.ndarray | None


@dataclass(frozen=True)
class Value:
    """An output, a vjp or a jvp; `value` is None above the size that is written out."""

    shape: Shape
    dtype: str
    value: np.ndarray | None


@dataclass(frozen=True)
class Cotangent:
    """The weights of one output; `source` is what the user wrote, or `ones`."""

    source: str
    shape: Shape
    dtype: str
    value: np.ndarray | None


@dataclass(frozen=True)
class Jacobian:
    """∂output/∂input, written out as `format` says: dense (`value`), coo (`indices`, `values`) or omitted (`reason`).

    Of a Jacobian that is not held (structure `unknown`) the Frobenius norm and the main diagonal of the flattened matrix
    are told, where all its rows can be passed through in a short time.

    Of a complex output of a real input an entry is ∂(Re y)/∂x + i ∂(Im y)/∂x.  Of a complex output of a complex input it is the
    gradient of Re y; where that of Im y is not i times the same (y is not complex differentiable), `imaginary` is that, entry
    by entry as `value` or `values`.

    `nnz` is None where it could not be counted within the limits.  `structure` is the most special kind that holds;
    `structure_from` says whether the operations or the values (here and at random points nearby) showed it, `scale` is
    the number that an identity is times.
    """

    shape: Shape
    dtype: str
    nnz: int | None
    structure: str
    structure_from: str
    format: str
    value: np.ndarray | None = None
    indices: tuple[np.ndarray, ...] | None = None
    values: np.ndarray | None = None
    imaginary: np.ndarray | None = None
    reason: str | None = None
    frobenius_norm: float | None = None
    diagonal: np.ndarray | None = None
    scale: np.ndarray | None = None


@dataclass(frozen=True)
class Blocks:
    """The norms √Σ|J|² of a Jacobian's blocks: output and input are cut along their first axes into pieces of these sizes.

    The last piece of an axis may be smaller; axes without a size stay whole.  `norms` has an axis for each axis that is cut, the
    output's first, as long as it has pieces.
    """

    output_sizes: Shape
    input_sizes: Shape
    norms: np.ndarray


@dataclass(frozen=True)
class Stored:
    """A Jacobian as it was written to a Zarr store: the matrix of the flattened output by the flattened input, in blocks.

    `format` is dense or csr, `along` says whether blocks are of rows or of columns, `block_size` of how many.  `nnz`,
    `frobenius_norm` and the main `diagonal` (None above the size that is written out) are of all blocks together; `picture` are
    the norms of pieces of the matrix.  `jvp_difference` is how far J·u, read back from the store, is from that of autograd at
    most, for a random u; None where autograd does not tell it.
    """

    format: str
    along: str
    blocks: int
    block_size: int
    nnz: int
    frobenius_norm: float
    picture: Blocks
    jvp_difference: float | None = None
    diagonal: np.ndarray | None = None


@dataclass(frozen=True)
class Saved:
    """What stands in a Zarr store: so many blocks, of which this run computed some, and the bytes that they take on the disk."""

    path: str
    blocks: int
    computed: int
    bytes: int
    jacobian: Mapping[str, Mapping[str, Stored]]


@dataclass(frozen=True)
class Term:
    """One product v·J of a worked-out entry: which output entry it comes from, and both factors."""

    label: str
    cotangent: float
    derivative: float


@dataclass(frozen=True)
class WorkedEntry:
    """One entry of a VJP, term by term with the zero terms left out; `hidden` counts terms that are not listed."""

    label: str
    terms: tuple[Term, ...]
    hidden: int
    result: float


@dataclass(frozen=True)
class Contraction:
    """How v and one Jacobian make one VJP: index notation, einsum, and which product that is."""

    einsum: str
    formula: str
    product: str
    entry: WorkedEntry | None = None


@dataclass(frozen=True)
class Plan:
    """How the derivatives are computed: decided before computing.

    `strategy` is dense (one pass a row or column), accumulated (local Jacobians multiplied together: no passes), batched
    (the rows of all samples of a batch by one pass, as far as they stay apart), blocks (each by a way of its own, written to a
    store) or matrix_free (products alone);
    `peak_bytes` is an upper bound over what the evaluation holds.
    """

    mode: str
    passes: int
    peak_bytes: int
    reason: str
    strategy: str


@dataclass(frozen=True)
class Notice:
    """A warning: a code of the contract and a sentence; `claim` is a code of what the sentence states."""

    code: str
    message: str
    claim: str | None = None


@dataclass(frozen=True)
class Refusal:
    """What PyTorch raises for the call that was pasted, and what it would need; the answer is the one for ones."""

    message: str
    explanation: str


@dataclass(frozen=True)
class Call:
    """A call for a derivative in the program that was given: its number, as `call` takes it, its line and its text.

    `explained` are the one that the answer is about, and those whose gradients `.grad` holds as well.
    """

    number: int
    line: int
    source: str
    explained: bool


@dataclass(frozen=True)
class PassedOver:
    """A statement of the program that was given which is not carried out, such as `print` and `assert`, and its line."""

    what: str
    line: int


@dataclass(frozen=True)
class Comparison:
    """The VJPs from the explicit Jacobian against those of `torch.autograd.grad`, entry by entry.

    `not_finite` entries could not be compared: 0·∞ is NaN in a sum over all terms, and autograd may skip the term.
    """

    compared: int
    not_finite: int
    largest_difference: float


@dataclass(frozen=True)
class InspectReport:
    """The answer of `jvp inspect`.

    With `is_grads_batched` every cotangent, and so every vjp, has an axis in front: one row for each v.  Where several calls of
    backward add up, `parts` are what each output, those of the calls in order, adds to each vjp.  `saved` is what was written to
    a Zarr store.
    """

    expression: str
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    grad_outputs: Mapping[str, Cotangent]
    jacobian: Mapping[str, Mapping[str, Jacobian]]
    vjp: Mapping[str, Value]
    contraction: Mapping[str, Mapping[str, Contraction]]
    comparison: Comparison
    plan: Plan
    warnings: tuple[Notice, ...] = ()
    jvp: Mapping[str, Value] | None = None
    spectrum: Mapping[str, Mapping[str, np.ndarray]] | None = None
    spectrum_error: Mapping[str, Mapping[str, np.ndarray]] | None = None
    blocks: Mapping[str, Mapping[str, Blocks]] | None = None
    tangent: Mapping[str, Cotangent] | None = None
    is_grads_batched: bool | None = None
    refusal: Refusal | None = None
    calls: tuple[Call, ...] | None = None
    passed_over: tuple[PassedOver, ...] | None = None
    parts: Mapping[str, Mapping[str, Value]] | None = None
    saved: Saved | None = None


@dataclass(frozen=True)
class Way:
    """One way to compute a Jacobian: an upper bound of its cost, and whether it fits into the memory limit."""

    strategy: str
    mode: str
    passes: int
    operations: int
    peak_bytes: int
    fits: bool


@dataclass(frozen=True)
class OutputPlan:
    """The plan for one output: m by n entries, at most `bound` of them not zero; the ways, the chosen one first."""

    m: int
    n: int
    bound: int
    ways: tuple[Way, ...]
    reason: str


@dataclass(frozen=True)
class PlanReport:
    """The answer of `jvp inspect --explain-plan`: what would be done; no derivative is computed."""

    expression: str
    memory_limit: int | None
    plans: Mapping[str, OutputPlan]
