"""Texts whose answer is that of plain Python, or none: what looks like something that may be passed over, and is not."""

from __future__ import annotations

import pytest
import torch

import jvpcli
from jvpcli.errors import JvpError

X = torch.tensor([1.0, 2.0])

HOOKS = [
    "y.register_hook(lambda g: print(g))",
    "def h(g):\n  print(g)\nh = lambda g: g*3\ny.register_hook(h)",
    "if y.sum() > 0:\n  for t in (x, y):\n    t.register_hook(lambda g: g.clamp(-1, 1) * 10)",
    "y.register_hook(lambda g: g * y)\nkept = y\ny = y * 3",
    "(x*1).sum().backward()\nx.grad = None\nx.register_hook(lambda g: g*5)",
]
WRITING = [
    "def h(g):\n  g.mul_(0)\ny.register_hook(h)",
    "def helper(g):\n  return g.mul_(0)\ndef h(g):\n  helper(g)\ny.register_hook(h)",
]
"""Hooks that write to the gradient."""
BEHIND = "def h(t):\n  t.grad *= 5\nx.register_post_accumulate_grad_hook(h)"
"""A hook of what `.grad` holds, once the gradient has been added to it."""


def test_a_hook_behind_grad_is_no_part_of_the_gradient_and_said():
    text = f"x = torch.tensor([1., 2.], requires_grad=True)\ny = x*2\n{BEHIND}\n(x + y**2).sum().backward()"
    with pytest.raises(JvpError, match="only Python can run a hook"):
        jvpcli.inspect(text)
    found = jvpcli.inspect(text, as_python=True)
    assert found.vjp["x"].tolist() == [9.0, 17.0]
    (notice,) = [each for each in found.report.warnings if each.code == "as_python"]
    assert notice.message.endswith("; what hooks do to .grad once it has been added to is no part of it: x")


@pytest.mark.parametrize("hook", [*HOOKS, *WRITING])
def test_hooks_are_left_to_python(hook):
    text = f"x = torch.tensor([1., 2.], requires_grad=True)\ny = x*2\n{hook}\n(x + y**2).sum().backward()"
    with pytest.raises(JvpError, match="only Python can run a hook"):
        jvpcli.inspect(text)
    if hook in WRITING:
        with pytest.raises(JvpError):
            jvpcli.inspect(text, as_python=True)
    else:
        scope = {"torch": torch}
        exec(text, scope)
        assert jvpcli.inspect(text, as_python=True).vjp["x"].tolist() == scope["x"].grad.tolist()


@pytest.mark.parametrize("name", ["ax", "axes", "fig", "writer"])
def test_a_tensor_may_be_called_as_what_shows(name):
    text = f"x = torch.tensor([1.,2.], requires_grad=True)\n{name} = x*2\n{name}.mul_(3)\n{name}.sum().backward()"
    scope = {"torch": torch}
    exec(text, scope)
    assert jvpcli.inspect(text).vjp["x"].tolist() == scope["x"].grad.tolist()


def test_what_is_called_device_may_be_a_dtype():
    assert jvpcli.inspect("device = torch.float64\nx.to(device)*2", x=X).outputs["y"].dtype is torch.float64
    assert jvpcli.inspect("device = 'cpu'\nx.to(device)*2", x=X).outputs["y"].dtype is torch.float32


@pytest.mark.parametrize(
    "text",
    [
        "w = torch.ones(2)\nv = w[0:1]\nfor i in range(1):\n  pass\nw.data = torch.zeros(2)\n(v*x).sum()",
        "w = torch.ones(2,2)\nfor i in range(1):\n  pass\nw.data = torch.arange(4.)\n(w*x).sum()",
        "w = torch.ones(2)\nfor i in range(1):\n  pass\nw.data = w.double()*3\n(w*x).sum()",
    ],
)
def test_data_that_is_another_memory_is_refused(text):
    with pytest.raises(JvpError, match="data"):
        jvpcli.inspect(text, x=X)


def test_the_input_of_a_functional_call_is_not_changed():
    w = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    text = "net = nn.Embedding(2,2,max_norm=1.)\ntorch.func.functional_call(net, {'weight': w}, (torch.tensor([0,1]),)).sum()"
    (found,) = jvpcli.inspect(text, w=w).outputs.values()
    assert found.item() == pytest.approx(2.8)  # of rows as long as 1, which PyTorch makes them in the table itself
    assert w.tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize(
    "text", ["torch.set_default_dtype(torch.float64)\ntorch.set_default_dtype(torch.float32)\nx.sum()",
             "net = nn.Linear(2,2)\ntorch.set_default_dtype(torch.float64)\nnet(x).sum()"]
)  # fmt: skip
def test_the_default_dtype_is_set_once_and_first(text):
    with pytest.raises(JvpError, match="set once"):
        jvpcli.inspect(text, x=X)


def test_what_constructors_take_is_counted():
    text = "*[nn.Sequential(*[nn.Sequential(*[nn.Tanh() for _ in range(200)]) for _ in range(200)]) for _ in range(200)]"
    with pytest.raises(JvpError, match="arguments in all"):
        jvpcli.inspect(f"net = nn.Sequential({text})\nnet(x)", x=X)


def test_a_question_asked_again_has_the_same_answer():
    verdicts = [jvpcli.check("[x*x, torch.ones(2)]", x=X).verdict for _ in range(4)]
    assert verdicts == ["pass"] * 4
    told = [[w.code for w in jvpcli.inspect("[x*2, torch.round(x), torch.tensor(3.)*1]", x=X).report.warnings] for _ in range(4)]
    assert told == [told[0]] * 4
