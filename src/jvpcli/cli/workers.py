"""Processes that answer lines: one that hangs or dies costs its line and nothing else.

The parent has loaded torch and never computes, so that a new worker is a fork away.  Two pipes lead to each worker: a
line goes in with its length before it, an answer comes out in the same way.  A third pipe, which nobody writes to,
tells the workers that the parent is gone.
"""

from __future__ import annotations

import gc
import os
import signal
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from jvpcli.cli.answers import Answer, answer
from jvpcli.cli.attendant import flush_c_streams, leave_with_parent, leave_with_parent_at_once

AHEAD = 4
"""Lines that wait at a worker, so that it never waits for the parent."""

PIECE = 1 << 16
"""Bytes that are read at a time."""

HEADER = struct.Struct("<?Q")
"""Before an answer: whether the line failed, and the document's length."""

LENGTH = struct.Struct("<Q")
"""Before a line: its length."""


@dataclass(frozen=True)
class Settings:
    """What holds for every line: the longest time in seconds, the most memory in bytes, torch's threads in a worker."""

    timeout: float | None
    memory: int | None
    threads: int


@dataclass(frozen=True)
class Line:
    """A line of the input, by its number from 0 on, and the time that it may take."""

    number: int
    text: bytes
    timeout: float | None


@dataclass(eq=False)
class Worker:
    """A process, its two pipes, the lines that it has been given and the bytes on the way."""

    pid: int
    requests: int
    answers: int
    lines: deque[Line] = field(default_factory=deque)
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)
    since: float = 0.0

    def give(self, line: Line) -> None:
        """Puts a line on the way."""
        if not self.lines:
            self.since = time.monotonic()
        self.lines.append(line)
        self.outgoing += LENGTH.pack(len(line.text)) + line.text

    def send(self) -> None:
        """As much of what is on the way as the pipe takes; a worker that is gone is noticed where it is read."""
        try:
            sent = os.write(self.requests, memoryview(self.outgoing)[:PIECE])
        except BlockingIOError:
            return
        except BrokenPipeError:
            sent = len(self.outgoing)
        del self.outgoing[:sent]

    def receive(self) -> tuple[list[tuple[Line, Answer]], bool]:
        """The answers that have come in, and whether the worker is still there."""
        piece = os.read(self.answers, PIECE)
        self.incoming += piece
        found = []
        while len(self.incoming) >= HEADER.size:
            failed, length = HEADER.unpack_from(self.incoming)
            end = HEADER.size + length
            if len(self.incoming) < end:
                break
            found.append((self.lines.popleft(), Answer(bytes(self.incoming[HEADER.size : end]), failed)))
            del self.incoming[:end]
            self.since = time.monotonic()
        return found, bool(piece)

    @property
    def deadline(self) -> float | None:
        """When its first line has taken too long; an answer that is already coming in is in time."""
        if not self.lines or self.incoming or self.lines[0].timeout is None:
            return None
        return self.since + self.lines[0].timeout

    def end(self) -> int:
        """Ends the process, whatever it is doing; its status."""
        os.close(self.requests)
        os.close(self.answers)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]


class Crew:
    """The workers, each started when it is first needed."""

    def __init__(self, jobs: int, settings: Settings) -> None:
        self.jobs = jobs
        self.settings = settings
        self.workers: list[Worker] = []
        self.life = os.pipe()
        gc.collect()
        gc.freeze()  # what is loaded by now is not looked at again, here or in a worker

    def free_worker(self) -> Worker | None:
        """A worker that can take a line: an idle one, a new one, or the one with the fewest lines."""
        fewest = min(self.workers, key=lambda worker: len(worker.lines), default=None)
        if fewest is not None and not fewest.lines:
            return fewest
        if len(self.workers) < self.jobs:
            self.workers.append(self.start())
            return self.workers[-1]
        return fewest if fewest is not None and len(fewest.lines) < AHEAD else None

    def start(self) -> Worker:
        """A new process."""
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            theirs = [fd for worker in self.workers for fd in (worker.requests, worker.answers)]
            for fd in (request_write, answer_read, self.life[1], *theirs):
                os.close(fd)
            _work(request_read, answer_write, self.life[0], self.settings)
        os.close(request_read)
        os.close(answer_write)
        os.set_blocking(request_write, False)
        return Worker(pid, request_write, answer_read)

    def replace(self, worker: Worker) -> tuple[int, list[Line]]:
        """Ends a worker; its status, and the lines that it had not answered."""
        self.workers.remove(worker)
        return worker.end(), list(worker.lines)

    def close(self) -> None:
        """Ends every worker."""
        for worker in self.workers:
            worker.end()
        self.workers.clear()


def _work(requests: int, answers: int, life: int, settings: Settings) -> None:
    """The process of a worker, from its beginning to its end."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its workers
        gc.set_threshold(20_000, 10, 10)  # a line makes a few thousand objects, and few of them in cycles
        gc.enable()
        leave_with_parent(life)
        leave_with_parent_at_once()
        _start_threads(settings.threads)
        with os.fdopen(requests, "rb") as stream:
            _answer_all(stream.read, answers, settings.memory)
        flush_c_streams()
    finally:
        os._exit(0)


def _answer_all(read: Callable[[int], bytes], answers: int, memory: int | None) -> None:
    while header := read(LENGTH.size):
        found = answer(read(*LENGTH.unpack(header)), memory)
        pieces = memoryview(HEADER.pack(found.failed, len(found.document)) + found.document)
        while pieces:
            pieces = pieces[os.write(answers, pieces) :]


def _start_threads(count: int) -> None:
    """Torch's threads, all started now: their stacks are not a request's memory."""
    import torch

    torch.set_num_threads(count)
    if count > 1:
        torch.zeros(1 << 18).exp_()
