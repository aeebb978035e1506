"""Where a Jacobian can be other than zero, by its operations: local maps multiplied together with their values forgotten.

In the place of every value stands 1, so that nothing cancels and nothing is zero because of the point: what is zero in
the product is zero by the operations.  The zeros of a matrix that something is multiplied with, and that is not
differentiated itself, are kept: they are part of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.compose import Terms, add
from jvpcli.jacobians.graph import Change, Graph, accumulate
from jvpcli.jacobians.kronecker import KroneckerMap, kronecker
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import detect, matrices, product
from jvpcli.jacobians.local.node import Locals, Node, NoRuleError, Op, axes, operand_shape, wrapped
from jvpcli.jacobians.local.table import RULES, stated_maps
from jvpcli.jacobians.local.windows import windows_of_node
from jvpcli.jacobians.operations import (
    ADDED,
    BY_VALUE,
    DECIDED,
    VARYING,
    Nature,
    operation,
    picks_by_index,
)
from jvpcli.jacobians.sparse_map import SparseMap
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import Term, TooLargeError, UnsupportedError, Workspace, zeros

MATRIX_NAMES = """
LinalgSvd LinalgQr LinalgLuFactorEx LinalgLu LuUnpack LinalgLuSolve TriangularSolve CholeskySolve LinalgEigh LinalgLstsq
"""
BY_FORM: Mapping[str, Callable[[Op], Locals | None]] = {
    "Convolution": stated_maps,  # some entries meet nothing, at the border
    "LinalgSolveTriangular": product.triangle_of_ones,
}
"""Operations with zeros at every point: their local maps where all that they have saved is ones."""

PRODUCTS = detect.LINEAR | product.SAVED.keys() | {"Mul", "Addr", "Linear", "Trilinear", "Convolution", "LinalgSolveTriangular"}
"""Operations whose local map to one operand is made from the others alone."""

TRIANGLES = frozenset(("Tril", "Triu"))
"""Operations whose local map has the same zeros at every point."""

MASKS = frozenset(("Where", "MaskedFill"))
"""Operations whose local map has those of a mask, whatever their operands are."""

ALONG: Mapping[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("Cumsum", "Cumprod", "Logcumsumexp", "Cummax", "Cummin"), torch.tril),
    "Glu": lambda ones: torch.eye(len(ones), device=ones.device).repeat(1, 2),
    "LinalgCross": lambda ones: ones - torch.eye(len(ones), device=ones.device),
}
"""Operations along an axis, of which an entry does not read all others: to what it reads, out of a matrix of ones."""

CORES = {
    **dict.fromkeys((*MATRIX_NAMES.split(), *product.SQUARE_BLOCKS_NAMES.split(), *matrices.RULES), 2),
    **dict.fromkeys(("MultiMarginLoss", "MultilabelMarginLoss"), 1),
}
"""Operations that mix all entries along the last axes of an operand, so many of them, and none along the others."""

BLOCKS = {*detect.BLOCKS, *CORES, "Softmax", "SafeSoftmax", "LogSoftmax"}
FOUND_OUT = frozenset(("GridSampler2D", "GridSampler3D", "ScatterReduce", "IndexReduce", "SegmentReduce"))
"""Operations whose local maps are found out by calls at the point: what is zero there may be so because of its values."""

STATED = frozenset(RULES.keys() - (BLOCKS - ALONG.keys()) - FOUND_OUT)
"""Operations of which it is known where their local maps are zero at every point; of the others' blocks it is not."""


