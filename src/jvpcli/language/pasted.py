"""Python that asks for a derivative, as it stands in a program: what it means as a request.

`torch.autograd.grad(torch.outer(x, x), x, grad_outputs=v)` is the expression `torch.outer(x, x)` with the weights v,
differentiated with respect to x.  Only the text is read; nothing of it is run here.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jvpcli.errors import JvpError
from jvpcli.language import may_ask_for_derivative
from jvpcli.language.dependence import (
    changed,
    drawing,
    imported,
    is_known,
    needed,
    seed_of,
    with_seed,
    without_needless_draws,
)
from jvpcli.language.names import assigned, read_first
from jvpcli.language.source import SourceText, read_source


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
        seed: where random numbers begin, if the program says so.
        notes: what is to be said of further options of the call.
    """

    expression: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    grad_outputs: tuple[str, ...] = ()
    tangent: tuple[str, ...] = ()
    is_grads_batched: bool = False
    unused: tuple[str, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()


def read_pasted(source: str, seed: int | None = None) -> Pasted | None:
    """What a program's text asks for, by the leaves that it makes, and by a call for a derivative at its end.

    `seed` is where random numbers begin, if that is given: the program's own gives way to it.
    None where there is neither, or the text can't be read.
    """
    if not may_ask_for_derivative(source):
        return None
    try:
        text, tree = read_source(source.strip())
    except JvpError:
        return None
    code = "\n".join(text.lines)
    note = passed_over(tree, text)
    statements, own_seed = with_seed([part for statement in _of_main(tree) for part in _separate(statement)], seed)
    turn = _turn(statements, code)
    statements, notes = turn.statements, (*turn.notes, *note)
    before, asked = _subject(statements, code)
    kept, leaves = _without_leaves(before, code)
    if asked is not None:
        cut = _from_intermediates(asked, kept, leaves, code)
        if cut is None:  # the gradient by something that nothing after it reads: PyTorch says so itself
            kept, leaves = _without_leaves(statements, code)
            asked = None
        else:
            kept, leaves = cut
    if asked is not None and turn.carried:
        texts = {name: _carried_text(name, turn.earlier, code) for name in turn.carried}
        asked = replace(asked, wrt=asked.wrt or tuple(leaves))
        kept = [part for part in kept if not {*assigned([part])} <= {*texts} or not assigned([part])]
        leaves = {**leaves, **texts}
    if text.pieces or (asked is None and not leaves):
        return None
    kept = [statement for statement in kept if not _is_passed_over(statement)]
    if asked is not None:
        added, asked = _with_drawn_weights(asked, statements)
        kept += added
    kept = without_needless_draws(kept, [] if asked is None else ast.parse(asked.expression).body)
    kept = _without_needless_imports(kept, "" if asked is None else asked.expression)
    lines = [*(_text(statement, code) for statement in kept), *([] if asked is None else [asked.expression])]
    expression = ("\n" if any(map(_is_block, kept)) else "; ").join(lines)
    found = replace(asked or Pasted(""), expression=expression, inputs=leaves, seed=own_seed)
    return _without_unused(_of_what_is_read(replace(found, notes=(*notes, *found.notes))))


def notes_on(source: str) -> tuple[str, ...]:
    """What is to be said of a program that asks for no derivative itself."""
    try:
        text, tree = read_source(source.strip())
    except JvpError:
        return ()
    return passed_over(tree, text) if len(tree.body) > 1 else ()


def passed_over(tree: ast.Module, text: SourceText) -> tuple[str, ...]:
    """What of a program is not carried out, as a note: `print`, assertions, the steps of an optimizer."""
    found = []
    for node in ast.walk(tree):
        shows = node in tree.body[-1:] and isinstance(node, ast.Expr)  # what it prints is what is asked
        if isinstance(node, ast.stmt) and _is_passed_over(node) and not shows:
            line = text.source.count("\n", 0, text.span(node)[0]) + 1
            found.append(f"{'assert' if isinstance(node, ast.Assert) else _called(node)} on line {line}")
    return (f"passed over: {', '.join(found)}",) if found else ()


def _is_passed_over(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assert) or _called(statement) in ("print", "step")


def _called(statement: ast.stmt) -> str:
    """The last name of what a statement calls, and does no more."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return _path(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""


def _of_main(tree: ast.Module) -> list[ast.stmt]:
    """The statements, those of `if __name__ == "__main__":` among them."""
    found: list[ast.stmt] = []
    for statement in tree.body:
        test = statement.test if isinstance(statement, ast.If) else None
        is_main = isinstance(test, ast.Compare) and _path(test.left) == "__name__"
        found += statement.body if is_main and isinstance(statement, ast.If) else [statement]
    return found


# Which call is meant


def _subject(statements: list[ast.stmt], code: str) -> tuple[list[ast.stmt], Pasted | None]:
    """The call for a derivative that a program ends with, and what stands before it.

    Where something is made of what the call gives, it is one of the program's equations, and none is meant.
    """
    own = set(assigned(statements))
    for place in range(len(statements) - 1, -1, -1):
        start, statement = place, statements[place]
        if place and len(joined := _called_at_once(statements[place - 1], statement)) == 1:
            start, statement = place - 1, joined[0]
        call, rest = _last(statement), statements[place + 1 :]
        if call is None or (_root(call) in own and not _is_backward(call)):
            continue
        asked = _asked(call, code)
        function = _transformed(call)
        if function is not None and not (asked and _is_same(call, function, asked, statements[:start])):
            value = None if _is_used(statement, rest) else _with_graph(statement)
            return (statements, None) if value is None else (statements[:start], value)
        if asked is None:
            continue
        if _is_used(statement, rest) or (_has_graph(call) and (rest or not _is_backward(call))):
            return statements, None
        if retained := _retained(statements[:start], rest) if _is_backward(call) else []:
            asked = replace(asked, wrt=tuple(retained))
        return _added_up(statements[:start], asked, statement, code)
    return statements, None


def _retained(before: Sequence[ast.stmt], rest: Sequence[ast.stmt]) -> list[str]:
    """The values that keep their gradient, by `y.retain_grad()`, and whose `.grad` is read afterwards."""
    nodes = [node for part in rest for node in ast.walk(part)]
    read = {_path(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "grad"}
    kept = [_root(part.value) for part in before if isinstance(part, ast.Expr) and _method(part) == "retain_grad"]
    return [name for name in kept if name in read]


def _transformed(call: ast.expr) -> ast.expr | None:
    """The function that a call of torch.func or torch.autograd.functional differentiates; None for any other call."""
    if not isinstance(call, ast.Call):
        return None
    made = _maker(call)
    name, found = _path(made.func).rpartition(".")[2], _function(made)
    if not found or name not in (TRANSFORMS if made is not call else FUNCTIONAL):
        return None
    return found[0]


def _with_graph(statement: ast.stmt) -> Pasted | None:
    """What a call of torch.autograd.functional gives, as a value that still has a graph; None for other calls."""
    value = copy.deepcopy(statement)
    call = _last(value)
    assert isinstance(call, ast.Call)
    assert isinstance(value, (ast.Expr, ast.Assign))
    path = _path(call.func)
    name = path.rpartition(".")[2]
    is_functional = "functional." in path or name in ("jacobian", "hvp", "vhp")
    most = 2 if name in ("jacobian", "hessian") else 3
    if not is_functional or _argument(call, 1, "inputs") is None or _has_graph(call) or len(call.args) > most:
        return None
    call.keywords = [keyword for keyword in call.keywords if keyword.arg != "create_graph"]
    call.keywords.append(ast.keyword("create_graph", ast.Constant(True)))
    shown = value.value
    if isinstance(shown, ast.Call) and _path(shown.func) == "print":
        shown = shown.args[0]
    note = "what the call gives stands here as a value; create_graph=True changes no number of it, and gives it a graph"
    return Pasted(ast.unparse(ast.fix_missing_locations(shown)), notes=(note,))


def _maker(call: ast.Call) -> ast.Call:
    """`jacrev(f)` of `jacrev(f)(x)`, `vjp(f, x)` of `vjp(f, x)[1](v)`; any other call itself."""
    inner = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return inner if isinstance(inner, ast.Call) else call


def _is_same(call: ast.expr, function: ast.expr, asked: Pasted, before: Sequence[ast.stmt]) -> bool:
    """Whether the derivative of a function by its arguments is that of its value by the inputs that stand for them.

    It is where the function reads none of these inputs except as arguments, nor what is made of them, and where naming its
    parameters after them changes nothing else.
    """
    assert isinstance(call, ast.Call)
    made = _maker(call)
    keywords = {keyword.arg for keyword in made.keywords}
    flags = [keyword.value for keyword in made.keywords if keyword.arg == "has_aux"]
    others = [part for part in (*made.args, *call.args, *(k.value for k in made.keywords)) if part is not function]
    if made is not call and (call.keywords or (not _is_vjp(made) and len(made.args) > 2)):  # for the function; has_aux
        return False
    if not keywords <= UNDERSTOOD or any(not isinstance(flag, ast.Constant) or flag.value for flag in flags):
        return False
    if any(isinstance(node, ast.Starred) for part in others for node in ast.walk(part)):
        return False
    renamed = {part.partition(" = ")[0] for part in asked.expression.split("; ")[:-1]}
    reads = _reached(_free(function), before)
    beside = set().union(*map(_free, others))
    return not renamed & (reads | beside | {*assigned(before)}) and not reads & {*asked.wrt}


def _free(node: ast.AST) -> set[str]:
    """The names that a part of a program uses, without those that functions in it have of their own."""
    if isinstance(node, ast.Name):
        return {node.id}
    if not isinstance(node, (ast.Lambda, ast.FunctionDef)):
        return set().union(*map(_free, ast.iter_child_nodes(node)))
    own = {one.arg for one in ast.iter_child_nodes(node.args) if isinstance(one, ast.arg)}
    body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    if isinstance(node, ast.FunctionDef):
        own |= {*assigned(node.body)}
    return (set().union(*map(_free, body)) - own) | _free(node.args)


def _reached(names: set[str], before: Sequence[ast.stmt]) -> set[str]:
    """Names together with all that their values may be made of, or changed by; a leaf starts afresh."""
    found = set(names)
    makers = [(set(_own(statement)), _free(statement) - {"torch"}) for statement in before if not _is_passed_over(statement)]
    while more := set().union(*(used for made, used in makers if made & found)) - found:
        found |= more
    return found


def _own(statement: ast.stmt) -> set[str]:
    """The names whose values a statement may give or change."""
    if isinstance(statement, ast.Assign) and _of_leaf(statement.value):
        return set()
    if isinstance(statement, (ast.Assign, ast.FunctionDef, ast.ClassDef)):
        roots = {_root(item) for target in getattr(statement, "targets", []) for item in _items(target)}
        name = getattr(statement, "name", "")
        return {*assigned([statement]), *roots, name}
    return _free(statement) - {"torch"}


def _root(node: ast.expr) -> str:
    """The name that an expression begins with; empty where there is none."""
    while isinstance(node, (ast.Call, ast.Attribute, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _added_up(before: list[ast.stmt], asked: Pasted, statement: ast.stmt, code: str) -> tuple[list[ast.stmt], Pasted]:
    """The call together with those before it whose gradients `.grad` holds as well, and what else stands before it.

    Calls that free the graph stay where they are, and so does the one that is asked: what PyTorch raises at it is raised.
    """
    call = _last(statement)
    freeing = {place for place, part in enumerate(before) if _frees(_last(part))}
    earlier: dict[int, Pasted] = {}
    for place in range(len(before) - 1, -1, -1) if _is_backward(call) else ():
        if _clears(before[place]):
            break
        found = _asked(_last(before[place]), code) if _is_backward(_last(before[place])) else None
        if found is not None:
            earlier[place] = found
    stays = [statement] if freeing and isinstance(call, ast.Call) and _path(call.func).endswith(("grad", "backward")) else []
    if not earlier:
        return [*before, *stays], asked
    kept: list[ast.stmt] = []
    for place, part in enumerate(before):
        if place in earlier:
            made = _parsed(earlier[place].expression)
            read = {node.id for node in ast.walk(made) if isinstance(node, ast.Name)}
            if read & {*assigned(before[place + 1 :])}:  # the name means something else at the end
                name = _unused(f"y_{len(kept)}", [*before, statement])
                kept.append(_assign(ast.Name(name, ast.Store()), made))
                earlier[place] = replace(earlier[place], expression=name)
        if place not in earlier or stays:
            kept.append(part)
    parts = [*reversed(earlier.values()), asked]
    note = (
        f"of {len(parts)} calls of backward PyTorch adds the gradients up in .grad, and so does the result; "
        "where they share a part of the graph, all but the last need retain_graph=True"
    )
    combined = replace(
        asked,
        expression=f"({', '.join(part.expression for part in parts)})",
        grad_outputs=tuple(weight for part in parts for weight in part.grad_outputs),
        notes=(note, *asked.notes),
    )
    return [*kept, *stays], combined


def _frees(call: ast.expr | None) -> bool:
    """Whether a call is a backward pass that keeps no graph."""
    if not isinstance(call, ast.Call) or not _path(call.func).endswith(("grad", "backward")):
        return False
    flags = {keyword.arg: keyword.value for keyword in call.keywords}
    return not (_is_true(flags.get("retain_graph")) or _is_true(flags.get("create_graph")))


def _from_intermediates(
    asked: Pasted, kept: list[ast.stmt], leaves: dict[str, str], code: str
) -> tuple[list[ast.stmt], dict[str, str]] | None:
    """What is asked by a value that the program makes itself: that becomes an input, and what makes it its VALUE.

    None where that cannot be: the value is made more than once or with others, or nothing reads it afterwards.
    """
    own = [name for name in asked.wrt if name in assigned(kept)]
    if not own:
        return kept, leaves
    places = {name: [k for k, part in enumerate(kept) if name in assigned([part])] for name in own}
    if any(len(found) != 1 or _made(kept[found[0]]) != [name] for name, found in places.items()):
        return None
    rest = [part for k, part in enumerate(kept) if [k] not in places.values()]
    after = [part for k, part in enumerate(kept) if k > min(places[own[0]]) and _asked(_last(part), code) is None]
    later = " ".join([*(_text(part, code) for part in after), asked.expression])
    if any(not re.search(rf"\b{re.escape(name)}\b", later) for name in own):
        return None
    values = dict(leaves)
    for name in own:
        made = kept[places[name][0]]
        assert isinstance(made, ast.Assign)
        before = [part for part in kept[: places[name][0]] if not set(assigned([part])) & set(own)]
        values[name] = _value_text(made.value, before, code)
    return rest, values


def _of_what_is_read(pasted: Pasted) -> Pasted:
    """Without the leaves that nothing reads."""
    texts = [pasted.expression, *pasted.inputs.values(), *pasted.grad_outputs, *pasted.tangent]
    read = {word for text in texts for word in re.findall(r"[^\W\d]\w*", text)} | set(pasted.wrt)
    inputs = {name: text for name, text in pasted.inputs.items() if name in read}
    return replace(pasted, inputs=inputs)


def _is_used(call: ast.stmt, rest: Sequence[ast.stmt]) -> bool:
    """Whether something is made of what a derivative call gives: not where it is only shown, or a weight updated by it."""
    results = set(_made(call))
    reads_grad = _is_backward(_last(call))
    for statement in rest:
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} & results
        if reads_grad and any(isinstance(node, ast.Attribute) and node.attr == "grad" for node in ast.walk(statement)):
            used.add(".grad")
        if not used or _shows(statement, results) or _updates(statement):
            continue
        if isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign)):
            return True
    return False


SHOWING = frozenset({"print", "pprint", "display", "plt", "ax", "axes", "fig", "sns", "logging", "logger", "writer", "wandb"})
"""What calls that only show something begin with, as people name it."""


COMPARING = frozenset({"allclose", "equal", "isclose", "assert_close", "assert_allclose"})
"""Calls that only compare what there is."""


def _shows(statement: ast.stmt, results: set[str]) -> bool:
    """`print(…)`, or one of the results, or `x.grad`, as it stands."""
    if not isinstance(statement, ast.Expr):
        return isinstance(statement, ast.Assert)
    value = _last(statement)
    printed = isinstance(statement.value, ast.Call) and _root(statement.value) in SHOWING
    called = _path(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    read = isinstance(value, ast.Attribute) and value.attr == "grad"
    compared = isinstance(value, ast.Compare) or called in COMPARING
    return printed or compared or read or (isinstance(value, ast.Name) and value.id in results)


def _updates(statement: ast.stmt) -> bool:
    """Whether a statement moves weights along their gradient, or clears it, and gives nothing else."""
    if isinstance(statement, ast.With):
        return all(map(_updates, statement.body))
    return isinstance(statement, ast.AugAssign) or _clears(statement) or _method(statement) in ("step", "sub_", "add_", "copy_")


def _clears(statement: ast.stmt) -> bool:
    """`x.grad.zero_()`, `x.grad = None`, `optimizer.zero_grad()`."""
    if isinstance(statement, ast.Assign):
        return _path(statement.targets[0]).endswith(".grad")
    return _method(statement) in ("zero_grad", "zero_")


def _method(statement: ast.stmt) -> str:
    """The name of the method that a statement calls, and does no more."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.func.attr if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else ""


def _is_backward(call: ast.expr | None) -> bool:
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"


def _has_graph(call: ast.expr | None) -> bool:
    """Whether a call asks for a result that can be differentiated."""
    keywords = call.keywords if isinstance(call, ast.Call) else []
    return any(keyword.arg == "create_graph" and _is_true(keyword.value) for keyword in keywords)


@dataclass(frozen=True)
class _Turn:
    """A program whose last derivative call stands in a loop, with one turn of it in the loop's place.

    Attributes:
        statements: the program with that turn.
        notes: what is to be said of it.
        carried: names whose values are what the turns before leave: those are the values of `earlier`.
        earlier: the program up to that turn.
    """

    statements: list[ast.stmt]
    notes: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    earlier: Sequence[ast.stmt] = ()


def _turn(statements: list[ast.stmt], code: str) -> _Turn:
    """A program that ends with a loop that asks for derivatives, by one turn: the last, where that is known; else the program.

    Where no turn clears or moves anything, the gradients of all turns add up.
    """
    while len(statements) > 1 and isinstance(end := statements[-1], ast.Expr) and _shows(end, set()):
        if _path(_last(end) or ast.Constant(0)).endswith(".grad"):
            break
        statements = statements[:-1]
    shown = statements
    while len(shown) > 1 and isinstance(end := shown[-1], ast.Expr) and (_shows(end, set()) or isinstance(end.value, ast.Name)):
        shown = shown[:-1]
    last = shown[-1] if shown else None
    if not isinstance(last, (ast.For, ast.While)):
        return _Turn(statements)
    calls = [place for place, part in enumerate(last.body) if _asked(_last(part), code)]
    if not calls:
        return _Turn(statements)
    before, body = shown[:-1], last.body[: calls[-1] + 1]
    if isinstance(last, ast.While) or _leaves_early(last) or any(map(drawing(statements), last.body)):
        head = [_assign(last.target, _item(last.iter, 0))] if isinstance(last, ast.For) else []
        return _Turn([*before, *head, *last.body], ("of the loop the first turn is shown",))
    wanted = needed(body[-1], [*before, *body[:-1]])
    body = [part for place, part in enumerate(body) if part in wanted or place in calls]  # not what only keeps a record
    made = {*assigned([last]), *changed(last)}
    own = {*assigned(before)} - {*assigned([_assign(last.target, last.iter)])}
    if changed(last) - own or any(isinstance(part, ast.AugAssign) and not {*assigned([part])} <= own for part in ast.walk(last)):
        made |= {*_without_leaves(before, code)[1]}  # by another name
    carried = tuple(name for name in assigned(before) if name in made & own & read_first(body))
    call = _last(body[-1])
    clears = any(_clears(part) for part in ast.walk(last) if isinstance(part, ast.stmt))
    if _is_backward(call) and not carried and not clears and not _argument(call, 0, "gradient"):  # type: ignore[arg-type]
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Attribute)
        total = ast.Name(_unused("total", statements), ast.Load())
        added = _assign(_stored(total), ast.BinOp(total, ast.Add(), call.func.value))
        again = ast.For(last.target, last.iter, [*body[:-1], added], [], lineno=0)
        ended = ast.Expr(ast.Call(ast.Attribute(total, "backward", ast.Load()), [], []))
        note = "of the loop's calls of backward PyTorch adds the gradients up in .grad, and so does the result"
        return _Turn([*before, _assign(_stored(total), ast.Constant(0)), again, ended], (note,))
    earlier = ast.For(last.target, _item(last.iter, slice(None, -1)), last.body, [], lineno=0)
    left = f", at what the turns before it leave in {', '.join(carried)}" if carried else ""
    note = f"of the loop the last turn is shown{left}"
    return _Turn([*before, _assign(last.target, _item(last.iter, -1)), *body], (note,), carried, [*before, earlier])


