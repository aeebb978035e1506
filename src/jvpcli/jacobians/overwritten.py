"""Places that are written to more than once, of which the last write stays: PyTorch's gradient goes to all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from jvpcli.jacobians.operations import Node, base_name
from jvpcli.jacobians.repeated import nodes

WRITING = {"Scatter": "scatter", "IndexCopy": "index_copy", "IndexPut": "index_put", "Put": "put"}
"""Backward nodes of functions that write numbers to places, and what those are called; what they write is their second input."""


def overwritten_in(outputs: Iterable[Tensor]) -> str | None:
    """The function in the graphs of the outputs that writes what has a gradient to one place twice; None: none does."""
    for node, _ in nodes((y.grad_fn, y.output_nr) for y in outputs):
        name = WRITING.get(base_name(node.name()))
        written = [function for function, _ in node.next_functions[1:]]  # none where it is a number
        live = name and written[:1] not in ([], [None]) and not getattr(node, "_saved_accumulate", False)
        if name and live and any(int(places.unique(dim=0).shape[0]) < places.shape[0] for places in _places(node)):
            return name
    return None


def _places(node: Node) -> Iterator[Tensor]:
    """The places that a node writes to, a row for each."""
    (metadata, *_) = node._input_metadata
    shape = tuple(metadata.shape)
    if hasattr(node, "_saved_indices"):
        broadcast = torch.broadcast_tensors(*(index % shape[axis] for index, axis in _by_axes(node._saved_indices)))
        yield torch.stack([index.reshape(-1) for index in broadcast], 1)
    elif hasattr(node, "_saved_dim"):
        index, dim = node._saved_index, node._saved_dim
        if not index.dim() or index.dim() < len(shape) or base_name(node.name()) == "IndexCopy":
            yield index.reshape(-1, 1)
            return
        grids = torch.meshgrid(*(torch.arange(n, device=index.device) for n in index.shape), indexing="ij")
        at = [index if axis == dim % len(shape) else grid for axis, grid in enumerate(grids)]
        yield torch.stack([part.reshape(-1) for part in at], 1)
    else:
        size = torch.Size(shape).numel()
        yield (node._saved_index % size).reshape(-1, 1)


def _by_axes(indices: Iterable[Tensor | None]) -> Iterator[tuple[Tensor, int]]:
    """The index tensors with the axes that they are for; a mask is one for each of its own."""
    axis = 0
    for index in indices:
        if index is None:
            axis += 1
        elif index.dtype in (torch.bool, torch.uint8):
            for part in index.nonzero(as_tuple=True):
                yield part, axis
                axis += 1
        else:
            yield index, axis
            axis += 1
