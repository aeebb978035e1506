"""The result of evaluating: every value, and the flat tape of the equations that ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jvpcli.program import Equation, Program

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation of a program gave.

    Attributes:
        program: what was evaluated; None for a Python function.
        inputs: name to tensor; the differentiated ones are leaves that require grad.
        outputs: name to tensor, named as the contract says.
        tape: the equations that ran, in order, without control flow: comprehensions are unrolled (each turn with
            slots of its own) and only the branch taken is there.  Slots below `len(inputs)` are the inputs.
        values: slot to value, for every slot on the tape.
        wrt: the names of the differentiated inputs.
    """

    program: Program | None
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    tape: tuple[Equation, ...]
    values: Mapping[int, Any]
    wrt: tuple[str, ...]
