"""The outcome of a check in words: what is wrong, at which entry, why, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd import Function

from jvpcli.gradcheck.causes import INNER_KINK, MASKED, Reason, code_at, in_words
from jvpcli.gradcheck.check import KINK, NONDETERMINISTIC, NOT_HERMITIAN, PASS, PRECISION, Outcome
from jvpcli.gradcheck.compare import ENTRIES, Entry, form_changes
from jvpcli.gradcheck.demands import BATCHED, PUSHED, UNDEFINED
from jvpcli.gradcheck.losses import CUT, DECISION, ROUNDING, UNSEEN
from jvpcli.gradcheck.modes import FORWARD, LINEAR, RULE, named, without_backward
from jvpcli.gradcheck.vectors import Place, RealFunction
from jvpcli.jacobians import figures
from jvpcli.jacobians.contraction import entry_label
from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import can_require_grad
from jvpcli.language.readings import custom_functions
from jvpcli.program import Equation
from jvpcli.report import Notice
from jvpcli.report.check import CheckedEntry, CheckReport, Comparing, GuiltyStep

CURES: Mapping[str, str] = {
    "detach": "Leave out .detach() if the gradient is to flow; keep it if the value is meant as a constant.",
    "detach_": "Leave out .detach_() if the gradient is to flow.",
    "data": "Leave out .data: it is .detach() without its safety.",
    "item": "Keep the tensor: leave out .item().",
    "tolist": "Keep the tensor: leave out .tolist().",
    "__float__": "Keep the tensor: leave out float(…).",
    "__complex__": "Keep the tensor: leave out complex(…).",
    "tensor": "torch.stack([…]) puts tensors together with their gradients; torch.tensor([…]) copies bare numbers.",
    "as_tensor": "torch.stack([…]) puts tensors together with their gradients; torch.as_tensor([…]) copies bare numbers.",
}
"""What to do about a cut, by the function's name."""

STRAIGHT_THROUGH = "To pass the gradient straight through a rounding: x + (torch.round(x) - x).detach()."


def report_of(outcome: Outcome, expression: str) -> CheckReport:
    """The outcome as plain data."""
    evaluation = outcome.base
    over = outcome.reason.over if outcome.reason else None
    worst = None if outcome.entry is None else _entry(outcome, outcome.entry, over)
    compared = outcome.compared.largest if outcome.compared else None
    seen = (outcome.spread, outcome.entry.difference if outcome.entry else None, compared)
    return CheckReport(
        expression=expression,
        passed=outcome.verdict == PASS,
        verdict=outcome.verdict,
        mode="forward" if _is_forward(outcome) else "reverse",
        max_error=next((error for error in seen if error is not None), 0.0),
        worst=worst,
        explanation=_explanation(outcome, worst),
        hints=tuple(_hints(outcome)),
        comparisons=tuple(_comparisons(outcome)),
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        warnings=tuple(_notices(outcome)),
        step=_step(outcome),
    )


def _is_forward(outcome: Outcome) -> bool:
    """Whether the verdict is about forward mode."""
    alone = outcome.function is not None and outcome.function.mode == "forward"
    return alone or outcome.modes.fault in (FORWARD, RULE)


def _entry(outcome: Outcome, entry: Entry, over: float | None = None) -> CheckedEntry:
    function = outcome.function
    assert function is not None
    y, x = function.outputs.place(entry.row), function.inputs.place(entry.column)
    return CheckedEntry(
        y.name, y.index, x.name, x.index, entry.analytic, entry.numeric, y.part, x.part, entry.below, entry.above, over
    )


def _step(outcome: Outcome) -> GuiltyStep | None:
    if outcome.reason is not None:
        return _place_of(outcome, outcome.reason)
    return None if outcome.random_step is None else _in_text(outcome, outcome.random_step)


def _place_of(outcome: Outcome, reason: Reason) -> GuiltyStep | None:
    if reason.place is not None:
        file, line = reason.place
        return GuiltyStep(code_at(file, line), None if reason.equation is None else reason.equation.span, file, line)
    return None if reason.equation is None else _in_text(outcome, reason.equation)


def _in_text(outcome: Outcome, equation: Equation) -> GuiltyStep | None:
    program = outcome.base.program
    return None if program is None else GuiltyStep(program.step_text(equation), equation.span)


