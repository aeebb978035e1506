"""The norms of a Jacobian's blocks, against torch's own Jacobian in double precision, cut up in plain Python."""

from __future__ import annotations

import io
import itertools
import json

import pytest
import torch

import jvpcli
from jvpcli.errors import JvpError, LimitError, UsageError
from jvpcli.jacobians.blocks import block_norms
from jvpcli.jacobians.engine import compute, plan
from jvpcli.options import BATCH, COMMAND_LINE, PYTHON, make_request
from jvpcli.render.inspect import render_inspect
from jvpcli.render.terminal import Terminal


def cut(length, size):
    """The pieces of an axis, as slices."""
    return [slice(start, start + size) for start in range(0, length, size)]


def expected(jacobian, shape, sizes):
    """The norms block by block: a table by the numbers of the pieces along each axis that is cut."""
    ends = [each[: len(part)] for each, part in zip((shape, jacobian.shape[len(shape) :]), sizes, strict=True)]
    axes = [[cut(*axis) for axis in zip(end, part, strict=False)] for end, part in zip(ends, sizes, strict=True)]
    whole = [slice(None)] * (len(shape) - len(axes[0]))
    norms = [
        jacobian[(*left, *whole, *right)].abs().square().sum().sqrt()
        for left in itertools.product(*axes[0])
        for right in itertools.product(*axes[1])
    ]
    sizes = [len(axis) for part in axes for axis in part]
    return torch.stack(norms).reshape(sizes) if norms else torch.zeros(sizes, dtype=torch.float64)


CASES = {
    "matrix product": ("x @ w", lambda x, w: x @ w, [(5, 3), (3, 4)], "2,1"),
    "one number": ("(x**2).sum()", lambda x: (x**2).sum(), [(7,)], "1,3"),
    "of one number": ("x * w", lambda x, w: x * w, [(), (4,)], "3,1"),
    "two axes": ("x.transpose(0, 1).sin()", lambda x: x.transpose(0, 1).sin(), [(4, 6, 2)], "2x2,3x2"),
    "more sizes than axes": ("x.cumsum(0)", lambda x: x.cumsum(0), [(5,)], "2x9,2x9"),
    "broadcast": ("x + w", lambda x, w: x + w, [(3, 1), (1, 4)], "1x2,1x2"),
    "larger than the tensor": ("x.softmax(-1)", lambda x: x.softmax(-1), [(3, 5)], "9,9"),
    "many entries, few of them other than zero": ("x.sin() * x.roll(1)", lambda x: x.sin() * x.roll(1), [(90,)], "7,11"),
    "many entries": ("x.sin() @ x", lambda x: x.sin() @ x, [(9, 9)], "2x4,3x3"),
    "no input": ("w + x.sum()", lambda x, w: w + x.sum(), [(0,), (2,)], "1,1"),
    "zero": ("x.floor()", lambda x: x.floor(), [(3,)], "1,1"),
}


@pytest.mark.parametrize("form", ["auto", "none"])
@pytest.mark.parametrize("name", CASES)
def test_norms(name, form):
    text, function, shapes, sizes = CASES[name]
    draw = torch.Generator().manual_seed(0)
    inputs = {
        key: torch.randn(shape, generator=draw, dtype=torch.float64) for key, shape in zip(("x", "w"), shapes, strict=False)
    }
    found = jvpcli.inspect(text, inputs, blocks=sizes, jacobian=form)
    jacobians = torch.autograd.functional.jacobian(function, tuple(inputs.values()))
    parts = tuple(tuple(map(int, part.split("x"))) for part in sizes.split(","))
    for (key, x), jacobian in zip(inputs.items(), jacobians, strict=True):
        shape = tuple(jacobian.shape[: jacobian.dim() - x.dim()])
        norms = expected(jacobian, shape, parts)
        assert found.blocks["y", key].dtype == torch.float64
        torch.testing.assert_close(found.blocks["y", key], norms, rtol=1e-12, atol=1e-12)
        block = found.report.blocks["y"][key]
        assert (block.output_sizes, block.input_sizes) == (parts[0][: len(shape)], parts[1][: x.dim()])


def test_several_outputs_and_half_precision():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float16)
    found = jvpcli.inspect("(x.sum(1), 300 * x[:1])", x=x, blocks="1,1")
    assert list(found.blocks) == [("y0", "x"), ("y1", "x")]
    torch.testing.assert_close(found.blocks["y0", "x"], 2**0.5 * torch.eye(3, dtype=torch.float64))  # rows of two ones
    third = torch.tensor([[300 * 2**0.5, 0.0, 0.0]], dtype=torch.float64)  # its square is beyond float16
    torch.testing.assert_close(found.blocks["y1", "x"], third)


def test_no_output():
    assert jvpcli.inspect("x[:0] * 2", x=torch.ones(3, 2), blocks="2,1").blocks["y", "x"].shape == (0, 3)


