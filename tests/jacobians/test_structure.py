"""The kind of a pattern, against what the matrix itself shows."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import jvpcli
from jvpcli.jacobians import dense
from jvpcli.jacobians.graph import read_graph
from jvpcli.jacobians.structure import block_count, classify_values

CASES = [
    (torch.zeros(3, 2), "zero"),
    (torch.zeros(0, 2), "zero"),
    (3 * torch.eye(4), "identity"),
    (torch.tensor([[2.0]]), "identity"),
    (torch.diag(torch.tensor([1.0, 2.0, 3.0])), "diagonal"),
    (torch.diag(torch.tensor([1.0, 0.0, 1.0])), "diagonal"),
    (torch.eye(4)[[2, 0, 1, 3]], "selection"),
    (torch.eye(4)[[2, 2]], "selection"),
    (torch.eye(4)[:2], "selection"),
    (torch.diag(torch.ones(8)) + torch.diag(torch.ones(7), 1), "banded"),
    (torch.block_diag(*[torch.rand(2, 3) + 1] * 3), "block_diagonal"),
    (torch.block_diag(*[torch.rand(3, 3) + 1] * 2), "block_diagonal"),
    (torch.tensor([[1.0, 0, 0, 1], [0, 0, 2, 0], [1, 0, 0, 0]]), "sparse"),
    (torch.rand(3, 4) + 1, "dense"),
    (torch.rand(1, 4) + 1, "dense"),
    (torch.tril(torch.rand(6, 6) + 1), "triangular"),
    (torch.triu(torch.rand(6, 6) + 1), "triangular"),
    (torch.tril(torch.rand(6, 6) + 1, 1), "sparse"),
    (torch.tril(torch.rand(6, 6) + 1).flip(0), "sparse"),
    (torch.kron(torch.tril(torch.ones(3, 3)), torch.rand(2, 2) + 1), "block_triangular"),
    (torch.kron(torch.triu(torch.ones(3, 3)), torch.rand(2, 3) + 1), "block_triangular"),
    (torch.kron(torch.tril(torch.ones(3, 3)), torch.rand(2, 2) + 1) + torch.diag(torch.ones(5), 1), "sparse"),
    (torch.kron(torch.tril(torch.ones(3, 3)), torch.rand(2, 2) + 1).roll(1, 1), "sparse"),
    (torch.tril(torch.rand(6, 6) + 1, 1).t()[:4], "sparse"),
    (torch.diag(torch.ones(3)) + torch.diag(torch.ones(2), 1), "banded"),
    (torch.diag(torch.ones(3), 2), "selection"),
    ((torch.diag(torch.ones(5)) + torch.diag(torch.ones(4), 1))[:4], "banded"),
    ((torch.diag(torch.ones(5)) + torch.diag(torch.ones(4), 1))[:, :4], "banded"),
    ((torch.diag(torch.ones(3)) + torch.diag(torch.ones(2), 1))[:2], "banded"),
    (2 * torch.eye(8)[:, :4], "sparse"),
    (2 * torch.eye(8)[:3], "sparse"),
    (torch.tensor([[2.0, 0.0, 0.0]]), "sparse"),
    (torch.diag(torch.tensor([2.0]), 4), "triangular"),
    (torch.block_diag(torch.eye(2) + 1, torch.tril(torch.ones(2, 2))), "block_diagonal"),
]


@pytest.mark.parametrize(("matrix", "kind"), CASES, ids=[f"{k}-{tuple(m.shape)}" for m, k in CASES])
def test_kind_of_one_matrix(matrix, kind):
    assert classify_values([matrix]) == kind


def test_an_accident_at_the_point_is_seen_through_nearby():
    at, near = 2 * torch.eye(3), torch.diag(torch.tensor([2.0, 2.1, 2.0]))
    assert classify_values([at]) == "identity"
    assert classify_values([at, near]) == "diagonal"
    assert classify_values([torch.zeros(2, 2), torch.eye(2)]) == "diagonal"


def test_nan_at_the_point_does_not_hide_the_kind():
    at = torch.tensor([[float("inf"), 0.0], [float("nan"), 1.0]])
    assert classify_values([at, torch.diag(torch.tensor([3.0, 1.0]))]) == "diagonal"


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.randoms(use_true_random=False))
def test_block_count_is_the_largest_that_holds_the_pattern(count, height, width, random):
    matrix = torch.block_diag(*[torch.ones(height, width)] * count)
    matrix *= torch.tensor(
        [[random.choice([0.0, 1.0]) for _ in range(matrix.shape[1])] for _ in range(matrix.shape[0])]
    )
    m, n = matrix.shape
    rows, cols = matrix.numpy().nonzero()

    def holds(blocks):
        mask = torch.block_diag(*[torch.ones(m // blocks, n // blocks)] * blocks)
        return bool((matrix * (1 - mask) == 0).all())

    best = max(b for b in range(1, min(m, n) + 1) if m % b == 0 and n % b == 0 and holds(b))
    assert block_count(rows, cols, m, n) == best


NET = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 10))

BOTH_WORLDS = [
    (lambda x: x.clamp(-9, 9), (8,), (80,), "diagonal"),
    (lambda x: F.leaky_relu(x.abs() + 1), (8,), (80,), "diagonal"),
    (lambda x: F.relu(-1 - x.abs()), (8,), (80,), "diagonal"),
    (lambda x: x.round(), (8,), (80,), "zero"),
    (lambda x: 3 * x.view(2, -1), (8,), (80,), "identity"),
    (lambda x: x * torch.ones_like(x), (8,), (80,), "diagonal"),
    (lambda x: x.sort().values, (8,), (80,), "selection"),
    (lambda x: x.detach().sign() * x.tanh(), (8,), (80,), "diagonal"),
    (lambda x: 100 * x.tanh(), (8,), (80,), "diagonal"),
    (NET, (2, 1, 8, 8), (3, 1, 8, 8), "block_diagonal"),
    (nn.Sequential(NET, nn.ReLU()), (2, 1, 8, 8), (5, 1, 8, 8), "block_diagonal"),
]


@pytest.mark.parametrize(("function", "few", "many", "kind"), BOTH_WORLDS)
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_small_and_large_problems_have_the_same_structure(function, few, many, kind, scale):
    for shape in (few, many):
        x = scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))
        (told,) = jvpcli.inspect(lambda x: function(x), x=x).report.jacobian["y"].values()
        alone = jvpcli.jacobian(lambda x: function(x), x=x)["y", "x"]
        assert (told.structure, alone.structure) == (kind, kind), shape


@pytest.mark.parametrize("size", [4, 90])
@pytest.mark.parametrize(
    "function",
    ["x.sqrt()", "(2 * x).sqrt().view(-1)", "torch.where(x > -1, x.sqrt(), x)", "x.sqrt() * x.roll(1)"],
)
def test_zeros_of_the_operations_stay_zeros(function, size):
    x = torch.arange(float(size))
    result = jvpcli.inspect(function, x=x)
    for matrix in (result.jacobian["y", "x"], jvpcli.jacobian(function, x=x)["y", "x"].to_dense()):
        off = matrix.clone()
        off[torch.arange(size), torch.arange(size)] = 0
        off[torch.arange(size), torch.arange(size).roll(1)] = 0
        assert not off.any()  # NaN would count
        assert not matrix.diagonal()[0].isfinite()
    assert any("0 times ∞ or NaN" in notice.message for notice in result.report.warnings)


@pytest.mark.parametrize("size", [4, 60])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize(
    "text", ["torch.outer(torch.asin(x.clamp(-1, 1)), torch.asin(x.clamp(-1, 1)))", "torch.sqrt(F.relu6(x)).repeat(3)"]
)
def test_a_mask_takes_away_what_passes_forwards_make_nan(text, mode, size):
    """0·∞ arises where a mask is met last; a backward pass meets it last, and PyTorch gives no NaN."""
    x = torch.linspace(-3.5, 3.7, size, dtype=torch.float64)
    result = jvpcli.inspect(text, x=x, mode=mode)
    expected = torch.autograd.functional.jacobian(as_function(text), x)
    assert expected.isfinite().all()
    for found in (result.jacobian["y", "x"], jvpcli.jacobian(text, x=x, mode=mode)["y", "x"].to_dense()):
        torch.testing.assert_close(found, expected)
    assert not any(notice.claim == "artefact" for notice in result.report.warnings)


def test_no_sentence_claims_more_than_is_known():
    result = jvpcli.inspect("torch.stack([x[0]*x[3], x[1]*x[2]*x[3]+x[0]])", x=[1.0, 2, 3, 4])
    told, words = result.report.jacobian["y"]["x"], result.report.contraction["y"]["x"].product
    assert (told.structure, told.nnz) == ("sparse", 6)
    assert "6 of the 8 entries" in words
    assert "every entry" not in words


@pytest.mark.parametrize("size", [4, 90])
@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: 2 * x.sort().values, "sparse"),
        (lambda x: x.sort().values.sin(), "sparse"),
        (lambda x: x.sort().values + x, "sparse"),
        (lambda x: x.sort(descending=True).values.flip(0), "selection"),
        (lambda x: 2 * x.view(2, -1).max(0).values, "sparse"),
        (lambda x: 3 * x.cummax(0).values, "triangular"),
        (lambda x: torch.relu(x.flip(0)).flip(0), "diagonal"),
        (lambda x: torch.stack([x.max(), x.median(), x.min()]), "sparse"),  # which share out where entries tie
        (lambda x: torch.stack([x.max(0).values, x.median(0).values]), "selection"),
        (lambda x: x * x.detach().sum(), "diagonal"),
        (lambda x: x @ torch.eye(len(x)), "diagonal"),
        (lambda x: torch.relu(x) @ torch.ones(len(x), 3), "dense"),
    ],
)
def test_no_kind_is_an_accident_of_what_is_picked_here(function, kind, size):
    """At sorted values what is sorted stays in its place, which is true of no other point."""
    x = torch.arange(1.0, size + 1)
    told = jvpcli.inspect(lambda x: function(x), x=x).report.jacobian["y"]["x"].structure
    assert (told, jvpcli.jacobian(lambda x: function(x), x=x)["y", "x"].structure) == (kind, kind)


@pytest.mark.parametrize("size", [1, 20])
def test_a_decomposition_at_a_special_point_is_not_called_diagonal(size):
    """The singular values of a diagonal matrix depend on its diagonal alone, to first order; of no other matrix."""
    x = torch.diag_embed(torch.arange(1.0, 4).expand(size, 3))
    found = jvpcli.jacobian(torch.linalg.svdvals, A=x)["y", "A"]
    assert found.structure == ("dense" if size == 1 else "block_diagonal")
    assert found.nnz == 3 * size


@pytest.mark.parametrize(
    ("expression", "x", "words"),
    [
        ("2*x", [1.0, 2.0], ("2 × identity", "2 times the identity: the product comes down to 2 · v")),
        ("x.view(-1)", [1.0, 2.0], ("identity", "1 times the identity")),
        ("-x/4", torch.arange(100.0), ("-0.25 × identity", "-0.25 times the identity")),
        ("x*(1+2j)", torch.tensor([1j, 2]), ("(1-2j) × identity", "the product comes down to (1-2j) · v")),
    ],
)
def test_an_identity_says_what_it_is_times(expression, x, words):
    result = jvpcli.inspect(expression, x=x)
    text = " ".join(str(result).split())
    assert all(word in text for word in words)
    assert f"output + input: {words[0]}," in text
    assert result.to_dict()["jacobian"]["y"]["x"]["structure"] == "identity"


def as_function(text):
    """The text as Python that jvp sees no step of."""
    return eval(f"lambda x: {text}", {"torch": torch, "F": F})


def kinds_of(function, x):
    """The kind of its Jacobian, as both doors tell it."""
    inspected, alone = jvpcli.inspect(function, x=x).report.jacobian["y"]["x"], jvpcli.jacobian(function, x=x)["y", "x"]
    assert inspected.structure == alone.structure
    return alone.structure


def holds(kind, matrix):
    """Whether a matrix is of a kind, by what the kind's name says."""
    m, n = matrix.shape
    rows, cols = matrix.nonzero(as_tuple=True)
    if kind in ("identity", "diagonal"):
        same = kind == "diagonal" or (matrix.diagonal() == matrix[0, 0]).all()
        return m == n and bool((rows == cols).all()) and bool(same)
    if kind == "selection":
        return bool(((matrix == 0) | (matrix == 1)).all()) and bool((matrix.sum(1) <= 1).all())
    if kind == "block_diagonal":
        counts = [k for k in range(2, m + 1) if m % k == n % k == 0]
        return any(bool((rows // (m // k) == cols // (n // k)).all()) for k in counts)
    if kind == "banded":
        return bool((cols - rows < max(n - 1, 1)).all()) and bool((rows - cols < max(m - 1, 1)).all())
    if kind == "triangular":
        return m == n and (bool((cols <= rows).all()) or bool((cols >= rows).all()))
    return {"zero": not rows.numel(), "sparse": rows.numel() < m * n}.get(kind, True)


SCATTERED = torch.tensor([0, 1, 1, 2, 3, 3])

SPECIAL = {
    "sorted": lambda x: x.sort().values * 2,
    "largest": lambda x: x.view(2, 3).amax(1) * x.view(2, 3).amin(1),
    "pooled": lambda x: F.max_pool1d(x.view(1, 2, 3), 2, 1).exp(),
    "adaptive": lambda x: F.adaptive_max_pool1d(x.view(1, 2, 3), 2).sin(),
    "scattered, largest": lambda x: torch.zeros(6).double().scatter_reduce(0, SCATTERED, x, "amax") * 2,
    "scattered, product": lambda x: torch.ones(4).double().scatter_reduce(0, SCATTERED, x, "prod"),
    "scattered apart": lambda x: torch.zeros(6).double().scatter_reduce(0, torch.arange(6), x, "amin"),
    "margin": lambda x: F.multi_margin_loss(x.view(2, 3), torch.tensor([0, 1]), reduction="none"),
    "rectified": lambda x: torch.relu(x).flip(0).view(3, 2) @ torch.ones(2, 2).double(),
    "chosen": lambda x: torch.where(x > 0, x, x.flip(0)),
    "turned where negative": lambda x: F.pad(torch.where(x > 0, x, -x), (1, 1)),
    "chosen from twice": lambda x: torch.where(x > 0, x, 0.0) + torch.where(x.flip(0) > 0, x.flip(0), 0.0),
    "chosen, added up": lambda x: torch.where(x > 0, x, 0.0).sum(0, keepdim=True),
    "scanned": lambda x: x.cummin(0).values + x.cumprod(0),
    "gated": lambda x: F.glu(x.view(1, 6), 1),
    "crossed": lambda x: torch.linalg.cross(x.view(2, 3), x.view(2, 3).flip(0)),
    "distances": lambda x: torch.cdist(x.view(1, 2, 3), x.view(1, 3, 2).transpose(1, 2)),
    "masked": lambda x: x.view(2, 3).softmax(1) @ torch.tensor([[1.0, 0], [0, 1], [0, 0]]).double(),
    "in place": lambda x: torch.cat([x[:2].exp(), x[2:]]) * torch.tensor([1, 1, 0, 1, 1, 1.0]).double(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("special", ["zeros", "ones", "rising", "falling", "far"])
def test_what_is_said_at_a_special_point_is_true_of_others(name, special):
    function = SPECIAL[name]
    rising = torch.arange(1.0, 7, dtype=torch.float64)
    points = {"zeros": 0 * rising, "ones": 0 * rising + 1, "rising": rising, "falling": -rising, "far": 100 * rising}
    found = jvpcli.jacobian(lambda x: function(x), x=points[special])["y", "x"]
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        x = torch.randn(6, dtype=torch.float64, generator=generator)
        matrix = torch.autograd.functional.jacobian(function, x).reshape(found.m, found.n)
        assert holds(found.structure, matrix), (found.structure, matrix)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x.argmax() * x", "diagonal"),
        ("(x > 5) * x", "diagonal"),
        ("x.detach().sum() * x", "diagonal"),
        ("torch.outer((x > 1).float(), x)", "strided_blocks"),
        ("torch.tril(x.new_ones(3, 3)) @ x", "triangular"),
        ("x - x.max().detach()", "identity"),
    ],
)
def test_numbers_that_follow_from_the_inputs_are_no_constants(text, kind):
    """What is zero or one here because of them says nothing of other points; what is constant does."""
    x = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    assert {kinds_of(each, x) for each in (text, as_function(text))} == {kind}


DECIDED = [
    ("x if x.sum() > 0 else -x", "diagonal"),
    ("x if x.sum() > 0 else x.flip(0)", "sparse"),
    ("x if x.sum() < 0 else torch.outer(x, x)[0]", "triangular"),
    ("torch.stack([v if v > 0 else 0.1 * v for v in x])", "diagonal"),
    ("torch.stack([v * 2 for v in x if abs(v.item()) > 0])", "diagonal"),
    ("x.roll(int(x[0] > 0))", "sparse"),
    ("x[1:] - x[:-1] if x[0] > 0 else x[:-1] * x[1:]", "banded"),
    ("0 * x if x[0] > 0 else x", "diagonal"),
    ("x.softmax(0) if x[0] > 0 else x.softmax(0) * 2", "dense"),
    ("[x, -x][int(x[1] > 0)] * 3", "diagonal"),
    ("x * 2 if len(x) > 3 else x", "identity"),  # the shape decides: that is the same at every point
]


@pytest.mark.parametrize(("text", "kind"), DECIDED)
@pytest.mark.parametrize("size", [4, 80])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_kind_holds_where_values_decide_what_runs(text, kind, size, sign):
    function, generator = as_function(text), torch.Generator().manual_seed(4)
    x = sign * torch.arange(1.0, size + 1, dtype=torch.float64)
    assert {kinds_of(each, x) for each in (text, function)} == {kind}
    for point in (x, -x, *[torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(6)]):
        assert holds(kind, torch.autograd.functional.jacobian(function, point))


def test_what_is_zero_wherever_it_was_looked_at_is_not_called_zero():
    for function in ("x if x.sum() > 1e6 else 0 * x", lambda x: x if x.sum() > 1e6 else x.detach() + 0 * x):
        assert kinds_of(function, torch.ones(3)) != "zero"


class Rectified(torch.autograd.Function):
    """max(x, 0), whose backward keeps a mask that nobody sees."""

    @staticmethod
    def forward(ctx, x):
        ctx.mask = x > 0
        return x * ctx.mask

    @staticmethod
    def backward(ctx, v):
        return v * ctx.mask


@pytest.mark.parametrize("start", [-3.0, 1.0])
def test_what_a_custom_function_keeps_may_be_other_numbers_elsewhere(start):
    x = start + torch.arange(3.0)
    assert kinds_of(Rectified.apply, x) == "diagonal"
    assert kinds_of(lambda x: Rectified.apply(x).flip(0), x) == "sparse"
    assert kinds_of(lambda x: Rectified.apply(x).softmax(0), x) in ("dense", "unknown")


PADDED = [  # shapes of x, w and b, and the settings
    ("conv1d", (1, 1, 2), (1, 1, 3), 1, {"padding": 1}),
    ("conv1d", (1, 1, 1), (1, 1, 1), 1, {"padding": 1}),
    ("conv1d", (1, 2, 5), (4, 1, 2), 4, {"padding": 2, "groups": 2}),
    ("conv2d", (1, 1, 3, 2), (1, 1, 2, 2), 1, {"padding": 1, "dilation": 2}),
    ("conv_transpose1d", (1, 1, 2), (1, 1, 3), 1, {}),
    ("conv_transpose1d", (1, 1, 2), (1, 1, 2), 1, {"stride": 3}),
    ("conv_transpose2d", (1, 1, 3, 3), (1, 1, 3, 3), 1, {"padding": 1}),
    ("conv_transpose2d", (1, 2, 2, 3), (2, 3, 2, 2), 3, {"padding": 1, "stride": 2}),
]


@pytest.mark.parametrize("case", PADDED, ids=str)
@pytest.mark.parametrize("wrt", ["x,w,b", "w,b", "w", "x,b"])
def test_entries_that_a_border_leaves_out_are_zero_at_every_point(case, wrt):
    """Dense is what is other than zero in every place at some point."""
    name, *shapes, out, settings = case
    generator = torch.Generator().manual_seed(5)
    shapes = dict(zip("xwb", (*shapes, (out,)), strict=True))
    inputs = {key: torch.randn(shape, dtype=torch.float64, generator=generator) for key, shape in shapes.items()}
    text = f"F.{name}(x, w, b, {', '.join(f'{key}={value}' for key, value in settings.items())})"
    found = jvpcli.jacobian(text, inputs, wrt=wrt)
    for key in wrt.split(","):
        function = lambda t, key=key: getattr(F, name)(**_named({**inputs, key: t}), **settings)  # noqa: E731
        matrix = torch.autograd.functional.jacobian(function, inputs[key]).reshape(found["y", key].m, -1)
        kind = found["y", key].structure
        assert holds(kind, matrix)
        assert kind != "unknown"
        assert (kind == "dense") == bool((matrix != 0).all()) or kind in ("identity", "diagonal", "selection")


def _named(inputs):
    return {"input": inputs["x"], "weight": inputs["w"], "bias": inputs["b"]}


def test_a_constant_weight_keeps_its_zeros_beside_a_bias():
    W, x, b = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.ones(1, 2), torch.ones(2)
    for text in ("torch.addmm(b, x, W)", "F.linear(x, W.T, b)"):
        assert jvpcli.jacobian(text, x=x, W=W, b=b, wrt="x,b")["y", "x"].structure == "triangular"
        assert jvpcli.jacobian(text, x=x, W=W, b=b)["y", "x"].structure == "dense"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("(x[x > 5]).sum()", {"x": "unknown"}),  # nothing is chosen here
        ("(torch.relu(x).view(2, 2) @ w.view(2, 2)).flatten()", {"x": "block_diagonal", "w": "sparse"}),  # relu's zero stays
    ],
)
def test_what_is_zero_here_may_be_other_than_zero_elsewhere(text, kinds):
    inputs = {"x": torch.tensor([1.0, 2.0, -1.0, 3.0]), "w": torch.tensor([1.0, -2.0, 3.0, 4.0])}
    found = jvpcli.jacobian(text, {name: inputs[name] for name in kinds})
    assert {name: found["y", name].structure for name in kinds} == kinds


MASKED = "(x @ x.t()).masked_fill({} > 1 - torch.eye(len(x))[0, 0], -torch.inf).softmax(-1) @ x @ x.new_ones(2, 3)"
"""Attention in which some entries are left out."""

PLACED = [
    ("x.cumsum(0) * x", (), "triangular"),
    ("x.flip(0).cumsum(0).flip(0).sin()", (), "triangular"),
    ("torch.tril(x.new_ones(len(x), len(x))) @ x", (), "triangular"),
    ("x.sin().cumsum(0) @ x.new_ones(2, 2)", (2,), "block_triangular"),
    ("x.sin().cumsum(0) @ x.new_ones(2, 3)", (2,), "block_triangular"),
    (MASKED.format("torch.ones(len(x), len(x)).triu(1)"), (2,), "block_triangular"),
    (MASKED.format("(x @ x.t()).triu(1)"), (2,), "unknown"),
    ("x.cumsum(0) * x", (2,), "strided_blocks"),
    ("x.softmax(0)", (3,), "strided_blocks"),
    ("x.softmax(1)", (3,), "block_diagonal"),
    ("2 * x.t()", (3,), "strided_blocks"),
    ("x.new_ones(2, len(x)) @ x", (3,), "strided_blocks"),
    ("torch.einsum('iaj,iaj->ja', x, x)", (2, 3), "strided_blocks"),
    ("torch.einsum('iaj,kaj->kai', x, x)", (2, 3), "strided_blocks"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [3, 6, 11])
@pytest.mark.parametrize(("text", "further", "kind"), PLACED)
def test_kinds_that_say_where_the_zeros_are(text, further, kind, length, dtype):
    """They are the same at every size, and torch's own Jacobians at several points have all their zeros where they say."""

    def function(x):
        return eval(text, {"torch": torch, "x": x, "len": len})

    generator = torch.Generator().manual_seed(3)
    points = [torch.randn(length, *further, dtype=dtype, generator=generator) for _ in range(3)]
    report, own = (jvpcli.inspect(each, x=points[0]).report for each in (text, function))
    linear = jvpcli.jacobian(text, x=points[0])["y", "x"]
    assert {each.jacobian["y"]["x"].structure for each in (report, own)} == {kind}
    assert linear.structure in (kind, "unknown")  # from the operations alone
    places = sum((torch.autograd.functional.jacobian(function, x.double()) != 0).int() for x in points)
    words = report.contraction["y"]["x"].product
    if kind == "strided_blocks":
        a, b = (int(number) for number in re.findall(r"axis (\d+)", words))
        index = places.nonzero()
        assert linear.out_shape[a] == linear.in_shape[b]
        assert bool((index[:, a] == index[:, len(linear.out_shape) + b]).all())
    if "triangular" in kind:
        found = re.search(r"into (\d+) equal", words)
        assert found is None or int(found[1]) == length
        rows, cols = places.reshape(linear.m, linear.n).nonzero(as_tuple=True)
        beyond = (cols // (linear.n // length)) - (rows // (linear.m // length))
        assert bool((beyond <= 0).all() if "no later" in words or "later parts" in words else (beyond >= 0).all())


HIDDEN = {
    "axes": (lambda W, X: W @ X, (torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])), "strided_blocks", " here"),
    "axes of one row": (lambda M, X: M @ X, (torch.tensor([[0.0, 0], [0, 1]]), torch.rand(2, 2) + 1), "strided_blocks", " here"),
    "side": (lambda w, X: (X * w).flip(0).cumsum(0).flip(0), (torch.tensor([1.0, 0, 0]), torch.rand(3) + 1), "triangular",
             "no later or no earlier"),
    "nothing but zeros": (lambda W, X: W @ X, (torch.zeros(2, 2), torch.rand(2, 2)), "strided_blocks", "zero here"),
}  # fmt: skip


@pytest.mark.parametrize("case", HIDDEN)
def test_places_that_only_the_numbers_here_show_are_not_said_of_every_point(case):
    """The Jacobian at other weights has entries where the zeros of these weights hide them."""
    function, (weights, x), kind, words = HIDDEN[case]
    found = jvpcli.inspect(function, weights.double(), x.double()).report
    name = list(found.jacobian["y"])[1]
    assert found.jacobian["y"][name].structure == kind
    assert words in found.contraction["y"][name].product
    other = torch.rand(weights.shape, dtype=torch.float64) + 1
    here, elsewhere = (
        torch.autograd.functional.jacobian(lambda t, w=w: function(w, t), x.double()).flatten() != 0
        for w in (weights.double(), other)
    )
    assert bool((elsewhere & ~here).any())
    assert words not in jvpcli.inspect(function, other, x.double()).report.contraction["y"][name].product


MASKED = [  # (a function of x, with lower-triangular ones in W; whether its zeros are those of every point)
    ("torch.tril(torch.outer(x, x)).sum(1)", True),
    ("torch.triu(x[:, None] * x).sum(0)", True),
    ("(W * x).sum(1)", True),
    ("(W * x * x[:, None]).sum(1)", True),
    ("torch.where(W > 0, x, 0 * x).sum(1)", True),
    ("(x * x[:, None]).masked_fill(W == 0, 0.).sum(1)", True),
    ("torch.where(x[:, None] > 0, x, 0.).sum(1)", False),
    ("((x > 0).to(x)[:, None] * x).sum(1)", False),
    ("(x + 0 * x[:, None]).masked_fill(x.detach()[:, None] < 0, 0.).sum(1)", False),
]


@pytest.mark.parametrize(("text", "always"), MASKED)
@pytest.mark.parametrize("n", [6, 80])
def test_zeros_that_a_mask_makes_are_told_at_every_size(text, always, n):
    """At some points of torch's own Jacobians each entry is not zero, or none of those above the diagonal ever is."""
    W = torch.ones(n, n, dtype=torch.float64).tril()
    given = {"W": W} if "W" in text else {}
    points = [torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(6)]
    found = jvpcli.inspect(text, x=points[0], **given, wrt="x").report.jacobian["y"]["x"].structure
    rows = [torch.autograd.functional.jacobian(lambda x: eval(text, {"torch": torch, "x": x, "W": W}), x) for x in points]
    anywhere = torch.stack([J != 0 for J in rows]).any(0)
    assert bool(anywhere.triu(1).any()) != always
    assert (found == "triangular") == always


def test_where_an_operation_tells_no_zeros_the_numbers_are_autograds():
    """The rows are those of PyTorch's own passes, NaN included: which of them stand for zeros is not known."""
    x = torch.tensor([0.0, 1.0, -1.0, 3.0], dtype=torch.float64)
    grid = torch.tensor([[20.0, 0.1], [1.3, 0.0]], dtype=torch.float64)
    text = "1/F.grid_sample(x.view(1, 1, 2, 2), grid.view(1, 2, 1, 2), align_corners=False).flatten()"
    found = jvpcli.inspect(text, x=x, grid=grid)
    rows = torch.autograd.functional.jacobian(lambda x, grid: eval(text, {"F": F, "x": x, "grid": grid}), (x, grid))
    for name, expected in zip(("x", "grid"), rows, strict=True):
        assert found.report.jacobian["y"][name].structure == "unknown"
        torch.testing.assert_close(found.jacobian["y", name], expected, equal_nan=True)
    assert rows[1].isnan().any()


def test_a_kind_is_given_up_where_it_takes_too_many_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of passes stay what they are; the kind is then what they prove, which is nothing where some are zero."""
    x = torch.rand(6, 5, dtype=torch.float64, requires_grad=True)
    y = (x.roll(1, 0) + x.roll(1, 1) * x).sin().roll(2, 0) * x
    graph, matrix = read_graph(y, [x]), torch.autograd.functional.jacobian(
        lambda x: (x.roll(1, 0) + x.roll(1, 1) * x).sin().roll(2, 0) * x, x.detach()
    ).reshape(30, 30)
    assert dense.pulled_maps(graph, [matrix])[0].structure == "sparse"
    monkeypatch.setattr(dense, "MOST_PRODUCTS", 10)
    (given_up,) = dense.pulled_maps(graph, [matrix])
    assert given_up.structure == "unknown"
    assert torch.equal(given_up.to_dense().reshape(30, 30), matrix)
