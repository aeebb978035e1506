"""The ways to a Jacobian that are compared, each a function of a case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case

Way = Callable[[], Any]

LARGEST_BASIS = 5 << 30
"""A peer is left out where the one-hot basis that it makes would take more bytes than this."""

LONGEST = 20_000
"""Row by row and in chunks of rows no more rows than this: it would take minutes."""


def _sizes(case: Case) -> tuple[int, int]:
    m = case.function(*case.inputs).numel()
    return m, sum(x.numel() for x in case.inputs)


def ours(case: Case) -> Way:
    """`jvpcli.jacobian`, everything included; the first call plans, later ones find index arrays made."""
    from inspect import signature

    import jvpcli

    named = dict(zip(signature(case.function).parameters, case.inputs, strict=True))
    return lambda: list(jvpcli.jacobian(case.function, named).values())


def ours_written(case: Case) -> Way:
    """The same, and every nonzero written out with its place."""
    call = ours(case)
    return lambda: [found.entries() if hasattr(found, "entries") else found.to_dense() for found in call()]


def ours_dense(case: Case) -> Way:
    """The same, written out dense."""
    call = ours(case)
    return lambda: [found.to_dense() for found in call()]


def dense_of_a_map(case: Case) -> Way:
    """Writing a Jacobian that is a structured map already out dense."""
    maps = ours(case)()
    return lambda: [found.to_dense() for found in maps]


def scattered(case: Case) -> Way:
    """What that is measured against: `np.zeros`, and the nonzeros scattered into it."""
    import numpy as np

    given = []
    for found in ours(case)():
        rows, columns, values = (part.numpy() for part in found.entries())
        given.append((found.m, found.n, rows, columns, values))

    def call() -> Any:
        results = []
        for m, n, rows, columns, values in given:
            result = np.zeros((m, n), dtype=values.dtype)
            result[rows, columns] = values
            results.append(result)
        return results

    return call


def jacrev(case: Case, chunk: int | None = None) -> Way:
    """torch.func.jacrev."""
    arguments = tuple(range(len(case.inputs)))
    return lambda: torch.func.jacrev(case.function, arguments, chunk_size=chunk)(*case.inputs)


def jacfwd(case: Case) -> Way:
    """torch.func.jacfwd."""
    arguments = tuple(range(len(case.inputs)))
    return lambda: torch.func.jacfwd(case.function, arguments)(*case.inputs)


def loop(case: Case) -> Way:
    """torch.autograd.functional.jacobian, row by row."""
    return lambda: torch.autograd.functional.jacobian(case.function, case.inputs)


def vectorized(case: Case) -> Way:
    """The same, vectorized."""
    return lambda: torch.autograd.functional.jacobian(case.function, case.inputs, vectorize=True)


def floor(case: Case) -> Way:
    """One forward evaluation and writing a result of the dense size."""
    m, n = _sizes(case)

    def call() -> Tensor:
        case.function(*case.inputs)
        return torch.full((m, n), 0.0)

    return call


def possible_peers(case: Case) -> dict[str, Way]:
    """Torch's ways that the machine's memory allows for this case."""
    m, n = _sizes(case)
    ways: dict[str, Way] = {}
    if m * m * 4 <= LARGEST_BASIS:
        ways["jacrev"] = jacrev(case)
        ways["vectorized"] = vectorized(case)
    if m <= LONGEST:
        if m > 16:
            ways["jacrev/64"] = jacrev(case, 64)
        if m > 256:
            ways["jacrev/256"] = jacrev(case, 256)
        if m <= 5000:
            ways["loop"] = loop(case)
    if n * n * 4 <= LARGEST_BASIS and n * m * 12 <= LARGEST_BASIS:
        ways["jacfwd"] = jacfwd(case)
    return ways


def our_ways(case: Case) -> dict[str, Way]:
    """What is measured of us, and the limit."""
    ways = {"ours": ours(case), "ours + nonzeros": ours_written(case), "ours dense": ours_dense(case)}
    if case.structured:
        ways |= {"map to dense": dense_of_a_map(case), "zeros + scatter": scattered(case)}
    return ways | {"floor": floor(case)}
