"""Random compositions of views, indexing, reductions, products, convolutions, joins and in-place methods."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from engine_cases import check_function, check_map, compute, leaves_of, oracle, r
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

LARGEST = 48
"""Entries of an intermediate tensor."""


def pointwise(draw, t: Tensor) -> Tensor:
    function = draw(st.sampled_from([torch.sin, torch.tanh, torch.exp, torch.relu, torch.sigmoid, F.gelu, torch.neg]))
    return function(t * 0.5)


def scale(draw, t: Tensor) -> Tensor:
    return draw(st.sampled_from([lambda x: x * 2, lambda x: x / 3, lambda x: 1 - x, lambda x: x**2, lambda x: x + 1]))(
        t
    )


def with_itself(draw, t: Tensor) -> Tensor:
    return draw(
        st.sampled_from([lambda x: x * x, lambda x: x + x.sum(), lambda x: x * x.mean(), lambda x: x - x.sin()])
    )(t)


def reshape(draw, t: Tensor) -> Tensor:
    n = t.numel()
    first = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0] or [1]))
    return t.reshape(first, -1) if n else t.reshape(0)


def permute(draw, t: Tensor) -> Tensor:
    return t.permute(draw(st.permutations(range(t.dim()))))


def axis_of(draw, t: Tensor) -> int:
    return draw(st.integers(-t.dim(), t.dim() - 1))


def slice_(draw, t: Tensor) -> Tensor:
    if not t.dim():
        return t
    size = t.shape[0]
    start, step = draw(st.integers(0, size)), draw(st.integers(1, 3))
    return t[start::step] if draw(st.booleans()) else t[..., : max(1, t.shape[-1] - 1)]


def select(draw, t: Tensor) -> Tensor:
    if not t.dim() or 0 in t.shape:
        return t
    axis = axis_of(draw, t)
    return t.select(axis, draw(st.integers(-t.shape[axis], t.shape[axis] - 1)))


def index(draw, t: Tensor) -> Tensor:
    if not t.dim() or not t.shape[0]:
        return t
    picks = draw(st.lists(st.integers(-t.shape[0], t.shape[0] - 1), min_size=1, max_size=4))
    return t[torch.tensor(picks)]


def reduce_(draw, t: Tensor) -> Tensor:
    if not t.dim() or 0 in t.shape:
        return t.sum()
    axis, keep = axis_of(draw, t), draw(st.booleans())
    function = draw(st.sampled_from([torch.sum, torch.mean, torch.logsumexp, torch.amax, torch.prod]))
    return function(t, axis, keepdim=keep)


def along(draw, t: Tensor) -> Tensor:
    if not t.dim() or 0 in t.shape:
        return t
    axis = axis_of(draw, t)
    function = draw(st.sampled_from([torch.softmax, F.log_softmax, torch.cumsum, torch.cumprod]))
    return function(t * 0.5, axis)


def matmul(draw, t: Tensor) -> Tensor:
    if not t.dim() or 0 in t.shape:
        return t
    width = draw(st.integers(1, 4))
    return torch.tanh(t @ r(t.shape[-1], width, seed=width)) if draw(st.booleans()) else t @ r(t.shape[-1], seed=3)


def gram(draw, t: Tensor) -> Tensor:
    if not t.numel():
        return t
    flat = t.reshape(t.shape[0], -1) if t.dim() else t.reshape(1, 1)
    return flat @ flat.mT if flat.shape[0] ** 2 <= LARGEST else flat.sum(1)


def convolve(draw, t: Tensor) -> Tensor:
    kernel, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    line = t.reshape(1, 1, -1)
    if line.shape[-1] + 2 * padding < kernel or not t.numel():
        return t
    return F.conv1d(line, r(1, 1, kernel, seed=5), padding=padding, stride=draw(st.integers(1, 2)))[0, 0]


def join(draw, t: Tensor) -> Tensor:
    if not t.dim():
        return torch.stack([t, t * t])
    choice = draw(st.sampled_from(["cat", "stack", "constant", "pad", "roll", "flip", "repeat"]))
    axis = axis_of(draw, t)
    if choice == "cat":
        return torch.cat([t.sin(), t], axis)
    if choice == "stack":
        return torch.stack([t, t * 2], axis)
    if choice == "constant":
        return torch.cat([torch.ones_like(t), t], axis)
    if choice == "pad":
        return F.pad(t, (draw(st.integers(0, 2)), 1))
    if choice == "roll":
        return t.roll(draw(st.integers(-3, 3)), axis)
    return t.flip(axis) if choice == "flip" else t.repeat(*[1] * (t.dim() - 1), 2)


def in_place(draw, t: Tensor) -> Tensor:
    copy = t.clone()
    choice = draw(st.sampled_from(["mul", "add", "view", "fill", "cumsum", "index"]))
    if choice == "mul":
        return copy.mul_(t + 1)
    if choice == "add":
        return copy.add_(t.sin(), alpha=2)
    if choice == "view" and t.dim() and t.shape[0] > 1:
        copy[1:].mul_(t[:1])
        return copy
    if choice == "index" and t.dim() and t.shape[0]:
        return copy.index_put_((torch.tensor([0, -1]),), t[:1] * 3, accumulate=True)
    if choice == "cumsum" and t.dim():
        return copy.cumsum_(0)
    return copy.masked_fill_(t > 0.5, 0.25)


STEPS = [pointwise, scale, with_itself, reshape, permute, slice_, select, index, reduce_, along, matmul, gram, convolve,
         join, in_place]  # fmt: skip


@st.composite
def programs(draw):
    """Shapes of the inputs, and a list of steps with all choices made when first run (so that it can run again)."""
    shape = draw(st.sampled_from([(), (1,), (5,), (2, 3), (3, 1), (4, 3), (2, 1, 3), (0,), (2, 2, 2)]))
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
    return shape, steps, draw(st.booleans())


def run(draw, x: Tensor, y: Tensor, steps, mix: bool) -> Tensor:
    t = x
    for step in steps:
        if t.numel() > LARGEST:
            t = t.reshape(-1)[:LARGEST]
        t = step(draw, t)
    if mix:
        t = t * y if t.dim() else t + y.sum()
    return t


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(programs(), st.data())
def test_random_composition(program, data):
    shape, steps, mix = program
    values = [r(*shape, seed=1), r(1, seed=2)]
    mode = data.draw(st.sampled_from(["auto", "reverse", "forward"]))
    x, y = leaves_of(values)
    output = run(data.draw, x, y, steps, mix)
    if not output.requires_grad or output.numel() > 4 * LARGEST:
        return
    computed = compute(output, [x, y], mode=mode)
    for found, expected in zip(computed.maps, oracle(output, [x, y]), strict=True):
        if bool(expected.isfinite().all()):
            check_map(found, expected, tolerance=1e-7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_products_of_any_shape(p, q, s, transposed):
    def function(a, b):
        product = a @ (b.mT if transposed else b)
        return product.softmax(-1).mT @ product

    b = r(s, q) if transposed else r(q, s)
    check_function(function, [r(p, q), b])
