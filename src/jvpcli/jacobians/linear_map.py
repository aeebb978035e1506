"""A derivative is a linear map, not an array.

A map J from a tensor of `in_shape` to one of `out_shape` can pull back a cotangent (vᵀJ), push forward a tangent
(Ju), count its nonzeros and write itself out.  What kind it is answers "which product is meant: element-wise,
matrix, something else?".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.errors import ShapeMismatchError, UsageError

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Ends:
    """What a map leads from and to: flattened row-major, a matrix of m = prod(out_shape) rows and n = prod(in_shape) columns."""

    out_shape: Shape
    in_shape: Shape

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """The shapes of output and input."""
        return self.out_shape, self.in_shape

    @property
    def m(self) -> int:
        """Number of output entries."""
        return prod(self.out_shape)

    @property
    def n(self) -> int:
        """Number of input entries."""
        return prod(self.in_shape)


@dataclass(frozen=True, eq=False, repr=False)
class LinearMap(Ends, ABC):
    """A linear map: it pulls back cotangents, pushes forward tangents, counts its nonzeros and writes itself out."""

    def __repr__(self) -> str:
        return f"<jvpcli.{type(self).__name__} from {self.in_shape} to {self.out_shape}>"

    @property
    @abstractmethod
    def structure(self) -> str:
        """The most special kind of the contract's list that holds."""

    @property
    def structure_from(self) -> str:
        """What told the structure: "operations", or "values" here and at random points."""
        return "operations"

    @property
    @abstractmethod
    def nnz(self) -> int | None:
        """How many entries are not zero; None where that would take computing every row."""

    @property
    def of_complex(self) -> tuple[bool, bool]:
        """Whether the output is complex, and whether the input is."""
        return False, False

    @property
    def splits(self) -> bool:
        """Whether Re v and Im v go ways of their own: vᵀJ is not the product of v with the array that is shown."""
        return False

    @property
    def filled(self) -> Tensor:
        """Which entries are not zero: bool (m, n)."""
        return self.numbers().reshape(self.m, self.n) != 0

    @property
    def aside(self) -> Tensor | None:
        """The gradient of Im y (m, n), where the array that is shown does not tell it."""
        return None

    @property
    def parts(self) -> list[Tensor]:
        """The matrices (m, n) that together tell everything: what is shown, and what stands aside."""
        return [self.numbers().reshape(self.m, self.n), *([] if self.aside is None else [self.aside])]

    @property
    def scale(self) -> Tensor | None:
        """The number (0-d) that an identity is times; None for any other kind."""
        return self.entries()[2][0] if self.structure == "identity" else None

    def pullback(self, v: Tensor) -> Tensor:
        """vᵀJ: (out_shape) to (in_shape).

        Raises:
            ShapeMismatchError: v has another shape than the output.
            UsageError: v is no tensor, or a complex one where the output is real.
        """
        return self._pull(_checked(v, self.out_shape, self.of_complex[0], "cotangent", "output"))

    def pushforward(self, u: Tensor) -> Tensor:
        """Ju: (in_shape) to (out_shape).

        Raises:
            ShapeMismatchError: u has another shape than the input.
            UsageError: u is no tensor, or a complex one where the input is real.
        """
        return self._push(_checked(u, self.in_shape, self.of_complex[1], "tangent", "input"))

    @abstractmethod
    def _pull(self, v: Tensor) -> Tensor:
        """vᵀJ for a v of the right shape."""

    @abstractmethod
    def _push(self, u: Tensor) -> Tensor:
        """Ju for a u of the right shape."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """The array of shape out_shape + in_shape, to be written into as one likes: the map keeps its numbers."""

    def numbers(self) -> Tensor:
        """The array of shape out_shape + in_shape, to be read only: it may be the map's own."""
        return self.to_dense()

    def to_scipy(self) -> Any:
        """SciPy's sparse matrix (m, n), `scipy.sparse.csr_array`."""
        import scipy.sparse

        return scipy.sparse.csr_array(self.to_dense().detach().reshape(self.m, self.n).cpu().numpy())

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column (int64) and value of every entry that is not zero; to be read only."""
        matrix = self.numbers().reshape(self.m, self.n)
        rows, cols = matrix.nonzero(as_tuple=True)
        return rows, cols, matrix[rows, cols]

    def absolute(self) -> LinearMap:
        """The map of the entries' absolute values: it bounds how far roundings can carry a product."""
        return DenseMap(self.out_shape, self.in_shape, self.numbers().reshape(self.m, self.n).abs())


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor; those of a dtype that numpy does not have in a wider one, as floats of 8 bits in one of 32.

    numpy takes a third of torch's time for few of them.
    """
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    wider = _WIDER.get(tensor.dtype)
    if wider is not None:
        tensor = tensor.to(wider)
    if tensor._is_zerotensor():  # autograd's zeros without memory, which numpy cannot take
        tensor = tensor.clone()
    return tensor.numpy(force=True)


_DTYPES = [each for each in vars(torch).values() if isinstance(each, torch.dtype)]
_WIDER = {
    **{each: torch.float32 for each in _DTYPES if each.is_floating_point and each.itemsize == 1},
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}


def handed_out(numbers: Tensor) -> Tensor:
    """The numbers for others to write into: torch copies them when that is done, or they are copied here where it can't wait."""
    if not numbers.requires_grad and 0 not in numbers.stride():  # those of an expanded tensor stand in one place
        with suppress(RuntimeError), _HANDING_OUT:  # memory that torch has not allocated
            return torch._lazy_clone(numbers)
    return numbers.clone()


