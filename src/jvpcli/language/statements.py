"""Statements of a program as text: what they make, read, change and show.  Nothing of them is run, and no torch is loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from jvpcli.language.calls import CHECKS, is_true, items, name_of, parsed, path
from jvpcli.language.dependence import NAMESPACES, changed, imported, root_of
from jvpcli.language.names import (
    KNOWN_OF,
    LIST_METHODS,
    SIZES,
    assigned,
    class_of,
    free_names,
    imported_paths,
    is_main,
    method_of,
    separated,
    turns_on,
)
from jvpcli.language.source import is_text

TRANSPARENT = ("enable_grad", "detect_anomaly", "set_detect_anomaly")
"""What a `with` may name where its statements do what they do without it."""


def modules_of(statements: Sequence[ast.stmt]) -> set[str]:
    """The names of what the classes of torch.nn make; a parameter is a tensor."""
    paths = imported_paths(ast.Module([*statements], []))
    found: set[str] = set()
    for part in (one for each in statements if isinstance(each, ast.Assign) for one in separated(each)):
        made: ast.expr = part.value
        while isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and isinstance(made.func.value, ast.Call):
            made = made.func.value  # `Net()` of `Net().to(device)`
        if isinstance(made, ast.Call) and class_of(made.func, paths) and of_leaf(part.value) is None:
            found.update(names_made(part))
    return found


def functions_of(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements that give a name to a function, which reads the names in it when it is called."""
    return [part for part in statements if isinstance(part, ast.FunctionDef) or (
        isinstance(part, ast.Assign) and isinstance(part.value, ast.Lambda)
    )]  # fmt: skip


