"""Second derivatives, against torch.autograd.functional.hessian in float64, numpy's eigenvalues and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import jvpcli
from jvpcli.answers import hessian as answers
from jvpcli.errors import EvaluationError, InternalError, UsageError
from jvpcli.jacobians import eigenvalues
from jvpcli.jacobians.eigenvalues import Symmetric, extremes, trace
from jvpcli.jacobians.linear_map import DenseMap
from many_functions import FUNCTIONS, inputs_for

pytestmark = pytest.mark.filterwarnings("ignore")

NO_SECOND = {"torch.cdist(x, w)": "_cdist_backward"}
"""Functions that PyTorch has no second derivative of, and the operation that lacks it."""


def plainly(expression, *names):
    """L as a Python function: what the text gives, by Python itself, weighted by some v that is the same for all calls."""
    scope = {"torch": torch, "F": F, "math": math}
    function = eval(f"lambda {', '.join(names)}: ({expression})", scope)

    def outputs(*tensors):
        found = function(*tensors)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def weights(*tensors):
        generator = torch.Generator().manual_seed(5)
        return [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs(*tensors)]

    def loss(*tensors):
        pairs = zip(outputs(*tensors), weights(*[x.detach() for x in tensors]), strict=True)
        return sum(((y * v).sum() for y, v in pairs), torch.zeros((), dtype=torch.float64))

    return loss, weights


def flattened(blocks, inputs):
    """All blocks as one matrix (n, n)."""
    rows = [
        torch.cat([blocks[i][j].reshape(x.numel(), w.numel()) for j, w in enumerate(inputs)], 1) for i, x in enumerate(inputs)
    ]
    return torch.cat(rows)


@pytest.mark.parametrize(("expression", "shapes"), FUNCTIONS)
def test_it_is_what_torch_gives(expression, shapes):
    inputs = inputs_for(shapes)
    loss, weights = plainly(expression, *inputs)
    u = {name: torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype) for name, x in inputs.items()}

    def ask():
        return jvpcli.hessian(expression, inputs, grad_outputs=weights(*inputs.values()), tangent=u)

    if expression in NO_SECOND:
        with pytest.raises(jvpcli.JvpError, match=NO_SECOND[expression]):
            ask()
        return
    result = ask()
    assert result.symmetric
    assert set(result.hessian) == {(x, w) for x in inputs for w in inputs}
    for (x, w), block in result.hessian.items():
        assert block.shape == inputs[x].shape + inputs[w].shape
    n = sum(x.numel() for x in inputs.values())
    if any(not x.numel() for x in inputs.values()):  # which torch's own function cannot take
        assert (n, result.definite, result.eigenvalues.least) == (0, "zero", None)
        return
    expected = torch.autograd.functional.hessian(loss, tuple(inputs.values()))
    for i, x in enumerate(inputs):
        for j, w in enumerate(inputs):
            torch.testing.assert_close(result.hessian[x, w], expected[i][j], rtol=1e-9, atol=1e-9)
    matrix = flattened(expected, list(inputs.values()))
    product = matrix @ torch.cat([each.reshape(-1) for each in u.values()])
    torch.testing.assert_close(torch.cat([result.hvp[x].reshape(-1) for x in inputs]), product, rtol=1e-9, atol=1e-9)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    found = torch.tensor([result.eigenvalues.least, result.eigenvalues.greatest], dtype=torch.float64)
    torch.testing.assert_close(found, values[[0, -1]], rtol=1e-8, atol=1e-9)
    assert result.report.trace.value == pytest.approx(float(matrix.trace()), rel=1e-9, abs=1e-9)
    assert result.definite == in_words(values)


def in_words(values):
    """By the eigenvalues of a matrix of float64 numbers of ordinary size."""
    below, above = bool((values < -1e-9).any()), bool((values > 1e-9).any())
    if below and above:
        return "indefinite"
    if not below and not above:
        return "zero"
    return ("negative" if below else "positive") + ("" if bool((values.abs() > 1e-9).all()) else "_semi")


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", ["huber_loss", "smooth_l1_loss"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_a_loss_that_is_straight_here_is_not_so_everywhere(name, reduction, scale):
    text = f"F.{name}(x, w, reduction='{reduction}')"
    inputs = {"x": scale * torch.tensor([[1.0, -1.5, 0.3]]).double(), "w": scale * torch.tensor([[2.0, 2.0, 0.1]]).double()}
    result = jvpcli.hessian(text, inputs)
    loss = eval(f"lambda x, w: {text}.sum()", {"F": F})
    expected = torch.autograd.functional.hessian(loss, tuple(inputs.values()))
    for (i, x), (j, w) in itertools.product(enumerate(inputs), repeat=2):
        torch.testing.assert_close(result.hessian[x, w], expected[i][j])
        assert result.maps[x, w].structure == "diagonal"
    assert (HERE in result.report.notes) == (scale == 10.0)


@pytest.mark.parametrize(("shape", "running"), [((3, 2, 4), True), ((1, 2, 3), True), ((2, 2, 3), False)])
def test_instances_are_normalised_apart(shape, running):
    """The derivative of a normalisation has three results, of other shapes than what is normalised."""
    generator = torch.Generator().manual_seed(4)
    x, m, s, w, b, v = (torch.rand(n, generator=generator).double() for n in (shape, (2,), (2,), (2,), (2,), shape))
    given = "m, s, " if running else "None, None, "
    text = f"F.instance_norm(x, {given}w, b, use_input_stats=True)"
    inputs = {"x": x, "w": w, "b": b, **({"m": m, "s": s} if running else {})}
    result = jvpcli.hessian(text, inputs, wrt=("x", "w", "b"), grad_outputs=v)
    leaves = (x, w, b)
    expected = torch.autograd.functional.hessian(lambda x, w, b: (v * F.instance_norm(x, None, None, w, b)).sum(), leaves)
    for (i, a), (j, c) in itertools.product(enumerate("xwb"), repeat=2):
        torch.testing.assert_close(result.hessian[a, c], expected[i][j])


def test_what_rounding_makes_of_nothing_is_nothing_at_any_point():
    """The sum of what is normalised is zero, so that its second derivatives are roundings."""
    result = jvpcli.hessian("F.instance_norm(x).sum()", x=torch.ones(3, 2, 4, dtype=torch.float64))
    assert result.report.notes == (TRIED,)


def test_parts_of_the_python_api():
    result = jvpcli.hessian("(x**3).sum() + x @ w", x=[1.0, 2.0], w=[3.0, 4.0], tangent={"x": [1.0, 0.0]})
    assert result.gradient["x"].tolist() == [6, 16]
    assert result.hessian["x", "x"].tolist() == [[6, 0], [0, 12]]
    assert result.hessian["x", "w"].tolist() == [[1, 0], [0, 1]]
    assert {pair: each.structure for pair, each in result.maps.items()} == {
        ("x", "x"): "diagonal", ("x", "w"): "identity", ("w", "x"): "identity", ("w", "w"): "zero",
    }  # fmt: skip
    assert {name: each.tolist() for name, each in result.hvp.items()} == {"x": [6, 0], "w": [1, 0]}
    assert (result.symmetric, result.definite, result.eigenvalues.exact) == (True, "indefinite", True)
    assert result.to_dict()["hvp"]["x"] == {"shape": [2], "dtype": "float32", "value": [6.0, 0.0]}
    assert repr(result) == "<jvpcli.HessianResult of '(x**3).sum() + x @ w'>"
    assert "H is indefinite" in str(result)


def test_a_function_of_the_user_s_own():
    def energy(x, w):
        return torch.logsumexp(x * w, 0), (x**2).sum()

    x, w = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    result = jvpcli.hessian(energy, x=x, w=w, grad_outputs=[2.0, "none"], wrt="w")
    expected = torch.autograd.functional.hessian(lambda w: 2 * torch.logsumexp(x * w, 0), w)
    torch.testing.assert_close(result.hessian["w", "w"], expected)
    assert set(result.hessian) == {("w", "w")}


def test_one_output_of_several_is_looked_at_by_its_cotangent():
    result = jvpcli.hessian("F.softmax(x, 0)", x=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), grad_outputs="onehot:1")
    expected = torch.autograd.functional.hessian(lambda x: F.softmax(x, 0)[1], torch.tensor([1.0, 2.0, 3.0]).double())
    torch.testing.assert_close(result.hessian["x", "x"], expected)


def test_random_functions_draw_the_same_numbers_in_the_second_derivative():
    result = jvpcli.hessian("F.dropout(x)**2", x=torch.ones(20), seed=3)
    kept = jvpcli.inspect("F.dropout(x)", x=torch.ones(20), seed=3).outputs["y"]
    assert torch.equal(result.hessian["x", "x"].diagonal(), 2 * kept**2)


@pytest.mark.parametrize("expression", ["torch.fft.fft(x).abs().sum()", "torch.view_as_real(torch.fft.fft(x))**2", "x * 1j * x"])
def test_complex_numbers_on_the_way_are_no_matter(expression):
    x = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    result = jvpcli.hessian(expression, x=x)

    def loss(x):
        y = eval(expression, {"torch": torch, "x": x})
        return y.real.sum() if y.is_complex() else y.sum()

    torch.testing.assert_close(result.hessian["x", "x"], torch.autograd.functional.hessian(loss, x))


def test_complex_inputs_are_refused():
    with pytest.raises(UsageError) as caught:
        jvpcli.hessian("x.abs()**2", x=torch.tensor([1 + 2j]))
    assert caught.value.message == "the Hessian is of real inputs, and x is complex64"
    assert jvpcli.hessian("w * x.abs()**2", x=torch.tensor([1 + 2j]), w=1.0, wrt="w").definite == "zero"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("expression", ["torch.outer(x, x)", "torch.logsumexp(x, 0)", "F.softmax(x, 0)[0]", "x.prod()"])
def test_coarse_dtypes(expression, dtype):
    """The numbers to rounding, and never a sign that double precision denies."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    exact = jvpcli.hessian(expression, x=x.double())
    result = jvpcli.hessian(expression, x=x.to(getattr(torch, dtype)))
    scale = float(exact.hessian["x", "x"].abs().max())
    eps = torch.finfo(getattr(torch, dtype)).eps
    torch.testing.assert_close(result.hessian["x", "x"].double(), exact.hessian["x", "x"], rtol=0, atol=32 * eps * scale)
    assert result.definite in (exact.definite, "unknown")


