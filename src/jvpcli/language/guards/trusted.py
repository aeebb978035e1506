"""Tensors that torch trusts to come from its own functions: pivots, offsets, targets, lengths, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.guards.binding import Bound, Rule
from jvpcli.language.guards.integers import LARGEST_PRODUCT, SMALL_BITS, in_a_row, unbatched
from jvpcli.language.guards.overflow import POLYNOMIALS


def _is_tensor(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.ndim >= dimensions


def _between(value: Tensor, low: float, high: float) -> bool:
    """Whether every entry lies between two bounds, both allowed (NaN doesn't)."""
    value = unbatched(value).detach()
    return bool(((value >= low) & (value <= high)).all())


def _pivots(name: str, factors: str) -> Callable[[Bound], str | None]:
    """Row numbers from lu_factor: one for each row of the smaller side, from 1 to the number of rows."""

    def rule(bound: Bound) -> str | None:
        matrix, pivots = bound[factors], bound[name]
        if not (_is_tensor(matrix, 2) and isinstance(pivots, Tensor)):
            return None  # torch says so itself
        expected = (*matrix.shape[:-2], min(matrix.shape[-2:]))
        if tuple(pivots.shape) != expected:
            return f"the pivots must have shape {expected}, from lu_factor"
        inside = _between(pivots, 1, matrix.shape[-2])
        return None if inside else f"the pivots must be rows from 1 to {matrix.shape[-2]}, from lu_factor"

    return rule


def _lu_solve(bound: Bound) -> str | None:
    return _pivots("pivots", "LU")(bound) if "LU" in bound else _pivots("LU_pivots", "LU_data")(bound)


def _ldl_solve(bound: Bound) -> str | None:
    pivots = bound["pivots"]
    if not _is_tensor(pivots, 1) or not pivots.numel():
        return None
    rows = pivots.shape[-1]
    if not _between(pivots.abs(), 1, rows):
        return f"the pivots must be rows from 1 to {rows}, from ldl_factor"
    for row in pivots.reshape(-1, rows).tolist():
        at = 0
        while at < rows:
            if row[at] < 0 and (at + 1 == rows or row[at + 1] != row[at]):
                return "negative pivots come in pairs, from ldl_factor"
            at += 2 if row[at] < 0 else 1
    return None


def _lstsq(bound: Bound) -> str | None:
    right = bound["b"] if bound.get("B") is None else bound["B"]
    empty = isinstance(right, Tensor) and right.numel() == 0
    return "the right-hand side is empty" if empty else None


def _segment_reduce(bound: Bound) -> str | None:
    data, axis = bound.get("input", bound.get("data")), bound.get("axis") or 0
    if bound.get("unsafe"):
        return "`unsafe` can't be used: it leaves out torch's own checks"
    if bound.get("indices") is not None:
        return "`indices` can't be used: torch doesn't have it yet"
    if not isinstance(axis, int) or not 0 <= axis < data.ndim:
        return f"`axis` must be from 0 to {data.ndim - 1}"
    limit = data.shape[axis]
    for name in ("lengths", "offsets"):
        value = bound.get(name)
        if value is None:
            continue
        if value.dtype not in (torch.int32, torch.int64):
            return f"the {name} must be integers"
        if value.ndim != axis + 1 or value.shape[:-1] != data.shape[:axis]:
            return f"the {name} must have {axis + 1} dimensions, the first of them as the data: {tuple(data.shape[:axis])}"
    lengths, offsets = bound.get("lengths"), bound.get("offsets")
    if lengths is not None:
        inside = _between(lengths, 0, limit) and _between(lengths.sum(-1), limit, limit)
        if not inside:
            return f"the lengths can't be negative, and must sum to {limit}"
    if offsets is not None:
        if offsets.shape[-1] == 0:
            return "there must be at least one offset"
        inside = _between(offsets, 0, limit) and _between(offsets.diff(), 0, limit)
        if not inside:
            return f"the offsets must increase from 0 to {limit}"
    return None


def _ctc_loss(bound: Bound) -> str | None:
    scores, targets = bound["log_probs"], bound["targets"]
    if not (_is_tensor(scores, 2) and _is_tensor(targets, 0)):
        return None
    classes, times = scores.shape[-1], scores.shape[0]
    blank = bound.get("blank", 0)
    if not 0 <= blank < classes:
        return f"`blank` must be a class from 0 to {classes - 1}"
    if targets.numel() and not _between(targets, 0, classes - 1):
        return f"the targets must be classes from 0 to {classes - 1}"
    batch = scores.shape[1] if scores.ndim == 3 else 1
    inputs, outputs = (torch.as_tensor(bound[name]).reshape(-1) for name in ("input_lengths", "target_lengths"))
    if any(lengths.is_floating_point() or lengths.numel() != batch for lengths in (inputs, outputs)):
        return f"there must be {batch} integer input_lengths and target_lengths, one for each sequence"
    if not _between(inputs, 0, times):
        return f"the input_lengths must be from 0 to {times}"
    apart = targets.ndim == 2 or scores.ndim == 2
    most = targets.shape[-1] if targets.ndim else 0
    if not _between(outputs, 0, most) or (not apart and int(outputs.sum()) > most):
        return f"the target_lengths can't be negative or come to more than the targets, {most}"
    if targets.ndim == 1 and not (apart or in_a_row(targets)):
        return "targets of several sequences must stand one behind the other in memory: .contiguous() gives them so"
    if targets.ndim == 2 and targets.shape[0] != batch:
        return f"there must be {batch} rows of targets, one for each sequence"
    return None


def _native_batch_norm(bound: Bound) -> str | None:
    data = bound["input"]
    if not _is_tensor(data, 2):
        return "the input must have at least 2 dimensions"
    if not data.numel():
        return "the input is empty"
    names = ("weight", "bias", "running_mean", "running_var")
    for name in names:
        value = bound.get(name)
        if isinstance(value, Tensor) and tuple(value.shape) != (data.shape[1],):
            return f"{name} must have shape ({data.shape[1]},)"
    missing = any(not isinstance(bound.get(name), Tensor) for name in names[2:])
    return "without training it needs running_mean and running_var" if missing and not bound.get("training") else None


def _native_group_norm(bound: Bound) -> str | None:
    data, said = bound["input"], (bound["N"], bound["C"], bound["HxW"])
    real = (data.shape[0], data.shape[1], math.prod(data.shape[2:]))
    if said != real:
        return f"N, C and HxW must be those of the input, {real}"
    if bound["group"] < 1 or real[1] % bound["group"]:
        return f"`group` must divide the number of channels, {real[1]}"
    for name in ("weight", "bias"):
        value = bound.get(name)
        if isinstance(value, Tensor) and (tuple(value.shape) != (real[1],) or not value.is_contiguous()):
            return f"{name} must have shape ({real[1]},), and its own memory: `.contiguous()` gives it that"
    return None if data.is_contiguous() else "the input must be contiguous: `.contiguous()` makes it so"


def _grid_sample(bound: Bound) -> str | None:
    for name, allowed in (("interpolation_mode", 2 if bound["grid"].ndim == 4 else 1), ("padding_mode", 2)):
        value = bound.get(name, 0)
        if isinstance(value, int) and not 0 <= value <= allowed:
            return f"`{name}` must be from 0 to {allowed}"
    grid, padding = bound["grid"], bound.get("padding_mode")
    if not _is_tensor(grid, 0) or padding in (None, 0, "zeros") or not grid.is_floating_point():
        return None
    inside = bool((unbatched(grid).detach().abs() < torch.finfo(torch.float32).max / 2**32).all())
    return None if inside else "the grid must be finite, unless the padding is zeros"


def _attention(bound: Bound) -> str | None:
    key, value = bound["key"], bound["value"]
    if not (_is_tensor(key, 2) and _is_tensor(value, 2)) or key.shape[-2] == value.shape[-2]:
        return None
    return f"there are {key.shape[-2]} keys and {value.shape[-2]} values: each key has a value"


def _pdist(bound: Bound) -> str | None:
    points = bound["input"]
    if _is_tensor(points, 2) and points.dim() == 2 and points.shape[0] == 0:
        return "it needs at least one point; with none torch's backward pass ends the process"
    return None


def _repeat_interleave(bound: Bound) -> str | None:
    repeats, tensor = bound["repeats"], bound.get("input")
    if not isinstance(repeats, Tensor):
        repeats = torch.tensor(repeats)
    counts = unbatched(repeats).detach()
    if counts.numel() and not _between(counts, 0, LARGEST_PRODUCT):
        return "the repeats can't be negative"
    total = sum(counts.flatten().tolist())
    each = 1
    if tensor is not None:
        dim = bound.get("dim")
        axis = tensor.numel() if dim is None else tensor.shape[dim]
        total = total * axis if repeats.numel() == 1 else total
        each = tensor.numel() // max(axis, 1)
    if total * max(each, 1) > LARGEST_PRODUCT:
        return f"the result would have {total * max(each, 1):,} elements"
    said = bound.get("output_size")
    return None if said is None or said == total else f"`output_size` is {said:,}, and the repeats come to {total:,}"


def _embedding_bag(bound: Bound) -> str | None:
    indices, weight = bound.get("input", bound.get("indices")), bound["weight"]
    if indices.dtype.is_floating_point and weight.dtype in (torch.int32, torch.int64):
        indices, weight = weight, indices  # their old order
    if indices.numel() and not _between(indices, 0, weight.shape[0] - 1):
        return f"the indices must be rows from 0 to {weight.shape[0] - 1}"
    if not isinstance(bound.get("mode", 0), str) and bound.get("mode", 0) not in (0, 1, 2):
        return "`mode` must be 0 (sum), 1 (mean) or 2 (max)"
    offsets = bound.get("offsets")
    if offsets is None:
        return None  # the rows of a matrix are the bags
    if indices.ndim != 1 or offsets.ndim != 1:
        return "with offsets, indices and offsets must be vectors"
    count, where = indices.numel(), unbatched(offsets).detach()
    if not where.numel():
        return f"there are {count} indices, and no bag begins, as the offsets are empty" if count else None
    if bool((where[..., 0] != 0).any()):
        return "the first offset must be 0"
    if bound.get("include_last_offset") and bool((where[..., -1] != count).any()):
        return f"the last offset must be {count}, the number of indices"
    inside = _between(where, 0, count) and _between(where.diff(), 0, count)
    return None if inside else f"the offsets must increase from 0 to {count}"


def _repeats_alike(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Everything as often, and torch counts the result itself."""
    return not keywords and len(arguments) == 2 and type(arguments[1]) is int and arguments[1] >= 0


def _is_of_floats(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    return bool(arguments) and isinstance(arguments[0], Tensor) and arguments[0].is_floating_point()


def _fractional_pool(bound: Bound) -> str | None:
    samples = bound.get("_random_samples")
    inside = samples is None or not samples.numel() or (_between(samples, 0, 1) and bool((samples < 1).all()))
    return None if inside else "the samples must be from 0 to below 1"


def _averaged(bound: Bound) -> str | None:
    divisor = bound.get("divisor_override")
    wrong = divisor is not None and divisor < 0 and not bound["input"].is_floating_point()
    return "`divisor_override` can't be negative for integers" if wrong else None


def _circular_pad(bound: Bound) -> str | None:
    """Negative padding crops first; what is then wrapped round must be there."""
    if bound.get("mode") != "circular":
        return None
    data, pad = bound["input"], list(bound["pad"])
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        left = data.shape[-axis] + min(before, 0) + min(after, 0)
        if max(before, after) > left:
            return f"axis {data.ndim - axis} has {max(left, 0)} entries to repeat, and {max(before, after)} are asked for"
    return None


def _is_not_circular(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, str) and value == "circular" for value in (*arguments, *keywords.values()))


def _polynomial(bound: Bound) -> str | None:
    """An orthogonal polynomial: its recurrence stops at a NaN before it has written a result."""
    x = bound["x"]
    undefined = bool(unbatched(x).detach().isnan().any()) if isinstance(x, Tensor) else x != x
    return "where x is NaN torch gives what happens to be in its memory" if undefined else None


def _range(bound: Bound) -> str | None:
    start, end = bound.get("start", 0), bound["end"]
    if any(isinstance(value, float) and not math.isfinite(value) for value in (start, end)):
        return None
    return "the bounds are more than 2**62 apart" if abs(end - start) > LARGEST_PRODUCT else None


RULES: Mapping[str, Rule] = {
    "lu_unpack": Rule(_pivots("LU_pivots", "LU_data")),
    "lu_solve": Rule(_lu_solve),
    "pdist": Rule(_pdist),
    "scaled_dot_product_attention": Rule(_attention),
    "ldl_solve": Rule(_ldl_solve),
    "lstsq": Rule(_lstsq),
    "segment_reduce": Rule(_segment_reduce),
    "ctc_loss": Rule(_ctc_loss),
    "native_batch_norm": Rule(_native_batch_norm),
    "native_group_norm": Rule(_native_group_norm),
    **dict.fromkeys(("grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), Rule(_grid_sample)),
    "repeat_interleave": Rule(_repeat_interleave, unasked=_repeats_alike),
    "embedding_bag": Rule(_embedding_bag),
    **{f"fractional_max_pool{n}d{end}": Rule(_fractional_pool) for n in (2, 3) for end in ("", "_with_indices")},
    "avg_pool2d": Rule(_averaged, unasked=_is_of_floats),
    "avg_pool3d": Rule(_averaged, unasked=_is_of_floats),
    "pad": Rule(_circular_pad, unasked=_is_not_circular),
    **dict.fromkeys(POLYNOMIALS, Rule(_polynomial)),
    **dict.fromkeys(("arange", "range"), Rule(_range, SMALL_BITS)),
}
"""Function or method name to its rule."""
