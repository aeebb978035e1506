"""`make fuzz`: every fuzzer by turns, with new examples, until the time is over; what became of the tries, by family.

It ends with 1 if anything failed.  The seed is printed first: `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS / "language"))

TURNS = {
    "mutated calls": ("language/child_tries.py", "--count", "2000"),
    "expressions": ("language/child_tries.py", "--expressions", "--count", "2000"),
    "programs": ("language/program_tries.py", "--count", "5000"),
    "command lines": ("cli/hostile_commands.py", "--count", "60"),
    "claims": ("claims/examined_claims.py", "--count", "5000"),
}
"""The fuzzers that print a JSON line for each try, and what each does in its turn."""

EXAMPLES = 100
"""Of each property test in its turn."""

FINE = {"ok", "raises", "none", "hangs", "bad_value", "evaluation", "file", "forbidden", "limit", "not_differentiable",
        "shape_mismatch", "stands", "syntax", "undecided", "unknown_name", "usage",
        *(f"exit {code}" for code in (0, 2, 3, 4, 5, 6, 7, 8))}  # fmt: skip
"""What may become of a try."""


def tries(family: str, seed: str, seconds: float, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The outcomes of one turn of a fuzzer; that it ends itself is one, too."""
    script, *options = TURNS[family]
    command = [sys.executable, str(TESTS / script), *options, "--seed", seed, "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        yield {"kind": "failure", "said": f"{' '.join(command)}\tends with {process.returncode}"}


def properties(seed: str, seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """One turn of the property tests: they are one try."""
    command = [sys.executable, "-m", "pytest", "-m", "hypothesis", "--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}"]
    given = {**environment, "JVP_EXAMPLES": str(EXAMPLES), "JVP_COMPOSITIONS": "300"}
    try:
        done = subprocess.run(command, cwd=TESTS.parent, env=given, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"kind": "none", "said": ""}
    failed = done.returncode not in (0, 5)
    return {"kind": "failure" if failed else "ok", "said": f"{' '.join(command)}\t{done.stdout[-3000:]}" if failed else ""}


def main() -> int:
    """Turn after turn until the time is over or Ctrl-C."""
    from child_tries import guarded_environment

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32))
    given = options.parse_args()
    end, counts, failures = time.monotonic() + 60 * given.minutes, defaultdict(Counter), []
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        plain, guarded = {**os.environ, "OMP_NUM_THREADS": "1"}, guarded_environment(Path(folder))
        try:
            for turn, (family, left) in enumerate(_turns(end)):
                seed = str(given.seed + turn)
                if family not in TURNS:
                    outcomes: Any = [properties(seed, max(left, 60), plain)]
                else:
                    outcomes = tries(family, seed, left, guarded if "child_tries" in TURNS[family][0] else plain)
                for outcome in outcomes:
                    counts[family][outcome["kind"]] += 1
                    if outcome["kind"] not in FINE:
                        failures.append(outcome["said"])
                        print(f"{outcome['kind']}: {outcome['said']}", flush=True)
        except KeyboardInterrupt:
            print("interrupted")
    for family, kinds in counts.items():
        print(f"{family}: {kinds.total():,} ({', '.join(f'{kind} {count:,}' for kind, count in kinds.most_common())})")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


def _turns(end: float) -> Iterator[tuple[str, float]]:
    """Whose turn it is, and how many seconds are left, until there are none."""
    while True:
        for family in (*TURNS, "property tests"):
            left = end - time.monotonic()
            if left <= 0:
                return
            yield family, left


if __name__ == "__main__":
    sys.exit(main())
