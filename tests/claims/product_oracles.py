"""Oracles of what is said of a product and of a local Jacobian: which kind of matrix it is, and its numbers.

An oracle returns where the claim stands, and raises `RefutedError` with the reason where it does not; where it cannot tell,
`UndecidedError`.  It knows PyTorch alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import gcd, prod

import torch
from evidence import (
    Claim,
    Evidence,
    RefutedError,
    agree,
    cotangents,
    direction,
    filled,
    gradients,
    jacobians,
    moves,
    of_parts,
    one_sided,
    refute,
    tensor_of,
)
from plain_programs import UndecidedError
from plain_steps import EXTREMES, Local
from torch import Tensor

# Of a product, and of a local Jacobian: which kind of matrix it is


def matrices(evidence: Evidence, claim: Claim) -> list[Tensor]:
    """The Jacobian in question (m, n), first here and then elsewhere."""
    if "local" in claim.about:
        found, shape = Local.of(evidence, claim, evidence.double).matrices, claim.about["local"]["shape"]
    else:
        found, shape = evidence.jacobians_of(claim.about["y"], claim.about["x"]), claim.about["jacobian"]["shape"]
    return [one_row_an_entry(J, prod(shape)) for J in found]


def one_row_an_entry(J: Tensor, size: int) -> Tensor:
    """The rows of Re y and of Im y as one: dy/dx of a real x; of a complex one those of Re y, which tell dy/dz."""
    if not size or J.numel() != 2 * size:
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
        refute(
            bool((filled(J) & ~torch.eye(len(J), dtype=torch.bool)).any()), "an entry beside the diagonal is not zero"
        )


def is_selection(evidence: Evidence, claim: Claim) -> None:
    for J in [*matrices(evidence, claim), *_where_all_tie(evidence, claim)]:
        places = filled(J)
        refute(bool((places.sum(1) > 1).any()), "a row holds several entries")
        refute(bool(((J[places] - 1).abs() > 1e-6).any()), "an entry is neither 0 nor 1")


def _where_all_tie(evidence: Evidence, claim: Claim) -> list[Tensor]:
    """The Jacobian where all entries of the inputs are the same: what picks the largest must choose, or share out."""
    if "local" in claim.about:
        return []
    tied = [torch.full_like(x, 0.7) if moves(x) else x for x in evidence.double.leaves]
    try:
        found = jacobians(evidence.double.run, evidence.number(claim.about["y"]), tied)[evidence.place(claim.about["x"])]
    except RuntimeError:  # the program ends there
        return []
    return [one_row_an_entry(found, prod(claim.about["jacobian"]["shape"]))]


def is_banded(evidence: Evidence, claim: Claim) -> None:
    """At every point a band from the first entry to the last holds it, and leaves corners out."""
    places = union(matrices(evidence, claim))
    m, n = places.shape
    rows, columns = places.nonzero(as_tuple=True)
    offsets = [*(columns - rows).tolist(), 0, n - m]
    lowest, highest = min(offsets), max(offsets)
    refute(highest - lowest + 1 > min(m, n), f"the band is {highest - lowest + 1} wide, of {m} by {n}")


def is_strided(evidence: Evidence, claim: Claim) -> None:
    """At every point the indices along two axes are equal at each nonzero: along those named, unless that is said of here."""
    places, about = union(matrices(evidence, claim)), claim.about
    axes = about.get("facts", {}).get("axes", "")
    named = [int(axis) for axis in re.findall(r"axis (\d+)", axes)]
    shape = about["local" if "local" in about else "jacobian"]["shape"]
    if axes.endswith(" here"):
        _is_strided(filled(exact(evidence, claim)), shape, named)
        named = []
    _is_strided(places, shape, named)


def _is_strided(places: Tensor, shape: Sequence[int], named: list[int]) -> None:
    index = places.reshape(shape).nonzero()
    splits = [k for k in range(len(shape) + 1) if prod(shape[:k]) == len(places)]
    pairs = [(a, k + b) for k in splits for a in range(k) for b in range(len(shape) - k) if named in ([], [a, b])]
    held = any(shape[a] == shape[b] > 1 and bool((index[:, a] == index[:, b]).all()) for a, b in pairs)
    refute(not held, "entries with different indices along the axes have to do with each other")


def is_triangular(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    refute(places.shape[0] != places.shape[1], "it is not square")
    _is_triangular(places, claim, [len(places)])


def is_block_triangular(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    counts = [k for k in range(2, gcd(*places.shape) + 1) if gcd(*places.shape) % k == 0]
    facts = claim.about.get("facts", {})
    if facts.get("blocks", "some").isdecimal():  # how many, and on which side, is said of here
        _is_triangular(filled(exact(evidence, claim)), claim, [int(facts["blocks"])])
    _is_triangular(places, claim, counts, "later or earlier")


def _is_triangular(places: Tensor, claim: Claim, counts: Sequence[int], named: str = "") -> None:
    """There is nothing on the one side of the diagonal of a grid of so many equal blocks."""
    m, n = places.shape
    rows, columns = places.nonzero(as_tuple=True)
    named, held = named or claim.about.get("facts", {}).get("side", "later or earlier"), False
    for count in counts:
        offsets = columns // (n // count) - rows // (m // count)
        held |= bool(("later" in named and (offsets <= 0).all()) or ("earlier" in named and (offsets >= 0).all()))
    refute(not held, "there are entries beyond the diagonal")


def is_block_diagonal(evidence: Evidence, claim: Claim) -> None:
    places = union(matrices(evidence, claim))
    m, n = places.shape
    rows, columns = places.nonzero(as_tuple=True)
    counts = [k for k in range(2, gcd(m, n) + 1) if gcd(m, n) % k == 0]
    held = any(bool((rows // (m // k) == columns // (n // k)).all()) for k in counts)
    refute(not held, "no equal blocks along the diagonal hold it")


def is_sparse(evidence: Evidence, claim: Claim) -> None:
    """At no point is every entry other than zero."""
    refute(any(bool(filled(J).all()) for J in matrices(evidence, claim)), "no entry is zero at some point")
    counted(evidence, claim)


def is_dense(evidence: Evidence, claim: Claim) -> None:
    """No entry is zero at every point: every entry may collect from every entry."""
    found = matrices(evidence, claim)
    places = torch.stack([J != 0 for J in found]).any(0) | (exact(evidence, claim) != 0)  # NaN, too
    if "local" in claim.about and not bool(places.all()):
        local = Local.of(evidence, claim, evidence.double)
        places |= apart(local, len(places), (~places).any(0))
        for J in replace(local, fixed=()).matrices:  # a mask that is given may be another
            places |= one_row_an_entry(J, len(places)) != 0
    refute(len(found) > 3 and not bool(places.all()), "an entry is zero at every point")
    counted(evidence, claim)


def apart(local: Local, rows: int, columns: Tensor) -> Tensor:
    """Where a local Jacobian is not zero with the operand where random ones seldom are: near another operand (within a margin
    of it), or with one entry, of some `columns` (n,), far from where it is: as the least of many, say."""
    places = torch.zeros(rows, len(columns), dtype=torch.bool)
    for column in columns.nonzero().reshape(-1).tolist():
        for number in EXTREMES:
            places |= one_row_an_entry(local.matrix_at(local.with_entry(column, number)), len(places)) != 0
    twins = [t for k, t in enumerate(local.step.tensors) if k not in local.positions and t.shape == local.here.shape and moves(t)]
    for number, twin in enumerate(twins):  # two vectors seldom point the same way
        for near in (twin + 0.1 * direction(twin, 70 + number), twin * (1 + 0.1 * direction(twin, 21))):
            places |= one_row_an_entry(local.matrix_at(near.to(local.here.dtype)), len(places)) != 0
    return places


def is_sum(evidence: Evidence, claim: Claim) -> None:
    """Each operand entry is added into one result entry."""
    for J in matrices(evidence, claim):
        places = filled(J)
        refute(bool((places.sum(0) > 1).any()), "an entry is added into several")
        numbers = J[places]
        refute(
            bool(numbers.numel()) and float((numbers - numbers[0]).abs().max()) > 1e-6 * float(numbers[0].abs()),
            "several factors",
        )


def union(found: Sequence[Tensor]) -> Tensor:
    return torch.stack([filled(J) for J in found]).any(0)


def exact(evidence: Evidence, claim: Claim) -> Tensor:
    """The Jacobian here in the dtype that was asked for."""
    if "local" in claim.about:
        found, shape = Local.of(evidence, claim, evidence.program).matrix, claim.about["local"]["shape"]
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
    most = (J != 0) | (wide != 0) | noisy(evidence, claim)
    if said > int(most.sum()):
        most |= forwards(evidence, claim)
    refute(not least <= said <= int(most.sum()), f"{least} to {int(most.sum())} entries are not zero, not {said}")


def forwards(evidence: Evidence, claim: Claim) -> Tensor:
    """Where the Jacobian of real numbers is other than zero by a pass forwards a column, which rounds in other places."""
    program = evidence.program
    if "local" in claim.about:
        local = Local.of(evidence, claim, program)
        columns = _columns(lambda t: local.at(t)[0], local.here)
    else:
        number, place = evidence.number(claim.about["y"]), evidence.place(claim.about["x"])
        leaves = program.leaves
        columns = _columns(lambda t: program.run(*leaves[:place], t, *leaves[place + 1 :])[number], leaves[place])
    return one_row_an_entry(columns, prod((claim.about.get("local") or claim.about["jacobian"])["shape"])) != 0


def _columns(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian (m, n) by double backward."""
    units = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return torch.stack([torch.autograd.functional.jvp(function, x, unit)[1].reshape(-1) for unit in units], 1)


