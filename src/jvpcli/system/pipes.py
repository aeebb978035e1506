"""Ends of pipes that are waited for together, and a pipe's room for what is to be written whole."""

from __future__ import annotations

import os
import select
import stat
import struct
import threading
from collections.abc import Collection, Sequence
from typing import Protocol

PIECE = 1 << 16
"""Bytes that are read at a time."""

LONGEST_WAIT = 20.0
"""Milliseconds between two looks at a pipe that its reader has not emptied."""


class Pipes(Protocol):
    """Ends of pipes, by their descriptors: those to write to have been given to `unblock`."""

    def unblock(self, descriptor: int) -> None:
        """Makes ready an end that will be written to: `write` never waits."""

    def wait(self, reading: Collection[int], writing: Collection[int], milliseconds: float | None) -> list[int]:
        """Those that can be read (the other end may be closed) or written to, as soon as there are any; [] after the time."""

    def read(self, descriptor: int) -> bytes:
        """What there is, b"" at the end; of an end that `wait` has told of."""

    def write(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        """Takes as much as there is room for; how many bytes.

        Raises:
            BrokenPipeError: nobody reads any more.
        """

    def close(self, descriptor: int) -> None:
        """Closes an end; of one that `wait` has been asked for, the other end must be closed by now, or be about to."""


def pipes() -> Pipes:
    """By the system's `poll`, or by threads where it has none."""
    return _Polled() if hasattr(select, "poll") else _Threaded()


class _Polled:
    """Pipes of which the system tells that they are ready."""

    def unblock(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)

    def wait(self, reading: Collection[int], writing: Collection[int], milliseconds: float | None) -> list[int]:
        poll = select.poll()
        for descriptor in reading:
            poll.register(descriptor, select.POLLIN)
        for descriptor in writing:
            poll.register(descriptor, select.POLLOUT)
        return [descriptor for descriptor, _ in poll.poll(milliseconds)]

    def read(self, descriptor: int) -> bytes:
        return os.read(descriptor, PIECE)

    def write(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        try:
            return os.writev(descriptor, parts)
        except BlockingIOError:
            return 0

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


class _Threaded:
    """Pipes of which a thread each reads, or writes, one piece ahead."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[int, _End] = {}

    def unblock(self, descriptor: int) -> None:
        """Nothing: a thread waits in its stead."""

    def wait(self, reading: Collection[int], writing: Collection[int], milliseconds: float | None) -> list[int]:
        ends = {descriptor: self._end(descriptor, _Reader) for descriptor in reading}
        ends |= {descriptor: self._end(descriptor, _Writer) for descriptor in writing}
        with self._changed:
            self._changed.wait_for(
                lambda: any(end.ready for end in ends.values()), None if milliseconds is None else milliseconds / 1000
            )
            return [descriptor for descriptor, end in ends.items() if end.ready]

    def read(self, descriptor: int) -> bytes:
        end = self._end(descriptor, _Reader)
        with self._changed:
            piece = bytes(end.piece or b"")
            end.piece = None if piece else b""
            self._changed.notify_all()
        if end.failure:
            raise end.failure
        return piece

    def write(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        end = self._end(descriptor, _Writer)
        with self._changed:
            if end.failure:
                raise BrokenPipeError(end.failure.errno, end.failure.strerror)
            if end.piece is not None:
                return 0
            end.piece = parts[0]
            self._changed.notify_all()
        return len(parts[0])

    def close(self, descriptor: int) -> None:
        end = self._ends.pop(descriptor, None)
        if end is None:
            os.close(descriptor)
            return
        with self._changed:  # the thread closes it: while it reads or writes, nothing else may get that number
            end.closed = True
            self._changed.notify_all()

    def _end(self, descriptor: int, kind: type[_End]) -> _End:
        if descriptor not in self._ends:
            self._ends[descriptor] = kind(descriptor, self._changed)
        return self._ends[descriptor]


class _End:
    """An end of a pipe, its thread, and the piece that has been read or is to be written."""

    def __init__(self, descriptor: int, changed: threading.Condition) -> None:
        self.descriptor = descriptor
        self.changed = changed
        self.piece: bytes | memoryview | None = None
        self.failure: OSError | None = None
        self.closed = False
        threading.Thread(target=self._live, daemon=True).start()

    @property
    def ready(self) -> bool:
        raise NotImplementedError

    def _work(self) -> None:
        raise NotImplementedError

    def _live(self) -> None:
        try:
            self._work()
        except OSError as error:
            with self.changed:
                self.failure = error
                self.changed.notify_all()
        with self.changed:
            self.changed.wait_for(lambda: self.closed)
        os.close(self.descriptor)


class _Reader(_End):
    @property
    def ready(self) -> bool:
        return self.piece is not None or self.failure is not None

    def _work(self) -> None:
        while self.piece != b"" and not self.closed:
            piece = os.read(self.descriptor, PIECE)
            with self.changed:
                self.piece = piece
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.closed or not self.piece)


class _Writer(_End):
    @property
    def ready(self) -> bool:
        return self.piece is None or self.failure is not None

    def _work(self) -> None:
        while not self.closed:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.piece is not None)
            rest = self.piece or b""
            while rest and not self.closed:
                rest = rest[os.write(self.descriptor, rest) :]
            with self.changed:
                self.piece = None
                self.changed.notify_all()


def wait_for_room(descriptor: int, size: int) -> None:
    """Before a long line into a pipe, waits until its reader has emptied it.

    Up to PIPE_BUF bytes (4096) the system writes whole or not at all.  A longer write into a pipe that is nearly full
    stops halfway until the reader goes on, and if the writer is killed meanwhile the half stays.  An empty pipe takes
    as much as it holds at once: 64 KiB, and up to 1 MiB if it is asked to.  Beyond that, and where the system cannot
    tell, nothing is waited for.
    """
    whole = getattr(select, "PIPE_BUF", size)
    if size <= whole or not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or not _holds(descriptor, size):
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
