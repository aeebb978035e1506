"""Changes in place that autograd does not see: each cuts the graph, and is named as what does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import jvpcli

POINT = torch.tensor([1.5, 2.0], dtype=torch.float64)


def doubled(x):
    y = x * x
    with torch.no_grad():
        y.mul_(2)
    return y.sum()


def added(x):
    y = x * x
    with torch.no_grad():
        y += x
    return y


def an_entry(x):
    y = x * x
    with torch.no_grad():
        y[0] = x[1]
    return y


def other_data(x):
    y = x * x
    y.data = y.data * 2
    return y.sum()


def a_buffer(x):
    kept = torch.zeros_like(x)
    with torch.no_grad():
        kept.copy_(x)
    return kept * x


def an_option(x):
    y = x * x
    with torch.no_grad():
        F.elu(y - 4, inplace=True)
        F.threshold(y, 3.0, 2.0 * float(x[0]), inplace=True)
    return y


def a_place_for_it(x):
    y = x * x
    with torch.no_grad():
        torch.mul(x, 9, out=y)
    return y


def inferred(x):
    y = torch.exp(1j * x).abs() * x
    with torch.inference_mode():
        y.add_(x)
    return y


def imaginary(x):
    y = torch.complex(x, x * x)
    with torch.no_grad():
        y *= 1j * x
    return y


def of_no_axes(x):
    y = torch.dot(x, x)
    with torch.no_grad():
        y.add_(x[0])
    return y


UNSEEN = [
    # function, the line, from its own, that is to blame
    (doubled, "y.mul_(2)"),
    (added, "y += x"),
    (an_entry, "y[0] = x[1]"),
    (other_data, "y.data = y.data * 2"),
    (a_buffer, "kept.copy_(x)"),
    (an_option, "F.threshold(y, 3.0, 2.0 * float(x[0]), inplace=True)"),
    (a_place_for_it, "torch.mul(x, 9, out=y)"),
    (inferred, "y.add_(x)"),
    (imaginary, "y *= 1j * x"),
    (of_no_axes, "y.add_(x[0])"),
]


def real_jacobian(function):
    """Autograd's, of real and imaginary parts, row by row."""
    x = POINT.clone().requires_grad_()
    y = function(x)
    y = torch.view_as_real(y) if y.is_complex() else y
    return torch.stack([torch.autograd.grad(entry, x, retain_graph=True)[0] for entry in y.reshape(-1)])


def differences(function):
    """Central differences of the same."""
    columns = []
    for step in torch.eye(2, dtype=torch.float64) * 1e-6:
        after, before = (function((POINT + s * step).requires_grad_()).detach() for s in (1, -1))
        change = (after - before) / 2e-6
        columns.append((torch.view_as_real(change) if change.is_complex() else change).reshape(-1))
    return torch.stack(columns, 1)


@pytest.mark.parametrize(("function", "line"), UNSEEN)
def test_a_change_that_is_not_seen_cuts_the_graph(function, line):
    result = jvpcli.check(function, x=POINT)
    assert result.verdict == "graph_break"
    assert (result.report.step.source, f"`{line}` (test_unseen_changes.py, line " in result.report.explanation) == (line, True)
    gap = (real_jacobian(function) - differences(function)).abs()
    assert float(gap.max()) > 0.1
    assert abs(result.worst.analytic - result.worst.numeric) == pytest.approx(float(gap.max()), rel=1e-4)


@pytest.mark.parametrize(("function", "line"), UNSEEN)
def test_inspect_warns_of_it(function, line):
    told = [notice.message for notice in jvpcli.inspect(function, x=POINT).report.warnings]
    assert sum(f"`{line}`" in message and "the gradient shown lacks that part" in message for message in told) == 1


def with_a_constant(x):
    y = x * x
    with torch.no_grad():
        y.add_(1.0)
        y[0] = y[0] - 3.0
    return y


def with_a_new_buffer(x):
    kept = torch.zeros_like(x)
    with torch.no_grad():
        kept.copy_(x.sign())
    return kept * x


@pytest.mark.parametrize("function", [with_a_constant, with_a_new_buffer])
def test_what_loses_nothing_passes(function):
    assert torch.allclose(real_jacobian(function), differences(function), atol=1e-6)
    assert jvpcli.check(function, x=POINT).verdict == "pass"
    assert [notice.code for notice in jvpcli.inspect(function, x=POINT).report.warnings if notice.code == "graph_break"] == []
