"""Oracles of the findings of a trace."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from evidence import (
    Claim,
    Evidence,
    RefutedError,
    agree,
    around,
    cotangents,
    direction,
    gradients,
    jacobians,
    moves,
    norm,
    one_sided,
    refute,
    size_of,
    tensor_of,
)
from plain_programs import PlainProgram, PlainStep, UndecidedError
from plain_steps import EXTREMES, Local
from torch import Tensor


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
    if not _same(step, evidence.step(step)):
        raise UndecidedError("it gives other numbers when it runs again, as linear algebra does to rounding")
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


def _same(step: Mapping[str, Any], plain: PlainStep) -> bool:
    """Whether a step gives what the document says, with zeros and what is not finite in the same places."""
    for found, said in zip(plain.at(plain.tensors), step.get("parts") or [step], strict=False):
        if said.get("value") is None or not moves(found):
            continue
        told = tensor_of(said)
        same = told.shape == found.shape and torch.equal(told == 0, found == 0) and torch.equal(told.isfinite(), found.isfinite())
        if not same or not agree(told, found, rounds=1e4):
            return False
    return True


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


def random_operands(evidence: Evidence, found: Found, *, constants_too: bool = False) -> list[list[Tensor]]:
    """Other values of a step's operands at which it runs, near and at random; of those that the inputs change, or of all.

    An operand that stands at several places has one value.
    """
    labels, step, results = found.step["operands"], found.local.step, found.local.results
    firsts = list(dict.fromkeys(map(labels.index, labels)))
    constants = set(evidence.constants(found.step)) - set(found.local.positions)
    fixed = [k for k, first in enumerate(firsts) if first in constants and not constants_too]

    def everywhere(values: Sequence[Tensor]) -> list[Tensor]:
        return [values[firsts.index(labels.index(label))] for label in labels]

    def function(*values: Tensor) -> list[Tensor]:
        given = step.at(everywhere(values))
        return [given[k] for k in results]

    return [everywhere(point) for point in around(function, [step.tensors[k] for k in firsts], fixed)]


def zero_here(evidence: Evidence, claim: Claim) -> None:
    """The step's derivative to the entry is zero at the point."""
    for found in found_in(evidence, claim):
        slope, noise = at_entry(found.local.gradient(found.local.here), found), found.local.noise
        refute(slope > noise, f"the derivative of step {found.step['index']} is {slope} here")


def zero_everywhere(evidence: Evidence, claim: Claim) -> None:
    """The step's derivative to this entry is zero wherever its operands are."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        for point in random_operands(evidence, found):
            slope = at_entry(found.local.gradient(point[found.local.positions[0]], point), found)
            refute(slope != 0, f"the derivative of step {found.step['index']} is {slope} at {point}")


def never_used(evidence: Evidence, claim: Claim) -> None:
    """The step's results do not depend on this entry, whatever its operands are."""
    zero_everywhere(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        for point in random_operands(evidence, found):
            value = point[found.local.positions[0]]
            before, after = found.local.at(value, point), found.local.at(found.moved(0.7, value), point)
            same = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, after, strict=True))
            refute(not same, f"step {found.step['index']} changes with it at {point}")


