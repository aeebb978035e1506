"""Recorded kernels give at other points what the computation itself gives, to the last digit, or are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from jvpcli.jacobians.kernels import UnsteadyError, record
from jvpcli.problem import at_rows

TABLE = torch.linspace(1, 2, 4)


def with_gradients(function):
    """Of a function of one tensor its value, its gradient, and that gradient's, as autograd makes them."""

    def computed(inputs):
        (x,) = (each.detach().requires_grad_() for each in inputs)
        y = function(x)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((gradient * x * x).sum(), x)
        return [y.detach(), gradient.detach(), second]

    return computed


def under_vmap(inputs):
    (x,) = inputs
    rows = torch.stack([x, 2 * x, x * x]).requires_grad_()
    (found,) = at_rows(lambda row: [torch.tanh(row @ torch.outer(row, row)) * TABLE], [rows])
    return torch.autograd.grad(found, rows, torch.ones_like(found))


def in_place(inputs):
    found = torch.zeros(4)
    found[1:] += inputs[0][1:].exp()
    found.unsqueeze_(0).mul_(TABLE)
    return [found, found.t()]


STEADY = {
    "product": with_gradients(lambda x: torch.outer(x, x)),
    "twice": with_gradients(lambda x: (x.sin() * x).cumsum(0) ** 3),
    "relu": with_gradients(lambda x: torch.relu(x) * x.sum()),
    "sorted": with_gradients(lambda x: x.sort().values * TABLE),
    "indexed": with_gradients(lambda x: x[[0, 2]] * x[1].exp()),
    "solved": with_gradients(lambda x: torch.linalg.solve(torch.outer(x, x) + 3 * torch.eye(4), x)),
    "parts": with_gradients(lambda x: torch.stack([part.prod() for part in x.split(2)])),
    "vmap": under_vmap,
    "in place": in_place,
    "the input itself": lambda inputs: [inputs[0], inputs[0].view(2, 2)],
    "none of it": lambda inputs: [TABLE * 2],
}


@pytest.mark.parametrize("name", STEADY)
def test_kernels_give_what_the_computation_gives(name):
    computation = STEADY[name]
    kernels = record(computation, [torch.tensor([0.5, 1.5, 0.25, 2.0])])
    for numbers in ([0.5, 1.5, 0.25, 2.0], [-1.0, 0.3, 2.5, -0.1], [3.0, -3.0, 0.1, 0.2]):
        point = torch.tensor(numbers)
        expected, found = computation([point]), kernels([point])
        assert [each.shape for each in found] == [each.shape for each in expected]
        if name != "parts":  # of a product torch has another formula where its kernels are watched
            assert all(map(torch.equal, found, expected))
        for each, other in zip(found, expected, strict=True):
            torch.testing.assert_close(each, other)
        assert torch.equal(point, torch.tensor(numbers))


def writes_outside(inputs):
    TABLE.clone().add_(inputs[0])  # this is its own
    return [KEPT.mul_(inputs[0])]


KEPT = torch.ones(4)

UNSTEADY = {
    "a number": lambda inputs: [inputs[0] * float(inputs[0].sum())],
    "a condition": lambda inputs: [inputs[0] if inputs[0].sum() > 0 else -inputs[0]],
    "a mask": lambda inputs: [inputs[0][inputs[0] > 0]],
    "places": lambda inputs: [inputs[0].nonzero()],
    "random": lambda inputs: [inputs[0] + torch.rand(4)],
    "written to": writes_outside,
    "its input": lambda inputs: [inputs[0].add_(1)],
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_numbers_decide_is_refused(name):
    with pytest.raises(UnsteadyError):
        record(UNSTEADY[name], [torch.tensor([0.5, 1.5, 0.25, 2.0])])


def test_what_is_the_same_everywhere_and_what_nothing_takes_is_left_out():
    def computation(inputs: list[Tensor]) -> list[Tensor]:
        inputs[0].exp()  # nothing takes it
        return [inputs[0] * (TABLE.sin() + 1), TABLE.cos()]

    assert len(record(computation, [TABLE]).calls) == 1


def test_a_check_stays_though_nothing_takes_what_it_checks():
    def computation(inputs: list[Tensor]) -> list[Tensor]:
        torch.linalg.inv(inputs[0].reshape(2, 2))
        return [inputs[0] + 1]

    kernels = record(computation, [torch.tensor([1.0, 0.0, 0.0, 1.0])])
    assert torch.equal(kernels([torch.tensor([2.0, 0.0, 0.0, 1.0])])[0], torch.tensor([3.0, 1.0, 1.0, 2.0]))
    with pytest.raises(RuntimeError, match="singular"):
        kernels([torch.zeros(4)])


def test_all_that_is_made_on_the_way_follows():
    kernels = record(lambda inputs: [inputs[0] + 1, (inputs[0] * 2).exp().view(2, 2)], [TABLE], since=1)
    found = kernels([torch.zeros(4)])
    assert [each.tolist() for each in found] == [[1.0] * 4, [[1.0, 1.0]] * 2, [0.0] * 4, [1.0] * 4]


def test_a_recording_loads_nothing_of_torchs_compiler():
    """Which takes a second: nothing but torch itself is needed."""
    code = """
import sys
import torch
from jvpcli.jacobians.kernels import record

before = set(sys.modules)
record(lambda inputs: [inputs[0].sin()], [torch.ones(2)])
assert not {"sympy", "torch._dynamo"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
