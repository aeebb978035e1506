"""Why an operation passes no gradient at some entries: its derivative there, a little off, and far away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.derive.chain import pull_back
from jvpcli.derive.nearby import STEP_IN_ROUNDINGS, direction, moved
from jvpcli.derive.replay import Step
from jvpcli.derive.vjp import vjp

CLOSE = 1e-3
"""How far, relative to each entry, a derivative that is zero at the point alone is looked for."""

FAR = (1.0, 3.0, 30.0, 1e4)
"""Sizes of the random operands that a derivative which is zero all around is looked for at."""

GROWTH = 1.5
"""A derivative that grows less than this over four times the distance jumps; one that is zero at the point grows more."""


@dataclass(frozen=True, eq=False)
class Passage:
    """The way through a step from some of its results (by number) to one of its operands (by position)."""

    step: Step
    results: Sequence[int]
    position: int

    @property
    def operand(self) -> Tensor:
        """The operand's value."""
        return self.step.operands[self.position].tensor


def sensitivity(passage: Passage) -> Tensor | None:
    """A random cotangent pulled back: zero where the derivative is; None where no gradient flows at all."""
    cotangents = [
        direction(result.primal.tensor, 50 + k) if k in passage.results else None
        for k, result in enumerate(passage.step.results)
    ]
    return pull_back(passage.step, cotangents)[passage.position]


def why_flat(passage: Passage, flat: Tensor) -> dict[str, Tensor]:
    """Why the derivative to the entries `flat` (a mask) of the operand is zero.

    Returns:
        masks of those entries by cause:
        "kink": the derivative is not zero on one side: the zero is PyTorch's choice;
        "stationary": it isn't a little off: a maximum, a minimum, a saddle;
        "saturated": it isn't far away;
        "piecewise": it is everywhere, although the value changes: round, sign;
        "unused": the results do not depend on these entries.
    """
    x = passage.operand
    rounding = STEP_IN_ROUNDINGS * torch.finfo(x.dtype).eps
    near, wider = (_largest(passage, [_moved(x, sign * h) for sign in (-1, 1)]) for h in (rounding, 4 * rounding))
    close = _largest(passage, [_moved(x, sign * CLOSE) for sign in (-1, 1)])
    causes = {"kink": flat & (near > 0) & (wider < GROWTH * near)}
    causes["stationary"] = flat & ((near > 0) | (close > 0)) & ~causes["kink"]
    rest = flat & ~(causes["kink"] | causes["stationary"])
    if bool(rest.any()):
        causes["saturated"] = rest & (_largest(passage, _far(x)) > 0)
        rest = rest & ~causes["saturated"]
        causes["piecewise" if any(_changes(passage, rest, away) for away in _far(x)) else "unused"] = rest
    return {cause: mask for cause, mask in causes.items() if bool(mask.any())}


def _moved(x: Tensor, relative: float) -> Tensor:
    return moved({"x": x}, relative, seed=11)["x"]


def _far(x: Tensor) -> Iterator[Tensor]:
    yield -x.detach()
    for seed, size in enumerate(FAR):
        yield size * direction(x, 70 + seed)
        yield size * direction(x, 80 + seed).abs().to(x.dtype)


def _results_at(passage: Passage, value: Tensor) -> list[Tensor] | None:
    points = [primal.tensor for primal in passage.step.operands]
    points[passage.position] = value
    try:
        return passage.step.again(points)
    except Exception:  # whatever the operation refuses there tells nothing
        return None


def _largest(passage: Passage, values: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Entry by entry the largest finite derivative for random cotangents, at other values of the operand."""
    largest = torch.zeros_like(passage.operand.abs())
    for value in values:
        leaf = value.detach().requires_grad_()
        found = _results_at(passage, leaf) or []
        for k in passage.results:
            if k < len(found) and found[k].requires_grad:
                (gradient,) = vjp(found[k], direction(found[k].detach(), 50 + k), [leaf])
                if gradient is not None:
                    largest = torch.maximum(largest, torch.nan_to_num(gradient.abs(), nan=0.0, posinf=0.0))
    return largest


def _changes(passage: Passage, entries: Tensor, away: Tensor) -> bool:
    """Whether the results change when these entries alone are moved."""
    found = _results_at(passage, torch.where(entries, away, passage.operand))
    if found is None or not bool(entries.any()):
        return False
    before = [result.primal.tensor for result in passage.step.results]
    return any(k >= len(found) or not torch.equal(found[k], before[k]) for k in passage.results)
