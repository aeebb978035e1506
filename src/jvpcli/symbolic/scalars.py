"""Scalar functions: what each is called in text, LaTeX and PyTorch, what it computes, and its derivative by each argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from jvpcli.symbolic.forms import ONE, Fn, Poly, add, constant_of, fn, number, power, scaled, times

Partial = Callable[..., Poly]


@dataclass(frozen=True)
class Scalar:
    """A scalar function; `torch` and `text` are formats of its arguments, and `partials` its derivatives."""

    torch: str
    compute: Callable[..., Any]
    partials: tuple[Partial, ...]
    text: str
    latex: str


def _plain(
    name: str, *partials: Partial, text: str | None = None, latex: str | None = None, path: str = ""
) -> Scalar:
    compute = torch
    path = path or f"torch.{name}"
    for part in path.split(".")[1:]:
        compute = getattr(compute, part)
    arguments = ", ".join(f"{{{k}}}" for k in range(len(partials)))
    compute_all: Any = compute
    return Scalar(
        f"{path}({arguments})", compute_all, partials, text or f"{name}({arguments})",
        latex or rf"\operatorname{{{{{name}}}}}\left({arguments}\right)",
    )  # fmt: skip


def _minus(p: Poly) -> Poly:
    return scaled(p, -1)


def _over(p: Poly) -> Poly:
    return power(p, -1)


def _squared(name: str, x: Poly) -> Poly:
    return power(fn(name, x), 2)


def _zero(*x: Poly) -> Poly:
    return ()


def logarithm(x: Poly) -> Poly:
    """ln of a form; of a number, the number."""
    value = constant_of(x)
    return fn("log", x) if value is None or value <= 0 else number(math.log(value))


TWO_OVER_ROOT_PI = Fraction(str(2 / math.sqrt(math.pi)))


def _gaussian(x: Poly) -> Poly:
    return scaled(fn("exp", scaled(power(x, 2), Fraction(-1, 2))), Fraction(str(1 / math.sqrt(2 * math.pi))))


def _compared(name: str) -> Callable[..., Any]:
    return lambda x, y: getattr(torch, name)(x, y).to(x.dtype)


def opposite(condition: Poly) -> Poly:
    """1 where a condition does not hold, else 0."""
    only = condition[0].factors if len(condition) == 1 and condition[0].coefficient == 1 else ()
    match only:
        case (Fn("positive", (x,)),):
            return fn("at_most", x, ())
        case (Fn("less", (x, y)),):
            return fn("at_most", y, x)
        case (Fn("at_most", (x, y)),):
            return fn("less", y, x)
        case (Fn("equal", (x, y)),):
            return fn("unequal", x, y)
        case (Fn("unequal", (x, y)),):
            return fn("equal", x, y)
    return fn("not", condition)


def _shared(one: Poly, other: Poly) -> Poly:
    """1 where the one is less than the other, and half of it where they are equal."""
    return add(fn("less", one, other), scaled(fn("equal", one, other), Fraction(1, 2)))


def _comparison(sign: str, name: str, shown: str, latex: str) -> Scalar:
    text, in_latex = (f"[{{0}} {each} {{1}}]" for each in (shown, latex))
    return Scalar(f"({{0}} {sign} {{1}})", _compared(name), (_zero, _zero), text, in_latex)


SCALARS: Mapping[str, Scalar] = {
    "exp": _plain("exp", lambda x: fn("exp", x), latex=r"e^{{{0}}}"),
    "exp2": _plain("exp2", lambda x: scaled(fn("exp2", x), math.log(2))),
    "expm1": _plain("expm1", lambda x: fn("exp", x)),
    "log": _plain("log", _over, latex=r"\ln\left({0}\right)"),
    "log2": _plain("log2", lambda x: scaled(_over(x), 1 / math.log(2))),
    "log10": _plain("log10", lambda x: scaled(_over(x), 1 / math.log(10))),
    "log1p": _plain("log1p", lambda x: _over(add(ONE, x))),
    "sin": _plain("sin", lambda x: fn("cos", x), latex=r"\sin\left({0}\right)"),
    "cos": _plain("cos", lambda x: _minus(fn("sin", x)), latex=r"\cos\left({0}\right)"),
    "tan": _plain("tan", lambda x: add(ONE, _squared("tan", x)), latex=r"\tan\left({0}\right)"),
    "asin": _plain("asin", lambda x: power(add(ONE, _minus(power(x, 2))), "-1/2")),
    "acos": _plain("acos", lambda x: _minus(power(add(ONE, _minus(power(x, 2))), "-1/2"))),
    "atan": _plain("atan", lambda x: _over(add(ONE, power(x, 2)))),
    "sinh": _plain("sinh", lambda x: fn("cosh", x), latex=r"\sinh\left({0}\right)"),
    "cosh": _plain("cosh", lambda x: fn("sinh", x), latex=r"\cosh\left({0}\right)"),
    "tanh": _plain("tanh", lambda x: add(ONE, _minus(_squared("tanh", x))), latex=r"\tanh\left({0}\right)"),
    "asinh": _plain("asinh", lambda x: power(add(ONE, power(x, 2)), "-1/2")),
    "acosh": _plain("acosh", lambda x: power(add(power(x, 2), number(-1)), "-1/2")),
    "atanh": _plain("atanh", lambda x: _over(add(ONE, _minus(power(x, 2))))),
    "sigmoid": _plain("sigmoid", lambda x: times(fn("sigmoid", x), add(ONE, _minus(fn("sigmoid", x)))), text="σ({0})",
                      latex=r"\sigma\left({0}\right)"),
    "logsigmoid": _plain("logsigmoid", lambda x: fn("sigmoid", _minus(x)), path="torch.nn.functional.logsigmoid"),
    "softplus": _plain("softplus", lambda x: fn("sigmoid", x), path="torch.nn.functional.softplus"),
    "erf": _plain("erf", lambda x: scaled(fn("exp", _minus(power(x, 2))), TWO_OVER_ROOT_PI)),
    "erfc": _plain("erfc", lambda x: scaled(fn("exp", _minus(power(x, 2))), -TWO_OVER_ROOT_PI)),
    "normal_cdf": _plain("ndtr", _gaussian, path="torch.special.ndtr", text="Φ({0})", latex=r"\Phi\left({0}\right)"),
    "lgamma": _plain("lgamma", lambda x: fn("digamma", x), text="lnΓ({0})"),
    "digamma": _plain("digamma", lambda x: fn("polygamma", ONE, x), text="ψ({0})"),
    "polygamma": Scalar(
        "torch.special.polygamma({0}, {1})", lambda n, x: torch.special.polygamma(int(n.flatten()[0]), x),
        (_zero, lambda n, x: fn("polygamma", add(n, ONE), x)), "ψ⁽{0}⁾({1})", r"\psi^{{({0})}}\left({1}\right)",
    ),
    "erfinv": _plain("erfinv", lambda x: scaled(fn("exp", power(fn("erfinv", x), 2)), math.sqrt(math.pi) / 2)),
    "erfcx": _plain("erfcx", lambda x: add(scaled(times(x, fn("erfcx", x)), 2), number(-TWO_OVER_ROOT_PI)),
                    path="torch.special.erfcx"),
    "ndtri": _plain("ndtri", lambda x: scaled(fn("exp", scaled(power(fn("ndtri", x), 2), "1/2")), math.sqrt(2 * math.pi)),
                    path="torch.special.ndtri"),
    "log_ndtr": _plain("log_ndtr", lambda x: scaled(
        fn("exp", add(scaled(power(x, 2), "-1/2"), _minus(fn("log_ndtr", x)))), 1 / math.sqrt(2 * math.pi)
    ), path="torch.special.log_ndtr"),
    "i0": _plain("i0", lambda x: fn("i1", x), path="torch.special.i0"),
    "i1": _plain("i1", lambda x: add(fn("i0", x), _minus(times(fn("i1", x), _over(x)))), path="torch.special.i1"),
    "i0e": _plain("i0e", lambda x: add(fn("i1e", x), _minus(times(fn("sign", x), fn("i0e", x)))), path="torch.special.i0e"),
    "i1e": _plain("i1e", lambda x: add(
        fn("i0e", x), _minus(times(fn("sign", x), fn("i1e", x))), _minus(times(fn("i1e", x), _over(x)))
    ), path="torch.special.i1e"),
    "nan_to_num": _plain("nan_to_num", lambda x: ONE),
    "inf": Scalar("torch.inf", lambda: torch.tensor(math.inf), (), "∞", r"\infty"),
    "abs": _plain("abs", lambda x: fn("sign", x), text="|{0}|", latex=r"\left|{0}\right|"),
    "sign": _plain("sign", _zero),
    "relu": _plain("relu", lambda x: fn("positive", x)),
    "positive": Scalar("({0} > 0)", lambda x: (x > 0).to(x.dtype), (_zero,), "[{0} > 0]", "[{0} > 0]"),
    "less": _comparison("<", "lt", "<", "<"),
    "at_most": _comparison("<=", "le", "≤", r"\le"),
    "equal": _comparison("==", "eq", "=", "="), "unequal": _comparison("!=", "ne", "≠", r"\ne"),
    "not": Scalar("({0} == 0)", lambda c: (c == 0).to(c.dtype), (_zero,), "[not {0}]", r"[\lnot {0}]"),
    "detach": Scalar("{0}.detach()", lambda x: x.detach(), (_zero,), "const({0})", r"\operatorname{{const}}({0})"),
    "where": Scalar(
        "torch.where({0}, {1}, {2})", lambda c, x, y: torch.where(c != 0, x, y),
        (_zero, lambda c, x, y: c, lambda c, x, y: opposite(c)), "({1} if {0} else {2})",
        r"({1} \text{{ if }} {0} \text{{ else }} {2})",
    ),
    "floor": _plain("floor", _zero), "ceil": _plain("ceil", _zero),
    "round": _plain("round", _zero), "trunc": _plain("trunc", _zero),
    "power": Scalar("{0}**{1}", torch.pow, (
        lambda x, e: times(e, fn("power", x, add(e, number(-1)))),
        lambda x, e: times(fn("power", x, e), logarithm(x)),
    ), "{0}^{1}", "{{{0}}}^{{{1}}}"),
    "atan2": _plain(
        "atan2",
        lambda y, x: times(x, _over(add(power(x, 2), power(y, 2)))),
        lambda y, x: _minus(times(y, _over(add(power(x, 2), power(y, 2))))),
    ),
    "hypot": _plain(
        "hypot", lambda x, y: times(x, _over(fn("hypot", x, y))), lambda x, y: times(y, _over(fn("hypot", x, y)))
    ),
    "maximum": _plain("maximum", lambda a, b: fn("less", b, a), lambda a, b: fn("less", a, b), text="max({0}, {1})"),
    "minimum": _plain("minimum", lambda a, b: fn("less", a, b), lambda a, b: fn("less", b, a), text="min({0}, {1})"),
    "shared_maximum": _plain("maximum", lambda a, b: _shared(b, a), lambda a, b: _shared(a, b), text="max({0}, {1})"),
    "shared_minimum": _plain("minimum", lambda a, b: _shared(a, b), lambda a, b: _shared(b, a), text="min({0}, {1})"),
    "flat_root": _plain(  # PyTorch's norm has no slope at zero
        "sqrt", lambda p: scaled(fn("where", fn("unequal", p, ()), power(p, "-1/2"), ()), Fraction(1, 2)),
        text="√({0})", latex=r"\sqrt{{{0}}}",
    ),
    "fmax": _plain("fmax", lambda a, b: fn("at_most", b, a), lambda a, b: fn("less", a, b), text="max({0}, {1})"),
    "fmin": _plain("fmin", lambda a, b: fn("at_most", a, b), lambda a, b: fn("less", b, a), text="min({0}, {1})"),
    "clamp_min": _plain("clamp_min", lambda x, a: fn("at_most", a, x), lambda x, a: fn("less", x, a), text="max({0}, {1})"),
    "clamp_max": _plain("clamp_max", lambda x, b: fn("at_most", x, b), lambda x, b: fn("less", b, x), text="min({0}, {1})"),
    "floored": _plain("clamp_min", lambda x, a: ONE, _zero, text="max({0}, {1})"),  # outside of what autograd records
    "clamp": _plain(
        "clamp", lambda x, a, b: times(fn("at_most", a, x), fn("at_most", x, b)), lambda x, a, b: fn("less", x, a),
        lambda x, a, b: fn("less", b, x),
    ),
    "hardtanh": _plain(
        "clamp", lambda x, a, b: times(fn("less", a, x), fn("less", x, b)), _zero, _zero
    ),
}  # fmt: skip
"""Where a derivative jumps it is one of its one-sided values; that it is PyTorch's is seen when a form is verified."""
