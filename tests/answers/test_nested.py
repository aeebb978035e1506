"""jvpcli where its own answer is differentiated: with create_graph it is right, and without it nothing is lost in silence."""

from __future__ import annotations

import ast

import pytest
import torch

import jvpcli
from jvpcli.errors import NotDifferentiableError, UsageError

X = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64)
W = torch.tensor([[1.0, 0.5, -2.0], [0.25, 3.0, 1.0]], dtype=torch.float64)
V = torch.tensor([0.75, -0.5], dtype=torch.float64)

FUNCTIONS = {
    "(W@x).sin()": lambda x, W: (W @ x).sin(),
    "(W*x**3).sum(1)": lambda x, W: (W * x**3).sum(1),
    "torch.linalg.vector_norm(W*x, dim=1)": lambda x, W: torch.linalg.vector_norm(W * x, dim=1),
    "W@x": lambda x, W: W @ x,
    "torch.view_as_complex((W.T*x[:, None])[:2].contiguous())": lambda x, W: torch.view_as_complex(
        (W.T * x[:, None])[:2].contiguous()
    ),
}


def leaves(*tensors):
    return [t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("text", FUNCTIONS)
@pytest.mark.parametrize("as_text", [True, False])
def test_vjp_jvp_and_jacobian_are_differentiated_as_torch_does(text, as_text):
    function = FUNCTIONS[text]
    expression = text if as_text else function
    x, w, u = leaves(X, W, X.flip(0))
    y = function(x, w)
    v = (torch.complex(V, V.flip(0)) if y.is_complex() else V.clone()).requires_grad_()
    result = jvpcli.inspect(
        expression, {"x": x, "W": w}, wrt="x", grad_outputs=v, tangent=u, create_graph=True, dtype="float64"
    )
    maps = jvpcli.jacobian(expression, {"x": x, "W": w}, wrt="x", create_graph=True)
    x_, w_, u_ = leaves(X, W, X.flip(0))
    v_ = v.detach().clone().requires_grad_()

    def parts(x, w):
        y = function(x, w)
        return torch.view_as_real(y) if y.is_complex() else y

    jacobian = torch.autograd.functional.jacobian(lambda x: parts(x, w_), x_, create_graph=True)
    (pulled,) = torch.autograd.grad(function(x_, w_), x_, v_, create_graph=True)
    pushed = torch.tensordot(jacobian, u_, 1)
    if y.is_complex():
        jacobian, pushed = torch.complex(*jacobian.unbind(1)), torch.view_as_complex(pushed)
    pairs = [
        (result.vjp["x"], pulled, (x, w, v), (x_, w_, v_)),
        (result.jvp["y"], pushed, (x, w, u), (x_, w_, u_)),
        (result.jacobian["y", "x"], jacobian, (x, w), (x_, w_)),
        (maps["y", "x"].to_dense(), jacobian, (x, w), (x_, w_)),
        (maps["y", "x"].pullback(v.detach()), pulled, (x, w), (x_, w_)),
        (result.outputs["y"], function(x_, w_), (x, w), (x_, w_)),
    ]
    for ours, theirs, mine, its in pairs:
        torch.testing.assert_close(ours, theirs)
        weight = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(5))
        found = torch.autograd.grad(ours, mine, weight, allow_unused=True, retain_graph=True, materialize_grads=True)
        expected = torch.autograd.grad(theirs, its, weight, allow_unused=True, retain_graph=True, materialize_grads=True)
        torch.testing.assert_close(found, expected)
    plain = jvpcli.inspect(expression, {"x": X, "W": W}, wrt="x", grad_outputs=v.detach(), tangent=u.detach())
    assert result.to_dict() == plain.to_dict()  # what is reported is the same as without a graph


def test_several_v_too():
    x, w = leaves(X, W)
    v = torch.tensor([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]], dtype=torch.float64)
    result = jvpcli.inspect("(W@x).sin()", x=x, W=w, wrt="x", grad_outputs=v, is_grads_batched=True, create_graph=True)
    x_, w_ = leaves(X, W)
    expected = torch.stack([torch.autograd.grad((w_ @ x_).sin(), x_, row, create_graph=True)[0] for row in v])
    torch.testing.assert_close(result.vjp["x"], expected)
    ours, theirs = (torch.autograd.grad((t**2).sum(), leaf) for t, leaf in ((result.vjp["x"], (x, w)), (expected, (x_, w_))))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("outer", ["inspect", "jacobian", "check"])
def test_inside_jvpcli(outer):
    """x² · d(z³)/dz at z = x is 3x⁴: its derivative is 12x³."""
    x = torch.tensor(2.0, dtype=torch.float64)

    def inner(x):
        return x**2 * jvpcli.inspect(lambda z: z**3, z=x, create_graph=True).vjp["z"]

    def other(x):
        return x**2 * jvpcli.jacobian("z**3", z=x, create_graph=True)["y", "z"].to_dense()

    for function in (inner, other):
        if outer == "check":
            assert jvpcli.check(function, x=x).verdict == "pass"
        elif outer == "jacobian":
            assert float(jvpcli.jacobian(function, x=x)["y", "x"].to_dense()) == 96.0
        else:
            assert float(jvpcli.inspect(function, x=x).vjp["x"]) == 96.0


