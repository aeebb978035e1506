"""Processes that answer lines: one that hangs or dies costs its line and nothing else.

The parent has loaded torch and never computes, so that a new worker is a fork away (where the system has no fork, a
Python started anew).  Two pipes lead to each worker: a line goes in with its length before it, its document comes out in
parts, each with its length before it.  A third pipe, which nobody writes to, tells the forks that the parent is gone.

The parent reads no line: a worker tells it what time the line may take, and where a line has taken its worker down, the
next one is asked for the line's id.  What the parent holds is bounded, however long lines and answers are.
"""

from __future__ import annotations

import gc
import os
import signal
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO

from jvpcli.cli.answers import (
    DONE,
    HEADER,
    INSTEAD,
    PART,
    SECONDS,
    TIMEOUT,
    Answer,
    Soon,
    answer,
    answer_of_failed,
    answers_together,
)
from jvpcli.cli.compute import start_threads
from jvpcli.errors import FileError, JvpError
from jvpcli.system.pipes import PIECE, Pipes
from jvpcli.system.processes import (
    CAN_FORK,
    Process,
    flush_c_streams,
    fork,
    leave_with_parent,
    leave_with_parent_at_once,
    spawn,
)

AHEAD = 4
"""Lines that wait at a worker, so that it never waits for the parent: and two more for each that it last answered together."""

TOGETHER = 16
"""Lines that a worker answers together at most."""

AHEAD_BYTES = 1 << 20
"""Bytes of lines that wait at a worker: a long line waits for an idle one."""

IN_MEMORY = 1 << 20
"""Bytes of an answer that the parent holds in memory; a longer one is kept in a file without a name."""

READY, BESIDE = 5, 6
"""Parts of no answer that a worker tells beside what `cli/answers.py` has: one that was started anew is there; so many lines,
as COUNT has them, are answered together from now on."""

COUNT = struct.Struct("<B")
"""A BESIDE's content."""

LENGTHS = struct.Struct("<QQ?")
"""Before a line: its length, that of the document that tells how it failed, if it did, and whether it is answered alone."""


@dataclass(frozen=True)
class Settings:
    """What holds for every line: the longest time in seconds, the most memory in bytes, torch's threads in a worker, and whether
    a program that the language does not read may be run by Python itself.
    """

    timeout: float | None
    memory: int | None
    threads: int
    may_run: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the input, by its number from 0 on, and the time that it may take.

    `verdict` is the document of how it failed, for a worker to add the id.  `alone`: a worker that answered it beside others is
    gone, and it may have been because of any of them.
    """

    number: int
    text: bytes | bytearray
    timeout: float | None
    verdict: bytes = b""
    alone: bool = False


class Kept:
    """What has come of an answer: in memory, and beyond some length in a file without a name."""

    def __init__(self) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._lost: str | None = None

    def add(self, content: bytes | bytearray) -> None:
        """Adds a piece of the answer, as it comes in."""
        self.size += len(content)
        if self._lost:
            return
        self._memory += content
        if self.size > IN_MEMORY:
            with self._failures():
                self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115  (closed by whoever writes it out)
                self._file.write(self._memory)
            self._memory.clear()

    def all(self) -> bytes:
        """The answer so far, where it is short enough to be in memory."""
        return bytes(self._memory)

    def answer(self, *, failed: bool) -> Answer | JvpError:
        """The whole answer; an error where there was no room to keep it."""
        if self._file is not None:
            with self._failures():
                self._file.seek(0)
        if self._lost:
            return FileError(
                f"the answer of {self.size:,} bytes cannot be kept in {tempfile.gettempdir()} until it is its turn: "
                f"{self._lost}",
                hints=("name a folder with more room, as in TMPDIR=/var/tmp jvp batch",),
            )
        return Answer(self._file or self.all(), failed, self.size)

    def close(self) -> None:
        """Closes the file, if there is one: the answer is not needed."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lost = error.strerror or str(error)
            self.close()


