"""Integers whose value, not whose size in memory, sets how long a function takes: it goes round a loop so many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from jvpcli.language.guards.binding import Bound, unbatched
from jvpcli.language.guards.integers import in_digits

MOST_TURNS = 1_000_000
"""Turns of such a loop."""

POLYNOMIALS = (
    *(f"{kind}chebyshev_polynomial_{letter}" for kind in ("", "shifted_") for letter in "tuvw"),
    *("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p"),
)


def _degree(bound: Bound) -> str | None:
    n = bound["n"]
    if isinstance(n, Tensor):
        values = unbatched(n).detach()
        if not values.numel():
            return None
        n = values.max().item()  # NaN where there is one: no degree
    return _beyond("the degree", n)


def _counted(name: str) -> Callable[[Bound], str | None]:
    """Turns given by an argument; None is torch's own number of them."""

    def rule(bound: Bound) -> str | None:
        return None if bound.get(name) is None else _beyond(f"`{name}`", bound[name])

    return rule


def _axes(bound: Bound) -> str | None:
    dims, axes = bound.get("dims", 2), min(bound["a" if "a" in bound else "input"].ndim, bound["b"].ndim)
    if not isinstance(dims, int) or dims <= axes:
        return None
    return f"`dims` is {in_digits(dims)}, and the tensor of fewer axes has {axes}"


def _beyond(name: str, count: Any) -> str | None:
    if count <= MOST_TURNS or count != count:
        return None
    said = in_digits(count) if isinstance(count, int) else f"{count:g}"
    return f"{name} is {said}, and it would take as many turns of a loop; at most {MOST_TURNS:,} are allowed"


OF_TENSORS: Mapping[str, Callable[[Bound], str | None]] = dict.fromkeys(POLYNOMIALS, _degree)
"""Function name to its rule, where a tensor may hold the integers."""

OF_INTEGERS: Mapping[str, Callable[[Bound], str | None]] = {
    **dict.fromkeys(("lobpcg", "svd_lowrank", "pca_lowrank"), _counted("niter")),
    "tensordot": _axes,
}
"""The same, where they are plain."""

RULES = frozenset({*OF_TENSORS.values(), *OF_INTEGERS.values()})
"""All of them: what they refuse is beyond a limit."""
