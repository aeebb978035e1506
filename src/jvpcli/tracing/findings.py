"""Where a gradient goes wrong: the first step of the backward pass that is to blame, the entry, the cause and the cure."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.jacobians.duplicates import repeated_in
from jvpcli.jacobians.linear_map import DenseMap
from jvpcli.jacobians.nearby import direction
from jvpcli.options import command
from jvpcli.report.trace import Finding
from jvpcli.request import Request
from jvpcli.tracing.chain import pull_back
from jvpcli.tracing.faults import Fault, find_cure, find_fault
from jvpcli.tracing.flat import Passage, finite_beside
from jvpcli.tracing.replay import Step
from jvpcli.tracing.rewrites import Mask, masks_behind
from jvpcli.tracing.steps import Traced, norm, number_text
from jvpcli.tracing.zeros import find_zeros

NO_VECTORS = (
    "the {kind} {number} is repeated here, and the {vectors} of a repeated {kind} are not differentiable; only what does not "
    "depend on the choice among them has a derivative"
)

SENTENCES = {
    "cotangent_not_finite": "the cotangent given for {name} is not finite itself",
    "sum_overflows": "contributions that are finite add up to more than the dtype holds",
    "whole_only": "torch.autograd.grad of the whole gives it, though what each step by itself passes on is finite",
    "becomes_not_finite": "the gradient becomes {word} in {step} at {entry}: {reason}.",
    "repeated": "the gradient becomes {word} in {step} at {entry}: " + NO_VECTORS + ".",
    "norm_ratio": "the gradient to {name} has norm {end}, {ratio} times that of the cotangent given ({start})",
    "cancelled_rounding": "the gradient becomes zero, up to rounding, in {step}: the terms of the product of the cotangent that "
    "arrives with its local Jacobian cancel",
}
"""By the code of a claim its sentence."""

REASONS = {
    "masked": "the derivative {there} is {slope}, the cotangent that arrives is 0, and 0·∞ is nan",
    "nan": "the derivative that PyTorch computes there is nan{forward}",
    "infinite": "the derivative {there} is {slope}{forward}",
    "overflow": "the cotangent {v} times the derivative {slope} is more than the dtype holds{forward}",
    "backward": "that is what PyTorch's backward of the step makes of the cotangent that arrives{forward}",
}
"""Why a step passes on what is not finite."""

ADDITIONS = {
    "direct_mask": " ({step} masks the result; it is the input that must be masked)",
    "mask": " ({step} drops entries of what is computed from it; it is the input that must be masked)",
    "turns_nan": " In {step} it becomes nan{why}.",
    "input": " The input itself is not finite: {entry}.",
    "repeated": "; " + NO_VECTORS,
    "steepest": "; the steepest is {step} (×{factor})",
    "cure": " With `{rewrite}` the gradient is finite (tried){changes}.",
}
"""Sentences that may follow."""

VANISHING = 1e-6
"""A gradient whose norm is less than this part of the given cotangent's has vanished; more than its inverse: exploded."""


CANCELLING = 1e3
"""A sum this many roundings below its terms is zero."""


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
        return _said(code, "cotangent_not_finite", name=given)
    fault = find_fault(traced)
    if fault is None:
        finite = all(bool(total.isfinite().all()) for total in traced.swept.totals.values())
        return _said(code, "whole_only" if finite else "sum_overflows")
    operand = traced.chain.steps[fault.step].operands[fault.position]
    word = "nan" if _is_nan(_number(traced, fault)) else "infinite"
    words = {"word": word, "step": _step(traced, fault.step), "entry": traced.entry(operand, fault.entry)}
    repeated = _repeated(traced, fault.step)
    if repeated is not None:
        return _said(code, "repeated", fault.step, **repeated, **words)
    found = _said(code, "becomes_not_finite", fault.step, reason=_reason(traced, fault), **words)
    message = found.message + _turns_nan(traced, fault, code) + _given_so(traced)
    cure = find_cure(traced)
    if cure is None:
        return replace(found, message=message)
    fixed = command(replace(request, expression=cure.expression), name="trace")
    return replace(
        found,
        message=message + ADDITIONS["cure"].format(rewrite=cure.expression, changes=cure.changes),
        hints=(fixed or f"write {cure.expression}",),
        rewrite=cure.expression,
    )


def _said(code: str, claim: str, index: int | None = None, /, **words: str) -> Finding:
    """The finding with the sentence of its claim."""
    return Finding(code, index, SENTENCES[claim].format(**words), (), claim=claim)


