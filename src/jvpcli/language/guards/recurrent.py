"""Recurrent layers and cells, which torch's own modules give tensors of the right shapes; here they are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from jvpcli.language.guards.binding import Bound, Rule
from jvpcli.language.guards.integers import in_a_row, unbatched

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Blocks of rows in the weights of each kind."""

Expected = tuple[str, Any, tuple[int, ...]]
"""Name, tensor and the shape that it must have."""


def _cell(gates: int, bound: Bound) -> str | None:
    states = _states(bound["hx"], gates)
    data = bound["input"]
    if not _are_tensors([data, *states], 2):
        return "the input and the states must be matrices of floating-point numbers"
    batch, hidden = states[0].shape
    inner = data.shape[1]
    expected: list[Expected] = [("the input", data, (batch, inner))]
    expected += [("a state", state, (batch, hidden)) for state in states]
    expected += _weights([bound["w_ih"], bound["w_hh"]], gates, inner, hidden, hidden)
    for name in ("b_ih", "b_hh"):
        if bound.get(name) is not None:
            expected.append((name, bound[name], (gates * hidden,)))
    if (bound.get("b_ih") is None) != (bound.get("b_hh") is None):
        return "it takes both biases or none"
    return _first_wrong(expected)


def _layers(gates: int, bound: Bound) -> str | None:
    packed = "batch_sizes" in bound
    data, params = bound["data" if packed else "input"], bound["params"]
    states, layers = _states(bound["hx"], gates), bound["num_layers"]
    if not _are_tensors([data], 2 if packed else 3) or not _are_tensors(states, 3):
        return "the input and the states must be tensors of floating-point numbers with a layer, a batch and a feature axis"
    if layers < 1 or data.numel() == 0 or not isinstance(params, (list, tuple)):
        return "it takes at least one layer, one step and one feature"
    if packed:
        wrong = _batch_sizes_problem(bound["batch_sizes"], data.shape[0])
        if wrong:
            return wrong
        batch = int(bound["batch_sizes"][0])
    else:
        batch = data.shape[0 if bound.get("batch_first") else 1]
    directions = 2 if bound.get("bidirectional") else 1
    count, out, hidden = layers * directions, states[0].shape[-1], states[-1].shape[-1]
    each = 4 if bound.get("has_biases") else 2
    projected = gates == 4 and len(params) == count * (each + 1)
    if len(params) != count * (each + projected):
        return f"it takes {count * each} weights and biases, {each} for each layer and direction"
    if not projected and out != hidden:
        return "both states must be of one size"
    sizes = [out, *[hidden] * (len(states) - 1)]
    expected: list[Expected] = [
        ("a state", state, (count, batch, size)) for state, size in zip(states, sizes, strict=True)
    ]
    for index in range(count):
        inner = data.shape[-1] if index < directions else out * directions
        own = params[index * (each + projected) : (index + 1) * (each + projected)]
        expected += _weights(own[:2], gates, inner, hidden, out)
        expected += [("a bias", bias, (gates * hidden,)) for bias in own[2:each]]
        expected += [("a projection", matrix, (out, hidden)) for matrix in own[each:]]
    return _first_wrong([("the input", data, tuple(data.shape)), *expected])


def _states(value: Any, gates: int) -> Sequence[Any]:
    """The state, or the two of an LSTM."""
    states = list(value) if isinstance(value, (list, tuple)) else [value]
    return states if len(states) == (2 if gates == 4 else 1) else [None]


def _weights(pair: Sequence[Any], gates: int, inner: int, hidden: int, out: int) -> Iterator[Expected]:
    """The weights of the input and of the state before."""
    shapes = ((gates * hidden, inner), (gates * hidden, out))
    return ((name, weight, shape) for name, weight, shape in zip(("w_ih", "w_hh"), pair, shapes, strict=True))


def _are_tensors(values: Sequence[Any], dimensions: int) -> bool:
    return all(isinstance(v, Tensor) and v.ndim == dimensions and v.is_floating_point() for v in values)


def _batch_sizes_problem(sizes: Any, rows: int) -> str | None:
    if not isinstance(sizes, Tensor) or sizes.dtype is not torch.int64 or sizes.ndim != 1 or sizes.device.type != "cpu":
        return "the batch_sizes must be a vector of int64 on the CPU"
    if not in_a_row(sizes):
        return "the batch_sizes must stand one behind the other in memory: .contiguous() gives them so"
    counts = unbatched(sizes).tolist()
    falling = all(before >= after for before, after in pairwise(counts))
    if not counts or counts[-1] < 1 or not falling or sum(counts) != rows:
        return f"the batch_sizes must be at least 1, must not grow, and must sum to the {rows} rows of the data"
    return None


def _first_wrong(expected: Sequence[Expected]) -> str | None:
    """The first tensor of another shape or dtype than it must have."""
    first = expected[0][1]
    for name, value, shape in expected:
        if not isinstance(value, Tensor):
            return f"{name} must be a tensor"
        if tuple(value.shape) != shape:
            return f"{name} must have shape {shape}, and has {tuple(value.shape)}"
        if value.dtype is not first.dtype or value.device != first.device:
            return f"{name} must be {str(first.dtype).removeprefix('torch.')} on {first.device}, as the input is"
    return None


RULES: Mapping[str, Rule] = {
    **{name: Rule(partial(_layers, gates)) for name, gates in GATES.items()},
    **{f"{name}_cell": Rule(partial(_cell, gates)) for name, gates in GATES.items()},
}
"""Function name to its rule."""
