"""The commands, and one run of them: argv and streams in, exit code out.

A command's module is loaded when it is named, and typer with it; the program's own help and version need neither.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from jvpcli.cli.argv import Options, has_flag, normalise, readable
from jvpcli.cli.context import Context, OutputFailed, ReaderGone, on_interrupt
from jvpcli.cli.output import emit_error, failures_as_errors, output_failed
from jvpcli.errors import ExitCode, InterruptedByUser, JvpError, UsageError
from jvpcli.system.processes import CAN_FORK

ABOUT = "The command-line inspector of Jacobians and vector-Jacobian products for PyTorch."

COMMANDS: Mapping[str, str] = {
    "inspect": "Show the shapes, the explicit Jacobian, and the vector-Jacobian product with its numbers.",
    "trace": "Show the chain rule step by step: what arrives, the local Jacobians, what flows on, and where it goes wrong.",
    "check": "Check the gradient: against finite differences, forward against reverse; names the worst entry and the cause.",
    "hessian": "Show the second derivative: its shapes and structure, H times a direction, and whether it is definite here.",
    "derive": "Show the derivative in general: in indices, by cases, as matrices and as PyTorch code, verified against autograd.",
    "run": "Run a program of yours as Python would; explain its autograd and shape errors, and answer for its derivative calls.",
    "explain": "Explain one of PyTorch's autograd or shape error messages: what it means, why, and what to do.",
    "batch": "Answer requests from a file or stdin, a JSON document a line; a bad line gets its error and the rest go on.",
    "serve": "Serve a page to try things on, and answer the commands of this user's shells at once, until Ctrl-C.",
    "ops": "List the functions, methods and constants that an expression may use, with their signatures.",
    "schema": "Print the JSON Schema (draft 2020-12) of every document that the other commands print with --json.",
    "completion": "Print a script for bash, zsh or fish that completes commands, options and the functions of an expression.",
}
"""The commands, each a module of this package, with the first sentence of its help."""

OPTIONS: Mapping[str, str] = {"--version": "Print the version and leave.", "-h, --help": "Show this message and leave."}

EXAMPLES = """
# the shapes, the Jacobian, and how it makes the gradient
jvp inspect "torch.outer(x,x)" --x 1,2,3,4

# the functions that an expression may call
jvp ops softmax

# everything about a command
jvp inspect --help
"""

LONGEST_EXPRESSION = 1_000_000
"""Characters of EXPR on standard input."""

HELP_FLAGS = frozenset({"--help", "-h"})


def outcome(argv: Sequence[str]) -> int:
    """Runs a command line with this process's own streams, and in a process of its own where it computes; its exit code."""
    if has_flag(argv, "--debug") and sys.stderr is not None:
        import faulthandler

        faulthandler.enable()
    computes = _computes(argv)
    context = Context.apart_from_prints() if computes or argv[:1] == ["batch"] else Context.of_process()
    if computes and CAN_FORK:
        from jvpcli.cli.attendant import attended

        return attended(lambda computing: run(argv, computing), context, has_flag(argv, "--json"))
    if argv[:1] not in (["run"], ["serve"]):
        on_interrupt(lambda: _interrupted(argv, context))
    return run(argv, context)


def _computes(argv: Sequence[str]) -> bool:
    """Whether a command line asks for an answer."""
    if not argv or argv[0] not in COMMANDS:
        return False
    from jvpcli.request import COMPUTING

    return argv[0] in COMPUTING


def _interrupted(argv: Sequence[str], context: Context) -> None:
    """Ctrl-C: says so and leaves."""
    from jvpcli.cli.compute import end_run

    end_run(context, InterruptedByUser("interrupted"), has_flag(argv, "--json"))


def run(argv: Sequence[str], context: Context) -> int:
    """One run of the program; every failure is told and becomes an exit code."""
    try:
        with failures_as_errors():
            code = dispatch([readable(word) for word in argv], context)
            context.flush()
            return code
    except ReaderGone:
        return ExitCode.OK
    except OutputFailed as failure:
        return emit_error(context, output_failed(failure), as_json=False)
    except JvpError as error:
        if has_flag(argv, "--debug"):
            context.err.say("".join(traceback.format_exception(error)))
        return emit_error(context, error, has_flag(argv, "--json"))


def load_command(name: str) -> Any:
    """The module of a command."""
    return import_module(f"jvpcli.cli.{name}")


def dispatch(argv: list[str], context: Context, load: Callable[[str], Any] = load_command) -> int:
    """The program's own options, or the command that the first word names; `load` gives its module.

    Raises:
        JvpError: what is wrong.
    """
    if not argv or argv[0] in HELP_FLAGS:
        from jvpcli.cli.help import render_root

        render_root(ABOUT, COMMANDS, OPTIONS, EXAMPLES, context.console)
        return ExitCode.OK
    if argv[0] == "--version":
        from jvpcli.version import __version__

        context.out.say(__version__ + "\n")
        return ExitCode.OK
    if argv[0] not in COMMANDS:
        raise _unknown_command(argv)
    return _command(argv[0], argv[1:], context, load(argv[0]))


def _command(name: str, argv: list[str], context: Context, module: Any) -> int:
    from jvpcli.cli.command import build, invoke

    command = build(name, module)
    if name == "run":  # what follows the program's name is the program's
        from jvpcli.cli.run import own_words

        own = own_words(argv)
        rest = argv[own + 1 :] if argv[own : own + 1] == ["--"] else argv[own:]
        asked = any(has_flag(argv[:own], flag) for flag in HELP_FLAGS)
        return invoke(command, name, ["--help"] if asked else [*argv[:own], "--", *rest], context)
    if any(has_flag(argv, flag) for flag in HELP_FLAGS):
        return invoke(command, name, ["--help"], context)
    options = Options.of(name)
    if "--input" in options.spellings:
        argv = _with_expression(normalise(argv, options, f"jvp {name}"), context)
    return invoke(command, name, argv, context)


def _with_expression(argv: list[str], context: Context) -> list[str]:
    """A command's normalised argv with EXPR from stdin where it is `-`."""
    if argv[-2:] != ["--", "-"]:
        return argv
    return [*argv[:-1], _expression_from_stdin(argv[:-2], context)]


def _expression_from_stdin(options: list[str], context: Context) -> str:
    if any(word.startswith("--input=") and word.endswith("=-") for word in options):
        raise UsageError("standard input can be EXPR or the VALUE of an input, not both")
    return context.read_stdin(LONGEST_EXPRESSION).strip()


def _unknown_command(argv: list[str]) -> UsageError:
    """The error for a first word that is no command: a misspelt one, or options or an expression without its command."""
    import difflib
    import shlex

    word = argv[0]
    later = next((position for position, other in enumerate(argv) if other in COMMANDS), None)
    if word.startswith("--") and later is not None:
        corrected = shlex.join([argv[later], *argv[:later], *argv[later + 1 :]])
        return UsageError(f"the command stands first, before {word}", hints=(f"jvp {corrected}",))
    near = difflib.get_close_matches(word, [*COMMANDS, "--version", "--help"], n=1)
    if near:
        corrected = shlex.join([*near, *argv[1:]])
        kind = "option" if word.startswith("-") else "command"
        return UsageError(
            f"there is no {kind} {word!r}", explanation=f"Did you mean {near[0]}?", hints=(f"jvp {corrected}",)
        )
    hints = (f"jvp inspect {shlex.join(argv)}",) if not word.isidentifier() else ()
    return UsageError(
        f"there is no command {word!r}", explanation=f"The commands are {', '.join(COMMANDS)}.", hints=hints
    )
