"""The leaves of a program, as inputs: what it makes them of is their VALUE.  Only the text is read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jvpcli.language import refusals
from jvpcli.language.calls import (
    Pasted,
    asked,
    is_block,
    is_true,
    items,
    layers,
    makes_function,
    parsed,
    path,
    text_of,
    transformed,
    without_places,
)
from jvpcli.language.dependence import changed, drawing, imported, is_known, makers, needed, root_of, seed_of
from jvpcli.language.names import assigned, copied, free_names, method_of, separated, targets, turns_on
from jvpcli.language.statements import (
    NAMESPACES,
    assignment,
    functions_of,
    is_passed_over,
    is_setting,
    modules_of,
    names_made,
    of_leaf,
    read_with_graph,
    reads_grad,
    unused_name,
)


def separate(statement: ast.stmt, inputs: Collection[str] = ()) -> list[ast.stmt]:
    """`x, w = a, b` as two statements, where one makes a leaf, or one of some inputs, and none reads what one before makes."""
    parts = separated(statement) if isinstance(statement, ast.Assign) else []
    names = names_made(statement)
    if len(parts) < 2 or any(free_names(part.value) & {*names[:place]} for place, part in enumerate(parts)):
        return [statement]
    makes = {*names_made(statement)} & {*inputs} or any(of_leaf(part.value) for part in parts)
    return [*parts] if makes else [statement]


def with_switches_apart(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, where `y = x.requires_grad_() * 2` is `x.requires_grad_()` and `y = x * 2`: it gives the tensor itself.

    So it is behind `x = y`.  Where nothing else reads the name, the leaf may get another one.
    """
    found: list[ast.stmt] = []
    for place, statement in enumerate(statements):
        named = [name for name in _switches(statement) if name.isidentifier()]
        if origins := [origin for name in named if (origin := _origin(name, statements[:place])) != name]:
            found += map(_switch, origins)
            continue
        apart = _Switched(assigned([statement]))
        is_plain = isinstance(statement, (ast.Assign, ast.AugAssign, ast.Expr)) and not _switches(statement)
        again = apart.visit(copied(statement)) if is_plain else statement
        parts = [node for part in (again, *statements[place + 1 :]) for node in ast.walk(part)] if apart.names else []
        read = [node.id for node in parts if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        if any(read.count(name) > apart.names.count(name) for name in apart.names):
            found += map(_switch, dict.fromkeys(_origin(name, statements[:place]) for name in apart.names))
            found.append(without_places(again))
        else:
            found.append(statement)
    return found


def _switch(name: str) -> ast.stmt:
    return without_places(ast.parse(f"{name}.requires_grad_()").body[0])


def _origin(name: str, before: Sequence[ast.stmt]) -> str:
    """The name that stands for the same tensor longest: `x` behind `y = x`."""
    for place, part in reversed([*enumerate(before)]):
        if name in assigned([part]):
            value = part.value if isinstance(part, ast.Assign) and names_made(part) == [name] else None
            same = isinstance(value, ast.Name) and value.id not in assigned(before[place + 1 :])
            return _origin(value.id, before[:place]) if same and isinstance(value, ast.Name) else name
    return name


UNNAMED = "{name} is made of the leaf {leaf}, and no leaf itself: without retain_grad() its .grad is None in PyTorch"


def with_named_leaves(statements: Sequence[ast.stmt]) -> tuple[list[ast.stmt], list[str]]:
    """The statements, where each leaf that is made inside of another value has a name, and what is to be said of that."""
    found: list[ast.stmt] = []
    notes: list[str] = []
    for statement in statements:
        names = names_made(statement)
        listed = isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.List, ast.Tuple, ast.Dict))
        inside = list(_leaves_inside(statement.value)) if isinstance(statement, ast.Assign) else []
        named = len(names) == 1 and names[0].isidentifier()
        if not isinstance(statement, ast.Assign) or not named or not inside or inside == [statement.value]:
            found.append(statement)
            continue
        again = copied(statement)
        for number, leaf in enumerate(list(_leaves_inside(again.value))):
            own = _key(again.value, leaf) or str(number) if listed else "leaf"
            name = unused_name(f"{names[0]}_{own}", [*statements, *found])
            found.append(without_places(assignment(name, copied(leaf))))
            notes += [] if listed else [UNNAMED.format(name=names[0], leaf=name)]
            again.value = _Instead(leaf, name).replaced(again.value)
        found.append(without_places(again))
    return found, notes


