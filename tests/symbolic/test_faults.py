"""A fault in any rule of differentiation is seen when the forms are verified: none of them is shown."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache

import pytest
import torch

import jvpcli
from jvpcli.report.derive import Form
from jvpcli.symbolic import atoms, expressions, forms, moves, rules, scalars, translation

SCALAR_PROGRAMS = {
    "where": "torch.where(x < y, x*x, y*x)",
    "less": "x*(x < y)",
    "detach": "x*x.detach()",
    "power": "x**y",
    "acosh": "torch.acosh(x + 2)",
    "polygamma": "x*torch.polygamma(1, x)",
    "shared_maximum": "x*torch.maximum(x, x.flip(0))",
    "shared_minimum": "x*torch.minimum(x, x.flip(0))",
    "flat_root": "torch.cdist(x[:, None], x.flip(0)[:, None]) @ y",
    "sign": "y*torch.sign(x)",
    "floored": "F.gaussian_nll_loss(x, y, y)",
    "clamp": "x*torch.clamp(x, y - 0.35, y + 0.1)",
    "hardtanh": "x*F.hardtanh(x, 0.4, 0.7)",
}
"""Those whose code is no call of a function of tensors alone, or that are for larger numbers."""

WITHOUT_GRADIENT = {("not", 0), ("where", 0), ("positive", 0), ("polygamma", 0), ("floored", 1), ("hardtanh", 1), ("hardtanh", 2)}
"""Derivatives by a condition or by an order, through which no gradient goes, or that come in with the second derivative alone."""

ATOM_PROGRAMS = {
    "softmax": "torch.softmax(x, 0)",
    "log_softmax": "torch.log_softmax(x, 0)",
    "logsumexp": "torch.logsumexp(x, 0)",
    "inv": "torch.linalg.inv(X)",
    "det": "torch.linalg.det(X)",
    "logdet": "torch.logdet(X)",
    "prod": "x.prod()",
    "amax": "x.amax()",
    "amin": "x.amin()",
    "is_max": "x*x.amax()",
    "is_min": "x*x.amin()",
    "values": "x.sort().values",
    "indices": "x*x.sort().indices",
    "cumprod": "x.cumprod(0)",
    "cholesky": "torch.linalg.cholesky(X)",
    "pinv": "torch.linalg.pinv(X[:2])",
    "matrix_exp": "torch.linalg.matrix_exp(X)",
    "eigenvalues": "torch.linalg.eigvalsh(X)",
    "eigenvectors": "torch.linalg.eigh(X[:2, :2]).eigenvectors",
    "singular_values": "torch.linalg.svdvals(X)",
    "move": "x.flip(0)*x",
}

AT_POSITIONS = {"one_hot"}
"""Their arguments are positions, whose derivative is zero: their own is never asked for."""

MOVE_PROGRAMS = {
    "reshape": "torch.sin(X).reshape(9)*X.reshape(9)",
    "flip": "x.flip(0)*x",
    "roll": "x.roll(1)*x",
    "tril": "X.tril() @ X",
    "triu": "X.triu() @ X",
    "cumsum": "x.cumsum(0)*x",
    "pad": "torch.cat([x*x, y])",
    "slice": "(x*x)[1:]",
    "pick": "(x*x)[[0, 2]]",
    "windows": "F.conv1d(x[None, None], y[None, None, :2])**2",
    "weigh": "torch.gradient(x*x)[0]",
}

CODE_PROGRAMS = {
    **dict.fromkeys(("left_vectors", "right_vectors"), ATOM_PROGRAMS["singular_values"]),
    "singular_values": "torch.linalg.svdvals(X)**2",
    "eigenvalues": "torch.linalg.eigvalsh(X)**2",
    "one_hot": ATOM_PROGRAMS["values"],
    "inv": "torch.linalg.inv(X)",
    "is_max": "x.amax()",
    "is_min": "x.amin()",
    "amax": "x*x.amax()",
    "amin": "x*x.amin()",
    "logsumexp": "torch.logsumexp(X, 1)*x",
    "log_softmax": "torch.log_softmax(x, 0)*x",
    "logdet": "x*torch.logdet(X)",
}
"""Those whose own values are not in their derivatives, and others that are."""

INPUTS = {
    "x": torch.tensor([0.3, 0.8, 0.6], dtype=torch.float64),
    "y": torch.tensor([0.7, 0.4, 0.9], dtype=torch.float64),
    "X": torch.tensor([[0.9, 0.2, 0.1], [0.3, 1.1, 0.2], [0.4, 0.1, 1.3]], dtype=torch.float64),
}


def derived(expression, **options):
    return jvpcli.derive(expression, {name: x for name, x in INPUTS.items() if re.search(rf"\b{name}\b", expression)}, **options)


@cache
def right_of(expression, **options):
    """What is derived as long as nothing is broken: it is the same for every test."""
    return derived(expression, **options)


def forms_of(result) -> dict:
    """Each product's form for any vector, and for the one that is given."""
    return {
        **{x: Form(*(getattr(product, field.name) for field in fields(Form))) for x, product in result.vjp.items()},
        **{(x, "given"): product.given for x, product in result.vjp.items()},
    }


