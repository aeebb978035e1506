"""Named tensors as one real vector: what finite differences are taken of.

Complex entries count twice, real part then imaginary part.  PyTorch's gradient convention (∂L/∂Re + i ∂L/∂Im) makes a
gradient, laid out the same way, the gradient of the real function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jvpcli.errors import LimitError
from jvpcli.gradcheck.losses import Loss, Watch
from jvpcli.jacobians.contraction import unravel
from jvpcli.jacobians.duplicates import uses_vectors
from jvpcli.jacobians.nearby import largest
from jvpcli.jacobians.operations import coarsest_rounding, is_regular
from jvpcli.jacobians.passes import Sweep, by_rows, pushed, vjp
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad
from jvpcli.language.readings import name_of, nodes_below
from jvpcli.problem import Named, Problem
from jvpcli.request import Tell


@dataclass(frozen=True)
class Tolerance:
    """What the user lets pass; None: what follows from the roundings of the function.

    Attributes:
        atol, rtol: autograd's number a and a difference d agree where |a − d| ≤ atol + rtol·|d|, and the difference's
            own error is let pass besides.  With one of them given the other counts as zero.
        nondet: how far two runs of the same may be apart.
    """

    atol: float | None = None
    rtol: float | None = None
    nondet: float | None = None

    @property
    def given(self) -> bool:
        """Whether the user has said how far numbers may be apart."""
        return self.atol is not None or self.rtol is not None

    def allowed(self, numeric: Tensor, size: float = 1.0) -> Tensor:
        """How far apart numbers may be, where that is given; both they and what is allowed are per `size` of a step."""
        return (self.atol or 0.0) * size + (self.rtol or 0.0) * numeric.abs()


@dataclass(frozen=True)
class Place:
    """An entry of a named tensor; `part` is "real" or "imag" of a complex one, else None."""

    name: str
    index: tuple[int, ...]
    part: str | None = None


@dataclass(frozen=True)
class Layout:
    """How named tensors, on any device, lie in a vector of the CPU, one after the other in row-major order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]

    @classmethod
    def of(cls, tensors: Named) -> Layout:
        """The layout of these tensors."""
        values = tensors.values()
        return cls(
            tuple(tensors),
            tuple(tuple(t.shape) for t in values),
            tuple(t.dtype for t in values),
            tuple(t.device for t in values),
        )

    @property
    def sizes(self) -> list[int]:
        """Real entries of each tensor."""
        return [prod(shape) * (1 + d.is_complex) for shape, d in zip(self.shapes, self.dtypes, strict=True)]

    @property
    def size(self) -> int:
        """Entries of the vector."""
        return sum(self.sizes)

    def join(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """The tensors (None: zeros) as a vector of float64."""
        parts = [
            torch.zeros(size, dtype=torch.float64) if tensor is None else _real(tensor)
            for tensor, size in zip(tensors, self.sizes, strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector as named tensors of the layout's shapes, dtypes and devices."""
        found = {}
        for name, shape, dtype, device, part in zip(
            self.names, self.shapes, self.dtypes, self.devices, vector.split(self.sizes), strict=True
        ):
            if dtype.is_complex:
                found[name] = torch.view_as_complex(part.reshape(*shape, 2).clone()).to(device, dtype)
            else:
                found[name] = part.reshape(shape).to(device, dtype, copy=True)  # memory of its own, as the input has
        return found

    def slices(self) -> dict[str, slice]:
        """Where each tensor lies."""
        found, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            found[name] = slice(start, start + size)
            start += size
        return found

    def place(self, position: int) -> Place:
        """The entry that stands at a position of the vector."""
        for name, shape, dtype, size in zip(self.names, self.shapes, self.dtypes, self.sizes, strict=True):
            if position < size:
                part = ("real", "imag")[position % 2] if dtype.is_complex else None
                return Place(name, unravel(position // (1 + dtype.is_complex), shape), part)
            position -= size
        raise IndexError(position)


def _real(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj().to(torch.complex128))
    return tensor.reshape(-1).to(torch.float64)


@dataclass(frozen=True, eq=False)
class RealFunction:
    """A problem as a function of real vectors.

    Attributes:
        problem: with its point.
        inputs, outputs: how the n input and m output entries lie.
        x, y: the point (n,) and the value there (m,), in float64.
        eps: the rounding that the values go through, relative to them: of the coarsest dtype on the way; once `measured`,
            what is seen.
        noise: the same for each output, in its own units (m,).
        losses: the calls at which a gradient was lost on the way.
        tolerance: what the user lets pass.
        mode: "forward": autograd's numbers are those of forward mode; otherwise those of the backward pass.
    """

    problem: Problem
    inputs: Layout
    outputs: Layout
    x: Tensor
    y: Tensor
    eps: float
    noise: Tensor
    losses: Sequence[Loss] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    mode: str = "auto"

    @classmethod
    def of(cls, problem: Problem, tolerance: Tolerance | None = None, mode: str = "auto") -> RealFunction:
        """The function of a problem, which is evaluated anew and watched; raises what its evaluation raises."""
        problem, watch = replace(problem), Watch(problem.files)
        with watch:
            evaluation, leaves = problem.evaluation, problem.leaves
        inputs, outputs = Layout.of(leaves), Layout.of(evaluation.outputs)
        x, y = inputs.join(list(leaves.values())), outputs.join(list(evaluation.outputs.values()))
        eps = coarsest_rounding((*evaluation.outputs.values(), *evaluation.leaves.values()), problem.nodes.values())
        noise = eps * y.abs()
        return cls(problem, inputs, outputs, x, y, eps, noise, watch.found(), tolerance or Tolerance(), mode)

    def measured(self) -> RealFunction:
        """The function with the roundings that its values nearby show, where those are coarser than its dtypes'."""
        y, eps = self.y, self.eps
        seen, grain = _visible_noise(self)
        most = largest(y)
        if most > 0 and eps * most < float(seen.max()) <= WORST_ROUNDING * most:
            eps = float(seen.max()) / most
        return replace(self, eps=eps, noise=torch.maximum(torch.maximum(self.noise, seen), grain))

    @property
    def evaluation(self) -> Evaluation:
        """The problem's at its point, with its graph."""
        return self.problem.evaluation

    @cached_property
    def reach(self) -> Tensor:
        """The largest finite |y| at the point and at parts of it nearer to zero (m,): what the function's roundings go by.

        1 + tanh(x) is 4e-18 at x = -20, but is computed from numbers of about 1, as its values nearer to zero show.
        """
        values = torch.stack([self.y, *(self.value(self.x * part) for part in NEARER)])
        return torch.where(values.isfinite(), values.abs(), 0.0).amax(0)

    @cached_property
    def regular(self) -> frozenset[str]:
        """The outputs whose derivatives are continuous wherever they are finite, as their operations tell."""
        outputs = {} if self.losses or self.evaluation.hooked else self.evaluation.outputs
        return frozenset(name for name, y in outputs.items() if is_regular(nodes_below(y.grad_fn)))

    @cached_property
    def least(self) -> float:
        """What some roundings of ordinary numbers make: of 1, and of the largest input and output."""
        return 4 * self.eps * max(1.0, largest(self.x), largest(self.y))

    @property
    def n(self) -> int:
        """Number of real input entries."""
        return self.x.numel()

    @property
    def m(self) -> int:
        """Number of real output entries."""
        return self.y.numel()

    def value(self, x: Tensor, *, any_dtype: bool = False) -> Tensor:
        """y at another point (m,); NaN where it can't be evaluated or has other shapes (or dtypes, unless any will do)."""
        outputs = self._outputs(x)
        if outputs is None or not (self._is_alike(outputs) or (any_dtype and self._has_shapes(outputs))):
            return torch.full_like(self.y, torch.nan)
        return self.outputs.join(list(outputs.values()))

    def changes_form(self, x: Tensor) -> bool:
        """Whether the outputs have other shapes or dtypes at another point."""
        outputs = self._outputs(x)
        return outputs is not None and not self._is_alike(outputs)

    def at(self, x: Tensor) -> Evaluation | None:
        """The function at another point; None where it can't be evaluated."""
        try:
            return self.problem.at(self.inputs.split(x))
        except LimitError:
            raise
        except Exception:  # whatever the function raises off the point: it isn't defined there
            return None

    @cached_property
    def held(self) -> list[Tensor]:
        """The eigenvectors and singular vectors at the point, whose signs they keep elsewhere; none where none matter."""
        if not uses_vectors(self.evaluation.outputs.values()):
            return []
        signs = Signs()
        with signs:
            self.problem.at()
        return signs.found

    def _outputs(self, x: Tensor) -> Named | None:
        with Signs(self.held) if self.held else nullcontext():
            evaluation = self.at(x)
        return None if evaluation is None else evaluation.outputs

    def _is_alike(self, outputs: Named) -> bool:
        return self._has_shapes(outputs) and Layout.of(outputs).dtypes == self.outputs.dtypes

    def _has_shapes(self, outputs: Named) -> bool:
        return Layout.of(outputs).shapes == self.outputs.shapes

    def pullback(self, v: Tensor, evaluation: Evaluation | None = None) -> Tensor:
        """vᵀJ by autograd (n,), for v of (m,); outputs that v leaves out are not touched."""
        evaluation = evaluation or self.evaluation
        leaves = list(evaluation.leaves.values())
        total = torch.zeros(self.n, dtype=torch.float64)
        layout = Layout.of(evaluation.outputs)
        for (name, cotangent), part in zip(layout.split(v).items(), v.split(layout.sizes), strict=True):
            y = evaluation.outputs[name]
            if y.requires_grad and bool((part != 0).any()):
                total = total + self.inputs.join(vjp(y, cotangent, leaves))
        return total

    def gradient(self, row: int, evaluation: Evaluation | None = None) -> Tensor:
        """A row of J by the backward pass (n,)."""
        return self.pullback(self.output(row), evaluation)

    def output(self, row: int) -> Tensor:
        """The cotangent that picks one output entry (m,)."""
        return torch.zeros_like(self.y).index_fill(0, torch.tensor([row]), 1)

    def toward(self, column: int, by: float = 1.0) -> Tensor:
        """The direction of one input entry (n,), so long."""
        return torch.zeros_like(self.x).index_fill(0, torch.tensor([column]), by)

    def pushforward(self, u: Tensor) -> Tensor:
        """Ju by torch's forward mode (m,), for u of (n,)."""
        return self.outputs.join(self.pushed(list(self.inputs.split(u).values())))

    def pushed(self, tangents: Sequence[Tensor]) -> list[Tensor]:
        """Ju of each output by torch's forward mode, for a tangent of each input."""
        found = pushed(self.problem, dict(zip(self.inputs.names, tangents, strict=True)))
        return [torch.zeros_like(self.evaluation.outputs[name]) if ju is None else ju for name, ju in found.items()]

    def jacobian(self, evaluation: Evaluation | None = None, tell: Tell | None = None) -> Tensor:
        """The whole real Jacobian by autograd (m, n), one backward pass a row, or in forward mode one pass a column."""
        if self.mode == "forward":
            return torch.stack([self.pushforward(u) for u in torch.eye(self.n, dtype=torch.float64)], 1)
        (matrix,) = by_rows(Sweep(lambda v: [self.pullback(v, evaluation)], self.y), [self.x], tell)
        return matrix

    def product(self, v: Tensor, u: Tensor) -> float:
        """vᵀJu by autograd."""
        return float(v @ self.pushforward(u) if self.mode == "forward" else self.pullback(v) @ u)

    def products(self, cotangents: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """vᵀJu by autograd for many v (k, m) and u (l, n), and the sizes of its terms added up: (k, l) both."""
        if self.mode == "forward":
            pushed = torch.stack([self.pushforward(u) for u in directions]).T
            pushed = torch.where((cotangents != 0).any(0)[:, None], pushed, 0.0)
            return cotangents @ pushed, cotangents.abs() @ pushed.abs()
        pulled = torch.stack([self.pullback(v) for v in cotangents])
        return pulled @ directions.T, pulled.abs() @ directions.T.abs()

    def entry(self, row: int, column: int) -> float:
        """∂y_row/∂x_column by autograd."""
        return float(self.pushforward(self.toward(column))[row] if self.mode == "forward" else self.gradient(row)[column])


def only(vector: Tensor, part: Tensor) -> Tensor:
    """A vector with zeros in all but some positions."""
    return torch.zeros_like(vector).index_copy(0, part, vector[part])


# Eigenvectors and singular vectors, of which a library gives one of the two signs: held as they are at the point


VECTORS = {
    "linalg_eigh": ((1, False),),
    "linalg_svd": ((0, False), (2, True)),
    "svd": ((0, False), (2, False)),
}
"""By function which of its results are vectors, and whether those are rows; what stands in one place has one sign."""


class Signs(TorchFunctionMode):
    """Gives vectors the signs (of complex ones the phases) that they have in `held`, and notes what was given.

    Another sign is no other function for whom any will do, but to differences a jump.
    """

    def __init__(self, held: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.held = held
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        result = func(*args, **(kwargs or {}))
        vectors = VECTORS.get(name_of(func), ())
        if not vectors or (kwargs or {}).get("out") is not None:
            return result
        parts, number = list(result), len(self.found)
        self.found.append(parts[vectors[0][0]].detach())
        before = self.held[number] if number < len(self.held) else None
        if before is None or before.shape != self.found[-1].shape:
            return result
        along = (before.conj() * self.found[-1]).sum(-2)
        turn = torch.where(along == 0, 1, along.sgn())
        for k, in_rows in vectors:
            shared = turn[..., : parts[k].shape[-2 if in_rows else -1]]  # vectors that fill a basis up have none
            parts[k] = _turned(parts[k], shared, in_rows)
        return type(result)(parts)


def _turned(vectors: Tensor, turn: Tensor, in_rows: bool) -> Tensor:
    """The vectors without these factors."""
    missing = vectors.shape[-2 if in_rows else -1] - turn.shape[-1]
    turn = torch.cat([turn, torch.ones_like(turn[..., :1]).expand(*turn.shape[:-1], missing)], -1)
    return vectors * (turn[..., :, None] if in_rows else turn.conj()[..., None, :])


# Roundings inside the function


NEARER = (1 / 2, 1 / 4, 1 / 8)
"""The parts of the point at which a function's reach is looked at."""

WORST_ROUNDING = 1e-3
"""Noise beyond this is no rounding, but a function that is faster than the steps: its values scatter all the same."""


def _visible_noise(function: RealFunction) -> tuple[Tensor, Tensor]:
    """How far roundings inside the function scatter its values (m,), and their grain (m,); next to nothing for most.

    What a parabola leaves of the values over a few tiny steps is scatter, or a function that bends that fast: then it is
    gone over steps that are finer still, or grows less with each by the same factor, as a root at 0 does.  (Compare
    J. Moré and S. Wild, "Estimating computational noise", 2011.)
    """
    if not function.n or not function.m:
        return torch.zeros_like(function.y), torch.zeros_like(function.y)
    values = _nearby(function, TINY_STEP)
    step, scatter, grain = TINY_STEP, _scatter(function, values), _grain(function, values)
    if bool((scatter > 0).any()):
        further = [_scatter(function, _nearby(function, step / 8**number)) for number in (1, 2, 3)]
        ratios = torch.stack([scatter, *further[:-1]]) / torch.stack(further)
        even = (ratios - ratios[0]).abs().amax(0) < EVEN * ratios[0]
        scatter = torch.where(even & (ratios[0] > SHRINKING), 0.0, scatter)
    lasting = torch.zeros_like(scatter, dtype=torch.bool)
    while bool((scatter > 0).any()) and step > TINY_STEP**2:
        step /= 8
        finer = _scatter(function, _nearby(function, step))
        gone = (finer < scatter / 30) & ((finer > 0) | ~lasting)  # what was there over all steps and is none at once was a stair
        scatter, lasting = torch.where(gone, finer, scatter), lasting | ~gone
    return scatter, grain


EVEN, SHRINKING = 0.05, 1.2
"""How little the factors differ by which what is no scatter shrinks with each step, and how large they are at least."""


def _nearby(function: RealFunction, tiny: float) -> Tensor:
    """The values (5, m) over steps of about `tiny` of the inputs' size.

    The steps lie on one side of the point, so that a kink at the point is no scatter, and are uneven, so that roundings
    don't fall into step with them; none of them is rounded itself.
    """
    step = tiny * torch.exp2(torch.floor(torch.log2(torch.where(function.x == 0, 1.0, function.x.abs()))))
    return torch.stack([function.value(function.x + number * step) for number in UNEVEN])


def _scatter(function: RealFunction, values: Tensor) -> Tensor:
    """What parabolas leave of the values nearby (m,); 0 if those are exact."""
    scatter = (torch.tensor(CONTRASTS, dtype=torch.float64) @ (values - values[0])).abs().amax(0)
    exact = 4 * function.eps * values.abs().amax(0)
    return torch.where(scatter.isfinite() & (scatter > exact), scatter, 0.0)


def _grain(function: RealFunction, values: Tensor) -> Tensor:
    """The largest power of two that all values nearby are multiples of (m,), where that is a rounding of ordinary numbers.

    cosh(x) − 1 is a multiple of 2**-52, however small it is: the rounding of the 1 that was taken away.  What is coarser
    is no rounding: that of floor(x) is 1.
    """
    mantissas, exponents = torch.frexp(torch.where(values.isfinite(), values, 0.0))
    whole = (mantissas * 2.0**53).to(torch.int64)
    lowest = torch.ldexp((whole & -whole).to(torch.float64), exponents - 53)
    grain = torch.where(values == 0, torch.inf, lowest).amin(0)
    one_stair = (values == values[0]).all(0) & (values[0] != 0)
    grain = torch.where(one_stair, grain.clamp(max=function.least), grain)
    grain = torch.where(grain <= function.least, grain, torch.where(grain.isinf(), -1.0, 0.0))
    return torch.where(grain < 0, grain.max().clamp(min=0.0), grain)  # what is 0 has no grain of its own


def _contrast(nodes: Sequence[float]) -> list[float]:
    """The third divided difference over four nodes, made as long as 1: nothing of a parabola, and scatter as it is."""
    weights = [1 / prod(a - b for b in nodes if b != a) if a in nodes else 0.0 for a in UNEVEN]
    length = sum(weight**2 for weight in weights) ** 0.5
    return [weight / length for weight in weights]


TINY_STEP = 2.0**-20
UNEVEN = (1.0, 1.8125, 3.0625, 3.9375, 5.0)
"""The steps, in units of the tiny one."""

CONTRASTS = [_contrast(UNEVEN[:4]), _contrast(UNEVEN[1:])]


def alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether the outputs are the same to three quarters of their digits: random starts of an iteration leave such a rest."""
    return one.outputs.keys() == other.outputs.keys() and all(
        y.shape == z.shape and steady(y.detach(), z.detach(), rounding=torch.finfo(y.dtype).eps ** 0.75)
        if can_require_grad(y)
        else y.equal(z)
        for y, z in zip(one.outputs.values(), other.outputs.values(), strict=True)
    )


def steady(a: Tensor, b: Tensor, nondet: float | None = None, rounding: float = 0.0) -> bool:
    """Whether two results of the same differ by a few roundings at most (a library may add up in another order).

    `nondet` is how far they may be apart instead, if that is given; `rounding` a part of the largest that always passes.
    """
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()) or not can_require_grad(a):
        return bool(same.all())
    sizes = a.abs()[a.isfinite()]
    allowed = max(rounding, 100 * torch.finfo(a.dtype).eps) * (float(sizes.max()) if sizes.numel() else 0.0)
    return bool((same | ((a - b).abs() <= (allowed if nondet is None else nondet))).all())
