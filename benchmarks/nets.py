"""Real nets and programs, by inputs and by parameters: is the plan that is chosen the best one?

    python -m benchmarks.nets [WORD ...]      # the cases whose names hold a word; benchmarks/NETS.md holds a table

For each case, in milliseconds of processor time of one thread, the evaluation included: the chosen way, as a call that finds
its plan and its index arrays made; a first call, which makes them; and `jvpcli.jacobian` of the Python function, asked again.
They are told by the time of torch's best way: `functional.jacobian`, vectorized or not, `jacrev`, `jacfwd`.  Beside them: the
chosen way by the best of our others, and by a `vmap` over the samples of a batch written by hand.  All ways of a case take
turns, and medians are taken.  The memory that the chosen way and torch's best one take at most is told, too.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from math import exp, inf, log
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import jvpcli
from benchmarks.programs import Case, make_cases
from jvpcli.jacobians.engine import compute, plan
from jvpcli.jacobians.terms import Workspace
from jvpcli.report import Way

LIMIT = 30.0
"""Seconds by the clock after which a way is given up."""

ROUNDS, ENOUGH = 9, 1.0
"""In how many rounds all ways take their turns, and the seconds after which no further one begins."""

SLOW = 0.1
"""Seconds of a way that takes no further turns, where another takes a fifth of it."""

LARGEST = 1 << 28
"""Entries of a Jacobian, and of the one-hot basis of a vectorized way, that are still tried."""

ALLOWED = 1.3


class TooLongError(Exception):
    """A way took more than LIMIT."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLongError inside after so many seconds."""

    def stop(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Processor time of each way, in ms: medians of turns; infinite where it fails or takes too long."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    first = {name: min(_once(way), _once(way)) for name, way in ways.items()}  # what the very first loads is another matter
    begun, least = time.process_time(), min(first.values())
    turns = [name for name, taken in first.items() if taken < max(SLOW, 5 * least)]
    for number in range(ROUNDS):
        Random(number).shuffle(turns)  # what comes after a long one finds less in the caches
        for name in turns:
            times[name].append(_once(ways[name]))
        if time.process_time() - begun > ENOUGH:
            break
    return {name: 1e3 * statistics.median(found or [first[name]]) for name, found in times.items()}


def _once(way: Callable[[], Any]) -> float:
    try:
        with limited(LIMIT):
            start = time.process_time()
            way()
            return time.process_time() - start
    except (RuntimeError, ValueError, MemoryError, TooLongError):
        return inf
    except Exception as error:  # a strategy that can't be gone, or one of torch's that does not know an operation
        if "Error" not in type(error).__name__:
            raise
        return inf


def peak(way: Callable[[], Any]) -> float:
    """MiB of tensors that a call holds at most over what there was before, by what torch's profiler tells of its allocator.

    In a fork: a process that has profiled once may take longer for what is measured after that.
    """
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            way()
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
                found = way()
            events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
            held = accumulate([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
            os.write(writing, str(max(held, default=0)).encode())
            del found
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return int(told) / 2**20 if told else float("nan")


def our_ways(case: Case) -> dict[str, Callable[[], Any]]:
    """The chosen way, with the plan found made and with all planning; each other strategy."""

    def evaluated() -> tuple[Tensor, list[Tensor]]:
        leaves = [x.clone().requires_grad_() for x in case.inputs]
        return case.function(*leaves), leaves

    def gone(way: Way) -> Callable[[], Any]:
        work = Workspace()  # as of an earlier call

        def go() -> Any:
            planned = plan(*evaluated())
            work.structure(work.key(*planned.key), lambda: way)
            done = compute(planned, work)
            if (done.way.strategy, done.way.mode) != (way.strategy, way.mode):
                raise RuntimeError("another way was gone")
            return done.maps

        return go

    planned = plan(*evaluated())
    strategies = [("accumulated", "reverse"), ("accumulated", "forward"), ("dense", "reverse"), ("dense", "forward")]
    if planned.graph.n > 8 * planned.graph.m:
        strategies = [each for each in strategies if each[1] == "reverse"]
    if planned.graph.spine:
        strategies.append(("batched", "reverse"))
    ways = {
        " ".join(each): gone(Way(*each, 0, 0, 0, True))
        for each in strategies
        if each != (planned.chosen.strategy, planned.chosen.mode)  # measured twice, it would differ from itself
    }
    return {
        "chosen": gone(planned.chosen),
        "first": lambda: compute(plan(*evaluated())).maps,
        "asked": lambda: jvpcli.jacobian(case.function, *case.inputs),
        **ways,
    }


def torch_ways(case: Case) -> dict[str, Callable[[], Any]]:
    """Torch's ways."""
    every = tuple(range(len(case.inputs)))
    m, n = case.function(*case.inputs).numel(), sum(x.numel() for x in case.inputs)
    jacobian = torch.autograd.functional.jacobian
    ways = {
        "loop": lambda: jacobian(case.function, case.inputs),
        "vectorized": lambda: jacobian(case.function, case.inputs, vectorize=True),
        "jacrev": lambda: torch.func.jacrev(case.function, every)(*case.inputs),
    }
    if n <= 8 * m and n * (n + m) <= LARGEST:
        ways["jacfwd"] = lambda: torch.func.jacfwd(case.function, every)(*case.inputs)
    return ways


COLUMNS = (
    "case", "m×n", "way", "chosen", "torch's best", "", "chosen by it", "first by it", "asked by it", "by our best", "by hand",
    "MiB",
)  # fmt: skip


def main(words: list[str]) -> int:
    """Measures and prints; 1 where a plan was not good enough."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says on stderr that it starts
    over: list[tuple[float, str]] = []
    logs: list[float] = []
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for case in make_cases():
        if words and not any(word.lower() in case.name.lower() for word in words):
            continue
        our, their = our_ways(case), torch_ways(case)
        by_hand = {"by hand": case.per_sample} if case.per_sample else {}
        found = measure({**our, **their, **by_hand})
        best = min(their, key=lambda name: found[name])
        chosen, first, asked = (found[name] / found[best] for name in ("chosen", "first", "asked"))
        own = found["chosen"] / min([found[name] for name in list(our)[3:]], default=inf)
        held = [peak(way) for way in (our["chosen"], their[best])]
        leaves = [x.clone().requires_grad_() for x in case.inputs]
        planned = plan(case.function(*leaves), leaves)
        cells = (
            case.name, f"{planned.graph.m}×{planned.graph.n}", f"{planned.chosen.strategy} {planned.chosen.mode}",
            f"{found['chosen']:.3g}", best, f"{found[best]:.3g}", f"{chosen:.2f}", f"{first:.2f}", f"{asked:.2f}", f"{own:.2f}",
            f"{found['chosen'] / found['by hand']:.2f}" if found.get("by hand", inf) < inf else "–",
            f"{held[0]:.2g} against {held[1]:.2g}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
        if found[best] < inf:
            logs.append(log(chosen))
        if max(chosen, first, own) > ALLOWED:
            over.append((max(chosen, first, own), case.name))
    print(f"\n{len(logs)} cases; the chosen way by torch's best, geometric mean: {exp(sum(logs) / max(1, len(logs))):.3f}.")
    print(f"Over {ALLOWED}: {', '.join(f'{name} {ratio:.2f}' for ratio, name in sorted(over, reverse=True)) or 'none'}.")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
