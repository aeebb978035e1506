"""The answer of `jvp trace` as a person reads it: the forward pass, the backward pass, what goes wrong, the result.

One line a step and one an operand, so that thirty steps stay readable; one step alone is opened in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from jvpcli.render.error import underlined
from jvpcli.render.modules import MOST_LINES, depth_for, levels, rows
from jvpcli.render.numbers import LONGEST, array_text, kind_text, number_text
from jvpcli.render.parts import (
    WHOLE,
    Window,
    einsum_text,
    labelled,
    labelled_array,
    matrix_table,
    render_question,
)
from jvpcli.render.terminal import INDENT, NAME, PROSE_WIDTH, QUIET, cut, section
from jvpcli.report import Comparison, Jacobian, Value
from jvpcli.report.trace import MARK, Contribution, Finding, LocalJacobian, TraceReport, TraceStep, inside

LONGEST_LINE = 160
"""Columns of a line, however wide the console is."""

LONGEST_SOURCE = 36
"""A longer text of a step names the steps in it by their numbers."""

SHORTEST_ARRAY = 24
"""Columns that an array has at least."""

LONGEST_NAME = 24
"""A longer name of an operand is cut."""

MOST_STEPS = 12
"""Steps that are shown with all that flows; of more each has a line, or each module."""

SMALL = 64
"""Entries of a tensor whose steps are shown so, however many lines that takes."""

SHORT = 32
"""Lines, without the titles, of larger tensors' steps that are shown so."""

MOST_TERMS = 8
"""Contributions to one value that are listed."""

MOST_FINDINGS = 4
"""Of a model's that are told."""

MOST_RESULTS = 8
"""Gradients that are shown in full; of more each of the first gets a line."""

BAR = 8
"""Cells of the bar of a norm; each is a factor of ten below the largest."""

EIGHTHS = " ▏▎▍▌▋▊▉█"


def render_trace(
    report: TraceReport,
    console: Console,
    *,
    step: int | str | None = None,
    depth: int | None = None,
    full: bool = False,
) -> None:
    """Prints the whole trace, step number `step` in full, or the steps of the submodule that `step` names; `full` leaves
    nothing out of arrays.

    Of many steps, or of large tensors, each step has a line, or each submodule: their dotted paths cut to `depth` parts, or as
    deep as stays readable.
    """
    page = Page(report, min(console.width, LONGEST_LINE) - INDENT, full)
    render_question(console, report.expression, report.calls, report.refusal)
    if isinstance(step, int):
        sections = _opened(page, report.steps[step], full)
    elif step is not None:
        sections = _sections(replace(page, shown=inside(report.steps, step)))
    elif full or (depth is None and _is_short(page, console)):
        sections = _sections(page)
    else:
        sections = _by_module(page, depth or depth_for(report.steps), MOST_LINES if depth is None else None)
    for title, body, prose in sections:
        console.print(section(title, body, prose=prose))


def _is_short(page: Page, console: Console) -> bool:
    """Whether each step is shown with all that flows: of few steps of small tensors, or where that is no page."""
    small = all(math.prod(step.shape) <= SMALL for step in page.steps)
    if len(page.steps) > MOST_STEPS or small:
        return len(page.steps) <= MOST_STEPS
    return len(console.render_lines(Group(*(body for _, body, _ in _sections(page))), pad=False)) <= SHORT


Section = tuple[str, RenderableType, bool]
"""Title, body, and whether the body is prose."""


@dataclass(frozen=True)
class Page:
    """A report, how much room there is, and which of its steps are shown."""

    report: TraceReport
    width: int
    full: bool
    shown: Sequence[TraceStep] | None = None

    @property
    def steps(self) -> Sequence[TraceStep]:
        """The steps that are shown: all, if not those of one submodule."""
        return self.report.steps if self.shown is None else self.shown

    @cached_property
    def largest_norm(self) -> float:
        """The largest finite norm of a cotangent."""
        norms = [step.norm for step in self.steps if step.norm is not None and math.isfinite(step.norm)]
        return max(norms, default=0.0)

    def array(self, value: np.ndarray | None, room: int) -> str:
        """An array on one line of at most `room` columns, or whole."""
        return array_line(value, None if self.full else room)

    def output_of(self, step: TraceStep) -> str | None:
        """The output that a step gives, where that has another name than the step's result."""
        values = self.report.output_values.items()
        return next((name for name, label in values if label == step.output and name != label), None)


