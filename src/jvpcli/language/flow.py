"""Statements and functions of a program as they run: names that are set anew, loops, calls, lists that change.

A value that is no tensor's step stays off the tape: a function is a constant (`Function`), and so is a list that may still
change (`Items`), which is written out where a step takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from jvpcli.errors import EvaluationError, ForbiddenError, LimitError
from jvpcli.language import limits, refusals
from jvpcli.language.operations import describe
from jvpcli.language.run import Entries, FunctionValue, Handler, Items, Run, entries_in
from jvpcli.language.sequences import entry
from jvpcli.program import Block, Const, Equation, Known, Operand, Pack, Parameters, Ref


class Frame(dict[int, Operand]):
    """What the slots of one call stand for; a slot of what is around the function is looked up there."""

    def __init__(self, around: dict[int, Operand]) -> None:
        super().__init__()
        self.around = around

    def __missing__(self, slot: int) -> Operand:
        return self.around[slot]


@dataclass(frozen=True, slots=True, eq=False)
class Function(FunctionValue):
    """A function of the program: the equation that made it, its defaults, and what its names stand for around it."""

    equation: Equation
    defaults: tuple[Operand, ...]
    named: Mapping[str, Operand]
    around: dict[int, Operand]

    @property
    def name(self) -> str:
        """As its text calls it."""
        return self.equation.target

    @property
    def parameters(self) -> Parameters:
        """What it takes."""
        parameters = self.equation.bodies[0].params
        assert isinstance(parameters, Parameters)
        return parameters

    def called(
        self, run: Run, arguments: Sequence[Operand], keywords: Mapping[str, Operand], equation: Equation
    ) -> Operand:
        """What its body gives, in a frame of its own."""
        run.turn()
        if run.calls >= limits.MAX_CALLS:
            raise LimitError(f"`{self.name}` calls itself more than {limits.MAX_CALLS} levels deep.")
        listed = {name: run.listed(operand) for name, operand in keywords.items()}
        frame = Frame(self.around)
        frame.update(_filled(run, self, list(map(run.listed, arguments)), listed))
        outer, run.bound = run.bound, frame
        run.calls += 1
        (body,) = self.equation.bodies
        try:
            with run.turning():
                run.run(body.equations)
                return run.listed(run.held(body.result))
        except Return as left:
            return left.value
        except RecursionError:
            raise LimitError(f"`{self.name}` nests too deeply.") from None
        finally:
            run.bound = outer
            run.calls -= 1


class Leaving(Exception):
    """A statement that leaves the one that it stands in."""


class Return(Leaving):
    """`return`, with what is given back."""

    def __init__(self, value: Operand) -> None:
        self.value = value


class Break(Leaving):
    """`break`"""


class Continue(Leaving):
    """`continue`"""


def set_name(run: Run, equation: Equation) -> Operand:
    """`y = value`: `Run.run` puts what is given here into the slot of the name."""
    return run.listed(run.held(equation.operands[0]))


def unset(run: Run, equation: Equation) -> Operand:
    """`del y`"""
    (name,) = equation.operands
    assert isinstance(name, Ref)
    run.held(name)  # which says where there is no value
    run.bound.pop(name.slot, None)
    return Const(None)


def for_each(run: Run, equation: Equation) -> Operand:
    """`for`, and what follows its `else` where nothing broke it off."""
    body, otherwise = equation.bodies
    with run.turning():
        for item in run.items_of(run.held(equation.operands[0])):
            run.turn()
            run.assign(body.params, item)
            if _breaks(run, body):
                return Const(None)
    run.run(otherwise.equations)
    return Const(None)


def while_true(run: Run, equation: Equation) -> Operand:
    """`while`"""
    condition, body, otherwise = equation.bodies
    with run.turning():
        while run.truth(run.body(condition), equation):
            run.turn()
            if _breaks(run, body):
                return Const(None)
    run.run(otherwise.equations)
    return Const(None)


def _breaks(run: Run, body: Block) -> bool:
    """Run a loop's body once; whether it breaks the loop off."""
    try:
        run.run(body.equations)
    except Continue:
        return False
    except Break:
        return True
    return False


