"""The leaves of a program, as inputs: what it makes them of is their VALUE.  Only the text is read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jvpcli.language import refusals
from jvpcli.language.calls import (
    Pasted,
    asked,
    is_block,
    is_true,
    layers,
    makes_function,
    parsed,
    path,
    text_of,
    transformed,
    without_places,
)
from jvpcli.language.dependence import changed, drawing, imported, is_known, needed, root_of, seed_of
from jvpcli.language.names import assigned, copied, free_names, method_of, separated, turns_on
from jvpcli.language.statements import (
    NAMESPACES,
    all_read,
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


def separate(statement: ast.stmt) -> list[ast.stmt]:
    """`x, w = a, b` as two statements, where none reads what one before makes."""
    parts = separated(statement) if isinstance(statement, ast.Assign) else []
    names = names_made(statement)
    if len(parts) < 2 or any(free_names(part.value) & {*names[:place]} for place, part in enumerate(parts)):
        return [statement]
    return [*parts]


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


def without_leaves(statements: Sequence[ast.stmt], code: str) -> tuple[list[ast.stmt], dict[str, str]]:
    """The statements but those that make leaves, and those with their values as text, which may use the leaves before.

    Raises:
        ForbiddenError: what becomes a leaf by `x.requires_grad_()` may have a graph, or another name, or is used before that.
    """
    draws, modules = drawing(statements), modules_of(statements)
    kept: list[ast.stmt] = []
    leaves: dict[str, str] = {}
    later: set[str] = set()

    def switches(part: ast.stmt) -> list[str]:
        """The tensors that a statement makes leaves; a module is none, nor is what it has."""
        return [name for name in _switches(part) if name.isidentifier() and name not in modules]

    for place, statement in enumerate(statements):
        switched = switches(statement)
        for name in switched:
            if name not in leaves and name in assigned(kept):
                raise refusals.leaf_behind(name)
        later -= {*switched}
        idle = functions_of([statement]) or is_passed_over(statement)
        used = set() if idle else changed(statement) if isinstance(statement, ast.Expr) else all_read(free_names(statement), kept)
        for name in sorted(later & used):
            raise refusals.leaf_behind(name)
        names = names_made(statement) if isinstance(statement, ast.Assign) else []
        value = of_leaf(statement.value) if isinstance(statement, ast.Assign) else None
        same = value if value is not None and _turns(statement) else None
        if value is None and len(names) == 1 and isinstance(statement, ast.Assign) and (
            any(names[0] in switches(part) for part in statements[place:])
        ):  # fmt: skip
            value = same = statement.value
            if any(each.id in _with_graph(kept, {*leaves, *modules}) for each in read_with_graph(value)):
                raise refusals.switched(names[0])
            later.add(names[0])
        if same is not None and any(root_of(same) in free_names(part) for part in statements[place + 1 :] if _is_one(same)):
            raise refusals.leaf_behind(root_of(same))
        if value is not None and len(names) == 1 and names[0].isidentifier():
            leaves[names[0]] = _value_text(value, kept, code, is_first=not leaves)
            kept += [ast.Expr(value)] if draws(value) else []  # what is drawn after it comes after it
        elif not (switched or _is_said_otherwise(statement)):
            kept.append(statement)
    return kept, leaves


def _turns(statement: ast.stmt) -> bool:
    """Whether a statement gives a name to `x.requires_grad_()`, which is x."""
    value = getattr(statement, "value", None)
    return isinstance(value, ast.Call) and path(value.func).endswith(".requires_grad_")


def _is_one(value: ast.expr) -> bool:
    """Whether a value may be a tensor that has a name already: `y`, `x.to(device)`."""
    if isinstance(value, ast.Call):
        return path(value.func).rpartition(".")[2] in AS_IT_IS
    return isinstance(value, ast.Name)


AS_IT_IS = frozenset({"to", "type", "float", "double", "half", "cpu", "cuda", "contiguous"})
"""Methods that give a tensor itself where there is nothing to do."""


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


def _is_said_otherwise(statement: ast.stmt) -> bool:
    """Whether a statement only says how torch works, or that a gradient is to be kept: the answer has options for that."""
    return is_setting(statement, "torch.set_default_device") or method_of(statement) == "retain_grad"


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
    parts = (*statements, *ast.parse(expression).body)
    read = set().union(*(free_names(part.value if isinstance(part, ast.Assign) else part) for part in parts))

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

    None where nothing reads the value afterwards.

    Raises:
        ForbiddenError: it is made more than once or with others.
    """
    kept = [*kept, *(assignment(name, text) for name, text in meant.inputs.items())]
    own = [name for name in meant.wrt if name in assigned(kept)]
    if not own:
        return kept, leaves
    places = {name: [k for k, part in enumerate(kept) if name in assigned([part])] for name in own}
    if any(len(found) != 1 or names_made(kept[found[0]]) != [name] for name, found in places.items()):
        raise refusals.made_again(own[0])
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
