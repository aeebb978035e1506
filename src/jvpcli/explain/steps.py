"""The steps of a trace as plain data: forward values, local Jacobians with their contraction, and what flows on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from jvpcli.derive.chain import LocalMap
from jvpcli.derive.replay import Step
from jvpcli.explain import build
from jvpcli.explain.contraction import index_letters
from jvpcli.explain.traced import Traced, operation_name
from jvpcli.report import Shape, Value
from jvpcli.report.trace import Contribution, LocalJacobian, StepPart, TraceStep

LONGEST_SYMBOL = 12
"""A name longer than this is replaced by a letter in formulas."""

LETTERS = "abcdefgh"
"""Letters for the operands that have no name of their own."""


def trace_steps(traced: Traced, opened: int | None = None) -> tuple[TraceStep, ...]:
    """Every step in evaluation order; the local Jacobians of step `opened` with their values."""
    return tuple([trace_step(traced, index, opened == index) for index in range(len(traced.chain.steps))])


def trace_step(traced: Traced, index: int, opened: bool) -> TraceStep:
    """One step."""
    step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
    main = next((k for k, v in enumerate(arrived) if v is not None), 0)
    here = [v for v in arrived if v is not None]
    shape, dtype, value = _result(step, main)
    return TraceStep(
        index=index,
        op=operation_name(step),
        source=traced.program.text(step.equation.span),
        span=step.equation.span,
        operands=tuple([traced.labels[primal.number] for primal in step.operands]),
        output=traced.names[index],
        shape=shape,
        dtype=dtype,
        value=value,
        cotangent=build.value(arrived[main]) if here else None,  # type: ignore[arg-type]
        norm=norm(here) if here else None,
        local_jacobians=tuple(_local_jacobians(traced, index, opened)),
        contributions=tuple(_contributions(traced, index)),
        parts=tuple(_parts(traced, index)) if len(step.results) > 1 else None,
    )


def norm(tensors: list[Tensor]) -> float:
    """The Euclidean norm of all entries; the largest is taken out, so that no square overflows."""
    sizes = torch.cat([torch.zeros(0), *(t.detach().abs().double().reshape(-1).cpu() for t in tensors)])
    largest = float(sizes.max()) if sizes.numel() else 0.0
    if not math.isfinite(largest) or largest == 0.0:
        return largest
    return largest * float((sizes / largest).square().sum().sqrt())


def _result(step: Step, main: int) -> tuple[Shape, str, np.ndarray | None]:
    """Shape, dtype and value of a step: of the tensor it gives, or of the number."""
    if step.results:
        value = build.value(step.results[main].primal.tensor)
        return value.shape, value.dtype, value.value
    number = isinstance(step.value, (bool, int, float, complex))
    sizes = isinstance(step.value, (tuple, list)) and all(isinstance(n, (bool, int, float)) for n in step.value)
    array = np.asarray(step.value) if number or sizes else None
    return () if array is None else array.shape, type(step.value).__name__, array


def _local_jacobians(traced: Traced, index: int, opened: bool) -> Iterator[LocalJacobian]:
    step, passed = traced.chain.steps[index], traced.swept.contributions[index]
    for local in traced.maps[index]:
        if local.structure == "zero" and passed[local.position] is None:
            continue  # this result does not depend on this operand at all
        result = traced.labels[step.results[local.result].primal.number]
        operand = traced.labels[step.operands[local.position].number]
        einsum, formula = contraction(result, operand, local)
        yield LocalJacobian(
            operand=operand,
            position=local.position,
            shape=local.out_shape + local.in_shape,
            nnz=local.nnz,
            structure=local.structure,
            einsum=einsum,
            formula=formula,
            part=result if len(step.results) > 1 else None,
            value=build.array(local.jacobian.to_dense()) if opened and local.jacobian is not None else None,
        )


def _contributions(traced: Traced, index: int) -> Iterator[Contribution]:
    step = traced.chain.steps[index]
    for position, gradient in enumerate(traced.swept.contributions[index]):
        if gradient is not None:
            operand = traced.labels[step.operands[position].number]
            entry = build.value(gradient)
            yield Contribution(operand, position, entry.shape, entry.dtype, entry.value)


def _parts(traced: Traced, index: int) -> Iterator[StepPart]:
    step = traced.chain.steps[index]
    for result, v in zip(step.results, traced.swept.arrived[index], strict=True):
        entry = build.value(result.primal.tensor)
        arrived: Value | None = None if v is None else build.value(v)
        yield StepPart(traced.labels[result.primal.number], entry.shape, entry.dtype, entry.value, arrived)


def contraction(result: str, operand: str, local: LocalMap) -> tuple[str, str]:
    """einsum and formula of v · ∂result/∂operand; for special kinds the formula is what it comes down to."""
    inner, outer = index_letters(local.in_shape, local.out_shape)
    z = _symbol(result, "z")
    a = _symbol(operand, LETTERS[local.position % len(LETTERS)])
    einsum = f"{outer},{outer}{inner}->{inner}"
    same = local.in_shape == local.out_shape
    match local.structure:
        case "zero":
            right = "0"
        case "identity" if same:
            right = f"{_factor(local)}{_at('v', inner)}"
        case "diagonal" if same:
            right = f"{_at('v', inner)} · ∂{_at(z, inner)}/∂{_at(a, inner)}"
        case _:
            total = f"Σ_{outer} " if outer else ""
            right = f"{total}{_at('v', outer)} · ∂{_at(z, outer)}/∂{_at(a, inner)}"
    return einsum, f"∂L/∂{_at(a, inner)} = {right}"


def _at(name: str, axes: str) -> str:
    return f"{name}_{axes}" if axes else name


def _symbol(label: str, letter: str) -> str:
    return label if label.isidentifier() and len(label) <= LONGEST_SYMBOL else letter


def _factor(local: LocalMap) -> str:
    """`2 · ` for two times the identity; nothing for the identity itself."""
    if local.jacobian is None:
        return "c · "
    number = local.jacobian.to_dense().reshape(-1)[0].item()
    return "" if number == 1 else f"{number:.4g} · "
