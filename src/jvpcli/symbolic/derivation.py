"""How a vector-Jacobian product comes out of the function: a rule a line."""

from __future__ import annotations

from collections.abc import Iterable

from jvpcli.report.derive import Rule
from jvpcli.symbolic.closed import Closed
from jvpcli.symbolic.factoring import variants
from jvpcli.symbolic.forms import (
    Atom,
    Delta,
    Fn,
    Lam,
    NoClosedFormError,
    Poly,
    Power,
    Sym,
    Term,
    add,
    names,
    of,
)
from jvpcli.symbolic.rules import pulled
from jvpcli.symbolic.scalars import SCALARS
from jvpcli.symbolic.translation import translated


def steps(closed: Closed) -> Iterable[Rule]:
    """How the VJP comes out of the function, a rule a line; of a program with names that of each name too."""
    yield from _chain(closed)
    for y in closed.v:
        form = closed.forms[y]
        if isinstance(form, NoClosedFormError):
            continue
        left = closed.entry(y, form.over)
        yield Rule("the function in indices", f"{left} = {closed.text(form.body, at=form.over)}")
        for x, at in closed.at.items():
            try:
                poly = closed.pulled_to(x)
                found = closed.slope(y, x)
            except NoClosedFormError:
                continue
            over = "".join(closed.letters[i] for i in form.over)
            entry = closed.entry(x, at)
            inner = closed.text(found, at=(*form.over, *at))
            yield Rule(_rule(form.body, x), f"∂{left}/∂{entry} = {inner}")
            v = closed.entry(closed.v_names[y], form.over)
            inner = f"({inner})" if len(found) > 1 or inner.startswith("−") else inner
            summed = f"Σ_{over} {v}·{inner}" if over else f"{v}·{inner}"
            if len(closed.v) == 1:
                yield Rule("chain rule: v times the Jacobian", f"∂L/∂{entry} = {summed}")
                rule = (
                    "Σ_j δ_ij f_j = f_i: the deltas are summed away"
                    if any(isinstance(f, Delta) for t in found for f in t.factors)
                    else "brought together"
                )
                texts = [closed.text(form, at=at) for form in (poly, *variants(poly))]
                if texts[0] != summed:
                    yield Rule(rule, f"∂L/∂{entry} = {texts[0]}")
                together = min(texts[1:], key=len)
                if together != texts[0]:
                    yield Rule("common factors in front", f"∂L/∂{entry} = {together}")


def _chain(closed: Closed) -> Iterable[Rule]:
    """∂L/∂y for each name y that the program gives a step on the way, from the last to the first, and what the inputs get of it.

    Each is verified as the forms are; what has no form, or a wrong one, is left out.
    """
    evaluation = closed.evaluation
    outputs = set(evaluation.output_slots.values())
    kept = {
        step.slot: step.name for step in evaluation.tape
        if step.name and step.slot not in outputs and getattr(evaluation.values.get(step.slot), "requires_grad", False)
        and step.name not in evaluation.inputs
    }  # fmt: skip
    if not kept or len(set(kept.values())) < len(kept):
        return
    held = translated(evaluation, kept)
    own = {}  # each name's own form in terms of the names before it
    for slot, name in kept.items():
        others = {s: n for s, n in kept.items() if s != slot}
        own[name] = translated(evaluation, others).get(slot)
    consumers: list[tuple[str, Lam]] = []
    for y in closed.v:
        form = held.get(evaluation.output_slots.get(y, -1))
        if not isinstance(form, Lam):
            return
        consumers.append((closed.v_names[y], closed.settled(form)))
    called = list(kept.values())
    for name in [*reversed(called), *closed.at]:
        x = held[next(s for s, n in kept.items() if n == name)] if name in called else None
        at = closed.lettered(x.shape) if x is not None else closed.at[name]
        try:
            poly = add(*(pulled(f.body, of(Sym(weight, f.over)), f.over, name, at) for weight, f in consumers))
        except NoClosedFormError:
            return
        left = f"∂L/∂{closed.entry(name, at)}"
        if closed.holds_on_the_way(poly, at, name):
            rule = "what arrives at " + name if name in called else "from there to " + name
            yield Rule(rule, f"{left} = {closed.text(poly, at=at)}")
        if name in called:
            form = own[name]
            if not isinstance(form, Lam):
                return
            consumers.append((f"∂L/∂{name}", closed.settled(form)))


def _rule(poly: Poly, x: str) -> str:
    """The rules that a derivative of a form takes."""
    used = []
    for term in poly:
        mine = [f for f in term.factors if x in names((Term(term.coefficient, (), (f,)),))]
        if len(mine) > 1:
            used.append("product rule")
        for factor in mine:
            if isinstance(factor, Power):
                used.append("power rule")
            if isinstance(factor, Fn):
                called = SCALARS[factor.name].torch.partition("(")[0].rpartition(".")[2]
                used.append(f"chain rule ({called or factor.name})")
            if isinstance(factor, Atom) and factor.name != "move":
                used.append(f"derivative of {factor.name}")
    return ", ".join(dict.fromkeys(used)) or "each entry by itself: ∂x_j/∂x_i = δ_ij"
