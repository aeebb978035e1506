"""`jvp trace`: the chain rule step by step, last step first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jvpcli.cli.compute import answer
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report.trace import TraceReport

EXAMPLES = """
# what arrives at each operation, its local Jacobians, and what flows on
jvp trace "y = torch.outer(x, x); z = y**2" --x 1,2,3,4

# one step in full, with its local Jacobians written out
jvp trace "y = torch.outer(x, x); z = y**2" --x 1,2,3,4 --step 0

# where does the NaN come from?
jvp trace "torch.sqrt(x).mul(0).sum()" --x 0,1

# why is this gradient zero, and which step stops it?
jvp trace "(x * x.detach()).sum()" --x 1,2 --json | jq -c '.findings[]'

# a model of your own, by its modules; the steps of one of them
jvp trace "net(x)" --import model.py --x 1,2 --depth 1
jvp trace "net(x)" --import model.py --x 1,2 --step 0

# the graph as a page to step through, forwards and backwards
jvp trace "torch.sin(x) * x" --x 1,2 --html trace.html

# the graph as a picture
jvp trace "torch.sin(x) * x" --x 1,2 --dot graph.dot && dot -Tsvg graph.dot -o graph.svg
"""


def command(
    context: Context, request: Request, display: Display, *, step: int | str | None, depth: int | None, dot: str | None
) -> None:
    """Show the chain rule step by step: what arrives, the local Jacobians, what flows on, and where it goes wrong."""
    if dot is not None:
        from jvpcli.writer import check_writable

        check_writable(dot)

    def compute(limited: Request) -> TraceReport:
        from jvpcli.answers import report_of, trace

        report: TraceReport = report_of(limited, partial(trace.trace, step=step))
        if dot is not None:
            from jvpcli.render.dot import to_dot
            from jvpcli.writer import write_whole

            write_whole(dot, to_dot(report).encode())
        return report

    def render(report: TraceReport, console: Console) -> None:
        from jvpcli.render.trace import render_trace  # a document does without

        render_trace(report, console, step=step, depth=depth, full=display.full)

    answer(context, request, display, render, compute)
