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
    x = size * torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
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
