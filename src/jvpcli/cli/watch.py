"""What ends a run from outside: the clock and Ctrl-C; and who tells how it ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class Watch:
    """Threads of this process that end it, for a run that no other process waits for.

    `word` is held by the thread that tells how the run ended.  The main thread tells a result or a failure, a watcher
    a timeout or Ctrl-C: whoever takes the word first is the only one to tell anything.
    """

    def __init__(self) -> None:
        self.word = threading.RLock()
        self._answered = threading.Event()

    def begin(self, expression: str, seconds: float | None, end: Callable[[], None]) -> None:
        """The computation begins; unless it is answered within `seconds`, `end` is called in a thread of its own.

        A thread does that and not a signal: torch may be deep in a long call that looks at no signal.
        """
        if seconds is None:
            return
        longest = min(seconds, threading.TIMEOUT_MAX)

        def watch() -> None:
            if not self._answered.wait(longest):
                end()

        threading.Thread(target=watch, daemon=True).start()

    def answer(self) -> None:
        """The outcome is there, to the last letter: from here on it is only written, and nothing else is told."""
        self._answered.set()
        self.word.acquire()


def on_interrupt(end: Callable[[], None]) -> None:
    """From now on Ctrl-C calls `end` in a thread of its own, at once, whatever the main thread is doing.

    Python's own handler would wait for torch to come back from a long call, and could hit an import halfway.
    """
    if not interrupts_are_heard():
        return
    heard = hear(signal.SIGINT)

    def watch() -> None:
        os.read(heard, 1)
        end()

    threading.Thread(target=watch, daemon=True).start()


def interrupts_are_heard() -> bool:
    """Whether Ctrl-C is meant for us: whoever started us may want it ignored, as `nohup` and a shell's `&` do."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def hear(*numbers: int) -> int:
    """A descriptor from which a byte can be read, the signal's number, for each of these signals that comes in."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, pass_over)
    return reader


def pass_over(number: int, frame: FrameType | None) -> None:
    """A handler that leaves a signal to others: Python writes it to the wakeup descriptor before it gets here."""
