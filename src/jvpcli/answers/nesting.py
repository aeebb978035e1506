"""Whether something else differentiates through an answer: its tensors would be constants there."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import Tensor
from torch.autograd import forward_ad

from jvpcli.language.evaluate import MARK


def has_tangent(x: Tensor) -> bool:
    """Whether a tensor is a dual number, whose tangent no graph of ours hands on."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


def differentiates(tensors: Collection[Tensor], own: Iterable[Tensor] = ()) -> bool:
    """Whether tensors are computed from a leaf that an evaluation of jvpcli differentiates, other than the `own` ones."""
    mine = set(map(id, own))
    waiting = [x.grad_fn for x in tensors if x.grad_fn is not None]
    leaves = [x for x in tensors if x.grad_fn is None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.append(leaf)
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return any(id(leaf) not in mine and getattr(leaf, MARK, False) for leaf in leaves)
