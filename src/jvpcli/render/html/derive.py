"""What the templates of a `derive` page show: the forms, and the explorer of the numbers that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from jvpcli.render.derive import Statement, entry_of, has_matrix, products, sizes_text, verified_text
from jvpcli.render.html.data import MOST_LIT, Data, array, inspect_data
from jvpcli.render.html.formulas import IN, OUT, Kinds, math, summands
from jvpcli.render.html.inspect import WORDS
from jvpcli.render.html.inspect import view as inspected_view
from jvpcli.report import Contraction, InspectReport
from jvpcli.report.derive import DeriveReport, Explored, JacobianForm


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a formula, and the number of the table of entries that it lights up (None: it lights nothing)."""

    shown: Markup
    text: str
    light: int | None = None


@dataclass(frozen=True, slots=True)
class Equation:
    """What is equal, and to the sum of which pieces; `reason` says why there are none."""

    left: Markup
    pieces: Sequence[Piece]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """A product in indices, in matrices, and as code."""

    entry: Equation
    whole: Equation | None
    code: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Branch:
    """A case of a Jacobian: the entry and when it is so."""

    value: Piece
    when: Markup | None


def view(page: Explored) -> Mapping[str, Any]:
    """The templates' variables."""
    forms, kinds = page.report, _kinds(page.report)
    numbers = _with_letters(page)
    data = inspect_data(numbers, WORDS)
    lights = {(pair["y"], pair["x"]): _lights(page, pair) for pair in data["pairs"]}
    for pair in data["pairs"]:
        pair["lights"] = [array(table.astype(np.uint8)) for table in lights[pair["y"], pair["x"]] or ()]
    return {
        **inspected_view(numbers),
        "command": "derive",
        "functions": [
            _equation(entry_of(forms, y), form.formula, kinds, form.reason) for y, form in forms.function.items()
        ],
        "jacobians": {
            (y, x): _jacobian(forms, y, x, form, lights[y, x], kinds)
            for y, others in forms.jacobian.items()
            for x, form in others.items()
        },
        "products": [(title, [_lines(each, kinds) for each in statements]) for title, statements in products(forms)],
        "steps": [(_equation(left, right, kinds, None), rule) for left, right, rule in _steps(forms)],
        "sizes": sizes_text(forms) if forms.sizes else None,
        "verified": verified_text(forms),
        "code": forms.code,
        "data": data,
    }


def _with_letters(page: Explored) -> InspectReport:
    """The numbers with the axes lettered as in the forms, and what there is to know of these."""
    letters = page.report.indices

    def lettered(y: str, x: str, contraction: Contraction) -> Contraction:
        if y not in letters:
            return contraction
        return replace(contraction, einsum=f"{letters[y]},{letters[y]}{letters[x]}->{letters[x]}")

    contraction = {y: {x: lettered(y, x, c) for x, c in others.items()} for y, others in page.numbers.contraction.items()}
    warnings = tuple(dict.fromkeys((*page.numbers.warnings, *page.report.warnings)))
    return replace(page.numbers, contraction=contraction, warnings=warnings)


def _kinds(forms: DeriveReport) -> Kinds:
    """Which tensors and which letters are of the outputs' spaces, and which of the inputs'."""
    vectors = {name: OUT if of in forms.outputs else IN for of, name in forms.names.items()}
    names = dict.fromkeys(forms.inputs, IN) | dict.fromkeys(forms.outputs, OUT) | vectors
    letters = {i: OUT if of in forms.outputs else IN for of, over in forms.indices.items() for i in over}
    return Kinds(names, letters)


def _lights(page: Explored, pair: Data) -> Sequence[np.ndarray] | None:
    """The tables that the pieces of a formula light up, terms first; None where the page does not hold the entries."""
    applying = page.applying.get(pair["y"], {}).get(pair["x"])
    if applying is None or pair["format"] not in ("dense", "csr"):
        return None
    tables = (*applying.terms, *applying.cases)
    return tables if all(table.size <= MOST_LIT for table in tables) else None


def _jacobian(
    forms: DeriveReport, y: str, x: str, form: JacobianForm, lights: Sequence[np.ndarray] | None, kinds: Kinds
) -> tuple[Equation, Sequence[Branch]]:
    """A Jacobian in indices and by cases."""
    left = f"∂{entry_of(forms, y)}/∂{entry_of(forms, x)}"
    equation = _equation(left, form.formula, kinds, form.reason, 0 if lights is not None else None)
    terms = len(lights or ()) - len(form.cases)
    if len(equation.pieces) != terms:  # a zero has no term
        equation = _equation(left, form.formula, kinds, form.reason)
    branches = [
        Branch(
            Piece(math(case.value, kinds), f"{case.value}, {_when(case.when)}", None if lights is None else terms + k),
            None if case.when == "otherwise" else math(case.when, kinds),
        )
        for k, case in enumerate(form.cases)
    ]
    return equation, branches


def _when(when: str) -> str:
    return when if when == "otherwise" else f"if {when}"


def _steps(forms: DeriveReport) -> Iterator[tuple[str, str, str]]:
    for step in forms.steps:
        left, _, right = step.formula.partition(" = ")
        yield left, right, step.rule


def _lines(statement: Statement, kinds: Kinds) -> Lines:
    form = statement.form
    return Lines(
        _equation(statement.entry, form.formula, kinds, form.reason),
        _equation(statement.whole, form.matrix, kinds, None) if has_matrix(form) else None,
        form.torch,
        form.reason if form.formula is not None and form.torch is None else None,
    )


def _equation(left: str, right: str | None, kinds: Kinds, reason: str | None, first: int | None = None) -> Equation:
    """An equation in pieces, which light up tables from number `first` on."""
    if right is None:
        return Equation(math(left, kinds), (), reason)
    pieces = summands(right, kinds)
    return Equation(
        math(left, kinds), [Piece(shown, text, None if first is None else first + k) for k, (text, shown) in enumerate(pieces)]
    )
