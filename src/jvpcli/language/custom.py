"""Functions of a program with a backward of their own, as a torch.autograd.Function has it.

A call is one step of the tape.  Forward and backward are functions of the program, run apart on what they are given: they read
plain values and functions of what is around them, and no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jvpcli.errors import EvaluationError, ForbiddenError
from jvpcli.language.flow import Function, call_value
from jvpcli.language.objects import MARKS, MATERIALIZES, ONCE
from jvpcli.language.run import Entries, FunctionValue, Handler, Run
from jvpcli.program import Const, Equation, Operand, Pack, Ref


class Outside(dict[int, Operand]):
    """What is around a function that runs apart: plain values and functions."""

    def __init__(self, around: dict[int, Operand], name: str) -> None:
        super().__init__()
        self.around, self.name = around, name

    def __missing__(self, slot: int) -> Operand:
        operand = self.around[slot]
        value = operand.value if isinstance(operand, Const) else operand
        if isinstance(value, Function):
            return Const(_apart(value, self.name))
        if isinstance(operand, Const) and not isinstance(value, Entries) and not hasattr(value, "items"):
            return operand
        raise ForbiddenError(f"`{self.name}` reads a tensor or list of what is around it: give it as an argument of apply.")


def _apart(function: Function, name: str) -> Function:
    """A function of the program that runs apart from what made it."""
    return function if isinstance(function.around, Outside) else replace(function, around=Outside(function.around, name))


@dataclass(frozen=True, slots=True, eq=False)
class CustomFunction(FunctionValue):
    """`Square.apply`: its name, and its static methods; with `setup` forward takes no context.

    `made` is a class of torch's of that name, which hands on to the call that is `running`.
    """

    name: str
    forward: Function
    backward: Function
    setup: Function | None
    made: Any
    running: list[Applied]

    def called(
        self, run: Run, arguments: Sequence[Operand], keywords: Mapping[str, Operand], equation: Equation
    ) -> Operand:
        """What it gives."""
        if keywords:
            raise EvaluationError(f"`{self.name}.apply` takes no named arguments.")
        run.turn()
        applied = Applied(self, run, equation, run.calls)
        found = run.do("derive:apply", arguments, equation.span, (("by", Const(applied)),))
        run.turns += applied.turns
        run.carried_out += applied.carried_out
        return found


@dataclass(slots=True, eq=False)
class Applied:
    """One call of such a function, which torch carries out as a torch.autograd.Function; what its runs took is counted."""

    function: CustomFunction
    run: Run
    equation: Equation
    calls: int
    turns: int = 0
    carried_out: int = 0

    def at(self, values: Sequence[Any]) -> Any:
        """What it gives for other values."""
        self.function.running.append(self)
        try:
            return self.function.made.apply(*values)
        finally:
            self.function.running.pop()

    def forward(self, ctx: Any, *values: Any) -> Any:
        """The value; what backward needs is kept."""
        inner = _Inner()
        held = {"needs_input_grad": tuple(ctx.needs_input_grad)}
        context = Const(Entries({key: inner.operand(value) for key, value in held.items()}))
        arguments = [inner.operand(value) for value in values]
        setup = self.function.setup
        run = inner.run(self)
        given = arguments if setup else [context, *arguments]
        output = self.value(run, self.function.forward, given)
        if setup:
            self.value(run, setup, [context, Pack("tuple", tuple(arguments)), output])
        kept = {key: run.read(run.written_out(operand)) for key, operand in context.value.entries.items() if key not in held}
        ctx.mark_non_differentiable(*kept.pop(MARKS, ()))
        ctx.set_materialize_grads(*kept.pop(MATERIALIZES, (True,)))
        ctx.save_for_backward(*kept.pop("saved_tensors", ()))
        ctx.kept, ctx.call = kept, self
        return self.result(run, output)

    def backward(self, ctx: Any, *gradients: Any) -> Any:
        """The gradients."""
        inner = _Inner()
        held = {**ctx.kept, "saved_tensors": ctx.saved_tensors, "needs_input_grad": tuple(ctx.needs_input_grad)}
        context = Const(Entries({key: inner.operand(value) for key, value in held.items()}))
        arguments = [inner.operand(gradient) for gradient in gradients]
        run = inner.run(self)
        found = self.result(run, self.value(run, self.function.backward, [context, *arguments]))
        if ONCE not in context.value.entries:
            return found
        constant = [x.detach() if isinstance(x, Tensor) else x for x in (found if isinstance(found, tuple) else (found,))]
        return once_differentiable(lambda *_: tuple(constant))(ctx, *gradients)

    def value(self, run: Run, function: Function, arguments: Sequence[Operand]) -> Operand:
        """What one of the methods gives."""
        return call_value(run, Const(_apart(function, self.function.name)), arguments, {}, self.equation)

    def result(self, run: Run, output: Operand) -> Any:
        """Values of operands of a run that is over."""
        self.turns += run.turns
        self.carried_out += run.carried_out
        found = run.read(run.written_out(output))
        return tuple(found) if isinstance(found, list) else found


@dataclass
class _Inner:
    """The values that a run apart begins with."""

    tensors: list[Tensor] = field(default_factory=list)

    def operand(self, value: Any) -> Operand:
        """A value as an operand of that run."""
        if isinstance(value, Tensor):
            self.tensors.append(value)
            return Ref(len(self.tensors) - 1)
        if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
            return Pack("list" if isinstance(value, list) else "tuple", tuple(map(self.operand, value)))
        return Const(value)

    def run(self, applied: Applied) -> Run:
        """That run."""
        outer = applied.run
        given = {str(slot): tensor for slot, tensor in enumerate(self.tensors)}
        run = Run(outer.program, given, outer.memory_limit, outer.functions, outer.handlers)
        run.next_slot = max(run.next_slot, len(given))
        run.calls, run.lists_change, run.recording = applied.calls + 1, True, torch.is_grad_enabled()
        return run


def _forward(running: list[Applied], ctx: Any, *values: Any) -> Any:
    return running[-1].forward(ctx, *values)


def _backward(ctx: Any, *gradients: Any) -> Any:
    return ctx.call.backward(ctx, *gradients)


def custom(run: Run, equation: Equation) -> Operand:
    """`Square.apply` as a value."""
    parts = [operand.value for operand in run.held_items(equation.operands) if isinstance(operand, Const)]
    forward, backward, *setup = (part for part in parts if isinstance(part, Function))
    running: list[Applied] = []
    # partials, since a function would be taken for one of the user's own
    methods = {"forward": staticmethod(partial(_forward, running)), "backward": staticmethod(partial(_backward))}
    made = type(equation.target, (torch.autograd.Function,), methods)
    return Const(CustomFunction(equation.target, forward, backward, setup[0] if setup else None, made, running))


HANDLERS: Mapping[str, Handler] = {"custom": custom}
"""Carries out functions with a backward of their own."""
