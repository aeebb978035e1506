"""How the Jacobians of one output are computed: decided from shapes, before anything is.

accumulated   local maps of the operations multiplied together, from the output backwards or from the inputs
              forwards: no pass over the graph at all
dense         one pass a row (reverse) or a column (forward), many at a time, straight into the result
matrix_free   products with the Jacobian, which is never held
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from jvpcli.jacobians.dense import BATCH_BYTES
from jvpcli.jacobians.graph import Graph
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import detect, elementwise, index, movement, reduce, windows
from jvpcli.jacobians.local.node import Node, operand_shape
from jvpcli.jacobians.local.table import RULES, base_name
from jvpcli.report import OutputPlan, Way

PROBING_PENALTY = 4
"""Accumulating with unknown operations must not take more than so many times the operations of dense passes."""

SMALL = 1 << 16
"""Up to so many entries (m·n) backwards is taken without weighing, where every operation is known."""


TINY = 1 << 12
"""Up to so many entries (m·n) structure saves nothing: one batch of passes costs less than handling it."""

ONE_ROW = 1 << 20
"""The gradient of a single number costs one pass, whatever is known of it; beyond so many entries it may be mostly zeros."""

TINY_BYTES = 1 << 20
"""What such a batch may use."""

LONG = 64
"""More operations than this, on little data, are better passed through in batches where the result is dense."""


@dataclass(frozen=True, eq=False)
class GraphPlan:
    """How the Jacobian of one output is computed: decided once; the figures are worked out where they are asked for.

    Attributes:
        graph: of the evaluated output.
        mode: "auto", or "reverse" or "forward" to settle the direction.
        limit: bytes that computing may take over what the evaluation holds.
    """

    graph: Graph
    mode: str = "auto"
    limit: float = float("inf")

    @cached_property
    def chosen(self) -> Way:
        """The way that is taken; without figures where little needed to be weighed."""
        return self._quick or self.report.ways[0]

    @cached_property
    def report(self) -> OutputPlan:
        """All ways that were weighed, the chosen one first.

        Raises:
            UnsupportedError: an operand without a known shape.
        """
        graph, m, n = self.graph, self.graph.m, self.graph.n
        costs = {} if graph.whole else {"reverse": reverse_cost(graph), "forward": forward_cost(graph)}
        ways = [Way(*way, way[-1] <= self.limit) for way in _ways(graph, costs, self.limit)]
        if graph.whole:
            ways = [way for way in ways if way.mode == "reverse"]
            chosen, reason = _whole(ways, m)
        else:
            ways = [way for way in ways if self.mode in ("auto", way.mode) or way.strategy == "matrix_free"]
            chosen, reason = _choose(ways, self._quick, m, n, costs)
            reason = reason if self.mode == "auto" else f"asked for with mode {self.mode}; {reason}"
        bound = min(m * n, *[cost.bound for cost in costs.values()]) if costs else m * n
        return OutputPlan(m, n, bound, (chosen, *[way for way in ways if way is not chosen]), reason)

    @cached_property
    def _quick(self) -> Way | None:
        """The choice where little needs to be weighed."""
        graph, m, n = self.graph, self.graph.m, self.graph.n
        auto = self.mode == "auto"
        rows = Way("dense", "reverse", m, 0, 0, True)
        if graph.whole:
            return None
        if auto and self.limit > TINY_BYTES and is_tiny(graph):
            return rows
        if not known(graph) or 16 * m * n > self.limit:
            return None
        if auto and len(graph.order) > LONG and m * n <= SMALL and min(m, n) > 1:
            # what a step costs besides arithmetic decides
            return rows if 2 * reverse_cost(graph).bound >= m * n else None
        if auto and m > 4 * n and m * n > SMALL and not one_to_one(graph):
            return None
        return Way("accumulated", "reverse" if auto else self.mode, 0, 0, 0, True)


def _whole(ways: Sequence[Way], m: int) -> tuple[Way, str]:
    """The choice where only torch's engine knows the backward pass: all rows if they fit, else products."""
    rows, products = ways
    why = "complex numbers or hooks on the way, which only torch's own backward pass knows"
    if rows.fits:
        return rows, f"{why}: one pass a row: {m}, as many at a time as fit"
    return products, f"{why}: only products with the Jacobian, which does not fit"


def is_tiny(graph: Graph) -> bool:
    """Whether one batch of reverse passes is the cheapest, whatever the structure; a single operation is cheaper still."""
    if graph.whole or len(graph.order) < 2 or not graph.m * graph.n:
        return False
    if graph.m == 1:
        return graph.n <= ONE_ROW
    return graph.m * graph.n <= TINY and graph.m * graph.footprint <= TINY_BYTES


