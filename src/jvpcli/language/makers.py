"""Where a program makes modules other than in a statement of its own: functions that give them, blocks, lists that grow, and
sequences that it goes through.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping

from jvpcli.language.attachments import in_place
from jvpcli.language.dependence import drawing
from jvpcli.language.initialisation import GROWING
from jvpcli.language.names import assigned, class_of, copied, dotted, imported_paths, separated
from jvpcli.language.references import PLACED, freezes

BLOCKS = (ast.For, ast.If)
"""Statements that hold others, which may make modules."""


def makes_elsewhere(tree: ast.Module) -> bool:
    """Whether a text makes modules in functions that give them, in blocks, or in lists."""
    paths = imported_paths(tree)
    held = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Tuple)
    values: list[ast.AST] = [part.value for part in tree.body if isinstance(part, ast.Assign) and isinstance(part.value, held)]
    values += [part for part in tree.body if isinstance(part, BLOCKS)]
    calls = [part for value in values for part in ast.walk(value) if isinstance(part, ast.Call)]
    return any(class_of(call.func, paths) for call in calls) or bool(factories(tree, paths) or growing(tree, paths))


def grown(tree: ast.Module) -> list[tuple[str, ast.expr]]:
    """What grows outside of functions, and what it is given."""
    nodes = [node for part in tree.body if not isinstance(part, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(part)]
    found = [(dotted(node.target), node.value) for node in nodes if isinstance(node, ast.AugAssign)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args]
    return found + [(dotted(call.func).rpartition(".")[0], call.args[-1]) for call in calls if dotted(call.func).endswith(
        tuple(f".{method}" for method in GROWING)
    )]  # fmt: skip


def growing(tree: ast.Module, paths: Mapping[str, str]) -> set[str]:
    """The names of lists that grow by modules outside of functions, and by nothing else."""
    makers = {*factories(tree, paths), *(part.name for part in tree.body if isinstance(part, ast.ClassDef))}
    values = [(name, part.value) for part in ast.walk(tree) if isinstance(part, ast.Assign) for name in assigned([part])]

    def makes(node: ast.expr, named: frozenset[str] = frozenset()) -> bool:
        if isinstance(node, (ast.List, ast.Tuple)):
            return bool(node.elts) and all(makes(each, named) for each in node.elts)
        if isinstance(node, ast.ListComp):
            return makes(node.elt, named)
        if isinstance(node, ast.Name) and node.id not in named:  # what it is made of may be called so itself
            made = [makes(value, named | {node.id}) for name, value in values if name == node.id]
            return bool(made) and all(made)
        call = chained(node)
        return isinstance(call, ast.Call) and (bool(class_of(call.func, paths)) or dotted(call.func) in makers)

    given = grown(tree)
    return {name for name, _ in given if all(makes(value) for each, value in given if each == name)}


def taken_apart(tree: ast.Module, paths: Mapping[str, str]) -> set[str]:
    """The names of sequences of modules that a text goes through, takes slices of, asks for their lengths, or changes."""
    parts = [each for part in tree.body if isinstance(part, ast.Assign) for each in separated(part)]
    made = {name for part in parts for name in assigned([part]) if (
        class_of(getattr(chained(part.value), "func", part.value), paths) == "Sequential"
    )}  # fmt: skip
    if not made:
        return made
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)):
            loops = node.iter.args if isinstance(node.iter, ast.Call) else [node.iter]
            found.update(map(dotted, loops))
        elif isinstance(node, ast.Call) and dotted(node.func) in ("len", "list", "reversed"):
            found.update(map(dotted, node.args))
        elif isinstance(node, ast.Subscript) and (isinstance(node.slice, ast.Slice) or not isinstance(node.ctx, ast.Load)):
            found.add(dotted(node.value))
    found |= {dotted(node.value) for node in ast.walk(tree) if isinstance(node, ast.Starred)}
    return made & (found | in_place(tree) | {name for name, _ in grown(tree)})


DTYPES = {
    "torch.float64": "double", "torch.double": "double", "torch.float32": "float", "torch.float": "float",
    "torch.float16": "half", "torch.half": "half", "torch.bfloat16": "bfloat16",
}  # fmt: skip
"""The dtypes that a module's parameters may have, and the methods that give them."""


