"""`check`: the right verdict where the answer is known, with the entry and both numbers; no alarm where all is well."""

from __future__ import annotations

import math

import pytest
import torch
from changed_backwards import with_backward
from hypothesis import given, settings
from hypothesis import strategies as st

import jvpcli
from jvpcli.errors import EvaluationError, NotDifferentiableError
from jvpcli.gradcheck.differences import Line, estimate, quick
from jvpcli.gradcheck.vectors import Layout, RealFunction
from jvpcli.problem import Problem
from many_functions import FUNCTIONS, inputs_for

OWN_CODE = '''
import random

import torch
from torch import nn


class Factor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * g


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.cos(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.sin(x) * g


class Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g @ b, a.T @ g


class Missing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sum()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.sum()


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return 2 * g / max(1.0, float(g.norm()))


class WrongJvp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return x * t


class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


factor, wrong_sign, transposed, missing = Factor.apply, Sign.apply, Transposed.apply, Missing.apply
clipped, wrong_jvp, right = Clipped.apply, WrongJvp.apply, Right.apply
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def single_precision(x):
    return weight @ x


def noisy(x):
    return x * random.random()


def detached_inside(x):
    y = x * 2
    z = y.detach()
    return y * z


def without_grad(x):
    with torch.no_grad():
        total = x.sum()
    return x * total


def wrong_and_detached(x):
    return factor(x) * (x**2).detach()


def quantised(x):
    return torch.round(x * 4) / 4 + 0 * x
'''


@pytest.fixture(scope="module")
def own_code(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN_CODE)
    return str(path)


def check(expression, own_code=None, seed=None, **inputs):
    """The check, with VALUEs as on the command line."""
    used = any(f"{name}(" in expression for name in _names_of(OWN_CODE))
    return jvpcli.check(expression, inputs, seed=seed, imports=[own_code] if used else ())


def _names_of(code):
    scope: dict = {}
    exec(code, scope)
    return [name for name, value in scope.items() if callable(value) and not name.startswith("_")]


RIGHT = [
    ("torch.outer(x, x)", {"x": "1,2,3,4"}),
    ("F.softmax(x, 0)", {"x": "1,2,3"}),
    ("torch.relu(x)", {"x": "-1,2"}),
    ("torch.relu(x)", {"x": "-1,-2"}),
    ("torch.where(x > 0, x, 0 * x)", {"x": "-1,-2"}),
    ("x * (x > 0)", {"x": "-1,2"}),
    ("x[x.argmax()]", {"x": "1,5,2"}),
    ("x / len(x) * x.shape[0]", {"x": "1,5,2"}),
    ("x - torch.floor(x)", {"x": "1.2,2.7"}),
    ("F.softmax(x - x.max().detach(), 0)", {"x": "1,2,3"}),
    ("torch.sort(x)", {"x": "1,5,2"}),
    ("x.cumprod(0)", {"x": "1,0,2"}),
    ("F.dropout(x, training=False)", {"x": "1,5,2"}),
    ("torch.linalg.cholesky(x)", {"x": "2,1;1,3"}),
    ("torch.linalg.eigvalsh(x)", {"x": "2,1;1,3"}),
    ("torch.abs(x)", {"x": "1+2j,3-1j"}),
    ("torch.fft.rfft(x)", {"x": "1,2,3"}),
    ("x**1.5", {"x": "0,4"}),
    ("torch.log(x)", {"x": "1e-12,4"}),
    ("torch.cos(x) + 5", {"x": "1e-12"}),
    ("torch.sin(1000 * x)", {"x": "1.3"}),
    ("torch.sqrt(x**2 + 1e-12)", {"x": "0,1"}),
    ("x.float()", {"x": "torch.tensor([0.1, 0.7], dtype=torch.float64)"}),
    ("x.half()", {"x": "0.1,0.7"}),
    ("x.sum()", {"x": "[]"}),
    ("x.sum(1)", {"x": "torch.ones(2, 0)"}),
    ("x**2", {"x": "3"}),
    ("W[torch.tensor([2, 0, 0])] * x", {"W": "1;2;3", "x": "4,5"}),
    ("right(x)", {"x": "1,2"}),
    ("net(x)", {"x": "1,2"}),
    ("single_precision(x)", {"x": "1,2"}),
]


@pytest.mark.parametrize(("expression", "inputs"), RIGHT)
def test_right_ones_pass(own_code, expression, inputs):
    result = check(expression, own_code, **inputs)
    assert (result.verdict, result.passed, bool(result)) == ("pass", True, True), result
    if result.worst is not None:
        assert result.worst.numeric == pytest.approx(result.worst.analytic, rel=0.02, abs=1e-6)


