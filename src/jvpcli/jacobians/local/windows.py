"""Linear operations of each spatial axis by itself: average pooling and interpolation.

The map is a delta on the leading axes times a matrix A_d (places, size) for each spatial axis, the same for every
image.  Of pooling the windows follow from the parameters, and one number for each window is all that is asked.
Otherwise each A_d is found by few calls of the node: seeds on one line of the image, at every c-th place of the axis,
so that no two of them share an entry.  c is guessed from the sizes and doubled until an independent call agrees.
"""

from __future__ import annotations

from math import ceil, prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import kronecker
from jvpcli.jacobians.labels import affine_index
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import pusher
from jvpcli.jacobians.local.node import Locals, Node, NoRuleError, Op, Rule
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term

NAMES = {
    "AvgPool2D": 2,
    "AvgPool3D": 3,
    "AdaptiveAvgPool2D": 2,
    "AdaptiveAvgPool3D": 3,
    "UpsampleLinear1D": 1,
    "UpsampleBilinear2D": 2,
    "UpsampleBilinear2DAa": 2,
    "UpsampleBicubic2D": 2,
    "UpsampleBicubic2DAa": 2,
    "UpsampleTrilinear3D": 3,
}
"""Backward node to its number of spatial axes."""


def windows(op: Op) -> Locals:
    """Σ over a window of each spatial axis."""
    shape = op.shapes[0]
    assert shape is not None
    dims = NAMES[op.node.name().partition("Backward")[0]]
    saved = [getattr(op.node, name) for name in dir(op.node) if name.startswith("_saved_")]
    parameters = tuple([s for s in saved if not isinstance(s, Tensor)])
    key = op.work.key("windows", op.node.name(), shape, op.shape, op.like.dtype, op.like.device, parameters)
    return op.first(op.work.structure(key, lambda: _windows(op, shape, dims, key)))


def _windows(op: Op, shape: Shape, dims: int, key: int | None) -> SparseMap:
    outer = len(shape) - dims
    if shape[:outer] != op.shape[:outer]:
        raise NoRuleError("the leading axes differ")
    make = _interpolated if "Upsample" in op.node.name() else _averaged
    places, values = make(op, shape, dims)
    op.work.reserve(places.shape[0] * prod(op.shape), 8 + op.like.element_size())
    return _of_each(op.shape, shape, op.like, places, values, key)


def _of_each(out_shape: Shape, shape: Shape, like: Tensor, places: Tensor, values: Tensor, key: int | None) -> SparseMap:
    """The map of every image, from places and weights (k, output places) in one."""
    k, size = places.shape[0], prod(shape) // max(1, prod(out_shape) // max(1, places.shape[1]))
    batch = prod(out_shape) // max(1, places.shape[1])
    samples = torch.arange(batch, device=like.device)[:, None] * size
    cols = (places[:, None, :] + samples).reshape(k, -1)
    values = values[:, None, :].to(like.dtype).expand(k, batch, -1).reshape(k, -1)
    return SparseMap(out_shape, shape, like, Pattern(None, cols, padded=bool((values == 0).any()), key=key), values)


def windows_of_node(node: Node, term: Term) -> Term:
    """All entries that a pool, or a sampling at places of a grid, might read: 1 for each."""
    shape, out_shape, dims = term.in_shape, term.out_shape, 3 if "3D" in node.name() else 2
    outer = len(shape) - dims
    if "MaxPool" in node.name() and "Fractional" not in node.name():
        axes_ = _windows_along(node, shape[outer:], out_shape[outer:], term.like.device)
        return _of_each(out_shape, shape, term.like, *_grid(axes_, shape[outer:]), None)
    sizes = {**dict(enumerate(shape)), **{len(shape) + d: out_shape[d] for d in range(outer, len(shape))}}
    out = [d if d < outer else len(shape) + d for d in range(len(shape))]
    return kronecker(out_shape, shape, out, range(len(shape)), sizes, term.like)