def shows_nothing_wrong(before, after) -> bool:
    """Whether the forms that used the rule are gone with their code; what does not use it stays as it was."""
    right, wrong = forms_of(before), forms_of(after)
    changed = [wrong[x] for x in right if right[x] != wrong[x]]
    return bool(changed) and all(
        form.formula is None and form.torch is None and form.latex is None and form.reason for form in changed
    )


def program_of(name: str) -> str:
    scalar = scalars.SCALARS[name]
    return SCALAR_PROGRAMS.get(name) or f"x*{scalar.torch.format(*'xy')}"


@pytest.mark.parametrize(
    ("name", "k"),
    [(name, k) for name, s in scalars.SCALARS.items() for k in range(len(s.partials)) if (name, k) not in WITHOUT_GRADIENT],
)
def test_a_wrong_derivative_of_a_scalar_function(name, k, monkeypatch):
    right = right_of(program_of(name))
    assert all(product.torch for product in right.vjp.values())
    _break_scalar(monkeypatch, name, k)
    assert shows_nothing_wrong(right, derived(program_of(name)))


def _break_scalar(monkeypatch, name, k):
    scalar = scalars.SCALARS[name]
    partials = list(scalar.partials)
    partials[k] = lambda *given: forms.add(scalar.partials[k](*given), forms.ONE)
    monkeypatch.setitem(scalars.SCALARS, name, replace(scalar, partials=tuple(partials)))


@pytest.mark.parametrize(
    ("name", "expression"), [("relu", "torch.relu(x)*y"), ("abs", "x.abs()*y"), ("relu", "x*torch.tanh(torch.relu(x))")]
)
def test_a_choice_that_is_right_on_one_side(name, expression, monkeypatch):
    """The inputs are positive, where the derivative is one; a negative one is met all the same."""
    right = right_of(expression)
    assert right.report.verified.points == 12
    monkeypatch.setitem(scalars.SCALARS, name, replace(scalars.SCALARS[name], partials=(lambda x: forms.ONE,)))
    assert shows_nothing_wrong(right, derived(expression))


@pytest.mark.parametrize(("expression", "points"), [
    ("torch.sin(x)*y", 4), ("x*y.detach()", 4), ("torch.softmax(x, 0)", 4), ("x @ X.tril()", 4),
    ("torch.tanh(x.amax())", 12), ("x.sort().values", 12), ("torch.exp(torch.maximum(x, y))", 12),
    ("torch.where(x < y, x*x, y)", 12),
])  # fmt: skip
def test_more_points_are_tried_where_values_choose(expression, points):
    assert derived(expression).report.verified.points == points


