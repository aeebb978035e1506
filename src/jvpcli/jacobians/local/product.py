"""Matrix products and linear algebra: deltas on the free axes, one factor from the other operand."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import along
from jvpcli.jacobians.local.elementwise import constant
from jvpcli.jacobians.local.movement import contiguous_strides
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term

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
    result: list[tuple[Term, ...] | None] = []
    for shape, mine, other, theirs in ((shapes[0], a_labels, right, c_labels), (shapes[1], c_labels, left, a_labels)):
        if shape is None:
            result.append(None)
            continue
        if not isinstance(other, Tensor):
            raise NoRuleError("a saved operand is missing")
        if other.layout is not torch.strided and not summed:
            result.append((_listed(op, shape, out_labels, mine, theirs, other.detach(), scale),))
            continue
        factor = Factor(other.detach(), theirs)
        result.append((op.regular(shape, out_labels, mine, sizes, [factor], scale),))
    return result


def _listed(
    op: Op, shape: Shape, out: Sequence[int], mine: Sequence[int], theirs: Sequence[int], other: Tensor, scale: float
) -> SparseMap:
    """The map to one operand of a product, where the other one, with the labels `theirs`, lists its entries."""
    other = other.to_sparse_coo().coalesce()
    indices = other.indices()
    key = op.content_key("listed", tuple(out), tuple(mine), tuple(theirs), op.shape, shape, indices)

    def make() -> Pattern:
        free = {k: torch.arange(size, device=indices.device) for k, size in zip(mine, shape, strict=True) if k not in theirs}
        places = dict(zip(theirs, indices.reshape(*indices.shape, *[1] * len(free)), strict=True))
        start = indices.new_zeros(indices.shape[1], *map(len, free.values()))  # so many times what is free
        rows, cols = (
            sum([(places | free)[k] * step for k, step in zip(labels, contiguous_strides(sizes), strict=True)], start)
            for labels, sizes in ((out, op.shape), (mine, shape))
        )
        return Pattern(rows.reshape(-1), cols.reshape(1, -1), unique_rows=False, key=key)

    pattern = op.work.structure(key, make)
    each = pattern.cols.numel() // max(1, indices.shape[1])
    values = (other.values().to(op.like.dtype) * scale).repeat_interleave(each)
    return SparseMap(op.shape, shape, op.like, pattern, values.reshape(1, -1))


def _factor(op: Op, name: str) -> Tensor | None:
    """What was saved of an operand, as it is: one that lists its entries is not written out."""
    value = getattr(op.node, "_saved_" + name, None)
    return op.saved(name) if value is None or value.layout is torch.strided else value


def mm(op: Op) -> Locals:
    """a @ c of two matrices, or batches of them."""
    return _product(op, (op.shapes[0], op.shapes[1]), _factor(op, "self"), _factor(op, "mat2"))


def mv(op: Op) -> Locals:
    """a @ v."""
    return _product(op, (op.shapes[0], op.shapes[1]), _factor(op, "self"), _factor(op, "vec"))


def dot(op: Op) -> Locals:
    """⟨u, v⟩."""
    other = "tensor" if hasattr(op.node, "_saved_tensor") else "other"
    return _product(op, (op.shapes[0], op.shapes[1]), op.saved("self"), op.saved(other))


def added(left: str, right: str, summed: bool = False) -> Rule:
    """beta·bias + alpha·(a @ c), the bias broadcast; `summed` over a batch of products."""

    def rule(op: Op) -> Locals:
        beta, alpha = (float(op.saved(name, 1)) for name in ("beta", "alpha"))
        bias = op.shapes[0]
        products = _product(op, (op.shapes[1], op.shapes[2]), _factor(op, left), _factor(op, right), alpha, summed)
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
    shape = op.operand
    y = op.saved("inverse").detach()
    n = shape[-1]
    y = y.reshape(-1, n, n)
    sizes = {0: y.shape[0], 1: n, 2: n, 3: n, 4: n}
    factors = [Factor(y, (0, 1, 3)), Factor(y, (0, 4, 2))]
    return op.first(op.regular(shape, (0, 1, 2), (0, 3, 4), sizes, factors, -1.0))


def solve(op: Op) -> Locals:
    """X = A⁻¹B."""
    a, x = op.saved("A").detach(), op.saved("result").detach()
    vector = x.dim() == a.dim() - 1
    if not op.saved("left") and not vector:
        raise NoRuleError("solved from the right")
    # not of the LU that torch keeps: that is A's, or Aᵀ's, as versions differ
    return _solved(op, torch.linalg.inv(a), x.unsqueeze(-1) if vector else x)


def solve_triangular(op: Op) -> Locals:
    """X = A⁻¹B, or X = BA⁻¹, where A is what is read of it: a triangle, without its diagonal where that is all ones."""
    a = op.saved("self").detach()
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
    upper, unit = bool(op.saved("upper")), bool(op.saved("unitriangular"))
    return _by_triangle(op, torch.linalg.solve_triangular(a, eye, upper=upper, unitriangular=unit))


def triangle_of_ones(op: Op) -> Locals:
    """The same where all that was saved is ones, and so is all that the inverse can have."""
    return _by_triangle(op, op.saved("self"))


def _by_triangle(op: Op, inv: Tensor) -> Locals:
    unit = int(op.saved("unitriangular"))
    triangle = torch.triu if op.saved("upper") else torch.tril
    read = triangle(torch.ones_like(inv[(0,) * (inv.dim() - 2)]), unit if op.saved("upper") else -unit)
    return _solved(op, triangle(inv), op.saved("result").detach(), bool(op.saved("left")), [Factor(read, (3, 4))])


def _solved(op: Op, inv: Tensor, x: Tensor, left: bool = True, read: Sequence[Factor] = ()) -> Locals:
    """dX_ir/dB_kr = A⁻¹_ik and dX_ir/dA_kl = −A⁻¹_ik X_lr, where X = A⁻¹B; else dX_ri/dB_rk = A⁻¹_ki and −A⁻¹_li X_rk.

    The labels are 0 for the batch, which A or B may not have, 1 and 2 for i and r, 3 and 4 for the places in A; `read` tells of
    which of these X is made.
    """
    n, batch, width = inv.shape[-1], tuple(x.shape[:-2]), x.shape[-1 if left else -2]
    sizes = {0: prod(batch), 1: n, 2: width, 3: n, 4: n}
    over = (0,) if tuple(inv.shape[:-2]) == batch else ()
    if not over and inv.dim() > 2:
        raise NoRuleError("broadcast batches")
    inv, x = inv.reshape(*[sizes[k] for k in over], n, n), x.reshape(-1, *x.shape[-2:])
    out = (0, 1, 2) if left else (0, 2, 1)
    result: list[tuple[KroneckerMap, ...] | None] = [None, None]
    if op.shapes[0] is not None:
        factors = [Factor(inv, (*over, *((1, 3) if left else (4, 1)))), Factor(x, (0, 4, 2) if left else (0, 2, 3)), *read]
        result[0] = (op.regular(op.shapes[0], out, (*over, 3, 4), sizes, factors, -1.0),)
    if op.shapes[1] is not None:
        given = () if prod(op.shapes[1]) == n * width else (0,)
        if given and prod(op.shapes[1]) != prod(op.shape):
            raise NoRuleError("broadcast batches")
        inn, labels = ((3, 2), (1, 3)) if left else ((2, 3), (3, 1))
        result[1] = (op.regular(op.shapes[1], out, (*given, *inn), sizes, [Factor(inv, (*over, *labels))]),)
    return result


def trace(op: Op) -> Locals:
    """Σ x_ii."""
    shape = op.operand
    if shape[0] != shape[1]:
        raise NoRuleError("not square")
    return op.first(op.regular(shape, (), (0, 0), {0: shape[0]}))


def square_blocks(op: Op) -> Locals:
    """Functions of one matrix (cholesky_inverse): a block for each matrix of the batch."""
    dims = len(op.operand)
    return along(op, (dims - 2, dims - 1))


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
    **dict.fromkeys(("Addmm", "SparseAddmm"), added("mat1", "mat2")),
    "Baddbmm": added("batch1", "batch2"),
    "Addbmm": added("batch1", "batch2", summed=True),
    "Addmv": added("mat", "vec"),
    "Addr": addr,
    "Linear": linear,
    "Trilinear": trilinear,
    "LinalgInvEx": inverse,
    "LinalgSolveEx": solve,
    "LinalgSolveTriangular": solve_triangular,
    "Trace": trace,
    **dict.fromkeys(DISTANCE_NAMES, distances),
    **dict.fromkeys(SQUARE_BLOCKS_NAMES.split(), square_blocks),
}
