"""The chain rule over whole maps: local Jacobians multiplied together along the graph that torch has made.

Backwards from the output each tensor gets ∂output/∂tensor, forwards from an input ∂tensor/∂input; a tensor that is
used twice gets the sum.  (Accumulating Jacobians on a graph: Griewank & Walther, Evaluating Derivatives, ch. 9.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.compose import Terms, add, compose
from jvpcli.jacobians.kronecker import identity
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Locals, Node, Op, call, is_fused, operand_shape, read_op, spare
from jvpcli.jacobians.local.table import is_trusted, local_maps
from jvpcli.jacobians.nearby import largest
from jvpcli.jacobians.operations import DECIDED, Nature, leading, named, natures_of, operation
from jvpcli.jacobians.terms import Term, UnsupportedError, Workspace
from jvpcli.jacobians.through import PULLED, by_hand, pull_through
from jvpcli.jacobians.widths import ARRAYS, NO_WIDER, ONE_OUTPUT, SPREAD, carried, followed, width
from jvpcli.language.evaluate import Evaluation, is_weighed
from jvpcli.language.readings import nodes_below
from jvpcli.request import Tell

SHORT = 1 << 16
"""Entries of a row up to which a pass is no matter, if it is the only one."""


LEAF = "torch::autograd::AccumulateGrad"
"""What the node of a leaf is called."""


class Edge(NamedTuple):
    """How an operation depends on an operand.

    Attributes:
        operand: its number.
        to, nr: the node that it comes from, and which output of that.
        shape: of the operand.
        widths, carried: for each output of the operation, as `widths` tells them.
    """

    operand: int
    to: Node
    nr: int
    shape: Shape
    widths: Sequence[int]
    carried: Sequence[int]


Sample = Callable[[], "Sequence[Tensor] | None"]
"""Gives the matrices (m, n) of an output to every input at another point; None where it can't be evaluated there."""

Others = Callable[[], "Sequence[Graph]"]
"""Gives the graphs of an output at other points, which are evaluated where they are asked for; none: nothing can be told."""