@pytest.mark.parametrize(("expression", "shapes"), [case for case in FUNCTIONS if case[0] not in NO_SECOND])
def test_no_rounding_is_taken_for_a_sign_or_an_error(expression, shapes):
    """With v = ones much cancels (the sum of a softmax is 1), at large and at small inputs; zero may be what is too small."""
    for scale in (1.0, 100.0, 1e-3):
        inputs = {name: scale * x for name, x in inputs_for(shapes).items()}
        exact = jvpcli.hessian(expression, inputs).definite if "eye" not in expression else None
        for dtype in (torch.float32, torch.bfloat16):
            try:
                found = jvpcli.hessian(expression, {name: x.to(dtype) for name, x in inputs.items()})
            except EvaluationError:  # no kernel in half precision
                continue
            finite = all(bool(block.isfinite().all()) for block in found.hessian.values())
            assert found.symmetric is (True if finite else None)
            assert exact in (None, found.definite, "unknown") or found.definite in ("unknown", "zero"), (scale, dtype)


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_said_of_the_symmetry_of_what_is_not_finite():
    assert jvpcli.hessian("x.norm()", x=[0.0, 0.0]).symmetric is None


@pytest.mark.parametrize(
    ("expression", "shape", "structure", "definite"),
    [
        ("(x**4).sum()", (100_000,), "diagonal", "positive"),
        ("torch.tanh(x).sum()", (100_000,), "diagonal", "indefinite"),
        ("(x[1:] * x[:-1]).sum() + (x**2).sum()", (4000,), "banded", None),
        ("F.softmax(x, 1)[:, 0].sum()", (1000, 5), "block_diagonal", "indefinite"),
        ("torch.logsumexp(x, 1).sum()", (1000, 5), "block_diagonal", "positive_semi"),
    ],
)
def test_a_large_structured_hessian_is_found_by_the_engine(expression, shape, structure, definite):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result = jvpcli.hessian(expression, x=x, tangent="ones")
    assert result.maps["x", "x"].structure == structure
    assert result.report.plan.strategy in (("accumulated",) if x.numel() > 50_000 else ("accumulated", "dense", "batched"))
    if definite:
        assert result.definite == definite
        assert result.eigenvalues.exact
    loss, u = (lambda x: eval(expression, {"torch": torch, "F": F, "x": x})), torch.ones_like(x)
    torch.testing.assert_close(result.hvp["x"], torch.autograd.functional.hvp(loss, x, u)[1])
    torch.testing.assert_close(result.maps["x", "x"].pushforward(u), result.hvp["x"])


