"""Reports and errors hold plain values only: exactly the types that a strict encoder writes, never a subclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from raised_messages import RAISED
from test_messages import message_of
from test_operands import explained, tensors
from worded_messages import WORDINGS
from wrong_shapes import WRONG

from jvpcli import pipeline, pipeline_check, pipeline_trace
from jvpcli.errors import JvpError
from jvpcli.explain.messages import lookup
from jvpcli.render.json import error_to_json
from jvpcli.request import Request

pytestmark = pytest.mark.filterwarnings("ignore")

PLAIN = (str, int, float, complex, bool, type(None), np.ndarray)
NESTED = (tuple, list, dict, MappingProxyType)


def strange(value: Any, place: str = "") -> list[str]:
    """The places in a report or an error's document where something stands that is no plain value."""
    kind = type(value)
    if kind in PLAIN:
        return []
    if kind in (dict, MappingProxyType):
        return [at for key, part in value.items() for at in strange(key, place) + strange(part, f"{place}[{key!r}]")]
    if kind in NESTED:
        return [at for index, part in enumerate(value) for at in strange(part, f"{place}[{index}]")]
    if is_dataclass(kind):
        return [at for field in fields(value) for at in strange(getattr(value, field.name), f"{place}.{field.name}")]
    return [f"{place}: {kind.__name__}"]


def refused(request: Request) -> JvpError:
    with pytest.raises(JvpError) as caught:
        pipeline.inspect(request)
    return caught.value


def test_a_subclass_is_found():
    class Text(str):
        __slots__ = ()

    assert strange({"hints": ["a", Text("b")]}) == ["['hints'][1]: Text"]
    assert strange(torch.Size([2])) == [": Size"]
    assert strange((np.float32(1), {"a": [None, 2.0]})) == ["[0]: float32"]


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


@pytest.mark.parametrize(
    "message",
    [*(code for _, _, code in RAISED), *(message for _, message in WORDINGS)],
    ids=lambda text: text[:40].replace("\n", " "),
)
def test_the_catalogue_of_messages(message):
    raised = message in {code for _, _, code in RAISED}
    found = lookup(message_of(message) if raised else message)
    assert found is not None
    assert strange(found) == []


REPORTS: list[tuple[str, Mapping[str, Any]]] = [
    ("torch.outer(x, x)", {"x": [1.0, 2.0, 3.0, 4.0]}),
    ("x.sum()", {"x": []}),
    ("(x * W).sum(0), x.max(), x.detach()", {"x": [1.0, 2.0], "W": [[1.0, 2.0], [3.0, 4.0]]}),
    ("torch.linalg.svd(W)[1]", {"W": [[1.0, 2.0, 0.0], [3.0, 4.0, 1.0]]}),
    ("torch.fft.rfft(x)", {"x": [1.0, 2.0, 3.0, 4.0]}),
    ("torch.relu(x) / x", {"x": [0.0, 1.0, -1.0]}),
    ("x.repeat(20) * torch.arange(80.)", {"x": [1.0, 2.0, 3.0, 4.0]}),
    ("F.softmax(x, 0).to(torch.bfloat16)", {"x": [1.0, 2.0, 3.0, 4.0]}),
]


@pytest.mark.parametrize(("expression", "inputs"), REPORTS, ids=[expression for expression, _ in REPORTS])
@pytest.mark.parametrize("answer", [pipeline.inspect, pipeline_trace.trace, pipeline_check.check])
def test_reports(answer, expression, inputs):
    assert strange(answer(Request(expression, inputs=inputs))) == []
    assert strange(answer(Request(expression, inputs=inputs, dtype="float64", jacobian="sparse"))) == []
