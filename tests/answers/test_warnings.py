"""What an inspection warns of is true: kinks and jumps by differences of values, inputs without a gradient by their use."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import jvpcli

BENT = [
    # expression, x, the claim, the entry
    ("x.abs()", [1.0, 0.0], "kink", 1),
    ("torch.relu(x).sum() + x[0] * 5", [1.0, 0.0], "kink", 1),
    ("torch.abs(x) + 1000", [0.0, 1.0], "kink", 0),
    ("x.max()", [1.0, 1.0], "kink", 0),
    ("torch.linalg.norm(x)", [0.0, 0.0], "kink", None),
    ("torch.where(x >= 1, 3 * x, x)", [1.0, 2.0], "step", 0),
    ("x[0] * torch.sign(x[1])", [1.0, 0.0], "jump", None),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("expression", "point", "claim", "entry"), BENT)
def test_what_happens_around_the_point(expression, point, claim, entry, dtype):
    x = torch.tensor(point, dtype=dtype)
    notices = [n for n in jvpcli.inspect(expression, x=x).report.warnings if n.code == "kink"]
    assert [n.claim for n in notices] == [claim]
    if entry is None:
        return
    assert f"x[{entry}] = {point[entry]:g}" in notices[0].message
    weights = torch.linspace(0.3, 1.1, 2, dtype=torch.float64)

    def at(offset):
        there = x.double().clone()
        there[entry] += offset
        return float((eval(expression, {"torch": torch, "x": there}) * weights).sum())

    below, above = (at(0) - at(-1e-6)) / 1e-6, (at(1e-6) - at(0)) / 1e-6
    if claim == "kink":
        assert 0.1 < abs(above - below) < 10
    else:
        assert abs(above - below) > 1e4


@pytest.mark.parametrize(
    "expression",
    [
        "torch.log(x)",
        "x ** 1.1",
        "torch.sqrt(x)",
        "x * x",
        "torch.polygamma(1, x)",
        "torch.relu(x) ** 2",
        "torch.linalg.svdvals(torch.outer(x + 1, x - 3))[1]",
    ],
)
def test_no_kink_where_there_is_none_or_no_other_side(expression):
    notices = jvpcli.inspect(expression, x=torch.tensor([0.0, 1.0], dtype=torch.float64)).report.warnings
    assert "kink" not in {notice.code for notice in notices}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_determinant_whose_gradient_fails_is_told_of(dtype):
    """The gradient of det is the adjugate's transpose, and autograd's is told of where it is another."""
    for rows in ([[1, 2], [2, 4]], [[1, 2], [3, 4]], [[0, 0], [0, 0]], [[0, 3], [0, 0]]):
        matrix = torch.tensor(rows, dtype=dtype)
        (a, b), (c, d) = matrix.tolist()
        result = jvpcli.inspect("torch.linalg.det(A)", A=matrix)
        fails = not torch.allclose(result.vjp["A"], torch.tensor([[d, -c], [-b, a]], dtype=dtype))
        claims = [(n.code, n.claim) for n in result.report.warnings]
        assert claims == [("degenerate", "formula")] * fails


UNEVEN = [  # (a function, x, the entry by which autograd's derivative is none that the function has)
    ("torch.relu(x) - torch.relu(-x)", [1.0, 0.0], 1),
    ("x.abs() * torch.sign(x)", [0.0, 2.0], 0),
    ("torch.where(x == 2, 5 * x - 8, x)", [0.0, 2.0], 1),
    ("(x.clamp(min=0) + x.clamp(max=0)).cumsum(0) * w", [0.0, 3.0], 0),
    ("torch.relu(x) - torch.relu(-x + 1e-3)", [1.0, 0.0], None),
    ("torch.relu(x) ** 2", [0.0, 1.0], None),
    ("torch.maximum(x, x)", [0.0, 1.0], None),
    ("x.sort().values.sum()", [1.0, 1.0], None),
    ("torch.mode(x).values", [1.0, 2.0, 2.0, 3.0], None),
    ("torch.where(x == 2, 7 + 0 * x, x)", [0.0, 2.0], None),
]


@pytest.mark.parametrize(("function", "x", "place"), UNEVEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_derivative_that_choices_at_kinks_make_wrong_is_told_of(function, x, place, dtype):
    """Differences in plain double precision are the judge; `jvp check`, which is pointed to, says that it is so."""
    given = {"x": x, **({"w": [2.0, 3.0]} if " w" in function else {})}
    inputs = {name: torch.tensor(value, dtype=dtype) for name, value in given.items()}
    told = [n for n in jvpcli.inspect(function, **inputs).report.warnings if n.claim == "uneven"]
    assert [n.code for n in told] == ["kink"] * (place is not None)
    if place is not None:
        assert f"by x[{place}] is not the function's at this point" in told[0].message
        assert jvpcli.check(function, **inputs).worst.input_index == (place,)

        def of(t, values=inputs):
            moved = {name: value.double().clone() for name, value in values.items()}
            moved["x"][place] += t
            return eval(function, {"torch": torch}, moved)

        slope = (of(1e-6) - of(-1e-6)) / 2e-6
        autograd = jvpcli.inspect(function, **inputs).jacobian["y", "x"][:, place].double()
        assert (autograd - slope).abs().max() > 0.1
        torch.testing.assert_close((of(1e-6) - of(0)) / 1e-6, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text", ["torch.bernoulli(p)", "torch.poisson(p)", "torch.normal(p, 1.)", "torch.normal(p[:, None], p)"])
def test_a_draw_by_what_is_differentiated_is_told_of(text):
    """Its mean follows p, by many draws; PyTorch's derivative is zero at every point, and so is the kind."""
    p, q = torch.tensor([0.2, 0.4]), torch.tensor([0.6, 0.9])
    means = [torch.stack([eval(text, {"torch": torch, "p": at}) for _ in range(4000)]).mean() for at in (p, q)]
    assert means[1] - means[0] > 0.2
    for added in (text, f"{text} + p"):
        result = jvpcli.inspect(added, p=p)
        assert [(n.code, n.claim) for n in result.report.warnings] == [("graph_break", "drawn")]
    drawn = jvpcli.inspect(text, p=p)
    assert drawn.report.jacobian["y"]["p"].structure == "zero"
    assert not drawn.vjp["p"].any()


