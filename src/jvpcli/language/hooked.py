"""Tensors with a hook that gives a gradient back, as `y.register_hook(lambda g: 2 * g)` makes of y.

`language/hooks.py` finds them.  Passing through one is one step of the tape, whose backward is the hook: a function of the
program, run apart on the gradient that comes and on what it is given besides.  It reads plain values and functions of what is
around it, and no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import ForbiddenError
from jvpcli.language.flow import Function, call_value
from jvpcli.language.run import Entries, Handler, Run
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
        raise ForbiddenError(f"The function that `{self.name}` is given reads a tensor or list around it: write a lambda.")


def _apart(function: Function, name: str) -> Function:
    """A function of the program that runs apart from what made it."""
    return function if isinstance(function.around, Outside) else replace(function, around=Outside(function.around, name))


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """A hook as a torch.autograd.Function carries it out.

    Attributes:
        function: the program's, which takes the gradient and what it reads.
        run: the run that registers it, `calls` deep in functions.
        equation: where that is.
    """

    function: Function
    run: Run
    equation: Equation
    calls: int

    def at(self, values: Sequence[Any]) -> Any:
        """The tensor again, the first of some values; the others are what the hook reads."""
        return step_of(self.equation.target).apply(self, *values)

    def of(self, gradient: Tensor, read: Sequence[Any]) -> Any:
        """What the hook gives back for a gradient; None where it leaves that as it is."""
        inner = _Inner()
        arguments = [inner.operand(value) for value in (gradient, *read)]
        run = inner.run(self)
        output = call_value(run, Const(_apart(self.function, self.equation.target)), arguments, {}, self.equation)
        return run.read(run.written_out(output))


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

    def run(self, hook: Hook) -> Run:
        """That run."""
        outer = hook.run
        given = {str(slot): tensor for slot, tensor in enumerate(self.tensors)}
        run = Run(outer.program, given, outer.memory_limit, outer.functions, outer.handlers)
        run.next_slot = max(run.next_slot, len(given))
        run.calls, run.lists_change, run.recording = hook.calls + 1, True, torch.is_grad_enabled()
        return run


def _forward(ctx: Any, hook: Hook, tensor: Tensor, *read: Any) -> Tensor:
    ctx.hook, ctx.read = hook, read
    return tensor.clone()


def _backward(ctx: Any, gradient: Tensor) -> Any:
    found = ctx.hook.of(gradient, ctx.read)
    return None, gradient if found is None else found, *(None for _ in ctx.read)


def step_of(name: str) -> Any:
    """A class of torch's of some name, whose `apply` passes a tensor through a hook.

    Its methods are partials, since functions would be taken for the user's own.
    """
    methods = {"forward": staticmethod(partial(_forward)), "backward": staticmethod(partial(_backward))}
    return type(name, (torch.autograd.Function,), methods)


def hooked(run: Run, equation: Equation) -> Operand:
    """A tensor with a hook: the operands are the tensor, the hook and what that reads.

    Raises:
        ForbiddenError: the hook is no function of the program.
    """
    tensor, function, *read = run.held_items(equation.operands)
    held = function.value if isinstance(function, Const) else None
    if not isinstance(held, Function):
        raise ForbiddenError(f"`{equation.target}` is given a function of the program here.")
    applied = Hook(held, run, equation, run.calls)
    return run.do("derive:apply", [tensor, *read], equation.span, (("by", Const(applied)),))


HANDLERS: Mapping[str, Handler] = {"hook": hooked}
"""Carries out hooks that give a gradient back."""
