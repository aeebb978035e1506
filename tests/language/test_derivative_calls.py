"""Derivative calls inside of programs: what they give, and what is derived of it, are plain PyTorch's."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import jvpcli
from jvpcli.errors import JvpError
from jvpcli.language.derivatives import Live
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse

X = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
W = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
T = torch.tensor([0.2, 0.5, -0.4], dtype=torch.float64)
SCOPE = {"x": X, "W": W, "t": T}

PROGRAMS = {
    "a derivative": """
        u = torch.sin(x)
        du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
        du
    """,
    "with what it came from": """
        u = torch.sin(x) * x
        du, = torch.autograd.grad(u.sum(), x, create_graph=True)
        du * u + x
    """,
    "second and third": """
        u = (x ** 5).sum()
        d1 = torch.autograd.grad(u, x, create_graph=True)[0]
        d2 = torch.autograd.grad(d1.sum(), [x], create_graph=True)[0]
        d3 = torch.autograd.grad(d2, x, torch.ones_like(d2), create_graph=True)[0]
        d1 + d2 * d3
    """,
    "of an intermediate": """
        h = torch.tanh(x @ W)
        L = (h ** 3).sum()
        g = torch.autograd.grad(L, h, create_graph=True)[0]
        g * h
    """,
    "PINN": """
        u = torch.sin(x) * torch.exp(-t) * x
        u_t = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]
        u_x = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
        u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
        residual = u_t + u * u_x - 0.01 * u_xx
        (residual ** 2).mean()
    """,
    "gradient penalty": """
        score = torch.tanh(x @ W).sum()
        g = torch.autograd.grad(outputs=score, inputs=x, create_graph=True, retain_graph=True)[0]
        penalty = (g.norm(2) - 1) ** 2
        score + 10 * penalty
    """,
    "Hessian-vector product": """
        L = (torch.sin(x) @ W).pow(2).sum()
        g = torch.autograd.grad(L, x, create_graph=True)[0]
        v = torch.tensor([1., 2., 3.], dtype=x.dtype)
        hvp = torch.autograd.grad((g * v).sum(), x, create_graph=True)[0]
        hvp
    """,
    "inner steps": """
        def loss(w, data):
            return ((data @ w).tanh() - 1).pow(2).sum()
        fast = W
        for step in range(3):
            g = torch.autograd.grad(loss(fast, x), fast, create_graph=True)[0]
            fast = fast - 0.1 * g
        loss(fast, t)
    """,
    "in a function": """
        def gradient(u, of):
            return torch.autograd.grad(u, of, grad_outputs=torch.ones_like(u), create_graph=True)[0]
        def laplacian(u, of):
            g = gradient(u, of)
            return gradient(g, of)
        u = torch.exp(-x * t) * x.sin()
        laplacian(u, x) + laplacian(u, t)
    """,
    "imported names": """
        from torch.autograd import grad
        from torch import autograd
        u = x ** 3
        grad(u.sum(), x, create_graph=True)[0] + autograd.grad(u.sum(), x, create_graph=True)[0]
    """,
    "several inputs, one unused": """
        u = (x * t).sum()
        a, b, c = torch.autograd.grad(u ** 2, [x, t, W], create_graph=True, allow_unused=True)
        a * b if c is None else x
    """,
    "without create_graph it is a constant": """
        u = (x ** 3).sum()
        g = torch.autograd.grad(u, x, retain_graph=True)[0]
        g * x + u
    """,
    "backward adds up": """
        y = (x ** 3).sum()
        y.backward(create_graph=True)
        z = (x * t).sum()
        z.backward(create_graph=True)
        x.grad * x
    """,
    "backward, cleared": """
        y = (x ** 3).sum()
        y.backward(retain_graph=True)
        x.grad.zero_()
        y.backward(create_graph=True)
        k = x.grad
        x.grad = None
        none = x.grad is None
        k * 2 if none else x
    """,
    "backward with weights, of several": """
        a, b = x ** 2, x * t
        torch.autograd.backward([a, b], [torch.ones_like(a), 2 * torch.ones_like(b)], create_graph=True)
        x.grad + t.grad
    """,
    "a view, and in place": """
        y = x.clone()
        y[0] *= 3
        v = y[:2]
        g = torch.autograd.grad((v ** 3).sum(), x, create_graph=True)[0]
        g * 2
    """,
    "in a loop": """
        s = 0
        for k in range(1, 4):
            s = s + torch.autograd.grad((x ** k).sum(), x, create_graph=True)[0] ** 2
        s
    """,
    "around a call": """
        -torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0].norm()
    """,
    "materialized": """
        torch.autograd.grad((x ** 3).sum(), [x, t], create_graph=True, allow_unused=True, materialize_grads=True)[1] + x
    """,
    "batched": """
        y = x ** 2
        J = torch.autograd.grad(y, x, torch.eye(3, dtype=x.dtype), is_grads_batched=True, create_graph=True)[0]
        J @ x
    """,
}  # fmt: skip


def text(name: str) -> str:
    return textwrap.dedent(PROGRAMS[name]).strip()


def by_python(source: str, leaves: dict[str, torch.Tensor]) -> Any:
    *lines, last = source.split("\n")
    scope = {"torch": torch, "F": F, **leaves}
    exec("\n".join(lines), scope)
    return eval(last, scope)


def fresh() -> dict[str, torch.Tensor]:
    return {name: value.clone().requires_grad_() for name, value in SCOPE.items()}


def gradient(y: torch.Tensor, leaves: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(y.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    source, leaves = text(name), fresh()
    expected = by_python(source, leaves)
    evaluation = evaluate(parse(source, SCOPE), SCOPE, wrt=tuple(SCOPE))
    (found,) = evaluation.outputs.values()
    torch.testing.assert_close(found, expected)
    inputs = {key: evaluation.inputs.get(key, leaf) for key, leaf in fresh().items()}
    torch.testing.assert_close(gradient(found, inputs), gradient(expected, leaves))


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_agree(name: str) -> None:
    """inspect's Jacobian and trace's steps are PyTorch's; check finds what finite differences find."""
    source = text(name)
    used = {key: value for key, value in SCOPE.items() if key in parse(source, SCOPE).inputs}
    expected = dict(zip(SCOPE, gradient(by_python(source, leaves := fresh()), leaves), strict=True))
    inspected, traced = jvpcli.inspect(source, **used), jvpcli.trace(source, **used)
    ((output, _), *_) = inspected.jacobian
    for key in used:
        torch.testing.assert_close(inspected.vjp[key], expected[key])
        torch.testing.assert_close(torch.as_tensor(traced.to_dict()["vjp"][key]["value"], dtype=torch.float64), expected[key])
        jacobian = torch.autograd.functional.jacobian(
            lambda value, key=key: by_python(source, {**fresh(), key: value}), used[key].clone()
        )
        torch.testing.assert_close(inspected.jacobian[output, key], jacobian)
    assert not [finding for finding in traced.to_dict()["findings"] if "differ" in finding["message"]]
    if "constant" not in name and "cleared" not in name:
        assert jvpcli.check(source, **used).passed


