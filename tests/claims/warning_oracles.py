"""Oracles of warnings and of a check's verdict."""

from __future__ import annotations

import ast
import math
import re
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from evidence import (
    Claim,
    Evidence,
    RefutedError,
    around,
    cotangents,
    direction,
    gradients,
    jacobians,
    moves,
    of_parts,
    one_sided,
    refute,
    size_of,
)
from plain_programs import PlainStep, Span, UndecidedError, tensors_of
from step_oracles import is_twice, without_effect
from torch import Tensor
from torch.overrides import TorchFunctionMode


def pairs_of(claim: Claim) -> list[tuple[str, str]]:
    """(y, x) for all pairs of a warning of ∂y/∂x, or of ∂(y, z)/∂(x, w)."""
    several = re.findall(r"∂(\(.*?\)|[\w.\[\]]+)/∂(\(.*?\)|[\w.]+)", claim.sentence)
    names = [[part.strip("()").split(", ") for part in pair] for pair in several]
    return [(y, x) for ys, xs in names for y in ys for x in xs] or [pair_of(claim)]


def pair_of(claim: Claim) -> tuple[str, str]:
    """(y, x) of a warning of ∂y/∂x."""
    named = re.search(r"∂(?P<y>[\w.\[\]]+)/∂(?P<x>[\w.]+)", claim.sentence)
    named = named or re.search(r"(?P<y>[\w.]+) (?:is computed from|changes with) (?P<x>[\w.]+)", claim.sentence)
    named = named or re.search(r"path from (?P<y>[\w.]+) back to (?P<x>[\w.]+?),", claim.sentence)
    if named is None:
        raise UndecidedError("no output and input are named")
    return named["y"], named["x"]


def no_gradient(evidence: Evidence, y: str, x: str) -> None:
    """PyTorch has no gradient of y for x, here."""
    leaves = evidence.program.leaves
    v = [direction(out, 1) if k == evidence.number(y) else None for k, out in enumerate(evidence.program.run(*leaves))]
    found = gradients(evidence.program.run, leaves, v)[evidence.place(x)]
    refute(found is not None and bool((found != 0).any()), f"a gradient of {y} reaches {x}")


def never_reaches(evidence: Evidence, claim: Claim) -> None:
    for y, x in pairs_of(claim):
        no_gradient(evidence, y, x)
        without_effect(evidence, x, [evidence.number(y)])


def never_reaches_here(evidence: Evidence, claim: Claim) -> None:
    for y, x in pairs_of(claim):
        no_gradient(evidence, y, x)


def is_cut(evidence: Evidence, claim: Claim) -> None:
    """y changes with x, and no gradient flows."""
    for y, x in pairs_of(claim):
        _is_cut(evidence, y, x)


def _is_cut(evidence: Evidence, y: str, x: str) -> None:
    no_gradient(evidence, y, x)
    k, j = evidence.number(y), evidence.place(x)
    for program in (evidence.double, evidence.program):  # some changes are roundings of the program's own dtype
        leaves = program.leaves
        before = program.run(*leaves)[k]
        for other in (
            -leaves[j],
            2 * leaves[j] + 1,
            *(size * direction(leaves[j], seed) for size in (1, 10, 1e4) for seed in range(4)),
        ):
            try:
                after = program.run(*[other if i == j else leaf for i, leaf in enumerate(leaves)])
            except Exception:  # not defined there
                continue
            if k >= len(after) or after[k].shape != before.shape or not torch.allclose(after[k], before, 0, 0, equal_nan=True):
                return
    raise RefutedError(f"{y} does not change with {x}")


def is_left_out(evidence: Evidence, claim: Claim) -> None:
    y = claim.sentence.split(" ")[0]
    leaves = [leaf.clone().requires_grad_(moves(leaf)) for leaf in evidence.program.leaves]
    refute(evidence.program.run(*leaves)[evidence.number(y)].requires_grad, f"{y} carries a gradient")


def step_named(evidence: Evidence, claim: Claim) -> tuple[Span, PlainStep]:
    """The operation whose text stands in backquotes."""
    text = re.search(r"`(.+?)`", claim.sentence)
    program = evidence.double
    at = [m.start() for m in re.finditer(re.escape(text[1]), program.text)] if text else []
    if text is None or len(at) != 1:
        raise UndecidedError("the step does not stand at one place")
    span = (at[0], at[0] + len(text[1]))
    return span, program.step(span)


