"""Rows and columns of Jacobians by passes: the one place that goes through them.

A pass backwards pulls a cotangent v back to vᵀJ; that of a basis vector is a row of J.  A pass forwards is the transpose of
one: g(w) = wᵀJ is linear in w, so the gradient of ⟨g, u⟩ to w is J u ("double backward", j-towns, 2017).
`grad` is all that the plain passes use: it loads nothing beyond torch itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd.graph import (  # autograd.grad itself loads a symbolic algebra system for v
    GradientEdge,
    _engine_run_backward,
)

from jvpcli.jacobians.linear_map import ComplexMap, DenseMap, LinearMap
from jvpcli.language.evaluate import seeded
from jvpcli.language.outputs import ordinary
from jvpcli.problem import Named, Problem, at_rows
from jvpcli.request import Tell

if TYPE_CHECKING:
    from jvpcli.language.surroundings import Asking

FEW = 3
"""So many passes cost less one by one than together."""

Pull = Callable[[Tensor], Sequence[Tensor | None]]
"""A cotangent to the gradient of each operand; None: zero."""

Seeds = Callable[[int, int], Tensor]
"""Numbers start and stop to the cotangents of these passes, (stop - start, *shape)."""


# --- one pass --------------------------------------------------------------------------------------------------------


def vjp(output: Tensor, cotangent: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """∂L/∂input for L = ⟨v, y⟩: what `torch.autograd.grad(output, inputs, cotangent)` gives; None: not reached.

    The engine is asked itself, which spares the shape check that loads a symbolic algebra system.
    """
    gradients = grad([output], [cotangent.clone()], inputs)  # a backward of the user's own may write to what it is given
    return [None if g is None else ordinary(g) for g in gradients]  # that of an embedding may be sparse


def grad(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor | GradientEdge], create_graph: bool = False
) -> Sequence[Tensor | None]:
    """`torch.autograd.grad` with the graph kept, for cotangents of the outputs' shapes and dtypes; None: not reached."""
    return _engine_run_backward(
        tuple(outputs), tuple(cotangents), True, create_graph, tuple(inputs), allow_unreachable=True, accumulate_grad=False
    )


