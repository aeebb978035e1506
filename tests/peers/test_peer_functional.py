"""What PyTorch's tests of torch.autograd.functional ask: derivatives, products, strict, create_graph; in our words."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import functional

import jvpcli

X = torch.tensor([0.5, -1.5, 2.0, 0.75], dtype=torch.float64)
M = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(4, 4)
V = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)

pytestmark = pytest.mark.filterwarnings("ignore")

SINGLE = [
    (lambda x: x.exp().sum(1), (M,)),
    (lambda x: 4 * x.narrow(0, 0, 2), (X,)),
    (lambda x: x.sum(), (M,)),
    (lambda x: x.tanh(), (torch.tensor(0.5, dtype=torch.float64),)),
    (lambda x: x.unsqueeze(0).repeat(2, 1), (X,)),
    (lambda x, y: x * y + y.sum(), (X, V)),
    (lambda x, y: x + y * 3, (X, torch.tensor(2.0, dtype=torch.float64))),
]


@pytest.mark.parametrize(("function", "given"), SINGLE)
def test_jacobians(function, given):
    expected = functional.jacobian(function, given)
    for mode in ("auto", "forward", "reverse"):
        found = jvpcli.jacobian(function, *given, mode=mode)
        torch.testing.assert_close(tuple(each.to_dense() for each in found.values()), expected)


@pytest.mark.parametrize(("function", "given"), [*SINGLE, (lambda x, y: (x.exp() * y, y.sum()), (X, V))])
def test_products(function, given):
    """vjp and jvp of functional, against inspect and the maps."""
    y = function(*given)
    several = isinstance(y, tuple)
    v = tuple(torch.linspace(1, 2, each.numel(), dtype=torch.float64).reshape(each.shape) for each in (y if several else (y,)))
    u = tuple(torch.linspace(-1, 3, each.numel(), dtype=torch.float64).reshape(each.shape) for each in given)
    pulled = functional.vjp(function, given, v if several else v[0])[1]
    pushed = functional.jvp(function, given, u)[1]
    result = jvpcli.inspect(function, *given, grad_outputs=list(v), tangent=list(u))
    torch.testing.assert_close(tuple(result.vjp.values()), pulled)
    torch.testing.assert_close(tuple(result.jvp.values()), pushed if several else (pushed,))
    maps = jvpcli.jacobian(function, *given)
    for k, name in enumerate(result.vjp):
        totals = [maps[out, name].pullback(each) for out, each in zip(result.outputs, v, strict=True)]
        torch.testing.assert_close(sum(totals[1:], totals[0]), pulled[k])


SECOND = [
    (lambda x: (x**3).sum(), (X,)),
    (lambda x, y: ((x * y).sin() + x**2).sum(), (X, V)),
    (lambda x: (x @ x.T).sum(), (M,)),
    (lambda x, y: (x**2).sum() + y.sum(), (X, V)),
    (lambda x: x**4, (torch.tensor(0.5, dtype=torch.float64),)),
]


@pytest.mark.parametrize(("function", "given"), SECOND)
def test_hessians_are_jacobians_of_gradients(function, given):
    places = tuple(range(len(given)))
    expected = functional.hessian(function, given)
    maps = jvpcli.jacobian(torch.func.grad(function, argnums=places), *given)
    torch.testing.assert_close([each.to_dense() for each in maps.values()], [each for row in expected for each in row])
    u = tuple(torch.linspace(-1, 3, each.numel(), dtype=torch.float64).reshape(each.shape) for each in given)
    hvp, vhp = functional.hvp(function, given, u)[1], functional.vhp(function, given, u)[1]
    rows = list(maps.values())
    for k in places:
        row, column = rows[k * len(given) : (k + 1) * len(given)], rows[k :: len(given)]
        torch.testing.assert_close(sum(each.pushforward(part) for each, part in zip(row, u, strict=True)), hvp[k])
        torch.testing.assert_close(sum(each.pullback(part) for each, part in zip(column, u, strict=True)), vhp[k])


UNREACHED = [
    (lambda x: (x, x.detach()), "y1"),
    (lambda x: (x, torch.ones(3)), "y1"),
    (lambda x: (x, x.detach().clone() * 2), "y1"),
]


@pytest.mark.parametrize(("function", "name"), UNREACHED)
def test_strict(function, name):
    found = jvpcli.jacobian(function, X)
    expected = functional.jacobian(function, X)
    torch.testing.assert_close([each.to_dense() for each in found.values()], [each.double() for each in expected])
    for door in (jvpcli.jacobian, jvpcli.inspect):
        with pytest.raises(jvpcli.JvpError, match=f"no path from the output {name} to x"):
            door(function, X, strict=True)


def test_strict_of_inputs_and_of_the_second_derivative():
    """A linear function's gradient does not depend on the point: zeros, or refused."""
    for door in (jvpcli.jacobian, jvpcli.inspect):
        with pytest.raises(jvpcli.JvpError, match="no path from the output y to w"):
            door(lambda x, w: x**2, X, V, strict=True)
    assert not jvpcli.jacobian(lambda x, w: x**2, X, V)["y", "w"].to_dense().any()
    gradient = torch.func.grad(lambda x, w: (3 * x).sum() + (w**2).sum(), argnums=(0, 1))
    assert not functional.hessian(lambda x: (3 * x).sum(), X).any()
    maps = jvpcli.jacobian(gradient, X, V)
    torch.testing.assert_close(maps["y1", "w"].to_dense(), 2 * torch.eye(4, dtype=torch.float64))
    assert not any(each.to_dense().any() for key, each in maps.items() if key != ("y1", "w"))
    with pytest.raises(jvpcli.JvpError, match="no path from the output y0 to x, w"):
        jvpcli.jacobian(gradient, X, V, strict=True)


@pytest.mark.parametrize("door", ["jacobian", "inspect"])
def test_create_graph(door):
    """d/dx of ⟨J, J⟩ for J = diag(3x²) is 36x³; through the point that x was computed from too."""
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = (X * w).requires_grad_()
    if door == "jacobian":
        found = jvpcli.jacobian(lambda x: x**3, x, create_graph=True)["y", "x"].to_dense()
    else:
        found = jvpcli.inspect(lambda x: x**3, x, create_graph=True).jacobian["y", "x"]
    gradient, through = torch.autograd.grad((found**2).sum(), (x, w))
    torch.testing.assert_close(gradient, 36 * (X * 2) ** 3)
    torch.testing.assert_close(through, (36 * (X * 2) ** 3 * X).sum())
    constant = jvpcli.jacobian(lambda x: x**3, X)["y", "x"].to_dense()
    assert not constant.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_mode(mode):
    with mode():
        found = jvpcli.jacobian(lambda x: x.exp(), X)["y", "x"].to_dense()
    torch.testing.assert_close(found, X.exp().diag())
    assert X.grad is None


def test_errors():
    """A function that gives no tensor; a v or u of another shape, or too few."""
    for wrong in (lambda x: (2, 3.0), lambda x: "text", lambda x: 3.0):
        with pytest.raises(jvpcli.JvpError) as caught:
            jvpcli.jacobian(wrong, X)
        assert caught.value.code == "not_differentiable"
    for options in ({"grad_outputs": V[:2]}, {"tangent": V[:2]}, {"grad_outputs": V.reshape(2, 2)}):
        with pytest.raises(jvpcli.JvpError) as caught:
            jvpcli.inspect(lambda x: x.exp(), X, **options)
        assert caught.value.code == "shape_mismatch"
