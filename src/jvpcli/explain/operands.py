"""Errors inside an expression: the operands as they are written, with their shapes; the rule that is broken; what works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from jvpcli.errors import EvaluationError, JvpError, ShapeMismatchError
from jvpcli.explain.guilty import Guilty, Written, find_guilty
from jvpcli.explain.logs import Raised
from jvpcli.explain.messages import Match, explanation, find, room
from jvpcli.explain.repairs.search import first_that_work, repairs
from jvpcli.explain.table.entry import Found
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.program import Program
from jvpcli.report import Shape

MOST = 2
"""Repairs that are shown."""

TRIES = 40
"""Expressions that are tried at most."""

PATIENCE = 2.0
"""Seconds after which no further expression is tried."""

SHAPE_ROOMS = ("products", "algebra", "broadcasting", "rearranging", "indexing", "layers", "losses")
"""Rooms of the table whose messages are about shapes and places in them."""

NOT_SHAPES = frozenset(
    {"singular", "not-positive-definite", "svd-not-finite", "class-probabilities", "probability-range", "empty-list"}
)
"""Entries of those rooms that are about something else."""


def explain_operands(
    error: JvpError, program: Program, try_expression: Callable[[str], bool], show: Callable[[str], str] = str
) -> JvpError:
    """The failure of a step of `program`, explained from its operands; of shapes it is a ShapeMismatchError.

    `try_expression` says whether a whole expression can be parsed and evaluated at the inputs; only repairs that it
    accepts become hints, in the form that `show` gives them (a command).  An error that carries no step, or whose
    message is unknown, is given back with what can be said of it.
    """
    if not isinstance(error, (EvaluationError, ShapeMismatchError)) or error.torch_message is None:
        return error
    match = find(Raised("Error", error.torch_message))
    guilty = find_guilty(error, program)
    if match is None and guilty is None:
        return error
    operands = shown_operands(guilty)
    told = None if match is None else explanation(match, operands, guilty.op if guilty else "")
    found = Found({} if match is None else match.groups)
    repaired = [] if guilty is None else _repaired(match, guilty, found, _patient(try_expression))
    about_shapes = isinstance(error, ShapeMismatchError) if match is None else is_about_shapes(match)
    kind = ShapeMismatchError if about_shapes else EvaluationError
    cause = "" if told is None or repaired or about_shapes or not told.causes else f"\nMost often: {told.causes[0]}"
    hints = [show(source) for source in repaired] or list(error.hints) or list(told.cures[:MOST] if told else ())
    return kind(
        message=told.title if told else error.message,
        explanation=(told.meaning + cause) if told else error.explanation,
        hints=tuple(hints),
        span=error.span,
        source=error.source,
        torch_message=error.torch_message,
        details=tuple(described(guilty, error)),
        failed=error.failed,
    )


def _repaired(match: Match | None, guilty: Guilty, found: Found, works: Callable[[str], bool]) -> list[str]:
    """The repairs that work; none where the operands are so odd that none can even be written."""
    sources = repairs(match.entry.id if match else None, guilty, found)
    try:
        return first_that_work(sources, works, MOST, TRIES)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return []  # an explanation without a repair is better than none


def trier(
    program: Program,
    inputs: Mapping[str, Tensor],
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    reads: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[str], bool]:
    """Whether an expression evaluates at the same inputs as `program`, and uses all of them.

    `functions` and `reads` are the imported functions, as `evaluate` and `parse` take them.
    """

    def works(source: str) -> bool:
        try:
            candidate = parse(source, inputs.keys(), reads)
            if set(candidate.inputs) != set(program.inputs):
                return False
            evaluate(candidate, inputs, seed=seed, memory_limit=memory_limit, functions=functions)
        except JvpError:
            return False
        return True

    return works


def is_about_shapes(match: Match) -> bool:
    """Whether a known message is about shapes, or places in them."""
    ids = {entry.id for name in SHAPE_ROOMS for entry in room(name)}
    return match.entry.id in ids - NOT_SHAPES


def _patient(try_expression: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same, but nothing is tried any more once it has taken too long."""
    end = time.monotonic() + PATIENCE

    def works(source: str) -> bool:
        return time.monotonic() < end and try_expression(source)

    return works


def shown_operands(guilty: Guilty | None) -> tuple[tuple[str, Shape], ...]:
    """Names and shapes of the tensors of the step: those of a list where it is written out."""
    if guilty is None:
        return ()
    return tuple((operand.name, operand.shape) for operand in guilty.listed or guilty.tensors)


def described(guilty: Guilty | None, error: JvpError) -> Iterator[str]:
    """One line for each tensor: its text, shape and dtype; for einsum its letters."""
    tensors = list(_once(guilty.tensors + guilty.listed)) if guilty else []
    if not tensors:
        yield from error.details
        return
    width = max(len(operand.name) for operand in tensors)
    letters = _letters(guilty) if guilty else {}
    for operand in tensors:
        assert isinstance(operand.value, Tensor)
        dtype = str(operand.value.dtype).removeprefix("torch.")
        line = f"{operand.name.ljust(width)}  shape {operand.shape}, {dtype}"
        yield line + (f"   {letters[operand.span]}" if operand.span in letters else "")


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
