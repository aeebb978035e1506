"""A function that is asked about again is run without a watch where nothing has changed that could lead it another way."""

from __future__ import annotations

import builtins
import copy
import math
import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import jvpcli
from jvpcli.language import surroundings
from jvpcli.language.surroundings import surroundings_of

pytestmark = pytest.mark.usefixtures("unknown")

DOUBLE = torch.float64
OUTSIDE = torch.zeros(3, dtype=DOUBLE)
FLAG = False
TABLE = {"write": False}
CONFIG = SimpleNamespace(write=False)


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that were run without a watch."""
    found: list[Any] = []
    evaluated_again = surroundings.evaluated_again

    def noted(function: Any, *more: Any) -> Any:
        found.append(function)
        return evaluated_again(function, *more)

    monkeypatch.setattr(surroundings, "evaluated_again", noted)
    return found


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def ask(call: Callable[..., Any], times: int = 1) -> Tensor:
    """Each time at another point; the last Jacobian, which torch's own is held against there."""
    for seed in range(times):
        x = drawn(3, seed=seed)
        found = jvpcli.jacobian(call, x)["y", "x"].to_dense()
        torch.testing.assert_close(found, torch.autograd.functional.jacobian(call, x))
    return found


def plain(x: Tensor) -> Tensor:
    return x.sin()


def writes(x: Tensor) -> Tensor:
    """Writes to what it did not make, which a watch may stop."""
    OUTSIDE.add_(1)
    return (x + x.detach() * OUTSIDE.sum() * 0).sin()


class Held:
    """A callable that has another one, and a choice."""

    step = staticmethod(plain)
    write = False

    def __init__(self) -> None:
        self.inner, self.steps, self.chosen = plain, [plain], {"step": plain}

    def __call__(self, x: Tensor) -> Tensor:
        return self.one(x) + self.inner(x) + self.steps[0](x) + self.chosen["step"](x) + self.step(x)

    def one(self, x: Tensor) -> Tensor:
        return writes(x) if self.write else plain(x)


class Net(nn.Module):
    """A module with a part of torch's own, and one of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(3, 3).double(), nn.Tanh())
        self.own, self.write = Part(), False

    def forward(self, x: Tensor) -> Tensor:
        return writes(x) if self.write else self.own(self.parts(x))


class Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g


class Talking(torch.autograd.Function):
    """Its backward takes its cotangents one by one, of which torch complains, and has something to say itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        warnings.warn("mine", stacklevel=1)
        return 2 * g + 0 * torch.special.airy_ai(g)


def by_global(x: Tensor) -> Tensor:
    return writes(x) if FLAG else plain(x)


def by_table(x: Tensor) -> Tensor:
    return writes(x) if TABLE["write"] else plain(x)


def by_namespace(x: Tensor) -> Tensor:
    return writes(x) if CONFIG.write else plain(x)


def by_default(x: Tensor, options: dict[str, bool] = {"write": False}) -> Tensor:  # noqa: B006
    return writes(x) if options["write"] else plain(x)


def by_torch(x: Tensor) -> Tensor:
    return torch.sin(x) + torch.nn.functional.softplus(x)


def by_function(x: Tensor) -> Tensor:
    return Doubled.apply(x)


def by_shape(x: Tensor) -> Tensor:
    return writes(x) if CONFIG.weight.shape[0] > 3 else plain(x)


def by_sum(x: Tensor) -> Tensor:
    return sum([x, x.sin()])


def summed(rows: Any, *start: Any, plainly: Any = sum, **more: Any) -> Any:
    rows = [*rows]
    return writes(rows[0]) if rows and isinstance(rows[0], Tensor) else plainly(rows, *start, **more)


def widened(net: Net) -> None:
    net.parts[0].weight, net.parts[0].bias = (nn.Parameter(torch.ones(*size, dtype=DOUBLE)) for size in ((5, 3), (5,)))


def another(ctx: Any, x: Tensor) -> Tensor:
    return writes(x)


