"""The Jacobian that the engine gives: a sum of few structured pieces, written out only when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.attributes import cached_property
from jvpcli.errors import LimitError
from jvpcli.jacobians.compose import Terms, settle
from jvpcli.jacobians.kronecker import KroneckerMap
from jvpcli.jacobians.linear_map import LinearMap, handed_out
from jvpcli.jacobians.operations import ALWAYS, Nature
from jvpcli.jacobians.sparse_map import SparseMap
from jvpcli.jacobians.structure import classify
from jvpcli.jacobians.terms import Term, TooLargeError, Workspace, zeros

MOST_BYTES = float(1 << 36)
"""No attempt is made to write out more than this."""


@dataclass(frozen=True, eq=False, repr=False)
class StructuredMap(LinearMap):
    """A sum of pieces; none: zero.

    Attributes:
        terms: regular pieces (deltas and dense axes) and sparse ones (index arrays).
        like: a tensor of the entries' dtype and device.
        work: index arrays made before, for the same program at the same shapes.
        told: gives the nature of the operations.
        wide: gives a map with an entry wherever one can be other than zero at any point; None: that can't be found out.
    """

    terms: Terms
    like: Tensor
    work: Workspace
    told: Callable[[], Nature] = lambda: ALWAYS
    wide: Callable[[], StructuredMap | None] | None = None

    @cached_property
    def structure(self) -> str:
        """The most special kind of the contract's list that holds, from the operations."""
        try:
            return self._most_special()
        except TooLargeError:
            return "unknown"

    @cached_property
    def nature(self) -> Nature:
        """What the operations make of the map at every point."""
        return self.told()

    @cached_property
    def settled(self) -> str | None:
        """The structure where it follows from the form of the pieces, whatever the numbers in them; None where it doesn't."""
        nature = self.nature
        if not self.m * self.n or (nature.rigid and not self.terms):
            return "zero"
        term = self.terms[0] if len(self.terms) == 1 else None
        if isinstance(term, KroneckerMap) and term.is_diagonal:
            if nature.rigid and not term.factors:
                return "identity" if term.scale else "zero"
            if nature.still and nature.certain:
                return "diagonal"
        return None

    def _most_special(self) -> str:
        if self.settled is not None:
            return self.settled
        nature, stands = self.nature, self.nature.still and self.nature.certain
        if self.bound >= self.m * self.n > 1 and self.nnz == self.m * self.n:  # no entry is zero here
            return "dense"
        if (nature.rigid or nature.picking) and self.nnz is not None:  # the numbers here are those at every point
            kind = self._kind_of_entries()
            if nature.rigid or kind == "selection":
                return kind
        if stands and self.terms and not self._has_dense:  # what is not zero somewhere is held, and holds what is not zero here
            kind = self._kind_of_places()
            if all(term.is_filled for term in self.terms) or kind == self._kind_of_entries():
                return kind
        wide = None if self.wide is None else self.wide()
        if wide is not None and any(term.is_dense and term.is_filled for term in wide.terms):
            picks = not nature.still and self.bound < self.m * self.n  # few entries at any point, if not the same ones
            cancels = self.nnz == 0  # at every point, for all that is known: x / x
            return "unknown" if cancels or not nature.certain else "sparse" if picks else "dense"
        if wide is not None and wide.nnz is not None and (wide.nnz or (nature.certain and nature.placed)):
            return wide._kind_of_entries()
        return self._kind_of_places() if stands and self.terms and not self._has_dense else "unknown"

    @property
    def _is_held(self) -> bool:
        """Whether the matrix may be a view of what the map holds."""
        return len(self.terms) == 1 and self.terms[0].is_dense

    @property
    def _has_dense(self) -> bool:
        return any(term.is_dense for term in self.terms)

    def _kind_of_entries(self) -> str:
        """The kind of the entries that are not zero here."""
        if self._has_dense:
            matrix = self.matrix()
            rows, cols = matrix.nonzero(as_tuple=True)
            values = matrix[matrix != 0]
        else:
            rows, cols, values = self.entries()
        same = bool((values == values[:1]).all())
        return self._kind(rows, cols, constant=same, ones=same and bool((values[:1] == 1).all()))

    def _kind_of_places(self) -> str:
        """The kind of the places that are held, whatever stands there."""
        rows, cols = torch.broadcast_tensors(self._single.row_index(), self._single.pattern.cols)
        return self._kind(rows.reshape(-1), cols.reshape(-1))

    def _kind(self, rows: Tensor, cols: Tensor, constant: bool = False, ones: bool = False) -> str:
        if self.terms and not self._has_dense and self._single.pattern.padded:  # a place may stand there twice
            places = torch.unique(rows * self.n + cols)
            rows = torch.div(places, self.n, rounding_mode="floor")
            cols = places - rows * self.n
        where = rows.cpu().numpy(), cols.cpu().numpy()
        return classify(*where, self.m, self.n, self.nature, constant=constant, ones=ones, shapes=self.shapes)

    @cached_property
    def nnz(self) -> int | None:
        """How many entries are not zero at this point; None where there are too many to write them out."""
        if not self.terms or not self.m * self.n:
            return 0
        if len(self.terms) == 1 and isinstance(self.terms[0], KroneckerMap):
            return self.terms[0].count_nonzero()
        if self.bound * 4 * self.like.element_size() > min(self.work.limit, MOST_BYTES):
            return None
        if any(term.is_dense for term in self.terms):
            return int(torch.count_nonzero(self.matrix()))
        return self._single.count_nonzero()

    @cached_property
    def _single(self) -> SparseMap:
        """Everything by index arrays, no place listed twice (but by padding)."""
        return settle(self.terms, self.work)

    @property
    def bound(self) -> int:
        """How many entries can be other than zero, duplicates counted twice."""
        return sum(t.bound for t in self.terms)

    @property
    def scale(self) -> Tensor | None:
        """The number (0-d) that an identity is times; None for any other kind."""
        (term, *_) = self.terms or (None,)
        if self.structure == "identity" and isinstance(term, KroneckerMap) and not term.factors and len(self.terms) == 1:
            return self.like.new_tensor(term.scale)
        return super().scale

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column (int64) and value of every entry that is not zero, in no special order; to be read only."""
        if not self.terms or not self.m * self.n:
            none = torch.zeros(0, dtype=torch.int64, device=self.like.device)
            return none, none, self.like.new_zeros(0)
        term = self._single
        cols = term.pattern.cols
        rows, cols = term.row_index().expand(cols.shape).reshape(-1), cols.reshape(-1)
        values = term.weights().reshape(-1)
        kept = values != 0
        if not bool(kept.all()):
            rows, cols, values = rows[kept], cols[kept], values[kept]
        return rows, cols, values.to(self.like.dtype)

    def _pull(self, v: Tensor) -> Tensor:
        """vᵀJ: (out_shape) to (in_shape)."""
        return self._apply(v, forwards=False)

    def _push(self, u: Tensor) -> Tensor:
        """Ju: (in_shape) to (out_shape)."""
        return self._apply(u, forwards=True)

    def _apply(self, v: Tensor, forwards: bool) -> Tensor:
        shape = self.out_shape if forwards else self.in_shape
        result = v.new_zeros(self.m if forwards else self.n)
        if self.m * self.n:
            for term in self.terms:
                result = result + term.times(v.reshape(-1), forwards)
        return result.to(self.like.dtype).reshape(shape)

    def matrix(self) -> Tensor:
        """The matrix (m, n); may be a view of what the map holds.

        Raises:
            LimitError: it is larger than the memory limit, or than any machine's memory.
        """
        size = self.m * self.n * self.like.element_size()
        if size > min(self.work.limit, MOST_BYTES):
            raise LimitError(f"the Jacobian ({self.m} by {self.n}) would take {size} bytes written out dense")
        if self._is_held:
            return self.terms[0].matrix().to(self.like.dtype)
        terms = sorted(self.terms, key=lambda term: not (isinstance(term, KroneckerMap) and term.is_outer))
        outer = terms[0] if terms and isinstance(terms[0], KroneckerMap) and terms[0].is_outer else None
        result = zeros(self.m, self.n, self.like) if outer is None else outer.matrix().to(self.like.dtype)
        if self.m * self.n:
            for position, term in enumerate(terms):
                if term is not outer:
                    term.write_dense(result, accumulate=position > 0)
        return result

    def places(self) -> Tensor:
        """Where there may be an entry, whatever its value: bool (m, n)."""
        result = zeros(self.m, self.n, self.like)
        for position, term in enumerate(self.terms):
            term.bare().write_dense(result, accumulate=position > 0)
        return result != 0

    def to_dense(self) -> Tensor:
        """The array of shape out_shape + in_shape, to be written into as one likes: the map keeps its numbers."""
        array = self.matrix().reshape(self.out_shape + self.in_shape)
        return handed_out(array) if self._is_held else array

    def to_scipy(self) -> Any:
        """SciPy's sparse matrix (m, n)."""
        import scipy.sparse

        rows, cols, values = (t.cpu().numpy() for t in self.entries())
        return scipy.sparse.coo_array((values, (rows, cols)), shape=(self.m, self.n)).tocsr()

    def absolute(self) -> LinearMap:
        """A map of at least the entries' absolute values: those of the pieces, which is what products are summed from."""
        return replace(self, terms=tuple([term.absolute() for term in self.terms]))


def owned(pieces: Sequence[Terms], work: Workspace) -> Sequence[Terms]:
    """The pieces with numbers of their own, which stay what they are whatever becomes of the tensors that they were made from.

    Raises:
        TooLargeError: copies would be over the limit.
    """
    return [tuple([_owned(term, work) for term in terms]) for terms in pieces] if work.lent else pieces


def _owned(term: Term, work: Workspace) -> Term:
    if not any(map(work.is_lent, term.numbers)):
        return term
    work.reserve(sum(map(Tensor.numel, term.numbers)), term.like.element_size())
    return term.changed(torch.clone)
