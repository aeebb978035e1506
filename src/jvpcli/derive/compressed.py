"""Compressed Jacobians: rows that share no column are pulled back together (Curtis, Powell & Reid, 1974).

The pattern says which rows can share a pass; a coloring gives each row a color such that rows of one color have no
column in common.  The sum of the rows of a color is one pull-back, and every entry can be read off it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.derive.accumulate import Graph
from jvpcli.derive.passes import BATCH_BYTES, batch_size, pulled_rows


@dataclass(frozen=True, eq=False)
class Coloring:
    """A pattern and the colors of its rows.

    Attributes:
        rows, cols: int64 (nnz,), places that can be other than zero.
        colors: int64 (m,), the color of each row.
        count: how many colors.
    """

    rows: Tensor
    cols: Tensor
    colors: Tensor
    count: int


def color_rows(rows: Tensor, cols: Tensor, m: int, n: int) -> Coloring:
    """A coloring by SciPy's greedy `group_columns` of the transposed pattern, in natural order."""
    import numpy as np
    from scipy.optimize._numdiff import group_columns
    from scipy.sparse import csr_matrix

    places = (cols.cpu().numpy(), rows.cpu().numpy())
    pattern = csr_matrix((np.ones(rows.numel(), dtype=np.int8), places), shape=(n, m))
    pattern.sum_duplicates()
    groups = torch.from_numpy(group_columns(pattern, order=np.arange(m))).to(torch.int64)
    return Coloring(rows, cols, groups, int(groups.max()) + 1 if m else 0)


def compressed_values(graph: Graph, coloring: Coloring, room: float = BATCH_BYTES) -> Tensor:
    """The values (nnz,) at the coloring's places, for a graph of one input; one reverse pass a color."""
    output, (x,) = graph.output, graph.inputs
    values = x.detach().new_zeros(coloring.rows.numel())
    of_entry = coloring.colors[coloring.rows]

    def seeds(start: int, stop: int) -> Tensor:
        colors = torch.arange(start, stop)[:, None]
        return (coloring.colors == colors).to(output.dtype).reshape(stop - start, *output.shape)

    chunk = batch_size(graph, coloring.count, room)
    for start, stop, (pulled,) in pulled_rows(graph, seeds, coloring.count, chunk):
        here = ((of_entry >= start) & (of_entry < stop)).nonzero().reshape(-1)
        values[here] = pulled[of_entry[here] - start, coloring.cols[here]]
    return values
