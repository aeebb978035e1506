"""Traces as text, JSON and Graphviz.

The files in `expected/` were checked by hand: for y = x xᵀ, z = y² and v = 1, ∂L/∂y = 2y, and each position of the outer
product gets Σ_k 2 x_i x_k² = 60 x_i; for x.detach() the product rule keeps one of its two terms.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from jvpcli.answers.trace import trace
from jvpcli.render.dot import quoted, to_dot
from jvpcli.render.json import to_json
from jvpcli.render.terminal import Terminal
from jvpcli.render.trace import array_line, bar, render_trace, short_source
from jvpcli.request import Request

EXPECTED = Path(__file__).parent / "expected"

REQUESTS = {
    "trace_outer": (Request("y = torch.outer(x, x); z = y**2", {"x": "1,2,3,4"}), None),
    "trace_outer_step": (Request("y = torch.outer(x, x); z = y**2", {"x": "1,2,3,4"}), 0),
    "trace_nan": (Request("torch.sqrt(x).mul(0).sum()", {"x": "0,1"}), None),
    "trace_dead": (Request("(x*x.detach()).sum()", {"x": "1,2"}), None),
    "trace_in_place": (Request("y = x.clone(); y[0].mul_(5); y[1] = w*3; y*2", {"x": "1,2,3", "w": "4"}), None),
    "trace_parts": (Request("U, S, Vh = torch.linalg.svd(x); (U*S).sum()", {"x": "2,0;0,1"}, dtype="float64"), None),
    "trace_several": (
        Request("(x*2, x.sum())", {"x": "1,2"}, grad_outputs=((None, "none"), (None, "3")), dtype="float64"),
        None,
    ),
    "trace_empty": (Request("x[:0]", {"x": "1,2"}), None),
}


def text_of(request, step=None, *, width=100, full=False):
    stream = io.StringIO()
    render_trace(trace(request, step=step), Terminal(file=stream, width=width), step=step, full=full)
    return stream.getvalue()


@pytest.mark.parametrize("name", REQUESTS)
def test_whole_text(name):
    assert text_of(*REQUESTS[name]) == (EXPECTED / f"{name}.txt").read_text()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", REQUESTS)
def test_no_line_ends_in_blanks_and_lines_fit_a_usual_terminal(name, width):
    lines = text_of(*REQUESTS[name], width=width).splitlines()
    assert not [line for line in lines if line != line.rstrip()]
    if width >= 100:
        assert max(map(cell_len, lines)) <= width


def test_thirty_steps_stay_readable():
    """A line for each value forwards; backwards one a step and one an operand."""
    text = "h = x; " + "; ".join(["h = torch.tanh(W @ h)"] * 15) + "; h"
    report = trace(Request(text, {"x": "torch.randn(5)", "W": "torch.randn(5,5)"}))
    lines = text_of(Request(text, {"x": "torch.randn(5)", "W": "torch.randn(5,5)"})).splitlines()
    assert len(report.steps) == 30
    operands = sum(len(step.local_jacobians) for step in report.steps)
    assert len(lines) <= 30 + 30 + 2 * operands + 40
    assert max(map(cell_len, lines[1:])) <= 100


def test_everything_is_shown_with_full():
    request = Request("x*torch.arange(100.)", {"x": "torch.ones(100)"})
    assert "…" in text_of(request)
    assert "57., 58., 59." in text_of(request, full=True)


def test_the_whole_document():
    """∂(a·b)/∂a = b and ∂(a·b)/∂b = a; with v = (1, 10) the contributions are v·b and Σ v·a, written out by hand."""
    request = Request("a * b", {"a": "2,3", "b": "5"}, grad_outputs=((None, "1,10"),), dtype="float64")
    document = json.loads(to_json(trace(request)))
    vector = {"dtype": "float64", "shape": [2]}
    scalar = {"dtype": "float64", "shape": []}
    assert document == {
        "schema": 1,
        "ok": True,
        "expression": "a * b",
        "inputs": {
            "a": {**vector, "device": "cpu", "differentiated": True, "value": [2.0, 3.0]},
            "b": {**scalar, "device": "cpu", "differentiated": True, "value": 5.0},
        },
        "outputs": {"y": {**vector, "value": [10.0, 15.0]}},
        "grad_outputs": {"y": {**vector, "source": "1,10", "value": [1.0, 10.0]}},
        "vjp": {"a": {**vector, "value": [5.0, 50.0]}, "b": {**scalar, "value": 32.0}},
        "steps": [
            {
                **vector,
                "index": 0,
                "op": "mul",
                "source": "a * b",
                "span": [0, 5],
                "operands": ["a", "b"],
                "output": "y",
                "value": [10.0, 15.0],
                "cotangent": {**vector, "value": [1.0, 10.0]},
                "norm": pytest.approx(101**0.5),
                "local_jacobians": [
                    {
                        "operand": "a",
                        "position": 0,
                        "shape": [2, 2],
                        "nnz": 2,
                        "structure": "diagonal",
                        "einsum": "j,ji->i",
                        "formula": "∂L/∂a_i = v_i · ∂y_i/∂a_i",
                    },
                    {
                        "operand": "b",
                        "position": 1,
                        "shape": [2],
                        "nnz": 2,
                        "structure": "dense",
                        "einsum": "i,i->",
                        "formula": "∂L/∂b = Σ_i v_i · ∂y_i/∂b",
                    },
                ],
                "contributions": [
                    {**vector, "operand": "a", "position": 0, "value": [5.0, 50.0]},
                    {**scalar, "operand": "b", "position": 1, "value": 32.0},
                ],
            }
        ],
        "output_values": {"y": "y"},
        "findings": [],
        "comparison": {"compared": 3, "not_finite": 0, "largest_difference": 0.0},
        "product": {"compared": 6, "not_finite": 0, "largest_difference": 0.0},
        "warnings": [],
    }


def test_the_documents_example():
    """The step of the contract, word for word, with its values filled in."""
    (step,) = json.loads(to_json(trace(Request("torch.outer(x,x)", {"x": "1,2,3,4"}))))["steps"]
    ones = np.ones((4, 4)).tolist()
    expected = {
        "index": 0, "op": "torch.outer", "source": "torch.outer(x,x)", "span": [0, 16], "operands": ["x", "x"],
        "output": "y", "shape": [4, 4],
    }  # fmt: skip
    assert expected.items() <= step.items()
    assert step["cotangent"] == {"shape": [4, 4], "dtype": "float32", "value": ones}
    for position, local in enumerate(step["local_jacobians"]):
        wanted = {"operand": "x", "position": position, "shape": [4, 4, 4], "nnz": 16, "structure": "sparse"}
        assert wanted.items() <= local.items()
    for position, passed in enumerate(step["contributions"]):
        assert {"operand": "x", "position": position, "shape": [4], "value": [10.0] * 4}.items() <= passed.items()


def test_steps_that_no_gradient_comes_by_say_null():
    document = json.loads(to_json(trace(Request("x*x.detach()", {"x": "1,2"}))))
    assert document["steps"][0]["cotangent"] is None
    assert document["steps"][0]["norm"] is None
    assert document["steps"][0]["contributions"] == []
    assert [(f["code"], f["step"]) for f in document["findings"]] == [("zero", 0)]


def test_only_an_opened_step_has_the_values_of_its_local_jacobians():
    request = Request("torch.sin(x)*x", {"x": "1,2"}, dtype="float64")
    steps = json.loads(to_json(trace(request, step=0)))["steps"]
    np.testing.assert_allclose(steps[0]["local_jacobians"][0]["value"], np.diag(np.cos([1.0, 2.0])))
    assert "value" not in steps[1]["local_jacobians"][0]


def test_values_have_names_of_their_own():
    """A name that is bound twice, a text that repeats, and what an in-place step gives are numbered; inputs are not."""
    text = "x = x*2; y = [x[i] for i in range(2)]; z = x.clone(); z[0] = y[1]; z"
    report = trace(Request(text, {"x": "1,2,3"}))
    names = [step.output for step in report.steps]
    assert names == ["x (2)", "x[i]", "x[i] (2)", "z", "z (2)"]
    assert report.output_values == {"z": "z (2)"}
    total = sum(part.value for step in report.steps for part in step.contributions if part.operand == "x")
    np.testing.assert_array_equal(total, report.vjp["x"].value)


def test_spans_count_characters():
    text = "ä = x*2; torch.sin(ä)"
    for step in trace(Request(text, {"x": "1,2"})).steps:
        assert text[slice(*step.span)] == step.source


# Graphviz


def parsed(dot):
    """(node id to label, edges as (from, to, label)) of a DOT text, every line of which must be one of the known forms."""
    lines = dot.splitlines()
    assert (lines[0], lines[-1]) == ("digraph trace {", "}")
    string = r'"((?:[^"\\]|\\.)*)"'
    nodes, edges = {}, []
    for line in lines[1:-1]:
        if re.fullmatch(r"  (graph|node|edge) \[.*\];", line):
            continue
        node = re.fullmatch(rf"  (\w+) \[(?:[\w=, ]*, )?label={string}(?:, \w+=\w+)*\];", line)
        edge = re.fullmatch(rf"  (\w+) -> (\w+) \[label={string}(?:, \w+=\w+)*\];", line)
        assert node or edge, line
        if edge:
            edges.append((edge[1], edge[2], edge[3]))
        else:
            nodes[node[1]] = node[2]
    return nodes, edges


def test_the_graph_has_shapes_on_its_edges():
    nodes, edges = parsed(to_dot(trace(REQUESTS["trace_outer"][0])))
    assert nodes == {
        "input_0": r"x\n(4,)",
        "step_0": r"0: torch.outer\ny = torch.outer(x, x)",
        "step_1": r"1: pow\nz = y**2",
        "output_0": r"z\n(4, 4)",
    }
    assert edges == [
        ("input_0", "step_0", "(4,), position 0"),
        ("input_0", "step_0", "(4,), position 1"),
        ("step_0", "step_1", "(4, 4)"),
        ("step_1", "output_0", "(4, 4)"),
    ]


@pytest.mark.parametrize("name", REQUESTS)
def test_every_edge_joins_nodes_that_are_there(name):
    report = trace(REQUESTS[name][0])
    nodes, edges = parsed(to_dot(report))
    assert all(source in nodes and target in nodes for source, target, _ in edges)
    assert len(nodes) == len(report.inputs) + len(report.steps) + len(report.outputs)
    for number in range(len(report.outputs)):
        assert [target for _, target, _ in edges].count(f"output_{number}") == 1


def test_text_cannot_break_out_of_the_graph():
    nasty = "torch.einsum('i,j->ij', x, x) if 'a\\\"];b' != 'c\\\\N' else x"
    report = trace(Request(nasty, {"x": "1,2"}))
    nodes, _ = parsed(to_dot(report))
    assert len(nodes) == 2 + len(report.steps)
    assert quoted('a"b\\', "c\nd\0") == '"a\\"b\\\\\\nc d\\\\x00"'


# Pieces


@pytest.mark.parametrize(
    ("norm", "largest", "cells"),
    [
        (1.0, 1.0, 8),
        (0.1, 1.0, 7),
        (1e-7, 1.0, 1),
        (1e-30, 1.0, 0.125),
        (0.0, 1.0, 0),
        (None, 1.0, 0),
        (50.0, 500.0, 7),
    ],
)
def test_bars(norm, largest, cells):
    drawn = bar(norm, largest)
    eighths = sum(dict(zip(" ▏▎▍▌▋▊▉█", range(9), strict=True))[cell] for cell in drawn)
    assert (len(drawn), eighths / 8) == (8, cells)


def test_bars_of_what_is_not_finite():
    assert bar(float("inf"), 1.0).endswith("▶")
    assert bar(float("nan"), 1.0).strip() == ""


@pytest.mark.parametrize(
    ("array", "room", "line"),
    [
        (np.array([1.0, 2.5]), 40, "[1., 2.5]"),
        (np.array([[1.0, 22.0], [3.0, 4.0]]), 40, "[[1., 22.], [3., 4.]]"),
        (np.arange(20.0), 20, "[0., 1., 2., 3., …"),
        (np.zeros((0, 3)), 40, "[]"),
        (np.array(3.0), 40, "3."),
        (None, 40, "(too large to be written out)"),
    ],
)
def test_array_lines(array, room, line):
    assert array_line(array, room) == line
    assert len(line) <= room


def test_long_texts_name_the_steps_in_them():
    request = Request("torch.sigmoid(torch.relu(x*3) + 1).mul(2).sub(torch.exp(x))", {"x": "1,2"})
    steps = trace(request).steps
    assert short_source(steps, steps[-1]) == "#4.sub(#5)"
    assert short_source(steps, steps[1]) == "torch.relu(x*3)"


@pytest.mark.parametrize(
    ("expression", "steps"), [("y = x; " + "y = y.sin(); " * 15 + "y", 15), ("y = x; " + "y = y.sin() * x; " * 40 + "y", 80)]
)
def test_many_steps_have_a_line_each_and_those_in_the_middle_one(expression, steps):
    request = Request(expression, {"x": "1,2"})
    text, full = text_of(request), text_of(request, full=True)
    assert len(text.splitlines()) <= 40
    assert len(full.splitlines()) > 3 * steps
    assert "--full every step" in text
    assert f"\n  {steps - 1:>2}  " in text
    between = [line.split() for line in text.splitlines() if "steps in between" in line]
    shown = [line for line in text.splitlines() if "‖v‖ = " in line]
    assert len(shown) + sum(int(words[1]) for words in between) == steps


def test_steps_of_large_tensors_have_a_line_each():
    small, large = (text_of(Request("(x.sin() * x).cumsum(0).exp().sqrt() + x", {"x": f"torch.ones({n})"})) for n in (4, 400))
    assert "Backward pass" in small
    assert "Backward pass" not in large
    assert len(large.splitlines()) <= 20 < len(small.splitlines())
