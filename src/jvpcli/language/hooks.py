"""Hooks: those that only look are passed over, and those that give a gradient back, `y.register_hook(lambda g: 2 * g)`, read as
functions with a backward of their own.

A hook changes the gradient of a tensor wherever that is used, before the hook is registered too.  So the tensor passes, where it
is made, through a function that gives the same and whose backward is the hook.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence

from jvpcli.errors import ForbiddenError
from jvpcli.language import array_names, catalog
from jvpcli.language.dependence import changed, root_of
from jvpcli.language.lowering import Custom
from jvpcli.language.names import LIST_METHODS, assigned, dotted, free_names, imported_paths, separated
from jvpcli.language.objects import name_at
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

HOOKING = frozenset({
    "register_hook", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook",
})  # fmt: skip
"""Methods of tensors and modules that are given a hook."""


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
        named = {*free_names(given), dotted(given).removeprefix("self.")}
        hooks = [each for each in once if each.name in named]
        filled = (containers & free_names(given).union(*map(free_names, hooks))).union(*map(_kept, hooks))
        own = {id(part) for part in ast.walk(node)}
        loaded = (part for part in ast.walk(tree) if isinstance(getattr(part, "ctx", None), ast.Load) and id(part) not in own)
        if any(id(part) not in silently and {dotted(part), f".{getattr(part, 'attr', '')}"} & filled for part in loaded):
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
        return dotted(given).removeprefix("self.") in silent

    found: list[ast.stmt] = []
    for node in ast.walk(tree):
        call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
        if isinstance(node, ast.Expr) and isinstance(call, ast.Call) and len(call.args) == 1 and _method(call) == "append":
            call = call.args[0]  # handles.append(…)
        hooks = isinstance(call, ast.Call) and _method(call) in HOOKING and len(call.args) == 1 and not call.keywords
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


def _kept(function: ast.FunctionDef) -> set[str]:
    """What a method keeps of what it is given: names of objects' attributes, and the attributes as they are written."""
    nodes = [*ast.walk(function)]
    named = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    owners = [node.value for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
    owners += [node.func.value for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (
        node.func.attr in FILLING
    )]  # fmt: skip
    owners += [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return named | {f".{node.attr}" for node in owners if isinstance(node, ast.Attribute)}


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

    It may fill lists and dictionaries that the program makes; a method may keep what it is given.
    """
    taken = [part.arg for part in function.args.args]
    own = {*containers, *(taken[:1] if len(taken) in (2, 4) else ())}
    own -= {*taken[1:], *assigned(function.body)}
    parts = [part for statement in function.body for part in ast.walk(statement)]
    gives = any(isinstance(part, ast.Return) and part.value is not None for part in parts)
    return not gives and all(_leaves_alone(part, own) for part in parts)


def _leaves_alone(node: ast.AST, own: Collection[str] = ()) -> bool:
    """Whether a part of a text changes no tensor: `grads[name] = g` fills a container, where g itself is not written to.

    `own` are names of what may keep something: `self.gradients = g`, `grads[name] = g`.
    """
    if isinstance(node, (ast.AugAssign, ast.Delete, ast.Nonlocal)):
        return False
    if isinstance(node, ast.Global):
        return all("." in name for name in node.names)  # of objects, which no text can write
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return dotted(node.value) in own and node.attr not in ("grad", "data", "requires_grad")
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

    def read(body: Sequence[ast.stmt], root: str = "", taken: Collection[str] = ()) -> tuple[list[ast.stmt], list[ast.stmt]]:
        statements, front = list(body), list[ast.stmt]()
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
            if root and not (known and (made or name in taken)):
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
            *parts, applied = _hook(f"{root}{name}{METHOD}.{place}", name, call.args[0], functions, call)
            statements[start:start] = [applied] if root else [*parts, applied]
            front += parts if root else []
            statements.remove(statement)
        return front, statements

    passed = {id(part) for statement in looking for part in ast.walk(statement)}
    loops = {name for part in ast.walk(tree) if isinstance(part, ast.For) and ".parameters()" in ast.unparse(part.iter)
             for name in assigned([part.target])}  # fmt: skip
    for call in (part for part in ast.walk(tree) if isinstance(part, ast.Call) and _method(part) == METHOD[1:]):
        owner = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if id(call) not in passed and ("." in owner.strip(".") or owner in loops):
            message = "A hook of a module's parameter changes what its `.grad` holds, and is not carried out here."
            hints = ["Leave the hook out: the gradient that is found is what the hook is given."]
            raise ForbiddenError(message, hints=hints).with_context(span=text.span(call), source=text.source)
    found: list[ast.stmt] = []
    for part in read(tree.body)[1]:
        if isinstance(part, ast.FunctionDef):
            given = [each.arg for each in ast.walk(part.args) if isinstance(each, ast.arg)]
            front, part.body = read(part.body, f"{part.name}.", given)
            found += front
        found.append(part)
    return ast.Module(found, [])


def _hooked(call: ast.Call) -> str:
    """The name of the tensor that a call registers a hook of."""
    func = call.func
    one = len(call.args) == 1 and not call.keywords and isinstance(call.args[0], (ast.Name, ast.Lambda))
    of_name = isinstance(func, ast.Attribute) and f".{func.attr}" == METHOD and isinstance(func.value, ast.Name)
    return func.value.id if one and of_name and isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) else ""


def _hook(path: str, name: str, hook: ast.expr, functions: set[str], node: ast.AST) -> Sequence[ast.stmt]:
    """`y = hook.apply(y)`, with the function that it is; what a lambda reads of tensors is given to it."""
    around = {*catalog.ROOTS, *catalog.BUILTINS, *functions, "nn", "np"}
    read = sorted(free_names(hook) - around) if isinstance(hook, ast.Lambda) else []
    known = {f"read_{k}": each for k, each in enumerate(read)}
    others = "".join(f", {each}" for each in known)
    lines = [
        f"def forward(ctx, tensor{others}):",
        *(f"    ctx['{each}'] = {each}" for each in known),
        "    return tensor.clone()",
        "def backward(ctx, gradient):",
        *(f"    {each} = ctx['{each}']" for each in known),
        "    found = hook(gradient)",
        f"    return (gradient if found is None else found){', None' * len(read)}",
        f"named = apply(named{others})",
    ]
    own = {each: f"{path}.{each}" for each in ("forward", "backward", "apply", "ctx", "tensor", "gradient", "found")}
    *both, applied = _Named({**own, **known, "named": name}, hook).visit(ast.parse("\n".join(lines))).body
    made = Custom(f"{name}{METHOD}", [name_at(own[part], node) for part in ("forward", "backward")])
    found = [*both, ast.Assign([name_at(own["apply"], node, ast.Store())], made), applied]
    own_places = {id(part) for part in ast.walk(hook)}
    for each in (each for part in found for each in ast.walk(part)):
        if id(each) not in own_places and not isinstance(each, ast.expr_context):
            ast.copy_location(each, node)
    return [ast.fix_missing_locations(part) for part in found]


class _Named(ast.NodeTransformer):
    """Gives what a template names its names in the program, and puts the hook in its place."""

    def __init__(self, names: Mapping[str, str], hook: ast.expr) -> None:
        self.names, self.hook = names, hook

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """One of the functions."""
        node.name = self.names[node.name]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """A parameter."""
        node.arg = self.names[node.arg]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name."""
        return self.hook if node.id == "hook" else ast.Name(self.names[node.id], node.ctx)
