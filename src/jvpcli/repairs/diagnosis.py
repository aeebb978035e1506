"""Errors inside an expression: the operands as they are written, with their shapes; the rule that is broken; what works."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Any

from torch import Tensor

from jvpcli.errors import EvaluationError, JvpError, ShapeMismatchError
from jvpcli.language.parse import parse
from jvpcli.messages.cards import Found
from jvpcli.messages.matcher import Match, Raised, advice, explanation, find, worded
from jvpcli.program import Program
from jvpcli.repairs.edits import Family, Guilty, Repair, Written, anything, find_guilty
from jvpcli.report import Shape

MOST = 2
"""Repairs that are shown."""

TRIES = 40
"""Expressions that are tried at most."""

PATIENCE = 0.5
"""Seconds after which no further expression is tried."""

DROPS = "The repair leaves entries out: it is right only if they are too many."
"""Said where nothing but cutting an operand helps."""


@dataclass(frozen=True)
class Diagnosis:
    """A failed step: the error, the guilty part of the source, and what is known of torch's message."""

    error: JvpError
    guilty: Guilty | None
    match: Match | None

    @property
    def about_shapes(self) -> bool:
        """Whether it is shapes, or places in them, that don't fit."""
        return isinstance(self.error, ShapeMismatchError) if self.match is None else self.match.is_about_shapes


def diagnose(error: JvpError, program: Program) -> Diagnosis | None:
    """What is known of the failure of a step of `program`; None of an error that is not torch's."""
    if not isinstance(error, (EvaluationError, ShapeMismatchError)) or error.torch_message is None:
        return None
    match = find(Raised("Error", error.torch_message))
    guilty = find_guilty(error, program)
    return None if match is None and guilty is None else Diagnosis(error, guilty, match)


def repaired(diagnosis: Diagnosis, works: Callable[[str], bool], patience: float = PATIENCE) -> list[Repair]:
    """The repairs of the source that `works` accepts; none where nothing is known, or after `patience` seconds."""
    guilty, match = diagnosis.guilty, diagnosis.match
    if guilty is None or not (diagnosis.about_shapes or match):
        return []
    family, found = (match.card.repair, match.found()) if match else ("", Found({}))
    candidates = repairs(family, guilty, found, diagnosis.about_shapes)
    try:
        return first_that_work(candidates, _patient(works, patience))
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
        return []  # operands so odd that no repair can even be written: an explanation without one is better than none


def explained(
    diagnosis: Diagnosis, found: Sequence[Repair] = (), show: Callable[[str], str] = str, lead: Sequence[str] = ()
) -> JvpError:
    """The failure, explained from its operands; of shapes it is a ShapeMismatchError.

    `found` are its repairs, whose sources become hints in the form that `show` gives them (a command); `lead` are lines shown
    before the operands.
    """
    error, guilty, match = diagnosis.error, diagnosis.guilty, diagnosis.match
    if guilty is None:  # raised inside the user's own code, whose place the error tells
        return worded(error)
    known = None if match is None else explanation(match, shown_operands(guilty), guilty.op)
    meaning = known.meaning if known else error.explanation
    kind = ShapeMismatchError if diagnosis.about_shapes else EvaluationError
    return kind(
        message=known.title if known else error.message,
        explanation="\n".join(filter(None, (meaning, DROPS if any(repair.drops for repair in found) else ""))),
        hints=tuple(show(repair.source) for repair in found) or tuple(error.hints) or (advice(known) if known else ()),
        span=error.span,
        source=error.source,
        torch_message=error.torch_message,
        details=(*lead, *described(guilty, error)),
        operands=tuple(_record(operand) for operand in _tensors(guilty)),
        causes=known.causes if known else (),
        cures=known.cures if known else (),
        failed=error.failed,
    )


def explain_value(error: JvpError, name: str, scope: Collection[str]) -> JvpError:
    """The failure of the expression of the VALUE of `name`, which may use the inputs in `scope`; without repairs."""
    try:
        diagnosis = diagnose(error, parse(error.source or "", scope))
    except JvpError:  # the text is no expression: a file's name
        return error
    return error if diagnosis is None else explained(diagnosis, lead=(f"in the value of {name}",))


