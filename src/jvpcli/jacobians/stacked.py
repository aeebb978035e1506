"""A small problem in one pass: the point and places around it stacked, run together under vmap, pulled back once.

The rows and columns of the Jacobian are as many copies of the point as there are; as many more stand elsewhere, for the
structure, and one on each side, for kinks, where the operations do not tell that there are none.  Where they may do
otherwise one by one, what comes out for the point is compared with a backward pass of the evaluation itself, and where they
differ nothing of the pass is believed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.nearby import Sides, all_finite, cotangents_for_kinks, is_without_kinks, two_sides
from jvpcli.jacobians.passes import basis, grad
from jvpcli.problem import Named, Problem

Maps = Mapping[tuple[str, str], DenseMap]

MOST_ENTRIES = 1 << 16
"""Up to so many entries of inputs and outputs in all rows together the points are stacked."""


@dataclass(frozen=True, eq=False)
class Around:
    """What was found: the maps at the point, those at the sample (None: not finite), generic gradients on both sides."""

    maps: Maps
    sample: Maps | None
    sides: Sides


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a pass: `count` at the point, as many at the sample, and with `sides` one below and one above.

    Outputs and inputs have the shapes, dtypes and devices of those at any point, and no numbers.
    """

    outputs: Named
    inputs: Named
    forward: bool
    sides: bool

    @property
    def counted(self) -> Named:
        """The tensors whose entries the rows go through: a row an output entry, or (forward) a column an input entry."""
        return self.inputs if self.forward else self.outputs

    @property
    def reached(self) -> Named:
        """The tensors whose entries stand in a row."""
        return self.outputs if self.forward else self.inputs

    @cached_property
    def count(self) -> int:
        """How many entries these have."""
        return sum(t.numel() for t in self.counted.values())

    def basis(self) -> list[Tensor]:
        """For each counted tensor (2 count, *shape): one entry of one of them after the other, twice."""
        stacks, start = [], 0
        for t in self.counted.values():
            unit = basis(t, -start, self.count - start)
            stacks.append(torch.cat([unit, unit]))
            start += t.numel()
        return stacks

    def points(self, inputs: Named, sample: Named) -> dict[str, Tensor]:
        """The values of every input at each row: these at the point."""
        sides, count = two_sides(inputs) if self.sides else (), self.count
        return {
            name: torch.cat(
                [_copies(x.detach(), count), _copies(sample[name], count), *[side[name][None] for side in sides]]
            ).requires_grad_()
            for name, x in inputs.items()
        }

    @cached_property
    def seeds(self) -> _Seeds:
        """What is pulled back."""
        generic, rows = cotangents_for_kinks(self.outputs), self.basis()
        weights = rows
        if self.forward:
            weights = [torch.ones((2 * self.count, *w.shape), dtype=w.dtype, device=w.device) for w in generic]
        if self.sides:
            weights = [torch.cat([row, _copies(weight, 2)]) for row, weight in zip(weights, generic, strict=True)]
        return _Seeds(generic, [stack.requires_grad_(self.forward) for stack in weights], rows)

    def cut(self, found: Sequence[Tensor], start: int) -> dict[tuple[str, str], DenseMap]:
        """The maps from the rows that begin at `start`; `found` are (rows, entries) for the other tensors."""
        maps: dict[tuple[str, str], DenseMap] = {}
        for own, t in self.counted.items():
            for other, block in zip(self.reached, found, strict=True):
                rows = block[start : start + t.numel()]
                y, x = (other, own) if self.forward else (own, other)
                shapes = tuple(self.outputs[y].shape), tuple(self.inputs[x].shape)
                maps[y, x] = DenseMap(*shapes, rows.t().contiguous() if self.forward else rows)
            start += t.numel()
        return maps


@dataclass(frozen=True, eq=False)
class _Seeds:
    """What rows are pulled back from, whatever the point; what is pulled back may be the same memory, so they are copied.

    Attributes:
        generic: a cotangent of every output in which nothing cancels.
        weights: the cotangents of every output at each row: the generic ones for the sides.
        basis: as `Rows.basis` has it.
    """

    generic: Sequence[Tensor]
    weights: Sequence[Tensor]
    basis: Sequence[Tensor]


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each in memory of its own."""
    return [t.clone() for t in tensors]


def _copies(x: Tensor, count: int) -> Tensor:
    """A tensor `count` times, (count, *shape); no memory is taken."""
    return x.expand(count, *x.shape)


def look_around(problem: Problem, mode: str, sample: Named, known: Maps | None = None) -> Around | None:
    """One pass over all the places; None where that cannot be done, or cannot be believed.

    Args:
        problem: one that can be stacked.
        mode: "reverse", a row an output entry, or "forward", a column an input entry by double backward.
        sample: values of the inputs at which the maps are sampled, for the structure.
        known: the maps there, where an earlier pass has found them.
    """
    rows = rows_of(problem, mode)
    if rows is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks, sides = blocks_of(problem, rows, sample)
    except Exception:  # a step that cannot be stacked, or fails nearby: one place after the other, then
        return None
    maps = rows.cut(blocks, 0)
    if not (believable(maps, problem, rows.seeds.generic) if rows.sides else _is_finite(maps)):
        return None
    if known is None and _is_finite(sampled := rows.cut(blocks, rows.count)):
        known = sampled
    return Around(maps, known, sides)


def rows_of(problem: Problem, mode: str) -> Rows | None:
    """The rows of a problem's pass; None where they are too many, or complex."""
    return problem.once(("rows", mode), lambda: _rows_of(problem, mode))


