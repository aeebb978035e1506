"""What a program derives by where it makes no leaf: the tensors that its derivative is given.  Only the text is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from jvpcli.language.calls import (
    FUNCTIONAL,
    TRANSFORMS,
    argument,
    is_backward,
    items,
    maker,
    name_of,
    path,
    picked,
    transformed,
    without_places,
)
from jvpcli.language.dependence import imported, root_of
from jvpcli.language.names import assigned, copied, free_names
from jvpcli.language.statements import NAMESPACES, called_by, names_made

DERIVING = {*TRANSFORMS, *FUNCTIONAL}
FUNCTIONS = (ast.Lambda, ast.FunctionDef)


def derives(node: ast.AST, before: Sequence[ast.stmt]) -> bool:
    """Whether a part of a program calls for a derivative, by itself or by what the names in it stand for."""
    own = {*assigned(before)}
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and root_of(part) not in own]
    if any({name_of(call), name_of(maker(call))} & DERIVING or is_backward(call) for call in calls):
        return True
    return any(derives(before[place], before[:place]) for place in _makers(node, before))


def _makers(node: ast.AST, before: Sequence[ast.stmt]) -> Iterator[int]:
    """The places of the statements that the names in a part of a program stand for."""
    names = free_names(node) - NAMESPACES
    for place in reversed(range(len(before))):
        made = {*assigned([before[place]])}
        if made & names and isinstance(before[place], (ast.Assign, ast.FunctionDef, ast.For)):
            names -= made
            yield place


def given(value: ast.expr, before: Sequence[ast.stmt]) -> tuple[str, ...]:
    """The names of the tensors that the derivatives in a value are given; of a function that is derived, those of `argnums`."""
    found: dict[str, None] = {}
    for name in _read(value):
        maker_ = next((k for k in reversed(range(len(before))) if name in assigned([before[k]])), None)
        statement = None if maker_ is None else before[maker_]
        if not isinstance(statement, ast.Assign) or isinstance(statement.value, ast.Lambda):
            continue
        earlier = before[:maker_]
        if derives(statement.value, earlier):
            found.update(dict.fromkeys(given(statement.value, earlier)))
        elif isinstance(statement.value, ast.Dict):
            held = [path(part) for part in statement.value.values]
            found.update(dict.fromkeys(held if all(map(str.isidentifier, held)) else ()))
        elif _is_tensor(_part(statement, name), earlier):
            found[name] = None
    return tuple(found)


def with_printed(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, where of a text that is made of derivatives, and printed, the derivatives stand there alone."""
    found: list[ast.stmt] = []
    for place, statement in enumerate(statements):
        before = statements[:place]
        call = statement.value if isinstance(statement, ast.Expr) and called_by(statement) == "print" else None
        printed = call.args if isinstance(call, ast.Call) else []
        values = [value for part in printed for value in _made_of(part) if value is part or derives(value, before)]
        if all(value in printed for value in values):
            found.append(statement)
        else:
            call = ast.Call(ast.Name("print", ast.Load()), list(map(copied, values)), [])
            found.append(without_places(ast.copy_location(ast.Expr(ast.copy_location(call, statement)), statement)))
    return found


