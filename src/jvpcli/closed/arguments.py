"""The command line of a program that is pasted: it has none, and its arguments are what they are where they aren't given."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from jvpcli.closed.words import INERT
from jvpcli.errors import ForbiddenError


def _text(given: Any) -> str:
    """A text of Python's own, whose methods are what they are.

    Raises:
        ForbiddenError: it is another.
    """
    if type(given) is not str:
        raise ForbiddenError("The names of arguments are texts.")
    return given


class Parser:
    """`argparse.ArgumentParser`, of a command line without arguments."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._found: dict[str, Any] = {}
        self._needed: list[str] = []

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Notes down what an argument is where it isn't given."""
        names = tuple(map(_text, names))
        long = next((name for name in names if name.startswith("--")), names[0])
        key = _text(options.get("dest") or "") or long.lstrip("-").replace("-", "_")
        self._check(key)
        kind, ways = options.get("type"), {"store_true": False, "store_false": True}
        value = options.get("default", ways.get(options.get("action", "store")))
        has_place = not long.startswith("-")
        if (options.get("required") or has_place) and "default" not in options and options.get("nargs") not in ("?", "*"):
            self._needed.append(long)
        if has_place and options.get("nargs") == "*" and value is None:
            value = []
        self._found[key] = kind(value) if isinstance(value, str) and kind is not None else value
        return INERT

    def add_argument_group(self, *_: Any, **__: Any) -> Parser:
        """The parser itself: a group changes what is shown."""
        return self

    add_mutually_exclusive_group = add_argument_group

    def set_defaults(self, **values: Any) -> None:
        """Sets what arguments are that aren't given."""
        for name in values:
            self._check(name)
        self._found |= values

    def parse_args(self, args: Sequence[str] = (), namespace: Any = None) -> Any:
        """The arguments.

        Raises:
            ForbiddenError: some are given, or one that has to be isn't.
        """
        if args:
            raise ForbiddenError("A command line that is written out can't be read.")
        if self._needed:
            raise ForbiddenError(f"The program needs {self._needed[0]} on its command line, which isn't there.")
        return types.SimpleNamespace(**self._found)

    @staticmethod
    def _check(name: str) -> None:
        """Refuse a name that has a meaning for Python.

        Raises:
            ForbiddenError: it has one.
        """
        if name.startswith("__"):
            raise ForbiddenError(f"The argument `{name}` can't be used.")

    def parse_known_args(self, args: Sequence[str] = (), namespace: Any = None) -> tuple[Any, list[str]]:
        """The arguments, and those that the parser doesn't know."""
        return self.parse_args(args), []