_HANDING_OUT = Lock()
"""Two threads must not ask torch for the first lazy copy of a tensor at once: it changes whose memory that is."""


def _checked(x: Tensor, shape: Shape, is_complex: bool, what: str, end: str) -> Tensor:
    """Nothing is broadcast, reshaped, or taken for real, in silence."""
    if not isinstance(x, Tensor):
        raise UsageError(f"a {what} is a tensor of the {end}'s shape {shape}, not {type(x).__name__}")
    got = tuple(x.shape)
    if got != shape:
        raise ShapeMismatchError(f"a {what} has the {end}'s shape {shape}, and this one has {got}", expected=shape, got=got)
    if x.is_complex() and not is_complex:
        raise UsageError(f"the {what} is complex, and the {end} is real: so is every {what} of it")
    return x


class HeldMap(LinearMap):
    """A map of which every entry is held: its kind is known, and what told it."""

    matrix: Tensor
    kind: str
    kind_from: str

    @property
    def structure(self) -> str:
        return self.kind

    @property
    def structure_from(self) -> str:
        return self.kind_from

    def numbers(self) -> Tensor:
        return self.matrix.reshape(self.out_shape + self.in_shape)

    def to_dense(self) -> Tensor:
        return handed_out(self.numbers())


@dataclass(frozen=True, eq=False, repr=False)
class DenseMap(HeldMap):
    """A map held as its matrix (m, n).

    Attributes:
        matrix: the entries.
        kind: its structure.
        kind_from: what told it, "operations" or "values".
        artefacts: entries that are zero by the operations, where PyTorch's own passes give NaN (0·∞).
    """

    matrix: Tensor
    kind: str = "dense"
    kind_from: str = "operations"
    artefacts: int = 0

    def __post_init__(self) -> None:
        if self.matrix._is_zerotensor():  # autograd's zeros without memory: neither numpy nor `tolist` can take them
            object.__setattr__(self, "matrix", self.matrix.clone())

    @cached_property
    def nnz(self) -> int:
        return int(torch.count_nonzero(self.matrix))

    def _pull(self, v: Tensor) -> Tensor:
        return (v.reshape(self.m).to(self.matrix.dtype) @ self.matrix).reshape(self.in_shape)

    def _push(self, u: Tensor) -> Tensor:
        return (self.matrix @ u.reshape(self.n).to(self.matrix.dtype)).reshape(self.out_shape)


