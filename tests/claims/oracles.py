"""An oracle for each claim: it tries to refute what a sentence says, by PyTorch alone.

An oracle returns where the claim stands, and raises `RefutedError` with the reason where it does not; where it cannot tell,
`UndecidedError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd, prod
from typing import Any

import torch
from evidence import Evidence, around, direction, filled, gradients, jacobians, moves, of_parts, one_sided, tensor_of
from plain_programs import PlainProgram, PlainStep, UndecidedError, quiet
from spoken_claims import Claim
from torch import Tensor

Oracle = Callable[[Evidence, Claim], None]


class RefutedError(Exception):
    """A claim that is false, and why."""


def refute(condition: bool, why: str) -> None:
    """Raises `RefutedError` where a condition holds that contradicts the claim."""
    if condition:
        raise RefutedError(why)


# Of a product, and of a local Jacobian: which kind of matrix it is


def matrices(evidence: Evidence, claim: Claim) -> list[Tensor]:
    """The Jacobian in question (m, n), first here and then elsewhere."""
    if "local" in claim.about:
        found, shape = Local.of(evidence, claim, evidence.double).matrices, claim.about["local"]["shape"]
    else:
        found, shape = evidence.jacobians_of(claim.about["y"], claim.about["x"]), claim.about["jacobian"]["shape"]
    return [one_row_an_entry(J, prod(shape)) for J in found]


def one_row_an_entry(J: Tensor, size: int) -> Tensor:
    """The rows of Re y and of Im y as one: dy/dx for a real x; for a complex one those of Re y, which tell dy/dz if there is one."""
    if J.numel() != 2 * size:
        return J
    real, imaginary = J.chunk(2)
    if not J.is_complex():
        return torch.complex(real, imaginary)
    holomorphic = torch.allclose(imaginary, 1j * real, rtol=1e-6, atol=1e-9, equal_nan=True)
    return real if holomorphic else real.abs() + imaginary.abs()


def is_zero(evidence: Evidence, claim: Claim) -> None:
    refute(any(bool(filled(J).any()) for J in matrices(evidence, claim)), "it is not zero at some point")


def is_zero_here(evidence: Evidence, claim: Claim) -> None:
    refute(bool(filled(exact(evidence, claim)).any()), "it is not zero here")


def is_identity(evidence: Evidence, claim: Claim) -> None:
    numbers = []
    for J in matrices(evidence, claim):
        refute(J.shape[0] != J.shape[1], "it is not square")
        number = J[0, 0]
        numbers.append(complex(number))
        off = (J - number * torch.eye(len(J), dtype=J.dtype)).abs().max()
        refute(float(off) > 1e-6 * float(number.abs()), f"it is not {number} times the identity at some point")
    said = claim.about.get("facts", {}).get("number")
    if said not in (None, "a number"):
        refute(abs(complex(said) - numbers[0]) > 1e-4 * abs(numbers[0]), f"the number is {numbers[0]}")


def is_diagonal(evidence: Evidence, claim: Claim) -> None:
    for J in matrices(evidence, claim):
        refute(J.shape[0] != J.shape[1], "it is not square")
        refute(bool((filled(J) & ~torch.eye(len(J), dtype=torch.bool)).any()), "an entry beside the diagonal is not zero")


def is_selection(evidence: Evidence, claim: Claim) -> None:
    for J in matrices(evidence, claim):
        places = filled(J)
        refute(bool((places.sum(1) > 1).any()), "a row holds several entries")
        refute(bool(((J[places] - 1).abs() > 1e-6).any()), "an entry is neither 0 nor 1")


def is_banded(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    m, n = places.shape
    rows, columns = places.nonzero(as_tuple=True)
    refute(m != n, "it is not square")
    width = int((columns - rows).max() - (columns - rows).min()) + 1 if len(rows) else 0
    refute(2 * width > n, f"the band is {width} wide, of {n}")


def is_block_diagonal(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    m, n = places.shape
    rows, columns = places.nonzero(as_tuple=True)
    counts = [k for k in range(2, gcd(m, n) + 1) if gcd(m, n) % k == 0]
    held = any(bool((rows // (m // k) == columns // (n // k)).all()) for k in counts)
    refute(not held, "no equal blocks along the diagonal hold it")


def is_sparse(evidence: Evidence, claim: Claim) -> None:
    most = max(int(filled(J).sum()) for J in matrices(evidence, claim))
    size = matrices(evidence, claim)[0].numel()
    refute(2 * most > size, f"{most} of {size} entries are not zero at some point")
    counted(evidence, claim)


def is_dense(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    refute(2 * int(places.sum()) <= places.numel(), f"only {int(places.sum())} of {places.numel()} entries are not zero anywhere")
    counted(evidence, claim)


def is_full(evidence: Evidence, claim: Claim) -> None:
    """Every entry may collect from every entry."""
    found = matrices(evidence, claim)
    places = torch.stack([J != 0 for J in found]).any(0)  # NaN, too
    refute(not bool(places.all()), "an entry is zero at every point")


def is_sum(evidence: Evidence, claim: Claim) -> None:
    """Each operand entry is added into one result entry."""
    for J in matrices(evidence, claim):
        places = filled(J)
        refute(bool((places.sum(0) > 1).any()), "an entry is added into several")
        numbers = J[places]
        refute(bool(numbers.numel()) and float((numbers - numbers[0]).abs().max()) > 1e-6 * float(numbers[0].abs()), "several factors")


def union(found: Sequence[Tensor]) -> Tensor:
    return torch.stack([filled(J) for J in found]).any(0)


def exact(evidence: Evidence, claim: Claim) -> Tensor:
    """The Jacobian here in the dtype that was asked for."""
    if "local" in claim.about:
        found, shape = Local.of(evidence, claim, evidence.program).matrices[0], claim.about["local"]["shape"]
    else:
        found, shape = evidence.in_its_dtype(claim.about["y"], claim.about["x"]), claim.about["jacobian"]["shape"]
    return one_row_an_entry(found, prod(shape))


def counted(evidence: Evidence, claim: Claim) -> None:
    """How many entries are not zero here, by the dtype's own roundings."""
    said = (claim.about.get("local") or claim.about["jacobian"])["nnz"]
    if said is None:
        return
    J, wide = exact(evidence, claim), matrices(evidence, claim)[0]
    sizes = torch.nan_to_num(J.abs(), nan=0.0)
    finite = sizes[sizes.isfinite()]
    largest = float(finite.max()) if finite.numel() else 0.0
    least = int((sizes > math.sqrt(torch.finfo(J.dtype).eps) * largest).sum())
    most = int(((J != 0) | (wide != 0)).sum())
    refute(not least <= said <= most, f"{least} to {most} entries are not zero, not {said}")


