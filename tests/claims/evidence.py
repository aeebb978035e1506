"""What can be found out of a program without jvp: Jacobians by PyTorch's own backward passes, here and at other points."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from plain_programs import PlainProgram, PlainStep, UndecidedError, quiet
from torch import Tensor

NEAR = 1e-3
"""How far a point nearby is, relative to each entry (of 1 where it is zero)."""

SIZES = (0.3, 1.0, 3.0)
"""Of the random points."""

NEGLIGIBLE = 1e-9
"""What is less than this part of the largest entry counts as rounding, in double precision."""

UNSTEADY = 1e-2
"""An entry of a Jacobian that changes by more than this part of itself when the inputs change by roundings is one itself."""

NO_OPERATIONS = ("write", "output")
"""Steps of a trace that stand for no operation of the text."""

MOST_ROWS = 130
"""Outputs with more entries are left alone."""

Function = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        code: names its oracle: where it is made, a dot, and what is claimed.
        sentence: as it is printed.
        about: the parts of the document that it is about.
    """

    code: str
    sentence: str
    about: Mapping[str, Any] = field(default_factory=dict)


class RefutedError(Exception):
    """A claim that is false, and why."""


def refute(condition: bool, why: str) -> None:
    """Raises `RefutedError` where a condition holds that contradicts the claim."""
    if condition:
        raise RefutedError(why)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A program, and the document that speaks of it."""

    program: PlainProgram
    document: Mapping[str, Any]

    @cached_property
    def double(self) -> PlainProgram:
        """The program in double precision, if it runs so."""
        double = self.program.in_double()
        try:
            double.run(*double.leaves)
        except Exception as error:
            raise UndecidedError(f"it does not run in double precision: {error}") from error
        return double

    def number(self, y: str) -> int:
        """Which of the outputs that Python gives has this name."""
        names = list(self.document["outputs"])
        if len(self.program.run(*self.program.leaves)) != len(names):
            raise UndecidedError("the outputs are other ones")
        return names.index(y)

    def place(self, x: str) -> int:
        """Which of the differentiated inputs has this name."""
        return self.program.wrt.index(x)

    @cached_property
    def points(self) -> list[list[Tensor]]:
        """The point, points near it, and random ones: those at which the program runs with finite results of the same shapes."""
        return around(self.double.run, self.double.leaves)

    @cached_property
    def rows(self) -> list[list[list[Tensor]]]:
        """By point and output the Jacobians for each input."""
        return [[steady(self.double.run, k, point) for k in range(self.count)] for point in self.points]

    @cached_property
    def count(self) -> int:
        """How many outputs there are."""
        return len(self.double.run(*self.double.leaves))

    def jacobians_of(self, y: str, x: str) -> list[Tensor]:
        """∂y/∂x (m, n), first here and then elsewhere."""
        return [point[self.number(y)][self.place(x)] for point in self.rows]

    def in_its_dtype(self, y: str, x: str) -> Tensor:
        """∂y/∂x (m, n) here, in the precision that was asked for."""
        return jacobians(self.program.run, self.number(y), self.program.leaves)[self.place(x)]

    def step(
        self, step: Mapping[str, Any], program: PlainProgram | None = None, leaves: Sequence[Tensor] | None = None
    ) -> PlainStep:
        """A step of the document, as Python does it."""
        there = [other for other in self.document["steps"] if other["span"] == step["span"] and other["op"] not in NO_OPERATIONS]
        same = [other["index"] for other in there if other["op"] == step["op"]]
        if len(same) < len(there) or step["op"] in NO_OPERATIONS:
            raise UndecidedError("several steps stand at one place")
        found = (program or self.program).step(tuple(step["span"]), same.index(step["index"]), leaves)
        if len(found.tensors) != len(step["operands"]):
            raise UndecidedError("its operands are counted in another way")
        return found

    def constants(self, step: Mapping[str, Any]) -> list[int]:
        """The positions of a step's operands that are the same whatever the inputs are."""
        here, fixed = self.step(step, self.double).tensors, set(range(len(step["operands"])))
        for point in self.points[1:]:
            try:
                there = self.step(step, self.double, point).tensors
            except UndecidedError:  # another branch is taken there
                continue
            fixed -= {k for k in fixed if here[k].shape != there[k].shape or not torch.equal(here[k], there[k])}
        return sorted(fixed)


