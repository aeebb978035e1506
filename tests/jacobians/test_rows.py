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
