"""What a program says of objects, as names and functions of their own: `self.fc(x)`, `net(x)`, `ctx.scale`.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Protocol

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError
from jvpcli.language.lowering import FORWARD
from jvpcli.language.names import assigned, copied, dotted, turns_on
from jvpcli.language.objects import (
    MARKS,
    MATERIALIZES,
    Class,
    Module,
    New,
    Object,
    Parts,
    collected,
    function_at,
    is_called,
    name_at,
    path_at,
    paths_in,
    placed,
)
from jvpcli.language.plain import Filled, NoPlainError, literal, plain_or_none, plain_value
from jvpcli.language.preparations import CASTS, LISTS, OF_MODULES
from jvpcli.language.source import SourceText

PLACED = ("to", "cuda", "cpu", "requires_grad_")
"""Methods of a module that leave it what it is here."""


def freezes(call: ast.Call) -> bool:
    """`net.requires_grad_(False)`"""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_" and not turns_on(call)


def casts(call: ast.Call) -> bool:
    """`net.double()`"""
    return isinstance(call.func, ast.Attribute) and call.func.attr in CASTS and not call.args


OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.Div: "__truediv__", ast.MatMult: "__matmul__",
}  # fmt: skip
"""The methods that an object has for operators, which it stands to the left of."""

OF_ITEMS = ("__len__", "__getitem__")
"""The methods by which an object is a sequence."""

OF_FUNCTIONS = ("forward", "backward", "setup_context", "jvp", "vmap")
"""The methods of a torch.autograd.Function that torch calls."""


def is_static(method: ast.FunctionDef) -> bool:
    """Whether a method needs no object: a static one, or one of its class."""
    return any(dotted(mark) in ("staticmethod", "classmethod") for mark in method.decorator_list)


MOST_TURNS = 100
"""Of loops in a part of a program, whose turns stand one after the other."""


def derives(kind: Class | None, base: Class) -> bool:
    """Whether a class is another one, or derived from it."""
    return kind is not None and (kind is base or derives(kind.base, base))


LEGACY = (
    "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function with static "
    "forward method. (Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"
)

class Reader(Protocol):
    """What is known of a text: its classes and objects by name, and how further ones are made."""

    classes: dict[str, Class]
    objects: dict[str, Any]
    bound: list[str]
    tree: ast.Module
    made: list[ast.stmt]
    front: list[ast.stmt]
    used: set[str]
    trains: dict[str, bool]
    text: SourceText
    inherited: set[str]

    def at(self, node: ast.AST, error: JvpError) -> JvpError:
        """The error with its place."""

    def refusal(self, node: ast.AST, what: str) -> JvpError:
        """What is told of a class that can't be read."""

    def class_called(self, call: ast.Call) -> Class | None:
        """The class of the text that a call makes an object of."""

    def value(self, node: ast.expr, scope: Mapping[str, Any], making: Any) -> Any:
        """What an expression is, without a name yet."""

    def place(self, path: str, value: Any, node: ast.AST) -> Any:
        """Give what was made a name."""

    def method(
        self, made: Object, name: str, method: ast.FunctionDef, kind: Class, known: Mapping[str, Any] | None = None
    ) -> None:
        """A method as a function; `known` is what some of its names mean."""

    def static(self, kind: Class, name: str) -> str:
        """The name of the function that a method without an object is."""

    def sliced(self, owner: Any, node: ast.Subscript) -> Object | None:
        """A slice of a sequence of modules; None of anything else."""

    def check_placed(self, call: ast.Call) -> None:
        """Refuse what would change a module."""


