"""How the Jacobians of one output are computed: decided from shapes, before anything is.

accumulated   local maps of the operations multiplied together, from the output backwards or from the inputs
              forwards: no pass over the graph at all
batched       rows of all samples of a batch by one pass, as far as operations keep samples apart; local maps from there
dense         one pass a row (reverse) or a column (forward), many at a time, straight into the result
matrix_free   products with the Jacobian, which is never held
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, gcd, inf, prod

from torch import Tensor

from jvpcli.jacobians.dense import BATCH_BYTES
from jvpcli.jacobians.graph import Edge, Graph
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import index
from jvpcli.jacobians.local.node import Node, operand_shape
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.through import PER_ENTRY, PER_FLOP, is_pulled, taps, time_of_rows
from jvpcli.jacobians.widths import FACTORS, has_rule
from jvpcli.report import OutputPlan, Way

BATCH = 6e4
"""Nanoseconds that a batch of passes takes, besides its operations."""

STEP = 6e4
"""Nanoseconds that an operation's local map and its products take, besides arithmetic."""

PASS = 8e3
"""Nanoseconds that an operation takes in a batch of passes, besides arithmetic."""

PER_NUMBER = 0.4
"""Nanoseconds for each number that an operation reads or writes."""

PER_PRODUCT = 0.025
"""Nanoseconds for each multiplication of a matrix product."""

PROBED = 4.0
"""Nanoseconds for each entry of a local map that is found out by calling the operation."""

HARDLY = 1.25
"""A way that takes at most so many times the mere steps of another is not weighed against it: weighing takes time, too."""

FORWARD = 2.5
"""How many times as long a pass forwards takes, which goes through the graph of a backward pass."""


