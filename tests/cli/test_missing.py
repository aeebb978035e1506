"""The command that is shown where an input has no value: it works, or none is shown."""

from __future__ import annotations

import json
import shlex

import pytest

SURE = [
    ("torch.outer(x,x)", []), ("x @ W", []), ("torch.linalg.inv(A)", []), ("torch.softmax(x, 0) * w", []),
    ("x*z", ["--x", "1,2"]), ("x*z", ["--x", "torch.rand(2,3)"]), ("F.linear(x,W)", []), ("x.T @ x + torch.exp(x)", []),
    ("torch.special.erf(x).sum()", []), ("torch.dot(x,w)", []), ("torch.linalg.cholesky(A).sum()", []), ("2*x**3", []),
    ("(x - x.mean()) / x.std()", []), ("torch.logdet(A @ A.T)", []), ("torch.outer(x, w) * x.sum()", []),
    ("F.mse_loss(x, w)", ["--x", "1,2;3,4"]), ("torch.cumsum(x, dim=-1) + w", []),
]  # fmt: skip

UNSURE = [
    ("x.sum(1)", []), ("F.conv1d(x,w)", []), ("x[0]*2", []), ("torch.outer(x, x @ W)", []), ("torch.outer(x.sum(), x)", []),
    ("x @ z", ["--x", "1,2"]), ("x.mean(-1) * w", ["--x", "1,2,3;4,5,6"]), ("A @ x.sum()", []), ("torch.det(A) @ A", []),
    ("y = x; y * 2", []), ("x*z*w", ["--x", "1,2", "--z", "1,2,3"]), ("[a for a in x][0]", []),
    ("torch.outer(torch.outer(x, x), x)", []), ("x.outer(x.sum())", []), ("x * z", ["--x", "1", "-g", "1,2"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "given"), SURE)
def test_the_command_works(jvp, expression, given):
    error = json.loads(jvp("inspect", expression, *given, "--json").out)["error"]
    words = shlex.split(error["hints"][0])
    assert words[:3] == ["jvp", "inspect", expression]
    assert words[3 : 3 + len(given)] == given
    assert jvp(*words[1:]).code == 0


@pytest.mark.parametrize(("expression", "given"), UNSURE)
def test_where_it_is_not_sure_the_forms_of_a_value_are_told(jvp, expression, given):
    error = json.loads(jvp("inspect", expression, *given, "--json").out)["error"]
    assert error["code"] == "unknown_name"
    assert [hint[:16] for hint in error["hints"]] == ["Give it a value:"]


def test_a_name_that_is_nearly_right_is_asked_for(jvp):
    shown = jvp("inspect", "x * xx", "--xx", "1").err
    assert "\nDid you mean xx?\n" in shown
    assert "Try" not in shown
