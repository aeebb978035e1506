"""The chain rule over whole maps: local Jacobians multiplied together along the graph that torch has made.

Backwards from the output each tensor gets ∂output/∂tensor, forwards from an input ∂tensor/∂input; a tensor that is
used twice gets the sum.  (Accumulating Jacobians on a graph: Griewank & Walther, Evaluating Derivatives, ch. 9.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.compose import Terms, add, compose
from jvpcli.jacobians.kronecker import identity
from jvpcli.jacobians.local.node import Node, call, read_op
from jvpcli.jacobians.local.table import local_maps
from jvpcli.jacobians.operations import Nature, natures_of, topological
from jvpcli.jacobians.terms import Term, UnsupportedError, Workspace
from jvpcli.request import Tell


@dataclass(frozen=True)
class Graph:
    """The part of an autograd graph between one output and the inputs that it reaches.

    Attributes:
        output, inputs: tensors; the inputs are leaves that require grad.
        order: the nodes on the way, the output's first, each before those that it passes cotangents to.
        leaves: the leaf node of each input; None where the output does not reach it.
        like: an empty tensor of the dtype and device that entries are computed in.
        whole: only torch's own engine knows what the backward pass does: complex numbers on the way, or hooks.
    """

    output: Tensor
    inputs: tuple[Tensor, ...]
    order: tuple[Node, ...]
    leaves: tuple[Node | None, ...]
    like: Tensor
    whole: bool = False

    @property
    def m(self) -> int:
        """Number of output entries."""
        return self.output.numel()

    @cached_property
    def n(self) -> int:
        """Number of input entries, of all inputs together."""
        return sum([x.numel() for x in self.inputs])

    @cached_property
    def natures(self) -> list[Nature]:
        """What the operations are on the way to each input."""
        return natures_of(self.order, self.leaves)

    @cached_property
    def footprint(self) -> int:
        """Bytes that one pass may hold at a time: a few of the largest tensors."""
        sizes = [prod(meta.shape) for node in self.order for meta in node._input_metadata]
        largest = max([self.m, *sizes])
        return (4 * largest + 2 * self.n) * self.like.element_size()


def read_graph(output: Tensor, inputs: Sequence[Tensor], hooked: bool = False) -> Graph:
    """The graph of one evaluated output; `hooked` if the function has registered hooks, which no node tells of.

    Raises:
        UnsupportedError: a complex tensor at either end.
    """
    tensors = (output, *inputs)
    if any(t.is_complex() for t in tensors):
        raise UnsupportedError("complex tensors")
    dtype = output.dtype
    for x in inputs:
        dtype = torch.promote_types(dtype, x.dtype)
    order: list[Node] = []
    leaf_of: dict[int, Node] = {}
    if output.grad_fn is not None:
        order, leaf_of = topological(output.grad_fn, {id(x) for x in inputs})
    leaves = tuple([leaf_of.get(id(x)) for x in inputs])
    whole = hooked or any(meta.dtype.is_complex for node in order for meta in node._input_metadata)
    return Graph(output, tuple(inputs), tuple(order), leaves, output.new_empty((0,), dtype=dtype), whole)


Change = Callable[[Node, Sequence[tuple[Term, ...] | None]], Sequence[tuple[Term, ...] | None]]
"""Puts other local maps in the place of a node's."""


def accumulate(
    graph: Graph,
    work: Workspace,
    direction: str = "reverse",
    tell: Tell | None = None,
    change: Change | None = None,
) -> list[Terms]:
    """∂output/∂input for every input, as pieces; none for an input that is not reached.

    Going in reverse, `change` may put other local maps in the place of a node's.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    with torch.no_grad():
        if direction == "reverse":
            return _backwards(graph, work, tell, change)
        return [_forwards(graph, position, work) for position in range(len(graph.inputs))]


def _start(graph: Graph, tensor: Tensor) -> Term:
    return identity(tuple(tensor.shape), tuple(tensor.shape), graph.like)


def _is_output(graph: Graph, position: int) -> bool:
    """Whether an input is itself the output."""
    return graph.inputs[position] is graph.output


def _backwards(graph: Graph, work: Workspace, tell: Tell | None, change: Change | None) -> list[Terms]:
    arrived: dict[tuple[Node, int], list[Term]] = {}
    if graph.output.grad_fn is not None:
        arrived[graph.output.grad_fn, graph.output.output_nr] = [_start(graph, graph.output)]
    reached = set(graph.order) | {leaf for leaf in graph.leaves if leaf is not None}
    for done, node in enumerate(graph.order):
        if tell:
            tell("local Jacobians multiplied together", done, len(graph.order))
        edges = node.next_functions
        wanted = [edge in reached for edge, _ in edges]
        for nr in range(len(node._input_metadata)):
            pieces = arrived.pop((node, nr), None)
            if not pieces:
                continue
            total = add(pieces, work)
            local = local_maps(read_op(node, nr, wanted, graph.like, work))
            local = local if change is None else change(node, local)
            for edge, use, right in zip(edges, wanted, local, strict=True):
                if use and right:
                    arrived.setdefault(edge, []).extend(compose(total, right, work))
    result: list[Terms] = []
    for position, leaf in enumerate(graph.leaves):
        if _is_output(graph, position):
            result.append((_start(graph, graph.output),))
        else:
            result.append(add(arrived.get((leaf, 0), []), work))
    return result


def _forwards(graph: Graph, position: int, work: Workspace) -> Terms:
    if _is_output(graph, position):
        return (_start(graph, graph.output),)
    if graph.leaves[position] is None:
        return ()
    known: dict[tuple[Node, int], Terms] = {(graph.leaves[position], 0): (_start(graph, graph.inputs[position]),)}
    used = _uses(graph)
    for node in reversed(graph.order):
        edges = node.next_functions
        wanted = [edge in known for edge in edges]
        if not any(wanted):
            continue
        for nr in used[node]:
            pieces: list[Term] = []
            local = local_maps(read_op(node, nr, wanted, graph.like, work))
            for edge, use, left in zip(edges, wanted, local, strict=True):
                if use and left:
                    pieces.extend(compose(left, known[edge], work))
            known[node, nr] = add(pieces, work)
    return known.get((graph.output.grad_fn, graph.output.output_nr), ())


def _uses(graph: Graph) -> dict[Node, set[int]]:
    """Which outputs of each node are used on the way."""
    used: dict[Node, set[int]] = {node: set() for node in graph.order}
    used[graph.output.grad_fn].add(graph.output.output_nr)
    for node in graph.order:
        for edge, nr in node.next_functions:
            if edge in used:
                used[edge].add(nr)
    return used


def pull_back(graph: Graph, cotangent: Tensor, rounded: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """vᵀJ for each input, node by node: v of the output's shape; zeros for an input that is not reached.

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
        for (edge, nr), grad in zip(node.next_functions, call(node, here), strict=False):
            if grad is None or edge not in reached:
                continue
            grad = _fit(grad, edge._input_metadata[nr])
            grad = rounded(grad) if rounded else grad
            slot = arrived.setdefault(edge, {})
            slot[nr] = slot[nr] + grad if nr in slot else grad
    result = []
    for position, (x, leaf) in enumerate(zip(graph.inputs, graph.leaves, strict=True)):
        if _is_output(graph, position):
            result.append(cotangent)
        else:
            found = arrived.get(leaf, {}).get(0)
            result.append(torch.zeros_like(x) if found is None else found)
    return result


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
