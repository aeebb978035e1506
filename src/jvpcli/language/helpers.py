"""A program's own functions: by the modules and optimizers that they are given, and in the place of their calls.

Only the text is read; no torch is loaded.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from jvpcli.language.calls import (
    argument,
    has_graph,
    is_backward,
    items,
    makes_function,
    name_of,
    parsed,
    path,
    without_places,
)
from jvpcli.language.dependence import root_of
from jvpcli.language.names import assigned, class_of, copied, free_names, imported_paths, method_of, separated
from jvpcli.language.statements import (
    NAMESPACES,
    all_read,
    assignment,
    called_by,
    grads_in,
    of_leaf,
    opened,
    reads_grad,
    unused_name,
)
from jvpcli.language.training import Renamed, Training

Known = tuple[tuple[str, str], ...]
"""Parameters of a function, each with the name that a call gives for it."""

Bound = list[tuple[str, ast.expr]]
"""The parameters of a function with what a call gives for them, in the order of the call."""


MOST_FORMS = 64
"""How many functions may come to those of a program; one that calls itself would have one for each of its calls."""


MOST_CALLS = 8
"""How often a function may be called whose calls of backward stand in the place of each."""


def in_place(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, with each function that is called once, for what it does, in the place of its call.

    A function that is given modules, optimizers or schedules, and does more than to call them, knows them by their own names;
    where it is given different ones, there is one for each.
    """
    found = [*statements]
    count = _functions_in(found)
    for _ in range(3 * count + 8 if count else 0):
        again = _once_called(_by_name(_with_losses(_with_closures(found))))
        if again == found or _functions_in(again) > count + MOST_FORMS:
            break
        found = again
    return found


def _functions_in(statements: Sequence[ast.stmt]) -> int:
    return sum(isinstance(node, ast.FunctionDef) for part in statements for node in ast.walk(part))


