"""Integers among arguments: plain ones, in lists and slices, and in tensors of one element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGEST = 2**31 - 1
"""The largest size, stride, padding, index, dimension or count: beyond it no tensor fits in memory anyway."""

LARGEST_PRODUCT = 2**62
"""What the sizes of one argument may come to together."""

SMALL_BITS = 30
"""Together as many bits of integers can't overflow 32 bits, whatever is multiplied with what."""

OF_NUMBERS = frozenset({"tensor", "as_tensor", "asarray", "new_tensor", "scalar_tensor", "finfo", "iinfo"})
"""Functions whose arguments are values, in lists too."""

DIVISIONS = frozenset({"div", "divide", "floor_divide", "remainder", "fmod", "floordiv", "mod", "ifloordiv", "imod"})
FACTORS = frozenset({"gcd", "lcm"})
"""Functions and operators that may divide integers, but for their in-place forms."""


def bits_of(values: Any) -> int:
    """Bits of all integers among values: in lists, slices and tensors of one element too."""
    total = 0
    for value in values:
        if type(value) is int:
            total += value.bit_length()
        elif isinstance(value, Tensor):
            if not value.is_floating_point() and value.numel() == 1:
                number = as_integer(value)
                total += number.bit_length() if isinstance(number, int) else 0
        elif isinstance(value, (list, tuple)):
            total += bits_of(value)
        elif isinstance(value, slice):
            total += bits_of((value.step,))
    return total


def is_integer(value: Any) -> bool:
    """Whether torch takes a tensor for a plain integer."""
    return value.numel() == 1 and not (value.is_floating_point() or value.is_complex())


def as_integer(value: Any) -> Any:
    """A tensor of one integer as a plain integer; anything else as it is."""
    if isinstance(value, Tensor) and is_integer(value):
        whole = unbatched(value)
        return int(whole if whole is value else whole.flatten()[0])
    return value


def unbatched(tensor: Tensor) -> Tensor:
    """The tensor itself, or the stack of all points behind one that stands for many (`vmap`)."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def in_a_row(vector: Tensor) -> bool:
    """Whether the entries of a vector stand one behind the other in memory, as some of torch's functions trust."""
    return vector.numel() < 2 or vector.stride(0) == 1


def in_digits(number: int) -> str:
    """An integer as people read it, however long."""
    return f"{number:,}" if number.bit_length() < 200 else f"about 2**{number.bit_length()}"