def is_staircase(evidence: Evidence, claim: Claim) -> None:
    """The step's derivative is zero everywhere, and its values do change."""
    _, step = step_named(evidence, claim)
    changed = False
    for point in around(lambda *values: step.at(values), step.tensors):
        results = step.at(point)
        found = gradients(
            lambda *values: step.at(values), point, [direction(y, 1) if moves(y) else None for y in results]
        )
        refute(any(g is not None and bool((g != 0).any()) for g in found), f"it has a derivative at {point}")
        changed = changed or any(not torch.equal(a, b) for a, b in zip(results, step.at(step.tensors), strict=True))
    for size in (1e4, 1e8):  # stairs may be long
        results = step.at([size * direction(t, 13) if moves(t) else t for t in step.tensors])
        changed = changed or any(not torch.equal(a, b) for a, b in zip(results, step.at(step.tensors), strict=True))
    refute(not changed, "its values do not change")


def is_drawn(evidence: Evidence, claim: Claim) -> None:
    """Under other seeds the step gives other values, and under each its derivative is zero."""
    _, step = step_named(evidence, claim)
    drawn = []
    for seed in range(64):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            results = step.at(step.tensors)
            found = gradients(
                lambda *values: step.at(values), step.tensors, [direction(y, 1) if moves(y) else None for y in results]
            )
        drawn.append(results)
        refute(any(g is not None and bool((g != 0).any()) for g in found), "it has a derivative")
    changes = any(not torch.equal(a, b) for results in drawn for a, b in zip(drawn[0], results, strict=True))
    if not changes:
        raise UndecidedError("it gives the same under 64 seeds: one of the outcomes is nearly certain")
    if "randn_like" in claim.sentence:
        mean, std = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
        by_both = torch.autograd.grad((mean + std * torch.randn_like(mean)).sum(), (mean, std))
        refute(not all(bool((g != 0).all()) for g in by_both), "there is no gradient for both")


def lacks_a_part(evidence: Evidence, claim: Claim) -> None:
    """Differences give another derivative than autograd, and autograd's when the step's value is held fast."""
    span, _ = step_named(evidence, claim)
    program = evidence.double
    value = _value_at(evidence, span)
    held = program.held(span, value)
    u = [direction(x, 21) * size_of(x) if moves(x) else torch.zeros_like(x) for x in program.leaves]
    v = [direction(y, 22) if moves(y) else None for y in program.run(*program.leaves)]
    found = gradients(program.run, program.leaves, v)
    analytic = sum(float((g * t).real.sum()) for g, t in zip(found, u, strict=True) if g is not None)
    free, fixed = (_slope(f, program.leaves, u, v) for f in (program.run, held))
    if free is None or fixed is None or not math.isfinite(analytic):
        raise UndecidedError("differences tell nothing here")
    size = max(abs(analytic), abs(free), abs(fixed))
    refute(abs(free - fixed) < 1e-4 * size, "held fast, nothing changes: it takes no part in the derivative")
    refute(abs(free - analytic) < 1e-5 * size, "differences agree with autograd")


def _value_at(evidence: Evidence, span: Span) -> object:
    """What the operation at a place gives."""
    node = ast.parse(evidence.double.text)
    assert node is not None
    step = evidence.double.step(span)
    return step.function(*step.parts)


def _slope(function, leaves: list[Tensor], u: list[Tensor], v: list[Tensor | None]) -> float | None:  # type: ignore[no-untyped-def]
    """The derivative of ⟨v, f⟩ along u by differences; None where their two sides do not agree."""

    def line(t: float) -> Tensor:
        found = function(*[x + t * d for x, d in zip(leaves, u, strict=True)])
        return sum((w.conj() * y).real.sum() for y, w in zip(found, v, strict=True) if w is not None)

    sides = one_sided(line)
    if sides is None:
        return None
    below, above, off = sides
    size = max(abs(below), abs(above))
    return (below + above) / 2 if abs(above - below) <= 1e-3 * size and off <= 1e-2 * size else None