def masks(graph: Graph, work: Workspace) -> list[Tensor]:
    """For every input a bool matrix (m, n): where ∂output/∂input can be other than zero, picking what is picked here.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    found = []
    work.reserve(graph.output.numel() * sum(x.numel() for x in graph.inputs), 8)
    for terms, x in zip(_accumulated(graph, work, Unvalued(graph.weighed)), graph.inputs, strict=True):
        result = zeros(graph.output.numel(), x.numel(), _double(graph))
        if result.numel():
            for position, term in enumerate(terms):
                term.write_dense(result, accumulate=position > 0)
        found.append(result != 0)
    return found


def _accumulated(graph: Graph, work: Workspace, change: Change) -> list[Terms]:
    return accumulate(replace(graph, like=_double(graph)), work, change=change)


def _double(graph: Graph) -> Tensor:
    """In double precision long products of counts stay finite."""
    return graph.like.double()


def structured(graph: Graph, pieces: Sequence[Terms], work: Workspace) -> list[StructuredMap]:
    """The maps that pieces for every input of a graph make; they know what can be asked of the operations."""

    everywhere, found = _Everywhere(graph, work), list[StructuredMap]()
    for position, (x, terms) in enumerate(zip(graph.inputs, pieces, strict=True)):
        shapes = tuple(graph.output.shape), tuple(x.shape)
        wide = partial(_wide_map, graph, work, everywhere, position)
        found.append(StructuredMap(*shapes, terms, x.new_empty(0), work, partial(everywhere.nature, position), wide))
    return found


@dataclass(frozen=True, eq=False)
class _Everywhere:
    """Where ∂output/∂input can be other than zero, at any point: found out once for all inputs, where it is asked for."""

    graph: Graph
    work: Workspace

    def nature(self, position: int) -> Nature:
        """What the operations make of ∂output/∂input, asked for only where the kind is."""
        if self.graph.elsewhere is not None:
            return DECIDED
        return replace(self.graph.natures[position], certain=self._certain)

    @cached_property
    def _certain(self) -> bool:
        return all(operation(node) in STATED for node in self.graph.order)

    @cached_property
    def places(self) -> Sequence[Terms] | None:
        """For every input; None where that can't be found out."""
        return _anywhere(self.graph, self.work)


def _anywhere(graph: Graph, work: Workspace) -> Sequence[Terms] | None:
    graphs = [graph, *graph.others]
    if (graph.elsewhere and not graph.others) or any(each.whole for each in graphs):
        return None
    try:
        pieces = [_accumulated(each, work, Unvalued(each.weighed, widens=True)) for each in graphs]
        found = pieces[0] if len(pieces) == 1 else [
            add([term for terms in each for term in terms], work) for each in zip(*pieces, strict=True)
        ]
    except (UnsupportedError, TooLargeError, RuntimeError, MemoryError):
        return None
    return [tuple([term.bare() if term.is_filled else term for term in terms]) for terms in found]  # places are all that is kept


def _wide_map(
    graph: Graph, work: Workspace, everywhere: _Everywhere, position: int
) -> StructuredMap | None:
    """The map to one input of what is known of all; None where nothing is."""
    known = everywhere.places
    if known is None:
        return None
    shapes = tuple(graph.output.shape), tuple(graph.inputs[position].shape)
    return StructuredMap(*shapes, known[position], _double(graph), work, lambda: VARYING)


