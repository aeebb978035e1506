"""Classes of a program: what they may be derived from, and how they are made.

What keeps torch and numpy away from objects of a program stands in a class before anything of the program sees it: a method of
its own runs while Python makes it, for each name in it, for what it is derived from, and for each member of an enumeration.
"""

from __future__ import annotations

import abc
import builtins
import enum
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch.autograd import Function

from jvpcli.closed import reach
from jvpcli.closed.syntax import METHODS, SLOTS
from jvpcli.closed.words import Ended, Named, Types
from jvpcli.errors import ForbiddenError


class _Members(enum.EnumMeta):
    """How enumerations are made: by a class, and by no call, whose names no guard would see."""

    def __call__(cls, value: Any) -> Any:  # type: ignore[override]
        """The member of a value."""
        return super().__call__(value)


@reach.owned
class Enum(enum.Enum, metaclass=_Members):
    """enum.Enum"""


@reach.owned
class IntEnum(enum.IntEnum, metaclass=_Members):
    """enum.IntEnum"""


@reach.owned
class Flag(enum.Flag, metaclass=_Members):
    """enum.Flag"""


@reach.owned
class IntFlag(enum.IntFlag, metaclass=_Members):
    """enum.IntFlag"""


ENUMERATIONS: Mapping[str, type] = {each.__name__: each for each in (Enum, IntEnum, Flag, IntFlag)}
"""What an enumeration may be derived from, beside texts and numbers."""
if hasattr(enum, "StrEnum"):

    @reach.owned
    class StrEnum(enum.StrEnum, metaclass=_Members):  # type: ignore[name-defined,misc,unused-ignore]
        """enum.StrEnum"""

    ENUMERATIONS = {**ENUMERATIONS, "StrEnum": StrEnum}

NOTED = "__match_args__"
"""By which a class tells which of its attributes are matched in their order."""

WITHIN_PYTHON = frozenset({"__getattr__", "__setattr__", "__delattr__", "__new__"})
"""Methods that a class may not have of which torch has a part: what torch's own code finds there is torch's."""

Within = Callable[[Callable[[], Any]], Any]

WATCHED = ("__init_subclass__", "__set_name__")
"""Methods that run while a class is made."""


class Making:
    """Makes a class of a program, in the place of a metaclass.

    Args:
        within: carries a function of no arguments out between the guards.
        kind: the metaclass; that of a class that it is derived from may be a narrower one.
    """

    def __init__(self, within: Within, kind: type = type) -> None:
        self._within, self._kind = within, kind

    def __prepare__(self, name: str, bases: tuple[type, ...], /, **keywords: Any) -> Any:
        """Where the names of the class go to."""
        self._kind, held, _ = types.prepare_class(name, bases, {"metaclass": self._kind, **keywords})
        return held

    def __call__(self, name: str, bases: tuple[type, ...], held: Any, /, **keywords: Any) -> Any:
        """The class."""
        _fit(held, bases, self._within)
        return self._kind(name, bases, held, **keywords)


def _fit(held: Any, bases: tuple[type, ...], within: Within) -> None:
    """Puts into the names of a class what keeps torch and numpy away from its objects, and guards around its methods.

    Raises:
        ForbiddenError: it has a name that it may not have.
    """
    above = {each for base in bases for each in base.__mro__}
    own = {name for each in above if reach.is_own(each) for name in vars(each)}
    if not all(reach.is_own(each) or each in reach.ROOTS for each in above):
        for name in WITHIN_PYTHON & own.union(held):
            raise ForbiddenError(f"`{name}` of a class that is derived from one of torch's can't be used in a program.")
    if Function in above and (
        own.intersection(WATCHED)
        or any(reach.is_own(type(x)) and any(hasattr(type(x), n) for n in ("__set_name__", "__get__")) for x in held.values())
    ):
        raise ForbiddenError("What runs while a class is made can't be used in a `Function`.")
    if SLOTS in held:
        slots = held[SLOTS]
        held[SLOTS] = tuple(map(reach.word, (slots,) if isinstance(slots, str) else slots))
    matched = held.get(NOTED, ())
    for name in matched if type(matched) is tuple else ():
        reach.word(name)
    for name in METHODS.intersection(held):
        held[name] = _guarded(held[name], within)
    if "__new__" in held:
        held["__new__"] = _made(held["__new__"])
    if "__getattr__" in held:
        held["__getattr__"] = _asked(held["__getattr__"])
    for name, value in reach.APART.items():
        held[name] = value


