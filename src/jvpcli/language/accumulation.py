"""What `.grad` holds before the call that is asked, from calls at other values of the weights, as a part of what is asked.

Only the text is read here; what runs it is given.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import replace

from jvpcli.language.calls import Pasted, items, parsed, text_of
from jvpcli.language.lengths import Count
from jvpcli.language.statements import cleared, is_passed_over, unused_name
from jvpcli.language.training import Training

ADDED = "what calls of backward before a step have added to .grad, at other values of the weights, is not in the result"

HELD = ".grad holds what calls before have added to it, and so does the result: {1} is that, y{0} its product with the weights"


def with_held(
    meant: Pasted, ran: Sequence[ast.stmt], weights: Sequence[str], code: str, count: Count
) -> tuple[Pasted, dict[str, str]]:
    """What a call of backward asks for, with what `.grad` of the weights holds before it, which is an input: its VALUE.

    `ran` has all that runs before the call, and `weights` are the leaves and modules that its value is made of.
    """
    training = Training.of(ran)
    if not weights or not _may_hold(ran, {*weights}, training):
        return meant, {}
    tensors = ", ".join(f"*{name}.parameters()" if name in training.modules else name for name in weights)
    lines = [text_of(part, code) for part in ran if not is_passed_over(part) or training.carries(part)]
    flat, value = tensors, f"torch.zeros_like({tensors}) if {tensors}.grad is None else {tensors}.grad"
    if len(weights) > 1 or flat.startswith("*"):
        flat = f"torch.cat([p.reshape(-1) for p in [{tensors}]])"
        value = f"torch.cat([torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in [{tensors}]])"
    number = count("\n".join([*lines, f"(({value}) != 0).any()"]))
    if not number:
        return (meant if number == 0 else replace(meant, notes=(*meant.notes, ADDED))), {}
    held = unused_name("held", ran)
    product = f"({held} * {flat}).sum()"
    outputs = [meant.expression] if len(meant.grad_outputs) == 1 else [*map(ast.unparse, items(parsed(meant.expression)))]
    return replace(
        meant,
        expression=f"({', '.join([*outputs, product])})",
        grad_outputs=(*meant.grad_outputs, "implicit"),
        wrt=meant.wrt or (*(name for name in weights if name not in training.modules), *(["*"] if "*" in tensors else [])),
        notes=(*meant.notes, HELD.format(len(outputs), held)),
    ), {held: "\n".join([*lines, value])}


def _may_hold(statements: Sequence[ast.stmt], weights: Collection[str], training: Training) -> bool | None:
    """Whether statements may leave something in `.grad` of weights; None where they neither clear it nor add to it."""
    clear: set[str] = set()
    for part in reversed(statements):
        loop = isinstance(part, (ast.For, ast.While))
        inside = _may_hold(part.body, weights, training) if isinstance(part, (ast.For, ast.While, ast.With)) else None
        if inside or (inside is False and not loop):  # a loop may make no turn
            return inside
        if inside is None and not loop and not isinstance(part, ast.With):
            if training.derives(part):
                return True
            clear |= set() if isinstance(part, ast.If) else training.clears(part) | cleared(part)
            if clear >= {*weights}:
                return False
    return None
