"""The engine on functions of every kind, against row-by-row autograd in float64."""

import pytest
import torch
from engine_cases import CASES, check_function, check_map, compute, leaves_of, oracle, plan, r

from jvpcli.errors import LimitError


@pytest.mark.parametrize("mode", ["reverse", "forward", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_case(name, mode):
    function, values, structure = CASES[name]
    computed = check_function(function, values, mode=mode)
    if structure:
        assert computed.maps[0].structure == structure
    if computed.way.strategy == "accumulated" and mode != "auto":
        assert computed.way.mode == mode


@pytest.mark.parametrize("name", CASES)
def test_again_at_another_point_with_the_same_index_arrays(name):
    function, values, _ = CASES[name]
    leaves = leaves_of(values)
    first = compute(function(*leaves), leaves, mode="reverse")
    others = leaves_of([x.flip(0) * 0.5 + 0.1 if x.dim() else x * 0.5 for x in values])
    output = function(*others)
    again = compute(output, others, mode="reverse", work=first.work)
    for found, expected in zip(again.maps, oracle(output, others), strict=True):
        check_map(found, expected)


def test_kept_index_arrays_do_not_follow_to_another_path():
    def function(x, start):
        return x[start : start + 3] * x[torch.argsort(x)[:3]]

    x, y = leaves_of([r(6), r(6).flip(0)])
    first = compute(function(x, 0), [x], mode="reverse")
    output = function(y, 2)
    (found,) = compute(output, [y], mode="reverse", work=first.work).maps
    check_map(found, oracle(output, [y])[0])


@pytest.mark.parametrize("name", CASES)
def test_passes_over_a_tiny_problem_find_the_same_structure(name):
    function, values, _ = CASES[name]
    leaves = leaves_of(values)
    output = function(*leaves)
    by_passes, multiplied = compute(output, leaves), compute(output, leaves, mode="reverse")
    if multiplied.way.strategy == "accumulated":  # else an operation has no local map, and the values tell the structure
        assert [each.structure for each in by_passes.maps] == [each.structure for each in multiplied.maps]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("shape", [(4, 3), (9, 5)])
def test_a_batch_rule_that_gives_zeros_is_not_believed(shape, p):
    check_function(lambda x, y: torch.cdist(x, y.sin(), p=p), [r(*shape), r(*shape, seed=1)[:3]])


def test_outer_costs_its_nonzeros():
    (x,) = leaves_of([r(300)])
    (found,) = compute(torch.outer(x, x), [x]).maps
    assert found.nnz == 2 * 300**2 - 300
    assert found.bound == 2 * 300**2


def test_unused_input_is_zero():
    x, y = leaves_of([r(3), r(4)])
    maps = compute(x * 2, [x, y]).maps
    assert [m.structure for m in maps] == ["identity", "zero"]
    assert maps[1].nnz == 0
    assert not maps[1].to_dense().any()
    assert tuple(maps[1].to_dense().shape) == (3, 4)


class Straight(torch.autograd.Function):
    """Forward rounds, backward passes through, with a dependency that no name shows."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g + 0.5 * g.flip(0)


def test_custom_functions_are_opaque():
    check_function(lambda x: Straight.apply(x * 2).sin(), [r(5)])


class Sin(torch.autograd.Function):
    """Named like a function of torch's, and not the same."""

    @staticmethod
    def forward(ctx, x, y):
        return x.clone(), x * y.sum()

    @staticmethod
    def backward(ctx, g, h):
        return g.cumsum(0) + h, h.sum().expand(2)


def test_custom_functions_with_several_outputs():
    def function(x, y):
        a, b = Sin.apply(x, y)
        return torch.cat([a, b * a])

    check_function(function, [r(4), r(2)])


def test_mixed_precision():
    (x,) = leaves_of([r(4).float()])
    output = (x.double() * 3).cumsum(0)
    (found,) = compute(output, [x]).maps
    assert found.to_dense().dtype == torch.float32
    check_map(found, oracle(output, [x])[0], tolerance=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes(dtype):
    leaves = [x.to(dtype).requires_grad_() for x in (r(3, 4), r(4))]
    output = torch.cat([leaves[0] * leaves[1], (leaves[0] @ leaves[1])[:, None]], 1).sin()
    for found, expected in zip(compute(output, leaves).maps, oracle(output, leaves), strict=True):
        assert found.to_dense().dtype == dtype
        torch.testing.assert_close(found.to_dense().reshape(expected.shape), expected, rtol=2e-2, atol=2e-2)


def test_nan_is_shown_where_the_operations_have_an_entry():
    (x,) = leaves_of([torch.tensor([-1.0, 4.0, 9.0], dtype=torch.float64)])
    output = torch.where(x > 0, x.sqrt(), torch.zeros_like(x))
    (found,) = compute(output, [x], weighed=True).maps  # the condition follows from x
    passes = oracle(output, [x])[0]
    assert passes[:, 0].isnan().all()  # 0·∞, for the other rows too
    torch.testing.assert_close(found.to_dense(), torch.diag(passes.diagonal()), equal_nan=True)
    assert found.structure == "diagonal"


def test_masked_nan_is_not_shown():
    (x,) = leaves_of([torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)])
    mask = torch.tensor([[True, True], [False, False]])
    filled = x.masked_fill(~mask, float("-inf"))
    output = torch.where(mask, torch.softmax(filled, 1), torch.zeros_like(x))
    (found,) = compute(output, [x]).maps
    torch.testing.assert_close(found.to_dense().reshape(4, 4), oracle(output, [x])[0], equal_nan=True)


def test_plan_computes_nothing_and_names_its_choice():
    (x,) = leaves_of([r(50)])
    decided = plan(torch.outer(x, x), [x])
    assert decided.m == 2500
    assert decided.n == 50
    assert decided.bound >= 2 * 50**2 - 50
    assert decided.ways[0].strategy == "accumulated"
    assert {c.strategy for c in decided.ways} == {"accumulated", "batched", "dense", "matrix_free"}
    assert decided.reason


@pytest.mark.parametrize("name", CASES)
def test_the_bound_holds(name):
    function, values, _ = CASES[name]
    leaves = leaves_of(values)
    output = function(*leaves)
    nnz = sum(int((j != 0).sum()) for j in oracle(output, leaves))
    assert plan(output, leaves).bound >= nnz


def test_to_scipy():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    (x,) = leaves_of([r(6)])
    output = torch.outer(x, x)
    (found,) = compute(output, [x]).maps
    matrix = found.to_scipy()
    assert scipy_sparse.issparse(matrix)
    assert matrix.shape == (36, 6)
    assert matrix.nnz == found.nnz
    torch.testing.assert_close(torch.from_numpy(matrix.toarray()), oracle(output, [x])[0])


def test_sums_of_products_stay_factored():
    """A Jacobian of 10¹⁰ entries that is a rank-one matrix plus a diagonal plus another is held by 10⁵ numbers."""
    u, point = r(100_000), r(100_000, seed=1)
    (x,) = leaves_of([point])
    (found,) = compute(u * (u @ x) + x.sin() * x.mean(), [x]).maps
    assert found.structure == "dense"
    assert sum(term.held for term in found.terms) <= 4 * 100_000
    v = r(100_000, seed=2)
    expected = u * (u @ v) + point.cos() * v * point.mean() + (v @ point.sin()) / 100_000
    torch.testing.assert_close(found.pullback(v), expected)
    with pytest.raises(LimitError):
        found.to_dense()
    assert found.nnz is None


@pytest.mark.parametrize(("shape", "dim"), [((130,), 0), ((2, 70), 1), ((64, 2), 0), ((65,), 0)])
def test_long_running_sums(shape, dim):
    """Longer than the strips that their triangles are filled in."""
    check_function(lambda x: x.cumsum(dim), [r(*shape)], mode="reverse")
