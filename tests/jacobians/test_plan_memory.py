"""What a plan says that computing holds, against what torch's allocator counts while it does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from jvpcli.jacobians.engine import compute, plan


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


def test_the_result_is_counted():
    """A running sum of many numbers: its Jacobian alone is what the plan says at least."""
    x = torch.randn(500, requires_grad=True)
    planned = plan((x.sin() * x.exp()).cumsum(0), [x])
    assert planned.chosen.peak_bytes >= 500 * 500 * 4
    assert peak_of(lambda: compute(planned)) >= 500 * 500 * 4
