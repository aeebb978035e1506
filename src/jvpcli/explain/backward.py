"""Failures of the backward pass: torch's own words and the user's own code, told as errors of the evaluation."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jvpcli.errors import EvaluationError, JvpError
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.imports import failure_in, files_of, place_of

CUSTOM = (
    (
        re.compile(r"function (?P<name>\w+?)Backward returned an incorrect number of gradients "
                   r"\(expected (?P<expected>\d+), got (?P<got>\d+)\)", re.IGNORECASE),
        "`{name}.backward` must return one gradient for each argument of `{name}.forward`, {expected} here, in the same order, "
        "and None for an argument that has none (a number, a flag).",
    ),
    (
        re.compile(r"function (?P<name>\w+?)Backward returned an invalid gradient at index (?P<index>\d+) - "
                   r"got (?P<got>\[.*?\]) but expected shape compatible with (?P<expected>\[.*?\])", re.IGNORECASE),
        "What `{name}.backward` returns for argument {index} of `{name}.forward` must have that argument's shape, {expected}, "
        "and has {got}. If forward broadcast the argument, sum the gradient over the broadcast axes.",
    ),
)  # fmt: skip
"""What torch says of a custom function's backward, and what that means."""


@contextmanager
def backward_failures(evaluation: Evaluation, expression: Any = None) -> Iterator[None]:
    """Whatever autograd, or the user's own backward, raises inside comes out as an EvaluationError.

    Raises:
        EvaluationError: the backward pass failed.
        Exception: whatever else was raised.
    """
    files = files_of(evaluation.functions, expression)
    try:
        yield
    except (JvpError, MemoryError):
        raise
    except Exception as error:
        if not _from_autograd(error) and place_of(error, files) is None:
            raise
        raise _told(error, files) from error


def _from_autograd(error: Exception) -> bool:
    """Whether the innermost frames are torch's engine."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "_engine_run_backward" for frame in frames)


def _told(error: Exception, files: tuple[str, ...]) -> JvpError:
    text = str(error).strip()
    for pattern, meaning in CUSTOM:
        match = pattern.search(text)
        if match:
            return EvaluationError(
                f"the backward of `{match['name']}` is wrong: {text[:1].lower()}{text[1:].splitlines()[0]}",
                explanation=meaning.format(**match.groupdict()),
                torch_message=text,
            )
    if place_of(error, files) is not None:
        return failure_in(error, files, "the backward pass")
    first = text.splitlines()[0].rstrip(".") if text else type(error).__name__
    return EvaluationError(f"the backward pass failed: {first}", torch_message=text or None)
