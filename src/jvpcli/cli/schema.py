"""`jvp schema`: the JSON Schema of everything that the other commands print with --json."""

from __future__ import annotations

import json

from jvpcli.cli.context import Context

EXAMPLES = """
# keep it for a validator
jvp schema > jvp.schema.json

# the fields of an inspection
jvp schema | jq -r '."$defs".inspect.properties | keys[]'
"""


def command(context: Context, *, as_json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of every document that the other commands print with --json."""
    from jvpcli.render.schema import schema

    context.write(json.dumps(schema(), indent=None if as_json else 2).encode())
