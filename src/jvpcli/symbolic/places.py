"""The points at which closed forms are verified: two ways to one tensor must agree at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from jvpcli.jacobians.nearby import direction, elsewhere, moved, sampled
from jvpcli.jacobians.passes import vjp
from jvpcli.language.derivatives import derivation
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Named, Problem
from jvpcli.report.derive import Verified
from jvpcli.symbolic.translation import constants

RANDOM_POINTS = 3
"""Beside the point itself."""

POINTS_OF_CHOICES = 8
"""Further ones, of any signs, where values choose what an entry is: so many that a wrong choice is met."""

TOLERANCE = 1e-8
"""By which float64 may differ, of the largest entry."""

NOT_VERIFIED = "PyTorch's own numbers differ, so it is not shown"

UNDEFINED = "the form that was found comes to NaN at this point (as 0/0 does), where PyTorch has a number: take another point"

SINGULAR = "the form that was found inverts a matrix that has no inverse at this point: take another point"

Way = Callable[["Place"], Tensor]
"""A tensor at each place."""


@dataclass(frozen=True)
class Place:
    """A point at which forms are verified: the function evaluated there in float64, and all tensors that forms name.

    `gradients` keeps PyTorch's own: by input, and whether it is for the given v or for the random one.
    """

    evaluation: Evaluation
    tensors: Named
    gradients: dict[tuple[str, bool], Tensor] = field(default_factory=dict)


def _steps(evaluation: Evaluation) -> list[Any]:
    """What runs, to compare: of a derivative call the steps that it goes back through."""
    found: list[Any] = []
    for step in evaluation.tape:
        call = derivation(step)
        found.append(step if call is None else (step.slot, call.call, call.part, *call.history[: call.count]))
    return found


def _finite(evaluation: Evaluation) -> set[int]:
    """The slots of what is finite: beyond its domain a function on the way has no numbers that a derivative of it goes by."""
    return {slot for slot, x in evaluation.values.items() if isinstance(x, Tensor) and bool(x.isfinite().all())}


class Places:
    """The point of a problem in float64, and random ones at which the same steps run and all is finite.

    Attributes:
        all: the point first.
        v, v_names: by output the given cotangent, and what a random one is called among a place's tensors.
        u, u_names: by input the given tangent, and what a random one is called.
        largest: by how much two ways to a tensor differed at most, of its largest entry.
    """

    def __init__(
        self, problem: Problem, v: Named, u: Named, v_names: Mapping[str, str], u_names: Mapping[str, str], chooses: bool
    ) -> None:
        self.v, self.u = ({name: _wide(each) for name, each in given.items()} for given in (v, u))
        self.v_names, self.u_names = v_names, u_names
        self.largest = 0.0
        self.all = [self._place(problem.evaluation), *self._random(problem, POINTS_OF_CHOICES * chooses)]

    @property
    def verified(self) -> Verified:
        """What was compared, so far."""
        return Verified(len(self.all), self.largest)

    def _random(self, problem: Problem, choices: int) -> Iterator[Place]:
        inputs = {name: x.detach() for name, x in problem.inputs.items() if x.is_floating_point()}
        steps, finite = _steps(problem.evaluation), _finite(problem.evaluation)
        for seed in range(1, RANDOM_POINTS + choices + 1):
            near = [elsewhere(inputs, seed), sampled(inputs, 0.3, seed), moved(inputs, 0.03, seed), moved(inputs, 1e-3, seed)]
            signed = {name: direction(x, 100 * seed + k) for k, (name, x) in enumerate(inputs.items())}
            for points in near if seed <= RANDOM_POINTS else [signed, *near]:
                try:
                    evaluation = problem.at(points)
                except Exception:  # another point of the same seed is nearer
                    continue
                place = self._place(evaluation)
                if _steps(evaluation) == steps and finite <= _finite(evaluation) and self.is_finite(place):
                    yield place
                    break

    def _place(self, evaluation: Evaluation) -> Place:
        generator = torch.Generator().manual_seed(20)
        given = {**constants(evaluation), **{name: x.detach() for name, x in evaluation.inputs.items()}}
        shapes = {
            **{self.v_names[y]: v.shape for y, v in self.v.items()},
            **{self.u_names[x]: evaluation.inputs[x].shape for x in evaluation.wrt},
        }
        random = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
        return Place(evaluation, {**given, **random})

    def is_finite(self, place: Place) -> bool:
        """Whether outputs and gradients are."""
        outputs = [place.evaluation.outputs[y] for y in self.v]
        return all(bool(t.isfinite().all()) for t in (*outputs, *[self.gradient(place, x) for x in place.evaluation.wrt]))

    # What PyTorch gives there

    def weights(self, place: Place, given: bool = False) -> Named:
        """The random cotangent of each output, or the given one."""
        return self.v if given else {y: place.tensors[name] for y, name in self.v_names.items()}

    def gradient(self, place: Place, x: str, given: bool = False) -> Tensor:
        """∂L/∂x for the random cotangents, or the given ones."""
        if (x, given) not in place.gradients:
            place.gradients[x, given] = self.pulled_back(place, x, self.weights(place, given))
        return place.gradients[x, given]

    def pulled_back(self, place: Place, x: str, weights: Named) -> Tensor:
        """Σ vᵀ ∂y/∂x over some outputs."""
        leaf = place.evaluation.inputs[x]
        total = torch.zeros_like(leaf)
        for y, weight in weights.items():
            output = place.evaluation.outputs[y]
            if output.requires_grad:
                (part,) = vjp(output, weight, [leaf])
                total = total if part is None else total + part
        return total

    def pushed(self, place: Place, y: str, given: bool = False) -> Tensor:
        """J u for the random tangents, or the given ones: the derivative of vᵀJ, which is linear in v, by v."""
        u = self.u if given else {x: place.tensors[self.u_names[x]] for x in self.u}
        output = place.evaluation.outputs[y]
        v = torch.zeros_like(output, requires_grad=True)
        leaves = [place.evaluation.inputs[x] for x in u]
        slopes = torch.autograd.grad((output * v).sum(), leaves, create_graph=True, materialize_grads=True)
        total = torch.stack([(g * u[x]).sum() for x, g in zip(u, slopes, strict=True)]).sum()
        found = torch.autograd.grad(total, v, allow_unused=True)[0] if total.requires_grad else None
        return torch.zeros_like(output) if found is None else found

    def twice(self, place: Place, x: str, w: str, given: bool = False) -> Tensor:
        """∂²L/∂x∂w by double backward, a row at a time."""
        leaf, other = place.evaluation.inputs[x], place.evaluation.inputs[w]
        (slope,) = torch.autograd.grad(self._total(place, given), leaf, create_graph=True, allow_unused=True)
        if slope is None or not slope.requires_grad:
            return torch.zeros(*leaf.shape, *other.shape, dtype=torch.float64)
        rows = [torch.autograd.grad(entry, other, retain_graph=True, allow_unused=True)[0] for entry in slope.reshape(-1)]
        found = [torch.zeros_like(other) if row is None else row for row in rows]
        return torch.stack(found).reshape(*leaf.shape, *other.shape) if found else torch.zeros(*leaf.shape, *other.shape)

    def on_the_way(self, place: Place) -> Named:
        """The place's tensors, with the values of the names that the program gives steps on the way, and ∂L/∂ those."""
        evaluation = place.evaluation
        named = {n: t for n, t in evaluation.named.items() if t.requires_grad and n not in evaluation.inputs}
        slopes = torch.autograd.grad(
            self._total(place), list(named.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        arriving = {f"∂L/∂{n}": g for n, g in zip(named, slopes, strict=True)}
        return {**place.tensors, **{n: t.detach() for n, t in named.items()}, **arriving}

    def _total(self, place: Place, given: bool = False) -> Tensor:
        """L, which the cotangents make of the outputs."""
        weights = self.weights(place, given).items()
        return torch.stack([(place.evaluation.outputs[y] * weight).sum() for y, weight in weights]).sum()

    # Two ways

    def agree(self, mine: Way, theirs: Way) -> bool:
        """Whether two ways to a tensor agree at all places."""
        return self.fault(mine, theirs) is None

    def fault(self, mine: Way, theirs: Way) -> str | None:
        """Why a way to a tensor is not shown; None: it agrees with the other at all places, and how far is kept."""
        largest = 0.0
        for place in self.all:
            try:
                found = mine(place)
            except torch.linalg.LinAlgError:
                return SINGULAR if place is self.all[0] else NOT_VERIFIED
            except Exception:  # code that does not run is not shown
                return NOT_VERIFIED
            want = theirs(place).detach()
            if found.shape != want.shape:
                return NOT_VERIFIED
            if want.numel():
                gap = torch.where(found.isnan() & want.isnan() | (found == want), 0.0, (found - want).abs())
                difference = float(gap.max()) / max(1.0, float(want.abs().nan_to_num(posinf=0.0).max()))
                if not difference <= TOLERANCE:
                    undefined = place is self.all[0] and bool((found.isnan() & ~want.isnan()).any())
                    return UNDEFINED if undefined else NOT_VERIFIED
                largest = max(largest, difference)
        self.largest = max(self.largest, largest)
        return None


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
