"""The resident process of `jvp serve`: torch is loaded here once, and every piece of work is done by a fork.

It never computes.  Processes of the same user call its socket, are greeted, and send the work:

    command   a command line, with the caller's streams, folder and variables: a fork becomes what the caller would have been
    question  a request of the page or of `POST /api/…`: a helper, a fork that answers one after the other, is given the
              connection, and sends the document back in parts, as a batch's worker does
    stop, status

Further bytes from the caller are signals for the fork; a caller who is gone takes its fork along.  Where a fork ends before
its caller has all, its exit code comes last.
"""

from __future__ import annotations

import ast
import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from socket import socket, socketpair
from typing import Any

from jvpcli.cli.client import ACCEPTED, LENGTH, asks, message
from jvpcli.system import local
from jvpcli.system.pipes import PIECE, pipes
from jvpcli.system.processes import (
    CHILD_ENDED,
    Process,
    fork,
    hear,
    hear_interrupts,
    interrupts_held,
    leave_with_parent_at_once,
    stand_alone,
)

LONGEST = 1 << 26
"""Bytes of a piece of work."""

MOST_IDLE = 16
"""Helpers that wait for a question."""

MOST_ANSWERED = 500
"""Questions that a helper answers before another takes its place."""

DONE = b"."
"""What a helper says after each question."""

REFUSED = b"-"
"""What is said instead of ACCEPTED where a command line is to be answered by the caller itself."""


