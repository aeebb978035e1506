"""Writes docs/reference.md: the help of every command, as the program prints it."""

from __future__ import annotations

import io
from pathlib import Path

from jvpcli.cli.app import COMMANDS, run
from jvpcli.cli.context import Context

TARGET = Path(__file__).parent.parent / "docs" / "reference.md"

HEAD = """\
# Command reference

Written by `make docs` from the program's own help, and kept current by a test.

The exit codes and the forms of VALUEs are in the [README](../README.md), the documents of `--json` in [json.md](json.md).
"""


def reference() -> str:
    """The whole file."""
    parts = [HEAD, "## jvp\n", _block(_help())]
    for name in COMMANDS:
        parts += [f"## jvp {name}\n", _block(_help(name))]
    return "\n".join(parts)


def _help(*command: str) -> str:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    run([*command, "--help"], Context(io.StringIO(), out, err, {"COLUMNS": "110"}))
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
