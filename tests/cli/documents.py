"""Documents against the published schema."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jsonschema

from jvpcli.render.schema import schema


@lru_cache(maxsize=1)
def validator() -> Any:
    """The published schema, ready to validate with."""
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def assert_valid(document: Any) -> None:
    """Fails where a document is not what `jvp schema` says."""
    if not validator().is_valid(document):
        kinds = schema_of(document)
        raise AssertionError([(list(e.absolute_path), e.message[:200]) for e in kinds.iter_errors(document)][:5])


def schema_of(document: Any) -> Any:
    """The part of the schema that fits the document best, whose complaints say the most."""
    whole = validator().schema
    parts = [
        jsonschema.Draft202012Validator({**whole["$defs"][branch["$ref"].rpartition("/")[2]], "$defs": whole["$defs"]})
        for branch in whole["oneOf"]
    ]
    return min(parts, key=lambda part: len(list(part.iter_errors(document))))
