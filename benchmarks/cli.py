"""How fast the commands start, and how many lines a second a batch answers; written to docs/startup.md.

Commands that are compared run in turn, one after the other, again and again, so that whatever else the machine does
meets all of them; each is divided by what it is compared with in the same round, and the median of that is told.
Where `hyperfine` is installed it times the runs, else Python does.

    python -m benchmarks.cli [RUNS]
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).parent.parent / "docs" / "startup.md"
BIN = Path(sys.executable).parent
EXAMPLE = "'torch.outer(x,x)' --x 1,2,3,4"

TYPER = f"{BIN}/python -c 'import typer, rich'"
TORCH = f"{BIN}/python -c 'import torch'"


@dataclass(frozen=True)
class Goal:
    """A command, what it is compared with, and the ratio that is wanted."""

    name: str
    command: str
    base: str
    most: float


GOALS = (
    Goal("jvp --help", f"{BIN}/jvp --help", TYPER, 1.5),
    Goal("jvp inspect (text)", f"{BIN}/jvp inspect {EXAMPLE}", TORCH, 0.75),
    Goal("jvp inspect --json", f"{BIN}/jvp inspect {EXAMPLE} --json", TORCH, 0.75),
    Goal("jvp trace", f"{BIN}/jvp trace {EXAMPLE}", TORCH, 0.78),
    Goal("jvp check", f"{BIN}/jvp check {EXAMPLE}", TORCH, 0.80),
)

LINES = 2000
LEAST_LINES = 800
LEAST_GAIN = 1.8


class Time(NamedTuple):
    """Seconds of a run: by the clock, and of the processor, which other work on the machine disturbs less."""

    wall: float
    processor: float


def by_python(command: str) -> Time:
    """One run."""
    start = time.perf_counter()
    process = subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    return Time(time.perf_counter() - start, used.ru_utime + used.ru_stime)


def by_hyperfine(command: str) -> Time:
    """The same, timed by hyperfine."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words = ["hyperfine", "--shell=none", "--runs=1", "--export-json", file.name, command]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.load(file)["results"][0]
        return Time(found["median"], found["user"] + found["system"])


def in_rounds(commands: Sequence[str], runs: int, timed: Callable[[str], Time]) -> dict[str, list[Time]]:
    """The times of each command, in turn; the first round warms up."""
    times: dict[str, list[Time]] = {command: [] for command in commands}
    for round_number in range(runs + 1):
        for command in times:
            found = timed(command)
            if round_number:
                times[command].append(found)
    return times


def throughput(jobs: int, cores: set[int]) -> float:
    """Lines a second of a batch that is confined to some cores, the time to the first answer left out."""
    request = json.dumps({"expression": "torch.outer(x,x)", "inputs": {"x": [1, 2, 3, 4]}}) + "\n"
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(request * LINES)
        file.flush()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [BIN / "jvp", "batch", file.name, "--jobs", str(jobs)],
            stdout=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores) if cores else None,
        )
        assert process.stdout is not None
        warm = LINES // 10
        for _ in range(warm):
            process.stdout.readline()
        start = time.perf_counter()
        count = sum(1 for _ in process.stdout)
        elapsed = time.perf_counter() - start
        process.wait()
        assert count == LINES - warm
        return count / elapsed


def report(runs: int) -> str:
    """The whole file."""
    timed = by_hyperfine if shutil.which("hyperfine") else by_python
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each run compiles the program anew
    times = in_rounds([TYPER, TORCH, *(goal.command for goal in GOALS)], runs, timed)
    rows = [f"| `python -c 'import typer, rich'` | {_milliseconds(times[TYPER])} | | | | |"]
    rows.append(f"| `python -c 'import torch'` | {_milliseconds(times[TORCH])} | | | | |")
    rows += [_row(goal, times[goal.command], times[goal.base]) for goal in GOALS]
    cores = sorted(os.sched_getaffinity(0))
    pairs = [(throughput(1, {cores[0]}), throughput(2, set(cores))) for _ in range(3)]
    one, two = (statistics.median(found) for found in zip(*pairs, strict=True))
    gain = statistics.median(b / a for a, b in pairs)
    return TEXT.format(
        rows="\n".join(rows),
        how="hyperfine" if timed is by_hyperfine else "Python's clock",
        runs=runs,
        machine=f"{platform.system()} {platform.machine()}, {len(cores)} cores, Python {platform.python_version()}",
        load=", ".join(f"{load:.1f}" for load in os.getloadavg()),
        lines=LINES,
        one=one,
        two=two,
        gain=gain,
        met_one="met" if one >= LEAST_LINES else "missed",
        met_two="met" if gain >= LEAST_GAIN else "missed",
    )


def _row(goal: Goal, found: Sequence[Time], base: Sequence[Time]) -> str:
    """A goal holds for the processor's time; the two that are divided are of the same round."""
    pairs = list(zip(found, base, strict=True))
    wall, processor = (statistics.median(a[k] / b[k] for a, b in pairs) for k in (0, 1))
    against = "typer, rich" if goal.base == TYPER else "torch"
    met = "met" if processor <= goal.most else "missed"
    return f"| `{goal.name}` | {_milliseconds(found)} | {wall:.2f}× {against} | {processor:.2f}× | ≤ {goal.most:.2f}× | {met} |"


def _milliseconds(found: Sequence[Time]) -> str:
    return f"{1000 * statistics.median(each.wall for each in found):.0f} ms"


TEXT = """\
# How fast it starts

Written by `make bench-cli`: medians of {runs} runs of each command, in turn, by {how}, on
{machine}; load averages at the end {load}. A ratio is the median of those within a round,
and the goals hold for the processor's time, which other work on the machine disturbs less.

| command | time | ratio | of processor time | goal | |
| --- | --- | --- | --- | --- | --- |
{rows}

It can be faster than importing torch and leaving, because the collector is off while torch loads, and because the
process leaves at once when everything is flushed, instead of tearing the interpreter down. What does not compute
loads no torch; a small problem loads nothing but torch itself (`tests/cli/test_startup.py` lists what may be loaded).

# How many lines a second

`jvp batch` with {lines} requests for `torch.outer(x, x)` with 4 entries, the full answer, after loading:

| | lines a second | goal | |
| --- | --- | --- | --- |
| one job, on one core | {one:.0f} | ≥ 800 | {met_one} |
| two jobs | {two:.0f}, {gain:.2f}× | ≥ 1.8× | {met_two} |
"""


if __name__ == "__main__":
    TARGET.write_text(report(int(sys.argv[1]) if len(sys.argv) > 1 else 15), encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"))
