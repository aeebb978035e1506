"""Jacobians, VJPs and JVPs of many functions, compared with torch.autograd.functional in float64."""

from __future__ import annotations

import pytest
import torch

import jvpcli
from many_functions import FUNCTIONS, inputs_for


@pytest.mark.parametrize(("expression", "shapes"), FUNCTIONS, ids=[f"{e} {s}" for e, s in FUNCTIONS])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_and_products(expression, shapes, mode, oracle):
    inputs = inputs_for(shapes)
    expected = oracle(expression, inputs)
    tangents = {name: torch.randn_like(x) for name, x in inputs.items()}
    result = jvpcli.inspect(expression, inputs, mode=mode, grad_outputs="randn", tangent=tangents)
    names = list(result.outputs)
    vjp = {name: torch.zeros_like(x) for name, x in inputs.items()}
    for (number, name), jacobian in expected.items():
        y = names[number]
        found = result.jacobian[y, name]
        assert found.shape == jacobian.shape
        torch.testing.assert_close(found, jacobian)
        v = torch.as_tensor(result.report.grad_outputs[y].value)
        vjp[name] += torch.tensordot(v, jacobian, dims=v.dim())
        entry = result.report.jacobian[y][name]
        assert entry.nnz == torch.count_nonzero(found)
        assert entry.shape == tuple(jacobian.shape)
    for name, x in inputs.items():
        torch.testing.assert_close(result.vjp[name], vjp[name])
        assert result.vjp[name].shape == x.shape
    for number, y in enumerate(names):
        pushed = sum(torch.tensordot(expected[number, n], u, dims=u.dim()) for n, u in tangents.items())
        torch.testing.assert_close(result.jvp[y], pushed)


def test_there_are_enough_functions():
    assert len({expression for expression, _ in FUNCTIONS}) >= 60