def _guarded(method: Any, within: Within) -> Any:
    """A method with a meaning for Python, which calls it at any time, behind the run too: one that is no function of the program
    has guards around it."""
    inner = method.__func__ if isinstance(method, (staticmethod, classmethod)) else method
    if reach.has_guard(inner) or type(inner) is types.WrapperDescriptorType or (inner is method and not _is_called(method)):
        return method
    if inner is not method:
        return type(method)(lambda *given, **named: within(lambda: inner(*given, **named)))
    return lambda self, *given, **named: within(lambda: _bound(method, self)(*given, **named))


def _is_called(method: Any) -> bool:
    return callable(method) or hasattr(type(method), "__get__")


def _bound(function: Any, value: Any) -> Any:
    """What an object has of what its class holds by a name."""
    return function.__get__(value, type(value)) if hasattr(type(function), "__get__") else function


def _made(function: Any) -> Callable[..., Any]:
    """`__new__` of a class, which makes objects of that class alone: what copies objects sets what they hold on what it gives."""
    make = function.__func__ if isinstance(function, staticmethod) else function

    def made(kind: Any, *given: Any, **named: Any) -> Any:
        found = make(kind, *given, **named)
        if not reach.is_pythons(type(found)) or kind not in type(found).__mro__:
            raise Ended(ForbiddenError("What `__new__` of a class gives is an object of that class in a program."))
        return found

    return made


def _asked(function: Any) -> Callable[[Any, str], Any]:
    """`__getattr__` of a class, which is asked for no name that has a meaning for Python or numpy."""

    def asked(self: Any, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")  # as Python says it
        return _bound(function, self)(name)

    return asked


ABSTRACT = Named("abc.ABCMeta", type, object)
"""`ABCMeta`, which a class may name as its metaclass."""


def built(
    body: Callable[[], Any], name: str, bases: tuple[Any, ...], metaclass: Any, keywords: Mapping[str, Any], within: Within
) -> Any:
    """A class of the program, of what stands in it; `within` carries a function out between the guards.

    Raises:
        ForbiddenError: its metaclass is another than ABCMeta, or it has a name that it may not have.
    """
    if metaclass is not type and metaclass is not ABSTRACT:
        raise ForbiddenError("The metaclass of a program's class is ABCMeta.")
    real = tuple(each.kind if isinstance(each, Named) else each for each in bases if type(each) is not Types)
    made = Making(within, abc.ABCMeta if metaclass is ABSTRACT else type)
    found: Any = builtins.__build_class__(body, name, *real, metaclass=made, **keywords)
    if len(real) < len(bases) and not hasattr(found, "__class_getitem__"):
        found.__class_getitem__ = classmethod(lambda kind, _: kind)  # types say nothing here
    return found


def of_names(within: Within, name: Any, bases: Any, held: Any) -> Any:
    """`type(name, bases, held)`; `within` carries a function out between the guards.

    Raises:
        ForbiddenError: it is derived from something else than the program's own and Python's, or has a name that it may not have.
    """
    if type(name) is not str or type(bases) is not tuple or type(held) is not dict:
        raise TypeError("type.__new__() takes a name, a tuple of classes, and a dictionary")
    if not all(isinstance(each, type) and (each in reach.ROOTS or reach.is_pythons(each)) for each in bases):
        raise ForbiddenError("A class that is made by type(…) is derived from the program's own and Python's.")
    for each in held:
        if reach.word(each)[:2] == "__" and each not in METHODS - {"__exit__"}:
            raise ForbiddenError(f"A class can't be made with `{each}` in a program.")
    made = Making(within)
    made.__prepare__(name, bases)
    return made(name, bases, dict(held))


MATCHES_ITSELF = 1 << 22
"""The flag of a type whose pattern of one part matches the object itself: `int(n)`."""


def matching(kind: type, names: tuple[str, ...], read: Callable[[Any, str], Any]) -> type:
    """A class that has the objects of a class, of which Python may read some attributes, and those that it matches in order.

    Raises:
        ForbiddenError: by a match: it may not.
    """
    ordered = getattr(kind, NOTED, ()) if reach.is_own(kind) else ()

    class Matching(type):
        def __instancecheck__(cls, value: Any) -> bool:
            if not isinstance(value, kind):
                return False
            own = reach.is_own(type(value)) and not reach.is_pythons(type(value))  # what it does as it is read changes nothing
            for name in (*names, *(each for each in ordered if type(each) is str)):
                if own or read(value, reach.word(name)) is not value:
                    raise Ended(ForbiddenError(f"`.{name}` of a `{type(value).__name__}` can't be matched in a program."))
            return True

    return Matching(kind.__name__, (), {NOTED: ordered})