def of_one_number(evidence: Evidence, claim: Claim) -> None:
    J = exact(evidence, claim)
    refute(J.shape[0] != 1, "y is not a single number")
    sizes(evidence, claim)


def sizes(evidence: Evidence, claim: Claim) -> None:
    J, facts = exact(evidence, claim), claim.about["facts"]
    y = evidence.program.run(*evidence.program.leaves)[evidence.number(claim.about["y"])]
    x = evidence.program.inputs[claim.about["x"]]
    refute(int(facts.get("m", y.numel())) != y.numel(), "m is another")
    refute(int(facts["n"]) != x.numel() or x.numel() != J.shape[1], "n is another")
    refute(facts.get("in_shape", str(tuple(x.shape))) != str(tuple(x.shape)), "the input's shape is another")
    refute(facts.get("out_shape", str(tuple(y.shape))) != str(tuple(y.shape)), "the output's shape is another")


def is_complex(evidence: Evidence, claim: Claim) -> None:
    """That −grad points downhill: a real loss falls along it, by what the sum of Re and Im squared foretells."""
    if any(notice["code"] == "graph_break" for notice in evidence.document["warnings"]):
        raise UndecidedError("the gradient lacks a part")
    y, x = evidence.number(claim.about["y"]), evidence.place(claim.about["x"])
    leaves = evidence.double.leaves
    start = evidence.double.run(*leaves)
    v = [direction(out, 3) if k == y else None for k, out in enumerate(start)]
    gradient = gradients(evidence.double.run, leaves, v)[x]
    if gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.abs().max() > 0):
        return

    def loss(t: float) -> Tensor:
        moved = [leaf - t * gradient if k == x else leaf for k, leaf in enumerate(leaves)]
        out = evidence.double.run(*moved)[y]
        return (v[y].conj() * out).real.sum()

    slope = one_sided(lambda t: loss(t / float(gradient.abs().max())))
    steepness = float((gradient.abs() ** 2).sum()) / float(gradient.abs().max())
    if slope is not None and slope[2] < 1e-3 * steepness and abs(slope[0] - slope[1]) < 1e-3 * steepness:
        refute(abs(slope[1] + steepness) > 1e-2 * steepness, f"along −grad the loss changes by {slope[1]}, not by {-steepness}")