def _repeated(traced: Traced, index: int) -> dict[str, str] | None:
    """The words of a repeated eigenvalue or singular value in a step whose vectors get a cotangent."""
    arrived = zip(traced.chain.steps[index].results, traced.swept.arrived[index], strict=True)
    found = repeated_in(result.graph for result, v in arrived if v is not None)
    return (
        None if found is None else {"kind": found.kind, "vectors": found.vectors, "number": number_text(found.number)}
    )


def _step(traced: Traced, index: int) -> str:
    return f"step {index}, `{traced.source(traced.chain.steps[index])}`,"


def _number(traced: Traced, fault: Fault) -> complex:
    """What the step passes on to the entry."""
    contribution = traced.swept.contributions[fault.step][fault.position]
    assert contribution is not None
    return complex(contribution.reshape(-1)[fault.entry].item())


def _given_so(traced: Traced) -> str:
    """That an input is not finite itself, if so."""
    for primal in traced.chain.inputs.values():
        bad = ~primal.tensor.isfinite()
        if bool(bad.any()):
            return ADDITIONS["input"].format(entry=traced.entry(primal, int(bad.reshape(-1).nonzero()[0])))
    return ""


def _is_nan(number: complex) -> bool:
    return number != number


def _turns_nan(traced: Traced, fault: Fault, code: str) -> str:
    """The step behind the fault that makes a nan of an infinite cotangent, if the fault makes none itself."""
    if code != "nan" or _is_nan(_number(traced, fault)):
        return ""
    for index in range(fault.step - 1, -1, -1):
        step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
        if all(v is None or bool(v.isfinite().all() | v.isnan().any()) for v in arrived):
            continue
        bad = [torch.zeros(0) if g is None else g.isnan() for g in traced.swept.contributions[index]]
        tamed = pull_back(step, [None if v is None else torch.where(v.isinf(), 1.0, v).to(v.dtype) for v in arrived])
        if any(
            bool(b.any()) and g is not None and not bool((b & g.isnan()).any()) for b, g in zip(bad, tamed, strict=True)
        ):
            why = ": 0·∞" if _meets_zero(traced, index) else ""
            return ADDITIONS["turns_nan"].format(step=_step(traced, index), why=why)
    return ""


def _meets_zero(traced: Traced, index: int) -> bool:
    """Whether an infinite cotangent meets a derivative of 0 where a step gives nan."""
    for local in traced.maps[index]:
        v, passed = traced.swept.arrived[index][local.result], traced.swept.contributions[index][local.position]
        if v is None or passed is None or not isinstance(local.jacobian, DenseMap):
            continue
        if bool((v.isinf().reshape(-1, 1) & (local.jacobian.matrix == 0) & passed.isnan().reshape(1, -1)).any()):
            return True
    return False


def _reason(traced: Traced, fault: Fault) -> str:
    """Why: the cotangent that arrives times the derivative, and what these are."""
    step = traced.chain.steps[fault.step]
    v, slope, row = _factors(traced, fault) or (math.nan, 1.0, None)
    words = {"forward": _quotient(step, row) or _forward(step, row), "slope": number_text(slope), "v": number_text(v)}
    words["there"] = "there" if finite_beside(Passage.of(step, fault.position), fault.entry) else "that PyTorch computes there"
    if v == 0 and cmath.isinf(slope):
        return REASONS["masked"].format(**words) + _masked(traced, fault, row)
    if _is_nan(v):
        return REASONS["backward"].format(**words)
    kind = "nan" if _is_nan(slope) else "infinite" if cmath.isinf(slope) else "overflow"
    return REASONS[kind].format(**words)


def _factors(traced: Traced, fault: Fault) -> tuple[complex, complex, int] | None:
    """(v_k, ∂z_k/∂a_e, k) of the term of Σ_k v_k J_ke that is not finite; None where it isn't known."""
    step, arrived = traced.chain.steps[fault.step], traced.swept.arrived[fault.step]
    for local in traced.maps[fault.step]:
        v = arrived[local.result]
        if local.position != fault.position or v is None:
            continue
        ones = [torch.ones_like(v) if k == local.result else None for k in range(len(arrived))]
        if isinstance(local.jacobian, DenseMap):
            column, row = local.jacobian.matrix[:, fault.entry], None
            if column.isnan().any() and not column.isinf().any():  # each may be the 0·∞ of a basis vector: ones have no 0
                slope = pull_back(step, ones)[fault.position]
                column = column if slope is None else column.where(~column.isnan(), slope.reshape(-1)[fault.entry])
        elif local.structure in ("diagonal", "identity") and local.in_shape == local.out_shape:
            slope = pull_back(step, ones)[fault.position]
            column, row = v if slope is None else slope.reshape(-1), fault.entry
        else:
            continue
        bad = ~(v.reshape(-1).to(column.dtype) * column).isfinite()
        if bool(bad.any()):
            infinite = bad & column.isinf()  # a NaN beside it may only be the 0·∞ of a basis vector
            row = int((infinite if bool(infinite.any()) else bad).nonzero()[0]) if row is None else row
            return v.reshape(-1)[row].item(), column[row].item(), row
    return None


