"""The answers, as plain data: numbers, strings, tuples and numpy arrays; no tensors, no text layout.

Every renderer (text, JSON, HTML) takes these and nothing else.  Field names are the JSON contract's names.  A field
whose default is None is left out of the JSON document where it is None; arrays are row-major; a shape of a Jacobian
is the output's followed by the input's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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

    `nnz` is None where it could not be counted within the limits.  `structure` is the most special kind that holds;
    `structure_from` says whether the operations or the values (here and at random points nearby) showed it.
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
    reason: str | None = None
    frobenius_norm: float | None = None
    diagonal: np.ndarray | None = None


@dataclass(frozen=True)
class Term:
    """One product v·J of a worked-out entry: which output entry it comes from, and both factors."""

    label: str
    cotangent: Any
    derivative: Any


@dataclass(frozen=True)
class WorkedEntry:
    """One entry of a VJP, term by term with the zero terms left out; `hidden` counts terms that are not listed."""

    label: str
    terms: tuple[Term, ...]
    hidden: int
    result: Any


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

    `strategy` is dense (one pass a row or column), accumulated (local Jacobians multiplied together: no passes) or
    matrix_free (products alone); `peak_bytes` is an upper bound over what the evaluation holds.
    """

    mode: str
    passes: int
    peak_bytes: int
    reason: str
    strategy: str


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


@dataclass(frozen=True)
class Notice:
    """A warning: a code of the contract and a sentence."""

    code: str
    message: str


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
    """The answer of `jvp inspect`."""

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
    tangent: Mapping[str, Cotangent] | None = None


@dataclass(frozen=True)
class Operation:
    """Something that an expression can call, read or name; a method is written `x.name`."""

    name: str
    kind: str
    signature: str
    description: str


@dataclass(frozen=True)
class OpsReport:
    """The answer of `jvp ops`; `note` says why where nothing was found."""

    word: str
    operations: tuple[Operation, ...]
    note: str | None = None


@dataclass(frozen=True)
class Explanation:
    """The answer of `jvp explain`: a message in plain words."""

    title: str
    meaning: str
    causes: tuple[str, ...]
    cures: tuple[str, ...]
    matched: str
    shapes: tuple[Shape, ...] = field(default=())


@dataclass(frozen=True)
class LocalJacobian:
    """∂step/∂operand of one step, and how the step contracts it with the cotangent that arrives.

    `position` counts the step's tensor operands as the text gives them; `shape` is the result's followed by the
    operand's.  `structure` is one of a Jacobian's kinds, or `sum`: each operand entry is added into one result entry.
    `part` names the result where the step has several, `value` is written out for a step that is opened.
    """

    operand: str
    position: int
    shape: Shape
    nnz: int | None
    structure: str
    einsum: str
    formula: str
    part: str | None = None
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Contribution:
    """What flows on from one step to one of its operands."""

    operand: str
    position: int
    shape: Shape
    dtype: str
    value: np.ndarray | None


@dataclass(frozen=True)
class StepPart:
    """One of several tensors that a step gives: its value, and the cotangent that arrives at it."""

    output: str
    shape: Shape
    dtype: str
    value: np.ndarray | None
    cotangent: Value | None


@dataclass(frozen=True)
class TraceStep:
    """One operation: forward its operands and value, backward what arrives, its local Jacobians and what flows on.

    `op` is `write` for what an in-place step did to a tensor that shares memory with the one it changed, and `output`
    for an input that is itself an output.  `shape`, `dtype`, `value` and `cotangent` are those of the result; where
    there are several (`parts`), of the first that a cotangent arrives at.  `cotangent` is None, and nothing flows on,
    where no gradient comes by.  `norm` is the cotangents' Euclidean norm.
    """

    index: int
    op: str
    source: str
    span: tuple[int, int]
    operands: tuple[str, ...]
    output: str
    shape: Shape
    dtype: str
    value: np.ndarray | None
    cotangent: Value | None
    norm: float | None
    local_jacobians: tuple[LocalJacobian, ...]
    contributions: tuple[Contribution, ...]
    parts: tuple[StepPart, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """Where a gradient goes wrong: a code of the contract, the step, a sentence, and what cures it.

    `reason` says of a zero whether it is `structural`, `saturated`, `cancelled`, a `kink` or a `stationary` point;
    `rewrite` is the whole expression with the cure in it, which has been tried.
    """

    code: str
    step: int | None
    message: str
    hints: tuple[str, ...]
    reason: str | None = None
    rewrite: str | None = None


@dataclass(frozen=True)
class TraceReport:
    """The answer of `jvp trace`.

    `output_values` says which step's (or part's) `output` each output is.  `comparison` is of the swept gradients with
    those of `torch.autograd.grad`; `product` of the local Jacobians multiplied together with the explicit Jacobian, or
    None where they are too large for that.
    """

    expression: str
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    grad_outputs: Mapping[str, Cotangent]
    vjp: Mapping[str, Value]
    steps: tuple[TraceStep, ...]
    output_values: Mapping[str, str]
    findings: tuple[Finding, ...]
    comparison: Comparison
    product: Comparison | None
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class CheckedEntry:
    """One entry of a Jacobian as autograd has it and as differences have it.

    A part ("real" or "imag") is there for complex tensors.  `below` and `above` are the one-sided derivatives at a kink;
    `over` is the width of the difference where it is not as small as it can be (a staircase).
    """

    output: str
    output_index: tuple[int, ...]
    input: str
    input_index: tuple[int, ...]
    analytic: float
    numeric: float
    output_part: str | None = None
    input_part: str | None = None
    below: float | None = None
    above: float | None = None
    over: float | None = None


@dataclass(frozen=True)
class GuiltyStep:
    """The step that makes a gradient wrong: its text and place in the expression, or file and line of the user's code."""

    source: str
    span: tuple[int, int] | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Comparing:
    """One comparison of a check: what with what, whether it agrees (None: not compared), how far off it is, and how."""

    name: str
    agrees: bool | None
    error: float | None
    about: str


@dataclass(frozen=True)
class CheckReport:
    """The answer of `jvp check`.

    `max_error` is |analytic − numeric| of the worst entry (infinite where one of them is not finite); for verdict
    `nondeterministic`, where there is no derivative to check, how far two evaluations differ.
    """

    expression: str
    passed: bool
    verdict: str
    max_error: float
    worst: CheckedEntry | None
    explanation: str
    hints: tuple[str, ...]
    comparisons: tuple[Comparing, ...]
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    warnings: tuple[Notice, ...] = ()
    step: GuiltyStep | None = None
