"""How the Jacobians of one output are computed: decided from shapes, before anything is.

accumulated   local maps of the operations multiplied together, from the output backwards or from the inputs
              forwards: no pass over the graph at all
dense         one pass a row (reverse) or a column (forward), many at a time, straight into the result
compressed    one pass for a group of rows that share no column, where a pattern is known beforehand
matrix_free   products with the Jacobian, which is never held
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from jvpcli.derive.accumulate import Graph
from jvpcli.derive.estimate import Cost, forward_cost, known, one_to_one, reverse_cost
from jvpcli.derive.passes import BATCH_BYTES, footprint

PROBING_PENALTY = 4
"""Accumulating with unknown operations must not take more than so many times the operations of dense passes."""

SMALL = 1 << 16
"""Up to so many entries (m·n) backwards is taken without weighing, where every operation is known."""


TINY = 1 << 12
"""Up to so many entries (m·n) structure saves nothing: one batch of passes costs less than handling it."""

ONE_ROW = 1 << 20
"""The gradient of a single number costs one pass, whatever is known of it; beyond so many entries it may be mostly zeros."""

TINY_BYTES = 1 << 20
"""What such a batch may use."""

LONG = 64
"""More operations than this, on little data, are better passed through in batches where the result is dense."""


@dataclass(frozen=True)
class Candidate:
    """One way to compute the Jacobians.

    Attributes:
        strategy: "accumulated", "dense" or "matrix_free".
        mode: "reverse" or "forward".
        passes: passes over the graph (0: none).
        operations: multiplications, an upper bound.
        peak_bytes: memory over what the evaluation holds, an upper bound.
        fits: whether that is within the limit.
    """

    strategy: str
    mode: str
    passes: int
    operations: int
    peak_bytes: int
    fits: bool = True


@dataclass(frozen=True)
class EnginePlan:
    """The choice for one output, and what it was chosen from.

    Attributes:
        m, n: output and input entries (all inputs).
        bound: how many entries can be other than zero, at most.
        chosen: the candidate that is tried first.
        candidates: every candidate, the chosen one first.
        reason: one sentence.
    """

    m: int
    n: int
    bound: int
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    reason: str


def make_plan(graph: Graph, mode: str = "auto", memory_limit: int | None = None) -> EnginePlan:
    """The plan for a graph.

    Args:
        graph: of an evaluated output.
        mode: "auto", or "reverse" or "forward" to settle the direction.
        memory_limit: bytes that computing may take over what the evaluation holds; None: any.
    """
    m, n = graph.output.numel(), sum(x.numel() for x in graph.inputs)
    limit = float("inf") if memory_limit is None else memory_limit
    if graph.whole:
        return _plan_of_passes(graph, m, n, limit)
    costs = {"reverse": reverse_cost(graph), "forward": forward_cost(graph)}
    candidates = [
        Candidate(strategy, direction, passes, operations, peak, peak <= limit)
        for strategy, direction, passes, operations, peak in _ways(graph, m, n, costs, limit)
        if mode in ("auto", direction) or strategy == "matrix_free"
    ]
    chosen, reason = _choose(candidates, m, n, costs, is_tiny(graph), _is_long(graph, m, n))
    rest = tuple([c for c in candidates if c is not chosen])
    bound = min(m * n, *[cost.bound for cost in costs.values()])
    if mode != "auto":
        reason = f"asked for with mode {mode}; {reason}"
    return EnginePlan(m, n, bound, chosen, (chosen, *rest), reason)


def _plan_of_passes(graph: Graph, m: int, n: int, limit: float) -> EnginePlan:
    """The plan where only torch's engine knows the backward pass: all rows if they fit, else products."""
    ways = [Candidate(*way, fits=way[-1] <= limit) for way in _ways(graph, m, n, {}, limit)]
    (dense,) = [way for way in ways if (way.strategy, way.mode) == ("dense", "reverse")]
    (products,) = [way for way in ways if way.strategy == "matrix_free"]
    chosen, other = (dense, products) if dense.fits else (products, dense)
    why = "complex numbers or hooks on the way, which only torch's own backward pass knows"
    rows, alone = f"one pass a row: {m}, as many at a time as fit", "only products with the Jacobian, which does not fit"
    told = rows if dense.fits else alone
    return EnginePlan(m, n, m * n, chosen, (chosen, other), f"{why}: {told}")


