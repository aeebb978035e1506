"""The process as the commands see it: streams and environment, injected once, never probed at import."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from jvpcli.cli.streams import Output
from jvpcli.cli.watch import Watch
from jvpcli.errors import BadValueError, LimitError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 10_000
"""Columns of a console that is no terminal: whatever a line needs."""

STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""What people call standard output where a file's name is asked for."""

USUAL_WIDTH, HEIGHT = 80, 25
"""Of a terminal that does not tell."""

NARROWEST = 40
"""Columns that a page is laid out for at least.  A narrower terminal breaks the lines itself; in a frame or a table with
no room for a word, words would be lost."""


@dataclass(frozen=True)
class Context:
    """Standard streams and environment of one run; a stream that the caller has closed is None.

    `watch` ends the run when its time is up.
    """

    stdin: TextIO | None
    stdout: TextIO | None
    stderr: TextIO | None
    environ: Mapping[str, str]
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def of_process(cls) -> Context:
        """The real process's."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    @classmethod
    def apart_from_prints(cls) -> Context:
        """The real process's, its stdout for results alone: what else is written there goes to stderr.

        That is what torch's libraries print, and the user's own files, whether through Python, from C or by a program
        that they start.
        """
        if sys.stdout is None or sys.stderr is None:
            return cls.of_process()
        try:
            sys.stdout.flush()
            kept = os.dup(sys.stdout.fileno())
            results = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):
            return cls.of_process()
        return cls(sys.stdin, results, sys.stderr, os.environ)

    @cached_property
    def out(self) -> Output:
        """Standard output; what cannot be written there is a failure."""
        return Output(self.stdout, vital=True)

    @cached_property
    def err(self) -> Output:
        """Standard error."""
        return Output(self.stderr, vital=False)

    @cached_property
    def console(self) -> Console:
        """For results."""
        return self._console(self.out)

    @cached_property
    def error_console(self) -> Console:
        """For everything else: warnings, progress, errors."""
        return self._console(self.err)

    @cached_property
    def stdin_text(self) -> str:
        """All of standard input, read once.

        Raises:
            UsageError: there is none.
            BadValueError: it is no text.
        """
        return self._read(-1)

    def read_stdin(self, most: int | None = None) -> str:
        """All of standard input, however often it is asked for; with `most`, once, and no more characters than that.

        Raises:
            UsageError: there is none.
            BadValueError: it is no text.
            LimitError: there is more.
        """
        if most is None:
            return self.stdin_text
        text = self._read(most + 1)
        if len(text) > most:
            raise LimitError(f"the text on standard input is longer than {most:,} characters")
        return text

    def _read(self, most: int) -> str:
        if self.stdin is None:
            raise UsageError("standard input is closed, so `-` has nothing to read")
        try:
            return self.stdin.read(most)
        except UnicodeDecodeError as error:
            place, name = error.start, error.encoding.upper()
            raise BadValueError(f"standard input is no text in {name}: its byte {place:,} (from 0) can't be read") from None

    def place(self, path: str | None) -> str | None:
        """The path of a file to write; the names of standard output are those of where results go."""
        if path not in STDOUT or self.stdout is None:
            return path
        return f"/dev/fd/{self.stdout.fileno()}"

    def write(self, document: bytes) -> None:
        """A line of UTF-8 to stdout: a JSON document.

        Raises:
            ReaderGone, OutputFailed: it cannot be written.
        """
        self.out.write_bytes(document)
        self.out.write_bytes(b"\n")

    def flush(self) -> None:
        """Everything written is out.

        Raises:
            ReaderGone, OutputFailed: it cannot be written.
        """
        self.err.flush()
        self.out.flush()

    def _console(self, output: Output) -> Console:
        from jvpcli.render.terminal import Terminal

        return Terminal(
            file=output,  # type: ignore[arg-type]
            width=self._width(output),
            height=HEIGHT,  # rich takes the width as it is only with a height
            _environ=self.environ,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def _width(self, output: Output) -> int:
        """COLUMNS if it is set, else the terminal's; whatever a line needs where there is no terminal."""
        return min(max(_columns(self.environ.get("COLUMNS", "")) or self._room(output), NARROWEST), PIPE_WIDTH)

    def _room(self, output: Output) -> int:
        """Columns of what the output goes to."""
        if not output.isatty():
            return PIPE_WIDTH
        try:
            return os.get_terminal_size(output.fileno()).columns or USUAL_WIDTH
        except (OSError, ValueError):
            return USUAL_WIDTH


def _columns(text: str) -> int:
    """What COLUMNS says; 0 where that is no number of columns."""
    try:
        return max(0, int(text))
    except ValueError:  # no number, or one of thousands of digits
        return 0
