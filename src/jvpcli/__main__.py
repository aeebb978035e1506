"""The console script `jvp`, also `python -m jvpcli`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Runs the command line and leaves with its exit code.

    A command lives for a second: the collector would only go through the modules while they load, and tearing the
    interpreter down takes longer than most answers.  `run` has flushed everything by then.
    """
    gc.disable()
    from jvpcli.cli.client import ask

    argv = sys.argv[1:]
    code = ask(argv)
    if code is None:
        from jvpcli.cli.app import outcome

        code = outcome(argv)
    if argv[:1] == ["run"]:  # a program of the user's own leaves as Python lets it: its exit handlers run
        if code < 0:  # Ctrl-C has ended it, and so it has to end a shell's loop around it
            sys.excepthook = lambda *told: None
            raise KeyboardInterrupt
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
