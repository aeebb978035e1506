"""Classes of a program, read as what their objects do: nothing of a class is left when the program is lowered.

`net = Net(3)` becomes what `__init__` assigns, under names with a dot (`net.fc1`), which no text can give to a value, and a
function for each method (`net.forward`).  What `__init__` does is carried out on the text alone, with plain numbers and words;
a class that does more there is refused.  Of a `torch.autograd.Function` the two static methods are functions, and `ctx` is a
dictionary.  Loads no torch.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jvpcli.errors import ForbiddenError, JvpError, LimitError
from jvpcli.language import refusals
from jvpcli.language.names import assigned, class_of, dotted, imported_paths, is_parameter, separated
from jvpcli.language.source import SourceText

FORWARD = ".forward"
"""The keyword, which no text can write, by which a functional_call is given the function of an object."""

MOST_STEPS = 5000
"""Statements of all `__init__`, turns of loops among them, and items of lists there."""

MOST_LEVELS = 20
"""Objects inside of each other."""

MOST_BITS = 64
"""Of whole numbers that are computed there."""

PLACED = ("to", "cuda", "cpu", "requires_grad_")
"""Methods of a module that leave it what it is here."""

KNOWN_BASES = ("Module", "torch.nn.Module", "torch.nn.modules.Module", "torch.nn.modules.module.Module", "object")

FUNCTION = ("torch.autograd.Function", "torch.autograd.function.Function", "autograd.Function", "Function")


class Custom(ast.expr):
    """`Square.apply`: a function with a backward of its own, by the names of its static methods; no text is read as one."""

    _fields = ("parts",)

    def __init__(self, name: str, parts: list[ast.expr]) -> None:
        super().__init__()
        self.name, self.parts = name, parts


@dataclass
class _Class:
    """A class of the text, with what it has of those that it is derived from."""

    node: ast.ClassDef
    is_function: bool
    methods: dict[str, ast.FunctionDef]
    fields: list[ast.Assign]
    base: _Class | None = None


@dataclass(eq=False)
class _Object:
    """What stands under a name: of a class, or without one a sequence of modules that are called in turn."""

    path: str
    kind: _Class | None
    parts: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, ast.expr] = field(default_factory=dict)


@dataclass(eq=False)
class _Module:
    """A module of torch.nn under a name of its own; `count` is the number of parts of a Sequential."""

    path: str
    count: int | None = None


@dataclass(eq=False)
class _New:
    """A module, parameter or object that has no name yet."""

    call: ast.Call
    kind: _Class | None = None
    arguments: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    chain: list[Any] | None = None


@dataclass(eq=False)
class _List:
    """A list that holds modules, or may come to."""

    items: list[Any]


def without_classes(text: SourceText, tree: ast.Module) -> ast.Module:
    """The tree of a text with its classes read as what their objects do; the tree itself where it has none.

    Raises:
        ForbiddenError: an object's class does what can't be read, with its place.
        LimitError: there are too many objects, or too many steps to make them.
    """
    if not any(isinstance(node, ast.ClassDef) for node in tree.body):
        return tree
    try:
        return _Reader(text, tree).read()
    except RecursionError:
        raise LimitError("The classes of the program nest too deeply to be read.", source=text.source) from None


def chained(node: ast.expr) -> ast.expr:
    """`Net(3)` of `Net(3).to(device).eval()`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (*PLACED, "eval", "train"):
        node = node.func.value
    return node


