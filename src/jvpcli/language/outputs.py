"""What an evaluation gives: its outputs, part by part, under the names that the contract says.

Those are the text's own names, y (y0, y1, …) for the rest, out where an input has that name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from jvpcli.errors import JvpError, NotDifferentiableError, UsageError
from jvpcli.language.operations import Record, can_require_grad, describe
from jvpcli.language.run import Run, entries_in
from jvpcli.program import Const, Operand, Pack, Program, Ref


def named_outputs(run: Run, program: Program, parts: Sequence[tuple[str | None, Operand]]) -> dict[str, Tensor]:
    """The outputs of a run by name."""
    values = [(name, run.read(operand)) for name, operand in parts]
    return name_outputs(values, program.inputs, program.source, [name for name, _ in program.names])


def parts_of(run: Run, program: Program) -> tuple[list[tuple[str | None, Operand]], dict[str, str]]:
    """The outputs as operands of the tape, with the names that the text gives them, and in words what is left out.

    Nested results are flat.
    """
    entries = entries_in(run.held(program.result)) if isinstance(program.result, Ref) else None
    if entries is not None:  # the values of a dictionary, by their keys
        values = [
            (key if isinstance(key, str) and key.isidentifier() else None, part)
            for key, value in entries.items()
            for _, part, _ in _flat(run, run.written_out(value))
        ]
        return values, {}
    result, names = run.on_tape(program.result), program.result_names
    if names is not None and len(names) == 1:
        elements: list[tuple[str | None, Operand]] = [(names[0], result)]
        if isinstance(program.result, Pack) and len(program.result.items) == 1 and isinstance(result, Pack):
            elements = [(names[0], result.items[0])]
    elif names is not None and isinstance(result, Pack):
        elements = list(zip(names, result.items, strict=True))
    else:
        elements = [(None, result)]
    taken = {name for name, _ in program.names}
    found: list[tuple[str | None, Operand]] = []
    left_out: dict[str, str] = {}
    defaults = _default_names([None] * len(elements), program.inputs)
    named = any(_has_names(run.read(operand)) for _, operand in elements)
    for (name, operand), default in zip(elements, defaults, strict=True):
        base = name or default
        parts = [(base + path, part, run.read(part), given) for path, part, given in _flat(run, operand)]
        flat = [(path, part) for path, part, value, given in parts if isinstance(value, Tensor) or not given]
        if flat:
            left_out |= {path: describe(value) for path, _, value, given in parts if given and not isinstance(value, Tensor)}
        else:
            flat = [(path, part) for path, part, *_ in parts]
        if _has_names(run.read(operand)):
            found += flat
            continue
        name = base if named else name
        if name is not None and len(flat) > 1:
            while not taken.isdisjoint(f"{name}{index}" for index in range(len(flat))):
                name += "_"
        for index, (_, part) in enumerate(flat):
            found.append((name if name is None or len(flat) == 1 else f"{name}{index}", part))
    return found, left_out


def _flat(run: Run, operand: Operand, path: str = "", given: bool = False) -> Iterator[tuple[str, Operand, bool]]:
    """The parts of a result that are not None, with their paths, and whether a function gave them with others.

    Those become steps of their own.
    """
    value, within = run.read(operand), given or isinstance(operand, Ref)
    if isinstance(value, Record):
        for step, op, key in value.steps:
            yield from _flat(run, run.part(operand, op, key), path + step, within)
        for step, other in value.others.items():
            yield path + step, Const(other), within
    elif isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        names = getattr(value, "_fields", None)
        for index, item in enumerate(run.items_of(operand)):
            yield from _flat(run, item, path + (f".{names[index]}" if names else f"[{index}]"), within)
    elif value is not None or not path:
        yield path, operand, given


def _has_names(value: Any) -> bool:
    """Whether a result has named parts, which are then called by their paths."""
    if isinstance(value, Record):
        return True
    return isinstance(value, (tuple, list)) and (hasattr(value, "_fields") or any(map(_has_names, value)))


def ordinary(tensor: Tensor) -> Tensor:
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
    parts: Sequence[tuple[str | None, Any]],
    inputs: Collection[str],
    source: str | None = None,
    assigned: Collection[str] = (),
) -> dict[str, Tensor]:
    """Outputs by name, in order; `parts` are the names that the text gives (or None) with the values.

    `inputs` and `assigned` are the names that stand for something else already: no other output is called so.

    Raises:
        NotDifferentiableError: one of them is not a tensor, or there is none.
    """
    if not parts:
        raise NotDifferentiableError("The expression gives no tensor.", source=source)
    for _, value in parts:
        if not isinstance(value, Tensor):
            raise _no_tensor(value, source)
    own = [None if name in inputs else name for name, _ in parts]
    taken = {*inputs, *assigned}
    defaults = _default_names(own, taken)
    outputs: dict[str, Tensor] = {}
    for name, default, (_, value) in zip(own, defaults, parts, strict=True):
        free = default if name is None or name in outputs else name
        while free in outputs or (free in taken and free != name):
            free += "_"
        value = ordinary(value)
        # an in-place comparison leaves a boolean tensor that still claims to carry a gradient
        outputs[free] = value if can_require_grad(value) else value.detach()
    return outputs


def _default_names(own: Sequence[str | None], taken: Collection[str]) -> list[str]:
    """A name for each output that has none of its own; where that name is taken, another."""
    defaults, base = _defaults("y", len(own)), "out"
    while not {default for name, default in zip(own, defaults, strict=True) if name is None}.isdisjoint(taken):
        defaults, base = _defaults(base, len(own)), base + "_"
    return defaults


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


def results_of(result: Any, given: Collection[str], ignored: Collection[str]) -> list[tuple[str | None, Any]]:
    """What a function gave, part by part, with its names; what is None or ignored is left out.

    Raises:
        UsageError: an ignored name that is none of theirs.
    """
    if isinstance(result, Tensor) and not ignored:
        return [(None, result)]
    from jvpcli.language.trees import is_below, is_named, leaves  # most functions give one tensor

    if is_named(result):
        base = "out"
        while base in given:
            base += "_"
        found = [(path, part) for path, part in leaves(result, base) if part is not None]
    else:
        flat = list(flatten(result))
        found = list(zip(_default_names([None] * len(flat), given), flat, strict=True))
    for name in ignored:
        if not any(is_below(path, name) for path, _ in found):
            shown = ", ".join(path for path, _ in found)
            raise UsageError(f"ignore names {name!r}, which is none of the outputs: {shown}")
    return [(path, part) for path, part in found if not any(is_below(path, name) for name in ignored)]
