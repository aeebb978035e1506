"""Subscripts, indices and how many entries there are."""

from __future__ import annotations

import ast

import torch
from torch import Tensor

from jvpcli.explain.guilty import Guilty, Written, numbers
from jvpcli.explain.repairs.edits import Edits, cut, joined, with_dim
from jvpcli.explain.shapes import listed
from jvpcli.explain.table.entry import Found


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