def test_a_wrong_second_derivative(monkeypatch):
    right = right_of("torch.relu(x - 0.5)*y", hessian=True)
    _break_scalar(monkeypatch, "positive", 0)
    wrong = derived("torch.relu(x - 0.5)*y", hessian=True)
    assert right.hessian["x", "x"].torch is not None
    assert (wrong.hessian["x", "x"].formula, wrong.hessian["x", "x"].torch) == (None, None)
    assert wrong.hessian["y", "x"] == right.hessian["y", "x"]


@pytest.mark.parametrize("name", [name for name in atoms.ATOMS if name not in AT_POSITIONS])
def test_a_wrong_derivative_of_an_atom(name, monkeypatch):
    rule = atoms.ATOMS[name]
    hessian = name.startswith("is_")
    right = right_of(ATOM_PROGRAMS[name], hessian=hessian)
    assert all(product.torch for product in right.vjp.values())
    monkeypatch.setitem(atoms.ATOMS, name, lambda *given: forms.add(forms.scaled(rule(*given), 2), forms.ONE))
    wrong = derived(ATOM_PROGRAMS[name], hessian=hessian)
    if hessian:  # piecewise constant: its derivative comes in with the second
        assert right.hessian["x", "x"].torch is not None
        assert wrong.hessian["x", "x"].torch is None
        assert wrong.hessian["x", "x"].formula is None
    elif name in atoms.BACKWARD:  # what goes back has a rule of its own
        assert right.formula["y", "X"] is not None
        assert wrong.formula["y", "X"] is None
        assert wrong.vjp == right.vjp
    else:
        assert shows_nothing_wrong(right, wrong)


@pytest.mark.parametrize("name", list(atoms.BACKWARD))
def test_a_wrong_way_back_through_an_atom(name, monkeypatch):
    rule = atoms.BACKWARD[name]
    right = right_of(ATOM_PROGRAMS[name])
    monkeypatch.setitem(atoms.BACKWARD, name, lambda *given: forms.add(forms.scaled(rule(*given), 2), forms.ONE))
    wrong = derived(ATOM_PROGRAMS[name])
    assert shows_nothing_wrong(right, wrong)
    assert wrong.formula["y", "X"] is None


@pytest.mark.parametrize(
    ("way", "name"), [(way, name) for way in ("forward", "backward") for name, move in moves.MOVES.items() if getattr(move, way)]
)
def test_a_wrong_move(name, way, monkeypatch):
    move = moves.MOVES[name]
    right = right_of(MOVE_PROGRAMS[name])
    assert all(product.torch for product in right.vjp.values())
    code = getattr(move, way)
    monkeypatch.setitem(moves.MOVES, name, replace(move, **{way: lambda *given: f"{code(*given)}*2"}))
    assert shows_nothing_wrong(right, derived(MOVE_PROGRAMS[name]))


@pytest.mark.parametrize("name", [*expressions.WHOLE, *expressions.ALONG])
def test_wrong_code_of_an_atom(name, monkeypatch):
    """The formula is right, and stays; code that gives other numbers is not shown."""
    program = CODE_PROGRAMS.get(name) or ATOM_PROGRAMS[name]
    right = right_of(program)
    if name in expressions.WHOLE:
        monkeypatch.setitem(expressions.WHOLE, name, (f"(2*{expressions.WHOLE[name][0]})", expressions.WHOLE[name][1]))
    else:
        write = expressions.ALONG[name]
        monkeypatch.setitem(expressions.ALONG, name, lambda *given: expressions.call("(2*{0})", write(*given), ndim=given[3]))
    wrong = derived(program)
    before, after = forms_of(right), forms_of(wrong)
    changed = [x for x in before if before[x] != after[x]]
    assert changed
    assert all((after[x].torch, after[x].matrix, after[x].formula) == (None, None, before[x].formula) for x in changed)


