"""The chain rule, step by step: what arrives at each step, its local Jacobians, and what flows on.

The cotangents are swept backwards over the steps of a replayed evaluation, each pulled back through the step's own
small graph by torch itself.  The local Jacobians of small steps are written out one by one and multiplied together
along the steps, which gives the Jacobian of the whole a second time (reverse accumulation: Griewank & Walther,
Evaluating Derivatives, ch. 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap, Shape
from jvpcli.jacobians.nearby import moved
from jvpcli.jacobians.passes import forward_jacobian, reverse_jacobian, vjp
from jvpcli.jacobians.structure import block_count, classify_values
from jvpcli.tracing.replay import Chain, Step

MOST_PASSES = 128
"""A local Jacobian that takes more backward passes than this is not written out."""

MOST_ENTRIES = 1 << 18
"""Nor is one of more entries than this."""

MOST_BYTES = 1 << 26
"""What finding the structure of a larger one may take."""

MOST_PRODUCTS = 1 << 27
"""The Jacobian is multiplied out along the steps if that takes at most so many multiplications."""

NEARBY = 0.05
"""How far, relative to each entry, the operands are moved to see whether a zero is an accident of the point."""


@dataclass(frozen=True, eq=False)
class Swept:
    """The backward pass.

    Attributes:
        arrived: for each step and each of its results the cotangent; None where none arrives.
        contributions: for each step and each of its operands what flows on to it; None where nothing does.
        totals: by the number of a primal, everything that arrived at it, added up.
    """

    arrived: tuple[tuple[Tensor | None, ...], ...]
    contributions: tuple[tuple[Tensor | None, ...], ...]
    totals: Mapping[int, Tensor]


@dataclass(frozen=True, eq=False)
class LocalMap:
    """∂result/∂operand of one step.

    Attributes:
        result, position: which of the step's results and operands.
        out_shape, in_shape: theirs.
        structure: the contract's kinds, and `sum` (times a number): each operand entry is added into one result entry.
        nnz: nonzeros at the point; None: not counted.
        jacobian: the map, where it is held written out.
    """

    result: int
    position: int
    out_shape: Shape
    in_shape: Shape
    structure: str
    nnz: int | None
    jacobian: LinearMap | None


def sweep(chain: Chain, cotangents: Mapping[str, Tensor]) -> Swept:
    """The backward pass over all steps, the last first.

    Args:
        chain: the steps.
        cotangents: output name to v, of the output's shape; outputs left out get none.

    Raises:
        RuntimeError: an operation has no derivative, in torch's own words.
    """
    totals: dict[int, Tensor] = {}
    for name, v in cotangents.items():
        _add(totals, chain.outputs[name].number, v)
    arrived: list[tuple[Tensor | None, ...]] = []
    contributions: list[tuple[Tensor | None, ...]] = []
    for step in reversed(chain.steps):
        here = tuple([totals.get(result.primal.number) for result in step.results])
        passed = pull_back(step, here)
        for primal, gradient in zip(step.operands, passed, strict=True):
            if gradient is not None:
                _add(totals, primal.number, gradient)
        arrived.append(here)
        contributions.append(passed)
    return Swept(tuple(reversed(arrived)), tuple(reversed(contributions)), totals)


def _add(totals: dict[int, Tensor], number: int, gradient: Tensor) -> None:
    totals[number] = totals[number] + gradient if number in totals else gradient


def pull_back(step: Step, cotangents: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """For each operand Σ_results vᵀ ∂result/∂operand; None where no gradient flows."""
    pairs = [
        (result.graph, v)
        for result, v in zip(step.results, cotangents, strict=True)
        if v is not None and result.graph.requires_grad
    ]
    leaves = [leaf for leaf in step.leaves if leaf is not None]
    if not pairs or not leaves:
        return (None,) * len(step.operands)
    gradients = iter(gradients_of(pairs, leaves))
    return tuple([None if leaf is None else next(gradients) for leaf in step.leaves])


def gradients_of(pairs: Sequence[tuple[Tensor, Tensor]], inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """∂L/∂input for L = Σ ⟨v, y⟩ over the pairs (y, v), by torch in one pass; None: not reached."""
    found = vjp(*joined(pairs), inputs)
    return [g.clone() if g is not None and g._is_zerotensor() else g for g in found]  # zeros without memory


def joined(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Several outputs and their cotangents as one, so that they are pulled back together.

    Apart, the parts of a decomposition may have no derivative (the phase of complex singular vectors) where all
    together have one.
    """
    if len(pairs) == 1:
        return pairs[0]
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.cat([y.reshape(-1) for y in outputs]), torch.cat([v.reshape(-1) for v in cotangents])


