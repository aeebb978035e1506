"""Is the gradient right?  Autograd's Jacobian against finite differences in double precision, and the reasons where not.

The order is that of what a person must know first: a function that is not repeatable has no derivative to check; a wrong
number comes before one that is a matter of choice (a kink) or of rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.gradcheck.causes import BACKWARD, INNER_KINK, Reason, kinked_step, reason_for
from jvpcli.gradcheck.compare import (
    CLEAR,
    Compared,
    Entry,
    compare_entries,
    compare_outputs,
    halved,
    is_small,
    magnitude,
)
from jvpcli.gradcheck.demands import Demand, demands, unrepeatable
from jvpcli.gradcheck.differences import SAFETY
from jvpcli.gradcheck.directions import compare_directions
from jvpcli.gradcheck.excuses import excused, only_rounded
from jvpcli.gradcheck.hermitian import hermitian_part
from jvpcli.gradcheck.losses import DECISION, Watch, equation_of
from jvpcli.gradcheck.modes import (
    FORWARD,
    RULE,
    Modes,
    compare_modes,
    forward_failure,
    joined,
    random_pair,
    without_backward,
)
from jvpcli.gradcheck.staircase import silent_loss
from jvpcli.gradcheck.vectors import RealFunction, Tolerance, alike, only, steady
from jvpcli.jacobians.operations import coarsest_rounding
from jvpcli.language import catalog
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad, is_imported
from jvpcli.language.readings import nodes_below
from jvpcli.problem import Problem
from jvpcli.program import Equation
from jvpcli.request import Tell

PASS, KINK, PRECISION, GRAPH_BREAK, NONDETERMINISTIC, WRONG_BACKWARD = (
    "pass", "kink", "precision", "graph_break", "nondeterministic", "wrong_backward"
)  # fmt: skip

NOT_HERMITIAN = "not_hermitian"

VERDICTS = {BACKWARD: WRONG_BACKWARD, NOT_HERMITIAN: WRONG_BACKWARD, INNER_KINK: KINK}
"""The verdict of a difference by its cause; every other cause is a break of the graph."""

SEEDS_TRIED = 8
"""Other seeds under which a random function gets the chance to differ."""

MISMATCHES_EXPLAINED = 4

LOST = 1e300
"""The relative error of a number that is not finite any more."""

HALF_THE_DIGITS = 2.0**-26
"""The rounding that leaves half of a double's digits."""

FEW_DIGITS = 2.0**-12
"""The same of a single, which is what tells of a derivative that differences see clearly."""

@dataclass(frozen=True, eq=False)
class Outcome:
    """What the check found.

    Attributes:
        verdict: one of the contract's.
        base: at the point, in the dtypes given.
        function: there in double precision, for the places of entries; unless `fallback` says why not.
        entry: the worst one; with verdict `pass` the one that differs most.
        reason: the cause and the step, for a gradient that is wrong.
        zero: the step whose derivative is rightly zero although the output follows the input.
        compared, modes, demands: the comparisons.
        lost: the largest relative error of the dtype given, or None where there was nothing to compare.
        spread: how far two runs of the same differ; `random_step` is the first step that does.
        by_seed: whether they differ because of the seed.
    """

    verdict: str
    base: Evaluation
    function: RealFunction | None = None
    entry: Entry | None = None
    reason: Reason | None = None
    zero: Reason | None = None
    compared: Compared | None = None
    modes: Modes = field(default_factory=Modes)
    demands: tuple[Demand, ...] = ()
    lost: float | None = None
    spread: float | None = None
    random_step: Equation | None = None
    by_seed: bool = False
    fallback: str | None = None


