"""The answer of `jvp derive` as a person reads it, as LaTeX, and as code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from jvpcli.render.terminal import NAME, QUIET, Indented, columns, echoed, section
from jvpcli.report import Cotangent
from jvpcli.report.derive import DeriveReport, Form, JacobianForm

FORMULA, CODE = "bold", "green"


@dataclass(frozen=True)
class Equation:
    """`left = right`, or `right` alone; where that is too long, each term of a sum has a line of its own.

    A term that is too long even so has one for each term of the sums in its brackets.  Signs stand under the `=`.
    """

    left: str
    right: str
    style: str = ""

    @property
    def whole(self) -> str:
        """It as one line."""
        return f"{self.left} = {self.right}" if self.left else self.right

    def lines(self, width: int) -> list[str]:
        """The lines at a width, which a single term may exceed."""
        if len(self.whole) <= width:
            return [self.whole]
        start, indent = self.whole.removesuffix(self.right), " " * (len(self.left) + 1 if self.left else 0)
        terms = summands(self.right)
        pieces = [
            piece for term in terms for piece in ([term] if len(start) + len(term) <= width else summands(term, 1))
        ]
        return [(indent if k else start) + piece for k, piece in enumerate(pieces)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol."""
        yield Text("\n".join(self.lines(options.max_width)), self.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Rich's protocol: what it takes as one line."""
        return Measurement(len(self.whole), len(self.whole))


@dataclass(frozen=True)
class Noted:
    """Equations, each with a note: beside it where there is room for all of them, else each below its note."""

    rows: Sequence[tuple[Equation, Text]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol."""
        longest = max((len(equation.whole) for equation, _ in self.rows), default=0)
        if longest + GAP + max((len(note) for _, note in self.rows), default=0) <= options.max_width:
            table = columns(GAP)
            for row in self.rows:
                table.add_row(*row)
            yield table
            return
        for equation, note in self.rows:
            yield note
            yield Indented(equation, prose=False)


GAP = 3
"""Between an equation and its note."""


def summands(formula: str, inside: int = 0) -> list[str]:
    """The terms of a sum, each but the first with its sign, and those of sums inside of so many brackets.

    The arguments of functions stay as they are.
    """
    opened: list[bool] = []  # for each bracket whether a sum stands in it
    bars, found = 0, [0]
    for k, character in enumerate(formula):
        if character in "([":
            opened.append(character == "(" and formula[k - 1 : k] in ("", " ", "·", "("))
        elif character in ")]":
            opened.pop()
        bars += character in "|‖"
        if len(opened) <= inside and all(opened) and bars % 2 == 0 and formula[k : k + 3] in (" + ", " − "):
            found.append(k + 1)
    return [formula[start:end].rstrip() for start, end in zip(found, [*found[1:], len(formula)], strict=True)]


def render_derive(report: DeriveReport, console: Console, *, steps: bool = False) -> None:
    """Prints the whole answer; with `steps` how it comes about too."""
    console.print(echoed(report.expression, style="bold"), soft_wrap=True)
    for title, body in _sections(report, steps):
        console.print(section(title, Group(*body), prose=False), soft_wrap=True)


def _sections(report: DeriveReport, steps: bool) -> Iterator[tuple[str, Iterator[RenderableType]]]:
    yield "The function", _function(report)
    yield "The Jacobian", _jacobian(report)
    for title, statements in products(report):
        yield title, (line for statement in statements for line in _lines(statement))
    if steps:
        yield "How", _steps(report)
    if report.sizes:
        yield "Sizes", iter([Text(sizes_text(report))])
    yield "Verified", iter([Text(verified_text(report))])


@dataclass(frozen=True)
class Statement:
    """What a product is, entry by entry (`∂L/∂x_i`) and as a whole (`∂L/∂x`)."""

    entry: str
    whole: str
    form: Form


def products(report: DeriveReport) -> Iterator[tuple[str, list[Statement]]]:
    """The products of an answer under their titles: those for any vector, and those for the given one."""
    names = ", ".join(report.names[y] for y in report.grad_outputs)
    sources = _sources(report, report.grad_outputs)
    slopes = [(slope_of(report, x), f"∂L/∂{x}", product) for x, product in report.vjp.items()]
    yield f"The vector-Jacobian product, for any {names}", [Statement(*slope) for slope in slopes]
    yield f"For {sources}", [Statement(entry, whole, product.given) for entry, whole, product in slopes]
    if report.jvp is not None:
        directions = ", ".join(report.names[x] for x in report.tangent or {})
        places = {y: report.indices.get(y, "") for y in report.jvp}
        pushed = [(f"(J u)_{places[y]}" if places[y] else "J u", "J u", product) for y, product in report.jvp.items()]
        yield f"The Jacobian-vector product, for any {directions}", [Statement(*each) for each in pushed]
        yield (
            f"For {_sources(report, report.tangent or {})}",
            [Statement(entry, whole, product.given) for entry, whole, product in pushed],
        )
    if report.hessian is not None:
        second = [
            (f"∂²L/∂{entry_of(report, x)}∂{entry_of(report, w, again=True)}", f"∂²L/∂{x}∂{w}", product)
            for x, others in report.hessian.items()
            for w, product in others.items()
        ]
        yield f"The second derivative, for any {names}", [Statement(*each) for each in second]
        yield (
            f"The second derivative, for {sources}",
            [Statement(entry, whole, product.given) for entry, whole, product in second],
        )


def _sources(report: DeriveReport, vectors: Mapping[str, Cotangent]) -> str:
    """What the given vectors are."""
    return ", ".join(f"{report.names[name]} = {weight.source}" for name, weight in vectors.items())


def _lines(statement: Statement) -> Iterator[RenderableType]:
    """In indices, in matrices, and as code; or why not."""
    form = statement.form
    if form.formula is None:
        yield Text(f"{statement.entry}: {form.reason}", style=QUIET)
        return
    yield Equation(statement.entry, form.formula, FORMULA)
    if form.matrix is not None and has_matrix(form):
        yield Equation(statement.whole, form.matrix, FORMULA)
    yield Text(f"no code: {form.reason}", style=QUIET) if form.torch is None else Text(form.torch, style=CODE)


def has_matrix(form: Form) -> bool:
    """Whether the matrix form says anything that the others do not."""
    return form.matrix is not None and form.matrix not in (form.formula, form.torch)


def entry_of(report: DeriveReport, name: str, *, again: bool = False) -> str:
    """An entry of a tensor; `again`: of an input that is differentiated by a second time."""
    letters = report.indices.get(f"d {name}" if again else name, "")
    return f"{name}_{letters}" if letters else name


def slope_of(report: DeriveReport, x: str) -> str:
    """An entry of what arrives at an input."""
    return f"∂L/∂{entry_of(report, x)}"


def _function(report: DeriveReport) -> Iterator[RenderableType]:
    for y, form in report.function.items():
        if form.formula is None:
            yield Text(f"{y} has no index form: {form.reason}", style=QUIET)
        else:
            yield Equation(entry_of(report, y), form.formula, FORMULA)


def _jacobian(report: DeriveReport) -> Iterator[RenderableType]:
    for y, others in report.jacobian.items():
        for x, form in others.items():
            left = f"∂{entry_of(report, y)}/∂{entry_of(report, x)}"
            if form.formula is None:
                yield Text(f"{left}: {form.reason}", style=QUIET)
                continue
            yield Equation(left, form.formula, FORMULA)
            if form.cases:
                yield Indented(_cases(form), prose=False)


def _cases(form: JacobianForm) -> Noted:
    whens = [case.when if case.when == "otherwise" else f"if {case.when}" for case in form.cases]
    return Noted([(Equation("", case.value, NAME), Text(when)) for case, when in zip(form.cases, whens, strict=True)])


def _steps(report: DeriveReport) -> Iterator[RenderableType]:
    yield Noted([(Equation(*step.formula.split(" = ", 1)), Text(step.rule, style=QUIET)) for step in report.steps])


def verified_text(report: DeriveReport) -> str:
    """With what the forms were compared."""
    shown = [f.formula for f in report.function.values()] + [p.formula for p in report.vjp.values()]
    if not any(text is not None for text in shown):
        return "There is no form to verify."
    points, largest = report.verified.points, report.verified.largest_difference
    others = f" and {points - 1} random one{'s' if points > 2 else ''}" if points > 1 else ""
    return (
        f"Every form above was compared with torch.autograd in float64 at the point{others}: "
        f"the largest difference is {_at_most(largest)}."
    )


def sizes_text(report: DeriveReport) -> str:
    """For which sizes the forms hold, where letters stand for them."""
    letters = ", ".join(f"{letter} = {size}" for letter, size in (report.sizes or {}).items())
    if report.any_size:
        return f"The forms were derived for {letters}, and once more for other sizes, with the same result."
    return f"The forms are those for {letters}: numbers or code in them depend on the sizes."


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
