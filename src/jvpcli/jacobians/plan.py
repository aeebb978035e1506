"""How the Jacobians of one output are computed: decided from shapes, before anything is.

accumulated   local maps of the operations multiplied together, from the output backwards or from the inputs
              forwards: no pass over the graph at all
dense         one pass a row (reverse) or a column (forward), many at a time, straight into the result
matrix_free   products with the Jacobian, which is never held
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from jvpcli.jacobians.graph import Graph
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local import detect, elementwise, index, movement, reduce, windows
from jvpcli.jacobians.local.node import Node, operand_shape
from jvpcli.jacobians.local.table import RULES, base_name
from jvpcli.jacobians.passes import BATCH_BYTES, footprint
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


def make_plan(graph: Graph, mode: str = "auto", memory_limit: int | None = None) -> OutputPlan:
    """The plan for a graph.

    Args:
        graph: of an evaluated output.
        mode: "auto", or "reverse" or "forward" to settle the direction.
        memory_limit: bytes that computing may take over what the evaluation holds; None: any.
    """
    m, n = graph.output.numel(), sum(x.numel() for x in graph.inputs)
    limit = float("inf") if memory_limit is None else memory_limit
    if graph.whole:
        return _plan_of_passes(graph, m, n, limit)
    costs = {"reverse": reverse_cost(graph), "forward": forward_cost(graph)}
    candidates = [
        Way(strategy, direction, passes, int(operations), int(peak), peak <= limit)
        for strategy, direction, passes, operations, peak in _ways(graph, m, n, costs, limit)
        if mode in ("auto", direction) or strategy == "matrix_free"
    ]
    chosen, reason = _choose(candidates, m, n, costs, is_tiny(graph), _is_long(graph, m, n))
    rest = tuple([c for c in candidates if c is not chosen])
    bound = min(m * n, *[cost.bound for cost in costs.values()])
    if mode != "auto":
        reason = f"asked for with mode {mode}; {reason}"
    return OutputPlan(m, n, bound, (chosen, *rest), reason)


def _plan_of_passes(graph: Graph, m: int, n: int, limit: float) -> OutputPlan:
    """The plan where only torch's engine knows the backward pass: all rows if they fit, else products."""
    ways = [Way(*way, way[-1] <= limit) for way in _ways(graph, m, n, {}, limit)]
    (dense,) = [way for way in ways if (way.strategy, way.mode) == ("dense", "reverse")]
    (products,) = [way for way in ways if way.strategy == "matrix_free"]
    chosen, other = (dense, products) if dense.fits else (products, dense)
    why = "complex numbers or hooks on the way, which only torch's own backward pass knows"
    rows, alone = f"one pass a row: {m}, as many at a time as fit", "only products with the Jacobian, which does not fit"
    told = rows if dense.fits else alone
    return OutputPlan(m, n, m * n, (chosen, other), f"{why}: {told}")


def quick_choice(graph: Graph, mode: str, memory_limit: int | None) -> Way | None:
    """What `make_plan` would choose where little needs to be weighed; None: make a plan."""
    m, n = graph.output.numel(), sum(x.numel() for x in graph.inputs)
    if graph.whole or not known(graph) or (memory_limit is not None and 16 * m * n > memory_limit):
        return None
    if mode == "auto" and _is_long(graph, m, n) and 2 * reverse_cost(graph).bound >= m * n:
        return Way("dense", "reverse", m, 0, 0, True)
    if mode == "auto" and m > 4 * n and m * n > SMALL and not one_to_one(graph):
        return None
    return Way("accumulated", "reverse" if mode == "auto" else mode, 0, 0, 0, True)


def is_tiny(graph: Graph) -> bool:
    """Whether one batch of reverse passes is the cheapest, whatever the structure; a single operation is cheaper still."""
    entries = graph.output.numel() * sum(x.numel() for x in graph.inputs)
    if graph.whole:
        return False
    if graph.output.numel() == 1:
        return 0 < entries <= ONE_ROW and len(graph.order) > 1
    return 0 < entries <= TINY and len(graph.order) > 1 and graph.output.numel() * footprint(graph) <= TINY_BYTES


def _is_long(graph: Graph, m: int, n: int) -> bool:
    """Many operations on little data: what a step costs besides arithmetic decides."""
    return len(graph.order) > LONG and m * n <= SMALL and min(m, n) > 1


def _ways(graph: Graph, m: int, n: int, costs: dict[str, Cost], limit: float) -> list[tuple[str, str, int, int, int]]:
    itemsize = graph.like.element_size()
    result = m * n * itemsize
    one_pass = footprint(graph)
    work = sum(prod(meta.shape) for node in graph.order for meta in node._input_metadata) + n
    ways = []
    for direction, cost in costs.items():
        held = min(cost.bound * (2 * itemsize + 24), 3 * result) if cost.bound < m * n else result
        ways.append(("accumulated", direction, 0, cost.operations, cost.peak_bytes + held))
    for direction, passes in (("reverse", m), ("forward", n)):
        batch = min(passes * one_pass, max(one_pass, min(BATCH_BYTES, limit - result)))
        ways.append(("dense", direction, passes, passes * work, int(result + batch)))
    ways.append(("matrix_free", "reverse", 1, work, one_pass))
    return ways


def _choose(
    candidates: list[Way], m: int, n: int, costs: dict[str, Cost], tiny: bool, long: bool
) -> tuple[Way, str]:
    def fitting(strategy: str) -> list[Way]:
        return sorted((c for c in candidates if c.strategy == strategy and c.fits), key=lambda c: c.operations)

    accumulated, dense = fitting("accumulated"), fitting("dense")
    probed = costs["reverse"].probed
    rows = next((c for c in dense if c.mode == "reverse"), None)
    if rows and (tiny or (long and 2 * costs["reverse"].bound >= m * n)):
        return rows, f"many small operations and a small or dense Jacobian: {m} reverse passes in few batches"
    if accumulated and not (probed and dense and accumulated[0].operations > PROBING_PENALTY * dense[0].operations):
        best = accumulated[0]
        start = "output" if best.mode == "reverse" else "input"
        return best, (
            f"local Jacobians multiplied together from the {start}: about {best.operations:.2g} multiplications, "
            f"against {m} reverse or {n} forward passes"
        )
    if dense:
        best = dense[0]
        why = (
            "an operation's local Jacobian is not known"
            if probed
            else "the local Jacobians would not fit into the memory limit"
        )
        unit = "row" if best.mode == "reverse" else "column"
        return best, f"{why}, so one {best.mode} pass a {unit}: {best.passes}, as many at a time as fit"
    (last,) = [c for c in candidates if c.strategy == "matrix_free"]
    return last, f"the Jacobian ({m} by {n}) does not fit into the memory limit: only products with it are computed"


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
    if name in detect.BLOCK_NAMES.split():
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
    m = graph.output.numel()
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
        bound += graph.output.numel() * reach.get((graph.output.grad_fn, graph.output.output_nr), 0)
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
