"""Pictures as files, by matplotlib: heat maps and spy plots of Jacobians, the norms of a trace by step."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from jvpcli.errors import UsageError, shortened
from jvpcli.render import check_installed, escaped, visible
from jvpcli.render.matrix import Matrix, jacobians, pattern
from jvpcli.render.numbers import index_text, kind_text
from jvpcli.report import InspectReport, Jacobian
from jvpcli.report.hessian import HessianReport
from jvpcli.report.trace import TraceReport
from jvpcli.writer import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")

SIDE, SPY_SIDE = 600, 250
"""Blocks along each side of the picture of a larger Jacobian, dense or sparse."""

SPARSE = 0.1
"""A Jacobian with a smaller part of nonzeros counts as sparse."""

MOST_NUMBERS = 400
"""Entries of a Jacobian whose numbers are written into their cells."""

MOST_PANELS = 16
LONGEST_TITLE = 90


def check_path(path: str | Path) -> str:
    """The format that a file name asks for, before anything is computed.

    Raises:
        UsageError: neither .png nor .svg, or matplotlib is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"--plot writes .png or .svg, not {str(path)!r}", hints=("--plot jacobian.png",))
    check_installed("--plot", "matplotlib", "plot", "--heatmap draws in the terminal without it.")
    return suffix[1:]


