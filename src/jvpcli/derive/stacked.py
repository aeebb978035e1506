"""Looking around a point in one pass: the places nearby stacked, run together under vmap and pulled back once.

The same numbers as from one evaluation after the other, at a fraction of the overhead of small problems.  They say only
what the structure is and where kinks are; the derivatives that are shown are computed at the point itself.  One more
row stands for the point, and where it does not give what is known there, nothing of the pass is believed.
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
"""Up to so many entries of inputs, outputs and rows together the points are stacked."""


@dataclass(frozen=True, eq=False)
class Around:
    """What was found: the maps at a point nearby, and generic gradients a few roundings to both sides."""

    sample: Maps
    below: list[Tensor]
    above: list[Tensor]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a pass: `count` for the maps nearby, then one at the point itself, one below and one above."""

    outputs: Named
    inputs: Named
    mode: str

    @property
    def count(self) -> int:
        """One for each column (forward) or row (reverse) of the maps."""
        tensors = self.inputs if self.mode == "forward" else self.outputs
        return sum(t.numel() for t in tensors.values())

    def basis(self, tensors: Named) -> list[Tensor]:
        """For each tensor (count + 3, *shape): one entry of one of them after the other; ones for the point; no more."""
        stacks, start = [], 0
        for t in tensors.values():
            stack = torch.zeros((self.count + 3, t.numel()), dtype=t.dtype, device=t.device)
            if t.numel():
                stack[start : start + t.numel()].fill_diagonal_(1)
            stack[-3] = 1
            start += t.numel()
            stacks.append(stack.reshape(-1, *t.shape))
        return stacks

    def points(self, near: Named) -> dict[str, Tensor]:
        """The values of every input, (count + 3, *shape)."""
        below, above = two_sides(self.inputs)
        return {
            name: torch.stack([near[name]] * self.count + [x.detach(), below[name], above[name]]).requires_grad_()
            for name, x in self.inputs.items()
        }

    def weights(self) -> list[Tensor]:
        """The cotangents of every output, (count + 3, *shape)."""
        hot = [torch.ones((self.count + 3, *y.shape), dtype=y.dtype, device=y.device) for y in self.outputs.values()]
        stacks = hot if self.mode == "forward" else self.basis(self.outputs)
        for stack, weight in zip(stacks, cotangents_for_kinks(self.outputs), strict=True):
            stack[-2:] = weight
        return stacks


def look_around(stack: Stack, outputs: Named, inputs: Named, maps: Maps, mode: str, relative: float) -> Around | None:
    """One pass over all the places; None where that cannot be done, or cannot be believed.

    Args:
        stack: runs the program on stacked inputs.
        outputs: differentiable, at the point.
        inputs: the differentiated leaves.
        maps: the derivatives at the point.
        mode: the way that they were computed, "forward" or "reverse".
        relative: how far away the maps are sampled.
    """
    rows = _Rows(outputs, inputs, mode)
    entries = (rows.count + 3) * sum(t.numel() for t in (*outputs.values(), *inputs.values()))
    if entries > MOST_ENTRIES or any(t.is_complex() for t in (*outputs.values(), *inputs.values())):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks, gradients = _pass(stack, rows, sampled(inputs, relative, seed=7))
    except Exception:  # a step that cannot be stacked, or fails nearby: one place after the other, then
        return None
    if not _believable(rows, blocks, maps):
        return None
    near = {key: _map(maps[key], block[0], mode) for key, block in blocks.items()}
    return Around(near, [g[-2] for g in gradients], [g[-1] for g in gradients])


def _map(here: LinearMap, rows: Tensor, mode: str) -> LinearMap:
    return DenseMap(here.out_shape, here.in_shape, rows.t() if mode == "forward" else rows)


Blocks = dict[tuple[str, str], tuple[Tensor, Tensor]]
"""For each map its rows (or, forward, its columns) nearby, and the row of the point itself."""


def _pass(stack: Stack, rows: _Rows, near: Named) -> tuple[Blocks, list[Tensor]]:
    """The blocks, and the gradients of all rows, (count + 3, *shape) for each input."""
    forward = rows.mode == "forward"
    points = rows.points(near)
    weights = [weight.requires_grad_(forward) for weight in rows.weights()]
    found = stack(points)
    ys = [found[name] for name in rows.outputs]
    if any(y.shape != w.shape for y, w in zip(ys, weights, strict=True)):
        raise ValueError("the outputs have other shapes nearby")
    gradients = _grad(_paired(ys, weights), list(points.values()), create_graph=forward)
    if not forward:
        return _cut(rows, rows.outputs, gradients), gradients
    tangents = _grad(_paired(gradients, rows.basis(rows.inputs)), weights)
    return _cut(rows, rows.inputs, tangents), [g.detach() for g in gradients]


def _paired(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Σ ⟨left, right⟩."""
    terms = [(a * b).sum() for a, b in zip(left, right, strict=True)]
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum()


def _cut(rows: _Rows, counted: Named, found: Sequence[Tensor]) -> Blocks:
    """The rows that belong to each map; `counted` are the tensors whose entries the rows went through."""
    blocks: Blocks = {}
    start, other = 0, rows.outputs if counted is rows.inputs else rows.inputs
    for own, t in counted.items():
        for name, block in zip(other, found, strict=True):
            flat = block.reshape(rows.count + 3, -1)
            key = (name, own) if counted is rows.inputs else (own, name)
            blocks[key] = (flat[start : start + t.numel()], flat[-3])
        start += t.numel()
    return blocks


def _grad(scalar: Tensor, inputs: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    found = torch.autograd.grad(scalar, inputs, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def _believable(rows: _Rows, blocks: Blocks, maps: Maps) -> bool:
    """Whether the row of the point itself is what the maps at the point give, and all is finite nearby."""
    forward = rows.mode == "forward"
    sums: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    for (y, x), (nearby, here) in blocks.items():
        matrix = maps[y, x]
        if not isinstance(matrix, DenseMap) or not bool(nearby.sum().isfinite()):
            return False
        key, part = (y, matrix.matrix.sum(1)) if forward else (x, matrix.matrix.sum(0))
        sums[key] = sums[key] + part if key in sums else part
        found[key] = here
    return all(_same(found[key], expected) for key, expected in sums.items())


def _same(found: Tensor, expected: Tensor) -> bool:
    """Equal but for rounding."""
    if not expected.numel():
        return True
    sizes = torch.stack([(found - expected).abs().max(), expected.abs().max()]).tolist()
    return bool(sizes[0] <= math.sqrt(torch.finfo(expected.dtype).eps) * (sizes[1] + 1))
