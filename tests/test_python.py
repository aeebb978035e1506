"""From Python all that the command line can: answers, tests of one's own, many requests, messages; and errors as they are."""

from __future__ import annotations

import inspect
import re
import sys
from io import StringIO

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian as torch_hessian
from torch.autograd.functional import jacobian as torch_jacobian

import jvpcli
from jvpcli.cli.app import run
from jvpcli.cli.context import Context
from jvpcli.errors import EvaluationError, NotDifferentiableError, ShapeMismatchError, UsageError

X = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
W = torch.tensor([[1.0, 0, 2], [0, 1, 1]], dtype=torch.float64)


class Wrong(torch.autograd.Function):
    """x², whose backward forgets the 2."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


# trace takes what the others take


def layered(batch, weight, power=1):
    return {"logits": (weight @ batch["x"]) ** power, "step": 7}


def test_trace_takes_arguments_as_the_function_is_called():
    batch = {"x": X, "ids": torch.tensor([0, 2])}
    traced = jvpcli.trace(layered, batch, W, power=2, ignore='out["step"]')
    x, w = (t.clone().requires_grad_() for t in (X, W))
    expected = torch.autograd.grad((w @ x).square().sum(), (x, w))
    assert list(traced.vjp) == ['batch["x"]', "weight"]
    for found, wanted in zip(traced.vjp.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert len(traced.steps) == 2
    assert list(jvpcli.trace(layered, batch, W, ignore='out["step"]', wrt=1).vjp) == ["weight"]
    with pytest.raises(UsageError, match="given by name"):
        jvpcli.trace("x * 2", X)


def test_a_trace_opens_a_step_or_a_module():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    whole, opened = str(jvpcli.trace(net, X)), str(jvpcli.trace(net, X, step=1))
    assert whole != opened
    assert opened.startswith("Sequential\n")
    with pytest.raises(UsageError, match="there is no step 9"):
        jvpcli.trace(net, X, step=9)
    with pytest.raises(UsageError, match="depth is at least 1, not 0"):
        jvpcli.trace(net, X, depth=0)


def test_hessians_leave_results_out():
    def loss(x):
        return {"loss": (x**3).sum(), "name": "cubic"}

    found = jvpcli.hessian(loss, X, ignore='out["name"]').hessian["x", "x"]
    torch.testing.assert_close(found, torch_hessian(lambda x: (x**3).sum(), X))


# assert_gradients


def test_a_right_gradient_passes():
    assert jvpcli.assert_gradients(lambda x: torch.tanh(x) * x, X) is None
    assert jvpcli.assert_gradients("torch.outer(x, x)", x=[1, 2]) is None


def test_a_wrong_gradient_is_an_assertion_error_with_the_report():
    with pytest.raises(AssertionError) as caught:
        jvpcli.assert_gradients(Wrong.apply, X)
    report = jvpcli.check(Wrong.apply, X)
    assert str(caught.value) == str(report)
    assert (report.passed, report.verdict) == (False, "wrong_backward")
    assert report.worst.numeric == pytest.approx(2 * report.worst.analytic)
    with pytest.raises(NotDifferentiableError):
        jvpcli.assert_gradients(lambda x: x * 2, torch.tensor([1, 2]))


def test_assert_gradients_takes_what_check_takes():
    assert inspect.signature(jvpcli.assert_gradients).parameters == inspect.signature(jvpcli.check).parameters


# explain


MESSAGE = "grad can be implicitly created only for scalar outputs"


def test_an_explanation_is_that_of_the_command():
    found = jvpcli.explain(f"Traceback (most recent call last):\n  …\nRuntimeError: {MESSAGE}")
    assert (found.matched, found.title) == (MESSAGE, "backward() or grad() was called on a tensor with several entries")
    assert found.meaning
    assert found.causes
    assert found.cures
    out = StringIO()
    run(["explain", MESSAGE], Context(None, out, StringIO(), {"COLUMNS": "120"}))
    assert str(found) == out.getvalue().rstrip("\n")
    assert found.to_dict()["title"] == found.title
    with pytest.raises(EvaluationError, match="unknown message"):
        jvpcli.explain("no such thing")
    with pytest.raises(UsageError):
        jvpcli.explain("  ")


# batch


def test_a_batch_answers_in_order_and_goes_on_after_a_failure():
    asked = []

    def requests():
        for number in range(3):
            asked.append(number)
            yield {"id": number, "expression": "x ** 2", "inputs": {"x": [1, number]}}
        yield {"id": "bad", "expression": "x +"}
        yield {"id": [1], "expression": "x * w", "inputs": {"x": X, "w": np.ones(3)}, "command": "check"}
        yield {"expression": "x", "inputs": {"x": 1}, "nothing": 1}
        yield ["expression"]

    answers = jvpcli.batch(requests())
    assert asked == []
    first = next(answers)
    assert asked == [0]
    assert first == {"id": 0, **jvpcli.inspect("x ** 2", x=[1, 0]).to_dict()}
    rest = list(answers)
    assert [answer.get("id") for answer in rest] == [1, 2, "bad", [1], None, None]
    assert [answer["ok"] for answer in rest] == [True, True, False, True, False, False]
    assert rest[2]["error"]["code"] == "syntax"
    assert rest[3]["verdict"] == "pass"
    assert rest[4]["error"]["message"] == "a request has no field `nothing`"
    assert rest[5]["error"]["message"] == "a request is a dict with an `expression`, not list"


def test_what_a_batch_here_can_t_keep_is_said():
    (late,) = jvpcli.batch([{"expression": "x", "inputs": {"x": 1}, "timeout": 2}])
    assert late["error"]["message"] == "`timeout` can't be kept here: it ends the process, which is yours"
    cube = {"expression": "x[:, None] * x", "inputs": {"x": "torch.ones(200)"}}
    kept = {limit: jvpcli.inspect(cube["expression"], cube["inputs"], memory_limit=limit).to_dict() for limit in ("1MB", "1GB")}
    assert kept["1MB"] != kept["1GB"]  # the Jacobian does not fit, products do
    for own, limit, least in ((None, "1MB", "1MB"), ("1MB", "1GB", "1MB"), ("1GB", None, "1GB")):
        assert [*jvpcli.batch([{**cube, "memory_limit": own}], memory_limit=limit)] == [kept[least]]
    with pytest.raises(UsageError, match="memory_limit takes a size"):
        jvpcli.batch([], memory_limit="much")
    with torch.no_grad():
        (answer,) = jvpcli.batch([{"expression": "x * x", "inputs": {"x": 3}}])
    assert answer["vjp"]["x"]["value"] == 6


# Exceptions of the user's own


class Own(Exception):
    """The user's own."""


