"""What the templates of a `trace` page show, beside the report itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from markupsafe import Markup

from jvpcli.errors import shortened
from jvpcli.render.html.formulas import IN, OUT
from jvpcli.render.html.inspect import agreement, contracted
from jvpcli.render.numbers import number_text
from jvpcli.report import Shape
from jvpcli.report.trace import MARK, Contribution, LocalJacobian, TraceReport, TraceStep

MOST_BOXES = 400
"""A longer trace has no graph, only its steps."""

MOST_CELLS = 64
"""Arrays up to this many entries are shown as a table of cells."""

LABEL = 27
"""Characters of a line in a box."""

BOX_WIDTH, BOX_HEIGHT = 206, 66
COLUMN_GAP, LAYER_GAP = 24, 44
CROSSING = 22
"""The room that an edge takes in a layer that it crosses."""

MARGIN = 8
SWEEPS = 6
PARALLEL = 26
"""How far apart two edges between the same boxes start."""


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
        "formula": _formula,
        "data": _data(report, graph),
    }


def _formula(step: TraceStep, local: LocalJacobian) -> Markup:
    """What a step does for an operand; what has a long name is one of the letters a to h there, or z."""
    letters = dict.fromkeys("abcdefgh", IN) | {"z": OUT}
    letters |= {letter + MARK: kind for letter, kind in letters.items()}
    names = letters | dict.fromkeys(("v", local.part or step.output), OUT) | {local.operand: IN}
    return contracted(local.formula, local.einsum, names)


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
            title=shortened(name, 18),
            shape=str(tuple(x.shape)),
            value=_line("=", x.value, x.shape),
            cotangent=_line(f"∂L/∂{shortened(name, 8)} =", gradient.value, gradient.shape) if gradient else "",
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
            title=shortened(f"{step.index}  {step.op}", 18),
            shape=str(tuple(step.shape)),
            value=_line(f"{shortened(step.output, 8)} =" if _named(step) else "=", step.value, step.shape),
            cotangent=_line(f"∂L/∂{shortened(step.output, 8)} =" if _named(step) else "v =", arrives.value, arrives.shape)
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
        return shortened(f"{lead} {'[' * len(shape)}{start}", LABEL)
    return shortened(f"{lead} {_nested(values)}", LABEL)


def _nested(values: np.ndarray) -> str:
    """An array as nested lists on one line."""
    if values.ndim == 0:
        return number_text(values[()])
    return f"[{', '.join(map(_nested, values))}]" if values.ndim > 1 else f"[{', '.join(map(number_text, values))}]"


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


# The graph, laid out: data flows downwards, gradients the other way.  Layers by longest path, sources moved down to where
# they are first used, layers ordered by the mean place of their neighbours in a few sweeps (Sugiyama, Tagawa and Toda
# 1981), edges through the layers that they cross.


@dataclass(frozen=True, slots=True)
class Edge:
    """From what makes an operand to the step that uses it; `passes` where a gradient flows back along it."""

    source: str
    target: str
    position: int
    passes: bool
    path: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """An input or a step: its key, its upper left corner."""

    key: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes and edges with their places, and the size of the whole."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float


@dataclass
class _Layers:
    """Keys by layer, from left to right; an edge that crosses a layer has a key of its own there."""

    rows: list[list[object]]
    chains: list[list[object]] = field(default_factory=list)


def input_key(number: int) -> str:
    """The key of an input's box."""
    return f"input-{number}"


def step_key(index: int) -> str:
    """The key of a step's box."""
    return f"step-{index}"


def makers(report: TraceReport) -> Mapping[str, str]:
    """Value to the key of the box that makes it."""
    found = {name: input_key(number) for number, name in enumerate(report.inputs)}
    for step in report.steps:
        found[step.output] = step_key(step.index)
        found.update((part.output, step_key(step.index)) for part in step.parts or ())
    return found


def lay_out(report: TraceReport) -> Graph:
    """The graph of a trace."""
    keys = [input_key(number) for number in range(len(report.inputs))] + [step_key(s.index) for s in report.steps]
    edges = list(_edges(report))
    levels = _levels(keys, edges)
    layers = _layers(keys, edges, levels)
    _untangle(layers)
    centres, width = _centres(layers.rows)
    boxes = tuple(Box(key, centres[key] - BOX_WIDTH / 2, _top(levels[key])) for key in keys)
    drawn = tuple(_drawn(edges, layers.chains, centres, levels))
    height = 2 * MARGIN + len(layers.rows) * (BOX_HEIGHT + LAYER_GAP) - LAYER_GAP
    return Graph(boxes, drawn, width, height)


def _edges(report: TraceReport) -> Iterable[Edge]:
    found: dict[str, str] = {name: input_key(number) for number, name in enumerate(report.inputs)}
    for step in report.steps:
        yield from _edges_into(step, found)
        found[step.output] = step_key(step.index)
        found.update((part.output, step_key(step.index)) for part in step.parts or ())


