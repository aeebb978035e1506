"""Tries in child processes: a child takes many, and if one of them ends it, that one is named and the rest go on in another.

As a program it prints one JSON line for each try: `python child_tries.py --seed 0 --count 2000`.  Start it with
`GLIBC_TUNABLES=glibc.malloc.tcache_count=0`, so that all memory that torch gets goes through the allocator that fills it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

import torch
from mutated_arguments import Try, as_command, calls, one_try
from random_expressions import inputs, program

import jvpcli
from jvpcli.errors import ExitCode, InternalError, JvpError, NotDifferentiableError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.render.json import to_json

MEMORY_LIMIT = 200_000_000
SECONDS = 2
"""Of processor time, after which a try counts as one that hangs."""

DOCUMENTED = {
    ExitCode.REFUSED, ExitCode.SHAPE_MISMATCH, ExitCode.EVALUATION, ExitCode.NOT_DIFFERENTIABLE, ExitCode.LIMIT,
}  # fmt: skip

ALLOWED = {"ok", "none", "hangs", *(error.code for error in JvpError.__subclasses__() if error.exit_code in DOCUMENTED)}
"""What may become of a try (`--timeout` is there for what takes long); anything else is a failure."""

FILLS = (0x55, 0xAA)
"""The bytes that memory is filled with, in the two runs of each try."""

BLOCK = 250
"""Tries of one child."""

M_PERTURB = -6
"""The number of glibc's `mallopt` for a byte that fresh and freed memory is filled with."""


@dataclass(frozen=True)
class Outcome:
    """What became of a try."""

    number: int
    family: str
    kind: str
    """"ok", the code of a documented error, "none" (no such call), "undocumented", "hangs", or a signal's name."""
    digest: str = ""
    """A hash of every byte of the result and its derivative."""
    said: str = ""
    """For failures: the command and what happened."""


def attempt(tried: Try) -> tuple[str, str, str]:
    """Evaluate and differentiate one try: what became of it, the hash of its numbers, what went wrong."""
    digest = hashlib.sha256()
    try:
        for part in _parts(tried):
            digest.update(part)
    except JvpError as error:
        digest.update(error.code.encode())
        if isinstance(error, InternalError) or error.exit_code not in DOCUMENTED:
            return "undocumented", "", f"{error.code}: {error.message}"
        return error.code, digest.hexdigest(), ""
    except Exception as error:
        return "undocumented", "", f"{type(error).__name__}: {str(error)[:200]}"
    return "ok", digest.hexdigest(), ""


def _parts(tried: Try) -> Iterator[bytes]:
    """Every byte of what a try gives: outputs, derivatives and document, or outputs alone where nothing is differentiable."""
    names = parse(tried.expression, tried.inputs.keys()).inputs
    used = {name: tried.inputs[name] for name in names if name in tried.inputs}
    wrt = tuple(name for name, value in used.items() if _is_continuous(value))
    try:
        if not wrt:
            raise NotDifferentiableError("no input is continuous")
        inspection = jvpcli.inspect(tried.expression, used, wrt=wrt, memory_limit=MEMORY_LIMIT)
    except NotDifferentiableError:
        yield from map(_bytes, evaluate(parse(tried.expression, used), used, memory_limit=MEMORY_LIMIT).outputs.values())
        return
    yield from map(_bytes, (*inspection.outputs.values(), *inspection.vjp.values()))
    yield to_json(inspection.report)


def moved(x: torch.Tensor) -> torch.Tensor:
    """The same tensor, with the same strides, in memory that is got now and ends where the tensor ends."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    memory = x.resolve_conj().resolve_neg().as_strided((span,), (1,)) if span else x.flatten()
    return memory.clone().as_strided(x.shape, x.stride())


def _is_continuous(x: torch.Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _bytes(x: torch.Tensor) -> bytes:
    """Shape, dtype and every byte; NaN of whatever bits is the same NaN."""
    value = torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()
    if value.is_floating_point():
        value = torch.where(value.isnan(), torch.full_like(value, float("nan")), value)
    flat = value.flatten().clone(memory_format=torch.contiguous_format)
    raw = flat.view(torch.uint8).numpy().tobytes() if value.numel() else b""
    return f"{tuple(x.shape)}{x.dtype}".encode() + raw


# Children


Make = Callable[[int], Try | None]
"""The try of a number, the same whenever it is asked for; None where there is none."""


def run_tries(numbers: Sequence[int], make: Make, perturb: int | None) -> Iterator[Outcome]:
    """The outcomes of the tries of these numbers, in order; in children that are replaced when one dies."""
    numbers = list(numbers)
    while numbers:
        before, ended = [], None
        for outcome, ended in _child(numbers, make, perturb):  # noqa: B007
            if outcome:
                before.append(outcome)
                yield outcome
        numbers = numbers[len(before) :]
        if ended and numbers:
            guilty, *numbers = numbers
            yield _ended(guilty, make(guilty), ended)


def _ended(number: int, tried: Try | None, status: int) -> Outcome:
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    kind = "hangs" if name == "SIGPROF" else name
    return Outcome(number, tried.family if tried else "", kind, said=f"{as_command(tried)}\t{kind}" if tried else kind)


def _child(
    numbers: Sequence[int], make: Make, perturb: int | None
) -> Iterator[tuple[Outcome | None, int | None]]:
    """One child's outcomes as they come; last, how it ended (None when it did all)."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(numbers, make, perturb, writer)
    os.close(writer)
    done = 0
    with os.fdopen(reader, "rb") as stream:
        for line in stream:
            done += 1
            yield Outcome(**json.loads(line)), None
    _, status = os.waitpid(child, 0)
    yield None, status if done < len(numbers) else None


