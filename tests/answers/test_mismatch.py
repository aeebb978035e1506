"""Cotangents and tangents of the wrong shape: true, different explanations, and commands that run."""

from __future__ import annotations

import shlex

import pytest

from jvpcli.answers.inspect import inspect
from jvpcli.answers.trace import trace
from jvpcli.errors import BadValueError, ShapeMismatchError, UsageError
from jvpcli.messages.matcher import lookup
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
    batched = "--is-grads-batched" in rest
    rest = [word for word in rest if word != "--is-grads-batched"]
    while rest:
        name, equals, value = rest.pop(0).removeprefix("--").partition("=")
        value = value if equals else rest.pop(0)
        if name.replace("-", "_") in options:
            options[name.replace("-", "_")].append((None, value))
        else:
            inputs[name] = value
    given = {key: tuple(pairs) for key, pairs in options.items()}
    return inspect(Request(words[2], inputs, is_grads_batched=batched, **given))


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
        assert run(hint).vjp["x"].value.shape == ((3, 4) if "--is-grads-batched" in hint else (4,))


def test_five_shapes_have_five_explanations():
    shapes = ["4", "1,4,4", "16", "4,1", "2,8"]
    assert len({wrong(f"torch.rand({shape})").explanation.split(": ")[-1] for shape in shapes}) == 5


REASON = (
    "grad_outputs is v = ∂L/∂y: one weight for each entry of the *output*. y has 16 entries in the shape (4, 4), so v has "
    "the shape (4, 4); nothing is broadcast.\nWhat came has shape "
)


@pytest.mark.parametrize(
    ("g", "got", "looks_like", "hints"),
    [
        (
            "1,2,3,4", "(4,)",
            "that is the shape of the input x. A direction in the input's space is the tangent of a JVP (--tangent); it goes "
            "in on the other side of J.",
            ["--grad-outputs ones", "--tangent 1,2,3,4"],
        ),
        (
            "torch.rand(1,4,4)", "(1, 4, 4)", "that is the right shape with an axis of length 1 too many in front.",
            ['--grad-outputs "torch.rand(1,4,4).reshape(4, 4)"'],
        ),
        (
            "torch.rand(16)", "(16,)", "that is y flattened: the right number of entries (16), in one row.",
            ['--grad-outputs "torch.rand(16).reshape(4, 4)"'],
        ),
        (
            "1;2;3;4", "(4, 1)",
            "it would broadcast to (4, 4), but nothing is broadcast silently; the command below writes it out.",
            ['--grad-outputs "1,1,1,1;2,2,2,2;3,3,3,3;4,4,4,4"'],
        ),
        (
            "torch.rand(2,8)", "(2, 8)",
            "the right number of entries (16), in another shape; in row-major order they would fit.",
            ['--grad-outputs "torch.rand(2,8).reshape(4, 4)"'],
        ),
    ],
)  # fmt: skip
def test_the_whole_text_of_the_five(g, got, looks_like, hints):
    error = wrong(g)
    assert error.message == f"grad_outputs for y has shape {got}; expected (4, 4), the shape of y"
    assert error.explanation == f"{REASON}{got}: {looks_like}"
    assert list(error.hints) == [f'jvp inspect "{OUTER}" --x 1,2,3,4 {hint}' for hint in hints]
    for hint in error.hints:
        run(hint)


def test_causes_and_cures_are_those_that_explain_gives():
    error = wrong("1,1,1,1")
    told = lookup(error.torch_message)
    assert (error.causes, error.cures) == (told.causes, told.cures)
    assert len(told.causes) > 1


def test_the_command_repairs_every_wrong_shape_at_once():
    weights = ((None, "torch.ones(1)"), (None, "1,2;3,4;5,6"), (None, "1"))
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request("(x.sum(), torch.outer(x,w), 2*w)", {"x": "1,2", "w": "3,4,5"}, grad_outputs=weights))
    assert caught.value.message.startswith("grad_outputs for y0 has shape (1,)")
    assert [v.shape for v in run(caught.value.hints[0]).grad_outputs.values()] == [(), (2, 3), (3,)]
    tangents = ((None, "1,2,3"), (None, "1,2"))
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request("torch.outer(x, w)", {"x": "1,2", "w": "3,4,5"}, tangent=tangents))
    assert run(caught.value.hints[0]).jvp["y"].shape == (2, 3)


def test_a_cotangent_in_the_tangent_s_place_is_shown_in_its_own():
    with pytest.raises(ShapeMismatchError) as caught:
        inspect(Request(OUTER, {"x": "1,2,3,4"}, tangent=((None, "torch.rand(4,4)"),)))
    assert caught.value.hints[1] == f'jvp inspect "{OUTER}" --x 1,2,3,4 --grad-outputs "torch.rand(4,4)"'
    run(caught.value.hints[1])


def test_of_a_trace_the_tangent_is_for_inspect():
    with pytest.raises(ShapeMismatchError) as caught:
        trace(Request(OUTER, {"x": "1,2,3,4"}, grad_outputs=((None, "1,2,3,4"),), command="trace"))
    assert [hint.split()[1] for hint in caught.value.hints] == ["trace", "inspect"]


def test_a_cotangent_that_can_t_be_computed_is_explained_in_its_own_text():
    error = wrong("torch.rand(4,3) @ torch.rand(4,4)")
    assert error.source == "torch.rand(4,3) @ torch.rand(4,4)"
    assert error.details[0] == "in the value of grad_outputs for y"
    assert "inner sizes 3 and 4" in error.message


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
