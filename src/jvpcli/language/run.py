"""One run of a program: its equations in turn, control flow unrolled onto a flat tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import EvaluationError, ForbiddenError, JvpError, Span
from jvpcli.language import catalog, forecast, limits
from jvpcli.language.operations import (
    apply_operation,
    check_result,
    describe,
    is_in_place,
    is_plain,
    is_scalar,
    read_operand,
)
from jvpcli.program import Block, Const, Equation, Operand, Pack, Program, Ref, refs

LARGE = 1 << 20
"""Bytes of a result from which on it is counted."""


PACK_COST = 4
"""What a list costs besides its items, in items copied."""


class Run:
    """The state of one evaluation.

    `bound` says what each slot of the program stands for on the tape; `values` holds the values of the tape's slots, and
    `reported` the same but for tensors that were changed in place later, which stand there as they were; `newer` leads
    from a slot whose tensor was changed in place to that of the changed one.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        memory_limit: int | None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.program = program
        self.functions = functions or {}
        self.memory_limit = memory_limit
        self.devices = {"cpu", *(str(value.device) for value in inputs.values())}
        self.bound: dict[int, Operand] = {slot: Ref(slot) for slot in range(len(inputs))}
        self.values: dict[int, Any] = dict(enumerate(inputs.values()))
        self.reported: dict[int, Any] = dict(self.values)
        self.tape: list[Equation] = []
        self.next_slot = program.slots
        self.newer: dict[int, int] = {}
        self.slots_of: dict[int, list[int]] = {id(value): [slot] for slot, value in self.values.items()}
        self.turns = 0
        self.moved = 0
        self.span: Span = (0, 0)
        self.in_loop = False
        self.held = 0
        self.storages: set[int] = set()

    def run(self, equations: Sequence[Equation]) -> None:
        """Each equation in turn."""
        for equation in equations:
            self.span = equation.span
            try:
                self.bound[equation.slot] = self.step(equation)
            except JvpError as error:
                error.with_context(span=equation.span, source=self.program.source)
                raise  # with its cause: the user's own code has a traceback that --debug shows

    def step(self, equation: Equation) -> Operand:
        """One equation; what its slot stands for on the tape."""
        handler = _HANDLERS.get(equation.op) or _HANDLERS.get(equation.kind)
        return self.plain(equation) if handler is None else handler(self, equation)

    def plain(self, equation: Equation) -> Operand:
        """A call, operator, attribute: one step of the tape."""
        operands = self.operands(equation)
        keywords = tuple((name, self.on_tape(operand)) for name, operand in equation.keywords)
        slot = self.new_slot() if self.in_loop else equation.slot
        if (operands, keywords, slot) != (equation.operands, equation.keywords, equation.slot):
            equation = replace(equation, operands=operands, keywords=keywords, slot=slot)
        return self.execute(equation)

    def execute(self, step: Equation) -> Operand:
        """Run one step of the tape."""
        arguments = [self.read(operand) for operand in step.operands]
        keywords = {name: self.read(operand) for name, operand in step.keywords}
        self.check(step.op, arguments, keywords)
        owner = arguments[0] if arguments else None
        overwritten = owner if is_in_place(step.op) and isinstance(owner, Tensor) else None
        before = None if overwritten is None else _as_it_is(overwritten)
        try:
            value = apply_operation(step.op, arguments, keywords, self.functions)
        except JvpError:
            raise
        except Exception as error:
            raise self.failure(error, step, arguments, keywords) from None
        check_result(value, step.op, self.devices)
        result = self.record(step, value)
        if overwritten is not None and isinstance(result, Ref):
            self.changed_in_place(overwritten, before, result)
        return result

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
        forecast.check_memory(op, arguments, keywords, self.held, self.memory_limit)

    def record(self, step: Equation, value: Any) -> Operand:
        """Put a step on the tape; what depends on constants alone, and holds no tensor, is a constant itself."""
        if is_plain(value) and not any(True for operand in _all_operands(step) for _ in refs(operand)):
            return Const(value)
        limits.check_steps(len(self.tape))
        self.tape.append(step)
        self.values[step.slot] = self.reported[step.slot] = value
        self.slots_of.setdefault(id(value), []).append(step.slot)
        if isinstance(value, Tensor) and forecast.places(value.shape) * value.element_size() > LARGE:
            self.count(step.op, value)
        return Ref(step.slot)

    def count(self, op: str, value: Tensor) -> None:
        """Add a large result to the bytes held, unless it shares memory with one before."""
        forecast.check_result(op, value, self.held if value._base is None else 0, self.memory_limit)
        storage = value.untyped_storage()
        if storage.data_ptr() not in self.storages:
            self.storages.add(storage.data_ptr())
            self.held += storage.nbytes()

    def changed_in_place(self, changed: Tensor, before: Tensor | None, result: Ref) -> None:
        """After an in-place step, whatever stood for the changed tensor stands for the step's result."""
        for slot in self.slots_of[id(changed)]:
            if slot != result.slot:
                self.newer[slot] = result.slot
                self.reported[slot] = before
        self.slots_of[id(changed)] = [result.slot]

    def named(self) -> dict[str, Tensor]:
        """The tensors that the text gives names to, as they are now."""
        values = ((name, self.read(self.on_tape(operand))) for name, operand in self.program.names if isinstance(operand, Ref))
        return {name: value for name, value in values if isinstance(value, Tensor)}

    # Operands

    def operands(self, equation: Equation) -> tuple[Operand, ...]:
        """An equation's operands on the tape, stars written out."""
        return self.items_on_tape(equation.operands)

    def items_on_tape(self, items: Sequence[Operand]) -> tuple[Operand, ...]:
        """Operands on the tape; a star's items stand in its place."""
        written: list[Operand] = []
        for item in items:
            if isinstance(item, Pack) and item.kind == "star":
                written += self.items_of(self.on_tape(item.items[0]))
            else:
                written.append(self.on_tape(item))
        return tuple(written)

    def on_tape(self, operand: Operand) -> Operand:
        """What an operand of the program stands for on the tape."""
        if isinstance(operand, Ref):
            bound = self.bound[operand.slot]
            return self.newest(bound) if self.newer else bound
        if isinstance(operand, Const):
            return operand
        return self.pack(operand.kind, self.items_on_tape(operand.items))

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

    def count_items(self, items: Sequence[Any]) -> None:
        """Count what a list, tuple or slice of these items moves."""
        ranges = sum(limits.length(item) for item in items if type(item) is range)  # torch goes through them
        self.moved += len(items) + ranges + PACK_COST
        limits.check_moved(self.moved)

    def items_of(self, operand: Operand) -> list[Operand]:
        """The items of a sequence, as operands of the tape; those of a tensor or a result are subscript steps."""
        if _is_sequence(operand):
            assert isinstance(operand, Pack)
            return list(operand.items)
        value = self.read(operand)
        if is_scalar(value):
            raise EvaluationError(f"{describe(value).capitalize()} has no items to go through.")
        limits.check_turns(limits.length(value))
        if isinstance(operand, Const) or isinstance(value, range):
            return [Const(item) for item in value]
        items: Sequence[Any] = value.unbind(0) if isinstance(value, Tensor) else value
        return [self.item_step(operand, index, item) for index, item in enumerate(items)]

    def item_step(self, operand: Operand, index: int, item: Any) -> Operand:
        """A subscript that no text asks for."""
        step = Equation("op:getitem", (operand, Const(index)), self.new_slot(), self.span)
        return self.record(step, item)

    def is_sequence(self, operand: Operand) -> bool:
        """Whether an operand is a list or tuple, written or as a value."""
        return _is_sequence(operand) or (
            isinstance(operand, Ref | Const) and isinstance(self.read(operand), list | tuple)
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

    def loop(self, equation: Equation) -> Operand:
        """A comprehension, unrolled."""
        (body,) = equation.bodies
        results: list[Operand] = []
        outer, self.in_loop = self.in_loop, True
        for item in self.items_of(self.on_tape(equation.operands[0])):
            self.turns += 1
            limits.check_steps(self.turns)
            self.assign(body.params, item)
            if all(self.truth(self.body(condition), equation) for condition in body.conditions):
                results.append(self.body(body))
        self.in_loop = outer
        if equation.target == "flat":
            results = [item for result in results for item in self.items_of(result)]
        return self.pack("list", results)

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
        """Run a body; its result on the tape."""
        self.run(block.equations)
        return self.on_tape(block.result)

    def choose(self, equation: Equation) -> Operand:
        """a if condition else b: only the branch taken runs."""
        condition = self.truth(self.on_tape(equation.operands[0]), equation)
        return self.body(equation.bodies[0 if condition else 1])

    def both(self, equation: Equation) -> Operand:
        """a and b, a or b: b runs only if a doesn't decide."""
        first = self.on_tape(equation.operands[0])
        decided = self.truth(first, equation) != (equation.op == "and")
        return first if decided else self.body(equation.bodies[0])

    def truth(self, operand: Operand, equation: Equation) -> bool:
        """Whether a condition holds."""
        value = self.read(operand)
        try:
            return bool(value)
        except Exception as error:
            step = replace(equation, operands=(operand,))
            raise self.failure(error, step, [value], {}) from None

    # Lists: these rearrange operands, without a step of their own

    def unpack(self, equation: Equation) -> Operand:
        """One item of a tuple assignment."""
        operand = self.on_tape(equation.operands[0])
        index = dict(equation.keywords)["index"]
        assert isinstance(index, Const)
        count, or_more = int(equation.target.rstrip("+")), equation.target.endswith("+")
        value = operand.items if _is_sequence(operand) else self.read(operand)  # type: ignore[union-attr]
        if is_scalar(value):
            raise EvaluationError(f"{describe(value).capitalize()} can't be unpacked into {count} names.")
        items = limits.length(value)
        if items < count or (items > count and not or_more):
            wanted = f"{count} or more" if or_more else str(count)
            raise EvaluationError(f"{wanted} items were expected to unpack, and there are {items}.")
        if _is_sequence(operand):
            item: Operand = value[index.value]
            return item
        slot = self.new_slot() if self.in_loop else equation.slot
        return self.execute(replace(equation, operands=(operand,), slot=slot))

    def getitem(self, equation: Equation) -> Operand:
        """A subscript; of a list with a known index it is just the item."""
        left, key = self.operands(equation)
        if _is_sequence(left) and isinstance(left, Pack):
            at = self.read(key)
            if isinstance(at, slice):
                return self.pack(left.kind, left.items[at])
            if isinstance(at, int) and -len(left.items) <= at < len(left.items):
                return left.items[at]
        return self.plain(equation)

    def augmented(self, equation: Equation) -> Operand:
        """`y += 1`: in place where y is a tensor (and torch has the operator), else the plain operator."""
        left = self.read(self.on_tape(equation.operands[0]))
        if isinstance(left, Tensor) and hasattr(left, f"__{equation.target}__"):
            return self.plain(equation)
        return self.step(replace(equation, op=f"op:{catalog.AUGMENTED[equation.target]}"))

    def add(self, equation: Equation) -> Operand:
        """list + list, or any other sum."""
        left, right = self.operands(equation)
        if self.is_sequence(left) and self.is_sequence(right):
            kind = left.kind if isinstance(left, Pack) else "list" if type(self.read(left)) is list else "tuple"
            return self.pack(kind, [*self.items_of(left), *self.items_of(right)])
        return self.plain(equation)

    def multiply(self, equation: Equation) -> Operand:
        """list * number, or any other product."""
        left, right = self.operands(equation)
        if self.is_sequence(right):
            left, right = right, left
        if self.is_sequence(left):
            times = self.read(right)
            if isinstance(times, int):
                items = self.items_of(left)
                limits.check_turns(len(items) * max(times, 0))
                kind = left.kind if isinstance(left, Pack) else "list" if type(self.read(left)) is list else "tuple"
                return self.pack(kind, items * times)
        return self.plain(equation)

    def zip(self, equation: Equation) -> Operand:
        """zip(a, b): tuples of the operands."""
        if equation.keywords:
            raise EvaluationError("zip takes no keyword arguments here.")
        columns = [self.items_of(operand) for operand in self.operands(equation)]
        return self.pack("list", [self.pack("tuple", row) for row in zip(*columns, strict=False)])

    def enumerate(self, equation: Equation) -> Operand:
        """enumerate(items, start=0): pairs of index and operand."""
        if len(self.operands(equation)) not in (1, 2):
            raise EvaluationError("enumerate takes the items, and maybe a start.")
        items, *rest = self.operands(equation)
        start = self.read(rest[0] if rest else self.on_tape(dict(equation.keywords).get("start", Const(0))))
        if not isinstance(start, int):
            raise EvaluationError("enumerate starts at an integer.")
        pairs = enumerate(self.items_of(items), start)
        return self.pack("list", [self.pack("tuple", (Const(index), item)) for index, item in pairs])

    def sequence(self, equation: Equation) -> Operand:
        """list(items), tuple(items), reversed(items)."""
        kind = "tuple" if equation.target == "tuple" else "list"
        operands = self.operands(equation)
        if len(operands) > 1 or equation.keywords:
            raise EvaluationError(f"{equation.target} takes one argument.")
        items = self.items_of(operands[0]) if operands else []
        return self.pack(kind, items[::-1] if equation.target == "reversed" else items)


_HANDLERS: Mapping[str, Callable[[Run, Equation], Operand]] = {
    "loop": Run.loop,
    "if": Run.choose,
    "and": Run.both,
    "or": Run.both,
    "unpack": Run.unpack,
    "op:getitem": Run.getitem,
    "op:add": Run.add,
    "op:mul": Run.multiply,
    **{f"op:{name}": Run.augmented for name in catalog.AUGMENTED},
    "builtin:zip": Run.zip,
    "builtin:enumerate": Run.enumerate,
    "builtin:list": Run.sequence,
    "builtin:tuple": Run.sequence,
    "builtin:reversed": Run.sequence,
}
"""The equations that are not simply a step of the tape."""


def _is_sequence(operand: Operand) -> bool:
    return isinstance(operand, Pack) and operand.kind in ("list", "tuple")


def _as_it_is(x: Tensor) -> Tensor:
    """A copy that stays when `x` is changed, and requires a gradient where `x` does; it has no graph."""
    return x.detach().clone().requires_grad_(x.requires_grad)


def _all_operands(step: Equation) -> Sequence[Operand]:
    return (*step.operands, *(operand for _, operand in step.keywords))