def noisy(evidence: Evidence, claim: Claim) -> Tensor:
    """Where the Jacobian is other than zero a rounding beside the point: so may it be here, by another way to add it up."""
    seeds = (9, 10, 11, 12)
    return torch.stack([_beside(evidence, claim, seed) for seed in seeds]).any(0)


def _beside(evidence: Evidence, claim: Claim, seed: int) -> Tensor:
    program = evidence.double
    beside = [x * (1 + 1e-10 * direction(x.abs(), seed).to(x.dtype)) if moves(x) else x for x in program.leaves]
    if "local" in claim.about:
        step, local = claim.about["step"], claim.about["local"]
        plain = evidence.step(step, program, beside)
        results = Local.of(evidence, claim, program).results
        found = jacobians(lambda *values: [plain.at(values)[results[0]]], 0, plain.tensors)[local["position"]]
        return one_row_an_entry(found, prod(local["shape"])) != 0
    y, x = evidence.number(claim.about["y"]), evidence.place(claim.about["x"])
    found = jacobians(program.run, y, beside)[x]
    return one_row_an_entry(found, prod(claim.about["jacobian"]["shape"])) != 0


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
    if any(moves(out) and torch.finfo(out.dtype).eps > 1e-9 for out in start):
        raise UndecidedError("it computes in a coarser precision")
    v = [direction(out, 3) if k == y else None for k, out in enumerate(start)]
    gradient = gradients(evidence.double.run, leaves, v)[x]
    if gradient is None or not bool(gradient.isfinite().all()) or not bool((gradient != 0).any()):
        return

    def loss(t: float) -> Tensor:
        moved = [leaf - t * gradient if k == x else leaf for k, leaf in enumerate(leaves)]
        out = evidence.double.run(*moved)[y]
        return (v[y].conj() * out).real.sum()

    slope = one_sided(lambda t: loss(t / float(gradient.abs().max())))
    steepness = float((gradient.abs() ** 2).sum()) / float(gradient.abs().max())
    size = float((v[y].conj() * start[y]).abs().sum().nan_to_num(posinf=0.0))  # roundings of the loss are no slope
    if slope is not None and steepness > 1e-6 * size and max(slope[2], abs(slope[0] - slope[1])) < 1e-3 * steepness:
        if re.search("eig|cholesky", evidence.program.text) and abs(slope[1] + steepness) > 1e-2 * steepness:
            raise UndecidedError("one triangle of a matrix is read, and PyTorch's gradient is of both")
        if "polar" in evidence.program.text and abs(slope[1] + steepness) > 1e-2 * steepness:
            raise UndecidedError("torch.polar is defined of sizes that are not negative")
        refute(
            abs(slope[1] + steepness) > 1e-2 * steepness,
            f"along −grad the loss changes by {slope[1]}, not by {-steepness}",
        )