def is_not_finite(evidence: Evidence, claim: Claim) -> None:
    """How many entries of an output or a gradient are not finite, and which is the first."""
    said = re.match(
        r"(?P<count>\d+) of (?P<size>\d+) entries of (?P<of>∂L/∂)?(?P<name>[\w.]+) (?:is|are) not finite, "
        r"the first \S+ = (?P<number>\S+)",
        claim.sentence,
    )
    if said is None:
        raise UndecidedError("it is worded in another way")
    document = evidence.document
    if said["of"]:
        found = gradients(evidence.program.run, evidence.program.leaves, cotangents(evidence))
        tensor = found[evidence.place(said["name"])]
        assert tensor is not None
    else:
        tensor = evidence.program.run(*evidence.program.leaves)[list(document["outputs"]).index(said["name"])]
    bad = ~tensor.isfinite()
    refute(int(said["count"]) != int(bad.sum()) or int(said["size"]) != tensor.numel(), f"{int(bad.sum())} are not")
    first = tensor[tuple(bad.nonzero()[0].tolist())].item() if bad.any() else None
    refute(str(first) != said["number"], f"the first is {first}")


def are_not_compared(evidence: Evidence, claim: Claim) -> None:
    """So many entries of the outputs are not finite, says a check."""
    outputs = evidence.double.run(*evidence.double.leaves)
    if "imaginary part" in claim.sentence:
        outputs = [torch.view_as_real(y.resolve_conj()) if y.is_complex() else y for y in outputs]
    bad = sum(int((~y.isfinite()).sum()) for y in outputs)
    refute(bad != int(claim.sentence.split(" ")[0]), f"{bad} are not finite")


def are_artefacts(evidence: Evidence, claim: Claim) -> None:
    """So many entries are NaN by PyTorch's backward passes, and zero where those give a number."""
    y, x = pair_of(claim)
    said = int(claim.sentence.split(" ")[0])
    rows = evidence.in_its_dtype(y, x)
    nan = rows.isnan()
    refute(int(nan.sum()) < said, f"{int(nan.sum())} entries are NaN by backward passes")
    elsewhere = [J for J in evidence.jacobians_of(y, x)[1:] if bool(J.isfinite().all())]
    if elsewhere:
        zero_somewhere = torch.stack([J == 0 for J in elsewhere]).any(0)
        fewer = int((nan & zero_somewhere).sum()) < said
        if fewer and len(elsewhere) < 4:  # another entry is picked at one of them, perhaps
            raise UndecidedError("it runs at too few points")
        refute(fewer, "fewer are zero anywhere")


def has_kink(evidence: Evidence, claim: Claim) -> None:
    """The one-sided derivatives to an entry of an input differ."""
    named = re.search(r"at (?P<name>[\w.]+?)(?:\[(?P<index>[\d,]+)\])? = ", claim.sentence)
    if named is None or named["name"] not in evidence.program.wrt:
        raise UndecidedError("no entry is named")
    program, j = evidence.double, evidence.place(named["name"])
    x = program.leaves[j]
    entry = 0
    for length, n in zip(x.shape, map(int, named["index"].split(",")) if named["index"] else (), strict=True):
        entry = entry * length + n
    size = float(x.reshape(-1)[entry].abs())
    undecided = 0
    for seed, scale in product(range(4), {max(size, 1.0), size or 1.0}):  # a small number may end a function soon
        v = [direction(y, 30 + seed) if moves(y) else None for y in program.run(*program.leaves)]

        def line(t: float, v: list[Tensor | None] = v, scale: float = scale) -> Tensor:
            moved = x.clone()
            moved.reshape(-1)[entry] += t * scale
            found = program.run(*[moved if k == j else leaf for k, leaf in enumerate(program.leaves)])
            if any(w is not None and w.shape != y.shape for y, w in zip(found, v, strict=True)):
                raise UndecidedError("a shape changes")
            return sum((w.conj() * y).real.sum() for y, w in zip(found, v, strict=True) if w is not None)

        sides = one_sided(line)
        if sides is None:
            undecided += 1
            continue
        below, above, off = sides
        if abs(above - below) > 1e-4 * max(abs(above), abs(below)) and abs(above - below) > 2 * off:
            return
        if off > 1e-3 * max(abs(above), abs(below)):
            undecided += 1
    if undecided:
        raise UndecidedError("differences tell nothing there")
    raise RefutedError("the derivatives to both sides are the same")


