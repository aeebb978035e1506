"""What can go wrong, as data: one exception type per `error.code` of the JSON contract.

Low code raises a short fact; the boundary that knows more (the expression, the shapes, a command that works)
adds it with :meth:`JvpError.with_context`.  Renderers turn the fields into a panel or a JSON document.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

Span = tuple[int, int]
"""Start and end, in characters (not bytes) of the expression."""


class ExitCode(IntEnum):
    """The process's exit code for each kind of outcome."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REFUSED = 3
    SHAPE_MISMATCH = 4
    EVALUATION = 5
    NOT_DIFFERENTIABLE = 6
    LIMIT = 7
    CHECK_FAILED = 8
    INTERRUPTED = 130


@dataclass(eq=False)
class JvpError(Exception):
    """A failure that a user is told about.

    Attributes:
        message: the fact, one sentence.
        explanation: expected, got and why, in plain words; may have several lines.
        hints: what to do about it; a hint that is a command can be run as it stands.
        span: the guilty part of `source`, in characters.
        source: the text that `span` points into (the expression, or a VALUE's text).
        expected, got: shapes, where the failure is about shapes.
        torch_message: PyTorch's own words, for those who search for them.
        details: lines of evidence shown between the source and the explanation.
        operands: text, shape and dtype of each tensor that the failing step got.
        causes, cures: of one of PyTorch's messages, what it usually comes from and what helps, the likeliest first.
        failed: the step of the tape that failed with the values it got (`program.FailedStep`), from which it is explained.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    message: str
    explanation: str = ""
    hints: Sequence[str] = ()
    span: Span | None = None
    source: str | None = None
    expected: tuple[int, ...] | None = None
    got: tuple[int, ...] | None = None
    torch_message: str | None = None
    details: Sequence[str] = ()
    operands: Sequence[Mapping[str, Any]] = ()
    causes: Sequence[str] = ()
    cures: Sequence[str] = ()
    failed: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.message

    def with_context(self, **fields: Any) -> JvpError:
        """This failure with `fields` filled in where they are still empty."""
        for name, value in fields.items():
            if not getattr(self, name):
                setattr(self, name, value)
        return self

    def to_dict(self) -> Mapping[str, Any]:
        """The `error` object of the JSON contract."""
        return {
            "code": self.code,
            "message": self.message,
            "explanation": self.explanation,
            "hints": list(self.hints),
            "span": list(self.span) if self.span else None,
            "expected": list(self.expected) if self.expected is not None else None,
            "got": list(self.got) if self.got is not None else None,
            "torch_message": self.torch_message,
            "operands": [dict(operand) for operand in self.operands],
            "causes": list(self.causes),
            "cures": list(self.cures),
        }


def why(error: OSError | ValueError, path: object) -> str:
    """Why the system would not open or write a file, in its own words where they tell it."""
    if isinstance(error, ValueError):
        return "no file has such a name"
    if not os.path.isabs(str(path)) and not has_folder():
        return "the current folder has been removed"
    return error.strerror or str(error)


def has_folder() -> bool:
    """Whether the current folder is there: it may have been removed since the shell went to it."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


class InternalError(JvpError):
    """A bug in jvp."""


class UsageError(JvpError):
    """A wrong option or argument."""

    code = "usage"
    exit_code = ExitCode.USAGE


class BadValueError(JvpError):
    """A VALUE that cannot be read."""

    code = "bad_value"
    exit_code = ExitCode.USAGE


class FileError(JvpError):
    """A file that cannot be read or written."""

    code = "file"
    exit_code = ExitCode.USAGE


class ExpressionSyntaxError(JvpError):
    """Text that is not an expression of the language."""

    code = "syntax"
    exit_code = ExitCode.REFUSED


class ForbiddenError(JvpError):
    """Something that an expression may not do."""

    code = "forbidden"
    exit_code = ExitCode.REFUSED


class UnknownNameError(JvpError):
    """A name that is neither an input nor a function that an expression can call."""

    code = "unknown_name"
    exit_code = ExitCode.REFUSED


class ShapeMismatchError(JvpError):
    """Shapes that do not fit: of a cotangent, a tangent, or two operands inside the expression."""

    code = "shape_mismatch"
    exit_code = ExitCode.SHAPE_MISMATCH


class EvaluationError(JvpError):
    """torch failed while evaluating."""

    code = "evaluation"
    exit_code = ExitCode.EVALUATION


class NotDifferentiableError(JvpError):
    """No gradient reaches the output."""

    code = "not_differentiable"
    exit_code = ExitCode.NOT_DIFFERENTIABLE


class LimitError(JvpError):
    """It would need, or took, more than the memory limit or the timeout."""

    code = "limit"
    exit_code = ExitCode.LIMIT


UNREAD = (ForbiddenError, UnknownNameError, ExpressionSyntaxError, LimitError, NotDifferentiableError, EvaluationError)
"""What the language says of a program that it doesn't read, or can't carry out."""

REFUSALS = (*UNREAD, UsageError)
"""That, and what it says of what is asked of a program; of shapes that don't fit it has met the tensors themselves."""

LESS_MEMORY = ("make the inputs smaller, or raise --memory-limit",)
"""Hints where memory ran out."""

NO_MEMORY = ("you tried to allocate", "bad_alloc", "bad allocation", "out of memory")
"""torch's wordings where memory is short."""


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters: the end of a longer one is cut off."""
    return text if len(text) <= most else (text[: most - 1] + "…")[:most]


def words_of(error: BaseException) -> str:
    """What an error says; one of a user's own may fail at that, which is told as Python's tracebacks do."""
    try:
        return str.__str__(str(error))  # which may be a text with methods of its own
    except Exception:
        return "<exception str() failed>"


def missing_name(error: BaseException) -> str | None:
    """The name that has no value, as Python itself notes it down, and no class of a user's own; None: it is none."""
    name = vars(NameError)["name"].__get__(error) if isinstance(error, NameError) else None
    return name if type(name) is str else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch could not get the memory it wanted."""
    text = words_of(error).lower()
    return isinstance(error, MemoryError) or any(wording in text for wording in NO_MEMORY)


def as_error(error: Exception) -> JvpError:
    """An unexpected exception as what the user is told."""
    text = words_of(error)
    if is_out_of_memory(error) or "size calculation overflowed" in text:
        words = None if isinstance(error, MemoryError) else text.partition("\n")[0]
        return LimitError("there is not enough memory for this", torch_message=words, hints=LESS_MEMORY)
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({where[0].name}, line {where[0].lineno})" if where else ""
    return InternalError(
        f"{type(error).__name__}: {text or 'no message'}{place}",
        explanation="This is a bug in jvp. --debug shows where it happened.",
    )


def too_late(seconds: float) -> LimitError:
    """What is told of a run, or of a line of a batch, that took too long."""
    return LimitError(f"it took longer than {seconds:g} s", hints=("make the inputs smaller, or raise --timeout",))


class InterruptedByUser(JvpError):
    """Ctrl-C."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
