"""Where a gradient becomes zero, and why: cut, unused, flat, at a kink, or cancelled.

From the inputs whose gradient has zeros the steps are walked in evaluation order: a zero either is made by a step, or was
there before it came to that step, and then it is looked for in what the step gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jvpcli.jacobians.nearby import STEP_IN_ROUNDINGS, direction, moved
from jvpcli.jacobians.passes import vjp
from jvpcli.language.catalog import is_random
from jvpcli.program import refs
from jvpcli.report.trace import Finding
from jvpcli.tracing.chain import LocalMap, pull_back
from jvpcli.tracing.replay import WRITE, Primal, Step
from jvpcli.tracing.steps import Traced

REASONS = {
    "kink": "kink", "stationary": "stationary", "saturated": "saturated", "cancelled": "cancelled",
    "piecewise": "structural", "unused": "structural",
}  # fmt: skip
"""What kind of zero each cause makes."""

SENTENCES = {
    "kink": "it has a kink there (the derivatives to its two sides differ), and PyTorch chooses 0",
    "stationary": "it is stationary there: its derivative is 0 at this point, and not a little beside it",
    "saturated": "it is saturated (dead) there: it does not change with this entry, so its derivative is 0",
    "piecewise": "it is piecewise constant (structural): its derivative is 0 everywhere",
    "cancelled": "neither the cotangent that arrives nor the derivative is 0, but the terms of their product cancel",
}


@dataclass(frozen=True)
class Zero:
    """Entries of a value at which the gradient becomes zero, for one cause: in one step, or in several together."""

    cause: str
    steps: tuple[int, ...]
    primal: Primal
    entries: Tensor


def find_zeros(traced: Traced) -> list[Finding]:
    """A finding for each step and cause that makes entries of an input's gradient zero, and for each cut of the graph."""
    cuts = find_cuts(traced)
    findings = [_cut_finding(traced, index) for index in cuts]
    for zero in _zeros(traced):
        if zero.cause == "absent":
            findings += _absent_findings(traced, zero.primal, cuts)
        else:
            findings.append(_zero_finding(traced, zero))
    return sorted(findings, key=lambda finding: -1 if finding.step is None else finding.step)


# Zeros


def _zeros(traced: Traced) -> Iterator[Zero]:
    """The walk: `pending` holds, by the number of a primal, the entries whose zero is not yet explained."""
    if not any(bool((v != 0).any()) for v in traced.cotangents.values()):
        return  # nothing was asked for
    pending: dict[int, Tensor] = {}
    for primal in traced.chain.inputs.values():
        total = traced.swept.totals.get(primal.number)
        if not primal.active or not primal.tensor.numel():
            continue
        if total is None:
            yield Zero("absent", (), primal, torch.ones_like(primal.tensor, dtype=torch.bool))
        elif bool((total == 0).any()):
            pending[primal.number] = total == 0
    readers = _readers(traced)
    for number, uses in readers.items():  # in evaluation order: what a step gives comes after what it reads
        if number in pending:
            yield from _of_value(traced, uses, pending[number], pending)


def _readers(traced: Traced) -> dict[int, list[tuple[int, int]]]:
    """By the number of each primal the (step, position) where it is read and something flows back from."""
    readers: dict[int, list[tuple[int, int]]] = {primal.number: [] for primal in traced.chain.inputs.values()}
    for index, step in enumerate(traced.chain.steps):
        readers.update({result.primal.number: [] for result in step.results})
        for position, primal in enumerate(step.operands):
            if traced.swept.contributions[index][position] is not None:
                readers[primal.number].append((index, position))
    return readers


