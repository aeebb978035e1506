"""The answer of `jvp run`: the user's program as it runs → its derivative calls → the one that is asked about, answered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import Node

from jvpcli.answers.question import pose
from jvpcli.answers.uncaught import explained_chain
from jvpcli.answers.watch import Watch
from jvpcli.answers.weights import read_cotangents
from jvpcli.errors import EvaluationError, JvpError, UsageError
from jvpcli.gradcheck.check import GRAPH_BREAK, WRONG_BACKWARD
from jvpcli.language.operations import can_require_grad
from jvpcli.language.values import dtype_name
from jvpcli.messages.matcher import spoken
from jvpcli.problem import Problem
from jvpcli.program import cited_line
from jvpcli.recording.derivatives import Derivative, inputs_of, read_call
from jvpcli.recording.nodes import node_of
from jvpcli.recording.places import Point, pieces
from jvpcli.recording.recorder import Recorder, casts_in_force
from jvpcli.recording.tape import NotRecorded, problem_of
from jvpcli.report import Notice
from jvpcli.report.check import CheckReport, Comparing
from jvpcli.report.run import Alarm, CallTensor, GradCall, RunReport
from jvpcli.request import Request
from jvpcli.tracing.chain import gradients_of

MOST_LINES = 8
"""Lines that an error lists."""

ROUNDING = 4.0
"""How many times the root of the rounding unit two gradients may differ, relative to the largest entry."""

MOST_CALLS = 100_000
"""Derivative calls that are listed."""


@dataclass(frozen=True)
class Asked:
    """Which derivative call is asked about: the one at a line, the `nth` time that it is made.

    `file` is the end of a path, of whole parts; None: the line is one of the program's main file.
    """

    command: str
    line: int
    nth: int = 1
    file: str | None = None

    def meets(self, call: Derivative) -> bool:
        """Whether a call is made there."""
        place = call.place
        if place is None or place.line != self.line:
            return False
        if self.file is None:
            return place.file == main_file()
        return f"/{Path(place.file).as_posix()}".endswith(f"/{Path(self.file).as_posix()}")

    @property
    def where(self) -> str:
        """`line 12 of model.py`."""
        return f"line {self.line}" + (f" of {self.file}" if self.file else "")


@dataclass(frozen=True, eq=False)
class Made:
    """What the program itself has of a derivative call: the outputs, and the gradients that it gave; none if it failed."""

    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


@dataclass(eq=False)
class Watched:
    """What is noted while a program runs.

    Attributes:
        asked: the derivative call to answer for, if any.
        answer: is handed the Request of that call, once it has been made, and what came of it; prints its answer.
        listing: whether derivative calls are listed.
        watch: what gradients are looked at with, after each backward pass; None: they are not.
        alarmed: is handed what that finds.
        script: the program's path as it was given, by which calls in it are listed; None: a module.
    """

    asked: Asked | None
    answer: Callable[[Request, Made], None]
    listing: bool
    watch: Watch | None = None
    alarmed: Callable[[Alarm], None] = lambda alarm: None
    script: str | None = None
    calls: list[GradCall] = field(default_factory=list)
    lines: set[tuple[str, int]] = field(default_factory=set)
    met: int = 0
    answered: bool = False
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.listing or self.asked is not None or self.watch is not None
        self.recorder = Recorder(self._derivative if wanted else None)

    def _derivative(
        self, func: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any], make: Callable[[], Any]
    ) -> Any:
        """Notes a derivative call, answers for it if it is the one, and makes it."""
        if any(isinstance(part, Node) for part in pieces((args, keywords))):
            return make()  # by an edge of the graph, for which there may be no tensor
        if not self.listing and self.asked is None:
            return self._looked(inputs_of(func, args, keywords), make(), lambda: read_call(func, args, keywords))
        call = read_call(func, args, keywords)
        if self.listing and len(self.calls) < MOST_CALLS:
            self.calls.append(_call(len(self.calls), call, self.script))
        if call.place is not None:
            self.lines.add((call.place.file, call.place.line))
        request, before = None, {}
        if self.asked is not None and not self.answered and self.asked.meets(call):
            self.met += 1
            if self.met == self.asked.nth:
                self.answered = True
                request = request_of(call, self.recorder, self.asked.command)
                leaves = {name: x for name, x in call.inputs.items() if node_of(x) is None}
                before = {name: None if x.grad is None else x.grad.clone() for name, x in leaves.items()}
        try:
            result = make()
        except BaseException:
            if request is not None:
                self._answered(request, Made(call.outputs, {}))
            raise
        if request is not None:
            self._answered(request, Made(call.outputs, _given_to(call, result, before)))
        return self._looked(call.inputs.values(), result, lambda: call)

    def _answered(self, request: Request, made: Made) -> None:
        """Answers for a call; the autocast that it was made under is that of the steps that ran under it alone."""
        with ExitStack() as stack:
            for kind, dtype in casts_in_force():
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=False))
            self.answer(request, made)

    def _looked(self, inputs: Iterable[Tensor], result: Any, call_of: Callable[[], Derivative]) -> Any:
        """The result of a pass, whose gradients are looked at; what the call is, is read where something is wrong with them."""
        if self.watch is not None:
            for alarm in self.watch.look(inputs, result, call_of, self._problem):
                self.alarmed(alarm)
        return result

    def _problem(self, call: Derivative) -> Problem | None:
        """The steps of a derivative call; None where one of them was not seen."""
        try:
            return problem_of(call, self.recorder)
        except NotRecorded:
            return None


def main_file() -> str | None:
    """The file of the program that runs, as its code has it."""
    return getattr(sys.modules["__main__"], "__file__", None)


def read_asked(command: str, text: str) -> Asked:
    """`LINE`, `LINE:NTH`, `FILE.py:LINE` or `FILE.py:LINE:NTH`.

    Raises:
        UsageError: it is none of these.
    """
    *before, last = text.split(":")
    numbers = [*before, last]
    file = numbers.pop(0) if numbers and not numbers[0].isdigit() else None
    if not 1 <= len(numbers) <= 2 or not all(part.isdigit() and int(part) > 0 for part in numbers):
        raise UsageError(f"--{command} takes LINE, LINE:NTH or FILE.py:LINE, not {text!r}")
    return Asked(command, int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 1, file)


def _call(index: int, call: Derivative, script: str | None) -> GradCall:
    place = call.place
    file = "" if place is None else place.file
    return GradCall(
        index=index,
        file=script if script is not None and file == main_file() and file.endswith(script) else file,
        line=0 if place is None else place.line,
        function=call.function,
        source="" if place is None else place.text,
        outputs=tuple(_tensor(name, y) for name, y in call.outputs.items() if not y.is_nested),
        inputs=tuple(_tensor(name, x) for name, x in call.inputs.items() if not x.is_nested),  # which has no shape
        grad_outputs=None if call.grad_outputs is None else tuple(_cotangents(call)),
    )


def _cotangents(call: Derivative) -> Iterator[CallTensor]:
    for name, v in zip(call.outputs, call.grad_outputs or (), strict=False):
        if v is not None:
            yield _tensor(f"v for {name}", v)


def _tensor(name: str, x: Tensor) -> CallTensor:
    return CallTensor(name, tuple(x.shape), dtype_name(x.dtype))


def request_of(call: Derivative, recorder: Recorder, command: str) -> Request:
    """A derivative call as the request that `jvp inspect` would answer.

    Raises:
        EvaluationError: the steps between its tensors were not seen.
    """
    try:
        problem = problem_of(call, recorder)
    except NotRecorded as error:
        raise EvaluationError(
            f"the call at {call.place.short if call.place else 'this place'} can't be taken apart: {error.why}",
            explanation="The steps from its inputs to its outputs are run again to be shown and checked, and one of them was "
            "made where nothing could be noted down: in a function that torch compiled, by a transform of torch.func, or before "
            "the program was watched.",
        ) from error
    return Request(
        problem,
        inputs={name: x.detach() if isinstance(x, Tensor) else x for name, x in problem.inputs.items()},
        wrt=tuple(call.inputs),
        grad_outputs=_weights(call),
        is_grads_batched=call.is_grads_batched,
        command=command,
    )


def _given_to(call: Derivative, result: Any, before: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """The gradients that a call gave its inputs: what it returned, or what it has added to those from before."""
    if result is not None:
        return {name: g for name, g in zip(call.inputs, result, strict=False) if isinstance(g, Tensor)}
    found = {}
    for name, old in before.items():
        new = call.inputs[name].grad
        if new is not None and new.layout is torch.strided:
            found[name] = new.detach().clone() if old is None else new.detach() - old
            if old is not None and old.norm() * torch.finfo(new.dtype).eps ** 0.5 > found[name].norm() / 10:
                del found[name]  # of which rounding has left too little
    return found


def compared(report: Any, request: Request, made: Made) -> Any:
    """The answer for a derivative call, and whether the program's own call gave other gradients than the steps noted down do."""
    apart = difference(request, made)
    if apart is None:
        return report
    _, given, expected = apart
    if isinstance(report, CheckReport) and report.passed:
        evaluation = request.expression.evaluation
        other = next((y for y in made.outputs if _apart(y, made.outputs[y], evaluation.outputs.get(y)) is not None), None)
        why = (
            ", which finite differences confirm: something else takes part in the backward pass, such as a hook on a gradient."
            if other is None
            else f", and {other} another value than the program has: one was changed out of autograd's sight, as through .data."
        )
        told, size = _told(apart), abs(given - expected)
        return replace(
            report,
            passed=False,
            verdict=WRONG_BACKWARD if other is None else GRAPH_BREAK,
            max_error=size,
            worst=None,
            explanation=f"{told[0].upper()}{told[1:]}{why}",
            comparisons=(*report.comparisons, Comparing("the program's own call", False, size, f"of {apart[0]}")),
        )
    return replace(report, warnings=(*report.warnings, other_gradient(apart)))


