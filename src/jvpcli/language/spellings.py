"""Words for what the language has under others: the tree of a text with its own.  Places stay those of the text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from jvpcli.language import catalog, names

WORDS = re.compile(
    r"dev|cpu|\bjit\b|torch\.compile|requires_grad\b|random\.manual_seed|init\."
    r"|\bmap\(|torch\.Tensor\.|empty(?:_like)?\(|Tensor\(.*_\("
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


def _is_plain(value: ast.expr) -> bool:
    """Whether a function of torch gives a value, or `nn.Parameter`."""
    named = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    return named.rpartition(".")[2] == "Parameter" or (named.startswith("torch.") and not named.startswith("torch.nn."))


def _calls(*parts: ast.AST) -> list[ast.Call]:
    return [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Call)]


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


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


FAN_IN, FAN_OUT = "({0}.numel() // {0}.shape[0])", "({0}.numel() // {0}.shape[1])"

XAVIER = f"{{gain}} * math.sqrt(2.0 / float({FAN_IN} + {FAN_OUT}))"

KAIMING = f"{{gain}} / math.sqrt({FAN_IN})", f"{{gain}} / math.sqrt({FAN_OUT})"

GAINS = {"linear": "1.0", "sigmoid": "1.0", "relu": "math.sqrt(2.0)", "leaky_relu": "math.sqrt(2.0 / (1 + {a} ** 2))"}

UNIFORM = "{{0}}.uniform_(-(math.sqrt(3.0) * ({0})), math.sqrt(3.0) * ({0}))"

INITIAL: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "zeros_": ("{0}.zero_()", {}),
    "ones_": ("{0}.fill_(1.0)", {}),
    "constant_": ("{0}.fill_({val})", {"val": ""}),
    "uniform_": ("{0}.uniform_({a}, {b})", {"a": "0.0", "b": "1.0"}),
    "normal_": ("{0}.normal_({mean}, {std})", {"mean": "0.0", "std": "1.0"}),
    "xavier_uniform_": (UNIFORM.format(XAVIER), {"gain": "1.0"}),
    "xavier_normal_": (f"{{0}}.normal_(0.0, {XAVIER})", {"gain": "1.0"}),
    "kaiming_uniform_": (UNIFORM, {"a": "0", "mode": "'fan_in'", "nonlinearity": "'leaky_relu'"}),
    "kaiming_normal_": ("{{0}}.normal_(0, {0})", {"a": "0", "mode": "'fan_in'", "nonlinearity": "'leaky_relu'"}),
}
"""What functions of torch.nn.init do with a tensor, and what else they take, with its default."""


def _initial(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """The tensor that a function of torch.nn.init is given, and what it does as an expression; None for any other call."""
    path = ast.unparse(call.func).removeprefix("torch.").removeprefix("nn.")
    written, defaults = INITIAL.get(path.removeprefix("init."), ("", {})) if path.startswith("init.") else ("", {})
    given = {word: value for word, value in defaults.items() if value}
    given.update((word, ast.unparse(each)) for word, each in zip(defaults, call.args[1:], strict=False))
    given.update((each.arg or "", ast.unparse(each.value)) for each in call.keywords)
    if not written or not call.args or len(call.args) > len(defaults) + 1 or given.keys() != defaults.keys():
        return None
    beside = [*call.args[1:], *(each.value for each in call.keywords)]
    if any(not ast.unparse(part.func).startswith("math.") for part in _calls(*beside)):  # which may stand there several times
        return None
    if "mode" in given:
        mode, kind = given["mode"], given["nonlinearity"].strip("'")
        if mode not in ("'fan_in'", "'fan_out'") or kind not in GAINS:
            return None
        written = written.format(KAIMING[mode == "'fan_out'"])
        given["gain"] = GAINS[kind].format(a=f"({given['a']})")
    text = written.format(ast.unparse(call.args[0]), **{word: f"({value})" for word, value in given.items()})
    found = ast.parse(text, mode="eval").body
    for part in ast.walk(found):
        ast.copy_location(part, call)
    return call.args[0], found


class _Spellings(ast.NodeTransformer):
    """Reads what the language has under other words in its own.

    `x.to(device)` is x, as what is computed here stays where the inputs are; `torch.compile(f)` is f;
    `torch.empty(3).normal_()` begins with zeros; and `net.parameters()` has only those that require a gradient, so that
    nothing is asked of one that is taken from it.
    """

    def __init__(self, tree: ast.Module) -> None:
        """Names that the text gives to what is no device stand for that."""
        paths = {path: name for name, path in names.imported_paths(tree).items()}
        alike = COMPILERS if _traces_alike(tree) else [name for name in COMPILERS if name != "torch.jit.trace"]
        own = (name.replace(path, own) for path, own in paths.items() for name in alike if f"{name}.".startswith(f"{path}."))
        self.compilers = (*alike, *own)  # by the names that the text has for them
        made: dict[str, list[ast.expr]] = {"device": [], "dev": []}
        for node in [part for part in ast.walk(tree) if isinstance(part, ast.Assign)]:
            for target in [part for part in node.targets if isinstance(part, ast.Name)]:
                made.setdefault(target.id, []).append(node.value)
        named = {"device", "dev", *(name for name, values in made.items() if all(map(_names_device, values)))}
        self.devices = {name for name in named if all(map(_is_device, made[name]))}
        self.functions = {part.name for part in ast.walk(tree) if isinstance(part, ast.FunctionDef)}
        parts = [part for part in ast.walk(tree) if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store)]
        self.filled = {part.value.id for part in parts if isinstance(part.value, ast.Name)}
        self.plain = {name for name, values in made.items() if all(map(_is_plain, values))}
        self.written = set(self._filled(tree))
        called = {name for name, values in made.items() if values and all(map(self._is_called, values))}
        self.functions |= called

    def _initial(self, node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
        """What a function of torch.nn.init does with a tensor that is no part of a module; None for any other expression."""
        found = _initial(node) if isinstance(node, ast.Call) else None
        tensor = None if found is None else found[0]
        if isinstance(tensor, ast.Call):
            plain = re.fullmatch(r"torch\.\w+", ast.unparse(tensor.func)) is not None and len(_calls(tensor)) == 1
        else:
            plain = isinstance(tensor, ast.Name) and tensor.id in self.plain
        return found if plain else None

    def _filled(self, tree: ast.Module) -> Iterator[int]:
        """The calls, by their identities, that give memory which a function of torch.nn.init writes to before it is read."""
        for node in ast.walk(tree):
            found = self._initial(node)
            if found is not None and isinstance(found[0], ast.Call):
                yield id(found[0])
            body = part if isinstance(part := getattr(node, "body", None), list) else []
            for place, part in enumerate(body):
                name = part.targets[0].id if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) else ""
                uses = (each for each in body[place + 1 :] if name and name in _names(each))
                found = self._initial(getattr(next(uses, None), "value", None) or part)
                if found is not None and ast.unparse(found[0]) == name:
                    yield from (id(call) for call in ast.walk(part) if isinstance(call, ast.Call))

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
        if id(node) in self.written and ast.unparse(node.func) in UNWRITTEN and isinstance(node.func, ast.Attribute):
            node.func.attr = "zeros"
        if (initial := self._initial(node)) is not None:
            return initial[1]
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

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`nn.init.normal_(w)`, which autograd does not see."""
        if self._initial(node.value) is None:
            return self.generic_visit(node)
        self.generic_visit(node)
        without = ast.withitem(ast.parse("torch.no_grad()", mode="eval").body)
        return ast.fix_missing_locations(ast.copy_location(ast.With([without], [node]), node))

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
        node.decorator_list = [mark for mark in node.decorator_list if named[id(mark)] not in self.compilers]
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