def _patient(works: Callable[[str], bool], patience: float) -> Callable[[str], bool]:
    """`works` for so many seconds; after them no further source is tried, and none works."""
    end = time.monotonic() + patience
    return lambda source: time.monotonic() < end and works(source)


def shown_operands(guilty: Guilty | None) -> tuple[tuple[str, Shape], ...]:
    """Names and shapes of the tensors of the step: those of a list where it is written out."""
    if guilty is None:
        return ()
    return tuple((operand.name, operand.shape) for operand in guilty.listed or guilty.tensors)


def described(guilty: Guilty | None, error: JvpError) -> Iterator[str]:
    """One line for each tensor: its text, shape and dtype; for einsum its letters."""
    tensors = _tensors(guilty)
    if not tensors:
        yield from error.details
        return
    width = max(len(operand.name) for operand in tensors)
    letters = _letters(guilty) if guilty else {}
    for operand in tensors:
        line = f"{operand.name.ljust(width)}  shape {operand.shape}, {_dtype(operand)}"
        yield line + (f"   {letters[operand.span]}" if operand.span in letters else "")


def _tensors(guilty: Guilty | None) -> list[Written]:
    return list(_once(guilty.tensors + guilty.listed)) if guilty else []


def _dtype(operand: Written) -> str:
    assert isinstance(operand.value, Tensor)
    return str(operand.value.dtype).removeprefix("torch.")


def _record(operand: Written) -> Mapping[str, Any]:
    """An operand in the error's document."""
    return {"text": operand.text, "shape": list(operand.shape), "dtype": _dtype(operand)}


def _once(operands: Sequence[Written]) -> Iterator[Written]:
    """Operands of the same text and shape once."""
    seen = set()
    for operand in operands:
        if (operand.text, operand.shape) not in seen:
            seen.add((operand.text, operand.shape))
            yield operand


def _letters(guilty: Guilty) -> dict[tuple[int, int], str]:
    """For einsum what each letter stands for: `i=2 j=3`."""
    equation = next((operand.value for operand in guilty.all if isinstance(operand.value, str)), None)
    tensors = guilty.listed or guilty.tensors
    if guilty.name != "einsum" or equation is None:
        return {}
    groups = equation.replace(" ", "").partition("->")[0].split(",")
    return {
        operand.span: " ".join(f"{letter}={size}" for letter, size in zip(group, operand.shape, strict=False))
        for group, operand in zip(groups, tensors, strict=False)
        if "." not in group
    }


# Repairs: edits derived from the operands and their shapes, the likeliest first.  A family yields whole sources; whether
# one works is not known here, and found out by trying it.


def repairs(family: str, guilty: Guilty, found: Found, general: bool = True) -> Iterator[Repair]:
    """Sources with an edit each: those of the family, those that any operation may need, then cuts.

    `family` is what the message's card says (`FILE.NAME`), or nothing: of the message nothing is known but that it is about
    shapes.  `general` says whether it is: other failures have no general repairs.
    """
    own = family_of("elementwise.assigning" if guilty.op == "op:setitem" else family)
    seen = {_bare(guilty.source)}
    cuts: list[Repair] = []
    for edited in chain(own(guilty, found), anything(guilty, found) if general else ()):
        repair = Repair(edited) if isinstance(edited, str) else edited
        if repair is None or _bare(repair.source) in seen:
            continue
        seen.add(_bare(repair.source))
        if repair.drops:
            cuts.append(repair)
        else:
            yield repair
    yield from cuts


def family_of(name: str) -> Family:
    """The family of repairs that a card names; one without repairs for no name."""
    if not name:
        return lambda guilty, found: iter(())
    module, _, function = name.partition(".")
    family: Family = getattr(import_module(f"jvpcli.repairs.{module}"), function)
    return family


def _bare(source: str) -> str:
    """Two sources that differ in white space alone are one."""
    return "".join(source.split())


def first_that_work(candidates: Iterator[Repair], works: Callable[[str], bool]) -> list[Repair]:
    """The first repairs whose sources work, of those that are tried; a cut only if nothing else does."""
    found: list[Repair] = []
    for number, repair in enumerate(candidates):
        if number >= TRIES or len(found) >= MOST or (found and repair.drops):
            break
        if works(repair.source):
            found.append(repair)
    return found