@dataclass(frozen=True, eq=False, repr=False)
class ComplexMap(HeldMap):
    """PyTorch's gradient of or to complex tensors: linear over the real numbers only.

    Row k of `rows` (m, n) is the gradient of Re y_k, and row k of `imaginary` that of Im y_k, or None for a real output.
    With PyTorch's convention (∂/∂Re + i ∂/∂Im for a real loss) a cotangent v = a + ib is pulled back to
    Σ_k a_k rows_k + b_k imaginary_k.  Those of halves are held in single precision: torch multiplies no complex halves.
    """

    rows: Tensor
    imaginary: Tensor | None
    kind: str = "dense"
    kind_from: str = "values"

    def __post_init__(self) -> None:
        if self.rows.dtype is torch.complex32:
            object.__setattr__(self, "rows", self.rows.to(torch.complex64))
            object.__setattr__(self, "imaginary", None if self.imaginary is None else self.imaginary.to(torch.complex64))

    @cached_property
    def nnz(self) -> int:
        return int(torch.count_nonzero(self.filled))

    @property
    def filled(self) -> Tensor:
        """Where Re y or Im y changes."""
        return self.rows != 0 if self.imaginary is None else (self.rows != 0) | (self.imaginary != 0)

    @cached_property
    def matrix(self) -> Tensor:
        """The array (m, n) that is shown: of a real input ∂y/∂x = ∂(Re y)/∂x + i ∂(Im y)/∂x, of a complex one `rows`."""
        if self.imaginary is None or self.rows.is_complex():
            return self.rows
        return _complex(self.rows, self.imaginary)

    @cached_property
    def splits(self) -> bool:
        """They don't where the gradient of Im y is i times that of Re y, to rounding: where y is complex differentiable."""
        if self.imaginary is None:
            return False
        if not self.rows.is_complex():
            return True
        rtol = torch.finfo(self.rows.dtype).eps ** 0.5
        return not torch.allclose(self.imaginary, 1j * self.rows, rtol=rtol, atol=0.0, equal_nan=True)

    @property
    def aside(self) -> Tensor | None:
        return self.imaginary if self.splits and self.rows.is_complex() else None

    @property
    def of_complex(self) -> tuple[bool, bool]:
        return self.imaginary is not None, self.rows.is_complex()

    def _pull(self, v: Tensor) -> Tensor:
        v = v.reshape(self.m)
        pulled = v.real.to(self.rows.dtype) @ self.rows
        if self.imaginary is not None and v.is_complex():
            pulled = pulled + v.imag.to(self.rows.dtype) @ self.imaginary
        return pulled.reshape(self.in_shape)

    def _push(self, u: Tensor) -> Tensor:
        real = self._dot(self.rows, u)
        tangent = real if self.imaginary is None else _complex(real, self._dot(self.imaginary, u))
        return tangent.reshape(self.out_shape)

    def real_form(self) -> Tensor:
        """A matrix with the singular values of the map: the complex one (m, n), or that of all real and imaginary parts."""
        if self.imaginary is not None and not self.splits:
            return self.rows
        stacked = self.rows if self.imaginary is None else torch.cat([self.rows, self.imaginary])
        return torch.cat([stacked.real, stacked.imag], 1) if stacked.is_complex() else stacked

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        rows, cols = self.filled.nonzero(as_tuple=True)
        return rows, cols, self.matrix[rows, cols]

    def absolute(self) -> LinearMap:
        largest = self.rows.abs() if self.imaginary is None else self.rows.abs() + self.imaginary.abs()
        return DenseMap(self.out_shape, self.in_shape, largest)

    def _dot(self, rows: Tensor, u: Tensor) -> Tensor:
        """Re Σ_i conj(rows_ki)·u_i: the derivative of a real quantity along u."""
        product = rows.conj() @ u.reshape(self.n).to(rows.dtype)
        return product.real if product.is_complex() else product


def _complex(real: Tensor, imaginary: Tensor) -> Tensor:
    """real + i·imaginary, of single precision at least: there are no halves of every kind."""
    wide = torch.promote_types(real.dtype, torch.float32)
    return torch.complex(real.to(wide), imaginary.to(wide))
