"""What is said of a gradient of zero, refuted or not by torch itself: at the point, around it, and at random points."""

from __future__ import annotations

import pytest
import torch

from jvpcli.answers.trace import trace
from jvpcli.request import Request

POINTS = 20


def tensor(text, dtype=torch.float64):
    rows = [[float(part) for part in row.split(",") if part] for row in text.split(";")]
    if ";" in text:
        return torch.tensor(rows, dtype=dtype)
    return torch.tensor(rows[0] if "," in text else rows[0][0], dtype=dtype)


def gradient(expression, points, name):
    """∂(sum)/∂name by Python running the text."""
    leaves = {key: x.clone().requires_grad_() for key, x in points.items()}
    *statements, last = expression.split("; ")
    scope = {"torch": torch, "F": torch.nn.functional, **leaves}
    for statement in statements:
        exec(statement, scope)
    (found,) = torch.autograd.grad(eval(last, scope).sum(), [leaves[name]], allow_unused=True)
    return torch.zeros_like(leaves[name]) if found is None else found


def value(expression, points):
    return float(eval(expression, {"torch": torch, "F": torch.nn.functional, **points}).sum())


def random_points(points, seed):
    generator = torch.Generator().manual_seed(seed)
    size = (0.3, 1.0, 8.0)[seed % 3]
    return {key: size * torch.randn(x.shape, generator=generator, dtype=x.dtype) for key, x in points.items()}


def claims(expression, dtype="float64", **inputs):
    return trace(Request(expression, inputs, dtype=dtype)).findings


BY_VALUE = [
    # expression, inputs, the input whose gradient is zero, the one whose value makes it so
    ("x * w", {"x": "0", "w": "3"}, "w", "x"),
    ("x * w", {"x": "0,0;0,0", "w": "3,4"}, "w", "x"),
    ("torch.atan2(a, b)", {"a": "0", "b": "1"}, "b", "a"),
    ("torch.atan2(a, b)", {"a": "0,0", "b": "-1,2"}, "b", "a"),
    ("torch.lerp(a, b, t)", {"a": "1,2", "b": "1,2", "t": "0.3"}, "t", "a"),
    ("torch.tanh(x) @ W", {"x": "1,2", "W": "0,0;0,0"}, "x", "W"),
    ("torch.where(x > 0, x, w)", {"x": "-1,-2", "w": "3,4"}, "x", "x > 0"),
    ("torch.where(x > 0, x, w)", {"x": "1,2", "w": "3,4"}, "w", "x > 0"),
    ("F.linear(x, W, b)", {"x": "0,0", "W": "1,2;3,4", "b": "1,2"}, "W", "x"),
    ("torch.addcmul(a, b, c)", {"a": "1,2", "b": "0,0", "c": "3,4"}, "c", "b"),
    ("F.prelu(x, w)", {"x": "1,2", "w": "0.2,"}, "w", "x"),
    ("torch.xlogy(x, w)", {"x": "0,0", "w": "2,3"}, "w", "x"),
    ("x.dot(w)", {"x": "0,0", "w": "1,2"}, "w", "x"),
    ("torch.pow(x, w)", {"x": "1,1", "w": "2,3"}, "w", "x"),
]


@pytest.mark.parametrize(("expression", "inputs", "zero", "because"), BY_VALUE)
def test_a_zero_because_of_another_value_is_not_called_structural(expression, inputs, zero, because):
    points = {name: tensor(text) for name, text in inputs.items()}
    assert not gradient(expression, points, zero).any()
    assert any(gradient(expression, random_points(points, seed), zero).abs().sum() > 0 for seed in range(POINTS))
    found = claims(expression, **inputs)
    assert [f.reason for f in found if f"because of the value of {because} here" in f.message] == ["value"]
    assert not any("(structural)" in f.message for f in found if f.claim not in ("graph_cut", "all_cut"))


STRUCTURAL = [
    ("x[:2].sum()", {"x": "1,2,3"}, "unused"),
    ("torch.tril(x)", {"x": "1,2;3,4"}, "unused"),
    ("x * 0", {"x": "1,2"}, "unused"),
    ("x * torch.tensor([0., 1.])", {"x": "1,2"}, "unused"),
    ("torch.where(torch.tensor([True, False]), x, w)", {"x": "1,2", "w": "3,4"}, "unused"),
    ("x[torch.tensor([1, 1])]", {"x": "1,2"}, "unused"),
    ("y = x * 1; y[0] = 5.; y", {"x": "1,2"}, "unused"),
    ("x ** 0", {"x": "1,2"}, "unused"),
    ("torch.lerp(x, x, w)", {"x": "1,2", "w": "3,4"}, "unused"),
    ("torch.floor(x)", {"x": "1.5,2"}, "piecewise"),
    ("x.sign() * 3", {"x": "1.5,0"}, "piecewise"),
    ("torch.div(x, 2, rounding_mode='floor')", {"x": "1.5,2"}, "piecewise"),
    ("torch.trunc(x * x)", {"x": "1.5,2"}, "piecewise"),
    ("x.shape[0] * w", {"x": "1,2", "w": "3,4"}, "shape_only"),
    ("torch.ones_like(x) * w", {"x": "1,2", "w": "3,4"}, "shape_only"),
    ("x.detach() * w", {"x": "1,2", "w": "3,4"}, "graph_cut"),
    ("w * x.argmax()", {"x": "1,2", "w": "3,4"}, "all_cut"),
]


