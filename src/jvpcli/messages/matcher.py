"""PyTorch's autograd and shape messages in plain words: found in a message, a traceback or a whole log, or added to an error.

Loads no torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from jvpcli.errors import EvaluationError, JvpError, UsageError
from jvpcli.messages.cards import Card, Found, cards
from jvpcli.messages.logs import LAST, Raised, read_log
from jvpcli.messages.wordings import anchor, kinds, pattern, read_shape, squeeze
from jvpcli.report import Notice, Shape
from jvpcli.report.lookup import Explanation

QUOTED = 120
"""Characters of an unknown message that are told back."""

HINTS = 2
"""Cures that become an error's hints."""

E = TypeVar("E", bound=JvpError)


@dataclass(frozen=True, slots=True)
class Match:
    """A wording found in a text: its place there, and what it captured."""

    card: Card
    wording: str
    start: int
    end: int
    matched: str
    groups: dict[str, str]

    @property
    def is_about_shapes(self) -> bool:
        """Whether the message is about shapes, or places in them."""
        return self.card.about == "shapes"

    def found(self, operands: Sequence[tuple[str, Shape]] = (), operation: str = "") -> Found:
        """What was captured; with the operands and the operation (`Equation.op`) of the step that raised it, if known."""
        return Found(self.groups, kinds(self.wording), tuple(operands), operation)


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
    """The card whose message an error's text is.

    Of the wordings found the first in the text counts, the longest where two begin together; of a text without
    tracebacks the last one.  A text that was wrapped inside its words is read without its white space.
    """
    text = f"{event.where}\n{event.type}: {event.text}" if _about_none(event) else event.text
    solid = squeeze(text)
    lower = solid.lower()
    possible = [(card, wording) for card, wording in wordings() if anchor(wording) in lower]
    for squeezed in (False, True):
        matches = _matches(possible, solid if squeezed else text, squeezed)
        if matches:
            return matches[-1] if not event.type else matches[0]
    return None


def _about_none(event: Raised) -> bool:
    """Whether Python complains of a None: what it was stands only in the traceback's source lines."""
    return event.type in ("AttributeError", "TypeError") and "NoneType" in event.text


def _matches(possible: Sequence[tuple[Card, str]], text: str, squeezed: bool) -> list[Match]:
    """All wordings in a text that don't begin inside another, in order."""
    found = [
        Match(card, wording, match.start(), match.end(), " ".join(match[0].split()), _groups(match))
        for card, wording in possible
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
    words = match.card.say(match.found(operands, operation))
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
def wordings() -> tuple[tuple[Card, str], ...]:
    """Every wording with its card."""
    return tuple((card, wording) for card in cards().values() for wording in card.wordings)


# What a card adds to an error or warning of jvp's own


def worded(error: JvpError) -> JvpError:
    """The error with the causes and cures of the card of torch's message, and the meaning behind its own words."""
    told = lookup(error.torch_message) if error.torch_message else None
    if told is None:
        return error
    error.explanation = "\n".join(filter(None, (error.explanation, told.meaning)))
    return error.with_context(causes=told.causes, cures=told.cures)


def with_causes(error: E) -> E:
    """The error with those causes and cures, but without the meaning: it says that in its own words."""
    told = lookup(error.torch_message) if error.torch_message else None
    if told is not None:
        error.causes, error.cures = told.causes, told.cures
    return error


def spoken(warnings: Sequence[str]) -> Iterator[Notice]:
    """Those of torch's warnings that are known and about shapes; what cuts a graph is measured, and told elsewhere."""
    for text in dict.fromkeys(warnings):
        match = find(Raised("Warning", text))
        if match is not None and match.is_about_shapes:
            told = explanation(match)
            yield Notice("torch_warning", f"{told.title}. {told.meaning}")


def advice(told: Explanation) -> tuple[str, ...]:
    """The first cures that are words: the commands among them show the rule, not the expression at hand."""
    return tuple(cure for cure in told.cures if not cure.startswith("jvp "))[:HINTS]
