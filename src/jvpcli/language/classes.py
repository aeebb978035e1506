"""Classes of a program, read as what their objects do: nothing of a class is left when the program is lowered.

`net = Net(3)` becomes what `__init__` assigns, under names with a dot (`net.fc1`), which no text can give to a value, and a
function for each method (`net.forward`).  What `__init__` does is carried out on the text alone, with plain numbers and words;
a class that does more there is refused.  Of a `torch.autograd.Function` the two static methods are functions, and `ctx` is a
dictionary.  Loads no torch.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jvpcli.errors import ForbiddenError, LimitError
from jvpcli.language import refusals
from jvpcli.language.attachments import registers
from jvpcli.language.hooks import with_hooks
from jvpcli.language.initialisation import GROWING, KNOWN_BASES, PLAIN_BASES
from jvpcli.language.instances import SPECIAL, Objects, waiting_in
from jvpcli.language.lowering import Custom
from jvpcli.language.makers import (
    BLOCKS,
    TO_VECTOR,
    chained,
    makes_elsewhere,
    taken_apart,
    with_casts,
    with_parts,
    with_vectors,
)
from jvpcli.language.makings import COLLECTIONS
from jvpcli.language.names import (
    assigned,
    class_of,
    copied,
    copied_module,
    dotted,
    free_names,
    imported_paths,
    separated,
)
from jvpcli.language.objects import (
    NAMED,
    ONCE,
    RECORDS,
    Class,
    Module,
    New,
    Object,
    Parts,
    Renamed,
    is_mixin,
    name_at,
    named_tuple,
    placed,
    plain_part,
    record_mark,
    with_fields,
)
from jvpcli.language.plain import is_literal
from jvpcli.language.preparations import Prepared, prepared
from jvpcli.language.references import OF_ITEMS, OPERATORS, Context, Reading, casts
from jvpcli.language.source import SourceText, is_text

APART = ("Module", "ModuleDict", "ParameterList", "ParameterDict")
"""Classes of torch.nn of which no module stands where an object does whose class is derived from one."""

HELD_APART = rf"nn\.({'|'.join(COLLECTIONS)})\b|Sequential\(\s*\)"
"""What makes a text have objects without a class of its own."""

ONCE_PATH = "torch.autograd.function.once_differentiable"
"""The decorator of a backward that has no derivative."""

KNOWN_FROM_TEXT = ("int", "float", "str", "len", "range", "max", "min")
"""Functions whose results are known from the text."""

FUNCTION = ("torch.autograd.Function", "torch.autograd.function.Function", "autograd.Function", "Function")


def without_classes(text: SourceText, tree: ast.Module) -> Prepared:
    """The tree of a text with its classes read as what their objects do, apart from what is done to its modules.

    Raises:
        ForbiddenError: an object's class does what can't be read, with its place; a module changes behind its use.
        LimitError: there are too many objects, or too many steps to make them.
    """
    tree = with_parts(tree) if "Sequential(" in text.source else tree
    tree = with_casts(tree) if ".to(" in text.source else tree
    tree = with_vectors(tree) if TO_VECTOR in text.source else tree
    return prepared(text, with_hooks(text, _read(text, tree)))


def _read(text: SourceText, tree: ast.Module) -> ast.Module:
    if "deepcopy" in text.source:
        tree = _with_copies(text, tree)
    has_classes = any(isinstance(node, ast.ClassDef) for node in tree.body) or "namedtuple" in text.source
    if not has_classes and not re.search(HELD_APART, text.source) and not makes_elsewhere(tree) and not (
        taken_apart(tree, imported_paths(tree))
    ) and not any(map(registers, ast.walk(tree))):
        return tree
    try:
        return Reader(text, tree).read()
    except RecursionError:
        raise LimitError("The classes of the program nest too deeply to be read.", source=text.source) from None


def _with_copies(text: SourceText, tree: ast.Module) -> ast.Module:
    """The tree, where a copy of a module is another one of the same constructor that is given its parameters.

    Raises:
        ForbiddenError: a copy of a module that gets no name of its own.
    """
    paths, classes = imported_paths(tree), {part.name for part in tree.body if isinstance(part, ast.ClassDef)}
    made: dict[str, ast.expr] = {}
    found: list[ast.stmt] = []
    for whole in tree.body:
        parts: Sequence[ast.stmt] = separated(whole) if isinstance(whole, ast.Assign) else [whole]
        anew: list[ast.stmt] = []
        for part in parts:
            name, names = copied_module(part), assigned([part])
            if name in made and len(names) == 1:
                again, behind = _Copied(made[name]).visit(copied(part)), [f"{names[0]}.load_state_dict({name}.state_dict())"]
                while isinstance(again.value.func, ast.Attribute) and again.value.func.attr == "requires_grad_":
                    behind.append(f"{names[0]}.requires_grad_({', '.join(map(ast.unparse, again.value.args))})")
                    again.value = again.value.func.value
                anew += [placed(again, whole), *(placed(ast.parse(line).body[0], whole) for line in behind)]
                continue
            for node in (each for each in ast.walk(part) if isinstance(each, ast.Call)):
                if dotted(node.func).endswith("deepcopy") and made.keys() & {*map(dotted, node.args)}:
                    message = f"A copy of `{dotted(node.args[0])}` can't be made here: each module of a program gets one name."
                    hints = [f"Give the copy one in a statement of its own: other = copy.deepcopy({dotted(node.args[0])})"]
                    raise ForbiddenError(message, hints=hints).with_context(span=text.span(node), source=text.source)
            anew.append(part)
            call = chained(part.value) if isinstance(part, ast.Assign) else None
            if isinstance(part, ast.Assign) and isinstance(call, ast.Call) and (
                class_of(call.func, paths) or dotted(call.func) in classes
            ):
                made |= dict.fromkeys(names, part.value)
        found += anew if len(anew) > len(parts) else [whole]
    return ast.Module(found, [])


class _Copied(ast.NodeTransformer):
    """Puts a constructor in the place of a copy."""

    def __init__(self, made: ast.expr) -> None:
        self.made = made

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, maybe of deepcopy."""
        return placed(copied(self.made), node) if dotted(node.func).endswith("deepcopy") else self.generic_visit(node)


