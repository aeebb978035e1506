"""Integer division that ends the process: the smallest integer by -1 has no result, and the processor stops there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.guards.binding import bind, unbatched

DIVISIONS = frozenset({"div", "divide", "floor_divide", "remainder", "fmod", "floordiv", "mod"})
FACTORS = frozenset({"gcd", "lcm"})
ROUNDED = frozenset({"div", "divide"})
"""Divisions that are of integers only if they round."""


def divides(op: str) -> bool:
    """Whether an equation's `op` may divide integers."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2].removesuffix("_")
    torchs = kind in ("op", "method") or path.startswith("torch.")
    return torchs and (name in DIVISIONS or name in FACTORS)


def problem(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str | None:
    """What is wrong with the operands of a division; None where nothing is."""
    name = op.partition(":")[2].rpartition(".")[2].removesuffix("_")
    if name in ROUNDED and keywords.get("rounding_mode") is None:
        return None
    operands: Sequence[Any] = arguments[:2]
    if len(operands) < 2:
        found = bind(op, arguments, keywords)
        operands = [found[1].get("input"), found[1].get("other")] if found else ()
    for value in operands:
        if isinstance(value, (float, complex)) or (isinstance(value, Tensor) and value.is_floating_point()):
            return None
    divisor = operands[1] if len(operands) == 2 else None
    if type(divisor) is int and name not in FACTORS and divisor != -1 and abs(divisor) < 128:
        return None  # no dtype takes it for -1
    return _integer_problem(name, operands)


def _integer_problem(name: str, operands: Sequence[Any]) -> str | None:
    if not any(isinstance(value, Tensor) for value in operands):
        return None
    try:
        dtype = torch.result_type(*operands)
        if dtype.is_floating_point or dtype.is_complex or dtype is torch.bool:
            return None
        least = torch.iinfo(dtype).min
        left, right = (_numbers(value, dtype) for value in operands)
        if least == 0:
            return None
        if name in FACTORS:
            bad = bool((left == least).any() or (right == least).any())
            return f"the smallest {_called(dtype)}, {least:,}, has no absolute value" if bad else None
        lowest, minus_one = left == least, right == -1
        if not (bool(minus_one.any()) and bool(lowest.any())):
            return None
        batched = any(isinstance(value, Tensor) and unbatched(value) is not value for value in operands)
        if not batched and not bool((lowest & minus_one).any()):
            return None
    except (RuntimeError, TypeError, ValueError, OverflowError):
        return None  # torch itself refuses such operands
    return f"the smallest {_called(dtype)}, {least:,}, divided by -1 is more than the largest"


def _numbers(value: Any, dtype: torch.dtype) -> Tensor:
    return (unbatched(value) if isinstance(value, Tensor) else torch.tensor(value)).detach().to(dtype)


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
