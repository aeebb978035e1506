"""A failure as a person reads it: the fact, the place, expected and got, why, PyTorch's words, what works."""

from __future__ import annotations

import re
from functools import partial

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from jvpcli.errors import JvpError, Span, shortened
from jvpcli.render import visible
from jvpcli.render.terminal import HEADING, echoed, plain_text

WIDEST = 100
"""Columns of the panel at most."""

FRAME = 4
"""Columns of its sides and the blanks at them."""

LONGEST_LINE = WIDEST - FRAME - 2
"""Characters of a source that are shown around the guilty part."""

TITLES = {
    "internal": "A bug in jvp",
    "usage": "Usage",
    "bad_value": "Bad value",
    "file": "File",
    "syntax": "Syntax",
    "forbidden": "Not allowed",
    "unknown_name": "Unknown name",
    "shape_mismatch": "Shape mismatch",
    "evaluation": "Evaluation",
    "not_differentiable": "Not differentiable",
    "limit": "Limit",
    "interrupted": "Interrupted",
}


def render_error(error: JvpError, console: Console) -> None:
    """Prints a panel, and below it the hints: a command stands on one line, so that it can be copied."""
    width = min(console.width, WIDEST)
    console.print(
        Panel(
            Group(*_body(error, width - FRAME)),
            title=Text(TITLES[error.code], style="bold red"),
            title_align="left",
            border_style="red",
            padding=(0, 1),
            width=width,
        )
    )
    tried = 0
    for hint in error.hints:
        if is_command(hint):
            lead, tried = ("Try: ", "or:  ")[tried > 0], tried + 1
            console.print(Text.assemble((lead, "dim"), echoed(hint, "bold green")), soft_wrap=True)
        elif hint not in error.cures or not _lists(error):
            console.print(echoed(sentence(hint)), soft_wrap=True)


def error_text(error: JvpError) -> str:
    """A failure as the command line prints it, without colours."""
    return plain_text(partial(render_error, error), WIDEST)


def is_command(hint: str) -> bool:
    """Whether a hint can be run as it stands."""
    return hint.startswith("jvp ")


def sentence(hint: str) -> str:
    """Words with a capital in front; code as it stands."""
    return hint[:1].upper() + hint[1:] if re.match(r"[a-z]{2,},? [a-z]+\b(?![.(=])", hint) else hint


def _lists(error: JvpError) -> bool:
    """Whether causes and cures are listed: of what torch itself has raised, where no command is known that works."""
    raised = error.code in ("evaluation", "shape_mismatch")
    return raised and bool(error.cures) and not any(map(is_command, error.hints))


def _body(error: JvpError, room: int) -> list[RenderableType]:
    parts: list[RenderableType] = [echoed(error.message, style="bold")]
    if error.source is not None and error.span is not None:
        parts += [Text(), *underlined(error.source, error.span, room - 2)]
    parts += [echoed(line) for line in error.details]
    if error.expected is not None and error.got is not None:
        parts += [Text(), Text(f"expected  {error.expected}"), Text(f"got       {error.got}")]
    if error.explanation:
        parts += [Text(), echoed(error.explanation)]
    for title, items in (("Causes", error.causes), ("What to do", error.cures)) if _lists(error) else ():
        parts += [Text(), Text(title, style=HEADING), _bullets([item for item in items if not is_command(item)])]
    if error.torch_message:
        parts += [Text(), Text.assemble(("PyTorch's own words: ", "dim"), echoed(error.torch_message, "dim"))]
    return parts


def _bullets(items: list[str]) -> Table:
    """Items with a hanging indent."""
    table = Table.grid(padding=(0, 1))
    for item in items:
        table.add_row("•", echoed(item))
    return table


def underlined(source: str, span: Span, room: int = LONGEST_LINE) -> list[Text]:
    """The line of `source` that `span` starts in, and carets under the guilty part; a long line is cut around it."""
    start, end = span
    line_start = source.rfind("\n", 0, start) + 1
    line_end = source.find("\n", start)
    line_end = len(source) if line_end < 0 else line_end
    stop = max(start, min(end, line_end))
    before, guilty, after = (
        visible(source[left:right]).replace("\t", " ")
        for left, right in ((line_start, start), (start, stop), (stop, line_end))
    )
    guilty = shortened(guilty, room)
    spare = room - len(guilty)
    before = shortened(before[::-1], max(spare // 2, spare - len(after)))[::-1]
    shown = before + guilty + shortened(after, spare - len(before))
    return [
        Text("  " + shown, no_wrap=True, overflow="ignore"),
        Text(
            "  " + " " * cell_len(before) + "^" * max(1, cell_len(guilty)),
            style="bold red",
            no_wrap=True,
            overflow="ignore",
        ),
    ]
