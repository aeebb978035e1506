"""Random sessions of several derivative calls, with what people do between them: the answer is what PyTorch leaves in `.grad`, or
the language refuses."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import jvpcli
from jvpcli.errors import JvpError

HEAD = """\
import torch
import torch.nn as nn
torch.manual_seed(0)
w = torch.tensor([1., -2.], requires_grad=True)
u = torch.tensor([3., 0.5], requires_grad=True)
net = nn.Linear(2, 1)
X, g = torch.tensor([0.5, 2.]), torch.ones(2)
y = (w ** 3 * u).sum()
"""
OUTPUTS = (
    "(w * u).sum()", "(w ** 2).sum()", "net(w).sum()", "net(X).pow(2).sum()", "(net(u) * w).sum()", "(u ** 3).sum() * w[0]", "y",
    "(w.detach() * u).sum()",
)  # fmt: skip
CLEARS = (
    "w.grad = None", "u.grad = None", "w.grad = u.grad = None", "net.zero_grad()", "net.weight.grad = None",
    "for p in [w, u]:\n    p.grad = None", "for p in net.parameters():\n    p.grad = None",
    "if w.grad is not None:\n    w.grad.zero_()",
)  # fmt: skip
MOVES = (
    "with torch.no_grad():\n    w -= 0.1", "u.data -= 0.1", "w.data[0] = 2.", "w.data = u.data.clone()", "w.data.copy_(u.data)",
    "for p in net.parameters():\n    p.data -= 0.1", "for p in (w, u):\n    p.data.mul_(0.5)", "nn.init.ones_(net.weight)",
    "w.grad = None if w.grad is None else w.grad / 2", "def h(t):\n    t.data *= 2\nh(w)", "v = w.detach()\nv.mul_(2)",
)  # fmt: skip
NAMES = (
    "w = torch.tensor([2., 1.], requires_grad=True)", "u = u.detach().clone().requires_grad_()", "X = X * 2",
    "w = (w * 0.5).detach().requires_grad_(True)", "w.requires_grad_()", "f = lambda t: (t * w).sum()\ny = f(u)",
    "y = (g * w).sum()",
)  # fmt: skip


def session(seed: int) -> str:
    """A program whose last statement asks for a derivative."""
    random = Random(seed)
    lines = []
    for _ in range(random.randrange(1, 5)):
        output, kind = random.choice(OUTPUTS), random.randrange(9)
        if kind < 5:
            lines.append(f"({output}).backward({random.choice(['', 'retain_graph=True'])})")
        elif kind == 5:
            lines.append(f"g = torch.autograd.grad({output}, {random.choice('wu')}, allow_unused=True, create_graph=True)[0]")
        else:
            lines.append(random.choice((CLEARS, MOVES, NAMES)[kind - 6]))
    return "\n".join([HEAD, *lines, f"({random.choice(OUTPUTS)}).backward()"])


def held(text: str) -> dict[str, Tensor]:
    """What `.grad` of each leaf and parameter holds where Python has run a program."""
    scope: dict[str, Any] = {}
    exec(text, scope)
    leaves = {name: x for name, x in scope.items() if isinstance(x, Tensor)}
    leaves |= {f"net.{name}": x for name, x in scope["net"].named_parameters()}
    return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in leaves.items() if x.is_leaf}


@pytest.mark.parametrize("seed", range(0, 120, 30))
def test_what_is_in_grad_or_nothing(seed: int) -> None:
    answered = 0
    for text in map(session, range(seed, seed + 30)):
        try:
            theirs, found = held(text), jvpcli.inspect(text).vjp or {}
        except (JvpError, RuntimeError, TypeError):  # as PyTorch raises, or refused
            continue
        answered += 1
        for name in (name for name in found if not re.search(r"_\d+_*$", name)):  # a leaf whose name another has taken
            torch.testing.assert_close(found[name], theirs[name], msg=f"{name} of\n{text}")
    assert answered > 10
