"""Oracles of what is said of a Hessian: of its blocks those of a Jacobian, since it is that of the gradient.

The gradient of L = Σ ⟨v, y⟩ is a program of its own here, made by PyTorch's double backward alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import product_oracles as product
import torch
import warning_oracles as about
from evidence import Claim, Evidence, agree, cotangents, direction, gradients, jacobians, moves, refute, tensor_of
from plain_programs import PlainProgram, UndecidedError
from torch import Tensor

ROUNDINGS = 1024
"""So many roundings of the largest number make no entry."""


@dataclass(frozen=True, eq=False)
class PlainGradient(PlainProgram):
    """The gradient of L for each of the leaves; `cotangents` are v for each output, None for those that take no part."""

    cotangents: tuple[Tensor | None, ...] = field(default=())

    def run(self, *leaves: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            fresh = [x if x.requires_grad else x.detach().clone().requires_grad_(moves(x)) for x in leaves]
            pairs = zip(super().run(*fresh), self.cotangents, strict=True)
            total = sum(
                (v.to(y.dtype).conj() * y).sum().real for y, v in pairs if v is not None and y.requires_grad
            )
            if not isinstance(total, Tensor):
                return [torch.zeros_like(x) for x in fresh]
            return list(torch.autograd.grad(total, fresh, create_graph=True, materialize_grads=True))


def slope_of(program: PlainProgram, weights: Sequence[Tensor | None]) -> PlainGradient:
    """The gradient of L, of these cotangents, as a program."""
    given = {name: getattr(program, name) for name in ("text", "inputs", "wrt", "seed", "double")}
    return PlainGradient(**given, cotangents=tuple(weights))


def gradient_of(evidence: Evidence) -> Evidence:
    """The evidence of ∂L/∂x as an output of the name of x."""
    slope = slope_of(evidence.program, cotangents(evidence))
    return Evidence(slope, {**evidence.document, "outputs": dict.fromkeys(evidence.program.wrt)})


def of_gradient(oracle: Callable[[Evidence, Claim], None]) -> Callable[[Evidence, Claim], None]:
    """An oracle of Jacobians, of the gradient's."""
    return lambda evidence, claim: oracle(gradient_of(evidence), claim)


def is_scaled_identity(evidence: Evidence, claim: Claim) -> None:
    number = float(claim.sentence.split(" ")[0])
    for J in product.matrices(gradient_of(evidence), claim):
        off = float((J - number * torch.eye(len(J), dtype=J.dtype)).abs().max())
        refute(off > 1e-4 * abs(number), f"it is not {number} times the identity at some point")


def is_full(evidence: Evidence, claim: Claim) -> None:
    """Every entry is other than zero, here."""
    slope = gradient_of(evidence)
    refute(not bool((product.exact(slope, claim) != 0).all()), "an entry is zero")


def is_single(evidence: Evidence, claim: Claim) -> None:
    """There is one entry."""
    refute(product.exact(gradient_of(evidence), claim).numel() != 1, "it has several entries, or none")


def whole(evidence: Evidence, program: PlainProgram) -> Tensor:
    """The Hessian of all inputs together (n, n), by one double backward for each row.

    Raises:
        UndecidedError: it holds what is not finite.
    """
    slope = replace(gradient_of(evidence), program=replace(gradient_of(evidence).program, **_values(program)))
    rows = [torch.cat(slope_rows, 1) for slope_rows in _blocks(slope)]
    found = torch.cat(rows).double()
    if not bool(found.isfinite().all()):
        raise UndecidedError("entries are not finite")
    return found


def _values(program: PlainProgram) -> dict[str, object]:
    return {"inputs": program.inputs, "double": program.double}


def _blocks(slope: Evidence) -> list[list[Tensor]]:
    leaves = slope.program.leaves
    return [jacobians(slope.program.run, number, leaves) for number in range(len(leaves))]