def is_holomorphic(evidence: Evidence, claim: Claim) -> None:
    real, imaginary = evidence.jacobians_of(claim.about["y"], claim.about["x"])[0].chunk(2)
    refute(not torch.allclose(imaginary, 1j * real, rtol=1e-3, atol=1e-6), "the rows of Im y are not i times those of Re y")


def is_not_holomorphic(evidence: Evidence, claim: Claim) -> None:
    real, imaginary = evidence.jacobians_of(claim.about["y"], claim.about["x"])[0].chunk(2)
    refute(torch.allclose(imaginary, 1j * real, rtol=1e-12, atol=0), "the rows of Im y are i times those of Re y")


# Of the numbers: what autograd gives


def same_as_autograd(evidence: Evidence, claim: Claim) -> None:
    document, program = evidence.document, evidence.program
    x = program.wrt.index(claim.about["x"])
    said = tensor_of(document["vjp"][claim.about["x"]])
    ways = [way(program.run, program.leaves, cotangents(evidence))[x] for way in (gradients, of_parts)]
    found = [torch.zeros_like(said) if g is None else g.reshape(said.shape) for g in ways]
    refute(not any(agree(said, g) for g in found), f"autograd gives {found[0]}")


def agree(said: Tensor, found: Tensor, rounds: float = 64) -> bool:
    """Whether numbers are the same up to roundings of their dtype."""
    eps = torch.finfo(said.dtype).eps
    scale = torch.nan_to_num(found.abs(), nan=0.0, posinf=0.0)
    atol = rounds * eps * (float(scale.max()) if scale.numel() else 0.0)
    return torch.allclose(said, found.to(said.dtype), rtol=rounds * eps, atol=atol, equal_nan=True)


def cotangents(evidence: Evidence) -> list[Tensor | None]:
    """v for each output; None where it has none."""
    given = evidence.document["grad_outputs"]
    return [tensor_of(given[y]) if y in given else None for y in evidence.document["outputs"]]


def einsum_holds(evidence: Evidence, claim: Claim) -> None:
    y, x = evidence.number(claim.about["y"]), claim.about["x"]
    leaf = evidence.double.inputs[x]
    out = evidence.double.run(*evidence.double.leaves)[y]
    if out.is_complex() or leaf.is_complex():
        raise UndecidedError("complex numbers are contracted by their own convention")
    J = matrices(evidence, claim)[0].reshape((*out.shape, *leaf.shape))
    v = direction(out, 4)
    found = torch.einsum(claim.sentence, v, J.to(v.dtype))
    alone = gradients(evidence.double.run, evidence.double.leaves, [v if k == y else None for k in range(evidence.count)])
    want = alone[evidence.place(x)]
    want = torch.zeros_like(found) if want is None else want
    if bool(J.isfinite().all()):
        refute(not torch.allclose(found, want.to(found.dtype), rtol=1e-6, atol=1e-8), "the einsum gives something else")


