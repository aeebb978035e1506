"""What is said of a Hessian: how its blocks are multiplied with a direction, and why it is zero where it is."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from jvpcli.jacobians.contraction import index_letters, indexed, work_out
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.operations import ADDED, BY_VALUE, PICKING, RIGID, Node, base_name, is_of_complex, leading
from jvpcli.jacobians.structure import PLACED
from jvpcli.language.readings import nodes_below
from jvpcli.problem import Named
from jvpcli.report import Contraction
from jvpcli.report.hessian import block_product

SENTENCES = {
    "not_computed": "Its entries were not computed: only products with it are known.",
    "zero": "Every entry is zero, and so is the product with any u.",
    "zero_here": "Every entry is zero here.",
    "number": "A single number, which u is multiplied with.",
    "identity": "{number} times the identity: {apart}, and the product is element-wise.",
    "diagonal": "Diagonal: {apart}, and the product is element-wise.",
    "block_diagonal": "Block-diagonal: entries are coupled within a block alone, and the product is one small product a block.",
    "banded": "Banded: each entry of {x} is coupled with those of {w} near it alone.",
    "sparse": "Sparse: {nnz} of the {size} entries are not zero, and only those take part.",
    "dense": "Dense: every entry of {x} is coupled with every {other}.",
    "filled": "{nnz} of the {size} entries are not zero here.",
    "constant_slope": "Every operation that the gradient of L goes back through to {names} is linear: to autograd the gradient "
    "is a constant, and its derivative zero.",
    "zero_at_point": "Every entry is zero here, and not everywhere: at a random point with entries of size 0.5 to 1 they are "
    "not.",
    "no_other_point": "Every entry is zero here; there is no other point nearby to look at.",
    "zero_tried": "Every entry is zero here and at {count} random points; whether it is everywhere was not found out.",
    "pieces": "Every entry is zero here and at {count} random points: so it is of a function that is linear piece by piece.",
    "kinked_pieces": "Every entry is zero here and at {count} random points: so it is of a function that is linear piece by "
    "piece, as {kinked} {are}: the second derivative is zero between the kinks.",
    "jump": "Where the first derivative jumps there is no second derivative; the jump is not in what PyTorch gives there.",
}
"""By the code of a claim its sentence: of a block of the Hessian, and of why it is zero."""

KINKED_NAMES = """
Abs Amax Amin Clamp ClampMax ClampMin Fmax Fmin Hardshrink Hardsigmoid Hardtanh LeakyRelu Max Maximum Min Minimum
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D Relu RreluWithNoise Softshrink Threshold
"""
KINKED = frozenset(KINKED_NAMES.split())
"""Operations of torch's graph that are linear piece by piece."""

LINEAR_NAMES = "Tril Triu Real Imag ViewAsReal ViewAsComplex Conj ConjPhysical FftR2C FftC2R FftC2C"
LINEAR = RIGID | (PICKING - BY_VALUE) | frozenset(LINEAR_NAMES.split())
"""Operations that are linear in all their operands together."""

BILINEAR = frozenset(["Mul", "Mm", "Bmm", "Mv", "Dot", "Vdot", "Addmm", "Baddbmm", "Addbmm", "Addmv", "Linear", "Convolution"])
"""Operations that are linear in each of the operands that they multiply."""


def multiplication(
    x: str, w: str, maps: Mapping[tuple[str, str], LinearMap], u: Named, *, fixed: bool = True
) -> Contraction:
    """How ∂²L/∂x∂w is multiplied with the direction for w, if there is one in `u`, and what that comes down to.

    `fixed`: its kind is the same at every point.
    """
    block, product = maps[x, w], block_product(x, w, single=len(maps) == 1)
    axes, summed = index_letters(block.out_shape, block.in_shape)
    second = f"∂²L/∂{indexed(x, axes)}∂{indexed(w, summed)}"
    total = f"Σ_{summed} " if summed else ""
    entry = work_out(w, x, maps[w, x], u[w]) if w in u else None
    return Contraction(
        einsum=f"{axes}{summed},{summed}->{axes}",
        formula=f"{indexed(f'({product})', axes)} = {total}{second} · {indexed('u', summed)}",
        product=_coupling(x, w, block, fixed),
        entry=entry and replace(entry, label=entry.label.replace(f"∂L/∂{x}", f"({product})", 1)),
    )