class Failing(torch.autograd.Function):
    """The identity, whose backward raises."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise Own("not today")


DOORS = (jvpcli.inspect, jvpcli.jacobian, jvpcli.trace, jvpcli.check, jvpcli.hessian)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_own_exceptions_come_through_as_themselves(door):
    def forward(x):
        raise Own("at once")

    with pytest.raises(Own, match="at once") as caught:
        door(forward, X)
    assert not getattr(caught.value, "__notes__", [])  # nothing is known of it
    with pytest.raises(Own, match="not today"):
        door(lambda x: Failing.apply(x).sin().sum(), X)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_what_torch_raises_in_own_code_has_its_meaning_as_a_note(door):
    def forward(x):
        weight = torch.ones(2, 4, dtype=x.dtype)
        return (weight @ x).sum()

    with pytest.raises(RuntimeError) as theirs:
        forward(X)
    with pytest.raises(RuntimeError) as caught:
        door(forward, X)
    assert type(caught.value) is type(theirs.value)
    assert str(caught.value) == str(theirs.value)
    if sys.version_info >= (3, 11):
        (note,) = caught.value.__notes__
        assert "(2, 4) and (3,)" in note
        assert "weight @ x" in note
        assert "\x1b" not in note


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_what_a_module_of_torchs_layers_raises_has_its_meaning_as_a_note():
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(5, 2))
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        jvpcli.inspect(layers, torch.ones(2, 3))
    (note,) = caught.value.__notes__
    assert "the inner sizes 4 and 5 differ" in note
    assert "Linear 1 was made for in_features=5 and gets 4, the size of axis 1 of its input." in note
    assert "in_features=4 where the Linear is made" in note


class Reader(torch.nn.Module):
    """A sequence that attends to itself; its inner layers are made by the test."""

    def __init__(self, **layers):
        super().__init__()
        self.layers = torch.nn.ModuleDict(layers)

    def forward(self, x):
        for layer in self.layers.values():
            x = layer(x[:1], x, x)[0] if isinstance(layer, torch.nn.MultiheadAttention) else layer(x)
        return x


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
@pytest.mark.parametrize(
    ("layers", "shape", "told"),
    [
        ({"a": torch.nn.Conv1d(3, 4, 1), "b": torch.nn.Conv1d(5, 2, 1)}, (2, 3, 6),
         "Conv1d layers.b was made for in_channels=5 and gets 4, the size of axis 1 of its input."),
        ({"norm": torch.nn.BatchNorm1d(5)}, (2, 4), "BatchNorm1d layers.norm was made for num_features=5 and gets 4"),
        ({"cell": torch.nn.LSTM(4, 2)}, (3, 2, 6), "LSTM layers.cell was made for input_size=4 and gets 6"),
        ({"heads": torch.nn.MultiheadAttention(4, 2, batch_first=True)}, (3, 2, 4),
         "MultiheadAttention layers.heads was made for a batch at axis 0"),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_its_input_is_named(layers, shape, told):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        jvpcli.jacobian(Reader(**layers), torch.ones(shape))
    (note,) = caught.value.__notes__
    assert told in " ".join(re.sub("[│╭╮╰╯─]", " ", note).split())


def test_an_expression_fails_with_errors_of_ours():
    with pytest.raises(ShapeMismatchError):
        jvpcli.inspect("W @ x", x=[1, 2], W=W)


def test_a_function_that_ends_here_is_answered():
    """What a look to the side raises is nobody's question."""

    def edge(x):
        if float(x[0]) > 0.5:
            raise Own("outside")
        return (x * 3).abs()

    torch.testing.assert_close(jvpcli.inspect(edge, X).vjp["x"], 3 * X.sign())


