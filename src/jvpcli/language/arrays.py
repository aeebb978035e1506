"""numpy's arrays in a program: made, computed with, and turned into tensors, by numpy itself.

What can be called is listed here, by name; an array has no gradient, and nothing but numbers.  numpy is loaded where the first
array is made.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, LimitError
from jvpcli.language.array_names import JOINING, METHODS, MULTIPLYING, SIZES

MOST = 10**7
"""Numbers in an array."""

FEW = 64
"""Numbers in an array that may be a shape."""

KINDS = "biufc"
"""numpy's kinds of dtypes of numbers."""

OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class Array:
    """An array of numbers, or a number of numpy's."""

    __slots__ = ("values",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Any) -> None:
        self.values = values

    def tensor(self) -> Tensor:
        """Its numbers as a tensor of their dtype."""
        import numpy as np

        return torch.from_numpy(np.array(self.values))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(self.values.shape)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return int(self.values.ndim)

    @property
    def T(self) -> Any:
        """It with its axes in reverse order."""
        return made(self.values.T)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return map(made, self.values)

    def __getitem__(self, key: Any) -> Any:
        return made(self.values[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.check_own()
        self.values[plain(key)] = plain(value)

    def check_own(self) -> None:
        """Refuse to change what a tensor was made of, whose memory it shares in PyTorch.

        Raises:
            EvaluationError: it is so.
        """
        if not self.values.flags.writeable:
            raise EvaluationError("A tensor was made of this array, and shares its memory in PyTorch: change a copy of it.")

    def given_away(self) -> Any:
        """numpy's own array, which nothing changes from here on."""
        values = self.values
        while values is not None and hasattr(values, "setflags"):
            values.setflags(write=False)
            values = values.base
        return self.values

    def __bool__(self) -> bool:
        return bool(self.values)

    def __float__(self) -> float:
        return float(self.values)

    def __int__(self) -> int:
        return int(self.values)

    def __index__(self) -> int:
        return operator.index(self.values)

    def __neg__(self) -> Any:
        return made(-self.values)

    def __abs__(self) -> Any:
        return made(abs(self.values))

    def __invert__(self) -> Any:
        return made(~self.values)


def _operation(name: str, reverse: bool) -> Callable[[Array, Any], Any]:
    function = getattr(operator, f"{name}_" if name in ("and", "or") else name)

    def done(self: Array, other: Any) -> Any:
        other = other if isinstance(other, Tensor) else plain(other)
        _check(name, [self.values, other])
        return made(function(other, self.values) if reverse else function(self.values, other))  # as Python has it, errors too

    return done


def _in_place(name: str) -> Callable[[Array, Any], Any]:
    def done(self: Array, other: Any) -> Any:
        if isinstance(other, Tensor) or type(self.values).__name__ != "ndarray":
            return NotImplemented
        self.check_own()
        _check(name, [self.values, plain(other)])
        self.values = getattr(operator, f"i{name}")(self.values, plain(other))
        return self

    return done


def _member(name: str) -> Callable[..., Any]:
    def done(self: Array, *arguments: Any, **keywords: Any) -> Any:
        given = [plain(argument) for argument in arguments]
        _check(name, [self.values, *given] if name == "repeat" else given)
        return made(getattr(self.values, name)(*given, **{key: plain(value) for key, value in keywords.items()}))

    return done


for _name in OPERATORS:
    setattr(Array, f"__{_name}__", _operation(_name, False))
    setattr(Array, f"__r{_name}__", _operation(_name, True))
    setattr(Array, f"__i{_name}__", _in_place(_name))
for _name in COMPARISONS:
    setattr(Array, f"__{_name}__", _operation(_name, False))
for _name in METHODS:
    setattr(Array, _name, _member(_name))


def made(value: Any) -> Any:
    """What numpy gives, as a program has it.

    Raises:
        EvaluationError: it is no number, and no array of numbers.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(map(made, value)) if type(value) in (list, tuple) else tuple(map(made, value))
    if not hasattr(value, "dtype") or isinstance(value, Tensor):
        return value
    if value.dtype.kind not in KINDS:
        raise EvaluationError("An array holds numbers here, and nothing else.")
    return Array(value)


def plain(value: Any) -> Any:
    """A value of the program as numpy takes it.

    Raises:
        RuntimeError: it is a tensor that requires a gradient, in PyTorch's words.
    """
    if isinstance(value, Array):
        return value.values
    if isinstance(value, Tensor):
        return value.numpy().copy()
    if isinstance(value, torch.dtype):
        import numpy as np

        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def indices(key: Any) -> Any:
    """What stands in brackets, with numpy's own arrays."""
    if type(key) is tuple:
        return tuple(map(indices, key))
    return key.values if type(key) is Array else key


def plain_array(value: Any) -> Any:
    """An array of the program as numpy's own, also inside of lists; anything else as it is."""
    if isinstance(value, Array):
        return value.given_away()
    return type(value)(map(plain_array, value)) if type(value) in (list, tuple) else value


def apply(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What a function of numpy's gives.

    Raises:
        EvaluationError: it gives no numbers.
        LimitError: it would give too many.
        Whatever numpy or torch raises.
    """
    import numpy as np

    if name == "of":
        return Array(plain(arguments[0]))
    if name == "from_numpy":
        (array,) = arguments
        if not isinstance(array, Array):
            raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
        array.given_away()
        return array.tensor()
    function: Any = np
    for part in name.split("."):
        function = getattr(function, part)
    return _called(function, name, arguments, keywords)


def drawn(stream: Any, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What `numpy.random.NAME` gives, of a stream of random numbers."""
    return _called(getattr(stream, name.removeprefix("random.")), name, arguments, keywords)


def stream() -> Any:
    """numpy's random numbers, which begin where torch's do."""
    import numpy as np

    return np.random.RandomState(torch.initial_seed() % 2**32)


def _called(function: Any, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    given = [plain(argument) for argument in arguments]
    named = {key: plain(value) for key, value in keywords.items()}
    _check(name, given, named)
    found = made(function(*given, **named))
    tensors = any(isinstance(argument, Tensor) for argument in arguments)
    return found.tensor() if tensors and isinstance(found, Array) and hasattr(function, "nin") else found  # as PyTorch has it


def _check(name: str, given: Sequence[Any], named: Mapping[str, Any] | None = None) -> None:
    """Refuse what would give too many numbers, or what holds no numbers.

    Raises:
        LimitError, EvaluationError: it would.
    """
    import numpy as np

    for word in (value for value in (*given, *(named or {}).values()) if isinstance(value, str)):
        with suppress(TypeError):  # a word that is no dtype
            if np.dtype(word).kind not in KINDS:
                raise EvaluationError("An array holds numbers here, and nothing else.")
    shapes = [np.shape(value) for value in given if isinstance(value, (np.ndarray, Tensor)) or type(value) in (list, tuple)]
    sizes = [max(math.prod(shape), 1) for shape in shapes]
    if name == "arange":
        most = _turns(given)
    elif name in SIZES:
        start, end, names = SIZES[name]
        numbers = list(_numbers([*given[start:end], *((named or {}).get(each) for each in names)]))
        first = math.prod(sizes[:1]) if start else 1
        most = first * math.prod(max(number, 1) for number in numbers)
        most = (first + most) ** 2 if name in ("eye", "identity", "diag") else most
    elif name in MULTIPLYING:
        most = math.prod(sizes)
    elif name in JOINING:
        most = sum(sizes) + sum(len(value) for value in given if isinstance(value, range))
    else:
        try:
            most = math.prod(np.broadcast_shapes(*shapes)) if len(shapes) > 1 else 1
        except ValueError:  # which numpy says itself
            return
    if most > MOST:
        raise LimitError(f"An array of about {float(most):.0e} numbers would be needed; at most {MOST:.0e} are allowed.")


def _numbers(values: Sequence[Any]) -> Iterator[int]:
    """The whole numbers among some values, and in tuples, lists and arrays of them; of a large array the largest."""
    import numpy as np

    for value in values:
        if type(value) in (list, tuple):
            yield from _numbers(value)
        elif isinstance(value, (int, np.integer)):
            yield abs(int(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
            yield from map(abs, value.reshape(-1).tolist()) if value.size < FEW else [int(abs(value).max()) * value.size]


def _turns(given: Sequence[Any]) -> float:
    """How many numbers numpy.arange gives."""
    bounds = [float(value) for value in given[:3]]
    start, stop, step = (0.0, *bounds, 1.0) if len(bounds) == 1 else (*bounds, 1.0)[:3]
    return abs((stop - start) / step) if step else math.inf
