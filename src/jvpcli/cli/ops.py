"""`jvp ops`: the functions and methods that an expression may call."""

from __future__ import annotations

from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.report.lookup import Operation, OpsReport

EXAMPLES = """
# everything with softmax in its name or description
jvp ops softmax

# how one function is called
jvp ops torch.linalg.solve

# the names alone, for a script
jvp ops --json | jq -r '.operations[].name'
"""


def command(context: Context, *, word: str, as_json: bool) -> None:
    """List the functions, methods and constants that an expression may use, with their signatures."""
    from jvpcli.render.lookup import render_ops

    emit(context, find(word), as_json, render_ops)


def find(word: str) -> OpsReport:
    """What the catalogue has for a word; where it has nothing, why not or what is near."""
    from jvpcli.language import catalog

    found = catalog.search(word.strip())
    operations = tuple(Operation(_shown(entry.path), entry.kind, entry.signature, entry.description) for entry in found)
    return OpsReport(word, operations, None if found else _why_nothing(word.strip()))


def _why_nothing(word: str) -> str:
    from jvpcli.language import catalog

    reason = catalog.why_forbidden(word)
    if reason:
        return f"An expression may not use {word}: {reason}."
    near = catalog.suggest(word)
    return f"Nothing is called {word!r}." + (f" Did you mean {', '.join(near)}?" if near else "")


def _shown(path: str) -> str:
    """The path as one writes it: methods on a tensor x."""
    return path.replace("torch.Tensor.", "x.", 1)