def by_other_values(evidence: Evidence, claim: Claim) -> None:
    """The derivative is zero because of the operands' values: with others it is not."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        if any(t.dtype is torch.bool for t in found.local.step.tensors):
            raise UndecidedError("masks that fit each other are seldom found")
        slopes = [
            at_entry(found.local.gradient(p[found.local.positions[0]], p), found)
            for p in random_operands(evidence, found, constants_too=True)  # x * 0 is an operand, too
        ]
        refute(not any(slopes), "it stays zero whatever the operands are")


def others_of(value: Tensor) -> list[Tensor]:
    """Other values of an operand."""
    if value.dtype is torch.bool:
        return [~value, torch.zeros_like(value), torch.ones_like(value)]
    if not moves(value):
        generator, most = torch.Generator().manual_seed(3), int(value.max()) + 1 if value.numel() else 1
        drawn = [torch.randint(0, most + more, value.shape, generator=generator, dtype=value.dtype) for more in (0, 1, 2, 4)]
        return [*drawn, value + 1, value - 1, torch.zeros_like(value), torch.ones_like(value)]
    near = [value + h * size_of(value) * direction(value, seed) for h in (1e-3, 0.5) for seed in range(3)]
    return [*near, *far_from(value), *(value + value.abs().max() * direction(value, seed) for seed in range(4))]


def by_another_value(evidence: Evidence, claim: Claim) -> None:
    """The derivative is zero because of another operand's value: with another value it is not."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        slopes: list[float] = []
        because = re.search(r"because of the value of (.+) here, and", claim.sentence)
        assert because is not None
        changed = [
            k
            for k, label in enumerate(found.step["operands"])
            if label == because[1] and k not in found.local.positions
        ]
        refute(not changed, f"{because[1]} is no other operand")
        here = found.local.step.tensors
        for other in others_of(here[changed[0]]):
            point = [other if k in changed else t for k, t in enumerate(here)]
            try:
                slopes.append(at_entry(found.local.gradient(found.local.here, point), found))
            except Exception:  # the operation refuses it
                continue
        refute(not any(slopes), "it stays zero whatever that operand is")


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


def leaps(evidence: Evidence, claim: Claim) -> None:
    """A little to the two sides of an entry alone the results differ, however little."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        scale = max(float(found.local.here.reshape(-1)[found.entry].abs()), 1.0)
        gaps = []
        for t in (1e-6, 1e-9):
            sides = [found.local.at(found.moved(s * t * scale)) for s in (-1, 1)]
            gaps.append(max(float((b - a).abs().nan_to_num().max()) for a, b in zip(*sides, strict=True) if a.numel()))
        refute(gaps[1] < 0.5 * gaps[0] or not gaps[0], f"the results differ by {gaps} over steps of 1e-6 and 1e-9")


def is_stationary(evidence: Evidence, claim: Claim) -> None:
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        value = found.local.here
        near = [value + h * size_of(value) * direction(value, seed) for h in (1e-5, 1e-3, 1e-2) for seed in (1, 2, 3)]
        refute(
            not any(at_entry(found.local.gradient(there), found) for there in near),
            "it is zero a little beside it, too",
        )


def is_saturated(evidence: Evidence, claim: Claim) -> None:
    """The step's results do not change with the entry around here, and elsewhere they do."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim):
        value = found.local.here
        scale = float(size_of(value).reshape(-1)[found.entry])
        here = found.local.at(value)
        eps = torch.finfo(value.dtype).eps
        for by in (16 * eps * scale, -16 * eps * scale, 1e-5 * scale, -1e-5 * scale):
            there = found.local.at(found.moved(by))
            change = max(
                float((b - a).abs().nan_to_num().max()) / max(float(a.abs().nan_to_num().max()), 1e-30)
                for a, b in zip(here, there, strict=True)
            )
            refute(change > 8 * eps, f"it changes by {change} of itself when the entry moves by {by}")
    for found in found_in(evidence, claim, evidence.double):
        alone = [found.local.with_entry(found.entry, number) for number in EXTREMES]
        refute(
            not any(at_entry(found.local.gradient(there), found) for there in (*far_from(found.local.here), *alone)),
            "it changes nowhere",
        )


def cancels(evidence: Evidence, claim: Claim) -> None:
    """Terms v_k J_ke that are not zero add up to nothing."""
    for found in found_in(evidence, claim):
        total, terms = _terms(found)
        refute(not terms, "no term is other than zero")
        sizes = max((float(v.abs().max()) for v in arriving(found) if v.numel()), default=0.0)
        slack = 1e4 * torch.finfo(found.local.here.dtype).eps * terms + found.local.noise * sizes
        refute(abs(total) > slack, f"the terms add up to {total}")


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


def cancels_somewhere(evidence: Evidence, claim: Claim) -> None:
    """The terms of v·J add up to nothing, by rounding, for all entries of an operand."""
    step = evidence.document["steps"][claim.about["finding"]["step"]]
    plain = evidence.step(step)
    for position in {each["position"] for each in step["contributions"]}:
        whole = Found(step, Local(plain, (position,), _arrived(step, plain)), 0)
        pairs = [_terms(replace(whole, entry=entry)) for entry in range(whole.local.here.numel())]
        total, terms = (math.hypot(*column) for column in zip(*pairs, strict=True))
        if terms and total <= 1e4 * torch.finfo(whole.local.here.dtype).eps * terms:
            return
    raise RefutedError("nothing cancels")