Apart = tuple[str, Any, Any]
"""An entry by its name, and the two numbers that it is."""


def difference(request: Request, made: Made) -> Apart | None:
    """The first entry in which the program's own call gave another gradient than the steps noted down give, if there is one."""
    ours = _gradients(request) if made.gradients else {}
    return next((found for x, g in made.gradients.items() if (found := _apart(x, g, ours.get(x))) is not None), None)


def _told(apart: Apart) -> str:
    at, given, expected = apart
    return f"the program's own call gave {at} the gradient {given:.6g}, and these steps give {expected:.6g}"


def other_gradient(apart: Apart) -> Notice:
    """The warning of such a difference."""
    return Notice(
        "other_gradient",
        f"{_told(apart)}: something that is not among them takes part, such as a hook on a gradient, or a value that was changed "
        "through .data",
        "other_gradient",
    )


def made_by(call: Derivative) -> Made:
    """What a call would give, without making it: `.grad` and the graph stay as they are; no gradients where it fails."""
    outputs, inputs, v = list(call.outputs.values()), list(call.inputs.values()), call.grad_outputs
    with torch._C.DisableTorchFunction():
        try:
            given = torch.autograd.grad(outputs, inputs, v, True, False, True, call.is_grads_batched)
        except RuntimeError:
            return Made(call.outputs, {})
    return Made(call.outputs, {x: g for x, g in zip(call.inputs, given, strict=True) if g is not None})