def entry_holds(evidence: Evidence, claim: Claim) -> None:
    """The entry that is worked out, term by term."""
    entry = claim.about["contraction"]["entry"]
    y, x = claim.about["y"], claim.about["x"]
    J = evidence.in_its_dtype(y, x)
    v = cotangents(evidence)[evidence.number(y)]
    if v is None or J.is_complex() or not bool(J.isfinite().all()):
        raise UndecidedError("no finite real numbers")
    out = evidence.program.run(*evidence.program.leaves)[evidence.number(y)]
    column = flat(entry["label"], f"∂L/∂{x}", tuple(evidence.program.inputs[x].shape))
    live = (v.reshape(-1) * J[:, column].to(v.dtype)) != 0
    total = float((v.reshape(-1).double() * J[:, column].double()).sum())
    size = float((v.reshape(-1).double() * J[:, column].double()).abs().sum())
    slopes = float(J.abs().max()) + float(out.abs().max()) / (float(evidence.program.inputs[x].abs().max()) or 1.0)
    slack = 1e-4 * size + 1024 * torch.finfo(J.dtype).eps * slopes * float(v.abs().max())
    refute(abs(float(entry["result"]) - total) > slack, f"the entry is {total}")
    for term in entry["terms"]:
        row = flat(term["label"], y, tuple(out.shape))
        off = abs(float(term["derivative"]) - float(J[row, column]))
        refute(off > 1e-4 * max(float(J.abs().max()), 1e-30), f"the derivative of {term['label']} is {float(J[row, column])}")
    if bool((J[live, column].abs() > 1e-6 * J.abs().max()).all()):
        refute(len(entry["terms"]) + entry["hidden"] < int(live.sum()), "terms are missing")


def flat(label: str, name: str, shape: tuple[int, ...]) -> int:
    """The flat place of `name[1,2]`."""
    index = re.fullmatch(r"\[([\d,]+)\]", label[len(name) :])
    at = 0
    for length, number in zip(shape, map(int, index[1].split(",")) if index else (), strict=True):
        at = at * length + number
    return at


# Of steps


