"""The answer of `jvp trace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jvpcli.report import Call, Comparison, Cotangent, InputValue, Notice, PassedOver, Refusal, Shape, Value

if TYPE_CHECKING:
    import numpy as np


MARK = "′"
"""Behind the letters of what has no name, in a trace where something is called as one of these letters."""


@dataclass(frozen=True)
class LocalJacobian:
    """∂step/∂operand of one step, and how the step contracts it with the cotangent that arrives.

    `position` counts the step's tensor operands as the text gives them; `shape` is the result's followed by the
    operand's.  `structure` is one of a Jacobian's kinds, or `sum`: each operand entry is added into one result entry.
    `part` names the result where the step has several, `value` is written out for a step that is opened, `scale` is the
    number that an identity is times.
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
    imaginary: np.ndarray | None = None
    scale: np.ndarray | None = None


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
    where no gradient comes by.  `norm` is the cotangents' Euclidean norm.  Of a step of the user's own code `file` and `line` say
    where it is, and `module` is the dotted path of the module that it ran in, empty outside of modules.
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
    file: str | None = None
    line: int | None = None
    module: str | None = None


def inside(steps: Sequence[TraceStep], path: str) -> list[TraceStep]:
    """The steps of a submodule by its dotted path; in front of it may stand what the net itself is called: `net.encoder.0`."""
    found = [step for step in steps if _is_in(step, path)]
    if found:
        return found
    nets = [step.source.removesuffix(f".{step.module}") for step in steps if step.module and step.source.endswith(step.module)]
    net = next((net for net in nets if f"{path}.".startswith(f"{net}.")), None)
    if net is None:
        return []
    rest = path[len(net) + 1 :]
    return [step for step in steps if step.module and (not rest or _is_in(step, rest))]


def _is_in(step: TraceStep, path: str) -> bool:
    return step.module == path or (step.module or "").startswith(f"{path}.")


@dataclass(frozen=True)
class Finding:
    """Where a gradient goes wrong: a code of the contract, the step, a sentence, and what cures it.

    `reason` says of a zero whether it is `structural` (whatever the values), `saturated`, `cancelled`, a `kink`, a `stationary`
    point, due to a `value` here, or to `rounding`; `rewrite` is the whole expression with the cure in it, which has been
    tried; `claim` is a code of what the sentence states.
    """

    code: str
    step: int | None
    message: str
    hints: tuple[str, ...]
    reason: str | None = None
    rewrite: str | None = None
    claim: str | None = None


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
    refusal: Refusal | None = None
    calls: tuple[Call, ...] | None = None
    passed_over: tuple[PassedOver, ...] | None = None