def _key(value: ast.expr, leaf: ast.expr) -> str:
    """The word under which a dictionary has a leaf; empty where it has none for it."""
    pairs = zip(value.keys, value.values, strict=True) if isinstance(value, ast.Dict) else ()
    words = [key.value for key, each in pairs if each is leaf and isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return words[0] if words and words[0].isidentifier() else ""


def _leaves_inside(value: ast.AST) -> Iterator[ast.expr]:
    """The leaves that a value makes, or that are the items of a list; but those in lists and functions of its own."""
    if isinstance(value, (ast.List, ast.Tuple)):
        yield from (item for item in value.elts if of_leaf(item) is not None)
    elif isinstance(value, ast.Call) and of_leaf(value) is not None:
        yield value
    elif not isinstance(value, MAKING_MANY):
        parts = (part for part in ast.iter_child_nodes(value) if not isinstance(part, OF_ITS_OWN))
        yield from (leaf for part in parts for leaf in _leaves_inside(part))


MAKING_MANY = (ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.DictComp)
"""What makes as many leaves as it runs times."""

OF_ITS_OWN = (ast.List, ast.Tuple, ast.Dict, *MAKING_MANY)
"""Lists and functions in a value, whose leaves have no names."""


def with_own_names(statements: Sequence[ast.stmt], inputs: Collection[str] = ()) -> list[ast.stmt]:
    """The statements, where a leaf, or one of some inputs, is made anew under a name the one before under its own: `x_1`.

    A function that reads the name finds what it stands for when it is called; of such a program nothing is renamed.
    """
    statements = [part for statement in statements for part in separate(statement, inputs)]
    found = [*statements]
    taken = {node.id for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Name)}
    made = [
        names_made(part) if _makes_leaf(part, {*_switched(statements[place:]), *inputs}) else []
        for place, part in enumerate(statements)
    ]
    for name in dict.fromkeys(each for names in made for each in names):
        last = max(place for place, names in enumerate(made) if name in names)
        places = [k for k, part in enumerate(statements[: last + 1]) if name in made[k] or _is_made_plain(part, name)]
        if len(places) < 2 or any(_reads_later(part, name) for part in statements):
            continue
        for number, (start, end) in enumerate(zip([0, *places[1:]], places[1:], strict=False), 1):
            own = _Renamed(name, next(each for k in range(len(taken) + 1) if (each := f"{name}_{number}{'_' * k}") not in taken))
            for place in range(start, end + 1):
                found[place] = own.renamed(found[place], values_only=place == end, targets_only=place == start > 0)
    return found


def _is_made_plain(statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, ast.Assign) and names_made(statement) == [name]


def _makes_leaf(statement: ast.stmt, switched: Collection[str]) -> bool:
    if not isinstance(statement, ast.Assign) or len(names_made(statement)) != 1:
        return False
    return of_leaf(statement.value) is not None or names_made(statement)[0] in switched


def _reads_later(statement: ast.stmt, name: str) -> bool:
    """Whether a function in a statement reads a name that is not its own."""
    functions = [node for node in ast.walk(statement) if isinstance(node, (ast.Lambda, ast.FunctionDef))]
    return any(name in free_names(node) for node in functions)


@dataclass(frozen=True)
class _Renamed:
    """A name, and the one that stands for it in a part of a program."""

    name: str
    by: str

    def renamed(self, statement: ast.stmt, *, values_only: bool = False, targets_only: bool = False) -> ast.stmt:
        """A statement with the name replaced; of an assignment maybe only in what it reads, or in what it gives."""
        again = copied(statement)
        for node in self._free(again):
            if not (values_only and isinstance(node.ctx, ast.Store)) and not (targets_only and isinstance(node.ctx, ast.Load)):
                node.id = self.by
        return without_places(again)

    def _free(self, node: ast.AST) -> Iterator[ast.Name]:
        """The uses of the name, but those by which functions mean something of their own."""
        if isinstance(node, ast.Name) and node.id == self.name:
            yield node
        if not isinstance(node, (ast.Lambda, ast.FunctionDef)):
            for part in ast.iter_child_nodes(node):
                yield from self._free(part)


