"""What Python functions take and give: trees of tensors, other objects, positions; and how often they run."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils import _pytree

import jvpcli

X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
W = torch.tensor([[3.0, 0.25, -1.0], [1.0, 2.0, 0.5]], dtype=torch.float64)


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any = None


@dataclass
class Checked:
    """What it computes when it is made stays."""

    a: Any
    b: Any
    total: int = field(init=False, default=0)

    def __post_init__(self):
        self.total = 7


class Ordered(collections.OrderedDict):
    """As models' outputs often are: a dict whose items are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Box:
    """A class of one's own, registered as a tree."""

    def __init__(self, *parts):
        self.parts = parts


_pytree.register_pytree_node(Box, lambda box: (list(box.parts), None), lambda parts, _: Box(*parts))


def product(a, b):
    return b @ a.sin()


HOLDERS = [
    ({"a": X, "b": W}, lambda t: product(t["a"], t["b"]), ['t["a"]', 't["b"]']),
    ({0: X, (1, "k"): W}, lambda t: product(t[0], t[1, "k"]), ["t[0]", "t[(1, 'k')]"]),
    ([X, W], lambda t: product(*t), ["t[0]", "t[1]"]),
    ((X, [None, {"w": W}], "text"), lambda t: product(t[0], t[1][1]["w"]), ["t[0]", 't[1][1]["w"]']),
    (Pair(X, W), lambda t: product(t.a, t.b), ["t.a", "t.b"]),
    (Frozen(X, Frozen(W)), lambda t: product(t.a, t.b.a), ["t.a", "t.b.a"]),
    (Checked(X, W), lambda t: product(t.a, t.b) * (t.total == 7), ["t.a", "t.b"]),
    (Ordered(a=X, b=W), lambda t: product(t.a, t.b), ['t["a"]', 't["b"]']),
    (collections.defaultdict(list, a=X, b=W), lambda t: product(t["a"], t["b"]), ['t["a"]', 't["b"]']),
    (MappingProxyType({"a": X, "b": W}), lambda t: product(t["a"], t["b"]), ['t["a"]', 't["b"]']),
    (Box(X, {"w": W}), lambda t: product(t.parts[0], t.parts[1]["w"]), ["t[0]", 't[1]["w"]']),
    (Pair(X, W.numpy()), lambda t: product(t.a, t.b), ["t.a", "t.b"]),
]


@pytest.mark.parametrize(("held", "function", "paths"), HOLDERS, ids=lambda each: type(each).__name__)
def test_tensors_in_an_argument(held, function, paths):
    expected = torch.autograd.functional.jacobian(product, (X, W))
    maps = jvpcli.jacobian(function, t=held)
    assert list(maps) == [("y", path) for path in paths]
    result = jvpcli.inspect(function, inputs={"t": held}, tangent={paths[0]: X})
    assert list(result.vjp) == paths
    torch.testing.assert_close(result.jvp["y"], expected[0] @ X)
    for path, jacobian in zip(paths, expected, strict=True):
        torch.testing.assert_close(maps["y", path].to_dense(), jacobian)
        torch.testing.assert_close(result.jacobian["y", path], jacobian)
        torch.testing.assert_close(result.vjp[path], jacobian.sum(0))
    assert jvpcli.check(function, t=held).verdict == "pass"
    (alone,) = jvpcli.jacobian(function, t=held, wrt=[paths[1]])
    assert alone == ("y", paths[1])
    assert list(jvpcli.jacobian(function, t=held, wrt="t")) == list(maps)
    live = jvpcli.inspect(function, t=held, create_graph=True)
    assert all(live.vjp[path].requires_grad for path in paths)


def test_what_is_no_input_is_handed_on_as_it_is():
    marker, ids = object(), torch.tensor([2, 0])
    seen = []

    def function(x, n, mode, sizes, switch, nothing, thing, batch):
        seen.append((type(n), mode, sizes, switch, nothing, thing, batch["lr"], batch["ids"].dtype, batch["none"]))
        return x[batch["ids"]] ** n * sum(sizes)

    batch = {"ids": ids, "lr": 0.1, "none": None, "empty": {}}
    maps = jvpcli.jacobian(function, X, 3, "sum", (2, 3), True, None, marker, batch)
    assert list(maps) == [("y", "x")]
    assert seen == [(int, "sum", (2, 3), True, None, marker, 0.1, torch.int64, None)]
    expected = torch.autograd.functional.jacobian(lambda x: x[ids] ** 3 * 5, X)
    torch.testing.assert_close(maps["y", "x"].to_dense(), expected)