def is_of_several(evidence: Evidence, claim: Claim) -> None:
    """Each of several v has a row of the result."""
    (v, *_) = evidence.document["grad_outputs"].values()
    for name, entry in evidence.document["vjp"].items():
        rows = [v["shape"][0], *evidence.program.inputs[name].shape]
        refute(entry["shape"] != rows, f"the result has the shape {entry['shape']}")


def is_filled(evidence: Evidence, claim: Claim) -> None:
    """It is no element-wise product."""
    if any(n == 1 for n in exact(evidence, claim).shape):
        return
    found = matrices(evidence, claim)
    diagonal = [J.shape[0] == J.shape[1] and not bool((filled(J) & ~torch.eye(len(J), dtype=torch.bool)).any()) for J in found]
    refute(all(diagonal), "it is diagonal wherever it is looked at")


def is_of_two(evidence: Evidence, claim: Claim) -> None:
    """Re v and Im v go ways of their own: the gradient of Im y is not i times that of Re y."""
    refute(not evidence.double.run(*evidence.double.leaves)[evidence.number(claim.about["y"])].is_complex(), "y is real")


def is_of_real_input(evidence: Evidence, claim: Claim) -> None:
    """The result is Re(conj(v)·(∂Re y + i ∂Im y)/∂x), and the input is real."""
    y, x = evidence.number(claim.about["y"]), evidence.place(claim.about["x"])
    leaves = evidence.double.leaves
    refute(leaves[x].is_complex(), "the input is complex")
    v = [direction(out, 3) if k == y else None for k, out in enumerate(evidence.double.run(*leaves))]
    found = gradients(evidence.double.run, leaves, v)[x]
    rows = jacobians(evidence.double.run, y, leaves)[x]
    real, imaginary = rows.chunk(2)
    weights = v[y].reshape(-1).conj().to(torch.complex128)  # type: ignore[union-attr]
    want = (weights @ torch.complex(real, imaginary).to(torch.complex128)).real
    found = torch.zeros_like(want) if found is None else found.reshape(-1)
    same = agree(found, want, rounds=1e6)
    same = same or float(want.abs().nan_to_num().max()) < 1e-12 * float((weights.abs() @ (real.abs() + imaginary.abs())).max())
    if not same:
        rounded = (rows - evidence.jacobians_of(claim.about["y"], claim.about["x"])[0]).abs().chunk(2)
        same = bool(((found - want).abs() <= 64 * (weights.abs() @ sum(rounded))).all())
    refute(not same and bool(want.isfinite().all()), f"that is {want}, and the gradient {found}")


