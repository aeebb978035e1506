"""Which way a plan takes, by what is counted; and the ways in which the samples of a batch stay apart, against the oracle."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from engine_cases import CASES, check_map, leaves_of, oracle, r, slow_rules
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import jvpcli
from jvpcli.jacobians import engine
from jvpcli.jacobians.dense import LIGHT, by_batches, by_rows, sweep
from jvpcli.jacobians.graph import accumulate, read_graph
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.passes import by_rows as rows_of
from jvpcli.jacobians.pattern import structured
from jvpcli.jacobians.plan import STEP, reverse_cost
from jvpcli.jacobians.terms import Workspace
from jvpcli.jacobians.through import PER_ENTRY, is_turned
from jvpcli.jacobians.widths import SPREAD
from jvpcli.language.readings import nodes_below
from jvpcli.report import Way


def attention(x):
    q, k, v = (x @ r(6, 18)).chunk(3, -1)
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v + x


def heads(x, w, u):
    """As in torch's multi-head attention: places before samples, heads as samples of their own."""
    samples, places, wide = x.shape
    packed = F.linear(x.transpose(0, 1), w).unflatten(-1, (3, wide)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
    q, k, v = (packed[part].reshape(places, 2 * samples, wide // 2).transpose(0, 1) for part in range(3))
    mixed = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return F.linear(mixed.transpose(0, 1).reshape(places * samples, wide), u).view(places, samples, wide).transpose(0, 1)


def recurrent(x, w, u):
    h = x.new_zeros(x.shape[0], w.shape[1])
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ w + h @ u)
    return h @ r(4, 3)


def residual(x, w):
    y = F.relu(F.conv2d(x, w, padding=1))
    y = F.max_pool2d(y + F.conv2d(y, r(3, 3, 3, 3), padding=1), 2)
    return y.flatten(1) @ r(12, 2)


BATCHES = {
    "mlp": (lambda x, w: torch.tanh(torch.tanh(x @ w) @ r(5, 4)) @ r(4, 3), [r(6, 5), r(5, 5)]),
    "linear with a bias": (lambda x, w, b: F.linear(F.linear(x, w, b).sin(), r(2, 4)), [r(3, 5), r(4, 5), r(4)]),
    "conv": (lambda x, w: F.conv2d(F.conv2d(x, w).tanh(), r(2, 3, 2, 2)).flatten(1) @ r(18, 2), [r(3, 2, 5, 5), r(3, 2, 2, 2)]),
    "grouped conv": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, groups=2).relu().flatten(1) @ r(24, 3),
        [r(2, 4, 5, 5), r(6, 2, 3, 3), r(6)],
    ),
    "transposed conv": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2).sin().sum((2, 3)) @ r(3, 2),
        [r(2, 2, 3, 3), r(2, 3, 2, 2)],
    ),
    "conv1d, pooled": (lambda x, w: F.avg_pool1d(F.conv1d(x, w).relu(), 2).flatten(1) @ r(4, 4), [r(3, 2, 6), r(2, 2, 3)]),
    "mean over places": (lambda x, w: F.conv2d(x, w, padding=1).mean((2, 3)), [r(2, 2, 4, 4), r(3, 2, 3, 3)]),
    "padded and cut": (lambda x: F.conv1d(F.pad(x, (1, 2))[:, :, 1:].sin(), r(2, 2, 3)).flatten(1) @ r(12, 2), [r(3, 2, 6)]),
    "residual": (residual, [r(2, 3, 4, 4), r(3, 3, 3, 3)]),
    "group norm": (lambda x, w: F.group_norm(F.conv1d(x, w), 2).flatten(1) @ r(16, 2), [r(3, 2, 6), r(4, 2, 3)]),
    "batch norm": (
        lambda x, w: F.batch_norm(x @ w, None, None, training=True).relu() @ r(4, 3),
        [r(5, 3), r(3, 4)],
    ),
    "attention": (attention, [r(2, 4, 6)]),
    "heads": (heads, [r(2, 3, 4), r(12, 4), r(4, 4)]),
    "heads, as many samples as places": (heads, [r(3, 3, 4), r(12, 4), r(4, 4)]),
    "samples in the middle": (lambda x, w: (x @ w).tanh().transpose(0, 1).flatten(1) @ r(12, 2), [r(4, 3, 5), r(5, 3)]),
    "samples last": (lambda x: (x.permute(2, 0, 1).flatten(1) @ r(6, 6)).tanh() @ r(6, 3), [r(2, 3, 4)]),
    "samples halved": (lambda x, w: (x @ w).tanh().view(2, 3, 4).transpose(0, 1).flatten(1) @ r(8, 2), [r(6, 3), r(3, 4)]),
    "samples before and after": (
        lambda x, w: ((x @ w).tanh() + (x.transpose(0, 1) @ w).sin()).flatten(1) @ r(12, 2), [r(3, 3, 2), r(2, 4)],
    ),
    "broadcast before the samples": (
        lambda x, b, w: (x * b).tanh().transpose(0, 1).flatten(1) @ w, [r(2, 3, 4), r(1, 3, 4), r(8, 2)],
    ),
    "recurrent": (recurrent, [r(3, 4, 2), r(2, 4), r(4, 4)]),
    "embedding": (lambda w: torch.tanh(F.embedding(torch.tensor([[0, 1], [1, 3], [2, 2]]), w)).mean(1) @ r(3, 2), [r(4, 3)]),
    "samples meet at the end": (lambda x, w: (x @ w).tanh() - (x @ w).mean(0), [r(4, 3), r(3, 2)]),
    "samples meet on the way": (lambda x, w: (x.cumsum(0) @ w).tanh() @ r(2, 2), [r(4, 3), r(3, 2)]),
    "samples moved": (lambda x, w: (x.flip(0) @ w).tanh() @ r(2, 2), [r(4, 3), r(3, 2)]),
    "the batch is the second axis": (lambda x, w: (w @ x).T.tanh() @ r(2, 3), [r(3, 4), r(2, 3)]),
    "an input used in two ways": (lambda x: torch.tanh(x @ r(4, 4)) @ x[:4], [r(5, 4)]),
    "two batches": (lambda x, y: torch.tanh(x @ r(3, 3)) * (y @ r(2, 3)).exp(), [r(4, 3), r(4, 2)]),
    "one sample": (lambda x, w: torch.tanh(x @ w) @ r(4, 3), [r(1, 5), r(5, 4)]),
    "nothing fills": (lambda x: torch.sin(x) * 2, [r(4, 3)]),
    "pieces joined": (lambda x: torch.cat([torch.tanh(x[:, :2] @ r(2, 3)), x[:, 2:]], -1) @ r(6, 2), [r(4, 5)]),
    "pieces stacked": (lambda x: torch.stack([x @ r(3, 4), torch.sin(x @ r(3, 4))], -1).flatten(1) @ r(8, 2), [r(5, 3)]),
    "cross product": (lambda x: torch.linalg.cross(torch.sin(x), x @ r(3, 3)) @ r(3, 2), [r(5, 3)]),
    "samples joined": (lambda x, y: torch.tanh(torch.cat([x, y @ r(2, 3)]) @ r(3, 2)), [r(2, 3), r(2, 2)]),
    "samples stacked": (lambda x, y: torch.tanh(torch.stack([x, y]) @ r(3, 2)), [r(2, 3), r(2, 3)]),
    "not every input is reached": (lambda x, w: torch.tanh(x @ r(3, 4)) @ r(4, 2), [r(5, 3), r(7)]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_rows_of_all_samples_together(name):
    function, values = BATCHES[name]
    leaves = leaves_of(values)
    output = function(*leaves)
    graph = read_graph(output, leaves)
    expected = oracle(output, leaves)
    for room in (1, 1 << 27):
        if graph.spine is not None:
            work = Workspace()
            for found, matrix in zip(structured(graph, by_batches(graph, graph.spine, work, room), work), expected, strict=True):
                check_map(found, matrix)
    work = Workspace()
    for found, matrix in zip(structured(graph, accumulate(graph, work), work), expected, strict=True):
        check_map(found, matrix)
    for found, matrix in zip(engine.compute(engine.plan(output, leaves)).maps, expected, strict=True):
        torch.testing.assert_close(found.to_dense().reshape(matrix.shape), matrix)


def test_which_functions_keep_samples_apart():
    """A spine is where rows of a sample stay in it, and fill it; what leaves it is gone to by local maps."""

    def spine(name):
        function, values = BATCHES[name]
        leaves = leaves_of(values)
        return read_graph(function(*leaves), leaves).spine

    for name in ("mlp", "conv", "residual", "attention", "recurrent", "two batches", "pieces joined", "cross product"):
        assert spine(name).apart == BATCHES[name][1][0].shape[0]
        assert 0 in spine(name).leaves
    for name in ("heads", "heads, as many samples as places", "samples in the middle", "samples last", "samples halved"):
        assert 0 in spine(name).leaves
    assert not spine("samples before and after").leaves
    assert spine("broadcast before the samples").leaves == [0]
    assert spine("not every input is reached").leaves == [0]
    assert spine("pieces stacked").leaves == [0]
    assert not spine("samples joined").leaves
    assert not spine("samples stacked").leaves
    for name in ("one sample", "nothing fills"):
        assert spine(name) is None
    assert not spine("samples moved").leaves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype):
    function, values = BATCHES["mlp"]
    leaves = [x.to(dtype).requires_grad_() for x in values]
    output = torch.tanh(torch.tanh(leaves[0] @ leaves[1]) @ r(5, 4).to(dtype)) @ r(4, 3).to(dtype)
    exact = leaves_of(values)
    expected = oracle(function(*exact), exact)
    graph, work = read_graph(output, leaves), Workspace()
    for found, matrix in zip(structured(graph, by_batches(graph, graph.spine, work), work), expected, strict=True):
        assert found.to_dense().dtype == dtype
        limit = 60 * torch.finfo(dtype).eps
        torch.testing.assert_close(found.to_dense().reshape(matrix.shape).double(), matrix, rtol=limit, atol=limit)


