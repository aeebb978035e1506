"""Hooks of modules that give something back, or keep what is used on: a call of the module goes through a function that calls
them as torch does.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jvpcli.errors import ForbiddenError
from jvpcli.language.hooks import HOOKING, looking_hooks
from jvpcli.language.lowering import Custom
from jvpcli.language.names import assigned, class_of, copied, dotted, free_names
from jvpcli.language.objects import Module, Object, function_at, name_at, path_at, placed
from jvpcli.language.references import Reading

OF_MODULES = HOOKING - {"register_hook", "register_backward_hook"}
"""Methods of a module that are given a hook, but for one that torch itself warns of."""

TAKEN = {"register_full_backward_pre_hook": 2, "register_forward_pre_hook": 2}
"""How many things a hook is given, where they are not three."""


@dataclass(frozen=True)
class Hook:
    """A hook of a module: by which method it was registered, its function, and whether that gives a tuple."""

    method: str
    function: ast.FunctionDef
    gives_tuple: bool


def registers(node: ast.AST) -> bool:
    """Whether a part of a text gives a hook to a module, or what may be one."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OF_MODULES


def in_place(tree: ast.AST) -> set[str]:
    """The names whose parts get hooks: `net[0].register_forward_hook(f)`."""
    found = [node.func.value for node in ast.walk(tree) if registers(node)]  # type: ignore[attr-defined]
    return {dotted(node.value) for node in found if isinstance(node, ast.Subscript)}


