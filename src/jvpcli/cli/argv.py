"""argv as typer can read it: `--NAME VALUE` for the expression's inputs becomes `--input NAME=VALUE`.

A pure function of argv and of what options a command has.  A VALUE or EXPR may begin with `-`; what is neither an
option nor an input that the request uses is a usage error with the nearest right name.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jvpcli.errors import JvpError, UsageError

_LONG = re.compile(r"--[^\W\d]")
"""How a long option or input begins; `--1` is an expression."""


@dataclass(frozen=True)
class Options:
    """The options of one command: each spelling to its long name, and which long names take a value."""

    spellings: Mapping[str, str]
    valued: Collection[str]

    @property
    def long(self) -> list[str]:
        """The long spellings."""
        return [name for name in self.spellings if name.startswith("--")]

    @classmethod
    def of(cls, command: str) -> Options:
        """The options of a command of jvp."""
        from jvpcli.options import COMMAND_LINE, FLAG, options_of  # the program's own help does without

        declared = [option for option in options_of(COMMAND_LINE, command).values() if option.spellings]
        spellings = {name: option.spellings[0] for option in declared for name in option.spellings}
        valued = frozenset(option.spellings[0] for option in declared if option.kind is not FLAG)
        return cls(spellings | {"--help": "--help", "-h": "--help"}, valued)


@dataclass(frozen=True)
class _Given:
    """An input as given: where it stands in argv, and its VALUE (None: there is none)."""

    position: int
    value: str | None
    by_option: bool


@dataclass
class _Sorted:
    """argv, sorted into what typer knows, inputs, and the rest (with its places in argv)."""

    known: list[str] = field(default_factory=list)
    inputs: dict[str, _Given] = field(default_factory=dict)
    positional: list[tuple[int, str]] = field(default_factory=list)

    @property
    def expression(self) -> str | None:
        """EXPR, if it is there."""
        return self.positional[0][1] if self.positional else None


def has_flag(argv: Sequence[str], flag: str) -> bool:
    """Whether a flag is among the options, known before anything else is: how are failures to be told?"""
    words = list(argv)
    return flag in (words[: words.index("--")] if "--" in words else words)


def readable(word: str) -> str:
    """A word of argv; what the locale could not decode is read as UTF-8.

    Raises:
        UsageError: it is no text.
    """
    try:
        word.encode()
        return word
    except UnicodeEncodeError:
        try:
            return os.fsencode(word).decode()
        except UnicodeError:
            raise UsageError(f"an argument is not UTF-8 text: {word!a}") from None


def normalise(argv: Sequence[str], options: Options, command: str = "jvp inspect") -> list[str]:
    """argv of a command whose inputs are given as options, for typer.

    Raises:
        UsageError: an option or input that there isn't, a missing value, an input given twice, a stray argument.
            Its hint is the whole command with the nearest right name in place.
    """
    parts = _Reader(tuple(argv), options).read()
    _refuse_strangers(parts, argv, options, command)
    for name, given in parts.inputs.items():
        if given.value is None:
            raise UsageError(f"--{name} needs a value", explanation=_about_values(argv, given.position))
    inputs = [f"--input={name}={given.value}" for name, given in parts.inputs.items()]
    return [*inputs, *parts.known, *(["--", parts.expression] if parts.expression is not None else [])]


class _Reader:
    """One walk over argv."""

    def __init__(self, argv: tuple[str, ...], options: Options) -> None:
        self.argv = argv
        self.options = options
        self.position = 0
        self.parts = _Sorted()

    def read(self) -> _Sorted:
        """Every word in its place."""
        while self.position < len(self.argv):
            word = self.argv[self.position]
            if word == "--":
                self.parts.positional += list(enumerate(self.argv))[self.position + 1 :]
                break
            if _LONG.match(word):
                self.long(word)
            elif self.is_short(word):
                self.option(self.options.spellings[word[:2]], word[2:].removeprefix("=") or None)
            else:
                self.parts.positional.append((self.position, word))
            self.position += 1
        self.one_expression()
        return self.parts

    def long(self, word: str) -> None:
        """`--option`, `--option VALUE`, `--option=VALUE`, or the same for an input."""
        name, equals, value = word.partition("=")
        if name in self.options.spellings:
            self.option(self.options.spellings[name], value if equals else None)
        else:
            start = self.position
            self.input(name[2:], value if equals else self.value(), start, by_option=False)

    def is_short(self, word: str) -> bool:
        """Whether a word is a short option: `-g`, `-g=VALUE`, and `-gVALUE` once EXPR, which may begin so, is there."""
        known = word[:2] in self.options.spellings and word[:2] != "--"
        return known and (len(word) == 2 or word[2] == "=" or bool(self.parts.positional))

    def option(self, name: str, value: str | None) -> None:
        """One of the command's own options; -i is where inputs come from, too."""
        if name not in self.options.valued:
            if value is not None:
                key = name.removeprefix("--")
                raise UsageError(
                    f"{name} takes no value", explanation=f"To give an input of that name: -i {key}={value}"
                )
            self.parts.known.append(name)
            return
        start = self.position
        value = self.value() if value is None else value
        if value is None:
            raise UsageError(f"{name} needs a value", explanation=_about_values(self.argv, start))
        if name == "--input":
            key, equals, text = value.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"--input takes NAME=VALUE, not {value!r}")
            self.input(key.strip(), text, start, by_option=True)
        else:
            self.parts.known.append(f"{name}={value}")

    def value(self) -> str | None:
        """The next word, as an option's value; never another long option."""
        following = self.argv[self.position + 1 : self.position + 2]
        if not following or _LONG.match(following[0]) or following[0] == "--":
            return None
        self.position += 1
        return following[0]

    def input(self, name: str, value: str | None, position: int, by_option: bool) -> None:
        if name in self.parts.inputs:
            raise UsageError(f"the input {name!r} was given twice")
        self.parts.inputs[name] = _Given(position, value, by_option)

    def one_expression(self) -> None:
        """Raises for a second EXPR, unless the first was a short option with its value attached."""
        positional = self.parts.positional
        if len(positional) < 2:
            return
        first, second = positional[0][1], positional[1][1]
        if len(positional) == 2 and first[:2] in self.options.spellings:
            del positional[0]
            self.option(self.options.spellings[first[:2]], first[2:])
            return
        unknown = next((word for _, word in positional if re.fullmatch(r"-[^\W\d_]", word)), None)
        if unknown is not None:
            raise UsageError(f"there is no option {unknown}")
        raise UsageError(
            f"unexpected argument {second!r} after the expression {first!r}",
            explanation="There is one EXPR; an expression or VALUE with blanks in it needs quotes.",
        )


