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


def where(condition: Operand, x: Operand, y: Operand) -> Lam:
    return elementwise(lambda c, p, q: fn("where", c, p, q), condition, x, y)


def clamp(x: Operand, min: Operand = None, max: Operand = None) -> Lam:  # torch's own names
    if min is None or max is None or isinstance(min, Lam) != isinstance(max, Lam):  # torch takes both only as of one kind
        x = x if min is None else scalar("clamp_min")(x, min)
        return x if max is None else scalar("clamp_max")(x, max)
    return elementwise(lambda p, low, high: fn("clamp", p, low, high), x, min, max)


def hardtanh(x: Operand, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(lambda p: fn("hardtanh", p, number(min_val), number(max_val)), x)


def same(x: Lam, *args: Any, **keywords: Any) -> Lam:
    """What changes no entry."""
    return x


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
    "logical_not": opposite, "invert": opposite,
    "entr": lambda p: scaled(times(p, fn("log", p)), -1), "detach": lambda p: fn("detach", p),
}  # fmt: skip
"""What some functions make of an entry."""


def _of_entry(f: Callable[[Poly], Poly]) -> Callable[[Operand], Lam]:
    return lambda x: elementwise(f, x)


root, square, minus_one_times = (_of_entry(ENTRIES[name]) for name in ("sqrt", "square", "neg"))


def either(x: Operand, y: Operand) -> Lam:
    return minus(plus(x, y), times_of(x, y))


def _remainder(rounding: str) -> Callable[[Operand, Operand], Lam]:
    return lambda x, y: minus(x, times_of(y, over(x, y, rounding)))


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


def prelu(x: Lam, weight: Lam) -> Lam:
    slope = (
        weight
        if math.prod(weight.shape) == 1 or len(x.over) < 2
        else Lam((*weight.over, *(fresh(1) for _ in x.over[2:])), weight.body)
    )
    return where(scalar("positive")(x), x, times_of(slope, x))


def softshrink(x: Lam, lambd: float = 0.5) -> Lam:
    size = elementwise(lambda p: fn("relu", add(fn("abs", p), number(-lambd))), x)
    return times_of(scalar("sign")(x), size)


def celu(x: Lam, alpha: float = 1.0, inplace: bool = False) -> Lam:
    return elementwise(
        lambda p: fn("where", fn("positive", p), p, scaled(fn("expm1", scaled(p, 1 / alpha)), alpha)), x
    )


def hardsigmoid(x: Lam, inplace: bool = False) -> Lam:
    return over(hardtanh(plus(x, 3), 0, 6), 6)


def filled(x: Lam, value: Operand) -> Lam:
    """One number in the shape of a tensor."""
    return Lam(tuple(map(fresh, x.shape)), lam(value)())


UNNAMED = ("where", "power", "positive", "normal_cdf", "not", "inf", "polygamma", "round", "equal", "floored")
"""Scalar functions that are not what torch has by that name, or by none."""

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: scalar(name) for name in SCALARS if name not in UNNAMED}, **{name: _of_entry(f) for name, f in ENTRIES.items()},
    **{
        name: scalar(own) for name, own in (
            ("expit", "sigmoid"), ("absolute", "abs"), ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"),
            ("arcsinh", "asinh"), ("arccosh", "acosh"), ("arctanh", "atanh"), ("arctan2", "atan2"), ("ndtr", "normal_cdf"),
            ("gammaln", "lgamma"), ("psi", "digamma"), ("sgn", "sign"), ("fix", "trunc"), ("lt", "less"), ("le", "at_most"),
            ("less_equal", "at_most"), ("eq", "equal"), ("ne", "unequal"), ("not_equal", "unequal"),
        )
    },
    **dict.fromkeys((
        "op:pos", "positive", "clone", "contiguous", "float", "double", "alias", "resolve_conj", "resolve_neg", "real", "conj",
        "conj_physical", "requires_grad_", "identity", "clone_", "to", "type_as", "type",
    ), same),
    "detach_copy": _of_entry(ENTRIES["detach"]), "add": plus, "sub": minus, "subtract": minus,
    "rsub": lambda x, y, alpha=1: minus(y, x, alpha), "mul": times_of, "multiply": times_of,
    "div": over, "divide": over, "truediv": over, "true_divide": over, "floor_divide": lambda x, y: over(x, y, "floor"),
    "remainder": _remainder("floor"), "mod": _remainder("floor"), "fmod": _remainder("trunc"),
    "pow": raised, "float_power": raised, "where": where, "masked_fill": lambda x, mask, value: where(mask, value, x),
    "lerp": lambda x, end, weight: plus(x, times_of(weight, minus(end, x))),
    "addcmul": lambda x, a, b, value=1: plus(x, times_of(a, b), value),
    "addcdiv": lambda x, a, b, value=1: plus(x, over(a, b), value),
    "gt": lambda x, y: scalar("less")(y, x), "greater": lambda x, y: scalar("less")(y, x),
    "ge": lambda x, y: scalar("at_most")(y, x), "greater_equal": lambda x, y: scalar("at_most")(y, x),
    "logical_and": times_of, "and_": times_of, "logical_or": either, "or_": either,
    "xlogy": lambda x, y: times_of(x, scalar("log")(y)), "xlog1py": lambda x, y: times_of(x, scalar("log1p")(y)),
    "ldexp": lambda x, y: times_of(x, scalar("exp2")(y)), "logaddexp": lambda x, y: plus(y, scalar("softplus")(minus(x, y))),
    "logaddexp2": lambda x, y: plus(y, over(scalar("softplus")(times_of(minus(x, y), math.log(2))), math.log(2))),
    "copysign": lambda x, y: times_of(scalar("abs")(x), scalar("sign")(y)),
    "angle": lambda x: where(scalar("less")(x, 0), math.pi, 0), "round": rounded,
    "mvlgamma": multigamma, "multigammaln": multigamma,
    "polygamma": lambda n, x: elementwise(lambda p: fn("polygamma", number(n), p), x),
    "clamp": clamp, "clip": clamp, "leaky_relu": leaky_relu, "elu": elu, "gelu": gelu, "softplus": softplus, "relu": relu,
    "prelu": prelu, "rrelu": rrelu, "celu": celu, "softshrink": softshrink, "hardtanh": hardtanh, "hardsigmoid": hardsigmoid,
    "selu": lambda x, inplace=False: times_of(elu(x, 1.6732632423543772), 1.0507009873554805),
    "hardswish": lambda x, inplace=False: times_of(x, hardsigmoid(x)),
    "hardshrink": lambda x, lambd=0.5: where(scalar("less")(lambd, scalar("abs")(x)), x, 0),
    "threshold": lambda x, threshold, value, inplace=False: where(scalar("less")(threshold, x), x, value),
    "zeros_like": lambda x, **_: filled(x, 0), "ones_like": lambda x, **_: filled(x, 1),
    "full_like": lambda x, fill_value, **_: filled(x, fill_value),
}  # fmt: skip
"""By the last part of an operation's name, or by its whole name where that is not enough."""