def with_casts(tree: ast.Module) -> ast.Module:
    """The tree with `net.to(torch.float64)` of its modules as `net.double()`."""
    paths, classes = imported_paths(tree), {part.name for part in tree.body if isinstance(part, ast.ClassDef)}
    parts = [each for part in tree.body if isinstance(part, ast.Assign) for each in separated(part)]
    pairs = [(name, part.value) for part in parts for name in assigned([part])]
    values = dict(pairs)

    def root(node: ast.expr) -> ast.expr:
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not class_of(node.func, paths):
            node = node.func.value
        return node

    def is_module(node: ast.expr) -> bool:
        name = dotted(node)
        made = [root(value) for each, value in pairs if each == name] or [node]
        made = [each for each in made if dotted(each) != name or not name]  # net = net.to(…)
        return bool(made) and all(
            isinstance(each, ast.Call) and (class_of(each.func, paths) or dotted(each.func) in classes) for each in made
        )

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to" and (
            len(given := [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "dtype")]) == 1
        ) and len(node.args) + len(node.keywords) == 1 and is_module(root(node.func.value)):  # fmt: skip
            dtype = DTYPES.get(dotted(values.get(dotted(given[0]), given[0])))
            if dtype is not None:
                node.func.attr, node.args, node.keywords = dtype, [], []
    return tree


def with_parts(tree: ast.Module) -> ast.Module:
    """The tree with modules that have names before they are parts of a sequence as parts of it alone:
    `lin = nn.Linear(2, 1); net = nn.Sequential(lin)` is `net = nn.Sequential(nn.Linear(2, 1))`, and lin then net[0].

    That is so where they are made in their order, and nothing is drawn in between: so each keeps its numbers.
    """
    paths, draws, count = imported_paths(tree), drawing(tree.body), Counter(assigned(tree.body))
    made: dict[str, ast.Assign] = {}
    found = [*tree.body]
    for part in tree.body:
        owner = dotted(part.targets[0]) if isinstance(part, ast.Assign) else ""
        call = part.value if isinstance(part, ast.Assign) and count[owner] == 1 else None
        kind = class_of(call.func, paths) if isinstance(call, ast.Call) else ""
        given = call.args if isinstance(call, ast.Call) and kind == "Sequential" else []
        names = [dotted(each) for each in given]
        if any(name in made for name in names):
            found = _with_owner(found, part, {name: made.pop(name) for name in dict.fromkeys(names) if name in made}, draws)
        if kind and isinstance(part, ast.Assign):
            made[owner] = part
    return ast.Module(found, [])


def _with_owner(
    statements: list[ast.stmt], owner: ast.stmt, parts: Mapping[str, ast.Assign], draws: Callable[[ast.AST], bool]
) -> list[ast.stmt]:
    """The statements with what makes a sequence in the place of the last of its parts, which are read of it behind that."""
    assert isinstance(owner, ast.Assign)
    assert isinstance(owner.value, ast.Call)
    names = [dotted(each) for each in owner.value.args]
    places = [statements.index(part) for part in parts.values()]
    last = max(places)
    first = [part for place, part in enumerate(statements[:last]) if place >= min(places) and place not in places]
    read = {node.id for part in (*first, *statements[last + 1 : statements.index(owner)]) for node in ast.walk(part)
            if isinstance(node, ast.Name)}  # fmt: skip
    others = [each for name, each in zip(names, owner.value.args, strict=True) if name not in parts]
    plain = all(isinstance(each, ast.Call) and not each.args for each in others)  # what draws nothing, and reads nothing
    inside = [node for part in statements if part is not owner and part not in parts.values() for node in ast.walk(part)]
    hidden = {getattr(node, "arg", getattr(node, "id", "")) for node in inside if isinstance(node, ast.arg) or (
        isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    )}  # fmt: skip
    early = hidden | {node.id for part in first for node in ast.walk(part) if isinstance(node, ast.Name)}
    if places != sorted(places) or not plain or any(map(draws, first)) or early & {*parts} or (
        dotted(owner.targets[0]) in read or any(names.count(name) > 1 for name in parts)
    ):  # fmt: skip
        return statements
    again = copied(owner)
    assert isinstance(again.value, ast.Call)
    again.value.args = [parts[name].value if name in parts else each for name, each in zip(names, owner.value.args, strict=True)]
    kept = {id(part) for part in (*parts.values(), owner)}
    before, behind = ([part for part in each if id(part) not in kept] for each in (statements[:last], statements[last:]))
    of_owner = _OfOwner(dotted(owner.targets[0]), {name: names.index(name) for name in parts})
    return [*before, again, *map(of_owner.visit, map(copied, behind))]


