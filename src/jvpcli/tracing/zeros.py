"""Where a gradient becomes zero, and why: cut, unused, flat, at a kink, or cancelled.

From the inputs whose gradient has zeros the steps are walked in evaluation order: a zero either is made by a step, or was
there before it came to that step, and then it is looked for in what the step gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jvpcli.jacobians.linear_map import ComplexMap, LinearMap
from jvpcli.jacobians.nearby import direction
from jvpcli.language.catalog import is_random
from jvpcli.language.course import decides
from jvpcli.language.operations import can_require_grad, is_imported
from jvpcli.program import numbers_read, refs, takes_shape
from jvpcli.report.trace import Finding
from jvpcli.tracing.chain import pull_back
from jvpcli.tracing.flat import Passage, sensitivity, why_flat
from jvpcli.tracing.replay import WRITE, Primal, Step
from jvpcli.tracing.steps import Traced

NOT_PASSED = "no gradient flows to {where}: {steps} "
"""How sentences begin of entries that a step passes nothing on to, whatever arrives."""

MADE = "the gradient becomes zero in {steps} at {where}: "
"""How sentences begin of entries where a step makes a zero of what arrives."""

SENTENCES = {
    "no_path": "{name} has no part in L: nothing that L is computed from reads it (structural)",
    "no_path_here": "{name} has no part in L here: nothing that L is computed from at these values reads it",
    "shape_only": "no gradient reaches {name}: L is computed from its shape, not from its numbers (structural)",
    "none_passed": "no gradient reaches {name}: PyTorch's backward of {steps} passes none on to it",
    "graph_cut": "no gradient flows back through {steps} {cutter} ends the graph (structural); what is computed from it treats "
    "{name} as a constant",
    "all_cut": "no gradient reaches {name}: in {steps} {cutter} ends the graph (structural)",
    "unused": NOT_PASSED + "{verb} it (structural)",
    "unused_here": NOT_PASSED + "{verb} it here",
    "random": NOT_PASSED + "{verb} it with this seed: it draws random numbers",
    "piecewise": MADE + "it is piecewise constant (structural): its derivative is 0 wherever it has one",
    "tried": MADE + "its derivative is 0 here, and was at every other place that was tried",
    "saturated": MADE
    + "it is saturated (dead) there: around this value its numbers do not change with this entry, and its "
    "derivative comes out as 0",
    "flat": MADE + "its derivative comes out as 0 here and around here, and not far away",
    "kink": MADE + "it has a kink there (the derivatives to its two sides differ), and PyTorch chooses 0",
    "leap": MADE + "its value jumps there, so that it has no derivative, and PyTorch gives 0",
    "jump": MADE
    + "its derivative by PyTorch is 0 here, and not as near to this point as numbers of this precision can tell",
    "stationary": MADE + "it is stationary there: its derivative is 0 at this point, and not a little beside it",
    "value": MADE + "its derivative is 0 because of the value of {because} here, and is not with another",
    "values": MADE + "its derivative is 0 because of the values of its operands here, and is not with others",
    "rounded": MADE + "its derivative there rounds to 0 in {dtype}, and in double precision is not 0",
    "underflow": MADE
    + "the cotangent that arrives times the derivative is smaller than the smallest number of {dtype}",
    "cancelled": MADE
    + "neither the cotangent that arrives nor the derivative is 0, but the terms of their product cancel",
    "cancelled_sum": "the contributions to {where} from {steps} cancel: none of them is 0, their sum is",
    "cancelled_given": "the cotangent given for {name} and the contributions to it from {steps} cancel at {where}: none of them "
    "is 0, their sum is",
}
"""By the code of a claim its sentence."""

KINDS = {
    **dict.fromkeys(("no_path", "shape_only", "graph_cut", "all_cut", "unused", "piecewise"), "structural"),
    **dict.fromkeys(("no_path_here", "none_passed", "unused_here", "random", "tried", "value", "values"), "value"),
    **dict.fromkeys(("saturated", "flat"), "saturated"),
    **dict.fromkeys(("kink", "leap", "jump"), "kink"),
    **dict.fromkeys(("rounded", "underflow"), "rounding"),
    **dict.fromkeys(("cancelled", "cancelled_sum", "cancelled_given"), "cancelled"),
    "stationary": "stationary",
}
"""By the code of a claim the kind of zero."""


IDLE = ("unused", "unused_here")
"""Of entries that a step does not read: this is so whatever arrives; all other causes make a zero of what does."""


@dataclass(frozen=True)
class Zero:
    """Entries of a value at which the gradient becomes zero, for one cause: in one step, or in several together.

    `because` is the operand whose value is the cause.
    """

    claim: str
    steps: tuple[int, ...]
    primal: Primal
    entries: Tensor
    because: Primal | None = None


@dataclass(frozen=True)
class Following:
    """What follows from the values of the inputs, or is drawn at random.

    Attributes:
        primals: the tensors, by number.
        slots: Python numbers, and lists of them, by the slot of the tape; sizes are none.
        decided: whether values decide which steps there are.
    """

    primals: frozenset[int]
    slots: frozenset[int]
    decided: bool


def find_zeros(traced: Traced) -> list[Finding]:
    """A finding for each step and cause that makes entries of an input's gradient zero, and for each cut of the graph."""
    cuts, following = find_cuts(traced), followed(traced)
    findings = [_cut_finding(traced, index) for index in cuts]
    for zero in _zeros(traced, following):
        if zero.claim == "absent":
            findings += _absent_findings(traced, zero.primal, cuts, following)
        else:
            findings.append(_zero_finding(traced, zero))
    return sorted(findings, key=lambda finding: -1 if finding.step is None else finding.step)


