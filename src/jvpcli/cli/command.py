"""One command, built by typer from the table of options and a module's function; no other command is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature, signature
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.errors import ExitCode, UsageError
from jvpcli.language import may_be_pasted
from jvpcli.options import COMMAND_LINE, PATH, Option, command, make_request, options_of, read
from jvpcli.request import Request


class Command(TyperCommand):
    """A typer command whose help goes to the run's own console, with the examples as they stand."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's hook."""
        from jvpcli.cli.help import render_command

        render_command(self, ctx, ctx.obj.console)


def build(name: str, module: ModuleType) -> Any:
    """The command of a module: its function `command`, its `EXAMPLES`, and the options that the table gives it.

    The function gets the Request that they make and the Display of its answer, if it takes such, and by name what else of
    them it takes.
    """

    def callback(ctx: typer.Context, **given: Any) -> Any:
        return module.command(ctx.obj, **_taken(name, module, ctx.obj, given))

    parameters = [_parameter(option) for option in options_of(COMMAND_LINE, name).values()]
    context = Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    callback.__signature__ = Signature([context, *parameters])  # type: ignore[attr-defined]
    callback.__doc__ = module.command.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["--help", "-h"]}
    app.command(name, cls=Command, epilog=module.EXAMPLES, context_settings=settings)(callback)
    return typer.main.get_command(app)


def _parameter(option: Option) -> Parameter:
    """An option as typer declares one."""
    about: dict[str, Any] = {"metavar": option.metavar, "help": option.help}
    declared = typer.Option(*option.spellings, **about) if option.spellings else typer.Argument(**about)
    kind = option.kind.type if option.kind.type is bool else option.kind.type | None
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=option.default, annotation=Annotated[kind, declared])


def _taken(name: str, module: ModuleType, context: Context, given: dict[str, Any]) -> dict[str, Any]:
    """What a command's function takes of the options that are given.

    Raises:
        UsageError: a value that is not in its option's form, or no EXPR.
    """
    options = options_of(COMMAND_LINE, name)
    given = {key: context.place(value) if options[key].kind is PATH else value for key, value in given.items()}
    takes = signature(module.command).parameters
    values: dict[str, Any] = {}
    if "request" in takes:
        if given["expression"] is None:
            raise UsageError("EXPR is missing: the expression to differentiate", hints=examples(module.EXAMPLES)[:3])
        values["request"] = _meant(make_request(given, COMMAND_LINE, name, stdin=context.read_stdin), given, context)
    own = {key: option.default for key, option in options.items()} | read(given, options, COMMAND_LINE)
    if "display" in takes:
        values["display"] = Display(**{key: value for key, value in own.items() if key in Display._fields})
    return values | {key: value for key, value in own.items() if key in takes}


def _meant(request: Request, given: Mapping[str, Any], context: Context) -> Request:
    """The request that a pasted program makes, and on stderr which command that is, and what of the text has no effect."""
    assert isinstance(request.expression, str)
    if request.call is None and not may_be_pasted(request.expression):
        return request
    from jvpcli.language.pasted import as_meant, said_of  # loaded only where a program can be pasted

    meant = as_meant(request, runs=True)
    if given["quiet"] or given["as_json"]:
        return meant
    if meant.expression != request.expression:
        context.err.say(f"read as: {command(meant)}\n")
    for note in said_of(meant):
        context.err.say(f"{note}.\n")
    return meant


def examples(text: str) -> tuple[str, ...]:
    """The commands of some EXAMPLES that can be run as they stand."""
    return tuple(line for line in text.splitlines() if line.startswith("jvp "))


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
