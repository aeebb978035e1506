"""Whether something else differentiates through an answer: its tensors would be constants there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from jvpcli.language.evaluate import MARK


def has_tangent(x: Tensor) -> bool:
    """Whether a tensor is a dual number, whose tangent no graph of ours hands on."""
    import torch.autograd.forward_ad as forward_ad  # torch has loaded it

    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


def differentiates(tensors: Iterable[Tensor], own: Iterable[Tensor] = ()) -> bool:
    """Whether tensors are computed from a leaf that an evaluation of jvpcli differentiates, other than the `own` ones."""
    mine = {id(x) for x in own}
    return any(getattr(leaf, MARK, False) and id(leaf) not in mine for leaf in _leaves(tensors))


def _leaves(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The leaves that require grad of the tensors' graphs."""
    waiting = []
    for x in tensors:
        if x.grad_fn is not None:
            waiting.append(x.grad_fn)
        elif x.requires_grad:
            yield x
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            yield node.variable
        new = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= new
        waiting += new
