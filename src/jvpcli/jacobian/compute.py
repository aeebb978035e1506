"""The one door to Jacobians: the derivatives of one evaluation as linear maps, and the plan that says how they are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.jacobian import engine
from jvpcli.jacobian.dense import forward_jacobian, reverse_jacobian
from jvpcli.jacobian.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.jacobian.nearby import sampled
from jvpcli.jacobian.stacked import look_around
from jvpcli.jacobian.structure import classify_values
from jvpcli.jacobian.terms import UnsupportedError, Workspace
from jvpcli.problem import Problem
from jvpcli.report import Notice, Plan
from jvpcli.report.plan import OutputPlan, Way
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.jacobian.engine import Computed
    from jvpcli.jacobian.plan import EnginePlan


SMALL = 4096
"""Up to so many entries of all Jacobians together a problem is small: loading anything would cost more."""

NEARBY = 0.05
"""How far, relative to each entry, the structure is sampled: far enough to leave an accident, near enough to be valid."""


@dataclass(frozen=True)
class Derivatives:
    """The Jacobian of every differentiable output to every differentiated input, and how it was computed.

    `sides` are generic gradients a few roundings to both sides of the point, where they were found on the way.
    """

    maps: Mapping[tuple[str, str], LinearMap]
    plan: Plan
    structure_from: str
    notices: tuple[Notice, ...] = ()
    sides: tuple[list[Tensor], list[Tensor]] | None = None


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
    return Plan(mode=chosen, passes=passes, peak_bytes=2 * m * n * itemsize, reason=why, strategy="dense")


def derive(problem: Problem, mode: str = "auto", tell: Tell | None = None, *, together: bool = True) -> Derivatives:
    """Every ∂output/∂input as a linear map.

    A small problem is answered pass by pass, its structure told from the values here and nearby; a larger one by the
    engine, its structure told from the operations.

    Args:
        problem: with differentiable outputs; its memory limit is what computing may take over what the evaluation holds.
        mode: "auto", "forward" or "reverse".
        tell: is told how far it is.
        together: whether many points may be run at once, where the problem can be.
    """
    outputs, inputs = problem.differentiable, problem.leaves
    if is_large(outputs, inputs):
        return derive_large(problem, mode, tell)
    plan = make_plan(outputs, inputs, mode)
    around = look_around(problem, plan.mode, -NEARBY) if together and problem.can_stack else None
    if around is None:
        maps, plan, notices = _maps(outputs, inputs, plan)
        samples: Mapping[tuple[str, str], LinearMap] | None = None
        sides = None
    else:
        maps, notices = dict(around.maps), ()
        samples, sides = around.nearby, around.sides
    if samples is None:
        samples = _sample(problem, plan)
    kinds = {key: _with_kind(j, samples.get(key)) for key, j in maps.items()}
    return Derivatives(kinds, plan, "values", notices, sides)


def is_large(outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> bool:
    """Whether the engine is worth its loading; complex tensors are always answered pass by pass."""
    tensors = (*outputs.values(), *inputs.values())
    entries = sum(y.numel() for y in outputs.values()) * sum(x.numel() for x in inputs.values())
    return entries > SMALL and not any(t.is_complex() for t in tensors)


def derive_large(problem: Problem, mode: str, tell: Tell | None = None) -> Derivatives:
    """The same by the engine, one output after the other."""
    from jvpcli.jacobian import engine  # a small problem does without
    from jvpcli.jacobian.terms import UnsupportedError

    outputs, inputs = problem.differentiable, problem.leaves
    limit, hooked = problem.memory_limit, problem.evaluation.hooked
    leaves = list(inputs.values())
    maps: dict[tuple[str, str], LinearMap] = {}
    plans, notices = [], []
    for y_name, y in outputs.items():
        try:
            computed = engine.compute(y, leaves, mode=mode, memory_limit=limit, tell=tell, hooked=hooked)
            planned = engine.plan(y, leaves, mode, limit, hooked)
        except UnsupportedError as error:  # complex numbers on the way, say
            found, plan = pass_by_pass({y_name: y}, inputs, mode)
            maps |= found
            plans.append(plan)
            notices.append(Notice("fallback", f"∂{y_name} was computed pass by pass: {error}"))
            continue
        maps |= {(y_name, x_name): each for x_name, each in zip(inputs, computed.maps, strict=True)}
        plans.append(_plan_of(computed, planned))
        notices += [Notice("fallback", note) for note in computed.notes]
    return Derivatives(maps, _together(plans), "operations", tuple(notices))


def pass_by_pass(
    outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], mode: str
) -> tuple[dict[tuple[str, str], LinearMap], Plan]:
    """The maps by plain passes, their structure told from the values at the point alone, and the plan of it."""
    maps, plan, _ = _maps(outputs, inputs, make_plan(outputs, inputs, mode))
    return {key: _with_kind(each, None) for key, each in maps.items()}, plan


def _plan_of(computed: Computed, planned: EnginePlan) -> Plan:
    """The report's plan: what was done in the end, with the planned figures of that way."""
    ways = [c for c in planned.candidates if (c.strategy, c.mode) == (computed.strategy, computed.mode)]
    way = ways[0] if ways else planned.chosen
    reason = planned.reason
    if computed.strategy == "accumulated":
        start = "output" if computed.mode == "reverse" else "input"
        reason = (
            f"local Jacobians multiplied together from the {start}, without passes: about {way.operations:.2g} "
            f"multiplications, against {planned.m} reverse or {planned.n} forward passes"
        )
    elif computed.strategy == "matrix_free" != planned.chosen.strategy:
        reason = f"{planned.reason}; there was not enough memory for that: only products with it are computed"
    return Plan(computed.mode, computed.passes, way.peak_bytes, reason, computed.strategy)


