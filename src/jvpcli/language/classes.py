"""Classes of a program, read as what their objects do: nothing of a class is left when the program is lowered.

`net = Net(3)` becomes what `__init__` assigns, under names with a dot (`net.fc1`), which no text can give to a value, and a
function for each method (`net.forward`).  What `__init__` does is carried out on the text alone, with plain numbers and words;
a class that does more there is refused.  Of a `torch.autograd.Function` the two static methods are functions, and `ctx` is a
dictionary.  Loads no torch.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError
from jvpcli.language import catalog, refusals
from jvpcli.language.definitions import RECORDS, is_mixin, plain_part, record_mark, with_fields
from jvpcli.language.dependence import drawing
from jvpcli.language.hooks import looking_hooks, with_hooks
from jvpcli.language.initialisation import GROWING, KNOWN_BASES, Initialisation
from jvpcli.language.makers import BLOCKS, chained, factories, growing, makes_elsewhere, taken_apart
from jvpcli.language.names import (
    assigned,
    class_of,
    copied,
    dotted,
    free_names,
    imported_paths,
    is_parameter,
    separated,
    turns_on,
)
from jvpcli.language.objects import (
    DERIVED,
    ONCE,
    RESETS,
    Class,
    Custom,
    Module,
    New,
    Object,
    Parts,
    function_at,
    held,
    name_at,
    named_inside,
    path_at,
    placed,
    written,
)
from jvpcli.language.plain import NoPlainError, is_literal, literal, plain_or_none, plain_value
from jvpcli.language.preparations import Finder, Prepared, prepared
from jvpcli.language.references import Context, Reading, casts, freezes, is_static
from jvpcli.language.source import SourceText, is_text

MOST_STEPS = 5000
"""Statements of all `__init__`, turns of loops among them, and items of lists there."""

MOST_COPIED = 100_000
"""Parts of the text of methods, which each object has anew."""

COLLECTIONS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
"""Classes of torch.nn that hold parts, and compute nothing."""

APART = ("Module", "ModuleDict", "ParameterList", "ParameterDict")
"""Classes of torch.nn of which no module stands where an object does whose class is derived from one."""

HELD_APART = rf"nn\.({'|'.join(COLLECTIONS)})\b|Sequential\(\s*\)"
"""What makes a text have objects without a class of its own."""

ONCE_PATH = "torch.autograd.function.once_differentiable"
"""The decorator of a backward that has no derivative."""

KNOWN_FROM_TEXT = ("int", "float", "str", "len", "range", "max", "min")
"""Functions whose results are known from the text."""

OWN = "made.0"
"""The name, which no text can write, of what is made where it has none yet."""

MOST_LEVELS = 20
"""Objects inside of each other."""

MOST_CALLS = 50
"""Methods that call each other as an object is made."""

SPECIAL = ("__init__", "__post_init__", "__call__", "__repr__", "__str__")
"""Methods with a meaning for Python that a class may have: others would change what is read here."""

FUNCTION = ("torch.autograd.Function", "torch.autograd.function.Function", "autograd.Function", "Function")


def without_classes(text: SourceText, tree: ast.Module) -> Prepared:
    """The tree of a text with its classes read as what their objects do, apart from what is done to its modules.

    Raises:
        ForbiddenError: an object's class does what can't be read, with its place; a module changes behind its use.
        LimitError: there are too many objects, or too many steps to make them.
    """
    return prepared(text, with_hooks(text, _read(text, tree)))


def _read(text: SourceText, tree: ast.Module) -> ast.Module:
    has_classes = any(isinstance(node, ast.ClassDef) for node in tree.body)
    if not has_classes and not re.search(HELD_APART, text.source) and not makes_elsewhere(tree) and not (
        taken_apart(tree, imported_paths(tree))
    ):
        return tree
    try:
        return Reader(text, tree).read()
    except RecursionError:
        raise LimitError("The classes of the program nest too deeply to be read.", source=text.source) from None


class Reader:
    """The classes and objects of a text, and the statements that stand in their place."""

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
        self.growing, self.taken_apart = growing(tree), taken_apart(tree, self.paths)
        self.draws = drawing(tree.body)
        self.outermost = [*tree.body]  # the statements that stand in no block
        self.shares = any(isinstance(node, ast.Global) for node in ast.walk(tree))
        self.waiting: list[ast.AST] = []  # constructors that may draw random numbers, in the order in which Python runs them

    def read(self) -> ast.Module:
        """The whole text."""
        for statement in self._opened(self.tree.body):
            self.statement(statement)
        for name in self.unnamed_yet():
            value = self.top.scope.pop(name)
            if _waiting_in([value]):
                self.place(name, value, self.tree.body[-1])
        self.made = [Reading(self, {}).visit(part) if part in self.later else part for part in self.made]
        self.made = [*self.front, *self.made]
        if not self.made or isinstance(self.tree.body[-1], ast.ClassDef):
            raise self.at(self.tree.body[-1], refusals.no_result(self.tree.body[-1]))
        called, whole = self._called(), ast.Module([], [])
        for part in self.made:
            needless = part in self.methods or isinstance(part, ast.ClassDef)  # which may hold what can't be read
            if not needless or getattr(part, "name", "") in called:
                whole.body.append(part)
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
        if node in self.factories.values():
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
            if isinstance(value, ast.Call) and (self.makes(value) or of_lists or name in self.taken_apart):
                for each in itertools.takewhile(lambda each: each not in free_names(node.value), self.unnamed_yet()):
                    self.place(each, scope.pop(each), node)
                apart = name in self.taken_apart and class_of(value.func, self.paths) == "Sequential"
                self.place(name, self.apart(value, scope) if apart else self.value(value, scope, None), node)
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
            return (listed and self.is_maker(node)) or (isinstance(value, ast.List) and node.targets[0].id in self.growing) or (
                isinstance(value, ast.Call) and node not in self.outermost and self.is_constructor(chained(value))
            )  # fmt: skip
        if isinstance(node, ast.AugAssign):
            return isinstance(node.target, ast.Name) and node.target.id in self.unnamed_yet()
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.func.attr not in GROWING:
            return False
        owner = value.func.value
        grown = isinstance(Reading(self, {}).resolved(owner), (Parts, Object)) and dotted(owner) not in self.used
        return grown or dotted(owner) in self.unnamed_yet()

    def is_constructor(self, node: ast.expr) -> bool:
        """Whether an expression makes a module, or an object, itself."""
        name = dotted(node.func) if isinstance(node, ast.Call) else ""
        return isinstance(node, ast.Call) and bool(
            self.class_called(node) or name in self.factories or class_of(node.func, self.paths) or is_parameter(node, self.paths)
        )

    def is_plain(self, node: ast.stmt) -> bool:
        """Whether a statement of a block gives names to what is known from the text, or nothing."""
        if isinstance(node, ast.Assign):
            calls = [part for part in ast.walk(node.value) if isinstance(part, ast.Call)]
            return all(dotted(part.func) in KNOWN_FROM_TEXT for part in calls)
        return isinstance(node, ast.Pass) or is_text(node)

    def name_lists(self, node: ast.stmt) -> None:
        """Give the parts of lists of modules names under that of their list, where a statement uses them or draws numbers."""
        waiting = self.unnamed_yet()
        if waiting and (free_names(node) & {*waiting} or self.draws(node)):
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
        others = [path for base, path in zip(bases, paths, strict=True) if base not in self.classes and path not in KNOWN_BASES]
        torchs = known[0].torchs if known else None
        if node.bases and class_of(node.bases[-1], self.paths) not in ("", *APART) and all(map(is_mixin, known)):
            torchs, others = node.bases[-1], others[:-1]
        readable = not node.keywords and len(node.decorator_list) == is_record and all(map(is_mixin, known[1:])) and (
            not others or (is_function and len(bases) == 1)
        )
        readable &= len(bases) < 2 or not known or bases[0] in self.classes or "__init__" not in known[0].methods
        inherited = [name for each in known for name in {*each.methods, *(dotted(part.targets[0]) for part in each.fields)}]
        readable &= len({*inherited}) == len(inherited)
        if is_record:
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
        if not readable:
            self.made.append(node)
            return
        is_module = any(each in KNOWN_BASES and each != "object" for each in paths) or any(each.is_module for each in known)
        is_module |= torchs is not None
        made_class = self.classes[node.name] = Class(node, is_function, methods, fields, base, is_module, torchs=torchs)
        if is_function:
            self.custom(made_class)

    def is_maker(self, node: ast.AST) -> bool:
        """Whether a constructor of a module, a parameter or an object stands in a part of the text."""
        calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
        return any(self.class_called(part) or class_of(part.func, self.paths) or is_parameter(part, self.paths) for part in calls)

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

    def path(self, name: str) -> str:
        """What a dotted name means by the imports of the text."""
        root, _, rest = name.partition(".")
        return ".".join(part for part in (self.paths.get(root, root), rest) if part)

    # Functions with a backward of their own

    def custom(self, made: Class) -> None:
        """`apply` of a torch.autograd.Function."""
        names = [name for name in ("forward", "backward", "setup_context") if name in made.methods]
        methods = [made.methods[name] for name in names]
        marks = [[self.path(dotted(mark)) for mark in method.decorator_list] for method in methods]
        static = all(each[:1] == ["staticmethod"] and {*each[1:]} <= {ONCE_PATH} for each in marks)
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

    # Objects

    def makes(self, call: ast.Call) -> bool:
        """Whether a call makes an object of a class of the text, or holds one that does."""
        calls = [part for part in ast.walk(call) if isinstance(part, ast.Call)]
        return any(self.class_called(part) or dotted(part.func) in self.factories for part in calls) or (
            class_of(call.func, self.paths) in COLLECTIONS or (class_of(call.func, self.paths) == "Sequential" and not call.args)
        )

    def class_called(self, call: ast.Call) -> Class | None:
        """The class of the text that a call makes an object of."""
        found = self.classes.get(call.func.id) if isinstance(call.func, ast.Name) else None
        return None if found is None or found.is_function else found

    def assign(self, path: str, value: ast.expr, node: ast.AST) -> None:
        """`path = value`, a statement that stands where the object is made."""
        self.made.append(placed(ast.Assign([name_at(path, node, ast.Store())], value), node))

    def place(self, path: str, value: Any, node: ast.AST) -> Any:
        """Give what was made a name."""
        self.count(node)
        new = value if isinstance(value, New) else None
        if new is not None and new.inside and new.made is None:
            raise self.refusal(node, "A module that is a part of another one gets no name of its own here")
        value = new.made if new is not None and new.made is not None else value
        inner = _waiting_in([*value.arguments, *value.keywords.values()]) if isinstance(value, New) else []
        if isinstance(value, New) and (value.kind is not None or value.chain is not None):
            self.in_turn(value.call, inner)
        if isinstance(value, Parts):
            for item in value.items:
                self.hold(path, item, node)
            names = value.names or map(str, range(len(value.items)))
            items = [self.place(f"{path}.{name}", item, node) for name, item in zip(names, value.items, strict=True)]
            value = Parts(items, value.names, path, value.wraps)
        elif isinstance(value, New) and value.kind is not None:
            value = self.instance(path, value, inner)
        elif isinstance(value, New) and value.chain is not None:
            made, start = Object(path, None, chained=f"{path}.forward"), len(self.made)
            self.fill(made, value.names, value.chain, node)
            self.begin(made, value.call, start)
            self.chain(made, value.call)
            value = made
        elif isinstance(value, New):
            self.in_turn(value.call)
            self.assign(path, value.call, value.call)
            is_sequential = class_of(value.call.func, self.paths) == "Sequential"
            count = len(value.call.args) if is_sequential else None
            named_inside(value, path)
            value = name_at(path, node) if is_parameter(value.call, self.paths) else Module(path, count)
        elif isinstance(value, ast.expr) and not isinstance(value, ast.Constant):
            self.assign(path, value, node)
            value = name_at(path, node)
        if new is not None:
            new.made = value
            for statement, name, scope in new.later:
                self.in_turn(statement)
                self.made.append(Reading(self, {**scope, name: value}).visit(copied(statement)))
            new.later.clear()
        if "." not in path:
            self.objects[path] = value
            self.used.discard(path)
            self.trains = {name: mode for name, mode in self.trains.items() if not f"{name}.".startswith(f"{path}.")}
        return value

    def in_turn(self, call: ast.AST, given: Sequence[ast.AST] = ()) -> None:
        """A module is made where it gets its name: refused where that is another order than Python's.

        What an object is `given` gets its name in it.
        """
        inside = [part for part in ast.walk(call) if part in self.waiting]
        known = [*inside, *given]
        if inside and any(part not in known for part in self.waiting[: 1 + max(map(self.waiting.index, inside))]):
            raise self.refusal(call, "Modules get their names in another order here than they are made in")
        self.waiting = [part for part in self.waiting if part not in inside]

    def fill(self, made: Object, names: Sequence[str] | None, items: Sequence[Any], node: ast.AST) -> None:
        """Give a sequence or list its modules, under their names or numbers."""
        made.names = [*names] if names else [str(k) for k in range(len(items))]
        for name, item in zip(made.names, items, strict=True):
            made.parts[name] = self.place(f"{made.path}.{name}", item, node)

    def chain(self, made: Object, node: ast.AST) -> None:
        """The function of a sequence, as its items are now."""
        self.made = [part for part in self.made if getattr(part, "name", "") != made.chained]
        self.made.append(_chain(made.chained, made.items or [], node))

    def begun(self, made: Object, arguments: Sequence[Any], keywords: Mapping[str, Any], node: ast.AST) -> None:
        """What the `__init__` of a class of torch.nn makes of an object whose class is derived from it."""
        kind = made.kind
        assert kind is not None
        assert kind.torchs is not None
        name = class_of(kind.torchs, self.paths)
        if made.begun:
            raise self.refusal(node, f"The `__init__` of nn.{name} runs a second time here")
        made.begun = True
        if name in ("Sequential", "ModuleList"):
            pairs = _pairs(arguments[0]) if len(arguments) == 1 else None
            listed = arguments[0].items if name == "ModuleList" and arguments and isinstance(arguments[0], Parts) else arguments
            items = [part for _, part in pairs] if pairs else listed
            if keywords or not all(isinstance(each, (New, Object, Module)) for each in items):
                raise self.refusal(node, f"`nn.{name}` of this can't be read")
            if name == "Sequential":
                made.chained = f"{made.path}.{'super().' if 'forward' in kind.methods else ''}forward"
            self.fill(made, [key for key, _ in pairs] if pairs else None, items, node)
            return
        made.whole = True
        parts = [written(each, node) for each in arguments]
        named = [ast.keyword(key, written(each, node)) for key, each in keywords.items()]
        call = placed(ast.Call(copied(kind.torchs), parts, [*named, self.derived(kind)]), node)
        self.waiting.append(call)
        self.in_turn(call)
        self.assign(made.path, call, node)
        if (reset := kind.methods.get(RESETS)) is not None:  # which torch's `__init__` calls
            self.initialise(made, kind.defining(RESETS), reset, (), {}, node)

    def derived(self, kind: Class) -> ast.keyword:
        """What a constructor is told of the class of the program that its module is of."""
        own = {name for each in kind.line for name in {*each.methods, *each.sets}} - {*SPECIAL, "forward", "extra_repr"}
        told: Any = tuple(each.node.name for each in kind.line), tuple(sorted(own))
        return ast.keyword(DERIVED, ast.Constant(told))

    def begin(self, made: Object, node: ast.Call, start: int) -> None:
        """What holds the parameters of an object itself, in front of those of its parts; nothing where it has none."""
        if made.whole:
            return
        values = [part.value for part in self.made[start:] if isinstance(part, ast.Assign)]
        calls = [value for value in values if isinstance(value, ast.Call)]
        if not any(class_of(call.func, self.paths) or is_parameter(call, self.paths) for call in calls):
            return
        target, holds = name_at(made.path, node, ast.Store()), _holder(node)
        if made.kind is not None:
            holds.keywords.append(self.derived(made.kind))
        self.made.insert(start, placed(ast.Assign([target], holds), node))

    def instance(self, path: str, new: New, given: Sequence[ast.AST]) -> Object:
        """An object of a class: its `__init__` is carried out, and its methods are functions; `given` are modules in it."""
        kind = new.kind
        assert kind is not None
        self.level += 1
        if self.level > MOST_LEVELS:
            raise self.at(new.call, LimitError(f"Objects stand inside of each other more than {MOST_LEVELS} deep."))
        made, start = Object(path, kind), len(self.made)
        made.begun = not kind.is_module or ("__init__" not in kind.methods and kind.torchs is None)
        self.set(made, "training", placed(ast.Constant(True), new.call), new.call)
        for field in kind.fields:
            self.set(made, dotted(field.targets[0]), self.value(field.value, {}, made), field)
        others = [part for part in self.waiting if part not in given]
        self.waiting = [part for part in self.waiting if part in given]
        if "__init__" in kind.methods:
            self.initialise(made, kind, kind.methods["__init__"], new.arguments, new.keywords, new.call)
        elif kind.torchs is not None:
            self.begun(made, new.arguments, new.keywords, new.call)
        elif new.arguments or new.keywords:
            raise self.refusal(new.call, f"`{kind.node.name}` has no `__init__` that takes these")
        self.waiting = [*self.waiting, *others]
        self.begin(made, new.call, start)
        if made.chained:
            self.chain(made, new.call)
        for name, method in kind.methods.items():
            if name != "__init__" and name not in made.parts and not is_static(method):
                self.method(made, name, method, kind.defining(name))
        self.level -= 1
        return made

    def initialise(
        self,
        made: Object,
        kind: Class,
        method: ast.FunctionDef,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        call: ast.AST,
    ) -> Initialisation:
        """Carry out `__init__`."""
        taken = method.args
        names = [part.arg for part in (*taken.posonlyargs, *taken.args)]
        if not names or method.decorator_list or (len(arguments) >= len(names) and not taken.vararg):
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        own = names[0]
        scope: dict[str, Any] = dict(zip(names[1:], arguments, strict=False))
        defaults = dict(zip(names[len(names) - len(taken.defaults) :], taken.defaults, strict=True))
        defaults.update({part.arg: value for part, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value})
        rest = list(arguments[len(names) - 1 :])
        names += [part.arg for part in taken.kwonlyargs]
        others = {name: value for name, value in keywords.items() if name not in names[1:]}
        if (others and not taken.kwarg) or {*keywords} & {*scope}:
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        scope.update({name: value for name, value in keywords.items() if name not in others})
        if taken.vararg:
            plain = all(isinstance(each, ast.expr) for each in rest)
            scope[taken.vararg.arg] = placed(ast.Tuple(rest, ast.Load()), call) if plain else Parts(rest)
        if taken.kwarg:
            scope[taken.kwarg.arg] = Parts([*others.values()], [*others])
        for name in names[1:]:
            if name not in scope and name not in defaults:
                raise self.refusal(call, f"`__init__` of `{kind.node.name}` needs a value for `{name}`")
            if name not in scope:
                scope[name] = self.value(defaults[name], {}, None)
        for name, value in scope.items():
            scope[name] = self.settled(made, name, value, call)
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise self.at(call, LimitError(f"Methods that `__init__` calls call each other more than {MOST_CALLS} deep."))
        done = Initialisation(self, made, kind, own, scope)
        done.run(method.body)
        self.calls -= 1
        return done

    def settled(self, made: Object, name: str, value: Any, node: ast.AST) -> Any:
        """A value of a name inside of `__init__`: what is no plain value, and no module, is computed once."""
        if not isinstance(value, ast.expr) or _is_settled(value):
            return value
        path = f"{made.path}.__init__.{name}.{self.steps}"
        self.count(node)
        self.assign(path, value, node)
        return name_at(path, node)

    def set(self, made: Object, name: str, value: Any, node: ast.AST) -> None:
        """`self.name = value`"""
        if name.startswith("__") and name.endswith("__"):
            raise self.refusal(node, f"`{name}` is one of Python's internals")
        if isinstance(made.parts.get(name), (Object, Module)):
            raise self.refusal(node, f"`{name}` is a module, and is set a second time here")
        if made.kind is not None and name in made.kind.methods and made.kind.methods[name].decorator_list:
            raise self.refusal(node, f"`{name}` is a method with a decorator, and is set here")
        if not made.begun and isinstance(value, (New, Parts, Module, Object)):
            message = "Modules and parameters can be set only behind `super().__init__()`, as in PyTorch."
            raise self.at(node, EvaluationError(message, torch_message="cannot assign module before Module.__init__() call"))
        path = f"{made.path}.{name}"
        made.plain.pop(name, None)
        if isinstance(value, ast.expr):
            if is_literal(value):
                made.plain[name] = value
            if isinstance(value, (ast.Name, ast.Attribute)) and class_of(value, self.paths):
                made.values[name] = value
                return
            self.assign(path, copied(value), node)
            made.parts[name] = name_at(path, node)
        elif isinstance(value, Parts) and not value.wraps and value.names is None and not any(
            isinstance(each, (New, Object, Module)) for each in value.items
        ):
            self.set(made, name, written(value, node), node)
            value.path = path
            if not value.items:
                made.plain.pop(name)
                made.parts[name] = value
        else:
            made.parts[name] = self.place(path, value, node)

    def method(self, made: Object, name: str, method: ast.FunctionDef, kind: Class) -> None:
        """A method as a function; `kind` is the class that it stands in."""
        self.copied += sum(1 for _ in ast.walk(method))
        if self.copied > MOST_COPIED:
            message = f"The methods of all objects of the program have more than {MOST_COPIED:,} parts."
            raise self.at(method, LimitError(message))
        marks = [dotted(mark) for mark in method.decorator_list]
        again = copied(method)
        taken = again.args.posonlyargs or again.args.args
        roots: dict[str, Any] = {}
        if "staticmethod" not in marks:
            if not taken:
                return
            roots = {taken.pop(0).arg: made.kind if "classmethod" in marks else made}
        own = ("staticmethod", "classmethod", "property")
        again.decorator_list = [mark for mark in again.decorator_list if dotted(mark) not in own]
        again.name, again.returns = f"{made.path}.{name}", None
        again.body = again.body or [ast.Pass()]
        reading = Reading(self, roots, kind)
        found = reading.visit(again)
        if reading.stored:
            found.body.insert(0, placed(ast.Global(sorted(reading.stored)), method.body[0]))
        for path in sorted(reading.stored):
            if path.rpartition(".")[2] not in made.parts:
                self.set(made, path.rpartition(".")[2], placed(ast.Constant(None), method), method)
        self.made.append(found)
        self.methods.append(found)

    def static(self, kind: Class, name: str) -> str:
        """The name of the function that a method without an object is, which is made where it is asked for first."""
        path = f"type({kind.node.name}).{name}"
        if path not in self.inherited:
            self.inherited.add(path)
            self.method(Object(f"type({kind.node.name})", kind), name, kind.methods[name], kind.defining(name))
            self.front.append(self.made.pop())
        return path

    def sliced(self, owner: Any, node: ast.Subscript) -> Object | None:
        """`net[:2]`: a sequence of modules that have their names; None of what is none."""
        items = owner.items if isinstance(owner, Object) and owner.chained else None
        if isinstance(owner, Module) and owner.count is not None:
            items = [Module(f"{owner.path}.{k}") for k in range(owner.count)]
        assert isinstance(node.slice, ast.Slice)
        bounds = [part and self.folded(part, {}, None) for part in (node.slice.lower, node.slice.upper, node.slice.step)]
        plain = [plain_or_none(part) for part in bounds]
        if items is None or plain[2] == 0 or any(part is not None and type(each) is not int for part, each in zip(
            (node.slice.lower, node.slice.upper, node.slice.step), plain, strict=True
        )):  # fmt: skip
            return None
        found = items[slice(*plain)]
        path = f"{owner.path}[{':'.join('' if each is None else str(each) for each in plain)}]"
        parts = {str(k): each for k, each in enumerate(found)}
        made = Object(path, None, parts, names=[*parts], chained=f"{path}.forward")
        if path not in self.inherited:
            self.inherited.add(path)
            self.front.append(_chain(made.chained, found, node))
        return made

    def only_looks(self, call: ast.Call) -> bool:
        """Whether a call registers a hook that changes nothing."""
        return any(part.value is call for part in looking_hooks(self.tree) if isinstance(part, (ast.Expr, ast.Assign)))

    def check_placed(self, call: ast.Call) -> None:
        """Refuse what would change a module.

        Raises:
            ForbiddenError: it would have no gradients, or numbers of another dtype.
        """
        method, given = dotted(call.func).rpartition(".")[2], [*call.args, *(keyword.value for keyword in call.keywords)]
        if method == "requires_grad_" and not turns_on(call):
            raise self.at(call, refusals.frozen())
        values = [self.values_of.get(part.id, part) if isinstance(part, ast.Name) else part for part in given]
        if method == "to" and any(catalog.is_constant(self.path(dotted(part))) for part in values):
            message = "A module can't be given another dtype here: its parameters have that of torch's default."
            hint = "Ask for another dtype: --dtype float64, or begin with torch.set_default_dtype(torch.float64)"
            raise self.at(call, ForbiddenError(message, hints=[hint]))

    def modes(self, name: str, value: Any, node: ast.expr) -> None:
        """`net.eval()`, of all that a value of `net`'s holds, before its first use."""
        calls: list[ast.Call] = []
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            calls.insert(0, node)
            node = node.func.value
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            method, given = call.func.attr, [*call.args, *(keyword.value for keyword in call.keywords)]
            flag = plain_or_none(given[0]) if given else True
            if method not in ("eval", "train"):
                self.check_placed(call)
                continue
            if not isinstance(flag, bool) or len(given) > (method == "train"):
                raise self.at(call, ForbiddenError("A mode is set by eval(), train(), train(True) or train(False) here."))
            mode = flag and method == "train"
            paths = [*_paths(value)]
            if name in self.used and any(self.trains.get(path, True) != mode for path, _ in paths):
                message = f"`{name}` has one mode throughout a program here, and this may change it after a use."
                hints = [f"Set the mode in a statement of its own, before `{name}` is used: {name}.{method}()"]
                raise self.at(call, ForbiddenError(message, hints=hints))
            for path, is_object in paths:
                self.trains[path] = mode
                if is_object:
                    self.assign(f"{path}.training", placed(ast.Constant(mode), call), call)
                else:
                    setting = ast.Attribute(name_at(path, call), "train" if mode else "eval", ast.Load())
                    self.made.append(placed(ast.Expr(ast.Call(setting, [], [])), call))

    # Values that `__init__` makes

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

    def given_by(
        self, function: ast.FunctionDef, call: ast.Call, scope: Mapping[str, Any], making: Initialisation | Object | None
    ) -> Any:
        """The module that a function of the text gives, which is carried out as an `__init__` is."""
        self.level += 1
        if self.level > MOST_LEVELS:
            raise self.at(call, LimitError(f"Functions that make modules call each other more than {MOST_LEVELS} deep."))
        kind = Class(ast.ClassDef(function.name, [], [], [], []), False, {}, [], None, False)
        made = Object(f"given.{self.steps}", kind, begun=True)
        taken = copied(function)
        taken.args.args.insert(0, ast.arg(OWN))
        arguments = [each for part in call.args for each in self.items(part, scope, making)]
        *body, last = taken.body
        taken.body = body
        own = self.initialise(made, kind, taken, arguments, self.keywords(call, scope, making), call)
        assert isinstance(last, ast.Return)
        assert last.value is not None
        found = own.value(chained(last.value))
        self.level -= 1
        return found

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
        pairs = _pairs(arguments[0]) if len(arguments) == 1 else None
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
        return Parts([_wrapped(each) if wraps else each for each in given.items], given.names, wraps=wraps)

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

    def grow(self, owner: Parts | Object, path: str, method: str, given: Sequence[Any], node: ast.AST) -> bool:
        """`layers.append(nn.Linear(2, 2))` of a list of modules or a sequence of them; whether it can be carried out."""
        if method == "extend" and len(given) == 1 and isinstance(given[0], Parts) and given[0].names is None:
            return all(self.grow(owner, path, "append", [item], node) for item in given[0].items)
        if any(each is owner for each in given) or path.partition(".")[0] in self.used:
            return False
        count = len(owner.items or ())
        name = str(count) if method == "append" and len(given) == 1 else given[0] if len(given) == 2 else None
        if not isinstance(name, str) or (isinstance(owner, Parts) and (owner.names is None) is not (method == "append")):
            return False
        item = _wrapped(given[-1]) if isinstance(owner, Parts) and owner.wraps else given[-1]
        if isinstance(owner, Parts):
            if owner.names is not None and name in owner.names:
                return False
            if path:
                self.hold(path, item, node)
                item = self.place(f"{path}.{name}", item, node)
            owner.items.append(item)
            if owner.names is not None:
                owner.names.append(name)
            return True
        if owner.names is None or name in owner.parts or not isinstance(item, (New, Object, Module)):
            return False
        owner.parts[name] = self.place(f"{owner.path}.{name}", item, node)
        owner.names.append(name)
        if owner.chained:
            self.chain(owner, node)
        return True

    def hold(self, path: str, item: Any, node: ast.AST) -> None:
        """What holds the parameters of a list, before its first one."""
        is_own = isinstance(item, New) and is_parameter(item.call, self.paths)
        if is_own and not any(isinstance(part, ast.Assign) and dotted(part.targets[0]) == path for part in self.made):
            self.assign(path, _holder(node), node)

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
        if isinstance(found, Parts):
            return [plain_value(each) if isinstance(each, ast.expr) else each for each in found.items]
        if isinstance(found, ast.expr):
            return plain_value(found)
        raise NoPlainError

    def substituted(self, node: ast.expr, scope: Mapping[str, Any], making: Initialisation | None) -> ast.expr:
        """An expression with what its names stand for."""
        roots: dict[str, Any] = {} if making is None else {making.own: making.made}
        found = Reading(self, {**roots, **scope}).visit(copied(node))
        assert isinstance(found, ast.expr)
        return found


