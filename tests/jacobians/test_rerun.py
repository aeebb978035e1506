"""A question for the maps of a Python function that is asked again: the function runs each time, and what it did is derived."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import jvpcli
from jvpcli import api
from jvpcli.errors import JvpError

pytestmark = pytest.mark.usefixtures("unknown")

DOUBLE = torch.float64



def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def expected(function: Callable[..., Any], inputs: Mapping[str, Tensor], wrt: list[str]) -> dict[tuple[int, str], Tensor]:
    """torch's own Jacobians, by the place of the output and the name of the input."""

    def alone(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = function(**{**inputs, **dict(zip(wrt, tensors, strict=True))})
        return found if isinstance(found, tuple) else (found,)

    rows = torch.func.jacrev(alone, tuple(range(len(wrt))))(*[inputs[name] for name in wrt])
    return {(k, name): rows[k][place] for k in range(len(rows)) for place, name in enumerate(wrt)}


def agrees(
    found: Mapping[tuple[str, str], Any], function: Callable[..., Any], inputs: Mapping[str, Tensor], wrt: list[str]
) -> None:
    outputs = list(dict.fromkeys(y for y, _ in found))
    for (k, x), jacobian in expected(function, inputs, wrt).items():
        torch.testing.assert_close(found[outputs[k], x].to_dense(), jacobian)


CASES: dict[str, tuple[Callable[..., Any], dict[str, tuple[int, ...]], list[str]]] = {
    "outer": (lambda x: torch.outer(x, x), {"x": (4,)}, ["x"]),
    "number": (lambda x: (x * x).sum(), {"x": (50,)}, ["x"]),
    "layer": (lambda x, W, b: torch.tanh(W @ x + b), {"x": (3,), "W": (5, 3), "b": (5,)}, ["x", "b"]),
    "two outputs": (lambda a, b: (a * b.sum(), b.sin()), {"a": (2, 1), "b": (3,)}, ["a", "b"]),
    "eigenvalues": (lambda x: torch.linalg.eigvalsh(x + x.T), {"x": (5, 5)}, ["x"]),
    "softmax": (lambda x: torch.softmax(x, 0), {"x": (70,)}, ["x"]),
    "wide": (lambda x: x.sin(), {"x": (80,)}, ["x"]),
    "nothing": (lambda x: x[:0].exp(), {"x": (3,)}, ["x"]),
    "0-d": (lambda x: x * 2, {"x": ()}, ["x"]),
    "masked": (lambda x: x * (x > 0), {"x": (9,)}, ["x"]),
    "unreached": (lambda x, z: x.exp(), {"x": (3,), "z": (2,)}, ["x", "z"]),
}


@pytest.mark.parametrize(("function", "shapes", "wrt"), CASES.values(), ids=CASES)
def test_maps_are_those_of_the_point(function, shapes, wrt, repeated):
    for seed in range(5):
        inputs = {name: drawn(*shape, seed=10 * seed + k) for k, (name, shape) in enumerate(shapes.items())}
        kept = {name: x.clone() for name, x in inputs.items()}
        found = jvpcli.jacobian(function, inputs, wrt=wrt)
        anew = jvpcli.jacobian(function, inputs, wrt=wrt, seed=0)  # which is asked seldom
        agrees(found, function, inputs, wrt)
        assert {key: each.structure for key, each in found.items()} == {key: each.structure for key, each in anew.items()}
        assert all(torch.equal(inputs[name], kept[name]) for name in inputs)
    assert repeated == [True] * 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda f, a, b: jvpcli.jacobian(f, a, b),
        lambda f, a, b: jvpcli.jacobian(f, a, b=b),
        lambda f, a, b: jvpcli.jacobian(f, a=a, b=b),
        lambda f, a, b: jvpcli.jacobian(f, {"b": b, "a": a}),
        lambda f, a, b: jvpcli.jacobian(f, a, b, wrt=(0, 1)),
        lambda f, a, b: jvpcli.jacobian(f, a, b, wrt=["a", "b"]),
    ],
)
def test_arguments_may_be_given_in_any_way(ask, repeated):
    def f(a: Tensor, b: Tensor) -> Tensor:
        return a.sin() * b.sum()

    for seed in range(4):
        inputs = {"a": drawn(3, seed=seed), "b": drawn(2, seed=9 + seed)}
        agrees(ask(f, **inputs), f, inputs, ["a", "b"])
    assert repeated == [True, True]