class Attached:
    """The hooks of the modules of a program, by the paths of these."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.hooks: dict[str, list[Hook]] = {}
        self.owners: dict[str, Object | Module] = {}
        self.handles: dict[str, Object | Module] = {}
        self.removed: list[tuple[Object | Module, int, ast.stmt]] = []

    def refusal(self, node: ast.AST, message: str) -> Exception:
        """A hook that can't be carried out."""
        error: Exception = self.reader.at(node, ForbiddenError(message))
        return error

    def add(self, owner: Any, call: ast.Call, scope: Mapping[str, Any], own: Object | None = None, name: str = "") -> None:
        """`net.fc.register_forward_hook(hook)`; `scope` is what names mean there, `own` the object whose `__init__` it is."""
        assert isinstance(call.func, ast.Attribute)
        method = call.func.attr
        if not isinstance(owner, (Object, Module)) or len(call.args) != 1 or call.keywords:
            raise self.refusal(call, f"`{method}` is carried out of a module of the program, with a hook and nothing else.")
        if any(self.calls_itself(part, owner.path) for part in self.reader.made):
            message = f"`{owner.path}` is called by torch's `nn.Sequential`, and a hook of it can do no more than look here."
            raise self.refusal(call, message)
        function, roots = self.function(call.args[0], scope, own, name)
        taken, count = function.args.args, TAKEN.get(method, 3)
        if len(taken) != count or count != sum(1 for part in ast.walk(function.args) if isinstance(part, ast.arg)):
            message = f"The hook of `{method}` takes {count} arguments in PyTorch, and this one is written with others."
            raise self.refusal(call, message)
        roots[taken.pop(0).arg] = owner
        last = taken[-1].arg
        if method == "register_full_backward_hook" and last in free_names(ast.Module(function.body, [])):
            message = f"This hook reads `{last}`, the gradient of the output; only that of the input is carried out."
            raise self.refusal(call, message)
        function.name, function.returns = f"{owner.path}.hook.{sum(map(len, self.hooks.values()))}", None
        for each in taken:
            each.annotation = None
        given = [part.value for part in ast.walk(function) if isinstance(part, ast.Return) and part.value is not None]
        given = [value for value in given if method != "register_forward_hook" and not _is_none(value)]
        kinds = {self.is_tuple(value, function, {taken[0].arg}) for value in given}
        if len(kinds) > 1:
            raise self.refusal(call, "This hook gives a tuple in one case and a tensor in another.")
        reading = Reading(self.reader, roots)
        found = reading.visit(function)
        if reading.stored:
            raise self.refusal(call, "A hook that sets what an object has, and is used on, can't be read.")
        if any(self.reaches(part, owner) for part in self.reader.made):
            raise self.refusal(call, f"This registers a hook behind a use of `{owner.path}`: register it before.")
        self.owners[owner.path] = owner
        self.hooks.setdefault(owner.path, []).append(Hook(method, found, kinds == {True}))

    def calls_itself(self, node: ast.stmt, path: str) -> bool:
        """Whether a statement makes a sequence of torch's that has what stands under a path as a part."""
        call = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        is_sequence = call is not None and class_of(call.func, self.reader.paths) == "Sequential"
        return is_sequence and isinstance(node, ast.Assign) and path.startswith(f"{dotted(node.targets[0])}.")

    def function(
        self, node: ast.expr, scope: Mapping[str, Any], own: Object | None, name: str
    ) -> tuple[ast.FunctionDef, dict[str, Any]]:
        """The function that a hook is, with what some names mean in it; `name` is what `own` is called there."""
        if isinstance(node, ast.Lambda):
            body: list[ast.stmt] = [placed(ast.Return(copied(node.body)), node)]
            return placed(ast.FunctionDef("hook", copied(node.args), body, []), node), dict(scope)
        called = dotted(node.func) if isinstance(node, ast.Call) else dotted(node)
        if isinstance(node, ast.Attribute) and own is not None and own.kind is not None and dotted(node.value) == name:
            method = own.kind.methods.get(node.attr)
            if method is not None and not method.decorator_list and method.args.args:
                method = copied(method)
                return method, {method.args.args.pop(0).arg: own}
        functions = [part for part in self.reader.tree.body if isinstance(part, ast.FunctionDef) and part.name == called]
        if len(functions) == 1 and called not in self.reader.bound and not functions[0].decorator_list:
            (found,) = functions
            if not isinstance(node, ast.Call):
                return copied(found), {}
            values = [self.reader.folded(part, scope, None) for part in node.args]
            taken, inner, gives = found.args.args, found.body[0], found.body[-1]
            plain = len(values) == len(taken) and None not in values and not node.keywords and len(found.body) == 2
            if plain and isinstance(inner, ast.FunctionDef) and isinstance(gives, ast.Return) and (
                dotted(gives.value or node) == inner.name
            ):  # fmt: skip
                return copied(inner), {part.arg: value for part, value in zip(taken, values, strict=True)}
        raise self.refusal(node, "A hook that does more than look is a function of the program, a lambda or a method here.")

    def is_tuple(self, node: ast.expr, function: ast.FunctionDef, tuples: set[str]) -> bool:
        """Whether what a hook gives is a tuple, as its text tells, rather than a tensor.

        Raises:
            ForbiddenError: a tuple of several, or a name that has several values.
        """
        if isinstance(node, ast.Tuple) and len(node.elts) != 1:
            raise self.refusal(node, "A hook gives one tensor, or a tuple of one, here.")
        if isinstance(node, ast.Name) and node.id not in tuples:
            made = [part.value for part in ast.walk(function) if isinstance(part, ast.Assign) and node.id in assigned([part])]
            if len(made) != 1:
                raise self.refusal(node, f"Whether `{node.id}` is a tuple is not known from the text of this hook.")
            return self.is_tuple(made[0], function, tuples)
        called = isinstance(node, ast.Call) and dotted(node.func) == "tuple"
        return isinstance(node, (ast.Tuple, ast.Name)) or called

    def reaches(self, node: ast.AST, owner: Object | Module, functions: bool = False) -> bool:
        """Whether a statement that runs calls a module, maybe by functions; `functions`: by these alone, or reads parts of it."""
        if isinstance(node, ast.FunctionDef):
            return False
        waiting, seen = [node], set[str]()
        own = {id(part) for part in ast.walk(node)} if functions else set()
        while waiting:
            part = waiting.pop()
            if id(part) not in own and _means(part, owner):
                return True
            if isinstance(part, ast.Name) and part.id not in seen:
                seen.add(part.id)
                waiting += [each for each in self.reader.made if isinstance(each, ast.FunctionDef) and each.name == part.id]
            waiting += ast.iter_child_nodes(part)
        return False

    def removes(self, node: ast.stmt) -> bool:
        """Whether a statement takes a hook away, `h.remove()`, which is right behind the last use of its module."""
        func = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        owner = self.handles.get(dotted(func.value)) if isinstance(func, ast.Attribute) and func.attr == "remove" else None
        if owner is not None:
            self.removed.append((owner, len(self.reader.made), node))
        return owner is not None

    def check(self, tree: ast.Module) -> None:
        """Refuse hooks that are registered where they can't be carried out."""
        found = [node for node in ast.walk(tree) if registers(node)]
        looking = {id(part) for statement in (looking_hooks(tree) if found else ()) for part in ast.walk(statement)}
        for node in found:
            if id(node) not in looking:
                message = "A hook of a module that does more than look stands in a statement of its own that is in no block."
                raise self.refusal(node, message)

    def finish(self, made: Sequence[ast.stmt]) -> list[ast.stmt]:
        """The statements with calls of modules through their hooks."""
        if not self.hooks:
            return [*made]
        for owner, place, statement in self.removed:
            if any(self.reaches(part, owner) for part in self.reader.made[place:]):
                message = f"This takes a hook of `{owner.path}` away before a use of it: a module has its hooks throughout here."
                raise self.refusal(statement, message)
        for node in ast.walk(self.reader.tree):
            func = node.func if isinstance(node, ast.Call) else None
            if isinstance(func, ast.Attribute) and func.attr == "forward" and not (
                isinstance(func.value, ast.Call) and dotted(func.value.func) == "super"
            ):  # fmt: skip
                raise self.refusal(node, "A call of `forward` itself passes the hooks of a module: call the module here.")
        through = _Through(self.owners)
        found = [part if _is_mode(part, self.owners) else through.visit(part) for part in made]
        front: list[ast.stmt] = []
        for path, hooks in self.hooks.items():
            functions = [through.visit(each.function) for each in hooks]
            front += [*functions, *self.wrapped(self.owners[path], hooks)]
        return [*front, *found]

    def wrapped(self, owner: Object | Module, hooks: Sequence[Hook]) -> list[ast.stmt]:
        """The function that calls a module and its hooks, with what it needs."""
        node = hooks[0].function
        path, customs = owner.path, list[ast.stmt]()
        method = owner.kind.methods.get("forward") if isinstance(owner, Object) and owner.kind is not None else None
        taken = copied(method.args) if method is not None else None
        own = [part.arg for part in taken.args[1:]] if taken is not None else ["input"]
        if taken is not None and (len(own) != 1 or taken.vararg or taken.kwarg or taken.kwonlyargs or taken.posonlyargs):
            raise self.refusal(node, "Hooks are carried out of modules whose `forward` takes one tensor.")
        if own[0] in ("found", "output"):
            raise self.refusal(node, f"Hooks are not carried out of a module whose `forward` calls what it takes `{own[0]}`.")
        lines = [f"def HOOKED({own[0]}):"]

        def through(hook: Hook, name: str) -> str:
            root, given = f"{hook.function.name}.back", "(gradient,)" if "pre" in hook.method else "(gradient,), None"
            parts = {"FORWARD": f"{root}.forward", "BACKWARD": f"{root}.backward", "CALLED": hook.function.name}
            text = (
                "def FORWARD(ctx, tensor):\n    return tensor.clone()\n"
                f"def BACKWARD(ctx, gradient):\n    found = CALLED({given})\n"
                f"    return gradient if found is None else {item(hook)}"
            )
            made = Custom(root, [name_at(parts[each], node) for each in ("FORWARD", "BACKWARD")])
            applies = placed(ast.Assign([name_at(f"{root}.apply", node, ast.Store())], made), node)
            customs.extend([*_written(text, parts, node), applies])
            return f"    {name} = BACK{hooks.index(hook)}({name})"

        def item(hook: Hook) -> str:
            return "found[0]" if hook.gives_tuple else "found"

        def of(method: str) -> list[tuple[str, Hook]]:
            return [(f"CALL{k}", each) for k, each in enumerate(hooks) if each.method == method]

        names, taken_in = {"HOOKED": f"{path}.hooked"}, own[0]
        for name, hook in of("register_forward_pre_hook"):
            lines += [f"    found = {name}(({taken_in},))", f"    {taken_in} = {taken_in} if found is None else {item(hook)}"]
        lines += [through(hook, taken_in) for _, hook in of("register_full_backward_hook")]
        lines.append(f"    output = MODULE({taken_in})")
        for name, _ in of("register_forward_hook"):
            lines += [f"    found = {name}(({taken_in},), output)", "    output = output if found is None else found"]
        lines += [through(hook, "output") for _, hook in reversed(of("register_full_backward_pre_hook"))]
        lines.append("    return output")
        names.update({f"CALL{k}": each.function.name for k, each in enumerate(hooks)})
        names.update({f"BACK{k}": f"{each.function.name}.back.apply" for k, each in enumerate(hooks)})
        module = path_at(path, node) if isinstance(owner, Module) else function_at(owner, node)
        return [*customs, *_written("\n".join(lines), names, node, {"MODULE": module})]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _means(node: ast.AST, owner: Object | Module) -> bool:
    """Whether a part of what was read is a module itself, as it is called."""
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        if isinstance(owner, Object):
            return dotted(node) == dotted(function_at(owner, node))
        return dotted(node) == owner.path
    return False