def entry_named(evidence: Evidence, claim: Claim) -> tuple[int, tuple[int, ...]]:
    """Which input, and which entry of it."""
    said = re.search(r"(?P<name>[\w.]+?)(?:\[(?P<index>[\d,]+)\])?(?: = |,? differs)", claim.sentence)
    if said is None or said["name"] not in evidence.program.wrt:
        raise UndecidedError("no entry is named")
    return evidence.place(said["name"]), tuple(map(int, said["index"].split(","))) if said["index"] else ()


def jumps(evidence: Evidence, claim: Claim) -> None:
    """A little to its two sides the outputs differ, however little."""
    j, index = entry_named(evidence, claim)
    program = evidence.double
    gaps = []
    fine = torch.finfo(evidence.program.leaves[j].dtype).eps < 1e-9
    for t in (1e-6, 1e-9) if fine else (1e-3, 1e-5):
        found = []
        for sign in (-1, 1):
            moved = program.leaves[j].clone()
            moved[index] += sign * t * (float(moved[index].abs()) or 1.0)
            found.append(program.run(*[moved if k == j else leaf for k, leaf in enumerate(program.leaves)]))
        refute([y.shape for y in found[0]] != [y.shape for y in found[1]], "it is the shape that changes")
        gaps.append(
            max(
                float((a.to(torch.complex128) - b).abs().nan_to_num().max())
                for a, b in zip(*found, strict=True)
                if a.numel()
            )
        )
    refute(gaps[1] < 0.5 * gaps[0] or not gaps[0], f"the outputs differ by {gaps} over a step and a far smaller one")


def hessian_times(evidence: Evidence, point: Sequence[Tensor], u: Sequence[Tensor]) -> list[Tensor]:
    """The second derivative of the sum of all outputs times a direction, by double backward."""
    fresh = [x.detach().clone().requires_grad_(moves(x)) for x in point]
    active = [x for x in fresh if x.requires_grad]
    total = sum(y.sum() for y in evidence.double.run(*fresh) if y.requires_grad)
    slopes = torch.autograd.grad(total, active, create_graph=True, materialize_grads=True)
    pairing = sum((g * w).sum() for g, w in zip(slopes, [w for w in u if moves(w)], strict=True))
    if not pairing.requires_grad:
        return [torch.zeros_like(x) for x in active]
    return list(torch.autograd.grad(pairing, active, materialize_grads=True))


def curvature_jumps(evidence: Evidence, claim: Claim) -> None:
    """A little to the two sides, with the entry alone moved or all of them, the second derivatives by it differ, however near."""
    j, index = entry_named(evidence, claim)
    leaves = evidence.double.leaves
    place = [k for k, x in enumerate(leaves) if moves(x)].index(j)
    for seed in range(4):
        u, moving = ([direction(x, s + seed) for x in leaves] for s in (40, 90))
        only = torch.zeros_like(leaves[j])
        only[index] = 1.0
        for steps in (moving, [only if k == j else torch.zeros_like(x) for k, x in enumerate(leaves)]):
            gaps = []
            for t in (1e-5, 1e-7):
                points = [[x + s * t * by for x, by in zip(leaves, steps, strict=True)] for s in (-1, 1)]
                below, above = (hessian_times(evidence, point, u)[place] for point in points)
                gaps.append(float((above - below)[index].abs()))
            if gaps[1] > 0.5 * gaps[0] > 1e-9:
                return
    refute(True, "the second derivatives to both sides are the same")


def is_asymmetric(evidence: Evidence, claim: Claim) -> None:
    """⟨a, H b⟩ is not ⟨b, H a⟩."""
    leaves = evidence.double.leaves
    a, b = ([direction(x, seed) for x in leaves] for seed in (50, 60))
    by_a, by_b = (hessian_times(evidence, leaves, u) for u in (a, b))
    pairs = zip([w for w in a if moves(w)], by_a, [w for w in b if moves(w)], by_b, strict=True)
    off = sum(float((u * hw).sum() - (w * hu).sum()) for u, hu, w, hw in pairs)
    refute(abs(off) < 1e-9, "it is symmetric")