KINKS = [
    # expression, inputs, place of the entry, autograd's choice, the one-sided derivatives
    ("torch.relu(x)", {"x": "2,0"}, (1,), (1,), 0, (0, 1)),
    ("torch.abs(x)", {"x": "0,2"}, (0,), (0,), 0, (-1, 1)),
    ("x.max()", {"x": "1,2,2"}, (), (1,), 0.5, (0, 1)),
    ("torch.clamp(x, 0, 1)", {"x": "0.5,1"}, (1,), (1,), 1, (1, 0)),
    ("x.norm()", {"x": "0,0"}, (), (0,), 0, (-1, 1)),
    ("torch.maximum(x, w)", {"x": "1,3", "w": "0,3"}, (1,), (1,), 0.5, (0, 1)),
    ("x if x > 0 else -x", {"x": "0"}, (), (), -1, (-1, 1)),
    # exp(x) - 1 is exactly 0 from 1e-16 on, which is a rounding and no side of the function
    ("torch.where(x > 0, x, 2*(torch.exp(x) - 1))", {"x": "0,1"}, (0,), (0,), 2, (2, 1)),
    ("torch.where(x < 0, x, 3*torch.log(1 + x))", {"x": "0,1"}, (0,), (0,), 3, (1, 3)),
    ("torch.where(x < 0, -x, torch.cos(x) - 1)", {"x": "1,0"}, (1,), (1,), 0, (-1, 0)),
]


@pytest.mark.parametrize(("expression", "inputs", "row", "column", "choice", "sides"), KINKS)
def test_kinks(expression, inputs, row, column, choice, sides):
    result = check(expression, **inputs)
    assert (result.verdict, result.passed) == ("kink", False)
    worst = result.worst
    assert (worst.output_index, worst.input_index) == (row, column)
    assert worst.analytic == choice
    assert (worst.below, worst.above) == pytest.approx(sides, abs=1e-8)


TIED = [
    ("x.median()", 3),
    ("x.sort().values", 5),
    ("x.kthvalue(2).values", 3),
    ("torch.quantile(x, 0.5)", 3),
    ("x.topk(3).values", 40),
]


@pytest.mark.parametrize(("expression", "size"), TIED)
def test_ties_of_which_no_input_alone_shows_a_kink(expression, size):
    """The middle one of equal numbers stays when any of them moves, and moves when all do: its slopes do not add up."""
    tied, apart = torch.full((size,), 1.5, dtype=torch.float64), 2.0 ** -torch.arange(size, dtype=torch.float64)
    function = eval(f"lambda x: {expression}", {"torch": torch})
    result = jvpcli.check(expression, x=tied)
    assert result.verdict == "kink"
    assert "right beside this point the derivatives of the output jump, between 0 and 1" in str(result)
    assert jvpcli.check(expression, x=apart).passed
    assert jvpcli.check(with_backward(function, lambda g: 1.5 * g), x=tied).verdict == "wrong_backward"
    assert jvpcli.check(with_backward(function, lambda g: g / 2), x=tied).verdict == "wrong_backward"


@pytest.mark.parametrize(
    ("expression", "values", "entries"),
    [
        ("torch.softmax(x, 0)", [1e30, 1e30], 4),
        ("torch.logsumexp(x, 0)", [1e30, 1e30], 2),
        ("torch.fmod(x, 1)", [3e38], 1),
        ("torch.sin(x)", [-1e20], 1),
        ("torch.sigmoid(x - 1e20)", [1e20], 1),
    ],
)
def test_what_happens_between_two_numbers_is_not_tested(expression, values, entries):
    result = jvpcli.check(expression, x=torch.tensor(values, dtype=torch.float64))
    assert (result.verdict, result.report.comparisons[0].agrees) == ("pass", None)
    assert "passed, but nothing was tested here" in str(result)
    assert [notice.message for notice in result.report.warnings] == [
        f"{entries} {'entry' if entries == 1 else 'entries'} could not be tested here: the numbers around x[0] = {values[0]:g} "
        f"stand {math.ulp(values[0]):.2g} apart, and no difference sees what the function does between them"
    ]


