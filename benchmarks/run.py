"""Measures every case and writes RESULTS.md (and cost.svg); under 20 minutes.

python -m benchmarks.run [--only WORD] [--no-cold]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TORCH = ("jacrev", "jacrev/64", "jacrev/256", "jacfwd", "loop", "vectorized")
COLD = ("ours", "loop", "jacfwd", "jacrev")


def worker(*arguments: str) -> dict[str, Any] | None:
    """One measurement in a process of its own; None where it failed."""
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        print(" ".join(arguments), "failed:", done.stderr.strip().splitlines()[-1:], file=sys.stderr)
        return None
    return json.loads(lines[-1])


def measure(names: list[str], with_cold: bool, known: dict[str, Any]) -> dict[str, Any]:
    """Every number of the report that is not known."""
    rows: dict[str, Any] = {}
    for name in names:
        if name in known["rows"]:
            rows[name] = known["rows"][name]
            continue
        row = worker("warm", name)
        if row is None:
            continue
        row["cold"] = {}
        for way in COLD if with_cold else ():
            if way == "ours" or (way in row["median"] and row["median"][way] < 20000):
                found = worker("cold", name, way)
                if found:
                    row["cold"][way] = found
        rows[name] = row
        print(f"{name}: {row['median'].get('ours: first seen'):.3f} ms, torch {best_warm(row):.3f} ms", file=sys.stderr)
    sizes = [(10_000, "sin"), (100_000, "sin"), (1_000_000, "sin"), (10_000_000, "sin")]
    sizes += [(3_333, "stencil"), (33_333, "stencil"), (333_333, "stencil"), (1_000_000, "stencil")]
    sizes += [(71, "outer"), (224, "outer"), (707, "outer"), (2000, "outer")]
    scale = known["scale"] or [found for size, name in sizes if (found := worker("scale", name, str(size)))]
    return {"rows": rows, "scale": scale}


def best_warm(row: dict[str, Any]) -> float:
    """Torch's best repeated call, ms."""
    return min((row["median"][way] for way in TORCH if way in row["median"]), default=float("nan"))


def best_cold(row: dict[str, Any]) -> float:
    """Torch's best first call in a fresh process, ms."""
    return min((row["cold"][way]["first"] for way in TORCH if way in row["cold"]), default=float("nan"))


def mean(ratios: list[float]) -> float:
    """Geometric."""
    product = 1.0
    for ratio in ratios:
        product *= ratio ** (1 / len(ratios))
    return product


