"""Which tensors share memory, and what a write through one of them does to another.

An in-place step changes every tensor that shares memory with the one it is called on.  Seen as pure functions, each of
those others is a new value: its old one, with the entries that lie in the written part taken from there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def storage(t: Tensor) -> int:
    """What identifies the memory that a tensor lies in."""
    return t.untyped_storage()._cdata


def same_place(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one storage are the same entries, seen in the same way."""
    return a is b or (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.storage_offset() == b.storage_offset()
        and a.is_conj() == b.is_conj()
        and a.is_neg() == b.is_neg()
    )


def related(a: Tensor, b: Tensor) -> bool:
    """Whether autograd knows that the two share memory: views of one tensor do, what `.detach()` gives does not."""
    return _base(a) is _base(b)


def overlap(seen: Tensor, written: Tensor) -> Tensor | None:
    """For each entry of `seen` the flat position of the entry of `written` that lies in the same place, or -1.

    Both lie in one storage; where one is complex and the other real, entries are counted in real numbers (a last axis
    of 2).  None: no entry is shared, or the memory is read as another type.
    """
    if seen.dtype.to_real() != written.dtype.to_real() or not seen.numel() or not written.numel():
        return None
    real = seen.is_complex() != written.is_complex()
    places = _places(written, real)
    holder = torch.full((_entries(seen, real),), -1, dtype=torch.int64)
    holder[places.reshape(-1)] = torch.arange(places.numel())
    index = holder[_places(seen, real)]
    return index.to(seen.device) if bool((index >= 0).any()) else None


def overwritten(old: Tensor, new: Tensor, index: Tensor, seen: Tensor, written: Tensor) -> Tensor:
    """`old` with the entries that `index` (see :func:`overlap`) finds in `new` taken from there; differentiable.

    `seen` and `written` are tensors of the memory that `old` and `new` are values of.
    """
    real = seen.is_complex() != written.is_complex()
    kept, source = _physical(old, seen, real), _physical(new, written, real).reshape(-1)
    mixed = torch.where(index >= 0, source[index.clamp(min=0)], kept)
    return _logical(mixed, seen, real)


def _base(t: Tensor) -> Tensor:
    base = t._base
    return t if base is None else base


def _entries(t: Tensor, real: bool) -> int:
    """How many entries the whole storage holds."""
    size = t.element_size() // (2 if real and t.is_complex() else 1)
    return t.untyped_storage().nbytes() // size


def _places(t: Tensor, real: bool) -> Tensor:
    """int64: for each entry of `t` its position in the storage."""
    size, stride, offset = list(t.shape), list(t.stride()), t.storage_offset()
    if real and t.is_complex():
        size, stride, offset = [*size, 2], [*(2 * s for s in stride), 1], 2 * offset
    return torch.arange(_entries(t, real)).as_strided(size, stride, offset)


def _physical(value: Tensor, memory: Tensor, real: bool) -> Tensor:
    """What stands in memory for a value: lazily conjugated and negated views hold other numbers than they show."""
    value = value.conj() if memory.is_conj() else value
    value = -value if memory.is_neg() else value
    return torch.view_as_real(value.resolve_conj()) if real and value.is_complex() else value


def _logical(value: Tensor, memory: Tensor, real: bool) -> Tensor:
    value = torch.view_as_complex(value) if real and memory.is_complex() else value
    value = -value if memory.is_neg() else value
    return value.conj() if memory.is_conj() else value
