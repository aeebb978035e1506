"""Structure found out by few calls of a node: for operations whose pattern no rule states.

What is looked for, from the most special:

scattered   every operand entry reaches at most one output entry (padding, folding, un-pooling, a copy into a slice)
gathered    every output entry reads at most one operand entry (reflecting, unfolding, broadcasting)
blocks      some axes of the output run together with axes of the operand (the batch of a factorisation, of attention)
full        anything else: one call for each output entry

Where it is known that entries only mix along some axes, one basis vector serves all the others at once.  An unknown operation
gives a dense block, so that no dependency is missed.

Seeds are powers of two and zeros, which products keep exactly: a place that a second entry leaks into differs in its
bits, so what is called independent was found out, without a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import prod

import torch
from torch import Tensor

from jvpcli.jacobians.kronecker import KroneckerMap, dense, diagonal
from jvpcli.jacobians.labels import Factor
from jvpcli.jacobians.linear_map import Shape
from jvpcli.jacobians.local.node import Locals, NoRuleError, Op, Rule, is_fused, spare
from jvpcli.jacobians.operations import base_name
from jvpcli.jacobians.passes import Sweep, gathered
from jvpcli.jacobians.sparse_map import Pattern, SparseMap
from jvpcli.jacobians.terms import Term, UnsupportedError

LOOP = 8
"""Up to so many basis vectors are pulled back one by one."""

CHUNK_BYTES = 1 << 25
"""Basis vectors and what they are pulled back to, held at a time."""

MOST_WORK = 1 << 31
"""A probe of more elements than this is left to another strategy."""


MOSTLY_ZERO = 4
"""A block with fewer nonzeros than one in so many is held by index arrays."""

Found = dict[int, tuple[Term, ...]]
"""Operand to its pieces."""


def detect(op: Op) -> Locals:
    """The local map of any operation.

    Raises:
        UnsupportedError: its blocks are too large.
        TooLargeError: over the workspace's limit.
    """
    key = _constant_key(op)
    if key is None:
        return _detect(op, None)
    found: Locals = op.work.structure(key, lambda: _detect(op, key))
    return found


def _detect(op: Op, key: int | None) -> Locals:
    missing = [k for k, shape in enumerate(op.shapes) if shape is not None]
    found: Found = {}
    block = base_name(op.node.name()) in BLOCKS  # at a special point few of its entries may be other than zero
    for step in (_blocks,) if block else (_scattered, _gathered, _blocks):
        if missing:
            with suppress(NoRuleError, NotImplementedError, RuntimeError):  # a node that can't be called like this
                found.update(step(op, missing, key))
            missing = [k for k in missing if k not in found]
    if missing:
        alone = replace(op, shapes=tuple([s if k in missing else None for k, s in enumerate(op.shapes)]))
        for k, pieces in enumerate(probe(alone)):
            if pieces is not None:
                found[k] = tuple([_without_zeros(op, t) for t in pieces if isinstance(t, KroneckerMap)])
    return [found.get(k) for k in range(len(op.shapes))]


def _constant_key(op: Op) -> int | None:
    """Names the map of an operation that kept no tensor but its parameters; None: its map may depend on values."""
    if not callable(op.node) or op.nr or len(op.node._input_metadata) > 1:
        return None
    names = [name for name in dir(op.node) if name.startswith("_saved_")]
    parameters = [getattr(op.node, name) for name in names]
    if not names or any(_holds_tensor(p) for p in parameters):
        return None
    return op.work.key("constant", op.node.name(), op.shape, op.shapes, op.like.dtype, op.like.device, tuple(parameters))


def _holds_tensor(value: object) -> bool:
    return isinstance(value, Tensor | list) or (isinstance(value, tuple) and any(isinstance(v, Tensor) for v in value))


# --- what a node is asked --------------------------------------------------------------------------------------------


def pulled(op: Op, seed: Tensor) -> list[Tensor | None]:
    """The cotangents of the operands in the operands' shapes."""
    return [
        None if grad is None or shape is None else reduce_to(grad.unsqueeze(0), shape)[0]
        for grad, shape in zip(op.pull(seed), op.shapes, strict=True)
    ]


