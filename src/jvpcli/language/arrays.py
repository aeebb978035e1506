"""numpy's arrays in a program: made, computed with, and turned into tensors, by numpy itself.

What can be called the catalogue lists, by name; an array has no gradient, and nothing but numbers.  numpy is loaded where the
first array is made.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, LimitError
from jvpcli.language.catalog import ARRAY_JOINING, ARRAY_METHODS, ARRAY_MULTIPLYING, ARRAY_SIZES
from jvpcli.language.limits import length

MOST = 10**7
"""Numbers in an array."""

NO_NUMBERS = "An array holds numbers here, and nothing else."

SHARING = ("numpy:from_numpy", "numpy:of", "numpy:asarray", "call:torch.as_tensor", "call:torch.asarray")
"""Operations whose result may have the memory of what they are given."""

KINDS = "biufc"
"""numpy's kinds of dtypes of numbers."""

OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


SIZED = ("reshape", "transpose", "expand_dims", "item")
"""Functions and methods that take sizes and places behind an array."""


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
        found = plain(key)
        _check_most(_picked(self.shape, found if type(found) is tuple else (found,)))
        return made(self.values[found])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.check_own()
        self.values[plain(key)] = plain(value)

    def check_own(self) -> None:
        """Refuse to change what shares its memory with a tensor in PyTorch.

        Raises:
            EvaluationError: it is so.
        """
        if not self.values.flags.writeable:
            raise EvaluationError("A tensor shares its memory with this array in PyTorch: change a copy of it, as by `.copy()`.")

    def copied(self) -> Array:
        """One with memory of its own."""
        return Array(self.values.copy())

    def given_away(self) -> None:
        """Nothing changes it from here on."""
        values = self.values
        while values is not None and hasattr(values, "setflags"):
            values.setflags(write=False)
            values = values.base

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
        named = {key: plain(value) for key, value in keywords.items()}
        _check(name, [self.values, *given], named)
        return _new(getattr(self.values, name)(*given, **named), [self.values, *given])

    return done


for _name in OPERATORS:
    setattr(Array, f"__{_name}__", _operation(_name, False))
    setattr(Array, f"__r{_name}__", _operation(_name, True))
    setattr(Array, f"__i{_name}__", _in_place(_name))
for _name in COMPARISONS:
    setattr(Array, f"__{_name}__", _operation(_name, False))
for _name in ARRAY_METHODS:
    setattr(Array, _name, _member(_name))
Array.__name__ = "numpy.ndarray"  # what torch's own messages call it


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
        raise EvaluationError(NO_NUMBERS)
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


def plain_array(value: Any) -> Any:
    """An array of the program as numpy's own, also inside of lists; anything else as it is."""
    if isinstance(value, Array):
        return value.values
    return type(value)(map(plain_array, value)) if type(value) in (list, tuple) else value


def number(value: Any) -> Any:
    """A number of numpy's as Python's, as which PyTorch takes it, also inside of lists; anything else as it is."""
    if isinstance(value, Array):
        is_number = value.ndim == 0 and (value.values.dtype.kind in "iu" or type(value.values).__name__ != "ndarray")
        return value.values.item() if is_number else value
    return type(value)(map(number, value)) if type(value) in (list, tuple) else value


def shared(op: str, value: Any, arguments: Sequence[Any]) -> Tensor | None:
    """The tensor among what a step has taken and given that shares its memory with an array in PyTorch.

    That array is not changed from here on.
    """
    if op not in SHARING:
        return None
    given = (value, *arguments[:1])
    tensor = next((each for each in given if isinstance(each, Tensor)), None)
    array = next((each for each in given if isinstance(each, Array)), None)
    if tensor is None or array is None or str(tensor.dtype).removeprefix("torch.") != array.values.dtype.name:
        return None
    array.given_away()
    return tensor


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
        return array.tensor()
    function: Any = np
    for part in name.split("."):
        function = getattr(function, part)
    return _called(function, name, arguments, keywords)