def _is_mode(node: ast.stmt, owners: Mapping[str, Any]) -> bool:
    """Whether a statement sets the mode of a module with hooks."""
    call = node.value if isinstance(node, ast.Expr) else None
    setting = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("eval", "train")
    return setting and isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and dotted(call.func.value) in owners


class _Through(ast.NodeTransformer):
    """Puts a function that calls hooks in the place of the modules that have them."""

    def __init__(self, owners: Mapping[str, Object | Module]) -> None:
        self.owners = owners

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A module, or the function of an object."""
        for path, owner in self.owners.items():
            if _means(node, owner):
                return name_at(f"{path}.hooked", node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`net.fc`; what is read of a module stays."""
        for path, owner in self.owners.items():
            if _means(node, owner):
                return name_at(f"{path}.hooked", node)
        if dotted(node) and not dotted(node).startswith("."):
            return node
        return self.generic_visit(node)


def _written(text: str, names: Mapping[str, str], node: ast.AST, parts: Mapping[str, ast.expr] | None = None) -> list[ast.stmt]:
    """The statements of a template, with the names of the program in it, in the place of a part of the text."""

    class Filled(ast.NodeTransformer):
        def visit_FunctionDef(self, each: ast.FunctionDef) -> ast.AST:
            each.name = names[each.name]
            return self.generic_visit(each)

        def visit_Name(self, each: ast.Name) -> ast.AST:
            found = (parts or {}).get(each.id)
            return copied(found) if found is not None else ast.Name(names.get(each.id, each.id), each.ctx)

    found = [Filled().visit(part) for part in ast.parse(text).body]
    for part in found:
        for each in ast.walk(part):
            ast.copy_location(each, node)
    return [ast.fix_missing_locations(part) for part in found]

