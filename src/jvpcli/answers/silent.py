"""Warnings of failures that torch is silent about: a gradient that is cut inside while another path carries one.

A look over the tape says whether there is anything to suspect (numbers without a gradient from a tensor that has one, a
rounding, NaN in a gradient); only then the program runs a few times more, and what is suspected is measured: a cut that
takes nothing from the derivative (softmax of x − x.max().detach()) is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from jvpcli.answers.products import Products
from jvpcli.errors import JvpError
from jvpcli.gradcheck.causes import Reason, in_words, masked_step, placed, told, value_with
from jvpcli.gradcheck.differences import Line, quick
from jvpcli.gradcheck.losses import CUT, ROUNDING, UNSEEN, Loss
from jvpcli.gradcheck.modes import random_pair
from jvpcli.gradcheck.staircase import used_as_number
from jvpcli.gradcheck.vectors import RealFunction
from jvpcli.language.evaluate import Evaluation
from jvpcli.problem import Problem
from jvpcli.report import Notice

SENTENCES = {
    "staircase": "{step} is a staircase: what flows through it gets no gradient (`jvp check` shows it)",
    "part_cut": "{step} cuts the graph: the outputs follow the inputs through it, and the gradient shown lacks that part "
    "(`jvp check` shows it)",
    "masked": "{step} makes a NaN of the gradient: it leaves entries out, but its backward sends a zero there, and 0 times ∞ "
    "or NaN is NaN; give what it leaves out a harmless value first",
}
"""By the code of a claim its sentence."""

COARSE = 1e-4
"""In dtypes that round more than this, differences tell nothing."""

PART = 0.02
"""A cut is told if it takes more than this part of the terms of a derivative."""


def measured(problem: Problem, products: Products, suspicious: bool, spoilt: bool) -> Iterator[Notice]:
    """The notices of what a step lost (`suspicious`), and of NaN that a mask let through (`spoilt`)."""
    carrying = tuple(name for name, y in problem.evaluation.outputs.items() if y.requires_grad)
    try:  # of the other outputs something is said already
        function = RealFunction.of(replace(problem, only=carrying)).measured()
        if suspicious:
            yield from _losses(function, _reached(function, products))
        if spoilt:
            yield from _masked(function, products)
    except (JvpError, RuntimeError):  # a function that cannot be run near the point: nothing can be measured
        return


def _reached(function: RealFunction, products: Products) -> Tensor:
    """The entries of the inputs that some output's gradient reaches (n,): of the others something is said already."""
    reached = {x for (_, x), gradient in products.contributions.items() if gradient is not None}
    mask = torch.zeros(function.n, dtype=torch.float64)
    for name, part in function.inputs.slices().items():
        mask[part] = float(name in reached)
    return mask


def _losses(function: RealFunction, reached: Tensor) -> Iterator[Notice]:
    losses, evaluation = placed(function), function.evaluation
    for loss in losses:
        if loss.kind == ROUNDING and not loss.remainder and used_as_number(function, loss):
            yield _said("graph_break", "staircase", told(ROUNDING, loss, evaluation), evaluation)
    cuts = [loss for loss in losses if loss.kind in (CUT, UNSEEN)]
    mattering = [told(CUT, loss, evaluation) for loss in _that_matter(function, cuts, reached)]
    yield from dict.fromkeys(_said("graph_break", "part_cut", reason, evaluation) for reason in mattering)


def _that_matter(function: RealFunction, cuts: list[Loss], reached: Tensor) -> list[Loss]:
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
        after, before = (value_with(function, function.x + s * t * u, held) for s in (1, -1))
        effect = torch.where(usable, (after - before) / (2 * t) - free, 0.0)
        if float(v.abs() @ effect.abs()) > PART * terms:
            found.append(loss)
    return found


def _masked(function: RealFunction, products: Products) -> Iterator[Notice]:
    """NaN in a gradient from entries that a step leaves out."""
    spoilt = function.inputs.join([products.spoilt(name) for name in function.inputs.names]).isnan()
    if not bool(function.y.isfinite().all()):
        return
    reason = masked_step(function, int(spoilt.nonzero()[0]))
    if reason is not None:
        yield _said("nonfinite", "masked", reason, function.evaluation)


def _said(code: str, claim: str, reason: Reason, evaluation: Evaluation) -> Notice:
    """The notice with the sentence of its claim."""
    return Notice(code, SENTENCES[claim].format(step=in_words(reason, evaluation.program)), claim)
