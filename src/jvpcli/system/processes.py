"""Processes that this one starts, and the signals that it hears.

A process is a fork of this one where the system has that, and otherwise a Python started anew, which loads all it needs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from subprocess import Popen

CAN_FORK = hasattr(os, "fork")

CHILD_ENDED: int = getattr(signal, "SIGCHLD", 0)
"""The signal that tells of a fork's end; 0 where there is none."""


class Process(Protocol):
    """A process that this one has started. An exit code below 0 is the number of the signal that ended it, negative."""

    def ended(self) -> int | None:
        """Its exit code; None while it runs. Not to be asked again once it has been told."""

    def end(self) -> int:
        """Ends it, whatever it is doing; its exit code."""

    def tell(self, number: int) -> None:
        """Sends it a signal."""


def fork(main: Callable[[], int]) -> Process:
    """Starts a copy of this process, which runs `main` and leaves at once with the code that it returns, or with 1.

    Ctrl-C reaches the copy as well as this process, and is passed over there if it is heard here.
    """
    pid = os.fork()
    if pid:
        return _Fork(pid)
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(CHILD_ENDED, signal.SIG_DFL)
        code = main()
        flush_c_streams()
    finally:
        os._exit(code)


class _Fork:
    def __init__(self, pid: int) -> None:
        self._pid = pid

    def ended(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def end(self) -> int:
        self.tell(signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def tell(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)


def spawn(main: Callable[..., None], arguments: tuple[int | None, ...], stdin: int, stdout: int) -> Process:
    """Starts a Python that imports what this one would, and calls a module's function, with these two streams."""
    import subprocess

    code = f"import sys; sys.path[:] = {sys.path!r}; from {main.__module__} import {main.__name__} as main; main(*{arguments!r})"
    return _Spawned(subprocess.Popen([sys.executable, "-c", code], stdin=stdin, stdout=stdout))


class _Spawned:
    def __init__(self, process: Popen[bytes]) -> None:
        self._process = process

    def ended(self) -> int | None:
        return self._process.poll()

    def end(self) -> int:
        self._process.kill()
        return self._process.wait()

    def tell(self, number: int) -> None:
        self._process.send_signal(number)


def stand_alone() -> None:
    """This process is on its own from now on: what its parent's terminal sends does not reach it, and it ends when told to.

    Ctrl-C is as it was: to ignore it would lose one that waits to be heard.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits meanwhile; in a fork that is made here, until it is heard there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def hear_interrupts(heard: bool) -> None:
    """Whether Ctrl-C ends this process from now on."""
    signal.signal(signal.SIGINT, signal.default_int_handler if heard else signal.SIG_IGN)


def signal_of(code: int) -> str | None:
    """The name of the signal that ended a process, from its exit code; None if it ended by itself."""
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


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
    ctypes: Any = sys.modules.get("ctypes")  # without it no code ran that could have printed
    if ctypes is not None and os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def interrupts_are_heard() -> bool:
    """Whether Ctrl-C is to end this process: `nohup` and a shell's `&` start it with that signal ignored."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def hear(*numbers: int) -> int:
    """A descriptor from which a byte can be read, the signal's number, for each of these signals that comes in."""
    reader, writer = os.pipe()
    if hasattr(os, "set_blocking"):  # asked for by Python except on Windows
        os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, pass_over)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    return reader


def pass_over(number: int, frame: FrameType | None) -> None:
    """A handler that leaves a signal to others: Python writes it to the wakeup descriptor before it gets here."""
