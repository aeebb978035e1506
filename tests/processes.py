"""Waiting for other processes: for a byte that one writes, for its end, and, where neither tells, for a look that succeeds."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 100
"""Seconds after which a wait has failed: many more than any takes on a busy machine."""


def begun(argv: Sequence[Any], environ: dict[str, str] | None = None, **options: Any) -> subprocess.Popen:
    """Starts a process, and gives it once a byte was written to the descriptor whose number is in $BEGUN.

    Whoever has the descriptor may write: the process itself, one that it starts, or the user's own code in either.
    """
    reader, writer = os.pipe()
    variables = {**os.environ, **(environ or {}), "BEGUN": str(writer)}
    process = subprocess.Popen([*map(str, argv)], env=variables, pass_fds=[writer], **options)
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        assert select.select([pipe], [], [], PATIENCE)[0], "nothing has begun"
        assert pipe.read(1), "it ended before it had begun"
    return process


def children(process: subprocess.Popen) -> list[int]:
    """The numbers of the processes that a process has started and that have not been waited for (Linux)."""
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(number: int) -> bool:
    """Waits for the end of a process that need not be a child of ours (Linux)."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:  # it has ended, and was waited for
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE)[0])
    finally:
        os.close(handle)


def until(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits for what no event tells of a running process, as the size of a file that it writes."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "it ended before that"
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