def drawn(stream: Any, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What `numpy.random.NAME` gives, of a stream of random numbers.

    Raises:
        EvaluationError: a seed is asked for that nobody knows.
    """
    if name == "random.seed" and (arguments or [*keywords.values()] or [None])[0] is None:
        raise EvaluationError("np.random.seed takes a number here: without one, the next run would draw other numbers.")
    return _called(getattr(stream, name.removeprefix("random.")), name, arguments, keywords)


def stream(seed: int) -> Any:
    """numpy's random numbers."""
    import numpy as np

    return np.random.RandomState(seed % 2**32)


def _called(function: Any, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    given = [plain(argument) for argument in arguments]
    named = {key: plain(value) for key, value in keywords.items()}
    _check(name, given, named)
    is_ufunc = hasattr(function, "nin")
    if is_ufunc and (len(given) > function.nin or "where" in named):  # it would leave entries that nobody has written
        count = f"{function.nin} argument{'s'[: function.nin - 1]}"
        raise EvaluationError(f"`np.{name}` takes {count} here, and no `out` or `where`.")
    found = _new(function(*given, **named), given)
    tensors = any(isinstance(argument, Tensor) for argument in arguments)
    return found.tensor() if tensors and isinstance(found, Array) and is_ufunc else found  # as PyTorch has it


def _new(value: Any, given: Sequence[Any]) -> Any:
    """What numpy gives, which is none of the arrays behind the first that it was given.

    Raises:
        EvaluationError: it was to write to one.
    """
    import numpy as np

    if any(value is each for each in given[1:] if isinstance(each, np.ndarray)):
        raise EvaluationError("`out` can't be used: it would write into another array; use the result instead.")
    return made(value)


def _check(name: str, given: Sequence[Any], named: Mapping[str, Any] | None = None) -> None:
    """Refuse what would give too many numbers, or what holds no numbers.

    Raises:
        LimitError, EvaluationError: it would.
    """
    import numpy as np

    named = named or {}
    for value in (*given, *named.values()):
        if isinstance(value, str):
            with suppress(TypeError, ValueError, SyntaxError):  # a word that is no dtype
                if np.dtype(value).kind not in KINDS:
                    raise EvaluationError(NO_NUMBERS)
        else:
            _check_numbers(value)
    try:
        most = _most(name, given, named)
    except (TypeError, ValueError, IndexError):  # which numpy says itself
        return
    _check_most(most)


def _check_most(count: float) -> None:
    if count > MOST:
        raise LimitError(f"An array of about {float(count):.0e} numbers would be needed; at most {MOST:.0e} are allowed.")


def _check_numbers(value: Any) -> None:
    """Refuse what makes numpy compute with objects, and a range that is too long, in lists too."""
    if type(value) in (list, tuple):
        for item in value:
            if isinstance(item, str):
                raise EvaluationError(NO_NUMBERS)
            _check_numbers(item)
    elif type(value) is int and not -(2**63) <= value < 2**64:
        raise EvaluationError("A whole number in an array has at most 64 bits.")
    elif type(value) is range:
        _check_most(length(value))


def _most(name: str, given: Sequence[Any], named: Mapping[str, Any]) -> float:
    """How many numbers a function gives at most."""
    import numpy as np

    if name == "arange":
        return _turns(given, named)
    if name in ARRAY_JOINING:
        return sum(map(_count, (*given, *named.values())))
    if name in ARRAY_SIZES:
        start, end, names = ARRAY_SIZES[name]
        before = [*given[:start], *(value for key, value in named.items() if key not in names)]
        sizes = [*given[start:end], *(named[key] for key in names if key in named)]
        base = _product(np.broadcast_shapes(*_shapes(before)))
        if name in ("random.permutation", "random.choice"):  # of so many, or of these
            pool, *wanted = sizes
            return max(_count(pool), *_numbers([pool] if np.ndim(pool) == 0 else []), _product(_numbers(wanted)))
        numbers = list(_numbers(sizes))
        if name == "repeat":
            return base * max(numbers, default=1)
        if name in ("eye", "identity"):
            return _product(numbers) if len(numbers) > 1 else numbers[0] ** 2
        if name == "diag":
            return base if max(map(len, _shapes(before))) > 1 else (base + _product(numbers)) ** 2
        return base * _product(numbers)
    taken = given[:1] if name in SIZED else [*given, *(value for key, value in named.items() if key != "axis")]
    shapes = _shapes(taken)
    if name in ("outer", "meshgrid"):
        return math.prod(map(_product, shapes)) * (len(shapes) if name == "meshgrid" else 1)
    if name in ARRAY_MULTIPLYING and len(shapes) == 2 and all(shapes):
        return _contracted(name, *shapes)
    return _product(np.broadcast_shapes(*shapes))


def _contracted(name: str, left: Sequence[int], right: Sequence[int]) -> int:
    """How many numbers a product has that adds up along an axis of both."""
    import numpy as np

    along = -1 if name == "inner" or len(right) == 1 else -2
    rest = [size for axis, size in enumerate(right) if axis != len(right) + along]
    if name != "matmul":
        return _product([*left[:-1], *rest])
    return _product([*np.broadcast_shapes(tuple(left[:-2]), tuple(rest[:-1])), *left[-2:-1], *rest[-1:]])


def _picked(shape: Sequence[int], key: Sequence[Any]) -> int:
    """How many numbers brackets pick at most."""
    import numpy as np

    chosen = [np.asarray(each) if isinstance(each, (np.ndarray, list, range)) else None for each in key]
    masks = [each is not None and each.dtype.kind == "b" for each in chosen]
    takes = [int(np.ndim(each)) if is_mask else int(each is not None and each is not ...)
             for each, is_mask in zip(key, masks, strict=True)]  # fmt: skip
    rest, found, axis = list(shape), [], 0
    for place, (each, picks) in enumerate(zip(key, chosen, strict=True)):
        if each is ...:
            axis = max(len(shape) - sum(takes[place:]), 0)
        if picks is not None:
            found.append((int(np.count_nonzero(picks)),) if masks[place] else picks.shape)
            rest[axis : axis + takes[place]] = [1] * len(rest[axis : axis + takes[place]])
        axis += takes[place]
    try:
        return _product((*np.broadcast_shapes(*found), *rest))
    except ValueError:  # which numpy says itself
        return 0


def _product(sizes: Iterable[int]) -> int:
    """The numbers of a shape; of an empty one those that adding up along an axis may give."""
    return math.prod(max(size, 1) for size in sizes)


def _shapes(values: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of arrays, tensors and lists among some values."""
    import numpy as np

    return [np.shape(value) for value in values if isinstance(value, (np.ndarray, Tensor)) or type(value) in (list, tuple)]


def _count(value: Any) -> int:
    """How many numbers a value holds."""
    if type(value) in (list, tuple):
        return sum(map(_count, value))
    return length(value) if type(value) is range else int(getattr(value, "size", 1))


def _numbers(values: Sequence[Any]) -> Iterator[int]:
    """The whole numbers among some values, and in tuples, lists and arrays of them."""
    import numpy as np

    for value in values:
        if type(value) in (list, tuple):
            yield from _numbers(value)
        elif isinstance(value, (int, np.integer)):
            yield abs(int(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            yield from map(abs, value.reshape(-1).tolist())


def _turns(given: Sequence[Any], named: Mapping[str, Any]) -> float:
    """How many numbers numpy.arange gives."""
    values = [float(value) for value in given[:3]]
    start, stop = (0.0, values[0]) if len(values) == 1 and "stop" not in named else (*values, 0.0, 0.0)[:2]
    start, stop = float(named.get("start", start)), float(named.get("stop", stop))
    step = float(named.get("step", values[2] if len(values) > 2 else 1.0))
    return abs((stop - start) / step) if step else math.inf
