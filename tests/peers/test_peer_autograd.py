"""What HIPS/autograd's tests ask: dicts, lists and tuples, several arguments, higher orders, products; in our words."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import jvpcli

A = torch.linspace(-1, 2, 5, dtype=torch.float64)
B = torch.linspace(0.5, 1.5, 20, dtype=torch.float64).reshape(5, 4)

pytestmark = pytest.mark.filterwarnings("ignore")


def gradient(function, *given, **options):
    return dict(jvpcli.inspect(function, *given, **options).vjp)


def test_dicts_lists_and_tuples():
    def sums(d):
        return d["item_1"].sin().sum() + d["nested"]["item"].exp().sum() + sum(part.prod() for part in d["list"])

    d = {"item_1": A, "nested": {"item": A * 2}, "list": [A + 3, (A + 4,)[0]], "unused": A}
    found = gradient(sums, d=d)
    expected = {
        'd["item_1"]': A.cos(), 'd["nested"]["item"]': (2 * A).exp(),
        'd["list"][0]': (A + 3).prod() / (A + 3), 'd["list"][1]': (A + 4).prod() / (A + 4), 'd["unused"]': 0 * A,
    }  # fmt: skip
    torch.testing.assert_close(found, expected)


def test_a_dict_made_on_the_way_iterated_and_looked_up():
    def function(d):
        made = dict(c=d["a"] * 2, **{key: value**2 for key, value in d.items()})
        return sum(made.values()) + d.get("z", 0)

    torch.testing.assert_close(gradient(function, d={"a": A, "b": A}), {'d["a"]': 2 + 2 * A, 'd["b"]': 2 * A})


def test_several_arguments():
    def function(a, b, c, d, e, f=1.1, g=9.0):
        return a + b.sin() + c.cosh() + d.cos() + e.tan() + f + g

    given = [torch.tensor(t, dtype=torch.float64) for t in (0.5, -0.3, 0.2, -1.1, 0.7)]
    found = gradient(function, *given, f=0.6, g=-0.1, wrt=[3, 1])
    torch.testing.assert_close(found, {"b": given[1].cos(), "d": -given[3].sin()})


def test_functions_with_values_filled_in():
    torch.testing.assert_close(gradient(functools.partial(lambda x, y: x * y, y=3), A), {"x": 3 + 0 * A})


def test_aux_beside_the_gradient():
    result = jvpcli.inspect(lambda x: ((x**2).sum(), {"seen": 3, "double": x * 2}), A, ignore="out[1]")
    torch.testing.assert_close(result.vjp["x"], 2 * A)


def test_rows_of_a_jacobian_are_gradients():
    scalars = [lambda x: (x**3).sum(), lambda x: (x.sin() + x.sin()).prod(), lambda x: x[1].exp() * x[0].tanh()]
    found = jvpcli.jacobian(lambda x: torch.stack([f(x) for f in scalars]), A)["y", "x"].to_dense()
    torch.testing.assert_close(found, torch.stack([torch.func.grad(f)(A) for f in scalars]))


def test_a_number_to_a_vector():
    x = torch.tensor(0.7, dtype=torch.float64)
    found = jvpcli.jacobian(lambda x: torch.stack([x, x**2, x**3]), x)["y", "x"]
    torch.testing.assert_close(found.to_dense(), torch.stack([x**0, 2 * x, 3 * x**2]))


def test_higher_orders():
    """The third derivative of sin is −cos; shapes grow by the input's."""
    function = torch.sin
    for _ in range(2):
        function = torch.func.jacrev(function)
    point = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(jvpcli.jacobian(function, point)["y", "x"].to_dense(), -point.cos())

    def outer(x):
        return torch.outer(x, x).sin() + (x @ x).cos()

    found = jvpcli.jacobian(torch.func.jacrev(outer), A[:2])["y", "x"]
    assert found.out_shape + found.in_shape == (2, 2, 2, 2)
    expected = torch.autograd.functional.jacobian(
        lambda x: torch.autograd.functional.jacobian(outer, x, create_graph=True), A[:2]
    )
    torch.testing.assert_close(found.to_dense(), expected)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 2, 2)])
