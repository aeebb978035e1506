"""The nodes of the graph that autograd has made, as far as torch tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

MOST_NODES = 100_000
"""Nodes of a graph that are looked at."""

FREED = "jvp: freed by"
"""Under this key a node of a graph knows the backward pass that has freed what it had kept: the call's number, and where."""

MADE = "jvp: made at"
"""Under this key a node knows the place of the call that made it."""


def node_of(x: Tensor) -> Any:
    """The node of the graph that made a tensor; None of a leaf, and where torch does not tell.

    It does not of a view that was made under no_grad and whose memory has changed since.
    """
    try:
        return x.grad_fn
    except RuntimeError:
        return None


def is_leaf(x: Tensor) -> bool:
    """Whether gradients end at a tensor: it was made to be differentiated by, and no step made it."""
    return x.requires_grad and node_of(x) is None


def graph_nodes(outputs: Iterable[Tensor]) -> dict[Any, None]:
    """The nodes of the graph that tensors were computed by, each once; of a graph beyond all bounds the first."""
    seen: dict[Any, None] = {}
    waiting = [node for y in outputs if (node := node_of(y)) is not None]
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if node not in seen:
            seen[node] = None
            waiting += [following for following, _ in reversed(node.next_functions) if following is not None]
    return seen
