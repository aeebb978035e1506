"""A module, a method or a callable that is asked about again: whatever has changed in it or around it since is seen."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import jvpcli
from jvpcli import api

pytestmark = pytest.mark.usefixtures("unknown")

DOUBLE = torch.float64
FACTOR = {"value": 1.0}
OUTSIDE = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)



class Net(nn.Module):
    """Something of everything that may change between two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("scale", torch.ones(3))
        self.offset = torch.zeros(3, dtype=DOUBLE)
        self.power = 1
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.drop(self.norm(self.first(x))) * self.scale + self.offset) ** self.power
        return self.last(h) * FACTOR["value"] * OUTSIDE[0]


def made() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net()


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))


def expected(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What torch says of one call, which starts from the seed 0 and whatever state there is, and leaves no trace."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.autograd.functional.jacobian(call, x)


def replaced(net: Net) -> None:
    net.first.weight = nn.Parameter(2 * net.first.weight.detach())


def widened(net: Net) -> None:
    net.first, net.norm, net.drop = nn.Linear(3, 7).double(), nn.Identity(), nn.Linear(7, 3).double()


def hooked(net: Net) -> None:
    net.first.register_forward_hook(lambda module, args, output: output.sin())


def hooked_backwards(net: Net) -> None:
    net.first.register_full_backward_hook(lambda module, given, taken: (2 * given[0],))


def hooked_inside(net: Net) -> None:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        output.register_hook(lambda g: 3 * g)

    net.first.register_forward_hook(hook)


def patched(net: Net) -> None:
    net.forward = MethodType(lambda self, x: self.last(x.exp()), net)


def patched_class(net: Net) -> None:
    net.first.__class__ = type("Other", (nn.Linear,), {"forward": lambda self, x: nn.Linear.forward(self, x) ** 2})


def branched(net: Net) -> None:
    net.forward = MethodType(lambda self, x: self.last(x) if x.sum() > 0 else self.last(2 * x), net)


def checkpointed(net: Net) -> None:
    net.train().drop.p = 0.0
    net.forward = MethodType(lambda self, x: checkpoint(partial(Net.forward, self), x, use_reentrant=False), net)


def frozen(net: Net) -> None:
    net.requires_grad_(False)


@torch.no_grad()
def in_place(net: Net) -> None:
    net.first.weight.mul_(2)


CHANGES: dict[str, Callable[[Net], Any]] = {
    "nothing": lambda net: None,
    "a parameter in place": in_place,
    "a parameter by data": lambda net: net.first.weight.data.mul_(2),
    "a parameter, through NumPy": lambda net: net.first.weight.detach().numpy().__imul__(2),
    "another parameter": replaced,
    "a buffer in place": lambda net: net.scale.mul_(3),
    "another buffer": lambda net: setattr(net, "scale", 3 * net.scale),
    "statistics": lambda net: net.norm.running_var.fill_(4),
    "training": lambda net: net.train(),
    "training of a part": lambda net: net.drop.train(),
    "frozen": frozen,
    "a tensor that is no buffer": lambda net: setattr(net, "offset", torch.ones(3, dtype=DOUBLE)),
    "that tensor in place": lambda net: net.offset.add_(1),
    "a number": lambda net: setattr(net, "power", 2),
    "a part": lambda net: setattr(net, "last", nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()),
    "wider parts": widened,
    "parts that are named otherwise": lambda net: setattr(net, "norm", nn.Identity()),
    "a hook": hooked,
    "a hook backwards": hooked_backwards,
    "a hook of a tensor": hooked_inside,
    "forward": patched,
    "forward of a part": patched_class,
    "a branch": branched,
    "a checkpoint": checkpointed,
    "a global": lambda net: FACTOR.update(value=5.0),
    "a global tensor": lambda net: OUTSIDE.mul_(2),
}


def state(net: Net) -> list[Tensor]:
    return [*net.state_dict().values(), net.offset, OUTSIDE]


WAYS: dict[str, Callable[[Net], Callable[..., Any]]] = {
    "module": lambda net: net,
    "method": lambda net: net.forward,
    "partial": lambda net: partial(Net.__call__, net),
    "function": lambda net: lambda x: net(x),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change, repeated, monkeypatch):
    """Under each name: what is asked once more after a change is as it is asked for the first time, and as torch has it."""
    for way, name_it in WAYS.items():
        if way == "method" and change in ("forward", "branch", "a branch", "a checkpoint"):
            continue  # another method than the one that was asked about
        net, x = made(), drawn(4, 3)
        monkeypatch.setitem(FACTOR, "value", 1.0)
        OUTSIDE.copy_(torch.tensor([1.0, 2.0, 3.0]))
        call = name_it(net)
        for _ in range(3):
            found = jvpcli.jacobian(call, x=x)["y", "x"]
        torch.testing.assert_close(found.to_dense(), expected(copy.deepcopy(net), x))
        assert repeated[-1], way
        with torch.random.fork_rng():
            torch.manual_seed(1)
            CHANGES[change](net)
        before = [t.clone() for t in state(net)]
        (name, again), = jvpcli.jacobian(call, x=x).items()
        dense, kind = again.to_dense().clone(), again.structure
        api._known.cache_clear()
        first = jvpcli.jacobian(call, x=x)[name]
        assert kind == first.structure, way
        assert all(map(torch.equal, state(net), before)), way
        assert [t.grad for t in net.parameters()] == [None] * len(list(net.parameters()))
        torch.testing.assert_close(dense, first.to_dense(), msg=way)
        torch.testing.assert_close(dense, expected(copy.deepcopy(net), x), msg=way)


def test_what_is_given_otherwise_is_another_question(repeated):
    net, x = made(), drawn(4, 3)
    for _ in range(3):
        jvpcli.jacobian(net, x)
    assert repeated == [True]
    wide, flat = drawn(4, 6)[:, ::2], drawn(1, 3)
    for given in (drawn(2, 3), wide, x.t().contiguous().t(), flat.expand(4, 3)):  # the same or another form
        found = jvpcli.jacobian(net, given)["y", "x"]
        torch.testing.assert_close(found.to_dense(), expected(net, given))
    asked = len(repeated)
    traced = x.clone().requires_grad_()
    torch.testing.assert_close(jvpcli.jacobian(net, traced)["y", "x"].to_dense(), expected(net, x))
    assert len(repeated) == asked
    assert traced.grad is None
    with pytest.raises(RuntimeError, match="dtype"):
        jvpcli.jacobian(net, x.float())
    narrow = copy.deepcopy(net).float()
    narrow.offset = narrow.offset.float()
    OUTSIDE.data = OUTSIDE.data.float()
    try:
        for _ in range(3):
            assert jvpcli.jacobian(narrow, x.float())["y", "x"].to_dense().dtype == torch.float32
    finally:
        OUTSIDE.data = OUTSIDE.data.double()


def test_the_modes_around_it_are_seen():
    class Made(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.mm(x.double(), torch.full((3, 2), 0.1).double())

    net, x = Made(), torch.ones(2, 3)
    for _ in range(3):
        jvpcli.jacobian(net, x)
        jvpcli.jacobian(net, x.double())
    torch.set_default_dtype(DOUBLE)
    try:  # 0.1 is another number there
        assert jvpcli.jacobian(net, x.double())["y", "x"].to_dense().max() == 0.1
    finally:
        torch.set_default_dtype(torch.float32)
    assert jvpcli.jacobian(net, x.double())["y", "x"].to_dense().max() == float(torch.tensor(0.1, dtype=torch.float32))
    plain = jvpcli.jacobian(net, x)["y", "x"].to_dense()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = jvpcli.jacobian(net, x)["y", "x"].to_dense()
        api._known.cache_clear()
        torch.testing.assert_close(rounded, jvpcli.jacobian(net, x)["y", "x"].to_dense())
    for _ in range(3):
        jvpcli.jacobian(net, x)
    with torch.no_grad():
        assert torch.equal(jvpcli.jacobian(net, x)["y", "x"].to_dense(), plain)
    with torch.inference_mode():
        assert torch.equal(jvpcli.jacobian(net, torch.ones(2, 3))["y", "x"].to_dense(), plain)
    with pytest.raises(jvpcli.JvpError, match="inside a transform"):
        torch.func.vmap(lambda x: jvpcli.jacobian(net, x)["y", "x"].to_dense())(torch.ones(2, 2, 3))


def test_parameters_are_asked_for_by_name_again(repeated):
    net, x = made(), drawn(4, 3)

    def of_weight(weight: Tensor) -> Tensor:
        return torch.func.functional_call(net, {"last.weight": weight}, (x,))

    for _ in range(3):
        found = jvpcli.jacobian(net, x, wrt=["last.weight"])["y", "last.weight"]
    assert repeated == [True]
    with torch.no_grad():
        net.first.weight.mul_(2)
        net.last.weight.add_(1)
    found = jvpcli.jacobian(net, x, wrt=["last.weight"])["y", "last.weight"]
    torch.testing.assert_close(found.to_dense(), expected(of_weight, net.last.weight.detach()))
    assert repeated == [True, True]
    net.last = nn.Linear(3, 5).double()  # of another shape
    found = jvpcli.jacobian(net, x, wrt=["last.weight"])["y", "last.weight"]
    torch.testing.assert_close(found.to_dense(), expected(of_weight, net.last.weight.detach()))
    net.last = nn.Identity()
    with pytest.raises(jvpcli.JvpError, match=r"--wrt names 'last\.weight', which is not an input"):
        jvpcli.jacobian(net, x, wrt=["last.weight"])


class Pair(nn.Module):
    """Two layers whose weights may be one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Linear(3, 3, bias=False).double() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x)) @ self.last.weight.T


def more(net: Pair) -> None:
    net.first = nn.Sequential(net.first, nn.Linear(3, 3, bias=False).double())


def tie(net: Pair) -> None:
    net.last.weight = net.first.weight


def untie(net: Pair) -> None:
    net.last.weight = nn.Parameter(net.last.weight.detach() + 1)


@pytest.mark.parametrize(
    ("wrt", "before", "change", "names"),
    [
        ("*.weight", None, more, ["first.0.weight", "first.1.weight", "last.weight"]),
        ("*.weight", None, tie, ["first.weight"]),
        ("*.weight", tie, untie, ["first.weight", "last.weight"]),
        (["first.weight", "last.weight"], None, tie, ["first.weight"]),
        (["first.weight", "last.weight"], tie, untie, ["first.weight", "last.weight"]),
        (["last.weight"], None, tie, ["last.weight"]),
        (["last.weight", "first.weight"], tie, lambda net: None, ["last.weight"]),
    ],
)
def test_a_pattern_may_mean_other_parameters_and_two_names_the_same_one(wrt, before, change, names):
    net, x = Pair(), drawn(2, 3)
    if before is not None:
        before(net)
    for _ in range(3):
        jvpcli.jacobian(net, x, wrt=wrt)
    change(net)
    found = jvpcli.jacobian(net, x, wrt=wrt)
    own = [dict(net.named_parameters(remove_duplicate=False))[name] for name in names]
    assert [name for _, name in found] == names
    y = net(x)
    rows = [torch.autograd.grad(y, own, v.reshape(y.shape), retain_graph=True) for v in torch.eye(y.numel(), dtype=DOUBLE)]
    for name, each, parameter in zip(names, zip(*rows, strict=True), own, strict=True):
        expect = torch.stack(each).reshape(*y.shape, *parameter.shape)
        torch.testing.assert_close(found["y", name].to_dense(), expect)


def test_another_name_of_a_parameter_is_told_of():
    net = Pair()
    tie(net)
    report = jvpcli.inspect(net, drawn(2, 3), wrt=["first.weight", "last.weight"]).report
    assert [warning.message for warning in report.warnings] == [
        "last.weight is the same parameter as first.weight: what stands under first.weight is the derivative by both together"
    ]


def test_what_may_take_so_much_memory_is_looked_at_anew(repeated):
    net = made()
    for _ in range(4):
        jvpcli.jacobian(net, drawn(4, 3), memory_limit="1MB")
    assert repeated == []


def test_aliases_among_the_inputs_are_apart():
    def product(a: Tensor, b: Tensor) -> Tensor:
        return a * b

    class Product(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return product(a, b).sin()

    x, other = drawn(3), drawn(3) + 1
    net = Product()
    for a, b in ((x, other), (x, other), (x, other), (x, x), (x[:3], x)):
        found = jvpcli.jacobian(net, a, b)
        torch.testing.assert_close(found["y", "a"].to_dense(), torch.diag((a * b).cos() * b))
        torch.testing.assert_close(found["y", "b"].to_dense(), torch.diag((a * b).cos() * a))


def test_each_call_draws_the_same_numbers_and_leaves_the_generator(repeated):
    net, x = made().train(), drawn(4, 3)
    net.norm = nn.Identity()
    torch.manual_seed(7)
    generator = torch.get_rng_state()
    found = [jvpcli.jacobian(net, x)["y", "x"].to_dense().clone() for _ in range(4)]
    assert all(torch.equal(each, found[0]) for each in found)
    assert torch.equal(torch.get_rng_state(), generator)
    assert repeated == [True, True]
    torch.testing.assert_close(found[0], expected(net, x))


class Clever:
    """A callable that says of itself that it is equal to all others, or that can't be a key."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def __call__(self, x: Tensor) -> Tensor:
        return (self.factor * x).sin()


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Tensor) -> Tensor:
        return (self.factor * x).sin()


@pytest.mark.parametrize(("kind", "known"), [(Clever, True), (Slotted, False)])
def test_any_callable_is_known_as_itself(kind, known, repeated):
    x, several = drawn(3), [kind(2.0), kind(3.0)]
    for _ in range(3):
        for each in several:
            found = jvpcli.jacobian(each, x)["y", "x"].to_dense()
            torch.testing.assert_close(found, torch.diag(each.factor * (each.factor * x).cos()))
    several[0].factor = 4.0
    found = jvpcli.jacobian(several[0], x)["y", "x"].to_dense()
    torch.testing.assert_close(found, torch.diag(4 * (4 * x).cos()))
    assert repeated == ([True] * 3 if known else [])


def test_nothing_that_was_asked_about_is_kept():
    net = made()
    for _ in range(3):
        jvpcli.jacobian(net, drawn(4, 3))
        jvpcli.jacobian(net.forward, drawn(4, 3))
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


class Counted(nn.Module):
    """Writes to what is not its own buffer at every third call, as a counter of Python's says."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen = 0, torch.zeros(3, dtype=DOUBLE)
        self.register_buffer("average", torch.ones(3, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls % 3 == 0:
            self.seen.copy_(x.detach())
            self.average.data.mul_(0.5)
        return (x * self.average).tanh() + self.seen * x


def test_what_is_written_to_later_on_is_left_as_it_was():
    net, x = Counted(), drawn(3)
    for _ in range(9):
        jvpcli.jacobian(net, x)
        assert torch.equal(net.seen, torch.zeros(3, dtype=DOUBLE))
        assert torch.equal(net.average, torch.ones(3, dtype=DOUBLE))


class Shared(nn.Module):
    """Writes to a tensor of its class."""

    total = torch.zeros(3, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        torch.add(self.total, 1, out=self.total)
        return x * self.total


class Heir(Shared):
    pass


class Plain:
    total = torch.zeros(3, dtype=DOUBLE)

    def __call__(self, x: Tensor) -> Tensor:
        self.total.add_(1)
        return x * self.total


def through_its_name(x: Tensor) -> Tensor:
    Shared.total.add_(1)
    return x * Shared.total


@pytest.mark.parametrize("make", [Shared, Heir, Plain, lambda: through_its_name])
def test_a_tensor_of_a_class_is_left_as_it_was(make):
    call, x = make(), drawn(3)
    for _ in range(4):
        assert torch.equal(jvpcli.jacobian(call, x)["y", "x"].to_dense(), torch.eye(3, dtype=DOUBLE))
    assert torch.equal(Shared.total, torch.zeros(3, dtype=DOUBLE))
    assert torch.equal(Plain.total, torch.zeros(3, dtype=DOUBLE))


class Reading(torch.autograd.Function):
    """Its backward reads a buffer that its forward has changed, and changes it once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: nn.Module) -> Tensor:
        net.average.mul_(2)
        ctx.net = net
        return x * net.average

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        found = g * ctx.net.average
        ctx.net.average.add_(5)
        return found, None


