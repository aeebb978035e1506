"""Arguments with which torch itself reads or writes memory that isn't the tensors', or ends the process (seen on torch
2.13, CPU), refused before the call.

torch trusts that some arguments come from its own functions (pivots, offsets, targets) and that sums and products of
sizes don't overflow; an expression can say anything.  One module holds the rules of one family.  To add a rule is to add
a row to its table `RULES`, and to make the catalogue anew (`make catalog`): that knows which functions have rules in which
family, so that a family is loaded where one of its functions is called and not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, LimitError
from jvpcli.language import catalog
from jvpcli.language.guards.integers import DIVISIONS, FACTORS, OF_NUMBERS, SMALL_BITS, bits_of

if TYPE_CHECKING:
    from jvpcli.language.guards.binding import Bound, Rule


def asks(op: str) -> bool:
    """Whether anything is asked of the arguments of an equation's `op`."""
    plan = _plan(op)
    return bool(plan.refused) or plan.divides or plan.has_sizes


def is_free(op: str) -> bool:
    """Whether of an operation's arguments nothing is asked but how large its whole numbers are."""
    plan = _plan(op)
    return not (plan.refused or plan.divides or plan.rules)


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
    if plan.divides:
        _check_division(op, arguments, keywords)
    if not plan.has_sizes:
        return
    bits = bits_of(arguments) + (bits_of(keywords.values()) if keywords else 0)
    rules = [rule for rule in plan.rules if rule.is_asked(arguments, keywords, bits)] if plan.rules else ()
    if rules or bits > SMALL_BITS:
        _ask(op, arguments, keywords, rules, bits)


def _check_division(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    from jvpcli.language.guards.overflow import division_problem

    if problem := division_problem(op, arguments, keywords):
        raise EvaluationError(f"{_name(op)} can't be computed: {problem}.")


def _ask(op: str, arguments: Sequence[Any], keywords: Mapping[str, Any], rules: Sequence[Rule], bits: int) -> None:
    """Refuse what one of the rules says is wrong, or an integer that is too large."""
    from jvpcli.language.guards.binding import bind

    found = bind(op, arguments, keywords) if op[:3] != "op:" else None
    for rule in rules:
        if problem := _problem(rule, op, None if found is None else found[1], arguments, keywords):
            raise (LimitError if rule.of_turns else EvaluationError)(f"{_name(op)} can't be computed: {problem}.")
    if bits > SMALL_BITS:
        from jvpcli.language.guards.overflow import too_large

        judged = any(rule.beyond == SMALL_BITS for rule in rules)
        if problem := too_large(op, arguments, keywords, found, judged):
            raise LimitError(f"{_name(op)} can't be computed: {problem}.")


def _problem(
    rule: Rule, op: str, bound: Bound | None, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> str | None:
    """What a rule says; arguments that it can't read are refused, as what it protects can't be known to be safe then."""
    from jvpcli.language.guards.binding import forms

    try:
        if bound is not None:
            return rule.problem(bound)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        pass
    if any(isinstance(value, Tensor) and value.is_meta for value in (*arguments, *keywords.values())):
        return None  # shapes without memory
    return f"these arguments don't fit {forms(op)}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked of the calls of one function."""

    rules: Sequence[Rule] = ()
    divides: bool = False
    has_sizes: bool = False
    refused: Sequence[tuple[int, tuple[str, Any]]] = ()


@lru_cache(maxsize=4096)
def _plan(op: str) -> _Plan:
    """What is asked of an equation's `op`."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2]
    divides = name.removesuffix("_") in DIVISIONS | FACTORS
    if kind == "op":
        return _Plan(divides=divides, has_sizes=name in ("getitem", "setitem"))
    if kind not in ("call", "method") or not (kind == "method" or path.startswith("torch.")):
        return _Plan()
    return _Plan(tuple(_rules(name)), divides, name not in OF_NUMBERS, tuple(catalog.refused_positions(op).items()))


def _rules(name: str) -> Iterator[Rule]:
    """The rules of a function or method, family by family.

    Raises:
        ForbiddenError: the catalogue says that a family has one, and it has none: what was to be checked is not known.
    """
    for family in catalog.guards(name):
        try:
            yield import_module(f"{__name__}.{family}").RULES[name]
        except (ImportError, AttributeError, KeyError):
            raise ForbiddenError(f"`{name}` can't be used: the check of its arguments is missing.") from None


def _name(op: str) -> str:
    """A function as its caller wrote it."""
    kind, _, path = op.partition(":")
    name = path.rpartition(".")[2]
    return f"`{catalog.SYMBOLS.get(name, name) if kind == 'op' else name}`"
