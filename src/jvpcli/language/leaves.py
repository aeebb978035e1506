"""The leaves of a program, as inputs: what it makes them of is their VALUE.  Only the text is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from jvpcli.language.calls import Pasted, is_block, path, text_of
from jvpcli.language.names import assigned
from jvpcli.language.statements import assignment, is_known, names_imported, names_made, of_leaf


def separate(statement: ast.stmt) -> list[ast.stmt]:
    """`x, w = a, b` as two statements, where one of them makes a leaf."""
    if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple) and len(statement.targets) == 1):
        return [statement]
    (target,), values = statement.targets, statement.value.elts
    if not (isinstance(target, ast.Tuple) and len(target.elts) == len(values) and any(map(of_leaf, values))):
        return [statement]
    return [ast.Assign([part], value, lineno=0) for part, value in zip(target.elts, values, strict=True)]


def without_leaves(statements: Sequence[ast.stmt], code: str) -> tuple[list[ast.stmt], dict[str, str]]:
    """The statements but those that make leaves, and those with their values as text, which may use the leaves before."""
    switched = {name for statement in statements for name in _switches(statement)}
    kept: list[ast.stmt] = []
    leaves: dict[str, str] = {}
    for statement in statements:
        names = names_made(statement) if isinstance(statement, ast.Assign) else []
        value = of_leaf(statement.value) if isinstance(statement, ast.Assign) else None
        if value is None and len(names) == 1 and names[0] in switched and isinstance(statement, ast.Assign):
            value = statement.value
        if value is not None and len(names) == 1 and names[0].isidentifier():
            leaves[names[0]] = _value_text(value, kept, code)
        elif not _switches(statement) and not _is_setting(statement):
            kept.append(statement)
    return kept, leaves


def _switches(statement: ast.stmt) -> list[str]:
    """The names of `x.requires_grad_()`, `x.requires_grad = True`."""
    if isinstance(statement, ast.Assign):
        named = map(path, statement.targets)
        return [each[: -len(".requires_grad")] for each in named if each.endswith(".requires_grad")]
    value = statement.value if isinstance(statement, ast.Expr) else None
    called = path(value.func) if isinstance(value, ast.Call) else ""
    return [called[: -len(".requires_grad_")]] if called.endswith(".requires_grad_") else []


SETTINGS = frozenset(
    {"torch.manual_seed", "torch.set_printoptions", "torch.autograd.set_detect_anomaly", "np.random.seed"}
)
"""Calls that change how torch works, for which the answer has options."""


def _is_setting(statement: ast.stmt) -> bool:
    """`torch.manual_seed(0)` and the like, which change how torch works: the answer has options for that."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    called = path(value.func) if isinstance(value, ast.Call) else ""
    return called.endswith(".retain_grad") or called in SETTINGS


def seed_of(statement: ast.stmt) -> int | None:
    """`torch.manual_seed(0)`"""
    value = statement.value if isinstance(statement, ast.Expr) else None
    if not (isinstance(value, ast.Call) and path(value.func) == "torch.manual_seed" and len(value.args) == 1):
        return None
    number = value.args[0].value if isinstance(value.args[0], ast.Constant) else None
    return number if type(number) is int else None


def _value_text(value: ast.expr, before: Sequence[ast.stmt], code: str) -> str:
    """A value as text, with the statements before it that it needs."""
    needed = _needed(value, before)
    separator = "\n" if any(map(is_block, needed)) else "; "
    return separator.join([*(text_of(part, code) for part in needed), text_of(value, code)])


def _needed(value: ast.AST, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements before that a value needs, in order."""
    wanted = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    found: list[ast.stmt] = []
    for statement in reversed(statements):
        made = {*assigned([statement]), *([] if is_known(statement) else names_imported(statement))}
        if made & wanted:
            found.insert(0, statement)
            wanted |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return found


def without_needless_imports(statements: Sequence[ast.stmt], expression: str) -> list[ast.stmt]:
    """Without the imports of what is there anyway, or that nothing reads."""
    nodes = [node for part in (*statements, ast.parse(expression)) for node in ast.walk(part)]
    read = {node.id for node in nodes if isinstance(node, ast.Name)}
    return [part for part in statements if not names_imported(part) or (read & {*names_imported(part)} and not is_known(part))]


def from_intermediates(
    meant: Pasted, kept: list[ast.stmt], leaves: dict[str, str], code: str
) -> tuple[list[ast.stmt], dict[str, str]] | None:
    """What is asked by a value that the program makes itself: that becomes an input, and what makes it its VALUE.

    None where that cannot be: the value is made more than once or with others, or nothing reads it afterwards.
    """
    kept = [*kept, *(assignment(name, text) for name, text in meant.inputs.items())]
    own = [name for name in meant.wrt if name in assigned(kept)]
    if not own:
        return kept, leaves
    places = {name: [k for k, part in enumerate(kept) if name in assigned([part])] for name in own}
    if any(len(found) != 1 or names_made(kept[found[0]]) != [name] for name, found in places.items()):
        return None
    rest = [part for k, part in enumerate(kept) if [k] not in places.values()]
    later = " ".join([*(text_of(part, code) for k, part in enumerate(kept) if k > min(places[own[0]])), meant.expression])
    if any(not re.search(rf"\b{re.escape(name)}\b", later) for name in own):
        return None
    values = dict(leaves)
    for name in own:
        made = kept[places[name][0]]
        assert isinstance(made, ast.Assign)
        before = [part for part in kept[: places[name][0]] if not set(assigned([part])) & set(own)]
        values[name] = _value_text(made.value, before, code)
    return rest, values
