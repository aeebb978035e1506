"""`jvp serve`: a page to try things on, and a resident process that answers the commands of this user's shells at once."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from jvpcli.cli import client
from jvpcli.cli.attendant import why_ended
from jvpcli.cli.context import Context
from jvpcli.errors import FileError, LimitError, UsageError
from jvpcli.render import check_installed
from jvpcli.system import local

EXAMPLES = """
# the page, in the browser; the shells' commands are fast from here on
jvp serve --open

# whether one runs, and where; end it
jvp serve --status
jvp serve --stop

# for this command or this shell as if none ran
jvp inspect "torch.outer(x,x)" --x 1,2,3,4 --no-server
export JVP_SERVER=0

# a question by HTTP: what the command prints with --json (TOKEN is what --status shows behind token=)
curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{"expression": "torch.outer(x,x)", "inputs": {"x": [1,2,3,4]}}' http://127.0.0.1:8765/api/inspect
"""

SECONDS_TO_TELL = 5.0
"""In which one that runs must be awake."""

REHEARSED = (
    'inspect "torch.outer(x, x)" --x 1,2,3,4 --tangent ones', 'inspect "torch.tanh(W @ x)" --W "1,2;3,4" --x 1,2 --json',
    'trace "h = torch.tanh(W @ x); (h**2).sum()" --W "1,2;3,4" --x 1,2', 'check "F.softmax(x, 0)" --x 1,2',
    'hessian "(x**2).sum()" --x 1,2', 'derive "W @ x" --W "1,2;3,4" --x 1,2', 'inspect "torch.outr(x, x)" --x 1,2,3,4',
    'inspect "W @ x" --W 1,2 --x 1,2,3', 'explain "element 0 of tensors does not require grad"', "ops softmax",
)  # fmt: skip
"""Command lines that load between them what most commands load."""


def command(
    context: Context,
    *,
    host: str,
    port: int,
    jobs: int | None,
    as_python: bool,
    open_page: bool,
    status: bool,
    stop: bool,
) -> None:
    """Serve a page to try things on, and answer the commands of this user's shells at once, until Ctrl-C."""
    if not local.can_listen():
        raise UsageError(
            "jvp serve needs a system with fork and Unix sockets, which this one lacks",
            explanation="On Windows it runs inside WSL; all other commands work without it.",
        )
    if status or stop:
        context.out.say(_asked("stop" if stop else "status"))
        return
    for library in ("starlette", "uvicorn", "jinja2"):
        check_installed("jvp serve", library, "serve")
    with local.streams_taken(), _page_socket(host, port) as page, _resident_socket() as (listener, place):
        _serve(context, page, listener, place, host, jobs or os.cpu_count() or 1, as_python, open_page)


def _asked(what: str) -> str:
    """What those that run say of themselves, those of other versions too.

    Raises:
        UsageError: none runs.
        LimitError: one doesn't answer.
    """
    folder = local.folder(os.environ)
    names = sorted(os.listdir(folder)) if folder is not None and local.is_private(folder) else []
    found = []
    for name in names:
        connection = _called(os.path.join(str(folder), name)) if name.endswith(".sock") else None
        if connection is not None:
            with connection, suppress(ConnectionError):  # it has just ended
                local.send(connection, client.message(what), ())
                found.append(local.receive_whole(connection, 1 << 16).decode())
    if not any(found):
        raise UsageError("no jvp serve runs for this user", hints=("jvp serve",))
    return "".join(found)


def _called(place: str) -> socket.socket | None:
    """A connection to the one that listens there; None where none does.

    Raises:
        LimitError: it doesn't answer.
    """
    try:
        return local.call(place, SECONDS_TO_TELL)
    except TimeoutError:
        raise LimitError(
            f"the jvp serve at {place} doesn't answer",
            explanation="It may still be starting, or be stopped (Ctrl-Z; fg lets it go on). Commands run without it meanwhile.",
        ) from None