def without_leaves(statements: Sequence[ast.stmt], code: str) -> tuple[list[ast.stmt], dict[str, str]]:
    """The statements but those that make leaves, and those with their values as text, which may use the leaves before.

    Raises:
        ForbiddenError: what may have a graph by a leaf is told to require a gradient, or what may have a second name.
    """
    draws = drawing(statements)
    kept: list[ast.stmt] = []
    leaves: dict[str, str] = {}
    later: dict[str, int] = {}
    written: dict[str, list[ast.stmt]] = {}
    own = {*assigned(statements)}
    modules, functions = modules_of(statements), {*assigned(functions_of(statements))}

    def switches(part: ast.stmt) -> list[str]:
        """The tensors that a statement makes leaves; a module is none, nor is what it has."""
        return [name for name in _switches(part) if name.isidentifier() and name not in modules]

    def refuse_graph(name: str, value: ast.expr) -> None:
        """Refuse a value that becomes a leaf here, and may have a graph by another."""
        graphs = _with_graph(kept, {*leaves, *modules})
        if any(each.id in graphs for each in read_with_graph(value)):
            raise refusals.switched(name)

    shared: set[str] = set()  # what leaves are made of, which may be in the same memory
    for place, statement in enumerate(statements):
        name = _written(statement)
        if name in written and not (draws(statement) or name in shared.union(*map(free_names, kept))) and (
            not isinstance(getattr(statement, "targets", [None])[0], ast.Attribute) or own.isdisjoint(_read_by(statement))
        ):  # fmt: skip
            written[name].append(without_places(_Whole(name).visit(copied(statement))))
            leaves[name] = _value_text(ast.Name(name, ast.Load()), written[name], code, is_first=next(iter(leaves)) == name)
            continue
        before = {name for name, switch in later.items() if place < switch} & free_names(statement)
        parts = items(statement.value) if isinstance(statement, ast.Assign) else []
        for name in sorted(before):
            read = set().union(*map(free_names, statements[later[name] :]))
            if read & {*names_made(statement)} and any(_may_give(part, name, functions) for part in parts):
                raise refusals.moved(name)
        if before and not isinstance(statement, ast.Expr):  # read before it is a leaf, it is a constant
            statement = without_places(_Detached(before).visit(copied(statement)))
        names = names_made(statement) if isinstance(statement, ast.Assign) else []
        value = of_leaf(statement.value) if isinstance(statement, ast.Assign) else None
        if value is None and len(names) == 1 and isinstance(statement, ast.Assign) and (
            any(names[0] in switches(part) for part in statements[place:])
        ):  # fmt: skip
            value = None if _is_filled(names[0], statements[place + 1 :]) else statement.value
            if value is not None:
                refuse_graph(names[0], value)
                later[names[0]] = next(k for k, part in enumerate(statements) if k >= place and names[0] in switches(part))
        if (filled := [name for name in switches(statement) if name not in leaves]) and filled[0] in assigned(kept):
            refuse_graph(filled[0], ast.Name(filled[0], ast.Load()))
            names, value = filled, ast.Name(filled[0], ast.Load())  # what was made of it until here is its VALUE
            made, kept = kept, [part for part in kept if not _makes(part, filled[0])]
            read = set().union(*map(free_names, (*kept, *statements[place + 1 :])))
            kept = [part for part in made if part in kept or {*assigned([part]), *changed(part)} & read - {*filled}]
            kept = _with_draws(made, kept, draws, _Renamed(filled[0], unused_name(f"{filled[0]}_", statements)))
            leaves[filled[0]] = _value_text(value, made, code, is_first=not leaves)
            continue
        if value is not None and len(names) == 1 and names[0].isidentifier():
            leaves[names[0]] = _value_text(value, kept, code, is_first=not leaves)
            shared |= free_names(value)
            if own.isdisjoint(free_names(value)):
                written[names[0]] = [*kept, assignment(names[0], value)]
            kept += [ast.Expr(value)] if draws(value) else []  # what is drawn after it comes after it
        elif not (switches(statement) or _is_said_otherwise(statement)):
            kept.append(statement)
    return kept, leaves


