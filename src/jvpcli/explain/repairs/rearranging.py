"""Shapes and axes that are named: reshape, permute, dim=, split."""

from __future__ import annotations

from jvpcli.explain.guilty import Guilty, numbers
from jvpcli.explain.repairs.edits import Edits, anything, joined
from jvpcli.explain.shapes import divisors_with_guess, listed
from jvpcli.explain.table.entry import Found


def reshaping(guilty: Guilty, found: Found) -> Edits:
    """reshape and view: reshape instead of view, -1 for one of the sizes, one size kept and -1 for the others."""
    if guilty.name == "view":
        yield guilty.renamed("reshape")
    if not guilty.tensors:
        return
    x = guilty.tensors[0]
    if guilty.name == "view":
        yield guilty.with_suffix(x, ".contiguous()")
    dim = guilty.argument("dim", 1) if guilty.name == "unflatten" else None
    count = x.value.numel() if dim is None else x.shape[dim.value]
    sizes = list(numbers([operand for operand in guilty.all if operand is not x and operand is not dim]))
    asked = [operand.value for operand in sizes]
    for guess in divisors_with_guess(asked, count):
        axis = guess.index(-1)
        yield guilty.edited((sizes[axis].span, "-1"))
    if sizes:
        for keep in [size for size in asked if size > 0 and count % size == 0][::-1][:2]:
            yield guilty.edited((joined(sizes), f"-1, {keep}"))
        for keep in reversed(x.shape):
            if len(asked) == 2 and keep not in (0, count):
                yield guilty.edited((joined(sizes), f"-1, {keep}"))
        yield guilty.edited((joined(sizes), "-1"))


def axes(guilty: Guilty, found: Found) -> Edits:
    """A dim out of range: counted from 1, the last, any other; or the tensor with a batch axis."""
    low, high = found.int("low"), found.int("high")
    got = found.int("got")
    if low is None or high is None or got is None:
        return
    named = list(numbers(guilty.all))
    wrong = [operand for operand in named if operand.value == got]
    taken = {operand.value % (high + 1) for operand in named if operand.value != got}
    candidates = (got - 1, got + 1, high, *range(high, -1, -1))
    order = [axis for axis in candidates if low <= axis <= high and axis % (high + 1) not in taken]
    for operand in wrong:
        for axis in dict.fromkeys(order):
            yield guilty.edited((operand.span, str(axis)))
    for operand in guilty.tensors[:1]:
        yield guilty.with_suffix(operand, "[None]")
        yield guilty.with_suffix(operand, "[..., None]")
    if not wrong and guilty.name in ("T", "mT", "t", "diagonal"):
        yield from anything(guilty, found)


def permuting(guilty: Guilty, found: Found) -> Edits:
    """permute: the axes that are missing at the end, those that aren't there left out, repeated ones replaced."""
    if not guilty.tensors:
        return
    depth = len(guilty.tensors[0].shape)
    given = list(numbers([operand for operand in guilty.all if operand is not guilty.tensors[0]]))
    if not given:
        return
    kept = list(dict.fromkeys(operand.value % depth for operand in given if -depth <= operand.value < depth))
    rest = [axis for axis in range(depth) if axis not in kept]
    yield guilty.edited((joined(given), listed([*kept, *rest])))
    yield guilty.edited((joined(given), listed([*rest, *kept])))


def turning(guilty: Guilty, found: Found) -> Edits:
    """t() and .mT of other depths: the last two axes, all axes reversed, a vector as a column."""
    for x in guilty.tensors[:1]:
        depth = len(x.shape)
        yield guilty.rewritten(f"{x.bracketed}.mT") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}.permute({listed(range(depth)[::-1])})") if depth > 2 else None
        yield guilty.rewritten(f"{x.bracketed}[:, None]") if depth == 1 else None
        yield guilty.with_suffix(x, "[None]") if depth == 1 else None


def splitting(guilty: Guilty, found: Found) -> Edits:
    """split: the last size as large as is left; narrow: the length that is left."""
    total = found.int("total")
    sizes = [operand for operand in numbers(guilty.all) if operand.value is not total]
    listed_sizes = next((operand.items for operand in guilty.all if operand.items), ())
    if total is not None and listed_sizes:
        rest = total - sum(item.value for item in listed_sizes[:-1])
        if rest >= 0:
            yield guilty.edited((listed_sizes[-1].span, str(rest)))
        more = total - sum(item.value for item in listed_sizes)
        yield guilty.edited((joined(listed_sizes), listed([*(item.value for item in listed_sizes), more])))
    start, length, size = found.int("start"), found.int("length"), found.int("size")
    for operand in sizes:
        if length is not None and size is not None and operand.value == length:
            yield guilty.edited((operand.span, str(max(0, size - (start or 0)))))
