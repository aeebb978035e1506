"""`jvp schema`: what it says is what there is."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass

import jsonschema
import pytest
from documents import assert_valid, validator

from jvpcli import report
from jvpcli.render.schema import DOCUMENTS
from jvpcli.request import COMPUTING


def test_it_is_a_schema(jvp):
    shown = jvp("schema")
    assert shown.code == 0
    schema = json.loads(shown.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(jvp("schema", "--json").out) == schema
    assert jvp("schema", "--json").out.count("\n") == 1


def test_every_report_type_is_in_it():
    schema = validator().schema
    assert {*COMPUTING} <= DOCUMENTS.keys()
    documents = {kind for kind, _ in DOCUMENTS.values()}
    for kind in vars(report).values():
        if is_dataclass(kind) and kind.__module__ == report.__name__:
            name = next((n for n, (k, _) in DOCUMENTS.items() if k is kind), kind.__name__)
            assert {f.name for f in fields(kind)} <= set(schema["$defs"][name]["properties"]), kind
    assert {kind.__name__ for kind in documents} >= {n for n in vars(report) if n.endswith("Report")}


GOOD = [
    ["inspect", "x*w", "--x", "1,nan", "--w", "2", "-t", "ones"],
    ["inspect", "z.abs()", "--z", "1+2j,0"],
    ["inspect", "x*2", "--x", "[]"],
    ["inspect", "x*x", "--x", "torch.ones(2000)"],
    ["inspect", "x*x", "--x", "1,2", "--jacobian", "sparse"],
    ["inspect", "x*x", "--x", "1,2", "--jacobian", "none"],
    ["inspect", "x +", "--x", "1"],
    ["inspect"],
    ["trace", "torch.sqrt(x).mul(0).sum()", "--x", "0,1"],
    ["trace", "x.max(0).values", "--x", "1,2;3,4"],
    ["check", "torch.relu(x)", "--x", "0,1"],
    ["check", "x**2", "--x", "1,2"],
    ["hessian", "x*x*w", "--x", "1,nan", "--w", "2", "-t", "ones"],
    ["hessian", "x*2", "--x", "[]"],
    ["hessian", "torch.relu(x)", "--x", "0,1"],
    ["hessian", "torch.logsumexp(x, 0)", "--x", "torch.ones(200)", "--jacobian", "none"],
    ["ops", "nothing-like-this"],
    ["explain", "nobody has ever seen this"],
]


@pytest.mark.parametrize("argv", GOOD, ids=" ".join)
def test_documents_fit_it(jvp, argv):
    assert_valid(json.loads(jvp(*argv, "--json").out))


def test_what_is_wrong_does_not_fit_it(jvp):
    document = json.loads(jvp("inspect", "x*x", "--x", "1,2", "--json").out)
    for change in (
        {"schema": 2}, {"ok": False}, {"vjp": []}, {"more": 1}, {"plan": None}, {"jvp": None},
        {"outputs": {"y": {"shape": [2], "dtype": "float32", "value": ["nan"]}}},
        {"outputs": {"y": {"shape": [2.5], "dtype": "float32", "value": []}}},
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            assert_valid({**document, **change})
    with pytest.raises(AssertionError):
        assert_valid({key: value for key, value in document.items() if key != "vjp"})