def _windows_along(node: Node, sizes: Shape, places: Shape, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Along each spatial axis the input places of each output place (taps, places), and 1 where there is one, else 0."""
    kernels, strides, paddings, dilations = (
        tuple(getattr(node, f"_saved_{name}", ())) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    axes_ = []
    for d, (size, count) in enumerate(zip(sizes, places, strict=True)):
        out = torch.arange(count, device=device)
        step = dilations[d % len(dilations)] if dilations else 1
        if kernels:
            kernel, stride, padding = (p[d % len(p)] if p else kernels[d] for p in (kernels, strides, paddings))
            start = out * stride - padding
            stop = start + (kernel - 1) * step + 1
        else:  # adaptive
            start = torch.div(out * size, count, rounding_mode="floor")
            stop = torch.div((out + 1) * size + count - 1, count, rounding_mode="floor")
        stop = stop.clamp(max=size)
        taps = start + torch.arange(0, int((stop - start).max()), step, device=device)[:, None]
        inside = (taps >= 0) & (taps < stop)
        first = inside.to(torch.uint8).argmax(0, keepdim=True)
        axes_.append((torch.where(inside, taps, taps.gather(0, first)), inside.to(torch.float64)))
    return axes_


def _averaged(op: Op, shape: Shape, dims: int) -> tuple[Tensor, Tensor]:
    """Every entry of a window weighs the same: the sum of the weights, which pushing ones gives, over their number."""
    place, weight = _grid(_windows_along(op.node, shape[-dims:], op.shape[-dims:], op.like.device), shape[-dims:])
    ones = torch.ones(shape, dtype=op.node._input_metadata[op.nr].dtype, device=op.like.device)
    sums = pusher(op, 0)(ones).reshape(-1, place.shape[1])[0]
    return place, weight * (sums / weight.sum(0))


def _interpolated(op: Op, shape: Shape, dims: int) -> tuple[Tensor, Tensor]:
    """The nonzeros of the product of the axes' matrices."""
    outer = len(shape) - dims
    middle = tuple([size // 2 for size in op.shape[outer:]])
    image = op.pull(_seed(op, outer, middle))[0]
    if image is None:
        raise NoRuleError("no gradient")
    image = image.reshape(-1, *shape[outer:])[0]
    best = int(image.abs().argmax())
    where = tuple([best // prod(image.shape[d + 1 :]) % image.shape[d] for d in range(dims)])
    strongest = image[where]  # Π A_d[middle_d, where_d]
    axes = [_axis(op, outer, middle, where, d, image.shape[d]) for d in range(dims)]
    places, values = _grid(axes, shape[outer:])
    return places, values if dims == 1 else values / strongest ** (dims - 1)


def _seed(op: Op, outer: int, middle: tuple[int, ...], axis: int = 0, line: Tensor | None = None) -> Tensor:
    """Zero but at one place of every image, or on the line through it along a spatial axis."""
    meta = op.node._input_metadata[op.nr]
    seed = torch.zeros(op.shape, dtype=meta.dtype, device=meta.device)
    place: list[int | slice] = [slice(None)] * outer + list(middle)
    if line is None:
        seed[tuple(place)] = 1
    else:
        place[outer + axis] = slice(None)
        seed[tuple(place)] = line.to(meta.dtype)
    return seed


def _axis(
    op: Op, outer: int, middle: tuple[int, ...], where: tuple[int, ...], axis: int, size: int
) -> tuple[Tensor, Tensor]:
    """A_d times the other axes' factors at one place: for each output place its taps (k, places) and their weights."""
    count = op.shape[outer + axis]
    line = tuple([slice(None) if d == axis else w for d, w in enumerate(where)])

    def pull(seed: Tensor) -> Tensor:
        grad = op.pull(_seed(op, outer, middle, axis, seed))[0]
        assert grad is not None
        return grad.reshape(-1, *op.shapes[0][outer:])[0][line]  # type: ignore[index]

    numbers = torch.arange(count, device=op.like.device)
    test = torch.linspace(1, 2, count, dtype=torch.float64, device=op.like.device).sin() * (1 - 2 * (numbers % 2))
    answer = pull(test).double()
    step = ceil(count / size) * (4 if "Bicubic" in op.node.name() else 2)
    while True:
        matrix = answer.new_zeros((count, size))
        for first in range(min(step, count)):
            hot = (numbers % step == first).to(op.like.dtype)
            values = pull(hot).double()
            coded = pull(hot * (numbers // step)).double() if step < count else values * 0
            row = (coded / torch.where(values == 0, 1.0, values)).round().to(torch.int64) * step + first
            cols = values.nonzero().reshape(-1)
            matrix[row[cols].clamp(0, count - 1), cols] = values[cols]
        tolerance = 64 * torch.finfo(op.node._input_metadata[op.nr].dtype).eps
        if step >= count or bool(((test @ matrix - answer).abs() <= tolerance * (test.abs() @ matrix.abs())).all()):
            return _taps(matrix)
        step *= 2


def _taps(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The nonzeros of each row (k, places), and their weights; short rows repeat a place with weight zero."""
    rows, cols = matrix.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=matrix.shape[0])
    within = torch.arange(rows.numel(), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    width = max(int(counts.max()), 1)
    place = cols.new_zeros((width, matrix.shape[0]))
    place[0, rows[within == 0]] = cols[within == 0]
    place = place[:1].expand(width, -1).clone()
    weight = matrix.new_zeros(place.shape)
    place[within, rows], weight[within, rows] = cols, matrix[rows, cols]
    return place, weight


def _grid(axes: list[tuple[Tensor, Tensor]], sizes: Shape) -> tuple[Tensor, Tensor]:
    """Flat input place and weight over (taps of every axis, output places of every axis)."""
    dims = len(axes)
    place = affine_index(0, (1,) * (2 * dims), [0] * (2 * dims), axes[0][0].device)
    weight = axes[0][1].new_ones((1,) * (2 * dims))
    for d, (places, weights) in enumerate(axes):
        grid = [1] * (2 * dims)
        grid[d], grid[dims + d] = places.shape
        place = place + places.view(grid) * prod(sizes[d + 1 :])
        weight = weight * weights.view(grid)
    taps = prod(place.shape[:dims])
    return place.reshape(taps, -1), weight.reshape(taps, -1)


RULES: dict[str, Rule] = dict.fromkeys(NAMES, windows)
