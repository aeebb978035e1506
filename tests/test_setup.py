"""Setting up: what is missing is said in a sentence, by `make` and by what it calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def make(target, tmp_path, programs=(), **variables):
    """`make` of a target with nothing but some programs on the PATH, and a fresh directory for the environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "make", "grep", "sed", "expand", "touch", "rm", "cat"):
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    for name, text in programs:
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    command = ["make", "-C", str(ROOT), target, f"VENV={tmp_path / 'venv'}"]
    command += [f"{key}={value}" for key, value in variables.items()]
    env = {"PATH": str(tools), "HOME": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def python_without(*modules):
    """A program that is this Python, but cannot import some modules."""
    blocked = ", ".join(f"{module}=None" for module in modules)
    code = f"import sys; sys.modules.update({blocked}); exec(sys.argv[2])"
    return f'case "$1" in -c) exec {sys.executable} -c "{code}" "$@";; *) exec {sys.executable} "$@";; esac'


OLD = 'case "$1" in --version) echo "Python 3.8.18";; *) exit 1;; esac'


@pytest.mark.parametrize("target", ["demo", "test", "check"])
def test_no_python(tmp_path, target):
    run = make(target, tmp_path)
    assert run.returncode == 2
    assert run.stderr.splitlines()[0] == (
        "jvp needs Python 3.10 or newer, and there is none on the PATH: install it, or name it with "
        "make PYTHON=/path/to/python3"
    )
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_not_taken(tmp_path):
    run = make("demo", tmp_path, [("python3", OLD), ("python", OLD)])
    assert "needs Python 3.10 or newer, and there is none on the PATH" in run.stderr


def test_the_python_that_is_named(tmp_path):
    run = make("demo", tmp_path, [("old", OLD)], PYTHON="old")
    assert "needs Python 3.10 or newer, and old is Python 3.8.18" in run.stderr
    shutil.rmtree(tmp_path / "bin")
    run = make("demo", tmp_path, PYTHON="nowhere/python")
    assert "there is no nowhere/python" in run.stderr


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (("ensurepip", "pip"), "python3 has no pip: install it"),
        (("venv",), "python3 cannot make virtual environments, its module venv is missing"),
    ],
)
def test_no_pip_and_no_venv(tmp_path, modules, sentence):
    run = make("test", tmp_path, [("python3", python_without(*modules))])
    assert run.returncode == 2
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_ci_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "\nmake test\n" in script.read_text()
