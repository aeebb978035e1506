"""What PyTorch's tests of autograd and gradcheck ask of users' own code; in our words."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

import jvpcli

X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
V = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

pytestmark = pytest.mark.filterwarnings("ignore")


class Cubed(Function):
    """x³, with whatever factor its backward has; its jvp too."""

    factor = 3.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**3

    @classmethod
    def derivative(cls, ctx, t):
        (x,) = ctx.saved_tensors
        return cls.factor * x**2 * t

    @staticmethod
    def backward(ctx, g):
        return Cubed.derivative(ctx, g)

    @staticmethod
    def jvp(ctx, u):
        return Cubed.derivative(ctx, u)


class WrongBackward(Cubed):
    """Its backward is off by a factor."""

    @staticmethod
    def backward(ctx, g):
        return 2 * Cubed.derivative(ctx, g)


class WrongForward(Cubed):
    """Its jvp is off by a factor."""

    @staticmethod
    def jvp(ctx, u):
        return 2 * Cubed.derivative(ctx, u)


class ForwardOnly(Cubed):
    """It has no backward."""

    backward = staticmethod(Function.backward)


class Once(Cubed):
    """Its backward cannot be differentiated."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return Cubed.derivative(ctx, g)

    jvp = staticmethod(Function.jvp)


class Jittered(Cubed):
    """Its backward is another each time."""

    calls = 0

    @staticmethod
    def backward(ctx, g):
        Jittered.calls += 1
        return Cubed.derivative(ctx, g) * (1 + 0.01 * Jittered.calls)

    jvp = staticmethod(Function.jvp)


VERDICTS = [
    (Cubed.apply, "pass"),
    (Once.apply, "pass"),
    (WrongBackward.apply, "wrong_backward"),
    (WrongForward.apply, "wrong_backward"),
    (Jittered.apply, "nondeterministic"),
    (lambda x: x.sin() * x, "pass"),
    (lambda x: x.detach() * x, "graph_break"),
    (lambda x: x.abs() if float(x[0]) > 0 else -x, "pass"),
    (lambda x: x * torch.rand(3), "nondeterministic"),
    (lambda x: (x, x.argsort()), "pass"),
    (lambda x: (x + 0.25).floor(), "pass"),
    (lambda x: torch.nn.functional.gelu(-4 * x.abs()), "pass"),
]


@pytest.mark.parametrize(("function", "verdict"), VERDICTS)
def test_verdicts(function, verdict):
    assert jvpcli.check(function, X).verdict == verdict


@pytest.mark.parametrize("kind", [Cubed, Once, WrongForward])
def test_a_function_of_ones_own_is_followed_by_its_backward(kind):
    for door in (lambda f: jvpcli.jacobian(f, X)["y", "x"].to_dense(), lambda f: jvpcli.inspect(f, X).jacobian["y", "x"]):
        torch.testing.assert_close(door(lambda x: kind.apply(x)), (3 * X**2).diag())


def test_what_has_no_backward():
    with pytest.raises(jvpcli.JvpError, match="no backward"):
        jvpcli.inspect(ForwardOnly.apply, X)
    (found,) = jvpcli.jacobian(ForwardOnly.apply, X, mode="forward").values()
    torch.testing.assert_close(found.to_dense(), (3 * X**2).diag())
    assert jvpcli.check(ForwardOnly.apply, X).passed


def decorated(function):
    """As users' decorators do."""

    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


def weighted(a, b, *, scale=1.0):
    return (a * b**2).sum() * scale


@pytest.mark.parametrize(
    "function",
    [decorated(weighted), functools.partial(weighted, scale=2.0), torch.func.grad(weighted), torch.vmap(lambda a, b: a * b**2)],
)
def test_functions_that_wrap_others(function):
    expected = torch.autograd.functional.jacobian(function, (X, V))
    for given, options in (((X, V), {}), ((), {"inputs": {"p": X, "q": V}}), ((), {"inputs": {"a": X, "b": V}})):
        maps = jvpcli.jacobian(function, *given, **options)
        torch.testing.assert_close([each.to_dense() for each in maps.values()], list(expected))


