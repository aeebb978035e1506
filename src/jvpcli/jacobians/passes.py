"""Rows and columns of a Jacobian by passes over the graph: one by one, many at a time, or all in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward  # autograd.grad itself loads a symbolic algebra system for v

from jvpcli.jacobians.graph import Graph, read_graph
from jvpcli.jacobians.linear_map import DenseMap, LinearMap
from jvpcli.jacobians.local.node import Node
from jvpcli.jacobians.local.table import is_stated
from jvpcli.jacobians.pattern import kinds, masks
from jvpcli.jacobians.structure import SPARSE_FRACTION, classify_values, unproved, without_artefacts
from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace, zeros
from jvpcli.problem import at_rows
from jvpcli.request import Tell

FEW = 3
"""So many passes cost less one by one than together."""

LONG = 64
"""More operations than this are passed through by torch's engine."""

BATCH_BYTES = 1 << 27
"""What a batch of passes may use where no limit is given."""


def pull_back(graph: Graph, cotangent: Tensor, rounded: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """vᵀJ for each input: v of the output's shape; zeros for an input that is not reached.

    `rounded` is applied to whatever a node sends on, before it is added to what others send.
    """
    arrived: dict[Node, dict[int, Tensor]] = {}
    root = graph.output.grad_fn
    if root is not None:
        arrived[root] = {graph.output.output_nr: cotangent}
    reached = set(graph.order) | {leaf for leaf in graph.leaves if leaf is not None}
    for node in graph.order:
        here = arrived.pop(node, None)
        if here is None:
            continue
        for (edge, nr), grad in zip(node.next_functions, _call(node, here), strict=False):
            if grad is None or edge not in reached:
                continue
            grad = _fit(grad, edge._input_metadata[nr])
            grad = rounded(grad) if rounded else grad
            slot = arrived.setdefault(edge, {})
            slot[nr] = slot[nr] + grad if nr in slot else grad
    result = []
    for x, leaf in zip(graph.inputs, graph.leaves, strict=True):
        if x is graph.output:
            result.append(cotangent)
        else:
            found = arrived.get(leaf, {}).get(0)
            result.append(torch.zeros_like(x) if found is None else found)
    return result


def _call(node: Node, cotangents: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    metas = node._input_metadata
    if callable(node):
        pulled = node(*[cotangents.get(nr) for nr in range(len(metas))])
    else:  # a custom autograd.Function wants tensors
        like = next(iter(cotangents.values()))
        given = [
            cotangents[nr] if nr in cotangents else torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=like.device)
            for nr, meta in enumerate(metas)
        ]
        pulled = node.apply(*given)
    return pulled if isinstance(pulled, tuple) else (pulled,)


def _fit(grad: Tensor, meta: object) -> Tensor:
    """Summed where the operand was broadcast, and of the operand's dtype."""
    shape = tuple(meta.shape)  # type: ignore[attr-defined]
    extra = grad.dim() - len(shape)
    if extra > 0:
        grad = grad.sum(list(range(extra)))
    axes = [axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1]
    if axes:
        grad = grad.sum(axes, keepdim=True)
    dtype = meta.dtype  # type: ignore[attr-defined]
    return grad if grad.dtype == dtype else grad.to(dtype)


def footprint(graph: Graph) -> int:
    """Bytes that one pass may hold at a time: a few of the largest tensors."""
    sizes = [prod(meta.shape) for node in graph.order for meta in node._input_metadata]
    largest = max([graph.output.numel(), *sizes])
    return (4 * largest + 2 * sum(x.numel() for x in graph.inputs)) * graph.like.element_size()


def batch_size(graph: Graph, passes: int, room: float) -> int:
    """How many passes fit into `room` bytes together."""
    return int(max(1, min(passes, room // max(1, footprint(graph)))))


def pulled_rows(
    graph: Graph, seeds: Callable[[int, int], Tensor], passes: int, chunk: int
) -> Iterator[tuple[int, int, list[Tensor]]]:
    """Pull-backs of `seeds(start, stop)`, cotangents (stop - start, *output shape), a chunk at a time.

    Yields:
        start, stop, and for each input its rows (stop - start, n).
    """
    batched = chunk > FEW
    doubtful = batched and not all(_is_known(node) for node in graph.order)
    pull = _by_engine(graph) if graph.whole or len(graph.order) > LONG else lambda v: tuple(pull_back(graph, v))
    with torch.no_grad():
        for start in range(0, passes, chunk):
            stop = min(passes, start + chunk)
            cotangents = seeds(start, stop)
            rows: Sequence[Tensor] | None = None
            if batched:
                try:
                    rows = at_rows(pull, [cotangents])
                except (RuntimeError, ValueError):
                    batched = False  # an operation has no batch rule: one by one from here on
                if rows is not None and doubtful and not _agrees(pull, cotangents, rows):
                    rows, batched = None, False
            if rows is None:
                single = [pull(v) for v in cotangents.unbind()]
                rows = [_stacked(column) for column in zip(*single, strict=True)]
            yield start, stop, [row.reshape(stop - start, x.numel()) for row, x in zip(rows, graph.inputs, strict=True)]


def _is_known(node: Node) -> bool:
    """Whether the operation is one of the usual ones, whose batch rules can be trusted; `cdist`'s gives zeros."""
    return is_stated(node)


def _agrees(pull: Callable[[Tensor], Sequence[Tensor]], cotangents: Tensor, rows: Sequence[Tensor]) -> bool:
    """Whether the rows, mixed, are what one pass gives for the mixed cotangents."""
    count = cotangents.shape[0]

    def mixed(batch: Tensor) -> Tensor:
        weights = torch.linspace(0.5, 1.5, count, dtype=batch.dtype, device=batch.device)
        return (weights @ batch.reshape(count, -1)).reshape(batch.shape[1:])

    return all(
        torch.allclose(mixed(row), single, rtol=1e-3, atol=1e-3 * float(row.abs().sum(0).max()), equal_nan=True)
        for row, single in zip(rows, pull(mixed(cotangents)), strict=True)
        if row.numel()
    )


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """The rows as one tensor; a single one is not copied."""
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(list(rows))


def _by_engine(graph: Graph) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The pull-back by torch's own engine, which goes faster from node to node, but checks and copies more."""

    def pull(v: Tensor) -> tuple[Tensor, ...]:
        pulled = _engine_run_backward(
            (graph.output,), (v,), True, False, graph.inputs, allow_unreachable=True, accumulate_grad=False
        )
        found = zip(pulled, graph.inputs, strict=True)
        return tuple([torch.zeros_like(x) if gradient is None else gradient for gradient, x in found])

    return pull


def basis(output: Tensor) -> Callable[[int, int], Tensor]:
    """Rows start…stop of the identity over the output's entries."""

    def rows(start: int, stop: int) -> Tensor:
        hot = torch.zeros((stop - start, output.numel()), dtype=output.dtype, device=output.device)
        hot.diagonal(start).fill_(1)
        return hot.reshape(stop - start, *output.shape)

    return rows


@dataclass(frozen=True)
class Transposed:
    """The graph of w ↦ Jᵀw, whose pull-backs are columns of J; one for each input."""

    graphs: tuple[Graph | None, ...]
    outputs: tuple[Tensor | None, ...]


def transpose(output: Tensor, inputs: Sequence[Tensor]) -> Transposed:
    """The transposed graphs; None for an input whose gradient does not depend on the cotangent.

    That is so where the derivative is zero, but also where a custom backward hides what it does: check the columns.

    Raises:
        UnsupportedError: an operation has no second derivative.
    """
    with torch.enable_grad():
        weights = torch.ones_like(output, requires_grad=True)
        try:
            pulled = torch.autograd.grad((output * weights).sum(), list(inputs), create_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise UnsupportedError(str(error).splitlines()[0]) from error
    graphs = tuple([read_graph(g, [weights]) if g is not None and g.requires_grad else None for g in pulled])
    return Transposed(graphs, pulled)


def by_rows(graph: Graph, room: float = BATCH_BYTES, tell: Tell | None = None) -> list[Tensor]:
    """The matrices (m, n) of every input, one reverse pass a row, as many at a time as fit into `room` bytes."""
    m = graph.output.numel()
    results = [zeros(m, x.numel(), x.detach()) for x in graph.inputs]
    for start, stop, rows in row_blocks(graph, room):
        for result, block in zip(results, rows, strict=True):
            result[start:stop] = block
        if tell:
            tell("backward passes, one a row", stop, m)
    return results


def row_blocks(graph: Graph, room: float = BATCH_BYTES) -> Iterator[tuple[int, int, list[Tensor]]]:
    """Consecutive blocks of rows: start, stop and (stop - start, n) for every input; nothing else is kept."""
    m = graph.output.numel()
    yield from pulled_rows(graph, basis(graph.output), m, batch_size(graph, m, room))


def by_columns(
    output: Tensor, inputs: Sequence[Tensor], room: float = BATCH_BYTES, tell: Tell | None = None
) -> list[Tensor]:
    """The same, one forward pass a column.

    Raises:
        UnsupportedError: an operation has no second derivative.
    """
    transposed = transpose(output, inputs)
    results = []
    for graph, gradient, x in zip(transposed.graphs, transposed.outputs, inputs, strict=True):
        result = zeros(output.numel(), x.numel(), x.detach())
        if graph is not None and gradient is not None:
            chunk = batch_size(graph, x.numel(), room)
            for start, stop, (columns,) in pulled_rows(graph, basis(gradient), x.numel(), chunk):
                result[:, start:stop] = columns.t()
                if tell:
                    tell("forward passes, one a column", stop, x.numel())
        results.append(result)
    _compare_with_a_row(output, inputs, results)
    return results


def _compare_with_a_row(output: Tensor, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    """A mixture of all rows, by a reverse pass: a custom backward can hide its dependence on the cotangent."""
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype, device=output.device)
    with torch.no_grad():
        pulled = pull_back(read_graph(output, inputs), weights.reshape(output.shape))
    for row, result in zip(pulled, results, strict=True):
        found = weights.to(result.dtype) @ result
        size = float((weights.abs().to(result.dtype) @ result.abs()).max()) if result.numel() else 0.0
        if not torch.allclose(found, row.reshape(-1), rtol=1e-2, atol=1e-3 * size, equal_nan=True):
            raise UnsupportedError("an operation's backward cannot be differentiated")


@dataclass(frozen=True)
class Summary:
    """What is told of a matrix that is not held: √Σ J², and its main diagonal (min(m, n),)."""

    frobenius_norm: float
    diagonal: Tensor


def summarize(output: Tensor, x: Tensor, room: float = BATCH_BYTES, tell: Tell | None = None) -> Summary:
    """The summary of ∂output/∂x by every row in turn; no more than `room` bytes of rows are held at a time."""
    graph = read_graph(output, [x])
    m, squares = output.numel(), 0.0
    diagonal = x.detach().new_zeros(min(m, x.numel()))
    for start, stop, (rows,) in row_blocks(graph, room):
        squares += float(torch.linalg.vecdot(rows, rows).sum(dtype=torch.float64))
        diagonal[start:stop] = rows.diagonal(start)
        if tell:
            tell("backward passes, one a row", stop, m)
    return Summary(squares**0.5, diagonal)


def work_of_rows(output: Tensor, x: Tensor) -> int:
    """Bytes that go through the processor for all rows, about."""
    return output.numel() * footprint(read_graph(output, [x]))


@dataclass(frozen=True, eq=False)
class PulledMap(DenseMap):
    """A map held as its matrix (m, n), and the graph that it was pulled back through.

    Attributes:
        graph: of the output.
        position: which of its inputs this is the derivative to.
        limit: bytes that asking the operations for the structure may take.
    """

    graph: Graph | None = None
    position: int = 0
    limit: float = float("inf")

    @cached_property
    def structure(self) -> str:
        """From the values where they are mostly not zero, else from the operations; unknown where those do not tell."""
        assert self.graph is not None
        if self.m * self.n > 1 and self.nnz > SPARSE_FRACTION * self.m * self.n:
            return "dense"
        if self.graph.whole:
            nature = self.graph.natures[self.position]
            return classify_values([self.matrix], nature) if nature.smooth else unproved(self.matrix)
        try:
            return kinds(self.graph, Workspace(self.limit))[self.position]
        except (UnsupportedError, TooLargeError, RuntimeError):
            return unproved(self.matrix)


def pulled_maps(graph: Graph, matrices: Sequence[Tensor], limit: float = float("inf")) -> list[LinearMap]:
    """The maps of matrices (m, n), one for every input, that passes over the graph gave.

    Where a pass meets 0·∞ it gives NaN, for entries too that are zero by the operations: those become zeros.
    """
    shape = tuple(graph.output.shape)
    artefacts = [0] * len(matrices)
    if not graph.whole and not all(isfinite(matrix.sum().item()) for matrix in matrices):
        with suppress(UnsupportedError, TooLargeError, RuntimeError):
            cleaned = list(map(without_artefacts, matrices, masks(graph, Workspace(limit))))
            matrices, artefacts = [each[0] for each in cleaned], [each[1] for each in cleaned]
    told_by = "values" if graph.whole else "operations"
    return [
        PulledMap(shape, tuple(x.shape), matrix, "", told_by, gone, graph, position, limit)
        for position, (x, matrix, gone) in enumerate(zip(graph.inputs, matrices, artefacts, strict=True))
    ]


def pull_tiny(graph: Graph) -> list[LinearMap]:
    """The Jacobians to every input, all rows in one batch."""
    m = graph.output.numel()
    ((_, _, matrices),) = pulled_rows(graph, basis(graph.output), m, m)
    return pulled_maps(graph, matrices)