def test_whole_numbers_and_text_are_inputs_where_they_are_asked_for_or_nothing_else_is():
    assert list(jvpcli.jacobian(lambda x, n: x * n, x=X, n=3)) == [("y", "x")]
    assert float(jvpcli.jacobian(lambda x, n: (x * n).sum(), x=X, n=3, wrt="n")["y", "n"].to_dense()) == X.sum()
    assert float(jvpcli.jacobian(lambda x: x**2, x=3)["y", "x"].to_dense()) == 6
    assert jvpcli.inspect(lambda x: x**2, x="1,2").vjp["x"].tolist() == [2, 4]
    assert jvpcli.inspect(lambda x, w: x * w, x=2.0, w=[1, 2]).vjp["x"].item() == 3


def test_the_callers_trees_stay_and_are_new_in_every_run():
    batch = {"x": X.clone(), "more": {"k": W}}

    def pops(batch):
        return batch.pop("x") ** 2

    for _ in range(2):
        assert list(jvpcli.inspect(pops, batch=batch).vjp) == ['batch["x"]', 'batch["more"]["k"]']
    assert list(batch) == ["x", "more"]
    assert torch.equal(batch["x"], X)


def test_a_value_that_holds_itself():
    @dataclass
    class Node:
        x: Any
        parent: Any = None

    node = Node(X)
    node.parent = node
    assert list(jvpcli.jacobian(lambda n: n.x**2, n=node)) == [("y", "n.x")]


def test_arguments_go_as_the_function_is_called():
    def function(x, /, w, *rest, scale, **more):
        return scale * (w @ x) + sum(part.sum() for part in rest) + more["bias"]

    given = (X, W, torch.ones(4, dtype=torch.float64))
    maps = jvpcli.jacobian(function, X, W, bias=torch.zeros(2, dtype=torch.float64), scale=2.0)
    assert [x for _, x in maps] == ["x", "w", "bias", "scale"]
    torch.testing.assert_close(maps["y", "x"].to_dense(), 2 * W)
    maps = jvpcli.jacobian(function, *given, bias=torch.zeros(2, dtype=torch.float64), scale=2.0)
    assert [x for _, x in maps] == ["x0", "x1", "x2", "bias", "scale"]  # more than its parameters have names for
    maps = jvpcli.jacobian(lambda w, **more: w @ more["x"], {"x": X, "w": W})
    torch.testing.assert_close(maps["y", "x"].to_dense(), W)

    def wrapping(*args):
        return args[0] @ args[1]

    wrapping.__wrapped__ = wrapping  # nobody knows what it takes
    torch.testing.assert_close(jvpcli.jacobian(wrapping, {"p": W, "q": X})["y", "q"].to_dense(), W)
    module = torch.nn.Linear(3, 2).double()
    torch.testing.assert_close(jvpcli.jacobian(module, X)["y", "x"].to_dense(), module.weight.detach())


@pytest.mark.parametrize(("wrt", "names"), [(0, ["x"]), (-1, ["w"]), ((1,), ["w"]), ((0, 1), ["x", "w"]), ([1, "x"], ["x", "w"])])
def test_positions_for_what_is_differentiated(wrt, names):
    for door in (jvpcli.jacobian, lambda *a, **k: jvpcli.inspect(*a, **k).jacobian):
        assert [x for _, x in door(lambda x, w: w @ x, X, W, wrt=wrt)] == names
        assert [x for _, x in door(lambda x, w: w @ x, x=X, w=W, wrt=wrt)] == names


RESULTS = [
    (lambda x: {"a": x**2, "b": [x.sum(), None]}, ['out["a"]', 'out["b"][0]']),
    (lambda x: Pair(x**2, x.sum()), ["out.a", "out.b"]),
    (lambda x: Frozen(x**2, Frozen(x.sum())), ["out.a", "out.b.a"]),
    (lambda x: Ordered(logits=x**2, loss=x.sum()), ['out["logits"]', 'out["loss"]']),
    (lambda x: (x**2, {"b": x.sum()}), ["out[0]", 'out[1]["b"]']),
    (lambda x: [x**2, (x.sum(), None)], ["y0", "y1"]),
    (lambda x: Box(x**2, x.sum()), ["out[0]", "out[1]"]),
    (lambda out: {"a": out**2, "b": out.sum()}, ['out_["a"]', 'out_["b"]']),
]


@pytest.mark.parametrize(("function", "names"), RESULTS)
def test_tensors_in_a_result(function, names):
    maps = jvpcli.jacobian(function, X)
    assert [y for y, _ in maps] == names
    (x,) = {x for _, x in maps}
    torch.testing.assert_close(maps[names[0], x].to_dense(), torch.diag(2 * X))
    torch.testing.assert_close(maps[names[1], x].to_dense(), torch.ones_like(X))
    result = jvpcli.inspect(function, X, grad_outputs={names[0]: X, names[1]: 10.0})
    torch.testing.assert_close(result.vjp[x], 2 * X**2 + 10)
    assert list(result.to_dict()["jacobian"]) == names
    assert jvpcli.check(function, X).passed


