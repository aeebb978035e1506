"""The answer of `jvp inspect` as a person reads it: shapes, which product, the numbers, the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.numbers import LONGEST, array_text, bytes_text, index_text, kind_text, number_text, shape_text
from jvpcli.render.terminal import HEADING, NAME, PROSE_WIDTH, QUIET, Indented, echoed
from jvpcli.report import (
    Call,
    Comparison,
    Contraction,
    Cotangent,
    InputValue,
    InspectReport,
    Jacobian,
    Notice,
    Refusal,
    Saved,
    Value,
    WorkedEntry,
)

if TYPE_CHECKING:
    from jvpcli.report import PlanReport

T = TypeVar("T")

NUMBERS = "The numbers"
BLOCKS = "The norms of the Jacobian's blocks"

MOST_ROWS = 20
"""Rows of all matrices that are shown together, but for the fewest that each has."""

FEWEST_ROWS = 8

MOST_WEIGHTS = 6
"""Of several v so many are shown beside the matrix."""

MOST_PAIRS = 4
"""So many Jacobians, if all their entries are shown, are told of as they are, however long that becomes."""

MOST_LINES = 40
"""Lines of what is told of more or of larger Jacobians."""


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

SUMMARIES = (
    Window(FEWEST_ROWS, lines=6, sentences=2),
    Window(5, lines=6, sentences=1),
    Window(0, lines=6, sentences=1),
    Window(0, outputs=4, inputs=4, lines=3, products=1),
    Window(0, outputs=4, inputs=4, lines=2, products=1, sentences=0),
    Window(0, outputs=2, inputs=3, lines=2, products=1, sentences=0),
    Window(0, outputs=1, inputs=1, lines=2, products=1, sentences=0, pieces=6),
)
"""What is shown where MOST_LINES don't hold everything: of the numbers least, since the sums that they make are the result."""


