"""What the texts of several answers have in common: the question above them, tables of tensors and of flattened Jacobians,
arrays behind a label, and how much of all that is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.numbers import LONGEST, array_text, index_text, kind_text, number_text, shape_text
from jvpcli.render.terminal import NAME, PROSE_WIDTH, QUIET, columns, echoed, section
from jvpcli.report import Call, Cotangent, InputValue, Jacobian, Notice, Refusal, Value, WorkedEntry

NUMBERS = "The numbers"

MOST_ROWS = 20
"""Rows of all matrices that are shown together, but for the fewest that each has."""

MOST_WEIGHTS = 6
"""Of several v so many are shown beside the matrix."""


@dataclass(frozen=True)
class Window:
    """How much is shown; None for all.

    Attributes:
        rows, columns: of a matrix; no rows: no matrix, and no sum term by term.
        outputs, inputs: so many of those that there are.
        lines: of an array.
        products: so many of them, as formulas.
        sentences: of so many of these words say what the formula says.
        pieces: rows of all tables of blocks together.
    """

    rows: int | None = MOST_ROWS
    columns: int | None = 16
    outputs: int | None = 24
    inputs: int | None = None
    lines: int | None = LONGEST
    products: int | None = None
    sentences: int | None = None
    pieces: int | None = 12

WHOLE = Window(None, None, None, lines=None, pieces=None)


def render_question(
    console: Console, expression: str, calls: Sequence[Call] | None = None, refusal: Refusal | None = None
) -> None:
    """Prints what an answer is about: the expression, of a program with several derivative calls which of them are there, and
    what PyTorch raises for a call that was pasted, if it does."""
    console.print(echoed(expression, style="bold"), soft_wrap=True)
    if calls is not None and len(calls) > 1:
        console.print(section("The derivative calls", _calls(calls), prose=False))
    if refusal is not None:
        words = Group(Text(refusal.message), Text(refusal.explanation))
        console.print(section(Text("PyTorch raises", style="bold red"), words))


def _calls(calls: Sequence[Call]) -> Table:
    """A row for each call; the one that the answer is about is marked."""
    table = columns()
    for call in calls:
        about = "this answer" if call.explained else f"--call {call.number}"
        source = echoed(" ".join(call.source.split()))
        table.add_row(Text(str(call.number)), Text(f"line {call.line}", QUIET), source, Text(about, QUIET))
    return table


def render_warnings(warnings: tuple[Notice, ...], console: Console) -> None:
    """Prints a line a warning."""
    for notice in warnings:
        console.print(Text.assemble(("warning", "bold yellow"), f" ({notice.code}): {notice.message}"), soft_wrap=True)


def add_tensors(
    table: Table,
    inputs: Mapping[str, InputValue],
    outputs: Mapping[str, Value],
    cotangents: Mapping[str, Cotangent],
    batched: bool | None = None,
) -> None:
    """A row for each tensor that a question starts from: its name, its shape, what it is."""
    for name, x in inputs.items():
        kind = "input" if x.differentiated else "input, not differentiated"
        table.add_row(Text(name, NAME), shape_text(x.shape), typed(kind, x.dtype))
    for name, y in outputs.items():
        table.add_row(Text(name, NAME), shape_text(y.shape), typed("output", y.dtype))
    for name, v in cotangents.items():
        symbol = "v" if len(cotangents) == 1 else f"v for {name}"
        table.add_row(Text(symbol, NAME), shape_text(v.shape), _about_cotangent(name, v, batched))


def typed(kind: str, dtype: str) -> Text:
    """What a tensor is, and its dtype."""
    return Text.assemble(kind, (f", {dtype}", QUIET))


def _about_cotangent(output: str, v: Cotangent, batched: bool | None) -> Text:
    several = f", {v.shape[0]} of them" if batched else ""
    text = Text(f"grad_outputs, ∂L/∂{output}{several}: {v.source}")
    if v.source == "ones" and "complex" in v.dtype:
        text.append(" (the default; torch.autograd.grad itself has none for a complex output)", QUIET)
    elif v.source == "ones" and prod(v.shape) != 1:
        text.append(" (the default; torch.autograd.grad itself has a default only for a single-element output)", QUIET)
    return text


def filled(jacobian: Jacobian) -> str:
    """The kind of a Jacobian, and how many of its entries are not zero."""
    size = int(np.prod(jacobian.shape, dtype=object))
    entries = "" if jacobian.nnz is None else f", {jacobian.nnz} of {size} entries not zero"
    return f"{kind_text(jacobian.structure, jacobian.scale)}{entries}"


def einsum_text(einsum: str, formula: str, y: str, x: str) -> str:
    """The contraction as a call of einsum; two where the formula has a term for Re v and one for Im v."""
    if "Im v" not in formula:
        return f'einsum("{einsum}", v, ∂{y}/∂{x})'
    return f'einsum("{einsum}", Re v, ∂(Re {y})/∂{x}) + einsum("{einsum}", Im v, ∂(Im {y})/∂{x})'


def not_shown(jacobian: Jacobian) -> str:
    """Why there is no table of a Jacobian."""
    if jacobian.values is not None:
        return f"held as {jacobian.values.size} nonzeros (see --json), not as a table"
    return f"not written out: {jacobian.reason}" if jacobian.reason else "too large for a table"


def summary(jacobian: Jacobian, window: Window, width: int) -> Iterator[RenderableType]:
    """What is known of a Jacobian that is not held."""
    if jacobian.frobenius_norm is not None:
        yield Text(f"its Frobenius norm: {number_text(jacobian.frobenius_norm)}")
    if jacobian.diagonal is not None:
        yield labelled_array("its main diagonal, flattened: ", jacobian.diagonal, window.lines, width, style="")


def matrix_table(
    y: str,
    x: str,
    jacobian: Jacobian,
    v: np.ndarray,
    window: Window,
    width: int,
    *,
    real: bool,
    axes: int,
    words: tuple[str, str, str] | None = None,
) -> RenderableType:
    """The flattened Jacobian, a row an entry of y with its v, a column an entry of x with its result beneath.

    Where Re v and Im v go ways of their own, Re y and Im y have a row each; `real` says that x is real.  `axes` is how many
    y has: v may have one more, of several v (or none), which have a column and a result each.  `words` are what the result, v
    and the product of both are called, if not as in a VJP.
    """
    assert jacobian.value is not None
    out_shape, in_shape = jacobian.shape[:axes], jacobian.shape[axes:]
    matrix = jacobian.value.reshape(prod(out_shape), prod(in_shape))
    if matrix.size == 0:
        return Text(f"no entries: {jacobian.shape} has a size of 0", style=QUIET)
    weights = v.reshape(len(v) if v.ndim > axes else 1, matrix.shape[0])
    halves = jacobian.imaginary is not None or (real and np.iscomplexobj(matrix))
    if halves:
        parts = (matrix.real, matrix.imag) if jacobian.imaginary is None else (matrix, jacobian.imaginary.reshape(matrix.shape))
        matrix = np.stack(parts, 1).reshape(2 * matrix.shape[0], -1)
        weights = np.stack([weights.real, weights.imag], 2).reshape(len(weights), matrix.shape[0])
    with np.errstate(all="ignore"):
        result = weights @ matrix
    shown = range(len(weights) if window.columns is None else min(len(weights), MOST_WEIGHTS))
    sheet = _Sheet(y, x, matrix, weights, result, out_shape, in_shape, halves, v.ndim > axes, shown, words)
    rows = selected(matrix.shape[0], window.rows)
    fitting = _fitting(sheet, width)
    if window.columns is None:  # everything: as many tables side by side as it takes
        blocks = [
            list(range(start, min(start + fitting, matrix.shape[1]))) for start in range(0, matrix.shape[1], fitting)
        ]
        return Group(*(_table(sheet, rows, block) for block in blocks))
    columns = selected(matrix.shape[1], min(window.columns, fitting))
    unseen = len(sheet.weights) - len(sheet.shown)
    further = [f"{unseen} of {len(sheet.weights)} v"] if unseen else []
    return Group(_table(sheet, rows, columns), *hidden(matrix.shape, rows, columns, further))


@dataclass(frozen=True)
class _Sheet:
    """What a table of a flattened Jacobian shows: matrix (m, n), weights (v, m), result (v, n) for each v.

    With `halves` there are two rows for an entry of y, of its real and of its imaginary part; `several` says that v has an axis
    in front, and `shown` which of them are shown.  `words` are the names of the result, v and the product, if not a VJP's.
    """

    y: str
    x: str
    matrix: np.ndarray
    weights: np.ndarray
    result: np.ndarray
    out_shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    halves: bool = False
    several: bool = False
    shown: Sequence[int] = (0,)
    words: tuple[str, str, str] | None = None

    def names(self, which: int) -> tuple[str, str, str]:
        """What the result, v and their product are called."""
        return self.words or (f"∂{self.numbered('L', which)}/∂{self.x}", self.numbered("v", which), "vᵀJ")

    def numbered(self, name: str, which: int) -> str:
        """`v`, or `v_1` of several."""
        return f"{name}_{which}" if self.several else name

    def row_label(self, row: int) -> str:
        """`y[0,1]`, or `Re y[0,1]`."""
        part, place = ("Re ", "Im ")[row % 2] if self.halves else "", row // 2 if self.halves else row
        return part + self.y + index_text(place, self.out_shape)


def _table(sheet: _Sheet, rows: list[int | None], columns: Sequence[int | None]) -> Table:
    """Some rows and columns; None stands for those left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_footer=bool(sheet.shown), header_style=QUIET)
    table.add_column("", footer=Text("\n".join(sheet.names(which)[0] for which in sheet.shown), style=NAME))
    for which in sheet.shown:
        _, weight, product = sheet.names(which)
        footer = "\n".join(product if other == which else "" for other in sheet.shown)
        table.add_column(weight, justify="right", footer=Text(footer, style=QUIET), style="magenta")
    for column in columns:
        header = "…" if column is None else sheet.x + index_text(column, sheet.in_shape)
        footer = "\n".join("…" if column is None else number_text(sheet.result[which, column]) for which in sheet.shown)
        table.add_column(Text(header), justify="right", footer=Text(footer, style="bold green"))
    for row in rows:
        if row is None:
            table.add_row(*["⋮"] * (len(columns) + 1 + len(sheet.shown)))
            continue
        cells = (Text("…") if column is None else _cell(sheet.matrix[row, column]) for column in columns)
        table.add_row(Text(sheet.row_label(row), style=QUIET), *(number_text(sheet.weights[k, row]) for k in sheet.shown), *cells)
    return table


