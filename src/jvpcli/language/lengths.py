"""How many turns a loop makes that only its values end.  Only the text is read here; what runs it is given."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from jvpcli.language.calls import is_backward, is_block, name_of, parsed, text_of, without_places
from jvpcli.language.names import copied
from jvpcli.language.statements import is_passed_over, unused_name
from jvpcli.language.training import Training

Count = Callable[[str], int | None]
"""The whole number that a program's text ends with; None where it can't be run."""


def is_left_early(loop: ast.For | ast.While) -> bool:
    """Whether values decide how many turns a loop makes, or what of one runs."""
    return isinstance(loop, ast.While) or any(isinstance(part, (ast.Break, ast.Continue, ast.Return)) for part in _own(loop.body))


def of_known_length(loop: ast.For | ast.While, before: Sequence[ast.stmt], code: str, count: Count) -> ast.For | None:
    """A loop up to the last of its turns that asks for a derivative; None where that isn't known, or none asks.

    `before` is all that has run before the loop.
    """
    asking = [place for place, part in enumerate(loop.body) if _asks(part)]
    if not asking or loop.orelse or any(isinstance(part, ast.Return) for part in _own(loop.body)):
        return None
    turns, last = unused_name("turns", [*before, loop]), unused_name("last_turn", [*before, loop])
    body = [_line(f"{turns} += 1"), *loop.body]
    body.insert(asking[-1] + 1, _line(f"{last} = {turns}"))
    counting = copied(loop)
    counting.body = body
    training = Training.of(before)
    ran = [part for part in before if not is_passed_over(part) or training.carries(part)]
    lines = [*ran, _line(f"{turns} = {last} = 0"), without_places(counting), _line(last)]
    number = count("\n".join(text_of(part, code) for part in lines))
    if not number:
        return None
    if isinstance(loop, ast.While):
        return ast.For(ast.Name(turns, ast.Store()), parsed(f"range({number})"), loop.body, [], lineno=0)
    items, end = ast.Call(ast.Name("list", ast.Load()), [loop.iter], []), ast.Slice(upper=ast.Constant(number))
    return ast.For(loop.target, ast.Subscript(items, end, ast.Load()), loop.body, [], lineno=0)


def straight(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a turn that is not left before its end."""
    leaves = any(isinstance(part, (ast.Break, ast.Continue)) for part in _own(body))
    return [without_places(_Straight().visit(copied(part))) for part in body] if leaves else body


class _Straight(ast.NodeTransformer):
    """Puts nothing in the place of what leaves a turn."""

    def visit_Break(self, node: ast.Break) -> ast.AST:
        """`break`"""
        return ast.copy_location(ast.Pass(), node)

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        """`continue`"""
        return ast.copy_location(ast.Pass(), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """What else there is; loops inside have their own."""
        return node if isinstance(node, (ast.For, ast.While, ast.FunctionDef)) else super().generic_visit(node)


def _own(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run in a loop's turn itself: not those of loops and functions in it, whose `break` is theirs."""
    for part in statements:
        yield part
        if isinstance(part, (ast.For, ast.While)):  # a return leaves all
            yield from (each for each in ast.walk(part) if isinstance(each, ast.Return))
        elif is_block(part) and not isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            yield from _own([each for each in ast.iter_child_nodes(part) if isinstance(each, ast.stmt)])


def _asks(statement: ast.stmt) -> bool:
    calls = [part for part in ast.walk(statement) if isinstance(part, ast.Call)]
    return any(is_backward(call) or name_of(call) == "grad" for call in calls)


def _line(text: str) -> ast.stmt:
    return without_places(ast.parse(text).body[0])
