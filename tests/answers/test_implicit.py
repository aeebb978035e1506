"""A derivative call without v is told as PyTorch takes it; with is_grads_batched there is a row of the result for each v."""

from __future__ import annotations

import io

import pytest
import torch

from jvpcli.answers.check import check
from jvpcli.answers.inspect import inspect, investigate
from jvpcli.answers.trace import trace
from jvpcli.errors import ShapeMismatchError, UsageError
from jvpcli.language.pasted import read_pasted
from jvpcli.render.inspect import render_inspect
from jvpcli.render.terminal import Terminal
from jvpcli.request import Request

X = torch.tensor([0.5, -1.5], dtype=torch.float64)


def asked(source: str, **more) -> Request:
    """The request that a pasted program makes."""
    pasted = read_pasted(source)
    weights = tuple((None, text) for text in pasted.grad_outputs)
    options = {"wrt": pasted.wrt or None, "grad_outputs": weights, "is_grads_batched": pasted.is_grads_batched}
    return Request(pasted.expression, {"x": X}, **{**options, **more})


def raised(source: str) -> str | None:
    """What PyTorch itself raises for the program."""
    scope = {"torch": torch, "x": X.clone().requires_grad_()}
    try:
        exec(source, scope)
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return None


OUTPUTS = ("x.sin()", "x.sum()", "x[:1]", "x[:0]", "x[None, :1]", "(x*1j).sum()", "x*(1+1j)", "(x[:1]*1j)")
CALLS = (
    "y = {}; y.backward()",
    "y = {}; y.backward(None)",
    "torch.autograd.grad({}, x)",
    "torch.autograd.grad(({}, x.sum()), x)",
    "torch.autograd.grad((x.prod(), {}), x, (None, None))",
    "torch.autograd.backward({})",
    "torch.autograd.functional.vjp(lambda x: {}, x)",
    "torch.func.grad(lambda x: {})(x)",
)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("call", CALLS)
def test_what_pytorch_raises_is_told_first_and_the_result_is_that_of_ones(call, output):
    source = call.format(output)
    expected = raised(source)
    report = inspect(asked(source))
    assert (report.refusal and report.refusal.message) == expected
    assert {v.source for v in report.grad_outputs.values()} == {"ones"}
    leaf = X.clone().requires_grad_()
    outputs = [eval(output, {"torch": torch, "x": leaf})]
    outputs += [leaf.sum()] if "x.sum())" in call else [leaf.prod()] if "prod" in call else []
    total = sum((y.real if y.is_complex() else y).sum() for y in outputs)
    torch.testing.assert_close(torch.as_tensor(report.vjp["x"].value), torch.autograd.grad(total, leaf)[0])
    if expected and report.refusal.explanation.count("gradient of"):
        stands_for = report.refusal.explanation.rpartition("gradient of ")[2].rstrip(".")
        name = stands_for.partition(".")[0]
        y = eval(output, {"torch": torch, "x": X})
        torch.testing.assert_close(eval(stands_for, {name: y}), (y.real if y.is_complex() else y).sum())


def test_the_same_is_told_by_a_trace_and_changes_no_check():
    request = asked("y = x.sin(); y.backward()")
    assert trace(request).refusal == inspect(request).refusal is not None
    plain = check(Request(request.expression, {"x": X}))
    assert (check(request).verdict, check(request).worst) == (plain.verdict, plain.worst)


def test_where_v_is_given_nothing_is_told():
    assert inspect(asked("y = x.sin(); y.backward(torch.ones(2))")).refusal is None
    assert inspect(Request("x.sin()", {"x": X})).refusal is None


TEXT = """\
y = x.sin(); y

PyTorch raises
  RuntimeError: grad can be implicitly created only for scalar outputs
  y has 2 entries, in the shape (2,); without v, the weights of its entries, PyTorch differentiates
  only one real number. It needs v of the shape (2,), as torch.ones_like(y). Here v is ones: this is
  the gradient of y.sum().

Shapes
"""


def text(request: Request) -> str:
    """The answer as a person reads it."""
    stream = io.StringIO()
    render_inspect(inspect(request), Terminal(file=stream, width=100))
    return stream.getvalue()


def test_the_error_stands_first():
    assert text(asked("y = x.sin(); y.backward()")).startswith(TEXT)