# Why


def _explanation(outcome: Outcome, worst: CheckedEntry | None) -> str:
    if outcome.verdict == PASS and _nothing_compared(outcome):
        return "Nothing contradicts autograd, but nothing could be compared with it either."
    if outcome.verdict == PASS:
        return f"{'Forward mode' if _is_forward(outcome) else 'Autograd'} agrees with finite differences."
    if outcome.verdict == NONDETERMINISTIC:
        return _unsteady(outcome)
    if outcome.verdict == KINK and worst is None:
        return "No output is finite at this point: the function has no derivative here that could be compared."
    if worst is None or outcome.entry is None or outcome.function is None:
        assert outcome.reason is not None
        return _wrong_backward(outcome, outcome.reason)
    if outcome.verdict == PRECISION and outcome.lost is None and math.isnan(outcome.entry.numeric):
        return (
            "A few roundings of the numbers on the way move the output by as much as it is, even in double precision: no "
            f"difference tells a derivative here, and nothing can be said of autograd's {_number(worst.analytic)}."
        )
    if outcome.verdict == PRECISION and outcome.lost is None:
        return (
            f"The derivative is about {_number(worst.numeric)}, by differences over wide steps; autograd's "
            f"{_number(worst.analytic)} is what rounding leaves even in double precision: the formula cancels."
        )
    if outcome.verdict == PRECISION:
        coarser = _coarser(outcome.base)
        steps = f", with steps in {coarser}," if coarser else ""
        return (
            f"In double precision the derivative is {_number(worst.numeric)}; in {_dtypes(outcome.base)}{steps} rounding leaves "
            f"{_number(worst.analytic)}. The formula is right, the numbers are not: it cancels, overflows or underflows."
        )
    at_kink = outcome.verdict == KINK and outcome.compared is not None and not outcome.compared.mismatches
    if outcome.reason is not None and not at_kink:
        return _because(outcome, outcome.reason, worst)
    if form_changes(outcome.function, outcome.entry.column):
        return "The outputs have other shapes or dtypes when the input moves a little: there is no derivative here."
    where = "There is a kink" if outcome.reason is None else f"{_text(outcome, outcome.reason)} has a kink here"
    return f"{where}: {_kink(worst, outcome.entry.beside)}, and {_number(worst.analytic)} is PyTorch's choice."


def _nothing_compared(outcome: Outcome) -> bool:
    """Whether there are entries, and differences told nothing of any of them."""
    compared = outcome.compared
    return compared is not None and compared.compared == 0 < compared.unsure + len(compared.unseen)


def _kink(worst: CheckedEntry, beside: tuple[float, float] | None) -> str:
    """What is there instead of a derivative."""
    if beside is not None:
        least, largest = map(_number, beside)
        return f"right beside this point the derivatives of the output jump, between {least} and {largest}"
    below, above = (side if side is not None and side == side else None for side in (worst.below, worst.above))
    if below is None and above is None:
        return "the function ends here, or its derivative grows without end"
    if below is None or above is None:
        word, side = ("above", above) if below is None else ("below", below)
        assert side is not None
        if math.isinf(side):
            return f"the function ends or jumps here, and from {word} its derivative grows without end"
        return f"the function ends here, or its tangent is vertical ({_number(side)} from {word})"
    sides = f"{_number(below)} from below, {_number(above)} from above"
    if math.isinf(below) or math.isinf(above):
        return f"the function jumps, or its tangent is vertical ({sides})"
    return f"the one-sided derivatives differ ({sides})"


