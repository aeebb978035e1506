"""The answers of the commands that look something up: `jvp explain` and `jvp ops`."""

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


@dataclass(frozen=True)
class Operation:
    """Something that an expression can call, read or name; a method is written `x.name`."""

    name: str
    kind: str
    signature: str
    description: str


@dataclass(frozen=True)
class OpsReport:
    """The answer of `jvp ops`; `note` says why where nothing was found."""

    word: str
    operations: tuple[Operation, ...]
    note: str | None = None
