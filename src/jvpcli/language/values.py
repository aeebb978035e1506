"""VALUEs: everything that an input, cotangent or tangent can be given as, read into a tensor."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import BadValueError, ExpressionSyntaxError
from jvpcli.language import may_construct
from jvpcli.language.evaluate import evaluate_value
from jvpcli.language.literals import (
    NON_FINITE,
    NotANumberError,
    looks_like_json,
    looks_like_numbers,
    parse_json,
    read_numbers,
    to_tensor,
)
from jvpcli.language.names import constructed, with_modules_apart
from jvpcli.language.outputs import ordinary
from jvpcli.language.parse import parse, read_program

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8",
        "uint8", "bool", "float", "double", "half", "long", "int", "short", "cfloat", "cdouble",
    )
}  # fmt: skip
"""The names that --dtype takes."""


def read_value(
    value: Any,
    *,
    name: str,
    dtype: str = "float32",
    device: str | None = None,
    scope: Mapping[str, Tensor] | None = None,
    stdin: Callable[[], str] | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
    files: bool = True,
) -> Tensor:
    """Read a VALUE of the contract into a tensor.

    Text is numbers, JSON, `@file`, `-` or an expression over torch and `scope`; other objects are tensors, arrays,
    numbers, nested lists and `{"value": …, "dtype": …}`.  Numbers and JSON take `dtype`; files, arrays, tensors and
    expressions keep their own.  Random functions of an expression start from `seed`.  The tensor goes to `device`;
    without one a tensor stays where it is, and all else is made on the CPU.  Without `files`, no file is looked for.

    Raises:
        BadValueError: it can't be read; the message names the input.
        FileError: the file can't be.
        ForbiddenError, EvaluationError, …: its expression is refused or fails.
    """
    reader = _Reader(name, read_dtype(dtype), scope or {}, stdin, seed, memory_limit, files)
    try:
        tensor = reader.read(value)
        return tensor if device is None else tensor.to(read_device(device))
    except BadValueError as error:
        if not error.message.startswith(("There is no", "The device")):
            error.message = f"The value of `{name}` can't be read: {error.message}."
        raise


def read_dtype(name: str) -> torch.dtype:
    """The dtype of that name ("float64", "torch.float64")."""
    short = name.removeprefix("torch.")
    if short not in DTYPES:
        near = difflib.get_close_matches(short, DTYPES, 2, 0.5) or ["float32", "float64", "complex64"]
        raise BadValueError(f"There is no dtype `{name}`.", hints=[f"Did you mean {hint}?" for hint in near])
    return DTYPES[short]


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


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


WORDS = ("ones", "zeros", "randn", "onehot", "none", "implicit")


def is_word(value: Any) -> bool:
    """Whether a VALUE is one of the words that only cotangents and tangents have."""
    return isinstance(value, str) and value.strip().partition(":")[0] in WORDS


def free_names(text: str) -> tuple[str, ...]:
    """The names that a VALUE's expression uses freely; none where it is numbers, JSON, a file or `-`.

    Raises: as `parse`, if it is an expression that is refused.
    """
    if not is_expression(text):
        return ()
    text = text.strip()
    made = constructed(with_modules_apart(read_program(text)[1])) if may_construct(text) else {}
    return parse(text, functions=dict.fromkeys(made, ())).inputs


def is_expression(text: str) -> bool:
    """Whether the text of a VALUE is read as an expression: not as numbers, JSON, a file or `-`."""
    text = text.strip()
    if not text or text == "-" or text.startswith("@"):
        return False
    if looks_like_numbers(text):
        try:
            read_numbers(text, torch.float64)
        except BadValueError:
            return _is_arithmetic(text)
        return False
    if not looks_like_json(text):
        return True
    try:
        parse_json(text)
    except BadValueError:
        return _WORD.search(text) is not None or _ARITHMETIC.search(text) is not None
    return False


_WORD = re.compile(r"[^\W\d]\w*")
_ARITHMETIC = re.compile(r"[\d.)] *[-+*/@%] *[\d.(]")


def _is_arithmetic(text: str) -> bool:
    """Whether something written like numbers is one expression, as 1-2 is (and `1 -2`, two numbers, is not)."""
    if ";" in text or any(map(str.isspace, text)) or not _ARITHMETIC.search(text):
        return False
    try:
        parse(text)
    except ExpressionSyntaxError:
        return False
    return True


@dataclass(frozen=True)
class _Reader:
    """Reads one input's VALUE; what is wrong with it is raised as a short fact."""

    name: str
    dtype: torch.dtype
    scope: Mapping[str, Tensor]
    stdin: Callable[[], str] | None
    seed: int
    memory_limit: int | None
    files: bool

    def read(self, value: Any) -> Tensor:
        """A VALUE of any kind."""
        if isinstance(value, str):
            return self.text(value.strip())
        if isinstance(value, Tensor):
            return _dense(value)
        if isinstance(value, Mapping):
            return self.typed(value)
        if hasattr(value, "__array__") and hasattr(value, "dtype"):
            return _from_array(value)
        return to_tensor(value, self.dtype, pairs=True)

    def typed(self, value: Mapping[str, Any]) -> Tensor:
        """{"value": …, "dtype": …}"""
        if "value" not in value or set(value) - {"value", "dtype"}:
            raise BadValueError('an object must have "value", and may have "dtype"; nothing else')
        dtype = value.get("dtype")
        if dtype is None:
            return self.read(value["value"])
        if not isinstance(dtype, str):
            raise BadValueError('"dtype" must be a string, as in "float64"')
        return replace(self, dtype=read_dtype(dtype)).read(value["value"]).to(read_dtype(dtype))

    def text(self, text: str) -> Tensor:
        """Text as on the command line."""
        if text.startswith("@"):
            return self.file(text[1:])
        if text == "-":
            if self.stdin is None:
                raise BadValueError("there is no standard input to read `-` from")
            text = self.stdin().strip()
            if not (looks_like_json(text) or looks_like_numbers(text)):
                raise BadValueError("standard input holds neither JSON nor numbers separated by commas")
        if not text:
            hint = "Give numbers, as in 1,2,3, or JSON, as in [] for no elements."
            raise BadValueError("it is empty", hints=[hint])
        if looks_like_numbers(text):
            return self.numbers(text)
        return self.expression(text) if is_expression(text) else self.json(text)

    def numbers(self, text: str) -> Tensor:
        """Numbers, or arithmetic on them."""
        try:
            return read_numbers(text, self.dtype)
        except NotANumberError:
            if not _is_arithmetic(text):
                raise
            return self.expression(text)

    def json(self, text: str) -> Tensor:
        """A JSON document."""
        value = parse_json(text)
        return self.typed(value) if isinstance(value, dict) else to_tensor(value, self.dtype, pairs=True)

    def file(self, reference: str) -> Tensor:
        """@path or @path:key."""
        if not self.files:
            raise BadValueError("no file is read for a question that comes over the network")
        from jvpcli.language.files import read_file, unreadable  # most inputs come from no file

        found = read_file(reference, self.memory_limit)
        try:
            if found.tensor is not None:
                return _dense(found.tensor)
            if found.text is None:
                return _from_array(found.array)
            return self.json_file(found.text) if found.is_json else read_numbers(found.text, self.dtype)
        except BadValueError as error:
            raise unreadable(found.path, error) from None

    def json_file(self, text: str) -> Tensor:
        """A JSON document of a file: numbers alone, and no expression or other file in it."""
        value = parse_json(text)
        if not isinstance(value, dict):
            return to_tensor(value, self.dtype, pairs=True)
        inside = value.get("value")
        if isinstance(inside, dict) or (isinstance(inside, str) and inside not in NON_FINITE):
            raise NotANumberError("its value is no number", kind="text" if isinstance(inside, str) else "an object")
        if str(value.get("dtype") or "float32").removeprefix("torch.") not in DTYPES:
            raise BadValueError(f"its dtype is none of {', '.join(DTYPES)}")
        return self.typed(value)

    def expression(self, text: str) -> Tensor:
        """An expression over torch and the inputs before."""
        functions, parameters, reads = self.modules(text) if may_construct(text) else ({}, {}, {})
        try:
            program = parse(text, functions=reads)
        except ExpressionSyntaxError as error:
            raise BadValueError("it is neither numbers, JSON, a file (@…) nor an expression", span=error.span,
                                source=text, explanation=error.message) from None  # fmt: skip
        scope = {**self.scope, **parameters}
        for name, span in zip(program.inputs, program.input_spans, strict=True):
            if name not in scope:
                raise self.no_such_name(name, text, span)
        # the seed as it is, so that torch.manual_seed(seed) gives the same numbers; the caller keeps two inputs apart
        result = evaluate_value(program, scope, seed=self.seed, memory_limit=self.memory_limit, functions=functions)
        if isinstance(result, Tensor):
            return result
        if isinstance(result, (tuple, list)) and any(isinstance(item, Tensor) for item in result):
            raise BadValueError("it gives several tensors, and one is needed", source=text,
                                hints=["Join them with torch.stack or torch.cat."])  # fmt: skip
        return to_tensor(result, self.dtype)

    def modules(self, text: str) -> tuple[Mapping[str, Callable[..., Any]], Mapping[str, Tensor], Mapping[str, tuple[str, ...]]]:
        """The modules that an expression constructs, their parameters, and which of these each reads."""
        from jvpcli.language.modules import construct  # few values construct any

        made = construct(text, self.seed, self.memory_limit, self.scope)
        return ({}, {}, {}) if made is None else (made.functions, made.parameters, made.reads(made.parameters))

    def no_such_name(self, name: str, text: str, span: tuple[int, int]) -> BadValueError:
        """A word that is no earlier input."""
        known = f"the inputs before it are {', '.join(self.scope)}" if self.scope else "there are no inputs before it"
        hints = [f"Did you mean {near}?" for near in difflib.get_close_matches(name, list(self.scope), 2)]
        if _WORD.fullmatch(text):
            hints.append(f"For a file, write @{text}.")
        return BadValueError(f"`{name}` is not a number, and {known}", span=span, source=text, hints=hints)