def _coupling(x: str, w: str, block: LinearMap, fixed: bool) -> str:
    """What the kind of ∂²L/∂x∂w says of how the entries of two inputs, or of one, hang together."""
    itself = x == w
    kind = _kind(block)
    return SENTENCES["zero_here" if kind == "zero" and not fixed else kind].format(
        x=x,
        w=w,
        nnz=block.nnz,
        size=block.m * block.n,
        apart=f"no two entries of {x} are coupled" if itself else f"each entry of {x} is coupled with its own of {w} alone",
        other="other" if itself else f"entry of {w}",
        number="" if block.scale is None else f"{block.scale.item():g}",
    )


def _kind(block: LinearMap) -> str:
    """The code of what is said of a block."""
    kind = block.structure
    if kind == "zero" or (kind == "unknown" and block.nnz is None):
        return "zero" if kind == "zero" else "not_computed"
    if block.nnz == 0:
        return "zero_here"
    if block.m * block.n == 1:
        return "number"
    if kind == "identity":
        return "diagonal" if block.scale is None else kind
    if kind in ("diagonal", "block_diagonal", "banded", "sparse"):
        return kind
    if kind in PLACED:
        return "sparse"
    return "dense" if block.nnz == block.m * block.n else "filled"


def why_zero(outputs: Sequence[Tensor], leaves: Named, tried: Iterable[bool], weighed: bool) -> str:
    """Why every entry of a Hessian is zero: by the operations, else by what it is at other points.

    Args:
        outputs, leaves: with the graph between them.
        tried: whether it is zero at random points, one after the other; asked only where the operations do not tell.
        weighed: whether the inputs' values tell in other ways what is computed: by a condition, a mask, a factor without graph.
    """
    bent = bent_between(outputs, leaves)
    if not bent:
        return SENTENCES["constant_slope"].format(names=", ".join(leaves))
    points = list(tried)
    if not all(points):
        return SENTENCES["zero_at_point"]
    if not points:
        return SENTENCES["no_other_point"]
    kinked = sorted({node.name() for node in bent if base_name(node.name()) in KINKED})
    pieces = not weighed and all(_is_linear_by_pieces(node) for node in bent)
    claim = "zero_tried" if not pieces else "kinked_pieces" if kinked else "pieces"
    are = "is" if len(kinked) == 1 else "are"
    return SENTENCES[claim].format(count=len(points), kinked=" and ".join(kinked), are=are)


def bent_between(outputs: Sequence[Tensor], leaves: Named) -> set[Node]:
    """The operations between outputs and inputs that are not linear in what the inputs lead to."""
    inputs = {id(x) for x in leaves.values()}
    ways = [leading(nodes_below(y.grad_fn), inputs) for y in outputs if y.grad_fn is not None]
    on_the_way = {node for order, ends in ways for node in (*order, *ends.values())}
    return {node for order, _ in ways for node in order if not _is_linear(node, on_the_way)}


def _is_linear(node: Node, on_the_way: Container[Node]) -> bool:
    """Whether what a node differentiates is linear in those of its operands that the inputs lead to."""
    name = base_name(node.name())
    active = [number for number, (edge, _) in enumerate(node.next_functions) if edge in on_the_way]
    if name in BILINEAR:
        return len([number for number in active if number != ADDED.get(name)]) <= 1
    return active == [0] if name == "Div" else name in LINEAR


def _is_linear_by_pieces(node: Node) -> bool:
    """Whether what a node differentiates is linear between kinks: there it picks, or cuts off."""
    name = base_name(node.name())
    return name in KINKED | PICKING and not is_of_complex(node, name)
