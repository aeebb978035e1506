"""Which statements of a program a value depends on: those that make its names, and, where it draws random numbers, all that
draw before it, since they take from one stream.  Loads no torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from jvpcli.language import catalog, may_ask_for_derivative
from jvpcli.language.expressions import MANUAL_SEED
from jvpcli.language.names import LIST_METHODS, assigned, class_of, default_set, dotted, free_names, imported_paths


def drawing(statements: Iterable[ast.stmt], constructors: bool = True) -> Callable[[ast.AST], bool]:
    """Tells of each part of a program whether it may draw random numbers, or begin them anew, as it runs.

    So do functions that are random, by the catalogue, `constructors` of modules, and calls of what does so itself.
    """
    tree = ast.Module(list(statements), [])
    paths = imported_paths(tree)
    names: set[str] = set()

    def draws(node: ast.AST) -> bool:
        return any(isinstance(part, ast.Call) and of_call(part) for part in running(node))

    def of_call(node: ast.Call) -> bool:
        if class_of(node.func, paths):
            return constructors
        if dotted(node.func) in names:
            return True
        if not names.isdisjoint(map(dotted, node.args)):  # vmap(f)
            return True
        root, _, rest = dotted(node.func).partition(".")
        path = catalog.canonical(".".join(part for part in (paths.get(root, root), rest) if part))
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if path == "torch.seed" or path.startswith(("torch.nn.init.", "torch.random.", "numpy.random.", "np.random.")):
            return True
        return path == MANUAL_SEED or catalog.is_random(f"call:{path}") or catalog.is_random(f"method:{method}")

    def random_module(node: ast.AST) -> bool:
        calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and class_of(part.func, paths)]
        words = {part.arg or "" for call in calls for part in call.keywords} | {class_of(call.func, paths) for call in calls}
        return any(re.search("(?i)dropout|Transformer", word) for word in words)

    while True:  # until no further name stands for what draws
        new: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any(map(draws, node.body)):
                new.add(node.name)
            elif isinstance(node, ast.Assign):
                bodies = [part.body for part in ast.walk(node.value) if isinstance(part, ast.Lambda)]
                if any(map(draws, bodies)) or random_module(node.value):
                    new.update(assigned([node]))
        if new <= names:
            return draws
        names |= new


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that run where it does: not the bodies of functions."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        if not isinstance(part, (ast.FunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(part)


def needed(value: ast.AST, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements before that a value needs, in order."""
    draws = drawing(statements)
    found = makers(value, statements)
    return _needed(value, statements, draws) if any(map(draws, (value, *found))) else found


