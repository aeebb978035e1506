"""What a program saves of tensors, and loads again: it is kept in memory, by the names of its files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from jvpcli.closed import reach
from jvpcli.closed.words import INERT, BytesIO, Path
from jvpcli.errors import ForbiddenError

PLAIN = frozenset({int, float, complex, bool, str, type(None)})
"""Types of what is saved as it is."""


def saving() -> dict[str, Callable[..., Any]]:
    """`torch.save` and `torch.load`, for one run of a program."""
    kept: dict[str | BytesIO, Any] = {}

    def save(obj: Any, f: Any, *_: Any, **__: Any) -> Any:
        if isinstance(f, (str, Path, BytesIO)):
            kept[_place(f)] = _copied(obj)
        return INERT

    def load(f: Any, *_: Any, **__: Any) -> Any:
        path = _place(f) if isinstance(f, (str, Path, BytesIO)) else ""
        if path not in kept:
            raise ForbiddenError(f"A program reads no files but those that it has saved itself: `{f}` is none.")
        return _copied(kept[path])

    return {"save": save, "load": load}


def _place(f: str | Path | BytesIO) -> str | BytesIO:
    return f if isinstance(f, BytesIO) else posixpath.normpath(str(f))


class _Unread:
    """What is not kept: it can be saved, and not be loaded."""


def _copied(value: Any) -> Any:
    """Tensors, numbers and texts, in lists and dictionaries, as a file would hold them.

    Raises:
        ForbiddenError: it is what was not kept of something else.
    """
    kind = type(value)
    if kind in reach.TENSORS:
        return value.detach().clone().requires_grad_(value.requires_grad and value.is_leaf)
    if kind in PLAIN:
        return value
    if kind in (list, tuple):
        return kind(map(_copied, value))
    if kind in reach.DICTS and all(type(key) in PLAIN for key in value):
        return {key: _copied(each) for key, each in value.items()}
    if kind is _Unread:
        raise ForbiddenError("Of what a program has saved, tensors, numbers and texts alone can be loaded.")
    return _Unread()