class Reader(Objects):
    """The classes and objects of a text, and the statements that stand in their place."""

    def read(self) -> ast.Module:
        """The whole text."""
        for statement in self._opened(self.tree.body):
            self.statement(statement)
        for name in self.unnamed_yet():
            value = self.top.scope.pop(name)
            if waiting_in([value]):
                self.place(name, value, self.tree.body[-1])
        self.made = [Reading(self, {}).visit(part) if part in self.later else part for part in self.made]
        self.made = self.attached.finish([*self.front, *self.made])
        if not self.made or isinstance(self.tree.body[-1], ast.ClassDef):
            raise self.at(self.tree.body[-1], refusals.no_result(self.tree.body[-1]))
        called, whole = self._called(), ast.Module([], [])
        for part in self.made:
            needless = part in self.methods or isinstance(part, ast.ClassDef)  # which may hold what can't be read
            if not needless or getattr(part, "name", "") in called:
                whole.body.append(part)
        self.attached.check(whole)
        return whole

    def _called(self) -> set[str]:
        """The methods that what is carried out may call: others may do what can't be read."""
        waiting: list[ast.AST] = [part for part in self.made if part not in self.methods and not isinstance(part, ast.ClassDef)]
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

    def statement(self, node: ast.stmt) -> None:
        """One statement of the text."""
        node = named_tuple(node, self.path) or node
        if isinstance(node, ast.ClassDef):
            self.define(node)
            return
        if node in self.factories.values():
            return
        call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
        if isinstance(call, ast.Call) and registers(call) and not self.only_looks(call):
            assert isinstance(call.func, ast.Attribute)
            self.name_lists(node)
            owner, name = Reading(self, {}).resolved(call.func.value), dotted(call.func.value)
            made = chained(self.values_of[name]) if self.bound.count(name) == 1 and name in self.values_of else None
            if owner is None and isinstance(made, ast.Call) and class_of(made.func, self.paths):
                owner = self.objects[name] = Module(name)
            self.attached.add(owner, call, {})
            self.attached.handles.update(dict.fromkeys(assigned([node]), owner))
            return
        if self.attached.removes(node):
            return
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and casts(node.value):
            name = dotted(node.value.func).rpartition(".")[0]
            if name in self.objects and [*map(dotted, node.targets)] == [name]:  # net = net.double()
                node = placed(ast.Expr(node.value), node)
        parts = separated(node) if isinstance(node, ast.Assign) else []
        self.outermost += parts
        if len(parts) > 1 and any(self.is_building(part) or (
            isinstance(part.value, ast.Call) and self.makes(part.value)
        ) for part in parts):  # fmt: skip
            for part in parts:  # a, b = Net(), Net()
                self.statement(placed(part, node))
            return
        scope = self.top.scope
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, chained(node.value)
            of_lists = bool(free_names(value) & {*self.unnamed_yet(), *self.objects}) and (
                class_of(getattr(value, "func", value), self.paths) == "Sequential"
            )
            mixed = isinstance(value, (ast.List, ast.ListComp)) and self.is_maker(value) and not self.only_makes(value)
            if mixed or (isinstance(value, ast.Call) and (self.makes(value) or of_lists or name in self.taken_apart)):
                for each in itertools.takewhile(lambda each: each not in free_names(node.value), self.unnamed_yet()):
                    self.place(each, scope.pop(each), node)
                called = value if isinstance(value, ast.Call) and name in self.taken_apart else None
                apart = called is not None and class_of(called.func, self.paths) == "Sequential"
                self.place(name, self.apart(called, scope) if called and apart else self.value(value, scope, None), node)
                self.classes.pop(name, None)
                self.modes(name, self.objects[name], node.value)
                scope.pop(name, None)
                return
            if self.bound.count(name) == 1 and (found := self.folded(node.value, {}, None)) is not None:
                self.constants[name] = found
        if self.is_building(node):
            self.rebound(node)
            self.top.statement(node)
            for name in assigned([node]) if isinstance(node, BLOCKS) else ():
                if isinstance(found := scope.get(name), ast.expr):
                    self.assign(name, copied(found), node)
            return
        self.name_lists(node)
        other = Reading(self, {}).resolved(node.value) if isinstance(node, ast.Assign) else None
        names = [*map(dotted, node.targets)] if isinstance(node, ast.Assign) and isinstance(other, (Object, Module)) else []
        if len(names) == 1 and self.bound.count(names[0]) == 1:
            self.objects[names[0]] = other  # another name of it
            return
        if isinstance(node, (ast.Expr, ast.Assign)) and chained(node.value) is not node.value:
            root = chained(node.value)
            owner, path = Reading(self, {}).resolved(root), dotted(root)
            targets = [dotted(target) for target in node.targets] if isinstance(node, ast.Assign) else [path]
            if owner is not None and targets == [path]:  # net = net.to(device), net.eval()
                self.modes(path.partition(".")[0], owner, node.value)
                return
        if self.replaces(node):
            return
        self.rebound(node)
        again = copied(node)
        is_lambda = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
        if isinstance(node, ast.FunctionDef) or is_lambda:
            names = [node.name] if isinstance(node, ast.FunctionDef) else assigned([node])
            self.reads.update(dict.fromkeys(names, free_names(node)))
            self.later.append(again)
            self.made.append(again)
        else:
            self.use(free_names(node))
            self.made.append(Reading(self, {}).visit(again))

    def replaces(self, node: ast.stmt) -> bool:
        """Whether a statement puts another module of torch.nn in the place of one: `net.fc = nn.Linear(2, 3)`, `net[2] = …`.

        What stands before it goes on to mean the module that was there, under a name that no text has.
        """
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, (ast.Attribute, ast.Subscript)) or not isinstance(node, ast.Assign):
            return False
        owner, old = Reading(self, {}).resolved(target.value), Reading(self, {}).resolved(target)
        if not isinstance(owner, Object) or not isinstance(old, Module) or not self.is_constructor(chained(node.value)):
            return False
        value = self.value(chained(node.value), self.top.scope, None)
        if not isinstance(value, New) or value.kind is not None or value.chain is not None or old.path in self.attached.hooks:
            raise self.refusal(node, f"`{old.path}` is a module of torch.nn, and only another one can take its place here")
        by_function = [part for part in self.made if self.attached.reaches(part, old, functions=True)]
        if by_function:
            message = f"`{old.path}` gets another module behind a use of it: put it there before."
            raise self.at(node, ForbiddenError(message))
        renamed = Renamed(old.path, f"replaced.{self.steps}")
        renamed.visit(value.call)
        self.made = [part if isinstance(part, ast.FunctionDef) else renamed.visit(part) for part in self.made]
        name = next(name for name, part in owner.parts.items() if part is old or getattr(part, "path", "") == old.path)
        owner.parts[name] = self.place(old.path, value, node)
        return True

    def unnamed_yet(self) -> list[str]:
        """The names of the program that stand for lists of modules, and modules, whose parts have no names yet."""
        return [name for name, value in self.top.scope.items() if isinstance(value, (Parts, New))]

    def is_building(self, node: ast.stmt) -> bool:
        """Whether a statement does nothing but to make modules, and lists of them: it is carried out as `__init__` is."""
        if isinstance(node, BLOCKS):
            body = [*node.body, *node.orelse]
            plain = all(self.is_building(part) or self.is_plain(part) for part in body)
            return plain and any(map(self.is_building, body))
        value = node.value if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            listed = isinstance(value, (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Tuple))
            empty = isinstance(value, ast.List) and not value.elts and node.targets[0].id in self.growing
            return (listed and self.only_makes(value)) or empty or (
                isinstance(value, ast.Call) and node not in self.outermost and self.is_constructor(chained(value))
            )  # fmt: skip
        if isinstance(node, ast.AugAssign):
            return isinstance(node.target, ast.Name) and node.target.id in self.unnamed_yet() and self.only_makes(node.value)
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.func.attr not in GROWING:
            return False
        owner = value.func.value
        if not value.args or not self.only_makes(value.args[-1]):
            return False
        grown = isinstance(Reading(self, {}).resolved(owner), (Parts, Object)) and dotted(owner) not in self.used
        return grown or dotted(owner) in self.unnamed_yet()

    def only_makes(self, node: ast.expr | None) -> bool:
        """Whether an expression gives modules, and lists of them, and reads nothing that could have another value later."""
        if isinstance(node, (ast.List, ast.Tuple)):
            return bool(node.elts) and all(map(self.only_makes, node.elts))
        if isinstance(node, ast.Dict):
            return bool(node.values) and all(map(self.only_makes, node.values))
        if isinstance(node, (ast.ListComp, ast.DictComp)):
            return self.only_makes(node.elt if isinstance(node, ast.ListComp) else node.value)
        if isinstance(node, (ast.Starred, ast.Subscript)):
            return self.only_makes(node.value)
        if isinstance(node, ast.Name):
            return node.id in self.unnamed_yet() or isinstance(self.objects.get(node.id), (Object, Module))
        return isinstance(node, ast.Call) and self.is_constructor(chained(node))

    def is_plain(self, node: ast.stmt) -> bool:
        """Whether a statement of a block gives names to what is known from the text, or nothing."""
        if isinstance(node, ast.Assign):
            calls = [part for part in ast.walk(node.value) if isinstance(part, ast.Call)]
            return all(dotted(part.func) in KNOWN_FROM_TEXT for part in calls)
        return isinstance(node, ast.Pass) or is_text(node)

    def name_lists(self, node: ast.stmt) -> None:
        """Give the parts of lists of modules names under that of their list, where a statement uses them or draws numbers."""
        waiting = self.unnamed_yet()
        read = set().union(*map(free_names, self.waiting)) if waiting else set()
        if waiting and (free_names(node) & {*waiting} or self.draws(node) or read & {*assigned([node])}):
            for name in waiting:
                self.place(name, self.top.scope.pop(name), node)
        for name in assigned([node]):
            self.top.scope.pop(name, None)
        plain = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1
        if plain and isinstance(node, ast.Assign) and not self.shares and (
            found := self.folded(node.value, self.top.scope, None)
        ) is not None:
            self.top.scope[dotted(node.targets[0])] = found

    def rebound(self, node: ast.stmt) -> None:
        """Names that a statement gives another meaning: a class is none from here on, and an object keeps its name."""
        for name in assigned([node]):
            if name in self.objects:
                message = f"`{name}` is an object, and is bound a second time here: give one of the two another name."
                raise self.at(node, ForbiddenError(message))
            self.classes.pop(name, None)

    def use(self, names: set[str]) -> None:
        """Names are used, and what the functions among them read."""
        waiting = [*names]
        while waiting:
            name = waiting.pop()
            waiting += self.reads.get(name, set()) - self.used
            if name in self.reads:
                self.used |= {name, *self.reads[name]}

    def define(self, node: ast.ClassDef) -> None:
        """A class; one that can't be read stays as it is, and is refused where it is used."""
        self.rebound(node)
        bases = [dotted(base) for base in node.bases]
        known = [self.classes[base] for base in bases if base in self.classes]
        paths = [self.path(base) for base in bases]
        is_function = any(each in FUNCTION for each in paths) or any(each.is_function for each in known)
        is_record = any(self.path(record_mark(mark)) in RECORDS for mark in node.decorator_list)
        is_named = paths == [NAMED] and all(isinstance(part, ast.AnnAssign) or is_text(part) for part in node.body)
        others = [path for base, path in zip(bases, paths, strict=True) if base not in self.classes and path not in KNOWN_BASES]
        named = [dotted(part.target) for part in node.body if isinstance(part, ast.AnnAssign)] if is_named else None
        others = [] if is_named else others
        torchs = known[0].torchs if known else None
        if node.bases and class_of(node.bases[-1], self.paths) not in ("", *APART) and all(map(is_mixin, known)):
            torchs, others = node.bases[-1], others[:-1]
        readable = not node.keywords and len(node.decorator_list) == is_record and all(map(is_mixin, known[1:])) and (
            not others or (is_function and len(bases) == 1)
        )
        readable &= len(bases) < 2 or not known or bases[0] in self.classes or "__init__" not in known[0].methods
        inherited = [name for each in known for name in {*each.methods, *(dotted(part.targets[0]) for part in each.fields)}]
        readable &= len({*inherited}) == len(inherited)
        if is_record or is_named:
            node = with_fields(node, known[0] if known else None)
        parts = [part for each in node.body for part in plain_part(each) if not is_text(part)]
        base = known[0] if known else None
        methods = {name: method for each in known for name, method in each.methods.items()}
        fields = [field for each in known for field in each.fields]
        scope: dict[str, Any] = {}
        for part in parts:
            if isinstance(part, ast.FunctionDef):
                methods[part.name] = self.with_defaults(node.name, part)
                readable &= part.name in SPECIAL or not part.name.startswith("__") or not part.name.endswith("__")
                fields = [field for field in fields if dotted(field.targets[0]) != part.name]
                continue
            if not isinstance(part, ast.Assign) or not all(isinstance(name, ast.Name) for name in part.targets):
                readable &= isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Tuple)
            readable &= not any(dotted(name).startswith("__") for name in getattr(part, "targets", ()))
            for each in separated(part) if isinstance(part, ast.Assign) and readable else ():
                value = self.at_definition(f"{node.name}.{dotted(each.targets[0])}", each.value, scope)
                for target in each.targets:
                    name = dotted(target)
                    if isinstance(value, ast.Lambda):  # which is given the object, as a `def` is
                        made = ast.FunctionDef(name, value.args, [placed(ast.Return(value.body), value)], [])
                        methods[name] = placed(made, part)
                        continue
                    methods.pop(name, None)
                    fields.append(placed(ast.Assign([target], value), part))
                    scope[name] = value
        readable &= torchs is None or {*methods}.isdisjoint([*OPERATORS.values(), *OF_ITEMS])
        if not readable:
            self.made.append(node)
            return
        is_module = any(each in {*KNOWN_BASES} - {*PLAIN_BASES} for each in paths) or any(each.is_module for each in known)
        is_module |= torchs is not None
        if is_module and "__len__" in methods:  # by which a module may be false
            self.made.append(node)
            return
        made_class = Class(node, is_function, methods, fields, base, is_module, torchs=torchs, named=named)
        self.classes[node.name] = made_class
        if is_function:
            self.custom(made_class)

    def at_definition(self, path: str, node: ast.expr, scope: Mapping[str, Any]) -> ast.expr:
        """A value that Python computes where a class is defined: under a name of its own, if it would be another one later."""
        if isinstance(node, ast.Call) and dotted(node.func) == "staticmethod" and len(node.args) == 1:
            node = node.args[0]
        if is_literal(node) or isinstance(node, ast.Lambda) or self.is_maker(node):
            return node
        found = self.folded(node, scope, None)
        if found is None:
            found = Reading(self, scope).visit(copied(node))
            changes = any(isinstance(part, ast.Call) for part in ast.walk(node))
            if changes or any(self.bound.count(name) > 1 for name in free_names(node)):
                self.assign(path, found, node)
                return name_at(path, node)
        assert isinstance(found, ast.expr)
        return found

    def with_defaults(self, owner: str, method: ast.FunctionDef) -> ast.FunctionDef:
        """A method whose parameters' defaults are computed where its class is defined."""
        method = copied(method)
        taken = method.args
        names = [part.arg for part in (*taken.posonlyargs, *taken.args)][-len(taken.defaults) :]
        root = f"{owner}.{method.name}"
        taken.defaults = [
            self.at_definition(f"{root}.{name}", value, {}) for name, value in zip(names, taken.defaults, strict=False)
        ]
        taken.kw_defaults = [
            value and self.at_definition(f"{root}.{part.arg}", value, {})
            for part, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True)
        ]
        return method

    def custom(self, made: Class) -> None:
        """`apply` of a torch.autograd.Function."""
        names = [name for name in ("forward", "backward", "setup_context") if name in made.methods]
        methods = [made.methods[name] for name in names]
        marks = [[self.path(dotted(mark)) for mark in method.decorator_list] for method in methods]
        # `apply` is of the class
        static = all(not each or (each[0] == "staticmethod" and {*each[1:]} <= {ONCE_PATH}) for each in marks)
        if names[:2] != ["forward", "backward"] or not static or any(len(each) > 1 for each in (marks[0], *marks[2:])):
            return  # refused where it is used
        made.applies = True
        root = made.node.name
        for name, method in zip(names, methods, strict=True):
            again = copied(method)
            taken = [part.arg for part in again.args.args]
            context = taken[0] if taken and not (name == "forward" and "setup_context" in names) else ""
            again.name, again.decorator_list = f"{root}.{name}", []
            again.body = [part for statement in again.body for part in Context(context).statement(statement)] or [ast.Pass()]
            if len(method.decorator_list) > 1:
                again.body.insert(0, Context(context).flag(ONCE, method.body[0]))
            again.returns = None
            self.made.append(again)
            self.later.append(again)
        parts: list[ast.expr] = [name_at(f"{root}.{name}", made.node) for name in names]
        value = placed(Custom(root, parts), made.node)
        self.assign(f"{root}.apply", value, made.node)
