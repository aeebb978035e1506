"""Where in the user's own files something happens: file, line, and the text of the very sub-expression."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace, TracebackType
from typing import Any, NamedTuple

import torch

from jvpcli.program import PROGRAM, cited_line

TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parents[1])
RECORDING = str(Path(__file__).parent)
CLOSED = str(Path(OURS) / "closed")
BESIDE = (RECORDING, CLOSED)
"""Where code of ours stands between a call that a program makes and torch: what notes it down, and the guards."""

PYTHON = sysconfig.get_path("stdlib")
OF_SOURCE = ("__name__", "__loader__", "__spec__")
"""The globals of a frame by which the text of its file is found where the file is none of a disk, as in a zip archive."""

NO_FILES = ("<frozen", "<__array_function__", "<string>")
"""What the names of code begin with that no file of a user holds."""


@cache
def is_library(file: str) -> bool:
    """Whether code of this file is torch's, ours, or Python's own, and not what a user looks at."""
    if file.startswith((TORCH, OURS, *NO_FILES)):
        return True
    return file.startswith(PYTHON) and "site-packages" not in file


class Point(NamedTuple):
    """An instruction of a program, from which its place is read when it is asked for: cheap to note down."""

    code: CodeType
    instruction: int
    line: int
    names: Mapping[str, Any]

    def place(self) -> Place:
        """The place in the file."""
        return place_at(self.code, self.instruction, self.line, self.names)


@dataclass(frozen=True)
class Place:
    """A place in a file.

    Attributes:
        file: the file's name, as Python has it.
        line: its number, from 1.
        function: the name of the function that the line is in; `<module>` outside of functions.
        text: the sub-expression that is carried out there; the line, without blanks around it, where it can't be told.
        name: the variable that the sub-expression's value is assigned to, if the statement does just that.
        node: its syntax tree, if it is known.
    """

    file: str
    line: int
    function: str
    text: str
    name: str | None = None
    node: ast.AST | None = None

    @property
    def short(self) -> str:
        """`train.py:12`."""
        return cited_line(self.file, self.line)

    @property
    def cited(self) -> str:
        """The place and its text, as sentences name it."""
        return f"{self.short}, `{self.text}`" if self.text else self.short

    @property
    def span(self) -> tuple[int, int]:
        """Where in its line the sub-expression stands: all of the line, where it goes on in others."""
        start = self.source.find(self.text)
        return (start, start + len(self.text)) if start >= 0 else (0, len(self.source))

    @cached_property
    def source(self) -> str:
        """The line as it stands in the file."""
        import linecache

        return linecache.getline(self.file, self.line).strip()


def user_point(noting: str = OURS) -> Point | None:
    """Where the user's own code is right now: the innermost frame that is not a library's; None where jvpcli made the call.

    The innermost frames of files whose names begin with `noting` are those that note the call down.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(noting):
        frame = frame.f_back
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_library(file):
            names = frame.f_globals  # a graph holds its points: with all names, its own tensors among them, it would never go
            return Point(frame.f_code, frame.f_lasti, frame.f_lineno, {each: names[each] for each in OF_SOURCE if each in names})
        if file.startswith(OURS) and not file.startswith(BESIDE):
            return None
        frame = frame.f_back
    return None


def frames_of(trace: TracebackType | None) -> list[TracebackType]:
    """The frames that an exception with this traceback came through, the outermost first."""
    found = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def place_of(trace: TracebackType) -> Place:
    """The place of one frame of a traceback."""
    frame = trace.tb_frame
    return place_at(frame.f_code, trace.tb_lasti, trace.tb_lineno, frame.f_globals)


def place_at(code: CodeType, instruction: int, line: int, names: Mapping[str, Any]) -> Place:
    """The place of an instruction; `names` are the globals of its frame."""
    try:
        guarded = code.co_filename == PROGRAM
        found, source = _node_of_program(code, instruction) if guarded else _node(code, instruction, line, names)
        node = _whole(found)
        text = _text_of(node, source)
    except Exception:  # a file that is gone, or has changed since: the line's number stays true
        node, text = None, ""
    if not text:
        import linecache

        text = linecache.getline(code.co_filename, line, dict(names)).strip()
    name = _assigned(node) if node is not None else None
    number = getattr(node, "lineno", line) if node is not None else line
    return Place(code.co_filename, number, code.co_name, text, name, node)


def _node(code: CodeType, instruction: int, line: int, names: Mapping[str, Any]) -> tuple[Any, str]:
    """The node of an instruction, None where it can't be told, and the text of its file."""
    from executing import Source

    frame: Any = SimpleNamespace(f_code=code, f_lasti=instruction, f_lineno=line, f_globals=names)
    found = Source.executing(frame)
    return found.node, found.source.text


def _node_of_program(code: CodeType, instruction: int) -> tuple[Any, str]:
    """`_node` of an instruction of a pasted program: there are guards in its tree, which are where what they guard is.

    Raises:
        AttributeError: this Python keeps no places of instructions.
    """
    import linecache

    source = "".join(linecache.getlines(PROGRAM))
    place = next(islice(code.co_positions(), instruction // 2, None))  # type: ignore[attr-defined]  # from Python 3.11 on
    return _nodes(source).get(place), source


@lru_cache(maxsize=4)
def _nodes(source: str) -> Mapping[Any, Any]:
    """The nodes of a text by their places: first and last line, first and last column; each knows its `parent`."""
    found: dict[Any, Any] = {}
    for node in ast.walk(ast.parse(source)):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
        if isinstance(node, (ast.expr, ast.stmt)):
            found[node.lineno, node.end_lineno, node.col_offset, node.end_col_offset] = node
    return found


def _whole(node: Any) -> Any:
    """What is shown of a node: of a loop what it goes over, of an assignment into an object, `h[0] = 0.`, all of it.

    Of other statements with a body nothing is: their instruction is no expression of theirs.
    """
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return node.iter
    if hasattr(node, "body") and isinstance(node, ast.stmt):
        return None
    stores = isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store)
    parent = getattr(node, "parent", None)
    return parent if stores and isinstance(parent, (ast.Assign, ast.AugAssign)) else node


def _text_of(node: Any, source: str) -> str:
    """The text of a node on one line; nothing where there is no node, or it has no place of its own."""
    text = ast.get_source_segment(source, node) if node is not None and hasattr(node, "lineno") else None
    return " ".join((text or "").split())


def _assigned(node: Any) -> str | None:
    """The variable that a statement gives a sub-expression's value to, where it does nothing else with it."""
    parent = getattr(node, "parent", None)
    if isinstance(parent, ast.Assign) and parent.value is node and len(parent.targets) == 1:
        target = parent.targets[0]
        return target.id if isinstance(target, ast.Name) else None
    if isinstance(parent, ast.AnnAssign) and parent.value is node and isinstance(parent.target, ast.Name):
        return parent.target.id
    return None


def pieces(value: Any) -> Iterator[Any]:
    """The parts of nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for part in value:
            if isinstance(part, (tuple, list, dict)):
                yield from pieces(part)
            else:
                yield part
    elif isinstance(value, dict):
        for part in value.values():
            yield from pieces(part)
    else:
        yield value
