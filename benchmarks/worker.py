"""One measurement in a process of its own; prints one line of JSON.

python -m benchmarks.worker warm CASE         every way, interleaved, after a warm-up
python -m benchmarks.worker card CASE DEVICE  the same on a graphics card, its work waited for
python -m benchmarks.worker cold CASE WAY     one way's first call
python -m benchmarks.worker peak CASE         the engine's peak memory, over its result
python -m benchmarks.worker scale NAME SIZE   the engine at size
python -m benchmarks.worker rival CASE WAY    a peer outside torch
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.cases import Case, make_cases, make_constants
from benchmarks.turns import again, by_clock, in_turns

BUDGET = 2.0
"""Seconds of measuring for a case, over all ways."""

SLOW = 800.0
"""A way that takes so many ms is measured once."""


ENDLESS = 8000.0
"""A way that takes so many ms is called once."""


def run_another(name: str, cases: dict[str, Case]) -> None:
    """A program that is not the case's: what the engine loads when first called is loaded then."""
    peers.ours(cases["attention to Q" if name != "attention to Q" else "conv1d 2048"])()


def warm(name: str) -> dict[str, Any]:
    """Medians in ms; `first`: a program that this process has not run, after another has."""
    cases = make_cases()
    return measured(name, cases, peers.our_ways)


def card(name: str, device: str) -> dict[str, Any]:
    """Medians in ms, with the function's tensors on that device."""
    with torch.device(device):
        cases = make_cases()
    return measured(name, cases, lambda case: {"ours": peers.ours(case), "ours dense": peers.ours_dense(case)})


def measured(name: str, cases: dict[str, Case], our_ways: Callable[[Case], dict[str, peers.Way]]) -> dict[str, Any]:
    """Our ways of a case and torch's, in turns."""
    case = cases[name]
    run_another(name, cases)
    case.function(*case.inputs)  # what torch sets up for the function itself (kernels made by oneDNN) is no part of it
    first = by_clock(peers.ours(case))
    for way in peers.possible_peers(cases["small: MLP 16"]).values():
        way()  # what a way loads when first called is no part of its repeated call
    ways = our_ways(case) | peers.possible_peers(case)
    once = tried(name, ways)
    quick = {label: ways[label] for label, milliseconds in once.items() if milliseconds < SLOW}
    found = peers.ours(case)()
    return {
        "case": name,
        "structured": case.structured,
        "m": found[0].m,
        "n": sum(x.numel() for x in case.inputs),
        "nnz": sum(j.nnz or 0 for j in found),
        "structure": found[0].structure,
        "first": first,
        "median": once | in_turns(quick, again(by_clock), BUDGET, 3),
        "after": once | in_turns(quick, by_clock, BUDGET / 2, 3),
    }


def tried(name: str, ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of one call of every way that can do the case."""
    once = {}
    for label, way in ways.items():
        try:
            once[label] = by_clock(way)
            if once[label] < ENDLESS:  # the first call also pays for memory that the process has never touched
                once[label] = by_clock(way)
        except (RuntimeError, MemoryError, NotImplementedError) as error:
            once.pop(label, None)
            print(f"{name}: {label}: {str(error)[:80]}", file=sys.stderr)
    return once


def cold(name: str, way: str) -> dict[str, Any]:
    """The first call in a fresh process, ms; the functions of the case itself have run once."""
    case = make_cases()[name]
    case.function(*case.inputs)
    call = peers.ours(case) if way == "ours" else peers.possible_peers(case)[way]
    return {"first": by_clock(call)}


def peak(name: str) -> dict[str, Any]:
    """MiB over what the process holds before, and of the result: dense, or the nonzeros with their places."""
    case = make_cases()[name]
    run_another(name, make_cases())
    case.function(*case.inputs)
    call = peers.ours_written(case) if case.structured else peers.ours_dense(case)
    with Watched() as memory:
        result = call()
    tensors = [t for each in result for t in ([each] if isinstance(each, torch.Tensor) else each)]
    return {"peak": memory.mebibytes, "result": sum(t.numel() * t.element_size() for t in tensors) / 2**20}


class Watched:
    """The peak of the process's memory inside a `with`, over what it held at its start; Linux alone can tell."""

    def __enter__(self) -> Watched:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
        self.before = _status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        self.mebibytes = (_status("VmHWM") - self.before) / 1024


def _status(field: str) -> int:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


SCALE = {
    "sin": torch.sin,
    "stencil": lambda x: torch.roll(x, 1) + torch.roll(x, -1) - 2 * x,
    "outer": lambda x: torch.outer(x, x),
}


def scale(name: str, size: int) -> dict[str, Any]:
    """Seconds and MiB of a first-seen Jacobian, and with all its nonzeros written out."""
    run_another("", make_cases())
    case = Case(name, SCALE[name], (torch.randn(size),), True)
    call = peers.ours(Case(name, lambda x: SCALE[name](x), case.inputs, True))
    with Watched() as memory:
        start = time.perf_counter()
        (found,) = call()
        made = time.perf_counter() - start
        found.entries()
        written = time.perf_counter() - start
    return {
        "name": name, "size": size, "nnz": found.nnz, "made": made, "written": written, "peak": memory.mebibytes,
    }  # fmt: skip


def rival(name: str, way: str) -> dict[str, Any]:
    """A peer of JAX's: its first call and a repeated one, ms."""
    from benchmarks import rivals

    return rivals.measure(make_cases()[name], make_constants(), way)


if __name__ == "__main__":
    torch.set_num_threads(1)  # with more, whoever else uses the machine decides the time
    kind, *rest = sys.argv[1:]
    kinds = {"warm": warm, "card": card, "cold": cold, "peak": peak, "rival": rival, "scale": lambda n, s: scale(n, int(s))}
    print(json.dumps(kinds[kind](*rest)))
