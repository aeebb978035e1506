"""The result of evaluating: every value, and the flat tape of the equations that ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
            slots of its own) and only the branch taken is there.  Slots below `len(inputs)` are the inputs.  What
            depends on no input and is no tensor stands in the tape's operands as a constant.
        values: slot to value, for every slot on the tape.  A tensor that a later step changed in place stands here as
            it was before; the changed one is that step's value (`operations.is_in_place`), and later steps refer to
            that.  Views of it are not kept: their values are those after all steps.
        wrt: the names of the differentiated inputs.
        output_slots: the slot of each output (of an input, where the text gives it back).
        said: what torch warned of meanwhile.
        functions: the imported functions that the program may call, by name.
        hooked: a function of the user's own has registered hooks: the backward pass is more than its operations.
    """

    program: Program | None
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    tape: tuple[Equation, ...]
    values: Mapping[int, Any]
    wrt: tuple[str, ...]
    output_slots: Mapping[str, int] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    hooked: bool = False

    @property
    def leaves(self) -> dict[str, Tensor]:
        """The differentiated inputs by name."""
        return {name: self.inputs[name] for name in self.wrt}
