"""Running the program: in this process with streams of our own, or as the installed `jvp`."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from documents import assert_valid

from jvpcli.cli.app import run
from jvpcli.cli.context import Context

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: its children would never hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


JVP = Path(sys.executable).parent / "jvp"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def jvp() -> Callable[..., Outcome]:
    """Runs the command line in this process."""

    def call(*argv: str, stdin: str = "", encoding: str = "utf-8", **environ: str) -> Outcome:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
        context = Context(io.StringIO(stdin), out, err, environ)
        code = run(argv, context)
        texts = [stream.buffer.getvalue().decode(encoding) for stream in (out, err) if not stream.flush()]
        if "--json" in argv and texts[0] and argv[0] not in ("schema", "batch"):
            assert_valid(json.loads(texts[0]))
        return Outcome(code, *texts)

    return call


@pytest.fixture
def shell() -> Callable[..., Outcome]:
    """Runs a shell command in which `jvp` is the installed one."""

    def call(command: str, stdin: str = "", timeout: float = 60, **environ: str) -> Outcome:
        paths = f"{JVP.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "PATH": paths, **environ},
        )
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return call
