"""An `__init__` of a program's class, carried out on the text.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jvpcli.language.attachments import registers
from jvpcli.language.hooks import HOOKING
from jvpcli.language.names import class_of, copied, dotted, free_names, targets
from jvpcli.language.objects import Class, Module, New, Object, Parts, name_at, placed
from jvpcli.language.plain import plain_or_none
from jvpcli.language.preparations import LISTS
from jvpcli.language.references import Reading
from jvpcli.language.source import is_text

GROWING = ("append", "extend", "add_module", "register_module")
"""Methods that give a list or sequence of modules a further one."""

REGISTERING = ("add_module", "register_module", "register_buffer", "register_parameter")
"""Methods of a module that give it a part by name."""

PLAIN_BASES = ("object", "abc.ABC", "enum.Enum", "enum.IntEnum", "typing.Protocol")
"""Classes that a plain object is derived from."""

KNOWN_BASES = ("Module", "torch.nn.Module", "torch.nn.modules.Module", "torch.nn.modules.module.Module", *PLAIN_BASES)
"""Classes that a module, or a plain object, is derived from."""


@dataclass
class Initialisation:
    """An `__init__` that is carried out, of an object that `reader` makes (`language/classes.py`)."""

    reader: Any
    made: Object
    kind: Class
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
        if (new := self.changed_later(node)) is not None:
            name, value = new
            value.later.append((node, name, {self.own: self.made, **self.scope}))
            self.reader.waiting.append(node)
        elif self.changes(node):
            self.reader.made.append(Reading(self.reader, {self.own: self.made, **self.scope}, self.kind).visit(copied(node)))
        elif isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.assign(target, value, node)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value), node)
        elif isinstance(node, ast.AugAssign):
            target = copied(node.target)
            target.ctx = ast.Load()
            total = placed(ast.BinOp(target, node.op, node.value), node)
            self.assign(node.target, self.value(total), node)
        elif isinstance(node, ast.For) and not node.orelse:
            for item in self.reader.iterated(node.iter, self.scope, self):
                self.scope.update(self.reader.matched(node.target, item))
                self.run(node.body)
        elif isinstance(node, ast.If):
            self.run(node.body if self.reader.truth(node.test, self.scope, self) else node.orelse)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.call(node.value)
        elif not isinstance(node, (ast.Pass, ast.Assert, ast.AnnAssign)) and not is_text(node):
            raise self.reader.refusal(node, "What `__init__` does here can't be read")

    def changed_later(self, node: ast.stmt) -> tuple[str, New] | None:
        """What has no name yet, of which a statement changes parameters, and how it is called here."""
        finder = self.reader.finder
        new = {name: value for name, value in self.scope.items() if isinstance(value, New) and value.made is None}
        found = {*new} & free_names(node)
        if not isinstance(node, (ast.Expr, ast.Assign, ast.With)) or len(found) != 1:
            return None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return None
        (name,) = found
        return (name, new[name]) if finder.changes(node, found) else None

    def changes(self, node: ast.stmt) -> bool:
        """Whether a statement changes parameters of what the object has, rather than to give it a part."""
        finder = self.reader.finder
        roots = {self.own, *(name for name, value in self.scope.items() if isinstance(value, (Module, Object)))}
        written = [part for each in targets(node) for part in (each.elts if isinstance(each, (ast.Tuple, ast.List)) else [each])]
        reading = Reading(self.reader, {self.own: self.made, **self.scope})
        own = [target for target in written if (isinstance(target, ast.Attribute) and dotted(target.value) == self.own) or (
            isinstance(target, ast.Subscript) and isinstance(reading.resolved(target.value), Parts)
        )]  # fmt: skip
        if own or self.own_call(node) or isinstance(node, ast.If):
            return False
        if isinstance(node, ast.For) and not (finder.goes_through(node.iter, roots) and any(
            isinstance(part, ast.Attribute) and part.attr in LISTS for part in ast.walk(node.iter)
        )):
            return False
        return finder.changes(node, roots)

    def is_put(self, target: ast.expr, value: Any, node: ast.stmt) -> bool:
        """Whether `self.parts["a"] = value` could be carried out."""
        owner = self.value(target.value) if isinstance(target, ast.Subscript) else None
        if not isinstance(target, ast.Subscript) or not isinstance(owner, Parts) or owner.names is None:
            return False
        name = plain_or_none(self.reader.folded(target.slice, self.scope, self))
        return self.reader.grow(owner, owner.path, "add_module", [name, value], node)

    def own_call(self, node: ast.stmt) -> ast.FunctionDef | None:
        """The method of the object that a statement calls, and does no more."""
        func = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        is_own = isinstance(func, ast.Attribute) and dotted(func.value) == self.own
        return self.kind.methods.get(func.attr) if is_own and isinstance(func, ast.Attribute) else None

    def assign(self, target: ast.expr, value: Any, node: ast.stmt) -> None:
        """`self.a = value`, `a = value`, `a, b = values`"""
        if isinstance(target, ast.Attribute) and dotted(target.value) == self.own:
            self.reader.set(self.made, target.attr, value, node)
        elif isinstance(target, ast.Name):
            self.scope[target.id] = self.reader.settled(self.made, target.id, value, node)
        elif isinstance(target, (ast.Tuple, ast.List)):
            numbers = placed(ast.Tuple([name_at(str(k), target) for k in range(len(target.elts))], ast.Store()), target)
            for name, each in self.reader.matched(numbers, value).items():
                self.assign(target.elts[int(name)], each, node)
        elif not self.is_put(target, value, node):
            raise self.reader.refusal(node, "What `__init__` does here can't be read")

    def call(self, call: ast.Call) -> None:
        """`super().__init__()`, `layers.append(…)`, `self.add_module(…)`"""
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if dotted(call.func) == "print" or (method in HOOKING and self.reader.only_looks(call)):
            return
        if registers(call) and owner is not None:
            self.reader.attached.add(self.value(owner), call, self.scope, self.made, self.own)
            return
        if (own := self.own_call(placed(ast.Expr(call), call))) is not None:  # self.reset()
            arguments = [each for part in call.args for each in self.reader.items(part, self.scope, self)]
            keywords = self.reader.keywords(call, self.scope, self)
            self.reader.initialise(self.made, self.kind.defining(method), own, arguments, keywords, call)
            return
        if method == "__init__":
            self.base(call, owner)
            return
        if dotted(call.func) == "setattr" and len(call.args) == 3 and dotted(call.args[0]) == self.own:
            owner, method, call = call.args[0], "setattr", placed(ast.Call(call.func, call.args[1:], []), call)
        is_own = isinstance(owner, ast.Name) and owner.id == self.own
        grows = self.made.names is not None and method in GROWING
        if method in (*REGISTERING, "setattr") and not grows and dotted(owner or call) == self.own and len(call.args) > 1:
            name = plain_or_none(self.reader.folded(call.args[0], self.scope, self))
            if isinstance(name, str) and name.isidentifier():
                self.reader.set(self.made, name, self.value(call.args[1]), call)
                return
        if method in GROWING and owner is not None and not call.keywords:
            items = self.made if is_own else self.value(owner)
            if isinstance(items, (Parts, Object)):
                given: list[Any] = [self.value(part) for part in call.args]
                if method == "extend" and not isinstance(given[0], Parts):
                    given = [Parts(self.reader.iterated(call.args[0], self.scope, self))]
                given = [plain_or_none(given[0]), *given[1:]] if len(given) == 2 else given
                path = items.path if isinstance(items, (Parts, Object)) else ""
                if self.reader.grow(items, path, method, given, call):
                    return
        raise self.reader.refusal(call, "What `__init__` does here can't be read")

    def base(self, call: ast.Call, owner: ast.expr | None) -> None:
        """`super().__init__(…)`, `nn.Module.__init__(self)`"""
        kind = self.kind.defining("__init__")
        if isinstance(owner, ast.Call) and dotted(owner.func) == "super":
            given = call.args
            kind = Reading(self.reader, {self.own: self.made, **self.scope}).asked_of(kind, owner)
        elif owner is not None and call.args and dotted(call.args[0]) == self.own:
            given = call.args[1:]
        else:
            raise self.reader.refusal(call, "What `__init__` does here can't be read")
        named = self.reader.classes.get(dotted(owner)) if owner is not None else None
        is_torchs = owner is not None and bool(class_of(owner, self.reader.paths))
        skips = owner is not None and (is_torchs or self.reader.path(dotted(owner)) in KNOWN_BASES)
        base = named or (None if skips else kind.base)
        arguments = [each for part in given for each in self.reader.items(part, self.scope, self)]
        keywords = self.reader.keywords(call, self.scope, self)
        if base is not None and "__init__" in base.methods:
            self.reader.initialise(self.made, base, base.methods["__init__"], arguments, keywords, call)
        elif self.kind.torchs is not None:
            self.reader.begun(self.made, arguments, keywords, call)
        self.made.begun |= base is None or "__init__" not in base.methods