def _of_value(
    traced: Traced, uses: Sequence[tuple[int, int]], entries: Tensor, pending: dict[int, Tensor]
) -> Iterator[Zero]:
    """Why the cotangent of one value is zero at some entries; what comes from further on is put down in `pending`."""
    if not uses:
        return  # an output: the cotangent was given
    primal = traced.chain.steps[uses[0][0]].operands[uses[0][1]]
    unused, cancelling = entries, torch.zeros_like(entries)
    for index, position in uses:
        passed = traced.swept.contributions[index][position]
        assert passed is not None
        causes = _of_use(traced, index, position, entries & (passed == 0), pending)
        unused = unused & causes.pop("unused", torch.zeros_like(entries))
        cancelling = cancelling | (entries & (passed != 0))
        for cause, mask in causes.items():
            yield Zero(cause, (index,), primal, mask)
    if bool(unused.any()):
        yield Zero("unused", tuple(dict.fromkeys(index for index, _ in uses)), primal, unused)
    if bool(cancelling.any()):
        yield Zero("cancelled", tuple(dict.fromkeys(index for index, _ in uses)), primal, cancelling)


def _of_use(
    traced: Traced, index: int, position: int, entries: Tensor, pending: dict[int, Tensor]
) -> dict[str, Tensor]:
    """The causes that lie in one step, by cause the entries of its operand."""
    step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
    results = [k for k, v in enumerate(arrived) if v is not None and step.results[k].graph.requires_grad]
    passage = Passage(step, results, position)
    felt = sensitivity(passage)
    flat = entries if felt is None else entries & (felt == 0)
    causes = why_flat(passage, flat) if bool(flat.any()) else {}
    rest = entries & ~flat
    if not bool(rest.any()):
        return causes
    for k in results:
        v = arrived[k]
        assert v is not None
        rows, cancelled = _terms(traced.maps[index], k, position, rest, v)
        number = step.results[k].primal.number
        if bool(rows.any()):
            pending[number] = pending[number] | rows if number in pending else rows
        if bool(cancelled.any()):
            causes["cancelled"] = causes.get("cancelled", torch.zeros_like(rest)) | cancelled
    return causes


def _terms(maps: Sequence[LocalMap], result: int, position: int, entries: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """For zeros Σ_k v_k J_ke: the entries k where v_k is the zero, and the entries e whose terms cancel instead."""
    local = next((m for m in maps if m.result == result and m.position == position), None)
    if local is None or local.jacobian is None:
        return v == 0, entries if bool((v != 0).all()) else torch.zeros_like(entries)
    takes_part = local.jacobian.filled & entries.reshape(1, -1)
    cancelled = (takes_part & (v != 0).reshape(-1, 1)).any(0)
    rows = (takes_part & ~cancelled).any(1).reshape(v.shape) & (v == 0)
    return rows, cancelled.reshape(entries.shape)


# Cuts


def find_cuts(traced: Traced) -> list[int]:
    """The steps that stop the gradient of something that a floating value on the way to the outputs is made from."""
    cut_by: dict[int, set[int]] = {}
    found: dict[int, None] = {}
    for index, step in enumerate(traced.chain.steps):
        read = [slot for operand in step.equation.operands for slot in refs(operand)]
        read += [slot for _, operand in step.equation.keywords for slot in refs(operand)]
        behind = set().union(*(cut_by.get(slot, set()) for slot in read))
        active = any(primal.active for primal in step.operands)
        stopped = active and not any(result.primal.active for result in step.results) and _carries_numbers(step)
        if any(v is not None for v in traced.swept.arrived[index]):
            floating = [slot for slot in read if slot in cut_by and _is_factor(traced, slot)]
            found.update({cut: None for slot in floating for cut in sorted(cut_by[slot])})
        elif stopped or behind:
            cut_by[step.equation.slot] = behind | ({index} if stopped else set())
    return list(found)


def _ends_of(traced: Traced, primal: Primal) -> list[int]:
    """The steps at which every gradient that could flow back to a value ends."""
    followed, ends = {primal.number}, []
    for index, step in enumerate(traced.chain.steps):
        if any(operand.number in followed for operand in step.operands):
            active = [result.primal.number for result in step.results if result.primal.active]
            followed.update(active)
            if not active and _carries_numbers(step):
                ends.append(index)
    return ends


def _carries_numbers(step: Step) -> bool:
    """Whether a result depends on the operands' numbers: sizes and the like do not."""
    return bool(step.results) or isinstance(step.value, (float, complex))


def _is_factor(traced: Traced, slot: int) -> bool:
    """Whether a value could have carried a gradient; masks and indices never do."""
    value = traced.evaluation.values[slot]
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (float, complex))