def _holder(node: ast.AST) -> ast.Call:
    """An empty module, in the place of a part of the text."""
    return placed(ast.Call(ast.Attribute(ast.Name("nn", ast.Load()), "Module", ast.Load()), [], []), node)


def _waiting_in(values: Sequence[Any]) -> list[ast.AST]:
    """The constructors of what has no name yet among some values, and in lists of such."""
    found: list[ast.AST] = []
    for each in values:
        if isinstance(each, Parts):
            found += _waiting_in(each.items)
        elif isinstance(each, New) and each.made is None and not each.inside:
            found += [each.call, *_waiting_in([*each.arguments, *each.keywords.values(), *(each.chain or ())])]
    return found


def _wrapped(item: Any) -> Any:
    """An item of a list of parameters: what is none becomes one."""
    if not isinstance(item, ast.expr) or isinstance(item, ast.Constant):
        return item
    func = ast.Attribute(ast.Attribute(ast.Name("torch", ast.Load()), "nn", ast.Load()), "Parameter", ast.Load())
    return New(placed(ast.Call(func, [item], []), item))


def _is_settled(node: ast.expr) -> bool:
    """Whether an expression gives the same wherever it stands: a plain value, a function's name, a value that has a name."""
    return is_literal(node) or isinstance(node, (ast.Name, ast.Attribute, ast.Lambda))


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    """The names and parts of `OrderedDict([("a", nn.Linear(2, 2)), …])`; None for anything else."""
    items = value.items if isinstance(value, Parts) else []
    found = [(plain_or_none(item.items[0]), item.items[1]) for item in items if isinstance(item, Parts) and len(item.items) == 2]
    named = all(isinstance(name, str) and name.isidentifier() and isinstance(part, New) for name, part in found)
    return found if items and named and len({name for name, _ in found}) == len(items) else None


def _paths(value: Any) -> Iterator[tuple[str, bool]]:
    """The names of an object and of the modules in it, and which are objects."""
    if isinstance(value, Object):
        if value.kind is not None:
            yield value.path, True
        if value.whole:
            yield value.path, False
        for part in value.parts.values():
            yield from _paths(part)
    elif isinstance(value, Parts):
        for part in value.items:
            yield from _paths(part)
    elif isinstance(value, Module):
        yield value.path, False


def _chain(name: str, parts: Sequence[Any], node: ast.AST) -> ast.FunctionDef:
    """The function of a sequence: each part in turn."""
    taken = placed(ast.arg("input"), node)
    value: ast.expr = name_at("input", node)
    for part in parts:
        func = path_at(part.path, node) if isinstance(part, Module) else function_at(part, node)
        value = placed(ast.Call(func, [value], []), node)
    arguments = ast.arguments(posonlyargs=[], args=[taken], kwonlyargs=[], kw_defaults=[], defaults=[])
    body: list[ast.stmt] = [placed(ast.Return(value), node)]
    return placed(ast.FunctionDef(name, arguments, body, []), node)