def test_numbers_far_apart_are_no_excuse():
    """A function of the numbers themselves is tested however large they are, and fast waves by the numbers next to them."""
    for value in (1e12, 1e14):
        assert check("torch.sin(x)", x=value).report.comparisons[0].agrees
    for value in (1e20, 3e38):
        for function in (lambda x: 2 * x, torch.sqrt, lambda x: (x / 1e20) ** 2):
            wrong = with_backward(function, lambda g: 1.001 * g)
            assert jvpcli.check(wrong, x=torch.tensor(value, dtype=torch.float64)).verdict == "wrong_backward"
    far = torch.tensor(0.83e6, dtype=torch.float64)
    assert jvpcli.check(with_backward(torch.sin, lambda g: 1e12 * g), x=far).verdict == "wrong_backward"


def _at_ties(part):
    """A gradient that is changed where the first two entries are the same."""
    return lambda x, g: torch.where(x[0] == x[1], g * torch.tensor(part, dtype=g.dtype), g)


@pytest.mark.parametrize(
    ("function", "change", "point", "right"),
    [
        (lambda x: x[:3].median() + x[3] / 2, _at_ties([1.0, 1, 1, 0]), [1.0, 1, 1, 2], "kink"),
        (lambda x: torch.maximum(x[0], x[1]) + x[2] / 2, _at_ties([1.0, 1, 0]), [1.0, 1, 2], "kink"),
        (lambda x: x[:3].sort().values * x[3], _at_ties([1.0, 1, 1, 0.5]), [1.0, 1, 1, 2], "kink"),
        (torch.median, _at_ties([3.0, 3, 3]), [2.0, 2, 2], "kink"),
        (torch.median, _at_ties([-1.0, -1, -1]), [2.0, 2, 2], "kink"),
        (torch.square, lambda x, g: g * (x > 1), [1.0], "pass"),
        (torch.square, lambda x, g: g * (x > 1), [1.0, 1, 1], "pass"),
        (torch.sin, lambda x, g: 1.01 * g, [1e14], "pass"),
        (lambda x: torch.sin(1e12 * x), lambda x, g: 1.5 * g, [1.0], "pass"),
        (lambda x: torch.logsumexp(x, 0), lambda x, g: 1.01 * g, [1e10, 1e10], "pass"),
        (lambda x: (x**2).sum(), lambda x, g: g + (torch.arange(2000) == 77), [1.0] * 2000, "pass"),
    ],
)
def test_no_tie_and_no_fast_wave_excuses_a_wrong_gradient(function, change, point, right):
    x = torch.tensor(point, dtype=torch.float64)
    wrong = with_backward(function, lambda g, x=x: change(x, g))
    assert jvpcli.check(function, x=x).verdict == right
    assert jvpcli.check(wrong, x=x).verdict == "wrong_backward"


STEEP = [
    # expression, inputs, the one-sided derivatives to x[0] of y[0]
    ("torch.relu(x)**0.5", {"x": "0,1"}, (0, torch.inf)),
    ("torch.relu(x).pow(0.1)", {"x": "0,1"}, (0, torch.inf)),
    ("torch.relu(x - 1)**0.5", {"x": "1,2"}, (0, torch.inf)),
    ("x.abs().pow(1/3)", {"x": "0,1"}, (-torch.inf, torch.inf)),
    ("torch.xlogy(x.abs(), x.abs())", {"x": "0,1"}, (torch.inf, -torch.inf)),
]


@pytest.mark.parametrize(("expression", "inputs", "sides"), STEEP)
def test_a_derivative_without_bound_does_not_pass(expression, inputs, sides):
    """Differences tell it: those over ever smaller steps grow, as the root or the logarithm of the step does."""
    result = check(expression, **inputs)
    assert (result.verdict, result.passed) == ("kink", False)
    worst = result.worst
    assert (worst.output_index, worst.input_index) == ((0,), (0,))
    assert (worst.below, worst.above) == sides


def test_kinks_on_the_way_are_named():
    result = check("torch.relu(x) - torch.relu(-x)", x="0,1")
    assert result.verdict == "kink"
    assert result.report.step.source == "torch.relu(x)"
    assert (result.worst.analytic, result.worst.numeric) == (0, pytest.approx(1))
    assert check("torch.sqrt(x)", x="0,4").verdict == "kink"
    assert check("torch.relu(x)", x="1e-7,1e-9,1e-3").verdict == "pass"


PRECISION = [
    ("(1 - torch.cos(x)) / x**2", {"x": "1e-4"}, lambda x: (x * math.sin(x) - 2 * (1 - math.cos(x))) / x**3),
    ("torch.exp(x) / (1 + torch.exp(x))", {"x": "100"}, lambda x: 0.0),
    ("torch.log(1 + torch.exp(x))", {"x": "100"}, lambda x: 1.0),
    ("torch.sqrt(x * x + 1) - x", {"x": "1e5"}, lambda x: -1 / (2 * x**2)),
]


