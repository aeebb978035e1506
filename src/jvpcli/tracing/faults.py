"""Where a gradient stops being finite, and rewrites that cure it: tried, and compared with the original.

A rewrite is a cure if it makes every gradient finite and is the same function: the values, and the derivatives where they
were finite, stay as they were.  What changes a little is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.jacobians.contraction import entry_label, unravel
from jvpcli.jacobians.nearby import elsewhere, largest, moved
from jvpcli.language.operations import can_require_grad
from jvpcli.tracing.chain import gradients_of
from jvpcli.tracing.rewrites import candidates
from jvpcli.tracing.steps import Traced, number_text, trace_problem

NEARBY = (1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4)
"""How far off the point, relative to each entry, a rewrite is compared with the original."""

SMALLER = (0.8, 0.5)
"""Parts of the inputs at which a rewrite is compared with the original too: what overflows at the point is finite there."""

SAME = 64
"""Two ways to a number that are so many roundings apart give the same."""

MOST_CHANGED = 1e-2
"""A rewrite that changes an output by more than this part of its size is another function, and no cure."""

MOST_REWRITES = 3
"""An expression may be wrong in several places: so many are mended one after the other."""


@dataclass(frozen=True)
class Fault:
    """Where finite cotangents give a contribution that is not finite: the step, its operand, the entry."""

    step: int
    position: int
    entry: int


def find_fault(traced: Traced) -> Fault | None:
    """The first step of the backward pass that makes what is not finite in an input's gradient.

    From the inputs the values are followed whose cotangents are not finite, up to a step at which what arrives is.
    """
    totals = traced.swept.totals
    bad = {n for n, total in totals.items() if not bool(total.isfinite().all())}
    followed = {primal.number for primal in traced.chain.inputs.values()} & bad
    fault = None
    for index, step in enumerate(traced.chain.steps):
        passed = traced.swept.contributions[index]
        broken = [
            position
            for position, (primal, gradient) in enumerate(zip(step.operands, passed, strict=True))
            if primal.number in followed and gradient is not None and not bool(gradient.isfinite().all())
        ]
        if not broken:
            continue
        sources = {result.primal.number for result in step.results} & bad
        followed |= sources
        if not sources:
            worst = max(broken, key=lambda p: bool(passed[p].isnan().any()))  # type: ignore[union-attr]
            fault = Fault(index, worst, _first_bad(passed[worst]))
    return fault


def _first_bad(gradient: Tensor | None) -> int:
    """The first NaN, else the first infinity, as a flat position."""
    assert gradient is not None
    nan = gradient.isnan().reshape(-1)
    return int((nan if bool(nan.any()) else ~gradient.isfinite().reshape(-1)).nonzero()[0])


# Cures


@dataclass(frozen=True)
class Cure:
    """An expression with finite gradients, and in words what else it changes; nothing: neither values nor derivatives."""

    expression: str
    changes: str


def find_cure(traced: Traced) -> Cure | None:
    """The first rewrite that makes every gradient finite and changes nothing else, else the first that changes little."""
    small = None
    for expression in finite_rewrites(traced):
        found = retraced(traced, expression)
        changes = None if found is None else what_changes(traced, found)
        if changes == "":
            return Cure(expression, "")
        if changes is not None and small is None:
            small = Cure(expression, changes)
    return small


def finite_rewrites(traced: Traced, rounds: int = MOST_REWRITES) -> Iterator[str]:
    """Expressions with a change by rule that have finite gradients; where there are several faults, with several changes."""
    fault = find_fault(traced)
    if fault is None or not rounds:
        return
    best, fewest = None, _count_bad(traced)
    for suspect in _suspects(traced, fault):
        for expression in candidates(traced, suspect.step, suspect.position, suspect.entry):
            found = retraced(traced, expression)
            bad = _count_bad(traced) if found is None else _count_bad(found)
            if bad == 0:
                yield expression
            if bad < fewest:
                best, fewest = found, bad
    if fewest and best is not None:
        yield from finite_rewrites(best, rounds - 1)


def retraced(traced: Traced, expression: str) -> Traced | None:
    """Another expression at the same inputs, with the same cotangents, without local Jacobians; None if that fails."""
    try:
        problem = traced.problem.retry(expression)
        if any(problem.evaluation.outputs[name].shape != v.shape for name, v in traced.cotangents.items()):
            return None
        return trace_problem(problem, traced.cotangents, with_maps=False)
    except (JvpError, KeyError, RuntimeError):
        return None


def _suspects(traced: Traced, fault: Fault) -> Iterator[Fault]:
    """Where to change something: the guilty operand, its step's others, and where a value stops being finite."""
    yield fault
    for position, primal in enumerate(traced.chain.steps[fault.step].operands):
        if position != fault.position:
            yield Fault(fault.step, position, min(fault.entry, max(primal.tensor.numel() - 1, 0)))
    for index, step in enumerate(traced.chain.steps):
        bad = [~result.primal.tensor.isfinite() for result in step.results]
        if index == fault.step or not any(bool(b.any()) for b in bad):
            continue
        for position, primal in enumerate(step.operands):
            if primal.active and bool(primal.tensor.isfinite().all()):
                same = next((b for b in bad if b.shape == primal.tensor.shape and bool(b.any())), None)
                entry = 0 if same is None else int(same.reshape(-1).nonzero()[0])
                yield Fault(index, position, entry)


def _count_bad(traced: Traced) -> int:
    return sum(int((~g.isfinite()).sum()) for g in traced.gradients.values() if g is not None)


