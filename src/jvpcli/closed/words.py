"""What stands for a namespace, for what has no effect here, and for what isn't here."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod
from types import FunctionType
from typing import Any

from jvpcli.errors import ForbiddenError, UnknownNameError, words_of

NOT_HAD = (ForbiddenError, UnknownNameError)
"""What is told of what a program may not read, or of what isn't there."""


class Ended(BaseException):
    """Ends a program, through whatever it catches.

    Attributes:
        error: why.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(words_of(error))
        self.error = error


class Reached(BaseException):
    """Ends a run at the call that it was made for: what the program would do behind it changes what the answer is made of."""


class _Nothing:
    """A block in which nothing is done, by C itself, since each call of a function of a program is one.

    An empty text is filled in with whatever a block is left by: it stays empty, and an error goes on.
    """

    __slots__ = ()
    __enter__ = __exit__ = "".format


NOTHING: Any = _Nothing()


def as_seen(name: str, value: Any) -> Any:
    """A function of ours by the name that a program has for it, which Python says of its arguments; anything else as it is."""
    if type(value) is not FunctionType or value.__qualname__ == name or not value.__globals__["__name__"].startswith(OURS):
        return value
    made = FunctionType(value.__code__, value.__globals__, name, value.__defaults__, value.__closure__)
    made.__dict__.update(value.__dict__)
    made.__qualname__, made.__kwdefaults__, made.__doc__ = name, value.__kwdefaults__, value.__doc__
    return made


OURS = "jvpcli."


class Namespace:
    """A module as a program sees it: what it holds is what there is of it."""

    __slots__ = ("__dict__", "_path")

    def __init__(self, path: str, entries: dict[str, Any]) -> None:
        vars(self).update({name: as_seen(name, value) for name, value in entries.items()})
        self._path = path

    def __repr__(self) -> str:
        return self._path


class Named:
    """A class of torch's as a program sees it: it can be called, and asked for by isinstance.

    Attributes:
        kind: the class.
    """

    __slots__ = ("__dict__", "_make", "_path", "kind")

    def __init__(self, path: str, kind: type, make: Any, entries: dict[str, Any] | None = None) -> None:
        self._path, self.kind, self._make = path, kind, as_seen(path.rpartition(".")[2], make)
        vars(self).update({name: as_seen(name, value) for name, value in (entries or {}).items()})

    def __repr__(self) -> str:
        return self._path

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Makes an object, as a program may make one."""
        return self._make(*arguments, **keywords)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Named) and other.kind is self.kind

    def __hash__(self) -> int:
        return hash(self.kind)


class Inert:
    """What only shows something, or sets what has no effect here: all that is asked of it is another such, and does nothing."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Does nothing."""
        return INERT

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _subplots if name == "subplots" else INERT

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        raise _unknown("how many parts it has")

    def __getitem__(self, index: Any) -> Any:
        return INERT

    def __setitem__(self, index: Any, value: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def __format__(self, spec: str) -> str:
        return ""

    def __str__(self) -> str:
        return ""

    __repr__ = __str__

    def _with(self, other: Any) -> Any:
        """What is made of it and a number, as of two times of a clock, a text, as of a path, or a list of what is shown."""
        if isinstance(other, (Inert, int, float, str, list)):
            return INERT
        raise _unknown("which number it is")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with

    def _number(self, *_: Any) -> Any:
        raise _unknown("which number it is")

    __lt__ = __le__ = __gt__ = __ge__ = __float__ = __int__ = __index__ = __len__ = __neg__ = __abs__ = __round__ = _number
    __pow__ = __rpow__ = __mod__ = __floordiv__ = __rfloordiv__ = __matmul__ = __rmatmul__ = _number


def _unknown(what: str) -> Ended:
    """What ends a program whose numbers would hang on what is only shown."""
    return Ended(ForbiddenError(f"A program computes with what is only shown, or measured, here: {what} isn't known."))


INERT = Inert()


class Path(Inert):
    """`pathlib.Path(…)`: a text, to which nothing belongs; what else is done with it has no effect."""

    def __init__(self, *parts: Any) -> None:
        object.__setattr__(self, "_text", posixpath.normpath(posixpath.join("", *map(str, parts))))

    def __str__(self) -> str:
        text: str = self._text
        return text

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def __truediv__(self, other: Any) -> Any:
        return Path(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return Path(other, self)


class BytesIO:
    """`io.BytesIO()`, to which tensors are saved: nothing else can be done with what is in it."""

    def seek(self, *_: Any) -> int:
        """Goes back to where it begins: it is read as a whole."""
        return 0


class Types(Inert):
    """What types are written with: what is derived from it is derived from nothing, but where it gets fields by it.

    Args:
        known: what of it are functions and classes, by their names.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_known", {name: as_seen(name, value) for name, value in known.items()})

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """A type."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        return super().__getattr__(name) if name[:2] == "__" else self

    def __getitem__(self, index: Any) -> Any:
        return self



Parts = tuple["Parts | None", ...]
"""How a value is taken apart by what it is assigned to: `a, (b, c)` are (None, (None, None))."""


def parts_of(value: Any, parts: Parts) -> Any:
    """A value that is assigned to several names: what is only shown has as many parts as there are."""
    if type(value) is not Inert:
        return value
    return tuple([INERT if part is None else parts_of(value, part) for part in parts])


class Grid(Inert):
    """The axes of a figure, in rows and columns: how many there are is known.

    Args:
        shape: their number, along each axis that numpy would give.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        object.__setattr__(self, "_shape", tuple(shape))

    def __getattr__(self, name: str) -> Any:
        if name == "flat":
            return Grid((prod(self._shape),))
        return (lambda *_, **__: self.flat) if name in ("ravel", "flatten") else super().__getattr__(name)

    def __len__(self) -> int:
        return self._shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        asked = index if isinstance(index, tuple) else (index,)
        pairs: list[Any] = list(zip_longest(asked[: len(self._shape)], self._shape, fillvalue=slice(None)))
        if not all(isinstance(place, (int, slice)) for place, _ in pairs):
            return INERT
        left = [len(range(count)[place]) for place, count in pairs if isinstance(place, slice)]
        return Grid(left) if left else INERT


def _subplots(nrows: Any = 1, ncols: Any = 1, *_: Any, **options: Any) -> tuple[Inert, Inert]:
    """`plt.subplots(rows, columns)`: a figure, and its axes as numpy's array has them without axes of one."""
    shape = [count for count in (nrows, ncols) if type(count) is int and (count != 1 or options.get("squeeze") is False)]
    return INERT, Grid(shape) if shape else INERT


class Progress(Inert):
    """`tqdm(items)`: the items themselves."""

    def __init__(self, iterable: Iterable[Any] = (), *_: Any, **__: Any) -> None:
        object.__setattr__(self, "_items", iterable)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


def progress() -> Namespace:
    """tqdm as a program has it."""
    bar = Named("tqdm.tqdm", Progress, Progress, {"write": INERT, "pandas": INERT})
    counted: Callable[..., Progress] = lambda *bounds, **_: Progress(range(*bounds))  # noqa: E731
    entries = {"tqdm": bar, "trange": counted, "tqdm_notebook": bar, "tnrange": counted}
    inner = {name: Namespace(f"tqdm.{name}", entries) for name in ("auto", "notebook", "std")}
    return Namespace("tqdm", {**entries, **inner})