def slopes_jump(evidence: Evidence, claim: Claim) -> None:
    """Of all entries moved a little to the one side and the other the derivatives to this entry differ."""
    j, index = entry_named(evidence, claim)
    program = evidence.double
    for seed in range(8):
        v = [direction(y, 80 + seed) if moves(y) else None for y in program.run(*program.leaves)]
        gaps = []
        for t in (1e-6, 1e-8):
            u = [t * size_of(x) * _own(x, seed, k) if moves(x) else torch.zeros_like(x) for k, x in enumerate(program.leaves)]
            points = [[x + s * d for x, d in zip(program.leaves, u, strict=True)] for s in (-1, 1)]
            shapes = [[y.shape for y in program.run(*point)] for point in (*points, program.leaves)]
            refute(shapes[0] != shapes[1] or shapes[0] != shapes[2], "it is the shape that changes")
            sides = [gradients(program.run, point, v)[j] for point in points]
            below, above = (torch.zeros(()) if g is None else g[index] for g in sides)
            gaps.append(float((above - below).abs()) / max(float(above.abs()), float(below.abs()), 1e-30))
        if gaps[1] > 1e-4 and gaps[1] > 0.3 * gaps[0]:
            return
    raise RefutedError("along eight directions it does not jump")


def shape_changes(evidence: Evidence, claim: Claim) -> None:
    """The output has the one shape at the point, and the other a little beside it, however near."""
    said = re.search(r"shape of (?P<y>[\w.]+) changes .*: it is (?P<here>\(.*?\)), and (?P<there>\(.*?\))", claim.sentence)
    assert said is not None
    here, there = (ast.literal_eval(said[side]) for side in ("here", "there"))
    program, k = evidence.program, evidence.number(said["y"])
    eps = max(torch.finfo(x.dtype).eps for x in program.leaves if moves(x))
    refute(tuple(program.run(*program.leaves)[k].shape) != here, "its shape here is another")
    for steps in (64, 1024):  # roundings
        found = set()
        for seed, sign in product(range(8), (-1, 1)):
            step = [sign * steps * eps * size_of(x) * _own(x, seed, j) if moves(x) else 0 for j, x in enumerate(program.leaves)]
            found.add(tuple(program.run(*[x + by for x, by in zip(program.leaves, step, strict=True)])[k].shape))
        refute(there not in found, f"beside it the shapes are {found}")


def formula_fails(evidence: Evidence, claim: Claim) -> None:
    """For random cotangents the slope along the entry, by differences in double precision, is not autograd's at the point."""
    said = re.search(r"derivatives by (?P<name>[\w.]+?)(?:\[(?P<index>[\d,]+)\])? are alike", claim.sentence)
    assert said is not None
    j, index = evidence.place(said["name"]), tuple(map(int, said["index"].split(","))) if said["index"] else ()
    program = evidence.double
    v = [direction(y, 70) if moves(y) else None for y in program.run(*program.leaves)]
    step = torch.zeros_like(program.leaves[j])
    step[index] = 1e-5
    below, above = (
        sum((y * w).sum() for y, w in zip(program.run(*points), v, strict=True) if w is not None)
        for points in ([x + s * step if k == j else x for k, x in enumerate(program.leaves)] for s in (-1, 1))
    )
    slope = float(above - below) / 2e-5
    found = gradients(evidence.program.run, evidence.program.leaves, v)[j]
    refute(found is not None and abs(float(found[index]) - slope) < 1e-3 * max(abs(slope), 1e-30), "autograd's is the slope")


def are_finite_forward(evidence: Evidence, claim: Claim) -> None:
    """So many entries are NaN by PyTorch's backward passes, and finite by its forward mode, the one that is told as told."""
    y, x = pair_of(claim)
    k, j = evidence.number(y), evidence.place(x)
    rows, leaves = evidence.in_its_dtype(y, x), evidence.program.leaves
    columns = []
    for column in range(rows.shape[1]):
        tangents = [torch.zeros_like(leaf) for leaf in leaves]
        tangents[j].view(-1)[column] = 1
        columns.append(torch.func.jvp(lambda *points: evidence.program.run(*points)[k], tuple(leaves), tuple(tangents))[1])
    forward = torch.stack([column.reshape(-1) for column in columns], 1)
    found = forward[rows.isnan() & forward.isfinite()]
    said, number = int(claim.sentence.split(" ")[0]), float(claim.sentence.rpartition(" = ")[2])
    refute(len(found) < said, f"{len(found)} entries are")
    refute(not bool(torch.isclose(found, torch.tensor(number, dtype=found.dtype), 1e-4).any()), "none is the number told")