# Sentences


def _zero_finding(traced: Traced, zero: Zero) -> Finding:
    steps = zero.steps
    count, size = int(zero.entries.sum()), zero.entries.numel()
    entry = traced.entry(zero.primal, int(zero.entries.reshape(-1).nonzero()[0]))
    where = f"{entry} ({count} of {size} entries)" if size > 1 else entry
    if zero.cause == "unused" and all(is_random(traced.chain.steps[index].equation.op) for index in steps):
        message = (
            f"{where} has no part in L: {_steps(traced, steps)} does not use it, or dropped it at random (structural)"
        )
    elif zero.cause == "unused":
        verb = "overwrites it" if all(_overwrites(traced.chain.steps[index]) for index in steps) else _unused(steps)
        message = f"{where} has no part in L: {_steps(traced, steps)} {verb} (structural)"
    elif len(steps) > 1:
        message = f"the contributions to {where} from {_steps(traced, steps)} cancel: none of them is 0, their sum is"
    else:
        message = f"the gradient becomes zero in {_steps(traced, steps)} at {where}: {SENTENCES[zero.cause]}"
    return Finding("zero", steps[0] if len(steps) == 1 else None, message, (), REASONS[zero.cause])


def _unused(steps: Sequence[int]) -> str:
    return "does not use it" if len(steps) == 1 else "do not use it"


def _overwrites(step: Step) -> bool:
    return step.kind == WRITE or step.equation.op == "op:setitem"


def _steps(traced: Traced, steps: Sequence[int]) -> str:
    """``step 0, `x*y` ``, or `steps 0, 2 and 3`."""
    if len(steps) == 1:
        return f"step {steps[0]}, `{traced.source(traced.chain.steps[steps[0]])}`,"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def _absent_findings(traced: Traced, primal: Primal, told: Sequence[int]) -> Iterator[Finding]:
    """That no gradient reaches an input at all, unless the cuts that are told already say so."""
    name, ends = traced.labels[primal.number], _ends_of(traced, primal)
    if ends and set(ends) <= set(told):
        return
    message = f"{name} has no part in L: no gradient reaches it (structural)"
    if ends:
        source = traced.source(traced.chain.steps[ends[0]])
        message += f"; in step {ends[0]}, `{source}`, {_cutter(traced.chain.steps[ends[0]])} ends the graph"
    yield Finding("zero", ends[0] if ends else None, message, (), "structural")


def _cut_finding(traced: Traced, index: int) -> Finding:
    step = traced.chain.steps[index]
    name = traced.labels[next(p.number for p in step.operands if p.active)]
    message = (
        f"no gradient flows back through step {index}, `{traced.source(step)}`: {_cutter(step)} ends the graph (structural); "
        f"what is computed from it treats {name} as a constant"
    )
    return Finding("zero", index, message, (), "structural")


def _cutter(step: Step) -> str:
    if not step.results:
        return f"a plain {type(step.value).__name__}"
    dtype = step.results[0].primal.tensor.dtype
    if dtype.is_floating_point or dtype.is_complex:
        return f".{step.equation.target}()" if step.equation.kind == "method" else step.equation.target
    return f"a result of {'true and false' if dtype is torch.bool else 'whole numbers'}"


CLOSE = 1e-3
"""How far, relative to each entry, a derivative that is zero at the point alone is looked for."""

FAR = (1.0, 3.0, 30.0, 1e4)
"""Sizes of the random operands that a derivative which is zero all around is looked for at."""