# Local Jacobians


def local_maps(step: Step) -> tuple[LocalMap, ...]:
    """∂result/∂operand for every pair that a gradient can flow between, by torch itself."""
    active = [position for position, leaf in enumerate(step.leaves) if leaf is not None]
    maps: list[LocalMap] = []
    for number, result in enumerate(step.results):
        handed_on = [position for position in active if step.leaves[position] is result.graph]
        positions = handed_on or active
        leaves = [step.leaves[position] for position in positions]
        if not positions or not result.graph.requires_grad:
            continue
        jacobians = written_out(result.graph, leaves)  # type: ignore[arg-type]
        samples = _sample(step, number, positions) if jacobians else []
        for k, position in enumerate(positions):
            shapes = tuple(result.graph.shape), tuple(step.operands[position].tensor.shape)
            if jacobians:
                sample = _matrix(samples[k]) if samples else None
                sample = sample if sample is not None and sample.shape == _matrix(jacobians[k]).shape else None
                jacobian = _without_artefacts(jacobians[k], sample)
                kind = _kind(jacobian.parts, [] if sample is None else samples[k].parts)
                maps.append(LocalMap(number, position, *shapes, kind, jacobian.nnz, jacobian))
            else:
                kind, nnz = _by_operations(result.graph, leaves[k])  # type: ignore[arg-type]
                maps.append(LocalMap(number, position, *shapes, kind, nnz, None))
    return tuple(maps)


def written_out(output: Tensor, leaves: Sequence[Tensor]) -> list[LinearMap] | None:
    """The Jacobians of a small graph in the cheaper direction; None where they are too large or torch cannot."""
    output = output.resolve_conj()
    m, n = output.numel(), sum(leaf.numel() for leaf in leaves)
    is_complex = any(t.is_complex() for t in (output, *leaves))
    backward = m * (1 + output.is_complex())
    if m * n > MOST_ENTRIES:
        return None
    if n < m and n <= MOST_PASSES and not is_complex:
        try:
            return forward_jacobian(output, leaves)
        except RuntimeError:  # no second derivative
            pass
    if backward > MOST_PASSES:
        return None
    try:
        return reverse_jacobian(output, leaves)
    except RuntimeError:  # this result alone has no derivative
        return None


def _sample(step: Step, number: int, positions: Sequence[int]) -> list[LinearMap]:
    """The same at operands a little off: at random, or else all larger, or smaller; none where all leave the domain."""
    for move in (partial(moved, seed=7), _shifted, partial(_shifted, sign=-1.0)):
        points = [primal.tensor for primal in step.operands]
        away = move({str(position): points[position] for position in positions}, NEARBY)
        for position in positions:
            points[position] = away[str(position)].detach().requires_grad_()
        try:
            found = written_out(step.again(points)[number], [points[position] for position in positions])
        except Exception:  # whatever the operation refuses off the point only costs the sample
            continue
        if found and all(bool(_matrix(jacobian).isfinite().all()) for jacobian in found):
            return found
    return []


def _shifted(inputs: Mapping[str, Tensor], relative: float, sign: float = 1.0) -> dict[str, Tensor]:
    """New values, all to one side."""
    return {name: x + sign * relative * torch.where(x == 0, torch.ones_like(x), x.abs()) for name, x in inputs.items()}


def _matrix(jacobian: LinearMap) -> Tensor:
    return jacobian.rows if isinstance(jacobian, ComplexMap) else jacobian.to_dense().reshape(jacobian.m, jacobian.n)


def _without_artefacts(jacobian: LinearMap, sample: Tensor | None) -> LinearMap:
    """NaNs that are only 0·∞, from pulling back a basis vector that is zero there, become the zeros that they stand for."""
    matrix = _matrix(jacobian)
    if sample is None or not bool(matrix.isnan().any()):
        return jacobian
    cleaned = torch.where(matrix.isnan() & (sample == 0), torch.zeros_like(matrix), matrix)
    if isinstance(jacobian, ComplexMap):
        return ComplexMap(jacobian.out_shape, jacobian.in_shape, cleaned, jacobian.imaginary)
    return DenseMap(jacobian.out_shape, jacobian.in_shape, cleaned)


