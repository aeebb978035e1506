"""Rows by passes: all at once by torch's own engine, and node by node where torch takes longer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import jvpcli
from jvpcli.jacobians.dense import by_rows, manner_of, rows_at_once
from jvpcli.jacobians.graph import pull_back, read_graph
from jvpcli.jacobians.through import is_flat

torch.manual_seed(0)
W, V = torch.randn(160, 130, dtype=torch.float64), torch.randn(7, 160, dtype=torch.float64)


def network(x: Tensor) -> Tensor:
    return V @ torch.relu(W @ x + 1)


def expected(x: Tensor) -> Tensor:
    rows: Tensor = torch.autograd.functional.jacobian(network, x)
    return rows


def test_rows_through_a_matrix_times_a_vector_are_one_product():
    x = torch.randn(130, dtype=torch.float64, requires_grad=True)
    graph = read_graph(network(x), [x])
    assert [name for node, name in zip(graph.order, graph.operations, strict=True) if is_flat(node)] == ["Mv", "Mv"]
    manner = manner_of(graph)
    assert manner.fused
    assert not manner.is_straight(7)
    torch.testing.assert_close(by_rows(graph)[0], expected(x.detach()))
    v = torch.randn(7, dtype=torch.float64)
    torch.testing.assert_close(pull_back(graph, v)[0], v @ expected(x.detach()))


def test_a_matrix_that_is_differentiated_too_goes_torchs_way():
    x = torch.randn(130, dtype=torch.float64, requires_grad=True)
    a = W.clone().requires_grad_()
    y = torch.tanh(a @ x)[:5]
    graph = read_graph(y, [a, x])
    assert not any(map(is_flat, graph.order))
    found = by_rows(graph)
    of_a, of_x = torch.autograd.functional.jacobian(lambda a, x: torch.tanh(a @ x)[:5], (W, x.detach()))
    torch.testing.assert_close(found[0], of_a.reshape(5, -1))
    torch.testing.assert_close(found[1], of_x)


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_rows_at_once_are_those_one_by_one(rows, dtype):
    x, w = torch.rand(9, dtype=dtype, requires_grad=True), torch.rand((), dtype=dtype, requires_grad=True)
    y = (x.exp() * w)[:rows].reshape(() if rows == 1 else (rows, 1))
    graph = read_graph(y, [x, w])
    assert manner_of(graph).is_straight(rows)
    alone = [torch.autograd.grad(part, [x, w], retain_graph=True) for part in y.reshape(-1)]
    for position, found in enumerate(rows_at_once(graph)):
        torch.testing.assert_close(found, torch.stack([each[position] for each in alone]).reshape(rows, -1))


LIGHTLY = {
    "arithmetic": lambda x: (x + 2) * x - 3 * x / (x + 4) + (1 - x),
    "broadcast": lambda x: x * x[:1] + x[:, :1] / (x[:, None] + 2)[:, 0],
    "functions": lambda x: x.exp().log1p() * x.sqrt() + x.sin() * x.cos().tan() - x.rsqrt() * x.reciprocal() + x.expm1().log(),
    "more functions": lambda x: x.atan() * x.sigmoid() + x.erf() - x.relu() * x.abs() + x**3 + x.pow(0.5) + x.neg(),
    "two at a time": lambda x: torch.addcmul(x, x, x, value=2) + torch.lerp(x, x * 2, 0.3) + torch.atan2(x, x + 1),
    "sums": lambda x: torch.cat([x.sum(0), x.sum(-1), x.mean(1), x.sum((0, 1)).reshape(1), x.sum(1, keepdim=True)[0]]),
    "largest": lambda x: torch.cat([x.amax(-1), x.amax(0, keepdim=True)[0], x.logsumexp(1), x.norm(dim=0)]),
    "products": lambda x: torch.cat([(x @ x.T).reshape(-1), torch.addmm(x[:, :2], x, x.T, alpha=2.0).reshape(-1)]),
    "batches": lambda x: torch.bmm(x.expand(2, 2, 3), x.T.expand(2, 3, 2)).clone(),
    "movement": lambda x: torch.cat([x.T.reshape(-1)[1:4], x.unsqueeze(1).expand(2, 2, 3).permute(2, 0, 1)[-1].reshape(-1)]),
    "parts": lambda x: torch.stack([x[0, -1], x[:, 1:].sum(), x.diagonal().sum(), x.split(1)[1][0, 0], x.unbind(1)[2][0]]),
    "to one number": lambda x: (x * x).sum().exp(),
    "views": lambda x: x.view(3, 2).squeeze(0).transpose(0, -1).contiguous().view(-1)[None],
}


@pytest.mark.parametrize("name", LIGHTLY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_light_operations_give_for_many_cotangents_what_they_give_for_each(name, dtype):
    x = torch.tensor([[0.3, 1.2, 0.7], [0.9, 0.4, 1.6]], dtype=dtype, requires_grad=True)
    y = LIGHTLY[name](x)
    graph = read_graph(y, [x])
    alone = torch.stack([torch.autograd.grad(part, x, retain_graph=True)[0].reshape(-1) for part in y.reshape(-1)])
    for light in (True, False):
        torch.testing.assert_close(rows_at_once(graph, light)[0], alone)
    assert manner_of(graph).light or graph.is_single


@pytest.mark.parametrize("function", [lambda x: x.sum() * x, lambda x: x / x.norm(), lambda x: x - x[0], lambda x: x.softmax(0)])
def test_a_number_that_is_broadcast_is_not_taken_lightly(function):
    x = torch.rand(6, requires_grad=True)  # more than go lightly in any case
    assert not manner_of(read_graph(function(x), [x])).light


def test_no_rows_are_not_taken_at_once():
    x = torch.rand(3, requires_grad=True)
    graph = read_graph(x[:0].exp(), [x])
    assert not manner_of(graph).is_straight(0)
    assert by_rows(graph)[0].shape == (0, 3)


def test_a_repeated_network_has_the_rows_of_its_point():
    for seed in range(5):
        x = torch.randn(130, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = jvpcli.jacobian("V @ torch.relu(W @ x + 1)", wrt="x", x=x, V=V, W=W)["y", "x"]
        torch.testing.assert_close(found.to_dense(), expected(x))


def test_a_custom_function_is_no_operation_whatever_it_is_called():
    def backward(ctx, g):
        return g.flip(0).cumsum(0).flip(0)

    x = torch.rand(9, requires_grad=True)
    for name in ("Sin", "SinBackward0"):
        methods = {"forward": staticmethod(lambda ctx, x: x.cumsum(0)), "backward": staticmethod(backward)}
        graph = read_graph(type(name, (torch.autograd.Function,), methods).apply(x).exp(), [x])
        assert graph.operations == ["Exp", ""]
        assert not graph.trusted
