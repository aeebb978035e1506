"""The list of operations as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jvpcli.render.layout import Indented
from jvpcli.report.ops import Operation, OpsReport


def render_ops(report: OpsReport, console: Console) -> None:
    """Prints a line an operation, and the count; or why there is none."""
    if report.note:
        console.print(Text(report.note), soft_wrap=True)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
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
