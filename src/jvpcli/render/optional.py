"""Parts of jvp that need a library which is not always installed."""

from __future__ import annotations

from importlib.util import find_spec

from jvpcli.errors import UsageError


def installed(library: str) -> bool:
    """Whether a library is there; it is not loaded."""
    return find_spec(library) is not None


def check_installed(what: str, library: str, extra: str, instead: str = "") -> None:
    """Says how to install the library that `what` needs, if it is missing; `instead` names what does without it.

    Raises:
        UsageError: it is not installed.
    """
    if not installed(library):
        raise UsageError(
            f"{what} needs {library}, which is not installed",
            explanation=f"It is an optional part of jvp. {instead}".strip(),
            hints=(f"pip install 'jvpcli[{extra}]'",),
        )
