"""Operations that move entries or add them up: linear maps whose matrices are of zeros and ones, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jvpcli.symbolic.forms import NoClosedFormError

Params = tuple[Any, ...]


@dataclass(frozen=True)
class Moving:
    """Code that is appended to a tensor (or formats it) for the operation and for its transpose, behind so many other axes.

    KIND in it stands for what makes a tensor of the kind of the inputs.
    """

    forward: Callable[[Params, int], str]
    backward: Callable[[Params, int], str]

    def code(self, adjoint: bool, params: Params, before: int) -> str:
        """The code, of the operation or of its transpose."""
        return (self.backward if adjoint else self.forward)(params, before)


def _shape(sizes: tuple[int, ...], before: int) -> str:
    _refuse_others(before)
    return f".reshape({_sizes(sizes)})"


def _dims(dims: tuple[int, ...], rank: int) -> str:
    """Dimensions counted from behind, since other axes may stand in front."""
    return ", ".join(str(d - rank) for d in dims)


MOVES: Mapping[str, Moving] = {
    # params: shape before, shape after
    "reshape": Moving(lambda p, b: _shape(p[1], b), lambda p, b: _shape(p[0], b)),
    # params: dims, rank
    "flip": Moving(lambda p, b: f".flip({_dims(p[0], p[1])})", lambda p, b: f".flip({_dims(p[0], p[1])})"),
    # params: shift, dim, rank
    "roll": Moving(lambda p, b: f".roll({p[0]}, {p[1] - p[2]})", lambda p, b: f".roll({-p[0]}, {p[1] - p[2]})"),
    # params: diagonal
    "tril": Moving(lambda p, b: f".tril({p[0] or ''})", lambda p, b: f".tril({p[0] or ''})"),
    "triu": Moving(lambda p, b: f".triu({p[0] or ''})", lambda p, b: f".triu({p[0] or ''})"),
    # params: dim, rank
    "cumsum": Moving(
        lambda p, b: f".cumsum({p[0] - p[1]})",
        lambda p, b: f".flip({p[0] - p[1]}).cumsum({p[0] - p[1]}).flip({p[0] - p[1]})",
    ),
    # params: widths as of torch.nn.functional.pad, slices that undo it
    "pad": Moving(lambda p, b: f"torch.nn.functional.pad({{0}}, {p[0]})", lambda p, b: f"[..., {p[1]}]"),
    # params: slices, widths that undo it
    "slice": Moving(lambda p, b: f"[..., {p[0]}]", lambda p, b: f"torch.nn.functional.pad({{0}}, {p[1]})"),
    # params: for each entry of the result which entry it is, counted from 1 (0: none), shape before, shape after, what none gives
    "pick": Moving(lambda p, b: _picked(p, b), lambda p, b: _spread(p, b)),
    # params: rows, columns and values of the entries of the matrix that are not zero, shape before, shape after
    "weigh": Moving(
        lambda p, b: _weighed(p[0], p[1], p[2], p[4], b), lambda p, b: _weighed(p[1], p[0], p[2], p[3], b)
    ),
}


def _picked(params: Params, before: int) -> str:
    places, _, shape, *fill = params
    _refuse_others(before)
    value = f", value={_number(fill[0])}" if fill else ""
    flat = f"torch.nn.functional.pad(torch.ravel({{0}}), (1, 0){value})[{_positions(places)}]"
    return f"{flat}.reshape({_sizes(shape)})"


def _spread(params: Params, before: int) -> str:
    places, shape, *_ = params
    size, taken = math.prod(shape) + 1, [p for p in places if p]
    if len(set(taken)) == len(taken):  # no entry is picked twice: each is picked back
        back = {p: k for k, p in enumerate(places, 1)}
        return _picked((tuple(back.get(p, 0) for p in range(1, size)), (), shape), before)
    _refuse_others(before)
    flat = f"torch.zeros({size})KIND.index_add(0, {_positions(places)}, torch.ravel({{0}}))[1:]"
    return f"{flat}.reshape({_sizes(shape)})"


def _weighed(rows: Params, columns: Params, weights: Params, shape: tuple[int, ...], before: int) -> str:
    _refuse_others(before)
    factor = f"torch.tensor({list(weights)}, dtype=torch.float64)KIND*"
    picked = f"torch.ravel({{0}})[{_positions(columns)}]"
    flat = f"torch.zeros({math.prod(shape)})KIND.index_add(0, {_positions(rows)}, {factor}{picked})"
    return f"{flat}.reshape({_sizes(shape)})"


def _positions(places: Params) -> str:
    return f"torch.tensor({list(places)})" if places else "torch.tensor([], dtype=torch.long)"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"{'-' * (value < 0)}torch.inf"


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape)) or "()"


def _refuse_others(before: int) -> None:
    if before:
        raise NoClosedFormError("entries are picked behind other axes, for which there is no code")
