"""The process as the commands see it: streams and environment, injected once, never probed at import."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TextIO

from rich.console import Console

PIPE_WIDTH = 10_000
"""Columns of a console that is no terminal: whatever a line needs."""

ASCII = str.maketrans(
    {
        "∂": "d", "Σ": "sum", "·": "*", "×": "x", "ᵀ": "^T", "…": "...", "⋮": ":", "⟨": "<", "⟩": ">", "∞": "inf",
        "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "“": '"', "”": '"',
        "‘": "'", "’": "'", "√": "sqrt", "δ": "delta", "ε": "eps", "█": "#", "▇": "#", "▆": "#", "▅": "=", "▄": "=",
        "▃": "-", "▂": "-", "▁": "_", "│": "|", "└": "`", "├": "|", "─": "-",
    }
)  # fmt: skip
"""What stands for the field's symbols where the terminal's encoding cannot show them."""


class ReaderGone(Exception):
    """The reader of our output has seen enough: `| head -1`."""


class _Console(Console):
    """Rich's console, but a closed pipe is something to handle, not an exit with 1."""

    def on_broken_pipe(self) -> None:
        """Rich's hook."""
        raise ReaderGone


@dataclass(frozen=True)
class Context:
    """Standard streams and environment of one run."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]

    @classmethod
    def of_process(cls) -> Context:
        """The real process's."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    @cached_property
    def console(self) -> Console:
        """For results."""
        return self._console(self.stdout)

    @cached_property
    def error_console(self) -> Console:
        """For everything else: warnings, progress, errors."""
        return self._console(self.stderr)

    @cached_property
    def stdin_text(self) -> str:
        """All of standard input, read once."""
        return self.stdin.read()

    def read_stdin(self) -> str:
        """All of standard input, however often it is asked for."""
        return self.stdin_text

    def write(self, document: bytes) -> None:
        """A line of UTF-8 to stdout: a JSON document."""
        buffer = getattr(self.stdout, "buffer", None)
        try:
            if buffer is None:
                self.stdout.write(document.decode() + "\n")
            else:
                self.stdout.flush()
                buffer.write(document + b"\n")
        except BrokenPipeError:
            raise ReaderGone from None

    def flush(self) -> None:
        """Everything written is out.

        Raises:
            ReaderGone: nobody reads it.
            OSError: it cannot be written.
        """
        try:
            self.stdout.flush()
            self.stderr.flush()
        except BrokenPipeError:
            raise ReaderGone from None

    def _console(self, stream: TextIO) -> Console:
        columns = self.environ.get("COLUMNS", "")
        free = not stream.isatty() and not columns.isdigit()
        return _Console(
            file=stream if _unicode(stream) else _AsciiStream(stream),  # type: ignore[arg-type]
            width=PIPE_WIDTH if free else None,
            _environ=self.environ,
            highlight=False,
            markup=False,
            emoji=False,
        )


def _unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


class _AsciiStream:
    """A text stream whose encoding cannot show the field's symbols: they are written in ASCII."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = "ascii"

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        plain = text.translate(ASCII).encode(encoding, "replace").decode(encoding)
        return self._stream.write(plain)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
