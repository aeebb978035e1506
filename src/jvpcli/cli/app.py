"""The commands, and one run of them: argv and streams in, exit code out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from jvpcli import __version__
from jvpcli.cli.argv import Options, normalise
from jvpcli.cli.context import Context, ReaderGone
from jvpcli.cli.inspect import EXAMPLES as INSPECT_EXAMPLES
from jvpcli.cli.inspect import inspect
from jvpcli.cli.output import emit_error, failures_as_errors
from jvpcli.errors import ExitCode, JvpError, UsageError

app = typer.Typer(
    name="jvp",
    help="The command-line inspector of Jacobians and vector-Jacobian products for PyTorch.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command(epilog=INSPECT_EXAMPLES)(inspect)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(argv: Sequence[str], context: Context) -> int:
    """One run of the program; every failure is told and becomes an exit code.

    Raises:
        Exception: with --debug, what went wrong.
    """
    before_end = list(argv[: argv.index("--")] if "--" in argv else argv)
    as_json, debug = "--json" in before_end, "--debug" in before_end
    try:
        with failures_as_errors():
            code = _command(list(argv), context)
            context.flush()
            return code
    except ReaderGone:
        return ExitCode.OK
    except JvpError as error:
        if debug:
            raise
        return _tell(error, as_json, context)


def _command(argv: list[str], context: Context) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(_normalised(argv, command), prog_name="jvp", obj=context, standalone_mode=False)
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(message[:1].lower() + message[1:].rstrip(".")) from None
    return result if isinstance(result, int) else ExitCode.OK


def _normalised(argv: list[str], root: Any) -> list[str]:
    """argv with the inputs of the command that it names, if that takes inputs, as `--input`."""
    if not argv or argv[0] not in root.commands:
        return argv
    options = _options_of(root.commands[argv[0]])
    if "--input" not in options.spellings or not options.spellings.keys().isdisjoint({"--help", "-h"} & set(argv)):
        return argv
    return [argv[0], *normalise(argv[1:], options)]


def _options_of(command: Any) -> Options:
    """A typer command's options as the reader of argv wants them."""
    declared = [param for param in command.params if any(name.startswith("-") for name in param.opts)]
    longest = {param.name: max(param.opts, key=len) for param in declared}
    return Options(
        spellings={name: longest[param.name] for param in declared for name in param.opts}
        | {"--help": "--help", "-h": "--help"},
        valued=frozenset(longest[param.name] for param in declared if not param.is_flag),
    )


def _tell(error: JvpError, as_json: bool, context: Context) -> int:
    try:
        code = emit_error(context, error, as_json)
        context.flush()
    except ReaderGone:
        return int(error.exit_code)
    except OSError as failure:  # the stream itself cannot be written: say so on the other, if that can
        print(f"jvp: the output cannot be written: {failure.strerror}", file=sys.stderr)
        return int(ExitCode.USAGE)
    return code
