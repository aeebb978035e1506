"""A trace of many steps as a person reads it: a line for each submodule or step, instead of pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from jvpcli.render.numbers import number_text
from jvpcli.render.terminal import NAME, QUIET, cut
from jvpcli.report.trace import TraceStep

MOST_LINES = 24
"""Lines of modules at most: the depth is chosen so, and what is left over stands for those in the middle."""


@dataclass(frozen=True)
class Group:
    """Steps that follow each other in one submodule, whose dotted path it is; of a step outside of modules that step alone."""

    path: str
    steps: Sequence[TraceStep]

    @property
    def name(self) -> str:
        """The path, or the text of the step on one line: it may be long, and of few groups it is shown."""
        return self.path or " ".join(self.steps[0].source.split())

    @property
    def numbers(self) -> str:
        """`3` or `3–7`."""
        first, last = self.steps[0].index, self.steps[-1].index
        return str(first) if first == last else f"{first}–{last}"


def levels(step: TraceStep) -> list[str]:
    """The parts of a step's dotted path; a number belongs to the list before it: `blocks.3` is one level."""
    return re.findall(r"[^.]+(?:\.\d+(?=\.|$))*", step.module or "")


def groups(steps: Sequence[TraceStep], depth: int) -> list[Group]:
    """The steps by submodule, whose dotted path is cut to `depth` parts."""

    def key(step: TraceStep) -> tuple[str, int]:
        path = ".".join(levels(step)[:depth])
        return (path, -1) if path else ("", step.index)

    return [Group(path, list(members)) for (path, _), members in groupby(steps, key)]


def depth_for(steps: Sequence[TraceStep]) -> int:
    """The depth to which a trace is shown by module: as deep as it stays readable."""
    deepest = max(len(levels(step)) for step in steps)
    fitting = [depth for depth in range(1, deepest + 1) if len(groups(steps, depth)) <= MOST_LINES]
    return fitting[-1] if fitting else 1


def rows(steps: Sequence[TraceStep], depth: int, width: int, bars: dict[int, str], most: int | None) -> Iterator[Text]:
    """A line for each group: its steps' numbers, its name, its result's shape, and the norm of what arrives there.

    `bars` are those of the steps' norms by their numbers.  Of more than `most` groups one line stands for those in the middle.
    """
    every = groups(steps, depth)
    gone = 0 if most is None or len(every) <= most else len(every) - most + 1
    head = (len(every) - gone + 1) // 2
    found = every[:head] + every[head + gone :]
    counts = {group.numbers: f"{len(group.steps)} steps" if len(group.steps) > 1 else "" for group in found}
    numbers = max(len(group.numbers) for group in found)
    names = min(max(cell_len(group.name) for group in found), max(width // 3, 16))
    sizes = max(len(count) for count in counts.values())
    shapes = [str(tuple(group.steps[-1].shape)) for group in found]
    widest = max(map(len, shapes))
    for place, (group, shape) in enumerate(zip(found, shapes, strict=True)):
        if gone and place == head:
            count = sum(len(group.steps) for group in every[head : head + gone])
            yield Text(f"{'⋮':>{numbers}}  {count} steps in between", style=QUIET)
        last = group.steps[-1]
        norm = "no gradient comes by" if last.norm is None else f"‖v‖ = {number_text(last.norm)}"
        yield Text.assemble(
            f"{group.numbers:>{numbers}}  ",
            (cut(group.name, names).ljust(names), NAME),
            f"  {counts[group.numbers].ljust(sizes)}  {shape.ljust(widest)}  ",
            (bars[last.index] + " ", "magenta"),
            (norm, QUIET if last.norm is None else ""),
            no_wrap=True,
            overflow="ignore",
        )
