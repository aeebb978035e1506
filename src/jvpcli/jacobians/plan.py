"""How the Jacobians of one output are computed: decided from shapes, before anything is.

accumulated   local maps of the operations multiplied together, from the output backwards or from the inputs
              forwards: no pass over the graph at all
batched       rows of all samples of a batch by one pass, as far as operations keep samples apart; local maps from there
dense         one pass a row (reverse) or a column (forward), many at a time, straight into the result
matrix_free   products with the Jacobian, which is never held
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, gcd, inf, prod
from typing import NamedTuple

from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.dense import BATCH_BYTES, LONG
from jvpcli.jacobians.graph import Edge, Graph, Spine
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import index, movement
from jvpcli.jacobians.local.detect import BLOCKS, detect
from jvpcli.jacobians.local.detect import CHUNK_BYTES as CALLED_BYTES
from jvpcli.jacobians.local.node import Node, operand_shape
from jvpcli.jacobians.local.table import RULES
from jvpcli.jacobians.passes import Pace
from jvpcli.jacobians.through import (
    CHUNK_BYTES,
    CONVOLVED,
    PER_ENTRY,
    PER_FLOP,
    PULLED,
    time_of_convolving,
    time_of_rows,
)
from jvpcli.jacobians.widths import CUT, FACTORS, SINGLE, listed, taps
from jvpcli.report import OutputPlan, Way

BATCH = 6e4
"""Nanoseconds that a batch of passes takes, besides its operations."""

STEP = 6e4
"""Nanoseconds that an operation's local map and its products take, besides arithmetic."""

PASS = 8e3
"""Nanoseconds that an operation takes in a batch of passes, besides arithmetic."""

READING = 6e3
"""Nanoseconds that it takes to find out of an operation whether it keeps samples apart, and as many to weigh its local map."""

ROW = 1e4
"""Nanoseconds that an operation takes for each row, where it has no rule for many."""

PER_NUMBER = 0.4
"""Nanoseconds for each number that an operation reads or writes."""

PER_PRODUCT = 0.025
"""Nanoseconds for each multiplication of a matrix product."""

LISTED_BYTES = 16
"""Bytes of the row and the column of an entry that is listed."""

KEPT_BYTES = 32
"""Bytes of index arrays that are kept of a place that entries are added up in: with their order, and what of the sum each is."""

PROBED = 4.0
"""Nanoseconds for each entry of a local map that is found out by calling the operation."""

TRIED = 10.0
"""Passes that take so many times what a batch of them takes besides its operations are tried beforehand: it costs little."""

HARDLY = 1.25
"""A way that takes at most so many times the mere steps of another is not weighed against it: weighing takes time, too.

Passes for all samples of a batch are taken where they are that much less, for what is done before and after them.
"""

FORWARD = 2.5
"""How many times as long a pass forwards takes, which goes through the graph of a backward pass."""

TRANSPOSING = 2e5
"""Nanoseconds that it takes to make that graph, and to find out afterwards that nothing is missing in it."""

