"""Functions of the user's own: gradients and outputs that are sparse or of a class of their own, backwards that are wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import Function

import jvpcli
from jvpcli.errors import EvaluationError

PLACES = torch.tensor([0, 2, 0])


class Rows(Function):
    """Twice some rows, with a sparse gradient."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x[[0, 2]]

    @staticmethod
    def backward(ctx, g):
        return torch.sparse_coo_tensor(torch.tensor([[0, 2]]), 2 * g, (3, 2))


class Wrapped(torch.Tensor):
    """A tensor that keeps its numbers in another one."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=inner.requires_grad)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def opened(value):
            return value.inner if isinstance(value, cls) else value

        result = func(*map(opened, args), **{key: opened(value) for key, value in (kwargs or {}).items()})
        return cls(result) if isinstance(result, torch.Tensor) else result


X = torch.tensor([[0.3, -1.2], [0.7, 2.0], [-0.4, 1.1]], dtype=torch.float64)

FUNCTIONS = {
    "a sparse embedding": (lambda x: F.embedding(PLACES, x, sparse=True), lambda x: F.embedding(PLACES, x)),
    "its sum": (lambda x: F.embedding(PLACES, x, sparse=True).sum(), lambda x: F.embedding(PLACES, x).sum()),
    "a sparse gradient": (Rows.apply, lambda x: 2 * x[[0, 2]]),
    "a sparse output": (lambda x: x.to_sparse() * 2, lambda x: x * 2),
    "a CSR output": (lambda x: x.to_sparse_csr(), lambda x: x * 1),
    "a wrapped factor": (lambda x: (x * Wrapped(X)).sin(), lambda x: (x * X).sin()),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_and_wrapped_tensors(name):
    own, ordinary = FUNCTIONS[name]
    expected = torch.autograd.functional.jacobian(ordinary, X)
    result = jvpcli.inspect(own, x=X)
    assert torch.allclose(result.jacobian["y", "x"], expected)
    assert torch.allclose(result.vjp["x"], expected.reshape(-1, *X.shape).sum(0))
    assert torch.allclose(result.outputs["y"], ordinary(X))
    assert torch.allclose(torch.tensor(result.to_dict()["outputs"]["y"]["value"], dtype=torch.float64), ordinary(X))
    assert torch.allclose(jvpcli.jacobian(own, x=X)["y", "x"].to_dense(), expected)
    assert jvpcli.check(own, x=X).passed


def test_a_wrapped_input():
    result = jvpcli.inspect(lambda x: (2 * x).sin(), x=Wrapped(X))
    assert torch.allclose(result.vjp["x"], 2 * (2 * X).cos())
    assert jvpcli.check(lambda x: (2 * x).sin(), x=Wrapped(X)).passed


def test_a_function_that_writes_to_its_arguments():
    """Each run starts from the numbers given, and the caller's are never changed."""

    def writes(x, w):
        w += 1
        return x * w

    w = torch.tensor([1.0, 2.0], dtype=torch.float64)
    result = jvpcli.inspect(writes, x=X, w=w, wrt="x")
    assert torch.equal(w, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.equal(result.vjp["x"], torch.tensor([2.0, 3.0], dtype=torch.float64).expand(3, 2))
    assert result.to_dict()["inputs"]["w"]["value"] == [1.0, 2.0]
    assert jvpcli.check(writes, x=X, w=w, wrt="x").passed
    assert torch.equal(w, torch.tensor([1.0, 2.0], dtype=torch.float64))


class Forgetful(Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return torch.full_like(g, 2.0)


class Clipped(Forgetful):
    @staticmethod
    def backward(ctx, g):
        return 2 * g / max(1.0, float(g.norm()))


@pytest.mark.parametrize("cls", [Forgetful, Clipped])
def test_what_is_wrong_with_an_own_backward_is_no_bug_of_ours(cls):
    with pytest.raises(EvaluationError) as caught:
        jvpcli.inspect(cls.apply, x=X)
    assert caught.value.message.startswith(f"`{cls.__name__}.backward` (test_own_functions.py, line ")
    assert caught.value.message.endswith(") is not linear in the gradient that it is given")
    assert not jvpcli.check(cls.apply, x=X).passed


def test_mixed_precision_is_judged_by_its_coarsest_dtype():
    """Half precision between float64 ends: two ways to a gradient differ by its roundings, and that is no kink either."""

    def half(x):
        h = x.half()
        return (torch.tanh(h) * h).double() ** 2

    expected = torch.autograd.functional.jacobian(lambda x: (torch.tanh(x) * x) ** 2, X)
    result = jvpcli.inspect(half, x=X)
    assert torch.allclose(result.jacobian["y", "x"], expected, atol=2e-2)
    assert result.report.warnings == ()
    assert jvpcli.check(half, x=X).passed


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 3 * g


class Bounded(Scaled):
    @staticmethod
    def backward(ctx, g):
        return g.clamp(max=1.0)


def clipping_hook(x):
    y = x * 2
    y.register_hook(lambda g: g.clamp(-0.1, 0.1))
    return y.sum()


def scaling_hook(x):
    y = x * 2
    y.register_hook(lambda g: g * 5)
    return y.sum()


def twice_or_nothing(x):
    return Bounded.apply(x * 2).sum(), (x * x).sum()


@pytest.mark.parametrize(
    ("function", "who"),
    [
        (clipping_hook, "A hook"),
        (lambda x: Bounded.apply(x), "`Bounded.backward`"),
        (twice_or_nothing, "`Bounded.backward`"),
        (scaling_hook, None),
        (lambda x: Scaled.apply(x), None),
        (lambda x: Scaled.apply(x * 1j), None),
        (torch.tanh, None),
    ],
)
def test_a_backward_that_is_no_product_is_told(function, who):
    """One v, and twice that, through PyTorch itself."""
    x = torch.tensor([0.5, 2.0], requires_grad=True)
    outputs = function(x)
    y = torch.cat([part.reshape(-1) for part in (outputs if isinstance(outputs, tuple) else (outputs,))])
    v = torch.tensor([0.7, -0.9])[: len(y)].to(y.dtype)
    once, twice = (torch.autograd.grad(y, x, times * v, retain_graph=True)[0] for times in (1, 2))
    assert torch.allclose(2 * once, twice) == (who is None)
    told = [notice for notice in jvpcli.inspect(function, x=x.detach()).report.warnings if notice.code == "nonlinear"]
    assert len(told) == (who is not None)
    assert all(notice.message.startswith(who) for notice in told)
