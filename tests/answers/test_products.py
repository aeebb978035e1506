"""Two ways to a number: rounding is let pass, however much cancels; a wrong number is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import jvpcli
from jvpcli.answers import inspect as inspecting
from jvpcli.answers.products import multiply
from jvpcli.answers.weights import read_cotangents
from jvpcli.errors import InternalError
from jvpcli.jacobians.compute import plan
from jvpcli.jacobians.graph import scatter
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.language.parse import parse
from jvpcli.problem import Problem
from jvpcli.request import Request

pytestmark = pytest.mark.filterwarnings("ignore")

DTYPES = ("float32", "float64", "float16", "bfloat16")

CANCELLING = [
    "torch.cosine_embedding_loss(x.reshape(1, 4), x.reshape(1, 4), torch.ones(7))",
    "F.cosine_embedding_loss(x.reshape(2, 2), x.reshape(2, 2), torch.ones(2))",
    "1 - torch.cosine_similarity(x, 3 * x, 0)",
    "F.normalize(x, dim=0).norm()",
    "F.softmax(x * 1e2, 0).sum()",
    "F.layer_norm(x, (4,)).sum()",
    "(F.layer_norm(x, (4,)) ** 2).mean()",
    "torch.logsumexp(x + 1e3, 0) - 1e3 - torch.logsumexp(x, 0)",
    "(x * 1e4 - x * 1e4).sum()",
    "torch.var(x + 1e3)",
    "(x.sin() ** 2 + x.cos() ** 2).sum()",
]
"""Derivatives that are zero, or small, as sums of terms that are not."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("expression", CANCELLING)
@pytest.mark.parametrize("x", ["1,2,3,4", "0.1,0.7,-0.3,0.2", "1,1,1,1"])
def test_what_cancels_is_no_disagreement(expression, dtype, x):
    report = inspecting.inspect(Request(expression, inputs={"x": x}, dtype=dtype))
    numbers = [float(number) for number in x.split(",")]
    tensor = torch.tensor(numbers, dtype=getattr(torch, dtype), requires_grad=True)
    (expected,) = torch.autograd.grad(eval(expression, {"torch": torch, "F": F, "x": tensor}).sum(), tensor)
    assert torch.equal(torch.as_tensor(report.vjp["x"].value).to(expected.dtype), expected)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("expression", ["x", "x.view(3)", "x.reshape(1, 3)", "x.clone()", "torch.cat([x, x[:0]])"])
def test_what_is_given_and_what_is_found_do_not_share_memory(expression, mode):
    """Of a program that hands its operand on a pass may give back what it was given: which is asked for again, and again."""
    x = torch.tensor([1.0, 2.0, 3.0])
    for _ in range(4):
        v = torch.ones_like(eval(expression, {"x": x, "torch": torch}))
        found = jvpcli.inspect(expression, x=x, grad_outputs=v, mode=mode)
        jacobian, gradient = found.jacobian["y", "x"], found.vjp["x"]
        assert torch.equal(jacobian.reshape(3, 3), torch.eye(3))
        assert torch.equal(gradient, torch.ones(3))
        jacobian.fill_(7)
        gradient.fill_(5)
        assert torch.equal(v, torch.ones_like(v))
        assert torch.equal(x, torch.tensor([1.0, 2.0, 3.0]))


