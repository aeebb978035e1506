"""A Jacobian as a picture sees it: flattened, as its nonzeros, and summed up in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from jvpcli.report import InspectReport, Jacobian, Shape
from jvpcli.report.hessian import HessianReport, gradient_name


@dataclass(frozen=True, slots=True)
class Matrix:
    """A Jacobian flattened row-major: m output entries by n input entries.

    Attributes:
        out_shape, in_shape: the shapes whose products are m and n.
        rows, cols: int64 (nnz,), the place of each nonzero, sorted by row and then by column.
        values: (nnz,), the nonzeros themselves; NaN counts as one.
    """

    out_shape: Shape
    in_shape: Shape
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray

    @property
    def m(self) -> int:
        """Number of output entries."""
        return prod(self.out_shape)

    @property
    def n(self) -> int:
        """Number of input entries."""
        return prod(self.in_shape)

    @property
    def nnz(self) -> int:
        """Number of entries that are held."""
        return self.values.size

    def dense(self) -> np.ndarray:
        """The array (m, n)."""
        full = np.zeros((self.m, self.n), self.values.dtype)
        full[self.rows, self.cols] = self.values
        return full

    def largest(self) -> float:
        """The largest finite absolute value, 0 where there is none."""
        sizes = np.abs(self.values)
        finite = sizes[np.isfinite(sizes)]
        return float(finite.max()) if finite.size else 0.0

    def blocks(self, height: int, width: int) -> np.ndarray:
        """The matrix in at most height × width blocks: from each its entry of largest absolute value, sign kept.

        A NaN wins over any number, so that it never disappears.  Complex entries count by absolute value.
        """
        height, width = min(height, self.m), min(width, self.n)
        picture = np.zeros(height * width, np.float64)
        if picture.size:
            values = np.abs(self.values) if np.iscomplexobj(self.values) else self.values
            order = np.argsort(np.abs(values), kind="stable")  # of equal places the last assignment stays
            places = (self.rows * height // self.m) * width + self.cols * width // self.n
            picture[places[order]] = values[order]
        return picture.reshape(height, width)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Where the nonzeros of a matrix stand.

    Attributes:
        nnz: how many there are.
        lower, upper: how many diagonals below and above the main one reach to the outermost nonzeros.
        diagonal_blocks: the largest number of equal blocks along the diagonal that hold them all; 1 if none do.
    """

    nnz: int
    lower: int
    upper: int
    diagonal_blocks: int

    @property
    def bandwidth(self) -> int:
        """Number of diagonals from the lowest to the highest that holds a nonzero, the main one included."""
        return self.lower + self.upper + 1 if self.nnz else 0


def jacobians(report: InspectReport | HessianReport) -> Iterator[tuple[str, str, Jacobian, Matrix | None]]:
    """Each Jacobian of a report with its output, its input, and its matrix; of a Hessian, that of the gradient."""
    if isinstance(report, HessianReport):
        for x, others in report.hessian.items():
            for w, block in others.items():
                yield gradient_name(x), w, block, flatten(block, len(report.inputs[x].shape))
        return
    for y, by_input in report.jacobian.items():
        for x, jacobian in by_input.items():
            yield y, x, jacobian, flatten(jacobian, len(report.outputs[y].shape))


def flatten(jacobian: Jacobian, output_axes: int) -> Matrix | None:
    """The matrix of a Jacobian whose first `output_axes` axes are the output's; None if it is not written out."""
    out_shape, in_shape = jacobian.shape[:output_axes], jacobian.shape[output_axes:]
    if jacobian.value is not None:
        flat = jacobian.value.reshape(prod(out_shape), prod(in_shape))
        rows, cols = np.nonzero(flat)
        return Matrix(out_shape, in_shape, rows, cols, flat[rows, cols])
    if jacobian.values is None or jacobian.indices is None:
        return None
    count = jacobian.values.size
    rows = _raveled(jacobian.indices[:output_axes], out_shape, count)
    cols = _raveled(jacobian.indices[output_axes:], in_shape, count)
    order = np.lexsort((cols, rows))
    return Matrix(out_shape, in_shape, rows[order], cols[order], jacobian.values[order])


def _raveled(indices: tuple[np.ndarray, ...], shape: Shape, count: int) -> np.ndarray:
    """Row-major positions of `count` entries; all zero for a 0-d shape."""
    flat = np.zeros(count, np.int64)
    for index, length in zip(indices, shape, strict=True):
        flat = flat * length + index
    return flat


def pattern(matrix: Matrix) -> Pattern:
    """Where the nonzeros stand."""
    if not matrix.nnz:
        return Pattern(0, 0, 0, 1)
    offsets = matrix.cols - matrix.rows
    return Pattern(matrix.nnz, max(0, -int(offsets.min())), max(0, int(offsets.max())), _diagonal_blocks(matrix))


def _diagonal_blocks(matrix: Matrix) -> int:
    most = gcd(matrix.m, matrix.n)
    for count in range(most, 1, -1):
        if most % count == 0 and np.array_equal(matrix.rows // (matrix.m // count), matrix.cols // (matrix.n // count)):
            return count
    return 1