class Recalling(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.register_buffer("average", torch.ones(3, dtype=DOUBLE))

    def double_of(self, x: Tensor) -> Tensor:
        self.average.mul_(2)
        return (x * self.average).sin()

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "function":
            return Reading.apply(x, self).sin()
        if self.way == "hook":
            self.average.mul_(2)
            h = x * self.average
            h.register_hook(lambda g: g * self.average)
            return h.sin()
        if self.way == "checkpoint":
            return checkpoint(self.double_of, x, use_reentrant=False, preserve_rng_state=False)
        return self.double_of(x)


@pytest.mark.parametrize(
    ("way", "factor", "inner"), [("function", 2, 2), ("hook", 4, 2), ("checkpoint", None, None), ("nothing", 2, 2)]
)
@pytest.mark.parametrize("called", ["module", "function"])
def test_backward_passes_find_buffers_as_they_were_left(way, factor, inner, called):
    net, x = Recalling(way), drawn(3)
    call = net if called == "module" else (lambda x: net(x))
    found = []
    for _ in range(4):
        found.append(jvpcli.jacobian(call, x)["y", "x"].to_dense().clone())
        assert torch.equal(net.average, torch.ones(3, dtype=DOUBLE))
    assert all(torch.equal(each, found[0]) for each in found)
    if factor is not None:
        torch.testing.assert_close(found[0], torch.diag(factor * (inner * x).cos()))
    else:  # the run again begins with what the first one has left, as torch has it: twice the slope at twice the place
        torch.testing.assert_close(found[0], torch.autograd.functional.jacobian(copy.deepcopy(net), x, vectorize=True))


class Scaled(torch.autograd.Function):
    """x·|c|, with a gradient of its own: by the sign of what arrives, or by what it has seen, as `way` has it."""

    way = "plain"

    @staticmethod
    def forward(ctx: Any, x: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(x, c)
        return x * c.abs()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, c = ctx.saved_tensors
        if Scaled.way == "raises":
            raise LookupError("no more")
        if Scaled.way == "wide":
            return torch.ones(7, dtype=DOUBLE), None
        if Scaled.way == "one by one" and g.sum().item() > 100:
            return g, g
        if Scaled.way == "masked":
            return g * (x > 0), g
        return 3 * g * c, g * x


def test_a_function_with_a_backward_of_its_own_is_known_again(repeated, monkeypatch):
    """Its values are those of torch's own passes at each point; no kind is claimed that another point could break."""
    c = drawn(3) + 2

    def call(x: Tensor) -> Tensor:
        return Scaled.apply(x.sin(), c).tanh()

    for way, start in (("plain", 0), ("one by one", 1), ("masked", 2), ("plain", 3)):
        monkeypatch.setattr(Scaled, "way", way)
        for _ in range(3):
            x = drawn(4, 3) + start
            found = jvpcli.jacobian(call, x)["y", "x"]
            first = jvpcli.jacobian(call, x, seed=0)["y", "x"]
            torch.testing.assert_close(found.to_dense(), expected(call, x))
            assert (found.structure, found.structure_from) == (first.structure, first.structure_from)
    assert repeated == [True] * 10
    for way, error, text in (("raises", LookupError, "no more"), ("wide", jvpcli.JvpError, r"has shape \(7,\)")):
        monkeypatch.setattr(Scaled, "way", way)
        told = []
        for more in ({}, {"seed": 0}):
            with pytest.raises(error, match=text) as raised:
                jvpcli.jacobian(call, x, **more)
            told.append((type(raised.value), str(raised.value)))
        assert told[0] == told[1]
    monkeypatch.setattr(Scaled, "way", "plain")
    single = [jvpcli.jacobian(lambda x: call(x).sum(), x)["y", "x"] for _ in range(3)]
    torch.testing.assert_close(single[-1].to_dense(), expected(lambda x: call(x).sum(), x))
