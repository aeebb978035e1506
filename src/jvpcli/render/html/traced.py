"""What the templates of a `trace` page show, beside the report itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from jvpcli.render.html.data import script_block
from jvpcli.render.html.graph import BOX_HEIGHT, BOX_WIDTH, Box, Graph, input_key, lay_out, makers, step_key
from jvpcli.render.html.inspected import agreement
from jvpcli.render.html.mathml import math
from jvpcli.render.numbers import number_text
from jvpcli.report import Shape
from jvpcli.report.trace import Contribution, LocalJacobian, TraceReport, TraceStep

MOST_BOXES = 400
"""A longer trace has no graph, only its steps."""

MOST_CELLS = 64
"""Arrays up to this many entries are shown as a table of cells."""

LABEL = 27
"""Characters of a line in a box."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An entry: its text, and a class for its colour (sign and size, in tenths of the largest)."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box of the graph with its lines of text."""

    box: Box
    title: str
    shape: str
    value: str
    cotangent: str
    kind: str
    finding: str


@dataclass(frozen=True, slots=True)
class Passed:
    """What a step does for one operand: its local Jacobians there and what flows on (None: nothing)."""

    operand: str
    position: int
    jacobians: tuple[LocalJacobian, ...]
    contribution: Contribution | None


@dataclass(frozen=True, slots=True)
class Summand:
    """One of the contributions that add up to an input's gradient."""

    step: TraceStep
    position: int
    value: np.ndarray | None


def view(report: TraceReport) -> Mapping[str, Any]:
    """The templates' variables."""
    graph = lay_out(report) if len(report.steps) + len(report.inputs) <= MOST_BOXES else None
    return {
        "command": "trace",
        "graph": graph,
        "boxes": list(_boxes(report, graph)) if graph else [],
        "box_width": BOX_WIDTH,
        "box_height": BOX_HEIGHT,
        "passed": {step.index: list(_passed(step)) for step in report.steps},
        "arriving": {step.index: [part for part in step.parts or () if part.cotangent] for step in report.steps},
        "named": {step.index: _named(step) for step in report.steps},
        "sums": {name: list(_summands(report, name)) for name in report.vjp},
        "findings": {step.index: [f for f in report.findings if f.step == step.index] for step in report.steps},
        "agreement": agreement(report.comparison),
        "cells": cells,
        "math": math,
        "data": script_block(_data(report, graph)),
    }


def _data(report: TraceReport, graph: Graph | None) -> dict[str, Any]:
    """The frames in order: the inputs, each step forward, what arrives at the outputs, each step backward, the result."""
    keys = [step_key(step.index) for step in report.steps]
    live = [key for key, step in zip(keys, report.steps, strict=True) if step.cotangent is not None]
    made = makers(report)
    ends = [made[value] for value in report.output_values.values() if value in made]
    inputs = [input_key(number) for number in range(len(report.inputs))]
    results = [key for key, name in zip(inputs, report.inputs, strict=True) if name in report.vjp]
    frames = [
        {"show": "inputs", "on": inputs, "way": "forward"},
        *({"show": key, "on": [key], "way": "forward"} for key in keys),
        {"show": "outputs", "on": ends, "way": "backward"},
        *({"show": key, "on": [key], "way": "backward"} for key in reversed(live)),
        {"show": "result", "on": results, "way": "result"},
    ]
    edges = [(edge.source, edge.target, edge.passes) for edge in graph.edges] if graph else []
    return {"kind": "trace", "frames": frames, "edges": edges}


def _boxes(report: TraceReport, graph: Graph) -> Iterator[Drawn]:
    places = {box.key: box for box in graph.boxes}
    for number, (name, x) in enumerate(report.inputs.items()):
        gradient = report.vjp.get(name)
        yield Drawn(
            box=places[input_key(number)],
            title=_cut(name, 18),
            shape=str(tuple(x.shape)),
            value=_line("=", x.value, x.shape),
            cotangent=_line(f"∂L/∂{_cut(name, 8)} =", gradient.value, gradient.shape) if gradient else "",
            kind="input",
            finding="",
        )
    codes = {finding.step: finding.code for finding in reversed(report.findings)}
    ends = set(report.output_values.values())
    for step in report.steps:
        arrives = step.cotangent
        is_end = step.output in ends or any(part.output in ends for part in step.parts or ())
        yield Drawn(
            box=places[step_key(step.index)],
            title=_cut(f"{step.index}  {step.op}", 18),
            shape=str(tuple(step.shape)),
            value=_line(f"{_cut(step.output, 8)} =" if _named(step) else "=", step.value, step.shape),
            cotangent=_line(f"∂L/∂{_cut(step.output, 8)} =" if _named(step) else "v =", arrives.value, arrives.shape)
            if arrives
            else "no gradient",
            kind="output" if is_end else "step",
            finding=codes.get(step.index, ""),
        )


def _named(step: TraceStep) -> bool:
    """Whether the result has a name of its own, and not just the text that makes it."""
    return step.output.isidentifier()


def _line(lead: str, values: np.ndarray | None, shape: Shape) -> str:
    """As much of an array as a line of a box holds."""
    if values is None:
        return f"{lead} …"
    if values.size > 12:
        start = ", ".join(number_text(entry) for entry in values.reshape(-1)[:12])
        return _cut(f"{lead} {'[' * len(shape)}{start}", LABEL)
    return _cut(f"{lead} {_nested(values)}", LABEL)


def _nested(values: np.ndarray) -> str:
    """An array as nested lists on one line."""
    if values.ndim == 0:
        return number_text(values[()])
    return f"[{', '.join(map(_nested, values))}]" if values.ndim > 1 else f"[{', '.join(map(number_text, values))}]"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _passed(step: TraceStep) -> Iterator[Passed]:
    positions = {part.position: part.operand for part in step.local_jacobians}
    positions |= {part.position: part.operand for part in step.contributions}
    for position, operand in sorted(positions.items()):
        yield Passed(
            operand=operand,
            position=position,
            jacobians=tuple(part for part in step.local_jacobians if part.position == position),
            contribution=next((part for part in step.contributions if part.position == position), None),
        )


def _summands(report: TraceReport, name: str) -> Iterator[Summand]:
    for step in reversed(report.steps):
        for part in step.contributions:
            if part.operand == name:
                yield Summand(step, part.position, part.value)


def cells(values: np.ndarray | None) -> list[list[Cell]] | None:
    """A small array as rows of cells (the last axis to the right, all others downwards); None for a large one."""
    if values is None or not 0 < values.size <= MOST_CELLS:
        return None
    columns = values.shape[-1] if values.ndim else 1
    sizes = np.abs(values)
    largest = float(np.max(sizes, initial=0.0, where=np.isfinite(sizes))) or 1.0
    flat = [Cell(number_text(entry), _tone(entry, largest)) for entry in values.reshape(-1)]
    return [flat[start : start + columns] for start in range(0, prod(values.shape), columns)]


def _tone(entry: np.generic, largest: float) -> str:
    if entry == 0:
        return "jvp-zero"
    size = abs(entry.item())
    if not np.isfinite(size):
        return "jvp-bad"
    strength = f"jvp-t{max(2, min(10, round(10 * size / largest)))}"
    return f"{strength} jvp-minus" if np.isrealobj(entry) and entry.item() < 0 else strength
