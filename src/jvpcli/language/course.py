"""How the evaluation of a text went, so that the next one at the same shapes goes the same way without deciding it anew.

Of a text whose steps hold at any point, the tape of one evaluation gives the values of another: what was found out
beside the values (what things are called, what is refused, how much memory it takes) is the same where shapes,
dtypes and plain numbers are.  Guards of arguments look at each step's values every time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jvpcli.language import catalog, forecast
from jvpcli.language.evaluate import Evaluation, Shared, as_leaf, is_decided, is_weighed, may_change
from jvpcli.language.operations import LOOKED_UP, carried_out, operation, reader
from jvpcli.program import Block, Equation, Program, Ref

Reader = Callable[[Mapping[int, Any]], Any]
"""Values by slot to what an operand stands for."""

DECIDING = ("if", "and", "or", "while")
"""Kinds of equations that choose what runs by the values at hand."""

MOST_BYTES = 1 << 24
"""Of evaluations whose tensors take more together what there is of memory is asked each time."""


def decides(part: Equation | Block) -> bool:
    """Whether values decide what runs: in a conditional, or in the conditions of a comprehension."""
    if isinstance(part, Block):
        return bool(part.conditions) or any(map(decides, part.equations))
    return part.kind in DECIDING or any(map(decides, part.bodies))


def holds_anywhere(program: Program, evaluation: Evaluation) -> bool:
    """Whether the steps of an evaluation hold at any point.

    They don't where something is decided by a value, drawn at random, changed in place, or done by the user's code, and
    where the program takes derivatives itself, or lets a graph end.
    """
    if set(evaluation.output_slots) != set(evaluation.outputs) or any(map(decides, program.equations)):
        return False
    return not any(
        not step.recorded or step.casts or step.kind == "derive" or catalog.is_random(step.op) or may_change(step)
        for step in evaluation.tape
    )


def run_steps(tape: Iterable[Equation], values: dict[int, Any]) -> None:
    """Steps one after the other, nothing decided anew; `values` holds those of the inputs, and then of each step.

    Raises:
        Whatever a step raises.
    """
    for step in tape:
        values[step.slot] = carried_out(step, values)


class _Turn(NamedTuple):
    """A step of a course, with what is found out of it once.

    Attributes:
        op, slot: as its equation has them.
        does: what it does, as `operations.operation` has it.
        operands, keywords: read what it is applied to from the values before it.
        form: what comes out of it, as `_form` tells.
        is_sized: whether values may decide how large that is.
    """

    op: str
    slot: int
    does: Callable[[Sequence[Any], Mapping[str, Any]], Any]
    operands: Sequence[Reader]
    keywords: Sequence[tuple[str, Reader]]
    form: Any
    is_sized: bool


def _turns(evaluation: Evaluation) -> Iterator[_Turn]:
    values = evaluation.values
    for step in evaluation.tape:
        operands, keywords = list(map(reader, step.operands)), [(name, reader(operand)) for name, operand in step.keywords]
        is_sized = forecast.of_numbers(step.op) and not _takes_out(step, values) and any(map(_is_number, _read(step, values)))
        yield _Turn(step.op, step.slot, operation(step.op), operands, keywords, _form(values[step.slot]), is_sized)


@dataclass(frozen=True, eq=False)
class Course:
    """An evaluation without its tensors.

    Attributes:
        program, wrt: what was evaluated, and to what it is differentiated.
        tape: its steps.
        forms: what each input's slot holds, as `_form` tells.
        turns: the steps as they are run again.
        outputs, named: their slots.
        known: what is the same in all of them.
    """

    program: Program
    wrt: tuple[str, ...]
    tape: tuple[Equation, ...]
    forms: Sequence[Any]
    turns: Sequence[_Turn]
    outputs: Mapping[str, int]
    named: Mapping[str, int]
    known: Shared

    @cached_property
    def leaves(self) -> Sequence[int]:
        """The slots of the inputs to which it is differentiated."""
        return [slot for slot, name in enumerate(self.program.inputs) if name in self.wrt]

    def again(self, inputs: Mapping[str, Tensor], memory_limit: int | None) -> Evaluation | None:
        """The evaluation at other values of the inputs; None where it goes another way, or fails, or torch warns."""
        try:
            with warnings.catch_warnings(record=True) as said, torch.set_grad_enabled(True):
                warnings.simplefilter("always")  # "error" would raise in the other threads of a process, too
                values = self.run(inputs, memory_limit)
        except Exception:  # the ordinary way explains it
            return None
        if said or values is None:
            return None
        return Evaluation(
            self.program,
            dict(zip(self.program.inputs, values.values(), strict=False)),
            {name: values[slot] for name, slot in self.outputs.items()},
            self.tape,
            values,
            self.wrt,
            self.outputs,
            {name: values[slot] for name, slot in self.named.items()},
            known=self.known,
        )

    def run(self, inputs: Mapping[str, Tensor], memory_limit: int | None) -> dict[int, Any] | None:
        """What each slot holds at other values of the inputs, theirs first, as fresh leaves; None where it goes another way.

        The sizes that values decide, as of `repeat_interleave`, are forecast as ever.

        Raises:
            Whatever a step raises; LimitError, where one would need too much memory.
        """
        values, wrt = dict[int, Any](), self.wrt
        for slot, name in enumerate(self.program.inputs):
            values[slot] = leaf = as_leaf(name, inputs[name], name in wrt, False)
            if _form(leaf) != self.forms[slot]:
                return None
        for op, slot, does, operands, named, form, is_sized in self.turns:
            arguments = [read(values) for read in operands]
            keywords = {name: read(values) for name, read in named} if named else {}
            if is_sized:
                forecast.check_memory(op, arguments, keywords, 0, memory_limit)
            values[slot] = value = does(arguments, keywords)
            if _form(value) != form:
                return None
        return values


def course_of(program: Program, evaluation: Evaluation) -> Course | None:
    """How an evaluation went; None where the next one may go another way."""
    values = evaluation.values
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    if program.has_statements or evaluation.said or evaluation.functions or not holds_anywhere(program, evaluation):
        return None
    if sum([x.numel() * x.element_size() for x in tensors]) > MOST_BYTES:
        return None
    if not {step.op.partition(":")[0] for step in evaluation.tape} <= LOOKED_UP:
        return None
    slots = {id(value): slot for slot, value in values.items()}
    same = all(values[evaluation.output_slots[name]] is y for name, y in evaluation.outputs.items())
    if not same or any(id(x) not in slots for x in evaluation.named.values()):
        return None
    return Course(
        program,
        evaluation.wrt,
        evaluation.tape,
        [_form(values[slot]) for slot in range(len(program.inputs))],
        list(_turns(evaluation)),
        evaluation.output_slots,
        {name: slots[id(x)] for name, x in evaluation.named.items()},
        Shared(is_weighed(evaluation), is_decided(evaluation)),
    )


def _read(step: Equation, values: Mapping[int, Any]) -> Iterable[Any]:
    """What a step reads of other steps."""
    for slot in step.reads():
        yield from value if isinstance(value := values[slot], (tuple, list)) else (value,)


def _takes_out(step: Equation, values: Mapping[int, Any]) -> bool:
    """Whether a step takes an item out of a sequence, whatever else is in it."""
    first = step.operands[0] if step.operands else None
    return step.op == "op:getitem" and isinstance(first, Ref) and isinstance(values[first.slot], (tuple, list))


def _is_number(value: Any) -> bool:
    """Whether a value may stand for a size: whole numbers as a tensor, or a single number as one."""
    return isinstance(value, Tensor) and (not value.dim() or not (value.is_floating_point() or value.dtype is torch.bool))


def _form(value: Any) -> Any:
    """All of a value that must be the same for the steps after it to hold: of a tensor what it is, not its entries."""
    if isinstance(value, Tensor):  # whose layout is strided: sparse ones are refused
        return value.shape, value.stride(), value.dtype, value.requires_grad, value.device
    if isinstance(value, (tuple, list)):
        return type(value), [_form(item) for item in value]
    return type(value), value


@dataclass
class Courses:
    """The course of a program at given shapes, from the second time on that it is evaluated."""

    seen: bool = False
    course: Course | None = None

    def again(
        self, program: Program, inputs: Mapping[str, Tensor], wrt: tuple[str, ...], memory_limit: int | None
    ) -> Evaluation | None:
        """The evaluation by the course; None where there is none for this program."""
        course = self.course
        if course is None or course.program is not program or set(course.wrt) != set(wrt):
            return None
        return course.again(inputs, memory_limit)

    def note(self, program: Program, evaluation: Evaluation) -> None:
        """An evaluation has gone the ordinary way."""
        if self.seen:
            self.course = course_of(program, evaluation)
        self.seen = True