def _leaves_early(loop: ast.stmt) -> bool:
    return any(isinstance(part, (ast.Break, ast.Return)) for part in ast.walk(loop))


def _assign(target: ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([target], value, lineno=0)


def _parsed(text: str) -> ast.expr:
    """The tree of an expression's text, which may have line breaks."""
    return ast.parse(f"({text}\n)", mode="eval").body


def _stored(name: ast.Name) -> ast.Name:
    return ast.Name(name.id, ast.Store())


def _item(items: ast.expr, place: int | slice) -> ast.expr:
    """`list(items)[0]`, `list(items)[:-1]`"""
    key = ast.Slice(upper=ast.Constant(place.stop)) if isinstance(place, slice) else ast.Constant(place)
    return ast.Subscript(ast.Call(ast.Name("list", ast.Load()), [items], []), key, ast.Load())


def _unused(name: str, statements: Sequence[ast.stmt]) -> str:
    """The name, or with lines behind it, so that nothing in the program is called so."""
    taken = {node.id for part in statements for node in ast.walk(part) if isinstance(node, ast.Name)}
    while name in taken:
        name += "_"
    return name


# Leaves


def _separate(statement: ast.stmt) -> list[ast.stmt]:
    """`x, w = a, b` as two statements, where one of them makes a leaf."""
    if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple) and len(statement.targets) == 1):
        return [statement]
    (target,), values = statement.targets, statement.value.elts
    if not (isinstance(target, ast.Tuple) and len(target.elts) == len(values) and any(map(_of_leaf, values))):
        return [statement]
    return [ast.Assign([part], value, lineno=0) for part, value in zip(target.elts, values, strict=True)]


