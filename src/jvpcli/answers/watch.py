"""What `jvp run --watch` looks at after each backward pass: gradients that become NaN, infinite or zero, and the step to blame.

Looking costs one norm of all gradients.  Only where something is wrong for the first time are the recorded steps run again, one
by one, to find where it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.problem import Problem
from jvpcli.program import Site
from jvpcli.recording.derivatives import Derivative
from jvpcli.report.run import Alarm, AlarmStep
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
        self, call: Derivative, gradients: Mapping[str, Tensor], problem_of: Callable[[], Problem | None]
    ) -> Iterator[Alarm]:
        """What is wrong with the gradients of a pass that was not before.

        `problem_of` puts the steps of the pass together, where they are known; it is called only where something is wrong.
        """
        self.passes += 1
        found = {code: names for code, names in _troubles(gradients).items() if self._is_new(code, names)}
        problem = problem_of() if found else None
        for code, names in found.items():
            self.known.update(names if code == "zero" else ())
            self.broken |= code != "zero"
            alarm = _alarm(code, names, self.passes, call, problem)
            self.alarms.append(alarm)
            yield alarm

    def _is_new(self, code: str, names: Sequence[str]) -> bool:
        return not self.broken and (code != "zero" or not self.known.issuperset(names))


def _troubles(gradients: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The names of the gradients that are not finite, or all zero, by code; one look at all of them together."""
    dense = {name: g for name, g in gradients.items() if g.layout is torch.strided and g.numel()}
    if not dense:
        return {}
    norms = torch.stack([n.float().cpu() if n.is_cuda else n.float() for n in torch._foreach_norm(list(dense.values()))])
    total = float(norms.sum())
    if total == total and total != float("inf") and bool((norms > 0).all()):
        return {}
    found: dict[str, list[str]] = {}
    for (name, g), norm in zip(dense.items(), norms.tolist(), strict=True):
        if norm == 0:
            found.setdefault("zero", []).append(name)
        elif not norm < float("inf") and not bool(g.isfinite().all()):  # squares may overflow where no entry has
            found.setdefault("nan" if bool(g.isnan().any()) else "inf", []).append(name)
    if "nan" in found:
        found = {"nan": [*found["nan"], *found.get("inf", [])]}
    return {"inf": found["inf"]} if "inf" in found else found


def _alarm(code: str, names: Sequence[str], number: int, call: Derivative, problem: Problem | None) -> Alarm:
    place = call.place
    step, why = _blamed(code, names, call, problem)
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    word = {"nan": "holds NaN", "inf": "is infinite", "zero": "is 0 everywhere"}[code]
    where = f" ({place.short})" if place is not None else ""
    message = f"in backward pass {number}{where} the gradient of {shown} {word} here{why}"
    return Alarm(
        code=code,
        tensors=tuple(names),
        backward=number,
        file="" if place is None else place.file,
        line=0 if place is None else place.line,
        message=message,
        step=step,
    )


def _blamed(
    code: str, names: Sequence[str], call: Derivative, problem: Problem | None
) -> tuple[AlarmStep | None, str]:
    """The step at which the trouble began, and what is said of it."""
    if problem is None:
        return None, ""
    cotangents = {
        name: torch.ones_like(y).detach() if call.grad_outputs is None or v is None else v.detach()
        for (name, y), v in zip(
            problem.evaluation.outputs.items(), call.grad_outputs or (None,) * len(call.outputs), strict=False
        )
    }
    try:
        traced = trace_problem(problem, cotangents, with_maps=False)
    except (JvpError, RuntimeError):
        return None, ""
    found = _first_zero(traced, names[0]) if code == "zero" else _first_broken(traced)
    if found is None:
        return None, ""
    step, why = found
    assert problem.evaluation.program is not None
    site = problem.evaluation.program.sites.get(step.equation.slot, Site("", "", 0, ""))
    text = problem.evaluation.program.step_text(step.equation)
    told = AlarmStep(site.file, site.line, text, site.module)
    at = f"{Path(site.file).name}:{site.line}, " if site.file else ""
    return told, f": {why} {at}`{text}`{f' (module {site.module})' if site.module else ''}"


def _first_broken(traced: Traced) -> tuple[Step, str] | None:
    """The step that first gives what is not finite: forwards, or else in the backward pass."""
    for step in traced.chain.steps:
        if all(_finite(p.tensor) for p in step.operands) and not all(_finite(r.primal.tensor) for r in step.results):
            return step, "its value becomes so at"
    for index in reversed(range(len(traced.chain.steps))):
        arrived, passed = traced.swept.arrived[index], traced.swept.contributions[index]
        if all(v is None or _finite(v) for v in arrived) and not all(g is None or _finite(g) for g in passed):
            return traced.chain.steps[index], "the backward pass makes it so at"
    return None


def _finite(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex()) or bool(x.isfinite().all())


def _first_zero(traced: Traced, name: str) -> tuple[Step, str] | None:
    """The step of the backward pass that gets a cotangent and passes on zeros towards an input."""
    if name not in traced.chain.inputs:
        return None
    below = {traced.chain.inputs[name].number}
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
            return step, "nothing of what arrives is passed on at"
    return None
