"""The answer of `jvp explain`."""

from __future__ import annotations

from dataclasses import dataclass, field

from jvpcli.report import Shape


@dataclass(frozen=True)
class Explanation:
    """The answer of `jvp explain`: a message in plain words."""

    title: str
    meaning: str
    causes: tuple[str, ...]
    cures: tuple[str, ...]
    matched: str
    shapes: tuple[Shape, ...] = field(default=())