def _because(outcome: Outcome, reason: Reason, worst: CheckedEntry) -> str:
    text = _text(outcome, reason)
    if reason.cause == CUT:
        return (
            f"{text} cuts the graph: its number goes on, the derivative that leads through it does not. With that number "
            f"held fast the differences give autograd's {_number(worst.analytic)} too."
        )
    if reason.cause == UNSEEN:
        return (
            f"{text} changes numbers in place where autograd records nothing: the values go on changed, their derivative does "
            f"not. With that change held fast the differences give autograd's {_number(worst.analytic)} too."
        )
    if reason.cause in (ROUNDING, DECISION):
        return f"{text} {_staircase(reason.cause, worst)}"
    if reason.cause == MASKED:
        return (
            f"{text} leaves entries out, but its backward sends a zero through what it left out; the derivative there is "
            f"infinite or NaN, and 0 times either is NaN. The true derivative is {_number(worst.numeric)}."
        )
    if reason.cause == INNER_KINK:
        return (
            f"{text} has a kink here. The output itself is smooth, with the derivative {_number(worst.numeric)}, but "
            "autograd's choices at kinks on the way do not add up to it."
        )
    if reason.cause == NOT_HERMITIAN:
        return (
            "A function here takes its matrix as Hermitian or triangular, and reads one triangle of it; this matrix is not. "
            "Its gradient holds for such matrices only."
        )
    return _wrong_backward(outcome, reason)


def _staircase(cause: str, worst: CheckedEntry) -> str:
    what = {
        ROUNDING: "is a staircase: its derivative is zero (or there is none), so what flows through it is lost",
        DECISION: "decides something, and no gradient flows through that: autograd has nothing here",
    }.get(cause, "gives numbers without a graph, and small differences give zero as autograd does")
    follows = f"the slope over a step of {_number(worst.over)} is {_number(worst.numeric)}"
    return f"{what}, while the output follows the input: {follows}."


def _text(outcome: Outcome, reason: Reason) -> str:
    return in_words(reason, outcome.base.program)


def _wrong_backward(outcome: Outcome, reason: Reason) -> str:
    assert outcome.function is not None
    functions = custom_functions(outcome.function.evaluation.outputs.values())
    forward = outcome.function.mode == "forward"
    backward = _listed(functions, "backward") or _listed(functions, "vjp")
    jvp = _listed(functions, "jvp") or "A forward-mode formula"
    if reason.cause == LINEAR:
        who, of_what = (jvp, "tangents") if forward else (backward or "A backward formula", "cotangents")
        return f"{who} is not linear: {of_what} that are taken one by one and added up give something else than their sum."
    if reason.cause == FORWARD:
        than = "give the derivative of forward" if forward else "agree with backward, which the differences confirm"
        return f"{jvp} does not {than}."
    if reason.cause == RULE:
        return f"{jvp} breaks a rule of torch's forward mode: {outcome.modes.why}."
    for demand in outcome.demands:
        if reason.cause == demand.name == UNDEFINED:
            who = "A hook" if demand.by_hook else backward
            return f"{who}, given None where no gradient arrives, {demand.fault}."
        if reason.cause == demand.name == BATCHED:
            return f"{backward or 'The backward pass'}, given many cotangents at once (is_grads_batched=True), {demand.fault}."
        if reason.cause == demand.name == PUSHED:
            return f"{jvp if functions else 'Forward mode'}, given many tangents at once, {demand.fault}."
    if backward:
        return f"{backward} does not compute the derivative of forward.{_in_common(outcome)}"
    if outcome.function.evaluation.hooked:
        return "A hook takes part in the backward pass, and what comes out is not the derivative of what the code computes."
    if outcome.base.program is None or outcome.base.functions:
        return "What the code computes has another derivative than autograd finds in it."
    if outcome.entry is not None and math.isnan(outcome.entry.analytic):
        return f"Autograd's formula gives NaN at this point, where differences give {_number(outcome.entry.numeric)}."
    return "Autograd's formula gives another derivative than the function has at this point."


SAME_FACTOR = 1e-4
"""By what part of the largest the factors of entries differ at most, if a backward is off by one factor."""


def _in_common(outcome: Outcome) -> str:
    """What several entries that differ have in common, where it is a factor: one was forgotten, or a sign."""
    wrong = outcome.compared.mismatches if outcome.compared is not None else ()
    if len(wrong) < 2 or not all(entry.numeric and math.isfinite(entry.analytic) for entry in wrong):
        return ""
    factors = [entry.analytic / entry.numeric for entry in wrong]
    least, largest = min(factors), max(factors)
    if not largest - least <= SAME_FACTOR * max(abs(least), abs(largest)):
        return ""
    factor = (least + largest) / 2
    has = f"{factor:.4g} times what differences give" if factor else "0"
    return f" In each of the {len(wrong)} entries found to differ autograd has {has}."


