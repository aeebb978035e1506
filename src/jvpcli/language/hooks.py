"""Hooks of tensors: those that only look are passed over, and those that give a gradient back, as
`y.register_hook(lambda g: 2 * g)` does, are steps of the program.

A hook changes the gradient of a tensor wherever that is used, before the hook is registered too.  So the tensor passes, where it
is made, through a step that gives the same and whose backward is the hook (`language/hooked.py`).  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from jvpcli.errors import ForbiddenError
from jvpcli.language import array_names, catalog
from jvpcli.language.dependence import changed, root_of
from jvpcli.language.lowering import Hooked
from jvpcli.language.names import LIST_METHODS, assigned, copied, dotted, free_names, imported_paths, separated
from jvpcli.language.source import SourceText
from jvpcli.language.statements import SHOWING

METHOD = ".register_hook"

DERIVATIVES = frozenset(
    {"grad", "backward", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "jacobian", "hvp", "vhp", "grad_and_value", "linearize"}
)
"""The last names of what takes derivatives."""


LOOKING = frozenset(
    ["print", "len", "float", "int", "str", "repr", "list", "tuple", "dict", "range", "enumerate", "zip", "type", "isinstance",
     "round", "abs", "min", "max", "sum", "format"]
)
"""Functions of Python's that change nothing that they are given."""

FILLING = LIST_METHODS - {"items", "keys", "values", "get", "copy"}
"""Methods that change a list or dictionary."""

READING = frozenset({"items", "keys", "values", "get", "copy", "format", "join", "numpy"})
"""Methods of lists, dictionaries, texts and tensors that change nothing and draw nothing, beside those of the catalogue."""


