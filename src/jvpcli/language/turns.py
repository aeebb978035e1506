"""Of a loop that asks for derivatives, one turn in its place.  Only the text is read; nothing of it is run."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from jvpcli.language.calls import (
    FUNCTIONAL,
    TRANSFORMS,
    argument,
    has_graph,
    is_backward,
    name_of,
    path,
    text_of,
    without_places,
)
from jvpcli.language.dependence import changed, drawing, needed, root_of
from jvpcli.language.leaves import without_leaves
from jvpcli.language.lengths import Count, is_left_early, of_known_length, straight
from jvpcli.language.names import assigned, constructed, copied, free_names, in_order, method_of, read_first, separated
from jvpcli.language.statements import (
    all_read,
    assignment,
    cleared,
    is_passed_over,
    names_made,
    of_leaf,
    reads_grad,
    unused_name,
)
from jvpcli.language.subject import about_clipping, around, calls_of, parameters_in, shows
from jvpcli.language.training import Renamed, Training, is_by_hand


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
        trains: whether the turns before have moved weights, which they leave as the turn finds them.
        ran: all that runs before the call of the turn.
    """

    statements: list[ast.stmt]
    start: int = 0
    notes: tuple[str, ...] = ()
    adds_up: bool = False
    carried: tuple[str, ...] = ()
    earlier: Sequence[ast.stmt] = ()
    trains: bool = False
    ran: Sequence[ast.stmt] = ()

    def left(self, code: str) -> dict[str, str]:
        """What the turns before leave in the carried names, as text."""
        if not self.carried:
            return {}
        *before, loop = self.earlier
        lines = [text_of(part, code) for part in (*needed(loop, before), loop)]
        parts = {part: value for name in self.carried for part, value in _parts(name, before).items()}
        return {name: "\n".join([*lines, value]) for name, value in parts.items()}


def _parts(name: str, before: Sequence[ast.stmt]) -> dict[str, str]:
    """The names of the tensors in a dictionary, and what each is taken by; of anything else its own."""
    made = [part.value for part in before if isinstance(part, ast.Assign) and assigned([part]) == [name]]
    held = made[-1] if made else None
    pairs = zip(held.keys, held.values, strict=True) if isinstance(held, ast.Dict) else ()
    return {path(value): f"{name}[{ast.unparse(key)}]" for key, value in pairs if key is not None} or {name: name}


def is_collection(name: str, before: Sequence[ast.stmt]) -> bool:
    """Whether a name stands for a list or dictionary that a program begins with."""
    parts = [each for part in before if isinstance(part, ast.Assign) for each in separated(part)]
    made = [part.value for part in parts if assigned([part]) == [name]]
    return bool(made) and isinstance(made[0], (ast.List, ast.ListComp, ast.Dict, ast.DictComp))