def quick_choice(graph: Graph, mode: str, memory_limit: int | None) -> Candidate | None:
    """What `make_plan` would choose where little needs to be weighed; None: make a plan."""
    m, n = graph.output.numel(), sum(x.numel() for x in graph.inputs)
    if graph.whole or not known(graph) or (memory_limit is not None and 16 * m * n > memory_limit):
        return None
    if mode == "auto" and _is_long(graph, m, n) and 2 * reverse_cost(graph).bound >= m * n:
        return Candidate("dense", "reverse", m, 0, 0)
    if mode == "auto" and m > 4 * n and m * n > SMALL and not one_to_one(graph):
        return None
    return Candidate("accumulated", "reverse" if mode == "auto" else mode, 0, 0, 0)


def is_tiny(graph: Graph) -> bool:
    """Whether one batch of reverse passes is the cheapest, whatever the structure; a single operation is cheaper still."""
    entries = graph.output.numel() * sum(x.numel() for x in graph.inputs)
    if graph.whole:
        return False
    if graph.output.numel() == 1:
        return 0 < entries <= ONE_ROW and len(graph.order) > 1
    return 0 < entries <= TINY and len(graph.order) > 1 and graph.output.numel() * footprint(graph) <= TINY_BYTES


def _is_long(graph: Graph, m: int, n: int) -> bool:
    """Many operations on little data: what a step costs besides arithmetic decides."""
    return len(graph.order) > LONG and m * n <= SMALL and min(m, n) > 1


def _ways(graph: Graph, m: int, n: int, costs: dict[str, Cost], limit: float) -> list[tuple[str, str, int, int, int]]:
    itemsize = graph.like.element_size()
    result = m * n * itemsize
    one_pass = footprint(graph)
    work = sum(prod(meta.shape) for node in graph.order for meta in node._input_metadata) + n
    ways = []
    for direction, cost in costs.items():
        held = min(cost.bound * (2 * itemsize + 24), 3 * result) if cost.bound < m * n else result
        ways.append(("accumulated", direction, 0, cost.operations, cost.peak_bytes + held))
    for direction, passes in (("reverse", m), ("forward", n)):
        batch = min(passes * one_pass, max(one_pass, min(BATCH_BYTES, limit - result)))
        ways.append(("dense", direction, passes, passes * work, int(result + batch)))
    ways.append(("matrix_free", "reverse", 1, work, one_pass))
    return ways


def _choose(
    candidates: list[Candidate], m: int, n: int, costs: dict[str, Cost], tiny: bool, long: bool
) -> tuple[Candidate, str]:
    def fitting(strategy: str) -> list[Candidate]:
        return sorted((c for c in candidates if c.strategy == strategy and c.fits), key=lambda c: c.operations)

    accumulated, dense = fitting("accumulated"), fitting("dense")
    probed = costs["reverse"].probed
    rows = next((c for c in dense if c.mode == "reverse"), None)
    if rows and (tiny or (long and 2 * costs["reverse"].bound >= m * n)):
        return rows, f"many small operations and a small or dense Jacobian: {m} reverse passes in few batches"
    if accumulated and not (probed and dense and accumulated[0].operations > PROBING_PENALTY * dense[0].operations):
        best = accumulated[0]
        start = "output" if best.mode == "reverse" else "input"
        return best, (
            f"local Jacobians multiplied together from the {start}: about {best.operations:.2g} multiplications, "
            f"against {m} reverse or {n} forward passes"
        )
    if dense:
        best = dense[0]
        why = (
            "an operation's local Jacobian is not known"
            if probed
            else "the local Jacobians would not fit into the memory limit"
        )
        unit = "row" if best.mode == "reverse" else "column"
        return best, f"{why}, so one {best.mode} pass a {unit}: {best.passes}, as many at a time as fit"
    (last,) = [c for c in candidates if c.strategy == "matrix_free"]
    return last, f"the Jacobian ({m} by {n}) does not fit into the memory limit: only products with it are computed"