def _ways(graph: Graph, costs: dict[str, Cost], limit: float) -> list[tuple[str, str, int, int, int]]:
    """Strategy, direction, passes, operations, peak bytes."""
    m, n, itemsize = graph.m, graph.n, graph.like.element_size()
    result = m * n * itemsize
    work = sum(prod(meta.shape) for node in graph.order for meta in node._input_metadata) + n
    ways = []
    for direction, cost in costs.items():
        held = min(cost.bound * (2 * itemsize + 24), 3 * result) if cost.bound < m * n else result
        ways.append(("accumulated", direction, 0, cost.operations, cost.peak_bytes + held))
    for direction, passes in (("reverse", m), ("forward", n)):
        batch = min(passes * graph.footprint, max(graph.footprint, min(BATCH_BYTES, limit - result)))
        ways.append(("dense", direction, passes, passes * work, int(result + batch)))
    ways.append(("matrix_free", "reverse", 1, work, graph.footprint))
    return ways


def _choose(ways: Sequence[Way], quick: Way | None, m: int, n: int, costs: dict[str, Cost]) -> tuple[Way, str]:
    """The way and the reason; `quick` is the choice where it was made already."""

    def fitting(strategy: str) -> list[Way]:
        return sorted((way for way in ways if way.strategy == strategy and way.fits), key=lambda way: way.operations)

    accumulated, dense = fitting("accumulated"), fitting("dense")
    probed = costs["reverse"].probed
    if quick is not None:
        (best,) = [way for way in ways if (way.strategy, way.mode) == (quick.strategy, quick.mode)]
        if best.strategy == "dense":
            return best, f"many small operations and a small or dense Jacobian: {m} reverse passes in few batches"
    elif accumulated and not (probed and dense and accumulated[0].operations > PROBING_PENALTY * dense[0].operations):
        best = accumulated[0]
    elif dense:
        best = dense[0]
        why = (
            "an operation's local Jacobian is not known"
            if probed
            else "the local Jacobians would not fit into the memory limit"
        )
        unit = "row" if best.mode == "reverse" else "column"
        return best, f"{why}, so one {best.mode} pass a {unit}: {best.passes}, as many at a time as fit"
    else:
        (last,) = [way for way in ways if way.strategy == "matrix_free"]
        return last, f"the Jacobian ({m} by {n}) does not fit into the memory limit: only products with it are computed"
    start = "output" if best.mode == "reverse" else "input"
    return best, (
        f"local Jacobians multiplied together from the {start}: about {best.operations:.2g} multiplications, "
        f"against {m} reverse or {n} forward passes"
    )


ONE_TO_ONE = frozenset(
    (*elementwise.RULES, *movement.RULES, *index.RULES, *detect.ONE_TO_ONE_NAMES.split(), "CopySlices")
)
SEGMENTS = frozenset({"Sum", "Mean", *reduce.REDUCTION_NAMES.split(), "Amax", "Amin", "Max", "Min", "Median"})
ALONG = frozenset({"Softmax", "SafeSoftmax", "LogSoftmax", "Cumsum", "Cumprod", "Logcumsumexp"})
PRODUCTS = {
    "Mm": (0, 1),
    "Bmm": (0, 1),
    "Mv": (0, 1),
    "Dot": (0, 1),
    "Addmm": (1, 2),
    "Baddbmm": (1, 2),
    "Addmv": (1, 2),
}


@dataclass(frozen=True)
class Cost:
    """An estimate, upper bounds.

    Attributes:
        operations: multiplications.
        peak_bytes: of the largest map held, with its index arrays.
        bound: entries of the final maps that can be other than zero.
        probed: entries of the dense local blocks of operations that no rule knows.
    """

    operations: int
    peak_bytes: int
    bound: int
    probed: int


