"""Repeated eigenvalues and singular values, of whose vectors an output is made: those have no derivative."""

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