def norm(x: Tensor) -> Tensor:
    return x.norm()


def by_gradient(x: Tensor) -> Tensor:
    return writes(x) if CONFIG.weight.grad is not None else plain(x)


def of_closure() -> Any:
    write = False

    def call(x: Tensor) -> Tensor:
        return writes(x) if write else plain(x)

    def change(patch: pytest.MonkeyPatch) -> None:
        nonlocal write
        write = True

    return call, change


def with_object(make: Callable[[], Any], change: Callable[[Any, pytest.MonkeyPatch], Any]) -> Any:
    made = make()
    return made, lambda patch: change(made, patch)


def hook(*given: Any) -> None:
    OUTSIDE.add_(1)


def hooked_copy(net: Net) -> None:
    part = nn.Tanh()
    handle = part.register_forward_hook(hook)
    another = copy.deepcopy(part)
    handle.remove()
    net.parts[1] = another


def replaced_by(module: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, writes)


def gradient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CONFIG.weight, "grad", torch.ones(3, dtype=DOUBLE))


CHANGES: dict[str, Callable[[], Any]] = {
    "a global": lambda: (by_global, lambda patch: patch.setitem(globals(), "FLAG", True)),
    "a global function": lambda: (by_global, replaced_by(sys.modules[__name__], "plain")),
    "the code of a function": lambda: (by_global, lambda patch: patch.setattr(plain, "__code__", writes.__code__)),
    "an item": lambda: (by_table, lambda patch: patch.setitem(TABLE, "write", True)),
    "an attribute of an object": lambda: (by_namespace, lambda patch: patch.setattr(CONFIG, "write", True)),
    "a default": lambda: (by_default, lambda patch: patch.setitem(by_default.__defaults__[0], "write", True)),
    "a closure": of_closure,
    "a function of torch": lambda: (by_torch, replaced_by(torch, "sin")),
    "a function of a package in torch": lambda: (by_torch, replaced_by(F, "softplus")),
    "the shape of a tensor": lambda: (by_shape, lambda patch: patch.setattr(CONFIG, "weight", torch.ones(4))),
    "a method of tensors": lambda: (plain, lambda patch: patch.setattr(Tensor, "sin", lambda x: torch.cos(x), raising=False)),
    "a method of tensors in Python": lambda: (norm, lambda patch: patch.setattr(Tensor, "norm", lambda x: torch.cos(x))),
    "what torch's modules call": lambda: with_object(Net, lambda net, patch: patch.setattr(F, "linear", lambda x, w, b: x @ w)),
    "a gradient": lambda: (by_gradient, gradient),
    "a method of Function": lambda: (by_function, lambda patch: patch.setattr(Doubled, "forward", staticmethod(another))),
    "an attribute": lambda: with_object(Held, lambda held, patch: setattr(held, "inner", writes)),
    "a choice": lambda: with_object(Held, lambda held, patch: setattr(held, "write", True)),
    "a choice of the class": lambda: with_object(Held, lambda held, patch: patch.setattr(Held, "write", True)),
    "an item of a list": lambda: with_object(Held, lambda held, patch: held.steps.__setitem__(0, writes)),
    "an item of a dict": lambda: with_object(Held, lambda held, patch: held.chosen.update(step=writes)),
    "a method": lambda: with_object(Held, lambda held, patch: patch.setattr(Held, "one", lambda self, x: writes(x))),
    "a static method": lambda: with_object(Held, lambda held, patch: patch.setattr(Held, "step", staticmethod(writes))),
    "__call__": lambda: with_object(Held, lambda held, patch: patch.setattr(Held, "__call__", lambda self, x: writes(x))),
    "a choice of a module": lambda: with_object(Net, lambda net, patch: setattr(net, "write", True)),
    "forward of a module": lambda: with_object(Net, lambda net, patch: setattr(net.own, "forward", writes)),
    "forward of a class": lambda: with_object(Net, lambda net, patch: patch.setattr(Part, "forward", lambda self, x: writes(x))),
    "forward of torch": lambda: with_object(Net, lambda net, patch: patch.setattr(nn.Tanh, "forward", lambda self, x: writes(x))),
    "forward of a part": lambda: with_object(Net, lambda net, patch: setattr(net.parts[1], "forward", writes)),
    "a part": lambda: with_object(Net, lambda net, patch: net.parts.append(Other())),
    "another part": lambda: with_object(Net, lambda net, patch: net.parts.__setitem__(1, Other())),
    "a hook": lambda: with_object(Net, lambda net, patch: net.parts[1].register_forward_hook(hook)),
    "a hook that was copied": lambda: with_object(Net, lambda net, patch: hooked_copy(net)),
    "the width of a part": lambda: with_object(Net, lambda net, patch: widened(net)),
    "a frozen part": lambda: with_object(Net, lambda net, patch: net.parts[0].requires_grad_(False)),
    "a function of Python": lambda: (by_sum, lambda patch: patch.setattr(builtins, "sum", summed)),
    "training": lambda: with_object(Asked, lambda net, patch: net.train()),
    "a class": lambda: with_object(Net, lambda net, patch: setattr(net.own, "__class__", Other)),
    "an argument of a partial": lambda: with_object(optional, lambda call, patch: call.keywords["options"].__setitem__(0, True)),
}  # fmt: skip


