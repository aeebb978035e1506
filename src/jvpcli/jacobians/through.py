"""Rows that are pulled through an operation instead of being multiplied with its local map.

Local maps that are held by index arrays are long: that of a convolution has an entry for each multiplication.  Where it would
be multiplied with rows that are dense anyway, these are pulled back through the operation, the samples of a batch together:
a convolution of a batch of 20 to 10 classes takes 10 pull-backs, not 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap, dense, kronecker, split_label
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Node, Op
from jvpcli.jacobians.local.table import is_trusted
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.passes import FEW, Sweep, gathered
from jvpcli.jacobians.sparse_map import SparseMap
from jvpcli.jacobians.terms import Term
from jvpcli.jacobians.widths import CUT, SPATIAL, carried, taps

CHUNK_BYTES = 1 << 25
"""Rows that are pulled through at a time."""

PER_ENTRY = 25.0
"""Nanoseconds that multiplying by index arrays takes for each entry."""

PER_FLOP = 0.02
"""Nanoseconds that a multiplication takes in a convolution."""

CONVOLVED = 2e3
"""Nanoseconds that a row takes for a convolution whatever its size."""

PER_FLOP_OF_FEW = 0.3
"""Nanoseconds that a multiplication takes on the way to the input of a convolution from one channel to one; less of more."""

PER_ELEMENT = 1.0
"""Nanoseconds that a row takes for each entry that goes through an operation."""

FEW_OF = 8
"""A piece of less than one in so many of an operand's entries is not worth rows that are zero elsewhere."""

FEW_CHANNELS = 16
"""Channels up to which the backward pass of a convolution is slow."""

CALL = 1.5e5
"""Nanoseconds that pulling rows through takes whatever their number."""


PULLED = frozenset(("Convolution", "ConstantPadNd", *SPATIAL, *CUT))
"""Operations whose local maps are held by index arrays: rows may be pulled through them to their first operand."""


def time_of_convolving(node: Node, out_shape: Shape) -> float:
    """Nanoseconds that it takes to pull a row through a convolution to its input, besides reading and writing."""
    each = max(PER_FLOP, PER_FLOP_OF_FEW / max(1, prod(node._saved_weight.shape[:2])) ** 0.5)
    return CONVOLVED + each * prod(out_shape) * taps(node, "Convolution", out_shape)


def time_of_rows(node: Node, name: str, rows: int, shape: Shape, out_shape: Shape) -> float:
    """Nanoseconds that it takes to pull so many rows through an operation."""
    size = prod(out_shape)
    beside = time_of_convolving(node, out_shape) if name == "Convolution" else PER_FLOP * size
    return CALL + rows * (PER_ELEMENT * (size + prod(shape)) + beside)


