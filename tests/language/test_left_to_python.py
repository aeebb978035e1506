"""Programs that train, which the language leaves to Python, and those beside them that it reads, against Python."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import jvpcli
from jvpcli.answers import report_of
from jvpcli.answers.executed import WAY
from jvpcli.errors import ForbiddenError, NotDifferentiableError
from jvpcli.language.pasted import as_meant
from jvpcli.request import Request

HEAD = """\
import torch
import torch.nn as nn
torch.manual_seed(0)
w = torch.tensor([1., -2.], requires_grad=True)
u = torch.tensor([3., 0.5], requires_grad=True)
net = nn.Linear(2, 1)
"""
CALL = "(w * u).pow(2).sum().backward()"

LOOP, FUNCTION = "`{}` stands in a loop: the language reads", "`{}` stands in `f`: the language reads"
MADE = "The language has no optimizers, which move weights as a program runs: `{}`."
MOVED = "`{}` is changed, or gets another leaf: "
LATER = "`{}` becomes a leaf behind a use of it: "
CLEARED = "`{}` has its gradient cleared between two calls of backward; `{}`"

TRAINING = {
    "an optimizer": ("opt = «torch.optim.SGD([w], lr=0.1)»\nCALL", MADE.format("torch.optim.SGD")),
    "one under another name": ("from torch.optim import Adam as A\nopt = «A([w])»\nCALL", MADE.format("A")),
    "a step behind the call": ("CALL\n«opt.step()»", "The language steps nothing that changes as a program runs: `opt.step()`."),
    "a loop": ("for k in range(2):\n    «CALL»", LOOP.format("(w * u).pow(2).sum().backward()")),
    "a while loop": ("while w.grad is None:\n    y = w * u\n    «y.backward(w)»", LOOP.format("y.backward(w)")),
    "rows one by one": (
        "rows = []\nfor v in torch.eye(2):\n    rows += «torch.autograd.grad(w * u, w, v)»\ntorch.stack(rows)",
        LOOP.format("torch.autograd.grad(w * u, w, v)"),
    ),
    "a condition": ("if w.sum() < 0:\n    «w.sum().backward()»\nw.grad", "`w.sum().backward()` stands in an `if`: "),
    "a function": ("def f(t):\n    «t.sum().backward()»\nf(w)\nCALL", FUNCTION.format("t.sum().backward()")),
    "a Jacobian in a function": (
        "def f(t):\n    return «torch.autograd.functional.jacobian(torch.sin, t)»\nf(w)",
        FUNCTION.format("torch.autograd.functional.jacobian(torch.sin, t)"),
    ),
    "a function that clears": ("def f():\n    «w.grad».zero_()\nCALL\nf()\nCALL", FUNCTION.format("w.grad")),
    "a weight that moves": ("CALL\n«with torch.no_grad():\n    w -= w.grad»\nw.grad = u.grad = None\nCALL", MOVED.format("w")),
    "weights that a loop moves": ("CALL\n«for p in (w, u):\n    p.data.sub_(p.grad)»\nCALL", MOVED.format("u")),
    "weights that a function moves": ("def f(t):\n    t.data *= 2\nCALL\n«f(w)»\nCALL", MOVED.format("w")),
    "a value that was computed before": ("y = (w * u).sum()\n«w.data[0] = 2.»\ny.backward()", MOVED.format("w")),
    "a leaf under a name that a function reads": (
        "f = lambda: (w * u).sum()\ny = w * 2\n«w = torch.ones(2, requires_grad=True)»\n(f() * y).sum().backward()",
        MOVED.format("w"),
    ),
    "a weight that is filled before": ("«w.data[0] = 5.»\nCALL", MOVED.format("w")),
    "another leaf": (
        "CALL\nold = w\n«w = torch.tensor([2., 1.], requires_grad=True)»\n(w * u).sum().backward()", MOVED.format("w"),
    ),
    "parameters that move": (
        "net(w).backward()\n«for p in net.parameters():\n    p.data -= p.grad»\nnet(w).backward()",
        MOVED.format("net"),
    ),
    "a gradient that is scaled": ("CALL\n«w.grad /= 2»\nCALL", MOVED.format("w")),
    "gradients of which some are cleared": ("CALL\n«w.grad = None»\nCALL", CLEARED.format("w", "u")),
    "those of a module alone": ("net(w).backward()\n«net.zero_grad()»\nnet(w).backward()", CLEARED.format("net", "w")),
}
"""What the language refuses, at the place between the marks, and how that begins."""


@pytest.mark.parametrize("name", TRAINING)
def test_what_trains_is_left_to_python(name: str) -> None:
    marked, message = TRAINING[name]
    before, place, behind = re.split("[«»]", HEAD + marked.replace("CALL", CALL))
    text = before + place + behind
    with pytest.raises(ForbiddenError) as caught:
        report_of(as_meant(Request(text)))
    assert caught.value.message.startswith(message)
    assert caught.value.hints == (WAY.format(command="inspect"),)
    assert caught.value.span is not None
    assert text[slice(*caught.value.span)] == place


ROWS = [
    "rows = [torch.autograd.grad(y, w, v, retain_graph=True)[0] for v in torch.eye(2)]\ntorch.stack(rows)",
    "def f(v):\n    return torch.autograd.grad(y, w, v)\ntorch.vmap(f)(torch.eye(2))",
    "torch.stack([torch.autograd.grad(y[0], w, retain_graph=True)[0], torch.autograd.grad(y[1], w)[0]])",
]


@pytest.mark.parametrize("rows", ROWS)
def test_rows_without_a_graph_have_no_derivative_but_their_own(rows: str) -> None:
    text = f"{HEAD}y = w ** 3 * u\n{rows}"
    with pytest.raises(NotDifferentiableError, match="no gradient reaches") as caught:
        jvpcli.inspect(text)
    assert "without create_graph=True" in caught.value.explanation
    scope: dict[str, Any] = {}
    exec(f"{HEAD}y = w ** 3 * u", scope)
    found = jvpcli.inspect(text, as_python=True).vjp
    assert found is not None
    by = torch.eye(2) if "vmap" in rows else torch.eye(2)[1:]
    torch.testing.assert_close(found["w"].reshape(-1, 2), 3 * scope["w"].detach() ** 2 * scope["u"].detach() * by)


LEAVES = {
    "one that is filled": ("x = torch.zeros(2)\nx[0] = 1.\nx.requires_grad_()\nCALL", "x"),
    "one that is read": ("x = w.detach() * 2\ny = torch.sin(x)\nx.requires_grad = True\n(x * y).sum().backward()", "x"),
    "one that a function has read": (
        "x = w.detach() * 2\ndef f():\n    return x ** 2\ny = f()\nx.requires_grad = True\n(f() * y).sum().backward()", "x",
    ),
    "one of two names": ("x = torch.ones(2)\nz = x\nz.requires_grad_()\n(x ** 2).sum().backward()", "x"),
    "one that has its name in a value": ("x = torch.ones(2)\ny = 2 * x.requires_grad_()\n(x * y).sum().backward()", "x"),
    "one that a block makes": ("if True:\n    x = torch.ones(2)\nx.requires_grad_()\n(x ** 2).sum().backward()", "x"),
}
"""Leaves that the language takes for none from their making on."""


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_that_are_made_of_other_tensors_later_are_left_to_python(name: str) -> None:
    text, leaf = LEAVES[name]
    text = HEAD + text.replace("CALL", "(x * w).sum().backward()")
    with pytest.raises(ForbiddenError) as caught:
        report_of(as_meant(Request(text)))
    assert caught.value.message.startswith(LATER.format(leaf))
    assert caught.value.hints == (WAY.format(command="inspect"),)
    scope: dict[str, torch.Tensor] = {}
    exec(text, scope)
    found = jvpcli.inspect(text, as_python=True).vjp
    assert found is not None
    torch.testing.assert_close(found[leaf] if leaf in found else next(iter(found.values())), scope[leaf].grad)


READ = {
    "two calls that add up": "CALL\n(w ** 3).sum().backward()",
    "one under another mode": "with torch.autograd.set_detect_anomaly(True):\n    CALL",
    "all cleared between": "CALL\nfor p in [w, u]:\n    p.grad = None\n(w * u).sum().backward()",
    "cleared where there is something": """CALL
