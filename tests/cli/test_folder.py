"""The current folder: whoever made it says nothing about the pictures, and it may have been removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLOT = ["inspect", "torch.outer(x,x)", "--x", "1,2,3", "--plot", "a.svg"]
MODULE = [sys.executable, "-m", "jvpcli"]
SCRIPT = [str(Path(sys.executable).parent / "jvp")]
FROM_ELSEWHERE = [sys.executable, "-c", "import sys; from jvpcli.__main__ import main; main()"]


def run(start: list[str], argv: list[str], folder: Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*start, *argv], cwd=folder, input=stdin, capture_output=True, text=True, timeout=100, env={**os.environ, **environ}
    )


def picture(start: list[str], folder: Path, **environ: str) -> bytes:
    """What `--plot` draws in a folder."""
    done = run(start, PLOT, folder, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "a.svg").read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The picture in a folder with nothing in it."""
    return picture(MODULE, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "settings",
    [b"axes.titlecolor: red\nfont.family: cursive\naxes.linewidth: 20\n", b"bogus: 1\nfont.size: x\n", b"\xff\xfe", b"backend: module://evil\n"],
    ids=["other", "wrong", "no text", "a module"],
)  # fmt: skip
@pytest.mark.parametrize("start", [MODULE, FROM_ELSEWHERE], ids=["module", "code"])
def test_settings_of_the_current_folder_are_not_read(tmp_path, plain, start, settings):
    (tmp_path / "matplotlibrc").write_bytes(settings)
    (tmp_path / "evil.py").write_text("open('attacked', 'w')\n")
    assert picture(start, tmp_path) == plain
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("place", ["own", "./own", "{folder}/own", "settings"])
def test_the_user_s_own_settings_are(tmp_path, plain, place):
    """Also by a path from the current folder."""
    (tmp_path / "settings").mkdir()
    for name in ("own", "settings/matplotlibrc"):
        (tmp_path / name).write_text("axes.linewidth: 20\n")
    assert b"stroke-width: 20" in picture(MODULE, tmp_path, MATPLOTLIBRC=place.format(folder=tmp_path))
    assert b"stroke-width: 20" not in plain


def test_the_folder_and_the_environment_are_as_they_were(tmp_path):
    code = (
        "import os; from jvpcli.render.plot import _matplotlib; before = os.getcwd(), dict(os.environ);"
        "_matplotlib(); assert before == (os.getcwd(), dict(os.environ))"
    )
    done = run([sys.executable, "-c", code], [], tmp_path, MATPLOTLIBRC="own", MPLCONFIGDIR="settings")
    assert (done.returncode, done.stderr) == (0, "")


REMOVED = """
import os, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a current folder cannot be removed")
@pytest.mark.parametrize("start", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize(
    "argv",
    [
        ["inspect", "x*x", "--x", "1,2"], ["inspect", "x*x", "--x", "@a.npy"], ["trace", "x*x", "--x", "1", "--dot", "a.dot"],
        ["check", "x*x", "--x", "1"], ["inspect", "x*x", "--x", "1", "--save", "a.npy"], ["inspect", "f(x)", "--import", "a.py"],
        ["inspect", "x*x", "--x", "1", "--plot", "a.png"], ["batch"], ["batch", "a.jsonl"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_removed_folder_is_a_sentence(tmp_path, start, argv):
    done = run([sys.executable, "-c", REMOVED, str(tmp_path / "gone"), *start], argv, tmp_path, '{"expression": "1."}\n')
    assert (done.returncode, done.stdout) == (2, "")
    assert "the current folder has been removed" in done.stderr
    assert "MKL" not in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a current folder cannot be removed")
@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["ops", "softmax"], ["explain", "nobody"], ["schema"], ["inspect", "-h"]]
)
def test_what_computes_nothing_needs_no_folder(tmp_path, argv):
    done = run([sys.executable, "-c", REMOVED, str(tmp_path / "gone"), *MODULE], argv, tmp_path)
    assert done.returncode == (5 if argv[0] == "explain" else 0)
    assert "folder" not in done.stderr
