"""What stands twice in a graph, where PyTorch's gradient is not the derivative.

Repeated eigenvalues and singular values: the vectors that an output is made of have no derivative.  Places that are written to
more than once: the last write stays, and the gradient goes to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.jacobians.operations import Node, base_name

DECOMPOSITIONS = {
    "LinalgEigh": ("eigenvalue", "eigenvectors", "_saved_eigenvalues", (1,)),
    "LinalgEig": ("eigenvalue", "eigenvectors", "_saved_eigenvalues", (1,)),
    "LinalgSvd": ("singular value", "singular vectors", "_saved_S", (0, 2)),
}
"""Backward nodes: what the values and the vectors are called, where the values are kept, which outputs are vectors."""

ROUNDINGS = 16
"""Values that are so many roundings of the largest, times the size of the matrix, apart are equal."""


@dataclass(frozen=True)
class Repeated:
    """A value that a decomposition has more than once, and what the vectors that belong to it are called."""

    kind: str
    vectors: str
    number: complex


def repeated_in(outputs: Iterable[Tensor]) -> Repeated | None:
    """The first decomposition in the graphs of the outputs that has equal values, and whose vectors are used."""
    for node, used in nodes([(y.grad_fn, y.output_nr) for y in outputs]):
        kind, vectors, saved, numbers = DECOMPOSITIONS.get(base_name(node.name()), NONE)
        number = _equal(_values(node, saved)) if used.intersection(numbers) else None
        if number is not None:
            return Repeated(kind, vectors, number)
    return None


def uses_vectors(outputs: Iterable[Tensor]) -> bool:
    """Whether the vectors of some decomposition are used in the graphs of the outputs."""
    roots = [(y.grad_fn, y.output_nr) for y in outputs]
    return any(used.intersection(DECOMPOSITIONS.get(base_name(node.name()), NONE)[3]) for node, used in nodes(roots))


NONE: tuple[str, str, str, tuple[int, ...]] = ("", "", "", ())


def nodes(roots: Iterable[tuple[Node | None, int]]) -> Iterator[tuple[Node, set[int]]]:
    """Every node behind the roots, with the numbers of its outputs that are used."""
    used: dict[Node, set[int]] = {}
    stack = list(roots)
    while stack:
        node, number = stack.pop()
        if node is None:
            continue
        if node not in used:
            stack.extend(node.next_functions)
        used.setdefault(node, set()).add(number)
    yield from used.items()


def _values(node: Node, saved: str) -> Tensor:
    """The values of a decomposition; of a matrix that is not square the 0 that its null space belongs to, too."""
    values: Tensor = getattr(node, saved).detach()
    if saved == "_saved_S" and node._saved_U.shape[-2] != node._saved_Vh.shape[-1]:
        return torch.cat([values, torch.zeros_like(values[..., :1])], -1)
    return values


def _equal(values: Tensor) -> complex | None:
    """A value that is there twice, in some matrix of a batch; None: all differ."""
    if values.shape[-1] < 2 or not values.numel():
        return None
    apart = (values[..., :, None] - values[..., None, :]).abs()
    apart = apart + torch.diag_embed(torch.full_like(apart[..., 0], float("inf")))
    least = ROUNDINGS * values.shape[-1] * torch.finfo(values.dtype).eps * values.abs().amax(-1)[..., None, None]
    equal = (apart <= least).any(-1)
    return values[equal][0].item() if bool(equal.any()) else None


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