def _without_leaves(statements: Sequence[ast.stmt], code: str) -> tuple[list[ast.stmt], dict[str, str]]:
    """The statements but those that make leaves, and those with their values as text, which may use the leaves before."""
    switched = {name for statement in statements for name in _switches(statement)}
    kept: list[ast.stmt] = []
    leaves: dict[str, str] = {}
    for statement in statements:
        names = _made(statement) if isinstance(statement, ast.Assign) else []
        value = _of_leaf(statement.value) if isinstance(statement, ast.Assign) else None
        if value is None and len(names) == 1 and names[0] in switched and isinstance(statement, ast.Assign):
            value = statement.value
        if value is not None and len(names) == 1 and names[0].isidentifier():
            leaves[names[0]] = _value_text(value, kept, code, is_first=not leaves)
            kept += [ast.Expr(value)] if drawing(statements)(value) else []  # what is drawn after it comes after it
        elif not _switches(statement) and not _is_setting(statement):
            kept.append(statement)
    return kept, leaves


def _of_leaf(value: ast.expr) -> ast.expr | None:
    """What `torch.tensor(…, requires_grad=True)`, `….requires_grad_()`, `nn.Parameter(…)` are made of; None for no leaf."""
    if not isinstance(value, ast.Call):
        return None
    if isinstance(value.func, ast.Attribute) and value.func.attr == "requires_grad_":
        return value.func.value
    flag = next((keyword.value for keyword in value.keywords if keyword.arg == "requires_grad"), None)
    name = _path(value.func).rpartition(".")[2]
    if name == "Parameter" and value.args and (flag is None or _is_true(flag)):
        return value.args[0]
    if flag is None or not _is_true(flag):
        return None
    if name == "Variable" and value.args:
        return value.args[0]
    return ast.Call(value.func, value.args, [keyword for keyword in value.keywords if keyword.arg != "requires_grad"])


