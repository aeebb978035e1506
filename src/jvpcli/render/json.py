"""Reports to JSON documents: strict JSON always, whatever the numbers.

Arrays go through orjson's numpy encoder (shortest digits that give the same float back).  NaN and infinities become
the strings of the contract, complex numbers pairs of real and imaginary part.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import orjson

from jvpcli.errors import JvpError
from jvpcli.render.visible import escaped_json

SCHEMA_VERSION = 1


def to_json(report: Any) -> bytes:
    """The whole JSON document of a report, without a newline at the end."""
    return _encode({"schema": SCHEMA_VERSION, "ok": True, **_fields(report)})


def error_to_json(error: JvpError) -> bytes:
    """The whole JSON document of a failure, without a newline at the end."""
    return _encode(error_document(error))


def error_document(error: JvpError) -> dict[str, Any]:
    """The document of a failure as plain Python data."""
    return {"schema": SCHEMA_VERSION, "ok": False, "error": dict(error.to_dict())}


def to_dict(report: Any) -> dict[str, Any]:
    """The JSON document of a report as plain Python data: dicts, lists, strings, numbers."""
    document: dict[str, Any] = orjson.loads(to_json(report))
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    """The document's text, without a copy of its numbers.

    orjson writes a NaN as null.  Where its text has no null there is no NaN either, and nothing to be looked at again.
    """
    text = orjson.dumps(document, default=_fields, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)
    if b"null" in text:
        text = orjson.dumps(_ready(document), option=orjson.OPT_SERIALIZE_NUMPY)
    return escaped_json(text)


def _fields(item: Any) -> Any:
    """What orjson cannot write itself, one level of it: a report type as its fields, an array of an unusual kind."""
    if hasattr(item, "__dataclass_fields__"):
        found = {}
        for name, optional in _field_rules(type(item)):  # type: ignore[arg-type]
            value = getattr(item, name)
            if value is not None or not optional:
                found[name] = value
        return found
    return dict(item) if isinstance(item, Mapping) else _array(np.asarray(item))


@cache
def _field_rules(kind: Hashable) -> tuple[tuple[str, bool], ...]:
    """Name and "left out where it is None" of each field of a report type."""
    return tuple((f.name, f.default is None) for f in fields(kind))  # type: ignore[arg-type]


def _ready(item: Any) -> Any:
    """What orjson encodes as the contract says, at every level: a bare NaN it would write as null."""
    kind = type(item)
    if kind in _PLAIN or (kind is float and math.isfinite(item)):
        return item
    if kind is np.ndarray:
        return _array(item)
    if kind is tuple or kind is list:
        return [_ready(part) for part in item]
    if isinstance(item, dict):
        return {name: _ready(value) for name, value in item.items()}
    if hasattr(kind, "__dataclass_fields__") or isinstance(item, Mapping):
        return _ready(_fields(item))
    return _array(np.asarray(item))


_PLAIN = frozenset({str, int, bool, type(None)})


def _array(array: np.ndarray) -> Any:
    """An array as what orjson encodes: a finite contiguous array, or nested lists."""
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _with_words(array)
    if array.ndim == 0:  # orjson takes none of those
        return orjson.loads(_numbers(array.reshape(1)))[0]
    return np.ascontiguousarray(array) if array.size else array.tolist()


def _numbers(array: np.ndarray) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _with_words(array: np.ndarray) -> Any:
    """An array that holds NaN or infinities, as nested lists with the contract's strings in their places."""
    finite = np.isfinite(array)
    flat = orjson.loads(_numbers(np.where(finite, array, 0).astype(array.dtype).ravel()))
    for index in np.flatnonzero(~finite):
        number = array.flat[index]
        flat[index] = "NaN" if np.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return _nest(flat, array.shape)


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for length in reversed(shape[1:]):
        flat = [flat[start : start + length] for start in range(0, len(flat), length)]
    return flat
