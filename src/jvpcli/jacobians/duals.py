"""Columns of Jacobians in forward mode: the function runs on dual numbers, once for each entry of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.passes import basis
from jvpcli.language.evaluate import seeded
from jvpcli.problem import Named, Problem

WHY = "asked for with --mode forward; dual numbers, one run a column"
"""The reason of a plan that is carried out so."""


def dual_maps(problem: Problem, outputs: Named) -> dict[tuple[str, str], DenseMap]:
    """∂output/∂input of real tensors for every differentiated input.

    Raises:
        NotImplementedError, RuntimeError: an operation has no forward formula, or an entry is NaN.
    """
    inputs = problem.leaves
    columns: dict[tuple[str, str], list[Tensor]] = {(y, x): [] for y in outputs for x in inputs}
    for x, leaf in inputs.items():
        for unit in basis(leaf.detach(), 0, leaf.numel()).unbind():
            for y, tangent in pushed(problem, {x: unit}).items():
                if y in outputs:
                    columns[y, x].append(torch.zeros_like(outputs[y]).detach() if tangent is None else tangent)
    return {(y, x): _map(found, outputs[y], inputs[x].detach()) for (y, x), found in columns.items()}


def _map(columns: Sequence[Tensor], output: Tensor, x: Tensor) -> DenseMap:
    """The map whose matrix (m, n) has these columns, each of the output's shape."""
    empty = x.new_zeros((output.numel(), 0))
    matrix = torch.stack([column.reshape(-1) for column in columns], 1) if columns else empty
    matrix = matrix.to(x.dtype) if matrix.element_size() == 1 else matrix  # torch hardly computes with 8 bits
    if matrix.isnan().any():  # as in passes.by_columns
        raise RuntimeError("dual numbers give NaN")
    return DenseMap(tuple(output.shape), tuple(x.shape), matrix)


def pushed(problem: Problem, tangents: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Σ J u for each output, where `tangents` holds u for some inputs; None: zero."""
    with forward_ad.dual_level(), seeded(problem.seed, problem.inputs.values()):
        duals = {
            name: forward_ad.make_dual(x.detach(), tangents[name]) if name in tangents else x.detach()
            for name, x in problem.leaves.items()
        }
        found = {name: forward_ad.unpack_dual(y).tangent for name, y in problem.run(duals).items()}
        with torch.no_grad():  # and not detach(), which has no rule for many at once
            return {name: None if tangent is None else tangent.clone() for name, tangent in found.items()}