def test_products_with_a_hessian_and_with_an_asymmetric_jacobian(shape):
    a = torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    v = a.flip(0) + 1
    (hessian,) = jvpcli.jacobian(torch.func.grad(lambda a: a.sin().sum()), a).values()
    torch.testing.assert_close(hessian.pushforward(v), -a.sin() * v)
    rolled = jvpcli.jacobian(lambda a: torch.roll(a.sin(), 1), a)["y", "a"]
    torch.testing.assert_close(rolled.pullback(v), torch.roll(v, -1) * a.cos())
    torch.testing.assert_close(rolled.pushforward(v), torch.roll(v * a.cos(), 1))


def test_a_gauss_newton_product():
    """JᵀHJ u for a loss of a vector."""

    def model(x):
        return torch.stack([x.prod(), (x**2).sum(), x[0].exp()])

    def loss(y):
        return (y**2).sum() + y[0] * y[1]

    J = jvpcli.jacobian(model, A)["y", "x"]
    (H,) = jvpcli.jacobian(torch.func.grad(loss), model(A)).values()
    j, h = torch.autograd.functional.jacobian(model, A), torch.autograd.functional.hessian(loss, model(A))
    u = A.flip(0)
    torch.testing.assert_close(J.pullback(H.pushforward(J.pushforward(u))), j.T @ h @ j @ u)


FANS = [
    (lambda x: x + x * x + x, 2 + 2 * A),
    (lambda x: x * 0 + 3 * x.detach() + x, 1 + 0 * A),
    (lambda x: torch.cat([x, x]) * 2, 4 + 0 * A),
    (lambda x: x[[0, 0, 4]], torch.tensor([2.0, 0, 0, 0, 1])),
    (lambda x: x[1:] * x[:-1], None),
    (lambda x: x.reshape(5, 1) * B, B.sum(1)),
    (lambda x: x.clamp(-0.5, 1.0), ((A > -0.5) & (A < 1)).double()),
    (lambda x: torch.where(x > 0, x, -x), A.sign()),
    (lambda x: x.sort(descending=True)[0] * torch.arange(5), None),
    (lambda x: torch.stack([x.max(), x.min()]), torch.tensor([1.0, 0, 0, 0, 1])),
    (lambda x: x.std(unbiased=False), None),
    (lambda x: torch.diag(x).triu() @ B, None),
    (lambda x: torch.fft.ifft(torch.fft.fft(x)).real, 1 + 0 * A),
    (lambda x: torch.logsumexp(x, 0), A.softmax(0)),
]


@pytest.mark.parametrize(("function", "expected"), FANS)
def test_what_is_used_often_indexed_or_chosen(function, expected):
    expected = torch.autograd.functional.vjp(function, A, torch.ones_like(function(A)))[1] if expected is None else expected
    torch.testing.assert_close(gradient(function, A)["x"], expected.double())
    assert jvpcli.check(function, A).verdict in ("pass", "graph_break")


def test_complex_numbers():
    """Separate real and imaginary parts, and their gradient in PyTorch's convention."""
    z = torch.complex(A, A.flip(0))
    found = gradient(lambda z: (z.real.sin() + z.imag**2).sum(), z)["z"]
    torch.testing.assert_close(found, torch.complex(z.real.cos(), 2 * z.imag))
    torch.testing.assert_close(gradient(lambda z: z.abs(), z)["z"], z / z.abs())


def test_arrays():
    found = gradient(lambda a, b: a @ b, np.linspace(-1, 2, 5), np.ones((5, 2), dtype=np.float64))
    assert found["a"].tolist() == [2.0] * 5
    assert found["a"].dtype is torch.float64


def test_an_enclosing_scope():
    """The inner derivative is at a point that the outer one moves."""

    def outer(x):
        inner = jvpcli.inspect(lambda y: (x * y).sin(), x**2, create_graph=True)
        return inner.vjp["y"]

    x = torch.tensor(0.6, dtype=torch.float64)
    expected = torch.func.grad(lambda x: x * (x**3).cos())(x)
    torch.testing.assert_close(gradient(outer, x)["x"], expected)
