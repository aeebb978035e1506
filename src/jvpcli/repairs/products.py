"""Repairs of products: transposes, swaps and cuts, the letters of an einsum, layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import permutations

from jvpcli.messages.cards import Found
from jvpcli.messages.shapes import broadcast, listed, multiplies, product_repairs, subscript
from jvpcli.repairs.edits import Edits, Guilty, Written, cut, head, joined, numbers, swapped, transposed
from jvpcli.report import Shape


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


# einsum


def lettering(guilty: Guilty, found: Found) -> Edits:
    """einsum: the letters of one operand in another order, `...` for axes without a letter, an operand turned."""
    equation = next((operand for operand in guilty.all if isinstance(operand.value, str)), None)
    tensors = guilty.listed or guilty.tensors
    if equation is None or not tensors:
        return
    left, arrow, right = equation.value.replace(" ", "").partition("->")
    groups = left.split(",")
    quote = equation.text[0]

    def written(new: Sequence[str], out: str = right) -> str:
        return guilty.edited((equation.span, f"{quote}{','.join(new)}{arrow}{out}{quote}"))

    if len(groups) == len(tensors):
        for position in reversed(range(len(groups))):
            group, shape = groups[position], tensors[position].shape
            if len(group) != len(shape) and "..." not in group:
                for letters_ in _letterings(groups, tensors, position):
                    yield written([*groups[:position], letters_, *groups[position + 1 :]])
                yield written([*groups[:position], f"...{group}", *groups[position + 1 :]], f"...{right}")
                if len(group) > len(shape):
                    for drop in group:
                        yield written([*groups[:position], group.replace(drop, ""), *groups[position + 1 :]])
            elif len(group) <= 4:
                for order in list(permutations(group))[1:]:
                    changed = [*groups[:position], "".join(order), *groups[position + 1 :]]
                    if _consistent(changed, [operand.shape for operand in tensors]):
                        yield written(changed)
    letters = {letter for group in groups for letter in group if letter.isalpha()}
    kept = "".join(letter for letter in dict.fromkeys(right) if letter in letters or not letter.isalpha())
    if arrow and kept != right:
        yield written(groups, kept)
    if len(groups) > len(tensors):
        yield written(groups[: len(tensors)], "".join(c for c in right if c in "".join(groups[: len(tensors)])))


def _letterings(groups: Sequence[str], tensors: Sequence[Written], position: int) -> Iterator[str]:
    """Letters for all axes of an operand that has too few: those of the others that stand for these lengths."""
    sizes: dict[str, int] = {}
    for place, (group, operand) in enumerate(zip(groups, tensors, strict=True)):
        if place != position and len(group) == len(operand.shape):
            sizes.update(zip(group, operand.shape, strict=True))
    shape, wanted = tensors[position].shape, set(groups[position])
    if len(shape) > 3:
        return
    for letters in permutations(sizes, len(shape)):
        if tuple(sizes[letter] for letter in letters) == shape and wanted <= set(letters):
            yield "".join(letters)


def _consistent(groups: Sequence[str], shapes: Sequence[Shape]) -> bool:
    sizes: dict[str, int] = {}
    for group, shape in zip(groups, shapes, strict=True):
        for letter, size in zip(group, shape, strict=False):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                return False
    return True


# Convolutions, pooling, normalisation


def convolving(guilty: Guilty, found: Found) -> Edits:
    """Batch and channel axes that are missing, channels from last to second, a weight turned, groups, padding."""
    tensors = guilty.tensors
    if not tensors:
        return
    x = tensors[0]
    expected, got = found.int("expected"), found.int("got")
    if x.shape and expected is not None and x.shape[-1] == expected:
        yield guilty.with_suffix(x, ".movedim(-1, 1)")
    yield guilty.with_suffix(x, "[None]")
    yield guilty.with_suffix(x, "[None, None]")
    yield guilty.with_suffix(x, "[:, None]")
    if len(tensors) > 1:
        w = tensors[1]
        yield guilty.with_suffix(w, ".transpose(0, 1)") if len(w.shape) > 1 else None
        yield swapped(guilty, x, w)
        if got is not None and expected is not None:
            yield cut(guilty, x, f"[:, :{expected}]") if got > expected else None
            yield cut(guilty, w, f"[:, :{got}]") if expected > got else None
        yield guilty.with_suffix(w, "[..., None]")
        yield guilty.with_suffix(w, "[None]")
        yield guilty.with_suffix(w, ".squeeze(-1)") if w.shape and w.shape[-1] == 1 else None
        for axis in range(2, len(w.shape)):
            yield guilty.with_argument(f"padding={w.shape[axis] - 1}") if "padding" not in guilty.keywords else None
    for operand in tensors[2:]:
        out = tensors[1].shape[0] if len(tensors) > 1 and tensors[1].shape else None
        if len(operand.shape) == 1 and out is not None and operand.shape[0] > out:
            yield cut(guilty, operand, f"[:{out}]")
        yield (
            guilty.edited(((guilty.operands[2].outer[0], guilty.operands[2].outer[1]), "None"))
            if len(guilty.operands) > 2 and guilty.operands[2] is operand
            else None
        )


def pooling(guilty: Guilty, found: Found) -> Edits:
    """A smaller window, or padding."""
    lengths = [int(size) for size in re.findall(r"\d+", found.groups.get("given", ""))]
    least = min(lengths[1:] or lengths or guilty.tensors[0].shape[-1:] if guilty.tensors else [1], default=1)
    for operand in numbers(guilty.all[1:]):
        yield guilty.edited((operand.span, str(max(1, least)))) if operand.value > least else None
    yield from convolving(guilty, found)


def normalising(guilty: Guilty, found: Found) -> Edits:
    """layer_norm: the last axes that are there; cross: the axis of length 3."""
    for x in guilty.tensors[:1]:
        sizes = list(numbers(guilty.all[1:]))
        if guilty.name == "layer_norm" and sizes and len(sizes) <= len(x.shape):
            yield guilty.edited((joined(sizes), listed(x.shape[-len(sizes) :]) + ("," if len(sizes) == 1 else "")))
            yield guilty.edited((joined(sizes), listed(x.shape[-len(sizes) :])))
        for axis, size in enumerate(x.shape):
            dim = guilty.argument("dim", 2)
            if guilty.name == "cross" and size == 3 and dim is not None:
                yield guilty.edited((dim.span, str(axis)))