def kinds(graph: Graph, work: Workspace) -> list[str]:
    """The kind of ∂output/∂input for every input, by the operations alone.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    return [each.structure for each in told(graph, work)]


def told(graph: Graph, work: Workspace) -> list[StructuredMap]:
    """∂output/∂input for every input, by the operations alone; raises as `kinds` does."""
    return structured(graph, accumulate(graph, work), work)


# --- other values, other places --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ones(Op):
    """An operation whose operands are all ones: its local maps are zero where its form makes them so, as padding does."""

    def saved(self, name: str, default: Any = None) -> Any:
        value = super().saved(name, default)
        return torch.ones_like(value) if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Unvalued:
    """1 in the place of every value, but for the zeros of a constant that is multiplied by.

    Attributes:
        weighed: what is not differentiated may follow from the inputs, and is no constant.
        widens: what picks by value leads to all entries that it might pick.
    """

    weighed: bool
    widens: bool = False

    def maps(self, op: Op, local: Locals) -> Locals:
        """The local maps of an operation."""
        found = self._maps(op, local)
        return widened(self.weighed, op, found) if self.widens else found

    def weight(self, op: Op, weight: Tensor) -> Tensor:
        """The weight of an operation."""
        return (weight != 0).double() if self._is_constant(op.node) else torch.ones_like(weight, dtype=torch.float64)

    def _maps(self, op: Op, local: Locals) -> Locals:
        node, name = op.node, operation(op.node)
        if name in ALONG and name not in BY_VALUE:
            return [shapes and (_along(node, *shapes),) for shapes in _ends(op, local)]
        if name not in STATED:
            ends = _ends(op, local)
            return [shapes and _block(node, name, pieces or (), *shapes) for pieces, shapes in zip(local, ends, strict=True)]
        constant = self._is_constant(node)
        if name in BY_FORM and not constant:
            found = None
            with suppress(NoRuleError):
                found = BY_FORM[name](_Ones(node, op.nr, op.shape, op.shapes, op.like, op.work))
            if found is None:
                raise UnsupportedError(name)
            return [pieces and tuple([_ones(term, True, False) for term in pieces]) for pieces in found]
        keep = name in TRIANGLES or (constant and name in PRODUCTS) or (not self.weighed and name in MASKS)
        return [pieces and tuple([_ones(term, keep, constant) for term in pieces]) for pieces in local]

    def _is_constant(self, node: Node) -> bool:
        """Whether what it multiplies an operand with is the same at every point."""
        edges = [edge for operand, (edge, _) in enumerate(node.next_functions) if operand != ADDED.get(operation(node))]
        return not self.weighed and sum(edge is not None for edge in edges) <= 1


def _ends(op: Op, local: Locals) -> Iterator[tuple[Shape, Shape] | None]:
    """For each operand the shapes of the output and its own; None where no gradient is asked for."""
    for pieces, (edge, nr) in zip(local, op.node.next_functions, strict=False):
        yield None if pieces is None else (op.shape, operand_shape(edge, nr))


def _like(node: Node) -> Tensor:
    return torch.empty(0, dtype=torch.float64, device=node._input_metadata[0].device)


def _block(node: Node, name: str, pieces: Terms, out_shape: Shape, shape: Shape) -> Terms:
    """All entries that an operation may mix at some point, where its map at this one does not tell.

    Raises:
        UnsupportedError: that is not known.
    """
    if name in FOUND_OUT:
        raise UnsupportedError(name)
    if not name:  # of a custom function other points tell the rest
        return tuple([term.bare() for term in pieces])
    batch = max(0, len(shape) - CORES[name]) if name in CORES else 0
    if pieces and (name not in CORES or out_shape[:batch] != shape[:batch]):
        return tuple([term.bare() for term in pieces])
    batch = batch if out_shape[:batch] == shape[:batch] else 0
    return (_every(node, batch, out_shape, shape),)


def _every(node: Node, batch: int, out_shape: Shape, shape: Shape) -> KroneckerMap:
    """From every entry to every entry, but for so many leading axes that run together."""
    sizes = dict(enumerate((*shape, *out_shape[batch:])))
    out = (*range(batch), *range(len(shape), len(sizes)))
    return kronecker(out_shape, shape, out, range(len(shape)), sizes, _like(node))


def _ones(term: Term, keep: bool, constant: bool) -> Term:
    """A piece with 1 for its values; `keep`: but where they are zero; `constant`: its scale is a number."""
    if isinstance(term, KroneckerMap):
        held = [Factor((f.values != 0).double(), f.labels) for f in term.factors if keep and not bool(f.values.all())]
        return replace(term, factors=tuple(held), scale=float(term.scale != 0 or not constant))
    if keep and isinstance(term, SparseMap) and term.values is not None and not bool(term.values.all()):
        return replace(term, values=(term.values != 0).double())
    return term.bare()


def widened(weighed: bool, op: Op, local: Locals) -> Locals:
    """The local maps of an operation that picks by value, to all entries that it might pick; those of any other as they are.

    `weighed`: an index may follow from the inputs, and so be by value.
    """
    node, name = op.node, operation(op.node)
    if weighed and picks_by_index(name, operand=1):
        ends = _ends(op, local)
        return [
            shapes and ((_every(node, 0, *shapes),) if picks_by_index(name, k) else pieces)
            for k, (shapes, pieces) in enumerate(zip(ends, local, strict=False))
        ]
    if name not in BY_VALUE:
        return local
    if "Pool" in name:
        first, *others = local
        return [first and (windows_of_node(node, first[0]),), *others]
    return [shapes and (_along(node, *shapes),) for shapes in _ends(op, local)]


def _along(node: Node, out_shape: Shape, shape: Shape) -> Term:
    """From all entries that stand along the axes of the node (all axes, if it names none), or those of them that it reads."""
    named = getattr(node, "_saved_dim", ()) if shape else ()
    dims = {wrapped(d, len(shape)) for d in ((named,) if isinstance(named, int) else named or ())} or set(range(len(shape)))
    labels, sizes = axes(shape)
    spread = {axis for axis, (a, b) in enumerate(zip(shape, out_shape, strict=False)) if a != b}  # broadcast, too
    fresh = {axis: len(shape) + axis for axis in dims | spread if len(out_shape) == len(shape)}
    sizes |= {label: out_shape[axis] for axis, label in fresh.items()}
    out = [fresh.get(axis, axis) for axis in labels if axis in fresh or axis not in dims]
    factors = []
    reads = ALONG.get(operation(node))
    if reads and shape:
        (axis,) = dims
        label = fresh[axis]
        factors = [Factor(reads(torch.ones(out_shape[axis], shape[axis], device=_like(node).device)), (label, axis))]
    return kronecker(out_shape, shape, out, labels, sizes, _like(node), factors)
