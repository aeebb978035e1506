"""Statements that Python has for what the language says in another way: the tree of a text with the plain ones.

Decorators are calls, generators are functions that give lists, settings are objects of a class.  Loads no torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from jvpcli.language.calls import without_places
from jvpcli.language.dependence import drawing
from jvpcli.language.expressions import TRANSFORMS
from jvpcli.language.names import assigned, copied, dotted, free_names, imported_paths, turns_on
from jvpcli.language.plain import NoPlainError, literal, plain_or_none

WRAPPING = ("functools.wraps", "functools.lru_cache", "functools.cache")
"""Decorators that change nothing that a function gives."""

SETTINGS = ("types.SimpleNamespace", "argparse.Namespace")
"""Classes whose objects are no more than the names that they are given."""

FLAGS: Mapping[str, bool] = {"store_true": False, "store_false": True}
"""What an option of a command line is that takes no value, where it is not given."""

MOVING = re.compile(r"\.step\(|no_grad|\.data\b|\b(?:sub|add|mul|copy|zero|set)_\(|[-+*/]=")
"""Without these a text changes no tensor."""

MANY = 100
"""Leaves that one list makes."""

T = TypeVar("T", bound=ast.AST)


def without_sugar(tree: ast.Module, code: str) -> ast.Module:
    """The tree of a text, in which plain statements stand for those."""
    return _Plain(tree, code).read()


class _Plain(ast.NodeTransformer):
    """Puts plain statements in the place of others."""

    def __init__(self, tree: ast.Module, code: str) -> None:
        self.tree = tree
        self.code = code
        self.paths = imported_paths(tree)
        self.functions = {part.name for part in ast.walk(tree) if isinstance(part, ast.FunctionDef)}
        self.eager = {name for name in self.functions if self.gives_at_once(name)}
        self.classes: list[ast.stmt] = []

    def read(self) -> ast.Module:
        """The whole tree."""
        self.visit(self.tree)
        self.tree.body = [*self.classes, *self.tree.body]
        return self.tree

    def path(self, node: ast.expr) -> str:
        """What a name or path means by the imports; of a call, that of what it calls."""
        root, dot, rest = dotted(node.func if isinstance(node, ast.Call) else node).partition(".")
        return f"{self.paths.get(root, root)}{dot}{rest}"

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """A part, and the statements in it one after the other."""
        for name in ("body", "orelse"):
            if isinstance(held := getattr(node, name, None), list):
                setattr(node, name, self.plain(held))
        return super().generic_visit(node)

    def plain(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements of one block."""
        return [each for part in self.without_parsers(_with_modes(statements)) for each in self.apart(part)]

    # Functions

    def apart(self, node: ast.stmt) -> Iterator[ast.stmt]:
        """A function without its decorators, and behind it their calls; settings behind their class."""
        if isinstance(node, ast.FunctionDef):
            marks = [mark for mark in node.decorator_list if self.path(mark) not in WRAPPING]
            count = next((place for place, mark in enumerate(marks) if not self.makes_function(mark)), len(marks))
            node.decorator_list = marks[count:]
            yield node
            value: ast.expr = ast.Name(node.name, ast.Load())
            for mark in reversed(marks[:count]):
                value = ast.Call(copied(mark), [value], [])
            if count:
                yield made(ast.Assign([ast.Name(node.name, ast.Store())], value), node)
            return
        call = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if call is None or self.path(call) not in SETTINGS or call.args or any(part.arg is None for part in call.keywords):
            yield node
            return
        names = [part.arg or "" for part in call.keywords]
        fields = "".join(f"\n        self.{name} = {name}" for name in names)
        name = f"Settings_{len(self.classes)}" if f"Settings_{len(self.classes)}" not in self.code else "Settings_of_the_text"
        text = f"class {name}:\n    def __init__(self, {', '.join(names)}):{fields or ' pass'}"
        self.classes.append(made(ast.parse(text).body[0], node))
        call.func = ast.Name(name, ast.Load())
        yield made(node, node)

    def makes_function(self, mark: ast.expr) -> bool:
        """Whether a decorator is a function of the program, or a transform of torch.func, maybe with options of its own."""
        if isinstance(mark, ast.Call) and self.path(mark) == "functools.partial" and mark.args:
            return self.path(mark.args[0]) in TRANSFORMS
        return not isinstance(mark, ast.Call) and (self.path(mark) in TRANSFORMS or dotted(mark) in self.functions)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function; one that gives its items one by one gives a list of them."""
        if node.name in self.eager:
            found = "found" if "found" not in self.code else "found_of_the_text"
            node.body = [made(ast.parse(f"{found} = []").body[0], node), *node.body, ast.Return(None)]
            made(node.body[-1], node)
            node.body = [_Collecting(found).visit(part) for part in node.body]
        return self.generic_visit(node)

    def gives_at_once(self, name: str) -> bool:
        """Whether a function gives its items one by one, and the same ones where they are all made before the first is used.

        So it is where each call of it is gone through where it stands, once; and where nothing that an item is made of changes
        meanwhile, nor random numbers are drawn between them.
        """
        nodes = list(ast.walk(self.tree))
        functions = [part for part in nodes if isinstance(part, ast.FunctionDef) and part.name == name]
        if len(functions) != 1 or not any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in _own(functions[0])):
            return False
        (function,) = functions
        inside = list(_own(function))
        statements = {id(part.value) for part in inside if isinstance(part, ast.Expr)}
        yields = [part for part in inside if isinstance(part, (ast.Yield, ast.YieldFrom))]
        if any(id(part) not in statements for part in yields) or any(isinstance(part, ast.Return) and part.value for part in inside):
            return False
        used = [part.iter for part in nodes if isinstance(part, (ast.For, ast.comprehension))]
        used += [each for part in nodes if isinstance(part, ast.Call) for each in part.args]
        gone_through = {id(part.func) for part in used if isinstance(part, ast.Call)}
        names = [part for part in nodes if isinstance(part, ast.Name) and part.id == name]
        endless = any(isinstance(part, ast.While) and isinstance(part.test, ast.Constant) for part in inside)
        if endless or any(id(part) not in gone_through for part in names) or assigned(self.tree.body).count(name) > 1:
            return False
        draws = drawing(self.tree.body)
        loops = [part for part in inside if isinstance(part, (ast.For, ast.While)) and any(each in yields for each in ast.walk(part))]
        if any(map(draws, (each for part in loops for each in part.body))) or len(yields) > len(loops) and any(map(draws, inside)):
            return False
        shared = any(isinstance(part, (ast.Global, ast.Nonlocal)) for part in nodes)
        return not shared and (not MOVING.search(self.code) or all(map(_only_takes, (part.value for part in yields))))

    # Leaves, and settings

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """`[torch.ones(2, requires_grad=True) for _ in range(3)]`: leaves, each of which stands there as one."""
        (first, *others), items = node.generators, plain_or_none(node.generators[0].iter)
        if others or first.ifs or not isinstance(first.target, ast.Name) or not isinstance(items, (list, tuple)) or (
            len(items) > MANY or not any(isinstance(part, ast.Call) and turns_on_gradients(part) for part in ast.walk(node.elt))
        ):
            return self.generic_visit(node)
        try:
            found = [_Filled(first.target.id, literal(item, node)).visit(copied(node.elt)) for item in items]
        except NoPlainError:
            return self.generic_visit(node)
        return ast.copy_location(ast.List(found, ast.Load()), node)

    def without_parsers(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements where the options of a command line, of which none is given, have their defaults."""
        parsers = {
            name: dict[str, ast.expr]() for part in statements
            if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call) and self.path(part.value) == "argparse.ArgumentParser"
            for name in assigned([part])
        }  # fmt: skip
        found = []
        for part in statements:
            call = part.value if isinstance(part, (ast.Assign, ast.Expr)) and isinstance(part.value, ast.Call) else None
            owner, _, method = dotted(call.func).rpartition(".") if call is not None else ("", "", "")
            if call is not None and owner in parsers and method == "add_argument" and (option := _option(call)) is not None:
                parsers[owner].update([option])
            elif call is not None and owner in parsers and method == "parse_args" and isinstance(part, ast.Assign) and (
                not call.args or (isinstance(call.args[0], ast.List) and not call.args[0].elts)
            ):  # fmt: skip
                keywords = [ast.keyword(name, copied(value)) for name, value in parsers[owner].items()]
                settings = ast.Call(ast.parse("types.SimpleNamespace", mode="eval").body, [], keywords)
                found.append(made(ast.Assign(part.targets, settings), part))
            elif not {*assigned([part])} & parsers.keys():
                found.append(part)
        return found


