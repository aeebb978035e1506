"""The documentation is true: console blocks print what they show, and the reference is the program's own help."""

from __future__ import annotations

import doctest
import os
import re
import sys
from pathlib import Path

import pytest

import jvpcli
from serving import served

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import console_blocks  # noqa: E402
import write_reference  # noqa: E402

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(file, number, id=f"{file.name}:{number}")
    for file in FILES
    for number, steps in enumerate(console_blocks.blocks(file.read_text(encoding="utf-8")))
    if any(step.runs for step in steps)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A directory for each file, which its blocks share."""
    return {file: tmp_path_factory.mktemp(file.stem) for file in FILES}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A `jvp serve`, which answers the commands of the blocks: the same bytes, and torch is loaded once."""
    with served(tmp_path_factory.mktemp("runtime")) as one:
        yield one


@pytest.mark.parametrize(("file", "number"), BLOCKS)
def test_a_block_prints_what_it_shows(folders, running, file, number):
    steps = console_blocks.blocks(file.read_text(encoding="utf-8"))[number]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for step, printed in zip(steps, console_blocks.run(steps, folders[file], path, running.environ), strict=True):
        assert "Traceback" not in "\n".join(printed)
        if step.shown or file.name != "README.md":  # the README leaves out what the picture shows
            assert console_blocks.same(step.shown, printed), f"$ {step.command}\n" + "\n".join(printed)


PYTHON = re.compile(r"^```(pycon|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", [f for f in FILES if "```pycon" in f.read_text(encoding="utf-8")], ids=lambda file: file.name)
def test_a_session_prints_what_it_shows(file):
    """The blocks of a file are one session."""
    session = "\n".join(match[2] for match in PYTHON.finditer(file.read_text(encoding="utf-8")) if match[1] == "pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, file.name, str(file), 0)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert tried
    assert not failed, "".join(said)


def test_the_python_of_the_readme_runs_and_names_every_function():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [match[2] for match in PYTHON.finditer(text) if match[1] == "python"]
    exec(block, {"print": lambda *_: None})
    functions = [name for name in jvpcli.__all__ if name[0].islower()]
    section = text.partition("## From Python")[2]
    assert not [name for name in functions if f"`jvpcli.{name}`" not in section]


def test_the_reference_is_the_help():
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == write_reference.reference(), (
        "run `make docs`"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (file.parent / target).exists(), target


def test_what_a_block_shows_is_really_compared():
    steps = console_blocks.blocks("```console\n$ echo '[1.0]' \\\n  | cat\n[1]\n$ echo a; exit 3\nb\n```\n")[0]
    assert [step.command for step in steps] == ["echo '[1.0]' \\\n  | cat", "echo a; exit 3"]
    assert console_blocks.same(["[1]"], ["[1.0]"])
    assert console_blocks.same(["a"], ["a "])
    assert not console_blocks.same(["b"], ["a"])
    assert not console_blocks.same([], ["a"])
    assert not console_blocks.same(["[1]"], ["[2]"])
