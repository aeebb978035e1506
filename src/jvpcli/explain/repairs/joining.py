"""cat, stack and their like."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from jvpcli.explain.guilty import Guilty, Written
from jvpcli.explain.repairs.edits import Edits, Repair, head, transposed, with_dim
from jvpcli.explain.shapes import listed
from jvpcli.explain.table.entry import Found


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
