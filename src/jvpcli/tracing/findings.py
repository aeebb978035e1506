"""Where a gradient goes wrong: the first step of the backward pass that is to blame, the entry, the cause and the cure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.nearby import direction
from jvpcli.options import command
from jvpcli.report.trace import Finding
from jvpcli.request import Request
from jvpcli.tracing.chain import pull_back
from jvpcli.tracing.replay import Step
from jvpcli.tracing.rewrites import candidates, masks_behind
from jvpcli.tracing.steps import Traced, norm, number_text, trace_problem
from jvpcli.tracing.zeros import find_zeros

VANISHING = 1e-6
"""A gradient whose norm is less than this part of the given cotangent's has vanished; more than its inverse: exploded."""


CANCELLING = 1e3
"""A sum this many roundings below its terms is zero."""

MOST_REWRITES = 3
"""An expression may be wrong in several places: so many are mended one after the other."""


@dataclass(frozen=True)
class Fault:
    """Where finite cotangents give a contribution that is not finite: the step, its operand, the entry."""

    step: int
    position: int
    entry: int


def find(traced: Traced, request: Request) -> tuple[Finding, ...]:
    """Everything that is wrong with the gradients; nothing if all is well.

    A gradient that is not finite hides what else there is, so then that alone is told.
    """
    broken = {name: g for name, g in traced.gradients.items() if g is not None and not bool(g.isfinite().all())}
    if broken:
        return (_nonfinite(traced, request, list(broken.values())),)
    return tuple(dict.fromkeys([*find_zeros(traced), *_scale(traced)]))


# NaN and infinity


def _nonfinite(traced: Traced, request: Request, broken: Sequence[Tensor]) -> Finding:
    code = "nan" if any(bool(g.isnan().any()) for g in broken) else "inf"
    given = next((name for name, v in traced.cotangents.items() if not bool(v.isfinite().all())), None)
    if given is not None:
        return Finding(code, None, f"the cotangent given for {given} is not finite itself", ())
    fault = find_fault(traced)
    if fault is None:
        return Finding(code, None, "contributions that are finite add up to more than the dtype holds", ())
    rewrite = finite_rewrite(traced)
    message = _about(traced, fault, code) + _given_so(traced)
    hints: tuple[str, ...] = ()
    if rewrite is not None:
        message += f" With `{rewrite}` the gradient is finite (tried)."
        fixed = command(replace(request, expression=rewrite), name="trace")
        hints = (fixed or f"write {rewrite}",)
    return Finding(code, fault.step, message, hints, rewrite=rewrite)


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
            for position, primal in enumerate(step.operands)
            if primal.number in followed and passed[position] is not None and not bool(_finite(passed[position]).all())
        ]
        if not broken:
            continue
        sources = {result.primal.number for result in step.results} & bad
        followed |= sources
        if not sources:
            worst = max(broken, key=lambda p: bool(passed[p].isnan().any()))  # type: ignore[union-attr]
            fault = Fault(index, worst, _first_bad(passed[worst]))
    return fault