class _Reader:
    """The classes and objects of a text, and the statements that stand in their place."""

    def __init__(self, text: SourceText, tree: ast.Module) -> None:
        self.text = text
        self.tree = tree
        self.paths = imported_paths(tree)
        self.classes: dict[str, _Class] = {}
        self.objects: dict[str, Any] = {}
        self.made: list[ast.stmt] = []
        self.methods: list[ast.FunctionDef] = []
        self.steps = 0
        self.level = 0
        self.constants: dict[str, ast.expr] = {}
        self.bound = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        self.drawn: list[ast.Call] = []

    def read(self) -> ast.Module:
        """The whole text."""
        for statement in self._opened(self.tree.body):
            self.statement(statement)
        if not self.made or isinstance(self.tree.body[-1], ast.ClassDef):
            raise self.at(self.tree.body[-1], refusals.no_result(self.tree.body[-1]))
        called = self._called()
        return ast.Module([part for part in self.made if part not in self.methods or part.name in called], [])

    def _called(self) -> set[str]:
        """The methods that what is carried out may call: others may do what can't be read."""
        waiting: list[ast.AST] = [part for part in self.made if part not in self.methods]
        found: set[str] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, ast.Name) and part.id not in found:
                found.add(part.id)
                waiting += [method for method in self.methods if method.name == part.id]
            if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Call) and dotted(part.value.func) == "print"):
                waiting += ast.iter_child_nodes(part)
        return found

    def _opened(self, statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in statements:
            test = statement.test if isinstance(statement, ast.If) else None
            if isinstance(test, ast.Compare) and dotted(test.left) == "__name__":
                assert isinstance(statement, ast.If)
                yield from self._opened(statement.body)
            else:
                yield statement

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

    # Statements of the program

    def statement(self, node: ast.stmt) -> None:
        """One statement of the text."""
        if isinstance(node, ast.ClassDef):
            self.define(node)
            return
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, chained(node.value)
            if isinstance(value, ast.Call) and self.makes(value):
                self.place(name, self.value(value, {}, None), node)
                self.modes(name, node.value)
                return
            if self.bound.count(name) == 1 and (found := self.folded(node.value, {}, None)) is not None:
                self.constants[name] = found
        owner = self.objects.get(_owner(node))
        if owner is not None and isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            method = node.value.func.attr if isinstance(node.value.func, ast.Attribute) else ""
            if method in ("eval", "train"):
                self.modes(_owner(node), node.value)
                return
            if method in PLACED:
                return
        if isinstance(node, ast.Assign) and owner is not None and chained(node.value) is not node.value and (
            [dotted(target) for target in node.targets] == [_owner(node)]
        ):
            self.modes(_owner(node), node.value)  # net = net.to(device)
            return
        self.made.append(_Reading(self, {}).visit(copy.deepcopy(node)))

    def define(self, node: ast.ClassDef) -> None:
        """A class; one that can't be read stays as it is, and is refused where it is used."""
        bases = [dotted(base) for base in node.bases]
        known = [self.classes[base] for base in bases if base in self.classes]
        paths = [self.path(base) for base in bases]
        is_function = any(each in FUNCTION for each in paths) or any(each.is_function for each in known)
        readable = len(bases) < 2 and not node.keywords and not node.decorator_list and (
            not bases or bool(known) or is_function or paths[0] in KNOWN_BASES
        )
        parts = [part for part in node.body if not _is_text(part)]
        fits = all(isinstance(part, (ast.FunctionDef, ast.Pass, ast.Assign)) for part in parts)
        if not readable or not fits:
            self.made.append(node)
            return
        base = known[0] if known else None
        methods = {**(base.methods if base else {}), **{part.name: part for part in parts if isinstance(part, ast.FunctionDef)}}
        fields = [*(base.fields if base else []), *(part for part in parts if isinstance(part, ast.Assign))]
        made = self.classes[node.name] = _Class(node, is_function, methods, fields, base)
        if is_function:
            self.custom(made)

    def path(self, name: str) -> str:
        """What a dotted name means by the imports of the text."""
        root, _, rest = name.partition(".")
        return ".".join(part for part in (self.paths.get(root, root), rest) if part)

    # Functions with a backward of their own

    def custom(self, made: _Class) -> None:
        """`apply` of a torch.autograd.Function."""
        names = [name for name in ("forward", "backward", "setup_context") if name in made.methods]
        methods = [made.methods[name] for name in names]
        static = all([dotted(mark) for mark in method.decorator_list] == ["staticmethod"] for method in methods)
        if names[:2] != ["forward", "backward"] or not static:
            return  # refused where it is used
        root = made.node.name
        for name, method in zip(names, methods, strict=True):
            again = copy.deepcopy(method)
            taken = [part.arg for part in again.args.args]
            context = taken[0] if taken and not (name == "forward" and "setup_context" in names) else ""
            again.name, again.decorator_list = f"{root}.{name}", []
            again.body = [part for statement in again.body for part in _Context(context).statement(statement)] or [ast.Pass()]
            again.returns = None
            self.made.append(_Reading(self, {}).visit(again))
        parts: list[ast.expr] = [_name(f"{root}.{name}", made.node) for name in names]
        value = ast.copy_location(Custom(root, parts), made.node)
        self.assign(f"{root}.apply", value, made.node)

    # Objects

    def makes(self, call: ast.Call) -> bool:
        """Whether a call makes an object of a class of the text, or holds one that does."""
        return any(isinstance(part, ast.Call) and self.class_called(part) for part in ast.walk(call)) or (
            class_of(call.func, self.paths) == "ModuleList"
        )

    def class_called(self, call: ast.Call) -> _Class | None:
        """The class of the text that a call makes an object of."""
        found = self.classes.get(call.func.id) if isinstance(call.func, ast.Name) else None
        return None if found is None or found.is_function else found

    def assign(self, path: str, value: ast.expr, node: ast.AST) -> None:
        """`path = value`, a statement that stands where the object is made."""
        self.made.append(ast.copy_location(ast.Assign([_name(path, node, ast.Store())], value), node))

    def place(self, path: str, value: Any, node: ast.AST) -> Any:
        """Give what was made a name."""
        self.count(node)
        if isinstance(value, _List):
            value = _List([self.place(f"{path}.{k}", item, node) for k, item in enumerate(value.items)])
        elif isinstance(value, _New) and value.kind is not None:
            value = self.instance(path, value)
        elif isinstance(value, _New) and value.chain is not None:
            made, start = _Object(path, None), len(self.made)
            made.parts = {str(k): self.place(f"{path}.{k}", item, node) for k, item in enumerate(value.chain)}
            self.begin(path, value.call, start)
            self.made.append(_chain(path, list(made.parts.values()), value.call))
            value = made
        elif isinstance(value, _New):
            self.drawn.append(value.call)
            self.assign(path, value.call, value.call)
            is_sequential = class_of(value.call.func, self.paths) == "Sequential"
            value = _name(path, node) if is_parameter(value.call, self.paths) else _Module(path, len(value.call.args) if is_sequential else None)
        elif isinstance(value, ast.expr) and not isinstance(value, ast.Constant):
            self.assign(path, value, node)
            value = _name(path, node)
        if "." not in path:
            self.objects[path] = value
        return value

    def begin(self, path: str, node: ast.Call, start: int) -> None:
        """What holds the parameters of an object itself, in front of those of its parts; nothing where it has none."""
        values = [part.value for part in self.made[start:] if isinstance(part, ast.Assign)]
        if not any(isinstance(value, ast.Call) and (class_of(value.func, self.paths) or is_parameter(value, self.paths)) for value in values):
            return
        holder = ast.copy_location(ast.Call(ast.copy_location(ast.Attribute(_name("nn", node), "Module", ast.Load()), node), [], []), node)
        target = _name(path, node, ast.Store())
        self.made.insert(start, ast.copy_location(ast.Assign([target], holder), node))

    def instance(self, path: str, new: _New) -> _Object:
        """An object of a class: its `__init__` is carried out, and its methods are functions."""
        kind = new.kind
        assert kind is not None
        self.level += 1
        if self.level > MOST_LEVELS:
            raise self.at(new.call, LimitError(f"Objects stand inside of each other more than {MOST_LEVELS} deep."))
        made, start = _Object(path, kind), len(self.made)
        self.set(made, "training", ast.copy_location(ast.Constant(True), new.call), new.call)
        for statement in kind.fields:
            for each in separated(statement):
                if not isinstance(each.targets[0], ast.Name):
                    raise self.refusal(statement, "This can't be read here")
                self.set(made, each.targets[0].id, self.value(each.value, {}, made), statement)
        if "__init__" in kind.methods:
            self.initialise(made, kind, kind.methods["__init__"], new.arguments, new.keywords, new.call)
        elif new.arguments or new.keywords:
            raise self.refusal(new.call, f"`{kind.node.name}` has no `__init__` that takes these")
        self.begin(path, new.call, start)
        for name, method in kind.methods.items():
            if name != "__init__":
                self.method(made, name, method)
        self.level -= 1
        return made

    def initialise(
        self, made: _Object, kind: _Class, method: ast.FunctionDef, arguments: Sequence[Any], keywords: Mapping[str, Any], call: ast.AST
    ) -> None:
        """Carry out `__init__`."""
        taken = method.args
        names = [part.arg for part in (*taken.posonlyargs, *taken.args)]
        if taken.vararg or not names or method.decorator_list or len(arguments) >= len(names):
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        own = names[0]
        scope: dict[str, Any] = dict(zip(names[1:], arguments, strict=False))
        defaults = dict(zip(names[len(names) - len(taken.defaults) :], taken.defaults, strict=True))
        defaults.update({part.arg: value for part, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value})
        names += [part.arg for part in taken.kwonlyargs]
        if not {*keywords} <= {*names[1:]} - {*scope}:
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        scope.update(keywords)
        for name in names[1:]:
            if name not in scope and name not in defaults:
                raise self.refusal(call, f"`__init__` of `{kind.node.name}` needs a value for `{name}`")
            if name not in scope:
                scope[name] = self.value(defaults[name], {}, None)
        for name, value in scope.items():
            scope[name] = self.settled(made, name, value, call)
        _Making(self, made, kind, own, scope).run(method.body)

    def settled(self, made: _Object, name: str, value: Any, node: ast.AST) -> Any:
        """A value of a name inside of `__init__`: what is no plain value, and no module, is computed once."""
        if not isinstance(value, ast.expr) or _is_settled(value):
            return value
        path = f"{made.path}.__init__.{name}.{self.steps}"
        self.count(node)
        self.assign(path, value, node)
        return _name(path, node)

    def set(self, made: _Object, name: str, value: Any, node: ast.AST) -> None:
        """`self.name = value`"""
        if isinstance(made.parts.get(name), (_Object, _Module)):
            raise self.refusal(node, f"`{name}` is a module, and is set a second time here")
        path = f"{made.path}.{name}"
        made.plain.pop(name, None)
        if isinstance(value, ast.expr):
            if _is_literal(value):
                made.plain[name] = value
            self.assign(path, copy.deepcopy(value), node)
            made.parts[name] = _name(path, node)
        elif isinstance(value, _List) and not any(isinstance(each, (_New, _Object, _Module)) for each in value.items):
            self.set(made, name, _written(value, node), node)
            made.parts[name] = value if not value.items else made.parts[name]
        else:
            made.parts[name] = self.place(path, value, node)

    def method(self, made: _Object, name: str, method: ast.FunctionDef) -> None:
        """A method as a function."""
        marks = [dotted(mark) for mark in method.decorator_list]
        again = copy.deepcopy(method)
        taken = again.args.posonlyargs or again.args.args
        roots: dict[str, Any] = {}
        if "staticmethod" not in marks:
            if not taken:
                return
            roots = {taken.pop(0).arg: made}
        again.decorator_list = [mark for mark in again.decorator_list if dotted(mark) not in ("staticmethod", "property")]
        again.name, again.returns = f"{made.path}.{name}", None
        again.body = again.body or [ast.Pass()]
        reading = _Reading(self, roots)
        found = reading.visit(again)
        if reading.stored:
            found.body.insert(0, ast.copy_location(ast.Global(sorted(reading.stored)), method.body[0]))
        for path in sorted(reading.stored):
            if path.rpartition(".")[2] not in made.parts:
                self.set(made, path.rpartition(".")[2], ast.copy_location(ast.Constant(None), method), method)
        self.made.append(found)
        self.methods.append(found)

    def modes(self, name: str, node: ast.expr) -> None:
        """`net.eval()`, of all that `net` holds."""
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("eval", "train"):
                for path, is_object in _paths(self.objects.get(name)):
                    if is_object:
                        flag = ast.Constant(node.func.attr == "train") if not node.args else node.args[0]
                        self.assign(f"{path}.training", ast.copy_location(flag, node), node)
                    else:
                        call = ast.Call(ast.copy_location(ast.Attribute(_name(path, node), node.func.attr, ast.Load()), node), node.args, node.keywords)
                        self.made.append(ast.copy_location(ast.Expr(ast.copy_location(call, node)), node))
            node = node.func.value

    # Values that `__init__` makes

    def value(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | _Object | None) -> Any:
        """What an expression is: a module or object without a name yet, a list of such, or an expression of plain values."""
        self.count(node)
        inner = making if isinstance(making, _Making) else None
        if isinstance(node, ast.Name) and node.id in scope:
            found = scope[node.id]
            return copy.deepcopy(found) if isinstance(found, ast.expr) else found
        if inner is not None and isinstance(node, ast.Attribute) and dotted(node.value) == inner.own:
            found = inner.made.plain.get(node.attr, inner.made.parts.get(node.attr))
            if found is None:
                raise self.refusal(node, f"`{dotted(node)}` has no value yet")
            return copy.deepcopy(found) if isinstance(found, ast.expr) else found
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [each for part in node.elts for each in self.items(part, scope, making)]
            plain = isinstance(node, ast.Tuple) and all(isinstance(each, ast.expr) for each in items)
            return ast.copy_location(ast.Tuple(items, ast.Load()), node) if plain else _List(items)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)) and len(node.generators) == 1:
            return self.comprehension(node, scope, making)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            left, right = self.value(node.left, scope, making), self.value(node.right, scope, making)
            if isinstance(node.op, ast.Add) and isinstance(left, _List) and isinstance(right, _List):
                return _List([*left.items, *right.items])
            if isinstance(left, _List) and isinstance(node.op, ast.Mult) and not any(isinstance(each, _New) for each in left.items):
                times = _plain(right) if isinstance(right, ast.expr) else None
                if type(times) is int and len(left.items) * times < MOST_STEPS:
                    return _List([copy.deepcopy(each) for _ in range(times) for each in left.items])
        if isinstance(node, ast.Call):
            made = self.constructed(node, scope, making)
            if made is not None:
                return made
        found = self.folded(node, scope, inner)
        return found if found is not None else self.substituted(node, scope, inner)

    def items(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | _Object | None) -> list[Any]:
        """What an argument or an item of a list stands for: `*layers` for several."""
        if not isinstance(node, ast.Starred):
            return [self.value(node, scope, making)]
        return self.iterated(node.value, scope, making)

    def iterated(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | _Object | None) -> list[Any]:
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
                columns.insert(0, [ast.copy_location(ast.Constant(k), node) for k in range(len(columns[0]))])
            return [_List(list(row)) for row in zip(*columns, strict=False)]
        found = self.value(node, scope, making)
        if isinstance(found, _List):
            return found.items
        if isinstance(found, (ast.Tuple, ast.List)):
            return list(found.elts)
        raise self.refusal(node, "What this goes through isn't known before the program runs")

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp, scope: Mapping[str, Any], making: _Making | _Object | None) -> _List:
        """`[nn.Linear(a, b) for a, b in pairs]`"""
        (loop,) = node.generators
        found = []
        for item in self.iterated(loop.iter, scope, making):
            inside = {**scope, **self.matched(loop.target, item)}
            if all(self.truth(test, inside, making) for test in loop.ifs):
                found.append(self.value(node.elt, inside, making))
        return _List(found)

    def matched(self, target: ast.expr, value: Any) -> dict[str, Any]:
        """The names of a target with what they stand for."""
        if isinstance(target, ast.Name):
            return {target.id: value}
        parts = value.items if isinstance(value, _List) else value.elts if isinstance(value, (ast.Tuple, ast.List)) else None
        if not isinstance(target, (ast.Tuple, ast.List)) or parts is None or len(parts) != len(target.elts):
            raise self.refusal(target, "This assignment can't be read here")
        return {name: each for one, part in zip(target.elts, parts, strict=True) for name, each in self.matched(one, part).items()}

    def truth(self, test: ast.expr, scope: Mapping[str, Any], making: _Making | _Object | None) -> bool:
        """Whether a condition holds.

        Raises:
            ForbiddenError: that isn't known from the text.
        """
        found = self.folded(test, scope, making if isinstance(making, _Making) else None)
        if found is None:
            raise self.refusal(test, "Whether this holds isn't known before the program runs")
        return bool(_plain(found))

    def constructed(self, node: ast.Call, scope: Mapping[str, Any], making: _Making | _Object | None) -> Any:
        """What a constructor makes; None for any other call."""
        kind, name = self.class_called(node), class_of(node.func, self.paths)
        if kind is None and not name and not is_parameter(node, self.paths):
            return None
        frozen = [keyword for keyword in node.keywords if keyword.arg == "requires_grad" and _plain_or_none(keyword.value) is False]
        if not kind and not name and frozen and node.args:
            return self.value(node.args[0], scope, making)
        arguments = [each for part in node.args for each in self.items(part, scope, making)]
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.refusal(node, "`**` can't be read here")
        keywords = {keyword.arg or "": self.value(keyword.value, scope, making) for keyword in node.keywords}
        if kind is not None:
            return _New(node, kind, arguments, keywords)
        if name == "ModuleList":
            return arguments[0] if arguments and isinstance(arguments[0], _List) else _List([])
        if name == "Sequential" and any(
            not isinstance(each, _New) or each.kind is not None or each.chain is not None for each in arguments
        ):
            if not all(isinstance(each, (_New, _Object, _Module)) for each in arguments):
                raise self.refusal(node, "`nn.Sequential` of this can't be read")
            return _New(node, chain=arguments)
        parts = [_written(each, node) for each in arguments]
        named = [ast.keyword(key, _written(each, node)) for key, each in keywords.items()]
        return _New(ast.copy_location(ast.Call(copy.deepcopy(node.func), parts, named), node))

    def folded(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | None) -> ast.expr | None:
        """The plain value of an expression as it is written out; None where it has none."""
        try:
            value = _plain(node, lambda part: self.known(part, scope, making))
        except (_NoPlainError, ArithmeticError, TypeError, IndexError, ValueError):
            return None
        return _literal(value, node)

    def known(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | None) -> Any:
        """What a name or attribute stands for, as a plain value."""
        found: Any = None
        if isinstance(node, ast.Name):
            found = scope.get(node.id, None if node.id in scope else self.constants.get(node.id))
        elif making is not None and isinstance(node, ast.Attribute) and dotted(node.value) == making.own:
            found = making.made.plain.get(node.attr, making.made.parts.get(node.attr))
        if isinstance(found, _List):
            return [_plain(each) if isinstance(each, ast.expr) else each for each in found.items]
        if isinstance(found, ast.expr):
            return _plain(found)
        raise _NoPlainError

    def substituted(self, node: ast.expr, scope: Mapping[str, Any], making: _Making | None) -> ast.expr:
        """An expression with what its names stand for."""
        roots: dict[str, Any] = {} if making is None else {making.own: making.made}
        found = _Reading(self, {**roots, **scope}).visit(copy.deepcopy(node))
        assert isinstance(found, ast.expr)
        return found