def test_checkpoints():
    """A reentrant one works in none but backward(): every door says so; the other kind is like the function itself."""

    def inner(x):
        return (x**3).sin()

    again = lambda x: checkpoint(inner, x, use_reentrant=False)  # noqa: E731
    expected = torch.autograd.functional.jacobian(inner, X)
    torch.testing.assert_close(jvpcli.jacobian(again, X)["y", "x"].to_dense(), expected)
    for door in (jvpcli.jacobian, jvpcli.inspect):
        with pytest.raises(jvpcli.JvpError, match=r"checkpoint|\.backward\(\)"):
            door(lambda x: checkpoint(inner, x, use_reentrant=True), X)


def test_sparse_gradients_and_results():
    table, ids = torch.arange(8.0, dtype=torch.float64).reshape(4, 2), torch.tensor([1, 3, 1])

    def looked_up(table, sparse):
        return torch.nn.functional.embedding(ids, table, sparse=sparse)

    found = jvpcli.inspect(looked_up, table, True)
    assert found.vjp["table"].tolist() == [[0, 0], [2, 2], [0, 0], [1, 1]]
    for sparse in (True, False):
        maps = jvpcli.jacobian(looked_up, table, sparse)
        torch.testing.assert_close(
            maps["y", "table"].to_dense(), torch.autograd.functional.jacobian(lambda t: looked_up(t, False), table)
        )
    spread = jvpcli.jacobian(lambda x: (x**2).to_sparse(), X)["y", "x"]
    torch.testing.assert_close(spread.to_dense(), (2 * X).diag())


def test_hooks_change_the_gradient_as_in_the_pass_itself():
    def hooked(x):
        y = x.exp()
        y.register_hook(lambda g: 2 * g)
        return y + x

    expected = (2 * X.exp() + 1).diag()
    torch.testing.assert_close(jvpcli.jacobian(hooked, X)["y", "x"].to_dense(), expected)
    torch.testing.assert_close(jvpcli.inspect(hooked, X).jacobian["y", "x"], expected)


@pytest.mark.parametrize("form", [list, tuple, lambda v: dict(zip(("y0", "y1"), v, strict=True))])
def test_cotangents_of_several_outputs(form):
    found = jvpcli.inspect(lambda x: (x.sum(), (x**2).sum()), X, grad_outputs=form([1.0, 2.0]))
    torch.testing.assert_close(found.vjp["x"], 1 + 4 * X)
    with pytest.raises(jvpcli.JvpError, match="for 1 of the 2 outputs"):
        jvpcli.inspect(lambda x: (x.sum(), (x**2).sum()), X, grad_outputs=[torch.tensor(1.0)])


def test_the_last_run_is_at_the_point():
    """What a function keeps, as hooks of a net's layers do, is of the point."""
    kept = []
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    net[0].register_forward_hook(lambda module, given, y: kept.append(y.detach()))
    expected = net[0](X).detach()
    for door in (jvpcli.inspect, jvpcli.jacobian, jvpcli.check):
        kept.clear()
        door(net, X)
        torch.testing.assert_close(kept[-1], expected)


def test_a_convolutional_net_by_its_parameters():
    """Against autograd's own rows; a map for every parameter."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU()
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64, 5)).double()
    params, data = dict(net.named_parameters()), torch.randn(2, 3, 8, 8, dtype=torch.float64)

    def outputs(params):
        return torch.func.functional_call(net, params, (data,))

    maps = jvpcli.jacobian(outputs, params=params)
    expected = torch.autograd.functional.jacobian(lambda *p: outputs(dict(zip(params, p, strict=True))), tuple(params.values()))
    torch.testing.assert_close([each.to_dense() for each in maps.values()], list(expected))
