"""Models as in their papers: through `--import` and through Python, against torch's own transforms in double precision."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from benchmarks.models import zoo
from benchmarks.models.cases import FILE, make_cases

import jvpcli
from jvpcli.cli.app import run
from jvpcli.cli.context import Context

CASES = {case.name: case for case in make_cases()}
SAME = {"rtol": 1e-9, "atol": 1e-12}


def answered(*argv):
    """The document that the command line prints; it is as large as the Jacobian, and other tests hold it against the schema."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    run(argv, Context(io.StringIO(), out, err, {}))
    out.flush()
    return json.loads(out.buffer.getvalue())


def expected(case):
    """By what is differentiated the Jacobian that `torch.func` gives."""
    return dict(zip(case.structure, torch.func.jacrev(case.plain, tuple(range(len(case.values))))(*case.values), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_by_import(tmp_path, name):
    case = CASES[name]
    words = []
    for key, value in case.inputs.items():
        np.save(tmp_path / f"{key}.npy", value.numpy())
        words += [f"--{key}", f"@{tmp_path / key}.npy"]
    document = answered("inspect", case.expression, "--import", FILE, *words, "--wrt", ",".join(case.structure), "--json")
    assert document["ok"], document
    (jacobians,) = document["jacobian"].values()
    (y,) = document["jacobian"]
    assert {x: entry["structure"] for x, entry in jacobians.items()} == dict(case.structure)
    for x, jacobian in expected(case).items():
        v = torch.tensor(document["grad_outputs"][y]["value"], dtype=torch.float64)
        rows = jacobian.reshape(v.numel(), -1)
        gradient = torch.tensor(document["vjp"][x]["value"], dtype=torch.float64)
        torch.testing.assert_close(gradient.reshape(-1), v.reshape(-1) @ rows, **SAME)
        assert jacobians[x]["nnz"] >= int((rows.abs() > 1e-12).sum())
        if jacobians[x]["format"] == "dense":
            torch.testing.assert_close(torch.tensor(jacobians[x]["value"], dtype=torch.float64), jacobian, **SAME)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_by_python(name):
    case = CASES[name]
    before = {key: x.clone() for key, x in zoo.normed.state_dict().items()}
    if set(case.structure) <= set(case.inputs):
        result = jvpcli.inspect(case.function, dict(case.inputs), wrt=list(case.structure))
        found = dict(zip(case.structure, result.jacobian.items(), strict=True))
        structures = {x: result.report.jacobian[y][x].structure for y, x in result.jacobian}
        assert structures == dict(case.structure)
    else:
        result = jvpcli.inspect(case.expression, dict(case.inputs), imports=FILE, wrt=list(case.structure))
        found = dict(zip(case.structure, result.jacobian.items(), strict=True))
    for x, jacobian in expected(case).items():
        torch.testing.assert_close(found[x][1], jacobian, **SAME)
    assert len(str(result).splitlines()) < 60
    assert all(torch.equal(x, before[key]) for key, x in zoo.normed.state_dict().items())


def test_named_outputs_of_an_object():
    """A model that gives an object has an output for each of its tensors."""
    x = CASES["an object of outputs"].inputs["x"]
    result = jvpcli.inspect(zoo.described, x=x)
    torch.testing.assert_close(result.jacobian["out.logits", "x"], torch.func.jacrev(zoo.small)(x), **SAME)
    torch.testing.assert_close(result.jacobian["out.hidden", "x"], torch.func.jacrev(zoo.small[:2])(x), **SAME)


def test_tied_words_of_a_gpt(tmp_path):
    """The head is the table of the words: one parameter by two names."""
    np.save(tmp_path / "e.npy", CASES["GPT"].inputs["x"].numpy())
    words = ("--import", FILE, "--e", f"@{tmp_path}/e.npy", "--wrt", "gpt.table.weight,gpt.head.weight", "--json")
    document = answered("inspect", "gpt(e)", *words)
    assert [notice["code"] for notice in document["warnings"]] == ["tied"]
    assert list(document["vjp"]) == ["gpt.table.weight"]
