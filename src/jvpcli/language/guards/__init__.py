"""Arguments with which torch itself reads or writes memory that isn't the tensors', or ends the process (seen on torch
2.13, CPU), refused before the call.

torch trusts that some arguments come from its own functions (pivots, offsets, targets) and that sums and products of
sizes don't overflow; an expression can say anything.  One module holds the rules of one kind; to add a rule is to add a
row to its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jvpcli.errors import EvaluationError, ForbiddenError, LimitError
from jvpcli.language import catalog
from jvpcli.language.guards import division, integers, recurrent, trusted, views, windows
from jvpcli.language.guards.binding import Bound, bind

Rule = Callable[[Bound], str | None]
"""What is wrong with the arguments of a call, by name; None where nothing is."""

ALWAYS: Mapping[str, Rule] = {**trusted.RULES, **recurrent.RULES}
"""Function or method name to its rule, asked in every call."""

FOR_LARGE: Mapping[str, Rule] = {**views.RULES, **windows.RULES}
"""The same, asked where the integers among the arguments are so large that sums or products of them may overflow."""

SMALL_BITS = 30
"""Together as many bits of integers can't overflow 32 bits, whatever is multiplied with what."""


def check_arguments(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse arguments that torch doesn't check and that would corrupt memory or end the process.

    `op` is that of an equation ("call:torch.sin").

    Raises:
        ForbiddenError: an argument is given by position that can't be given by name.
        EvaluationError: saying what the argument must be.
        LimitError: a size, index or the like is beyond what anything can have.
    """
    always, large, divides, has_sizes, refused = _plan(op)
    for place, (name, default) in refused:
        if place < len(arguments) and (type(arguments[place]), arguments[place]) != (type(default), default):
            raise ForbiddenError(f"The argument `{name}` can't be used: {catalog.keyword_reason(name)}.")
    if divides and (problem := division.problem(op, arguments, keywords)):
        raise EvaluationError(f"{_name(op)} can't be computed: {problem}.")
    if not has_sizes:
        return
    bits = integers.bits((arguments, tuple(keywords.values())) if keywords else arguments)
    if always is None and bits <= SMALL_BITS:
        return
    found = bind(op, arguments, keywords) if op[:3] != "op:" else None
    if found is not None and (rule := always or large) is not None:
        _apply(rule, op, found[1])
        if always is not None and large is not None and bits > SMALL_BITS:
            _apply(large, op, found[1])
    if bits > SMALL_BITS and (problem := integers.problem(op, arguments, keywords, found, large is not None)):
        raise LimitError(f"{_name(op)} can't be computed: {problem}.")


def _apply(rule: Rule, op: str, bound: Bound) -> None:
    try:
        problem = rule(bound)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return  # an argument of another kind: torch itself refuses it
    if problem:
        raise EvaluationError(f"{_name(op)} can't be computed: {problem}.")


@lru_cache(maxsize=4096)
def _plan(op: str) -> tuple[Rule | None, Rule | None, bool, bool, Sequence[tuple[int, tuple[str, Any]]]]:
    """The rules of an equation's `op`: always, and for large integers; whether it divides and whether it has sizes; and
    the places that can't be used."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2]
    divides = division.divides(op)
    if kind == "op":
        return None, None, divides, name in ("getitem", "setitem"), ()
    if kind not in ("call", "method") or not (kind == "method" or path.startswith("torch.")):
        return None, None, False, False, ()
    refused = tuple(catalog.refused_positions(op).items())
    return ALWAYS.get(name), FOR_LARGE.get(name), divides, name not in integers.OF_NUMBERS, refused


def _name(op: str) -> str:
    return f"`{op.partition(':')[2].rpartition('.')[2]}`"
