"""Reports hold plain values only: exactly the types that a strict encoder writes, never a subclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from jvpcli.answers import check as checking
from jvpcli.answers import inspect as inspecting
from jvpcli.answers import trace as tracing
from jvpcli.request import Request
from plain_values import strange

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_subclass_is_found():
    class Text(str):
        __slots__ = ()

    assert strange({"hints": ["a", Text("b")]}) == ["['hints'][1]: Text"]
    assert strange(torch.Size([2])) == [": Size"]
    assert strange((np.float32(1), {"a": [None, 2.0]})) == ["[0]: float32"]


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
@pytest.mark.parametrize("answer", [inspecting.inspect, tracing.trace, checking.check])
def test_reports(answer, expression, inputs):
    assert strange(answer(Request(expression, inputs=inputs))) == []
    assert strange(answer(Request(expression, inputs=inputs, dtype="float64", jacobian="sparse"))) == []
