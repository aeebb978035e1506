"""The JSON Schema (draft 2020-12) of every document, generated from the report types.

It says what this version writes: every field, which of them may be missing, and where null may stand.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from jvpcli.errors import JvpError
from jvpcli.options import BATCH, COMPUTING, options_of
from jvpcli.report import InspectReport, PlanReport
from jvpcli.report.check import CheckReport
from jvpcli.report.derive import DeriveReport
from jvpcli.report.hessian import HessianReport
from jvpcli.report.lookup import Explanation, OpsReport
from jvpcli.report.run import RunReport
from jvpcli.report.trace import TraceReport

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS: Mapping[str, tuple[type, str]] = {
    "inspect": (InspectReport, "What `jvp inspect` prints."),
    "plan": (PlanReport, "What `jvp inspect --explain-plan` prints."),
    "trace": (TraceReport, "What `jvp trace` prints."),
    "check": (CheckReport, "What `jvp check` prints."),
    "hessian": (HessianReport, "What `jvp hessian` prints."),
    "derive": (DeriveReport, "What `jvp derive` prints."),
    "run": (RunReport, "What `jvp run --grad-calls` prints."),
    "explain": (Explanation, "What `jvp explain` prints."),
    "ops": (OpsReport, "What `jvp ops` prints."),
}
"""The commands' documents: report type and what it is."""

Schema = dict[str, Any]


class _Array:
    """Stands for numpy's array in the types, so that numpy need not be loaded."""


NUMBER: Schema = {
    "description": "A number; what JSON has no number for is a string.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}
ARRAY: Schema = {
    "description": "Nested lists in row-major order, a single value for a 0-d array; complex numbers are [re, im].",
    "anyOf": [{"$ref": "#/$defs/number"}, {"type": "boolean"}, {"type": "array", "items": {"$ref": "#/$defs/array"}}],
}


def schema() -> Schema:
    """The whole schema: one of the documents, or a failure."""
    defs: dict[str, Schema] = {"number": NUMBER, "array": ARRAY}
    for name, (kind, about) in DOCUMENTS.items():
        defs[name] = _document(kind, about, defs)
    defs["failure"] = _failure()
    defs["request"] = _request()
    return {
        "$schema": DIALECT,
        "title": "jvp",
        "description": "Every document that jvp prints with --json, and every line that jvp batch prints.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in (*DOCUMENTS, "failure")],
        "$defs": defs,
    }


def openapi(version: str) -> Schema:
    """OpenAPI 3.1 of what `jvp serve` answers: the same documents, and for each command its own fields of a request."""
    whole = json.loads(json.dumps(schema()).replace("#/$defs/", "#/components/schemas/"))
    failure = {"$ref": "#/components/schemas/failure"}
    refusals = {
        401: "The token is missing or wrong.", 403: "Another site's page asks.", 408: "The question came too slowly.",
        413: "The question is too long.", 415: "It is no JSON.", 421: "The server was not asked by its address.",
        503: "Too many questions wait; Retry-After says for how many seconds.",
    }  # fmt: skip
    paths = {
        f"/api/{name}": {
            "post": {
                "operationId": name,
                "summary": whole["$defs"][name]["description"].replace("prints", "prints with --json"),
                "requestBody": {"required": True, "content": _json(_request_of(name))},
                "responses": {
                    "200": {
                        "description": "The answer; `ok` tells whether it is one.",
                        "content": _json({"oneOf": [{"$ref": f"#/components/schemas/{name}"}, failure]}),
                    },
                    **{str(code): {"description": why, "content": _json(failure)} for code, why in refusals.items()},
                },
            }
        }
        for name in COMPUTING
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "jvp", "version": version},
        "paths": paths,
        "components": {
            "schemas": whole["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _json(content: Schema) -> Schema:
    return {"application/json": {"schema": content}}


def _document(kind: type, about: str, defs: dict[str, Schema]) -> Schema:
    head = {"id": {"description": "The id of a batch's line, if it had one."}, "schema": {"const": 1}}
    body = _record(kind, defs)
    return {
        "description": about,
        "type": "object",
        "properties": {**head, "ok": {"const": True}, **body["properties"]},
        "required": ["schema", "ok", *body["required"]],
        "additionalProperties": False,
    }


def _record(kind: type, defs: dict[str, Schema]) -> Schema:
    """A report type; a field whose default is None is left out where it is None."""
    hints = typing.get_type_hints(kind, {**vars(sys.modules[kind.__module__]), "np": types.SimpleNamespace(ndarray=_Array)})
    properties, required = {}, []
    for field in fields(kind):
        optional = field.default is None
        properties[field.name] = _of(_without_none(hints[field.name]) if optional else hints[field.name], defs)
        if not optional:
            required.append(field.name)
        assert field.default is MISSING or field.default is None or field.default == ()
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _of(hint: Any, defs: dict[str, Schema]) -> Schema:
    """A type annotation as a schema; report types become definitions."""
    if hint in _SIMPLE:
        return dict(_SIMPLE[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        parts = [_of(part, defs) for part in arguments if part is not type(None)]
        return {"anyOf": [*parts, {"type": "null"}]} if type(None) in arguments else {"anyOf": parts}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0], defs)}
    if origin is tuple:
        items = [_of(part, defs) for part in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], defs)}
    if hint.__name__ not in defs:
        defs[hint.__name__] = {}  # a type may hold itself
        defs[hint.__name__] = _record(hint, defs)
    return {"$ref": f"#/$defs/{hint.__name__}"}


