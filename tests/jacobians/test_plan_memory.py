"""What a plan says that computing holds, against what torch's allocator counts while it does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from jvpcli.jacobians.dense import by_rows
from jvpcli.jacobians.engine import compute, plan
from jvpcli.jacobians.graph import accumulate
from jvpcli.jacobians.terms import Workspace


def peak_of(run):
    """The most bytes that are allocated at a time, beside those that were before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as counted:
        kept = run()
    events = [event for event in counted.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    assert kept is not None
    return most


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x):
        return F.relu(self.norms[1](self.second(F.relu(self.norms[0](self.first(x))))) + x)


def images(width, classes):
    blocks = [nn.Conv2d(3, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Residual(width), Residual(width)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)).eval()


def attended(x, w, u):
    q, k, v = (x @ w).chunk(3, -1)
    return (torch.softmax(q @ k.t(), -1) @ v) @ u


torch.manual_seed(0)
NETS = {
    "images, one": (images(8, 10), [torch.randn(1, 3, 64, 64)]),
    "images, four": (images(8, 10), [torch.randn(4, 3, 48, 48)]),
    "convolutions": (
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)), [torch.randn(1, 3, 16, 16)],
    ),
    "layers": (nn.Sequential(nn.Linear(200, 100), nn.Tanh(), nn.Linear(100, 50)), [torch.randn(16, 200)]),
    "attention, to its weights": (attended, [torch.randn(12, 8), torch.randn(8, 24), torch.randn(8, 20)]),
    "a running sum": (lambda x: (x.sin() * x.exp()).cumsum(0), [torch.randn(500)]),
    "neighbours": (lambda x: x * x.roll(1) - x.sin(), [torch.randn(30000)]),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["auto", "reverse"])
@pytest.mark.parametrize("name", NETS)
def test_what_is_held_is_at_most_twice_what_was_planned(name, mode):
    function, values = NETS[name]
    inputs = [value.clone().requires_grad_() for value in values]
    planned = plan(function(*inputs), inputs, mode)
    assert peak_of(lambda: compute(planned)) <= 2 * planned.chosen.peak_bytes


class States(nn.Module):
    """All states of a recurrent layer."""

    def __init__(self, net, learns):
        super().__init__()
        self.net = net.requires_grad_(learns)

    def forward(self, x):
        return self.net(x)[0]


RECURRENT = {
    "LSTM": (nn.LSTM(8, 16, 2), [torch.randn(12, 1, 8)]),
    "LSTM, both ways": (nn.LSTM(4, 24, bidirectional=True), [torch.randn(12, 1, 4)]),
    "LSTM, wide": (nn.LSTM(48, 48), [torch.randn(6, 1, 48)]),
    "LSTM of a batch": (nn.LSTM(4, 6), [torch.randn(5, 2, 4)]),
    "GRU": (nn.GRU(8, 16, 2), [torch.randn(12, 1, 8)]),
    "GRU, wide": (nn.GRU(64, 64), [torch.randn(6, 1, 64)]),
    "GRU of a batch": (nn.GRU(8, 16), [torch.randn(10, 4, 8)]),
    "RNN, wide": (nn.RNN(64, 64), [torch.randn(6, 1, 64)]),
}


@pytest.mark.parametrize("way", ["passes", "maps"])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_hold_what_was_planned(name, fused, learns, way):
    """One node works out the gradients of all weights, whether these are asked for or not; unrolled, index arrays pile up."""
    net, (x,) = RECURRENT[name]
    with torch.backends.mkldnn.flags(enabled=fused):
        layer, x = States(net, learns), x.clone().requires_grad_(not learns)
        inputs = list(layer.parameters()) if learns else [x]
        planned = plan(layer(x), inputs, "reverse")
    graph = planned.graph
    (said,) = [
        each.peak_bytes
        for each in planned.report.ways
        if (each.strategy, each.mode) == ("dense" if way == "passes" else "accumulated", "reverse")
    ]
    run = (lambda: by_rows(graph)) if way == "passes" else (lambda: accumulate(graph, Workspace()))
    assert peak_of(run) <= 2 * said


def test_places_that_many_products_reach_are_held_once():
    """What a state tells of later ones fills part of its rows: index arrays of its products would take more than all of it."""
    x = torch.randn(6, 1, 64, requires_grad=True)
    net = nn.RNN(64, 64)
    graph = plan(net(x)[0], [x]).graph
    work = Workspace()
    (found,) = accumulate(graph, work)
    (rows,) = by_rows(graph)
    torch.testing.assert_close(sum(term.matrix() for term in found), rows, rtol=1e-4, atol=1e-6)
    assert peak_of(lambda: accumulate(graph, Workspace())) < 32 * 4 * graph.m * graph.n


def test_the_result_is_counted():
    """A running sum of many numbers: its Jacobian alone is what the plan says at least."""
    x = torch.randn(500, requires_grad=True)
    planned = plan((x.sin() * x.exp()).cumsum(0), [x])
    assert planned.chosen.peak_bytes >= 500 * 500 * 4
    assert peak_of(lambda: compute(planned)) >= 500 * 500 * 4
