"""How fast the commands start, and how many lines a second a batch answers; written to docs/startup.md.

Commands that are compared run in turn, one after the other, again and again, so that whatever else the machine does
meets all of them; the medians are divided.  Where `hyperfine` is installed it times the runs, else Python does.

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
    Goal("jvp inspect (text)", f"{BIN}/jvp inspect {EXAMPLE}", TORCH, 0.80),
    Goal("jvp inspect --json", f"{BIN}/jvp inspect {EXAMPLE} --json", TORCH, 0.80),
    Goal("jvp trace", f"{BIN}/jvp trace {EXAMPLE}", TORCH, 0.85),
    Goal("jvp check", f"{BIN}/jvp check {EXAMPLE}", TORCH, 0.95),
)

LINES = 2000
LEAST_LINES = 800
LEAST_GAIN = 1.8


@dataclass(frozen=True)
class Time:
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


def medians(commands: Sequence[str], runs: int, timed: Callable[[str], Time]) -> dict[str, Time]:
    """The times of each command, in turn; the first round warms up."""
    times: dict[str, list[Time]] = {command: [] for command in commands}
    for round_number in range(runs + 1):
        for command in times:
            found = timed(command)
            if round_number:
                times[command].append(found)
    return {
        command: Time(statistics.median(t.wall for t in found), statistics.median(t.processor for t in found))
        for command, found in times.items()
    }


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
    seconds = medians([TYPER, TORCH, *(goal.command for goal in GOALS)], runs, timed)
    rows = [f"| `python -c 'import typer, rich'` | {1000 * seconds[TYPER].wall:.0f} ms | | | | |"]
    rows.append(f"| `python -c 'import torch'` | {1000 * seconds[TORCH].wall:.0f} ms | | | | |")
    rows += [_row(goal, seconds[goal.command], seconds[goal.base]) for goal in GOALS]
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


def _row(goal: Goal, found: Time, base: Time) -> str:
    ratio, processor = found.wall / base.wall, found.processor / base.processor
    against = "typer, rich" if goal.base == TYPER else "torch"
    met = "met" if ratio <= goal.most else "missed"
    return (
        f"| `{goal.name}` | {1000 * found.wall:.0f} ms | {ratio:.2f}× {against} | {processor:.2f}× "
        f"| ≤ {goal.most:.2f}× | {met} |"
    )


TEXT = """\
# How fast it starts

Written by `make bench-cli`: medians of {runs} runs of each command, in turn, by {how}, on
{machine}; load averages at the end {load}.

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
