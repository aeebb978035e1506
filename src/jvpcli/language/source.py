"""The text of an expression: read into a syntax tree, and places in it in characters."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from jvpcli.errors import ExpressionSyntaxError, LimitError, Span

MAX_LENGTH = 1_000_000
"""Characters in an expression."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text as given, and where its lines begin once their indentation is taken away (it has no meaning here)."""

    source: str
    lines: tuple[str, ...]
    starts: tuple[int, ...]

    def position(self, line: int, column: int) -> int:
        """Place in characters of a line (from 1) and a column in UTF-8 bytes, as `ast` counts."""
        text = self.lines[line - 1]
        characters = column if text.isascii() else len(text.encode()[:column].decode(errors="ignore"))
        return self.starts[line - 1] + characters

    def span(self, node: ast.AST) -> Span:
        """Start and end of a node, in characters."""
        start = self.position(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return start, self.position(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def read_source(source: str) -> tuple[SourceText, ast.Module]:
    """The text and its syntax tree.

    Raises:
        ExpressionSyntaxError: with the place, in Python's own words.
        LimitError: it is too long, or nests deeper than Python can read.
    """
    if len(source) > MAX_LENGTH:
        raise LimitError(f"The expression has {len(source):,} characters; at most {MAX_LENGTH:,} are read.")
    text = _split(source)
    try:
        return text, ast.parse("\n".join(text.lines))
    except SyntaxError as error:
        raise _syntax_error(error, text) from None
    except (RecursionError, MemoryError):
        raise LimitError("The expression nests too deeply to be read.", source=source) from None
    except ValueError as error:
        raise ExpressionSyntaxError(f"The expression can't be read: {error}.", source=source) from None


def _split(source: str) -> SourceText:
    lines, starts, begin = [], [], 0
    for match in re.finditer(r"\r\n|\r|\n|\Z", source):
        line = source[begin : match.start()]
        stripped = line.lstrip(" \t\f")
        lines.append(stripped)
        starts.append(begin + len(line) - len(stripped))
        begin = match.end()
    return SourceText(source, tuple(lines), tuple(starts))


def _syntax_error(error: SyntaxError, text: SourceText) -> ExpressionSyntaxError:
    """Python's message with the place in characters of the whole text."""
    message = (error.msg or "invalid syntax").partition(" Perhaps you forgot")[0].rstrip(".?")
    message = f"{message[:1].upper()}{message[1:]}."
    if not error.lineno or not error.offset or error.lineno > len(text.lines):
        return ExpressionSyntaxError(message, source=text.source)
    start = text.starts[error.lineno - 1] + error.offset - 1
    end_line, end_offset = error.end_lineno or 0, error.end_offset or 0
    in_text = 0 < end_line <= len(text.lines) and end_offset > 0
    end = text.starts[end_line - 1] + end_offset - 1 if in_text else start + 1
    start = min(max(start, 0), len(text.source))
    return ExpressionSyntaxError(message, span=(start, max(end, start + 1)), source=text.source)