def one_turn(
    statements: list[ast.stmt],
    code: str,
    count: Count,
    outside: Sequence[ast.stmt] | None = None,
    ran: Sequence[ast.stmt] = (),
) -> Turn:
    """A program that ends with a loop that asks for derivatives, by one turn: the last, where that is known; else the program.

    Where no turn clears or moves anything, the gradients of all turns add up; so do those of a loop in it.  Of a loop in a
    loop it is a turn of both.  What stands `outside` comes before the statements, and `ran` has all that has run before them.
    `count` runs a text, for the number of turns.
    """
    shown = statements
    while len(shown) > 1 and (
        _only_shows(shown[-1], shown[:-1], code) or (outside is None and not _derives(shown[-1], statements[len(shown) :]))
    ):
        shown = shown[:-1]
    last = shown[-1] if shown else None
    if not isinstance(last, (ast.For, ast.While)):
        return Turn(statements)
    before = shown[:-1]
    around_it = [*(outside or ()), *before]
    ran = [*ran, *before]
    known = of_known_length(last, ran, code, count) if is_left_early(last) else last
    last = known or last
    turn, head, earlier = straight(last.body), list[ast.stmt](), list[ast.stmt]()
    if isinstance(last, ast.For):
        head = [_assign(last.target, _item(last.iter, -1))]
        earlier = [ast.For(last.target, _item(last.iter, slice(None, -1)), last.body, [], lineno=0)]
    inner = one_turn(turn, code, count, around_it, [*ran, *earlier, *head])
    if inner.adds_up:
        last = copy.copy(last)
        last.body = turn = inner.statements
    calls = {each.place: each.call for each in calls_of(turn, code) if around(turn[each.place], each.node) is not None}
    if not calls and not inner.notes:
        return Turn(statements)
    goes_on = all_read(read_first(turn) & {*assigned(turn)}, turn)
    results = [name for place, call in calls.items() if has_graph(call) for name in names_made(turn[place])]
    derived = [name for name in results if name in goes_on]
    if derived:  # a turn derives what the one before has derived
        return Turn([*shown, ast.Expr(ast.Name(derived[-1], ast.Load()))])
    training = Training.of(around_it)
    moved = training.moves(last)
    leaves, modules = moved & without_leaves(around_it, code)[1].keys(), moved & training.modules
    draws = drawing([*around_it, *statements], constructors=False)
    made = {*assigned([last]), *changed(last), *moved}
    drawn = [] if modules and not leaves else [*_drawn(earlier, draws, made)]  # with modules all that the turns before do stays
    alone = known is None or bool(read_first(drawn) & made)
    by_others = any(parameters_in(name, around_it) for name in {*assigned([last])} - moved)
    alone |= by_others
    stepping = by_others or (bool(moved) and alone)
    first = alone or bool(not calls and not (inner.earlier or inner.trains))
    start = len(before)
    own = {*assigned(around_it)} - training.modules - {*training.moved, *training.schedules}
    if isinstance(last, ast.For):
        own -= {*assigned([_assign(last.target, last.iter)])}
    if first:
        head = [_assign(last.target, _item(last.iter, 0))] if isinstance(last, ast.For) else []
        earlier, drawn = [], []
    here, until = [*ran, *earlier, *head], [*before, *earlier]
    if modules:  # what is done to them stays in the program, where the leaves of the turns before have other names
        inside = without_leaves(last.body, code)[1].keys() - {*assigned(around_it)}
        own_names = Renamed({name: unused_name(f"{name}_", statements) for name in inside})
        until = [*before, *(without_places(own_names.visit(copied(part))) for part in earlier)] if inside else until
        before, start = until, len(until)
    behind = [*before, *drawn]
    if not calls:
        outer = _carried(last, inner.statements, around_it, own, leaves) if earlier else ()
        return replace(
            inner,
            statements=[*behind, *head, *inner.statements],
            start=len(behind) + len(head) + inner.start,
            notes=(*(("of the outer loop the first turn is shown",) if first and inner.earlier else ()), *inner.notes),
            carried=tuple(dict.fromkeys((*inner.carried, *outer))),
            earlier=[*until, *head, *inner.earlier] if inner.earlier else (),
            trains=inner.trains or bool(moved),
        )
    end_place = max(calls)
    body, call = turn[: end_place + 1], calls[end_place]
    ran = [*here, *body[:-1]]
    if stepping:
        note = "of the loop the first turn is shown: what a step makes of the weights is left out"
        return Turn([*before, *head, *body], start, (note, *about_clipping(turn[end_place + 1 :])))
    if first:
        return Turn([*before, *head, *turn], start, ("of the loop the first turn is shown",))
    if not any(map(training.carries, body)):  # not what only keeps a record
        wanted = needed(ast.Module([body[place] for place in calls], []), [*before, *body[:-1]])
        body = [part for place, part in enumerate(body) if part in wanted or place in calls or (modules and cleared(part))]
    augmented = [part for part in ast.walk(last) if isinstance(part, ast.AugAssign)]
    theirs = own.union(training.modules, *(assigned([part.target]) for part in ast.walk(last) if is_by_hand(part)))
    elsewhere = changed(last) - theirs or any(not {*assigned([part])} <= theirs for part in augmented)  # by another name
    carried = _carried(last, body, around_it, own, leaves | ({*without_leaves(around_it, code)[1]} if elsewhere else set()))
    if is_backward(call) and isinstance(call.func, ast.Attribute) and not (
        carried or moved or cleared(last) or argument(call, 0, "gradient") or without_leaves(body, code)[1]
    ):
        total = unused_name("total", [*statements, *body])
        added = assignment(total, ast.BinOp(ast.Name(total, ast.Load()), ast.Add(), call.func.value))
        assert isinstance(last, ast.For)
        again = ast.For(last.target, last.iter, [*body[:-1], added], [], lineno=0)
        whole = ast.Call(ast.Attribute(ast.Name(total, ast.Load()), "backward", ast.Load()), [], [])
        ended = ast.Expr(ast.copy_location(whole, call))
        note = "of the loop's calls of backward PyTorch adds the gradients up in .grad, and so does the result"
        return Turn([*before, assignment(total, "0"), again, ended], start, (note,), True)
    held = (*carried, *(name for name in assigned(around_it) if name in modules))
    left = f", at what the turns before it leave in {', '.join(held)}" if held else ""
    notes = (f"of the loop the last turn is shown{left}",)
    return Turn([*behind, *head, *body], len(behind), notes, False, carried, until, bool(moved), ran)


