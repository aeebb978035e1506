"""Where results and failures go: results to stdout, everything else to stderr; with --json one document on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jvpcli.cli.context import Context, OutputFailed, ReaderGone
from jvpcli.errors import FileError, InterruptedByUser, JvpError, as_error

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report import Notice


def emit(context: Context, report: Any, as_json: bool, render: Callable[[Any, Console], None]) -> None:
    """A report to stdout, all of it or, where there is no memory for it, nothing.

    A document is laid out, a text is rendered in full, before the first byte is written.
    """
    if as_json:
        from jvpcli.render.json import layout, pieces

        document = pieces(layout(report))
        context.watch.answer()
        for piece in document:
            context.out.write_bytes(piece)
        context.out.write_bytes(b"\n")
    else:
        with context.console.capture() as shown:
            render(report, context.console)
        text = shown.get()
        context.watch.answer()
        context.out.write(text)
    context.flush()


def emit_warnings(context: Context, warnings: tuple[Notice, ...]) -> None:
    """The warnings of an answer that has been printed, to stderr."""
    from jvpcli.render.text import render_warnings

    render_warnings(warnings, context.error_console)


def emit_error(context: Context, error: JvpError, as_json: bool) -> int:
    """A failure to where it belongs; gives the exit code.

    Where stdout itself cannot be written, stderr is told so; a reader who has gone is left in peace.
    """
    context.watch.answer()
    try:
        if as_json:
            from jvpcli.render.json import error_to_json

            context.write(error_to_json(error))
        context.flush()
    except ReaderGone:
        return int(error.exit_code)
    except OutputFailed as failure:
        return panel(context, output_failed(failure))
    return int(error.exit_code) if as_json else panel(context, error)


def panel(context: Context, error: JvpError) -> int:
    """A failure to stderr, for people; gives the exit code."""
    from jvpcli.render.error import render_error

    render_error(error, context.error_console)
    context.err.flush()
    return int(error.exit_code)


def output_failed(failure: OutputFailed) -> FileError:
    """What the user is told when stdout cannot be written."""
    return FileError(f"the output cannot be written: {failure}")


@contextmanager
def failures_as_errors() -> Iterator[None]:
    """Whatever goes wrong inside comes out as a JvpError, or as the ReaderGone or OutputFailed that it is."""
    try:
        yield
    except (JvpError, ReaderGone, OutputFailed):
        raise
    except KeyboardInterrupt as error:
        raise InterruptedByUser("interrupted") from error
    except Exception as error:
        raise as_error(error) from error