@dataclass(eq=False)
class Caller:
    """A connection: what has come in, the open files that came along, and the process that does the work, once it is known."""

    connection: socket
    incoming: bytearray = field(default_factory=bytearray)
    descriptors: list[int] = field(default_factory=list)
    process: Process | None = None
    helper: Helper | None = None

    def work(self) -> dict[str, Any] | None:
        """The work, once all of it is there.

        Raises:
            ValueError: it is none.
        """
        if len(self.incoming) < LENGTH:
            return None
        size = int.from_bytes(self.incoming[:LENGTH], "little")
        if size > LONGEST:
            raise ValueError("it is too long")
        if len(self.incoming) < LENGTH + size:
            return None
        body = bytes(self.incoming[LENGTH : LENGTH + size])
        del self.incoming[: LENGTH + size]
        found = ast.literal_eval(body.decode("ascii"))
        if not isinstance(found, dict):
            raise ValueError("it is no mapping")
        return found

    def let_go(self) -> None:
        """Closes the open files that came along."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()

    def close(self) -> None:
        """Takes leave of the caller."""
        self.let_go()
        self.connection.close()


@dataclass(eq=False)
class Helper:
    """A fork that answers questions, and the socket on which it is given them and says that it is done."""

    process: Process
    line: socket
    answered: int = 0

    def is_done(self) -> bool:
        """Whether it says that it is done, and not that it is gone."""
        try:
            return self.line.recv(1) == DONE
        except OSError:
            return False

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        self.line.close()
        self.process.end()


class Resident:
    """The process itself, around its socket; `about` is what it tells of itself, `others` are ends that no fork may keep."""

    def __init__(self, listener: socket, about: str, others: tuple[int, ...]) -> None:
        self.listener = listener
        self.about = about
        self.others = others
        self.callers: dict[int, Caller] = {}
        self.idle: list[Helper] = []
        self.answered = 0
        self.ends = pipes()
        self.surroundings = local.surroundings()
        self.loaded = _loaded()
        self.signals = hear(CHILD_ENDED, signal.SIGINT, signal.SIGTERM)

    def serve(self, page: Process) -> int | None:
        """Answers until it is told to stop, and then waits for the work under way; or until the page's process has ended, with
        that one's exit code."""
        gc.collect()
        gc.freeze()
        serving, ended = True, None
        while serving and ended is None:
            serving, ended = self.turn([self.listener.fileno()]), page.ended()
        if ended is None:
            page.end()
        self.listener.close()
        patient = True
        while patient and any(caller.process is not None for caller in self.callers.values()):
            patient = self.turn([])
        return ended

    def turn(self, listening: list[int]) -> bool:
        """Waits until something happens, and sees to it; False where it was told to stop."""
        busy = {caller.helper.line.fileno(): caller for caller in self.callers.values() if caller.helper is not None}
        ready = self.ends.wait([self.signals, *listening, *self.callers, *busy], (), None)
        heard = self.ends.read(self.signals) if self.signals in ready else b""
        stopped = signal.SIGINT in heard or signal.SIGTERM in heard
        for caller in (busy[descriptor] for descriptor in ready if descriptor in busy):
            self.free(caller)
        for caller in [self.callers[descriptor] for descriptor in ready if descriptor in self.callers]:
            stopped |= not self.hear(caller)
        self.take_leave()
        if not {*ready}.isdisjoint(listening):  # last, since a new connection may have the number of one that is closed by now
            self.welcome()
        return not stopped

    def welcome(self) -> None:
        """Takes a call, if it comes from the same user."""
        try:
            connection, _ = self.listener.accept()
            trusted = local.is_same_user(connection)
        except OSError:  # who called is gone again
            return
        if trusted:
            self.callers[connection.fileno()] = caller = Caller(connection)
            self.say(caller, local.GREETING)
        else:
            connection.close()

    def hear(self, caller: Caller) -> bool:
        """What a caller sends; False where that is to stop."""
        try:
            content, descriptors = local.receive(caller.connection, PIECE, wait=False)
        except BlockingIOError:
            return True
        except OSError:
            content, descriptors = b"", []
        caller.descriptors += descriptors
        if not content:
            if caller.helper is not None:
                caller.helper.end()
            elif caller.process is not None:
                caller.process.end()
            self.dismiss(caller)
        elif caller.process is not None:
            for number in content:
                caller.process.tell(number)
        else:
            caller.incoming += content
            return self.begin(caller)
        return True

    def begin(self, caller: Caller) -> bool:
        """Begins the work, if all of it is there; False where it is to stop."""
        try:
            work = caller.work()
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            self.dismiss(caller)
            return True
        if work is None:
            return True
        kind = work.get("work")
        try:
            begun = self.begun(caller, kind, work)
        except (OSError, KeyError):  # there is no room for a further process, or the work lacks something
            begun = False
        if begun:
            self.answered += 1
            caller.let_go()
            return True
        told = f"{self.about}, {self.answered} answered\n".encode()
        self.say(caller, told if kind in ("status", "stop") else REFUSED)
        self.dismiss(caller)
        return kind != "stop"

    def begun(self, caller: Caller, kind: Any, work: Mapping[str, Any]) -> bool:
        """Whether the work has been begun; nothing that a fork can't do is.

        Raises:
            OSError, KeyError: it can't be.
        """
        if kind == "command" and self.may(work):
            with interrupts_held():
                caller.process = fork(lambda: self.forked(lambda: _command(caller, work), caller))
            self.say(caller, ACCEPTED)
        elif kind == "question":
            caller.helper = self.helper()
            caller.process = caller.helper.process
            self.say(caller, ACCEPTED)
            with suppress(OSError):  # it has just been killed, which is told as if it had been a moment later
                local.send(caller.helper.line, message(**work), [caller.connection.fileno()])
        return caller.process is not None

    def helper(self) -> Helper:
        """A helper that is free, or a new one."""
        while self.idle:
            found = self.idle.pop()
            if found.process.ended() is None:
                return found
            found.line.close()
        line, other = socketpair()
        process = fork(lambda: self.forked(lambda: _help(other), None, line))
        other.close()
        return Helper(process, line)

    def free(self, caller: Caller) -> None:
        """A helper says that it is done, or is ending."""
        helper = caller.helper
        if helper is None or not helper.is_done():
            return  # what it has ended with is told once that is known
        caller.helper = caller.process = None
        self.dismiss(caller)
        helper.answered += 1
        if helper.answered < MOST_ANSWERED and len(self.idle) < MOST_IDLE:
            self.idle.append(helper)
        else:
            helper.end()

    def may(self, work: Mapping[str, Any]) -> bool:
        """Whether a fork of this process would do the same as the caller itself."""
        return work["surroundings"] == self.surroundings and asks(work["argv"], work["environ"]) and _loaded() == self.loaded

    def forked(self, main: Callable[[], int], caller: Caller | None, *lines: socket) -> int:
        """A fork, for a caller or none: lets go of everything that is not its own, and does its work."""
        stand_alone()
        leave_with_parent_at_once()
        rest = [other for other in self.callers.values() if other is not caller]
        helpers = [*self.idle, *(other.helper for other in rest if other.helper is not None)]
        sockets = [self.listener, *(other.connection for other in rest), *(helper.line for helper in helpers), *lines]
        for descriptor in (*self.others, self.signals, *(each.detach() for each in sockets)):
            os.close(descriptor)
        return main()

    def take_leave(self) -> None:
        """Tells the exit codes of the work that has ended before its caller was told."""
        for helper in [helper for helper in self.idle if helper.process.ended() is not None]:
            self.idle.remove(helper)
            helper.line.close()
        for caller in [*self.callers.values()]:
            code = None if caller.process is None else caller.process.ended()
            if code is not None:
                self.say(caller, code.to_bytes(LENGTH, "little", signed=True))
                if caller.helper is not None:
                    caller.helper.line.close()
                self.dismiss(caller)

    def say(self, caller: Caller, content: bytes) -> None:
        """A few bytes to a caller, who may be gone."""
        with suppress(OSError):
            local.say(caller.connection, content)

    def dismiss(self, caller: Caller) -> None:
        """A caller that has all it is to get."""
        del self.callers[caller.connection.fileno()]
        caller.close()


