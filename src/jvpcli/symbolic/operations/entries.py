"""What is done to each entry by itself: arithmetic, scalar functions, activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from jvpcli.symbolic.forms import ONE, Lam, NoClosedFormError, Poly, add, fn, fresh, key, number, power, scaled, times
from jvpcli.symbolic.scalars import SCALARS, opposite

Operand = Any
"""A Lam or a number."""


def lam(x: Operand) -> Lam:
    """A tensor; of a number, that of no axes.

    Raises:
        NoClosedFormError: it is neither.
    """
    if isinstance(x, Lam):
        return x
    if isinstance(x, (int, float, Fraction)):
        if isinstance(x, float) and math.isinf(x):
            return Lam((), scaled(fn("inf"), 1 if x > 0 else -1))
        return Lam((), number(x))
    raise NoClosedFormError("an argument is neither a tensor nor a number")


Dims = int | Sequence[int] | None


def places(dim: Dims, rank: int) -> tuple[int, ...]:
    """The axes that a `dim` means; none: all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else (dim,)
    return tuple(sorted(d % rank if rank else 0 for d in dims)) if rank else ()


def elementwise(f: Callable[..., Poly], *operands: Operand) -> Lam:
    """A function of each entry, with broadcasting."""
    tensors = [lam(x) for x in operands]
    rank = max(len(t.over) for t in tensors)
    shape = [1] * rank
    for t in tensors:
        for k, size in enumerate(t.shape, start=rank - len(t.over)):
            shape[k] = size if size != 1 else shape[k]
    over = tuple(map(fresh, shape))

    def entry(t: Lam) -> Poly:
        own = over[rank - len(t.over) :]
        return t(*(0 if size == 1 and index.size != 1 else index for size, index in zip(t.shape, own, strict=True)))

    return Lam(over, f(*map(entry, tensors)))


def scalar(name: str) -> Callable[..., Lam]:
    def unary(x: Operand) -> Lam:
        return elementwise(lambda p: fn(name, p), x)

    def binary(x: Operand, y: Operand) -> Lam:
        both_ways = name in ("maximum", "minimum")  # of one and the same it is that
        return elementwise(lambda p, q: p if both_ways and key(p) == key(q) else fn(name, p, q), x, y)

    return unary if len(SCALARS[name].partials) == 1 else binary


def plus(x: Operand, y: Operand, alpha: float = 1) -> Lam:
    return elementwise(lambda p, q: add(p, scaled(q, alpha)), x, y)


def minus(x: Operand, y: Operand, alpha: float = 1) -> Lam:
    return elementwise(lambda p, q: add(p, scaled(q, -Fraction(str(alpha)))), x, y)


def times_of(x: Operand, y: Operand) -> Lam:
    return elementwise(times, x, y)


def over(x: Operand, y: Operand, rounding_mode: str | None = None) -> Lam:
    quotient = elementwise(lambda p, q: times(p, power(q, -1)), x, y)
    return quotient if rounding_mode is None else scalar(rounding_mode)(quotient)


def raised(x: Operand, exponent: Operand) -> Lam:
    if isinstance(exponent, (int, float)):
        return elementwise(lambda p: power(p, exponent), x)
    return elementwise(lambda p, e: fn("power", p, e), x, exponent)


def minus_one_times(x: Operand) -> Lam:
    return elementwise(lambda p: scaled(p, -1), x)


def where(condition: Operand, x: Operand, y: Operand) -> Lam:
    return elementwise(lambda c, p, q: fn("where", c, p, q), condition, x, y)


def clamp(x: Operand, min: Operand = None, max: Operand = None) -> Lam:  # torch's own names
    if min is None or max is None or isinstance(min, Lam) != isinstance(max, Lam):  # torch takes both only as of one kind
        x = x if min is None else scalar("clamp_min")(x, min)
        return x if max is None else scalar("clamp_max")(x, max)
    return elementwise(lambda p, low, high: fn("clamp", p, low, high), x, min, max)


def hardtanh(x: Operand, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("hardtanh", p, number(min_val), number(max_val)), x)


def of_entry(f: Callable[[Poly], Poly]) -> Callable[..., Lam]:
    return lambda x: elementwise(f, x)


def same(x: Lam, *args: Any, **keywords: Any) -> Lam:
    """What changes no entry."""
    return x


def root(x: Operand) -> Lam:
    return elementwise(lambda p: power(p, "1/2"), x)


def square(x: Operand) -> Lam:
    return elementwise(lambda p: power(p, 2), x)


def leaky_relu(x: Lam, negative_slope: float = 0.01, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("where", fn("positive", p), p, scaled(p, negative_slope)), x)


def elu(x: Lam, alpha: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("where", fn("positive", p), p, scaled(fn("expm1", p), alpha)), x)


