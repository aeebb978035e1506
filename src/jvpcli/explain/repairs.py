"""Repairs of a failing sub-expression: edits derived from its operands and their shapes, the likeliest first.

Nothing here knows whether a repair works; whoever asks tries each one.  A family yields whole sources.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, permutations
from math import prod

import torch
from torch import Tensor

from jvpcli.explain.guilty import Guilty, Written, numbers
from jvpcli.explain.shapes import (
    aligned,
    broadcast,
    clashes,
    divisors_with_guess,
    listed,
    multiplies,
    product_repairs,
    subscript,
)
from jvpcli.explain.table.entry import Found
from jvpcli.report import Shape

Family = Callable[[Guilty, Found], Iterator[str | None]]


class Cut(str):
    """A source in which entries of an operand are dropped: only where nothing else works."""


def cut(guilty: Guilty, operand: Written, suffix: str) -> Cut:
    """The whole source with a suffix that drops entries behind one operand."""
    return Cut(guilty.with_suffix(operand, suffix))


def repairs(entry: str | None, guilty: Guilty, found: Found) -> Iterator[str]:
    """Sources with an edit each: those that the message's kind suggests, those that any operation may need, then cuts."""
    family = assigning if guilty.op == "op:setitem" else FAMILIES.get(entry or "", _none)
    seen = {guilty.source}
    cuts: list[Cut] = []
    for source in chain(family(guilty, found), anything(guilty, found)):
        if source is None or source in seen:
            continue
        seen.add(source)
        if isinstance(source, Cut):
            cuts.append(source)
        else:
            yield source
    yield from cuts


def _none(guilty: Guilty, found: Found) -> Iterator[str | None]:
    return iter(())


def transposed(shape: Shape) -> str | None:
    """The suffix that turns the last two axes."""
    return None if len(shape) < 2 else ".T" if len(shape) == 2 else ".mT"


