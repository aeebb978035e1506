"""Python that asks for a derivative, as it stands in a program: what it means as a request.

`torch.autograd.grad(torch.outer(x, x), x, grad_outputs=v)` is the expression `torch.outer(x, x)` with the weights v,
differentiated with respect to x.  Only the text is read; nothing of it is run here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jvpcli.language import may_ask_for_derivative


@dataclass(frozen=True)
class Pasted:
    """A request in a program's own words.

    Attributes:
        expression: what is differentiated.
        inputs: name to the text of its value, where the program makes it.
        wrt: names of what it is differentiated to; empty: not said.
        grad_outputs, tangent: texts of the weights, in order; empty: not said.  A weight that the call leaves to PyTorch is
            `implicit`; of torch.autograd.functional.vjp `implicit:vjp`, and of torch.func.grad `implicit:grad`.
        is_grads_batched: whether each weight has an axis in front.
        unused: names of what it is differentiated to, though nothing reads them: the call allows that.
        notes: what is to be said of further options of the call.
    """

    expression: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    grad_outputs: tuple[str, ...] = ()
    tangent: tuple[str, ...] = ()
    is_grads_batched: bool = False
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_pasted(source: str) -> Pasted | None:
    """What a program's text asks for, if it ends in a call for a derivative that can be understood."""
    if not may_ask_for_derivative(source):
        return None
    try:
        statements = ast.parse(source.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    while len(statements) > 1 and (_shows_gradient(statements[-1]) or _shows_name(*statements[-2:])):
        statements.pop()
    if not statements:
        return None
    if len(statements) > 1:
        statements[-2:] = _called_at_once(*statements[-2:])
    asked = _asked(_last(statements[-1]), source.strip())
    if asked is None:
        return None
    kept, inputs = _before(statements[:-1], source.strip())
    return _without_unused(replace(asked, expression="; ".join([*kept, asked.expression]), inputs=inputs))


def _shows_gradient(statement: ast.stmt) -> bool:
    """`x.grad`, `print(x.grad)`."""
    value = _last(statement)
    return isinstance(value, ast.Attribute) and value.attr == "grad"


def _shows_name(before: ast.stmt, statement: ast.stmt) -> bool:
    """`print(g)` or `g`, where the statement before made g."""
    value = _last(statement) if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Name) and value.id in _made(before)


