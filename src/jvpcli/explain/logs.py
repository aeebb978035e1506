"""What was raised in a log: the error messages and warnings of tracebacks, in order.  No torch, no knowledge of messages."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
