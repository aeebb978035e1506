"""`--help`, from what typer knows of a command: usage, a sentence, commands or options, examples that can be pasted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from jvpcli.render.layout import Indented

LABEL = "bold cyan"
QUIET = "dim"
HEADING = "bold yellow"


class Command(TyperCommand):
    """A typer command whose help goes to the run's own console, with the epilog as it stands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's hook."""
        render_help(self, ctx, ctx.obj.console)


class Group(TyperGroup):
    """The same for the program itself."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's hook."""
        render_help(self, ctx, ctx.obj.console)


def render_help(command: Any, ctx: Any, console: Console) -> None:
    """Prints the help of a command or of the program."""
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    console.print(Text.assemble(("Usage: ", HEADING), usage), soft_wrap=True)
    console.print()
    console.print(Text(command.help or ""))
    _section("Commands", list(_commands(command)), console)
    _section("Arguments", list(_arguments(command)), console)
    _section("Options", list(_options(command, ctx)), console)
    if command.epilog:
        _heading("Examples", console)
        for line in command.epilog.strip().splitlines():
            text = Text("  " + line if line else "", style=QUIET if line.startswith("#") else "")
            console.print(text, soft_wrap=True)


def _section(title: str, rows: list[tuple[Text, str]], console: Console) -> None:
    if not rows:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, about in rows:
        table.add_row(label, Text(about))
    _heading(title, console)
    console.print(Indented(table, prose=False))


def _heading(title: str, console: Console) -> None:
    console.print()
    console.print(Text(title, style=HEADING))


def _commands(command: Any) -> Iterator[tuple[Text, str]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield Text(name, style=LABEL), (sub.help or "").splitlines()[0]


def _arguments(command: Any) -> Iterator[tuple[Text, str]]:
    for param in command.params:
        if param.param_type_name == "argument":
            yield Text(param.metavar or param.name.upper(), style=LABEL), param.help or ""


def _options(command: Any, ctx: Any) -> Iterator[tuple[Text, str]]:
    for param in command.get_params(ctx):
        if param.param_type_name == "option" and not param.hidden:
            short = "".join(f"{name}, " for name in param.opts if not name.startswith("--")) or "    "
            long = ", ".join(name for name in param.opts if name.startswith("--"))
            yield Text.assemble((short + long, LABEL), f" {param.metavar}" if param.metavar else ""), param.help or ""
