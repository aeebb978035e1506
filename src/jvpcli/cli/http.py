"""The page's process: HTTP in, questions to the resident process, documents out.

    GET  /                 the page; no secret is in it
    POST /api/{command}    what the command prints with --json
    POST /page/{command}   the same answer as a part of the page
    GET  /openapi.json, /health

Who asks must know the token, must have named this server by an address (a name could have been given to it by anybody), and
must not be another site's page.  Everything that comes in is bounded: in bytes, in time, and in how much waits at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from jvpcli.cli.answers import DONE, FAILED, HEADER, INSTEAD, SECONDS, TIMEOUT, Answer
from jvpcli.cli.attendant import why_ended
from jvpcli.cli.client import ACCEPTED, LENGTH, message
from jvpcli.cli.page import FORMS
from jvpcli.cli.workers import PIECE, Kept
from jvpcli.errors import ForbiddenError, InternalError, JvpError, LimitError, UsageError, too_late
from jvpcli.render.html.playground import playground, policy
from jvpcli.render.json import error_to_json
from jvpcli.render.schema import openapi
from jvpcli.request import COMPUTING
from jvpcli.system import local
from jvpcli.version import __version__

LONGEST_BODY = 1 << 20
"""Bytes of a question."""

LONGEST_ANSWER = 1 << 24
"""Bytes of an answer."""

SECONDS_TO_ASK = 10.0
"""For the head of a request, and again for its body."""

SECONDS_TO_ANSWER = 10.0
"""For the work of one question."""

SECONDS_TO_READ = 20.0
"""In which a client must take what waits for it, 48 KiB or more."""

MEMORY = 10**9
"""Bytes that one question may take."""

MOST_WAITING = 64
"""Questions that wait for a turn; more are told to come again."""

MOST_CONNECTIONS = 256

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Settings:
    """Where the resident process is called, where the page is reached, its token, how many questions are computed at once, and
    whether a program that the language does not read may be run by Python itself.
    """

    place: str
    host: str
    port: int
    token: str
    jobs: int
    may_run: bool = False


class Refused(Exception):
    """A request that is not looked at any further: the status, and what is said of it."""

    def __init__(self, status: int, error: JvpError, **headers: str) -> None:
        super().__init__(error.message)
        self.response = Response(
            error_to_json(error), status, {"Connection": "close", **headers}, media_type="application/json"
        )


def serve(page: socket.socket, settings: Settings) -> None:
    """Answers requests until the process is ended."""
    config = uvicorn.Config(
        guarded(application(settings), settings), http=Patient, ws="none", lifespan="off", log_config=None, log_level="critical",
        access_log=False, server_header=False, proxy_headers=False, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=5,
        h11_max_incomplete_event_size=1 << 15,
    )  # fmt: skip
    server = uvicorn.Server(config)
    page.setblocking(False)
    asyncio.run(server.serve([page]))


def application(settings: Settings) -> Starlette:
    """The routes."""
    asking = Asking(settings)
    html, document = playground(), openapi(__version__)

    async def page(request: Request) -> Response:
        return HTMLResponse(html)

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True, "version": __version__})

    async def description(request: Request) -> Response:
        return JSONResponse(document)

    def answering(form: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            command = request.path_params["command"]
            if command not in COMPUTING:
                raise Refused(404, UsageError(f"there is no command {command!r}", f"The commands are {', '.join(COMPUTING)}."))
            found = await asking.answer(request, command, form)
            if isinstance(found.document, bytes):
                return Response(found.document, media_type="application/json")
            headers = {"Content-Length": str(found.size)}
            return StreamingResponse(_pieces(found), headers=headers, media_type="application/json")

        return answer

    routes = [
        Route("/", page),
        Route("/health", health),
        Route("/openapi.json", description),
        Route("/api/{command}", answering("document"), methods=["POST"]),
        Route("/page/{command}", answering("part"), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _refused, ClientDisconnect: _left, HTTPException: _unknown})


async def _refused(request: Request, refused: Any) -> Response:
    response: Response = refused.response
    return response


async def _left(request: Request, gone: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _unknown(request: Request, error: Any) -> Response:
    why = UsageError(f"there is nothing here: {error.detail.lower()}", "GET / is the page, /openapi.json tells the rest.")
    document = error_to_json(why)
    return Response(document, error.status_code, error.headers, media_type="application/json")


async def _pieces(answer: Answer) -> AsyncIterator[bytes]:
    assert not isinstance(answer.document, bytes)
    with answer.document as file:
        while piece := file.read(PIECE):
            yield piece


# Who may ask


def guarded(inner: Callable[[Scope, Receive, Send], Awaitable[None]], settings: Settings) -> Any:
    """The application behind its guard, with the headers that every answer has."""
    headers = [
        (b"content-security-policy", policy().encode()), (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"), (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"), (b"x-frame-options", b"DENY"), (b"cache-control", b"no-store"),
    ]  # fmt: skip

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", ()), *headers]
            await send(event)

        try:
            check(scope["method"], scope["path"], Headers(scope=scope), settings)
            await inner(scope, receive, with_headers)
        except Refused as refused:
            await refused.response(scope, receive, with_headers)

    return outer


def check(method: str, path: str, headers: Headers, settings: Settings) -> None:
    """Whether a request may be looked at.

    Raises:
        Refused: it may not.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not is_address(hosts[0], settings):
        raise Refused(421, ForbiddenError("this server is asked by its address, as `jvp serve` prints it"))
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{hosts[0]}":
        raise Refused(403, ForbiddenError("a page of another site may not ask here"))
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(403, ForbiddenError("a page of another site may not ask here"))
    if not path.startswith(("/api/", "/page/")):
        return
    given = headers.get("authorization", "").encode()
    if not secrets.compare_digest(given, f"Bearer {settings.token}".encode()):
        error = ForbiddenError("the token is missing or wrong", hints=("jvp serve --status",))
        raise Refused(401, error, **{"WWW-Authenticate": "Bearer"})
    if method != "POST":
        raise Refused(405, UsageError("a question is asked with POST"), Allow="POST")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, UsageError("a question is JSON: Content-Type: application/json"))


