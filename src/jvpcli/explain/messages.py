"""PyTorch's autograd and shape messages in plain words: found in a message, a traceback or a whole log.  Loads no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from jvpcli.errors import EvaluationError, UsageError
from jvpcli.explain.logs import LAST, Raised, read_log
from jvpcli.explain.table.entry import Entry, Found, anchor, pattern, read_shape, squeeze
from jvpcli.report import Shape
from jvpcli.report.explanation import Explanation

QUOTED = 120
"""Characters of an unknown message that are told back."""


@dataclass(frozen=True, slots=True)
class Match:
    """A wording found in a text: its place there, and what it captured."""

    entry: Entry
    start: int
    end: int
    matched: str
    groups: dict[str, str]


def explain_message(text: str | Iterable[str]) -> Explanation:
    """What the error that ended a program means; `text` is the message alone, a traceback, or a whole log.

    A long log may come as blocks of whole lines, one after the other.

    The last error raised counts: of a chain the last one, or the cause that it names if nothing is known of itself.
    Where nothing was raised, the last known warning counts.

    Raises:
        UsageError: there is no text.
        EvaluationError: the message is unknown; nothing is guessed.
    """
    if isinstance(text, str) and not text.strip():
        raise UsageError("there is no message to explain", hints=('jvp explain "…message…"',))
    events = read_log(text)
    errors = [event for event in events if not event.is_warning]
    for event in _blamed(errors) if errors else reversed(events[-LAST:]):
        match = find(event)
        if match is not None:
            return explanation(match)
    raise _unknown((errors or events)[-1], events)


def lookup(message: str) -> Explanation | None:
    """What one message means, without anything around it; None if it is unknown."""
    match = find(Raised("Error", message))
    return None if match is None else explanation(match)


def _blamed(errors: Sequence[Raised]) -> Iterator[Raised]:
    """The last error, then those that it says it comes from."""
    for event in reversed(errors):
        yield event
        if event.link not in ("cause", "wrapper"):
            return


def find(event: Raised) -> Match | None:
    """The entry that an error's text is an instance of.

    Of the wordings found the first in the text counts, the longest where two begin together; of a text without
    tracebacks the last one.  A text that was wrapped inside its words is read without its white space.
    """
    text = f"{event.where}\n{event.type}: {event.text}" if _about_none(event) else event.text
    solid = squeeze(text)
    lower = solid.lower()
    possible = [(entry, wording) for entry, wording in wordings() if anchor(wording) in lower]
    for squeezed in (False, True):
        matches = _matches(possible, solid if squeezed else text, squeezed)
        if matches:
            return matches[-1] if not event.type else matches[0]
    return None


def _about_none(event: Raised) -> bool:
    """Whether Python complains of a None: what it was stands only in the traceback's source lines."""
    return event.type in ("AttributeError", "TypeError") and "NoneType" in event.text


def _matches(possible: Sequence[tuple[Entry, str]], text: str, squeezed: bool) -> list[Match]:
    """All wordings in a text that don't begin inside another, in order."""
    found = [
        Match(entry, match.start(), match.end(), " ".join(match[0].split()), _groups(match))
        for entry, wording in possible
        for match in pattern(wording, squeezed).finditer(text)
    ]
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: (match.start, -match.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
    return kept


def _groups(match: re.Match[str]) -> dict[str, str]:
    """What was captured, in the order of the text."""
    captured = {name: value for name, value in match.groupdict().items() if value is not None}
    return dict(sorted(captured.items(), key=lambda item: match.start(item[0])))


def explanation(match: Match, operands: Sequence[tuple[str, Shape]] = (), operation: str = "") -> Explanation:
    """The plain data of a match; with the operands and the operation (`Equation.op`) of the step that raised it, if known."""
    words = match.entry.words(Found(match.groups, tuple(operands), operation))
    return Explanation(
        title=words.title,
        meaning=words.meaning,
        causes=words.causes,
        cures=words.cures,
        matched=match.matched,
        shapes=tuple(_shapes(match.groups)),
    )


def _shapes(groups: dict[str, str]) -> Iterator[Shape]:
    for value in groups.values():
        if re.fullmatch(r"(?:torch\.Size\()?[\[(].*[\])]\)?|\d+(?:x\d+)+", value, re.DOTALL | re.IGNORECASE):
            shape = read_shape(value)
            if shape is not None:
                yield shape


def _unknown(last: Raised, events: Sequence[Raised]) -> EvaluationError:
    text = last.text if last.type else last.text.strip().rpartition("\n")[2]
    said = " ".join(f"{last.type}: {text}"[: 50 * QUOTED].split()).removeprefix(": ")
    said = "".join(character for character in said if character.isprintable())
    said = said if len(said) <= QUOTED else said[:QUOTED] + "…"
    before = {event.text: event for event in events[-LAST:] if event is not last}
    known = [match.matched for event in before.values() if (match := find(event))]
    return EvaluationError(
        f"unknown message: {said}",
        explanation="This is none of the messages of autograd, or about shapes, dtypes, devices and memory, that jvp "
        "knows, "
        "and it does not guess. The message itself is needed: the last lines of the traceback.",
        hints=tuple(f"jvp explain {shlex.quote(message)}" for message in dict.fromkeys(reversed(known[-2:]))),
    )


@cache
def wordings() -> tuple[tuple[Entry, str], ...]:
    """Every wording with its entry."""
    return tuple((entry, wording) for entry in table() for wording in entry.wordings)


ROOMS = (
    "cotangents", "graph", "inplace", "functional", "transforms", "custom", "products", "algebra", "broadcasting",
    "rearranging", "indexing", "layers", "losses", "dtypes", "devices", "conversions", "training", "memory",
)  # fmt: skip
"""The rooms of the table; of two equal matches the one in the earlier room counts."""


@cache
def table() -> tuple[Entry, ...]:
    """Every known message."""
    return tuple(entry for name in ROOMS for entry in room(name))


def room(name: str) -> tuple[Entry, ...]:
    """The messages of one room."""
    entries: tuple[Entry, ...] = import_module(f"jvpcli.explain.table.{name}").ENTRIES
    return entries
