"""A small problem in one pass: the point and places around it stacked, run together under vmap, pulled back once.

The rows and columns of the Jacobian are as many copies of the point as there are; as many more stand a little off, for
the structure, and one on each side, for kinks.  What comes out for the point is compared with a backward pass of the
evaluation itself, and where they differ nothing of the pass is believed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.derive.linear_map import DenseMap, LinearMap
from jvpcli.derive.nearby import Named, cotangents_for_kinks, sampled, two_sides

Stack = Callable[[Named], Named]
"""The outputs at many points: values of the inputs with one more axis in front, outputs likewise."""

Maps = Mapping[tuple[str, str], LinearMap]

MOST_ENTRIES = 1 << 16
"""Up to so many entries of inputs and outputs in all rows together the points are stacked."""


@dataclass(frozen=True, eq=False)
class Around:
    """What was found: the maps at the point, those nearby (None: not finite), generic gradients on both sides."""

    maps: Maps
    nearby: Maps | None
    sides: tuple[list[Tensor], list[Tensor]]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a pass: `count` at the point, as many nearby, one below and one above."""

    outputs: Named
    inputs: Named
    forward: bool

    @property
    def counted(self) -> Named:
        """The tensors whose entries the rows go through: a row an output entry, or (forward) a column an input entry."""
        return self.inputs if self.forward else self.outputs

    @property
    def count(self) -> int:
        """How many entries these have."""
        return sum(t.numel() for t in self.counted.values())

    def basis(self) -> list[Tensor]:
        """For each counted tensor (2 count + 2, *shape): one entry of one of them after the other, twice."""
        stacks, start, count = [], 0, self.count
        for t in self.counted.values():
            stack = torch.zeros((2 * count + 2, t.numel()), dtype=t.dtype, device=t.device)
            if t.numel():
                stack[start : start + t.numel()].fill_diagonal_(1)
                stack[count + start : count + start + t.numel()].fill_diagonal_(1)
            start += t.numel()
            stacks.append(stack.reshape(-1, *t.shape))
        return stacks

    def points(self, relative: float) -> dict[str, Tensor]:
        """The values of every input, (2 count + 2, *shape)."""
        near = sampled(self.inputs, relative, seed=7)
        below, above = two_sides(self.inputs)
        return {
            name: torch.stack(
                [x.detach()] * self.count + [near[name]] * self.count + [below[name], above[name]]
            ).requires_grad_()
            for name, x in self.inputs.items()
        }

    def weights(self, generic: Sequence[Tensor]) -> list[Tensor]:
        """The cotangents of every output, (2 count + 2, *shape); the generic ones for the sides."""
        rows = 2 * self.count + 2
        ones = [torch.ones((rows, *y.shape), dtype=y.dtype, device=y.device) for y in self.outputs.values()]
        stacks = ones if self.forward else self.basis()
        for stack, weight in zip(stacks, generic, strict=True):
            stack[-2:] = weight
        return [stack.requires_grad_(self.forward) for stack in stacks]

    def cut(self, found: Sequence[Tensor], start: int) -> dict[tuple[str, str], LinearMap]:
        """The maps from the rows that begin at `start`; `found` are (2 count + 2, *shape) for the other tensors."""
        maps: dict[tuple[str, str], LinearMap] = {}
        for own, t in self.counted.items():
            for other, block in zip(self.outputs if self.forward else self.inputs, found, strict=True):
                rows = block.reshape(2 * self.count + 2, -1)[start : start + t.numel()]
                y, x = (other, own) if self.forward else (own, other)
                shapes = tuple(self.outputs[y].shape), tuple(self.inputs[x].shape)
                maps[y, x] = DenseMap(*shapes, rows.t().contiguous() if self.forward else rows)
            start += t.numel()
        return maps


def look_around(stack: Stack, outputs: Named, inputs: Named, mode: str, relative: float) -> Around | None:
    """One pass over all the places; None where that cannot be done, or cannot be believed.

    Args:
        stack: runs the program on stacked inputs.
        outputs: differentiable, at the point, with their graph.
        inputs: the differentiated leaves.
        mode: "reverse", a row an output entry, or "forward", a column an input entry by double backward.
        relative: how far away the maps are sampled.
    """
    rows = _Rows(outputs, inputs, mode == "forward")
    tensors = (*outputs.values(), *inputs.values())
    if (2 * rows.count + 2) * sum(t.numel() for t in tensors) > MOST_ENTRIES or any(t.is_complex() for t in tensors):
        return None
    generic = cotangents_for_kinks(outputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, gradients = _pass(stack, rows, generic, relative)
    except Exception:  # a step that cannot be stacked, or fails nearby: one place after the other, then
        return None
    maps = rows.cut(found, 0)
    if not _believable(maps, outputs, inputs, generic):
        return None
    nearby = rows.cut(found, rows.count)
    finite = all(bool(each.matrix.sum().isfinite()) for each in nearby.values() if isinstance(each, DenseMap))
    return Around(maps, nearby if finite else None, ([g[-2] for g in gradients], [g[-1] for g in gradients]))


def _pass(
    stack: Stack, rows: _Rows, generic: Sequence[Tensor], relative: float
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """What the maps are cut from, and the gradients of all rows, (2 count + 2, *shape) for each input."""
    points, weights = rows.points(relative), rows.weights(generic)
    found = stack(points)
    ys = [found[name] for name in rows.outputs]
    if any(y.shape != w.shape for y, w in zip(ys, weights, strict=True)):
        raise ValueError("the outputs have other shapes nearby")
    gradients = _grad(_paired(ys, weights), list(points.values()), create_graph=rows.forward)
    if not rows.forward:
        return gradients, gradients
    return _grad(_paired(gradients, rows.basis()), weights), [g.detach() for g in gradients]


def _paired(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Σ ⟨left, right⟩."""
    terms = [(a * b).sum() for a, b in zip(left, right, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _grad(scalar: Tensor, inputs: list[Tensor], create_graph: bool = False, keep: bool = False) -> list[Tensor]:
    found = torch.autograd.grad(
        scalar, inputs, create_graph=create_graph, retain_graph=create_graph or keep, allow_unused=True
    )
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def _believable(maps: Maps, outputs: Named, inputs: Named, generic: Sequence[Tensor]) -> bool:
    """Whether a backward pass of the evaluation itself gives what the maps give, for a generic cotangent."""
    pulled = _grad(_paired(list(outputs.values()), generic), list(inputs.values()), keep=True)
    weights = dict(zip(outputs, generic, strict=True))
    for (x, leaf), direct in zip(inputs.items(), pulled, strict=True):
        if not leaf.numel():
            continue
        difference, largest = direct, direct.abs().max()
        for y, weight in weights.items():
            jacobian = maps[y, x]
            if isinstance(jacobian, DenseMap) and jacobian.matrix.numel():
                difference = difference - jacobian.pullback(weight)
                largest = torch.maximum(largest, jacobian.matrix.abs().max())
        off, size = torch.stack([difference.abs().max(), largest]).tolist()
        if not off <= math.sqrt(torch.finfo(direct.dtype).eps) * size:
            return False
    return True