def _dense(tensor: Tensor) -> Tensor:
    """The tensor, if it is one that has plain values."""
    why = not_dense(tensor)
    if why is not None:
        fact, cure = why
        raise BadValueError(f"it is {fact}, and derivatives are taken of dense tensors with numbers", hints=[cure])
    return ordinary(tensor)


def not_dense(tensor: Tensor) -> tuple[str, str] | None:
    """What a tensor is that derivatives can't be taken of, and what to give in its place; None where they can."""
    if tensor.is_nested:
        return "nested", "Give its parts one by one, or padded: x.to_padded_tensor(0.0)."
    if tensor.layout is not torch.strided:
        as_it_is = "A function of yours is given it as it is where `wrt` names other inputs"
        if tensor.is_mkldnn:
            return "in the layout of oneDNN", f"Give x.to_dense(). {as_it_is}."
        layout = str(tensor.layout).removeprefix("torch.")
        alone = "by its values alone it is differentiated where they are the input and your function makes it from them"
        return f"sparse ({layout})", f"Give x.to_dense(). {as_it_is}; {alone}."
    if tensor.is_quantized:
        return "quantized", "Give x.dequantize()."
    if tensor.device.type == "meta":
        return "on torch's meta device, without values", "Give numbers, as torch.randn(x.shape) does."
    return None


def _from_array(value: Any) -> Tensor:
    """A numpy array, or what can become one, copied."""
    import numpy as np

    array = np.array(value, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise BadValueError(f"arrays of dtype {array.dtype} can't become tensors", torch_message=str(error)) from None