LIGHT_STEPS = {
    "Add": lambda x: x + x[:1], "Sub": lambda x: x - x[:, :1], "Rsub": lambda x: 3 - x, "Neg": lambda x: -x,
    "Mul": lambda x: x * x[0], "Div": lambda x: x / (2 + x[1] * x[1]), "Exp": lambda x: (-x * 0.1).exp(),
    "Log": lambda x: (x.exp() + 3).log(), "Sum": lambda x: x - x.sum(0),
    "Logsumexp": lambda x: x - x.logsumexp(1, True),
    "Mm": lambda x: (x @ x.T) / 9, "Clone": lambda x: x.clone(), "View": lambda x: x.view(-1).view(3, 3),
    "Unsqueeze": lambda x: x.unsqueeze(1).squeeze(1), "Squeeze": lambda x: x[None].squeeze(),
    "Expand": lambda x: x[:1].expand(3, 3) + x,
    "Permute": lambda x: x.permute(1, 0), "Transpose": lambda x: x.transpose(0, 1), "T": lambda x: x.t(),
    "Select": lambda x: x + x[1], "Slice": lambda x: x + x[:, 1:2], "Unbind": lambda x: x + x.unbind()[1],
    "Stack": lambda x: torch.stack(x.unbind(), 1), "Cat": lambda x: torch.cat([x[1:], x[:1]]),
    "Pow": lambda x: x + x**3 / 9, "Addcmul": lambda x: torch.addcmul(x, x, x.t(), value=0.1),
    "Lerp": lambda x: x.lerp(x.t(), 0.3), "Expm1": lambda x: (x / 9).expm1(), "Log1P": lambda x: (x * x).log1p() - x,
    "Sqrt": lambda x: (x * x + 1).sqrt(), "Rsqrt": lambda x: x + (x * x + 1).rsqrt(),
    "Reciprocal": lambda x: (x * x + 1).reciprocal() - x, "Sin": torch.sin, "Cos": lambda x: x + x.cos(),
    "Tan": lambda x: (x / 9).tan() + x, "Atan": torch.atan, "Atan2": lambda x: x.atan2(x * x + 1),
    "Sigmoid": lambda x: x - x.sigmoid(), "Erf": lambda x: x + x.erf(), "Relu": lambda x: x + x.relu(),
    "Abs": lambda x: x + x.abs(), "Mean": lambda x: x - x.mean(1, True), "Amax": lambda x: x - x.amax(1, True),
    "LinalgVectorNorm": lambda x: x + x.norm(dim=1, keepdim=True), "Addmm": lambda x: torch.addmm(x, x, x.t()) / 9,
    "Bmm": lambda x: torch.bmm(x[None], x.t()[None])[0], "UnsafeView": lambda x: x.t().reshape(9).view(3, 3),
    "ReshapeAlias": lambda x: torch.einsum("ij,kj->ik", x, x) / 9, "Diagonal": lambda x: x + x.diagonal(),
    "Split": lambda x: torch.cat(x.split(2)), "UnsafeSplit": lambda x: torch.cat(x.unsafe_split(2)),
}  # fmt: skip


