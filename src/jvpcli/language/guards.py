"""Arguments with which torch itself reads or writes memory that isn't the tensors' (seen on torch 2.13, CPU).

torch trusts that these come from its own functions (pivots, offsets, targets) and doesn't check them; an expression can
say anything, so they are checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError

KEYWORD_ONLY = 99
"""The position of an argument that has none."""

Given = Callable[[int, str], Any]
"""An argument by its position or name."""


def check_arguments(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse arguments that torch doesn't check and that would corrupt memory.

    Raises:
        EvaluationError: saying what the argument must be.
    """
    name = op.partition(":")[2].rpartition(".")[2]
    guard = _GUARDS.get(name)
    if guard is None:
        return

    def given(position: int, keyword: str) -> Any:
        return arguments[position] if position < len(arguments) else keywords.get(keyword)

    try:
        problem = guard(given)
    except (RuntimeError, TypeError, ValueError):  # an argument of another kind: torch itself refuses it
        return
    if problem:
        raise EvaluationError(f"`{name}` can't be computed: {problem}.")


def _lu_unpack(given: Given) -> str | None:
    factors, pivots = given(0, "LU_data"), given(1, "LU_pivots")
    if not (_is_tensor(factors, 2) and _is_tensor(pivots, 1)):
        return None  # torch says so itself
    expected = (*factors.shape[:-2], min(factors.shape[-2:]))
    return None if tuple(pivots.shape) == expected else f"the pivots must have shape {expected}, from lu_factor"


def _ldl_solve(given: Given) -> str | None:
    pivots = given(1, "pivots")
    if not _is_tensor(pivots, 1):
        return None
    for row in pivots.reshape(-1, pivots.shape[-1]).tolist():
        at = 0
        while at < len(row):
            if row[at] < 0 and (at + 1 == len(row) or row[at + 1] != row[at]):
                return "negative pivots come in pairs, from ldl_factor"
            at += 2 if row[at] < 0 else 1
    return None


def _lstsq(given: Given) -> str | None:
    right = given(1, "b") if given(1, "B") is None else given(1, "B")
    empty = isinstance(right, Tensor) and right.numel() == 0
    return "the right-hand side is empty" if empty else None


def _segment_reduce(given: Given) -> str | None:
    data, offsets, axis = given(0, "data"), given(KEYWORD_ONLY, "offsets"), given(KEYWORD_ONLY, "axis") or 0
    if given(KEYWORD_ONLY, "unsafe"):
        return "`unsafe` can't be used: it leaves out torch's own checks"
    if not (_is_tensor(data, 1) and _is_tensor(offsets, 1) and isinstance(axis, int) and offsets.numel()):
        return None
    limit = data.shape[axis] if -data.ndim <= axis < data.ndim else 0
    inside = bool((offsets >= 0).all() and (offsets <= limit).all() and (offsets.diff() >= 0).all())
    return None if inside else f"the offsets must increase from 0 to {limit}"


def _ctc_loss(given: Given) -> str | None:
    scores, targets = given(0, "log_probs"), given(1, "targets")
    if not (_is_tensor(scores, 1) and _is_tensor(targets, 0) and targets.numel()):
        return None
    classes = scores.shape[-1]
    inside = bool((targets >= 0).all() and (targets < classes).all())
    return None if inside else f"the targets must be classes from 0 to {classes - 1}"


def _native_batch_norm(given: Given) -> str | None:
    data = given(0, "input")
    if not _is_tensor(data, 2):
        return "the input must have at least 2 dimensions"
    names = ("weight", "bias", "running_mean", "running_var")
    statistics = {name: given(position, name) for position, name in enumerate(names, 1)}
    for name, value in statistics.items():
        if isinstance(value, Tensor) and tuple(value.shape) != (data.shape[1],):
            return f"{name} must have shape ({data.shape[1]},)"
    missing = any(not isinstance(statistics[name], Tensor) for name in names[2:])
    return "without training it needs running_mean and running_var" if missing and not given(5, "training") else None


def _grid_sample(given: Given) -> str | None:
    grid, padding = given(1, "grid"), given(3, "padding_mode")
    if not _is_tensor(grid, 0) or padding in (None, 0, "zeros") or not grid.is_floating_point():
        return None
    inside = bool((grid.detach().abs() < torch.finfo(torch.float32).max / 2**32).all())
    return None if inside else "the grid must be finite, unless the padding is zeros"


def _is_tensor(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.ndim >= dimensions


def _pdist(given: Given) -> str | None:
    points = given(0, "input")
    if _is_tensor(points, 2) and points.dim() == 2 and points.shape[0] == 0:
        return "it needs at least one point; with none torch's backward pass ends the process"
    return None


_GUARDS: Mapping[str, Callable[[Given], str | None]] = {
    "lu_unpack": _lu_unpack,
    "pdist": _pdist,
    "ldl_solve": _ldl_solve,
    "lstsq": _lstsq,
    "segment_reduce": _segment_reduce,
    "ctc_loss": _ctc_loss,
    "native_batch_norm": _native_batch_norm,
    "grid_sample": _grid_sample,
    "grid_sampler": _grid_sample,
    "grid_sampler_2d": _grid_sample,
    "grid_sampler_3d": _grid_sample,
}
"""Function name to its guard: what is wrong, or None."""
