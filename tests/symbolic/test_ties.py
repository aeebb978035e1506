"""Entries that are equally large, and those at a bound: what is shown is what PyTorch does there, and everywhere else."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

import jvpcli
from jvpcli.symbolic import atoms

X = torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64)
Y = torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64)
OTHER = {"x": torch.tensor([-0.7, 2.0, 2.0], dtype=torch.float64), "y": torch.tensor([0.4, 2.0, -3.0], dtype=torch.float64)}
EXPRESSIONS = [
    "torch.maximum(x, y)*y", "torch.minimum(x, y)*x", "torch.maximum(torch.relu(x), x)", "torch.minimum(x.abs(), -x)*y",
    "x.amax()*y", "torch.stack([x, y]).amax(0)", "torch.outer(x, y).amin((0, 1))", "x.max()", "x.aminmax().max*y",
    "torch.linalg.vector_norm(x, torch.inf)", "torch.logsumexp(torch.maximum(x, y), 0)", "torch.fmax(x, y)", "torch.fmin(x, y)*x",
    "x.clamp(1, 3)*y", "x.clamp(min=1)", "x.clamp(max=y)*x", "torch.clamp(x, y - 2, y + 2)", "x.clamp(max=2*y)",
    "F.hardtanh(x, 1, 3)*x", "F.relu6(2*x)", "F.relu(x - 1)", "F.hardsigmoid(x)", "F.hardswish(x)*y", "F.leaky_relu(x - 1)",
    "F.threshold(x, 1, 7)", "F.margin_ranking_loss(x, y, torch.ones(3))", "torch.where(x >= y, x, y*x)",
    "F.relu(x - 4)/(1 + F.relu(x - 4).norm())", "torch.cdist(x[:, None], y[:, None]) @ y", "y*(x - x.detach()).norm()",
    "x*((x >= 1) & (y < 3))", "x*((x > 1) | (y != 1))", "x*y*(~(x <= y)).double()", "torch.where(x == y, x*y, x)",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_form(expression):
    given = {name: x for name, x in {"x": X, "y": Y}.items() if re.search(rf"\b{name}\b", expression)}
    result = jvpcli.derive(expression, given)
    assert result.vjp
    for point in (given, {name: OTHER[name] for name in given}):
        leaves = {name: x.clone().requires_grad_() for name, x in point.items()}
        y = eval(expression, {"torch": torch, "F": F, **leaves})
        v = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape) ** 2
        wanted = torch.autograd.grad(y, list(leaves.values()), v, allow_unused=True)
        for product, want in zip(result.vjp.values(), wanted, strict=True):
            assert product.torch is not None, product
            assert product.given.torch is not None, product
            got = torch.as_tensor(eval(product.torch, {"torch": torch, "v": v, **point}))
            torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want)


def test_halves_are_shown_only_where_there_is_a_tie():
    apart = jvpcli.derive("torch.maximum(x, y)", x=[1.0, 2.0], y=[0.5, 3.0])
    tied = jvpcli.derive("torch.maximum(x, y)", x=[1.0, 2.0], y=[0.5, 2.0])
    assert apart.vjp["x"].formula == "v_i·[y_i < x_i]"
    assert tied.vjp["x"].formula == "v_i·([y_i < x_i] + 1/2·[y_i = x_i])"


def test_a_wrong_share(monkeypatch):
    expression = "z = torch.cat([x, y]).amax(); z"
    right = jvpcli.derive(expression, x=X, y=Y - 2)
    rule = atoms.ATOMS["amax"]
    monkeypatch.setitem(atoms.ATOMS, "amax", lambda x, at, by, params: rule(x, at, by, ()))
    wrong = jvpcli.derive(expression, x=X, y=Y - 2)
    assert right.vjp["x"].torch is not None
    assert right.formula["z", "x"] is not None
    assert wrong.vjp["x"].torch is None
    assert wrong.formula["z", "x"] is None