def _quotient(step: Step, row: int | None) -> str:
    """` (0/0)` for a division, from the operands at an entry of the result."""
    if step.equation.word.rstrip("_") not in ("truediv", "div", "divide", "true_divide"):
        return ""
    if len(step.operands) != 2 or row is None:
        return " (a division by 0)" if any(bool((p.tensor == 0).any()) for p in step.operands[1:]) else ""
    shape = step.results[0].primal.tensor.shape
    above, below = (p.tensor.expand(shape).reshape(-1)[row].item() for p in step.operands)
    value = step.results[0].primal.tensor.reshape(-1)[row].item()
    already = " already in the forward pass" if not cmath.isfinite(value) else ""
    return f": {number_text(above)}/{number_text(below)}{already}"


def _forward(step: Step, row: int | None) -> str:
    """That the value itself is not finite, if so."""
    if row is None or not step.results:
        return ""
    result = step.results[0].primal
    if row >= result.tensor.numel() or cmath.isfinite(result.tensor.reshape(-1)[row].item()):
        return ""
    return f"; the value itself is already {number_text(result.tensor.reshape(-1)[row].item())} in the forward pass"


def _masked(traced: Traced, fault: Fault, row: int | None) -> str:
    """That a step further on masks the result and not the input, if so."""
    given = {result.primal.number for result in traced.chain.steps[fault.step].results}
    for step, mask in masks_behind(traced, fault.step):
        dropped = _dropped(step, mask)
        if not mask.is_condition or dropped is None or not bool(dropped.any()):
            continue
        direct = any(p.number in given and p.tensor.shape == dropped.shape for p in step.operands) and row is not None
        if not direct or bool(dropped.reshape(-1)[row or 0]):
            kind = "direct_mask" if direct else "mask"
            return ADDITIONS[kind].format(step=_step(traced, traced.chain.steps.index(step)))
    return ""


def _dropped(step: Step, mask: Mask) -> Tensor | None:
    """Which entries of its result a mask leaves out; None where it is no tensor."""
    for primal, argument in zip(step.operands, step.arguments, strict=True):
        if argument == mask.argument:
            return ((primal.tensor != 0) != mask.kept).expand(step.results[0].primal.tensor.shape)
    return None


# Vanishing and exploding


def _scale(traced: Traced) -> Iterator[Finding]:
    """Gradients whose norm is out of proportion to the given cotangent's."""
    start = norm(list(traced.cotangents.values()))
    for name, primal in traced.chain.inputs.items():
        total = traced.swept.totals.get(primal.number)
        end = norm([total]) if total is not None else 0.0
        if not start or not end or math.isnan(end) or VANISHING <= end / start <= 1 / VANISHING:
            continue
        ratio = end / start
        index, factor, positions = _steepest(traced, primal.number, shrinking=ratio < 1)
        if positions and ratio < 1 and _cancels(traced, index, positions):
            found = _said("zero", "cancelled_rounding", index, step=_step(traced, index)[:-1])
            yield replace(found, reason="cancelled")
            continue
        words = {"name": name, "end": f"{end:.2g}", "ratio": f"{ratio:.2g}", "start": f"{start:.2g}"}
        code = "vanishing" if ratio < 1 else "exploding"
        if not positions:  # no step does it: what several pass on adds up to it
            yield _said(code, "norm_ratio", **words)
            continue
        found = _said(code, "norm_ratio", index, **words)
        steepest = ADDITIONS["steepest"].format(step=_step(traced, index)[:-1], factor=f"{factor:.2g}")
        repeated = _repeated(traced, index) if ratio > 1 else None
        why = ADDITIONS["repeated"].format(**repeated) if repeated else ""
        yield replace(found, message=found.message + steepest + why)


def _steepest(traced: Traced, number: int, shrinking: bool) -> tuple[int, float, list[int]]:
    """The step on the way to a value that changes the norm most, its factor and operands; the last of equals."""
    wanted, best = {number}, 1.0
    found: tuple[int, list[int]] = (0, [])
    for index, step in enumerate(traced.chain.steps):
        passed = traced.swept.contributions[index]
        positions = [k for k, p in enumerate(step.operands) if p.number in wanted and passed[k] is not None]
        before = _norm_of(traced.swept.arrived[index])
        after = _norm_of([passed[k] for k in positions])
        if not before or not after:  # what comes to the value, which is not zero, comes by others
            continue
        wanted |= {result.primal.number for result in step.results}
        factor = after / before
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
