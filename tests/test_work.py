"""Work grows in proportion to the number of operands, steps and outputs: lines of our own code that run are counted."""

from __future__ import annotations

import io
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

import jvpcli
from jvpcli import attributes, problem
from jvpcli.answers import inspect as inspecting
from jvpcli.cli.answers import Soon, answers_together
from jvpcli.language.course import Courses
from jvpcli.language.evaluate import evaluate, evaluate_function
from jvpcli.render.inspect import render_inspect
from jvpcli.render.json import to_json
from jvpcli.request import Request

OURS = str(Path(jvpcli.__file__).parent)

pytestmark = pytest.mark.filterwarnings("ignore")


def lines_run(task: Callable[[], Any]) -> int:
    """How many lines of the program's own files run in a task; a loop's line counts each time."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        task()
    finally:
        sys.settrace(before)
    return count


def inspected(expression: str, x: Any = (1.0, 2.0, 3.0, 4.0)) -> Callable[[], Any]:
    return lambda: to_json(inspecting.inspect(Request(expression, inputs={"x": list(x)})))


def test_the_count_shows_a_square():
    """Lines of a file of ours that loops over pairs would grow by four."""
    code = compile("for i in range(n):\n  for j in range(n):\n    pass", f"{OURS}/squared.py", "exec")
    few, many = (lines_run(lambda n=n: exec(code, {"n": n})) for n in (40, 80))
    assert many > 3.5 * few


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("torch.cat([x]*{n})", 1100),
        ("torch.cat([x, torch.ones(1)]*{n})", 1100),
        ("torch.hstack([x, 2*x]*{n})", 550),
        ("torch.stack([x]*{n}, 1)", 1100),
        ("torch.block_diag(*[x]*{n})", 100),
        ("sum(x*i for i in range({n}))", 200),
        ("torch.stack([x[i % 4] for i in range({n})])", 200),
        ("torch.meshgrid(*[x[:1]]*{n}, indexing='ij')[0].sum()", 20),
        ("torch.einsum(*[part for i in range({n}) for part in (x, [0])], [0])", 80),
        ("y = x.clone(); [y.sin_() for i in range({n})][-1]", 150),
        ("y = x.clone(); z = [y.mul_(1.01) for i in range({n})]; sum(z)", 150),
        ("[x[i % 4] * i for i in range({n})]", 60),
        ("[x.sin() for i in range({n})]", 60),
    ],
)
def test_twice_as_much_takes_twice_the_work(expression, count):
    once, twice = (inspected(expression.format(n=n)) for n in (count, 2 * count))
    for task in (once, twice):  # whatever is loaded or kept is so now
        task()
        task()
    assert lines_run(twice) <= 2.3 * lines_run(once)


def test_a_chain_of_steps():
    once, twice = (inspected("y = x; " + "y = y.sin(); " * n + "y") for n in (150, 300))
    twice()
    assert lines_run(twice) <= 2.3 * lines_run(once)


def test_a_trace_of_a_sum_of_many_terms():
    once, twice = (lambda n=n: jvpcli.trace(f"sum(x*i for i in range({n}))", x=[1.0, 2.0]) for n in (400, 800))
    twice()
    assert lines_run(twice) <= 2.3 * lines_run(once)


def text_of(count: int, full: bool = False) -> str:
    report = inspecting.inspect(Request(f"[x[i % 4] * i for i in range({count})]", inputs={"x": [1.0, 2.0, 3.0, 4.0]}))
    out = io.StringIO()
    render_inspect(report, Console(file=out, width=120), full=full)
    return out.getvalue()


def test_the_text_shows_the_first_of_many_outputs():
    text = text_of(100)
    assert "96 of 100 outputs" in text.splitlines()[-1]
    assert "∂y3/∂x" in text
    assert "∂y4/∂x" not in text
    assert "⟨v, y3⟩ + …: " in text
    assert text.splitlines()[-4:-2] == text_of(100, full=True).splitlines()[-2:]  # the result is that of all outputs
    assert len(text.splitlines()) == len(text_of(200).splitlines())
    everything = text_of(100, full=True)
    assert "ot shown" not in everything
    assert "∂y99/∂x" in everything


# What a repeated call runs


class Operations(TorchDispatchMode):
    """Counts torch's operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def calls_of(task: Callable[[], Any]) -> int:
    """How many functions of the program's own a task calls; an attribute that is computed once counts as one."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        file = frame.f_code.co_filename
        count += event == "call" and file.startswith(OURS) and file != attributes.__file__

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        task()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    ("text", "size", "calls", "operations"),
    [
        ("torch.outer(x, x)", 4, 37, 17),
        ("torch.stack([x[0] * x[1], x[2].sin(), x.sum()])", 4, 87, 34),
        ("x.sin()", 4096, 68, 8),
        ("(x * x).sum()", 1000, 36, 11),
        ("torch.linalg.eigvalsh(torch.outer(x, x) + torch.diag(x))", 4, 52, 41),
    ],
    ids=["outer", "small", "sin", "number", "eigenvalues"],
)
def test_a_repeated_text_stays_within_its_budget(text, size, calls, operations):
    x = torch.linspace(-1, 1, size)
    for _ in range(4):  # it is known how it goes
        jvpcli.jacobian(text, x=x)
    assert calls_of(lambda: jvpcli.jacobian(text, x=x)) <= calls
    with Operations() as counted:
        jvpcli.jacobian(text, x=x)
    assert counted.count <= operations


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return 3 * g


@pytest.mark.parametrize(
    ("function", "size", "calls", "operations"),
    [
        (lambda x: torch.sin(x), 4096, 113, 8),
        (lambda x: torch.outer(x, x), 64, 200, 14),
        (lambda x: torch.stack([x[0] * x[1], x[2].sin(), x.sum()]), 4, 87, 34),  # lighter rules: more, in less time
        (lambda x: Tripled.apply(x).sin(), 4, 89, 35),
    ],
    ids=["sin", "outer", "small", "custom"],
)
def test_a_repeated_call_stays_within_its_budget(function, size, calls, operations):
    x = torch.linspace(-1, 1, size)
    for _ in range(5):  # it is known how its maps are made, and that rows of a Function go together as they do alone
        jvpcli.jacobian(function, x=x)
    assert calls_of(lambda: jvpcli.jacobian(function, x=x)) <= calls
    with Operations() as counted:
        jvpcli.jacobian(function, x=x)
    assert counted.count <= operations


@pytest.mark.parametrize(
    ("make", "size", "calls"),
    [
        (lambda: lambda x: torch.sin(x), 4096, 185),
        (lambda: lambda x: torch.outer(x, x), 64, 315),
        (lambda: lambda x: torch.stack([x[0] * x[1], x[2].sin(), x.sum()]), 4, 230),
    ],
    ids=["sin", "outer", "small"],
)
def test_a_first_call_stays_within_its_budget(make, size, calls):
    x = torch.linspace(-1, 1, size)
    jvpcli.jacobian(make(), x=x)  # what is loaded is so now
    function = make()  # another one, though it does the same
    assert calls_of(lambda: jvpcli.jacobian(function, x=x)) <= calls


def test_a_repeated_question_stays_within_its_budget():
    """As a line of a batch asks it, when a line before it asked the same of other numbers."""
    task = inspected("torch.outer(x, x)")
    for _ in range(3):
        task()
    assert calls_of(task) <= 382  # to go on after a stage counts as a call, and there are 18 such stages
    with Operations() as counted:
        task()
    assert counted.count <= 83


def test_a_line_of_a_batch_whose_words_are_known_stays_within_its_budget(monkeypatch):
    """It runs the kernels that its passes come down to, and fills its numbers in."""
    monkeypatch.setattr("jvpcli.cli.answers.SOON", math.inf)  # however slow a machine is
    monkeypatch.setattr("jvpcli.cli.answers.TOGETHER_SECONDS", math.inf)
    draw = random.Random(0)

    def lines() -> list[bytes]:
        points = [[draw.uniform(0.5, 2) for _ in range(4)] for _ in range(16)]
        return [json.dumps({"expression": "torch.outer(x, x)", "inputs": {"x": x}}).encode() for x in points]

    soon = Soon()
    soon.note(Request("torch.outer(x, x)", inputs={}), 0.0)
    for _ in range(4):
        answers_together(lines(), None, soon)
    given = lines()
    assert calls_of(lambda: answers_together(given, None, soon)) <= 530
    with Operations() as counted:
        assert all(answers_together(given, None, soon))
    assert counted.count <= 642


def test_a_check_runs_the_steps_that_it_knows(monkeypatch):
    """At dozens of points, in double precision, too: few of them are evaluated with all that is asked before a step."""
    ordinary = []
    monkeypatch.setattr(problem, "evaluate", lambda *args, **options: ordinary.append(1) or evaluate(*args, **options))
    points = []
    again = Courses.again
    monkeypatch.setattr(Courses, "again", lambda *args: points.append(1) or again(*args))
    assert jvpcli.check("x*x + torch.sin(2*x)/x + x.exp()", x=[1.0, 2.0, 3.0]).passed
    assert len(ordinary) <= 8
    assert len(points) > 30


def test_a_step_of_a_trace_stays_within_its_budget():
    """Of the forms that are there already: its local Jacobians, its part of the report and of the backward pass."""

    def traced(count: int) -> Callable[[], Any]:
        return lambda: jvpcli.trace(" + ".join(["x*x", "torch.sin(x)", "2*x", "x.exp()"] * count), x=[1.0, 2.0, 3.0])

    few, many = traced(20), traced(120)
    many()
    steps = 100 * 8
    assert (calls_of(many) - calls_of(few)) / steps <= 358
    counts = []
    for task in (few, many):
        with Operations() as counted:
            task()
        counts.append(counted.count)
    assert (counts[1] - counts[0]) / steps <= 30


def test_watching_a_function_adds_a_call_or_two_for_each_operation():
    """A function of the user's own is watched for numbers that it takes out of the graph: few calls where it takes none."""

    def chain(count: int) -> Callable[[], Any]:
        def steps(x: torch.Tensor) -> torch.Tensor:
            for _ in range(count):
                x = x + 1
            return x

        return lambda: evaluate_function(steps, {"x": torch.ones(2)}, ("x",))

    few, many = calls_of(chain(10)), calls_of(chain(110))
    assert (many - few) / 100 <= 2
