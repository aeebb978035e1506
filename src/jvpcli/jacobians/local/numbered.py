"""Operations that move entries to places which their parameters alone tell: they are run on the entries' numbers."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.local.detect import agrees, listed
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, signed
from jvpcli.jacobians.operations import operation
from jvpcli.jacobians.terms import Term

WINDOWS = ("kernel_size", "dilation", "padding", "stride")
SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}
"""What the scales along so many axes are saved as."""

CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"ReflectionPad{d}D": (f"reflection_pad{d}d", ("padding",)) for d in SCALES},
    **{f"ReplicationPad{d}D": (f"replication_pad{d}d", ("padding",)) for d in SCALES},
    **{f"UpsampleNearest{d}D": (f"upsample_nearest{d}d", ("output_size", *SCALES[d])) for d in SCALES},
    **{f"UpsampleNearestExact{d}D": (f"_upsample_nearest_exact{d}d", ("output_size", *SCALES[d])) for d in SCALES},
    "Im2Col": ("im2col", WINDOWS),
    "PixelShuffle": ("pixel_shuffle", ("upscale_factor",)),
    "PixelUnshuffle": ("pixel_unshuffle", ("downscale_factor",)),
    "ChannelShuffle": ("channel_shuffle", ("groups",)),
    "Rot90": ("rot90", ("k", "dims")),
}
"""Backward node to torch's function and what that was called with, as it is saved."""

BACK = {"Col2Im": ("im2col", WINDOWS)}
"""Backward node to the torch function that goes the other way, from the output's places to the operand's, and its arguments."""


def numbered(op: Op) -> Locals:
    """Every output entry is one operand entry, or none; the other way round of what adds entries up."""
    shape, name = op.shapes[0], operation(op.node)
    assert shape is not None
    call, names = CALLS.get(name) or BACK[name]
    parameters = [_plain(getattr(op.node, f"_saved_{each}")) for each in names]
    key = op.work.key("numbered", name, shape, op.shape, op.like.dtype, op.like.device, *parameters)

    def make() -> tuple[Term, ...]:
        own, other = (op.shape, shape) if name in BACK else (shape, op.shape)
        numbers = torch.arange(1, prod(own) + 1, dtype=torch.float64, device=op.like.device)
        found: Tensor = getattr(torch.ops.aten, call)(numbers.view(own), *parameters).reshape(-1).long()
        assert found.numel() == prod(other)
        kept = found.nonzero().reshape(-1)  # the others come from beyond the border
        there = found[kept] - 1
        rows, cols = (there, kept) if name in BACK else (kept, there)
        terms = listed(op, shape, rows, cols, op.like.new_ones(rows.numel()), key)
        if not agrees(op, 0, terms):  # the backward pass of resizing rounds otherwise
            raise NoRuleError("other places on the way back")
        return terms

    return op.first(*op.work.structure(key, make))


def _plain(value: object) -> object:
    """A saved parameter as it was given: numbers of integer lists are saved modulo 2⁶⁴."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return signed(value) if isinstance(value, int) else value


RULES: dict[str, Rule] = dict.fromkeys((*CALLS, *BACK), numbered)