def _edges_into(step: TraceStep, found: Mapping[str, str]) -> Iterable[Edge]:
    """One edge an operand; of several values of one step that pass no gradient, those that do stand for all."""
    passing = {part.position for part in step.contributions}
    edges = [
        Edge(found[operand], step_key(step.index), position, position in passing)
        for position, operand in enumerate(step.operands)
        if operand in found
    ]
    live = {edge.source for edge in edges if edge.passes}
    silent: set[str] = set()
    for edge in edges:
        if edge.passes or (edge.source not in live and edge.source not in silent):
            silent.add(edge.source)
            yield edge


def _levels(keys: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    into, out = defaultdict(list), defaultdict(list)
    for edge in edges:
        into[edge.target].append(edge.source)
        out[edge.source].append(edge.target)
    levels: dict[str, int] = {}
    for key in keys:
        levels[key] = 1 + max((levels[source] for source in into[key]), default=-1)
    for key in keys:
        if not into[key] and out[key]:
            levels[key] = min(levels[target] for target in out[key]) - 1
    lowest = min(levels.values(), default=0)
    return {key: level - lowest for key, level in levels.items()}


def _layers(keys: Sequence[str], edges: Sequence[Edge], levels: Mapping[str, int]) -> _Layers:
    layers = _Layers([[] for _ in range(max(levels.values(), default=-1) + 1)])
    for key in keys:
        layers.rows[levels[key]].append(key)
    for number, edge in enumerate(edges):
        crossed: list[object] = []
        for level in range(levels[edge.source] + 1, levels[edge.target]):
            crossed.append((number, level))
            layers.rows[level].append((number, level))
        layers.chains.append([edge.source, *crossed, edge.target])
    return layers


def _untangle(layers: _Layers) -> None:
    """Orders each layer by the mean place of its neighbours above, then below, a few times."""
    above, below = defaultdict(list), defaultdict(list)
    for chain in layers.chains:
        for upper, lower in pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    for sweep in range(SWEEPS):
        rows, neighbours = (layers.rows[1:], above) if sweep % 2 == 0 else (layers.rows[-2::-1], below)
        places = {key: place for row in layers.rows for place, key in enumerate(row)}
        for row in rows:
            row.sort(key=lambda key: _mean([places[n] for n in neighbours[key]], places[key]))
            places.update((key, place) for place, key in enumerate(row))


def _mean(places: Sequence[int], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise


def _centres(rows: Sequence[Sequence[object]]) -> tuple[dict[object, float], float]:
    """The middle of each key, the layers centred on each other, and the width of the widest."""
    spans = [[CROSSING if isinstance(key, tuple) else BOX_WIDTH for key in row] for row in rows]
    widths = [sum(span) + COLUMN_GAP * (len(span) - 1) for span in spans]
    widest = max(widths, default=0)
    centres: dict[object, float] = {}
    for row, span, width in zip(rows, spans, widths, strict=True):
        left = MARGIN + (widest - width) / 2
        for key, own in zip(row, span, strict=True):
            centres[key] = left + own / 2
            left += own + COLUMN_GAP
    return centres, widest + 2 * MARGIN


def _top(level: int) -> float:
    return MARGIN + level * (BOX_HEIGHT + LAYER_GAP)


def _drawn(
    edges: Sequence[Edge],
    chains: Sequence[Sequence[object]],
    centres: Mapping[object, float],
    levels: Mapping[str, int],
) -> Iterable[Edge]:
    ends: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, edge in enumerate(edges):
        ends[edge.source, edge.target].append(number)
    for number, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        parallel = ends[edge.source, edge.target]
        shift = (parallel.index(number) - (len(parallel) - 1) / 2) * min(PARALLEL, BOX_WIDTH / (len(parallel) + 1))
        middle = [centres[key] for key in chain[1:-1]]
        points = [centres[edge.source] + shift, *middle, centres[edge.target] + shift]
        yield Edge(edge.source, edge.target, edge.position, edge.passes, _path(points, levels[edge.source]))


def _path(points: Sequence[float], level: int) -> str:
    """A curve down through the layers, straight where it crosses one."""
    drawn = [f"M{points[0]:.1f} {_top(level) + BOX_HEIGHT:.1f}"]
    for offset, (start, end) in enumerate(pairwise(points)):
        upper, lower = _top(level + offset) + BOX_HEIGHT, _top(level + offset + 1)
        bend = (upper + lower) / 2
        drawn.append(f"C{start:.1f} {bend:.1f} {end:.1f} {bend:.1f} {end:.1f} {lower:.1f}")
        if offset < len(points) - 2:
            drawn.append(f"V{lower + BOX_HEIGHT:.1f}")
    return "".join(drawn)
