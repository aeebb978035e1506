"""Warnings of what torch is silent about: they come where they are true, and nowhere else."""

from __future__ import annotations

import pytest
import torch

import jvpcli
from many_functions import FUNCTIONS, inputs_for

MODEL = """
from torch import nn
training = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
evaluating = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()


def inside(x):
    return x * x.detach()
"""

WARNED = [
    # expression, inputs, the codes, words of the first warning
    ("x * x.detach()", {"x": "1,2"}, ["graph_break"], "`x.detach()` cuts the graph"),
    ("x * x.sum().item()", {"x": "1,2"}, ["graph_break"], "`x.sum().item()` cuts the graph"),
    ("x * float(x[0])", {"x": "1,2"}, ["graph_break"], "`float(x[0])` cuts the graph"),
    ("x * torch.tensor([x[0], x[1]])", {"x": "1,2"}, ["graph_break"], "`torch.tensor([x[0], x[1]])` cuts the graph"),
    ("x.long() * x", {"x": "1.5,2.5"}, ["graph_break"], "`x.long()` is a staircase"),
    ("torch.round(x) + x", {"x": "1.2,2.7"}, ["graph_break"], "`torch.round(x)` is a staircase"),
    ("torch.where(x > 0, torch.sqrt(x), 0 * x)", {"x": "-1,1"}, ["nonfinite"] * 4, "makes a NaN of the gradient"),
    ("F.batch_norm(x, None, None, training=True)", {"x": "1,2;3,5;2,7"}, ["coupled"], "the samples of the batch are coupled"),
    ("training(x)", {"x": "1,2;3,5;2,7"}, ["coupled"], "training.eval()"),
    ("inside(x)", {"x": "1,2"}, ["graph_break"], "line 8) cuts the graph"),
    ("torch.relu(x)", {"x": "0,1"}, ["kink"], "x[0] = 0"),
    ("torch.abs(x) + 1000", {"x": "0,1"}, ["kink"], "x[0] = 0"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "model.py"
    path.write_text(MODEL)
    return str(path)


def warnings_of(expression, inputs, model, **options):
    own = any(expression.startswith(name) for name in ("training", "evaluating", "inside"))
    return jvpcli.inspect(expression, inputs, imports=[model] if own else (), **options).report.warnings


@pytest.mark.parametrize(("expression", "inputs", "codes", "words"), WARNED)
def test_what_is_lost_is_told(model, expression, inputs, codes, words):
    found = warnings_of(expression, inputs, model)
    assert [notice.code for notice in found if notice.code != "fallback"] == codes
    assert words in next(notice.message for notice in found if notice.code == codes[0])


@pytest.mark.parametrize(
    ("expression", "inputs"),
    [
        ("F.softmax(x - x.max().detach(), 0)", {"x": "1,2,3"}),
        ("x * (x > 0)", {"x": "1,-2"}),
        ("x[x.argmax()]", {"x": "1,3,2"}),
        ("x - torch.floor(x)", {"x": "1.2,2.7"}),
        ("x / x.shape[0] * len(x)", {"x": "1,3,2"}),
        ("F.batch_norm(x, torch.zeros(2), torch.ones(2))", {"x": "1,2;3,5;2,7"}),
        ("F.batch_norm(x, None, None, training=True)", {"x": "[[[1,2],[3,5]]]"}),
        ("evaluating(x)", {"x": "1,2;3,5;2,7"}),
        ("F.softmax(x @ W, 0)", {"x": "1,2;3,5", "W": "1,2;3,4"}),
        ("F.layer_norm(x, (2,))", {"x": "1,2;3,5;2,7"}),
        ("torch.corrcoef(x)", {"x": "1,2;-0.6,5"}),
        ("F.normalize(x, p=1.2, dim=0)", {"x": "-0.536332"}),
        ("torch.relu(x) ** 2", {"x": "0,1"}),
    ],
)
def test_nothing_is_said_where_nothing_is_lost(model, expression, inputs):
    assert warnings_of(expression, inputs, model) == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_no_warning_on_ordinary_expressions(dtype):
    for expression, shapes in FUNCTIONS:
        text = expression if dtype is torch.float64 else expression.replace("float64", "float32")
        found = jvpcli.inspect(text, {name: x.to(dtype) for name, x in inputs_for(shapes).items()}).report.warnings
        assert [notice for notice in found if notice.code != "unused_input"] == [], expression
