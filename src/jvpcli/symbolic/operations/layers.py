"""Layers of networks: normalisation, attention, convolution, pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.symbolic.forms import ONE, Lam, NoClosedFormError, atom, fresh, times, total
from jvpcli.symbolic.operations.entries import (
    Dims,
    lam,
    minus,
    over,
    plus,
    raised,
    root,
    scalar,
    square,
    times_of,
    where,
)
from jvpcli.symbolic.operations.matrices import matmul
from jvpcli.symbolic.operations.shapes import chunk, moved, picked, reshaped, spread, squeezed, transposed, unsqueezed
from jvpcli.symbolic.operations.sums import extreme, mean, norm, softmax, var


def normalised(x: Lam, dims: Dims, eps: float) -> Lam:
    """What is left of entries when their mean along axes is taken off and they are divided by their deviation."""
    return over(minus(x, mean(x, dims, True)), root(plus(var(x, dims, False, True), eps)))


def _statistics(x: Lam, dims: Dims, eps: float, keepdim: bool) -> tuple[Lam, Lam]:
    """The mean, and one over the deviation."""
    return mean(x, dims, keepdim), raised(plus(var(x, dims, False, keepdim), eps), -0.5)


def affine(y: Lam, weight: Lam | None, bias: Lam | None) -> Lam:
    y = y if weight is None else times_of(y, weight)
    return y if bias is None else plus(y, bias)


def of_channels(x: Lam | None, rank: int) -> Lam | None:
    """A number for each channel, the second axis of a tensor of that rank."""
    return None if x is None else Lam((*x.over, *(fresh(1) for _ in range(rank - 2))), x.body)


def layer_norm(
    x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5
) -> Lam:
    return affine(normalised(x, list(range(-len(normalized_shape), 0)), eps), weight, bias)


def rms_norm(x: Lam, normalized_shape: Sequence[int], weight: Lam | None = None, eps: float | None = None) -> Lam:
    dims = list(range(-len(normalized_shape), 0))
    squares = mean(square(x), dims, True)  # without eps what is added is as small as rounding
    return affine(over(x, root(squares if eps is None else plus(squares, eps))), weight, None)


def batch_norm(
    x: Lam,
    running_mean: Lam | None,
    running_var: Lam | None,
    weight: Lam | None = None,
    bias: Lam | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Lam:
    rank = len(x.over)
    if training or running_mean is None or running_var is None:
        y = normalised(x, [0, *range(2, rank)], eps)
    else:
        centre, spread = of_channels(running_mean, rank), of_channels(running_var, rank)
        y = over(minus(x, centre), root(plus(spread, eps)))
    return affine(y, of_channels(weight, rank), of_channels(bias, rank))


def instance_norm(
    x: Lam,
    running_mean: Lam | None = None,
    running_var: Lam | None = None,
    weight: Lam | None = None,
    bias: Lam | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Lam:
    rank = len(x.over)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return affine(normalised(x, list(range(2, rank)), eps), of_channels(weight, rank), of_channels(bias, rank))


def normalize(x: Lam, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Lam:
    return over(x, norm(x, p, dim, True))


def attention(
    query: Lam,
    key: Lam,
    value: Lam,
    attn_mask: Lam | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Lam:
    if attn_mask is not None or dropout_p:
        raise NoClosedFormError("attention with a mask or dropout has no index form here")
    scores = matmul(query, transposed(key))
    scores = over(scores, root(lam(query.shape[-1]))) if scale is None else times_of(scores, scale)
    if is_causal:
        rows, columns = map(fresh, scores.shape[-2:])
        until = moved(Lam((rows, columns), ONE), "tril", (0,), scores.shape[-2:])
        scores = where(until, scores, -math.inf)
    return matmul(softmax(scores, -1), value)


def dropout(x: Lam, p: float = 0.5, training: bool = True, inplace: bool = False) -> Lam:
    if training and p:
        raise NoClosedFormError("dropout draws random numbers")
    return x


def group_norm(x: Lam, num_groups: int, weight: Lam | None = None, bias: Lam | None = None, eps: float = 1e-5) -> Lam:
    n, c, *rest = x.shape
    y = reshaped(normalised(reshaped(x, (n, num_groups, c // num_groups * math.prod(rest))), -1, eps), x.shape)
    return affine(y, of_channels(weight, len(x.over)), of_channels(bias, len(x.over)))


def glu(x: Lam, dim: int = -1) -> Lam:
    a, b = chunk(x, 2, dim % len(x.over))
    return times_of(a, scalar("sigmoid")(b))


def _each_axis(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * count if len(values) == 1 else values


Windows = Sequence[Sequence[Sequence[int]]]
"""For each axis of an image, and each window along it, the positions of its entries; outside of the axis there are none."""


def sliding(sizes: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, ceil: bool = False) -> Windows:
    """Windows of one size that move over an image; `padding` is a width for both ends or a pair."""
    n = len(kernel)
    found = []
    for size, k, step, pad, gap in zip(
        sizes, kernel, _each_axis(stride, n), _each_axis(padding, n), _each_axis(dilation, n), strict=True
    ):
        before, after = pad if isinstance(pad, tuple) else (pad, pad)
        room = size + before + after - gap * (k - 1) - 1
        count = (-(-room // step) if ceil else room // step) + 1
        if ceil and (count - 1) * step >= size + before:
            count -= 1
        found.append([[step * at - before + gap * entry for entry in range(k)] for at in range(count)])
    return found


def adaptive(sizes: Sequence[int], output: Any) -> Windows:
    """Windows of which so many cover an image; the shorter ones are filled up with positions outside."""
    found = []
    for size, count in zip(sizes, _each_axis(output, len(sizes)), strict=True):
        count = size if count is None else count
        own = [list(range(k * size // count, -(-(k + 1) * size // count))) for k in range(count)]
        longest = max(map(len, own), default=0)
        found.append([[*window, *[-1] * (longest - len(window))] for window in own])
    return found


def positions(shape: Sequence[int], windows: Windows) -> Tensor:
    """Where entries of windows stand in an image of that shape: its first two axes, where each window is, its entries."""
    places = torch.nn.functional.pad(
        torch.arange(1, math.prod(shape) + 1).reshape(shape), [w for _ in windows for w in (1, 0)]
    )
    n = len(windows)
    for axis, own in enumerate(windows):
        size = shape[2 + axis]
        along = torch.tensor([[p + 1 if 0 <= p < size else 0 for p in window] for window in own])
        places = places.movedim(2, -1)[..., along]  # each axis in its turn is the third, and two behind take its place
    return places.permute(0, 1, *(2 + 2 * k for k in range(n)), *(3 + 2 * k for k in range(n)))


def _batched(x: Lam, rank: int, rule: Callable[[Lam], Lam]) -> Lam:
    """A rule of batches, of one image too."""
    return rule(x) if len(x.over) == rank + 2 else squeezed(rule(unsqueezed(x, 0)), 0)


def _paddings(padding: Any, kernel: Sequence[int], gaps: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """What is put before and behind each axis."""
    if padding == "same":
        return tuple((gap * (k - 1) // 2, -(-gap * (k - 1) // 2)) for gap, k in zip(gaps, kernel, strict=True))
    return tuple((pad, pad) for pad in _each_axis(0 if padding == "valid" else padding, len(kernel)))


def of_windows(
    images: Lam, weight: Lam, stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> Lam:
    """A convolution: Σ over channels and entries of each window."""
    kernel, sizes = weight.shape[2:], images.shape[2:]
    counts = tuple(map(len, sliding(sizes, kernel, stride, padding, dilation)))
    batch, channel, *places = images.over
    out, at, entries = fresh(weight.shape[0]), tuple(map(fresh, counts)), tuple(map(fresh, kernel))
    windows = atom(
        "move", Lam(tuple(places), images.body), at=(*at, *entries),
        params=("windows", kernel, sizes, counts, stride, padding, dilation),
    )  # fmt: skip
    product = times(windows, weight(out, channel, *entries))
    return Lam((batch, out, *at), total(product, (channel, *entries)))


def convolution(n: int) -> Callable[..., Lam]:
    def convolve(
        x: Lam, weight: Lam, bias: Lam | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Lam:
        kernel = weight.shape[2:]
        steps, gaps = _each_axis(stride, n), _each_axis(dilation, n)
        pads = _paddings(padding, kernel, gaps)
        if groups == 1 and all(before == after for before, after in pads):
            ends, channels = tuple(before for before, _ in pads), of_channels(bias, n + 2)
            return _batched(x, n, lambda images: affine(of_windows(images, weight, steps, ends, gaps), None, channels))
        windows = sliding(x.shape[-n:], kernel, stride, pads, dilation)

        def of_batch(images: Lam) -> Lam:
            places = positions(images.shape, windows).unflatten(1, (groups, -1))
            batch, group, channel, *rest = (moving := picked(images, places)).over
            own = reshaped(weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
            out, at, entries = fresh(own.shape[1]), tuple(rest[:n]), tuple(rest[n:])
            product = times(moving.body, own(group, out, channel, *entries))
            y = Lam((batch, group, out, *at), total(product, (channel, *entries)))
            return affine(reshaped(y, (y.shape[0], -1, *y.shape[3:])), None, of_channels(bias, n + 2))

        return _batched(x, n, of_batch)

    return convolve


def transposed_convolution(n: int) -> Callable[..., Lam]:
    def convolve(
        x: Lam,
        weight: Lam,
        bias: Lam | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Lam:
        kernel, channels = weight.shape[2:], weight.shape[1]
        sizes = [
            (size - 1) * step - 2 * pad + gap * (k - 1) + more + 1
            for size, step, pad, gap, k, more in zip(
                x.shape[-n:], _each_axis(stride, n), _each_axis(padding, n), _each_axis(dilation, n), kernel,
                _each_axis(output_padding, n), strict=True,
            )
        ]  # fmt: skip
        windows = [own[:size] for own, size in zip(sliding(sizes, kernel, stride, padding, dilation), x.shape[-n:], strict=True)]

        def of_batch(images: Lam) -> Lam:
            own = reshaped(weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
            each = reshaped(images, (images.shape[0], groups, -1, *images.shape[2:]))
            batch, group, channel, *at = each.over
            out, entries = fresh(channels), tuple(map(fresh, kernel))
            product = Lam(
                (batch, group, out, *at, *entries),
                total(times(each.body, own(group, channel, out, *entries)), (channel,)),
            )
            shape = (images.shape[0], groups * channels, *sizes)
            places = positions(shape, windows).reshape(product.shape)
            return affine(spread(product, places, shape), None, of_channels(bias, n + 2))

        return _batched(x, n, of_batch)

    return convolve


def average_pooling(n: int) -> Callable[..., Lam]:
    def pool(
        x: Lam,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Lam:
        if divisor_override is not None or not (count_include_pad or padding in (0, (0,))):
            raise NoClosedFormError("a mean that leaves the padding out has no index form here")
        kernel = _each_axis(kernel_size, n)
        windows = sliding(x.shape[-n:], kernel, stride or kernel, padding, 1)
        if ceil_mode and windows != sliding(x.shape[-n:], kernel, stride or kernel, padding, 1, True):
            raise NoClosedFormError("a mean over windows that go beyond the padding has no index form here")
        return _batched(x, n, lambda images: mean(picked(images, positions(images.shape, windows)), list(range(-n, 0))))

    return pool


def largest_of(x: Lam, windows: Windows) -> Lam:
    """The largest entry of each window."""

    def of_batch(images: Lam) -> Lam:
        return extreme("amax")(picked(images, positions(images.shape, windows), -math.inf), list(range(-n, 0)))

    n = len(windows)
    return _batched(x, n, of_batch)


def max_pooling(n: int) -> Callable[..., Any]:
    def pool(
        x: Lam,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        kernel = _each_axis(kernel_size, n)
        found = largest_of(x, sliding(x.shape[-n:], kernel, stride or kernel, padding, dilation, ceil_mode))
        return (found, None) if return_indices else found

    return pool


def adaptive_max_pooling(n: int) -> Callable[..., Any]:
    def pool(x: Lam, output_size: Any, return_indices: bool = False) -> Any:
        found = largest_of(x, adaptive(x.shape[-n:], output_size))
        return (found, None) if return_indices else found

    return pool


def local_response_norm(x: Lam, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Lam:
    windows = sliding(x.shape[1:2], (size,), 1, ((size // 2, (size - 1) // 2),), 1)
    rows = transposed(reshaped(x, (x.shape[0], x.shape[1], -1)), 1, 2)
    near = mean(square(picked(rows, positions(rows.shape, windows))), -1)
    factor = raised(plus(times_of(near, alpha), k), -beta)
    return times_of(x, reshaped(transposed(factor, 1, 2), x.shape))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{f"conv{n}d": convolution(n) for n in (1, 2, 3)}, **{f"avg_pool{n}d": average_pooling(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": transposed_convolution(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d{more}": max_pooling(n) for n in (1, 2, 3) for more in ("", "_with_indices")},
    **{f"adaptive_max_pool{n}d": adaptive_max_pooling(n) for n in (1, 2, 3)}, "local_response_norm": local_response_norm,
    "instance_norm": instance_norm, "feature_alpha_dropout": dropout,
    "native_layer_norm": lambda x, shape, weight, bias, eps: (
        layer_norm(x, shape, weight, bias, eps), *_statistics(x, list(range(-len(shape), 0)), eps, True)
    ),
    "native_group_norm": lambda x, weight, bias, n, c, rest, groups, eps: (
        group_norm(x, groups, weight, bias, eps),
        *map(scalar("detach"), _statistics(reshaped(x, (n, groups, -1)), -1, eps, False)),
    ),
    "native_batch_norm": lambda x, weight, bias, centre, spread, training, momentum, eps: (
        batch_norm(x, centre, spread, weight, bias, training, momentum, eps),
        *(_statistics(x, [0, *range(2, len(x.over))], eps, False) if training else (None, None)),
    ), "dropout": dropout, "group_norm": group_norm,
    "glu": glu, "dropout1d": dropout, "dropout2d": dropout, "dropout3d": dropout, "alpha_dropout": dropout,
    "layer_norm": layer_norm, "rms_norm": rms_norm, "batch_norm": batch_norm, "normalize": normalize,
    "scaled_dot_product_attention": attention,
}  # fmt: skip