def followed(traced: Traced) -> Following:
    """What follows from the inputs' values."""
    chain = traced.chain
    primals = {primal.number for primal in chain.inputs.values()}
    slots: set[int] = set()
    whole = any(map(decides, traced.program.equations))
    for step in chain.steps:
        follows = _numbers_taken(step) & primals or slots.intersection(numbers_read(step.equation))
        if follows or is_random(step.equation.op):
            primals.update(result.primal.number for result in step.results)
            if step.value is not None:
                slots.add(step.equation.slot)
                whole = whole or not isinstance(step.value, (float, complex, tuple))
    return Following(frozenset(primals), frozenset(slots), whole)


def _numbers_taken(step: Step) -> set[int]:
    """The tensors whose numbers a step takes, and not only their shapes."""
    shaped = takes_shape(step.equation)
    return {p.number for p, place in zip(step.operands, step.arguments, strict=True) if place != 0 or not shaped}


def _read(step: Step) -> list[int]:
    """The slots that a step reads."""
    operands = (*step.equation.operands, *(operand for _, operand in step.equation.keywords))
    return [slot for operand in operands for slot in refs(operand)]


# Zeros


def _zeros(traced: Traced, following: Following) -> Iterator[Zero]:
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
            yield from _of_value(traced, following, uses, pending[number], pending)


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
    traced: Traced,
    following: Following,
    uses: Sequence[tuple[int, int]],
    entries: Tensor,
    pending: dict[int, Tensor],
) -> Iterator[Zero]:
    """Why the cotangent of one value is zero at some entries; what comes from further on is put down in `pending`."""
    if not uses:
        return  # an output: the cotangent was given
    primal = traced.chain.steps[uses[0][0]].operands[uses[0][1]]
    steps = tuple(dict.fromkeys(index for index, _ in uses))
    unused, here = entries, torch.zeros_like(entries)
    for index, position in uses:
        passed = traced.swept.contributions[index][position]
        assert passed is not None
        idle = torch.zeros_like(entries)
        for zero in _of_use(traced, following, (index, position), entries & (passed == 0), pending):
            if zero.claim in IDLE:
                idle = idle | zero.entries
                here = here | (zero.entries if zero.claim == "unused_here" else False)
            else:
                yield zero
        unused = unused & idle
    for claim, mask in (("unused", unused & ~here), ("unused_here", unused & here)):
        if bool(mask.any()):
            yield Zero(claim, steps, primal, mask)
    yield from _cancelled_sums(traced, primal, uses, entries)


