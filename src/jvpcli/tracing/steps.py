"""What a trace is made of, as tensors, and what its steps and values are called."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from jvpcli.errors import InternalError
from jvpcli.jacobians import figures
from jvpcli.jacobians.contraction import entry_label, index_letters, indexed, term, unravel
from jvpcli.jacobians.linear_map import ComplexMap, LinearMap, as_numpy
from jvpcli.jacobians.nearby import largest
from jvpcli.jacobians.operations import coarsest_rounding
from jvpcli.jacobians.structure import artefacts_in_words, without_artefacts
from jvpcli.language.arrays import Array
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Problem
from jvpcli.program import IMPORTED, Program
from jvpcli.report import Comparison, Notice, Shape, Value
from jvpcli.report.trace import MARK, Contribution, LocalJacobian, StepPart, TraceStep
from jvpcli.request import Tell
from jvpcli.tracing.chain import LocalMap, Swept, chain_maps, gradients_of, multiply_out, sweep, written_out
from jvpcli.tracing.replay import OUTPUT, WRITE, Chain, Primal, Step, replay


@dataclass(frozen=True, eq=False)
class Traced:
    """Everything that one trace computed.

    Attributes:
        problem: an expression at a point, evaluated.
        chain: its evaluation as steps with graphs of their own.
        swept: the backward pass over them.
        maps: of each step its local Jacobians.
        cotangents: output name to v.
        gradients: input name to what `torch.autograd.grad` gives for the whole; None: not reached.
        labels: a name for each value, by the number of its primal; no two have the same.
        names: of each step.
        texts: of each step, as the program has it.
    """

    problem: Problem
    chain: Chain
    swept: Swept
    maps: Sequence[Sequence[LocalMap]]
    cotangents: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor | None]
    labels: Mapping[int, str]
    names: Sequence[str]
    texts: Sequence[str]

    @property
    def evaluation(self) -> Evaluation:
        """The expression's, with its graph."""
        return self.problem.evaluation

    @property
    def program(self) -> Program:
        """The expression."""
        assert self.evaluation.program is not None
        return self.evaluation.program

    @cached_property
    def mark(self) -> str:
        """What the letters of what has no name bear, where something is called as one of them."""
        return "" if {*LETTERS, RESULT}.isdisjoint(self.labels.values()) else MARK

    def told(self, tensor: Tensor) -> Value:
        """A tensor of the trace as the report has it: what one step hands on unchanged arrives at another."""
        found = self._told.get(id(tensor))
        if found is None:
            found = self._told[id(tensor)] = figures.value(tensor)
        return found

    @cached_property
    def _told(self) -> dict[int, Value]:
        return {}

    def source(self, step: Step) -> str:
        """The text of a step on one line."""
        return self.program.step_text(step.equation)

    def entry(self, primal: Primal, flat: int) -> str:
        """`x[0] = -1`: one entry of a value with its number."""
        number = primal.tensor.reshape(-1)[flat].item()
        return f"{self.place(primal, flat)} = {number_text(number)}"

    def place(self, primal: Primal, flat: int) -> str:
        """`x[0]`: one entry of a value."""
        label, shape = self.labels[primal.number], tuple(primal.tensor.shape)
        return entry_label(bracketed(label), unravel(flat, shape)) if shape else label


