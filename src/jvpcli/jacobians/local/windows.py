"""Linear operations of each spatial axis by itself: average pooling and interpolation; and sampling at the places of a grid.

The map is a delta on the leading axes times a matrix A_d (places, size) for each spatial axis, the same for every
image.  Of pooling the windows follow from the parameters, and one number for each window is all that is asked.
Otherwise each A_d is found by interpolating lines that are not zero at every c-th place, so that no two of those are read
together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import kronecker
from jvpcli.jacobians.labels import affine_index
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.detect import agrees, block_terms, listed, pusher
from jvpcli.jacobians.local.node import Locals, Node, NoRuleError, Op, Rule
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term

INTERPOLATIONS = {
    "UpsampleLinear1D": ("upsample_linear1d", "scales"),
    "UpsampleBilinear2D": ("upsample_bilinear2d", "scales_h", "scales_w"),
    "UpsampleBilinear2DAa": ("_upsample_bilinear2d_aa", "scales_h", "scales_w"),
    "UpsampleBicubic2D": ("upsample_bicubic2d", "scales_h", "scales_w"),
    "UpsampleBicubic2DAa": ("_upsample_bicubic2d_aa", "scales_h", "scales_w"),
    "UpsampleTrilinear3D": ("upsample_trilinear3d", "scales_d", "scales_h", "scales_w"),
}
"""Backward node to torch's function, and what the scale of each spatial axis is saved as."""

NAMES = {
    "AvgPool2D": 2,
    "AvgPool3D": 3,
    "AdaptiveAvgPool2D": 2,
    "AdaptiveAvgPool3D": 3,
    **{name: len(scales) for name, (_, *scales) in INTERPOLATIONS.items()},
}
"""Backward node to its number of spatial axes."""


LINES = 4
"""Interpolating lines takes so many times the entries of the whole map at most: else the operation is called for each place."""


def windows(op: Op) -> Locals:
    """Σ over a window of each spatial axis."""
    shape = op.operand
    dims = NAMES[operation(op.node)]
    saved = [getattr(op.node, name) for name in dir(op.node) if name.startswith("_saved_")]
    parameters = tuple([s for s in saved if not isinstance(s, Tensor)])
    key = op.work.key("windows", op.node.name(), shape, op.shape, op.like.dtype, op.like.device, parameters)
    return op.first(op.work.structure(key, lambda: _windows(op, shape, dims, key)))


def _windows(op: Op, shape: Shape, dims: int, key: int | None) -> SparseMap:
    outer = len(shape) - dims
    if shape[:outer] != op.shape[:outer]:
        raise NoRuleError("the leading axes differ")
    if operation(op.node) in INTERPOLATIONS:  # the nonzeros of the product of the axes' matrices
        places, values = grid([_axis(op, dims, d) for d in range(dims)], shape[-dims:])
    else:
        places, values = _averaged(op, shape, dims)
    op.work.reserve(places.shape[0] * prod(op.shape), 8 + op.like.element_size())
    found = _of_each(op.shape, shape, op.like, places, values, key)
    if not agrees(op, 0, [found]):  # torch copies what keeps its size: not both ways, and not on a line alone
        raise NoRuleError("another map on the way back")
    return found


def _of_each(out_shape: Shape, shape: Shape, like: Tensor, places: Tensor, values: Tensor, key: int | None) -> SparseMap:
    """The map of every image, from places and weights (k, output places) in one."""
    k, size = places.shape[0], prod(shape) // max(1, prod(out_shape) // max(1, places.shape[1]))
    batch = prod(out_shape) // max(1, places.shape[1])
    samples = torch.arange(batch, device=like.device)[:, None] * size
    cols = (places[:, None, :] + samples).reshape(k, -1)
    values = values[:, None, :].to(like.dtype).expand(k, batch, -1).reshape(k, -1)
    return SparseMap(out_shape, shape, like, Pattern(None, cols, padded=bool((values == 0).any()), key=key), values)


def windows_of_node(node: Node, term: Term) -> Term:
    """All entries that a pool might read: 1 for each."""
    shape, out_shape, dims = term.in_shape, term.out_shape, 3 if "3D" in node.name() else 2
    outer = len(shape) - dims
    if "MaxPool" in node.name() and "Fractional" not in node.name():
        axes_ = _windows_along(node, shape[outer:], out_shape[outer:], term.like.device)
        return _of_each(out_shape, shape, term.like, *grid(axes_, shape[outer:]), None)
    sizes = {**dict(enumerate(shape)), **{len(shape) + d: out_shape[d] for d in range(outer, len(shape))}}
    out = [d if d < outer else len(shape) + d for d in range(len(shape))]
    return kronecker(out_shape, shape, out, range(len(shape)), sizes, term.like)


