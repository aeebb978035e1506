"""What the functions of the Python API give: tensors by name, and the report as text, dict or page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jvpcli.answers import report_of
from jvpcli.answers.jacobian import with_zeros
from jvpcli.jacobians.linear_map import LinearMap, handed_out
from jvpcli.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from jvpcli.report import InspectReport, Shape
    from jvpcli.report.check import CheckedEntry, CheckReport
    from jvpcli.report.derive import Case, DeriveReport, Product
    from jvpcli.report.hessian import Eigenvalues, HessianReport
    from jvpcli.report.lookup import Explanation
    from jvpcli.report.trace import Finding, TraceReport, TraceStep


class _WrittenOut(Mapping[tuple[str, str], Tensor]):
    """Jacobians as tensors, each written out when it is asked for."""

    def __init__(self, maps: Mapping[tuple[str, str], LinearMap]) -> None:
        self._maps = maps

    def __getitem__(self, key: tuple[str, str]) -> Tensor:
        return self._maps[key].to_dense()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


def _apart(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Each to be written into by itself: torch may give several inputs one gradient, or a tensor that a backward keeps."""
    return {name: handed_out(x) for name, x in tensors.items()}


class _Result(ABC):
    """What every answer can be shown as; `report` is everything as plain data."""

    report: Any

    @abstractmethod
    def _render(self, console: Console) -> None:
        """Print it as the command does."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        from jvpcli.render.json import to_dict

        return to_dict(self.report)

    def __str__(self) -> str:
        from jvpcli.render.terminal import plain_text

        return plain_text(self._render, 120)

    def _name(self) -> str:
        """What it is the answer to."""
        return f"of {self.report.expression!r}"

    def __repr__(self) -> str:
        return f"<jvpcli.{type(self).__name__} {self._name()}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The text, where IPython shows a result as such."""
        printer.text(repr(self) if cycle else str(self))


class InspectResult(_Result):
    """The answer of :func:`inspect`: tensors by name, and the report as text, dict or HTML.

    Attributes:
        outputs: output name to tensor.
        vjp: input name to ∂L/∂input, of the input's shape.
        jacobian: (output name, input name) to the Jacobian, of shape output + input.
        jvp: output name to J u; empty without a tangent.
        blocks: (output name, input name) to the norms of the Jacobian's blocks, with an axis for each axis that is cut, the
            output's first; empty unless asked for.
        report: all of this as plain data.
    """

    def __init__(self, request: Request) -> None:
        from jvpcli.answers.inspect import investigate

        inspection = report_of(request, investigate)
        self.report: InspectReport = inspection.report
        live, products = inspection.live, inspection.products
        outputs = {name: y.detach().clone() for name, y in inspection.evaluation.outputs.items()}  # it may be an input itself
        self.outputs: Mapping[str, Tensor] = {**outputs, **(live.outputs if live else {})}
        self.vjp: Mapping[str, Tensor] = live.vjp if live else products.vjp
        self.jvp: Mapping[str, Tensor] = live.jvp if live else products.jvp or {}
        maps = live.maps if live else inspection.derivatives.maps
        blocks = (self.report.blocks or {}).items()
        self.blocks: Mapping[tuple[str, str], Tensor] = {
            (y, x): torch.tensor(each.norms) for y, by_input in blocks for x, each in by_input.items()
        }
        self.jacobian: Mapping[tuple[str, str], Tensor] = _WrittenOut(maps and with_zeros(inspection.evaluation, maps))

    def _render(self, console: Console) -> None:
        from jvpcli.render.inspect import render_inspect

        render_inspect(self.report, console)

    def _repr_html_(self) -> str | None:
        return None if self.report.is_grads_batched else _fragment(self.report)  # a page shows one v at a time


class TraceResult(_Result):
    """The answer of :func:`trace`: the steps and findings as data, the gradients as tensors, text and dict.

    Attributes:
        vjp: input name to ∂L/∂input, of the input's shape.
        steps: each operation, in evaluation order (`report.TraceStep`).
        findings: where the gradients go wrong (`report.Finding`); empty when all is well.
        report: everything as plain data.
    """

    def __init__(self, request: Request, step: int | str | None = None, depth: int | None = None) -> None:
        from jvpcli.answers.trace import follow
        from jvpcli.render.trace import render_trace

        tracing = report_of(request, partial(follow, step=step))
        self._shown = partial(render_trace, step=step, depth=depth)
        self.report: TraceReport = tracing.report
        self.vjp: Mapping[str, Tensor] = _apart(tracing.vjp)
        self.steps: Sequence[TraceStep] = tracing.report.steps
        self.findings: Sequence[Finding] = tracing.report.findings

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        from jvpcli.render.dot import to_dot

        return to_dot(self.report)

    def _render(self, console: Console) -> None:
        self._shown(self.report, console)

    def _repr_html_(self) -> str | None:
        return _fragment(self.report)


class CheckResult(_Result):
    """The answer of :func:`check`; true if the gradient is right.

    Attributes:
        passed: whether it is.
        verdict: `pass`, `kink`, `precision`, `graph_break`, `nondeterministic` or `wrong_backward`.
        max_error: |analytic − numeric| of the worst entry.
        worst: that entry (`report.CheckedEntry`), or None.
        report: everything as plain data.
    """

    def __init__(self, request: Request) -> None:
        self.report: CheckReport = report_of(request)
        report = self.report
        self.passed: bool = report.passed
        self.verdict: str = report.verdict
        self.max_error: float = report.max_error
        self.worst: CheckedEntry | None = report.worst

    def __bool__(self) -> bool:
        return self.passed

    def _render(self, console: Console) -> None:
        from jvpcli.render.check import render_check

        render_check(self.report, console)

    def _name(self) -> str:
        return f"{super()._name()}: {self.verdict}"


