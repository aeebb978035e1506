"""What the operations of the language are in indices: functions of tensors in index form, by kind and by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jvpcli.symbolic.operations import entries, layers, losses, matrices, shapes, sums

OPERATIONS: dict[str, Callable[..., Any]] = {
    name: rule for kind in (entries, sums, shapes, matrices, layers, losses) for name, rule in kind.OPERATIONS.items()
}
"""By the last part of an operation's name, or by its whole name where that is not enough."""