@dataclass(eq=False)
class Worker:
    """A process, its two pipes, the lines that it has been given and the bytes on the way.

    Its clock runs once it is `ready`: a process that was started anew has torch to load.

    `kind` and `left` are of the part that is coming in, and how many bytes of it are still to come; `kept` is what has
    come of an answer.  `beside` of the first lines are being answered together; `together` were so last, none of them
    once one has been answered alone.  `waiting` are the bytes of the lines.
    """

    process: Process
    pipes: Pipes
    requests: int
    answers: int
    ready: bool
    lines: deque[Line] = field(default_factory=deque)
    outgoing: deque[memoryview] = field(default_factory=deque)
    incoming: bytearray = field(default_factory=bytearray)
    kind: int | None = None
    left: int = 0
    kept: Kept = field(default_factory=Kept)
    since: float = 0.0
    beside: int = 0
    together: int = 0
    waiting: int = 0

    def give(self, line: Line) -> None:
        """Queues a line for the process; `send` sends what waits as far as the pipe has room."""
        if not self.lines:
            self.since = time.monotonic()
        self.lines.append(line)
        self.waiting += len(line.text)
        header = LENGTHS.pack(len(line.text), len(line.verdict), line.alone)
        if len(line.text) <= PIECE:
            self.outgoing.append(memoryview(header + line.text + line.verdict))
        else:
            self.outgoing += (memoryview(header), memoryview(line.text), memoryview(line.verdict))

    def takes(self, size: int) -> bool:
        """Whether a line of so many bytes may wait here."""
        return not self.lines or (len(self.lines) < AHEAD + 2 * self.together and self.waiting + size <= AHEAD_BYTES)

    def send(self) -> None:
        """As much of what is on the way as the pipe takes; a worker that is gone is noticed where it is read."""
        try:
            sent = self.pipes.write(self.requests, [*islice(self.outgoing, 16)])
        except BrokenPipeError:
            self.outgoing.clear()
            return
        while self.outgoing and sent >= len(self.outgoing[0]):
            sent -= len(self.outgoing.popleft())
        if sent:
            self.outgoing[0] = self.outgoing[0][sent:]

    def receive(self) -> tuple[list[tuple[Line, Answer | JvpError]], bool]:
        """The answers that have come in, or why one is lost, and whether the worker is still there."""
        piece = self.pipes.read(self.answers)
        self.incoming += piece
        found: list[tuple[Line, Answer | JvpError]] = []
        while self._in_a_part():
            content = self.incoming[: self.left]
            del self.incoming[: self.left]
            self.left -= len(content)
            self.kept.add(content)
            if not self.left:
                found += self._end_of_part()
        return found, bool(piece)

    def _in_a_part(self) -> bool:
        """Whether there is something of a part, its header read."""
        if self.kind is None and len(self.incoming) >= HEADER.size:
            self.kind, self.left = HEADER.unpack_from(self.incoming)
            del self.incoming[: HEADER.size]
            if self.kind == INSTEAD:
                self.kept.close()
                self.kept = Kept()
        return self.kind is not None and (bool(self.incoming) or not self.left)

    def _end_of_part(self) -> list[tuple[Line, Answer | JvpError]]:
        """The answer that the part ends, if it does."""
        kind, self.kind = self.kind, None
        if kind == PART:
            return []
        kept, self.kept = self.kept, Kept()
        if kind == READY:
            self.ready = True
            self.since = time.monotonic()
            return []
        if kind == TIMEOUT:
            (seconds,) = SECONDS.unpack(kept.all())
            line = self.lines[0]
            self.lines[0] = replace(line, timeout=min(seconds, line.timeout or seconds))
            return []
        if kind == BESIDE:
            (self.beside,) = COUNT.unpack(kept.all())
            self.together = self.beside
            return []
        self.since = time.monotonic()
        if self.beside:
            self.beside -= 1
        else:
            self.together = 0
        line = self.lines.popleft()
        self.waiting -= len(line.text)
        return [(line, kept.answer(failed=kind != DONE))]

    @property
    def deadline(self) -> float | None:
        """When its first line has taken too long; an answer that is already coming in is in time."""
        coming = self.incoming or self.kind is not None or self.kept.size
        if coming or not self.ready or not self.lines or self.lines[0].timeout is None:
            return None
        return self.since + self.lines[0].timeout

    def end(self) -> int:
        """Ends the process, whatever it is doing; its exit code."""
        self.pipes.close(self.requests)
        self.pipes.close(self.answers)
        self.kept.close()
        return self.process.end()


class Crew:
    """The workers, each started when it is first needed."""

    def __init__(self, pipes: Pipes, jobs: int, settings: Settings) -> None:
        self.pipes = pipes
        self.jobs = jobs
        self.settings = settings
        self.workers: list[Worker] = []
        self.life = os.pipe()
        gc.collect()
        gc.freeze()  # what is loaded by now is not looked at again, here or in a worker

    def free_worker(self, size: int) -> Worker | None:
        """A worker that can take a line of so many bytes: an idle one, a new one, or the one with the fewest lines."""
        fewest = min(self.workers, key=lambda worker: len(worker.lines), default=None)
        if len(self.workers) < self.jobs and (fewest is None or fewest.lines):
            self.workers.append(self.start())
            return self.workers[-1]
        return fewest if fewest is not None and fewest.takes(size) else None

    def start(self) -> Worker:
        """A new worker: a process with two pipes."""
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        settings = self.settings

        def forked() -> int:
            theirs = [fd for worker in self.workers for fd in (worker.requests, worker.answers)]
            for fd in (request_write, answer_read, self.life[1], *theirs):
                os.close(fd)
            leave_with_parent(self.life[0])
            leave_with_parent_at_once()
            return _work(request_read, answer_write, settings)

        if CAN_FORK:
            process = fork(forked)
        else:
            process = spawn(serve, (settings.threads, settings.memory, settings.may_run), request_read, answer_write)
        os.close(request_read)
        os.close(answer_write)
        self.pipes.unblock(request_write)
        return Worker(process, self.pipes, request_write, answer_read, ready=CAN_FORK)

    def replace(self, worker: Worker) -> tuple[int, list[Line]]:
        """Ends a worker; its exit code, and the lines that it had not answered."""
        self.workers.remove(worker)
        return worker.end(), list(worker.lines)

    def close(self) -> None:
        """Ends every worker."""
        for worker in self.workers:
            worker.end()
        self.workers.clear()


