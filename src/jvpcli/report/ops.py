"""The answer of `jvp ops`."""

from __future__ import annotations

from dataclasses import dataclass


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
