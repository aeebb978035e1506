"""PyTorch's autograd and shape messages in plain words: found in a message, a traceback or a whole log, or added to an error.

Loads no torch.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from jvpcli.errors import EvaluationError, JvpError, UsageError
from jvpcli.messages.cards import Card, Found, anchor, cards, kinds, pattern, read_shape, squeeze
from jvpcli.report import Notice, Shape
from jvpcli.report.lookup import Explanation

LONGEST = 100_000
"""Characters at the end of a text without any traceback that are searched, and of a line and of a message that are read."""

LAST = 100
"""Errors at the end of a log, and errors and warnings together, that are kept."""

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u200b": "", "\ufeff": ""})

_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}
"""What no message has, and a terminal might obey."""

_LEAD = re.compile(r"^(?:\s*(?:\[(?:rank)?\d+\]:|\(\w+ pid=\d+[^)]*\)|[│|┃>]|E(?=\s{3})|\+-)\s?)+")
"""What launchers, pytest, exception groups and boxes put around each line."""

_RAISED = re.compile(
    r"^(?P<lead>[^\"'()=#]*?[\s:>\]|-])??"
    r"(?P<type>(?:[A-Za-z_]\w*(?:\.|::))*(?:[A-Z_]\w*)?(?:Error|Exception|Warning|Interrupt|Exit|Failed)|what\(\))"
    r":(?:\s+(?P<rest>.*)|$)"
)
_BARE = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)$")
_CODE = re.compile(r"\b(?:except|raise|class|def|import|elif|assert|return|catch|isinstance)\b")
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) \S+::")
_TRACEBACK = "Traceback (most recent call last)"
_CHAINS = {
    "The above exception was the direct cause of the following exception:": "cause",
    "During handling of the above exception, another exception occurred:": "context",
}
_WRAPPERS = re.compile(r"(?:ChildFailedError|CalledProcessError|CellExecutionError|ProcessExitedException|SystemExit)$")
"""Errors that only say that something else has failed, which stands before them."""


# What was raised in a log: the error messages and warnings of tracebacks, in order; here no message is known


@dataclass(frozen=True, slots=True)
class Raised:
    """One error or warning of a log.

    `type` is its class as it stands there (empty for a text without tracebacks), `text` the message with its line
    breaks, `where` the lines of the traceback before it, and `link` how it follows from the error before it: "cause"
    (`raise … from`), "context" (raised while handling it), "wrapper" (it only says that another has failed), or "".
    """

    type: str
    text: str
    where: str = ""
    link: str = ""

    @property
    def is_warning(self) -> bool:
        """Whether the program went on."""
        return self.type.endswith("Warning")


def read_log(text: str | Iterable[str]) -> list[Raised]:
    """The last errors and warnings of a log in the order in which they were raised; the end of a text that has none.

    A long log may come as blocks of whole lines, one after the other; only what is found is kept of them.
    """
    tail: list[str] = []
    found = _recent(_raised(_all_lines((text,) if isinstance(text, str) else text, tail)))
    return found or [Raised("", "\n".join(tail)[-LONGEST:])]


def _all_lines(blocks: Iterable[str], tail: list[str]) -> Iterator[str]:
    """The lines of all blocks; the end of what has come stays in `tail`."""
    for block in blocks:
        lines = clean_lines(block)
        yield from lines
        tail[:] = ["\n".join((*tail, *lines))[-LONGEST:]]


def _recent(events: Iterable[Raised]) -> list[Raised]:
    """The last errors and the last events of any kind, in order."""
    errors: deque[tuple[int, Raised]] = deque(maxlen=LAST)
    every: deque[tuple[int, Raised]] = deque(maxlen=LAST)
    for number, event in enumerate(events):
        every.append((number, event))
        if not event.is_warning:
            errors.append((number, event))
    return [event for _, event in sorted({**dict(errors), **dict(every)}.items())]


def clean_lines(text: str) -> list[str]:
    """The lines without colours, boxes, ranks and pytest's margin; line ends of every system, escaped ones too."""
    text = _ANSI.sub("", text).translate(_QUOTES).translate(_CONTROLS)
    if f"{_TRACEBACK}:\\n" in text:
        text = text.replace("\\n", "\n")
    return [_bare(line) for line in re.split(r"\r\n|\r|\n", text)]