def _drawn(statements: Sequence[ast.stmt], draws: Callable[[ast.AST], bool], made: Collection[str]) -> Iterator[ast.stmt]:
    """What draws random numbers in some statements, in the blocks that it stands in: the stream is behind it as behind all.

    Of a statement that reads what is `made` in turns it is the calls that draw.
    """
    own = {*assigned([*statements])}
    for part in filter(draws, statements):
        if isinstance(part, (ast.For, ast.While, ast.If, ast.With)):
            part = without_places(copied(part))
            part.body = [*_drawn(part.body, draws, made)] or [ast.Pass()]
            if not isinstance(part, ast.With):
                part.orelse = [*_drawn(part.orelse, draws, made)]
        elif free_names(part) & {*made} - own and not any(isinstance(node, SEVERAL) for node in ast.walk(part)):
            calls = [node for node in in_order(part) if isinstance(node, ast.Call) and draws(node)]
            least = [call for call in calls if sum(node in calls for node in ast.walk(call)) == 1]
            yield from (without_places(ast.Expr(call)) for call in map(copied, least))
            continue
        yield part


SEVERAL = (ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.IfExp, ast.BoolOp)
"""What runs its parts several times, or not at all."""


def _carried(
    loop: ast.stmt, turn: Sequence[ast.stmt], around_it: Sequence[ast.stmt], own: set[str], also: Collection[str] = ()
) -> tuple[str, ...]:
    """The names from around a loop that its turns make or change, and that a turn reads as the one before leaves them."""
    made = {*assigned([loop]), *changed(loop), *also}
    read = read_first(turn) | _read_by_functions(read_first(turn), around_it)
    return tuple(name for name in assigned(around_it) if name in made & own & read)


def _read_by_functions(names: set[str], before: Sequence[ast.stmt]) -> set[str]:
    """What the functions among some names, and those that they call, read of what is around them."""
    functions = {
        name: free_names(part if isinstance(part, ast.FunctionDef) else part.value)
        for part in before
        if isinstance(part, ast.FunctionDef) or (isinstance(part, ast.Assign) and isinstance(part.value, ast.Lambda))
        for name in assigned([part])
    }
    found: set[str] = set()
    while more := set().union(*(functions.get(name, set()) for name in names | found)) - found:
        found |= more
    return found


def _only_shows(statement: ast.stmt, before: Sequence[ast.stmt], code: str) -> bool:
    """Whether a statement at the end only shows something that is there, or takes a part of a module to show."""
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if isinstance(statement, ast.If):
        return all(_only_shows(part, before, code) for part in (*statement.body, *statement.orelse))
    if isinstance(statement, ast.Assign):
        tree = ast.Module([*before], [])
        return isinstance(value, (ast.Subscript, ast.Attribute)) and root_of(value) in constructed(tree)
    if value is None or any(each.place == len(before) for each in calls_of([*before, statement], code)):
        return False
    return shows(statement, set()) or is_passed_over(statement) or isinstance(value, ast.Name)


def _derives(statement: ast.stmt, rest: Sequence[ast.stmt]) -> bool:
    """Whether a statement may ask for a derivative, or make a leaf that what follows computes with."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    asking = any(name_of(call) in (*TRANSFORMS, *FUNCTIONAL, "backward") for call in calls)
    reads = set().union(*(free_names(part) for part in rest if not is_passed_over(part) and not _optimizes(part)))
    numbers = any(getattr(node, "attr", "") in ("numpy", "data", "detach") for part in rest for node in ast.walk(part))
    leaf = any(of_leaf(call) is not None for call in calls) and not numbers  # with which what was trained is only tried
    makes = leaf and not reads.isdisjoint(assigned([statement]))
    return asking or reads_grad(statement) or makes or not isinstance(
        statement, (ast.Expr, ast.Assign, ast.AugAssign, ast.If, ast.With, ast.For, ast.Import, ast.ImportFrom)
    )


def _optimizes(statement: ast.stmt) -> bool:
    """`optimizer = torch.optim.SGD(…)`, `optimizer.zero_grad()`"""
    value = statement.value if isinstance(statement, (ast.Assign, ast.Expr)) else None
    return isinstance(value, ast.Call) and ("optim." in path(value.func) or method_of(statement) == "zero_grad")


def _assign(target: ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([target], value, lineno=0)


def _item(items: ast.expr, place: int | slice) -> ast.expr:
    """`list(items)[0]`, `list(items)[:-1]`"""
    key = ast.Slice(upper=ast.Constant(place.stop)) if isinstance(place, slice) else ast.Constant(place)
    return ast.Subscript(ast.Call(ast.Name("list", ast.Load()), [items], []), key, ast.Load())
