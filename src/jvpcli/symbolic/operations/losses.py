"""Losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from jvpcli.symbolic.forms import (
    ONE,
    Atom,
    Lam,
    NoClosedFormError,
    Poly,
    add,
    fn,
    fresh,
    number,
    of,
    power,
    scaled,
    times,
    total,
)
from jvpcli.symbolic.operations.entries import (
    elementwise,
    minus,
    minus_one_times,
    over,
    plus,
    positive,
    relu,
    scalar,
    square,
    times_of,
    where,
)
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
    scale = Fraction(1) / Fraction(str(beta))
    return (
        over(times_of(huber_loss(x, target, reduction, beta), 1), beta)
        if beta != 1
        else huber_loss(x, target, reduction, float(scale))
    )


def binary_cross_entropy(
    x: Lam, target: Lam, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    def entry(p: Poly, t: Poly) -> Poly:
        others = add(ONE, scaled(t, -1))
        return scaled(add(times(t, fn("log", p)), times(others, fn("log", add(ONE, scaled(p, -1))))), -1)

    return averaged(elementwise(entry, x, target), reduction)


def with_logits(
    x: Lam, target: Lam, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Lam:
    return averaged(elementwise(lambda p, t: add(fn("softplus", p), scaled(times(t, p), -1)), x, target), reduction)


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


def nll_loss(
    x: Lam,
    target: Lam,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    if len(target.over) != len(x.over) - 1 or len(x.over) > 2:
        raise NoClosedFormError("such a loss has no index form here")
    c = fresh(x.shape[-1])
    batch = x.over[:-1]
    hot = of(Atom("one_hot", (Lam((), target(*batch)),), (c,), (c.size,)))
    return averaged(Lam(batch, scaled(total(times(hot, x(*batch, c)), (c,)), -1)), reduction)


def cross_entropy(
    x: Lam,
    target: Lam,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Lam:
    if label_smoothing or len(x.over) > 2:
        raise NoClosedFormError("such a loss has no index form here")
    logs = log_softmax(x, -1)
    if len(target.over) == len(x.over):
        each = minus_one_times(summed(times_of(target, logs), -1))
        return averaged(each, reduction)
    return nll_loss(logs, target, reduction=reduction)


def gaussian_nll_loss(
    x: Lam, target: Lam, var: Lam, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Lam:
    if full:
        raise NoClosedFormError("the constant of the full loss is left out here")
    var = scalar("maximum")(var, eps)
    each = times_of(plus(scalar("log")(var), over(square(minus(x, target)), var)), 0.5)
    return averaged(each, reduction)


def margin_ranking_loss(
    x1: Lam,
    x2: Lam,
    target: Lam,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Lam:
    return averaged(relu(plus(times_of(minus_one_times(target), minus(x1, x2)), margin)), reduction)


def poisson_nll_loss(
    x: Lam, target: Lam, log_input: bool = True, full: bool = False, size_average: None = None, eps: float = 1e-8,
    reduce: None = None, reduction: str = "mean",
) -> Lam:  # fmt: skip
    if full:
        raise NoClosedFormError("Stirling's term of the full loss has no form here")
    each = (
        minus(scalar("exp")(x), times_of(target, x))
        if log_input
        else minus(x, times_of(target, scalar("log")(plus(x, eps))))
    )
    return averaged(each, reduction)


def hinge_embedding_loss(x: Lam, target: Lam, margin: float = 1.0, reduction: str = "mean") -> Lam:
    return averaged(where(positive(target), x, relu(minus(margin, x))), reduction)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "gaussian_nll_loss": gaussian_nll_loss, "margin_ranking_loss": margin_ranking_loss, "poisson_nll_loss": poisson_nll_loss,
    "hinge_embedding_loss": hinge_embedding_loss, "mse_loss": mse_loss, "l1_loss": l1_loss, "huber_loss": huber_loss,
    "smooth_l1_loss": smooth_l1_loss, "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": with_logits, "kl_div": kl_div, "soft_margin_loss": soft_margin_loss,
    "nll_loss": nll_loss, "cross_entropy": cross_entropy,
}  # fmt: skip
