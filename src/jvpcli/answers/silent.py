"""Warnings of failures that torch is silent about: a gradient that is cut inside while another path carries one.

A look over the tape says whether there is anything to suspect (numbers without a gradient from a tensor that has one, a
rounding, NaN in a gradient); only then the program runs a few times more, and what is suspected is measured: a cut that
takes nothing from the derivative (softmax of x − x.max().detach()) is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jvpcli.answers.products import Products
from jvpcli.errors import JvpError
from jvpcli.gradcheck.causes import Reason, masked_step, told, value_with, watched
from jvpcli.gradcheck.differences import Line, quick
from jvpcli.gradcheck.losses import CASTS, CUT, ROUNDING, ROUNDINGS, Loss
from jvpcli.gradcheck.modes import random_pair
from jvpcli.gradcheck.staircase import used_as_number
from jvpcli.gradcheck.vectors import Evaluate, Named, RealFunction
from jvpcli.language.evaluation import Evaluation
from jvpcli.language.imports import files_of
from jvpcli.language.operations import is_imported
from jvpcli.program import Equation, refs
from jvpcli.report import Notice

if TYPE_CHECKING:
    from jvpcli.answers.products import Products
    from jvpcli.gradcheck.vectors import Evaluate


LARGEST = 1 << 20
"""Entries of inputs and outputs up to which the program is run again."""


def silent_failures(evaluation: Evaluation, products: Products, again: Evaluate) -> Iterator[Notice]:
    """The notices; `again` evaluates the program at other values of the differentiated inputs."""
    entries = sum(t.numel() for t in (*evaluation.inputs.values(), *evaluation.outputs.values()))
    spoilt = any(bool(gradient.isnan().any()) for gradient in products.vjp.values())
    suspicious = not evaluation.tape or any(_suspicious(step, evaluation) for step in evaluation.tape)
    if entries > LARGEST or not (spoilt or suspicious):
        return
    from jvpcli.answers.silent import measured  # loads much, and is seldom needed

    yield from measured(evaluation, products, again, suspicious, spoilt)


def _suspicious(step: Equation, evaluation: Evaluation) -> bool:
    """Whether a step may lose a gradient: numbers without one from a tensor with one, a rounding, code of the user's."""
    operands = (*step.operands, *(operand for _, operand in step.keywords))
    read = [evaluation.values.get(slot) for operand in operands for slot in refs(operand)]
    if not any(isinstance(value, Tensor) and value.requires_grad for value in read):
        return False
    name = step.target.rpartition(".")[2]
    if (
        is_imported(step.op)
        or name in ROUNDINGS
        or name == "floordiv"
        or any(k == "rounding_mode" for k, _ in step.keywords)
    ):
        return True
    value = evaluation.values.get(step.slot)
    if isinstance(value, Tensor):
        numbers = value.is_floating_point() or value.is_complex() or name in CASTS
        return numbers and not value.requires_grad
    return isinstance(value, (float, complex)) or (name in CASTS and not isinstance(value, bool))


COARSE = 1e-4
"""In dtypes that round more than this, differences tell nothing."""

PART = 0.02
"""A cut is told if it takes more than this part of the terms of a derivative."""


def measured(
    evaluation: Evaluation, products: Products, again: Evaluate, suspicious: bool, spoilt: bool
) -> Iterator[Notice]:
    """The notices of what a step lost (`suspicious`), and of NaN that a mask let through (`spoilt`)."""
    files = files_of(evaluation.functions)
    try:
        function = RealFunction.at(_carrying(again))
        if suspicious:
            yield from _losses(function, _reached(function, products), files)
        if spoilt:
            yield from _masked(function, products, files)
    except (JvpError, RuntimeError):  # a function that cannot be run near the point: nothing can be measured
        return


