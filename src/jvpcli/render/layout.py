"""How blocks stand on the page: indented, prose at a width that reads well, no blanks at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from jvpcli.render.visible import visible

PROSE_WIDTH = 100
"""Prose is wrapped here however wide the console is; tables take what there is."""

INDENT = 2

HEADING = "bold cyan"
QUIET = "dim"
NAME = "bold"


def echoed(text: str, style: str = "") -> Text:
    """Other people's text, all of it: some control characters rich would leave out, so they are written out before."""
    return Text(visible(text), style=style)


@dataclass(frozen=True)
class Indented:
    """A block moved to the right, each of its lines without blanks at its end (they would fill a pipe)."""

    body: RenderableType
    prose: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol: the block's lines as segments."""
        width = options.max_width - INDENT
        inside = options.update(width=min(width, PROSE_WIDTH) if self.prose else width)
        for line in Segment.split_lines(console.render(self.body, inside)):  # not cut off where one is longer
            kept = _stripped(line)
            if kept:
                yield Segment(" " * INDENT)
                yield from kept
            yield Segment.line()


def _stripped(line: Iterable[Segment]) -> list[Segment]:
    """A line without the blanks at its end."""
    segments = list(line)
    while segments and not segments[-1].text.strip():
        segments.pop()
    if segments:
        last = segments[-1]
        segments[-1] = Segment(last.text.rstrip(), last.style, last.control)
    return segments
