"""Lists, tuples, comprehensions and conditional expressions as they run: they choose and rearrange what stands for values.

None of it is a step of the tape by itself: a comprehension is unrolled, of a conditional one branch runs, and an item of a
list that is known item by item is that item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, UnknownNameError
from jvpcli.language import arrays, catalog, limits, refusals
from jvpcli.language.arrays import Array
from jvpcli.language.guards.integers import is_integer
from jvpcli.language.operations import describe, is_scalar, named_constant, sentence
from jvpcli.language.run import Handler, Items, Run, entries_in, items_in, kind_of
from jvpcli.program import IMPORTED, Const, Equation, Known, Operand, Pack

# Comprehensions and conditions


def loop(run: Run, equation: Equation) -> Operand:
    """A comprehension, unrolled."""
    (body,) = equation.bodies
    results: list[Operand] = []
    with run.turning():
        for item in run.items_of(run.held(equation.operands[0])):
            run.turn()
            run.assign(body.params, item)
            if all(run.truth(run.body(condition), equation) for condition in body.conditions):
                results.append(run.body(body))
    if equation.target == "flat":
        results = [item for result in results for item in run.items_of(result)]
    return run.pack("list", results)


def choose(run: Run, equation: Equation) -> Operand:
    """`a if condition else b`, and the statement: only the branch taken runs."""
    condition = run.truth(run.held(equation.operands[0]), equation)
    return run.body(equation.bodies[0 if condition else 1])


def both(run: Run, equation: Equation) -> Operand:
    """a and b, a or b: b runs only if a doesn't decide."""
    first = run.held(equation.operands[0])
    decided = run.truth(first, equation) != (equation.op == "and")
    return first if decided else run.body(equation.bodies[0])


# Lists


def unpack(run: Run, equation: Equation) -> Operand:
    """One item of a tuple assignment."""
    operand = run.held(equation.operands[0])
    if entries_in(operand) is not None:
        operand = run.pack("tuple", run.items_of(operand))
    index = dict(equation.keywords)["index"]
    assert isinstance(index, Const)
    count, or_more = int(equation.target.rstrip("+")), equation.target.endswith("+")
    known = items_in(operand)
    value = run.read(operand) if known is None else known
    if is_scalar(value):
        raise EvaluationError(f"{sentence(describe(value))} can't be unpacked into {count} names.")
    items = limits.length(value)
    if items < count or (items > count and not or_more):
        wanted = f"{count} or more" if or_more else str(count)
        raise EvaluationError(f"{wanted} items were expected to unpack, and there are {items}.")
    if known is not None:
        return run.called(known[index.value], equation.name)
    slot = run.new_slot() if run.in_loop else equation.slot
    return run.execute(replace(equation, operands=(operand,), slot=slot, recorded=run.recording))


def getitem(run: Run, equation: Equation) -> Operand:
    """A subscript; of a list with a known index it is just the item."""
    left, key = run.held_items(equation.operands)
    entries = entries_in(left)
    if entries is not None:
        return run.called(entry(entries, run.key(key)), equation.name)
    items = items_in(left)
    if items is not None:
        at = run.decided_by(run.written_out(key))
        if isinstance(at, slice):
            return run.pack(kind_of(left), [run.newest(item) for item in items[_bounds(at)]])
        if isinstance(at, int) and -len(items) <= at < len(items):
            return run.called(items[at], equation.name)
    return run.plain(equation)


def _bounds(part: slice) -> slice:
    """A slice of a list.

    Raises:
        EvaluationError: its bounds are no whole numbers, or it has no step.
    """
    bounds = (part.start, part.stop, part.step)
    wrong = [one for one in bounds if one is not None and not isinstance(one, int) and not _is_whole(one)]
    if wrong or (part.step is not None and int(part.step) == 0):
        what = f"{describe(wrong[0])} is given" if wrong else "the step is 0"
        raise EvaluationError(f"A slice of a list takes whole numbers, and a step that is not 0: {what}.")
    return part


def _is_whole(value: Any) -> bool:
    return isinstance(value, Tensor) and is_integer(value)


def entry(entries: Mapping[Any, Operand], key: Any) -> Operand:
    """What a dictionary holds by a key.

    Raises:
        EvaluationError: nothing.
    """
    if key in entries:
        return entries[key]
    shown = ", ".join(repr(one) for one in list(entries)[:20])
    raise EvaluationError(f"The dictionary has no {key!r}; its keys are {shown}." if shown else "The dictionary is empty.")


