"""The outcome of a check in words: what is wrong, at which entry, why, and what to do about it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.autograd import Function

from jvpcli.gradcheck.causes import INNER_KINK, MASKED, Reason
from jvpcli.gradcheck.check import KINK, NONDETERMINISTIC, NOT_HERMITIAN, PASS, PRECISION, Outcome
from jvpcli.gradcheck.losses import CUT, DECISION, ROUNDING
from jvpcli.gradcheck.modes import custom_functions
from jvpcli.gradcheck.vectors import Place
from jvpcli.jacobians import figures
from jvpcli.jacobians.contraction import entry_label
from jvpcli.language.evaluate import Evaluation
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

LONGEST_SOURCE = 60
"""A longer line of the user's code is named by the function in it that matters."""

STRAIGHT_THROUGH = "To pass the gradient straight through a rounding: x + (torch.round(x) - x).detach()."


def report_of(outcome: Outcome, expression: str) -> CheckReport:
    """The outcome as plain data."""
    evaluation = outcome.base
    worst = None if outcome.entry is None or outcome.function is None else _entry(outcome)
    error = outcome.spread if outcome.spread is not None else outcome.entry.difference if outcome.entry else 0.0
    return CheckReport(
        expression=expression,
        passed=outcome.verdict == PASS,
        verdict=outcome.verdict,
        max_error=error,
        worst=worst,
        explanation=_explanation(outcome, worst),
        hints=tuple(_hints(outcome)),
        comparisons=tuple(_comparisons(outcome)),
        inputs={name: figures.input_value(x, name in evaluation.wrt) for name, x in evaluation.inputs.items()},
        outputs={name: figures.value(y) for name, y in evaluation.outputs.items()},
        warnings=tuple(_notices(outcome)),
        step=_step(outcome),
    )


def _entry(outcome: Outcome) -> CheckedEntry:
    entry, function = outcome.entry, outcome.function
    assert entry is not None
    assert function is not None
    y, x = function.outputs.place(entry.row), function.inputs.place(entry.column)
    over = outcome.reason.over if outcome.reason else None
    return CheckedEntry(
        y.name, y.index, x.name, x.index, entry.analytic, entry.numeric, y.part, x.part, entry.below, entry.above, over
    )


def _step(outcome: Outcome) -> GuiltyStep | None:
    equation = outcome.reason.equation if outcome.reason else outcome.random_step
    place = outcome.reason.place if outcome.reason else None
    program = outcome.base.program
    if place is not None:
        file, line = place
        return GuiltyStep(_code_at(file, line), None if equation is None else equation.span, file, line)
    if equation is None or program is None:
        return None
    return GuiltyStep(program.text(equation.span), equation.span)


def _code_at(file: str, line: int) -> str:
    import linecache

    return linecache.getline(file, line).strip()


# Why


def _explanation(outcome: Outcome, worst: CheckedEntry | None) -> str:
    if outcome.verdict == PASS:
        return "Autograd agrees with finite differences."
    if outcome.verdict == NONDETERMINISTIC:
        return _unsteady(outcome)
    assert worst is not None
    if outcome.verdict == PRECISION and outcome.lost is None:
        return (
            f"The derivative is about {_number(worst.numeric)}, by differences over wide steps; autograd's "
            f"{_number(worst.analytic)} is what rounding leaves even in double precision: the formula cancels."
        )
    if outcome.verdict == PRECISION:
        return (
            f"In double precision the derivative is {_number(worst.numeric)}; in {_dtypes(outcome.base)} rounding leaves "
            f"{_number(worst.analytic)}. The formula is right, the numbers are not: it cancels, overflows or underflows."
        )
    at_kink = outcome.verdict == KINK and outcome.compared is not None and not outcome.compared.mismatches
    if outcome.reason is not None and not at_kink:
        return _because(outcome, outcome.reason, worst)
    where = "There is a kink" if outcome.reason is None else f"{_text(outcome, outcome.reason)} has a kink here"
    return f"{where}: {_kink(worst)}, and {_number(worst.analytic)} is PyTorch's choice."


