"""Jacobians held as matrices, which passes over a graph gave: many passes at a time, as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from jvpcli.attributes import cached_property
from jvpcli.jacobians import passes
from jvpcli.jacobians.compose import Terms
from jvpcli.jacobians.graph import Graph, Spine, accumulate, pull_back, read_graph, start_of
from jvpcli.jacobians.kronecker import kronecker
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import DenseMap, LinearMap
from jvpcli.jacobians.local.node import is_fused
from jvpcli.jacobians.passes import Pace, Sweep, gathered
from jvpcli.jacobians.pattern import kinds, masks
from jvpcli.jacobians.structure import classify_values, kind_by_values, unproved, without_artefacts
from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace
from jvpcli.jacobians.through import is_flat, is_turned
from jvpcli.jacobians.widths import SINGLE
from jvpcli.problem import at_rows
from jvpcli.request import Tell

LONG = 64
"""In a chain of more operations than this what each of them takes besides its arithmetic decides."""

LIGHT_NAMES = """
Add Sub Rsub Neg Mul Div Pow Addcmul Lerp Exp Expm1 Log Log1P Sqrt Rsqrt Reciprocal Sin Cos Tan Atan Atan2 Sigmoid Erf Relu Abs
Sum Mean Amax Logsumexp LinalgVectorNorm Mm Bmm Addmm Clone View UnsafeView ReshapeAlias Unsqueeze Squeeze Expand Permute
Transpose T Select Slice Diagonal Split UnsafeSplit Unbind Stack Cat
"""
LIGHT = frozenset(LIGHT_NAMES.split())
"""Operations whose backward passes have rules behind `is_grads_batched=True`, but where a single number is broadcast."""

ALONE = 2.5
"""One of the others takes them row by row: a row costs so many times what a light operation saves."""

ROWS = 4
"""Up to so many rows the lighter rules take less time whatever the operations are: a convolution, say, is quick row by row."""

LARGE = 1 << 17
"""Entries of a tensor in all rows for which it pays to go from node to node by hand."""

FLAT = 64
"""Up to so many rows torch takes longer for the product of a turned matrix with them."""

MOST_AGAIN = 1 << 20
"""Entries of a Jacobian up to which it is computed at another point, too, where only values may tell its structure."""

BATCH_BYTES = 1 << 25
"""What a batch of passes may use where no limit is given: with four times as much, programs of many operations have been seen
to take up to twice as long, since what one operation writes is out of the caches when the next one reads it."""


@dataclass(frozen=True)
class Manner:
    """How passes over a graph are taken, which its operations and sizes decide.

    Attributes:
        chunk, doubtful, light, failed: as `Sweep` has them.
        fused: whether one goes from node to node here, since torch's own engine does not do so for many cotangents at once, or
            takes longer for them.
    """

    chunk: int
    doubtful: bool
    light: bool
    fused: bool
    failed: set[bool] = field(default_factory=set, compare=False)

    def is_straight(self, rows: int) -> bool:
        """Whether so many rows are taken at once by torch's own engine."""
        return 0 < rows <= self.chunk and not self.fused


def manner_of(graph: Graph, room: float = BATCH_BYTES) -> Manner:
    """How passes over a graph are best taken in `room` bytes.

    Batch rules of the usual operations are trusted; that of `cdist`, say, gives zeros.
    """
    if graph.is_single:
        return Manner(1, doubtful=False, light=False, fused=False)
    chunk, _ = graph.together(graph.m, room)
    fused = any(map(is_fused, graph.counts))
    large = "Convolution" in graph.counts and chunk * max(graph.sizes) > LARGE
    turned = large and any(map(is_turned, graph.order))
    multiplied = [node._saved_self.numel() for node in graph.of({"Mv"}) if is_flat(node)]
    flat = len(graph.order) <= LONG and chunk <= FLAT and chunk * sum(multiplied) > LARGE
    light = chunk <= ROWS or _is_light(graph, chunk)
    return Manner(chunk, chunk > 1 and not graph.trusted, light, (fused or turned or flat) and not graph.whole)


def _is_light(graph: Graph, chunk: int) -> bool:
    """Whether the lighter rules take less time for so many passes together."""
    heavy = sum([graph.counts[name] for name in graph.counts.keys() - LIGHT - SINGLE])  # those go one by one in any case
    if len(graph.order) <= LONG:
        return not (heavy or graph.singles)
    few = len(graph.order) / (ALONE * chunk) - heavy
    return few > 0 and graph.singles < few


def sweep(
    graph: Graph,
    room: float = BATCH_BYTES,
    manner: Manner | None = None,
    agreed: set[bool] | None = None,
    pace: Pace | None = None,
) -> Sweep:
    """The passes over a graph, as many at a time as fit into `room` bytes; `manner` is how, where that is known.

    `agreed` and `pace` are as `Sweep` has them.
    """
    manner = manner or manner_of(graph, room)

    def by_nodes(v: Tensor) -> Sequence[Tensor | None]:
        with torch.no_grad():
            return pull_back(graph, v)

    pull = by_nodes if manner.fused else partial(_pulled, graph)
    return Sweep(pull, graph.output, manner.chunk, manner.doubtful, manner.light, manner.failed, agreed, pace)