def check(
    problem: Problem,
    cotangents: Mapping[str, Tensor] | None = None,
    tangents: Mapping[str, Tensor] | None = None,
    *,
    seed_given: bool = False,
    tolerance: Tolerance | None = None,
    mode: str = "auto",
    undefined: str = "functions",
    batched: bool = False,
    tell: Tell | None = None,
) -> Outcome:
    """The whole check.

    Args:
        problem: at the dtypes given; it is checked in double precision where it runs in that.
        cotangents, tangents: v and u of the dot-product test by name; random where there is none.
        seed_given: whether the problem's seed was asked for: then another one may give other values.
        tolerance: what is let pass; by default what follows from the roundings.
        mode: "reverse" checks the backward pass alone, "forward" forward mode alone, "auto" the backward pass, and forward
            mode where a function has a formula of its own for it; that alone where it has no other.
        undefined: whose backward must bear an undefined cotangent: "functions", "all" (hooks too) or "none".
        batched: whether many cotangents must be pulled back (in forward mode tangents pushed forward) at once as one by one.
        tell: is told how far it is.

    Raises:
        JvpError: the problem itself fails at its point.
    """
    tolerance = tolerance or Tolerance()
    problem, not_hermitian = hermitian_part(problem)
    problem = _without_undifferentiable(problem)
    base = problem.evaluation
    mode = "forward" if mode == "auto" and without_backward(base) else mode
    function, fallback = _function(problem, tolerance, mode)
    unsteady = _unsteady(problem, function.evaluation, seed_given, tolerance)
    if unsteady is not None:
        return unsteady
    known: dict[str, Any] = {"base": base, "function": function, "fallback": fallback}
    v, u = random_pair(function)
    try:
        spread = unrepeatable(function, v, u)
        jacobian = function.jacobian(tell=tell) if is_small(function) else None
    except Exception as error:
        if mode != "forward" or isinstance(error, JvpError):
            raise
        modes = forward_failure(error, function.evaluation)
        return Outcome(WRONG_BACKWARD, reason=Reason(RULE), modes=modes, **known)
    if spread is not None:
        return Outcome(NONDETERMINISTIC, spread=spread, **known)
    function, compared = _compared(function, jacobian, tell)
    known["function"] = function
    v, u = joined(function.outputs, cotangents or {}, v), joined(function.inputs, tangents or {}, u)
    modes = compare_modes(function, jacobian, v, u)
    known |= {"compared": compared, "modes": modes}
    at_kinks = {entry.column for entry in compared.kinks}
    wrong = tuple(e for e in compared.mismatches if not (math.isnan(e.analytic) and e.column in at_kinks))
    known["compared"] = compared = excused(function, replace(compared, mismatches=wrong))
    if compared.mismatches:
        return Outcome(**_explained(function, compared.mismatches, not_hermitian), **known)
    if modes.fault is not None and (modes.wrong is None or only_rounded(function, modes.wrong) is None):
        return Outcome(WRONG_BACKWARD, entry=modes.wrong, reason=Reason(modes.fault), **known)
    known["demands"] = met = tuple(demands(function, v, u, undefined=undefined, batched=batched))
    unmet = next((demand for demand in met if demand.fault is not None and demand.asked), None)
    if unmet is not None:
        return Outcome(WRONG_BACKWARD, reason=Reason(unmet.name), **known)
    zero = None if mode == "forward" else silent_loss(function, jacobian)
    if zero is not None and not zero.rightly:
        return Outcome(GRAPH_BREAK, entry=zero.entry, reason=zero, **known)
    known["zero"] = zero
    if compared.kinks:
        worst = compared.kinks[0]
        return Outcome(KINK, entry=worst, reason=kinked_step(function, worst), **known)
    if function.n and 0 < compared.unfinite == function.m:
        return Outcome(KINK, **known)
    cancelled = _cancelled(function, jacobian, compared.rounded)
    if cancelled is not None:
        return Outcome(PRECISION, entry=cancelled, **known)
    lost, entry = (None, None) if fallback or mode == "forward" else _precision(function, base, jacobian)
    if entry is not None:
        return Outcome(PRECISION, entry=entry, lost=lost, **known)
    return Outcome(PASS, entry=compared.nearest, lost=lost, **known)


def _without_undifferentiable(problem: Problem) -> Problem:
    """The problem without outputs that carry no gradient by their nature: the indices beside the values of a sort.

    An output that lost its gradient on the way stays.
    """
    if all(y.requires_grad for y in problem.evaluation.outputs.values()):
        return problem
    watch = Watch(problem.files)
    with watch:
        base = problem.at()
    carried = tuple(name for name, y in base.outputs.items() if y.requires_grad)
    if not carried or len(carried) == len(base.outputs) or _has_lost(base, watch):
        return problem
    return replace(problem, only=carried)


def _has_lost(base: Evaluation, watch: Watch) -> bool:
    """Whether a gradient was lost that an output without one may have had: by a step that the text or the user's code has."""
    losses = [loss for loss in watch.found() if loss.place or base.program is None or equation_of(loss, base)]
    return any(loss.kind != DECISION for loss in losses)


def _function(problem: Problem, tolerance: Tolerance, mode: str) -> tuple[RealFunction, str | None]:
    """The problem in double precision; as given, with the reason, where that doesn't run."""
    try:
        function = RealFunction.of(problem.in_double(), tolerance, mode)
        if function.outputs.shapes == tuple(tuple(y.shape) for y in problem.evaluation.outputs.values()):
            return function, None
        why = "the outputs have other shapes there"
    except JvpError as error:
        why = error.message
    except Exception as error:  # a Python function's own
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    return RealFunction.of(problem, tolerance, mode), why


def _compared(
    function: RealFunction, jacobian: Tensor | None, tell: Tell | None
) -> tuple[RealFunction, Compared]:
    """The differences compared, and the function with the roundings that they go by; code of the user's own runs seldom."""
    if function.problem.is_own and not function.tolerance.given:
        found = compare_directions(function, tell=tell) if jacobian is None else compare_outputs(function, jacobian)
        if found is not None and not (found.mismatches or found.kinks or found.rounded):
            return function, found
    function = function.measured()
    if jacobian is None:
        return function, compare_directions(function, tell=tell)
    return function, compare_entries(function, jacobian, tell)


def _explained(function: RealFunction, wrong: Sequence[Entry], not_hermitian: bool) -> dict[str, Any]:
    """Verdict, entry and reason of the worst entry that is not only a matter of a kink on the way."""
    if function.mode == "forward":
        return {"verdict": WRONG_BACKWARD, "entry": wrong[0], "reason": Reason(FORWARD)}
    found = []
    for entry in wrong[:MISMATCHES_EXPLAINED]:
        reason = reason_for(function, entry)
        if reason.cause == BACKWARD and not_hermitian:
            reason = Reason(NOT_HERMITIAN)
        verdict = VERDICTS.get(reason.cause, GRAPH_BREAK)
        if verdict != KINK:
            return {"verdict": verdict, "entry": entry, "reason": reason}
        found.append({"verdict": verdict, "entry": entry, "reason": reason})
    return found[0]


# Repeatability


def _unsteady(problem: Problem, again: Evaluation, seed_given: bool, tolerance: Tolerance) -> Outcome | None:
    """The outcome for a function that gives other values when it runs again, or under another seed if none was asked for.

    `again` is another evaluation, maybe in another dtype: only if it is not the same the function has to run once more.
    """
    base = problem.evaluation
    again = again if _same(base, again, tolerance) else problem.at()
    by_seed = False
    if _same(base, again, tolerance) and not seed_given and _may_be_random(base):
        by_seed = True
        others = (problem.at(seed=problem.seed + number) for number in range(1, SEEDS_TRIED + 1))
        again = next((other for other in others if not alike(base, other)), base)
    if _same(base, again, tolerance):
        return None
    step = _first_other(base, again, tolerance)
    return Outcome(NONDETERMINISTIC, base, spread=_spread(base, again), random_step=step, by_seed=by_seed)


def _may_be_random(evaluation: Evaluation) -> bool:
    if evaluation.program is None:
        return evaluation.drew
    return any(catalog.is_random(step.op) or is_imported(step.op) for step in evaluation.tape)


def _same(one: Evaluation, other: Evaluation, tolerance: Tolerance) -> bool:
    return one.outputs.keys() == other.outputs.keys() and all(
        _equal(y, other.outputs[name], tolerance) for name, y in one.outputs.items()
    )


def _equal(a: Any, b: Any, tolerance: Tolerance) -> bool:
    """Whether two values of a slot are the same; NaN is the same as NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and steady(a.detach(), b.detach(), tolerance.nondet)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))


def _spread(one: Evaluation, other: Evaluation) -> float:
    """The largest difference between two evaluations' outputs; infinite where their shapes differ."""
    largest = 0.0
    for name, y in one.outputs.items():
        z = other.outputs.get(name)
        if z is None or z.shape != y.shape:
            return math.inf
        difference = (y.detach().to(torch.complex128) - z.detach().to(torch.complex128)).abs()
        largest = max(largest, float(difference.max()) if difference.numel() else 0.0)
    return largest


def _first_other(one: Evaluation, other: Evaluation, tolerance: Tolerance) -> Equation | None:
    """The first step that gives other values."""
    for step in one.tape:
        if step.slot not in other.values or not _equal(one.values[step.slot], other.values[step.slot], tolerance):
            return step
    return None


# Precision