def test_long_chains_of_light_operations(monkeypatch):
    """Each of them is there, many times; rows are those of single passes, and none of them goes row by row inside."""
    monkeypatch.setattr("jvpcli.jacobians.dense.ROWS", 0)

    def chain(x):
        for _ in range(3):
            for step in LIGHT_STEPS.values():
                x = step(x) / 2
        return x.sum(1)

    (x,) = leaves_of([r(3, 3)])
    output = chain(x)
    graph = read_graph(output, [x])
    swept = sweep(graph)
    assert swept.light
    assert LIGHT == LIGHT_STEPS.keys() == {base_name(name) for name in graph.names}
    assert sweep(read_graph(output.tanh(), [x])).light  # a few others cost little
    others = output
    for _ in range(len(graph.order)):
        others = others.tanh()
    assert not sweep(read_graph(others, [x])).light
    together = rows_of(swept, [x])[0]
    single = torch.stack([torch.autograd.grad(each, x, retain_graph=True)[0].reshape(-1) for each in output])
    torch.testing.assert_close(together, single)
    for function, count in ((chain, 0), (torch.tanh, 1)):  # which has no such rule
        y = function(x) if count == 0 else function(x).sum(1)
        assert len(slow_rules(lambda y=y: torch.autograd.grad(y, x, torch.eye(3, dtype=x.dtype), is_grads_batched=True))) == count