@dataclass
class _Making:
    """An `__init__` that is carried out."""

    reader: _Reader
    made: _Object
    kind: _Class
    own: str
    scope: dict[str, Any]

    def run(self, statements: Sequence[ast.stmt]) -> None:
        """One statement after the other."""
        for node in statements:
            self.reader.count(node)
            self.statement(node)

    def value(self, node: ast.expr) -> Any:
        """What an expression is."""
        return self.reader.value(node, self.scope, self)

    def statement(self, node: ast.stmt) -> None:
        """One statement."""
        if isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.assign(target, value, node)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value), node)
        elif isinstance(node, ast.AugAssign):
            target = copy.deepcopy(node.target)
            target.ctx = ast.Load()
            total = ast.copy_location(ast.BinOp(target, node.op, node.value), node)
            self.assign(node.target, self.value(total), node)
        elif isinstance(node, ast.For) and not node.orelse:
            for item in self.reader.iterated(node.iter, self.scope, self):
                self.scope.update(self.reader.matched(node.target, item))
                self.run(node.body)
        elif isinstance(node, ast.If):
            self.run(node.body if self.reader.truth(node.test, self.scope, self) else node.orelse)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.call(node.value)
        elif not isinstance(node, (ast.Pass, ast.Assert, ast.AnnAssign)) and not _is_text(node):
            raise self.reader.refusal(node, "What `__init__` does here can't be read")

    def assign(self, target: ast.expr, value: Any, node: ast.stmt) -> None:
        """`self.a = value`, `a = value`, `a, b = values`"""
        if isinstance(target, ast.Attribute) and dotted(target.value) == self.own:
            self.reader.set(self.made, target.attr, value, node)
        elif isinstance(target, ast.Name):
            self.scope[target.id] = self.reader.settled(self.made, target.id, value, node)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for name, each in self.reader.matched(ast.Tuple([_name(str(k), target) for k in range(len(target.elts))]), value).items():
                self.assign(target.elts[int(name)], each, node)
        else:
            raise self.reader.refusal(node, "What `__init__` does here can't be read")

    def call(self, call: ast.Call) -> None:
        """`super().__init__()`, `layers.append(…)`, `self.add_module(…)`"""
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if dotted(call.func) == "print":
            return
        if method == "__init__":
            self.base(call, owner)
            return
        if method in ("append", "extend") and owner is not None and len(call.args) == 1:
            items = self.value(owner)
            if isinstance(items, _List):
                new = [self.value(call.args[0])] if method == "append" else self.reader.iterated(call.args[0], self.scope, self)
                if isinstance(owner, ast.Attribute):  # a ModuleList, whose items have names
                    path = f"{self.made.path}.{owner.attr}"
                    new = [self.reader.place(f"{path}.{len(items.items) + k}", each, call) for k, each in enumerate(new)]
                items.items += new
                return
        if method in ("add_module", "register_module", "register_buffer", "register_parameter") and dotted(owner or call) == self.own:
            name = _plain_or_none(self.reader.folded(call.args[0], self.scope, self)) if len(call.args) > 1 else None
            if isinstance(name, str) and name.isidentifier():
                self.reader.set(self.made, name, self.value(call.args[1]), call)
                return
        raise self.reader.refusal(call, "What `__init__` does here can't be read")

    def base(self, call: ast.Call, owner: ast.expr | None) -> None:
        """`super().__init__(…)`, `nn.Module.__init__(self)`"""
        if isinstance(owner, ast.Call) and dotted(owner.func) == "super":
            given = call.args
        elif owner is not None and call.args and dotted(call.args[0]) == self.own:
            given = call.args[1:]
        else:
            raise self.reader.refusal(call, "What `__init__` does here can't be read")
        base = self.kind.base
        if base is not None and "__init__" in base.methods:
            arguments = [each for part in given for each in self.reader.items(part, self.scope, self)]
            keywords = {keyword.arg or "": self.value(keyword.value) for keyword in call.keywords}
            self.reader.initialise(self.made, base, base.methods["__init__"], arguments, keywords, call)


