"""The console that everything is printed on: its own colours are the only orders that a terminal gets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from jvpcli.render.visible import visible


class Terminal(Console):
    """A console that obeys no text (:mod:`jvpcli.render.visible`) and loses none, however narrow it is.

    Characters are written out before a text is wrapped, since that takes more room.  A word that is longer than its
    column goes on in the next line, and a line that must not be broken is left for the terminal to break.
    """

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
