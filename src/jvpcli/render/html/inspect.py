"""What the templates of an `inspect` page show, beside the report itself: its formulas, its diagram of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from markupsafe import Markup

from jvpcli.errors import shortened
from jvpcli.render.html.data import facts, index_letters, inspect_data, split_einsum
from jvpcli.render.html.formulas import IN, OUT, Kinds, math
from jvpcli.render.matrix import Matrix, jacobians
from jvpcli.render.numbers import shape_text
from jvpcli.report import Comparison, Contraction, InspectReport, Jacobian, Shape

OPEN = 4
"""Jacobians that are unfolded when the page opens."""

LEFT, MIDDLE, RIGHT = 62, 196, 334
"""The centres of the three columns of the diagram, which is 400 wide."""

TENSOR_SIDE, JACOBIAN_SIDE = 72, 96
CELL = 15
MOST_LINES = 16
"""A grid with more cells than this along a side is drawn without lines."""

LONGEST_NAME = 14

@dataclass(frozen=True, slots=True)
class Pair:
    """One output and one input: everything that is drawn and said about them."""

    y: str
    x: str
    jacobian: Jacobian
    matrix: Matrix | None
    contraction: Contraction | None
    formula: Markup | None
    diagram: Diagram | None
    facts: Mapping[str, int] | None

    @property
    def size(self) -> int:
        """Number of entries of the Jacobian."""
        return prod(self.jacobian.shape)

    @property
    def square(self) -> bool:
        """Whether diagonals mean something: as many outputs as inputs."""
        return self.matrix is not None and self.matrix.m == self.matrix.n


WORDS: Mapping[str, str] = {
    "weight": "v", "loss": "L", "matrix": "J", "output": "y", "role": "grad_outputs", "about": "the cotangent, grad_outputs",
    "missing": "has no cotangent: it takes no part in the result",
}  # fmt: skip
"""What a page calls the weights, the scalar ⟨v, y⟩ whose gradient is the result, the matrix between them, and the output."""


def view(report: InspectReport, words: Mapping[str, str] = WORDS) -> Mapping[str, Any]:
    """The templates' variables."""
    return {
        "report": report,
        "command": "inspect",
        "words": words,
        "pairs": [_pair(report, y, x, jacobian, matrix, words) for y, x, jacobian, matrix in jacobians(report)],
        "open": OPEN,
        "agreement": agreement(report.comparison),
        "data": inspect_data(report, words),
    }


def _pair(
    report: InspectReport, y: str, x: str, jacobian: Jacobian, matrix: Matrix | None, words: Mapping[str, str]
) -> Pair:
    contraction = report.contraction.get(y, {}).get(x)
    names = {y: OUT, words["weight"]: OUT, x: IN}
    return Pair(
        y=y,
        x=x,
        jacobian=jacobian,
        matrix=matrix,
        contraction=contraction,
        formula=contracted(contraction.formula, contraction.einsum, names) if contraction else None,
        diagram=diagram(report, y, x, contraction, matrix, words) if contraction else None,
        facts=facts(matrix),
    )


def contracted(formula: str, einsum: str, names: Mapping[str, str]) -> Markup:
    """The formula of a contraction, where `einsum` tells which axes are of the output and which of the input."""
    out_axes, in_axes = split_einsum(einsum)
    letters = dict.fromkeys(out_axes, OUT) | dict.fromkeys(in_axes, IN)
    return math(formula, Kinds(names, letters), block=True)


def agreement(comparison: Comparison) -> str:
    """That two ways to the result agree, and where they could not be compared."""
    if comparison.not_finite:
        entries = "entry" if comparison.compared == 1 else f"{comparison.compared} entries"
        are = "is" if comparison.not_finite == 1 else "are"
        return (
            f"torch.autograd.grad gives the same in the {entries} that can be compared; "
            f"{comparison.not_finite} {are} not finite, and {'shows' if are == 'is' else 'show'} autograd's number."
        )
    return "torch.autograd.grad gives the same, entry by entry."


# The diagram of shapes: x → y above, ∂L/∂x ← J ← v below.  Only geometry; the template draws it.  A tensor is a grid of
# its last axis (to the right) by all others (downwards), the Jacobian a grid of output entries (downwards) by input
# entries (to the right), its nonzeros filled.


