"""Progress: on a terminal, after a while, and gone when the work is done."""

import io
import threading

import pytest
import torch

from jvpcli.answers.check import check
from jvpcli.answers.trace import trace
from jvpcli.cli import compute as module
from jvpcli.cli.compute import progress
from jvpcli.cli.context import Context
from jvpcli.jacobians.engine import compute, plan
from jvpcli.request import Request


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


CHAIN = "for _ in range(5): x = torch.cumsum(x.sin(), 0)\nx"


@pytest.mark.parametrize(
    ("answer", "expression", "steps"),
    [
        (check, CHAIN, {"backward passes, one a row": 7, "columns compared with differences": 7}),
        (check, "x.repeat(9000).sin()", {"directions compared with differences": None}),
        (trace, CHAIN, {"local Jacobians of the steps": 10}),
    ],
)
def test_check_and_trace_tell(answer, expression, steps):
    """Rows and columns of a map from 7 numbers to 7, and two steps a turn."""
    told = {}

    def tell(what, done, total):
        told.setdefault(what, []).append((done, total))

    answer(Request(expression, {"x": torch.rand(7)}, tell=tell))
    assert told.keys() == steps.keys()
    for what, total in steps.items():
        counted = [done for done, _ in told[what]]
        assert counted == sorted(counted)
        assert {each for _, each in told[what]} == {total or told[what][0][1]}
        assert counted[-1] <= told[what][0][1]