def _bare(line: str) -> str:
    """A line without what surrounds it; of a line that no person has written the two ends."""
    if len(line) > LONGEST:
        line = line[: LONGEST // 2] + line[-LONGEST // 2 :]
    line = _LEAD.sub("", line)
    end = line.rstrip()
    return end[:-1].rstrip() if end.endswith(("│", "┃")) else line


def _raised(lines: Iterable[str]) -> Iterator[Raised]:
    """Each header line begins a message, which goes on to the next header, traceback or chain sentence."""
    type_, link, pending = "", "", ""
    message: list[str] = []
    length = 0
    where: deque[str] = deque(maxlen=40)
    for line in lines:
        header = _header(line)
        stripped = line.strip()
        ends = header is not None or stripped in _CHAINS or _TRACEBACK in line
        if ends and type_:
            yield _event(type_, message, where, link)
            type_, message, link = "", [], ""
            where.clear()
        if header is not None:
            type_, message, link, pending = header[0], [header[1]], pending, ""
            length = len(header[1])
        elif stripped in _CHAINS:
            pending = _CHAINS[stripped]
        elif type_:
            length += len(line) + 1
            if length <= LONGEST:
                message.append(line)
        else:
            where.append(line)
    if type_:
        yield _event(type_, message, where, link)


def _event(type_: str, message: Sequence[str], where: Iterable[str], link: str) -> Raised:
    wrapper = link or ("wrapper" if _WRAPPERS.search(type_) else "")
    return Raised(type_, "\n".join(message).strip(), "\n".join(where)[-LONGEST:], wrapper)


def _header(line: str) -> tuple[str, str] | None:
    """The class and the first line of the message, where a line begins one."""
    if "rror" not in line and "xception" not in line and not re.search(r"Warning|Interrupt|Exit|Failed|what\(\)", line):
        return None
    stripped = line.strip()
    if _SUMMARY.match(stripped):
        return None
    if _BARE.fullmatch(stripped):
        return stripped, ""
    match = _RAISED.match(stripped)
    if match is None or _CODE.search(match["lead"] or ""):
        return None
    return match["type"], match["rest"] or ""


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
    text = f"{event.where}\n{event.type}: {event.text}" if _told_by_source(event) else event.text
    solid = squeeze(text)
    lower = solid.lower()
    possible = [(card, wording) for card, wording in wordings() if anchor(wording) in lower]
    for squeezed in (False, True):
        matches = _matches(possible, solid if squeezed else text, squeezed)
        if matches:
            return matches[-1] if not event.type else matches[0]
    return None


def _told_by_source(event: Raised) -> bool:
    """Whether Python complains of a value, None or a number, of which only the traceback's source lines tell what it was."""
    return event.type in ("AttributeError", "TypeError") and bool(re.search("NoneType|object is not iterable", event.text))


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
    quoted = " ".join(f"{last.type}: {text}"[: 50 * QUOTED].split()).removeprefix(": ")
    quoted = "".join(character for character in quoted if character.isprintable())
    quoted = quoted if len(quoted) <= QUOTED else quoted[:QUOTED] + "…"
    before = {event.text: event for event in events[-LAST:] if event is not last}
    known = [match.matched for event in before.values() if (match := find(event))]
    return EvaluationError(
        f"unknown message: {quoted}",
        explanation="This is none of the messages of autograd, or about shapes, dtypes, devices and memory, that jvp "
        "knows, and it does not guess. The message itself is needed: the last lines of the traceback.",
        hints=tuple(f"jvp explain {shlex.quote(message)}" for message in dict.fromkeys(reversed(known[-2:]))),
    )


@cache
def wordings() -> tuple[tuple[Card, str], ...]:
    """Every wording with its card."""
    return tuple((card, wording) for card in cards().values() for wording in card.wordings)


# What a card adds to an error or warning of jvp's own


def worded(error: JvpError) -> JvpError:
    """The error with the causes and cures of the card of torch's message, and the meaning behind its own words."""
    known = lookup(error.torch_message) if error.torch_message else None
    if known is None:
        return error
    error.explanation = "\n".join(filter(None, (error.explanation, known.meaning)))
    return error.with_context(causes=known.causes, cures=known.cures)


def with_causes(error: E) -> E:
    """The error with those causes and cures, but without the meaning: it says that in its own words."""
    known = lookup(error.torch_message) if error.torch_message else None
    if known is not None:
        error.causes, error.cures = known.causes, known.cures
    return error


def spoken(warnings: Sequence[str]) -> Iterator[Notice]:
    """Those of torch's warnings that are known and about shapes; what cuts a graph is measured, and told elsewhere."""
    for text in dict.fromkeys(warnings):
        match = find(Raised("Warning", text))
        if match is not None and match.is_about_shapes:
            known = explanation(match)
            yield Notice("torch_warning", f"{known.title}. {known.meaning}")


def advice(known: Explanation) -> tuple[str, ...]:
    """The first cures that are words: the commands among them show the rule, not the expression at hand."""
    return tuple(cure for cure in known.cures if not cure.startswith("jvp "))[:HINTS]