def _with_closures(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with a function that one step of an optimizer calls as what comes before that step."""
    uses = [node.id for part in statements for node in ast.walk(part) if isinstance(node, ast.Name)]
    training = Training.of(statements)
    for place, outer in enumerate(statements if training.moved else ()):
        body = outer.body if isinstance(outer, (ast.For, ast.While)) else [outer]
        functions = {part.name: part for part in (*statements[:place], *body) if isinstance(part, ast.FunctionDef)}
        for part in body:
            call = part.value if isinstance(part, (ast.Expr, ast.Assign)) else None
            given = call.args if isinstance(call, ast.Call) and len(call.args) == 1 else []
            closure = functions.get(path(given[0])) if given else None
            if not isinstance(call, ast.Call) or closure is None or any(_arguments(closure.args)):
                continue
            name = path(call.func).removesuffix(".step")
            if name in training.searching and not any(map(training.derives, statements[place + 1 :])):
                made = [part for part in statements if isinstance(part, ast.Assign) and of_leaf(part.value)]
                weights = training.moved[name] & {*assigned(made), *training.modules}
                return _asked_last(statements, outer, closure, weights, training.modules)
            once = uses.count(closure.name) == 1 and not isinstance(outer, ast.While)
            if not once or name not in {*training.moved} - training.searching:
                continue
            computed = _with(part, {id(call): ast.copy_location(ast.Call(ast.Name(closure.name, ast.Load()), [], []), call)})
            step = without_places(ast.copy_location(ast.Expr(ast.Call(call.func, [], [])), part))
            inner = [each for each in body if each is not closure]
            at = inner.index(part)
            inner[at : at + 1] = [computed, step]
            first = [closure] if closure in body else []
            done = [*first, *_with_block([outer], body, inner)] if isinstance(outer, ast.For) else inner
            return [*statements[:place], *done, *statements[place + 1 :]]
    return statements


def _asked_last(
    statements: list[ast.stmt], outer: ast.stmt, closure: ast.FunctionDef, weights: Collection[str], modules: Collection[str]
) -> list[ast.stmt]:
    """The statements, with what a function computes behind the last step of LBFGS that calls it, at its last call's weights."""
    seen, once = unused_name("seen", statements), unused_name("once", statements)
    noted, back = [f"{seen}.clear()"], list[str]()
    for each in sorted(weights):
        through, weight = (f"for p in {each}.parameters(): ", "p") if each in modules else ("", each)
        noted.append(f"{through}{seen}.append({weight}.detach().clone())")
        back.append(f"{through}{weight}.data.copy_({seen}.pop(0))")
    again = copied(closure)
    asks = next(place for place, part in enumerate(again.body) if any(map(is_backward, _calls_in(part))))
    again.body[asks:asks] = _lines(noted)
    without_places(again)
    steps = [_with(outer, {id(closure): again}), *_lines(back)]
    loop = ast.For(ast.Name(once, ast.Store()), parsed("range(1)"), steps, [], lineno=0)
    begun = [again if part is closure else part for part in statements[: statements.index(outer)]]
    behind = statements[statements.index(outer) + 1 :]
    computed = [without_places(copied(part)) for part in closure.body if not isinstance(part, ast.Return)]
    return [*begun, assignment(seen, "[]"), without_places(loop), *computed, *behind]


def _lines(texts: Sequence[str]) -> list[ast.stmt]:
    return [without_places(part) for text in texts for part in ast.parse(text).body]


def _calls_in(node: ast.AST) -> list[ast.Call]:
    return [part for part in ast.walk(node) if isinstance(part, ast.Call)]


def _with_losses(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with a name for each loss that is made where a function is called: `train(net, nn.MSELoss())`."""
    paths = imported_paths(ast.Module(statements, []))
    functions = {part.name for part in statements if isinstance(part, ast.FunctionDef)}
    found: list[ast.stmt] = []
    for part in statements:
        nodes = [] if isinstance(part, (ast.FunctionDef, ast.ClassDef)) else [*ast.walk(part)]
        calls = [node for node in nodes if isinstance(node, ast.Call) and path(node.func) in functions]
        names: dict[int, ast.AST] = {}
        for each in (given for call in calls for given in (*call.args, *(keyword.value for keyword in call.keywords))):
            plain = isinstance(each, ast.Call) and all(isinstance(value.value, ast.Constant) for value in each.keywords)
            if isinstance(each, ast.Call) and plain and not each.args and class_of(each.func, paths).endswith("Loss"):
                name = unused_name("criterion_", [*statements, *found])
                found.append(without_places(ast.copy_location(assignment(name, copied(each)), part)))
                names[id(each)] = ast.copy_location(ast.Name(name, ast.Load()), each)
        found.append(_with(part, names))
    return found


def _by_name(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with functions that know the modules, optimizers and schedules that they are given."""
    training = Training.of(statements)
    made = Counter(name for part in statements for name in assigned([part]))
    functions = _only_called(statements, made) if training.modules or training.moved else {}
    shared = {name for name in {*training.modules, *training.moved, *training.schedules} - {*functions} if made[name] == 1}
    ways: dict[int, tuple[str, Known]] = {}
    for part in statements:
        within = isinstance(part, (ast.FunctionDef, ast.ClassDef))
        own = _names_inside(part) if within else {each.arg for each in _arguments(part)}
        for call in (node for node in ast.walk(part) if isinstance(node, ast.Call) and path(node.func) in functions):
            ways[id(call)] = path(call.func), _known(functions[path(call.func)], call, shared - own)
    forms = {way: way[0] for way in ways.values() if way[1]}
    for way in forms:
        if len({other for other in ways.values() if other[0] == way[0]}) > 1:
            forms[way] = unused_name("_".join((way[0], *(name for _, name in way[1]))), statements)
    found: list[ast.stmt] = []
    waiting: list[tuple[set[str], ast.stmt]] = []
    for part in statements:
        calls = [node for node in ast.walk(part) if isinstance(node, ast.Call) and ways.get(id(node), ("", ()))[1]]
        again = _with(part, {id(call): _call_of(call, forms[ways[id(call)]], ways[id(call)][1]) for call in calls})
        name = part.name if isinstance(part, ast.FunctionDef) else ""
        if not any(way[0] == name for way in forms) or any(way[0] == name and not way[1] for way in ways.values()):
            found.append(again)
        made_by = {*assigned([*found])}
        waiting += [({each for _, each in way[1]} - made_by, _form(again, way[1], forms[way])) for way in forms if way[0] == name]
        found += [form for later, form in waiting if not later - made_by]  # behind what they know
        waiting = [(later, form) for later, form in waiting if later - made_by]
    return found if forms else statements


def _known(function: ast.FunctionDef, call: ast.Call, shared: Collection[str]) -> Known:
    """The parameters for which a call gives shared names; none where the function only calls them, or could not know them."""
    known = tuple((name, path(given)) for name, given in _bound(function, call) or () if path(given) in shared)
    names, again = {name for name, _ in known}, [node.arg for node in _arguments(function)]
    if names & {*assigned(function.body)} or any(again.count(name) > 1 for name in names):
        return ()
    if {each for _, each in known} & (_names_inside(function) - names):
        return ()
    nodes = [node for part in function.body for node in ast.walk(part)]
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    asks = any(isinstance(node, ast.Call) and (is_backward(node) or name_of(node) == "grad") for node in nodes)
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id in names]
    return known if asks or any(id(node) not in called for node in uses) else ()


def _call_of(call: ast.Call, name: str, known: Known) -> ast.Call:
    """A call of a function that knows a part of what it is given."""
    given, words = {each for _, each in known}, {word for word, _ in known}
    arguments = [part for part in call.args if path(part) not in given]
    function = ast.copy_location(ast.Name(name, ast.Load()), call.func)
    return ast.copy_location(ast.Call(function, arguments, [part for part in call.keywords if part.arg not in words]), call)


def _form(function: ast.stmt, known: Known, name: str) -> ast.stmt:
    """A function that knows a part of what it is given, under another name."""
    again = without_places(copied(function))
    if isinstance(again, ast.FunctionDef):
        names = dict(known)
        again.name, again.args.args = name, [part for part in again.args.args if part.arg not in names]
        again.body = [Renamed(names).visit(part) for part in again.body]
    return again


def _bound(function: ast.FunctionDef, call: ast.Call) -> Bound | None:
    """The parameters of a function with what a call gives for them, and their defaults, where that is plain."""
    taken, names = function.args, [part.arg for part in function.args.args]
    others = [*taken.posonlyargs, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    words = [part.arg for part in call.keywords]
    if any(others) or len(call.args) > len(names) or any(isinstance(part, ast.Starred) for part in call.args):
        return None
    found = [*zip(names, call.args, strict=False), *((part.arg or "", part.value) for part in call.keywords)]
    lacking = [name for name in names if name not in dict(found)]
    defaults = dict(zip(names[len(names) - len(taken.defaults) :], taken.defaults, strict=True))
    if len(dict(found)) < len(found) or not {*words} <= {*names} or not {*lacking} <= {*defaults}:
        return None
    return [*found, *((name, defaults[name]) for name in lacking)]


def _only_called(statements: Sequence[ast.stmt], made: Mapping[str, int]) -> dict[str, ast.FunctionDef]:
    """The functions of a program that have no other use than that they are called, each under its one name."""
    nodes = [node for part in statements for node in ast.walk(part)]
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    others = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called}
    others |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {
        part.name: part
        for part in statements
        if isinstance(part, ast.FunctionDef) and made[part.name] == 1 and part.name not in others
        and all(path(getattr(mark, "func", mark)).endswith("no_grad") for mark in part.decorator_list)
        and all(isinstance(each, ast.Constant) or root_of(each) in NAMESPACES for each in part.args.defaults)
    }  # fmt: skip


def _arguments(node: ast.AST) -> Iterator[ast.arg]:
    return (part for part in ast.walk(node) if isinstance(part, ast.arg))


def _names_inside(node: ast.AST) -> set[str]:
    """All names that a part of a program gives a meaning, those in its functions and comprehensions among them."""
    stored = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)}
    return stored | {part.arg for part in _arguments(node)}


def _once_called(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with what `main()` does in its place, where its names mean nothing else in the program."""
    made = Counter(name for part in statements for name in assigned([part]))
    plain = [part for part in statements if isinstance(part, ast.FunctionDef) and not part.decorator_list]
    functions = {part.name: part for part in plain if made[part.name] == 1}  # else it is another one at another place
    uses = [node.id for part in statements for node in ast.walk(part) if isinstance(node, ast.Name)]
    paths = imported_paths(ast.Module(statements, []))
    for body, statement, call in _calls(statements, functions):
        function = functions[path(call.func)]
        count = uses.count(function.name)
        passes = any(isinstance(node, ast.Call) and is_backward(node) for node in ast.walk(function))
        given = _given(function, call) if count == 1 or (passes and count <= MOST_CALLS) else None
        classes = {part.name for part in statements if isinstance(part, ast.ClassDef)} if body is statements else set[str]()
        done = _done_by(function, call, statement, paths, classes) if given is not None else None
        if given is None or done is None:
            continue
        begun, names = given
        done = [without_places(Renamed(names).visit(copied(part))) for part in done] if names else done
        gone = [function, statement] if count == 1 else [statement]
        rest = [part for part in statements if part not in gone]
        rest = [_with(part, {id(statement): ast.Pass()}) for part in rest]
        own = {*assigned([*function.body, *begun])} - {part.arg for part in function.args.args if part.arg not in assigned(begun)}
        own -= {"_", *(assigned([statement]) if isinstance(statement, ast.Assign) else ())}
        meant = own & set().union({*assigned(rest)}, *map(free_names, rest))  # something else there
        if passes and meant.isdisjoint(part.arg for node in function.body for part in _arguments(node)):
            others = Renamed({name: unused_name(f"{name}_", [*statements, *done]) for name in meant})
            begun, done = ([without_places(others.visit(copied(part))) for part in each] for each in (begun, done))
            meant = set()
        if not meant:
            place = body.index(statement)
            again = [*body[:place], *begun, *opened(done), *body[place + 1 :]]
            return [part for part in _with_block(statements, body, again) if part is statement or part not in gone]
    return statements


def _calls(
    body: list[ast.stmt], functions: Collection[str]
) -> Iterator[tuple[list[ast.stmt], ast.stmt, ast.Call]]:
    """The calls of functions that statements, and those of loops among them, make first of all, with where they stand."""
    for part in body:
        if isinstance(part, ast.For):
            yield from _calls(part.body, functions)
        value = part.value if isinstance(part, (ast.Expr, ast.Assign, ast.AugAssign)) else None
        if isinstance(value, ast.Call) and called_by(part) in ("print", "append"):
            value = next((each for each in value.args if isinstance(each, ast.Call) and path(each.func) in functions), None)
        if isinstance(value, ast.Call) and path(value.func) in functions:
            yield body, part, value


def _done_by(
    function: ast.FunctionDef, call: ast.Call, statement: ast.stmt, paths: Mapping[str, str], classes: Collection[str]
) -> list[ast.stmt] | None:
    """What a function does in the place of a statement that calls it; None where it leaves in another way than at its end.

    What one gives back is taken out of it only where it calls backward, which a function that is differentiated never does,
    asks for a gradient without a graph or by a leaf of its own, or makes an optimizer, a leaf or an object of some classes.
    """
    *body, last = function.body
    if not _leaves(function.body):
        return function.body if isinstance(statement, ast.Expr) and statement.value is call else None
    calls = [part for part in ast.walk(function) if isinstance(part, ast.Call)]
    makes = isinstance(statement, ast.Assign) and isinstance(last, ast.Return) and last.value is not None and any(
        path(part.func) in classes or of_leaf(part) is not None for part in _makes(last.value, body)
    )  # fmt: skip
    by_own = any(map(is_backward, calls)) or _asks_by_its_own(function, calls)
    asks = makes or by_own or (not any(map(has_graph, calls)) and any(
        (name_of(each) == "grad" and not makes_function(each)) or _makes_optimizer(each, paths) for each in calls
    ))  # fmt: skip
    if not asks or _leaves(body) or not isinstance(last, ast.Return) or last.value is None or _gathers(body, last.value):
        return None
    if isinstance(statement, ast.Assign):
        whole = ast.Assign(statement.targets, last.value, lineno=0)
        parts = [each for each in separated(whole) if path(each.targets[0]) != path(each.value) or not path(each.value)]
        crossed = any(free_names(part.value) & {*assigned(parts[:place])} for place, part in enumerate(parts))
        called = {path(part.value): path(part.targets[0]) for part in parts if path(part.value) in assigned(body)}
        plain = all(map(str.isidentifier, called.values())) and _names_inside(function).isdisjoint(called.values())
        if crossed or not plain:
            return [*body, *([whole] if crossed else parts)]
        named = Renamed(called)  # what it makes has the names that it gets outside
        kept = [*body, *(each for each in parts if path(each.value) not in called)]
        return [without_places(named.visit(copied(part))) for part in kept]
    shown = isinstance(statement, ast.Expr) and (statement.value is call or called_by(statement) == "print")
    return [*body, ast.Expr(last.value) if shown else _with(statement, {id(call): last.value})]


def _makes(given: ast.expr, body: Sequence[ast.stmt]) -> Iterator[ast.Call]:
    """The calls that make what a function gives back, or that a name in it is assigned."""
    made = [part.value for part in body if isinstance(part, ast.Assign) and free_names(given) & {*assigned([part])}]
    for value in (given, *made):
        yield from (part for part in ast.walk(value) if isinstance(part, ast.Call))


def _asks_by_its_own(function: ast.FunctionDef, calls: Sequence[ast.Call]) -> bool:
    """Whether a function asks for gradients, all by leaves that it makes itself, and at last for one that ends there."""
    leaves = {name for part in function.body if isinstance(part, ast.Assign) and of_leaf(part.value) for name in assigned([part])}
    later = {root_of(part.value) for part in function.body if isinstance(part, ast.Expr) and method_of(part) == "requires_grad_"}
    leaves |= later & {*assigned(function.body)}
    derived = [each for each in calls if name_of(each) == "grad" and not makes_function(each)]
    asked = [argument(each, 1, "inputs") for each in derived]
    last = max(derived, key=lambda each: (each.lineno, each.col_offset), default=None)
    ends = last is not None and not has_graph(last)
    return ends and all(given is not None and {*map(path, items(given))} <= leaves for given in asked)


def _gathers(body: list[ast.stmt], given: ast.expr) -> bool:
    """Whether a value is computed of what a loop of the statements before takes from .grad in each turn: it is no gradient."""
    turns = [part for loop in body if isinstance(loop, (ast.For, ast.While)) for part in ast.walk(loop)]
    taken = [part for part in turns if isinstance(part, (ast.Assign, ast.AugAssign)) and reads_grad(part)]
    made = {name for part in taken for name in {*assigned([part])} - {root_of(node) for node in grads_in(part)}}
    passes = any(isinstance(part, ast.expr) and is_backward(part) for part in turns)
    return passes and not made.isdisjoint(all_read(free_names(given), body))


def _makes_optimizer(call: ast.Call, paths: Mapping[str, str]) -> bool:
    root, _, rest = path(call.func).partition(".")
    return f"{paths.get(root, root)}.{rest}".startswith(("torch.optim.", "optim."))


def _given(function: ast.FunctionDef, call: ast.Call) -> tuple[list[ast.Assign], Mapping[str, str]] | None:
    """What a function's parameters are made before it does anything, and those that have other names outside; None where that
    is not plain.

    No name of what there is gets another one: what changes it would change it under both.
    """
    bound = _bound(function, call)
    pairs = [(name, given) for name, given in bound or () if path(given) != name]
    names = {name: path(given) for name, given in pairs if isinstance(given, ast.Name)}
    plain = (ast.Call, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Lambda)  # what nothing else has a name for
    made = all(name in names or isinstance(given, plain) or root_of(given) in NAMESPACES for name, given in pairs)
    again = [node.arg for node in _arguments(function)]
    inside = {*assigned(function.body)}.union(name for name in again if again.count(name) > 1 or name not in names)
    if bound is None or not made or not inside.isdisjoint({*names, *names.values()}):
        return None
    return [assignment(name, given) for name, given in pairs if name not in names], names


def _leaves(statements: Sequence[ast.AST]) -> bool:
    """Whether a function's body gives something back, or changes names around it."""
    own = [part for part in statements if not isinstance(part, (ast.FunctionDef, ast.ClassDef, ast.Lambda))]
    leaving = (ast.Return, ast.Global, ast.Nonlocal, ast.Yield)
    return any(isinstance(part, leaving) or _leaves(list(ast.iter_child_nodes(part))) for part in own)


# Other parts in a tree


def _with(part: ast.stmt, new: Mapping[int, ast.AST]) -> ast.stmt:
    """A statement with other nodes in the place of some, which are given by their identities; itself where it has none."""
    if new.keys().isdisjoint(map(id, ast.walk(part))):
        return part
    again = copied(part)
    nodes = {id(made): new[id(old)] for old, made in zip(ast.walk(part), ast.walk(again), strict=True) if id(old) in new}
    found = without_places(_Exchanged(nodes).visit(again))
    assert isinstance(found, ast.stmt)
    return found


class _Exchanged(ast.NodeTransformer):
    """Puts other nodes in the place of some."""

    def __init__(self, nodes: Mapping[int, ast.AST]) -> None:
        self.nodes = nodes

    def visit(self, node: ast.AST) -> ast.AST:
        """A node: the one in its place, or itself with those in it."""
        found: ast.AST = self.nodes[id(node)] if id(node) in self.nodes else self.generic_visit(node)
        return found


def _with_block(statements: list[ast.stmt], body: list[ast.stmt], again: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with others as the body of one of them, or of one in it."""
    if statements is body:
        return again
    found: list[ast.stmt] = []
    for part in statements:
        inner = _with_block(part.body, body, again) if isinstance(part, ast.For) else []
        if isinstance(part, ast.For) and inner is not part.body:
            part = ast.copy_location(ast.For(part.target, part.iter, inner, part.orelse), part)
            part.end_lineno = None
        found.append(part)
    return found if any(old is not new for old, new in zip(statements, found, strict=True)) else statements
