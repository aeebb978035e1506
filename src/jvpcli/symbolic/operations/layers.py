"""Layers of networks: normalisation, attention, convolution, pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from jvpcli.symbolic.forms import Lam, NoClosedFormError, fresh, times, total
from jvpcli.symbolic.operations.entries import lam, minus, over, plus, root, scalar, square, times_of
from jvpcli.symbolic.operations.matrices import matmul
from jvpcli.symbolic.operations.shapes import chunk, picked, reshaped, squeezed, transposed, unsqueezed
from jvpcli.symbolic.operations.sums import extreme, mean, norm, softmax, var


def layer_norm(
    x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5
) -> Lam:
    dims = list(range(-len(normalized_shape), 0))
    y = over(minus(x, mean(x, dims, True)), root(plus(var(x, dims, False, True), eps)))
    y = y if weight is None else times_of(y, weight)
    return y if bias is None else plus(y, bias)


def rms_norm(x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, eps: float | None = None) -> Lam:
    dims = list(range(-len(normalized_shape), 0))
    if eps is None:
        raise NoClosedFormError("rms_norm adds an eps that depends on the dtype: give eps")
    y = over(x, root(plus(mean(square(x), dims, True), eps)))
    return y if weight is None else times_of(y, weight)


def batch_norm(
    x: Lam,
    running_mean: Lam,
    running_var: Lam,
    weight: Lam | None = None,
    bias: Lam | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Lam:
    if training:
        raise NoClosedFormError("batch_norm in training has no index form here")

    def channel(p: Lam) -> Lam:
        return Lam((*p.over, *(fresh(1) for _ in x.over[2:])), p.body)

    y = over(minus(x, channel(running_mean)), root(plus(channel(running_var), eps)))
    y = y if weight is None else times_of(y, channel(weight))
    return y if bias is None else plus(y, channel(bias))


def normalize(x: Lam, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Lam:
    return over(x, norm(x, p, dim, True))


def attention(
    query: Lam,
    key: Lam,
    value: Lam,
    attn_mask: None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Lam:
    if attn_mask is not None or dropout_p or is_causal:
        raise NoClosedFormError("attention with a mask or dropout has no index form here")
    scores = matmul(query, transposed(key))
    scores = over(scores, root(lam(query.shape[-1]))) if scale is None else times_of(scores, scale)
    return matmul(softmax(scores, -1), value)


def dropout(x: Lam, p: float = 0.5, training: bool = True, inplace: bool = False) -> Lam:
    if training and p:
        raise NoClosedFormError("dropout draws random numbers")
    return x


def group_norm(x: Lam, num_groups: int, weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5) -> Lam:
    n, c, *rest = x.shape
    groups = reshaped(x, (n, num_groups, c // num_groups * math.prod(rest)))
    y = over(minus(groups, mean(groups, -1, True)), root(plus(var(groups, -1, False, True), eps)))
    y = reshaped(y, x.shape)
    for factor, combine in ((weight, times_of), (bias, plus)):
        if factor is not None:
            y = combine(y, Lam((*factor.over, *(fresh(1) for _ in rest)), factor.body))
    return y


def glu(x: Lam, dim: int = -1) -> Lam:
    a, b = chunk(x, 2, dim % len(x.over))
    return times_of(a, scalar("sigmoid")(b))


def _each_axis(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * count if len(values) == 1 else values


def patches(x: Lam, kernel: Sequence[int], stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Lam:
    """The windows of an image: its first two axes, then where each stands, then its entries (0 in the padding)."""
    n = len(kernel)
    strides, widths, gaps = (_each_axis(v, n) for v in (stride, padding, dilation))
    places = torch.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
    places = torch.nn.functional.pad(places, [w for width in reversed(widths) for w in (width, width)])
    for k in range(n):
        places = places.unfold(2 + k, (kernel[k] - 1) * gaps[k] + 1, strides[k])[..., :: gaps[k]]
    return picked(x, places)


def convolution(n: int) -> Callable[..., Lam]:
    def convolve(
        x: Lam,
        weight: Lam,
        bias: Lam | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Lam:
        if groups != 1 or isinstance(padding, str):
            raise NoClosedFormError("a convolution in groups, or with padding by a word, has no index form here")
        if len(x.over) == n + 1:
            return squeezed(convolve(unsqueezed(x, 0), weight, bias, stride, padding, dilation), 0)
        windows = patches(x, weight.shape[2:], stride, padding, dilation)
        batch, channel, *rest = windows.over
        out = fresh(weight.shape[0])
        places, entries = tuple(rest[:n]), tuple(rest[n:])
        y = Lam(
            (batch, out, *places), total(times(windows.body, weight(out, channel, *entries)), (channel, *entries))
        )
        return y if bias is None else plus(y, Lam((*bias.over, *(fresh(1) for _ in places)), bias.body))

    return convolve


def pooling(n: int, pool: Callable[..., Lam]) -> Callable[..., Lam]:
    def pooled(x: Lam, kernel_size: Any, stride: Any = None, padding: Any = 0, *others: Any, **more: Any) -> Lam:
        if (
            (any(others)
            and others != (1,))
            or any(_each_axis(padding, 1))
            or any(v not in (False, None, 1, (1,), True) for v in more.values())
            or more.get("ceil_mode")
        ):
            raise NoClosedFormError("a pooling with padding, dilation or ceil_mode has no index form here")
        kernel = _each_axis(kernel_size, n)
        if len(x.over) == n + 1:
            return squeezed(pooled(unsqueezed(x, 0), kernel, stride), 0)
        return pool(patches(x, kernel, kernel if stride is None or stride == [] else stride), list(range(-n, 0)))

    return pooled


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{f"conv{n}d": convolution(n) for n in (1, 2, 3)}, **{f"avg_pool{n}d": pooling(n, mean) for n in (1, 2, 3)},
    **{f"max_pool{n}d": pooling(n, extreme("amax")) for n in (1, 2, 3)}, "dropout": dropout, "group_norm": group_norm,
    "glu": glu, "dropout1d": dropout, "dropout2d": dropout, "dropout3d": dropout, "alpha_dropout": dropout,
    "layer_norm": layer_norm, "rms_norm": rms_norm, "batch_norm": batch_norm, "normalize": normalize,
    "scaled_dot_product_attention": attention,
}  # fmt: skip
