"""A question for maps that is asked again takes its steps and passes alone, and gives what a first question gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor

import jvpcli
from jvpcli import api
from jvpcli.errors import JvpError
from jvpcli.jacobians.engine import Repeat

pytestmark = pytest.mark.usefixtures("unknown")

DOUBLE = torch.float64


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each question that was known again, whether it was answered so."""
    found: list[bool] = []
    maps = Repeat.maps

    def noted(self: Repeat, inputs: Mapping[str, Tensor]) -> Any:
        answer = maps(self, inputs)
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(Repeat, "maps", noted)
    return found


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def expected(function: Callable[..., Any], inputs: Mapping[str, Tensor], wrt: list[str], output: int = 0) -> list[Tensor]:
    def alone(*tensors: Tensor) -> Tensor:
        found = function(**{**inputs, **dict(zip(wrt, tensors, strict=True))})
        return found[output] if isinstance(found, tuple) else found

    return list(torch.func.jacrev(alone, tuple(range(len(wrt))))(*[inputs[name] for name in wrt]))


CASES: list[tuple[str, Callable[..., Any], dict[str, tuple[int, ...]], list[str]]] = [
    ("torch.outer(x, x)", lambda x: torch.outer(x, x), {"x": (4,)}, ["x"]),
    ("(x * x).sum()", lambda x: (x * x).sum(), {"x": (50,)}, ["x"]),
    ("torch.tanh(W @ x + b)", lambda x, W, b: torch.tanh(W @ x + b), {"x": (3,), "W": (5, 3), "b": (5,)}, ["x", "b"]),
    ("a * b.sum(), b.sin()", lambda a, b: (a * b.sum(), b.sin()), {"b": (3,), "a": (2, 1)}, ["b", "a"]),
    ("torch.linalg.eigvalsh(x + x.T)", lambda x: torch.linalg.eigvalsh(x + x.T), {"x": (5, 5)}, ["x"]),
    ("torch.linalg.cholesky(x @ x.T)", lambda x: torch.linalg.cholesky(x @ x.T), {"x": (3, 3)}, ["x"]),
    ("torch.softmax(x, 0)", lambda x: torch.softmax(x, 0), {"x": (70,)}, ["x"]),
    ("x.sin()", lambda x: x.sin(), {"x": (80,)}, ["x"]),
    ("x[:0].exp()", lambda x: x[:0].exp(), {"x": (3,)}, ["x"]),
    ("x * 2", lambda x: x * 2, {"x": ()}, ["x"]),
    ("W @ x", lambda x, W: W @ x, {"x": (2,), "W": (60, 2)}, ["x"]),
]


@pytest.mark.parametrize(("text", "function", "shapes", "wrt"), CASES, ids=[text for text, *_ in CASES])
def test_a_repeated_question_gives_the_maps_of_its_point(text, function, shapes, wrt, repeated):
    for seed in range(6):
        inputs = {name: drawn(*shape, seed=10 * seed + k) for k, (name, shape) in enumerate(shapes.items())}
        kept = {name: x.clone() for name, x in inputs.items()}
        found = jvpcli.jacobian(text, wrt=wrt, **inputs)
        for k, y in enumerate(dict.fromkeys(y for y, _ in found)):
            for x, jacobian in zip(wrt, expected(function, inputs, wrt, k), strict=True):
                torch.testing.assert_close(found[y, x].to_dense(), jacobian)
                assert found[y, x].structure == jvpcli.jacobian(f"{text} ", wrt=wrt, **inputs)[y, x].structure
        assert all(torch.equal(inputs[name], kept[name]) for name in inputs)
    assert repeated[-1]
    assert all(repeated)