CHANGES |= {
    "what calls all modules": lambda: (Part(), lambda patch: patch.setattr(nn.Module, "_call_impl", lambda self, x: writes(x))),
    "what calls a module": lambda: with_object(Calling, lambda net, patch: setattr(net, "_call_impl", writes)),
    "what torch's function calls": lambda: (by_relu, lambda patch: patch.setattr(torch, "relu", lambda x: writes(x))),
    "an operator of tensors": lambda: (by_operator, lambda patch: patch.setattr(Tensor, "__rsub__", lambda x, _: writes(x))),
    "__call__ that is an object": lambda: (Through(), lambda patch: patch.setattr(Through.__call__, "write", True)),
    "__call__ that is static": lambda: (Static(), lambda patch: patch.setattr(Static, "__call__", staticmethod(writes))),
    "what objects of the same class start with": lambda: (Again(), lambda patch: patch.setitem(TABLE, "write", True)),
    "the name of a parameter": lambda: with_object(Naming, lambda net, patch: renamed(net)),
    "two tensors that become one": lambda: (by_identity, lambda patch: patch.setitem(TENSORS, "b", TENSORS["a"])),
    "what torch's forward reads": lambda: with_object(Derived, lambda net, patch: setattr(net, "min_val", -2.0)),
    "a sign of zero": lambda: (by_sign, lambda patch: patch.setitem(TABLE, "zero", -0.0)),
}  # fmt: skip

TENSORS = {"a": torch.ones(3, dtype=DOUBLE), "b": torch.ones(3, dtype=DOUBLE)}
TABLE["zero"] = 0.0  # type: ignore[assignment]


class Derived(nn.Hardtanh):
    """Has nothing of its own."""


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._call_impl = plain


class Through:
    __call__ = Held()


class Static:
    __call__ = staticmethod(plain)


class Again:
    def __init__(self) -> None:
        self.write = TABLE["write"]

    def __call__(self, x: Tensor) -> Tensor:
        return type(self)().one(x)

    def one(self, x: Tensor) -> Tensor:
        return writes(x) if self.write else plain(x)