@pytest.mark.parametrize(("expression", "inputs", "derivative"), PRECISION)
def test_precision(expression, inputs, derivative):
    result = check(expression, **inputs)
    assert result.verdict == "precision"
    point = float(torch.tensor(float(inputs["x"])))
    assert result.worst.numeric == pytest.approx(derivative(point), rel=0.05, abs=1e-12)
    double = jvpcli.check(expression, inputs, dtype="float64")
    assert double.passed


BREAKS = [
    # expression, inputs, the step, place of the entry, autograd's number, the differences'
    ("x * x.detach()", {"x": "1,2"}, "x.detach()", (1,), (1,), 2, 4),
    ("x.detach()", {"x": "3,"}, "x.detach()", (0,), (0,), 0, 1),
    ("x * x.sum().item()", {"x": "1,2"}, "x.sum().item()", (1,), (0,), 0, 2),
    ("torch.tensor([x[0], x[1]]) * x", {"x": "1,2"}, "torch.tensor([x[0], x[1]])", (1,), (1,), 2, 4),
    ("float(x[0]) * x", {"x": "3,-2"}, "float(x[0])", (0,), (0,), 3, 6),
    ("x.tolist()[1] * x", {"x": "1,2"}, "x.tolist()", (1,), (1,), 2, 4),
    ("y = x.detach(); x + 3 * y", {"x": "1,"}, "x.detach()", (0,), (0,), 1, 4),
    ("x + (torch.round(x) - x).detach()", {"x": "1.2,"}, "(torch.round(x) - x).detach()", (0,), (0,), 1, 0),
    ("x.long() * x", {"x": "1.5,"}, "x.long()", (0,), (0,), 1, 2.5),
    ("x.to(torch.int32).float()", {"x": "1.2,"}, "x.to(torch.int32)", (0,), (0,), 0, 1),
    ("int(x[0]) * x", {"x": "1.5,"}, "int(x[0])", (0,), (0,), 1, 2.5),
    ("(x > 0).float()", {"x": "3,"}, "x > 0", (0,), (0,), 0, 1 / 8),
    ("x > 0", {"x": "3,"}, "x > 0", (0,), (0,), 0, 1 / 8),
    ("torch.where(x > 0, torch.sqrt(x), 0 * x)", {"x": "-1,1"}, "torch.where(x > 0, torch.sqrt(x), 0 * x)", (0,), (0,),
     math.nan, 0),
    ("(x.detach() * 2, x * 2)", {"x": "1,"}, "x.detach()", (0,), (0,), 0, 2),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "inputs", "step", "row", "column", "analytic", "numeric"), BREAKS)
def test_graph_breaks(expression, inputs, step, row, column, analytic, numeric):
    result = check(expression, **inputs)
    assert (result.verdict, result.passed) == ("graph_break", False), result
    start, end = result.report.step.span
    assert result.report.step.source == expression[start:end] == step
    worst = result.worst
    assert (worst.output_index, worst.input_index) == (row, column)
    assert worst.analytic == pytest.approx(analytic, nan_ok=True)
    assert worst.numeric == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("detached_inside(x)", "z = y.detach()"),
        ("without_grad(x)", "total = x.sum()"),
    ],
)
def test_graph_breaks_in_own_code(own_code, expression, line):
    result = check(expression, own_code, x="1.1,2")
    assert result.verdict == "graph_break"
    step = result.report.step
    assert (step.source, step.file) == (line, own_code)
    assert OWN_CODE.splitlines()[step.line - 1].strip() == line


WRONG = [
    # expression, inputs, the worst entry: output, input, autograd's number, the true one
    ("factor(x)", {"x": "1,2"}, (1,), "x", (1,), 6, 4),
    ("wrong_sign(x)", {"x": "1,0.5"}, (0,), "x", (0,), math.sin(1), -math.sin(1)),
    ("transposed(a, b)", {"a": "1,2;3,4", "b": "5,6;7,8"}, (0, 1), "a", (0, 0), 7, 6),
    ("missing(x)", {"x": "1,2"}, (1,), "x", (0,), 0, 2),
    ("wrong_jvp(x)", {"x": "1,2"}, (1,), "x", (1,), 2, 4),
    ("wrong_and_detached(x)", {"x": "1,2"}, (1,), "x", (1,), 24, 32),
]


@pytest.mark.parametrize(("expression", "inputs", "row", "name", "column", "analytic", "true"), WRONG)
def test_wrong_backwards(own_code, expression, inputs, row, name, column, analytic, true):
    result = check(expression, own_code, **inputs)
    assert result.verdict == "wrong_backward", result
    worst = result.worst
    assert (worst.output_index, worst.input, worst.input_index) == (row, name, column)
    assert worst.analytic == pytest.approx(analytic)
    assert worst.numeric == pytest.approx(true)
    assert result.max_error == pytest.approx(abs(analytic - true))


