"""Dual numbers of torch.autograd.forward_ad, and `linearize`, as the forward derivative that they take: torch.func.jvp.

Only the text is read; no torch is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from jvpcli.language.names import assigned, copied

FORWARD_AD = "torch.autograd.forward_ad."


def with_duals(statements: Sequence[ast.stmt], path: Callable[[ast.expr], str], taken: str) -> list[ast.stmt]:
    """Statements where what stands under `dual_level` is a function that `torch.func.jvp` pushes the tangents through.

    `path` tells what a name means by its imports; `taken` is a text whose words are no names for it.
    """
    found: list[ast.stmt] = []
    for part in statements:
        levels = [path(item.context_expr) for item in part.items] if isinstance(part, ast.With) else []
        pushed = _pushed(part.body, path, taken) if isinstance(part, ast.With) and levels == [f"{FORWARD_AD}dual_level"] else None
        found += [part] if pushed is None else pushed
    return found


def _pushed(body: Sequence[ast.stmt], path: Callable[[ast.expr], str], taken: str) -> list[ast.stmt] | None:
    """The function that is computed with dual numbers, and behind it what is taken of its derivative.

    None where that is not plain.
    """
    places = [place for place, part in enumerate(body) if _calls(part, "unpack_dual", path)]
    ends = {ast.unparse(call.args[0]) for place in places for call in _calls(body[place], "unpack_dual", path) if call.args}
    within, rest = body[: places[0]] if places else body, body[places[0] :] if places else []
    duals = [call for part in body for call in _calls(part, "make_dual", path)]
    behind = {name for part in rest for name in assigned([part])}
    if len(ends) != 1 or not duals or any(len(call.args) != 2 or call.keywords for call in duals):
        return None
    if any(_calls(part, "make_dual", path) for part in rest[1:]) or behind & {*assigned(within)}:
        return None
    name = "function" if "function" not in taken else "function_of_the_text"
    parameters = [f"{name}_{number}" for number in range(len(duals))]
    given = {id(call): ast.Name(own, ast.Load()) for call, own in zip(duals, parameters, strict=True)}
    (end,) = (ast.parse(text, mode="eval").body for text in ends)
    inline = next(call for part in rest[:1] for call in _calls(part, "unpack_dual", path))
    value = end if not _calls(inline.args[0], "make_dual", path) else _Instead(given).visit(copied_with(inline.args[0], given))
    inside = [_Instead(given).visit(copied_with(part, given)) for part in within]
    (function,) = ast.parse(f"def {name}({', '.join(parameters)}): pass").body
    assert isinstance(function, ast.FunctionDef)
    function.body = [*inside, ast.Return(value)]
    primals, tangents = (ast.Tuple([call.args[place] for call in duals], ast.Load()) for place in (0, 1))
    jvp = ast.Call(ast.parse("torch.func.jvp", mode="eval").body, [ast.Name(name, ast.Load()), primals, tangents], [])
    unpacked = {id(call): jvp for part in rest for call in _calls(part, "unpack_dual", path)}
    return [function, *(_Instead(unpacked).visit(part) for part in rest)]


def copied_with(node: ast.AST, new: dict[int, ast.Name]) -> ast.AST:
    """A part of a text once more, whose calls that get another node in their place are known as those of the first."""
    again = copied(node)
    new.update({id(made): new[id(old)] for old, made in zip(ast.walk(node), ast.walk(again), strict=True) if id(old) in new})
    return again


def _calls(node: ast.AST, name: str, path: Callable[[ast.expr], str]) -> list[ast.Call]:
    return [part for part in ast.walk(node) if isinstance(part, ast.Call) and path(part) == FORWARD_AD + name]


class _Instead(ast.NodeTransformer):
    """Puts other expressions in the place of some calls, which are given by their identities; `.tangent` is the second of two."""

    def __init__(self, new: dict[int, ast.Name] | dict[int, ast.Call]) -> None:
        self.new = new

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`unpack_dual(y).tangent`"""
        made = self.new.get(id(node.value))
        if isinstance(made, ast.Call) and node.attr in ("primal", "tangent"):
            return ast.Subscript(copied(made), ast.Constant(int(node.attr == "tangent")), ast.Load())
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call."""
        made = self.new.get(id(node))
        return self.generic_visit(node) if made is None else copied(made)