def test_few_rows_are_light_whatever_the_operations():
    x, w = leaves_of([r(1, 2, 6), r(3, 2, 3)])
    for size, light in ((4, True), (5, False)):
        output = F.conv1d(x, w).tanh().flatten()[:size].cosh()
        assert sweep(read_graph(output, [x, w])).light is light
        for rows, expected in zip(by_rows(read_graph(output, [x, w])), oracle(output, [x, w]), strict=True):
            torch.testing.assert_close(rows, expected)


SINGLES = {
    "a factor": (lambda x, s: x * s, 1),
    "a divisor and a summand": (lambda x, s: x / s + s, 2),
    "a norm": (lambda x, s: x / x.norm() * 2 - s, 2),
    "a single number of single numbers": (lambda x, s: (s * s).sin() * torch.ones(3), 1),
    "one that is stacked": (lambda x, s: torch.stack([s, s * 2, s]), 0),
    "one of one axis": (lambda x, s: x * s.reshape(1), 0),
    "one of all": (lambda x, s: x * x.sum(), 1),
    "one that is spread first": (lambda x, s: s.expand(3) * x, 1),
    "none": (lambda x, s: x * 2 + x.sum(0, keepdim=True), 0),
}


@pytest.mark.parametrize("name", SINGLES)
def test_single_numbers_that_are_broadcast_are_counted(name):
    """Torch's lighter rules take the sums that lead back to them row by row, and say so."""
    function, count = SINGLES[name]
    x, s = leaves_of([r(3), r()])
    output = function(x, s)
    assert read_graph(output, [x, s]).singles == count
    rows = torch.eye(3, dtype=x.dtype)
    said = slow_rules(lambda: torch.autograd.grad(output, (x, s), rows, is_grads_batched=True, allow_unused=True))
    assert len(said) == count


def test_long_chains_of_single_numbers_are_not_light():
    x, s = leaves_of([r(24), r()])
    y, z = x, x
    for _ in range(60):
        y, z = (y * s).sin(), (z * s.reshape(1)).sin()
    assert not sweep(read_graph(y, [x, s])).light
    assert sweep(read_graph(z, [x, s])).light
    for output in (y, z):
        for rows, expected in zip(by_rows(read_graph(output, [x, s])), oracle(output, [x, s]), strict=True):
            torch.testing.assert_close(rows, expected)


# --- the choice ------------------------------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Counts the entries that torch's operations give, and so roughly their work; no clock is read."""

    entries = 0
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.calls += 1
        self.entries += sum(t.numel() for t in tree_leaves(found) if isinstance(t, Tensor))
        return found


def cost(way):
    """Calls count as much as some thousands of entries, as they do on any machine."""
    try:
        with Counted() as counted:
            way()
    except (RuntimeError, MemoryError):
        return math.inf
    return counted.calls * 3000 + counted.entries


def cnn(side, classes=10):
    convs = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten()]
    return nn.Sequential(*convs, nn.Linear(8 * (side - 6) ** 2, classes))


def pooled():
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(36, 5))


def deep():
    return nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(12, 12), nn.Tanh())])


def by_parameters(net, x):
    torch.manual_seed(0)
    net = net()
    names = [name for name, _ in net.named_parameters()]
    leaves = leaves_of(list(net.parameters()))
    return torch.func.functional_call(net, dict(zip(names, leaves, strict=True)), (x.float(),)), leaves


def by_input(net, x):
    (leaf,) = leaves_of([x.float()])
    for p in (net := net()).parameters():
        p.requires_grad_(False)
    return net(leaf), [leaf]


NETS = {
    "CNN to parameters, one sample": (lambda: by_parameters(lambda: cnn(12), r(1, 3, 12, 12)), "dense"),
    "CNN to parameters, a batch": (lambda: by_parameters(lambda: cnn(12), r(8, 3, 12, 12)), "batched"),
    "CNN to its input, a batch": (lambda: by_input(lambda: cnn(12), r(8, 3, 12, 12)), "batched"),
    "pooled CNN to parameters": (lambda: by_parameters(pooled, r(24, 1, 12, 12)), "batched"),
    "pooled CNN to its input": (lambda: by_input(pooled, r(1, 1, 12, 12)), "dense"),
    "deep MLP to its input": (lambda: by_input(deep, r(40, 12)), "batched"),
    "deep MLP, one sample": (lambda: by_input(deep, r(1, 12)), "dense"),
    "elements": (lambda: ((x := leaves_of([r(3000)])[0]).sin() * x, [x]), "accumulated"),
    "outer": (lambda: (torch.outer(x := leaves_of([r(90)])[0], x), [x]), "accumulated"),
    "stencil": (lambda: (torch.roll(x := leaves_of([r(2000)])[0], 1) - 2 * x, [x]), "accumulated"),
    "long recurrence": (lambda: recurrence(leaves_of([r(12)])[0]), "dense"),
}


