"""What was measured, against the goals: RESULTS.md and its picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

Row = Mapping[str, Any]

TORCH = ("jacrev", "jacrev/64", "jacrev/256", "jacfwd", "loop", "vectorized")
COLD = ("ours", "loop", "vectorized", "jacfwd", "jacrev")
RIVALS = ("jax jacrev", "jax jacfwd", "asdex")

SCALE_GOALS = (("sin", 1_000_000, 2, 1024), ("stencil", 1_000_000, 2, 1024), ("outer", 2000, 2, 2048))
"""Function, n, seconds, MiB."""

SEEN = 4.0
"""Results of fewer MiB drown in what an allocator takes at a time: no goal of memory is read off them."""


WHY = {
    "structured, the same program again": "about 0.1 ms of every call is ours (reading the inputs, the graph and its "
    "structure), which is much where torch itself needs less than a millisecond.",
    "dense, repeated call: ": "about 0.1 ms of every call is ours before the first multiplication (reading the inputs, the "
    "graph and its structure); where torch itself needs no more than that (the sum of squares, an MLP with ten outputs) "
    "nothing is left to gain, and a recurrence of some hundred tiny operations is passed through torch's own engine.",
    "dense, repeated call, on every case": "the same 0.1 ms, on calls that take torch 0.2 ms.",
    "dense, program first seen": "the first call makes the index arrays and touches the memory of the result for the first "
    "time; torch's figure is a repeated call's.",
    "small (n ≤ 16)": "the same 0.1 ms, against three backward passes of 0.06 ms each.",
    "the very first call, on every case": "a millisecond of Python that runs for the first time; torch's loop has run its "
    "share while torch was imported.",
    "a structured map written out dense": "both are bound by touching the pages of the result; the scatter has its indices "
    "made beforehand, ours are made from the structure in the measured time.",
}
"""Why a goal is missed where it is, by how its text begins."""


def best_warm(row: Row, measured: str = "median") -> float:
    """Torch's best repeated call, ms: right after another one of its own, or "after" other ways' calls."""
    return min((row[measured][way] for way in TORCH if way in row[measured]), default=float("nan"))


def best_cold(row: Row) -> float:
    """Torch's best first call in a fresh process, ms."""
    return min((row["cold"][way] for way in COLD if way != "ours" and way in row["cold"]), default=float("nan"))


