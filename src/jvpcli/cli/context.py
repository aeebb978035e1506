"""The process as the commands see it: streams and environment, injected once, never probed at import.

Output streams say plainly when they cannot be written, and show every symbol in some way.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from jvpcli.errors import BadValueError, LimitError, UsageError
from jvpcli.render import visible
from jvpcli.system.processes import hear, interrupts_are_heard

if TYPE_CHECKING:
    from rich.console import Console

ASCII = str.maketrans(
    {
        "∂": "d", "Σ": "sum", "·": "*", "×": "x", "ᵀ": "^T", "…": "...", "⋮": ":", "⟨": "<", "⟩": ">", "∞": "inf",
        "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "“": '"',
        "”": '"', "‘": "'", "’": "'", "√": "sqrt", "δ": "delta", "ε": "eps", "π": "pi", "∈": "in", "ⁿ": "^n",
        "⁻": "^-", "¹": "^1", "²": "^2", "³": "^3", "∇": "grad ", "▶": ">", "▸": ">", "•": "*", "✓": "ok", "✗": "x",
        "█": "#", "▇": "#", "▆": "#", "▅": "=", "▄": "=", "▃": "-", "▂": "-", "▁": "_", "│": "|", "└": "`",
        "├": "|", "‖": "|", "─": "-",
    }
)  # fmt: skip
"""What stands for the field's symbols where the terminal's encoding cannot show them."""


class ReaderGone(Exception):
    """The reader of our output has seen enough: `| head -1`."""


class OutputFailed(Exception):
    """The output cannot be written: a full disk, a stream that the caller has closed."""


class Output:
    """A stream to print on.

    Symbols that its encoding lacks are replaced: those of the field by what :data:`ASCII` says, others by `?`.  With
    `vital`, what cannot be written raises :class:`ReaderGone` or :class:`OutputFailed`; otherwise it is lost in
    silence, since there is nowhere left to say so.
    """

    def __init__(self, stream: TextIO | None, *, vital: bool) -> None:
        self._stream = stream
        self._vital = vital
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._plain = not self._encoding.lower().replace("-", "").replace("_", "").startswith("utf")
        self.encoding = "ascii" if self._plain else self._encoding
        """What rich draws its boxes by."""

    def say(self, text: str) -> None:
        """Text with no order to a terminal in it, wherever it came from."""
        self.write(visible(text))

    def write(self, text: str) -> int:
        """Text as it is, in the stream's own encoding: for a console, which knows its colours, and for the user's own prints."""
        plain = text.translate(ASCII) if self._plain else text
        shown = plain.encode(self._encoding, "replace").decode(self._encoding)
        self._attempt(lambda stream: stream.write(shown))
        return len(text)

    def write_bytes(self, document: bytes) -> None:
        """Bytes as they are: JSON is UTF-8 whatever the terminal."""

        def put(stream: TextIO) -> None:
            raw = getattr(stream, "buffer", None)
            if raw is None:
                stream.write(document.decode())
            else:
                stream.flush()
                raw.write(document)

        self._attempt(put)

    def flush(self) -> None:
        """Sends out everything that was written."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor, from which rich learns the terminal's size."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            action(self._stream)
        except BrokenPipeError:
            if self._vital:
                raise ReaderGone from None
        except OSError as error:
            if self._vital:
                raise OutputFailed(error.strerror or str(error)) from None


PIPE_WIDTH = 10_000
"""Columns of a console that is no terminal: whatever a line needs."""

USUAL_WIDTH, HEIGHT = 80, 25
"""Of a terminal that does not tell."""

NARROWEST = 40
"""Columns that a page is laid out for at least.  A narrower terminal breaks the lines itself; in a frame or a table with
no room for a word, words would be lost."""


# What ends a run from outside: the clock and Ctrl-C


class Watch:
    """Threads of this process that end it, for a run that no other process waits for.

    `telling` is a lock that the thread holds that tells how the run ended.  The main thread tells a result or a failure,
    a watcher a timeout or Ctrl-C: the first to hold the lock keeps it, so that one outcome is told and no other.
    """

    def __init__(self) -> None:
        self.telling = threading.RLock()
        self._answered = threading.Event()

    def begin(self, expression: str, seconds: float | None, end: Callable[[], None]) -> None:
        """The computation begins; unless it is answered within `seconds`, `end` is called in a thread of its own.

        A thread does that and not a signal: torch may be deep in a long call that looks at no signal.
        """
        if seconds is None:
            return
        longest = min(seconds, threading.TIMEOUT_MAX)

        def watch() -> None:
            if not self._answered.wait(longest):
                end()

        threading.Thread(target=watch, daemon=True).start()

    def answer(self) -> None:
        """The outcome is there, to the last letter: from here on it is only written, and nothing else is told."""
        self._answered.set()
        self.telling.acquire()


def on_interrupt(end: Callable[[], None]) -> None:
    """From now on Ctrl-C calls `end` in a thread of its own, at once, whatever the main thread is doing.

    Python's own handler would wait for torch to come back from a long call, and could hit an import halfway.
    """
    if not interrupts_are_heard():
        return
    heard = hear(signal.SIGINT)

    def watch() -> None:
        os.read(heard, 1)
        end()

    threading.Thread(target=watch, daemon=True).start()


LONGEST_POLL = 3_600_000.0
"""Milliseconds that are waited at once; the system takes no more than 2³¹."""


def patience(deadline: float | None) -> float | None:
    """Milliseconds that a `poll` may wait where something is late at `deadline` (of the monotonic clock); None: for ever.

    It may be less, so the clock is to be looked at again after the wait.
    """
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000 + 1, LONGEST_POLL)


# The process


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
        """The streams and the environment of this process."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    @classmethod
    def apart_from_prints(cls) -> Context:
        """Those of this process, stdout for results alone: what else is written there goes to stderr.

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
        """The console that results are printed on."""
        return self._console(self.out)

    @cached_property
    def error_console(self) -> Console:
        """The console of everything else: warnings, progress, errors."""
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
        if path is None or self.stdout is None:
            return path
        from jvpcli.system.files import STDOUT  # most answers go to no file

        return f"/dev/fd/{self.stdout.fileno()}" if path in STDOUT else path

    def write(self, document: bytes) -> None:
        """A line of UTF-8 to stdout: a JSON document.

        Raises:
            ReaderGone, OutputFailed: it cannot be written.
        """
        self.out.write_bytes(document)
        self.out.write_bytes(b"\n")

    def flush(self) -> None:
        """Sends out everything that was written to both streams.

        Raises:
            ReaderGone, OutputFailed: it cannot be written.
        """
        self.err.flush()
        self.out.flush()

    def _console(self, output: Output) -> Console:
        from jvpcli.render.terminal import Terminal

        return Terminal(
            file=output,
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
