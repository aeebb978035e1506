"""One run of a program: its equations in turn, control flow unrolled onto a flat tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import is_not
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, LimitError, Span
from jvpcli.language import forecast, limits, refusals
from jvpcli.language.arrays import Array, shared
from jvpcli.language.operations import (
    apply_operation,
    as_numbers,
    check_result,
    describe,
    is_in_place,
    is_plain,
    is_scalar,
    read_operand,
    running,
    sentence,
)
from jvpcli.program import Block, Const, Equation, Operand, Pack, Program, Ref, refs

PLAIN = (str, int, float, complex, bool)
"""What a key of a dictionary may be, besides None and tuples of these."""

Handler = Callable[["Run", Equation], Operand]
"""What carries out an equation; it gives what its slot stands for."""

LARGE = 1 << 20
"""Bytes of a result from which on it is counted."""


NEAR = 50
"""How far back among the steps a gradient is looked for that gets its name."""

PACK_COST = 4
"""What a list costs besides its items, in items copied."""


@dataclass(slots=True, eq=False)
class Items:
    """A list that may still change; who holds it sees the change."""

    items: list[Operand]


@dataclass(slots=True, eq=False)
class Entries:
    """A dictionary, whose keys are plain values; who holds it sees its changes."""

    entries: dict[Any, Operand]


class FunctionValue:
    """A function as a value of the program."""

    __slots__ = ()

    def called(
        self, run: Run, arguments: Sequence[Operand], keywords: Mapping[str, Operand], equation: Equation
    ) -> Operand:
        """What it gives for operands of the tape; `equation` is the call."""
        raise NotImplementedError


TO_NUMBERS = frozenset({"method:item", "method:tolist", "builtin:float", "builtin:int", "builtin:bool"})
"""Steps that make numbers of Python of tensors."""

NO_NUMBER = "vmap: It looks like you're calling .item() on a Tensor."
NO_BRANCH = "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow."
"""How PyTorch's messages begin where a value of all rows of vmap is asked for as one."""


