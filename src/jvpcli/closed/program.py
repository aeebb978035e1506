"""A program as it runs: the guards that stand in it, how many turns it has taken, and what it has of Python's own functions."""

from __future__ import annotations

import builtins
import io
import operator
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import WRAPPER_ASSIGNMENTS, lru_cache, partial, wraps
from itertools import compress
from typing import Any

from torch import nn
from torch.autograd import Function

from jvpcli.closed import reach, syntax
from jvpcli.closed.classes import MATCHES_ITSELF, NOTED, built, matching, of_names
from jvpcli.closed.derived import Watch
from jvpcli.closed.further_modules import further_module
from jvpcli.closed.given import Given, as_own
from jvpcli.closed.names import modules, named_types, names_unimported, namespaces, not_made, unimported
from jvpcli.closed.standard_modules import (
    NAMED_TUPLE,
    PLOTTED,
    RECORD,
    SHOWN,
    is_absent,
    leave,
    named_tuple_of,
    opened,
    standard_modules,
)
from jvpcli.closed.training import BASES as TRAINED
from jvpcli.closed.words import (
    INERT,
    NOT_HAD,
    NOTHING,
    Ended,
    Inert,
    Named,
    Namespace,
    Reached,
    Types,
    as_seen,
    parts_of,
)
from jvpcli.errors import ForbiddenError, JvpError, UnknownNameError, UsageError
from jvpcli.language import limits

PURE = (
    "abs", "all", "any", "bool", "callable", "complex", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int",
    "len", "list", "map", "max", "min", "next", "object", "property", "range", "repr", "reversed", "round", "set", "slice",
    "sorted", "chr", "ord", "bin", "hex", "id", "hash",
    "staticmethod", "classmethod", "str", "sum", "super", "tuple", "zip", "NotImplemented", "Ellipsis",
)  # fmt: skip
"""What a program has of Python's own."""

BASES = (nn.Module, Function, *TRAINED, *reach.ROOTS)
"""What a program's classes may be derived from, beside its own and those of torch.nn."""