def is_rounded(evidence: Evidence, claim: Claim) -> None:
    """The derivative is zero in the step's own precision, and in double no more than roundings of that."""
    zero_here(evidence, claim)
    for own, found in zip(found_in(evidence, claim), found_in(evidence, claim, evidence.double), strict=True):
        slopes = [at_entry(found.local.gradient(found.local.here, v=_weights(found, seed)), found) for seed in range(3)]
        least = max(own.local.noise, torch.finfo(own.local.here.dtype).tiny)
        refute(any(slope > least for slope in slopes), f"in double precision it is {max(slopes)}, more than a rounding")


def _weights(found: Found, seed: int) -> list[Tensor]:
    return [direction(y, 70 + seed) for y in found.local.at(found.local.here)]


def is_flat_around(evidence: Evidence, claim: Claim) -> None:
    """The derivative is zero here and around here, and not far away."""
    zero_here(evidence, claim)
    for found in found_in(evidence, claim, evidence.double):
        value, noise = found.local.here, found.local.noise
        near = [value + 1e-6 * size_of(value) * direction(value, seed) for seed in range(3)]
        refute(
            any(at_entry(found.local.gradient(there), found) > noise for there in near), "it is not zero a little off"
        )
        refute(
            not any(at_entry(found.local.gradient(there), found) for there in far_from(value)), "it is zero everywhere"
        )


def far_from(value: Tensor) -> list[Tensor]:
    """Values at random, of several sizes."""
    sizes = (0.3, 3, 30, 1e4, 1e6)
    return [-value, *(size * direction(value, 6 * k + seed) for k, size in enumerate(sizes) for seed in range(6))]


def is_repeated(evidence: Evidence, claim: Claim) -> None:
    """An eigenvalue or singular value of the step's operand is there twice."""
    said = re.search(r"the (?P<kind>\w+(?: value)?) (?P<number>\S+) is repeated", claim.sentence)
    assert said is not None
    step = evidence.step(evidence.document["steps"][claim.about["finding"]["step"]], evidence.double)
    matrices = [t for t in step.tensors if t.dim() >= 2]
    refute(not any(is_twice(m, said["kind"], complex(said["number"])) for m in matrices), "no matrix has it twice")


def is_twice(matrix: Tensor, kind: str, number: complex) -> bool:
    """Whether a matrix has an eigenvalue or singular value twice, as nearly as a few digits tell."""
    singular = kind.startswith("singular") or matrix.shape[-1] != matrix.shape[-2]
    values = torch.linalg.svdvals(matrix) if singular else torch.linalg.eigvals(matrix)
    near = (values - number).abs() <= 1e-3 * max(abs(number), float(values.abs().max()) * 1e-3, 1e-12)
    return int(near.sum(-1).max()) > 1


def underflows(evidence: Evidence, claim: Claim) -> None:
    for found in found_in(evidence, claim, evidence.double):
        v = [each.to(torch.promote_types(each.dtype, torch.float64)) for each in arriving(found)]
        refute(
            at_entry(found.local.gradient(found.local.here, v=v), found) == 0,
            "the product is zero in double precision, too",
        )


def contributions_cancel(evidence: Evidence, claim: Claim) -> None:
    """What several steps send to an entry is other than zero, and adds up to nothing, with a given cotangent perhaps."""
    sent = []
    given = re.match(r"the cotangent given for (\S+) ", claim.sentence)
    if given is not None:
        v = tensor_of(evidence.document["grad_outputs"][given[1]])
        sent.append(v.reshape(-1)[found_in(evidence, claim)[0].entry])
    for found in found_in(evidence, claim):
        for k in found.local.positions:
            each = next(c for c in found.step["contributions"] if c["position"] == k)
            sent.append(tensor_of(each).reshape(-1)[found.entry])
    terms = float(sum(abs(complex(part)) for part in sent))
    refute(not terms, "no contribution is other than zero")
    refute(abs(complex(sum(sent))) > 1e4 * torch.finfo(sent[0].dtype).eps * terms, f"they add up to {sum(sent)}")


