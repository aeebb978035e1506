"""Random programs, tried: those that Python may run mean what Python says, and hostile ones end in documented errors.

As a program it prints one JSON line for each try: `python program_tries.py --seed 0 --count 2000`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

import torch
from random_programs import MESSAGE, by_jvp, by_python, hostile, program

from jvpcli.errors import ExitCode, JvpError

DOCUMENTED = {
    ExitCode.REFUSED, ExitCode.SHAPE_MISMATCH, ExitCode.EVALUATION, ExitCode.NOT_DIFFERENTIABLE, ExitCode.LIMIT,
    ExitCode.USAGE,
}  # fmt: skip
"""What a program may end with; an input that a mutated one reads, and nobody gave, is a wrong usage."""

NO_GRAPH = "element 0 of tensors does not require grad and does not have a grad_fn"[:MESSAGE]
"""What torch.func gives has a graph here wherever it is called; PyTorch's has none of what has none, and raises this."""

HOSTILE = 0.5
"""How many of the programs are."""


def attempt(random: Random) -> tuple[str, str]:
    """What became of a program: "ok", "raises" (as in PyTorch), the code of a documented error; and what is wrong with that."""
    if random.random() < HOSTILE:
        source = hostile(random)
        state = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), os.listdir()
        kind, wrong = _refused(source)
        left = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), os.listdir()
        if not torch.equal(state[0], left[0]) or state[1:] != left[1:]:
            wrong = "something outside of it has changed"
    else:
        source = program(random)
        kind, wrong = _compared(source)
    return (kind, "") if not wrong else ("failure", f"{wrong}\n{source}")


def _refused(source: str) -> tuple[str, str]:
    try:
        return ("raises" if isinstance(by_jvp(source), str) else "ok"), ""
    except JvpError as error:
        fine = error.exit_code in DOCUMENTED and bool(error.message)
        return error.code, "" if fine else f"{error.code}: {error.message}"
    except Exception as error:
        return "failure", f"{type(error).__name__}: {error}"


def _compared(source: str) -> tuple[str, str]:
    expected = by_python(source)
    try:
        found = by_jvp(source)
    except Exception as error:
        return "failure", f"{type(error).__name__}: {error}"
    if isinstance(expected, str) or isinstance(found, str):
        same = found == expected or (expected == NO_GRAPH and not isinstance(found, str))
        return "raises", "" if same else f"{found!r} instead of {expected!r}"
    try:
        torch.testing.assert_close(found, expected, equal_nan=True)
    except AssertionError as error:
        return "failure", str(error)
    return "ok", ""


def main() -> None:
    """One JSON line for each program, as it is tried."""
    options = argparse.ArgumentParser()
    options.add_argument("--seed", default="0")
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--seconds", type=float, default=math.inf, help="stop after the program in which they are over")
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("CANARY").write_text("the canary sings")
        for number in range(given.count):
            if time.monotonic() > end:
                break
            kind, said = attempt(Random(f"{given.seed}:{number}"))
            print(json.dumps({"family": "programs", "kind": kind, "number": number, "said": said}), flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
