"""`jvp explain`: one of PyTorch's error messages in plain words, with the cure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain

from jvpcli.cli.command import examples
from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.errors import UsageError

EXAMPLES = """
# a message, as PyTorch prints it
jvp explain "element 0 of tensors does not require grad and does not have a grad_fn"

# a whole traceback, from the program that raised it
python train.py 2>&1 | jvp explain -

# what to do about it, for a script
jvp explain "grad can be implicitly created only for scalar outputs" --json | jq -r '.cures[]'
"""

BLOCK = 1 << 20
"""Characters of a log that are read at a time."""


def command(context: Context, *, text: list[str] | None, as_json: bool) -> None:
    """Explain one of PyTorch's autograd or shape error messages: what it means, why, and what to do."""
    message = read_message(text or [], context)
    from jvpcli.messages.matcher import explain_message
    from jvpcli.render.lookup import render_explanation

    emit(context, explain_message(message), as_json, render_explanation)


def read_message(words: list[str], context: Context) -> Iterable[str]:
    """The words as one text; stdin's, block by block, for `-`, and where something is piped in without any word.

    Raises:
        UsageError: there is no text.
    """
    piped = context.stdin is not None and not context.stdin.isatty()
    blocks = _blocks(context) if words == ["-"] or (not words and piped) else iter((" ".join(words),))
    first = next((block for block in blocks if not block.isspace() and block), None)
    if first is None:
        raise UsageError("TEXT is missing: the message to explain", hints=examples(EXAMPLES)[:1])
    return chain((first,), blocks)


def _blocks(context: Context) -> Iterator[str]:
    """Standard input as blocks of whole lines; of a line that no person has written the two ends."""
    if context.stdin is None:
        raise UsageError("standard input is closed, so `-` has nothing to read")
    if isinstance(context.stdin, io.TextIOWrapper):
        context.stdin.reconfigure(errors="replace")  # a log may hold anything
    rest, passed_over = "", False
    while piece := context.stdin.read(BLOCK):
        end = piece.rfind("\n")
        if end >= 0:
            yield (rest + piece[:end]).removesuffix("\r")
            rest = piece[end + 1 :]
            continue
        rest += piece
        if len(rest) > 4 * BLOCK:
            rest, passed_over = rest[:BLOCK] + rest[-BLOCK:], True
    yield rest
    if passed_over:
        context.err.write(f"of a line of more than {4 * BLOCK:,} characters only the two ends were read\n")