def slack(evidence: Evidence, matrix: Tensor) -> float:
    """How far an entry may be off: many roundings of the largest, of L and its gradient, and what rounding has made of it."""
    coarse = max(torch.finfo(x.dtype).eps for x in evidence.program.leaves if moves(x))
    if not matrix.numel():
        return 0.0
    programs = evidence.program, gradient_of(evidence).program
    terms = [matrix, *(y for program in programs for y in program.run(*program.leaves))]
    largest = max(float(t.detach().abs().double().nan_to_num(posinf=0.0).max()) for t in terms if t.numel())
    double = evidence.double
    beside = {x: t * (1 + 1e-15 * direction(t, 5).sign()) if x in double.wrt else t for x, t in double.inputs.items()}
    others = [whole(evidence, program) for program in (evidence.program, replace(double, inputs=beside))]
    rounded = max(float((other - matrix).abs().max()) for other in others)
    return ROUNDINGS * coarse * largest + 4 * len(matrix) * rounded


def spectrum(evidence: Evidence) -> tuple[float, float, float]:
    """(least eigenvalue, greatest, how far either may be off), in double precision."""
    matrix = whole(evidence, evidence.double)
    if not matrix.numel():
        raise UndecidedError("there is no entry")
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return float(values[0]), float(values[-1]), slack(evidence, matrix)


def has_signs(least: int | None, greatest: int | None, sure: bool) -> Callable[[Evidence, Claim], None]:
    """An oracle of which signs the extreme eigenvalues have; `sure`: they are beyond rounding, and not at most zero up to it."""

    def oracle(evidence: Evidence, claim: Claim) -> None:
        low, high, off = spectrum(evidence)
        for sign, value in ((least, low), (greatest, high)):
            if sign is not None:
                refute(sign * value < (0.0 if sure else -off) - torch.finfo(torch.float64).eps, f"an eigenvalue is {value}")

    return oracle


def is_zero(evidence: Evidence, claim: Claim) -> None:
    matrix = whole(evidence, evidence.program)
    refute(bool(matrix.any()) and float(matrix.abs().max()) > slack(evidence, matrix), "it is not zero here")


def is_zero_block(evidence: Evidence, claim: Claim) -> None:
    block = product.exact(gradient_of(evidence), claim)
    refute(bool(block.any()) and float(block.abs().max()) > slack(evidence, whole(evidence, evidence.double)), "it is not zero")


def is_symmetric(evidence: Evidence, claim: Claim) -> None:
    matrix = whole(evidence, evidence.double)
    off = float((matrix - matrix.T).abs().max()) if matrix.numel() else 0.0
    refute(off > 1e-6 * float(matrix.abs().max()) + slack(evidence, matrix), f"entries differ by {off}")


def has_eigenvalues(evidence: Evidence, claim: Claim) -> None:
    """The extreme eigenvalues; where they are bounds, there is one beyond each."""
    said = evidence.document["eigenvalues"]
    low, high, off = spectrum(evidence)
    refute(float(said["least"]) < low - off, f"the least is {low}")
    refute(float(said["greatest"]) > high + off, f"the greatest is {high}")
    if said["exact"]:
        refute(float(said["least"]) > low + off or float(said["greatest"]) < high - off, f"they are {low} and {high}")


def has_trace(evidence: Evidence, claim: Claim) -> None:
    said = evidence.document["trace"]
    matrix = whole(evidence, evidence.double)
    off = abs(float(said["value"]) - float(matrix.trace()))
    refute(off > slack(evidence, matrix) + 8 * float(said.get("error") or 0.0), f"it is {float(matrix.trace())}")


