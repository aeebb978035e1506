"""The graph of a trace, laid out: data flows downwards, gradients the other way.

Layers by longest path, sources moved down to where they are first used, layers ordered by the mean place of their
neighbours in a few sweeps (Sugiyama, Tagawa and Toda 1981), edges through the layers that they cross.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from jvpcli.report.trace import TraceReport, TraceStep

BOX_WIDTH, BOX_HEIGHT = 206, 66
COLUMN_GAP, LAYER_GAP = 24, 44
CROSSING = 22
"""The room that an edge takes in a layer that it crosses."""

MARGIN = 8
SWEEPS = 6
PARALLEL = 26
"""How far apart two edges between the same boxes start."""


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
