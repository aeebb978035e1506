"""The answer of `jvp inspect --explain-plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