def looking_hooks(tree: ast.Module) -> list[ast.stmt]:
    """The statements whose hook gives nothing back and changes nothing, as `y.register_hook(print)`, and their `h.remove()`."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    bound = [*(node.name for node in functions), *assigned([part for part in tree.body if not isinstance(part, ast.FunctionDef)])]
    once = [node for node in functions if bound.count(node.name) == 1]
    held = [part for part in tree.body if isinstance(part, ast.Assign) and all(
        isinstance(each.value, (ast.Dict, ast.List)) for each in separated(part)
    )]  # fmt: skip
    containers = {name for name in assigned(held) if bound.count(name) == 1}
    silent = {node.name for node in once if _only_looks(node, containers)} | ({"print"} - {*bound})
    makers = {node.name for node in once if _gives_looking(node, containers)}
    quiet = [node for node in ast.walk(tree) if node in held or _shows(node) or getattr(node, "name", "") in silent | makers]
    silently = {id(part) for node in quiet for part in ast.walk(node)}

    def looks(given: ast.expr, node: ast.stmt) -> bool:
        hooks = [each for each in once if each.name in free_names(given)]
        filled = containers & free_names(given).union(*map(free_names, hooks))
        own = {id(part) for part in ast.walk(node)}
        loaded = (part for part in ast.walk(tree) if isinstance(getattr(part, "ctx", None), ast.Load) and id(part) not in own)
        if any(id(part) not in silently and dotted(part) in filled for part in loaded):
            return False  # what the hook keeps is computed with
        if not LOOKING.isdisjoint(bound):
            return False
        if isinstance(given, ast.Lambda):
            free = containers - {part.arg for part in given.args.args}
            return _gives_nothing(given.body, silent) and all(_leaves_alone(part, free) for part in ast.walk(given.body))
        if isinstance(given, ast.Call):  # save("y")
            return isinstance(given.func, ast.Name) and given.func.id in makers and not given.keywords and (
                all(isinstance(part, ast.Constant) for part in given.args)
            )
        return dotted(given) in silent

    found: list[ast.stmt] = []
    for node in ast.walk(tree):
        call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
        hooks = isinstance(call, ast.Call) and f".{_method(call)}" == METHOD and len(call.args) == 1 and not call.keywords
        if hooks and isinstance(call, ast.Call) and isinstance(node, ast.stmt) and looks(call.args[0], node):
            found.append(node)
    handles = {name for part in found if isinstance(part, ast.Assign) for name in assigned([part])}
    handles = {name for name in handles if bound.count(name) == 1}
    return found + [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _method(node.value) == "remove"
        and isinstance(node.value.func, ast.Attribute) and dotted(node.value.func.value) in handles and not node.value.args
    ]  # fmt: skip


def _method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _gives_nothing(node: ast.expr, silent: Collection[str]) -> bool:
    """Whether what a lambda gives is None: it prints, or puts something into a list."""
    of_list = isinstance(node, ast.Call) and _method(node) == "append" and isinstance(node.func, ast.Attribute)
    return isinstance(node, ast.Call) and ((isinstance(node.func, ast.Name) and node.func.id in silent) or of_list)


def _shows(node: ast.AST) -> bool:
    """Whether a statement only prints, or shows what a list or dictionary holds."""
    if isinstance(node, ast.For):
        return all(map(_shows, node.body))
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Subscript)):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and dotted(node.value.func) == "print"


def _gives_looking(function: ast.FunctionDef, containers: Collection[str]) -> bool:
    """Whether a function does nothing but to make a hook that only looks, and gives it."""
    *body, last = function.body
    inner = {part.name for part in body if isinstance(part, ast.FunctionDef) and _only_looks(part, containers)}
    return len(inner) == len(body) and isinstance(last, ast.Return) and dotted(last.value or last) in inner


def _only_looks(function: ast.FunctionDef, containers: Collection[str] = ()) -> bool:
    """Whether a function gives nothing back, and changes nothing that it is given, as far as its text tells.

    It may fill lists and dictionaries that the program makes.
    """
    own = {*containers} - {part.arg for part in function.args.args} - {*assigned(function.body)}
    parts = [part for statement in function.body for part in ast.walk(statement)]
    gives = any(isinstance(part, ast.Return) and part.value is not None for part in parts)
    return not gives and all(_leaves_alone(part, own) for part in parts)


def _leaves_alone(node: ast.AST, own: Collection[str] = ()) -> bool:
    """Whether a part of a text changes no tensor: `grads[name] = g` fills a container, where g itself is not written to.

    `own` are names of what may keep something: `grads[name] = g`.
    """
    if isinstance(node, (ast.AugAssign, ast.Delete, ast.Global, ast.Nonlocal)):
        return False
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return False
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        is_word = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)  # no tensor is indexed by a word
        return is_word or dotted(node.value) in own
    if isinstance(node, ast.Call):
        words = {keyword.arg for keyword in node.keywords}
        if isinstance(node.func, ast.Name):
            return node.func.id in LOOKING
        method, called, root = _method(node), catalog.canonical(dotted(node.func)), root_of(node)
        if method in FILLING:
            return root in own
        pure = [op for op in (f"call:{called}", f"method:{method}") if catalog.is_function(called) or catalog.is_method(method)]
        known = bool(pure) and not any(catalog.is_random(op) or catalog.changes_arguments(op) for op in pure)
        of_numpy = root in ("np", "numpy") and called.partition(".")[2] in array_names.NAMES - array_names.RANDOM
        shows = root in SHOWING and not method.endswith("_")
        return (known or of_numpy or method in READING or shows) and words.isdisjoint({"out", "inplace", None})
    return not isinstance(node, (ast.Raise, ast.While))


def with_hooks(text: SourceText, tree: ast.Module) -> ast.Module:
    """The tree with what its hooks do; the tree itself where it has none.

    A hook that is registered in a loop or condition, or of what is made in one, stays as it is, and is refused.

    Raises:
        ForbiddenError: the program takes derivatives itself, maybe by what has a hook.
    """
    if METHOD not in text.source:
        return tree
    looking = looking_hooks(tree)
    functions = {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}
    paths = imported_paths(tree)
    words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {path.rpartition(".")[2] for name, path in paths.items() if name in free_names(tree)}
    derives = not DERIVATIVES.isdisjoint(words)

    def read(body: Sequence[ast.stmt], taken: Collection[str] | None = None) -> list[ast.stmt]:
        statements = list(body)
        for place, statement in enumerate(body):
            call = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) and statement not in looking else None
            given = {*assigned([statement])} if isinstance(statement, ast.Assign) else set()
            if any(given & free_names(part) for part in body[place + 1 :]):
                continue  # what it gives is used
            name = _hooked(call) if isinstance(call, ast.Call) else ""
            before = body[:place]
            blocks = [part for part in before if not isinstance(part, (ast.Assign, ast.AnnAssign, ast.FunctionDef))]
            if not name or not isinstance(call, ast.Call) or name in assigned(blocks):
                continue
            made = [part for part in before if isinstance(part, (ast.Assign, ast.AnnAssign)) and name in assigned([part])]
            known = isinstance(call.args[0], ast.Lambda) or dotted(call.args[0]) in functions
            if taken is not None and not (known and (made or name in taken)):
                continue
            if derives:
                message = "A hook that gives a gradient back is not carried out where the program itself takes derivatives."
                raise ForbiddenError(message).with_context(span=text.span(call), source=text.source)
            later = body[1 + body.index(made[-1]) :] if made else body
            given = {*assigned([part for part in later if not isinstance(part, ast.FunctionDef)])}.union(*map(changed, later))
            if hidden := sorted((free_names(call.args[0]) - functions) & given):
                message = f"This hook reads `{hidden[0]}`, which gets its value, or changes, behind what makes `{name}`."
                hints = [f"Give it its last value before `{name}` is made."]
                raise ForbiddenError(message, hints=hints).with_context(span=text.span(call), source=text.source)
            if any(other.startswith("backward_") for other in assigned([part for part in before if part in later])):
                message = f"This hook of `{name}` is registered behind a call that takes derivatives, which ran without it."
                raise ForbiddenError(message).with_context(span=text.span(call), source=text.source)
            if any(isinstance(part, ast.Global) for each in tree.body if getattr(each, "name", "") in free_names(call.args[0])
                   for part in ast.walk(each)):  # fmt: skip
                message = "A hook that gives names of the program other values is not carried out."
                raise ForbiddenError(message).with_context(span=text.span(call), source=text.source)
            start = 1 + max((statements.index(part) for part in made), default=-1)
            statements.insert(start, _with_hook(name, call.args[0], functions, call))
            statements.remove(statement)
        return statements

    passed = {id(part) for statement in looking for part in ast.walk(statement)}
    loops = {name for part in ast.walk(tree) if isinstance(part, ast.For) and ".parameters()" in ast.unparse(part.iter)
             for name in assigned([part.target])}  # fmt: skip
    for call in (part for part in ast.walk(tree) if isinstance(part, ast.Call) and _method(part) == METHOD[1:]):
        owner = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        of_node = owner.endswith(".grad_fn")
        if id(call) not in passed and not of_node and ("." in owner.strip(".") or owner in loops):
            message = "A hook of a module's parameter changes what its `.grad` holds, and is not carried out here."
            hints = ["Leave the hook out: the gradient that is found is what the hook is given."]
            raise ForbiddenError(message, hints=hints).with_context(span=text.span(call), source=text.source)
    found = read(tree.body)
    for part in found:
        if isinstance(part, ast.FunctionDef):
            part.body = read(part.body, [each.arg for each in ast.walk(part.args) if isinstance(each, ast.arg)])
    return ast.Module(found, [])


def _hooked(call: ast.Call) -> str:
    """The name of the tensor that a call registers a hook of."""
    func = call.func
    one = len(call.args) == 1 and not call.keywords and _takes_one(call.args[0])
    of_name = isinstance(func, ast.Attribute) and f".{func.attr}" == METHOD and isinstance(func.value, ast.Name)
    return func.value.id if one and of_name and isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) else ""


def _takes_one(hook: ast.expr) -> bool:
    """Whether a hook is a name, or a lambda of the gradient alone, but for what has a value anyway."""
    if not isinstance(hook, ast.Lambda):
        return isinstance(hook, ast.Name)
    taken = hook.args
    return len(taken.args) == len(taken.defaults) + 1 and not taken.posonlyargs and taken.vararg is None


def _with_hook(name: str, hook: ast.expr, functions: Collection[str], node: ast.AST) -> ast.stmt:
    """A tensor with a hook under its name, in the place of a part of the text; what a lambda reads of tensors is given to it."""
    around = {*catalog.ROOTS, *catalog.BUILTINS, *functions, "nn", "np"}
    read = sorted(free_names(hook) - around) if isinstance(hook, ast.Lambda) else []
    if isinstance(hook, ast.Lambda):
        hook = copied(hook)
        hook.args.args[1:1] = [ast.arg(each) for each in read]
    else:  # which may be defined behind what makes the tensor
        taken = ast.arg(f"{name}{METHOD}")
        call = ast.Call(hook, [ast.Name(taken.arg, ast.Load())], [])
        hook = ast.Lambda(ast.arguments([], [taken], None, [], [], None, []), call)
    parts = [ast.Name(name, ast.Load()), hook, *(ast.Name(each, ast.Load()) for each in read)]
    made = ast.Assign([ast.Name(name, ast.Store())], Hooked(f"{name}{METHOD}", parts))
    return ast.fix_missing_locations(ast.copy_location(made, node))
