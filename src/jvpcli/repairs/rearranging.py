"""Repairs of reshapes, permutations, joins, subscripts and indices."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import torch
from torch import Tensor

from jvpcli.messages.cards import Found
from jvpcli.messages.shapes import divisors_with_guess, listed
from jvpcli.repairs.edits import (
    Edits,
    Guilty,
    Repair,
    Written,
    anything,
    cut,
    head,
    joined,
    numbers,
    transposed,
    with_dim,
)


def reshaping(guilty: Guilty, found: Found) -> Edits:
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
            yield guilty.edited((joined(sizes), f"-1, {keep}"))
        for keep in reversed(x.shape):
            if len(asked) == 2 and keep not in (0, count):
                yield guilty.edited((joined(sizes), f"-1, {keep}"))
        yield guilty.edited((joined(sizes), "-1"))


def axes(guilty: Guilty, found: Found) -> Edits:
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


def permuting(guilty: Guilty, found: Found) -> Edits:
    """permute: the axes that are missing at the end, those that aren't there left out, repeated ones replaced."""
    if not guilty.tensors:
        return
    depth = len(guilty.tensors[0].shape)
    given = list(numbers([operand for operand in guilty.all if operand is not guilty.tensors[0]]))
    if not given:
        return
    kept = list(dict.fromkeys(operand.value % depth for operand in given if -depth <= operand.value < depth))
    rest = [axis for axis in range(depth) if axis not in kept]
    yield guilty.edited((joined(given), listed([*kept, *rest])))
    yield guilty.edited((joined(given), listed([*rest, *kept])))


def turning(guilty: Guilty, found: Found) -> Edits:
    """t() and .mT of other depths: the last two axes, all axes reversed, a vector as a column."""
    for x in guilty.tensors[:1]:
        depth = len(x.shape)
        yield guilty.rewritten(f"{x.bracketed}.mT") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}.permute({listed(range(depth)[::-1])})") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}[:, None]") if depth == 1 else None
        yield guilty.with_suffix(x, "[None]") if depth == 1 else None


def splitting(guilty: Guilty, found: Found) -> Edits:
    """split: the last size as large as is left; narrow: the length that is left."""
    total = found.int("total")
    sizes = [operand for operand in numbers(guilty.all) if operand.value is not total]
    listed_sizes = next((operand.items for operand in guilty.all if operand.items), ())
    if total is not None and listed_sizes:
        rest = total - sum(item.value for item in listed_sizes[:-1])
        if rest >= 0:
            yield guilty.edited((listed_sizes[-1].span, str(rest)))
        more = total - sum(item.value for item in listed_sizes)
        yield guilty.edited((joined(listed_sizes), listed([*(item.value for item in listed_sizes), more])))
    start, length, size = found.int("start"), found.int("length"), found.int("size")
    for operand in sizes:
        if length is not None and size is not None and operand.value == length:
            yield guilty.edited((operand.span, str(max(0, size - (start or 0)))))


# cat and stack


def joining(guilty: Guilty, found: Found) -> Edits:
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


def _lifted(guilty: Guilty, items: Sequence[Written], depth: int) -> Edits:
    """Every item of fewer axes with one more, in front or behind."""
    lower = [item for item in items if len(item.shape) == depth - 1]
    for suffix in ("[None]", "[..., None]") if lower and depth > 0 else ():
        yield guilty.edited(*(item.behind(suffix) for item in lower))
    for suffix in ("[None]", "[..., None]") if lower and depth > 0 else ():
        dim = 0 if suffix == "[None]" else depth - 1
        yield from with_dim(guilty, dim, *(item.behind(suffix) for item in lower))


def _shortest(guilty: Guilty, items: Sequence[Written]) -> Edits:
    """All items cut to the shortest, where they differ in one axis."""
    if not items or len({len(item.shape) for item in items}) != 1:
        return
    for axis in range(len(items[0].shape)):
        lengths = [item.shape[axis] for item in items]
        least = min(lengths)
        longer = [item for item in items if item.shape[axis] > least]
        if longer:
            heads = (item.behind(head(len(item.shape), axis - len(item.shape), least)) for item in longer)
            yield Repair(guilty.edited(*heads), drops=True)


# Subscripts, indices and how many entries there are


def indexing(guilty: Guilty, found: Found) -> Edits:
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


def _subscripts(guilty: Guilty, x: Written, key: Written, found: Found) -> Edits:
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
        yield guilty.edited((joined(parts), ", ".join(part.text for part in kept))) if kept else None
        yield guilty.edited((joined(parts), ", ".join(part.text for part in parts[1:]))) if kept else None
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


def _index_tensor(guilty: Guilty, index: Written, size: int | None, x: Written) -> Edits:
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


def gathering(guilty: Guilty, found: Found) -> Edits:
    """gather and its like: an index of as many axes, the other dim, or cut to the tensor's size."""
    yield from indexing(guilty, found)
    for axis in range(max((len(operand.shape) for operand in guilty.tensors), default=0)):
        yield from with_dim(guilty, axis)
    if len(guilty.tensors) > 1:
        x, index = guilty.tensors[0], guilty.tensors[1]
        if len(index.shape) == len(x.shape):
            yield cut(guilty, index, f"[{', '.join(f':{size}' for size in x.shape)}]")


def limiting(guilty: Guilty, found: Found) -> Edits:
    """topk and its like: as many as there are."""
    for operand in numbers(guilty.all[1:]):
        for size in sorted({length for tensor in guilty.tensors for length in tensor.shape}, reverse=True):
            yield guilty.edited((operand.span, str(size))) if operand.value > size else None
