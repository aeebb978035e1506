"""What the engine's pieces of a Jacobian have in common, and what the work on them may use."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import Ends


@dataclass(frozen=True, eq=False)
class Term(Ends):
    """One piece of a Jacobian (m, n); a Jacobian is the sum of a few.

    Attributes:
        like: any tensor of the entries' dtype and device.
    """

    like: Tensor

    @property
    def bound(self) -> int:
        """How many entries can be other than zero."""
        raise NotImplementedError

    @property
    def is_dense(self) -> bool:
        """Whether every entry can be other than zero."""
        return False

    @property
    def numbers(self) -> Sequence[Tensor]:
        """The tensors that it is held by, but for index arrays."""
        raise NotImplementedError

    def changed(self, make: Callable[[Tensor], Tensor]) -> Term:
        """The piece with others in the place of those."""
        raise NotImplementedError

    def bare(self) -> Term:
        """The piece with 1 in all its places."""
        raise NotImplementedError

    def absolute(self) -> Term:
        """The piece of the entries' sizes."""
        return self.changed(torch.abs)

    def count_nonzero(self) -> int:
        """How many of its places hold an entry other than zero."""
        raise NotImplementedError

    @property
    def is_filled(self) -> bool:
        """Whether all of them do."""
        return self.count_nonzero() == self.bound

    def times(self, v: Tensor, forwards: bool) -> Tensor:
        """The product with a vector (n,) from the right, or (m,) from the left."""
        raise NotImplementedError

    def write_dense(self, result: Tensor, accumulate: bool = False) -> None:
        """Write (or add) the entries into a matrix (m, n) that has a zero at every other place."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """The matrix (m, n); may be a view of what is held."""
        result = zeros(self.m, self.n, self.like)
        self.write_dense(result)
        return result


class TooLargeError(Exception):
    """A step of this strategy would need more memory than allowed; another strategy may do."""


class UnsupportedError(Exception):
    """The graph holds something that local maps are not made for."""


MOST_KEPT = 1 << 14
"""Kept structures; a program whose indices change from call to call would pile them up."""


FEW = 1 << 12
"""Up to so many numbers are copied in less time than it takes to find out whether a map holds them in the end."""


@dataclass
class Workspace:
    """What composing may use: a limit in bytes, and index arrays made before.

    Index arrays are found by the operation, its parameters and the keys of the patterns that they were made from:
    the same program at the same shapes finds them made, and a program that takes another path does not.
    `lent` names the memory of the tensors that operations have saved: it is not the map's, and may be written to later on.
    `products` is how many more entries may be multiplied by index arrays, however few are held at a time.
    """

    limit: float = float("inf")
    made: dict[int, Any] = field(default_factory=dict)
    keys: dict[tuple[Hashable, ...], int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    lent: set[int] = field(default_factory=set)
    products: float = float("inf")

    def key(self, *parts: Hashable) -> int | None:
        """A number for an operation with its parameters and the keys of what it is applied to; None if one of them has none.

        A key that held the keys it was made from would grow as fast as the paths through the program.
        """
        if None in parts:
            return None
        if len(self.keys) >= 4 * MOST_KEPT:
            self.keys.clear()  # numbers are never given twice, so that those still held just find nothing
        found = self.keys.get(parts)
        if found is None:
            found = self.keys[parts] = next(self.numbers)
        return found

    def structure(self, key: int | None, make: Callable[[], Any]) -> Any:
        """What `make` gives (anything that depends on structure alone), made once for every key; None: never kept."""
        if key is None:
            return make()
        found = self.made.get(key)
        if found is None:
            if len(self.made) >= MOST_KEPT:
                self.made.clear()
            found = self.made[key] = make()
        return found

    def settle(self, key: int, found: Any) -> None:
        """Keep this for a key from now on."""
        self.made[key] = found

    def anew(self) -> Workspace:
        """A workspace for another evaluation: what was made is kept, and nothing is lent yet."""
        return replace(self, lent=set())

    def borrowed(self, values: Tensor) -> Tensor:
        """Numbers in memory that is not the map's: copied where they are few, else it is noted whose they are."""
        if values.numel() <= FEW:
            return values.clone()
        self.lent.add(values.untyped_storage()._cdata)
        return values

    def is_lent(self, values: Tensor) -> bool:
        """Whether some numbers lie in such memory."""
        return values.untyped_storage()._cdata in self.lent

    def reserve(self, entries: int, itemsize: int) -> None:
        """Raise TooLargeError where so many entries are over the limit."""
        if entries * itemsize > self.limit:
            raise TooLargeError(f"{entries} entries of {itemsize} bytes are more than the limit allows")

    def spend(self, products: int) -> None:
        """Raise TooLargeError where so many products more are over what is left."""
        self.products -= products
        if self.products < 0:
            raise TooLargeError("the index arrays would have to be multiplied for longer than allowed")


def zeros(m: int, n: int, like: Tensor) -> Tensor:
    """A matrix of zeros whose pages cost nothing until they are written to (calloc)."""
    name = _NUMPY_NAMES.get(like.dtype)
    if name and like.device.type == "cpu" and m * n * like.element_size() >= 1 << 20:
        import numpy as np

        return torch.from_numpy(np.zeros((m, n), dtype=name))
    return like.new_zeros((m, n))


_NUMPY_NAMES = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64"}
