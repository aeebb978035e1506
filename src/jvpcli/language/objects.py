"""What a program's classes (dataclasses, mixins, named tuples) and their objects are, as its text tells.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from jvpcli.language.names import dotted
from jvpcli.language.plain import plain_or_none

DERIVED = ".derived"
"""The keyword, which no text can write, by which a constructor is told the classes of the program that the module is of, and
what they set anew of those of torch.nn."""

RECORDS = ("dataclass", "dataclasses.dataclass")
"""The decorators that give a class the `__init__` of its fields."""

NAMED = "typing.NamedTuple"
"""The class by which a class is a tuple whose items have names."""

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


def paths_in(value: Any) -> Iterator[tuple[str, bool]]:
    """The names of an object and of the modules in it, and which are objects."""
    if isinstance(value, Object):
        if value.kind is not None:
            yield value.path, True
        if value.whole:
            yield value.path, False
        for part in value.parts.values():
            yield from paths_in(part)
    elif isinstance(value, Parts):
        for part in value.items:
            yield from paths_in(part)
    elif isinstance(value, Module):
        yield value.path, False


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