HEAVY = {
    "LinalgMatrixExp": (5.0, 1),
    **dict.fromkeys(("LinalgCholeskyEx", "LinalgEigh", "LinalgSvd", "LinalgQr", "LinalgPinv", "LinalgInvEx"), (0.5, 1)),
    "LinalgSolveTriangular": (1.0, 1),
    "LinalgSolveEx": (0.15, 1),
    **dict.fromkeys(("Logcumsumexp", "GridSampler2D", "GridSampler3D"), (40.0, 0)),
}
"""Nanoseconds that a row takes for each number of a result, and for each times each row of its matrices where 1 follows."""


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
        if self.known is not None or self._single:
            return ("plan", self.mode, self.limit, self.known)
        graph = self.graph
        return ("plan", self.mode, self.limit, graph.m, tuple(map(Tensor.numel, graph.inputs)), graph.hooked, graph.form)

    @cached_property
    def chosen(self) -> Way:
        """The way that is taken.

        Raises:
            UnsupportedError: an operand without a known shape.
        """
        graph, auto = self.graph, self.mode == "auto"
        if self._single or self._light:
            return Way("dense", "reverse", graph.m, 0, 0, True)
        if auto and self.limit == inf and not graph.whole and (short := self._short()):
            return short
        first, second = ("forward", "reverse") if self.mode == "forward" else ("reverse", "forward")
        ways = [*self._by_passes(first), *(self._by_passes(second) if auto and graph.m > graph.n else [])]
        most, steps = min([time for way, time in ways if way.fits], default=inf), STEP * len(graph.order)
        least = min(self._weighing, 2 * READING * len(graph.order) + self._leaving)
        if not (auto and most < least) and not graph.whole:
            ways += self._by_maps(first, most)
            if auto and min([time for way, time in ways if way.fits], default=inf) > HARDLY * steps:
                ways.append(self._accumulated(second, most))
        fitting = [each for each in ways if each[0].fits]
        if not fitting and auto:
            fitting = [each for each in self._ways(second) if each[0].fits]
        return min(fitting, key=lambda each: each[1])[0] if fitting else self._products

    def allows(self, way: Way) -> bool:
        """Whether a way is one of this graph's: it may have been chosen for another of the same `form`."""
        if way.strategy == "batched":
            return self.graph.spine is not None
        return not (way.strategy == "accumulated" and self.graph.whole)

    def pace(self, way: Way) -> Pace | None:
        """Watches the passes of a way, where there may be another that takes less time; None of one that takes none."""
        graph = self.graph
        if way.strategy != "dense" or self.mode != "auto" or graph.whole or self._single:
            return None
        reckoned = partial(self._passes, way.mode, told=False)
        tries = way.mode == "reverse" and not self._light and reckoned()[1] > TRIED * (BATCH + PASS * len(graph.order))
        return Pace(way.passes, lambda: reckoned()[1], lambda: self.by_maps[1], tries)

    @cached_property
    def by_maps(self) -> tuple[Way, float]:
        """The way by local maps that takes the least time, and about how many nanoseconds; infinitely many where none fits."""
        ways = [each for direction in ("reverse", "forward") for each in self._by_maps(direction)]
        return min([each for each in ways if each[0].fits], key=lambda each: each[1], default=(self._products, inf))

    @property
    def _single(self) -> bool:
        """Whether nothing is weighed: one pass does."""
        return self.graph.is_single and self.mode != "forward" and self.limit == inf

    @property
    def _weighing(self) -> float:
        """Nanoseconds that local maps take at least, with the time that it takes to weigh them."""
        count = len(self.graph.order)
        hardly = HARDLY if count > LONG else 1.0  # rows fill up on a long way: more than its mere steps, surely
        return (2 * READING + hardly * STEP) * count

    @property
    def _light(self) -> bool:
        """Whether nothing is weighed: passes backwards compute so little that no other way can take less, by bounds alone."""
        graph, count = self.graph, len(self.graph.order)
        most = min(BATCH + READING * count, self._weighing - BATCH - PASS * count)  # for which batches, local maps are looked for
        if self.mode == "forward" or self.limit < inf or most <= 0:
            return False
        if graph.m > graph.n:
            most = min(most, TRANSPOSING + (FORWARD - 1) * PASS * count)
        if graph.m * PER_NUMBER * (count * graph.m + graph.n) >= most:  # the output is as large as any may be
            return False
        largest, counts = graph.largest, graph.counts
        numbers = graph.m * PER_NUMBER * (count * largest + graph.n)
        if numbers >= most:
            return False
        products = graph.of(PRODUCT_NAMES)
        heavy = "Convolution" in counts or not HEAVY.keys().isdisjoint(counts)
        if not heavy and not any(node._input_metadata[0].dtype.is_complex for node in products):
            single = sum([counts[name] for name in counts.keys() & SINGLE])  # and no matrix is longer or wider than the largest
            if numbers + graph.m * (3 * PER_PRODUCT * len(products) * largest**2 + ROW * single) < most:
                return True
        return numbers + graph.m * self._arithmetic < most

    def _short(self) -> Way | None:
        """Local maps, where multiplying them takes less than passes can, by bounds alone; None where they have to be weighed."""
        graph, count = self.graph, len(self.graph.order)
        m, n, shape = graph.m, graph.n, graph.output.shape
        least = BATCH + PASS * count + PER_NUMBER * m * (m + n)
        if m > n:
            least = min(least, BATCH + TRANSPOSING + FORWARD * (PASS * count + PER_NUMBER * n * (m + n)))
        if len(shape) > 1 and m:  # rows of all samples of a batch by one pass
            least = min(least, 2 * BATCH + READING * count + PASS + PER_NUMBER * m * (m // shape[0]))
        if self._weighing > least:
            return None
        if count == 1 and graph.operations[0] in WRITTEN:  # it is the Jacobian
            return Way("accumulated", "reverse", 0, 0, 0, True)
        cost, direction = reverse_cost(graph, None, least), "reverse"
        if cost.nanoseconds > least:
            return None
        if m > n and cost.nanoseconds > HARDLY * STEP * count:
            forward = forward_cost(graph, cost.nanoseconds)
            cost, direction = min((cost, direction), (forward, "forward"), key=lambda each: each[0].nanoseconds)
        return self._multiplying(direction, cost)

    @property
    def report(self) -> OutputPlan:
        """All ways that were weighed, the chosen one first."""
        graph, taken = self.graph, self.chosen.mode
        if graph.whole and taken == "reverse":
            directions: tuple[str, ...] = ("reverse",)
        else:
            directions = ("reverse", "forward") if self.mode == "auto" else (self.mode,)
        ways = [*[way for direction in directions for way, _ in self._ways(direction)], self._products]
        chosen = next(way for way in ways if (way.strategy, way.mode) == (self.chosen.strategy, self.chosen.mode))
        reason = self._reason(chosen, any(way.strategy == "accumulated" and way.fits for way in ways))
        reason = reason if self.mode == "auto" or graph.whole else f"asked for with mode {self.mode}; {reason}"
        bound = graph.m * graph.n
        if not graph.whole:
            bound = min(bound, *[self._cost(direction).bound for direction in ("reverse", "forward")])
        return OutputPlan(graph.m, graph.n, bound, (chosen, *[way for way in ways if way != chosen]), reason)

    def _ways(self, direction: str) -> list[tuple[Way, float]]:
        """The ways in one direction, told with their memory, and about how many nanoseconds each takes."""
        return [*([] if self.graph.whole else self._by_maps(direction, told=True)), *self._by_passes(direction, told=True)]

    def _by_passes(self, direction: str, told: bool = False) -> list[tuple[Way, float]]:
        """Those that multiply no local maps; their memory is worked out where it is told or limited."""
        batched = [self._batched(inf, told)] if direction == "reverse" and self._batch and not self._batch.leaves else []
        return [self._passes(direction, told), *batched]

    def _by_maps(self, direction: str, most: float = inf, told: bool = False) -> list[tuple[Way, float]]:
        """Those that do; what takes more nanoseconds than `most` is not weighed to its end."""
        batched = [self._batched(most, told)] if direction == "reverse" and self._batch and self._batch.leaves else []
        return [self._accumulated(direction, most), *batched]

    @property
    def _leaving(self) -> float:
        """Nanoseconds that passes for all samples take at least where local maps follow them; infinite where none do."""
        return self._batch.nanoseconds + STEP * self._batch.leaves if self._batch and self._batch.leaves else inf

    @cached_property
    def _costs(self) -> dict[str, Cost]:
        return {}

    def _cost(self, direction: str, most: float = inf) -> Cost:
        if direction not in self._costs:
            cost = (
                reverse_cost(self.graph, self.graph.spine if self._batch else None, most)
                if direction == "reverse"
                else forward_cost(self.graph, most)
            )
            if min(cost.nanoseconds, cost.outside) > most:
                return cost  # or a part of it
            self._costs[direction] = cost
        return self._costs[direction]

    def _accumulated(self, direction: str, most: float = inf) -> tuple[Way, float]:
        cost = self._cost(direction, most)
        return self._multiplying(direction, cost), cost.nanoseconds

    def _multiplying(self, direction: str, cost: Cost) -> Way:
        full, itemsize = self.graph.m * self.graph.n, self.graph.like.element_size()
        held = min(cost.bound * (2 * itemsize + 24), 3 * full * itemsize) if cost.bound < full else full * itemsize
        peak = cost.peak_bytes + held
        return Way("accumulated", direction, 0, cost.operations, peak, peak <= self.limit)

    def _passes(self, direction: str, told: bool) -> tuple[Way, float]:
        """Rows or columns by passes."""
        graph = self.graph
        result = graph.m * graph.n * graph.like.element_size()
        passes, factor, first = (graph.m, 1.0, 0.0) if direction == "reverse" else (graph.n, FORWARD, TRANSPOSING)
        chunk, held = self._together(passes, self.limit - result, told)
        peak = result + held
        batches = ceil(passes / chunk)
        time = first + BATCH * batches + factor * (batches * PASS * len(graph.order) + passes * self._one)
        return Way("dense", direction, passes, passes * self._work, peak, peak <= self.limit), time

    def _together(self, passes: int, limit: float, told: bool) -> tuple[int, int]:
        """As the graph has it, in what there is room for; exactly where there is a limit, or it is told."""
        return self.graph.together(passes, min(BATCH_BYTES, limit), told or self.limit < inf)

    @cached_property
    def _one(self) -> float:
        """Nanoseconds of a pass, besides what it takes whatever it computes."""
        return PER_NUMBER * self._work + self._arithmetic

    @cached_property
    def _arithmetic(self) -> float:
        """The part of it that is not reading and writing."""
        graph = self.graph
        if COSTLY.isdisjoint(graph.counts):
            return 0.0
        return _arithmetic([each for each in zip(graph.order, graph.operations, strict=True) if each[1] in COSTLY])

    def _batched(self, most: float, told: bool) -> tuple[Way, float]:
        """Rows of all samples of a batch by one pass."""
        batch = self._batch
        assert batch is not None
        away = self._cost("reverse", most) if batch.leaves else Cost(0, 0, 0, 0, 0.0, 0.0)
        written = self.graph.m * self.graph.n * self.graph.like.element_size() if self.graph.whole else 0
        peak = batch.held + written + self._together(batch.passes, self.limit, told)[1] + away.peak_bytes
        way = Way("batched", "reverse", batch.passes, batch.operations + away.operations, peak, peak <= self.limit)
        return way, HARDLY * batch.nanoseconds + away.outside

    @cached_property
    def _batch(self) -> _Batch | None:
        """The passes for all samples; None where these don't stay apart, or where to find that out would take what it saves."""
        graph = self.graph
        least = graph.m // max(1, graph.output.shape[0] if graph.output.dim() > 1 else 1)
        if (graph.m - least) * self._one < BATCH + READING * len(graph.order) or graph.spine is None:
            return None
        spine = graph.spine
        count = graph.m // spine.apart
        inside = [each for each in zip(graph.order, graph.operations, strict=True) if each[0] in spine.nodes]
        batches = ceil(count / self._together(count, self.limit, told=False)[0])
        numbers = sum([prod(shape) for node, _ in inside for shape in graph.shapes[node]])
        one = PER_NUMBER * numbers + _arithmetic([each for each in inside if each[1] in COSTLY], 1)
        held = count * sum([graph.inputs[k].numel() for k in spine.leaves]) * graph.like.element_size()
        reading = READING * len(graph.order)  # of each evaluation anew
        time = BATCH * (1 + batches) + reading + batches * PASS * len(inside) + count * one
        leaves = len(graph.order) - len(inside) + sum(map(bool, spine.only.values()))
        return _Batch(count, count * numbers, held, leaves, time)

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
        if way.strategy == "batched":
            samples = self.graph.output.shape[0]
            return f"the {samples} places of the first axis stay apart: {way.passes} reverse passes for all of them, not {m}"
        if whole:
            why = "complex numbers or hooks on the way, which only torch's own backward pass knows"
            return f"{why}: {passes if way.strategy == 'dense' else 'only products with the Jacobian, which does not fit'}"
        if way.strategy == "accumulated":
            start = "output" if way.mode == "reverse" else "input"
            return (
                f"local Jacobians multiplied together from the {start}: about {way.operations:.2g} multiplications, "
                f"against {m} reverse or {n} forward passes"
            )
        if way.strategy == "matrix_free":
            return f"the Jacobian ({m} by {n}) does not fit into the memory limit: only products with it are computed"
        if not fits:
            return f"the local Jacobians would not fit into the memory limit, so {passes}"
        if self._cost("reverse").probed:
            return f"an operation's local Jacobian is not known, so {passes}"
        return f"{passes}, which takes less time than multiplying local Jacobians together"


def _arithmetic(nodes: Sequence[tuple[Node, str]], count: int | None = None) -> float:
    """Nanoseconds of a pass for what some operations do beside reading and writing; `count` as `_products` has it."""
    products = [_products(node, name, count) for node, name in nodes if name in PRODUCT_NAMES]
    return PER_PRODUCT * sum(products) + sum([_besides(node, name, count) for node, name in nodes])


def _besides(node: Node, name: str, count: int | None) -> float:
    """Nanoseconds of a pass for what is neither reading, writing nor a product of matrices; to one operand, or to all."""
    if name == "Convolution":
        to_input, to_weight, *_ = [edge is not None for edge, _ in node.next_functions]
        shape = tuple(node._input_metadata[0].shape)
        flops = PER_FLOP * prod(shape) * taps(node, name, shape)
        return to_input * time_of_convolving(node, shape) + (to_weight and count != 1) * (CONVOLVED + flops)
    if name in HEAVY:
        each, squared = HEAVY[name]
        shape = tuple(node._input_metadata[-1].shape)
        return each * prod(shape) * max(shape[-2:], default=1) ** squared
    if name in CUT:  # what is cut out is written into zeros of the operand's size
        edge, nr = node.next_functions[0]
        return 2 * PER_NUMBER * prod(edge._input_metadata[nr].shape)  # a complex one, too
    return ROW * (name in SINGLE)


def _products(node: Node, name: str, count: int | None = None) -> int:
    """Multiplications of a pass through a matrix product, to `count` operands; None: to all."""
    shape, edges = tuple(node._input_metadata[0].shape), node.next_functions
    count = len([edge for edge, _ in edges[:3] if edge is not None]) if count is None else count
    if name in FACTORS:
        first, second = FACTORS[name]
        (edge, nr), (other, other_nr) = edges[first], edges[second]
        if edge is not None:
            return count * prod(shape) * (operand_shape(edge, nr) or (1,))[-1]
        if other is not None:
            inner = operand_shape(other, other_nr)
            return count * prod(shape) * (inner[-2] if len(inner) > 1 else inner[-1])
        return 0
    return count * prod(shape) * node._saved_weight.shape[-1] if node._saved_weight is not None else prod(shape)


PRODUCT_NAMES = frozenset((*FACTORS, "Linear"))
COSTLY = PRODUCT_NAMES | {"Convolution"} | SINGLE | CUT | HEAVY.keys()
"""Operations that take more than what reading and writing their numbers does."""

LISTED = frozenset((*index.RULES, *movement.READS, "Diagonal", "Unfold", "Cat", "Stack", "CopySlices", "BlockDiag"))
"""Operations whose local maps are held by index arrays, besides those that rows are pulled through."""

WRITTEN = RULES.keys() - BLOCKS - PULLED - LISTED
"""Operations whose local maps rules write down, in no more numbers than passes would."""

@dataclass(frozen=True)
class Cost:
    """An estimate, upper bounds but for the time.

    Attributes:
        operations: multiplications.
        peak_bytes: of the maps that are held at a time, with their index arrays and a copy of the largest.
        bound: entries of the final maps that can be other than zero.
        probed: entries of the dense local blocks of operations that no rule knows.
        nanoseconds: about what it takes.
        outside: the part of it outside of the spine; infinite where there is none.
    """

    operations: int
    peak_bytes: int
    bound: int
    probed: int
    nanoseconds: float
    outside: float = inf


@dataclass(frozen=True)
class _Batch:
    """Passes for all samples of a batch at once.

    Attributes:
        passes: how many.
        operations: numbers that they go through.
        held: bytes of what they give.
        leaves: operations whose local maps are multiplied with what they give.
        nanoseconds: about what they take, without those.
    """

    passes: int
    operations: int
    held: int
    leaves: int
    nanoseconds: float


class _Reach(NamedTuple):
    """What is held of ∂output/∂(a tensor).

    Attributes:
        width: entries of a row that can be other than zero, at most.
        head: leading places of the tensor's that each belong to rows of their own.
        listed: whether it is held by index arrays.
        lists: whether it may be, though rows of such a width would fill it: some of them may be empty.
    """

    width: int
    head: int
    listed: bool
    lists: bool = False


def reverse_cost(graph: Graph, spine: Spine | None, most: float = inf) -> Cost:
    """Of accumulating from the output backwards; of a part of it, where that takes more nanoseconds than `most`."""
    m = graph.m
    reach = {(graph.output.grad_fn, graph.output.output_nr): _Reach(1, m, False)}
    meter, outside = _Meter(graph), inf if spine is None else 0.0
    for place, (node, name) in enumerate(zip(graph.order, graph.operations, strict=True)):
        edges, only = graph.edges(place), None if spine is None else spine.only.get(node)
        if min(meter.nanoseconds, outside) > most:
            break
        meter.step(place)
        outside += STEP if only is None or only else 0.0
        for nr, out_shape in enumerate(graph.shapes[node]):
            here = reach.get((node, nr))
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
                    found = _Reach(wide, head, found.listed and before.listed, found.lists or before.lists)
                    time += PER_NUMBER * m * found.width
                reach[edge.to, edge.nr] = found
                meter.multiply(products, time)
                beside = meter.list((edge.to, edge.nr), products, m * size) if found.lists else 0
                if edge.operand == 0 and name in PULLED:  # rows are written out, and go through some at a time
                    row = meter.itemsize * max(prod(out_shape), size)
                    beside = m * row * here.listed + min(4 * m * row, max(CHUNK_BYTES, 4 * row))
                meter.hold((edge.to, edge.nr), m * found.width, m * size, beside)
        for nr in range(len(node._input_metadata)):
            meter.drop((node, nr))
    ends = [reach.get((leaf, 0)) for leaf in graph.leaves]
    return meter.cost(sum([m * min(end.width, x.numel()) for end, x in zip(ends, graph.inputs, strict=True) if end]), outside)


def _multiplied(
    node: Node, name: str, nr: int, edge: Edge, here: _Reach, m: int, out_shape: Shape
) -> tuple[float, _Reach]:
    """What multiplying with a local map takes, in nanoseconds, and what it gives."""
    size, head = prod(edge.shape), gcd(here.head, edge.carried[nr])
    products = m * here.width * edge.widths[nr]
    wide = max(1, min(size // head, here.width * edge.widths[nr]))
    first = edge.operand == 0 and name in PULLED
    lists = first or _is_listed(node, name, edge)
    listed, lists = lists or here.listed, lists or here.lists
    if first and here.width > 1 and not (here.listed and name != "Convolution"):  # `pull_through` writes out no others
        return time_of_rows(node, name, m // head, edge.shape, out_shape), _Reach(wide, head, False)
    time = PER_NUMBER * m * (here.width + wide) + PER_PRODUCT * products
    if listed:
        time = PER_ENTRY * products
    elif name == "Convolution":  # to the weight, with the input unfolded
        time = 2 * PER_FLOP * products
    elif name in PRODUCT_NAMES and edge.carried[nr] == 1 and here.head * (out_shape or (1,))[-1] == prod(out_shape):
        time = 0.0  # the product of what is held for each sample is not multiplied out
    elif name in ("Mv", "Addmv") and edge.operand == FACTORS[name][0]:
        time = 0.0  # nor is that of what is held with the vector
    return time, _Reach(wide, head, listed and wide * 4 < 3 * (size // head), lists)


def _is_listed(node: Node, name: str, edge: Edge) -> bool:
    """Whether the local map to an operand is held by index arrays, besides those that rows are pulled through."""
    return name in LISTED or bool(listed(node, name, edge.operand))


def forward_cost(graph: Graph, most: float = inf) -> Cost:
    """Of accumulating from each input forwards; of a part of it, where that takes more nanoseconds than `most`."""
    meter, bound = _Meter(graph), 0
    backwards = [(place, graph.order[place], graph.operations[place]) for place in reversed(range(len(graph.order)))]
    for leaf, x in zip(graph.leaves, graph.inputs, strict=True):
        n = x.numel()
        reach = {(leaf, 0): _Reach(1, 1, False)}
        for place, node, name in backwards:
            edges = graph.edges(place)
            if meter.nanoseconds > most or not any((edge.to, edge.nr) in reach for edge in edges):
                continue
            pulled = name in PULLED
            meter.step(place)
            for nr, shape in enumerate(graph.shapes[node]):
                size, wide, listed, lists = prod(shape), 0, False, False
                for edge in edges:
                    here = reach.get((edge.to, edge.nr))
                    if here:
                        products = size * edge.widths[nr] * here.width
                        first = pulled and edge.operand == 0
                        here_listed = first or _is_listed(node, name, edge)
                        listed = listed or here.listed or here_listed
                        lists = lists or here.lists or here_listed
                        meter.multiply(products, products * (PER_ENTRY if listed else PER_NUMBER))
                        wide += edge.widths[nr] * here.width
                if wide:
                    reach[node, nr] = _Reach(min(n, wide), 1, listed and 4 * wide < 3 * n, lists)
                    beside = meter.list((node, nr), size * wide, size * n) if lists else 0
                    meter.hold((node, nr), size * min(n, wide), size * n, beside)
        end = reach.get((graph.output.grad_fn, graph.output.output_nr))
        for held in reach:
            if held != (graph.output.grad_fn, graph.output.output_nr):
                meter.drop(held)
        bound += graph.m * end.width if end else 0
    return meter.cost(bound)


class _Meter:
    """Adds up what a sweep would do."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.itemsize = graph, graph.like.element_size()
        self.operations = self.peak = self.now = self.called = 0
        self.held: dict[tuple[Node, int], int] = {}
        self.waiting: dict[tuple[Node, int], int] = {}
        self.nanoseconds = 0.0
        self.probed: dict[int, int] = {}

    def step(self, place: int) -> None:
        """A node's local map is made."""
        self.nanoseconds += STEP
        node, name = self.graph.order[place], self.graph.operations[place]
        if name in RULES and name not in BLOCKS:
            return
        sizes, count = [prod(edge.shape) for edge in self.graph.edges(place)], sum(map(prod, self.graph.shapes[node]))
        if name not in RULES:  # it is called to find it out
            self.probed[place] = sum(sizes) * count
        elif RULES[name] is detect:  # and so are those of each block
            shapes = enumerate(self.graph.shapes[node])
            self.nanoseconds += PROBED * sum(prod(s) * edge.widths[nr] for nr, s in shapes for edge in self.graph.edges(place))
        one = (2 * max([count, *sizes]) + self.graph.spare.get(node, 0)) * self.itemsize
        self.called = max(self.called, min(count * one, max(CALLED_BYTES, one)))

    def multiply(self, operations: int, nanoseconds: float) -> None:
        """Something is multiplied with it."""
        self.operations += operations
        self.nanoseconds += nanoseconds

    def list(self, place: tuple[Node, int], products: int, full: int) -> int:
        """So many products are listed, which wait beside others until they are added up: bytes that it takes to make them.

        Index arrays of what comes of it are kept to the end.
        """
        taken, kept = products * (self.itemsize + LISTED_BYTES), min(products, full) * KEPT_BYTES
        self.waiting[place] = self.waiting.get(place, 0) + taken
        self.now += taken + kept
        return taken

    def hold(self, place: tuple[Node, int], entries: int, full: int, beside: int) -> None:
        """A map of so many entries to a tensor; one that is not full has index arrays, once before and once after a step.

        To make it takes a copy of it, or as many bytes beside what is held as are said.
        """
        per_entry = self.itemsize if entries >= full else 2 * (self.itemsize + 8)
        size = min(entries * per_entry, max(full, entries) * self.itemsize)
        self.now += size - self.held.get(place, 0)
        self.held[place] = size
        self.peak = max(self.peak, self.now + max(size, beside))

    def drop(self, place: tuple[Node, int]) -> None:
        """The map to a tensor is not needed any more."""
        self.now -= self.held.pop(place, 0) + self.waiting.pop(place, 0)

    def cost(self, bound: int, outside: float = inf) -> Cost:
        """The sum."""
        probed = sum(self.probed.values())
        peak, time = self.peak + probed * self.itemsize + self.called, self.nanoseconds + PROBED * probed
        return Cost(self.operations + probed, peak, bound, probed, time, outside)