def _about_values(argv: Sequence[str], position: int) -> str:
    """Why the word after an option was not taken for its value, if there is one."""
    if position + 1 >= len(argv):
        return ""
    return f"{argv[position + 1]} is an option; a VALUE that begins with -- is written {argv[position]}=VALUE."


def _refuse_strangers(parts: _Sorted, argv: Sequence[str], options: Options, command: str) -> None:
    """Raises for an input that neither the expression nor a VALUE uses: most likely a misspelt option."""
    if not parts.inputs:
        return
    if parts.expression is None:  # a misspelt flag may have taken it for its value
        for name, given in parts.inputs.items():
            near = None if given.by_option else _nearest(name, options.long)
            if near is not None:
                raise _stranger(f"there is no option --{name}", given, near, argv, options, command)
        raise _without_expression(parts)
    try:
        used = _used_names(parts.expression, parts)
    except JvpError:  # the expression itself is refused: that is what the user is told
        return
    for name, given in parts.inputs.items():
        if name not in used:
            fact = f"the expression uses no input {name!r} (it uses {', '.join(sorted(used)) or 'none'})"
            if given.by_option:
                raise UsageError(fact)
            open_names = [f"--{key}" for key in sorted(used - parts.inputs.keys())]
            near = _nearest(name, [*options.long, *open_names]) or (open_names[0] if len(open_names) == 1 else None)
            raise _stranger(f"there is no option --{name}, and {fact}", given, near, argv, options, command)


def _without_expression(parts: _Sorted) -> UsageError:
    """The error where there are inputs and no EXPR: was it read as a VALUE?"""
    name, given = next(reversed(parts.inputs.items()))
    where = f"{given.value!r} was read as the VALUE of the input {name!r}." if given.value is not None else ""
    return UsageError("EXPR is missing: the expression to differentiate", explanation=where)


def _stranger(
    fact: str, given: _Given, near: str | None, argv: Sequence[str], options: Options, command: str
) -> UsageError:
    """The error for a name that is no option and no input, with the command that was probably meant."""
    if near is None:
        return UsageError(fact)
    corrected = _corrected(list(argv), given, near, options)
    hints = (f"{command} {shlex.join(corrected)}",) if corrected else ()
    return UsageError(fact, explanation=f"Did you mean {near}?", hints=hints)


def _corrected(argv: list[str], given: _Given, near: str, options: Options) -> list[str] | None:
    """argv with the right name in place; None where that would not make a whole command."""
    _, equals, value = argv[given.position].partition("=")
    flag = near in options.spellings and options.spellings[near] not in options.valued
    if flag and equals:
        return None
    if not flag and given.value is None:
        return None
    argv[given.position] = near + equals + value
    return argv


def _used_names(source: str, parts: _Sorted) -> set[str]:
    """The free names of the expression and of the VALUEs."""
    from jvpcli.language import may_ask_for_derivative
    from jvpcli.language.names import assigned
    from jvpcli.language.parse import parse, read_program

    used = set(parse(source, {*parse(source).inputs, *parts.inputs}).inputs)  # an input may hide a builtin's name
    if all(name in used for name in parts.inputs):
        return used
    if may_ask_for_derivative(source):
        from jvpcli.language.pasted import read_pasted  # few texts do

        pasted = read_pasted(source)
        used |= {*pasted.inputs} if pasted is not None else set()  # leaves that the text makes, which a VALUE stands for
        if "\n" in source:  # what else it makes a VALUE stands for where Python runs it
            used |= {*assigned(read_program(source)[1].body)}
    values = [given.value for given in parts.inputs.values() if given.value is not None]
    for value in (*values, *(word.partition("=")[2] for word in parts.known)):
        used |= _free_names(value) & set(parts.inputs)
    return used


def _free_names(value: str) -> set[str]:
    """The names that a VALUE uses, if it is an expression (a target's name before `=` aside)."""
    from jvpcli.language.parse import parse

    for text in (value, value.partition("=")[2]):
        try:
            return set(parse(text.strip()).inputs)
        except JvpError:  # numbers, JSON, a file
            continue
    return set()


def _nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The nearest of some options and inputs, if one is near; dashes, underscores and capitals make no difference."""
    by_letters = {_letters(candidate): candidate for candidate in candidates}
    found = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.6)
    return by_letters[found[0]] if found else None


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
