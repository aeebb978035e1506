"""What a trace is made of, as tensors, and what its steps and values are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from jvpcli.derive.chain import LocalMap, Swept
from jvpcli.derive.replay import OUTPUT, WRITE, Chain, Primal, Step
from jvpcli.explain.contraction import entry_label, unravel
from jvpcli.language.evaluation import Evaluation
from jvpcli.program import IMPORTED, Program


@dataclass(frozen=True, eq=False)
class Traced:
    """Everything that one trace computed.

    Attributes:
        evaluation: of the expression, with its graph.
        chain: the same as steps with graphs of their own.
        swept: the backward pass over them.
        maps: of each step its local Jacobians.
        cotangents: output name to v.
        gradients: input name to what `torch.autograd.grad` gives for the whole; None: not reached.
        labels: a name for each value, by the number of its primal; no two have the same.
        names: of each step.
    """

    evaluation: Evaluation
    chain: Chain
    swept: Swept
    maps: Sequence[Sequence[LocalMap]]
    cotangents: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor | None]
    labels: Mapping[int, str]
    names: Sequence[str]

    @property
    def program(self) -> Program:
        """The expression."""
        assert self.evaluation.program is not None
        return self.evaluation.program

    def source(self, step: Step) -> str:
        """The text of a step on one line."""
        return _text(self.program, step)

    def entry(self, primal: Primal, flat: int) -> str:
        """`x[0] = -1`: one entry of a value with its number."""
        number = primal.tensor.reshape(-1)[flat].item()
        return f"{self.place(primal, flat)} = {number_text(number)}"

    def place(self, primal: Primal, flat: int) -> str:
        """`x[0]`: one entry of a value."""
        label, shape = self.labels[primal.number], tuple(primal.tensor.shape)
        return entry_label(bracketed(label), unravel(flat, shape)) if shape else label


def number_text(value: complex | bool) -> str:
    """A number in few digits, with ∞ for what is not finite."""
    if isinstance(value, complex):
        return f"{value:.4g}"
    return f"{value + 0:.4g}".replace("inf", "∞")  # + 0: no -0


def bracketed(label: str) -> str:
    """A label that an index can stand behind."""
    return label if re.fullmatch(r"[\w.]+(\[[\w, ]*\])?( \(\d+\))?|[\w.]+\([^()]*\)", label) else f"({label})"


def name_values(evaluation: Evaluation, chain: Chain) -> tuple[dict[int, str], list[str]]:
    """A label for each value and each step: the name that the text gives it, else its text; numbered where it repeats."""
    program = evaluation.program
    assert program is not None
    labels: dict[int, str] = {}
    bare: dict[int, str] = {}
    used: dict[str, int] = {}
    for name, primal in chain.inputs.items():
        labels[primal.number] = bare[primal.number] = name
        used[name] = 1
    own = {equation.name for equation in evaluation.tape}
    free = {p.number: name for name, p in chain.outputs.items() if name not in own and name not in chain.inputs}
    names = []
    for step in chain.steps:
        whole = step.equation.name or _text(program, step)
        if step.kind in (WRITE, OUTPUT) or step.equation.op == "op:setitem":
            whole = bare[step.operands[0].number]
        single = len(step.results) == 1
        for (suffix, changed), result in zip(_parts(step), step.results, strict=True):
            number = result.primal.number
            bare[number] = whole + suffix if changed is None else bare[changed.number]
            labels[number] = _unique(free.get(number, bare[number]) if single else bare[number], used)
        names.append(labels[step.results[0].primal.number] if single else _unique(whole, used))
    return labels, names


def _unique(label: str, used: dict[str, int]) -> str:
    used[label] = used.get(label, 0) + 1
    return label if used[label] == 1 else f"{label} ({used[label]})"


def _parts(step: Step) -> Iterator[tuple[str, Primal | None]]:
    """For each result what to write behind the step's text, or the operand that it is the new value of."""
    suffixes = list(_suffixes(step.value)) if len(step.results) > 1 else [""]
    for position, _ in enumerate(step.results):
        if position < len(suffixes):
            yield suffixes[position], None
        else:
            recorded = step.results[position].primal.recorded
            yield "", next(p for p in step.operands if p.recorded is recorded)


def _suffixes(value: object) -> Iterator[str]:
    """`.values`, `[0]`, `[1][2]`: how each tensor of a result is reached."""
    if isinstance(value, Primal):
        yield ""
    elif isinstance(value, (tuple, list)):
        fields = [name for name in dir(value) if _is_field(value, name)]
        by_position = {id(getattr(value, name)): name for name in fields}
        for index, item in enumerate(value):
            step = f".{by_position[id(item)]}" if id(item) in by_position else f"[{index}]"
            for rest in _suffixes(item):
                yield step + rest
    elif value is None:
        yield ""


def _is_field(value: object, name: str) -> bool:
    return type(value).__module__ == "torch.return_types" and not name.startswith("_") and name not in dir(tuple)


def _text(program: Program, step: Step) -> str:
    return " ".join(program.text(step.equation.span).split())


def operation_name(step: Step) -> str:
    """`torch.outer`, `Tensor.sum`, `Tensor.T`, `mul`: the operation as the report names it."""
    if step.kind in (WRITE, OUTPUT):
        return step.kind
    kind, target = step.equation.kind, step.equation.target
    if kind == "unpack":
        return "unpack"
    if kind == "attr" and len(step.operands) != 1:  # a field of a named result
        return f".{target}"
    return f"Tensor.{target}" if kind in ("method", "attr") else target.removeprefix(IMPORTED)