@dataclass(frozen=True, eq=False)
class GraphPlan:
    """How the Jacobian of one output is computed: decided once; the figures are worked out where they are asked for.

    Attributes:
        graph: of the evaluated output.
        mode: "auto", or "reverse" or "forward" to settle the direction.
        limit: bytes that computing may take over what the evaluation holds.
        known: names the graph, where it is known to be that of an earlier evaluation.
    """

    graph: Graph
    mode: str = "auto"
    limit: float = float("inf")
    known: Hashable = None

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Names the choice: programs of the same operations and sizes have the same."""
        if self.known is not None:
            return ("plan", self.mode, self.limit, self.known)
        return ("plan", self.mode, self.limit, self.graph.m, tuple(map(Tensor.numel, self.graph.inputs)), self.graph.names)

    @cached_property
    def chosen(self) -> Way:
        """The way that is taken.

        Raises:
            UnsupportedError: an operand without a known shape.
        """
        (rows, time), graph = self._rows, self.graph
        shortest = STEP * len(graph.order)
        if graph.output.dim() > 1 and graph.output.shape[0] > 1:  # passes for all samples at once may do
            shortest = min(shortest, 3 * (BATCH + PASS * len(graph.order)))
        if self.mode == "auto" and rows.fits and time < shortest and not graph.whole:
            return rows  # less than the mere steps of any other way
        first, second = ("forward", "reverse") if self.mode == "forward" else ("reverse", "forward")
        ways = self._ways(first)
        if self.mode == "auto" and graph.m > graph.n:
            ways.append(self._passes(second))
            if not graph.whole and min([time for way, time in ways if way.fits], default=inf) > HARDLY * STEP * len(graph.order):
                ways.append(self._accumulated(second))
        fitting = [each for each in ways if each[0].fits]
        if not fitting and self.mode == "auto":
            fitting = [each for each in self._ways(second) if each[0].fits]
        return min(fitting, key=lambda each: each[1])[0] if fitting else self._products

    @property
    def report(self) -> OutputPlan:
        """All ways that were weighed, the chosen one first."""
        graph, chosen = self.graph, self.chosen
        directions = ("reverse",) if graph.whole else ("reverse", "forward") if self.mode == "auto" else (self.mode,)
        ways = [*[way for direction in directions for way, _ in self._ways(direction)], self._products]
        reason = self._reason(chosen, any(way.strategy == "accumulated" and way.fits for way in ways))
        reason = reason if self.mode == "auto" or graph.whole else f"asked for with mode {self.mode}; {reason}"
        bound = graph.m * graph.n
        if not graph.whole:
            bound = min(bound, *[self._cost(direction).bound for direction in ("reverse", "forward")])
        return OutputPlan(graph.m, graph.n, bound, (chosen, *[way for way in ways if way != chosen]), reason)

    @cached_property
    def _rows(self) -> tuple[Way, float]:
        return self._passes("reverse")

    def _ways(self, direction: str) -> list[tuple[Way, float]]:
        """The ways in one direction, and about how many nanoseconds each takes."""
        ways = [self._rows if direction == "reverse" else self._passes(direction)]
        if not self.graph.whole:
            ways.insert(0, self._accumulated(direction))
            if direction == "reverse" and self.graph.spine:
                ways.append(self._batched())
        return ways

    @cached_property
    def _costs(self) -> dict[str, Cost]:
        return {}

    def _cost(self, direction: str) -> Cost:
        if direction not in self._costs:
            self._costs[direction] = (reverse_cost if direction == "reverse" else forward_cost)(self.graph)
        return self._costs[direction]

    def _accumulated(self, direction: str) -> tuple[Way, float]:
        cost, full, itemsize = self._cost(direction), self.graph.m * self.graph.n, self.graph.like.element_size()
        held = min(cost.bound * (2 * itemsize + 24), 3 * full * itemsize) if cost.bound < full else full * itemsize
        peak = cost.peak_bytes + held
        return Way("accumulated", direction, 0, cost.operations, peak, peak <= self.limit), cost.nanoseconds

    def _passes(self, direction: str) -> tuple[Way, float]:
        """Rows or columns by passes."""
        graph = self.graph
        result, footprint = graph.m * graph.n * graph.like.element_size(), graph.footprint
        passes, factor = (graph.m, 1.0) if direction == "reverse" else (graph.n, FORWARD)
        room = max(footprint, min(BATCH_BYTES, self.limit - result))
        peak = int(result + min(passes * footprint, room))
        batches = ceil(passes * footprint / room)
        one = PER_NUMBER * self._work + PER_PRODUCT * sum([_products(node) for node in graph.order])
        time = BATCH * batches + factor * (batches * PASS * len(graph.order) + passes * one)
        return Way("dense", direction, passes, passes * self._work, peak, peak <= self.limit), time

    def _batched(self) -> tuple[Way, float]:
        """Rows of all samples of a batch by one pass."""
        graph, cost, spine = self.graph, self._cost("reverse"), self.graph.spine
        assert spine is not None
        count, way = graph.m // spine.apart, self._accumulated("reverse")[0]
        batches = ceil(count * graph.footprint / max(graph.footprint, min(BATCH_BYTES, self.limit)))
        one = sum([PER_NUMBER * prod(meta.shape) for node in spine.nodes for meta in node._input_metadata])
        one += PER_PRODUCT * sum([_products(node, 1) for node in spine.nodes])
        time = BATCH * (1 + batches) + batches * PASS * len(spine.nodes) + count * one + cost.outside
        return replace(way, strategy="batched", passes=count), time

    @property
    def _products(self) -> Way:
        """Products alone."""
        footprint = self.graph.footprint
        return Way("matrix_free", "reverse", 1, self._work, footprint, footprint <= self.limit)

    @property
    def _work(self) -> int:
        """Numbers that one pass goes through."""
        return sum(self.graph.sizes) + self.graph.n

    def _reason(self, way: Way, fits: bool) -> str:
        """Why a way was chosen; `fits`: local Jacobians would fit into the memory limit."""
        m, n, whole = self.graph.m, self.graph.n, self.graph.whole
        passes = f"one {way.mode} pass a {'row' if way.mode == 'reverse' else 'column'}: {way.passes}, as many at a time as fit"
        if whole:
            why = "complex numbers or hooks on the way, which only torch's own backward pass knows"
            return f"{why}: {passes if way.strategy == 'dense' else 'only products with the Jacobian, which does not fit'}"
        if way.strategy == "accumulated":
            start = "output" if way.mode == "reverse" else "input"
            return (
                f"local Jacobians multiplied together from the {start}: about {way.operations:.2g} multiplications, "
                f"against {m} reverse or {n} forward passes"
            )
        if way.strategy == "batched":
            samples = self.graph.output.shape[0]
            return f"the {samples} places of the first axis stay apart: {way.passes} reverse passes for all of them, not {m}"
        if way.strategy == "matrix_free":
            return f"the Jacobian ({m} by {n}) does not fit into the memory limit: only products with it are computed"
        if not fits:
            return f"the local Jacobians would not fit into the memory limit, so {passes}"
        if self._cost("reverse").probed:
            return f"an operation's local Jacobian is not known, so {passes}"
        return f"{passes}, which takes less time than multiplying local Jacobians together"


def _products(node: Node, count: int | None = None) -> int:
    """Multiplications of a pass through a matrix product or a convolution, to `count` operands; None: to all."""
    name = base_name(node.name()) if callable(node) else ""
    if name not in PRODUCT_NAMES and name != "Convolution":
        return 0
    shape = tuple(node._input_metadata[0].shape)
    count = sum(edge is not None for edge, _ in node.next_functions[:3]) if count is None else count
    if name == "Convolution":
        return int(PER_FLOP / PER_PRODUCT * count * prod(shape) * taps(node, shape))
    if name in FACTORS:
        operand = FACTORS[name][0]
        edge, nr = node.next_functions[operand]
        other, other_nr = node.next_functions[FACTORS[name][1]]
        if edge is not None:
            return count * prod(shape) * (operand_shape(edge, nr) or (1,))[-1]
        if other is not None:
            inner = operand_shape(other, other_nr)
            return count * prod(shape) * (inner[-2] if len(inner) > 1 else inner[-1])
        return 0
    return count * prod(shape) * node._saved_weight.shape[-1] if node._saved_weight is not None else prod(shape)


LISTED = frozenset((*index.RULES, "Roll", "Flip", "Diagonal", "Unfold", "Cat", "Stack", "CopySlices", "BlockDiag"))
"""Operations whose local maps are held by index arrays, besides those that rows are pulled through."""

@dataclass(frozen=True)
class Cost:
    """An estimate, upper bounds but for the time.

    Attributes:
        operations: multiplications.
        peak_bytes: of the largest map held, with its index arrays.
        bound: entries of the final maps that can be other than zero.
        probed: entries of the dense local blocks of operations that no rule knows.
        nanoseconds: about what it takes.
        outside: the part of it outside of the spine.
    """

    operations: int
    peak_bytes: int
    bound: int
    probed: int
    nanoseconds: float
    outside: float = 0.0


@dataclass(frozen=True)
class _Reach:
    """What is held of ∂output/∂(a tensor).

    Attributes:
        width: entries of a row that can be other than zero, at most.
        head: leading places of the tensor's that each belong to rows of their own.
        listed: whether it is held by index arrays.
    """

    width: int
    head: int
    listed: bool


def reverse_cost(graph: Graph) -> Cost:
    """Of accumulating from the output backwards."""
    m, spine = graph.m, graph.spine
    reach = {(graph.output.grad_fn, graph.output.output_nr): _Reach(1, m, False)}
    meter, outside = _Meter(graph), 0.0
    for node, edges in graph.edges.items():
        name = base_name(node.name()) if callable(node) else ""
        only = None if spine is None else spine.only.get(node)
        meter.step(node)
        outside += STEP if only is None or only else 0.0
        for nr, meta in enumerate(node._input_metadata):
            here, out_shape = reach.get((node, nr)), tuple(meta.shape)
            if here is None or not prod(out_shape):
                continue
            for edge in edges:
                size, products = prod(edge.shape), m * here.width * edge.widths[nr]
                time, found = _multiplied(node, name, nr, edge, here, m, out_shape)
                if only is not None and edge.operand in only and spine is not None and node in spine.full:
                    full = _Reach(prod(out_shape) // spine.apart, spine.apart, False)
                    outside += _multiplied(node, name, nr, edge, full, m, out_shape)[0]
                elif only is None or edge.operand in only:
                    outside += time
                before = reach.get((edge.to, edge.nr))
                if before is not None:
                    head = gcd(found.head, before.head)
                    wide = min(size // head, before.width + found.width)
                    found = _Reach(wide, head, found.listed and before.listed)
                    time += PER_NUMBER * m * found.width
                reach[edge.to, edge.nr] = found
                meter.multiply(products, time)
                meter.hold(m * found.width, m * size)
    ends = [reach.get((leaf, 0)) for leaf in graph.leaves]
    cost = meter.cost(sum(m * min(end.width, x.numel()) for end, x in zip(ends, graph.inputs, strict=True) if end))
    return replace(cost, outside=outside)


def _multiplied(
    node: Node, name: str, nr: int, edge: Edge, here: _Reach, m: int, out_shape: Shape
) -> tuple[float, _Reach]:
    """What multiplying with a local map takes, in nanoseconds, and what it gives."""
    size, head = prod(edge.shape), gcd(here.head, edge.carried[nr])
    products = m * here.width * edge.widths[nr]
    wide = max(1, min(size // head, here.width * edge.widths[nr]))
    first = edge.operand == 0 and is_pulled(node)
    listed = here.listed or first or name in LISTED
    if first and here.width > 1:
        return time_of_rows(node, m // head, edge.shape, out_shape), _Reach(wide, head, False)
    time = PER_NUMBER * m * (here.width + wide) + PER_PRODUCT * products
    if listed:
        time = PER_ENTRY * products
    elif name == "Convolution":  # to the weight, with the input unfolded
        time = 2 * PER_FLOP * products
    elif name in PRODUCT_NAMES and edge.carried[nr] == 1 and here.head * (out_shape or (1,))[-1] == prod(out_shape):
        time = 0.0  # the product of what is held for each sample is not multiplied out
    elif name in ("Mv", "Addmv") and edge.operand == FACTORS[name][0]:
        time = 0.0  # nor is that of what is held with the vector
    return time, _Reach(wide, head, listed and wide * 4 < 3 * (size // head))


PRODUCT_NAMES = frozenset((*FACTORS, "Linear"))


def forward_cost(graph: Graph) -> Cost:
    """Of accumulating from each input forwards."""
    meter, bound = _Meter(graph), 0
    backwards = list(reversed(graph.edges.items()))
    for leaf, x in zip(graph.leaves, graph.inputs, strict=True):
        n = x.numel()
        reach = {(leaf, 0): _Reach(1, 1, False)}
        for node, edges in backwards:
            if not any((edge.to, edge.nr) in reach for edge in edges):
                continue
            name = base_name(node.name()) if callable(node) else ""
            pulled = is_pulled(node)
            meter.step(node)
            for nr, meta in enumerate(node._input_metadata):
                size, wide, listed = prod(meta.shape), 0, False
                for edge in edges:
                    here = reach.get((edge.to, edge.nr))
                    if here:
                        products = size * edge.widths[nr] * here.width
                        listed = listed or here.listed or (pulled and edge.operand == 0) or name in LISTED
                        meter.multiply(products, products * (PER_ENTRY if listed else PER_NUMBER))
                        wide += edge.widths[nr] * here.width
                if wide:
                    reach[node, nr] = _Reach(min(n, wide), 1, listed and 4 * wide < 3 * n)
                    meter.hold(size * min(n, wide), size * n)
        end = reach.get((graph.output.grad_fn, graph.output.output_nr))
        bound += graph.m * end.width if end else 0
    return meter.cost(bound)


class _Meter:
    """Adds up what a sweep would do."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.itemsize = graph, graph.like.element_size()
        self.operations = self.peak = 0
        self.nanoseconds = 0.0
        self.probed: dict[Node, int] = {}

    def step(self, node: Node) -> None:
        """A node's local map is made."""
        self.nanoseconds += STEP
        if not has_rule(node):
            sizes = sum(prod(edge.shape) for edge in self.graph.edges[node])
            self.probed[node] = sizes * sum(prod(meta.shape) for meta in node._input_metadata)

    def multiply(self, operations: int, nanoseconds: float) -> None:
        """Something is multiplied with it."""
        self.operations += operations
        self.nanoseconds += nanoseconds

    def hold(self, entries: int, full: int) -> None:
        """A map of so many entries; one that is not full has index arrays, once before and once after a step."""
        per_entry = self.itemsize if entries >= full else 2 * (self.itemsize + 8)
        self.peak = max(self.peak, min(entries * per_entry, max(full, entries) * self.itemsize))

    def cost(self, bound: int) -> Cost:
        """The sum."""
        probed = sum(self.probed.values())
        peak, time = self.peak + probed * self.itemsize, self.nanoseconds + PROBED * probed
        return Cost(self.operations + probed, peak, bound, probed, time)
