"""The small process that waits for the one that computes: a timeout, Ctrl-C and even a crash are answers.

The process that computes is a fork, made before torch is loaded.  Nothing that happens in it, a call that holds the
interpreter's lock or a crash inside torch, keeps the one that waits from telling how the run ended.  A pipe leads from
the one to the other; through it comes a line for each thing that the waiting one must know.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from jvpcli.cli.context import Context, Watch, patience
from jvpcli.cli.output import emit_error, panel
from jvpcli.errors import InternalError, InterruptedByUser, JvpError, LimitError, too_late
from jvpcli.system.pipes import PIECE, pipes
from jvpcli.system.processes import (
    CHILD_ENDED,
    Process,
    fork,
    hear,
    interrupts_are_heard,
    leave_with_parent,
    leave_with_parent_at_once,
    signal_of,
)

BEGUN, ANSWERED, DONE = b"begun", b"answered", b"done"
"""What the computing process tells: its expression and timeout; that only writing is left; that it ends as it should."""


LONGEST = 400
"""Characters of an expression that an error of a crash shows."""


def attended(work: Callable[[Context], int], context: Context, as_json: bool) -> int:
    """Runs `work` in a process of its own; the exit code, of the work or of what ended it."""
    signals = hear(CHILD_ENDED, *([signal.SIGINT] if interrupts_are_heard() else []))
    reader, writer = os.pipe()
    life = os.pipe()

    def computing() -> int:
        os.close(reader)
        os.close(life[1])
        leave_with_parent(life[0])
        line = _Line(writer)
        code = work(replace(context, watch=line))
        line.done()
        return code

    process = fork(computing)
    os.close(writer)
    os.close(life[0])
    os.set_blocking(reader, False)
    run = _Run(process, reader)
    ended = _wait(run, signals)
    if ended is None:
        return run.code
    _take_progress_away(context)
    if not run.state.answered:
        return emit_error(context, ended, as_json)
    return int(ended.exit_code) if isinstance(ended, InterruptedByUser) else panel(context, ended)


def why_ended(code: int, expression: str = "", work: str = "computed it") -> JvpError:
    """What is told of a process that did not end as it should, from its exit code, and its expression or its `work`."""
    name = signal_of(code)
    work = f"computed `{_shortened(expression)}`" if expression else work
    if name == "SIGKILL":
        return LimitError(
            f"the process that {work} was killed from outside (SIGKILL): most likely the machine ran out of memory",
            hints=("make the inputs smaller, or lower --memory-limit or --jobs",),
        )
    how = f"was ended by {name}" if name else "ended by itself"
    return InternalError(
        f"the process that {work} {how}",
        explanation="This is a bug in jvp or in torch." + (" --debug shows where it happened." if expression else ""),
    )


@dataclass(frozen=True)
class _State:
    """How far the computing process is, by what it has told."""

    expression: str = ""
    timeout: float | None = None
    answered: bool = False
    done: bool = False


class _Line(Watch):
    """The computing process's side of the pipe."""

    def __init__(self, writer: int) -> None:
        super().__init__()
        self._writer = writer

    def begin(self, expression: str, seconds: float | None, end: Callable[[], None]) -> None:
        """From here on the clock of the waiting process runs."""
        self._tell(BEGUN, b"" if seconds is None else str(seconds).encode(), expression.encode("unicode_escape"))
        leave_with_parent_at_once()

    def answer(self) -> None:
        """Tells that the outcome is there, and only writing is left."""
        self._tell(ANSWERED)

    def done(self) -> None:
        """The process ends with a code of its own."""
        self._tell(DONE)

    def _tell(self, *words: bytes) -> None:
        rest = b"\t".join(words) + b"\n"
        while rest:
            rest = rest[os.write(self._writer, rest) :]


class _Run:
    """The waiting process's side: what it has been told, and when that is too late."""

    def __init__(self, process: Process, reader: int) -> None:
        self.process = process
        self.reader = reader
        self.reading = True
        self.state = _State()
        self.code = 0
        self.deadline: float | None = None
        self._rest = b""

    def listen(self) -> None:
        """Reads what there is in the pipe; once its other end is closed, the process is ending."""
        with suppress(BlockingIOError):
            while piece := os.read(self.reader, PIECE):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._hear(line)
            self.reading = False

    def _hear(self, line: bytes) -> None:
        word, *rest = line.split(b"\t")
        if word == BEGUN and len(rest) == 2:
            seconds = float(rest[0]) if rest[0] else None
            self.state = replace(self.state, timeout=seconds, expression=rest[1].decode("unicode_escape"))
            self.deadline = None if seconds is None else time.monotonic() + seconds
        elif word == ANSWERED:
            self.state = replace(self.state, answered=True)
            self.deadline = None
        elif word == DONE:
            self.state = replace(self.state, done=True)

    def ended(self) -> bool:
        """Whether the process is gone; then `code` is set, and `state` complete."""
        code = self.process.ended()
        self.listen()
        self.code = code or 0
        return code is not None

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.code = self.process.end()
        self.listen()


def _wait(run: _Run, signals: int) -> JvpError | None:
    """Waits for the process to end, or ends it; None if it ended as it should."""
    ends = pipes()
    while True:
        ready = ends.wait([signals, run.reader] if run.reading else [signals], (), patience(run.deadline))
        if run.reader in ready:
            run.listen()
        heard = ends.read(signals) if signals in ready else b""
        if signal.SIGINT in heard:
            run.end()
            return InterruptedByUser("interrupted")
        if run.ended():
            return None if run.state.done else why_ended(run.code, run.state.expression)
        if run.deadline is not None and run.deadline <= time.monotonic():
            run.end()
            return None if run.state.done else too_late(run.state.timeout or 0)


def _take_progress_away(context: Context) -> None:
    """The line that showed how far a computation was, which that process can take away no more."""
    if context.err.isatty():
        from rich.control import Control
        from rich.segment import ControlType

        erase = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), ControlType.SHOW_CURSOR)
        context.error_console.control(erase)


def _shortened(expression: str) -> str:
    return expression if len(expression) <= LONGEST else f"{expression[:LONGEST]}…"