def _kind(here: list[Tensor], nearby: list[Tensor]) -> str:
    """The kind of the values here and nearby."""
    samples = [*here, *nearby]
    kind = classify_values(samples)
    if kind in ("banded", "block_diagonal", "sparse", "dense") and all(_sums(m, samples[0]) for m in samples):
        return "sum"
    if kind == "block_diagonal":  # blocks of a single row or column are no blocks worth the name
        rows, cols = torch.stack([m != 0 for m in samples]).any(0).cpu().numpy().nonzero()
        return "sparse" if block_count(rows, cols, *here[0].shape) == min(here[0].shape) else kind
    return kind


def _sums(matrix: Tensor, first: Tensor) -> bool:
    """Whether each column holds at most one nonzero, always the same number, and rows add several."""
    filled = matrix != 0
    if not bool((filled.sum(0) <= 1).all()) or torch.any(filled != (first != 0)):
        return False
    entries = matrix[filled]
    return entries.numel() > 0 and bool((entries == first[filled][0]).all())


def _by_operations(output: Tensor, leaf: Tensor) -> tuple[str, int | None]:
    """The kind and the nonzeros of a map too large to be written out, from the operations; dense if those don't tell."""
    from jvpcli.jacobians.graph import accumulate, read_graph
    from jvpcli.jacobians.structured import StructuredMap
    from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace

    work = Workspace(limit=MOST_BYTES)
    try:
        graph = read_graph(output, [leaf])
        (terms,) = accumulate(graph, work)
        jacobian = StructuredMap(tuple(output.shape), tuple(leaf.shape), terms, leaf.new_empty(0), work)
        return jacobian.structure, jacobian.nnz
    except (TooLargeError, UnsupportedError, RuntimeError):
        return "dense", None


# The product of the local Jacobians


def multiply_out(
    chain: Chain, maps: Sequence[Sequence[LocalMap]], output: str, *, absolute: bool = False
) -> dict[str, Tensor] | None:
    """∂output/∂input for every differentiated input, by multiplying the local Jacobians together along the steps.

    Args:
        chain: the steps.
        maps: of each step its local Jacobians.
        output: the output's name.
        absolute: multiply the entries' absolute values: a bound for how far roundings can carry the product.

    Returns:
        input name to the flattened rows (m, n), for a complex output (2m, n): first those of Re y, then of Im y; None
        where a local Jacobian on the way is not written out, or the product would take too long.
    """
    end = chain.outputs[output]
    if end.tensor.numel() * max((x.tensor.numel() for x in chain.inputs.values()), default=0) > MOST_ENTRIES:
        return None
    if end.tensor.numel() * (1 + end.tensor.is_complex()) > MOST_PASSES:
        return None
    rows = {end.number: _basis(end.tensor)}
    work = 0
    for step, local in zip(reversed(chain.steps), reversed(maps), strict=True):
        for part in local:
            above = rows.get(step.results[part.result].primal.number)
            if above is None:
                continue
            work += above.shape[0] * prod(part.out_shape) * prod(part.in_shape)
            if part.jacobian is None or work > MOST_PRODUCTS:
                return None
            jacobian = part.jacobian.absolute() if absolute else part.jacobian
            _add(rows, step.operands[part.position].number, _times(above.abs() if absolute else above, jacobian))
    return {
        name: rows[x.number] if x.number in rows else x.tensor.new_zeros((rows[end.number].shape[0], x.tensor.numel()))
        for name, x in chain.inputs.items()
        if x.active
    }


def _basis(y: Tensor) -> Tensor:
    """One cotangent for each entry; for a complex output then one for each imaginary part."""
    basis = torch.eye(y.numel(), device=y.device).to(_wide(y).dtype)
    return torch.cat([basis, 1j * basis]) if y.is_complex() else basis


def _times(rows: Tensor, jacobian: LinearMap) -> Tensor:
    """Every row pulled back: (k, m) to (k, n)."""
    if isinstance(jacobian, ComplexMap):
        real, imaginary = _wide(jacobian.rows), jacobian.imaginary
        product = rows.real.to(real.dtype) @ real
        if imaginary is not None and rows.is_complex():
            product = product + rows.imag.to(real.dtype) @ _wide(imaginary)
        return product
    assert isinstance(jacobian, DenseMap)
    matrix = _wide(jacobian.matrix)
    return rows.to(matrix.dtype) @ matrix


def _wide(t: Tensor) -> Tensor:
    """In a dtype that matrices are multiplied in everywhere: half precision is not one."""
    return t.to(torch.promote_types(t.dtype, torch.float32))
