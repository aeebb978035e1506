"""`jvp inspect` at the door: forms of inputs, streams, exit codes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

OUTER = ("inspect", "torch.outer(x,x)", "--x", "1,2,3,4")


def document(outcome, code=0):
    assert outcome.code == code, outcome
    assert outcome.err == ""
    assert outcome.out.endswith("\n")
    assert outcome.out.count("\n") == 1
    return json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))


def answer(jvp, *argv, **rest):
    return document(jvp("inspect", *argv, "--json", **rest))


def test_the_example(jvp):
    result = answer(jvp, *OUTER[1:])
    assert result["vjp"]["x"]["value"] == [20.0, 20.0, 20.0, 20.0]
    assert result["jacobian"]["y"]["x"]["shape"] == [4, 4, 4]
    assert result["jacobian"]["y"]["x"]["nnz"] == 28
    assert answer(jvp, *OUTER[1:], "--grad-outputs", "onehot:1,2")["vjp"]["x"]["value"] == [0, 3, 2, 0]
    pushed = answer(jvp, *OUTER[1:], "--tangent", "ones")["jvp"]["y"]["value"]
    assert pushed == [[i + j for j in range(1, 5)] for i in range(1, 5)]


def test_the_whole_document(jvp):
    """∂(a·b)/∂a = b and ∂(a·b)/∂b = a, written out by hand."""
    result = answer(jvp, "a * b", "--a", "2,3", "--b", "5", "--dtype", "float64", "-g", "1,10")
    assert result == {
        "schema": 1,
        "ok": True,
        "expression": "a * b",
        "inputs": {
            "a": {"shape": [2], "dtype": "float64", "device": "cpu", "differentiated": True, "value": [2.0, 3.0]},
            "b": {"shape": [], "dtype": "float64", "device": "cpu", "differentiated": True, "value": 5.0},
        },
        "outputs": {"y": {"shape": [2], "dtype": "float64", "value": [10.0, 15.0]}},
        "grad_outputs": {"y": {"source": "1,10", "shape": [2], "dtype": "float64", "value": [1.0, 10.0]}},
        "jacobian": {
            "y": {
                "a": {
                    "shape": [2, 2], "dtype": "float64", "nnz": 2, "structure": "diagonal", "structure_from": "values",
                    "format": "dense", "value": [[5.0, 0.0], [0.0, 5.0]],
                },
                "b": {
                    "shape": [2], "dtype": "float64", "nnz": 2, "structure": "dense", "structure_from": "values",
                    "format": "dense", "value": [2.0, 3.0],
                },
            }
        },
        "vjp": {
            "a": {"shape": [2], "dtype": "float64", "value": [5.0, 50.0]},
            "b": {"shape": [], "dtype": "float64", "value": 32.0},
        },
        "contraction": result["contraction"],
        "comparison": {"compared": 3, "not_finite": 0, "largest_difference": 0.0},
        "plan": {
            "mode": "reverse", "passes": 2, "peak_bytes": 96,
            "reason": "one pass a row: 2 output entries against 3 input entries", "strategy": "dense",
        },
        "warnings": [],
    }  # fmt: skip
    contraction = result["contraction"]["y"]["a"]
    assert contraction["einsum"] == "j,ji->i"
    assert contraction["formula"] == "∂L/∂a_i = Σ_j v_j · ∂y_j/∂a_i"
    assert contraction["entry"] == {
        "label": "∂L/∂a[0]",
        "terms": [{"label": "y[0]", "cotangent": 1.0, "derivative": 5.0}],
        "hidden": 0,
        "result": 5.0,
    }


def test_several_inputs_and_outputs(jvp):
    result = answer(jvp, "torch.nn.functional.linear(x, W, b)", "--x", "1,2,3", "--W", "1,0,2;0,1,1", "--b", "0,1")
    assert {name: j["shape"] for name, j in result["jacobian"]["y"].items()} == {
        "x": [2, 3],
        "W": [2, 2, 3],
        "b": [2, 2],
    }
    result = answer(jvp, "(x.sum(), torch.outer(x,w))", "--x", "1,2", "--w", "3,4,5", "-g", "2", "-g", "ones")
    assert result["vjp"]["x"]["value"] == [14.0, 14.0]
    assert result["vjp"]["w"]["value"] == [3.0, 3.0, 3.0]
    assert [w["code"] for w in result["warnings"]] == ["unused_input"]
    result = answer(jvp, "(x.sum(), x*2)", "--x", "1,2", "-g", "y1=1,10", "-g", "y0=none")
    assert result["vjp"]["x"]["value"] == [2.0, 20.0]
    assert list(result["grad_outputs"]) == ["y1"]


@pytest.mark.parametrize(
    ("argv", "names", "vjp"),
    [
        (["x*y", "--x", "2", "--y", "3,4"], ["out"], {"x": 7.0, "y": [2.0, 2.0]}),
        (["(x*y0, x)", "--x", "2", "--y0", "3"], ["y0_"], None),
        (["y = torch.outer(x, x); z = y**2; z", "--x", "1,2"], ["z"], {"x": [20.0, 40.0]}),
        (["-x", "--x=-1,2"], ["y"], {"x": [-1.0, -1.0]}),
        (["x*2", "--x", "[]"], ["y"], {"x": []}),
        (["x*2", "--x", "3"], ["y"], {"x": 2.0}),
        (["x*2", "--x", "3,"], ["y"], {"x": [2.0]}),
        (["(json*seed).sum()", "-i", "json=1,2", "-i", "seed=3,4"], ["y"], {"json": [3.0, 4.0], "seed": [1.0, 2.0]}),
        (["x*w", "--x", "1,2", "--w", "torch.ones_like(x)*3"], ["y"], {"x": [3.0, 3.0], "w": [1.0, 2.0]}),
        (["x*m", "--x", "1,2", "--m", "torch.tensor([1,0])"], ["y"], {"x": [1.0, 0.0]}),
        (["x*w", "--x", "1,2", "--w", "3,4", "--wrt", "w"], ["y"], {"w": [1.0, 2.0]}),
    ],
)
def test_forms(jvp, argv, names, vjp):
    if vjp is None:  # an input has the name of an output
        names = ["out0", "out1"]
    result = answer(jvp, *argv)
    assert list(result["outputs"]) == names
    if vjp is not None:
        assert {name: entry["value"] for name, entry in result["vjp"].items()} == vjp


def test_files_and_stdin(jvp, tmp_path):
    array = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", w=array, other=array + 1)
    torch.save(torch.as_tensor(array), tmp_path / "a.pt")
    (tmp_path / "a.json").write_text("[[1,2],[3,4]]")
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    for reference in ("a.npy", "a.npz:w", "a.pt", "a.json", "a.csv"):
        result = answer(jvp, "x.sum()", "--x", f"@{tmp_path / reference}")
        assert result["inputs"]["x"]["value"] == [[1, 2], [3, 4]]
    result = answer(jvp, "torch.linalg.inv(x)", "--x", "-", stdin="[[1,2],[3,4]]\n")
    assert result["jacobian"]["y"]["x"]["shape"] == [2, 2, 2, 2]


def test_nonfinite_numbers_are_words(jvp):
    result = answer(jvp, "x*2", "--x", "nan,inf,-inf,1")
    assert result["inputs"]["x"]["value"] == ["NaN", "Infinity", "-Infinity", 1.0]
    assert [w["code"] for w in result["warnings"]] == ["nonfinite"]


def test_complex_follows_pytorch(jvp):
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    for expression, y in (("z**2", z**2), ("z*z.conj()", z * z.conj()), ("z.abs()", z.abs())):
        v = torch.full_like(y, 0.5 + 0.25j if y.is_complex() else 0.5)
        (expected,) = torch.autograd.grad(y, z, v, retain_graph=True)
        g = "0.5+0.25j,0.5+0.25j" if y.is_complex() else "0.5,0.5"
        result = answer(jvp, expression, "--z", "1+2j,3-1j", "-g", g)
        found = torch.view_as_complex(torch.tensor(result["vjp"]["z"]["value"]))
        torch.testing.assert_close(found, expected)
        assert result["inputs"]["z"]["dtype"] == "complex64"
        assert "PyTorch's grad" in result["contraction"]["y"]["z"]["product"]


@pytest.mark.parametrize(
    ("argv", "codes"),
    [
        (["torch.relu(x)", "--x=-1,0,2"], ["kink"]),
        (["x.abs()", "--x", "0"], ["kink"]),
        (["x.max()", "--x", "1,2,2"], ["kink"]),
        (["torch.clamp(x, 0, 1)", "--x", "1,0.5"], ["kink"]),
        (["torch.relu(x - 1).sum()", "--x", "1"], ["kink"]),
        (["torch.relu(x)", "--x=-1,1e-3,2"], []),
        (["1/x", "--x", "1e-6,3"], []),
        (["x**2", "--x", "0,0"], []),
        (["torch.exp(x)", "--x", "30"], []),
        (["x.detach()*w", "--x", "1,2", "--w", "3"], ["graph_break"]),
        (["(x*2, w*2)", "--x", "1", "--w", "1"], ["unused_input", "unused_input"]),
        (["torch.sqrt(x)", "--x", "0,1"], ["nonfinite", "nonfinite"]),  # and one of 0·∞ in PyTorch's own passes
        (["x.max(0)", "--x", "1,2"], ["graph_break"]),
    ],
)
def test_warnings(jvp, argv, codes):
    assert [w["code"] for w in answer(jvp, *argv)["warnings"]] == codes
    plain = jvp("inspect", *argv)
    assert [line.split(")")[0] for line in plain.err.splitlines()] == [f"warning ({code}" for code in codes]
    assert jvp("inspect", *argv, "--quiet").err == ""


@pytest.mark.parametrize(
    ("code", "name", "argv"),
    [
        (2, "usage", ["inspect", "x*2", "--x", "1", "--jsn", "1"]),
        (2, "usage", ["inspect"]),
        (2, "usage", ["inspekt"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--mode", "sideways"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--seed", "one"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--memory-limit", "much"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--memory-limit", "1e400"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--timeout", "-1"]),
        (2, "usage", ["inspect", "x*2", "--x", "1", "--w", "2"]),
        (2, "usage", ["inspect", "x", "--x", "1", "--wrt", "w"]),
        (2, "usage", ["inspect", "x", "--x", "1", "-g", "z=1"]),
        (2, "bad_value", ["inspect", "x", "--x", "1,,2"]),
        (2, "bad_value", ["inspect", "x", "--x", "1", "--dtype", "float31"]),
        (2, "file", ["inspect", "x", "--x", "@missing.npy"]),
        (3, "syntax", ["inspect", "x +", "--x", "1"]),
        (3, "forbidden", ["inspect", "x.__class__", "--x", "1"]),
        (3, "unknown_name", ["inspect", "torch.sinn(x)", "--x", "1"]),
        (3, "unknown_name", ["inspect", "x*y", "--x", "1"]),
        (4, "shape_mismatch", [*OUTER, "-g", "1,1,1,1"]),
        (4, "shape_mismatch", [*OUTER, "-t", "1"]),
        (4, "shape_mismatch", ["inspect", "x@w", "--x", "1,2,3", "--w", "1,2;3,4"]),
        (5, "evaluation", ["inspect", "torch.linalg.inv(x)", "--x", "1,2;2,4"]),
        (6, "not_differentiable", ["inspect", "x.detach()", "--x", "1"]),
        (6, "not_differentiable", ["inspect", "x.item()", "--x", "1"]),
        (6, "not_differentiable", ["inspect", "x > 0", "--x", "1"]),
        (6, "not_differentiable", ["inspect", "torch.ones(3)"]),
        (6, "not_differentiable", ["inspect", "x*2", "--x", "torch.tensor([1])"]),
        (7, "limit", ["inspect", "x.repeat(10**13)", "--x", "1"]),
    ],
)
def test_every_failure_is_a_document_or_a_panel(jvp, code, name, argv):
    error = document(jvp(*argv, "--json"), code)
    assert error["ok"] is False
    assert error["schema"] == 1
    assert error["error"]["code"] == name
    assert set(error["error"]) == {
        "code", "message", "explanation", "hints", "span", "expected", "got", "torch_message", "operands",
        "causes", "cures",
    }  # fmt: skip
    plain = jvp(*argv)
    assert (plain.code, plain.out) == (code, "")
    assert "Traceback" not in plain.err
    assert len(plain.err) > 20


def test_the_suggested_command_runs(shell):
    failed = shell("jvp inspect 'torch.outer(x,x)' --x 1,2,3,4 -g 1,1,1,1")
    assert failed.code == 4
    commands = [line.split(":", 1)[1].strip() for line in failed.err.splitlines() if line.startswith(("Try:", "or:"))]
    assert len(commands) == 2
    for command in commands:
        assert shell(command).code == 0


def test_streams(shell):
    assert "20., 20., 20., 20." in shell("jvp inspect 'torch.outer(x,x)' --x 1,2,3,4").out
    closed = shell("jvp inspect 'torch.outer(x,x)' --x 1,2,3,4 --full | head -1")
    assert (closed.code, closed.err, closed.out) == (0, "", "torch.outer(x,x)\n")
    full = shell("jvp inspect 'x*2' --x 1 --json > /dev/full")
    assert full.code == 2
    assert "cannot be written" in full.err
    assert shell("echo '[1,2]' | jvp inspect 'x*x' --x - --json").code == 0


@pytest.mark.skipif(not __import__("shutil").which("jq"), reason="jq is not installed")
def test_jq(shell):
    run = shell("jvp inspect 'torch.outer(x,x)' --x 1,2,3,4 --json | jq -c .vjp.x.value")
    assert (run.code, json.loads(run.out)) == (0, [20, 20, 20, 20])  # jq 1.6 prints 20, 1.7 prints 20.0


def test_colour_only_where_it_is_wanted(jvp):
    assert "\x1b[" not in jvp(*OUTER).out
    assert "\x1b[" in jvp(*OUTER, FORCE_COLOR="1").out
    assert "\x1b[" not in jvp(*OUTER, FORCE_COLOR="1", TERM="dumb").out
    assert "\x1b[3" not in jvp(*OUTER, FORCE_COLOR="1", NO_COLOR="1").out


def test_a_terminal_without_unicode_gets_ascii(jvp):
    text = jvp(*OUTER, encoding="ascii").out
    assert "dL/dx_i = sum_jk v_jk * dy_jk/dx_i" in text
    failed = jvp(*OUTER, "-g", "1", encoding="ascii")
    assert failed.err.isascii()


def test_a_pipe_is_not_cut_and_columns_is_obeyed(jvp):
    wide = jvp("inspect", "x*x", "--x", "torch.arange(14.)*1234567").out
    assert max(map(len, wide.splitlines())) > 120
    narrow = jvp("inspect", "x*x", "--x", "torch.arange(14.)*1234567", COLUMNS="70").out
    assert max(map(len, narrow.splitlines())) <= 70


def test_python_dash_m(shell):
    assert shell("python -m jvpcli --version").out == shell("jvp --version").out


def test_math_is_there(jvp):
    assert math.isclose(answer(jvp, "math.pi*x", "--x", "1")["vjp"]["x"]["value"], math.pi, rel_tol=1e-6)


@pytest.mark.parametrize("words", [["inspect", "x", "--x", "-"], ["inspect", "-", "--x", "1"], ["trace", "x", "--x", "-"]])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_standard_input_that_is_no_text(words: list[str], errors: str) -> None:
    """Whether Python would refuse such bytes or let them through: a sentence, and the code of what can't be read."""
    done = subprocess.run(
        [sys.executable, "-m", "jvpcli", *words, "--json"], input=b"1,\xff\n", capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": f"utf-8:{errors}"},
    )  # fmt: skip
    assert done.returncode in (2, 3), done.stdout
    assert json.loads(done.stdout)["error"]["code"] in ("bad_value", "syntax")
    assert errors != "strict" or b"byte 2" in done.stdout


def test_an_input_called_v_is_told_from_the_weights(jvp):
    shown = jvp("inspect", "v * v", "--v", "1,2", "--grad-outputs", "3,4")
    assert "v is the name of an input, too: a derivative by v is by the input, and any other v below is grad_outputs" in " ".join(
        shown.out.split()
    )
    assert "∂L/∂v = [ 6., 16.]" in shown.out
    assert "name of an input, too" not in jvp("inspect", "x * x", "--x", "1,2").out


def test_numbers_as_python_writes_them(jvp):
    shown = jvp("inspect", "x * x", "--x", "[[1., 2.], [3.5, -4.]]", "--json")
    assert json.loads(shown.out)["vjp"]["x"]["value"] == [[2, 4], [7, -8]]