def test_a_draw_by_a_constant_is_not_told_of():
    assert not jvpcli.inspect("torch.bernoulli(p.detach()) * p", p=torch.tensor([0.2, 0.4])).report.warnings


RESIZED = [("x[x > 1]", [1.0, 5.0]), ("torch.nonzero(x > 0) * x[0]", [0.0, 1.0]), ("x[x > 1] * 2", [0.5, 5.0])]


@pytest.mark.parametrize(("text", "x"), RESIZED)
def test_a_shape_that_changes_at_the_point_is_told_of(text, x):
    """A little beside it plain Python finds the other shape."""
    point = torch.tensor(x)
    here, *there = ({tuple(eval(text, {"torch": torch, "x": point + t}).shape)} for t in (0, -1e-5, 1e-5))
    told = [n.message for n in jvpcli.inspect(text, x=point).report.warnings if n.code == "kink"]
    others = set.union(*there) - here
    assert len(told) == len(others)
    for sentence, other in zip(told, others, strict=True):
        assert f"it is {min(here)}, and {other} with the inputs moved a little" in sentence


def once_each(s):
    z = torch.zeros(3)
    z[[2, 1, 0]] = s
    return z


def twice(s):
    z = torch.zeros(3)
    z[[1, -2, 0]] = s
    return z


WRITES = [  # (a function of three numbers, whether it writes to a place twice)
    ("torch.zeros(3).scatter(0, torch.tensor([1, 1, 0]), s)", True),
    ("torch.zeros(3).scatter(0, torch.tensor([1, 2, 0]), s)", False),
    ("torch.zeros(3).scatter_add(0, torch.tensor([1, 1, 0]), s)", False),
    ("torch.zeros(2, 3).scatter(0, torch.tensor([[0, 1, 0]]), s[None])", False),
    ("torch.zeros(2, 3).scatter(1, torch.tensor([[0, 1, 0]]), s[None])", True),
    ("torch.zeros(3).index_copy(0, torch.tensor([1, 1, 0]), s)", True),
    ("torch.zeros(3).index_put((torch.tensor([1, -2, 0]),), s)", True),
    ("torch.zeros(3).index_put((torch.tensor([1, 1, 0]),), s, accumulate=True)", False),
    ("torch.zeros(3).put(torch.tensor([1, 1, 0]), s)", True),
    ("z = torch.zeros(3, 2); z[[0, 0, 1], torch.tensor([0, 1, 0])] = s; z", False),
    ("z = torch.zeros(3); z[torch.tensor([True, False, True])] = s[:2]; z", False),
    (once_each, False),
    (twice, True),
]