def jvp(output: Tensor, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
    """J u for one output, Σ over the inputs, by the transposed backward pass.

    Raises:
        RuntimeError: an operation of the graph cannot be differentiated twice.
    """
    weights, gradients = transposed(output, inputs)
    reached = [(g, u) for g, u in zip(gradients, tangents, strict=True) if g is not None]
    if not reached:
        return torch.zeros_like(output)
    given = [(g, u) for g, u in reached if g.requires_grad]
    if not given:
        raise RuntimeError("an operation's backward cannot be differentiated")
    (tangent,) = grad([g for g, _ in given], [u for _, u in given], [weights])
    return torch.zeros_like(output) if tangent is None else ordinary(tangent)


def paired(ys: Sequence[Tensor], vs: Sequence[Tensor]) -> Tensor:
    """Σ ⟨v, y⟩ = Re Σ conj(v)·y, whose gradient to y is v in PyTorch's convention, complex or not; at least one pair."""
    first, *others = [(y * v.conj()).real.sum() if y.is_complex() else (y * v).sum() for y, v in zip(ys, vs, strict=True)]
    return sum(others, first)


def transposed(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
    """w, some cotangent that requires grad, and wᵀJ for each input as a function of it; None: not reached."""
    with torch.enable_grad():
        weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype, device=output.device)
        weights = weights.reshape(output.shape).requires_grad_()
        return weights, grad([output], [weights], inputs, create_graph=True)


# --- how fast passes go: far slower than planned, and another way is taken before they are through ----------------------


SLOWER = 4.0
"""Passes may take so many times what they, and what the other way, are reckoned to take: machines differ by less."""

LEAST = 2e7
"""Nanoseconds of what is left to do for which nothing is given up."""

TOGETHER = 4
"""Passes that are taken one by one are timed so many at a time."""

PART = 16
"""Passes are tried with one in so many of them first."""


class TooSlowError(Exception):
    """Passes would take far longer than another way, so they are given up."""


def _clock() -> tuple[int, int]:
    return process_time_ns(), perf_counter_ns()


@dataclass(eq=False)
class Pace:
    """Watches passes as they are taken.

    Attributes:
        total: how many there are.
        planned, other: give the nanoseconds that all of them, and the best other way, are reckoned to take.
        tries: whether some are taken beforehand, for their time alone.
    """

    total: int
    planned: Callable[[], float]
    other: Callable[[], float]
    tries: bool = False
    _done: int = 0
    _slow: bool = False
    _at: tuple[int, int] = field(default_factory=lambda: _clock())

    def passed(self, count: int, kept: bool = True) -> bool:
        """So many passes were taken since the last time, and are done if they are `kept`: whether they were too slow.

        Raises:
            TooSlowError: as they were the time before: what takes longer the first time is no matter.
        """
        before, self._at = self._at, _clock()
        each = min(now - then for now, then in zip(self._at, before, strict=True)) / count  # others may use the machine, too
        self._done += count * kept
        left = each * (self.total - self._done)
        slow = left > LEAST and left > SLOWER * self.planned() and left > SLOWER * self.other()
        if slow and self._slow:
            raise TooSlowError
        self._slow = slow
        return slow


# --- many passes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sweep:
    """Passes backwards from one tensor, and how they are taken.

    Attributes:
        pull: one pass.
        output: the tensor, or one of its shape, dtype and device.
        chunk: how many passes are taken together, under `torch.vmap`.
        doubtful: whether what they give together is compared with a pass by itself: some batch rules give zeros.
        light: whether they are taken together by the rules behind `is_grads_batched=True`: few operations have one, and of
            those they take less time than the rules of `torch.vmap`.
        failed: the values of `light` by which they failed: kept from one call to the next.
        agreed: the values of `light` by which they gave what a pass by itself gives, where passes do the same each time, so that
            they are not compared again: kept from one call to the next; None: nobody knows what they do the next time.
    """

    pull: Pull
    output: Tensor
    chunk: int = 1
    doubtful: bool = True
    light: bool = False
    failed: set[bool] = field(default_factory=set)
    agreed: set[bool] | None = None
    pace: Pace | None = None


def plain(output: Tensor, inputs: Sequence[Tensor]) -> Sweep:
    """Passes by `torch.autograd.grad`, one by one."""
    return Sweep(lambda v: vjp(output, v, inputs), output)


def basis(output: Tensor, start: int, stop: int) -> Tensor:
    """Rows start…stop of the identity over the output's entries, (stop - start, *shape); before and after those: zeros."""
    if start:
        hot = torch.zeros((stop - start, output.numel()), dtype=output.dtype, device=output.device)
        hot.diagonal(start).fill_(1)
    else:
        hot = torch.eye(stop, output.numel(), dtype=output.dtype, device=output.device)
    return hot.reshape(stop - start, *output.shape)


def blocks(
    sweep: Sweep, start: int, stop: int, seeds: Seeds | None = None
) -> Iterator[tuple[int, int, list[Tensor | None]]]:
    """The passes with the numbers start…stop, a chunk after the other; nothing is kept.

    Args:
        sweep: the passes.
        start, stop: their numbers.
        seeds: their cotangents; None: the basis, so that they give the rows.

    Yields:
        start and stop of the chunk, and for each operand its gradients (stop - start, *shape); None: all zero.

    Raises:
        TooSlowError: as `Pace` has it.
    """
    batched, pace = sweep.chunk > 1, sweep.pace
    seeds = seeds or partial(basis, sweep.output)
    if pace and pace.tries:
        some = min(sweep.chunk, -(-(stop - start) // PART))
        if sweep.doubtful:  # they may fail together, which is to be known before all of them do
            _together(sweep, seeds(start, min(stop, start + 2)))
        while _together(sweep, seeds(start, start + some)) and pace.passed(some, kept=False):
            pass
    for first in range(start, stop, sweep.chunk):
        last = min(stop, first + sweep.chunk)
        cotangents = seeds(first, last)
        found = _together(sweep, cotangents) if batched else None
        batched = found is not None
        if found is None:
            found = _one_by_one(sweep.pull, cotangents, pace)
        elif pace:
            pace.passed(last - first)
        yield first, last, found


def _together(sweep: Sweep, cotangents: Tensor) -> list[Tensor | None] | None:
    """Under vmap; None where an operation has no batch rule, or one that is not to be believed.

    Where the one way to take them together fails, the other may not: a backward of the user's own that differentiates itself
    runs outside of transforms alone.
    """
    found = None if sweep.light in sweep.failed else _under_vmap(sweep.pull, cotangents, sweep.light)
    light, doubtful = sweep.light, sweep.doubtful
    if found is None:
        light, doubtful = not light, True
        found = None if light in sweep.failed else _under_vmap(sweep.pull, cotangents, light)
        sweep.failed.update((sweep.light,) if found else (True, False))
    if found is None or not doubtful or (sweep.agreed is not None and light in sweep.agreed):
        return found
    with nullcontext() if sweep.agreed is None else _asking() as asking:
        alone = sweep.pull(_mixed(cotangents, cotangents))
    if not _agrees(cotangents, found, alone):
        return None
    if sweep.agreed is not None and asking and not asking.asked and all(g is not None and bool(g.all()) for g in alone):
        sweep.agreed.add(light)  # where something is zero, what is not so elsewhere has not been seen
    return found


def _asking() -> Asking:
    from jvpcli.language.surroundings import Asking  # loaded only where something is asked again and again

    return Asking()


def _under_vmap(pull_one: Pull, cotangents: Tensor, light: bool) -> list[Tensor | None] | None:
    """The passes together, by the rules behind `is_grads_batched=True` or by those of `torch.vmap`; None where they fail."""
    reached: list[bool] = []

    def pull(v: Tensor) -> tuple[Tensor, ...]:
        pulled = pull_one(v)
        reached[:] = [gradient is not None for gradient in pulled]
        return tuple([gradient for gradient in pulled if gradient is not None])

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch complains of what it takes one by one
            stacks = iter(at_rows(pull, [cotangents], light))
    except (RuntimeError, ValueError):
        return None
    return [next(stacks) if there else None for there in reached]


def _mixed(batch: Tensor, cotangents: Tensor) -> Tensor:
    """The sum of what passes give, or take, by different weights."""
    count = cotangents.shape[0]
    weights = torch.linspace(0.5, 1.5, count, dtype=cotangents.dtype, device=cotangents.device)
    return (weights.to(batch) @ batch.reshape(count, -1)).reshape(batch.shape[1:])


def _agrees(cotangents: Tensor, found: Sequence[Tensor | None], alone: Sequence[Tensor | None]) -> bool:
    """Whether what was found, mixed, is what one pass gave for the mixed cotangents."""

    def agree(rows: Tensor, alone: Tensor) -> bool:
        together, most = _mixed(rows, cotangents), 1e-3 * float(rows.abs().sum(0).max())
        near = together.shape == alone.shape and float((together - alone).abs().max()) <= most  # in a third of its time
        return near or torch.allclose(together, alone, rtol=1e-3, atol=most, equal_nan=True)

    return all(
        agree(rows, alone)
        for rows, alone in zip(found, alone, strict=True)
        if rows is not None and alone is not None and rows.numel()
    )


def _one_by_one(pull: Pull, cotangents: Tensor, pace: Pace | None = None) -> list[Tensor | None]:
    pulled = []
    for number, v in enumerate(cotangents.unbind(), 1):
        pulled.append([None if g is None else ordinary(g) for g in pull(v)])
        if pace and number % TOGETHER == 0:
            pace.passed(TOGETHER)
    return [_stacked(gradients) for gradients in zip(*pulled, strict=True)]


def _stacked(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Gradients as one tensor, of which None are zeros; a single one is not copied."""
    like = next((g for g in gradients if g is not None), None)
    if like is None or len(gradients) == 1:
        return None if like is None else like.unsqueeze(0)
    return torch.stack([torch.zeros_like(like) if g is None else g for g in gradients])


def gathered(sweep: Sweep, count: int, seeds: Seeds | None = None, tell: Tell | None = None) -> list[Tensor | None]:
    """What `count` passes give, for each operand (count, *shape); None: all zero.

    Args:
        sweep, seeds: as for `blocks`.
        count: the number of passes, at least 1.
        tell: is told how far it is.
    """
    results: list[Tensor | None] = []
    for start, stop, found in blocks(sweep, 0, count, seeds):
        if stop - start == count:
            results = found
        else:
            results = results or [None] * len(found)
            for operand, rows in enumerate(found):
                whole = results[operand]
                if rows is not None:
                    whole = rows.new_zeros((count, *rows.shape[1:])) if whole is None else whole
                    whole[start:stop] = rows
                    results[operand] = whole
        if tell:
            tell("backward passes, one a row", stop, count)
    return results


# --- whole Jacobians -------------------------------------------------------------------------------------------------


def by_rows(sweep: Sweep, inputs: Sequence[Tensor], tell: Tell | None = None) -> list[Tensor]:
    """The matrices (m, n) of ∂output/∂input for every input, one pass backwards a row."""
    m = sweep.output.numel()
    found = gathered(sweep, m, tell=tell) if m else [None] * len(inputs)
    shapes = [(m, x.numel()) for x in inputs]
    return [
        x.new_zeros(shape) if rows is None else rows.reshape(shape)
        for rows, x, shape in zip(found, inputs, shapes, strict=True)
    ]


def by_columns(
    output: Tensor,
    inputs: Sequence[Tensor],
    sweep_of: Callable[[Tensor, Sequence[Tensor]], Sweep] = plain,
    tell: Tell | None = None,
) -> list[Tensor]:
    """The matrices (m, n) of ∂output/∂input for every input, one pass forwards a column; real tensors only.

    Args:
        output, inputs: with the graph between them.
        sweep_of: how one goes back from a gradient to the cotangent that it was pulled back from.
        tell: is told how far it is.

    Raises:
        RuntimeError: an operation of the graph cannot be differentiated twice, or an entry is NaN.
    """
    weights, gradients = transposed(output, inputs)
    results = []
    for gradient, x in zip(gradients, inputs, strict=True):
        matrix = weights.new_zeros((weights.numel(), x.numel()), dtype=x.dtype)
        if gradient is not None:
            if gradient.requires_grad:
                for start, stop, (columns,) in blocks(sweep_of(gradient, [weights]), 0, x.numel()):
                    if columns is not None:
                        matrix[:, start:stop] = columns.reshape(stop - start, -1).t()
                    if tell:
                        tell("forward passes, one a column", stop, x.numel())
            if not adds_up(weights.detach().reshape(-1), matrix, gradient.detach().reshape(-1)):
                raise RuntimeError("an operation's backward cannot be differentiated")
            if matrix.isnan().any():  # a pass backwards may be spared it: a mask takes 0·∞ away that comes before it here
                raise RuntimeError("double backward gives NaN")
        results.append(matrix)
    return results


def adds_up(weights: Tensor, matrix: Tensor, gradient: Tensor) -> bool:
    """Whether weightsᵀ · matrix is the gradient, but for roundings; where one of them is not finite nothing is said.

    A custom backward can hide what of it depends on the cotangent: columns have lost a term then.
    """
    weights = weights.to(matrix.dtype)
    difference = (weights @ matrix - gradient).abs()
    difference = difference[difference.isfinite()]
    sizes = torch.nan_to_num(weights @ matrix.abs() + gradient.abs(), nan=0.0, posinf=0.0)
    eps = torch.finfo(matrix.dtype).eps
    return not difference.numel() or float(difference.max()) <= eps**0.5 * float(sizes.max())


def reverse_jacobian(output: Tensor, inputs: Sequence[Tensor]) -> list[LinearMap]:
    """∂output/∂input for each input, one backward pass for each entry of the output.

    Args:
        output: a tensor with a graph; m = output.numel().
        inputs: leaves that require grad; n_k = inputs[k].numel().

    Returns:
        one map an input, held as a matrix (m, n_k).  For a complex output a row is pulled back from 1 and from 1j
        (PyTorch's gradient convention is not complex-linear).
    """
    if not output.is_complex():
        return [_map(rows, None, output, x) for rows, x in zip(by_rows(plain(output, inputs), inputs), inputs, strict=True)]
    parts = torch.view_as_real(output.resolve_conj())
    real, imaginary = (by_rows(plain(part, inputs), inputs) for part in parts.unbind(-1))
    return [_map(re, im, output, x) for re, im, x in zip(real, imaginary, inputs, strict=True)]


def forward_jacobian(output: Tensor, inputs: Sequence[Tensor]) -> list[LinearMap]:
    """∂output/∂input for each input, one transposed pass for each entry of the inputs; real tensors only.

    Raises:
        RuntimeError: an operation of the graph cannot be differentiated twice.
    """
    return [_map(matrix, None, output, x) for matrix, x in zip(by_columns(output, inputs), inputs, strict=True)]


def _map(rows: Tensor, imaginary: Tensor | None, output: Tensor, x: Tensor) -> LinearMap:
    shapes = (tuple(output.shape), tuple(x.shape))
    if len(rows) == 1:
        rows = rows.clone()  # a backward of the user's own may give a tensor that it keeps
    if imaginary is None and not x.is_complex():
        return DenseMap(*shapes, rows)
    return ComplexMap(*shapes, rows, imaginary)


# --- forward mode proper: the function runs on dual numbers, once for each entry of its inputs -------------------------------


DUAL = "asked for with --mode forward; dual numbers, one run a column"
"""The reason of a plan that is carried out so."""


def dual_maps(problem: Problem, outputs: Named) -> dict[tuple[str, str], DenseMap]:
    """∂output/∂input of real tensors for every differentiated input.

    Raises:
        NotImplementedError, RuntimeError: an operation has no forward formula, or an entry is NaN.
    """
    inputs = problem.leaves
    columns: dict[tuple[str, str], list[Tensor]] = {(y, x): [] for y in outputs for x in inputs}
    for x, leaf in inputs.items():
        for unit in basis(leaf.detach(), 0, leaf.numel()).unbind():
            for y, tangent in pushed(problem, {x: unit}).items():
                if y in outputs:
                    columns[y, x].append(torch.zeros_like(outputs[y]).detach() if tangent is None else tangent)
    return {(y, x): _of_columns(found, outputs[y], inputs[x].detach()) for (y, x), found in columns.items()}


def _of_columns(columns: Sequence[Tensor], output: Tensor, x: Tensor) -> DenseMap:
    """The map whose matrix (m, n) has these columns, each of the output's shape."""
    empty = x.new_zeros((output.numel(), 0))
    matrix = torch.stack([column.reshape(-1) for column in columns], 1) if columns else empty
    matrix = matrix.to(x.dtype) if matrix.element_size() == 1 else matrix  # torch hardly computes with 8 bits
    if matrix.isnan().any():  # as in `by_columns`
        raise RuntimeError("dual numbers give NaN")
    return DenseMap(tuple(output.shape), tuple(x.shape), matrix)


def pushed(problem: Problem, tangents: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Σ J u for each output, where `tangents` holds u for some inputs; None: zero."""
    with forward_ad.dual_level(), seeded(problem.seed, problem.inputs.values()):
        duals = {
            name: forward_ad.make_dual(x.detach(), tangents[name]) if name in tangents else x.detach()
            for name, x in problem.leaves.items()
        }
        found = {name: forward_ad.unpack_dual(y).tangent for name, y in problem.run(duals).items()}
        with torch.no_grad():  # and not detach(), which has no rule for many at once
            return {name: None if tangent is None else tangent.clone() for name, tangent in found.items()}
