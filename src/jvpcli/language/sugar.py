"""Statements that Python has for what the language says in another way: the tree of a text with the plain ones.

Decorators are calls, generators are functions that give lists, settings are objects of a class.  Loads no torch.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from jvpcli.language.calls import parameters_of, without_places
from jvpcli.language.dependence import changed, drawing
from jvpcli.language.duals import with_duals
from jvpcli.language.expressions import TRANSFORMS
from jvpcli.language.names import assigned, copied, dotted, free_names, imported_paths, is_parameter, turns_on
from jvpcli.language.plain import Filled, NoPlainError, is_literal, literal, plain_value

WRAPPING = ("functools.wraps", "functools.lru_cache", "functools.cache", "abc.abstractmethod", "typing.override")
"""Decorators that change nothing that a function gives which draws no random numbers."""

SETTINGS = ("types.SimpleNamespace", "argparse.Namespace")
"""Classes whose objects are no more than the names that they are given."""

FLAGS: Mapping[str, bool] = {"store_true": False, "store_false": True}
"""What an option of a command line is that takes no value, where it is not given."""

MOVING = re.compile(r"\.step\(|no_grad|\.data\b|\b(?:sub|add|mul|copy|zero|set)_\(|[-+*/]=")
"""Without these a text changes no tensor."""

MANY = 100
"""Leaves that one list makes, and functions that give their items one by one."""

MOST = 1000
"""Leaves that lists make."""

UNREADABLE = (NoPlainError, ArithmeticError, TypeError, LookupError, ValueError)
"""What is raised where something has no plain value."""

T = TypeVar("T", bound=ast.AST)


def without_sugar(tree: ast.Module, code: str) -> ast.Module:
    """The tree of a text, in which plain statements stand for those."""
    return _Plain(tree, code).read()


class _Plain(ast.NodeTransformer):
    """Puts plain statements in the place of others.

    `folded`: whether the statement at hand says now what it says in the text by other words, or by what another one says.
    """

    def __init__(self, tree: ast.Module, code: str) -> None:
        self.tree = tree
        self.code = code
        self.paths = imported_paths(tree)
        self.draws = drawing(tree.body)
        parts = list(ast.walk(tree))
        functions = [part for part in parts if isinstance(part, ast.FunctionDef)]
        self.functions = {part.name for part in functions}
        self.counts = Counter(assigned(tree.body))
        self.changed = changed(tree) | {part.arg for part in parts if isinstance(part, ast.arg)}
        self.once = {
            name: part.value for part in tree.body if isinstance(part, ast.Assign) and len(assigned([part])) == 1
            for name in assigned([part]) if self.counts[name] == 1 and name not in self.changed
        }  # fmt: skip
        self.held = {name: held for name, value in self.once.items() if (held := _items(value)) is not None}
        classes = [part for part in tree.body if isinstance(part, ast.ClassDef)]
        self.plainly = {part.name for part in classes if {*map(dotted, part.bases)} <= {"object"}}
        giving = [part for part in functions if any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in _own(part))][:MANY]
        self.eager = {part.name for part in giving if self.gives_at_once(part, parts)}
        self.linear = {name: value for part in tree.body for name, value in self.linearized(part)}
        self.classes: list[ast.stmt] = []
        self.leaves = 0
        self.folded = False

    def read(self) -> ast.Module:
        """The whole tree."""
        body = self.plain(_with_modes(self.tree.body, True))
        for place, part in enumerate(body):
            self.folded = False
            part = self.visit(part)
            body[place] = without_places(part) if self.folded else part
        names = [part for part in ast.walk(ast.Module(body, [])) if isinstance(part, ast.Name)]
        read = {part.id for part in names if isinstance(part.ctx, ast.Load)}
        needless = {name for name, held in self.held.items() if not all(map(is_literal, held.values()))} - read
        self.tree.body = [*self.classes, *(part for part in body if not {*assigned([part])} & needless)]
        return self.tree

    def path(self, node: ast.expr) -> str:
        """What a name or path means by the imports; of a call, that of what it calls."""
        root, dot, rest = dotted(node.func if isinstance(node, ast.Call) else node).partition(".")
        return f"{self.paths.get(root, root)}{dot}{rest}"

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """A part, and the statements in it one after the other."""
        for name in ("body", "orelse"):
            if isinstance(held := getattr(node, name, None), list):
                setattr(node, name, self.plain(held, isinstance(node, ast.ClassDef)))
        return super().generic_visit(node)

    def plain(self, statements: Sequence[ast.stmt], in_class: bool = False) -> list[ast.stmt]:
        """Statements of one block."""
        new = _with_modes(statements)
        if "dual_level" in self.code:
            new = [part if part in new else made(part, new[0]) for part in with_duals(new, self.path, self.code)]
        found = [each for part in self.without_parsers(new) for each in self.apart(part, in_class)]
        self.folded |= found != [*statements]
        return found

    # Functions

    def apart(self, node: ast.stmt, in_class: bool) -> Iterator[ast.stmt]:
        """A function without its decorators, and behind it their calls; an object that a constructor is given before that."""
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call) and not in_class and self.makes_leaf(node.value):
            node = ast.copy_location(ast.Assign([node.target], node.value), node)  # w: Tensor = torch.ones(2, requires_grad=True)
        if isinstance(node, ast.FunctionDef):
            marks = [mark for mark in node.decorator_list if self.path(mark) not in WRAPPING or any(map(self.draws, node.body))]
            count = next((place for place, mark in enumerate(marks) if not self.makes_function(mark)), len(marks))
            self.folded |= len(marks) < len(node.decorator_list)
            node.decorator_list = marks[count:]
            yield node
            value: ast.expr = ast.Name(node.name, ast.Load())
            for mark in reversed(marks[:count]):
                again = copied(mark)
                if isinstance(again, ast.Call):  # partial(vmap, in_dims=0)
                    value = ast.Call(again.args[0], [value, *again.args[1:]], again.keywords)
                else:
                    value = ast.Call(again, [value], [])
            if count:
                yield made(ast.Assign([ast.Name(node.name, ast.Store())], value), node)
            return
        call = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if isinstance(node, ast.Assign) and call is not None and dotted(call.func)[:1].isupper():
            for place, part in enumerate(call.args):
                if isinstance(part, ast.Call) and dotted(part.func) in self.plainly:  # Net(Config(3))
                    name = self.unused(f"{dotted(part.func)}_{place}".lower())
                    yield made(ast.Assign([ast.Name(name, ast.Store())], part), node)
                    call.args[place] = ast.Name(name, ast.Load())
                    node = made(node, node)
        if isinstance(node, ast.Assign) and call is not None and isinstance(target := node.targets[0], ast.Tuple) and (
            any(call is linear for linear in self.linear.values())
        ):  # y, push = linearize(f, x)
            node = made(ast.Assign([target.elts[0]], ast.Call(call.args[0], call.args[1:], [])), node)
        yield node

    def unused(self, name: str) -> str:
        """The name, or with lines behind it, so that the text has no such word."""
        while name in self.code:
            name += "_"
        return name

    def linearized(self, part: ast.stmt) -> Iterator[tuple[str, ast.Call]]:
        """`push` of `y, push = linearize(f, x)` with that call, where these names mean nothing else."""
        call = part.value if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call) else None
        names = assigned([part]) if call is not None and self.path(call) == "torch.func.linearize" else []
        if call is not None and len(names) == 2 and len(call.args) > 1 and not call.keywords:
            own = [names[1], *(dotted(each) for each in call.args[1:])]
            if all(self.counts[name] == 1 and name not in changed(self.tree) for name in own):
                yield names[1], call

    def settings(self, names: Sequence[str], node: ast.AST) -> str:
        """The name of a class whose objects have some names, and no more."""
        fields = "".join(f"\n        self.{name} = {name}" for name in names) or " pass"
        name = self.unused(f"Settings_{len(self.classes)}")
        text = f"class {name}:\n    def __init__({', '.join(('self', *names))}):{fields}"
        self.classes.append(made(ast.parse(text).body[0], node))
        return name

    def makes_function(self, mark: ast.expr) -> bool:
        """Whether a decorator is a function of the program, or a transform of torch.func, maybe with options of its own."""
        if isinstance(mark, ast.Call) and self.path(mark) == "functools.partial" and mark.args:
            return self.path(mark.args[0]) in TRANSFORMS
        return not isinstance(mark, ast.Call) and (self.path(mark) in TRANSFORMS or dotted(mark) in self.functions)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function; one that gives its items one by one gives a list of them."""
        if node.name in self.eager:
            found, self.folded = self.unused("found"), True
            node.body = [made(ast.parse(f"{found} = []").body[0], node), *node.body, ast.Return(None)]
            made(node.body[-1], node)
            node.body = [_Collecting(found).visit(part) for part in node.body]
        return self.generic_visit(node)

    def gives_at_once(self, function: ast.FunctionDef, nodes: Sequence[ast.AST]) -> bool:
        """Whether a function gives its items one by one, and the same ones where they are all made before the first is used.

        So it is where each call of it is gone through where it stands, once; and where nothing that an item is made of changes
        meanwhile, nor random numbers are drawn between them.
        """
        inside = list(_own(function))
        yields = [part for part in inside if isinstance(part, (ast.Yield, ast.YieldFrom))]
        statements = {id(part.value) for part in inside if isinstance(part, ast.Expr)}
        returns = any(isinstance(part, ast.Return) and part.value for part in inside)
        endless = any(isinstance(part, ast.While) and isinstance(part.test, ast.Constant) for part in inside)
        if returns or endless or self.counts[function.name] > 1 or any(id(part) not in statements for part in yields):
            return False
        used = [part.iter for part in nodes if isinstance(part, (ast.For, ast.comprehension))]
        used += [each for part in nodes if isinstance(part, ast.Call) for each in part.args]
        used += [part.value for part in nodes if isinstance(part, ast.YieldFrom)]
        calls = [part for part in used if isinstance(part, ast.Call) and dotted(part.func) == function.name]
        names = [part for part in nodes if isinstance(part, ast.Name) and part.id == function.name]
        if {id(part) for part in names} != {id(part.func) for part in calls}:
            return False
        loops = [part for part in inside if isinstance(part, (ast.For, ast.While))]
        loops = [part for part in loops if any(each in yields for each in ast.walk(part))]
        draws = any(map(self.draws, (each for part in loops for each in part.body)))
        if draws or (len(yields) > len(loops) and any(map(self.draws, function.body))):
            return False
        turning = assigned(part for part in nodes if isinstance(part, (ast.For, ast.While)))
        anew = {*turning, *(name for name, count in self.counts.items() if count > 1)} | changed(self.tree)
        given = set().union(*(free_names(each) for call in calls for each in call.args))
        shared = any(isinstance(part, (ast.Global, ast.Nonlocal)) for part in nodes)
        if shared or not anew.isdisjoint(free_names(function) | given):
            return False
        return not MOVING.search(self.code) or all(map(_only_takes, (part.value for part in yields)))

    # Leaves, and settings

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> ast.AST:
        """`[torch.ones(2, requires_grad=True) for _ in range(3)]`: leaves, each of which stands there as one."""
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        if not any(isinstance(part, ast.Call) and self.makes_leaf(part) for each in parts for part in ast.walk(each)):
            return self.generic_visit(node)
        try:
            rows = [[filled.visit(copied(part)) for part in parts] for filled in self.turns(node.generators)]
        except UNREADABLE:
            return self.generic_visit(node)
        self.leaves += len(rows)
        items = [row[-1] for row in rows]
        if isinstance(node, ast.DictComp):
            return ast.copy_location(ast.Dict([row[0] for row in rows], items), node)
        return ast.copy_location((ast.List if isinstance(node, ast.ListComp) else ast.Tuple)(items, ast.Load()), node)

    visit_GeneratorExp = visit_DictComp = visit_ListComp

    def turns(self, generators: Sequence[ast.comprehension]) -> list[Filled]:
        """What puts the values of its variables in a comprehension, for each of its turns.

        Raises:
            NoPlainError: these are not known from the text.
        """
        (generator,) = generators if len(generators) == 1 else (None,)
        items = None if generator is None or generator.ifs else plain_value(generator.iter, self.known)
        if generator is None or not isinstance(items, (list, tuple)) or len(items) > min(MANY, MOST - self.leaves):
            raise NoPlainError
        target = generator.target
        names = [dotted(part) for part in target.elts] if isinstance(target, ast.Tuple) else [dotted(target)]
        rows = [[*item] if isinstance(target, ast.Tuple) else [item] for item in items]
        return [Filled({name: literal(each, target) for name, each in zip(names, row, strict=True)}) for row in rows]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`tuple(… for …)`, and `Net(**settings)` of a dictionary that the text has."""
        of_items = dotted(node.func) in ("list", "tuple") and len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp)
        spread = [part for part in node.keywords if part.arg is None and dotted(part.value) in self.held]
        if dotted(node.func).rpartition(".")[2][:1].isupper() and spread:
            others = [part for part in node.keywords if part not in spread]
            named = [(name, value) for part in spread for name, value in self.held[dotted(part.value)].items()]
            node.keywords = [*others, *(made_like(ast.keyword(str(name), copied(value)), node) for name, value in named)]
            self.folded = True
        self.generic_visit(node)
        if self.path(node) in SETTINGS and not node.args and all(part.arg for part in node.keywords):
            name = self.settings([part.arg or "" for part in node.keywords], node)
            node.func = ast.copy_location(ast.Name(name, ast.Load()), node)
            self.folded = True
        if (linear := self.linear.get(dotted(node.func))) is not None and not node.keywords:
            function, *primals = map(copied, linear.args)
            pairs: list[ast.expr] = [ast.Tuple(primals, ast.Load()), ast.Tuple(node.args, ast.Load())]
            jvp = ast.Call(ast.parse("torch.func.jvp", mode="eval").body, [function, *pairs], [])
            self.folded = True
            return made_like(ast.Subscript(jvp, ast.Constant(1), ast.Load()), node)
        if dotted(node.func) == "getattr" and len(node.args) == 2 and isinstance(given := node.args[1], ast.Constant) and (
            isinstance(attribute := given.value, str) and attribute.isidentifier() and not attribute.startswith("_")
        ):
            return ast.copy_location(ast.Attribute(node.args[0], attribute, ast.Load()), node)
        first = node.args[0] if dotted(node.func) == "next" and len(node.args) == 1 and not node.keywords else None
        if isinstance(first, ast.Call) and dotted(first.func).rpartition(".")[2] in ("parameters", "iter"):  # which begins here
            inner = first.args[0] if dotted(first.func) == "iter" and len(first.args) == 1 else first
            items = ast.Call(ast.Name("list", ast.Load()), [inner], [])
            return made_like(ast.Subscript(items, ast.Constant(0), ast.Load()), node)
        if of_items and isinstance(node.args[0], ast.Tuple):
            made_list = ast.copy_location(ast.List(node.args[0].elts, ast.Load()), node)
            return node.args[0] if dotted(node.func) == "tuple" else made_list
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """`classes["relu"]` of a dictionary of the text, and `parameters["fc.weight"]` of `dict(net.named_parameters())`."""
        self.generic_visit(node)
        owner = parameters_of(self.once.get(dotted(node.value), node.value), True).removesuffix(".parameters()")
        held = self.held.get(dotted(node.value), {})
        if not isinstance(node.ctx, ast.Load) or not (held or owner):
            return node
        try:
            key = plain_value(self.item(node.slice) or node.slice, self.known)
            found = held.get(key)
        except UNREADABLE:
            return node
        if found is None and owner and isinstance(key, str):
            named = all(part.isidentifier() or (part.isdecimal() and part.isascii()) for part in key.split("."))
            parts = [f"[{part}]" if part.isdecimal() else f".{part}" for part in key.split(".")]
            found = ast.parse(f"{owner}{''.join(parts)}", mode="eval").body if named else None
        if found is None or not (owner or dotted(found).rpartition(".")[2][:1].isupper()):
            return node
        self.folded = True
        return made_like(copied(found), node)

    def item(self, node: ast.expr) -> ast.expr | None:
        """What stands in a dictionary of the text, `settings["act"]`; None for anything else."""
        held = self.held.get(dotted(node.value), {}) if isinstance(node, ast.Subscript) else {}
        return held.get(plain_value(node.slice, self.known)) if isinstance(node, ast.Subscript) and held else None

    def known(self, node: ast.expr) -> object:
        """The plain value of a name that the text gives one, once.

        Raises:
            NoPlainError: it has none.
        """
        if (value := self.once.get(dotted(node))) is None:
            raise NoPlainError
        self.folded = True
        return plain_value(value, self.known)

    def makes_leaf(self, call: ast.Call) -> bool:
        """Whether a call makes a leaf of a tensor."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_":
            return turns_on(call)
        flags = [part.value for part in call.keywords if part.arg == "requires_grad"]
        return is_parameter(call, self.paths) or any(isinstance(flag, ast.Constant) and flag.value is True for flag in flags)

    def without_parsers(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements where the options of a command line, of which none is given, have their defaults."""
        names = {name for part in statements if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call) and (
            self.path(part.value) == "argparse.ArgumentParser"
        ) for name in assigned([part])}  # fmt: skip
        options: dict[str, list[tuple[str, ast.expr] | None]] = {name: [] for name in names}
        calls = [(part, *_method(part)) for part in statements] if names else []
        for _, call, owner, method in calls:
            if call is not None and owner in names and method != "parse_args":
                options[owner].append(_option(call) if method == "add_argument" else None)
        read = {name for name in names if None not in options[name]}
        if not read:
            return [*statements]
        found: list[ast.stmt] = []
        for part, call, owner, method in calls:
            none_given = call is not None and not call.keywords and [*map(ast.unparse, call.args)] in ([], ["[]"])
            if owner in read and method == "parse_args" and isinstance(part, (ast.Assign, ast.Return)) and none_given:
                keywords = [ast.keyword(each[0], copied(each[1])) for each in options[owner] if each is not None]
                part.value = ast.Call(ast.parse("types.SimpleNamespace", mode="eval").body, [], keywords)
                found.append(made(part, part))
            elif owner not in read and read.isdisjoint(assigned([part])):
                found.append(part)
        return found


def _method(statement: ast.stmt) -> tuple[ast.Call | None, str, str]:
    """The call that a statement is, or whose value it gives, with whose method it is, and its name."""
    value = statement.value if isinstance(statement, (ast.Assign, ast.Expr, ast.Return)) else None
    owner, _, method = dotted(value.func).rpartition(".") if isinstance(value, ast.Call) else ("", "", "")
    return value if isinstance(value, ast.Call) else None, owner, method


def _option(call: ast.Call) -> tuple[str, ast.expr] | None:
    """The name of an option of a command line and its default; None of what has to be given, or is more than that."""
    given = {part.arg: part.value for part in call.keywords}
    words = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    long = [word for word in words if word.startswith("--")] or [word for word in words if word.startswith("-")]
    action = getattr(given.get("action"), "value", "store")
    if not long or "required" in given or len(words) < len(call.args) or action not in ("store", *FLAGS):
        return None
    name = getattr(given.get("dest"), "value", long[0].lstrip("-").replace("-", "_"))
    default = given.get("default", ast.Constant(FLAGS.get(action)))
    kind = {"int": int, "float": float, "str": str}.get(dotted(given["type"])) if "type" in given else str
    if isinstance(default, ast.Constant) and isinstance(default.value, str):
        try:
            default = ast.Constant(kind(default.value)) if kind is not None else default
        except ValueError:
            kind = None
        if kind is None:
            return None
    return (name, default) if isinstance(name, str) and name.isidentifier() else None


def _items(value: ast.expr) -> dict[object, ast.expr] | None:
    """The items of a dictionary of plain values and classes; None for anything else."""
    if isinstance(value, ast.Dict) and all(isinstance(key, ast.Constant) for key in value.keys):
        pairs = [(getattr(key, "value", None), each) for key, each in zip(value.keys, value.values, strict=True)]
    elif isinstance(value, ast.Call) and dotted(value.func) == "dict" and not value.args:
        pairs = [(part.arg, part.value) for part in value.keywords]
    else:
        return None
    plain = all(is_literal(each) or dotted(each).rpartition(".")[2][:1].isupper() for _, each in pairs)
    return dict(pairs) if plain and None not in dict(pairs) else None


def _with_modes(statements: Sequence[ast.stmt], outermost: bool = False) -> list[ast.stmt]:
    """Statements between `torch.set_grad_enabled(False)` and `(True)` under `torch.no_grad()`; the `outermost` up to the end."""
    found: list[ast.stmt] = []
    off: ast.With | None = None
    calls = [part.value if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call) else None for part in statements[:-1]]
    flags = {
        place: ast.unparse(call).removeprefix("torch.set_grad_enabled")[1:-1] for place, call in enumerate(calls)
        if call is not None and dotted(call.func) == "torch.set_grad_enabled"
    }  # fmt: skip
    last = max(flags, default=None)
    if not {*flags.values()} <= {"True", "False"} or (last is not None and flags[last] == "False" and not outermost):
        return [*statements]
    for place, part in enumerate(statements):
        if place in flags:
            no_grad = ast.withitem(ast.parse("torch.no_grad()", mode="eval").body)
            off = None if flags[place] == "True" else made(ast.With([no_grad], []), part)
            continue
        if off is None:
            found.append(part)
            continue
        if not off.body:
            found.append(off)
        off.body.append(part)
    return found


def _only_takes(node: ast.expr | None) -> bool:
    """Whether an expression only takes parts of what is there, and computes nothing of it."""
    if isinstance(node, ast.Subscript):
        return _only_takes(node.value)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(_only_takes, node.elts))
    return node is None or isinstance(node, (ast.Name, ast.Attribute, ast.Constant))


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The parts of a function, but those of functions in it."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [] if isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)) else ast.iter_child_nodes(part)


class _Collecting(ast.NodeTransformer):
    """Collects what a function yields in a list, which it gives."""

    def __init__(self, found: str) -> None:
        self.found = found

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`yield item`"""
        if not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            return node
        name = "append" if isinstance(node.value, ast.Yield) else "extend"
        method = ast.Attribute(ast.Name(self.found, ast.Load()), name, ast.Load())
        return made(ast.Expr(ast.Call(method, [node.value.value or ast.Constant(None)], [])), node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """`return`"""
        node.value = ast.copy_location(ast.Name(self.found, ast.Load()), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function in it, which returns values of its own."""
        return node


def made_like(node: T, at: ast.AST) -> T:
    """A part of a text that is made, and stands in the place of another."""
    for part in ast.walk(node):
        ast.copy_location(part, at)
    return node


def made(node: T, at: ast.AST) -> T:
    """A statement that is made, and stands where another one begins: its text is its own."""
    return without_places(made_like(node, at))
