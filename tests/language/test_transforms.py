"""torch.func and torch.autograd.functional with functions of a program give what PyTorch gives with Python's own."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import jvpcli
from jvpcli.errors import EvaluationError, ForbiddenError, JvpError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse

X = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
W = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
V = torch.tensor([0.2, 0.5, -0.4], dtype=torch.float64)
SCOPE = {"x": X, "W": W, "v": V}

EXPRESSIONS = [
    "torch.func.grad(lambda t: (t ** 3).sum())(x)",
    "torch.func.grad(lambda t: (t * x).sum() * t.prod())(x)",
    "torch.func.grad(lambda a, b: (a * b ** 2).sum(), argnums=1)(x, v)",
    "torch.func.grad(lambda a, b: (a * b ** 2).sum(), (0, 1))(x, v)[1] * 2",
    "torch.func.grad(lambda a: ((a ** 2).sum(), a * 5), has_aux=True)(x)[1] + x",
    "torch.func.grad(torch.func.grad(lambda t: t ** 4))(x[0])",
    "torch.func.grad_and_value(lambda t: (t ** 3).sum())(x)[1] * x",
    "torch.func.grad(torch.sum)(x) * x",
    "torch.func.jacrev(torch.sin)(x)",
    "torch.func.jacrev(lambda t: t @ W)(x)",
    "torch.func.jacfwd(lambda t, w: t @ w, argnums=(0, 1))(x, W)[1]",
    "torch.func.jacrev(lambda t: (t ** 2, t.sum()))(x)[1]",
    "torch.func.jacrev(lambda t: W)(x) + x",
    "torch.func.hessian(lambda t: (t @ W).tanh().sum())(x)",
    "torch.func.hessian(lambda t: t.prod())(x) @ v",
    "torch.func.jacrev(torch.func.jacrev(lambda t: t ** 3))(x)",
    "torch.func.vjp(torch.sin, x)[1](v)[0]",
    "torch.func.vjp(lambda a, b: (a * b, a.sum()), x, v)[1]((x, v[0]))[1]",
    "torch.func.jvp(torch.sin, (x,), (v,))[1]",
    "torch.func.jvp(lambda a, b: a @ b, (x, W), (v, W * 2))[1]",
    "torch.vmap(lambda r: r * r.sum())(W)",
    "torch.vmap(torch.dot, in_dims=(1, None))(W, x)",
    "torch.vmap(lambda r, s: (r * s, r + s), (0, 0), out_dims=1)(W, x)[0]",
    "torch.func.vmap(torch.func.grad(lambda t, w: (t * w).sum() ** 2), in_dims=(None, 1))(x, W)",
    "torch.func.vmap(torch.func.jacrev(lambda r: r ** 2))(W)",
    "torch.func.jvp(torch.func.grad(lambda t: (t ** 3).sum()), (x,), (v,))[1]",
    "torch.autograd.functional.jacobian(torch.sin, x, create_graph=True)",
    "torch.autograd.functional.jacobian(lambda a, b: a @ b, (x, W), create_graph=True)[1]",
    "torch.autograd.functional.jacobian(lambda a: (a * 2, a ** 2), x, create_graph=True)[1]",
    "torch.autograd.functional.jacobian(torch.sin, x) * x",
    "torch.autograd.functional.hessian(lambda t: (t @ W).tanh().sum(), x, create_graph=True)",
    "torch.autograd.functional.hessian(lambda a, b: (a @ b).tanh().sum(), (x, W), create_graph=True)[0][1]",
    "torch.autograd.functional.vjp(torch.sin, x, v, create_graph=True)[1]",
    "torch.autograd.functional.vjp(lambda t: t.prod(), x, create_graph=True)[1]",
    "torch.autograd.functional.jvp(torch.sin, x, v, create_graph=True)[1]",
    "torch.autograd.functional.hvp(lambda t: (t ** 3).prod(), x, v, create_graph=True)[1]",
    "torch.autograd.functional.vhp(lambda t: (t ** 3).prod(), x, v=v, create_graph=True)[0] * x",
]

PROGRAMS = {
    "a def": """
        def f(t, k=2.0):
            h = torch.tanh(t * k)
            return (h ** 2).sum()
        g = torch.func.grad(f)
        g(x) + g(x, 3.0) + g(x, k=1.0)
    """,
    "per-sample gradients": """
        from torch.func import grad, vmap
        def loss(w, sample, target):
            return ((sample @ w - target) ** 2).sum()
        vmap(grad(loss), in_dims=(None, 0, 0))(W.T @ x, W, x)
    """,
    "an inner step": """
        import torch.func as tf
        def inner(w):
            return ((x @ w) ** 2).sum()
        def adapted(w):
            return inner(w - 0.1 * tf.grad(inner)(w))
        tf.grad(adapted)(W)
    """,
    "a vjp in two lines": """
        from torch.func import vjp
        y, pull = vjp(lambda t: t @ W, x)
        pull(y * 2)[0] * y.sum()
    """,
    "a Hessian-vector product by hand": """
        from torch.func import jvp, grad
        def hvp(f, primal, tangent):
            return jvp(grad(f), (primal,), (tangent,))[1]
        hvp(lambda t: (t ** 3).sum() * t.prod(), x, v)
    """,
    "where nothing is recorded around": """
        from torch.func import grad, hessian, vjp
        with torch.no_grad():
            a = grad(lambda t: (t ** 3).sum())(x)
            b = hessian(lambda t: (t ** 3).sum())(x) @ v
            value, pull = vjp(torch.sin, x)
            kept = torch.autograd.functional.vhp(lambda t: (t ** 3).sum(), x, v, create_graph=True)[1]
        a + b + value + x * kept
    """,
    "functions in a list": """
        fs = [torch.sin, lambda t: t ** 2, torch.exp]
        total = 0
        for f in fs:
            total = total + torch.func.jacrev(f)(x) @ v
        total
    """,
    "a transform of what it makes": """
        def newton(f, steps):
            df = torch.func.grad(f)
            def run(t):
                for _ in range(steps):
                    t = t - f(t) / df(t)
                return t
            return run
        newton(lambda t: t ** 2 - W[2, 1] - 1, 4)(x[2] + 1)
    """,
}


def sources() -> dict[str, str]:
    return {text: text for text in EXPRESSIONS} | {name: textwrap.dedent(text).strip() for name, text in PROGRAMS.items()}


def by_python(source: str, leaves: dict[str, torch.Tensor]) -> Any:
    import torch.func

    *lines, last = source.split("\n")
    scope = {"torch": torch, "F": F, **leaves}
    exec("\n".join(lines), scope)
    return eval(last, scope)


def fresh() -> dict[str, torch.Tensor]:
    return {name: value.clone().requires_grad_() for name, value in SCOPE.items()}


def gradient(y: torch.Tensor, leaves: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    if not y.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves.values()]
    return list(torch.autograd.grad(y.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sources())
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    source, leaves = sources()[name], fresh()
    expected = by_python(source, leaves)
    evaluation = evaluate(parse(source, SCOPE), SCOPE, wrt=tuple(SCOPE))
    (found,) = evaluation.outputs.values()
    torch.testing.assert_close(found, expected)
    inputs = {key: evaluation.inputs.get(key, leaf) for key, leaf in fresh().items()}
    torch.testing.assert_close(gradient(found, inputs), gradient(expected, leaves))


@pytest.mark.parametrize("name", ["torch.func.hessian(lambda t: (t @ W).tanh().sum())(x)", *list(PROGRAMS)[:5]])
def test_traces_and_checks_go_through(name: str) -> None:
    source = sources()[name]
    used = {key: value for key, value in SCOPE.items() if key in parse(source, SCOPE).inputs}
    inspected, traced = jvpcli.inspect(source, **used), jvpcli.trace(source, **used)
    found = {key: torch.as_tensor(part["value"], dtype=torch.float64) for key, part in traced.to_dict()["vjp"].items()}
    assert found
    torch.testing.assert_close(found, {**inspected.vjp})
    assert jvpcli.check(source, **used).passed


ERRORS = [
    ("torch.func.grad(lambda t: t)(x)", "takes a function that gives a single number"),
    ("torch.func.grad(lambda t: t.sum(), argnums=3)(x)", "argnums=3 does not fit 1 arguments"),
    ("torch.func.grad(x)", "takes a function first"),
    ("torch.func.grad(lambda t: t.sum())(3)", "A tensor is needed here, and a plain number is given"),
    ("torch.func.grad(lambda t: t.sum())(torch.arange(3))", "Only tensors of floating point have derivatives"),
    ("torch.func.grad(lambda t: t.sum(), hook=1)(x)", "`grad` takes no `hook` here"),
    ("torch.vmap(lambda a, b: a)(W, torch.ones(2))", "needs one size along the mapped axes"),
    ("torch.func.jvp(lambda t: t, (x,))", "The arguments don't fit `jvp`"),
    ("torch.func.vjp(lambda t: t, x)[1](x, x)", "The pullback takes 1 weights, and 2 are given"),
    ("l = [x]; l.insert(2**70, x); l[0]", "A plain number is no index of a list"),
    ("torch.vmap(lambda t: t, in_dims='a')(x)", "in_dims=a does not fit 1 arguments"),
    ("torch.vmap(lambda t: t, in_dims=2**70)(x)", "does not fit 1 arguments"),
    ("torch.vmap(lambda t: t, in_dims=-99)(x)", "in_dims=-99 does not fit 1 arguments"),
    ("torch.vmap(lambda t: (t, t), out_dims=(0,))(x)", "out_dims=(0,) does not fit 2 results"),
    ("torch.func.grad(lambda t: t.sum(), argnums=None)(x)", "argnums=None does not fit 1 arguments"),
    ("torch.func.grad(lambda t: t.sum(), has_aux=x)(x)", "has_aux is True or False, and a tensor of shape (3,) is given"),
    ("torch.func.jvp(lambda t: t, (x,), (x, x))", "There are 1 primals, and 2 tensors are given for them"),
    ("torch.func.jvp(lambda t: t, (x,), (1,))", "A tensor is needed here, and a plain number is given"),
    ("torch.autograd.functional.hvp(lambda t: t.sum(), x, (x, v))", "There are 1 inputs, and 2 tensors are given"),
    ("torch.autograd.functional.vjp(lambda t: (t, t), x, v)", "There are 2 outputs, and 1 tensors are given"),
    ("torch.autograd.grad(x ** 2, x, [x, v])[0] * x", "is given 2 grad_outputs, and there are only 1 outputs"),
    ("torch.func.grad(lambda t: t.sum(), has_aux=True)(x)", "With has_aux=True a function gives two things"),
]


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_what_does_not_fit_is_said(source: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(parse(source, SCOPE), SCOPE, wrt=("x",))
    assert message in caught.value.message
    assert caught.value.span is not None


CLOSED = [
    "torch.func.grad(torch.load)('a')", "torch.func.vmap(open)('a')", "torch.func.functionalize(lambda t: t)(x)",
    "torch.func.grad(lambda t: t.sum()).__wrapped__", "torch.func.grad(lambda t: t.sum()).function", "torch.func.torch.os",
    "torch.func.grad.__globals__", "f = torch.func.grad\nf.__globals__\n(lambda: x)()", "torch.func.vjp(torch.sin, x)[1].options",
    "torch.func.grad(torch.os.system)(x)", "torch.vmap(torch.ops.aten.sin)(x)", "torch.func.debug_unwrap(x)",
    "torch.autograd.functional.torch", "torch.func.grad(lambda t: torch.func.grad(lambda u: u.__class__)(t))(x)",
    "f = lambda g: torch.func.grad(g)(x)\nf(f)", "def f(t):\n    return torch.func.grad(f)(t)\nf(x[0])",
    "def f(t):\n    return torch.vmap(f)(t[None])[0]\nf(x)",
    "row = torch.ones(100)\ntorch.vmap(lambda t: torch.vmap(lambda u: torch.vmap(lambda w: w)(row))(row))(row)",
]


@pytest.mark.parametrize("source", CLOSED)
def test_nothing_can_be_reached(source: str) -> None:
    with pytest.raises(JvpError) as caught:
        evaluate(parse(source), {"x": X}, wrt=("x",))
    assert caught.value.code in ("forbidden", "unknown_name", "syntax", "evaluation", "limit", "not_differentiable")


@pytest.mark.parametrize("call", ["torch.func.jacfwd(f)(x)", "torch.func.hessian(f)(x)", "torch.func.jvp(f, (x,), (x,))[1]"])
@pytest.mark.parametrize("use", ["y = {}", "y = {}\ny = y.sum() * x"])
def test_forward_mode_heeds_no_grad_in_nothing(call: str, use: str) -> None:
    """PyTorch ignores no_grad there, and what is done here would not."""
    text = "x = torch.tensor([1., 2.])\ndef f(x):\n    with torch.no_grad():\n        c = x.sum()\n    return (x * c).sum()\n"
    with pytest.raises(ForbiddenError, match="where PyTorch ignores it"):
        jvpcli.inspect(text + use.format(call))


def test_reverse_mode_heeds_no_grad() -> None:
    text = "def f(x):\n    with torch.no_grad():\n        c = x.sum()\n    return (x * c).sum()\ny = torch.func.grad(f)(x)"
    found = jvpcli.inspect(text, {"x": [1.0, 2.0]}).vjp["x"]
    torch.testing.assert_close(found, torch.tensor([3.0, 3.0]))
