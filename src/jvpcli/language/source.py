"""The text of an expression: read into a syntax tree, and places in it in characters."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jvpcli.errors import ExpressionSyntaxError, JvpError, LimitError, Span
from jvpcli.language.chains import characters_by_byte, read_pieces

MAX_LENGTH = 500_000
"""Characters in an expression."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text as given, and how `ast`'s places in it are to be read.

    Attributes:
        source: the text as given.
        lines: its lines without their indentation, which has no meaning here.
        starts: where each line begins in `source`.
        columns: for each line, characters by UTF-8 byte; empty where they are the same.
        pieces: trees that names in the tree stand for, where the text was read in pieces.
    """

    source: str
    lines: tuple[str, ...]
    starts: tuple[int, ...]
    columns: tuple[Sequence[int], ...]
    pieces: Mapping[str, ast.expr] = field(default_factory=dict)

    def position(self, line: int, column: int) -> int:
        """Place in characters of a line (from 1) and a column as `ast` counts."""
        table = self.columns[line - 1]
        return self.starts[line - 1] + (table[column] if table else column)

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
    text = split_lines(source)
    code = "\n".join(text.lines)
    try:
        with warnings.catch_warnings():  # Python warns of odd literals on stderr
            warnings.simplefilter("ignore")
            return text, ast.parse(code)
    except SyntaxError as error:
        raise _syntax_error(error, text) from None
    except ValueError as error:
        raise ExpressionSyntaxError(f"The expression can't be read: {error}.", source=source) from None
    except (RecursionError, MemoryError):
        pass
    try:
        tree, pieces = read_pieces(code)
    except Exception:  # whatever the pieces fail with: the whole was too deep already
        raise LimitError(
            "The expression nests too deeply to be read.", source=source, hints=["Give parts a name: y = …; z = f(y)."]
        ) from None
    return replace(text, columns=((),) * len(text.lines), pieces=pieces), tree


def split_lines(source: str) -> SourceText:
    """The lines without their indentation, and where they begin."""
    lines, starts, begin = [], [], 0
    for match in re.finditer(r"\r\n|\r|\n|\Z", source):
        line = source[begin : match.start()]
        stripped = line.lstrip(" \t\f")
        lines.append(stripped)
        starts.append(begin + len(line) - len(stripped))
        begin = match.end()
    return SourceText(source, tuple(lines), tuple(starts), tuple(map(characters_by_byte, lines)))


def _syntax_error(error: SyntaxError, text: SourceText) -> JvpError:
    """Python's message with the place in characters of the whole text."""
    message = (error.msg or "invalid syntax").partition(". Perhaps you forgot")[0].rstrip(".?")
    if "too many nested parentheses" in message:
        return LimitError("The expression nests too deeply: too many brackets inside each other.", source=text.source)
    message = f"{message[:1].upper()}{message[1:]}."
    if not error.lineno or not error.offset or error.lineno > len(text.lines):
        return ExpressionSyntaxError(message, source=text.source)
    start = text.starts[error.lineno - 1] + error.offset - 1
    end_line, end_offset = error.end_lineno or 0, error.end_offset or 0
    in_text = 0 < end_line <= len(text.lines) and end_offset > 0
    end = text.starts[end_line - 1] + end_offset - 1 if in_text else start + 1
    start = min(max(start, 0), len(text.source))
    end = min(max(end, start + 1), max(len(text.source), start + 1))  # one beyond the end, where something is missing
    return ExpressionSyntaxError(message, span=(start, end), source=text.source)
