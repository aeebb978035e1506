"""The derivatives of one evaluation: which way, in how many passes, and the linear maps that come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from jvpcli.derive.dense import forward_jacobian, reverse_jacobian
from jvpcli.derive.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.derive.nearby import Rerun, sampled
from jvpcli.derive.structure import classify_values
from jvpcli.report import Notice, Plan

NEARBY = 0.05
"""How far, relative to each entry, the structure is sampled: far enough to leave an accident, near enough to be valid."""


@dataclass(frozen=True)
class Derivatives:
    """The Jacobian of every differentiable output to every differentiated input, and how it was computed."""

    maps: Mapping[tuple[str, str], LinearMap]
    plan: Plan
    structure_from: str
    notices: tuple[Notice, ...] = ()


def make_plan(outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], mode: str = "auto") -> Plan:
    """Forward or reverse, by the number of passes; `mode` other than "auto" settles it."""
    m = sum(y.numel() for y in outputs.values())
    n = sum(x.numel() for x in inputs.values())
    is_complex = any(t.is_complex() for t in (*outputs.values(), *inputs.values()))
    itemsize = max((y.element_size() for y in outputs.values()), default=4)
    if is_complex:
        backward = sum(y.numel() * (1 + y.is_complex()) for y in outputs.values())
        chosen, passes, why = "reverse", backward, "complex tensors: one backward pass a row"
    elif mode == "forward" or (mode == "auto" and n < m):
        chosen, passes = "forward", n
        why = f"one pass a column: {n} input entries against {m} output entries"
    else:
        chosen, passes = "reverse", m
        why = f"one pass a row: {m} output entries against {n} input entries"
    if mode != "auto" and chosen == mode:
        why = f"asked for with --mode {mode}; {why}"
    return Plan(mode=chosen, passes=passes, peak_bytes=2 * m * n * itemsize, reason=why)


def derive(
    outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], rerun: Rerun, mode: str = "auto"
) -> Derivatives:
    """Every ∂output/∂input as a linear map.

    Args:
        outputs: differentiable outputs with their graph.
        inputs: the differentiated leaves.
        rerun: evaluates the program at other values of the inputs.
        mode: "auto", "forward" or "reverse".
    """
    plan = make_plan(outputs, inputs, mode)
    maps, plan, notices = _maps(outputs, inputs, plan)
    samples = _sample(inputs, rerun, plan)
    return Derivatives({key: _with_kind(j, samples.get(key)) for key, j in maps.items()}, plan, "values", notices)


def _maps(
    outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], plan: Plan
) -> tuple[dict[tuple[str, str], LinearMap], Plan, tuple[Notice, ...]]:
    """The maps by the planned mode, or by the reverse mode where an operation has no second derivative."""
    if plan.mode == "forward":
        try:
            return _by(forward_jacobian, outputs, inputs), plan, ()
        except RuntimeError as error:
            plan = replace(plan, mode="reverse", passes=sum(y.numel() for y in outputs.values()))
            reason = str(error).splitlines()[0]
            notice = Notice("fallback", f"forward mode cannot be used here ({reason}); reverse mode was used instead")
            return _by(reverse_jacobian, outputs, inputs), plan, (notice,)
    return _by(reverse_jacobian, outputs, inputs), plan, ()


Engine = Callable[[Tensor, Sequence[Tensor]], list[LinearMap]]


def _by(
    engine: Engine, outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> dict[tuple[str, str], LinearMap]:
    leaves = list(inputs.values())
    return {
        (y_name, x_name): jacobian
        for y_name, y in outputs.items()
        for x_name, jacobian in zip(inputs, engine(y, leaves), strict=True)
    }


def _sample(inputs: Mapping[str, Tensor], rerun: Rerun, plan: Plan) -> dict[tuple[str, str], LinearMap]:
    """The maps at a random point nearby; none where the function cannot be evaluated there."""
    for step in (-NEARBY, NEARBY):  # inwards first: that stays in the domain more often
        try:
            leaves, outputs = rerun(sampled(inputs, step, seed=7))
            maps = _maps({name: y for name, y in outputs.items() if y.requires_grad}, leaves, plan)[0]
        except Exception:  # any failure of the user's function off the point only costs the sample
            continue
        if all(_finite(linear_map) for linear_map in maps.values()):
            return maps
    return {}


def _with_kind(jacobian: LinearMap, sample: LinearMap | None) -> LinearMap:
    if isinstance(jacobian, DenseMap):
        matrices = [jacobian.matrix]
        if isinstance(sample, DenseMap) and sample.matrix.shape == jacobian.matrix.shape:
            matrices.append(sample.matrix)
        return replace(jacobian, kind=classify_values(matrices))
    if isinstance(jacobian, ComplexMap):
        return replace(jacobian, kind=classify_values([jacobian.rows]))
    return jacobian


def _finite(linear_map: LinearMap) -> bool:
    """Whether the sample did not leave the function's domain."""
    return not isinstance(linear_map, DenseMap) or bool(linear_map.matrix.isfinite().all())
