"""What curvlinops' tests ask: Jacobians, Hessians, GGN and Fisher matrices of nets as linear operators; in our words."""

from __future__ import annotations

from collections import UserDict

import pytest
import torch
from torch import nn

import jvpcli

pytestmark = pytest.mark.filterwarnings("ignore")


def nets():
    torch.manual_seed(0)
    return {
        "linear": (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)),
        "relu": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)),
        "convolution": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 2)), torch.randn(3, 1, 4, 4)),
        "pooling": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2)), torch.randn(3, 1, 5, 5)),
        "norm": (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3).eval(), nn.Linear(3, 2)), torch.randn(5, 4)),
        "frozen": (nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)),
    }


NETS = {name: (net.double(), data.double()) for name, (net, data) in nets().items()}


def flat(function, params):
    """A function of a dict of parameters as one of their vector."""
    sizes, shapes = [p.numel() for p in params.values()], [p.shape for p in params.values()]

    def of_vector(vector):
        parts = [part.reshape(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
        return function(dict(zip(params, parts, strict=True)))

    return of_vector, torch.cat([p.detach().reshape(-1) for p in params.values()])


def joined(maps):
    """The maps to all parameters of one output as a matrix (m, n)."""
    return torch.cat([each.to_dense().reshape(each.m, each.n) for each in maps.values()], 1)


@pytest.mark.parametrize("name", NETS)
def test_the_jacobian_and_its_transpose(name):
    net, data = NETS[name]
    params = {key: p for key, p in net.named_parameters() if p.requires_grad}

    def outputs(params):
        return torch.func.functional_call(net, params, (data,))

    maps = jvpcli.jacobian(outputs, params=params)
    function, vector = flat(outputs, params)
    expected = torch.autograd.functional.jacobian(function, vector).reshape(-1, vector.numel())
    torch.testing.assert_close(joined(maps), expected)
    for columns in (1, 3):
        u = torch.linspace(-1, 1, vector.numel() * columns, dtype=torch.float64).reshape(columns, -1)
        parts = u.split([p.numel() for p in params.values()], 1)
        pushed = sum(
            torch.vmap(each.pushforward)(part.reshape(columns, *each.in_shape))
            for each, part in zip(maps.values(), parts, strict=True)
        )
        torch.testing.assert_close(pushed.reshape(columns, -1).T, expected @ u.T)
        v = torch.linspace(-1, 1, expected.shape[0] * columns, dtype=torch.float64).reshape(columns, -1)
        pulled = [torch.vmap(each.pullback)(v.reshape(columns, *each.out_shape)).flatten(1) for each in maps.values()]
        torch.testing.assert_close(torch.cat(pulled, 1), v @ expected)


@pytest.mark.parametrize("name", ["linear", "convolution"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_hessian_and_the_gauss_newton_matrix(name, reduction):
    net, data = NETS[name]
    params = dict(net.named_parameters())
    targets = torch.arange(len(data)) % 2

    def outputs(params):
        return torch.func.functional_call(net, params, (data,))

    def loss_of(scores):
        return nn.functional.cross_entropy(scores, targets, reduction=reduction)

    function, vector = flat(lambda params: loss_of(outputs(params)), params)
    hessian = jvpcli.jacobian(torch.func.grad(lambda params: loss_of(outputs(params))), params=params)
    width = len(params)
    rows = [joined(dict(list(hessian.items())[k : k + width])) for k in range(0, width**2, width)]
    torch.testing.assert_close(torch.cat(rows), torch.autograd.functional.hessian(function, vector), rtol=1e-6, atol=1e-10)

    J = jvpcli.jacobian(outputs, params=params)
    scores = outputs(params).detach()
    (H,) = jvpcli.jacobian(torch.func.grad(loss_of), scores).values()
    out, _ = flat(outputs, params)
    j = torch.autograd.functional.jacobian(out, vector).reshape(scores.numel(), -1)
    h = torch.autograd.functional.hessian(loss_of, scores).reshape(scores.numel(), -1)
    torch.testing.assert_close(joined(J).T @ H.to_dense().reshape(scores.numel(), -1) @ joined(J), j.T @ h @ j)


def test_the_empirical_fisher_is_made_of_gradients_of_samples():
    net, data = NETS["linear"]
    params, targets = dict(net.named_parameters()), torch.tensor([0, 1, 1, 0, 1])

    def losses(params):
        scores = torch.func.functional_call(net, params, (data,))
        return nn.functional.cross_entropy(scores, targets, reduction="none")

    rows = joined(jvpcli.jacobian(losses, params=params))
    function, vector = flat(losses, params)
    expected = torch.stack([torch.func.grad(lambda p, k=k: function(p)[k])(vector) for k in range(5)])
    torch.testing.assert_close(rows.T @ rows / 5, expected.T @ expected / 5)


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_data_in_a_dict(kind):
    """A model that takes a mapping: its data are inputs too, the targets stay whole numbers."""
    net, data = NETS["relu"]

    def loss(params, batch):
        scores = torch.func.functional_call(net, params, (batch["x"],))
        return nn.functional.cross_entropy(scores, batch["y"])

    batch = kind({"x": data, "y": torch.tensor([0, 1, 0, 1, 0])})
    params = dict(net.named_parameters())
    result = jvpcli.inspect(loss, params, batch)
    assert list(result.vjp) == [*[f'params["{key}"]' for key in params], 'batch["x"]']
    leaf = data.clone().requires_grad_()
    expected = torch.autograd.grad(loss(params, {"x": leaf, "y": batch["y"]}), [*params.values(), leaf])
    torch.testing.assert_close(list(result.vjp.values()), list(expected))


def test_wrong_operands_are_refused():
    each = jvpcli.jacobian(lambda x: x.reshape(2, 3).sin(), torch.ones(6, dtype=torch.float64))["y", "x"]
    for product, wrong in ((each.pullback, torch.ones(3, 2)), (each.pushforward, torch.ones(5)), (each.pushforward, [1.0] * 6)):
        with pytest.raises(jvpcli.JvpError):
            product(wrong)


def test_what_does_not_repeat_is_found():
    dropping = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double()
    assert jvpcli.check(dropping, NETS["linear"][1]).verdict == "nondeterministic"
    assert jvpcli.check(dropping.eval(), NETS["linear"][1]).verdict == "pass"


def test_modules_with_writes_in_place():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2), nn.Sigmoid()).double()
    data = NETS["linear"][1]
    (found,) = jvpcli.jacobian(net, data).values()
    torch.testing.assert_close(found.to_dense(), torch.autograd.functional.jacobian(net, data))