def _kink(worst: CheckedEntry) -> str:
    """What is there instead of a derivative."""
    below, above = (side if side is not None and side == side else None for side in (worst.below, worst.above))
    if below is None and above is None:
        return "the function ends here, or its derivative grows without end"
    if below is None or above is None:
        word, side = ("above", above) if below is None else ("below", below)
        assert side is not None
        if math.isinf(side):
            return f"the function ends here, and from {word} its derivative grows without end"
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
    if reason.cause == ROUNDING:
        return (
            f"{text} is a staircase: its derivative is zero (or there is none), so what flows through it is lost, while the "
            f"output follows the input: the difference over a step of {_number(worst.over)} is {_number(worst.numeric)}."
        )
    if reason.cause == DECISION:
        return (
            f"{text} decides something, and no gradient flows through that: autograd has nothing here, while the output "
            f"follows the input: the difference over a step of {_number(worst.over)} is {_number(worst.numeric)}."
        )
    if reason.cause == MASKED:
        return (
            f"{text} leaves entries out, but its backward sends a zero through what it left out; the derivative there is "
            f"infinite or NaN, and 0·∞ = NaN. The true derivative is {_number(worst.numeric)}."
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


def _text(outcome: Outcome, reason: Reason) -> str:
    """The step that is to blame, and its place in the user's own code."""
    step = _step(outcome)
    text = f"`{step.source}`" if step and len(step.source) <= LONGEST_SOURCE else f"`{reason.name.strip('_')}`"
    return f"{text} ({Path(step.file).name}, line {step.line})" if step and step.file else text


def _wrong_backward(outcome: Outcome, reason: Reason) -> str:
    assert outcome.function is not None
    functions = custom_functions(outcome.function.evaluation)
    if reason.cause == "linear":
        who = _listed(functions, "backward") or "A backward formula"
        return f"{who} is not linear in its cotangent: pulled back one by one and added up, cotangents give something else."
    if reason.cause == "forward":
        who = _listed(functions, "jvp") or "A forward-mode formula"
        return f"{who} does not agree with backward, which the differences confirm."
    who = _listed(functions, "backward")
    if who:
        return f"{who} does not compute the derivative of forward."
    if outcome.base.program is None or outcome.base.functions:
        return "What the code computes has another derivative than autograd finds in it."
    return "Autograd's formula gives another derivative than the function has at this point."


def _listed(functions: Iterable[type[Function]], method: str) -> str:
    return " or ".join(f"`{cls.__name__}.{method}`{_place(getattr(cls, method))}" for cls in functions)


def _place(function: Any) -> str:
    """File and line of a Python function, if it has them."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        return ""
    return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})"


def _unsteady(outcome: Outcome) -> str:
    step = _step(outcome)
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
        yield "Compute it in --dtype float64, or write it in a stable form (torch.log1p, torch.expm1, torch.logsumexp, …)."
    elif reason is None:
        return
    elif reason.cause == CUT and reason.name in CURES:
        yield CURES[reason.name]
    elif reason.cause == ROUNDING:
        yield STRAIGHT_THROUGH
    elif reason.cause == NOT_HERMITIAN:
        yield "Give it the part that it takes: f((A + A.mH) / 2), or torch.tril(A)."
    elif reason.cause == MASKED:
        yield "Give what is left out a harmless value first: torch.where(c, f(torch.where(c, x, 1.0)), 0.0)."


# How


def _comparisons(outcome: Outcome) -> Iterator[Comparing]:
    if outcome.verdict == NONDETERMINISTIC:
        yield Comparing("evaluated twice", False, outcome.spread, "the outputs differ")
        return
    compared, modes = outcome.compared, outcome.modes
    assert compared is not None
    assert outcome.function is not None
    dtype = _dtypes(outcome.base) if outcome.fallback else "float64"
    what = "entries" if compared.everything else "random products vᵀJu, since the Jacobian is large,"
    wrong = bool(compared.mismatches)
    largest = compared.mismatches[0] if wrong else compared.nearest
    error = largest.difference if largest else None
    kinks = f", {len(compared.kinks)} of them at a kink" if compared.kinks else ""
    agrees = None if compared.kinks and not wrong else not wrong
    yield Comparing("finite differences", agrees, error, f"{compared.compared} {what} in {dtype}{kinks}")
    how = {"transposed": "the transposed backward pass", "forward": "forward-mode duals"}.get(modes.how or "")
    if how is None or modes.forward is None:
        yield Comparing("forward against reverse", None, None, "not compared: " + _why_not(outcome))
    else:
        yield Comparing("forward against reverse", modes.fault != "forward", modes.forward, f"J u by {how}")
    if modes.dot is not None:
        yield Comparing("⟨v, J u⟩ = ⟨Jᵀ v, u⟩", modes.fault is None, modes.dot, "the dot-product test")
    if outcome.lost is not None:
        name = f"{_dtypes(outcome.base)} against float64"
        yield Comparing(name, outcome.verdict != PRECISION, outcome.lost, "relative to the Jacobian's size")


def _why_not(outcome: Outcome) -> str:
    if outcome.modes.how is None:
        return "backward cannot be differentiated, and there is no forward formula"
    assert outcome.compared is not None
    return "a custom backward need not be differentiable" if outcome.compared.everything else "the Jacobian is large"


def _notices(outcome: Outcome) -> Iterator[Notice]:
    if outcome.fallback:
        yield Notice(
            "fallback",
            f"it does not run in float64 ({outcome.fallback.rstrip('.')}), so the differences were taken in "
            f"{_dtypes(outcome.base)}, where they are good for two or three digits",
        )
    compared = outcome.compared
    if compared is not None and compared.unsure:
        yield Notice(
            "fallback", f"{compared.unsure} entries could not be compared: differences give no clear number there"
        )
    if compared is not None and compared.unfinite:
        entries = "entry of the outputs is" if compared.unfinite == 1 else "entries of the outputs are"
        yield Notice("nonfinite", f"{compared.unfinite} {entries} not finite and could not be compared")


def _dtypes(evaluation: Evaluation) -> str:
    """The dtypes of what is differentiated."""
    return ", ".join(dict.fromkeys(figures.dtype_name(evaluation.inputs[name].dtype) for name in evaluation.wrt))


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return "NaN" if math.isnan(value) else f"{value:.6g}"


def label(place: Place) -> str:
    """`y[0, 1]`, with the part of a complex entry."""
    text = entry_label(place.name, place.index)
    return f"{'Re' if place.part == 'real' else 'Im'} {text}" if place.part else text