def makers(value: ast.AST, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements before that make what a value is made of, whatever they draw."""
    return _needed(value, statements, lambda _: False)


def _needed(value: ast.AST, statements: Sequence[ast.stmt], also: Callable[[ast.AST], bool]) -> list[ast.stmt]:
    wanted = free_names(value)
    found: list[ast.stmt] = []
    made_of = [(part, shared_with(part.value)) for part in statements if isinstance(part, ast.Assign)]
    same = [(*assigned([part]), root) for part, root in made_of if root]
    for statement in reversed(statements):
        own = {*assigned([statement])}
        written = changed(statement) | (own if isinstance(statement, ast.AugAssign) else set())
        while more := {name for names in same if not written.isdisjoint(names) for name in names} - written:
            written |= more
        made = {*own, *written, *([] if is_known(statement) else imported(statement))}
        if made & wanted or also(statement) or default_set(statement) or _acts(statement, wanted):
            found.insert(0, statement)
            afresh = isinstance(statement, ast.Assign) and not changed(statement)
            wanted -= made if afresh else set()  # what these names meant before is not read
            read = statement.value if isinstance(statement, ast.Assign) and afresh else statement
            wanted |= free_names(read)
    return found


def _acts(statement: ast.stmt, wanted: Collection[str]) -> bool:
    """Whether a call that stands by itself may change what some names stand for, or how all behind it runs.

    So may `items.sort()` and `torch.set_grad_enabled(False)`; what is printed, and a derivative call, do not.
    """
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = dotted(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
    if name == "set_grad_enabled":
        return True
    harmless = name in ("", "print") or may_ask_for_derivative(name)
    return call is not None and not harmless and not free_names(call).isdisjoint({*wanted} - NAMESPACES)


NAMESPACES = frozenset({"torch", "nn", "F", "math", "np"})
"""What names mean that no program changes."""


OF_MODULES = frozenset({
    "eval", "train", "to", "double", "float", "half", "bfloat16", "type", "apply", "load_state_dict", "add_module",
    "register_module",
})  # fmt: skip
"""Methods that change the module that they are called of, where nothing is made of what they give."""


def changed(statement: ast.AST) -> set[str]:
    """The names of what a statement changes where it is: by `y[0] = 1`, `y.data -= 1`, `y.mul_(2)`, `items.append(y)`,
    `net.eval()`.

    A function that is called for nothing that it gives may change what it is given.
    """
    owners: list[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            owners += [node.value] if getattr(node, "attr", "") != "grad" else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            of_module = name.startswith("register_")  # net.register_forward_hook(f)
            in_place = (name.endswith("_") and not name.startswith("_")) or of_module
            of_function = in_place and root_of(node.func) in ("nn", "init", "torch")  # nn.init.zeros_(w)
            given = [*node.args[:1], *(part.value for part in node.keywords if part.arg == "tensor")]
            owners += given if of_function else [node.func.value] if name in LIST_METHODS or in_place else []
        elif isinstance(node, ast.For) and not {*assigned([node.target])}.isdisjoint(set().union(*map(changed, node.body))):
            owners += [part for part in ast.walk(node.iter) if isinstance(part, ast.Name)]  # for p in net.parameters(): p.zero_()
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            for part in node.value.args if node.value.func.id != "print" else ():
                owners += part.elts if isinstance(part, (ast.List, ast.Tuple)) else [part]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            owners += [node.value.func.value] if node.value.func.attr in OF_MODULES else []
    return {root for owner in owners if (root := root_of(owner)) and "grad" not in dotted(owner).split(".")}


VIEWS = frozenset({
    "detach", "numpy", "view", "reshape", "ravel", "flatten", "t", "transpose", "permute", "squeeze", "unsqueeze", "expand",
    "diagonal", "narrow", "select", "float", "double", "contiguous", "to", "cpu", "requires_grad_",
    "from_numpy", "as_tensor", "asarray",
})  # fmt: skip
"""Methods and functions whose result may have the memory of what they are given."""


def shared_with(node: ast.expr) -> str:
    """The name whose memory an expression may have: `w` of `w[0].t()` and of `torch.from_numpy(w)`."""
    while not isinstance(node, ast.Name):
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VIEWS:
            node = node.args[0] if root_of(node.func) in ("torch", "np", "numpy") and node.args else node.func.value
        else:
            return ""
    return node.id


def root_of(node: ast.expr) -> str:
    """The name that an expression begins with; empty where there is none."""
    while isinstance(node, (ast.Call, ast.Attribute, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def imported(statement: ast.stmt) -> list[str]:
    """The names that an import gives."""
    names = statement.names if isinstance(statement, (ast.Import, ast.ImportFrom)) else []
    return [alias.asname or alias.name.partition(".")[0] for alias in names]


def is_known(statement: ast.stmt) -> bool:
    """Whether a statement imports nothing but what is there anyway."""
    names = imported(statement)
    return bool(names) and {"torch", "math", "F"}.issuperset(names)


# Where the stream begins


def seed_of(statement: ast.stmt) -> int | None:
    """The number in `torch.manual_seed(0)`; None for any other statement."""
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if not (isinstance(value, ast.Call) and dotted(value.func) == MANUAL_SEED and len(value.args) == 1):
        return None
    number = value.args[0].value if isinstance(value.args[0], ast.Constant) else None
    return number if type(number) is int else None


def with_seed(statements: Sequence[ast.stmt], given: int | None) -> tuple[list[ast.stmt], int | None]:
    """The statements behind one that begins the stream, where any draws, and the seed that the program begins it with.

    The program's own seed, which stands before all that draws, gives way to the one that is `given`.
    """
    draws, own = drawing(statements), None
    rest = list(statements)
    while (place := next((k for k, part in enumerate(rest) if draws(part)), None)) is not None:
        seed = seed_of(rest[place])
        if seed is None:
            begins = own if given is None and own is not None else given or 0
            function = ast.Attribute(ast.Name("torch", ast.Load()), "manual_seed", ast.Load())
            return [ast.Expr(ast.Call(function, [ast.Constant(begins)], [])), *rest], own
        own = seed
        del rest[place]
    return rest, own


def without_needless_draws(statements: Sequence[ast.stmt], last: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements of `with_seed` without the first, whose seed is said apart, and without those that do nothing but draw
    where nothing behind them draws, and of whose names nothing behind them reads any."""
    draws = drawing([*statements, *last])
    kept: list[ast.stmt] = []
    drawn = any(map(draws, last))
    for place, statement in reversed(list(enumerate(statements))):
        read = set().union(*map(free_names, (*kept, *last))) if isinstance(statement, ast.With) else changed(statement)
        alone = isinstance(statement, ast.With) and read.isdisjoint({*assigned([statement]), *changed(statement)})
        is_draw = draws(statement) and (alone or (isinstance(statement, ast.Expr) and not read))
        if is_draw and (not drawn or (place == 0 and seed_of(statement) is not None)):
            continue
        drawn = drawn or draws(statement)
        kept.insert(0, statement)
    return kept