def _windows(report: InspectReport) -> Sequence[Window]:
    """How much may be shown, the most first: what is taken is the first that is short enough."""
    sizes = [(prod(report.outputs[y].shape), prod(report.inputs[x].shape)) for y, of in report.jacobian.items() for x in of]
    first = Window(rows=max(MOST_ROWS // max(len(sizes), 1), FEWEST_ROWS))
    small = len(sizes) <= MOST_PAIRS and sum(m for m, _ in sizes) <= MOST_ROWS and all(n <= 16 for _, n in sizes)
    return (first,) if small else (first, *SUMMARIES)


def render_inspect(report: InspectReport, console: Console, *, full: bool = False) -> None:
    """Prints the answer; `full` leaves nothing out, else what is about large or many tensors is told in MOST_LINES."""
    body = Group()
    for window in (WHOLE,) if full else _windows(report):
        body = Group(*_body(report, window, console.width))
        if len(console.render_lines(body, pad=False)) < MOST_LINES:  # one is the expression's
            break
    console.print(echoed(report.expression, style="bold"), soft_wrap=True)
    render_calls(report.calls, console)
    render_refusal(report.refusal, console)
    console.print(body)


def _body(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    """The sections, and what is left out of them."""
    shown = _first(report, window)
    hidden = len(report.outputs) - len(shown.outputs)
    for title, body in _sections(shown, window, width, hidden):
        yield Text()
        yield Text(title, style=HEADING)
        yield Indented(body, prose=title not in (NUMBERS, BLOCKS))
    left_out = ", ".join(_left_out(report, shown, window))
    if left_out:
        yield Text()
        yield Text(f"Not shown: {left_out}; --full shows all.", style=QUIET)


def _left_out(report: InspectReport, shown: InspectReport, window: Window) -> Iterator[str]:
    """What a window leaves out, but for what stands beside a table and the dots in arrays."""
    count, least = len(_pairs(shown)), min(len(_pairs(shown)) if k is None else k for k in (window.products, window.sentences))
    for what in ("outputs", "inputs"):
        gone = len(getattr(report, what)) - len(getattr(shown, what))
        if gone:
            yield f"{gone} of {len(getattr(report, what))} {what}"
    if least < count:
        yield "products in words" if window.products is None or count == 1 else "how further products are made"
    if window.rows == 0:
        yield "the numbers of the Jacobians"


def render_calls(calls: Sequence[Call] | None, console: Console) -> None:
    """Prints the derivative calls of the program that was given, where there are several, and which the answer is about."""
    if calls is None or len(calls) < 2:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for call in calls:
        about = "this answer" if call.explained else f"--call {call.number}"
        source = echoed(" ".join(call.source.split()))
        table.add_row(Text(str(call.number)), Text(f"line {call.line}", QUIET), source, Text(about, QUIET))
    console.print()
    console.print(Text("The derivative calls", style=HEADING))
    console.print(Indented(table, prose=False))


def render_refusal(refusal: Refusal | None, console: Console) -> None:
    """Prints what PyTorch raises for the call that was pasted, if it does: before the answer that it does not give."""
    if refusal is not None:
        console.print()
        console.print(Text("PyTorch raises", style="bold red"))
        console.print(Indented(Group(Text(refusal.message), Text(refusal.explanation)), prose=True))


def render_warnings(warnings: tuple[Notice, ...], console: Console) -> None:
    """Prints a line a warning."""
    for notice in warnings:
        console.print(Text.assemble(("warning", "bold yellow"), f" ({notice.code}): {notice.message}"), soft_wrap=True)


def _first(report: InspectReport, window: Window) -> InspectReport:
    """The report of the first outputs and inputs alone; what all outputs together give to an input stays as it is."""
    outputs, inputs = list(report.outputs)[: window.outputs], list(report.vjp)[: window.inputs]
    inputs += [name for name, x in report.inputs.items() if not x.differentiated][: window.inputs]

    def first(by_name: Mapping[str, T], names: list[str]) -> Mapping[str, T]:
        return {name: each for name, each in by_name.items() if name in names}

    def kept(by_output: Mapping[str, T]) -> Mapping[str, T]:
        return first(by_output, outputs)

    def pairs(by_output: Mapping[str, Mapping[str, T]]) -> Mapping[str, Mapping[str, T]]:
        return {name: first(by_input, inputs) for name, by_input in kept(by_output).items()}

    return replace(
        report,
        outputs=kept(report.outputs),
        grad_outputs=kept(report.grad_outputs),
        inputs=first(report.inputs, inputs),
        vjp=first(report.vjp, inputs),
        jacobian=pairs(report.jacobian),
        contraction=pairs(report.contraction),
        jvp=None if report.jvp is None else kept(report.jvp),
        blocks=None if report.blocks is None else pairs(report.blocks),
        spectrum=None if report.spectrum is None else pairs(report.spectrum),
    )


def _sections(
    report: InspectReport, window: Window, width: int, hidden: int = 0
) -> Iterator[tuple[str, RenderableType]]:
    """Title and body of each section; `hidden` outputs are left out of the report."""
    shared = "v is the name of an input, too: a derivative by v is by the input, and any other v below is grad_outputs"
    named = [Text(shared, style=QUIET)] if "v" in report.inputs else []
    yield "Shapes", Group(_shapes(report), *named)
    yield "Which product", Group(*_products(report, window, hidden))
    if window.rows != 0:
        yield NUMBERS, Group(*_numbers(report, window, width))
    yield "The result", Group(*_results(report, window, width))
    if report.blocks is not None:
        yield BLOCKS, Group(*_blocks(report, window, width))
    if report.spectrum is not None:
        yield "The leading singular values", Group(*_spectra(report))
    if report.jvp is not None:
        yield "The product with the tangent (JVP)", Group(*_tangents(report, window, width))
    if report.saved is not None:
        yield "What was saved", Group(*_saved(report.saved))


def _shapes(report: InspectReport) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    add_tensors(table, report.inputs, report.outputs, report.grad_outputs, report.is_grads_batched)
    for output, by_input in report.jacobian.items():
        for wrt, jacobian in by_input.items():
            about = Text(f"the Jacobian, output + input: {filled(jacobian)}")
            table.add_row(Text(f"∂{output}/∂{wrt}", NAME), shape_text(jacobian.shape), about)
    for name, gradient in report.vjp.items():
        rows = "a row for each v, " if report.is_grads_batched else ""
        table.add_row(Text(f"∂L/∂{name}", NAME), shape_text(gradient.shape), Text(f"the result, the VJP: {rows}as {name}"))
    return table


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
        table.add_row(Text(name, NAME), shape_text(x.shape), _typed(kind, x.dtype))
    for name, y in outputs.items():
        table.add_row(Text(name, NAME), shape_text(y.shape), _typed("output", y.dtype))
    for name, v in cotangents.items():
        symbol = "v" if len(cotangents) == 1 else f"v for {name}"
        table.add_row(Text(symbol, NAME), shape_text(v.shape), _about_cotangent(name, v, batched))


def _typed(kind: str, dtype: str) -> Text:
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


def _products(report: InspectReport, window: Window, hidden: int) -> Iterator[RenderableType]:
    pairs = _pairs(report)[: window.products]
    if len(report.grad_outputs) + hidden > 1:
        total = " + ".join([*(f"⟨v, {y}⟩" for y in report.grad_outputs), *(["…"] if hidden else [])])
        yield Text(f"L = {total}: the outputs' contributions to each input add up.")
    for number, (y, x, contraction) in enumerate(pairs):
        if number:
            yield Text()
        yield Text(contraction.formula, style="bold green")
        yield Text(einsum_text(contraction.einsum, contraction.formula, y, x), style="green")
        if window.sentences is None or number < window.sentences:
            yield Text(contraction.product)


def einsum_text(einsum: str, formula: str, y: str, x: str) -> str:
    """The contraction as a call of einsum; two where the formula has a term for Re v and one for Im v."""
    if "Im v" not in formula:
        return f'einsum("{einsum}", v, ∂{y}/∂{x})'
    return f'einsum("{einsum}", Re v, ∂(Re {y})/∂{x}) + einsum("{einsum}", Im v, ∂(Im {y})/∂{x})'


def _pairs(report: InspectReport) -> list[tuple[str, str, Contraction]]:
    return [(y, x, contraction) for y, inputs in report.contraction.items() for x, contraction in inputs.items()]


def _numbers(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    pairs = _pairs(report)
    for number, (y, x, contraction) in enumerate(pairs):
        if number:
            yield Text()
        jacobian, v = report.jacobian[y][x], report.grad_outputs[y].value
        if len(pairs) > 1:
            yield Text(f"∂{y}/∂{x}", style=NAME)
        if jacobian.value is None or v is None:
            yield Text(not_shown(jacobian), style=QUIET)
            yield from summary(jacobian, window, width)
        else:
            real, axes = "complex" not in report.inputs[x].dtype, len(report.outputs[y].shape)
            yield matrix_table(y, x, jacobian, v, window, width, real=real, axes=axes)
        if contraction.entry is not None:
            yield Text()
            yield worked(contraction.entry)


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
    rows = _selected(matrix.shape[0], window.rows)
    fitting = _fitting(sheet, width)
    if window.columns is None:  # everything: as many tables side by side as it takes
        blocks = [
            list(range(start, min(start + fitting, matrix.shape[1]))) for start in range(0, matrix.shape[1], fitting)
        ]
        return Group(*(_table(sheet, rows, block) for block in blocks))
    columns = _selected(matrix.shape[1], min(window.columns, fitting))
    unseen = len(sheet.weights) - len(sheet.shown)
    further = [f"{unseen} of {len(sheet.weights)} v"] if unseen else []
    return Group(_table(sheet, rows, columns), *_hidden(matrix.shape, rows, columns, further))


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


def _selected(count: int, most: int | None) -> list[int | None]:
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


def _hidden(
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


def _results(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    for name, gradient in report.vjp.items():
        yield labelled_array(f"∂L/∂{name} = ", gradient.value, window.lines, width)
        for output, by_input in (report.parts or {}).items():
            label = f"  of which by {output} "
            yield labelled_array(label, by_input[name].value, window.lines, width, QUIET)
    yield Text(_agreement(report.comparison), style=QUIET)


def _agreement(comparison: Comparison) -> str:
    """That the two ways to the result agree, and where they could not be compared."""
    text = "torch.autograd.grad gives the same (compared entry by entry)."
    if comparison.not_finite:
        text = text.replace("compared entry by entry", f"{comparison.compared} compared")
        text += (
            f" {comparison.not_finite} not finite: there autograd's number is shown, since 0 times ∞ or nan in the sum over all "
            "terms may give nan where autograd skips the term."
        )
    return text


def _tangents(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    for name, tangent in (report.tangent or {}).items():
        yield Text(f"u for {name} = {tangent.source}", style=QUIET)
    for name, pushed in (report.jvp or {}).items():
        yield labelled_array(f"J u for {name} = ", pushed.value, window.lines, width)


def _saved(saved: Saved) -> Iterator[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for y, by_input in saved.jacobian.items():
        for x, each in by_input.items():
            blocks = f"{each.blocks} block{'' if each.blocks == 1 else 's'} of {each.block_size} {each.along}"
            held = "dense" if each.format == "dense" else "its nonzeros (CSR)"
            norm = f"Frobenius norm {number_text(each.frobenius_norm)}"
            table.add_row(Text(f"∂{y}/∂{x}", NAME), Text(held), Text(blocks), Text(f"{each.nnz} not zero"), Text(norm))
    yield table
    computed = "all computed now" if saved.computed == saved.blocks else f"{saved.computed} of {saved.blocks} blocks computed now"
    yield Text.assemble((saved.path, NAME), f": {bytes_text(saved.bytes)}, {computed}; jvpcli.open reads it.")
    yield Text("Its products, from the blocks as they were read back, are those of autograd.", style=QUIET)


def _spectra(report: InspectReport) -> Iterator[RenderableType]:
    for y, by_input in (report.spectrum or {}).items():
        for x, values in by_input.items():
            yield labelled(f"σ(∂{y}/∂{x}) = ", array_text(values, lines=None))
            errors = (report.spectrum_error or {}).get(y, {}).get(x)
            if errors is not None:
                yield labelled("  each within ", f"{array_text(errors, lines=None)} of a singular value", QUIET)


def _blocks(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    """A table for each Jacobian: a row for each piece of the output, a column for each of the input."""
    pairs = [(y, x, blocks) for y, by_input in (report.blocks or {}).items() for x, blocks in by_input.items()]
    most = None if window.pieces is None else max(window.pieces // max(len(pairs), 1), 3)
    for number, (y, x, blocks) in enumerate(pairs):
        if number:
            yield Text()
        ends = _pieces(report.outputs[y].shape, blocks.output_sizes), _pieces(report.inputs[x].shape, blocks.input_sizes)
        norms = blocks.norms.reshape(*map(len, ends))
        cells = [[f"{norm:.3g}" for norm in row] for row in norms]
        widest = max((len(text) for row in (*cells, ends[1]) for text in row), default=1)
        corner = f"‖∂{y}/∂{x}‖"
        fitting = max(3, (width - max(map(len, (corner, *(y + piece for piece in ends[0])))) - 4) // (widest + 2))
        rows = _selected(norms.shape[0], most)
        columns = _selected(norms.shape[1], None if window.columns is None else min(fitting, window.columns))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
        table.add_column(Text(corner, style=NAME))
        for column in columns:
            table.add_column("…" if column is None else Text(x + ends[1][column] if norms.shape[1] == 1 else ends[1][column]))
            table.columns[-1].justify = "right"
        for row in rows:
            shown = ("…" if column is None else "⋮" if row is None else cells[row][column] for column in columns)
            table.add_row("⋮" if row is None else Text(y + ends[0][row], style=QUIET), *shown)
        yield table
        yield from _hidden(norms.shape, rows, columns)


def _pieces(shape: tuple[int, ...], sizes: tuple[int, ...]) -> list[str]:
    """What the pieces of a tensor are called: `[0]`, `[0,4:8]`, and nothing where it is whole."""
    axes = [
        [f"{start}" if size == 1 else f"{start}:{min(start + size, length)}" for start in range(0, length, size)]
        for length, size in zip(shape, sizes, strict=False)
    ]
    return [f"[{','.join(places)}]" if places else "" for places in product(*axes)]


def render_plan(report: PlanReport, console: Console) -> None:
    """Prints what would be done for each output, the chosen way first."""
    console.print(echoed(report.expression, style="bold"), soft_wrap=True)
    for name, plan in report.plans.items():
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=QUIET)
        for heading in ("", "strategy", "mode", "passes", "operations", "peak memory", ""):
            table.add_column(heading, justify="right" if heading in ("passes", "operations", "peak memory") else "left")
        for number, way in enumerate(plan.ways):
            mark = "→" if number == 0 else ""
            cost = (str(way.passes), f"{way.operations:.2g}", bytes_text(way.peak_bytes))
            table.add_row(mark, way.strategy, way.mode, *cost, "" if way.fits else "over the limit")
        console.print()
        console.print(Text(f"∂{name}: {plan.m}×{plan.n}, at most {plan.bound} entries not zero", style=HEADING))
        console.print(Indented(Group(Text(plan.reason), Text(), table), prose=False))


def labelled_array(label: str, value: np.ndarray | None, lines: int | None, width: int, style: str = "bold green") -> Text:
    """A label and an array, laid out for a console of so many columns: of a large one so many lines; None: all of it."""
    room = max(20, min(width, PROSE_WIDTH) - len(label) - 4)
    return labelled(label, array_text(value, lines=lines, width=room), style)


def labelled(label: str, text: str, style: str = "bold green") -> Text:
    """A label and a block of text whose further lines are indented to stand under the first."""
    return Text.assemble((label, NAME), (text.replace("\n", "\n" + " " * cell_len(label)), style))
