"""A Jacobian in blocks: consecutive rows or columns, each computed by itself, so that only one has to fit into memory.

A block of rows is the Jacobian of a part of the output, y.flatten()[start:stop], by whatever way the plan for that part finds.
A block of columns is the same of the transposed map: g(w) = wᵀJ is linear in w, and rows of ∂g/∂w are columns of J.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, LimitError
from jvpcli.jacobians.engine import compute, plan
from jvpcli.jacobians.graph import read_graph
from jvpcli.jacobians.linear_map import DenseMap, LinearMap, Shape
from jvpcli.jacobians.matrix_free import OperatorMap
from jvpcli.jacobians.passes import adds_up, reverse_jacobian, transposed
from jvpcli.jacobians.plan import GraphPlan
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import UnsupportedError, Workspace
from jvpcli.problem import Problem

MOST_BYTES = 1 << 26
"""Bytes of a block at most: what is lost when a worker dies, and what a reader fetches at a time."""

PART = 16
"""A block takes at most one byte in so many of the memory limit: computing and compressing it takes a few times as much."""

NONZERO_BYTES = 16
"""Bytes for which a nonzero counts: its value and its place."""

FEW = 4
"""Where at most one entry in so many can be other than zero, the nonzeros are the better form."""


@dataclass(frozen=True)
class Cut:
    """How the Jacobians of an output to some inputs are cut: all by the same rows, or one by its columns.

    Attributes:
        output, inputs: their names.
        along: "rows" or "columns".
        length: how many of those there are.
        size: how many of them a block has; the last may have fewer.
        room: of each input the entries that a block of its Jacobian holds at most, where nonzeros alone are held; else None.
    """

    output: str
    inputs: tuple[str, ...]
    along: str
    length: int
    size: int
    room: tuple[int | None, ...]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.length // self.size)

    def span(self, number: int) -> tuple[int, int]:
        """Where a block starts and stops."""
        return number * self.size, min(self.length, (number + 1) * self.size)


def cuts_of(problem: Problem, mode: str, form: str, limit: int) -> tuple[Cut, ...]:
    """How every Jacobian of a problem is cut: along what takes less time, into blocks that take a small part of `limit` bytes.

    Args:
        problem: evaluated, with differentiable outputs.
        mode: "auto"; "reverse" asks for rows, "forward" for columns.
        form: "dense" or "sparse" settles how blocks are held, "auto" goes by the entries that can be other than zero.
        limit: bytes that computing a block may take over what the evaluation holds.

    Raises:
        LimitError: not even one row (or column) fits.
    """
    return tuple([cut for name, y in problem.differentiable.items() for cut in _cuts(problem, name, y, mode, form, limit)])


def _cuts(problem: Problem, name: str, y: Tensor, mode: str, form: str, limit: int) -> Iterator[Cut]:
    leaves, m = problem.leaves, y.numel()
    is_real = not any(map(torch.is_complex, (y, *leaves.values())))
    if is_real and (mode == "forward" or (mode == "auto" and _columns_are_cheaper(problem, y))):
        for x, leaf in leaves.items():
            size = _size(leaf.numel(), m * leaf.element_size(), limit, f"a column of ∂{name}/∂{x}")
            yield Cut(name, (x,), "columns", leaf.numel(), _aligned(size, tuple(leaf.shape)), (None,))
        return
    widths, row = [], 0
    for leaf in leaves.values():
        n = leaf.numel()
        width = _width(problem, y, leaf) if is_real else n
        is_sparse = form == "sparse" or (form == "auto" and FEW * width <= n)
        widths.append(width if is_sparse and is_real else None)
        row += n * leaf.element_size() * (1 if is_real else 4) if widths[-1] is None else width * NONZERO_BYTES
    size = _aligned(_size(m, row, limit, f"a row of the Jacobian of {name}"), tuple(y.shape))
    yield Cut(name, tuple(leaves), "rows", m, size, tuple([None if width is None else size * width for width in widths]))


def _columns_are_cheaper(problem: Problem, y: Tensor) -> bool:
    try:
        chosen = GraphPlan(read_graph(y, list(problem.leaves.values()), problem.evaluation.hooked)).chosen
    except UnsupportedError:
        return False
    return (chosen.strategy, chosen.mode) == ("dense", "forward")


def _width(problem: Problem, y: Tensor, x: Tensor) -> int:
    """Entries of a row that can be other than zero, at most, by the operations."""
    try:
        bound = GraphPlan(read_graph(y, [x], problem.evaluation.hooked, problem.weighed)).report.bound
    except UnsupportedError:
        return x.numel()
    return min(x.numel(), -(-bound // max(1, y.numel())))


def _size(length: int, each: int, limit: int, what: str) -> int:
    """How many rows (or columns) of so many bytes a block has.

    Raises:
        LimitError: one alone takes more than a quarter of the limit.
    """
    if 4 * each > limit:
        raise LimitError(
            f"{what} takes {each:,} bytes, and a block of the Jacobian may take a quarter of the memory limit, {limit // 4:,}",
            hints=("raise --memory-limit, or leave out inputs with --wrt",),
        )
    return max(1, min(max(1, length), min(MOST_BYTES, limit // PART) // max(1, each)))


def _aligned(size: int, shape: tuple[int, ...]) -> int:
    """The size, a little smaller where blocks end with whole places of leading axes then, which keep what structure there is."""
    for axis in range(1, len(shape)):
        inner = prod(shape[axis:])
        if 0 < inner <= size:
            return size // inner * inner
    return size


# One block


def block(problem: Problem, cut: Cut, number: int, limit: int) -> Mapping[str, LinearMap]:
    """One block of the Jacobians of a cut, by input: maps of its rows, or of its columns.

    Raises:
        LimitError: it does not fit into `limit` bytes.
        EvaluationError: columns by forward passes are not what a backward pass gives.
    """
    start, stop = cut.span(number)
    if cut.along == "columns":
        return {cut.inputs[0]: _columns(problem, cut, start, stop, limit)}
    leaves = [problem.leaves[x] for x in cut.inputs]
    part = _part(problem.differentiable[cut.output], start, stop)
    return dict(zip(cut.inputs, _maps(problem, part, leaves, limit, [room is not None for room in cut.room]), strict=True))


def _maps(problem: Problem, part: Tensor, ends: list[Tensor], limit: int, sparse: Sequence[bool]) -> list[LinearMap]:
    """∂part/∂(each of the ends), by halves where computing the whole takes more than the limit."""
    try:
        maps = compute(plan(part, ends, "reverse", limit, problem.evaluation.hooked, problem.weighed)).maps
    except UnsupportedError:
        return reverse_jacobian(part, ends)
    if not any(isinstance(each, OperatorMap) for each in maps):
        return maps
    if part.numel() < 2:
        raise LimitError("computing one row of the Jacobian takes more than the memory limit", hints=("raise --memory-limit",))
    first, second = (_maps(problem, half, ends, limit, sparse) for half in part.reshape(-1).tensor_split(2))
    both = zip(sparse, first, second, strict=True)
    return [_joined([a, b]) if is_sparse else _stacked([a, b]) for is_sparse, a, b in both]


def _stacked(maps: Sequence[LinearMap]) -> LinearMap:
    """Maps with the same input, the rows of one below those of another, held dense."""
    matrix = torch.cat([each.to_dense().reshape(each.m, each.n) for each in maps])
    return DenseMap((matrix.shape[0],), maps[0].in_shape, matrix)


def _joined(maps: Sequence[LinearMap]) -> LinearMap:
    """Maps with the same input, the rows of one below those of another, held by their nonzeros."""
    starts = [0, *accumulate(each.m for each in maps)]
    shifted = [(r + start, c, v) for start, (r, c, v) in zip(starts, [each.entries() for each in maps], strict=False)]
    rows, cols, values = (torch.cat(each) for each in zip(*shifted, strict=True))
    return sparse_map((starts[-1],), maps[0].in_shape, rows, cols, values)


def sparse_map(out_shape: Shape, in_shape: Shape, rows: Tensor, cols: Tensor, values: Tensor) -> StructuredMap:
    """The map of some entries, each at another place."""
    pattern = Pattern(rows, cols.reshape(1, -1), unique_rows=False)
    term = SparseMap(out_shape, in_shape, values[:0], pattern, values.reshape(1, -1))
    return StructuredMap(out_shape, in_shape, (term,), values[:0], Workspace())


def _part(y: Tensor, start: int, stop: int) -> Tensor:
    """y.flatten()[start:stop], by whole places of the leading axes where they are whole."""
    shape = tuple(y.shape)
    for axis in range(1, len(shape)):
        inner = prod(shape[axis:])
        if inner and start % inner == 0 and stop % inner == 0:
            return y.flatten(0, axis - 1)[start // inner : stop // inner]
    return y.reshape(-1)[start:stop]


def _columns(problem: Problem, cut: Cut, start: int, stop: int, limit: int) -> LinearMap:
    y, x = problem.differentiable[cut.output], problem.leaves[cut.inputs[0]]
    weights, (gradient,) = transposed(y, [x])
    matrix = x.detach().new_zeros((y.numel(), stop - start))
    if gradient is not None:
        part = _part(gradient, start, stop)
        if part.requires_grad:
            (found,) = _maps(problem, part, [weights], limit, [False])
            matrix = found.to_dense().reshape(stop - start, y.numel()).t()
        if not adds_up(weights.detach().reshape(-1), matrix, part.detach().reshape(-1)) or bool(matrix.isnan().any()):
            raise EvaluationError(
                f"the columns of ∂{cut.output}/∂{cut.inputs[0]} cannot be computed by forward passes: differentiating a backward "
                "pass loses a part of it here, or gives NaN",
                hints=("--mode reverse goes row by row",),
            )
    return DenseMap((y.numel(),), (stop - start,), matrix)
