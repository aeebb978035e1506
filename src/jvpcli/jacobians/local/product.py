"""Matrix products and linear algebra: deltas on the free axes, one factor from the other operand."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.elementwise import constant
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.local.probe import along

B, P, Q, R = range(4)
"""Labels of a (batched) product y[b, p, r] = Σ_q a[b, p, q]·c[b, q, r]."""


def _product(
    op: Op,
    shapes: tuple[Shape | None, Shape | None],
    left: Tensor | None,
    right: Tensor | None,
    scale: float = 1.0,
    summed: bool = False,
) -> Locals:
    """y = a @ c with the labels that the numbers of axes say; `summed` over the batch."""
    batch = (B,) if summed or len(op.shape) == 3 else ()
    sizes: dict[int, int] = {}
    a_labels: tuple[int, ...] = (*batch, P, Q)
    c_labels: tuple[int, ...] = (*batch, Q, R)
    if len(op.shape) == 0:
        a_labels, c_labels = (Q,), (Q,)
    elif len(op.shape) == 1:
        c_labels = (Q,)
    for labels, shape, value in ((a_labels, shapes[0], left), (c_labels, shapes[1], right)):
        known = shape if shape is not None else None if value is None else tuple(value.shape)
        if known is not None:
            sizes.update(zip(labels, known, strict=True))
    out_labels = {0: (), 1: (P,), 2: (P, R), 3: (B, P, R)}[len(op.shape)]
    sizes.update(zip(out_labels, op.shape, strict=True))
    result: list[tuple[KroneckerMap, ...] | None] = []
    for shape, mine, other, theirs in ((shapes[0], a_labels, right, c_labels), (shapes[1], c_labels, left, a_labels)):
        if shape is None:
            result.append(None)
            continue
        if not isinstance(other, Tensor):
            raise NoRuleError("a saved operand is missing")
        factor = Factor(other.detach(), theirs)
        result.append((op.regular(shape, out_labels, mine, sizes, [factor], scale),))
    return result


def mm(op: Op) -> Locals:
    """a @ c of two matrices, or batches of them."""
    return _product(op, (op.shapes[0], op.shapes[1]), op.saved("self"), op.saved("mat2"))


def mv(op: Op) -> Locals:
    """a @ v."""
    return _product(op, (op.shapes[0], op.shapes[1]), op.saved("self"), op.saved("vec"))


def dot(op: Op) -> Locals:
    """⟨u, v⟩."""
    other = "tensor" if hasattr(op.node, "_saved_tensor") else "other"
    return _product(op, (op.shapes[0], op.shapes[1]), op.saved("self"), op.saved(other))


def added(left: str, right: str, summed: bool = False) -> Rule:
    """beta·bias + alpha·(a @ c), the bias broadcast; `summed` over a batch of products."""

    def rule(op: Op) -> Locals:
        beta, alpha = (float(op.saved(name, 1)) for name in ("beta", "alpha"))
        bias = op.shapes[0]
        products = _product(op, (op.shapes[1], op.shapes[2]), op.saved(left), op.saved(right), alpha, summed)
        return [None if bias is None else (constant(op, bias, beta),), *products]

    return rule


def addr(op: Op) -> Locals:
    """beta·bias + alpha·(u vᵀ)."""
    beta, alpha = (float(op.saved(name, 1)) for name in ("beta", "alpha"))
    sizes = {P: op.shape[0], R: op.shape[1]}
    result: list[tuple[KroneckerMap, ...] | None] = [
        None if op.shapes[0] is None else (constant(op, op.shapes[0], beta),)
    ]
    for shape, label, other, free in ((op.shapes[1], P, "vec2", R), (op.shapes[2], R, "vec1", P)):
        if shape is None:
            result.append(None)
        else:
            factor = Factor(op.saved(other).detach(), (free,))
            result.append((op.regular(shape, (P, R), (label,), sizes, [factor], alpha),))
    return result


def linear(op: Op) -> Locals:
    """x @ Wᵀ + b for x of any number of axes."""
    x, weight = op.saved("input"), op.saved("weight")
    width = op.shape[-1] if op.shape else 1
    inner = (op.shapes[0] or tuple(x.shape))[-1]
    sizes = {P: prod(op.shape) // max(1, width), R: width, Q: inner}
    bias = op.shapes[2] if len(op.shapes) > 2 else None
    result: list[tuple[KroneckerMap, ...] | None] = [None, None, None]
    if op.shapes[0] is not None:
        result[0] = (op.regular(op.shapes[0], (P, R), (P, Q), sizes, [Factor(weight.detach(), (R, Q))]),)
    if op.shapes[1] is not None:
        factor = Factor(x.detach().reshape(-1, inner), (P, Q))
        result[1] = (op.regular(op.shapes[1], (P, R), (R, Q), sizes, [factor]),)
    if bias is not None:
        result[2] = (op.regular(bias, (P, R), (R,), sizes),)
    return result[: len(op.shapes)]


def trilinear(op: Op) -> Locals:
    """The sum over some axes of a·b·c, each with axes of size 1 put in."""
    values = [op.saved(name) for name in ("i1", "i2", "i3")]
    fresh = [op.saved(name) for name in ("expand1", "expand2", "expand3")]
    given = [shape if value is None else tuple(value.shape) for shape, value in zip(op.shapes, values, strict=True)]
    if None in given:
        raise NoRuleError("a saved operand is missing")
    dims = range(len(given[0] or ()) + len(fresh[0]))
    labels = [tuple([k for k in dims if k not in added]) for added in fresh]
    sizes = {k: size for names, shape in zip(labels, given, strict=True) for k, size in zip(names, shape or (), strict=True)}
    out = [k for k in dims if k not in op.saved("sumdim")]
    result: list[tuple[KroneckerMap, ...] | None] = []
    for own, shape in enumerate(op.shapes):
        if shape is None:
            result.append(None)
            continue
        one, other = [k for k in range(3) if k != own]
        kept = [k for k in dims if k in {*out, *labels[own]} & {*labels[one], *labels[other]}]
        value = torch.einsum(values[one].detach(), labels[one], values[other].detach(), labels[other], kept)
        result.append((op.regular(shape, out, labels[own], sizes, [Factor(value, tuple(kept))]),))
    return result


def inverse(op: Op) -> Locals:
    """Y = A⁻¹: dY_ij/dA_kl = −Y_ik Y_lj."""
    shape = op.shapes[0]
    assert shape is not None
    y = op.saved("inverse").detach()
    n = shape[-1]
    y = y.reshape(-1, n, n)
    sizes = {0: y.shape[0], 1: n, 2: n, 3: n, 4: n}
    factors = [Factor(y, (0, 1, 3)), Factor(y, (0, 4, 2))]
    return op.first(op.regular(shape, (0, 1, 2), (0, 3, 4), sizes, factors, -1.0))


def solve(op: Op) -> Locals:
    """X = A⁻¹B: dX_ir/dB_kr = A⁻¹_ik and dX_ir/dA_kl = −A⁻¹_ik X_lr (from the right likewise)."""
    a, x = op.saved("A").detach(), op.saved("result").detach()
    left = op.saved("left")
    n = a.shape[-1]
    vector = x.dim() == a.dim() - 1
    batch = tuple(a.shape[:-2])
    if tuple(x.shape[: len(batch)]) != batch or x.dim() < a.dim() - 1:
        raise NoRuleError("broadcast batches")
    if not left and not vector:
        raise NoRuleError("solved from the right")
    inv = torch.linalg.inv(a).reshape(-1, n, n)  # the LU that torch keeps is that of A, or of Aᵀ: versions differ
    width = 1 if vector else x.shape[-1]
    sizes = {0: inv.shape[0], 1: n, 2: width, 3: n, 4: n}
    result: list[tuple[KroneckerMap, ...] | None] = [None, None]
    if op.shapes[0] is not None:
        factors = [Factor(inv, (0, 1, 3)), Factor(x.reshape(-1, n, width), (0, 4, 2))]
        result[0] = (op.regular(op.shapes[0], (0, 1, 2), (0, 3, 4), sizes, factors, -1.0),)
    if op.shapes[1] is not None:
        if prod(op.shapes[1]) != prod(op.shape):
            raise NoRuleError("broadcast batches")
        result[1] = (op.regular(op.shapes[1], (0, 1, 2), (0, 3, 2), sizes, [Factor(inv, (0, 1, 3))]),)
    return result


def trace(op: Op) -> Locals:
    """Σ x_ii."""
    shape = op.shapes[0]
    assert shape is not None
    if shape[0] != shape[1]:
        raise NoRuleError("not square")
    return op.first(op.regular(shape, (), (0, 0), {0: shape[0]}))


def square_blocks(op: Op) -> Locals:
    """Functions of one matrix (cholesky_inverse): a block for each matrix of the batch."""
    shape = op.shapes[0]
    assert shape is not None
    if len(shape) != len(op.shape) or len([s for s in op.shapes if s is not None]) != 1:
        raise NoRuleError("not a function of one matrix")
    term = along(op, (len(shape) - 2, len(shape) - 1))
    return op.first(*([] if term is None else [term]))


def distances(op: Op) -> Locals:
    """d_ij = |x_i − y_j|: (x_ik − y_jk) / d_ij, and 0 where they are the same point."""
    if op.saved("p", 2.0) != 2:
        raise NoRuleError("another norm")
    x, y, d = (op.saved(name).detach() for name in ("x1", "x2", "result"))
    ends = op.shapes[0] or tuple(x.shape), op.shapes[1] or tuple(y.shape)
    if {op.shape[:-2]} != {end[:-2] for end in ends}:
        raise NoRuleError("broadcast batches")
    (p, r), q = op.shape[-2:], ends[0][-1]
    d = d.masked_fill(d == 0, float("inf"))
    values = (x.reshape(-1, p, 1, q) - y.reshape(-1, 1, r, q)) / d.reshape(-1, p, r, 1)
    sizes = {0: len(values), 1: p, 2: r, 3: q}
    return [
        None if asked is None else (op.regular(end, (0, 1, 2), inn, sizes, [Factor(values, (0, 1, 2, 3))], sign),)
        for asked, end, inn, sign in zip(op.shapes, ends, ((0, 1, 3), (0, 2, 3)), (1.0, -1.0), strict=True)
    ]


SQUARE_BLOCKS_NAMES = """
CholeskyInverse Cholesky
"""

DISTANCE_NAMES = ("Cdist", "EuclideanDist")

RULES: dict[str, Rule] = {
    "Mm": mm,
    "Bmm": mm,
    "Mv": mv,
    "Dot": dot,
    "Vdot": dot,
    "Addmm": added("mat1", "mat2"),
    "Baddbmm": added("batch1", "batch2"),
    "Addbmm": added("batch1", "batch2", summed=True),
    "Addmv": added("mat", "vec"),
    "Addr": addr,
    "Linear": linear,
    "Trilinear": trilinear,
    "LinalgInvEx": inverse,
    "LinalgSolveEx": solve,
    "Trace": trace,
    **dict.fromkeys(DISTANCE_NAMES, distances),
    **dict.fromkeys(SQUARE_BLOCKS_NAMES.split(), square_blocks),
}