@dataclass(frozen=True, slots=True)
class Grid:
    """A tensor: its outline, the lines inside, the filled cells, and what is written around it.

    `axes` are the lines below it: the kind of axes ("in" or "out") and their lengths.
    """

    x: float
    y: float
    width: float
    height: float
    kind: str  # "in" | "out" | "map"
    role: str
    name: str
    shape: str
    axes: tuple[tuple[str, str], ...]
    vertical: tuple[float, ...] = ()
    horizontal: tuple[float, ...] = ()
    filled: tuple[tuple[float, float, float, float, float], ...] = ()

    @property
    def middle(self) -> tuple[float, float]:
        """The centre."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Diagram:
    """The five tensors of one VJP, and the height that they need."""

    x: Grid
    y: Grid
    v: Grid
    jacobian: Grid
    result: Grid
    height: float
    description: str


def diagram(
    report: InspectReport,
    y: str,
    x: str,
    contraction: Contraction,
    matrix: Matrix | None,
    words: Mapping[str, str] = WORDS,
) -> Diagram:
    """The diagram of output `y` and input `x`."""
    out_axes, in_axes = index_letters(contraction)
    weight = words["weight"]
    out_shape, in_shape = report.outputs[y].shape, report.inputs[x].shape
    top, heads = 34.0, 62.0
    input_grid = _tensor(in_shape, in_axes, LEFT, top, "in", "input", x)
    output_grid = _tensor(out_shape, out_axes, RIGHT, top, "out", "output", y)
    below = top + max(input_grid.height, output_grid.height) + heads
    weights = _tensor(out_shape, out_axes, RIGHT, below, "out", words["role"], weight)
    above, under = (shortened(name, LONGEST_NAME) for name in (y, x))
    result = _tensor(in_shape, in_axes, LEFT, below, "in", "result", f"∂{words['loss']}/∂{under}")
    jacobian = _jacobian(out_shape, in_shape, out_axes, in_axes, below, f"∂{above}/∂{under}", matrix)
    height = max(grid.y + grid.height for grid in (weights, result, jacobian)) + 46
    description = (
        f"{x} of shape {shape_text(in_shape)} goes to {y} of shape {shape_text(out_shape)}. {weight} has the shape of {y}; the "
        f"Jacobian has the shape {out_shape + in_shape}, the axes of {y} and then those of {x}; {weight} times the Jacobian is "
        f"∂{words['loss']}/∂{x}, of the shape of {x}."
    )
    return Diagram(input_grid, output_grid, weights, jacobian, result, height, description)


def _tensor(shape: Shape, axes: str, centre: float, top: float, kind: str, role: str, name: str) -> Grid:
    columns = shape[-1] if shape else 1
    rows = prod(shape[:-1])
    width, height = _size(rows, columns, TENSOR_SIDE)
    return Grid(
        x=centre - width / 2,
        y=top,
        width=width,
        height=height,
        kind=kind,
        role=role,
        name=shortened(name, LONGEST_NAME),
        shape=str(tuple(shape)),
        axes=_captions((kind, axes, shape)),
        vertical=_lines(columns, width),
        horizontal=_lines(rows, height),
    )


def _jacobian(
    out_shape: Shape, in_shape: Shape, out_axes: str, in_axes: str, top: float, name: str, matrix: Matrix | None
) -> Grid:
    rows, columns = prod(out_shape), prod(in_shape)
    width, height = _size(rows, columns, JACOBIAN_SIDE)
    left = MIDDLE - width / 2
    return Grid(
        x=left,
        y=top,
        width=width,
        height=height,
        kind="map",
        role="Jacobian",
        name=name,
        shape=str(tuple(out_shape + in_shape)),
        axes=_captions(("out", out_axes, out_shape), ("in", in_axes, in_shape)),
        vertical=_lines(columns, width),
        horizontal=_lines(rows, height),
        filled=() if matrix is None else _filled(matrix, width, height),
    )


def _filled(matrix: Matrix, width: float, height: float) -> tuple[tuple[float, float, float, float, float], ...]:
    """The cells that hold a nonzero: x, y, width, height and how strong (0 to 1), inside the grid."""
    picture = matrix.blocks(24, 24)
    rows, columns = picture.shape
    largest = matrix.largest() or 1.0
    return tuple(
        (
            width * column / columns,
            height * row / rows,
            width / columns,
            height / rows,
            round(0.3 + 0.7 * min(1.0, abs(entry) / largest), 2) if entry == entry else 1.0,
        )
        for row, line in enumerate(picture.tolist())
        for column, entry in enumerate(line)
        if entry != 0
    )


def _size(rows: int, columns: int, most: float) -> tuple[float, float]:
    """Width and height: square cells where that leaves both sides visible."""
    cell = min(CELL, most / max(rows, columns, 1))
    return max(10.0, cell * columns), max(10.0, cell * rows)


def _lines(count: int, length: float) -> tuple[float, ...]:
    return tuple(round(length * k / count, 2) for k in range(1, count)) if 1 < count <= MOST_LINES else ()


def _captions(*spaces: tuple[str, str, Shape]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, _lengths(axes, shape)) for kind, axes, shape in spaces if shape)


def _lengths(axes: str, shape: Shape) -> str:
    """`j=4 k=4`."""
    if len(shape) > 3:
        return f"{axes}: {prod(shape)}"
    return " ".join(f"{axis}={length}" for axis, length in zip(axes, shape, strict=False))
