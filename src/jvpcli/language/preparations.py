"""What a program does to the parameters of its modules before it computes with them: `nn.init.zeros_(net.bias)`,
`net.weight.data = w`, `net.apply(init)`, `decoder.weight = encoder.weight`.

Such statements are carried out where the modules are made (`language/parameters.py`), and are none of the program that
is lowered.  Here they are found, on the text alone.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jvpcli.errors import ForbiddenError, LimitError
from jvpcli.language.dependence import changed, needed, shared_with
from jvpcli.language.names import (
    assigned,
    class_of,
    constructed,
    dotted,
    free_names,
    imported_paths,
    is_parameter,
    method_of,
    read_first,
    separated,
    targets,
)
from jvpcli.language.objects import name_at, placed
from jvpcli.language.source import SourceText
from jvpcli.language.statements import cleared, reads_grad

INIT = "torch.nn.init."

MOST_CHANGES = 500
"""Statements that change parameters."""

OF_MODULES = ("apply", "load_state_dict", "reset_parameters", "double", "float", "half", "bfloat16")
"""Methods by which a module has its parameters changed."""

CASTS = {"double": "float64", "float": "float32", "half": "float16", "bfloat16": "bfloat16"}
"""Methods of a module that give its parameters another dtype."""

LISTS = ("parameters", "named_parameters", "modules", "named_modules", "children", "named_children")
"""Methods of a module whose parts a loop may go through."""


@dataclass(frozen=True)
class Prepared:
    """A program apart from what it does to its modules.

    Attributes:
        tree: what is left.  In the place of a change stands the constructor of an empty module, behind which random numbers
            go on as behind the change.
        statements: the same with what was computed before a change and is not read behind it, and with what changes call.
        changes: by the names of those modules.
    """

    tree: ast.Module
    statements: list[ast.stmt]
    changes: Mapping[str, ast.stmt]


def prepared(text: SourceText, tree: ast.Module) -> Prepared:
    """A program, whose classes have been read, apart from what it does to its modules.

    Raises:
        ForbiddenError: a module changes behind a use on which the result depends.
    """
    paths = imported_paths(tree)
    apart = [each for part in tree.body for each in _one_by_one(part, paths)]
    known = constructed(ast.Module(apart, []))
    tree = ast.Module([each for part in apart for each in _changed_apart(part, paths, known)], [])
    modules = constructed(tree)
    finder = Finder.of(tree, modules)
    changes: dict[str, ast.stmt] = {}
    statements: list[ast.stmt] = []
    for statement in _separate(tree.body) if modules else ():
        if _is_set_again(statement, statements, paths) or finder.changes(statement, finder.modules):
            name = f"change.{len(changes)}"
            changes[name] = statement
            clears = [part for part in ast.walk(statement) if isinstance(part, ast.stmt) and cleared(part)]
            statements.append(holder(name, statement))
            for root in dict.fromkeys(each.partition(".")[0] for each in modules) if clears else ():
                clearing = ast.Attribute(name_at(root, statement), "zero_grad", ast.Load())
                statements.append(placed(ast.Expr(ast.Call(clearing, [], [])), statement))
        else:
            statements.append(statement)
        if len(changes) > MOST_CHANGES:
            error = LimitError(f"A program changes parameters by at most {MOST_CHANGES:,} statements of its own.")
            raise error.with_context(span=text.span(statement), source=text.source)
    if not changes:
        return Prepared(ast.Module(without_uncalled(tree.body), []) if modules else tree, tree.body, changes)
    lowered = _carried_out(text, statements, changes, {name.partition(".")[0] for name in modules})
    return Prepared(ast.Module(without_uncalled(lowered), []), statements, changes)


def holder(name: str, node: ast.AST) -> ast.stmt:
    """The constructor of an empty module, behind which random numbers are as what it stands for has left them."""
    made = placed(ast.Call(ast.Attribute(ast.Name("nn", ast.Load()), "Module", ast.Load()), [], []), node)
    return placed(ast.Assign([name_at(name, node, ast.Store())], made), node)


def _one_by_one(statement: ast.stmt, paths: Mapping[str, str]) -> list[ast.stmt]:
    """`a, b = nn.Tanh(), 2` as an assignment for each name."""
    parts = separated(statement) if isinstance(statement, ast.Assign) else []
    made = [isinstance(part.value, ast.Call) and bool(class_of(part.value.func, paths)) for part in parts]
    known = all(is_made or isinstance(part.value, ast.Constant) for is_made, part in zip(made, parts, strict=True))
    return [placed(part, statement) for part in parts] if len(parts) > 1 and any(made) and known else [statement]


def _changed_apart(statement: ast.stmt, paths: Mapping[str, str], modules: Collection[str]) -> list[ast.stmt]:
    """`net = nn.Linear(2, 2).requires_grad_(False)` as a constructor and a change."""
    found: list[ast.stmt] = [statement]

    def without(node: ast.expr, path: str) -> ast.expr:
        if not isinstance(node, ast.Call):
            return node
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("requires_grad_", *CASTS):
            inner = without(node.func.value, path)
            if not (isinstance(inner, ast.Call) and class_of(inner.func, paths)):
                return node
            method = ast.Attribute(name_at(path, node), node.func.attr, ast.Load())
            found.append(placed(ast.Expr(ast.Call(method, node.args, node.keywords)), node))
            return inner
        if class_of(node.func, paths) == "Sequential":
            node.args = [without(part, f"{path}.{k}") for k, part in enumerate(node.args)]
        return node

    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        name, call = statement.targets[0].id, statement.value
        cast = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in CASTS
        if cast and isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and name in modules and (
            dotted(call.func.value) == name
        ):
            return [placed(ast.Expr(call), statement)]  # net = net.double()
        statement.value = without(call, name)
    return found


def _is_set_again(statement: ast.stmt, before: Sequence[ast.stmt], paths: Mapping[str, str]) -> bool:
    """Whether a parameter of an object gets a new one in its place."""
    name = dotted(statement.targets[0]) if isinstance(statement, ast.Assign) else ""
    is_own = "." in name and isinstance(statement, ast.Assign) and is_parameter(statement.value, paths)
    return is_own and name in assigned(before)


def _separate(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, of a `with torch.no_grad():` each by itself."""
    for statement in statements:
        if isinstance(statement, ast.With) and all(dotted(each.context_expr).endswith("no_grad") or (
            isinstance(each.context_expr, ast.Call) and dotted(each.context_expr.func).endswith("no_grad")
        ) for each in statement.items):
            yield from (placed(ast.With(statement.items, [part]), part) for part in statement.body)
        else:
            yield statement


