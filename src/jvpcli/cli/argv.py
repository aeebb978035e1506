"""argv as typer can read it: `--NAME VALUE` for the expression's inputs becomes `--input NAME=VALUE`.

A pure function of argv and of what options a command has.  A VALUE or EXPR may begin with `-`; what is neither an
option nor an input that the request uses is a usage error with the nearest right name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jvpcli.errors import JvpError, UsageError


@dataclass(frozen=True)
class Options:
    """The options of one command: each spelling to its long name, and which long names take a value."""

    spellings: Mapping[str, str]
    valued: Collection[str]

    @property
    def long(self) -> list[str]:
        """The long spellings."""
        return [name for name in self.spellings if name.startswith("--")]


@dataclass
class _Sorted:
    """argv, sorted into what typer knows, inputs, and the rest."""

    known: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    positional: list[str] = field(default_factory=list)


def normalise(argv: Sequence[str], options: Options) -> list[str]:
    """argv of a command whose inputs are given as options, for typer.

    Raises:
        UsageError: an option or input that there isn't, a missing value, an input given twice, a stray argument.
    """
    parts = _sort(list(argv), options)
    if len(parts.positional) > 1:
        stray = parts.positional[1]
        raise UsageError(
            f"unexpected argument {stray!r} after the expression {parts.positional[0]!r}",
            explanation="There is one EXPR; an expression or VALUE with blanks in it needs quotes.",
        )
    _refuse_strangers(parts, options)
    inputs = [f"--input={name}={value}" for name, value in parts.inputs.items()]
    return [*inputs, *parts.known, *(["--", *parts.positional] if parts.positional else [])]


def _sort(argv: list[str], options: Options) -> _Sorted:
    parts = _Sorted()
    rest = iter(argv)
    for word in rest:
        if word == "--":
            parts.positional.extend(rest)
        elif word.startswith("--"):
            _long(word, rest, options, parts)
        elif word.startswith("-") and len(word) > 1:
            _short(word, rest, options, parts)
        else:
            parts.positional.append(word)
    return parts


def _long(word: str, rest: Iterator[str], options: Options, parts: _Sorted) -> None:
    """`--option`, `--option VALUE`, `--option=VALUE`, or the same for an input."""
    name, equals, value = word.partition("=")
    if name in options.spellings:
        _option(options.spellings[name], value if equals else None, rest, options, parts)
        return
    key = name[2:]
    if not _is_name(key):
        raise UsageError(f"there is no option {name}", hints=_nearest(name, options, ()))
    if key in parts.inputs:
        raise UsageError(f"the input {key!r} was given twice")
    given = value if equals else next(rest, None)
    if given is None:
        raise UsageError(f"{name} needs a value", hints=_nearest(name, options, ()))
    parts.inputs[key] = given


def _short(word: str, rest: Iterator[str], options: Options, parts: _Sorted) -> None:
    """`-g VALUE`, `-g=VALUE`, `-gVALUE`; anything else that begins with one `-` is the expression."""
    name, value = word[:2], word[2:]
    known = name in options.spellings
    if known and (not value or value.startswith("=") or parts.positional):
        _option(options.spellings[name], value.removeprefix("=") if value else None, rest, options, parts)
    else:
        parts.positional.append(word)


def _option(name: str, value: str | None, rest: Iterator[str], options: Options, parts: _Sorted) -> None:
    if name not in options.valued:
        if value is not None:
            raise UsageError(f"{name} takes no value")
        parts.known.append(name)
        return
    value = next(rest, None) if value is None else value
    if value is None:
        raise UsageError(f"{name} needs a value")
    parts.known.append(f"{name}={value}")


def _refuse_strangers(parts: _Sorted, options: Options) -> None:
    """Raises for an input that neither the expression nor a VALUE uses: most likely a misspelt option."""
    if not parts.inputs:
        return
    if not parts.positional:
        for name in parts.inputs:
            if near := _nearest(f"--{name}", options, ()):
                raise UsageError(f"there is no option --{name}", hints=near)
        return
    try:
        used = _used_names(parts)
    except JvpError:  # the expression itself is refused: that is what the user is told
        return
    for name in parts.inputs:
        if name not in used:
            uses = ", ".join(sorted(used)) or "no inputs"
            raise UsageError(
                f"there is no option --{name}, and the expression uses no input {name!r} (it uses {uses})",
                hints=_nearest(f"--{name}", options, used),
            )


def _used_names(parts: _Sorted) -> set[str]:
    """The free names of the expression and of the VALUEs."""
    from jvpcli.language.parse import parse

    source = parts.positional[0]
    used = set(parse(source, {*parse(source).inputs, *parts.inputs}).inputs)  # an input may hide a builtin's name
    if all(name in used for name in parts.inputs):
        return used
    from jvpcli.language.values import free_names

    values = [*parts.inputs.values(), *(word.partition("=")[2] for word in parts.known)]
    for value in values:
        try:
            used |= set(free_names(value))
        except JvpError:  # not an expression: it uses no names
            continue
    return used


def _is_name(key: str) -> bool:
    return all(part.isidentifier() or part.isdigit() for part in key.split(".")) and key.split(".")[0].isidentifier()


def _nearest(name: str, options: Options, inputs: Collection[str]) -> tuple[str, ...]:
    """A hint with the nearest option or input, if one is near."""
    candidates = {**{option: option for option in options.long}, **{f"--{key}": f"--{key}" for key in inputs}}
    plain = {candidate.replace("_", "-").lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.replace("_", "-").lower(), plain, n=1, cutoff=0.6)
    return (f"Did you mean {plain[found[0]]}?",) if found else ()
