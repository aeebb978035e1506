"""How far a long computation is: a line on stderr that appears after a second, on a terminal, and goes away again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jvpcli.cli.context import Context
from jvpcli.request import Tell

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0
"""Seconds before anything is shown."""


@contextmanager
def progress(context: Context) -> Iterator[Tell | None]:
    """Gives what is to be told of the progress; None where nobody looks."""
    if not context.err.isatty():
        yield None
        return
    shown = Shown(context)
    timer = threading.Timer(PATIENCE, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown.tell
    finally:
        timer.cancel()
        shown.stop()


class Shown:
    """The line: what is being done, how much of it is, and for how long; drawn by a thread of rich's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._latest = ("computing", 0, 0)
        self._progress: Progress | None = None
        self._ended = False

    def start(self) -> None:
        """Draw it, unless the work has just ended."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._ended:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=self._context.error_console, transient=True)
            self._task = self._progress.add_task("", total=None)
            self._update()
            self._progress.start()

    def tell(self, what: str, done: int, total: int) -> None:
        """`done` of `total` of `what` are there."""
        self._latest = (what, done, total)
        if self._progress is not None:
            self._update()

    def stop(self) -> None:
        """Take it away."""
        with self._lock:
            self._ended = True
            if self._progress is not None:
                self._progress.stop()

    def _update(self) -> None:
        assert self._progress is not None
        what, done, total = self._latest
        text = f"{what}: {done:,} of {total:,}" if total else what
        self._progress.update(self._task, description=text, completed=done, total=total or None)