def _switches(statement: ast.stmt) -> list[str]:
    """The names of `x.requires_grad_()`, `x.requires_grad = True`."""
    if isinstance(statement, ast.Assign):
        paths = map(_path, statement.targets)
        return [path[: -len(".requires_grad")] for path in paths if path.endswith(".requires_grad")]
    value = statement.value if isinstance(statement, ast.Expr) else None
    path = _path(value.func) if isinstance(value, ast.Call) else ""
    return [path[: -len(".requires_grad_")]] if path.endswith(".requires_grad_") else []


SETTINGS = frozenset(
    {"torch.set_printoptions", "torch.autograd.set_detect_anomaly", "np.random.seed"}
)
"""Calls that change how torch works, for which the answer has options."""


def _is_setting(statement: ast.stmt) -> bool:
    """`torch.set_printoptions(…)` and the like, which change how torch works: the answer has options for that."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    path = _path(value.func) if isinstance(value, ast.Call) else ""
    return path.endswith(".retain_grad") or path in SETTINGS


def _value_text(value: ast.expr, before: Sequence[ast.stmt], code: str, is_first: bool = False) -> str:
    """A value as text, with the statements before it that it needs; the first value begins with the seed by itself."""
    parts = needed(value, before)
    if is_first and len(parts) == 1 and seed_of(parts[0]) is not None:
        parts = []
    separator = "\n" if any(map(_is_block, parts)) else "; "
    return separator.join([*(_text(part, code) for part in parts), _text(value, code)])


def _with_drawn_weights(asked: Pasted, statements: Sequence[ast.stmt]) -> tuple[list[ast.stmt], Pasted]:
    """The request with weights that are drawn at random in variables of the program, drawn behind all else, and those."""
    draws = drawing(statements)
    parsed = [_parsed(text) if text[:8] != "implicit" else None for text in asked.grad_outputs]
    if not any(weight is not None and draws(weight) for weight in parsed):
        return [], asked
    y = ast.Name(_unused("y", statements), ast.Store())
    *before, last = asked.expression.split("; ")  # parameters of a function, by the names of what is given for them
    names_given = [text.split(" = ") for text in before]
    added: list[ast.stmt] = [_assign(ast.Name(own, ast.Store()), _parsed(name)) for own, name in names_given]
    added.append(_assign(y, _parsed(last)))
    names: list[str] = []
    for text, weight in zip(asked.grad_outputs, parsed, strict=True):
        names.append(text if weight is None else _unused("v" + "_" * len(names), [*statements, *added]))
        added += [] if weight is None else [_assign(ast.Name(names[-1], ast.Store()), weight)]
    return added, replace(asked, expression=y.id, grad_outputs=tuple(names))


def _carried_text(name: str, earlier: Sequence[ast.stmt], code: str) -> str:
    """What the turns of a loop, which is the last of some statements, leave in a name."""
    *before, loop = earlier
    parts = [*needed(loop, before), loop]
    return "\n".join([*(_text(part, code) for part in parts), name])


def _without_needless_imports(statements: Sequence[ast.stmt], expression: str) -> list[ast.stmt]:
    """Without the imports of what is there anyway, or that nothing reads."""
    nodes = [node for part in (*statements, ast.parse(expression)) for node in ast.walk(part)]
    read = {node.id for node in nodes if isinstance(node, ast.Name)}
    return [part for part in statements if not imported(part) or (read & {*imported(part)} and not is_known(part))]


def _is_block(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.For, ast.While, ast.If, ast.With, ast.FunctionDef, ast.ClassDef, ast.Try))


def _made(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to, in order."""
    targets = statement.targets[:1] if isinstance(statement, ast.Assign) else []
    return [_path(item) for target in targets for item in _items(target)]


