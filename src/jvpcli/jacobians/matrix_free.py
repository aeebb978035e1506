"""The derivative as products alone, for Jacobians that are too large to hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.errors import LimitError
from jvpcli.jacobians.dense import jvp, vjp
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.passes import Summary, summarize, work_of_rows
from jvpcli.request import Tell

MOST_WORK = 1 << 34
"""Bytes of rows: some seconds."""


@dataclass(frozen=True, eq=False)
class OperatorMap(LinearMap):
    """vᵀJ and Ju by passes over the graph; the entries are never held together.

    Attributes:
        output: with its graph.
        input: the leaf.
        room: bytes that a batch of passes may use.
    """

    output: Tensor
    input: Tensor
    room: float

    @property
    def structure(self) -> str:
        """Nothing is known of it but that it is linear."""
        return "unknown"

    @property
    def nnz(self) -> None:
        """Not counted: that would take every row."""
        return None

    def _pull(self, v: Tensor) -> Tensor:
        """vᵀJ: (out_shape) to (in_shape)."""
        (gradient,) = vjp(self.output, v, [self.input])
        return torch.zeros_like(self.input) if gradient is None else gradient.detach()

    def _push(self, u: Tensor) -> Tensor:
        """Ju: (in_shape) to (out_shape)."""
        return jvp(self.output, [self.input], [u]).detach()

    def to_dense(self) -> Tensor:
        """Refused.

        Raises:
            LimitError: always; the map was chosen because the entries do not fit.
        """
        size = self.m * self.n * self.input.element_size()
        raise LimitError(
            f"the Jacobian ({self.m} by {self.n}) would take {size} bytes, more than the memory limit",
            hints=["ask for products with it (pullback, pushforward), or raise the memory limit"],
        )

    def summary(self, tell: Tell | None = None) -> Summary | None:
        """Its norm and its diagonal, by every row in turn; None where that would take minutes."""
        if work_of_rows(self.output, self.input) > MOST_WORK:
            return None
        return summarize(self.output, self.input, self.room, tell)