def array_line(value: np.ndarray | None, room: int | None) -> str:
    """An array on one line; what goes over `room` columns is cut off behind an entry."""
    text = array_text(value, lines=None if room is None else LONGEST, width=10**6).replace("...", "…")
    text = " ".join(text.split()).replace(" ,", ",").replace(" ]", "]").replace("[ ", "[")
    if room is None or cell_len(text) <= room:
        return text
    kept = text[: max(room - 2, 1)]
    return (kept[: kept.rfind(", ") + 1] or kept) + " …"


# The whole trace


def _sections(page: Page) -> Iterator[Section]:
    yield "Forward pass", Group(*_forward(page)), False
    yield "Backward pass, the last step first", Group(*_backward(page)), False
    if page.report.findings:
        yield "What to look at", Group(*_findings(page.report.findings)), True
    yield "The result", Group(*_results(page)), False


def _by_module(page: Page, depth: int, most: int | None) -> Iterator[Section]:
    bars = {step.index: bar(step.norm, page.largest_norm) for step in page.steps}
    title = f"Steps{' by module' if any(step.module for step in page.steps) else ''}, with what arrives at each"
    yield title, Group(*rows(page.steps, depth, page.width, bars, most), *_about_modules(page, depth)), False
    findings = page.report.findings
    if findings:
        told = Group(*_findings(findings[:MOST_FINDINGS]), *_more(len(findings), MOST_FINDINGS))
        yield "What to look at", told, True
    yield "The result", Group(*_results(page, most=0)), False


def _more(count: int, most: int) -> Iterator[Text]:
    """How many are left out, where that is so."""
    if count > most:
        yield Text(f"… {count - most} more (--full shows all)", style=QUIET)


def _about_modules(page: Page, depth: int) -> Iterator[Text]:
    deepest = max(len(levels(step)) for step in page.steps)
    deeper = f"--depth {depth + 1} shows more, " if depth < deepest else ""
    parts = "--step NAME the steps of a module" if deepest else "--step N shows one"
    yield _line((f"{deeper}{parts}, --full every step; v: what arrives; the bar: its norm", QUIET))


