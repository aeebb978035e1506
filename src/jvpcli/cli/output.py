"""Where results and failures go: results to stdout, everything else to stderr; with --json one document on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from jvpcli.cli.context import Context, OutputFailed, ReaderGone
from jvpcli.errors import FileError, InterruptedByUser, JvpError, UsageError, as_error

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report import InspectReport, Notice
    from jvpcli.report.hessian import HessianReport
    from jvpcli.report.trace import TraceReport


# What is shown, where, and how


class Display(NamedTuple):
    """How an answer is shown: as a document or as text, all of it or as much as reads well, with which pictures.

    Attributes:
        html, plot: files to write a page and a picture to.
        heatmap: whether a picture is drawn in the terminal.
        as_json: whether a document is printed instead of text.
        full: whether nothing is left out of the text.
        quiet: whether there are no warnings.
    """

    html: str | None = None
    plot: str | None = None
    heatmap: bool = False
    as_json: bool = False
    full: bool = False
    quiet: bool = False

    @property
    def pictures(self) -> list[str]:
        """The options by which pictures were asked for."""
        return [f"--{name}" for name in ("html", "plot", "heatmap") if getattr(self, name)]

    def check(self) -> None:
        """Refuses, before anything is computed, what cannot be made.

        Raises:
            UsageError: a wrong file name, a part of jvp that is not installed, or options that exclude each other.
            FileError: a place that cannot be written to.
        """
        if self.as_json and self.heatmap:
            raise UsageError("--heatmap draws on stdout, where --json prints one JSON document: leave one of them out")
        for option, path in (("--html", self.html), ("--plot", self.plot)):
            if path == "-":
                raise UsageError(f"{option} writes a file, and - is no name of one", hints=(f"{option} ./-",))
            if path is not None:
                from jvpcli.writer import check_writable

                check_writable(path)
        if self.html is not None:
            from jvpcli.render import check_installed

            check_installed("--html", "jinja2", "html")
        if self.plot is not None:
            from jvpcli.render.plot import check_path

            check_path(self.plot)

    def write(self, report: InspectReport | TraceReport | HessianReport) -> None:
        """Writes the files.

        Raises:
            FileError: one cannot be written.
        """
        if self.html is not None:
            from jvpcli.render.html import write_html

            write_html(report, self.html)
        if self.plot is not None:
            from jvpcli.render.plot import write_plot

            write_plot(report, self.plot)

    def draw(self, report: InspectReport | TraceReport | HessianReport, console: Console) -> None:
        """Draws in the terminal, if that was asked for."""
        if self.heatmap:
            from jvpcli.render.heatmap import heatmap

            heatmap(report, console)


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
    from jvpcli.render.parts import render_warnings

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
