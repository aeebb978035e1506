"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Owner = TypeVar("Owner")
Found = TypeVar("Found")


class cached_property(Generic[Owner, Found]):
    """As `functools.cached_property` is from Python 3.12 on: without a lock, which took longer than most attributes do.

    Two threads that ask at once may both compute it; the value of the last one is kept.
    """

    def __init__(self, find: Callable[[Owner], Found]) -> None:
        self.func = find
        self.__doc__ = find.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[Owner, Found]: ...

    @overload
    def __get__(self, instance: Owner, owner: type) -> Found: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        """Asked once of each instance: after that its `__dict__` has it, which is looked at first."""
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self.func(instance)
        return found