def with_mode(run: Run, equation: Equation) -> Operand:
    """`with torch.no_grad():`"""
    arguments = [run.decided_by(run.on_tape(operand)) for operand in equation.operands]
    takes_flag = equation.target in ("torch.set_grad_enabled", "torch.inference_mode")
    if not all(isinstance(value, bool) for value in arguments) or len(arguments) > takes_flag:
        raise EvaluationError(f"{equation.target} takes {'True or False' if takes_flag else 'nothing'} here.")
    flag = arguments[0] if arguments else True
    meant = {"torch.enable_grad": True, "torch.set_grad_enabled": flag, "torch.inference_mode": not flag}
    records = meant.get(equation.target, False)
    if run.forward and not records:
        raise refusals.in_forward(equation.target)
    with recording(run, records):
        run.run(equation.bodies[0].equations)
    return Const(None)


@contextmanager
def recording(run: Run, flag: bool) -> Iterator[None]:
    """Whether steps are recorded for derivatives."""
    outer, run.recording = run.recording, flag
    try:
        with torch.set_grad_enabled(flag):
            yield
    finally:
        run.recording = outer


def returned(run: Run, equation: Equation) -> Operand:
    """`return value`"""
    raise Return(run.listed(run.held(equation.operands[0])))


def broken(run: Run, equation: Equation) -> Operand:
    """`break`"""
    raise Break


def continued(run: Run, equation: Equation) -> Operand:
    """`continue`"""
    raise Continue


def raised(run: Run, equation: Equation) -> Operand:
    """`raise`"""
    text = " ".join(run.program.text(equation.span).split())
    raise EvaluationError("The program raises an error here, by its own `raise`.", explanation=text)


# Functions


def defined(run: Run, equation: Equation) -> Operand:
    """`def` and `lambda`"""
    defaults = tuple(run.listed(run.held(operand)) for operand in equation.operands)
    named = {name: run.listed(run.held(operand)) for name, operand in equation.keywords}
    return Const(Function(equation, defaults, named, run.bound))


def applied(run: Run, equation: Equation) -> Operand:
    """A call of a value: of a function of the program, or of one of the language's under another name."""
    callee, *arguments = run.held_items(equation.operands)
    keywords = {name: run.held(operand) for name, operand in run.spread(equation.keywords)}
    return call_value(run, callee, arguments, keywords, equation)


def call_value(
    run: Run, callee: Operand, arguments: Sequence[Operand], keywords: Mapping[str, Operand], equation: Equation
) -> Operand:
    """What a value gives that is called, for operands of the tape.

    Raises:
        ForbiddenError: it is no function.
    """
    function = callee.value if isinstance(callee, Const) else None
    if isinstance(function, Known):
        reads = {name: run.held(operand) for name, operand in function.keywords}
        return run.do(function.op, arguments, equation.span, tuple({**keywords, **reads}.items()))
    if isinstance(function, FunctionValue):
        return function.called(run, arguments, keywords, equation)
    raise ForbiddenError(f"{describe(run.read(run.written_out(callee))).capitalize()} can't be called.")


def _filled(
    run: Run, function: Function, arguments: Sequence[Operand], keywords: Mapping[str, Operand]
) -> Iterator[tuple[int, Operand]]:
    """The slots of a function's parameters with what is given for them, as Python would.

    Raises:
        EvaluationError: what is given doesn't fit.
    """
    taken, name = function.parameters, function.name
    count = len(taken.positional)
    given: dict[str, Operand] = {}
    if len(arguments) > count and taken.rest is None:
        raise EvaluationError(f"`{name}` takes {count} positional argument{'s' * (count != 1)}, and {len(arguments)} were given.")
    given.update(zip((parameter for parameter, _ in taken.positional), arguments, strict=False))
    nameable = {parameter for parameter, _ in (*taken.positional[taken.unnamed :], *taken.named)}
    others: dict[Any, Operand] = {}
    for keyword, value in keywords.items():
        if keyword not in nameable and taken.others is not None:
            others[keyword] = value
            continue
        if keyword not in nameable:
            raise EvaluationError(f"`{name}` has no parameter `{keyword}`.")
        if keyword in given:
            raise EvaluationError(f"`{name}` is given `{keyword}` twice.")
        given[keyword] = value
    last = taken.positional[count - len(function.defaults) :] if function.defaults else ()
    for (parameter, _), default in zip(last, function.defaults, strict=True):
        given.setdefault(parameter, default)
    for parameter, default in function.named.items():
        given.setdefault(parameter, default)
    for parameter, slot in (*taken.positional, *taken.named):
        if parameter not in given:
            raise EvaluationError(f"`{name}` needs a value for `{parameter}`.")
        yield slot, given[parameter]
    if taken.rest is not None:
        yield taken.rest, run.pack("tuple", arguments[count:])
    if taken.others is not None:
        yield taken.others, made_of_entries(run, others)


