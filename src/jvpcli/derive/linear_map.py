"""A derivative is a linear map, not an array.

A map J from a tensor of `in_shape` to one of `out_shape` can pull back a cotangent (vᵀJ), push forward a tangent
(Ju), count its nonzeros and write itself out.  What kind it is answers "which product is meant: element-wise,
matrix, something else?".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LinearMap(ABC):
    """A linear map; flattened row-major it is a matrix of m = prod(out_shape) rows and n = prod(in_shape) columns."""

    out_shape: Shape
    in_shape: Shape

    @property
    def m(self) -> int:
        """Number of output entries."""
        return prod(self.out_shape)

    @property
    def n(self) -> int:
        """Number of input entries."""
        return prod(self.in_shape)

    @property
    @abstractmethod
    def structure(self) -> str:
        """The most special kind of the contract's list that holds."""

    @property
    @abstractmethod
    def nnz(self) -> int:
        """How many entries are not zero."""

    @abstractmethod
    def pullback(self, v: Tensor) -> Tensor:
        """vᵀJ: (out_shape) to (in_shape)."""

    @abstractmethod
    def pushforward(self, u: Tensor) -> Tensor:
        """Ju: (in_shape) to (out_shape)."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """The array of shape out_shape + in_shape."""


@dataclass(frozen=True, eq=False)
class DenseMap(LinearMap):
    """A map held as its matrix (m, n)."""

    matrix: Tensor
    kind: str = "dense"

    @property
    def structure(self) -> str:
        return self.kind

    @property
    def nnz(self) -> int:
        return int(torch.count_nonzero(self.matrix))

    def pullback(self, v: Tensor) -> Tensor:
        return (v.reshape(self.m) @ self.matrix).reshape(self.in_shape)

    def pushforward(self, u: Tensor) -> Tensor:
        return (self.matrix @ u.reshape(self.n)).reshape(self.out_shape)

    def to_dense(self) -> Tensor:
        return self.matrix.reshape(self.out_shape + self.in_shape)