def owner(node: ast.expr) -> str:
    """The path of what an expression changes or gives: `net.weight` of `net.weight.data[0]`."""
    while True:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Subscript) and node.attr != "data":
            node = placed(ast.Attribute(node.value.value, node.attr, ast.Load()), node)  # a part of an item of it
        elif isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "data"):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach":
            node = node.func.value
        else:
            return _path(node)


def _path(node: ast.expr) -> str:
    """`net.0.weight` of `net[0].weight`; empty where it is no path."""
    if isinstance(node, ast.Attribute):
        inner = _path(node.value)
        return inner and f"{inner}.{node.attr}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and type(node.slice.value) is int:
        inner = _path(node.value)
        return inner and f"{inner}.{node.slice.value}"
    return dotted(node)


def is_under(path: str, roots: Collection[str]) -> bool:
    """Whether a path is one of some modules, or begins with one."""
    while path:
        if path in roots:
            return True
        path = path.rpartition(".")[0]
    return False


@dataclass(frozen=True)
class Finder:
    """Tells which statements change parameters of modules.

    Attributes:
        paths: what the imports of the text give names to.
        functions: the program's own.
        modules: the names of its modules.
    """

    paths: Mapping[str, str]
    functions: Mapping[str, ast.FunctionDef]
    modules: Collection[str]

    @classmethod
    def of(cls, tree: ast.Module, modules: Collection[str]) -> Finder:
        """That of a text with some modules."""
        functions = {part.name: part for part in tree.body if isinstance(part, ast.FunctionDef)}
        return cls(imported_paths(tree), functions, modules)

    def of_init(self, call: ast.Call) -> str:
        """`zeros_` of `nn.init.zeros_(…)`; empty for any other call."""
        root, _, rest = dotted(call.func).partition(".")
        path = ".".join(part for part in (self.paths.get(root, root), rest) if part)
        return path.removeprefix(INIT) if path.startswith(INIT) else ""

    def changes(self, node: ast.stmt, roots: Collection[str], asked: set[Any] | None = None) -> bool:
        """Whether a statement changes what stands under some names: modules, and names that stand for their parts.

        `asked` are the functions that were looked into, with what they were given.
        """
        inside = set() if asked is None else asked
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            return any(self.changed(target, roots, isinstance(node, ast.AugAssign)) for target in targets(node))
        if isinstance(node, ast.With):
            return any(self.changes(part, roots, inside) for part in node.body)
        if isinstance(node, ast.If):
            return any(self.changes(part, roots, inside) for part in (*node.body, *node.orelse))
        if isinstance(node, ast.For):
            own = {*assigned([node.target])} if self.goes_through(node.iter, roots) else set()
            return any(self.changes(part, {*roots, *own}, inside) for part in node.body)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self.called(node.value, roots, inside)
        return False

    def changed(self, target: ast.expr, roots: Collection[str], augmented: bool) -> bool:
        """Whether an assignment to a target changes a parameter, or another part of a module."""
        if isinstance(target, (ast.Tuple, ast.List)):
            return any(self.changed(part, roots, augmented) for part in target.elts)
        if isinstance(target, ast.Name) and not (augmented and target.id in roots):
            return False
        path = owner(target.value if isinstance(target, ast.Attribute) and target.attr == "requires_grad" else target)
        return is_under(path, roots) and "grad" not in path.split(".")

    def called(self, call: ast.Call, roots: Collection[str], asked: set[Any]) -> bool:
        """Whether a call changes what it is given, or what it is a method of."""
        if self.of_init(call):
            return True
        if isinstance(call.func, ast.Attribute):
            method, path = call.func.attr, owner(call.func.value)
            in_place = method.endswith("_") and not method.startswith("_")
            return (method in OF_MODULES or in_place) and is_under(path, roots) and "grad" not in path.split(".")
        function = self.functions.get(dotted(call.func))
        if function is None:
            return False
        names = [part.arg for part in function.args.args]
        own = {name for name, part in zip(names, call.args, strict=False) if is_under(owner(part), roots)}
        own |= {part.arg for part in call.keywords if part.arg and is_under(owner(part.value), roots)}
        key = function.name, frozenset(own)
        if key in asked:
            return False  # it is under way, or changes nothing
        asked.add(key)
        seen = {*self.modules} - {*assigned(function.body), *names} | own
        return any(self.changes(part, seen, asked) for part in function.body)

    def goes_through(self, node: ast.expr, roots: Collection[str]) -> bool:
        """Whether a loop goes through parts of modules."""
        if isinstance(node, ast.Call) and dotted(node.func) in ("list", "zip", "enumerate", "reversed"):
            return any(self.goes_through(part, roots) for part in node.args)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return node.func.attr in LISTS and is_under(owner(node.func.value), roots)
        if isinstance(node, (ast.List, ast.Tuple)):
            return any(is_under(owner(part), roots) for part in node.elts)
        return is_under(dotted(node), roots)


