"""Where a gradient is lost on the way: every call that takes a tensor with a gradient and gives numbers without one.

The calls are watched while the program runs again (torch's function mode: `.detach()`, `.item()`, `torch.tensor([…])`,
casts, comparisons, roundings, `no_grad` blocks, in expressions and in a user's own code alike).  What a loss matters is
measured and not guessed: the program runs at other inputs with that call's result held fast, or changed a little.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jvpcli.language.evaluate import Evaluation
from jvpcli.language.operations import CASTS, ROUNDINGS, can_require_grad
from jvpcli.language.readings import name_of, tensors_in, written_by
from jvpcli.program import Equation

CUT, ROUNDING, DECISION, UNSEEN = "cut", "rounding", "decision", "unseen"

STEPS = frozenset({"sign", "sign_", "sgn", "sgn_", "heaviside", "heaviside_"})
"""Staircases that stand for a choice."""


@dataclass(frozen=True, eq=False)
class Loss:
    """A call at which a gradient is lost.

    Attributes:
        position: its number among the losses of a run.
        name: of the function, as torch calls it.
        kind: "cut": a number as it is, without its gradient; "rounding": a staircase or cast to integers;
            "decision": a comparison, sign or index; "unseen": a change in place that autograd does not see.
        value: what it gave; of a change in place what is constant about it.
        operand: the first tensor with a gradient that it took.
        place: file and line in the user's own code, if the call stands there.
        remainder: whether its result was taken from its operand: x − floor(x), whose derivative is right.
    """

    position: int
    name: str
    kind: str
    value: Any
    operand: Tensor
    place: tuple[str, int] | None
    remainder: bool = False

    @property
    def rightly(self) -> bool:
        """Whether torch differentiates the call, and finds zero; a cast or a comparison ends the graph."""
        return isinstance(self.value, Tensor) and self.value.requires_grad


class Watch(TorchFunctionMode):
    """Notes the losses of what runs inside, and can put other values in the place of what they give.

    `replaced` maps a loss's position to a value, or to a function of the value.
    """

    def __init__(self, files: Collection[str] = (), replaced: Mapping[int, Any] | None = None) -> None:
        super().__init__()
        self.files = frozenset(files)
        self.replaced = replaced or {}
        self.losses: list[Loss] = []
        self.remainders: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        live = next((t for t in tensors_in((args, kwargs or {})) if t.requires_grad), None)
        if live is None:
            return func(*args, **(kwargs or {}))
        name = name_of(func)
        unseen = name == "data=" or not torch.is_grad_enabled()
        change = Change.of(written_by(name, args, kwargs or {}) if unseen else [])
        result = func(*args, **(kwargs or {}))
        self._note_remainder(name, args)
        kind = UNSEEN if change else _kind(name, kwargs or {}, result)
        if kind is None:
            return result
        place, inside = _caller(self.files)
        if inside:
            return result
        position = len(self.losses)
        value = change.made() if change else result
        self.losses.append(Loss(position, name, kind, value, live, place))
        if change and position in self.replaced:
            change.remake(self.replaced[position])
        other = result if change else self.replaced.get(position, result)
        return other(result) if callable(other) else other

    def found(self) -> list[Loss]:
        """The losses, in the order of the calls."""
        return [
            Loss(loss.position, loss.name, loss.kind, loss.value, loss.operand, loss.place, True)
            if loss.position in self.remainders
            else loss
            for loss in self.losses
        ]

    def _note_remainder(self, name: str, args: tuple[Any, ...]) -> None:
        if name in ("sub", "__sub__", "subtract", "sub_") and len(args) == 2:
            self.remainders |= {
                loss.position for loss in self.losses if loss.value is args[1] and loss.operand is args[0]
            }


@dataclass(frozen=True, eq=False)
class Change:
    """Tensors that a call changes in place where autograd does not see it, and their numbers from before.

    Autograd counts what has been added to a tensor with a gradient as constant, and one without is a constant itself.
    """

    tensors: tuple[Tensor, ...]
    before: tuple[Tensor, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Change | None:
        """Of these tensors, which are about to be changed."""
        return cls(tuple(tensors), tuple(t.detach().clone() for t in tensors)) if tensors else None

    def made(self) -> tuple[Tensor, ...]:
        """What is constant about the change that was made."""
        return tuple(
            t.detach() - old if _adds(t, old) else t.detach().clone()
            for t, old in zip(self.tensors, self.before, strict=True)
        )

    def remake(self, constants: Sequence[Tensor]) -> None:
        """The numbers as another change would have made them."""
        for t, old, constant in zip(self.tensors, self.before, constants, strict=True):
            t.data.copy_(old + constant if _adds(t, old) else constant)


def _adds(t: Tensor, old: Tensor) -> bool:
    return t.requires_grad and t.shape == old.shape


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a torch function: its name, the tensors with a gradient that it took, what it gave, and where."""

    name: str
    operands: tuple[Tensor, ...]
    value: Any
    place: tuple[str, int] | None


class Record(TorchFunctionMode):
    """Notes every call of what runs inside that takes a tensor with a gradient."""

    def __init__(self, files: Collection[str] = ()) -> None:
        super().__init__()
        self.files = frozenset(files)
        self.calls: list[Call] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """torch's hook: every call of a torch function."""
        live = tuple(t for t in tensors_in((args, kwargs or {})) if t.requires_grad)
        result = func(*args, **(kwargs or {}))
        if live:
            place, inside = _caller(self.files)
            if not inside:
                self.calls.append(Call(name_of(func), live, result, place))
        return result


def _kind(name: str, keywords: Mapping[str, Any], result: Any) -> str | None:
    """What a call with a live operand loses; None: nothing."""
    tensors = list(tensors_in(result))
    if any(tensor.requires_grad for tensor in tensors):
        if name in ROUNDINGS or keywords.get("rounding_mode") in ("floor", "trunc"):
            return ROUNDING
        return DECISION if name in STEPS else None
    numbers = list(_numbers(result)) if not tensors else []
    whole = bool(tensors) and not any(map(can_require_grad, tensors))
    if tensors:
        if not whole:
            return CUT
        return ROUNDING if name in CASTS and tensors[0].dtype is not torch.bool else DECISION
    if name in CASTS or name in ("__float__", "__complex__", "__bool__"):
        if any(isinstance(number, (float, complex)) for number in numbers):
            return CUT
        return DECISION if any(isinstance(number, bool) for number in numbers) else ROUNDING
    return None


def _caller(files: Collection[str]) -> tuple[tuple[str, int] | None, bool]:
    """The innermost line of the user's files that is being run, and whether that is inside a custom forward."""
    place = None
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code.co_name == "apply" and name.endswith("function.py") and "autograd" in name:
            return None, True
        if place is None and name in files:
            place = name, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return place, False


def _numbers(value: Any) -> Iterator[float | complex]:
    if isinstance(value, (bool, int, float, complex)):
        yield value
    elif isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for item in value:
            yield from _numbers(item)


def equation_of(call: Loss | Call, evaluation: Evaluation) -> Equation | None:
    """The step of the tape that a call belongs to; None where it happened in a user's own code."""
    for equation in evaluation.tape:
        value = evaluation.values.get(equation.slot)
        if value is call.value and isinstance(value, Tensor):
            return equation
        if not isinstance(call.value, Tensor) and call.name.strip("_") == equation.target:
            same = type(value) is type(call.value) and not isinstance(value, (tuple, list)) and value == call.value
            if same or value is call.value:
                return equation
    return None