def is_holomorphic(evidence: Evidence, claim: Claim) -> None:
    real, imaginary = evidence.jacobians_of(claim.about["y"], claim.about["x"])[0].chunk(2)
    refute(
        not torch.allclose(imaginary, 1j * real, rtol=1e-3, atol=1e-6), "the rows of Im y are not i times those of Re y"
    )


def is_not_holomorphic(evidence: Evidence, claim: Claim) -> None:
    real, imaginary = evidence.jacobians_of(claim.about["y"], claim.about["x"])[0].chunk(2)
    refute(torch.allclose(imaginary, 1j * real, rtol=1e-12, atol=0), "the rows of Im y are i times those of Re y")


# Of the numbers: what autograd gives


def same_as_autograd(evidence: Evidence, claim: Claim) -> None:
    document, program = evidence.document, evidence.program
    x = program.wrt.index(claim.about["x"])
    said = tensor_of(document["vjp"][claim.about["x"]])
    if any(notice.get("claim") == "replay_differs" for notice in document["warnings"]):
        raise UndecidedError("it says that it may differ")
    try:
        ways = [way(program.run, program.leaves, cotangents(evidence))[x] for way in (gradients, of_parts)]
    except RuntimeError as error:
        raise RefutedError(f"PyTorch raises: {error}") from error
    found = [torch.zeros_like(said) if g is None else g.reshape(said.shape) for g in ways]
    refute(not any(agree(said, g) for g in found), f"autograd gives {found[0]}")


