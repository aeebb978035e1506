"""Dense passes, products alone, and the memory limit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CASES, check_map, compute, leaves_of, oracle, plan, r

from jvpcli.errors import LimitError
from jvpcli.jacobians.dense import by_columns, by_rows, row_blocks, summarize, sweep
from jvpcli.jacobians.graph import accumulate, read_graph
from jvpcli.jacobians.matrix_free import OperatorMap
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.spectrum import singular_values
from jvpcli.jacobians.terms import Workspace


@pytest.mark.parametrize("room", [1, 3000, 1 << 27], ids=["one by one", "some", "all"])
@pytest.mark.parametrize("name", CASES)
def test_rows_in_chunks(name, room):
    function, values, _ = CASES[name]
    leaves = leaves_of(values)
    output = function(*leaves)
    for found, expected in zip(by_rows(read_graph(output, leaves), room), oracle(output, leaves), strict=True):
        torch.testing.assert_close(found, expected)


TRUSTED = {
    "LinalgEigh": lambda x: torch.linalg.eigh(x + x.mT)[1].abs(),
    "LinalgSvd": lambda x: torch.linalg.svd(x)[1],
    "LinalgQr": lambda x: torch.linalg.qr(x)[1],
    "LinalgSolveTriangular": lambda x: torch.linalg.solve_triangular(x, x.exp(), upper=True),
    "CholeskySolve": lambda x: torch.cholesky_solve(x.sin(), x),
    "LinalgLu": lambda x: torch.linalg.lu(x)[2],
    "LinalgLuFactorEx": lambda x: torch.linalg.lu_factor(x)[0],
}


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 3)])
@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_formulas_that_are_trusted_give_rows_at_once(name, shape):
    (x,) = leaves_of([r(*shape) + 3 * torch.eye(shape[-1], dtype=torch.float64)])
    output = TRUSTED[name](x)
    graph = read_graph(output, [x])
    assert name in set(map(base_name, graph.names))
    assert not sweep(graph).doubtful
    torch.testing.assert_close(by_rows(graph), by_rows(graph, 1))
    torch.testing.assert_close(by_rows(graph), oracle(output, [x]))


@pytest.mark.parametrize("name", CASES)
def test_columns(name):
    function, values, _ = CASES[name]
    leaves = leaves_of(values)
    output = function(*leaves)
    for found, expected in zip(by_columns(read_graph(output, leaves), 3000), oracle(output, leaves), strict=True):
        torch.testing.assert_close(found, expected)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


def hidden(x):
    return Once.apply(x) + x**2


@pytest.mark.parametrize("function", [Once.apply, hidden])
def test_columns_need_a_second_derivative(function):
    (x,) = leaves_of([r(3)])
    with pytest.raises(RuntimeError):
        by_columns(read_graph(function(x), [x]))
    output = function(x)
    (found,) = compute(output, [x], mode="forward").maps
    torch.testing.assert_close(found.to_dense(), oracle(output, [x])[0])


def test_blocks_cover_every_row_once():
    (x,) = leaves_of([r(9)])
    graph = read_graph(x.cumsum(0), [x])
    spans = [(start, stop) for start, stop, _ in row_blocks(graph, room=400)]
    assert len(spans) > 1
    assert [start for start, _ in spans] == [0, *[stop for _, stop in spans][:-1]]
    assert spans[-1][1] == 9


def function_of_many(x):
    return torch.tanh(torch.outer(x, x) @ x + x.cumsum(0))


def test_products_alone_where_nothing_else_fits():
    (x,) = leaves_of([r(60)])
    output = function_of_many(x)
    expected = oracle(output, [x])[0]
    computed = compute(output, [x], memory_limit=8000)
    (found,) = computed.maps
    assert computed.way.strategy == "matrix_free"
    assert isinstance(found, OperatorMap)
    assert found.nnz is None
    torch.testing.assert_close(found.pullback(r(60)), r(60) @ expected)
    torch.testing.assert_close(found.pushforward(r(60)), expected @ r(60))
    torch.testing.assert_close(found.summary().diagonal, expected.diagonal())
    assert found.summary().frobenius_norm == pytest.approx(float(expected.norm()))
    with pytest.raises(LimitError):
        found.to_dense()
    assert plan(output, [x], memory_limit=8000).ways[0].strategy == "matrix_free"


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_singular_values(shape):
    matrix = r(*shape)
    (x,) = leaves_of([r(shape[1])])
    output = torch.tanh(matrix @ x)
    expected = torch.linalg.svdvals(oracle(output, [x])[0])[:6]
    (held,) = compute(output, [x]).maps
    alone = OperatorMap(tuple(output.shape), tuple(x.shape), output, x, 1e6)
    for found in map(singular_values, (held, alone)):
        torch.testing.assert_close(found.values, expected)
        assert not found.errors.any()


@pytest.mark.parametrize(
    "function",
    [
        torch.sin,
        lambda x: -3 * x,
        lambda x: torch.cat([x[:30], x[:10], x[5:9]]),
        lambda x: x.view(20, 5).softmax(1) * x[:20, None],
        lambda x: x.view(20, 5).softmax(1).T,
        lambda x: F.conv1d(x[None], r(1, 1, 7), padding=3)[0],
        lambda x: x.clamp(-0.5, 0.5),
        torch.sign,
    ],
)
def test_singular_values_by_structure(function):
    (x,) = leaves_of([r(100)])
    output = function(x)
    expected = torch.linalg.svdvals(oracle(output, [x])[0])[:6]
    (held,) = compute(output, [x]).maps
    found = singular_values(held)
    torch.testing.assert_close(found.values, expected, atol=1e-10, rtol=1e-10)
    assert not found.errors.any()


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 30.0])
def test_what_has_not_converged_says_how_far_it_may_be_off(spread):
    """Singular values as close together as `spread` over a thousand of them, of a map that is only products."""
    (x,) = leaves_of([r(1000)])
    scale = 1 + spread * torch.linspace(0, 1, 1000, dtype=torch.float64)
    output = scale * torch.roll(x, 1)
    found = singular_values(OperatorMap((1000,), (1000,), output, x, 1e6))
    assert found.values.shape == (6,)
    for value, error in zip(found.values, found.errors, strict=True):
        nearest = (scale - value).abs().min()
        assert nearest <= error + 1e-5 * scale.max()


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (1, 3), (3, 1)])
@pytest.mark.parametrize("room", [1, 200, 1e9])
def test_summaries_of_wide_and_tall(shape, room):
    matrix = r(*shape)
    (x,) = leaves_of([r(shape[1])])
    output = (matrix @ x).sin()
    expected = oracle(output, [x])[0]
    summary = summarize(output, x, room)
    torch.testing.assert_close(summary.diagonal, expected.diagonal())
    assert summary.frobenius_norm == pytest.approx(float(expected.norm()))


LIMITED = """
import resource, sys
import torch
from jvpcli.jacobians.engine import compute, plan
torch.set_num_threads(1)
functions = {
    "outer": (lambda x: torch.outer(x, x), 1500),
    "dense": (lambda x: torch.tanh(x.cumsum(0)), 4000),
    "softmax": (lambda x: torch.softmax(x, 0), 12000),
    "opaque": (lambda x: torch.linalg.svdvals(x.view(50, 50)), 2500),
}
function, n = functions[sys.argv[1]]
small = torch.randn(2500 if sys.argv[1] == "opaque" else 20, requires_grad=True)
compute(plan(function(small), [small]))
x = torch.randn(n, requires_grad=True)
y = function(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
computed = compute(plan(y, [x], memory_limit=200_000_000))
(found,) = computed.maps
found.to_dense() if computed.way.strategy == "dense" else found.pullback(torch.ones_like(y))
print(computed.way.strategy, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("name", ["outer", "dense", "softmax", "opaque"])
def test_the_memory_limit_is_kept(name):
    done = subprocess.run([sys.executable, "-c", LIMITED, name], capture_output=True, text=True, check=True)
    strategy, used = done.stdout.split()
    assert float(used) < 200 * 1.05, strategy
    if name == "softmax":
        assert strategy == "matrix_free"


def test_the_time_of_a_recurrence_grows_with_its_steps_alone():
    """Each step names its index arrays by those of the one before, twice: no end is in sight where names are spelled out."""
    (x,) = leaves_of([r(12).sigmoid()])
    u = x
    for _ in range(60):
        u = u - 0.1 * (u * u - torch.roll(u * u, 1))
    work = Workspace()
    graph = read_graph(u, [x])
    expected = oracle(u, [x])[0]
    for _ in range(2):
        (terms,) = accumulate(graph, work)
        torch.testing.assert_close(sum(term.matrix() for term in terms), expected)


def test_nothing_heavy_is_loaded():
    code = """
import sys, torch
before = set(sys.modules)
from jvpcli.jacobians.engine import compute, plan
x = torch.randn(6, 5, requires_grad=True)
y = torch.softmax(x[1:] @ x[:-1].T, 1).cumprod(0)
compute(plan(y, [x])); plan(y, [x]).report; compute(plan(y, [x], memory_limit=100))
new = {name.partition(".")[0] for name in set(sys.modules) - before} | set(sys.modules)
assert not {"scipy", "sympy"} & new, new
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("function", "strategy", "kind"),
    [
        (lambda x: torch.fft.rfft(x).abs(), "batched", "block_diagonal"),
        (lambda x: torch.fft.irfft(torch.fft.rfft(x.sin()) * torch.linspace(1, 2, 7)), "batched", "block_diagonal"),
        (lambda x: torch.fft.fft2(x.view(40, 3, 4)).imag, "batched", "block_diagonal"),
        (lambda x: torch.fft.fft(x, dim=0).abs(), "dense", "strided_blocks"),
        (lambda x: torch.fft.fft(x, dim=1).abs() + x[0].sum(), "dense", "block_triangular"),
    ],
)
def test_samples_that_stay_apart_in_complex_numbers(function, strategy, kind):
    (x,) = leaves_of([r(40, 12)])
    output = function(x)
    assert plan(output, [x]).ways[0].strategy == strategy
    (found,) = compute(output, [x]).maps
    (expected,) = oracle(output, [x])
    check_map(found, expected)
    assert found.structure == kind
