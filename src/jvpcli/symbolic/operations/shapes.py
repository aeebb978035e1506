"""What gives a tensor another shape or order, picks its entries or joins several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from torch import Tensor

from jvpcli.symbolic.forms import (
    Atom,
    Axis,
    Delta,
    Index,
    Lam,
    NoClosedFormError,
    Poly,
    add,
    constant_of,
    fresh,
    of,
    times,
    total,
)
from jvpcli.symbolic.operations.entries import Dims, minus, places, plus, times_of


def permuted(x: Lam, *dims: Any) -> Lam:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (list, tuple)) else dims
    return Lam(tuple(x.over[d] for d in order), x.body)


def movedim(x: Lam, source: Dims, destination: Dims) -> Lam:
    rank = len(x.over)
    first = [d % rank for d in (source if isinstance(source, (list, tuple)) else [source])]  # type: ignore[operator]
    second = [d % rank for d in (destination if isinstance(destination, (list, tuple)) else [destination])]  # type: ignore[operator]
    placed = dict(zip(second, first, strict=True))
    others = iter(k for k in range(rank) if k not in first)
    return Lam(tuple(x.over[placed[k] if k in placed else next(others)] for k in range(rank)), x.body)


def unsqueezed(x: Lam, dim: int) -> Lam:
    at = dim % (len(x.over) + 1)
    return Lam((*x.over[:at], fresh(1), *x.over[at:]), x.body)


def squeezed(x: Lam, dim: Dims = None) -> Lam:
    chosen = places(dim, len(x.over))
    at = [0 if k in chosen and i.size == 1 else i for k, i in enumerate(x.over)]
    return Lam(tuple(a for a in at if isinstance(a, Index)), x(*at))


def moved(x: Lam, name: str, params: tuple[Any, ...], shape: Sequence[int]) -> Lam:
    """An operation that moves entries, on all axes at once."""
    over = tuple(map(fresh, shape))
    inside = tuple(fresh(i.size) for i in x.over)
    return Lam(over, of(Atom("move", (Lam(inside, x(*inside)),), over, (name, *params))))


def reshaped(x: Lam, *shape: Any) -> Lam:
    sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape)
    if -1 in sizes:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known if known else 0
    if tuple(sizes) == x.shape:
        return x
    if [s for s in sizes if s != 1] == [s for s in x.shape if s != 1]:  # only axes of size 1 come or go
        kept = squeezed(x)
        rest = iter(kept.over)
        return Lam(tuple(fresh(1) if s == 1 else next(rest) for s in sizes), kept.body)
    return moved(x, "reshape", (x.shape, tuple(sizes)), sizes)


def flattened(x: Lam, start_dim: int = 0, end_dim: int = -1) -> Lam:
    if not x.over:
        return unsqueezed(x, 0)
    start, end = start_dim % len(x.over), end_dim % len(x.over)
    return reshaped(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def expanded(x: Lam, *sizes: Any, implicit: bool = False) -> Lam:
    shape = list(sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes)
    new = len(shape) - len(x.over)
    over = [fresh(x.shape[k - new] if s == -1 else s) for k, s in enumerate(shape)]
    at = [0 if own.size == 1 else index for own, index in zip(x.over, over[new:], strict=True)]
    return Lam(tuple(over), x(*at))


def expanded_as(x: Lam, other: Lam) -> Lam:
    return expanded(x, other.shape)


def flipped(x: Lam, *axes: Any, dims: Any = None) -> Lam:
    given = axes if dims is None else (dims,)
    chosen = places(given[0] if len(given) == 1 else given, len(x.over))
    return moved(x, "flip", (chosen, len(x.over)), x.shape)


def rolled(x: Lam, shifts: Any, dims: Any = None) -> Lam:
    if dims is None:
        return reshaped(rolled(flattened(x), shifts, 0), x.shape)
    pairs = zip(*(given if isinstance(given, (list, tuple)) else (given,) for given in (shifts, dims)), strict=True)
    for shift, dim in pairs:
        x = moved(x, "roll", (shift, dim % len(x.over), len(x.over)), x.shape)
    return x


def rotated(x: Lam, k: int = 1, dims: Sequence[int] = (0, 1)) -> Lam:
    first, second = dims
    for _ in range(k % 4):
        x = flipped(transposed(x, first, second), first)
    return x


def triangle(name: str) -> Callable[..., Lam]:
    return lambda x, diagonal=0: moved(x, name, (diagonal,), x.shape)


def cumsum(x: Lam, dim: int, dtype: Any = None) -> Lam:
    return moved(x, "cumsum", (dim % len(x.over), len(x.over)), x.shape)


def diag(x: Lam, diagonal: int = 0) -> Lam:
    if diagonal:
        raise NoClosedFormError("a diagonal beside the main one has no index form here")
    return embedded(x) if len(x.over) == 1 else diagonal_of(x)


def embedded(x: Lam, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Lam:
    if offset or (dim1, dim2) != (-2, -1):
        raise NoClosedFormError("a diagonal beside the main one has no index form here")
    j = fresh(x.shape[-1])
    return Lam((*x.over, j), times(x.body, of(Delta(x.over[-1], j))))


def diagonal_of(x: Lam, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Lam:
    p, q = dim1 % len(x.over), dim2 % len(x.over)
    if offset or x.shape[p] != x.shape[q]:
        raise NoClosedFormError("such a diagonal has no index form here")
    i = fresh(x.shape[p])
    rest = [index for k, index in enumerate(x.over) if k not in (p, q)]
    return Lam((*rest, i), x(*(i if k in (p, q) else index for k, index in enumerate(x.over))))


def item(x: Lam, key: Any) -> Lam:
    keys = list(key) if isinstance(key, tuple) else [key]
    if isinstance(keys[0], Lam) and len(keys) == 1:
        return index_select(x, 0, keys[0])
    if any(isinstance(k, (Lam, list, bool)) for k in keys):
        raise NoClosedFormError("an index of several positions has no index form here")
    given = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if Ellipsis in keys:
        at = next(n for n, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(x.over) - given)
    keys += [slice(None)] * (len(x.over) - sum(1 for k in keys if k is not None))
    axes: list[Axis] = []
    result: list[Index] = []
    cuts: list[tuple[int, int, int]] = []
    own = iter(x.over)
    for k in keys:
        if k is None:
            result.append(fresh(1))
            continue
        index = next(own)
        if isinstance(k, slice):
            start, stop, step = k.indices(index.size)
            if step != 1:
                raise NoClosedFormError("a slice with a step has no index form here")
            axes.append(index)
            result.append(index)
            cuts.append((start, max(stop, start), index.size))
        elif isinstance(k, int):
            axes.append(k % index.size)
        else:
            raise NoClosedFormError("such an index has no index form here")
    picked = Lam(tuple(result), x(*axes))
    if all((start, stop) == (0, size) for start, stop, size in cuts):
        return picked
    kept = [index for index in result if index in axes]
    body = Lam(tuple(kept), picked.body)
    sizes = [stop - start for start, stop, _ in cuts]
    spelled = ", ".join(f"{a or ''}:{b if b != n else ''}" for a, b, n in cuts)
    widths = tuple(w for a, b, n in reversed(cuts) for w in (a, n - b))
    cut = moved(body, "slice", (spelled, widths), sizes)
    after = dict(zip(kept, cut.over, strict=True))
    return Lam(tuple(after.get(index, index) for index in result), cut.body)


def selected(x: Lam, dim: int, index: int) -> Lam:
    return item(x, (*[slice(None)] * (dim % len(x.over)), index))


def narrowed(x: Lam, dim: int, start: int, length: int) -> Lam:
    return item(x, (*[slice(None)] * (dim % len(x.over)), slice(start, start + length)))


def stacked(tensors: Sequence[Lam], dim: int = 0) -> Lam:
    over = tuple(fresh(s) for s in tensors[0].shape)
    which = fresh(len(tensors))
    body = add(*(times((term,), of(Delta(k, which))) for k, x in enumerate(tensors) for term in x(*over)))
    at = dim % (len(over) + 1)
    return Lam((*over[:at], which, *over[at:]), body)


def joined(tensors: Sequence[Lam], dim: int = 0) -> Lam:
    rank = len(tensors[0].over)
    at = dim % rank
    whole = sum(x.shape[at] for x in tensors)
    shape = (*tensors[0].shape[:at], whole, *tensors[0].shape[at + 1 :])
    start, found = 0, None
    for x in tensors:
        before, after = start, whole - start - x.shape[at]
        widths = (0, 0) * (rank - 1 - at) + (before, after)
        cuts = ", ".join(
            f"{before or ''}:{before + x.shape[at] if after else ''}" if k == at else ":" for k in range(rank)
        )
        part = moved(x, "pad", (widths, cuts), shape)
        found = part if found is None else plus(found, part)
        start += x.shape[at]
    assert found is not None
    return found


def split(x: Lam, size: Any, dim: int = 0) -> tuple[Lam, ...]:
    whole = x.shape[dim]
    sizes = size if isinstance(size, (list, tuple)) else [min(size, whole - k) for k in range(0, whole, size)]
    found, start = [], 0
    for length in sizes:
        found.append(narrowed(x, dim, start, length))
        start += length
    return tuple(found)


def split_at(x: Lam, sections: int | Sequence[int], dim: int = 0) -> tuple[Lam, ...]:
    """Parts of nearly one length, as many as `sections` says, or those between such positions."""
    whole = x.shape[dim]
    if isinstance(sections, int):
        short, longer = divmod(whole, sections)
        return split(x, [short + 1] * longer + [short] * (sections - longer), dim)
    ends = [min(k % whole if k < 0 else k, whole) for k in sections]
    return split(x, [b - a for a, b in zip([0, *ends], [*ends, whole], strict=True)], dim)


def channels_shuffled(x: Lam, groups: int) -> Lam:
    n, c, *rest = x.shape
    return reshaped(transposed(reshaped(x, (n, groups, c // groups, *rest)), 1, 2), x.shape)


def padded(x: Lam, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Lam:
    if mode != "constant" or value or min(pad) < 0:
        raise NoClosedFormError("such a padding is told by where its entries come from")
    rank, n = len(x.over), len(pad) // 2
    widths = {rank - 1 - k: (pad[2 * k], pad[2 * k + 1]) for k in range(n)}
    shape = [size + sum(widths.get(k, (0, 0))) for k, size in enumerate(x.shape)]
    ends = [widths.get(k, (0, 0)) for k in range(rank - n, rank)]
    sizes = x.shape[rank - n :]
    cuts = ", ".join(f"{a or ''}:{a + size if b else ''}" for (a, b), size in zip(ends, sizes, strict=True))
    return moved(x, "pad", (tuple(pad), cuts), shape)


def one_hot(position: Poly, at: Axis, size: int) -> Poly:
    """1 where an index is the position, else 0."""
    known = constant_of(position)
    if known is not None and known.denominator == 1 and 0 <= known < size:
        return of(Delta(at, int(known)))
    return of(Atom("one_hot", (Lam((), position),), (at,), (size,)))


def index_select(x: Lam, dim: int, index: Lam) -> Lam:
    """The slices of a tensor at positions in another, whose axes come in the place of that axis."""
    at = dim % len(x.over)
    i = fresh(x.shape[at])
    own, new = list(x.over), tuple(fresh(size) for size in index.shape)
    body = total(times(one_hot(index(*new), i, i.size), x(*own[:at], i, *own[at + 1 :])), (i,))
    return Lam((*own[:at], *new, *own[at + 1 :]), body)


def gathered(x: Lam, dim: int, index: Lam, sparse_grad: bool = False) -> Lam:
    at, over = dim % len(x.over), index.over
    if any(a != b for k, (a, b) in enumerate(zip(index.shape, x.shape, strict=True)) if k != at):
        raise NoClosedFormError("what is gathered of a part of a tensor is told by its positions")
    i = fresh(x.shape[at])
    return Lam(over, total(times(one_hot(index.body, i, i.size), x(*over[:at], i, *over[at + 1 :])), (i,)))


def embedding(index: Lam, weight: Lam, padding_idx: None = None, *others: Any, **more: Any) -> Lam:
    if padding_idx is not None or others or more:
        raise NoClosedFormError("an embedding with options is told by its positions")
    return index_select(weight, 0, index)


def chunk(x: Lam, chunks: int, dim: int = 0) -> tuple[Lam, ...]:
    return split(x, -(-x.shape[dim] // chunks), dim)


def unbound(x: Lam, dim: int = 0) -> tuple[Lam, ...]:
    return tuple(selected(x, dim, k) for k in range(x.shape[dim]))


def difference(x: Lam, n: int = 1, dim: int = -1, prepend: None = None, append: None = None) -> Lam:
    for _ in range(n):
        size = x.shape[dim]
        x = minus(narrowed(x, dim % len(x.over), 1, size - 1), narrowed(x, dim % len(x.over), 0, size - 1))
    return x


def _trapezes(y: Lam, x: Lam | None, dx: float, dim: int) -> Lam:
    """The area of each strip between neighbours along an axis."""
    at, size = dim % len(y.over), y.shape[dim]
    first, second = narrowed(y, at, 0, size - 1), narrowed(y, at, 1, size - 1)
    if x is None:
        width: Any = Fraction(str(dx))
    else:
        along = x if len(x.over) > 1 or len(y.over) == 1 else Lam((*x.over, *(fresh(1) for _ in y.over[at + 1 :])), x.body)
        width = difference(along, 1, at if len(along.over) == len(y.over) else 0)
    return times_of(times_of(plus(first, second), width), Fraction(1, 2))


def trapezoid(y: Lam, x: Lam | None = None, *, dx: float = 1, dim: int = -1) -> Lam:
    strips = _trapezes(y, x, dx, dim)
    along = strips.over[dim]
    return Lam(tuple(i for i in strips.over if i != along), total(strips.body, (along,)))


def cumulative_trapezoid(y: Lam, x: Lam | None = None, *, dx: float = 1, dim: int = -1) -> Lam:
    return cumsum(_trapezes(y, x, dx, dim), dim)


def broadcast_tensors(*tensors: Any) -> tuple[Lam, ...]:
    parts = list(tensors[0]) if isinstance(tensors[0], (list, tuple)) else list(tensors)
    whole = reduce(times_of, parts).shape
    return tuple(expanded(x, whole) for x in parts)


def sum_to_size(x: Lam, *size: Any) -> Lam:
    shape = size[0] if len(size) == 1 and isinstance(size[0], (list, tuple)) else size
    new = len(x.over) - len(shape)
    gone = tuple(i for k, i in enumerate(x.over) if k < new or (shape[k - new] == 1 and i.size != 1))
    return Lam(tuple(fresh(1) if i in gone else i for i in x.over[new:]), total(x.body, gone))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Lam, ...]:
    parts = list(tensors[0]) if isinstance(tensors[0], (list, tuple)) else list(tensors)
    over = [fresh(x.shape[0] if x.over else 1) for x in parts]
    grids = [Lam(tuple(over), x(over[k]) if x.over else x()) for k, x in enumerate(parts)]
    return tuple(transposed(g, 0, 1) if indexing == "xy" and len(parts) > 1 else g for g in grids)


MOST_PICKED = 256
"""Entries whose positions are written out."""


def picked(x: Lam, places: Tensor, fill: float = 0.0) -> Lam:
    """The entries of a tensor at places, counted from 1 through all of it; 0 stands for none, where `fill` is put.

    Raises:
        NoClosedFormError: there are too many to write them out.
    """
    _refuse_many(places.numel(), math.prod(x.shape))
    flat = tuple(int(p) for p in places.reshape(-1).tolist())
    beside = (fill,) if fill and 0 in flat else ()
    return _of_squeezed(x, "pick", lambda before, after: (flat, before, after, *beside), places.shape)


def spread(x: Lam, places: Tensor, shape: Sequence[int]) -> Lam:
    """The entries of a tensor added up at places of a tensor of that shape, counted from 1; 0 stands for none.

    Raises:
        NoClosedFormError: there are too many to write them out.
    """
    _refuse_many(places.numel(), math.prod(shape))
    flat = tuple(int(p) for p in places.reshape(-1).tolist())
    return _of_squeezed(x, "adjoint pick", lambda before, after: (flat, after, before), shape)


def weighed(x: Lam, matrix: Tensor, shape: Sequence[int]) -> Lam:
    """A matrix of constants times all entries of a tensor, in that shape.

    Raises:
        NoClosedFormError: it has too many entries to write them out.
    """
    rows, columns = matrix.nonzero().unbind(1)
    _refuse_many(len(rows))
    lists = tuple(tuple(part.tolist()) for part in (rows, columns, matrix[rows, columns]))
    return _of_squeezed(x, "weigh", lambda before, after: (*lists, before, after), shape)


def _refuse_many(*counts: int) -> None:
    if max(counts) > MOST_PICKED:
        raise NoClosedFormError("it picks too many entries to write their positions out: give a smaller example")


def _of_squeezed(
    x: Lam, name: str, params: Callable[[tuple[int, ...], tuple[int, ...]], tuple[Any, ...]], shape: Sequence[int]
) -> Lam:
    """A move between the axes that are longer than 1; `params` is told their shapes."""
    bare, after = squeezed(x), tuple(size for size in shape if size != 1)
    found = moved(bare, name, params(bare.shape, after), after)
    rest = iter(found.over)
    return Lam(tuple(fresh(1) if size == 1 else next(rest) for size in shape), found.body)


def column_stack(tensors: Sequence[Lam]) -> Lam:
    return joined([reshaped(x, (math.prod(x.shape), 1)) if len(x.over) < 2 else x for x in tensors], 1)


def transposed(x: Lam, dim0: int = -2, dim1: int = -1) -> Lam:
    over = list(x.over)
    if over:
        over[dim0], over[dim1] = over[dim1], over[dim0]
    return Lam(tuple(over), x.body)


def reversed_axes(x: Lam) -> Lam:
    return Lam(x.over[::-1], x.body)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "diff": difference, "meshgrid": meshgrid, "column_stack": column_stack, "cumsum": cumsum, "T": reversed_axes,
    "mT": transposed, "t": reversed_axes, "H": reversed_axes, "mH": transposed, "adjoint": transposed, "transpose": transposed,
    "swapaxes": transposed, "swapdims": transposed, "permute": permuted, "movedim": movedim, "moveaxis": movedim,
    "unsqueeze": unsqueezed, "squeeze": squeezed, "view": reshaped, "reshape": reshaped,
    "view_as": lambda x, y: reshaped(x, y.shape), "reshape_as": lambda x, y: reshaped(x, y.shape), "flatten": flattened,
    "ravel": flattened,
    "unflatten": lambda x, dim, sizes: reshaped(x, (*x.shape[: dim % len(x.over)], *sizes, *x.shape[dim % len(x.over) + 1 :])),
    "expand": expanded, "expand_as": expanded_as, "broadcast_to": expanded, "flip": flipped, "fliplr": lambda x: flipped(x, 1),
    "flipud": lambda x: flipped(x, 0), "roll": rolled, "tril": triangle("tril"), "triu": triangle("triu"), "diag": diag,
    "diag_embed": embedded, "diagflat": lambda x: embedded(flattened(x)), "diagonal": diagonal_of, "op:getitem": item,
    "select": selected, "narrow": narrowed, "stack": stacked, "cat": joined, "concat": joined, "concatenate": joined,
    "split": split, "chunk": chunk, "unbind": unbound,
    "vstack": lambda xs: joined([x if len(x.over) > 1 else unsqueezed(x, 0) for x in xs]),
    "hstack": lambda xs: joined(xs, 0 if len(xs[0].over) == 1 else 1),
    "trapezoid": trapezoid, "trapz": trapezoid, "cumulative_trapezoid": cumulative_trapezoid,
    "broadcast_tensors": broadcast_tensors,
    "sum_to_size": sum_to_size, "rot90": rotated, "split_with_sizes": split, "tensor_split": split_at,
    "vsplit": lambda x, sections: split_at(x, sections, 0), "dsplit": lambda x, sections: split_at(x, sections, 2),
    "hsplit": lambda x, sections: split_at(x, sections, min(1, len(x.over) - 1)), "channel_shuffle": channels_shuffled,
    "pad": padded, "constant_pad_nd": lambda x, pad, value=0: padded(x, pad, "constant", value), "index_select": index_select,
    "gather": gathered, "embedding": embedding, "take_along_dim": lambda x, index, dim: gathered(x, dim, index),
}  # fmt: skip