def test_a_backward_that_is_not_linear(own_code):
    result = check("clipped(x)", own_code, x="1,2")
    assert result.verdict == "wrong_backward"
    assert "Clipped.backward" in result.report.explanation
    assert "linear" in result.report.explanation


@given(
    st.integers(1, 4), st.integers(1, 4), st.floats(0.01, 5), st.booleans(), st.randoms(use_true_random=False)
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_wrong_entry_is_found_wherever_it_is(m, n, size, negative, random):
    """y = W x with one entry of the backward's W changed: that entry, and both its numbers."""
    weight = torch.tensor([[random.uniform(-2, 2) for _ in range(n)] for _ in range(m)], dtype=torch.float64)
    row, column = random.randrange(m), random.randrange(n)
    wrong = weight.clone()
    wrong[row, column] += -size if negative else size

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return weight @ x

        @staticmethod
        def backward(ctx, g):
            return g @ wrong

    x = torch.tensor([random.uniform(-3, 3) for _ in range(n)], dtype=torch.float64)
    result = jvpcli.check(Product.apply, x=x)
    assert result.verdict == "wrong_backward"
    assert (result.worst.output_index, result.worst.input_index) == ((row,), (column,))
    assert result.worst.analytic == pytest.approx(float(wrong[row, column]))
    assert result.worst.numeric == pytest.approx(float(weight[row, column]), abs=1e-6)


@pytest.mark.parametrize("x", [1.5, -1.5, 0.7])
def test_values_among_the_smallest_numbers_have_no_kink(x):
    """5e-324 · 1.5 rounds up to twice that: a jump of the value, and of nothing else."""
    least = torch.tensor(5e-324, dtype=torch.float64)

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return least * x

        @staticmethod
        def backward(ctx, g):
            return g

    result = jvpcli.check(Product.apply, x=torch.tensor([x], dtype=torch.float64))
    assert (result.verdict, result.worst.analytic) == ("wrong_backward", 1)


def test_randomness(own_code):
    for expression in ("F.dropout(x)", "x * torch.rand(3)", "F.dropout(x[0])"):
        result = check(expression, x="1,2,3")
        assert (result.verdict, result.worst) == ("nondeterministic", None)
        assert result.report.step.source in expression
        assert result.max_error > 0
        assert check(expression, x="1,2,3", seed=0).passed
    assert check("noisy(x)", own_code, x="1,2").verdict == "nondeterministic"
    assert check("noisy(x)", own_code, x="1,2", seed=0).verdict == "nondeterministic"
    assert check("F.dropout(x) * x.detach()", x="1,2,3", seed=0).verdict == "graph_break"


def test_large_problems(own_code):
    assert check("torch.tanh(x @ w)", x="torch.randn(40, 50)", w="torch.randn(50, 30)").passed
    result = check("factor(x).sum()", own_code, x="torch.linspace(1, 2, 5000)")
    (place,) = result.worst.input_index
    value = float(torch.linspace(1, 2, 5000)[place])
    assert result.verdict == "wrong_backward"
    assert (result.worst.analytic, result.worst.numeric) == pytest.approx((3 * value, 2 * value))
    result = check("torch.relu(x - 1000)", x="torch.arange(3000.)")
    assert (result.verdict, result.worst.output_index, result.worst.input_index) == ("kink", (1000,), (1000,))
    result = check("x * x.detach()", x="torch.linspace(1, 2, 3000)")
    assert result.verdict == "graph_break"
    assert result.worst.output_index == result.worst.input_index
    assert result.worst.numeric == pytest.approx(2 * result.worst.analytic)


def test_large_problems_beside_what_is_not_finite():
    """Infinite values and derivatives are told of, and no other entry is blamed for them."""
    result = check("torch.sqrt(x)", x=[0.0] + [1.0] * 300)
    assert (result.verdict, result.worst.output_index, result.worst.input_index) == ("kink", (0,), (0,))
    assert (result.worst.analytic, result.worst.above) == (math.inf, math.inf)
    points = torch.linspace(-896, 896, 400, dtype=torch.float64).reshape(20, 20)
    result = check("torch.sinh(x)", x=points)
    infinite = int((~torch.sinh(points).isfinite()).sum())
    said = f"{infinite} entries of the outputs are not finite and could not be compared"
    assert result.passed
    assert said in [warning.message for warning in result.report.warnings]
    assert "other numbers" not in str(result)
    for size in (3, 300):
        assert check("x * 2", x=torch.full((size,), 0.8e308, dtype=torch.float64)).passed
    result = check("torch.sinh(x)", x=torch.full((3,), 709.77, dtype=torch.float64))
    assert result.worst.analytic == pytest.approx(result.worst.numeric)
    result = check("torch.sinh(x)", x=torch.full((288,), 709.77, dtype=torch.float64))
    assert "Nothing contradicts autograd, but nothing could be compared with it either." in str(result)


def test_one_wrong_entry_of_many_is_found():
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            gradient = g * x.cos()
            gradient[4242] *= 1.5
            return gradient

    x = torch.linspace(0.1, 1, 20_000, dtype=torch.float64)
    for function in (Sine.apply, lambda x: Sine.apply(x).sum()):
        result = jvpcli.check(function, x=x)
        assert (result.verdict, result.worst.input_index) == ("wrong_backward", (4242,))
        assert result.worst.numeric == pytest.approx(math.cos(x[4242]))


def test_what_cannot_be_checked_is_said():
    with pytest.raises(NotDifferentiableError):
        check("x * 2", x="torch.tensor([1, 2])")
    with pytest.raises(NotDifferentiableError):
        check("x.sum().item()", x="1,2")
    with pytest.raises(EvaluationError, match="backward pass failed"):
        check("x // 1", x="1.2,2")
    result = check("torch.log(x)", x="0,1")
    assert result.passed
    assert "nonfinite" in [notice.code for notice in result.report.warnings]


def test_own_constants_in_single_precision_are_said(own_code):
    result = check("single_precision(x)", own_code, x="1,2")
    assert [notice.code for notice in result.report.warnings] == ["fallback"]
    assert "float32" in result.report.comparisons[0].about
    assert check("factor(single_precision(x))", own_code, x="1,2").verdict == "wrong_backward"


def test_a_matrix_that_is_not_symmetric_is_told_as_such():
    result = check("torch.linalg.eigvalsh(x)", x="2,1;0.5,3")
    assert result.verdict == "wrong_backward"
    assert "Hermitian" in result.report.explanation


def test_own_cotangents_and_tangents_are_those_of_the_dot_product():
    result = jvpcli.check("x**2", x=[1.0, 2.0], grad_outputs=[3.0, 4.0], tangent=[5.0, 6.0])
    assert result.passed
    with pytest.raises(jvpcli.JvpError):
        jvpcli.check("x**2", x=[1.0, 2.0], grad_outputs=[3.0])


# No false alarms


@pytest.mark.parametrize(("expression", "shapes"), FUNCTIONS, ids=[f"{e} {s}" for e, s in FUNCTIONS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_no_alarm_at_random_points(expression, shapes, dtype):
    text = expression if dtype is torch.float64 else expression.replace("float64", "float32")
    result = jvpcli.check(text, {name: x.to(dtype) for name, x in inputs_for(shapes).items()})
    assert result.passed, result
    assert result.report.warnings == ()


# Differences by themselves


def function_of(callable_, **inputs):
    return RealFunction.of(Problem(callable_, inputs, tuple(inputs))).measured()


@pytest.mark.parametrize(
    ("callable_", "point", "derivative"),
    [
        (torch.sin, 1.0, math.cos(1)),
        (torch.exp, -3.0, math.exp(-3)),
        (lambda x: x**3, 1e6, 3e12),
        (lambda x: 1 / x, 1e-5, -1e10),
        (lambda x: torch.sin(1000 * x), 0.7, 1000 * math.cos(700)),
        (lambda x: (x + 1e6) ** 2 - 1e12, 1e-3, 2 * (1e6 + 1e-3)),
    ],
)
def test_extrapolated_differences(callable_, point, derivative):
    function = function_of(callable_, x=torch.tensor(point, dtype=torch.float64))
    found = estimate(Line(function, torch.tensor([abs(point)], dtype=torch.float64)))
    number, error = float(found.derivative) / abs(point), float(found.error) / abs(point)
    assert number == pytest.approx(derivative, rel=1e-5)
    assert abs(number - derivative) <= 10 * error + 1e-12 * abs(derivative)
    assert not bool(found.kink)


@pytest.mark.parametrize(
    ("callable_", "below", "above"),
    [
        (torch.abs, -1, 1),
        (torch.relu, 0, 1),
        (lambda x: torch.where(x < 0, 2 * x, torch.sin(x)), 2, 1),
        (lambda x: torch.where(x < 0, torch.exp(x) - 1, 3 * ((1 + x) ** 0.5 - 1)), 1, 1.5),
    ],
)
def test_one_sided_differences(callable_, below, above):
    function = function_of(callable_, x=torch.tensor(0.0, dtype=torch.float64))
    found = estimate(Line(function, torch.ones(1, dtype=torch.float64)))
    assert bool(found.kink)
    assert (float(found.below), float(found.above)) == pytest.approx((below, above), abs=1e-6)
    smooth = estimate(Line(function_of(lambda x: x * x.abs(), x=torch.tensor(0.0, dtype=torch.float64)), torch.ones(1)))
    assert not bool(smooth.kink)


@pytest.mark.parametrize("expression", ["torch.where(x > 0, x, torch.exp(x) - 1)", "torch.where(x < 0, x, torch.log(1 + x))"])
def test_a_side_that_rounding_makes_flat_is_no_kink(expression):
    assert check(expression, x="0,1").verdict == "pass"


def test_roundings_inside_are_seen():
    x = torch.tensor([0.3, 1.0], dtype=torch.float64)
    function = function_of(lambda x: torch.tanh(x.float()).double(), x=x)
    assert 1e-9 < function.eps < 1e-6
    assert function_of(torch.tanh, x=x).eps < 1e-14
    assert float(quick(Line(function, torch.ones(2, dtype=torch.float64))).noise.max()) > 1e-6


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=3), st.booleans()), max_size=3))
@settings(max_examples=30, deadline=None)
def test_layouts_give_back_what_they_were_given(kinds):
    tensors = {
        f"t{number}": torch.randn(shape, dtype=torch.complex128 if is_complex else torch.float64)
        for number, (shape, is_complex) in enumerate(kinds)
    }
    layout = Layout.of(tensors)
    vector = layout.join(list(tensors.values()))
    assert vector.numel() == layout.size == sum(layout.sizes)
    again = layout.split(vector)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    for position in range(layout.size):
        place = layout.place(position)
        entry = tensors[place.name][place.index]
        assert float(entry.imag if place.part == "imag" else entry.real) == float(vector[position])