def is_address(host: str, settings: Settings) -> bool:
    """Whether a Host header names this server by an address, or by the name that it was started with.

    Any name can be made to lead here by who owns it, and a page under that name would then be this server's own to a browser.
    """
    name, _, port = host.rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "80")
    if port != str(settings.port):
        return False
    if name.lower() in ("localhost", settings.host.lower()):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


# Asking the resident process


class Asking:
    """The questions under way, and those that wait."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.place
        self._may_run = settings.may_run
        self._turns = asyncio.Semaphore(settings.jobs)
        self._room = settings.jobs + MOST_WAITING

    async def answer(self, request: Request, command: str, form: str) -> Answer:
        """The answer to a question; where the client leaves before, it is computed no further.

        Raises:
            Refused: it is too long, takes too long to come, or too many wait.
            ClientDisconnect: the client has left.
        """
        line = await _body(request)
        if not self._room:
            raise Refused(503, LimitError("too many questions wait", hints=("ask again in a second",)), **{"Retry-After": "1"})
        self._room -= 1
        work = asyncio.ensure_future(self._in_turn(command, form, line))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            self._room += 1
            for task in (work, gone):
                task.cancel()

    async def _in_turn(self, command: str, form: str, line: bytes) -> Answer:
        async with self._turns:
            try:
                return await self._asked(command, form, line)
            except JvpError as error:
                document = FORMS[form].failure(error)
                return Answer(document, True, len(document))

    async def _asked(self, command: str, form: str, line: bytes) -> Answer:
        """Asks a fork of the resident process.

        Raises:
            JvpError: it took too long, its answer is too long, or it has ended without one.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self._place)
        except OSError:
            raise InternalError("the resident process is gone", hints=("jvp serve",)) from None
        try:
            writer.write(message("question", command=command, form=form, line=line, memory=MEMORY, may_run=self._may_run))
            found = await _answer(reader)
            with suppress(asyncio.TimeoutError):  # until the helper is known to be free: who leaves before, ends it
                await asyncio.wait_for(reader.read(1), 1)
            return found
        finally:
            writer.transport.abort()  # which ends the fork, if it still computes


async def _answer(reader: asyncio.StreamReader) -> Answer:
    """A fork's answer, as it comes.

    Raises:
        JvpError: it takes too long, is too long, or the fork has ended without one.
    """
    limit, since = SECONDS_TO_ANSWER, time.monotonic()
    kept = Kept()
    try:
        greeted = local.GREETING + ACCEPTED
        if await _in_time(reader.readexactly(len(greeted)), limit, since) != greeted:
            raise InternalError("the resident process refused the question")
        while True:
            kind, left = HEADER.unpack(await _in_time(reader.readexactly(HEADER.size), limit, since))
            if kind == INSTEAD:
                kept.close()
                kept = Kept()
            if kind == TIMEOUT:
                (asked,) = SECONDS.unpack(await reader.readexactly(left))
                limit = min(limit, asked)
                continue
            if kept.size + left > LONGEST_ANSWER:
                raise LimitError(f"the answer is longer than {LONGEST_ANSWER:,} bytes", hints=("make the inputs smaller",))
            while left:
                piece = await _in_time(reader.readexactly(min(left, PIECE)), limit, since)
                kept.add(piece)
                left -= len(piece)
            if kind in (DONE, FAILED, INSTEAD):
                found = kept.answer(failed=kind != DONE)
                if isinstance(found, JvpError):
                    raise found
                return found
    except asyncio.IncompleteReadError as error:
        kept.close()
        code = error.partial[-LENGTH:]
        raise why_ended(int.from_bytes(code, "little", signed=True) if len(code) == LENGTH else 1) from None
    except (JvpError, asyncio.TimeoutError) as error:
        kept.close()
        raise error if isinstance(error, JvpError) else too_late(limit) from None


async def _in_time(reading: Awaitable[bytes], limit: float, since: float) -> bytes:
    return await asyncio.wait_for(reading, max(0.0, since + limit - time.monotonic()))


async def _body(request: Request) -> bytes:
    """The body of a request.

    Raises:
        Refused: it is too long, or takes too long to come.
    """
    too_long = Refused(413, LimitError(f"a question has at most {LONGEST_BODY:,} bytes"))
    if int(request.headers.get("content-length", 0)) > LONGEST_BODY:
        raise too_long
    content = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            content.extend(piece)
            if len(content) > LONGEST_BODY:
                raise too_long

    try:
        await asyncio.wait_for(read(), SECONDS_TO_ASK)
    except asyncio.TimeoutError:
        raise Refused(408, LimitError(f"the question did not come within {SECONDS_TO_ASK:g} s")) from None
    return bytes(content)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Patient(H11Protocol):
    """A connection that waits for a client, but not for ever: for the head of a request, and for its reading the answer."""

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The head of the first request is awaited."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """The head of a request may be whole now, or have begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Much waits for the client."""
        super().pause_writing()
        self._stalled = self.loop.call_later(SECONDS_TO_READ, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken most of it."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came: what the client has not read by and by is lost."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(SECONDS_TO_READ, self.transport.abort)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(SECONDS_TO_ASK, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
