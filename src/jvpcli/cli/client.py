"""Asks the resident process of `jvp serve`, where one runs, to answer a command line in this process's stead.

It is given this process's streams, folder and variables, and writes to them itself; here is only waited for its exit
code.  Nothing is loaded here that a command would have to wait for.
"""

from __future__ import annotations

import os
import sys

from jvpcli.system import local
from jvpcli.version import __version__

TYPE_CHECKING = False  # `typing` alone takes as long to load as all that is needed here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import socket
    from typing import Any

ASKED = frozenset({"inspect", "trace", "check", "hessian", "derive", "explain", "ops"})
"""The commands that a resident process answers."""

OWN = ("--no-server", "--debug", "--import")
"""What is never asked of it: the user's own files run in a process that has nothing else in it."""

SECONDS = 2.0
"""In which it must be awake: one that is stopped (Ctrl-Z) still listens."""

ACCEPTED = b"+"
"""What the resident process says first after its greeting, if it does the work."""

LENGTH = 4
"""Bytes of the length before a message."""

LOST = 1
"""The exit code where the resident process was ended before it told one."""


def ask(argv: Sequence[str]) -> int | None:
    """The exit code of a command line that a resident process has answered; None where none has."""
    if not argv or argv[0] not in ASKED or not asks(argv, os.environ):
        return None
    place = address()
    if place is None or not os.path.exists(place):
        return None
    streams = [number for number in (0, 1, 2) if _is_open(number)]
    with local.streams_taken():
        try:
            connection = local.call(place, SECONDS)
        except TimeoutError:
            return None
        if connection is None:
            return None
        with connection:
            return _answered(connection, argv, streams)


def asks(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a command line may be answered elsewhere."""
    if environ.get("JVP_SERVER") == "0" or any(place in word for word in argv for place in local.OWN_FILES):
        return False
    return not any(word.partition("=")[0] in OWN for word in argv)


def address() -> str | None:
    """Where the resident process listens that this very program would be: its version, its files, its Python.

    None where there are no such sockets, or the program's files can't be looked at (they may be in an archive).
    """
    import zlib

    folder = local.folder(os.environ)
    if folder is None:
        return None
    program = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        identity = ascii((__version__, program, _stamp(program), sys.prefix, sys.version))
    except OSError:
        return None
    return os.path.join(folder, f"{__version__}-{zlib.crc32(identity.encode()):08x}.sock")


def _stamp(folder: str) -> tuple[int, int]:
    """How many files there are, and when the last was changed; what is hidden is none of the program's."""
    count, latest = 0, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below = _stamp(entry.path) if entry.name != "__pycache__" else (0, 0)
                count, latest = count + below[0], max(latest, below[1])
            else:
                count, latest = count + 1, max(latest, entry.stat().st_mtime_ns)
    return count, latest


def message(work: str, **content: Any) -> bytes:
    """What is sent: a length, and a mapping of plain values as Python writes it."""
    body = ascii({"work": work, **content}).encode()
    return len(body).to_bytes(LENGTH, "little") + body


def _answered(connection: socket, argv: Sequence[str], streams: Sequence[int]) -> int | None:
    """Has the command line answered over a connection; None where that is refused before anything is done."""
    import signal

    heard: list[int] = []  # until the work has begun, Ctrl-C waits
    begun = False

    def pass_on(number: int, frame: object) -> None:
        heard.append(number)
        if begun:
            tell(number)

    def tell(*numbers: int) -> None:
        try:  # noqa: SIM105  (contextlib is not loaded here)
            connection.send(bytes(numbers))
        except OSError:  # it has just ended, and its exit code may still be on the way
            pass

    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interrupts:
        signal.signal(signal.SIGINT, pass_on)
    try:
        begun = _asked(connection, argv, streams, interrupts)
        if begun and heard:
            tell(*heard)
        code = local.receive_whole(connection, LENGTH) if begun else b""
    except OSError:
        code = b""
    finally:
        if interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if not begun and heard:
        signal.raise_signal(signal.SIGINT)
    if not begun:
        return None
    return _ended(int.from_bytes(code, "little", signed=True)) if len(code) == LENGTH else _lost()


def _ended(code: int) -> int:
    """The exit code of the work; where a signal has ended it, that signal ends this process."""
    if code < 0:
        import signal

        if signal.getsignal(-code) is signal.default_int_handler:
            signal.signal(-code, signal.SIG_DFL)
        signal.raise_signal(-code)
    return code


def _asked(connection: socket, argv: Sequence[str], streams: Sequence[int], interrupts: bool) -> bool:
    """Sends the command line with all that it needs; whether it is being answered."""
    try:
        folder = [os.open(".", os.O_RDONLY)]
    except OSError:  # it is gone, or may be entered and not read
        return False
    mask = os.umask(0o077)
    os.umask(mask)
    asked = message(
        "command", argv=list(argv), streams=list(streams), environ=dict(os.environ), mask=mask, interrupts=interrupts,
        surroundings=local.surroundings(),
    )  # fmt: skip
    try:
        local.send(connection, asked, [*streams, *folder])
        return connection.recv(1) == ACCEPTED
    except OSError:
        return False
    finally:
        os.close(folder[0])


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _lost() -> int:
    """Says that the resident process has ended with the work half done."""
    try:  # noqa: SIM105  (contextlib is not loaded here)
        os.write(2, b"jvp serve was ended while it computed this. Run the command again.\n")
    except OSError:  # nobody reads it
        pass
    return LOST