def test_numbers_that_are_not_finite_are_those_of_a_first_question(repeated):
    for x in ([1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [0.0, 1.0], [float("nan"), 1.0]):
        at = torch.tensor(x)
        again = jvpcli.jacobian("x.sqrt() * x.prod()", x=at)["y", "x"]
        first = jvpcli.jacobian("(x.sqrt() * x.prod())", x=at.tolist())["y", "x"]
        torch.testing.assert_close(again.to_dense(), first.to_dense(), equal_nan=True)
        assert again.structure == first.structure
    assert repeated == [True, True]


def ask(text: str = "torch.outer(x, x).sum(0)", count: int = 4, **more: Any) -> Any:
    x = more.pop("x", torch.ones(3))
    return [jvpcli.jacobian(text, x=x, **more) for _ in range(count)][-1]


@pytest.mark.parametrize(
    "more",
    [
        {"x": [1.0, 2.0, 3.0]},
        {"dtype": "float64"},
        {"device": "cpu"},
        {"seed": 1},
        {"strict": True},
        {"create_graph": True},
        {"x": torch.ones(3, requires_grad=True)},
        {"x": torch.nn.Parameter(torch.ones(3))},
        {"text": "x * 2 if x[0] > 0 else x"},
        {"text": "torch.dropout(x, 0.5, True)"},
    ],
)
def test_what_is_asked_in_a_seldom_way_is_asked_anew(more, repeated):
    ask(**more)
    assert not repeated


def test_another_form_is_another_question(repeated):
    ask(count=4)
    assert repeated == [True]
    for x in (torch.ones(3, dtype=DOUBLE), torch.ones(2)):
        ask(x=x, count=1)
    assert repeated == [True]
    strided = torch.ones(6)[::2]  # the steps are those of another layout
    assert ask(x=strided, count=1)["y", "x"].to_dense().tolist() == ask(x=torch.ones(3), count=1)["y", "x"].to_dense().tolist()
    assert repeated == [True, False, True]


def test_inputs_by_name_are_the_same_question(repeated):
    ask()
    x, text = torch.tensor([1.0, 2.0, 3.0]), "torch.outer(x, x).sum(0)"
    found = [jvpcli.jacobian(text, given)["y", "x"].to_dense() for given in ({"x": x}, {"x": x.tolist()})]
    assert torch.equal(*found)
    assert repeated == [True, True]
    for wrong in ([x], x, {"z": x}):
        with pytest.raises(JvpError):
            jvpcli.jacobian(text, wrong)


def test_options_are_read_each_time():
    ask()
    for wrong in ({"mode": "sideways"}, {"wrt": ["z"]}, {"memory_limit": "much"}, {"strict": 0}, {"dtype": "float31"}):
        with pytest.raises(JvpError):
            ask(count=1, **wrong)


def test_another_limit_or_mode_is_another_question(repeated):
    ask()
    for more in ({"memory_limit": "1MB"}, {"memory_limit": 10**6}, {"mode": "reverse"}, {"wrt": "x"}, {"wrt": ["x"]}):
        ask(count=1, **more)
    assert repeated == [True]


def test_inside_of_a_transform_it_is_refused_as_ever():
    ask()
    with pytest.raises(JvpError, match="inside a transform"):
        torch.func.vmap(lambda x: jvpcli.jacobian("torch.outer(x, x).sum(0)", x=x)["y", "x"].to_dense())(torch.ones(2, 3))


def test_the_callers_modes_change_nothing(repeated):
    first = ask()["y", "x"].to_dense()
    with torch.no_grad():
        assert torch.equal(ask(count=1)["y", "x"].to_dense(), first)
    with torch.inference_mode():
        assert torch.equal(ask(count=1, x=torch.ones(3))["y", "x"].to_dense(), first)
    assert repeated[:2] == [True, True]


def test_a_failure_at_a_later_point_is_explained(repeated):
    for _ in range(4):
        jvpcli.jacobian("torch.linalg.cholesky(x)", x=torch.eye(3))
    with pytest.raises(JvpError) as again:
        jvpcli.jacobian("torch.linalg.cholesky(x)", x=-torch.eye(3))
    with pytest.raises(JvpError) as first:
        jvpcli.jacobian("torch.linalg.cholesky( x )", x=-torch.eye(3))
    assert (again.value.message, again.value.code) == (first.value.message, first.value.code)
    assert repeated == [True, False]


def test_a_result_that_is_written_to_changes_no_later_one():
    for text in ("x", "x.clone()", "x.reshape(3, 1)", "x.sum()", "torch.outer(x, x)"):
        found = [ask(text, count=1)["y", "x"].to_dense() for _ in range(4)]
        for _ in range(2):
            found[-1].fill_(7)
            assert torch.equal(ask(text, count=1)["y", "x"].to_dense(), found[0])


def test_every_option_is_part_of_the_question_or_asked_seldom():
    parameters = {name for name, each in signature(jvpcli.jacobian).parameters.items() if each.kind is not each.VAR_KEYWORD}
    asked = {"expression", "inputs", "arguments", "wrt", "mode", "memory_limit"}
    assert parameters == asked | set(api.SELDOM)
    defaults = {name: signature(jvpcli.jacobian).parameters[name].default for name in api.SELDOM}
    assert defaults == api.SELDOM


@pytest.mark.parametrize("text", ["A * x", "A @ x", "(A + 0) @ (x * x)", "A @ x if x.sum() < 9 else A.T @ x"])
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("size", [3, 71])  # as a matrix, and by local maps
def test_a_kind_that_is_asked_for_after_an_input_was_written_to_is_none_of_another_function(text, times, size):
    x, kinds = torch.linspace(-1, 1, size), list[str]()  # a column of zeros is there by chance
    for written in (False, True):
        A = torch.ones(size, size)
        for _ in range(times):
            found = jvpcli.jacobian(text, A=A, x=x, wrt="x")["y", "x"]
        if written:
            A.zero_()
        kinds.append(found.structure)
    assert kinds[1] in (kinds[0], "unknown")
