"""The arguments of a call by the names of its parameters, from torch's own schemas or Python's signatures.

Nothing is asked before a call has something to judge; what is found out about a function is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.guards.integers import SMALL_BITS, as_integer, is_integer

Bound = Mapping[str, Any]
"""Parameter name to argument; the tensor that a function or method works on is "input"."""

PREFIXES = {"torch.linalg": "linalg_", "torch.fft": "fft_", "torch.special": "special_"}
"""What the names of torch's operators begin with, by namespace."""

OTHER_NAMES = {"self": "input", "axis": "dim", "keepdims": "keepdim", "x": "input", "x1": "input", "a": "input", "x2": "other"}
"""What torch also calls a parameter, to be like numpy."""

INTEGERS = ("int", "SymInt")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a signature.

    `kind` is "tensor", "tensors", "integer", "integers" (a list, or one for all axes), "value" (a plain number) or "other".
    """

    name: str
    kind: str
    positional: bool
    required: bool
    default: Any = None
    many: bool = False
    """Whether it takes all positional arguments from its own on."""


Signature = Sequence[Parameter]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of the arguments of a call.

    Attributes:
        problem: what is wrong with them, by name; None where nothing is.
        beyond: asked where the integers among them have together more bits than that.
        unasked: whether, before arguments are even bound, there is nothing to say of a call whose integers are small.
        of_turns: whether what is wrong is that it would take too long.
    """

    problem: Callable[[Bound], str | None]
    beyond: int = -1
    unasked: Callable[[Sequence[Any], Mapping[str, Any]], bool] | None = None
    of_turns: bool = False

    def is_asked(self, arguments: Sequence[Any], keywords: Mapping[str, Any], bits: int) -> bool:
        """Whether the rule is asked of a call, whose integers have together so many bits."""
        return bits > self.beyond and (self.unasked is None or bits > SMALL_BITS or not self.unasked(arguments, keywords))


def bind(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Signature, Bound] | None:
    """The signature that a call (an equation's `op` on these arguments) meets, and its arguments by name.

    Integers that are given as tensors of one element are plain integers in it.  None where no signature fits: torch
    itself refuses the call.
    """
    signatures = signatures_of(op)
    for strict in (True, False):
        for signature in signatures:
            bound = _fill(signature, arguments, keywords)
            if bound is not None and (not strict or all(_fits(p, bound[p.name]) for p in signature if p.name in bound)):
                return signature, {p.name: _plain(p, bound[p.name]) for p in signature if p.name in bound}
    return None


def forms(op: str) -> str:
    """The ways in which a function can be called, as text: "lu_solve(input, LU_data, LU_pivots)"."""
    name = op.partition(":")[2].rpartition(".")[2]
    texts = [f"`{name}({', '.join(parameter.name for parameter in form)})`" for form in signatures_of(op)]
    return " or ".join(dict.fromkeys(texts)) or f"`{name}`"


@lru_cache(maxsize=1024)
def signatures_of(op: str) -> Sequence[Signature]:
    """The ways in which the function or method of an equation's `op` can be called."""
    kind, _, path = op.partition(":")
    if kind == "method":
        path = f"torch.Tensor.{path}"
    function = reduce(getattr, path.split(".")[1:], torch)
    if inspect.isfunction(function):
        return [_of_python(choice) for choice in _choices(function)]
    namespace, _, name = path.rpartition(".")
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{PREFIXES.get(namespace, '')}{name}")
    return [_of_schema(schema) for schema in schemas if _is_of_tensors(schema)]


def _choices(function: Any) -> Sequence[Any]:
    """The functions behind one that chooses between two by a flag (`return_indices`)."""
    chosen = torch._jit_internal.boolean_dispatched.get(function)
    return (function,) if chosen is None else (chosen["if_false"], chosen["if_true"])


