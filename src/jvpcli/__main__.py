"""The console script `jvp`, also `python -m jvpcli`."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jvpcli.cli.context import Context


def main() -> None:
    """Runs the command line and leaves with its exit code.

    A command lives for a second: the collector would only go through the modules while they load, and tearing the
    interpreter down takes longer than most answers.  `run` has flushed everything by then.
    """
    gc.disable()
    from jvpcli.cli.context import Context
    from jvpcli.cli.limits import on_interrupt

    own_code = any(word.startswith("--import") for word in sys.argv[1:])
    context = Context.apart_from_prints() if own_code else Context.of_process()
    on_interrupt(lambda: interrupted(context))
    from jvpcli.cli.app import run

    os._exit(run(sys.argv[1:], context))


def interrupted(context: Context) -> None:
    """Ctrl-C: says so and leaves."""
    from jvpcli.cli.argv import has_flag
    from jvpcli.cli.compute import end_run
    from jvpcli.errors import InterruptedByUser

    end_run(context, InterruptedByUser("interrupted"), has_flag(sys.argv[1:], "--json"))


if __name__ == "__main__":
    main()
