"""A batch on the workers of a Dask cluster: its lines go out in pieces, and the answers come back in the lines' order.

Beside each thread of a worker stands a desk, a process that is `jvp batch` itself but for how it writes: it answers each line
in a process of its own, and keeps its limits.  What takes a worker down is given to another one by Dask; a piece that goes on
doing so is taken apart, until the line alone is left that does, and gets its error.  Answers wait where they were made, so that
the client holds those of one piece at a time.
"""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, WorkerPlugin, get_worker

from jvpcli.cli.answers import answer_of_failed
from jvpcli.cli.compute import FREE_PART
from jvpcli.cli.context import Context
from jvpcli.cli.stream import LONGEST_LINE, PIECE, Lines, Stream, write_line
from jvpcli.cli.workers import HEADER
from jvpcli.cluster import LostError, result_of, until_done, width
from jvpcli.errors import JvpError, LimitError
from jvpcli.render.json import error_to_json
from jvpcli.system.memory import free_memory
from jvpcli.system.pipes import pipes

SECONDS = 1.0
"""What a piece is to take: a call costs the scheduler a few thousandths, and a worker that dies loses what it was at."""

FIRST_LINES, MOST_LINES = 64, 1024
"""Lines of a piece at most: as long as it is not known how many take that time, and then."""

MOST_BYTES = 1 << 18
"""Bytes of a piece, unless one line has more."""

AHEAD = 4
"""Pieces for each call under way that may be done before an earlier one is; and reads of the input that wait to go out."""

LOOKING = 1.0
"""Seconds after which it is looked again: an answer that was lost with its worker is made again, and nobody is told of that."""

IDLE = 60.0
"""Seconds after which a desk that nothing is asked of leaves: a client that was killed tells nobody."""


# On a worker


@dataclass(frozen=True)
class Settings:
    """What holds for every line: the longest time in seconds, the most memory in bytes (None: its part of the worker's), and
    whether a program that the language does not read may be run by Python itself.
    """

    timeout: float | None
    memory: int | None
    may_run: bool = False


def serve(timeout: float | None, memory: int | None, may_run: bool) -> None:
    """A desk: lines from stdin, and to stdout each answer with its length, and whether it tells of a failure, before it."""
    context = Context.apart_from_prints()
    assert sys.stdin is not None
    _Framed(context, sys.stdin.fileno(), 1, timeout, memory, may_run).run()
    os._exit(0)


class _Framed(Stream):
    """A batch whose answers stand behind their lengths."""

    def write(self) -> None:
        """The answers whose turn it is."""
        while self.written in self.done:
            found = self.done.pop(self.written)
            out = self.context.out
            out.write_bytes(HEADER.pack(found.failed, found.size))
            if isinstance(found.document, bytes):
                out.write_bytes(found.document)
            else:
                with found.document:
                    while piece := found.document.read(PIECE):
                        out.write_bytes(piece)
            self.context.flush()
            self.written += 1
            self.kept -= found.size


