"""What expressions of a program are where it makes objects: modules without a name yet, lists of them, plain values.

Loads no torch.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from typing import Any

from jvpcli.errors import ForbiddenError, JvpError, LimitError
from jvpcli.language.attachments import Attached
from jvpcli.language.dependence import drawing
from jvpcli.language.initialisation import Initialisation
from jvpcli.language.makers import factories, growing, taken_apart
from jvpcli.language.names import (
    class_of,
    copied,
    dotted,
    imported_paths,
    is_parameter,
    separated,
)
from jvpcli.language.objects import (
    Class,
    Module,
    New,
    Object,
    Parts,
    held,
    name_at,
    path_at,
    placed,
    written,
)
from jvpcli.language.plain import NoPlainError, is_literal, literal, plain_or_none, plain_value
from jvpcli.language.preparations import Finder
from jvpcli.language.references import Reading, casts, freezes, is_static
from jvpcli.language.source import SourceText

MOST_STEPS = 5000
"""Statements of all `__init__`, turns of loops among them, and items of lists there."""

COLLECTIONS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
"""Classes of torch.nn that hold parts, and compute nothing."""

OWN = "made.0"
"""The name, which no text can write, of what is made where it has none yet."""


class Values:
    """The classes and objects of a text, and what its expressions make of them without a name yet."""

    def __init__(self, text: SourceText, tree: ast.Module) -> None:
        self.text = text
        self.tree = tree
        self.paths = imported_paths(tree)
        self.classes: dict[str, Class] = {}
        self.factories = factories(tree, self.paths)
        self.objects: dict[str, Any] = {}
        self.finder = Finder.of(tree, self.objects)
        self.made: list[ast.stmt] = []
        self.methods: list[ast.FunctionDef] = []
        self.front: list[ast.stmt] = []  # functions of classes, in front of all
        self.later: list[ast.AST] = []  # functions, which are read when all objects are known
        self.reads: dict[str, set[str]] = {}  # what functions read
        self.steps = 0
        self.copied = 0
        self.level = self.calls = 0
        self.constants: dict[str, ast.expr] = {}
        self.bound = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        self.values_of = {
            target.id: each.value
            for part in ast.walk(tree) if isinstance(part, ast.Assign)
            for each in separated(part)
            for target in each.targets if isinstance(target, ast.Name)
        }  # fmt: skip
        self.used: set[str] = set()
        self.inherited: set[str] = set()  # methods of classes before that objects call by super()
        self.trains: dict[str, bool] = {}  # modes that were set
        outside = Class(ast.ClassDef("", [], [], [], []), False, {}, [])
        self.top = Initialisation(self, Object(OWN, outside, begun=True), outside, OWN, {})  # what no class does
        self.growing, self.taken_apart = growing(tree, self.paths), taken_apart(tree, self.paths)
        self.draws = drawing(tree.body)
        self.attached = Attached(self)
        self.outermost = [*tree.body]  # the statements that stand in no block
        self.shares = any(isinstance(node, ast.Global) for node in ast.walk(tree))
        self.waiting: list[ast.AST] = []  # constructors that may draw random numbers, in the order in which Python runs them

    def at(self, node: ast.AST, error: JvpError) -> JvpError:
        """The error with its place."""
        return error.with_context(span=self.text.span(node), source=self.text.source)

    def refusal(self, node: ast.AST, what: str) -> JvpError:
        """A class that can't be read."""
        hints = ["Save it in a file, and name it: jvp inspect EXPR --import FILE.py"]
        return self.at(node, ForbiddenError(f"{what}: such a class runs only from a file of yours.", hints=hints))

    def count(self, node: ast.AST) -> None:
        """One step more."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise self.at(node, LimitError(f"The objects of the program take more than {MOST_STEPS:,} steps to make."))

    def path(self, name: str) -> str:
        """What a dotted name means by the imports of the text."""
        root, _, rest = name.partition(".")
        return ".".join(part for part in (self.paths.get(root, root), rest) if part)

    def assign(self, path: str, value: ast.expr, node: ast.AST) -> None:
        """`path = value`, a statement that stands where the object is made."""
        self.made.append(placed(ast.Assign([name_at(path, node, ast.Store())], value), node))

    def class_called(self, call: ast.Call) -> Class | None:
        """The class of the text that a call makes an object of."""
        found = self.classes.get(call.func.id) if isinstance(call.func, ast.Name) else None
        return None if found is None or found.is_function else found

    def is_maker(self, node: ast.AST) -> bool:
        """Whether a constructor of a module, a parameter or an object stands in a part of the text."""
        calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
        return any(self.class_called(part) or class_of(part.func, self.paths) or is_parameter(part, self.paths) for part in calls)

    def is_constructor(self, node: ast.expr) -> bool:
        """Whether an expression makes a module, or an object, itself."""
        name = dotted(node.func) if isinstance(node, ast.Call) else ""
        return isinstance(node, ast.Call) and bool(
            self.class_called(node) or name in self.factories or class_of(node.func, self.paths) or is_parameter(node, self.paths)
        )

    # What an expression is

    def value(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Any:
        """What an expression is: a module or object without a name yet, a list of such, or an expression of plain values."""
        self.count(node)
        found = self.made_of(node, scope, making)
        if held(found, MOST_STEPS) > MOST_STEPS:
            raise self.at(node, LimitError(f"A list of a class holds at most {MOST_STEPS:,} items here, those in its items too."))
        return found

    def made_of(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Any:
        """As `value`, of any size that its parts and one step can make."""
        inner = making if isinstance(making, Initialisation) else None
        if isinstance(node, ast.Name) and node.id in scope:
            found = scope[node.id]
            return copied(found) if isinstance(found, ast.expr) else found
        if isinstance(node, ast.Name) and isinstance(found := self.objects.get(node.id), (Object, Module, Parts)):
            return found
        if inner is not None and isinstance(node, ast.Attribute) and dotted(node.value) == inner.own:
            found = inner.made.plain.get(node.attr, inner.made.parts.get(node.attr))
            if found is None and inner.made.whole and node.attr not in {*inner.kind.methods, *inner.kind.sets}:
                return placed(ast.Attribute(path_at(inner.made.path, node), node.attr, ast.Load()), node)
            if found is None:
                what = "is a method, which `__init__` uses" if node.attr in inner.kind.methods else "has no value yet"
                raise self.refusal(node, f"`{dotted(node)}` {what}")
            return copied(found) if isinstance(found, ast.expr) else found
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [each for part in node.elts for each in self.items(part, scope, making)]
            plain = isinstance(node, ast.Tuple) and all(isinstance(each, ast.expr) for each in items)
            return placed(ast.Tuple(items, ast.Load()), node) if plain else Parts(items)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)) and len(node.generators) == 1:
            return self.comprehension(node, scope, making)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            left, right = self.value(node.left, scope, making), self.value(node.right, scope, making)
            if isinstance(node.op, ast.Add) and isinstance(left, Parts) and isinstance(right, Parts):
                return Parts([*left.items, *right.items])
            if isinstance(left, Parts) and isinstance(node.op, ast.Mult):
                times = plain_or_none(right) if isinstance(right, ast.expr) else None
                if type(times) is int and len(left.items) * times < MOST_STEPS:
                    items = [each for _ in range(times) for each in left.items]
                    return Parts([copied(each) if isinstance(each, ast.expr) else each for each in items])
        if isinstance(node, (ast.Dict, ast.DictComp)) and self.is_maker(node) and (
            found := self.dictionary(node, scope, making)
        ) is not None:
            return found
        if isinstance(node, ast.Subscript) and (found := self.taken(node, scope, making)) is not None:
            return found
        if isinstance(node, ast.IfExp) and self.is_maker(node):
            return self.value(node.body if self.truth(node.test, scope, making) else node.orelse, scope, making)
        if isinstance(node, ast.Call) and (freezes(node) or casts(node)) and isinstance(node.func, ast.Attribute):
            new = self.value(node.func.value, scope, making)
            if isinstance(new, New):
                frozen = placed(ast.Attribute(name_at(OWN, node), node.func.attr, ast.Load()), node)
                new.later.append((placed(ast.Expr(ast.Call(frozen, node.args, node.keywords)), node), OWN, {}))
                return new
        if isinstance(node, ast.Call):
            node = self.with_class(node, scope, inner)
            if dotted(node.func).rpartition(".")[2] in ("list", "OrderedDict") and len(node.args) < 2 and not node.keywords:
                return Parts([each for part in node.args for each in self.iterated(part, scope, making)])
            if dotted(node.func) in self.factories and dotted(node.func) not in scope:
                return self.given_by(self.factories[dotted(node.func)], node, scope, making)
            if inner is not None and (method := self.making_method(node, inner)) is not None:
                return self.given_by(method, node, scope, making, inner)
            made = self.constructed(node, scope, making)
            if made is not None:
                return made
        found = self.folded(node, scope, inner)
        return found if found is not None else self.substituted(node, scope, inner)

    def taken(self, node: ast.Subscript, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Any:
        """`layers[0]`, `layers[:-1]`, `acts["relu"]` of a list or dictionary of modules; None of anything else."""
        owner = self.value(node.value, scope, making)
        inner = making if isinstance(making, Initialisation) else None
        items = owner.items if isinstance(owner, (Parts, Object)) else None
        if items is None:
            return None
        if isinstance(node.slice, ast.Slice):
            bounds = [part and self.folded(part, scope, inner) for part in (node.slice.lower, node.slice.upper, node.slice.step)]
            plain = [plain_or_none(part) for part in bounds]
            known = all(type(each) in (int, type(None)) for each in plain) and plain[2] != 0
            return Parts(items[slice(*plain)]) if known and getattr(owner, "names", None) is None else None
        key = plain_or_none(self.folded(node.slice, scope, inner))
        names = getattr(owner, "names", None) if isinstance(owner, Parts) else None
        if names is not None:
            return items[names.index(key)] if key in names else None
        return items[key] if type(key) is int and -len(items) <= key < len(items) else None

    def with_class(self, call: ast.Call, scope: Mapping[str, Any], making: Initialisation | None) -> ast.Call:
        """`activation()` of a name that stands for a class of torch.nn, with that class."""
        func, found = call.func, None
        if isinstance(func, ast.Name):
            found = scope.get(func.id)
        elif making is not None and isinstance(func, ast.Attribute) and dotted(func.value) == making.own:
            found = making.made.values.get(func.attr)
        known = isinstance(found, (ast.Name, ast.Attribute)) and class_of(found, self.paths)
        return placed(ast.Call(copied(found), call.args, call.keywords), call) if known and found else call

    def items(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> list[Any]:
        """What an argument or an item of a list stands for: `*layers` for several."""
        if not isinstance(node, ast.Starred):
            return [self.value(node, scope, making)]
        return self.iterated(node.value, scope, making)

    def iterated(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> list[Any]:
        """The items that an expression goes through.

        Raises:
            ForbiddenError: they aren't known from the text.
        """
        if isinstance(node, ast.Call) and dotted(node.func) in ("enumerate", "zip", "list", "tuple") and not node.keywords:
            columns = [self.iterated(part, scope, making) for part in node.args]
            name = dotted(node.func)
            if name in ("list", "tuple") and len(columns) == 1:
                return columns[0]
            if name == "enumerate" and len(columns) == 1:
                columns.insert(0, [placed(ast.Constant(k), node) for k in range(len(columns[0]))])
            return [Parts(list(row)) for row in zip(*columns, strict=False)]
        found = self.value(node, scope, making)
        if isinstance(found, (Parts, Object)) and found.items is not None:
            return found.items
        if isinstance(found, Module) and found.count is not None:
            return [Module(f"{found.path}.{k}") for k in range(found.count)]
        if isinstance(found, (ast.Tuple, ast.List)):
            return list(found.elts)
        raise self.refusal(node, "What this goes through isn't known before the program runs")

    def comprehension(
        self, node: ast.ListComp | ast.GeneratorExp, scope: Mapping[str, Any], making: Initialisation | Object | None
    ) -> Parts:
        """`[nn.Linear(a, b) for a, b in pairs]`"""
        (loop,) = node.generators
        found = []
        for item in self.iterated(loop.iter, scope, making):
            inside = {**scope, **self.matched(loop.target, item)}
            if all(self.truth(test, inside, making) for test in loop.ifs):
                found.append(self.value(node.elt, inside, making))
        return Parts(found)

    def matched(self, target: ast.expr, value: Any) -> dict[str, Any]:
        """The names of a target with what they stand for."""
        if isinstance(target, ast.Name):
            return {target.id: value}
        parts = value.items if isinstance(value, Parts) else value.elts if isinstance(value, (ast.Tuple, ast.List)) else None
        if not isinstance(target, (ast.Tuple, ast.List)) or parts is None or len(parts) != len(target.elts):
            raise self.refusal(target, "This assignment can't be read here")
        pairs = zip(target.elts, parts, strict=True)
        return {name: each for one, part in pairs for name, each in self.matched(one, part).items()}

    def truth(self, test: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> bool:
        """Whether a condition holds.

        Raises:
            ForbiddenError: that isn't known from the text.
        """
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return not self.truth(test.operand, scope, making)
        compared = test if isinstance(test, ast.Compare) and is_literal(test.comparators[0]) else None
        if compared is not None and isinstance(compared.ops[0], (ast.Is, ast.IsNot)):
            left = self.value(compared.left, scope, making)
            if not isinstance(left, ast.expr) or isinstance(left, ast.Name):  # what has a name is a module or tensor
                return isinstance(compared.ops[0], ast.IsNot)
        found = self.folded(test, scope, making if isinstance(making, Initialisation) else None)
        if found is None:
            raise self.refusal(test, "Whether this holds isn't known before the program runs")
        return bool(plain_value(found))

    def constructed(self, node: ast.Call, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Any:
        """What a constructor makes; None for any other call."""
        kind, name = self.class_called(node), class_of(node.func, self.paths)
        if kind is None and not name and not is_parameter(node, self.paths):
            return None
        flags = [keyword.value for keyword in node.keywords if keyword.arg == "requires_grad"]
        frozen = [flag for flag in flags if plain_or_none(flag) is False]
        if not kind and not name and frozen and node.args:
            return self.value(node.args[0], scope, making)
        if name in COLLECTIONS and len(node.args) < 2 and not node.keywords:
            return self.collection(node, name, scope, making)
        arguments = [each for part in node.args for each in self.items(part, scope, making)]
        keywords = self.keywords(node, scope, making)
        sizes = [part for part in (*arguments, *keywords.values()) if isinstance(part, ast.expr)]
        if kind is not None or any(not is_literal(part) or type(plain_value(part)) is int for part in sizes):
            node = copy.copy(node)  # a constructor in a loop runs more than once
            self.waiting.append(node)
        if kind is not None:
            return New(node, kind, arguments, keywords)
        arguments = [each.made if isinstance(each, New) and each.made is not None else each for each in arguments]
        new = [each for each in arguments if isinstance(each, New)]
        twice = len({*map(id, new)}) < len(new)
        if name == "Sequential" and (not arguments or twice or any(
            not isinstance(each, New) or each.kind is not None or each.chain is not None or each.later for each in arguments
        )):
            return self.sequence(node, arguments)
        if any(each.inside for each in new):
            raise self.refusal(node, "A module that is a part of two others can't be read here")
        for each in new:
            each.inside = True
        parts = [written(each, node) for each in arguments]
        named = [ast.keyword(key, written(each, node)) for key, each in keywords.items()]
        made = placed(ast.Call(copied(node.func), parts, named), node)
        self.waiting = [made if each is node else each for each in self.waiting]
        return New(made, parts=new if name == "Sequential" else [])

    def sequence(self, node: ast.Call, arguments: list[Any]) -> New:
        """A sequence whose parts have names of their own."""
        pairs = pairs_of(arguments[0]) if len(arguments) == 1 else None
        items = [part for _, part in pairs] if pairs else arguments
        if not all(isinstance(each, (New, Object, Module)) for each in items):
            raise self.refusal(node, "`nn.Sequential` of this can't be read")
        return New(node, chain=items, names=[key for key, _ in pairs] if pairs else None)

    def apart(self, node: ast.Call, scope: Mapping[str, Any]) -> New:
        """A sequence that the text goes through, or changes."""
        return self.sequence(copy.copy(node), [each for part in node.args for each in self.items(part, scope, None)])

    def collection(self, call: ast.Call, name: str, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Parts:
        """`nn.ModuleList([…])`, `nn.ParameterDict({…})`"""
        wraps, by_name = name.startswith("Parameter"), name.endswith("Dict")
        given = self.dictionary(call.args[0], scope, making) if call.args and by_name else None
        if given is None:
            found = self.value(call.args[0], scope, making) if call.args else Parts([])
            items = found.elts if isinstance(found, (ast.List, ast.Tuple)) else found.items if isinstance(found, Parts) else None
            given = Parts(list(items), [] if by_name else None) if items is not None else None
        if given is None or (by_name and len(given.names or ()) != len(given.items)):
            raise self.refusal(call, "What this list holds isn't known before the program runs")
        return Parts([wrapped(each) if wraps else each for each in given.items], given.names, wraps=wraps)

    def dictionary(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | Object | None) -> Parts | None:
        """`{"a": nn.Linear(2, 2)}`, a comprehension of that kind, or a list of pairs; None for anything else."""
        pairs: list[tuple[Any, Any]] = []
        inner = making if isinstance(making, Initialisation) else None
        if isinstance(node, ast.Dict) and all(node.keys):
            keys = [self.folded(key, scope, inner) for key in node.keys if key is not None]
            pairs = [(plain_or_none(key), self.value(value, scope, making)) for key, value in zip(keys, node.values, strict=True)]
        elif isinstance(node, ast.DictComp) and len(node.generators) == 1:
            both = placed(ast.ListComp(ast.Tuple([node.key, node.value], ast.Load()), node.generators), node)
            return self.dictionary(both, scope, making)
        elif isinstance(node, (ast.List, ast.Tuple, ast.ListComp)):
            found = self.value(node, scope, making)
            for item in found.items if isinstance(found, Parts) else ():
                parts = item.items if isinstance(item, Parts) else item.elts if isinstance(item, (ast.List, ast.Tuple)) else ()
                pairs.append((plain_or_none(parts[0]), parts[1]) if len(parts) == 2 else (None, None))
        names = [name for name, _ in pairs]
        if not names or not all(isinstance(name, str) and name.isidentifier() for name in names) or len({*names}) < len(names):
            return None
        return Parts([value for _, value in pairs], names)

    def keywords(self, call: ast.Call, scope: Mapping[str, Any], making: Initialisation | Object | None) -> dict[str, Any]:
        """What a call gives by name, by `**` of a dictionary too."""
        found: dict[str, Any] = {}
        for keyword in call.keywords:
            value = self.value(keyword.value, scope, making)
            if keyword.arg is None and (not isinstance(value, Parts) or value.names is None):
                raise self.refusal(call, "`**` can't be read here")
            found.update({keyword.arg: value} if keyword.arg else zip(value.names, value.items, strict=True))
        return found

    def folded(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | None) -> ast.expr | None:
        """The plain value of an expression as it is written out; None where it has none."""
        try:
            return literal(plain_value(node, lambda part: self.known(part, scope, making)), node)
        except (NoPlainError, ArithmeticError, TypeError, IndexError, ValueError):
            return None

    def known(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | None) -> Any:
        """What a name or attribute stands for, as a plain value."""
        found: Any = None
        if isinstance(node, ast.Name):
            found = scope.get(node.id, None if node.id in scope else self.constants.get(node.id))
        elif making is not None and isinstance(node, ast.Attribute) and dotted(node.value) == making.own:
            found = making.made.plain.get(node.attr, making.made.parts.get(node.attr))
        elif isinstance(node, ast.Attribute):
            reader: Any = self  # as a part of what knows the program
            return Reading(reader, scope).plain(node)
        if isinstance(found, Parts):
            return [plain_value(each) if isinstance(each, ast.expr) else each for each in found.items]
        if isinstance(found, ast.expr):
            return plain_value(found)
        raise NoPlainError

    def substituted(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | None) -> ast.expr:
        """An expression with what its names stand for."""
        roots: dict[str, Any] = {} if making is None else {making.own: making.made}
        reader: Any = self  # as a part of what knows the program
        found = Reading(reader, {**roots, **scope}).visit(copied(node))
        assert isinstance(found, ast.expr)
        return found

    def making_method(self, call: ast.Call, own: Initialisation) -> ast.FunctionDef | None:
        """The method of the object that is made which a call calls, if it makes modules and gives something at its end alone."""
        func = call.func if isinstance(call.func, ast.Attribute) else None
        owner = dotted(func.value) if func is not None else ""
        method = own.kind.methods.get(func.attr) if func is not None and owner in (own.own, own.kind.node.name) else None
        if method is None or not self.is_maker(method) or not isinstance(last := method.body[-1], ast.Return):
            return None
        return None if last.value is None or (owner != own.own and not is_static(method)) else method

    def given_by(
        self, function: ast.FunctionDef, call: ast.Call, scope: Mapping[str, Any], making: Initialisation | Object | None,
        own: Initialisation | None = None,
    ) -> Any:
        """The module that a function of the text gives."""
        raise NotImplementedError


def wrapped(item: Any) -> Any:
    """An item of a list of parameters: what is none becomes one."""
    if not isinstance(item, ast.expr) or isinstance(item, ast.Constant):
        return item
    func = ast.Attribute(ast.Attribute(ast.Name("torch", ast.Load()), "nn", ast.Load()), "Parameter", ast.Load())
    return New(placed(ast.Call(func, [item], []), item))


def pairs_of(value: Any) -> list[tuple[str, Any]] | None:
    """The names and parts of `OrderedDict([("a", nn.Linear(2, 2)), …])`; None for anything else."""
    items = value.items if isinstance(value, Parts) else []
    found = [(plain_or_none(item.items[0]), item.items[1]) for item in items if isinstance(item, Parts) and len(item.items) == 2]
    named = all(isinstance(name, str) and name.isidentifier() and isinstance(part, New) for name, part in found)
    return found if items and named and len({name for name, _ in found}) == len(items) else None