# --- zero, kinks, asymmetry ------------------------------------------------------------------------------------------

LINEAR = (
    "Every operation that the gradient of L goes back through to x is linear: to autograd the gradient is a constant, and its "
    "derivative zero."
)
TRIED = "Every entry is zero here and at 3 random points; whether it is everywhere was not found out."
PIECES = "Every entry is zero here and at 3 random points: so it is of a function that is linear piece by piece"
HERE = "Every entry is zero here, and not everywhere: at a random point with entries of size 0.5 to 1 they are not."
JUMP = "Where the first derivative jumps there is no second derivative; the jump is not in what PyTorch gives there."


@pytest.mark.parametrize(
    ("expression", "x", "notes"),
    [
        ("3 * x.sum() + 1", [1.0, 2.0], (LINEAR,)),
        ("x.reshape(2, 1).expand(2, 3).mean()", [1.0, 2.0], (LINEAR,)),
        ("torch.fft.irfft(torch.fft.rfft(x))", [1.0, 2.0, 3.0, 4.0], (LINEAR,)),
        ("F.linear(x, torch.ones(3, 2))", [1.0, 2.0], (LINEAR,)),
        ("x.detach() * x", [1.0, 2.0], (LINEAR,)),
        ("torch.where(x > 2, x**3, x)", [1.0, 0.5], (TRIED,)),
        ("x**3 * (x > 2)", [1.0, 0.5], (TRIED,)),
        ("torch.relu(x - 3) ** 2", [1.0, 0.5], (TRIED,)),
        ("F.elu(x)", [1.0, 0.5], (TRIED,)),
        ("F.softplus(x, beta=100.0)", [30.0, 40.0], (TRIED,)),
        ("torch.relu(x) if x.sum() < 100 else x**2", [1.0, 0.5], (TRIED,)),
        ("x / x.prod() * x.prod()", [1.0, 2.0], (TRIED,)),  # but for rounding
        ("torch.relu(x)", [-1.0, 2.0], (f"{PIECES}, as ReluBackward0 is: the second derivative is zero between the kinks.",)),
        (
            "torch.relu(x.abs() - 1)",
            [-0.5, 2.0],
            (f"{PIECES}, as AbsBackward0 and ReluBackward0 are: the second derivative is zero between the kinks.",),
        ),
        ("torch.sort(x).values[0]", [1.0, 2.0], (f"{PIECES}.",)),
        ("torch.abs(x)", [0.0], (f"{PIECES}, as AbsBackward0 is: the second derivative is zero between the kinks.", JUMP)),
        ("x**3", [0.0], (HERE,)),
        ("x**2 * 1e-30 * 1e-30", [1.0], (HERE,)),  # zero in float32 alone
        ("x**2", [1.0], ()),
    ],
)
def test_why_it_is_zero(expression, x, notes):
    result = jvpcli.hessian(expression, x=x)
    assert result.report.notes == notes
    assert (result.definite == "zero") == bool(notes)
    assert not notes or not result.hessian["x", "x"].any()


