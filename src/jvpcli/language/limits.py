"""What an expression may take: steps, lists, plain numbers, memory.  Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jvpcli.errors import LimitError
from jvpcli.program import Operand, Pack

MAX_STEPS = 100_000
"""Steps of one evaluation, comprehensions unrolled."""

MAX_ITEMS = 500_000
"""Items of a list and the lists in it."""

MAX_MOVED = 1_000_000
"""List items copied in one evaluation."""

MAX_LEVELS = 50
"""Lists inside each other."""

MAX_EQUATIONS = 1_000_000
"""Equations carried out in one evaluation, those on plain numbers and names among them."""

MAX_CALLS = 40
"""Functions of a program inside each other."""

MAX_BITS = 4096
"""Size of a plain integer; the largest float has 1024."""


def check_steps(count: int) -> None:
    """Refuse another step beyond the limit."""
    if count >= MAX_STEPS:
        raise LimitError(f"The expression takes more than {MAX_STEPS:,} steps.")


def check_equations(count: int) -> None:
    """Refuse to carry out more than is sensible."""
    if count > MAX_EQUATIONS:
        raise LimitError(f"The program carries out more than {MAX_EQUATIONS:,} operations.")


def check_turns(count: int) -> None:
    """Refuse to go through more items than steps are allowed."""
    if count > MAX_STEPS:
        raise LimitError(f"Going through {count:,} items would take more than {MAX_STEPS:,} steps.")


def length(items: Any) -> int:
    """How many items there are; of a range, however long."""
    if isinstance(items, range):
        return max((items.stop - items.start + items.step - (1 if items.step > 0 else -1)) // items.step, 0)
    return len(items)


def check_moved(count: int) -> None:
    """Refuse to copy more list items than is sensible."""
    if count > MAX_MOVED:
        raise LimitError(f"The expression copies more than {MAX_MOVED:,} list items.")


MAX_ENTRIES = 1000
"""Entries of a dictionary: keys may be chosen so that each look-up goes through all of them."""


def check_entries(count: int) -> None:
    """Refuse a dictionary of more entries than the limit."""
    if count > MAX_ENTRIES:
        raise LimitError(f"A dictionary would hold {count:,} entries; at most {MAX_ENTRIES:,} are allowed.")


def check_items(count: int, kind: str = "list") -> None:
    """Refuse a list or tuple beyond the limit."""
    if count > MAX_ITEMS:
        raise LimitError(f"A {kind} would hold {count:,} items; at most {MAX_ITEMS:,} are allowed.")


def pack(kind: str, items: Sequence[Operand]) -> Pack:
    """A list or tuple of operands, unless it would be too large when written out."""
    packed = Pack(kind, tuple(items))
    check_items(packed.size, kind)
    if packed.depth > MAX_LEVELS:
        raise LimitError(f"Lists can't be nested more than {MAX_LEVELS} deep.")
    return packed


def check_plain(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse arithmetic on plain numbers that would grow without bound, and walks through endless ranges.

    Tensors are not this function's matter: their elements have a fixed size.
    """
    for value in arguments:
        if type(value) is range and op != "builtin:len":
            check_turns(length(value))
    bits_of = _RESULT_BITS.get(op)
    if bits_of is None:
        return
    numbers = _integers((*arguments, *keywords.values()))
    if numbers is None:
        return
    bits = bits_of(*numbers)
    if bits > MAX_BITS:
        raise LimitError(f"A number of about {_count(bits)} bits would be needed; at most {MAX_BITS:,} are allowed.")


def _integers(values: Sequence[Any]) -> list[int] | None:
    """The plain integers among the arguments (of lists too); None if anything else is there."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, (list, tuple)):
            inner = _integers(value)
            if inner is None:
                return None
            numbers += inner
        elif isinstance(value, int):
            numbers.append(value)
        else:
            return None
    return numbers


def _product_bits(*numbers: int) -> int:
    return sum(number.bit_length() for number in numbers)


def _arrangement_bits(n: int = 0, k: int | None = None, *_: int) -> int:
    return (n if k is None else k) * n.bit_length() if n > 1 and (k is None or 0 <= k <= n) else 0


_RESULT_BITS: Mapping[str, Callable[..., int]] = {
    "op:pow": lambda base=0, exponent=1, *_: base.bit_length() * exponent if abs(base) > 1 and exponent > 0 else 0,
    "op:mul": _product_bits,
    "op:lshift": lambda number=0, shift=0, *_: number.bit_length() + shift if number else 0,
    "call:math.factorial": lambda n=0, *_: int(n * max(math.log2(n), 1)) if n > 1 else 0,
    "call:math.comb": lambda n=0, k=0, *_: min(k, n - k) * n.bit_length() if 0 <= k <= n else 0,
    "call:math.perm": _arrangement_bits,
    "call:math.prod": _product_bits,
    "call:math.lcm": _product_bits,
    "builtin:round": lambda number=0, digits=0, *_: abs(digits) * 4,
}
"""An upper bound of the result's size in bits, from plain integer arguments."""


def _count(number: int) -> str:
    """A number that may itself be too long to write."""
    return f"{number:,}" if number.bit_length() < 200 else f"2**{number.bit_length()}"


# Numbers of JSON that no float holds, such as 1e400: Python reads them as infinity, and what was asked would be answered
# of other numbers.  They are kept as what they are until a VALUE is read from them.


class TooLarge:
    """A number beyond every float."""

    def __repr__(self) -> str:
        return "a number that is too large for a float"


TOO_LARGE = TooLarge()
"""Stands for every such number."""


def json_float(token: str) -> Any:
    """The number of a JSON token with a fraction or an exponent, for `json.loads(parse_float=…)`."""
    number = float(token)
    return TOO_LARGE if math.isinf(number) else number