def numbers(inputs):
    """Numbers and vectors in double precision, from texts as on the command line."""
    read = {name: [float(part) for part in text.split(",")] for name, text in inputs.items()}
    return {name: torch.tensor(x if len(x) > 1 else x[0], dtype=torch.float64) for name, x in read.items()}


@pytest.mark.parametrize(
    ("expression", "inputs", "entry"),
    [
        ("torch.sign(x)", {"x": "-1,0,2"}, ("y", (1,), "x", (1,))),
        ("torch.sign(x).sum() + x.sum()", {"x": "0,1"}, ("y", (), "x", (0,))),
        ("torch.atan2(a, b)", {"a": "0", "b": "0"}, ("y", (), "a", ())),
        ("torch.atan2(a, b)", {"a": "0", "b": "-1"}, ("y", (), "a", ())),
        ("torch.round(x * 2)", {"x": "0.25,0.3"}, ("y", (0,), "x", (0,))),
    ],
)
def test_a_value_that_jumps_has_no_derivative_be_it_by_the_same_to_both_sides(expression, inputs, entry):
    """Of sign at 0 the differences to both sides are the same, and grow without end."""
    report = jvpcli.check(expression, numbers(inputs)).report
    worst = report.worst
    assert report.verdict == "kink"
    assert (worst.output, worst.output_index, worst.input, worst.input_index) == entry
    assert math.isinf(max(abs(worst.below), abs(worst.above)))


