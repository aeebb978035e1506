"""The answer of `jvp derive`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jvpcli.report import Cotangent, InputValue, InspectReport, Notice, Value

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Function:
    """An output in indices; null, with a reason, where it has no such form."""

    formula: str | None
    latex: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Case:
    """What an entry of a Jacobian is under a condition on the indices."""

    when: str
    value: str


@dataclass(frozen=True)
class JacobianForm:
    """∂output/∂input in indices, and by cases where its entries differ in kind; null, with a reason, where there is none."""

    formula: str | None
    cases: tuple[Case, ...]
    latex: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Form:
    """A product in indices, in matrices where there is such a form, and as PyTorch code.

    `torch` is an expression over the inputs' names, the vectors' and `torch`; null, with a reason, where there is none.
    """

    formula: str | None
    matrix: str | None
    torch: str | None
    latex: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Product(Form):
    """A product with the Jacobian for any vector (v of a VJP, u of a JVP), and for the one that was given."""

    given: Form = field(kw_only=True)


@dataclass(frozen=True)
class Rule:
    """One step of the derivation: the rule, and what stands there after it."""

    rule: str
    formula: str


@dataclass(frozen=True)
class Verified:
    """At how many points every form that is shown was compared with PyTorch's own derivative, in float64.

    The difference is the largest, relative to the largest entry where that exceeds 1.
    """

    points: int
    largest_difference: float


@dataclass(frozen=True)
class DeriveReport:
    """The answer of `jvp derive`.

    `indices` says which letters stand for the axes of each input and output; `jacobian` has the output's name and then the
    input's; `vjp` is by input, `jvp` (with a tangent) by output.  `names` are the vectors: output to its v, input to its u.
    `hessian` (where asked for) has ∂²L/∂x∂w under x and then w; `indices` has the letters of w then, under `d NAME`.
    `sizes` are those that stood for the letters of shapes, and `any_size` says whether the forms were the same at others.
    """

    expression: str
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    grad_outputs: Mapping[str, Cotangent]
    indices: Mapping[str, str]
    names: Mapping[str, str]
    function: Mapping[str, Function]
    jacobian: Mapping[str, Mapping[str, JacobianForm]]
    vjp: Mapping[str, Product]
    steps: tuple[Rule, ...]
    verified: Verified
    code: str | None
    sizes: Mapping[str, int] | None = None
    any_size: bool | None = None
    jvp: Mapping[str, Product] | None = None
    tangent: Mapping[str, Cotangent] | None = None
    hessian: Mapping[str, Mapping[str, Product]] | None = None
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Applying:
    """Which entries of a Jacobian each term of its formula says something of, and each of its cases, in their order.

    Each is a table of the Jacobian's shape; a term says nothing of an entry for which one of its deltas is 0.
    """

    terms: tuple[np.ndarray, ...]
    cases: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Explored:
    """What the page of `jvp derive` shows: the forms, and the numbers at the point that they stand for.

    `applying` is by output and then by input, of the Jacobians that have a form.
    """

    report: DeriveReport
    numbers: InspectReport
    applying: Mapping[str, Mapping[str, Applying]]
