"""What code of the user's own takes out of the graph, as torch's function mode sees it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from jvpcli.language.readings import Readings


def buffered(x):
    held = torch.ones(3)
    seen = held[:]
    held.copy_(x.detach())
    return seen * x


def without_graph(x):
    with torch.no_grad():
        mask = x * 1
    return mask * x


NOTHING = [
    lambda x: x.relu() * 2 + torch.ones(3),
    lambda x: (x - x.max().detach()).exp(),
    lambda x: x.sort().values,
    lambda x: x.reshape(-1) * len(x) * x.shape[0] * x.numel() * x.dim(),
    lambda x: torch.stack([v * 2 for v in x]) + torch.zeros_like(x) * x.new_ones(3),
    lambda x: x * 2 if x.is_floating_point() and x.requires_grad and not x.is_complex() else x,
    lambda x: x @ x.new_tensor([1.0, 2.0, 3.0]) * torch.rand_like(x) * (torch.randn_like(x) > 0),
    lambda x: torch.vmap(lambda r: r * 2)(x),
    lambda x: torch.nn.Linear(3, 3)(x).to(torch.float64).softmax(0),
    lambda x: torch.nn.TransformerEncoderLayer(3, 1, 4, batch_first=True)(x.expand(1, 2, 3)),
    lambda x: f"{x}" and x,
]

WEIGHED = [
    lambda x: x * (x > 0),
    lambda x: x * x.detach().sum(),
    lambda x: torch.where(x > 0, x, -x),
    lambda x: x[x.argsort()],
    lambda x: x.sort().values * x.sort().indices,
    lambda x: x.masked_fill(x < 0, 0.0),
    lambda x: x * x.data,
    lambda x: x * x.new_tensor(list(x.detach())),
    buffered,
    without_graph,
    lambda x: torch.vmap(lambda r: r * (r > 0))(x),
    lambda x: torch.func.grad(lambda t: (t * t * (t > 0)).sum())(x),
    lambda x: F.embedding(x.argsort(), x[:, None]),
]

READ = [
    lambda x: x * x.sum().item(),
    lambda x: x if x.sum() > 0 else -x,
    lambda x: x * torch.tensor(x.tolist()),
    lambda x: x.roll(int(x[0])),
    lambda x: x * torch.from_numpy(x.detach().numpy().copy()),
    lambda x: x if torch.equal(x, x) else -x,
    lambda x: (x * (x > 0)).sin() * (3 if (x.detach() * 2).sum() > 0 else 1),
    lambda x: x if 1.0 in x else -x,
    lambda x: [x, -x][(x[0] > 0).long()],
    lambda x: x if (x > 0).all().is_nonzero() else -x,
    lambda x: sum(v for v, m in zip(x, x > 0, strict=True) if m),
]


@pytest.mark.parametrize(
    ("function", "noted"),
    [(f, (False, False)) for f in NOTHING] + [(f, (True, False)) for f in WEIGHED] + [(f, (True, True)) for f in READ],
)
def test_what_is_noted_of_a_function(function, noted):
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with Readings() as readings:
        function(x)
    assert (readings.weighed, readings.read) == noted


@pytest.mark.parametrize("function", [*WEIGHED, *READ])
def test_of_what_has_no_gradient_nothing_is_noted(function):
    with Readings() as readings:
        function(torch.tensor([1.0, -2.0, 3.0]))
    assert not readings.weighed
    assert not readings.read


def test_it_keeps_no_tensor_alive():
    x = torch.ones(3, requires_grad=True)
    with Readings() as readings:
        x.detach()
        assert len(readings._held) == 0
        kept = x.detach()
        assert len(readings._held) == 1
    del kept