class _OfOwner(ast.NodeTransformer):
    """Reads the parts of a sequence as `net[0]`."""

    def __init__(self, owner: str, places: Mapping[str, int]) -> None:
        self.owner, self.places = owner, places

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name, maybe of a part."""
        if node.id not in self.places:
            return node
        found = ast.parse(f"{self.owner}[{self.places[node.id]}]", mode="eval").body
        for part in ast.walk(found):
            ast.copy_location(part, node)
        return found


TO_VECTOR = "parameters_to_vector"

VECTOR = "torch.cat([parameter.view(-1) for parameter in given])"
"""What torch.nn.utils.parameters_to_vector gives."""


def with_vectors(tree: ast.Module) -> ast.Module:
    """The tree with `parameters_to_vector(net.parameters())` written out."""
    paths = imported_paths(tree)

    class Vectors(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            """A call, maybe of that function."""
            self.generic_visit(node)
            root, _, rest = dotted(node.func).partition(".")
            path = ".".join(part for part in (paths.get(root, root), rest) if part)
            if path.removeprefix("torch.nn.utils.").removeprefix("convert_parameters.") != TO_VECTOR or len(node.args) != 1 or (
                node.keywords or not path.startswith("torch.nn.utils.")
            ):  # fmt: skip
                return node
            made = ast.parse(VECTOR, mode="eval").body
            for part in ast.walk(made):
                ast.copy_location(part, node)
                if isinstance(part, ast.comprehension):
                    part.iter = node.args[0]
            return ast.fix_missing_locations(made)

    found = Vectors().visit(tree)
    assert isinstance(found, ast.Module)
    return found


def factories(tree: ast.Module, paths: Mapping[str, str]) -> dict[str, ast.FunctionDef]:
    """The functions of a text that do nothing but give a module, each call another one."""
    classes = {part.name for part in tree.body if isinstance(part, ast.ClassDef)}
    found: dict[str, ast.FunctionDef] = {}

    def is_module(node: ast.expr | None, made: Mapping[str, ast.expr]) -> bool:
        if isinstance(node, ast.Name) and node.id in made:
            return is_module(made[node.id], {})
        call = chained(node) if node is not None else None
        if not isinstance(call, ast.Call):
            return False
        return bool(class_of(call.func, paths)) or dotted(call.func) in classes or dotted(call.func) in found

    methods = [(each.name, part) for each in tree.body if isinstance(each, ast.ClassDef) for part in each.body]
    for owner, part in [*methods, *(("", part) for part in tree.body)]:
        if not isinstance(part, ast.FunctionDef) or part.args.vararg or part.args.kwarg:
            continue
        if owner and [dotted(mark) for mark in part.decorator_list] not in (["classmethod"], ["staticmethod"]):
            continue
        if owner:
            part = _of_class(owner, part)
        if part.decorator_list:
            continue
        *body, last = part.body
        made = {name: each.value for each in body if isinstance(each, ast.Assign) for name in assigned([each])}
        leaves = any(isinstance(node, (ast.Return, ast.Lambda, ast.FunctionDef)) for each in body for node in ast.walk(each))
        if isinstance(last, ast.Return) and not leaves and is_module(last.value, made):
            found[part.name] = part
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    given = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}
    return {name: part for name, part in found.items() if name not in given}


def _of_class(owner: str, method: ast.FunctionDef) -> ast.FunctionDef:
    """`Net.make`, a method of a class, as a function."""
    again = copied(method)
    own = again.args.args.pop(0).arg if dotted(again.decorator_list[0]) == "classmethod" and again.args.args else ""
    for node in ast.walk(again):
        if isinstance(node, ast.Name) and node.id == own:
            node.id = owner
    again.name, again.decorator_list = f"{owner}.{method.name}", []
    return again


def chained(node: ast.expr) -> ast.expr:
    """`Net(3)` of `Net(3).to(device).eval()`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (*PLACED, "eval", "train"):
        if freezes(node):
            break
        node = node.func.value
    return node