def _listed(functions: Iterable[type[Function]], method: str) -> str:
    own = (named(cls, method) for cls in functions if getattr(cls, method) is not getattr(Function, method))
    return " or ".join(dict.fromkeys(own))


def _unsteady(outcome: Outcome) -> str:
    step = _step(outcome)
    if outcome.function is not None:
        functions = custom_functions(outcome.function.evaluation.outputs.values())
        who = _listed(functions, "backward") or _listed(functions, "vjp") or "The backward pass"
        return f"{who} gives other gradients when the same is pulled back again: none of them can be checked."
    text = f"`{step.source}` gives" if step else "The outputs have"
    if outcome.by_seed:
        return f"{text} other values under another seed: it draws random numbers, and no seed was asked for."
    return f"{text} other values when the same is evaluated again with the same seed: there is no derivative to check."


def _hints(outcome: Outcome) -> Iterator[str]:
    reason = outcome.reason
    if outcome.verdict == NONDETERMINISTIC and outcome.by_seed:
        yield "--seed 0 checks it with the random numbers held fast; training=False (or net.eval()) turns dropout off."
    elif outcome.verdict == PRECISION and outcome.lost is None:
        yield "Write it in a stable form (torch.log1p, torch.expm1, torch.logsumexp, 2 * torch.sin(x / 2)**2 for 1 - cos x, …)."
    elif outcome.verdict == PRECISION:
        coarser = _coarser(outcome.base)
        finer = f"Take the steps in {coarser} in a finer dtype" if coarser else "Compute it in --dtype float64"
        yield f"{finer}, or write it in a stable form (torch.log1p, torch.expm1, torch.logsumexp, …)."
    elif reason is None:
        return
    elif reason.cause == UNDEFINED:
        yield "Return None (or zeros) for a gradient that is None; --undefined none leaves this out of the check."
    elif reason.cause == CUT and reason.name in CURES:
        yield CURES[reason.name]
    elif reason.cause == UNSEEN:
        yield "Make a new tensor instead, outside of torch.no_grad() and not through .data: y = f(y)."
    elif reason.cause == ROUNDING:
        yield STRAIGHT_THROUGH
    elif reason.cause == NOT_HERMITIAN:
        yield "Give it the part that it takes: f((A + A.mH) / 2), or torch.tril(A)."
    elif reason.cause == MASKED:
        yield "Give what is left out a harmless value first: torch.where(c, f(torch.where(c, x, 1.0)), 0.0)."


# How


def _comparisons(outcome: Outcome) -> Iterator[Comparing]:
    compared, modes, function = outcome.compared, outcome.modes, outcome.function
    if outcome.verdict == NONDETERMINISTIC:
        name, what = ("evaluated", "outputs") if function is None else ("pulled back", "gradients")
        yield Comparing(f"{name} twice", False, outcome.spread, f"the {what} differ")
        return
    assert function is not None
    if compared is not None:
        dtype = _dtypes(outcome.base) if outcome.fallback else "float64"
        wrong = bool(compared.mismatches)
        nothing = _nothing_compared(outcome) or (outcome.verdict == KINK and outcome.entry is None)
        kinks = f", {len(compared.kinks)} of them at a kink" if compared.kinks else ""
        agrees = None if nothing or (compared.kinks and not wrong) else not wrong
        what = "entry" if (compared.compared, compared.what) == (1, ENTRIES) else compared.what
        about = f"{compared.compared} {what} in {dtype}{kinks}"
        yield Comparing("finite differences", agrees, compared.largest, about)
    if modes.fault == LINEAR:
        sums = "tangents" if function.mode == "forward" else "cotangents"
        yield Comparing("one by one against together", False, None, f"{sums} added up")
    elif modes.how is None:
        about = modes.why if modes.fault else f"not compared: {modes.why}"
        yield Comparing("forward against reverse", False if modes.fault else None, None, about)
    elif modes.forward is not None:
        yield Comparing("forward against reverse", modes.fault is None, modes.forward, f"J u by {modes.how}")
    if modes.dot is not None:
        yield Comparing("⟨v, J u⟩ = ⟨Jᵀ v, u⟩", modes.fault is None, modes.dot, f"the dot-product test, by {modes.how}")
    for demand in outcome.demands:
        if demand.asked:
            yield Comparing(demand.name, demand.fault is None, None, demand.fault or "")
    if outcome.lost is not None:
        name = f"{_dtypes(outcome.base)} against float64"
        yield Comparing(name, outcome.verdict != PRECISION, outcome.lost, "relative to the Jacobian's size")


