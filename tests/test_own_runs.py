"""How often code of the user's own runs for a question, and what is found of it all the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import jvpcli

SAME = {"rtol": 1e-12, "atol": 1e-14}


class Twice(torch.autograd.Function):
    """A cube whose backward differentiates again what it is made of, as an adjoint method or a checkpoint does."""

    backwards = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        Twice.backwards += 1
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(x**3, x, g)[0]


class Clipped(torch.autograd.Function):
    """A backward that is no product: together with others a cotangent is sent back otherwise than by itself."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g / g.norm().clamp(min=1)


class Short(torch.autograd.Function):
    """A backward with a gradient of another shape."""

    @staticmethod
    def forward(ctx, x):
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g[:-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (5, 4), (2, 3, 3), (1,)])
def test_a_backward_that_differentiates_itself_takes_all_rows_together(shape, dtype):
    x = torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=dtype).reshape(shape)
    Twice.backwards = 0
    found = jvpcli.jacobian(lambda x: Twice.apply(x.sin()), x=x)["y", "x"]
    assert Twice.backwards <= 3  # a pass for all rows, and one that it is compared with
    expected = torch.func.jacrev(lambda x: x.sin() ** 3)(x)
    torch.testing.assert_close(found.to_dense(), expected, rtol=1e-5, atol=1e-6)


def test_a_backward_that_is_no_product_is_asked_row_by_row():
    x = torch.linspace(-1, 2, 6, dtype=torch.float64)
    found = jvpcli.jacobian(lambda x: Clipped.apply(x**2) * 3, x=x)["y", "x"].to_dense()
    expected = torch.autograd.functional.jacobian(lambda x: Clipped.apply(x**2) * 3, x)
    torch.testing.assert_close(found, expected, **SAME)


def test_what_torch_refuses_of_a_backward_is_refused():
    x = torch.linspace(-1, 2, 6, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="invalid gradient"):
        torch.autograd.functional.jacobian(lambda x: Short.apply(x) * 3, x)
    with pytest.raises(jvpcli.JvpError, match=r"argument 0 of Short has shape \(5,\); the argument has shape \(6,\)"):
        jvpcli.jacobian(lambda x: Short.apply(x) * 3, x=x)


def test_the_derivative_alone_runs_a_function_once():
    """Other points are looked at where the structure is asked for; after that it has run here last."""
    places = []

    def function(x):
        places.append(x.detach().clone())
        return Twice.apply(x).flip(0)

    x = torch.linspace(-1, 2, 6, dtype=torch.float64)
    found = jvpcli.jacobian(function, x=x)["y", "x"]
    assert len(places) == 1
    assert found.structure == "sparse"
    assert len(places) == 4
    assert torch.equal(places[-1], x)
    assert not torch.equal(places[1], x)
    assert found.structure == "sparse"
    assert len(places) == 4


class Causal(nn.Module):
    """Attention to what came before, by a mask of minus infinity."""

    def __init__(self, width, masked=True):
        super().__init__()
        self.qkv, self.masked = nn.Linear(width, 3 * width), masked

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.mT / 2
        if self.masked:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
        return scores.softmax(-1) @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [3, 12, 20])
@pytest.mark.parametrize(("masked", "kind"), [(True, "block_triangular"), (False, "dense")])
def test_causality_is_seen_at_any_size(length, masked, kind, dtype):
    torch.manual_seed(3)
    model, x = Causal(6, masked).to(dtype), torch.randn(length, 6, dtype=dtype)
    found = jvpcli.jacobian(model, x=x)["y", "x"]
    assert (found.structure, found.structure_from) == (kind, "values" if masked else "operations")
    assert jvpcli.inspect(model, x=x).report.jacobian["y"]["x"].structure == kind


def test_a_kind_by_values_is_no_accident_of_the_point():
    """At zero all but the diagonal of this Jacobian is zero; elsewhere nothing is."""
    x = torch.zeros(80, dtype=torch.float64)
    found = jvpcli.jacobian(lambda x: x.sin() + (x * x).sum() * x.cosh(), x=x)["y", "x"]
    assert found.nnz == 80
    assert found.structure not in ("diagonal", "identity", "block_diagonal")


class Counting(nn.Module):
    """A net with a buffer that every call changes."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.net(x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("called", [lambda net: net, lambda net: lambda x: net(x)])
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_is_differentiated_as_it_is(backend, called):
    torch._dynamo.reset()
    model = Counting()
    compiled, x = torch.compile(model, backend=backend), torch.linspace(-1, 1, 15).reshape(5, 3)
    found = jvpcli.jacobian(called(compiled), x=x)["y", "x"]
    torch.testing.assert_close(found.to_dense(), torch.func.jacrev(model.net)(x))
    assert model.calls == 0
    assert found.structure == ("block_diagonal" if backend == "eager" else "unknown")  # of one function nothing is told
    assert model.calls == 0


class Restless(torch.autograd.Function):
    """A backward that writes to what its forward only read."""

    @staticmethod
    def forward(ctx, x, net):
        ctx.net = net
        return x * net.scale

    @staticmethod
    def backward(ctx, g):
        found = g * ctx.net.scale
        ctx.net.scale *= 2
        return found, None


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        return Restless.apply(x, self)


@pytest.mark.parametrize("called", [lambda net: net, lambda net: lambda x: net(x)])
def test_buffers_that_a_backward_writes_to_are_left_alone(called):
    model = Doubled()
    for _ in range(2):
        assert torch.equal(jvpcli.inspect(called(model), x=torch.ones(3)).vjp["x"], torch.tensor([1.0, 2.0, 3.0]))
        assert torch.equal(model.scale, torch.tensor([1.0, 2.0, 3.0]))


class Hooked(nn.Module):
    """What it gives has a hook that reads a buffer, which forward has written to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        self.scale.mul_(2)
        y = x * 3
        y.register_hook(lambda g: g * self.scale)
        return y


def test_a_hook_on_an_output_finds_buffers_as_forward_has_left_them():
    model, x = Hooked(), torch.ones(2)
    for _ in range(2):
        assert torch.equal(jvpcli.jacobian(model, x)["y", "x"].to_dense(), 6 * torch.eye(2))
        assert torch.equal(model.scale, torch.ones(()))


@pytest.mark.parametrize("shape", [(12, 2, 5, 4), (24, 5, 4)])
@pytest.mark.parametrize("causal", [True, False])
def test_samples_of_an_attention_of_torchs_own_stay_apart(shape, causal):
    """The rows of all samples are taken together, and every one is that of its sample."""
    torch.manual_seed(5)
    x, w = torch.randn(shape, dtype=torch.float64), torch.randn(4, 12, dtype=torch.float64)

    def attended(x):
        q, k, v = (x @ w).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def plain(x):
        q, k, v = (x @ w).chunk(3, -1)
        after = torch.ones(5, 5, dtype=torch.bool).triu(1) & causal
        return (q @ k.mT / 2).masked_fill(after, float("-inf")).softmax(-1) @ v

    found = jvpcli.jacobian(attended, x=x)["y", "x"]
    assert found.structure in ("block_diagonal", "block_triangular")
    u, v = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    _, pushed = torch.autograd.functional.jvp(plain, x, u)
    _, pulled = torch.autograd.functional.vjp(plain, x, v)
    torch.testing.assert_close(found.pushforward(u), pushed, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.pullback(v), pulled, rtol=1e-8, atol=1e-10)
