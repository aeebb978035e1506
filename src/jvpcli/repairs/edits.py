"""The part of the source that failed: its operands as the user wrote them, with the values they had, and edits of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from jvpcli.errors import JvpError, Span, shortened
from jvpcli.language.source import SourceText, read_source
from jvpcli.messages.cards import Found
from jvpcli.program import FailedStep, Program
from jvpcli.report import Shape

ATOMS = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.List, ast.Tuple, ast.Constant, ast.ListComp)
"""What a suffix can be written behind without brackets around it."""

LONGEST_NAME = 40
"""Characters of an operand's text that are shown as its name."""

Edit = tuple[Span, str]
"""A part of the source and what to write in its place."""


@dataclass(frozen=True)
class Written:
    """An operand as it stands in the source, and its value.

    Attributes:
        text: its text, without brackets around it.
        span: its place.
        value: a tensor, number, text, or list of such.
        keyword: its name, for a keyword argument.
        atomic: whether a suffix can stand directly behind it.
        outer: the place with the brackets around it, where they belong to it.
        items: the elements, for a list or tuple that is written out.
    """

    text: str
    span: Span
    value: Any
    keyword: str | None = None
    atomic: bool = True
    outer: Span = (0, 0)
    items: tuple[Written, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of a tensor."""
        return tuple(self.value.shape)

    @property
    def name(self) -> str:
        """The text, on one line and cut where it is long."""
        return shortened(" ".join(self.text.split()), LONGEST_NAME)

    def behind(self, suffix: str) -> Edit:
        """`suffix` written behind it."""
        if not suffix:
            return self.outer, self.bracketed
        return self.outer, f"{self.bracketed}{suffix}"

    @property
    def bracketed(self) -> str:
        """The text as one term of a product."""
        return self.text if self.atomic else f"({self.text})"


@dataclass(frozen=True)
class Guilty:
    """The failing sub-expression.

    Attributes:
        source: the whole text.
        span: the place of the sub-expression.
        op: the operation, as in `Equation.op`.
        operands: the positional operands in the order of the step's, the owner of a method first; empty where the source
            doesn't show them one by one (a starred argument, a text that was read in pieces).
        keywords: the keyword arguments that are written out.
        callee: the place of the function's or method's name.
        node: its syntax tree.
    """

    source: str
    span: Span
    op: str
    operands: tuple[Written, ...]
    keywords: Mapping[str, Written] = field(default_factory=dict)
    callee: Span | None = None
    node: ast.AST | None = None

    @property
    def name(self) -> str:
        """`matmul` of `op:matmul`, `torch.matmul` and `.matmul`."""
        return self.op.partition(":")[2].rpartition(".")[2]

    @property
    def text(self) -> str:
        """The sub-expression."""
        return self.source[self.span[0] : self.span[1]]

    @cached_property
    def all(self) -> tuple[Written, ...]:
        """Positional operands, then keywords."""
        return (*self.operands, *self.keywords.values())

    @cached_property
    def tensors(self) -> tuple[Written, ...]:
        """The operands that are tensors."""
        return tuple(operand for operand in self.all if isinstance(operand.value, Tensor))

    @cached_property
    def listed(self) -> tuple[Written, ...]:
        """The tensors of a list or tuple that is written out as an operand."""
        for operand in self.all:
            if operand.items and all(isinstance(item.value, Tensor) for item in operand.items):
                return operand.items
        return ()

    def argument(self, name: str, position: int | None = None) -> Written | None:
        """The argument with this keyword, or at this position."""
        if name in self.keywords:
            return self.keywords[name]
        return self.operands[position] if position is not None and position < len(self.operands) else None

    def edited(self, *edits: Edit) -> str:
        """The whole source with some parts replaced; of parts in one another the outer one counts."""
        text, end = self.source, len(self.source) + 1
        for (start, stop), new in sorted(edits, reverse=True):
            if stop <= end:
                text, end = text[:start] + new + text[stop:], start
        return text

    def with_suffix(self, operand: Written, suffix: str) -> str:
        """The whole source with a suffix behind one operand; `y += b` as `y = y + b`, which may grow."""
        if isinstance(self.node, ast.AugAssign):
            left, right = (part.behind(suffix if part is operand else "")[1] for part in self.operands)
            sign = self.source[self.operands[0].outer[1] : self.operands[1].outer[0]].strip().rstrip("=")
            return self.edited((self.span, f"{self.operands[0].text} = {left} {sign} {right}"))
        return self.edited(operand.behind(suffix))

    def rewritten(self, text: str) -> str:
        """The whole source with the sub-expression replaced; with brackets unless it stands alone."""
        needs_none = self.source.strip() == self.text or (self.op.startswith("op:") and not text.startswith("-"))
        return self.edited((self.span, text if needs_none or _is_call(text) else f"({text})"))

    def renamed(self, name: str) -> str | None:
        """The whole source with another function or method of that name."""
        return None if self.callee is None else self.edited((self.callee, name))

    def with_argument(self, text: str) -> str | None:
        """The whole source with one argument more."""
        if not isinstance(self.node, ast.Call):
            return None
        end = self.span[1] - 1
        before = self.source[: self.span[1] - 1].rstrip()
        comma = "" if before.endswith("(") else " " if before.endswith(",") else ", "
        return self.source[:end] + comma + text + self.source[end:]


def _is_call(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, ATOMS)
    except SyntaxError:
        return False


def find_guilty(error: JvpError, program: Program) -> Guilty | None:
    """The failing sub-expression of an error that carries its step; None where there is none, or not in this source."""
    failed = error.failed
    if not isinstance(failed, FailedStep) or error.span is None or error.source != program.source:
        return None
    bare = Guilty(program.source, error.span, failed.step.op, ())
    try:
        text, tree = read_source(program.source)
    except JvpError:
        return bare
    if text.pieces:
        return bare
    node = _node_at(tree, text, error.span, failed.step.op)
    return bare if node is None else _described(bare, text, node, failed)


def _node_at(tree: ast.Module, text: SourceText, span: Span, op: str) -> ast.AST | None:
    """The node with this place that is of the operation's kind."""
    wanted = {"call": ast.Call, "builtin": ast.Call, "method": ast.Call, "attr": ast.Attribute}
    kinds: Any = wanted.get(op.partition(":")[0])
    if op == "op:setitem":
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and text.span(node.targets[0]) == span:
                return node
        return None
    kinds = kinds or (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.AugAssign)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and text.span(node) == span:
            return node
    return None


def _described(bare: Guilty, text: SourceText, node: ast.AST, failed: FailedStep) -> Guilty:
    """The operands of the node beside the values of the step."""
    nodes, keywords, callee = _parts(node, text)
    if len(nodes) != len(failed.arguments) or any(isinstance(part, ast.Starred) for part in nodes):
        return Guilty(bare.source, bare.span, bare.op, (), {}, callee, node)
    operands = tuple(_written(part, value, text, node) for part, value in zip(nodes, failed.arguments, strict=True))
    named = {
        name: _written(part, failed.keywords[name], text, node, name)
        for name, part in keywords.items()
        if name in failed.keywords
    }
    return Guilty(bare.source, bare.span, bare.op, operands, named, callee, node)


def _parts(node: ast.AST, text: SourceText) -> tuple[list[ast.expr], dict[str, ast.expr], Span | None]:
    """The operand nodes in the order of a step's operands, the keyword nodes, and the place of what is called."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right], {}, None
    if isinstance(node, ast.AugAssign):
        return [node.target, node.value], {}, None
    if isinstance(node, ast.Compare):
        return [node.left, node.comparators[0]], {}, None
    if isinstance(node, ast.UnaryOp):
        return [node.operand], {}, None
    if isinstance(node, ast.Subscript):
        return [node.value, node.slice], {}, None
    if isinstance(node, ast.Attribute):
        return [node.value], {}, _last_name(node, text)
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        assert isinstance(target, ast.Subscript)
        return [target.value, target.slice, node.value], {}, None
    assert isinstance(node, ast.Call)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    if isinstance(node.func, ast.Attribute):
        callee = _last_name(node.func, text)
        return [node.func.value, *node.args] if _is_method(node) else list(node.args), keywords, callee
    return list(node.args), keywords, text.span(node.func)


def _last_name(node: ast.Attribute, text: SourceText) -> Span:
    end = text.span(node)[1]
    return end - len(node.attr), end


def _is_method(node: ast.Call) -> bool:
    """Whether a call's owner is a value rather than one of the namespaces."""
    owner = node.func
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return not (isinstance(owner, ast.Name) and owner.id in ("torch", "F", "math"))


def _written(node: ast.expr, value: Any, text: SourceText, parent: ast.AST, keyword: str | None = None) -> Written:
    start, end = text.span(node)
    source = text.source
    items: tuple[Written, ...] = ()
    if isinstance(node, (ast.List, ast.Tuple)) and isinstance(value, (list, tuple)) and len(node.elts) == len(value):
        items = tuple(_written(part, item, text, node) for part, item in zip(node.elts, value, strict=True))
    outer = (start, end)
    own_brackets = isinstance(parent, (ast.BinOp, ast.UnaryOp, ast.Compare)) or (
        isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) and parent.func.value is node
    )
    if own_brackets and source[:start].rstrip().endswith("(") and source[end:].lstrip().startswith(")"):
        outer = (source[:start].rstrip().rindex("("), end + source[end:].index(")") + 1)
    return Written(source[start:end], (start, end), value, keyword, isinstance(node, ATOMS), outer, items)


