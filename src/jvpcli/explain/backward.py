"""Failures of the backward pass: torch's own words and the user's own code, told as errors of the evaluation."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jvpcli.errors import EvaluationError, JvpError
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.operations import is_in_place
from jvpcli.program import Equation


@contextmanager
def backward_failures(evaluation: Evaluation, expression: Any = None) -> Iterator[None]:
    """Whatever autograd, or the user's own backward, raises inside comes out as an EvaluationError.

    Raises:
        EvaluationError: the backward pass failed.
        Exception: whatever else was raised.
    """
    try:
        yield
    except (JvpError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        from jvpcli.language.imports import files_of, place_of  # loaded only where something has failed

        files = files_of(evaluation.functions, expression)
        if not _from_autograd(error) and place_of(error, files) is None:
            raise
        raise _told(error, files, evaluation) from error


def _from_autograd(error: BaseException) -> bool:
    """Whether the innermost frames are torch's engine."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "_engine_run_backward" for frame in frames)


def _told(error: BaseException, files: tuple[str, ...], evaluation: Evaluation) -> JvpError:
    from jvpcli.language.imports import failure_in, place_of
    from jvpcli.messages.matcher import lookup, worded

    if place_of(error, files) is not None:
        return worded(failure_in(error, files, "the backward pass"))
    text = str(error).strip()
    told = lookup(text)
    first = told.title if told else text.splitlines()[0].rstrip(".") if text else type(error).__name__
    if first.startswith(("A ", "The ", "An ")):
        first = first[:1].lower() + first[1:]
    failure = worded(EvaluationError(f"the backward pass failed: {first}", torch_message=text or None))
    step = _changed_in_place(evaluation) if "inplace operation" in text else None
    if step is None or evaluation.program is None:
        return failure
    return failure.with_context(span=step.span, source=evaluation.program.source)


def _changed_in_place(evaluation: Evaluation) -> Equation | None:
    """The step that changes a tensor in place, if there is but one."""
    steps = {step.span: step for step in evaluation.tape if is_in_place(step.op)}
    return next(iter(steps.values())) if len(steps) == 1 else None
