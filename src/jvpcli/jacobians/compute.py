"""The one door to Jacobians: the derivatives of one evaluation as linear maps, and the plan that says how they are computed.

A small problem is answered pass by pass.  Its structure is told by the values at the point and at a random one where the
operations are smooth, since those show the pattern then; where they are not, and for larger problems, by the operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.small import Maps, Sides, derive_small, maps_by_passes, plan_passes, with_kinds
from jvpcli.problem import Named, Problem
from jvpcli.report import Notice, OutputPlan, Plan, Way
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.jacobians.engine import Computed
    from jvpcli.jacobians.terms import Workspace


SMALL = 4096
"""Up to so many entries of all Jacobians together a problem is small: loading anything would cost more."""


@dataclass(frozen=True)
class Derivatives:
    """The Jacobian of every differentiable output to every differentiated input, and how it was computed.

    `sides` are generic gradients a few roundings to both sides of the point, where they were found on the way.
    """

    maps: Maps
    plan: Plan
    notices: tuple[Notice, ...] = ()
    sides: Sides | None = None


def derive(problem: Problem, mode: str = "auto", tell: Tell | None = None, *, together: bool = True) -> Derivatives:
    """Every ∂output/∂input as a linear map.

    Args:
        problem: with differentiable outputs; its memory limit is what computing may take over what the evaluation holds.
        mode: "auto", "forward" or "reverse".
        tell: is told how far it is.
        together: whether many points may be run at once, where the problem can be.
    """
    return _large(problem, mode, tell) if is_large(problem) else Derivatives(*derive_small(problem, mode, together))


def derive_alone(problem: Problem, mode: str, work: Workspace | None = None) -> Maps:
    """The maps without a plan or a look around the point, whatever their size.

    Args:
        problem, mode: as for `derive`.
        work: the index arrays of an earlier call for the same program at the same shapes.
    """
    if any(t.is_complex() for t in (*problem.differentiable.values(), *problem.leaves.values())):
        return derive(problem, mode).maps
    maps: dict[tuple[str, str], LinearMap] = {}
    for part in _by_engine(problem, mode, work=work):
        maps |= part.maps
    return maps


def is_large(problem: Problem) -> bool:
    """Whether the engine is worth its loading; complex tensors are always answered pass by pass."""
    outputs, inputs = problem.differentiable, problem.leaves
    tensors = (*outputs.values(), *inputs.values())
    entries = sum(y.numel() for y in outputs.values()) * sum(x.numel() for x in inputs.values())
    return entries > SMALL and not any(t.is_complex() for t in tensors)


@dataclass(frozen=True)
class _Part:
    """What the engine gave for one output; `computed` is None where it was answered pass by pass, and `plan` tells."""

    maps: Maps
    computed: Computed | None
    plan: Plan | None = None
    notices: tuple[Notice, ...] = ()


def _by_engine(
    problem: Problem, mode: str, tell: Tell | None = None, work: Workspace | None = None
) -> Iterator[_Part]:
    """One output after the other by the engine, or pass by pass where it meets complex numbers, say."""
    from jvpcli.jacobians import engine  # a small problem does without
    from jvpcli.jacobians.terms import UnsupportedError

    inputs, limit, hooked = problem.leaves, problem.memory_limit, problem.evaluation.hooked
    leaves = list(inputs.values())
    for y_name, y in problem.differentiable.items():
        try:
            computed = engine.compute(y, leaves, mode=mode, memory_limit=limit, work=work, tell=tell, hooked=hooked)
        except UnsupportedError as error:
            found, plan, _ = maps_by_passes({y_name: y}, inputs, plan_passes({y_name: y}, inputs, mode))
            notice = Notice("fallback", f"∂{y_name} was computed pass by pass: {error}")
            yield _Part(with_kinds(problem, {y_name: y}, found, dict), None, plan, (notice,))
            continue
        maps = {(y_name, x_name): each for x_name, each in zip(inputs, computed.maps, strict=True)}
        yield _Part(maps, computed, None, tuple([Notice("fallback", note) for note in computed.notes]))


def _large(problem: Problem, mode: str, tell: Tell | None) -> Derivatives:
    maps: dict[tuple[str, str], LinearMap] = {}
    plans: list[Plan] = []
    notices: list[Notice] = []
    for part in _by_engine(problem, mode, tell):
        maps |= part.maps
        by_passes = part.plan or plan_passes(problem.differentiable, problem.leaves, mode)
        plans.append(_plan_of(part.computed) if part.computed else by_passes)
        notices += part.notices
    return Derivatives(maps, _together(plans), tuple(notices))


def _plan_of(computed: Computed) -> Plan:
    """The report's plan: what was done in the end, with the planned figures of that way."""
    planned = computed.plan
    ways = [way for way in planned.ways if (way.strategy, way.mode) == (computed.strategy, computed.mode)]
    way = ways[0] if ways else planned.ways[0]
    reason = planned.reason
    if computed.strategy == "accumulated":
        start = "output" if computed.mode == "reverse" else "input"
        reason = (
            f"local Jacobians multiplied together from the {start}, without passes: about {way.operations:.2g} "
            f"multiplications, against {planned.m} reverse or {planned.n} forward passes"
        )
    elif computed.strategy == "matrix_free" != planned.ways[0].strategy:
        reason = f"{planned.reason}; there was not enough memory for that: only products with it are computed"
    return Plan(computed.mode, computed.passes, way.peak_bytes, reason, computed.strategy)


