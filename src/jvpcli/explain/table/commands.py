"""Commands of jvp that show a repair with the shapes of a message; each runs as it stands."""

from __future__ import annotations

from math import prod

from jvpcli.report import Shape

SMALL = 4096
"""Entries of an operand above which no command is shown: its Jacobian would be too large to look at."""


def inspect(expression: str, *operands: tuple[str, Shape]) -> tuple[str, ...]:
    """`jvp inspect "A @ B.T" --A "torch.randn(2, 3)" …`; nothing where an operand is large."""
    if any(prod(shape) > SMALL or prod(shape) == 0 for _, shape in operands):
        return ()
    inputs = " ".join(f'--{name} "torch.randn({", ".join(map(str, shape)) or "()"})"' for name, shape in operands)
    return (f'jvp inspect "{expression}" {inputs}',)
