"""The answer of `jvp derive` as a person reads it, as LaTeX, and as code."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jvpcli.render.terminal import HEADING, NAME, QUIET, Indented, echoed
from jvpcli.report.derive import DeriveReport, Given, JacobianForm, Product

FORMULA, CODE = "bold", "green"


def render_derive(report: DeriveReport, console: Console, *, steps: bool = False) -> None:
    """Prints the whole answer; with `steps` how it comes about too."""
    console.print(echoed(report.expression, style="bold"), soft_wrap=True)
    for title, body in _sections(report, steps):
        console.print()
        console.print(Text(title, style=HEADING))
        console.print(Indented(Group(*body), prose=False), soft_wrap=True)


def _sections(report: DeriveReport, steps: bool) -> Iterator[tuple[str, Iterator[RenderableType]]]:
    yield "The function", _function(report)
    yield "The Jacobian", _jacobian(report)
    names = ", ".join(report.names[y] for y in report.grad_outputs)
    yield f"The vector-Jacobian product, for any {names}", _products(report)
    yield f"For {sources_of(report)}", _given(report)
    if report.jvp is not None:
        directions = ", ".join(report.names[x] for x in report.tangent or {})
        yield f"The Jacobian-vector product, for any {directions}", _pushed(report)
        sources = ", ".join(f"{report.names[x]} = {weight.source}" for x, weight in (report.tangent or {}).items())
        yield f"For {sources}", _pushed_given(report)
    if report.hessian is not None:
        yield f"The second derivative, for any {names}", _second(report, given=False)
        yield f"The second derivative, for {sources_of(report)}", _second(report, given=True)
    if steps:
        yield "How", _steps(report)
    if report.sizes:
        yield "Sizes", _sizes(report)
    yield "Verified", _verified(report)


def _entry(report: DeriveReport, name: str) -> str:
    letters = report.indices.get(name, "")
    return f"{name}_{letters}" if letters else name


def _slope(report: DeriveReport, x: str) -> str:
    return f"∂L/∂{_entry(report, x)}"


def _function(report: DeriveReport) -> Iterator[RenderableType]:
    for y, form in report.function.items():
        if form.formula is None:
            yield Text(f"{y} has no index form: {form.reason}", style=QUIET)
        else:
            yield Text(f"{_entry(report, y)} = {form.formula}", style=FORMULA)


def _jacobian(report: DeriveReport) -> Iterator[RenderableType]:
    for y, others in report.jacobian.items():
        for x, form in others.items():
            left = f"∂{_entry(report, y)}/∂{_entry(report, x)}"
            if form.formula is None:
                yield Text(f"{left}: {form.reason}", style=QUIET)
                continue
            yield Text(f"{left} = {form.formula}", style=FORMULA)
            if form.cases:
                yield Indented(_cases(form))


def _cases(form: JacobianForm) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for case in form.cases:
        table.add_row(Text(case.value, NAME), Text(case.when if case.when == "otherwise" else f"if {case.when}"))
    return table


def _products(report: DeriveReport) -> Iterator[RenderableType]:
    for x, product in report.vjp.items():
        yield from _forms(_slope(report, x), f"∂L/∂{x}", product)


def _given(report: DeriveReport) -> Iterator[RenderableType]:
    for x, product in report.vjp.items():
        yield from _forms(_slope(report, x), f"∂L/∂{x}", product.given)


def _pushed(report: DeriveReport) -> Iterator[RenderableType]:
    for y, product in (report.jvp or {}).items():
        yield from _forms(f"(J u)_{report.indices.get(y, '')}".rstrip("_"), "J u", product)


def _pushed_given(report: DeriveReport) -> Iterator[RenderableType]:
    for y, product in (report.jvp or {}).items():
        yield from _forms(f"(J u)_{report.indices.get(y, '')}".rstrip("_"), "J u", product.given)


def _forms(entry: str, whole: str, form: Product | Given) -> Iterator[RenderableType]:
    """In indices, in matrices, and as code; or why not."""
    if form.formula is None:
        yield Text(f"{entry}: {form.reason}", style=QUIET)
        return
    yield Text(f"{entry} = {form.formula}", style=FORMULA)
    if form.matrix is not None and form.matrix not in (form.formula, form.torch):
        yield Text(f"{whole} = {form.matrix}", style=FORMULA)
    yield Text(f"no code: {form.reason}", style=QUIET) if form.torch is None else Text(form.torch, style=CODE)


def sources_of(report: DeriveReport) -> str:
    """What the given v are."""
    return ", ".join(f"{report.names[y]} = {weight.source}" for y, weight in report.grad_outputs.items())


def _second(report: DeriveReport, *, given: bool) -> Iterator[RenderableType]:
    for x, others in (report.hessian or {}).items():
        for w, product in others.items():
            letters = report.indices.get(f"d {w}", "")
            by = f"{w}_{letters}" if letters else w
            form = product.given if given else product
            yield from _forms(f"∂²L/∂{_entry(report, x)}∂{by}", f"∂²L/∂{x}∂{w}", form)


def _steps(report: DeriveReport) -> Iterator[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for step in report.steps:
        table.add_row(Text(step.formula), Text(step.rule, style=QUIET))
    yield table


def _verified(report: DeriveReport) -> Iterator[RenderableType]:
    shown = [f.formula for f in report.function.values()] + [p.formula for p in report.vjp.values()]
    if not any(text is not None for text in shown):
        yield Text("There is no form to verify.")
        return
    points, largest = report.verified.points, report.verified.largest_difference
    others = f" and {points - 1} random one{'s' if points > 2 else ''}" if points > 1 else ""
    yield Text(
        f"Every form above was compared with torch.autograd in float64 at the point{others}: "
        f"the largest difference is {_at_most(largest)}."
    )


def _sizes(report: DeriveReport) -> Iterator[RenderableType]:
    letters = ", ".join(f"{letter} = {size}" for letter, size in (report.sizes or {}).items())
    if report.any_size:
        yield Text(f"The forms were derived for {letters}, and once more for other sizes, with the same result.")
    else:
        yield Text(f"The forms are those for {letters}: numbers or code in them depend on the sizes.")


def _at_most(difference: float) -> str:
    """A power of ten that a difference does not exceed: its digits are those of the machine's rounding."""
    return "0" if not difference else f"at most {10.0 ** math.ceil(math.log10(max(difference, 1e-15))):.0e}"