def recurrence(x):
    h = x
    for _ in range(40):
        h = torch.tanh(h * 0.9 + h.roll(1))
    return h, [x]


@pytest.mark.parametrize("name", NETS)
def test_the_chosen_way_is_about_the_cheapest(name):
    make, strategy = NETS[name]
    output, leaves = make()
    planned = engine.plan(output, leaves)
    assert planned.chosen.strategy == strategy
    graph = planned.graph
    ways = {
        "accumulated": lambda: accumulate(graph, Workspace(), "reverse"),
        "dense": lambda: by_rows(graph),
        "batched": lambda: by_batches(graph, graph.spine, Workspace()),
    }
    if graph.spine is None:
        del ways["batched"]
    costs = {each: cost(way) for each, way in ways.items()}
    assert costs[strategy] <= 1.3 * min(costs.values()), costs


def test_a_convolution_is_pulled_through_a_batch_at_a_time():
    """The Jacobian of a net of convolutions by its parameters takes no more than its passes, whatever the batch."""
    output, leaves = by_parameters(lambda: cnn(12), r(2, 3, 12, 12))
    graph = read_graph(output, leaves)
    rows, maps = cost(lambda: by_rows(graph)), cost(lambda: accumulate(graph, Workspace()))
    assert maps < 2 * rows


def test_rows_that_index_arrays_hold_are_reckoned_by_their_entries():
    """Through cuts and pads no others are written out in full."""
    x = r(40, 40).requires_grad_()
    p = F.pad(x[None, None], (1, 1, 1, 1))[0, 0]
    graph = read_graph(p[1:-1, 2:] - 2 * x + p[1:-1, :-2], [x])
    cost = reverse_cost(graph, None)
    assert cost.nanoseconds <= STEP * len(graph.order) + PER_ENTRY * cost.operations


def test_a_plan_is_made_once_for_a_program():
    """A second call for the same program finds the choice made; one whose operations are others does not."""
    work, choices = Workspace(), []

    class Told(engine.GraphPlan):
        @property
        def chosen(self):
            choices.append(len(self.graph.order))
            return engine.GraphPlan.chosen.func(self)

    for function in (torch.sin, torch.sin, lambda x: x.sin().cos()):
        (x,) = leaves_of([r(100)])
        engine.compute(Told(read_graph(function(x), [x])), work)
    assert choices == [1, 2]


