"""A node of the autograd graph, seen as an operation with a local Jacobian.

After one eager evaluation torch holds a graph of backward nodes.  A node can be called: `node(cotangent)` gives the
cotangents of its operands; its `_saved_…` attributes are what the forward operation left for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor

from jvpcli.jacobians.kronecker import KroneckerMap, identity, kronecker
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.terms import Term, UnsupportedError, Workspace

Node = Any
"""torch.autograd.graph.Node."""

Locals = Sequence[tuple[Term, ...] | None]
"""For each operand the pieces of ∂output/∂operand; empty: zero; None: no gradient is asked for."""

Rule = Callable[["Op"], Locals]


FUSED = frozenset(["MkldnnRnnLayer"])
"""Operations whose backward pass torch takes one cotangent at a time, but where it is to be differentiated itself."""


KEPT_INDEX = 1 << 16
"""Index tensors up to so many bytes are compared by content with those of an earlier evaluation."""


class NoRuleError(Exception):
    """A rule does not cover this use of the operation: probe it instead."""


@dataclass(frozen=True)
class Op:
    """One output of one node.

    Attributes:
        node: the backward node.
        nr: which of its forward outputs.
        shape: of that output.
        shapes: of each operand; None where no gradient is asked for.
        like: a tensor of the dtype and device of the entries.
        work: limits and kept index arrays.
    """

    node: Node
    nr: int
    shape: Shape
    shapes: tuple[Shape | None, ...]
    like: Tensor
    work: Workspace

    @property
    def operand(self) -> Shape:
        """The shape of the first operand, of an operation that is asked for no other."""
        shape = self.shapes[0]
        assert shape is not None
        return shape

    def saved(self, name: str, default: Any = None) -> Any:
        """What the forward operation saved under the name; a sparse tensor written out."""
        value = getattr(self.node, "_saved_" + name, default)
        if isinstance(value, Tensor):
            return self.work.borrowed(value) if value.layout is torch.strided else value.to_dense()
        return value

    def content_key(self, *parts: Any) -> int | None:
        """A key that holds the very numbers of tensors of integers; None where they are too many."""
        key: list[Hashable] = []
        for part in parts:
            if isinstance(part, Tensor):
                if part.numel() * part.element_size() > KEPT_INDEX:
                    return None
                key += [tuple(part.shape), part.dtype, part.contiguous().cpu().numpy().tobytes()]
            else:
                key.append(("parameter", part))
        return self.work.key(*key)

    def ones(self) -> Tensor:
        """A cotangent of ones."""
        meta = self.node._input_metadata[self.nr]
        return torch.ones((), dtype=meta.dtype, device=meta.device).expand(self.shape)

    def pull(self, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangents of the operands, not yet reduced to their shapes; None: zero or not asked for."""
        return call(self.node, {self.nr: cotangent})

    def pieces(self, *makes: Callable[[Shape], Term]) -> Locals:
        """A piece for each operand that is asked for, which the function at its place makes of its shape."""
        return [None if shape is None else (makes[k](shape),) for k, shape in enumerate(self.shapes)]

    def of_ones(self, make: Callable[[Shape, Tensor], Term]) -> Locals:
        """A piece for each operand that is asked for, made of its shape and of ones pulled back to it."""
        return [
            None if shape is None else () if grad is None else (make(shape, grad),)
            for shape, grad in zip(self.shapes, self.pull(self.ones()), strict=True)
        ]

    def first(self, *terms: Term) -> Locals:
        """The pieces for the first operand; the others get no gradient."""
        return [terms, *[None] * (len(self.shapes) - 1)]

    def reshaped(self, shape: Shape, scale: float = 1.0) -> KroneckerMap:
        """`scale` times the identity, from an operand of as many entries."""
        return identity(self.shape, shape, self.like, scale)

    def regular(
        self,
        in_shape: Shape,
        out: Sequence[int],
        inn: Sequence[int],
        sizes: dict[int, int],
        factors: Sequence[Factor] = (),
        scale: float = 1.0,
    ) -> KroneckerMap:
        """A regular map to an operand of shape `in_shape`."""
        return kronecker(self.shape, in_shape, out, inn, sizes, self.like, factors, scale)


def call(node: Node, cotangents: Mapping[int, Tensor]) -> tuple[Tensor | None, ...]:
    """What a node makes of the cotangents of some of its outputs, by number: those of its operands; None: zero."""
    metas = node._input_metadata
    if callable(node):
        if any(map(is_batchedtensor, cotangents.values())) and is_fused(node.name()):
            with torch.enable_grad(), torch._C._AutoDispatchBelowAutograd():  # that way, but nothing is recorded on it
                together = node(*[cotangents.get(nr) for nr in range(len(metas))])
            return tuple(together)
        pulled = node(*[cotangents.get(nr) for nr in range(len(metas))])
    else:  # a custom autograd.Function wants tensors
        given = [torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=meta.device) for meta in metas]
        pulled = node.apply(*[cotangents.get(nr, zero) for nr, zero in enumerate(given)])
    return pulled if isinstance(pulled, tuple) else (pulled,)


def is_fused(name: str) -> bool:
    """Whether a node of this name takes many cotangents together only as if its backward pass were to be differentiated."""
    return base_name(name) in FUSED


def spare(node: Node) -> int:
    """Entries that a fused node holds at a time for one cotangent.

    It makes the gradients of all that it has saved, asked for or not, each as a sum to which the next one is added.
    """
    saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
    return 3 * sum([value.numel() for value in saved if isinstance(value, Tensor) and value.is_floating_point()])


def read_op(node: Node, nr: int, wanted: Sequence[bool], like: Tensor, work: Workspace) -> Op:
    """Output `nr` of a node, with the operands that lead to a differentiated input.

    Raises:
        UnsupportedError: a tensor that is complex, or has no known shape.
    """
    shapes = tuple([operand_shape(*edge) if w else None for edge, w in zip(node.next_functions, wanted, strict=True)])
    return Op(node, nr, tuple(node._input_metadata[nr].shape), shapes, like, work)


def operand_shape(edge: Node, nr: int) -> Shape:
    """The shape of the tensor that an edge of the graph stands for."""
    metas = edge._input_metadata
    if nr >= len(metas):
        raise UnsupportedError(f"{edge.name()} has no shape for its output {nr}")
    meta = metas[nr]
    if meta.dtype.is_complex:
        raise UnsupportedError("complex tensors")
    return tuple(meta.shape)


def signed(value: int) -> int:
    """A saved number that may be negative: it is saved modulo 2⁶⁴."""
    return value - (1 << 64) if value >= 1 << 63 else value


def wrapped(dim: int, dims: int) -> int:
    """A saved axis number, counted from the front."""
    return signed(dim) % dims if dims else 0


def broadcast_labels(out_shape: Shape, shape: Shape) -> tuple[int, ...]:
    """The labels (axis numbers of the output) along which an operand of `shape` varies."""
    skip = len(out_shape) - len(shape)
    return tuple([axis for axis in range(skip, len(out_shape)) if shape[axis - skip] == out_shape[axis]])


def axes(shape: Shape) -> tuple[tuple[int, ...], dict[int, int]]:
    """A label for each axis, and their sizes."""
    return tuple(range(len(shape))), dict(enumerate(shape))