def products_alone(problem: Problem) -> Derivatives:
    """The maps as products by passes over the graph, where no Jacobian is wanted."""
    from jvpcli.jacobian.matrix_free import OperatorMap
    from jvpcli.jacobian.passes import BATCH_BYTES

    outputs, inputs, limit = problem.differentiable, problem.leaves, problem.memory_limit
    room = BATCH_BYTES if limit is None else min(BATCH_BYTES, limit / 8)
    maps: dict[tuple[str, str], LinearMap] = {
        (y_name, x_name): OperatorMap(tuple(y.shape), tuple(x.shape), y, x, room)
        for y_name, y in outputs.items()
        for x_name, x in inputs.items()
    }
    size = sum(t.numel() * t.element_size() for t in (*outputs.values(), *inputs.values()))
    plan = Plan("reverse", len(outputs), 2 * size, "no Jacobian is wanted: one backward pass an output", "matrix_free")
    return Derivatives(maps, plan, "operations")


def _together(plans: list[Plan]) -> Plan:
    """One plan of several outputs' plans: passes add up, and the costliest tells the reason."""
    worst = max(plans, key=lambda plan: plan.peak_bytes)
    return replace(worst, passes=sum(plan.passes for plan in plans))


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


def _sample(problem: Problem, plan: Plan) -> dict[tuple[str, str], LinearMap]:
    """The maps at a random point nearby; none where the function cannot be evaluated there."""
    for step in (-NEARBY, NEARBY):  # inwards first: that stays in the domain more often
        try:
            there = problem.at(sampled(problem.leaves, step, seed=7))
            maps = _maps({name: y for name, y in there.outputs.items() if y.requires_grad}, there.leaves, plan)[0]
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


def derive_alone(problem: Problem, mode: str, work: Workspace | None = None) -> dict[tuple[str, str], LinearMap]:
    """Every ∂output/∂input as a linear map, of real tensors.

    Args:
        problem: with differentiable outputs; its memory limit is what computing may take over what the evaluation holds.
        mode: "auto", "forward" or "reverse".
        work: the index arrays of an earlier call for the same program at the same shapes.
    """
    outputs, inputs = problem.differentiable, problem.leaves
    limit, hooked = problem.memory_limit, problem.evaluation.hooked
    leaves = list(inputs.values())
    maps: dict[tuple[str, str], LinearMap] = {}
    for y_name, y in outputs.items():
        try:
            found = engine.compute(y, leaves, mode=mode, memory_limit=limit, work=work, hooked=hooked).maps
        except UnsupportedError:  # complex numbers on the way, say
            from jvpcli.jacobian.compute import pass_by_pass

            maps |= pass_by_pass({y_name: y}, inputs, mode)[0]
            continue
        maps |= {(y_name, x_name): each for x_name, each in zip(inputs, found, strict=True)}
    return maps


def foresee(problem: Problem, mode: str) -> dict[str, OutputPlan]:
    """The plan for each output; computes no derivative."""
    outputs, inputs = problem.differentiable, problem.leaves
    if not is_large(outputs, inputs):
        return {name: _small_plan(name, y, inputs, mode) for name, y in outputs.items()}
    from jvpcli.jacobian import engine
    from jvpcli.jacobian.terms import UnsupportedError

    leaves = list(inputs.values())
    plans = {}
    for name, y in outputs.items():
        try:
            plans[name] = _large_plan(engine.plan(y, leaves, mode, problem.memory_limit))
        except UnsupportedError:
            plans[name] = _small_plan(name, y, inputs, mode)
    return plans


def _small_plan(name: str, y: Tensor, inputs: Mapping[str, Tensor], mode: str) -> OutputPlan:
    plan = make_plan({name: y}, inputs, mode)
    m, n = y.numel(), sum(x.numel() for x in inputs.values())
    way = Way(plan.strategy, plan.mode, plan.passes, m * n, plan.peak_bytes, True)
    return OutputPlan(m, n, m * n, (way,), f"small: {plan.reason}")


def _large_plan(plan: EnginePlan) -> OutputPlan:
    ways = tuple(
        Way(way.strategy, way.mode, way.passes, int(way.operations), int(way.peak_bytes), way.fits)
        for way in plan.candidates
    )
    return OutputPlan(plan.m, plan.n, plan.bound, ways, plan.reason)
