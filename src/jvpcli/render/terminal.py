"""The console that everything is printed on, whose own colours are the only orders that a terminal gets; and how blocks
stand on it: indented, prose at a width that reads well, no blanks at the ends of lines.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Span, Text

from jvpcli.render import visible

PROSE_WIDTH = 100
"""Prose is wrapped here however wide the console is; tables take what there is."""

INDENT = 2

HEADING = "bold cyan"
QUIET = "dim"
NAME = "bold"


class Terminal(Console):
    """A console that obeys no text (:func:`jvpcli.render.visible`) and loses none, however narrow it is.

    Characters are written out before a text is wrapped, since that takes more room.  A word that is longer than its
    column goes on in the next line, and a line that must not be broken is left for the terminal to break.
    """

    def __init__(self, **options: Any) -> None:
        """Rich's own, which writes to its file in a notebook too."""
        super().__init__(force_jupyter=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Rich's own, which cuts no line off."""
        super().print(*objects, **{"crop": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's own way from anything to segments, which every text comes through."""
        if isinstance(renderable, (str, Text)):
            renderable = visible(renderable) if isinstance(renderable, str) else _visible(renderable)
            if options is not None and options.overflow == "ellipsis" and not options.no_wrap:
                options = options.update(overflow="fold")
        return super().render(renderable, options)


def _visible(text: Text) -> Text:
    """A text with its styles, written out."""
    plain = visible(text.plain)
    if plain == text.plain:
        return text
    places = [0, *accumulate(len(visible(character)) for character in text.plain)]
    shown = text.blank_copy(plain)
    shown.spans = [
        Span(places[start], places[min(end, len(text))], style) for start, end, style in text.spans if start < len(text)
    ]
    return shown


def plain_text(render: Callable[[Console], None], width: int) -> str:
    """What is printed on a console of that width, without colours."""
    stream = io.StringIO()
    render(Terminal(file=stream, width=width, color_system=None))
    return stream.getvalue().rstrip("\n")


def cut(text: str, columns: int) -> str:
    """A text in so many columns: the end of a longer one is cut off."""
    return text if cell_len(text) <= columns else text[: columns - 1] + "…"


def echoed(text: str, style: str = "") -> Text:
    """Other people's text, all of it: some control characters rich would leave out, so they are written out before."""
    return Text(visible(text), style=style)


def columns(gap: int = 3) -> Table:
    """A table without lines and without heads, whose columns stand `gap` blanks apart."""
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, gap, 0, 0))


def section(title: str | Text, body: RenderableType, *, prose: bool = True) -> Group:
    """A blank line, a title, and what stands under it."""
    return Group(Text(), Text(title, style=HEADING) if isinstance(title, str) else title, Indented(body, prose))


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
