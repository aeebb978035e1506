"""`jvp explain`: one of PyTorch's error messages in plain words, with the cure."""

from __future__ import annotations

from jvpcli.cli.context import Context
from jvpcli.cli.output import emit
from jvpcli.cli.typed import examples
from jvpcli.errors import UsageError

EXAMPLES = """
# a message, as PyTorch prints it
jvp explain "element 0 of tensors does not require grad and does not have a grad_fn"

# a whole traceback, from the program that raised it
python train.py 2>&1 | jvp explain -

# what to do about it, for a script
jvp explain "grad can be implicitly created only for scalar outputs" --json | jq -r '.cures[]'
"""


def command(context: Context, *, text: list[str] | None, as_json: bool) -> None:
    """Explain one of PyTorch's autograd or shape error messages: what it means, why, and what to do."""
    message = read_message(text or [], context)
    from jvpcli.explain.messages import explain_message
    from jvpcli.render.explanation import render_explanation

    emit(context, explain_message(message), as_json, render_explanation)


def read_message(words: list[str], context: Context) -> str:
    """The words as one text; stdin's for `-`, and where something is piped in without any word.

    Raises:
        UsageError: there is no text.
    """
    piped = context.stdin is not None and not context.stdin.isatty()
    text = context.read_stdin() if words == ["-"] or (not words and piped) else " ".join(words)
    if not text.strip():
        raise UsageError("TEXT is missing: the message to explain", hints=examples(EXAMPLES)[:1])
    return text