def by_rows(
    graph: Graph,
    room: float = BATCH_BYTES,
    tell: Tell | None = None,
    manner: Manner | None = None,
    agreed: set[bool] | None = None,
    pace: Pace | None = None,
) -> list[Tensor]:
    """The matrices (m, n) of every input, one pass backwards a row; `room`, `manner`, `agreed` and `pace` as for `sweep`."""
    return passes.by_rows(sweep(graph, room, manner, agreed, pace), graph.inputs, tell)


def rows_at_once(graph: Graph, light: bool = False) -> list[Tensor]:
    """`by_rows` where the manner is straight and every input is reached: torch's own engine, once, and nothing else.

    `light` is as `Manner` has it.

    Raises:
        Whatever torch does; it may also warn of what it takes one by one.
    """
    output, m = graph.output, graph.m
    if m == 1:
        return [rows.reshape(1, -1) for rows in _pulled(graph, torch.ones_like(output))]
    stacks = at_rows(partial(_pulled, graph), [passes.basis(output, 0, m)], light)
    return [rows.reshape(m, -1) for rows in stacks]


def _pulled(graph: Graph, v: Tensor) -> Any:
    """A cotangent pulled back by torch's own engine, which goes faster from node to node than others do."""
    return passes.grad([graph.output], [v], graph.inputs)


def by_columns(
    graph: Graph, room: float = BATCH_BYTES, tell: Tell | None = None, pace: Pace | None = None
) -> list[Tensor]:
    """The matrices (m, n) of every input, one pass forwards a column.

    Raises:
        RuntimeError: an operation has no second derivative.
    """
    return passes.by_columns(graph.output, graph.inputs, lambda g, ends: sweep(read_graph(g, ends), room, pace=pace), tell)


def row_blocks(graph: Graph, room: float = BATCH_BYTES) -> Iterator[tuple[int, int, list[Tensor | None]]]:
    """Consecutive blocks of rows: start, stop and (stop - start, *shape) for every input; nothing else is kept."""
    return passes.blocks(sweep(graph, room), 0, graph.output.numel())


def by_batches(graph: Graph, spine: Spine, work: Workspace, room: float = BATCH_BYTES, tell: Tell | None = None) -> list[Terms]:
    """∂output/∂input for every input, the rows of all samples of a batch at a time.

    While operations keep samples apart, so do passes backwards from all of them at once; from there on, as to weights that
    the samples have in common, local maps are multiplied.

    Raises:
        UnsupportedError, TooLargeError: as `accumulate`.
    """
    count = graph.m // spine.apart
    places = [(node, nr) for node in spine.full if spine.only[node] for nr in range(len(node._input_metadata))]
    shapes = [tuple(node._input_metadata[nr].shape) for node, nr in places]
    places += [(graph.leaves[k], 0) for k in spine.leaves]
    shapes += [tuple(graph.inputs[k].shape) for k in spine.leaves]
    ends = tuple([GradientEdge(*place) for place in places])
    work.reserve(count * sum(map(prod, shapes)), graph.like.element_size())

    def pull(v: Tensor) -> Sequence[Tensor | None]:
        return passes.grad([graph.output], [v], ends)

    def seeds(start: int, stop: int) -> Tensor:
        rows = torch.eye(count, dtype=graph.output.dtype, device=graph.output.device)[start:stop, None]
        return rows.expand(-1, spine.apart, -1).reshape(stop - start, *graph.output.shape)

    chunk, _ = graph.together(count, room)
    found = gathered(Sweep(pull, graph.output, chunk, not graph.trusted), count, seeds, tell)
    start = start_of(graph)
    for place, shape, rows in zip(places, shapes, found, strict=True):
        if rows is not None and tuple(rows.shape[1:]) == shape:
            values = rows.reshape(count, spine.outer[place[0]], spine.apart, -1).to(graph.like.dtype)
            sizes = {0: spine.apart, 1: count, 2: values.shape[1], 3: values.shape[3]}
            factor = Factor(values, (1, 2, 0, 3))
            start[place] = [kronecker(tuple(graph.output.shape), shape, (0, 1), (2, 0, 3), sizes, graph.like, [factor])]
    return accumulate(graph, work, "reverse", tell, start=start, only=spine.only)


@dataclass(frozen=True)
class Summary:
    """What is told of a matrix that is not held: √Σ J², and its main diagonal (min(m, n),)."""

    frobenius_norm: float
    diagonal: Tensor