def _option(call: ast.Call) -> tuple[str, ast.expr] | None:
    """The name of an option of a command line and its default; None of what has to be given, or is more than that."""
    given = {part.arg: part.value for part in call.keywords}
    words = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    long = [word for word in words if word.startswith("--")] or [word for word in words if word.startswith("-")]
    action = getattr(given.get("action"), "value", "store")
    if not long or "required" in given or len(words) < len(call.args) or action not in ("store", *FLAGS):
        return None
    name = getattr(given.get("dest"), "value", long[0].lstrip("-").replace("-", "_"))
    default = given.get("default", ast.Constant(FLAGS.get(action)))
    kind = {"int": int, "float": float}.get(dotted(given["type"])) if "type" in given else None
    if isinstance(default, ast.Constant) and isinstance(default.value, str) and kind is not None:
        default = ast.Constant(kind(default.value))
    return (name, default) if isinstance(name, str) and name.isidentifier() else None


def _with_modes(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Statements between `torch.set_grad_enabled(False)` and `(True)` under `torch.no_grad()`."""
    found: list[ast.stmt] = []
    off: ast.With | None = None
    for part in statements:
        call = part.value if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call) else None
        if call is not None and dotted(call.func).endswith("set_grad_enabled") and len(call.args) == 1 and (
            isinstance(flag := call.args[0], ast.Constant) and isinstance(flag.value, bool)
        ):
            off = None if flag.value else made(ast.With([ast.withitem(ast.parse("torch.no_grad()", mode="eval").body)], []), part)
            continue
        if off is None:
            found.append(part)
            continue
        if not off.body:
            found.append(off)
        off.body.append(part)
    return found


def turns_on_gradients(call: ast.Call) -> bool:
    """Whether a call makes a leaf of a tensor."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_":
        return turns_on(call)
    return any(part.arg == "requires_grad" and isinstance(part.value, ast.Constant) and part.value.value is True for part in call.keywords)


def _only_takes(node: ast.expr | None) -> bool:
    """Whether an expression only takes parts of what is there, and computes nothing of it."""
    if isinstance(node, ast.Subscript):
        return _only_takes(node.value)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(_only_takes, node.elts))
    return node is None or isinstance(node, (ast.Name, ast.Attribute, ast.Constant))


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The parts of a function, but those of functions in it."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [] if isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)) else ast.iter_child_nodes(part)


class _Collecting(ast.NodeTransformer):
    """Collects what a function yields in a list, which it gives."""

    def __init__(self, found: str) -> None:
        self.found = found

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`yield item`"""
        if not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            return node
        method = ast.Attribute(ast.Name(self.found, ast.Load()), "append" if isinstance(node.value, ast.Yield) else "extend", ast.Load())
        return made(ast.Expr(ast.Call(method, [node.value.value or ast.Constant(None)], [])), node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """`return`"""
        node.value = ast.copy_location(ast.Name(self.found, ast.Load()), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function in it, which returns values of its own."""
        return node


class _Filled(ast.NodeTransformer):
    """Puts a value in the place of a name."""

    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """The name."""
        return copied(self.value) if node.id == self.name else node


def made(node: T, at: ast.AST) -> T:
    """A statement that is made, and stands where another one begins: its text is its own."""
    for part in ast.walk(node):
        ast.copy_location(part, at)
    return without_places(node)
