"""How fast passes go: where they take far longer than planned, another way is taken before they are through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time_ns

SLOWER = 4.0
"""Passes may take so many times what they, and what the other way, are reckoned to take: machines differ by less."""

LEAST = 2e7
"""Nanoseconds of what is left to do for which nothing is given up."""

TOGETHER = 4
"""Passes that are taken one by one are timed so many at a time."""

PART = 16
"""Passes are tried with one in so many of them first."""


class TooSlowError(Exception):
    """Passes would take far longer than another way, so they are given up."""


def _clock() -> tuple[int, int]:
    return process_time_ns(), perf_counter_ns()


@dataclass(eq=False)
class Pace:
    """Watches passes as they are taken.

    Attributes:
        total: how many there are.
        planned, other: give the nanoseconds that all of them, and the best other way, are reckoned to take.
        tries: whether some are taken beforehand, for their time alone.
    """

    total: int
    planned: Callable[[], float]
    other: Callable[[], float]
    tries: bool = False
    _done: int = 0
    _slow: bool = False
    _at: tuple[int, int] = field(default_factory=lambda: _clock())

    def passed(self, count: int, kept: bool = True) -> bool:
        """So many passes were taken since the last time, and are done if they are `kept`: whether they were too slow.

        Raises:
            TooSlowError: as they were the time before: what takes longer the first time is no matter.
        """
        before, self._at = self._at, _clock()
        each = min(now - then for now, then in zip(self._at, before, strict=True)) / count  # others may use the machine, too
        self._done += count * kept
        left = each * (self.total - self._done)
        slow = left > LEAST and left > SLOWER * self.planned() and left > SLOWER * self.other()
        if slow and self._slow:
            raise TooSlowError
        self._slow = slow
        return slow
