"""One measurement in a process of its own; prints one line of JSON.

python -m benchmarks.worker warm CASE         every way, interleaved, after a warm-up
python -m benchmarks.worker cold CASE WAY     one way's first call, and its peak memory
python -m benchmarks.worker scale NAME SIZE   the engine at size
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import peers
from benchmarks.cases import make_cases

BUDGET = 3.0
"""Seconds of measuring for a case, over all ways."""

SLOW = 800.0
"""A way that takes so many ms is measured once."""


def timed(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = way()
    seconds = time.perf_counter() - start
    del result
    return seconds * 1e3


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


def warm(name: str) -> dict[str, Any]:
    """Medians in ms; the first-seen call is one whose program this process has not run, after another has."""
    cases = make_cases()
    case = cases[name]
    other = cases["attention to Q" if name != "attention to Q" else "conv1d 2048"]
    peers.ours(other)()
    first = timed(peers.ours(case))
    for way in peers.possible_peers(cases["small: MLP 16"]).values():
        way()  # what a way loads when first called is no part of its repeated call
    ways = {label: make(case) for label, make in peers.OURS} | peers.possible_peers(case)
    once = {}
    for label, way in list(ways.items()):
        try:
            once[label] = timed(way)
            if once[label] < SLOW:
                once[label] = timed(way)
        except (RuntimeError, MemoryError, NotImplementedError) as error:
            del ways[label]
            once.pop(label, None)
            print(f"{name}: {label}: {str(error)[:80]}", file=sys.stderr)
    samples: dict[str, list[float]] = {label: [once[label]] for label in ways}
    start = time.perf_counter()
    rounds = 0
    while rounds < 4 or (rounds < 60 and time.perf_counter() - start < BUDGET):
        for label, way in ways.items():
            if once[label] >= SLOW:
                continue
            for _ in range(3 if once[label] < 1 else 1):
                samples[label].append(timed(way))
        rounds += 1
        if time.perf_counter() - start > 3 * BUDGET:
            break
    found = peers.ours(case)()
    m, n = found[0].m, sum(x.numel() for x in case.inputs)
    return {
        "case": name,
        "structured": case.structured,
        "m": m,
        "n": n,
        "nnz": sum(j.nnz or 0 for j in found),
        "structure": found[0].structure,
        "very first seen": first,
        "median": {label: median(values) for label, values in samples.items()},
    }


def cold(name: str, way: str) -> dict[str, Any]:
    """The first call in a fresh process, ms; and the peak over the process after one forward, MiB."""
    case = make_cases()[name]
    case.function(*case.inputs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call = {"ours": peers.ours, "ours dense": _dense}.get(way)
    milliseconds = timed(call(case) if call else peers.possible_peers(case)[way])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"case": name, "way": way, "first": milliseconds, "peak": (after - before) / 1024}


def _dense(case: Any) -> Callable[[], Any]:
    call = peers.ours(case)
    return lambda: [found.to_dense() for found in call()]


SCALE = {
    "sin": torch.sin,
    "stencil": lambda x: torch.roll(x, 1) + torch.roll(x, -1) - 2 * x,
    "outer": lambda x: torch.outer(x, x),
}


def scale(name: str, size: int) -> dict[str, Any]:
    """Seconds and MiB of the Jacobian with all its nonzeros written out."""
    from jvpcli.derive.engine import compute

    function = SCALE[name]
    warm_up = torch.randn(8, requires_grad=True)
    compute(function(warm_up), [warm_up])
    x = torch.randn(size, requires_grad=True)
    function(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    (found,) = compute(function(x), [x]).maps
    made = time.perf_counter() - start
    found.entries()
    written = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"name": name, "size": size, "nnz": found.nnz, "made": made, "written": written, "peak": peak}


if __name__ == "__main__":
    torch.set_num_threads(1)  # with more, whoever else uses the machine decides the time
    kind, *rest = sys.argv[1:]
    answer = {"warm": warm, "cold": cold, "scale": lambda n, s: scale(n, int(s))}[kind](*rest)
    print(json.dumps(answer))