class Run:
    """The state of one evaluation.

    `handlers` carry out the equations that are not simply a step of the tape, by their `op` or kind.
    `bound` says what each slot of the program stands for on the tape; `values` holds the values of the tape's slots, and
    `reported` the same but for tensors that were changed in place later, which stand there as they were; `newer` leads
    from a slot whose tensor was changed in place to that of the changed one.  `recording`: whether torch records a graph;
    `keeps_graph`: whether what runs is run again on the same graph, as the rows of vmap, so that it frees nothing of it;
    `mapped`: the slots of the rows of vmap that are under way;
    `forward`: whether PyTorch has forward mode around what runs, which `torch.no_grad` stops nothing of;
    `calls`: functions of the program that are running, inside each other.  `history` has the steps of the tape as they were
    carried out, derivative calls among them; `leaves` are the slots that `backward` gives a gradient, and `grads` what those
    calls have left in their `.grad`, `freed` what they have freed of the graph; `state` is where random numbers begin;
    `decisions` are the slots whose values decided what ran; `drawn` is numpy's own stream, once something draws from it;
    `seed` is what random numbers begin from; `lent` is where the memory of tensors begins that arrays share; `bare` are
    the slots of `x.data` of an x with a graph.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        memory_limit: int | None,
        functions: Mapping[str, Callable[..., Any]] | None,
        handlers: Mapping[str, Handler],
    ) -> None:
        self.program = program
        self.handlers = handlers
        self.functions = functions or {}
        self.memory_limit = memory_limit
        self.devices = {"cpu", *(str(value.device) for value in inputs.values())}
        self.bound: dict[int, Operand] = {slot: Ref(slot) for slot in range(len(inputs))}
        self.values: dict[int, Any] = dict(enumerate(inputs.values()))
        self.reported: dict[int, Any] = dict(self.values)
        self.tape: list[Equation] = []
        self.history: list[Equation] = []
        self.inputs = range(len(inputs))
        self.grads: dict[int, Tensor] = {}
        self.freed: set[Any] = set()
        self.lent: set[int] = set()
        self.bare: set[int] = set()
        self.seed = torch.default_generator.initial_seed()
        self.leaves = [slot for slot in self.inputs if isinstance(x := self.values[slot], Tensor) and x.requires_grad]
        self.state = torch.default_generator.get_state() if program.has_statements else None
        self.next_slot = program.slots
        self.newer: dict[int, int] = {}
        self.slots_of: dict[int, list[int]] = {id(value): [slot] for slot, value in self.values.items()}
        self.turns = 0
        self.carried_out = 0
        self.moved = 0
        self.span: Span = (0, 0)
        self.in_loop = False
        self.recording = True
        self.keeps_graph = False
        self.mapped: set[int] = set()
        self.forward = False
        self.calls = 0
        self.lists_change = False
        self.decisions: set[int] = set()
        self.drawn: Any = None
        self.bytes = 0
        self.storages: set[int] = set()

    def run(self, equations: Sequence[Equation]) -> None:
        """Each equation in turn."""
        self.carried_out += len(equations)
        limits.check_equations(self.carried_out)
        for equation in equations:
            self.span = equation.span
            try:
                self.bound[equation.slot] = self.step(equation)
            except JvpError as error:
                error.with_context(span=equation.span, source=self.program.source)
                raise  # with its cause: the user's own code has a traceback that --debug shows

    def step(self, equation: Equation) -> Operand:
        """One equation; what its slot stands for on the tape."""
        handler = self.handlers.get(equation.op) or self.handlers.get(equation.kind)
        return self.plain(equation) if handler is None else handler(self, equation)

    def plain(self, equation: Equation) -> Operand:
        """A call, operator, attribute: one step of the tape."""
        operands = self.items_on_tape(equation.operands)
        keywords = equation.keywords and tuple((name, self.on_tape(operand)) for name, operand in self.spread(equation.keywords))
        slot = self.new_slot() if self.in_loop else equation.slot
        recorded = self.recording and equation.recorded  # what was watched as it ran may have run under no_grad
        made = (operands, keywords, slot, recorded)
        if made != (equation.operands, equation.keywords, equation.slot, equation.recorded):
            equation = replace(equation, operands=operands, keywords=keywords, slot=slot, recorded=recorded)
        return self.execute(equation)

    def do(
        self, op: str, operands: Sequence[Operand], span: Span, keywords: Sequence[tuple[str, Operand]] = ()
    ) -> Operand:
        """A step on operands of the tape."""
        given = tuple(map(self.written_out, operands))
        named = tuple((name, self.written_out(operand)) for name, operand in keywords)
        return self.execute(Equation(op, given, self.new_slot(), span, named, recorded=self.recording))

    def execute(self, step: Equation) -> Operand:
        """Run one step of the tape."""
        read = [self.read(operand) for operand in step.operands]
        if self.mapped and step.op in TO_NUMBERS:
            self.refuse_rows(NO_NUMBER, *step.operands)
        arguments, keywords = as_numbers(step.op, read, {name: self.read(operand) for name, operand in step.keywords})
        self.check(step.op, arguments, keywords)
        owner = arguments[0] if arguments else None
        overwritten = owner if is_in_place(step.op) and isinstance(owner, Tensor) else None
        if overwritten is not None and not self.recording and overwritten.requires_grad and not self.is_own_leaf(overwritten):
            raise _unseen(step, self.label)
        if overwritten is not None and overwritten.untyped_storage().data_ptr() in self.lent:
            message = "An array shares its memory with this tensor in PyTorch: change a copy of it, as by `.clone()`."
            raise EvaluationError(message)
        if overwritten is not None and self.recording and not overwritten.requires_grad and self.is_trained(overwritten):
            view = "" if overwritten._base is None else "view of a "
            message = f"a {view}leaf Variable that requires grad is being used in an in-place operation."
            raise self.failure(RuntimeError(message), step, arguments, keywords)
        before = None if overwritten is None else _as_it_is(overwritten)
        if isinstance(owner, Array) and is_in_place(step.op):  # which may run again: from the array as it was
            step = replace(step, operands=(_kept(step.operands[0]), *step.operands[1:]))
        if overwritten is not None and not self.bare.isdisjoint(refs(step.operands[0])):
            raise _unseen(step, self.label)
        try:
            with running(step):
                value = apply_operation(step.op, arguments, keywords, self.functions)
        except JvpError:
            raise
        except Exception as error:
            raise self.failure(error, step, arguments, keywords) from None
        check_result(value, step.op, self.devices)
        if (lent := shared(step.op, value, arguments)) is not None and lent.numel():
            self.lent.add(lent.untyped_storage().data_ptr())
        result = self.record(step, value)
        if step.op == "method:detach" and isinstance(owner, Tensor) and owner.requires_grad and isinstance(result, Ref):
            text = self.program.text(step.span)
            self.bare |= {result.slot} if text.endswith(".data") and not text.endswith(".grad.data") else set()
        if overwritten is not None and isinstance(result, Ref):
            self.changed_in_place(overwritten, before, result)
        return result

    def is_own_leaf(self, x: Tensor) -> bool:
        """Whether a tensor is a leaf that the program makes itself: no input reaches it, whose gradient could miss a change."""
        return any(self.values[slot] is x for slot in self.leaves if slot not in self.inputs)

    def is_trained(self, x: Tensor) -> bool:
        """Whether a tensor is a parameter of a module or a view of one, which require gradients in PyTorch whatever is asked."""
        base = x if x._base is None else x._base
        paths = [self.program.inputs[slot].rpartition(".") for slot in self.inputs if self.values[slot] is base]
        held = [getattr(getattr(self.functions.get(owner), "function", None), name, None) for owner, _, name in paths]
        return any(isinstance(each, Tensor) and each.requires_grad for each in held)

    def failure(
        self, error: Exception, step: Equation, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> JvpError:
        """What the user is told of what torch raised in a step."""
        from jvpcli.language.failures import explain_failure  # loaded only where something has failed

        return explain_failure(error, step, self.label, arguments, keywords, self.program.source)

    def check(self, op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Refuse a step that leaves the inputs' devices, or would take too much."""
        device = keywords.get("device")
        if device is None and op == "method:to":
            device = next((value for value in arguments[1:] if isinstance(value, (str, torch.device))), None)
        if device is not None and str(device) not in self.devices:
            allowed = ", ".join(sorted(self.devices))
            raise ForbiddenError(f"The device `{device}` can't be used: the inputs are on {allowed}.")
        limits.check_plain(op, arguments, keywords)
        if op.startswith("builtin:") and op not in ("builtin:len", "builtin:abs", "builtin:round"):
            for value in arguments:
                limits.check_turns(len(value) if isinstance(value, Tensor) and value.ndim else 0)
        forecast.check_parts(op, arguments, keywords)
        forecast.check_memory(op, arguments, keywords, self.bytes, self.memory_limit)

    def record(self, step: Equation, value: Any, source: Equation | None = None) -> Operand:
        """Put a step on the tape; what depends on constants alone, and holds no tensor, is a constant itself.

        `source` is the step as it was carried out, where it stands as something else on the tape.
        """
        if not isinstance(value, Tensor) and is_plain(value) and step.kind != "random" and next(step.reads(), None) is None:
            return Const(value)
        limits.check_steps(len(self.tape))
        kept = tuple(map(_kept, step.operands))
        if any(map(is_not, kept, step.operands)):
            step = replace(step, operands=kept)
        self.tape.append(step)
        self.history.append(source or step)
        self.values[step.slot] = self.reported[step.slot] = value
        self.slots_of.setdefault(id(value), []).append(step.slot)
        if isinstance(value, Tensor) and forecast.places(value.shape) * value.element_size() > LARGE:
            self.count(step.op, value)
        return Ref(step.slot)

    def called(self, item: Operand, name: str | None) -> Operand:
        """An item of a list, to which the text gives a name; a gradient just found is called so."""
        item = self.newest(item)
        for place in range(len(self.tape) - 1, max(len(self.tape) - NEAR, -1), -1) if name is not None else ():
            step = self.tape[place]
            if item == Ref(step.slot) and step.kind == "derive" and step.name is None:
                self.tape[place] = replace(step, name=name)
        return item

    def count(self, op: str, value: Tensor) -> None:
        """Add a large result to the bytes held, unless it shares memory with one before."""
        forecast.check_result(op, value, self.bytes if value._base is None else 0, self.memory_limit)
        storage = value.untyped_storage()
        if storage.data_ptr() not in self.storages:
            self.storages.add(storage.data_ptr())
            self.bytes += storage.nbytes()

    def changed_in_place(self, changed: Tensor, before: Tensor | None, result: Ref) -> None:
        """After an in-place step, whatever stood for the changed tensor stands for the step's result."""
        for slot in self.slots_of[id(changed)]:
            if slot != result.slot:
                self.newer[slot] = result.slot
                self.reported[slot] = before
        self.slots_of[id(changed)] = [result.slot]

    def named(self) -> dict[str, Tensor]:
        """The tensors that the text gives names to, as they are now."""
        found = [(name, operand) for name, operand in self.program.names if isinstance(operand, Ref)]
        held = ((name, self.held(operand)) for name, operand in found if operand.slot in self.bound)
        values = ((name, self.read(operand)) for name, operand in held if isinstance(operand, Ref))
        return {name: value for name, value in values if isinstance(value, Tensor)}

    # Operands

    def items_on_tape(self, items: Sequence[Operand]) -> tuple[Operand, ...]:
        """Operands on the tape; a star's items stand in its place."""
        written: list[Operand] = []
        for item in items:
            if not isinstance(item, Pack):
                held = self.held(item)
                written.append(self.written_out(held) if self.lists_change else held)
            elif item.kind == "star":
                written += map(self.written_out, self.items_of(self.held(item.items[0])))
            else:
                written.append(self.on_tape(item))
        return tuple(written)

    def spread(self, keywords: Sequence[tuple[str, Operand]]) -> Sequence[tuple[str, Operand]]:
        """Keywords with those of a dictionary (`**`) written out.

        Raises:
            ForbiddenError, EvaluationError: a name that no call may use, or one that is given twice.
        """
        if all(name != "**" for name, _ in keywords):
            return keywords
        found: dict[str, Operand] = {}
        for name, operand in keywords:
            entries = entries_in(self.held(operand)) if name == "**" else {name: operand}
            if entries is None:
                raise EvaluationError("What follows `**` in a call must be a dictionary.")
            for key, value in entries.items():
                if not isinstance(key, str) or not key.isidentifier():
                    raise EvaluationError("The keys of a dictionary that follows `**` must be names.")
                refused = refusals.keyword(key) if name == "**" else None
                if refused is not None:
                    raise refused
                if key in found:
                    raise EvaluationError(f"`{key}` is given twice.")
                found[key] = value
        return tuple(found.items())

    def on_tape(self, operand: Operand) -> Operand:
        """What an operand of the program stands for on the tape."""
        if isinstance(operand, Pack):
            return self.pack(operand.kind, self.items_on_tape(operand.items))
        held = self.held(operand)
        return self.written_out(held) if self.lists_change else held

    def held(self, operand: Operand) -> Operand:
        """What an operand of the program stands for here; a list that may change is itself."""
        if isinstance(operand, Ref):
            try:
                bound = self.bound[operand.slot]
            except KeyError:
                raise self.unset(operand) from None
            return self.newest(bound) if self.newer else bound
        if isinstance(operand, Const):
            return operand
        return self.pack(operand.kind, self.held_items(operand.items))

    def held_items(self, items: Sequence[Operand]) -> list[Operand]:
        """What operands stand for here; a star's items stand in its place."""
        found: list[Operand] = []
        for item in items:
            if isinstance(item, Pack) and item.kind == "star":
                found += self.items_of(self.held(item.items[0]))
            else:
                found.append(self.held(item))
        return found

    def listed(self, operand: Operand) -> Operand:
        """An operand in which each list is one that may change from now on."""
        if not isinstance(operand, Pack) or operand.kind == "slice":
            return operand
        items = [self.listed(item) for item in operand.items]
        if operand.kind != "list":
            return self.pack(operand.kind, items)
        self.lists_change = True
        return Const(Items(items))

    def written_out(self, operand: Operand, level: int = 0) -> Operand:
        """An operand in which each list is what it holds now.

        Raises:
            LimitError: a list holds itself, or too much.
        """
        if level > limits.MAX_LEVELS:
            raise LimitError(f"Lists can't be nested more than {limits.MAX_LEVELS} deep.")
        if isinstance(operand, Const) and isinstance(operand.value, Items):
            operand = Pack("list", tuple(operand.value.items))
        elif entries_in(operand) is not None:
            raise EvaluationError("A dictionary can't stand here: what it holds is taken by its keys, or as .values().")
        elif isinstance(operand, Ref) or not isinstance(operand, Pack):
            return self.newest(operand)
        return self.pack(operand.kind, [self.written_out(item, level + 1) for item in operand.items])

    def unset(self, ref: Ref) -> JvpError:
        """A name without a value on the way that the program has taken."""
        name = next((name for name, operand in self.program.names if operand == ref), None)
        return EvaluationError(f"`{name}` has no value here." if name else "A name has no value here yet.")

    def newest(self, operand: Operand) -> Operand:
        """The operand with the slots in it that were changed in place replaced."""
        if isinstance(operand, Ref):
            passed = []
            slot = operand.slot
            while slot in self.newer:
                passed.append(slot)
                slot = self.newer[slot]
            for earlier in passed:  # the next look-up of one of these finds it at once
                self.newer[earlier] = slot
            return Ref(slot) if passed else operand
        if isinstance(operand, Pack):
            return self.pack(operand.kind, [self.newest(item) for item in operand.items])
        return operand

    def pack(self, kind: str, items: Sequence[Operand]) -> Pack:
        """A list or tuple within the limits."""
        self.moved += len(items) + PACK_COST
        limits.check_moved(self.moved)
        return limits.pack(kind, items)

    def read(self, operand: Operand) -> Any:
        """The value of an operand of the tape."""
        return read_operand(operand, self.values, self.count_items)

    def key(self, operand: Operand) -> Any:
        """A key of a dictionary.

        Raises:
            EvaluationError: it is no plain value.
        """
        value = self.decided_by(self.written_out(operand))
        if all(one is None or type(one) in PLAIN for one in (value if type(value) is tuple else [value])):
            return value
        raise EvaluationError(f"A key is text, a number or a tuple of such here, and this is {describe(value)}.")

    def count_items(self, items: Sequence[Any]) -> None:
        """Count what a list, tuple or slice of these items moves."""
        ranges = sum(limits.length(item) for item in items if type(item) is range)  # torch goes through them
        self.moved += len(items) + ranges + PACK_COST
        limits.check_moved(self.moved)

    def items_of(self, operand: Operand) -> list[Operand]:
        """The items of a sequence, as operands of the tape; those of a tensor or a result are subscript steps."""
        items, entries = items_in(operand), entries_in(operand)
        if entries is not None:
            return [Const(key) for key in entries]
        if items is not None:
            return [self.newest(item) for item in items] if self.newer else list(items)
        value = self.read(operand)
        if is_scalar(value):
            raise EvaluationError(f"{sentence(describe(value))} has no items to go through.")
        limits.check_turns(limits.length(value))
        if isinstance(value, range):
            self.decisions.update(refs(operand))
        if isinstance(operand, Const) or isinstance(value, range):
            return [Const(item) for item in value]
        parts: Sequence[Any] = value.unbind(0) if isinstance(value, Tensor) else value
        return [self.item_step(operand, index, part) for index, part in enumerate(parts)]

    def item_step(self, operand: Operand, index: int, item: Any) -> Operand:
        """A subscript that no text asks for."""
        step = Equation("op:getitem", (operand, Const(index)), self.new_slot(), self.span)
        return self.record(step, item)

    def part(self, operand: Operand, op: str, key: Any) -> Operand:
        """A part of a record, read as no text asks for: an attribute, or the item of a key."""
        operands = (operand,) if op.startswith("attr:") else (operand, Const(key))
        step = Equation(op, operands, self.new_slot(), self.span)
        return self.record(step, apply_operation(op, [self.read(each) for each in operands]))

    def is_sequence(self, operand: Operand) -> bool:
        """Whether an operand is a list or tuple, written or as a value."""
        return items_in(operand) is not None or (
            isinstance(operand, (Ref, Const)) and isinstance(value := self.read(operand), (list, tuple)) and not is_scalar(value)
        )

    def new_slot(self) -> int:
        """A slot of the tape that no equation of the program has."""
        self.next_slot += 1
        return self.next_slot - 1

    def label(self, operand: Operand | None) -> str:
        """The name or text of an operand of the tape."""
        if isinstance(operand, Ref):
            if operand.slot < len(self.program.inputs):
                return self.program.inputs[operand.slot]
            step = next(step for step in reversed(self.tape) if step.slot == operand.slot)
            return step.name or self.program.text(step.span)
        if isinstance(operand, Pack):
            return f"[{', '.join(map(self.label, operand.items))}]"
        return "a constant"

    # Control flow

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Inside, equations run more than once, and each time has slots of its own."""
        outer, self.in_loop = self.in_loop, True
        try:
            yield
        finally:
            self.in_loop = outer

    def turn(self) -> None:
        """Count a turn of a loop, a call, a change of a list."""
        self.turns += 1
        limits.check_steps(self.turns)

    def assign(self, params: Any, item: Operand) -> None:
        """Fill a comprehension's variables."""
        if isinstance(params, int):
            self.bound[params] = item
            return
        items = self.items_of(item)
        if len(items) != len(params):
            raise EvaluationError(f"{len(params)} names can't be filled from {len(items)} items.")
        for param, part in zip(params, items, strict=True):
            self.assign(param, part)

    def body(self, block: Block) -> Operand:
        """Run a body; what its result stands for."""
        self.run(block.equations)
        return self.held(block.result)

    def decided_by(self, operand: Operand) -> Any:
        """What an operand is, where that decides what runs."""
        self.decisions.update(refs(operand))
        value = self.read(operand)
        if self.mapped and isinstance(value, Tensor):
            self.refuse_rows(NO_BRANCH, operand)
        return value

    def is_made_of_rows(self, *operands: Operand) -> bool:
        """Whether something is made of the rows of vmap that are under way."""
        made_of = {slot for operand in operands for slot in refs(operand)}
        for step in reversed(self.history if self.mapped else ()):
            if step.slot in made_of:
                made_of.update(step.reads())
        return not made_of.isdisjoint(self.mapped)

    def refuse_rows(self, message: str, *operands: Operand) -> None:
        """Refuse what PyTorch has no single value of, as it computes all rows of vmap at once; `message` is what it says.

        Raises:
            EvaluationError: it is made of the rows.
        """
        if self.is_made_of_rows(*operands):
            raise EvaluationError("torch.vmap computes all rows at once; this asks for a value of each", torch_message=message)

    def truth(self, operand: Operand, equation: Equation) -> bool:
        """Whether a condition holds."""
        if (entries := entries_in(operand)) is not None:
            return bool(entries)
        operand = self.written_out(operand) if self.lists_change else operand
        value = self.decided_by(operand)
        try:
            return bool(value)
        except Exception as error:
            step = replace(equation, operands=(operand,))
            raise self.failure(error, step, [value], {}) from None