def _work(numbers: Sequence[int], make: Make, perturb: int | None, writer: int) -> None:
    """What a child does, until it is done or dead."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (6_000_000_000, 6_000_000_000))
    if perturb is not None:
        process = ctypes.CDLL(None)
        process.mallopt(M_PERTURB, perturb)
        if hasattr(process, "guard_pages"):  # preloaded
            process.guard_pages(perturb ^ 0xFF)
    warnings.simplefilter("ignore")
    for number in numbers:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose default is the end of the process
        tried = make(number)
        if tried:
            tried = replace(tried, inputs={name: moved(x) for name, x in tried.inputs.items()})
        kind, digest, said = attempt(tried) if tried else ("none", "", "")
        if said and tried:
            said = f"{as_command(tried)}\t{said}"
        line = json.dumps(asdict(Outcome(number, tried.family if tried else "", kind, digest, said)))
        os.write(writer, line.encode() + b"\n")
    os._exit(0)


def run_twice(numbers: Sequence[int], make: Make) -> Iterator[Outcome]:
    """The outcomes of tries that were run with memory filled by one byte and by another, whose results must agree.

    What hangs once isn't waited for again.
    """
    first = list(run_tries(numbers, make, FILLS[0]))
    again = run_tries([outcome.number for outcome in first if outcome.kind != "hangs"], make, FILLS[1])
    for one in first:
        other = one if one.kind == "hangs" else next(again)
        worst = max(one, other, key=lambda outcome: (outcome.kind not in ALLOWED, outcome.kind == "hangs"))
        if worst.kind not in ALLOWED or worst.kind == "hangs" or one.digest == other.digest:
            yield worst
        else:
            tried = make(one.number)
            assert tried is not None
            yield replace(one, kind="uninitialised", said=f"{as_command(tried)}\tthe result depends on other memory")


def guarded_environment(folder: Path) -> dict[str, str]:
    """The environment in which this file sees the most: no cache that hands out memory unfilled, and, where there is a C
    compiler, the guard pages, which are built into the folder."""
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0", "OMP_NUM_THREADS": "1"}
    compiler, library = shutil.which("cc"), folder / "guard_pages.so"
    if compiler is None:
        return environment
    source = Path(__file__).with_name("guard_pages.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {**environment, "LD_PRELOAD": str(library)}


def main() -> None:
    """One JSON line for each try that was run, as its block is done."""
    options = argparse.ArgumentParser()
    options.add_argument("--seed", default="0")
    options.add_argument("--start", type=int, default=0)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--expressions", action="store_true", help="random expressions instead of mutated calls")
    options.add_argument("--seconds", type=float, default=math.inf, help="stop after the block in which they are over")
    given = options.parse_args()
    torch.set_num_threads(1)
    make = random_expressions(given.seed) if given.expressions else mutated_calls(given.seed)
    attempt(Try("", "x * x.T", {"x": torch.ones(2, 2)}))  # what is loaded and made once is so before the children are born
    gc.freeze()
    end = time.monotonic() + given.seconds
    for at in range(given.start, given.start + given.count, BLOCK):
        if time.monotonic() > end:
            break
        for outcome in run_twice(range(at, min(at + BLOCK, given.start + given.count)), make):
            print(json.dumps(asdict(outcome)), flush=True)


def mutated_calls(seed: str) -> Make:
    """The database's calls with their arguments mutated."""
    found = calls()
    return lambda number: one_try(seed, number, found)


def random_expressions(seed: str) -> Make:
    """Expressions over the whole catalogue."""
    return lambda number: Try("expressions", program(Random(f"{seed}:{number}")), inputs())


if __name__ == "__main__":
    main()
