"""Pictures as files and in the terminal: read back as pixels and characters, against the Jacobian's own numbers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured import banded, report_of, scattered
from rich.console import Console
from rich.text import Text

from jvpcli.answers.inspect import inspect
from jvpcli.answers.trace import trace
from jvpcli.render.heatmap import heatmap
from jvpcli.render.plot import write_plot
from jvpcli.request import Request

OUTER = Request("torch.outer(x,x)", {"x": "1,2,3,4"})
ODD = {
    "0-d": Request("(x**2).sum()", {"x": "3"}),
    "size 0": Request("x * 2", {"x": "torch.zeros(0, 3)"}),
    "complex": Request("x * (1+2j)", {"x": "1+1j,2"}, dtype="complex64"),
    "not finite": Request("torch.sqrt(x) / x", {"x": "0,1,-1"}),
    "several": Request("a = x * w; b = x.sum(); (a, b)", {"x": "1,2", "w": "3,4"}),
    "zero": Request("x * 0", {"x": "1,2"}),
    "a formula": Request("y = x['$\\\\frac$' != ''] * 1; y", {"x": "1,2"}),
    "γλώσσα": Request("λ * λ", {"λ": "1,2"}),
}


def drawn(report, *, width=80, height=24, colour="truecolor", encoding="utf-8") -> str:
    """What the terminal gets."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="")
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, color_system=colour, no_color=colour is None
    )
    heatmap(report, console)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("request_", ODD.values(), ids=ODD)
def test_every_report_has_a_picture(tmp_path, suffix, request_):
    for number, report in enumerate((inspect(request_), trace(request_))):
        path = tmp_path / f"{number}{suffix}"
        write_plot(report, path)
        if suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
        assert len(list(tmp_path.iterdir())) == number + 1  # nothing is left beside it


def test_a_plot_has_the_signs_of_the_jacobian(tmp_path):
    from matplotlib.image import imread

    write_plot(report_of(np.diag([2.0, -2.0, 2.0])), tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")[..., :3]
    green = (np.abs(pixels - np.array([0x0F, 0x7A, 0x5C]) / 255) < 0.02).all(-1)
    purple = (np.abs(pixels - np.array([0x8A, 0x2F, 0x8A]) / 255) < 0.02).all(-1)
    cells = [np.argwhere(mask[:, : mask.shape[1] * 86 // 100]) for mask in (green, purple)]
    upper, lower = cells[0].min(0), cells[0].max(0)
    middle = cells[1].mean(0)
    assert (upper < middle).all()
    assert (middle < lower).all()
    assert len(cells[0]) == pytest.approx(2 * len(cells[1]), rel=0.05)


def test_a_picture_is_the_same_each_time(tmp_path):
    for name in ("a.svg", "b.svg"):
        write_plot(inspect(OUTER), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 60)], ids=str)
@pytest.mark.parametrize(
    "look", [("truecolor", "utf-8"), ("standard", "utf-8"), (None, "utf-8"), (None, "ascii")], ids=str
)
@pytest.mark.parametrize(
    "report",
    [banded(3000), scattered(3000, 2000), report_of(np.ones((700, 900)))],
    ids=["banded", "scattered", "dense"],
)
def test_a_large_heat_map_fits_the_terminal(report, look, size):
    text = drawn(report, width=size[0], height=size[1], colour=look[0], encoding=look[1])
    lines = Text.from_ansi(text).plain.splitlines()
    rows = lines[lines.index(next(line for line in lines if " y[0]" in line)) :]
    rows = rows[: next(number for number, line in enumerate(rows) if "x[0]" in line)]
    assert 3 < len(rows) <= size[1]
    assert size[0] // 4 < max(map(len, rows)) <= size[0]
    assert ("\x1b[3" in text) == (look[0] is not None)
    assert any("up to" in line and "entries" in line for line in lines)


def test_shades_stand_for_the_numbers():
    text = drawn(report_of(np.array([[0.0, 1.0], [-4.0, 2.0]])), colour=None)
    rows = [line.split()[1] for line in text.splitlines() if line.strip().startswith(("y[0]", "y[1]"))]
    assert [[row[0], row[-1]] for row in rows] == [["·", "░"], ["█", "▒"]]
    assert "|value| up to 4" in text


def test_sixteen_colours_tell_the_sign():
    text = drawn(report_of(np.array([[3.0, -3.0]])), colour="standard")
    assert "\x1b[32m" + "█" in text
    assert "\x1b[35m" + "█" in text
    assert "negative ones in magenta" in text


def test_in_full_colour_the_scale_has_both_ends():
    text = drawn(report_of(np.array([[2.0, -3.0]])))
    assert "-3" in text
    assert "3" in text.rpartition("█")[2]
    assert "38;2;" in text


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_braille_has_a_dot_exactly_where_something_is_not_zero(m, n, seed):
    from jvpcli.render import heatmap as drawing
    from jvpcli.render.matrix import jacobians

    values = np.random.default_rng(seed).choice([0.0, 1.0], size=(m, n), p=[0.9, 0.1])
    [(_, _, _, matrix)] = jacobians(report_of(values))
    rows, _ = drawing._dots(matrix, 40, 80, drawing._no_colour)
    seen = np.zeros((4 * len(rows), 2 * len(rows[0].plain)))
    for r, row in enumerate(rows):
        for c, character in enumerate(row.plain):
            for dy in range(4):
                for dx in range(2):
                    seen[4 * r + dy, 2 * c + dx] = bool((ord(character) - 0x2800) & drawing.BRAILLE[dy][dx])
    height, width = max(4, m), max(2, n)  # a picture is a character at least
    assert (seen[:m, :n] == (values != 0)).all() if (height, width) == (m, n) else seen.sum() >= (values != 0).any()


@pytest.mark.parametrize("request_", ODD.values(), ids=ODD)
def test_everything_can_be_drawn(request_):
    for report in (inspect(request_), trace(request_)):
        assert drawn(report).strip()
        assert drawn(report, colour=None).strip()


def test_the_command_writes_pages_and_pictures_and_pure_json(tmp_path):
    options = ["--json", "--html", "page.html", "--plot", "plot.svg"]
    for command in ("inspect", "trace"):
        ran = subprocess.run(
            [sys.executable, "-m", "jvpcli", command, "torch.sin(x) * x", "--x", "1,2", *options],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        assert json.loads(ran.stdout)["ok"]
        assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        assert "</svg>" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "plot.svg"]