def render_latex(report: DeriveReport, console: Console) -> None:
    """Prints the forms as LaTeX, an equation a line."""
    for line in latex_lines(report):
        console.print(Text(line), soft_wrap=True)


def latex_lines(report: DeriveReport) -> Iterator[str]:
    """The equations of a report."""

    def entry(name: str) -> str:
        letters = report.indices.get(name, "")
        shown = name if len(name) == 1 else r"\mathrm{" + name.replace("_", r"\_") + "}"
        return f"{shown}_{{{letters}}}" if letters else shown

    for y, form in report.function.items():
        if form.latex is not None:
            yield f"{entry(y)} = {form.latex}"
    for y, others in report.jacobian.items():
        for x, jacobian in others.items():
            if jacobian.latex is not None:
                yield rf"\frac{{\partial {entry(y)}}}{{\partial {entry(x)}}} = {jacobian.latex}"
    for x, product in report.vjp.items():
        if product.latex is not None:
            yield rf"\frac{{\partial L}}{{\partial {entry(x)}}} = {product.latex}"
    for y, product in (report.jvp or {}).items():
        if product.latex is not None:
            yield rf"(J u)_{{{report.indices.get(y, '')}}} = {product.latex}"


def render_code(report: DeriveReport, console: Console) -> None:
    """Prints the autograd.Function."""
    text = report.code or "# There is no code for every input: run jvp derive without --code for the reasons."
    console.print(Text(text), soft_wrap=True)
