"""A computation as the kernels of torch that it comes down to, run again in their order at other numbers.

What is computed at a point (the steps of a program, passes backwards, many of them under vmap) asks torch for a few kernels, and
most of its time is what leads there: graphs, batching rules, Python.  A recording notes down each kernel with what it is applied
to: tensors that were given, made by an earlier one, or the same at every point.  Run again they give what the computation gives,
to the last digit: they are the same kernels, applied to tensors of the same shapes and strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Computation = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Tensors to tensors."""

Call = tuple[Callable[..., Any], Callable[[Sequence[Any]], Iterable[Any]], int]
"""A kernel, what takes its operands from the values, and the place of what it gives."""

UNSTEADY = frozenset({torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output})
"""Tags of kernels that give a plain number, or a tensor whose size follows from numbers."""


class UnsteadyError(Exception):
    """A computation that may come down to other kernels at another point."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of a computation.

    Attributes:
        values: the constants in their places, and None where the inputs stand, which come first, and what the calls give.
        calls: the kernels, in their order.
        results: the places of the computation's results.
    """

    values: Sequence[Any]
    calls: Sequence[Call]
    results: Sequence[int]

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The results for inputs of the shapes, strides and dtypes that there were.

        Raises:
            Whatever a kernel raises.
        """
        values = [*inputs, *self.values[len(inputs) :]]
        with torch.inference_mode():
            for kernel, taken, place in self.calls:
                values[place] = kernel(*taken(values))
        return [values[place] for place in self.results]


def record(computation: Computation, inputs: Sequence[Tensor], since: int | None = None) -> Kernels:
    """The kernels that a computation comes down to.

    With `since`, all that is made on the way to its results from this number on follows them.

    They must follow from the shapes, strides and dtypes of its inputs alone; what is seen to be otherwise is refused.

    Raises:
        UnsteadyError: it reads a number off a tensor, draws one at random, makes a tensor whose size follows from numbers, or
            writes to a tensor from outside.
        Whatever the computation raises.
    """
    own = [x.clone() for x in inputs]  # which are no constants of the computation's
    with (notes := _Notes(own)):
        results = computation(own)
    return notes.kernels(results, since)


class _Noted(NamedTuple):
    """A kernel in a recording.

    Attributes:
        kernel: with its keywords.
        operands: plain values as they are, a `_Slot` for each tensor, and lists of both.
        results: the slots of what comes out; None where that is no tensor.
        single: whether it is one tensor, not a sequence.
        acts: whether it does more than to make these: it writes to an operand, or refuses one.
        is_steady: whether what comes out are tensors, whose shapes follow from those of the operands.
    """

    kernel: Callable[..., Any]
    operands: Sequence[Any]
    results: Sequence[_Slot | None]
    single: bool
    acts: bool
    is_steady: bool

    @property
    def ends(self) -> set[_Slot]:
        """The slots of all tensors that go in or come out."""
        return {*_slots(self.operands), *_slots(self.results)}


class _Slot(int):
    """The number of a tensor in a recording."""


def _slots(operand: Any) -> Iterator[_Slot]:
    if isinstance(operand, _Slot):
        yield operand
    elif isinstance(operand, (tuple, list)):
        for item in operand:
            yield from _slots(item)


def _used(calls: Sequence[_Noted], results: Iterable[_Slot]) -> list[_Noted]:
    """The kernels that do something, or make what one behind them takes, or a result."""
    needed, found = set(results), list[_Noted]()
    for noted in reversed(calls):
        if noted.acts or not needed.isdisjoint(_slots(noted.results)):
            needed |= set(_slots(noted.operands))
            found.append(noted)
    return found[::-1]


def _is_sized(kernel: Any, operands: Sequence[Any]) -> bool:
    """Whether the shapes of a kernel's results follow from those of its operands: an index says how many there are, no mask."""
    if kernel is torch.ops.aten.index.Tensor:
        return all(index is None or index.dtype in (torch.int64, torch.int32) for index in operands[1])
    return UNSTEADY.isdisjoint(kernel.tags)


