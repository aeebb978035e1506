"""What `jvp run --watch` looks at after each backward pass: gradients that become NaN, infinite or zero, and the step to blame.

Looking costs one norm of all gradients.  Only where something is wrong for the first time are the recorded steps run again, one
by one, to find where it began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.language.operations import can_require_grad
from jvpcli.problem import Problem
from jvpcli.program import Const, Site, cited_line
from jvpcli.recording.derivatives import Derivative
from jvpcli.report.run import Alarm, AlarmStep
from jvpcli.tracing.faults import find_fault
from jvpcli.tracing.replay import Step
from jvpcli.tracing.steps import Traced, trace_problem

MOST_NAMES = 4
"""Tensors that a sentence names."""


@dataclass(eq=False)
class Watch:
    """The gradients of a program, pass after pass.

    Attributes:
        alarms: what was found, each kind of trouble once for a tensor.
        passes: how many backward passes there were.
    """

    alarms: list[Alarm] = field(default_factory=list)
    passes: int = 0
    known: set[str] = field(default_factory=set)
    broken: bool = False

    def look(
        self,
        inputs: Iterable[Tensor],
        result: Sequence[Tensor | None] | None,
        call_of: Callable[[], Derivative],
        problem_of: Callable[[Derivative], Problem | None],
    ) -> Iterator[Alarm]:
        """What is wrong with the gradients of a pass that was not before.

        Args:
            inputs: what was differentiated by.
            result: what the call gave; None: it has added to the inputs' `grad`.
            call_of: reads what the call asked for, and `problem_of` puts its steps together, where they are known; both are
                called only where something is wrong.
        """
        self.passes += 1
        if _are_sound(_given(inputs, result)):
            return
        call = call_of()
        gradients = {name: g for name, g in zip(call.inputs, _given(call.inputs.values(), result), strict=False) if g is not None}
        found = {code: new for code, names in _troubles(gradients).items() if (new := self._new(code, names, call))}
        traced = _traced(call, problem_of(call)) if found else None
        for code, names in found.items():
            self.known.update(names if code == "zero" else ())
            self.broken |= code != "zero"
            for blame, blamed in _blamed(code, names, traced).items():
                alarm = _alarm(code, blamed, self.passes, call, blame)
                self.alarms.append(alarm)
                yield alarm

    def _new(self, code: str, names: Sequence[str], call: Derivative) -> list[str]:
        """What was not told before; a zero that was given is no trouble."""
        if self.broken:
            return []
        if code != "zero":
            return list(names)
        given = call.grad_outputs
        if given is not None and not any(v is None or bool(v.any()) for v in given):
            return []
        return [name for name in names if name not in self.known]


@dataclass(frozen=True)
class Blame:
    """What a trouble comes from, in words, and the step that they name."""

    why: str = ""
    step: AlarmStep | None = None


def first_nan(call: Derivative, problem: Problem) -> Blame:
    """The first step of a derivative call's pass that makes NaN, in an input's gradient or not: its steps are run again."""
    traced = _traced(call, problem)
    if traced is None:
        return Blame()
    for index in reversed(range(len(traced.chain.steps))):
        if any(v is not None and _has_nan(v) for v in traced.swept.arrived[index]):
            continue
        passed = traced.swept.contributions[index]
        position = next((k for k, g in enumerate(passed) if g is not None and _has_nan(g)), None)
        if position is not None:
            return _broken(traced, index, position)
    return Blame()


def _given(inputs: Iterable[Tensor], result: Sequence[Tensor | None] | None) -> list[Tensor | None]:
    """The gradient of each input; None where there is none, or it is no array of numbers."""
    parts = [x.grad for x in inputs] if result is None else result
    return [g.detach() if g is not None and _is_array(g) and g.numel() else None for g in parts]


def _is_array(g: Tensor) -> bool:
    return g.layout is torch.strided and not (g.is_nested or g.is_meta)


def _norms(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([n.float().cpu() if n.is_cuda else n.float() for n in torch._foreach_norm(list(gradients))])


def _are_sound(gradients: Iterable[Tensor | None]) -> bool:
    """Whether none is zero everywhere or has an entry that is not finite; one look at all of them together."""
    known = [g for g in gradients if g is not None]
    if not known:
        return True
    norms = _norms(known)
    least, most = torch.stack(torch.aminmax(norms)).tolist()
    return least > 0 and most < math.inf


def _troubles(gradients: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The names of the gradients that are not finite, or all zero, by code."""
    found: dict[str, list[str]] = {}
    for (name, g), norm in zip(gradients.items(), _norms(list(gradients.values())).tolist(), strict=True):
        if norm == 0:
            found.setdefault("zero", []).append(name)
        elif not norm < float("inf") and not bool(g.isfinite().all()):  # squares may overflow where no entry has
            found.setdefault("nan" if bool(g.isnan().any()) else "inf", []).append(name)
    if "nan" in found:
        found = {"nan": [*found["nan"], *found.get("inf", [])]}
    return {"inf": found["inf"]} if "inf" in found else found


def _alarm(code: str, names: Sequence[str], number: int, call: Derivative, blame: Blame) -> Alarm:
    place = call.place
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    word = {"nan": "holds NaN", "inf": "is infinite", "zero": "is 0 everywhere"}[code]
    where = f" ({place.short})" if place is not None else ""
    why = f": {blame.why}" if blame.why else ""
    return Alarm(
        code=code,
        tensors=tuple(names),
        backward=number,
        file="" if place is None else place.file,
        line=0 if place is None else place.line,
        message=f"in backward pass {number}{where} the gradient of {shown} {word} here{why}",
        step=blame.step,
    )


