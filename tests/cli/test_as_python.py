"""The command line on programs that Python runs between guards: all that is said of them."""

from __future__ import annotations

import json

import pytest
import torch

TRAINING = """\
import torch
from dataclasses import dataclass, field
@dataclass
class Config:
    sizes: list = field(default_factory=lambda: [2, 1])
class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b, bias=False) for a, b in zip(config.sizes, config.sizes[1:]))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
torch.manual_seed(0)
net = Net(Config())
for p in net.parameters():
    p.data.fill_(0.5)
opt = torch.optim.SGD(net.parameters(), lr=0.125)
while True:
    loss = net(torch.ones(1, 2)).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    if loss.item() < 0.1:
        break
    opt.step()
"""
"""w ← w − ⅛ · 2 (w₁ + w₂) (1, 1) goes from .5 to .25 and .125 in each entry, and w₁ + w₂ is ¼ at the third call."""

SAID = "the program was run as Python runs it, and this is the last of the 3 derivatives that it asks for, on line {line}"


WHOLE = """\
loss

Shapes
  net.layers.0.weight          (1, 2)               input, float32
  c                            (1, 2)               input, not differentiated, float32
  loss                         () a single number   output, float32
  v                            () a single number   grad_outputs, ∂L/∂loss: ones
  ∂loss/∂net.layers.0.weight   (1, 2)               the Jacobian, output + input: dense, 2 of 2
                                                    entries not zero
  ∂L/∂net.layers.0.weight      (1, 2)               the result, the VJP: as net.layers.0.weight

Which product
  ∂L/∂net.layers.0.weight_ij = v · ∂loss/∂net.layers.0.weight_ij
  einsum(",ij->ij", v, ∂loss/∂net.layers.0.weight)
  loss is a single number, so the Jacobian is simply its gradient (flattened: 1×2) and v a single
  weight: the result is v times the gradient.

The numbers
                             v  net.layers.0.weight[0,0]  net.layers.0.weight[0,1]
  loss                       1                       0.5                       0.5
  ∂L/∂net.layers.0.weight  vᵀJ                       0.5                       0.5

  ∂L/∂net.layers.0.weight[0,0] = 1·0.5 = 0.5

The result
  ∂L/∂net.layers.0.weight = [[0.5, 0.5]]
  torch.autograd.grad gives the same (compared entry by entry).
"""


def test_the_whole_answer_of_the_command_line(jvp):
    line = TRAINING[: TRAINING.index("loss.backward()")].count("\n") + 1
    found = jvp("inspect", "-", stdin=TRAINING)
    assert (found.code, found.err) == (0, f"warning (as_python): {SAID.format(line=line)}\n")
    assert found.out == WHOLE
    document = json.loads(jvp("inspect", "-", "--json", stdin=TRAINING).out)
    assert document["expression"] == "loss"
    assert document["vjp"]["net.layers.0.weight"]["value"] == [[0.5, 0.5]]
    assert document["warnings"] == [{"code": "as_python", "message": SAID.format(line=line)}]
    assert document.get("passed_over") is None
    traced = json.loads(jvp("trace", "-", "--json", stdin=TRAINING).out)
    assert [step["op"] for step in traced["steps"]] == ["torch.nn.functional.linear", "Tensor.pow", "Tensor.sum"]
    assert jvp("check", "-", "--quiet", stdin=TRAINING).code == 0


BESIDE = [("--wrt", "net.layers.0.weight"), ("-g", "2"), ("--dtype", "float64"), ("--tangent", "1"), ("--device", "cpu")]


@pytest.mark.parametrize("option", BESIDE, ids=str)
def test_what_the_program_says_itself_is_not_said_beside_it(jvp, option):
    found = json.loads(jvp("inspect", "-", *option, "--json", stdin=TRAINING).out)
    assert (found["ok"], found["error"]["code"]) == (False, "usage")
    assert found["error"]["message"].endswith(" can't be used with this program")


def test_what_the_language_reads_is_said_to_be_read(jvp):
    text = "import torch\nx = torch.tensor([1., 2.], requires_grad=True)\n(x ** 2).sum().backward()\n"
    found = jvp("inspect", "-", stdin=text)
    assert found.code == 0
    assert found.err.startswith("read as: jvp inspect ")
    assert "as_python" not in found.err


def test_seeds(jvp):
    text = "import torch\ntorch.manual_seed(0)\nw = torch.randn(2, requires_grad=True)\n{}(w ** 2).sum().backward()\n"
    odd = text.format(
        "class Odd:\n    def __enter__(self): return 1\n    def __exit__(self, *e): pass\nwith Odd() as one: pass\n"
    )
    for options, seed in (((), 0), (("--seed", "3"), 3)):
        document = json.loads(jvp("inspect", "-", "--json", *options, stdin=odd).out)
        assert [each["code"] for each in document["warnings"]] == ["as_python"]
        generator = torch.Generator().manual_seed(seed)
        assert torch.allclose(torch.tensor(document["vjp"]["w"]["value"]), 2 * torch.randn(2, generator=generator))