def rows_of(output: Tensor, x: Tensor, room: float, tell: Tell | None = None) -> Iterator[tuple[int, Tensor]]:
    """The rows of ∂output/∂x that are not all zero, from the first on: where a block of them starts, and they (count, n).

    No more than `room` bytes of rows are held at a time.

    Raises:
        UnsupportedError: complex tensors.
    """
    for start, stop, (found,) in row_blocks(read_graph(output, [x]), room):
        if found is not None:
            yield start, found.reshape(stop - start, -1)
        if tell:
            tell("backward passes, one a row", stop, output.numel())


def summarize(output: Tensor, x: Tensor, room: float = BATCH_BYTES, tell: Tell | None = None) -> Summary:
    """The summary of ∂output/∂x by every row in turn; no more than `room` bytes of rows are held at a time."""
    m, squares = output.numel(), 0.0
    diagonal = x.detach().new_zeros(min(m, x.numel()))
    for start, rows in rows_of(output, x, room, tell):
        squares += float(torch.linalg.vecdot(rows, rows).sum(dtype=torch.float64))
        diagonal[start : start + len(rows)] = rows.diagonal(start)
    return Summary(squares**0.5, diagonal)


def work_of_rows(output: Tensor, x: Tensor) -> int:
    """Bytes that go through the processor for all rows, about."""
    return output.numel() * read_graph(output, [x]).footprint


MOST_PRODUCTS = 1 << 25
"""Entries multiplied by index arrays for the sake of a kind alone, of a Jacobian that passes have given: a few seconds."""


@dataclass(frozen=True, eq=False)
class _Told:
    """What the operations of a graph tell of the kinds of its maps, found out once for all inputs.

    `fused`: the passes went from node to node here, as `Manner` has it.
    """

    graph: Graph
    limit: float
    fused: bool

    @cached_property
    def kinds(self) -> Sequence[str] | None:
        """For every input; None: they don't tell."""
        with suppress(UnsupportedError, TooLargeError, RuntimeError):
            return kinds(self.graph, Workspace(self.limit, products=MOST_PRODUCTS))
        return None


@dataclass(frozen=True, eq=False, repr=False)
class PulledMap(DenseMap):
    """A map held as its matrix (m, n), and the graph that it was pulled back through.

    Attributes:
        told: what the operations of that graph tell.
        position: which of its inputs this is the derivative to.
    """

    told: _Told | None = None
    position: int = 0

    @property
    def is_by_engine(self) -> bool:
        """Whether torch's own engine went the passes, with all that it checks; where there were any."""
        assert self.told is not None
        return self.m > 0 and not self.told.fused

    @property
    def structure(self) -> str:
        """Its kind."""
        return self._known[0]

    @property
    def structure_from(self) -> str:
        """What told it."""
        return self._known[1]

    @cached_property
    def _known(self) -> tuple[str, str]:
        """From the values where none is zero, else from the operations, or from values elsewhere; unknown where none tell."""
        assert self.told is not None
        graph = self.told.graph
        told_by = "values" if graph.whole else "operations"
        if self.nnz == self.m * self.n > 1:
            return "dense", told_by
        nature, known = graph.natures[self.position], None if graph.whole else self.told.kinds
        if graph.whole and nature.smooth:
            return classify_values([self.matrix], nature, self.shapes), told_by
        kind = unproved(self.matrix) if known is None else known[self.position]
        if kind == "unknown" and nature.smooth and graph.sample and self.m * self.n <= MOST_AGAIN:
            there = graph.sample()
            found = None if there is None else kind_by_values(self.matrix, there[self.position], nature, self.shapes)
            return (kind, told_by) if found is None else (found, "values")
        return kind, told_by


def pulled_maps(
    graph: Graph, matrices: Sequence[Tensor], limit: float = float("inf"), fused: bool = False
) -> list[LinearMap]:
    """The maps of matrices (m, n), one for every input, that passes over the graph gave; `fused` is as `Manner` has it.

    Where a pass meets 0·∞ it gives NaN, for entries too that are zero by the operations: those become zeros.
    """
    shape = tuple(graph.output.shape)
    artefacts = [0] * len(matrices)
    if not all(isfinite(matrix.sum().item()) for matrix in matrices) and not graph.whole:
        with suppress(UnsupportedError, TooLargeError, RuntimeError):
            cleaned = list(map(without_artefacts, matrices, masks(graph, Workspace(limit))))
            matrices, artefacts = [each[0] for each in cleaned], [each[1] for each in cleaned]

    if graph.hooked or graph.elsewhere is not None:  # code of the user's own may give a tensor that it keeps, for all rows even
        matrices = [each.clone() if graph.m == 1 or 0 in each.stride() else each for each in matrices]
    told = _Told(graph, limit, fused)
    return [
        PulledMap(shape, tuple(x.shape), matrix, artefacts=gone, told=told, position=position)
        for position, (x, matrix, gone) in enumerate(zip(graph.inputs, matrices, artefacts, strict=True))
    ]
