"""Work grows in proportion to the number of operands, steps and outputs: lines of our own code that run are counted."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

import jvpcli
from jvpcli.answers import inspect as inspecting
from jvpcli.render.json import to_json
from jvpcli.render.text import render_inspect
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
    twice()  # whatever is loaded or kept is so now
    assert lines_run(twice) <= 2.3 * lines_run(once)


def test_a_chain_of_steps():
    once, twice = (inspected("y = x; " + "y = y.sin(); " * n + "y") for n in (150, 300))
    twice()
    assert lines_run(twice) <= 2.3 * lines_run(once)


def text_of(count: int, full: bool = False) -> str:
    report = inspecting.inspect(Request(f"[x[i % 4] * i for i in range({count})]", inputs={"x": [1.0, 2.0, 3.0, 4.0]}))
    out = io.StringIO()
    render_inspect(report, Console(file=out, width=120), full=full)
    return out.getvalue()


def test_the_text_shows_the_first_of_many_outputs():
    assert "not shown" not in text_of(24)
    text = text_of(100)
    assert "76 of 100 outputs not shown; --full shows all" in text
    assert "∂y23/∂x" in text
    assert "∂y24/∂x" not in text
    assert "⟨v, y23⟩ + …: " in text
    assert text.splitlines()[-3:] == text_of(100, full=True).splitlines()[-3:]  # the result is that of all outputs
    assert len(text.splitlines()) == len(text_of(200).splitlines())
    everything = text_of(100, full=True)
    assert "not shown" not in everything
    assert "∂y99/∂x" in everything
