"""What is said of a Hessian: how its blocks are multiplied with a direction, and why it is zero where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from jvpcli.jacobians.contraction import index_letters, indexed, work_out
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.operations import base_name, natures, topological
from jvpcli.problem import Named
from jvpcli.report import Contraction
from jvpcli.report.hessian import block_product

KINKED_NAMES = """
Abs Amax Amin Clamp ClampMax ClampMin Fmax Fmin Hardshrink Hardsigmoid Hardtanh LeakyRelu Max Maximum Min Minimum
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D Prelu Relu RreluWithNoise Softshrink Threshold
"""
KINKED = frozenset(KINKED_NAMES.split())
"""Operations of torch's graph that are linear piece by piece."""


def multiplication(x: str, w: str, maps: Mapping[tuple[str, str], LinearMap], u: Named) -> Contraction:
    """How ∂²L/∂x∂w is multiplied with the direction for w, if there is one in `u`, and what that comes down to."""
    block, product = maps[x, w], block_product(x, w, single=len(maps) == 1)
    axes, summed = index_letters(block.out_shape, block.in_shape)
    second = f"∂²L/∂{indexed(x, axes)}∂{indexed(w, summed)}"
    total = f"Σ_{summed} " if summed else ""
    entry = work_out(w, x, maps[w, x], u[w]) if w in u else None
    return Contraction(
        einsum=f"{axes}{summed},{summed}->{axes}",
        formula=f"{indexed(f'({product})', axes)} = {total}{second} · {indexed('u', summed)}",
        product=_coupling(x, w, block),
        entry=entry and replace(entry, label=entry.label.replace(f"∂L/∂{x}", f"({product})", 1)),
    )


def _coupling(x: str, w: str, block: LinearMap) -> str:
    """What the kind of ∂²L/∂x∂w says of how the entries of two inputs, or of one, hang together."""
    itself = x == w
    match block.structure:
        case "unknown" if block.nnz is None:
            return "Its entries were not computed: only products with it are known."
        case "zero":
            return f"Every entry is zero: ∂L/∂{x} does not change with {w}."
        case _ if block.nnz == 0:
            return "Every entry is zero here."
        case "identity" | "diagonal" as kind:
            rest = f"no two entries of {x} are coupled" if itself else f"each entry of {x} is coupled with its own of {w} alone"
            matrix = "Diagonal" if kind == "diagonal" or block.scale is None else f"{block.scale.item():g} times the identity"
            return f"{matrix}: {rest}, and the product is element-wise."
        case "block_diagonal":
            return "Block-diagonal: entries are coupled within a block alone, and the product is one small product a block."
        case "banded":
            return f"Banded: each entry of {x} is coupled with those of {w} near it alone."
    of_all = f"{block.nnz} of the {block.m * block.n} entries are not zero"
    if block.structure == "sparse":
        return f"Sparse: {of_all}, and only those take part."
    if block.nnz == block.m * block.n:
        return f"Dense: every entry of {x} is coupled with every {'other' if itself else f'entry of {w}'}."
    return f"{of_all[0].upper()}{of_all[1:]} here."


def why_zero(outputs: Sequence[Tensor], leaves: Named, tried: Iterable[bool]) -> str:
    """Why every entry of a Hessian is zero: by the operations, else by what it is at other points.

    Args:
        outputs, leaves: with the graph between them.
        tried: whether it is zero at random points, one after the other; asked only where the operations do not tell.
    """
    inputs, names = list(leaves.values()), ", ".join(leaves)
    kinds = [nature for y in outputs for nature in natures(y, inputs)]
    if all(nature.rigid for nature in kinds):
        return (
            f"Every operation that the gradient of L goes back through to {names} is linear: to autograd the gradient is a "
            "constant, and its derivative zero."
        )
    points = list(tried)
    if not all(points):
        return "Every entry is zero here, and not everywhere: at a random point with entries of size 0.5 to 1 they are not."
    if not points:
        return "Every entry is zero here; there is no other point nearby to look at."
    also = f"Every entry is zero here and at {len(points)} random points"
    if all(nature.smooth for nature in kinds):
        return f"{also}, and every operation that the gradient goes back through is smooth: so it is zero everywhere."
    nodes = {node.name() for y in outputs for node in topological(y.grad_fn, {id(x) for x in inputs})[0]}
    kinked = sorted(name for name in nodes if base_name(name) in KINKED)
    are = "is" if len(kinked) == 1 else "are"
    by = f", as {' and '.join(kinked)} {are}: the second derivative is zero between the kinks" if kinked else ""
    return f"{also}: so it is of a function that is linear piece by piece{by}."