def _uses(statement: ast.stmt, roots: Collection[str], made: Collection[int]) -> bool:
    """Whether a statement computes with modules, by their own names."""
    value = statement.value if isinstance(statement, (ast.Assign, ast.Expr)) else None
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Assert, ast.Import, ast.ImportFrom)) or id(value) in made:
        return False
    call = value.func if isinstance(value, ast.Call) else None
    if dotted(call or statement) == "print" or (isinstance(call, ast.Attribute) and call.attr in ("eval", "train", "zero_grad")):
        return False
    read = statement.value if isinstance(statement, ast.Assign) else statement
    return any(name.partition(".")[0] in roots for name in free_names(read))


def _carried_out(
    text: SourceText, statements: list[ast.stmt], changes: Mapping[str, ast.stmt], roots: Collection[str]
) -> list[ast.stmt]:
    """The statements without what a change stands behind, and without functions that changes alone call."""
    functions = {part.name: part for part in statements if isinstance(part, ast.FunctionDef)}
    made = {id(node) for node, _ in constructed(ast.Module(statements, [])).values()}
    written = [changes.get("".join(assigned([part])), part) for part in statements]
    early: list[ast.stmt] = []
    for place, part in enumerate(written):
        name = _shared(part, roots) if part is not statements[place] else ""
        if name and any(name in changed(each) for each in written[place + 1 :]):
            message = f"`{name}` is changed behind this, and in PyTorch the parameter has its memory."
            hints = [f"Give it a copy: {name}.clone()"]
            raise ForbiddenError(message, hints=hints).with_context(span=text.span(part), source=text.source)
        if part is statements[place] or written[place + 1 : place + 2] != statements[place + 1 : place + 2]:
            continue  # of changes one behind the other the last
        before, after = statements[: place + 1], written[place + 1 :]
        alone = changed(part) & {*roots} if method_of(part) == "load_state_dict" else roots  # the others stay as they are
        reading = {name for name in functions if any(each.partition(".")[0] in alone for each in _reached({name}, functions))}
        early = _computed(before, {*alone, *reading}, made)
        read = placed(ast.Tuple([name_at(name, part) for name in read_first(after)], ast.Load()), part)
        wanted = needed(read, before) if early else []
        grads = _reads_grad(after)
        for each in early:
            of_grad = grads and any(isinstance(node, ast.Attribute) and node.attr == "backward" for node in ast.walk(each))
            if each in wanted or of_grad or any(id(node) in made for node in ast.walk(each)):
                message = "This changes parameters behind a use of them, and what was computed there is used on."
                hints = ["Change them before the modules are used, or ask for the part behind the change alone."]
                raise ForbiddenError(message, hints=hints).with_context(span=text.span(part), source=text.source)
    return _without_clearing([part for part in statements if part not in early])


