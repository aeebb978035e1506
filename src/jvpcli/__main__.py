"""The console script `jvp`, also `python -m jvpcli`."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # nothing is loaded here that a command would have to wait for
if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 1 << 16
"""Places for values in a frame: half a megabyte, of which only what is used is ever taken."""


def _in_one_piece(work: Callable[[list[str]], int], argv: list[str]) -> int:
    """Calls `work` so that the frames of all that it calls stand in one piece of memory.

    CPython (from 3.11 on) maps 16 KiB for frames when the last such piece is full, and gives them back when the calls in it
    are over.  Where a loop calls across that border it does so at every call: ten thousand times while torch is loaded, if
    the depth of calls happens to be so.  A frame that asks for much gets a piece as large, with room behind it for what it
    calls.
    """
    return work(argv)


_in_one_piece.__code__ = _in_one_piece.__code__.replace(co_stacksize=ROOM)


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

        code = _in_one_piece(outcome, argv)
    if argv[:1] == ["run"]:  # a program of the user's own leaves as Python lets it: its exit handlers run
        if code < 0:  # Ctrl-C has ended it, and so it has to end a shell's loop around it
            sys.excepthook = lambda *told: None
            raise KeyboardInterrupt
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
