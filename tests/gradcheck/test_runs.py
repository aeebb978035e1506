"""How often `check` runs a function of the user's own, and that nothing is lost by running it seldom."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from changed_backwards import with_backward
from torch.autograd import gradcheck

import jvpcli
from many_functions import FUNCTIONS

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], dtype=torch.float64)


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


SMOOTH = [
    (lambda x: x**2, draw()),
    (lambda x: 3 * x, draw(4)),
    (lambda x: x.exp().sum(), draw(100)),
    (lambda x: x @ x.T, draw(10, 10)),
    (lambda x: torch.tanh(WEIGHT.to(x.dtype) @ x), draw(3, dtype=torch.float32)),
    (lambda x: x.abs().log(), draw(5, dtype=torch.complex128)),
    (lambda x: torch.fft.fft(x), draw(3, 4)),
    (lambda x: x[:0] * 2, draw(3)),
    (lambda x: (x.norm(), x.softmax(0)), draw(6)),
]


@pytest.mark.parametrize(("function", "x"), SMOOTH)
def test_a_smooth_function_runs_seven_times(function, x):
    """Here; here in double precision; twice to both sides, unless it is linear; here again."""
    runs = []

    def counted(x):
        runs.append(x.detach().clone())
        return function(x)

    assert jvpcli.check(counted, x).passed
    assert len(runs) <= 7
    torch.testing.assert_close(runs[-1], x, rtol=0, atol=0)


def test_a_large_problem_runs_a_few_times():
    runs = []
    assert jvpcli.check(lambda x: runs.append(1) or x.sin(), draw(2000)).passed
    assert len(runs) <= 11


SEVERAL = {
    "loss": lambda x: (x.sin() ** 2).mean(),
    "logsumexp": lambda x: (3 * x).logsumexp(0),
    "entries": torch.exp,
    "all pairs": lambda x: (x[:, None] * x).sin(),
    "a small term beside large ones": lambda x: torch.cat([1e4 * x[:1] + 1e-3 * x[1:2], x[2:]]),
}
CHANGES = {
    "two exchanged": lambda g: g.index_select(0, torch.tensor([1, 0, *range(2, len(g))])),
    "reversed": lambda g: g.flip(0),
    "turned": lambda g: g.roll(1),
    "the mean for all": lambda g: g.mean().expand_as(g),
    "the mean taken away": lambda g: g - g.mean(),
    "one scaled": lambda g: torch.cat([g[:1], 1.01 * g[1:2], g[2:]]),
    "one missing": lambda g: torch.cat([g[:1], 0 * g[1:2], g[2:]]),
    "all a little larger": lambda g: g * 1.001,
}


@pytest.mark.parametrize("size", [2, 7, 15])
@pytest.mark.parametrize("name", SEVERAL)
def test_along_one_direction_wrong_entries_do_not_cancel(name, size):
    x = draw(size)
    assert jvpcli.check(with_backward(SEVERAL[name], lambda g: g), x).passed
    for change in CHANGES.values():
        wrong = with_backward(SEVERAL[name], change)
        if not gradcheck(wrong, (x.clone().requires_grad_(),), raise_exception=False, check_undefined_grad=False):
            assert jvpcli.check(wrong, x).verdict == "wrong_backward"


@pytest.mark.parametrize("size", [2, 7, 40])
def test_along_one_direction_a_kink_is_seen(size):
    x = draw(size)
    x[1] = 0
    for function in (torch.relu, torch.abs, lambda x: (x.abs() * x[0]).sum(), lambda x: 1e3 * x.sum() + x[1].relu()):
        result = jvpcli.check(lambda x, function=function: function(x), x)
        assert (result.verdict, result.worst.input_index) == ("kink", (1,))


def test_a_gradient_that_is_plainly_wrong_is_not_looked_at_closely_everywhere():
    runs = []
    wrong = with_backward(lambda x: runs.append(1) or x**2, lambda g: 1.5 * g)
    result = jvpcli.check(wrong, draw(10))
    assert (result.verdict, result.worst.analytic) == ("wrong_backward", pytest.approx(1.5 * result.worst.numeric, rel=1e-6))
    assert len(runs) < 200


def test_what_is_said_of_a_direction():
    report = jvpcli.check(lambda x: x.sin(), draw(3)).report
    assert next((c.name, c.agrees, c.about) for c in report.comparisons) == (
        "finite differences", True, "3 outputs along one direction in float64",
    )  # fmt: skip
    assert (report.worst, 0 <= report.max_error < 1e-8) == (None, True)


def test_single_precision_inside():
    """Where it does not run in double precision that is tried once, and differences are taken in single precision."""
    weight, runs = torch.randn(8, 8, generator=torch.Generator().manual_seed(8)), []

    def function(x):
        runs.append(1)
        return torch.tanh(weight @ x)

    assert jvpcli.check(function, draw(8, dtype=torch.float32)).passed
    assert len(runs) <= 8


def test_a_function_gets_the_verdict_that_its_text_gets():
    """Of text every entry is compared, of a function all outputs along one direction first: at kinks, at ties and elsewhere."""
    generator = torch.Generator().manual_seed(4)
    points = [torch.zeros_like, torch.round, torch.ones_like, torch.clone]
    verdicts = set()
    for number, (expression, shapes) in enumerate(FUNCTIONS):
        if "for " in expression or "linalg" in expression:  # a singular matrix is an error of another kind for each
            continue
        inputs = {
            name: points[number % 4](torch.randn(shape, dtype=torch.float64, generator=generator))
            for name, shape in zip("xwb", shapes, strict=False)
        }
        function = eval(f"lambda {', '.join(inputs)}: {expression}", {"torch": torch, "F": F, "math": math})
        found = jvpcli.check(function, inputs).verdict
        assert (found, expression) == (jvpcli.check(expression, inputs).verdict, expression)
        verdicts.add(found)
    assert verdicts >= {"pass", "kink"}
