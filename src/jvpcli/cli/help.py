"""`--help`, from what typer knows of a command: usage, a sentence, commands or options, examples that can be pasted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from jvpcli.render.terminal import Indented, columns

LABEL = "bold cyan"
QUIET = "dim"
HEADING = "bold yellow"


def render_root(
    about: str, commands: Mapping[str, str], options: Mapping[str, str], examples: str, console: Console
) -> None:
    """Prints the help of the program itself: its commands and options with a sentence each."""
    console.print(Text.assemble(("Usage: ", HEADING), "jvp COMMAND [ARGUMENTS] [OPTIONS]"), soft_wrap=True)
    console.print()
    console.print(Text(about))
    for title, table in (("Commands", commands), ("Options", options)):
        _section(title, [(Text(name, style=LABEL), about) for name, about in table.items()], console)
    _examples(examples, console)


def render_command(command: Any, ctx: Any, console: Console) -> None:
    """Prints the help of one command, from what typer knows of it."""
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    console.print(Text.assemble(("Usage: ", HEADING), usage), soft_wrap=True)
    console.print()
    console.print(Text(command.help or ""))
    _section("Arguments", list(_arguments(command)), console)
    _section("Options", list(_options(command, ctx)), console)
    _examples(command.epilog or "", console)


def _examples(examples: str, console: Console) -> None:
    """Lines as they stand, so that a command can be copied; comments are quiet."""
    _heading("Examples", console)
    for line in examples.strip().splitlines():
        text = Text("  " + line if line else "", style=QUIET if line.startswith("#") else "")
        console.print(text, soft_wrap=True)


def _section(title: str, rows: list[tuple[Text, str]], console: Console) -> None:
    if not rows:
        return
    table = columns(2)
    table.add_column(no_wrap=True)
    table.add_column()
    for label, about in rows:
        table.add_row(label, Text(about))
    _heading(title, console)
    console.print(Indented(table, prose=False))


def _heading(title: str, console: Console) -> None:
    console.print()
    console.print(Text(title, style=HEADING))


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