def is_overwritten(evidence: Evidence, claim: Claim) -> None:
    """Along a random direction the slope, by differences in double precision, is not that of autograd's gradient."""
    program = evidence.double
    v = [direction(y, 70) if moves(y) else None for y in program.run(*program.leaves)]
    u = [direction(x, 80 + k) if moves(x) else torch.zeros_like(x) for k, x in enumerate(program.leaves)]
    below, above = (
        sum((y * w).sum() for y, w in zip(program.run(*points), v, strict=True) if w is not None)
        for points in ([x + s * d for x, d in zip(program.leaves, u, strict=True)] for s in (-1e-5, 1e-5))
    )
    found = gradients(program.run, program.leaves, v)
    slope = sum(float((g * d).sum()) for g, d in zip(found, u, strict=True) if g is not None)
    refute(abs(float(above - below) / 2e-5 - slope) < 1e-4 * max(abs(slope), 1), "autograd's is the slope")


def _own(x: Tensor, seed: int, number: int) -> Tensor:
    """A direction of an input by itself: what moves two that tie together leaves them tied."""
    return direction(x, 90 + 10 * number + seed)


class _Calls(TorchFunctionMode):
    """The names of torch's functions that are called, and the numbers that they are given."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        numbers = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, (int, str))]
        self.made.append(f"{getattr(function, '__name__', function)} {numbers}")
        return function(*args, **(kwargs or {}))


def decides(evidence: Evidence, claim: Claim) -> None:
    """At some other values of the inputs PyTorch is asked for something else."""
    asked = set()
    for seed in range(8):
        point = [x if not seed else direction(x, seed) * 3 ** (seed % 3) if moves(x) else x for x in evidence.double.leaves]
        with suppress(Exception), _Calls() as calls:  # the program may end there
            evidence.double.run(*point)
        asked.add(tuple(calls.made))
    refute(len(asked) == 1, "the same runs at all values that were tried")


def is_masked(evidence: Evidence, claim: Claim) -> None:
    """The gradient holds a NaN although all outputs are finite."""
    outputs = evidence.program.run(*evidence.program.leaves)
    refute(not all(bool(y.isfinite().all()) for y in outputs), "an output is not finite itself")
    found = gradients(evidence.program.run, evidence.program.leaves, cotangents(evidence))
    refute(not any(g is not None and bool(g.isnan().any()) for g in found), "no gradient is NaN")


def is_repeated(evidence: Evidence, claim: Claim) -> None:
    """The eigenvalue or singular value told is there twice, in one of the decompositions of the program."""
    said = re.search(r"the (?P<kind>\w+(?: value)?) (?P<number>\S+) of a decomposition", claim.sentence)
    assert said is not None
    matrices = [m for span in decompositions(evidence) for m in evidence.double.step(span).tensors if m.dim() >= 2]
    if not matrices:
        raise UndecidedError("no decomposition stands in the program")
    refute(not any(is_twice(m, said["kind"], complex(said["number"])) for m in matrices), "no matrix has it twice")


def decompositions(evidence: Evidence) -> list[Span]:
    """Where the program takes eigenvalues or singular values."""
    names = re.compile(r"eig|svd|lobpcg|pca")
    tree, text = ast.parse(evidence.double.text), evidence.double.text
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    spans = [(node.col_offset, node.end_col_offset or 0) for node in calls if names.search(node.func.attr)]  # type: ignore[attr-defined]
    return spans if text.isascii() and "\n" not in text else []


def is_coupled(evidence: Evidence, claim: Claim) -> None:
    """A gradient of one sample reaches others, through the step."""
    _, step = step_named(evidence, claim)
    x = step.tensors[0]
    J = jacobians(lambda *values: step.at(values), 0, step.tensors)[0]
    y = step.at(step.tensors)[0]
    if bool(J.isnan().any()):
        raise UndecidedError("the derivatives are NaN")
    by_sample = J.reshape(y.shape[0], -1, x.shape[0], x.numel() // x.shape[0]).abs().amax((1, 3))
    off = by_sample - torch.diag(by_sample.diagonal())
    refute(not bool((off > 1e-9 * by_sample.max()).any()), "each sample depends on itself alone")


def is_crossed(evidence: Evidence, claim: Claim) -> None:
    """Each entry of the step's result is what the step makes of one entry of the column and one of the row by themselves."""
    _, step = step_named(evidence, claim)
    refute(len(step.tensors) != 2, "not two tensors meet")
    column, row = sorted(step.tensors, key=lambda x: -x.dim())
    n = row.numel()
    refute((column.shape, row.shape) != ((n, 1), (n,)), "no column meets a row")
    first = step.tensors[0] is column
    whole = step.at(step.tensors)[0]
    refute(whole.shape != (n, n), "the result is no square")
    for i, j in product(range(n), repeat=2):
        pair = (column[i], row[j : j + 1]) if first else (row[j : j + 1], column[i])
        refute(not torch.allclose(step.at(pair)[0], whole[i, j], equal_nan=True), "an entry is not made of such a pair")


