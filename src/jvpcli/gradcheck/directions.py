"""Autograd's Jacobian against finite differences where it is large: random products with it.

A wrong entry is searched for by halving the cotangent and the direction that showed it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.gradcheck.compare import (
    AGREES,
    KINK,
    MISMATCH,
    PRODUCTS,
    UNSEEN,
    Compared,
    Entry,
    entry_at,
    halved,
    lasting,
    magnitude,
    random_direction,
    tolerance,
    worst_first,
)
from jvpcli.gradcheck.differences import SAFETY, Line, Quick, estimate, quick
from jvpcli.gradcheck.excuses import settled
from jvpcli.gradcheck.vectors import RealFunction, only
from jvpcli.request import Tell

DIRECTIONS, COTANGENTS = 2, 4
"""Random directions of the inputs, random combinations of the outputs."""

MOST_ROWS = 64
"""Outputs of one direction that are looked at again."""


def compare_directions(function: RealFunction, tell: Tell | None = None) -> Compared:
    """Random combinations of the rows against differences along random directions; a wrong entry is searched for."""
    generator = torch.Generator().manual_seed(0)
    lines = [Line(function, random_direction(function, number)) for number in range(DIRECTIONS)]
    firsts = [quick(line) for line in lines]
    finite = function.y.isfinite()
    usable = torch.stack([finite, *(first.derivative.isfinite() for first in firsts)]).all(0)
    cotangents = torch.randn(COTANGENTS, function.m, generator=generator, dtype=torch.float64) * usable
    known = torch.ones(function.n, dtype=torch.bool)
    found: dict[str, list[Entry]] = {}

    def note(kind: str, entry: Entry) -> None:
        kind, entry = settled(function, kind, entry)
        found.setdefault(kind, []).append(entry)

    for line, first in zip(lines, firsts, strict=True):
        kink = None if KINK in found else _kink_along(function, line, first)
        if kink is not None:
            note(KINK, kink)
    if not bool(usable.all()):
        known = _known(function, cotangents)
        lines = [replace(line, direction=torch.where(known, line.direction, 0.0)) for line in lines]
        firsts = [quick(line) for line in lines]
    products, sizes = function.products(cotangents, torch.stack([line.direction for line in lines]))
    off = 0.0
    for done, (line, first, analytic, terms) in enumerate(zip(lines, firsts, products.T, sizes.T, strict=True)):
        if tell:
            tell("directions compared with differences", done, DIRECTIONS)
        numeric = cotangents @ first.derivative.nan_to_num(nan=0.0)
        off = max(off, *(numeric - analytic).abs().tolist())
        if MISMATCH not in found:
            kind, wrong = _wrong_along(function, line, first, cotangents, analytic, terms)
            if wrong is not None and kind in (MISMATCH, KINK):
                note(kind, wrong)
    return Compared(
        compared=DIRECTIONS * COTANGENTS if bool(usable.any() and known.any()) else 0,
        what=PRODUCTS,
        mismatches=worst_first(found.get(MISMATCH, [])),
        kinks=worst_first(found.get(KINK, [])),
        rounded=tuple(found.get(AGREES, [])),
        unseen=tuple(found.get(UNSEEN, [])),
        unsure=int(finite.sum()) * function.n - int(usable.sum()) * int(known.sum()),
        unfinite=int((~finite).sum()),
        products=off,
    )


def _known(function: RealFunction, cotangents: Tensor) -> Tensor:
    """The inputs (n,) of which products with some outputs left out tell something.

    Where a backward multiplies what is left out by an infinite derivative all the same, 0 · ∞ is NaN.
    """
    if function.mode == "forward":
        return torch.ones(function.n, dtype=torch.bool)
    return torch.stack([function.pullback(v).isfinite() for v in cotangents]).all(0)


def _wrong_along(
    function: RealFunction, line: Line, first: Quick, cotangents: Tensor, analytic: Tensor, terms: Tensor
) -> tuple[str, Entry | None]:
    """The entry that makes a direction's derivative differ from autograd's, and what it is; "agrees": it doesn't.

    `analytic` and `terms` are vᵀJu for each cotangent, and the sizes of its terms added up.
    """
    derivative = first.derivative.nan_to_num(nan=0.0)
    numeric = cotangents @ derivative
    terms = terms + cotangents.abs() @ derivative.abs()
    noise = cotangents.abs() @ first.noise.nan_to_num(nan=0.0)
    strict = tolerance(function.eps) / 100
    for number in (~((numeric - analytic).abs() <= strict * terms + noise)).nonzero().reshape(-1).tolist():
        v = cotangents[number]
        again = estimate(replace(line, weights=v[None]))
        difference = abs(float(again.derivative[0]) - float(analytic[number]))
        if difference <= strict * float(terms[number]) + SAFETY * float(again.error[0]):
            continue
        return _search(function, line.direction, v, derivative)
    return AGREES, None


def _search(function: RealFunction, direction: Tensor, v: Tensor, derivative: Tensor) -> tuple[str, Entry]:
    """The entry that makes vᵀJu wrong: v halved, then u halved, always keeping the half that differs more."""

    def gap_of_outputs(part: Tensor) -> float:
        half = only(v, part)
        return magnitude(float(half @ derivative) - function.product(half, direction))

    row = halved(v.nonzero().reshape(-1), gap_of_outputs)

    def gap_of_inputs(part: Tensor) -> float:
        u = only(direction, part)
        number = float(quick(Line(function, u, rows=torch.tensor([row]))).derivative[0])
        return magnitude(number - function.product(function.output(row), u))

    column = halved(direction.nonzero().reshape(-1), gap_of_inputs)
    return entry_at(function, row, column, function.entry(row, column))


def _kink_along(function: RealFunction, line: Line, first: Quick) -> Entry | None:
    """A kink that a direction shows, or an end of the function, at the input entry that makes it."""
    size = first.derivative.abs()
    jumps = lasting(line, first, (first.jump.abs() > 1e-5 * size + 4 * first.noise) & first.jump.isfinite())
    jumps = jumps | (function.y.isfinite() & ~first.jump.isfinite())
    if not bool(jumps.any()):
        return None
    heights = torch.where(jumps, first.jump.abs().nan_to_num(nan=torch.inf, posinf=torch.inf), -1.0)
    rows = heights.topk(min(MOST_ROWS, int(jumps.sum()))).indices
    kinked = rows[estimate(replace(line, rows=rows)).kink][:1]
    if not kinked.numel():
        return None

    def gap(part: Tensor) -> float:
        return magnitude(float(quick(Line(function, only(line.direction, part), rows=kinked)).jump[0]))

    row, column = int(kinked), halved(line.direction.nonzero().reshape(-1), gap)
    kind, entry = entry_at(function, row, column, function.entry(row, column))
    return entry if kind == KINK else None
