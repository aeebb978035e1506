"""A problem run again: at other points, at many at once, in double precision, with another text in its place."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F

from jvpcli.errors import LimitError, ShapeMismatchError, UnknownNameError
from jvpcli.language.parse import parse
from jvpcli.problem import Problem, at_rows

X, W = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.25]])

FUNCTIONS = {
    "F.softmax(x, 0) @ W": lambda x, W: F.softmax(x, 0) @ W,
    "y = x.exp(); y, (y[:, None] * W).sum()": lambda x, W: (x.exp(), (x.exp()[:, None] * W).sum()),
    "torch.stack([x * i for i in range(3)]) + W[:, :1]": lambda x, W: torch.stack([x * i for i in range(3)]) + W[:, :1],
    "x": lambda x, W: x,
    "torch.linalg.inv(torch.outer(x, x) + torch.eye(3))": lambda x, W: torch.linalg.inv(torch.outer(x, x) + torch.eye(3)),
}


def problem_of(source: str, **more) -> Problem:
    program = parse(source)
    inputs = {name: value for name, value in {"x": X, "W": W}.items() if name in program.inputs}
    return Problem(program, inputs, tuple(inputs), **more)


def tensors(found) -> list[torch.Tensor]:
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("source", FUNCTIONS)
@pytest.mark.parametrize("as_function", [False, True], ids=["program", "function"])
def test_elsewhere_it_gives_what_the_function_gives(source, as_function):
    function = FUNCTIONS[source]
    problem = Problem(function, {"x": X, "W": W}, ("x", "W")) if as_function else problem_of(source)
    for points in ({}, {"x": X + 1}, {"x": -X}):
        again = problem.at(points)
        expected = tensors(function(points.get("x", X), W))
        torch.testing.assert_close([y.detach() for y in again.outputs.values()], expected)
        assert set(again.leaves) == set(problem.leaves)
        assert all(leaf.requires_grad and leaf.is_leaf for leaf in again.leaves.values())
    assert torch.equal(problem.inputs["x"], X)
    assert not problem.inputs["x"].requires_grad


@pytest.mark.parametrize("source", FUNCTIONS)
@pytest.mark.parametrize("count", [1, 4])
def test_stacked_points_give_what_each_gives(source, count):
    problem = problem_of(source)
    assert problem.can_stack
    points = {name: leaf.detach() * torch.rand(count, *leaf.shape) for name, leaf in problem.leaves.items()}
    found = problem.stack(points)
    for number in range(count):
        alone = problem.at({name: stack[number] for name, stack in points.items()})
        for name, y in alone.outputs.items():
            torch.testing.assert_close(found[name][number], y.detach())


@pytest.mark.parametrize(
    "source",
    ["x if x.sum() > 0 else -x", "[y for y in x if y > 0][0]", "F.dropout(x)", "y = x.clone(); y.mul_(2); y"],
)
def test_what_depends_on_the_point_is_not_stacked(source):
    assert not problem_of(source).can_stack


def test_a_python_function_is_not_stacked():
    assert not Problem(torch.sin, {"input": X}, ("input",)).can_stack


def test_random_numbers_are_those_of_the_seed():
    problem = problem_of("torch.rand(5) * x.sum()", seed=7)
    state = torch.default_generator.get_state()
    first, again, other = problem.evaluation, problem.at(), problem.at(seed=8)
    torch.manual_seed(7)
    expected = torch.rand(5) * X.sum()
    torch.default_generator.set_state(state)
    assert torch.equal(first.outputs["y"].detach(), expected)
    assert torch.equal(first.outputs["y"], again.outputs["y"])
    assert not torch.equal(first.outputs["y"], other.outputs["y"])


def test_a_step_in_place_leaves_the_point_as_it_is():
    problem = Problem(parse("b.add_(1); x * b"), {"x": X, "b": W[:, 0].clone()}, ("x",))
    for _ in range(3):
        assert torch.equal(problem.at().outputs["y"].detach(), X * (W[:, 0] + 1))
    assert torch.equal(problem.inputs["b"], W[:, 0])


def test_another_text_at_the_same_point():
    problem = problem_of("x @ W", seed=3, memory_limit=1 << 20)
    other = problem.retry("W.T @ x * 2")
    torch.testing.assert_close(other.evaluation.outputs["y"].detach(), 2 * X @ W)
    assert (other.seed, other.memory_limit, other.inputs, other.wrt) == (3, 1 << 20, problem.inputs, problem.wrt)
    torch.testing.assert_close(problem.evaluation.outputs["y"].detach(), X @ W)
    with pytest.raises(UnknownNameError):
        problem.retry("x @ V")


def test_double_precision_reaches_what_the_text_makes():
    problem = problem_of("x / torch.full((3,), 3.0) + torch.eye(3)[0]")
    double = problem.in_double()
    expected = X.double() / 3.0 + torch.eye(3, dtype=torch.float64)[0]
    assert torch.equal(double.evaluation.outputs["y"].detach(), expected)
    assert double.at({"x": X.double() * 2}).outputs["y"].dtype is torch.float64
    assert problem.evaluation.outputs["y"].dtype is torch.float32
    with pytest.raises(ShapeMismatchError):
        double.retry("x @ x[:2]").at()
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("source", FUNCTIONS)
@pytest.mark.parametrize("as_function", [False, True], ids=["program", "function"])
def test_dual_numbers_go_through(source, as_function):
    function = FUNCTIONS[source]
    problem = Problem(function, {"x": X, "W": W}, ("x", "W")) if as_function else problem_of(source)
    u = torch.tensor([0.5, 1.0, -2.0])
    with forward_ad.dual_level():
        outputs = problem.run({"x": forward_ad.make_dual(X, u)})
        found = [forward_ad.unpack_dual(y).tangent for y in outputs.values()]
    _, expected = torch.func.jvp(lambda x: function(x, W), (X,), (u,))
    torch.testing.assert_close([t.detach() for t in found], tensors(expected))


def test_outputs_that_nobody_looks_at_are_left_out():
    problem = problem_of("y = x.sort(); y.values, y.indices")
    first, second = problem.evaluation.outputs
    assert list(problem.differentiable) == [first]
    only = Problem(problem.function, problem.inputs, problem.wrt, only=(first,))
    assert list(only.at({"x": -X}).outputs) == list(only.run({})) == [first]
    assert second not in only.in_double().evaluation.outputs


def test_the_limit_holds_elsewhere_too():
    problem = problem_of("x.sum() * torch.ones(5000, 5000)", memory_limit=1 << 20)
    other = problem.retry("torch.ones(5000, 5000) * x[0]")
    for run in (lambda: problem.evaluation, problem.at, problem.in_double().at, other.at):
        with pytest.raises(LimitError):
            run()


def test_hooks_of_the_user_s_own_are_noticed():
    def hooked(x):
        y = x.sin()
        y.register_hook(lambda gradient: 2 * gradient)
        return y

    assert Problem(hooked, {"x": X}, ("x",)).evaluation.hooked
    assert not Problem(torch.sin, {"input": X}, ("input",)).evaluation.hooked


@pytest.mark.parametrize("rows", [1, 4], ids=["one row", "four rows"])
def test_many_at_once_are_what_the_rows_give_one_by_one(rows):
    a, b = torch.randn(rows, 3, 2, generator=torch.Generator().manual_seed(0)), torch.arange(3.0 * rows).reshape(rows, 3)

    def function(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.sum(), w @ x, torch.ones(2), x, F.gelu(w)  # a single number, no axis alike, no rows at all, the row itself

    found = at_rows(function, [a, b])
    for position, stack in enumerate(found):
        torch.testing.assert_close(stack, torch.stack([function(x, w)[position] for x, w in zip(a, b, strict=True)]))
    torch.testing.assert_close(found, list(torch.vmap(function)(a, b)))


def test_what_fails_at_many_leaves_nothing_behind():
    x = torch.ones(4, 3)
    for fails in (lambda v: [torch.rand_like(v)], lambda v: [v @ torch.ones(5)], lambda v: [v[v > 0]]):
        with pytest.raises(RuntimeError):
            at_rows(fails, [x])
        assert torch._C._functorch.maybe_current_level() is None
    with pytest.raises(RuntimeError):
        at_rows(lambda v: [at_rows(lambda w: [torch.rand_like(w)], [v])[0]], [x])
    assert torch._C._functorch.maybe_current_level() is None
    torch.testing.assert_close(at_rows(lambda v: at_rows(lambda w: [w * w], [v]), [x])[0], x * x)
