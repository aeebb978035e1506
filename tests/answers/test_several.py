"""Cotangents and tangents of several outputs and inputs: as torch takes them, in every form that holds numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import jvpcli
from jvpcli.errors import JvpError, ShapeMismatchError, UsageError

X = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

PROGRAMS = [
    ("(x.sum(), x.prod())", lambda x: (x.sum(), x.prod())),
    ("(x, x**2)", lambda x: (x, x**2)),
    ("(x.sum(), x**2, torch.outer(x, x))", lambda x: (x.sum(), x**2, torch.outer(x, x))),
]

FORMS = [
    lambda tensors: list(tensors),
    lambda tensors: tuple(tensors),
    lambda tensors: [t.tolist() for t in tensors],
    lambda tensors: tuple(t.tolist() for t in tensors),
    lambda tensors: [t.numpy() for t in tensors],
    lambda tensors: [tensors[0].tolist(), *tensors[1:]],
    lambda tensors: [tensors[0].numpy(), *(t.tolist() for t in tensors[1:])],
    lambda tensors: {f"y{k}": t.tolist() for k, t in enumerate(tensors)},
]


def drawn(outputs):
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in outputs]


@pytest.mark.parametrize(("text", "function"), PROGRAMS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_text", [True, False])
def test_one_v_for_each_output(text, function, form, as_text):
    leaf = X.clone().requires_grad_()
    outputs = function(leaf)
    weights = drawn(outputs)
    (expected,) = torch.autograd.grad(outputs, leaf, weights)
    found = jvpcli.inspect(text if as_text else function, x=X, grad_outputs=form(weights), dtype="float64")
    torch.testing.assert_close(found.vjp["x"], expected)
    checked = jvpcli.check(text if as_text else function, x=X, grad_outputs=form(weights), dtype="float64")
    assert checked.passed


@pytest.mark.parametrize("given", [[1.0, 2.0, 3.0], (1.0, 2.0, 3.0), [np.float64(1), np.float64(2), 3], np.array([1.0, 2.0, 3.0]),
                                   [np.array([1.0, 2.0, 3.0])], [torch.tensor([1.0, 2.0, 3.0])]])  # fmt: skip
def test_of_one_output_a_list_of_numbers_is_its_v(given):
    found = jvpcli.inspect("x**2", x=X, grad_outputs=given)
    torch.testing.assert_close(found.vjp["x"], 2 * X * X)


def test_one_tangent_for_each_input():
    found = jvpcli.inspect("a * b", a=[1.0, 2.0], b=[3.0, 4.0], tangent=[[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(found.jvp["y"], torch.tensor([3.0, 2.0]))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("form", [lambda t: list(t), lambda t: [v.tolist() for v in t], lambda t: [v.numpy() for v in t]])
def test_too_few_are_an_error_as_in_torch(count, form):
    text, function = PROGRAMS[2]
    leaf = X.clone().requires_grad_()
    outputs = function(leaf)
    weights = drawn(outputs)[:count]
    with pytest.raises(RuntimeError) as theirs:
        torch.autograd.grad(outputs, leaf, weights)
    for door in (jvpcli.inspect, jvpcli.trace, jvpcli.check):
        with pytest.raises(JvpError) as ours:
            door(text, x=X, grad_outputs=form(weights))
        assert ours.value.torch_message == str(theirs.value)
        assert ours.value.message == f"grad_outputs was given for {count} of the 3 outputs y0, y1, y2"


def test_by_name_the_others_are_ones_and_none_leaves_out():
    by_name = jvpcli.inspect("(x.sum(), x.prod())", x=X, grad_outputs={"y1": 2.0})
    torch.testing.assert_close(by_name.vjp["x"], 1 + 2 * X.prod() / X)
    left_out = jvpcli.inspect("(x.sum(), x.prod())", x=X, grad_outputs=[None, 2.0])
    torch.testing.assert_close(left_out.vjp["x"], 2 * X.prod() / X)


@pytest.mark.parametrize("word", ["ones", "zeros", "randn"])
def test_a_word_alone_holds_for_every_output(word):
    found = jvpcli.inspect("(x.sum(), x**2)", x=X, grad_outputs=word)
    assert {v.source for v in found.report.grad_outputs.values()} == {word}
    weights = [torch.as_tensor(v.value) for v in found.report.grad_outputs.values()]
    if word != "randn":
        assert [v.tolist() for v in weights] == [[1.0, [1.0] * 3], [0.0, [0.0] * 3]][word == "zeros"]
    leaf = X.clone().requires_grad_()
    torch.testing.assert_close(found.vjp["x"], torch.autograd.grad((leaf.sum(), leaf**2), leaf, weights)[0])


def test_an_output_that_cannot_be_differentiated_needs_none():
    torch.testing.assert_close(jvpcli.inspect("x.max(0)", x=X, grad_outputs=[5.0]).vjp["x"], torch.tensor([0.0, 0, 5]).double())


def test_too_many_are_an_error():
    with pytest.raises(UsageError, match="3 times, but there are only y0, y1"):
        jvpcli.inspect("(x.sum(), x.prod())", x=X, grad_outputs=[1.0, 2.0, 3.0])


def test_a_wrong_shape_in_a_list_is_told_of_its_output():
    with pytest.raises(ShapeMismatchError) as caught:
        jvpcli.inspect("(x, x.sum())", x=X, grad_outputs=[[1.0, 2.0], 1.0])
    assert (caught.value.expected, caught.value.got) == ((3,), (2,))
    assert caught.value.message.startswith("grad_outputs for y0")


@pytest.mark.parametrize("wrt", [[], (), "", [""]])
def test_an_empty_wrt_is_an_error(wrt):
    for door in (jvpcli.inspect, jvpcli.jacobian, jvpcli.trace, jvpcli.check):
        with pytest.raises(UsageError, match="wrt takes the names of inputs"):
            door("x**2", x=X, wrt=wrt)
