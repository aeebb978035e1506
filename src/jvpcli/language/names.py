"""Which names the statements of a scope read and assign, in the order in which Python would.  Loads no torch."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from jvpcli.language import catalog

LIST_METHODS = frozenset(
    {"append", "extend", "insert", "pop", "reverse", "clear", "copy", "items", "keys", "values", "get", "update", "setdefault"}
)
"""Methods that a list or dictionary has and a tensor has not."""

FUNCTION_WORDS = ("lambda", "torch.func", "functorch", "autograd.functional", "vmap", "jacrev", "jacfwd", "hessian")
"""Words without which no text of assignments alone has functions as values, but for those of the language under a new name."""

CHANGING = ("{", "dict(", *(f".{method}(" for method in sorted(LIST_METHODS)))
"""Words without which no text of assignments alone has what changes as it runs: dictionaries and lists."""

SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Pass, ast.Assert)
"""Statements that neither hold others nor leave where they stand."""

Use = tuple[str, bool]
"""A name, and whether it is assigned there."""


def is_program(tree: ast.Module, source: str) -> bool:
    """Whether names have to be looked up while a text runs: it has blocks or functions, or lists that grow.

    So it has where `.data` is changed.  In any other text each name stands for one value from its assignment on, which is
    known without running it.
    """
    if not all(isinstance(statement, SIMPLE) for statement in tree.body):
        return True
    values = [statement.value for statement in tree.body if isinstance(statement, ast.Assign)]
    if any(isinstance(value, ast.Attribute) and catalog.is_function(catalog.canonical(dotted(value))) for value in values):
        return True
    if ".data" in source and any("data" in _attributes(target) for part in tree.body for target in targets(part)):
        return True
    return any(word in source for word in (*FUNCTION_WORDS, *CHANGING))


def targets(statement: ast.stmt) -> list[ast.expr]:
    """What an assignment gives values to."""
    return statement.targets if isinstance(statement, ast.Assign) else [t] if (t := getattr(statement, "target", None)) else []


def _attributes(node: ast.expr) -> set[str]:
    return {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


KNOWN_OF = frozenset({"shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "grad_fn"})
"""What there is to know of a tensor beside its numbers."""

SIZES = frozenset({"size", "dim", "numel"})
"""Methods that tell how large a tensor is."""


def method_of(statement: ast.stmt) -> str:
    """The name of the method that a statement calls, and does no more."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.func.attr if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else ""


def dotted(node: ast.AST) -> str:
    """`torch.linalg.inv` of a dotted name; `.inv` where it begins with something else, and nothing where it is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])


def is_main(test: ast.AST | None) -> bool:
    """`__name__ == "__main__"`"""
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def turns_on(call: ast.expr | None) -> bool:
    """Whether `x.requires_grad_(…)` says that gradients are recorded."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)] if isinstance(call, ast.Call) else []
    return all(isinstance(flag, ast.Constant) and flag.value is True for flag in given)


def separated(statement: ast.Assign) -> list[ast.Assign]:
    """`a, b = 1, 2` as an assignment for each name; any other as it is."""
    (target, *others), value = statement.targets, statement.value
    if others or not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)):
        return [statement]
    return [ast.Assign([part], each, lineno=0) for part, each in zip(target.elts, value.elts, strict=True)]


def with_modules_apart(tree: ast.Module) -> ast.Module:
    """A program, in which each module gets its name in a statement of its own: not `a, b = nn.Tanh(), 2`."""
    paths, found = imported_paths(tree), list[ast.stmt]()
    for statement in tree.body:
        parts = separated(statement) if isinstance(statement, ast.Assign) else []
        made = [isinstance(part.value, ast.Call) and bool(class_of(part.value.func, paths)) for part in parts]
        known = all(is_made or isinstance(part.value, ast.Constant) for is_made, part in zip(made, parts, strict=True))
        apart = len(parts) > 1 and any(made) and known
        found += [ast.fix_missing_locations(ast.copy_location(part, statement)) for part in parts] if apart else [statement]
    return ast.Module(found, [])


def assigned(statements: Iterable[ast.AST]) -> list[str]:
    """The names that statements assign, their functions' own names left out, in order and each once."""
    return list(dict.fromkeys(name for name, stored in _of_all(statements) if stored))


def free_names(node: ast.AST) -> set[str]:
    """The names that a part of a program uses, without those that functions and comprehensions in it have of their own."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
        of_its_own = {name for each in node.generators for name in assigned([each.target])}
        return set().union(*map(free_names, ast.iter_child_nodes(node))) - of_its_own
    if not isinstance(node, (ast.Lambda, ast.FunctionDef)):
        return set().union(*map(free_names, ast.iter_child_nodes(node)))
    own = {one.arg for one in ast.iter_child_nodes(node.args) if isinstance(one, ast.arg)}
    body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    if isinstance(node, ast.FunctionDef):
        own |= {*assigned(node.body)}
    return (set().union(*map(free_names, body)) - own) | free_names(node.args)


def read_first(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that are read before anything is assigned to them."""
    first: dict[str, bool] = {}
    for name, stored in _of_all(statements):
        first.setdefault(name, stored)
    return {name for name, stored in first.items() if not stored}


