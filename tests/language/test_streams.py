"""Random numbers of changes of parameters, and memory that they share, against Python running the same text."""

from __future__ import annotations

import math
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import jvpcli

CHANGES = {
    "several draws in one change, behind another": """
        r = torch.rand(2)
        net = nn.Linear(2, 2)
        for p in net.parameters():
            p.data = torch.rand(p.shape) * r.sum()
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "apply": """
        def init(m):
            m.weight.data.normal_(0, 1)
            m.bias.data = torch.rand(2)
            m.bias.data += torch.rand(2)
        net = nn.Linear(2, 2)
        net.apply(init)
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "a seed in between": """
        r = torch.rand(2)
        torch.manual_seed(5)
        net = nn.Linear(2, 2)
        net.weight.data = torch.rand(2, 2) * r
        net(torch.rand(2)).pow(2).sum().backward()
        """,
    "numpy's": """
        np.random.seed(0)
        r = torch.from_numpy(np.random.randn(2)).float()
        net = nn.Linear(2, 2)
        net.weight.data = torch.from_numpy(np.random.randn(2, 2)).float()
        net.bias.data = torch.from_numpy(np.random.randn(2)).float() * r
        q = torch.from_numpy(np.random.randn(2)).float()
        net(r * q).pow(2).sum().backward()
        """,
    "a parameter that draws nothing": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.w = nn.Parameter(torch.ones(2))
                for p in self.parameters():
                    nn.init.uniform_(p, -1, 1)
            def forward(self, x):
                return self.a(x) + self.w
        net = Net()
        net(torch.rand(3, 2)).pow(2).sum().backward()
        """,
    "items of a Sequential": """
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        nn.init.normal_(net[0].weight, std=1 / np.sqrt(2))
        net[-1].bias.data[0] = 4.
        net(torch.ones(2)).pow(2).sum().backward()
        """,
    "shared memory": """
        a = nn.Linear(2, 2)
        net = nn.Linear(2, 2)
        net.weight.data = a.weight.data
        with torch.no_grad():
            a.weight.mul_(3)
        net(torch.ones(2)).pow(2).sum().backward()
        """,
    "a tensor under another name": """
        net = nn.Linear(2, 1)
        w = torch.zeros(1, 2)
        v = w[0]
        v += 5
        net.weight.data = w * 1
        net(torch.ones(2)).pow(2).sum().backward()
        """,
}


@pytest.mark.parametrize("text", CHANGES.values(), ids=CHANGES)
def test_gradients_are_pythons(text: str) -> None:
    torch.manual_seed(0)
    scope = {"torch": torch, "nn": nn, "np": np}
    exec(textwrap.dedent(text), scope)
    net = scope["net"]
    assert isinstance(net, nn.Module)
    found = jvpcli.inspect(textwrap.dedent(text)).to_dict()["vjp"]
    expected = {f"net.{name}": p.grad for name, p in net.named_parameters()}
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]["value"]), grad)


FILLED = {
    "values drawn between": """
        k = torch.zeros(2, 2)
        a = torch.randn(2)
        k.uniform_(-1., 1.)
        c = torch.rand(2)
        k.normal_()
        k.requires_grad_()
        (k @ a * c * torch.randn(2)).pow(2).sum().backward()
        """,
    "under no_grad": """
        k = torch.zeros(2, 1, 3, 3, requires_grad=True)
        with torch.no_grad():
            k.uniform_(-1., 1.)
        nn.functional.conv2d(torch.randn(1, 1, 5, 5), k).pow(2).sum().backward()
        """,
}


@pytest.mark.parametrize("text", FILLED.values(), ids=FILLED)
def test_what_a_leaf_is_filled_with_is_drawn_before_what_comes_behind(text: str) -> None:
    torch.manual_seed(0)
    scope = {"torch": torch, "nn": nn, "math": math}
    exec(textwrap.dedent(text), scope)
    found = jvpcli.inspect(textwrap.dedent(text), seed=0).to_dict()["vjp"]
    assert "k" in found
    for name, entry in found.items():
        torch.testing.assert_close(torch.tensor(entry["value"]), scope[name].grad)  # type: ignore[attr-defined]


REFUSED = [
    "net = nn.Linear(2, 2)\nw = torch.ones(2, 2)\nnet.weight.data = w\nw[0, 0] = 9\nnet(torch.ones(2)).sum().backward()",
    "y = torch.ones(2, requires_grad=True)\nz = y * 2\nz.register_hook(lambda g: g * z)\nz = z * 3\nz.sum().backward()",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_changes_behind_is_refused(text: str) -> None:
    with pytest.raises(jvpcli.JvpError) as caught:
        jvpcli.inspect(text)
    assert (caught.value.code, "behind" in str(caught.value)) == ("forbidden", True)