def _rows_of(problem: Problem, mode: str) -> Rows | None:
    """The rows; None where they are too many, or complex.  No side is looked at where the operations tell of no kink."""
    outputs, inputs = problem.differentiable, problem.leaves
    return _laid_out(_forms(outputs), _forms(inputs), mode == "forward", not is_without_kinks(problem))


Forms = tuple[tuple[str, torch.Size, torch.dtype, torch.device], ...]
"""Of tensors with names."""


def _forms(tensors: Named) -> Forms:
    return tuple([(name, t.shape, t.dtype, t.device) for name, t in tensors.items()])


@lru_cache(maxsize=64)
def _laid_out(outputs: Forms, inputs: Forms, forward: bool, sides: bool) -> Rows | None:
    """The rows of outputs and inputs of some forms, with what is pulled back from them, whatever the program."""
    ys, xs = ({name: torch.empty((), dtype=dtype, device=device).expand(shape) for name, shape, dtype, device in forms}
              for forms in (outputs, inputs))  # fmt: skip
    rows, tensors = Rows(ys, xs, forward, sides), (*ys.values(), *xs.values())
    entries = (2 * rows.count + 2) * sum(t.numel() for t in tensors)
    return None if entries > MOST_ENTRIES or any(t.is_complex() for t in tensors) else rows


def _is_finite(maps: Maps) -> bool:
    return all(all_finite(each.matrix) for each in maps.values())


def blocks_of(problem: Problem, rows: Rows, sample: Named) -> tuple[Sequence[Tensor], Sides]:
    """What the maps are cut from, and the generic gradients on the sides.

    Raises:
        Whatever a step raises, and its backward.
    """
    seeds, points = rows.seeds, rows.points(problem.leaves, sample)
    weights = seeds.weights if rows.forward else _copied(seeds.weights)
    there = problem.stack(points)
    ys = [there[name] for name in rows.outputs]
    if any(y.shape != w.shape for y, w in zip(ys, weights, strict=True)):
        raise ValueError("the outputs have other shapes nearby")
    gradients = _grad(ys, weights, list(points.values()), rows.forward)
    sides: Sides = ([], [])
    if rows.sides:
        below, above = zip(*[gradient.detach()[-2:] for gradient in gradients], strict=True)
        sides, gradients = (list(below), list(above)), [gradient[:-2] for gradient in gradients]
    found = _grad(gradients, _copied(seeds.basis), weights) if rows.forward else gradients
    return [block.reshape(len(block), t.numel()) for block, t in zip(found, rows.reached.values(), strict=True)], sides


def _grad(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor]:
    """The gradients, zeros for what is not reached, and none from what depends on nothing."""
    pairs = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
    found = grad([y for y, _ in pairs], [v for _, v in pairs], inputs, create_graph)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def believable(maps: Maps, problem: Problem, generic: Sequence[Tensor]) -> bool:
    """Whether a backward pass of the evaluation itself gives what the maps give, for a generic cotangent."""
    for (x, leaf), (direct, difference) in zip(problem.leaves.items(), compared(maps, problem, generic), strict=True):
        if not leaf.numel():
            continue
        parts = [direct, *[maps[y, x].matrix for y in problem.differentiable if maps[y, x].matrix.numel()]]
        largest = max(float(part.abs().max()) for part in parts)
        off = float(difference.abs().max())
        if not off <= math.sqrt(torch.finfo(direct.dtype).eps) * largest:  # nor where it is NaN
            return False
    return True


def compared(maps: Maps, problem: Problem, generic: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For every input the gradient that a backward pass of the evaluation itself gives, and what the maps' differs from it by."""
    outputs, inputs, found = problem.differentiable, problem.leaves, list[tuple[Tensor, Tensor]]()
    pulled = _grad(list(outputs.values()), generic, list(inputs.values()))
    for x, direct in zip(inputs, pulled, strict=True):
        difference = direct
        for y, weight in zip(outputs, generic, strict=True):
            if maps[y, x].matrix.numel():
                difference = difference - maps[y, x].pullback(weight)
        found.append((direct, difference))
    return found