def numbers(operands: Sequence[Written]) -> Iterator[Written]:
    """The operands, and items of tuples, that are whole numbers."""
    for operand in operands:
        if isinstance(operand.value, int) and not isinstance(operand.value, bool):
            yield operand
        yield from numbers(operand.items)


# Edits that several families of repairs share


@dataclass(frozen=True)
class Repair:
    """A whole source with an edit; `drops` says that it leaves entries of an operand out: only where nothing else works."""

    source: str
    drops: bool = False


Edits = Iterator[str | Repair | None]
"""Whole sources, or a `Repair` where entries are left out; None is passed over."""

Family = Callable[[Guilty, Found], Edits]
"""The repairs of a kind of failure."""


def cut(guilty: Guilty, operand: Written, suffix: str) -> Repair:
    """The whole source with a suffix that drops entries behind one operand."""
    return Repair(guilty.with_suffix(operand, suffix), drops=True)


def swapped(guilty: Guilty, first: Written, second: Written) -> str:
    """Two operands in each other's place."""
    return guilty.edited((first.outer, second.bracketed), (second.outer, first.bracketed))


def transposed(shape: Shape) -> str | None:
    """The suffix that turns the last two axes."""
    return None if len(shape) < 2 else ".T" if len(shape) == 2 else ".mT"


