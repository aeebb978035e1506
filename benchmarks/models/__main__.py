"""Writes docs/models.md: what jvp finds of each model, and what it takes beside the best plain way of torch.

    python -m benchmarks.models            # make models
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import jvpcli
from benchmarks.models.cases import FILE, Case, make_cases

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
ROUNDS = 40
FAR = 10
"""A way that takes so many times as long as the quickest is not measured again."""


HEAD = """\
# Models

`make models` writes this page. Each model is small, has random weights in double precision and is written as in its paper
([the file](../benchmarks/models/zoo.py)); `tests/cli/test_models.py` holds every value against `torch.func` and every structure
against what is said here. A row is

```sh
jvp inspect "QUESTION" --import benchmarks/models/zoo.py --x @x.npy --wrt …
```

Times are the processor's, of one thread, the least of {rounds} runs, the evaluation included: `jvpcli.jacobian`, the derivative
alone, and the quickest of torch's ways: `jacrev`, `jacfwd`, `autograd.functional.jacobian`, plain and vectorized, and `vmap` over
the samples where they are independent, with the blocks alone as the result. Where transforms don't go through a model as it is (a
Function without rules for them, a checkpoint), the second time is that of the same model written without. Memory is what the
result holds. Lines are those of the text of `jvp inspect`. –: a parameter, by `--import` alone.

A question that was asked before takes less than 0.1 ms beside the run and the passes, and about 2 µs for each module: the
arguments are read, and what the function can come by (its code, and all that names in its code lead to, but for the numbers in
tensors) is compared with what was there when a run was watched. Where it has changed, or can't be compared (a compiled module, a
clock, another library's objects), the run is watched as the first one was, for what it takes out of the graph and for tensors
from outside that it writes to: 1 to 2 µs for each of torch's functions that it calls; and the graph is read. Rows that are taken
together through a `torch.autograd.Function` are held against one by itself, one backward pass more, until they agreed where the
backward read no number off a tensor. Ratios of models that take less than a millisecond are of that.

| model | question | ∂y/∂x | structure | not zero | jvp | torch's best | ratio | held by jvp | dense | lines |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def ways(case: Case) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Torch's ways to the Jacobians of a case."""
    values, places = case.values, tuple(range(len(case.values)))
    yield "jacrev", lambda: torch.func.jacrev(case.plain, places)(*values)
    yield "jacfwd", lambda: torch.func.jacfwd(case.plain, places)(*values)
    yield from passes(case.plain, values)
    if case.samples is not None:
        one = torch.func.jacrev(case.samples, places)
        yield "vmap over samples", lambda: torch.vmap(one)(*values)


def passes(function: Callable[..., Any], values: tuple[Any, ...]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Torch's ways that need no transform."""
    yield "functional", lambda: torch.autograd.functional.jacobian(function, values)
    yield "functional, vectorized", lambda: torch.autograd.functional.jacobian(function, values, vectorize=True)


def quickest(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The shortest processor time of some runs each, by turns, of those that work."""
    found = {}
    for name, run in runs.items():
        with suppress(Exception):  # transforms refuse what changes captured tensors
            begin = time.process_time()
            run()
            found[name] = time.process_time() - begin
    for _ in range(ROUNDS):
        for name in [name for name in found if found[name] < FAR * min(found.values()) or name == "jvp"]:
            begin = time.process_time()
            runs[name]()
            found[name] = min(found[name], time.process_time() - begin)
    return found


def held(value: Any) -> int:
    """Bytes of the tensors that an object holds, each storage once."""
    seen: dict[int, int] = {}
    known: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) in known:
            continue
        known.add(id(part))
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(part, (tuple, list)):
            waiting += part
        elif type(part).__module__.startswith("jvpcli"):
            waiting += vars(part).values() if hasattr(part, "__dict__") else []
            waiting += [getattr(part, name, None) for name in getattr(part, "__slots__", ())]
    return sum(seen.values())


def row(case: Case) -> str:
    """A line of the table."""
    inputs = dict(case.inputs)
    wrt = list(case.structure)
    result = jvpcli.inspect(case.expression, inputs, imports=[FILE], wrt=wrt)
    kinds = [result.report.jacobian[y][x] for y, x in result.jacobian]
    is_asked, as_it_is = set(wrt) <= set(inputs), case.plain is case.function
    runs = dict(ways(case))
    if is_asked:
        runs["jvp"] = lambda: jvpcli.jacobian(case.function, inputs, wrt=wrt)
        runs |= {} if as_it_is else {f"as it is, {name}": way for name, way in passes(case.function, case.values)}
    times_of = quickest(runs)
    ours = times_of.pop("jvp", math.nan)
    own = {name: taken for name, taken in times_of.items() if name.startswith("as it is, ")}
    name, theirs = min((each for each in times_of.items() if each[0] not in own), key=lambda each: each[1])
    told = f"{_time(theirs)} ({name})"
    if own:
        name, theirs = min(own.items(), key=lambda each: each[1])
        told = f"{_time(theirs)} ({name.removeprefix('as it is, ')}); written without: {told}"
    if is_asked:
        maps = jvpcli.jacobian(case.function, inputs, wrt=wrt)
        times = [_time(ours), told, f"{ours / theirs:.2f}", _bytes(sum(map(held, maps.values())))]
    else:
        times = ["–", told, "–", "–"]
    dense = sum(torch.Size(kind.shape).numel() * 8 for kind in kinds)
    cells = [
        case.name, f"`{case.expression}` by {', '.join(wrt)}", " · ".join(str(tuple(kind.shape)) for kind in kinds),
        " · ".join(kind.structure.replace("_", "-") for kind in kinds), " · ".join(f"{kind.nnz}" for kind in kinds),
        *times, _bytes(dense), str(len(str(result).splitlines())),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _time(value: float) -> str:
    return f"{1000 * value:.3g} ms"


def _bytes(value: int) -> str:
    return f"{value / 1024:.0f} KiB" if value >= 10240 else f"{value} B"


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    for case in make_cases():
        rows.append(row(case))
        print(rows[-1], flush=True)
    PAGE.write_text(HEAD.replace("{rounds}", str(ROUNDS)) + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
