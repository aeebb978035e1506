"""A small Jacobian by passes, which are cheaper than structure there; the structure is found when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jvpcli.derive.accumulate import Graph, accumulate
from jvpcli.derive.linear_map import DenseMap, LinearMap
from jvpcli.derive.passes import basis, pulled_rows
from jvpcli.derive.structure import classify_values
from jvpcli.derive.structured import StructuredMap
from jvpcli.derive.terms import TooLargeError, UnsupportedError, Workspace


@dataclass(frozen=True, eq=False)
class PulledMap(DenseMap):
    """A map held as its matrix (m, n), and the graph that it was pulled back through.

    Attributes:
        graph: of the output.
        position: which of its inputs this is the derivative to.
    """

    graph: Graph | None = None
    position: int = 0

    @cached_property
    def structure(self) -> str:
        """From the operations; where one of them has no local map, from the values."""
        assert self.graph is not None
        work = Workspace()
        try:
            terms = accumulate(self.graph, work)[self.position]
        except (UnsupportedError, TooLargeError, RuntimeError):
            return classify_values([self.matrix])
        return StructuredMap(self.out_shape, self.in_shape, terms, self.matrix.new_empty(0), work).structure


def pull_tiny(graph: Graph) -> list[LinearMap]:
    """The Jacobians to every input, all rows in one batch."""
    m = graph.output.numel()
    ((_, _, matrices),) = pulled_rows(graph, basis(graph.output), m, m)
    shape = tuple(graph.output.shape)
    return [
        PulledMap(shape, tuple(x.shape), matrix, graph=graph, position=position)
        for position, (x, matrix) in enumerate(zip(graph.inputs, matrices, strict=True))
    ]