def gelu(x: Lam, approximate: str = "none") -> Lam:
    if approximate != "none":
        return elementwise(lambda p: times(scaled(p, Fraction(1, 2)), add(ONE, fn("tanh", times(number(math.sqrt(2 / math.pi)),
            add(p, scaled(power(p, 3), 0.044715)))))), x)  # fmt: skip
    return elementwise(lambda p: times(p, fn("normal_cdf", p)), x)


def softplus(x: Lam, beta: float = 1, threshold: float = 20) -> Lam:
    if beta == 1:
        return scalar("softplus")(x)
    return elementwise(lambda p: times(number(1 / beta), fn("softplus", scaled(p, beta))), x)


def relu(x: Lam, inplace: bool = False) -> Lam:
    return scalar("relu")(x)


def lerp(a: Operand, b: Operand, weight: Operand) -> Lam:
    return plus(a, times_of(weight, minus(b, a)))


def addcmul(x: Lam, a: Lam, b: Lam, value: float = 1) -> Lam:
    return plus(x, times_of(a, b), value)


def addcdiv(x: Lam, a: Lam, b: Lam, value: float = 1) -> Lam:
    return plus(x, over(a, b), value)


ENTRIES: Mapping[str, Callable[[Poly], Poly]] = {
    "sqrt": lambda p: power(p, "1/2"), "rsqrt": lambda p: power(p, "-1/2"), "square": lambda p: power(p, 2),
    "reciprocal": lambda p: power(p, -1), "neg": lambda p: scaled(p, -1), "negative": lambda p: scaled(p, -1),
    "silu": lambda p: times(p, fn("sigmoid", p)), "mish": lambda p: times(p, fn("tanh", fn("softplus", p))),
    "softsign": lambda p: times(p, power(add(ONE, fn("abs", p)), -1)),
    "tanhshrink": lambda p: add(p, scaled(fn("tanh", p), -1)),
    "logit": lambda p: fn("log", times(p, power(add(ONE, scaled(p, -1)), -1))),
    "sinc": lambda p: times(fn("sin", times(number(math.pi), p)), power(times(number(math.pi), p), -1)),
    "deg2rad": lambda p: scaled(p, math.pi / 180), "rad2deg": lambda p: scaled(p, 180 / math.pi),
    "relu6": lambda p: fn("hardtanh", p, number(0), number(6)), "frac": lambda p: add(p, scaled(fn("trunc", p), -1)),
    "xlogy": lambda p: times(p, fn("log", p)),
    "entr": lambda p: scaled(times(p, fn("log", p)), -1), "detach": lambda p: fn("detach", p),
}  # fmt: skip


def negated(condition: Operand) -> Lam:
    return elementwise(opposite, condition)


def either(x: Operand, y: Operand) -> Lam:
    return minus(plus(x, y), times_of(x, y))


def at_least(x: Operand, y: Operand) -> Lam:
    return scalar("at_most")(y, x)


def angle(x: Lam) -> Lam:
    return where(scalar("less")(x, 0), math.pi, 0)


def rounded(x: Lam, decimals: int = 0) -> Lam:
    return elementwise(lambda p: scaled(fn("round", scaled(p, 10**decimals)), Fraction(10) ** -decimals), x)


def multigamma(x: Lam, p: int) -> Lam:
    """The logarithm of the multivariate gamma function."""
    parts = [elementwise(lambda q, k=k: fn("lgamma", add(q, number(Fraction(-k, 2)))), x) for k in range(p)]
    return reduce(plus, parts, lam(p * (p - 1) / 4 * math.log(math.pi)))