class Program:
    """A program as it runs: its names, and the guards that stand in it.

    `inside` counts a call of a function of the program, and gives what it runs in: the guards of torch's calls, `NOTHING` where
    they are there already.
    """

    def __init__(
        self,
        seed: int,
        keeps_seed: bool,
        watch: Watch,
        inside: Callable[[], AbstractContextManager[Any]],
        given: Mapping[str, Given],
    ) -> None:
        self.watch, self._turn = watch, watch.turns.__next__
        self.given = given
        self.inside = inside
        self.spaces = {
            **standard_modules(self.over, seed, keeps_seed),
            **namespaces(watch, seed, keeps_seed, self._kept),
        }
        self.globals: dict[str, Any] = {"__name__": "__main__", "__doc__": None, "__file__": "program.py", reach.OURS: True}
        own = {**_builtins(), **self._guards(), **self._about_names()}
        self.globals["__builtins__"] = {**{name: as_seen(name, x) for name, x in own.items()}, **unimported(self.spaces)}

    # Guards

    def _guards(self) -> dict[str, Any]:
        return {
            syntax.READ: self._known(_read, reach.is_free),
            syntax.SET: self._known(reach.settable, reach.is_free_to_set),
            syntax.STORE: self._kept(reach.storable),
            syntax.FETCH: self._fetch,
            syntax.TURN: self.watch.turns.__next__,
            syntax.INSIDE: self.inside,
            syntax.WITHIN: self.within,
            syntax.OVER: self.over,
            syntax.COUNTED: partial(compress, selectors=self.watch.turns),
            **{syntax.BINARY + name: self._bounded(name, operate) for name, operate in OPERATORS.items()},
            **{syntax.CHANGED + name: self._bounded(name, change) if name in OPERATORS else change
               for name, change in CHANGES.items()},
            syntax.RESUMED: self.resumed,
            syntax.YIELDED: self.yielded,
            syntax.KEPT: self.watch.keep,
            syntax.MATCHED: self._kept(self._matched),
            syntax.GIVEN: self._given,
            syntax.PARTS: parts_of,
            syntax.CAUGHT: self.caught,
            syntax.FORMATTED: self._kept(_formatted),
            "__build_class__": self._kept(self._build),
            "__import__": _loaded,
        }

    def _about_names(self) -> dict[str, Any]:
        """Python's own functions that go by the names of attributes, and by those of the program."""

        def named() -> dict[str, Any]:
            return {name: x for name, x in self.globals.items() if name[:2] != "__"}

        def listed(*values: Any) -> list[str]:
            names = dir(values[0]) if values else list(self.globals)
            return [name for name in names if name[:1] != "_" and (not values or _is_readable(values[0], name))]

        def held(*values: Any) -> dict[str, Any]:
            if values:
                return _vars(*values)
            if sys._getframe(2).f_code.co_name != "<module>":
                raise ForbiddenError("vars() of a function can't be used in a program.")
            return named()

        def typed(value: Any, *made_of: Any) -> Any:
            return of_names(self.within, value, *made_of) if made_of else _type(value)

        own = {"type": typed, "getattr": _get, "setattr": _set, "delattr": _delete, "hasattr": _has, "dir": listed,
               "globals": named, "vars": held, "open": opened}  # fmt: skip
        return {name: self._kept(as_seen(name, function)) for name, function in own.items()}

    def _given(self, name: str, *own: Any) -> Any:
        """What is given for a name, of the kind of the program's own value.

        Raises:
            Ended: a VALUE can't stand for that.
        """
        try:
            return as_own(name, self.given[name], *own)
        except UsageError as error:
            raise self.watch.end(error) from None

    def _kept(self, guard: Callable[..., Any]) -> Callable[..., Any]:
        """A guard, whose refusal ends the program whatever it catches."""

        def kept(*arguments: Any, **keywords: Any) -> Any:
            try:
                return guard(*arguments, **keywords)
            except NOT_HAD as error:
                raise self.watch.end(error) from None

        return kept

    def _bounded(self, name: str, operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """An operator that makes nothing too large; what most operands are is looked at first."""
        floating, (most, other_most) = reach.FLOATING, reach.MOST_WHOLE[name]
        least, other_least = -most, -other_most

        @self._kept
        def asked(left: Any, right: Any) -> Any:
            reach.check_sizes(name, left, right)
            return operate(left, right)

        def bounded(left: Any, right: Any) -> Any:
            kind = type(left)
            if kind is float or kind in floating:
                return operate(left, right)
            if kind is int:
                other = type(right)
                if other is int and least < left < most and other_least < right < other_most:
                    return operate(left, right)
                if other in floating:
                    return operate(left, right)
            return asked(left, right)

        return bounded

    def _known(self, guard: Callable[..., Any], is_free: Callable[[type, str], bool]) -> Callable[..., Any]:
        """The guard of an attribute, which remembers by its name the types of which it is free whatever the object holds."""
        known = defaultdict[str, set[type]](set)
        ask = self._kept(guard)

        def looked_at(value: Any, name: str) -> Any:
            kind = type(value)
            if kind in known[name]:
                return value
            if kind is Namespace and guard is _read and name in value.__dict__:
                return ask(value, name) if name[:2] == "__" else value
            if is_free(kind, name):
                known[name].add(kind)
                return value
            return ask(value, name)

        return looked_at

    def caught(self) -> None:
        """Stands where an error may end: what is refused, by what a program calls too, goes on from there.

        Raises:
            Ended: it is a refusal.
            Reached: the run has come to the call that it was made for.
        """
        error = sys.exc_info()[1]
        if isinstance(error, Reached):
            raise error
        if isinstance(error, (Ended, JvpError)):
            raise self.watch.end(error.error if isinstance(error, Ended) else error) from None
        self.resumed(None)  # a generator is closed there, too

    def resumed(self, given: Any) -> Any:
        """What a generator is given as it goes on, where what it is asked by runs between the guards.

        Raises:
            Ended: it does not.
        """
        if self.inside() is not NOTHING:
            raise self.watch.end(ForbiddenError("A generator of the program goes on outside of it."))
        return given

    def yielded(self, given: Any) -> Any:
        """What a generator gives, which takes a turn: it gives nothing any more once the program has ended."""
        self._turn()
        return given

    def within(self, body: Callable[[], Any]) -> Any:
        """What a lambda gives."""
        with self.inside():
            return body()

    def over(self, items: Any) -> Iterator[Any]:
        """The items that a generator goes through, counted."""
        for item in items:
            self.resumed(None)
            yield item

    def _fetch(self, module: str, name: str | None = None) -> Any:
        root, _, rest = module.partition(".")
        found: Any = INERT if root in SHOWN else self.spaces.get(root)
        if found is None:
            found = further_module(root)
        if found is None and is_absent(root):
            raise ModuleNotFoundError(f"No module named '{root}'")  # as Python says it
        if found is None:
            raise self.watch.end(ForbiddenError(f"`import {root}`: there is no {root} in a program."))
        if isinstance(found, Inert):
            if name == "*" and module in ("pylab", "matplotlib.pylab", "matplotlib.pyplot"):
                numbers = vars(self.spaces["numpy"]) if module.endswith("pylab") else {}
                for each in (numbers, vars(numbers["random"]) if numbers else {}):
                    self.globals.update({word: value for word, value in each.items() if not word.startswith("_")})
                self.globals.update({word: getattr(INERT, word) for word in PLOTTED})
            return found if name is None else getattr(found, name)
        for part in filter(None, (*rest.split("."), name if name != "*" else "")):
            found = found if isinstance(found, Inert) else _entries(found).get(part, _MISSING)
            if found is _MISSING and name is not None and _lacks(module, name):
                raise ImportError(f"cannot import name '{name}' from '{module}'")  # as Python says it
            if found is _MISSING:
                raise self.watch.end(UnknownNameError(f"There is no `{module}{'.' + name if name else ''}` in a program."))
        if name == "*" and not isinstance(found, Namespace):
            raise self.watch.end(ForbiddenError(f"`from {module} import *` can't be used in a program: it is no module."))
        if name == "*":
            self.globals.update({word: each for word, each in _entries(found).items() if not word.startswith("_")})
        return found

    def _build(self, body: Any, name: str, /, *bases: Any, metaclass: Any = type, **keywords: Any) -> type:
        """A class of the program."""
        if bases and bases[0] is NAMED_TUPLE and all(type(each) is Types for each in bases[1:]):
            return named_tuple_of(built(body, name, bases[1:], type, {}, self.within), self.within)
        if any(each is RECORD for each in bases):
            return dict
        bases = tuple(each.__origin__ if type(each) is types.GenericAlias else each for each in bases)
        for base in bases:
            if base is NAMED_TUPLE:
                raise ForbiddenError("A class of named tuples is derived from nothing else in a program.")
            real = base.kind if isinstance(base, Named) else base
            if type(base) is Types or any(real is each for each in (*BASES, *modules().values())) or reach.is_own(real):
                continue
            raise ForbiddenError(f"A class of a program can't be derived from `{getattr(real, '__name__', real)}`.")
        return self._called(built(body, name, bases, metaclass, keywords, self.within))

    def _matched(self, kind: Any, count: int, names: tuple[str, ...]) -> Any:
        """The class of a pattern, which matches what it is of by attributes that a program may read."""
        real = kind.kind if isinstance(kind, Named) else kind
        if not isinstance(real, type):
            raise TypeError("called match pattern must be a class")  # as Python says it
        if not names and (not count or (count == 1 and real.__flags__ & MATCHES_ITSELF and NOTED not in dir(real))):
            return real
        return matching(real, names, self.globals["__builtins__"][syntax.READ])

    def _called(self, made: Any) -> Any:
        """A class of the program, with guards around what torch calls of a `Function`."""
        for each in reach.CALLED if issubclass(made, Function) else ():
            if (called := reach.own_entry(made, each)) is not None:
                setattr(made, each, self._guarded(called))
        return made

    def _guarded(self, called: Any) -> Any:
        """What torch calls of a `Function` where no guard is, while it goes through a graph: a function of the program has one
        with it; any other is given one."""
        function = called.__func__ if isinstance(called, (staticmethod, classmethod)) else called
        if not callable(function) or (reach.is_own(type(function)) and hasattr(type(function), "__get__")):
            raise ForbiddenError("What torch calls of a `Function` is a function.")
        if reach.has_guard(function):
            return called

        @wraps(function, WRAPPER_ASSIGNMENTS, ())
        def guarded(*arguments: Any, **keywords: Any) -> Any:
            return self.within(lambda: function(*arguments, **keywords))

        return classmethod(guarded) if isinstance(called, classmethod) else staticmethod(guarded)


_MISSING = object()

OPERATORS = {"Mult": operator.mul, "Pow": operator.pow, "LShift": operator.lshift, "Mod": operator.mod}

CHANGES = {
    "Add": operator.iadd, "Sub": operator.isub, "Mult": operator.imul, "Div": operator.itruediv, "FloorDiv": operator.ifloordiv,
    "Mod": operator.imod, "Pow": operator.ipow, "MatMult": operator.imatmul, "LShift": operator.ilshift,
    "RShift": operator.irshift,
    "BitAnd": operator.iand, "BitOr": operator.ior, "BitXor": operator.ixor,
}  # fmt: skip
"""What makes a new value of two, and what may change the first instead."""


def _entries(found: Any) -> dict[str, Any]:
    """What can be imported from something: what a namespace has; nothing of a class or a function itself."""
    return vars(found) if isinstance(found, (Namespace, Named)) else {}


def _lacks(module: str, name: str) -> bool:
    """Whether Python itself finds nothing of a name in a module that is loaded."""
    real = sys.modules.get(module)
    return real is not None and not hasattr(real, name) and not (hasattr(real, "__path__") and not is_absent(f"{module}.{name}"))


def _kinds(kinds: Any) -> Any:
    if isinstance(kinds, tuple):
        return tuple(map(_kinds, kinds))
    return kinds.kind if isinstance(kinds, Named) else kinds


def _read(value: Any, name: str) -> Any:
    """What an attribute is read from; `x.__class__` of a module and of an error is `type(x)`."""
    return _OfKind(value) if name == "__class__" and isinstance(value, (nn.Module, Exception)) else reach.read(value, name)


def _get(value: Any, name: Any, *default: Any) -> Any:
    """`getattr(x, name)`"""
    word = reach.word(name)
    try:
        return getattr(_read(value, word), word, *default)
    except NOT_HAD:
        if default and not hasattr(value, word):
            return default[0]
        raise


def _has(value: Any, name: Any) -> bool:
    """`hasattr(x, name)`; where Python has an attribute that no program can read, neither answer would do."""
    word = reach.word(name)
    try:
        return hasattr(_read(value, word), word)
    except NOT_HAD:
        if hasattr(value, word):
            raise
        return False


def _set(value: Any, name: Any, given: Any) -> None:
    """`setattr(x, name, given)`"""
    word = reach.word(name)
    setattr(reach.settable(value, word), word, given)


def _delete(value: Any, name: Any) -> None:
    """`delattr(x, name)`"""
    word = reach.word(name)
    delattr(reach.settable(value, word), word)


def _is_readable(value: Any, name: str) -> bool:
    """Whether an object has an attribute that a program can read."""
    try:
        return hasattr(_read(value, name), name)
    except NOT_HAD:
        return False


class _OfKind:
    """What has the class of an object, and nothing else of it."""

    def __init__(self, value: Any) -> None:
        self.kind = _type(value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.kind


def _type(value: Any) -> Any:
    """`type(x)`"""
    kind = type(value)
    if reach.is_own(kind) or any(kind is each for each in _TYPES) or modules().get(kind.__name__) is kind:
        return kind
    if kind in named_types():
        return named_types()[kind]
    return Named(kind.__name__, kind, not_made, {"__name__": kind.__name__})


_TYPES = frozenset({int, float, bool, str, complex, list, tuple, dict, set, nn.Parameter})


def _builtins() -> dict[str, Any]:
    found = {name: getattr(builtins, name) for name in (*PURE, *reach.ERRORS)}
    return {
        **found,
        "print": as_seen("print", _printed),
        "isinstance": lambda value, kinds: isinstance(value, _kinds(kinds)),
        "issubclass": lambda kind, kinds: issubclass(_kinds(kind), _kinds(kinds)),
        "pow": as_seen("pow", _power),
        "round": _rounded,
        "iter": lambda items: iter(items),
        "format": _formatted,
        "exit": leave,
        "quit": leave,
        "help": INERT,
        "KeyboardInterrupt": type("KeyboardInterrupt", (Exception,), {}),  # which goes to whoever has the program run
    }


@lru_cache(maxsize=1)
def found_without_import() -> frozenset[str]:
    """The names that a program finds though it neither assigns nor imports them."""
    return names_unimported().union(_builtins())


def _vars(value: Any) -> Any:
    """`vars(x)`, of a namespace, or of an object of the program that torch keeps nothing in."""
    if type(value) is types.SimpleNamespace or (reach.is_pythons(type(value)) and hasattr(value, "__dict__")):
        return reach.Attributes(value)
    raise ForbiddenError(f"vars(…) of a `{type(value).__name__}` can't be used in a program.")


def _formatted(value: Any, spec: Any = "") -> str:
    """`format(value, spec)`, of no width of any size."""
    if type(spec) is not str or syntax.WIDE.search(spec):
        raise ForbiddenError("A format of any width can't be used.")
    return format(value, spec)


def _loaded(name: str, *rest: Any, **keywords: Any) -> Any:
    """What torch and numpy load of themselves where they are called; no program can write the name.

    Raises:
        ImportError: it is none of theirs.
    """
    if name.partition(".")[0] not in ("torch", "numpy"):
        raise ImportError(f"there is no {name} in a program")
    return builtins.__import__(name, *rest, **keywords)


def _printed(*values: Any, sep: Any = None, end: Any = None, file: Any = None, flush: Any = False) -> None:
    """`print(…)`, which writes to a text of the program alone."""
    if type(file) is io.StringIO:
        print(*values, sep=sep, end=end, file=file)


def _power(base: Any, exp: Any, mod: Any = None) -> Any:
    """`pow(base, exp)`, of no number of any size; with a third number it is a rest."""
    if mod is None:
        reach.check_sizes("Pow", base, exp)
        return base**exp
    if not all(type(each) is int and each.bit_length() <= MOST_BITS for each in (base, exp, mod)):
        raise ForbiddenError(f"pow(…) with three numbers takes whole ones of at most {MOST_BITS:,} bits in a program.")
    return pow(base, exp, mod)


MOST_BITS = 4096
"""How long a number may be of which a rest is taken."""


def _rounded(number: Any, digits: Any = None) -> Any:
    """`round(number, digits)`, of digits that a number may have."""
    limits.check_plain("builtin:round", (reach.exact(number), reach.exact(digits or 0)), {})
    return round(number, digits)
