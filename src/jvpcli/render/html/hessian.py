"""What the templates of a `hessian` page show: the gradient is the function there, and the Hessian its Jacobian.

With u in the place of v, and M = Σ ⟨u, ∂L/∂x⟩ in that of L, all that an `inspect` page shows and says holds of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jvpcli.render.hessian import DEFINITE, between, trace_text
from jvpcli.render.html.inspect import view as inspected_view
from jvpcli.report import Contraction, InspectReport
from jvpcli.report.hessian import HessianReport, gradient_name

WORDS: Mapping[str, str] = {
    "weight": "u", "loss": "M", "matrix": "H", "output": "∂L/∂x", "role": "tangent", "about": "the direction, tangent",
    "missing": "is not multiplied with anything: no direction u was given",
}  # fmt: skip
"""What a page calls the direction, the scalar ⟨u, ∂L/∂x⟩ whose gradient is H u, and the Hessian."""


def view(report: HessianReport) -> Mapping[str, Any]:
    """The templates' variables."""
    facts = {
        "H is": DEFINITE[report.definite],
        "its eigenvalues": between(report.eigenvalues),
        "its trace": trace_text(report.trace),
    }
    seen = inspected_view(_of_gradient(report), WORDS)
    return {**seen, "command": "hessian", "facts_here": facts, "notes": report.notes}


def _of_gradient(report: HessianReport) -> InspectReport:
    """What an inspection of the gradient would report."""
    return InspectReport(
        expression=report.expression,
        inputs=report.inputs,
        outputs={gradient_name(x): gradient for x, gradient in report.gradient.items()},
        grad_outputs={gradient_name(x): u for x, u in (report.tangent or {}).items()},
        jacobian={gradient_name(x): others for x, others in report.hessian.items()},
        vjp=report.hvp or {},
        contraction={gradient_name(x): _transposed(report, x) for x in report.tangent or {}},
        comparison=report.comparison,
        plan=report.plan,
        warnings=report.warnings,
    )


def _transposed(report: HessianReport, x: str) -> Mapping[str, Contraction]:
    """uᵀH for each second input, in the letters of H u: H is symmetric."""
    found = {}
    for w in report.hessian:
        contraction = report.contraction[w][x]
        operands, _, result = contraction.einsum.partition("->")
        summed = operands.partition(",")[2]
        found[w] = replace(contraction, einsum=f"{summed},{summed}{result}->{result}")
    return found
