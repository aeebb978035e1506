"""`%load_ext jvpcli` in IPython and notebooks: `%jvp` and `%%jvp`, and errors of cells explained below their tracebacks."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

from jvpcli.cli.app import dispatch, load_command
from jvpcli.cli.argv import Options
from jvpcli.cli.completion import complete, words_of
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display, emit_warnings, failures_as_errors
from jvpcli.errors import JvpError, UnknownNameError, UsageError
from jvpcli.request import COMPUTING, Request

COLUMNS = {"COLUMNS": "100"}
"""The width that texts are laid out for."""

PRINTED = ("explain_plan", "dot")
"""Options with which, as with those of a Display, a command prints or writes its answer; without them a result is given."""

APART = ("run", "batch")
"""Commands that run in a process of their own: they end it, or make others."""


def load(shell: Any) -> None:
    """Adds `%jvp`, its completion and the explanations to an IPython shell."""
    shell.register_magic_function(partial(jvp, shell), "line_cell", "jvp")
    shell.events.register("post_run_cell", explain_cell)
    for magic in ("%jvp", "%%jvp"):
        shell.set_hook("complete_command", completions, str_key=magic)


# %jvp


def jvp(shell: Any, line: str, cell: str | None = None) -> Any:
    """A command of jvp, as in a shell; the names of an expression are the notebook's own tensors and numbers.

    The text below `%%jvp` is the expression, the message of explain, or the lines of batch.  What computes gives the result
    that the function of its name gives: `r = %jvp inspect torch.outer(x, x)`.

    Raises:
        JvpError: what is wrong; the notebook shows it without a traceback.
    """
    words = words_of(line)
    name = words[0] if words else "--help"
    if name in APART:
        _run_apart([*map(_unquoted, words)], cell)
        return None
    results: list[Any] = []
    argv = [name, *(_arranged(name, words[1:], cell) if name in COMPUTING else [*map(_unquoted, words[1:]), *_below(cell)])]
    context = Context(None, io.StringIO(), io.StringIO(), COLUMNS)
    try:
        if name == "serve" and not {"--status", "--stop", "--help", "-h"} & set(argv):
            raise UsageError(
                "jvp serve answers until it is ended, and the notebook would wait for that",
                hints=("jvp serve   # in a terminal",),
            )
        with failures_as_errors():
            dispatch(argv, context, partial(_asking, shell.user_ns, results))
    except JvpError as error:
        from jvpcli.render.error import error_text

        told = replace(error, hints=_own_callable(error, name, shell.user_ns) or error.hints)
        told._render_traceback_ = error_text(told).splitlines  # type: ignore[attr-defined]  # IPython's way to ask for it
        raise told from None
    finally:
        _pass_on(context)
    return results[0] if results else None


def _own_callable(error: JvpError, name: str, variables: Mapping[str, Any]) -> tuple[str, ...]:
    """What helps where an expression calls a function or module of the notebook's, which no text can."""
    called = (error.source or "")[slice(*error.span)] if isinstance(error, UnknownNameError) and error.span else ""
    if name not in COMPUTING or name == "derive" or not callable(variables.get(called)):  # derive takes texts alone
        return ()
    return (f"`{called}` is the notebook's own: jvpcli.{name}({called}, …) takes it as it is, with its arguments behind it",)


def _asking(variables: Mapping[str, Any], results: list[Any], name: str) -> Any:
    """A command's module whose command gives its answer as a result, where no option wants it printed."""
    module = load_command(name)
    if name not in COMPUTING:
        return module

    @wraps(module.command)
    def command(context: Context, **taken: Any) -> Any:
        request = with_variables(taken.pop("request"), variables)
        if request.timeout is not None:
            raise UsageError("--timeout can't be kept here: it would end the notebook's process")
        display: Display = taken["display"]
        if any(display._replace(quiet=False)) or any(taken.get(option) for option in PRINTED):
            return module.command(context, request, **taken)
        from jvpcli.api import recording
        from jvpcli.results import RESULTS

        shown = {option: taken[option] for option in ("step", "depth") if option in taken}
        with recording():
            results.append(RESULTS[name](request, **shown))
        if not display.quiet:
            emit_warnings(context, results[0].report.warnings)
        return None

    return SimpleNamespace(command=command, EXAMPLES=module.EXAMPLES)


