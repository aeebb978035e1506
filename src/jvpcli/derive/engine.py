"""The door of the engine: an evaluated graph in, structured Jacobians out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from jvpcli.derive.accumulate import accumulate, read_graph
from jvpcli.derive.linear_map import LinearMap
from jvpcli.derive.structured import StructuredMap
from jvpcli.derive.terms import Workspace


def accumulated(
    output: Tensor, inputs: Sequence[Tensor], work: Workspace | None = None, direction: str = "reverse"
) -> list[LinearMap]:
    """∂output/∂input by local maps."""
    work = Workspace() if work is None else work
    graph = read_graph(output, inputs)
    return [
        StructuredMap(tuple(output.shape), tuple(x.shape), terms, x.new_empty((0,)), work)
        for x, terms in zip(inputs, accumulate(graph, work, direction), strict=True)
    ]
