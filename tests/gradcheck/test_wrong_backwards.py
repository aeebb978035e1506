"""No wrong backward passes that torch's own gradcheck rejects, and no right one fails: kinds × functions × scales × dtypes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from changed_backwards import with_backward
from torch.autograd import gradcheck

import jvpcli

REAL = {
    "sin": torch.sin,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "1 + tanh": lambda x: 1 + torch.tanh(x),
    "1 - sigmoid": lambda x: 1 - torch.sigmoid(x),
    "softmax": lambda x: x.softmax(0),
    "outer": lambda x: torch.outer(x, x[:2]),
    "broadcast": lambda x: x[:, None] * torch.ones(3, 4, dtype=x.dtype),
    "norm": lambda x: x.norm(),
    "relu": torch.relu,
    "empty": lambda x: x[:0] * 2,
}
COMPLEX = {
    "exp": torch.exp,
    "z * conj z": lambda z: z * z.conj(),
    "abs": torch.abs,
    "outer": lambda z: torch.outer(z, z[:2]),
    "fft": torch.fft.fft,
}

KINDS = {
    "factor": lambda gradient, size: gradient * 1.001,
    "sign": lambda gradient, size: -gradient,
    "one entry": lambda gradient, size: gradient.index_add(0, torch.tensor([1]), (1e-3 * size).to(gradient.dtype)[None]),
    "small additive": lambda gradient, size: gradient + 1e-3 * size,
    "missing term": lambda gradient, size: gradient.index_fill(0, torch.tensor([2]), 0),
    "transposed": lambda gradient, size: gradient.flip(0),
    "zero": lambda gradient, size: gradient * 0,
}

POINT = torch.tensor([0.83, -1.31, 2.17], dtype=torch.float64)
DOUBLE = {torch.complex64: torch.complex128, torch.complex128: torch.complex128}

CASES = [
    *((torch.float64, scale, name, function) for scale in (1e-3, 1.0, 10.0, 1e6) for name, function in REAL.items()),
    *((torch.float32, scale, name, function) for scale in (1.0, 10.0) for name, function in REAL.items()),
    *((torch.bfloat16, 1.0, name, function) for name, function in REAL.items()),
    *((dtype, 1.0, name, function) for dtype in DOUBLE for name, function in COMPLEX.items()),
]


@pytest.mark.parametrize(
    ("dtype", "scale", "name", "function"), CASES, ids=[f"{name} {scale} {dtype}" for dtype, scale, name, _ in CASES]
)
def test_what_torch_rejects_is_found(dtype, scale, name, function):
    x = (POINT * scale).to(dtype) * (1 + 0.3j if dtype.is_complex else 1)
    double = DOUBLE.get(dtype, torch.float64)
    if not function(x.to(double)).isfinite().all():
        pytest.skip("the function overflows there")
    assert gradcheck(function, (x.to(double).requires_grad_(),))
    assert jvpcli.check(function, x=x).passed
    assert jvpcli.check(with_backward(function, lambda gradient: gradient), x=x).passed
    for kind, change in KINDS.items():
        wrong = with_backward(function, lambda gradient, change=change: change(gradient, gradient.abs().max()))
        if not gradcheck(wrong, (x.to(double).requires_grad_(),), raise_exception=False):
            result = jvpcli.check(wrong, x=x)
            assert (result.verdict, kind) == ("wrong_backward", kind), result


FAR = [
    ("F.gelu(x)", -1),
    ("1 + torch.tanh(x)", -1),
    ("1 + torch.erf(x)", -1),
    ("1 - torch.sigmoid(x)", 1),
    ("1 - torch.erf(x)", 1),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("expression", "sign"), FAR)
def test_tails_that_rounding_eats_up_are_right(expression, sign, dtype):
    """1 + tanh(−20) is 0 in double precision, and its derivative 2e-17: nothing is wrong with either."""
    generator = torch.Generator().manual_seed(3)
    points = torch.cat([torch.randn(12, generator=generator) * 4, torch.tensor([5.0, 7.0, 8.0, 9.0, 12.0, 20.0, 40.0]) * sign])
    for x in points.to(dtype):
        result = jvpcli.check(expression, x=x)
        assert result.passed, (float(x), result)


def test_small_derivatives_are_compared_at_their_own_size():
    """What a tail is let pass is not let pass where the function itself is small."""

    def wrong(function, factor):
        return with_backward(function, lambda gradient: gradient * factor)

    for function, x in ((torch.exp, -50.0), (lambda x: x**2, 1e-10), (lambda x: 1e-20 * x, 3.0), (lambda x: 1 / x, 1e30)):
        point = torch.tensor([x], dtype=torch.float64)
        assert jvpcli.check(wrong(function, 1.0), x=point).passed
        assert jvpcli.check(wrong(function, 1.001), x=point).verdict == "wrong_backward"


def test_fast_waves_far_out_are_seen():
    """sin at 1e6: steps of the input's own size see nothing of it."""
    x = torch.tensor([0.83e6, -1.31e6], dtype=torch.float64)
    assert jvpcli.check("torch.sin(x)", x=x).passed
    result = jvpcli.check(with_backward(torch.sin, lambda gradient: gradient * 1.001), x=x)
    assert result.worst.numeric == pytest.approx(float(torch.cos(x[result.worst.input_index])), rel=1e-5)
    assert result.verdict == "wrong_backward"


CANCELLED = [
    (lambda x: torch.cosh(x) - 1, 1e-4),
    (lambda x: torch.cosh(x) - 1, 1e-6),
    (lambda x: 1 - torch.cos(x), 1e-5),
    (lambda x: torch.exp(x) - 1, 1e-10),
    (lambda x: torch.log(1 + x), 1e-9),
    (lambda x: (1 + x).sqrt() - 1, 1e-9),
]