def is_not_linear(evidence: Evidence, claim: Claim) -> None:
    """A backward pass of twice a cotangent gives something else than twice what that of the cotangent gives."""
    leaves = [x.detach().clone().requires_grad_() for x in evidence.program.leaves]
    outputs = [y for y in evidence.program.run(*leaves) if y.requires_grad]
    v = [torch.randn_like(y) for y in outputs]
    once, twice = (
        torch.autograd.grad(outputs, leaves, [times * w for w in v], retain_graph=True, allow_unused=True) for times in (1, 2)
    )
    pairs = [(a, b) for a, b in zip(once, twice, strict=True) if a is not None]
    refute(all(torch.allclose(2 * a, b, rtol=1e-3, equal_nan=True) for a, b in pairs), "it is linear")


def is_large(evidence: Evidence, claim: Claim) -> None:
    tensors = [*evidence.program.inputs.values(), *evidence.program.run(*evidence.program.leaves)]
    refute(max(t.numel() for t in tensors) <= 1_000_000, "nothing is so large")


def torch_warns(evidence: Evidence, claim: Claim) -> None:
    scope_text = evidence.program
    with python_warnings.catch_warnings(record=True) as said:
        python_warnings.simplefilter("always")
        _run_loudly(scope_text)
    refute(not said, "PyTorch does not warn")


