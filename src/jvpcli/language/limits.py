"""What an expression may take: steps, sizes, memory; refused before it is allocated where that can be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jvpcli.errors import LimitError

MAX_STEPS = 200_000
"""Steps of one evaluation, comprehensions unrolled."""


def check_steps(count: int) -> None:
    """Refuse another step beyond the limit."""
    if count >= MAX_STEPS:
        raise LimitError(f"The expression takes more than {MAX_STEPS:,} steps.")


def check_turns(count: int) -> None:
    """Refuse to iterate over more items than steps are allowed."""
    if count > MAX_STEPS:
        raise LimitError(f"{count:,} turns are more than the limit of {MAX_STEPS:,} steps.")


def check_operation(
    op: str, arguments: Sequence[Any], keywords: Mapping[str, Any], memory_limit: int | None = None
) -> None:
    """Refuse a step that would need too much."""


def free_memory() -> int:
    """Bytes that the machine (and the control group that the process is in) has free; 0 where that can't be known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
