"""Operations that move entries or add them up: linear maps whose matrices are of zeros and ones, and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Params = tuple[Any, ...]


@dataclass(frozen=True)
class Moving:
    """Code that is appended to a tensor (or formats it) for the operation and for its transpose, behind so many other axes."""

    forward: Callable[[Params, int], str]
    backward: Callable[[Params, int], str]

    def code(self, adjoint: bool, params: Params, before: int) -> str:
        return (self.backward if adjoint else self.forward)(params, before)


def _shape(sizes: tuple[int, ...], before: int) -> str:
    leading = "" if not before else None
    if leading is None:
        raise ValueError("reshape behind other axes")
    return f".reshape({', '.join(map(str, sizes))})" if sizes else ".reshape(())"


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
    # params: dim, places, size before, rank
    "pick": Moving(
        lambda p, b: f".index_select({p[0] - p[3]}, torch.tensor({list(p[1])}))",
        lambda p, b: f"torch.nn.functional.one_hot(torch.tensor({list(p[1])}), {p[2]})",
    ),
}
