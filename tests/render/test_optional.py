"""Libraries that are not always there: a sentence says how to install them, and nothing loads them unasked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jvpcli
from jvpcli import render as optional
from jvpcli.cli.output import Display
from jvpcli.errors import FileError, UsageError


@pytest.fixture
def bare(monkeypatch):
    """A machine without optional libraries."""
    monkeypatch.setattr(optional, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("pictures", "library", "command"),
    [
        (Display("a.html"), "jinja2", "pip install 'jvpcli[html]'"),
        (Display(plot="a.png"), "matplotlib", "pip install 'jvpcli[plot]'"),
    ],
    ids=["html", "plot"],
)
def test_what_is_missing_is_said_with_how_to_install_it(bare, tmp_path, monkeypatch, pictures, library, command):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"needs {library}, which is not installed") as caught:
        pictures.check()
    assert caught.value.hints == (command,)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_the_text_where_there_is_no_page(bare):
    assert jvpcli.inspect("x * x", x=[1, 2])._repr_html_() is None


def test_nothing_is_loaded_unasked():
    code = (
        "import sys, jvpcli; str(jvpcli.inspect('x*x', x=[1., 2.])); str(jvpcli.trace('x*x', x=[1., 2.]));"
        "print([m for m in ('jinja2', 'markupsafe', 'matplotlib') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("pictures", "error", "message"),
    [
        (Display(plot="a.gif"), UsageError, r"\.png or \.svg"),
        (Display(plot="a"), UsageError, r"\.png or \.svg"),
        (Display("-"), UsageError, "no name of one"),
        (Display("nowhere/a.html"), FileError, "there is no directory"),
        (Display(plot="folder.png"), FileError, "it is a directory"),
    ],
    ids=["gif", "no suffix", "stdout", "no directory", "a directory"],
)
def test_places_that_cannot_be_written_are_refused_before_anything_is_computed(
    tmp_path, monkeypatch, pictures, error, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error, match=message):
        pictures.check()


def test_pictures_and_json_go_together_except_on_stdout():
    with pytest.raises(UsageError, match="--heatmap draws on stdout"):
        Display(heatmap=True, as_json=True).check()
