"""Where a Jacobian can be other than zero, by its operations: local maps multiplied together with their values forgotten.

In the place of every value stands a positive number drawn at random, so that nothing cancels and nothing is zero because
of the point: what is zero in the product is zero by the operations.  The zeros of a matrix that something is multiplied
with, and that is not differentiated itself, are kept: they are part of the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from jvpcli.jacobians.compose import Terms
from jvpcli.jacobians.graph import Graph, accumulate
from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.local.node import Node
from jvpcli.jacobians.operations import ANYTHING, base_name
from jvpcli.jacobians.sparse_map import SparseMap
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import Term, TooLargeError, UnsupportedError, Workspace, zeros

PRODUCTS = frozenset(("Mm", "Bmm", "Mv", "Dot", "Vdot", "Addmm", "Baddbmm", "Addmv", "Addr", "Linear", "Convolution"))
"""Operations whose local map to one operand is another operand."""

Locals = Sequence[tuple[Term, ...] | None]


def masks(graph: Graph, work: Workspace) -> list[Tensor]:
    """For every input a bool matrix (m, n): where ∂output/∂input can be other than zero.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    drawn = _Drawn()
    graph = replace(graph, like=graph.like.double())  # long products of positive numbers stay finite
    found = []
    work.reserve(graph.output.numel() * sum(x.numel() for x in graph.inputs), graph.like.element_size())
    for terms, x in zip(accumulate(graph, work, change=drawn.change), graph.inputs, strict=True):
        result = zeros(graph.output.numel(), x.numel(), graph.like)
        if result.numel():
            for position, term in enumerate(terms):
                term.write_dense(result, accumulate=position > 0)
        found.append(result != 0)
    return found


def structured(graph: Graph, pieces: Sequence[Terms], work: Workspace) -> list[LinearMap]:
    """The maps that pieces for every input of a graph make; they know what can be asked of the operations."""
    found: list[LinearMap] = []
    for position, (x, terms) in enumerate(zip(graph.inputs, pieces, strict=True)):
        mask = partial(_mask, graph, work, position) if any(term.is_dense for term in terms) else None
        copies = sum(t.bound for t in terms) <= graph.output.numel() and any(_has_no_values(t) for t in terms)
        nature = graph.natures[position] if copies else ANYTHING  # for any other it makes no difference
        shapes = tuple(graph.output.shape), tuple(x.shape)
        found.append(StructuredMap(*shapes, terms, x.new_empty(0), work, nature, mask))
    return found


def _has_no_values(term: Term) -> bool:
    """Whether entries are all one number, so that it matters whether they are at every point."""
    return term.values is None if isinstance(term, SparseMap) else isinstance(term, KroneckerMap) and not term.factors


def _mask(graph: Graph, work: Workspace, position: int) -> Tensor | None:
    try:
        return masks(graph, work)[position]
    except (UnsupportedError, TooLargeError, RuntimeError, MemoryError):
        return None


def kinds(graph: Graph, work: Workspace) -> list[str]:
    """The kind of ∂output/∂input for every input, by the operations alone.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    return [each.structure for each in structured(graph, accumulate(graph, work), work)]


class _Drawn:
    """Random positive numbers, the same ones in every process."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(11)

    def change(self, node: Node, local: Locals) -> Locals:
        """The local maps of a node with other values."""
        keep = callable(node) and base_name(node.name()) in PRODUCTS
        keep = keep and sum(edge is not None for edge, _ in node.next_functions) == 1
        return [None if pieces is None else tuple([self.term(t, keep) for t in pieces]) for pieces in local]

    def term(self, term: Term, keep: bool) -> Term:
        """The same piece with other values; `keep`: but where they are zero."""
        if isinstance(term, KroneckerMap):
            factors = tuple([replace(f, values=self.values(f.values, keep)) for f in term.factors])
            return replace(term, factors=factors, scale=abs(term.scale))
        assert isinstance(term, SparseMap)
        return term if term.values is None else replace(term, values=self.values(term.values, keep))

    def values(self, values: Tensor, keep: bool) -> Tensor:
        """Numbers in [0.5, 1.5) of the same shape."""
        drawn = (torch.rand(values.shape, generator=self.generator, dtype=torch.float64) + 0.5).to(values.device)
        return drawn.masked_fill_(values == 0, 0) if keep else drawn