def _cancelled_sums(traced: Traced, primal: Primal, uses: Sequence[tuple[int, int]], entries: Tensor) -> Iterator[Zero]:
    """Entries where what several uses pass on adds up to zero, by the steps that take part."""
    parts = [(index, traced.swept.contributions[index][position]) for index, position in uses]
    given = [v for name, v in traced.cotangents.items() if traced.chain.outputs[name].number == primal.number]
    taking = torch.stack([entries & (part != 0) for part in (*(g for _, g in parts), *given)])
    left = taking.any(0)
    while bool(left.any()):
        pattern = taking.flatten(1)[:, int(left.reshape(-1).nonzero()[0])].reshape(-1, *(1,) * entries.dim())
        mask = left & (taking == pattern).all(0)
        steps = tuple(
            dict.fromkeys(index for (index, _), part in zip(parts, pattern.reshape(-1).tolist(), strict=False) if part)
        )
        yield Zero("cancelled_given" if bool(pattern[len(parts) :].any()) else "cancelled_sum", steps, primal, mask)
        left = left & ~mask


def _of_use(
    traced: Traced, following: Following, use: tuple[int, int], entries: Tensor, pending: dict[int, Tensor]
) -> Iterator[Zero]:
    """The zeros that are made in one step, on the way to one of its operands."""
    index, position = use
    step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
    primal = step.operands[position]
    results = [k for k, v in enumerate(arrived) if v is not None and step.results[k].graph.requires_grad]
    others = [k for k, p in enumerate(step.operands) if p.number != primal.number and p.number in following.primals]
    decided = following.decided or is_imported(step.equation.op) or not following.slots.isdisjoint(_read(step))
    passage = Passage(step, results, position, others, decided)
    flat = entries
    for place in (k for k, p in enumerate(step.operands) if p.number == primal.number):  # through all places where it stands
        felt = sensitivity(replace(passage, position=place))
        flat = flat if felt is None else flat & (felt == 0)
    reached = _reached(traced, index, results, position)
    before = torch.zeros_like(entries)  # of these a zero had come already, which nothing in this step made
    for why in why_flat(passage, flat) if bool(flat.any()) else ():
        made = why.entries if why.cause in IDLE else why.entries & reached
        before = before | (why.entries & ~made)
        because = None if why.because is None else step.operands[why.because]
        if bool(made.any()):
            yield Zero("values" if why.cause == "value" and because is None else why.cause, (index,), primal, made, because)
    for k in results if bool(before.any()) else ():
        v = arrived[k]
        assert v is not None
        _put_down(pending, step.results[k].primal.number, _own(traced, (index, k, position), before, v) & (v == 0))
    rest = entries & ~flat
    for k in results if bool(rest.any()) else ():
        v = arrived[k]
        assert v is not None
        rows, cancelled, lost = _terms(traced, index, (k, position), rest, v)
        _put_down(pending, step.results[k].primal.number, rows)
        for claim, mask in (("cancelled", cancelled), ("underflow", lost)):
            if bool(mask.any()):
                yield Zero(claim, (index,), primal, mask)


def _reached(traced: Traced, index: int, results: Sequence[int], position: int) -> Tensor:
    """The entries of an operand on whose way back something other than zero arrives at the step."""
    primal = traced.chain.steps[index].operands[position]
    reached = torch.zeros_like(primal.tensor, dtype=torch.bool)
    for k in results:
        v = traced.swept.arrived[index][k]
        assert v is not None
        reached = reached | ((v != 0).reshape(reached.shape) if _is_own(traced, index, k, position) else (v != 0).any())
    return reached


def _own(traced: Traced, way: tuple[int, int, int], entries: Tensor, v: Tensor) -> Tensor:
    """The entries of a result through which those of an operand (a mask) get their gradients."""
    return entries.reshape(v.shape) if _is_own(traced, *way) else torch.ones_like(v, dtype=torch.bool)