def test_the_way_that_arguments_are_given_is_part_of_the_question():
    def f(a: Tensor, b: Tensor) -> Tensor:
        return a.sin() * b.sum()

    x, y = drawn(3), drawn(3, seed=1)
    for _ in range(3):
        by_name, by_place = jvpcli.jacobian(f, {"b": x, "a": y}), jvpcli.jacobian(f, x, y)
        agrees(by_name, f, {"b": x, "a": y}, ["a", "b"])
        agrees(by_place, f, {"a": x, "b": y}, ["a", "b"])
    for wrong in ({"wrt": True}, {"wrt": [False]}, {"wrt": 2}, {"wrt": "c"}, {"mode": "up"}, {"memory_limit": "much"}):
        with pytest.raises(JvpError):
            jvpcli.jacobian(f, x, y, **wrong)
    for _ in range(3):
        jvpcli.jacobian(f, x, y, wrt=0)
    for wrong in (False, 0.0):
        with pytest.raises(JvpError):
            jvpcli.jacobian(f, x, y, wrt=wrong)


# What may change from call to call


class Changing:
    """A function that does one thing for some calls, and then another."""

    def __init__(self, before: Callable[[Tensor], Any], after: Callable[[Tensor], Any]) -> None:
        self.before, self.after, self.changed, self.calls = before, after, False, 0

    def function(self) -> Callable[[Tensor], Any]:
        def f(x: Tensor) -> Any:
            self.calls += 1
            return (self.after if self.changed else self.before)(x)

        return f


