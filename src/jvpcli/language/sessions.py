"""A text as people copy it, from a session, a notebook or a page: what of it was typed, line by line.

Prompts are taken off, and what stands without one, the answers, is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from jvpcli.language import BLANKS

PROMPT = re.compile(r"[ \t]*(?:>>>?|In \[(?:\d+|None)\]:|\.\.\.:?)(?: |$)")
"""What a session of Python or IPython puts before a line that was typed."""

CELL = re.compile(r"[ \t]*In ?\[(?:[\d ]*|None)\]:[ \t]*")
"""What stands alone above a cell of a notebook."""

QUOTED = re.compile(r"> (?=[\w(])")
NUMBER = re.compile(r"\[\d+\]:")
OUT = re.compile(r"[ \t]*Out ?\[[\d ]*\]:")
TENSOR = re.compile(r"^[(\[{]*tensor\(", re.MULTILINE)
OBJECT = re.compile(r"[(\[{]*(?:tensor\(|torch\.Size\(|array\(|OrderedDict\(|<)")
ANSWER = re.compile(rf"{OBJECT.pattern}|[(\[{{]*-?\d|(?:True|False|None)\b")
"""How what a cell shows begins, where it could be read as Python."""

NAMED = re.compile(r"\btensor\s*=[^=]|\bimport\b.*\btensor\b|\bimport \*|\bdef tensor\b")
"""What gives `tensor` a meaning of its own."""

QUOTES = re.compile(r"\"{3}|'{3}")
CONTINUED = ("else", "elif", "except", "finally", ")", "]", "}")
"""How a paragraph of code begins that is none by itself."""

FENCE = re.compile(r"[ \t]*(?:```|~~~)")
MAGIC = re.compile(r"[ \t]*%(?:timeit|time)(?: -\w+(?: ?\d+)?)* +(?=\w)")
"""What times the code behind it."""

COMMAND = re.compile(r"[ \t]*(?:!|%%?)[A-Za-z]")
TRACEBACK = re.compile(r"[ \t]*(?:\w+ +)?Traceback \(most recent call last\)")
ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Warning|Interrupt)(?::|$)")
OUTPUT = re.compile(r"(?:Out|[Oo]utput|OUTPUT) ?(?:\[\d*\])?:|-{5,}$|Variable containing|\[torch\.\w+ of size")
"""What stands above an answer, or below it."""

STATEMENT = re.compile(r"([ \t]*print) (?=[\w\"'\[{(-])(?!\(.*\)[ \t]*$)(.*?\S)(\s+#[^'\"]*)?")
"""The `print` of Python 2."""

Line = tuple[int, str]
"""Where a line begins, and its text."""


def is_session(lines: Iterable[str]) -> bool:
    """Whether some lines of a text have the prompts of a session."""
    return any(map(_begins, lines))


def _begins(line: str) -> bool:
    """Whether something new is typed on a line of a session."""
    return line.lstrip(BLANKS).startswith((">>", "In [")) and PROMPT.match(line) is not None


def prompts(source: str) -> list[int]:
    """The lines of a session, counted from 1, on which something new is typed, whatever the one before has raised."""
    lines = _quoted(_numbered(list(_lines(source))))
    return [source.count("\n", 0, start) + 1 for start, line in lines if _begins(line)]


def _quoted(lines: Sequence[Line]) -> Iterator[Line]:
    """The lines without the `> ` of a page before what is typed, where no line of Python can begin so."""
    depth, continued = 0, False
    for start, line in lines:
        taken = 2 if depth <= 0 and not continued and QUOTED.match(line) else 0
        start, line = start + taken, line[taken:]
        depth += 0 if line.startswith("#") else sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        continued = line.endswith("\\")
        yield start, line


def _numbered(lines: Sequence[Line]) -> list[Line]:
    """The lines, with `In [3]:` where `[3]:` stands alone above a cell of a page, and `Out[3]:` where it stands there again."""
    found, seen = [], set[str]()
    for start, line in lines:
        again = line in seen
        seen |= {line} if (is_number := NUMBER.fullmatch(line) is not None) else set()
        found.append((start, f"{'Out' if again else 'In '}{line}" if is_number else line))
    return found


def _lines(source: str) -> Iterator[Line]:
    begin = 0
    for match in re.finditer(r"\r\n|\r|\n|\Z", source):
        yield begin, source[begin : match.start()]
        begin = match.end()


def typed(source: str) -> list[Line]:
    """The lines; of a session those that were typed, without their prompts, and empty ones for the others."""
    lines = list(_quoted(_numbered(list(_lines(source)))))
    if not is_session(line for _, line in lines):
        shown = TENSOR.search(source) and not NAMED.search(source)
        return list(_without(lines, TENSOR)) if shown else lines
    if any(CELL.fullmatch(line) for _, line in lines):
        return _cells(lines)
    prompted = [(start, line, PROMPT.match(line)) for start, line in lines]
    return [(start + found.end(), line[found.end() :]) if found else (start, "") for start, line, found in prompted]


def without_answers(lines: Sequence[Line]) -> list[Line]:
    """The lines without what no Python reads: answers among them, tracebacks, commands of a notebook, a page's words around
    its blocks of code; `print x` is `print(x)`."""
    fenced = any(FENCE.match(line) for _, line in lines)
    inside = failing = False
    kept: list[Line] = []
    for start, line in lines:
        if FENCE.match(line):
            inside, line = not inside, ""
        elif fenced and not inside:
            line = ""
        elif failing or TRACEBACK.match(line):
            failing, line = not ERROR.match(line), ""
        elif found := MAGIC.match(line):
            start, line = start + found.end(), line[found.end() :]
        elif COMMAND.match(line) and line[:1] in " \t":  # a block may hold it alone
            line = f"{line[: len(line) - len(line.lstrip())]}pass"
        elif COMMAND.match(line) or ERROR.match(line) or (OUTPUT.match(line) and not OBJECT.search(line)):
            line = ""
        elif found := STATEMENT.fullmatch(line):
            line = f"{found[1]}({found[2]}){found[3] or ''}"
        kept.append((start, line))
    return list(_without(kept, re.compile(f"(?:{OUTPUT.pattern}|{OBJECT.pattern})")))


def _without(lines: Sequence[Line], answer: re.Pattern[str]) -> Iterator[Line]:
    """The lines, empty where an answer stands that begins so: up to where its brackets are closed."""
    level = depth = 0  # of an answer, and of what is typed
    for start, line in lines:
        balance = sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        if level > 0 or (depth <= 0 and answer.match(line)):
            level, line = level + balance, ""
        elif not line.lstrip(BLANKS).startswith("#"):
            depth += balance
        yield start, line


def _cells(lines: Sequence[Line]) -> list[Line]:
    """Of a notebook whose cells stand below their prompt, what was typed: a cell ends where an answer begins.

    That is at `Out[3]:`, or, where outputs have no such mark, below an empty line at what is no Python or what a tensor prints.
    """
    kept: list[Line] = []
    typed = begun = below_empty = quoted = False
    for number, (start, line) in enumerate(lines):
        if (found := PROMPT.match(line)) and not CELL.fullmatch(line):  # typed behind its prompt
            typed, start, line = False, start + found.end(), line[found.end() :]
        elif CELL.fullmatch(line):
            typed, begun, quoted, line = True, False, False, ""
        elif OUT.match(line) or (begun and below_empty and not quoted and _answers(lines, number)):
            typed = False
        below_empty = not line.strip(BLANKS)
        begun = typed and (begun or not below_empty)
        quoted ^= len(QUOTES.findall(line)) % 2 == 1
        kept.append((start, line if typed or found else ""))
    return kept


def _answers(lines: Sequence[Line], number: int) -> bool:
    """Whether the lines from there to the next empty one are no part of a program."""
    if lines[number][1][:1] in (*BLANKS, ""):  # of a block that began before
        return False
    paragraph = list(takewhile(str.strip, (lines[k][1] for k in range(number, len(lines)))))
    if ANSWER.match(paragraph[0]):
        return True
    try:
        ast.parse("\n".join(paragraph))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return not paragraph[0].startswith(CONTINUED)
    return False
