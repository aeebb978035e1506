"""Layers: convolutions, pooling, normalisation."""

from __future__ import annotations

import re

from jvpcli.explain.guilty import Guilty, numbers
from jvpcli.explain.repairs.edits import Edits, cut, joined, swapped
from jvpcli.explain.shapes import listed
from jvpcli.explain.table.entry import Found


def convolving(guilty: Guilty, found: Found) -> Edits:
    """Batch and channel axes that are missing, channels from last to second, a weight turned, groups, padding."""
    tensors = guilty.tensors
    if not tensors:
        return
    x = tensors[0]
    expected, got = found.int("expected"), found.int("got")
    if x.shape and expected is not None and x.shape[-1] == expected:
        yield guilty.with_suffix(x, ".movedim(-1, 1)")
    yield guilty.with_suffix(x, "[None]")
    yield guilty.with_suffix(x, "[None, None]")
    yield guilty.with_suffix(x, "[:, None]")
    if len(tensors) > 1:
        w = tensors[1]
        yield guilty.with_suffix(w, ".transpose(0, 1)") if len(w.shape) > 1 else None
        yield swapped(guilty, x, w)
        if got is not None and expected is not None:
            yield cut(guilty, x, f"[:, :{expected}]") if got > expected else None
            yield cut(guilty, w, f"[:, :{got}]") if expected > got else None
        yield guilty.with_suffix(w, "[..., None]")
        yield guilty.with_suffix(w, "[None]")
        yield guilty.with_suffix(w, ".squeeze(-1)") if w.shape and w.shape[-1] == 1 else None
        for axis in range(2, len(w.shape)):
            yield guilty.with_argument(f"padding={w.shape[axis] - 1}") if "padding" not in guilty.keywords else None
    for operand in tensors[2:]:
        out = tensors[1].shape[0] if len(tensors) > 1 and tensors[1].shape else None
        if len(operand.shape) == 1 and out is not None and operand.shape[0] > out:
            yield cut(guilty, operand, f"[:{out}]")
        yield (
            guilty.edited(((guilty.operands[2].outer[0], guilty.operands[2].outer[1]), "None"))
            if len(guilty.operands) > 2 and guilty.operands[2] is operand
            else None
        )


def pooling(guilty: Guilty, found: Found) -> Edits:
    """A smaller window, or padding."""
    lengths = [int(size) for size in re.findall(r"\d+", found.groups.get("given", ""))]
    least = min(lengths[1:] or lengths or guilty.tensors[0].shape[-1:] if guilty.tensors else [1], default=1)
    for operand in numbers(guilty.all[1:]):
        yield guilty.edited((operand.span, str(max(1, least)))) if operand.value > least else None
    yield from convolving(guilty, found)


def normalising(guilty: Guilty, found: Found) -> Edits:
    """layer_norm: the last axes that are there; cross: the axis of length 3."""
    for x in guilty.tensors[:1]:
        sizes = list(numbers(guilty.all[1:]))
        if guilty.name == "layer_norm" and sizes and len(sizes) <= len(x.shape):
            yield guilty.edited((joined(sizes), listed(x.shape[-len(sizes) :]) + ("," if len(sizes) == 1 else "")))
            yield guilty.edited((joined(sizes), listed(x.shape[-len(sizes) :])))
        for axis, size in enumerate(x.shape):
            dim = guilty.argument("dim", 2)
            if guilty.name == "cross" and size == 3 and dim is not None:
                yield guilty.edited((dim.span, str(axis)))