# Lists and dictionaries that change


def list_method(run: Run, equation: Equation) -> Operand:
    """`items.append(value)`, `entries.get(key)` and their like."""
    target, *arguments = run.held_items(equation.operands)
    entries = entries_in(target)
    if entries is not None and equation.target in _DICTIONARY_METHODS:
        return _of_dictionary(run, entries, equation, arguments)
    if entries is not None or equation.target not in _LIST_METHODS:
        what = "a dictionary" if entries is not None else describe(run.read(run.written_out(target)))
        raise ForbiddenError(f"`.{equation.target}` can't be used on {what}.")
    if not (isinstance(target, Const) and isinstance(target.value, Items)):
        if equation.target == "copy":  # of an array, whose method it is
            return run.plain(replace(equation, op="method:copy"))
        raise ForbiddenError(f"`.{equation.target}` can't be used on {describe(run.read(run.written_out(target)))}.")
    if equation.keywords:
        raise EvaluationError(f"`.{equation.target}` takes no named arguments.")
    run.turn()
    method, most = _LIST_METHODS[equation.target]
    if len(arguments) not in most:
        raise EvaluationError(f"`.{equation.target}` takes {' or '.join(map(str, most))} arguments.")
    items = target.value.items
    result = method(run, items, [run.listed(argument) for argument in arguments]) or Const(None)
    run.count_items(items if equation.target in ("insert", "pop", "copy", "reverse") else ())
    limits.check_items(len(items))
    return result


def _of_dictionary(run: Run, entries: dict[Any, Operand], equation: Equation, arguments: Sequence[Operand]) -> Operand:
    run.turn()
    method, most = _DICTIONARY_METHODS[equation.target]
    keywords = run.spread(equation.keywords)
    if len(arguments) not in most or (keywords and equation.target != "update"):
        raise EvaluationError(f"`.{equation.target}` takes {' or '.join(map(str, most))} arguments.")
    found = method(run, entries, arguments) or Const(None)
    entries.update((name, run.listed(run.held(operand))) for name, operand in keywords)
    limits.check_entries(len(entries))
    return found


def _pop(run: Run, items: list[Operand], arguments: Sequence[Operand]) -> Operand:
    at = _index(run, arguments[0]) if arguments else -1
    if not -len(items) <= at < len(items):
        raise EvaluationError(f"A list of {len(items)} items has no item {at} to take out.")
    return items.pop(at)


def dictionary(run: Run, equation: Equation) -> Operand:
    """`{"a": x, **others}`"""
    limits.check_entries(len(equation.operands))
    entries: dict[Any, Operand] = {}
    for pair in equation.operands:
        assert isinstance(pair, Pack)
        if pair.kind == "star":
            _update(run, entries, [run.held(pair.items[0])])
        else:
            key, value = pair.items
            entries[run.key(run.held(key))] = run.listed(run.held(value))
    return made_of_entries(run, entries)


def dictionary_of(run: Run, equation: Equation) -> Operand:
    """`dict(pairs, a=x)`"""
    entries: dict[Any, Operand] = {}
    if len(equation.operands) > 1:
        raise EvaluationError("`dict` takes pairs or a dictionary, and names with their values.")
    _update(run, entries, run.held_items(equation.operands))
    entries.update((name, run.listed(run.held(operand))) for name, operand in run.spread(equation.keywords))
    return made_of_entries(run, entries)


def made_of_entries(run: Run, entries: dict[Any, Operand]) -> Operand:
    """A dictionary."""
    run.lists_change = True
    run.count_items([*entries])
    limits.check_entries(len(entries))
    return Const(Entries(entries))


