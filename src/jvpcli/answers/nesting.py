"""Whether something else differentiates through an answer: its tensors would be constants there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from jvpcli.language.evaluate import MARK
from jvpcli.language.readings import Node

LEAF = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]
"""The kind of a leaf's node."""


def has_tangent(x: Tensor) -> bool:
    """Whether a tensor is a dual number, whose tangent no graph of ours hands on."""
    return forward_ad.unpack_dual(x).tangent is not None


def differentiates(tensors: Iterable[Tensor], graphs: Iterable[Sequence[Node]], own: Iterable[Tensor] = ()) -> bool:
    """Whether tensors are computed from a leaf that an evaluation of jvpcli differentiates, other than the `own` ones.

    `graphs` are their graphs, as `problem.nodes_below` gives them.
    """
    mine = set(map(id, own))
    leaves = [x for x in tensors if x.grad_fn is None]
    leaves += [node.variable for nodes in graphs for node in nodes if type(node) is LEAF]
    return not {id(leaf) for leaf in leaves if getattr(leaf, MARK, False)} <= mine