def items_in(operand: Operand) -> Sequence[Operand] | None:
    """The items of a list or tuple that is known item by item; None for anything else."""
    if isinstance(operand, Pack):
        return operand.items if operand.kind in ("list", "tuple") else None
    return operand.value.items if isinstance(operand, Const) and isinstance(operand.value, Items) else None


def entries_in(operand: Operand) -> dict[Any, Operand] | None:
    """What a dictionary holds, by its keys; None for anything else."""
    return operand.value.entries if isinstance(operand, Const) and isinstance(operand.value, Entries) else None


def kind_of(operand: Operand) -> str:
    """Whether what is known item by item is a list or a tuple."""
    return operand.kind if isinstance(operand, Pack) else "list"


def _unseen(step: Equation, label: Callable[[Operand | None], str]) -> JvpError:
    """An in-place step without a graph on a tensor with one: the value would be another than the one differentiated."""
    return refusals.unseen_change(
        label(step.operands[0]),
        "Under torch.no_grad(), and through .data, numbers are overwritten and the graph is not: the output would belong to "
        "other inputs than its gradient does.",
    )


def _as_it_is(x: Tensor) -> Tensor:
    """A copy that stays when `x` is changed, and requires a gradient where `x` does; it has no graph."""
    return x.detach().clone().requires_grad_(x.requires_grad)


def _kept(operand: Operand) -> Operand:
    """An operand of the tape that stays as it is, whatever the program does to an array later."""
    if isinstance(operand, Const) and type(operand.value) is Array:
        return Const(operand.value.copied())
    return replace(operand, items=tuple(map(_kept, operand.items))) if isinstance(operand, Pack) else operand