class Doubled(torch.autograd.Function):
    """x, with twice its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g


def hooked(x: Tensor) -> Tensor:
    y = x.sin()
    y.register_hook(lambda g: 3 * g)
    return y * 1


WEIGHT = drawn(6, seed=5).requires_grad_()

CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "numbers": lambda x: x.sin() * 7,
    "operations": lambda x: x.cos() * 2,
    "more operations": lambda x: (x.sin() * 2).exp(),
    "shape": lambda x: x[:3].sin() * 2,
    "one number": lambda x: (x.sin() * 2).sum(),
    "dtype": lambda x: (x.sin() * 2).float(),
    "two outputs": lambda x: (x.sin() * 2, x.sin() * 3),
    "the input": lambda x: x,
    "another leaf": lambda x: x.sin() * WEIGHT,
    "another leaf alone": lambda x: WEIGHT.sin() * 2,
    "custom": lambda x: Doubled.apply(x.sin() * 2),
    "hook": hooked,
    "mask": lambda x: torch.where(x > 0, x.sin() * 2, 0 * x),
    "branch": lambda x: x.sin() * 2 if x[0] > 0 else x.sin() * 3,
    "detached": lambda x: x.sin() * x.detach(),
    "a view": lambda x: x.flip(0).sin() * 2,
}


@pytest.mark.parametrize("after", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("open_before", [False, True])
def test_a_function_that_does_something_else_is_derived_as_it_did(after, open_before):
    """Against the same question asked in a seldom way, which is none that is known again, and against plain passes."""
    before = (lambda x: x.sin() * WEIGHT) if open_before else (lambda x: x.sin() * 2)
    changing, x = Changing(before, after), drawn(6, seed=3)
    f = changing.function()
    for _ in range(4):
        jvpcli.jacobian(f, x)
    for changed in (True, False, True, True, True):
        changing.changed, changing.calls = changed, 0
        found = jvpcli.jacobian(f, x)
        assert changing.calls == 1 or (after is CHANGES["branch"] and changed)  # which is looked at elsewhere, too
        anew = jvpcli.jacobian(f, x, seed=0)
        assert found.keys() == anew.keys()
        leaf = x.detach().requires_grad_()
        y = (after if changed else before)(leaf)
        ys = y if isinstance(y, tuple) else (y,)
        for (key, each), y in zip(found.items(), ys, strict=True):
            rows = [torch.autograd.grad(part, leaf, retain_graph=True, allow_unused=True)[0] for part in y.reshape(-1)]
            dense = torch.stack([torch.zeros_like(leaf) if row is None else row for row in rows]).reshape(*y.shape, 6)
            torch.testing.assert_close(each.to_dense(), dense, check_dtype=False)
            torch.testing.assert_close(each.to_dense(), anew[key].to_dense())
            assert each.structure == anew[key].structure


@pytest.mark.parametrize("after", [lambda x: 3, lambda x: x.detach(), lambda x: x > 0, lambda x: None, lambda x: 1 / 0])
def test_what_is_refused_later_is_refused_as_at_first(after):
    changing, x = Changing(lambda x: x.sin() * 2, after), drawn(6)
    f = changing.function()
    for _ in range(4):
        jvpcli.jacobian(f, x)
    changing.changed, told = True, []
    for more in ({}, {"seed": 0}, {}):
        changing.calls = 0
        with pytest.raises((JvpError, ZeroDivisionError)) as error:
            jvpcli.jacobian(f, x, **more)
        told.append((type(error.value), str(error.value), changing.calls, getattr(error.value, "__notes__", None)))
    assert told[0] == told[1] == told[2]
    changing.changed = False
    agrees(jvpcli.jacobian(f, x), lambda x: x.sin() * 2, {"x": x}, ["x"])


def test_a_function_that_raises_once_is_asked_once():
    calls = []

    def f(x: Tensor) -> Tensor:
        calls.append(None)
        if len(calls) == 5:
            raise LookupError("the fifth time")
        return x.sin()

    for place in range(1, 8):
        if place == 5:
            with pytest.raises(LookupError, match="the fifth time"):
                jvpcli.jacobian(f, drawn(3))
        else:
            jvpcli.jacobian(f, drawn(3))
        assert len(calls) == place


def test_inputs_that_are_differentiated_inside_are_tracked_as_ever():
    inside = [False]

    def f(x: Tensor, z: Tensor) -> Tensor:
        return x * torch.autograd.grad((z * z).sum(), z)[0] if inside[0] else x * z

    x, z = drawn(3), drawn(3, seed=1)
    for changed in (False, False, False, True, True, False):
        inside[0] = changed
        found = jvpcli.jacobian(f, x, z, wrt="x")["y", "x"].to_dense()
        torch.testing.assert_close(found, torch.diag((1 + changed) * z))


def test_code_defaults_and_what_is_captured_may_change(repeated):
    weight = drawn(3, seed=2)

    def f(x: Tensor, n: float = 2.0, *, k: float = 1.0) -> Tensor:
        return x.sin() * weight * n * k

    x = drawn(3)

    def slopes() -> list[float]:
        return [round(float(j), 9) for j in (jvpcli.jacobian(f, x)["y", "x"].to_dense().diagonal() / x.cos())]

    def times(factor: float) -> list[float]:
        return [round(float(w) * factor, 9) for w in weight]

    for _ in range(3):
        assert slopes() == times(2)
    f.__defaults__ = (5.0,)
    assert slopes() == times(5)
    f.__kwdefaults__ = {"k": 3.0}
    assert slopes() == times(15)
    weight.mul_(2)
    assert slopes() == times(15)
    weight = drawn(3, seed=8)
    assert slopes() == times(15)
    assert repeated == [True] * 5

    def g(z: Tensor) -> Tensor:
        return z.cos()

    h: Any = lambda x: x.sin()  # noqa: E731
    for _ in range(3):
        assert jvpcli.jacobian(h, x).keys() == {("y", "x")}
    h.__code__ = g.__code__
    torch.testing.assert_close(jvpcli.jacobian(h, x)["y", "z"].to_dense(), torch.diag(-x.sin()))


def test_what_it_writes_to_outside_is_left_as_it_was():
    total = torch.zeros(3, dtype=DOUBLE)

    def f(x: Tensor) -> Tensor:
        total.add_(1)
        return x.sin() * total

    x = drawn(3)
    for _ in range(5):
        torch.testing.assert_close(jvpcli.jacobian(f, x)["y", "x"].to_dense(), torch.diag(x.cos()))
        assert not total.any()


def test_modules_that_it_uses_are_left_as_they_were(repeated):
    norm = nn.BatchNorm1d(2).double()
    x = drawn(4, 2)

    def f(x: Tensor) -> Tensor:
        return norm(x)

    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]))
    for _ in range(4):
        found = jvpcli.jacobian(f, x)["y", "x"].to_dense()
        assert norm.num_batches_tracked == 0
        own = torch.func.jacrev(lambda x: nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, True))(x)
        torch.testing.assert_close(found, own.detach())
    assert repeated == [True, True]


def test_random_numbers_are_those_of_the_seed_each_time(repeated):
    def f(x: Tensor) -> Tensor:
        return x * torch.rand(3, dtype=DOUBLE) * torch.dropout(x, 0.5, True)

    state = torch.get_rng_state()
    found = [jvpcli.jacobian(f, drawn(3))["y", "x"].to_dense() for _ in range(4)]
    assert all(torch.equal(each, found[0]) for each in found)
    assert torch.equal(torch.get_rng_state(), state)
    assert repeated == [True, True]


def test_inputs_that_are_written_to_later_are_none_of_the_answer():
    for _ in range(4):
        x = drawn(3)
        found = jvpcli.jacobian(CASES["outer"][0], x)["y", "x"]
        kept = found.to_dense().clone()
        x.zero_()
        assert torch.equal(found.to_dense(), kept)


# Whom it is asked by


@pytest.mark.parametrize("open_before", [False, True])
def test_inside_of_a_function_that_is_differentiated_it_is_refused_as_ever(open_before):
    held = [WEIGHT if open_before else WEIGHT.detach()]

    def inner(x: Tensor) -> Tensor:
        return x.sin() * held[0]

    for _ in range(4):
        jvpcli.jacobian(inner, drawn(6))

    def around(w: Tensor) -> Tensor:
        held[0] = w
        return jvpcli.jacobian(inner, drawn(6))["y", "x"].to_dense()

    for _ in range(3):
        with pytest.raises(JvpError, match="inside a function that jvpcli differentiates"):
            jvpcli.jacobian(around, drawn(6, seed=4))


def test_inside_of_a_transform_it_is_refused_and_does_not_run():
    calls = []

    def f(x: Tensor) -> Tensor:
        calls.append(None)
        return x.sin()

    plain = drawn(3)
    for _ in range(4):
        jvpcli.jacobian(f, plain)
    with pytest.raises(JvpError, match="inside a transform"):
        torch.func.vmap(lambda x: jvpcli.jacobian(f, plain)["y", "x"].to_dense())(torch.ones(2, 3))
    assert len(calls) == 4


def test_several_threads_may_ask():
    wrong: list[Any] = []

    def f(x: Tensor) -> Tensor:
        return torch.outer(x, x).sin()

    def ask(seed: int) -> None:
        for turn in range(15):
            x = drawn(3, seed=seed + turn)
            found = jvpcli.jacobian(f, x)["y", "x"].to_dense()
            if not torch.allclose(found, torch.autograd.functional.jacobian(f, x)):
                wrong.append(seed)

    threads = [Thread(target=ask, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_known_keeps_neither_function_nor_tensors():
    def ask() -> list[Any]:
        weight, x = drawn(80, seed=1), drawn(80)

        def f(x: Tensor) -> Tensor:
            return x.sin() * weight

        for _ in range(4):
            found = jvpcli.jacobian(f, x)
        return [weakref.ref(each) for each in (f, weight, x, *found.values())]

    held = ask()
    assert any(repeat.repeat is not None for repeat in questions())
    api._workspace.cache_clear()  # which names the last few programs
    assert [each() for each in held] == [None] * len(held)


def questions() -> list[Any]:
    return [each for each in gc.get_objects() if type(each).__name__ == "Question"]


def test_functions_without_weak_references_or_plain_tensors_go_the_ordinary_way(repeated):
    class Called:
        def __call__(self, x: Tensor) -> Tensor:
            return x.sin()

        def method(self, x: Tensor) -> Tensor:
            return x.sin()

    x = drawn(3)
    for ask in (
        lambda: jvpcli.jacobian(Called(), x),
        lambda: jvpcli.jacobian(Called().method, x),
        lambda: jvpcli.jacobian(nn.Linear(3, 2).double(), x),
        lambda: jvpcli.jacobian(CASES["wide"][0], x.clone().requires_grad_()),
        lambda: jvpcli.jacobian(CASES["wide"][0], [1.0, 2.0]),
        lambda: jvpcli.jacobian(lambda x, n: x * n, x, 3),
    ):
        for _ in range(4):
            assert ask()
    assert not repeated