@pytest.mark.parametrize(("expression", "inputs", "claim"), STRUCTURAL)
def test_what_is_called_structural_is_zero_at_random_points(expression, inputs, claim):
    points = {name: tensor(text) for name, text in inputs.items()}
    zero = {name: gradient(expression, points, name) == 0 for name in points}
    for seed in range(POINTS):
        there = random_points(points, seed)
        assert not any((gradient(expression, there, name)[zero[name]] != 0).any() for name in points)
    assert claim in {finding.claim for finding in claims(expression, **inputs) if finding.reason == "structural"}


NOT_STRUCTURAL = [
    ("x[x.argmax()] * w", {"x": "1,3", "w": "3"}, "unused_here"),
    ("x * w.item()", {"x": "1,3", "w": "0"}, "unused_here"),
    ("x.clamp(1e-9, 2e-9)", {"x": "1,3"}, "tried"),
    ("x.clamp(max=-1e6)", {"x": "1,3"}, "unused_here"),
    ("x * 2 if x.sum() > 0 else w", {"x": "1,3", "w": "1,2"}, "no_path_here"),
    ("[x, w][int(x[0])]", {"x": "0,3", "w": "1,2"}, "no_path_here"),
    ("torch.norm(x, p=0) * w", {"x": "1,3", "w": "1,2"}, "none_passed"),
    ("torch.norm(x, -float('inf')) * w", {"x": "0,0", "w": "1,2"}, "jump"),
    ("x.copysign(w)", {"x": "1,3", "w": "1,2"}, "tried"),
    ("F.dropout(x, 0.5)", {"x": "1,2,3,4"}, "random"),
]


@pytest.mark.parametrize(("expression", "inputs", "claim"), NOT_STRUCTURAL)
def test_what_the_operations_do_not_prove_is_said_of_the_point(expression, inputs, claim):
    found = claims(expression, **inputs)
    assert claim in {finding.claim for finding in found}
    assert not any("(structural)" in f.message for f in found if f.claim not in ("graph_cut", "all_cut"))


BENT = [
    # expression, inputs, the claim, the entry that is named
    ("x.abs()", {"x": "1,0"}, "kink", 1),
    ("torch.relu(x) * 3", {"x": "0,-1"}, "kink", 0),
    ("torch.linalg.norm(x)", {"x": "0,0"}, "kink", 0),
    ("x.max(0)[0]", {"x": "2,2"}, "kink", 1),
    ("x.clamp(0, 1)", {"x": "-1,0.5,1"}, "saturated", 0),
    ("x ** 2", {"x": "0,1"}, "stationary", 0),
    ("torch.outer(x, x)", {"x": "0,0"}, "stationary", 0),
    ("x * x", {"x": "0,1"}, "stationary", 0),
    ("x ** 1.1", {"x": "0,1"}, "stationary", 0),
    ("torch.where(x == 0, 0 * x, x)", {"x": "0,1"}, "value", 0),
    ("F.softshrink(x, 0.0)", {"x": "0,1"}, "jump", 0),
    ("x.max()", {"x": "1,3,2"}, "saturated", 0),
    ("torch.sort(x)[0][1:]", {"x": "1,3,2"}, "unused", 0),
    ("torch.relu(x)", {"x": "-1e-9,1"}, "saturated", 0),
    ("F.hardtanh(x)", {"x": "1.0005,0"}, "saturated", 0),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("expression", "inputs", "claim", "entry"), BENT)
def test_around_the_point(expression, inputs, claim, entry, dtype):
    found = [f for f in claims(expression, dtype=dtype, **inputs) if f.claim == claim]
    assert len(found) == 1
    points = {name: tensor(text) for name, text in inputs.items()}
    step = 1e-6
    sides = []
    for sign in (-1, 1):
        there = points["x"].clone()
        there[entry] += sign * step * max(abs(float(there[entry])), 1e-9 if claim == "saturated" else 1)
        sides.append((value(expression, {"x": there}) - value(expression, points)) / (sign * step))
    if claim == "kink":
        assert f"x[{entry}] = " in found[0].message
        assert abs(sides[1] - sides[0]) > 0.5
    if claim == "saturated":
        assert f"x[{entry}] = " in found[0].message
        assert sides == [0.0, 0.0]
    if claim == "stationary":
        assert not abs(sides[1]) > 0.5


def test_of_many_entries_that_tie_each_has_a_kink():
    """Few are the largest in a few random directions, and each is when it alone is moved."""
    (found,) = claims("x.max(0).values", x=",".join(["1"] * 20))
    assert found.claim == "kink"
    assert "(19 of 20 entries)" in found.message


