"""The operating system's limits: what is not refused beforehand ends here, with an error and not with the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    import resource
except ImportError:  # not on this system: sizes that can be known are still refused beforehand
    resource = None  # type: ignore[assignment]


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Lets the process take `size` bytes more than it has now; beyond, allocations fail."""
    used = data_size()
    if resource is None or used is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    hard = before[1]
    wanted = used + size if hard == resource.RLIM_INFINITY else min(used + size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def data_size() -> int | None:
    """Bytes of private writable memory that the process has mapped, or None where that cannot be known."""
    try:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


@contextmanager
def time_limit(seconds: float | None, on_timeout: Callable[[], int]) -> Iterator[None]:
    """After `seconds`, `on_timeout` tells the user and the process leaves with its exit code.

    A thread does that and not a signal: torch may be deep in a long call that looks at no signal.
    """
    if seconds is None:
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        if not finished.wait(seconds):
            os._exit(on_timeout())

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        finished.set()
