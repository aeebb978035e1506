"""`jvp check`: is the gradient right?  A failed check is an answer on stdout and exit code 8."""

from __future__ import annotations

from typing import Annotated

import typer

from jvpcli.cli import options
from jvpcli.cli.compute import computing
from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.errors import ExitCode, UsageError

EXAMPLES = """
# is the gradient of softmax right?
jvp check "F.softmax(x, 0)" --x 1,2,3

# a graph that is cut: the check names the step and shows both numbers
jvp check "x * x.detach()" --x 1,2

# a backward of your own; the file is run, and its functions can be called by their names
jvp check "my_op(x)" --import ops.py --x 1,2

# a module of your own, with its parameters by their dotted names
jvp check "net(x)" --import model.py --x 1,2 --wrt x,net.0.weight

# random functions: with a seed they are held fast, without one the check says that they are random
jvp check "F.dropout(x)" --x 1,2,3 --seed 0

# in a script: the verdict and the worst entry
jvp check "torch.relu(x)" --x 0,1 --json | jq -c '[.verdict, .worst]'
"""

Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Hold random functions fast. Without it a function that draws random numbers fails the check.",
    ),
]


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
    seed: Seed = None,
    memory_limit: options.MemoryLimit = None,
    timeout: options.Timeout = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Check the gradient: against finite differences, forward against reverse; names the worst entry and the cause."""
    context: Context = ctx.obj
    if expression is None:
        hints = tuple(line for line in EXAMPLES.splitlines() if line.startswith("jvp "))[:2]
        raise UsageError("EXPR is missing: the expression whose gradient is checked", hints=hints)
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
        memory_limit=memory_limit,
        timeout=timeout,
    )
    with computing(context, request, as_json, "check") as (_, limited, computed):
        from jvpcli.pipeline_check import check

        report = check(limited)
        computed()
        from jvpcli.render.check import render_check

        emit(context, report, as_json, render_check)
    if not quiet and not as_json:
        from jvpcli.render.text import render_warnings

        render_warnings(report.warnings, context.error_console)
    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED
