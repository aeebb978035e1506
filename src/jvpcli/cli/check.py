"""`jvp check`: is the gradient right?  A failed check is an answer on stdout and exit code 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jvpcli.cli.compute import answer
from jvpcli.cli.context import Context
from jvpcli.cli.output import Display
from jvpcli.errors import ExitCode
from jvpcli.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report.check import CheckReport

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


def command(context: Context, request: Request, display: Display) -> int:
    """Check the gradient: against finite differences, forward against reverse; names the worst entry and the cause."""

    def render(report: CheckReport, console: Console) -> None:
        from jvpcli.render.check import render_check  # a document does without

        render_check(report, console)

    report = answer(context, request, display, render)
    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED
