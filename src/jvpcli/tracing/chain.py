"""The chain rule, step by step: what arrives at each step, its local Jacobians, and what flows on.

The cotangents are swept backwards over the steps of a replayed evaluation, each pulled back through the step's own
small graph by torch itself.  The local Jacobians of small steps are written out one by one and multiplied together
along the steps, which gives the Jacobian of the whole a second time (reverse accumulation: Griewank & Walther,
Evaluating Derivatives, ch. 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from jvpcli.jacobians.figures import scale
from jvpcli.jacobians.graph import Graph, Others, accumulate, read_graph
from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap, Shape
from jvpcli.jacobians.nearby import all_finite, direction
from jvpcli.jacobians.operations import Nature, natures
from jvpcli.jacobians.passes import forward_jacobian, reverse_jacobian, vjp
from jvpcli.jacobians.pattern import structured
from jvpcli.jacobians.structure import PLACED, block_count, classify_complex, shared_axes, unproved, without_artefacts
from jvpcli.jacobians.structured import StructuredMap
from jvpcli.jacobians.terms import TooLargeError, UnsupportedError, Workspace
from jvpcli.language.readings import nodes_below
from jvpcli.request import Tell
from jvpcli.tracing.replay import Chain, Step

MOST_PASSES = 128
"""A local Jacobian that takes more backward passes than this is not written out."""

MOST_ENTRIES = 1 << 18
"""Nor is one of more entries than this."""

MOST_BYTES = 1 << 26
"""What finding the structure of a larger one may take."""

MOST_PRODUCTS = 1 << 27
"""The Jacobian is multiplied out along the steps if that takes at most so many multiplications."""


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
        scale: of an identity the number that it is times; None for any other kind.
        jacobian: the map, where it is held written out.
        told: the map by the operation's rule; None where it has none.
        rigid: whether it is the same at every point.
        diagonal: whether it is diagonal at every point, and written out.
    """

    result: int
    position: int
    out_shape: Shape
    in_shape: Shape
    structure: str
    nnz: int | None
    scale: Tensor | None
    jacobian: LinearMap | None
    told: StructuredMap | None = None
    rigid: bool = False
    diagonal: bool = False

    @cached_property
    def factor(self) -> np.ndarray | None:
        """The scale as the report has it: many steps share a map."""
        return scale(self.scale)

    @property
    def places(self) -> Tensor:
        """Where it may have an entry at any point, as far as the operation tells: bool (m, n)."""
        return torch.ones(prod(self.out_shape), prod(self.in_shape)) != 0 if self.told is None else self.told.places()


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


def chain_maps(steps: Sequence[Step], tell: Tell | None = None) -> list[tuple[LocalMap, ...]]:
    """The local maps of every step; what is the same at every point is found once for all steps of a form.

    `tell` is told how many steps are done.
    """
    known: dict[str, tuple[Step, tuple[LocalMap, ...]]] = {}
    found = []
    for step in steps:
        alike = known.get(step.form)
        maps = None if alike is None else _alike(step, *alike)
        if maps is None:
            maps = local_maps(step)
            if step.form and maps:
                known[step.form] = step, maps
        found.append(maps)
        if tell:
            tell("local Jacobians of the steps", len(found), len(steps))
    return found


def _alike(step: Step, first: Step, maps: tuple[LocalMap, ...]) -> tuple[LocalMap, ...] | None:
    """The maps of a step by those of another of its form; None where their kinds may differ.

    Maps that are the same at every point are the same; of those that are diagonal at every point one pass gives the entries.
    """
    if all(each.rigid for each in maps) and not any(leaf is None for leaf in step.leaves):
        return maps
    if len(step.results) > 1 or not all(each.diagonal for each in maps):
        return None
    node, other = (each.results[0].graph.grad_fn for each in (step, first))
    if node is None or other is None or node.name() != other.name():
        return None
    slopes = pull_back(step, [torch.ones_like(step.results[0].graph)])
    found = []
    for each in maps:
        entries = slopes[each.position]
        if entries is None or not isinstance(each.jacobian, DenseMap):
            return None
        jacobian = replace(each.jacobian, matrix=torch.diag(entries.reshape(-1)))
        found.append(replace(each, nnz=jacobian.nnz, jacobian=jacobian))
    return tuple(found)


def local_maps(step: Step) -> tuple[LocalMap, ...]:
    """∂result/∂operand for every pair that a gradient can flow between.

    Kinds are told by the operation, numbers by torch's own passes; of what works on each entry by itself by its node.
    """
    active = [position for position, leaf in enumerate(step.leaves) if leaf is not None]
    maps: list[LocalMap] = []
    for number, result in enumerate(step.results):
        handed_on = [position for position in active if step.leaves[position] is result.graph]
        positions = handed_on or active
        leaves = [leaf for position in positions if (leaf := step.leaves[position]) is not None]
        if not positions or not result.graph.requires_grad:
            continue
        elsewhere = partial(_others, step, number, positions) if step.decided else None
        told = _by_operations(result.graph, leaves, step.weighed, elsewhere)
        known: Sequence[Nature] = [each.nature for each in told if each is not None]
        if len(known) < len(leaves):
            known = natures(nodes_below(result.graph.grad_fn), leaves, step.weighed, step.decided)
        diagonals = [each and _diagonal(each, leaf) for each, leaf in zip(told, leaves, strict=True)]
        written: Sequence[LinearMap | None] = diagonals
        if not all(diagonals):
            written = written_out(result.graph, leaves) or [None] * len(leaves)
        there = _elsewhere(step, number, positions) if any(isinstance(each, ComplexMap) for each in written) else None
        beside: Sequence[LinearMap | None] = (there and written_out(*there)) or [None] * len(leaves)
        for k, position in enumerate(positions):
            jacobian = _with_kind(written[k], told[k], known[k], beside[k])
            found = jacobian or told[k]
            shapes = tuple(result.graph.shape), tuple(leaves[k].shape)
            if found is None:
                maps.append(LocalMap(number, position, *shapes, "unknown", None, None, None))
            else:
                rigid, diagonal = known[k].rigid, diagonals[k] is not None and found.structure == "diagonal" and known[k].still
                kind, scale = _named(found, told[k], rigid), found.scale
                maps.append(LocalMap(number, position, *shapes, kind, found.nnz, scale, jacobian, told[k], rigid, diagonal))
    return tuple(maps)


def _diagonal(told: StructuredMap, leaf: Tensor) -> DenseMap | None:
    """The map written out where an operation with a rule works on each entry by itself; None of any other.

    What its node makes of ones is what it makes of each row of the identity, without zeros to meet an infinity.
    """
    term = told.terms[0] if len(told.terms) == 1 else None
    if not isinstance(term, KroneckerMap) or not term.is_diagonal or not told.nature.certain or not 0 < told.m <= MOST_PASSES:
        return None
    return DenseMap(*told.shapes, told.matrix().to(leaf.dtype))


def _by_operations(
    output: Tensor, leaves: Sequence[Tensor], weighed: bool, elsewhere: Others | None
) -> Sequence[StructuredMap | None]:
    """What the operations tell of ∂output/∂leaf for each leaf; None where they tell nothing."""
    work = Workspace(limit=MOST_BYTES)
    try:
        graph = read_graph(output, leaves, weighed=weighed, elsewhere=elsewhere)
        if not graph.whole:
            return [*structured(graph, accumulate(graph, work), work)]
    except (TooLargeError, UnsupportedError, RuntimeError):
        pass
    return [None] * len(leaves)


def _elsewhere(step: Step, number: int, positions: Sequence[int], sign: int = 1) -> tuple[Tensor, list[Tensor]] | None:
    """A result, and some operands, where these have random values; None where the operation refuses those."""
    points = [primal.tensor for primal in step.operands]
    for position in positions:
        points[position] = (sign * direction(points[position], 7 + position)).requires_grad_()
    try:
        return step.again(points)[number], [points[position] for position in positions]
    except Exception:  # whatever the operation refuses there tells nothing
        return None


def _others(step: Step, number: int, positions: Sequence[int]) -> list[Graph]:
    """The graphs of a result at two opposite places; none where it is another tensor there."""
    found = [_elsewhere(step, number, positions, sign) for sign in (1, -1)]
    shape = step.results[number].graph.shape
    if any(output.shape != shape or output.is_complex() for output, _ in filter(None, found)):
        return []
    return [read_graph(output, leaves, weighed=step.weighed) for output, leaves in filter(None, found)]


def _with_kind(
    jacobian: LinearMap | None, told: StructuredMap | None, nature: Nature, beside: LinearMap | None
) -> LinearMap | None:
    """The map that is written out with its kind, and zeros where NaN is only 0·∞, of a basis vector that is zero there.

    Of complex numbers the values tell the kind: here, and `beside`, at random operands.
    """
    if isinstance(jacobian, ComplexMap):
        if beside is None and not nature.rigid:
            return replace(jacobian, kind="unknown")
        maps = [jacobian, *([beside] if isinstance(beside, ComplexMap) else [])]
        return replace(jacobian, kind=classify_complex(maps, nature))
    if not isinstance(jacobian, DenseMap):
        return jacobian
    if told is None:
        return replace(jacobian, kind=unproved(jacobian.matrix), kind_from="values")
    matrix, artefacts = jacobian.matrix, 0
    if bool(matrix.isnan().any()):
        matrix, artefacts = without_artefacts(matrix, told.places())
    return replace(jacobian, matrix=matrix, kind=told.structure, artefacts=artefacts)


