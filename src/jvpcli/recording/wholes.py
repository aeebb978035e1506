"""What is noted down as one step, though it calls torch many times: a transform of torch.func, of a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jvpcli.recording.places import pieces


class Reading(TorchFunctionMode):
    """Notes which tensors are read in a `with` block that were not made in it.

    Attributes:
        outside: these tensors, by their `id`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outside: dict[int, Tensor] = {}
        self._made: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries the call out."""
        for x in pieces((args, kwargs or {})):
            if isinstance(x, Tensor) and id(x) not in self._made and not torch._C._functorch.is_functorch_wrapped_tensor(x):
                self.outside[id(x)] = x
        result = func(*args, **(kwargs or {}))
        self._made |= {id(x): x for x in pieces((result,)) if id(x) not in self.outside}
        return result


class Whole:
    """A call as a step of a program: a function of all the tensors that it reads.

    Args:
        function, arguments, keywords: what is called, as it was when it was noted down.
        tensors: what it read then, those among its arguments and others: what takes their places where it is called again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        tensors: Sequence[Tensor],
    ) -> None:
        self._call, self._tensors = (function, tuple(arguments), dict(keywords)), tuple(tensors)
        self.__name__ = getattr(function, "__name__", "call")

    def __call__(self, *tensors: Tensor) -> Any:
        """What the call gives of other tensors."""
        function, arguments, keywords = self._call
        places = {id(old): new for old, new in zip(self._tensors, tensors, strict=True)}
        with _Replacing(places):
            return function(*_replaced(arguments, places), **_replaced(keywords, places))


class _Replacing(TorchFunctionMode):
    """In a `with` block torch is given tensors in the places of others, which are named by their `id`."""

    def __init__(self, places: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries the call out."""
        return func(*_replaced(args, self._places), **_replaced(kwargs or {}, self._places))


def _replaced(value: Any, places: Mapping[int, Tensor]) -> Any:
    """A value with other tensors in the places of its own."""
    if isinstance(value, Tensor):
        return places.get(id(value), value)
    if isinstance(value, dict):
        return {key: _replaced(part, places) for key, part in value.items()}
    return type(value)([_replaced(part, places) for part in value]) if type(value) in (tuple, list) else value
