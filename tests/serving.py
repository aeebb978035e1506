"""A `jvp serve` of a test's own: in a runtime folder that nobody else has, on a port that is free."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvpcli.cli.client import message
from jvpcli.system.local import GREETING
from processes import PATIENCE, children

PROGRAM = (sys.executable, "-m", "jvpcli")


@dataclass(frozen=True)
class Served:
    """One that runs: its process, its page's address with the token, and the variables of those who are to find it."""

    process: subprocess.Popen
    address: str
    environ: Mapping[str, str]

    @property
    def port(self) -> int:
        return int(self.address.split(":")[2].partition("/")[0])

    @property
    def token(self) -> str:
        return self.address.partition("#token=")[2]

    def run(self, *argv: str | bytes, stdin: bytes = b"", cwd: Path | None = None, **environ: str) -> tuple[int, bytes, bytes]:
        """A command line in a shell of this user's: its exit code, stdout and stderr."""
        done = subprocess.run(
            [*PROGRAM, *argv], input=stdin, capture_output=True, timeout=PATIENCE, cwd=cwd, env={**self.environ, **environ}
        )
        return done.returncode, done.stdout, done.stderr

    def answered(self) -> int:
        """How much it has answered by now."""
        (place,) = Path(self.environ["XDG_RUNTIME_DIR"], "jvp").iterdir()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place))
            assert connection.recv(1) == GREETING
            connection.sendall(message("status"))
            told = connection.makefile().read()
        return int(told.rpartition(", ")[2].split()[0])

    def forks(self) -> list[int]:
        """The processes that it has started; the first is the page's."""
        return children(self.process)

    def ask(
        self, path: str, body: Any = None, *, method: str = "POST", timeout: float = PATIENCE, **headers: str | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A request as the page makes one; a header that is given as None is left out."""
        usual = {"Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            if content is not None and "Content-Length" not in given:
                given["Content-Length"] = str(len(content))
            for name, value in {**usual, **given}.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(content)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()


@contextmanager
def served(folder: Path, *argv: str) -> Iterator[Served]:
    """Starts one, and ends it."""
    own = ("JVP_SERVER", "COLUMNS", "LINES")  # the size of a terminal is set by who runs the tests at times
    environ = {name: value for name, value in os.environ.items() if name not in own}
    environ["XDG_RUNTIME_DIR"] = str(folder)
    process = subprocess.Popen([*PROGRAM, "serve", "--port", "0", *argv], stdout=subprocess.PIPE, env=environ)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http://"), "it does not start"
        yield Served(process, address, environ)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
