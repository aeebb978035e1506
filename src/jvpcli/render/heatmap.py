"""Jacobians and norms as pictures in a terminal: half blocks, braille and a scale, sized to the console.

A small or dense Jacobian is drawn in half blocks (two entries a character, one above the other), a large sparse one in
braille (2 × 4 dots a character).  Without colour, shades stand for |value|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import zip_longest

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.text import Text

from jvpcli.render.matrix import Matrix, jacobians, pattern
from jvpcli.render.numbers import index_text, number_text
from jvpcli.report import Blocks, InspectReport, Jacobian
from jvpcli.report.hessian import HessianReport
from jvpcli.report.trace import TraceReport

MOST_COLUMNS = 120
MOST_LINES = 40
LARGEST_CELL = 4
"""An entry of a small Jacobian is drawn at most this many characters wide."""

SPARSE = 0.1
"""A large Jacobian with a smaller part of nonzeros is drawn as dots."""

SHADES, ASCII_SHADES = "·░▒▓█", "-.:+#"
"""Zero, then four strengths; the second for a terminal whose encoding has no others."""

BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character by row and column."""

ZERO = (58, 62, 68)
POSITIVE = (38, 190, 140)
NEGATIVE = (205, 90, 205)
NOT_A_NUMBER = (240, 190, 60)

RGB = tuple[int, int, int]
Paint = Callable[[float], str]
"""The style of a character that stands for this entry."""


def heatmap(report: InspectReport | TraceReport | HessianReport, console: Console) -> None:
    """Prints the pictures of a report: its Jacobians, or the norms of a trace's cotangents by step."""
    if isinstance(report, TraceReport):
        lines = list(_norms(report, _room(console)[0]))
    else:
        pictures = [(*found, console, _norms_of(report, *found[:2])) for found in jacobians(report)]
        lines = [line for picture in pictures for line in _picture(*picture)]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _room(console: Console) -> tuple[int, int]:
    """Columns and lines for a picture; a pipe has no size of its own."""
    if not console.is_terminal:
        return min(console.width, 80), MOST_LINES
    return min(console.width, MOST_COLUMNS), max(8, min(console.height - 8, MOST_LINES))


def _norms_of(report: InspectReport | HessianReport, y: str, x: str) -> Blocks | None:
    """The norms of the pieces of a Jacobian that was written to a store."""
    saved = report.saved if isinstance(report, InspectReport) else None
    return None if saved is None else saved.jacobian[y][x].picture


def _picture(
    y: str, x: str, jacobian: Jacobian, matrix: Matrix | None, console: Console, norms: Blocks | None = None
) -> Iterator[Text]:
    yield Text.assemble(f"\n∂{y}/∂{x}", style="bold")
    if matrix is None and norms is not None:
        sizes = f"{norms.output_sizes[0]} by {norms.input_sizes[0]}"
        yield Text(f"  the norms of its pieces, each of {sizes} entries of the flattened matrix", style="dim")
        at, to = norms.norms.nonzero()
        matrix = Matrix(norms.norms.shape[:1], norms.norms.shape[1:], at, to, norms.norms[at, to])
    if matrix is None:
        yield Text(f"  not written out: {jacobian.reason}", style="dim")
        return
    if matrix.m * matrix.n == 0:
        yield Text(f"  no entries: {jacobian.shape} has a size of 0", style="dim")
        return
    labels = [y + index_text(k, matrix.out_shape) for k in (0, matrix.m - 1)]
    margin = max(map(len, labels)) + 3
    columns, lines = _room(console)
    room = max(8, columns - margin - 1)
    unicode = console.encoding.lower().startswith("utf")
    colours = None if console.no_color else console.color_system
    colour = unicode and colours in ("256", "truecolor")
    signs = colours is not None and not colour  # sixteen colours are too few to tell strengths apart
    paint: Paint = _full_colour(matrix.largest()) if colour else _sign_colour if signs else _no_colour
    coloured = "; negative ones in magenta" if signs and _has_negatives(matrix) else ""
    meaning = ""
    shades = SHADES if unicode else ASCII_SHADES
    too_large = matrix.n > room or matrix.m > 2 * lines
    if unicode and too_large and matrix.nnz <= SPARSE * matrix.m * matrix.n:
        rows, note = _dots(matrix, lines, room, paint)
        meaning = f"a dot is not zero; |value| up to {number_text(matrix.largest())}{coloured}"
    elif colour:
        rows, note = _half_blocks(matrix, lines, room)
    else:
        rows, note = _shaded(matrix, lines, room, shades, paint)
        meaning = f"{shades[0]} 0   {shades[1:]} |value| up to {number_text(matrix.largest())}{coloured}"
    for number, row in enumerate(rows):
        label = labels[0] if number == 0 else labels[1] if number == len(rows) - 1 and matrix.m > 1 else ""
        yield Text.assemble((f"{label:>{margin - 1}} ", "dim"), row)
    yield _columns(x, matrix, margin, max(row.cell_len for row in rows))
    yield Text(" " * margin).append_text(_scale(matrix) if colour else Text(meaning, style="dim"))
    for fact in _facts(matrix, note):
        yield Text(" " * margin + fact, style="dim")


