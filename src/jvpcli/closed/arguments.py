"""The command line of a program that is pasted: it has none, and its arguments are what they are where they aren't given."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from jvpcli.closed.words import INERT, Named
from jvpcli.errors import ForbiddenError

if TYPE_CHECKING:
    import argparse

TOLD = frozenset({"prog", "usage", "description", "epilog", "formatter_class", "add_help", "allow_abbrev", "conflict_handler"})
"""What is said of a command line without changing what its arguments are."""

SHOWN = ("help", "metavar")
"""What is only shown of an argument."""

TAKEN = frozenset({"type", "default", "choices", "nargs", "required", "dest", "action", "const", *SHOWN})
"""What is said of an argument."""

ACTIONS = frozenset({"store", "store_true", "store_false", "store_const", "append", "append_const", "count", "extend"})
"""What is done with an argument, by its name."""


BOOLEAN = Named("argparse.BooleanOptionalAction", object, INERT)
"""By which an argument is switched on and off."""


def _text(given: Any) -> str:
    """A text of Python's own, without a meaning for Python as a name.

    Raises:
        ForbiddenError: it is another.
    """
    if type(given) is not str or given.lstrip("-").replace("-", "_").startswith("__"):
        raise ForbiddenError(f"The argument `{given}` can't be used.")
    return given


class Parser:
    """`argparse.ArgumentParser`, of a command line without arguments, or of one that is written out."""

    def __init__(self, *_: Any, **options: Any) -> None:
        import argparse  # loaded only where a program reads a command line

        for name in options.keys() - TOLD:
            raise ForbiddenError(f"The argument `{name}` of an ArgumentParser can't be used in a program.")

        class Reading(argparse.ArgumentParser):
            def error(self, message: str) -> NoReturn:
                needed = message.removeprefix("the following arguments are required: ")
                if needed != message:
                    raise ForbiddenError(f"The program needs {needed} on its command line, which isn't there.")
                raise ForbiddenError(f"The program's command line can't be read: {message}.")

        self._parser: argparse.ArgumentParser = Reading(prog="", add_help=False)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Notes down what an argument is."""
        self._added(self._parser, names, options)
        return INERT

    def _added(self, parser: Any, names: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Adds an argument.

        Raises:
            ForbiddenError: something else is said of it than what it is.
        """
        import argparse

        action = options.get("action")
        if action is BOOLEAN:
            options = {**options, "action": argparse.BooleanOptionalAction}
        elif options.keys() - TAKEN or not (action is None or (type(action) is str and action in ACTIONS)):
            raise ForbiddenError(f"The argument `{', '.join(map(str, names))}` is of a kind that can't be used in a program.")
        for each in (*names, *([options["dest"]] if options.get("dest") is not None else [])):
            _text(each)
        parser.add_argument(*names, **{name: value for name, value in options.items() if name not in SHOWN})

    def add_argument_group(self, *_: Any, **__: Any) -> Parser:
        """The parser itself: a group changes what is shown."""
        return self

    add_mutually_exclusive_group = add_argument_group

    def set_defaults(self, **values: Any) -> None:
        """Sets what arguments are that aren't given."""
        for name in values:
            _text(name)
        self._parser.set_defaults(**values)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """The arguments.

        Raises:
            ForbiddenError: one that has to be given isn't, or Python can't read what is given.
        """
        found, rest = self.parse_known_args(args)
        if rest:
            self._parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return found

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """The arguments, and those that the parser doesn't know."""
        found, rest = self._parser.parse_known_args([*map(_given, args or ())])
        return types.SimpleNamespace(**vars(found)), rest


def _given(word: Any) -> str:
    if type(word) is not str:
        raise ForbiddenError("A command line is made of texts.")
    return word