@pytest.mark.parametrize(("function", "writes_twice"), WRITES)
def test_a_place_that_is_written_to_twice_is_told_of(function, writes_twice):
    """Plain Python's differences are the judge: autograd's gradient is another where a place was written to twice."""
    s, v = torch.tensor([1.0, 2, 4]), torch.arange(1.0, 7)
    result = jvpcli.inspect(function, s=s)
    claims = [(n.code, n.claim) for n in result.report.warnings]
    assert claims == [("degenerate", "overwritten")] * writes_twice

    def loss(s):
        scope = {"torch": torch, "s": s, "function": function}
        *before, last = ["function(s)"] if callable(function) else function.split("; ")
        exec("\n".join(before), scope)
        z = eval(last, scope).reshape(-1)
        return z @ v[: len(z)]

    (found,) = torch.autograd.grad(loss(leaf := s.clone().requires_grad_()), leaf)
    slopes = torch.stack([loss(s + e) - loss(s - e) for e in torch.eye(3)]) / 2
    assert torch.equal(found, slopes) is not writes_twice


def test_what_backward_passes_alone_give_as_nan_is_told_with_the_number_of_forward_mode():
    notices = jvpcli.inspect("a / b", a=torch.tensor(2.0), b=torch.tensor([1.0, 2.0, 0.0])).report.warnings
    assert [n.message for n in notices if n.claim == "finite_forward"] == [
        "2 entries of ∂y/∂a that PyTorch's own passes (a backward pass a row) give as NaN, as 0 times ∞ or NaN, are finite in "
        "forward mode: there ∂y[0]/∂a = 1"
    ]


def test_a_power_of_zero_jumps_at_zero():
    """0**y is 1 at zero, 0 above it and infinite below."""
    for text, y, jumps in (("0**y", 0.0, True), ("0**y", 1.0, False), ("2**y", 0.0, False), ("torch.zeros(2)**y", 0.0, True)):
        notices = jvpcli.inspect(text, y=torch.tensor(y)).report.warnings
        assert [n.claim for n in notices] == ["step"] * jumps
        assert jvpcli.check(text, y=torch.tensor(y)).report.verdict == ("kink" if jumps else "pass")


def test_repeated_eigenvalues_are_no_kink():
    for expression, matrix in (
        ("torch.linalg.eigh(A)[1].sum()", torch.eye(2)),
        ("torch.linalg.svd(A)[0].sum()", torch.tensor([[1.0, 2, 3], [2, 4, 6], [3, 6, 9]])),
    ):
        notices = jvpcli.inspect(expression, A=matrix.double()).report.warnings
        assert [(n.code, n.claim) for n in notices if n.code != "nonfinite"] == [("degenerate", "repeated")]
    notices = jvpcli.inspect(
        "torch.linalg.eigh(A)[1].sum()", A=torch.tensor([[1.0, 0], [0, 2]]).double()
    ).report.warnings
    assert notices == ()


# Inputs without a gradient

layer = nn.Linear(2, 1)
scale = torch.ones(3, requires_grad=True)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner.weight.sum() * 3


def around():
    hidden = torch.ones(2, 2, requires_grad=True)
    return lambda x: hidden * 2


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: layer.weight.sum() * 2, "layer.weight"),
        (lambda x: layer(torch.ones(2)), "layer.weight, layer.bias"),
        (lambda x: scale * 2, "scale"),
        (around(), "hidden"),
        (Model(), "inner.weight"),
        (lambda x: torch.ones(2, requires_grad=True) * 2, "a tensor of shape (2,)"),
    ],
)
def test_a_function_that_ignores_its_argument(function, names):
    (notice,) = jvpcli.inspect(function, inputs={"x": torch.ones(2)}).report.warnings
    assert (notice.code, notice.claim) == ("unused_input", "no_effect")
    assert "was the same at 4 other values of x: it seems not to use x" in notice.message
    assert all(f"{name}" in notice.message.partition("does reach is ")[2] for name in names.split(", "))


