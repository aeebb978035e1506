"""Arguments with which torch itself reads or writes memory that isn't the tensors', or ends the process (seen on torch
2.13, CPU), refused before the call.

torch trusts that some arguments come from its own functions (pivots, offsets, targets) and that sums and products of
sizes don't overflow; an expression can say anything.  One module holds the rules of one kind; to add a rule is to add a
row to its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, LimitError
from jvpcli.language import catalog
from jvpcli.language.guards import extents, integers, overflow, recurrent, trusted
from jvpcli.language.guards.binding import Bound, bind, forms

Rule = Callable[[Bound], str | None]
"""What is wrong with the arguments of a call, by name; None where nothing is."""

ALWAYS: Sequence[Mapping[str, Rule]] = (trusted.RULES, recurrent.RULES, overflow.OF_TENSORS)
"""Tables of function or method name to its rule, asked in every call (but see `trusted.UNASKED`)."""

FOR_LARGE: Mapping[str, Rule] = {**extents.RULES, **trusted.FOR_LARGE}
"""The same, asked where the integers among the arguments are so large that sums or products of them may overflow."""

SMALL_BITS = 30
"""Together as many bits of integers can't overflow 32 bits, whatever is multiplied with what."""

FEW_BITS = 8
"""Together as many bits of integers make no loop that anybody waits for."""


def check_arguments(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Refuse arguments that torch doesn't check and that would corrupt memory or end the process.

    `op` is that of an equation ("call:torch.sin").

    Raises:
        ForbiddenError: an argument is given by position that can't be given by name.
        EvaluationError: saying what the argument must be.
        LimitError: a size, index or the like is beyond what anything can have.
    """
    plan = _plan(op)
    for place, (name, default) in plan.refused:
        if place < len(arguments) and (type(arguments[place]), arguments[place]) != (type(default), default):
            raise ForbiddenError(f"The argument `{name}` can't be used: {catalog.keyword_reason(name)}.")
    if plan.divides and (problem := overflow.division_problem(op, arguments, keywords)):
        raise EvaluationError(f"{_name(op)} can't be computed: {problem}.")
    if not plan.has_sizes:
        return
    bits = integers.bits(arguments) + (integers.bits(keywords.values()) if keywords else 0)
    rules = plan.asked(arguments, keywords, bits)
    if not rules and bits <= SMALL_BITS:
        return
    found = bind(op, arguments, keywords) if op[:3] != "op:" else None
    for rule in rules:
        if problem := _problem(rule, op, None if found is None else found[1], arguments, keywords):
            error = LimitError if rule in overflow.LOOPS else EvaluationError
            raise error(f"{_name(op)} can't be computed: {problem}.")
    if bits > SMALL_BITS and (problem := overflow.problem(op, arguments, keywords, found, plan.large is not None)):
        raise LimitError(f"{_name(op)} can't be computed: {problem}.")


def _problem(
    rule: Rule, op: str, bound: Bound | None, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> str | None:
    """What a rule says; arguments that it can't read are refused, as what it protects can't be known to be safe then."""
    try:
        if bound is not None:
            return rule(bound)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        pass
    if any(isinstance(value, Tensor) and value.is_meta for value in (*arguments, *keywords.values())):
        return None  # shapes without memory
    return f"these arguments don't fit {forms(op)}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked of the calls of one function."""

    always: Sequence[Rule]
    large: Rule | None
    loops: Rule | None
    unasked: Callable[[Sequence[Any], Mapping[str, Any]], bool] | None
    divides: bool
    has_sizes: bool
    refused: Sequence[tuple[int, tuple[str, Any]]]

    def asked(self, arguments: Sequence[Any], keywords: Mapping[str, Any], bits: int) -> Sequence[Rule]:
        """The rules of one call, whose integers have together so many bits."""
        rules: list[Rule] = []
        if self.always and (self.unasked is None or bits > SMALL_BITS or not self.unasked(arguments, keywords)):
            rules += self.always
        if self.large is not None and bits > SMALL_BITS:
            rules.append(self.large)
        if self.loops is not None and bits > FEW_BITS:
            rules.append(self.loops)
        return rules


@lru_cache(maxsize=4096)
def _plan(op: str) -> _Plan:
    """What is asked of an equation's `op`."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2]
    divides = overflow.divides(op)
    if kind == "op":
        return _Plan((), None, None, None, divides, name in ("getitem", "setitem"), ())
    if kind not in ("call", "method") or not (kind == "method" or path.startswith("torch.")):
        return _Plan((), None, None, None, False, False, ())
    return _Plan(
        tuple(rules[name] for rules in ALWAYS if name in rules),
        FOR_LARGE.get(name),
        overflow.OF_INTEGERS.get(name),
        trusted.UNASKED.get(name),
        divides,
        name not in overflow.OF_NUMBERS,
        tuple(catalog.refused_positions(op).items()),
    )


def _name(op: str) -> str:
    """A function as its caller wrote it."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2]
    return f"`{catalog.SYMBOLS.get(name, name) if kind == 'op' else name}`"
