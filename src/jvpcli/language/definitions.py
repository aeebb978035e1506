"""Definitions of classes as they stand in a text: dataclasses, mixins, annotated fields.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Callable

from jvpcli.language.names import dotted
from jvpcli.language.objects import Class, placed
from jvpcli.language.plain import plain_or_none

RECORDS = ("dataclass", "dataclasses.dataclass")
"""The decorators that give a class the `__init__` of its fields."""


NAMED = "typing.NamedTuple"
"""The class by which a class is a tuple whose items have names."""


def named_tuple(node: ast.stmt, path: Callable[[str], str]) -> ast.ClassDef | None:
    """`P = namedtuple("P", ["a", "b"])` as a class; None of anything else.  `path` tells what a name means by its imports."""
    call = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
    if call is None or path(dotted(call.func)) != "collections.namedtuple" or len(call.args) != 2 or call.keywords:
        return None
    assert isinstance(node, ast.Assign)
    given, name = plain_or_none(call.args[1]), dotted(node.targets[0])
    names = given.replace(",", " ").split() if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or len(node.targets) != 1 or not name.isidentifier():
        return None
    known = all(isinstance(each, str) and each.isidentifier() and not each.startswith("_") for each in names)
    if not known or not names or len({*names}) < len(names) or plain_or_none(call.args[0]) != name:
        return None
    body: list[ast.stmt] = [ast.AnnAssign(ast.Name(each, ast.Store()), ast.Constant(None), None, 1) for each in names]
    base = ast.Attribute(ast.Name("typing", ast.Load()), "NamedTuple", ast.Load())
    return placed(ast.ClassDef(name, [base], [], body, []), node)


def plain_part(node: ast.stmt) -> list[ast.stmt]:
    """A statement of a class without its annotation; nothing of one that gives no value."""
    if isinstance(node, ast.AnnAssign):
        return [] if node.value is None else [placed(ast.Assign([node.target], node.value), node)]
    return [] if isinstance(node, ast.Pass) else [node]


def with_fields(node: ast.ClassDef, base: Class | None) -> ast.ClassDef:
    """A dataclass with the `__init__` that it stands for."""
    if any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body):
        return node
    fields = {dotted(part.target): part for part in node.body if isinstance(part, ast.AnnAssign)}
    if base is not None and "__init__" in base.methods:
        return node
    if any(name.startswith("__") for name in fields):
        return node
    taken = [placed(ast.arg(name), part) for name, part in fields.items()]
    values = [part.value for part in fields.values() if part.value is not None]
    body: list[ast.stmt] = [
        placed(ast.Assign([ast.Attribute(ast.Name("self", ast.Load()), name, ast.Store())], ast.Name(name, ast.Load())), part)
        for name, part in fields.items()
    ]
    if any(isinstance(part, ast.FunctionDef) and part.name == "__post_init__" for part in node.body):
        last = ast.Attribute(ast.Name("self", ast.Load()), "__post_init__", ast.Load())
        body.append(placed(ast.Expr(ast.Call(last, [], [])), node))
    own = placed(ast.arg("self"), node)
    arguments = ast.arguments(posonlyargs=[], args=[own, *taken], kwonlyargs=[], kw_defaults=[], defaults=values)
    made = placed(ast.FunctionDef("__init__", arguments, body or [ast.Pass()], []), node)
    return placed(ast.ClassDef(node.name, node.bases, [], [made, *node.body], []), node)


def is_mixin(kind: Class) -> bool:
    """Whether a class only has methods of its own, so that it means the same behind other bases."""
    uses_super = any(dotted(node) == "super" for method in kind.methods.values() for node in ast.walk(method))
    plain = kind.base is None and kind.torchs is None and not kind.is_function
    return plain and "__init__" not in kind.methods and not uses_super


def record_mark(node: ast.expr) -> str:
    """`dataclass` of `@dataclass` and of `@dataclass(frozen=True)`."""
    if not isinstance(node, ast.Call):
        return dotted(node)
    plain = not node.args and all(isinstance(keyword.value, ast.Constant) for keyword in node.keywords)
    return dotted(node.func) if plain else ""