# Calls


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
        found = _of_function(_function(call.func), call.args, source) if name in ("jacrev", "jacfwd", "grad") else None
        found = found and _of_argnums(found, _argument(call.func, 1, "argnums"))
        return replace(found, grad_outputs=("implicit:grad",)) if found and name == "grad" else found
    if isinstance(call.func, ast.Subscript) and _is_vjp(call.func.value):  # vjp(f, x)[1](v)
        assert isinstance(call.func.value, ast.Call)
        found = _vjp(call.func.value, source)
        v = call.args[0] if call.args else None
        return found and replace(found, grad_outputs=_texts(v, source))
    reader = _READERS.get(_path(call.func).rpartition(".")[2])
    return reader(call, source) if reader else None


BACKWARD = "torch.autograd.backward"
TRANSFORMS = ("jacrev", "jacfwd", "grad", "hessian", "grad_and_value", "vjp")
FUNCTIONAL = ("jacobian", "vjp", "jvp", "hessian", "hvp", "vhp")
UNDERSTOOD = frozenset(
    {"func", "inputs", "v", "primals", "tangents", "argnums", "has_aux", "create_graph", "strict", "vectorize", "strategy",
     "outer_jacobian_strategy", "chunk_size", "randomness"}
)  # fmt: skip
"""Keywords of calls on functions whose meaning a request keeps; has_aux only where it is False."""


