"""The commands, and one run of them: argv and streams in, exit code out."""

from __future__ import annotations

import difflib
import shlex
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from jvpcli import __version__
from jvpcli.cli import inspect, ops
from jvpcli.cli.argv import Options, has_flag, normalise
from jvpcli.cli.context import Context
from jvpcli.cli.help import Command, Group
from jvpcli.cli.output import emit_error, failures_as_errors, output_failed
from jvpcli.cli.streams import OutputFailed, ReaderGone
from jvpcli.errors import ExitCode, JvpError, UsageError

EXAMPLES = """
# the shapes, the Jacobian, and how it makes the gradient
jvp inspect "torch.outer(x,x)" --x 1,2,3,4

# the functions that an expression may call
jvp ops softmax

# everything about a command
jvp inspect --help
"""

app = typer.Typer(
    name="jvp",
    cls=Group,
    help="The command-line inspector of Jacobians and vector-Jacobian products for PyTorch.",
    epilog=EXAMPLES,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _name, _module in {"inspect": inspect, "ops": ops}.items():
    app.command(_name, cls=Command, epilog=_module.EXAMPLES)(_module.command)


def _print_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.obj.console.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        ctx.get_help()


def run(argv: Sequence[str], context: Context) -> int:
    """One run of the program; every failure is told and becomes an exit code."""
    try:
        with failures_as_errors():
            code = _command(list(argv), context)
            context.flush()
            return code
    except ReaderGone:
        return ExitCode.OK
    except OutputFailed as failure:
        return emit_error(context, output_failed(failure), as_json=False)
    except JvpError as error:
        if has_flag(argv, "--debug"):
            context.err.write("".join(traceback.format_exception(error)))
        return emit_error(context, error, has_flag(argv, "--json"))


def _command(argv: list[str], context: Context) -> int:
    root = typer.main.get_command(app)
    try:
        result: Any = root.main(_normalised(argv, root), prog_name="jvp", obj=context, standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        raise UsageError(message[:1].lower() + message[1:].rstrip(".")) from None
    return result if isinstance(result, int) else int(ExitCode.OK)


def _normalised(argv: list[str], root: Any) -> list[str]:
    """argv with the inputs of the command that it names, if that takes inputs, as `--input`."""
    if not argv or argv[0].startswith("-"):
        return argv
    name = argv[0]
    if name not in root.commands:
        raise _unknown_command(argv, list(root.commands))
    options = _options_of(root.commands[name])
    if "--input" not in options.spellings or {"--help", "-h"} & set(argv):
        return argv
    return [name, *normalise(argv[1:], options, f"jvp {name}")]


def _unknown_command(argv: list[str], commands: list[str]) -> UsageError:
    """The error for a first word that is no command: a misspelt one, or an expression without its command."""
    word = argv[0]
    near = difflib.get_close_matches(word, commands, n=1)
    if near:
        corrected = shlex.join([*near, *argv[1:]])
        return UsageError(
            f"there is no command {word!r}", explanation=f"Did you mean {near[0]}?", hints=(f"jvp {corrected}",)
        )
    hints = (f"jvp inspect {shlex.join(argv)}",) if not word.isidentifier() else ()
    return UsageError(
        f"there is no command {word!r}", explanation=f"The commands are {', '.join(commands)}.", hints=hints
    )


def _options_of(command: Any) -> Options:
    """A typer command's options as the reader of argv wants them."""
    declared = [param for param in command.params if any(name.startswith("-") for name in param.opts)]
    longest = {param.name: max(param.opts, key=len) for param in declared}
    return Options(
        spellings={name: longest[param.name] for param in declared for name in param.opts}
        | {"--help": "--help", "-h": "--help"},
        valued=frozenset(longest[param.name] for param in declared if not param.is_flag),
    )
