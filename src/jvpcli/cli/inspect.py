"""`jvp inspect`: shapes, explicit Jacobian, VJP and the contraction spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from jvpcli.cli import options
from jvpcli.cli.compute import computing
from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.cli.pictures import Pictures
from jvpcli.errors import UsageError
from jvpcli.writer import check_writable

if TYPE_CHECKING:
    from rich.console import Console


EXAMPLES = """
# shapes, Jacobian and VJP of y = x xᵀ, with grad_outputs all ones
jvp inspect "torch.outer(x,x)" --x 1,2,3,4

# one row of the Jacobian: the gradient of y[1,2] alone
jvp inspect "torch.outer(x,x)" --x 1,2,3,4 -g onehot:1,2 --json | jq -c .vjp.x.value

# several inputs, a matrix among them
jvp inspect "F.linear(x, W, b)" --x 1,2,3 --W "1,0,2;0,1,1" --b 0,1

# several outputs, a cotangent for each
jvp inspect "(x.sum(), torch.outer(x,w))" --x 1,2 --w 3,4,5 -g 2 -g ones

# values from stdin or a file; a direction for the JVP; an input that is named like an option
echo '[[1,2],[3,4]]' | jvp inspect "torch.linalg.inv(x)" --x -
jvp inspect "torch.sin(x)" --x @x.npy --tangent ones
jvp inspect "seed * x" -i seed=2 --x 1,2

# the same as a page to explore, as a picture, and in the terminal
jvp inspect "torch.outer(x,x)" --x 1,2,3,4 --html outer.html --plot outer.png --heatmap

# a module of your own and its parameters; the file is run
jvp inspect "net(x)" --import model.py --x 1,2 --wrt x,net.0.weight
"""


def command(
    ctx: typer.Context,
    expression: options.Expression = None,
    inputs: options.Inputs = None,
    imports: options.Imports = None,
    grad_outputs: options.GradOutputs = None,
    tangent: options.Tangent = None,
    wrt: options.Wrt = None,
    dtype: options.Dtype = "float32",
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    mode: options.Mode = "auto",
    jacobian: options.JacobianFormat = "auto",
    memory_limit: options.MemoryLimit = None,
    timeout: options.Timeout = None,
    save: options.Save = None,
    spectrum: options.Spectrum = False,
    explain_plan: options.ExplainPlan = False,
    html: options.Html = None,
    plot: options.Plot = None,
    heatmap: options.Heatmap = False,
    as_json: options.Json = False,
    full: options.Full = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the shapes, the explicit Jacobian, and the vector-Jacobian product with its numbers."""
    context: Context = ctx.obj
    if expression is None:
        raise UsageError("EXPR is missing: the expression to differentiate", hints=_three_examples())
    request = options.make_request(
        expression,
        inputs,
        stdin=context.read_stdin,
        imports=imports,
        grad_outputs=grad_outputs,
        tangent=tangent,
        wrt=wrt,
        dtype=dtype,
        device=device,
        seed=seed,
        mode=mode,
        jacobian=jacobian,
        memory_limit=memory_limit,
        timeout=timeout,
        save=context.place(save),
        spectrum=spectrum,
    )
    pictures = Pictures(context.place(html), context.place(plot), heatmap)
    pictures.check(as_json=as_json, only_planned=explain_plan)
    if save is not None:
        check_writable(save)

    def render(report: Any, console: Console) -> None:
        from jvpcli.render.text import render_inspect, render_plan  # a document does without

        if explain_plan:
            render_plan(report, console)
            return
        render_inspect(report, console, full=full)
        pictures.draw(report, console)

    with computing(context, request, as_json, "inspect") as (pipeline, limited, computed):
        report = pipeline.explain_plan(limited) if explain_plan else pipeline.inspect(limited)
        computed()
        if not explain_plan:
            pictures.write(report)
        emit(context, report, as_json, render)
    if not (quiet or as_json or explain_plan):
        from jvpcli.render.text import render_warnings

        context.flush()
        render_warnings(report.warnings, context.error_console)


def _three_examples() -> tuple[str, ...]:
    commands = [line for line in EXAMPLES.splitlines() if line.startswith("jvp ")]
    return tuple(commands[:3])