def _windows_along(node: Node, sizes: Shape, places: Shape, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Along each spatial axis the input places of each output place (taps, places), and 1 where there is one, else 0."""
    names = ("kernel_size", "stride", "padding", "dilation")
    kernels, strides, paddings, dilations = (tuple(getattr(node, f"_saved_{name}", ())) for name in names)
    axes_ = []
    for d, (size, count) in enumerate(zip(sizes, places, strict=True)):
        if kernels:
            settings = zip((kernels, strides, paddings, dilations), (1, kernels[d], 0, 1), strict=True)
            place, inside = taps_along(size, count, *[p[d % len(p)] if p else default for p, default in settings], device=device)
        else:  # adaptive
            out = torch.arange(count, device=device)
            start = torch.div(out * size, count, rounding_mode="floor")
            stop = torch.div((out + 1) * size + count - 1, count, rounding_mode="floor")
            place = start + torch.arange(int((stop - start).max()), device=device)[:, None]
            place, inside = _named(place, place < stop, size)
        axes_.append((place, inside.to(torch.float64)))
    return axes_


def taps_along(
    size: int,
    places: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    *,
    device: torch.device,
    transposed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Along one axis: the input place of each tap and output place (kernel, places), and whether there is one."""
    out, tap = torch.arange(places, device=device), torch.arange(kernel, device=device)[:, None] * dilation
    if transposed:
        shifted = out + padding - tap
        place = torch.div(shifted, stride, rounding_mode="floor")
        return _named(place, (place * stride == shifted) & (place >= 0) & (place < size), size)
    place = out * stride + tap - padding
    return _named(place, (place >= 0) & (place < size), size)


def _named(place: Tensor, inside: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A tap outside is given the place of the first one that is inside: it names no new place, and has weight zero."""
    first = inside.to(torch.uint8).argmax(0, keepdim=True)
    return torch.where(inside, place, place.gather(0, first).clamp(0, size - 1)), inside


def _averaged(op: Op, shape: Shape, dims: int) -> tuple[Tensor, Tensor]:
    """Every entry of a window weighs the same: the sum of the weights, which pushing ones gives, over their number."""
    place, weight = grid(_windows_along(op.node, shape[-dims:], op.shape[-dims:], op.like.device), shape[-dims:])
    ones = torch.ones(shape, dtype=op.node._input_metadata[op.nr].dtype, device=op.like.device)
    sums = pusher(op, 0)(ones).reshape(-1, place.shape[1])[0]
    return place, weight * (sums / weight.sum(0))


def _axis(op: Op, dims: int, axis: int) -> tuple[Tensor, Tensor]:
    """For each output place of an axis its taps (k, places) and their weights: all axes are interpolated as the last one is."""
    call, *scales = INTERPOLATIONS[operation(op.node)]
    size, count, before = op.operand[axis - dims], op.shape[axis - dims], [1] * (dims - 1)

    def interpolate(lines: Tensor) -> Tensor:
        along = [None] * (dims - 1) + [getattr(op.node, f"_saved_{scales[axis]}")]
        corners = bool(op.node._saved_align_corners)
        found: Tensor = getattr(torch.ops.aten, call)(lines.view(1, -1, *before, size), [*before, count], corners, *along)
        return found.view(-1, count)

    numbers = torch.arange(size, device=op.like.device)
    dtype = op.node._input_metadata[op.nr].dtype
    dtype = torch.float32 if dtype.itemsize == 2 else dtype
    step = (4 if "bicubic" in call else 2) * (ceil(size / max(1, count)) if call.endswith("_aa") else 1)
    if min(step, size) * (size + count) > LINES * prod(op.operand[-dims:]) * prod(op.shape[-dims:]):
        raise NoRuleError("few places, each of much")
    while True:
        found = read_apart(interpolate, numbers % min(step, size), op.like.new_empty(0, dtype=dtype))
        if found is not None:
            return _together(*found)
        if step >= size:
            raise NoRuleError("not a sum of weighed entries")
        step *= 2


def read_apart(read: Callable[[Tensor], Tensor], colors: Tensor, like: Tensor) -> tuple[Tensor, Tensor] | None:
    """The places and the weights (colors, answers) of what `read` makes of many lines: sums of a few weighed entries of each.

    Entries of one color are not read together; None where some are. So a line of ones at those, and one of their numbers, tell
    which of them is read; a line of other numbers tells whether that is all.
    """
    count, numbers = 1 + int(colors.max()), torch.arange(len(colors), device=colors.device)
    test = (torch.linspace(1, 2, len(colors), dtype=like.dtype, device=colors.device).sin() * (1 - 2 * (numbers % 2)))[None]
    hot = (colors == torch.arange(count, device=colors.device)[:, None]).to(like.dtype)
    answers = read(torch.cat([hot, hot * numbers, test]))
    weights, coded, answer = answers[:count], answers[count:-1], answers[-1]
    places = (coded / torch.where(weights == 0, 1.0, weights)).round().long().clamp(0, len(colors) - 1)
    products = weights * test[0][places]
    bound = products.abs().sum(0) * (64 * torch.finfo(like.dtype).eps)
    return (places, weights) if bool(((products.sum(0) - answer).abs() <= bound).all()) else None


def _together(places: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Only what has weight, by places; short rows repeat a place with weight zero."""
    silent = weights == 0
    order = places.masked_fill(silent, int(places.max()) + 1).argsort(0)[: max(1, int((~silent).sum(0).max()))]
    places, weights = places.gather(0, order), weights.gather(0, order)
    return torch.where(weights == 0, places[:1], places), weights


def grid(axes: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Flat input place, and weight or whether there is one, over (taps of all axes, output places of all axes)."""
    dims = len(axes)
    place = affine_index(0, (1,) * (2 * dims), [0] * (2 * dims), axes[0][0].device)
    weight = axes[0][1].new_ones((1,) * (2 * dims))
    for d, (places, weights) in enumerate(axes):
        here = [1] * (2 * dims)
        here[d], here[dims + d] = places.shape
        place = place + places.view(here) * prod(sizes[d + 1 :])
        weight = weight * weights.view(here)
    taps = prod(place.shape[:dims])
    return place.reshape(taps, -1), weight.reshape(taps, -1)


def sampled(op: Op) -> Locals:
    """F.grid_sample: to the image by neighbours of each place of the grid, to the grid by blocks of its coordinates."""
    dims = 3 if "3D" in op.node.name() else 2
    shape = op.shapes[0]
    result: list[tuple[Term, ...] | None] = [None, None]
    if shape is not None:
        result[0] = _neighbours(op, shape, op.saved("grid").detach())
    if op.shapes[1] is not None:
        result[1] = block_terms(op, 1, {0: 0, **{2 + d: 1 + d for d in range(dims)}})
    return result


def _neighbours(op: Op, shape: Shape, grid: Tensor) -> tuple[Term, ...]:
    """The weight of a neighbour is the product of its weights along each axis."""
    like, taps, dims = grid.new_empty(0), 4 if op.node._saved_interpolation_mode == 2 else 2, grid.shape[-1]
    if grid.dtype.itemsize == 2:  # it is rounded to on the way, and numbers of places don't fit into it
        raise NoRuleError("half precision")
    constant = _sample(op.node, grid, shape[2:], 0, like.new_ones((1, shape[2])))[0]  # Σ of all weights
    places = torch.zeros((1, constant.numel()), dtype=torch.int64, device=like.device)
    weights = constant[None].where(constant != 0, 1.0) ** (1 - dims)
    for d, size in enumerate(shape[2:]):
        colors = torch.arange(size, device=like.device) % taps
        found = read_apart(partial(_sample, op.node, grid, shape[2:], d), colors, like)
        if found is None or bool(((constant == 0) & (found[1] != 0)).any()):
            raise NoRuleError("sampled otherwise")
        places = (places[:, None] + found[0] * prod(shape[3 + d :])).flatten(0, 1)
        weights = (weights[:, None] * found[1]).flatten(0, 1)
    places, weights = (each.view(len(each), len(grid), 1, -1) for each in (places, weights))
    images = torch.arange(prod(shape[:2]), device=like.device).view(1, *shape[:2], 1) * prod(shape[2:])
    rows = torch.arange(prod(op.shape), device=like.device).view(1, *shape[:2], -1)
    rows, cols, values = (x.expand(len(places), *shape[:2], -1).reshape(-1) for x in (rows, places + images, weights))
    return listed(op, shape, rows, cols, values, None)


def _sample(node: Node, grid: Tensor, sizes: Shape, axis: int, lines: Tensor) -> Tensor:
    """What is sampled, for each place of the grids of all, of images (many) that change along one axis alone, by lines."""
    images = lines.view(1, -1, *[size if d == axis else 1 for d, size in enumerate(sizes)]).expand(len(grid), -1, *sizes)
    parameters = node._saved_interpolation_mode, node._saved_padding_mode, node._saved_align_corners
    call = torch.ops.aten.grid_sampler_2d if len(sizes) == 2 else torch.ops.aten.grid_sampler_3d
    found: Tensor = call(images, grid, *parameters)
    return found.movedim(1, 0).reshape(len(lines), -1)


RULES: dict[str, Rule] = {**dict.fromkeys(NAMES, windows), **dict.fromkeys(("GridSampler2D", "GridSampler3D"), sampled)}
