"""What asdex's tests ask: patterns of sparse Jacobians and Hessians, trees, positions, one call; in our words."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

import jvpcli

Params = namedtuple("Params", ["w", "b"])
pytestmark = pytest.mark.filterwarnings("ignore")


def vector(n: int) -> torch.Tensor:
    return torch.linspace(0.5, 2.0, n, dtype=torch.float64)


def brusselator(x):
    """A ring of cells with two substances: each depends on its neighbours."""
    u, v = x.reshape(2, -1)
    spread = torch.roll(u, 1) - 2 * u + torch.roll(u, -1)
    return torch.cat([1 + u**2 * v - 4.4 * u + spread, 3.4 * u - u**2 * v])


PATTERNS = [
    (lambda x: x**2, 4, "diagonal", 4),
    (lambda x: torch.stack([x[0], x[0] + x[1], x[:3].sum()]), 3, "triangular", 6),
    (lambda x: torch.stack([x.sum(), x[1:].sum(), x[2]]), 3, "triangular", 6),
    (lambda x: torch.stack([x[0] ** 2, 2 * x[0] * x[1] ** 2, x[2].sin()]), 3, "banded", 4),
    (lambda x: (x[1:] - x[:-1]) ** 2, 6, "banded", 10),
    (lambda x: torch.stack([x[0] + x[1], x[0] * x[1], x[2] + x[3], x[2] * x[3]]), 4, "block_diagonal", 8),
    (lambda x: torch.stack([x[:2].sum(), x[2:].sum()]), 5, "sparse", 5),
    (lambda x: torch.stack([x[0], x[1], x[0] + x[1], x[0] * x[1], x[0] - x[1]]), 2, "sparse", 8),
    (lambda x: x.sum() * vector(3), 4, "dense", 12),
    (brusselator, 12, "sparse", 6 * 4 + 6 * 2),
    (lambda x: torch.nn.functional.conv1d(x[None, None], vector(3)[None, None])[0, 0], 9, "banded", 21),
    (lambda x: x.flip(0).cumsum(0), 4, "sparse", 10),
    (lambda x: torch.cat([x[2:], x[:2]]), 5, "selection", 5),
    (lambda x: torch.where(x > 1, x**2, 3 * x), 5, "diagonal", 5),
]


@pytest.mark.parametrize(("function", "n", "structure", "nnz"), PATTERNS)
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_patterns(function, n, structure, nnz, mode):
    found = jvpcli.jacobian(function, vector(n), mode=mode)["y", "x"]
    expected = torch.autograd.functional.jacobian(function, vector(n))
    torch.testing.assert_close(found.to_dense(), expected)
    assert (found.nnz, int(torch.count_nonzero(expected))) == (nnz, nnz)
    assert found.structure in {structure, "sparse" if structure == "banded" else structure}
    torch.testing.assert_close(torch.from_numpy(found.to_scipy().toarray()), expected.reshape(found.m, found.n))


@pytest.mark.parametrize("n", [10, 300])
def test_a_large_pattern_is_that_of_a_small_one(n):
    found = jvpcli.jacobian(lambda x: (x[1:] - x[:-1]) ** 2, vector(n))["y", "x"]
    assert found.nnz == 2 * (n - 1)
    v = vector(n - 1)
    torch.testing.assert_close(found.pullback(v), torch.autograd.functional.vjp(lambda x: (x[1:] - x[:-1]) ** 2, vector(n), v)[1])


HESSIANS = [
    (lambda x: (x**2).sum(), 3, 3),
    (lambda x: ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum(), 6, 16),
    (lambda x: (x[:-1] * x[1:]).sum() + (x**3).sum(), 8, 22),
    (lambda x: x[0] ** 3, 1, 1),
    (lambda x: x[0] * x[1:].pow(2).sum(), 4, 9),
]


@pytest.mark.parametrize(("function", "n", "nnz"), HESSIANS)
def test_hessians(function, n, nnz):
    found = jvpcli.jacobian(torch.func.grad(function), vector(n))["y", "x"]
    expected = torch.autograd.functional.hessian(function, vector(n))
    torch.testing.assert_close(found.to_dense(), expected)
    assert found.nnz == int(torch.count_nonzero(expected)) == nnz


TREES = [
    (lambda p: p["a"]["w"] @ p["b"]["w"].T, {"a": {"w": vector(4).reshape(2, 2)}, "b": {"w": vector(4).reshape(2, 2)}}),
    (lambda p: {"stats": {"mean": p.mean(), "sum": p.sum()}, "scaled": p * 2}, vector(3)),
    (lambda p: p[0] + p[1] * 2 + p[2] * 3, [vector(2), vector(2), vector(2)]),
    (lambda p: [p[0] + p[1], p[0] * p[1]], [vector(2), vector(2)]),
    (lambda p: ((p[:2], p[1:]), (p * 2,)), vector(3)),
    (lambda p: ({"a": p[:2]}, {"b": p[1:], "c": p * 2}), vector(3)),
    (lambda p: p["layer"][0] @ vector(2) + p["layer"][1], {"layer": (vector(6).reshape(3, 2), vector(3))}),
    (lambda p: ({"a": p[:2]}, (p[1:],), [p * 2]), vector(3)),
    (lambda p: p.w @ vector(2) + p.b, Params(vector(6).reshape(3, 2), vector(3))),
    (lambda p: p["a"] * p["scale"] + p["offset"], {"a": vector(2), "scale": vector(1)[0], "offset": vector(1)[0]}),
]


def leaves(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]


@pytest.mark.parametrize(("function", "tree"), TREES)
def test_trees(function, tree):
    """Every pair against autograd's own rows."""
    maps = jvpcli.jacobian(function, inputs={"p": tree})
    inputs = [leaf.requires_grad_() for leaf in leaves(tree)]
    outputs = leaves(function(tree))
    assert len(maps) == len(inputs) * len(outputs)
    rest = iter(maps.values())
    for y in outputs:
        rows = [torch.autograd.grad(e, inputs, retain_graph=True, materialize_grads=True) for e in y.reshape(-1).unbind()]
        for k, each in zip(range(len(inputs)), rest, strict=False):
            torch.testing.assert_close(each.to_dense().reshape(each.m, each.n), torch.stack([row[k].reshape(-1) for row in rows]))


def test_one_call_and_keyword_arguments():
    calls = []

    def function(x, factor, *, shift=0.0, power=1):
        calls.append((factor, power))
        return factor * (x + shift) ** power

    found = jvpcli.jacobian(function, vector(3), 2, power=3)["y", "x"]
    assert calls == [(2, 3)]
    torch.testing.assert_close(found.to_dense(), (6 * vector(3) ** 2).diag())
    both = jvpcli.jacobian(function, vector(3), 2, power=3, shift=vector(3))
    assert [x for _, x in both] == ["x", "shift"]


def test_the_value_comes_with_the_jacobian():
    result = jvpcli.inspect(lambda x: x**2, vector(3))
    torch.testing.assert_close(result.outputs["y"], vector(3) ** 2)


def test_maps_of_many_dimensions():
    x = vector(6).reshape(2, 3)
    found = jvpcli.jacobian(lambda x: x.T.sin(), x)["y", "x"]
    assert (found.in_shape, found.out_shape, found.nnz) == ((2, 3), (3, 2), 6)
    torch.testing.assert_close(found.to_dense(), torch.autograd.functional.jacobian(lambda x: x.T.sin(), x))