def goals(data: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each goal, what was measured, met or not."""
    rows = list(data["rows"].values())
    structured = [row for row in rows if row["structured"]]
    dense = [row for row in rows if not row["structured"] and not row["case"].startswith("small")]
    small = [row for row in rows if row["case"].startswith("small")]
    found = []

    def ratio(row: dict[str, Any], way: str) -> float:
        return best_warm(row) / row["median"][way]

    def goal(text: str, numbers: dict[str, float], least: float, every: bool = False) -> None:
        if not numbers:
            return
        worst = min(numbers, key=lambda name: numbers[name])
        value = numbers[worst] if every else mean(list(numbers.values()))
        found.append((text, f"{value:.3g}× (least: {worst}, {numbers[worst]:.3g}×)", value >= least))

    def by_case(some: list[dict[str, Any]], way: str) -> dict[str, float]:
        return {row["case"]: ratio(row, way) for row in some}

    first = {row["case"]: best_warm(row) / row["very first seen"] for row in structured}
    goal("structured, program first seen, against torch's best warm call: 10× (geometric mean)", first, 10)
    goal("structured, plan reused: 50× (geometric mean)", by_case(structured, "ours: again"), 50)
    goal("the same with every nonzero written out", by_case(structured, "ours: again + nonzeros"), 50)
    goal("dense, repeated call, written out dense: 2× (geometric mean)", by_case(dense, "ours: again + dense"), 2)
    goal("dense, never slower than 1.05×", by_case(dense, "ours: again + dense"), 1 / 1.05, every=True)
    goal(
        "small (n ≤ 16), not slower than the plain loop",
        {row["case"]: row["median"]["loop"] / row["median"]["ours: again + dense"] for row in small},
        1,
        every=True,
    )
    cold = {row["case"]: best_cold(row) / row["cold"]["ours"]["first"] for row in rows if "ours" in row["cold"]}
    goal("very first call in a fresh process: 2× (geometric mean)", cold, 2)
    goal("very first call, never slower than 1.2×", cold, 1 / 1.2, every=True)
    for name, size, seconds, mebibytes in (
        ("sin", 1_000_000, 2, 1024),
        ("stencil", 1_000_000, 2, 1024),
        ("outer", 2000, 2, 2048),
    ):
        for row in data["scale"]:
            if (row["name"], row["size"]) == (name, size):
                text = f"{name} at n = {size:,} in under {seconds} s and {mebibytes} MiB, nonzeros written out"
                ok = row["written"] < seconds and row["peak"] < mebibytes
                found.append((text, f"{row['written']:.2f} s, {row['peak']:.0f} MiB", ok))
    return found


def report(data: dict[str, Any], seconds: float) -> str:
    """RESULTS.md."""
    import torch

    lines = [
        "# Results of the benchmarks",
        "",
        f"torch {torch.__version__} on one thread, Python {platform.python_version()}, "
        f"{processor()}; measured in {seconds / 60:.0f} minutes by `make bench`.",
        "Medians in ms, interleaved in one process a case; *first seen*: the program's first call after another program",
        "ran; *again*: index arrays reused; *nonzeros*: with every nonzero and its place written out; *dense*: written out",
        "dense; *floor*: one forward evaluation and filling a dense result; *cold*: first call in a fresh process, and its",
        "peak memory over the process after one forward (MiB). –: not possible in the machine's memory, or over a minute.",
        "",
        "| goal | measured | met |",
        "|---|---|---|",
        *[f"| {text} | {value} | {'yes' if ok else '**no**'} |" for text, value, ok in goals(data)],
        "",
        "| case | m×n | nnz | structure | floor | first seen | again | + nonzeros | + dense | "
        + " | ".join(TORCH)
        + " | best torch / first seen | best torch / again |",
        "|" + "---|" * (11 + len(TORCH)),
    ]
    for row in data["rows"].values():
        times = row["median"]
        ours = [
            row["very first seen"],
            *[times[k] for k in ("ours: again", "ours: again + nonzeros", "ours: again + dense")],
        ]
        cells = [
            row["case"], f"{row['m']}×{row['n']}", str(row["nnz"]), row["structure"], number(times["floor"]),
            *[number(t) for t in ours], *[number(times.get(way)) for way in TORCH],
            f"{best_warm(row) / ours[0]:.3g}×", f"{best_warm(row) / ours[1]:.3g}×",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| cold: first call ms (peak MiB) | " + " | ".join(COLD) + " | best torch / ours |",
        "|" + "---|" * (2 + len(COLD)),
    ]
    for row in data["rows"].values():
        cells = [f"{number(c['first'])} ({c['peak']:.0f})" if (c := row["cold"].get(way)) else "–" for way in COLD]
        gain = f"{best_cold(row) / row['cold']['ours']['first']:.3g}×" if "ours" in row["cold"] else "–"
        lines.append(f"| {row['case']} | " + " | ".join(cells) + f" | {gain} |")
    lines += [
        "",
        "## Cost against nonzeros",
        "",
        "![cost](cost.svg)",
        "",
        "| function | n | nnz | s, map made | s, nonzeros written | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in data["scale"]:
        lines.append(
            f"| {row['name']} | {row['size']:,} | {row['nnz']:,} | {row['made']:.4f} | {row['written']:.4f} | {row['peak']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def processor() -> str:
    """The machine's processor and how many of it."""
    import os

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def plot(data: dict[str, Any]) -> str:
    """Seconds against nonzeros, both logarithmic, as SVG (no plotting library needed)."""
    from math import log10

    colors = {"sin": "#1f77b4", "stencil": "#d62728", "outer": "#2ca02c"}

    def place(nnz: float, seconds: float) -> tuple[float, float]:
        return 60 + 130 * (log10(nnz) - 4), 300 - 60 * (log10(max(seconds, 1e-5)) + 4)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="520" height="360" font-family="sans-serif" font-size="11">',
        '<rect width="520" height="360" fill="white"/>',
    ]
    for power in range(4, 8):
        x, _ = place(10**power, 1)
        parts.append(
            f'<line x1="{x}" y1="40" x2="{x}" y2="320" stroke="#ddd"/><text x="{x - 8}" y="335">10^{power}</text>'
        )
    for power in range(-4, 1):
        _, y = place(1e4, 10.0**power)
        parts.append(
            f'<line x1="60" y1="{y}" x2="480" y2="{y}" stroke="#ddd"/><text x="15" y="{y + 4}">10^{power} s</text>'
        )
    for position, name in enumerate(colors):
        points = [place(row["nnz"], row["written"]) for row in data["scale"] if row["name"] == name and row["nnz"]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colors[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colors[name]}"/>' for x, y in points]
        parts.append(f'<text x="{80 + 90 * position}" y="25" fill="{colors[name]}">{name}</text>')
    parts.append('<text x="220" y="352">nonzeros</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    from benchmarks.cases import make_cases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--no-cold", action="store_true", help="leave the first calls in fresh processes out")
    parser.add_argument("--resume", type=Path, help="a file of --data: cases in it are not measured again")
    parser.add_argument("--data", type=Path, help="write the numbers as JSON too")
    options = parser.parse_args()
    start = time.perf_counter()
    names = [name for name in make_cases() if options.only in name]
    known = json.loads(options.resume.read_text()) if options.resume else {"rows": {}, "scale": []}
    data = measure(names, not options.no_cold, known)
    if options.data:
        options.data.write_text(json.dumps(data, indent=1))
    text = report(data, time.perf_counter() - start)
    if options.only:
        print(text)
        return
    (HERE / "RESULTS.md").write_text(text)
    (HERE / "cost.svg").write_text(plot(data))


if __name__ == "__main__":
    main()