def goals(data: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Each goal, what was measured, met or not."""
    rows = list(data["rows"].values())
    structured = [row for row in rows if row["structured"]]
    dense = [row for row in rows if not row["structured"] and not row["case"].startswith("small")]
    small = [row for row in rows if row["case"].startswith("small")]
    cold = [row for row in rows if "ours" in row["cold"]]
    by_asdex = [row for row in cold if "asdex" in row["rivals"]]
    seen = [row for row in rows if row["peak"] and row["peak"]["result"] >= SEEN]

    def against(some: Iterable[Row], way: str) -> dict[str, float]:
        return {row["case"]: best_warm(row) / row["median"][way] for row in some}

    def memory(some: Iterable[Row]) -> dict[str, float]:
        return {row["case"]: row["peak"]["peak"] / row["peak"]["result"] for row in some}

    found = [
        mean(
            "structured, a program first seen, against torch's best warm call",
            {row["case"]: best_warm(row) / row["first"] for row in structured},
            10,
        ),
        mean("structured, the same program again", against(structured, "ours"), 50),
        mean(
            "the same, every call after other ways' calls, its code and memory out of the caches (no goal of its own)",
            {row["case"]: best_warm(row, "after") / row["after"]["ours"] for row in structured},
            0,
        ),
        mean("the same with every nonzero written out (no goal of its own)", against(structured, "ours + nonzeros"), 0),
        mean("dense, repeated call", against(dense, "ours dense"), 2),
        each("dense, repeated call, on every case", against(dense, "ours dense"), 1 / 1.05),
        each(
            "dense, program first seen, against torch's best warm call, on every case",
            {row["case"]: best_warm(row) / row["first"] for row in dense},
            1 / 1.05,
        ),
        each(
            "small (n ≤ 16), against the plain loop",
            {row["case"]: row["median"]["loop"] / row["median"]["ours dense"] for row in small},
            1,
        ),
        mean(
            "the very first call in a fresh process, against torch's best one",
            {row["case"]: best_cold(row) / row["cold"]["ours"] for row in cold},
            2,
        ),
        each(
            "the very first call, on every case",
            {row["case"]: best_cold(row) / row["cold"]["ours"] for row in cold},
            1 / 1.2,
        ),
        each(
            "the very first call, against asdex's detection + coloring + first call",
            {row["case"]: row["rivals"]["asdex"]["first"] / row["cold"]["ours"] for row in by_asdex},
            3,
        ),
        each(
            "a structured map written out dense, against np.zeros + scatter",
            {row["case"]: row["median"]["zeros + scatter"] / row["median"]["map to dense"] for row in structured},
            1,
        ),
        most("peak memory, dense, over the result", memory(r for r in seen if not r["structured"]), 1.3),
        most("peak memory, nonzeros with their places, over these", memory(r for r in seen if r["structured"]), 6),
    ]
    measured = {(row["name"], row["size"]): row for row in data["scale"]}
    for name, size, seconds, mebibytes in SCALE_GOALS:
        if row := measured.get((name, size)):
            text = f"{name}, n = {size:,}, first seen, nonzeros written out: under {seconds} s and {mebibytes} MiB"
            met = row["written"] < seconds and row["peak"] < mebibytes
            found.append((text, f"{row['written']:.2f} s, {row['peak']:.0f} MiB", met))
    return [line for line in found if line]


Line = tuple[str, str, bool]


def mean(text: str, ratios: Mapping[str, float], least: float) -> Line | None:
    """A goal for the geometric mean."""
    if not ratios:
        return None
    value, worst = geometric_mean(ratios.values()), min(ratios, key=lambda name: ratios[name])
    aim = f": at least {least:.3g}× in the geometric mean" if least else ""
    return text + aim, f"{value:.3g}× ({worst}: {ratios[worst]:.3g}×)", value >= least


def each(text: str, ratios: Mapping[str, float], least: float) -> Line | None:
    """A goal for every case."""
    if not ratios:
        return None
    worst = min(ratios, key=lambda name: ratios[name])
    missed = [f"{name} {value:.2f}×" for name, value in sorted(ratios.items(), key=lambda i: i[1]) if value < least]
    told = "; missed: " + ", ".join(missed) if missed else ""
    return f"{text}: at least {least:.3g}×", f"least {ratios[worst]:.3g}× ({worst}){told}", not missed


def most(text: str, ratios: Mapping[str, float], limit: float) -> Line | None:
    """A bound for every case."""
    if not ratios:
        return None
    worst = max(ratios, key=lambda name: ratios[name])
    missed = [f"{name} {value:.2f}×" for name, value in sorted(ratios.items()) if value > limit]
    told = "; missed: " + ", ".join(missed) if missed else ""
    return f"{text}: at most {limit:.3g}×", f"most {ratios[worst]:.3g}× ({worst}){told}", not missed


def report(data: Mapping[str, Any]) -> str:
    """RESULTS.md."""
    import torch

    rows = list(data["rows"].values())
    intro = (
        f"torch {torch.__version__}, every peer on one thread, Python {platform.python_version()}, {processor()}; "
        f"measured in {data['seconds'] / 60:.0f} minutes by `make bench`. Times in ms, medians; each case in processes of "
        "its own, the ways in turns. *First seen*: the first call of a program after another one ran in the process; "
        "*again*: its next calls, each right after one of the same way, as in a loop; *after others*: each after another "
        "way's, which leaves nothing of ours in the processor's caches; *nonzeros*: with every nonzero and its place written "
        "out; *dense*: written out dense; *limit*: one forward evaluation and filling a dense result. –: more memory than the "
        "machine has, or over 45 s."
    )
    warm_head = ["case", "m×n", "nnz", "structure", "limit", "first seen", "again", "after others", "nonzeros"]
    warm_head += ["dense", *TORCH]
    warm_head += ["torch / first seen", "torch / again"]
    parts = [
        "# Results of the benchmarks",
        intro,
        table(
            ["goal", "measured", "met"], [[text, value, "yes" if met else "**no**"] for text, value, met in goals(data)]
        ),
        *reasons(goals(data)),
        "## Repeated calls",
        table(warm_head, [warm_cells(row) for row in rows]),
        "## The very first call in a fresh process",
        "For JAX and asdex with what tracing, detection, coloring and compiling take; *again* is their repeated call.",
        table(
            ["case", *COLD, *RIVALS, "torch / ours", "asdex / ours", *(f"{way}, again" for way in RIVALS)],
            [cold_cells(row) for row in rows],
        ),
        "## Memory",
        "Peak over what the process holds before, MiB: a dense result, or the nonzeros with their places.",
        table(
            ["case", "result", "peak", "peak / result"],
            [
                [row["case"], number(p["result"]), number(p["peak"]), f"{p['peak'] / max(p['result'], 1e-9):.3g}×"]
                for row in rows
                if (p := row["peak"])
            ],
        ),
        "## Cost against nonzeros",
        "![Seconds against nonzeros](cost.svg)",
        table(
            ["function", "n", "nnz", "map made, s", "nonzeros written, s", "peak MiB"],
            [
                [
                    r["name"],
                    f"{r['size']:,}",
                    f"{r['nnz']:,}",
                    f"{r['made']:.4f}",
                    f"{r['written']:.4f}",
                    number(r["peak"]),
                ]
                for r in data["scale"]
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def card(rows: Iterable[Row], device: str) -> str:
    """RESULTS.DEVICE.md: the repeated calls on a graphics card."""
    import torch

    rows = list(rows)
    structured = [row for row in rows if row["structured"]]
    dense = [row for row in rows if not row["structured"]]
    first = {row["case"]: best_warm(row) / row["first"] for row in structured}
    lines = [
        mean("structured, first seen, against torch's best warm call", first, 0),
        mean("structured, again", {row["case"]: best_warm(row) / row["median"]["ours"] for row in structured}, 0),
        mean("dense, again", {row["case"]: best_warm(row) / row["median"]["ours dense"] for row in dense}, 0),
    ]
    parts = [
        f"# Results of the benchmarks on {device}",
        f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}, {processor()}; `python -m benchmarks.run --device "
        f"{device}`. Times in ms, medians, the card's work waited for; the tensors are on the card, and so are the results.",
        table(["", "measured"], [[text, value] for text, value, _ in filter(None, lines)]),
        table(
            ["case", "m×n", "nnz", "structure", "first seen", "again", "dense", *TORCH, "torch / first seen", "torch / again"],
            [
                [
                    row["case"], f"{row['m']}×{row['n']}", str(row["nnz"]), row["structure"], number(row["first"]),
                    *(number(row["median"].get(way)) for way in ("ours", "ours dense", *TORCH)),
                    f"{best_warm(row) / row['first']:.3g}×", f"{best_warm(row) / row['median']['ours']:.3g}×",
                ]
                for row in rows
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def reasons(lines: Iterable[Line]) -> list[str]:
    """Why the missed goals are missed."""
    missed = [text for text, _, met in lines if not met]
    told = [f"- {text}: {why}" for text in missed for start, why in WHY.items() if text.startswith(start)]
    return ["Why some are missed:", "\n".join(told)] if told else []


def warm_cells(row: Row) -> list[str]:
    """A case's line of repeated calls."""
    times, first = row["median"], row["first"]
    return [
        row["case"], f"{row['m']}×{row['n']}", str(row["nnz"]), row["structure"], number(times["floor"]), number(first),
        number(times["ours"]), number(row["after"]["ours"]),
        *(number(times.get(way)) for way in ("ours + nonzeros", "ours dense", *TORCH)),
        f"{best_warm(row) / first:.3g}×", f"{best_warm(row) / times['ours']:.3g}×",
    ]  # fmt: skip


def cold_cells(row: Row) -> list[str]:
    """A case's line of first calls."""
    ours = row["cold"].get("ours", float("nan"))
    rivals = row["rivals"]
    asdex = f"{rivals['asdex']['first'] / ours:.3g}×" if "asdex" in rivals else "–"
    return [
        row["case"], *(number(row["cold"].get(way)) for way in COLD),
        *(number(rivals.get(way, {}).get("first")) for way in RIVALS),
        f"{best_cold(row) / ours:.3g}×", asdex,
        *(number(rivals.get(way, {}).get("again")) for way in RIVALS),
    ]  # fmt: skip


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A table of Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def number(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def processor() -> str:
    """The machine's processor and how many of it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def plot(scale: list[Row], path: Path) -> None:
    """Seconds against nonzeros, both logarithmic, with a line of cost in proportion."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 4), layout="tight")).subplots()
    for name in dict.fromkeys(row["name"] for row in scale):
        rows = [row for row in scale if row["name"] == name]
        axes.loglog([row["nnz"] for row in rows], [row["written"] for row in rows], "o-", label=name)
    axes.loglog([1e5, 1e7], [1e-2, 1], "--", color="gray", label="in proportion")
    axes.set(xlabel="nonzeros", ylabel="seconds, first seen, nonzeros written out")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