def _written(kernel: Any, operands: Sequence[Any]) -> Iterator[_Slot]:
    """The operands that a kernel writes to."""
    for argument, operand in zip(kernel._schema.arguments, operands, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _slots(operand)


class _Notes(TorchDispatchMode):
    """Notes down what kernels a computation comes down to.

    A tensor is known by its identity; where autograd hands out another object for what it has saved, by its memory, shape and
    strides.  All tensors are kept meanwhile, so that nothing else comes to be known by the same.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._inputs = len(inputs)
        self._tensors = list[Tensor]()
        self._kept = list[Tensor]()
        self._by_identity, self._by_place = dict[int, _Slot](), dict[Any, _Slot]()
        self._foreign, self._own, self._written = set[int](), set[int](), set[int]()  # memory
        self._noted = list[_Noted]()
        self._why: str | None = None
        for x in inputs:
            self._add(x, self._foreign)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would load its compiler, which takes a second, only to see that it leaves this out."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a kernel, and notes it down."""
        operands, keywords = [self._read(operand) for operand in args], kwargs or {}
        found = func(*args, **keywords)
        if operands and isinstance(operands[0], _Slot) and _is_same(found, args[0]):
            self._keep(found, operands[0])
            return found
        parts = found if isinstance(found, (tuple, list)) else [found]
        results = [self._made(part) if isinstance(part, Tensor) else None for part in parts]
        if torch.Tag.nondeterministic_seeded in func.tags or any(map(_holds_tensor, keywords.values())):
            self._why = self._why or str(func)
        is_steady = all(part is None or isinstance(part, Tensor) for part in parts) and _is_sized(func, args)
        kernel, written = partial(func, **keywords) if keywords else func, list(_written(func, operands))
        self._written |= {_memory(self._tensors[slot]) for slot in written}
        acts = bool(written) or not [*_slots(results)]
        self._noted.append(_Noted(kernel, operands, results, parts is not found, acts, is_steady))
        return found

    def kernels(self, results: Sequence[Tensor], since: int | None) -> Kernels:
        """What was noted down, but for what is the same at every point; `since` as `record` has it.

        Raises:
            UnsteadyError: it may be otherwise at another point.
        """
        slots = [self._read(result) for result in results]
        calls = self._varying()
        if not self._written.isdisjoint(self._foreign):
            self._why = self._why or "it writes to a tensor from outside"
        if self._why is not None or not all(noted.is_steady for noted in calls):
            raise UnsteadyError(self._why or "numbers decide what there is")
        order = _Order(self._tensors, self._inputs)
        for noted in _used(calls, slots):
            order.call(noted)
        if since is not None:
            way = _used(calls, slots[since:])
            slots += [slot for noted in way for slot in _slots(noted.results) if self._is_made(noted, slot)]
        return Kernels(order.values, order.calls, list(map(order.place, slots)))

    def _is_made(self, noted: _Noted, slot: _Slot) -> bool:
        """Whether a result is no view of what the kernel was applied to."""
        return _memory(self._tensors[slot]) not in {_memory(self._tensors[operand]) for operand in _slots(noted.operands)}

    def _varying(self) -> list[_Noted]:
        """The kernels that give something else at another point, or read or write what is written to."""
        varying, found = set(range(self._inputs)), list[_Noted]()
        for noted in self._noted:
            ends = noted.ends
            if not varying.isdisjoint(ends) or not self._written.isdisjoint(_memory(self._tensors[slot]) for slot in ends):
                varying |= set(_slots(noted.results))
                found.append(noted)
        return found

    def _read(self, operand: Any) -> Any:
        """An operand with slots for its tensors."""
        if isinstance(operand, (tuple, list)):
            return [self._read(item) for item in operand]
        if not isinstance(operand, Tensor):
            return operand
        found = self._by_identity.get(id(operand))
        if found is None and _has_memory(operand):
            found = self._by_place.get(_place(operand))
            if found is None and _memory(operand) in self._own:
                self._why = self._why or "a tensor that no kernel has made"
        return self._add(operand, self._foreign) if found is None else found

    def _made(self, x: Tensor) -> _Slot:
        """The slot of a tensor that a kernel has made, or written to."""
        found = self._by_identity.get(id(x))
        if found is None:
            return self._add(x, self._own)
        if _has_memory(x) and self._by_place.get(place := _place(x)) != found:  # its shape was changed in place
            self._by_place = {other: slot for other, slot in self._by_place.items() if slot != found} | {place: found}
        return found

    def _add(self, x: Tensor, memory: set[int]) -> _Slot:
        slot = _Slot(len(self._tensors))
        self._tensors.append(x)
        if _has_memory(x):
            memory.add(_memory(x))
            self._by_place[_place(x)] = slot
        self._keep(x, slot)
        return slot

    def _keep(self, x: Tensor, slot: _Slot) -> None:
        self._kept.append(x)
        self._by_identity[id(x)] = slot


def _has_memory(x: Tensor) -> bool:
    return bool(x.numel()) and not x._is_zerotensor()


def _memory(x: Tensor) -> int:
    """Where the memory begins that a tensor is a view of."""
    return x.untyped_storage().data_ptr() if _has_memory(x) else 0


def _place(x: Tensor) -> Any:
    return x.data_ptr(), x.shape, x.stride(), x.dtype, x.is_conj(), x.is_neg()


def _is_same(found: Any, operand: Tensor) -> bool:
    """Whether a kernel has given its operand as it is: what stands in the same memory in the same way."""
    other = isinstance(found, Tensor) and found is not operand  # which it has written to
    return other and _has_memory(found) and _place(found) == _place(operand)


def _holds_tensor(value: Any) -> bool:
    return any(map(_holds_tensor, value)) if isinstance(value, (tuple, list)) else isinstance(value, Tensor)


class _Order:
    """Puts values in places, in the order in which they are needed: tensors, known by their slots, and plain values."""

    def __init__(self, tensors: Sequence[Tensor], inputs: int) -> None:
        self.values: list[Any] = [None] * inputs
        self.calls = list[Call]()
        self._tensors = tensors
        self._places = dict[int, int](enumerate(range(inputs)))
        self._parts = dict[int, tuple[int, int]]()

    def call(self, noted: _Noted) -> None:
        """Adds a kernel that runs at every point."""
        place = self._call(noted.kernel, list(map(self.place, noted.operands)))
        for number, slot in enumerate(noted.results):
            if slot is not None:
                self._places.pop(slot, None)
                self._parts[slot] = place, -1 if noted.single else number

    def place(self, operand: Any) -> int:
        """The place of an operand."""
        if not isinstance(operand, _Slot):
            if isinstance(operand, list) and [*_slots(operand)]:
                return self._call(_listed, list(map(self.place, operand)))
            return self._constant(operand)
        if operand not in self._places:
            if operand in self._parts:
                place, number = self._parts[operand]
                self._places[operand] = place if number < 0 else self._call(itemgetter(number), [place])
            else:
                x = self._tensors[operand]
                self._places[operand] = self._constant(x.detach() if x.requires_grad else x)
        return self._places[operand]

    def _constant(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _call(self, kernel: Callable[..., Any], places: Sequence[int]) -> int:
        place = self._constant(None)
        self.calls.append((kernel, _taking(places), place))
        return place


def _taking(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What takes the values at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))  # of one place it takes no sequence


def _listed(*items: Any) -> list[Any]:
    return list(items)