@dataclass(frozen=True, eq=False)
class Local:
    """A step as a function of one of its operands (at all the places where it stands), to some of its results."""

    step: PlainStep
    positions: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, evidence: Evidence, claim: Claim, program: PlainProgram) -> Local:
        """What a local Jacobian is of."""
        step, local = claim.about["step"], claim.about["local"]
        parts = [part["output"] for part in step.get("parts") or ()]
        plain = evidence.step(step, program)
        return cls(plain, (local["position"],), (parts.index(local["part"]) if local.get("part") else 0,))

    @property
    def here(self) -> Tensor:
        """The operand's value."""
        return self.step.tensors[self.positions[0]]

    def at(self, value: Tensor, others: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The results for another value of the operand (and other values of all)."""
        tensors = list(self.step.tensors if others is None else others)
        for position in self.positions:
            tensors[position] = value
        found = self.step.at(tensors)
        return [found[number] for number in self.results]

    def gradient(self, value: Tensor, others: Sequence[Tensor] | None = None, v: Sequence[Tensor] | None = None) -> Tensor:
        """A cotangent, random ones if none are given, pulled back through the step."""
        found = self.at(value, others)
        weights = [direction(y, 60 + k) for k, y in enumerate(found)] if v is None else v
        gradient = gradients(lambda t: self.at(t, others), [value], weights)[0]
        return torch.zeros_like(value) if gradient is None else gradient

    @property
    def noise(self) -> float:
        """What rounding may make of a derivative that is zero: some roundings of |f| / |x|."""
        results = max((float(y.detach().abs().double().nan_to_num(posinf=0.0).max()) for y in self.at(self.here) if y.numel()), default=0.0)
        operand = float(self.here.abs().double().nan_to_num(posinf=0.0).max()) or 1.0
        return 1024 * torch.finfo(self.here.dtype).eps * results / operand

    @property
    def matrices(self) -> list[Tensor]:
        """∂result/∂operand (m, n), here and at other values of all operands."""
        tensors = self.step.tensors
        position = self.positions[0]

        def function(*values: Tensor) -> list[Tensor]:
            return [self.step.at(values)[self.results[0]]]

        return [jacobians(function, 0, point)[position] for point in around(function, tensors)]


@dataclass(frozen=True, eq=False)
class Found:
    """What a finding speaks of: a step, an operand, an entry of it."""

    step: Mapping[str, Any]
    local: Local
    entry: int

    @property
    def index(self) -> tuple[int, ...]:
        """The entry's place."""
        return tuple(int(i) for i in torch.unravel_index(torch.tensor(self.entry), self.local.here.shape))

    def moved(self, by: float, value: Tensor | None = None) -> Tensor:
        """The operand with this entry moved."""
        value = (self.local.here if value is None else value).clone()
        value.reshape(-1)[self.entry] += by
        return value


def found_in(evidence: Evidence, claim: Claim, program: PlainProgram | None = None) -> list[Found]:
    """The step or steps that a finding names, with the operand's entry.

    Raises:
        UndecidedError: they cannot be taken out of the program.
    """
    finding = claim.about["finding"]
    named = re.search(r"steps? ([\d, and]+)", finding["message"])
    numbers = [int(n) for n in re.findall(r"\d+", named[1])] if named else []
    if finding["step"] is not None and finding["step"] not in numbers[:1]:
        raise UndecidedError("the step named first is another")
    return [_found(evidence, evidence.document["steps"][number], finding["message"], program) for number in numbers]


def _found(evidence: Evidence, step: Mapping[str, Any], message: str, program: PlainProgram | None) -> Found:
    plain = evidence.step(step, program or evidence.program)
    for label in sorted(set(step["operands"]), key=len, reverse=True):
        positions = tuple(k for k, other in enumerate(step["operands"]) if other == label)
        shape = tuple(plain.tensors[positions[0]].shape)
        index = r"\[(?P<index>\d+(?:,\d+)*)\]" if shape else ""
        match = re.search(rf"(?<![\w.])\(?{re.escape(label)}\)?{index} = ", message)
        if match is None or len((match.groupdict().get("index") or "").split(",")) != max(len(shape), 1):
            continue
        place = [int(n) for n in match["index"].split(",")] if shape else []
        if any(n >= length for n, length in zip(place, shape, strict=True)):
            continue
        entry = 0
        for length, n in zip(shape, place, strict=True):
            entry = entry * length + n
        return Found(step, Local(plain, positions, _arrived(step, plain)), entry)
    raise UndecidedError("no entry of an operand is named")


def _arrived(step: Mapping[str, Any], plain: PlainStep) -> tuple[int, ...]:
    """The results that a cotangent arrives at."""
    parts = step.get("parts")
    if parts is None:
        return (0,)
    return tuple(k for k, part in enumerate(parts) if part["cotangent"] is not None)


def arriving(found: Found) -> list[Tensor]:
    """The cotangents that arrive at a step, by the document."""
    parts = found.step.get("parts")
    given = [found.step["cotangent"]] if parts is None else [parts[k]["cotangent"] for k in found.local.results]
    return [tensor_of(v) for v in given]


def at_entry(gradient: Tensor, found: Found) -> float:
    return float(gradient.reshape(-1)[found.entry].abs())


def random_operands(found: Found) -> list[list[Tensor]]:
    """Other values of all operands of a step at which it runs: near, and at random."""
    return around(lambda *values: [found.local.step.at(values)[k] for k in found.local.results], found.local.step.tensors)


def zero_here(evidence: Evidence, claim: Claim) -> None:
    """The step's derivative to the entry is zero at the point."""
    for found in found_in(evidence, claim):
        slope, noise = at_entry(found.local.gradient(found.local.here), found), found.local.noise
        refute(slope > noise, f"the derivative of step {found.step['index']} is {slope} here")


def zero_everywhere(evidence: Evidence, claim: Claim) -> None:
    """The step's derivative to this entry is zero wherever its operands are."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        for point in random_operands(found):
            slope = at_entry(found.local.gradient(point[found.local.positions[0]], point), found)
            refute(slope != 0, f"the derivative of step {found.step['index']} is {slope} at {point}")


def never_used(evidence: Evidence, claim: Claim) -> None:
    """The step's results do not depend on this entry, whatever its operands are."""
    zero_everywhere(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        for point in random_operands(found):
            value = point[found.local.positions[0]]
            before, after = found.local.at(value, point), found.local.at(found.moved(0.7, value), point)
            same = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, after, strict=True))
            refute(not same, f"step {found.step['index']} changes with it at {point}")