def width(node: Node, operand: int, shape: Shape, out_shape: Shape) -> int:
    """How many entries of the operand one output entry depends on, at most."""
    name = base_name(node.name()) if callable(node) else ""
    if name in ONE_TO_ONE:
        return 1
    if name in SEGMENTS:
        return max(1, prod(shape) // max(1, prod(out_shape)))
    if name in ALONG and shape:
        dim = node._saved_dim
        return shape[(dim - (1 << 64) if dim >= 1 << 63 else dim) % len(shape)]
    if name in PRODUCTS:
        if operand not in PRODUCTS[name]:
            return 1
        first = operand == PRODUCTS[name][0]
        return shape[-1] if first or len(shape) == 1 else shape[-2]
    if name == "Convolution":
        return max(1, prod(node._saved_weight.shape) // max(1, out_shape[1])) if operand < 2 else 1
    if name == "Linear":
        return shape[-1] if operand < 2 else 1
    if name == "NativeLayerNorm":
        return prod(node._saved_normalized_shape) if operand == 0 else 1
    if name == "NativeGroupNorm":
        return max(1, prod(shape) // max(1, node._saved_N * node._saved_group)) if operand == 0 else 1
    if name in ("NativeBatchNorm", "NativeBatchNormLegit"):
        return max(1, prod(shape) // max(1, shape[1])) if operand == 0 and node._saved_training else 1
    if name in windows.NAMES:
        return _window(node, name, shape, out_shape)
    if name in elementwise.LOSS_NAMES:
        return max(1, prod(shape) // max(1, prod(out_shape)))
    if name in detect.LINEAR or name in detect.BLOCKS:
        return prod(shape[-2:])
    return prod(shape)


def _window(node: Node, name: str, shape: Shape, out_shape: Shape) -> int:
    """Entries of a window of average pooling or of interpolation, at most."""
    dims = windows.NAMES[name]
    kernel = tuple(getattr(node, "_saved_kernel_size", ())) or (1,) * dims
    taps = 4 if "Bicubic" in name else 2
    lengths = zip(kernel, shape[-dims:], out_shape[-dims:], strict=False)
    if "Upsample" in name and not name.endswith("Aa"):
        return prod(min(taps, size) for _, size, _ in lengths)
    return prod(min(size, max(k, taps * ceil(size / places))) for k, size, places in lengths)


def has_rule(node: Node) -> bool:
    """Whether a rule knows the operation, so that it need not be probed."""
    return callable(node) and base_name(node.name()) in RULES


def known(graph: Graph) -> bool:
    """Whether a rule knows every operation."""
    return all(has_rule(node) for node in graph.order)


def one_to_one(graph: Graph) -> bool:
    """Whether every entry of every operation depends on one entry of each operand."""
    return all(base_name(node.name()) in ONE_TO_ONE for node in graph.order)


def reverse_cost(graph: Graph) -> Cost:
    """Of accumulating from the output backwards."""
    m = graph.m
    reach = {(graph.output.grad_fn, graph.output.output_nr): 1}
    meter = _Meter(graph)
    for node in graph.order:
        for nr, meta in enumerate(node._input_metadata):
            here = min(reach.get((node, nr), 0), prod(meta.shape))
            if not here:
                continue
            for (edge, edge_nr), operand_width, shape in meter.operands(node, tuple(meta.shape)):
                meter.multiply(m * here * operand_width)
                wide = reach[edge, edge_nr] = min(prod(shape), reach.get((edge, edge_nr), 0) + here * operand_width)
                meter.hold(m * wide, m * prod(shape))
    ends = [reach.get((leaf, 0), 0) for leaf in graph.leaves]
    return meter.cost(sum(m * min(end, x.numel()) for end, x in zip(ends, graph.inputs, strict=True)))


def forward_cost(graph: Graph) -> Cost:
    """Of accumulating from each input forwards."""
    meter = _Meter(graph)
    bound = 0
    for leaf, x in zip(graph.leaves, graph.inputs, strict=True):
        n = x.numel()
        reach = {(leaf, 0): 1}
        for node in reversed(graph.order):
            for nr, meta in enumerate(node._input_metadata):
                shape, wide = tuple(meta.shape), 0
                for edge, operand_width, _ in meter.operands(node, shape):
                    here = reach.get(edge, 0)
                    if here:
                        meter.multiply(prod(shape) * operand_width * here)
                        wide += operand_width * here
                if wide:
                    reach[node, nr] = min(n, wide)
                    meter.hold(prod(shape) * min(n, wide), prod(shape) * n)
        bound += graph.m * reach.get((graph.output.grad_fn, graph.output.output_nr), 0)
    return meter.cost(bound)


class _Meter:
    """Adds up what a sweep would do."""

    def __init__(self, graph: Graph) -> None:
        self.useful = set(graph.order) | {leaf for leaf in graph.leaves if leaf is not None}
        self.itemsize = graph.like.element_size()
        self.operations = self.peak = self.probed = 0
        self.seen: set[Node] = set()

    def operands(self, node: Node, out_shape: Shape) -> list[tuple[tuple[Node, int], int, Shape]]:
        """The useful operands: edge, width, shape."""
        found = []
        unknown = not has_rule(node)
        for operand, (edge, nr) in enumerate(node.next_functions):
            if edge in self.useful:
                shape = operand_shape(edge, nr)
                found.append(((edge, nr), width(node, operand, shape, out_shape), shape))
                if unknown and node not in self.seen:
                    self.probed += prod(shape) * prod(out_shape)
        self.seen.add(node)
        return found

    def multiply(self, operations: int) -> None:
        self.operations += operations

    def hold(self, entries: int, full: int) -> None:
        """A map of so many entries; one that is not full has index arrays, once before and once after a step."""
        per_entry = self.itemsize if entries >= full else 2 * (self.itemsize + 8)
        self.peak = max(self.peak, min(entries * per_entry, max(full, entries) * self.itemsize))

    def cost(self, bound: int) -> Cost:
        return Cost(self.operations + self.probed, self.peak + self.probed * self.itemsize, bound, self.probed)
