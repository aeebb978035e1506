"""The answer of `jvp hessian` as a person reads it: shapes, how H is multiplied, the numbers, what it is at this point."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, prod

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.numbers import number_text, shape_text
from jvpcli.render.parts import (
    NUMBERS,
    WHOLE,
    Window,
    add_tensors,
    filled,
    labelled_array,
    matrix_table,
    not_shown,
    render_question,
    summary,
    worked,
)
from jvpcli.render.terminal import NAME, QUIET, columns, section
from jvpcli.report.hessian import Eigenvalues, HessianReport, Trace, block_product

DEFINITE = {
    "positive": "positive definite: L curves upwards in every direction",
    "positive_semi": "positive semidefinite: L curves downwards in no direction, as far as rounding lets tell",
    "negative": "negative definite: L curves downwards in every direction",
    "negative_semi": "negative semidefinite: L curves upwards in no direction, as far as rounding lets tell",
    "indefinite": "indefinite: L curves upwards in some directions and downwards in others",
    "zero": "zero",
    "unknown": "perhaps definite, perhaps not: not all its eigenvalues are known, or rounding may have made their signs",
}
"""What each word of `definite` means at the point."""


def render_hessian(report: HessianReport, console: Console, *, full: bool = False) -> None:
    """Prints the whole answer; `full` leaves nothing out."""
    window = WHOLE if full else Window()
    render_question(console, report.expression, report.calls)
    for title, body in _sections(report, window, console.width):
        console.print(section(title, Group(*body), prose=title != NUMBERS))


def _sections(report: HessianReport, window: Window, width: int) -> Iterator[tuple[str, Iterator[RenderableType]]]:
    yield "Shapes", iter([_shapes(report)])
    yield "The Hessian times a direction u", _products(report)
    yield NUMBERS, _numbers(report, window, width)
    if report.hvp is not None:
        yield "The Hessian-vector product", _direction(report, window, width)
    yield "At this point", _here(report)
    if report.notes:
        yield "Why", iter([Text(note) for note in report.notes])


def _shapes(report: HessianReport) -> Table:
    table = columns()
    add_tensors(table, report.inputs, report.outputs, report.grad_outputs)
    loss = " + ".join(f"⟨v, {y}⟩" if len(report.grad_outputs) == 1 else f"⟨v for {y}, {y}⟩" for y in report.grad_outputs)
    for name, gradient in report.gradient.items():
        table.add_row(Text(f"∂L/∂{name}", NAME), shape_text(gradient.shape), Text(f"the gradient of L = {loss}: as {name}"))
    for x, others in report.hessian.items():
        for w, block in others.items():
            about = Text(f"the second derivative, {x} + {w}: {filled(block)}")
            table.add_row(Text(f"∂²L/∂{x}∂{w}", NAME), shape_text(block.shape), about)
    return table


def _products(report: HessianReport) -> Iterator[RenderableType]:
    for number, (x, w) in enumerate(_pairs(report)):
        contraction = report.contraction[x][w]
        if number:
            yield Text()
        yield Text(contraction.formula, style="bold green")
        yield Text(f'einsum("{contraction.einsum}", ∂²L/∂{x}∂{w}, u)', style="green")
        yield Text(contraction.product)
    names = list(report.hessian)
    if len(names) > 1:
        yield Text()
        for x in names:
            parts = " + ".join(block_product(x, w, single=False) for w in names)
            yield Text(f"H u for {x} = {parts}, each block with the u for its second input")


def _pairs(report: HessianReport) -> list[tuple[str, str]]:
    return [(x, w) for x, others in report.hessian.items() for w in others]


def _numbers(report: HessianReport, window: Window, width: int) -> Iterator[RenderableType]:
    for name, gradient in report.gradient.items():
        yield labelled_array(f"∂L/∂{name} = ", gradient.value, window.lines, width)
    pairs = _pairs(report)
    for x, w in pairs:
        yield Text()
        block, u = report.hessian[x][w], (report.tangent or {}).get(x)
        if len(pairs) > 1:
            yield Text(f"∂²L/∂{x}∂{w}", style=NAME)
        if block.value is None:
            yield Text(not_shown(block), style=QUIET)
            yield from summary(block, window, width)
            continue
        shape, words = report.inputs[x].shape, (block_product(w, x, single=len(pairs) == 1), "u", "uᵀH")  # H is symmetric
        weights = np.zeros((0, *shape)) if u is None or u.value is None else u.value
        yield matrix_table(x, w, block, weights, window, width, real=True, axes=len(shape), words=words)
        entry = report.contraction[w][x].entry  # one of the sums that this table shows
        if entry is not None:
            yield Text()
            yield worked(entry)


def _direction(report: HessianReport, window: Window, width: int) -> Iterator[RenderableType]:
    for name, tangent in (report.tangent or {}).items():
        yield Text(f"{'u' if len(report.hessian) == 1 else f'u for {name}'} = {tangent.source}", style=QUIET)
    for name, product in (report.hvp or {}).items():
        label = "H u" if len(report.hessian) == 1 else f"H u for {name}"
        yield labelled_array(f"{label} = ", product.value, window.lines, width)
    if report.comparison.compared:
        yield Text(_agreement(report), style=QUIET)
    yield Text()
    names = list(report.hessian)
    inputs, directions = (", ".join(f"{before}{name}" for name in names) for before in ("", "u_"))
    comma = "," if len(names) == 1 else ""
    yield Text(f"gradient = torch.autograd.grad(L, ({inputs}{comma}), create_graph=True)", style="green")
    yield Text(f"torch.autograd.grad(gradient, ({inputs}{comma}), ({directions}{comma}))", style="green")
    entries = sum(prod(report.inputs[name].shape) for name in names)
    yield Text(
        "H u is the gradient of ⟨∂L/∂x, u⟩: one backward pass for the gradient, with its graph, and one more through that "
        f"graph, whatever the size. H itself takes a pass for each of its rows, here {entries}, unless its structure spares them."
    )


def _agreement(report: HessianReport) -> str:
    """That the two ways to H u agree, and where they could not be compared."""
    comparison = report.comparison
    text = "The explicit Hessian times u gives the same as double backward (compared entry by entry)."
    if comparison.not_finite:
        text = text.replace("compared entry by entry", f"{comparison.compared} compared")
        text += f" {comparison.not_finite} are not finite."
    return text


def _here(report: HessianReport) -> Iterator[RenderableType]:
    yield Text.assemble(("H is ", NAME), (DEFINITE[report.definite], "bold green"))
    yield Text.assemble(("its eigenvalues: ", NAME), between(report.eigenvalues))
    yield Text.assemble(("its trace: ", NAME), trace_text(report.trace))
    if report.symmetric:
        yield Text("Symmetric: the order of differentiation makes no difference (tested in a random direction).", style=QUIET)
    elif report.symmetric is None:
        yield Text("Whether it is symmetric could not be tested: entries are not finite.", style=QUIET)
    else:
        yield Text("Not symmetric: see the warning.", style="bold red")


def _or_zero(value: float, rounding: float) -> str:
    return "0 (to rounding)" if rounding and abs(value) <= rounding else number_text(value)


def trace_text(trace: Trace) -> str:
    """The sum of the second derivatives along the axes, and its standard error if it is estimated."""
    error = "" if trace.error is None else f" ± {number_text(trace.error)}, estimated by Hutchinson's method"
    return f"{number_text(trace.value)}{error}"


def between(values: Eigenvalues) -> str:
    """Between which numbers the eigenvalues lie, as far as is known."""
    if values.least is None or values.greatest is None:
        return "none, since H has no entries" if values.exact else "those of a symmetric matrix, which H is not"
    if isnan(values.least) or isnan(values.greatest):
        return "not known, since entries of H are not finite"
    least, greatest = (_or_zero(value, values.rounding) for value in (values.least, values.greatest))
    if values.exact:
        return f"from {least} to {greatest}"
    bounds = (values.least_error, values.greatest_error)
    errors = [f" (an eigenvalue is within {number_text(bound)})" if bound else "" for bound in bounds]
    return f"the least is at most {least}{errors[0]}, the greatest at least {greatest}{errors[1]}, by Lanczos' method"
