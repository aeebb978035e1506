"""Views by sizes and strides: what they reach is computed in Python's integers, which don't overflow as torch's do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from jvpcli.language.guards.binding import Bound
from jvpcli.language.guards.integers import LARGEST_PRODUCT, in_digits


def extent(sizes: Sequence[int], strides: Sequence[int], offset: int) -> int:
    """Elements of a storage that a view needs: one more than the last place that it reaches; 0 without elements."""
    if 0 in sizes:
        return 0
    return offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1


def _by_strides(bound: Bound) -> str | None:
    tensor, sizes, strides = bound["input"], bound["size"], bound["stride"]
    offset = bound.get("storage_offset")
    offset = tensor.storage_offset() if offset is None else offset
    if len(sizes) != len(strides):
        return f"there are {len(sizes)} sizes and {len(strides)} strides"
    if min((*sizes, *strides, offset)) < 0:
        return "sizes, strides and offset can't be negative"
    if math.prod(sizes) > LARGEST_PRODUCT:
        return "it would have more than 2**62 elements"
    needed, there = extent(sizes, strides, offset), _elements_stored(tensor)
    return None if needed <= there else f"it would reach {in_digits(needed)} places, and the tensor's memory has {there:,}"


def _elements_stored(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _by_shape(bound: Bound) -> str | None:
    sizes = bound["size"] if "size" in bound else bound["shape"]
    return _same_count(sizes, bound["input"].numel())


def _unflattened(bound: Bound) -> str | None:
    return _same_count(bound["sizes"], bound["input"].shape[bound["dim"]])


def _same_count(sizes: Sequence[int], count: int) -> str | None:
    """A shape, one size of which may be -1, for that many elements."""
    known = math.prod(size for size in sizes if size != -1)
    fits = known == count if -1 not in sizes else known == 0 or count % known == 0
    return None if fits else f"the shape would have {in_digits(known)} elements, and there are {count:,}"


def _expanded(bound: Bound) -> str | None:
    """A tensor broadcast to a shape, in which -1 leaves an axis as it is."""
    sizes = bound["size"] if isinstance(bound["size"], tuple) else (bound["size"],)
    own = (1,) * max(len(sizes) - bound["input"].ndim, 0) + tuple(bound["input"].shape)
    elements = math.prod(old if size == -1 else size for size, old in zip(sizes, own, strict=False))
    return "it would have more than 2**62 elements" if abs(elements) > LARGEST_PRODUCT else None


def _repeated(name: str) -> Callable[[Bound], str | None]:
    """The tensor as often as the product of an argument says."""

    def rule(bound: Bound) -> str | None:
        counts = bound[name] if isinstance(bound[name], tuple) else (bound[name],)
        elements = bound["input"].numel() * math.prod(abs(count) for count in counts if count)
        return "it would have more than 2**62 elements" if elements > LARGEST_PRODUCT else None

    return rule


RULES: Mapping[str, Callable[[Bound], str | None]] = {
    **dict.fromkeys(("as_strided", "as_strided_", "as_strided_copy", "as_strided_scatter"), _by_strides),
    **dict.fromkeys(("view", "view_copy", "reshape"), _by_shape),
    "unflatten": _unflattened,
    **dict.fromkeys(("expand", "expand_copy", "broadcast_to"), _expanded),
    "repeat": _repeated("repeats"),
    "tile": _repeated("dims"),
}
"""Function or method name to its rule."""