@pytest.mark.parametrize(
    ("table", "name", "expression"),
    [("IDEMPOTENT", "sin", "torch.sin(x)**2"), ("PARTITIONS", "cumprod", "x.cumprod(0).sum()")],
)
def test_what_is_taken_for_what_it_is_not(table, name, expression, monkeypatch):
    assert all(product.torch for product in right_of(expression).vjp.values())
    monkeypatch.setattr(forms, table, getattr(forms, table) | {name})
    wrong = derived(expression)
    assert all(form is None for form in wrong.formula.values())
    assert all(product.torch is None and product.given.torch is None for product in wrong.vjp.values())


def test_what_is_taken_for_a_quotient(monkeypatch):
    right = right_of("torch.log(torch.cos(x))")
    monkeypatch.setitem(forms.QUOTIENTS, "sin", ("cos", "tanh"))
    assert shows_nothing_wrong(right, derived("torch.log(torch.cos(x))"))


def test_what_is_taken_for_orthogonal(monkeypatch):
    right = right_of("torch.linalg.inv(X).T @ torch.linalg.inv(X)")
    monkeypatch.setitem(forms.ORTHOGONAL, "inv", (0,))
    assert shows_nothing_wrong(right, derived("torch.linalg.inv(X).T @ torch.linalg.inv(X)"))


def test_what_is_taken_for_linear(monkeypatch):
    right = right_of("torch.tanh(x)*x")
    monkeypatch.delitem(translation.OPERATIONS, "tanh")
    monkeypatch.setattr(translation, "LINEAR", translation.LINEAR | {"tanh"})
    assert shows_nothing_wrong(right, derived("torch.tanh(x)*x"))


@pytest.mark.parametrize("expression", ["x.repeat(2)", "x.index_add(0, torch.tensor([1, 1]), x[:2])", "torch.gradient(x)[0]"])
def test_a_wrong_matrix_of_what_is_linear(expression, monkeypatch):
    mapped = translation._mapped
    right = right_of(expression)
    assert all(product.torch for product in right.vjp.values())
    monkeypatch.setattr(translation, "_mapped", lambda x, maps, base: mapped(x, [3 * m for m in maps], base))
    assert shows_nothing_wrong(right, derived(expression))


@pytest.mark.parametrize(
    "expression",
    ["x + y", "X @ x", "torch.outer(x, y)", "torch.softmax(X, 1)", "x.norm()", "torch.einsum('ij,j->i', X, x)", "X.T", "x.var()",
     "torch.cat([x, y])", "F.layer_norm(X, (3,))", "torch.linalg.inv(X)", "F.mse_loss(x, y)", "x.reshape(3, 1)", "x.cumsum(0)",
     "x.msort()", "torch.linalg.cholesky(X)", "torch.linalg.svdvals(X)", "x.quantile(0.5)", "torch.lgamma(x)"],
)  # fmt: skip
def test_a_wrong_index_form_of_an_operation(expression, monkeypatch):
    called = translation._called

    def tripled(*given):
        found = called(*given)
        return replace(found, body=forms.scaled(found.body, 3))

    assert all(product.torch for product in right_of(expression).vjp.values())
    monkeypatch.setattr(translation, "_called", tripled)
    wrong = derived(expression)
    assert all(form is None for form in wrong.formula.values())
    assert all(product.torch is None and product.given.torch is None for product in wrong.vjp.values())


def test_what_has_a_step_in_its_derivative_chooses():
    arguments = [forms.of(forms.Sym(name, ())) for name in "abc"]
    for name, scalar in scalars.SCALARS.items():
        slopes = [partial(*arguments[: len(scalar.partials)]) for partial in scalar.partials]
        flat = bool(slopes) and not any(slopes) and name != "detach"
        assert (name in rules.CHOICES) == (flat or name == "where" or any(map(rules.chooses, slopes))), name


def test_every_rule_has_a_program():
    assert set(ATOM_PROGRAMS) | AT_POSITIONS == set(atoms.ATOMS)
    assert set(MOVE_PROGRAMS) == set(moves.MOVES)