def serve(threads: int, memory: int | None, may_run: bool) -> None:
    """A worker that was started anew, from its beginning to its end: lines come on stdin, answers leave on stdout."""
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    try:
        os.dup2(2, 1)  # what else is printed goes to stderr
    except OSError:
        os.dup2(nowhere, 1)
    from jvpcli.answers import inspect  # noqa: F401  (and torch with it: the clock of the first line does not run yet)

    _write_all(answers, HEADER.pack(READY, 0))
    _work(_until_gone(requests), answers, Settings(None, memory, threads, may_run))
    flush_c_streams()
    os._exit(0)


def _until_gone(requests: int) -> int:
    """Another pipe with the same in it; the process ends when its parent, who alone writes to this one, is gone."""
    reader, writer = os.pipe()

    def pass_on() -> None:
        while piece := os.read(requests, PIECE):
            _write_all(writer, piece)
        os._exit(0)

    threading.Thread(target=pass_on, daemon=True).start()
    return reader


def _work(requests: int, answers: int, settings: Settings) -> int:
    """Answers lines until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its workers
    prepare(settings.threads)
    _answer_all(Requests(requests), answers, settings)
    return 0


class Requests:
    """What comes to a worker, from the pipe that it reads."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._rest = bytearray()

    def take(self, most: int) -> list[tuple[bytes, bytes, bool]]:
        """Up to `most` lines, those behind the next one only if they are there; [] at the end.

        Of each the text, its verdict, and whether it is answered alone.
        """
        found: list[tuple[bytes, bytes, bool]] = []
        while len(found) < most:
            request = self._whole()
            if request is not None:
                found.append(request)
            elif found or not (piece := os.read(self._source, PIECE)):
                break
            else:
                self._rest += piece
        return found

    def _whole(self) -> tuple[bytes, bytes, bool] | None:
        """The first, if all of it is there."""
        if len(self._rest) < LENGTHS.size:
            return None
        length, known, alone = LENGTHS.unpack_from(self._rest)
        middle, end = LENGTHS.size + length, LENGTHS.size + length + known
        if len(self._rest) < end:
            return None
        with memoryview(self._rest) as all_of_it:
            line, verdict = bytes(all_of_it[LENGTHS.size : middle]), bytes(all_of_it[middle:end])
        del self._rest[:end]
        return line, verdict, alone


def _answer_all(requests: Requests, answers: int, settings: Settings) -> None:
    soon, memory, may_run = Soon(), settings.memory, settings.may_run
    while taken := requests.take(TOGETHER if soon.is_last else 1):
        found: list[bytes | None] = [None] * len(taken)
        if len(taken) > 1 and not any(verdict or alone for _, verdict, alone in taken):
            send_part(answers, BESIDE, COUNT.pack(len(taken)))
            found = answers_together([line for line, *_ in taken], memory, soon, may_run)
        ready = b""
        for (line, verdict, _), document in zip(taken, found, strict=True):
            if document is not None:
                ready += HEADER.pack(DONE, len(document)) + document
                continue
            _write_all(answers, ready)
            ready = b""
            answered = answer(line, memory, soon=soon, may_run=may_run)
            for kind, part in answer_of_failed(line, verdict, memory) if verdict else answered:
                send_part(answers, kind, part)
        _write_all(answers, ready)


def send_part(answers: int, kind: int, part: bytes) -> None:
    """A part of an answer, with what it is and its length before it."""
    _write_all(answers, HEADER.pack(kind, len(part)) + part)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def prepare(threads: int) -> None:
    """Makes a process ready that answers one request after the other.

    Torch's threads are all started now: their stacks are not a request's memory.
    """
    import torch

    gc.set_threshold(20_000, 10, 10)  # a line makes a few thousand objects, and few of them in cycles
    gc.enable()
    torch.set_num_threads(threads)
    if threads > 1:
        start_threads()