class _Reading(ast.NodeTransformer):
    """Reads what a part of the program says of objects: `self.fc(x)`, `net(x)`, `Square.apply`."""

    def __init__(self, reader: _Reader, roots: Mapping[str, Any]) -> None:
        self.reader = reader
        self.roots = dict(roots)
        self.hidden: set[str] = set()
        self.inside = 0
        self.stored: set[str] = set()

    def resolved(self, node: ast.expr) -> Any:
        """What a path means: an object, a module, a list, a name; None where it is none of these."""
        if isinstance(node, ast.Name):
            if node.id in self.hidden:
                return None
            return self.roots.get(node.id, self.reader.objects.get(node.id))
        if isinstance(node, ast.Attribute):
            owner = self.resolved(node.value)
            return owner.parts.get(node.attr) if isinstance(owner, _Object) else None
        if isinstance(node, ast.Subscript):
            owner, key = self.resolved(node.value), _plain_or_none(node.slice)
            if isinstance(owner, _Module) and owner.count is not None and type(key) is int and -owner.count <= key < owner.count:
                return _Module(f"{owner.path}.{key % owner.count}")
            parts = list(owner.parts.values()) if isinstance(owner, _Object) and owner.kind is None else []
            items = owner.items if isinstance(owner, _List) else parts
            return items[key] if type(key) is int and -len(items) <= key < len(items) else None
        return None

    # Scopes

    def _within(self, node: Any, own: set[str]) -> ast.AST:
        outer, self.hidden = self.hidden, self.hidden | (own - {*self.roots} if self.inside else own)
        self.inside += 1
        found = self.generic_visit(node)
        self.inside -= 1
        self.hidden = outer
        return found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function, whose parameters and names hide what else they mean."""
        taken = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        return self._within(node, taken | {*assigned(node.body)})

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """A lambda, whose parameters hide what else they mean."""
        return self._within(node, {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)})

    def visit_For(self, node: ast.For) -> ast.AST:
        """A loop, maybe through the parts of a module."""
        node.iter = self.spread(node.iter)
        return self._within(node, set())

    def visit_While(self, node: ast.While) -> ast.AST:
        """A loop."""
        return self._within(node, set())

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """What a comprehension goes through."""
        node.iter = self.spread(node.iter)
        return self.generic_visit(node)

    # What is read

    def reference(self, value: Any, node: ast.expr) -> ast.expr:
        """What stands for a value of an object in the program."""
        if isinstance(value, _Object):
            if value.kind is not None and not {"forward", "__call__"} & {*value.kind.methods}:
                raise self.reader.refusal(node, f"An object of `{value.kind.node.name}` is no value by itself")
            return _name(f"{value.path}.{_called(value)}", node)
        if isinstance(value, _Module):
            return _path(value.path, node)
        if isinstance(value, _List):
            return ast.copy_location(ast.List([self.reference(each, node) for each in value.items], ast.Load()), node)
        if isinstance(value, _New):
            raise self.reader.refusal(node, "A module without a name can't stand here")
        return ast.copy_location(copy.deepcopy(value), node)

    def spread(self, node: ast.expr) -> ast.expr:
        """The parts of a module that a loop goes through, as a list."""
        if isinstance(node, ast.Call) and dotted(node.func) in ("enumerate", "zip", "reversed", "list"):
            node.args = [self.spread(part) for part in node.args]
            return node
        value = self.resolved(node)
        if isinstance(value, _Module) and value.count is not None:
            return self.reference(_List([_Module(f"{value.path}.{k}") for k in range(value.count)]), node)
        if isinstance(value, _Object) and value.kind is None:
            return self.reference(_List([*value.parts.values()]), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, maybe of an object, or of one of its methods."""
        if self.reader.class_called(node) is not None:
            return self.unnamed(node)
        func = node.func
        owner = self.resolved(func.value) if isinstance(func, ast.Attribute) else None
        if isinstance(func, ast.Attribute) and isinstance(owner, (_Object, _Module)) and isinstance(self.resolved(func), type(None)):
            is_method = isinstance(owner, _Object) and owner.kind is not None and func.attr in owner.kind.methods
            if not is_method and func.attr in PLACED:
                return self.visit(func.value)
            if not is_method and func.attr in ("parameters", "named_parameters", "zero_grad"):
                node.func = ast.copy_location(ast.Attribute(_path(owner.path, func), func.attr, ast.Load()), func)
                return node
        module = self.resolved(node.args[0]) if node.args and dotted(func).endswith("functional_call") else None
        if isinstance(module, _Object):  # its function is called with other values of its parameters
            first, *rest = node.args
            node.args = [_path(module.path, first), *(self.visit(part) for part in rest)]
            node.keywords.append(ast.copy_location(ast.keyword(FORWARD, self.reference(module, first)), node))
            return node
        if dotted(func) == "len" and len(node.args) == 1:
            node.args = [self.spread(node.args[0])]
        return self.generic_visit(node)

    def unnamed(self, node: ast.Call) -> ast.expr:
        """`Net()(x)`: the object is made in front of the statement, and named after its class."""
        kind = self.reader.class_called(node)
        assert kind is not None
        if self.inside or self.roots:
            message = f"An object of `{kind.node.name}` gets one name, in a statement of its own that is in no block."
            hint = f"Make it before, under a name: made = {kind.node.name}(…)"
            raise self.reader.at(node, ForbiddenError(message, hints=[hint]))
        name = kind.node.name
        while name in self.reader.objects or name in self.reader.bound:
            name += "_"
        return self.reference(self.reader.place(name, self.reader.value(node, {}, None), node), node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name, maybe of an object."""
        if not isinstance(node.ctx, ast.Load):
            return node
        value = self.resolved(node)
        return node if value is None else self.reference(value, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`self.fc`, `self.scale`, `net.forward`, `Square.apply`."""
        owner = self.resolved(node.value)
        if isinstance(owner, _Object):
            return self.part(owner, node)
        made = self.reader.classes.get(dotted(node.value))
        if made is not None and made.is_function:
            if node.attr != "apply" or not any(
                isinstance(part, ast.Assign) and dotted(part.targets[0]) == f"{made.node.name}.apply" for part in self.reader.made
            ):
                what = f"Of `{made.node.name}` only apply can be used, with static methods `forward` and `backward`"
                raise self.reader.refusal(node, what)
            return _name(f"{made.node.name}.apply", node)
        if isinstance(owner, _Module):
            return ast.copy_location(ast.Attribute(_path(owner.path, node), node.attr, node.ctx), node)
        return self.generic_visit(node)

    def part(self, owner: _Object, node: ast.Attribute) -> ast.expr:
        """An attribute of an object."""
        methods = owner.kind.methods if owner.kind is not None else {}
        if isinstance(node.ctx, ast.Store):
            if isinstance(owner.parts.get(node.attr), (_Object, _Module, _List)) or node.attr in methods:
                raise self.reader.refusal(node, f"`{node.attr}` is a module, and is set a second time here")
            path = f"{owner.path}.{node.attr}"
            if self.inside:
                self.stored.add(path)
            return _name(path, node, ast.Store())
        if node.attr in owner.parts:
            return self.reference(owner.parts[node.attr], node)
        if node.attr in methods:
            found = _name(f"{owner.path}.{node.attr}", node)
            is_property = any(dotted(mark) == "property" for mark in methods[node.attr].decorator_list)
            return ast.copy_location(ast.Call(found, [], []), node) if is_property else found
        if node.attr == "__call__":
            return self.reference(owner, node)
        if node.attr.startswith("_") or owner.kind is None:
            raise self.reader.refusal(node, f"`{node.attr}` can't be read of an object here")
        return _name(f"{owner.path}.{node.attr}", node)  # what a method sets

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """`self.layers[0]`"""
        value = self.resolved(node)
        if value is not None and isinstance(node.ctx, ast.Load):
            return self.reference(value, node)
        node.value = self.spread(node.value)
        return self.generic_visit(node)


class _Context(ast.NodeTransformer):
    """Reads `ctx` of a Function's method as a dictionary."""

    def __init__(self, name: str) -> None:
        self.name = name

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        """`ctx.save_for_backward(x)` as `ctx["saved_tensors"] = (x,)`; what only says how torch goes about it is left out."""
        found = self.visit(node)
        return [found] if isinstance(found, ast.stmt) else []

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A call for what it does."""
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and self._is_context(call.func.value)):
            return self.generic_visit(node)
        if call.func.attr == "save_for_backward":
            items = ast.copy_location(ast.Tuple([self.visit(part) for part in call.args], ast.Load()), call)
            target = self._item("saved_tensors", call, ast.Store())
            return ast.copy_location(ast.Assign([target], items), node)
        return ast.copy_location(ast.Pass(), node) if call.func.attr.startswith(("mark_", "set_")) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`ctx.scale` as `ctx["scale"]`."""
        if not self._is_context(node.value):
            return self.generic_visit(node)
        return self._item("saved_tensors" if node.attr == "saved_variables" else node.attr, node, node.ctx)

    def _is_context(self, node: ast.expr) -> bool:
        return bool(self.name) and isinstance(node, ast.Name) and node.id == self.name

    def _item(self, key: str, node: ast.expr, ctx: ast.expr_context) -> ast.expr:
        word = ast.copy_location(ast.Constant(key), node)
        return ast.copy_location(ast.Subscript(_name(self.name, node), word, ctx), node)


# Plain values


class _NoPlainError(Exception):
    """An expression has no plain value."""


OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv, ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip

NUMBERS = (int, float, bool)
PLAIN = (*NUMBERS, str, type(None))


def _plain(node: ast.expr, known: Callable[[ast.expr], Any] | None = None) -> Any:
    """The plain value of an expression: numbers, words, lists of such.

    Raises:
        _NoPlainError: it has none.
    """

    def of(part: ast.expr) -> Any:
        return _plain(part, known)

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
        if isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, (list, tuple)):
            return _short(left + right)
        return _small(OPERATORS[type(node.op)](_number(left), _number(right)))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
        left, right = of(node.left), of(node.comparators[0])
        if not isinstance(left, PLAIN) or not isinstance(right, PLAIN):
            raise _NoPlainError
        return OPERATORS[type(node.ops[0])](left, right)
    if isinstance(node, ast.BoolOp):
        values = [of(part) for part in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.IfExp):
        return of(node.body if of(node.test) else node.orelse)
    if isinstance(node, ast.Subscript):
        return _taken(of(node.value), node.slice, of)
    if isinstance(node, ast.Call) and not node.keywords:
        return _called_plain(dotted(node.func), [of(part) for part in node.args])
    raise _NoPlainError