def around(function: Function, leaves: Sequence[Tensor], fixed: Collection[int] = ()) -> list[list[Tensor]]:
    """Points at which a function gives finite results of the shapes that it has at the first one, which is `leaves`.

    Those at the positions `fixed` stay as they are.
    """
    generator = torch.Generator().manual_seed(5)

    def drawn(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)

    def other(x: Tensor) -> Tensor:
        """For a mask another; for whole numbers the same ones in another order."""
        if x.dtype is torch.bool:
            return torch.rand(x.shape, generator=generator) > 0.5
        return x.reshape(-1)[torch.randperm(x.numel(), generator=generator)].reshape(x.shape)

    def tried() -> Iterator[list[Tensor]]:
        for sign in (1, -1, 1):
            yield [
                x + sign * NEAR * size_of(x) * (drawn(x).sgn() + 0.3 * drawn(x)) if moves(x) else other(x)
                for x in leaves
            ]
        for size in SIZES:
            yield [size * drawn(x) if moves(x) else other(x) for x in leaves]
            yield [size * drawn(x).abs() + 0.1 if moves(x) else other(x) for x in leaves]

    shapes = [y.shape for y in function(*leaves)]
    found = [list(leaves)]
    for values in tried():
        point = [x if k in fixed else value for k, (x, value) in enumerate(zip(leaves, values, strict=True))]
        try:
            outputs = function(*point)
        except Exception:  # the function is not defined there
            continue
        if [y.shape for y in outputs] == shapes and all(bool(y.isfinite().all()) for y in outputs if moves(y)):
            found.append(point)
    return found


def size_of(x: Tensor) -> Tensor:
    """|x|, and 1 where that is 0."""
    return torch.where(x == 0, 1, x.abs())


def norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of all entries, also where their squares are less or more than there are numbers for."""
    entries = torch.cat([torch.zeros(1, dtype=torch.float64), *(t.abs().double().reshape(-1) for t in tensors)])
    largest = float(entries.max())
    return largest * float((entries / largest).norm()) if largest and math.isfinite(largest) else largest


def moves(x: Tensor) -> bool:
    """Whether numbers of its kind can be moved a little."""
    return x.is_floating_point() or x.is_complex()


def jacobians(function: Function, number: int, leaves: Sequence[Tensor]) -> list[Tensor]:
    """∂output/∂leaf (m, n) by a backward pass for each row: of a complex output the rows of Re y, then those of Im y.

    Raises:
        UndecidedError: there are too many rows.
    """
    with quiet(double=False):
        fresh = [x.detach().clone().requires_grad_(moves(x)) for x in leaves]
        active = [x for x in fresh if x.requires_grad]
        y = function(*fresh)[number].resolve_conj()
        parts = [y.real, y.imag] if y.is_complex() else [y]
        entries = torch.cat([part.reshape(-1) for part in parts])
        if len(entries) > MOST_ROWS:
            raise UndecidedError("too many rows")
        rows = [_row(entry, active) for entry in entries] if y.requires_grad else []
        found = iter([torch.stack([row[k].reshape(-1) for row in rows]) if rows else None for k in range(len(active))])
        stacked = [next(found, None) if x.requires_grad else None for x in fresh]
        return [
            x.new_zeros(len(entries), x.numel()).detach() if J is None else J
            for J, x in zip(stacked, fresh, strict=True)
        ]


def steady(function: Function, number: int, leaves: Sequence[Tensor], fixed: Collection[int] = ()) -> list[Tensor]:
    """The Jacobians in double precision, with zeros for what is nothing but rounding: it is another a rounding further on.

    Leaves at the positions `fixed` stay as they are.
    """
    found = jacobians(function, number, leaves)
    for seed in (7, 8):
        beside = [
            x * (1 + 1e-10 * direction(x.abs(), seed).to(x.dtype)) if moves(x) and k not in fixed else x
            for k, x in enumerate(leaves)
        ]
        try:
            there = jacobians(function, number, beside)
        except RuntimeError:  # the function ends there
            continue
        found = [
            torch.where((J - K).abs() > UNSTEADY * J.abs(), 0, J) if J.shape == K.shape and moves(J) else J
            for J, K in zip(found, there, strict=True)
        ]
    return found


def _row(entry: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(entry, leaves, retain_graph=True, allow_unused=True) if leaves else ()
    return [torch.zeros_like(x) if g is None else g.detach() for x, g in zip(leaves, found, strict=True)]


def of_parts(function: Function, leaves: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A pass for each output, added up: PyTorch has backwards that lose what one output alone sends (native_group_norm)."""
    alone = [[v if k == number else None for k, v in enumerate(cotangents)] for number in range(len(cotangents))]
    totals: list[Tensor | None] = [None] * len(leaves)
    for each in alone:
        found = gradients(function, leaves, each)
        totals = [a if b is None else b if a is None else a + b for a, b in zip(totals, found, strict=True)]
    return totals


