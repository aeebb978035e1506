"""VALUEs: everything that an input, cotangent or tangent can be given as, read into a tensor."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import BadValueError, ExpressionSyntaxError, FileError, JvpError
from jvpcli.language.evaluate import evaluate_value
from jvpcli.language.files import read_file
from jvpcli.language.parse import parse

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8",
        "uint8", "bool", "float", "double", "half", "long", "int", "short", "cfloat", "cdouble",
    )
}  # fmt: skip
"""The names that --dtype takes."""

COMPLEX_OF = {torch.float64: torch.complex128, torch.int64: torch.complex128}
NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

_NUMBERS = re.compile(r"[\s\d.,;+\-_]*(?:(?:[eEjJ]|nan|inf(?:inity)?|NaN|Inf(?:inity)?)[\s\d.,;+\-_]*)*")
_WORD = re.compile(r"[^\W\d]\w*")


def read_value(
    value: Any,
    *,
    name: str,
    dtype: str = "float32",
    device: str = "cpu",
    scope: Mapping[str, Tensor] | None = None,
    stdin: Callable[[], str] | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
) -> Tensor:
    """Read a VALUE of the contract into a tensor.

    Text is numbers, JSON, `@file`, `-` or an expression over torch and `scope`; other objects are tensors, arrays,
    numbers, nested lists and `{"value": …, "dtype": …}`.  Numbers and JSON take `dtype`; files, arrays, tensors and
    expressions keep their own.  Random functions of an expression start from `seed`.

    Raises:
        BadValueError: it can't be read; the message names the input.
        FileError: the file can't be.
        ForbiddenError, EvaluationError, …: its expression is refused or fails.
    """
    wanted, where = read_dtype(dtype), read_device(device)
    reader = _Reader(name, wanted, scope or {}, stdin, seed, memory_limit)
    return reader.read(value).to(where)


def read_dtype(name: str) -> torch.dtype:
    """The dtype of that name ("float64", "torch.float64")."""
    short = name.removeprefix("torch.")
    if short not in DTYPES:
        near = difflib.get_close_matches(short, DTYPES, 2, 0.5) or ["float32", "float64", "complex64"]
        raise BadValueError(f"There is no dtype `{name}`.", hints=[f"Did you mean {hint}?" for hint in near])
    return DTYPES[short]


def read_device(name: str) -> torch.device:
    """The device of that name; it must be there."""
    if name == "cpu":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = (str(error).strip() or "unknown device").splitlines()[0]
        raise BadValueError(f"The device `{name}` can't be used: {first}", hints=["Use --device cpu."]) from None
    return device


def free_names(text: str) -> tuple[str, ...]:
    """The names that a VALUE's expression uses freely; none where it is numbers, JSON, a file or `-`.

    Raises: as `parse`, if it is an expression that is refused.
    """
    return parse(text.strip()).inputs if is_expression(text) else ()


def is_expression(text: str) -> bool:
    """Whether the text of a VALUE is read as an expression: not as numbers, JSON, a file or `-`."""
    text = text.strip()
    return bool(text) and not (text == "-" or text.startswith("@") or _NUMBERS.fullmatch(text) or _is_json(text))


class _Reader:
    """Reads the values of one input."""

    def __init__(
        self,
        name: str,
        dtype: torch.dtype,
        scope: Mapping[str, Tensor],
        stdin: Callable[[], str] | None,
        seed: int,
        memory_limit: int | None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.scope = scope
        self.stdin = stdin
        self.seed = seed
        self.memory_limit = memory_limit

    def fail(self, message: str, **fields: Any) -> BadValueError:
        """What can't be read, with the input's name."""
        return BadValueError(f"The value of `{self.name}` can't be read: {message}", **fields)

    def read(self, value: Any) -> Tensor:
        """A VALUE of any kind."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Mapping):
            return self.typed(value)
        if hasattr(value, "__array__") and hasattr(value, "dtype"):
            return self.array(value)
        return self.nested(value, str(value))

    def typed(self, value: Mapping[str, Any]) -> Tensor:
        """{"value": …, "dtype": …}"""
        unknown = set(value) - {"value", "dtype"}
        if "value" not in value or unknown:
            raise self.fail('an object must have "value", and may have "dtype"; nothing else.')
        dtype = value.get("dtype")
        if dtype is not None and not isinstance(dtype, str):
            raise self.fail('"dtype" must be a string, as in "float64".')
        wanted = self.dtype if dtype is None else read_dtype(dtype)
        inner = _Reader(self.name, wanted, self.scope, self.stdin, self.seed, self.memory_limit)
        result = inner.read(value["value"])
        return result if dtype is None else result.to(wanted)

    def array(self, value: Any) -> Tensor:
        """A numpy array (or what can become one)."""
        import numpy as np

        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        try:
            return torch.from_numpy(np.array(array, order="C"))
        except TypeError as error:
            raise self.fail(f"arrays of dtype {array.dtype} can't become tensors.", torch_message=str(error)) from None

    # Text

    def text(self, text: str) -> Tensor:
        """Text as on the command line."""
        stripped = text.strip()
        if stripped == "-":
            return self.from_stdin()
        if stripped.startswith("@"):
            return self.file(stripped[1:])
        return self.literal(stripped, expressions=True)

    def from_stdin(self) -> Tensor:
        """JSON or comma-separated numbers."""
        if self.stdin is None:
            raise self.fail("there is no standard input to read `-` from.")
        return self.literal(self.stdin().strip().replace("\r\n", "\n"), expressions=False)

    def literal(self, text: str, expressions: bool) -> Tensor:
        """Numbers, JSON or an expression."""
        if not text:
            raise self.fail("it is empty.", hints=["Give numbers, as in 1,2,3, or JSON, as in [] for no elements."])
        if _NUMBERS.fullmatch(text):
            return self.numbers(text)
        if text[0] in "[{" or text in ("true", "false", *NON_FINITE):
            try:
                return self.read_json(json.loads(text), text)
            except json.JSONDecodeError as error:
                if not expressions or not _WORD.search(text):
                    raise self.fail(f"it isn't valid JSON: {_lower(error.msg)}.", span=(error.pos, error.pos + 1),
                                    source=text, hints=["JSON looks like [[1,2],[3,4]]."]) from None  # fmt: skip
            except RecursionError:
                raise self.fail("it nests too deeply.") from None
        if not expressions:
            raise self.fail("it is neither JSON nor numbers separated by commas.", source=_shortened(text))
        return self.expression(text)

    def read_json(self, value: Any, text: str) -> Tensor:
        """Parsed JSON."""
        return self.typed(value) if isinstance(value, dict) else self.nested(value, text)

    def numbers(self, text: str) -> Tensor:
        """1,2;3,4: rows separated by `;`, entries by `,`; one entry is 0-d, a trailing comma makes it a vector."""
        rows = [row.strip() for row in re.split(r";|\n", text.strip())]
        if rows[-1] == "" and len(rows) > 1:
            rows.pop()
        entries = [self.row(row, text) for row in rows]
        if len(rows) == 1 and ";" not in text:
            row = entries[0]
            return self.tensor(row[0] if len(row) == 1 and "," not in text else row, text)
        lengths = {len(row) for row in entries}
        if len(lengths) > 1:
            told = ", ".join(f"row {index} has {len(row)}" for index, row in enumerate(entries))
            raise self.fail(f"its rows differ in length: {told}.", source=text)
        return self.tensor(entries, text)

    def row(self, row: str, text: str) -> list[Any]:
        """One row's numbers."""
        fields = row.split(",")
        if len(fields) > 1 and fields[-1].strip() == "":
            fields.pop()
        return [self.number(field, text) for field in fields]

    def number(self, field: str, text: str) -> Any:
        """One number."""
        token = field.strip()
        for kind in (int, float, complex):
            try:
                return kind(token)
            except ValueError:
                continue
        if not token:
            raise self.fail("a number is missing between two commas.", source=text, span=_empty_field(text))
        at = text.find(token)
        hints = [f"Separate numbers by commas: {','.join(token.split())}."] if " " in token else ()
        raise self.fail(f"`{token}` is not a number.", span=(at, at + len(token)), source=text, hints=hints)

    def expression(self, text: str) -> Tensor:
        """An expression over torch and the inputs before."""
        try:
            program = parse(text)
            unknown = [name for name in program.inputs if name not in self.scope]
            if unknown:
                at = program.input_spans[program.inputs.index(unknown[0])]
                raise self.no_such_name(unknown[0], text, at)
            result = evaluate_value(program, self.scope, seed=self.seed, memory_limit=self.memory_limit)
        except ExpressionSyntaxError as error:
            raise self.fail("it is neither numbers, JSON, a file (@…) nor an expression.", span=error.span,
                            source=text, explanation=error.message) from None  # fmt: skip
        if isinstance(result, Tensor):
            return result
        if isinstance(result, (tuple, list)) and any(isinstance(item, Tensor) for item in result):
            raise self.fail("it gives several tensors, and one is needed.", source=text,
                            hints=[f"Join them: torch.stack([{text.strip('[]()')}])"])  # fmt: skip
        return self.nested(result, text)

    def no_such_name(self, name: str, text: str, span: tuple[int, int]) -> JvpError:
        """A word that is no earlier input."""
        near = difflib.get_close_matches(name, list(self.scope), 2)
        known = f"the inputs before it are {', '.join(self.scope)}" if self.scope else "there are no inputs before it"
        hints = [f"Did you mean {hint}?" for hint in near]
        if _WORD.fullmatch(text):
            hints.append(f"For a file, write @{text}.")
        return self.fail(f"`{name}` is not a number, and {known}.", span=span, source=text, hints=hints)

    def file(self, reference: str) -> Tensor:
        """@path or @path:key."""
        found = read_file(reference, self.memory_limit)
        try:
            if found.text is None:
                return self.array(found.array) if found.tensor is None else found.tensor
            if found.is_json:
                return self.read_json(json.loads(found.text), found.text)
            return self.numbers(found.text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise FileError(f"`{found.path}` isn't valid JSON: {_lower(str(error))}.") from None
        except BadValueError as error:
            raise FileError(f"`{found.path}`: {error.message}", hints=error.hints) from None

    # Plain numbers and lists

    def nested(self, value: Any, text: str) -> Tensor:
        """A number or nested list of numbers."""
        if self.dtype.is_complex and isinstance(value, (list, tuple)):
            value = _join_pairs(value)
        return self.tensor(value, text)

    def tensor(self, value: Any, text: str) -> Tensor:
        """A tensor of numbers in nested lists, of the dtype wanted or of the complex or boolean one of its kind."""
        kinds: set[type] = set()
        plain = self.checked(value, (), kinds, text)
        if kinds == {bool}:
            return torch.tensor(plain, dtype=torch.bool)
        dtype = self.dtype
        if complex in kinds and not dtype.is_complex:
            dtype = COMPLEX_OF.get(dtype, torch.complex64)
        if float in kinds and not (dtype.is_floating_point or dtype.is_complex):
            raise self.fail(f"it isn't a whole number, as {_name(dtype)} needs.", source=_shortened(text))
        try:
            return torch.tensor(plain, dtype=dtype)
        except (RuntimeError, OverflowError, ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise self.fail(f"{_lower(first)}.", source=_shortened(text), torch_message=str(error)) from None

    def checked(self, value: Any, place: tuple[int, ...], kinds: set[type], text: str) -> Any:
        """The value with its non-finite names as numbers; every list of the same shape."""
        if isinstance(value, (list, tuple)):
            items = [self.checked(item, (*place, index), kinds, text) for index, item in enumerate(value)]
            sizes = {len(item) if isinstance(item, list) else None for item in items}
            if len(sizes) > 1:
                raise self.ragged(items, place, text)
            return items
        if isinstance(value, str) and value in NON_FINITE:
            kinds.add(float)
            return NON_FINITE[value]
        if isinstance(value, (bool, int, float, complex)):
            kinds.add(type(value))
            return value
        at = f" at {list(place)}" if place else ""
        told = "null" if value is None else f"{value!r}" if isinstance(value, str) else f"a {type(value).__name__}"
        raise self.fail(f"{told}{at} is not a number.", source=_shortened(text))

    def ragged(self, items: Sequence[Any], place: tuple[int, ...], text: str) -> BadValueError:
        """Lists of different lengths side by side."""
        sizes = [f"{len(item)} entries" if isinstance(item, list) else "a plain number" for item in items]
        odd = next(index for index, size in enumerate(sizes) if size != sizes[0])
        first, other = ("".join(f"[{i}]" for i in (*place, index)) for index in (0, odd))
        return self.fail(f"it is ragged: {first} has {sizes[0]}, {other} has {sizes[odd]}.".replace("has a", "is a"),
                         source=_shortened(text))  # fmt: skip


def _join_pairs(value: Any) -> Any:
    """[re, im] pairs in the innermost lists as complex numbers, if all are pairs."""
    leaves: list[Any] = []

    def innermost(item: Any) -> None:
        if isinstance(item, (list, tuple)) and item and isinstance(item[0], (list, tuple)):
            for part in item:
                innermost(part)
        else:
            leaves.append(item)

    innermost(value)
    if not all(isinstance(leaf, (list, tuple)) and len(leaf) == 2 for leaf in leaves):
        return value

    def join(item: Any) -> Any:
        if isinstance(item[0], (list, tuple)):
            return [join(part) for part in item]
        parts: list[Any] = [NON_FINITE.get(part, part) if isinstance(part, str) else part for part in item]
        return complex(*parts)

    return join(value)


def _is_json(text: str) -> bool:
    if text[0] not in "[{" and text not in ("true", "false", *NON_FINITE):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return not _WORD.search(text)
    return True


def _empty_field(text: str) -> tuple[int, int] | None:
    match = re.search(r",\s*(?=[,;])|^\s*(?=,)|;\s*(?=[,;])", text)
    return (match.start(), max(match.end(), match.start() + 1)) if match else None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")
