"""Convolutions, forwards and transposed: taps at index arrays for the input, the unfolded input for the weight."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Locals, Op, Rule
from jvpcli.jacobians.local.windows import grid, taps_along
from jvpcli.jacobians.sparse_map import Pattern, SparseMap


def convolution(op: Op) -> Locals:
    """y[n, o, p] = bias[o] + Σ_{c, k} w[o, c, k]·x[n, c, p·stride + k·dilation − padding]."""
    x, w = op.saved("input"), op.saved("weight")
    transposed, groups = bool(op.saved("transposed")), int(op.saved("groups"))
    settings = [tuple(op.saved(name)) for name in ("stride", "padding", "dilation")]
    kernel, places = tuple(w.shape[2:]), op.shape[2:]
    settings = [setting * len(kernel) if len(setting) == 1 else setting for setting in settings]  # one number for all axes
    key = op.work.key("convolution", tuple(x.shape), tuple(w.shape), op.shape, transposed, groups, *settings)

    def along_axes() -> list[tuple[Tensor, Tensor]]:
        return [
            taps_along(x.shape[2 + d], places[d], kernel[d], *(s[d] for s in settings), transposed=transposed, device=x.device)
            for d in range(len(kernel))
        ]

    taps = op.work.structure(op.work.key("taps", key), along_axes)
    sizes = {0: op.shape[0], 1: op.shape[1], 2: prod(places)}
    return op.pieces(
        lambda shape: _to_input(op, shape, key, w.detach(), taps, transposed, groups),
        lambda shape: _to_weight(op, shape, x.detach(), taps, transposed, groups),
        lambda bias: op.regular(bias, (0, 1, 2), (1,), sizes),
    )


def _used(place: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, of as many taps as an output place has at most: which they are, where they read, and whether they do.

    A transposed convolution with a stride has one tap in so many at each place.
    """
    width = int(inside.sum(0).max()) if inside.numel() else len(inside)
    if width == len(inside):
        return torch.arange(width, device=place.device)[:, None].expand(place.shape), place, inside
    order = inside.to(torch.uint8).argsort(dim=0, descending=True, stable=True)[: max(1, width)]
    return order, place.gather(0, order), inside.gather(0, order)


def _to_input(
    op: Op, shape: Shape, key: int | None, w: Tensor, taps: Sequence[tuple[Tensor, Tensor]], transposed: bool, groups: int
) -> SparseMap:
    batch, channels, sizes = shape[0], shape[1], shape[2:]
    per_group, out_channels = channels // groups, op.shape[1]
    lengths, places = [len(place) for place, _ in taps], prod(op.shape[2:])
    used = op.work.structure(op.work.key("used taps", key), lambda: [_used(*tap) for tap in taps])
    kernel = prod(len(which) for which, _, _ in used)
    dims = (per_group, kernel, batch, out_channels, places)
    op.work.reserve(prod(dims), 8 + op.like.element_size())

    def make() -> tuple[Pattern, Tensor, Tensor | None]:
        place, inside = grid([(place, inside) for _, place, inside in used], sizes)
        which = None
        if kernel < prod(lengths):
            which, _ = grid([(which, inside) for which, _, inside in used], lengths)
        place, inside = place.reshape(1, kernel, 1, 1, places), inside.reshape(1, kernel, 1, 1, places)
        group = torch.arange(out_channels, device=w.device) // (out_channels // groups) * per_group
        channel = group.view(1, 1, 1, -1, 1) + torch.arange(per_group, device=w.device).view(-1, 1, 1, 1, 1)
        sample = torch.arange(batch, device=w.device).view(1, 1, -1, 1, 1) * (channels * prod(sizes))
        cols = (sample + channel * prod(sizes) + place).expand(dims).reshape(per_group * kernel, -1)
        return Pattern(None, cols, padded=not bool(inside.all()), key=key), inside, which

    pattern, inside, which = op.work.structure(key, make)
    if transposed:  # (in, out/groups, kernel): each output channel sees its group's part
        weight = w.reshape(groups, per_group, out_channels // groups, -1).permute(1, 3, 0, 2)
    else:
        weight = w.reshape(groups, out_channels // groups, per_group, -1).permute(2, 3, 0, 1)
    weight = weight.reshape(per_group, -1, 1, out_channels, 1)
    if which is not None:
        weight = weight[:, which, 0, :, 0].permute(0, 1, 3, 2).unsqueeze(2)
    values = (weight * inside if pattern.padded else weight).expand(dims).reshape(per_group * kernel, -1)
    return SparseMap(op.shape, shape, op.like, pattern, values)


def _to_weight(
    op: Op, shape: Shape, x: Tensor, taps: Sequence[tuple[Tensor, Tensor]], transposed: bool, groups: int
) -> KroneckerMap:
    kernel, places = prod(t[0].shape[0] for t in taps), prod(op.shape[2:])
    place, inside = grid(taps, x.shape[2:])
    batch, per_group, out_group = x.shape[0], x.shape[1] // groups, op.shape[1] // groups
    op.work.reserve(x.shape[0] * x.shape[1] * kernel * places, op.like.element_size())
    flat = x.reshape(batch, groups, per_group, -1)
    patches = flat[..., place.reshape(-1)].reshape(batch, groups, per_group, kernel, places)
    patches = patches * inside.reshape(kernel, places)
    n, g, o, c, k, p = range(6)
    sizes = {n: batch, g: groups, o: out_group, c: per_group, k: kernel, p: places}
    inn = (g, c, o, k) if transposed else (g, o, c, k)
    return op.regular(shape, (n, g, o, p), inn, sizes, [Factor(patches, (n, g, c, k, p))])


RULES: dict[str, Rule] = {"Convolution": convolution}