def _carrying(again: Evaluate) -> Evaluate:
    """The evaluation with those outputs alone that carry a gradient: of the others something is said already."""

    def evaluate(points: Named) -> Evaluation:
        evaluation = again(points)
        return replace(evaluation, outputs={name: y for name, y in evaluation.outputs.items() if y.requires_grad})

    return evaluate


def _reached(function: RealFunction, products: Products) -> Tensor:
    """The entries of the inputs that some output's gradient reaches (n,): of the others something is said already."""
    reached = {x for (_, x), gradient in products.contributions.items() if gradient is not None}
    mask = torch.zeros(function.n, dtype=torch.float64)
    for name, part in function.inputs.slices().items():
        mask[part] = float(name in reached)
    return mask


def _losses(function: RealFunction, reached: Tensor, files: Collection[str]) -> Iterator[Notice]:
    losses, evaluation = watched(function, files)
    for loss in losses:
        if loss.kind == ROUNDING and not loss.remainder and used_as_number(function, loss, files):
            yield Notice(
                "graph_break",
                f"{_text(told(ROUNDING, loss, evaluation), evaluation)} is a staircase: what flows through it gets no gradient "
                "(`jvp check` shows it)",
            )
    cuts = [loss for loss in losses if loss.kind == CUT]
    for loss in _that_matter(function, cuts, reached, files):
        yield Notice(
            "graph_break",
            f"{_text(told(CUT, loss, evaluation), evaluation)} cuts the graph: the outputs follow the inputs through it, and "
            "the gradient shown lacks that part (`jvp check` shows it)",
        )


def _that_matter(function: RealFunction, cuts: list[Loss], reached: Tensor, files: Collection[str]) -> list[Loss]:
    """The cuts that take a part of the derivative along a random direction; none if the derivative is right."""
    if not cuts or function.eps > COARSE:
        return []
    v, u = random_pair(function)
    u = (
        torch.exp2(torch.floor(torch.log2(u.abs())))
        * u.sign()
        * reached
        * torch.where(function.x == 0, 1.0, function.x.abs())
    )
    first = quick(Line(function, u))
    usable = first.derivative.isfinite()
    v = torch.where(usable, v, 0.0)
    derivative = torch.where(usable, first.derivative, 0.0)
    terms = float(v.abs() @ derivative.abs() + v.abs() @ torch.where(usable, first.noise, 0.0))
    analytic = float(function.pullback(v) @ u)
    if not abs(float(v @ derivative) - analytic) > PART * terms:
        return []
    t = 2.0**-8
    free = (function.value(function.x + t * u) - function.value(function.x - t * u)) / (2 * t)
    found = []
    for loss in cuts:
        held = {loss.position: loss.value}
        after, before = (value_with(function, function.x + s * t * u, held, files) for s in (1, -1))
        effect = torch.where(usable, (after - before) / (2 * t) - free, 0.0)
        if float(v.abs() @ effect.abs()) > PART * terms:
            found.append(loss)
    return found


def _masked(function: RealFunction, products: Products, files: Collection[str]) -> Iterator[Notice]:
    """NaN in a gradient from entries that a step leaves out."""
    spoilt = function.inputs.join([products.vjp.get(name) for name in function.inputs.names]).isnan()
    if not bool(function.y.isfinite().all()):
        return
    reason = masked_step(function, int(spoilt.nonzero()[0]), files)
    if reason is not None:
        yield Notice(
            "nonfinite",
            f"{_text(reason, function.evaluation)} makes a NaN of the gradient: it leaves entries out, but its backward sends "
            "a zero there, and 0·∞ = NaN; give what it leaves out a harmless value first",
        )


def _text(reason: Reason, evaluation: Evaluation) -> str:
    """The step as it stands in the expression, or its file and line."""
    if reason.place is not None:
        file, line = reason.place
        return f"`{reason.name.strip('_')}` ({Path(file).name}, line {line})"
    if reason.equation is not None and evaluation.program is not None:
        return f"`{evaluation.program.text(reason.equation.span)}`"
    return f"`{reason.name.strip('_')}`"
