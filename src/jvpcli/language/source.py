"""The text of an expression or program: read into a syntax tree, and places in it in characters.

What of a text as it was copied is the program, `sessions` tells.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from jvpcli.errors import ExpressionSyntaxError, JvpError, LimitError, Span
from jvpcli.language import BLANKS

MAX_LENGTH = 500_000
"""Characters in an expression."""

PIECE = 400
"""Operators in one piece of a chain that is too long to be read at once."""

FIRST_NAME, LAST_NAME = 0x4E00, 0x9FFF
"""Names for the pieces: ideographs, of which those in the text are skipped."""

ADDITIVE = frozenset({"+", "-"})
MULTIPLICATIVE = frozenset({"*", "/", "@", "//", "%"})
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
POWER_OR_DOT = frozenset({"**", ".", "~"})
KEYWORDS = frozenset({"if", "else", "and", "or", "not", "in", "is", "for", "lambda", "await", "async", "yield"})


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text as given, and how `ast`'s places in it are to be read.

    Attributes:
        source: the text as given.
        lines: its lines as they are read: without prompts, and without indentation that means nothing.
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
        end = getattr(node, "end_lineno", None)  # what is made of others only begins where they do
        return start, start if end is None else self.position(end, node.end_col_offset)  # type: ignore[attr-defined]


def read_source(source: str) -> tuple[SourceText, ast.Module]:
    """The text and its syntax tree.

    Raises:
        ExpressionSyntaxError: with the place, in Python's own words.
        LimitError: it is too long, or nests deeper than Python can read.
    """
    if len(source) > MAX_LENGTH:
        raise LimitError(f"The expression has {len(source):,} characters; at most {MAX_LENGTH:,} are read.")
    failures: list[tuple[SyntaxError, SourceText]] = []
    for text in _readings(source):
        code = "\n".join(text.lines)
        try:
            with warnings.catch_warnings():  # Python warns of odd literals on stderr
                warnings.simplefilter("ignore")
                return text, ast.parse(code)
        except SyntaxError as error:
            failures.append((error, text))
        except ValueError as error:
            raise ExpressionSyntaxError(f"The expression can't be read: {error}.", source=source) from None
        except (RecursionError, MemoryError):
            break
    else:
        raise _syntax_error(*max(failures, key=_how_far)) from None
    try:
        tree, pieces = read_pieces(code)
    except Exception:  # whatever the pieces fail with: the whole was too deep already
        raise LimitError(
            "The expression nests too deeply to be read.", source=source, hints=["Give parts a name: y = …; z = f(y)."]
        ) from None
    return replace(text, columns=((),) * len(text.lines), pieces=pieces), tree


CHAIN, NUMBER = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.\w+)+(?=\s*[(\[])"), re.compile(r"\.(\d+)(?=\.|$)")
"""Names joined by dots in front of a bracket, and a number among them."""


def _readings(source: str) -> Iterator[SourceText]:
    """The text as it is, of one line; as it was typed; then without what no Python reads, as it was copied along."""
    if "\n" not in source and "\r" not in source and not source.lstrip(BLANKS).startswith(("In", "tensor")):
        yield from _ways(source, [(0, source)])
    from jvpcli.language.sessions import typed, without_answers  # most texts are one line of Python

    lines = typed(source)
    yield from _ways(source, lines)
    rest = without_answers(lines)
    if rest != lines and any(line.strip(BLANKS) for _, line in rest):
        yield from _ways(source, rest)


def _ways(source: str, lines: Sequence[tuple[int, str]]) -> Iterator[SourceText]:
    """The lines as Python reads them; then with parts of modules by number, which no Python reads."""
    yield from _indentations(source, lines)
    if any(True for _, line in lines for _ in _numbered(line)):
        yield from map(_with_brackets, _indentations(source, lines))


def _indentations(source: str, lines: Sequence[tuple[int, str]]) -> Iterator[SourceText]:
    """The text without any indentation, which means nothing where there are no blocks; then with it, without its margin.

    The last is for a text whose first line was copied without its margin.
    """
    yield _text(source, [(start + len(line) - len(line.lstrip(BLANKS)), line.lstrip(BLANKS)) for start, line in lines])
    if any(line[:1] in BLANKS and line.strip(BLANKS) for _, line in lines):
        yield _text(source, _without_margin(lines))
        yield _text(source, [*lines[:1], *_without_margin(lines[1:])])


def _with_brackets(text: SourceText) -> SourceText:
    """The text with `net.0` read as `net[0]`, as modules name their parts; places stay those of the text as given."""
    lines, columns = [], []
    for line in text.lines:
        written, places, end = "", list[int](), 0
        for start, number in _numbered(line):
            written += f"{line[end:start]}[{number}]"
            places += [*range(end, start + 1 + len(number)), start + 1 + len(number)]
            end = start + 1 + len(number)
        lines.append(written + line[end:])
        places += range(end, len(line) + 1)
        columns.append([places[index] for index in characters_by_byte(lines[-1]) or range(len(lines[-1]) + 1)])
    return replace(text, lines=tuple(lines), columns=tuple(columns))


def _numbered(line: str) -> Iterator[tuple[int, str]]:
    """Each number that stands for a name behind a dot: the dot's place, and the number."""
    for chain in CHAIN.finditer(line):
        yield from ((chain.start() + match.start(), match[1]) for match in NUMBER.finditer(chain[0]))


