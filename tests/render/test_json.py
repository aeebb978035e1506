"""Reports to strict JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jvpcli.errors import JvpError, ShapeMismatchError
from jvpcli.render.json import error_to_json, layout, pieces, to_dict, to_json


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


@dataclass(frozen=True)
class Part:
    name: str
    shape: tuple[int, ...]
    value: np.ndarray | None
    norm: float | None = None


@dataclass(frozen=True)
class Whole:
    expression: str
    parts: tuple[Part, ...]
    named: dict[str, Part]
    indices: tuple[np.ndarray, ...]
    hints: tuple[str, ...]


KINDS = (np.float64, np.float32, np.float16, np.int64, np.bool_, np.complex64, np.complex128)

ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
PARTS = st.builds(Part, st.text(max_size=9), st.just((2, 3)), st.none() | ARRAYS, st.none() | st.floats())
WHOLES = st.builds(
    Whole, st.text(max_size=200), st.lists(PARTS, max_size=6).map(tuple), st.dictionaries(st.text(max_size=3), PARTS, max_size=3),
    st.lists(ARRAYS, max_size=2).map(tuple), st.lists(st.text(max_size=80), max_size=3).map(tuple),
)  # fmt: skip


def plain(item):
    """A report as plain data, made without the encoder: dictionaries, lists, words for what JSON has no numbers for."""
    if isinstance(item, np.ndarray):
        item = np.stack([item.real, item.imag], axis=-1) if item.dtype.kind == "c" else item
        return plain(item.tolist())
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, (list, tuple)):
        return [plain(part) for part in item]
    if isinstance(item, dict):
        return {name: plain(part) for name, part in item.items()}
    if hasattr(item, "__dataclass_fields__"):
        return {n: plain(v) for n, v in vars(item).items() if not (v is None and n == "norm")}
    return item


def rounded(item):
    """Numbers to the precision of the shortest kind, since float32's shortest digits are not those of its double.

    Below float32's smallest normal number even two digits differ.
    """
    if isinstance(item, float) and abs(item) < float(np.finfo(np.float32).tiny):
        return float(np.float32(item))
    if isinstance(item, list):
        return [rounded(part) for part in item]
    if isinstance(item, dict):
        return {name: rounded(part) for name, part in item.items()}
    return float(f"{item:.2g}") if isinstance(item, float) else item


@given(WHOLES)
def test_a_document_in_pieces_is_the_document_in_one(whole):
    at_once = to_json(whole)
    assert rounded(parse(at_once)) == rounded({"schema": 1, "ok": True, **plain(whole)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jvpcli.render.json.SHORT", 1)
        for piece in (1, 7, 50):
            patch.setattr("jvpcli.render.json.PIECE", piece)
            assert to_json(whole) == at_once


def test_no_piece_is_long_and_a_small_document_is_one():
    assert len(list(pieces(layout(Box(np.arange(1000.0)))))) == 1
    large = Box((np.full((3, 200_000), math.nan), "é" * 10**6, np.zeros((10**5, 0)), np.ones(10**6)), "why")
    found = list(pieces(layout(large)))
    assert max(map(len, found)) < 10**6 < len(found) * 10**6
    assert parse(b"".join(found))["value"][1:3] == ["é" * 10**6, [[]] * 10**5]


MEMORY = """
import sys, numpy as np
from dataclasses import dataclass
from jvpcli.system.memory import limited
from jvpcli.render.json import layout, pieces
@dataclass(frozen=True)
class Box:
    value: object
many = Box(tuple(np.full(10**6, k + 1 / 3) for k in range(int(sys.argv[1]))))
texts = Box(tuple(Box(str(k) * 5000) for k in range(int(sys.argv[2]))))
try:
    with limited(0):
        print(sum(map(len, pieces(layout((many if int(sys.argv[1]) else texts))))))
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
@pytest.mark.parametrize(("arrays_", "texts", "told"), [(20, 0, None), (0, 20_000, "refused")])
def test_writing_takes_a_bounded_part_of_memory_and_says_where_there_is_none(arrays_, texts, told):
    code = [sys.executable, "-c", MEMORY, str(arrays_), str(texts)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done  # the encoder would end the process
    assert done.stdout.strip() == told if told else int(done.stdout) > 10**7 * arrays_


def test_half_characters_are_written_out() -> None:
    """No document may have them, and what a program says may: long or short, beside numbers that are none, in keys."""
    halves = {"\ud800": ["\udfff" * 100_000, float("nan"), np.ones(2)]}
    document = json.loads(b"".join(pieces(layout(halves))))
    assert document["\\ud800"] == ["\\udfff" * 100_000, "NaN", [1.0, 1.0]]
    assert json.loads(error_to_json(JvpError("a \ud800")))["error"]["message"] == "a \\ud800"
