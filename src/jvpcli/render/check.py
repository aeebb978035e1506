"""The answer of `jvp check` as a person reads it: the verdict, the worst entry, why, and what was compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.error import underlined
from jvpcli.render.numbers import number_text
from jvpcli.render.parts import render_question
from jvpcli.render.terminal import NAME, QUIET, columns, section
from jvpcli.report.check import CheckedEntry, CheckReport, Comparing

GOOD = "bold green"
BAD = "bold red"

TITLES = {
    "pass": "the gradient is right",
    "kink": "there is no single derivative here",
    "precision": "the gradient is lost in rounding",
    "graph_break": "the gradient is cut on the way",
    "nondeterministic": "the function is not repeatable",
    "wrong_backward": "the backward is wrong",
}
"""What each verdict means, in a few words."""

FORWARD_TITLES = {"pass": "forward mode is right", "wrong_backward": "the formula of forward mode is wrong"}
"""Those that are other words of forward mode."""


def render_check(report: CheckReport, console: Console) -> None:
    """Prints the whole answer."""
    render_question(console, report.expression, report.calls)
    for title, body in _sections(report):
        console.print(section(title, body))


def _sections(report: CheckReport) -> Iterator[tuple[str | Text, RenderableType]]:
    word, style = ("passed", GOOD) if report.passed else (f"failed: {report.verdict}", BAD)
    titles = {**TITLES, **FORWARD_TITLES} if report.mode == "forward" else TITLES
    untold = report.passed and report.comparisons[:1] and report.comparisons[0].agrees is None
    title = Text.assemble((word, style), f", {'but nothing was tested here' if untold else titles[report.verdict]}")
    yield title, Group(*_why(report))
    if report.worst is not None:
        yield "The worst entry" if not report.passed else "The entry that differs most", _entry(report.worst)
    yield "What was compared", _comparisons(report.comparisons)


def _why(report: CheckReport) -> Iterator[RenderableType]:
    yield Text(report.explanation)
    step = report.step
    if step is not None:
        yield Text()
        if step.file is not None:
            yield Text.assemble((f"{PurePath(step.file).name}:{step.line}: ", QUIET), step.source)
        if step.span is not None:
            yield from underlined(report.expression, step.span)
    for hint in report.hints:
        yield Text()
        yield Text(hint, style="green")


def _entry(entry: CheckedEntry) -> Table:
    table = columns()
    y = _label(entry.output, entry.output_index, entry.output_part)
    x = _label(entry.input, entry.input_index, entry.input_part)
    table.add_row(Text(f"∂{y}/∂{x}", style=NAME), Text("autograd"), Text(_full(entry.analytic)))
    over = "" if entry.over is None else f" over a step of {number_text(entry.over)}"
    table.add_row("", Text("finite differences"), Text(_full(entry.numeric) + over))
    if entry.below is not None and entry.above is not None:
        table.add_row("", Text("from below, from above"), Text(f"{_side(entry.below)}, {_side(entry.above)}"))
    return table


def _label(name: str, index: tuple[int, ...], part: str | None) -> str:
    text = f"{name}[{','.join(map(str, index))}]" if index else name
    return f"({'Re' if part == 'real' else 'Im'} {text})" if part else text


def _full(value: float) -> str:
    """A number with enough digits to see two of them differ."""
    return f"{value:.10g}"


def _side(value: float) -> str:
    """A one-sided derivative; the function may end there."""
    return "none" if value != value else _full(value)


def _comparisons(comparisons: tuple[Comparing, ...]) -> Table:
    table = columns()
    for comparing in comparisons:
        word, style = {True: ("agree", "green"), False: ("differ", BAD), None: ("–", QUIET)}[comparing.agrees]
        error = "" if comparing.error is None else f"largest difference {number_text(comparing.error)}"
        table.add_row(Text(comparing.name), Text(word, style=style), Text(error), Text(comparing.about, style=QUIET))
    return table
