"""Renderers: reports to text, JSON and HTML; they know reports and no torch.

Here is what all of them need: text whose every character is seen (what a terminal would obey is written out, as
`\\x1b`), and the error where an optional library is missing.  Expressions, files, their names and the keys in them are
other people's text.  An escape sequence in it could colour, overwrite or retitle the terminal that shows it, and a mark
that turns the direction of writing round could make one text look like another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec

from jvpcli.errors import UsageError

_OBEYED = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069"
"""Control characters but for the line end and the tab, and marks that turn the direction of writing round."""

_IN_TEXT = re.compile(f"[{_OBEYED}]")
_IN_BYTES = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2(?:\x80[\xaa-\xae]|\x81[\xa6-\xa9])")
"""These characters in UTF-8, as far as a JSON encoder leaves them as they are."""

_ASCII = bytes(range(0x7F))

_ALL = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_CODES = [code for code in _ALL if _IN_TEXT.match(chr(code))]
_SHOWN: Mapping[int, str] = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CODES}
_ESCAPED: Mapping[int, str] = {code: f"\\u{code:04x}" for code in _CODES}


def visible(text: str) -> str:
    """The text with each character that a terminal would obey written as Python does: `\\x1b`, `\\u202e`."""
    return text.translate(_SHOWN) if _IN_TEXT.search(text) else text


def escaped(document: str) -> str:
    """A document that may hold JSON with each such character written as in JSON's strings: `\\u001b`."""
    return document.translate(_ESCAPED) if _IN_TEXT.search(document) else document


def escaped_json(document: bytes) -> bytes:
    """An encoded JSON document that can be shown as it is; it says the same, since such characters stand in strings."""
    if not _IN_BYTES.search(document.translate(None, _ASCII)):  # mostly numbers, which are passed over fast
        return document
    return _IN_BYTES.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), document)


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
