"""Edits that several families of repairs share."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jvpcli.errors import Span
from jvpcli.explain.guilty import Guilty, Written
from jvpcli.explain.table.entry import Found
from jvpcli.report import Shape


@dataclass(frozen=True)
class Repair:
    """A whole source with an edit; `drops` says that it leaves entries of an operand out: only where nothing else works."""

    source: str
    drops: bool = False


Edits = Iterator[str | Repair | None]
"""Whole sources, or a `Repair` where entries are left out; None is passed over."""

Family = Callable[[Guilty, Found], Edits]
"""The repairs of a kind of failure."""


def cut(guilty: Guilty, operand: Written, suffix: str) -> Repair:
    """The whole source with a suffix that drops entries behind one operand."""
    return Repair(guilty.with_suffix(operand, suffix), drops=True)


def swapped(guilty: Guilty, first: Written, second: Written) -> str:
    """Two operands in each other's place."""
    return guilty.edited((first.outer, second.bracketed), (second.outer, first.bracketed))


def transposed(shape: Shape) -> str | None:
    """The suffix that turns the last two axes."""
    return None if len(shape) < 2 else ".T" if len(shape) == 2 else ".mT"


def head(depth: int, axis: int, size: int) -> str:
    """`[:, :3]`: the first entries along one axis."""
    marks = [":"] * (depth + axis) + [f":{size}"]
    return f"[{', '.join(marks)}]"


def joined(operands: Sequence[Written]) -> Span:
    """The place from the first operand to the last."""
    return operands[0].span[0], operands[-1].span[1]


def with_dim(guilty: Guilty, axis: int, *edits: tuple[tuple[int, int], str]) -> Edits:
    """The dim (second argument, or a keyword) set to `axis`, along with other edits."""
    dim = guilty.argument("dim", 1) or guilty.argument("axis")
    if dim is not None and isinstance(dim.value, int):
        yield guilty.edited((dim.span, str(axis)), *edits)
    elif isinstance(guilty.node, ast.Call) and guilty.source[guilty.span[1] - 1] == ")":
        end = guilty.span[1] - 1
        yield guilty.edited(((end, end), f", dim={axis}"), *edits)


def out_of_place(guilty: Guilty) -> Edits:
    """`y += b` as `y = y + b`, `y.add_(b)` as `y.add(b)`."""
    if isinstance(guilty.node, ast.AugAssign) and guilty.operands:
        yield guilty.with_suffix(guilty.operands[0], "")
    if guilty.op.startswith("method:") and guilty.name.endswith("_"):
        yield guilty.renamed(guilty.name.rstrip("_"))


def anything(guilty: Guilty, found: Found) -> Edits:
    """A transpose, an axis of length 1, a flattening of one operand; two operands swapped."""
    tensors = guilty.listed or guilty.tensors
    for operand in tensors:
        suffix = transposed(operand.shape)
        yield guilty.with_suffix(operand, suffix) if suffix else None
    if len(tensors) == 2 and not guilty.name.endswith("_"):
        yield swapped(guilty, *tensors)
    for operand in tensors:
        yield guilty.with_suffix(operand, "[None]")
        yield guilty.with_suffix(operand, "[:, None]" if len(operand.shape) == 1 else "[..., None]")
        yield guilty.with_suffix(operand, ".squeeze()") if 1 in operand.shape else None
        yield guilty.with_suffix(operand, ".flatten()") if len(operand.shape) > 1 else None
    for operand in tensors:
        least = min((other.shape[0] for other in tensors if other.shape), default=0)
        yield cut(guilty, operand, f"[:{least}]") if operand.shape and operand.shape[0] > least > 0 else None