@contextmanager
def _page_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Where the page is asked for."""
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port takes a number from 0 to 65535, not {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        page = socket.socket(family, socket.SOCK_STREAM)
        page.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        page.bind(address)
        page.listen(512)
    except (socket.gaierror, UnicodeError) as error:  # the latter of a name that can be none, as a..b
        raise UsageError(f"--host {host} is no address of this machine: {getattr(error, 'strerror', 'no name')}") from None
    except OSError as error:
        raise UsageError(
            f"port {port} of {host} can't be had: {error.strerror}", hints=("jvp serve --port 0",)
        ) from None
    with page:
        yield page


@contextmanager
def _resident_socket() -> Iterator[tuple[socket.socket, str]]:
    """Where the shells' commands call, and its path; gone afterwards."""
    place = client.address()
    if place is None:
        raise FileError("jvp serve needs jvp's own files in a folder that it can read, not in an archive")
    folder = os.path.dirname(place)
    try:
        private = local.make_private(folder)
    except OSError as error:
        raise FileError(f"the folder {folder} can't be made: {error.strerror}") from None
    if not private:
        raise FileError(f"{folder} must be a folder that belongs to you and that nobody else can enter; it is not")
    try:
        with local.alone_in(folder):
            running = _called(place)
            if running is not None:
                running.close()
                raise UsageError("a jvp serve of this version runs already", hints=("jvp serve --status", "jvp serve --stop"))
            with suppress(FileNotFoundError):
                os.unlink(place)  # of one that was killed
            listener = local.listen(place)
            made = os.stat(place).st_ino
    except OSError as error:
        why = error.strerror or "it is too long for a socket's path, which XDG_RUNTIME_DIR or TMPDIR begins"
        raise FileError(f"{place} can't be made: {why}") from None
    try:
        yield listener, place
    finally:
        with suppress(OSError), local.alone_in(folder):
            if os.stat(place).st_ino == made:
                os.unlink(place)


def _serve(
    context: Context,
    page: socket.socket,
    listener: socket.socket,
    place: str,
    host: str,
    jobs: int,
    as_python: bool,
    open_page: bool,
) -> None:
    """Starts the page's process, which has no torch and computes nothing, loads torch, says where the page is, and answers."""
    import secrets

    from jvpcli.cli.resident import Resident
    from jvpcli.system.processes import fork, hear_interrupts, leave_with_parent, stand_alone
    from jvpcli.version import __version__

    def page_process() -> int:
        from jvpcli.cli.http import Settings, serve

        stand_alone()
        hear_interrupts(False)
        listener.close()
        os.close(life[1])
        leave_with_parent(life[0])
        serve(page, Settings(place, host, port, token, jobs, as_python))
        return 0

    token = secrets.token_urlsafe(24)
    name, port = page.getsockname()[:2]
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}/#token={token}"
    life = os.pipe()
    process = fork(page_process)
    page.close()
    os.close(life[0])
    _load()
    resident = Resident(listener, f"jvp {__version__} serves {address} (process {os.getpid()})", (life[1],))
    context.out.say(f"{address}\n")
    context.flush()
    with _opened(address, os.path.dirname(place)) if open_page else nullcontext():
        ended = resident.serve(process)
    if ended is not None:
        raise why_ended(ended, work="serves the page")


@contextmanager
def _opened(address: str, folder: str) -> Iterator[None]:
    """Opens the page by a file that leads there: other users could read an address, and the token in it, among the words of
    the browser's command line."""
    import webbrowser
    from pathlib import Path

    leading = Path(folder, "open.html")
    leading.unlink(missing_ok=True)
    leading.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n', encoding="ascii")
    try:
        webbrowser.open(leading.as_uri())
        yield
    finally:
        leading.unlink(missing_ok=True)


def _load() -> None:
    """Loads what the commands load: a fork tries some, and tells what has been loaded after it."""
    import gc
    from importlib import import_module

    from jvpcli.system.processes import fork

    gc.disable()
    import torch  # noqa: F401

    reader, writer = os.pipe()
    rehearsal = fork(lambda: _rehearse(writer))
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        names = told.read().split()
    rehearsal.end()
    for name in names:
        if name not in sys.modules:
            with suppress(ImportError):
                import_module(name)


def _rehearse(writer: int) -> int:
    import io
    import shlex

    from jvpcli.cli.app import run

    for line in REHEARSED:
        run(shlex.split(line), Context(None, io.StringIO(), io.StringIO(), os.environ))
    with open(writer, "w", encoding="utf-8") as told:
        told.write("\n".join(sys.modules))
    return 0