class Unbatched(torch.autograd.Function):
    """sin, whose backward pass takes one cotangent at a time."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, v):
        return torch.from_numpy(v.numpy() * ctx.saved_tensors[0].detach().cos().numpy())


@pytest.mark.parametrize("name", ["one by one", "in chunks", "tried"])
def test_passes_that_are_slow_are_given_up_once(name, monkeypatch):
    """A clock that runs on a second a look makes them slow; one that stands still does not."""
    w = r(100, 120)

    def function(x):
        x = x.exp() if name == "tried" else Unbatched.apply(x * 2) if name == "one by one" else x.sin()
        return torch.tanh(w @ torch.tanh(w.T @ (w @ x)))

    def plan():
        (x,) = leaves_of([r(120)])
        y = function(x)
        expected.append(oracle(y, [x])[0])
        return engine.plan(y, [x])

    seconds, expected, work = itertools.count(0, 10**9), [], Workspace()
    dense = Way("dense", "reverse", 100, 0, 0, True)
    monkeypatch.setattr(engine.GraphPlan, "chosen", dense)
    if name == "in chunks":
        monkeypatch.setattr(engine, "BATCH_BYTES", 1 << 14)
    if name == "tried":
        monkeypatch.setattr("jvpcli.jacobians.plan.TRIED", 0.0)
        monkeypatch.setattr(engine.GraphPlan, "_light", False)
    monkeypatch.setattr("jvpcli.jacobians.passes._clock", lambda: (0, 0))
    steady = engine.compute(plan(), Workspace())
    assert (steady.way, steady.notes) == (dense, ())
    monkeypatch.setattr("jvpcli.jacobians.passes._clock", lambda: (next(seconds),) * 2)
    first, again = engine.compute(plan(), work), engine.compute(plan(), work)
    assert first.notes == ("dense (reverse) was given up on the way: its passes took several times as long as planned",)
    assert first.way == again.way != dense
    assert first.way.strategy == "accumulated"
    assert not again.notes
    for found, matrix in zip((steady, first, again), expected, strict=True):
        torch.testing.assert_close(found.maps[0].to_dense(), matrix)


def test_what_was_given_up_is_reported(monkeypatch):
    seconds = itertools.count(0, 10**9)
    monkeypatch.setattr("jvpcli.jacobians.passes._clock", lambda: (next(seconds),) * 2)
    w = r(80, 90)
    report = jvpcli.inspect(lambda x: torch.tanh(w @ torch.tanh(w.T @ (w @ Unbatched.apply(x * 2)))), x=r(90)).report
    assert report.plan.strategy == "accumulated"
    assert report.plan.reason == (
        "an operation's local Jacobian is not known, so one reverse pass a row: 80, as many at a time as fit; "
        f"that was given up on the way for accumulated ({report.plan.mode})"
    )
    (notice,) = [each for each in report.warnings if each.code == "fallback"]
    assert notice.message == "dense (reverse) was given up on the way: its passes took several times as long as planned"


def test_a_plan_is_known_by_the_operations_and_by_the_inputs_that_they_lead_to():
    """Two outputs of the same operations, of which others are on the way: what is doubtful of one is not known of the other."""
    x, w = leaves_of([r(4, 2), r(4, 2)])
    first = torch.cdist(x, r(3, 2)).sum(1, keepdim=True) + w.sin()
    second = torch.cdist(w, r(3, 2)).sum(1, keepdim=True) + x.sin()
    work, forms = Workspace(), set()
    for output in (second, first):
        planned = engine.plan(output, [x])
        assert len(planned.graph.form) == len(nodes_below(output.grad_fn))
        forms.add(planned.graph.form)
        (found,) = engine.compute(planned, work).maps
        torch.testing.assert_close(found.to_dense().reshape(8, 8), oracle(output, [x])[0].reshape(8, 8))
    assert len(forms) == 2
    assert engine.plan(first, [x]).graph.form != engine.plan(first, [w]).graph.form


def test_of_operations_with_the_same_names_others_are_on_the_way():
    """A weight that is no input: of two outputs with one form, `cdist`, whose batch rule gives zeros, is on one's way alone."""
    p, w, x = r(3, 2), nn.Parameter(r(4, 2)), r(4, 2, seed=1)

    def both(x):
        aside, ahead = (torch.cdist(each, p).sum(1, keepdim=True) for each in (w, x))
        return (x.tanh() + aside) + x * w, (w.tanh() + ahead) + x * w

    found = jvpcli.jacobian(both, x).values()
    for each, want in zip(found, torch.autograd.functional.jacobian(both, x), strict=True):
        torch.testing.assert_close(each.to_dense(), want)


@pytest.mark.parametrize("n", [8, 3000])
def test_a_function_that_does_something_else_with_operations_of_the_same_names(n):
    """It has hooks at times, or goes over complex numbers; and a batch that was there is not there at all."""
    now, a, x = [""], r(n), r(n, seed=1)

    def function(x):
        y = x.to(torch.complex128 if now == ["complex"] else torch.float64) * a * (1j if now == ["complex"] else 1.0)
        y = (y * y.to(x.dtype)).to(x.dtype)
        if now == ["hooked"]:
            y.register_hook(lambda g: 3 * g)
        return y.sin()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # imaginary parts are dropped
        for now[0] in ("plain", "hooked", "complex", "plain"):
            v = r(n, seed=2)
            at = x.clone().requires_grad_()
            (want,) = torch.autograd.grad(function(at), at, v)
            torch.testing.assert_close(jvpcli.jacobian(function, x)["y", "x"].pullback(v), want)

    weights, flat = r(6, 5), r(24, seed=1)
    sizes = [0]

    def batch(x):
        return (x.reshape(-1, sizes[0]) @ weights.reshape(sizes[0], -1)).tanh().reshape(-1)[:8]

    for sizes[0] in (6, 2, 3):
        want = torch.autograd.functional.jacobian(batch, flat)
        torch.testing.assert_close(jvpcli.jacobian(batch, flat)["y", "x"].to_dense(), want)


def test_passes_that_are_known_need_nothing_of_the_graph_but_the_names():
    """Shapes, sizes and the order of the nodes are not read again."""
    work, read = Workspace(), []
    for _ in range(2):
        (x,) = leaves_of([r(6)])
        planned = engine.plan(torch.stack([x[0] * x[1], x[2].sin(), x.sum()]), [x])
        (found,) = engine.compute(planned, work).maps
        torch.testing.assert_close(found.to_dense(), oracle(planned.graph.output, [x])[0])
        read.append({"order", "largest", "taken"} & vars(planned.graph).keys())
    assert read == [{"order", "largest"}, set()]


NUMBERS = {
    "broadcast": (lambda x: (x.sum() * x.sin() + x[0] * x[1]).exp() - x.mean(), [r(5)]),
    "unbound": (lambda x: torch.stack([a * b for a, b in zip(x.unbind(), x.sin().unbind(), strict=True)]), [r(4)]),
    "of one number": (lambda x, y: (x * 2 + 1).expand(3) * y / x, [r(), r(3)]),
    "a larger one inside": (lambda x: (x[:, None] * x).softmax(0).sum(1).reshape(2, 3).T @ x[:2].tanh(), [r(6)]),
    "gathered": (lambda x: x.repeat(7)[torch.tensor([0, 3, 3])].prod() * x.max(), [r(4)]),
}