def _run_loudly(program) -> None:  # type: ignore[no-untyped-def]
    from plain_programs import SCOPE

    scope = {**SCOPE, **program.inputs}
    torch.set_warn_always(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(program.seed)
            exec(program.text, scope)
    finally:
        torch.set_warn_always(False)


# Verdicts of a check


@dataclass(frozen=True)
class Compared:
    """⟨v, J u⟩ by autograd (of all outputs at once, and one by one) and by differences, and what rounding makes of it."""

    analytic: float
    apart: float
    numeric: float
    noise: float


def _compared(evidence: Evidence) -> list[Compared]:
    """For some random v and u; fewer where differences tell nothing."""
    program = evidence.double
    found = []
    if any(moves(y) and torch.finfo(y.dtype).eps > 1e-9 for y in program.run(*program.leaves)):
        raise UndecidedError("it computes in a coarser precision")
    for seed in range(3):
        u = [_direction_within(x, 41 + seed) if moves(x) else torch.zeros_like(x) for x in program.leaves]
        outputs = program.run(*program.leaves)
        v = [direction(y, 51 + seed) if moves(y) else None for y in outputs]
        given = [way(program.run, program.leaves, v) for way in (gradients, of_parts)]
        once, apart = (
            sum(float((g.conj() * t).real.sum()) for g, t in zip(gs, u, strict=True) if g is not None) for gs in given
        )
        numeric = _slope(program.run, program.leaves, u, v)
        if numeric is not None and math.isfinite(once):
            size = sum(float((w * y).abs().sum()) for y, w in zip(outputs, v, strict=True) if w is not None)
            found.append(Compared(once, apart, numeric, 1e-9 * size))
    if not found:
        raise UndecidedError("differences tell nothing here")
    return found


def _direction_within(x: Tensor, seed: int) -> Tensor:
    """A random direction; from Hermitian matrices to such ones, since of those functions may read one triangle alone."""
    u = direction(x, seed) * size_of(x)
    hermitian = x.dim() >= 2 and x.shape[-1] == x.shape[-2] > 1 and torch.allclose(x, x.mH)
    return (u + u.mH) / 2 if hermitian else u


def is_right(evidence: Evidence, claim: Claim) -> None:
    found = _compared(evidence)
    scale = max(max(abs(c.analytic), abs(c.numeric)) for c in found)
    wrong = [c for c in found if abs(c.analytic - c.numeric) > 1e-2 * scale + c.noise]
    refute(bool(wrong), f"{wrong}")


def is_wrong(evidence: Evidence, claim: Claim) -> None:
    """Differences do not agree with autograd: near the point, or over the step that is told."""
    over = (claim.about["worst"] or {}).get("over")
    if over is not None:
        refute(not _follows(evidence, claim.about["worst"]), "over that step the output stays the same, too")
        return
    found = _compared(evidence)
    close = [
        abs(a - c.numeric) <= 1e-7 * max(abs(c.numeric), 1e-30) + c.noise for c in found for a in (c.analytic, c.apart)
    ]
    refute(all(close), f"{found}")


def _follows(evidence: Evidence, worst: Mapping[str, Any]) -> bool:
    """Whether an output's entry is another when the input's entry is moved by the step that is told, to either side."""
    program, k, j = evidence.double, evidence.number(worst["output"]), evidence.place(worst["input"])
    x = program.leaves[j]
    found = []
    for t in (-1.0, -0.5, 0.0, 0.5, 1.0):
        moved = x.clone()
        moved[tuple(worst["input_index"])] += t * float(worst["over"])
        leaves = [moved if i == j else leaf for i, leaf in enumerate(program.leaves)]
        found.append(program.run(*leaves)[k][tuple(worst["output_index"])])
    return any(not torch.equal(a, found[0]) for a in found)


def is_at_a_kink(evidence: Evidence, claim: Claim) -> None:
    """The one-sided derivatives of an output's entry to an input's differ, or there are none; or autograd's is neither.

    With no entry that is the worst, no output is finite.
    """
    worst = claim.about["worst"]
    if worst is None:
        refute(any(bool(y.isfinite().any()) for y in evidence.program.run(*evidence.program.leaves)), "an output is finite")
        return
    if "other shapes" in claim.sentence:
        raise UndecidedError("of shapes")
    if worst["input"] not in evidence.program.wrt or "output_part" in worst or "input_part" in worst:
        raise UndecidedError("of complex numbers")
    program, k, j = evidence.double, evidence.number(worst["output"]), evidence.place(worst["input"])
    x = program.leaves[j]
    scale = max(float(x[tuple(worst["input_index"])].abs()), 1.0)

    def line(t: float) -> Tensor:
        moved = x.clone()
        moved[tuple(worst["input_index"])] += t * scale
        return program.run(*[moved if i == j else leaf for i, leaf in enumerate(program.leaves)])[k][
            tuple(worst["output_index"])
        ]

    sides = one_sided(line)
    if sides is None:
        return
    below, above, off = sides
    analytic = float(worst["analytic"]) * scale
    size = max(abs(below), abs(above), 1e-30)
    smooth = abs(above - below) < 1e-4 * size and off < 1e-4 * size
    refute(smooth and abs(above - analytic) < 1e-4 * size, "it is smooth there, and autograd is right")
    for side, found in (("below", below), ("above", above)):
        said = worst.get(side)
        if off < 1e-4 * size and isinstance(said, float) and math.isfinite(said):
            refute(abs(said * scale - found) > 1e-2 * size, f"from {side} it is {found / scale}")


def is_not_deterministic(evidence: Evidence, claim: Claim) -> None:
    program = evidence.program
    first = program.run(*program.leaves)
    other = type(program)(program.text, program.inputs, program.wrt, program.seed + 1, program.double)
    same = all(torch.equal(a, b) for a, b in zip(first, tensors_of(other.run(*other.leaves)), strict=True))
    refute(same, "another seed gives the same")