# Tensors that are not dense, and of half precision


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr], ids=["coo", "csr"])
@pytest.mark.filterwarnings("ignore")
def test_sparse_tensors_are_handed_on_where_others_are_differentiated(make):
    given = make(W)
    expected = torch_jacobian(lambda x: (W @ x).sin(), X)

    def function(matrix, x):
        return (matrix @ x).sin()

    found = jvpcli.jacobian(function, given, X, wrt="x")["y", "x"]
    torch.testing.assert_close(found.to_dense(), expected)
    assert found.nnz == int((expected != 0).sum())
    assert jvpcli.check(function, given, X, wrt="x").passed
    torch.testing.assert_close(jvpcli.trace(function, given, X, wrt="x").vjp["x"], expected.sum(0))
    for call in (lambda: jvpcli.inspect(function, given, X), lambda: jvpcli.inspect("m @ x", m=given, x=X)):
        with pytest.raises(jvpcli.JvpError, match="it is sparse") as caught:
            call()
        assert caught.value.code == "bad_value"
        assert "to_dense()" in caught.value.hints[0]


def test_tensors_without_values_are_refused_with_a_reason():
    for door in DOORS:
        with pytest.raises(jvpcli.JvpError, match="on torch's meta device, without values"):
            door(lambda x: (x * x).sum(), X.to("meta"))


FUNCTIONS = {
    "tanh": lambda x: torch.tanh(x) * x,
    "outer": lambda x: torch.outer(x, x),
    "softmax": lambda x: torch.softmax(x, 0),
    "norm": lambda x: x.norm(),
    "layer": lambda x: torch.nn.functional.layer_norm(x[None], (3,)),
    "product": lambda x: x.prod(),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision_is_compared_with_its_own_rounding(name, dtype):
    function, x = FUNCTIONS[name], X.to(dtype)
    expected = torch_jacobian(function, x.double())
    result = jvpcli.inspect(function, x)
    assert result.jacobian["y", "x"].dtype is dtype
    bound = 8 * torch.finfo(dtype).eps * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(result.jacobian["y", "x"].double(), expected, atol=bound, rtol=0)
    assert jvpcli.check(function, x).passed


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_imports_are_never_inputs(door):
    with pytest.raises(UsageError, match="imports are for the text of an expression"):
        door(lambda x: x.sum(), X, imports="own.py")


@pytest.mark.parametrize(
    ("function", "title"),
    [(torch.nn.Linear(3, 2).double(), "Linear"), (torch.sin, "sin"), (Wrong.apply, "apply"), (lambda x: x, "<lambda>")],
)
def test_titles_are_names(function, title):
    assert jvpcli.inspect(function, X).report.expression == title