def _shared(statement: ast.stmt, roots: Collection[str]) -> str:
    """The name of the tensor, of no module, whose memory a parameter gets: `net.weight.data = w`."""
    part = statement.body[0] if isinstance(statement, ast.With) else statement
    target = part.targets[0] if isinstance(part, ast.Assign) else None
    if not isinstance(part, ast.Assign) or not isinstance(target, ast.Attribute) or target.attr != "data":
        return ""
    name = shared_with(part.value)
    return name if name not in roots else ""


def without_uncalled(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements without the functions that nothing in them calls, which may change what no function can."""
    functions = {part.name: part for part in statements if isinstance(part, ast.FunctionDef)}
    called = _reached({name for part in statements if part not in functions.values() for name in free_names(part)}, functions)
    kept = [part for part in statements if part not in functions.values() or {*assigned([part])} & called]
    return kept or statements


def _without_clearing(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements without those that clear gradients before there are any."""
    first = next((k for k, part in enumerate(statements) if any(
        isinstance(node, ast.Attribute) and node.attr == "backward" for node in ast.walk(part)
    )), len(statements) - 1)  # fmt: skip
    only = (ast.Expr, ast.Assign, ast.With)
    return [part for k, part in enumerate(statements) if k >= first or not (isinstance(part, only) and cleared(part))]


def _computed(statements: Sequence[ast.stmt], names: set[str], made: Collection[int]) -> list[ast.stmt]:
    """The statements that compute with what stands under some names, and with what was computed so."""
    found: list[ast.stmt] = []
    for part in statements:
        if _uses(part, names, made):
            found.append(part)
            names = names | {*assigned([part]), *changed(part)}
    return found


def _reads_grad(statements: Sequence[ast.stmt]) -> bool:
    """Whether `.grad` is read before it is cleared."""
    for part in statements:
        if cleared(part):
            return False
        if reads_grad(part):
            return True
    return False


def _reached(names: set[str], functions: Mapping[str, ast.FunctionDef]) -> set[str]:
    """Some names, and what the functions among them read, and those that they call."""
    found = set(names)
    while more := set().union(*(free_names(functions[name]) for name in found & functions.keys())) - found:
        found |= more
    return found
