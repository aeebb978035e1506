"""Errors with repairs hold plain values only: a hint that leaves entries out is a string like any other."""

from __future__ import annotations

import orjson
import pytest
import torch
from explained_errors import explained, tensors
from wrong_shapes import WRONG

from jvpcli.answers import inspect as inspecting
from jvpcli.errors import JvpError
from jvpcli.render.json import error_to_json
from jvpcli.request import Request
from plain_values import strange

pytestmark = pytest.mark.filterwarnings("ignore")


def refused(request: Request) -> JvpError:
    with pytest.raises(JvpError) as caught:
        inspecting.inspect(request)
    return caught.value


@pytest.mark.parametrize(("source", "described", "guilty", "says"), WRONG, ids=[f"{w[0]} {w[1]}" for w in WRONG])
def test_errors_of_wrong_shapes(source, described, guilty, says):
    """With the repairs as they are found, and as the commands that the pipeline makes of them."""
    inputs = tensors(described)
    for error in (explained(source, inputs), refused(Request(source, inputs=inputs))):
        assert strange(error.to_dict()) == []
        document = orjson.loads(orjson.dumps(dict(error.to_dict()), option=orjson.OPT_PASSTHROUGH_SUBCLASS))
        assert orjson.loads(error_to_json(error))["error"] == document


DROPPED = [
    ("F.embedding(torch.tensor([0, 1, 2]), x.reshape(2, 2))", {"x": (4,)}),
    ("torch.cholesky_solve(b, L)", {"b": (4, 2), "L": (3, 3)}),
    ("torch.ormqr(a, t, c)", {"a": (3, 3), "t": (3,), "c": (4, 4)}),
    ("torch.linalg.solve_triangular(A, b, upper=True)", {"A": (3, 3), "b": (4, 2)}),
    ("x.scatter(0, torch.zeros(5, 2, dtype=torch.int64), s)", {"x": (3, 2), "s": (4, 2)}),
    ("x.index_put((torch.tensor([0, 1]),), s)", {"x": (3,), "s": (3,)}),
    ("F.conv1d(x, w)", {"x": (1, 5, 4), "w": (2, 3, 2)}),
    ("torch.stack([x, w])", {"x": (5,), "w": (7,)}),
]
"""Failures that some repair mends by leaving entries out."""


@pytest.mark.parametrize(("source", "shapes"), DROPPED)
def test_errors_whose_repair_leaves_entries_out(source, shapes):
    inputs = {name: torch.rand(shape) for name, shape in shapes.items()}
    error = refused(Request(source, inputs=inputs))
    assert error.hints
    assert strange(error.to_dict()) == []
    assert orjson.loads(error_to_json(error))["error"]["hints"] == list(error.hints)