def contains(run: Run, equation: Equation) -> Operand:
    """`key in entries`, or a step."""
    entries, key = entries_in(run.held(equation.operands[0])), run.held(equation.operands[1])
    return run.plain(equation) if entries is None else Const(run.key(key) in entries)


def count(run: Run, equation: Equation) -> Operand:
    """`len(entries)`, or a step."""
    entries = entries_in(run.held(equation.operands[0])) if len(equation.operands) == 1 else None
    return run.plain(equation) if entries is None else Const(len(entries))


def setitem(run: Run, equation: Equation) -> Operand:
    """`items[i] = value`, of a list or dictionary that may change; of a tensor it is a step."""
    base, key, value = run.held_items(equation.operands)
    entries = entries_in(base)
    if entries is not None:
        run.turn()
        entries[run.key(key)] = run.listed(value)
        limits.check_entries(len(entries))
        return base
    if not (isinstance(base, Const) and isinstance(base.value, Items)):
        return run.plain(equation)
    items = base.value.items
    at = run.decided_by(run.written_out(key))
    if not isinstance(at, int) or not -len(items) <= at < len(items):
        raise EvaluationError(f"A list of {len(items)} items has no item {describe(at) if isinstance(at, Tensor) else at}.")
    items[at] = run.listed(value)
    return base


def augmented(run: Run, equation: Equation) -> Operand:
    """`y += 1`: in place where y is a tensor (and torch has the operator) or a list, else the plain operator."""
    held = run.held(equation.operands[0])
    if isinstance(held, Const) and isinstance(held.value, Items):
        if equation.op == "op:iadd":
            held.value.items += run.items_of(run.held(equation.operands[1]))
            run.count_items(held.value.items)
            limits.check_items(len(held.value.items))
            return held
    elif items_in(held) is None:
        left = run.read(held)
        if isinstance(left, (Tensor, Array)) and hasattr(left, f"__{equation.target}__"):
            return run.plain(equation)
    return run.step(replace(equation, op=f"op:{catalog.AUGMENTED[equation.target]}"))


def add(run: Run, equation: Equation) -> Operand:
    """list + list, or any other sum."""
    left, right = run.held_items(equation.operands)
    if run.is_sequence(left) and run.is_sequence(right):
        return run.pack(_kind(run, left), [*run.items_of(left), *run.items_of(right)])
    return run.plain(equation)


def multiply(run: Run, equation: Equation) -> Operand:
    """list * number, or any other product."""
    left, right = run.held_items(equation.operands)
    if run.is_sequence(right):
        left, right = right, left
    if run.is_sequence(left) and not run.is_sequence(right):
        times = run.decided_by(right)
        if isinstance(times, int):
            items = run.items_of(left)
            limits.check_turns(len(items) * max(times, 0))
            return run.pack(_kind(run, left), items * times)
    return run.plain(equation)


def _kind(run: Run, operand: Operand) -> str:
    """Whether a sequence is a list or a tuple."""
    return kind_of(operand) if items_in(operand) is not None else "list" if type(run.read(operand)) is list else "tuple"


def zip_(run: Run, equation: Equation) -> Operand:
    """zip(a, b): tuples of the operands."""
    if equation.keywords:
        raise EvaluationError("zip takes no keyword arguments here.")
    columns = [run.items_of(operand) for operand in run.held_items(equation.operands)]
    return run.pack("list", [run.pack("tuple", row) for row in zip(*columns, strict=False)])


def enumerate_(run: Run, equation: Equation) -> Operand:
    """enumerate(items, start=0): pairs of index and operand."""
    operands = run.held_items(equation.operands)
    if len(operands) not in (1, 2):
        raise EvaluationError("enumerate takes the items, and maybe a start.")
    items, *rest = operands
    start = run.read(rest[0] if rest else run.on_tape(dict(equation.keywords).get("start", Const(0))))
    if not isinstance(start, int):
        raise EvaluationError("enumerate starts at an integer.")
    pairs = enumerate(run.items_of(items), start)
    return run.pack("list", [run.pack("tuple", (Const(index), item)) for index, item in pairs])


def sequence(run: Run, equation: Equation) -> Operand:
    """list(items), tuple(items), reversed(items)."""
    kind = "tuple" if equation.target == "tuple" else "list"
    operands = run.held_items(equation.operands)
    if len(operands) > 1 or equation.keywords:
        raise EvaluationError(f"{equation.target} takes one argument.")
    items = run.items_of(operands[0]) if operands else []
    return run.pack(kind, items[::-1] if equation.target == "reversed" else items)


