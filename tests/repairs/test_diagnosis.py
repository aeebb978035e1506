"""Wrong shapes inside expressions: the guilty part, what is told of it, and repairs that work."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from wrong_shapes import WRONG

from jvpcli.answers.failures import works
from jvpcli.errors import EvaluationError, ExitCode, JvpError, ShapeMismatchError
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.messages.matcher import lookup
from jvpcli.messages.shapes import aligned, broadcast, broadcast_table, product_repairs
from jvpcli.problem import Problem
from jvpcli.program import Program
from jvpcli.repairs.diagnosis import MOST, TRIES, explain_operands
from jvpcli.request import Request

pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")


def by_python(source: str, inputs: Mapping[str, Tensor]) -> object:
    """The value that Python itself gives the text; raises whatever it raises."""
    scope = {"torch": torch, "F": F, **{name: value.clone() for name, value in inputs.items()}}
    tree = ast.parse(source)
    last = tree.body.pop()
    exec(compile(tree, "source", "exec"), scope)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "source", "eval"), scope)


def tensors(described: Mapping[str, tuple[int, ...] | str]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: eval(shape) if isinstance(shape, str) else torch.rand(shape, generator=generator)
        for name, shape in described.items()
    }


def trier(program: Program, inputs: Mapping[str, Tensor]) -> Callable[[str], bool]:
    wrt = tuple(name for name, x in inputs.items() if x.is_floating_point())
    return partial(works, Request(program.source), Problem(program, inputs, wrt))


def explained(source: str, inputs: Mapping[str, Tensor]) -> JvpError:
    program = parse(source, inputs.keys())
    with pytest.raises(JvpError) as caught:
        evaluate(program, inputs)
    return explain_operands(caught.value, program, trier(program, inputs))


def told(error: JvpError) -> str:
    return " ".join([error.message, error.explanation, *error.details])


@pytest.mark.parametrize(("source", "described", "guilty", "says"), WRONG, ids=[f"{w[0]} {w[1]}" for w in WRONG])
def test_wrong_shapes(source, described, guilty, says):
    inputs = tensors(described)
    error = explained(source, inputs)
    assert isinstance(error, ShapeMismatchError)
    assert error.exit_code == ExitCode.SHAPE_MISMATCH
    assert error.source[slice(*error.span)] == guilty
    assert says in told(error)
    assert error.torch_message
    assert 1 <= len(error.hints) <= MOST
    for hint in error.hints:
        assert hint != source
        by_python(hint, inputs)
    for line in error.details:
        name, _, rest = line.partition("  ")
        if name in inputs:
            assert str(tuple(inputs[name].shape)) in rest


def test_there_are_enough_wrong_expressions():
    assert len(WRONG) >= 60


def test_operands_stand_there_as_they_were_written():
    error = explained("torch.tanh((x + 1).T @ torch.relu(W))", tensors({"x": (2, 3), "W": (3, 4)}))
    assert error.details == ("(x + 1).T      shape (3, 2), float32", "torch.relu(W)  shape (3, 4), float32")
    assert error.hints[0] == "torch.tanh((x + 1).T.T @ torch.relu(W))"


def test_the_axes_stand_in_a_table():
    assert broadcast_table([("x", (12, 1, 5)), ("long name", (3, 4))]) == [
        "axis       -3  -2  -1",
        "x          12   1   5",
        "long name       3   4",
        "           ok  ok   ✗",
    ]


@pytest.mark.parametrize(
    ("source", "described", "hint"),
    [
        ("(x + 1) @ w", {"x": (2, 3), "w": (2, 3)}, "(x + 1) @ w.T"),
        ("w @ (x + 1)", {"x": (2, 3), "w": (2, 3)}, "w @ (x + 1).T"),
        ("torch.matmul(w, x + 1)", {"x": (2, 3), "w": (2, 3)}, "torch.matmul(w, (x + 1).T)"),
        ("w @ -x", {"x": (2, 3), "w": (2, 3)}, "w @ (-x).T"),
        ("w + 2 * x", {"x": (2,), "w": (2, 3)}, "w + (2 * x)[:, None]"),
        ("torch.add(w, other=2 * x)", {"x": (2,), "w": (2, 3)}, "torch.add(w, other=(2 * x)[:, None])"),
        ("torch.cat([2 * x, w])", {"x": (2,), "w": (2, 2)}, "torch.cat([(2 * x)[None], w])"),
        ("ß = x\nü = ß @ w; ü.sum()", {"x": (2, 3), "w": (2, 3)}, "ß = x\nü = ß @ w.T; ü.sum()"),
        ("x.sum(dim=-3)", {"x": (2, 3)}, "x.sum(dim=-2)"),
        ("x.sum(\n  1\n)", {"x": (2,)}, "x.sum(\n  0\n)"),
        ("torch.stack([a @ w for a in x])", {"x": (2, 3), "w": (4, 3)}, "torch.stack([a @ w.T for a in x])"),
        ("torch.cat((a, b,))", {"a": (2, 3), "b": (2, 4)}, "torch.cat((a, b,), dim=1)"),
        ("x[:, 3] * 2", {"x": (5, 3)}, "x[:, 2] * 2"),
        ("F.conv2d(x, w)", {"x": (1, 5, 5, 3), "w": (2, 3, 3, 3)}, "F.conv2d(x.movedim(-1, 1), w)"),
        ("torch.mv(A, v)", {"A": (2, 3), "v": (3, 1)}, "A @ v"),
    ],
)
def test_repairs_are_spliced_where_the_operand_stands(source, described, hint):
    assert explained(source, tensors(described)).hints[0] == hint


def test_entries_are_dropped_only_where_nothing_else_works():
    assert explained("x @ W", tensors({"x": (3,), "W": (2, 2)})).hints == ("x[:2] @ W",)
    assert "[:" not in " ".join(explained("x @ W", tensors({"x": (3, 4), "W": (3, 4)})).hints)


@pytest.mark.parametrize(
    ("source", "inputs", "says", "hint"),
    [
        ("A @ b", {"A": torch.ones(2, 3), "b": torch.ones(3, dtype=torch.double)}, "float64", "A.double() @ b"),
        ("torch.bmm(a, b)", {"a": torch.ones(1, 2, 2).long(), "b": torch.ones(1, 2, 2)}, "int64", "torch.bmm(a.float(), b)"),
        ("x[i] * 2", {"x": torch.ones(3), "i": torch.tensor([1.0])}, "Indices", "x[i.long()] * 2"),
        ("n.mean() * x", {"x": torch.ones(2), "n": torch.arange(3)}, "int64", "n.float().mean() * x"),
        ("torch.where(m, x, 0 * x)", {"x": torch.ones(2), "m": torch.ones(2)}, "boolean", "torch.where(m.bool(), x, 0 * x)"),
        ("F.softmax(n, dim=0) * x", {"x": torch.ones(3), "n": torch.arange(3)}, "int64", "F.softmax(n.float(), dim=0) * x"),
        ("torch.linalg.inv(A)", {"A": torch.ones(2, 2)}, "singular", None),
        ("x.sum() if x > 0 else x", {"x": torch.ones(2)}, "several values", None),
    ],
)  # fmt: skip
def test_other_failures_stay_failures_of_the_evaluation(source, inputs, says, hint):
    error = explained(source, inputs)
    assert isinstance(error, EvaluationError)
    assert error.exit_code == ExitCode.EVALUATION
    assert says in told(error)
    if hint is not None:
        assert error.hints[0] == hint
        by_python(hint, inputs)
    found = lookup(error.torch_message)
    assert error.message == found.title
    assert found.meaning in error.explanation


def test_the_same_is_told_as_by_explain():
    for source, described in [
        ("x.reshape(4, 2)", {"x": (2, 3)}),
        ("torch.dot(a, b)", {"a": (3,), "b": (4,)}),
        ("torch.cat([a, b], 1)", {"a": (3, 1), "b": (4, 1)}),
        ("torch.einsum('ij,jk->ik', a, b)", {"a": (2, 3), "b": (4, 5)}),
        ("x.T.view(6)", {"x": (2, 3)}),
        ("a @ b", {"a": (2, 3), "b": (2, 3)}),
    ]:
        error = explained(source, tensors(described))
        assert (
            error.message.split(":")[0].rsplit(" at ")[0]
            == lookup(error.torch_message).title.split(":")[0].rsplit(" at ")[0]
        )


def test_trying_ends():
    inputs = tensors({"x": (2, 3), "W": (5, 7)})
    program = parse("x @ W", inputs.keys())
    with pytest.raises(JvpError) as caught:
        evaluate(program, inputs)
    tried: list[str] = []
    error = explain_operands(caught.value, program, lambda source: bool(tried.append(source)))
    assert 0 < len(tried) <= TRIES
    assert len(set(tried)) == len(tried)
    assert "x @ W" not in tried
    assert "No transpose makes them fit" in error.explanation


def test_hints_are_shown_as_the_caller_wants():
    inputs = tensors({"x": (2, 3), "W": (2, 3)})
    program = parse("x @ W", inputs.keys())
    with pytest.raises(JvpError) as caught:
        evaluate(program, inputs)
    error = explain_operands(caught.value, program, trier(program, inputs), lambda source: f"jvp inspect '{source}'")
    assert error.hints[0] == "jvp inspect 'x @ W.T'"


def test_other_errors_are_given_back():
    error = EvaluationError("something of jvp's own")
    assert explain_operands(error, parse("x"), lambda source: True) is error


def test_operands_that_are_not_written_out():
    inputs = tensors({"x": (2, 3), "w": (4,)})
    error = explained("torch.cat([*x, w, w[None]])", inputs)
    assert isinstance(error, ShapeMismatchError)
    assert "1 and 2 axes" in told(error)


TEMPLATES = [
    "x @ w", "x + w", "w - 2 * x", "torch.matmul(x, w)", "torch.mm(x, w)", "torch.mv(x, w)", "torch.dot(x, w)",
    "torch.outer(x, w)", "F.linear(x, w)", "torch.cat([x, w])", "torch.cat([x, w], dim=1)", "torch.stack([x, w])",
    "x.reshape(4, -1) * w", "x.view(2, 3) + w", "x.sum(1) + w", "x[1] + w", "x[0, 2] * w", "torch.where(x > 0, x, w)",
    "torch.einsum('ij,jk->ik', x, w)", "F.conv1d(x, w)", "x.T @ w", "torch.bmm(x, w)", "x.expand(3, 4) + w",
    "torch.maximum(x, w.sum(0))", "F.mse_loss(x, w)", "x.permute(1, 0) @ w", "torch.kron(x, w).view(9)", "x.squeeze(2) + w",
]  # fmt: skip

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(TEMPLATES), SHAPES, SHAPES)
def test_every_repair_works(source, first, second):
    inputs = {"x": torch.ones(first), "w": torch.ones(second)}
    program = parse(source, inputs.keys())
    try:
        evaluate(program, inputs)
    except JvpError as error:
        found = explain_operands(error, program, trier(program, inputs))
        assert found.message
        assert found.span is not None
        assert found.source[slice(*found.span)] in source
        if found.torch_message and lookup(found.torch_message):
            assert "None" not in found.message
        if isinstance(found, ShapeMismatchError):
            for hint in found.hints:
                if _is_expression(hint):
                    by_python(hint, inputs)


def _is_expression(hint: str) -> bool:
    """Whether a hint is a repaired expression, not advice in words."""
    try:
        names = {node.id for node in ast.walk(ast.parse(hint)) if isinstance(node, ast.Name)}
    except SyntaxError:
        return False
    return {"x", "w"} <= names <= {"x", "w", "torch", "F"}


@settings(max_examples=200, deadline=None)
@given(SHAPES, SHAPES)
def test_shape_arithmetic_is_torchs(a, b):
    x, y = torch.ones(a), torch.ones(b)
    try:
        expected = tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        expected = None
    assert broadcast(a, b) == expected
    for new in aligned(a, b):
        eval(f"x{new} + y", {"x": x, "y": y})
    if a and b:
        for left, right, swap in product_repairs(a, b):
            eval("y @ x" if swap else f"x{left} @ y{right}", {"x": x, "y": y})