def _forward(page: Page) -> Iterator[Text]:
    read = {operand for step in page.steps for operand in step.operands}
    lines = [_input_row(page, name) for name in page.report.inputs if page.shown is None or name in read]
    lines += [
        (
            str(step.index),
            _title(page, step),
            f"{shape_of(step)} of {', '.join(step.operands) or 'nothing'}",
            step.value,
        )
        for step in page.steps
    ]
    limits = (page.width, page.width * 2 // 5, page.width // 4)
    widths = [min(max(cell_len(row[k]) for row in lines), limits[k]) for k in range(3)]  # type: ignore[arg-type]
    for number, title, about, value in lines:
        cells = _padded(cut(title, widths[1]), widths[1]), _padded(cut(about, widths[2]), widths[2])
        lead = f"{number:>{widths[0]}}  {cells[0]}  {cells[1]}  "
        yield _line((lead, ""), (page.array(value, page.width - cell_len(lead)), QUIET))


def _input_row(page: Page, name: str) -> tuple[str, str, str, np.ndarray | None]:
    x = page.report.inputs[name]
    about = "input" if x.differentiated else "input, not differentiated"
    return "", name, f"{tuple(x.shape)} {about}", x.value


def shape_of(step: TraceStep) -> str:
    """`(4, 4)`, or what a step gives that is no tensor."""
    if step.parts:
        return " ".join(str(tuple(part.shape)) for part in step.parts)
    return str(tuple(step.shape))


def _title(page: Page, step: TraceStep) -> str:
    """`y = torch.outer(x, x)`: what the step's result is called, where it has a name, and its text."""
    source = short_source(page.steps, step)
    if step.op == "write":
        return f"{step.output} ← {step.operands[1]}"
    if step.op == "setitem":
        return f"{step.output}: {source} = …"
    named = step.output != " ".join(step.source.split())
    output = page.output_of(step)
    return (f"{step.output} = {source}" if named else source) + (f" → {output}" if output else "")


def short_source(steps: Sequence[TraceStep], step: TraceStep) -> str:
    """The text of a step on one line; in a long one the steps that it contains stand as `#number`."""
    text = " ".join(step.source.split())
    if cell_len(text) <= LONGEST_SOURCE:
        return text
    start, end = step.span
    inner: dict[tuple[int, int], int] = {}
    for other in steps[: step.index]:
        if start <= other.span[0] and other.span[1] <= end and other.span != step.span:
            inner[other.span] = other.index
    outermost = [s for s in inner if not any(t != s and t[0] <= s[0] and s[1] <= t[1] for t in inner)]
    pieces, at = [], start
    for left, right in sorted(outermost):
        pieces += [step.source[at - start : left - start], f"#{inner[left, right]}"]
        at = right
    pieces.append(step.source[at - start :])
    return cut(" ".join("".join(pieces).split()), 2 * LONGEST_SOURCE)


def _backward(page: Page) -> Iterator[Text]:
    for name, v in page.report.grad_outputs.items():
        yield _line((f"v = ∂L/∂{name}", NAME), (f": {v.source} {tuple(v.shape)}", ""))
    shown = [step for step in reversed(page.steps) if step.cotangent is not None]
    columns = _Columns(page, shown)
    for step in shown:
        yield from columns.step(step)
    silent = [str(step.index) for step in page.steps if step.cotangent is None]
    if silent:
        yield _line((f"no gradient comes by: step{'s' if len(silent) > 1 else ''} {', '.join(silent)}", QUIET))
    if shown:
        yield _line(("v: what arrives; the bar: its norm, each cell less a factor of ten;", QUIET))
        mark = MARK if any(MARK in local.formula for step in shown for local in step.local_jacobians) else ""
        yield _line((f"z{mark}: the result, and a{mark}, b{mark}, …: the operands of a step, where they have no name", QUIET))


@dataclass
class _Columns:
    """The lines of the backward pass, their columns as wide as their widest cells."""

    page: Page
    steps: Sequence[TraceStep]

    def __post_init__(self) -> None:
        cells = [_cells(step, local) for step in self.steps for local in reached(step)]
        self.widths = [max((cell_len(row[k]) for row in cells), default=0) for k in range(3)]
        self.margin = max((len(str(step.index)) for step in self.steps), default=1) + 2
        room = self.page.width - self.margin - sum(self.widths) - 8
        self.stacked = room < SHORTEST_ARRAY  # what flows on gets a line of its own
        titles = [cell_len(_title(self.page, step)) for step in self.steps]
        self.title = min(max(titles, default=0), self.page.width * 2 // 5)

    def step(self, step: TraceStep) -> Iterator[Text]:
        """A line for the step with what arrives, one for each operand with what flows on."""
        title = _padded(cut(_title(self.page, step), self.title), self.title)
        norm = "" if step.norm is None else f"‖v‖ = {number_text(step.norm)}"
        lead = f"{step.index:>{self.margin - 2}}  {title}  "
        bars = bar(step.norm, self.page.largest_norm)
        room = self.page.width - cell_len(lead) - BAR - 17
        yield _line((lead, NAME), (f"{bars} ", "magenta"), (_padded(norm, 16), ""), (self._arriving(step, room), QUIET))
        sources = contributions_to(self.page.steps, step.output)
        if len(sources) > 1:
            yield from addition(self.page, " " * self.margin + "v = ", sources)
        locals_ = reached(step)
        for number, local in enumerate(locals_):
            last = all(other.position != local.position for other in locals_[number + 1 :])
            yield from self._operand(step, local, last)

    def _arriving(self, step: TraceStep, room: int) -> str:
        parts = [part for part in step.parts or () if part.cotangent is not None]
        if len(parts) > 1:
            names = [f"{part.output.removeprefix(step.output)} {tuple(part.shape)}" for part in parts]
            return cut(f"v for {', '.join(names)}", room)
        assert step.cotangent is not None
        head = f"v {tuple(step.cotangent.shape)} "
        return head + self.page.array(step.cotangent.value, room - cell_len(head))

    def _operand(self, step: TraceStep, local: LocalJacobian, last: bool) -> Iterator[Text]:
        """Through which local Jacobian; and, behind the last one to this operand, what flows on."""
        cells = [_padded(cell, width) for cell, width in zip(_cells(step, local), self.widths, strict=True)]
        lead = " " * self.margin + "  ".join(cells) + "  "
        if not last:
            yield _line((lead, ""))
            return
        passed = next((c for c in step.contributions if c.position == local.position), None)
        if self.stacked:
            yield _line((lead, ""))
            lead = " " * (self.margin + 2)
        array = (
            "nothing" if passed is None else "= " + self.page.array(passed.value, self.page.width - cell_len(lead) - 2)
        )
        yield _line((lead, ""), (array, "green"))


def reached(step: TraceStep) -> list[LocalJacobian]:
    """The local Jacobians that a cotangent is pulled back through."""
    parts = {part.output for part in step.parts or () if part.cotangent is None}
    return [local for local in step.local_jacobians if local.part not in parts]


def _cells(step: TraceStep, local: LocalJacobian) -> tuple[str, str, str]:
    """To which operand, by which local Jacobian, in index notation."""
    twice = step.operands.count(local.operand) > 1
    name = f"→ {cut(local.operand, LONGEST_NAME)}{f' ({local.position})' if twice else ''}"
    if local.part is not None:
        name += f" from {cut(local.part.removeprefix(step.output), LONGEST_NAME)}"
    return name, kind_of(local), local.formula.partition(" = ")[2]


def addition(page: Page, label: str, sources: Sequence[tuple[TraceStep, Contribution]]) -> Iterator[Text]:
    """The contributions to one value, a line each: `[10., 10.]  from step 0, position 1`."""
    label_width = cell_len(label)
    shown = sources if page.full else sources[:MOST_TERMS]
    arrays = [page.array(part.value, page.width - label_width - 28) for _, part in shown]
    width = max(map(cell_len, arrays))
    for number, ((step, part), array) in enumerate(zip(shown, arrays, strict=True)):
        twice = step.operands.count(part.operand) > 1
        origin = f"  from step {step.index}" + (f", position {part.position}" if twice else "")
        lead = label if number == 0 else " " * (label_width - 2) + "+ "
        yield _line((lead, NAME), (_padded(array, width), ""), (origin, QUIET))
    if len(shown) < len(sources):
        yield _line(
            (" " * (label_width - 2) + "+ ", NAME), (f"… {len(sources) - len(shown)} more (--full shows all)", QUIET)
        )


def kind_of(local: LocalJacobian) -> str:
    """`sparse (4, 4, 4), 16 of 64`: kind, shape, nonzeros."""
    size = math.prod(local.shape)
    counted = "not counted" if local.nnz is None else f"{local.nnz} of {size}"
    return f"{kind_text(local.structure, local.scale)} {tuple(local.shape)}, {counted}"


def contributions_to(steps: Iterable[TraceStep], label: str) -> list[tuple[TraceStep, Contribution]]:
    """What flows to a value, with the step that it comes from, in evaluation order."""
    return [(step, part) for step in steps for part in step.contributions if part.operand == label]


def bar(norm: float | None, largest: float) -> str:
    """A norm as a bar of eight cells, each a factor of ten: full for the largest."""
    if norm is None or norm == 0 or math.isnan(norm):
        return " " * BAR
    if math.isinf(norm):
        return "█" * (BAR - 1) + "▶"
    cells = min(max(BAR + math.log10(norm / largest), 1 / 8), BAR) if largest else 1 / 8
    whole, rest = divmod(round(cells * 8), 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR)


def _findings(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    for number, finding in enumerate(findings):
        if number:
            yield Text()
        label = finding.code if finding.reason is None else f"{finding.code}, {finding.reason}"
        yield Text.assemble(
            (label, "bold red" if finding.code in ("nan", "inf") else "bold yellow"), f": {finding.message}"
        )
        for hint in finding.hints:
            yield Text.assemble(("Try: ", QUIET), (hint, "bold green"), no_wrap=True, overflow="ignore")


def _results(page: Page, most: int = MOST_RESULTS) -> Iterator[Text]:
    shown = list(page.report.vjp.items())
    for name, gradient in shown if len(shown) <= most or page.full else ():
        yield from _result(page, name, gradient)
    if len(shown) > most and not page.full:
        width = max(len(name) for name, _ in shown)
        for name, gradient in shown[:MOST_RESULTS]:
            lead = f"∂L/∂{name.ljust(width)}  {tuple(gradient.shape)}  "
            yield _line((lead, NAME), (page.array(gradient.value, page.width - cell_len(lead)), QUIET))
        yield from _more(len(shown), MOST_RESULTS)
    yield from (Text(line, style=QUIET) for line in agreement(page.report.comparison, page.report.product))


def _result(page: Page, name: str, gradient: Value) -> Iterator[Text]:
    label = f"∂L/∂{name} = "
    sources = contributions_to(page.steps, name)
    if len(sources) > 1:
        yield from addition(page, label, sources)
        label = " " * (len(label) - 2) + "= "
    yield labelled_array(label, gradient.value, None if page.full else LONGEST, page.width)


def agreement(swept: Comparison, product: Comparison | None) -> Iterator[str]:
    """The two comparisons, a line each."""
    yield f"Compared with torch.autograd.grad of the whole: {_difference(swept)}."
    if product is None:
        yield "The local Jacobians were not multiplied together: some are too large to be written out."
    else:
        yield f"The local Jacobians multiplied together, and the explicit one: {_difference(product)}."


def _difference(comparison: Comparison) -> str:
    compared, bad = comparison.compared, comparison.not_finite
    words = f"{compared} entries, " if compared != 1 else "1 entry, "
    largest = comparison.largest_difference
    words += "all the same" if largest == 0 and compared else f"the largest difference is {number_text(largest)}"
    if not compared:
        words = "nothing to compare"
    return f"{words}; {bad} not finite" if bad else words


# One step


def _opened(page: Page, step: TraceStep, full: bool) -> Iterator[Section]:
    yield (
        f"Step {step.index} of {len(page.steps)}: {step.op}",
        Group(*underlined(page.report.expression, step.span)),
        False,
    )
    yield "Forward", Group(*_opened_forward(page, step)), False
    if step.cotangent is None:
        yield "Backward", Text("no gradient comes by: nothing arrives here, and nothing flows on"), True
        return
    yield "What arrives", Group(*_opened_arriving(page, step)), False
    for local in step.local_jacobians:
        twice = f" (position {local.position})" if step.operands.count(local.operand) > 1 else ""
        yield f"To {local.operand}{twice}", Group(*_opened_operand(page, step, local, full)), False


def _opened_forward(page: Page, step: TraceStep) -> Iterator[Text]:
    for position, operand in enumerate(step.operands):
        value = _value_of(page.report, operand)
        yield _block(f"{operand} (position {position}) = ", value)
    for part in step.parts or ():
        yield _block(f"gives {part.output} {tuple(part.shape)} = ", part.value)
    if not step.parts:
        yield _block(f"gives {step.output} {tuple(step.shape)} = ", step.value)


def _value_of(report: TraceReport, label: str) -> np.ndarray | None:
    if label in report.inputs:
        return report.inputs[label].value
    for step in report.steps:
        for part in step.parts or ():
            if part.output == label:
                return part.value
        if step.output == label:
            return step.value
    return None


def _opened_arriving(page: Page, step: TraceStep) -> Iterator[Text]:
    sources = contributions_to(page.steps, step.output)
    if len(sources) > 1:
        for source, part in sources:
            yield _block(f"from step {source.index} {tuple(part.shape)}: ", part.value)
    parts = [(f" for {part.output}", part.cotangent) for part in step.parts or ()]
    for name, v in parts or [("", step.cotangent)]:
        if v is not None:
            yield _block(f"v{name} {tuple(v.shape)} = ", v.value)


def _opened_operand(page: Page, step: TraceStep, local: LocalJacobian, full: bool) -> Iterator[RenderableType]:
    yield Text(f"the local Jacobian ∂{local.part or step.output}/∂{local.operand}: {kind_of(local)} not zero")
    yield Text(local.formula, style="bold green")
    yield Text(einsum_text(local.einsum, local.formula, local.part or step.output, local.operand), style="green")
    parts = {part.output: part.cotangent for part in step.parts or ()}
    passed = next((c for c in step.contributions if c.position == local.position), None)
    v = parts.get(local.part) if local.part is not None else step.cotangent
    if local.value is not None and v is not None and v.value is not None:
        jacobian = Jacobian(
            local.shape, v.dtype, local.nnz, local.structure, "operations", "dense", local.value, imaginary=local.imaginary
        )
        window = WHOLE if full else Window()
        real = passed is not None and "complex" not in passed.dtype
        names, axes = (local.part or step.output, local.operand), v.value.ndim
        yield matrix_table(*names, jacobian, v.value, window, page.width, real=real, axes=axes)
    yield Text("nothing flows on") if passed is None else _block("flows on: ", passed.value)


def _block(label: str, value: np.ndarray | None) -> Text:
    return labelled(label, array_text(value, width=PROSE_WIDTH), style="")


# Text


def _line(*parts: tuple[str, str]) -> Text:
    """A line that is not broken, however narrow the console."""
    line = Text.assemble(*parts)
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _padded(text: str, width: int) -> str:
    return text + " " * max(0, width - cell_len(text))
