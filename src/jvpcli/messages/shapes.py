"""Shapes in words: why two shapes don't fit, what one looks like beside another, and what would make it fit.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, zip_longest
from math import prod

from jvpcli.report import Shape


def counted(count: int, noun: str) -> str:
    """`1 entry`, `3 entries`, `2 axes`."""
    plurals = {"entry": "entries", "axis": "axes"}
    return f"{count} {noun if count == 1 else plurals.get(noun, noun + 's')}"


def likeness(got: Shape, expected: Shape) -> str:
    """What `got` looks like beside the shape that it should have, the likeliest mistake first: the end of a sentence."""
    if got == expected:
        return "the same shape"
    if len(got) > 1 and got[::-1] == expected:
        return "the same axes the other way round: a transpose is missing, or one too many"
    if without_ones(got) == without_ones(expected):
        return "the same numbers but for axes of length 1"
    if prod(got) == 1:
        return "a single number; autograd doesn't spread it over all entries"
    if len(got) == 1 and prod(got) == prod(expected):
        return f"the right number of entries ({prod(expected)}) in one row: it was flattened"
    if prod(got) == prod(expected):
        return f"the right number of entries ({prod(expected)}) in another arrangement"
    if len(got) > len(expected) and got[len(got) - len(expected) :] == expected:
        extra = got[: len(got) - len(expected)]
        return (
            f"the right shape with {counted(len(extra), 'axis')} of size {listed(extra)} too many in front, as of "
            f"a batch"
        )
    if len(got) < len(expected) and expected[: len(got)] == got:
        return (
            "like the front of the expected shape: the shape of an input or of a reduced result rather than of this one"
        )
    if broadcasts_to(got, expected):
        return "a shape that would broadcast, but nothing is broadcast here"
    return f"{counted(prod(got), 'entry')} where there should be {prod(expected)}"


def refit(got: Shape, expected: Shape) -> str | None:
    """What to write behind a tensor of shape `got` so that the same numbers have the shape `expected`; None if nothing does."""
    if got == expected:
        return ""
    if len(got) == 2 and got[::-1] == expected:
        return ".T"
    if prod(got) == prod(expected):
        return f".reshape({listed(expected)})" if expected else ".reshape(())"
    if broadcasts_to(got, expected):
        return f".expand({listed(expected)})"
    return None


def listed(sizes: Sequence[int]) -> str:
    """`4, 4`."""
    return ", ".join(map(str, sizes))


def without_ones(shape: Shape) -> Shape:
    """The axes of a shape that are longer than 1."""
    return tuple(size for size in shape if size != 1)


def broadcasts_to(shape: Shape, to: Shape) -> bool:
    """Whether `shape` can be expanded to `to`."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def broadcast(*shapes: Shape) -> Shape | None:
    """The shape that all of them broadcast to, or None."""
    columns = zip_longest(*(tuple(reversed(shape)) for shape in shapes), fillvalue=1)
    sizes = []
    for column in columns:
        lengths: set[int] = set(column) - {1}
        if len(lengths) > 1:
            return None
        sizes.append(lengths.pop() if lengths else 1)
    return tuple(reversed(sizes))


def broadcast_table(operands: Sequence[tuple[str, Shape]]) -> list[str]:
    """The operands' shapes aligned from the right, axis by axis, with a mark under every axis that doesn't fit."""
    depth = max(len(shape) for _, shape in operands)
    names = [name for name, _ in operands]
    left = max([len("axis"), *map(len, names)])
    cells = [[""] * (depth - len(shape)) + [str(size) for size in shape] for _, shape in operands]
    verdicts = [_fits([row[axis] for row in cells]) for axis in range(depth)]
    header = [str(axis - depth) for axis in range(depth)]
    rows = [("axis", header), *zip(names, cells, strict=True), ("", ["ok" if fits else "✗" for fits in verdicts])]
    widths = [max(len(row[axis]) for _, row in rows) for axis in range(depth)]
    return [
        "  ".join([name.ljust(left), *(cell.rjust(width) for cell, width in zip(row, widths, strict=True))]).rstrip()
        for name, row in rows
    ]


def _fits(column: Sequence[str]) -> bool:
    return len(set(column) - {"", "1"}) <= 1


def clashes(first: Shape, second: Shape) -> list[int]:
    """The axes, counted from the right as -1, -2, …, whose sizes differ with neither being 1."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return [-1 - axis for axis, (a, b) in enumerate(pairs) if a != b and 1 not in (a, b)]


def aligned(shape: Shape, with_: Shape) -> Iterator[str]:
    """Subscripts that put new axes into `shape` so that it broadcasts with `with_`, those with the fewest first.

    `[:, None]`, `[None, :]`, … are tried up to the depth of the other shape, or one axis deeper where that helps a vector.
    """
    for extra in range(1, max(len(with_) - len(shape), 1) + 1):
        depth = len(shape) + extra
        for places in combinations(range(depth), extra):
            sizes = iter(shape)
            candidate = tuple(1 if axis in places else next(sizes) for axis in range(depth))
            if broadcast(candidate, with_) is not None:
                yield subscript(depth, places)


def subscript(depth: int, places: Sequence[int]) -> str:
    """`[:, None]`: new axes at `places` of `depth` axes."""
    marks = ["None" if axis in places else ":" for axis in range(depth)]
    while len(marks) > 1 and marks[-1] == ":":
        marks.pop()
    return f"[{', '.join(marks)}]"


def with_axes(shape: Shape, new: str) -> Shape:
    """The shape of a tensor behind which such a subscript is written."""
    sizes = iter(shape)
    made = [1 if mark.strip() == "None" else next(sizes) for mark in new.strip("[]").split(",")]
    return (*made, *sizes)


def inner_sizes(first: Shape, second: Shape) -> tuple[int, int]:
    """The two sizes that `first @ second` needs equal: the last axis of the first, the last but one of the second."""
    return first[-1], second[-2] if len(second) > 1 else second[0]


def multiplies(first: Shape, second: Shape) -> bool:
    """Whether `first @ second` works."""
    if not first or not second:
        return False
    a, b = inner_sizes(first, second)
    return a == b and broadcast(first[:-2], second[:-2]) is not None


def product_repairs(first: Shape, second: Shape) -> list[tuple[str, str, bool]]:
    """What to write behind each factor so that they multiply, the smallest change first; True: and swap them."""
    single = [(a, b, False) for a, b in (("", ".T"), (".T", "")) if multiplies(_turned(first, a), _turned(second, b))]
    swap = [("", "", True)] if multiplies(second, first) else []
    both = [(".T", ".T", False)] if multiplies(_turned(first, ".T"), _turned(second, ".T")) else []
    found = single + swap + both
    return [(_suffix(first, a), _suffix(second, b), swap) for a, b, swap in found]


def _turned(shape: Shape, suffix: str) -> Shape:
    if not suffix:
        return shape
    return (*shape[:-2], shape[-1], shape[-2]) if len(shape) > 1 else ()


def _suffix(shape: Shape, suffix: str) -> str:
    """The transpose of the last two axes: `.T` is that for a matrix alone."""
    return ".mT" if suffix and len(shape) > 2 else suffix


def divisors_with_guess(shape: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """The target shapes of a reshape of `count` entries with one size replaced by what fits there (the last first)."""
    found = []
    for axis in reversed(range(len(shape))):
        rest = prod(size for place, size in enumerate(shape) if place != axis and size != -1)
        if rest > 0 and count % rest == 0 and shape[axis] != -1 and -1 not in shape:
            found.append((*shape[:axis], -1, *shape[axis + 1 :]))
    return found
