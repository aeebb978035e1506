"""An error of a user's own code, explained from the very operands: which sub-expression, which shapes, what cut the graph.

What the recording proves of the cause comes first, and stands alone; only where it proves nothing, the usual causes are listed.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

from jvpcli.answers.causes import cause_of, misfit, misread, modules_in
from jvpcli.answers.graph_ends import Cause
from jvpcli.answers.operands import Operand, operands_of, told
from jvpcli.errors import EvaluationError, JvpError, ShapeMismatchError, words_of
from jvpcli.language.values import dtype_name
from jvpcli.messages.matcher import Raised, advice, explanation, find
from jvpcli.recording.places import OURS, TORCH, Place, frames_of, is_library, place_of
from jvpcli.recording.recorder import Recorder, path_of
from jvpcli.recording.tape import operation_of
from jvpcli.report.lookup import Explanation

MOST_OPERANDS = 12
"""Tensors that are listed."""


def explained_chain(error: BaseException, recorder: Recorder | None) -> JvpError | None:
    """What an uncaught error means, or else the one that it came up over, which stands above it in the traceback."""
    met: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in met:
        found = explained(here, recorder)
        if found is not None:
            return found
        met.add(id(here))
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    return None


def explained(error: BaseException, recorder: Recorder | None) -> JvpError | None:
    """What an error means; None where nothing is known of it.

    Its place is the innermost frame of the user's own; the operands are those that the call of torch that raised it was given.
    Without a recorder they are those that the sub-expression names, and nothing is said of what came before.  Where no code of
    the user's own is among the frames, as in a module of torch's layers, the message is explained, and which layer doesn't fit.
    """
    own = [trace for trace in frames_of(error.__traceback__) if not is_library(trace.tb_frame.f_code.co_filename)]
    text = words_of(error).strip()
    match = find(Raised(type(error).__name__, text, "".join(traceback.format_tb(error.__traceback__))))
    kind = ShapeMismatchError if match is not None and match.is_about_shapes else EvaluationError
    if not own:
        return None if match is None else _meaning(explanation(match), misfit(*modules_in(error)), kind, text)
    place = place_of(own[-1])
    attempt = recorder.failed if recorder is not None else None
    attempt = attempt if attempt is not None and attempt.error is error else None
    cause = misread(text, place, own[-1])
    if cause is None and match is None and attempt is None and not _is_torch_s(error):
        return None
    operands = list(operands_of(attempt, own[-1], place, recorder))
    op = "" if attempt is None else operation_of(attempt.function) or getattr(attempt.function, "__name__", "")
    known = None if match is None else explanation(match, tuple((o.name, tuple(o.tensor.shape)) for o in operands), op)
    modules, given = (attempt.modules, ()) if attempt is not None else modules_in(error)
    if cause is None:
        cause = cause_of(text, recorder, attempt, operands, own[-1], place) if recorder is not None else misfit(modules, given)
    proved = cause is not None and cause.whole
    first = text.splitlines()[0] if text else type(error).__name__
    shown = place if cause is None or cause.place is None else cause.place
    lines = [_where(place, path_of(modules))] if shown == place else [_where(shown), f"raised at {_where(place)}"]
    return kind(
        message=known.title if known else f"{place.text or place.short} failed: {first}",
        explanation="\n".join(filter(None, (cause.words if cause else "", known.meaning if known else ""))),
        hints=_hints(cause if proved else None, known),
        span=shown.span if shown.source else None,  # code that was made as the program ran may have no text
        source=shown.source or None,
        torch_message=text or None,
        details=(*lines, *_table(operands)),
        operands=tuple(
            {"text": o.name, "shape": list(o.tensor.shape), "dtype": dtype_name(o.tensor.dtype)} for o in operands
        ),
        causes=known.causes if known and not proved else (),
        cures=known.cures if known and not proved else (),
    )


def _meaning(known: Explanation, cause: Cause | None, kind: type[JvpError], text: str) -> JvpError:
    return kind(
        message=known.title,
        explanation="\n".join(filter(None, (cause.words if cause else "", known.meaning))),
        hints=_hints(cause, known),
        torch_message=text,
        causes=() if cause else known.causes,
        cures=() if cause else known.cures,
    )


def _is_torch_s(error: BaseException) -> bool:
    """Whether it was raised by Python code of torch itself, and not by what that has called, here or in another process."""
    code = frames_of(error.__traceback__)[-1].tb_frame.f_code
    told = isinstance(error, (RuntimeError, ValueError, TypeError, AssertionError))
    return told and code.co_filename.startswith(TORCH) and code.co_name != "reraise"


def _hints(cause: Cause | None, known: Explanation | None) -> tuple[str, ...]:
    if cause is not None:
        return () if cause.cure is None else (cause.cure,)
    return advice(known) if known else ()


def _where(place: Place, module: str = "") -> str:
    """`train.py:12, in forward, module encoder.0: self.fc(x)`."""
    function = "" if place.function == "<module>" else f", in {place.function}"
    return told(f"{place.short}{function}{f', module {module}' if module else ''}", place.text)


def _table(operands: Sequence[Operand]) -> Iterator[str]:
    shown = operands[:MOST_OPERANDS]
    width = max((len(o.name) for o in shown), default=0)
    for o in shown:
        yield f"  {o.name.ljust(width)}  {o.line}"
    if len(operands) > len(shown):
        yield f"  and {len(operands) - len(shown)} more"


# Where Python asks


def as_own(error: Exception) -> Exception:
    """The exception that a question has ended with, or the user's own behind it; what is known of it is noted on it.

    Notes need Python 3.11; before, there is none.
    """
    cause = error.__cause__
    own = cause if isinstance(error, JvpError) and isinstance(cause, Exception) and is_own(cause) else error
    if isinstance(own, JvpError):
        return own
    meaning = explained(own, None)
    if meaning is None and isinstance(error, JvpError):
        error.torch_message = None  # those are the exception's own words
        meaning = error
    if meaning is not None and hasattr(own, "add_note"):
        from jvpcli.render.error import error_text

        own.add_note(error_text(meaning))
    return own


def is_own(error: BaseException) -> bool:
    """Whether an exception came up in code of the user's own that jvpcli has called."""
    own = False
    for trace in frames_of(error.__traceback__):
        file = trace.tb_frame.f_code.co_filename
        own = not file.startswith(OURS) and (own or not is_library(file))
    return own