def numpys(run: Run, equation: Equation) -> Operand:
    """A call of numpy's: what draws takes from a stream of its own, which the run keeps."""
    if not equation.target.startswith("random."):
        return run.plain(equation)
    operands = run.items_on_tape(equation.operands)
    keywords = tuple((name, run.on_tape(operand)) for name, operand in run.spread(equation.keywords))
    arguments, named = [run.read(operand) for operand in operands], {name: run.read(operand) for name, operand in keywords}
    run.drawn = arrays.stream(run.seed) if run.drawn is None else run.drawn
    step = replace(equation, operands=operands, keywords=keywords, slot=run.new_slot() if run.in_loop else equation.slot)
    try:
        value = arrays.drawn(run.drawn, equation.target, arguments, named)
    except (TypeError, ValueError) as error:
        raise run.failure(error, step, arguments, named) from None
    run.decisions.update(step.reads())
    return Const(value)  # what runs again takes what was drawn: nothing else knows the stream


def constructed(run: Run, equation: Equation) -> Operand:
    """A module is constructed: numpy's random numbers go on as behind it, and torch's."""
    module: Any = run.functions[dict(equation.keywords)["module"].value]  # type: ignore[union-attr]
    if module.drawn is not None and module.began_so:
        run.drawn = arrays.stream(run.seed)
        run.drawn.set_state(module.drawn)
    return run.plain(equation)


def held(run: Run, equation: Equation) -> Operand:
    """A number that a module was made with: `net.in_features`, `conv.stride`.

    Raises:
        UnknownNameError: it has none of that name.
    """
    path, _, name = equation.target.rpartition(".")
    value = getattr(getattr(run.functions[path], "function", None), "__dict__", {}).get(name)
    if not all(isinstance(each, (int, float)) for each in (value if isinstance(value, tuple) else (value,))):
        raise UnknownNameError(f"There is no number `{equation.target}`.")
    return Pack("tuple", tuple(map(Const, value))) if isinstance(value, tuple) else Const(value)


def typed(run: Run, equation: Equation) -> Operand:
    """`torch.LongTensor(values)`: a tensor of a list of numbers, or the numbers of a tensor of that dtype.

    Raises:
        ForbiddenError: it is a size, and what the tensor holds nobody has written.
        EvaluationError: it is a tensor of another dtype, which PyTorch refuses.
    """
    ((_, named),) = equation.keywords
    assert isinstance(named, Const)
    path, given = named.path or "", run.on_tape(equation.operands[0])
    value, dtype = run.read(given), named_constant(path)
    if isinstance(value, Tensor) and value.dtype == dtype:
        return run.do("method:detach", [given], equation.span)
    if isinstance(value, Tensor):
        raise EvaluationError(f"`{equation.target}` takes a tensor of its own dtype, and this is {value.dtype}.")
    if is_scalar(value) or isinstance(value, torch.Size):
        raise refusals.unwritten(equation.target, path)
    return run.do("call:torch.tensor", [given], equation.span, equation.keywords)


def attribute(run: Run, equation: Equation) -> Operand:
    """`m.weight` of a module that a function is given: what stands for that parameter; anything else is a step."""
    owner = run.held(equation.operands[0])
    known = owner.value if isinstance(owner, Const) and isinstance(owner.value, Known) else None
    name = "" if known is None else f"{known.op.removeprefix(f'call:{IMPORTED}')}.{equation.target}"
    found = None if known is None else dict(known.keywords).get(name)
    return run.plain(equation) if found is None else run.held(found)


HANDLERS: Mapping[str, Handler] = {
    "attr": attribute,
    "typed": typed,
    "random:construct": constructed,
    "held": held,
    "numpy": numpys,
    "loop": loop,
    "if": choose,
    "and": both,
    "or": both,
    "unpack": unpack,
    "op:getitem": getitem,
    "op:setitem": setitem,
    "op:contains": contains,
    "op:add": add,
    "op:mul": multiply,
    **{f"op:{name}": augmented for name in catalog.AUGMENTED},
    "builtin:len": count,
    "builtin:zip": zip_,
    "builtin:enumerate": enumerate_,
    "builtin:list": sequence,
    "builtin:tuple": sequence,
    "builtin:reversed": sequence,
}
"""The equations of expressions that are not simply a step of the tape, by their `op` or kind."""