class Naming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quiet = nn.Parameter(torch.ones(3, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        for name, parameter in self.named_parameters():
            x = writes(x) if name == "write" else x * parameter
        return x


def renamed(net: nn.Module) -> None:
    parameter = net.quiet
    del net.quiet
    net.write = parameter


def by_relu(x: Tensor) -> Tensor:
    return F.relu(x)


def by_operator(x: Tensor) -> Tensor:
    return 1 - x


def by_identity(x: Tensor) -> Tensor:
    return writes(x) if TENSORS["a"] is TENSORS["b"] else plain(x) * TENSORS["a"]


def by_sign(x: Tensor) -> Tensor:
    return writes(x) if math.copysign(1, TABLE["zero"]) < 0 else plain(x)


def optional() -> Any:
    return partial(chosen, options=[False])


class Other(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return writes(x)


class Asked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return writes(x) if self.training else plain(x)


def chosen(x: Tensor, options: list[bool]) -> Tensor:
    return writes(x) if options[0] else plain(x)


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_lead_it_another_way_is_seen(change, unwatched, monkeypatch):
    """It was run without a watch before, and is watched after."""
    monkeypatch.setattr(CONFIG, "weight", torch.ones(3, dtype=DOUBLE), raising=False)
    call, changed = CHANGES[change]()
    ask(call, 5)
    assert len(unwatched) == 2
    with monkeypatch.context() as patch:
        changed(patch)
        x = drawn(3)
        found = jvpcli.jacobian(call, x)["y", "x"].to_dense()
        expected = torch.autograd.functional.jacobian(call, x)
    torch.testing.assert_close(found, expected)
    assert len(unwatched) == 2


def test_a_hook_of_all_modules_is_seen(unwatched):
    net = Net()
    ask(net, 4)
    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        jvpcli.jacobian(net, drawn(3))
    finally:
        handle.remove()
    assert len(unwatched) == 1


def test_who_listens_to_torch_is_told_of_each_call(unwatched):
    heard: list[str] = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    ask(plain, 4)
    with Listening():
        jvpcli.jacobian(plain, drawn(3))
    assert "sin" in heard
    assert len(unwatched) == 1


CALLS = iter(range(1000))
NUMBERS = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)


@dataclass
class Pair:
    first: Tensor
    other: Tensor


class Running(nn.Module):
    """Keeps count in Python of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x.sin()


def by_time(x: Tensor) -> Tensor:
    return x * 2 if time.perf_counter() > 0 else x


def by_chance(x: Tensor) -> Tensor:
    return x * 2 if random.random() < 2 else x


def by_turns(x: Tensor) -> Tensor:
    return x * 2 if next(CALLS) >= 0 else x


def by_name(x: Tensor) -> Tensor:
    return getattr(torch, "s" + "in")(x)


def by_import(x: Tensor) -> Tensor:
    from math import tau

    return x * tau


def by_numbers(x: Tensor) -> Tensor:
    return x * 2 if bool((NUMBERS > 0).all()) else x


def by_layout(x: Tensor) -> Tensor:
    return x * 2 if x.is_contiguous() else x


@lru_cache(maxsize=4)
def remembered(scale: int) -> int:
    return scale + next(CALLS) * 0


def by_memory(x: Tensor) -> Tensor:
    return x * remembered(2)


def by_item(x: Tensor) -> Tensor:
    return x * NUMBERS[0].item()


class Opening:
    """An attribute has the name of a function that reads files."""

    open = 2

    def __call__(self, x: Tensor) -> Tensor:
        with open(__file__) as file:
            return x * self.open * len(file.read(1))


class Strided:
    """An attribute has the name of what tells how tensors are laid out."""

    stride = 2

    def __call__(self, x: Tensor) -> Tensor:
        return x * 2 if x.stride(0) < self.stride else x


def by_size(x: Tensor) -> Tensor:
    return x * 2 if (x > 0).nonzero().shape[0] < 9 else x


def by_mask(x: Tensor) -> Tensor:
    return x * 2 if len(x[x > 0]) < 9 else x


def by_slice(x: Tensor) -> Tensor:
    return x * 2 if len(x[: x.argmax()]) < 9 else x


def by_count(x: Tensor) -> Tensor:
    return x * 2 if len(torch.zeros(x.argmax())) < 9 else x  # type: ignore[call-overload]


def by_failure(x: Tensor) -> Tensor:
    try:
        torch.linalg.cholesky(x.exp().diag())
    except RuntimeError:
        return x
    return x * 2


class Swallowing:
    def __enter__(self) -> None: ...

    def __exit__(self, *failure: object) -> bool:
        return True


SWALLOWING = Swallowing()


def by_swallowing(x: Tensor) -> Tensor:
    with SWALLOWING:
        return torch.linalg.cholesky(x.exp().diag()).diagonal()
    return x


class Marked:
    write = False


MARKED = Marked()
NUMBERS.write = False  # type: ignore[attr-defined]


def by_attribute(x: Tensor) -> Tensor:
    return writes(x) if MARKED.write or NUMBERS.write else x  # type: ignore[attr-defined]


def deep(steps: int = 400) -> Callable[[Tensor], Tensor]:
    """Too deep to be walked through, and not for Python."""
    call = plain
    for _ in range(steps):
        call = (lambda inner: lambda x: inner(x))(call)
    return call


def by_words(x: Tensor) -> Tensor:
    return x * 2 if str(NUMBERS) else x


class Scripted:
    """Attributes are made as they are asked for."""

    def __getattr__(self, name: str) -> Any:
        return vars(torch)["sin" if time.time() > 0 else name]

    def __call__(self, x: Tensor) -> Tensor:
        return self.cos(x)


UNKNOWN = [by_time, by_chance, by_turns, by_name, by_import, by_numbers, by_layout, by_item, by_memory, by_words]
UNKNOWN += [by_size, by_mask, by_slice, by_count, by_failure, by_swallowing, by_attribute, deep()]


@pytest.mark.parametrize("call", [*UNKNOWN, Opening(), Strided(), Running(), Scripted()])
def test_what_cannot_be_known_is_watched_each_time(call, unwatched):
    for seed in range(7):
        jvpcli.jacobian(call, drawn(3, seed=seed))
    assert unwatched == []


def several(x: Tensor) -> Pair:
    with torch.no_grad():
        half = torch.full_like(x, 0.5)
    rows = [row.exp() if k else row for k, row in enumerate(x)]
    half[0] = 1  # its own
    return Pair(torch.stack(rows) * half, sum(rows))


KNOWN: dict[str, Callable[..., Any]] = {
    "module": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2)).double(),
    "function": lambda x: torch.where(x > 0, x.detach() * x, x.sin()),
    "closure": lambda x: NUMBERS * x.cumsum(-1),
    "method": Net().forward,
    "drawing": lambda x: F.dropout(x.sin(), 0.4),
}


def test_what_is_known_has_the_maps_and_kinds_of_a_first_question(unwatched):
    random = torch.get_rng_state()
    for call in KNOWN.values():
        for seed in range(5):
            x = drawn(4, 3, seed=seed)
            again, first = (jvpcli.jacobian(call, x, **more)["y", "x"] for more in ({}, {"seed": 0}))
            torch.testing.assert_close(again.to_dense(), first.to_dense())
            assert (again.structure, again.structure_from) == (first.structure, first.structure_from)
    assert len(unwatched) == 2 * len(KNOWN)
    for seed in range(5):
        x = drawn(3, seed=seed)
        again, first = (jvpcli.jacobian(several, x, **more) for more in ({}, {"seed": 0}))
        assert again.keys() == first.keys()
        for key, each in first.items():
            torch.testing.assert_close(again[key].to_dense(), each.to_dense())
            assert again[key].structure == each.structure
    # what Python 3.13 writes for a dataclass of its own has names that are not known
    assert len(unwatched) == 2 * len(KNOWN) + (2 if sys.version_info < (3, 13) else 0)
    assert torch.equal(torch.get_rng_state(), random)


def talking(x: Tensor) -> Tensor:
    return Talking.apply(x).sin()


def test_what_a_backward_says_is_heard_each_time():
    for seed in range(5):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            jvpcli.jacobian(talking, drawn(3, seed=seed))
        assert {str(each.message) for each in heard} == {"mine"}


def positive(x: Tensor) -> Tensor:
    return x[x > 0].exp()


def test_another_layout_takes_another_way(unwatched):
    """The calls are the same then, but not what torch makes of them."""
    for seed in range(6):
        x = drawn(9, seed=seed)
        picked = jvpcli.jacobian(positive, x)["y", "x"].to_dense()
        torch.testing.assert_close(picked, torch.autograd.functional.jacobian(positive, x))
    unwatched.clear()

    def call(x: Tensor) -> Tensor:
        return (x.reshape(-1) * x.reshape(-1).cos()).reshape(x.shape)

    for x in (*[drawn(3, 4)] * 5, drawn(4, 3).t(), drawn(3, 8)[:, ::2], drawn(3, 1).expand(3, 4)):
        again, first = (jvpcli.jacobian(call, x, **more)["y", "x"] for more in ({}, {"seed": 0}))
        torch.testing.assert_close(again.to_dense(), torch.autograd.functional.jacobian(call, x))
        assert again.structure == first.structure
    assert len(unwatched) == 5


def writing(net: nn.Module, x: Tensor) -> Tensor:
    net[1].running_mean.add_(1)
    return net(x)


def test_buffers_are_left_as_they_were_without_a_watch(unwatched):
    net, x = KNOWN["module"], drawn(4, 3)
    assert isinstance(net, nn.Module)
    before = {name: each.clone() for name, each in net.state_dict().items()}
    for _ in range(5):
        jvpcli.jacobian(net, x)
        jvpcli.jacobian(net, x, wrt=["0.weight"])
    assert len(unwatched) == 4
    net.eval()
    call = partial(writing, net)
    for _ in range(4):
        jvpcli.jacobian(net, x)
        jvpcli.jacobian(call, x)
    net.train()
    jvpcli.jacobian(net, x)
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())


def test_inside_of_what_is_differentiated_it_is_refused_without_a_watch():
    def inner(scale: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: (scale * x).sin()

    kept = {"call": plain}

    def outer(x: Tensor) -> Tensor:
        kept["call"] = kept.get("made") or inner(x)
        kept["made"] = kept["call"]
        return x * jvpcli.jacobian(kept["call"], drawn(3))["y", "x"].to_dense().diagonal()

    for _ in range(5):
        kept.pop("made", None)
        with pytest.raises(jvpcli.JvpError, match="inside a function that jvpcli differentiates"):
            jvpcli.jacobian(outer, drawn(3))


class Distance(torch.autograd.Function):
    """Its backward goes another way where `turn` and a number that was kept say so."""

    turn = "never"

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if Distance.turn == "by value" and x.sum().item() > 5:
            return x.cos() * g
        return g * x.cos() * (x > -5 if Distance.turn == "masked" else 1)


@pytest.mark.parametrize(("turn", "compared"), [("never", 4), ("by value", 7), ("wrong", 7), ("masked", 4)])
def test_rows_of_a_custom_function_are_compared_until_it_is_known_that_they_go_the_same_way(turn, compared, monkeypatch):
    from jvpcli.jacobians import passes

    seen: list[bool] = []
    agrees = passes._agrees
    monkeypatch.setattr(passes, "_agrees", lambda *given: seen.append(True) or (turn != "wrong" and agrees(*given)))
    monkeypatch.setattr(Distance, "turn", turn)
    for shift in (-9, 0, 0, 0, 0, 9, 9) if turn != "masked" else (0, 0, 0, 0, 9, -9, 9):
        x = drawn(4) + shift
        found = jvpcli.jacobian(lambda_of(turn), x)["y", "x"].to_dense()
        torch.testing.assert_close(found, torch.autograd.functional.jacobian(Distance.apply, x))
    assert len(seen) == compared


def lambda_of(turn: str, made: dict[str, Any] = {}) -> Any:  # noqa: B006
    return made.setdefault(turn, lambda x: Distance.apply(x))


def test_nothing_is_kept_of_what_was_looked_at():
    import gc
    import weakref

    net = Net()
    found = surroundings_of(net)
    assert found is not None
    gone = [weakref.ref(part) for part in net.modules()] + [weakref.ref(each) for each in net.parameters()]
    del net
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)
