"""The small process that waits for the one that computes: a timeout, Ctrl-C and even a crash are answers.

The process that computes is a fork, made before torch is loaded.  Nothing that happens in it, a call that holds the
interpreter's lock or a crash inside torch, keeps the one that waits from telling how the run ended.  A pipe leads from
the one to the other; through it comes a line for each thing that the waiting one must know.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from jvpcli.cli.context import Context, Watch, hear, interrupts_are_heard, patience
from jvpcli.cli.output import emit_error, panel
from jvpcli.errors import InternalError, InterruptedByUser, JvpError, LimitError, too_late

BEGUN, ANSWERED, DONE = b"begun", b"answered", b"done"
"""What the computing process tells: its expression and timeout; that only writing is left; that it ends as it should."""


LONGEST = 400
"""Characters of an expression that an error of a crash shows."""


def attended(work: Callable[[Context], int], context: Context, as_json: bool) -> int:
    """Runs `work` in a process of its own; the exit code, of the work or of what ended it."""
    signals = hear(signal.SIGCHLD, *([signal.SIGINT] if interrupts_are_heard() else []))
    reader, writer = os.pipe()
    life = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.close(life[1])
        _compute(work, context, writer, life[0])
    os.close(writer)
    os.close(life[0])
    os.set_blocking(reader, False)
    run = _Run(pid, reader)
    ended = _wait(run, signals)
    if ended is None:
        return run.code
    _take_progress_away(context)
    if not run.state.answered:
        return emit_error(context, ended, as_json)
    return int(ended.exit_code) if isinstance(ended, InterruptedByUser) else panel(context, ended)


def why_ended(status: int, expression: str = "") -> JvpError:
    """What is told of a process that did not end as it should, from its status as the system gives it."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    of = f" `{_shortened(expression)}`" if expression else " it"
    if number == signal.SIGKILL:
        return LimitError(
            f"the process that computed{of} was killed from outside (SIGKILL): most likely the machine ran out of memory",
            hints=("make the inputs smaller, or lower --memory-limit or --jobs",),
        )
    how = f"was ended by {_signal_name(number)}" if number else "ended by itself"
    return InternalError(
        f"the process that computed{of} {how}",
        explanation="This is a bug in jvp or in torch." + (" --debug shows where it happened." if expression else ""),
    )


def leave_with_parent(life: int) -> None:
    """From now on this process ends when its parent, which alone holds the other end of the pipe `life`, is gone."""

    def watch() -> None:
        os.read(life, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def leave_with_parent_at_once() -> None:
    """This process ends with its parent at once, where the system can see to it: even under the interpreter's lock.

    For a process that has called `leave_with_parent`, and loads torch: this loads `ctypes`, as torch does.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def flush_c_streams() -> None:
    """What C code has printed gets out, before the process leaves at once."""
    ctypes = sys.modules.get("ctypes")  # without it no code ran that could have printed
    if ctypes is not None and os.name == "posix":
        ctypes.CDLL(None).fflush(None)


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


def _compute(work: Callable[[Context], int], context: Context, writer: int, life: int) -> None:
    """The process that computes, from its beginning to its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)  # Ctrl-C reaches the whole group, and is passed over here: the one that waits ends us
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        leave_with_parent(life)
        line = _Line(writer)
        code = work(replace(context, watch=line))
        line.done()
        flush_c_streams()
    finally:
        os._exit(code)


class _Run:
    """The waiting process's side: what it has been told, and when that is too late."""

    def __init__(self, pid: int, reader: int) -> None:
        self.pid = pid
        self.reader = reader
        self.state = _State()
        self.status = 0
        self.deadline: float | None = None
        self._rest = b""

    def listen(self) -> None:
        """Reads what there is in the pipe."""
        with suppress(BlockingIOError):
            while piece := os.read(self.reader, 1 << 16):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._hear(line)

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

    @property
    def code(self) -> int:
        """The exit code of a process that ended by itself."""
        return os.waitstatus_to_exitcode(self.status)

    def ended(self, options: int = os.WNOHANG) -> bool:
        """Whether the process is gone; then `status` is set, and `state` complete."""
        pid, self.status = os.waitpid(self.pid, options)
        self.listen()
        return bool(pid)

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended(0)


def _wait(run: _Run, signals: int) -> JvpError | None:
    """Waits for the process to end, or ends it; None if it ended as it should."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(run.reader, select.POLLIN)
    while True:
        ready = dict(poll.poll(patience(run.deadline)))
        if run.reader in ready:
            run.listen()
            if not ready[run.reader] & select.POLLIN:
                poll.unregister(run.reader)  # its other end is closed: the process is ending
        heard = os.read(signals, 64) if signals in ready else b""
        if signal.SIGINT in heard:
            run.end()
            return InterruptedByUser("interrupted")
        if run.ended():
            return None if run.state.done else why_ended(run.status, run.state.expression)
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


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
