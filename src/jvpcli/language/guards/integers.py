"""Integers that are sizes, indices, dimensions or counts: none may be so large that torch's own arithmetic overflows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from jvpcli.language.guards.binding import Bound, Signature, as_integer

LARGEST = 2**31 - 1
"""The largest size, stride, padding, index, dimension or count: beyond it no tensor fits in memory anyway."""

LARGEST_PRODUCT = 2**62
"""What the sizes of one argument may come to together."""

OF_NUMBERS = frozenset({"tensor", "as_tensor", "asarray", "new_tensor", "scalar_tensor", "finfo", "iinfo"})
"""Functions whose arguments are values, in lists too."""

VALUES: Mapping[str, frozenset[str]] = {
    "randint": frozenset({"low", "high"}),
    "randint_like": frozenset({"low", "high"}),
    "random_": frozenset({"from", "to"}),
    "nonzero_static": frozenset({"fill_value"}),
    "slice_copy": frozenset({"start", "end"}),
    "slice_scatter": frozenset({"start", "end"}),
}
"""Parameters that torch types as integers and that are values, or are cut to what there is."""


def bits(values: Any) -> int:
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
            total += bits(value)
        elif isinstance(value, slice):
            total += bits((value.step,))
    return total


def problem(
    op: str, arguments: Sequence[Any], keywords: Mapping[str, Any], found: tuple[Signature, Bound] | None, ruled: bool
) -> str | None:
    """What is too large among the arguments of a call; None where nothing is.

    `found` are its arguments by name, as far as they fit a signature.  The products of `ruled` ones are judged already.
    """
    if op in ("op:getitem", "op:setitem"):
        return _step_problem(arguments[1])
    if found is None:
        return next(filter(None, (_one_problem("an integer", value) for value in (*arguments, *keywords.values()))), None)
    signature, bound = found
    values = VALUES.get(op.partition(":")[2].rpartition(".")[2], frozenset())
    for parameter in signature:
        if parameter.kind in ("integer", "integers") and parameter.name not in values and parameter.name in bound:
            wrong = _one_problem(f"`{parameter.name}`", bound[parameter.name], ruled)
            if wrong:
                return wrong
    return None


def _one_problem(name: str, value: Any, ruled: bool = True) -> str | None:
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    numbers = [number for number in map(as_integer, numbers) if isinstance(number, int)]
    for number in numbers:
        if abs(number) > LARGEST:
            return f"{name} is {in_digits(number)}, and at most {LARGEST:,} is allowed"
    product = 1 if ruled else math.prod(number for number in numbers if number)
    return f"the product of {name} is more than 2**62" if abs(product) > LARGEST_PRODUCT else None


def _step_problem(key: Any) -> str | None:
    for part in key if isinstance(key, (list, tuple)) else (key,):
        step = as_integer(part.step) if isinstance(part, slice) else None
        if isinstance(step, int) and abs(step) > LARGEST:
            return f"the step of a slice is {in_digits(step)}, and at most {LARGEST:,} is allowed"
    return None


def in_digits(number: int) -> str:
    """An integer as people read it, however long."""
    return f"{number:,}" if number.bit_length() < 200 else f"about 2**{number.bit_length()}"
