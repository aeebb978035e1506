"""The answer of `jvp run`: the derivative calls of a program, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jvpcli.report import Shape


@dataclass(frozen=True)
class CallTensor:
    """A tensor of a derivative call: what the program calls it, its shape and dtype."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class GradCall:
    """A call of torch.autograd.grad or backward; `grad_outputs` is null where the call gives none."""

    index: int
    file: str
    line: int
    function: str
    source: str
    outputs: tuple[CallTensor, ...]
    inputs: tuple[CallTensor, ...]
    grad_outputs: tuple[CallTensor, ...] | None


@dataclass(frozen=True)
class Alarm:
    """A gradient that has become NaN, infinite or all zero, the first time that it was seen.

    `code` is "nan", "inf" or "zero", `tensors` whose gradients are so, `backward` the number of the backward pass from 1, and
    `file`, `line` where it was called.  `step` is the place of the first step of the backward pass that gives such numbers, with
    its text and the module that it ran in, where that could be found out; `message` says all of it.
    """

    code: str
    tensors: tuple[str, ...]
    backward: int
    file: str
    line: int
    message: str
    step: AlarmStep | None = None


@dataclass(frozen=True)
class AlarmStep:
    """A step of the program: where it is, its text, the module that it ran in (empty outside of modules)."""

    file: str
    line: int
    source: str
    module: str


@dataclass(frozen=True)
class RunReport:
    """The derivative calls of a program in their order; `error` is what ended it, as in a failure's document.

    `alarms` are what `--watch` has found.
    """

    calls: tuple[GradCall, ...]
    error: Mapping[str, Any] | None
    alarms: tuple[Alarm, ...] | None = None
