"""Of a loop that asks for derivatives, one turn in its place.  Only the text is read; nothing of it is run."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from dataclasses import dataclass

from jvpcli.language.calls import argument, is_backward, text_of
from jvpcli.language.dependence import changed, drawing, needed
from jvpcli.language.leaves import without_leaves
from jvpcli.language.names import assigned, read_first
from jvpcli.language.statements import assignment, cleared, unused_name
from jvpcli.language.subject import around, calls_of, shows


@dataclass(frozen=True)
class Turn:
    """A program whose last derivative call stands in a loop, with one turn of it in the loop's place.

    Attributes:
        statements: the program with that turn; any other program as it is.
        start: the statements from this one on are the turn's.
        notes: what is to be said of it.
        adds_up: whether it is all turns at once, whose gradients add up.
        carried: names whose values are what the turns before leave.
        earlier: the program up to that turn.
    """

    statements: list[ast.stmt]
    start: int = 0
    notes: tuple[str, ...] = ()
    adds_up: bool = False
    carried: tuple[str, ...] = ()
    earlier: Sequence[ast.stmt] = ()

    def left(self, code: str) -> dict[str, str]:
        """What the turns before leave in the carried names, as text."""
        if not self.carried:
            return {}
        *before, loop = self.earlier
        lines = [text_of(part, code) for part in (*needed(loop, before), loop)]
        return {name: "\n".join([*lines, name]) for name in self.carried}


def one_turn(statements: list[ast.stmt], code: str, outside: Sequence[ast.stmt] = ()) -> Turn:
    """A program that ends with a loop that asks for derivatives, by one turn: the last, where that is known; else the program.

    Where no turn clears or moves anything, the gradients of all turns add up; so do those of a loop in it.  What stands
    `outside` comes before the statements.
    """
    shown = statements
    while len(shown) > 1 and isinstance(end := shown[-1], ast.Expr) and (shows(end, set()) or isinstance(end.value, ast.Name)):
        shown = shown[:-1]
    last = shown[-1] if shown else None
    if not isinstance(last, (ast.For, ast.While)):
        return Turn(statements)
    before = shown[:-1]
    inner = one_turn(last.body, code, [*outside, *before])
    if inner.adds_up:
        last = copy.copy(last)
        last.body = inner.statements
    calls = {each.place: each.call for each in calls_of(last.body, code) if around(last.body[each.place], each.node) is not None}
    if not calls:
        return Turn(statements)
    end_place = max(calls)
    body, call, start = last.body[: end_place + 1], calls[end_place], len(before)
    if isinstance(last, ast.While) or _leaves_early(last) or any(map(drawing(statements), last.body)):
        head = [_assign(last.target, _item(last.iter, 0))] if isinstance(last, ast.For) else []
        return Turn([*before, *head, *last.body], start, ("of the loop the first turn is shown",))
    wanted = needed(body[-1], [*before, *body[:-1]])
    body = [part for place, part in enumerate(body) if part in wanted or place in calls]  # not what only keeps a record
    made = {*assigned([last]), *changed(last)}
    around_it = [*outside, *before]
    own = {*assigned(around_it)} - {*assigned([_assign(last.target, last.iter)])}
    if changed(last) - own or any(isinstance(part, ast.AugAssign) and not {*assigned([part])} <= own for part in ast.walk(last)):
        made |= {*without_leaves(around_it, code)[1]}  # by another name
    carried = tuple(name for name in assigned(around_it) if name in made & own & read_first(body))
    if is_backward(call) and isinstance(call.func, ast.Attribute) and not (
        carried or cleared(last) or argument(call, 0, "gradient")
    ):
        total = unused_name("total", [*statements, *body])
        added = assignment(total, ast.BinOp(ast.Name(total, ast.Load()), ast.Add(), call.func.value))
        again = ast.For(last.target, last.iter, [*body[:-1], added], [], lineno=0)
        whole = ast.Call(ast.Attribute(ast.Name(total, ast.Load()), "backward", ast.Load()), [], [])
        ended = ast.Expr(ast.copy_location(whole, call))
        note = "of the loop's calls of backward PyTorch adds the gradients up in .grad, and so does the result"
        return Turn([*before, assignment(total, "0"), again, ended], start, (note,), True)
    earlier = ast.For(last.target, _item(last.iter, slice(None, -1)), last.body, [], lineno=0)
    left = f", at what the turns before it leave in {', '.join(carried)}" if carried else ""
    turn = [*before, _assign(last.target, _item(last.iter, -1)), *body]
    return Turn(turn, start, (f"of the loop the last turn is shown{left}",), False, carried, [*before, earlier])


def _leaves_early(loop: ast.stmt) -> bool:
    return any(isinstance(part, (ast.Break, ast.Return)) for part in ast.walk(loop))


def _assign(target: ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([target], value, lineno=0)


def _item(items: ast.expr, place: int | slice) -> ast.expr:
    """`list(items)[0]`, `list(items)[:-1]`"""
    key = ast.Slice(upper=ast.Constant(place.stop)) if isinstance(place, slice) else ast.Constant(place)
    return ast.Subscript(ast.Call(ast.Name("list", ast.Load()), [items], []), key, ast.Load())
