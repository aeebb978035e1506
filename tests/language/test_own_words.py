"""What is read in the language's own words, as distributions are: gradients are those of Python running the same text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import jvpcli
from jvpcli.errors import ForbiddenError, JvpError
from jvpcli.language.pasted import as_meant
from jvpcli.request import Request

HEAD = "import torch\nfrom torch.distributions import Bernoulli, Categorical, Normal\ntorch.manual_seed(0)\n"
X = "x = torch.tensor([1., 2.], dtype=torch.float64, requires_grad=True)\n"

PROGRAMS = [
    "d = Normal(x, 0.1)\n(d.log_prob(torch.zeros(2)) + d.rsample()).sum().backward()",
    "d = Normal(0.1, x)\n(d.log_prob(torch.ones(2)) * d.entropy()).sum().backward()",
    "d = Normal(x, torch.tensor(0.1))\nd.log_prob(torch.ones(2)).sum().backward()",
    "d = Normal(0, 1)\n(x * d.sample((2,)) * torch.rand(2)).sum().backward()",
    "d = Normal(x, -1., validate_args=False)\n(d.mean * d.variance).sum().backward()",
    "d = Bernoulli(None, x)\n(d.log_prob(d.sample()) + d.entropy()).sum().backward()",
    "d = Categorical(-x)\n(d.log_prob(torch.tensor(1)) + d.entropy()).sum().backward()",
    "g = torch.jit.trace(lambda t: t * t.sum(), torch.ones(2).double())\ng(x).sum().backward()",
]

REFUSED = [
    "Normal(x, 1.).log_prob(torch.tensor([float('nan'), 0.])).sum().backward()",
    "d = Normal(x / 0 * 0, 1.)\nd.mean.sum().backward()",
    "d = Bernoulli(x / 4, x)\nd.mean.sum().backward()",
    "d = Bernoulli(logits=x / 0 * 0)\nd.mean.sum().backward()",
    "d = Categorical(x * 0)\nd.entropy().backward()",
]

HELD = [
    "def f(t):\n    if t.sum() > 0:\n        return t * 2\n    return t * 3\n",
    "def f(t):\n    return t * torch.rand(2)\n",
    "def f(t):\n    return t * t.sum().item()\n",
    "k = 2.\ndef f(t):\n    return t * k\ng = f\nk = 3.\n",
]


def plainly(text: str) -> Any:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(text, scope)
    return scope["x"].grad


@pytest.mark.parametrize("text", PROGRAMS)
def test_gradients_are_pythons(text: str) -> None:
    torch.testing.assert_close(jvpcli.inspect(f"{HEAD}{X}{text}").vjp["x"], plainly(f"{HEAD}{X}{text}"), rtol=1e-12, atol=0)


@pytest.mark.usefixtures("checked_distributions")
@pytest.mark.parametrize("text", REFUSED)
def test_what_torch_refuses_of_a_distribution_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expected|Either") as told:
        plainly(f"{HEAD}{X}{text}")
    with pytest.raises(JvpError, match="PyTorch raises here") as caught:
        jvpcli.inspect(f"{HEAD}{X}{text}")
    assert str(told.value).partition(" (")[0] in caught.value.message


@pytest.mark.parametrize("text", HELD)
def test_a_trace_that_holds_something_fast_is_no_function(text: str) -> None:
    with pytest.raises(ForbiddenError, match=r"torch\.jit\.trace"):
        jvpcli.inspect(f"{HEAD}{X}{text}g = torch.jit.trace(f, -torch.ones(2).double())\ng(x).sum().backward()")


ASKED = [
    (
        "def f(p):\n    return (p[0] * p[1] ** 2).sum()\np = (torch.ones(2), 3 * torch.ones(2))\ntorch.func.grad(f)(p)",
        {"p_0": [9, 9], "p_1": [6, 6]},
    ),
    (f"{X}g = torch.autograd.grad((3 * x).sum(), x, create_graph=True)\ng", {"x": [0, 0]}),
    (f"from torch import jit\n{X}@jit.script\ndef f(t):\n    return t ** 2\nf(x).sum().backward()", {"x": [2, 4]}),
    (
        "def f(t):\n    return t * torch.ones(2)\ntorch.set_default_dtype(torch.float64)\n"
        "x = torch.ones(2, requires_grad=True)\nf(x).sum().backward()",
        {"x": [1, 1]},
    ),
    (
        "## A page\nof a notebook, with words.\n\nIn [None]:\nx = torch.ones(2, requires_grad=True)\n\nIn [None]:\n"
        "y = x * x\ny\n\ntensor([1., 1.], grad_fn=<MulBackward0>)\n\nWords again.\n\nIn [None]:\ny.sum().backward()",
        {"x": [2, 2]},
    ),
]


@pytest.mark.parametrize(("text", "expected"), ASKED)
def test_what_is_asked_is_found(text: str, expected: dict[str, Any]) -> None:
    found = jvpcli.inspect(text).vjp
    assert {*found} == {*expected}
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), torch.tensor(value, dtype=torch.float64), rtol=1e-12, atol=0)


def test_forward_mode_that_torch_has_vectorized_alone_is_told_of() -> None:
    text = f"{X}torch.autograd.functional.jacobian(torch.sin, x, strategy='forward-mode')"
    with pytest.raises(NotImplementedError, match="vectorize=True"):
        exec(f"import torch\n{text}", {})
    assert any("PyTorch raises" in note for note in as_meant(Request(text)).notes)
