"""Functions of the user's own: how they are called, and what they differentiate themselves."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.utils.checkpoint

import jvpcli
from jvpcli.answers.inspect import inspect
from jvpcli.request import Request

X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
W = torch.tensor([3.0, 0.25, -1.0], dtype=torch.float64)


def twice(function):
    """A decorator as users write it: what it gets by position it hands on so."""

    @functools.wraps(function)
    def wrapped(*args):
        return 2 * function(*args)

    return wrapped


def power(a, b):
    """Not the same for a and b."""
    return a**2 * b


def scaled(a, eps=10.0, b=None):
    """A default stands between its inputs."""
    return a * eps if b is None else a * eps * b**2


def by_keyword(a, *, b):
    """An input that only has a name."""
    return a**2 * b


def by_position(a, b, /):
    """Inputs that have no names for a caller."""
    return a**2 * b


class Scale(torch.nn.Module):
    """A module: its parameters are those of its `forward`."""

    def forward(self, a, b):
        return a**2 * b


CALLED = [
    (power, ("a", "b"), "x**2 * w"),
    (power, ("b", "a"), "w**2 * x"),  # the function's own names stand for its own parameters
    (power, ("x", "w"), "x**2 * w"),
    (power, ("w", "x"), "x**2 * w"),  # by other names: in the order of the inputs, whatever they are called
    (power, ("a", "x"), "x**2 * w"),
    (twice(power), ("a", "b"), "2 * x**2 * w"),
    (twice(power), ("b", "a"), "2 * w**2 * x"),
    (twice(power), ("p", "q"), "2 * x**2 * w"),
    (scaled, ("a", "b"), "x * 10 * w**2"),
    (scaled, ("b", "a"), "w * 10 * x**2"),
    (scaled, ("x", "w"), "x * w"),
    (by_keyword, ("a", "b"), "x**2 * w"),
    (by_keyword, ("b", "a"), "w**2 * x"),
    (by_keyword, ("x", "b"), "x**2 * w"),
    (by_position, ("a", "b"), "x**2 * w"),
    (by_position, ("p", "q"), "x**2 * w"),
    (functools.partial(power, W), ("b",), "w**2 * x"),
    (functools.partial(power, b=W), ("a",), "x**2 * w"),
    (torch.mul, ("x", "w"), "x * w"),
    (Scale(), ("b", "a"), "w**2 * x"),
    (twice(twice(Scale())), ("b", "a"), "4 * w**2 * x"),
    (lambda *args: args[0] ** 2 * args[1], ("p", "q"), "x**2 * w"),
    (torch.func.grad(lambda x: (x**3).sum()), ("x",), "3 * x**2"),
    (torch.func.grad(lambda x: (x**3).sum()), ("anything",), "3 * x**2"),
    (torch.vmap(power), ("a", "b"), "x**2 * w"),
    (torch.func.jacrev(lambda x: x**3), ("x",), "torch.diag(3 * x**2)"),
    (torch.no_grad()(lambda x: x) and torch.func.functionalize(power), ("a", "b"), "x**2 * w"),
]


@pytest.mark.parametrize(("function", "names", "formula"), CALLED)
@pytest.mark.filterwarnings("ignore")
def test_one_way_to_call_a_function_at_every_door(function, names, formula):
    given = dict(zip(names, (X, W), strict=False))

    def expected(*values):
        return eval(formula, {"torch": torch, "x": values[0], "w": values[-1] if len(values) > 1 else W})

    values = tuple(given.values())
    result = jvpcli.inspect(function, given)
    torch.testing.assert_close(result.outputs["y"], expected(*values))
    jacobians = torch.autograd.functional.jacobian(expected, values)
    maps = jvpcli.jacobian(function, given)
    for name, jacobian in zip(given, jacobians, strict=True):
        torch.testing.assert_close(result.jacobian["y", name], jacobian)
        torch.testing.assert_close(maps["y", name].to_dense(), jacobian)
    assert jvpcli.check(function, given).verdict == "pass"


class Square(torch.autograd.Function):
    """With a forward mode of its own."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)
        return a**2 * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return 2 * a * b * g, a**2 * g

    @staticmethod
    def jvp(ctx, u, w):
        a, b = ctx.saved_tensors
        return 2 * a * b * u + a**2 * w


@pytest.mark.parametrize("names", [("a", "b"), ("x", "w"), ("first", "second")])
def test_a_function_with_its_own_jvp_is_checked_whatever_its_inputs_are_called(names):
    assert jvpcli.check(Square.apply, dict(zip(names, (X, W), strict=True))).verdict == "pass"


# What own code differentiates itself