_SIMPLE: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"$ref": "#/$defs/number"},
    _Array: {"$ref": "#/$defs/array"},
    Any: {"$ref": "#/$defs/array"},
}


def _without_none(hint: Any) -> Any:
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    return parts[0] if len(parts) == 1 else typing.Union[tuple(parts)]  # noqa: UP007


def _failure() -> Schema:
    shape: Schema = {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}
    text_or_null: Schema = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    texts: Schema = {"type": "array", "items": {"type": "string"}}
    operand = _closed({"text": {"type": "string"}, "shape": shape["anyOf"][0], "dtype": {"type": "string"}})
    error = {
        "code": {"enum": sorted({"check_failed", *(kind.code for kind in _kinds(JvpError))})},  # the name of exit code 8
        "message": {"type": "string", "description": "The fact, one sentence."},
        "explanation": {"type": "string"},
        "hints": {**texts, "description": "A command can be run as it stands."},
        "span": {
            "description": "Start and end of the guilty part, in characters of the expression.",
            "anyOf": [{"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}, {"type": "null"}],
        },
        "expected": shape,
        "got": shape,
        "torch_message": text_or_null,
        "operands": {"type": "array", "items": operand, "description": "The tensors that the failing step got."},
        "causes": {**texts, "description": "What one of PyTorch's messages usually comes from, the likeliest first."},
        "cures": {**texts, "description": "What helps against it."},
    }
    known = set(JvpError("").to_dict())
    assert known == set(error), f"the fields of an error are {known}"
    return {
        "description": "A failure, of any command.",
        "type": "object",
        "properties": {"id": {}, "schema": {"const": 1}, "ok": {"const": False}, "error": _closed(error)},
        "required": ["schema", "ok", "error"],
        "additionalProperties": False,
    }


def _closed(properties: Schema) -> Schema:
    """An object with exactly these fields."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _kinds(kind: type[JvpError]) -> list[type[JvpError]]:
    return [kind, *(below for sub in kind.__subclasses__() for below in _kinds(sub))]


def _request() -> Schema:
    return {"description": "A line that jvp batch reads.", **_request_of(None)}


def _request_of(command: str | None) -> Schema:
    """What a command can be asked for as data; without one, any command."""
    fields = {name: option.schema for name, option in options_of(BATCH, command).items()}
    if command is not None:
        fields.pop("command", None)
    return {"type": "object", "properties": fields, "required": ["expression"], "additionalProperties": False}