def test_what_is_told_of_the_shapes_by_few_of_them():
    """The largest tensor is at most that, and numbers are broadcast so often, as all shapes tell."""
    functions = [each[:2] for each in (*NUMBERS.values(), *BATCHES.values(), *CASES.values())]
    for function, values in functions:
        leaves = leaves_of(values)
        graph = read_graph(function(*leaves), leaves)
        found = graph.largest, graph.singles
        shapes = {node: [tuple(meta.shape) for meta in node._input_metadata] for node in (*graph.order, *graph.leaves) if node}
        assert found[0] >= max([math.prod(shape) for node in graph.order for shape in shapes[node]], default=0)
        named = zip(graph.order, graph.operations, strict=True)
        single = {node for node, all_of_it in shapes.items() if () in all_of_it}
        spread = [node for node, name in named if name in SPREAD and node not in single]
        assert found[1] == sum([to in single for node in spread for to, _ in node.next_functions])


def looked_at(output, leaves, **options):
    """How often somebody asks for the nodes of a graph while its Jacobian is computed, which is right."""
    asked = []

    def nodes():
        asked.append(output)
        return nodes_below(output.grad_fn)

    done = engine.compute(engine.plan(output, leaves, nodes=nodes, **options))
    for found, expected in zip(done.maps, oracle(output, leaves), strict=True):
        torch.testing.assert_close(found.to_dense().reshape(expected.shape), expected)
    return len(asked)


def test_one_short_row_is_one_pass_and_nothing_else(monkeypatch):
    """To look at what is on the way would take as long as the pass."""
    x, w = leaves_of([r(5), r(4, 5)])
    loss = torch.tanh(w @ x).square().sum()
    assert looked_at(loss, [x, w]) == 0
    assert looked_at(loss.reshape(1, 1), [x, w]) == 0
    assert looked_at(loss, [x, w], memory_limit=1 << 20) == 1
    assert looked_at(torch.stack([loss, loss.sin()]), [x, w]) == 1
    monkeypatch.setattr("jvpcli.jacobians.graph.SHORT", 24)
    assert looked_at(loss, [x, w]) == 1


def test_what_is_told_of_one_short_row_is_worked_out():
    (x,) = leaves_of([r(50)])
    planned = engine.plan((x.sin() * x).sum(), [x])
    told = planned.report
    assert (told.ways[0].strategy, told.ways[0].mode, told.ways[0].passes) == ("dense", "reverse", 1)
    assert told.ways[0].peak_bytes >= 50 * 8
    assert told.ways[0].operations >= 150
    assert len({(way.strategy, way.mode) for way in told.ways}) == len(told.ways)
    (found,) = engine.compute(planned).maps
    assert (found.structure, found.structure_from) == ("dense", "operations")


