"""An evaluation once more, one operation at a time: every step a small graph of its own, from fresh leaves.

The tape is run again from the same inputs and the same seed.  Each step gets the values of its operands as fresh
leaves, so that its graph is its local derivative and nothing else.  In-place steps become pure ones: they work on a
copy, and whatever shares memory with what they change gets a new value by a `write` step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from jvpcli.language import catalog
from jvpcli.language.arrays import Array
from jvpcli.language.evaluate import Evaluation, as_leaf, seeded, weighed
from jvpcli.language.operations import (
    apply_operation,
    can_require_grad,
    is_imported,
    is_in_place,
    read_operand,
    running,
)
from jvpcli.language.readings import custom_functions
from jvpcli.program import Equation, Ref

OPERATION, WRITE, OUTPUT = "operation", "write", "output"


@dataclass(frozen=True, eq=False)
class Primal:
    """The value that a tensor of the evaluation has at one time; an in-place step gives it a new one.

    Attributes:
        number: names it within its chain.
        tensor: the value, without a graph.
        active: whether a gradient can flow from it back to a differentiated input.
        recorded: the evaluation's own tensor, whose memory tells what it shares with others.
    """

    number: int
    tensor: Tensor
    active: bool
    recorded: Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """A tensor that a step gives: its value, and the same with the step's own small graph."""

    primal: Primal
    graph: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One operation, from fresh leaves to its results.

    Attributes:
        kind: "operation"; "write": what an in-place step did to a tensor that shares memory with the one it changed
            (operands: that tensor as it was, and what was written); "output": an input that is itself an output.
        equation: of the tape; that of the in-place step for a write.
        operands: every tensor that it reads, in the order of the text, at every level of lists: the positions.
        arguments: for each operand the number of the argument, or the keyword, that it stands in.
        leaves: for each operand the fresh leaf; None where no gradient can flow on to it.
        results: every tensor that it gives or changes.
        value: what it gives, where that is not one tensor: a number, a size, a tuple with the primals in it.
        again: its results at other values of the operands, with the same random numbers.
        weighed: its derivative holds numbers that follow from the inputs and are not differentiated.
        decided: it is code of the user's own, in which values may decide what runs.
        form: what it does to tensors of which shapes: steps of one form differ by the entries alone; empty: nothing is known.
    """

    kind: str
    equation: Equation
    operands: tuple[Primal, ...]
    arguments: tuple[int | str, ...]
    leaves: tuple[Tensor | None, ...]
    results: tuple[Result, ...]
    value: Any
    again: Callable[[Sequence[Tensor]], list[Tensor]]
    weighed: bool = False
    decided: bool = False
    form: str = ""


@dataclass(frozen=True, eq=False)
class Chain:
    """An evaluation as steps in evaluation order.

    Attributes:
        inputs, outputs: by name.
        steps: what happened between them; a write stands behind the in-place step that made it.
        faithful: whether the outputs came out as they were recorded; if not, the expression is not deterministic.
    """

    inputs: Mapping[str, Primal]
    outputs: Mapping[str, Primal]
    steps: tuple[Step, ...]
    faithful: bool


def replay(evaluation: Evaluation, inputs: Mapping[str, Tensor], seed: int) -> Chain:
    """The steps of an evaluation of a program.

    Args:
        evaluation: of a program (a Python function has no tape).
        inputs: the values that were evaluated, untouched by in-place steps.
        seed: the evaluation's.
    """
    run = _Replay(evaluation, inputs)
    with seeded(seed, inputs.values()), torch.enable_grad():
        for equation in evaluation.tape:
            run.step(equation)
    return run.chain()


class _Replay:
    """The state of a replay: what each slot of the tape holds now, with a Primal for each tensor."""

    def __init__(self, evaluation: Evaluation, inputs: Mapping[str, Tensor]) -> None:
        self.evaluation = evaluation
        self.weighed = weighed(evaluation)
        self.decided = evaluation.read or bool(custom_functions(evaluation.outputs.values()))
        self.recorded = _recorded(evaluation)
        self.held: dict[int, Any] = {}
        self.slots_of: dict[int, set[int]] = {}
        self.steps: list[Step] = []
        self.count = 0
        for slot, (name, leaf) in enumerate(evaluation.inputs.items()):
            self.hold(slot, self.primal(inputs[name], name in evaluation.wrt, leaf))
        self.inputs = dict(zip(evaluation.inputs, self.held.values(), strict=True))

    def primal(self, tensor: Tensor, active: bool, recorded: Tensor) -> Primal:
        """A new value."""
        self.count += 1
        return Primal(self.count - 1, tensor.detach(), active, recorded)

    def hold(self, slot: int, value: Any) -> None:
        """Put a value into a slot."""
        self.held[slot] = value
        for primal in flat(value, Primal):
            self.slots_of.setdefault(storage(primal.recorded), set()).add(slot)

    # Steps

    def step(self, equation: Equation) -> None:
        """One equation of the tape."""
        template = [read_operand(operand, self.held) for operand in equation.operands]
        keywords = {name: read_operand(operand, self.held) for name, operand in equation.keywords}
        if equation.kind == "random":  # random numbers begin anew, which is no step
            self.hold(equation.slot, apply_operation(equation.op, template, keywords, self.evaluation.functions))
            return
        parts: list[tuple[int | str, Any]] = [*enumerate(template), *keywords.items()]
        placed = [(place, primal) for place, part in parts for primal in flat(part, Primal)]
        operands = tuple([primal for _, primal in placed])
        functions = self.evaluation.functions
        operation = _Operation(equation, template, keywords, functions, _random_state(equation))
        leaves = tuple([_leaf(primal) for primal in operands])
        value, given = operation.first(leaves)
        tensors = list(flat(value, Tensor))
        recorded = list(flat(self.recorded[equation.slot], Tensor))
        recorded = recorded if len(recorded) == len(tensors) else tensors
        results = [Result(self.primal(t, t.requires_grad, r), t) for t, r in zip(tensors, recorded, strict=True)]
        supply = iter(results)
        value = mapped(value, Tensor, lambda _: next(supply).primal)
        changes = []
        for position, tensor in given:
            result = next((r for r in results if r.graph is tensor), None)
            if result is None:
                old = operands[position]
                result = Result(self.primal(tensor, tensor.requires_grad, old.recorded), tensor)
                results.append(result)
            changes.append((operands[position].recorded, result.primal))
        kept, own = tuple([leaf if leaf.requires_grad else None for leaf in leaves]), is_imported(equation.op)
        weighs = equation.slot in self.weighed or (own and self.evaluation.weighed)
        self.steps.append(
            Step(
                OPERATION,
                equation,
                operands,
                tuple([place for place, _ in placed]),
                kept,
                tuple(results),
                None if isinstance(value, Primal) else value.copied() if isinstance(value, Array) else value,
                operation.again,
                weighs,
                own and self.decided,
                "" if own or weighs or changes or operation.state is not None else operation.form,
            )
        )
        self.hold(equation.slot, value)
        for written, new in changes:
            self.spread(equation, written, new)

    # In-place steps

    def spread(self, equation: Equation, written: Tensor, new: Primal) -> None:
        """Give a new value to everything that shares memory with what an in-place step has changed."""
        done: dict[int, Primal] = {}

        def renewed(primal: Primal) -> Primal:
            if primal.number not in done:
                done[primal.number] = self.renewed(equation, primal, written, new)
            return done[primal.number]

        for slot in sorted(self.slots_of.get(storage(written), ())):
            self.held[slot] = mapped(self.held[slot], Primal, renewed)

    def renewed(self, equation: Equation, old: Primal, written: Tensor, new: Primal) -> Primal:
        """What a value is after the write; where autograd does not know of it, only the numbers change."""
        if old.number == new.number or storage(old.recorded) != storage(written):
            return old
        known = _base(old.recorded) is _base(written)  # views of one tensor are, what `.detach()` gives is not
        if same_place(old.recorded, written):
            return new if known else replace(old, tensor=new.tensor)
        index = overlap(old.recorded, written)
        if index is None:
            return old

        def write(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [overwritten(tensors[0], tensors[1], index, old.recorded, written)]

        if not known:
            return replace(old, tensor=write([old.tensor, new.tensor])[0])
        leaves = (_leaf(old), _leaf(new))
        (graph,) = write(leaves)
        result = Result(self.primal(graph, graph.requires_grad, old.recorded), graph)
        kept = tuple([leaf if leaf.requires_grad else None for leaf in leaves])
        self.steps.append(Step(WRITE, equation, (old, new), (0, 1), kept, (result,), None, write))
        return result.primal

    # The end

    def chain(self) -> Chain:
        """What was found, once the whole tape has run."""
        outputs = {}
        for name, slot in self.evaluation.output_slots.items():
            primal = self.held[slot]
            is_input = any(primal.number == x.number for x in self.inputs.values())
            outputs[name] = self.output_of(primal) if is_input else primal
        faithful = all(_alike(outputs[name].tensor, y.detach()) for name, y in self.evaluation.outputs.items())
        return Chain(self.inputs, outputs, _needed(self.steps, outputs.values()), faithful)

    def output_of(self, primal: Primal) -> Primal:
        """An input that is itself an output: a step that hands it on."""
        slot = next(slot for slot, held in self.held.items() if held is primal)
        spans = self.evaluation.program.input_spans if self.evaluation.program else ()
        span = spans[slot] if slot < len(spans) else (0, 0)
        leaf = _leaf(primal)
        result = Result(self.primal(primal.tensor, primal.active, primal.recorded), leaf)
        kept = leaf if leaf.requires_grad else None
        equation = Equation("output", (Ref(slot),), -1, span)
        self.steps.append(
            Step(OUTPUT, equation, (primal,), (0,), (kept,), (result,), None, lambda tensors: list(tensors))
        )
        return result.primal


@dataclass(frozen=True)
class _Operation:
    """An equation's operation with a place for each tensor."""

    equation: Equation
    template: list[Any]
    keywords: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    state: Tensor | None

    def first(self, tensors: Sequence[Tensor]) -> tuple[Any, list[tuple[int, Tensor]]]:
        """What it gives, and (position, tensor) of each operand that it has changed: a copy, the operand is kept."""
        changing = catalog.changes_arguments(self.equation.op) or is_imported(self.equation.op)
        given = [t.clone() for t in tensors] if changing else list(tensors)
        before = [t._version for t in given]
        supply = iter(given)
        arguments = mapped(self.template, Primal, lambda _: next(supply))
        keywords = mapped(dict(self.keywords), Primal, lambda _: next(supply))
        with running(self.equation):
            value = apply_operation(self.equation.op, arguments, keywords, self.functions)
        changed = [(i, t) for i, t in enumerate(given) if changing and t._version != before[i]]
        return value, changed

    @property
    def form(self) -> str:
        """Its name and its arguments, of tensors what they are, not their entries."""
        told = mapped([self.template, dict(self.keywords)], Primal, _kind_of)
        return f"{self.equation.op} {self.equation.recorded} {self.equation.casts} {told!r}"

    def again(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The results at other values of the operands, with the same random numbers."""
        with _random_from(self.state), torch.enable_grad():
            value, changed = self.first(tensors)
        results = list(flat(value, Tensor))
        return results + [t for _, t in changed if not any(t is r for r in results)]


def _needed(steps: Sequence[Step], outputs: Iterable[Primal]) -> tuple[Step, ...]:
    """The steps without the writes whose result nothing reads."""
    read = {primal.number for primal in outputs}
    kept = []
    for step in reversed(steps):
        if step.kind != WRITE or step.results[0].primal.number in read:
            kept.append(step)
            read.update(primal.number for primal in step.operands)
    return tuple(reversed(kept))


def _kind_of(primal: Primal) -> str:
    """All of a value but its entries."""
    t = primal.tensor
    return _in_words(t.shape, t.stride(), t.dtype, t.device, primal.active, t.is_conj(), t.is_neg())


@lru_cache(maxsize=1024)
def _in_words(*facts: Any) -> str:
    return repr(facts)


def _leaf(primal: Primal) -> Tensor:
    return as_leaf("", primal.tensor, primal.active, copy=False)


def _alike(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not can_require_grad(a):
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=torch.finfo(a.dtype).eps ** 0.75, equal_nan=True)


def _recorded(evaluation: Evaluation) -> dict[int, Any]:
    """The evaluation's own tensors by slot: the changed one where it reports what stood there before an in-place step."""
    recorded = {**evaluation.values, **dict(enumerate(evaluation.inputs.values()))}
    for equation in reversed(evaluation.tape):
        first = equation.operands[0] if equation.operands else None
        if not is_in_place(equation.op) or not isinstance(first, Ref):
            continue
        before, after = recorded[first.slot], recorded[equation.slot]
        if isinstance(before, Tensor) and isinstance(after, Tensor) and storage(before) != storage(after):
            recorded = {slot: after if value is before else value for slot, value in recorded.items()}
    return recorded


# Random numbers


def _random_state(equation: Equation) -> Tensor | None:
    """Where the generator stands before a step that draws from it."""
    draws = catalog.is_random(equation.op) or is_imported(equation.op)
    return torch.default_generator.get_state() if draws else None


@contextmanager
def _random_from(state: Tensor | None) -> Iterator[None]:
    if state is None:
        yield
        return
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(state)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


# Nested values


def mapped(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The same lists, tuples, slices and named results, with `function` of everything of a kind in its place."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {key: mapped(item, kind, function) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, kind, function) for item in value]
    if isinstance(value, slice):
        return slice(*(mapped(part, kind, function) for part in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and not isinstance(value, torch.Size):
        items = [mapped(item, kind, function) for item in value]
        return tuple(items) if type(value) is tuple else getattr(value, "_make", type(value))(items)
    return value


def flat(value: Any, kind: type) -> Iterator[Any]:
    """Everything of a kind in nested lists, tuples, slices and named results, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        yield from flat(list(value.values()), kind)
    elif isinstance(value, slice):
        yield from flat([value.start, value.stop, value.step], kind)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item, kind)


def storage(t: Tensor) -> int:
    """What identifies the memory that a tensor lies in."""
    return t.untyped_storage()._cdata


def same_place(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one storage are the same entries, seen in the same way."""
    return a is b or (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.storage_offset() == b.storage_offset()
        and a.is_conj() == b.is_conj()
        and a.is_neg() == b.is_neg()
    )


def overlap(seen: Tensor, written: Tensor) -> Tensor | None:
    """For each entry of `seen` the flat position of the entry of `written` that lies in the same place, or -1.

    Both lie in one storage; where one is complex and the other real, entries are counted in real numbers (a last axis
    of 2).  None: no entry is shared, or the memory is read as another type.
    """
    if seen.dtype.to_real() != written.dtype.to_real() or not seen.numel() or not written.numel():
        return None
    real = seen.is_complex() != written.is_complex()
    places = _places(written, real)
    holder = torch.full((_entries(seen, real),), -1, dtype=torch.int64)
    holder[places.reshape(-1)] = torch.arange(places.numel())
    index = holder[_places(seen, real)]
    return index.to(seen.device) if bool((index >= 0).any()) else None


def overwritten(old: Tensor, new: Tensor, index: Tensor, seen: Tensor, written: Tensor) -> Tensor:
    """`old` with the entries that `index` (see :func:`overlap`) finds in `new` taken from there; differentiable.

    `seen` and `written` are tensors of the memory that `old` and `new` are values of.
    """
    real = seen.is_complex() != written.is_complex()
    kept, source = _physical(old, seen, real), _physical(new, written, real).reshape(-1)
    mixed = torch.where(index >= 0, source[index.clamp(min=0)], kept)
    return _logical(mixed, seen, real)


def _base(t: Tensor) -> Tensor:
    base = t._base
    return t if base is None else base


def _entries(t: Tensor, real: bool) -> int:
    """How many entries the whole storage holds."""
    size = t.element_size() // (2 if real and t.is_complex() else 1)
    return t.untyped_storage().nbytes() // size


def _places(t: Tensor, real: bool) -> Tensor:
    """int64: for each entry of `t` its position in the storage."""
    size, stride, offset = list(t.shape), list(t.stride()), t.storage_offset()
    if real and t.is_complex():
        size, stride, offset = [*size, 2], [*(2 * s for s in stride), 1], 2 * offset
    return torch.arange(_entries(t, real)).as_strided(size, stride, offset)


def _physical(value: Tensor, memory: Tensor, real: bool) -> Tensor:
    """What stands in memory for a value: lazily conjugated and negated views hold other numbers than they show."""
    value = value.conj() if memory.is_conj() else value
    value = -value if memory.is_neg() else value
    return torch.view_as_real(value.resolve_conj()) if real and value.is_complex() else value


def _logical(value: Tensor, memory: Tensor, real: bool) -> Tensor:
    value = torch.view_as_complex(value) if real and memory.is_complex() else value
    value = -value if memory.is_neg() else value
    return value.conj() if memory.is_conj() else value
