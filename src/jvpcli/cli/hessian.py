"""`jvp hessian`: the second derivative of ⟨v, y⟩, its product with a direction, and what it is at the point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jvpcli.cli.compute import answer
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report.hessian import HessianReport

EXAMPLES = """
# the Hessian of a function of two inputs, a block for each pair, and whether it is definite here
jvp hessian "((x @ w - 1)**2).sum()" --x "1,2;3,4" --w 1,0

# the Hessian-vector product: H times u
jvp hessian "(x**3).sum()" --x 1,2,3 --tangent 1,0,1

# of one output among several: the cotangent weighs them
jvp hessian "F.softmax(x, 0)" --x 1,2,3 -g onehot:0

# why is it zero?
jvp hessian "torch.relu(x).sum()" --x=-1,2

# in a script: definite or not, and the extreme eigenvalues
jvp hessian "torch.logsumexp(x, 0)" --x 1,2,3 --json | jq -c '[.definite, .eigenvalues.least, .eigenvalues.greatest]'
"""


def command(context: Context, request: Request, display: Display) -> None:
    """Show the second derivative: its shapes and structure, H times a direction, and whether it is definite here."""
    if request.save is not None:
        from jvpcli.writer import check_writable

        check_writable(request.save)

    def render(report: HessianReport, console: Console) -> None:
        from jvpcli.render.hessian import render_hessian  # a document does without

        render_hessian(report, console, full=display.full)

    answer(context, request, display, render)