@pytest.mark.parametrize("passes", [0, 1, 3, 1000])
def test_memory_of_passes_is_bound(passes):
    """The bound that is found soon is never under what is worked out, and so is what a limited room holds."""
    x, w = leaves_of([r(6, 5), r(5, 7)])
    graph = read_graph(torch.relu(x @ w).split(3)[0].cumsum(0) @ r(7, 2), [x, w])
    chunk, held = graph.together(passes, math.inf)
    exactly = graph.together(passes, math.inf, exactly=True)
    assert chunk == max(1, passes)
    assert exactly == (chunk, chunk * graph.footprint)
    assert held >= passes * graph.footprint
    for room in (0, 2.5 * graph.footprint, 2000 * graph.footprint):
        chunk, held = graph.together(passes, room)
        assert held <= room or chunk == 1
        assert chunk >= min(passes, room // graph.footprint)


def test_nobody_hears_that_an_operation_takes_one_row_at_a_time():
    """Taking them together is jvp's own doing, so that torch's advice about it is for nobody who runs a program."""
    x = r(4, 5).requires_grad_()
    y = torch.cummax(x, 1).values
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = by_rows(read_graph(y, [x]))
    torch.testing.assert_close(found, oracle(y, [x])[0])


def test_a_cross_product_reads_few_entries():
    """Points that are turned, by the residuals of many views of them: their local maps are short."""
    seen = torch.arange(600) % 40
    x = r(40, 3).requires_grad_()
    y = torch.linalg.cross(r(600, 3), x[seen].sin())
    planned = engine.plan(y, [x])
    assert planned.chosen.strategy == "accumulated"
    (found,) = engine.compute(planned).maps
    (expected,) = oracle(y[:40], [x])
    torch.testing.assert_close(found.to_dense().reshape(1800, 120)[:120], expected)
    assert found.nnz == 600 * 6  # each entry of a cross product reads two entries of a point


TURNED = {
    "one axis": (lambda x, w, b: F.conv1d(x, w, b, padding=2), [(2, 3, 9), (4, 3, 4), (4,)]),
    "two": (lambda x, w, b: F.conv2d(x, w, b, padding=(1, 0)), [(2, 3, 5, 6), (4, 3, 3, 2), (4,)]),
    "dilated": (lambda x, w, b: F.conv2d(x, w, b, padding=2, dilation=(2, 1)), [(2, 1, 6, 4), (2, 1, 2, 3), (2,)]),
    "three": (lambda x, w, b: F.conv3d(x, w, b), [(1, 2, 4, 3, 3), (3, 2, 2, 1, 2), (3,)]),
    "one sample": (lambda x, w, b: F.conv2d(x, w, b, padding=1), [(2, 5, 4), (3, 2, 3, 3), (3,)]),
    "with strides": (lambda x, w, b: F.conv2d(x, w, b, stride=2), [(2, 2, 5, 5), (3, 2, 3, 3), (3,)]),
    "much padded": (lambda x, w, b: F.conv2d(x, w, b, padding=3), [(1, 2, 2, 2), (2, 2, 2, 3), (2,)]),
    "one number for all axes": (
        lambda x, w, b: torch.convolution(x, w, b, [1], [1], [1], False, [0], 1), [(1, 2, 3, 4), (2, 2, 3, 3), (2,)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
def test_going_back_through_a_convolution_by_another_one(name, monkeypatch):
    monkeypatch.setattr("jvpcli.jacobians.dense.LARGE", 0)
    function, shapes = TURNED[name]
    values = [r(*shape, seed=k) for k, shape in enumerate(shapes)]
    turned = name not in ("with strides", "much padded", "one number for all axes")
    for wanted in ((0, 1, 2), (0,), (0, 2)):
        leaves = [x.float().requires_grad_(k in wanted) for k, x in enumerate(values)]
        exact = [x.clone().requires_grad_(k in wanted) for k, x in enumerate(values)]
        output, right = function(*leaves).sin(), function(*exact).sin()
        asked = [leaves[k] for k in wanted]
        expected = oracle(right, [exact[k] for k in wanted])
        graph, work = read_graph(output, asked), Workspace()
        assert any(map(is_turned, graph.order)) == turned
        for maps in (by_rows(graph), [each.matrix() for each in structured(graph, accumulate(graph, work), work)]):
            for matrix, other in zip(maps, expected, strict=True):
                torch.testing.assert_close(matrix.double(), other, rtol=1e-4, atol=1e-5)


class Backwards(TorchDispatchMode):
    """Counts the backward passes of a fused LSTM."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.mkldnn_rnn_layer_backward.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", [lambda graph: by_rows(graph), lambda graph: accumulate(graph, Workspace())])
@pytest.mark.parametrize("to_parameters", [False, True])
def test_a_fused_lstm_is_passed_through_by_many_rows_at_once(to_parameters, way):
    torch.manual_seed(0)
    net, x = nn.LSTM(2, 3, batch_first=True), torch.randn(2, 6, 2, requires_grad=not to_parameters)
    net.requires_grad_(to_parameters)
    leaves = list(net.parameters()) if to_parameters else [x]
    output = net(x)[0]
    graph = read_graph(output, leaves)
    if not any("MkldnnRnnLayer" in name for name in graph.names):
        pytest.skip("this torch does not fuse the steps of an LSTM")
    kept = []
    with Backwards() as counted, torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        found = way(graph)
    assert not kept  # no graph is recorded of the passes, whose numbers it would keep
    assert counted.count < output.numel() / 2
    exact = nn.LSTM(2, 3, batch_first=True).double()
    exact.load_state_dict(net.state_dict())
    wide = x.detach().double().requires_grad_()
    expected = oracle(exact(wide)[0], list(exact.parameters()) if to_parameters else [wide])
    maps = found if isinstance(found[0], Tensor) else [each.matrix() for each in structured(graph, found, Workspace())]
    for matrix, right in zip(maps, expected, strict=True):
        torch.testing.assert_close(matrix.double(), right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
@pytest.mark.parametrize("text", ["torch.view_as_real(torch.fft.fft(x))", "torch.view_as_real(torch.fft.fft(x))[:2]"])
def test_a_plan_with_complex_numbers_on_the_way_is_reported_in_any_direction(text, mode):
    x = torch.linspace(-1, 1, 70, dtype=torch.float64)
    found = jvpcli.inspect(text, x=x, mode=mode, dtype="float64")
    expected = torch.autograd.functional.jacobian(lambda x: torch.view_as_real(torch.fft.fft(x))[: 2 if "[" in text else 70], x)
    torch.testing.assert_close(found.jacobian["y", "x"], expected)