def gradients(function: Function, leaves: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Σ vᵀJ for each leaf by one backward pass; None where PyTorch gives None."""
    with quiet(double=False):
        fresh = [x.detach().clone().requires_grad_(moves(x)) for x in leaves]
        active = [x for x in fresh if x.requires_grad]
        outputs = function(*fresh)
        pairs = [
            (y, v.to(y.dtype)) for y, v in zip(outputs, cotangents, strict=True) if v is not None and y.requires_grad
        ]
        if not pairs or not active:
            return [None] * len(fresh)
        ys, vs = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(ys, active, vs, allow_unused=True))
        return [next(found) if x.requires_grad else None for x in fresh]


def filled(matrix: Tensor) -> Tensor:
    """Where a matrix is other than zero, beyond rounding; not where it is NaN."""
    sizes = torch.nan_to_num(matrix.abs(), nan=0.0)
    finite = sizes[sizes.isfinite()]
    return sizes > NEGLIGIBLE * (float(finite.max()) if finite.numel() else 0.0)


def tensor_of(entry: Mapping[str, Any]) -> Tensor:
    """An array of a document as a tensor."""
    kind: torch.dtype = getattr(torch, entry["dtype"])
    numbers = torch.tensor(_numbers(entry["value"]), dtype=torch.float64)
    if kind.is_complex:
        return torch.view_as_complex(numbers.reshape(*entry["shape"], 2)).to(kind)
    return numbers.reshape(tuple(entry["shape"])).to(kind)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value.replace("Infinity", "inf")) if isinstance(value, str) else value


def direction(x: Tensor, seed: int) -> Tensor:
    """Random numbers of the same shape and dtype."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    if x.is_complex():
        return torch.complex(drawn, torch.randn(x.shape, generator=generator, dtype=torch.float64)).to(x.dtype)
    return drawn.to(x.dtype)


def one_sided(function: Callable[[float], Tensor]) -> tuple[float, float, float] | None:
    """(from below, from above, how far either is off) of a function of one number at 0; None where there is no limit."""
    found = []
    for h in (1e-4, 1e-5):
        try:
            low, here, high = (float(function(t)) for t in (-h, 0.0, h))
        except Exception:  # it ends here
            return None
        found.append(((here - low) / h, (high - here) / h))
    (below, above), (nearer_below, nearer_above) = found
    off = max(abs(below - nearer_below), abs(above - nearer_above))
    return (nearer_below, nearer_above, off) if math.isfinite(off) else None


def cotangents(evidence: Evidence) -> list[Tensor | None]:
    """v for each output; None where it has none."""
    given = evidence.document["grad_outputs"]
    return [tensor_of(given[y]) if y in given else None for y in evidence.document["outputs"]]


def agree(said: Tensor, found: Tensor, rounds: float = 64) -> bool:
    """Whether numbers are the same up to roundings of their dtype."""
    eps = torch.finfo(said.dtype).eps
    scale = torch.nan_to_num(found.abs(), nan=0.0, posinf=0.0)
    atol = rounds * eps * (float(scale.max()) if scale.numel() else 0.0)
    return torch.allclose(said, found.to(said.dtype), rtol=rounds * eps, atol=atol, equal_nan=True)
