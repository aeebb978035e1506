"""Eigenvectors and singular vectors, of which a library gives one of the two signs: held as they are at the point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jvpcli.language.readings import name_of

VECTORS = {
    "linalg_eigh": ((1, False),),
    "linalg_svd": ((0, False), (2, True)),
    "svd": ((0, False), (2, False)),
}
"""By function which of its results are vectors, and whether those are rows; what stands in one place has one sign."""


class Signs(TorchFunctionMode):
    """Gives vectors the signs (of complex ones the phases) that they have in `held`, and notes what was given.

    Another sign is no other function for whom any will do, but to differences a jump.
    """

    def __init__(self, held: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.held = held
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        result = func(*args, **(kwargs or {}))
        vectors = VECTORS.get(name_of(func), ())
        if not vectors or (kwargs or {}).get("out") is not None:
            return result
        parts, number = list(result), len(self.found)
        self.found.append(parts[vectors[0][0]].detach())
        before = self.held[number] if number < len(self.held) else None
        if before is None or before.shape != self.found[-1].shape:
            return result
        along = (before.conj() * self.found[-1]).sum(-2)
        turn = torch.where(along == 0, 1, along.sgn())
        for k, in_rows in vectors:
            shared = turn[..., : parts[k].shape[-2 if in_rows else -1]]  # vectors that fill a basis up have none
            parts[k] = _turned(parts[k], shared, in_rows)
        return type(result)(parts)


def _turned(vectors: Tensor, turn: Tensor, in_rows: bool) -> Tensor:
    """The vectors without these factors."""
    missing = vectors.shape[-2 if in_rows else -1] - turn.shape[-1]
    turn = torch.cat([turn, torch.ones_like(turn[..., :1]).expand(*turn.shape[:-1], missing)], -1)
    return vectors * (turn[..., :, None] if in_rows else turn.conj()[..., None, :])