def head(depth: int, axis: int, size: int) -> str:
    """`[:, :3]`: the first entries along one axis."""
    marks = [":"] * (depth + axis) + [f":{size}"]
    return f"[{', '.join(marks)}]"


def joined(operands: Sequence[Written]) -> Span:
    """The place from the first operand to the last."""
    return operands[0].span[0], operands[-1].span[1]


def with_dim(guilty: Guilty, axis: int, *edits: tuple[tuple[int, int], str]) -> Edits:
    """The dim (second argument, or a keyword) set to `axis`, along with other edits."""
    dim = guilty.argument("dim", 1) or guilty.argument("axis")
    if dim is not None and isinstance(dim.value, int):
        yield guilty.edited((dim.span, str(axis)), *edits)
    elif isinstance(guilty.node, ast.Call) and guilty.source[guilty.span[1] - 1] == ")":
        end = guilty.span[1] - 1
        yield guilty.edited(((end, end), f", dim={axis}"), *edits)


def out_of_place(guilty: Guilty) -> Edits:
    """`y += b` as `y = y + b`, `y.add_(b)` as `y.add(b)`."""
    if isinstance(guilty.node, ast.AugAssign) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[0], "")
    if guilty.op.startswith("method:") and guilty.name.endswith("_"):
        yield guilty.renamed(guilty.name.rstrip("_"))


def anything(guilty: Guilty, found: Found) -> Edits:
    """A transpose, an axis of length 1, a flattening of one operand; two operands swapped."""
    tensors = guilty.listed or guilty.tensors
    for operand in tensors:
        suffix = transposed(operand.shape)
        yield guilty.with_suffix(operand, suffix) if suffix else None
    if len(tensors) == 2 and not guilty.name.endswith("_"):
        yield swapped(guilty, *tensors)
    for operand in tensors:
        yield guilty.with_suffix(operand, "[None]")
        yield guilty.with_suffix(operand, "[:, None]" if len(operand.shape) == 1 else "[..., None]")
        yield guilty.with_suffix(operand, ".squeeze()") if 1 in operand.shape else None
        yield guilty.with_suffix(operand, ".flatten()") if len(operand.shape) > 1 else None
    for operand in tensors:
        least = min((other.shape[0] for other in tensors if other.shape), default=0)
        yield cut(guilty, operand, f"[:{least}]") if operand.shape and operand.shape[0] > least > 0 else None
