"""On a graphics card: the answers of `--device cuda` are those of the CPU. Skipped where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import jvpcli
from jvpcli.errors import UsageError
from many_functions import FUNCTIONS, inputs_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")

HERE = [case for case in FUNCTIONS if "torch.eye(" not in case[0] and "torch.gather" not in case[0]]
"""Those that make no tensor of their own, which PyTorch would make on the CPU and refuse to join with the card's."""


def on_card(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.cuda() for name, x in inputs.items()}


@pytest.mark.parametrize(("expression", "shapes"), HERE)
def test_jacobians_are_those_of_the_cpu(expression, shapes, oracle):
    inputs = inputs_for(shapes)
    expected = oracle(expression, inputs)
    result = jvpcli.inspect(expression, inputs, device="cuda")
    for (index, name), want in expected.items():
        found = result.jacobian[list(result.outputs)[index], name]
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), want)
    assert all(gradient.device.type == "cuda" for gradient in result.vjp.values())


@pytest.mark.parametrize(("expression", "shapes"), HERE)
def test_the_map_alone_is_that_of_the_cpu(expression, shapes):
    inputs = inputs_for(shapes)
    here, there = jvpcli.jacobian(expression, inputs), jvpcli.jacobian(expression, on_card(inputs))
    for key, one in maps(here).items():
        other = maps(there)[key]
        assert one.structure == other.structure
        torch.testing.assert_close(other.to_dense().cpu(), one.to_dense())
        seed = torch.randn(one.out_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(other.pullback(seed.cuda()).cpu(), one.pullback(seed))
        tangent = torch.randn(one.in_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(other.pushforward(tangent.cuda()).cpu(), one.pushforward(tangent))


def maps(found: Any) -> dict[Any, Any]:
    return dict(found.items()) if hasattr(found, "items") else {None: found}


def test_a_formula_is_of_no_device():
    x = torch.tensor([1.0, 2.0])
    assert jvpcli.derive("torch.outer(x, x)", x=x.cuda()).torch == jvpcli.derive("torch.outer(x, x)", x=x).torch


@pytest.mark.parametrize("expression", ["x.to('cpu') * 2", "(x.sin(), x.to('cpu'))"])
@pytest.mark.parametrize("question", [jvpcli.inspect, jvpcli.jacobian, jvpcli.trace, jvpcli.check, jvpcli.hessian])
def test_an_answer_is_on_one_device(expression, question):
    with pytest.raises(UsageError, match=r"several devices: x on cuda:0, .* on cpu"):
        question(expression, x=torch.tensor([1.0, 2.0, 3.0]).cuda())


LARGE = [
    ("torch.sin(x)", {"x": (3000,)}),
    ("torch.outer(x, x)", {"x": (64,)}),
    ("x @ w", {"x": (60, 40), "w": (40, 50)}),
    ("torch.softmax(x @ w, 1)", {"x": (50, 30), "w": (30, 20)}),
    ("F.conv2d(x, w, padding=1)", {"x": (2, 3, 16, 16), "w": (4, 3, 3, 3)}),
    ("F.avg_pool2d(x, 2).exp()", {"x": (1, 1, 64, 64)}),
    ("torch.cumsum(x, 0) * x", {"x": (300,)}),
    ("torch.linalg.solve(x + 9 * torch.diag(torch.ones_like(x[0])), w)", {"x": (20, 20), "w": (20,)}),
    ("torch.tanh(x @ w) @ b", {"x": (100, 40), "w": (40, 30), "b": (30, 10)}),
]


@pytest.mark.parametrize(("expression", "shapes"), LARGE)
def test_large_ones(expression, shapes, oracle):
    generator = torch.Generator().manual_seed(5)
    inputs = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    expected = oracle(expression, inputs)
    found = jvpcli.jacobian(expression, on_card(inputs), wrt=["x"])
    for one in maps(found).values():
        torch.testing.assert_close(one.to_dense().cpu(), expected[0, "x"])


@pytest.mark.parametrize(
    "expression",
    ["torch.outer(x, x)", "x.exp().sum()", "torch.relu(x)", "(x * torch.roll(x, 1)).cumsum(0)", "F.softmax(x, 0)", "x.sqrt()"],
)
def test_trace_check_and_hessian(expression):
    inputs = {"x": torch.tensor([1.0, 2.0, 0.5, 3.0])}
    here, there = (jvpcli.trace(expression, inputs, device=device) for device in ("cpu", "cuda"))
    assert len(here.steps) == len(there.steps)
    checked = [jvpcli.check(expression, inputs, device=device) for device in ("cpu", "cuda")]
    assert [one.verdict for one in checked] == ["pass", "pass"]
    one, other = (jvpcli.hessian(expression, inputs, device=device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(other.hessian["x", "x"].cpu(), one.hessian["x", "x"])


def test_a_network_of_the_card(oracle):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(net, x)
    net.cuda()
    result = jvpcli.inspect(net, x=x.cuda())
    torch.testing.assert_close(next(iter(result.jacobian.values())).cpu(), expected)
    by_weight = jvpcli.inspect(net, x=x.cuda(), wrt="0.weight")
    assert by_weight.vjp["0.weight"].device.type == "cuda"
    assert jvpcli.check(net, x=x.cuda()).passed


def jvp(*words: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "jvpcli", *words], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def numbers(document: Any) -> Any:
    """The document's numbers, rounded: a card adds in another order."""
    if isinstance(document, dict):
        return {key: numbers(value) for key, value in document.items() if key not in ("device", "elapsed", "seconds", "command")}
    if isinstance(document, list):
        return [numbers(value) for value in document]
    return round(document, 4) if isinstance(document, float) else document


@pytest.mark.parametrize("command", ["inspect", "trace", "hessian"])
def test_the_command_line_gives_the_same_document(command):
    words = [command, "torch.outer(x,x)", "--x", "1,2,3,4", "--json"]
    (code, here, _), (other, there, err) = jvp(*words), jvp(*words, "--device", "cuda")
    assert (code, other) == (0, 0), err
    assert numbers(json.loads(here)) == numbers(json.loads(there))


def test_text_and_check():
    code, out, err = jvp("inspect", "torch.outer(x,x)", "--x", "1,2,3,4", "--device", "cuda")
    assert code == 0, err
    assert "[20., 20., 20., 20.]" in out or "20" in out
    code, out, err = jvp("check", "torch.sin(x)", "--x", "1,2", "--device", "cuda")
    assert code == 0, out + err


def test_saved_arrays(tmp_path):
    file = tmp_path / "J.npz"
    code, _, err = jvp("inspect", "torch.outer(x,x)", "--x", "1,2,3,4", "--device", "cuda", "--save", str(file))
    assert code == 0, err
    with np.load(file) as saved:
        dense = np.zeros(saved["shape"])
        dense[saved["row"], saved["col"]] = saved["data"]
    expected = torch.autograd.functional.jacobian(lambda x: torch.outer(x, x), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(dense.reshape(4, 4, 4), expected.numpy())


def test_tensors_of_two_devices_are_explained():
    code, _, err = jvp("inspect", "x + torch.ones(2)", "--x", "1,2", "--device", "cuda")
    assert code != 0
    assert "cuda" in err
    assert "Traceback" not in err