GROWTH = 1.5
"""A derivative that grows less than this over four times the distance jumps; one that is zero at the point grows more."""


@dataclass(frozen=True, eq=False)
class Passage:
    """The way through a step from some of its results (by number) to one of its operands (by position)."""

    step: Step
    results: Sequence[int]
    position: int

    @property
    def operand(self) -> Tensor:
        """The operand's value."""
        return self.step.operands[self.position].tensor


def sensitivity(passage: Passage) -> Tensor | None:
    """A random cotangent pulled back: zero where the derivative is; None where no gradient flows at all."""
    cotangents = [
        direction(result.primal.tensor, 50 + k) if k in passage.results else None
        for k, result in enumerate(passage.step.results)
    ]
    return pull_back(passage.step, cotangents)[passage.position]


def why_flat(passage: Passage, flat: Tensor) -> dict[str, Tensor]:
    """Why the derivative to the entries `flat` (a mask) of the operand is zero.

    Returns:
        masks of those entries by cause:
        "kink": the derivative is not zero on one side: the zero is PyTorch's choice;
        "stationary": it isn't a little off: a maximum, a minimum, a saddle;
        "saturated": it isn't far away;
        "piecewise": it is everywhere, although the value changes: round, sign;
        "unused": the results do not depend on these entries.
    """
    x = passage.operand
    rounding = STEP_IN_ROUNDINGS * torch.finfo(x.dtype).eps
    near, wider = (_largest(passage, [_moved(x, sign * h) for sign in (-1, 1)]) for h in (rounding, 4 * rounding))
    close = _largest(passage, [_moved(x, sign * CLOSE) for sign in (-1, 1)])
    causes = {"kink": flat & (near > 0) & (wider < GROWTH * near)}
    causes["stationary"] = flat & ((near > 0) | (close > 0)) & ~causes["kink"]
    rest = flat & ~(causes["kink"] | causes["stationary"])
    if bool(rest.any()):
        causes["saturated"] = rest & (_largest(passage, _far(x)) > 0)
        rest = rest & ~causes["saturated"]
        causes["piecewise" if any(_changes(passage, rest, away) for away in _far(x)) else "unused"] = rest
    return {cause: mask for cause, mask in causes.items() if bool(mask.any())}


def _moved(x: Tensor, relative: float) -> Tensor:
    return moved({"x": x}, relative, seed=11)["x"]


def _far(x: Tensor) -> Iterator[Tensor]:
    yield -x.detach()
    for seed, size in enumerate(FAR):
        yield size * direction(x, 70 + seed)
        yield size * direction(x, 80 + seed).abs().to(x.dtype)


def _results_at(passage: Passage, value: Tensor) -> list[Tensor] | None:
    points = [primal.tensor for primal in passage.step.operands]
    points[passage.position] = value
    try:
        return passage.step.again(points)
    except Exception:  # whatever the operation refuses there tells nothing
        return None


def _largest(passage: Passage, values: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    """Entry by entry the largest finite derivative for random cotangents, at other values of the operand."""
    largest = torch.zeros_like(passage.operand.abs())
    for value in values:
        leaf = value.detach().requires_grad_()
        found = _results_at(passage, leaf) or []
        for k in passage.results:
            if k < len(found) and found[k].requires_grad:
                (gradient,) = vjp(found[k], direction(found[k].detach(), 50 + k), [leaf])
                if gradient is not None:
                    largest = torch.maximum(largest, torch.nan_to_num(gradient.abs(), nan=0.0, posinf=0.0))
    return largest


def _changes(passage: Passage, entries: Tensor, away: Tensor) -> bool:
    """Whether the results change when these entries alone are moved."""
    found = _results_at(passage, torch.where(entries, away, passage.operand))
    if found is None or not bool(entries.any()):
        return False
    before = [result.primal.tensor for result in passage.step.results]
    return any(k >= len(found) or not torch.equal(found[k], before[k]) for k in passage.results)
