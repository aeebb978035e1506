"""`jvp trace`: the chain rule step by step, last step first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jvpcli.cli import options
from jvpcli.cli.compute import computing
from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.cli.pictures import Pictures
from jvpcli.errors import UsageError
from jvpcli.writer import check_writable, write_whole

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

# the graph as a page to step through, forwards and backwards
jvp trace "torch.sin(x) * x" --x 1,2 --html trace.html

# the graph as a picture
jvp trace "torch.sin(x) * x" --x 1,2 --dot graph.dot && dot -Tsvg graph.dot -o graph.svg
"""

Step = Annotated[
    int | None, typer.Option("--step", metavar="N", help="Open one step: its values, and its local Jacobians in full.")
]
Dot = Annotated[
    str | None, typer.Option("--dot", metavar="FILE", help="Write the graph for Graphviz, shapes on the edges.")
]


def command(
    ctx: typer.Context,
    expression: options.Expression = None,
    inputs: options.Inputs = None,
    imports: options.Imports = None,
    grad_outputs: options.GradOutputs = None,
    wrt: options.Wrt = None,
    step: Step = None,
    dot: Dot = None,
    html: options.Html = None,
    plot: options.Plot = None,
    heatmap: options.Heatmap = False,
    dtype: options.Dtype = "float32",
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    memory_limit: options.MemoryLimit = None,
    timeout: options.Timeout = None,
    as_json: options.Json = False,
    full: options.Full = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the chain rule step by step: what arrives, the local Jacobians, what flows on, and where it goes wrong."""
    context: Context = ctx.obj
    if expression is None:
        hints = tuple(line for line in EXAMPLES.splitlines() if line.startswith("jvp "))[:2]
        raise UsageError("EXPR is missing: the expression to differentiate", hints=hints)
    request = options.make_request(
        expression,
        inputs,
        stdin=context.read_stdin,
        imports=imports,
        grad_outputs=grad_outputs,
        wrt=wrt,
        dtype=dtype,
        device=device,
        seed=seed,
        memory_limit=memory_limit,
        timeout=timeout,
    )
    pictures = Pictures(context.place(html), context.place(plot), heatmap)
    pictures.check(as_json=as_json)
    dot = context.place(dot)
    if dot is not None:
        check_writable(dot)

    def render(report: TraceReport, console: Console) -> None:
        from jvpcli.render.trace import render_trace  # a document does without

        render_trace(report, console, step=step, full=full)
        pictures.draw(report, console)

    with computing(context, request, as_json, "trace") as (_, limited, computed):
        from jvpcli.pipeline_trace import trace

        report = trace(limited, step=step)
        computed()
        if dot is not None:
            from jvpcli.render.dot import to_dot

            write_whole(dot, to_dot(report).encode())
        pictures.write(report)
        emit(context, report, as_json, render)
    if not quiet and not as_json:
        from jvpcli.render.text import render_warnings

        context.flush()
        render_warnings(report.warnings, context.error_console)