def by_another_value(evidence: Evidence, claim: Claim) -> None:
    """The derivative is zero because of another operand's value: with another value it is not."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        slopes = []
        for point in random_operands(found):
            others = list(point)
            for position in found.local.positions:
                others[position] = found.local.here
            slopes.append(at_entry(found.local.gradient(found.local.here, others), found))
        refute(not any(slopes), "it stays zero whatever the other operands are")


def is_kink(evidence: Evidence, claim: Claim) -> None:
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        refute(not any(bends(found, seed) for seed in range(3)), "the derivatives to both sides are the same")


def bends(found: Found, seed: int) -> bool:
    """Whether the one-sided derivatives of a step to an entry differ."""
    scale = max(float(found.local.here.reshape(-1)[found.entry].abs()), 1.0)

    def function(t: float) -> Tensor:
        results = found.local.at(found.moved(t * scale))
        return sum((direction(y, seed) * y).sum().real for y in results)  # type: ignore[return-value]

    sides = one_sided(function)
    if sides is None:
        raise UndecidedError("the step ends there")
    below, above, off = sides
    return abs(above - below) > 1e-3 * max(abs(above), abs(below)) and abs(above - below) > 4 * off


def is_stationary(evidence: Evidence, claim: Claim) -> None:
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        value = found.local.here
        near = [value + h * torch.where(value == 0, 1, value.abs()) * direction(value, seed) for h in (1e-3, 1e-2) for seed in (1, 2, 3)]
        refute(not any(at_entry(found.local.gradient(there), found) for there in near), "it is zero a little beside it, too")


def is_saturated(evidence: Evidence, claim: Claim) -> None:
    """The step's results do not change with the entry around here, and elsewhere they do."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim):
        value = found.local.here
        scale = max(float(value.reshape(-1)[found.entry].abs()), 1.0)
        here = found.local.at(value)
        eps = torch.finfo(value.dtype).eps
        for by in (16 * eps * scale, -16 * eps * scale, 1e-4 * scale, -1e-4 * scale):
            there = found.local.at(found.moved(by))
            change = max(float((b - a).abs().nan_to_num().max()) / max(float(a.abs().nan_to_num().max()), 1e-30) for a, b in zip(here, there, strict=True))
            refute(change > 8 * eps, f"it changes by {change} of itself when the entry moves by {by}")
    for found in found_in(evidence, claim, evidence.double):
        sizes = (0.3, 3, 30, 1e4, 1e6)
        far = [size * direction(found.local.here, 5 * seed + k) for k, size in enumerate(sizes) for seed in range(6)]
        refute(not any(at_entry(found.local.gradient(there), found) for there in (*far, -found.local.here)), "it changes nowhere")


def cancels(evidence: Evidence, claim: Claim) -> None:
    """Terms v_k J_ke that are not zero add up to nothing."""
    for found in found_in(evidence, claim):
        total, terms = _terms(found)
        refute(not terms, "no term is other than zero")
        refute(abs(total) > 1e4 * torch.finfo(found.local.here.dtype).eps * terms, f"the terms add up to {total}")


def _terms(found: Found) -> tuple[float, float]:
    """|Σ_k v_k J_ke| in the step's own dtype, and Σ_k |v_k J_ke|, over all places where the operand stands."""
    total, terms = 0j, 0.0
    for number, v in zip(found.local.results, arriving(found), strict=True):
        rows = jacobians(lambda *values, k=number: [found.local.step.at(values)[k]], 0, found.local.step.tensors)
        weights = torch.cat([v.real.reshape(-1), v.imag.reshape(-1)]) if v.is_complex() else v.reshape(-1)
        for position in found.local.positions:
            products = weights * rows[position][:, found.entry]
            total += complex(products.sum())
            terms += float(products.abs().sum())
    return abs(total), terms


def underflows(evidence: Evidence, claim: Claim) -> None:
    for found in found_in(evidence, claim, evidence.double):
        v = [each.to(torch.promote_types(each.dtype, torch.float64)) for each in arriving(found)]
        refute(at_entry(found.local.gradient(found.local.here, v=v), found) == 0, "the product is zero in double precision, too")


def contributions_cancel(evidence: Evidence, claim: Claim) -> None:
    """What several steps send to an entry is other than zero, and adds up to nothing."""
    sent = []
    for found in found_in(evidence, claim):
        for k in found.local.positions:
            each = next(c for c in found.step["contributions"] if c["position"] == k)
            sent.append(tensor_of(each).reshape(-1)[found.entry])
    terms = float(sum(abs(complex(part)) for part in sent))
    refute(not terms, "no contribution is other than zero")
    refute(abs(complex(sum(sent))) > 1e4 * torch.finfo(sent[0].dtype).eps * terms, f"they add up to {sum(sent)}")