def _without_margin(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Lines without the blanks that all of them begin with (but those that say nothing)."""
    saying = [line for _, line in lines if line.strip(BLANKS) and not line.lstrip(BLANKS).startswith("#")]
    margin = min((len(line) - len(line.lstrip(BLANKS)) for line in saying), default=0)
    return [(start + margin, line[margin:]) if line[:margin].strip(BLANKS) == "" else (start, line) for start, line in lines]


def _text(source: str, lines: Sequence[tuple[int, str]]) -> SourceText:
    texts = tuple(line for _, line in lines)
    return SourceText(source, texts, tuple(start for start, _ in lines), tuple(map(characters_by_byte, texts)))


def _how_far(failure: tuple[SyntaxError, SourceText]) -> tuple[bool, int]:
    """Of several readings that fail that one is told of which fails last, and not over indentation."""
    error, _ = failure
    return not isinstance(error, IndentationError), error.lineno or 0


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


# Very long chains (x+x+…, 10,000 terms): Python's parser refuses them, so they are read in pieces.  A chain of
# left-associative operators is cut at an operator, and what stands before the cut, a complete left operand, is replaced
# by a one-character name.  The pieces nest no deeper than Python can read, and are put together again while lowering:
# wherever a piece's name stands, its tree is meant.


@dataclass
class _Level:
    """The operators seen so far inside one pair of brackets: where the running sum and product begin."""

    sum_start: int | None = None
    product_start: int | None = None
    sums: int = 0
    products: int = 0
    after_operand: bool = False


def read_pieces(text: str) -> tuple[ast.Module, dict[str, ast.expr]]:
    """The tree of the text, and the trees of the pieces that names in it stand for; columns are in characters.

    Raises:
        SyntaxError, RecursionError, MemoryError: as `ast.parse`, where cutting chains doesn't help.
    """
    text = _joined(text)
    names = (chr(code) for code in range(FIRST_NAME, LAST_NAME) if chr(code) not in text)
    pieces: dict[str, ast.expr] = {}
    characters = list(text)
    for start, end in _cuts(text):
        name, piece = next(names, None), "".join(characters[start:end])
        if name is None or "\n" in piece:
            raise RecursionError
        tree = ast.parse(f"({piece})", mode="eval").body
        _place(tree, piece, text, start)
        pieces[name] = tree
        characters[start:end] = [name, *" " * (end - start - 1)]
    rest = "".join(characters)
    module = ast.parse(rest)
    _to_characters(module, rest.split("\n"))
    return module, pieces


def _joined(text: str) -> str:
    """The text with comments and the line breaks inside brackets as spaces, every character in its place."""
    if "\n" not in text and "#" not in text:
        return text
    starts, characters, depth = _line_starts(text), list(text), 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP:
            depth += (token.string in OPENING) - (token.string in CLOSING)
        elif token.type == tokenize.COMMENT or (token.type == tokenize.NL and depth > 0):
            begin = starts[token.start[0] - 1] + token.start[1]
            characters[begin : begin + len(token.string)] = " " * len(token.string)
    return "".join(characters)


def _cuts(text: str) -> list[tuple[int, int]]:
    """Start and end of each prefix to replace, in the order in which to do it (a later one may hold an earlier)."""
    starts = _line_starts(text)
    levels = [_Level()]
    cuts: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        begin = starts[token.start[0] - 1] + token.start[1]
        level = levels[-1]
        if token.string in OPENING and token.type == tokenize.OP:
            _operand(level, begin)
            levels.append(_Level())
        elif token.string in CLOSING and token.type == tokenize.OP and len(levels) > 1:
            levels.pop()
            levels[-1].after_operand = True
        else:
            cuts.extend(_step(level, token, begin, text))
    return cuts


def _step(level: _Level, token: tokenize.TokenInfo, begin: int, text: str) -> Iterator[tuple[int, int]]:
    """Account for one token; yield the cuts that it makes due."""
    string = token.string
    is_operator = token.type == tokenize.OP
    if is_operator and string in POWER_OR_DOT:
        level.after_operand = False
        if string == "~":
            _operand(level, begin)
            level.after_operand = False
    elif is_operator and string in ADDITIVE and not level.after_operand:
        _operand(level, begin)
        level.after_operand = False
    elif is_operator and string in ADDITIVE and level.sum_start is not None:
        level.sums += 1
        if level.sums >= PIECE:
            yield level.sum_start, _trimmed(text, begin)
            level.sums = 0
        level.product_start, level.products, level.after_operand = None, 0, False
    elif is_operator and string in MULTIPLICATIVE and level.product_start is not None and level.after_operand:
        level.products += 1
        if level.products >= PIECE:
            yield level.product_start, _trimmed(text, begin)
            level.products = 0
        level.after_operand = False
    elif token.type in (tokenize.NUMBER, tokenize.STRING) or (token.type == tokenize.NAME and string not in KEYWORDS):
        _operand(level, begin)
    else:
        level.sum_start = level.product_start = None
        level.sums = level.products = 0
        level.after_operand = False


def _operand(level: _Level, begin: int) -> None:
    """An operand begins (or goes on) here."""
    if level.sum_start is None:
        level.sum_start = begin
    if level.product_start is None:
        level.product_start = begin
    level.after_operand = True


def _trimmed(text: str, end: int) -> int:
    """The end without the spaces before it."""
    while text[end - 1].isspace():
        end -= 1
    return end


def _line_starts(text: str) -> list[int]:
    return list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))


def _place(tree: ast.expr, piece: str, text: str, start: int) -> None:
    """Move a piece's tree, parsed behind a bracket, to where the piece stands; columns in characters."""
    table = characters_by_byte(f"({piece})")
    line = text.count("\n", 0, start) + 1
    shift = start - (text.rfind("\n", 0, start) + 1) - 1
    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.keyword)):
            node.lineno = node.end_lineno = line
            node.col_offset = _at(table, node.col_offset) + shift
            node.end_col_offset = _at(table, node.end_col_offset or 0) + shift


def _to_characters(tree: ast.AST, lines: Sequence[str]) -> None:
    """Turn a tree's columns from UTF-8 bytes into characters."""
    tables = [characters_by_byte(line) for line in lines]
    if not any(tables):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr, ast.keyword)):
            node.col_offset = _at(tables[node.lineno - 1], node.col_offset)
            node.end_col_offset = _at(tables[(node.end_lineno or 1) - 1], node.end_col_offset or 0)


def _at(table: Sequence[int], column: int) -> int:
    return table[column] if table else column


NOT_ASCII = re.compile(r"[^\x00-\x7f]", re.ASCII)


def characters_by_byte(line: str) -> Sequence[int]:
    """The character to which each UTF-8 byte belongs; empty where they are the same."""
    if line.isascii():
        return ()
    table, end = list[int](), 0
    for match in NOT_ASCII.finditer(line):  # a long text has few of them: all between two are taken at once
        table += range(end, match.start())
        table += [match.start()] * len(match[0].encode(errors="surrogatepass"))
        end = match.end()
    return [*table, *range(end, len(line) + 1)]


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a text alone, as a docstring, or an output that was pasted between quotes."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
