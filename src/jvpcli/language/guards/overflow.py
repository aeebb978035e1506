"""Integers that are too large: as sizes and indices, as turns of a loop, and for a division that has no result then."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.guards.binding import Bound, Rule, Signature, bind
from jvpcli.language.guards.integers import FACTORS, LARGEST, LARGEST_PRODUCT, as_integer, in_digits, unbatched

# Sizes, indices, dimensions or counts: none may be so large that torch's own arithmetic overflows

VALUES: Mapping[str, frozenset[str]] = {
    "randint": frozenset({"low", "high"}),
    "randint_like": frozenset({"low", "high"}),
    "random_": frozenset({"from", "to"}),
    "nonzero_static": frozenset({"fill_value"}),
    "slice_copy": frozenset({"start", "end"}),
    "slice_scatter": frozenset({"start", "end"}),
}
"""Parameters that torch types as integers and that are values, or are cut to what there is."""


def too_large(
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


# Integers whose value, not whose size in memory, sets how long a function takes: it goes round a loop so many times

MOST_TURNS = 1_000_000
"""Turns of such a loop."""

POLYNOMIALS = (
    *(f"{kind}chebyshev_polynomial_{letter}" for kind in ("", "shifted_") for letter in "tuvw"),
    *("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p"),
)


def _degree(bound: Bound) -> str | None:
    n = bound["n"]
    if isinstance(n, Tensor):
        values = unbatched(n).detach()
        if not values.numel():
            return None
        n = values.max().item()  # NaN where there is one: no degree
    return _beyond("the degree", n)


def _counted(name: str) -> Callable[[Bound], str | None]:
    """Turns given by an argument; None is torch's own number of them."""

    def rule(bound: Bound) -> str | None:
        return None if bound.get(name) is None else _beyond(f"`{name}`", bound[name])

    return rule


def _axes(bound: Bound) -> str | None:
    dims, axes = bound.get("dims", 2), min(bound["a" if "a" in bound else "input"].ndim, bound["b"].ndim)
    if not isinstance(dims, int) or dims <= axes:
        return None
    return f"`dims` is {in_digits(dims)}, and the tensor of fewer axes has {axes}"


def _beyond(name: str, count: Any) -> str | None:
    if count <= MOST_TURNS or count != count:
        return None
    said = in_digits(count) if isinstance(count, int) else f"{count:g}"
    return f"{name} is {said}, and it would take as many turns of a loop; at most {MOST_TURNS:,} are allowed"


FEW_BITS = 8
"""Together as many bits of integers make no loop that anybody waits for."""

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(POLYNOMIALS, Rule(_degree, of_turns=True)),  # whose degree may be a tensor of many
    **dict.fromkeys(("lobpcg", "svd_lowrank", "pca_lowrank"), Rule(_counted("niter"), FEW_BITS, of_turns=True)),
    "tensordot": Rule(_axes, FEW_BITS, of_turns=True),
}
"""Function or method name to its rule."""


# Integer division that ends the process: the smallest integer by -1 has no result, and the processor stops there

ROUNDED = frozenset({"div", "divide"})
"""Divisions that are of integers only if they round."""


def division_problem(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str | None:
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
