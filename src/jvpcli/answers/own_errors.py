"""What code of the user's own raises while Python asks: it comes through as itself, with what it means as a note."""

from __future__ import annotations

import io

from jvpcli.answers.uncaught import explained
from jvpcli.errors import JvpError
from jvpcli.recording.places import OURS, frames_of, is_library


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
        own.add_note(shown(meaning))
    return own


def is_own(error: BaseException) -> bool:
    """Whether an exception came up in code of the user's own that jvpcli has called."""
    own = False
    for trace in frames_of(error.__traceback__):
        file = trace.tb_frame.f_code.co_filename
        own = not file.startswith(OURS) and (own or not is_library(file))
    return own


def shown(error: JvpError) -> str:
    """A failure as the command line prints it, without colours."""
    from jvpcli.render.error import render_error
    from jvpcli.render.terminal import Terminal

    stream = io.StringIO()
    render_error(error, Terminal(file=stream, width=100, color_system=None))
    return stream.getvalue().rstrip("\n")