def _may_give(value: ast.expr, name: str, functions: Collection[str]) -> bool:
    """Whether a value may be the tensor of some name itself, which a function is given, or has its dtype: `x.to(device)`."""
    if not isinstance(value, ast.Call) or path(value.func).rpartition(".")[2] not in {*AS_IT_IS, *functions}:
        return False
    held = value.func.value if isinstance(value.func, ast.Attribute) else None
    return name in {part.id for part in (held, *value.args) if isinstance(part, ast.Name)}


AS_IT_IS = frozenset({"to", "type", "float", "double", "half", "cpu", "cuda", "contiguous", "as_tensor", "asarray"})
"""Methods and functions that give a tensor itself where there is nothing to do."""


def _with_graph(statements: Sequence[ast.stmt], leaves: Collection[str]) -> set[str]:
    """The names of what may have a graph by some leaves behind some statements, as far as their text tells."""
    found = {*leaves}
    for part in statements:
        if isinstance(part, ast.With):  # of which those that change something record no gradients
            continue
        made = {*assigned([part]), *changed(part)}
        if any(name.id in found for name in read_with_graph(part.value if isinstance(part, ast.Assign) else part)):
            found |= made
        elif isinstance(part, ast.Assign) and not changed(part):
            found -= made - {*leaves}
    return found


def _with_draws(
    made: Sequence[ast.stmt], kept: Sequence[ast.stmt], draws: Callable[[ast.AST], bool], again: _Renamed
) -> list[ast.stmt]:
    """What is kept of some statements, and under another name what the others draw: what is drawn behind it comes behind it."""
    found: list[ast.stmt] = []
    others: list[ast.stmt] = []
    for part in made:
        if part in kept:
            found.append(part)
            continue
        others.append(again.renamed(part))
        if draws(part):
            found.append(ast.With([ast.withitem(parsed("torch.no_grad()"))], others, lineno=0))
            others = []
    return found


def _written(statement: ast.stmt) -> str:
    """The leaf whose numbers a statement changes behind autograd: by `x.data[0] = 1`, `x.data = y`; empty for any other."""
    written = targets(statement) if isinstance(statement, (ast.Assign, ast.AugAssign)) else []
    owner: ast.AST | None = written[0] if len(written) == 1 and not reads_grad(statement) else None
    while isinstance(owner, ast.Subscript):
        owner = owner.value
    is_data = isinstance(owner, ast.Attribute) and owner.attr == "data" and isinstance(owner.value, ast.Name)
    return owner.value.id if is_data and isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) else ""


def _read_by(statement: ast.stmt) -> set[str]:
    return free_names(statement.value) if isinstance(statement, ast.Assign) else free_names(statement)


def _is_said_otherwise(statement: ast.stmt) -> bool:
    """Whether a statement only says how torch works, or that a gradient is to be kept: the answer has options for that."""
    return is_setting(statement, "torch.set_default_device") or method_of(statement) == "retain_grad"


def _switched(statements: Sequence[ast.stmt]) -> set[str]:
    """The names of what becomes a leaf later on."""
    return {name for statement in statements for name in _switches(statement)}


def _is_filled(name: str, after: Sequence[ast.stmt]) -> bool:
    """Whether a value is changed where it is before it becomes a leaf."""
    switch = next(place for place, part in enumerate(after) if name in _switches(part)) if any(
        name in _switches(part) for part in after
    ) else 0
    return any(name in changed(part) for part in after[:switch])


