"""The console that everything is printed on: its own colours are the only orders that a terminal gets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from jvpcli.render.visible import visible


class Terminal(Console):
    """A console that writes out what is printed character by character: see :mod:`jvpcli.render.visible`.

    That is done before a text is wrapped, since what is written out takes more room.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's own way from anything to segments, which every text comes through."""
        if isinstance(renderable, str):
            renderable = visible(renderable)
        elif isinstance(renderable, Text):
            renderable = _visible(renderable)
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
