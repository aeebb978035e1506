"""Normalisations: entries that share a mean and a deviation (a row, a group, a channel) are a block of the Jacobian.

Which entries those are is all that differs.  The block is w_i·r·(δ_ij − (1 + z_i z_j)/D), with z the D normalised
entries and r one over their deviation, both as the node saved them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from torch import Tensor

from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.elementwise import elementwise
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule
from jvpcli.jacobians.terms import Term


def layer_norm(op: Op) -> Locals:
    """Rows over the last axes; weight and bias have an entry for each place in a row."""
    x, mean, rstd, weight = (op.saved(name) for name in ("input", "result1", "result2", "weight"))
    inner = tuple(op.saved("normalized_shape"))
    rows, width = prod(op.shape[: len(op.shape) - len(inner)]), prod(inner)
    z = ((x - mean) * rstd).detach().reshape(rows, width)
    w = None if weight is None else weight.detach().reshape(1, width)
    return _normalised(op, z, rstd.detach().reshape(rows), w, ((0, rows), (1, width)), (0,), (1,))


def group_norm(op: Op) -> Locals:
    """Groups of channels of each sample; weight and bias have an entry for each channel."""
    samples, channels, places = (int(op.saved(name)) for name in ("N", "C", "HxW"))
    groups = int(op.saved("group"))
    each = channels // groups
    mean, rstd = (op.saved(name).detach().reshape(samples * groups) for name in ("result1", "result2"))
    x = op.saved("input").detach().reshape(samples * groups, -1)
    z, weight = (x - mean[:, None]) * rstd[:, None], op.saved("weight")
    w = None if weight is None else weight.detach().reshape(1, groups, each, 1).expand(samples, groups, each, places)
    axes = ((0, samples), (1, groups), (2, each), (3, places))
    return _normalised(op, z, rstd, w, axes, (0, 1), (1, 2))


def batch_norm(op: Op) -> Locals:
    """Channels over all samples; with running statistics (in evaluation) each entry by itself."""
    x, weight, training = op.saved("input").detach(), op.saved("weight"), bool(op.saved("training"))
    samples, channels = x.shape[0], x.shape[1]
    places = prod(x.shape[2:])
    if training:
        mean, rstd = op.saved("result1"), op.saved("result2")
    else:
        mean, rstd = op.saved("running_mean"), (op.saved("running_var") + op.saved("eps")).rsqrt()
    if mean is None or mean.numel() != channels or rstd.numel() != channels:
        raise NoRuleError("the statistics are not saved")
    z = (x.reshape(samples, channels, places) - mean.reshape(-1, 1)) * rstd.reshape(-1, 1)
    z, rstd = z.detach().transpose(0, 1).reshape(channels, -1), rstd.detach()
    w = None if weight is None else weight.detach().reshape(channels, 1).expand(channels, samples * places)
    axes = ((0, samples), (1, channels), (2, places))
    if training:
        return _normalised(op, z, rstd, w, axes, (1,), (1,))
    entries = elementwise(replace(op, shapes=(op.shapes[0], None, None)))[0]
    return [entries, *_normalised(replace(op, shapes=(None, *op.shapes[1:])), z, rstd, w, axes, (1,), (1,))[1:]]


def _normalised(
    op: Op,
    z: Tensor,
    r: Tensor,
    w: Tensor | None,
    axes: Sequence[tuple[int, int]],
    shared: tuple[int, ...],
    weighed: tuple[int, ...],
) -> Locals:
    """The pieces for x, weight and bias.

    Args:
        op: the operation.
        z, r: normalised entries (blocks, D) and one over their deviation (blocks,).
        w: the weight of every entry, shape that broadcasts to z's; None: 1.
        axes: label and size of the axes that the output is cut into.
        shared: the labels that number the blocks; the entries of a block are over the others, in order.
        weighed: the labels of the weight's own axes.
    """
    if op.nr:
        raise NoRuleError("the mean or the deviation, as an output of its own")
    sizes = dict(axes)
    labels = tuple(sizes)
    inner = tuple([k for k in labels if k not in shared])
    z_axes = [sizes[k] for k in (*shared, *inner)]

    def to_entries(shape: Shape) -> Term:
        width = z.shape[1]
        op.work.reserve(z.shape[0] * width * width, op.like.element_size())
        entries = z.unsqueeze(2) * (z.unsqueeze(1) / -width)
        entries -= 1.0 / width
        entries.diagonal(dim1=1, dim2=2).add_(1.0)
        entries *= (r[:, None] if w is None else r[:, None] * w.reshape(-1, width))[..., None]
        fresh = {k: len(labels) + k for k in inner}
        both = {**sizes, **{fresh[k]: sizes[k] for k in inner}}
        factor = Factor(entries.reshape(*z_axes, *z_axes[len(shared) :]), (*shared, *inner, *fresh.values()))
        return op.regular(shape, labels, [fresh.get(k, k) for k in labels], both, [factor])

    return op.pieces(
        to_entries,
        lambda weight: op.regular(weight, labels, weighed, sizes, [Factor(z.reshape(z_axes), (*shared, *inner))]),
        lambda bias: op.regular(bias, labels, weighed, sizes),
    )


RULES: dict[str, Rule] = {
    "NativeLayerNorm": layer_norm,
    "NativeGroupNorm": group_norm,
    "NativeBatchNorm": batch_norm,
    "NativeBatchNormLegit": batch_norm,
}