def _traced(call: Derivative, problem: Problem | None) -> Traced | None:
    """The steps of a pass, run again one by one; None where they are not known."""
    if problem is None:
        return None
    weights = call.grad_outputs or (None,) * len(call.outputs)
    cotangents = {
        name: torch.ones_like(y).detach() if v is None else v.detach()
        for (name, y), v in zip(problem.evaluation.outputs.items(), weights, strict=False)
    }
    try:
        return trace_problem(problem, cotangents, with_maps=False)
    except (JvpError, RuntimeError):
        return None


def _blamed(code: str, names: Sequence[str], traced: Traced | None) -> dict[Blame, list[str]]:
    """What the trouble of each gradient comes from."""
    if traced is None:
        return {Blame(): list(names)}
    if code != "zero":
        fault = find_fault(traced)
        return {Blame() if fault is None else _broken(traced, fault.step, fault.position): list(names)}
    found: dict[Blame, list[str]] = {}
    for name in names:
        passed = traced.gradients.get(name)
        if passed is None or not bool(passed.any()):  # else what earlier passes have left in .grad cancels it
            found.setdefault(_zeroed(traced, name), []).append(name)
    return found


def _at(traced: Traced, step: Step) -> tuple[str, AlarmStep]:
    """A step as sentences name it."""
    site = traced.program.sites.get(step.equation.slot, Site("", "", 0, ""))
    told = AlarmStep(site.file, site.line, traced.source(step), site.module)
    at = f"{cited_line(site.file, site.line)}, " if site.file else ""
    return f"{at}`{told.source}`{f' (module {site.module})' if site.module else ''}", told


def _broken(traced: Traced, index: int, position: int) -> Blame:
    """Why a step passes on to an operand what is not finite: at a value that is not, or else in the backward pass."""
    last, passed = traced.chain.steps[index], traced.swept.contributions[index][position]
    flows, (there, told) = _word(passed), _at(traced, last)
    born = _born(traced, index)
    if born is None:
        return Blame(f"what flows back becomes {flows} at {there}", told)
    if isinstance(born, str):
        word = "holds NaN" if _has_nan(traced.chain.inputs[born].tensor) else "is infinite"
        return Blame(f"{born} {word} itself")
    at, told = _at(traced, born)
    values = [r.primal.tensor for r in born.results]
    word = _word(next((x for x in values if _has_nan(x)), values[0]))
    turns = born is not last and (word, flows) == ("infinite", "NaN")
    then = f", and the backward pass makes NaN of it at {there}" if turns else ""
    return Blame(f"a value becomes {word} at {at}{then}", told)


def _born(traced: Traced, last: int) -> Step | str | None:
    """The step at which the values begin that are not finite in a step; an input that they come from; None: all are finite."""
    step = traced.chain.steps[last]
    followed = {p.number for p in (*step.operands, *(r.primal for r in step.results)) if not _finite(p.tensor)}
    found: Step | str | None = None
    for step in reversed(traced.chain.steps[: last + 1]):
        if any(result.primal.number in followed for result in step.results):
            followed.update(p.number for p in step.operands if not _finite(p.tensor))
            found = step if _breaks(step) else found
    return found or next((name for name, p in traced.chain.inputs.items() if p.number in followed), None)


def _breaks(step: Step) -> bool:
    """Whether a step makes NaN of what has none, or infinities of what is finite; one that is written out is meant."""
    values = [result.primal.tensor for result in step.results]
    if any(map(_has_nan, values)):
        return not any(_has_nan(p.tensor) for p in step.operands)
    arguments = (*step.equation.operands, *(value for _, value in step.equation.keywords))
    written = any(isinstance(x, Const) and isinstance(x.value, float) and not math.isfinite(x.value) for x in arguments)
    return not written and not all(map(_finite, values)) and all(_finite(p.tensor) for p in step.operands)


def _finite(x: Tensor) -> bool:
    return not can_require_grad(x) or bool(x.isfinite().all())


def _has_nan(x: Tensor) -> bool:
    return bool(x.isnan().any())


def _word(x: Tensor | None) -> str:
    return "NaN" if x is not None and _has_nan(x) else "infinite"


def _zeroed(traced: Traced, name: str) -> Blame:
    """The step of the backward pass that gets a cotangent and passes on zeros towards an input."""
    if name not in traced.chain.inputs:
        return Blame()
    own = traced.chain.inputs[name].number
    below = {own}
    parts = zip(traced.chain.steps, traced.swept.contributions, strict=True)
    if any(p.number == own and g is not None and bool(g.any()) for s, gs in parts for p, g in zip(s.operands, gs, strict=True)):
        return Blame("its parts, which are not, cancel out")
    for step in traced.chain.steps:
        if any(p.number in below for p in step.operands):
            below.update(result.primal.number for result in step.results)
    for index in reversed(range(len(traced.chain.steps))):
        step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
        passed = traced.swept.contributions[index]
        towards = [g for p, g in zip(step.operands, passed, strict=True) if p.number in below]
        if not towards or not any(v is not None and bool(v.any()) for v in arrived):
            continue
        if all(g is None or not bool(g.any()) for g in towards):
            at, told = _at(traced, step)
            return Blame(f"nothing of what arrives is passed on at {at}", told)
    return Blame()
