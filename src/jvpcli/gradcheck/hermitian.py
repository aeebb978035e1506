"""Functions that read a matrix as Hermitian or triangular: their gradient is that of the matrix's own part.

`torch.linalg.cholesky(A)` reads one triangle, and its gradient is symmetric: it holds for changes that keep A Hermitian.
Differences over single entries leave these matrices, so the operand is projected first: f((A + Aᴴ)/2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from jvpcli.errors import JvpError
from jvpcli.problem import Problem
from jvpcli.program import Block, Const, Equation, Operand, Program, Ref

HERMITIAN = frozenset(
    f"call:torch.{path}"
    for path in ("linalg.cholesky", "linalg.cholesky_ex", "linalg.eigh", "linalg.eigvalsh", "cholesky", "linalg.ldl_factor",
                 "linalg.ldl_factor_ex", "lobpcg")
) | {"method:cholesky"}  # fmt: skip
"""They take their first operand as Hermitian."""

HERMITIAN_IF_TOLD = frozenset({"call:torch.linalg.pinv", "call:torch.linalg.matrix_rank"})
"""Those that do so with hermitian=True."""

TRIANGULAR: Mapping[str, tuple[int, int]] = {
    "call:torch.cholesky_inverse": (0, 1), "method:cholesky_inverse": (0, 1),
    "call:torch.cholesky_solve": (1, 2), "method:cholesky_solve": (1, 2),
}  # fmt: skip
"""They take an operand as triangular: its position, and that of `upper`."""


def hermitian_part(problem: Problem) -> tuple[Problem, bool]:
    """The problem with those operands projected, where they are what the function reads them as.

    The second value says whether one of them is not: then the problem stays as it is.
    """
    program = problem.function
    other = projected(program) if isinstance(program, Program) else None
    if other is None:
        return problem, False
    changed = replace(problem, function=other)
    return (changed, False) if _agree(problem.in_double(), changed.in_double()) else (problem, True)


def _agree(one: Problem, other: Problem) -> bool:
    try:
        pairs = zip(one.evaluation.outputs.values(), other.evaluation.outputs.values(), strict=True)
        return all(torch.allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=True) for a, b in pairs)
    except (JvpError, RuntimeError):
        return False


def projected(program: Program) -> Program | None:
    """The program with those operands projected; None if it has none."""
    slots = iter(range(program.slots, program.slots + 10 * (1 + program.slots)))
    equations, changed = _rewritten(program.equations, slots)
    if not changed:
        return None
    return replace(program, equations=equations, slots=program.slots + 10 * (1 + program.slots))


def _rewritten(equations: Sequence[Equation], slots: Iterator[int]) -> tuple[tuple[Equation, ...], bool]:
    found: list[Equation] = []
    changed = False
    for equation in equations:
        bodies = []
        for body in equation.bodies:
            inner, inside = _rewritten(body.equations, slots)
            bodies.append(Block(body.params, inner, body.result, body.conditions))
            changed |= inside
        before, operands = _projection(equation, slots)
        changed |= bool(before)
        found += [*before, replace(equation, operands=operands, bodies=tuple(bodies))]
    return tuple(found), changed


def _projection(equation: Equation, slots: Iterator[int]) -> tuple[list[Equation], tuple[Operand, ...]]:
    """The steps that project an equation's operand, and its operands after that."""
    operands, keywords = list(equation.operands), dict(equation.keywords)
    told = keywords.get("hermitian") == Const(True)
    if operands and (equation.op in HERMITIAN or (equation.op in HERMITIAN_IF_TOLD and told)):
        adjoint, total, half = (next(slots) for _ in range(3))
        steps = [
            Equation("attr:mH", (operands[0],), adjoint, equation.span),
            Equation("op:add", (operands[0], Ref(adjoint)), total, equation.span),
            Equation("op:truediv", (Ref(total), Const(2)), half, equation.span),
        ]
        return steps, (Ref(half), *operands[1:])
    if equation.op in TRIANGULAR:
        position, upper_at = TRIANGULAR[equation.op]
        upper = operands[upper_at] if len(operands) > upper_at else keywords.get("upper", Const(False))
        if len(operands) > position:
            slot = next(slots)
            name = "triu" if upper == Const(True) else "tril"
            step = Equation(f"method:{name}", (operands[position],), slot, equation.span)
            return [step], (*operands[:position], Ref(slot), *operands[position + 1 :])
    return [], equation.operands
