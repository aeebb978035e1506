"""An explanation of a message, and a list of operations, as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jvpcli.render.terminal import HEADING, PROSE_WIDTH, Indented, columns
from jvpcli.report.lookup import Explanation, Operation, OpsReport


def render_explanation(explanation: Explanation, console: Console) -> None:
    """Prints an explanation: its title, the message that was recognised, what it means, and lists of causes and cures."""
    _paragraph(explanation.title, console, style="bold")
    console.print()
    _paragraph(explanation.matched, console, style="dim", lead="  ")
    console.print()
    _paragraph(explanation.meaning, console)
    _list("Causes", explanation.causes, console)
    _list("What to do", explanation.cures, console)


def _list(title: str, items: Sequence[str], console: Console) -> None:
    """A heading and the items; a command, or code with its comment, stands on one line, so that it can be copied."""
    if not items:
        return
    console.print()
    console.print(Text(title, style=HEADING))
    for item in items:
        if item.startswith("jvp ") or "   # " in item:
            console.print(Text.assemble("  • ", (item, "bold green")), soft_wrap=True)
        else:
            _paragraph(item, console, lead="  • ")


def _paragraph(text: str, console: Console, style: str = "", lead: str = "") -> None:
    """Prose at a width that reads well, no blanks at the ends of its lines."""
    lines = Text(text, style=style).wrap(console, min(console.width, PROSE_WIDTH) - len(lead))
    for number, line in enumerate(lines):
        line.rstrip()
        console.print(Text(lead if number == 0 else " " * len(lead)).append_text(line), soft_wrap=True)


def render_ops(report: OpsReport, console: Console) -> None:
    """Prints a list of operations, a line each, and their count; or why there is none."""
    if report.note:
        console.print(Text(report.note), soft_wrap=True)
        return
    table = columns(2)
    table.add_column(overflow="fold")
    table.add_column()
    for operation in report.operations:
        table.add_row(_call(operation), Text(operation.description))
    console.print(Indented(table, prose=False))
    count = len(report.operations)
    console.print(Text(f"{count} operation{'' if count == 1 else 's'}", style="dim"))


def _call(operation: Operation) -> Text:
    """The name as an expression has it, and its arguments."""
    arguments = operation.signature[operation.signature.find("(") :] if "(" in operation.signature else ""
    return Text.assemble((operation.name, "bold cyan"), arguments)
