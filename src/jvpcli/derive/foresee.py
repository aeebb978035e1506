"""The plan before anything is computed, for whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from jvpcli.derive.derivatives import is_large, make_plan
from jvpcli.report.plan import OutputPlan, Way

if TYPE_CHECKING:
    from jvpcli.derive.plan import EnginePlan


def foresee(
    outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], mode: str, memory_limit: int | None
) -> dict[str, OutputPlan]:
    """The plan for each output; computes no derivative."""
    if not is_large(outputs, inputs):
        return {name: _small_plan(name, y, inputs, mode) for name, y in outputs.items()}
    from jvpcli.derive import engine
    from jvpcli.derive.terms import UnsupportedError

    leaves = list(inputs.values())
    plans = {}
    for name, y in outputs.items():
        try:
            plans[name] = _large_plan(engine.plan(y, leaves, mode, memory_limit))
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
