"""The answer of `jvp check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jvpcli.report import Call, InputValue, Notice, PassedOver, Value


@dataclass(frozen=True)
class CheckedEntry:
    """One entry of a Jacobian as autograd has it and as differences have it.

    A part ("real" or "imag") is there for complex tensors.  `below` and `above` are the one-sided derivatives at a kink;
    `over` is the width of the difference where it is not as small as it can be (a staircase).
    """

    output: str
    output_index: tuple[int, ...]
    input: str
    input_index: tuple[int, ...]
    analytic: float
    numeric: float
    output_part: str | None = None
    input_part: str | None = None
    below: float | None = None
    above: float | None = None
    over: float | None = None


@dataclass(frozen=True)
class GuiltyStep:
    """The step that makes a gradient wrong: its text and place in the expression, or file and line of the user's code."""

    source: str
    span: tuple[int, int] | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Comparing:
    """One comparison of a check: what with what, whether it agrees (None: not compared), how far off it is, and how."""

    name: str
    agrees: bool | None
    error: float | None
    about: str


@dataclass(frozen=True)
class CheckReport:
    """The answer of `jvp check`.

    `max_error` is |analytic − numeric| of the worst entry (infinite where one of them is not finite); for verdict
    `nondeterministic`, where there is no derivative to check, how far two runs differ; of a large problem that passes the
    largest difference of the random products that were compared.  `mode` says whose numbers the verdict is about:
    "reverse" (the backward pass) or "forward".
    """

    expression: str
    passed: bool
    verdict: str
    mode: str
    max_error: float
    worst: CheckedEntry | None
    explanation: str
    hints: tuple[str, ...]
    comparisons: tuple[Comparing, ...]
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, Value]
    warnings: tuple[Notice, ...] = ()
    step: GuiltyStep | None = None
    calls: tuple[Call, ...] | None = None
    passed_over: tuple[PassedOver, ...] | None = None
