"""What rounding does to an output and its derivative: each number on the way is moved a little, forward and backward.

A result that was rounded may as well be its neighbour, and what comes out then tells how much that matters (D. Parker, "Monte
Carlo arithmetic", 1997), in anybody's code.  The moves are many roundings long, and count only where others, a part as long,
do that part of the same: what the side of a tie or of a step decides does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from jvpcli.gradcheck.vectors import RealFunction
from jvpcli.language.operations import can_require_grad

DRAWS = 3
"""How often the numbers are moved, each time at random."""

SHORT, LONG = 2.0**3, 2.0**6
"""How far they are moved, in roundings."""

EVEN = 2.0
"""How far from their ratio that of the effects is at most."""


@dataclass(frozen=True)
class Roundings:
    """How far off an output and its derivative may be by one rounding of each number on the way; 0 where that is not known.

    `lost`: a few roundings move the output by as much as it is.
    """

    value: float = 0.0
    derivative: float = 0.0
    lost: bool = False


def roundings(function: RealFunction, row: int, column: int) -> Roundings:
    """Those of an output and its derivative to an input's entry, as autograd takes that."""
    plain = _moved(function, row, column, 0, 0.0)
    if plain is None:
        return Roundings()
    short, long = ([_moved(function, row, column, seed, by) for seed in range(DRAWS)] for by in (SHORT, LONG))
    if None in short or None in long:
        return Roundings()
    near, far = (torch.stack([found for found in moved if found is not None]) - plain for moved in (short, long))
    large, small = far.abs().amax(0), near.abs().amax(0)
    ratio = large / small / (LONG / SHORT)
    is_even = (ratio >= 1 / EVEN) & (ratio <= EVEN) & large.isfinite()
    value, derivative = torch.where(is_even, large / LONG, 0.0).tolist()
    return Roundings(value, derivative, bool(small[0] > plain[0].abs() / 4 > 0))


def _moved(function: RealFunction, row: int, column: int, seed: int, by: float) -> Tensor | None:
    """The output and its derivative (2,) with all numbers on the way moved; None where that doesn't run."""
    try:
        inputs = function.inputs.split(function.x)
        with Moved(by, seed):
            evaluation = function.problem.at(inputs)
            onehot = torch.zeros_like(function.y).index_fill(0, torch.tensor([row]), 1)
            derivative = function.pullback(onehot, evaluation)[column]
        return torch.stack([function.outputs.join(list(evaluation.outputs.values()))[row], derivative])
    except Exception:  # whatever the function raises off the point
        return None


class Moved(TorchDispatchMode):
    """Moves each number that torch computes by up to so many roundings, up or down."""

    def __init__(self, by: float, seed: int) -> None:
        super().__init__()
        self.by, self.generator = by, torch.Generator().manual_seed(seed)

    def moved(self, value: Any) -> Any:
        """A result, with its numbers moved if it has any."""
        if not isinstance(value, Tensor) or not can_require_grad(value):
            return value
        random = 2 * torch.rand(value.shape, generator=self.generator, dtype=torch.float64) - 1
        return value * (1 + self.by * torch.finfo(value.dtype).eps * random).to(value.device, value.dtype)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every operation, in the backward pass as well."""
        result = func(*args, **(kwargs or {}))
        if self.by == 0 or any(part.alias_info is not None for part in func._schema.returns):  # type: ignore[attr-defined]
            return result
        return tree_map(self.moved, result)