def trace_problem(
    problem: Problem, cotangents: Mapping[str, Tensor], *, with_maps: bool = True, tell: Tell | None = None
) -> Traced:
    """The chain rule of a problem, step by step, for cotangents by output name; with the local Jacobians or without."""
    evaluation = problem.evaluation
    pairs = [(evaluation.outputs[name], v) for name, v in cotangents.items()]
    gradients = gradients_of(pairs, list(problem.leaves.values()))
    chain = replay(evaluation, problem.inputs, problem.seed)
    assert evaluation.program is not None
    texts = [evaluation.program.text_of(step.equation) for step in chain.steps]
    labels, names = name_values(evaluation, chain, texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how fast torch is at many cotangents at once
        maps = chain_maps(chain.steps, tell) if with_maps else [()] * len(chain.steps)
    whole = dict(zip(problem.leaves, gradients, strict=True))
    return Traced(problem, chain, sweep(chain, cotangents), maps, cotangents, whole, labels, names, texts)


def number_text(value: complex | bool) -> str:
    """A number in few digits, with ∞ for what is not finite."""
    if isinstance(value, complex):
        return f"{value:.4g}"
    return f"{value + 0:.4g}".replace("inf", "∞")  # + 0: no -0


def bracketed(label: str) -> str:
    """A label that an index can stand behind."""
    return label if re.fullmatch(r"[\w.]+(\[[\w, ]*\])?( \(\d+\))?|[\w.]+\([^()]*\)", label) else f"({label})"


def name_values(evaluation: Evaluation, chain: Chain, texts: Sequence[str]) -> tuple[dict[int, str], list[str]]:
    """A label for each value and each step: the name that the program gives it, else its text; numbered where it repeats."""
    program = evaluation.program
    assert program is not None
    labels: dict[int, str] = {}
    bare: dict[int, str] = {}
    used: dict[str, int] = {}
    for name, primal in chain.inputs.items():
        labels[primal.number] = bare[primal.number] = name
        used[name] = 1
    own = {equation.name for equation in evaluation.tape}
    free = {p.number: name for name, p in chain.outputs.items() if name not in own and name not in chain.inputs}
    names = []
    for step, text in zip(chain.steps, texts, strict=True):
        whole = step.equation.name or program.on_one_line(text)
        if step.kind in (WRITE, OUTPUT) or (step.equation.op == "op:setitem" and not isinstance(step.value, Array)):
            whole = bare[step.operands[0].number]
        single = len(step.results) == 1
        for (suffix, changed), result in zip(_results_in_words(step), step.results, strict=True):
            number = result.primal.number
            bare[number] = whole + suffix if changed is None else bare[changed.number]
            labels[number] = _unique(free.get(number, bare[number]) if single else bare[number], used)
        names.append(labels[step.results[0].primal.number] if single else _unique(whole, used))
    return labels, names


def _unique(label: str, used: dict[str, int]) -> str:
    used[label] = used.get(label, 0) + 1
    return label if used[label] == 1 else f"{label} ({used[label]})"


def _results_in_words(step: Step) -> Iterator[tuple[str, Primal | None]]:
    """For each result what to write behind the step's text, or the operand that it is the new value of."""
    suffixes = list(_suffixes(step.value)) if len(step.results) > 1 else [""]
    for position, _ in enumerate(step.results):
        if position < len(suffixes):
            yield suffixes[position], None
        else:
            recorded = step.results[position].primal.recorded
            yield "", next(p for p in step.operands if p.recorded is recorded)


def _suffixes(value: object) -> Iterator[str]:
    """`.values`, `[0]`, `[1][2]`: how each tensor of a result is reached."""
    if isinstance(value, Primal):
        yield ""
    elif isinstance(value, (tuple, list)):
        fields = [name for name in dir(value) if _is_field(value, name)]
        by_position = {id(getattr(value, name)): name for name in fields}
        for index, item in enumerate(value):
            step = f".{by_position[id(item)]}" if id(item) in by_position else f"[{index}]"
            for rest in _suffixes(item):
                yield step + rest
    elif value is None:
        yield ""


def _is_field(value: object, name: str) -> bool:
    return type(value).__module__ == "torch.return_types" and not name.startswith("_") and name not in dir(tuple)


def operation_name(step: Step) -> str:
    """`torch.outer`, `Tensor.sum`, `Tensor.T`, `mul`: the operation as the report names it."""
    if step.kind in (WRITE, OUTPUT):
        return step.kind
    kind, target = step.equation.kind, step.equation.target
    if kind == "unpack":
        return "unpack"
    if kind == "attr" and len(step.operands) != 1:  # a field of a named result
        return f".{target}"
    return f"Tensor.{target}" if kind in ("method", "attr") else target.removeprefix(IMPORTED)


LONGEST_SYMBOL = 12
"""A name longer than this is replaced by a letter in formulas."""

LETTERS, RESULT = "abcdefgh", "z"
"""What operands and a result are called in a formula where they have no name."""


def trace_steps(traced: Traced, opened: int | None = None) -> tuple[TraceStep, ...]:
    """Every step in evaluation order; the local Jacobians of step `opened` with their values."""
    return tuple([trace_step(traced, index, opened == index) for index in range(len(traced.chain.steps))])


def trace_step(traced: Traced, index: int, opened: bool) -> TraceStep:
    """One step."""
    step, arrived = traced.chain.steps[index], traced.swept.arrived[index]
    main = next((k for k, v in enumerate(arrived) if v is not None), 0)
    here = [v for v in arrived if v is not None]
    shape, dtype, value = _result(step, main)
    site = traced.program.sites.get(step.equation.slot)
    return TraceStep(
        index=index,
        op=operation_name(step),
        source=traced.texts[index],
        span=step.equation.span,
        operands=tuple([traced.labels[primal.number] for primal in step.operands]),
        output=traced.names[index],
        shape=shape,
        dtype=dtype,
        value=value,
        cotangent=traced.told(arrived[main]) if here else None,  # type: ignore[arg-type]
        norm=norm(here) if here else None,
        local_jacobians=tuple(_local_jacobians(traced, index, opened)),
        contributions=tuple(_contributions(traced, index)),
        parts=tuple(_parts(traced, index)) if len(step.results) > 1 else None,
        file=None if site is None or not site.file else site.file,
        line=None if site is None or not site.line else site.line,
        module=None if site is None else site.module,
    )


def norm(tensors: list[Tensor]) -> float:
    """The Euclidean norm of all entries; the largest is taken out, so that no square overflows."""
    each = [np.abs(as_numpy(t)).astype(np.float64).reshape(-1) for t in tensors]
    sizes = each[0] if len(each) == 1 else np.concatenate([np.zeros(0), *each])
    most = float(sizes.max()) if sizes.size else 0.0
    if not math.isfinite(most) or most == 0.0:
        return most
    return most * math.sqrt(np.square(sizes / most).sum())


def _result(step: Step, main: int) -> tuple[Shape, str, np.ndarray | None]:
    """Shape, dtype and value of a step: of the tensor it gives, or of the number."""
    if step.results:
        value = figures.value(step.results[main].primal.tensor)
        return value.shape, value.dtype, value.value
    if isinstance(step.value, Array):
        return step.value.values.shape, str(step.value.values.dtype), step.value.values
    number = isinstance(step.value, (bool, int, float, complex))
    sizes = isinstance(step.value, (tuple, list)) and all(isinstance(n, (bool, int, float)) for n in step.value)
    array = np.asarray(step.value) if number or sizes else None
    return () if array is None else array.shape, type(step.value).__name__, array


def _local_jacobians(traced: Traced, index: int, opened: bool) -> Iterator[LocalJacobian]:
    step, passed = traced.chain.steps[index], traced.swept.contributions[index]
    for local in traced.maps[index]:
        if local.structure == "zero" and passed[local.position] is None:
            continue  # this result does not depend on this operand at all
        result = traced.labels[step.results[local.result].primal.number]
        operand = traced.labels[step.operands[local.position].number]
        einsum, formula = contraction(result, operand, local, traced.mark)
        shape = local.out_shape + local.in_shape
        parts = local.jacobian.parts if opened and local.jacobian is not None else []
        arrays = [figures.array(part.reshape(shape)) for part in parts]
        yield LocalJacobian(
            operand=operand,
            position=local.position,
            shape=shape,
            nnz=local.nnz,
            structure=local.structure,
            einsum=einsum,
            formula=formula,
            part=result if len(step.results) > 1 else None,
            value=arrays[0] if arrays else None,
            imaginary=arrays[1] if len(arrays) > 1 else None,
            scale=local.factor,
        )


def _contributions(traced: Traced, index: int) -> Iterator[Contribution]:
    step = traced.chain.steps[index]
    for position, gradient in enumerate(traced.swept.contributions[index]):
        if gradient is not None:
            operand = traced.labels[step.operands[position].number]
            entry = traced.told(gradient)
            yield Contribution(operand, position, entry.shape, entry.dtype, entry.value)


def _parts(traced: Traced, index: int) -> Iterator[StepPart]:
    step = traced.chain.steps[index]
    for result, v in zip(step.results, traced.swept.arrived[index], strict=True):
        entry = figures.value(result.primal.tensor)
        arrived = None if v is None else traced.told(v)
        yield StepPart(traced.labels[result.primal.number], entry.shape, entry.dtype, entry.value, arrived)


def contraction(result: str, operand: str, local: LocalMap, mark: str = "") -> tuple[str, str]:
    """einsum and formula of v · ∂result/∂operand; for special kinds the formula is what it comes down to.

    What has no name is a letter with the `mark`.
    """
    z = _symbol(result, RESULT + mark)
    a = _symbol(operand, LETTERS[local.position % len(LETTERS)] + mark)
    splits = local.jacobian is not None and local.jacobian.splits
    return _notation(z, a, local.in_shape, local.out_shape, local.structure, splits, _factor(local))


@lru_cache(maxsize=1024)
def _notation(
    z: str, a: str, in_shape: Shape, out_shape: Shape, structure: str, splits: bool, factor: str
) -> tuple[str, str]:
    inner, outer = index_letters(in_shape, out_shape)
    einsum = f"{outer},{outer}{inner}->{inner}"
    same = in_shape == out_shape
    match structure:
        case "zero":
            right = "0"
        case "identity" | "diagonal" if same and splits:
            right = term(indexed("v", inner), indexed(z, inner), indexed(a, inner), splits)
        case "identity" if same:
            right = f"{factor}{indexed('v', inner)}"
        case "diagonal" if same:
            right = f"{indexed('v', inner)} · ∂{indexed(z, inner)}/∂{indexed(a, inner)}"
        case _:
            total = f"Σ_{outer} " if outer else ""
            right = total + term(indexed("v", outer), indexed(z, outer), indexed(a, inner), splits)
    return einsum, f"∂L/∂{indexed(a, inner)} = {right}"


def _symbol(label: str, letter: str) -> str:
    return label if len(label) <= LONGEST_SYMBOL and label.isidentifier() else letter


def _factor(local: LocalMap) -> str:
    """`2 · ` for two times the identity; nothing for the identity itself."""
    number = 1 if local.scale is None else local.scale.item()
    return "" if number == 1 else f"{number:.4g} · "


def compare_swept(traced: Traced) -> tuple[Comparison, tuple[Notice, ...]]:
    """The gradients swept through the steps against those of `torch.autograd.grad`, and a warning where they may differ.

    Raises:
        InternalError: they differ by more than rounding although the replay gave the same values.
    """
    pairs, worst, place, scale, eps = [], 0.0, "", _scale(traced), _coarsest(traced)
    for name, direct in traced.gradients.items():
        x = traced.chain.inputs[name]
        swept = traced.swept.totals.get(x.number)
        zero = torch.zeros_like(x.tensor)
        pairs.append((zero if swept is None else swept, zero if direct is None else direct))
        excess = _excess(*pairs[-1], scale, eps)
        if excess > worst:
            worst, place = excess, name
    result = _compared(pairs)
    if not traced.chain.faithful:
        notice = Notice(
            "fallback",
            "evaluated again step by step, with the same seed, the expression gave other values; the steps and the gradients "
            "shown are of that second evaluation",
            "replay_differs",
        )
        return result, (notice,)
    if worst > 0:
        raise InternalError(
            f"two ways to ∂L/∂{place} differ by {result.largest_difference:.3g}: the sum over the steps, and "
            "torch.autograd.grad of the whole",
            explanation="Both should be the same number; please report this expression and its inputs.",
        )
    return result, ()


def compare_product(traced: Traced) -> tuple[Comparison | None, tuple[Notice, ...]]:
    """The local Jacobians multiplied together against the explicit Jacobian; None where they are too large for that."""
    pairs: list[tuple[Tensor, Tensor]] = []
    notices: list[Notice] = []
    excess = 0.0
    leaves, eps = traced.problem.leaves, _coarsest(traced)
    for name in traced.cotangents if traced.chain.faithful else ():
        product = multiply_out(traced.chain, traced.maps, name)
        explicit = None if product is None else written_out(traced.evaluation.outputs[name], list(leaves.values()))
        if product is None or explicit is None:
            continue
        here: dict[str, tuple[Tensor, Tensor]] = {}
        for x, jacobian in zip(leaves, explicit, strict=True):
            rows, artefacts = _rows(jacobian), 0
            if product.reach is not None:
                rows, artefacts = without_artefacts(rows, product.reach[x])
            here[x] = product.rows[x], rows
            notices += [artefacts_in_words(name, x, artefacts)] if artefacts else []
        pairs += here.values()
        if any(_excess(a, b, a.abs(), eps) for a, b in here.values()):  # else no larger bound, of terms that cancel, is needed
            bounds = multiply_out(traced.chain, traced.maps, name, absolute=True)
            excess = max(excess, *[_excess(*pair, bounds.rows[x].abs(), eps) for x, pair in here.items()] if bounds else ())
    if not pairs:
        return None, ()
    result = _compared(pairs)
    if excess == 0.0:
        return result, tuple(notices)
    text = (
        f"the local Jacobians multiplied together differ from the explicit Jacobian by {result.largest_difference:.3g}"
    )
    return result, (Notice("fallback", text, "product_differs"), *notices)


def _rows(jacobian: LinearMap) -> Tensor:
    """(m, n); for a complex output (2m, n), first the rows of Re y."""
    if isinstance(jacobian, ComplexMap):
        return jacobian.rows if jacobian.imaginary is None else torch.cat([jacobian.rows, jacobian.imaginary])
    return jacobian.to_dense().reshape(jacobian.m, jacobian.n)


def _scale(traced: Traced) -> Tensor:
    """The largest finite contribution anywhere: what a rounding is a part of."""
    sizes = [largest(g) for step in traced.swept.contributions for g in step if g is not None]
    return torch.tensor(max(sizes, default=0.0), dtype=torch.float64)


def _coarsest(traced: Traced) -> float:
    """The rounding of the coarsest dtype on the way."""
    tensors = (*traced.evaluation.outputs.values(), *traced.problem.leaves.values())
    return coarsest_rounding(tensors, traced.problem.nodes.values())


def _excess(a: Tensor, b: Tensor, scale: Tensor, eps: float) -> float:
    """By how much the largest difference, where both are finite, is over what rounding explains."""
    info = torch.finfo(b.dtype)
    both = a.isfinite() & b.isfinite()
    allowed = math.sqrt(max(eps, info.eps)) * torch.nan_to_num(scale, nan=0.0, posinf=0.0) + info.tiny
    over = torch.where(both, (a - b).abs() - allowed, torch.zeros_like(a.abs()))
    return max(0.0, float(over.max())) if over.numel() else 0.0


def _compared(pairs: Sequence[tuple[Tensor, Tensor]]) -> Comparison:
    compared = not_finite = 0
    largest = 0.0
    for a, b in pairs:
        both = a.isfinite() & b.isfinite()
        difference = (a - b).abs()[both]
        compared += int(both.sum())
        not_finite += int((~both).sum())
        largest = max(largest, float(difference.max()) if difference.numel() else 0.0)
    return Comparison(compared, not_finite, largest)
