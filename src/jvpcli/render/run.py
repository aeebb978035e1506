"""The derivative calls of a program as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jvpcli.render.numbers import shape_text
from jvpcli.render.parts import typed
from jvpcli.render.terminal import HEADING, NAME, QUIET, Indented, columns
from jvpcli.report.run import GradCall, RunReport

MOST_TENSORS = 6
"""Of a call's outputs and inputs that are shown each."""


def render_calls(report: RunReport, console: Console) -> None:
    """Prints the calls, those that are alike on one line together, with how often they were made."""
    console.print(Text("Derivative calls", style=HEADING))
    if not report.calls:
        console.print(Indented(Text("none: the program called neither torch.autograd.grad nor backward"), prose=True))
        return
    for call, count in _alike(report.calls):
        times = f" × {count}" if count > 1 else ""
        where = Text.assemble((f"{Path(call.file).name}:{call.line}", "bold"), f"  {call.source}", (times, QUIET))
        console.print(where, soft_wrap=True)
        console.print(Indented(_table(call), prose=False))


def _alike(calls: Sequence[GradCall]) -> Iterator[tuple[GradCall, int]]:
    """The first of the calls that differ in nothing but when they were made, and how many there are."""
    groups: dict[object, list[GradCall]] = {}
    for call in calls:
        groups.setdefault((call.file, call.line, call.source, call.outputs, call.inputs, call.grad_outputs), []).append(call)
    for group in groups.values():
        yield group[0], len(group)


def _table(call: GradCall) -> Table:
    table = columns()
    for kind, tensors in (("output", call.outputs), ("input", call.inputs), ("grad_outputs", call.grad_outputs or ())):
        for x in tensors[:MOST_TENSORS]:
            table.add_row(Text(x.name, NAME), shape_text(x.shape), typed(kind, x.dtype))
        if len(tensors) > MOST_TENSORS:
            table.add_row(Text("…", QUIET), Text(""), Text(f"{len(tensors) - MOST_TENSORS} more", QUIET))
    if call.grad_outputs is None:
        table.add_row(Text("v", NAME), Text(""), Text("grad_outputs: none given", QUIET))
    return table
