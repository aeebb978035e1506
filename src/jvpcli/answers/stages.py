"""An answer a stage at a time: of several under way, each but the first finds the code of a stage in the processor's caches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TypeVar

Found = TypeVar("Found")

Stages = Generator[None, None, Found]
"""A computation that stops between its stages, and returns what it has found."""


def at_once(steps: Stages[Found]) -> Found:
    """What a computation finds, without a stop.

    Raises:
        Whatever a stage raises.
    """
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Found = done.value
            return found


def in_turn(many: Sequence[Stages[Found]], seconds: float) -> list[Found | None]:
    """What each of several finds: the first stage of all of them, then the second; None of one that has failed.

    After so many seconds the one whose stage has just ended goes on to its end, and all others that are under way find None, too.
    """
    found: list[Found | None] = [None] * len(many)
    under_way, end = dict(enumerate(many)), perf_counter() + seconds
    while under_way:
        for place, steps in [*under_way.items()]:
            try:
                next(steps)
            except StopIteration as done:
                found[place] = done.value
                del under_way[place]
            except Exception:  # whoever asks for it by itself gets to know why
                del under_way[place]
            if perf_counter() > end:
                if place in under_way:
                    with suppress(Exception):
                        found[place] = at_once(steps)
                return found
    return found