def test_the_default_is_explained_where_pytorch_has_none():
    several = " ".join(text(Request("x.sin()", {"x": X})).split())
    assert "ones (the default; torch.autograd.grad itself has a default only for a single-element output)" in several
    assert "grad_outputs, ∂L/∂y: ones\n" in text(Request("x.sum()", {"x": X}))
    assert "grad_outputs, ∂L/∂y: ones\n" in text(Request("x[:1]", {"x": X}))
    assert "itself has none for a complex output" in " ".join(text(Request("x[0]*1j", {"x": X})).split())


# Several v at once


A = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("expression", "shape"),
    [("A@x", (2,)), ("x.sum()", ()), ("torch.outer(x, x)", (3, 3)), ("x*(1+2j)", (3,)), ("x[:0]", (0,)), ("x.relu()", (3,))],
)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_each_v_has_a_row_of_the_result(expression, shape, count):
    x = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    y = eval(expression, {"A": A, "torch": torch, "x": leaf})
    v = torch.randn(count, *shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    given = {"x": x, "A": A} if "A" in expression else {"x": x}
    request = Request(expression, given, wrt=("x",), grad_outputs=((None, v),), is_grads_batched=True)
    found = investigate(request)
    rows = [torch.autograd.grad(y, leaf, each, retain_graph=True)[0] for each in v]
    expected = torch.stack(rows) if rows else torch.zeros(0, 3, dtype=torch.float64)
    torch.testing.assert_close(found.products.vjp["x"], expected)
    if count:
        torch.testing.assert_close(torch.autograd.grad(y, leaf, v, is_grads_batched=True)[0], expected)
    contraction = found.report.contraction["y"]["x"]
    if not y.is_complex():
        jacobian = torch.as_tensor(found.report.jacobian["y"]["x"].value)
        torch.testing.assert_close(torch.einsum(contraction.einsum, v, jacobian), expected)
    assert found.report.is_grads_batched is True
    assert f"∂L/∂y, {count} of them" in text(request)


TABLE = """\
           v_0  v_1  x[0]  x[1]  x[2]
  y[0]       1    0     1     2   0.5
  y[1]       0    2     0    -1     3
  ∂L_0/∂x  vᵀJ          1     2   0.5
  ∂L_1/∂x       vᵀJ     0    -2     6
"""


def test_each_v_has_a_column_and_a_result():
    v = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert TABLE in text(Request("A@x", {"x": "1,2,3", "A": A.float()}, ("x",), ((None, v),), is_grads_batched=True))


def test_several_outputs_and_an_input_that_only_one_reaches():
    w = torch.tensor([3.0], dtype=torch.float64)
    weights = ((None, torch.eye(2)), (None, torch.tensor([5.0, 7.0])))
    found = investigate(Request("(x*2, (x*w).sum())", {"x": X, "w": w}, grad_outputs=weights, is_grads_batched=True))
    expected = 2 * torch.eye(2) + 3 * torch.tensor([[5.0], [7.0]])
    torch.testing.assert_close(found.products.vjp["x"], expected.double())
    torch.testing.assert_close(found.products.vjp["w"], (torch.tensor([[5.0], [7.0]]) * X.sum()).double())


@pytest.mark.parametrize("v", ["1,2,3", "torch.ones(2,3)", "1", "ones", "implicit"])
def test_what_is_no_batch_is_refused(v):
    with pytest.raises(ShapeMismatchError, match="with is_grads_batched each v along its first axis has \\(2,\\)") as caught:
        inspect(Request("x.sin()", {"x": X}, grad_outputs=((None, v),), is_grads_batched=True))
    if v in ("1,2,3", "torch.ones(2,3)"):
        given = {"1,2,3": torch.ones(3), "torch.ones(2,3)": torch.ones(2, 3)}[v]
        leaf = X.clone().requires_grad_()
        with pytest.raises(RuntimeError) as theirs:
            torch.autograd.grad(leaf.sin(), leaf, given, is_grads_batched=True)
        assert caught.value.torch_message == str(theirs.value)


def test_as_many_v_for_each_output():
    weights = ((None, torch.ones(2, 2)), (None, torch.ones(3)))
    with pytest.raises(UsageError, match="2 for y0, 3 for y1"):
        inspect(Request("(x, x.sum())", {"x": X}, grad_outputs=weights, is_grads_batched=True))