def _named(found: LinearMap, told: StructuredMap | None, rigid: bool) -> str:
    """The kind as a trace names it: `sum` where entries are added up; blocks of a single row or column are only sparse."""
    kind, (m, n) = found.structure, (found.m, found.n)
    if kind not in ("banded", "block_diagonal", *PLACED, "sparse", "dense") or found.nnz is None:
        return kind
    if rigid and _sums(found):
        return "sum"
    if kind in ("block_diagonal", "strided_blocks") and max(m, n) % min(m, n) == 0:
        wide = told and told.wide and told.wide()
        rows, cols, _ = (wide or found).entries()
        where = rows.cpu().numpy(), cols.cpu().numpy()
        along = prod(found.out_shape[axis] for axis in {a for a, _ in shared_axes(*where, found.shapes)})
        if min(m, n) in (along, block_count(*where, m, n)):
            return "sparse"
    return kind


def _sums(found: LinearMap) -> bool:
    """Whether each column holds at most one nonzero, always the same number."""
    _, cols, values = found.entries()
    return bool((values == values[:1]).all()) and int(torch.bincount(cols).max()) == 1


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


# The product of the local Jacobians


@dataclass(frozen=True, eq=False)
class Multiplied:
    """A product of local Jacobians.

    Attributes:
        rows: input name to the flattened rows (m, n), for a complex output (2m, n): first those of Re y, then of Im y.
        reach: where each can be other than zero at any point, by the operations; None where all local Jacobians are finite.
    """

    rows: Mapping[str, Tensor]
    reach: Mapping[str, Tensor] | None


def multiply_out(
    chain: Chain, maps: Sequence[Sequence[LocalMap]], output: str, *, absolute: bool = False
) -> Multiplied | None:
    """∂output/∂input for every differentiated input, by multiplying the local Jacobians together along the steps.

    Args:
        chain: the steps.
        maps: of each step its local Jacobians.
        output: the output's name.
        absolute: multiply the entries' absolute values: a bound for how far roundings can carry the product.

    Returns:
        None where a local Jacobian on the way is not written out, or the product would take too long.
    """
    end = chain.outputs[output]
    if end.tensor.numel() * max((x.tensor.numel() for x in chain.inputs.values()), default=0) > MOST_ENTRIES:
        return None
    if end.tensor.numel() * (1 + end.tensor.is_complex()) > MOST_PASSES:
        return None
    rows = {end.number: _basis(end.tensor)}
    held = {id(part.jacobian): part.jacobian for local in maps for part in local if part.jacobian is not None}
    finite = all(all_finite(_held(jacobian)) for jacobian in held.values())
    reach = {} if finite else {end.number: rows[end.number] != 0}
    work = 0
    for step, local in zip(reversed(chain.steps), reversed(maps), strict=True):
        for part in local:
            above = rows.get(step.results[part.result].primal.number)
            if above is None:
                continue
            work += above.shape[0] * prod(part.out_shape) * prod(part.in_shape)
            if part.jacobian is None or work > MOST_PRODUCTS:
                return None
            jacobian, operand = part.jacobian.absolute() if absolute else part.jacobian, step.operands[part.position].number
            if finite:
                _add(rows, operand, _times(above.abs() if absolute else above, jacobian))
                continue
            before = reach[step.results[part.result].primal.number]
            _add(rows, operand, _times_where(above.abs() if absolute else above, before, jacobian, part.places))
            after = before.float() @ part.places.float() > 0
            reach[operand] = reach[operand] | after if operand in reach else after
    active = {name: x for name, x in chain.inputs.items() if x.active}
    none = {name: x.tensor.new_zeros((rows[end.number].shape[0], x.tensor.numel())) for name, x in active.items()}
    return Multiplied(
        {name: rows.get(x.number, none[name]) for name, x in active.items()},
        None if finite else {name: reach.get(x.number, none[name] != 0) for name, x in active.items()},
    )


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


def _held(jacobian: LinearMap) -> Tensor:
    """The matrix (m, n) that a written out map is held by."""
    assert isinstance(jacobian, (ComplexMap, DenseMap))
    return jacobian.rows if isinstance(jacobian, ComplexMap) else jacobian.matrix


def _times_where(rows: Tensor, reach: Tensor, jacobian: LinearMap, places: Tensor) -> Tensor:
    """Every row pulled back where an entry is not finite.

    A zero times ∞ is zero where the zero is one of the operations: not in `reach` (k, m), or not in `places` (m, n).
    """
    if isinstance(jacobian, ComplexMap):
        return _times(rows, jacobian)
    matrix = _wide(_held(jacobian))
    rows = rows.to(matrix.dtype)
    bad = ~(rows.isfinite().all(0) & matrix.isfinite().all(1))
    product = rows[:, ~bad] @ matrix[~bad]
    for k in bad.nonzero().reshape(-1).tolist():
        takes_part = reach[:, k : k + 1] & places[k : k + 1]
        product = product + torch.where(takes_part, rows[:, k : k + 1] * matrix[k : k + 1], torch.zeros_like(product))
    return product


def _wide(t: Tensor) -> Tensor:
    """In a dtype that matrices are multiplied in everywhere: half precision is not one."""
    return t.to(torch.promote_types(t.dtype, torch.float32))
