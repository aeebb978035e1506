"""Views by sizes and strides, and windows that slide over a tensor: pools, convolutions, unfold and fold.

What they reach is computed in Python's integers, whose sums and products don't overflow as torch's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jvpcli.language.guards.binding import Bound, Rule
from jvpcli.language.guards.integers import LARGEST, LARGEST_PRODUCT, SMALL_BITS, in_digits

Asked = Callable[[Bound], str | None]

# Views


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
    needed, there = extent(sizes, strides, offset), tensor.untyped_storage().nbytes() // tensor.element_size()
    return None if needed <= there else f"it would reach {in_digits(needed)} places, and the tensor's memory has {there:,}"


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


def _repeated(name: str) -> Asked:
    """The tensor as often as the product of an argument says."""

    def rule(bound: Bound) -> str | None:
        counts = bound[name] if isinstance(bound[name], tuple) else (bound[name],)
        elements = bound["input"].numel() * math.prod(abs(count) for count in counts if count)
        return "it would have more than 2**62 elements" if elements > LARGEST_PRODUCT else None

    return rule


# Windows


def _axes(value: Any, count: int, default: int) -> Sequence[int]:
    """One number for each axis."""
    if value is None or value == ():
        return (default,) * count
    numbers = value if isinstance(value, tuple) else (value,)
    return numbers * count if len(numbers) == 1 else numbers


def _fit(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> str | None:
    """A window on one axis lies within the padded input, and nothing about it is beyond 32 bits."""
    reach, padded = dilation * (kernel - 1) + 1, size + 2 * padding
    if max(abs(reach), abs(padded), abs(stride)) > LARGEST:
        return f"an axis would have {in_digits(max(abs(reach), abs(padded), abs(stride)))} places with its padding"
    if reach > padded + (stride - 1 if ceil else 0):
        return f"the window reaches over {reach:,} places, and the padded input has {padded:,}"
    return None


def _all_fit(sizes: Sequence[int], kernels: Sequence[int], bound: Bound) -> str | None:
    """Windows on all axes of a bound call."""
    count = len(sizes)
    strides = _axes(bound.get("stride"), count, 1)
    strides = strides if bound.get("stride") not in (None, ()) or "weight" in bound else kernels
    paddings, dilations = _axes(bound.get("padding"), count, 0), _axes(bound.get("dilation"), count, 1)
    for axis in zip(sizes, kernels, strides, paddings, dilations, strict=True):
        wrong = _fit(*axis, ceil=bool(bound.get("ceil_mode")))
        if wrong:
            return wrong
    return None


def _pool(count: int) -> Asked:
    def rule(bound: Bound) -> str | None:
        return _all_fit(bound["input"].shape[-count:], _axes(bound["kernel_size"], count, 1), bound)

    return rule


def _unfold(bound: Bound) -> str | None:
    if "dimension" in bound:  # Tensor.unfold
        step, size = bound["step"], bound["size"]
        return f"`size` and `step` are at most {LARGEST:,}" if max(step, size) > LARGEST else None
    return _all_fit(bound["input"].shape[-2:], _axes(bound["kernel_size"], 2, 1), {"stride": 1, **bound})


def _fold(bound: Bound) -> str | None:
    kernels = _axes(bound["kernel_size"], 2, 1)
    sizes = _axes(bound["output_size"], 2, 1)
    wrong = _all_fit(sizes, kernels, {"stride": 1, **bound})
    if wrong:
        return wrong
    strides, paddings = _axes(bound.get("stride"), 2, 1), _axes(bound.get("padding"), 2, 0)
    dilations = _axes(bound.get("dilation"), 2, 1)
    blocks = math.prod(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(sizes, kernels, strides, paddings, dilations, strict=True)
    )
    columns = bound["input"].shape[-1]
    return None if blocks == columns else f"the output has {in_digits(blocks)} blocks, and the input {columns:,} columns"


def _convolution(bound: Bound) -> str | None:
    if bound.get("transposed"):
        return _transposed(bound)
    if isinstance(bound.get("padding"), str):
        if max(_axes(bound.get("dilation"), 1, 1)) > LARGEST:
            return f"`dilation` is at most {LARGEST:,}"
        return None
    kernels = bound["weight"].shape[2:]
    return _all_fit(bound["input"].shape[-len(kernels) :], kernels, bound)


def _transposed(bound: Bound) -> str | None:
    kernels = bound["weight"].shape[2:]
    count = len(kernels)
    for size, kernel, stride, padding, dilation, extra in zip(
        bound["input"].shape[-count:],
        kernels,
        _axes(bound.get("stride"), count, 1),
        _axes(bound.get("padding"), count, 0),
        _axes(bound.get("dilation"), count, 1),
        _axes(bound.get("output_padding"), count, 0),
        strict=True,
    ):
        reach = (size - 1) * stride + dilation * (kernel - 1) + extra + 1
        if max(abs(reach), abs(stride), abs(2 * padding), abs(dilation)) > LARGEST:
            return f"an axis would have {in_digits(max(abs(reach), abs(2 * padding)))} places with its padding"
        if reach - 2 * padding < 1:
            return f"the output would have {reach - 2 * padding:,} places on an axis"
    return None


def _table() -> Mapping[str, Asked]:
    rules: dict[str, Asked] = {
        **dict.fromkeys(("as_strided", "as_strided_", "as_strided_copy", "as_strided_scatter"), _by_strides),
        **dict.fromkeys(("view", "view_copy", "reshape"), _by_shape),
        "unflatten": _unflattened,
        **dict.fromkeys(("expand", "expand_copy", "broadcast_to"), _expanded),
        "repeat": _repeated("repeats"),
        "tile": _repeated("dims"),
        "unfold": _unfold, "unfold_copy": _unfold, "fold": _fold, "convolution": _convolution,
    }  # fmt: skip
    for count in (1, 2, 3):
        for kind in ("max", "avg", "lp"):
            rules[f"{kind}_pool{count}d"] = rules[f"{kind}_pool{count}d_with_indices"] = _pool(count)
        rules[f"conv{count}d"], rules[f"conv_transpose{count}d"] = _convolution, _transposed
    return rules


RULES: Mapping[str, Rule] = {name: Rule(asked, SMALL_BITS) for name, asked in _table().items()}
"""Function or method name to its rule, asked where integers are so large that sums or products of them may overflow."""
