"""`jvp derive`: the closed form of a derivative, in indices, in matrices and as PyTorch code, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jvpcli.answers import report_of
from jvpcli.cli.compute import answer
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report.derive import DeriveReport

EXAMPLES = """
# the derivative of an outer product: by cases, for any v, and for ones
jvp derive "torch.outer(x,x)" --x 1,2,3,4

# least squares, with all steps in between
jvp derive "((A @ x - b)**2).sum()" --A "1,2;3,4;5,6" --x 1,2 --b 1,0,1 --wrt x --steps

# by shapes alone: a letter is any size
jvp derive "W @ x" --shape W=m,n --shape x=n

# the product J u too
jvp derive "F.softmax(x, 0)" --x 1,2,3 --tangent ones

# the second derivative in the same forms
jvp derive "torch.logsumexp(x, 0)" --x 1,2,3 --hessian

# a torch.autograd.Function for a file of yours
jvp derive "torch.tanh(W @ x)" --W "1,2;3,4" --x 1,2 --code

# a page whose formulas light up the entries that they are about
jvp derive "torch.outer(x,x)" --x 1,2,3,4 --html outer.html

# in LaTeX; in a script
jvp derive "torch.logdet(X)" --X "2,1;1,3" --latex
jvp derive "x @ A @ x" --x 1,2 --A "1,2;3,4" --json | jq -r .vjp.x.torch
"""


def command(context: Context, request: Request, display: Display, *, steps: bool, latex: bool, code: bool) -> None:
    """Show the derivative in general: in indices, by cases, as matrices and as PyTorch code, verified against autograd."""
    display.check()

    def written(request: Request) -> DeriveReport:
        from jvpcli.answers.derive import explore
        from jvpcli.render.html import write_html

        assert display.html is not None
        explored = report_of(request, explore)
        write_html(explored, display.html)
        report: DeriveReport = explored.report
        return report

    def render(report: DeriveReport, console: Console) -> None:
        from jvpcli.render.derive import render_code, render_derive, render_latex

        if code:
            render_code(report, console)
        elif latex:
            render_latex(report, console)
        else:
            render_derive(report, console, steps=steps)

    compute = report_of if display.html is None else written
    answer(context, request, display._replace(html=None), render, compute)