LOST = [
    lambda x: x**2 * jvpcli.inspect(lambda z: z**3, z=x).vjp["z"],
    lambda x: x**2 * jvpcli.inspect("z**3", z=x * 2).vjp["z"],
    lambda x: x**2 * jvpcli.jacobian("z**3", z=x)["y", "z"].to_dense(),
    lambda x: x * jvpcli.inspect(lambda z: z * x, z=1.0).vjp["z"],  # from outside of the inner function
    lambda x: x * jvpcli.inspect("z**3", z=[1.0], grad_outputs=x.reshape(1)).vjp["z"].sum(),
    lambda x: x * jvpcli.trace("z**3", z=x).vjp["z"],
    lambda x: x * float(jvpcli.check("z**3", z=x).passed),
]


@pytest.mark.parametrize("function", LOST)
def test_what_would_be_lost_inside_is_refused(function):
    with pytest.raises(UsageError, match="its answer would be a constant there"):
        jvpcli.inspect(function, x=torch.tensor(2.0, dtype=torch.float64))


def test_what_is_a_constant_there_is_answered():
    parameter = torch.nn.Parameter(torch.tensor(3.0))

    def function(x):
        return x * jvpcli.inspect(lambda z: parameter * z**2, z=2.0).vjp["z"]

    assert float(jvpcli.inspect(function, x=5.0).vjp["x"]) == 12.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("create_graph", [True, False])
def test_transforms_of_torch_are_refused(create_graph):
    def asks(x):
        return jvpcli.inspect("(z**3).sum()", z=x, create_graph=create_graph).vjp["z"].sum()

    x = torch.tensor([2.0, 3.0])
    for transformed in (torch.func.grad(asks), torch.func.jacrev(asks), torch.func.jacfwd(asks), torch.vmap(asks)):
        with pytest.raises(UsageError, match="inside a transform of"):
            transformed(x)
    with pytest.raises(UsageError, match="inside a transform of"):
        torch.func.grad(lambda x: jvpcli.inspect(lambda z: z * x.sum(), z=1.0).vjp["z"])(x)


def test_a_tensor_with_a_graph_is_answered_and_it_is_said_that_the_result_has_none():
    x = X.clone().requires_grad_()
    result = jvpcli.inspect("z**3", z=2 * x)
    assert not result.vjp["z"].requires_grad
    assert [notice.code for notice in result.report.warnings] == ["graph_break"]
    assert "create_graph=True" in result.report.warnings[0].message
    assert jvpcli.inspect("z**3", z=x).report.warnings == ()
    assert jvpcli.inspect("z**3", z=2 * x, create_graph=True).report.warnings == ()


def test_the_callers_tensors_and_random_numbers_stay():
    x = X.clone().requires_grad_()
    torch.manual_seed(3)
    result = jvpcli.inspect("y = F.dropout(x.clone(), 0.5); y.mul_(2); y", x=x, seed=7, create_graph=True)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    torch.testing.assert_close(torch.rand(2), drawn)
    torch.testing.assert_close(result.vjp["x"], torch.as_tensor(result.report.vjp["x"].value))
    assert torch.equal(x, X)
    assert x.grad is None


@pytest.mark.parametrize(("text", "why"), [
    ("y = x*2\nwith torch.no_grad():\n    for k in range(2):\n        y = y*3\ny", "`*` runs under torch.no_grad, where"),
    ("with torch.inference_mode():\n    y = x.sin()\ny", "`sin` runs under torch.inference_mode, where"),
    ("def f(x):\n    return x*2\nwith torch.no_grad():\n    y = f(x)\ny", "`*` runs where PyTorch records no graph"),
    ("with torch.set_grad_enabled(True):\n    g, = torch.autograd.grad((x**3).sum(), x)\ng", "called without create_graph=True"),
])  # fmt: skip
def test_the_end_of_a_graph_is_told_with_its_cause(text, why):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    scope = {"x": x, "torch": torch}
    *before, last = ast.parse(text).body
    exec(compile(ast.Module(before, []), "", "exec"), scope)
    assert not eval(compile(ast.Expression(last.value), "", "eval"), scope).requires_grad  # so it is in PyTorch
    with pytest.raises(NotDifferentiableError) as caught:
        jvpcli.inspect(text, x=x.detach())
    assert why in str(caught.value.explanation)


def test_a_second_derivative_without_create_graph_is_told_so():
    text = "x = torch.tensor([1.,2.], requires_grad=True)\ng, = torch.autograd.grad((x**2).sum(), x)\n"
    with pytest.raises(RuntimeError, match="does not require grad"):
        exec(f"{text}torch.autograd.grad(g.sum(), x)", {"torch": torch})
    with pytest.raises(NotDifferentiableError) as caught:
        jvpcli.inspect(f"{text}torch.autograd.grad(g.sum(), x)")
    assert "`grad` was called without create_graph=True" in str(caught.value.explanation)
    assert "create_graph=True" in caught.value.hints[0]


def test_a_hessian_that_is_the_same_everywhere_has_the_derivative_zero_whichever_way_it_is_asked_for():
    text = "torch.autograd.functional.hessian(lambda x: (x * x).sum(), x, create_graph=True)"
    x = torch.tensor([1.0, 2.0])
    result = jvpcli.inspect(text, x=x)
    exact = torch.autograd.functional.jacobian(lambda x: 2 * torch.eye(2) + 0 * x, x)
    assert torch.equal(result.jacobian["y", "x"], exact)
    assert torch.equal(result.outputs["y"], eval(text, {"torch": torch, "x": x}))