def _cell(entry: np.generic) -> Text:
    return Text("0", style=QUIET) if entry == 0 else Text(number_text(entry))


def selected(count: int, most: int | None) -> list[int | None]:
    """The positions that are shown; None stands for those left out in the middle."""
    if most is None or count <= most:
        return list(range(count))
    most = max(most, 3)
    head = (most + 1) // 2
    return [*range(head), None, *range(count - (most - head), count)]


def _fitting(sheet: _Sheet, width: int) -> int:
    """How many columns fit beside the labels, if all are as wide as the widest of those that are measured."""
    labels = [len(sheet.x + index_text(column, sheet.in_shape)) for column in (0, sheet.matrix.shape[1] - 1)]
    numbers = [len(number_text(entry)) for entry in (*sheet.matrix[:24, :24].reshape(-1), *sheet.result[:, :24].reshape(-1))]
    margin = len(sheet.row_label(sheet.matrix.shape[0] - 1)) + 8 + 8 * len(sheet.shown)
    return max(3, (width - margin) // (max(*labels, *numbers) + 2))


def hidden(
    shape: tuple[int, ...], rows: list[int | None], columns: list[int | None], further: Sequence[str] = ()
) -> list[Text]:
    """What a truncated table hides, and how to see it."""
    parts = [
        f"{count - len(shown) + 1} of {count} {kind}"
        for kind, count, shown in zip(("rows", "columns"), shape, (rows, columns), strict=True)
        if None in shown
    ]
    parts += further
    return [Text(f"{' and '.join(parts)} not shown; --full shows all", style=QUIET)] if parts else []


def worked(entry: WorkedEntry) -> Text:
    """`∂L/∂x[0] = 1·2 + 1·3 = 5`: v times the derivative, in the order of the rows."""
    products = [f"{_factor(term.cotangent)}·{_factor(term.derivative)}" for term in entry.terms]
    if entry.hidden:
        products.append(f"… ({entry.hidden} more terms)")
    total = " + ".join(products) or "0 (every term is zero)"
    result = f" = {number_text(entry.result)}" if entry.terms else ""
    return Text.assemble((entry.label, NAME), f" = {total}{result}")


def _factor(value: float) -> str:
    text = number_text(value)
    return f"({text})" if text.startswith("-") else text


def labelled_array(label: str, value: np.ndarray | None, lines: int | None, width: int, style: str = "bold green") -> Text:
    """A label and an array, laid out for a console of so many columns: of a large one so many lines; None: all of it."""
    room = max(20, min(width, PROSE_WIDTH) - len(label) - 4)
    return labelled(label, array_text(value, lines=lines, width=room), style)


def labelled(label: str, text: str, style: str = "bold green") -> Text:
    """A label and a block of text whose further lines are indented to stand under the first."""
    return Text.assemble((label, NAME), (text.replace("\n", "\n" + " " * cell_len(label)), style))
