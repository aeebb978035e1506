"""A text that is asked about again goes its earlier course where that holds, and no other way than a first question does."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import jvpcli
from jvpcli.errors import JvpError
from jvpcli.language.course import Courses
from jvpcli.language.parse import parse
from jvpcli.problem import Problem

DOUBLE = torch.float64


def evaluated(text: str, points: list[dict[str, Tensor]], wrt: tuple[str, ...] = ("x",)) -> list[bool]:
    """Whether each evaluation of a text, one after the other, went an earlier course."""
    courses, program = Courses(), parse(text, points[0].keys())
    return [Problem(program, point, wrt, courses=courses).evaluation.known is not None for point in points]


def points(*rows: list[float]) -> list[dict[str, Tensor]]:
    return [{"x": torch.tensor(row, dtype=DOUBLE)} for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "torch.outer(x, x)",
        "x[0] * x",
        "y = x.sin(); z = y * x; (z, y.sum())",
        "[x[i] * i for i in range(len(x))][1]",
        "x.reshape(x.shape[0], 1) @ x[None]",
        "torch.where(x > 0, x, x * 2)",
        "x.topk(2).values",
        "x.detach() * x",
    ],
)
def test_steps_that_hold_anywhere_are_run_again(text):
    assert evaluated(text, points([1, 2, 3], [3, -1, 2], [0, 5, 1])) == [False, False, True]


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("x if x[0] > 0 else 2 * x", [[-1.0, 2, 3]]),  # a value decides
        ("sum(x[i] for i in range(3) if x[i] > 0)", [[-1.0, 2, 3]]),
        ("torch.dropout(x, 0.5, True)", [[1.0, 2, 3]]),  # random numbers
        ("y = x.clone(); y.mul_(2); y", [[1.0, 2, 3]]),  # changed in place
        ("x * int(x[0])", [[2.0, 2, 3]]),  # a whole number, and another one
        ("x.roll(int(x[0]))", [[2.0, 2, 3]]),
        ("x[x > 1.5]", [[2.0, 2, 3]]),  # another size
        ("def f(a):\n    return a * 2\nf(x)", [[2.0, 2, 3]]),  # functions
    ],
)
def test_what_values_decide_is_decided_anew(text, others):
    first = [1.0, 2.0, 3.0]
    assert not any(evaluated(text, points(first, first, *others)))


def test_a_number_that_is_the_same_again_holds():
    assert evaluated("x * int(x[0])", points([1, 2], [1.5, 7], [1.2, 3], [2, 3], [1.9, 0])) == [False, False, True, False, False]


def test_another_shape_layout_or_input_goes_no_earlier_course():
    courses, program = Courses(), parse("x.sum(0)", {"x"})
    square = torch.rand(3, 3, dtype=DOUBLE)
    for x in (square, square, square.t(), square.float(), square[:2]):
        Problem(program, {"x": x}, ("x",), courses=courses).evaluation
    again = [Problem(program, {"x": x}, ("x",), courses=courses) for x in (square.t(), square.float(), square[:2])]
    assert [problem.evaluation.outputs["y"].shape for problem in again] == [(3,), (3,), (3,)]
    assert [problem.evaluation.known for problem in again[1:]] == [None, None]


def test_a_text_put_in_the_place_of_a_program_goes_its_own_way():
    courses, x = Courses(), torch.tensor([1.0, 2.0])
    for _ in range(3):
        problem = Problem(parse("x * 2", {"x"}), {"x": x}, ("x",), courses=courses)
        assert problem.evaluation.outputs["y"].tolist() == [2, 4]
    assert problem.retry("x * 3").evaluation.outputs["y"].tolist() == [3, 6]


FUNCTIONS: list[tuple[str, Callable[..., Any], tuple[int, ...]]] = [
    ("torch.outer(x, x)", lambda x: torch.outer(x, x), (4,)),
    ("torch.tanh(x @ x.mT).sum(-1)", lambda x: torch.tanh(x @ x.mT).sum(-1), (3, 2)),
    ("x.sin() * x.exp()", lambda x: x.sin() * x.exp(), ()),
    ("x.relu()", lambda x: x.relu(), (5,)),
    ("x[:0] * 2", lambda x: x[:0] * 2, (3,)),
    ("torch.softmax(x, 1) * x[:, :1]", lambda x: torch.softmax(x, 1) * x[:, :1], (2, 3)),
    ("x.sort(0).values.cumsum(0)", lambda x: x.sort(0).values.cumsum(0), (4,)),
    ("F.conv1d(x, x[:1])", lambda x: F.conv1d(x, x[:1]), (2, 2, 3)),
    ("x * x.view(-1)[0].item()", lambda x: x * x.view(-1)[0].item(), (3,)),
    ("x / x.abs().max().detach()", lambda x: x / x.abs().max().detach(), (3,)),
    ("x.prod() * torch.eye(2, dtype=x.dtype)", lambda x: x.prod() * torch.eye(2, dtype=x.dtype), (3,)),
    ("x.clone()", lambda x: x.clone(), (3,)),
    ("x", lambda x: x * 1, (3,)),
]


@pytest.mark.parametrize(("text", "function", "shape"), FUNCTIONS, ids=[text for text, *_ in FUNCTIONS])
def test_repeated_jacobians_are_those_of_each_point(text, function, shape):
    kinds = set()
    for seed in range(5):
        x = torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
        found = jvpcli.jacobian(text, x=x)["y", "x"]
        y = function(x)
        rows = [
            torch.autograd.grad(part, at, allow_unused=True)[0]
            for k in range(y.numel())
            for at in [x.clone().requires_grad_()]
            for part in [function(at).reshape(-1)[k]]
        ]
        expected = torch.stack(rows).reshape(y.shape + x.shape) if rows else torch.zeros(y.shape + x.shape, dtype=DOUBLE)
        torch.testing.assert_close(found.to_dense(), expected)
        kinds.add(found.structure)
        found.to_dense().fill_(7)  # whoever writes to a result changes no later one
    assert len(kinds) == 1


def test_the_answer_of_a_repeated_question_is_that_of_the_first():
    def ask(x: list[float]) -> dict[str, Any]:
        return jvpcli.inspect("y = x * x.sum(); z = y.relu()", x=x).to_dict()

    later = [1.0, -2.0, 0.0]
    fresh = ask(later)
    for x in ([1.0, 2.0, 3.0], [4.0, -5.0, 6.0], [0.0, 0.0, 0.0]):
        ask(x)
    assert ask(later) == fresh


def test_a_failure_at_a_later_point_is_explained_as_ever():
    good, bad = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)
    for _ in range(3):
        jvpcli.jacobian("torch.linalg.inv(x)", x=good)
    with pytest.raises(JvpError) as again:
        jvpcli.jacobian("torch.linalg.inv(x)", x=bad)
    with pytest.raises(JvpError) as fresh:
        jvpcli.jacobian("torch.linalg.inv( x )", x=bad)
    assert again.value.message == fresh.value.message
    for _ in range(3):
        jvpcli.jacobian("F.embedding(i, x)", i=torch.tensor([0, 1]), x=good)
    with pytest.raises(JvpError, match="outside of the table"):  # a guard looks at values each time
        jvpcli.jacobian("F.embedding(i, x)", i=torch.tensor([0, 2]), x=good)


def test_sizes_that_values_decide_are_forecast_each_time():
    courses, program = Courses(), parse("x.sum() * torch.ones(3).repeat_interleave(n)", {"x", "n"})
    x = torch.ones(2)
    for repeats in ([1, 1, 1], [1, 1, 1], [1, 1, 1]):
        last = Problem(program, {"x": x, "n": torch.tensor(repeats)}, ("x",), courses=courses)
        assert last.evaluation.outputs["y"].tolist() == [2, 2, 2]
    assert last.evaluation.known is not None
    with pytest.raises(JvpError) as refused:
        Problem(program, {"x": x, "n": torch.tensor([1, 10**12, 1])}, ("x",), courses=courses).evaluation
    assert refused.value.code == "limit"


def test_nothing_is_said_on_the_way():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(4):
            jvpcli.jacobian("torch.view_as_real(x * (1 + 1j)).sum(-1)", x=[1.0, 2.0])
    assert not said


@pytest.mark.parametrize(
    "text",
    [
        "x * w",
        "F.relu(w) * x",
        "F.relu(w, True) * x",
        "F.relu(w, inplace=True) * x",
        "F.relu(*[w, True]) * x",
        "w.relu_() * x",
        "F.threshold(w, 0.0, 5.0, True) * x",
        "w[:1].mul_(2); w * x",
    ],
)
def test_the_callers_tensors_stay_as_they_are(text):
    x, w = torch.tensor([3.0, 2.0]), torch.tensor([-1.0, 2.0])
    for _ in range(4):
        jvpcli.inspect(text, x=x, w=w, wrt="x")
        jvpcli.jacobian(text, x=x, w=w, wrt="x")
    assert not x.requires_grad
    assert x.tolist() == [3, 2]
    assert w.tolist() == [-1, 2]


def test_warnings_of_other_threads_stay_warnings():
    raised, stop = [], threading.Event()

    def warn():
        while not stop.is_set():
            try:
                warnings.warn("of another thread", stacklevel=1)
            except UserWarning as error:
                raised.append(error)

    other = threading.Thread(target=warn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.start()
        for _ in range(20):
            jvpcli.inspect("torch.sin(x).exp()", x=torch.ones(3))
        stop.set()
        other.join()
    assert raised == []