def residual(z, t):
    """Of a partial differential equation: u_t + u_z² for u = sin(z) exp(-t)."""
    u = torch.sin(z) * torch.exp(-t)
    (u_z,) = torch.autograd.grad(u.sum(), z, create_graph=True)
    (u_t,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    return u_t + u_z**2


def closed(z, t):
    """The same in closed form."""
    return -torch.sin(z) * torch.exp(-t) + (torch.cos(z) * torch.exp(-t)) ** 2


@pytest.mark.parametrize("wrt", ["z", "t"])
@pytest.mark.parametrize("given", [lambda x: x, lambda x: x.tolist(), lambda x: x.clone().requires_grad_()])
def test_an_input_that_own_code_differentiates_is_only_not_reported(wrt, given):
    inputs = {"z": given(X), "t": given(W)}
    expected = dict(zip("zt", torch.autograd.functional.jacobian(closed, (X, W)), strict=True))[wrt]
    result = jvpcli.inspect(residual, inputs, wrt=wrt, dtype="float64")
    torch.testing.assert_close(result.jacobian["y", wrt], expected)
    assert list(result.vjp) == [wrt]
    assert {name: x.differentiated for name, x in result.report.inputs.items()} == {name: name == wrt for name in "zt"}
    maps = jvpcli.jacobian(residual, inputs, wrt=wrt, dtype="float64")
    torch.testing.assert_close(maps["y", wrt].to_dense(), expected)
    assert list(maps) == [("y", wrt)]
    assert jvpcli.check(residual, inputs, wrt=wrt, dtype="float64").passed


@pytest.mark.parametrize("wrt", ["z", "t"])
def test_imported_code_too(tmp_path, wrt):
    file = tmp_path / "pde.py"
    file.write_text(
        "import torch\ndef residual(z, t):\n    u = torch.sin(z) * torch.exp(-t)\n"
        "    u_z, u_t = torch.autograd.grad(u.sum(), (z, t), create_graph=True)\n    return u_t + u_z**2\n"
    )
    report = inspect(Request("residual(z, t)", {"z": X, "t": W}, wrt=(wrt,), imports=(str(file),)))
    expected = dict(zip("zt", torch.autograd.functional.jacobian(closed, (X, W)), strict=True))[wrt]
    torch.testing.assert_close(torch.as_tensor(report.jacobian["y"][wrt].value), expected)


def test_what_only_the_other_input_reaches_is_still_refused():
    def of_t(z, t):
        return torch.autograd.grad((t**3).sum(), t, create_graph=True)[0] + z.detach()

    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect(of_t, z=X, t=W, wrt="z")
    assert caught.value.code == "not_differentiable"


def test_a_failure_that_has_another_cause_is_told_as_it_was():
    def fails(z, t):
        raise ValueError(f"requires grad: {z.requires_grad} and {t.requires_grad}")

    with pytest.raises(ValueError, match="True and False"):
        jvpcli.inspect(fails, z=X, t=W, wrt="z")


# What only torch's whole backward pass knows


class Broken(torch.autograd.Function):
    """Its backward gives what `gives` makes of the gradient that arrives."""

    @staticmethod
    def forward(ctx, gives, *arguments):
        ctx.gives = gives
        return sum(arguments[1:], 2 * arguments[0])

    @staticmethod
    def backward(ctx, g):
        return ctx.gives(g)


def reentrant(x):
    return torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=True) * 2


REFUSED = {
    "one gradient of two": (lambda a, b: Broken.apply(lambda g: (None, g), a, b), 2),
    "two gradients of one": (lambda a: Broken.apply(lambda g: (None, g, g), a), 1),
    "another shape": (lambda a: Broken.apply(lambda g: (None, torch.ones(5)), a), 1),
    "fewer entries": (lambda a: Broken.apply(lambda g: (None, g[:1]), a), 1),
    "a number": (lambda a: Broken.apply(lambda g: (None, 3.0), a), 1),
    "an error": (lambda a: Broken.apply(lambda g: 1 / 0, a), 1),
    "a reentrant checkpoint": (reentrant, 1),
    "one inside": (lambda a: torch.stack([reentrant(a), a**2]), 1),
    "one of many entries": (lambda a: reentrant(a.repeat(40)), 1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_every_door_refuses_what_torch_raises(name, mode):
    function, count = REFUSED[name]
    inputs = dict(zip("ab"[:count], (X, W), strict=False))
    leaves = [x.clone().requires_grad_() for x in inputs.values()]
    with pytest.raises((RuntimeError, ZeroDivisionError)) as theirs:
        torch.autograd.grad(function(*leaves).sum(), leaves)
    told = []
    for door, options in ((jvpcli.jacobian, {"mode": mode}), (jvpcli.inspect, {"mode": mode}), (jvpcli.check, {})):
        with pytest.raises((jvpcli.JvpError, ZeroDivisionError)) as ours:
            door(function, inputs, **options)
        told.append(ours.value)
    if isinstance(theirs.value, ZeroDivisionError):  # their own code's exception is what they get
        assert {type(error) for error in told} == {ZeroDivisionError}
        return
    assert len({(error.code, error.message, error.torch_message) for error in told}) == 1
    assert told[0].code == "evaluation"
    assert str(theirs.value).splitlines()[0] in (told[0].torch_message or told[0].message)


def test_checkpoints_that_are_not_reentrant_are_answered():
    def function(x):
        return torch.utils.checkpoint.checkpoint(torch.sin, x, use_reentrant=False) * 2

    torch.testing.assert_close(jvpcli.jacobian(function, x=X)["y", "x"].to_dense(), torch.diag(2 * X.cos()))