@pytest.mark.parametrize(("function", "size"), CANCELLED)
def test_what_cancels_inside_of_a_function_of_one_s_own_is_seen_in_its_values(function, size):
    """cosh(x) − 1 is a multiple of 2**-52: differences over narrow steps are zero, or any other multiple."""
    x = size * torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert jvpcli.check(lambda x: function(x), x=x).passed
    assert jvpcli.check(lambda x: function(x), x=x[:1]).passed
    wrong = with_backward(function, lambda gradient: 2 * gradient)
    assert jvpcli.check(wrong, x=x).verdict == "wrong_backward"


def test_stairs_that_are_no_rounding_are_stairs():
    """A gradient that is passed straight through a rounding is not the derivative, however fine the stairs are."""
    for stairs in (torch.floor, lambda x: torch.floor(1000 * x) / 1000, lambda x: torch.round(256 * x) / 256):
        straight = with_backward(lambda x, stairs=stairs: stairs(x) + 0 * x, lambda gradient: gradient + 1)
        result = jvpcli.check(straight, x=torch.tensor([3.7123], dtype=torch.float64))
        assert (result.verdict, result.worst.analytic, result.worst.numeric) == ("wrong_backward", 1, 0)


NEAR_AN_END = [
    (torch.log, 1e-300),
    (lambda x: x * torch.log(x), 1e-300),
    (lambda x: x * x, 1e-160),
    (lambda x: x / x.norm(), 1e-150),
    (torch.lgamma, 1e-200),
    (torch.asin, 1 - 1e-12),
    (torch.acosh, 1 + 1e-12),
    (torch.atanh, 1 - 1e-11),
    (torch.logit, 1 - 1e-13),
    (torch.sin, 1e10),
]


@pytest.mark.parametrize(("function", "value"), NEAR_AN_END)
def test_a_function_s_end_close_by_is_no_kink(function, value):
    x = torch.tensor([value, 2 * value if value < 1e-9 else value], dtype=torch.float64)
    assert jvpcli.check(lambda x: function(x), x=x).verdict == "pass"
    assert jvpcli.check(with_backward(function, lambda gradient: gradient), x=x).verdict == "pass"
    assert jvpcli.check(with_backward(function, lambda gradient: 1.5 * gradient), x=x).verdict == "wrong_backward"


LOST = [
    # its derivative to two or three digits by its series
    (lambda x: torch.tanh(x) / x, lambda x: -2 * x / 3, 1e-8),
    (lambda x: (1 - torch.cos(x)) / x**2, lambda x: -x / 12, 1e-5),
    (lambda x: (torch.exp(x) - 1) / x, lambda x: 1 / 2 + x / 3, 1e-8),
    (lambda x: torch.log(1 + x) / x, lambda x: -1 / 2 + 2 * x / 3, 1e-7),
    (lambda x: 1.5 * torch.logsumexp(torch.stack([x, x]), 0), lambda x: 1.5 + 0 * x, 1e14),
]


@pytest.mark.parametrize(("function", "derivative", "size"), LOST)
def test_a_gradient_that_rounding_has_made_is_lost_and_not_wrong(function, derivative, size):
    x = size * torch.tensor([0.83, 0.57], dtype=torch.float64)
    off = (torch.autograd.functional.jacobian(function, x).diagonal() / derivative(x) - 1).abs().max()
    for form in (lambda x: function(x), with_backward(function, lambda gradient: gradient)):
        result = jvpcli.check(form, x=x)
        assert result.verdict == ("precision" if off > 2e-4 else "pass"), result
        if not result.passed:
            assert result.worst.numeric == pytest.approx(float(derivative(x)[result.worst.output_index]), rel=0.35)
    ordinary = x / size
    assert jvpcli.check(with_backward(function, lambda gradient: 1.001 * gradient), x=ordinary).verdict == "wrong_backward"


@pytest.mark.parametrize("distance", [1e-9, 1e-12])
def test_a_kink_close_by_is_none_here(distance):
    """The wide steps see the value jump, by as little as the kink is away."""
    x = torch.tensor([1 + distance], dtype=torch.float64)
    for function in (lambda x: torch.relu(x - 1), lambda x: torch.maximum(x, torch.ones_like(x))):
        assert jvpcli.check(with_backward(function, lambda gradient: gradient), x=x).verdict == "pass"
        assert jvpcli.check(with_backward(function, lambda gradient: 2 * gradient), x=x).verdict == "wrong_backward"


def test_a_zero_that_only_roundings_let_pass_was_not_compared():
    x = torch.tensor([1.5], dtype=torch.float64)
    for constant, expected in ((1e9, ("wrong_backward", False)), (1e12, ("pass", None))):
        wrong = with_backward(lambda x, constant=constant: x + constant, lambda gradient: 0 * gradient)
        result = jvpcli.check(wrong, x=x)
        assert (result.verdict, result.report.comparisons[0].agrees) == expected


def test_a_derivative_below_all_numbers_is_zero():
    x = torch.tensor([1e200], dtype=torch.float64)
    assert jvpcli.check("1 / x", x=x).passed
    assert jvpcli.check("1 / x", x=torch.tensor([1e-200, 1e200], dtype=torch.float64)).verdict == "kink"


def test_numbers_too_small_for_a_formula_cut_no_graph():
    """atan2's own formula divides by x² + y², which is 0 at 1e-200."""
    x, y = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1e-200, 2e-200))
    assert torch.autograd.grad(torch.atan2(y, x), (x, y)) == (0, 0)
    assert jvpcli.check("torch.atan2(y, x)", x=x.detach(), y=y.detach()).verdict == "wrong_backward"
