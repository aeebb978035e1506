"""A batch as it goes on: lines in as they come, answers out in the lines' order, by the processes of a crew."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from jvpcli.cli.context import Context, OutputFailed, ReaderGone, patience
from jvpcli.errors import FileError, JvpError, LimitError, too_late
from jvpcli.system.pipes import Pipes, pipes, wait_for_room

if TYPE_CHECKING:
    from jvpcli.cli.answers import Answer
    from jvpcli.cli.workers import Crew, Line, Worker

LONGEST_LINE = 1 << 26
"""Bytes of a line that are read; what is longer fails."""

WINDOW = 64
"""Lines for each job that are under way or wait for an earlier one to be done."""

MOST_KEPT = 1 << 28
"""Bytes of answers that wait for an earlier one; beyond, only the worker that has the earlier one is listened to."""

PIECE = 1 << 20
"""Bytes of a long answer that are written at a time."""

LOOKING = 60.0
"""Seconds in which a worker finds the id of a line that has taken its worker down."""


class Lines:
    """The lines of a descriptor, as they come in; an empty line is none."""

    def __init__(self, pipes: Pipes, source: int) -> None:
        self.source = source
        self._pipes = pipes
        self.ended = False
        self.waiting: deque[bytearray | None] = deque()
        self._rest = bytearray()
        self._skipping = False

    def read(self) -> None:
        """Reads once; what is there is cut into lines, None for one that is too long."""
        try:
            piece = self._pipes.read(self.source)
        except OSError as error:
            raise FileError(f"the requests cannot be read: {error.strerror}") from None
        *whole, rest = piece.split(b"\n")
        for part in whole:
            self._end_line(part)
        self._keep(rest)
        if not piece:
            self.ended = True
            self._end_line(b"")

    def _keep(self, part: bytes) -> None:
        if not self._skipping:
            self._rest += part
        if len(self._rest) > LONGEST_LINE:
            self._rest.clear()
            self._skipping = True

    def _end_line(self, part: bytes) -> None:
        self._keep(part)
        line, self._rest = self._rest, bytearray()
        if self._skipping or (line and not line.isspace()):
            self.waiting.append(None if self._skipping else line)
        self._skipping = False


class Stream:
    """One run: lines in, answers out."""

    def __init__(
        self,
        context: Context,
        source: int,
        jobs: int,
        timeout: float | None,
        memory_limit: int | None,
        may_run: bool = False,
    ) -> None:
        self.context = context
        self.pipes = pipes()
        self.lines = Lines(self.pipes, source)
        self.timeout = timeout
        self.crew = _crew(self.pipes, jobs, timeout, memory_limit, may_run)
        self.again: deque[Line] = deque()
        self.done: dict[int, Answer] = {}
        self.read = self.written = self.failed = self.kept = 0

    def run(self) -> tuple[int, int]:
        """All lines; how many failed, and how many there were."""
        try:
            while self.hand_out() or not self.lines.ended or self.written < self.read:
                self.send()
                self.wait()
                self.end_late()
                self.write()
            return self.failed, self.written
        finally:
            self.crew.close()

    def hand_out(self) -> bool:
        """Lines to workers, as far as they can take them; whether any line still waits."""
        from jvpcli.cli.answers import failure
        from jvpcli.cli.workers import Line

        while self.again or (self.lines.waiting and self.room):
            text = self.again[0].text if self.again else self.lines.waiting[0]
            if text is None:
                self.keep(self.read, failure(LimitError(f"the line is longer than {LONGEST_LINE:,} bytes")))
            else:
                worker = self.crew.free_worker(len(text))
                if worker is None:
                    return True
                if self.again:
                    worker.give(self.again.popleft())
                    continue
                worker.give(Line(self.read, text, self.timeout))
            self.lines.waiting.popleft()
            self.read += 1
        return bool(self.lines.waiting)

    @property
    def room(self) -> bool:
        """Whether another line may be under way: answers that wait for an earlier one are held."""
        return self.read - self.written < WINDOW * self.crew.jobs

    def heard(self) -> list[Worker]:
        """The workers that are listened to; the others wait in writing, where much is held already."""
        workers = self.crew.workers
        if self.kept + sum(worker.kept.size for worker in workers) <= MOST_KEPT:
            return workers
        return [worker for worker in workers if any(line.number == self.written for line in worker.lines)] or workers

    def send(self) -> None:
        """What has been handed out, as far as the pipes have room: what is left is sent once they have."""
        for worker in self.crew.workers:
            if worker.outgoing:
                worker.send()

    def wait(self) -> None:
        """Sleeps until something can be read or sent, or a line is late; reads and sends."""
        workers = {worker.answers: worker for worker in self.heard()}
        sending = {worker.requests: worker for worker in self.crew.workers if worker.outgoing}  # whose pipe was full
        source = () if self.lines.ended or self.lines.waiting else (self.lines.source,)
        if not (workers or sending) and self.lines.ended:
            return
        for fd in self.pipes.wait((*workers, *source), sending, self.patience()):
            if fd in workers:
                self.receive(workers[fd])
            elif fd not in sending:
                self.lines.read()
            elif sending[fd] in self.crew.workers:  # it may have been found dead just now
                sending[fd].send()

    def patience(self) -> float | None:
        """Milliseconds until the first line is late."""
        deadlines = [worker.deadline for worker in self.heard()]
        first = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return patience(first)

    def receive(self, worker: Worker) -> None:
        """A worker's answers; one that has died takes only its first line with it."""
        from jvpcli.cli.attendant import why_ended

        answers, alive = worker.receive()
        for line, answer in answers:
            if isinstance(answer, JvpError):
                self.give_up([line], answer)
            else:
                self.keep(line.number, answer)
        if not alive:
            code, unanswered = self.crew.replace(worker)
            self.give_up(unanswered, why_ended(code), worker.beside)

    def end_late(self) -> None:
        """Ends the workers whose line has taken too long."""
        now = time.monotonic()
        for worker in list(self.heard()):
            if worker.deadline is not None and worker.deadline <= now:
                _, unanswered = self.crew.replace(worker)
                self.give_up(unanswered, too_late(unanswered[0].timeout or 0), worker.beside)

    def give_up(self, unanswered: list[Line], why: JvpError, beside: int = 0) -> None:
        """The first of the lines of an ended worker fails; all are given to another, the first for its id alone.

        Where the first ones were answered `beside` each other it may have been any of them: each is answered alone then.
        """
        from jvpcli.cli.answers import failed_as
        from jvpcli.render.json import error_to_json

        if not unanswered:
            return
        first, *others = unanswered
        if beside > 1:
            others = [replace(line, alone=line.alone or place < beside) for place, line in enumerate(unanswered)]
        elif first.verdict:  # reading it is what takes workers down
            self.keep(first.number, failed_as(first.verdict))
        else:
            others.append(replace(first, verdict=error_to_json(why), timeout=LOOKING))
        self.again = deque(sorted([*self.again, *others], key=lambda line: line.number))

    def keep(self, number: int, answer: Answer) -> None:
        """An answer, until it is its turn."""
        self.done[number] = answer
        self.kept += answer.size

    def write(self) -> None:
        """The answers whose turn it is, each in one piece."""
        while self.written in self.done:
            answer = self.done.pop(self.written)
            with self.context.watch.telling:
                write_line(self.context, answer.document)
            self.written += 1
            self.failed += answer.failed
            self.kept -= answer.size


def _crew(
    pipes: Pipes, jobs: int, timeout: float | None, memory_limit: int | None, may_run: bool = False
) -> Crew:
    """The workers' side, with torch loaded once for all of them."""
    import torch

    from jvpcli.answers import inspect  # noqa: F401  (loaded here, so that no worker has to)
    from jvpcli.cli.answers import default_memory
    from jvpcli.cli.workers import Crew, Settings

    threads = max(1, torch.get_num_threads() // jobs)
    return Crew(pipes, jobs, Settings(timeout, memory_limit or default_memory(jobs), threads, may_run))


def write_line(context: Context, document: bytes | IO[bytes]) -> None:
    """A whole line; in one write where it is held in memory and the system has one, so that being killed leaves no half."""
    if isinstance(document, bytes):
        _write(context, document + b"\n")
        return
    with document:
        while piece := document.read(PIECE):
            _write(context, piece)
    _write(context, b"\n")


def _write(context: Context, text: bytes) -> None:
    try:
        descriptor = context.out.fileno()
    except OSError:
        context.out.write_bytes(text)
        context.flush()
        return
    rest = memoryview(text)
    try:
        wait_for_room(descriptor, len(rest))
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise OutputFailed(error.strerror) from None
