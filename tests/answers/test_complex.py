"""Complex outputs and inputs: what is shown is the whole derivative, and contracts to what torch.autograd.grad gives."""

from __future__ import annotations

import io
import random
import re

import numpy as np
import pytest
import torch

import jvpcli
from jvpcli.answers.inspect import investigate
from jvpcli.answers.trace import follow
from jvpcli.errors import UsageError
from jvpcli.jacobians.spectrum import singular_values
from jvpcli.render.inspect import render_inspect
from jvpcli.render.terminal import Terminal
from jvpcli.request import Request

REAL = ("{}.sin()", "{}*{}", "2*{}", "{} - {}.flip(0)", "{}.cumsum(0)", "A@{}")
TO_COMPLEX = ("{}*(1-2j)", "torch.polar({}.exp(), {})", "torch.complex({}, {}**2)", "{}*0.5j", "torch.fft.fft({})", "{}+0j")
COMPLEX = ("{}**2", "{}.conj()", "{}*{}.conj()", "1j*{}", "{}.exp()", "{}.real*1j", "{}.imag+{}", "B@{}", "torch.fft.ifft({})")
TO_REAL = ("{}.abs()", "{}.real", "{}.imag", "{}.angle()", "({}*{}.conj()).real")
ENDS = ("{}", "{}", "{}.sum()", "{}[:2]", "{}[None]*{}[:, None]", "{}[:0]")

A = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.5, 1.0], [2.0, 0.25, -1.0]], dtype=torch.float64)
B = torch.complex(A, A.flip(0))


def programs(count: int) -> list[tuple[str, bool]]:
    """Random chains of operations from one of (real, complex) to the other, and whether the input is complex."""
    chosen = random.Random(13)
    found = []
    for _ in range(count):
        complex_input = here = chosen.random() < 0.5
        text = "x"
        for _ in range(chosen.randint(1, 3)):
            turns = chosen.random() < 0.4
            step = chosen.choice((TO_REAL if turns else COMPLEX) if here else (TO_COMPLEX if turns else REAL))
            text, here = f"({step.replace('{}', text)})", here != turns
        found.append((chosen.choice(ENDS).replace("{}", text), complex_input))
    return list(dict.fromkeys(found))


def evaluated(text: str, x: torch.Tensor) -> torch.Tensor:
    return eval(text, {"torch": torch, "A": A, "B": B, "x": x})


def point(is_complex: bool) -> torch.Tensor:
    real = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64)
    return torch.complex(real, real.flip(0)) if is_complex else real


def gradients(text: str, x: torch.Tensor, part) -> torch.Tensor:
    """The gradient of each entry of a part of the output, by torch alone: (output shape, input shape)."""
    leaf = x.clone().requires_grad_()
    y = part(evaluated(text, leaf))
    rows = [torch.autograd.grad(entry, leaf, retain_graph=True, allow_unused=True)[0] for entry in y.reshape(-1)]
    rows = [torch.zeros_like(x) if row is None else row for row in rows]
    return torch.stack(rows).reshape(*y.shape, *x.shape) if rows else x.new_zeros((*y.shape, *x.shape))


def asked(text: str, x: torch.Tensor, **options) -> Request:
    """The request for a program's derivative with respect to x."""
    given = {name: value for name, value in (("x", x), ("A", A), ("B", B)) if re.search(rf"\b{name}\b", text)}
    return Request(text, given, wrt=("x",), **options)


@pytest.mark.parametrize(("text", "complex_input"), programs(120))
def test_the_whole_derivative_is_shown_and_contracts_to_what_pytorch_gives(text, complex_input):
    x = point(complex_input)
    y = evaluated(text, x.clone().requires_grad_())
    v = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    found = investigate(asked(text, x, grad_outputs=((None, v),))).report
    shown, product = found.jacobian["y"]["x"], found.contraction["y"]["x"].product
    rows = gradients(text, x, lambda y: y.real if y.is_complex() else y)
    imaginary = gradients(text, x, lambda y: y.imag) if y.is_complex() else torch.zeros_like(rows)

    leaf = x.clone().requires_grad_()
    (direct,) = torch.autograd.grad(evaluated(text, leaf), leaf, v)
    parts = (v.real, v.imag) if v.is_complex() else (v, torch.zeros_like(v))
    halves = zip(parts, (rows, imaginary), strict=True)
    contracted = [torch.tensordot(part.to(rows.dtype), half, y.dim()) for part, half in halves]
    torch.testing.assert_close(sum(contracted), direct)  # the convention itself
    torch.testing.assert_close(torch.as_tensor(found.vjp["x"].value), direct)

    value = torch.as_tensor(shown.value)
    assert str(value.dtype) == f"torch.{shown.dtype}"
    if complex_input:
        torch.testing.assert_close(value, rows)
        told = 1j * value if shown.imaginary is None else torch.as_tensor(shown.imaginary)
        torch.testing.assert_close(told, imaginary if y.is_complex() else 1j * rows)
    else:
        assert shown.imaginary is None
        torch.testing.assert_close(value, torch.complex(rows, imaginary) if y.is_complex() else rows)
    assert shown.nnz == int(((rows != 0) | (imaginary != 0)).sum())
    assert (shown.structure == "zero") <= (shown.nnz == 0)
    assert ("zero for any v" in product) <= (shown.nnz == 0)


