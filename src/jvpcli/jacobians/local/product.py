"""Matrix products and linear algebra: deltas on the free axes, one factor from the other operand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.labels import Factor, Labels
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import along
from jvpcli.jacobians.local.elementwise import constant
from jvpcli.jacobians.local.movement import contiguous_strides
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term

B, P, Q, R = range(4)
"""Labels of a (batched) product y[b, p, r] = Σ_q a[b, p, q]·c[b, q, r]."""


SAVED = {
    **dict.fromkeys(("Mm", "Bmm"), ("self", "mat2")),
    "Mv": ("self", "vec"),
    "Dot": ("self", "tensor"),
    "Vdot": ("self", "other"),
    **dict.fromkeys(("Addmm", "SparseAddmm"), ("mat1", "mat2")),
    **dict.fromkeys(("Baddbmm", "Addbmm"), ("batch1", "batch2")),
    "Addmv": ("mat", "vec"),
}
"""The names under which products save the two factors."""


def product(op: Op) -> Locals:
    """a @ c of matrices, batches of them, or vectors; or beta·bias + alpha·(a @ c), the bias broadcast."""
    name = operation(op.node)
    left, right = (_factor(op, each) for each in SAVED[name])
    *biases, a, c = op.shapes
    beta, alpha = (float(op.saved(each, 1)) for each in ("beta", "alpha")) if biases else (1.0, 1.0)
    summed = name == "Addbmm"  # over the batch
    batch = (B,) if summed or len(op.shape) == 3 else ()
    a_labels, c_labels = [((Q,), (Q,)), ((P, Q), (Q,)), ((*batch, P, Q), (*batch, Q, R))][min(2, len(op.shape))]
    out_labels = [(), (P,), (P, R), (B, P, R)][len(op.shape)]
    sizes = dict(zip(out_labels, op.shape, strict=True))
    for labels, shape, value in ((a_labels, a, left), (c_labels, c, right)):
        known = shape if shape is not None else None if value is None else value.shape
        if known is not None:
            sizes.update(zip(labels, known, strict=True))

    def to(mine: Labels, other: Tensor | None, theirs: Labels, shape: Shape) -> Term:
        if other is None:
            raise NoRuleError("a saved operand is missing")
        if other.layout is not torch.strided and not summed:
            return _listed(op, shape, out_labels, mine, theirs, other.detach(), alpha)
        return op.regular(shape, out_labels, mine, sizes, [Factor(other.detach(), theirs)], alpha)

    to_biases = [partial(constant, op, scale=beta) for _ in biases]
    return op.pieces(*to_biases, partial(to, a_labels, right, c_labels), partial(to, c_labels, left, a_labels))


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


def addr(op: Op) -> Locals:
    """beta·bias + alpha·(u vᵀ)."""
    beta, alpha = (float(op.saved(name, 1)) for name in ("beta", "alpha"))

    def vector(label: int, name: str, free: int, shape: Shape) -> KroneckerMap:
        factor = Factor(op.saved(name).detach(), (free,))
        return op.regular(shape, (P, R), (label,), {P: op.shape[0], R: op.shape[1]}, [factor], alpha)

    return op.pieces(lambda bias: constant(op, bias, beta), partial(vector, P, "vec2", R), partial(vector, R, "vec1", P))


def linear(op: Op) -> Locals:
    """x @ Wᵀ + b for x of any number of axes."""
    x, weight = op.saved("input"), op.saved("weight")
    width = op.shape[-1] if op.shape else 1
    inner = (op.shapes[0] or tuple(x.shape))[-1]
    sizes = {P: prod(op.shape) // max(1, width), R: width, Q: inner}
    return op.pieces(
        lambda shape: op.regular(shape, (P, R), (P, Q), sizes, [Factor(weight.detach(), (R, Q))]),
        lambda shape: op.regular(shape, (P, R), (R, Q), sizes, [Factor(x.detach().reshape(-1, inner), (P, Q))]),
        lambda shape: op.regular(shape, (P, R), (R,), sizes),
    )


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

    def to(own: int, shape: Shape) -> KroneckerMap:
        one, other = [k for k in range(3) if k != own]
        kept = [k for k in dims if k in {*out, *labels[own]} & {*labels[one], *labels[other]}]
        value = torch.einsum(values[one].detach(), labels[one], values[other].detach(), labels[other], kept)
        return op.regular(shape, out, labels[own], sizes, [Factor(value, tuple(kept))])

    return op.pieces(*[partial(to, own) for own in range(3)])


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

    def to_matrix(shape: Shape) -> KroneckerMap:
        factors = [Factor(inv, (*over, *((1, 3) if left else (4, 1)))), Factor(x, (0, 4, 2) if left else (0, 2, 3)), *read]
        return op.regular(shape, out, (*over, 3, 4), sizes, factors, -1.0)

    def to_given(shape: Shape) -> KroneckerMap:
        given = () if prod(shape) == n * width else (0,)
        if given and prod(shape) != prod(op.shape):
            raise NoRuleError("broadcast batches")
        inn, labels = ((3, 2), (1, 3)) if left else ((2, 3), (3, 1))
        return op.regular(shape, out, (*given, *inn), sizes, [Factor(inv, (*over, *labels))])

    return op.pieces(to_matrix, to_given)


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
    factors = [Factor(values, (0, 1, 2, 3))]
    return op.pieces(
        lambda end: op.regular(end, (0, 1, 2), (0, 1, 3), sizes, factors),
        lambda end: op.regular(end, (0, 1, 2), (0, 2, 3), sizes, factors, -1.0),
    )


SQUARE_BLOCKS_NAMES = """
CholeskyInverse Cholesky
"""

DISTANCE_NAMES = ("Cdist", "EuclideanDist")

RULES: dict[str, Rule] = {
    **dict.fromkeys(SAVED, product),
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