def _of_argnums(asked: Pasted, argnums: ast.expr | None) -> Pasted | None:
    """By the arguments that `argnums` picks: the first, where it is not given.  None where it can't be read."""
    try:
        chosen = 0 if argnums is None else ast.literal_eval(argnums)
        numbers = [chosen] if isinstance(chosen, int) else list(chosen)
        wrt = tuple(asked.wrt[number] for number in numbers)
    except (ValueError, TypeError, IndexError):
        return None
    return replace(asked, wrt=wrt) if len({*wrt}) == len(wrt) else None


def _grad(call: ast.Call, source: str) -> Pasted | None:
    """torch.autograd.grad(outputs, inputs, grad_outputs)."""
    outputs, inputs = _argument(call, 0, "outputs"), _argument(call, 1, "inputs")
    names = [_wanted(item) for item in _items(inputs)]
    if outputs is None or not names or not all(name.removesuffix(".parameters()").isidentifier() for name in names):
        return None
    items = _items(outputs)
    weights = _weights(_argument(call, 2, "grad_outputs"), len(items), source)
    expression = _text(items[0], source) if len(items) == 1 else f"({', '.join(_text(i, source) for i in items)})"
    batched = _is_true(_argument(call, 7, "is_grads_batched"))
    notes = (*_about_graph(call, 3), *_about_unused(call))
    return Pasted(expression, wrt=tuple(names), grad_outputs=weights, is_grads_batched=batched, notes=notes)


