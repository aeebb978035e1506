"""Distributions and traces, which are read in the language's own words: gradients are those of Python running the same text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import jvpcli
from jvpcli.errors import ForbiddenError, JvpError

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
