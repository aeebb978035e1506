"""The page of `jvp serve`: the form that asks, and the parts that stand in it: an answer, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from jvpcli.options import BATCH, COMPUTING, options_of
from jvpcli.render import escaped
from jvpcli.render.check import render_check
from jvpcli.render.error import TITLES, is_command
from jvpcli.render.html import allowing, environment, fragment, script, static, style
from jvpcli.render.terminal import plain_text
from jvpcli.report.check import CheckReport

TEXT_WIDTH = 96
"""Columns of an answer that is a text."""

EXAMPLES: tuple[dict[str, Any], ...] = (
    {"title": "An outer product: which Jacobian makes this gradient?", "expression": "torch.outer(x, x)",
     "inputs": {"x": "1,2,3,4"}, "v": "torch.ones_like(y)"},
    {"title": "One row of the Jacobian alone", "expression": "torch.outer(x, x)", "inputs": {"x": "1,2,3,4"}, "v": "onehot:1,2"},
    {"title": "A linear layer with tanh", "expression": "torch.tanh(W @ x + b)",
     "inputs": {"W": "1,-1;0.5,2;0,1", "x": "0.5,1", "b": "0,1,0"}},
    {"title": "Softmax, and a direction u", "expression": "F.softmax(x, 0)", "inputs": {"x": "1,2,3"}, "u": "1,0,0"},
    {"title": "The chain rule step by step", "command": "trace", "expression": "h = torch.tanh(W @ x); (h**2).sum()",
     "inputs": {"W": "1,-1;0.5,2;0,1", "x": "0.5,1"}},
    {"title": "Where does the NaN come from?", "command": "trace", "expression": "torch.sqrt(x).mul(0).sum()",
     "inputs": {"x": "0,1"}},
    {"title": "Least squares in closed form", "command": "derive", "expression": "((A @ x - b)**2).sum()",
     "inputs": {"A": "1,2;3,4;5,6", "x": "1,2", "b": "1,0,1"}, "wrt": "x"},
    {"title": "A second derivative", "command": "hessian", "expression": "(x[0]*x[1])**2 + x[2]", "inputs": {"x": "1,2,3"}},
    {"title": "Is a gradient right at a kink?", "command": "check", "expression": "torch.relu(x)", "inputs": {"x": "-1,0,2"}},
    {"title": "A pasted Python session",
     "expression": ">>> x = torch.tensor([1., 2., 3.], requires_grad=True)\n>>> y = x**2\n>>> "
                   "torch.autograd.grad(y, x, grad_outputs=torch.ones_like(y))", "inputs": {}},
)  # fmt: skip
"""What can be tried at once, beginning with what the page opens with."""


def playground() -> str:
    """The whole page."""
    data = {
        "examples": EXAMPLES,
        "fields": {name: list(options_of(BATCH, name)) for name in COMPUTING},
    }
    return environment().get_template("playground.html.j2").render(
        commands=COMPUTING, examples=EXAMPLES, data=data, style=style(), own_style=_own_style(), script=_own_script()
    )


def policy() -> str:
    """The content security policy of the page: its own and a report's scripts and styles, and requests to where it is from."""
    scripts = " ".join(f"'{allowing(content)}'" for content in (script(), _own_script()))
    styles = " ".join(f"'{allowing(content)}'" for content in (style(), _own_style()))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def _own_style() -> Markup:
    return Markup(static("playground.css"))


def _own_script() -> Markup:
    return Markup(f'(() => {{\n"use strict";\n{static("playground.js")}\n}})();')


def part_of(report: Any, notes: Sequence[str]) -> str:
    """A report as a part of the page, below what is said of how the question was read."""
    text = plain_text(partial(render_check, report), TEXT_WIDTH) if isinstance(report, CheckReport) else None
    part = Markup(fragment(report, level=2)) if text is None else None
    return escaped(environment().get_template("answer.html.j2").render(notes=notes, report=report, text=text, fragment=part))


def explained(error: Any) -> str:
    """A failure as a part of the page, the guilty part of the source marked."""
    marked = None
    if error.source is not None and error.span is not None:
        start, end = error.span
        marked = (error.source[:start], error.source[start:end] or " ", error.source[end:])
    hints = [(hint, is_command(hint)) for hint in error.hints]
    told = environment().get_template("error.html.j2").render(error=error, title=TITLES[error.code], marked=marked, hints=hints)
    return escaped(told)