def test_an_imported_function_that_ignores_its_argument(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import torch\nlayer = torch.nn.Linear(2, 2)\ndef net(x):\n    return (layer.weight * 2).sum()\n")
    (notice,) = jvpcli.inspect("net(x) + w", x=[1, 2], w=1.0, imports=[str(file)]).report.warnings
    assert notice.claim == "no_effect"
    assert notice.message.endswith("it seems not to use x; what its graph does reach is layer.weight")


@pytest.mark.parametrize(
    ("expression", "code", "claim"),
    [
        ("x.detach().sum() + w", "graph_break", "cut"),
        ("float(x[0]) * w", "graph_break", "cut"),
        ("w[x.argmax()]", "graph_break", "cut"),
        ("(x > 100).float() * w", "graph_break", "cut"),
        ("x.shape[0] * w", "unused_input", "shape_only"),
        ("torch.zeros_like(x) + w", "unused_input", "shape_only"),
        ("w * 2", "unused_input", "no_path"),
        ("x.sum() if w.sum() > 1e9 else w", "unused_input", "no_path_here"),
    ],
)
def test_what_is_said_of_an_input_that_no_gradient_reaches(expression, code, claim):
    point = {"x": torch.tensor([1.0, 3.0]), "w": torch.tensor([2.0, 5.0])}
    text = expression if "x" in expression else f"({expression}, x)"
    notices = [
        n
        for n in jvpcli.inspect(text, inputs=point).report.warnings
        if "y0/∂w" not in n.message and "y1" not in n.message
    ]
    assert [(n.code, n.claim) for n in notices] == [(code, claim)]
    if claim == "cut":
        there = {**point, "x": torch.tensor([200.0, -3.0])}
        values = [eval(expression, {"torch": torch, **p}) for p in (point, there)]
        assert not torch.equal(*values)


def test_what_is_to_be_said_of_many_pairs_is_said_at_once():
    """Three pairs and more are named in one sentence; the function runs at other values of an input once for all outputs."""
    names = "abcdef"
    point = {name: torch.tensor([1.0, 2.0]) for name in names}
    text = f"({', '.join(f'{name} ** 2' for name in names * 2)}, torch.zeros_like(a) + b)"
    first, second = jvpcli.inspect(text, inputs=point).report.warnings
    assert (first.code, first.claim, second.claim) == ("unused_input", "no_path", "shape_only")
    assert first.message == (
        "∂(y0, y6)/∂(b, c, d, e, f), ∂(y1, y7)/∂(a, c, d, e, f), ∂(y2, y8)/∂(a, b, d, e, f), ∂(y3, y9)/∂(a, b, c, e, f), "
        "∂(y4, y10)/∂(a, b, c, d, f), ∂(y5, y11)/∂(a, b, c, d, e), ∂y12/∂(c, d, e, f) are zero because these inputs don't "
        "reach these outputs"
    )
    assert second.message == "∂y12/∂a is zero: y12 is computed from the shape of a, not from its numbers"


def test_a_function_runs_at_other_values_of_an_input_once_for_all_outputs():
    calls = []

    def function(x, w, count=7):
        calls.append(x)
        return (*[k * w for k in range(1, count + 1)], x.detach() * w)

    jvpcli.inspect(function, x=torch.ones(2), w=torch.ones(2), count=1)
    once, calls[:] = len(calls), []
    first, second = jvpcli.inspect(function, x=torch.ones(2), w=torch.ones(2)).report.warnings
    assert first.claim == "no_effect"
    assert first.message.endswith("at 4 other values of each: they seem not to use them: ∂(y0, y1, y2, y3, y4, y5, y6)/∂x")
    assert (second.code, second.claim) == ("graph_break", "cut")
    assert len(calls) == once


def test_samples_are_coupled_only_if_the_gradient_of_one_reaches_another(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Unused(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.norm = nn.BatchNorm1d(2)\n"
        "    def forward(self, x):\n        return x * 2\n"
        "unused = Unused()\n"
    )
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [2.0, 7.0]])
    assert jvpcli.inspect("unused(x)", x=x, imports=[str(file)]).report.warnings == ()
    notices = jvpcli.inspect("F.batch_norm(x, None, None, training=True) ** 2", x=x).report.warnings
    assert [n.claim for n in notices] == ["coupled"]


