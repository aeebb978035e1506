"""Two independent ways to every number of a trace: the steps' own results against those of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jvpcli.derive.chain import multiply_out, written_out
from jvpcli.derive.linear_map import ComplexMap, LinearMap
from jvpcli.errors import InternalError
from jvpcli.explain.traced import Traced
from jvpcli.report import Comparison, Notice


def compare_swept(traced: Traced) -> tuple[Comparison, tuple[Notice, ...]]:
    """The gradients swept through the steps against those of `torch.autograd.grad`, and a warning where they may differ.

    Raises:
        InternalError: they differ by more than rounding although the replay gave the same values.
    """
    pairs, worst, place = [], 0.0, ""
    for name, direct in traced.gradients.items():
        x = traced.chain.inputs[name]
        swept = traced.swept.totals.get(x.number)
        zero = torch.zeros_like(x.tensor)
        pairs.append((zero if swept is None else swept, zero if direct is None else direct))
        excess = _excess(*pairs[-1], _scale(traced))
        if excess > worst:
            worst, place = excess, name
    result = _compared(pairs)
    if not traced.chain.faithful:
        notice = Notice(
            "fallback",
            "evaluated again step by step, with the same seed, the expression gave other values; the steps and the gradients "
            "shown are of that second evaluation",
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
    excess = 0.0
    leaves = {name: traced.evaluation.inputs[name] for name in traced.evaluation.wrt}
    for name in traced.cotangents if traced.chain.faithful else ():
        product = multiply_out(traced.chain, traced.maps, name)
        explicit = None if product is None else written_out(traced.evaluation.outputs[name], list(leaves.values()))
        bounds = None if explicit is None else multiply_out(traced.chain, traced.maps, name, absolute=True)
        if product is None or explicit is None or bounds is None:
            continue
        for x, jacobian in zip(leaves, explicit, strict=True):
            pair = product[x], _rows(jacobian)
            pairs.append(pair)
            excess = max(excess, _excess(*pair, bounds[x].abs()))
    if not pairs:
        return None, ()
    result = _compared(pairs)
    if excess == 0.0:
        return result, ()
    text = (
        f"the local Jacobians multiplied together differ from the explicit Jacobian by {result.largest_difference:.3g}"
    )
    return result, (Notice("fallback", text),)


def _rows(jacobian: LinearMap) -> Tensor:
    """(m, n); for a complex output (2m, n), first the rows of Re y."""
    if isinstance(jacobian, ComplexMap):
        return jacobian.rows if jacobian.imaginary is None else torch.cat([jacobian.rows, jacobian.imaginary])
    return jacobian.to_dense().reshape(jacobian.m, jacobian.n)


def _scale(traced: Traced) -> Tensor:
    """The largest finite contribution anywhere: what a rounding is a part of."""
    passed = [g for step in traced.swept.contributions for g in step if g is not None and g.numel()]
    sizes = [torch.nan_to_num(g.abs().double(), nan=0.0, posinf=0.0).max() for g in passed]
    return torch.stack(sizes).max() if sizes else torch.zeros(())


def _excess(a: Tensor, b: Tensor, scale: Tensor) -> float:
    """By how much the largest difference, where both are finite, is over what rounding explains."""
    info = torch.finfo(b.dtype)
    both = a.isfinite() & b.isfinite()
    allowed = math.sqrt(info.eps) * torch.nan_to_num(scale, nan=0.0, posinf=0.0) + info.tiny
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
