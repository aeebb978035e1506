"""The one door to Jacobians: the derivatives of one evaluation as linear maps, and the plan that says how they are computed.

A small problem is answered pass by pass.  Its structure is told by the values at the point and at a random one where the
operations are smooth, since those show the pattern then; where they are not, and for larger problems, by the operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.jacobian.linear_map import LinearMap
from jvpcli.jacobian.nearby import Named, Rerun
from jvpcli.jacobian.small import Maps, Sides, derive_small, maps_by_passes, plan_passes, with_kinds
from jvpcli.jacobian.stacked import Stack
from jvpcli.report import Notice, Plan
from jvpcli.report.plan import OutputPlan, Way
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.jacobian.engine import Computed
    from jvpcli.jacobian.terms import Workspace


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


def derive(
    outputs: Named,
    inputs: Named,
    rerun: Rerun,
    mode: str = "auto",
    memory_limit: int | None = None,
    stack: Stack | None = None,
    tell: Tell | None = None,
    hooked: bool = False,
) -> Derivatives:
    """Every ∂output/∂input as a linear map.

    Args:
        outputs: differentiable outputs with their graph.
        inputs: the differentiated leaves.
        rerun: evaluates the program at other values of the inputs.
        mode: "auto", "forward" or "reverse".
        memory_limit: bytes that computing may take over what the evaluation holds.
        stack: runs the program on many points at once, where it can be.
        tell: is told how far it is.
        hooked: the function has registered hooks.
    """
    if is_large(outputs, inputs):
        return _large(outputs, inputs, mode, memory_limit, tell, hooked)
    return Derivatives(*derive_small(outputs, inputs, rerun, mode, stack, hooked))


def derive_alone(
    outputs: Named,
    inputs: Named,
    rerun: Rerun,
    mode: str,
    memory_limit: int | None,
    work: Workspace | None = None,
    hooked: bool = False,
) -> Maps:
    """The maps without a plan or a look around the point, whatever their size.

    Args:
        outputs, inputs, rerun, mode, memory_limit, hooked: as for `derive`.
        work: the index arrays of an earlier call for the same program at the same shapes.
    """
    if any(t.is_complex() for t in (*outputs.values(), *inputs.values())):
        return derive(outputs, inputs, rerun, mode).maps
    maps: dict[tuple[str, str], LinearMap] = {}
    for part in _by_engine(outputs, inputs, mode, memory_limit, None, hooked, work):
        maps |= part.maps
    return maps


def is_large(outputs: Named, inputs: Named) -> bool:
    """Whether the engine is worth its loading; complex tensors are always answered pass by pass."""
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
    outputs: Named,
    inputs: Named,
    mode: str,
    memory_limit: int | None,
    tell: Tell | None,
    hooked: bool,
    work: Workspace | None = None,
) -> Iterator[_Part]:
    """One output after the other by the engine, or pass by pass where it meets complex numbers, say."""
    from jvpcli.jacobian import engine  # a small problem does without
    from jvpcli.jacobian.terms import UnsupportedError

    leaves = list(inputs.values())
    for y_name, y in outputs.items():
        try:
            computed = engine.compute(
                y, leaves, mode=mode, memory_limit=memory_limit, work=work, tell=tell, hooked=hooked
            )
        except UnsupportedError as error:
            found, plan, _ = maps_by_passes({y_name: y}, inputs, plan_passes({y_name: y}, inputs, mode))
            notice = Notice("fallback", f"∂{y_name} was computed pass by pass: {error}")
            yield _Part(with_kinds({y_name: y}, inputs, found, dict, hooked), None, plan, (notice,))
            continue
        maps = {(y_name, x_name): each for x_name, each in zip(inputs, computed.maps, strict=True)}
        yield _Part(maps, computed, None, tuple([Notice("fallback", note) for note in computed.notes]))


def _large(
    outputs: Named, inputs: Named, mode: str, memory_limit: int | None, tell: Tell | None, hooked: bool
) -> Derivatives:
    maps: dict[tuple[str, str], LinearMap] = {}
    plans: list[Plan] = []
    notices: list[Notice] = []
    for part in _by_engine(outputs, inputs, mode, memory_limit, tell, hooked):
        maps |= part.maps
        plans.append(_plan_of(part.computed) if part.computed else part.plan or plan_passes(outputs, inputs, mode))
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


def products_alone(
    outputs: Named, inputs: Named, memory_limit: int | None = None
) -> Derivatives:
    """The maps as products by passes over the graph, where no Jacobian is wanted."""
    from jvpcli.jacobian.matrix_free import OperatorMap
    from jvpcli.jacobian.passes import BATCH_BYTES

    room = BATCH_BYTES if memory_limit is None else min(BATCH_BYTES, memory_limit / 8)
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


def foresee(
    outputs: Named, inputs: Named, mode: str, memory_limit: int | None, hooked: bool = False
) -> dict[str, OutputPlan]:
    """The plan for each output; computes no derivative."""
    if not is_large(outputs, inputs):
        return {name: _small_plan(name, y, inputs, mode) for name, y in outputs.items()}
    from jvpcli.jacobian import engine
    from jvpcli.jacobian.terms import UnsupportedError

    leaves = list(inputs.values())
    plans = {}
    for name, y in outputs.items():
        try:
            plans[name] = engine.plan(y, leaves, mode, memory_limit, hooked)
        except UnsupportedError:
            plans[name] = _small_plan(name, y, inputs, mode)
    return plans


def _small_plan(name: str, y: Tensor, inputs: Named, mode: str) -> OutputPlan:
    plan = plan_passes({name: y}, inputs, mode)
    m, n = y.numel(), sum(x.numel() for x in inputs.values())
    way = Way(plan.strategy, plan.mode, plan.passes, m * n, plan.peak_bytes, True)
    return OutputPlan(m, n, m * n, (way,), f"small: {plan.reason}")