def _taken(items: Any, key: ast.expr, of: Callable[[ast.expr], Any]) -> Any:
    if not isinstance(items, (list, tuple)):
        raise _NoPlainError
    if isinstance(key, ast.Slice):
        return items[slice(*(None if part is None else of(part) for part in (key.lower, key.upper, key.step)))]
    return items[of(key)]


def _called_plain(name: str, values: list[Any]) -> Any:
    if name == "len" and len(values) == 1 and isinstance(values[0], (list, tuple)):
        return len(values[0])
    if name == "range" and 0 < len(values) < 4 and all(type(value) is int for value in values):
        return _short(range(*values))
    if name in ("int", "float") and len(values) == 1:
        return int(_number(values[0])) if name == "int" else float(_number(values[0]))
    raise _NoPlainError


def _number(value: Any) -> Any:
    if not isinstance(value, NUMBERS):
        raise _NoPlainError
    return value


def _small(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise _NoPlainError
    return value


def _short(items: Any) -> list[Any] | tuple[Any, ...]:
    if len(items) > MOST_STEPS:
        raise _NoPlainError
    return items if isinstance(items, tuple) else list(items)


def _plain_or_none(node: ast.expr | None) -> Any:
    try:
        return None if node is None else _plain(node)
    except (_NoPlainError, ArithmeticError, TypeError, IndexError, ValueError):
        return None


def _literal(value: Any, node: ast.AST) -> ast.expr:
    """A plain value as an expression.

    Raises:
        _NoPlainError: it is none.
    """
    if isinstance(value, (list, tuple)):
        items = [_literal(each, node) for each in value]
        return ast.copy_location(ast.List(items, ast.Load()) if isinstance(value, list) else ast.Tuple(items, ast.Load()), node)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise _NoPlainError
    if not isinstance(value, PLAIN):
        raise _NoPlainError
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return ast.copy_location(ast.UnaryOp(ast.USub(), ast.copy_location(ast.Constant(-value), node)), node)
    return ast.copy_location(ast.Constant(value), node)


def _is_literal(node: ast.expr) -> bool:
    try:
        _plain(node)
    except (_NoPlainError, ArithmeticError, TypeError, IndexError, ValueError):
        return False
    return True


def _is_settled(node: ast.expr) -> bool:
    """Whether an expression gives the same wherever it stands: a plain value, a function's name, a value that has a name."""
    return _is_literal(node) or isinstance(node, (ast.Name, ast.Attribute, ast.Lambda))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _written(value: Any, node: ast.AST) -> ast.expr:
    """A value as an argument of a constructor."""
    if isinstance(value, _New) and value.kind is None and value.chain is None:
        return value.call
    if isinstance(value, _List):
        return ast.copy_location(ast.List([_written(each, node) for each in value.items], ast.Load()), node)
    if isinstance(value, _Module):
        return _path(value.path, node)
    if isinstance(value, _Object):
        return _name(f"{value.path}.{_called(value)}", node)
    return value if isinstance(value, ast.expr) else ast.copy_location(ast.Constant(None), node)


def _called(made: _Object) -> str:
    return "__call__" if made.kind is not None and "forward" not in made.kind.methods else "forward"


def _name(path: str, node: ast.AST, ctx: ast.expr_context | None = None) -> ast.Name:
    return ast.copy_location(ast.Name(path, ctx or ast.Load()), node)


def _path(path: str, node: ast.AST) -> ast.expr:
    """`net.fc` as a path."""
    root, *rest = path.split(".")
    found: ast.expr = _name(root, node)
    for part in rest:
        found = ast.copy_location(ast.Attribute(found, part, ast.Load()), node)
    return found


def _owner(node: ast.stmt) -> str:
    """`net` of `net.eval()`, `net = net.to(device)`."""
    value = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
    root = chained(value) if isinstance(value, ast.Call) else None
    return root.id if isinstance(root, ast.Name) else ""


def _paths(value: Any) -> Iterator[tuple[str, bool]]:
    """The names of an object and of the modules in it, and which are objects."""
    if isinstance(value, _Object):
        if value.kind is not None:
            yield value.path, True
        for part in value.parts.values():
            yield from _paths(part)
    elif isinstance(value, _List):
        for part in value.items:
            yield from _paths(part)
    elif isinstance(value, _Module):
        yield value.path, False


def _chain(path: str, parts: Sequence[Any], node: ast.Call) -> ast.FunctionDef:
    """The function of a sequence: each part in turn."""
    taken = ast.copy_location(ast.arg("input"), node)
    value: ast.expr = _name("input", node)
    for part in parts:
        func = _path(part.path, node) if isinstance(part, _Module) else _name(f"{part.path}.{_called(part)}", node)
        value = ast.copy_location(ast.Call(func, [value], []), node)
    arguments = ast.arguments(posonlyargs=[], args=[taken], kwonlyargs=[], kw_defaults=[], defaults=[])
    body = [ast.copy_location(ast.Return(value), node)]
    return ast.copy_location(ast.FunctionDef(f"{path}.forward", arguments, body, []), node)