def _update(run: Run, entries: dict[Any, Operand], arguments: Sequence[Operand]) -> None:
    for argument in arguments:
        given = entries_in(argument)
        items = [] if given is not None else run.items_of(argument)
        limits.check_entries(max(len(items), len(given or ())))
        pairs = [run.items_of(item) for item in items]
        if any(len(pair) != 2 for pair in pairs):
            raise EvaluationError("A dictionary is made of pairs of a key and a value.")
        added = given if given is not None else {run.key(pair[0]): run.listed(pair[1]) for pair in pairs}
        run.count_items([*added])
        entries.update(added)


def _pairs(run: Run, entries: dict[Any, Operand], arguments: Sequence[Operand]) -> Operand:
    return run.pack("list", [run.pack("tuple", (Const(key), run.newest(value))) for key, value in entries.items()])


def _get(run: Run, entries: dict[Any, Operand], arguments: Sequence[Operand]) -> Operand:
    default = arguments[1] if len(arguments) > 1 else Const(None)
    return run.newest(entries.get(run.key(arguments[0]), default))


def _set_default(run: Run, entries: dict[Any, Operand], arguments: Sequence[Operand]) -> Operand:
    default = arguments[1] if len(arguments) > 1 else Const(None)
    return run.newest(entries.setdefault(run.key(arguments[0]), run.listed(default)))


def _take(run: Run, entries: dict[Any, Operand], arguments: Sequence[Operand]) -> Operand:
    found = arguments[1] if len(arguments) > 1 and run.key(arguments[0]) not in entries else entry(entries, run.key(arguments[0]))
    entries.pop(run.key(arguments[0]), None)
    return run.newest(found)


_DICTIONARY_METHODS: Mapping[
    str, tuple[Callable[[Run, dict[Any, Operand], Sequence[Operand]], Operand | None], Sequence[int]]
] = {
    "items": (_pairs, (0,)),
    "keys": (lambda run, entries, _: run.pack("list", list(map(Const, entries))), (0,)),
    "values": (lambda run, entries, _: run.pack("list", list(map(run.newest, entries.values()))), (0,)),
    "get": (_get, (1, 2)),
    "update": (_update, (0, 1)),
    "setdefault": (_set_default, (1, 2)),
    "pop": (_take, (1, 2)),
    "clear": (lambda run, entries, _: entries.clear(), (0,)),
    "copy": (lambda run, entries, _: made_of_entries(run, dict(entries)), (0,)),
}
"""What each method of a dictionary does, and how many arguments it takes; None stands for Python's None."""


def delete_item(run: Run, equation: Equation) -> Operand:
    """`del items[i]`, `del entries[key]`"""
    target, key = run.held_items(equation.operands)
    entries = entries_in(target)
    run.turn()
    if entries is not None:
        _take(run, entries, [key])
    elif isinstance(target, Const) and isinstance(target.value, Items):
        run.count_items(target.value.items)
        _pop(run, target.value.items, [key])
    else:
        raise ForbiddenError(f"Items of {describe(run.read(run.written_out(target)))} can't be deleted.")
    return Const(None)


def _index(run: Run, operand: Operand) -> int:
    value = run.decided_by(run.written_out(operand))
    if not isinstance(value, int) or abs(value) > sys.maxsize:
        raise EvaluationError(f"{describe(value).capitalize()} is no index of a list.")
    return value


_LIST_METHODS: Mapping[str, tuple[Callable[[Run, list[Operand], Sequence[Operand]], Operand | None], Sequence[int]]] = {
    "append": (lambda run, items, given: items.append(given[0]), (1,)),
    "extend": (lambda run, items, given: items.extend(run.items_of(given[0])), (1,)),
    "insert": (lambda run, items, given: items.insert(_index(run, given[0]), given[1]), (2,)),
    "pop": (_pop, (0, 1)),
    "reverse": (lambda run, items, given: items.reverse(), (0,)),
    "clear": (lambda run, items, given: items.clear(), (0,)),
    "copy": (lambda run, items, given: Const(Items(list(items))), (0,)),
}
"""What each method of a list does, and how many arguments it takes; None stands for Python's None."""


HANDLERS: Mapping[str, Handler] = {
    "set": set_name,
    "unset": unset,
    "dict": dictionary,
    "dict:of": dictionary_of,
    "delitem": delete_item,
    "for": for_each,
    "while": while_true,
    "with": with_mode,
    "return": returned,
    "break": broken,
    "continue": continued,
    "raise": raised,
    "function": defined,
    "apply": applied,
    "list": list_method,
}
"""The equations that only programs with blocks or functions have."""