def _made(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to, in order."""
    targets = statement.targets[:1] if isinstance(statement, ast.Assign) else []
    return [_path(item) for target in targets for item in _items(target)]


def _called_at_once(before: ast.stmt, statement: ast.stmt) -> list[ast.stmt]:
    """`_, pull = vjp(f, x)` and then `pull(v)` as the one statement `vjp(f, x)[1](v)`."""
    call = _last(statement)
    if not (isinstance(before, ast.Assign) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return [before, statement]
    names = _made(before)
    if len(names) != 2 or names[1] != call.func.id or not _is_vjp(before.value):
        return [before, statement]
    pull = ast.Subscript(before.value, ast.Constant(1), ast.Load())
    return [ast.Expr(ast.Call(pull, call.args, call.keywords))]


def _is_vjp(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and _path(value.func).rpartition(".")[2] == "vjp"


def _last(statement: ast.stmt) -> ast.expr | None:
    """The expression of the last statement, without what only prints it, names it or takes it out of its tuple."""
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    while True:
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
            value = value.value
        elif isinstance(value, ast.Call) and _path(value.func) == "print" and len(value.args) == 1:
            value = value.args[0]
        else:
            return value


def _asked(call: ast.expr | None, source: str) -> Pasted | None:
    if not isinstance(call, ast.Call):
        return None
    if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and _path(call.func) != BACKWARD:
        weights = _weights(_argument(call, 0, "gradient"), 1, source)
        return Pasted(_text(call.func.value, source), grad_outputs=weights, notes=_about_graph(call, 1))
    if isinstance(call.func, ast.Call):  # jacrev(f)(x)
        name = _path(call.func.func).rpartition(".")[2]
        found = _of_function(call.func.args[:1], call.args, source) if name in TRANSFORMS else None
        return replace(found, grad_outputs=("implicit:grad",)) if found and name == "grad" else found
    if isinstance(call.func, ast.Subscript) and _is_vjp(call.func.value):  # vjp(f, x)[1](v)
        assert isinstance(call.func.value, ast.Call)
        found = _vjp(call.func.value, source)
        v = call.args[0] if call.args else None
        return found and replace(found, grad_outputs=_texts(v, source))
    reader = _READERS.get(_path(call.func).rpartition(".")[2])
    return reader(call, source) if reader else None


BACKWARD = "torch.autograd.backward"
TRANSFORMS = ("jacrev", "jacfwd", "grad")


def _grad(call: ast.Call, source: str) -> Pasted | None:
    """torch.autograd.grad(outputs, inputs, grad_outputs)."""
    outputs, inputs = _argument(call, 0, "outputs"), _argument(call, 1, "inputs")
    names = [_path(item) for item in _items(inputs)]
    if outputs is None or not names or not all(name.isidentifier() for name in names):
        return None
    items = _items(outputs)
    weights = _weights(_argument(call, 2, "grad_outputs"), len(items), source)
    expression = _text(items[0], source) if len(items) == 1 else f"({', '.join(_text(i, source) for i in items)})"
    batched = _is_true(_argument(call, 7, "is_grads_batched"))
    notes = (*_about_graph(call, 3), *_about_unused(call))
    return Pasted(expression, wrt=tuple(names), grad_outputs=weights, is_grads_batched=batched, notes=notes)


def _backward(call: ast.Call, source: str) -> Pasted | None:
    """torch.autograd.backward(tensors, grad_tensors)."""
    if _path(call.func) != BACKWARD or not call.args:
        return None
    items = [_text(item, source) for item in _items(call.args[0])]
    expression = items[0] if len(items) == 1 else f"({', '.join(items)})"
    weights = _weights(_argument(call, 1, "grad_tensors"), len(items), source)
    return Pasted(expression, grad_outputs=weights, notes=_about_graph(call, 2))


def _jacobian(call: ast.Call, source: str) -> Pasted | None:
    """jacobian(f, inputs)."""
    return _of_function(_function(call), _items(_argument(call, 1, "inputs")), source)


def _vjp(call: ast.Call, source: str) -> Pasted | None:
    """autograd.functional.vjp(f, inputs, v); torch.func.vjp(f, *inputs)."""
    if ".func." in _path(call.func):
        return _of_function(call.args[:1], call.args[1:], source)
    found = _of_function(_function(call), _items(_argument(call, 1, "inputs")), source)
    weights = _argument(call, 2, "v")
    return found and replace(found, grad_outputs=_texts(weights, source) if weights else ("implicit:vjp",))


def _jvp(call: ast.Call, source: str) -> Pasted | None:
    """autograd.functional.jvp(f, inputs, v); torch.func.jvp(f, primals, tangents)."""
    found = _of_function(_function(call), _items(_argument(call, 1, "primals") or _argument(call, 1, "inputs")), source)
    return found and replace(found, tangent=_texts(_argument(call, 2, "tangents") or _argument(call, 2, "v"), source))


_READERS: Mapping[str, Callable[[ast.Call, str], Pasted | None]] = {
    "grad": _grad, "backward": _backward, "jacobian": _jacobian, "vjp": _vjp, "jvp": _jvp,
}  # fmt: skip


def _function(call: ast.Call) -> list[ast.expr]:
    """The first argument, or `func=`; none where it is missing."""
    found = _argument(call, 0, "func")
    return [] if found is None else [found]


def _of_function(function: Sequence[ast.expr], arguments: Sequence[ast.expr], source: str) -> Pasted | None:
    """A function at some arguments: a lambda's body with its parameters named, or a call of a named function."""
    if not function or not arguments:
        return None
    names = [_path(argument) for argument in arguments]
    if not all(name.isidentifier() for name in names):
        return None
    (what,) = function
    if not isinstance(what, ast.Lambda):
        path = _path(what)
        return Pasted(f"{path}({', '.join(names)})", wrt=tuple(names)) if path else None
    parameters = [parameter.arg for parameter in what.args.args]
    if len(parameters) != len(names):
        return None
    renamed = [f"{own} = {name}" for own, name in zip(parameters, names, strict=True) if own != name]
    return Pasted("; ".join([*renamed, _text(what.body, source)]), wrt=tuple(names))


def _before(statements: Sequence[ast.stmt], source: str) -> tuple[list[str], dict[str, str]]:
    """The statements that make the outputs, and the inputs that others make; imports and switches are left out."""
    kept, inputs = [], {}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _switches(statement):
            continue
        made = _input(statement, source)
        if made is not None:
            inputs[made[0]] = made[1]
        else:
            kept.append(_text(statement, source))
    return kept, inputs


def _switches(statement: ast.stmt) -> bool:
    """`x.requires_grad_()`, `x.requires_grad = True`."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
        return isinstance(target, ast.Attribute) and target.attr == "requires_grad"
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Call) and _path(value.func).endswith(".requires_grad_")


def _input(statement: ast.stmt, source: str) -> tuple[str, str] | None:
    """`x = torch.tensor(…, requires_grad=True)` or `x = ….requires_grad_()`: its name, and its value without that."""
    if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
        return None
    name, value = statement.targets[0].id, statement.value
    if not isinstance(value, ast.Call):
        return None
    if isinstance(value.func, ast.Attribute) and value.func.attr == "requires_grad_":
        return name, _text(value.func.value, source)
    if any(keyword.arg == "requires_grad" for keyword in value.keywords):
        rest = [keyword for keyword in value.keywords if keyword.arg != "requires_grad"]
        return name, ast.unparse(ast.Call(value.func, value.args, rest))
    return None


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """An argument by its position or keyword; None where it is not given, or None."""
    named = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    found = call.args[position] if len(call.args) > position else named
    return None if found is None or _is_none(found) else found


def _items(node: ast.expr | None) -> list[ast.expr]:
    if node is None:
        return []
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List) else [node]


def _texts(node: ast.expr | None, source: str) -> tuple[str, ...]:
    return tuple(_text(item, source) for item in _items(node))


def _weights(node: ast.expr | None, outputs: int, source: str) -> tuple[str, ...]:
    """The texts of the weights of some outputs; those that are None, or not given, are left to PyTorch."""
    items: list[ast.expr | None] = [*_items(node)] or [None] * outputs
    return tuple("implicit" if item is None or _is_none(item) else _text(item, source) for item in items)


GRAPH_OPTIONS = ("retain_graph", "create_graph")


def _about_graph(call: ast.Call, position: int) -> tuple[str, ...]:
    """Of the options that keep the graph, where they are given: they stand from `position` on, or by name."""
    given = [(name, _argument(call, position + k, name)) for k, name in enumerate(GRAPH_OPTIONS)]
    return tuple(
        f"{name}={ast.unparse(value)} changes no number here: it is about the graph, which is kept for this answer alone"
        for name, value in given
        if value is not None
    )


UNUSED_OPTIONS = {"allow_unused": (6, "None, shown as zeros here"), "materialize_grads": (8, "zeros, as here")}


def _about_unused(call: ast.Call) -> tuple[str, ...]:
    """Of the options of torch.autograd.grad that say what becomes of an input that no gradient reaches."""
    return tuple(
        f"{name}=True: of an input that no gradient reaches PyTorch gives {gives}"
        for name, (position, gives) in UNUSED_OPTIONS.items()
        if _is_true(_argument(call, position, name))
    )


def _without_unused(pasted: Pasted) -> Pasted:
    """With what nothing reads apart from the rest of what is differentiated to, where the call allows that."""
    if not any(note.startswith(tuple(UNUSED_OPTIONS)) for note in pasted.notes):
        return pasted
    read = {node.id for node in ast.walk(ast.parse(pasted.expression)) if isinstance(node, ast.Name)}
    unused = tuple(name for name in pasted.wrt if name not in read)
    if not unused or len(unused) == len(pasted.wrt):
        return pasted
    inputs = {name: text for name, text in pasted.inputs.items() if name not in unused}
    note = f"nothing reads {', '.join(unused)}, which is left out here: the result is for the others"
    wrt = tuple(name for name in pasted.wrt if name in read)
    return replace(pasted, inputs=inputs, wrt=wrt, unused=unused, notes=(*pasted.notes, note))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def _text(node: ast.AST, source: str) -> str:
    return ast.get_source_segment(source, node) or ast.unparse(node)


def _path(node: ast.expr) -> str:
    """`torch.autograd.grad` of a dotted name; the last parts alone where it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    return ""