def pusher(op: Op, operand: int) -> Callable[[Tensor], Tensor]:
    """J·u for one operand: the derivative of ⟨vᵀJ, u⟩ to v, which autograd takes of the node's own backward pass.

    Raises:
        NoRuleError: that backward pass has no derivative.
    """
    meta, shape = op.node._input_metadata[op.nr], op.shapes[operand]
    assert shape is not None
    with torch.enable_grad():
        v = torch.zeros(op.shape, dtype=meta.dtype, device=meta.device, requires_grad=True)
        grad = op.pull(v)[operand]
        if grad is None or not grad.requires_grad:
            raise NoRuleError("a backward pass without a derivative")
        grad = reduce_to(grad.unsqueeze(0), shape)[0]

    def push(u: Tensor) -> Tensor:
        with torch.enable_grad():
            (result,) = torch.autograd.grad((grad * u).sum(), [v], retain_graph=True)
        return result

    return push


def seeds(op: Op, shape: Shape, number: int) -> Tensor:
    """Signed powers of two, at random but always the same; all different where they are few."""
    meta = op.node._input_metadata[op.nr]
    made: Tensor = op.work.structure(
        op.work.key("seeds", shape, number, meta.dtype, meta.device), lambda: _made_seeds(shape, number, meta.dtype, meta.device)
    )
    return made