def _made_of(text: ast.expr) -> list[ast.expr]:
    """What an f-string, `"…".format(…)` or `"…" % …` is made of; anything else itself."""
    if isinstance(text, ast.JoinedStr):
        return [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
    if isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and isinstance(text.func.value, ast.Constant):
        return [*text.args, *(keyword.value for keyword in text.keywords)]
    if isinstance(text, ast.BinOp) and isinstance(text.left, ast.Constant) and isinstance(text.left.value, str):
        return items(text.right)
    return [text]


def with_open_dictionaries(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, where each tensor that is made in a dictionary, a list or a tuple has a name, if a derived function is
    given that."""
    calls = [node for part in statements for node in ast.walk(part) if isinstance(node, ast.Call)]
    derived = any(transformed(call) is not None or name_of(call) in TRANSFORMS for call in calls)
    taken = {path(part) for call in calls for each in call.args for part in items(each)} if derived else set()
    found: list[ast.stmt] = []
    for place, statement in enumerate(statements):
        value, names = statement.value if isinstance(statement, ast.Assign) else None, names_made(statement)
        if not isinstance(value, (ast.Dict, ast.List, ast.Tuple)) or len(names) != 1 or names[0] not in taken:
            found.append(statement)
            continue
        held = value.values if isinstance(value, ast.Dict) else value.elts
        texts = map(str, range(len(held)))
        given_keys = [getattr(key, "value", None) for key in value.keys] if isinstance(value, ast.Dict) else texts
        keys = [key if isinstance(key, str) and f"_{key}".isidentifier() else "" for key in given_keys]
        own = [each.id if isinstance(each, ast.Name) else f"{names[0]}_{key}" for key, each in zip(keys, held, strict=True)]
        makes = [(name, each) for name, each in zip(own, held, strict=True) if not isinstance(each, ast.Name)]
        free = {name for name, _ in makes}.isdisjoint(assigned(statements))
        if all(keys) and len({*own}) == len(own) and free and all(_is_tensor(each, statements[:place]) for each in held):
            found += [without_places(ast.parse(f"{name} = {ast.unparse(each)}").body[0]) for name, each in makes]
            loads: list[ast.expr] = [ast.Name(name, ast.Load()) for name in own]
            again = ast.Dict(value.keys, loads) if isinstance(value, ast.Dict) else type(value)(loads, ast.Load())
            statement = without_places(ast.parse(f"{names[0]} = {ast.unparse(again)}").body[0])
        found.append(statement)
    return found


def _read(value: ast.AST) -> list[str]:
    """The names that a value reads, in order; of a call of a derived function those of the arguments that are derived by."""
    if isinstance(value, FUNCTIONS):
        return []
    if isinstance(value, ast.Name):
        return [value.id]
    parts: Sequence[ast.AST] = list(ast.iter_child_nodes(value))
    if isinstance(value, ast.Call) and transformed(value) is not None and maker(value) is not value:
        chosen = picked(_argnums(maker(value)), len(value.args))
        parts = value.args if chosen is None else [value.args[place] for place in chosen]
        if name_of(maker(value)) == "vjp":
            parts = maker(value).args[1:]
        return [name for part in parts for name in _read(part)]
    elif isinstance(value, ast.Call) and (transformed(value) is not None or name_of(value) in ("vjp", "jvp")):
        parts = [*value.args[1:], *(keyword.value for keyword in value.keywords if keyword.arg != "func")]
    names = free_names(value)  # without those of comprehensions
    return [name for part in parts for name in _read(part) if name in names]


def _argnums(made: ast.Call) -> ast.expr | None:
    """Which arguments a function is derived by: what the innermost transform that says so says."""
    inner = argument(made, 0, "func")
    if isinstance(inner, ast.Call) and (name_of(inner) in TRANSFORMS or name_of(inner) == "vmap"):
        return _argnums(inner)
    return None if name_of(made) == "vmap" else argument(made, 1, "argnums")


def _part(statement: ast.Assign, name: str) -> ast.expr:
    """What an assignment gives to one of its names, where that stands there by itself; else all that it gives."""
    made, values = names_made(statement), items(statement.value)
    return values[made.index(name)] if name in made and len(values) == len(made) else statement.value


def _is_tensor(value: ast.AST, before: Sequence[ast.stmt]) -> bool:
    """Whether a value is made by torch: no number, size, function or module."""
    made = path(value.func) if isinstance(value, ast.Call) else ""
    if re.fullmatch(r"(?:torch\.)?nn\.(?!Parameter)[A-Z]\w*", made):
        return False
    if not isinstance(value, (ast.Call, ast.Subscript, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Name)):
        return False
    if isinstance(value, ast.Attribute) and value.attr in ("shape", "ndim", "dtype", "device"):
        return False
    names = {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}
    torchs = {name for part in before for name in imported(part)} | NAMESPACES
    makes = any(isinstance(part, ast.Call) and not isinstance(part.func, ast.Name) for part in ast.walk(value))
    if makes and names & torchs:
        return True
    makers = ((place, before[place]) for place in _makers(value, before))
    return any(isinstance(part, ast.Assign) and _is_tensor(part.value, before[:place]) for place, part in makers)