def test_the_derivative_of_a_derivative_is_what_is_shown() -> None:
    source = "u = torch.sin(x); du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]; du"
    result = jvpcli.inspect(source, x=X)
    torch.testing.assert_close(result.jacobian["du", "x"], torch.diag(-torch.sin(X)))


def test_a_step_of_its_own() -> None:
    steps = jvpcli.trace(text("with what it came from"), x=X).to_dict()["steps"]
    names = [(step["output"], step["operands"]) for step in steps]
    assert ("du", ["x"]) in names


ERRORS = [
    ("y = x.sin().sum()\ny.backward()\ny.backward()\nx", "Trying to backward through the graph a second time"),
    ("y = x.sin().sum()\ng = torch.autograd.grad(y, x)[0]\nh = torch.autograd.grad(y, x)[0]\nh", "a second time"),
    ("y = x * 2\ny.backward()\nx", "grad can be implicitly created only for scalar outputs"),
    ("y = x * 2\ntorch.autograd.grad(y, x)[0] * 2", "grad can be implicitly created only for scalar outputs"),
    ("y = (x * 2).sum()\ntorch.autograd.grad(y, W)[0] * 2", "appears to not have been used in the graph"),
    ("y = (x * 2).sum()\nz = x[:2]\ntorch.autograd.grad(y, z)[0] * 2", "appears to not have been used in the graph"),
    ("y = x.detach().sum()\ntorch.autograd.grad(y, x)[0] * 2", "does not require grad"),
    ("y = x.detach().sum()\ny.backward()\nx", "does not require grad"),
    ("g = torch.autograd.grad((x**2).sum(), x)[0]\ntorch.autograd.grad(g.sum(), x)[0]", "does not require grad"),
    ("torch.autograd.grad(x**2, x, torch.ones(2))[0] * 2", "Mismatch in shape"),
]


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_errors_are_pytorchs(source: str, message: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=message):
        by_python(source, fresh())
    with pytest.raises(JvpError) as caught:
        evaluate(parse(source, SCOPE), SCOPE, wrt=tuple(SCOPE))
    assert message in (caught.value.torch_message or "")
    assert caught.value.span is not None