def test_a_kink_of_the_first_derivative_is_named():
    result = jvpcli.hessian("torch.relu(x) * 3", x=[-1.0, 0.0, 2.0])
    assert [each.message for each in result.report.warnings] == [
        "there is a kink at x[1] = 0: the derivatives from below and from above differ, and the one shown is PyTorch's choice"
    ]
    assert result.report.notes[-1] == JUMP


def test_a_jump_of_the_second_derivative_is_named():
    result = jvpcli.hessian("torch.relu(x)**2", x=[-1.0, 0.0, 2.0])
    assert [each.message for each in result.report.warnings] == [
        "the second derivative jumps at x[1] = 0: those from below and from above differ, and the one shown is PyTorch's choice"
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("expression", ["(x.sin()**2 + x.cos()**2).sum()", "torch.exp(x).sum()", "(x**3).sum()", "x.norm()"])
def test_rounding_is_no_jump(expression, dtype):
    result = jvpcli.hessian(expression, x=torch.tensor([0.1, 1.0, 2.0], dtype=getattr(torch, dtype)))
    assert not [each for each in result.report.warnings if each.code == "kink"]


def test_what_rounding_made_has_no_sign():
    result = jvpcli.hessian("(x.sin()**2 + x.cos()**2).sum()", x=torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64))
    assert result.definite == "unknown"
    assert max(abs(result.eigenvalues.least), abs(result.eigenvalues.greatest)) < 1e-15


def test_an_input_that_does_not_reach_the_output_is_told():
    report = jvpcli.hessian("x**2 + 0*w.shape[0]", x=[1.0], w=[1.0]).report
    assert [each.code for each in report.warnings] == ["unused_input"]
    assert report.hessian["w"]["x"].structure == "zero"


