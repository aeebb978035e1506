"""What accumulating would cost, from shapes alone: nothing is computed.

Every operation has a width for each operand: how many of its entries one output entry depends on.  Widths multiply
along a path and add up where paths meet, and no map is wider than its input: a bound on the nonzeros of every map
that accumulating meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from jvpcli.derive.accumulate import Graph
from jvpcli.derive.linear_map import Shape
from jvpcli.derive.local import detect, elementwise, index, movement, reduce, windows
from jvpcli.derive.local.node import Node, operand_shape
from jvpcli.derive.local.table import RULES, base_name

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