def named(evidence: Evidence, claim: Claim, pattern: str = r"(?P<name>[\w.]+)") -> str:
    """The input that a sentence speaks of."""
    found = re.search(pattern, claim.sentence)
    if found is None or found["name"] not in evidence.program.wrt:
        raise UndecidedError("no input is named")
    return found["name"]


def no_part(evidence: Evidence, claim: Claim) -> None:
    """Neither L nor its gradient knows of the input's numbers."""
    name = named(evidence, claim, r"(?:reaches )?(?P<name>[\w.]+)(?= has no part|: L is)")
    without_effect(evidence, name, asked(evidence))


def asked(evidence: Evidence) -> list[int]:
    """The outputs that take part in L."""
    return [k for k, v in enumerate(cotangents(evidence)) if v is not None and bool((v != 0).any())]


def no_gradient(evidence: Evidence, claim: Claim) -> None:
    """No gradient of L reaches the input, here."""
    name = named(evidence, claim, r"(?:reaches )?(?P<name>[\w.]+)(?= has no part|: )")
    found = gradients(evidence.program.run, evidence.program.leaves, cotangents(evidence))[evidence.place(name)]
    refute(found is not None and bool((found != 0).any()), "a gradient reaches it")


def is_all_cut(evidence: Evidence, claim: Claim) -> None:
    no_gradient(evidence, claim)
    ends_the_graph(evidence, claim)


def without_effect(evidence: Evidence, name: str, outputs: Sequence[int]) -> None:
    """Outputs stay what they are when an input is moved, and no gradient reaches it."""
    x = evidence.place(name)
    for point in evidence.points:
        other = [p + direction(p, 8) if k == x else p for k, p in enumerate(point)]
        try:
            before, after = evidence.double.run(*point), evidence.double.run(*other)
        except Exception:  # not defined there
            continue
        refute(len(before) != len(after), f"how many outputs there are changes with {name}")
        for k in outputs:
            refute(before[k].shape != after[k].shape, f"a shape changes with {name}")
            refute(
                not torch.equal(before[k].nan_to_num(), after[k].nan_to_num()),
                f"an output changes with {name} at {point}",
            )
    weights = [
        direction(y, 2) if k in outputs else None for k, y in enumerate(evidence.double.run(*evidence.double.leaves))
    ]
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


def slope_at(evidence: Evidence, claim: Claim) -> tuple[float, list[Tensor]]:
    """|Σ_k ∂z_k/∂a_e| of the entry that a finding names, and the cotangents that arrive."""
    (found, *_) = found_in(evidence, claim)
    ones = [torch.ones_like(y) for y in found.local.at(found.local.here)]
    return at_entry(found.local.gradient(found.local.here, v=ones), found), arriving(found)


def is_zero_times_infinity(evidence: Evidence, claim: Claim) -> None:
    slope, v = slope_at(evidence, claim)
    refute(math.isfinite(slope), f"the derivative is {slope}")
    refute(not any(bool((each == 0).any()) for each in v), "no cotangent that arrives is 0")


def is_nan_slope(evidence: Evidence, claim: Claim) -> None:
    """Of a complex number one part is enough."""
    (found, *_) = found_in(evidence, claim)
    ones = [torch.ones_like(y) for y in found.local.at(found.local.here)]
    slope = found.local.gradient(found.local.here, v=ones).reshape(-1)[found.entry]
    refute(not bool(slope.isnan()), f"the derivative is {slope}")


def is_infinite_slope(evidence: Evidence, claim: Claim) -> None:
    slope, _ = slope_at(evidence, claim)
    refute(math.isfinite(slope), f"the derivative is {slope}")


def is_finite_slope(evidence: Evidence, claim: Claim) -> None:
    slope, _ = slope_at(evidence, claim)
    refute(math.isnan(slope), f"the derivative is {slope}")


