"""The door of the engine: an evaluated graph in, structured Jacobians out.

result = compute(y, [x, W])            # y evaluated from the leaves x and W
result.maps, result.plan, result.notes
again = compute(y2, [x2, W2], work=result.work)     # the same program: index arrays are found made
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from jvpcli.errors import is_out_of_memory
from jvpcli.jacobians.compose import Terms
from jvpcli.jacobians.graph import Graph, accumulate, read_graph
from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.matrix_free import OperatorMap
from jvpcli.jacobians.passes import BATCH_BYTES, by_columns, by_rows, footprint, pull_tiny, pulled_maps
from jvpcli.jacobians.pattern import structured
from jvpcli.jacobians.plan import TINY_BYTES, is_tiny, make_plan, quick_choice
from jvpcli.jacobians.sparse_map import SparseMap
from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace
from jvpcli.language.limits import free_memory
from jvpcli.report import OutputPlan, Way
from jvpcli.request import Tell

SURE_TO_FIT = 1 << 28
"""Bytes of a result for which nobody looks at what is free."""

EXACT_NONFINITE = 1 << 20
"""Up to so many entries (m·n) a Jacobian with NaN or infinity is computed again as PyTorch's own passes give it."""


@dataclass(frozen=True)
class Computed:
    """The Jacobians of one output.

    Attributes:
        maps: one for each input.
        strategy, mode, passes: how they were computed in the end.
        work: hand it to the next call for the same program.
        planned: gives what was weighed, which takes time where nothing needed to be.
        notes: what was planned and could not be done, in sentences.
    """

    maps: list[LinearMap]
    strategy: str
    mode: str
    passes: int
    work: Workspace
    planned: Callable[[], OutputPlan]
    notes: tuple[str, ...] = ()

    @cached_property
    def plan(self) -> OutputPlan:
        """The ways that were weighed, the chosen one first."""
        return self.planned()


def plan(
    output: Tensor,
    inputs: Sequence[Tensor],
    mode: str = "auto",
    memory_limit: int | None = None,
    hooked: bool = False,
) -> OutputPlan:
    """How `compute` would go about it; computes nothing.

    Raises:
        UnsupportedError: complex tensors.
    """
    return make_plan(read_graph(output, inputs, hooked), mode, memory_limit)


def compute(
    output: Tensor,
    inputs: Sequence[Tensor],
    *,
    mode: str = "auto",
    memory_limit: int | None = None,
    work: Workspace | None = None,
    tell: Tell | None = None,
    hooked: bool = False,
) -> Computed:
    """∂output/∂input for every input, by the cheapest strategy that fits.

    Args:
        output: evaluated from the inputs, with its graph (which is kept).
        inputs: leaves that require grad.
        mode: "auto", "reverse" or "forward".
        memory_limit: bytes that computing may take over what the evaluation holds; None: any.
        work: of an earlier call for the same program.
        tell: is told how far it is.
        hooked: the function has registered hooks: its backward pass is more than its operations.

    Raises:
        UnsupportedError: complex tensors; the plain engine of `derive.dense` is for them.
    """
    graph = read_graph(output, inputs, hooked)
    made: OutputPlan | None = None

    def plan() -> OutputPlan:
        return made or make_plan(graph, mode, memory_limit)

    limit = float("inf") if memory_limit is None else float(memory_limit)
    work = Workspace(limit) if work is None else replace(work, limit=limit)
    if mode == "auto" and limit > TINY_BYTES and is_tiny(graph):
        with suppress(RuntimeError):  # what can't be pulled back has the general way to say so
            return Computed(pull_tiny(graph), "dense", "reverse", output.numel(), work, plan)
    first = quick_choice(graph, mode, memory_limit)
    rest: tuple[Way, ...] = ()
    if first is None:
        made = make_plan(graph, mode, memory_limit)
        first, *others = made.ways
        rest = tuple(others)
    notes: list[str] = []
    short = False
    for candidate in (first, *_fallbacks(graph, mode, limit, rest)):
        if candidate.strategy == "matrix_free" and candidate is not first and not short:
            break  # products would fail in the same way
        try:
            maps = _run(graph, candidate, work, limit, tell)
        except (UnsupportedError, TooLargeError, RuntimeError, MemoryError) as error:
            short = short or isinstance(error, TooLargeError) or is_out_of_memory(error)
            notes.append(f"{candidate.strategy} ({candidate.mode}) could not be used: {str(error).splitlines()[0]}")
            continue
        return Computed(maps, candidate.strategy, candidate.mode, candidate.passes, work, plan, tuple(notes))
    raise UnsupportedError("; ".join(notes))


def _fallbacks(graph: Graph, mode: str, limit: float, planned: Sequence[Way]) -> list[Way]:
    """Where the first choice fails: dense passes where they fit, in the cheaper direction first; products at last."""
    m, n = graph.output.numel(), sum(x.numel() for x in graph.inputs)
    both = [Way("dense", "reverse", m, 0, 0, True), Way("dense", "forward", n, 0, 0, True)]
    both.sort(
        key=lambda c: (c.mode != mode and mode != "auto", c.passes > (2 if c.mode == "forward" else 1) * min(m, n))
    )
    fits = m * n * graph.like.element_size() + footprint(graph) <= limit
    others = [c for c in planned if c.strategy == "accumulated" and c.fits]
    return [*others, *(both if fits else []), Way("matrix_free", "reverse", 1, 0, 0, True)]


def _run(graph: Graph, candidate: Way, work: Workspace, limit: float, tell: Tell | None) -> list[LinearMap]:
    if candidate.strategy == "accumulated":
        pieces = accumulate(graph, work, candidate.mode, tell)
        if _trustworthy(graph, pieces):
            return structured(graph, pieces, work)
        candidate = Way("dense", "reverse", graph.output.numel(), 0, 0, True)
    if candidate.strategy == "matrix_free":
        shape = tuple(graph.output.shape)
        room = min(BATCH_BYTES, limit / 8)
        return [OperatorMap(shape, tuple(x.shape), graph.output, x, room) for x in graph.inputs]
    size = sum(graph.output.numel() * x.numel() * x.element_size() for x in graph.inputs)
    if size > SURE_TO_FIT and limit == float("inf") and size > (free_memory() or limit):
        raise TooLargeError(f"the Jacobian would take {size} bytes, more than there is free")
    room = min(BATCH_BYTES, max(limit - size, 0))
    backwards = candidate.mode == "reverse"
    matrices = by_rows(graph, room, tell) if backwards else by_columns(graph.output, graph.inputs, room, tell)
    return pulled_maps(graph, matrices, limit)


def _trustworthy(graph: Graph, pieces: Sequence[Terms]) -> bool:
    """Whether all is finite, or too large to do again.

    A NaN times a zero is where the order of multiplication shows; PyTorch's own passes settle what is shown then.
    """
    entries = graph.output.numel() * sum(x.numel() for x in graph.inputs)
    if entries > EXACT_NONFINITE:
        return True
    values = []
    for term in (t for terms in pieces for t in terms):
        if isinstance(term, KroneckerMap):
            values += [f.values for f in term.factors]
        elif isinstance(term, SparseMap) and term.values is not None:
            values.append(term.values)
    return all(bool(torch.isfinite(v.sum())) or bool(v.isfinite().all()) for v in values)
