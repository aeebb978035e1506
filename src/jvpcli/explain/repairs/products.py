"""Products of vectors and matrices: a transpose, a swap, a row or column, the longer inner axis cut."""

from __future__ import annotations

from jvpcli.explain.guilty import Guilty, Written
from jvpcli.explain.repairs.edits import Edits, cut, head, swapped, transposed
from jvpcli.explain.shapes import broadcast, multiplies, product_repairs, subscript
from jvpcli.explain.table.entry import Found


def products(guilty: Guilty, found: Found) -> Edits:
    """A transpose, a swap; where none helps, an element-wise product, or the longer inner axis cut."""
    pair = factors(guilty)
    if pair is None:
        return
    a, b = pair
    if guilty.name == "linear":
        yield guilty.with_suffix(b, transposed(b.shape) or "")
        yield guilty.with_suffix(a, transposed(a.shape) or "")
    else:
        for first, second, swap in product_repairs(a.shape, b.shape) if a.shape and b.shape else ():
            yield swapped(guilty, a, b) if swap else guilty.edited(a.behind(first), b.behind(second))
    if not a.shape or not b.shape:
        yield guilty.rewritten(f"{a.bracketed} * {b.bracketed}")
        return
    yield from as_column(guilty, a, b)
    if broadcast(a.shape, b.shape) is not None and guilty.name != "linear":
        yield guilty.rewritten(f"{a.bracketed} * {b.bracketed}")
    if len(a.shape) == len(b.shape) == 1:
        yield guilty.rewritten(f"torch.outer({a.text}, {b.text})")
    inner = b.shape[_inner_axis(guilty, b)]
    if inner > 1 and a.shape[-1] % inner == 0 and a.shape[-1] > inner:
        yield guilty.with_suffix(a, f".reshape(-1, {inner})")
    yield from cut_inner(guilty, a, b)


def _inner_axis(guilty: Guilty, b: Written) -> int:
    """The axis of the second factor that is summed over."""
    return -1 if guilty.name == "linear" or len(b.shape) == 1 else -2


def factors(guilty: Guilty) -> tuple[Written, Written] | None:
    """The two factors: behind the tensor that addmm and its like add to."""
    tensors = guilty.tensors
    if guilty.name.startswith(("addmm", "addmv", "addbmm", "baddbmm")) and len(tensors) > 2:
        return tensors[1], tensors[2]
    return (tensors[0], tensors[1]) if len(tensors) > 1 else None


def as_column(guilty: Guilty, a: Written, b: Written) -> Edits:
    """A vector as a row or a column."""
    for operand, other, first in ((a, b, True), (b, a, False)):
        if len(operand.shape) != 1 or not other.shape:
            continue
        for places, shape in (((1,), (*operand.shape, 1)), ((0,), (1, *operand.shape))):
            fits = multiplies(shape, other.shape) if first else multiplies(other.shape, shape)
            yield guilty.with_suffix(operand, subscript(2, places)) if fits else None


def cut_inner(guilty: Guilty, a: Written, b: Written) -> Edits:
    """The longer of the two inner axes cut to the shorter."""
    rows = _inner_axis(guilty, b)
    inner, outer = a.shape[-1], b.shape[rows]
    if inner > outer:
        yield cut(guilty, a, head(len(a.shape), -1, outer))
    elif outer > inner:
        yield cut(guilty, b, head(len(b.shape), rows, inner))


def ranks(guilty: Guilty, found: Found) -> Edits:
    """A function of vectors or matrices got others: `@`, a flattening, or an axis more or less."""
    pair = factors(guilty)
    if pair is not None:
        a, b = pair
        yield guilty.rewritten(f"{a.bracketed} @ {b.bracketed}") if multiplies(a.shape, b.shape) else None
        if guilty.name in ("outer", "ger"):
            for operand in (a, b):
                yield guilty.with_suffix(operand, ".flatten()") if len(operand.shape) != 1 else None
            yield guilty.edited(a.behind(".flatten()"), b.behind(".flatten()"))
        if len(a.shape) == 1 and len(b.shape) == 1 and a.shape != b.shape:
            yield guilty.rewritten(f"torch.outer({a.text}, {b.text})")
        if a.value.numel() == b.value.numel():
            yield guilty.edited(a.behind(".flatten()"), b.behind(".flatten()"))
        if guilty.name in ("dot", "vdot") and broadcast(a.shape, b.shape) is not None:
            yield guilty.rewritten(f"({a.bracketed} * {b.bracketed}).sum(-1)")
        yield from products(guilty, found)


def squaring(guilty: Guilty, found: Found) -> Edits:
    """Matrices that aren't square: the pseudo-inverse, or A·Aᵀ."""
    yield guilty.renamed("pinv") if guilty.name == "inv" else None
    for operand in guilty.tensors[:1]:
        if len(operand.shape) > 1:
            suffix = transposed(operand.shape)
            yield guilty.edited((operand.outer, f"{operand.bracketed} @ {operand.bracketed}{suffix}"))
