"""What torch itself warned of while the expression was evaluated, where a card knows it."""

from __future__ import annotations

from jvpcli.language.evaluation import Evaluation
from jvpcli.report import Notice


def torch_warnings(evaluation: Evaluation) -> tuple[Notice, ...]:
    """Torch's warnings about shapes, in plain words."""
    if not evaluation.said:
        return ()
    from jvpcli.messages.matcher import spoken  # loaded only where something was said

    return tuple(spoken(evaluation.said))
