"""Words for what the language has under others: the tree of a text with its own.  Places stay those of the text."""

from __future__ import annotations

import ast
import re

from jvpcli.language import catalog

WORDS = re.compile(
    r"dev|cpu|torch\.jit|torch\.compile|requires_grad\b|random\.manual_seed|\bmap\(|torch\.Tensor\.|empty(?:_like)?\(|Tensor\(.*_\("
)
"""Without these a text has none of such words."""


def in_own_words(tree: ast.Module, code: str) -> ast.Module:
    """The tree of a text in the language's own words."""
    if WORDS.search(code) is None:
        return tree
    found: ast.Module = _Spellings(tree).visit(tree)
    return found


def _takes_parameters(node: ast.expr) -> bool:
    """`net.parameters()`, `net.named_parameters()`"""
    method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return method is not None and method.attr in ("parameters", "named_parameters")


def _is_flag(node: ast.expr) -> bool:
    """`p.requires_grad`"""
    return isinstance(node, ast.Attribute) and node.attr == "requires_grad" and isinstance(node.value, ast.Name)


def _is_device(node: ast.expr) -> bool:
    """`"cpu"`, `torch.device(…)`, `x.device`, or one of two such."""
    if isinstance(node, ast.IfExp):
        return _is_device(node.body) and _is_device(node.orelse)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "device"
    if isinstance(node, ast.Attribute):
        return node.attr == "device"
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _names_device(node: ast.expr) -> bool:
    """Whether a value is a device, by what it says: `"cuda" if … else "cpu"`, `torch.device(…)`."""
    if isinstance(node, ast.IfExp):
        return _names_device(node.body) and _names_device(node.orelse)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.partition(":")[0] in ("cpu", "cuda", "mps")
    return isinstance(node, ast.Call) and _is_device(node)


def without_itself(node: ast.Assign, was: ast.expr) -> ast.stmt:
    """An assignment whose value `was` a move and is now read as what is moved: nothing, where that leaves `net = net`."""
    (target, *others), value = node.targets, node.value
    same = isinstance(target, ast.Name) and isinstance(value, ast.Name) and value.id == target.id
    return ast.copy_location(ast.Pass(), node) if same and not others and value is not was else node


COMPILERS = ("torch.jit.script", "torch.jit.trace", "torch.compile")
"""What gives a function or module that computes the same."""

MAKING = ("vmap", "jacrev", "jacfwd", "partial")
"""The last names of what gives a function made of another one."""

FROZEN = frozenset({"item", "tolist", "numpy", "float", "int", "bool"})
"""What gives a number that a trace holds fast."""


def _traces_alike(tree: ast.Module) -> bool:
    """Whether what `torch.jit.trace` records of a function is what that computes in each call.

    A trace holds what ran once: the branch, plain numbers, what was drawn then; and making it draws.
    """
    functions = [part for part in ast.walk(tree) if isinstance(part, (ast.FunctionDef, ast.Lambda))]
    inside = {id(part): part for function in functions for part in ast.walk(function)}
    calls = [ast.unparse(part.func) for part in inside.values() if isinstance(part, ast.Call)]
    branches = any(isinstance(part, (ast.If, ast.IfExp, ast.While, ast.BoolOp)) for part in inside.values())
    holds = any(call.rpartition(".")[2] in FROZEN for call in calls)
    draws = any(catalog.is_random(f"call:{catalog.canonical(call)}") or catalog.is_random(f"method:{call.rpartition('.')[2]}")
                for call in calls)  # fmt: skip
    made = [ast.unparse(part.func) for part in ast.walk(tree) if isinstance(part, ast.Call)]
    modes = {call.rpartition(".")[2] for call in made}
    draws |= any(MOODY.search(call) for call in made) and ("eval" not in modes or "train" in modes)
    outside = [part for part in ast.walk(tree) if id(part) not in inside]
    stored = [part.id for part in outside if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    turns = [each for part in outside if isinstance(part, ast.For) for each in ast.walk(part.target)]
    stored += [part.id for part in turns if isinstance(part, ast.Name)]
    read = {part.id for part in inside.values() if isinstance(part, ast.Name)}
    changes = any(stored.count(name) > 1 for name in read) or any(
        isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) for part in outside
    )
    return not (branches or holds or draws or changes)


MOODY = re.compile("(?i)dropout|batchnorm|transformer")
"""Modules that compute something else in each call, or keep something of it, as they are trained."""

FILLING = ("uniform_", "normal_", "zero_", "fill_", "random_", "exponential_", "bernoulli_")
"""Methods that give every entry another value."""

UNWRITTEN = ("torch.Tensor", "torch.FloatTensor", "torch.empty")
"""What gives memory of some size as it is."""