def product_is_right(evidence: Evidence, claim: Claim) -> None:
    """H u, by the rows of the Hessian; where roundings are large, by double backward in the precision that was asked for."""
    names, slope = evidence.program.wrt, gradient_of(evidence).program
    u, said = ({x: tensor_of(given[x]) for x in names} for given in _given(evidence))
    found = gradients(slope.run, slope.leaves, list(u.values()))
    by_pass = [torch.zeros_like(x) if g is None else g for x, g in zip(slope.leaves, found, strict=True)]
    if all(agree(said[x], g, rounds=4096) for x, g in zip(names, by_pass, strict=True)):
        return
    matrix = whole(evidence, evidence.double)
    want, told = (torch.cat([x.reshape(-1).double() for x in given.values()]) for given in (u, said))
    off = float((matrix @ want - told).abs().max()) if len(told) else 0.0
    refute(off > slack(evidence, matrix) * float(want.abs().sum()), f"it is {matrix @ want}")


def _given(evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return evidence.document["tangent"], evidence.document["hvp"]


def are_artefacts(evidence: Evidence, claim: Claim) -> None:
    """Those of a Jacobian, or of the Hessian as the Jacobian of a gradient."""
    second = re.search(r"∂\(∂L/∂([\w.]+)\)/∂", claim.sentence)
    if second is None:
        about.are_artefacts(evidence, claim)
    else:
        sentence = claim.sentence.replace(f"(∂L/∂{second[1]})", second[1])
        about.are_artefacts(gradient_of(evidence), replace(claim, sentence=sentence))


# Why it is zero


def zero_at(evidence: Evidence) -> list[bool]:
    """Whether the Hessian is zero here, near and far away, in double precision."""
    found = []
    for point in evidence.points:
        moved = dict(zip(evidence.program.wrt, point, strict=True))
        program = replace(evidence.double, inputs={**evidence.double.inputs, **moved})
        try:
            matrix = whole(evidence, program)
            there = Evidence(program, evidence.document)
            found.append(not bool(matrix.any()) or float(matrix.abs().max()) <= slack(there, matrix))
        except UndecidedError:
            continue
    return found


def has_constant_slope(evidence: Evidence, claim: Claim) -> None:
    """Autograd has no way from the gradient back to the inputs, here."""
    leaves = [x.clone().requires_grad_(moves(x)) for x in evidence.program.leaves]
    slopes = gradient_of(evidence).program.run(*leaves)
    found = gradients(lambda *values: slopes, leaves, [torch.ones_like(g) for g in slopes])
    is_zero(evidence, claim)
    refute(any(g is not None and bool((g != 0).any()) for g in found), "the gradient has a derivative")


def is_zero_here_alone(evidence: Evidence, claim: Claim) -> None:
    is_zero(evidence, claim)
    found = zero_at(evidence)
    if len(found) < 4:
        raise UndecidedError("it runs at too few points")
    refute(all(found), "it is zero at every point that was tried")


def is_zero_everywhere(evidence: Evidence, claim: Claim) -> None:
    is_zero(evidence, claim)
    refute(not all(zero_at(evidence)), "it is not zero at some point")


def is_linear_piece_by_piece(evidence: Evidence, claim: Claim) -> None:
    """The outputs along a line are straight between kinks: of many short stretches, that seldom meet one, all but one or two."""
    is_zero_everywhere(evidence, claim)
    program, bent = evidence.double, 0
    for number in range(24):
        start = [(3, 10)[number % 2] * direction(x, 300 + number) for x in program.leaves]
        step = [1e-4 * direction(x, 400 + number) for x in program.leaves]
        try:
            three = [
                [y for y in program.run(*[x + k * s for x, s in zip(start, step, strict=True)]) if moves(y)] for k in range(3)
            ]
        except Exception as error:
            raise UndecidedError(f"it does not run there: {error}") from error
        for a, b, c in zip(*three, strict=True):
            size = float(torch.stack([a, b, c]).abs().max()) if a.numel() else 0.0
            bent += a.numel() > 0 and not float((a - 2 * b + c).abs().max()) <= 1e-12 * max(size, 1.0)
    refute(bent > 2, f"{bent} of 24 stretches are bent")
