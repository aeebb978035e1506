"""Dense Jacobians by passes in chunks, each written straight into the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.derive.accumulate import Graph, read_graph
from jvpcli.derive.passes import BATCH_BYTES, basis, batch_size, footprint, pull_back, pulled_rows, transpose
from jvpcli.derive.terms import UnsupportedError, zeros
from jvpcli.request import Tell


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