def test_complex():
    """Of what is shown: of a real input ∂Re y/∂x + i ∂Im y/∂x."""
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    norms = jvpcli.inspect("x * (3 + 4j)", x=x, blocks="1,2").blocks["y", "x"]
    torch.testing.assert_close(norms, torch.tensor([[5.0, 0], [5, 0], [0, 5]], dtype=torch.float64))
    both = jvpcli.inspect("z.conj() + 2 * z", z=torch.tensor([1 + 1j], dtype=torch.complex128), blocks="1,1")
    parts = both.report.jacobian["y"]["z"]  # not complex differentiable: the gradients of Re y and of Im y stand apart
    assert both.blocks["y", "z"].item() == pytest.approx((abs(parts.value).item() ** 2 + abs(parts.imaginary).item() ** 2) ** 0.5)
    with pytest.raises(UsageError, match="complex tensors"):
        jvpcli.inspect("x * (3 + 4j)", x=x, blocks="1,2", jacobian="none")


def test_what_is_too_large_to_write_out_is_gone_through_by_rows():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    y = x.sin() @ x.t()
    (held,), (short,) = (compute(plan(y, [x], memory_limit=limit)).maps for limit in (None, 30_000))
    assert held.nnz is not None
    assert short.nnz is None
    told = []
    norms = block_norms(short, ((10,), (1,)), lambda *now: told.append(now))
    torch.testing.assert_close(norms, block_norms(held, ((10,), (1,))), rtol=1e-12, atol=1e-12)
    assert told[-1][1:] == (1600, 1600)


TEXT = """\
The norms of the Jacobian's blocks
  ‖∂y/∂x‖  [0,0:2]  [0,2:3]  [1,0:2]  [1,2:3]
  y[0:2]      2.83        2        0        0
  y[2:3]         0        0     1.41        1
"""


def test_the_text():
    """The rows of y are 2 x_0, 0 and x_1: the norms are roots of 2·4, 1·4, 2 and 1."""
    stream = io.StringIO()
    result = jvpcli.inspect("torch.stack([2 * x[0], 0 * x[0], x[1]])", x=torch.ones(2, 3), blocks="2,1x2")
    render_inspect(result.report, Terminal(file=stream, width=100))
    assert TEXT in stream.getvalue()


def test_a_long_table_is_cut_and_shown_in_full(jvp):
    words = ("inspect", "x.cumsum(0)", "--x", "torch.ones(60)", "--blocks", "1,1")
    short, whole = jvp(*words).out, jvp(*words, "--full").out
    assert "48 of 60 rows and 44 of 60 columns not shown; --full shows all" in short
    assert len(short.splitlines()) <= 40
    assert "y[59]" in short
    assert "y[30]" not in short.partition("blocks")[2]
    assert all(f"y[{row}]" in whole.partition("blocks")[2] for row in range(60))


def test_the_document(jvp):
    document = json.loads(jvp("inspect", "x.cumsum(0)", "--x", "1,2,3", "--blocks", "2,1", "--json").out)
    norms = [[2**0.5, 1, 0], [1, 1, 1]]
    found = document["blocks"]["y"]["x"]
    assert (found["output_sizes"], found["input_sizes"]) == ([2], [1])
    assert found["norms"] == [pytest.approx(row) for row in norms]
    line = json.dumps({"expression": "x.cumsum(0)", "inputs": {"x": [1, 2, 3]}, "blocks": [2, 1]})
    assert json.loads(jvp("batch", stdin=line).out)["blocks"] == document["blocks"]


@pytest.mark.parametrize(
    ("door", "given"),
    [(COMMAND_LINE, "2x3,4"), (BATCH, "2x3,4"), (BATCH, [[2, 3], 4]), (PYTHON, ((2, 3), 4)), (PYTHON, ("2x3", 4))],
)
def test_sizes(door, given):
    assert make_request({"expression": "x", "blocks": given}, door, "inspect").blocks == ((2, 3), (4,))


@pytest.mark.parametrize("given", ["1", "1,2,3", "a,b", "0,1", "1,-1", "", "1x,2", "1.5,2", 3, [1], [[], 1], [True, 1], [1.5, 2]])
def test_what_is_no_size(given):
    with pytest.raises(UsageError, match="takes the sizes of the output's pieces"):
        make_request({"expression": "x", "blocks": given}, PYTHON, "inspect")


def test_too_many_blocks():
    with pytest.raises(LimitError, match="4000000 of them") as caught:
        jvpcli.inspect("x * 2", x=torch.ones(2000), blocks="1,1")
    assert isinstance(caught.value, JvpError)
    assert jvpcli.inspect("x * 2", x=torch.ones(2000), blocks="2,2").blocks["y", "x"].shape == (1000, 1000)


def test_outputs_that_are_left_out_are_still_terms_of_the_sum(jvp):
    outputs = "[x*i for i in range(1,7)]+[a*i for i in range(1,4)]+[b*c*d*e, x.sum()*b.sum()]"
    given = ["--a", "1,2,3", "--b", "1,2", "--c", "1,2", "--d", "3,4", "--e", "1,3", "--blocks", "1,1"]
    shown = jvp("inspect", outputs, "--x", "torch.randn(9)", *given, "--tangent", "x=torch.ones(9)").out
    assert "10 of 11 outputs" in shown
    assert "L = ⟨v, y0⟩ + …: the outputs' contributions to each input add up." in shown