def no_part(evidence: Evidence, claim: Claim) -> None:
    """Neither L nor its gradient knows of the input."""
    name = re.match(r"[\w.]+", claim.sentence)
    if name is None or name[0] not in evidence.program.wrt:
        raise UndecidedError("no input is named")
    without_effect(evidence, name[0], range(evidence.count))


def without_effect(evidence: Evidence, name: str, outputs: Sequence[int]) -> None:
    """Outputs stay what they are when an input is moved, and no gradient reaches it."""
    x = evidence.place(name)
    for point in evidence.points:
        other = [p + direction(p, 8) if k == x else p for k, p in enumerate(point)]
        try:
            before, after = evidence.double.run(*point), evidence.double.run(*other)
        except Exception:  # not defined there
            continue
        refute([t.shape for t in before] != [t.shape for t in after], f"a shape changes with {name}")
        for k in outputs:
            refute(not torch.equal(before[k].nan_to_num(), after[k].nan_to_num()), f"an output changes with {name} at {point}")
    weights = [direction(y, 2) if k in outputs else None for k, y in enumerate(evidence.double.run(*evidence.double.leaves))]
    gradient = gradients(evidence.double.run, evidence.double.leaves, weights)[x]
    refute(gradient is not None and bool((gradient != 0).any()), "a gradient reaches it")


def ends_the_graph(evidence: Evidence, claim: Claim) -> None:
    """No result of the step requires a gradient although what it reads does."""
    finding = claim.about["finding"]
    step = evidence.document["steps"][finding["step"]]
    plain = evidence.step(step)
    active = [t.clone().requires_grad_() if moves(t) else t for t in plain.tensors]
    with torch.enable_grad():
        results = PlainStep(plain.function, plain.parts, plain.state, plain.double).at(active)
    refute(any(y.requires_grad for y in results), "a gradient flows back through it")


def becomes_not_finite(evidence: Evidence, claim: Claim) -> None:
    """Finite cotangents arrive at the step, and what it sends on is not finite at the entry; the cure cures."""
    (found, *_) = found_in(evidence, claim)
    v = arriving(found)
    refute(not all(bool(each.isfinite().all()) for each in v), "what arrives is not finite already")
    sent = found.local.gradient(found.local.here, v=v).reshape(-1)[found.entry]
    refute(bool(sent.isfinite()), f"it sends on {sent}")
    cured(evidence, claim)


def cured(evidence: Evidence, claim: Claim) -> None:
    """The rewrite, if one is shown, has a finite gradient, and the program's values where those are finite."""
    rewrite = claim.about["finding"].get("rewrite")
    if rewrite is None:
        return
    program = evidence.program
    other = PlainProgram(rewrite, program.inputs, program.wrt, program.seed, program.double)
    found = gradients(other.run, other.leaves, cotangents(evidence))
    refute(not all(g is None or bool(g.isfinite().all()) for g in found), f"the gradient of {rewrite} is not finite")


def adds_up_to_infinity(evidence: Evidence, claim: Claim) -> None:
    for step in evidence.document["steps"]:
        for each in step["contributions"]:
            refute(not bool(tensor_of(each).isfinite().all()), "a contribution is not finite")


def given_not_finite(evidence: Evidence, claim: Claim) -> None:
    given = cotangents(evidence)
    refute(all(v is None or bool(v.isfinite().all()) for v in given), "all cotangents are finite")


def norms(evidence: Evidence, claim: Claim) -> None:
    """The norm of the gradient, and its ratio to the cotangent's."""
    said = re.search(r"to (?P<name>.+?) has norm (?P<end>\S+), (?P<ratio>\S+) times that of the cotangent given \((?P<start>\S+)\)", claim.sentence)
    if said is None:
        raise UndecidedError("it is worded in another way")
    found = gradients(evidence.program.run, evidence.program.leaves, cotangents(evidence))[evidence.place(said["name"])]
    assert found is not None
    end = float(found.double().norm()) if not found.is_complex() else float(found.to(torch.complex128).norm())
    start = math.hypot(*(float(v.to(torch.complex128).norm()) for v in cotangents(evidence) if v is not None))
    refute(not math.isclose(float(said["end"]), end, rel_tol=0.06), f"the norm is {end}")
    refute(not math.isclose(float(said["ratio"]), end / start, rel_tol=0.06), f"the ratio is {end / start}")
