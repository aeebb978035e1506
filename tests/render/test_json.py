"""Reports to strict JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jvpcli.errors import ShapeMismatchError
from jvpcli.render.json import error_to_json, to_dict, to_json


@dataclass(frozen=True)
class Box:
    value: object
    reason: str | None = None


def refuse(word):
    raise AssertionError(f"{word} is not strict JSON")


def parse(document: bytes):
    return json.loads(document, parse_constant=refuse)


def back(item):
    """Nested lists with the contract's words back to floats."""
    if isinstance(item, list):
        return [back(part) for part in item]
    return (
        {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(item, item)
        if isinstance(item, str)
        else item
    )


@given(arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
def test_doubles_come_back_bit_for_bit(array):
    value = np.array(back(parse(to_json(Box(array)))["value"]), dtype=np.float64).reshape(array.shape)
    np.testing.assert_array_equal(value, array)


@given(arrays(np.float32, array_shapes(max_dims=2, max_side=4), elements=st.floats(width=32)))
def test_singles_come_back_bit_for_bit(array):
    np.testing.assert_array_equal(np.array(back(to_dict(Box(array))["value"]), dtype=np.float32), array)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.array(3), "3"),
        (np.array([[True, False]]), "[[true,false]]"),
        (np.array([1, math.nan, math.inf, -math.inf]), '[1.0,"NaN","Infinity","-Infinity"]'),
        (np.array(math.nan, dtype=np.float32), '"NaN"'),
        (np.array([1 + 2j]), "[[1.0,2.0]]"),
        (np.array(complex(math.nan, 0)), '["NaN",0.0]'),
        (np.zeros((0, 3)), "[]"),
        (np.zeros((2, 0)), "[[],[]]"),
        (np.arange(4.0).reshape(2, 2).T, "[[0.0,2.0],[1.0,3.0]]"),
        (np.ones(2, dtype=np.float16), "[1.0,1.0]"),
        (math.inf, '"Infinity"'),
        (None, "null"),
    ],
)
def test_every_kind_of_value(array, text):
    assert to_json(Box(array)) == f'{{"schema":1,"ok":true,"value":{text}}}'.encode()


def test_an_optional_field_that_is_none_is_left_out():
    assert parse(to_json(Box(1, "why")))["reason"] == "why"
    assert "reason" not in parse(to_json(Box(1)))


def test_failure_document():
    error = ShapeMismatchError("a fact", hints=("do this",), expected=(4, 4), got=(), span=(0, 3), source="abc")
    assert parse(error_to_json(error)) == {
        "schema": 1,
        "ok": False,
        "error": {
            "code": "shape_mismatch",
            "message": "a fact",
            "explanation": "",
            "hints": ["do this"],
            "span": [0, 3],
            "expected": [4, 4],
            "got": [],
            "torch_message": None,
            "operands": [],
            "causes": [],
            "cures": [],
        },
    }