class _Desk:
    """The process, which one thread uses, and which ends once nothing was asked of it for a while."""

    def __init__(self, settings: Settings) -> None:
        memory = settings.memory or _memory_of_thread()
        code = f"from jvpcli.cli.distribution import serve; serve({settings.timeout!r}, {memory!r}, {settings.may_run!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._used: float | None = time.monotonic()  # None: it is in use
        threading.Thread(target=self._watch, daemon=True).start()

    def answers(self, lines: Sequence[bytes]) -> list[tuple[bool, bytes]]:
        """Whether each line failed, and its document.

        Raises:
            EOFError: the process has ended.
        """
        self._used = None
        writer = threading.Thread(target=self._write, args=(lines,), daemon=True)
        writer.start()
        try:
            return [self._answer() for _ in lines]
        finally:
            self._used = time.monotonic()

    def _write(self, lines: Sequence[bytes]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # that the process is gone is seen where it is read
            self.process.stdin.write(b"".join([line + b"\n" for line in lines]))
            self.process.stdin.flush()

    def _answer(self) -> tuple[bool, bytes]:
        failed, length = HEADER.unpack(self._read(HEADER.size))
        return bool(failed), self._read(length)

    def _read(self, length: int) -> bytes:
        assert self.process.stdout is not None
        content = self.process.stdout.read(length)
        if len(content) < length:
            raise EOFError("the process that answers lines has ended")
        return content

    def _watch(self) -> None:
        while self.process.poll() is None:
            time.sleep(IDLE / 4)
            if self._used is not None and time.monotonic() - self._used > IDLE:
                self.close()

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()


def _memory_of_thread() -> int | None:
    """What a line may take where nothing was asked for: the thread's part of what its worker may take, or of what is free."""
    worker = get_worker()
    allowed = [each for each in (worker.memory_manager.memory_limit, free_memory()) if each]
    return int(FREE_PART * min(allowed) / worker.state.nthreads) if allowed else None


class Desks(WorkerPlugin):
    """The desks of a worker, one for each of its threads, each started when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"jvp-desks-{os.urandom(6).hex()}"

    def setup(self, worker: Any) -> None:
        """Nothing is started before there is a line."""
        self._desks: dict[int, _Desk] = {}

    def teardown(self, worker: Any) -> None:
        """Ends the desks."""
        for desk in self._desks.values():
            desk.close()

    def answers(self, lines: Sequence[bytes]) -> list[tuple[bool, bytes]]:
        """As a desk gives them: a new one, where the last one has left.

        Raises:
            EOFError: the desk has ended over the lines.
        """
        thread = threading.get_ident()
        desk = self._desks.get(thread)
        if desk is None or desk.process.poll() is not None:
            desk = self._desks[thread] = _Desk(self.settings)
        return desk.answers(lines)


def answer_lines(desks: str, lines: Sequence[bytes]) -> tuple[float, list[tuple[bool, bytes]]]:
    """On a worker: how many seconds it took; and whether each line failed, and its document.

    Args:
        desks: what the plugin is called.
        lines: of a piece.
    """
    plugin, start = get_worker().plugins[desks], time.monotonic()
    assert isinstance(plugin, Desks)
    answers = plugin.answers(lines)
    return time.monotonic() - start, answers


# On the client


@dataclass(eq=False)
class _Piece:
    """Some lines that are under way together, and the call that answers them."""

    lines: tuple[bytes, ...]
    future: Future | None = None

    @property
    def answered(self) -> bool:
        """Whether it is known what came of it."""
        return self.future.done() if self.future is not None else not self.lines


TOO_LONG = _Piece(())
"""Stands for a line that is too long to be read."""


class Distributed:
    """One run: lines in, answers out."""

    def __init__(
        self, context: Context, source: int, timeout: float | None, memory: int | None, may_run: bool = False
    ) -> None:
        self.context = context
        self.settings = Settings(timeout, memory, may_run)
        self.flight: deque[_Piece] = deque()
        self.waiting: deque[bytes | None] = deque()
        self.reads: deque[int] = deque()  # how many of those that wait came with each
        self.most_lines = FIRST_LINES
        self.events: queue.SimpleQueue[list[bytes | None] | JvpError | None] = queue.SimpleQueue()
        self.room, self.most_reads = threading.Semaphore(AHEAD), AHEAD
        self.ended = False
        self.failed = self.written = 0
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def run(self, cluster: str) -> tuple[int, int]:
        """All lines; how many failed, and how many there were.

        Raises:
            JvpError: the cluster cannot be reached, or the lines cannot be read.
        """
        gc.enable()  # calls leave cycles behind, and there are many
        until_done(cluster, self._go_on)
        return self.failed, self.written

    def _read(self, source: int) -> None:
        """In a thread: tells of lines as they come in, as long as there is room for them, and of the end by none."""
        lines = Lines(pipes(), source)
        try:
            while not lines.ended:
                self.room.acquire()
                lines.read()
                self.events.put([None if line is None else bytes(line) for line in lines.waiting])
                lines.waiting.clear()
            self.ended = True
            self.events.put(None)
        except JvpError as error:
            self.events.put(error)

    def _go_on(self, client: Client) -> None:
        desks = Desks(self.settings)
        client.register_plugin(desks, name=desks.name)
        most = AHEAD * width(client)
        if most > self.most_reads:
            self.room.release(most - self.most_reads)
            self.most_reads = most
        try:
            for piece in self.flight:  # what was under way where the scheduler was lost
                self._submit(client, desks, piece)
            while True:
                self._hand_out(client, desks, most)
                if self.ended and not (self.waiting or self.flight) and self.events.empty():
                    return
                self._event(client)
                self._write(client, desks)
        finally:
            with suppress(Exception):
                client.unregister_worker_plugin(desks.name)

    def _event(self, client: Client) -> None:
        """Waits for lines, or until some are answered (None), but not for long.

        Raises:
            LostError: the scheduler has gone, and nothing will be answered.
        """
        try:
            found = self.events.get(timeout=LOOKING)
        except queue.Empty:
            if client.status == "closed":
                raise LostError("the client has lost its scheduler") from None
            return
        if isinstance(found, JvpError):
            raise found
        if found:
            self.waiting += found
            self.reads.append(len(found))
        elif found is not None:
            self.room.release()

    def _hand_out(self, client: Client, desks: Desks, most: int) -> None:
        """Lines to the workers, as far as they are read and not too many are under way."""
        while self.waiting and len(self.flight) < most:
            few = len(self.waiting) * AHEAD // most  # so that all workers get some
            lines: list[bytes] = []
            size = 0
            while self.waiting and len(lines) < max(1, min(self.most_lines, few)) and size < MOST_BYTES:
                line = self.waiting[0]
                if line is None:
                    break
                lines.append(line)
                size += len(line)
                self._took()
            if lines:
                self.flight.append(_Piece(tuple(lines)))
                self._submit(client, desks, self.flight[-1])
            else:
                self._took()
                self.flight.append(TOO_LONG)
                self.events.put(None)

    def _took(self) -> None:
        """A line no longer waits; with the last one of a read there is room for another read."""
        self.waiting.popleft()
        self.reads[0] -= 1
        if not self.reads[0]:
            self.reads.popleft()
            self.room.release()

    def _submit(self, client: Client, desks: Desks, piece: _Piece) -> None:
        if piece is not TOO_LONG:
            key = f"jvp-lines-{os.urandom(8).hex()}"
            piece.future = client.submit(answer_lines, desks.name, piece.lines, key=key, pure=False)
            piece.future.add_done_callback(lambda _: self.events.put(None))

    def _write(self, client: Client, desks: Desks) -> None:
        """The answers whose turn it is."""
        while self.flight and self.flight[0].answered:
            piece = self.flight[0]
            try:
                answers = self._answers(piece)
            except LostError:
                raise
            except (JvpError, EOFError, MemoryError) as error:
                if len(piece.lines) > 1:  # one of them is to blame
                    alone = [_Piece((line,)) for line in piece.lines]
                    self.flight.popleft()
                    self.flight.extendleft(reversed(alone))
                    for each in alone:
                        self._submit(client, desks, each)
                    return
                answers = [(True, self._verdict(piece.lines[0], error))]
            self.flight.popleft()
            for failed, document in answers:
                with self.context.watch.telling:
                    write_line(self.context, document)
                self.written += 1
                self.failed += failed

    def _answers(self, piece: _Piece) -> list[tuple[bool, bytes]]:
        if piece is TOO_LONG:
            return [(True, error_to_json(LimitError(f"the line is longer than {LONGEST_LINE:,} bytes")))]
        assert piece.future is not None
        seconds, found = result_of(piece.future, "the line")
        self.most_lines = max(1, min(MOST_LINES, int(len(piece.lines) * SECONDS / max(seconds, 1e-3))))
        answers: list[tuple[bool, bytes]] = found
        return answers

    def _verdict(self, line: bytes, error: Exception) -> bytes:
        """The document of a line that nobody could answer, with its id."""
        told = error if isinstance(error, JvpError) else LimitError(f"nobody could answer the line: {error}")
        return b"".join(part for _, part in answer_of_failed(line, error_to_json(told), self.settings.memory))