def test_results_that_are_ignored():
    def function(x):
        return x**2, {"note": "text", "size": 3, "more": x.sum()}

    assert [y for y, _ in jvpcli.jacobian(function, X, ignore="out[1]")] == ["out[0]"]
    both = ['out[1]["note"]', 'out[1]["size"]']
    assert [y for y, _ in jvpcli.jacobian(function, X, ignore=both)] == ["out[0]", 'out[1]["more"]']
    assert list(jvpcli.inspect(lambda x: (x, 3), X, ignore="y1").outputs) == ["y0"]
    assert jvpcli.check(function, X, ignore="out[1]").passed
    assert [y for y, _ in jvpcli.jacobian(function, X)] == ["out[0]", 'out[1]["more"]']  # what is no tensor is left out
    told = jvpcli.inspect(function, X).to_dict()["warnings"]
    assert [each["message"] for each in told] == [
        'out[1]["note"] is text, not a tensor, and is left out',
        'out[1]["size"] is a plain number, not a tensor, and is left out',
    ]
    with pytest.raises(jvpcli.JvpError, match="gives text, not a tensor"):
        jvpcli.jacobian(lambda x: "text", X)
    with pytest.raises(jvpcli.JvpError, match="names 'aux', which is none of the outputs: y") as caught:
        jvpcli.jacobian(lambda x: x, X, ignore="aux")
    assert caught.value.code == "usage"


def test_outputs_that_no_input_reaches():
    def function(x, w):
        return x**2, w.detach().sum(0), torch.arange(3), torch.zeros(2, dtype=torch.complex128)

    maps = jvpcli.jacobian(function, X, W)
    written = jvpcli.inspect(function, X, W).jacobian
    assert list(maps) == list(written) == [(y, x) for y in ("y0", "y1", "y3") for x in ("x", "w")]
    for key, each in maps.items():
        torch.testing.assert_close(written[key], each.to_dense())
        if key != ("y0", "x"):
            assert (each.structure, each.nnz) == ("zero", 0)
            assert not each.to_dense().any()
            assert each.pullback(torch.ones(each.out_shape)).shape == each.in_shape
    for door in (jvpcli.jacobian, jvpcli.inspect):
        with pytest.raises(jvpcli.JvpError, match="no path from the output y0 to w") as caught:
            door(function, X, W, strict=True)
        assert caught.value.code == "not_differentiable"
        with pytest.raises(jvpcli.JvpError, match="no path from the output y1 to x"):
            door(lambda x: (x, torch.ones(2)), X, strict=True)
        door(lambda x, w: w @ x, X, W, strict=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jvpcli.jacobian("x * 2", X), "given by name"),
        (lambda: jvpcli.inspect(X * 2, {"x": X}), "text or a function, not Tensor"),
        (lambda: jvpcli.check(None, X), "text or a function, not NoneType"),
        (lambda: jvpcli.jacobian(lambda x: x, X, wrt=1), "position 1, and there are 1: x"),
        (lambda: jvpcli.jacobian(lambda x: x, X, wrt="z"), "not an input"),
        (lambda: jvpcli.jacobian(lambda x: x, X, wrt=True), "takes the names"),
        (lambda: jvpcli.jacobian(lambda b: b["x"], b={"x": torch.arange(3)}, wrt="b"), "not an input"),
        (lambda: jvpcli.jacobian(lambda p: p["x"], {"x": X, "w": W}), "takes the argument p, and 2 inputs are given: x, w"),
    ],
)
def test_what_is_asked_wrongly(call, message):
    with pytest.raises(jvpcli.JvpError, match=message) as caught:
        call()
    assert caught.value.code == "usage"


def test_what_is_given_twice_or_not_at_all():
    with pytest.raises(jvpcli.JvpError, match="'x' is given by position and by name"):
        jvpcli.jacobian(lambda x, w: x, X, x=X)
    with pytest.raises(jvpcli.JvpError, match="ignore is for the results of a function"):
        jvpcli.jacobian("x * 2", x=X, ignore="y")
    for given in ((), (None,), ({},), (object(),)):
        with pytest.raises(jvpcli.JvpError, match="nothing to differentiate: the function is given no tensor") as caught:
            jvpcli.jacobian(lambda *_: X, *given)
        assert caught.value.code == "not_differentiable"


def test_names_are_written_as_text_everywhere():
    """A key is the user's own text: no page runs it, and no terminal obeys it."""
    key = "</script><script>1</script>\x1b[31m"
    result = jvpcli.inspect(lambda b: {key: b[key] * 2}, b={key: X})
    assert "<script>1" not in (result._repr_html_() or "")
    assert "\x1b" not in str(result)


