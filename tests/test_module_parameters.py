"""Modules given to Python: their parameters are differentiated by name, and they are left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian as torch_jacobian
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import jvpcli
from jvpcli.errors import UsageError

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
X = torch.randn(5, 3, dtype=torch.float64)


class Tied(nn.Module):
    """A weight in two places, tokens in, a dict out, and an argument that is given by name alone."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.head.weight = self.embed.weight

    def forward(self, ids, mask=None, *, scale=1.0):
        hidden = self.embed(ids) if mask is None else self.embed(ids) * mask[:, None]
        return {"logits": self.head(hidden) * scale}


def expected(module, name, *arguments, **keywords):
    """∂output/∂parameter by torch alone."""

    def function(value):
        result = functional_call(module, {name: value}, arguments, keywords)
        return result["logits"] if isinstance(result, dict) else result

    return torch_jacobian(function, dict(module.named_parameters())[name].detach())


@pytest.mark.parametrize(
    ("wrt", "names"),
    [
        ("0.weight", ["0.weight"]),
        (["2.bias", "0.weight"], ["0.weight", "2.bias"]),
        ("0", ["0.weight", "0.bias"]),
        ("0.*", ["0.weight", "0.bias"]),
        ("*.weight", ["0.weight", "2.weight"]),
        ("*", ["0.weight", "0.bias", "2.weight", "2.bias"]),
        (["x", "2.weight"], ["x", "2.weight"]),
        ((0, "2.bias"), ["x", "2.bias"]),
        (None, ["x"]),
    ],
)
def test_parameters_by_name_submodule_or_pattern(wrt, names):
    found = jvpcli.jacobian(NET, X, wrt=wrt)
    assert sorted(name for _, name in found) == sorted(names)
    for (_, name), linear_map in found.items():
        wanted = torch_jacobian(NET, X) if name == "x" else expected(NET, name, X)
        torch.testing.assert_close(linear_map.to_dense(), wanted)


@pytest.mark.parametrize("door", [jvpcli.inspect, jvpcli.trace, jvpcli.hessian], ids=lambda door: door.__name__)
def test_every_door_takes_them(door):
    result = door(NET, x=X[0], wrt=["0.weight", "x"])
    assert [name for name, x in result.report.inputs.items() if x.differentiated] == ["x", "0.weight"]
    x, weight = X[0].clone().requires_grad_(), NET[0].weight.detach().clone().requires_grad_()
    gradients = torch.autograd.grad(functional_call(NET, {"0.weight": weight}, (x,)).sum(), (x, weight))
    found = result.gradient if door is jvpcli.hessian else result.vjp
    for name, gradient in zip(("x", "0.weight"), gradients, strict=True):
        torch.testing.assert_close(found[name], gradient)


def test_a_shared_parameter_is_one_input_and_counts_in_every_place():
    module, ids = Tied().double(), torch.tensor([1, 4, 1])
    found = jvpcli.jacobian(module, ids, wrt="*")
    assert list(found) == [('out["logits"]', "embed.weight"), ('out["logits"]', "head.bias")]
    both = dict.fromkeys(("embed.weight", "head.weight"), module.embed.weight)
    wanted = torch_jacobian(lambda w: functional_call(module, dict.fromkeys(both, w), (ids,))["logits"], module.embed.weight)
    for name in both:
        one = jvpcli.jacobian(module, ids, wrt=name)['out["logits"]', name]
        torch.testing.assert_close(one.to_dense(), wanted)


def test_arguments_have_the_names_of_forward():
    module, ids, mask = Tied().double(), torch.tensor([1, 4]), torch.tensor([1.0, 0.5], dtype=torch.float64)
    for found in (
        jvpcli.jacobian(module, ids, mask, scale=2.0),
        jvpcli.jacobian(module, mask=mask, ids=ids, scale=torch.tensor(2.0, dtype=torch.float64), wrt="mask"),
    ):
        wanted = torch_jacobian(lambda mask: module(ids, mask, scale=2.0)["logits"], mask)
        torch.testing.assert_close(found['out["logits"]', "mask"].to_dense(), wanted)


def test_a_module_is_left_as_it_was():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    x = torch.randn(6, 3)
    for door in (jvpcli.inspect, jvpcli.check, jvpcli.trace):
        door(module, x, wrt=["x", "*"])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_module_of_single_precision_is_checked_in_double():
    about = jvpcli.check(nn.Linear(3, 2), X[0].float(), wrt=["x", "weight"]).report.comparisons[0].about
    assert about == "2 outputs along one direction in float64"


def test_a_name_that_there_isn_t():
    with pytest.raises(UsageError, match=r"'0\.wieght', which is not an input; the inputs are x; the parameters are 0\.weight"):
        jvpcli.inspect(NET, X, wrt="0.wieght")
    with pytest.raises(UsageError, match=r"'\*\.gain', which is not an input"):
        jvpcli.inspect(NET, X, wrt="*.gain")


@pytest.mark.filterwarnings("ignore")
def test_scripted_and_compiled_modules():
    plain = expected(NET, "0.weight", X)
    scripted = jvpcli.jacobian(torch.jit.trace(NET, X), X, wrt="0.weight")["y", "0.weight"]
    torch.testing.assert_close(scripted.to_dense(), plain)


def test_a_checkpoint_of_a_module_without_buffers_runs_again_as_it_ran():
    """A check takes its parameters in double precision, also where the backward pass runs the module once more."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    assert jvpcli.check(lambda x: checkpoint(net, x, use_reentrant=False), X[0].float()).verdict == "pass"
