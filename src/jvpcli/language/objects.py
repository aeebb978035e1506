"""What a program's classes and their objects are, as its text tells.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from jvpcli.language.names import dotted

DERIVED = ".derived"
"""The keyword, which no text can write, by which a constructor is told the classes of the program that the module is of, and
what they set anew of those of torch.nn."""

RESETS = "reset_parameters"
"""The method by which the `__init__` of torch's classes gives parameters their first numbers."""

MARKS, MATERIALIZES, ONCE = "mark_non_differentiable", "set_materialize_grads", "once_differentiable"
"""What the context of a Function says to torch, and a backward of itself: the keys of its dictionary under which that stands."""


@dataclass
class Class:
    """A class of the text, with what it has of those that it is derived from."""

    node: ast.ClassDef
    is_function: bool
    methods: dict[str, ast.FunctionDef]
    fields: list[ast.Assign]
    base: Class | None = None
    is_module: bool = False
    applies: bool = False
    named: list[str] | None = None
    """The names of its items, of a tuple that has such."""
    torchs: ast.expr | None = None
    """The class of torch.nn that it is derived from, other than nn.Module."""

    @property
    def line(self) -> list[Class]:
        """The class and those of the text that it is derived from."""
        return [self, *(self.base.line if self.base is not None else ())]

    @cached_property
    def sets(self) -> set[str]:
        """The attributes that its methods set, but for new parameters."""
        nodes = [part for method in self.methods.values() for part in ast.walk(method)]
        made = [part for part in nodes if isinstance(part, ast.Assign)]
        made = [part for part in made if dotted(getattr(part.value, "func", part)).endswith("Parameter")]
        new = {id(target) for part in made for target in part.targets}
        stored = [part for part in nodes if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)]
        return {part.attr for part in stored if id(part) not in new}

    def defining(self, method: str) -> Class:
        """The class that a method comes from: this one, or one that it is derived from."""
        inherited = self.base is not None and self.base.methods.get(method) is self.methods[method]
        return self.base.defining(method) if self.base is not None and inherited else self


@dataclass(eq=False)
class Object:
    """What stands under a name: of a class, or without one a sequence of modules that are called in turn."""

    path: str
    kind: Class | None
    parts: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, ast.expr] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    begun: bool = False
    """Whether nn.Module.__init__ was reached."""
    names: list[str] | None = None
    """Of a sequence or list of modules the names of its items, which are parts."""
    chained: str = ""
    """Of a sequence the name of the function that calls its items in turn."""
    whole: bool = False
    """Whether a module of torch.nn stands under the path itself, since the class is derived from its."""

    @property
    def items(self) -> list[Any] | None:
        """The modules that a loop goes through; None of what is no sequence."""
        return None if self.names is None else [self.parts[name] for name in self.names]


@dataclass(eq=False)
class Module:
    """A module of torch.nn under a name of its own; `count` is the number of parts of a Sequential."""

    path: str
    count: int | None = None


@dataclass(eq=False)
class New:
    """A module, parameter or object that has no name yet; `made`: what has got one, `inside`: it is one of another's `parts`.

    `later`: statements that change its parameters once it has one, each with what it is called there and what else is known.
    """

    call: ast.Call
    kind: Class | None = None
    arguments: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    chain: list[Any] | None = None
    names: list[str] | None = None
    parts: list[New] = field(default_factory=list)
    made: Any = None
    inside: bool = False
    later: list[tuple[ast.stmt, str, Mapping[str, Any]]] = field(default_factory=list)


def named_inside(new: New, path: str) -> None:
    """What stands in a sequence gets its name with it."""
    for place, part in enumerate(new.parts):
        part.made = Module(f"{path}.{place}", len(part.parts) if part.parts else None)
        named_inside(part, part.made.path)


@dataclass(eq=False)
class Parts:
    """A list that holds modules, or may come to; with `names` a dictionary of them.

    `path`: where it stands, if it is a part of an object; `wraps`: what is put there becomes a parameter.
    """

    items: list[Any]
    names: list[str] | None = None
    path: str = ""
    wraps: bool = False


def held(value: Any, most: int) -> int:
    """How many items a list holds, those of its items among them, as far as they are no more than `most`; 1 of anything else."""
    found = 1
    for each in value.items if isinstance(value, Parts) else value.elts if isinstance(value, (ast.List, ast.Tuple)) else ():
        found += held(each, most) if found <= most else 0
    return found


def written(value: Any, node: ast.AST) -> ast.expr:
    """A value as an argument of a constructor."""
    if isinstance(value, New) and value.kind is None and value.chain is None:
        return value.call
    if isinstance(value, Parts):
        return collected(value, [written(each, node) for each in value.items], node)
    if isinstance(value, Module):
        return path_at(value.path, node)
    if isinstance(value, Object):
        return function_at(value, node)
    return value if isinstance(value, ast.expr) else placed(ast.Constant(None), node)


def collected(value: Parts, items: list[ast.expr], node: ast.AST) -> ast.expr:
    """A list, or a dictionary, of what stands for its items."""
    if value.names is None:
        return placed(ast.List(items, ast.Load()), node)
    keys: list[ast.expr | None] = [ast.Constant(name) for name in value.names]
    return placed(ast.Dict(keys, items), node)


T = TypeVar("T", bound=ast.AST)


def placed(made: T, node: ast.AST) -> T:
    """What stands in the place of a part of the text."""
    return ast.fix_missing_locations(ast.copy_location(made, node))


def called_as(made: Object) -> str:
    """The method that a call of an object means."""
    return "__call__" if made.kind and ("__call__" in made.kind.methods or not made.kind.is_module) else "forward"


def is_called(made: Object) -> bool:
    """Whether an object is a function: it has the method that its call means, or torch has one for it."""
    known = {*made.parts, *(made.kind.methods if made.kind is not None else ())}
    return called_as(made) in known or made.whole or bool(made.chained)


def function_at(made: Object, node: ast.AST) -> ast.expr:
    """What a call of an object calls, in the place of a part of the text."""
    name = called_as(made)
    if made.whole and made.kind is not None and name not in made.kind.methods:
        return path_at(made.path, node)
    return name_at(f"{made.path}.{name}", node)


def name_at(path: str, node: ast.AST, ctx: ast.expr_context | None = None) -> ast.Name:
    """A name that stands in the place of a part of the text."""
    return placed(ast.Name(path, ctx or ast.Load()), node)


class Renamed(ast.NodeTransformer):
    """Gives what stands under a path another name."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """The path as one name."""
        return name_at(self.name, node, node.ctx) if node.id == self.path else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """The path, or the beginning of a longer one."""
        return path_at(self.name, node) if dotted(node) == self.path else self.generic_visit(node)


def path_at(path: str, node: ast.AST) -> ast.expr:
    """`net.fc` as a path."""
    root, *rest = path.split(".")
    found: ast.expr = name_at(root, node)
    for part in rest:
        found = placed(ast.Attribute(found, part, ast.Load()), node)
    return found