# What a rewrite changes besides


@dataclass(frozen=True)
class Changed:
    """The entry of a tensor that another expression changes most, and by which part of the tensor's largest entry."""

    label: str
    before: complex
    after: complex
    part: float

    @property
    def is_gradient(self) -> bool:
        """Whether the tensor is no output."""
        return self.label.startswith("∂")

    @property
    def by(self) -> float:
        """How far apart they are, as a part of the number before where that is more than 1."""
        return abs(self.after - self.before) / max(abs(self.before), 1.0)


Numbers = Mapping[str, tuple[Tensor, float]]
"""Outputs and gradients by their labels, each with the size of what it was added up from."""


def what_changes(before: Traced, after: Traced) -> str | None:
    """What another expression changes where the first one is finite, in words; None: too much to be a cure.

    Looked at are the outputs and the gradients, at the point, at a few points nearby, and at some further off.
    """
    if _spoils(before, after):
        return None
    old, new = (_numbers(t.evaluation.outputs, t.cotangents, t.problem.leaves) for t in (before, after))
    here = _changed(old, new)
    most = max(MOST_CHANGED, max(torch.finfo(x.dtype).eps for x in before.problem.leaves.values()) ** 0.5)
    if any(found.part > most for found in here):
        return None
    if here:
        return f", but other numbers change: {' and '.join(map(_told, here[:2]))}"
    leaves = before.problem.leaves
    near = _changed_at(before, after, [moved(leaves, distance, seed=31 + seed) for seed, distance in enumerate(NEARBY)])
    far = _changed_further(before, after)
    if any(found.part > most for found in near if not found.is_gradient) or any(
        found.by > most for found in far if not found.is_gradient
    ):
        return None
    for where, changed in (("a point nearby", near), ("another point", far)):
        if changed:
            return f", but other numbers change: at {where} {_told(max(changed, key=lambda found: found.part))}"
    return ""


def _spoils(before: Traced, after: Traced) -> bool:
    """Whether an output is not finite, and was not so before: no gradient is worth that."""
    for name, y in before.evaluation.outputs.items():
        new = after.evaluation.outputs[name]
        if bool((~new.isfinite() & ~((new == y) | (new.isnan() & y.isnan()))).any()):
            return True
    return False


def _told(found: Changed) -> str:
    before, after = number_text(found.before), number_text(found.after)
    if before == after:  # in so few digits
        before, after = f"{found.before:.9g}", f"{found.after:.9g}"
    return f"{found.label} is {after} instead of {before}"


def _numbers(outputs: Mapping[str, Tensor], cotangents: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Numbers:
    """The outputs, and the gradients of L at an evaluation."""
    pairs = [(outputs[name], v) for name, v in cotangents.items()]
    terms = sum(float(torch.nan_to_num((y.detach() * v).abs(), nan=0.0, posinf=0.0).sum()) for y, v in pairs)
    found = {name: (y.detach(), 0.0) for name, y in outputs.items() if can_require_grad(y)}
    for (name, x), gradient in zip(inputs.items(), gradients_of(pairs, list(inputs.values())), strict=True):
        if gradient is not None:
            found[f"∂L/∂{name}"] = gradient, terms / (largest(x.detach()) or 1.0)
    return found


def _changed_further(before: Traced, after: Traced) -> list[Changed]:
    """What changes further off, in double precision: what overflows or underflows at the point does not there."""
    try:
        before, after = (replace(traced, problem=traced.problem.in_double()) for traced in (before, after))
        leaves = before.problem.leaves
    except (JvpError, RuntimeError):  # it runs in its own precision alone
        return []
    smaller = [{name: part * x.detach() for name, x in leaves.items()} for part in SMALLER]
    return _changed_at(before, after, [*smaller, elsewhere(leaves, seed=31)])


def _changed_at(before: Traced, after: Traced, points: Sequence[Mapping[str, Tensor]]) -> list[Changed]:
    """What changes at these points, beyond the rounding of the dtype that was asked for."""
    eps = max(torch.finfo(v.dtype).eps for v in before.cotangents.values())
    found: list[Changed] = []
    for point in points:
        try:
            found += _changed(_numbers_at(before, point), _numbers_at(after, point), eps)
        except (JvpError, KeyError, RuntimeError):  # the one or the other has no values there
            continue
    return found


def _numbers_at(traced: Traced, points: Mapping[str, Tensor]) -> Numbers:
    there = traced.problem.at(points)
    cotangents = {name: v.to(there.outputs[name].dtype) for name, v in traced.cotangents.items()}
    return _numbers(there.outputs, cotangents, there.leaves)


def _changed(before: Numbers, after: Numbers, eps: float = 0.0) -> list[Changed]:
    """The entry that changes most, beyond rounding, of each tensor; only where the number before is finite."""
    found = []
    for name, (old, terms) in before.items():
        new = after[name][0] if name in after else torch.full_like(old, math.nan)
        if not old.numel():
            continue
        apart = torch.where(old.isfinite(), torch.nan_to_num((new - old).abs().double(), nan=math.inf), 0)
        size, place = largest(old), int(apart.argmax())
        difference = float(apart.reshape(-1)[place])
        if difference > SAME * max(torch.finfo(old.dtype).eps, eps) * (size + terms):
            label = entry_label(name, unravel(place, tuple(old.shape)))
            numbers = old.reshape(-1)[place].item(), new.reshape(-1)[place].item()
            found.append(Changed(label, *numbers, difference / (size or 1.0)))
    return found
