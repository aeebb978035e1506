"""Whole texts, as a person sees them in a pipe 100 columns wide.

The files in `expected/` were checked by hand against closed forms: ∂(x_j x_k)/∂x_i = δ_ij x_k + δ_ik x_j, and so on.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from jvpcli.answers.hessian import hessian
from jvpcli.answers.inspect import inspect
from jvpcli.errors import JvpError
from jvpcli.render.error import render_error, underlined
from jvpcli.render.hessian import render_hessian
from jvpcli.render.inspect import render_inspect
from jvpcli.render.parts import render_warnings
from jvpcli.render.terminal import Terminal
from jvpcli.request import Request

EXPECTED = Path(__file__).parent / "expected"

REQUESTS = {
    "outer": Request("torch.outer(x,x)", {"x": "1,2,3,4"}),
    "outer_tangent": Request("torch.outer(x,x)", {"x": "1,2,3,4"}, tangent=((None, "ones"),)),
    "scalar": Request("(x**2).sum()", {"x": "1,2,3"}, grad_outputs=((None, "2"),)),
    "diagonal": Request("torch.relu(x)", {"x": "-1,0,2"}),
    "several": Request(
        "(x.sum(), torch.outer(x,w))", {"x": "1,2", "w": "3,4,5"}, grad_outputs=((None, "2"), (None, "ones"))
    ),
    "wide": Request("2*x", {"x": "torch.arange(40.)"}),
    "empty": Request("x[:0]", {"x": "1,2"}),
    "infinite": Request("torch.sqrt(x)", {"x": "0,1"}),
    "mismatch_input": Request("torch.outer(x,x)", {"x": "1,2,3,4"}, grad_outputs=((None, "1,1,1,1"),)),
    "mismatch_batch": Request("torch.outer(x,x)", {"x": "1,2,3,4"}, grad_outputs=((None, "torch.rand(2,4,4)"),)),
    "constant": Request("x.detach()*2", {"x": "1,2"}),
}


def text_of(request: Request, *, full: bool = False) -> str:
    stream = io.StringIO()
    console = Terminal(file=stream, width=100)
    try:
        report = inspect(request)
    except JvpError as error:
        render_error(error, console)
    else:
        render_inspect(report, console, full=full)
        render_warnings(report.warnings, console)
    return stream.getvalue()


@pytest.mark.parametrize("name", REQUESTS)
def test_whole_text(name):
    assert text_of(REQUESTS[name]) == (EXPECTED / f"{name}.txt").read_text()


HESSIANS = {
    "hessian": Request("torch.outer(x,x)", {"x": "1,2"}, tangent=((None, "1,0"),)),
    "hessian_several": Request("(x @ w)**2", {"x": "1,2", "w": "3,1"}, tangent=(("w", "ones"),)),
    "hessian_kink": Request("torch.relu(x)", {"x": "-1,0,2"}),
    "hessian_empty": Request("x.sum()", {"x": "[]"}),
    "hessian_products": Request("(x**2).sum()", {"x": "1,2,3"}, jacobian="none"),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_whole_text_of_a_hessian(name):
    stream = io.StringIO()
    console = Terminal(file=stream, width=100)
    report = hessian(HESSIANS[name])
    render_hessian(report, console)
    render_warnings(report.warnings, console)
    assert stream.getvalue() == (EXPECTED / f"{name}.txt").read_text()


def test_a_truncated_table_says_how_much_it_hides_and_full_shows_it():
    text = text_of(REQUESTS["wide"])
    assert "32 of 40 rows and" in text
    assert "--full shows all" in text
    assert "y[20]" not in text
    full = text_of(REQUESTS["wide"], full=True)
    assert "not shown" not in full
    assert all(f"y[{row}]" in full and f"x[{row}]" in full for row in range(40))


LARGE = {
    "one large tensor": Request("x.sin() @ x", {"x": "torch.rand(6,6)"}),
    "of many axes": Request("x.sin()", {"x": "torch.rand(2,1,3,2,4)"}),
    "many inputs": Request("a @ b @ c @ d @ e", dict.fromkeys("abcde", "torch.rand(3,3)")),
    "many outputs": Request("[x * w[i] for i in range(9)]", {"x": "torch.rand(5)", "w": "torch.rand(9,5)"}),
    "many numbers": Request("[x * i for i in range(30)]", {"x": "3"}),
    "with a tangent": Request("x.cumsum(0)", {"x": "torch.rand(15,2)"}, tangent=((None, "ones"),), spectrum=True),
    "norms of blocks": Request("x.cumsum(0)", {"x": "torch.rand(15,2)"}, blocks=((1,), (1,))),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_about_large_or_many_tensors_is_told_in_forty_lines(name):
    request = LARGE[name]
    text, full = text_of(request), text_of(request, full=True)
    assert len(text.splitlines()) <= 40
    assert "--full shows all" in " ".join(text.split())
    assert len(full.splitlines()) > 40
    assert "--full" not in full
    for whole in (text, full):
        assert [line for line in whole.splitlines() if line.startswith("  ∂L/∂")]
        assert "torch.autograd.grad gives the same" in whole
    for x in request.inputs:  # what is not shown at all is counted
        assert f"∂L/∂{x} = " in text or "inputs, " in text


def test_no_more_lines_are_taken_by_more_tensors():
    few, many = (text_of(Request(f"[x * i for i in range({n})]", {"x": "torch.rand(9)"})).splitlines() for n in (40, 140))
    assert len(few) == len(many)
    unseen = "how further products are made, the numbers of the Jacobians"
    assert " ".join(" ".join(few[-2:]).split()) == f"Not shown: 36 of 40 outputs, {unseen}; --full shows all."
    assert many[-2] == few[-2].replace("36 of 40", "136 of 140")


def test_no_line_ends_in_blanks():
    for request in REQUESTS.values():
        assert not [line for line in text_of(request).splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("source", "part", "shown", "carets"),
    [
        ("torch.sin(x) + torch.sinn(x)", "torch.sinn", "torch.sin(x) + torch.sinn(x)", " " * 15 + "^" * 10),
        ("'é' + foo", "foo", "'é' + foo", " " * 6 + "^^^"),
        ("'日本' + foo", "foo", "'日本' + foo", " " * 9 + "^^^"),
        ("a = x\nb = foo\nc", "foo", "b = foo", " " * 4 + "^^^"),
    ],
)
def test_carets_stand_under_the_guilty_part(source, part, shown, carets):
    start = source.index(part)
    line, marks = underlined(source, (start, start + len(part)))
    assert (line.plain, marks.plain) == ("  " + shown, "  " + carets)


def test_a_long_line_is_cut_around_the_guilty_part():
    source = "x + " * 1000 + "foo" + " + x" * 1000
    line, marks = underlined(source, (4000, 4003))
    assert len(line.plain) < 200
    start = marks.plain.index("^")
    assert line.plain[start : start + 3] == "foo"
