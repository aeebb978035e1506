"""The derivative as products alone, for Jacobians that are too large to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor

from jvpcli.errors import LimitError, UsageError
from jvpcli.jacobians.dense import BATCH_BYTES, Summary, summarize, work_of_rows
from jvpcli.jacobians.linear_map import LinearMap
from jvpcli.jacobians.passes import jvp, vjp
from jvpcli.jacobians.small import Derivatives, Maps
from jvpcli.language.course import Course
from jvpcli.problem import Problem
from jvpcli.report import OutputPlan, Plan, Way
from jvpcli.request import Tell

MOST_WORK = 1 << 34
"""Bytes of rows: some seconds."""


NO_JACOBIAN = "no Jacobian is wanted: one backward pass an output"


@dataclass(frozen=True, eq=False, repr=False)
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

    @property
    def of_complex(self) -> tuple[bool, bool]:
        """Whether the output is complex, and whether the input is."""
        return self.output.is_complex(), self.input.is_complex()

    def _pull(self, v: Tensor) -> Tensor:
        """vᵀJ: (out_shape) to (in_shape)."""
        if is_batchedtensor(v):
            return _Rows.apply(self._pull, v)
        with _unwritten():
            (gradient,) = vjp(self.output, v, [self.input])
        return torch.zeros_like(self.input) if gradient is None else gradient.detach()

    def _push(self, u: Tensor) -> Tensor:
        """Ju: (in_shape) to (out_shape)."""
        if is_batchedtensor(u):
            return _Rows.apply(self._push, u)
        with _unwritten():
            return jvp(self.output, [self.input], [u.clone()]).detach()

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


@contextmanager
def _unwritten() -> Iterator[None]:
    """Explains what torch says where a tensor that the graph keeps was written to since.

    Raises:
        UsageError: one was.
    """
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise UsageError(
            "a tensor that the function uses was written to after this map was made",
            "The Jacobian was too large to hold: the map goes over the function's graph for each product, and the graph "
            "keeps that tensor, not a copy of it.",
            ("ask for the map again, or raise the memory limit: a map that is held has numbers of its own",),
            torch_message=str(error),
        ) from None


class _Rows(torch.autograd.Function):
    """A product under `torch.vmap`, one pass a row: the graph that the passes go over was recorded outside."""

    @staticmethod
    def forward(product: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        """Not reached: `vmap` takes its place."""
        return product(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: products are constants."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, product: Callable[[Tensor], Tensor], v: Tensor) -> tuple[Tensor, int]:
        """The rows, (batch, *shape of a product)."""
        with torch.enable_grad():
            return torch.stack([product(row) for row in v.movedim(in_dims[1], 0).unbind()]), 0


@dataclass(frozen=True, eq=False)
class ProductsPlan:
    """Products alone, for the outputs and inputs of a problem."""

    problem: Problem

    @property
    def outputs(self) -> dict[str, OutputPlan]:
        """What is planned for each output: a pass for each product."""
        n, found = sum(x.numel() for x in self.problem.leaves.values()), {}
        for name, y in self.problem.differentiable.items():
            way = Way("matrix_free", "reverse", 1, y.numel() + n, 2 * (y.numel() + n) * y.element_size(), True)
            found[name] = OutputPlan(y.numel(), n, y.numel() * n, (way,), NO_JACOBIAN)
        return found

    def maps(self) -> Maps:
        """The maps, which hold the graph."""
        limit = self.problem.memory_limit
        room = BATCH_BYTES if limit is None else min(BATCH_BYTES, limit / 8)
        return {
            (y_name, x_name): OperatorMap(tuple(y.shape), tuple(x.shape), y, x, room)
            for y_name, y in self.problem.differentiable.items()
            for x_name, x in self.problem.leaves.items()
        }

    def repeat(self, course: Course | None) -> None:
        """Nothing: each point is looked at anew."""

    def derive(self, tell: Tell | None = None) -> Derivatives:
        """The maps and the plan; nothing is computed yet that there were anything to `tell` of."""
        outputs, inputs = self.problem.differentiable.values(), self.problem.leaves.values()
        size = sum(t.numel() * t.element_size() for t in (*outputs, *inputs))
        return Derivatives(self.maps(), Plan("reverse", len(outputs), 2 * size, NO_JACOBIAN, "matrix_free"))
