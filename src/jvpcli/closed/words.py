"""What stands for a namespace, for what has no effect here, and for what isn't here."""

from __future__ import annotations

from typing import Any


class Namespace:
    """A module as a program sees it: what it holds is what there is of it.

    Attributes:
        path: its name.
    """

    __slots__ = ("__dict__", "path")

    def __init__(self, path: str, entries: dict[str, Any]) -> None:
        vars(self).update(entries)
        self.path = path


class Named:
    """A class of torch's as a program sees it: it can be called, and asked for by isinstance.

    Attributes:
        path: its name.
        kind: the class.
    """

    __slots__ = ("__dict__", "_make", "kind", "path")

    def __init__(self, path: str, kind: type, make: Any, entries: dict[str, Any] | None = None) -> None:
        self.path, self.kind, self._make = path, kind, make
        vars(self).update(entries or {})

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
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def __iter__(self) -> Any:
        return iter((self, self))  # fig, axes = plt.subplots()

    def __getitem__(self, index: Any) -> Any:
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def __format__(self, spec: str) -> str:
        return ""

    def _with(self, other: Any) -> Any:
        """What is made of it and a number, as of two times of a clock."""
        return self if isinstance(other, (Inert, int, float)) else NotImplemented

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with


INERT = Inert()