def disagreement(expression: str, x: torch.Tensor, spoil) -> None:
    """The products of a request whose Jacobian has been spoilt."""
    request = Request(expression, inputs={"x": x})
    problem = Problem(parse(expression), {"x": x}, ("x",))
    found = plan(problem).derive()
    j = found.maps["y", "x"]
    matrix = j.to_dense().reshape(j.m, j.n).clone()
    spoil(matrix)
    spoilt = replace(found, maps={("y", "x"): DenseMap(j.out_shape, j.in_shape, matrix)})
    multiply(spoilt, problem, read_cotangents(request, problem.evaluation), {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "expression",
    ["torch.outer(x, x)", "x.exp().sum()", "F.softmax(x, 0)[:2]",
     "torch.linalg.inv(torch.outer(x, x) + torch.eye(4, dtype=x.dtype))",
     "torch.stack([x.sin() * i for i in range(1, 40)])", *CANCELLING],
)  # fmt: skip
def test_a_wrong_entry_is_still_found(expression, dtype):
    """By one part in a hundred of the entry, or of the terms that cancel in it."""
    x = torch.tensor([0.3, 0.7, -1.1, 1.3], dtype=dtype)
    disagreement(expression, x, lambda matrix: None)

    def spoil(matrix):
        flat = matrix.reshape(-1)
        place = int(flat.abs().argmax())
        terms = 1e4 if "1e4" in expression else 10.0 if "1e" in expression else 1.0
        flat[place] += 0.01 * max(float(flat[place].abs()), terms)

    with pytest.raises(InternalError, match="two ways"):
        disagreement(expression, x, spoil)


def test_the_scatter_is_that_of_the_terms():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = torch.tensor(1.0)
    eps = 2.0**-23
    large = scatter((x * 1e4 - x * 1e4).sum(), x, v, eps)
    small = scatter((x - x).sum(), x, v, eps)
    assert 1e3 * eps < large < 1e5 * eps
    assert 0.1 * eps < small < 10 * eps
    assert scatter(torch.fft.fft(x)[0], x, torch.tensor(1 + 0j), eps) == 0.0


SPARSE = [
    ("x.gather(0, torch.tensor([0, 2, 2]), sparse_grad=True)", "x.gather(0, torch.tensor([0, 2, 2]))"),
    ("torch.gather(x.reshape(2, 2), 1, torch.tensor([[1], [0]]), sparse_grad=True)",
     "x.reshape(2, 2).gather(1, torch.tensor([[1], [0]]))"),
    ("F.embedding(torch.tensor([1, 1]), x.reshape(2, 2), sparse=True)", "x.reshape(2, 2)[torch.tensor([1, 1])]"),
    ("F.embedding(torch.tensor([1, 0]), x[:, None], None, None, 2.0, False, True)", "x[:, None][torch.tensor([1, 0])]"),
    ("F.embedding_bag(torch.tensor([[0, 1]]), x.reshape(2, 2), sparse=True)", "x.reshape(2, 2).mean(0, keepdim=True)"),
    ("torch.embedding(x.reshape(2, 2), torch.tensor([0, 1]), -1, False, True)", "x.reshape(2, 2)"),
    ("torch.embedding_bag(x.reshape(2, 2), torch.tensor([0, 1]), torch.tensor([0]), False, 0, True)[0]",
     "x.reshape(2, 2).sum(0, keepdim=True)"),
]  # fmt: skip


@pytest.mark.parametrize("repeat", [1, 40])
@pytest.mark.parametrize(("expression", "plain"), SPARSE)
def test_sparse_gradients_are_dense(expression, plain, repeat):
    """For small problems and for large ones: the numbers are those of the same thing without the flag."""
    found, expected = (
        inspecting.inspect(Request(f"z = {text}; z.repeat({repeat}, 1) * 1", inputs={"x": "1,2,3,4"}))
        for text in (expression, plain)
    )
    assert torch.equal(torch.as_tensor(found.vjp["x"].value), torch.as_tensor(expected.vjp["x"].value))
    assert torch.equal(
        torch.as_tensor(found.jacobian["y"]["x"].value), torch.as_tensor(expected.jacobian["y"]["x"].value)
    )


@pytest.mark.parametrize("factor", [1e-320, 1e-44, 1e-45, 1e-30])
def test_entries_that_are_too_small_for_a_number_are_zero(factor):
    x, w = torch.linspace(-1, 1, 125).reshape(5, 5, 5), torch.linspace(1, 2, 250).reshape(5, 5, 10)
    text, inputs = f"torch.addbmm(z, x, w, alpha={factor})", {"z": torch.ones(5, 10), "x": x, "w": w}
    assert "the result" in str(jvpcli.inspect(text, inputs))  # whose words tell which entries are zero
    by_rows = torch.autograd.functional.jacobian(lambda x: torch.addbmm(torch.ones(5, 10), x, w, alpha=factor), x)
    assert jvpcli.jacobian(text, inputs)["y", "x"].nnz == int(torch.count_nonzero(by_rows))


@pytest.mark.parametrize(("shift", "size"), [("nan", 1.0), ("inf", 1.0), ("0", 2.0), ("torch.tensor([nan, 0])", 1.5)])
def test_an_output_without_one_finite_number_tells_nothing_of_its_size(shift, size):
    shift = shift.replace("nan", "float('nan')").replace("inf", "float('inf')")
    inputs = {"x": torch.tensor([2.0, 1.5])}
    assert Problem(parse(f"x + {shift}", inputs.keys()), inputs, ("x",)).size("y") == size
