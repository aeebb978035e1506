"""`jvp batch`: one request a line in, one answer a line out, in order, in constant memory."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from jvpcli.cli.compute import check_folder, tell_limit
from jvpcli.cli.context import Context, OutputFailed, ReaderGone, patience
from jvpcli.errors import ExitCode, FileError, JvpError, LimitError, UsageError, too_late, why
from jvpcli.system.pipes import Pipes, pipes, wait_for_room

if TYPE_CHECKING:
    from jvpcli.cli.answers import Answer
    from jvpcli.cli.workers import Crew, Line, Worker

EXAMPLES = """
# requests from stdin, answers to stdout
echo '{"id": 1, "expression": "torch.outer(x,x)", "inputs": {"x": [1,2,3,4]}}' | jvp batch | jq -c .vjp.x.value

# a file of requests, four at a time, five seconds each
jvp batch requests.jsonl --jobs 4 --timeout 5 > answers.jsonl

# on the workers of a Dask cluster, by its scheduler's address (or local:2: two workers here)
jvp batch requests.jsonl --cluster local:2 > answers.jsonl

# the ids of the lines that failed
jvp batch requests.jsonl | jq -c 'select(.ok | not) | [.id, .error.message]'
"""

LONGEST_LINE = 1 << 26
"""Bytes of a line that are read; what is longer fails."""

WINDOW = 16
"""Lines for each job that are under way or wait for an earlier one to be done."""

MOST_KEPT = 1 << 28
"""Bytes of answers that wait for an earlier one; beyond, only the worker that has the earlier one is listened to."""

PIECE = 1 << 20
"""Bytes of a long answer that are written at a time."""

LOOKING = 60.0
"""Seconds in which a worker finds the id of a line that has taken its worker down."""

def command(
    context: Context,
    *,
    file: str,
    jobs: int,
    cluster: str | None,
    timeout: float,
    memory_limit: int | None,
    quiet: bool,
) -> int:
    """Answer requests from a file or stdin, a JSON document a line; a bad line gets its error and the rest go on."""
    check_folder()
    if memory_limit is not None:
        tell_limit(context)
    if cluster is not None:
        from jvpcli.cluster import check_dask

        if jobs != 1:
            raise UsageError("--jobs is for processes here, and --cluster has workers", hints=("leave one of them out",))
        check_dask("--cluster")
    with _opened(file, context) as source:
        if cluster is None:
            failed, count = Stream(context, source, jobs, timeout, memory_limit).run()
        else:
            from jvpcli.cli.distribution import Distributed  # loads Dask

            failed, count = Distributed(context, source, timeout, memory_limit).run(cluster)
    if failed and not quiet:
        context.err.say(f"{failed} of {count} lines failed\n")
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK


@contextmanager
def _opened(file: str, context: Context) -> Iterator[int]:
    """The descriptor that lines are read from."""
    if file != "-":
        try:
            stream: IO[Any] = open(file, "rb", buffering=0)  # noqa: SIM115  (what cannot be opened is told apart)
        except OSError as error:
            raise FileError(f"{file} cannot be read: {why(error, file)}") from None
        with stream:
            yield stream.fileno()
        return
    if context.stdin is None:
        raise UsageError("standard input is closed, and no FILE is named")
    try:
        descriptor = context.stdin.fileno()
    except OSError:  # a stream that is no file of the system's
        with tempfile.TemporaryFile() as copy:
            wrapped = isinstance(context.stdin, io.TextIOWrapper)
            copy.write(context.stdin.buffer.read() if wrapped else context.stdin.read().encode())
            copy.seek(0)
            yield copy.fileno()
        return
    yield descriptor


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
        self, context: Context, source: int, jobs: int, timeout: float | None, memory_limit: int | None
    ) -> None:
        self.context = context
        self.pipes = pipes()
        self.lines = Lines(self.pipes, source)
        self.timeout = timeout
        self.crew = _crew(self.pipes, jobs, timeout, memory_limit)
        self.again: deque[Line] = deque()
        self.done: dict[int, Answer] = {}
        self.read = self.written = self.failed = self.kept = 0

    def run(self) -> tuple[int, int]:
        """All lines; how many failed, and how many there were."""
        try:
            while self.hand_out() or not self.lines.ended or self.written < self.read:
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

    def wait(self) -> None:
        """Sleeps until something can be read or sent, or a line is late; reads and sends."""
        workers = {worker.answers: worker for worker in self.heard()}
        sending = {worker.requests: worker for worker in self.crew.workers if worker.outgoing}
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
            self.give_up(unanswered, why_ended(code))

    def end_late(self) -> None:
        """Ends the workers whose line has taken too long."""
        now = time.monotonic()
        for worker in list(self.heard()):
            if worker.deadline is not None and worker.deadline <= now:
                _, unanswered = self.crew.replace(worker)
                self.give_up(unanswered, too_late(unanswered[0].timeout or 0))

    def give_up(self, unanswered: list[Line], why: JvpError) -> None:
        """The first of the lines of an ended worker fails; all are given to another, the first for its id alone."""
        from jvpcli.cli.answers import failed_as
        from jvpcli.render.json import error_to_json

        if not unanswered:
            return
        first, *others = unanswered
        if first.verdict:  # reading it is what takes workers down
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


def _crew(pipes: Pipes, jobs: int, timeout: float | None, memory_limit: int | None) -> Crew:
    """The workers' side, with torch loaded once for all of them."""
    import torch

    from jvpcli.answers import inspect  # noqa: F401  (loaded here, so that no worker has to)
    from jvpcli.cli.answers import default_memory
    from jvpcli.cli.workers import Crew, Settings

    threads = max(1, torch.get_num_threads() // jobs)
    return Crew(pipes, jobs, Settings(timeout, memory_limit or default_memory(jobs), threads))


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