class _Wrong(torch.autograd.Function):
    """x³, with a backward that is not its derivative, and has an asymmetric one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, v):
        (x,) = ctx.saved_tensors
        return v * x * x.roll(1)


def test_a_wrong_backward_makes_it_asymmetric():
    result = jvpcli.hessian(lambda x: _Wrong.apply(x), x=torch.tensor([1.0, 2.0, 3.0]))
    assert (result.symmetric, result.definite, result.eigenvalues.least) == (False, "unknown", None)
    (warning,) = [each for each in result.report.warnings if each.code == "asymmetric"]
    assert warning.message.endswith("a backward of your own is not the derivative of its forward")
    assert "Not symmetric" in str(result)


def spoilt(monkeypatch, spoil):
    """The answer for x·x·w of three numbers each, with Jacobians of the gradient that are changed."""
    inner = answers.differentiate

    def changed(*arguments):
        derivatives, products = inner(*arguments)
        for each in derivatives.maps.values():
            spoil(each.matrix)
        return derivatives, products

    monkeypatch.setattr(answers, "differentiate", changed)
    return jvpcli.hessian("(x * x * w).sum()", x=[1.0, 2.0, 3.0], w=[1.0, 2.0, 3.0], tangent="ones")


def test_a_wrong_entry_is_an_error(monkeypatch):
    with pytest.raises(InternalError, match="two ways to ∂L/∂x from"):
        spoilt(monkeypatch, lambda matrix: matrix[0, 0].add_(1))


def test_an_operation_that_reads_half_of_a_matrix_makes_it_asymmetric():
    a = torch.tensor([[2.0, 0.5], [0.25, 1.0]], dtype=torch.float64)
    c = torch.tensor([[1.0, 3.0], [0.5, 2.0]], dtype=torch.float64)
    result = jvpcli.hessian("(torch.linalg.pinv(a, hermitian=True) * c).sin().sum()", a=a, c=c, wrt="a")
    expected = torch.autograd.functional.hessian(lambda t: (torch.linalg.pinv(t, hermitian=True) * c).sin().sum(), a)
    assert not torch.allclose(expected.reshape(4, 4), expected.reshape(4, 4).T)
    torch.testing.assert_close(result.hessian["a", "a"], expected)
    assert (result.symmetric, result.definite) == (False, "unknown")
    (warning,) = [each for each in result.report.warnings if each.code == "asymmetric"]
    assert warning.message.endswith("a backward of PyTorch's is not the derivative of its forward")


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("(x**w).sum()", {"x": [1.0, 2.0, 0.0], "w": [0.0, 0.0, 3.0]}),  # with NaN in what another entry gives
        ("(torch.linalg.det(x) * w).sum()", {"x": [[1.0, 1.0], [1.0, 1.0]], "w": [1.0, 1.0]}),
    ],
)
def test_formulas_of_pytorch_s_that_depend_on_the_order_are_told_of(text, inputs):
    x, w = (torch.tensor(value, requires_grad=True) for value in inputs.values())
    y = eval(text, {"torch": torch, "x": x, "w": w})
    by_x, by_w = torch.autograd.grad(y, (x, w), create_graph=True)
    (of_x,) = torch.autograd.grad(by_x.reshape(-1)[0], w, retain_graph=True)
    (of_w,) = torch.autograd.grad(by_w[0], x, retain_graph=True)
    assert of_x[0] != of_w.reshape(-1)[0]
    report = jvpcli.hessian(text, inputs).report
    assert [each.message.rpartition("; ")[2] for each in report.warnings if each.code == "asymmetric"] == [
        "a backward of PyTorch's is not the derivative of its forward"
    ]


def test_an_asymmetry_that_pytorch_s_own_products_lack_is_an_error(monkeypatch):
    monkeypatch.setattr(answers._Second, "checked", lambda self, u: answers.NOTHING)
    with pytest.raises(InternalError, match="are not symmetric, as PyTorch's products are"):
        spoilt(monkeypatch, lambda matrix: matrix[0, 1].add_(1))


# --- eigenvalues and trace -------------------------------------------------------------------------------------------


def held(matrix):
    """A symmetric matrix as one block of one input."""
    x = torch.zeros(len(matrix), dtype=matrix.dtype)
    return Symmetric({"x": x}, {("x", "x"): DenseMap(x.shape, x.shape, matrix)}, lambda u: {"x": matrix @ u["x"]})


def random_symmetric(values, seed=0):
    """A matrix with these eigenvalues."""
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return q @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ q.T


@pytest.mark.parametrize(
    "values",
    [[0.0] * 5, [2.0] * 5, [1.0, 1.0, -3.0], [5.0], [-1.0, 0.0, 1e6], list(range(-150, 150)), [0.0] * 60 + [1e-3, 4.0]],
)
def test_lanczos_finds_the_outermost_eigenvalues(monkeypatch, values):
    monkeypatch.setattr(eigenvalues, "MOST_WORK", 0)
    found = extremes(held(random_symmetric([float(value) for value in values])))
    scale = max(map(abs, values)) or 1.0
    assert not found.exact
    assert found.least >= min(values) - 1e-9 * scale  # never outside
    assert found.greatest <= max(values) + 1e-9 * scale
    assert abs(found.least - min(values)) <= max(found.least_error, 1e-6 * scale)
    assert abs(found.greatest - max(values)) <= max(found.greatest_error, 1e-6 * scale)


def test_a_number_that_is_not_finite_leaves_nothing_to_say(monkeypatch):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1, 2] = math.nan
    assert math.isnan(extremes(held(matrix)).least)
    monkeypatch.setattr(eigenvalues, "MOST_WORK", 0)
    assert math.isnan(extremes(held(matrix)).least)
    assert jvpcli.hessian("x.norm()", x=[0.0, 0.0]).definite == "unknown"


@pytest.mark.parametrize(
    "expression", ["torch.logsumexp(x @ x.T, 0).sum()", "(x**4).sum()", "x.prod() * 1e3", "(x[0] * x[1]).sum()"]
)
def test_products_alone_tell_as_much_as_they_can(expression):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = jvpcli.hessian(expression, x=x, tangent="ones")
    alone = jvpcli.hessian(expression, x=x, tangent="ones", jacobian="none")
    assert torch.equal(alone.hvp["x"], whole.hvp["x"])
    assert alone.report.hessian["x"]["x"].format == "omitted"
    assert alone.symmetric
    values = alone.eigenvalues
    scale = max(abs(whole.eigenvalues.least), abs(whole.eigenvalues.greatest))
    assert not values.exact
    assert values.least == pytest.approx(whole.eigenvalues.least, abs=1e-5 * scale)
    assert values.greatest == pytest.approx(whole.eigenvalues.greatest, abs=1e-5 * scale)
    assert alone.definite == ("indefinite" if whole.definite == "indefinite" else "unknown")
    estimated, exact = alone.report.trace, whole.report.trace
    assert exact.error is None
    assert abs(estimated.value - exact.value) <= 5 * estimated.error + 1e-9 * scale


def test_the_trace_of_a_diagonal_is_met_by_every_probe():
    estimated = trace(Symmetric({"x": torch.zeros(7)}, {("x", "x"): _Unheld((7,), (7,))}, lambda u: {"x": 3 * u["x"]}))
    assert (estimated.value, estimated.error) == (21.0, 0.0)


class _Unheld(DenseMap):
    """A block whose entries are not known."""

    def __init__(self, out_shape, in_shape):
        super().__init__(out_shape, in_shape, torch.zeros(0, 0))

    @property
    def nnz(self):
        return None


def test_a_hessian_beyond_the_memory_limit_is_known_by_its_products():
    x = torch.randn(60, 50, generator=torch.Generator().manual_seed(4))
    result = jvpcli.hessian("torch.logsumexp(x @ x.T / 50, 0).sum()", x=x, memory_limit="20MB", tangent="ones")
    assert result.report.plan.strategy == "matrix_free"
    assert result.report.hessian["x"]["x"].format == "omitted"
    loss = lambda x: torch.logsumexp(x @ x.T / 50, 0).sum()  # noqa: E731
    expected = torch.autograd.functional.hvp(loss, x, torch.ones_like(x))[1]
    torch.testing.assert_close(result.hvp["x"], expected, rtol=1e-3, atol=1e-4)
    assert result.eigenvalues.least < result.eigenvalues.greatest


@pytest.mark.parametrize("text", ["x.prod() * (x * x).sum().log_softmax(0)", "(x.exp().prod().softmax(0) + x.prod()).log()"])
def test_a_softmax_of_a_single_number(text):
    """Its second backward is an operation that no rule knows, from a number to a number."""
    x = torch.tensor([0.3, 1.2, 0.7], dtype=torch.float64)
    expected = torch.autograd.functional.hessian(lambda x: eval(text, {"x": x}), x)
    torch.testing.assert_close(jvpcli.hessian(text, x=x).hessian["x", "x"], expected)
