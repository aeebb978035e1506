"""What the table knows of PyTorch's message, added to an error that carries one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from jvpcli.errors import JvpError
from jvpcli.explain.logs import Raised
from jvpcli.explain.messages import Match, explanation, find, lookup, room
from jvpcli.report import Notice
from jvpcli.report.explanation import Explanation

MOST = 2
"""Cures that become hints."""


SHAPE_ROOMS = ("products", "algebra", "broadcasting", "rearranging", "indexing", "layers", "losses")
"""Rooms of the table whose messages are about shapes and places in them."""

NOT_SHAPES = frozenset(
    {"singular", "not-positive-definite", "svd-not-finite", "class-probabilities", "probability-range", "empty-list"}
)
"""Entries of those rooms that are about something else."""

E = TypeVar("E", bound=JvpError)


def worded(error: JvpError) -> JvpError:
    """The error with the causes and cures that `jvp explain` gives for its message, and the meaning behind its own words."""
    told = lookup(error.torch_message) if error.torch_message else None
    if told is None:
        return error
    error.explanation = "\n".join(filter(None, (error.explanation, told.meaning)))
    return error.with_context(causes=told.causes, cures=told.cures)


def with_causes(error: E) -> E:
    """The same without the meaning, for an error that says it in its own words."""
    told = lookup(error.torch_message) if error.torch_message else None
    if told is not None:
        error.causes, error.cures = told.causes, told.cures
    return error


def spoken(warnings: Sequence[str]) -> Iterator[Notice]:
    """Those of torch's warnings that are known and about shapes; what cuts a graph is measured, and told elsewhere."""
    for text in dict.fromkeys(warnings):
        match = find(Raised("Warning", text))
        if match is not None and is_about_shapes(match):
            told = explanation(match)
            yield Notice("torch_warning", f"{told.title}. {told.meaning}")


def is_about_shapes(match: Match) -> bool:
    """Whether a known message is about shapes, or places in them."""
    ids = {entry.id for name in SHAPE_ROOMS for entry in room(name)}
    return match.entry.id in ids - NOT_SHAPES


def advice(told: Explanation) -> tuple[str, ...]:
    """The first cures that are words: the commands among them show the rule, not the expression at hand."""
    return tuple(cure for cure in told.cures if not cure.startswith("jvp "))[:MOST]
