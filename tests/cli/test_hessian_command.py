"""`jvp hessian` on the command line, in a batch, and to files."""

from __future__ import annotations

import json
import re

import numpy as np
import torch

OUTER = ("hessian", "torch.outer(x,x)", "--x", "1,2")


def test_the_whole_document(jvp):
    shown = jvp(*OUTER, "--dtype", "float64", "-t", "1,-1", "--json")
    assert (shown.code, shown.err) == (0, "")
    document = json.loads(shown.out)
    assert document.pop("plan")["strategy"] == "dense"
    assert abs(document["comparison"].pop("largest_difference")) < 1e-12
    values = document.pop("eigenvalues")
    assert abs(values.pop("least")) <= values.pop("rounding")
    assert abs(values.pop("greatest") - 4) < 1e-12
    assert values == {"exact": True}
    assert document == {
        "schema": 1,
        "ok": True,
        "expression": "torch.outer(x,x)",
        "inputs": {"x": {"shape": [2], "dtype": "float64", "device": "cpu", "differentiated": True, "value": [1, 2]}},
        "outputs": {"y": {"shape": [2, 2], "dtype": "float64", "value": [[1, 2], [2, 4]]}},
        "grad_outputs": {"y": {"source": "ones", "shape": [2, 2], "dtype": "float64", "value": [[1, 1], [1, 1]]}},
        "gradient": {"x": {"shape": [2], "dtype": "float64", "value": [6, 6]}},
        "hessian": {
            "x": {
                "x": {
                    "shape": [2, 2], "dtype": "float64", "nnz": 4, "structure": "dense", "structure_from": "values",
                    "format": "dense", "value": [[2, 2], [2, 2]],
                }
            }
        },
        "contraction": {
            "x": {
                "x": {
                    "einsum": "ij,j->i",
                    "formula": "(H u)_i = Σ_j ∂²L/∂x_i∂x_j · u_j",
                    "product": "Dense: every entry of x is coupled with every other.",
                    "entry": {
                        "label": "(H u)[0]",
                        "terms": [
                            {"label": "x[0]", "cotangent": 1, "derivative": 2},
                            {"label": "x[1]", "cotangent": -1, "derivative": 2},
                        ],
                        "hidden": 0,
                        "result": 0,
                    },
                }
            }
        },
        "symmetric": True,
        "definite": "positive_semi",
        "trace": {"value": 4},
        "comparison": {"compared": 2, "not_finite": 0},
        "notes": [],
        "warnings": [],
        "hvp": {"x": {"shape": [2], "dtype": "float64", "value": [0, 0]}},
        "tangent": {"x": {"source": "1,-1", "shape": [2], "dtype": "float64", "value": [1, -1]}},
    }  # fmt: skip


def test_a_batch_answers_it(jvp):
    line = {"id": 3, "command": "hessian", "expression": "(x**3).sum()", "inputs": {"x": [1, 2]}, "tangent": [1, 1]}
    answer = json.loads(jvp("batch", "-", stdin=json.dumps(line)).out)
    assert answer["id"] == 3
    assert answer["hvp"]["x"]["value"] == [6, 12]
    assert answer["definite"] == "positive"


def test_wrong_shapes_are_told_with_a_command_that_works(jvp):
    shown = jvp(*OUTER, "-t", "1,2,3", "--json")
    error = json.loads(shown.out)["error"]
    assert (shown.code, error["code"], error["expected"], error["got"]) == (4, "shape_mismatch", [2], [3])
    commands = [hint for hint in error["hints"] if hint.startswith("jvp ")]
    assert commands
    assert all(hint.startswith("jvp hessian ") for hint in commands)


def test_what_has_no_gradient_has_no_hessian(jvp):
    assert jvp("hessian", "x > 0", "--x", "1").code == 6
    assert jvp("hessian", "x * x", "--x", "1+2j").code == 2
    shown = jvp("hessian", "torch.cdist(x, x)", "--x", "1,2;3,5")
    assert shown.code == 5
    assert "_cdist_backward" in shown.err


def test_a_warning_stands_on_stderr(jvp):
    shown = jvp("hessian", "torch.relu(x)", "--x", "0,1")
    assert shown.code == 0
    assert shown.err.startswith("warning (kink): there is a kink at x[0] = 0")
    assert jvp("hessian", "torch.relu(x)", "--x", "0,1", "--quiet").err == ""


def test_it_is_saved_by_its_blocks(jvp, tmp_path):
    target = tmp_path / "h.npz"
    assert jvp("hessian", "(x**3).sum() + x @ w", "--x", "1,2", "--w", "3,4", "--save", str(target)).code == 0
    saved = np.load(target)
    assert saved["x/x/data"].tolist() == [6, 12]
    assert saved["x/w/data"].tolist() == [1, 1]
    alone = tmp_path / "h.npy"
    assert jvp(*OUTER, "--save", str(alone)).code == 0
    assert np.load(alone).tolist() == [[2, 2], [2, 2]]


def test_a_module_s_parameters(jvp, tmp_path):
    (tmp_path / "model.py").write_text("import torch\ntorch.manual_seed(0)\nnet = torch.nn.Linear(2, 1)\n")
    path, wrt = str(tmp_path / "model.py"), "net.weight,net.bias"
    shown = jvp("hessian", "net(x)**2", "--import", path, "--x", "1,2", "--wrt", wrt, "--json")
    blocks = json.loads(shown.out)["hessian"]
    x = torch.tensor([1.0, 2.0])
    assert blocks["net.weight"]["net.weight"]["value"] == (2 * x[:, None] * x).reshape(1, 2, 1, 2).tolist()
    assert blocks["net.weight"]["net.bias"]["value"] == (2 * x).reshape(1, 2, 1).tolist()


def test_pictures_of_it(jvp, tmp_path):
    target, plot = tmp_path / "h.html", tmp_path / "h.svg"
    shown = jvp("hessian", "(x**3).sum()", "--x", "1,2", "--html", str(target), "--heatmap", "--quiet")
    assert shown.code == 0
    assert "∂(∂L/∂x)/∂x" in shown.out
    assert "<title>(x**3).sum() · jvp hessian</title>" in target.read_text()
    assert "is not multiplied with anything: no direction u was given" in target.read_text()
    assert jvp("hessian", "x**3", "--x", "1", "--heatmap", "--json").code == 2
    assert jvp("hessian", "(x**3).sum()", "--x", "1,2", "-t", "1,0", "--html", str(target), "--plot", str(plot)).code == 0
    page = target.read_text()
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)))
    assert "M = ⟨u, ∂L/∂x⟩: its gradient is the Hessian-vector product H u." in shown
    assert 'alttext="(H u)_i = Σ_j ∂²L/∂x_i∂x_j · u_j"' in page
    assert "∂M/∂x = [6., 0.]" in shown
    assert "H is positive definite: L curves upwards in every direction its eigenvalues from 6 to 12 its trace 18" in shown
    assert "cotangent" not in shown
    assert plot.stat().st_size > 1000


def test_eigenvalues_that_no_number_tells(jvp):
    shown = jvp("hessian", "torch.norm(x)", "--x", "0,0")
    assert "its eigenvalues: not known, since entries of H are not finite" in shown.out