def einsum_holds(evidence: Evidence, claim: Claim) -> None:
    y, x = evidence.number(claim.about["y"]), claim.about["x"]
    leaf = evidence.double.inputs[x]
    out = evidence.double.run(*evidence.double.leaves)[y]
    if out.is_complex() or leaf.is_complex():
        raise UndecidedError("complex numbers are contracted by their own convention")
    J = jacobians(evidence.double.run, y, evidence.double.leaves)[evidence.place(x)].reshape((*out.shape, *leaf.shape))
    v = direction(out, 4)
    found = torch.einsum(claim.sentence, v, J.to(v.dtype))
    alone = gradients(
        evidence.double.run, evidence.double.leaves, [v if k == y else None for k in range(evidence.count)]
    )
    want = alone[evidence.place(x)]
    want = torch.zeros_like(found) if want is None else want
    beside = [t * (1 + 1e-15 * direction(t, 5).sign()) if moves(t) else t for t in evidence.double.leaves]
    noise = (J - jacobians(evidence.double.run, y, beside)[evidence.place(x)].reshape(J.shape)).abs().nan_to_num().sum()
    size = torch.einsum(claim.sentence, v.abs(), J.abs().to(v.dtype)).reshape(-1)
    if bool(J.isfinite().all()) and size.numel() and float(size.max()) < 1e12:
        refute(bool(((found - want).abs() > 1e-6 * size.max() + 1e-9 + 64 * noise).any()), "the einsum gives something else")


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
    slack = (
        1024 * torch.finfo(J.dtype).eps + 1e-4 * size + 1024 * torch.finfo(J.dtype).eps * slopes * float(v.abs().max())
    )
    refute(abs(float(entry["result"]) - total) > slack, f"the entry is {total}")
    for term in entry["terms"]:
        row = flat(term["label"], y, tuple(out.shape))
        off = abs(float(term["derivative"]) - float(J[row, column]))
        refute(
            off > 1e-4 * float(J.abs().max()) + 1024 * torch.finfo(J.dtype).eps * slopes,
            f"the derivative of {term['label']} is {float(J[row, column])}",
        )
    if bool((J[live, column].abs() > 1e-6 * J.abs().max()).all()):
        refute(len(entry["terms"]) + entry["hidden"] < int(live.sum()), "terms are missing")


def flat(label: str, name: str, shape: tuple[int, ...]) -> int:
    """The flat place of `name[1,2]`."""
    index = re.fullmatch(r"\[([\d,]+)\]", label[len(name) :])
    at = 0
    for length, number in zip(shape, map(int, index[1].split(",")) if index else (), strict=True):
        at = at * length + number
    return at
