"""`jvp run`: the user's own program, as Python would run it, with its errors explained and its derivative calls answered for."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jvpcli.answers import report_of
from jvpcli.cli.command import examples
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display, emit, emit_error, emit_warnings
from jvpcli.errors import ExitCode, JvpError, UsageError, as_error

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.answers.run import Made, Watched
    from jvpcli.recording.places import Point
    from jvpcli.request import Request

EXAMPLES = """
# a program as it is; an autograd or shape error is explained where it happens
jvp run train.py --epochs 3

# every torch.autograd.grad and backward, by line, with the shapes
jvp run --grad-calls train.py

# the call on line 12, as jvp inspect shows it; the third time that it is made; step by step
jvp run --inspect 12 train.py
jvp run --inspect 12:3 train.py
jvp run --trace train.py:12 train.py

# where a gradient becomes NaN, infinite or zero in training
jvp run --watch train.py

# a module, as python -m runs it
jvp run -m package.train --epochs 3
"""


def own_words(argv: Sequence[str]) -> int:
    """How many words of argv are jvp's own: all before the program's name; what follows is the program's."""
    from jvpcli.cli.argv import Options

    options, position = Options.of("run"), 0
    while position < len(argv) and argv[position].startswith("-") and argv[position] != "-":
        name, equals, _ = argv[position].partition("=")
        if name == "--":
            return position
        takes = options.spellings.get(name) in options.valued
        position += 2 if takes and not equals else 1
        if name in ("-m", "--module"):
            return min(position, len(argv))
    return min(position, len(argv))


def command(
    context: Context,
    *,
    program: list[str] | None,
    module: str | None,
    grad_calls: bool,
    watch: bool,
    inspect: str | None,
    trace: str | None,
    check: str | None,
    html: str | None,
    depth: int | None,
    as_json: bool,
    full: bool,
    quiet: bool,
) -> int:
    """Run a program of yours as Python would; explain its autograd and shape errors, and answer for its derivative calls."""
    words = list(program or [])
    if module is None and not words:
        raise UsageError("SCRIPT.py is missing: the program to run", hints=examples(EXAMPLES)[:1])
    line = _line_asked({"inspect": inspect, "trace": trace, "check": check}, html)
    pictures = Display(html)
    pictures.check()
    from jvpcli.answers.run import Watched, listed, read_asked, unanswered
    from jvpcli.answers.watch import Watch
    from jvpcli.recording.script import run_module, run_script

    shown = _Shown(context, as_json, quiet, full, depth, pictures)
    watched = Watched(
        read_asked(*line) if line else None,
        shown.answer,
        grad_calls,
        Watch() if watch else None,
        lambda alarm: context.err.say(f"jvp: {alarm.message}\n"),
        None if module else words[0],
    )
    run = partial(run_module, module, words) if module is not None else partial(run_script, words[0], words[1:])
    code, failure = _ended(run, watched, context, as_json, quiet)
    sys.stdout.flush()
    if grad_calls or (watch and as_json):
        from jvpcli.render.run import render_calls

        emit(context, listed(watched, failure), as_json, render_calls)
    if failure is not None and not quiet:
        context.err.write("\n")
        emit_error(context, failure, as_json and not grad_calls and not shown.told)
    missing = unanswered(watched)
    if missing is not None:
        if code == ExitCode.OK:
            raise missing
        emit_error(context, missing, False)
    return code


def _line_asked(given: Mapping[str, str | None], html: str | None) -> tuple[str, str] | None:
    """The answer that is asked for, and for which line; None: the program is only run.

    Raises:
        UsageError: several are asked for, or a page of none.
    """
    lines = [(name, text) for name, text in given.items() if text is not None]
    if len(lines) > 1:
        raise UsageError(f"--{' and --'.join(name for name, _ in lines)} can't be asked at once: one call is answered for")
    line = lines[0] if lines else None
    if html is not None and (line is None or line[0] == "check"):
        raise UsageError("--html shows one call: say which with --inspect LINE or --trace LINE")
    return line


def _ended(
    run: Callable[[], None], watched: Watched, context: Context, as_json: bool, quiet: bool
) -> tuple[int, JvpError | None]:
    """Runs the program, watched; its exit code, and what the error means that ended it."""
    from jvpcli.answers.run import ended, warned
    from jvpcli.recording.script import own_traceback, own_tracebacks, placed_warnings, show, threads_told

    def heard(message: str, point: Point) -> None:
        told = None if quiet else warned(message, point)
        if told is not None:
            context.err.say(f"jvp: {told}\n")

    def ended_thread(error: BaseException) -> None:
        told = None if quiet else ended(watched, error)
        if told is not None:
            emit_error(context, told, False)

    gc.enable()  # which `main` has switched off: a program of hours makes garbage
    outside = redirect_stdout(sys.stderr) if as_json else nullcontext()
    try:
        with outside, placed_warnings(heard), threads_told(ended_thread), own_tracebacks(), watched.recorder:
            run()
    except JvpError:
        raise
    except SystemExit as left:
        return _code(left, context), None
    except BaseException as error:
        sys.stdout.flush()
        with outside:
            show(own_traceback(error))
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, ended(watched, error)
    return int(ExitCode.OK), None


def _code(left: SystemExit, context: Context) -> int:
    """The exit code of a program that leaves by itself; what is no number is a message."""
    if left.code is None:
        return 0
    if isinstance(left.code, int):
        return left.code
    context.err.write(f"{left.code}\n")
    return 1


@dataclass
class _Shown:
    """Prints the answer for one derivative call, in the middle of the program.

    `told`: whether it has.
    """

    context: Context
    as_json: bool
    quiet: bool
    full: bool
    depth: int | None
    pictures: Display
    told: bool = False

    def answer(self, request: Request, made: Made) -> None:
        """The answer for a call that has been made, on stdout; a failure of it ends nothing else."""
        from jvpcli.answers.run import compared

        self.told = True
        sys.stdout.flush()
        try:
            report = compared(report_of(request), request, made)
            self.pictures.write(report)
        except Exception as error:
            emit_error(self.context, error if isinstance(error, JvpError) else as_error(error), self.as_json)
            return
        emit(self.context, report, self.as_json, lambda report, console: self._render(request.command, report, console))
        if not (self.quiet or self.as_json):
            emit_warnings(self.context, report.warnings)

    def _render(self, command: str, report: Any, console: Console) -> None:
        if command == "inspect":
            from jvpcli.render.inspect import render_inspect

            render_inspect(report, console, full=self.full)
        elif command == "trace":
            from jvpcli.render.trace import render_trace

            render_trace(report, console, full=self.full, depth=self.depth)
        else:
            from jvpcli.render.check import render_check

            render_check(report, console)
