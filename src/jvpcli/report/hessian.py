"""The answer of `jvp hessian`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jvpcli.report import (
    Call,
    Comparison,
    Contraction,
    Cotangent,
    InputValue,
    Jacobian,
    Notice,
    PassedOver,
    Plan,
    Value,
)


def block_product(x: str, w: str, *, single: bool) -> str:
    """What ∂²L/∂x∂w times the direction for w is called: `H u` where there is a single input, and else a part of that."""
    return "H u" if single else f"H[{x},{w}] u"


def gradient_name(x: str) -> str:
    """What the gradient to an input is called where it stands as an output."""
    return f"(∂L/∂{x})"


@dataclass(frozen=True)
class Eigenvalues:
    """The extreme eigenvalues of the Hessian of all inputs together; null where there is no entry.

    They are `exact` (to rounding), or the outermost that Lanczos' method found: then the least is at most `least`, the greatest
    at least `greatest`, and an eigenvalue is within the error of each (0: to rounding).  What is no larger than `rounding`
    cannot be told from zero.
    """

    least: float | None
    greatest: float | None
    exact: bool
    rounding: float
    least_error: float | None = None
    greatest_error: float | None = None


@dataclass(frozen=True)
class Trace:
    """The sum of the Hessian's diagonal, as of the Laplacian; `error` is the standard error where it is an estimate."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class HessianReport:
    """The answer of `jvp hessian`: the second derivatives of L = Σ ⟨v, y⟩.

    `gradient` is ∂L/∂input; `hessian` holds ∂²L/∂x∂w under x and then w, of x's shape followed by w's, and `contraction` how it
    is multiplied with a direction u.  `definite` is positive, positive_semi, negative, negative_semi, indefinite, zero or
    unknown, at this point; `comparison` is between H u by the explicit Hessian and by double backward.  `notes` say why what is
    shown is as it is.
    """

    expression: str
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    grad_outputs: Mapping[str, Cotangent]
    gradient: Mapping[str, Value]
    hessian: Mapping[str, Mapping[str, Jacobian]]
    contraction: Mapping[str, Mapping[str, Contraction]]
    symmetric: bool | None
    definite: str
    eigenvalues: Eigenvalues
    trace: Trace
    comparison: Comparison
    plan: Plan
    notes: tuple[str, ...] = ()
    warnings: tuple[Notice, ...] = ()
    hvp: Mapping[str, Value] | None = None
    tangent: Mapping[str, Cotangent] | None = None
    calls: tuple[Call, ...] | None = None
    passed_over: tuple[PassedOver, ...] | None = None
