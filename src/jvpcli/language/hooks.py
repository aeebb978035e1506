"""Hooks that give a gradient back, read as functions with a backward of their own: `y.register_hook(lambda g: 2 * g)`.

A hook changes the gradient of a tensor wherever that is used, before the hook is registered too.  So the tensor passes, where it
is made, through a function that gives the same and whose backward is the hook.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from jvpcli.errors import ForbiddenError
from jvpcli.language import catalog
from jvpcli.language.dependence import changed
from jvpcli.language.names import assigned, free_names, imported_paths, looking_hooks
from jvpcli.language.objects import Custom, name_at
from jvpcli.language.source import SourceText

METHOD = ".register_hook"

DERIVATIVES = frozenset(
    {"grad", "backward", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "jacobian", "hvp", "vhp", "grad_and_value", "linearize"}
)
"""The last names of what takes derivatives."""


def with_hooks(text: SourceText, tree: ast.Module) -> ast.Module:
    """The tree with what its hooks do; the tree itself where it has none.

    A hook that is registered in a block, or of what is made in one, stays as it is, and is refused.

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
    statements = list(tree.body)
    for place, statement in enumerate(tree.body):
        call = statement.value if isinstance(statement, ast.Expr) and statement not in looking else None
        name = _hooked(call) if isinstance(call, ast.Call) else ""
        before = tree.body[:place]
        blocks = [part for part in before if not isinstance(part, (ast.Assign, ast.AnnAssign, ast.FunctionDef))]
        if not name or not isinstance(call, ast.Call) or name in assigned(blocks):
            continue
        if derives:
            message = "A hook that gives a gradient back is not carried out where the program itself takes derivatives."
            raise ForbiddenError(message).with_context(span=text.span(call), source=text.source)
        made = [part for part in before if isinstance(part, (ast.Assign, ast.AnnAssign)) and name in assigned([part])]
        later = tree.body[1 + tree.body.index(made[-1]) :] if made else tree.body
        given = {*assigned([part for part in later if not isinstance(part, ast.FunctionDef)])}.union(*map(changed, later))
        if taken := sorted((free_names(call.args[0]) - functions) & given):
            message = f"This hook reads `{taken[0]}`, which gets its value, or changes, behind what makes `{name}`."
            hints = [f"Give it its last value before `{name}` is made."]
            raise ForbiddenError(message, hints=hints).with_context(span=text.span(call), source=text.source)
        start = 1 + max((statements.index(part) for part in made), default=-1)
        statements[start:start] = _hook(f"{name}{METHOD}.{place}", name, call.args[0], functions, call)
        statements.remove(statement)
    return ast.Module(statements, [])


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
