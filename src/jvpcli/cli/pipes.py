"""Pipes between processes: long lines whole or not at all, and how long to wait for one."""

from __future__ import annotations

import os
import select
import stat
import struct
import time

LONGEST_WAIT = 20.0
"""Milliseconds between two looks at a pipe that its reader has not emptied."""


LONGEST_POLL = 3_600_000.0
"""Milliseconds that are waited at once; the system takes no more than 2³¹."""


def patience(deadline: float | None) -> float | None:
    """Milliseconds that a `poll` may wait where something is late at `deadline` (of the monotonic clock); None: for ever.

    It may be less: whoever waits looks at the clock again.
    """
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000 + 1, LONGEST_POLL)


def wait_for_room(descriptor: int, size: int) -> None:
    """Before a long line into a pipe, waits until its reader has emptied it.

    Up to PIPE_BUF bytes (4096) the system writes whole or not at all.  A longer write into a pipe that is nearly full
    stops halfway until the reader goes on, and if the writer is killed meanwhile the half stays.  An empty pipe takes
    as much as it holds at once: 64 KiB, and up to 1 MiB if it is asked to.  Beyond that, and where the system cannot
    tell, nothing is waited for.
    """
    if size <= select.PIPE_BUF or not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or not _holds(descriptor, size):
        return
    hangup = select.poll()
    hangup.register(descriptor, 0)  # a reader who leaves is told whatever is asked for
    wait = 0.5
    while _unread(descriptor) and not hangup.poll(wait):
        wait = min(2 * wait, LONGEST_WAIT)


def _holds(descriptor: int, size: int) -> bool:
    """Whether the pipe, made larger if need be, holds so many bytes; False where that cannot be known."""
    try:
        from fcntl import F_GETPIPE_SZ, F_SETPIPE_SZ, fcntl

        return fcntl(descriptor, F_GETPIPE_SZ) >= size or fcntl(descriptor, F_SETPIPE_SZ, size) >= size
    except (ImportError, OSError):  # not Linux, or more than the system lets a pipe have
        return False


def _unread(descriptor: int) -> int:
    """Bytes in the pipe."""
    from fcntl import ioctl
    from termios import FIONREAD

    (count,) = struct.unpack("i", ioctl(descriptor, FIONREAD, b"\0" * 4))
    return int(count)
