"""Whatever the words say: a documented exit code, one document with --json, nothing that a terminal obeys, no traceback.

`JVP_COMMANDS=2000` sets how many are run in this process, `JVP_PROCESSES=200` how many as processes of their own.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hostile_commands import Command, command, problems, run_process, write_files

from jvpcli.cli.app import run
from jvpcli.cli.context import Context

COUNT = int(os.environ.get("JVP_COMMANDS", "300"))
PROCESSES = int(os.environ.get("JVP_PROCESSES", "12"))
SEED = os.environ.get("JVP_COMMANDS_SEED", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    write_files(made)
    return made


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def in_this_process(asked: Command) -> tuple[int, bytes, bytes]:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="") for _ in range(2))
    stdin = io.TextIOWrapper(io.BytesIO(asked.stdin.encode("utf-8", "surrogatepass")), encoding="utf-8")
    code = run(asked.words, Context(stdin, out, err, asked.environment))
    for stream in (out, err):
        stream.flush()
    return code, out.buffer.getvalue(), err.buffer.getvalue()  # type: ignore[attr-defined]


def test_commands_in_this_process(inside: Path) -> None:
    commands = [command(Random(f"{SEED}:{number}"), timeouts=False) for number in range(COUNT)]
    failures = {}
    for asked in commands:
        try:
            found = problems(asked, *in_this_process(asked))
        except Exception as error:
            found = [f"{type(error).__name__} comes out: {error}"]
        if found:
            failures[str(asked)] = found
    assert not failures, "\n".join(f"{found}: {words[:600]}" for words, found in failures.items())


def test_commands_as_processes(folder: Path) -> None:
    failures = {}
    for number in range(PROCESSES):
        asked = command(Random(f"{SEED}:process:{number}"))
        found = problems(asked, *run_process(asked, folder))
        if found:
            failures[str(asked)] = found
    assert not failures, "\n".join(f"{found}: {words[:600]}" for words, found in failures.items())


@pytest.mark.parametrize(
    ("words", "code", "out", "err", "expected"),
    [
        (["inspect", "--json"], 0, b'{"schema": 1, "ok": true}\n', b"", []),
        (["inspect", "--json"], 0, b'{"schema": 1, "ok": true}\n{"schema": 1}', b"", ["stdout holds no single document"]),
        (["inspect", "--json"], 0, b'{"schema": 1, "x": NaN}', b"", ["stdout holds no single document"]),
        (["inspect", "--json"], 0, b'{"schema": 1, "schema": 1}', b"", ["stdout holds no single document"]),
        (["inspect", "--json"], 5, b'{"schema": 1, "ok": false, "error": {"code": "file"}}', b"", ["file with exit 5"]),
        (["inspect", "x"], 1, b"", b"", ["exit 1"]),
        (["inspect", "x"], -11, b"", b"", ["exit SIGSEGV"]),
        (["inspect", "x"], 2, b"", b"a \x1b[31m", ["ESC on stderr"]),
        (["inspect", "x"], 0, "\u202e".encode(), b"\x07", ["bidi control on stdout", "control character"]),
        (["inspect", "x"], 2, b"", b'{"schema": 1}', ["a document on stderr"]),
        (["inspect", "x"], 5, b"", b"Traceback (most recent call last):", ["traceback on stderr"]),
        (["batch"], 8, b'{"schema": 1}\noops\n', b"", ["no document"]),
    ],
)  # fmt: skip
def test_what_must_hold_can_fail(words: list[str], code: int, out: bytes, err: bytes, expected: list[str]) -> None:
    """A control: each thing that must hold is missed when it doesn't."""
    found = problems(Command(tuple(words)), code, out, err)
    assert len(found) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(found, expected, strict=True)), found