class _Spellings(ast.NodeTransformer):
    """Reads what the language has under other words in its own.

    `x.to(device)` is x, as what is computed here stays where the inputs are; `torch.compile(f)` is f;
    `torch.empty(3).normal_()` begins with zeros; and `net.parameters()` has only those that require a gradient, so that
    nothing is asked of one that is taken from it.
    """

    def __init__(self, tree: ast.Module) -> None:
        """Names that the text gives to what is no device stand for that."""
        self.compilers = COMPILERS if _traces_alike(tree) else tuple(name for name in COMPILERS if name != "torch.jit.trace")
        made: dict[str, list[ast.expr]] = {"device": [], "dev": []}
        for node in [part for part in ast.walk(tree) if isinstance(part, ast.Assign)]:
            for target in [part for part in node.targets if isinstance(part, ast.Name)]:
                made.setdefault(target.id, []).append(node.value)
        named = {"device", "dev", *(name for name, values in made.items() if all(map(_names_device, values)))}
        self.devices = {name for name in named if all(map(_is_device, made[name]))}
        self.functions = {part.name for part in ast.walk(tree) if isinstance(part, ast.FunctionDef)}
        parts = [part for part in ast.walk(tree) if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store)]
        self.filled = {part.value.id for part in parts if isinstance(part.value, ast.Name)}
        called = {name for name, values in made.items() if values and all(map(self._is_called, values))}
        self.functions |= called

    def _is_called(self, value: ast.expr) -> bool:
        """Whether a value is a function or a module: a lambda, or what a class or a function of the text gives."""
        if isinstance(value, ast.Name):
            return value.id in self.functions
        named = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
        if isinstance(value, ast.Call) and (named in self.compilers or named.rpartition(".")[2] in MAKING):
            return True
        return isinstance(value, ast.Lambda) or named in self.functions or named.rpartition(".")[2][:1].isupper()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, and those in it."""
        self.generic_visit(node)
        named, method = ast.unparse(node.func), node.func if isinstance(node.func, ast.Attribute) else None
        if named in self.compilers and node.args and self._is_called(node.args[0]):
            return node.args[0]
        if named == "torch.random.manual_seed" and method is not None:
            method.value = ast.copy_location(ast.Name("torch", ast.Load()), method)
        made = method.value if method is not None and method.attr in FILLING else None
        if isinstance(made, ast.Call) and ast.unparse(made.func) in UNWRITTEN and isinstance(made.func, ast.Attribute) and (
            made.args and not any(isinstance(each, (ast.List, ast.Starred)) for each in made.args)
        ):
            made.func.attr = "zeros"
        if named == "filter" and len(node.args) == 2 and _takes_parameters(node.args[1]) and (
            isinstance(node.args[0], ast.Lambda) and _is_flag(node.args[0].body)
        ):
            return node.args[1]
        if named.rpartition(".")[0] == "torch.Tensor" and node.args and not isinstance(node.args[0], ast.Starred):
            owner, *rest = node.args  # torch.Tensor.sum(x) is x.sum()
            method = ast.copy_location(ast.Attribute(owner, named[13:], ast.Load()), node)
            return ast.copy_location(ast.Call(method, rest, node.keywords), node)
        if named == "map" and len(node.args) > 1 and not (node.keywords or "map" in self.functions):
            return ast.fix_missing_locations(ast.copy_location(_mapped(*node.args) or node, node))
        to = isinstance(node.func, ast.Attribute) and node.func.attr == "to" and len(node.args) == 1 and not node.keywords
        moves = to and isinstance(node.args[0], ast.Name) and node.args[0].id in self.devices
        return node.func.value if moves and isinstance(node.func, ast.Attribute) else node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """`for p in net.parameters() if p.requires_grad`"""
        if _takes_parameters(node.iter):
            node.ifs = [condition for condition in node.ifs if not _is_flag(condition)]
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        """`for p in net.parameters():`, where `if p.requires_grad:` stands below it."""
        if _takes_parameters(node.iter):
            own = [part.body if isinstance(part, ast.If) and _is_flag(part.test) else [part] for part in node.body]
            node.body = [part for parts in own for part in parts]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """`@torch.compile`, `@torch.compile(dynamic=True)`"""
        named = {id(mark): ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in node.decorator_list}
        node.decorator_list = [mark for mark in node.decorator_list if named[id(mark)] not in COMPILERS]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """`net = net.to(device)` gives nothing another name."""
        was = node.value
        self.generic_visit(node)
        named = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
        filled = all(isinstance(each, ast.Name) and each.id in self.filled for each in node.targets)
        if filled and isinstance(node.value, ast.Call) and named in ("torch.empty", "torch.empty_like"):
            node.value.func = _torch(named[6:].replace("empty", "zeros"))
            node.value = ast.Call(_torch("full_like"), [node.value, _torch("nan")], [])  # what is never written has no number
            ast.fix_missing_locations(ast.copy_location(node.value, was))
        return without_itself(node, was)


def _torch(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name("torch", ast.Load()), name, ast.Load())


def _mapped(function: ast.expr, *items: ast.expr) -> ast.expr | None:
    """`(f(x) for x in items)` of `map(f, items)`; None where f takes anything else."""
    names = [f"{'each' if 'each' not in ast.unparse(function) else 'item'}_{number}" for number in range(len(items))]
    value: ast.expr = ast.Call(function, [ast.Name(name, ast.Load()) for name in names], [])
    if isinstance(function, ast.Lambda):
        names, value = [part.arg for part in function.args.args], function.body
        if len(names) != len(items) or len(names) != sum(isinstance(part, ast.arg) for part in ast.walk(function.args)):
            return None
    targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in names]
    zipped = ast.Call(ast.Name("zip", ast.Load()), list(items), [])
    part = (targets[0], items[0]) if len(items) == 1 else (ast.Tuple(targets, ast.Store()), zipped)
    return ast.GeneratorExp(value, [ast.comprehension(*part, [], 0)])