def _columns(x: str, matrix: Matrix, margin: int, width: int) -> Text:
    """The first and the last column's name, under the picture."""
    first, last = (x + index_text(i, matrix.in_shape) for i in (0, matrix.n - 1))
    gap = width - len(first) - len(last)
    text = first if matrix.n == 1 else f"{first}{' ' * gap}{last}" if gap > 0 else f"{first} … {last}"
    return Text(" " * margin + text, style="dim")


def _facts(matrix: Matrix, note: str) -> Iterator[str]:
    yield f"{matrix.m} × {matrix.n} entries, {matrix.nnz} not zero; {note}"
    found = pattern(matrix)
    facts = [f"bandwidth {found.bandwidth}"] if found.nnz and matrix.m == matrix.n else []
    facts += [f"{found.diagonal_blocks} diagonal blocks"] if found.diagonal_blocks > 1 else []
    if facts:
        yield "; ".join(facts)


def _half_blocks(matrix: Matrix, lines: int, room: int) -> tuple[list[Text], str]:
    """Two dots a character, one above the other; a small Jacobian's entries are squares of several dots."""
    size = max(1, min(LARGEST_CELL, room // matrix.n, 2 * lines // matrix.m))
    picture = matrix.blocks(2 * lines, room)
    dots = np.repeat(np.repeat(picture, size, axis=0), size, axis=1).tolist()
    largest = matrix.largest()
    pairs = zip_longest(dots[0::2], dots[1::2])
    return [_two_lines(above, below, largest) for above, below in pairs], _block_note(matrix, *picture.shape)


def _two_lines(above: list[float], below: list[float] | None, largest: float) -> Text:
    text = Text()
    for column, entry in enumerate(above):
        ground = "" if below is None else f" on {_hex(_rgb(below[column], largest))}"
        text.append("▀", style=_hex(_rgb(entry, largest)) + ground)
    return text


def _shaded(matrix: Matrix, lines: int, room: int, shades: str, paint: Paint) -> tuple[list[Text], str]:
    """A character an entry (or several beside each other), darker for larger |value|."""
    picture = matrix.blocks(lines, room)
    size = max(1, min(2 * LARGEST_CELL, room // picture.shape[1]))
    largest = matrix.largest()
    rows = []
    for line in picture.tolist():
        text = Text()
        for entry in line:
            text.append(_shade(entry, largest, shades) * size, style=paint(entry))
        rows.append(text)
    return rows, _block_note(matrix, *picture.shape)


def _dots(matrix: Matrix, lines: int, room: int, paint: Paint) -> tuple[list[Text], str]:
    """Braille: a dot where a block holds a nonzero, a character coloured by its largest."""
    scale = min(4 * lines / matrix.m, 2 * room / matrix.n, 1.0)
    height = max(4, round(matrix.m * scale))
    width = max(2, round(matrix.n * scale))
    picture = matrix.blocks(height, width)
    height, width = picture.shape
    padded = np.zeros((-(-height // 4) * 4, -(-width // 2) * 2))
    padded[:height, :width] = picture
    rows = []
    for top in range(0, padded.shape[0], 4):
        text = Text()
        for left in range(0, padded.shape[1], 2):
            block = padded[top : top + 4, left : left + 2]
            bits = sum(BRAILLE[r][c] for r in range(4) for c in range(2) if block[r, c] != 0)
            strongest = block.reshape(-1)[np.argmax(np.nan_to_num(np.abs(block), nan=np.inf))]
            text.append(chr(0x2800 + bits), style=paint(float(strongest)))
        rows.append(text)
    return rows, _block_note(matrix, height, width)


def _block_note(matrix: Matrix, height: int, width: int) -> str:
    down, across = -(-matrix.m // height), -(-matrix.n // width)
    return f"a dot is the largest of up to {down} × {across} entries" if down > 1 or across > 1 else "a cell an entry"


def _shade(entry: float, largest: float, shades: str) -> str:
    if entry == 0:
        return shades[0]
    if math.isnan(entry):
        return "?"
    return shades[max(1, min(4, math.ceil(4 * min(1.0, abs(entry) / (largest or 1.0)))))]


def _full_colour(largest: float) -> Paint:
    return lambda entry: "" if entry == 0 else _hex(_rgb(entry, largest))


def _no_colour(_entry: float) -> str:
    return ""


def _sign_colour(entry: float) -> str:
    return "" if entry == 0 else "yellow" if math.isnan(entry) else "green" if entry > 0 else "magenta"


def _has_negatives(matrix: Matrix) -> bool:
    return not np.iscomplexobj(matrix.values) and bool((matrix.values < 0).any())


def _rgb(entry: float, largest: float) -> RGB:
    """Grey for zero, then towards green or purple; a nonzero never looks like a zero."""
    if entry == 0:
        return ZERO
    if math.isnan(entry):
        return NOT_A_NUMBER
    part = 0.3 + 0.7 * min(1.0, abs(entry) / (largest or 1.0))
    tone = POSITIVE if entry > 0 else NEGATIVE
    return tuple(round(zero + part * (full - zero)) for zero, full in zip(ZERO, tone, strict=True))  # type: ignore[return-value]


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _scale(matrix: Matrix) -> Text:
    """What the colours mean, with numbers at the ends."""
    largest = matrix.largest()
    below = _has_negatives(matrix)
    steps = np.linspace(-largest if below else 0.0, largest, 21)
    bar = Text()
    for step in steps:
        bar.append("█", style=Style(color=_hex(_rgb(float(step), largest))))
    start = number_text(-largest) if below else "0"
    return Text.assemble((f"{start} ", "dim"), bar, (f" {number_text(largest)}", "dim"))


def _norms(report: TraceReport, columns: int) -> Iterator[Text]:
    """A bar a step, last step first as gradients go: the norm of the cotangent that arrives, on a logarithmic scale."""
    norms = {step.index: step.norm for step in report.steps if step.norm is not None}
    finite = [norm for norm in norms.values() if math.isfinite(norm) and norm > 0]
    high = math.log10(max(finite, default=1.0))
    low = min(math.log10(min(finite, default=1.0)), high - 1) - 0.05  # a decade at least, so that near is seen as near
    yield Text("\n‖v‖ at each step, on a logarithmic scale", style="bold")
    labels = {step.index: f"{step.index} {step.op}" for step in report.steps}
    margin = min(28, max((len(label) for label in labels.values()), default=0))
    room = max(8, columns - margin - 16)
    for step in reversed(report.steps):
        label = f"{labels[step.index][:margin]:<{margin}} "
        norm = norms.get(step.index)
        if norm is None:
            yield Text.assemble((label, "dim"), ("no gradient", "dim"))
        elif not math.isfinite(norm) or norm == 0:
            yield Text.assemble((label, "dim"), (number_text(norm), "bold yellow"))
        else:
            part = (math.log10(norm) - low) / (high - low)
            bar = "█" * max(1, round(part * room))
            yield Text.assemble((label, "dim"), (bar, _hex(POSITIVE)), f" {number_text(norm)}")