def pull_through(op: Op, total: Term, weight: Tensor | None = None) -> Term | None:
    """The piece of ∂output/∂(the first operand), by rows; None where multiplying with the local map is better.

    Args:
        op: one of those that are `PULLED`.
        total: a piece of ∂output/∂(its output).
        weight: of a convolution, in the place of its own.
    """
    shape = op.shapes[0]
    assert shape is not None
    name = operation(op.node)
    convolves = name == "Convolution"
    if isinstance(total, SparseMap):
        if not convolves:
            return None
        if PER_ENTRY * total.bound * taps(op.node, name, op.shape) < time_of_rows(op.node, name, total.m, shape, op.shape):
            return None
        op.work.reserve(total.m * prod(op.shape), op.like.element_size())
        total = dense(total.out_shape, total.in_shape, total.matrix(), total.like)
    assert isinstance(total, KroneckerMap)
    if total.is_diagonal or len(set(total.out)) < len(total.out) or len(set(total.inn)) < len(total.inn):
        return None
    cut = _cut(total, carried(op.node, name, 0, shape, op.shape))
    if cut is None:
        return None
    total, place = cut
    if not set(total.out).isdisjoint(total.inn[place:]):  # rows have few entries there, each at a place of its own
        return None
    if name in CUT and total.is_dense and FEW_OF * prod(op.shape) < prod(shape):
        return None
    if convolves and weight is None:  # the node would make the weight's gradient too
        weight = op.saved("weight").detach()
    return _pulled(op, total, place, shape, prod(shape) // max(1, prod([total.sizes[k] for k in total.inn[:place]])), weight)


def _cut(total: KroneckerMap, head: int) -> tuple[KroneckerMap, int] | None:
    """The map with its input's labels cut where the `head` leading places end, and how many labels these are."""
    size = 1
    for place, label in enumerate(total.inn):
        if size == head:
            return total, place
        here = total.sizes[label]
        if size * here > head:
            if head % size or here % (head // size):
                return None
            return split_label(total, label, head // size, 1 + max(total.sizes)), place + 1
        size *= here
    return (total, len(total.inn)) if size == head else None


def _pulled(op: Op, total: KroneckerMap, place: int, shape: Shape, rest: int, weight: Tensor | None) -> Term | None:
    """Every row pulled through; the first `place` labels of the input's side are carried along."""
    lead = total.inn[:place]
    rows = tuple([k for k in total.out if k not in lead])
    count = prod([total.sizes[k] for k in rows])
    meta = op.node._input_metadata[op.nr]
    largest = max(prod(op.shape), prod(shape))
    op.work.reserve(count * largest, op.like.element_size())
    cotangents = total.values((*rows, *total.inn)).reshape(count, *op.shape)
    cotangents = cotangents.to(meta.dtype if weight is None else weight.dtype)

    def pull(v: Tensor) -> list[Tensor | None]:
        return [op.pull(v)[0]] if weight is None else convolved(op.node, v, weight, [True])[:1]

    chunk = max(1, CHUNK_BYTES // max(1, 4 * largest * cotangents.element_size()))
    sweep = Sweep(pull, cotangents[:0].sum(0), 1 if count <= FEW else min(count, chunk), not is_trusted(operation(op.node)))
    (found,) = gathered(sweep, count, lambda start, stop: cotangents[start:stop])
    if found is None or tuple(found.shape[1:]) != shape:
        return None
    fresh = 1 + max(total.sizes, default=0)
    sizes = {**{k: total.sizes[k] for k in (*total.out, *lead)}, fresh: rest}
    values = found.reshape([sizes[k] for k in (*rows, *lead, fresh)]).to(total.like.dtype)
    factor = Factor(values, (*rows, *lead, fresh))
    return kronecker(total.out_shape, shape, total.out, (*lead, fresh), sizes, total.like, [factor])


def is_turned(node: Node) -> bool:
    """Whether going back to a convolution's input is best done as another convolution, with the weight turned around.

    That of few channels and without strides is: torch has been seen to take ten times as long for its backward pass.
    """
    if operation(node) != "Convolution" or node.next_functions[0][0] is None:
        return False
    weight, padding, dilation = node._saved_weight, node._saved_padding, node._saved_dilation
    few = weight.dtype == torch.float32 and weight.device.type == "cpu" and max(weight.shape[:2]) <= FEW_CHANNELS
    plain = not node._saved_transposed and node._saved_groups == 1 and set(node._saved_stride) == {1}
    if not few or not plain or len(padding) != weight.dim() - 2:
        return False
    return all(p <= d * (taps - 1) for p, d, taps in zip(padding, dilation, weight.shape[2:], strict=True))


def is_flat(node: Node) -> bool:
    """Whether it is a matrix times a vector, to which alone one goes back.

    Torch multiplies the turned matrix with each cotangent: rows times the matrix are one product, and have been seen to take a
    tenth of that.
    """
    return operation(node) == "Mv" and node.next_functions[0][0] is None


def by_hand(node: Node, v: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None] | None:
    """vᵀJ for the operands that are wanted, of an operation whose backward pass takes torch longer; None of any other."""
    if is_flat(node):
        return [None, v @ node._saved_self.detach()]
    return convolved(node, v, node._saved_weight.detach(), wanted) if is_turned(node) else None


def convolved(node: Node, v: Tensor, weight: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """vᵀJ of a convolution to those of its input, weight and bias that are wanted."""
    stride, padding, dilation = list(node._saved_stride), list(node._saved_padding), list(node._saved_dilation)
    found: list[Tensor | None] = [None, None, None]
    if wanted[0] and is_turned(node):
        dims = weight.dim() - 2
        turned = weight.flip(*range(2, dims + 2)).transpose(0, 1).to(v.dtype)
        pads = [d * (taps - 1) - p for p, d, taps in zip(padding, dilation, weight.shape[2:], strict=True)]
        found[0] = torch.ops.aten.convolution(v, turned, None, [1] * dims, pads, dilation, False, [0] * dims, 1)
        wanted = [False, *wanted[1:]]
    if any(wanted):
        mask = [*wanted, False, False][:3]
        sizes = [v.shape[1]] if mask[2] else None
        pulled = torch.ops.aten.convolution_backward(
            v, node._saved_input.detach().to(v.dtype), weight, sizes, stride, padding, dilation, bool(node._saved_transposed),
            list(node._saved_output_padding), int(node._saved_groups), mask,
        )  # fmt: skip
        found = [each if asked else before for each, asked, before in zip(pulled, mask, found, strict=True)]
    return found