def imported_paths(tree: ast.Module) -> dict[str, str]:
    """What the imports of a text give names to, by their dotted paths."""
    paths = {"nn": "torch.nn"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            paths.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return paths


def constructed(tree: ast.Module) -> dict[str, tuple[ast.Call, Mapping[int, str]]]:
    """The constructors of torch.nn's classes in a text, each by the name that its module gets.

    That is the name that it is assigned to, or that of its class; with it stand the classes of the constructors in it, by
    the identity of their nodes.
    """
    paths = imported_paths(tree)
    classes: dict[int, str] = {}
    inner: set[int] = set()
    calls: list[ast.Call] = []
    for node in in_order(tree):
        name = class_of(node.func, paths) if isinstance(node, ast.Call) else ""
        if name and isinstance(node, ast.Call):
            calls.append(node)
            classes[id(node)] = name
            inner.update(id(part) for argument in (*node.args, *node.keywords) for part in ast.walk(argument))
    found: dict[str, tuple[ast.Call, Mapping[int, str]]] = {}
    named = {id(without_mode(node.value)): node.targets[0] for node in tree.body if isinstance(node, ast.Assign)}
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    taken.update(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for call in calls:  # as Python draws their random numbers
        if id(call) in inner:
            continue
        target = named.get(id(call))
        name = target.id if isinstance(target, ast.Name) else classes[id(call)]
        while name in found or (name in taken and not isinstance(target, ast.Name)):
            name += "_"
        found[name] = (call, classes)
    return found


DTYPES = {"HalfTensor": "float16", "FloatTensor": "float32", "DoubleTensor": "float64", "BFloat16Tensor": "bfloat16",
          "half": "float16", "float": "float32", "double": "float64"}  # fmt: skip
"""Other names of the dtypes that new tensors may have."""


def default_set(statement: ast.AST) -> str | None:
    """`torch.float64` of `torch.set_default_dtype(torch.float64)`, or of its older spelling; None for another statement."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or len(call.args) != 1 or call.keywords:
        return None
    if dotted(call.func) not in ("torch.set_default_dtype", "torch.set_default_tensor_type"):
        return None
    (given,) = call.args
    written = given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else dotted(given)
    known = dtype_named(written)
    return None if known is None else f"torch.{known}"


def dtype_named(path: str) -> str | None:
    """`float64` of `torch.float64`, `torch.double` and `torch.DoubleTensor`; None of what parameters can't have."""
    root, _, name = path.rpartition(".")
    name = DTYPES.get(name, name)
    return name if root == "torch" and name in ("float16", "bfloat16", "float32", "float64") else None


def without_mode(node: ast.expr) -> ast.expr:
    """`nn.Linear(3, 4).eval()` without what follows the constructor."""
    while (method := mode_method(node)) is not None:
        node = method.value
    return node


def mode_method(node: ast.AST) -> ast.Attribute | None:
    """`net.eval` of `net.eval()`, which sets the mode of a module; None of anything else."""
    method = node.func if isinstance(node, ast.Call) else None
    return method if isinstance(method, ast.Attribute) and method.attr in ("eval", "train") else None


def class_of(node: ast.expr, paths: Mapping[str, str]) -> str:
    """`Linear` of nn.Linear and torch.nn.Linear; empty where it is no class of torch.nn."""
    root, dot, rest = dotted(node).partition(".")
    module, _, name = f"{paths.get(root, root)}{dot}{rest}".rpartition(".")
    return name if module in ("torch.nn", "torch.nn.modules") and name[:1].isupper() and name != "Parameter" else ""


def in_order(node: ast.AST) -> Iterator[ast.AST]:
    """A part of a program and all in it, in the order of the text."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += reversed(list(ast.iter_child_nodes(part)))


def _of_all(nodes: Iterable[ast.AST]) -> Iterator[Use]:
    """The uses of names in some nodes, in order: without recursion, for a sum of a thousand terms is as deep."""
    waiting: list[Use | ast.AST] = []
    waiting += [*nodes][::-1]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.AST):
            waiting += [*_uses(part)][::-1]
        else:
            yield part


def _uses(node: ast.AST) -> Iterator[Use | ast.AST]:
    """The uses of a node itself, and the parts in which there are more, in order."""
    if isinstance(node, ast.Name):
        yield node.id, isinstance(node.ctx, ast.Store)
    elif isinstance(node, ast.Assign):
        yield from [node.value, *node.targets]
    elif isinstance(node, ast.AnnAssign):
        yield from [] if node.value is None else [node.value, node.target]
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.target, ast.Name):
            yield node.target.id, False
        yield from (node.value, node.target)
    elif isinstance(node, ast.For):
        yield from [node.iter, node.target, *node.body, *node.orelse]
    elif isinstance(node, ast.FunctionDef):
        yield from _defaults(node.args)
        yield node.name, True
        yield from ((name, True) for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names)
    elif isinstance(node, ast.Lambda):
        yield from _defaults(node.args)
    elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
        yield from _of_comprehension(node)
    elif not isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from ast.iter_child_nodes(node)


def _defaults(arguments: ast.arguments) -> Sequence[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def _of_comprehension(node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Iterator[Use]:
    """What a comprehension reads of the names around it; its variables are its own."""
    own = {name for generator in node.generators for name, stored in _of_all([generator.target]) if stored}
    yield from ((name, stored) for name, stored in _of_all(ast.iter_child_nodes(node)) if name not in own)


SHARED = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
"""Nodes of which Python has one for all trees; whoever reads trees may have hung a whole file on them (`executing` does)."""

N = TypeVar("N", bound=ast.AST)


def copied(node: N) -> N:
    """The node with all below it once more."""
    return copy.deepcopy(node, {id(part): part for part in ast.walk(node) if isinstance(part, SHARED)})