if w.grad is not None:
    w.grad.zero_()
    u.grad.zero_()
(w * u).sum().backward()""",
    "weights that move behind": "CALL\ng = w.grad.clone()\nwith torch.no_grad():\n    w -= 0.1 * w.grad",
    "a function that nothing calls": "def f():\n    w.sum().backward()\nCALL",
    "a derivative in a function, as a value": """
def f(t):
    return torch.autograd.grad((t ** 3).sum(), t, create_graph=True)[0]
f(w * u).sum().backward()""",
    "derivatives in a loop, as values": """
t = w * u
for k in range(2):
    t = torch.autograd.grad((t ** 2).sum(), w, create_graph=True)[0]
t.sum().backward()""",
    "torch.func in a function": """
def f(t):
    return torch.func.grad(lambda s: (s ** 3).sum())(t)
f(w * u).sum().backward()""",
}


@pytest.mark.parametrize("name", READ)
def test_what_stands_beside_is_read(name: str) -> None:
    scope: dict[str, torch.Tensor] = {}
    text = HEAD + READ[name].replace("CALL", CALL)
    exec(text, scope)
    expected = {key: scope[key].grad for key in "wuv" if key in scope and scope[key].grad is not None}
    found = jvpcli.inspect(text).vjp
    assert found is not None
    torch.testing.assert_close({**found}, expected)
