"""Losses."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import torch

from jvpcli.symbolic.forms import (
    ONE,
    Lam,
    Poly,
    add,
    fn,
    number,
    power,
    scaled,
    times,
    total,
)
from jvpcli.symbolic.operations.entries import (
    Operand,
    clamp,
    elementwise,
    minus,
    minus_one_times,
    over,
    plus,
    raised,
    relu,
    root,
    scalar,
    square,
    times_of,
    where,
)
from jvpcli.symbolic.operations.matrices import linear, pairwise_distance
from jvpcli.symbolic.operations.shapes import one_hot
from jvpcli.symbolic.operations.sums import log_softmax, mean, summed


def averaged(x: Lam, reduction: str) -> Lam:
    match reduction:
        case "mean":
            return mean(x)
        case "sum":
            return summed(x)
        case "batchmean":
            return over(summed(x), x.shape[0])
    return x


def huber(input: Lam, target: Lam, delta: float = 1.0) -> Lam:
    return elementwise(lambda p: fn("where", fn("less", fn("abs", p), number(delta)),
        scaled(power(p, 2), Fraction(1, 2)), add(scaled(fn("abs", p), delta), number(Fraction(str(delta)) ** 2 / -2))),
        minus(input, target))  # fmt: skip


def smooth_l1(input: Lam, target: Lam, beta: float = 1.0) -> Lam:
    each = huber(input, target, beta)
    return each if beta == 1 else over(each, beta)


def binary_cross_entropy(input: Lam, target: Lam, weight: Operand = None) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        others = add(ONE, scaled(t, -1))
        return scaled(add(times(t, fn("log", p)), times(others, fn("log", add(ONE, scaled(p, -1))))), -1)

    return weighted(elementwise(entry, input, target), weight)


def weighted(each: Lam, weight: Operand) -> Lam:
    return each if weight is None else times_of(weight, each)


def with_logits(input: Lam, target: Lam, weight: Operand = None, pos_weight: Operand = None) -> Lam:
    if pos_weight is None:
        each = elementwise(lambda p, t: add(fn("softplus", p), scaled(times(t, p), -1)), input, target)
    else:
        heavy = plus(1, times_of(minus(pos_weight, 1), target))
        each = plus(times_of(minus(1, target), input), times_of(heavy, scalar("softplus")(minus_one_times(input))))
    return weighted(each, weight)


def kl_div(input: Lam, target: Lam, log_target: bool = False) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        if log_target:
            return times(fn("exp", t), add(t, scaled(p, -1)))
        return times(t, add(fn("log", t), scaled(p, -1)))

    return elementwise(entry, input, target)


def soft_margin(input: Lam, target: Lam) -> Lam:
    return elementwise(lambda p, t: fn("softplus", scaled(times(p, t), -1)), input, target)


def gaussian_nll(input: Lam, target: Lam, var: Lam, full: bool = False, eps: float = 1e-6) -> Lam:
    var = scalar("floored")(var, eps)
    each = times_of(plus(scalar("log")(var), over(square(minus(input, target)), var)), 0.5)
    return plus(each, math.log(2 * math.pi) / 2) if full else each


def hinge(x: Lam) -> Lam:
    return clamp(x, 0)


def margin_ranking(input1: Lam, input2: Lam, target: Lam, margin: float = 0) -> Lam:
    return hinge(plus(times_of(minus_one_times(target), minus(input1, input2)), margin))


def poisson_nll(input: Lam, target: Lam, log_input: bool = True, full: bool = False, eps: float = 1e-8) -> Lam:
    each = (
        minus(scalar("exp")(input), times_of(target, input))
        if log_input
        else minus(input, times_of(target, scalar("log")(plus(input, eps))))
    )
    if full:  # Stirling's approximation of ln(target!)
        root_of = times_of(scalar("log")(times_of(target, 2 * math.pi)), 0.5)
        stirling = plus(minus(times_of(target, scalar("log")(target)), target), root_of)
        each = plus(each, where(scalar("less")(1, target), stirling, 0))
    return each


def hinge_embedding(input: Lam, target: Lam, margin: float = 1.0) -> Lam:
    apart = where(scalar("equal")(target, 1), 0, hinge(minus(margin, input)))
    return plus(apart, where(scalar("equal")(target, -1), 0, input))


def triplet_margin(
    anchor: Lam, positive: Lam, negative: Lam, margin: float = 1.0, p: float = 2, eps: float = 1e-6, swap: bool = False
) -> Lam:
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    far = scalar("minimum")(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return hinge(plus(minus(near, far), margin))


def cosine_embedding(input1: Lam, input2: Lam, target: Lam, margin: float = 0) -> Lam:
    sizes = times_of(*(plus(summed(square(z), -1), 1e-12) for z in (input1, input2)))
    cosine = over(summed(times_of(input1, input2), -1), root(sizes))
    far = where(scalar("equal")(target, -1), hinge(minus(cosine, margin)), 0)
    return plus(where(scalar("equal")(target, 1), minus(1, cosine), 0), far)


def multi_margin(input: Lam, target: Lam, p: int = 1, margin: float = 1.0) -> Lam:
    *batch, c = input.over
    hot = Lam(input.over, one_hot(target(*batch) if target.over else target.body, c, c.size))
    own = summed(times_of(hot, input), -1, True)
    beyond = raised(relu(plus(minus(input, own), margin)), p)
    return over(summed(times_of(minus(1, hot), beyond), -1), c.size)


# Those that choose a class, whose mean is one by the weights


def classes_last(x: Lam) -> Lam:
    """The classes, which stand behind the batch, as the last axis."""
    return x if len(x.over) < 3 else Lam((x.over[0], *x.over[2:], x.over[1]), x.body)


def of_classes(logs: Lam, target: Lam, weight: Lam | None, reduction: str, smoothing: float = 0.0) -> Lam:
    """−Σ target·log p over the classes, which are the last axis; a target of whole numbers names one class."""
    *batch, c = logs.over
    named = len(target.over) < len(logs.over)
    hot = one_hot(target(*batch), c, c.size) if named else target(*batch, c)
    share = add(scaled(hot, 1 - Fraction(str(smoothing))), number(Fraction(str(smoothing)) / c.size))
    heavy = ONE if weight is None else weight(c)
    each = Lam(tuple(batch), scaled(total(times(heavy, share, logs.body), (c,)), -1))
    if weight is None or not named or reduction != "mean":
        return averaged(each, reduction)
    return over(summed(each), summed(Lam(tuple(batch), total(times(heavy, hot), (c,)))))


def nll_loss(
    input: Lam, target: Lam, weight: Lam | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Lam:
    return of_classes(classes_last(input), target, weight, reduction)


def cross_entropy(
    input: Lam, target: Lam, weight: Lam | None = None, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Lam:  # fmt: skip
    target = classes_last(target) if len(target.over) == len(input.over) else target
    return of_classes(log_softmax(classes_last(input), -1), target, weight, reduction, label_smoothing)


# By name, with the arguments that torch's own take


def _as_torch(name: str, loss: Callable[..., Lam]) -> Callable[..., Lam]:
    """A loss that is called as torch.nn.functional.NAME is; None is what is not given."""
    signature = inspect.signature(getattr(torch.nn.functional, name))

    def called(*args: Any, **keywords: Any) -> Lam:
        given = signature.bind(*args, **keywords).arguments
        return loss(**{option: value for option, value in given.items() if value is not None})

    return called


def _reduced(each: Callable[..., Lam]) -> Callable[..., Lam]:
    """The loss of all entries, of what gives that of each."""
    return lambda *, reduction="mean", **given: averaged(each(**given), reduction)


BY_ENTRIES: Mapping[str, Callable[..., Lam]] = {
    "mse_loss": lambda input, target: square(minus(input, target)),
    "l1_loss": lambda input, target: scalar("abs")(minus(input, target)),
    "huber_loss": huber, "smooth_l1_loss": smooth_l1, "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": with_logits, "kl_div": kl_div, "soft_margin_loss": soft_margin,
    "gaussian_nll_loss": gaussian_nll, "margin_ranking_loss": margin_ranking, "poisson_nll_loss": poisson_nll,
    "hinge_embedding_loss": hinge_embedding, "triplet_margin_loss": triplet_margin,
    "triplet_margin_with_distance_loss": triplet_margin, "cosine_embedding_loss": cosine_embedding,
    "multi_margin_loss": multi_margin, "multilabel_soft_margin_loss": lambda input, target: mean(with_logits(input, target), -1),
}  # fmt: skip
"""Losses that are a sum or a mean of the losses of entries, or of rows."""

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _as_torch(name, _reduced(each)) for name, each in BY_ENTRIES.items()},
    "nll_loss": _as_torch("nll_loss", nll_loss), "cross_entropy": _as_torch("cross_entropy", cross_entropy),
    "linear_cross_entropy": lambda x, weight, target, **named: cross_entropy(linear(x, weight), target, **named),
}  # fmt: skip