@pytest.mark.parametrize(("expression", "x"), [("torch.acos(x.clamp(-1,1))", "1,0.5"), ("x.clamp(min=0).sqrt()", "0,4")])
def test_an_infinite_derivative_agrees_with_no_difference(expression, x):
    """NaN beside it, 0·∞ of a backward pass a row, is no choice at a kink."""
    report = jvpcli.check(expression, numbers({"x": x})).report
    assert (report.verdict, report.worst.output_index, report.worst.input_index) == ("kink", (0,), (0,))
    assert math.isinf(report.worst.analytic)
    assert "smooth" not in report.explanation


@pytest.mark.parametrize(("expression", "x"), [("x.var()", "1,"), ("torch.log(x)", "-1,-2"), ("torch.asin(x).sum()", "2,0")])
def test_what_has_no_value_has_no_derivative_that_passes(expression, x):
    report = check(expression, x=x).report
    point = torch.tensor([float(part) for part in x.split(",") if part])
    assert not torch.isfinite(eval(expression, {"torch": torch, "x": point})).any()
    assert (report.verdict, report.passed, report.worst) == ("kink", False, None)
    assert report.explanation == "No output is finite at this point: the function has no derivative here that could be compared."
    assert report.comparisons[0].agrees is None


def test_an_output_of_no_entries_passes():
    assert check("x[:0] / 0", x="1,2").verdict == "pass"


