"""What evaluating gives: every value, the flat tape of the equations that ran, and the outputs by name.

Outputs are named as the contract says: the text's own names, y (y0, y1, …) for the rest, out where an input has that name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import JvpError, NotDifferentiableError
from jvpcli.language.operations import describe
from jvpcli.program import Equation, Program


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


def plain(tensor: Tensor) -> Tensor:
    """The same numbers, with the same graph, as an ordinary tensor in the ordinary layout.

    A user's function may give a sparse tensor (so may a backward pass), or one of a class with ways of its own
    (`__torch_dispatch__`), which can't be looked into.
    """
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def flatten(value: Any) -> Iterator[Any]:
    """The parts of nested tuples and lists; parts that are None are left out."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for part in value:
            if part is not None:
                yield from flatten(part)
    else:
        yield value


def name_outputs(
    parts: Sequence[tuple[str | None, Any]], inputs: Collection[str], source: str | None = None
) -> dict[str, Tensor]:
    """Outputs by name, in order; `parts` are the names that the text gives (or None) with the values.

    Raises:
        NotDifferentiableError: one of them is not a tensor, or there is none.
    """
    if not parts:
        raise NotDifferentiableError("The expression gives no tensor.", source=source)
    for _, value in parts:
        if not isinstance(value, Tensor):
            raise _no_tensor(value, source)
    own = [None if name in inputs else name for name, _ in parts]
    defaults = _defaults("y", len(parts))
    base = "out"
    while any(name is None and default in inputs for name, default in zip(own, defaults, strict=True)):
        defaults, base = _defaults(base, len(parts)), base + "_"
    outputs: dict[str, Tensor] = {}
    for name, default, (_, value) in zip(own, defaults, parts, strict=True):
        free = default if name is None or name in outputs else name
        while free in outputs:
            free += "_"
        value = plain(value)
        # an in-place comparison leaves a boolean tensor that still claims to carry a gradient
        outputs[free] = value if value.is_floating_point() or value.is_complex() else value.detach()
    return outputs


def _defaults(base: str, count: int) -> list[str]:
    return [base] if count == 1 else [f"{base}{index}" for index in range(count)]


def _no_tensor(value: Any, source: str | None) -> JvpError:
    if isinstance(value, (int, float, complex)):
        return NotDifferentiableError(
            f"The expression gives the plain number {value!r}, which no gradient reaches.",
            explanation="`.item()`, `float(…)`, `len(…)`, sizes and numbers alone are not tensors: the graph ends there.",
            source=source,
        )
    return NotDifferentiableError(f"The expression gives {describe(value)}, not a tensor.", source=source)