def _is_own(traced: Traced, index: int, result: int, position: int) -> bool:
    """Whether each entry of an operand gets its gradient from its own entry of the result alone, at every point."""
    local = next((m for m in traced.maps[index] if m.result == result and m.position == position), None)
    jacobian = None if local is None else local.jacobian
    return jacobian is not None and jacobian.structure in ("diagonal", "identity") and jacobian.m == jacobian.n


def _put_down(pending: dict[int, Tensor], number: int, entries: Tensor) -> None:
    """Adds entries whose zero is still to be explained."""
    if bool(entries.any()):
        pending[number] = pending[number] | entries if number in pending else entries


def _terms(
    traced: Traced, index: int, pair: tuple[int, int], entries: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For zeros Σ_k v_k J_ke: the entries k where v_k is the zero, the e whose terms cancel, and the e whose terms underflow."""
    result, position = pair
    local = next((m for m in traced.maps[index] if m.result == result and m.position == position), None)
    none = torch.zeros_like(entries)
    if local is None or local.jacobian is None:
        step = traced.chain.steps[index]
        loose = [v * direction(v.detach(), 60) if k == result else None for k in range(len(step.results))]
        spread = pull_back(step, loose)[position]
        return v == 0, none if spread is None else entries & (spread != 0), none
    takes_part = local.jacobian.filled & entries.reshape(1, -1)
    parts = _parts(local.jacobian, v.reshape(-1, 1))
    live = takes_part & _any([(weight != 0) & (rows != 0) for weight, rows in parts])
    told = (live & _any([weight * rows != 0 for weight, rows in parts])).any(0)
    cancelled, lost = live.any(0) & told, live.any(0) & ~told
    rows = (takes_part & ~live.any(0)).any(1).reshape(v.shape) & (v == 0)
    return rows, cancelled.reshape(entries.shape), lost.reshape(entries.shape)


def _parts(jacobian: LinearMap, v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights (m, 1) and matrices (m, n) whose products make up what v (m, 1) is pulled back to."""
    if not isinstance(jacobian, ComplexMap):
        return [(v, jacobian.to_dense().reshape(jacobian.m, jacobian.n))]
    if jacobian.imaginary is None:
        return [(v, jacobian.rows)]
    return [(v.real, jacobian.rows), (v.imag, jacobian.imaginary)]


def _any(masks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(masks)).any(0)


# Cuts


def find_cuts(traced: Traced) -> list[int]:
    """The steps that stop the gradient of something that a floating value on the way to the outputs is made from."""
    cut_by: dict[int, set[int]] = {}
    found: dict[int, None] = {}
    for index, step in enumerate(traced.chain.steps):
        read = _read(step)
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
    """The steps on the way to L at which the gradients that could flow back to a value end."""
    following, ends = {primal.number}, []
    for index, step in enumerate(traced.chain.steps):
        if any(operand.number in following for operand in step.operands):
            active = [result.primal.number for result in step.results if result.primal.active]
            following.update(active)
            if (
                not active
                and _carries_numbers(step)
                and _reaches(traced, {r.primal.number for r in step.results}, step)
            ):
                ends.append(index)
    return ends


def _reaches(traced: Traced, primals: set[int], start: Step | None = None, *, numbers: bool = True) -> bool:
    """Whether L is computed from values, or from the number that a step gives, in any way: gradients or not.

    With `numbers` it is their numbers that count, and not only their shapes.
    """
    slots = set() if start is None else {start.equation.slot}
    for step in traced.chain.steps:
        tensors = _numbers_taken(step) if numbers else {p.number for p in step.operands}
        if tensors & primals or slots.intersection(numbers_read(step.equation) if numbers else _read(step)):
            primals.update(result.primal.number for result in step.results)
            slots.add(step.equation.slot)
    asked = (name for name, v in traced.cotangents.items() if bool((v != 0).any()))
    return any(traced.chain.outputs[name].number in primals for name in asked)


def _carries_numbers(step: Step) -> bool:
    """Whether a result depends on the operands' numbers: sizes and the like do not."""
    return not takes_shape(step.equation)


def _is_factor(traced: Traced, slot: int) -> bool:
    """Whether a value could have carried a gradient; masks and indices never do."""
    value = traced.evaluation.values[slot]
    if isinstance(value, Tensor):
        return can_require_grad(value)
    return isinstance(value, (float, complex))


# Sentences


def _said(claim: str, index: int | None, /, **words: str) -> Finding:
    """The finding of a zero with the sentence of its claim."""
    return Finding("zero", index, SENTENCES[claim].format(**words), (), KINDS[claim], claim=claim)


def _zero_finding(traced: Traced, zero: Zero) -> Finding:
    steps, claim = zero.steps, zero.claim
    count, size = int(zero.entries.sum()), zero.entries.numel()
    entry = traced.entry(zero.primal, int(zero.entries.reshape(-1).nonzero()[0]))
    done = [traced.chain.steps[index] for index in steps]
    if claim in ("unused", "unused_here") and any(is_random(step.equation.op) for step in done):
        claim = "random"
    return _said(
        claim,
        steps[0] if len(steps) == 1 else None,
        where=f"{entry} ({count} of {size} entries)" if size > 1 else entry,
        steps=_steps(traced, steps),
        verb="overwrites" if all(map(_overwrites, done)) else "does not use" if len(steps) == 1 else "do not use",
        name=traced.labels[zero.primal.number],
        because="" if zero.because is None else traced.labels[zero.because.number],
        dtype=str(zero.primal.tensor.dtype).removeprefix("torch."),
    )


def _overwrites(step: Step) -> bool:
    return step.kind == WRITE or step.equation.op == "op:setitem"


def _steps(traced: Traced, steps: Sequence[int]) -> str:
    """``step 0, `x*y`,``, or `steps 0, 2 and 3`."""
    if len(steps) == 1:
        return f"step {steps[0]}, `{traced.source(traced.chain.steps[steps[0]])}`,"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def _absent_findings(traced: Traced, primal: Primal, told: Collection[int], following: Following) -> Iterator[Finding]:
    """That no gradient reaches an input at all, unless the cuts that are told already say so."""
    name, ends = traced.labels[primal.number], _ends_of(traced, primal)
    if ends and set(ends) <= set(told):
        return
    if ends:
        step = traced.chain.steps[ends[0]]
        yield _said("all_cut", ends[0], name=name, steps=_steps(traced, ends[:1]), cutter=_cutter(step))
    elif not _reaches(traced, {primal.number}, numbers=False):
        yield _said("no_path_here" if following.decided else "no_path", None, name=name)
    elif not _reaches(traced, {primal.number}):
        yield _said("no_path_here" if following.decided else "shape_only", None, name=name)
    else:
        index = _last_of(traced, primal)
        yield _said("none_passed", index, name=name, steps="a step" if index is None else _steps(traced, [index]))


def _last_of(traced: Traced, primal: Primal) -> int | None:
    """The step on the way from an input at which a cotangent arrives, and that passes none on."""
    numbers = {primal.number}
    for index, step in enumerate(traced.chain.steps):
        read = [position for position, p in enumerate(step.operands) if p.number in numbers]
        if read:
            numbers.update(result.primal.number for result in step.results)
            passed = [traced.swept.contributions[index][position] for position in read]
            if any(v is not None for v in traced.swept.arrived[index]) and all(g is None for g in passed):
                return index
    return None


def _cut_finding(traced: Traced, index: int) -> Finding:
    step = traced.chain.steps[index]
    name = traced.labels[next(p.number for p in step.operands if p.active)]
    return _said("graph_cut", index, name=name, steps=f"{_steps(traced, [index])[:-1]}:", cutter=_cutter(step))


def _cutter(step: Step) -> str:
    if not step.equation.recorded:
        return "running it unrecorded, under torch.no_grad() or the like,"
    if not step.results:
        return f"a plain {type(step.value).__name__}"
    dtype = step.results[0].primal.tensor.dtype
    if dtype.is_floating_point or dtype.is_complex:
        return f".{step.equation.target}()" if step.equation.kind == "method" else step.equation.target
    return f"a result of {'true and false' if dtype is torch.bool else 'whole numbers'}"