@pytest.mark.parametrize(("text", "complex_input"), [p for p in programs(60) if ":0" not in p[0]])
def test_maps_push_and_pull_as_the_real_map_does(text, complex_input):
    """Both products against the function of real and imaginary parts, by torch.autograd.functional."""
    x = point(complex_input)
    real = torch.view_as_real(x) if complex_input else x
    y = evaluated(text, x)

    def of_parts(real: torch.Tensor) -> torch.Tensor:
        y = evaluated(text, torch.view_as_complex(real) if complex_input else real)
        return torch.view_as_real(y.resolve_conj()) if y.is_complex() else y + 0

    matrix = torch.autograd.functional.jacobian(of_parts, real)
    u, v = torch.randn_like(x), torch.randn_like(y)
    u_parts, v_parts = (torch.view_as_real(t) if t.is_complex() else t for t in (u, v))
    pushed = torch.tensordot(matrix, u_parts, real.dim())
    pulled = torch.tensordot(v_parts, matrix, v_parts.dim())
    jacobian = jvpcli.jacobian(text, asked(text, x).inputs, wrt="x")["y", "x"]
    torch.testing.assert_close(jacobian.pushforward(u), torch.view_as_complex(pushed) if y.is_complex() else pushed)
    torch.testing.assert_close(jacobian.pullback(v), torch.view_as_complex(pulled) if complex_input else pulled)
    expected = torch.linalg.svdvals(matrix.reshape(-1, real.numel()))
    if y.is_complex() and not jacobian.splits:
        expected = expected[::2]  # of a map between complex numbers each stands twice for that between their parts
    found = singular_values(jacobian).values
    torch.testing.assert_close(found, expected[: len(found)].double(), atol=1e-7, rtol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("text", ["x*1j", "(x*1j).abs()", "x.sum()*(1+1j)", "(x+0j)*x", "torch.fft.rfft(x.float())", "x[:0]*1j"])
def test_in_every_precision(text, dtype):
    x = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=dtype)
    found = jvpcli.inspect(text, x=x, grad_outputs="randn", tangent="ones", spectrum=True)
    (v,) = found.report.grad_outputs.values()
    leaf = x.clone().requires_grad_()
    y = evaluated(text, leaf)
    (expected,) = torch.autograd.grad(y, leaf, torch.as_tensor(v.value).to(y.dtype))
    torch.testing.assert_close(found.vjp["x"], expected)
    assert str(found)
    assert str(jvpcli.trace(text, x=x))
    torch.testing.assert_close(jvpcli.trace(text, x=x, grad_outputs="randn").vjp["x"], expected)


@pytest.mark.parametrize(
    "text", ["B@z", "z.abs()", "B@z + B.T@z.conj()", "(B@z).real", "B@torch.complex(x, x)", "z*0", "A[:2]@x"]
)
def test_singular_values_by_products_alone(text):
    """Against those of the matrix of all real and imaginary parts, where a complex matrix has each twice."""
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    inputs = {"A": A, "B": B, "x": x, "z": torch.complex(x, x.flip(0))}
    given = "z" if "z" in text else "x"
    left = {name: t for name, t in inputs.items() if name in text and name != given}

    def parts(real):
        value = real if given == "x" else torch.view_as_complex(real)
        y = eval(text, {"torch": torch, **left, given: value})
        return torch.view_as_real(y.resolve_conj()) if y.is_complex() else y

    start = x if given == "x" else torch.view_as_real(inputs["z"])
    matrix = torch.autograd.functional.jacobian(parts, start).reshape(-1, start.numel())
    expected = torch.linalg.svdvals(matrix)
    if text in ("B@z", "z*0"):
        expected = expected[::2]
    question = {**left, given: inputs[given], "wrt": [given], "spectrum": True}
    for way in ("none", "dense"):
        found = jvpcli.inspect(text, **question, jacobian=way).report
        values = torch.as_tensor(found.spectrum["y"][given])
        torch.testing.assert_close(values, expected[: len(values)], rtol=1e-6, atol=1e-9)
        assert not found.spectrum_error


def test_both_gradients_are_saved(tmp_path):
    z = B[0]
    jvpcli.inspect("x.conj()*x", x=z, save=tmp_path / "j.npz", jacobian="dense")
    with np.load(tmp_path / "j.npz") as saved:
        rows, imaginary = (torch.as_tensor(saved[key]) for key in ("y/x", "y/x/imaginary"))
    torch.testing.assert_close(rows, gradients("x.conj()*x", z, lambda y: y.real))
    torch.testing.assert_close(imaginary, gradients("x.conj()*x", z, lambda y: y.imag))
    with pytest.raises(UsageError, match="needs two"):
        jvpcli.inspect("x.conj()*x", x=z, save=tmp_path / "j.npy")
    jvpcli.inspect("x*1j", x=A[0], save=tmp_path / "j.npy")
    torch.testing.assert_close(torch.as_tensor(np.load(tmp_path / "j.npy")), 1j * torch.eye(3, dtype=torch.float64))