def agrees(request: Request, made: Made) -> bool:
    """Whether the steps noted down give the gradients that a call gives itself."""
    try:
        ours = _gradients(request)
    except JvpError:
        return False
    theirs = made.gradients
    return theirs.keys() == ours.keys() and all(_apart(x, g, ours[x]) is None for x, g in theirs.items())


def _gradients(request: Request) -> dict[str, Tensor]:
    """What the steps that were noted down give each input that they reach; a row for each v where there are several."""
    problem = pose(request)
    weights = read_cotangents(replace(request, command="inspect"), problem.evaluation)
    outputs, leaves = problem.evaluation.outputs, problem.leaves
    values = [(outputs[name], weight.value) for name, weight in weights.items()]
    if not request.is_grads_batched:
        return _reached(leaves, gradients_of(values, list(leaves.values())))
    count = len(values[0][1])
    rows = [_reached(leaves, gradients_of([(y, v[k]) for y, v in values], list(leaves.values()))) for k in range(count)]
    return {name: torch.stack([row[name] for row in rows]) for name in (rows[0] if rows else {})}


def _reached(leaves: Mapping[str, Tensor], gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
    return {name: g for name, g in zip(leaves, gradients, strict=True) if g is not None}


def _apart(name: str, theirs: Tensor, ours: Tensor | None) -> Apart | None:
    """The first entry in which two tensors differ by more than rounding, and the two numbers."""
    if ours is None or theirs.shape != ours.shape or theirs.layout is not torch.strided:
        return None
    expected, here = ours.detach().to(theirs.dtype).cpu().flatten(), theirs.detach().cpu().flatten()
    rounding = torch.finfo(theirs.dtype).eps ** 0.5 if can_require_grad(theirs) else 0.0
    tolerance = ROUNDING * rounding * expected.abs().nan_to_num(nan=0.0, posinf=0.0).max() if len(expected) else 0.0
    apart = ~((here - expected).abs() <= tolerance) & (here.isfinite() | expected.isfinite())
    if not bool(apart.any()):
        return None
    k = int(apart.nonzero()[0, 0])
    index = np.unravel_index(k, tuple(theirs.shape))
    return name + (f"[{', '.join(map(str, index))}]" if index else ""), here[k].item(), expected[k].item()


def _weights(call: Derivative) -> tuple[tuple[str | None, Any], ...]:
    if call.grad_outputs is None:
        goes_back = call.tangents is None
        return ((None, "implicit"),) if goes_back and any(y.numel() != 1 or y.is_complex() for y in call.outputs.values()) else ()
    if len(call.outputs) == 1:  # which has another name where it is an input itself
        return tuple((None, _weight(y, v)) for y, v in zip(call.outputs.values(), call.grad_outputs, strict=False))
    return tuple((name, _weight(call.outputs[name], v)) for name, v in zip(call.outputs, call.grad_outputs, strict=False))


def _weight(y: Tensor, v: Tensor | None) -> Any:
    """A cotangent; the one that PyTorch takes where None is given for a single number is 1."""
    if v is None:
        return "ones" if y.numel() == 1 else "none"
    return v.detach()


def listed(watched: Watched, error: JvpError | None) -> RunReport:
    """The derivative calls of a program that has ended, and how it ended."""
    alarms = None if watched.watch is None else tuple(watched.watch.alarms)
    return RunReport(tuple(watched.calls), None if error is None else error.to_dict(), alarms)


def ended(watched: Watched, error: BaseException) -> JvpError | None:
    """What a program's uncaught error means, from the operands at hand; None of one that torch did not raise."""
    with torch._C.DisableTorchFunction():
        return explained_chain(error, watched.recorder)


def warned(message: str, point: Point) -> str | None:
    """What a warning of torch about shapes means, with its place; None of any other."""
    known = next(iter(spoken([message])), None)
    if known is None:
        return None
    place = point.place()
    return f"{place.cited}: {known.message}"


def unanswered(watched: Watched) -> UsageError | None:
    """What is told where the call that was asked about has not been made."""
    asked = watched.asked
    if asked is None or watched.answered:
        return None
    there = [cited_line(file, line) for file, line in sorted(watched.lines)]
    where = ", ".join(there[:MOST_LINES]) + (", …" if len(there) > MOST_LINES else "")
    if watched.met:
        fact = f"the program made {watched.met} derivative calls on {asked.where}, and number {asked.nth} was asked for"
    else:
        fact = f"the program made no derivative call on {asked.where}"
    return UsageError(
        f"--{asked.command}: {fact}",
        explanation=f"Its derivative calls are on {where}." if where else "It made none at all.",
    )