def test_arrays_as_arguments():
    found = jvpcli.jacobian(lambda a, k: a * k, np.array([1.0, 2.0]), np.int64(3))
    assert found["y", "a"].to_dense().tolist() == [[3, 0], [0, 3]]


# How often a function runs


def runs(door, function, *given: Any, **options: Any) -> list[Mapping]:
    """The arguments of each run of a function."""
    seen = []

    def counted(*arguments):
        seen.append(arguments)
        return function(*arguments)

    door(counted, *given, **options)
    return seen


SMOOTH = [
    lambda x, w: torch.tanh(w @ x),
    lambda x, w: (x * w).sum(0).softmax(0),
    lambda x, w: [x**2 * w.sum(), (w @ x).exp()],
    lambda x, w: torch.linalg.inv(w @ w.T) @ (w @ x),
]


@pytest.mark.parametrize("function", SMOOTH)
def test_a_smooth_function_runs_once(function):
    for door in (jvpcli.inspect, jvpcli.jacobian):
        assert len(runs(door, function, X, W)) == 1
    assert len(runs(jvpcli.inspect, function, X, W, tangent=[X, W], jacobian="none")) == 1


OTHERS = [
    (lambda x: x.relu(), 4),
    (lambda x: x * float((x > 0).sum()), 20),
    (lambda x: (x.detach() * x).relu(), 20),
    (lambda x: (x, torch.ones(3) * 2), 20),
    (lambda x: torch.fft.rfft(x), 3),
    (lambda x: x.abs() if x.sum() > 0 else x, 6),  # at two more points: there it may be another function
]


@pytest.mark.parametrize(("function", "most"), OTHERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_functions_run_few_times_and_at_the_point_last(function, most, dtype):
    x = X.to(dtype)
    seen = runs(jvpcli.inspect, function, x)
    assert len(seen) <= most
    for door, found in ((jvpcli.inspect, seen), (jvpcli.check, runs(jvpcli.check, function, x))):
        assert torch.equal(found[-1][0].detach(), x), door
        assert found[-1][0].dtype is dtype


@pytest.mark.parametrize("size", [3, 100])
def test_other_points_are_looked_at_when_the_structure_is_asked_for(size):
    """Where values decide what runs: the Jacobian takes one run, its structure two others, and one at the point again."""
    seen = []

    def function(x):
        seen.append(x.detach().clone())
        return x**3 if x.sum() > 0 else x.sin()

    x = torch.linspace(0.5, 1.5, size)
    found = jvpcli.jacobian(function, x)["y", "x"]
    torch.testing.assert_close(found.to_dense(), (3 * x**2).diag())
    assert len(seen) == 1
    assert found.structure == "diagonal"
    assert len(seen) == 4
    assert torch.equal(seen[-1], x)
    assert any(float(point.sum()) < 0 for point in seen)
    assert found.structure == "diagonal"
    assert len(seen) == 4


def test_other_points_tell_of_another_structure():
    x = torch.linspace(0.5, 1.5, 100)
    found = jvpcli.jacobian(lambda x: x * 2 if x.sum() > 0 else x.flip(0), x)["y", "x"]
    assert found.nnz == 100
    assert found.structure not in ("diagonal", "identity")


def test_a_check_tries_no_other_seeds_where_nothing_is_drawn():
    seeds = []

    def function(x):
        seeds.append(torch.initial_seed())
        return x * 2

    assert jvpcli.check(function, X).passed
    assert set(seeds) == {0}
    assert jvpcli.check(lambda x: x * torch.rand(3), X).verdict == "nondeterministic"
    generator = torch.Generator().manual_seed(3)
    assert jvpcli.check(lambda x: x * torch.rand(3, generator=generator), X).verdict == "nondeterministic"


def test_the_answers_are_those_of_the_text():
    """A function is watched in its one run; text tells by its steps."""
    cases = [
        ("x.round() * x", lambda x: x.round() * x),
        ("x * x.sum().item()", lambda x: x * x.sum().item()),
        ("x.abs()", lambda x: x.abs()),
        ("x.sin()", lambda x: x.sin()),
        ("torch.outer(x, x)", lambda x: torch.outer(x, x)),
    ]
    for x in (X, torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)):
        for text, function in cases:
            ours, theirs = jvpcli.inspect(function, x).report, jvpcli.inspect(text, x=x).report
            assert [notice.claim for notice in ours.warnings] == [notice.claim for notice in theirs.warnings], text
            assert ours.jacobian["y"]["x"].structure == theirs.jacobian["y"]["x"].structure, text
