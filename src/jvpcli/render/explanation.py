"""An explanation of one of PyTorch's messages, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jvpcli.render.layout import PROSE_WIDTH, Indented
from jvpcli.render.text import HEADING
from jvpcli.report import Explanation


def render_explanation(explanation: Explanation, console: Console) -> None:
    """Prints the title, the message that was recognised, what it means, and lists of causes and cures."""
    console.print(Text(explanation.title, style="bold"), width=min(console.width, PROSE_WIDTH))
    console.print()
    console.print(Indented(Text(explanation.matched, style="dim")))
    console.print()
    console.print(Text(explanation.meaning), width=min(console.width, PROSE_WIDTH))
    _list("Causes", explanation.causes, console)
    _list("What to do", explanation.cures, console)


def _list(title: str, items: Sequence[str], console: Console) -> None:
    """A heading and a line an item; a command stands on one line, so that it can be copied."""
    if not items:
        return
    console.print()
    console.print(Text(title, style=HEADING))
    for item in items:
        if item.startswith("jvp "):
            console.print(Text(f"  {item}", style="bold green"), soft_wrap=True)
        else:
            lines = Text(item).wrap(console, min(console.width, PROSE_WIDTH) - 4)
            for number, line in enumerate(lines):
                line.rstrip()
                console.print(Text("  • " if number == 0 else "    ").append_text(line), soft_wrap=True)