@pytest.mark.parametrize(
    ("expression", "x", "place"),
    [
        ("torch.floor(x) + x", [1.0, 2.5], "x[0] = 1"),
        ("x % 2 + x**2", [0.5, 2.0], "x[1] = 2"),
        ("(x > 1) * 2 + x", [2.5, 1.0], "x[1] = 1"),
        ("torch.where(x > 1, x + 3, x).sum()", [1.0, 2.0], "x[0] = 1"),
        ("torch.sign(x) * 3 + x", 0.0, "x = 0"),
        ("F.hardshrink(x, 1.0)", [1.0, 2.0], "x[0] = 1"),
        ("torch.atan2(x[0], x[1])", [0.0, -1.0], "x[0] = 0"),
        ("torch.atan2(x[0], x[1])", [0.0, 1.0], None),
        ("torch.linalg.pinv(torch.diag(x))", [1.0, 0.0], "x[1] = 0"),
        ("torch.linalg.pinv(torch.diag(x))", [1.0, 2.0], None),
        ("torch.log(x)", [1j, -1 + 0j], "x[1] = -1"),
        ("torch.log(x).real", [1j, -1 + 0j], None),
        ("torch.angle(x)", -2 + 0j, "x = -2"),
        ("torch.acos(x)", [0.5 + 0j], None),
        ("torch.floor(x) + x", [1.5, 2.5], None),
        ("torch.where(x > 1, x, 1 + 0 * x)", [2.0, 3.0], None),
        ("(x > 1) * 0 + x", [1.0, 2.0], None),
    ],
)
def test_a_jump_that_leaves_the_derivative_as_it_is_is_told(expression, x, place):
    said = [notice.message for notice in jvpcli.inspect(expression, x=torch.tensor(x)).report.warnings if notice.code == "kink"]
    sentence = "there is a jump at {}: a little to its two sides the outputs themselves differ"
    assert said == ([] if place is None else [sentence.format(place)])


@pytest.mark.parametrize(("x", "y", "place"), [(0.0, 0.0, "y = 0"), ([2.0, 0.0], [0.0, 0.0], "y[1] = 0"), (0.0, 1.5, None)])
def test_a_power_of_zero_jumps_where_the_exponent_alone_is_moved(x, y, place):
    """0**0 is 1, as all numbers beside it are to the power of what is beside it, and 0**1e-9 is 0."""
    told = jvpcli.inspect("x**y", x=torch.tensor(x), y=torch.tensor(y)).report.warnings
    sentence = f"there is a jump at {place}: a little to its two sides the outputs themselves differ"
    assert [notice.message for notice in told if notice.code == "kink"] == ([] if place is None else [sentence])


def test_a_trace_tells_of_outputs_that_are_not_finite():
    """Where the gradient is finite, no finding does."""
    report = jvpcli.trace("torch.log(x - 5)", x=torch.tensor([1.0, 6.0])).report
    assert not report.findings
    assert [notice.message for notice in report.warnings] == ["1 of 2 entries of y is not finite, the first y[0] = nan"]
    told = jvpcli.trace("torch.log(x).sum()", x=torch.tensor([0.0, 6.0])).report
    assert told.findings
    assert not told.warnings


LOSSES = [
    ("((x @ w) - y).square().mean()", True),
    ("(y - x @ w).abs().sum()", True),
    ("torch.mul(x @ w, y).logsumexp((0, 1))", True),
    ("((x @ w).squeeze(-1) - y).square().mean()", False),
    ("((x @ w) - y[:, None]).square().mean()", False),
    ("(x @ w) - y", False),
    ("(y[:, None] - y).square().sum() + (x @ w).sum()", False),
    ("((x @ w)[:1] - y[:1]).square().mean()", False),
]


@pytest.mark.parametrize(("loss", "said"), LOSSES)
def test_a_column_that_meets_a_row_is_told(loss, said):
    """Only on the way to single numbers, and not where the text makes the column of a row itself."""
    given = {"x": torch.rand(3, 2), "w": torch.rand(2, 1), "y": torch.rand(3)}
    found = [n.message for n in jvpcli.inspect(loss, **given).report.warnings if n.code == "crossed"]
    assert len(found) == said
    for message in found:
        assert "broadcasts the shapes (3, 1) and (3,) to (3, 3): each entry of the one meets every entry of the other" in message
