"""The console script `jvp`, also `python -m jvpcli`."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # `typing` alone takes as long to load as asking a resident process
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jvpcli.cli.context import Context


def main() -> None:
    """Runs the command line and leaves with its exit code.

    A command lives for a second: the collector would only go through the modules while they load, and tearing the
    interpreter down takes longer than most answers.  `run` has flushed everything by then.
    """
    gc.disable()
    argv = sys.argv[1:]
    from jvpcli.cli.client import ask

    code = ask(argv)
    if code is None:
        code = outcome(argv)
    if argv[:1] == ["run"]:
        sys.exit(code)  # a program of the user's own leaves as Python lets it: its exit handlers run
    os._exit(code)


def outcome(argv: Sequence[str]) -> int:
    """Runs a command line in this process; its exit code."""
    from jvpcli.cli.app import COMPUTING, run
    from jvpcli.cli.argv import has_flag
    from jvpcli.cli.context import Context
    from jvpcli.system.processes import CAN_FORK

    if has_flag(argv, "--debug") and sys.stderr is not None:
        import faulthandler

        faulthandler.enable()
    computes = bool(argv) and argv[0] in COMPUTING
    context = Context.apart_from_prints() if computes or argv[:1] == ["batch"] else Context.of_process()
    if computes and CAN_FORK:
        from jvpcli.cli.attendant import attended

        return attended(lambda computing: run(argv, computing), context, has_flag(argv, "--json"))
    if argv[:1] != ["run"]:
        from jvpcli.cli.context import on_interrupt

        on_interrupt(lambda: interrupted(context))
    return run(argv, context)


def interrupted(context: Context) -> None:
    """Ctrl-C: says so and leaves."""
    from jvpcli.cli.argv import has_flag
    from jvpcli.cli.compute import end_run
    from jvpcli.errors import InterruptedByUser

    end_run(context, InterruptedByUser("interrupted"), has_flag(sys.argv[1:], "--json"))


if __name__ == "__main__":
    main()