def with_filled_leaves(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, where a leaf that is filled under torch.no_grad(), before anything reads it, becomes one behind that."""
    found: list[list[ast.stmt]] = [[statement] for statement in statements]
    for place, statement in enumerate(statements):
        names, value = names_made(statement), of_leaf(statement.value) if isinstance(statement, ast.Assign) else None
        if not isinstance(statement, ast.Assign) or value is None or len(names) != 1:
            continue
        last = place
        for k in range(place + 1, len(statements)):
            if _fills(statements[k], names[0]):
                last = k
            elif names[0] in free_names(statements[k]) and not is_passed_over(statements[k]):
                break
        if last > place:
            found[place] = [without_places(ast.copy_location(ast.Assign(statement.targets, value), statement))]
            found[last].append(_switch(names[0]))
    return [part for parts in found for part in parts]


def _fills(statement: ast.stmt, name: str) -> bool:
    """Whether a statement does nothing but write to a tensor, where no gradients are recorded."""
    if isinstance(statement, ast.For):
        return all(_fills(part, name) for part in statement.body)
    without = isinstance(statement, ast.With) and all(
        isinstance(each.context_expr, ast.Call) and path(each.context_expr.func).endswith("no_grad") for each in statement.items
    )
    makes = any(made for part in ast.walk(statement) if isinstance(part, ast.Assign) for made in names_made(part))
    return without and not makes and changed(statement) == {name} and not reads_grad(statement)


def _makes(statement: ast.stmt, name: str) -> bool:
    """Whether a statement makes or changes that value."""
    return name in {*assigned([statement]), *changed(statement)}


def _switches(statement: ast.stmt) -> list[str]:
    """The names of `x.requires_grad_()`, `x.requires_grad = True`."""
    if isinstance(statement, ast.Assign):
        named = map(path, statement.targets if is_true(statement.value) else [])
        return [each[: -len(".requires_grad")] for each in named if each.endswith(".requires_grad")]
    value = statement.value if isinstance(statement, ast.Expr) else None
    called = path(value.func) if isinstance(value, ast.Call) else ""
    return [called[: -len(".requires_grad_")]] if called.endswith(".requires_grad_") and turns_on(value) else []


def _value_text(value: ast.expr, before: Sequence[ast.stmt], code: str, is_first: bool = False) -> str:
    """A value as text, with the statements before it that it needs; the first value begins with the seed by itself."""
    parts = needed(value, before)
    if is_first and len(parts) == 1 and seed_of(parts[0]) is not None:
        parts = []
    separator = "\n" if any(map(is_block, parts)) else "; "
    return separator.join([*(text_of(part, code) for part in parts), text_of(value, code)])


def with_weights(meant: Pasted, kept: Sequence[ast.stmt], code: str) -> tuple[list[ast.stmt], Pasted]:
    """A request with the weights that the program makes, and the statements that it needs besides.

    Weights that are drawn at random stand in variables of the program, drawn behind all else; so do those made of a part of
    something that the program makes, which may be no tensor, of a list or number of its own, or of what `.grad` holds.  A
    tangent is there before the program runs: it is a VALUE that says itself what it is made of.
    """
    meant = replace(meant, tangent=tuple(_value_text(parsed(text), kept, code) for text in meant.tangent))
    draws, own = drawing(kept), {*assigned(kept)}

    made = {name: part.value for part in kept if isinstance(part, ast.Assign) for name in names_made(part)}
    plain = {name for name, value in made.items() if isinstance(value, (ast.List, ast.Tuple, ast.ListComp, ast.Constant))}

    def takes_part(weight: ast.expr) -> bool:
        parts = [part.value for part in ast.walk(weight) if isinstance(part, ast.Subscript)]
        of_own = any(isinstance(part, ast.Name) and part.id in own for part in parts)
        return of_own or reads_grad(weight) or not plain.isdisjoint(free_names(weight))

    weights = [None if text.startswith("implicit") else parsed(text) for text in meant.grad_outputs]
    if not any(weight is not None and (draws(weight) or takes_part(weight)) for weight in weights):
        return [], meant
    *before, last = meant.expression.split("; ")  # parameters of a function, by the names of what is given for them
    added: list[ast.stmt] = [assignment(own, given) for own, given in (text.split(" = ") for text in before)]
    y = last if last.isidentifier() else unused_name("y", [*kept, *added])
    added += [] if y == last else [assignment(y, last)]
    names: list[str] = []
    for text, weight in zip(meant.grad_outputs, weights, strict=True):
        names.append(text if weight is None else unused_name("v" + "_" * len(names), [*kept, *added]))
        added += [] if weight is None else [assignment(names[-1], weight)]
    return added, replace(meant, expression=y, grad_outputs=tuple(names))


STATE = {"requires_grad", "is_leaf", "grad_fn"}
"""What tensors say of how their gradients are recorded."""


def without_needless_asking(statements: Sequence[ast.stmt], expression: str) -> list[ast.stmt]:
    """Without what only asks how gradients are recorded, for names that nothing reads."""
    read = set().union(*map(_read_by, (*statements, *ast.parse(expression).body)))

    def asks(part: ast.stmt) -> bool:
        is_plain = isinstance(part, ast.Assign) and all(isinstance(target, ast.Name) for target in part.targets)
        words = {node.attr for node in ast.walk(part) if isinstance(node, ast.Attribute)}
        return is_plain and not STATE.isdisjoint(words) and not changed(part) and read.isdisjoint(assigned([part]))

    return [part for part in statements if not asks(part)]


def without_needless_imports(statements: Sequence[ast.stmt], expression: str) -> list[ast.stmt]:
    """Without the imports of what is there anyway, and without those and the names for derivatives that nothing reads."""
    nodes = [node for part in (*statements, ast.parse(expression)) for node in ast.walk(part)]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}

    def is_needless(part: ast.stmt) -> bool:
        calls = [node for node in ast.walk(part) if isinstance(node, ast.Call)]
        derives = isinstance(part, ast.Assign) and bool(calls) and all(map(makes_function, calls))
        made = names_made(part) if derives else imported(part)
        return bool(made) and (read.isdisjoint(made) or is_known(part))

    kept = [part for part in statements if not is_needless(part)]
    return kept if len(kept) == len(statements) else without_needless_imports(kept, expression)


def from_intermediates(
    meant: Pasted, kept: list[ast.stmt], leaves: dict[str, str], code: str
) -> tuple[list[ast.stmt], dict[str, str]] | None:
    """What is asked by a value that the program makes itself: that becomes an input, and what makes it its VALUE.

    None where that cannot be: the value is made more than once or with others, or nothing reads it afterwards.
    """
    kept = [part for statement in kept for part in separate(statement, meant.wrt)]
    kept += [assignment(name, text) for name, text in meant.inputs.items()]
    own = [name for name in meant.wrt if name in assigned(kept)]
    if not own:
        return kept, leaves
    places = {name: [k for k, part in enumerate(kept) if name in assigned([part])] for name in own}
    if any(len(found) != 1 or names_made(kept[found[0]]) != [name] for name, found in places.items()):
        return _as_left(meant, kept, leaves, own, code)
    draws = drawing(kept)
    made = {place: part for (place,) in places.values() if isinstance(part := kept[place], ast.Assign)}
    rest: list[ast.stmt] = []
    before: dict[int, list[ast.stmt]] = {}
    for place, part in enumerate(kept):
        before[place] = [*rest]
        if place not in made:
            rest.append(part)
        elif draws(made[place].value):
            rest.append(ast.Expr(made[place].value))  # what is drawn after it comes after it
    after = [part for place, part in enumerate(kept) if place > min(places[own[0]]) and not _derives(part, code)]
    later = " ".join([*(text_of(part, code) for part in after), meant.expression])
    if any(not re.search(rf"\b{re.escape(name)}\b", later) for name in own):
        return None
    values = dict(leaves)
    for name in own:
        (place,) = places[name]
        values[name] = _value_text(_without_flags(made[place].value), before[place], code, is_first=not values)
    return rest, values


def _as_left(
    meant: Pasted, kept: list[ast.stmt], leaves: dict[str, str], own: Sequence[str], code: str
) -> tuple[list[ast.stmt], dict[str, str]] | None:
    """What is asked by values that blocks make, or that are made again and again: their VALUE is what the program leaves in them.

    None where anything else that is asked for is made by the same, or of what they were before; or random numbers are drawn.
    """
    makes = [part for part in kept if {*assigned([part]), *changed(part)} & {*own}]
    wanted = parsed(meant.expression)
    stays = makers(wanted, [part for part in kept if part not in makes])
    read = free_names(wanted).union(*map(free_names, stays)) - {*own}
    if any(map(drawing(kept), kept)) or {*assigned(makes)} & read or any(free_names(part) & {*own} for part in stays):
        return None
    left = {name: _value_text(ast.Name(name, ast.Load()), kept, code) for name in own}
    return stays, {**leaves, **left}


def plainly_made(names: Iterable[str], kept: Sequence[ast.stmt]) -> list[str]:
    """Those of the names that torch makes of numbers alone, where nothing says later that they require a gradient."""
    if any(isinstance(node, ast.Attribute) and node.attr.startswith("requires_grad") for part in kept for node in ast.walk(part)):
        return []
    made = {name: part.value for part in kept if isinstance(part, ast.Assign) for name in names_made(part)}
    return [name for name in names if name in made and is_plainly_made(made[name])]


def without_plain(code: str, is_wanted: Callable[[str], bool]) -> tuple[str, dict[str, str]]:
    """A program without the tensors that torch makes of numbers alone and that are wanted; these, by name, as what makes them."""
    kept = ast.parse(code).body
    again = {name for name, number in Counter(assigned(kept)).items() if number > 1}
    plain = {
        names_made(part)[0]: part
        for part in kept
        if isinstance(part, ast.Assign) and is_plainly_made(part.value) and {*assigned([part])} - again == {*names_made(part)[:1]}
    }
    plain = {name: part for name, part in plain.items() if is_wanted(text_of(part.value, code))}
    rest = [text_of(part, code) for part in kept if part not in plain.values()]
    between = "\n" if any(map(is_block, kept)) else "; "
    return between.join(rest), {name: text_of(part.value, code) for name, part in plain.items()}


def is_plainly_made(value: ast.expr) -> bool:
    """Whether a value is what a function of torch makes of numbers alone: `torch.randn(3)`."""
    return isinstance(value, ast.Call) and root_of(value.func) == "torch" and free_names(value) <= NAMESPACES


def _without_flags(value: ast.expr) -> ast.expr:
    """A value without `requires_grad=True` in it: what it is differentiated by is the value itself."""
    if not any(map(of_leaf, (part for part in ast.walk(value) if isinstance(part, ast.expr)))):
        return value
    return without_places(_Plain().visit(copied(value)))


class _Detached(ast.NodeTransformer):
    """Reads some names as `x.detach()`, where something is made of them: `y = x` and `[x]` are x itself."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """An assignment; `y[0] = x` copies numbers."""
        parts = [part for target in node.targets for part in ast.walk(target)]
        copies = any(isinstance(part, (ast.Subscript, ast.Attribute)) for part in parts)
        node.value = self.visit(node.value) if copies else self._held(node.value)
        return node

    def _held(self, node: ast.expr) -> ast.expr:
        """What gets a name, or is put into a list."""
        if isinstance(node, (ast.List, ast.Tuple)):
            node.elts = [*map(self._held, node.elts)]
        elif isinstance(node, ast.Dict):
            node.values = [*map(self._held, node.values)]
        elif isinstance(node, ast.IfExp):
            node.test, node.body, node.orelse = self.visit(node.test), self._held(node.body), self._held(node.orelse)
        elif not isinstance(node, ast.Name):
            node = self.visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name."""
        if node.id not in self.names or not isinstance(node.ctx, ast.Load):
            return node
        return ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])


class _Whole(ast.NodeTransformer):
    """Reads `x.data` as x."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """An attribute, and those in it."""
        is_data = node.attr == "data" and isinstance(node.value, ast.Name) and node.value.id == self.name
        return ast.Name(self.name, node.ctx) if is_data else self.generic_visit(node)


class _Switched(ast.NodeTransformer):
    """Reads `x.requires_grad_()` as x, of names that are not `own`, where it runs once; `names` are these."""

    def __init__(self, own: Collection[str]) -> None:
        self.own, self.names = own, list[str]()

    def visit(self, node: ast.AST) -> Any:
        """A part, and those in it."""
        if isinstance(node, MAKING_MANY):
            return node
        method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        held = method.value if method is not None and method.attr == "requires_grad_" else None
        if not isinstance(held, ast.Name) or held.id in self.own or not isinstance(node, ast.Call) or not turns_on(node):
            return self.generic_visit(node)
        self.names.append(held.id)
        return held


class _Instead(ast.NodeTransformer):
    """Puts a name where one part of a value stands."""

    def __init__(self, part: ast.expr, name: str) -> None:
        self.part, self.name = part, name

    def replaced(self, value: ast.expr) -> ast.expr:
        """The value with the name in it."""
        found: ast.expr = self.visit(value)
        return found

    def visit(self, node: ast.AST) -> Any:
        """A part, and those in it."""
        return ast.Name(self.name, ast.Load()) if node is self.part else self.generic_visit(node)


class _Plain(ast.NodeTransformer):
    """Replaces leaves by what they are made of."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, and those in it."""
        plain = of_leaf(node)
        return self.generic_visit(node) if plain is None else self.visit(plain)


def _derives(statement: ast.stmt, code: str) -> bool:
    """Whether a statement is a derivative call on a graph, which reads what it is by, and makes nothing of it."""
    value = getattr(statement, "value", None)
    return any(asked(layer, code) for layer in layers(value) if transformed(layer) is None)
