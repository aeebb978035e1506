"""The letters of an einsum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from jvpcli.explain.guilty import Guilty, Written
from jvpcli.explain.repairs.edits import Edits
from jvpcli.explain.table.entry import Found
from jvpcli.report import Shape


def lettering(guilty: Guilty, found: Found) -> Edits:
    """einsum: the letters of one operand in another order, `...` for axes without a letter, an operand turned."""
    equation = next((operand for operand in guilty.all if isinstance(operand.value, str)), None)
    tensors = guilty.listed or guilty.tensors
    if equation is None or not tensors:
        return
    left, arrow, right = equation.value.replace(" ", "").partition("->")
    groups = left.split(",")
    quote = equation.text[0]

    def written(new: Sequence[str], out: str = right) -> str:
        return guilty.edited((equation.span, f"{quote}{','.join(new)}{arrow}{out}{quote}"))

    if len(groups) == len(tensors):
        for position in reversed(range(len(groups))):
            group, shape = groups[position], tensors[position].shape
            if len(group) != len(shape) and "..." not in group:
                for letters_ in _letterings(groups, tensors, position):
                    yield written([*groups[:position], letters_, *groups[position + 1 :]])
                yield written([*groups[:position], f"...{group}", *groups[position + 1 :]], f"...{right}")
                if len(group) > len(shape):
                    for drop in group:
                        yield written([*groups[:position], group.replace(drop, ""), *groups[position + 1 :]])
            elif len(group) <= 4:
                for order in list(permutations(group))[1:]:
                    changed = [*groups[:position], "".join(order), *groups[position + 1 :]]
                    if _consistent(changed, [operand.shape for operand in tensors]):
                        yield written(changed)
    letters = {letter for group in groups for letter in group if letter.isalpha()}
    kept = "".join(letter for letter in dict.fromkeys(right) if letter in letters or not letter.isalpha())
    if arrow and kept != right:
        yield written(groups, kept)
    if len(groups) > len(tensors):
        yield written(groups[: len(tensors)], "".join(c for c in right if c in "".join(groups[: len(tensors)])))


def _letterings(groups: Sequence[str], tensors: Sequence[Written], position: int) -> Iterator[str]:
    """Letters for all axes of an operand that has too few: those of the others that stand for these lengths."""
    sizes: dict[str, int] = {}
    for place, (group, operand) in enumerate(zip(groups, tensors, strict=True)):
        if place != position and len(group) == len(operand.shape):
            sizes.update(zip(group, operand.shape, strict=True))
    shape, wanted = tensors[position].shape, set(groups[position])
    if len(shape) > 3:
        return
    for letters in permutations(sizes, len(shape)):
        if tuple(sizes[letter] for letter in letters) == shape and wanted <= set(letters):
            yield "".join(letters)


def _consistent(groups: Sequence[str], shapes: Sequence[Shape]) -> bool:
    sizes: dict[str, int] = {}
    for group, shape in zip(groups, shapes, strict=True):
        for letter, size in zip(group, shape, strict=False):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                return False
    return True