def test_a_complex_weight_of_a_real_output_is_refused():
    with pytest.raises(UsageError, match="the output is real"):
        jvpcli.jacobian("x.abs()", x=B[0])["y", "x"].pullback(torch.ones(3, dtype=torch.complex128))


TEXT = """\
x*0.5j

Shapes
  x       (2,)     input, float64
  y       (2,)     output, complex128
  v       (2,)     grad_outputs, ∂L/∂y: 1j,2
  ∂y/∂x   (2, 2)   the Jacobian, output + input: (0+0.5j) × identity, 2 of 4 entries not zero
  ∂L/∂x   (2,)     the result, the VJP: as x

Which product
  ∂L/∂x_i = Σ_j (Re v_j · ∂(Re y_j)/∂x_i + Im v_j · ∂(Im y_j)/∂x_i)
  einsum("j,ji->i", Re v, ∂(Re y)/∂x) + einsum("j,ji->i", Im v, ∂(Im y)/∂x)
  Flattened, Re v and Im v are row vectors of 2, and the Jacobians of Re y and of Im y are 2×2
  matrices: the result is the sum of two products of a vector and a matrix. Both are diagonal (each
  entry of y sends its gradient to one entry of x alone, its own), so these products come down to
  element-wise multiplication of Re v and of Im v with the diagonals. Complex numbers: PyTorch's
  grad gives ∂L/∂Re + i·∂L/∂Im (the conjugate of the mathematician's ∂L/∂z, times two for a real L),
  so that −grad points downhill. The input is real, and so is its gradient: the result is also
  Re(conj(v)·(∂(Re y)/∂x + i·∂(Im y)/∂x)).

The numbers
             v  x[0]  x[1]
  Re y[0]    0     0     0
  Im y[0]    1   0.5     0
  Re y[1]    2     0     0
  Im y[1]    0     0   0.5
  ∂L/∂x    vᵀJ   0.5     0

The result
  ∂L/∂x = [0.5, 0. ]
  torch.autograd.grad gives the same (compared entry by entry).
"""


def test_the_real_and_the_imaginary_part_have_a_row_each():
    stream = io.StringIO()
    report = investigate(Request("x*0.5j", {"x": "3,4"}, grad_outputs=((None, "1j,2"),), dtype="float64")).report
    render_inspect(report, Terminal(file=stream, width=100))
    assert stream.getvalue() == TEXT


@pytest.mark.parametrize(
    ("text", "structure", "formula"),
    [
        ("x*0.5j", "identity", "∂L/∂x_i = (Re v_i · ∂(Re y_i)/∂x_i + Im v_i · ∂(Im y_i)/∂x_i)"),
        ("x.conj()", "diagonal", "∂L/∂x_i = (Re v_i · ∂(Re y_i)/∂x_i + Im v_i · ∂(Im y_i)/∂x_i)"),
        ("x.imag*1j", "identity", "∂L/∂x_i = (Re v_i · ∂(Re y_i)/∂a_i + Im v_i · ∂(Im y_i)/∂a_i)"),
    ],
)
def test_a_step_of_a_trace_shows_both_parts(text, structure, formula):
    x = point("x*" not in text)
    steps = follow(asked(text, x), step=0).report.steps
    assert [local.structure for local in steps[-1].local_jacobians] == [structure]
    assert steps[-1].local_jacobians[0].nnz == 3


@pytest.mark.parametrize(
    ("text", "x", "structure"),
    [
        ("x*x.sum()", "1+1j,0,0", "dense"),
        ("x*x.sum()*1j", "0,0,1", "dense"),
        ("x*(x.sum()-x)", "0,0,1j", "dense"),
        ("x**2", "0,0,1+1j", "diagonal"),
        ("x.conj()**2", "0,0,1j", "diagonal"),
        ("x.real*(1+1j)", "0,1,1j", "diagonal"),  # Re v and Im v are added: no one number of v
        ("x[:2].real*(1+1j)", "0,1,1j", "banded"),
        ("2*x", "0,0,1j", "identity"),
        ("x*2j", "0,0,1", "identity"),
        ("x[:2]+0j", "0,1,0", "selection"),
        ("x.relu()*1j", "1,-1,2", "unknown"),  # a relu's zeros here are none elsewhere
    ],
)
def test_the_structure_holds_at_other_points_too(text, x, structure):
    """An entry that can be other than zero at some point is no structural zero, by ten random points."""
    shown = investigate(Request(text, {"x": x}, dtype="complex128" if "j" in x else "float64")).report.jacobian["y"]["x"]
    filled = torch.zeros(shown.shape, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        point = torch.randn(3, dtype=torch.complex128 if "j" in x else torch.float64, generator=generator)
        for part in (lambda y: y.real, lambda y: y.imag):
            filled |= gradients(text, point, part) != 0
    if structure in ("diagonal", "identity", "selection"):
        assert int(filled.sum()) == shown.shape[0]
    elif structure == "dense":
        assert bool(filled.all())
    assert shown.structure == structure
