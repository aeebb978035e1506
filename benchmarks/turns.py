"""Ways measured in turns, in random order, so that whatever else the machine does meets all of them; medians."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

Way = Callable[[], Any]
Timed = Callable[[Way], float]
"""Milliseconds of one call."""


def by_clock(way: Way) -> float:
    """By the clock, what a graphics card still works at included."""
    start = time.perf_counter()
    result = way()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    del result
    return seconds * 1e3


def by_processor(way: Way) -> float:
    """Of the processor, which other work on the machine disturbs less."""
    start = time.process_time_ns()
    result = way()
    spent = time.process_time_ns() - start
    del result
    return spent / 1e6


def again(timed: Timed) -> Timed:
    """As `timed`, of a call right after another one of the same way, as in a loop."""

    def call(way: Way) -> float:
        way()
        return timed(way)

    return call


def in_turns(ways: Mapping[str, Way], timed: Timed, seconds: float, least: int) -> dict[str, float]:
    """The median of each way: as many rounds as fit into some seconds, and at least so many."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    order, end, rounds = random.Random(0), time.perf_counter() + seconds, 0
    while rounds < least or time.perf_counter() < end:
        for name in order.sample(list(ways), len(ways)):
            times[name].append(timed(ways[name]))
        rounds += 1
    return {name: median(found) for name, found in times.items()}