def write_plot(report: InspectReport | TraceReport | HessianReport, path: str | Path) -> None:
    """Writes the picture of a report to a .png or .svg file, whole or not at all.

    Raises:
        UsageError: neither .png nor .svg, or matplotlib is not installed.
        FileError: the file cannot be written.
    """
    kind = check_path(path)
    matplotlib = _matplotlib()
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "jvp", "svg.fonttype": "path", "font.size": 9.0}):
        figure = _norms(report) if isinstance(report, TraceReport) else _jacobians(report)
        figure.savefig(stream, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": "jvp"})
    picture = stream.getvalue()
    write_whole(path, escaped(picture.decode()).encode() if kind == "svg" else picture)


def _matplotlib() -> ModuleType:
    """Matplotlib with the user's settings, and none from the current folder.

    It reads a `matplotlibrc` of the current folder first of all; so it is loaded in another one.
    """
    loaded = sys.modules.get("matplotlib")
    if loaded is not None:
        return loaded
    own = {name: os.environ[name] for name in ("MATPLOTLIBRC", "MPLCONFIGDIR") if name in os.environ}
    with ExitStack() as back:
        back.callback(os.environ.update, own)
        with suppress(OSError):  # there may be no current folder any more
            os.environ.update({name: os.path.abspath(path) for name, path in own.items()})
        back.callback(os.fchdir if hasattr(os, "fchdir") else os.chdir, _here(back))
        os.chdir(os.sep)
        import matplotlib

        matplotlib.get_configdir()  # remembered from now on
    return matplotlib


def _here(back: ExitStack) -> Any:
    """The current folder, as what leads back to it even if it has been removed."""
    if not hasattr(os, "fchdir"):
        return os.getcwd()
    descriptor = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    back.callback(os.close, descriptor)
    return descriptor


def _jacobians(report: InspectReport | HessianReport) -> Figure:
    from matplotlib.figure import Figure

    pictures = list(jacobians(report))[:MOST_PANELS]
    columns = min(len(pictures), 2) or 1
    rows = max(1, math.ceil(len(pictures) / columns))
    figure = Figure(figsize=(6.2 * columns, 5.2 * rows + 0.5), layout="constrained")
    _title(figure, report.expression)
    for axes, picture in zip(figure.subplots(rows, columns, squeeze=False).flat, pictures, strict=False):
        _draw(figure, axes, *picture)
    for axes in figure.axes[len(pictures) : rows * columns]:
        axes.set_axis_off()
    return figure


def _title(figure: Figure, expression: str) -> None:
    """The expression above all; no part of it is taken for a formula."""
    text = visible(" ".join(expression.split()))
    figure.suptitle(shortened(text, LONGEST_TITLE), family="monospace", weight="bold", parse_math=False)


def _draw(figure: Figure, axes: Axes, y: str, x: str, jacobian: Jacobian, matrix: Matrix | None) -> None:
    name = f"∂{y}/∂{x}"
    if matrix is None or matrix.m * matrix.n == 0:
        axes.set_axis_off()
        reason = f"not written out: {jacobian.reason}" if matrix is None else "no entries"
        axes.text(0.5, 0.5, f"{name}\n{reason}", ha="center", va="center", wrap=True, parse_math=False)
        return
    axes.set_title("\n".join([f"{name}   {matrix.m} × {matrix.n}", _facts(jacobian, matrix)]), parse_math=False)
    image = _image(axes, matrix)
    _ticks(axes, y, x, matrix)
    if matrix.largest():
        figure.colorbar(image, ax=axes, shrink=0.8)


def _facts(jacobian: Jacobian, matrix: Matrix) -> str:
    parts = [kind_text(jacobian.structure, jacobian.scale), f"{matrix.nnz:,} of {matrix.m * matrix.n:,} entries not zero"]
    found = pattern(matrix)
    if found.nnz and matrix.m == matrix.n:
        parts.append(f"bandwidth {found.bandwidth:,}")
    if found.diagonal_blocks > 1:
        parts.append(f"{found.diagonal_blocks:,} diagonal blocks")
    side = _side(matrix)
    if max(matrix.m, matrix.n) > side:
        down, across = -(-matrix.m // side), -(-matrix.n // side)
        parts.append(f"a dot: the largest of up to {down} × {across}")
    half = (len(parts) + 1) // 2
    return ", ".join(parts) if len(parts) < 3 else ", ".join(parts[:half]) + "\n" + ", ".join(parts[half:])


def _side(matrix: Matrix) -> int:
    """Blocks along a side: coarser where few entries are not zero, so that each of them is seen."""
    return SPY_SIDE if matrix.nnz <= SPARSE * matrix.m * matrix.n else SIDE


def _image(axes: Axes, matrix: Matrix) -> Any:
    """A cell an entry, or the largest of a block; small ones with their numbers; zeros are left blank."""
    side = _side(matrix)
    picture = matrix.blocks(side, side)
    bound = matrix.largest() or 1.0
    extent = (-0.5, matrix.n - 0.5, matrix.m - 0.5, -0.5)
    square = 0.5 <= matrix.m / matrix.n <= 2
    look: dict[str, Any] = {"extent": extent, "aspect": "equal" if square else "auto", "interpolation": "nearest"}
    axes.set_facecolor("#f3f3ef")
    axes.imshow(np.ma.masked_where(~np.isnan(picture), np.ones_like(picture)), cmap=_one_colour("#e0a800"), **look)
    shown = np.ma.masked_where((picture == 0) | np.isnan(picture), np.clip(picture, -bound, bound))
    image = axes.imshow(shown, cmap=_colours(), vmin=-bound, vmax=bound, **look)
    if matrix.m * matrix.n <= MOST_NUMBERS and matrix.n <= 20 and matrix.m <= 32:
        for k, i, value in zip(matrix.rows, matrix.cols, matrix.values, strict=True):
            strong = not abs(value) < 0.6 * bound
            axes.text(i, k, f"{value:.3g}", ha="center", va="center", fontsize=7, color="white" if strong else "black")
    return image


def _colours() -> Any:
    """Purple for negative, green for positive, as in the page; no nonzero is as pale as a zero."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("jvp", ["#8a2f8a", "#dcb9dc", "#b4dccd", "#0f7a5c"])


def _one_colour(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _ticks(axes: Axes, y: str, x: str, matrix: Matrix) -> None:
    """The entries' own names along the axes, as many as fit."""
    for axis, name, shape, count in (
        (axes.xaxis, x, matrix.in_shape, matrix.n),
        (axes.yaxis, y, matrix.out_shape, matrix.m),
    ):
        places = _spread(count, 16 if axis is axes.yaxis else 8)
        labels = [name + index_text(place, shape) for place in places]
        axis.set_ticks(places, labels, family="monospace", fontsize=7, parse_math=False)
    if len(axes.get_xticks()) > 4:
        axes.tick_params(axis="x", rotation=40)


def _spread(count: int, most: int) -> Sequence[int]:
    if count <= most:
        return range(count)
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _norms(report: TraceReport) -> Figure:
    """The norm of the cotangent at each step, last step first as gradients go; a step without one is left out."""
    from matplotlib.figure import Figure

    steps = [step for step in reversed(report.steps) if step.norm is not None]
    figure = Figure(figsize=(7.5, max(2.2, 0.32 * len(steps) + 1.4)), layout="constrained")
    _title(figure, report.expression)
    axes = figure.subplots()
    good = [step.norm for step in steps if step.norm and math.isfinite(step.norm)]
    top = max(good, default=1.0) * 3
    floor = min(min(good, default=1.0) / 3, top / 30)
    for place, step in enumerate(steps):
        norm = step.norm or 0.0
        fine = norm > 0 and math.isfinite(norm)
        axes.barh(place, norm if fine else top, left=0, color="#1f9474" if fine else "#e0a800", height=0.7)
        axes.annotate(f" {norm:.4g}", (norm if fine else floor, place), va="center", fontsize=8)
    labels = [f"{step.index}  {step.op}" for step in steps]
    axes.set_yticks(range(len(steps)), labels, family="monospace", fontsize=8, parse_math=False)
    axes.set(xscale="log", xlim=(floor, top), xlabel="‖v‖, the norm of the cotangent that arrives")
    axes.invert_yaxis()
    return figure