def _wanted(node: ast.expr) -> str:
    """A name, or `net.parameters()`, maybe as a list or tuple."""
    if isinstance(node, ast.Call) and _path(node.func) in ("list", "tuple") and len(node.args) == 1:
        node = node.args[0]
    parameters = isinstance(node, ast.Call) and _path(node.func).endswith(".parameters")
    return f"{_path(node.func)}()" if parameters and isinstance(node, ast.Call) else _path(node)


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


def _hessian(call: ast.Call, source: str) -> Pasted | None:
    """hessian(f, x), hvp(f, x, v): the Jacobian of the gradient, and its product with v, which is the same from both sides."""
    functions, inputs = _function(call), _argument(call, 1, "inputs")
    name = _path(inputs) if inputs is not None else ""
    if not functions or not name.isidentifier():
        return None
    weights = _texts(_argument(call, 2, "v"), source)
    note = "the Hessian is the Jacobian of the gradient, which stands here as y"
    return Pasted(f"torch.func.grad({_text(functions[0], source)})({name})", wrt=(name,), grad_outputs=weights, notes=(note,))


_READERS: Mapping[str, Callable[[ast.Call, str], Pasted | None]] = {
    "grad": _grad, "backward": _backward, "jacobian": _jacobian, "vjp": _vjp, "jvp": _jvp,
    "hessian": _hessian, "hvp": _hessian, "vhp": _hessian,
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
    if not all(name.isidentifier() for name in names) or len({*names}) != len(names):
        return None
    (what,) = function
    if not isinstance(what, ast.Lambda):
        path = _path(what)
        return Pasted(f"{path}({', '.join(names)})", wrt=tuple(names)) if path else None
    parameters = [parameter.arg for parameter in what.args.args]
    taken = what.args
    if len(parameters) != len(names) or taken.posonlyargs or taken.kwonlyargs or taken.vararg or taken.kwarg:
        return None
    if any(own != name and own in names for own, name in zip(parameters, names, strict=True)):
        return None  # they would have to be named all at once
    renamed = [f"{own} = {name}" for own, name in zip(parameters, names, strict=True) if own != name]
    return Pasted("; ".join([*renamed, _text(what.body, source)]), wrt=tuple(names))


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
    in_block = getattr(node, "col_offset", None)  # its lines have the margin of what it stands in
    if isinstance(node, ast.stmt) and _is_block(node) and in_block:
        return ast.unparse(node)
    return ast.get_source_segment(source, node) or ast.unparse(node)


def _path(node: ast.expr) -> str:
    """`torch.autograd.grad` of a dotted name; the last parts alone where it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    return ""