def opened(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, those of `if __name__ == "__main__":` among them, and of a `with` that changes no number; no texts."""
    for statement in statements:
        if is_text(statement):
            continue
        opens = isinstance(statement, ast.If) and is_main(statement.test)
        named = [each.context_expr for each in statement.items] if isinstance(statement, ast.With) else []
        clear = [isinstance(each, ast.Call) and name_of(each) in TRANSPARENT for each in named]
        if isinstance(statement, (ast.If, ast.With)) and (opens or (clear and all(clear))):
            yield from opened(statement.body)
        else:
            yield statement


OF_FUNCTIONS = frozenset({"jacrev", "jacfwd", "vmap", "functional_call", "grad", "hessian", "jvp", "vjp"})
OF_VALUES = frozenset({"jacobian", "hvp", "vhp", "hessian"})
"""Functions of torch.func, and of torch.autograd.functional, that people call without showing their import."""


def without_annotations(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, where `x: Tensor = value` is `x = value`."""
    return [
        ast.copy_location(ast.Assign([part.target], part.value), part)
        if isinstance(part, ast.AnnAssign) and part.value is not None else part
        for part in statements
    ]  # fmt: skip


def with_imports(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, and in front the imports that are not shown of functions that give derivatives."""
    nodes = [node for part in statements for node in ast.walk(part)]
    shown = {name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for name in imported(node)}
    free = set().union(*map(free_names, statements)) - {*assigned(statements)} - shown
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    arguments = [part for call in calls if path(call.func) in OF_FUNCTIONS for part in call.args]
    of_functions = {path(call.func.func) for call in calls if isinstance(call.func, ast.Call)}
    of_functions |= {path(part.func if isinstance(part, ast.Call) else part) for part in arguments}
    found = []
    by_name = {path(call.func) for call in calls if len(call.args) + len(call.keywords) > 1} | of_functions
    for name in sorted(by_name & free & (OF_FUNCTIONS | OF_VALUES)):
        func = name in OF_FUNCTIONS and (name in of_functions or name not in (*OF_VALUES, "grad"))
        module = "torch.func" if func else "torch.autograd" if name == "grad" else "torch.autograd.functional"
        found.append(ast.ImportFrom(module, [ast.alias(name)], 0))
    return [*found, *statements]


SHOWING = frozenset(
    {"print", "pprint", "display", "plt", "ax", "axes", "fig", "sns", "logging", "logger", "writer", "wandb", "pbar", "bar",
     "pdb", "mpl", "matplotlib"}
)  # fmt: skip
"""What calls that only show something begin with, as people name it."""

SETTINGS = (
    "torch.set_printoptions", "torch.autograd.set_detect_anomaly", "torch.set_num_threads", "torch.backends.cudnn.",
    "torch.use_deterministic_algorithms", "torch.cuda.manual_seed", "torch.cuda.empty_cache", "torch.cuda.synchronize",
    "np.set_printoptions", "random.seed", "warnings.filterwarnings", "warnings.simplefilter", "os.environ",
    "gc.collect", "sys.stdout.", "np.testing.", "torch.testing.", "plt.rcParams", "matplotlib.rcParams", "mpl.rcParams",
)  # fmt: skip
"""How calls and assignments begin that change how Python and its libraries work, and no number; the answer has options."""


LOOKING = ("state_dict", "parameters", "named_parameters")
"""Methods of modules that only give something, which a statement of its own shows."""


def is_setting(statement: ast.stmt, *others: str) -> bool:
    """`torch.set_printoptions(…)`, `torch.backends.cudnn.benchmark = True`, `os.environ["…"] = "1"`, and what begins so."""
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        (target, *_) = statement.targets
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        target = statement.value.func
    while isinstance(target, ast.Subscript):
        target = target.value
    return target is not None and path(target).startswith((*SETTINGS, *others))


FLAGS = ("requires_grad", "is_leaf")
"""What tensors have that is True or False: to call it fails, and a session goes on."""


def is_passed_over(statement: ast.stmt) -> bool:
    """`print(…)`, `plt.plot(…)`, `assert` and `gradcheck(…)`: they are not carried out."""
    looks = method_of(statement) in (*LOOKING, *FLAGS)
    return isinstance(statement, ast.Assert) or called_by(statement) in CHECKS or looks or is_shown(statement)


def is_shown(statement: ast.stmt) -> bool:
    """Whether a statement calls what only shows something."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    method = method_of(statement)  # a tensor may be called `ax`, and a list `axes`
    return isinstance(value, ast.Call) and root_of(value) in SHOWING and not method.endswith("_") and method not in LIST_METHODS


def called_by(statement: ast.stmt) -> str:
    """The last name of what a statement calls, and does no more."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return path(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""


def names_made(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to, in order."""
    targets = statement.targets[:1] if isinstance(statement, ast.Assign) else []
    return [path(item) for target in targets for item in items(target)]


def cleared(statement: ast.stmt) -> set[str]:
    """What a statement clears the gradients of: by `x.grad.zero_()`, `x.grad = None`, `net.zero_grad()`, and in a loop over such.

    Of `net.weight.grad = None` that is the path `net.weight`, a part of what has the name.
    """
    if isinstance(statement, (ast.With, ast.If, ast.For)):
        found = set().union(*map(cleared, statement.body))
        through = {*assigned([statement.target])} if isinstance(statement, ast.For) else set()
        over = free_names(statement.iter) - NAMESPACES if isinstance(statement, ast.For) and found & through else set()
        return found - through | over
    if isinstance(statement, ast.Assign):
        none = all(isinstance(each, ast.Constant) and each.value is None for each in items(statement.value))
        held = [path(each) for target in statement.targets for each in items(target)]
        return {name.removesuffix(".grad") for name in held if none and name.endswith(".grad")}
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return set()
    owner = path(call.func.value).removesuffix(".data")
    if call.func.attr == "zero_grad":
        return {owner}
    return {owner.removesuffix(".grad")} if call.func.attr == "zero_" and owner.endswith(".grad") else set()


def updates(statement: ast.stmt) -> bool:
    """Whether a statement moves weights along their gradient, or clears it, and gives nothing else."""
    if isinstance(statement, (ast.With, ast.For)):
        return all(map(updates, statement.body))
    moves = method_of(statement) in ("sub_", "add_", "copy_")
    set_anew = isinstance(statement, ast.Assign) and path(statement.targets[0]).endswith((".data", ".grad"))
    return isinstance(statement, ast.AugAssign) or moves or set_anew or bool(cleared(statement))


def reads_grad(node: ast.AST) -> bool:
    """Whether `.grad` of something stands in a part of a program."""
    return any(isinstance(part, ast.Attribute) and part.attr == "grad" for part in ast.walk(node))


def all_read(names: set[str], before: Sequence[ast.stmt]) -> set[str]:
    """Names together with all that their values may be made of, or changed by; a leaf starts afresh."""
    found = set(names)
    carried = [statement for statement in before if not is_passed_over(statement)]
    defined = {part.name for part in carried if isinstance(part, ast.FunctionDef)}  # which to call changes nothing of
    changing = [(part, defined - {*assigned([part])}) for part in carried]
    makers = [(names_changed(part) - fixed, free_names(part) - {"torch"}) for part, fixed in changing]
    while more := set().union(*(used for made, used in makers if made & found)) - found:
        found |= more
    return found


def sources(names: set[str], before: Sequence[ast.stmt]) -> set[str]:
    """The leaves, the names that nothing makes, and what is made of none, that some names are made of at the end of a program."""
    open_, found = names - NAMESPACES, set[str]()
    for statement in reversed(before):
        written = changed(statement)  # y[0] = x
        made = {*names_made(statement), *written} if isinstance(statement, ast.Assign) else names_changed(statement)
        if not made & open_ or is_passed_over(statement):
            continue
        reads = free_names(statement) - NAMESPACES
        if isinstance(statement, ast.Assign):  # what else changes a name, a loop or `y.add_(x)`, may read all that it has
            reads -= made
        if isinstance(statement, ast.Assign) and not written:
            if of_leaf(statement.value) is not None or not reads:
                found |= made & open_
                reads = set()
            open_ = open_ - made
        open_ |= reads
    return found | open_


def names_changed(statement: ast.stmt) -> set[str]:
    """The names whose values a statement may give or change."""
    if isinstance(statement, ast.Assign) and of_leaf(statement.value):
        return set()
    if isinstance(statement, (ast.Assign, ast.FunctionDef)):
        roots = {root_of(item) for target in getattr(statement, "targets", []) for item in items(target)}
        name = getattr(statement, "name", "")
        return {*assigned([statement]), *roots, name}
    return free_names(statement) - {"torch"}


def of_leaf(value: ast.expr) -> ast.expr | None:
    """What `torch.tensor(…, requires_grad=True)`, `….requires_grad_()`, `nn.Parameter(…)` are made of; None for no leaf."""
    if not isinstance(value, ast.Call):
        return None
    if isinstance(value.func, ast.Attribute) and value.func.attr == "requires_grad_":
        return value.func.value if turns_on(value) else None
    flag = next((keyword.value for keyword in value.keywords if keyword.arg == "requires_grad"), None)
    name = path(value.func).rpartition(".")[2]
    if name == "Parameter" and value.args and (flag is None or is_true(flag)):
        return value.args[0]
    if flag is None or not is_true(flag):
        return None
    if name == "Variable" and value.args:
        return value.args[0]
    return ast.Call(value.func, value.args, [keyword for keyword in value.keywords if keyword.arg != "requires_grad"])


PLAIN_METHODS = SIZES | {"tolist", "item", "numpy", "detach"}
"""What of a tensor has no derivative in PyTorch, beside what there is to know of it."""


def is_plain(layer: ast.expr) -> bool:
    """Whether a layer around a tensor is no tensor with a graph, whatever the tensor."""
    if isinstance(layer, ast.Call) and isinstance(layer.func, ast.Attribute):
        return layer.func.attr in PLAIN_METHODS
    return isinstance(layer, ast.Attribute) and layer.attr in KNOWN_OF | PLAIN_METHODS


GRAPHLESS = frozenset({"ones_like", "zeros_like", "full_like", "rand_like", "randn_like", "empty_like", "eye"})
"""Functions whose results have no graph, whatever they are given."""


def read_with_graph(value: ast.AST, beside: ast.AST | None = None) -> list[ast.Name]:
    """The names that a value reads, but for those in a part of it, and those of which it takes nothing that has a graph."""
    if value is beside or (isinstance(value, ast.Call) and name_of(value) in GRAPHLESS) or (
        isinstance(value, ast.expr) and (is_plain(value) or (isinstance(value, ast.Attribute) and value.attr == "data"))
    ):
        return []
    if isinstance(value, ast.Name):
        return [] if value.id in NAMESPACES else [value]
    return [name for part in ast.iter_child_nodes(value) for name in read_with_graph(part, beside)]


def assignment(name: str, value: str | ast.expr) -> ast.Assign:
    """`name = value`, as a statement of its own."""
    return ast.Assign([ast.Name(name, ast.Store())], parsed(value) if isinstance(value, str) else value, lineno=0)


def unused_name(name: str, statements: Sequence[ast.stmt]) -> str:
    """The name, or with lines behind it, so that nothing in the program is called so."""
    taken = {node.id for part in statements for node in ast.walk(part) if isinstance(node, ast.Name)}
    while name in taken:
        name += "_"
    return name
