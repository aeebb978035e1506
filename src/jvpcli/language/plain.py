"""Plain values of expressions: numbers, words and lists of such, known from the text alone.  Loads no torch."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from jvpcli.language.names import copied, dotted

MOST_ITEMS = 5000
"""Of a list that is computed."""

MOST_BITS = 64
"""Of whole numbers that are computed."""



class NoPlainError(Exception):
    """An expression has no plain value."""


OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv, ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip

NUMBERS = (int, float, bool)
PLAIN = (*NUMBERS, str, type(None))


def plain_value(node: ast.expr, known: Callable[[ast.expr], Any] | None = None) -> Any:
    """The plain value of an expression: numbers, words, lists of such.

    Raises:
        NoPlainError: it has none.
    """

    def of(part: ast.expr) -> Any:
        return plain_value(part, known)

    if isinstance(node, ast.Constant) and isinstance(node.value, PLAIN):
        return node.value
    if isinstance(node, (ast.Name, ast.Attribute)) and known is not None:
        return known(node)
    if isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(part, ast.Starred) for part in node.elts):
        items = [of(part) for part in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        value = of(node.operand)
        return not value if isinstance(node.op, ast.Not) else -_number(value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = of(node.left), of(node.right)
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            return _filled(left, right)
        if isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, (list, tuple)):
            return _short(left + right)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return _word(left + right)
        return _small(OPERATORS[type(node.op)](_number(left), _number(right)))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
        left, right = of(node.left), of(node.comparators[0])
        if not isinstance(left, PLAIN) or not isinstance(right, PLAIN):
            raise NoPlainError
        return OPERATORS[type(node.ops[0])](left, right)
    if isinstance(node, ast.BoolOp):
        for part in node.values[:-1]:
            if bool(value := of(part)) is isinstance(node.op, ast.Or):
                return value
        return of(node.values[-1])
    if isinstance(node, ast.IfExp):
        return of(node.body if of(node.test) else node.orelse)
    if isinstance(node, ast.JoinedStr):
        return _word("".join(_part(part, of) for part in node.values))
    if isinstance(node, ast.Subscript):
        return _taken(of(node.value), node.slice, of)
    if isinstance(node, ast.Call) and not node.keywords:
        return _called(dotted(node.func), [of(part) for part in node.args])
    raise NoPlainError


MOST_CHARACTERS = 100
"""Of a word that is put together."""


def _filled(text: str, value: Any) -> str:
    """`"layer_%d" % 3`, and nothing else of formats."""
    if len(text) > MOST_CHARACTERS or text.count("%") != 1 or not ("%d" in text or "%s" in text) or type(value) is not int:
        raise NoPlainError
    return text.replace("%d", str(value)).replace("%s", str(value))


def _part(node: ast.expr, of: Callable[[ast.expr], Any]) -> str:
    """A part of `f"layer_{k}"`, and nothing else of formats."""
    is_value = isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None
    value = of(node.value if is_value and isinstance(node, ast.FormattedValue) else node)
    if type(value) not in (int, str):
        raise NoPlainError
    return str(value)


def _word(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise NoPlainError
    return text


def _taken(items: Any, key: ast.expr, of: Callable[[ast.expr], Any]) -> Any:
    if not isinstance(items, (list, tuple)):
        raise NoPlainError
    if isinstance(key, ast.Slice):
        return items[slice(*(None if part is None else of(part) for part in (key.lower, key.upper, key.step)))]
    return items[of(key)]


def _called(name: str, values: list[Any]) -> Any:
    if name == "len" and len(values) == 1 and isinstance(values[0], (list, tuple)):
        return len(values[0])
    if name == "range" and 0 < len(values) < 4 and all(type(value) is int for value in values):
        return _short(range(*values))
    if name == "str" and len(values) == 1 and type(values[0]) in (int, str):
        return _word(str(values[0]))
    if name in ("zip", "enumerate") and values and all(isinstance(value, (list, tuple)) for value in values):
        return _short(list(zip(*values, strict=False) if name == "zip" else enumerate(*values)))
    if name in ("int", "float") and len(values) == 1:
        return int(_number(values[0])) if name == "int" else float(_number(values[0]))
    raise NoPlainError


def _number(value: Any) -> Any:
    if not isinstance(value, NUMBERS):
        raise NoPlainError
    return value


def _small(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise NoPlainError
    return value


def _short(items: Any) -> list[Any] | tuple[Any, ...]:
    if len(items) > MOST_ITEMS:
        raise NoPlainError
    return items if isinstance(items, tuple) else list(items)


def _held(value: Any) -> int:
    """How many items a list holds, those of its items among them, as far as it matters."""
    found = 1
    for each in value if isinstance(value, (list, tuple)) else ():
        found += _held(each) if found <= MOST_ITEMS else 0
    return found


def literal(value: Any, node: ast.AST) -> ast.expr:
    """A plain value as an expression.

    Raises:
        NoPlainError: it is none, or holds too many items.
    """
    if _held(value) > MOST_ITEMS:
        raise NoPlainError
    if isinstance(value, (list, tuple)):
        items = [literal(each, node) for each in value]
        return ast.copy_location(ast.List(items, ast.Load()) if isinstance(value, list) else ast.Tuple(items, ast.Load()), node)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise NoPlainError
    if not isinstance(value, PLAIN):
        raise NoPlainError
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return ast.copy_location(ast.UnaryOp(ast.USub(), ast.copy_location(ast.Constant(-value), node)), node)
    return ast.copy_location(ast.Constant(value), node)


class Filled(ast.NodeTransformer):
    """Puts values in the place of names."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name that is read."""
        return copied(self.values[node.id]) if node.id in self.values and isinstance(node.ctx, ast.Load) else node

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.Lambda) -> ast.AST:
        """What has names of its own, which may hide others."""
        own = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        own |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        if not isinstance(node, ast.Lambda):
            node.generators[0].iter = self.visit(node.generators[0].iter)
        outer, self.values = self.values, {name: value for name, value in self.values.items() if name not in own}
        self.generic_visit(node)
        self.values = outer
        return node

    visit_GeneratorExp = visit_DictComp = visit_Lambda = visit_ListComp


def is_literal(node: ast.expr) -> bool:
    """Whether an expression has a plain value."""
    try:
        plain_value(node)
    except (NoPlainError, ArithmeticError, TypeError, IndexError, ValueError):
        return False
    return True
