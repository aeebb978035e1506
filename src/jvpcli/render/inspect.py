"""The answer of `jvp inspect` as a person reads it: shapes, which product, the numbers, the result; and its plan alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.numbers import array_text, bytes_text, number_text, shape_text
from jvpcli.render.parts import (
    MOST_ROWS,
    NUMBERS,
    WHOLE,
    Window,
    add_tensors,
    einsum_text,
    filled,
    hidden,
    labelled,
    labelled_array,
    matrix_table,
    not_shown,
    render_question,
    selected,
    summary,
    worked,
)
from jvpcli.render.terminal import NAME, QUIET, columns, section
from jvpcli.report import Comparison, Contraction, InspectReport, Saved

if TYPE_CHECKING:
    from jvpcli.report import PlanReport

T = TypeVar("T")

BLOCKS = "The norms of the Jacobian's blocks"

FEWEST_ROWS = 8

MOST_PAIRS = 4
"""So many Jacobians, if all their entries are shown, are told of as they are, however long that becomes."""

MOST_LINES = 40
"""Lines of what is told of more or of larger Jacobians."""

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
    render_question(console, report.expression, report.calls, report.refusal)
    console.print(body)


def _body(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    """The sections, and what is left out of them."""
    shown = _first(report, window)
    hidden = len(report.outputs) - len(shown.outputs)
    for title, body in _sections(shown, window, width, hidden):
        yield section(title, body, prose=title not in (NUMBERS, BLOCKS))
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
    table = columns()
    add_tensors(table, report.inputs, report.outputs, report.grad_outputs, report.is_grads_batched)
    for output, by_input in report.jacobian.items():
        for wrt, jacobian in by_input.items():
            about = Text(f"the Jacobian, output + input: {filled(jacobian)}")
            table.add_row(Text(f"∂{output}/∂{wrt}", NAME), shape_text(jacobian.shape), about)
    for name, gradient in report.vjp.items():
        rows = "a row for each v, " if report.is_grads_batched else ""
        table.add_row(Text(f"∂L/∂{name}", NAME), shape_text(gradient.shape), Text(f"the result, the VJP: {rows}as {name}"))
    return table


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
            f" {comparison.not_finite} not finite by one way or both: there autograd's number is shown, since 0 times ∞ or nan "
            "in the sum over all terms may give nan where autograd skips the term."
        )
    return text


def _tangents(report: InspectReport, window: Window, width: int) -> Iterator[RenderableType]:
    for name, tangent in (report.tangent or {}).items():
        yield Text(f"u for {name} = {tangent.source}", style=QUIET)
    for name, pushed in (report.jvp or {}).items():
        yield labelled_array(f"J u for {name} = ", pushed.value, window.lines, width)


def _saved(saved: Saved) -> Iterator[RenderableType]:
    table = columns()
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
        rows = selected(norms.shape[0], most)
        columns = selected(norms.shape[1], None if window.columns is None else min(fitting, window.columns))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
        table.add_column(Text(corner, style=NAME))
        for column in columns:
            table.add_column("…" if column is None else Text(x + ends[1][column] if norms.shape[1] == 1 else ends[1][column]))
            table.columns[-1].justify = "right"
        for row in rows:
            shown = ("…" if column is None else "⋮" if row is None else cells[row][column] for column in columns)
            table.add_row("⋮" if row is None else Text(y + ends[0][row], style=QUIET), *shown)
        yield table
        yield from hidden(norms.shape, rows, columns)


def _pieces(shape: tuple[int, ...], sizes: tuple[int, ...]) -> list[str]:
    """What the pieces of a tensor are called: `[0]`, `[0,4:8]`, and nothing where it is whole."""
    axes = [
        [f"{start}" if size == 1 else f"{start}:{min(start + size, length)}" for start in range(0, length, size)]
        for length, size in zip(shape, sizes, strict=False)
    ]
    return [f"[{','.join(places)}]" if places else "" for places in product(*axes)]


def render_plan(report: PlanReport, console: Console) -> None:
    """Prints what would be done for each output, the chosen way first."""
    render_question(console, report.expression)
    for name, plan in report.plans.items():
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=QUIET)
        for heading in ("", "strategy", "mode", "passes", "operations", "peak memory", ""):
            table.add_column(heading, justify="right" if heading in ("passes", "operations", "peak memory") else "left")
        for number, way in enumerate(plan.ways):
            mark = "→" if number == 0 else ""
            cost = (str(way.passes), f"{way.operations:.2g}", bytes_text(way.peak_bytes))
            table.add_row(mark, way.strategy, way.mode, *cost, "" if way.fits else "over the limit")
        title = f"∂{name}: {plan.m}×{plan.n}, at most {plan.bound} entries not zero"
        console.print(section(title, Group(Text(plan.reason), Text(), table), prose=False))
