"""torch.nn.utils.rnn as a program has it: sequences of several lengths, padded and packed by steps of torch's own.

torch's own packing trusts the lengths that it keeps; these steps take no more than there is, whatever the lengths say, and what
the recurrent layers are given is looked at as they are called.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence, unpad_sequence

from jvpcli.closed import reach
from jvpcli.closed.words import Named, Namespace

UNSORTED = (
    "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass `enforce_sorted=False` to "
    "pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do not need ONNX exportability."
)
EMPTY = "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
"""What torch itself says."""


def ragged() -> Namespace:
    """The namespace."""
    return Namespace("torch.nn.utils.rnn", {
        "pad_sequence": padded_together, "unpad_sequence": unpad_sequence, "pack_padded_sequence": packed,
        "pad_packed_sequence": padded, "pack_sequence": packed_together, "unpack_sequence": unpacked,
        "PackedSequence": Named("torch.nn.utils.rnn.PackedSequence", PackedSequence, _given),
    })  # fmt: skip


def padded_together(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """`pad_sequence(sequences)`: sequences side by side, the shorter ones filled up to the longest."""
    parts = list(sequences)
    longest = max(map(len, parts), default=0)
    rows = []
    for each in parts:
        missing = (0, longest - len(each)) if padding_side == "right" else (longest - len(each), 0)
        rows.append(pad(each, (0, 0) * (each.dim() - 1) + missing, value=padding_value))
    return torch.stack(rows, 0 if batch_first else 1)


def packed(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """`pack_padded_sequence(input, lengths)`: of each step the rows of the sequences that have it, one step behind the other."""
    reach.check_given((input, lengths))
    known = torch.as_tensor(lengths, dtype=torch.int64).clone()
    order, back = None, None
    if not enforce_sorted:
        known, order = torch.sort(known, descending=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    counts = known.tolist()
    steps = input.transpose(0, 1) if batch_first else input
    if len(counts) != steps.shape[1]:
        size = f"but got {len(counts)} (batch_size={steps.shape[1]})"
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, {size}")
    if min(counts) <= 0:
        raise RuntimeError(EMPTY)
    if counts != sorted(counts, reverse=True):
        raise RuntimeError(UNSORTED)
    if counts[0] > len(steps):
        raise RuntimeError(f"start (0) + length ({counts[0]}) exceeds dimension size ({len(steps)}).")
    steps = steps if order is None else steps.index_select(1, order)
    sizes = [sum(count > step for count in counts) for step in range(counts[0])]
    data = torch.cat([steps[step, :size] for step, size in enumerate(sizes)])
    return PackedSequence(data, torch.tensor(sizes), order, back)


def packed_together(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """`pack_sequence(sequences)`"""
    parts = list(sequences)
    return packed(padded_together(parts), [*map(len, parts)], enforce_sorted=enforce_sorted)


def padded(
    sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """`pad_packed_sequence(sequence)`: the sequences side by side again, and their lengths."""
    if not isinstance(sequence, PackedSequence):
        raise AttributeError(f"'{type(sequence).__name__}' object has no attribute 'batch_sizes'")  # as torch comes upon it
    data, sizes = sequence.data, sequence.batch_sizes.tolist()
    if total_length is not None and total_length < len(sizes):
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(sizes)}"
        )
    rows = [pad(part, (0, 0) * (data.dim() - 1) + (0, sizes[0] - len(part)), value=padding_value) for part in data.split(sizes)]
    whole = torch.stack(rows)
    if total_length is not None:
        whole = pad(whole, (0, 0) * (whole.dim() - 1) + (0, total_length - len(sizes)), value=padding_value)
    lengths = torch.tensor([sum(size > row for size in sizes) for row in range(sizes[0])])
    if (back := sequence.unsorted_indices) is not None:
        whole, lengths = whole.index_select(1, back), lengths[back]
    return whole.transpose(0, 1) if batch_first else whole, lengths


def unpacked(sequence: Any) -> list[Tensor]:
    """`unpack_sequence(sequence)`"""
    return unpad_sequence(*padded(sequence))


def _given(*parts: Any, **named: Any) -> PackedSequence:
    """`PackedSequence(data, batch_sizes)`"""
    reach.check_given((*parts, *named.values()))
    return PackedSequence(*parts, **named)
