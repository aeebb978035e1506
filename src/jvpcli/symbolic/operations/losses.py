"""Losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.forms import (
    ONE,
    Lam,
    NoClosedFormError,
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


def mse_loss(x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean") -> Lam:
    return averaged(square(minus(x, target)), reduction)


def l1_loss(x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean") -> Lam:
    return averaged(scalar("abs")(minus(x, target)), reduction)


def huber_loss(x: Lam, target: Lam, reduction: str = "mean", delta: float = 1.0) -> Lam:
    return averaged(elementwise(lambda p: fn("where", fn("less", fn("abs", p), number(delta)),
        scaled(power(p, 2), Fraction(1, 2)), add(scaled(fn("abs", p), delta), number(Fraction(str(delta)) ** 2 / -2))),
        minus(x, target)), reduction)  # fmt: skip


def smooth_l1_loss(
    x: Lam, target: Lam, size_average: None = None, reduce: None = None, reduction: str = "mean", beta: float = 1.0
) -> Lam:
    huber = huber_loss(x, target, reduction, beta)
    return huber if beta == 1 else over(huber, beta)


def binary_cross_entropy(
    x: Lam, target: Lam, weight: Operand = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        others = add(ONE, scaled(t, -1))
        return scaled(add(times(t, fn("log", p)), times(others, fn("log", add(ONE, scaled(p, -1))))), -1)

    return averaged(weighted(elementwise(entry, x, target), weight), reduction)


def weighted(each: Lam, weight: Operand) -> Lam:
    return each if weight is None else times_of(weight, each)


def with_logits(
    x: Lam, target: Lam, weight: Operand = None, size_average: None = None, reduce: None = None, reduction: str = "mean",
    pos_weight: Operand = None,
) -> Lam:  # fmt: skip
    if pos_weight is None:
        each = elementwise(lambda p, t: add(fn("softplus", p), scaled(times(t, p), -1)), x, target)
    else:
        heavy = plus(1, times_of(minus(pos_weight, 1), target))
        each = plus(times_of(minus(1, target), x), times_of(heavy, scalar("softplus")(minus_one_times(x))))
    return averaged(weighted(each, weight), reduction)


def kl_div(
    x: Lam,
    target: Lam,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        if log_target:
            return times(fn("exp", t), add(t, scaled(p, -1)))
        return times(t, add(fn("log", t), scaled(p, -1)))

    return averaged(elementwise(entry, x, target), reduction)


def soft_margin_loss(x: Lam, target: Lam, reduction: str = "mean") -> Lam:
    return averaged(elementwise(lambda p, t: fn("softplus", scaled(times(p, t), -1)), x, target), reduction)


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
    x: Lam,
    target: Lam,
    weight: Lam | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    return of_classes(classes_last(x), target, weight, reduction)


def cross_entropy(
    x: Lam,
    target: Lam,
    weight: Lam | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Lam:
    target = classes_last(target) if len(target.over) == len(x.over) else target
    return of_classes(log_softmax(classes_last(x), -1), target, weight, reduction, label_smoothing)


def gaussian_nll_loss(
    x: Lam, target: Lam, var: Lam, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Lam:
    var = scalar("floored")(var, eps)
    each = times_of(plus(scalar("log")(var), over(square(minus(x, target)), var)), 0.5)
    each = plus(each, math.log(2 * math.pi) / 2) if full else each
    return averaged(each, reduction)


def hinge(x: Lam) -> Lam:
    return clamp(x, 0)


def margin_ranking_loss(
    x1: Lam,
    x2: Lam,
    target: Lam,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    return averaged(hinge(plus(times_of(minus_one_times(target), minus(x1, x2)), margin)), reduction)


def poisson_nll_loss(
    x: Lam, target: Lam, log_input: bool = True, full: bool = False, size_average: None = None, eps: float = 1e-8,
    reduce: None = None, reduction: str = "mean",
) -> Lam:  # fmt: skip
    each = (
        minus(scalar("exp")(x), times_of(target, x))
        if log_input
        else minus(x, times_of(target, scalar("log")(plus(x, eps))))
    )
    if full:  # Stirling's approximation of ln(target!)
        root_of = times_of(scalar("log")(times_of(target, 2 * math.pi)), 0.5)
        stirling = plus(minus(times_of(target, scalar("log")(target)), target), root_of)
        each = plus(each, where(scalar("less")(1, target), stirling, 0))
    return averaged(each, reduction)


def hinge_embedding_loss(x: Lam, target: Lam, margin: float = 1.0, reduction: str = "mean") -> Lam:
    apart = where(scalar("equal")(target, 1), 0, hinge(minus(margin, x)))
    return averaged(plus(apart, where(scalar("equal")(target, -1), 0, x)), reduction)


def triplet_margin_loss(
    anchor: Lam, positive: Lam, negative: Lam, margin: float = 1.0, p: float = 2, eps: float = 1e-6, swap: bool = False,
    size_average: None = None, reduce: None = None, reduction: str = "mean",
) -> Lam:  # fmt: skip
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    far = scalar("minimum")(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return averaged(hinge(plus(minus(near, far), margin)), reduction)


def triplet_by_distance(
    anchor: Lam, positive: Lam, negative: Lam, *, distance_function: None = None, margin: float = 1.0, swap: bool = False,
    reduction: str = "mean",
) -> Lam:  # fmt: skip
    return triplet_margin_loss(anchor, positive, negative, margin, swap=swap, reduction=reduction)


def cosine_embedding_loss(
    x: Lam, y: Lam, target: Lam, margin: float = 0, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    sizes = times_of(*(plus(summed(square(z), -1), 1e-12) for z in (x, y)))
    cosine = over(summed(times_of(x, y), -1), root(sizes))
    far = where(scalar("equal")(target, -1), hinge(minus(cosine, margin)), 0)
    return averaged(plus(where(scalar("equal")(target, 1), minus(1, cosine), 0), far), reduction)


def multi_margin_loss(
    x: Lam, target: Lam, p: int = 1, margin: float = 1.0, weight: None = None, size_average: None = None, reduce: None = None,
    reduction: str = "mean",
) -> Lam:  # fmt: skip
    if weight is not None:
        raise NoClosedFormError("a loss with weights of classes has no index form here")
    *batch, c = x.over
    hot = Lam(x.over, one_hot(target(*batch) if target.over else target.body, c, c.size))
    own = summed(times_of(hot, x), -1, True)
    beyond = raised(relu(plus(minus(x, own), margin)), p)
    return averaged(over(summed(times_of(minus(1, hot), beyond), -1), c.size), reduction)


def multilabel_soft_margin_loss(
    x: Lam, target: Lam, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    return averaged(mean(with_logits(x, target, reduction="none"), -1), reduction)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "gaussian_nll_loss": gaussian_nll_loss, "margin_ranking_loss": margin_ranking_loss, "poisson_nll_loss": poisson_nll_loss,
    "hinge_embedding_loss": hinge_embedding_loss, "mse_loss": mse_loss, "l1_loss": l1_loss, "huber_loss": huber_loss,
    "smooth_l1_loss": smooth_l1_loss, "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": with_logits, "kl_div": kl_div, "soft_margin_loss": soft_margin_loss,
    "nll_loss": nll_loss, "cross_entropy": cross_entropy,
    "triplet_margin_loss": triplet_margin_loss, "triplet_margin_with_distance_loss": triplet_by_distance,
    "cosine_embedding_loss": cosine_embedding_loss, "multi_margin_loss": multi_margin_loss,
    "multilabel_soft_margin_loss": multilabel_soft_margin_loss,
    "linear_cross_entropy": lambda x, weight, target, **named: cross_entropy(linear(x, weight), target, **named),
}  # fmt: skip