def with_variables(request: Request, variables: Mapping[str, Any]) -> Request:
    """The request with the variables that its texts name, where they are tensors or numbers and no input has that name."""
    from jvpcli.answers.arguments import holds_numbers

    names = dict.fromkeys(name for text in _texts(request) for name in _free_names(text))
    own = {n: variables[n] for n in names if n not in request.inputs and n in variables and holds_numbers(variables[n])}
    return replace(request, inputs={**own, **request.inputs})


def _texts(request: Request) -> Iterator[str]:
    """The expression, and the VALUEs that may be expressions."""
    from jvpcli.language.values import is_word

    yield request.expression
    yield from request.inputs.values()
    yield from (value for _, value in (*request.grad_outputs, *request.tangent) if not is_word(value))


def _free_names(text: str) -> tuple[str, ...]:
    from jvpcli.language.values import free_names

    try:
        return free_names(text)
    except JvpError:  # which is told where it is read
        return ()


def _arranged(name: str, words: Sequence[str], cell: str | None) -> list[str]:
    """The words of a line as a shell would give them: options with their values, then the rest of it as one expression."""
    options = Options.of(name)
    before: list[str] = []
    expression: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        called, equals, _ = word.partition("=")
        known = options.spellings.get(called)
        if known is None and not (word.startswith("--") and called[2:].isidentifier()):
            expression.append(word)
            continue
        before.append(_unquoted(word))
        takes = known in options.valued if known is not None else True  # what is no option is an input
        if takes and not equals and waiting:
            before.append(_unquoted(waiting.pop(0)))
    texts = [text for text in (" ".join(expression), *_below(cell)) if text]
    if len(texts) > 1:
        raise UsageError("the expression stands in the line or in the cell below it, not in both")
    return [*before, *(["--", _unquoted(texts[0]) if len(expression) == 1 else texts[0]] if texts else [])]


def _below(cell: str | None) -> list[str]:
    return [cell.strip()] if cell is not None and cell.strip() else []


def _unquoted(word: str) -> str:
    """A word as a shell would read it; as it stands where its quotes are the expression's own."""
    quoted = word[:1] in ("'", '"') or word.startswith("-")
    try:
        return "".join(shlex.split(word)) if quoted else word
    except ValueError:  # a quote that nothing closes
        return word


def _run_apart(argv: Sequence[str], cell: str | None) -> None:
    """A command in a process of its own; what it prints is printed here."""
    done = subprocess.run([sys.executable, "-m", "jvpcli", *argv], input=cell or "", capture_output=True, text=True)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)


def _pass_on(context: Context) -> None:
    """What a command has printed, in the notebook."""
    assert isinstance(context.stdout, io.StringIO)
    assert isinstance(context.stderr, io.StringIO)
    print(context.stdout.getvalue(), end="")
    print(context.stderr.getvalue(), end="", file=sys.stderr)


# Errors of cells


def explain_cell(result: Any) -> None:
    """Below the traceback of a cell's error what it means, if that is known and has not been told with the error."""
    error = result.error_in_exec
    if error is None or hasattr(error, "_render_traceback_") or "torch" not in sys.modules:
        return
    from jvpcli.answers.uncaught import explained_chain
    from jvpcli.render.error import error_text

    meaning = error if isinstance(error, JvpError) else explained_chain(error, None)
    if meaning is None:
        return
    text = error_text(meaning)
    if text not in getattr(error, "__notes__", ()):
        print(text, file=sys.stderr)


# Completion


def completions(shell: Any, event: Any) -> list[str]:
    """What the word at the cursor of a `%jvp` line can become; IPython replaces its `symbol` alone, the end of that word."""
    line = event.text_until_cursor.lstrip("% ")
    word = words_of(line)[-1]
    before = len(word) - len(event.symbol) if word.endswith(event.symbol) else 0
    return [candidate[before:] for candidate in complete(line)]