def products_alone(problem: Problem) -> Derivatives:
    """The maps as products by passes over the graph, where no Jacobian is wanted."""
    from jvpcli.jacobians.matrix_free import OperatorMap
    from jvpcli.jacobians.passes import BATCH_BYTES

    outputs, inputs, limit = problem.differentiable, problem.leaves, problem.memory_limit
    room = BATCH_BYTES if limit is None else min(BATCH_BYTES, limit / 8)
    maps: dict[tuple[str, str], LinearMap] = {
        (y_name, x_name): OperatorMap(tuple(y.shape), tuple(x.shape), y, x, room)
        for y_name, y in outputs.items()
        for x_name, x in inputs.items()
    }
    size = sum(t.numel() * t.element_size() for t in (*outputs.values(), *inputs.values()))
    plan = Plan("reverse", len(outputs), 2 * size, "no Jacobian is wanted: one backward pass an output", "matrix_free")
    return Derivatives(maps, plan)


def _together(plans: list[Plan]) -> Plan:
    """One plan of several outputs' plans: passes add up, and the costliest tells the reason."""
    worst = max(plans, key=lambda plan: plan.peak_bytes)
    return replace(worst, passes=sum(plan.passes for plan in plans))


def foresee(problem: Problem, mode: str) -> dict[str, OutputPlan]:
    """The plan for each output; computes no derivative."""
    outputs, inputs = problem.differentiable, problem.leaves
    if not is_large(problem):
        return {name: _small_plan(name, y, inputs, mode) for name, y in outputs.items()}
    from jvpcli.jacobians import engine
    from jvpcli.jacobians.terms import UnsupportedError

    leaves = list(inputs.values())
    plans = {}
    for name, y in outputs.items():
        try:
            plans[name] = engine.plan(y, leaves, mode, problem.memory_limit, problem.evaluation.hooked)
        except UnsupportedError:
            plans[name] = _small_plan(name, y, inputs, mode)
    return plans


def _small_plan(name: str, y: Tensor, inputs: Named, mode: str) -> OutputPlan:
    plan = plan_passes({name: y}, inputs, mode)
    m, n = y.numel(), sum(x.numel() for x in inputs.values())
    way = Way(plan.strategy, plan.mode, plan.passes, m * n, plan.peak_bytes, True)
    return OutputPlan(m, n, m * n, (way,), f"small: {plan.reason}")
