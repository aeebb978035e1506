"""A step of a program as a function of one operand: what is told of it by a local Jacobian or a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from evidence import (
    Claim,
    Evidence,
    around,
    direction,
    gradients,
    jacobians,
    steady,
)
from plain_programs import PlainProgram, PlainStep
from torch import Tensor

EXTREMES = (1e-3, -1e-3, 1e3, -1e3)
"""What a single entry is set to, to be the least or the greatest of many."""


@dataclass(frozen=True, eq=False)
class Local:
    """A step as a function of one of its operands (at all the places where it stands), to some of its results.

    The operands at the positions `fixed` are the same whatever the inputs are.
    """

    step: PlainStep
    positions: tuple[int, ...]
    results: tuple[int, ...]
    fixed: tuple[int, ...] = ()

    @classmethod
    def of(cls, evidence: Evidence, claim: Claim, program: PlainProgram) -> Local:
        """What a local Jacobian is of."""
        step, local = claim.about["step"], claim.about["local"]
        parts = [part["output"] for part in step.get("parts") or ()]
        plain, constants = evidence.step(step, program), evidence.constants(step)
        results = (parts.index(local["part"]) if local.get("part") else 0,)
        return cls(plain, (local["position"],), results, tuple(k for k in constants if k != local["position"]))

    @property
    def here(self) -> Tensor:
        """The operand's value."""
        return self.step.tensors[self.positions[0]]

    def at(self, value: Tensor, others: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The results for another value of the operand (and other values of all)."""
        tensors = list(self.step.tensors if others is None else others)
        for position in self.positions:
            tensors[position] = value
        found = self.step.at(tensors)
        return [found[number] for number in self.results]

    def gradient(
        self, value: Tensor, others: Sequence[Tensor] | None = None, v: Sequence[Tensor] | None = None
    ) -> Tensor:
        """A cotangent, random ones if none are given, pulled back through the step."""
        found = self.at(value, others)
        weights = [direction(y, 60 + k) for k, y in enumerate(found)] if v is None else v
        gradient = gradients(lambda t: self.at(t, others), [value], weights)[0]
        return torch.zeros_like(value) if gradient is None else gradient

    @property
    def noise(self) -> float:
        """What rounding may make of a derivative that is zero: some roundings of |f| / |x|."""
        results = max(
            (float(y.detach().abs().double().nan_to_num(posinf=0.0).max()) for y in self.at(self.here) if y.numel()),
            default=0.0,
        )
        operand = float(self.here.abs().double().nan_to_num(posinf=0.0).max()) or 1.0
        return 1024 * torch.finfo(self.here.dtype).eps * results / operand

    @property
    def matrix(self) -> Tensor:
        """∂result/∂operand (m, n) here, as a backward pass for each row gives it."""
        return self.matrix_at(self.here)

    def matrix_at(self, value: Tensor) -> Tensor:
        """The same with another value of the operand."""
        tensors = [value if k in self.positions else t for k, t in enumerate(self.step.tensors)]
        return jacobians(lambda *values: [self.step.at(values)[self.results[0]]], 0, tensors)[self.positions[0]]

    def with_entry(self, entry: int, number: float) -> Tensor:
        """The operand with another number in one place."""
        value = self.here.clone()
        value.reshape(-1)[entry] = number
        return value

    @property
    def matrices(self) -> list[Tensor]:
        """∂result/∂operand (m, n), here and at other values of all operands."""
        tensors = self.step.tensors
        position = self.positions[0]

        def function(*values: Tensor) -> list[Tensor]:
            return [self.step.at(values)[self.results[0]]]

        return [steady(function, 0, point, self.fixed)[position] for point in around(function, tensors, self.fixed)]
