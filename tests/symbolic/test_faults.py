"""A fault in any rule of differentiation is seen when the forms are verified: none of them is shown."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import jvpcli
from jvpcli.symbolic import atoms, forms, moves, scalars, translation

SCALAR_PROGRAMS = {
    "where": "torch.where(x < y, x*x, y*x)",
    "less": "x*(x < y)",
    "detach": "x*x.detach()",
    "power": "x**y",
    "acosh": "torch.acosh(x + 2)",
}
"""Those whose code is no call of a function, or that are for larger numbers."""

OF_CONDITIONS = {("not", 0), ("where", 0), ("positive", 0)}
"""Derivatives by what is a condition, through which no gradient goes, or that come in with the second derivative alone."""

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
    "move": "x.flip(0)*x",
}

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
}

INPUTS = {
    "x": torch.tensor([0.3, 0.8, 0.6], dtype=torch.float64),
    "y": torch.tensor([0.7, 0.4, 0.9], dtype=torch.float64),
    "X": torch.tensor([[0.9, 0.2, 0.1], [0.3, 1.1, 0.2], [0.4, 0.1, 1.3]], dtype=torch.float64),
}


def derived(expression, **options):
    return jvpcli.derive(expression, {name: x for name, x in INPUTS.items() if re.search(rf"\b{name}\b", expression)}, **options)


def shows_nothing_wrong(before, after) -> bool:
    """Whether a form that used the rule is gone with its code; what does not use it stays as it was."""
    changed = [x for x in before.vjp if before.vjp[x] != after.vjp[x]]
    return bool(changed) and all(
        form.formula is None and form.torch is None and form.latex is None and form.reason
        for x in changed
        for form in (after.vjp[x], after.vjp[x].given)
    )


def program_of(name: str) -> str:
    scalar = scalars.SCALARS[name]
    return SCALAR_PROGRAMS.get(name) or f"x*{scalar.torch.format(*'xy')}"


@pytest.mark.parametrize(
    ("name", "k"),
    [(name, k) for name, s in scalars.SCALARS.items() for k in range(len(s.partials)) if (name, k) not in OF_CONDITIONS],
)
def test_a_wrong_derivative_of_a_scalar_function(name, k, monkeypatch):
    right = derived(program_of(name))
    assert all(product.torch for product in right.vjp.values())
    _break_scalar(monkeypatch, name, k)
    assert shows_nothing_wrong(right, derived(program_of(name)))


def _break_scalar(monkeypatch, name, k):
    scalar = scalars.SCALARS[name]
    partials = list(scalar.partials)
    partials[k] = lambda *given: forms.add(scalar.partials[k](*given), forms.ONE)
    monkeypatch.setitem(scalars.SCALARS, name, replace(scalar, partials=tuple(partials)))


def test_a_wrong_second_derivative(monkeypatch):
    right = derived("torch.relu(x - 0.5)*y", hessian=True)
    _break_scalar(monkeypatch, "positive", 0)
    wrong = derived("torch.relu(x - 0.5)*y", hessian=True)
    assert right.hessian["x", "x"].torch is not None
    assert (wrong.hessian["x", "x"].formula, wrong.hessian["x", "x"].torch) == (None, None)
    assert wrong.hessian["y", "x"] == right.hessian["y", "x"]


@pytest.mark.parametrize(("name", "k"), list(atoms.ATOMS), ids=lambda given: str(given))
def test_a_wrong_derivative_of_an_atom(name, k, monkeypatch):
    rule = atoms.ATOMS[name, k]
    hessian = name.startswith("is_")
    right = derived(ATOM_PROGRAMS[name], hessian=hessian)
    monkeypatch.setitem(atoms.ATOMS, (name, k), lambda *given: forms.add(forms.scaled(rule(*given), 2), forms.ONE))
    wrong = derived(ATOM_PROGRAMS[name], hessian=hessian)
    if hessian:  # piecewise constant: its derivative comes in with the second
        assert right.hessian["x", "x"].torch is not None
        assert wrong.hessian["x", "x"].torch is None
        assert wrong.hessian["x", "x"].formula is None
    else:
        assert shows_nothing_wrong(right, wrong)


@pytest.mark.parametrize("name", list(moves.MOVES))
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_wrong_move(name, way, monkeypatch):
    move = moves.MOVES[name]
    right = derived(MOVE_PROGRAMS[name])
    assert all(product.torch for product in right.vjp.values())
    code = getattr(move, way)
    monkeypatch.setitem(moves.MOVES, name, replace(move, **{way: lambda *given: f"{code(*given)}*2"}))
    wrong = derived(MOVE_PROGRAMS[name])
    assert right.vjp == wrong.vjp or shows_nothing_wrong(right, wrong)
    for product in wrong.vjp.values():
        assert "*2" not in (product.torch or "").replace("**2", "").replace("2*", "")


@pytest.mark.parametrize(
    "expression",
    ["x + y", "X @ x", "torch.outer(x, y)", "torch.softmax(X, 1)", "x.norm()", "torch.einsum('ij,j->i', X, x)", "X.T", "x.var()",
     "torch.cat([x, y])", "F.layer_norm(X, (3,))", "torch.linalg.inv(X)", "F.mse_loss(x, y)", "x.reshape(3, 1)", "x.cumsum(0)"],
)  # fmt: skip
def test_a_wrong_index_form_of_an_operation(expression, monkeypatch):
    called = translation._called

    def tripled(*given):
        found = called(*given)
        return replace(found, body=forms.scaled(found.body, 3))

    assert all(product.torch for product in derived(expression).vjp.values())
    monkeypatch.setattr(translation, "_called", tripled)
    wrong = derived(expression)
    assert all(form is None for form in wrong.formula.values())
    assert all(product.torch is None and product.given.torch is None for product in wrong.vjp.values())


def test_every_rule_has_a_program():
    assert set(ATOM_PROGRAMS) == {name for name, _ in atoms.ATOMS}
    assert set(MOVE_PROGRAMS) == set(moves.MOVES)
