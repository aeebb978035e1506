"""The console script `jvp`, also `python -m jvpcli`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Runs the command line and leaves with its exit code.

    A command lives for a second: the collector would only go through the modules while they load, and tearing the
    interpreter down takes longer than most answers.  Everything is flushed before leaving.
    """
    gc.disable()
    from jvpcli.cli.app import run
    from jvpcli.cli.context import Context

    code = run(sys.argv[1:], Context.of_process())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue  # a closed pipe, or told already
    os._exit(code)


if __name__ == "__main__":
    main()