def _cancelled(function: RealFunction, jacobian: Tensor | None, rounded: Sequence[Entry]) -> Entry | None:
    """The worst entry of which rounding leaves few digits even in double precision."""
    if jacobian is None or not rounded:
        return None
    typical, largest = _typical(function, jacobian), _largest(function, jacobian)
    for entry in rounded:
        if math.isnan(entry.numeric):
            return entry
        if entry.error < CLEAR * abs(entry.numeric):
            size = FEW_DIGITS * max(float(largest[entry.row, entry.column]), abs(entry.numeric))
        else:
            size = HALF_THE_DIGITS * float(typical[entry.row, entry.column])
        nothing = size == 0 or entry.numeric == 0 == float(function.y[entry.row])
        if not nothing and entry.difference > max(size, SAFETY * entry.error):
            return entry
    return None


def _precision(function: RealFunction, base: Evaluation, jacobian: Tensor | None) -> tuple[float | None, Entry | None]:
    """The largest part of a derivative that the dtype given loses, and an entry if that is more than half its digits."""
    graphs = (nodes_below(y.grad_fn) for y in base.outputs.values())
    eps = coarsest_rounding((*base.outputs.values(), *base.leaves.values()), graphs)
    if eps <= torch.finfo(torch.float64).eps or not function.n or not function.m:
        return None, None
    if any(catalog.is_random(step.op) for step in base.tape):  # other dtypes draw other numbers
        return None, None
    if jacobian is None:
        v = random_pair(function)[0] * function.y.isfinite()
        exact, rough = function.pullback(v)[None], function.pullback(v, base)[None]
    else:
        v = None
        exact, rough = jacobian, function.jacobian(base)
    comparable = exact.isfinite() & function.y.isfinite()[:, None] if v is None else exact.isfinite()
    off = torch.where(comparable, (rough - exact).abs().nan_to_num(nan=math.inf, posinf=math.inf), 0.0)
    tiny = max(torch.finfo(y.dtype).tiny for y in base.outputs.values() if can_require_grad(y))
    given = function.tolerance
    off = torch.where(off <= given.allowed(exact), 0.0, off) if given.given else off
    largest = torch.where(comparable, exact.abs(), 0.0).max().clamp(min=tiny)

    def worst_by(sizes: Tensor) -> tuple[int, float]:
        relative = torch.where(off > tiny, off / sizes.clamp(min=tiny), 0.0)
        relative = torch.where(off.isinf(), LOST * (1 + exact.abs() / largest), relative)
        worst = int(relative.argmax())
        return worst, float(relative.reshape(-1)[worst])

    worst, lost = worst_by(_largest(function, exact) if v is None else largest)
    if lost > math.sqrt(eps) and v is None:
        worst, lost = worst_by(_typical(function, exact))
    if not lost > math.sqrt(eps):
        return lost, None
    row, column = divmod(worst, function.n)
    if v is not None:
        row = halved(v.nonzero().reshape(-1), lambda part: _gap(function, base, only(v, part), column))
        numbers = [float(function.gradient(row, at)[column]) for at in (base, None)]
        return lost, Entry(row, column, numbers[0], numbers[1])
    return lost, Entry(row, column, float(rough[row, column]), float(exact[row, column]))


def _gap(function: RealFunction, base: Evaluation, v: Tensor, column: int) -> float:
    """How far the dtype given is off the double precision in a column, for a cotangent."""
    return magnitude(float((function.pullback(v, base) - function.pullback(v))[column]))


def _typical(function: RealFunction, jacobian: Tensor) -> Tensor:
    """What an entry's error is measured by (m, n): its block's largest entry, or the output's reach / |x| if that is more."""
    sizes = _largest(function, jacobian)
    for columns in function.inputs.slices().values():
        if function.x[columns].numel():
            scale = function.reach[:, None] / function.x[columns].abs().max().clamp(min=1e-300)
            sizes[:, columns] = torch.maximum(sizes[:, columns], scale.nan_to_num(nan=0.0, posinf=0.0))
    return sizes


def _largest(function: RealFunction, jacobian: Tensor) -> Tensor:
    """The largest entry of each entry's block (m, n)."""
    sizes = torch.zeros_like(jacobian)
    finite = jacobian.abs().nan_to_num(nan=0.0, posinf=0.0)
    for rows in function.outputs.slices().values():
        for columns in function.inputs.slices().values():
            if finite[rows, columns].numel():
                sizes[rows, columns] = finite[rows, columns].max()
    return sizes
