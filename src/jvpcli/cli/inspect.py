"""`jvp inspect`: shapes, explicit Jacobian, VJP and the contraction spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jvpcli.cli.compute import answer
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.errors import UsageError
from jvpcli.request import Request, is_store

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

# a Jacobian that is larger than memory, block by block into a Zarr store, on two workers; the second call goes on where it ended
jvp inspect "torch.tanh(A @ x)" --A "torch.randn(2000,1000)" --x "torch.randn(1000)" --wrt x --save J.zarr --cluster local:2
jvp inspect "torch.tanh(A @ x)" --A "torch.randn(2000,1000)" --x "torch.randn(1000)" --wrt x --save J.zarr --resume

# a module of your own and its parameters; the file is run
jvp inspect "net(x)" --import model.py --x 1,2 --wrt x,net.0.weight
"""


def command(context: Context, request: Request, display: Display, *, explain_plan: bool) -> None:
    """Show the shapes, the explicit Jacobian, and the vector-Jacobian product with its numbers."""
    if explain_plan and display.pictures:
        raise UsageError(f"{display.pictures[0]} has nothing to show: --explain-plan computes nothing")
    if display.html is not None and request.is_grads_batched:
        raise UsageError("--html shows one v at a time, and --is-grads-batched gives several")
    if request.cluster is not None or request.resume or is_store(request.save):
        from jvpcli.cluster import check_saving

        check_saving(request)
    elif request.save is not None:
        from jvpcli.writer import check_writable

        check_writable(request.save)

    def compute(limited: Request) -> Any:
        from jvpcli.answers import inspect, report_of

        return report_of(limited, inspect.explain_plan) if explain_plan else report_of(limited)

    def render(report: Any, console: Console) -> None:
        from jvpcli.render.inspect import render_inspect, render_plan  # a document does without

        if explain_plan:
            render_plan(report, console)
        else:
            render_inspect(report, console, full=display.full)

    answer(context, request, display._replace(quiet=display.quiet or explain_plan), render, compute)
