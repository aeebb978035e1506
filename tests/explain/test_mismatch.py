"""Cotangents and tangents of the wrong shape: true, different explanations, and commands that run."""

from __future__ import annotations

import shlex

import pytest

from jvpcli.errors import BadValueError, ShapeMismatchError, UsageError
from jvpcli.pipeline import inspect
from jvpcli.request import Request

OUTER = "torch.outer(x,x)"


def wrong(g: str, expression: str = OUTER, **inputs: str) -> ShapeMismatchError:
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request(expression, inputs or {"x": "1,2,3,4"}, grad_outputs=((None, g),)))
    return caught.value


def run(command: str):
    """The request that a hint's command line makes, carried out."""
    words = shlex.split(command)
    assert words[:2] == ["jvp", "inspect"]
    options = {"grad_outputs": [], "tangent": []}
    inputs, rest = {}, words[3:]
    while rest:
        name, equals, value = rest.pop(0).removeprefix("--").partition("=")
        value = value if equals else rest.pop(0)
        if name.replace("-", "_") in options:
            options[name.replace("-", "_")].append((None, value))
        else:
            inputs[name] = value
    return inspect(Request(words[2], inputs, **{key: tuple(pairs) for key, pairs in options.items()}))


@pytest.mark.parametrize(
    ("g", "says", "repaired"),
    [
        ("1,1,1,1", "the shape of the input x", "ones"),
        ("torch.ones_like(x)", "the shape of the input x", "ones"),
        ("torch.rand(1,4,4)", "an axis of length 1 too many in front", "torch.rand(1,4,4).reshape(4, 4)"),
        ("torch.rand(16)", "y flattened", "torch.rand(16).reshape(4, 4)"),
        ("torch.rand(4,1)", "would broadcast to (4, 4)", "torch.rand(4,1).expand(4, 4)"),
        ("torch.rand(2,8)", "right number of entries (16), in another shape", "torch.rand(2,8).reshape(4, 4)"),
        (
            "2 * torch.rand(2,8)",
            "right number of entries (16), in another shape",
            "(2 * torch.rand(2,8)).reshape(4, 4)",
        ),
        ("3", "a single number", "3,3,3,3;3,3,3,3;3,3,3,3;3,3,3,3"),
        ("torch.rand(3,4,4)", "a batch of 3 cotangents", "torch.rand(3,4,4)[0]"),
        ("torch.rand(5)", "5 numbers for 16 entries", "ones"),
    ],
)
def test_what_a_wrong_cotangent_looks_like(g, says, repaired):
    error = wrong(g)
    assert says in error.explanation
    assert error.expected == (4, 4)
    assert error.message.endswith("expected (4, 4), the shape of y")
    assert f"grad_output[0] has a shape of torch.Size({list(error.got)})" in error.torch_message
    assert repaired in shlex.split(error.hints[0])
    for hint in error.hints:
        assert run(hint).vjp["x"].value.shape == (4,)


def test_five_shapes_have_five_explanations():
    shapes = ["4", "1,4,4", "16", "4,1", "2,8"]
    assert len({wrong(f"torch.rand({shape})").explanation.split(": ")[-1] for shape in shapes}) == 5


def test_a_transposed_cotangent():
    error = wrong("torch.rand(2,3)", "x @ w", x="torch.rand(3,4)", w="torch.rand(4,2)")
    assert "y's shape transposed" in error.explanation
    assert run(error.hints[0]).grad_outputs["y"].shape == (3, 2)


def test_numbers_stay_numbers():
    error = wrong("1,2,3;4,5,6", "x.T @ w", x="torch.rand(4,3)", w="torch.rand(4,2)")
    report = run(error.hints[0])
    assert report.grad_outputs["y"].value.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_a_wrong_tangent():
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request(OUTER, {"x": "1,2,3,4"}, tangent=((None, "torch.rand(4,4)"),)))
    assert caught.value.expected == (4,)
    assert "the shape of the output y" in caught.value.explanation
    assert run(caught.value.hints[0]).jvp["y"].shape == (4, 4)


def test_the_right_output_of_several_is_named():
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request("(x.sum(), x*2)", {"x": "1,2"}, grad_outputs=((None, "1"), (None, "1"))))
    assert caught.value.message.startswith("grad_outputs for y1")
    assert "grad_output[1]" in caught.value.torch_message
    assert run(caught.value.hints[0]).grad_outputs["y1"].value.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("g", "kind", "says"),
    [
        ((("z", "ones"),), UsageError, "there is only y"),
        (((None, "ones"), (None, "ones")), UsageError, "given 2 times"),
        (((None, "onehot:4,0"),), BadValueError, "not an index"),
        (((None, "onehot:1"),), BadValueError, "takes 2 numbers"),
        (((None, "onehot:a"),), BadValueError, "whole numbers"),
        (((None, "none"),), UsageError, "nothing to pull back"),
        (((None, "torch.ones(4,4)*1j"),), BadValueError, "complex"),
    ],
)
def test_other_wrong_cotangents(g, kind, says):
    with pytest.raises(kind) as caught:
        inspect(Request(OUTER, {"x": "1,2,3,4"}, grad_outputs=g))
    assert says in f"{caught.value.message} {caught.value.explanation}"