class HessianResult(_Result):
    """The answer of :func:`hessian`: second derivatives as tensors and linear maps, and the report as text, dict or HTML.

    Attributes:
        hessian: (input name, input name) to ∂²L/∂x∂w, of x's shape followed by w's.
        maps: the same as linear maps, which hold only what is not zero.
        gradient: input name to ∂L/∂input, of the input's shape.
        hvp: input name to the product with the direction, H u, of the input's shape; empty without a tangent.
        symmetric: whether the order of differentiation makes no difference; if not, a backward is wrong; None
            where entries are not finite and could not be compared.
        definite: `positive`, `positive_semi`, `negative`, `negative_semi`, `indefinite`, `zero` or `unknown`, at this point.
        eigenvalues: the extreme ones, `.least` and `.greatest`, and whether they are `.exact`.
        report: all of this as plain data.
    """

    def __init__(self, request: Request) -> None:
        from jvpcli.answers.hessian import investigate

        found = report_of(request, investigate)
        self.report: HessianReport = found.report
        self.maps: Mapping[tuple[str, str], LinearMap] = found.maps
        self.hessian: Mapping[tuple[str, str], Tensor] = _WrittenOut(found.maps)
        self.gradient: Mapping[str, Tensor] = _apart(found.gradient)
        self.hvp: Mapping[str, Tensor] = _apart(found.hvp)
        self.symmetric: bool | None = found.report.symmetric
        self.definite: str = found.report.definite
        self.eigenvalues: Eigenvalues = found.report.eigenvalues

    def _render(self, console: Console) -> None:
        from jvpcli.render.hessian import render_hessian

        render_hessian(self.report, console)

    def _repr_html_(self) -> str | None:
        return _fragment(self.report)


class ExplainResult(_Result):
    """The answer of :func:`explain`.

    Attributes:
        title: what has happened, in one sentence.
        meaning: what that means, in plain words.
        causes, cures: what it usually comes from and what helps, the likeliest first.
        matched: the message, as it was recognised in the text.
        shapes: the shapes that it tells.
        report: all of this as plain data.
    """

    def __init__(self, text: str) -> None:
        from jvpcli.messages.matcher import explain_message

        self.report: Explanation = explain_message(text)
        self.title: str = self.report.title
        self.meaning: str = self.report.meaning
        self.causes: Sequence[str] = self.report.causes
        self.cures: Sequence[str] = self.report.cures
        self.matched: str = self.report.matched
        self.shapes: Sequence[Shape] = self.report.shapes

    def _render(self, console: Console) -> None:
        from jvpcli.render.lookup import render_explanation

        render_explanation(self.report, console)

    def _name(self) -> str:
        return f"of {self.matched!r}"


class DeriveResult(_Result):
    """The answer of :func:`derive`: formulas as text, as LaTeX and as PyTorch code.

    Attributes:
        formula: (output name, input name) to the Jacobian in indices; None where it has no closed form.
        cases: (output name, input name) to the Jacobian by cases: each has `.when` and `.value`.
        vjp: input name to the vector-Jacobian product: `.formula`, `.matrix`, `.torch`, `.latex`, and `.given` for the given v.
        jvp: output name to the Jacobian-vector product, as `vjp`; empty without a tangent.
        hessian: (input name, input name) to ∂²L/∂x∂w, as `vjp`; empty unless asked for.
        torch: input name to the PyTorch code of the vector-Jacobian product.
        latex: all equations, a line each.
        code: a torch.autograd.Function as text; None where an input has no code.
        report: all of this as plain data.
    """

    def __init__(self, request: Request) -> None:
        from jvpcli.render.derive import latex_lines

        report: DeriveReport = report_of(request)
        pairs = {(y, x): form for y, others in report.jacobian.items() for x, form in others.items()}
        self.report = report
        self.formula: Mapping[tuple[str, str], str | None] = {pair: form.formula for pair, form in pairs.items()}
        self.cases: Mapping[tuple[str, str], tuple[Case, ...]] = {pair: form.cases for pair, form in pairs.items()}
        self.vjp: Mapping[str, Product] = report.vjp
        self.jvp: Mapping[str, Product] = report.jvp or {}
        second = (report.hessian or {}).items()
        self.hessian: Mapping[tuple[str, str], Product] = {(x, w): p for x, others in second for w, p in others.items()}
        self.torch: Mapping[str, str | None] = {x: product.torch for x, product in report.vjp.items()}
        self.latex: str = "\n".join(latex_lines(report))
        self.code: str | None = report.code

    def _render(self, console: Console) -> None:
        from jvpcli.render.derive import render_derive

        render_derive(self.report, console)

    def _repr_latex_(self) -> str:
        lines = " \\\\\n".join(line.replace(" = ", " &= ", 1) for line in self.latex.split("\n"))
        return f"$$\\begin{{aligned}}\n{lines}\n\\end{{aligned}}$$"


def _fragment(report: InspectReport | TraceReport | HessianReport) -> str | None:
    """A part of a page for a notebook, which shows the text where there is none: without jinja2."""
    from jvpcli.render import installed

    if not installed("jinja2"):
        return None
    from jvpcli.render.html import fragment

    return fragment(report)


RESULTS: Mapping[str, Callable[..., _Result]] = {
    "inspect": InspectResult,
    "trace": TraceResult,
    "check": CheckResult,
    "hessian": HessianResult,
    "derive": DeriveResult,
}
"""What a request for each command is answered by; a trace takes `step` and `depth` too."""