def _is_of_tensors(schema: Any) -> bool:
    """Whether a schema is that of a function of tensors; TorchScript lists its own arithmetic under the same names."""
    if any(argument.is_out for argument in schema.arguments):
        return False
    try:
        torch._C._dispatch_find_schema_or_throw(schema.name, schema.overload_name)
    except RuntimeError:
        return False
    return True


def _of_schema(schema: Any) -> Signature:
    places = [argument.name for argument in schema.arguments if not argument.kwarg_only and argument.name != "self"]
    parameters = []
    for argument in schema.arguments:
        kind = _kind(str(argument.real_type))
        parameters.append(
            Parameter(
                "input" if argument.name == "self" else argument.name,
                kind,
                not argument.kwarg_only,
                not argument.has_default_value(),
                argument.default_value,
                kind == "integers" and places == [argument.name],  # as in x.repeat(2, 3)
            )
        )
    return parameters


def _of_python(function: Any) -> Signature:
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        many = parameter.kind is parameter.VAR_POSITIONAL
        untold = parameter.annotation in (parameter.empty, None, type(None))  # None: torch's lists of any length
        parameters.append(
            Parameter(
                "input" if parameter.name == "self" else parameter.name,
                "integers" if untold else _kind(str(parameter.annotation)),
                parameter.kind is not parameter.KEYWORD_ONLY,
                parameter.default is parameter.empty and not many,
                None if parameter.default is parameter.empty else parameter.default,
                many,
            )
        )
    return parameters


def _kind(text: str) -> str:
    """What a type is, from its text in a schema or signature."""
    text = text.replace("Optional[", "").replace("torch.", "").removeprefix("<class").strip("]>'\" ")
    if "Tensor" in text:
        return "tensor" if text in ("Tensor", "Tensor | None") else "tensors"
    if any(word in text for word in ("number", "Scalar", "float")):
        return "other" if "ScalarType" in text else "value"
    if text in INTEGERS or text == "int | None":
        return "integer"
    return "integers" if "int" in text.lower() and "point" not in text else "other"


def _fill(signature: Signature, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments to parameters by place and name; None where they aren't as many, or are called otherwise."""
    places = [parameter for parameter in signature if parameter.positional]
    bound: dict[str, Any] = {}
    for index, parameter in enumerate(places):
        if parameter.many and (len(arguments) > index + 1 or not parameter.required):
            bound[parameter.name] = tuple(arguments[index:])
            arguments = arguments[:index]
            break
        if index < len(arguments):
            bound[parameter.name] = arguments[index]
    if len(arguments) > len(places):
        return None
    names = {parameter.name for parameter in signature}
    for name, value in keywords.items():
        own = name if name in names else OTHER_NAMES.get(name, name)
        if own not in names or own in bound:
            return None
        bound[own] = value
    missing = any(parameter.required and parameter.name not in bound for parameter in signature)
    return None if missing else bound


def _fits(parameter: Parameter, value: Any) -> bool:
    """Whether an argument may be meant for a parameter, by what it is."""
    if value is None:
        return True
    if parameter.kind == "tensor":
        return isinstance(value, Tensor)
    if parameter.kind == "tensors":
        return isinstance(value, (list, tuple))
    if parameter.kind == "integer":
        return not isinstance(value, (float, complex, str, list, tuple)) and (
            not isinstance(value, Tensor) or is_integer(value)
        )
    if parameter.kind == "integers":
        return not isinstance(value, (float, complex, str)) and (not isinstance(value, Tensor) or is_integer(value))
    if parameter.kind == "value":
        return not isinstance(value, (list, tuple, str)) and (not isinstance(value, Tensor) or value.ndim == 0)
    return not isinstance(value, Tensor)


def _plain(parameter: Parameter, value: Any) -> Any:
    """Integers as plain ones, and a list of them as a tuple."""
    if parameter.kind not in ("integer", "integers"):
        return value
    if isinstance(value, Tensor):
        return as_integer(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(as_integer, value))
    return value