REFUSED = [
    "torch.autograd.grad(*[x, x])", "torch.autograd.grad(x, x, hook=x)", "x.backward(1, 2, 3, 4, 5, 6)", "x.grad_fn + 1",
    "x.grad = x", "x.grad.data", "x.grad.backward.__self__", "torch.autograd.grad.__globals__", "torch.autograd.grad",
    "torch.autograd.backward(x, x, hook=1)", "torch.autograd.Function", "torch.autograd.graph.save_on_cpu()",
    "x.register_hook(x)",
    "f = torch.autograd.grad\n(lambda: f.__self__)()", "torch.autograd.grad(x, x, grad_outputs=[lambda: x])[0]",
    "x.grad.register_hook(lambda g: g)", "torch.autograd.grad(lambda: x, x)", "torch.autograd.profiler.profile()",
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_nothing_else_can_be_reached(source: str) -> None:
    with pytest.raises(JvpError):
        evaluate(parse(f"y = x.sum()\n{source}", ["x"]), {"x": X}, wrt=("x",))


def test_random_numbers_before_a_call_are_drawn_again() -> None:
    source = "n = torch.randn_like(x)\nu = (x ** 3 * n).sum()\ng = torch.autograd.grad(u, x, create_graph=True)[0]\ng * x"
    plain, traced = jvpcli.inspect(source, x=X, seed=7), jvpcli.trace(source, x=X, seed=7)
    torch.testing.assert_close(torch.as_tensor(traced.to_dict()["vjp"]["x"]["value"], dtype=torch.float64), plain.vjp["x"])


def test_a_call_at_other_inputs_runs_what_is_before_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls before it too: not each with all that is before it, again and again."""
    again = "u = torch.autograd.grad(u, x, create_graph=True)[0].sum()"
    evaluation = evaluate(parse("\n".join(["u = x.exp().sum()", *[again] * 5, "u"])), {"x": X}, wrt=("x",))
    last = [step for step in evaluation.tape if step.kind == "derive"][-1]
    by = dict(last.keywords)["by"].value
    steps, plain = [], Live.step
    monkeypatch.setattr(Live, "step", lambda self, *given: steps.append(given[0].op) or plain(self, *given))
    torch.testing.assert_close(by.at([X]), X.exp())
    assert len(steps) == by.count + 1
    assert steps.count("derive:grad") == 5


@pytest.mark.parametrize("wrt", ["x", "t"])
def test_what_is_derived_need_not_be_asked_for(wrt: str) -> None:
    source, leaves = text("PINN"), fresh()
    expected = torch.autograd.grad(by_python(source, leaves), leaves[wrt])[0]
    torch.testing.assert_close(jvpcli.inspect(source, x=X, t=T, wrt=wrt).vjp[wrt], expected)