def _loaded() -> tuple[int, ...]:
    """When the files were made of what is loaded here: torch may have been installed anew since."""
    found = []
    for name in ("torch.version", "numpy.version", "rich", "typer"):
        try:
            found.append(os.stat(str(sys.modules[name].__file__)).st_mtime_ns)
        except (OSError, KeyError):
            found.append(-1)
    return tuple(found)


# A command line: the fork becomes what the caller would have been


def _command(caller: Caller, work: Mapping[str, Any]) -> int:
    hear_interrupts(work["interrupts"])
    *streams, folder = caller.descriptors
    own = dict(zip(work["streams"], streams, strict=True))
    os.fchdir(folder)
    for number in (0, 1, 2):  # they are open here, so that none of what came has such a number
        if number in own:
            os.dup2(own[number], number)
        else:
            os.close(number)
    caller.close()
    os.umask(work["mask"])
    os.environ.clear()
    os.environ.update(work["environ"])
    sys.argv = ["jvp", *work["argv"]]
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) if number in own else None for number in (0, 1, 2))
    from jvpcli.cli.app import outcome

    return outcome(work["argv"])


def _stream(number: int) -> Any:
    """A standard stream as Python makes it when it starts: in the encoding that this process has from there, too."""
    model = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    encoding, errors = (model.encoding, model.errors) if model is not None else (None, None)
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    terminal = raw.isatty()
    if number == 0:
        return io.TextIOWrapper(io.BufferedReader(raw), encoding, errors, line_buffering=terminal)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=number == 2 or terminal)


# Questions: a helper is given each with the connection that its document goes to


def _help(line: socket) -> int:
    from jvpcli.cli.workers import prepare

    hear_interrupts(False)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)
    prepare(threads=1)
    asking = Caller(line)
    while True:
        content, descriptors = local.receive(line, PIECE)
        if not content:
            return 0
        asking.incoming += content
        asking.descriptors += descriptors
        work = asking.work()
        if work is not None:
            try:
                _answer(asking.descriptors[0], work)
            except BrokenPipeError:  # nobody waits for it: this process is about to be ended
                return 0
            asking.let_go()
            line.send(DONE)


def _answer(connection: int, work: Mapping[str, Any]) -> None:
    from jvpcli.cli.answers import answer
    from jvpcli.cli.page import FORMS
    from jvpcli.cli.workers import send_part

    form, may_run = FORMS[work["form"]], work["may_run"]
    for kind, part in answer(work["line"], work["memory"], form, may_run=may_run, command=work["command"]):
        send_part(connection, kind, part)