def is_steepest(evidence: Evidence, claim: Claim) -> None:
    """The step changes the norm by this factor, on the way to some of its operands, and no step on the way by more."""
    said = re.search(r"step (?P<index>\d+), .*\(×(?P<factor>[^)]+)\)", claim.sentence)
    assert said is not None
    step = evidence.document["steps"][int(said["index"])]
    sent = [norm([tensor_of(each)]) for each in step["contributions"]]
    some = [
        math.hypot(*(n for k, n in enumerate(sent) if chosen >> k & 1)) for chosen in range(1, 2 ** min(len(sent), 12))
    ]
    refute(
        not any(math.isclose(n / step["norm"], float(said["factor"]), rel_tol=0.06) for n in some),
        f"by {sent} of {step['norm']}",
    )


def sends_nan_on(evidence: Evidence, claim: Claim) -> None:
    """The step named in the addition makes a NaN of a cotangent that is none."""
    number = re.match(r" In step (\d+)", claim.sentence)
    assert number is not None
    step = evidence.document["steps"][int(number[1])]
    sent = [tensor_of(each) for each in step["contributions"]]
    refute(not any(bool(g.isnan().any()) for g in sent), "no NaN flows on from it")


def is_given_so(evidence: Evidence, claim: Claim) -> None:
    refute(all(bool(x.isfinite().all()) for x in evidence.program.inputs.values()), "all inputs are finite")


def masks_the_result(evidence: Evidence, claim: Claim) -> None:
    """The step named has a condition, and some entries of what it gives do not depend on what is masked."""
    number = re.search(r"step (\d+), `(.*)`", claim.sentence)
    assert number is not None
    step = evidence.document["steps"][int(number[1])]
    sent = [tensor_of(each) for each in step["contributions"]]
    refute(not any(bool((g == 0).any()) for g in sent), "it sends something to every entry")


def is_cured(evidence: Evidence, claim: Claim) -> None:
    """The rewrite has a finite gradient, and the values and finite derivatives of the program, unless it says otherwise."""
    finding, program = claim.about["finding"], evidence.program
    other = PlainProgram(finding["rewrite"], program.inputs, program.wrt, program.seed, program.double)
    v = cotangents(evidence)
    after = gradients(other.run, other.leaves, v)
    refute(not all(g is None or bool(g.isfinite().all()) for g in after), f"the gradient of {other.text} is not finite")
    if re.search(r"is finite \(tried\)[,;]", claim.sentence):
        return  # it says what changes
    before = gradients(program.run, program.leaves, v)
    pairs = [
        *zip(program.run(*program.leaves), other.run(*other.leaves), strict=True),
        *zip(before, after, strict=True),
    ]
    for old, new in pairs:
        if old is not None and new is not None:
            finite = old.isfinite()
            refute(not agree(new[finite], old[finite], rounds=4096), f"{old} becomes {new}")


def adds_up_to_infinity(evidence: Evidence, claim: Claim) -> None:
    for step in evidence.document["steps"]:
        for each in step["contributions"]:
            refute(not bool(tensor_of(each).isfinite().all()), "a contribution is not finite")


def given_not_finite(evidence: Evidence, claim: Claim) -> None:
    given = cotangents(evidence)
    refute(all(v is None or bool(v.isfinite().all()) for v in given), "all cotangents are finite")


def norms(evidence: Evidence, claim: Claim) -> None:
    """The norm of the gradient, and its ratio to the cotangent's."""
    said = re.search(
        r"to (?P<name>.+?) has norm (?P<end>\S+), (?P<ratio>\S+) times that of the cotangent given \((?P<start>[^\s)]+)\)",
        claim.sentence,
    )
    if said is None:
        raise UndecidedError("it is worded in another way")
    found = gradients(evidence.program.run, evidence.program.leaves, cotangents(evidence))[evidence.place(said["name"])]
    assert found is not None
    end, start = norm([found]), norm([v for v in cotangents(evidence) if v is not None])
    if max(end, float(said["end"])) > 1e-14 * start:  # less is nothing but rounding
        refute(not math.isclose(float(said["end"]), end, rel_tol=0.06), f"the norm is {end}")
        refute(not math.isclose(float(said["ratio"]), end / start, rel_tol=0.06), f"the ratio is {end / start}")