def _finite(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.isfinite()


def _first_bad(gradient: Tensor | None) -> int:
    """The first NaN, else the first infinity, as a flat position."""
    assert gradient is not None
    nan = gradient.isnan().reshape(-1)
    return int((nan if bool(nan.any()) else ~gradient.isfinite().reshape(-1)).nonzero()[0])


def finite_rewrite(traced: Traced, rounds: int = MOST_REWRITES) -> str | None:
    """The expression with a cure that makes every gradient finite, tried; several, where there are several faults."""
    fault = find_fault(traced)
    if fault is None or not rounds:
        return None
    best, fewest = None, _count_bad(traced)
    for suspect in _suspects(traced, fault):
        for expression in candidates(traced, suspect.step, suspect.position, suspect.entry):
            found = retraced(traced, expression)
            bad = fewest if found is None else _count_bad(found)
            if bad == 0:
                return expression
            if bad < fewest:
                best, fewest = found, bad
    return None if best is None else finite_rewrite(best, rounds - 1)


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


def _about(traced: Traced, fault: Fault, code: str) -> str:
    """The fault in a sentence: step, entry, the operand's value, the reason."""
    step = traced.chain.steps[fault.step]
    contribution = traced.swept.contributions[fault.step][fault.position]
    assert contribution is not None
    number = contribution.reshape(-1)[fault.entry].item()
    text = (
        f"the gradient becomes {_word(number)} in step {fault.step}, `{traced.source(step)}`, at "
        f"{traced.entry(step.operands[fault.position], fault.entry)}: {_reason(traced, fault, number)}."
    )
    if code == "nan" and not _is_nan(number):
        turn = _becomes_nan(traced, fault.step)
        if turn is not None:
            source = traced.source(traced.chain.steps[turn])
            text += f" In step {turn}, `{source}`, it becomes nan: 0·∞."
    return text


def _given_so(traced: Traced) -> str:
    """That an input is not finite itself, if so."""
    for primal in traced.chain.inputs.values():
        bad = ~primal.tensor.isfinite()
        if bool(bad.any()):
            return f" The input itself is not finite: {traced.entry(primal, int(bad.reshape(-1).nonzero()[0]))}."
    return ""


def _word(number: complex) -> str:
    return "nan" if _is_nan(number) else "infinite"


def _is_nan(number: complex) -> bool:
    return number != number


def _becomes_nan(traced: Traced, below: int) -> int | None:
    """The first step of the backward pass, after step `below`, that makes a NaN of what is not one."""
    for index in range(below - 1, -1, -1):
        arrived, passed = traced.swept.arrived[index], traced.swept.contributions[index]
        clean = all(v is None or not bool(v.isnan().any()) for v in arrived)
        if clean and any(g is not None and bool(g.isnan().any()) for g in passed):
            return index
    return None


def _reason(traced: Traced, fault: Fault, number: complex) -> str:
    """Why: the cotangent that arrives times the derivative, and what these are."""
    step = traced.chain.steps[fault.step]
    v, slope, row = _factors(traced, fault)
    forward = _quotient(step, row) or _forward(traced, step, row)
    operation = f"`{traced.source(step)}`"
    if v == 0 and math.isinf(abs(slope)):
        reason = f"the derivative there is {number_text(slope)}, the cotangent that arrives is 0, and 0·∞ is nan"
        return reason + _masked(traced, fault)
    if _is_nan(slope) or _is_nan(v):
        return f"the derivative there is nan{forward}"
    if math.isinf(abs(slope)):
        return f"the derivative there is {number_text(slope)}{forward}"
    if _is_nan(number):
        return f"{operation} has no derivative there{forward}"
    return f"the cotangent {number_text(v)} times the derivative {number_text(slope)} is more than the dtype holds{forward}"


def _factors(traced: Traced, fault: Fault) -> tuple[complex, complex, int | None]:
    """(v_k, ∂z_k/∂a_e, k) of the term of Σ_k v_k J_ke that is not finite; k is None where it isn't known."""
    step, arrived = traced.chain.steps[fault.step], traced.swept.arrived[fault.step]
    for local in traced.maps[fault.step]:
        v = arrived[local.result]
        if local.position != fault.position or v is None or not isinstance(local.jacobian, DenseMap):
            continue
        column = local.jacobian.matrix[:, fault.entry]
        terms = v.reshape(-1).to(column.dtype) * column
        bad = ~terms.isfinite()
        if bool(bad.any()):
            infinite = bad & column.isinf()  # a NaN beside it may only be the 0·∞ of a basis vector
            row = int((infinite if bool(infinite.any()) else bad).nonzero()[0])
            return v.reshape(-1)[row].item(), column[row].item(), row
    ones = [None if v is None else torch.ones_like(v) for v in arrived]
    slope = pull_back(step, ones)[fault.position]
    number = math.nan if slope is None else slope.reshape(-1)[fault.entry].item()
    given = next(v for v in arrived if v is not None).reshape(-1)
    same = next(v for v in arrived if v is not None).shape == step.operands[fault.position].tensor.shape
    return (given[fault.entry] if same else given.abs().max()).item(), number, fault.entry if same else None


def _quotient(step: Step, row: int | None) -> str:
    """` (0/0)` for a division, from the operands at an entry of the result."""
    if step.equation.target.rpartition(".")[2].rstrip("_") not in ("truediv", "div", "divide", "true_divide"):
        return ""
    if len(step.operands) != 2 or row is None:
        return " (a division by 0)" if any(bool((p.tensor == 0).any()) for p in step.operands[1:]) else ""
    shape = step.results[0].primal.tensor.shape
    above, below = (p.tensor.expand(shape).reshape(-1)[row].item() for p in step.operands)
    value = step.results[0].primal.tensor.reshape(-1)[row].item()
    already = " already in the forward pass" if not math.isfinite(abs(value)) else ""
    return f": {number_text(above)}/{number_text(below)}{already}"


def _forward(traced: Traced, step: Step, row: int | None) -> str:
    """That the value itself is not finite, if so."""
    if row is None or not step.results:
        return ""
    result = step.results[0].primal
    if row >= result.tensor.numel() or math.isfinite(abs(result.tensor.reshape(-1)[row].item())):
        return ""
    return f"; the value itself is already {number_text(result.tensor.reshape(-1)[row].item())} in the forward pass"


def _masked(traced: Traced, fault: Fault) -> str:
    """That a step further on masks the result and not the input, if so."""
    for step, mask in masks_behind(traced, fault.step):
        if mask.is_condition:
            index = traced.chain.steps.index(step)
            return f" (step {index}, `{traced.source(step)}`, masks the result; it is the input that must be masked)"
    return ""


# Vanishing and exploding


def _scale(traced: Traced) -> Iterator[Finding]:
    """Gradients whose norm is out of proportion to the given cotangent's."""
    start = norm(list(traced.cotangents.values()))
    for name, primal in traced.chain.inputs.items():
        total = traced.swept.totals.get(primal.number)
        end = norm([total]) if total is not None else 0.0
        if not start or not end or VANISHING <= end / start <= 1 / VANISHING:
            continue
        ratio = end / start
        index, factor, positions = _steepest(traced, primal.number, shrinking=ratio < 1)
        source = traced.source(traced.chain.steps[index])
        if ratio < 1 and _cancels(traced, index, positions):
            message = (
                f"the gradient becomes zero, up to rounding, in step {index}, `{source}`: the terms of the product of the "
                "cotangent that arrives with its local Jacobian cancel"
            )
            yield Finding("zero", index, message, (), "cancelled")
            continue
        yield Finding(
            "vanishing" if ratio < 1 else "exploding",
            index,
            f"the gradient to {name} has norm {end:.2g}, {ratio:.2g} times that of the cotangent given ({start:.2g}); the "
            f"steepest step is {index}, `{source}` (×{factor:.2g})",
            (),
        )


def _steepest(traced: Traced, number: int, shrinking: bool) -> tuple[int, float, list[int]]:
    """The step on the way to a value that changes the norm most, its factor and operands; the last of equals."""
    wanted, best = {number}, 1.0
    found: tuple[int, list[int]] = (0, [])
    for index, step in enumerate(traced.chain.steps):
        passed = traced.swept.contributions[index]
        positions = [k for k, p in enumerate(step.operands) if p.number in wanted and passed[k] is not None]
        before = _norm_of(traced.swept.arrived[index])
        if not positions or not before:
            continue
        wanted |= {result.primal.number for result in step.results}
        factor = _norm_of([passed[k] for k in positions]) / before
        if (factor <= best) if shrinking else (factor >= best):
            found, best = (index, positions), factor
    return found[0], best, found[1]


def _cancels(traced: Traced, index: int, positions: Sequence[int]) -> bool:
    """Whether what a step passes on is small only because terms cancel: with random signs of v it is much larger."""
    loose = [None if v is None else v * direction(v.real, 90).sign() for v in traced.swept.arrived[index]]
    spread = pull_back(traced.chain.steps[index], loose)
    passed = traced.swept.contributions[index]
    eps = max((torch.finfo(passed[k].dtype).eps for k in positions), default=0.0)  # type: ignore[union-attr]
    return _norm_of([passed[k] for k in positions]) <= CANCELLING * eps * _norm_of([spread[k] for k in positions])


def _norm_of(tensors: Sequence[Tensor | None]) -> float:
    return norm([t for t in tensors if t is not None])
