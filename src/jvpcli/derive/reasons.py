"""What every explanation needs: the losses of a run, the function with some results replaced, and a cause with its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jvpcli.derive.compare import Entry
from jvpcli.derive.losses import Call, Loss, Watch, equation_of
from jvpcli.derive.vectors import RealFunction
from jvpcli.language.evaluation import Evaluation
from jvpcli.program import Equation


@dataclass(frozen=True, eq=False)
class Reason:
    """A cause, and the step that it is at: of the tape (`equation`), or in the user's own code (`place`).

    `entry` and `over` are there where a difference over a wider step shows it.
    """

    cause: str
    name: str = ""
    equation: Equation | None = None
    place: tuple[str, int] | None = None
    entry: Entry | None = None
    over: float | None = None


def watched(function: RealFunction, files: Collection[str]) -> tuple[list[Loss], Evaluation]:
    """The losses of a run at the point that can be placed, in the text or in the user's own code."""
    watch = Watch(files)
    with watch:
        evaluation = function.evaluate({})
    losses = watch.found()
    if evaluation.program is None:
        return losses, evaluation
    return [loss for loss in losses if loss.place or equation_of(loss, evaluation)], evaluation


def told(cause: str, call: Loss | Call, evaluation: Evaluation, **more: Any) -> Reason:
    """A cause at a call."""
    return Reason(cause, call.name, equation_of(call, evaluation), call.place, **more)


def value_with(function: RealFunction, x: Tensor, replaced: Mapping[int, Any], files: Collection[str]) -> Tensor:
    """y at another point (m,), with the results of some losses replaced (by position)."""
    with Watch(files, replaced):
        return function.value(x)


def moved(function: RealFunction, column: int, by: float) -> Tensor:
    """The point with one entry moved (n,)."""
    x = function.x.clone()
    x[column] += by
    return x
