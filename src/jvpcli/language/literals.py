"""Numbers written out: `1,2;3,4`, JSON and nested lists, read into tensors.

What is wrong is said as a short fact (BadValueError); the caller says of which input or file.
"""

from __future__ import annotations

import cmath
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import BadValueError
from jvpcli.language.limits import TOO_LARGE, json_float
from jvpcli.language.substitution import DOUBLE

NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""What stands for numbers that JSON doesn't have, in strings or bare."""

BEYOND = "a number is too large for any dtype"
"""What is said of one that no dtype holds."""

MAX_LEVELS = 25
"""Lists inside each other."""

COMPLEX_OF = {torch.float64: torch.complex128, torch.int64: torch.complex128}
"""The complex dtype for a real one; complex64 for the others."""

_LETTERS = r"e|E|j|J|nan|NaN|inf(?:inity)?|Inf(?:inity)?"
_NUMBERS = re.compile(rf"[\s\d.,;+\-_]*(?:(?:{_LETTERS})[\s\d.,;+\-_]*)*")
_ANY_NUMBER = re.compile(r"\d|nan|inf", re.IGNORECASE)


@dataclass(eq=False)
class NotANumberError(BadValueError):
    """Something stands where a number belongs; `kind` says what it is without repeating it."""

    kind: str = "something"


def looks_like_numbers(text: str) -> bool:
    """Whether a text is written with nothing but what numbers are written with."""
    return _NUMBERS.fullmatch(text) is not None and (_ANY_NUMBER.search(text) is not None or text[:1] in ",;")


def looks_like_json(text: str) -> bool:
    """Whether a text begins as JSON does."""
    return text[:1] in ("[", "{") or text in ("true", "false", "null", *NON_FINITE)


def read_numbers(text: str, dtype: torch.dtype) -> Tensor:
    """Rows separated by `;` or line ends, entries by `,`; one entry alone is 0-d, with a trailing comma a vector.

    Raises:
        BadValueError: with the place in `text`.
    """
    lines = text.strip().replace("\r\n", "\n")
    rows = re.split("[;\n]", lines)
    if len(rows) == 1:
        row = _row(lines, 0, lines)
        return to_tensor(row[0] if len(row) == 1 and "," not in lines else row, dtype)
    if rows[-1].strip() == "":
        rows.pop()
    starts = list(accumulate((len(row_text) + 1 for row_text in rows[:-1]), initial=0))
    matrix = [_row(row_text, start, lines) for row_text, start in zip(rows, starts, strict=True)]
    if len({len(row) for row in matrix}) > 1:
        first = len(matrix[0])
        odd = next(index for index, row in enumerate(matrix) if len(row) != first)
        counts = f"row 0 has {_entries(first)}, row {odd} has {_entries(len(matrix[odd]))}"
        raise BadValueError(f"its rows differ in length: {counts}", source=lines,
                            span=(starts[odd], starts[odd] + len(rows[odd])))  # fmt: skip
    return to_tensor(matrix, dtype)


def _row(row: str, start: int, text: str) -> list[Any]:
    """The numbers of one row, which begins at `start` in the text."""
    fields = row.split(",")
    if len(fields) > 1 and fields[-1].strip() == "":
        fields.pop()
    numbers = []
    for field in fields:
        numbers.append(_number(field.strip(), start + len(field) - len(field.lstrip()), text))
        start += len(field) + 1
    return numbers


def _number(token: str, at: int, text: str) -> Any:
    span = (at, at + max(len(token), 1))
    for kind in (int, float, complex):
        try:
            number = kind(token)
        except ValueError:
            continue
        if isinstance(number, float) and math.isinf(number) and "inf" not in token.lower():
            raise BadValueError(BEYOND, source=text, span=span)
        return number
    if not token:
        raise BadValueError("a number is missing", source=text, span=span)
    hints = [f"Separate numbers by commas: {','.join(token.split())}"] if len(token.split()) > 1 else []
    raise NotANumberError(f"`{token}` is not a number", source=text, span=span, hints=hints, kind=_kind(token))


def _kind(token: str) -> str:
    """What a text that is no number is."""
    words = token.split()
    return "more than one number" if len(words) > 1 and all(map(looks_like_numbers, words)) else "text"


BARE_DOT = re.compile(r"(?<=\d)\.(?=[\s,\]}]|$)")
"""The dot of `1.`, as Python writes it and JSON does not."""


def parse_json(text: str) -> Any:
    """The text as JSON; `1.` is 1, `NaN` and `Infinity` may stand bare, and what no float holds is `TOO_LARGE`.

    Raises:
        BadValueError: with the place.
    """
    try:
        return json.loads(BARE_DOT.sub(" ", text), parse_float=json_float)
    except json.JSONDecodeError as error:
        fact = error.msg.partition(": ")[0]  # without the character that is wrong
        message = f"it isn't valid JSON: {fact[:1].lower()}{fact[1:]}"
        raise BadValueError(message, source=text, span=(error.pos, error.pos + 1)) from None
    except (RecursionError, ValueError) as error:
        deep = isinstance(error, RecursionError)
        raise BadValueError("it nests too deeply" if deep else "a number in it is too long") from None


