"""The operating system's limits, and what ends a run from outside: the clock and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

try:
    import resource
except ImportError:  # not on this system: sizes that can be known are still refused beforehand
    resource = None  # type: ignore[assignment]


INTERPRETER = 16 * 2**20
"""Bytes that Python itself may take while it computes: modules that are loaded on the way, messages, garbage."""

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Lets the process take `size` bytes more than it has now; beyond, allocations fail.  Inside another, the narrower holds."""
    used = data_size()
    if resource is None or used is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in before if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + size + INTERPRETER, *bounds]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def data_size() -> int | None:
    """Bytes of private writable memory that the process has mapped, its stack with it; None where that cannot be known."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # a tenth of the time that `status` takes
            return int(statm.read().split()[5]) * PAGE
    except OSError:
        return None


@contextmanager
def time_limit(seconds: float | None, end: Callable[[], None]) -> Iterator[None]:
    """After `seconds`, calls `end` in a thread of its own.

    A thread does that and not a signal: torch may be deep in a long call that looks at no signal.
    """
    if seconds is None:
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        if not finished.wait(min(seconds, threading.TIMEOUT_MAX)):
            end()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def on_interrupt(end: Callable[[], None]) -> None:
    """From now on Ctrl-C calls `end` in a thread of its own, at once, whatever the main thread is doing.

    Python's own handler would wait for torch to come back from a long call, and could hit an import halfway.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # whoever started us wants it ignored, as `nohup` and a shell's `&` do
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _leave_it_to_the_thread)

    def watch() -> None:
        os.read(reader, 1)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Python writes the signal to the wakeup descriptor before it gets here."""
