"""A trace as a Graphviz graph: inputs, steps and outputs, with the shapes on the edges."""

from __future__ import annotations

from collections.abc import Iterator

from jvpcli.errors import shortened
from jvpcli.render import visible
from jvpcli.report.trace import TraceReport, TraceStep

LONGEST_LABEL = 60
"""Characters of a step's text."""

COLOURS = {"nan": "red", "inf": "red", "zero": "orange", "vanishing": "orange", "exploding": "orange"}
"""Of the steps that something was found at."""


def to_dot(report: TraceReport) -> str:
    """The graph in the DOT language; data flows downwards, gradients the other way."""
    return "\n".join(["digraph trace {", *(f"  {line}" for line in _lines(report)), "}", ""])


def _lines(report: TraceReport) -> Iterator[str]:
    yield 'graph [rankdir=TB, fontname="monospace"];'
    yield 'node [shape=box, style=rounded, fontname="monospace"];'
    yield 'edge [fontname="monospace", fontsize=10];'
    makers: dict[str, tuple[str, str]] = {}
    for number, (name, x) in enumerate(report.inputs.items()):
        shape = str(tuple(x.shape))
        yield f"input_{number} [shape=ellipse, label={quoted(name, shape)}];"
        makers[name] = f"input_{number}", shape
    colours = {finding.step: COLOURS.get(finding.code, "orange") for finding in reversed(report.findings)}
    for step in report.steps:
        colour = f", color={colours[step.index]}" if step.index in colours else ""
        yield f"step_{step.index} [label={quoted(f'{step.index}: {step.op}', _text(step))}{colour}];"
        for position, operand in enumerate(step.operands):
            if operand in makers:
                yield _edge(step, position, *makers[operand])
        makers[step.output] = f"step_{step.index}", str(tuple(step.shape))
        for part in step.parts or ():
            makers[part.output] = f"step_{step.index}", str(tuple(part.shape))
    for number, (name, y) in enumerate(report.outputs.items()):
        maker = makers.get(report.output_values[name])
        yield f"output_{number} [shape=ellipse, peripheries=2, label={quoted(name, str(tuple(y.shape)))}];"
        if maker is not None:
            yield f"{maker[0]} -> output_{number} [label={quoted(str(tuple(y.shape)))}];"


def _edge(step: TraceStep, position: int, source: str, shape: str) -> str:
    """From what makes an operand to the step; dashed where no gradient flows back."""
    passes = any(part.position == position for part in step.contributions)
    twice = step.operands.count(step.operands[position]) > 1
    label = quoted(f"{shape}, position {position}" if twice else shape)
    return f"{source} -> step_{step.index} [label={label}{'' if passes else ', style=dashed'}];"


def _text(step: TraceStep) -> str:
    text = " ".join(step.source.split())
    text = f"{step.output} = {text}" if step.output != text else text
    return shortened(text, LONGEST_LABEL)


def quoted(*lines: str) -> str:
    """A DOT string of these lines, whatever characters they hold."""
    safe = ["".join(c if c.isprintable() else " " for c in visible(line)) for line in lines]
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in safe) + '"'