@dataclass(frozen=True)
class Graph:
    """The part of an autograd graph between one output and the inputs that it reaches.

    Attributes:
        output, inputs: tensors; the inputs are leaves that require grad.
        like: an empty tensor of the dtype and device that entries are computed in.
        hooked: the function has registered hooks, of which no node tells.
        weighed: numbers on the way that are not differentiated follow from the inputs: other points have others.
        elsewhere: gives the same at other points, where values decide what runs and that may be something else; None: nowhere.
        below: gives the nodes below the output, where they are known.
        sample: gives the matrices of the maps at another point, for values to tell what operations don't; None: nothing does.
    """

    output: Tensor
    inputs: tuple[Tensor, ...]
    like: Tensor
    hooked: bool = False
    weighed: bool = False
    elsewhere: Others | None = None
    below: Callable[[], Sequence[Node]] | None = None
    sample: Sample | None = None

    @cached_property
    def _below(self) -> Sequence[Node]:
        return nodes_below(self.output.grad_fn) if self.below is None else self.below()

    @cached_property
    def _read(self) -> tuple[Sequence[Node], Mapping[int, Node]]:
        if None in vars(self).get("form", (None,)):  # there may be other leaves, too
            return leading(self._below, set(map(id, self.inputs)))
        order, leaf_of = list[Node](), dict[int, Node]()
        for node, what in zip(self._below, self.form, strict=True):
            if what.__class__ is int:
                leaf_of[id(self.inputs[what])] = node
            else:
                order.append(node)
        order.reverse()
        return order, leaf_of

    @cached_property
    def form(self) -> tuple[Hashable, ...]:
        """What names it, found without reading it: the names of the nodes below the output, and which input each leaf is.

        What it doesn't tell: which of these nodes are on the way, the shapes there, and whether there are complex numbers.
        """
        places = {id(x): place for place, x in enumerate(self.inputs)}
        return tuple([name if (name := node.name()) != LEAF else places.get(id(node.variable)) for node in self._below])

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The nodes on the way, the output's first, each before those that it passes cotangents to."""
        return tuple(self._read[0])

    @cached_property
    def leaves(self) -> tuple[Node | None, ...]:
        """The leaf node of each input; None where the output does not reach it."""
        return tuple(map(self._read[1].get, map(id, self.inputs)))

    @cached_property
    def whole(self) -> bool:
        """Whether only torch's own engine knows what the backward pass does: complex numbers on the way, or hooks."""
        return self.hooked or True in [meta.dtype.is_complex for node in self.order for meta in node._input_metadata]

    @cached_property
    def taken(self) -> list[list[Shape]]:
        """The shapes of what each node takes: of its operation's outputs."""
        return [[tuple(meta.shape) for meta in node._input_metadata] for node in self.order]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple([node.name() for node in self.order])

    @cached_property
    def operations(self) -> list[str]:
        """What the operation of each node is called; nothing of a custom function, which may be called anything."""
        known = {name: named(name) for name in set(self.names)}
        return list(map(known.__getitem__, self.names))

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each of them is there."""
        return Counter(self.operations)

    @cached_property
    def trusted(self) -> bool:
        """Whether all operations below are trusted with many cotangents together, as `form` has them; custom ones are not."""
        return all(is_trusted(named(name)) for name in set(self.form) if isinstance(name, str))

    @cached_property
    def m(self) -> int:
        """Number of output entries."""
        return self.output.numel()

    @cached_property
    def n(self) -> int:
        """Number of input entries, of all inputs together."""
        return sum(map(Tensor.numel, self.inputs))

    @property
    def is_single(self) -> bool:
        """Whether it is one row, so short that a pass takes no longer than to look at what is on the way."""
        return self.m == 1 and self.n <= SHORT

    @cached_property
    def natures(self) -> list[Nature]:
        """What the operations are on the way to each input; nothing is told where a tensor they keep was written to since."""
        try:
            return natures_of(self.order, self.leaves, self.weighed, self.elsewhere is not None)
        except RuntimeError:
            return [DECIDED] * len(self.inputs)

    @cached_property
    def others(self) -> Sequence[Graph]:
        """The graphs at other points, where values decide what runs: only to see these takes running it there."""
        return () if self.elsewhere is None else self.elsewhere()

    @cached_property
    def shapes(self) -> dict[Node, list[Shape]]:
        """Those by node, with those of the inputs that are reached."""
        found = dict(zip(self.order, self.taken, strict=True))
        return found | {leaf: [tuple(x.shape)] for leaf, x in zip(self.leaves, self.inputs, strict=True) if leaf is not None}

    @cached_property
    def _edges(self) -> dict[int, list[Edge]]:
        return {}

    def edges(self, place: int) -> list[Edge]:
        """Of the node at a place of the order the edges that lead on to an input.

        Raises:
            UnsupportedError: an operand without a known shape.
        """
        if place not in self._edges:
            node, name = self.order[place], self.operations[place]
            shapes, found = self.shapes[node], list[Edge]()
            for operand, (to, nr) in enumerate(node.next_functions):
                if to in self.shapes:
                    shape = self.shapes[to][nr] if nr < len(self.shapes[to]) else operand_shape(to, nr)
                    widths = [width(node, name, operand, shape, out) for out in shapes]
                    kept = [carried(node, name, operand, shape, out) for out in shapes]
                    found.append(Edge(operand, to, nr, shape, widths, kept))
            self._edges[place] = found
        return self._edges[place]

    @cached_property
    def spine(self) -> Spine | None:
        """Where the samples of a batch stay apart; None: nowhere."""
        return read_spine(self)

    @cached_property
    def sizes(self) -> list[int]:
        """Entries of what each node takes: of its operation's outputs."""
        return [prod(shape) for shapes in self.taken for shape in shapes]

    @cached_property
    def largest(self) -> int:
        """Entries of the largest tensor on the way, at most.

        Only operands are asked of nodes that may have larger ones than what they take, and what these take beside what is used.
        """
        wider = self.counts.keys() - NO_WIDER
        asked = {to for node in self.of(wider) for to, _ in node.next_functions if to is not None}
        asked.update(self.of(wider - ONE_OUTPUT))
        return max([self.m, *[prod(meta.shape) for node in asked for meta in node._input_metadata]])

    def of(self, names: Set[str]) -> list[Node]:
        """The nodes of operations that are called so."""
        if names.isdisjoint(self.counts):
            return []
        return [node for node, name in zip(self.order, self.operations, strict=True) if name in names]

    def together(self, passes: int, room: float, exactly: bool = False) -> tuple[int, int]:
        """How many of some passes can be taken at a time in so many bytes, one in any case, and the bytes that they hold at most.

        A bound for these does where all fit, since it is found sooner; or they are worked out `exactly`.
        """
        bound = passes * self._held(len(self.order) * self.largest, self.largest)
        if bound <= room and not exactly:
            return max(1, passes), bound
        chunk = int(max(1, min(passes, room // max(1, self.footprint))))
        return chunk, chunk * self.footprint

    def _held(self, waiting: int, largest: int) -> int:
        """Bytes that one pass may hold at a time: so many entries of cotangents that wait, and a few of the largest tensors."""
        beside = max(self.spare.values(), default=0)
        return (max(4 * largest, waiting + 2 * largest) + beside + 2 * self.n) * self.like.element_size()

    @cached_property
    def spare(self) -> dict[Node, int]:
        """Entries that a pass holds at a node for what is asked for or not; only of nodes that don't look which it is."""
        fused = set(filter(is_fused, set(self.names)))
        return {node: spare(node) for node, name in zip(self.order, self.names, strict=True) if name in fused} if fused else {}

    @cached_property
    def singles(self) -> int:
        """How often a single number is broadcast on the way."""
        single: set[Node] = {leaf for leaf, x in zip(self.leaves, self.inputs, strict=True) if leaf is not None and not x.dim()}
        single |= set(filter(_has_number, self.of(self.counts.keys() - SPREAD - ARRAYS)))
        if not single:
            return 0
        count = 0
        for node in reversed(self.of(SPREAD)):  # what is computed entry by entry is a number where all operands are
            found = sum([to in single for to, _ in node.next_functions])
            if found and _has_number(node):
                single.add(node)
            else:
                count += found
        return count

    @cached_property
    def footprint(self) -> int:
        """Bytes that one pass may hold at a time, with the cotangents that wait as it goes on."""
        waiting = dict[Node, int]()
        entries = {node: list(map(prod, shapes)) for node, shapes in zip(self.order, self.taken, strict=True)}
        counted, now, most = set[tuple[Node, int]](), self.m, self.m
        for node in entries:
            for edge in node.next_functions:
                to, nr = edge
                if to in entries and edge not in counted:
                    counted.add(edge)
                    waiting[to] = waiting.get(to, 0) + entries[to][nr]
                    now += entries[to][nr]
            most = now if now > most else most  # max() takes a fifth of it all
            now -= waiting.pop(node, 0)
        return self._held(most, max(self.m, max(self.sizes, default=0)))


def _has_number(node: Node) -> bool:
    """Whether a single number is among what a node takes."""
    return [] in [meta.shape for meta in node._input_metadata]


def read_graph(
    output: Tensor,
    inputs: Sequence[Tensor],
    hooked: bool = False,
    weighed: bool = False,
    nodes: Callable[[], Sequence[Node]] | None = None,
    elsewhere: Others | None = None,
    sample: Sample | None = None,
) -> Graph:
    """The graph of one evaluated output.

    No node tells of hooks that the function has registered (`hooked`), of numbers that follow from the inputs (`weighed`), nor
    of what the function does `elsewhere`, where values decide it.  `nodes` gives those below the output, where they are known,
    `sample` the matrices of its maps at another point.

    Raises:
        UnsupportedError: a complex tensor at either end.
    """
    tensors = (output, *inputs)
    if any(map(torch.is_complex, tensors)):
        raise UnsupportedError("complex tensors")
    dtype = output.dtype
    for x in inputs:
        dtype = dtype if x.dtype == dtype else torch.promote_types(dtype, x.dtype)
    return Graph(output, tuple(inputs), output.new_empty((0,), dtype=dtype), hooked, weighed, elsewhere, nodes, sample)


def read_others(others: Sequence[Evaluation], name: str, output: Tensor) -> list[Graph]:
    """The graphs of an output at other points; none if it is another tensor at one of them."""
    found = []
    for there in others:
        y = there.outputs.get(name)
        if y is None or y.shape != output.shape or y.is_complex():
            return []
        found.append(read_graph(y, list(there.leaves.values()), there.hooked, is_weighed(there)))
    return found


class Change(Protocol):
    """Puts other numbers in the place of an operation's."""

    def maps(self, op: Op, local: Locals) -> Locals:
        """In the place of its local maps."""

    def weight(self, op: Op, weight: Tensor) -> Tensor:
        """In the place of the weight, where rows are pulled through it."""


Arrived = dict[tuple[Node, int], list[Term]]
"""∂output/∂(an output of a node), as pieces."""


def accumulate(
    graph: Graph,
    work: Workspace,
    direction: str = "reverse",
    tell: Tell | None = None,
    change: Change | None = None,
    start: Arrived | None = None,
    only: Mapping[Node, Sequence[int]] | None = None,
) -> list[Terms]:
    """∂output/∂input for every input, as pieces; none for an input that is not reached.

    Going in reverse, `change` may put other local maps in the place of a node's, and it may `start` from what is known of
    ∂output/∂(outputs of nodes), in the place of the output: these nodes are gone through to some operands `only`.

    Raises:
        UnsupportedError: a node without a local map.
        TooLargeError: over the workspace's limit.
    """
    with torch.set_grad_enabled(False):  # as no_grad(), in half its time
        if direction == "reverse":
            return _backwards(graph, work, tell, change, start, only or {})
        return [_forwards(graph, position, work) for position in range(len(graph.inputs))]


def _start(graph: Graph, tensor: Tensor) -> Term:
    return identity(tuple(tensor.shape), tuple(tensor.shape), graph.like)


def start_of(graph: Graph) -> Arrived:
    """∂output/∂output, if that has a graph."""
    return {} if graph.output.grad_fn is None else {(graph.output.grad_fn, graph.output.output_nr): [_start(graph, graph.output)]}


def _is_output(graph: Graph, position: int) -> bool:
    """Whether an input is itself the output."""
    return graph.inputs[position] is graph.output


def _backwards(
    graph: Graph,
    work: Workspace,
    tell: Tell | None,
    change: Change | None,
    start: Arrived | None,
    only: Mapping[Node, Sequence[int]],
) -> list[Terms]:
    arrived = start_of(graph) if start is None else start
    reached = {*graph.order, *graph.leaves} - {None}
    for done, node in enumerate(graph.order):
        if tell:
            tell("local Jacobians multiplied together", done, len(graph.order))
        edges, taken = node.next_functions, only.get(node)
        wanted = [edge in reached and (taken is None or k in taken) for k, (edge, _) in enumerate(edges)]
        for nr in range(len(node._input_metadata)):
            pieces = arrived.pop((node, nr), None)
            if not pieces:
                continue
            total = add(pieces, work)
            op = read_op(node, nr, wanted, graph.like, work)
            through, rest = _pulled_through(op, total, change)
            if through:
                arrived.setdefault(edges[0], []).extend(through)
                op = op if rest else replace(op, shapes=(None, *op.shapes[1:]))
            if op.shapes.count(None) == len(op.shapes):
                continue
            local = local_maps(op)
            local = local if change is None else change.maps(op, local)
            for operand, (edge, right) in enumerate(zip(edges, local, strict=True)):
                if op.shapes[operand] is not None and right:
                    arrived.setdefault(edge, []).extend(compose(total if operand else rest, right, work))
    result: list[Terms] = []
    for position, leaf in enumerate(graph.leaves):
        if _is_output(graph, position):
            result.append((_start(graph, graph.output),))
        else:
            result.append(add(arrived.get((leaf, 0), []), work))
    return result


MOSTLY = 4
"""Rows that fill more than one entry in so many are dealt with as full ones."""


@dataclass(frozen=True)
class Spine:
    """The part of a graph in which the samples of a batch stay apart.

    Attributes:
        apart: the number of samples: places of the output's first axis.
        nodes: those whose operations carry them along, with all that comes before them.
        full: those of them at which the rows of a sample mostly fill what there is of that sample.
        only: for each of them the operands that local maps lead to: those that leave the spine, and before the rows are full
            those at which they are not full yet.
        leaves: the positions of the inputs that belong to it.
        outer: for each of its nodes and leaves how many places lie before the samples, as `widths.followed` has it.
    """

    apart: int
    nodes: frozenset[Node]
    full: frozenset[Node]
    only: Mapping[Node, Sequence[int]]
    leaves: Sequence[int]
    outer: Mapping[Node, int]


def read_spine(graph: Graph) -> Spine | None:
    """The spine of a graph; None where the output has no batch, or where it does not fill what it reaches.

    That of a graph which only torch's own engine goes through is all of it, or there is none.
    """
    apart = graph.output.shape[0] if graph.output.dim() > 1 else 0
    if apart < 2 or graph.hooked or not graph.order or not graph.m:
        return None
    root, leaves = graph.order[0], {leaf: k for k, leaf in enumerate(graph.leaves) if leaf is not None}
    outer, widths, sizes, waiting = {root: 1}, {root: 1}, {root: graph.m}, {root}
    places = dict[Node, int]()
    for place, node in enumerate(graph.order):
        if not waiting:
            break  # nothing is left in which they are apart
        waiting.discard(node)
        if outer[node]:
            places[node] = place
            for edge in graph.edges(place):
                keeps = _keeps(graph, place, edge, outer[node], apart)
                outer[edge.to] = keeps if outer.get(edge.to, keeps) == keeps else 0
                size = sizes[edge.to] = prod(edge.shape)
                widths[edge.to] = min(size, widths.get(edge.to, 0) + (widths[node] * max(edge.widths) if keeps else 0))
                (waiting.add if outer[edge.to] else waiting.discard)(edge.to)
        else:
            for to, _ in node.next_functions:
                outer[to] = 0
                waiting.discard(to)
    inside = {node for node, kept in outer.items() if kept}
    full = {node for node in inside if MOSTLY * widths[node] * apart >= sizes[node]}
    reached = [leaf for leaf in leaves if leaf in inside]
    if not full or any(widths[leaf] * apart < sizes[leaf] for leaf in reached):
        return None
    only: dict[Node, list[int]] = {}
    for node, place in reversed(places.items()):  # what is not full yet matters where it leads out of the spine
        only[node] = [
            edge.operand
            for edge in graph.edges(place)
            if edge.to not in inside or (node not in full and edge.to not in full and only[edge.to])
        ]
    nodes = frozenset(only)
    if graph.whole and (len(nodes) < len(graph.order) or any(only.values())):
        return None
    return Spine(apart, nodes, nodes & full, only, [leaves[leaf] for leaf in reached], outer)


def _keeps(graph: Graph, place: int, edge: Edge, outer: int, apart: int) -> int:
    """Where the samples lie in an operand, by all outputs of an operation; 0: they don't stay apart."""
    node, name = graph.order[place], graph.operations[place]
    first, *others = [
        followed(node, name, edge.shape, shape, kept, outer, apart)
        for shape, kept in zip(graph.shapes[node], edge.carried, strict=True)
    ]
    return first if others == [first] * len(others) else 0


def _pulled_through(op: Op, total: Terms, change: Change | None) -> tuple[list[Term], Terms]:
    """The pieces that are pulled through to the first operand, and those that are to be multiplied with its local map."""
    if op.shapes[0] is None or operation(op.node) not in PULLED:
        return [], total
    weight = None
    if change is not None:
        weight = op.saved("weight")
        if not isinstance(weight, Tensor):
            return [], total
        weight = change.weight(op, weight.detach())
    found = [(term, pull_through(op, term, weight)) for term in total]
    return [new for _, new in found if new is not None], tuple([term for term, new in found if new is None])


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
    reached = {*graph.order, *graph.leaves} - {None}
    for node in graph.order:
        here = arrived.pop(node, None)
        if here is None:
            continue
        edges = node.next_functions
        pulled = by_hand(node, here[0], [edge in reached for edge, _ in edges]) if 0 in here else None
        pulled = call(node, here) if pulled is None else pulled
        for (edge, nr), grad in zip(edges, pulled, strict=False):
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


DRAWS = 4
"""How often roundings are drawn."""


def scatter(output: Tensor, x: Tensor, v: Tensor, eps: float) -> float:
    """The largest change of an entry of vᵀJ (the shape of `x`) by roundings of the size `eps`, relative to each term.

    What a step sends on is known to a rounding of its own size only.  Where large contributions cancel, that is more than the
    sum that is left, and no bound on the Jacobian's entries tells it.  So the backward pass is taken again, with whatever its
    steps send on rounded at random.  (Monte Carlo arithmetic: Parker, 1997.)

    `output` has its graph; `v` is of its shape.  0 where nothing can be said: for complex numbers, or where a step cannot
    be taken by itself.
    """
    generator = torch.Generator().manual_seed(11)

    def rounded(term: Tensor) -> Tensor:
        by = torch.rand(term.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return (term.double() * (1 + eps * by.to(term.device))).to(term.dtype)

    try:
        graph = read_graph(output, [x])
        with torch.no_grad():
            (exact,) = pull_back(graph, v)
            changes = [pull_back(graph, v, rounded)[0] - exact for _ in range(DRAWS)]
    except (UnsupportedError, RuntimeError):
        return 0.0
    return max(map(largest, changes))
