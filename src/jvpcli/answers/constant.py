"""A value that is made of derivatives and does not change with what they are taken by: the Hessian of a quadratic form, say.

PyTorch gives it no graph.  That its derivative is zero is an answer, and no failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.errors import JvpError
from jvpcli.language.derivatives import derivation
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Problem
from jvpcli.program import GRAD, Const, Equation, Operand, Pack, Program, Ref, numbers_read

SEED = 7
"""Where the other point is drawn, at which the value must have no graph either."""


def with_zeros(problem: Problem) -> Problem | None:
    """The problem, where an empty sum of each input is added to such a value, so that its derivative is zero; None for others."""
    program = problem.function
    if not isinstance(program, Program) or not _is_constant(problem.evaluation) or not _is_constant(_elsewhere(problem)):
        return None
    steps = list(_steps(program, problem.wrt))
    zero = steps[-1].slot
    parts = [*(program.result.items if isinstance(program.result, Pack) else [program.result])]
    if any(each.op == GRAD and Ref(each.slot) == program.result for each in program.equations):  # which gives a tuple
        outputs = range(len(problem.evaluation.outputs))
        picked = [_step("op:getitem", (parts[0], Const(k)), zero + 1 + k, program) for k in outputs]
        steps, parts = [*steps, *picked], [Ref(step.slot) for step in picked]
    first = steps[-1].slot + 1
    added = [_step("op:add", (part, Ref(zero)), first + k, program) for k, part in enumerate(parts)]
    sums: list[Operand] = [Ref(step.slot) for step in added]
    result: Operand = Pack("tuple", tuple(sums)) if len(sums) > 1 or isinstance(program.result, Pack) else sums[0]
    names = tuple((name, dict(zip(parts, sums, strict=True)).get(operand, operand)) for name, operand in program.names)
    equations = (*program.equations, *steps, *added)
    extended = replace(program, equations=equations, result=result, names=names, slots=added[-1].slot + 1)
    return replace(problem, function=extended, courses=None)


def _is_constant(evaluation: Evaluation | None) -> bool:
    """Whether no output has a graph, and only derivatives that were taken with create_graph=True have left it."""
    if evaluation is None or any(y.requires_grad or not y.is_floating_point() for y in evaluation.outputs.values()):
        return False
    carrying = {slot for slot, value in evaluation.values.items() if _carries(value)}
    carrying |= {slot for slot, name in enumerate(evaluation.inputs) if name in evaluation.wrt}
    made = {slot for slot, value in evaluation.values.items() if any(value is y for y in evaluation.outputs.values())}
    tape = []
    for step in reversed(evaluation.tape):  # what the outputs are made of
        if step.slot in made:
            made |= {*numbers_read(step)}
            tape.append(step)
    numbers = [step for step in tape if _is_number(evaluation.values.get(step.slot)) and step.slot not in carrying]
    leaving = [step for step in numbers if not carrying.isdisjoint(numbers_read(step))]
    calls = {step.slot: asked.call for step in tape if (asked := derivation(step)) is not None}
    return bool(calls) and all(map(_keeps_graph, calls.values())) and all(step.slot in calls for step in leaving)


def _carries(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_carries, value))
    return isinstance(value, Tensor) and value.requires_grad


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())


def _keeps_graph(call: Equation) -> bool:
    """Whether a derivative call is one of torch.autograd.grad that was asked for a graph."""
    return call.op == GRAD and dict(call.keywords).get("create_graph") == Const(True)


def _elsewhere(problem: Problem) -> Evaluation | None:
    """The evaluation at another point; None where there is none."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = {name: torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for name, x in problem.leaves.items()}
    try:
        return problem.at(drawn)
    except (JvpError, RuntimeError):
        return None


def _steps(program: Program, names: tuple[str, ...]) -> Iterator[Equation]:
    """The sum of an empty part of each input, and of these sums."""
    slot = program.slots
    total: int | None = None
    for name in names:
        flat = _step("method:reshape", (Ref(program.inputs.index(name)), Const(-1)), slot, program)
        part = _step("op:getitem", (Ref(slot), Pack("slice", (Const(None), Const(0), Const(None)))), slot + 1, program)
        yield from (flat, part, _step("method:sum", (Ref(slot + 1),), slot + 2, program))
        slot += 3
        if total is not None:
            yield _step("op:add", (Ref(total), Ref(slot - 1)), slot, program)
            slot += 1
        total = slot - 1


def _step(op: str, operands: tuple[Operand, ...], slot: int, program: Program) -> Equation:
    return Equation(op, operands, slot, program.equations[-1].span)