def anything(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """A transpose, an axis of length 1, a flattening of one operand; two operands swapped."""
    tensors = guilty.listed or guilty.tensors
    for operand in tensors:
        suffix = transposed(operand.shape)
        yield guilty.with_suffix(operand, suffix) if suffix else None
    if len(tensors) == 2 and not guilty.name.endswith("_"):
        yield swapped(guilty, *tensors)
    for operand in tensors:
        yield guilty.with_suffix(operand, "[None]")
        yield guilty.with_suffix(operand, "[:, None]" if len(operand.shape) == 1 else "[..., None]")
        yield guilty.with_suffix(operand, ".squeeze()") if 1 in operand.shape else None
        yield guilty.with_suffix(operand, ".flatten()") if len(operand.shape) > 1 else None
    for operand in tensors:
        least = min((other.shape[0] for other in tensors if other.shape), default=0)
        yield cut(guilty, operand, f"[:{least}]") if operand.shape and operand.shape[0] > least > 0 else None


def swapped(guilty: Guilty, first: Written, second: Written) -> str:
    """Two operands in each other's place."""
    return guilty.edited((first.outer, second.bracketed), (second.outer, first.bracketed))


# Products


def products(guilty: Guilty, found: Found) -> Iterator[str | None]:
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


def as_column(guilty: Guilty, a: Written, b: Written) -> Iterator[str | None]:
    """A vector as a row or a column."""
    for operand, other, first in ((a, b, True), (b, a, False)):
        if len(operand.shape) != 1 or not other.shape:
            continue
        for places, shape in (((1,), (*operand.shape, 1)), ((0,), (1, *operand.shape))):
            fits = multiplies(shape, other.shape) if first else multiplies(other.shape, shape)
            yield guilty.with_suffix(operand, subscript(2, places)) if fits else None


def cut_inner(guilty: Guilty, a: Written, b: Written) -> Iterator[str | None]:
    """The longer of the two inner axes cut to the shorter."""
    rows = _inner_axis(guilty, b)
    inner, outer = a.shape[-1], b.shape[rows]
    if inner > outer:
        yield cut(guilty, a, _head(len(a.shape), -1, outer))
    elif outer > inner:
        yield cut(guilty, b, _head(len(b.shape), rows, inner))


def _head(depth: int, axis: int, size: int) -> str:
    """`[:, :3]`: the first entries along one axis."""
    marks = [":"] * (depth + axis) + [f":{size}"]
    return f"[{', '.join(marks)}]"


def ranks(guilty: Guilty, found: Found) -> Iterator[str | None]:
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


# Element by element


def broadcasting(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """New axes that leave the larger operand's shape, a transpose or reshape, then axes that make all pairs, then a cut."""
    yield from out_of_place(guilty)
    tensors = guilty.tensors
    pairs = [(a, b) for i, a in enumerate(tensors) for b in tensors[i + 1 :] if broadcast(a.shape, b.shape) is None]
    for a, b in pairs:
        yield from _keeping(guilty, a, b)
        yield from _growing(guilty, a, b)
    for a, b in pairs:
        yield from _cut(guilty, a, b)


def _keeping(guilty: Guilty, a: Written, b: Written) -> Iterator[str | None]:
    for operand, other in ((b, a), (a, b)):
        for new in aligned(operand.shape, other.shape):
            if broadcast(_with_new_axes(operand.shape, new), other.shape) == other.shape:
                yield guilty.with_suffix(operand, new)
    for operand, other in ((b, a), (a, b)):
        suffix = transposed(operand.shape)
        if suffix and broadcast((*operand.shape[:-2], operand.shape[-1], operand.shape[-2]), other.shape) is not None:
            yield guilty.with_suffix(operand, suffix)
    if a.value.numel() == b.value.numel():
        smaller, larger = (b, a) if len(a.shape) >= len(b.shape) else (a, b)
        yield guilty.with_suffix(smaller, f".reshape({listed(larger.shape)})")


def _growing(guilty: Guilty, a: Written, b: Written) -> Iterator[str | None]:
    for operand, other in ((a, b), (b, a)):
        for new in aligned(operand.shape, other.shape):
            yield guilty.with_suffix(operand, new)


def _with_new_axes(shape: Shape, new: str) -> Shape:
    sizes = iter(shape)
    made = [1 if mark.strip() == "None" else next(sizes) for mark in new.strip("[]").split(",")]
    return (*made, *sizes)


def _cut(guilty: Guilty, a: Written, b: Written) -> Iterator[str | None]:
    bad = clashes(a.shape, b.shape)
    if len(bad) == 1:
        axis = bad[0]
        operand, size = (a, b.shape[axis]) if a.shape[axis] > b.shape[axis] else (b, a.shape[axis])
        yield cut(guilty, operand, _head(len(operand.shape), axis, size))


def out_of_place(guilty: Guilty) -> Iterator[str | None]:
    """`y += b` as `y = y + b`, `y.add_(b)` as `y.add(b)`."""
    if isinstance(guilty.node, ast.AugAssign) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[0], "")
    if guilty.op.startswith("method:") and guilty.name.endswith("_"):
        yield guilty.renamed(guilty.name.rstrip("_"))


def expanding(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """expand: a new axis behind, -1 for what stays as it is; a bias of the wrong length; else as for broadcasting."""
    if guilty.name == "linear" or guilty.name.startswith("addm"):
        yield from _shorter_bias(guilty, found)
    sizes = list(numbers(guilty.operands))
    if guilty.name in ("expand", "broadcast_to") and guilty.tensors and sizes:
        x = guilty.tensors[0]
        asked = [operand.value for operand in sizes]
        missing = len(x.shape) - len(asked)
        if missing > 0:
            yield guilty.edited((_joined(sizes), listed([-1] * missing + asked)))
        fitting = list(aligned(x.shape, tuple(asked)))
        yield from (guilty.edited(x.behind(new)) for new in fitting)
        if not fitting and missing <= 0:
            yield guilty.edited(x.behind("[..., None]"), (_joined(sizes), listed([-1] * len(x.shape) + asked[-1:])))
        tail = zip(reversed(sizes), reversed(x.shape), strict=False)
        yield guilty.edited(*((operand.span, "-1") for operand, size in tail if size not in (1, operand.value)))
    yield from broadcasting(guilty, found)


def _shorter_bias(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """An operand that is expanded in silence, cut to the size that it should have."""
    size, have = found.int("size"), found.int("existing")
    for operand in guilty.tensors if size is not None and have is not None and have > size else ():
        for axis, length in enumerate(operand.shape):
            if length == have and size is not None:
                yield guilty.with_suffix(operand, _head(len(operand.shape), axis - len(operand.shape), size))


def _joined(operands: Sequence[Written]) -> tuple[int, int]:
    return operands[0].span[0], operands[-1].span[1]


def assigning(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """x[i] = value: the value with an axis more, turned, or cut to the place."""
    if len(guilty.operands) != 3:
        return
    x, key, value = guilty.operands
    if isinstance(key.value, int) and isinstance(x.value, Tensor):
        yield guilty.edited((key.span, f"..., {key.text}"))
    yield from indexing(guilty, found)
    target = found.shape("first") or found.shape("target")
    if not isinstance(value.value, Tensor) or target is None:
        return
    for new in aligned(value.shape, target):
        yield guilty.with_suffix(value, new)
    if value.value.numel() == prod(target):
        yield guilty.with_suffix(value, f".reshape({listed(target)})")
    if len(value.shape) == len(target):
        yield cut(guilty, value, f"[{', '.join(f':{size}' for size in target)}]")


# Joining


def joining(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """cat and stack: another dim, an axis more for the smaller ones, stack instead of cat and the reverse, a transpose, a cut."""
    items = guilty.listed
    values = _tensors_of(guilty)
    depth = max((value.ndim for value in values), default=0)
    if guilty.name in ("hstack", "vstack", "dstack", "column_stack", "row_stack"):
        for name in ("hstack", "vstack"):
            yield guilty.renamed(name)
    if guilty.name in ("cat", "concat", "concatenate"):
        if depth == 0 or all(value.ndim == 0 for value in values):
            yield guilty.renamed("stack")
        for axis in range(depth):
            yield from with_dim(guilty, axis)
        for operand in items:
            if operand.value.ndim == 0:
                yield guilty.with_suffix(operand, "[None]")
        yield from _lifted(guilty, items, depth)
    if guilty.name == "stack":
        yield guilty.renamed("cat")
        yield from _lifted(guilty, items, depth)
    for operand in items[1:] + items[:1]:
        suffix = transposed(operand.shape)
        yield guilty.with_suffix(operand, suffix) if suffix else None
    if len({value.numel() for value in values}) == 1 and items:
        yield guilty.edited(*(item.behind(f".reshape({listed(items[0].shape)})") for item in items[1:]))
    yield from _shortest(guilty, items)


def _tensors_of(guilty: Guilty) -> list[Tensor]:
    lists = [operand.value for operand in guilty.all if isinstance(operand.value, (list, tuple))]
    return [item for values in lists for item in values if isinstance(item, Tensor)]


def _lifted(guilty: Guilty, items: Sequence[Written], depth: int) -> Iterator[str | None]:
    """Every item of fewer axes with one more, in front or behind."""
    lower = [item for item in items if len(item.shape) == depth - 1]
    for suffix in ("[None]", "[..., None]") if lower and depth > 0 else ():
        yield guilty.edited(*(item.behind(suffix) for item in lower))
    for suffix in ("[None]", "[..., None]") if lower and depth > 0 else ():
        dim = 0 if suffix == "[None]" else depth - 1
        yield from with_dim(guilty, dim, *(item.behind(suffix) for item in lower))


def _shortest(guilty: Guilty, items: Sequence[Written]) -> Iterator[str | None]:
    """All items cut to the shortest, where they differ in one axis."""
    if not items or len({len(item.shape) for item in items}) != 1:
        return
    for axis in range(len(items[0].shape)):
        lengths = [item.shape[axis] for item in items]
        least = min(lengths)
        longer = [item for item in items if item.shape[axis] > least]
        if longer:
            heads = (item.behind(_head(len(item.shape), axis - len(item.shape), least)) for item in longer)
            yield Cut(guilty.edited(*heads))


def with_dim(guilty: Guilty, axis: int, *edits: tuple[tuple[int, int], str]) -> Iterator[str | None]:
    """The dim (second argument, or a keyword) set to `axis`, along with other edits."""
    dim = guilty.argument("dim", 1) or guilty.argument("axis")
    if dim is not None and isinstance(dim.value, int):
        yield guilty.edited((dim.span, str(axis)), *edits)
    elif isinstance(guilty.node, ast.Call) and guilty.source[guilty.span[1] - 1] == ")":
        end = guilty.span[1] - 1
        yield guilty.edited(((end, end), f", dim={axis}"), *edits)


# Shapes and axes that are named


def reshaping(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """reshape and view: reshape instead of view, -1 for one of the sizes, one size kept and -1 for the others."""
    if guilty.name == "view":
        yield guilty.renamed("reshape")
    if not guilty.tensors:
        return
    x = guilty.tensors[0]
    if guilty.name == "view":
        yield guilty.with_suffix(x, ".contiguous()")
    dim = guilty.argument("dim", 1) if guilty.name == "unflatten" else None
    count = x.value.numel() if dim is None else x.shape[dim.value]
    sizes = list(numbers([operand for operand in guilty.all if operand is not x and operand is not dim]))
    asked = [operand.value for operand in sizes]
    for guess in divisors_with_guess(asked, count):
        axis = guess.index(-1)
        yield guilty.edited((sizes[axis].span, "-1"))
    if sizes:
        for keep in [size for size in asked if size > 0 and count % size == 0][::-1][:2]:
            yield guilty.edited((_joined(sizes), f"-1, {keep}"))
        for keep in reversed(x.shape):
            if len(asked) == 2 and keep not in (0, count):
                yield guilty.edited((_joined(sizes), f"-1, {keep}"))
        yield guilty.edited((_joined(sizes), "-1"))


def axes(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """A dim out of range: counted from 1, the last, any other; or the tensor with a batch axis."""
    low, high = found.int("low"), found.int("high")
    got = found.int("got")
    if low is None or high is None or got is None:
        return
    named = list(numbers(guilty.all))
    wrong = [operand for operand in named if operand.value == got]
    taken = {operand.value % (high + 1) for operand in named if operand.value != got}
    candidates = (got - 1, got + 1, high, *range(high, -1, -1))
    order = [axis for axis in candidates if low <= axis <= high and axis % (high + 1) not in taken]
    for operand in wrong:
        for axis in dict.fromkeys(order):
            yield guilty.edited((operand.span, str(axis)))
    for operand in guilty.tensors[:1]:
        yield guilty.with_suffix(operand, "[None]")
        yield guilty.with_suffix(operand, "[..., None]")
    if not wrong and guilty.name in ("T", "mT", "t", "diagonal"):
        yield from anything(guilty, found)


def permuting(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """permute: the axes that are missing at the end, those that aren't there left out, repeated ones replaced."""
    if not guilty.tensors:
        return
    depth = len(guilty.tensors[0].shape)
    given = list(numbers([operand for operand in guilty.all if operand is not guilty.tensors[0]]))
    if not given:
        return
    kept = list(dict.fromkeys(operand.value % depth for operand in given if -depth <= operand.value < depth))
    rest = [axis for axis in range(depth) if axis not in kept]
    yield guilty.edited((_joined(given), listed([*kept, *rest])))
    yield guilty.edited((_joined(given), listed([*rest, *kept])))


def indexing(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """A subscript that isn't there: the last entry, one less, another axis, one index fewer."""
    if not guilty.operands:
        return
    x, *rest = guilty.operands
    if isinstance(x.value, Tensor) and isinstance(guilty.node, ast.Subscript):
        yield from _subscripts(guilty, x, rest[0], found)
    size, index = found.int("size"), found.int("index")
    for operand in rest:
        if isinstance(operand.value, int) and operand.value == index:
            yield guilty.edited((operand.span, "-1"))
        if isinstance(operand.value, Tensor) and not operand.value.is_floating_point():
            yield from _index_tensor(guilty, operand, size, x)
    for item in rest[0].items if rest else ():
        if isinstance(item.value, Tensor) and not item.value.is_floating_point():
            yield from _index_tensor(guilty, item, size, x)
    lengths = found.shape("shape")
    axis = found.int("axis")
    if lengths is not None and axis is not None:
        for operand in rest:
            if isinstance(operand.value, int) and operand.value == index:
                yield guilty.edited((operand.span, str(lengths[axis] - 1)))


def _subscripts(guilty: Guilty, x: Written, key: Written, found: Found) -> Iterator[str | None]:
    index, size = found.int("index"), found.int("size")
    parts = key.items or (key,)
    for position, part in enumerate(parts):
        if not isinstance(part.value, int) or isinstance(part.value, bool) or part.value != index:
            continue
        if size is not None and part.value == size and size > 0:
            yield guilty.edited((part.span, str(size - 1)))
        if size:
            yield guilty.edited((part.span, "-1" if part.value > 0 else "0"))
        if len(parts) == 2:
            first, second = parts
            yield guilty.edited((first.span, second.text), (second.span, first.text))
        if len(parts) == 1 and len(x.shape) > 1:
            yield guilty.edited((part.span, f"..., {part.text}"))
        del position
    if x.value.ndim == 0:
        yield guilty.edited((guilty.span, x.bracketed))
        yield guilty.with_suffix(x, "[None]")
    if index is None and x.value.ndim < len(parts):
        kept = parts[: x.value.ndim]
        yield guilty.edited((_joined(parts), ", ".join(part.text for part in kept))) if kept else None
        yield guilty.edited((_joined(parts), ", ".join(part.text for part in parts[1:]))) if kept else None
        yield guilty.with_suffix(x, "[None]")
    if isinstance(key.value, Tensor) and key.value.dtype == torch.bool and x.shape:
        yield guilty.edited(((key.span), f"{key.bracketed}.expand({listed(x.shape)})"))
        yield guilty.edited(((key.span), f"..., {key.text}"))
        yield cut(guilty, x, f"[:{len(key.value)}]") if key.value.ndim == 1 else None
        yield guilty.edited((key.span, f"{key.bracketed}[:{x.shape[0]}]")) if key.value.ndim == 1 else None
        yield guilty.edited((key.span, f"{key.bracketed}.T")) if key.value.ndim == 2 else None
    tensors = [part for part in parts if isinstance(part.value, Tensor)]
    if len(tensors) == 2:
        yield guilty.edited(tensors[0].behind("[:, None]"))
    for part in tensors:
        if part.value.is_floating_point():
            yield guilty.edited(part.behind(".long()"))


def _index_tensor(guilty: Guilty, index: Written, size: int | None, x: Written) -> Iterator[str | None]:
    """Indices that are too large, or of another depth than gather wants."""
    dim = guilty.argument("dim", 1)
    if size is None and isinstance(x.value, Tensor):
        axis = dim.value if dim is not None and isinstance(dim.value, int) else 0
        size = x.shape[axis] if -x.value.ndim <= axis < x.value.ndim else None
    sizes = [] if size is None else [size]
    largest = int(index.value.max()) if index.value.numel() else 0
    for length in sizes:
        if length and largest == length:
            yield guilty.with_suffix(index, " - 1") if index.atomic else None
        if length and largest >= length:
            yield guilty.with_suffix(index, f".clamp(max={length - 1})")
    yield guilty.with_suffix(index, "[:, None]") if index.value.ndim == 1 else None
    yield guilty.with_suffix(index, "[None]") if index.value.ndim == 1 else None


def gathering(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """gather and its like: an index of as many axes, the other dim, or cut to the tensor's size."""
    yield from indexing(guilty, found)
    for axis in range(max((len(operand.shape) for operand in guilty.tensors), default=0)):
        yield from with_dim(guilty, axis)
    if len(guilty.tensors) > 1:
        x, index = guilty.tensors[0], guilty.tensors[1]
        if len(index.shape) == len(x.shape):
            yield cut(guilty, index, f"[{', '.join(f':{size}' for size in x.shape)}]")


# Layers


def convolving(guilty: Guilty, found: Found) -> Iterator[str | None]:
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


def pooling(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """A smaller window, or padding."""
    lengths = [int(size) for size in re.findall(r"\d+", found.groups.get("given", ""))]
    least = min(lengths[1:] or lengths or guilty.tensors[0].shape[-1:] if guilty.tensors else [1], default=1)
    for operand in numbers(guilty.all[1:]):
        yield guilty.edited((operand.span, str(max(1, least)))) if operand.value > least else None
    yield from convolving(guilty, found)


def lettering(guilty: Guilty, found: Found) -> Iterator[str | None]:
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


# dtypes

CASTS = {
    torch.float32: ".float()", torch.float64: ".double()", torch.int64: ".long()", torch.bool: ".bool()",
    torch.float16: ".half()", torch.bfloat16: ".bfloat16()", torch.complex64: ".cfloat()", torch.complex128: ".cdouble()",
}  # fmt: skip


def casting(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """The operand that loses nothing cast to the other's dtype, then the reverse; integers to floats."""
    yield from out_of_place(guilty)
    tensors = [*guilty.tensors, *guilty.listed]
    dtypes = list(dict.fromkeys(operand.value.dtype for operand in tensors))
    if len(dtypes) > 1:
        common = dtypes[0]
        for dtype in dtypes[1:]:
            common = torch.promote_types(common, dtype)
        for target in dict.fromkeys((common, *dtypes)):
            others = [operand for operand in tensors if operand.value.dtype != target]
            yield guilty.edited(*(operand.behind(CASTS.get(target, f".to({target})")) for operand in others))
    for suffix in (".float()", ".long()", ".bool()"):
        for operand in tensors:
            yield guilty.with_suffix(operand, suffix)
    if isinstance(guilty.node, ast.Subscript) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[1], ".long()")
    for operand in tensors:
        yield guilty.with_suffix(operand, ".real") if operand.value.is_complex() else None


def turning(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """t() and .mT of other depths: the last two axes, all axes reversed, a vector as a column."""
    for x in guilty.tensors[:1]:
        depth = len(x.shape)
        yield guilty.rewritten(f"{x.bracketed}.mT") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}.permute({listed(range(depth)[::-1])})") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}[:, None]") if depth == 1 else None
        yield guilty.with_suffix(x, "[None]") if depth == 1 else None


def normalising(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """layer_norm: the last axes that are there; cross: the axis of length 3."""
    for x in guilty.tensors[:1]:
        sizes = list(numbers(guilty.all[1:]))
        if guilty.name == "layer_norm" and sizes and len(sizes) <= len(x.shape):
            yield guilty.edited((_joined(sizes), listed(x.shape[-len(sizes) :]) + ("," if len(sizes) == 1 else "")))
            yield guilty.edited((_joined(sizes), listed(x.shape[-len(sizes) :])))
        for axis, size in enumerate(x.shape):
            dim = guilty.argument("dim", 2)
            if guilty.name == "cross" and size == 3 and dim is not None:
                yield guilty.edited((dim.span, str(axis)))


def squaring(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """Matrices that aren't square: the pseudo-inverse, or A·Aᵀ."""
    yield guilty.renamed("pinv") if guilty.name == "inv" else None
    for operand in guilty.tensors[:1]:
        if len(operand.shape) > 1:
            suffix = transposed(operand.shape)
            yield guilty.edited((operand.outer, f"{operand.bracketed} @ {operand.bracketed}{suffix}"))


def splitting(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """split: the last size as large as is left; narrow: the length that is left."""
    total = found.int("total")
    sizes = [operand for operand in numbers(guilty.all) if operand.value is not total]
    listed_sizes = next((operand.items for operand in guilty.all if operand.items), ())
    if total is not None and listed_sizes:
        rest = total - sum(item.value for item in listed_sizes[:-1])
        if rest >= 0:
            yield guilty.edited((listed_sizes[-1].span, str(rest)))
        more = total - sum(item.value for item in listed_sizes)
        yield guilty.edited((_joined(listed_sizes), listed([*(item.value for item in listed_sizes), more])))
    start, length, size = found.int("start"), found.int("length"), found.int("size")
    for operand in sizes:
        if length is not None and size is not None and operand.value == length:
            yield guilty.edited((operand.span, str(max(0, size - (start or 0)))))


def limiting(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """topk and its like: as many as there are."""
    for operand in numbers(guilty.all[1:]):
        for size in sorted({length for tensor in guilty.tensors for length in tensor.shape}, reverse=True):
            yield guilty.edited((operand.span, str(size))) if operand.value > size else None


def repeating(guilty: Guilty, found: Found) -> Iterator[str | None]:
    """repeat: 1 for the axes that are missing."""
    given = list(numbers(guilty.operands[1:]))
    if given and guilty.tensors:
        missing = len(guilty.tensors[0].shape) - len(given)
        values = [operand.value for operand in given]
        yield guilty.edited((_joined(given), listed([*values, *[1] * missing])))
        yield guilty.edited((_joined(given), listed([*[1] * missing, *values])))


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("matrix-product", "matrix-vector", "batch-product", "contraction-sizes"), products),
    **dict.fromkeys(("dot-length", "vectors-needed", "dot-dimensions", "matrix-needed", "matmul-number"), ranks),
    **dict.fromkeys(
        ("broadcast-sizes", "broadcast-refused", "broadcast-argument", "loss-shapes", "in-place-broadcast"), broadcasting
    ),
    **dict.fromkeys(("expand-size", "expand-axes"), expanding),
    "index-assignment": assigning,
    **dict.fromkeys(("cat-sizes", "cat-axes", "cat-number", "stack-sizes"), joining),
    **dict.fromkeys(
        ("reshape-count", "view-stride", "one-inferred", "unflatten-count", "negative-size", "ambiguous-minus-one"), reshaping
    ),
    "axis-range": axes,
    **dict.fromkeys(("permute-axes", "repeated-axis"), permuting),
    **dict.fromkeys(
        ("index-range", "too-many-indices", "number-indexed", "mask-shape", "lookup-range", "index-tensors"), indexing
    ),
    **dict.fromkeys(("gather-sizes", "index-vector"), gathering),
    **dict.fromkeys(("conv-channels", "conv-depth", "conv-weight", "conv-bias", "kernel-size"), convolving),
    "pool-size": pooling,
    **dict.fromkeys(("einsum-sizes", "einsum-letters", "einsum-operands", "einsum-output", "einsum-diagonal"), lettering),
    **dict.fromkeys(
        ("same-dtype", "found-dtype", "mean-of-integers", "result-type", "not-for-dtype", "index-dtype", "condition-dtype"),
        casting,
    ),
    **dict.fromkeys(("square-needed", "solve-shapes"), squaring),
    **dict.fromkeys(("split-sizes", "narrow-range"), splitting),
    "t-of-more-axes": turning,
    **dict.fromkeys(("layer-norm", "cross-length"), normalising),
    "top-k": limiting,
    "repeat-axes": repeating,
}  # fmt: skip
"""The id of a known message to the family of repairs that it suggests."""


def first_that_work(sources: Iterator[str], works: Callable[[str], bool], most: int, tries: int) -> list[str]:
    """The first `most` sources that work, of at most `tries`; a cut only if nothing else does."""
    found: list[str] = []
    for number, source in enumerate(sources):
        if number >= tries or len(found) >= most or (found and isinstance(source, Cut)):
            break
        if works(source):
            found.append(source)
    return found
