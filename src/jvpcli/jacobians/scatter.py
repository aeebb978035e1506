"""How much of a gradient is rounding: the backward pass again, with whatever its steps send on rounded at random.

What a step sends on is known to a rounding of its own size only.  Where large contributions cancel, that is more than the
sum that is left, and no bound on the Jacobian's entries tells it, since they are such sums themselves.  (Monte Carlo
arithmetic: Parker, 1997.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from jvpcli.jacobians.graph import pull_back, read_graph
from jvpcli.jacobians.terms import UnsupportedError

DRAWS = 4
"""How often the roundings are drawn."""


def scatter(output: Tensor, x: Tensor, v: Tensor, eps: float) -> float:
    """The largest change of an entry of vᵀJ (the shape of `x`) by roundings of the size `eps`, relative to each term.

    `output` has its graph; `v` is of its shape.  0 where nothing can be said: for complex numbers, or where a step cannot
    be taken by itself.
    """
    generator = torch.Generator().manual_seed(11)

    def rounded(term: Tensor) -> Tensor:
        by = torch.rand(term.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return (term.double() * (1 + eps * by.to(term.device))).to(term.dtype)

    try:
        graph = read_graph(output, [x])
        with torch.no_grad():
            (exact,) = pull_back(graph, v)
            changes = [pull_back(graph, v, rounded)[0] - exact for _ in range(DRAWS)]
    except (UnsupportedError, RuntimeError):
        return 0.0
    return max((float(change.abs().nan_to_num(nan=0.0, posinf=0.0).max()) for change in changes if change.numel()), default=0.0)
