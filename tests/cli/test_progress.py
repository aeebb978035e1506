"""Progress: on a terminal, after a while, and gone when the work is done."""

import io
import threading

import pytest
import torch

from jvpcli.cli import compute as module
from jvpcli.cli.compute import progress
from jvpcli.cli.context import Context
from jvpcli.jacobians.engine import compute, plan


class Terminal(io.StringIO):
    def __init__(self, awaited=""):
        super().__init__()
        self.awaited, self.seen = awaited, threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        if self.awaited in text:
            self.seen.set()
        return super().write(text)


def context(stderr):
    return Context(io.StringIO(), io.StringIO(), stderr, {"TERM": "xterm", "COLUMNS": "80"})


def test_nobody_looks_at_a_file():
    with progress(context(io.StringIO())) as tell:
        assert tell is None


def test_short_work_shows_nothing(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 100)
    terminal = Terminal()
    with progress(context(terminal)) as tell:
        tell("passes", 1, 2)
    assert terminal.getvalue() == ""


def test_long_work_is_shown_and_taken_away(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0)
    terminal = Terminal("1,000 of 2,000")
    with progress(context(terminal)) as tell:
        tell("passes, one a row", 1000, 2000)
        assert terminal.seen.wait(100)
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased


def long_chain(x):
    for _ in range(70):
        x = x.cumsum(0).sin()
    return x


@pytest.mark.parametrize(
    ("function", "mode", "what"),
    [
        (lambda x: torch.outer(x.sin(), x), "reverse", "local Jacobians multiplied together"),
        (long_chain, "auto", "backward passes, one a row"),
    ],
)
def test_the_engine_tells(function, mode, what):
    told = []
    x = torch.rand(81, requires_grad=True)
    compute(plan(function(x), [x], mode), tell=lambda *now: told.append(now))
    assert told[0][0] == what
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert all(done <= total for _, done, total in told)
