"""What the templates of an `inspect` page show, beside the report itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from markupsafe import Markup

from jvpcli.render.html.data import facts, inspect_data, script_block
from jvpcli.render.html.diagram import Diagram, diagram
from jvpcli.render.html.mathml import math
from jvpcli.render.matrix import Matrix, jacobians
from jvpcli.report import Comparison, Contraction, InspectReport, Jacobian

OPEN = 4
"""Jacobians that are unfolded when the page opens."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One output and one input: everything that is drawn and said about them."""

    y: str
    x: str
    jacobian: Jacobian
    matrix: Matrix | None
    contraction: Contraction | None
    formula: Markup | None
    diagram: Diagram | None
    facts: Mapping[str, int] | None

    @property
    def size(self) -> int:
        """Number of entries of the Jacobian."""
        return prod(self.jacobian.shape)

    @property
    def square(self) -> bool:
        """Whether diagonals mean something: as many outputs as inputs."""
        return self.matrix is not None and self.matrix.m == self.matrix.n


def view(report: InspectReport) -> Mapping[str, Any]:
    """The templates' variables."""
    return {
        "command": "inspect",
        "pairs": [_pair(report, y, x, jacobian, matrix) for y, x, jacobian, matrix in jacobians(report)],
        "open": OPEN,
        "agreement": agreement(report.comparison),
        "data": script_block(inspect_data(report)),
    }


def _pair(report: InspectReport, y: str, x: str, jacobian: Jacobian, matrix: Matrix | None) -> Pair:
    contraction = report.contraction.get(y, {}).get(x)
    return Pair(
        y=y,
        x=x,
        jacobian=jacobian,
        matrix=matrix,
        contraction=contraction,
        formula=math(contraction.formula, contraction.einsum) if contraction else None,
        diagram=diagram(report, y, x, contraction, matrix) if contraction else None,
        facts=facts(matrix),
    )


def agreement(comparison: Comparison) -> str:
    """That two ways to the result agree, and where they could not be compared."""
    if comparison.not_finite:
        entries = "entry" if comparison.compared == 1 else f"{comparison.compared} entries"
        are = "is" if comparison.not_finite == 1 else "are"
        return (
            f"torch.autograd.grad gives the same in the {entries} that can be compared; "
            f"{comparison.not_finite} {are} not finite, and {'shows' if are == 'is' else 'show'} autograd's number."
        )
    return "torch.autograd.grad gives the same, entry by entry."