def rrelu(x: Lam, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Lam:
    if training and lower != upper:
        raise NoClosedFormError("rrelu in training draws random numbers")
    return leaky_relu(x, (lower + upper) / 2)


def masked_fill(x: Lam, mask: Lam, value: Operand) -> Lam:
    return where(mask, value, x)


def remainder(x: Operand, y: Operand) -> Lam:
    return minus(x, times_of(y, scalar("floor")(over(x, y))))


def fmod(x: Operand, y: Operand) -> Lam:
    return minus(x, times_of(y, scalar("trunc")(over(x, y))))


def prelu(x: Lam, weight: Lam) -> Lam:
    slope = (
        weight
        if math.prod(weight.shape) == 1 or len(x.over) < 2
        else Lam((*weight.over, *(fresh(1) for _ in x.over[2:])), weight.body)
    )
    return where(positive(x), x, times_of(slope, x))


def positive(x: Operand) -> Lam:
    return elementwise(lambda p: fn("positive", p), x)


def threshold(x: Lam, threshold: float, value: float, inplace: bool = False) -> Lam:
    return where(scalar("less")(threshold, x), x, value)


def softshrink(x: Lam, lambd: float = 0.5) -> Lam:
    size = elementwise(lambda p: fn("relu", add(fn("abs", p), number(-lambd))), x)
    return times_of(scalar("sign")(x), size)


def hardshrink(x: Lam, lambd: float = 0.5) -> Lam:
    return where(elementwise(lambda p: fn("less", number(lambd), fn("abs", p)), x), x, 0)


def celu(x: Lam, alpha: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(
        lambda p: fn("where", fn("positive", p), p, scaled(fn("expm1", scaled(p, 1 / alpha)), alpha)), x
    )


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(x: Lam, inplace: bool = False) -> Lam:
    return times_of(elu(x, SELU_ALPHA), SELU_SCALE)


def hardsigmoid(x: Lam, inplace: bool = False) -> Lam:
    return over(hardtanh(plus(x, 3), 0, 6), 6)


def hardswish(x: Lam, inplace: bool = False) -> Lam:
    return times_of(x, hardsigmoid(x))


def filled(x: Lam, value: Operand) -> Lam:
    """One number in the shape of a tensor."""
    return Lam(tuple(map(fresh, x.shape)), lam(value)())


UNNAMED = ("where", "power", "positive", "normal_cdf", "not", "inf", "polygamma", "round", "equal", "floored")
"""Scalar functions that are not what torch has by that name, or by none."""

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: scalar(name) for name in SCALARS if name not in UNNAMED},
    **{name: of_entry(f) for name, f in ENTRIES.items()}, "expit": scalar("sigmoid"), "absolute": scalar("abs"),
    "arcsin": scalar("asin"), "arccos": scalar("acos"), "arctan": scalar("atan"), "arcsinh": scalar("asinh"),
    "arccosh": scalar("acosh"), "arctanh": scalar("atanh"), "arctan2": scalar("atan2"), "ndtr": scalar("normal_cdf"),
    "gammaln": scalar("lgamma"), "psi": scalar("digamma"), "sgn": scalar("sign"), "fix": scalar("trunc"),
    "op:pos": same, "positive": same, "clone": same, "contiguous": same,
    "float": same, "double": same, "alias": same, "resolve_conj": same, "resolve_neg": same, "real": same, "conj": same,
    "requires_grad_": same, "identity": same, "detach_copy": of_entry(ENTRIES["detach"]), "clone_": same, "add": plus,
    "sub": minus, "subtract": minus, "rsub": lambda x, y, alpha=1: minus(y, x, alpha), "mul": times_of, "multiply": times_of,
    "div": over, "divide": over, "truediv": over, "true_divide": over, "pow": raised, "float_power": raised, "where": where,
    "hypot": scalar("hypot"), "xlogy": lambda x, y: times_of(x, scalar("log")(y)),
    "logaddexp": lambda x, y: plus(y, scalar("softplus")(minus(x, y))), "lt": scalar("less"),
    "gt": lambda x, y: scalar("less")(y, x), "greater": lambda x, y: scalar("less")(y, x), "clamp": clamp, "clip": clamp,
    "le": scalar("at_most"), "less_equal": scalar("at_most"), "ge": at_least, "greater_equal": at_least,
    "eq": scalar("equal"), "ne": scalar("unequal"), "not_equal": scalar("unequal"), "logical_not": negated,
    "logical_and": times_of, "and_": times_of,
    "logical_or": either, "or_": either, "invert": negated, "lerp": lerp,
    "addcmul": addcmul, "addcdiv": addcdiv, "leaky_relu": leaky_relu, "elu": elu, "gelu": gelu, "softplus": softplus,
    "relu": relu, "masked_fill": masked_fill, "remainder": remainder, "mod": remainder, "fmod": fmod, "prelu": prelu,
    "threshold": threshold, "softshrink": softshrink, "hardshrink": hardshrink, "celu": celu, "selu": selu,
    "hardsigmoid": hardsigmoid, "hardswish": hardswish,
    "hardtanh": hardtanh, "xlog1py": lambda x, y: times_of(x, scalar("log1p")(y)), "conj_physical": same,
    "logaddexp2": lambda x, y: plus(y, over(scalar("softplus")(times_of(minus(x, y), math.log(2))), math.log(2))),
    "ldexp": lambda x, y: times_of(x, scalar("exp2")(y)),
    "round": rounded, "copysign": lambda x, y: times_of(scalar("abs")(x), scalar("sign")(y)), "angle": angle,
    "mvlgamma": multigamma, "multigammaln": multigamma, "rrelu": rrelu, "to": same, "type_as": same, "type": same,
    "polygamma": lambda n, x: elementwise(lambda p: fn("polygamma", number(n), p), x),
    "zeros_like": lambda x, **_: filled(x, 0), "ones_like": lambda x, **_: filled(x, 1),
    "full_like": lambda x, fill_value, **_: filled(x, fill_value),
    "floor_divide": lambda x, y: over(x, y, "floor"),
}  # fmt: skip
"""By the last part of an operation's name, or by its whole name where that is not enough."""