def _made_seeds(shape: Shape, number: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    most = 3 if dtype in (torch.float16, torch.bfloat16) else 12
    kinds, count = 2 * (2 * most + 1), prod(shape)
    generator = torch.Generator().manual_seed(number)
    if count <= kinds:
        picks = torch.randperm(kinds, generator=generator)[:count]
    else:
        picks = torch.randint(0, kinds, (count,), generator=generator)
    table = torch.tensor([sign * 2.0**power for power in range(-most, most + 1) for sign in (1, -1)], dtype=dtype)
    return table[picks].view(shape).to(device)


def digits(op: Op, shape: Shape) -> tuple[int, list[Tensor]]:
    """The numbers of the entries of `shape` as digits that the dtype holds exactly: the base, and the digits as seeds."""
    meta = op.node._input_metadata[op.nr]
    base = 1 << {torch.float64: 40, torch.float32: 20}.get(meta.dtype, 5)  # the mantissa, less a few roundings

    def make() -> list[Tensor]:
        rest, seeds_ = torch.arange(prod(shape), device=meta.device).view(shape), []
        while bool(rest.any()):
            seeds_.append((rest % base).to(meta.dtype))
            rest = torch.div(rest, base, rounding_mode="floor")
        return seeds_

    return base, op.work.structure(op.work.key("digits", shape, meta.dtype, meta.device), make)


def numbers_read(ones: Tensor, answers: Sequence[Tensor | None], base: int, count: int) -> Tensor:
    """Flat, for each product with ones the number (below `count`) of the one entry that it is a product with.

    `answers` are the products with the digits.  An entry that is zero has number 0.
    """
    result = torch.zeros(ones.numel(), dtype=torch.int64, device=ones.device)
    divisor = torch.where(ones == 0, torch.ones_like(ones), ones).reshape(-1)
    for position, answer in enumerate(answers):
        if answer is not None:
            result += (answer.reshape(-1) / divisor).round().to(torch.int64) * base**position
    return result.clamp_(0, max(count - 1, 0))


# --- one entry to one entry ------------------------------------------------------------------------------------------


def _scattered(op: Op, operands: Sequence[int], key: int | None) -> Found:
    first, second = seeds(op, op.shape, 1), seeds(op, op.shape, 2)
    ones, ones_first = pulled(op, op.ones().contiguous()), pulled(op, first)
    hopeful = [k for k in operands if _are_multiples(ones[k], ones_first[k])]
    if not hopeful:
        return {}
    ones_second = pulled(op, second)
    base, parts = digits(op, op.shape)
    answers = [pulled(op, seed) for seed in parts]
    found: Found = {}
    for k in hopeful:
        shape, values = op.shapes[k], ones[k]
        assert shape is not None
        if values is None:
            found[k] = ()
            continue
        flat, asked = values.reshape(-1), ((first, ones_first[k]), (second, ones_second[k]))
        rows = cols = torch.arange(flat.numel(), device=flat.device)
        if shape != op.shape or not _reach(flat, rows, asked):
            rows = numbers_read(values, [answer[k] for answer in answers], base, prod(op.shape))
            if not _reach(flat, rows, asked):
                continue
        found[k] = listed(op, shape, rows, cols, flat, op.work.key("operand", key, k))
    return found


def _reach(flat: Tensor, rows: Tensor, asked: Sequence[tuple[Tensor, Tensor | None]]) -> bool:
    """Whether the answers to seeds are those seeds at some rows times the weights."""
    none = torch.zeros_like(flat)
    answers = [(seed, none if answer is None else answer.reshape(-1)) for seed, answer in asked]
    return all(torch.equal(flat * seed.reshape(-1)[rows], answer) for seed, answer in answers)


def _gathered(op: Op, operands: Sequence[int], key: int | None) -> Found:
    found: Found = {}
    for k in operands:
        shape = op.shapes[k]
        assert shape is not None
        try:
            push = pusher(op, k)
            first, second = seeds(op, shape, 3), seeds(op, shape, 4)
            ones, ones_first = push(torch.ones_like(first)), push(first)
        except (NoRuleError, NotImplementedError, RuntimeError):
            continue
        if not _are_multiples(ones, ones_first):
            continue
        base, parts = digits(op, shape)
        cols, flat = numbers_read(ones, [push(seed) for seed in parts], base, prod(shape)), ones.reshape(-1)
        answers = ((first, ones_first), (second, push(second)))
        if all(torch.equal(flat * seed.reshape(-1)[cols], answer.reshape(-1)) for seed, answer in answers):
            rows = torch.arange(flat.numel(), device=flat.device)
            terms = listed(op, shape, rows, cols, flat, op.work.key("operand", key, k))
            if agrees(op, k, terms):
                found[k] = terms
    return found


def agrees(op: Op, operand: int, terms: Sequence[Term]) -> bool:
    """Whether a map found by pushing, or by running the operation, pulls back what the node does, to rounding."""
    seed, shape = seeds(op, op.shape, 5), op.shapes[operand]
    assert shape is not None
    seed = seed.sign() * (1 + seed.abs().log2().abs())  # none so small that what is beside it hides its place
    answer = pulled(op, seed)[operand]
    answer = seed.new_zeros(shape) if answer is None else answer
    wide = torch.promote_types(answer.dtype, torch.float32)
    expected, size = torch.zeros((2, answer.numel()), dtype=wide, device=answer.device)
    for term in terms:
        if isinstance(term, SparseMap):
            products = (seed.reshape(-1)[term.row_index()] * term.weights().to(wide)).reshape(-1)
            expected.index_add_(0, term.pattern.cols.reshape(-1), products)
            size.index_add_(0, term.pattern.cols.reshape(-1), products.abs())
        elif isinstance(term, KroneckerMap):
            expected += seed.reshape(-1) * term.flat_diagonal()
            size += expected.abs()
    info = torch.finfo(answer.dtype)
    bound = size * ((64 if info.bits > 16 else 8) * info.eps) + info.tiny
    return bool(((expected - answer.reshape(-1)).abs() <= bound).all())


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Those of as many bytes as a float."""


def _are_multiples(ones: Tensor | None, seeded: Tensor | None) -> bool:
    """Whether each entry is its value times a seed, as far as two products tell."""
    if ones is None or seeded is None:
        return ones is None and seeded is None
    ratio = (seeded / ones).masked_fill_((ones == 0) & (seeded == 0), 1)
    mantissa = ratio.view(INTEGERS[ratio.itemsize]) & (round(1 / torch.finfo(ratio.dtype).eps) - 1)
    return bool(((mantissa == 0) & (ratio != 0) & ratio.isfinite()).all())


def listed(op: Op, shape: Shape, rows: Tensor, cols: Tensor, values: Tensor, key: int | None) -> tuple[Term, ...]:
    """The piece with `values` at places that are each named once; those that are zero are left out.

    Places are sorted by rows: entries (k, m), padded with zeros, where rows are about equally long.  A diagonal keeps its
    zeros; not so where something was copied over the entry, which is zero for good.
    """
    values = values.to(op.like.dtype)
    kept = (values != 0).nonzero().reshape(-1)
    copied = op.node.name().endswith("CopySlices")
    if shape == op.shape and not (copied and kept.numel() < values.numel()) and torch.equal(rows, cols):
        return (diagonal(op.shape, shape, values, op.like),)
    if not kept.numel():
        return ()
    if kept.numel() < values.numel():
        rows, cols, values = rows[kept], cols[kept], values[kept]
    place = op.work.key("place", op.content_key(rows, cols) if copied else key, op.shape, shape)
    pattern, order = op.work.structure(place, lambda: _sorted(rows, cols, prod(op.shape), place))
    if order is not None:
        values = values[order]
    if pattern.padded:
        values = values.masked_fill_(order < 0, 0)
    ones = pattern.cols.shape[0] == 1 and bool((values == 1).all())
    return (SparseMap(op.shape, shape, op.like, pattern, None if ones else values.view(pattern.cols.shape)),)


def _sorted(rows: Tensor, cols: Tensor, m: int, key: int | None) -> tuple[Pattern, Tensor | None]:
    """The pattern of places, and the number of each of its entries among them; -1: of padding; None: they stay in order."""
    counts = torch.bincount(rows, minlength=m)
    width = int(counts.max())
    if width * m > 2 * rows.numel() or (width == 1 and rows.numel() < m):
        return Pattern(rows, cols.reshape(1, -1), unique_rows=width <= 1, key=key), None
    order = rows.argsort(stable=True)
    rows, cols = rows[order], cols[order]
    if width == 1:
        return Pattern(None, cols.view(1, m), key=key), order.view(1, m)
    within = torch.arange(rows.numel(), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    first = torch.zeros(m, dtype=torch.int64, device=rows.device)
    first[rows[within == 0]] = cols[within == 0]
    places = first.expand(width, m).clone()
    places[within, rows] = cols
    numbers = torch.full_like(places, -1)
    numbers[within, rows] = order
    return Pattern(None, places, padded=rows.numel() < width * m, key=key), numbers


# --- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(op: Op, operands: Sequence[int], key: int | None) -> Found:
    """Operands that have axes in common with the output: a delta on those, blocks on the others."""
    pairs = paired_axes(op, operands)
    found: Found = {}
    for k in operands:
        if pairs[k] is None:
            found[k] = ()
        elif pairs[k]:
            found[k] = block_terms(op, k, pairs[k] or {})
    return found


def paired_axes(op: Op, operands: Sequence[int]) -> dict[int, dict[int, int] | None]:
    """For each operand: output axis to the operand's axis that it runs together with; None: the map is zero here.

    The seed is weighed along an output axis.  If output entries at place i of it depend on the operand's entries at
    place i alone, each pulled-back entry is weighed by just its own place.
    """
    seed = seeds(op, op.shape, 6)
    plain = pulled(op, seed)
    pairs: dict[int, dict[int, int] | None] = {}
    for k in operands:
        grad = plain[k]
        if grad is not None and not bool(grad.isfinite().all()):
            raise NoRuleError("a derivative that is not finite")
        pairs[k] = None if grad is None or not bool(grad.any()) else {}
    for axis, size in enumerate(op.shape):
        if size < 2 or all(pairs[k] is None for k in operands):
            continue
        fitting: dict[int, list[int]] = {
            k: [e for e, length in enumerate(op.shapes[k] or ()) if length == size and e not in here.values()]
            for k in operands
            if (here := pairs[k]) is not None
        }
        for weights in _weighings(size, seed):
            if not any(fitting.values()):
                break
            weighed = pulled(op, seed * _along(weights, axis, len(op.shape)))
            for k, axes in fitting.items():
                grad, shape, answer = plain[k], op.shapes[k], weighed[k]
                if axes and grad is not None and shape is not None:
                    answer = torch.zeros_like(grad) if answer is None else answer
                    fitting[k] = [e for e in axes if torch.equal(grad * _along(weights, e, len(shape)), answer)]
        for k, axes in fitting.items():
            paired = pairs[k]
            if axes and paired is not None:
                paired[axis] = axes[0]
    return pairs


def _weighings(size: int, like: Tensor) -> list[Tensor]:
    """Weights 0, 1, 2, 4 along an axis, by the digits of the place: any two places differ in one of the weighings."""
    rest, table = torch.arange(size, device=like.device), like.new_tensor([0.0, 1.0, 2.0, 4.0])
    result = []
    while bool(rest.any()):
        result.append(table[rest % 4])
        rest = torch.div(rest, 4, rounding_mode="floor")
    return result


def _along(weights: Tensor, axis: int, dims: int) -> Tensor:
    return weights.view([-1 if d == axis else 1 for d in range(dims)])


def block_terms(op: Op, operand: int, pairs: dict[int, int]) -> tuple[Term, ...]:
    """The piece with deltas on the paired axes: one call for each place on the output's other axes."""
    shape = op.shapes[operand]
    assert shape is not None
    mixed = [axis for axis in range(len(op.shape)) if axis not in pairs]
    rows = pull_basis(op, mixed)[operand]
    if rows is None:
        return ()
    rows = reduce_to(rows, shape)
    labels = tuple(range(len(shape)))
    out = [pairs.get(axis, len(shape) + axis) for axis in range(len(op.shape))]
    sizes = {**dict(enumerate(shape)), **{len(shape) + axis: op.shape[axis] for axis in mixed}}
    values = rows.reshape(*[op.shape[axis] for axis in mixed], *shape)
    factor = Factor(values, tuple([len(shape) + axis for axis in mixed]) + labels)
    return (_without_zeros(op, op.regular(shape, out, labels, sizes, [factor])),)


def along(op: Op, dims: Collection[int]) -> Locals:
    """Blocks of an operation of one operand that mixes entries along some axes alone."""
    shape = op.operand
    kept = [axis for axis in range(len(shape)) if axis not in dims]
    if len(shape) != len(op.shape) or any(shape[axis] != op.shape[axis] for axis in kept):
        raise NoRuleError("the axes do not match")
    return op.first(*block_terms(op, 0, {axis: axis for axis in kept}))


def probe(op: Op) -> Locals:
    """Every operand's dense block: a basis vector for each entry of the output."""
    rows, m = pull_basis(op, range(len(op.shape))), prod(op.shape)

    def block(shape: Shape, found: Tensor) -> Term:
        return dense(op.shape, shape, reduce_to(found, shape).reshape(m, prod(shape)), op.like)

    return [
        None if shape is None else () if found is None else (block(shape, found),)
        for shape, found in zip(op.shapes, rows, strict=True)
    ]


def pull_basis(op: Op, mixed: Sequence[int]) -> list[Tensor | None]:
    """For each operand the pulled-back basis over the axes `mixed`: (their sizes' product, *pulled shape)."""
    count = prod([op.shape[axis] for axis in mixed])
    largest = max([prod(op.shape), *[prod(s) for s in op.shapes if s is not None]])
    if count * largest > MOST_WORK:
        raise UnsupportedError(f"{op.node.name()} has too large a local Jacobian")
    op.work.reserve(count * largest, op.like.element_size())
    if count == 1:
        return [None if g is None else g.unsqueeze(0) for g in op.pull(op.ones().contiguous())]
    held = 2 * largest + (spare(op.node) if is_fused(op.node.name()) else 0)
    chunk = max(1, min(count, CHUNK_BYTES // max(1, held * op.like.element_size())))
    chunk = 1 if count <= LOOP or chunk <= LOOP else chunk

    def pull(v: Tensor) -> list[Tensor | None]:
        return [None if shape is None else g for g, shape in zip(op.pull(v), op.shapes, strict=False)]

    return gathered(Sweep(pull, op.ones(), chunk), count, partial(_basis, op, mixed))


def _basis(op: Op, mixed: Sequence[int], start: int, stop: int) -> Tensor:
    """One-hot over the axes `mixed`, the same along the others: (stop - start, *shape)."""
    meta = op.node._input_metadata[op.nr]
    count = prod([op.shape[axis] for axis in mixed])
    hot = torch.zeros((stop - start, count), dtype=meta.dtype, device=meta.device)
    hot.diagonal(start).fill_(1)
    grid = [op.shape[axis] if axis in mixed else 1 for axis in range(len(op.shape))]
    return hot.view(stop - start, *grid).expand(stop - start, *op.shape).contiguous()


def reduce_to(rows: Tensor, shape: Shape) -> Tensor:
    """Pulled-back batches (m, …) summed to (m, *shape), as broadcasting asks."""
    extra = rows.dim() - 1 - len(shape)
    if extra < 0:
        raise UnsupportedError("a gradient with fewer axes than its operand")
    if extra:
        rows = rows.sum(list(range(1, 1 + extra)))
    axes = [a + 1 for a, size in enumerate(shape) if size == 1 and rows.shape[a + 1] != 1]
    rows = rows.sum(axes, keepdim=True) if axes else rows
    if tuple(rows.shape[1:]) != shape:
        raise UnsupportedError("a gradient whose shape is not its operand's")
    return rows


def _without_zeros(op: Op, term: KroneckerMap) -> Term:
    """A piece by index arrays, where most of its block is zero and stays so at other points."""
    if base_name(op.node.name()) not in LINEAR and _constant_key(op) is None:
        return term
    if int(torch.count_nonzero(term.values())) * MOSTLY_ZERO > term.bound or term.bound <= term.n:
        return term
    labels = term.labels
    values = term.values(labels).reshape(-1)
    kept = values.nonzero().reshape(-1)
    rows, cols = (term.index(side, labels).reshape(-1)[kept] for side in (term.out, term.inn))
    (piece, *_) = listed(op, term.in_shape, rows, cols, values[kept], None) or (term,)
    return piece


ONE_TO_ONE_NAMES = """
MaxUnpool2D MaxUnpool3D DiagEmbed BlockDiag NarrowCopy AsStrided UnsafeMaskedIndex NativeDropoutBackward Fill Zero
SelectBackward SliceBackward DiagonalBackward
"""
"""Every entry of the output reads one entry of each operand at most."""

BLOCK_NAMES = """
LinalgSvd LinalgQr LinalgLuFactorEx LinalgLu LuUnpack LinalgLuSolve TriangularSolve CholeskySolve
LinalgEigh LinalgHouseholderProduct LinalgLstsq LinalgCross Cdist
ScaledDotProductFlashAttentionForCpu MultiMarginLoss MultilabelMarginLoss Renorm CtcLoss MkldnnRnnLayer
SoftmaxBackwardData LogSoftmaxBackwardData GluBackward
"""
"""Blocks along the axes that the operand has in common with the output."""

BLOCKS = frozenset(BLOCK_NAMES.split())

LINEAR_NAMES = """
GridSampler2D GridSampler3D NllLoss NllLoss2D EmbeddingBag ScatterReduce IndexReduce SegmentReduce
NllLossBackward UnfoldBackward MaxPool2DWithIndicesBackward AvgPool2DBackward AdaptiveAvgPool2DBackward
ReflectionPad1DBackward ReflectionPad2DBackward UpsampleLinear1DBackward UpsampleBilinear2DBackward
UpsampleNearest1DBackward UpsampleNearest2DBackward EmbeddingDenseBackward
"""
"""Blocks too, or rather few nonzeros; what is zero for an operand is so whatever the operand's values are."""

LINEAR = frozenset(LINEAR_NAMES.split())

RULES: dict[str, Rule] = dict.fromkeys((*ONE_TO_ONE_NAMES.split(), *BLOCKS, *LINEAR, "CopySlices"), detect)
