"""One command, built by typer from a module's function; nothing of the other commands is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from jvpcli.cli.argv import Options
from jvpcli.cli.context import Context
from jvpcli.errors import ExitCode, UsageError


class Command(TyperCommand):
    """A typer command whose help goes to the run's own console, with the examples as they stand."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's hook."""
        from jvpcli.cli.help import render_command

        render_command(self, ctx, ctx.obj.console)


def build(name: str, module: ModuleType) -> Any:
    """The command of a module: its function `command` and its `EXAMPLES`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["--help", "-h"]}
    app.command(name, cls=Command, epilog=module.EXAMPLES, context_settings=settings)(module.command)
    return typer.main.get_command(app)


def invoke(command: Any, name: str, argv: Sequence[str], context: Context) -> int:
    """Runs a command; its exit code.

    Raises:
        UsageError: typer refuses the arguments.
    """
    try:
        with command.make_context(f"jvp {name}", list(argv), obj=context) as ctx:
            result: Any = command.invoke(ctx)  # not `main`, which makes an exit of its own of a KeyboardInterrupt
    except typer.Exit as left:
        return left.exit_code
    except TyperException as error:
        message = error.format_message()
        raise UsageError(message[:1].lower() + message[1:].rstrip(".")) from None
    return result if isinstance(result, int) else int(ExitCode.OK)


def options_of(command: Any) -> Options:
    """A command's options as the reader of argv wants them."""
    declared = [param for param in command.params if any(name.startswith("-") for name in param.opts)]
    longest = {param.name: max(param.opts, key=len) for param in declared}
    return Options(
        spellings={name: longest[param.name] for param in declared for name in param.opts}
        | {"--help": "--help", "-h": "--help"},
        valued=frozenset(longest[param.name] for param in declared if not param.is_flag),
    )