def test_a_nan_is_named_as_that():
    """x² has the derivative 0 at 0; sqrt(x⁴) has ∞ · 0."""
    report = jvpcli.check("torch.sqrt(x**4)", x=[0.0, 2.0]).report
    assert report.verdict == "wrong_backward"
    assert report.explanation == "Autograd's formula gives NaN at this point, where differences give 0."


def test_a_backward_that_is_another_when_it_is_differentiated_again_is_said_so():
    """Of det at a singular matrix PyTorch's backward gives 0, and with create_graph=True the right number."""
    A = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(torch.linalg.det(A), A)[0]
    again = torch.autograd.grad(torch.linalg.det(A), A, create_graph=True)[0]
    report = jvpcli.check("torch.linalg.det(A)", A=A.detach()).report
    if torch.equal(plain, again.detach()):
        pytest.skip("this PyTorch gives the same both times")
    assert report.verdict == "wrong_backward"
    said = {each.name: each.about for each in report.comparisons}
    assert said["forward against reverse"] == "not compared: a backward here, differentiated again, gives other numbers"


def test_what_fails_nearby_is_no_error():
    """Where the function ends a rounding further on, and its value is one of roundings, the check says that."""
    text = "torch.linalg.inv(torch.outer(x, x))"
    x = torch.tensor([1.2933274571665598, 0.5763510061090084, -0.2772146838385482, -0.9204529018252616], dtype=torch.float64)
    assert torch.linalg.inv(torch.outer(x, x)).isfinite().all()  # by its roundings
    report = jvpcli.check(text, x=x).report
    assert (report.verdict, report.explanation.partition(" even")[0]) == (
        "precision", "A few roundings of the numbers on the way move the output by as much as it is,",
    )  # fmt: skip


@pytest.mark.parametrize("expression", ["torch.linalg.eigh(A)[1]", "torch.linalg.svd(A)[2]", "torch.svd(A[:2])[0]"])
def test_vectors_keep_their_signs_for_the_differences(expression):
    """Autograd's derivative is that of vectors with one sign; values alone are told nothing of."""
    A = torch.tensor([[2.0, 1, 0], [1, 3, 1], [0, 1, 5]], dtype=torch.float64)
    report = jvpcli.check(expression, A=A).report
    assert report.verdict == "pass"
    assert [notice.message for notice in report.warnings] == [
        "eigenvectors and singular vectors have one of two signs, which a library chooses anew at every point: the "
        "differences were taken with the signs that they have at this one"
    ]
    alone = jvpcli.check(expression.replace("[1]", "[0]").replace("[2]", "[1]").replace("[:2])[0]", "[:2])[1]"), A=A).report
    assert (alone.verdict, alone.warnings) == ("pass", ())


def test_a_wrong_gradient_of_eigenvectors_is_still_seen():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, v):
            return 3 * v

    A = torch.tensor([[2.0, 1, 0], [1, 3, 1], [0, 1, 5]], dtype=torch.float64)
    assert jvpcli.check(lambda A: Wrong.apply(torch.linalg.eigh(A)[1]), A=A).report.verdict == "wrong_backward"


@pytest.mark.parametrize("factor", [0.5, -1.0, 3.0, 0.0])
@pytest.mark.parametrize("forward", [lambda x: x * x, lambda x: x.exp().sum(), lambda x: torch.outer(x, x)])
def test_a_factor_that_all_wrong_entries_share_is_told(forward, factor):
    """A closed form has it: the backward is the right one, times a number."""
    x = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    explained = jvpcli.check(with_backward(forward, lambda g: factor * g), x=x).report.explanation
    wrong = int((torch.autograd.functional.jacobian(forward, x) != 0).sum())
    has = f"{factor:g} times what differences give" if factor else "0"
    assert explained.endswith(f"In each of the {wrong} entries found to differ autograd has {has}.")


@pytest.mark.parametrize("spoil", [lambda g: g + 1, lambda g: g.flip(0), lambda g: g * torch.tensor([1.0, 2.0, 3.0]).double()])
def test_no_factor_is_told_where_wrong_entries_share_none(spoil):
    x = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    report = jvpcli.check(with_backward(lambda x: x * x, spoil), x=x).report
    assert report.verdict == "wrong_backward"
    assert "In each" not in report.explanation