def to_tensor(value: Any, dtype: torch.dtype, pairs: bool = False) -> Tensor:
    """A number or nested lists of numbers as a tensor.

    Complex numbers take the complex dtype of the precision asked for, all-boolean lists become boolean.  With `pairs`,
    where a complex dtype is asked for, lists of two numbers at the innermost level are [re, im], as JSON writes them.

    Raises:
        BadValueError: it is ragged, or something in it is no number or doesn't fit the dtype.
    """
    kinds: set[type] = set()
    plain = _checked(value, (), kinds)
    if kinds == {bool}:
        return torch.tensor(plain, dtype=torch.bool)
    if pairs and dtype.is_complex and isinstance(plain, list) and complex not in kinds:
        plain = _join_pairs(plain)
    if complex in kinds and not dtype.is_complex:
        dtype = COMPLEX_OF.get(dtype, torch.complex64)
    if float in kinds and not (dtype.is_floating_point or dtype.is_complex):
        plain = _whole(plain, dtype)
    try:
        found = torch.tensor(plain, dtype=dtype)
    except (RuntimeError, OverflowError, ValueError, TypeError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise BadValueError(f"{first[:1].lower()}{first[1:]}", torch_message=str(error)) from None
    wide = DOUBLE.get(dtype)
    if wide is not None and not (cmath.isfinite(found.sum().item()) or bool(found.isfinite().all())):
        written = torch.tensor(plain, dtype=wide)
        if bool((written.isfinite() & ~found.isfinite()).any()):
            raise BadValueError(
                f"a number is too large for {_name(dtype)}, whose largest is {torch.finfo(dtype).max:g}",
                hints=[f"Use --dtype {_name(wide)}."],
            )
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _checked(value: Any, place: tuple[int, ...], kinds: set[type]) -> Any:
    """The value with its non-finite names as numbers; every list of the same shape; `kinds` gathers what is in it."""
    if isinstance(value, (list, tuple)):
        if len(place) >= MAX_LEVELS:
            raise BadValueError(f"it nests more than {MAX_LEVELS} levels deep")
        inside = set(map(type, value))
        if inside <= {float}:  # the usual case, at once
            kinds |= inside
            return list(value)
        items = [_checked(item, (*place, index), kinds) for index, item in enumerate(value)]
        shapes = [_shape(item) for item in items]
        odd = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), None)
        if odd is not None:
            raise _ragged(items, odd, place)
        return items
    if isinstance(value, str) and value in NON_FINITE:
        kinds.add(float)
        return NON_FINITE[value]
    if value is TOO_LARGE:
        raise BadValueError(BEYOND)
    if isinstance(value, bool) or not isinstance(value, (int, float, complex)):
        if isinstance(value, bool):
            kinds.add(bool)
            return value
        at = f" at {list(place)}" if place else ""
        kind = "null" if value is None else f"something of type {type(value).__name__}"
        shown, kind = (repr(value), "text") if isinstance(value, str) else (kind, kind)
        raise NotANumberError(f"{shown}{at} is not a number", kind=f"{kind}{at}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = _as_float(value)
    kinds.add(type(value))
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise BadValueError(BEYOND) from None


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a list that was checked inside."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _ragged(items: Sequence[Any], odd: int, place: tuple[int, ...]) -> BadValueError:
    """Lists of different shapes side by side."""

    def described(index: int) -> str:
        where = "".join(f"[{i}]" for i in (*place, index))
        item = items[index]
        if not isinstance(item, list):
            return f"{where} is a plain number"
        shape = _shape(item)
        return f"{where} has {_entries(len(item))}" if len(shape) == 1 else f"{where} has shape {shape}"

    return BadValueError(f"it is ragged: {described(0)}, {described(odd)}")


def _entries(count: int) -> str:
    return f"{count} entr{'y' if count == 1 else 'ies'}"


def _whole(value: Any, dtype: torch.dtype) -> Any:
    """Floats that are whole numbers as integers."""
    if isinstance(value, list):
        return [_whole(item, dtype) for item in value]
    if isinstance(value, float):
        if not value.is_integer():
            raise BadValueError(f"{value} is no whole number, as {_name(dtype)} needs")
        return int(value)
    return value


def _join_pairs(value: list[Any]) -> Any:
    """[re, im] pairs at the innermost level as complex numbers, if that level has two entries."""
    if value and isinstance(value[0], list):
        return [_join_pairs(item) for item in value]
    return complex(*value) if len(value) == 2 else value