class Reading(ast.NodeTransformer):
    """Reads what a part of the program says of objects: `self.fc(x)`, `net(x)`, `Square.apply`."""

    def __init__(self, reader: Reader, roots: Mapping[str, Any], kind: Class | None = None) -> None:
        self.reader = reader
        self.kind = kind  # whose method it is
        self.roots = dict(roots)
        self.hidden: set[str] = set()
        self.inside = 0
        self.left = MOST_TURNS
        self.stored: set[str] = set()

    def resolved(self, node: ast.expr) -> Any:
        """What a path means: an object, a module, a list, a name; None where it is none of these."""
        if isinstance(node, ast.Name):
            if node.id in self.hidden:
                return None
            return self.roots.get(node.id, self.reader.objects.get(node.id))
        if isinstance(node, ast.Attribute):
            owner = self.resolved(node.value)
            return owner.parts.get(node.attr) if isinstance(owner, Object) else None
        if isinstance(node, ast.Subscript) and self.special(node.value, "__getitem__") is not None:
            return None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            return self.reader.sliced(self.resolved(node.value), node)
        if isinstance(node, ast.Subscript):
            owner, key = self.resolved(node.value), plain_or_none(node.slice)
            if isinstance(owner, Parts) and owner.names is not None:
                return owner.items[owner.names.index(key)] if key in owner.names else None
            if isinstance(owner, Module) and owner.count is not None and type(key) is int and -owner.count <= key < owner.count:
                return Module(f"{owner.path}.{key % owner.count}")
            items = (owner.items if isinstance(owner, (Parts, Object)) else None) or []
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
        found = self._within(node, taken | {*assigned(node.body)})
        assert isinstance(found, ast.FunctionDef)
        last = next((place for place, part in enumerate(found.body) if isinstance(part, ast.Return)), len(found.body))
        found.body = found.body[: last + 1]  # nothing behind it runs
        return found

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """A lambda, whose parameters hide what else they mean."""
        return self._within(node, {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)})

    def visit_For(self, node: ast.For) -> Any:
        """A loop, maybe through the parts of a module; where it asks for parts by names that it makes, a turn for each."""
        asks = any(isinstance(part, ast.Call) and dotted(part.func) == "getattr" for part in ast.walk(node))
        turns = self.turns(node) if asks and isinstance(node.target, ast.Name) else None
        if turns is not None:
            found = [self.visit(each) for part in turns for each in part]
            return [each for part in found for each in (part if isinstance(part, list) else [part])]
        node.iter = self.spread(node.iter)
        return self._within(node, set())

    def visit_If(self, node: ast.If) -> Any:
        """A condition; of one that is known from the text (`hasattr(self, "bias")`) what it takes."""
        before, node.test = plain_or_none(node.test), self.visit(node.test)
        holds = plain_or_none(node.test)
        if before is not None or not self.inside or not isinstance(holds, bool):
            return self.generic_visit(node)
        taken = [self.visit(part) for part in (node.body if holds else node.orelse)]
        return [part for each in taken for part in (each if isinstance(each, list) else [each])] or placed(ast.Pass(), node)

    def turns(self, node: ast.For) -> list[list[ast.stmt]] | None:
        """What a loop does in each of its turns, where it goes through plain values, and all of them; else None."""
        leaves = any(isinstance(part, (ast.Break, ast.Continue)) for part in ast.walk(node)) or bool(node.orelse)
        name = dotted(node.target)
        if leaves or name in assigned(node.body):
            return None
        try:
            items = plain_value(node.iter, self.plain)
            values = [literal(item, node) for item in items[: MOST_TURNS + 1]]
        except (NoPlainError, ArithmeticError, TypeError, LookupError, ValueError):
            return None
        self.left -= len(values)
        if self.left < 0:
            return None
        return [[Filled({name: value}).visit(copied(part)) for part in node.body] for value in values]

    def plain(self, node: ast.expr) -> Any:
        """The plain value that an object is made with, under a name that is set nowhere else.

        Raises:
            NoPlainError: it has none.
        """
        owner = self.resolved(node.value) if isinstance(node, ast.Attribute) else None
        if not isinstance(owner, Object) or not isinstance(node, ast.Attribute):
            raise NoPlainError
        sets = [part for part in ast.walk(self.reader.tree) if isinstance(part, ast.Attribute) and part.attr == node.attr and (
            isinstance(part.ctx, ast.Store)
        )]  # fmt: skip
        for kind in [part for part in ast.walk(self.reader.tree) if isinstance(part, ast.ClassDef)]:
            inside = {id(each) for each in ast.walk(kind)}
            making = [each for part in kind.body if getattr(part, "name", "") == "__init__" for each in ast.walk(part)]
            line = owner.kind is not None and kind.name in {each.node.name for each in owner.kind.line}
            first = making if line else [part for part in sets if id(part) in inside and dotted(part.value) == "self"]
            sets = [part for part in sets if not any(part is each for each in first)]
        if sets or node.attr not in owner.plain:
            raise NoPlainError
        return plain_value(owner.plain[node.attr])

    def visit_While(self, node: ast.While) -> ast.AST:
        """A loop."""
        return self._within(node, set())

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> ast.AST:
        """A comprehension, whose variables hide what else they mean."""
        return self._within(node, {*assigned([part.target for part in node.generators])})

    visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """What a comprehension goes through."""
        node.iter = self.spread(node.iter)
        return self.generic_visit(node)

    # What is read

    def reference(self, value: Any, node: ast.expr) -> ast.expr:
        """What stands for a value of an object in the program."""
        if isinstance(value, Object) and value.kind is not None and value.kind.named is not None:
            return placed(ast.Tuple([self.reference(each, node) for each in value.items or ()], ast.Load()), node)
        if isinstance(value, Object):
            if not is_called(value):
                if value.items is not None:
                    return self.reference(Parts(value.items), node)
                assert value.kind is not None
                raise self.reader.refusal(node, f"An object of `{value.kind.node.name}` is no value by itself")
            self.uses(value.path)
            return function_at(value, node)
        if isinstance(value, Module):
            self.uses(value.path)
            return path_at(value.path, node)
        if isinstance(value, Parts) and not value.items and value.path:
            return name_at(value.path, node)  # which methods may fill
        if isinstance(value, Parts):
            return collected(value, [self.reference(each, node) for each in value.items], node)
        if isinstance(value, Class):
            raise self.reader.refusal(node, f"`{value.node.name}` is a class, and no value by itself")
        if isinstance(value, New):
            raise self.reader.refusal(node, "A module without a name can't stand here")
        return placed(copied(value), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        """`net.train()` of an object in a block, as that of each module in it; any other call for what it does."""
        call = node.value
        func = call.func if isinstance(call, ast.Call) and not call.args and not call.keywords else None
        owner = self.resolved(func.value) if isinstance(func, ast.Attribute) and func.attr in ("eval", "train") else None
        if not isinstance(func, ast.Attribute) or not isinstance(owner, Object) or (
            owner.kind is not None and func.attr in owner.kind.methods
        ):  # fmt: skip
            return self.generic_visit(node)
        paths = [*paths_in(owner)]
        if ".training" in self.reader.text.source and any(
            is_object and self.reader.trains.get(path, True) != (func.attr == "train") for path, is_object in paths
        ):
            message = f"`{owner.path}` has one mode throughout a program here, and this may change it after a use."
            raise self.reader.at(node, ForbiddenError(message))
        modules = [name_at(path, node) for path, is_object in paths if not is_object]
        calls = [ast.Call(ast.Attribute(module, func.attr, ast.Load()), [], []) for module in modules]
        return [placed(ast.Expr(each), node) for each in calls] or placed(ast.Pass(), node)

    def uses(self, path: str) -> None:
        """An object is used, but by a method of its own."""
        own = [value for value in self.roots.values() if isinstance(value, Object)]
        root = path.partition(".")[0]
        if not any(value.path.partition(".")[0] == root for value in own):
            self.reader.used.add(root)

    def spread(self, node: ast.expr) -> ast.expr:
        """The parts of a module that a loop goes through, as a list."""
        if isinstance(node, ast.Call) and dotted(node.func) in ("enumerate", "zip", "reversed", "list"):
            node.args = [self.spread(part) for part in node.args]
            return node
        value = self.resolved(node)
        if isinstance(value, Module) and value.count is not None:
            return self.reference(Parts([Module(f"{value.path}.{k}") for k in range(value.count)]), node)
        if isinstance(value, Object) and value.items is not None:
            return self.reference(Parts(value.items), node)
        if isinstance(value, Parts) and value.names is not None:
            return placed(ast.List([ast.Constant(name) for name in value.names], ast.Load()), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, maybe of an object, or of one of its methods."""
        if self.reader.class_called(node) is not None:
            return self.unnamed(node)
        func = node.func
        made = self.class_of(func.func) if isinstance(func, ast.Call) else None
        if made is not None and made.is_function:  # Square()(x)
            message = f"An object of `{made.node.name}` can't be called: a function with a backward is called by apply."
            hints = [f"{made.node.name}.apply(x), with static methods forward(ctx, x) and backward(ctx, g)"]
            raise self.reader.at(node, EvaluationError(message, torch_message=LEGACY, hints=hints))
        if dotted(func) == "getattr" and len(node.args) == 2 and isinstance(name := plain_or_none(node.args[1]), str):
            return self.visit(placed(ast.Attribute(node.args[0], name, ast.Load()), node))
        if isinstance(func, ast.Attribute) and (kind := self.class_of(func.value)) and func.attr in kind.methods and node.args:
            own = self.resolved(node.args[0])  # A.forward(self, x)
            if isinstance(own, Object) and not is_static(kind.methods[func.attr]) and derives(own.kind, kind):
                rest = placed(ast.Call(self.before(own, kind, func.attr, func), node.args[1:], node.keywords), node)
                return self.generic_visit(rest)
        owner = self.resolved(func.value) if isinstance(func, ast.Attribute) else None
        if isinstance(func, ast.Attribute) and isinstance(owner, (Object, Module)) and self.resolved(func) is None:
            is_method = isinstance(owner, Object) and owner.kind is not None and func.attr in owner.kind.methods
            if not is_method and (func.attr in (*OF_MODULES, *LISTS, "state_dict", "zero_grad") or freezes(node)):
                node.func = placed(ast.Attribute(path_at(owner.path, func), func.attr, ast.Load()), func)
                node.args = [self.visit(part) for part in node.args]
                return node
            if not is_method and func.attr in PLACED:
                self.reader.check_placed(node)
                return self.visit(func.value)
        module = self.resolved(node.args[0]) if node.args and dotted(func).endswith("functional_call") else None
        if isinstance(module, Object):  # its function is called with other values of its parameters
            first, *others = node.args
            node.args = [path_at(module.path, first), *(self.visit(part) for part in others)]
            node.keywords.append(placed(ast.keyword(FORWARD, self.reference(module, first)), node))
            return node
        if dotted(func) == "len" and len(node.args) == 1 and not node.keywords and (own := self.special(node.args[0], "__len__")):
            return self.called(own, "__len__", [], node)
        if dotted(func) == "hasattr" and len(node.args) == 2 and (known := self.has(node)) is not None:
            return placed(ast.Constant(known), node)
        if dotted(func) == "len" and len(node.args) == 1:
            node.args = [self.spread(node.args[0])]
        return self.generic_visit(node)

    def unnamed(self, node: ast.Call) -> ast.expr:
        """`Net()(x)`: the object is made in front of the statement, and named after its class."""
        kind = self.reader.class_called(node)
        assert kind is not None
        if kind.named is not None and (self.inside or self.roots):
            message = f"A `{kind.node.name}` is read where it gets a name, in a statement of its own: give a tuple here."
            raise self.reader.at(node, ForbiddenError(message))
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
        if isinstance(owner, Object):
            return self.part(owner, node)
        if self.kind is not None and isinstance(node.value, ast.Call) and dotted(node.value.func) == "super":
            return self.inherited(self.asked_of(self.kind, node.value), node)
        made = self.class_of(node.value)
        fields = [part.value for part in made.fields if dotted(part.targets[0]) == node.attr] if made is not None else []
        if fields and isinstance(node.ctx, ast.Load):
            return self.visit(copied(fields[-1]))
        if made is not None and node.attr in made.methods and is_static(made.methods[node.attr]) and not (
            made.is_function and node.attr in OF_FUNCTIONS
        ):
            return name_at(self.reader.static(made, node.attr), node)
        if made is not None and made.is_function:
            if node.attr != "apply" or not made.applies:
                what = f"Of `{made.node.name}` only apply can be used, with `forward` and `backward` that are static and no more"
                raise self.reader.refusal(node, what)
            return name_at(f"{made.node.name}.apply", node)
        if isinstance(owner, Module):
            return placed(ast.Attribute(path_at(owner.path, node), node.attr, node.ctx), node)
        return self.generic_visit(node)

    def class_of(self, node: ast.expr) -> Class | None:
        """The class of the text that an expression means."""
        name = dotted(node)
        found = self.roots.get(name) if name not in self.hidden else None
        if isinstance(found, Class):
            return found
        return None if name in self.hidden or found is not None else self.reader.classes.get(name)

    def part(self, owner: Object, node: ast.Attribute) -> ast.expr:
        """An attribute of an object."""
        methods = owner.kind.methods if owner.kind is not None else {}
        if isinstance(node.ctx, ast.Del):
            raise self.reader.refusal(node, "What an object has stays here")
        if isinstance(node.ctx, ast.Store):
            if owner.kind is not None and owner.kind.named is not None:
                message = f"`{owner.path}` is a tuple whose items have names, and none of them can be set."
                raise self.reader.at(node, EvaluationError(message, torch_message="can't set attribute"))
            if isinstance(owner.parts.get(node.attr), (Object, Module, Parts)) or node.attr in methods:
                raise self.reader.refusal(node, f"`{node.attr}` is a module, and is set a second time here")
            if owner.whole and owner.kind is not None and node.attr not in owner.kind.sets:
                raise self.reader.refusal(node, f"`{node.attr}` is set behind what makes `{owner.path}`")
            path = f"{owner.path}.{node.attr}"
            if self.inside:
                self.stored.add(path)
            return name_at(path, node, ast.Store())
        if node.attr in owner.parts:
            return self.reference(owner.parts[node.attr], node)
        if node.attr in methods and owner.kind is not None and is_static(methods[node.attr]):
            return name_at(self.reader.static(owner.kind, node.attr), node)
        if node.attr in methods:
            return self.named_method(owner, node.attr, methods[node.attr], node)
        if node.attr == "__call__":
            return self.reference(owner, node)
        if owner.whole and owner.kind is not None and node.attr not in owner.kind.sets:
            return placed(ast.Attribute(path_at(owner.path, node), node.attr, ast.Load()), node)
        if node.attr.startswith("_") or owner.kind is None:
            raise self.reader.refusal(node, f"`{node.attr}` can't be read of an object here")
        return name_at(f"{owner.path}.{node.attr}", node)  # what a method sets

    def asked_of(self, kind: Class, call: ast.Call) -> Class:
        """The class behind which a `super()` looks: the one that it stands in, or that it names, as in `super(A, self)`."""
        named = self.class_of(call.args[0]) if call.args else kind
        if named is None or named not in kind.line:
            raise self.reader.refusal(call, f"This `super` names no class that `{kind.node.name}` is derived from")
        return named

    def inherited(self, kind: Class, node: ast.Attribute) -> ast.expr:
        """`super().forward`: the method of the class before, as a function of this object."""
        (own,) = (value for value in self.roots.values() if isinstance(value, Object))
        base, name = kind.base, node.attr
        if kind.torchs is not None and name in ("forward", "__call__") and (base is None or name not in base.methods):
            if not own.whole and not own.chained:
                raise self.reader.refusal(node, f"`{kind.node.name}` has no `forward` of torch's")
            return path_at(own.path, node) if own.whole else name_at(own.chained, node)
        if name == "__call__" and kind.is_module and (base is None or name not in base.methods):
            return self.part(own, placed(ast.Attribute(node.value, "forward", ast.Load()), node))
        if base is None or name not in base.methods:
            raise self.reader.refusal(node, f"`{name}` is no method that `{kind.node.name}` has of another class of the program")
        return self.before(own, base, name, node)

    def before(self, own: Object, base: Class, name: str, node: ast.AST) -> ast.expr:
        """The method of a class as a function of an object whose class is derived from it."""
        kind = base.defining(name)
        path = f"super().{kind.node.name}.{name}"
        if f"{own.path}.{path}" not in self.reader.inherited:
            self.reader.inherited.add(f"{own.path}.{path}")
            self.reader.method(own, path, base.methods[name], kind)
        return self.named_method(own, path, base.methods[name], node)

    def named_method(self, owner: Object, name: str, method: ast.FunctionDef, node: ast.AST) -> ast.expr:
        """A method by its name; of a property its value."""
        found = name_at(f"{owner.path}.{name}", node)
        return placed(ast.Call(found, [], []), node) if any(dotted(m) == "property" for m in method.decorator_list) else found

    def special(self, node: ast.expr, name: str) -> Object | None:
        """The object that an expression means, if its class has a method of Python's."""
        found = self.resolved(node)
        return found if isinstance(found, Object) and found.kind is not None and name in found.kind.methods else None

    def called(self, own: Object, name: str, given: list[ast.expr], node: ast.AST) -> ast.expr:
        """A call of a method of Python's: one for each object that it is given, too."""
        kind = own.kind
        assert kind is not None
        others = [found if isinstance(found := self.resolved(each), Object) else None for each in given]
        path = "".join([name, *(f".{each.path}" for each in others if each is not None)])
        if path != name and f"{own.path}.{path}" not in self.reader.inherited:
            self.reader.inherited.add(f"{own.path}.{path}")
            method, taken = copied(kind.methods[name]), kind.methods[name].args.args
            known = {part.arg: each for part, each in zip(taken[1:], others, strict=True) if each is not None}
            method.args.args = [part for part in method.args.args if part.arg not in known]
            self.reader.method(own, path, method, kind.defining(name), known)
            self.reader.front.append(self.reader.made.pop())
        self.uses(own.path)
        rest = [self.visit(each) for each, other in zip(given, others, strict=True) if other is None]
        return placed(ast.Call(name_at(f"{own.path}.{path}", node), rest, []), node)

    def has(self, node: ast.Call) -> bool | None:
        """What `hasattr(self, "bias")` gives, where only an `__init__` may set that; None where it isn't known."""
        owner, name = self.resolved(node.args[0]), plain_or_none(node.args[1])
        if not isinstance(owner, Object) or owner.kind is None or owner.whole or not isinstance(name, str):
            return None
        inits = [part for part in ast.walk(self.reader.tree) if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        known = {id(part) for init in inits for part in ast.walk(init)}
        stored = [part for part in ast.walk(self.reader.tree) if isinstance(part, ast.Attribute) and part.attr == name and (
            not isinstance(part.ctx, ast.Load)
        )]  # fmt: skip
        if not stored or any(id(part) not in known or isinstance(part.ctx, ast.Del) for part in stored):
            return None
        return name in owner.parts or name in owner.kind.methods

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """`a + b` of an object whose class has a method for that."""
        name = OPERATORS.get(type(node.op), "")
        own = self.special(node.left, name)
        return self.generic_visit(node) if own is None else self.called(own, name, [node.right], node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """`self.layers[0]`"""
        if isinstance(node.ctx, ast.Load) and (own := self.special(node.value, "__getitem__")) is not None:
            if any(isinstance(part, ast.Slice) for part in ast.walk(node.slice)):
                raise self.reader.refusal(node, f"A slice of `{own.path}` can't be read")
            return self.called(own, "__getitem__", [node.slice], node)
        value = self.resolved(node)
        if value is not None and isinstance(node.ctx, ast.Load):
            return self.reference(value, node)
        by_name = isinstance(owner := self.resolved(node.value), Parts) and owner.names is not None
        node.value = node.value if by_name else self.spread(node.value)
        return self.generic_visit(node)


class Context(ast.NodeTransformer):
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
            items = placed(ast.Tuple([self.visit(part) for part in call.args], ast.Load()), call)
            target = self._item("saved_tensors", call, ast.Store())
            return placed(ast.Assign([target], items), node)
        if call.func.attr in (MARKS, MATERIALIZES) and not call.keywords:
            given: ast.expr = ast.Tuple([self.visit(part) for part in call.args], ast.Load())
            return placed(ast.Assign([self._item(call.func.attr, call, ast.Store())], given), node)
        return placed(ast.Pass(), node) if call.func.attr.startswith(("mark_", "set_")) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`ctx.scale` as `ctx["scale"]`."""
        if not self._is_context(node.value) or node.attr.startswith("_"):
            return self.generic_visit(node)
        return self._item("saved_tensors" if node.attr == "saved_variables" else node.attr, node, node.ctx)

    def flag(self, key: str, node: ast.AST) -> ast.stmt:
        """`ctx[key] = True`"""
        return placed(ast.Assign([self._item(key, node, ast.Store())], ast.Constant(True)), node)

    def _is_context(self, node: ast.expr) -> bool:
        return bool(self.name) and isinstance(node, ast.Name) and node.id == self.name

    def _item(self, key: str, node: ast.AST, ctx: ast.expr_context) -> ast.expr:
        word = placed(ast.Constant(key), node)
        return placed(ast.Subscript(name_at(self.name, node), word, ctx), node)
