"""Measures every case and writes RESULTS.md and cost.svg; under 20 minutes.

python -m benchmarks.run [--only WORD] [--data FILE] [--resume FILE]
python -m benchmarks.run --device cuda [--only WORD]     the same cases on a graphics card: RESULTS.cuda.md
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import results

HERE = Path(__file__).parent
PATIENCE = 45
"""Seconds for one measurement; who takes longer is left out of the table."""

SCALES = {
    "sin": (10_000, 100_000, 1_000_000, 10_000_000),
    "stencil": (3_333, 33_333, 333_333, 1_000_000, 3_333_333),
    "outer": (71, 224, 707, 2000),
}


def worker(*arguments: str) -> dict[str, Any] | None:
    """One measurement in a process of its own; None where it failed."""
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        print(" ".join(arguments), f"took over {PATIENCE} s", file=sys.stderr)
        return None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        print(" ".join(arguments), "failed:", done.stderr.strip().splitlines()[-1:], file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measure(name: str) -> dict[str, Any] | None:
    """Every number of one case."""
    row = worker("warm", name)
    if row is None:
        return None
    ways = [way for way in results.COLD if way in row["median"] and row["median"][way] < 20_000]
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(3):  # in turns, so that whatever else the machine does hits all; those that load much, once
        for way in ways:
            if turn == 0 or (way in ("ours", "loop") and row["median"][way] < 500):
                found = worker("cold", name, way)
                samples[way] += [found["first"]] if found else []
    row["cold"] = {way: sorted(times)[len(times) // 2] for way, times in samples.items() if times}
    row["peak"] = worker("peak", name)
    row["rivals"] = {way: found for way in rivals_for(row) if (found := worker("rival", name, way))}
    return row


def rivals_for(row: dict[str, Any]) -> list[str]:
    """The peers outside torch that are installed, less those whose basis of n×n or m×m numbers would fill the memory."""
    if not (importlib.util.find_spec("jax") and importlib.util.find_spec("asdex")):
        return []
    largest = 1 << 29
    ways = {
        "jax jacrev": row["m"] * max(row["m"], row["n"]) < largest,
        "jax jacfwd": row["n"] * max(row["m"], row["n"]) < largest,
    }
    return [way for way, fits in ways.items() if fits] + ["asdex"]


def main() -> None:
    """Measure, report and write."""
    from benchmarks.cases import make_cases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this word; the report is printed")
    parser.add_argument("--resume", type=Path, help="a file of --data: what is in it is not measured again")
    parser.add_argument("--data", type=Path, help="write the numbers as JSON too, after every case")
    parser.add_argument("--device", default="cpu", help="where the cases' tensors are; another than cpu has a table of its own")
    options = parser.parse_args()
    if options.device != "cpu":
        rows = []
        for name in make_cases():
            if options.only in name and (row := worker("card", name, options.device)):
                rows.append(row)
                (HERE / f"RESULTS.{options.device}.md").write_text(results.card(rows, options.device))
        return
    start = time.perf_counter()
    data: dict[str, Any] = {"rows": {}, "scale": [], "seconds": 0.0}
    if options.resume and options.resume.exists():
        data = json.loads(options.resume.read_text())
    before = data["seconds"]

    def keep() -> None:
        data["seconds"] = before + time.perf_counter() - start
        if options.data:
            options.data.write_text(json.dumps(data, indent=1))

    for name in make_cases():
        if options.only in name and name not in data["rows"] and (row := measure(name)):
            data["rows"][name] = row
            keep()
            print(f"{name}: {row['first']:.3f} ms, torch {results.best_warm(row):.3f} ms", file=sys.stderr)
    if not options.only and not data["scale"]:
        points = [(name, size) for name, sizes in SCALES.items() for size in sizes]
        data["scale"] = [found for name, size in points if (found := worker("scale", name, str(size)))]
        keep()
    text = results.report(data)
    if options.only:
        print(text)
        return
    (HERE / "RESULTS.md").write_text(text)
    results.plot(data["scale"], HERE / "cost.svg")


if __name__ == "__main__":
    main()