def test_what_only_rounds_to_zero_is_not_called_flat():
    (finding,) = claims("torch.tanh(x)", dtype="float32", x="10,")
    assert finding.claim == "rounded"
    assert gradient("torch.tanh(x)", {"x": tensor("10,")}, "x").item() > 0
    (finding,) = claims("x * x * 1e-30 * 1e-30", dtype="float32", x="1,3")
    assert finding.claim == "underflow"


def test_a_cotangent_that_is_given_may_cancel_what_flows_back():
    request = Request("y = x * 2; z = y * 3; (y, z)", {"x": "1,2"}, grad_outputs=(("y", "-3,-3"), ("z", "1,1")))
    (finding,) = trace(request).findings
    assert finding.claim == "cancelled_given"


def test_only_the_steps_that_take_part_cancel():
    (finding,) = [f for f in claims("x.sin() * 0 + x - x * 1", x="1,2,3") if f.claim == "cancelled_sum"]
    assert "steps 3 and 4" in finding.message or "steps 2 and 3" in finding.message


@pytest.mark.parametrize(
    "inputs", [{"x": "torch.zeros(0)"}, {"x": "torch.zeros(())"}, {"x": "torch.zeros(2, dtype=torch.complex64)"}]
)
def test_odd_shapes_and_dtypes(inputs):
    for expression in ("x * x", "x.abs()", "x * 0", "(x * x.detach())"):
        for finding in claims(expression, **inputs):
            assert finding.claim


LEAPS = [
    # expression, inputs, the input whose gradient is zero, the entry where the value jumps
    ("torch.atan2(a, b)", {"a": "0", "b": "0"}, "a", "a = 0"),
    ("torch.sign(x)", {"x": "-1,0,2"}, "x", "x[1] = 0"),
    ("torch.floor(x)", {"x": "1.5,2"}, "x", "x[1] = 2"),
    ("torch.trunc(x) * 3", {"x": "-3,0.5"}, "x", "x[0] = -3"),
]


@pytest.mark.parametrize(("expression", "inputs", "name", "where"), LEAPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_the_value_jumps_no_derivative_is_claimed(expression, inputs, name, where, dtype):
    points = {key: tensor(text) for key, text in inputs.items()}
    entry = int(where[where.index("[") + 1]) if "[" in where else 0
    sides = []
    for step in (-1e-9, 1e-9):
        there = points[name].clone()
        there.view(-1)[entry] += step
        sides.append(value(expression, {**points, name: there}))
    assert abs(sides[1] - sides[0]) > 0.5
    found = [f for f in claims(expression, dtype=dtype, **inputs) if f" at {where}" in f.message]
    assert [(f.claim, f.reason) for f in found] == [("leap", "kink")]
    assert "its value jumps there, so that it has no derivative, and PyTorch gives 0" in found[0].message


@pytest.mark.parametrize(
    ("expression", "x"), [("torch.tanh(x)", "10"), ("torch.sigmoid(x)", "18"), ("torch.special.expit(x)", "20")]
)
def test_what_is_lost_to_rounding_is_not_called_too_small(expression, x):
    (in_double,) = gradient(expression, {"x": tensor(x)}, "x").reshape(-1)
    assert in_double > 100 * torch.finfo(torch.float32).tiny  # float32 has numbers as small as that
    (found,) = claims(expression, dtype="float32", x=x)
    assert found.claim == "rounded"
    assert "its derivative there rounds to 0 in float32, and in double precision is not 0" in found.message


@pytest.mark.parametrize("width", [2, 3, 4, 5, 7])
def test_a_mean_does_not_cancel_what_is_drawn_at_random(width):
    """Each entry of the derivative of a normalisation at equal numbers is other than 0, and the sum of a row is 0."""
    (found,) = claims(f"F.layer_norm(x, ({width},))", dtype="float32", x=",".join(["2"] * width))
    assert found.claim == "cancelled"
    assert "at x[0] = 2" in found.message


BEFORE = [
    # expression, inputs, the steps that make a zero of what arrives; none of those that a zero has come to
    ("(x.norm() - 1).abs()", {"x": "0,1"}, [2]),
    ("x.norm()**2", {"x": "0,0"}, [1]),
    ("torch.tanh(x @ W1) @ W2", {"x": "1,2", "W1": "1,2;3,40", "W2": "0,0"}, [2]),
    ("torch.relu(x) * m", {"x": "-1,2,-3", "m": "0,0,1"}, [0, 1, 1]),
    ("torch.relu(x).pow(3)", {"x": "0,-1,2"}, [1]),
    ("torch.relu(x).cumsum(0)[0] * 0.5", {"x": "1,-2"}, [2]),
]


@pytest.mark.parametrize(("expression", "inputs", "steps"), BEFORE)
def test_a_step_that_a_zero_comes_to_does_not_make_it(expression, inputs, steps):
    report = trace(Request(expression, inputs, dtype="float64"))
    found = [finding for finding in report.findings if finding.code == "zero"]
    assert [finding.step for finding in found] == steps, found
