"""What the table knows of PyTorch's message, added to an error that carries one."""

from __future__ import annotations

from jvpcli.errors import JvpError
from jvpcli.explain.messages import lookup
from jvpcli.report import Explanation

MOST = 2
"""Cures that become hints."""


def worded(error: JvpError) -> JvpError:
    """The error with the causes and cures that `jvp explain` gives for its message, and the meaning behind its own words."""
    told = lookup(error.torch_message) if error.torch_message else None
    if told is None:
        return error
    error.explanation = "\n".join(filter(None, (error.explanation, told.meaning)))
    return error.with_context(causes=told.causes, cures=told.cures)


def advice(told: Explanation) -> tuple[str, ...]:
    """The first cures that are words: the commands among them show the rule, not the expression at hand."""
    return tuple(cure for cure in told.cures if not cure.startswith("jvp "))[:MOST]
