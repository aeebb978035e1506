"""--html, --plot and --heatmap: refused early, written before the answer is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jvpcli.errors import UsageError
from jvpcli.writer import check_writable

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report import InspectReport
    from jvpcli.report.trace import TraceReport


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures that were asked for."""

    html: str | None
    plot: str | None
    heatmap: bool

    def check(self, *, as_json: bool = False, only_planned: bool = False) -> None:
        """Refuses, before anything is computed, what cannot be made.

        Raises:
            UsageError: a wrong file name, a part of jvp that is not installed, or options that exclude each other.
            FileError: a place that cannot be written to.
        """
        asked = [name for name in ("html", "plot", "heatmap") if getattr(self, name)]
        if not asked:
            return
        if only_planned:
            raise UsageError(f"--{asked[0]} has nothing to show: --explain-plan computes nothing")
        if as_json and self.heatmap:
            raise UsageError("--heatmap draws on stdout, where --json prints one JSON document: leave one of them out")
        self._check_files()

    def _check_files(self) -> None:
        from jvpcli.render import check_installed

        for option, path in (("--html", self.html), ("--plot", self.plot)):
            if path == "-":
                raise UsageError(f"{option} writes a file, and - is no name of one", hints=(f"{option} ./-",))
            if path is not None:
                check_writable(path)
        if self.html is not None:
            check_installed("--html", "jinja2", "html")
        if self.plot is not None:
            from jvpcli.render.plot import check_path

            check_path(self.plot)

    def write(self, report: InspectReport | TraceReport) -> None:
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

    def draw(self, report: InspectReport | TraceReport, console: Console) -> None:
        """Draws in the terminal, if that was asked for."""
        if self.heatmap:
            from jvpcli.render.heatmap import heatmap

            heatmap(report, console)