def _notices(outcome: Outcome) -> Iterator[Notice]:
    if outcome.fallback:
        yield Notice(
            "fallback",
            f"it does not run in float64 ({outcome.fallback.rstrip('.')}), so the differences were taken in "
            f"{_dtypes(outcome.base)}, where they are good for two or three digits",
        )
    function = outcome.function
    if function is not None and without_backward(function.evaluation):
        yield Notice("fallback", "there is a jvp and no backward here, so forward mode alone was checked")
    if outcome.modes.said:
        yield Notice("fallback", f"{outcome.modes.said}, so forward mode was not compared")
    for demand in outcome.demands:
        if demand.fault and not demand.asked:
            yield Notice(
                "fallback",
                f"a hook, given None as it is where a function behind it gives None for a gradient, {demand.fault}; "
                "--undefined all makes that a part of the check",
            )
    if outcome.zero is not None and outcome.zero.entry is not None and outcome.function is not None:
        text, worst = _text(outcome, outcome.zero), _entry(outcome, outcome.zero.entry, outcome.zero.over)
        cure = f" {STRAIGHT_THROUGH}" if outcome.zero.cause == ROUNDING else ""
        yield Notice("graph_break", f"{text} {_staircase(outcome.zero.cause, worst)}{cure}", "staircase")
    if function is not None and function.held:
        yield Notice(
            "fallback",
            "eigenvectors and singular vectors have one of two signs, which a library chooses anew at every point: the "
            "differences were taken with the signs that they have at this one",
        )
    compared = outcome.compared
    if compared is not None and compared.unsure:
        entries = "1 entry" if compared.unsure == 1 else f"{compared.unsure} entries"
        yield Notice("fallback", f"{entries} could not be compared: differences or autograd give no clear number there")
    if function is not None and compared is not None and compared.unseen:
        yield _unseen(function, compared.unseen)
    if compared is not None and compared.unfinite:
        parts = function is not None and any(dtype.is_complex for dtype in function.outputs.dtypes)
        one, several = ("real or imaginary part", "real and imaginary parts") if parts else ("entry", "entries")
        entries = f"{one} of the outputs is" if compared.unfinite == 1 else f"{several} of the outputs are"
        yield Notice("nonfinite", f"{compared.unfinite} {entries} not finite and could not be compared")


def _unseen(function: RealFunction, entries: Sequence[Entry]) -> Notice:
    """That the numbers around x are too far apart for differences, at the entry where they are furthest."""
    entry = max(entries, key=lambda entry: abs(float(function.x[entry.column])))
    x, place = float(function.x[entry.column]), label(function.inputs.place(entry.column))
    apart = math.ulp(x)
    several = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    return Notice(
        "fallback",
        f"{several} could not be tested here: the numbers around {place} = {x:.6g} stand {apart:.2g} apart, and no difference "
        "sees what the function does between them",
    )


def _dtypes(evaluation: Evaluation) -> str:
    """The dtypes of what is differentiated."""
    return ", ".join(dict.fromkeys(figures.dtype_name(evaluation.inputs[name].dtype) for name in evaluation.wrt))


def _coarser(evaluation: Evaluation) -> str:
    """The dtypes of steps that are coarser than those of what is differentiated, as under autocast."""
    eps = max(torch.finfo(evaluation.inputs[name].dtype).eps for name in evaluation.wrt)
    values = [x.dtype for x in evaluation.values.values() if isinstance(x, Tensor) and can_require_grad(x)]
    return ", ".join(dict.fromkeys(figures.dtype_name(dtype) for dtype in values if torch.finfo(dtype).eps > eps))


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return "NaN" if math.isnan(value) else f"{value:.6g}"


def label(place: Place) -> str:
    """`y[0, 1]`, with the part of a complex entry."""
    text = entry_label(place.name, place.index)
    return f"{'Re' if place.part == 'real' else 'Im'} {text}" if place.part else text
